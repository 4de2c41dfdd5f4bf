"""A network that reads digits learns another task, notebook 10: what is trained, and what is left of the digits.

The question: does a frozen network help with *turned*, *mirrored*, *inverted*, *parity*, and how little may learn? A
new head on its last hidden state; LoRA beside each layer, ranks 1 to 32, alpha of 1, 8 and r; all its weights. Without
it: a network of its own, a new head on a frozen random trunk, a linear layer on the pixels.

Equal: the start (a reader of its seed), steps, batches of 32, the rates. Not equal, so counted: numbers that learn,
FLOPs of a step. Rates are constant, so the 600 steps hold the 200. With 1,000 and with 100 images of the new task, of
the thousand that the reader learnt from, too: no new writer, no new digit.

The criterion: for each method, task, steps and number of images the rate of the grid with the best accuracy on 257
held-out training digits, mean of five seeds; then test images. They are many beside 100 images, and alike for all. The
100 images came in after a look at one seed of five methods, where a linear layer on a thousand was best on views.

What came out. With 1,000 images of a view no method beats a network of its own by a point, after any number of steps,
and 650 numbers on the pixels read each at .96 after 200; a head stays at .78 to .89. Adapters need steps on *inverted*:
rank 32, alpha = r, has .70, .91, .94 after 200, 600, 1,800; larger alphas are in `adapters_alpha`. A head reads it
better on a random trunk (.83) than on the reader's (.78). The reader helps where the new label follows from the old one
and images are few: *parity* of 100, a head .93, a network of its own .90, the pixels .87; but the reader's own answer,
mod 2, has .98, and nothing learns. Of the ranks 1, 4, 16, 32 the best rates
(geometric mean of four tasks, 1,000 images, 600 steps) are .017, .007, .005, .004 with alpha = r; .005 to .007 with
alpha = 8, .013 to .023 with alpha = 1; there, and for heads, some take .1, the edge of the grid. What is changed reads
*class* at .7 at most; an adapter that is taken out, or a copy of 3,466 numbers, at .96 as before.
"""

from collections.abc import Callable, Iterator
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.adapters import LoRA
from lecture_lib.choice import Choice
from lecture_lib.cost import count_flops
from lecture_lib.data import batches, digit_tasks
from lecture_lib.models import MLP
from lecture_lib.recorded.start_here_exits import HELD_OUT

RATES, KEPT, BATCH, WIDTH = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1), (200, 600, 1800), 32, 32
SEEDS, TASKS = (0, 1, 2, 3, 4), ("turned", "mirrored", "inverted", "parity")
EXAMPLES = (100, 1000)  # images of the new task
LORAS = {f"rank {r}, alpha {a}": (r, a) for r in (1, 4, 16, 32) for a in dict.fromkeys((1, r, 8))}
METHODS = ["head", "head, random trunk", "linear on pixels", *LORAS, "all weights", "own network"]

# Networks side by side: each tensor has axes for the R rates and T tasks, (R or 1, T or 1, ...). A layer is a dict of
# W (o, i), b (1, o), and perhaps A (r, i), B (o, r) and router (K, i); rows of a task are (T, N, i).
Layer = dict[str, Tensor]

# ------------------------------------------------------------------------------------------------ networks side by side


def linear(d_in: int, d_out: int, n_tasks: int = 1) -> Layer:
    """A new layer for each of n_tasks, from the distribution of nn.Linear."""
    shapes = {"W": (d_out, d_in), "b": (1, d_out)}
    return {key: torch.empty(1, n_tasks, *shape).uniform_(-(d_in**-0.5), d_in**-0.5) for key, shape in shapes.items()}


def low_rank(layer: Layer, rank: int, n_tasks: int = 1) -> Layer:
    """New A and B for a layer, from the distribution of `LoRA`."""
    *_, d_out, d_in = layer["W"].shape
    a = torch.empty(1, n_tasks, rank, d_in).uniform_(-(d_in**-0.5), d_in**-0.5)
    return {"A": a, "B": torch.zeros(1, n_tasks, d_out, rank)}


