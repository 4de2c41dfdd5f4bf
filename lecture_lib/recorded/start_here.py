"""Eight tasks in one network, notebook 00: how much should they share? And a ninth task: does it break the others?

In each task the digits have other names. In the world "same images" all tasks see the same images. In the world "own
pixel order" each task shuffles the pixels in its own way, so that tasks have nothing in common.

The criterion, from before any training: for each network and each number of steps, the learning rate of the grid with
the best accuracy on held-out images, mean over tasks and seeds; the ninth task counts as one of nine. What is reported
is on test images. Rates are constant.

Shapes: R runs side by side, one a seed; T tasks, n images of each; H hidden units.
"""

import copy
from collections.abc import Callable, Iterable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.data import digits

TASKS, H, BATCH, HELD_OUT = 8, 16, 128, 257
RATES, SEEDS = (3e-3, 1e-2, 3e-2), (0, 1, 2, 3, 4)
KEPT = {"eight": (50, 100, 200, 400, 1000, 2000, 4000), "ninth": (50, 100, 200, 400, 1000)}  # steps
WORLDS = ("same images", "own pixel order")
NETWORKS = {  # of how many tasks each layer has weights of its own: 1 means one for all
    "eight modules": {"first": TASKS, "last": TASKS},
    "trunk and heads": {"first": 1, "last": TASKS},
    "trunk and heads, same parameters": {"first": 1, "last": TASKS, "width": 66},
    "task as input": {"first": 1, "last": 1, "told": True},
    "task as input, 8 × as wide": {"first": 1, "last": 1, "width": 8 * H, "told": True},
}
ADDITIONS = ("a head", "a module", "train on", "train on, with old data")  # to "trunk and heads"


class Tasks(nn.Module):
    """Two layers, x (R, T, n, 64) -> (R, T, n, 10); each has weights for each task, or is shared.

    Args:
        seeds: R of them.
        first, last: of how many tasks the layer has weights: T, or 1 for all together.
        told: the task is an input, as T numbers beside the pixels.
    """

    def __init__(self, seeds: Iterable[int], first: int, last: int, *, width: int = H, told: bool = False):
        super().__init__()
        runs, d_in = [torch.Generator().manual_seed(seed) for seed in seeds], 64 + TASKS * told

        def parameter(fan_in: int, *shape: int) -> nn.Parameter:  # the start of nn.Linear
            return nn.Parameter(torch.stack([(2 * torch.rand(shape, generator=run) - 1) / fan_in**0.5 for run in runs]))

        self.w_first, self.b_first = parameter(d_in, first, d_in, width), parameter(d_in, first, 1, width)
        self.w_last, self.b_last = parameter(width, last, width, 10), parameter(width, last, 1, 10)
        self.told = told

    def forward(self, x: Tensor) -> Tensor:
        if self.told:
            task = torch.eye(TASKS).unsqueeze(1).expand(*x.shape[:3], TASKS)
            x = torch.cat([x, task], -1)
        return F.relu(x @ self.w_first + self.b_first) @ self.w_last + self.b_last


@cache
def tables(world: str) -> tuple[Tensor, Tensor]:
    """Of eight tasks and a ninth: the names of the digits (9, 10), the order of the pixels (9, 64)."""
    draws = [torch.Generator().manual_seed(task) for task in range(TASKS + 1)]
    names, orders = (torch.stack([torch.randperm(n, generator=draw) for draw in draws]) for n in (10, 64))
    return names, orders if world == "own pixel order" else torch.arange(64).expand(TASKS + 1, 64)


@cache
def images(part: str) -> tuple[Tensor, Tensor]:
    """Pixels (N, 64) and classes (N,) of the 1,000 images that are trained on, of those held out, or of "test"."""
    data = digits()
    x, y = (data.test_x, data.test_y) if part == "test" else (data.train_x, data.train_y)
    kept = {"train": slice(None, -HELD_OUT), "held_out": slice(-HELD_OUT, None), "test": slice(None)}[part]
    return x.flatten(1)[kept], y[kept]


def lesson(world: str, rows: Tensor, tasks: list[int], part: str = "train") -> tuple[Tensor, Tensor]:
    """Which images (R, T, n) of which T tasks -> x (R, T, n, 64) and the digits' names (R, T, n)."""
    (names, orders), (x, y) = tables(world), images(part)
    order, task = orders[tasks].unsqueeze(1), torch.tensor(tasks).unsqueeze(1)
    return x[rows.unsqueeze(-1), order], names[task, y[rows]]


@torch.no_grad()
def accuracy(network: Tasks, world: str, tasks: list[int], part: str) -> Tensor:
    """Of each run, mean over tasks: (R,)."""
    rows = torch.arange(len(images(part)[0])).expand(len(network.w_first), len(tasks), -1)
    x, name = lesson(world, rows, tasks, part)
    return (network(x).argmax(-1) == name).float().mean((1, 2))


