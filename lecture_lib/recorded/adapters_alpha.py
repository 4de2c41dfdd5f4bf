"""Larger alphas than those of `adapters`, and another way to scale with the rank. Notebook 10.

The question: of the alphas 1, 8 and r there the largest is best on *inverted* at rank 32. Does a still larger one read
it sooner, and does the learning rate of rank 1 then still suit rank 32? And with scale = 2/√r, as in Kalajdzievski
2023, which grows with r against a fixed alpha?

Equal to `adapters`: the readers, the four tasks, 1,000 images of each, batches, Adam, steps, LoRA beside each layer.
The grid of rates has one more, below the others: .0003.

The criterion is as there: for each rank, scale, task and number of steps the rate with the best accuracy on 257
held-out training digits, mean of five seeds; then test images.

What came out. No best rate lies at an end of the grid. A rate of rank 1 costs rank 32, in the mean of the tasks, .000,
.004, .001 after 200, 600, 1,800 steps with alpha = 128, and .04 with 2/√r, though there the best rate falls by less
than 2 from rank 1 to 32 (in `adapters`: at most .005 with alpha = 8, .024 with 1, .17 to .38 with r). *Inverted*, rank
32: .76, .92, .95 with alpha = 128 (.70, .91, .94 with 32), .55, .90, .94 with 2/√r. Rank 16 has .81, .93, .96 with
alpha = 128, so more rank is not better there. On the other tasks, rank 32, all scales are within .016 after 200 and 600
steps. Of rank 1, alpha = 128 is no better than 1 after 600 (mean .79 and .81).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from lecture_lib.recorded import adapters as side
from lecture_lib.recorded.adapters import BATCH, KEPT, SEEDS, TASKS, WIDTH

RATES = (3e-4, *side.RATES)
RANKS, SCALES = (1, 4, 16, 32), {"alpha = 128": lambda r: 128 / r, "scale = 2/√r": lambda r: 2 / r**0.5}
GRID = {"seed": SEEDS, "rank": RANKS, "scale": list(SCALES)}


def learn(weights: list[Tensor], loss, stream: Iterator, steps: int) -> Iterator[int]:
    """As `side.learn`, at this grid of rates."""
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


def run(seed: int, rank: int, scale: str, steps: int = max(KEPT)) -> dict:
    """After so many steps, of each task at each rate: accuracy held out, and on test images."""
    base, s = side.reader(seed, WIDTH, min(steps, 600)), SCALES[scale](rank)
    torch.manual_seed(seed + 1000)
    layers = []
    for layer in base:
        new = side.low_rank(layer, rank, len(TASKS))
        new = {key: w.expand(len(RATES), -1, -1, -1).clone().requires_grad_() for key, w in new.items()}
        layers.append(layer | new)
    stream = side.drawn(*side.images(TASKS, "train"), BATCH, seed + 1000)
    weights = [layer[key] for layer in layers for key in "AB"]
    result = {}
    for step in learn(weights, lambda x, y: side.error(side.forward(layers, x, scale=s)[0], y), stream, steps):
        parts = ("held out", "test")
        result[str(step)] = {part: side.accuracy(layers, *side.images(TASKS, part), scale=s) for part in parts}
    return result


def small() -> dict:
    return {"seed": 0, "rank": 4, "scale": "scale = 2/√r", "steps": 3}