def learning(layer: Layer, n_tasks: int = 1) -> Layer:
    """A copy that learns, for each rate; what is common to tasks is first copied for each of n_tasks."""
    return {
        key: w.expand(len(RATES), max(n_tasks, w.shape[1]), -1, -1).clone().requires_grad_() for key, w in layer.items()
    }


def forward(
    layers: list[Layer], x: Tensor, *, scale: float = 1, choose: Callable | None = None
) -> tuple[Tensor, list[Choice]]:
    """(T, N, i) -> logits (R, T, N, C), and what the routers chose."""
    choices = []
    for n, layer in enumerate(layers):
        y = x @ layer["W"].mT + layer["b"]
        if "A" in layer:
            h = x @ layer["A"].mT
            if "router" in layer:
                choices.append(choose(x @ layer["router"].mT))
                z = choices[-1].weights
                h = h * z.repeat_interleave(h.shape[-1] // z.shape[-1], -1)
            y = y + scale * (h @ layer["B"].mT)
        x = y.relu() if n + 1 < len(layers) else y
    return x, choices


def error(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy, mean over tasks and rows, sum over rates: (R, T, N, C) and (T, N) -> a scalar."""
    return len(logits) * F.cross_entropy(logits.flatten(0, 2), label.expand(logits.shape[:3]).flatten())


def learn(layers: list[Layer], loss: Callable[..., Tensor], stream: Iterator, steps: int) -> Iterator[int]:
    """Adam on all that requires a gradient, each network at its own constant rate; stops at the steps of KEPT."""
    weights = [w for layer in layers for w in layer.values() if w.requires_grad]
    rate = torch.tensor(RATES).reshape(-1, 1, 1, 1)
    means, squares = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    for step in range(1, steps + 1):
        gradients = torch.autograd.grad(loss(*next(stream)), weights)
        with torch.no_grad():
            for w, g, m, v in zip(weights, gradients, means, squares, strict=True):
                m.lerp_(g, 0.1)
                v.mul_(0.999).addcmul_(g, g, value=0.001)
                w -= rate / (1 - 0.9**step) * m / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
        if step in KEPT or step == steps:
            yield step


@cache
def images(names: tuple[str, ...], part: str) -> tuple[Tensor, Tensor]:
    """Pixels from -1 to 1, (T, N, 64), and classes (T, N), of the part "train", "held out" or "test"."""
    cut = {"train": slice(-HELD_OUT), "held out": slice(-HELD_OUT, None), "test": slice(None)}[part]
    tasks = [digit_tasks()[name] for name in names]
    pairs = [(t.test_x, t.test_y) if part == "test" else (t.train_x[cut], t.train_y[cut]) for t in tasks]
    return torch.stack([2 * x.flatten(1) - 1 for x, _ in pairs]), torch.stack([y for _, y in pairs])


def drawn(x: Tensor, y: Tensor, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches, `size` rows for each task, each task in an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    streams = [batches(*part, size=size, generator=generator) for part in zip(x, y, strict=True)]
    for rows in zip(*streams, strict=True):
        yield tuple(torch.stack(column) for column in zip(*rows, strict=True))


@torch.no_grad()
def accuracy(layers: list[Layer], x: Tensor, y: Tensor, **options) -> list[list[float]]:
    """Of each task at each rate."""
    right = forward(layers, x, **options)[0].argmax(-1) == y
    return [[round(v, 4) for v in row] for row in right.double().mean(-1).T.tolist()]


# ------------------------------------------------------------------------------------------------------ what is trained


@cache
def reader(seed: int, width: int, steps: int) -> list[Layer]:
    """A network that reads digits, after some steps at the rate that is best on held-out digits."""
    torch.manual_seed(seed)
    layers = [learning(linear(i, o)) for i, o in ((64, width), (width, width), (width, 10))]
    stream = drawn(*images(("class",), "train"), BATCH, seed)
    for _ in learn(layers, lambda x, y: error(forward(layers, x)[0], y), stream, steps):
        pass
    (scores,) = accuracy(layers, *images(("class",), "held out"))
    best = scores.index(max(scores))
    return [{key: w.detach()[best : best + 1] for key, w in layer.items()} for layer in layers]


def make(method: str, base: list[Layer]) -> tuple[list[Layer], float]:
    """Layers, frozen and learning, for all rates and tasks; and the scale of their A and B."""
    n, shapes = len(TASKS), [layer["W"].shape[:1:-1] for layer in base]
    if method in LORAS:
        rank, alpha = LORAS[method]
        return [layer | learning(low_rank(layer, rank, n)) for layer in base], alpha / rank
    if method == "all weights":
        return [learning(layer, n) for layer in base], 1
    if method == "own network":
        return [learning(linear(*shape, n)) for shape in shapes], 1
    if method == "linear on pixels":
        return [learning(linear(64, 10, n))], 1
    trunk = base[:-1] if method == "head" else [linear(*shape) for shape in shapes[:-1]]
    return [*trunk, learning(linear(*shapes[-1], n))], 1


@cache
def costs(method: str, width: int) -> dict:
    """Numbers that learn, and FLOPs of a training step, forward and backward, of the library's modules."""
    net = MLP(64, width, 10, depth=3) if method != "linear on pixels" else nn.Linear(64, 10)
    for layer in list(net)[:-1] if method.startswith("head") else ():
        layer.requires_grad_(False)
    for i in (0, 2, 4) if method in LORAS else ():
        net[i] = LoRA(net[i], LORAS[method][0])
    x, y = torch.zeros(BATCH, 64), torch.zeros(BATCH, dtype=torch.int64)
    return {
        "parameters": sum(w.numel() for w in net.parameters() if w.requires_grad),
        "FLOPs of a step": count_flops(lambda: F.cross_entropy(net(x), y).backward()),
    }


GRID = {"seed": SEEDS, "method": METHODS, "examples": EXAMPLES}


def run(seed: int, method: str, examples: int, width: int = WIDTH, steps: int = max(KEPT)) -> dict:
    """After so many steps, of each task at each rate: accuracy held out, on test images, and on test images of class.

    That of class is with the change in place: without it a frozen network reads as before, "class, before".
    """
    base = reader(seed, width, min(steps, 600))
    torch.manual_seed(seed + 1000)
    layers, scale = make(method, base)
    x, y = images(TASKS, "train")
    stream = drawn(x[:, :examples], y[:, :examples], BATCH, seed + 1000)
    result = costs(method, width) | {
        "class, before": accuracy(base, *images(("class",), "test"))[0][0],
        "unadapted": [row[0] for row in accuracy(base, *images(TASKS, "test"))],
    }
    for step in learn(layers, lambda x, y: error(forward(layers, x, scale=scale)[0], y), stream, steps):
        parts = {"held out": (TASKS, "held out"), "test": (TASKS, "test"), "class": (("class",), "test")}
        result[str(step)] = {key: accuracy(layers, *images(*part), scale=scale) for key, part in parts.items()}
    return result


def small() -> dict:
    return {"seed": 0, "method": "rank 4, alpha 8", "examples": 100, "steps": 3}


# ------------------------------------------------------------------------------------------------- reading the record


def best(entries: list[dict], value: Callable[[dict], list[float]]) -> tuple[int, float]:
    """Of entries of several seeds: the place of the rate with the best mean value, which is held out; and that mean."""
    means = [sum(column) / len(entries) for column in zip(*map(value, entries), strict=True)]
    return means.index(max(means)), max(means)


def picked(entries: list[dict], t: int, steps: int, part: str = "test") -> list[float]:
    """Of one method, on task t after so many steps, at the rate that is best on held-out digits: one value a seed."""
    place, _ = best(entries, lambda entry: entry[str(steps)]["held out"][t])
    return [entry[str(steps)][part][t][place] for entry in entries]
