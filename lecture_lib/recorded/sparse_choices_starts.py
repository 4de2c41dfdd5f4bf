"""Find the digit, notebook 04: sharp starts that are not sparse, or not at once, 1,000 steps each.

Beside the ways with scores × 30 of the record `sparse_choices`. Untrained, softmax with scores × 90 has about as large
a largest weight as sparsemax with scores × 30. The criterion, and the grid of rates, are those of `sparse_choices`.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from lecture_lib.choice import Choice, entmax, softmax, top_k
from lecture_lib.recorded.sparse_choices import train


def softmax_first(steps: int) -> Callable[[Tensor], Choice]:
    """Softmax for the first `steps` steps of training, sparsemax from then on."""
    calls = 0

    def choose(scores: Tensor) -> Choice:
        nonlocal calls
        choice = softmax(scores) if calls < steps else entmax(scores, alpha=2)
        calls += scores.requires_grad  # in training
        return choice

    return choose


WAYS = {
    "softmax, scores × 90": (lambda: softmax, 90.0),
    "softmax first, scores × 30": (partial(softmax_first, 100), 30.0),
    "top-2, scores × 30": (lambda: partial(top_k, k=2), 30.0),
}
GRID = {"seed": range(5), "way": list(WAYS), "lr": [1e-3, 3e-3, 1e-2]}


def run(seed: int, way: str, lr: float, steps: int = 1000) -> dict:
    """The history of one training."""
    make, scale = WAYS[way]
    _, history, _ = train(make(), scale=scale, lr=lr, steps=steps, every=100, seed=seed)
    return {name: [round(row[name], 4) for row in history] for name in history[0]}


def small() -> dict:
    return {"seed": 0, "way": "softmax first, scores × 30", "lr": 1e-3, "steps": 110}
