"""Three adapters that ship, and Python, which the language model knew before: who chooses, and may they be mixed?

None; the right one, told; all three merged, with weights 1/3 or 1; the one that has the fewest bits on the first 64
bytes of a piece of 1,024, or none if the base has; a router for each matrix and byte, softmax over the three and none,
the only thing that learns, in 120 steps with one window of each text. Against them one new adapter of rank 12, with as
many numbers as the three, that learns all four texts in 480 steps: as many as theirs and the routers' together.

The criterion, written before the training: the rate with the fewest bits a byte, mean of the four texts, on held-out
pieces of the training texts, after the last step of seed 0; all seeds take it. Only what learns depends on the seed.
"""

import math
from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor, nn

from lecture_lib import pretrained
from lecture_lib.adapters import LoRA, MixtureOfAdapters, concatenate
from lecture_lib.choice import softmax
from lecture_lib.pretrained.adapting import PIECE, TEXTS, bits, learn, parts, prepare, windows
from lecture_lib.pretrained.decoder import Decoder, token_losses

STEPS, RATES, LOOK = 120, (1e-3, 3e-3, 1e-2, 3e-2), 64
FIXED = {"none": (0, 0, 0), "english": (1, 0, 0), "tables": (0, 1, 0), "language": (0, 0, 1)}
FIXED |= {"mean": (1 / 3, 1 / 3, 1 / 3), "sum": (1, 1, 1)}
ALL = ("python", *TEXTS)
GRID = {"seed": (0, 1, 2), "way": (*FIXED, "first 64 bytes", "routers", "one adapter of all")}


class Mixed(nn.Module):
    """A mixture in a place where a layer is expected."""

    def __init__(self, mixture: MixtureOfAdapters):
        super().__init__()
        self.mixture = mixture

    def forward(self, x: Tensor) -> Tensor:
        return self.mixture(x)[0]


def joined(join) -> Decoder:
    """The model, in which join(the LoRAs of a matrix, one a text) stands where they stood."""
    adapters = list(pretrained.load("adapters").values())
    for path in [path for path, module in adapters[0].named_modules() if isinstance(module, LoRA)]:
        parent, _, name = path.rpartition(".")
        setattr(adapters[0].get_submodule(parent), name, join([adapter.get_submodule(path) for adapter in adapters]))
    return adapters[0]


def routed(loras: list[LoRA]) -> Mixed:
    """A router over the adapters, frozen, and none (B = 0)."""
    none = LoRA(loras[0].base, 1)
    for lora in (*loras, none):
        lora.requires_grad_(False)
    return Mixed(MixtureOfAdapters(loras[0].base, [*loras, none], softmax))


@cache
def fixed(way: str) -> Decoder:
    return joined(lambda loras: concatenate(loras, FIXED[way]))


def of_all(seed: int) -> Iterator[Tensor]:
    for rows in zip(*(windows(text, 1, seed) for text in ALL), strict=True):
        yield torch.cat(rows)


@cache
def trained(way: str, rate: float, seed: int, steps: int) -> Decoder:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = joined(routed) if way == "routers" else prepare(pretrained.load("language_model"), "rank 12", seed)
    if way == "routers":
        model.requires_grad_(False)
        for module in model.modules():
            if isinstance(module, MixtureOfAdapters):
                module.router.requires_grad_(True)
    return learn(model, of_all(seed), rate, steps if way == "routers" else 4 * steps)


def first_bytes(text: Tensor) -> tuple[float, list[float]]:
    """Bits a byte of a text of pieces, each with the option that is best on its first bytes; shares of each option."""
    models, pieces = [fixed(way) for way in list(FIXED)[:4]], text.view(-1, PIECE)
    chosen = torch.tensor([[bits(model, piece[:LOOK]) for model in models] for piece in pieces]).argmin(1)
    each = torch.stack([token_losses(model, text)[-1] for model in models]).double() / math.log(2)  # (4, T - 1)
    of_byte = chosen.repeat_interleave(PIECE)[1:]
    return each.gather(0, of_byte[None]).mean().item(), [(chosen == k).double().mean().item() for k in range(4)]


@cache
def measured(way: str, seed: int, rates: tuple, steps: int, texts: tuple, pieces: int) -> dict:
    tests = {text: parts(text, pieces)[2] for text in texts}
    if way in FIXED:
        return {"test": {text: bits(fixed(way), test) for text, test in tests.items()}}
    if way == "first 64 bytes":
        found = {text: first_bytes(test) for text, test in tests.items()}
        return {"test": {text: b for text, (b, _) in found.items()}, "chosen": {t: s for t, (_, s) in found.items()}}
    held_out = []
    for rate in rates:
        model = trained(way, rate, 0, steps)
        held_out.append(sum(bits(model, parts(text, pieces)[1]) for text in texts) / len(texts))
    rate = rates[held_out.index(min(held_out))]
    model = trained(way, rate, seed, steps)
    numbers = sum(w.numel() for w in model.parameters() if w.requires_grad)
    its = {"test": {text: bits(model, test) for text, test in tests.items()}}
    return its | {"held out": held_out, "rate": rate, "numbers": numbers}


def run(seed: int, way: str, rates: list = RATES, steps: int = STEPS, texts: list = ALL, pieces: int = 4) -> dict:
    """Bits a byte on the test text of each; `small` leaves out Python, whose sources change with its version."""
    learns = way in ("routers", "one adapter of all")
    return measured(way, seed if learns else 0, tuple(rates), steps, tuple(texts), pieces)


def small() -> dict:
    return {"seed": 0, "way": "routers", "rates": [1e-2], "steps": 1, "texts": ["language"], "pieces": 1}
