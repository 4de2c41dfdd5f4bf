"""Checks of the exercises on reinforce."""

import torch
from torch import Tensor

from lecture_lib.exercises.answers import exercise, normal

COSTS = torch.tensor([[1.0, 5.0, 0.5], [0.0, 3.0, 2.5], [2.0, 8.0, 1.0], [4.0, 1.0, 0.0]])
CHOICES = [(torch.tensor([0.6, 0.25, 0.1, 0.05]), torch.tensor([1.0, 3.0, -2.0, 6.0]))]
CHOICES += [(scores.softmax(0), costs) for scores, costs in normal((2, 2), (2, 3), (2, 7))]


@exercise([(costs,) for costs in (COSTS, COSTS[:2], *normal((7, 1), (3, 3), (5, 4)))])
def leave_one_out_baseline(costs: Tensor) -> dict:
    """Costs (S, B) of S samples for B inputs in, the mean cost of the others out, (S, B)."""
    n, others, mean = len(costs), costs.sum(0) - costs, costs.mean(0)
    right = others / (n - 1)
    before = (costs.cumsum(0) - costs) / torch.arange(n)[:, None].clamp(min=1)
    across = (costs.sum(1, True) - costs) / max(costs.shape[1] - 1, 1)
    return {
        "Every sample judges its siblings: S costs, S baselines, no more runs, no bias.": right,
        "each mean holds the sample's own cost; the gradient is short by 1/S.": mean.expand(n, -1),
        "the sum leaves one out, its divisor does not: how many others are there?": others / n,
        "this is the sum of the others' costs, not their mean.": others,
        "this is the cost minus the baseline; `surrogate` will subtract it.": costs - right,
        "the sign: a baseline is a cost, and `surrogate` subtracts it.": -right,
        "this compares different inputs. Along which dimension are the samples?": across,
        "this is the mean of the samples before; those after may be used as well.": before,
    }


@exercise(CHOICES)
def best_baseline(pi: Tensor, costs: Tensor) -> dict:
    """Probabilities and costs (K,) in, the constant baseline of least variance out."""
    square = (torch.eye(len(pi)) - pi).square().sum(-1)  # |∇ log π_k|²

    def mean(weights: Tensor) -> Tensor:
        return (weights * costs).sum() / weights.sum()

    return {
        "For [p, 1 - p]: (1-p) · costs[0] + p · costs[1], no variance is left.": mean(pi * square),
        "this is the expected cost: a draw with a long gradient should count for more.": mean(pi),
        "this is the plain mean: what is hardly ever drawn should hardly count.": costs.mean(),
        "nearly: in the expectation stands the square of |v|.": mean(pi * square.sqrt()),
        "the lengths are there, the probabilities are not: k is drawn from pi.": mean(square),
        "v has an entry for every score, not only for that drawn.": mean(pi * (1 - pi) ** 2),
        "a weighted mean is divided by the sum of its weights.": (pi * square * costs).sum(),
    }
