"""Five tasks: one network, five, or a mixture of adapters? And a sixth task later. Notebook 10.

The question: who reads *class*, *parity*, *ink*, *turned*, *inverted* best, narrow and wide; does a router find the
tasks, and does it pay; and what does *mirrored*, added afterwards, cost in old tasks.

Equal: steps, 32 rows of each task in a step, constant rates of one grid; "shared", "heads", "separate" and "by task"
have the FLOPs of a row within 11 %. Routers cost more: so there are wider shared networks with the FLOPs of top-1 and
of softmax. "separate, numbers of by task" are together as large as a mixture with its routers, a little larger than
"by task". A linear layer on the pixels for each task is cheaper than all but the smallest of these. "random router" is
top-1 with a router that does not learn. FLOPs of training are as those of a row, so no more equal than they are.

The criterion: for each system, size and steps the rate with the best held-out accuracy, mean of tasks and five seeds;
then test images. The sixth task starts from each seed's network of 1,800 steps at its best held-out rate; its own rate
is that of the best held-out accuracy on it (held-out old tasks stand in the record, for another). Each step has 192
rows, of *mirrored*, or in replay 32 of each task. Replay keeps the thousand training images, or 50.

What came out, after 600 steps, narrow and wide: linear on pixels .950 (both), separate .949, .963, heads .935, .955,
by task .931, .960, shared .896, .942. Heads are within half a point of adapters given by task, with fewer numbers.
Learnt routers: top-1 .909, .943, with balance .913, .943, top-2 .913, .944, softmax .916, .946; random .887, .937; a
shared network with the FLOPs of top-1 .926, .949. So at their best rates the routers are alike, above a random one, and
below a network without a router that has the FLOPs of top-1; with those of softmax it has .936, .951. The task is an
input of all routers: without it nothing was measured. After 1,800 steps narrow ones stand nearly in the same order
(separate .960, by task .938, routers .923 to .927, random .895), wide ones from .948 to .969, top-1 level with random.

Later, 600 steps, narrow and wide, *mirrored* and the mean of old tasks before and after: all weights of the shared
network .93, .95, old .92 to .32, .96 to .34; replay .86, .92, old .91, .95; of 50 images .91, .94, old .80, .82; a new
head .79, .89, a new adapter beside "by task" .89, .94, a network of its own .96, .96, linear on pixels .95: these four
leave the old tasks as they were.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from lecture_lib.choice import Choice, softmax, top_k
from lecture_lib.moe import switch
from lecture_lib.recorded import adapters as side
from lecture_lib.recorded.adapters import BATCH, KEPT, RATES, SEEDS, Layer
from lecture_lib.specialise import information

OLD, NEW, K = ("class", "parity", "ink", "turned", "inverted"), "mirrored", 5
SIZES, LATER_STEPS = ("narrow", "wide"), 600


@dataclass(frozen=True)
class System:
    """Three layers: narrow and wide, the width of the hidden two (0: none) and the rank of the adapters, if any."""

    widths: tuple[int, int] = (12, 32)
    ranks: tuple[int, int] = (0, 0)
    choose: Callable[[Tensor], Choice] | None = None  # of a router in each layer; None: each task has its adapter
    active: int = 1  # adapters that run for a row
    balance: float = 0
    learns: bool = True  # the router
    own: int = 0  # so many of the last layers does each task have for itself
    told: bool = True  # the task, as six further inputs


adapted = partial(System, widths=(10, 28), ranks=(2, 3))
SYSTEMS = {
    "linear on pixels": System((0, 0), own=1, told=False),
    "shared": System(),
    "shared, FLOPs of top-1": System((16, 36)),
    "shared, FLOPs of softmax": System((24, 50)),
    "heads": System(own=1, told=False),
    "heads, told": System(own=1),
    "separate": System(own=3, told=False),
    "separate, numbers of by task": System((6, 14), own=3, told=False),
    "by task": adapted(),
    "top-1": adapted(choose=switch),
    "top-1, balance": adapted(choose=switch, balance=0.01),
    "top-2": adapted(choose=partial(top_k, k=2), active=2),
    "softmax": adapted(choose=softmax, active=K),
    "random router": adapted(choose=switch, learns=False),
}
LATER = {  # ways to add the sixth task
    "shared": ("new adapter", "all weights", "replay", "replay of 50"),
    "heads": ("new head", "all weights"),
    "by task": ("new adapter",),
    "separate": ("own network",),
    "linear on pixels": ("own network",),
}


@cache
def rows(names: tuple[str, ...], part: str, told: bool) -> tuple[Tensor, Tensor]:
    """As `images`; if told, with six further inputs for the task."""
    x, y = side.images(names, part)
    tasks = torch.tensor([(*OLD, NEW).index(name) for name in names])
    code = F.one_hot(tasks, len(OLD) + 1).float()[:, None].expand(-1, x.shape[1], -1)
    return (torch.cat([x, code], -1) if told else x), y


def make(system: System, size: str) -> list[Layer]:
    width, rank = (pair[SIZES.index(size)] for pair in (system.widths, system.ranks))
    layers = []
    sizes = [64 + 6 * system.told, *([width, width] if width else []), 10]
    for n, (i, o) in enumerate(pairwise(sizes)):
        layer = side.linear(i, o, K if n + 1 >= len(sizes) - system.own else 1)
        if rank and system.choose is None:
            layer |= side.low_rank(layer, rank, K)
        elif rank:  # the A and B of K adapters, side by side
            layer |= side.low_rank(layer, K * rank) | {"router": side.linear(i, K)["W"]}
        layers.append(side.learning(layer))
        if rank and not system.learns:
            layers[-1]["router"].requires_grad_(False)
    return layers


def costs(system: System, layers: list[Layer]) -> dict:
    """Numbers in all, and of those that a row needs; FLOPs of a row."""
    total = sum(w[0].numel() for layer in layers for w in layer.values())
    share = {key: system.active / K if system.choose else 1 for key in "AB"}  # of an axis for tasks, one
    needed = {id(w): w[0, 0].numel() * share.get(key, 1) for layer in layers for key, w in layer.items()}
    biases = sum(needed[id(layer["b"])] for layer in layers)
    active = sum(needed.values())
    return {"numbers": total, "active numbers": round(active), "FLOPs of a row": round(2 * (active - biases))}


def balance_loss(choice: Choice) -> Tensor:
    """`load_balance_loss` of each rate's network, their sum: weights (R, T, N, K)."""
    load = (choice.weights > 0).float().mean((1, 2))
    p = choice.logits.softmax(-1).mean((1, 2))
    return p.shape[-1] * (load / load.sum(-1, keepdim=True) * p).sum()


