"""Checks of the exercises on reinforce."""

import torch
from torch import Tensor

from lecture_lib.exercises.answers import exercise, normal, number

COSTS = torch.tensor([[1.0, 5.0, 0.5], [0.0, 3.0, 2.5], [2.0, 8.0, 1.0], [4.0, 1.0, 0.0]])
CHOICES = [(torch.tensor([0.6, 0.25, 0.1, 0.05]), torch.tensor([1.0, 3.0, -2.0, 6.0]))]
CHOICES += [(scores.softmax(0), costs) for scores, costs in normal((2, 2), (2, 3), (2, 7))]

one_estimate = number(
    "Its step raises the score of option 0, which nobody has tried: option 1 was expensive, and goes down.",
    -1.0,
    {
        "that is the entry of the option that was drawn, 2 · (1 - 0.3).": 1.4,
        "the sign: [j = k] - π_j is negative where j is not what was drawn.": 1.0,
        "the probability in it is that of the entry, option 0, not that of the draw.": -0.6,
        "the estimate is multiplied by the cost.": -0.5,
        "that is its contribution to the mean: probability of the draw times the estimate.": -0.3,
        "option 0 was not drawn, but its probability is in the derivative of log π_1.": 0.0,
    },
)


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
        "For [p, 1 - p] it is (1 - p) · costs[0] + p · costs[1], not the expected cost: no variance is left.": mean(
            pi * square
        ),
        "this is the expected cost: a draw with a long gradient should count for more.": mean(pi),
        "this is the plain mean: what is hardly ever drawn should hardly count.": costs.mean(),
        "nearly: in the expectation stands the square of |v|.": mean(pi * square.sqrt()),
        "the lengths are there, the probabilities are not: k is drawn from pi.": mean(square),
        "v has an entry for every score, not only for that drawn.": mean(pi * (1 - pi) ** 2),
        "a weighted mean is divided by the sum of its weights.": (pi * square * costs).sum(),
    }


times_fewer = number(
    "2.6 times fewer, not 9: the scorer looks at all nine patches in both.",
    9 * (4160 + 9472) / (9 * 4160 + 9472),
    {
        "that counts classifications alone: the scorer runs on all nine patches, too.": 9.0,
        "that is REINFORCE over Gumbel-Softmax. How many times *fewer*?": (9 * 4160 + 9472) / (9 * (4160 + 9472)),
        "Gumbel-Softmax needs its scorer as well.": 9 * 9472 / (9 * 4160 + 9472),
        "that is a difference, not a ratio.": 8.0 * 9472,
        "the scorer runs once for each of nine patches, not once.": (4160 + 9 * 9472) / (4160 + 9472),
    },
    tolerance=0.03,
)

enough_samples = number(
    "64 = (24 / 3)²: four times the choices need four times the samples, for the same noise.",
    64,
    {
        "averaging S samples divides the noise by the root of S, not by S.": 8,
        "for large N the noise grows with the root of N: from 12 to 24, not to 48.": 256,
        "that is right for 100 choices; how large is the noise of one sample with 400?": 16,
        "noise 24 has to become 3, a factor of 8. How many samples does a factor of 8 need?": 32,
        "that gives a noise over signal of 1, not of 3.": 576,
    },
    tolerance=0.5,
)
