"""The simplest rival on the tasks of `start_here`, notebook 00: for each task a linear layer on the pixels.

The criterion, the rates, the steps, the images and the numbers of images in a step are those of `start_here`.
"""

from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor, nn

from lecture_lib.recorded import start_here as tasks

WHAT = {"eight linear layers": ("eight", list(range(tasks.TASKS))), "a linear layer": ("ninth", [tasks.TASKS])}


class Linear(nn.Module):
    """x (R, T, n, 64) -> (R, T, n, 10), R runs of T tasks; it starts as nn.Linear does."""

    def __init__(self, seeds: Iterable[int], n_tasks: int):
        super().__init__()
        runs = [torch.Generator().manual_seed(seed) for seed in seeds]
        start = torch.stack([(2 * torch.rand((n_tasks, 65, 10), generator=run) - 1) / 8 for run in runs])
        self.w_first, self.b_first = nn.Parameter(start[:, :, :64]), nn.Parameter(start[:, :, 64:])

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w_first + self.b_first


def train(what: str, world: str, rate: float, *, seeds=tasks.SEEDS, kept=None) -> dict[int, dict]:
    """Accuracies at the steps `kept`, 128 images in a step."""
    steps, which = WHAT[what]
    model = Linear(seeds, len(which))

    def measure() -> dict[str, Tensor]:
        return {part: tasks.accuracy(model, world, which, part) for part in ("held_out", "test")}

    groups = [(model, which, tasks.BATCH // len(which))]
    return tasks.minimise(list(model.parameters()), groups, world, seeds, rate, kept or tasks.KEPT[steps], measure)


@cache
def found(what: str, world: str, kept: tuple[int, ...]) -> dict[int, tuple[float, dict]]:
    return tasks.picked({rate: train(what, world, rate, kept=kept) for rate in tasks.RATES})


GRID = {"what": list(WHAT), "world": tasks.WORLDS, "seed": tasks.SEEDS}


def run(seed: int, what: str, world: str, kept=None) -> dict:
    """Lists over the numbers of steps: which rate was picked, accuracy on test images."""
    best, at = found(what, world, tuple(kept or tasks.KEPT[WHAT[what][0]])), tasks.SEEDS.index(seed)
    return {
        "steps": list(best),
        "rate": [rate for rate, _ in best.values()],
        "test": [round(row["test"][at].item(), 4) for _, row in best.values()],
    }


def small() -> dict:
    return {"seed": 0, "what": "a linear layer", "world": "own pixel order", "kept": [3, 6]}