@torch.no_grad()
def bits_of_the_task(system: System, layers: list[Layer]) -> list[float]:
    """What the best-scored adapter tells of the task of a test row, of log2 5 = 2.32 bits, in each layer."""
    x, _ = rows(OLD, "test", system.told)
    task = torch.arange(K).repeat_interleave(x.shape[1])
    found = []
    for choice in side.forward(layers, x, choose=system.choose)[1]:
        best = switch(choice.logits.flatten(0, 2))
        found.append(round(information(best, task, n_permutations=1).bits, 4))
    return found


def extended(way: str, layers: list[Layer], rank: int) -> tuple[list[Layer], list[Layer]]:
    """The layers for the sixth task, those for the old ones: what they share and learns, changes for both."""
    plain = [{key: layer[key] for key in "Wb"} for layer in layers]
    if way == "new adapter":
        return [layer | side.learning(side.low_rank(layer, rank)) for layer in plain], layers
    if way == "own network":
        return [side.learning(side.linear(*layer["W"].shape[:1:-1])) for layer in plain], layers
    if way == "new head" or plain[-1]["W"].shape[1] == K:  # heads: the sixth is new
        trunk = plain[:-1] if way == "new head" else [side.learning(layer) for layer in plain[:-1]]
        return [*trunk, side.learning(side.linear(*plain[-1]["W"].shape[:1:-1]))], [*trunk, plain[-1]]
    everything = [side.learning(layer) for layer in plain]
    return everything, everything


def later(way: str, system: System, layers: list[Layer], size: str, seed: int, steps: int) -> dict:
    """The sixth task, and the old ones after it. Each step has 192 rows: of the sixth, or of replay 32 of each task."""
    new, old = extended(way, layers, adapted().ranks[SIZES.index(size)])
    (x, y), (x_old, y_old) = (rows(names, "train", system.told) for names in ((NEW,), OLD))
    kept = 50 if way == "replay of 50" else x.shape[1]
    stream = side.drawn(x, y, 6 * BATCH, seed)
    if way.startswith("replay"):
        stream = side.drawn([*x_old[:, :kept], *x], [*y_old[:, :kept], *y], BATCH, seed)
    result = {"new numbers": sum(w[0].numel() for layer in new for w in layer.values() if w.requires_grad)}
    for step in side.learn(new, lambda x, y: side.error(side.forward(new, x)[0], y), stream, steps):
        parts = {
            key: side.accuracy(net, *rows(names, part, system.told))
            for part in ("held out", "test")
            for key, net, names in ((part, new, (NEW,)), (f"{part}, old", old, OLD))
        }
        result[str(step)] = {key: [row * (len(RATES) // len(row)) for row in table] for key, table in parts.items()}
    return result


GRID = {"seed": SEEDS, "system": list(SYSTEMS), "size": SIZES}


def run(seed: int, system: str, size: str, steps: int = max(KEPT)) -> dict:
    """Held-out and test accuracy of each old task at each rate, after so many steps; costs; and the sixth task."""
    s = SYSTEMS[system]
    torch.manual_seed(seed)
    layers = make(s, size)
    result = costs(s, layers)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        logits, choices = side.forward(layers, x, choose=s.choose)
        return side.error(logits, y) + (s.balance * sum(map(balance_loss, choices)) if s.balance else 0)

    stream: Iterator = side.drawn(*rows(OLD, "train", s.told), BATCH, seed)
    for step in side.learn(layers, loss, stream, steps):
        parts = ("held out", "test")
        result[str(step)] = {part: side.accuracy(layers, *rows(OLD, part, s.told), choose=s.choose) for part in parts}
    held_out = [sum(column) for column in zip(*result[str(step)]["held out"], strict=True)]
    r = held_out.index(max(held_out))
    final = [{key: w.detach()[r : r + 1] for key, w in layer.items()} for layer in layers]
    if s.choose:
        result["bits of the task"] = bits_of_the_task(s, final)
    ways = LATER.get(system, ())
    result["later"] = {way: later(way, s, final, size, seed, min(steps, LATER_STEPS)) for way in ways}
    return result


def small() -> dict:
    return {"seed": 0, "system": "top-1, balance", "size": "narrow", "steps": 3}
