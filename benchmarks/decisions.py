"""Choices, sparse maps, mixtures and early exits: each beside a library's, or beside running everything."""

from collections.abc import Iterator
from functools import partial

import entmax as peer
import torch
import torch.nn.functional as F
from case import SAME, Case
from torch import nn

from lecture_lib.choice import argmax, gumbel_softmax, sample
from lecture_lib.cost import count_flops
from lecture_lib.exits import EarlyExitNet, infer
from lecture_lib.mixture import mix, mix_sparse
from lecture_lib.models import MLP
from lecture_lib.simplex import entmax


def choices() -> Iterator[Case]:
    """Random results cannot be equal; tests compare their laws. As fast as torch's is the aim, not faster."""
    logits = torch.randn(4096, 512)
    ours, theirs = partial(gumbel_softmax, logits), partial(F.gumbel_softmax, logits)
    yield Case("gumbel_softmax, forward", ours, "torch's", theirs, None, SAME, rounds=25)

    def draw():
        categorical = torch.distributions.Categorical(logits=logits)  # normalises
        return categorical.log_prob(categorical.sample())

    yield Case("sample with log-probability", partial(sample, logits), "torch's", draw, None, SAME, rounds=25)


def simplices() -> Iterator[Case]:
    logits, direction = torch.randn(4096, 512, requires_grad=True), torch.randn(4096, 512)

    def both_ways(function):
        y = function(logits)
        return y.detach(), torch.autograd.grad(y, logits, direction)[0]

    for alpha, theirs in {1.25: partial(peer.entmax_bisect, alpha=1.25), 1.5: peer.entmax15, 2: peer.sparsemax}.items():
        ours, scores = partial(entmax, alpha=alpha), logits.detach()
        within = 1e-3 if alpha == 1.25 else 1e-5  # theirs bisects
        yield Case(f"entmax, alpha {alpha}, forward", partial(ours, scores), "entmax", partial(theirs, scores), within)
        both = partial(both_ways, ours), partial(both_ways, theirs)
        yield Case(f"entmax, alpha {alpha}, both", both[0], "entmax", both[1], within)


@torch.no_grad()
def mixtures() -> Iterator[Case]:
    for width in (64, 256, 1024):
        modules = [MLP(64, width, 10).requires_grad_(False) for _ in range(9)]
        x, z = torch.randn(1024, 64), argmax(torch.randn(1024, 9)).weights
        counted = count_flops(mix, x, z, modules) / count_flops(mix_sparse, x, z, modules)
        name = f"mix_sparse, 1 of 9, width {width}, {counted:.0f} × fewer FLOPs"
        yield Case(name, partial(mix_sparse, x, z, modules), "mix", partial(mix, x, z, modules))


def exits() -> Iterator[Case]:
    """Half of the examples leave at each exit: the batch is compacted, or all run to the end."""
    for width in (64, 256, 1024):
        blocks = [nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(6)]
        net = EarlyExitNet(blocks, [nn.Linear(width, 10) for _ in range(6)]).requires_grad_(False)
        x = torch.randn(1024, width)

        def leave(logits, h):
            return torch.arange(logits.shape[1]) % 2 == 0

        ours = partial(infer, net, x, leave)
        leaves_at = ours().exit_index

        def run_all(net=net, x=x, leaves_at=leaves_at):
            return net(x).gather(0, leaves_at.view(1, -1, 1).expand(1, -1, 10))[0]

        counted = count_flops(run_all) / count_flops(ours)
        name = f"early exits, width {width}, {counted:.1f} × fewer FLOPs"
        why = "a block of this width takes as long as a decision" if width == 64 else ""
        yield Case(name, lambda ours=ours: ours().logits, "all blocks", run_all, rounds=25, why=why)
