"""The language model of notebook 07, which knows Python, learns another text: what is learnt, and what forgotten?

Texts: English (docstrings of packages that the model has not read), tables, and a small language whose information is
known. What learns: the head; LoRA beside each matrix of the
layers, alpha = 8; all weights; all weights with replay, half of the rows Python; all weights of a network of the same
shape from a new start.

Equal: the start, steps, 512 bytes a step, Adam at a constant rate, the grid of rates, the loss that trained the model
(all exits, Schuster et al. 2022, eq. 6). Not equal, so counted: numbers that learn, FLOPs of a step.

The criterion, written before the training: for each text and method the rate with the fewest bits a byte on 8 thousand
held-out bytes of the training text, after the last step of seed 0; all seeds take it. Then the last exit on 16
thousand bytes of the test text, and on as many of Python files that no one has trained on.
"""

from functools import cache

import torch

from lecture_lib import pretrained
from lecture_lib.cost import count_flops
from lecture_lib.pretrained.adapting import CONTEXT, TEXTS, bits, learn, loss, parts, prepare, windows
from lecture_lib.pretrained.decoder import Decoder

STEPS, WINDOWS = 120, 4
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
METHODS = ("head", "rank 1", "rank 4", "rank 16", "all weights", "all weights, replay", "own network")
GRID = {"seed": (0, 1, 2), "text": TEXTS, "method": METHODS}


def start(method: str, seed: int) -> Decoder:
    if method == "own network":
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return Decoder(**pretrained.record("language_model")["model"])
    return prepare(pretrained.load("language_model"), method.removesuffix(", replay"), seed)


def trained(text: str, method: str, rate: float, seed: int, steps: int) -> Decoder:
    batches = windows(text, WINDOWS, seed)
    if method.endswith("replay"):
        half = WINDOWS // 2
        pairs = zip(windows(text, half, seed), windows("python", half, seed), strict=True)
        batches = map(torch.cat, pairs)
    return learn(start(method, seed), batches, rate, steps)


@cache
def before(text: str, n: int) -> float:
    return bits(pretrained.load("language_model"), parts(text, n)[2])


@cache
def costs(method: str) -> dict:
    model = start(method, 0)
    batch = torch.zeros(WINDOWS, CONTEXT + 1, dtype=torch.int64)
    return {
        "numbers": sum(w.numel() for w in model.parameters() if w.requires_grad),
        "FLOPs of a step": count_flops(lambda: loss(model, batch).backward()),
    }


@cache
def search(text: str, method: str, rates: tuple, steps: int, n: int) -> tuple[list[float], float, Decoder]:
    """Bits a byte held out at each rate, the best rate, and its model of seed 0."""
    models = [trained(text, method, rate, 0, steps) for rate in rates]
    found = [bits(model, parts(text, n)[1]) for model in models]
    best = found.index(min(found))
    return found, rates[best], models[best]


def run(
    seed: int,
    text: str,
    method: str,
    rates: list = RATES,
    steps: int = STEPS,
    pieces: int = 8,
    known: str = "python",
) -> dict:
    """Bits a byte: held out at each rate (of seed 0), then at the best of them on the test text and on Python.

    `pieces` are held out. `known`: what the model has learnt before; `small` takes another text, as each version of
    Python has other sources.
    """
    found, rate, model = search(text, method, tuple(rates), steps, pieces)
    if seed:
        model = trained(text, method, rate, seed, steps)
    return costs(method) | {
        "held out": found,
        "rate": rate,
        "before": before(text, pieces),
        "test": bits(model, parts(text, pieces)[2]),
        "Python, before": before(known, pieces),
        "Python": bits(model, parts(known, pieces)[2]),
    }


def small() -> dict:
    its = {"seed": 0, "text": "language", "method": "rank 4"}
    return its | {"rates": [1e-3], "steps": 2, "pieces": 1, "known": "tables"}
