"""Gates judged alone or one after another, notebook 01: which patches, which parts of a trained network can go?

Half of them are closed, in three ways: at random; those whose closing alone, all others open, costs least; one at a
time, measured again after each. Costs are losses on validation digits, reported are accuracies on test digits. The
networks are those of `discrete_decisions` at learning rate 0.001, its best.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lecture_lib.data import digits
from lecture_lib.recorded.discrete_decisions import DRAWS, N_TRAIN, partly, train

GRID = {"seed": range(5)}
HEADS = (torch.arange(32) % 8 < 4).long()  # of 4 blocks with 4 heads and 4 slices each: 1 for a head, 0 for a slice


def half_closed(cost: Callable[[Tensor], float], kind: Tensor, again: bool) -> Tensor:
    """n gates of which half of each kind are closed, the cheapest first. (n,) ones and zeros

    Args:
        cost: (n,) -> what this setting costs.
        kind: (n,) the kind of each gate, from 0 up.
        again: whether all open gates are tried again after each closing, or each only once, with all others open.
    """
    n = len(kind)
    room = kind.bincount() // 2  # how many of each kind are still to be closed
    on, price = torch.ones(n), None
    while room.any():
        if price is None or again:
            price = torch.tensor(
                [cost(on.index_fill(0, torch.tensor([i]), 0)) if on[i] else torch.inf for i in range(n)]
            )
        i = price.masked_fill((on == 0) | (room[kind] == 0), torch.inf).argmin()
        on[i] = 0
        room[kind[i]] -= 1
    return on


def at_random(kind: Tensor, generator: torch.Generator) -> Tensor:
    """Half of each kind, closed at random."""
    return half_closed(lambda on: torch.rand((), generator=generator).item(), kind, again=False)


def run(seed: int, steps: int = 400, gates: Sequence[str] = ("patches", "parts")) -> dict[str, dict[str, float]]:
    """Test accuracies of one network with half of its patches, or half of its heads and slices."""
    net, _ = train("whole", 1e-3, steps, seed)
    net.requires_grad_(False)
    data, generator = digits(), torch.Generator().manual_seed(seed)
    x, label = data.train_x[N_TRAIN:], data.train_y[N_TRAIN:]
    result = {}
    ways = {
        "patches": (torch.zeros(16).long(), lambda on: {"patches": on.unsqueeze(0)}),
        "parts": (HEADS, lambda on: {"parts": on.reshape(1, 4, 8)}),
    }
    for name in gates:
        kind, some = ways[name]

        def cost(on: Tensor, some=some) -> float:
            return F.cross_entropy(partly(net, x, **some(on)), label).item()

        def right(on: Tensor, some=some) -> float:
            return (partly(net, data.test_x, **some(on)).argmax(-1) == data.test_y).float().mean().item()

        result[name] = {
            "at random": sum(right(at_random(kind, generator)) for _ in range(DRAWS)) / DRAWS,
            "judged alone": right(half_closed(cost, kind, again=False)),
            "one at a time": right(half_closed(cost, kind, again=True)),
        }
    return result


def small() -> dict:
    return {"seed": 0, "steps": 20, "gates": ["patches"]}