def minimise(
    parameters: list[Tensor],
    groups: list[tuple[Tasks, list[int], int]],
    world: str,
    seeds: Iterable[int],
    rate: float,
    kept: Iterable[int],
    measure: Callable[[], dict],
) -> dict[int, dict]:
    """Adam; in each step n images of each of some tasks, for each (network, tasks, n) of `groups`. Measured at `kept`.

    The loss is the mean over all images of a step. Runs share no weight, so that each gets its own gradient.
    """
    optimizer, history = torch.optim.Adam(parameters, lr=rate), {}
    streams = [torch.Generator().manual_seed(10_000 + seed) for seed in seeds]
    for step in range(1, max(kept) + 1):
        loss, total = 0, sum(len(tasks) * n for _, tasks, n in groups)
        for network, tasks, n in groups:
            rows = torch.stack([torch.randint(1000, (len(tasks), n), generator=stream) for stream in streams])
            x, name = lesson(world, rows, tasks)
            loss = loss + F.cross_entropy(network(x).flatten(0, 2), name.flatten(), reduction="sum") / total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in kept:
            history[step] = measure()
    return history


def train(network: str, world: str, rate: float, *, seeds=SEEDS, kept=KEPT["eight"]) -> tuple[Tasks, dict[int, dict]]:
    """Eight tasks, 16 images of each in a step: the networks side by side, and their accuracies at the steps `kept`."""
    model, old = Tasks(seeds, **NETWORKS[network]), list(range(TASKS))

    def measure() -> dict[str, Tensor]:
        return {part: accuracy(model, world, old, part) for part in ("held_out", "test")}

    return model, minimise(list(model.parameters()), [(model, old, BATCH // TASKS)], world, seeds, rate, kept, measure)


def grow(
    trained: Tasks, how: str, world: str, rate: float, *, seeds=SEEDS, kept=KEPT["ninth"]
) -> tuple[Tasks, Tasks, dict[int, dict]]:
    """Teach a trunk with heads a ninth task: the old part, the new one, accuracies on old and new tasks.

    "a head": on the trunk, which stays as it is. "a module": beside everything. "train on": a head, and the trunk
    learns too. "train on, with old data": all learns, on as many images of the old tasks as of the new one.
    """
    model, new, old = copy.deepcopy(trained), Tasks(seeds, 1, 1), list(range(TASKS))
    if how != "a module":
        new.w_first, new.b_first = model.w_first, model.b_first  # the trunk
    learn, groups = list(new.parameters()), [(new, [TASKS], BATCH)]
    if how == "a head":
        learn = [new.w_last, new.b_last]
    if how == "train on, with old data":
        learn = [*model.parameters(), new.w_last, new.b_last]
        groups = [(new, [TASKS], BATCH // 2), (model, old, BATCH // 2 // TASKS)]

    def measure() -> dict[str, Tensor]:
        held_out, test = (
            (accuracy(model, world, old, part), accuracy(new, world, [TASKS], part)) for part in ("held_out", "test")
        )
        return {"held_out": (TASKS * held_out[0] + held_out[1]) / (TASKS + 1), "old": test[0], "new": test[1]}

    return model, new, minimise(learn, groups, world, seeds, rate, kept, measure)


def picked(tried: dict[float, dict[int, dict]]) -> dict[int, tuple[float, dict]]:
    """For each number of steps: the rate with the best accuracy on held-out images, mean over runs; its accuracies."""
    best = {}
    for step in next(iter(tried.values())):
        rate = max(tried, key=lambda rate: tried[rate][step]["held_out"].mean().item())
        best[step] = rate, tried[rate][step]
    return best


@cache
def eight(network: str, world: str, kept: tuple[int, ...]) -> tuple[Tasks, dict]:
    """A network's accuracies with the rate picked for each number of steps, and the network of the longest training."""
    runs = {rate: train(network, world, rate, kept=kept) for rate in RATES}
    best = picked({rate: history for rate, (_, history) in runs.items()})
    return runs[best[kept[-1]][0]][0], best


@cache
def ninth(how: str, world: str, kept: tuple[int, ...], before: tuple[int, ...]) -> dict:
    trained, _ = eight("trunk and heads", world, before)
    return picked({rate: grow(trained, how, world, rate, kept=kept)[2] for rate in RATES})


GRID = {"what": [*NETWORKS, *ADDITIONS], "world": WORLDS, "seed": SEEDS}


def run(seed: int, what: str, world: str, eight_steps=KEPT["eight"], ninth_steps=KEPT["ninth"]) -> dict:
    """Lists over the numbers of steps: which rate was picked, accuracy on test images (of old tasks and the new)."""
    kept, more = tuple(eight_steps), tuple(ninth_steps)
    best = eight(what, world, kept)[1] if what in NETWORKS else ninth(what, world, more, kept)
    at = SEEDS.index(seed)
    result = {"steps": list(best), "rate": [rate for rate, _ in best.values()]}
    for name in ("test",) if what in NETWORKS else ("old", "new"):
        result[name] = [round(found[name][at].item(), 4) for _, found in best.values()]
    return result


def small() -> dict:
    return {
        "seed": 0,
        "what": "train on, with old data",
        "world": "own pixel order",
        "eight_steps": [3, 6],
        "ninth_steps": [5],
    }
