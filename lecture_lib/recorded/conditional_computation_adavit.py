"""Patches, heads and blocks at once, notebook 05: AdaViT's three targets, and one budget for the FLOPs of all.

The criterion is that of `conditional_computation`, whose task and dense networks these continue: the rate with the best
accuracy on held-out images, one seed of its own; then five others, on test images. 150 steps more, as its ways.
The targets were set before the run. "the same for all": heads and blocks that most training images use are used for
all images, the others are removed, and nothing is trained again.
"""

from collections.abc import Sequence
from copy import deepcopy
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.choice import gumbel_softmax, straight_through
from lecture_lib.cost import count_flops
from lecture_lib.patches import usage_loss
from lecture_lib.recorded.conditional_computation import RATES, SEARCH, SEEDS, ViT, base, descend, examples
from lecture_lib.skipping import AdaptiveTransformer, Decisions, compute_share, usage_losses

STEPS, STRENGTH = 150, 20
TARGETS = {  # of patches, heads and blocks; or of the FLOPs
    "targets .75, .75, .9": (0.75, 0.75, 0.9),
    "targets .5, .5, .75": (0.5, 0.5, 0.75),
    "FLOPs .5": (0.5,),
    "FLOPs .3": (0.3,),
}


class AdaViT(nn.Module):
    """A ViT whose blocks decide for each image: which patches, which heads, and whether to run."""

    def __init__(self, net: ViT):
        super().__init__()
        self.net, width = net, net.position.shape[1]
        self.body = AdaptiveTransformer(width, 4, len(net.body.blocks), lambda s: straight_through(gumbel_softmax(s)))
        self.body.load_state_dict(net.body.state_dict(), strict=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Decisions]:
        y, decisions = self.body(self.net.tokens(images))
        return self.net.head(y[:, 0]), decisions

    def loss(self, images: Tensor, label: Tensor, targets: tuple[float, ...]) -> Tensor:
        """Of the task, and the squared distance from each target."""
        logits, decisions = self(images)
        if len(targets) == 3:
            budget = usage_losses(decisions, *targets).sum()
        else:
            budget = usage_loss(compute_share(decisions, self.net.position.shape[1]), *targets)
        return F.cross_entropy(logits, label) + STRENGTH * budget


def adaptive(way: str, seed: int, lr: float, *, before: int = 400, steps: int = STEPS) -> AdaViT:
    dense = deepcopy(base(seed, lr, False, before))
    torch.manual_seed(2000 + seed)
    net = AdaViT(dense)
    return descend(net, lambda x, y: net.loss(x, y, TARGETS[way]), 2000 + seed, steps, lr)


@torch.no_grad()
def measure(net: AdaViT, part: str) -> tuple[float, float, Decisions]:
    """Accuracy, FLOPs of one image, decisions."""
    x, label = examples(part)
    logits, decisions = net.eval()(x)
    return (logits.argmax(-1) == label).double().mean().item(), count_flops(net, x) / len(x), decisions


def shares(decisions: Decisions) -> list[float]:
    """Of patches, heads and blocks, means over all; then of each block."""
    kept, heads, run, _ = decisions
    parts = [kept[..., 1:].mean((1, 2)), heads.mean((1, 2)), run.mean(1)]  # each (L,)
    return [round(value, 4) for value in [p.mean().item() for p in parts] + [v for p in parts for v in p.tolist()]]


@torch.no_grad()
def alike(net: AdaViT) -> AdaViT:
    """Heads and blocks that most training images use, for all; a copy."""
    net, decisions = deepcopy(net), measure(net, "train")[2]
    for gates, used in ((net.body.heads, decisions.heads), (net.body.runs, decisions.run.unsqueeze(-1))):
        for gate, mean in zip(gates, used.mean(1), strict=True):
            gate.score.weight.zero_()
            gate.score.bias.copy_(torch.where(mean > 0.5, 10.0, -10.0))
    return net


@cache
def tried(way: str, steps: tuple[int, int]) -> list[list[float]]:
    before, more = steps
    nets = {lr: adaptive(way, SEARCH[0], lr, before=before, steps=more) for lr in RATES}
    return [[lr, round(measure(net, "held out")[0], 4)] for lr, net in nets.items()]


GRID = {"way": list(TARGETS), "seed": list(SEEDS)}


def run(seed: int, way: str, steps: Sequence[int] = (400, STEPS)) -> dict:
    """Rate, those tried; on test images accuracy, FLOPs, shares used, also in training mode; "the same for all"."""
    rates = tried(way, tuple(steps))
    lr = max(rates, key=lambda row: row[1])[0]
    net = adaptive(way, seed, lr, before=steps[0], steps=steps[1])
    right, cost, decisions = measure(net, "test")
    share = compute_share(decisions, net.net.position.shape[1])
    same = measure(alike(net), "test")
    with torch.no_grad():
        noisy = net.train()(examples("train")[0])[1]
    return {
        "lr": lr,
        "tried": rates,
        "accuracy": round(right, 4),
        "FLOPs": round(cost),
        "shares": shares(decisions),
        "shares in training": shares(noisy),
        "share of FLOPs, 5 % and 95 %": [round(share.quantile(q).item(), 4) for q in (0.05, 0.95)],
        "same for all": [round(same[0], 4), round(same[1])],
    }


def small() -> dict:
    return {"seed": 0, "way": "targets .5, .5, .75", "steps": [5, 4]}
