"""Checks of the exercises on sparse choices."""

import torch
from torch import Tensor

from lecture_lib.exercises.answers import close, exercise, normal, number, show
from lecture_lib.simplex import entmax

SCORES = torch.tensor([[1.3, 0.2, 0.7, -0.4], [0, 0.1, 0, 0.2], [4, 1, 0.5, 3.1], [7, 7.5, 9, 7.2]])
TIES = torch.tensor([[2.0, 2, 2], [-3, -3, -4], [-1, 8, 8]])


def sums(p: Tensor, wanted: Tensor, s: Tensor) -> str | None:
    off = p.sum(-1) - 1
    row, right = int(off.abs().argmax()), off.abs() < 5e-3
    got = f"the weights for the scores {show(s[row])} sum to {p[row].sum():.3f}"
    if right.all():
        hint = "the weights sum to 1, but dividing by the sum is not the same as finding τ."
        return None if close(p, wanted, 5e-3) else hint
    if right.any() or (len(p) > 1 and abs(off.mean()) < 5e-3):
        return f"{got}, other rows do better. Every row has its own τ, and its own interval."
    return f"{got}. Does the interval hold τ, and is it halved often enough?"


@exercise([(s,) for s in (SCORES, *normal((1, 3), (6, 9), (2, 2), (2, 1)), TIES)], verdict=sums)
def entmax_15(s: Tensor) -> dict:
    """1.5-entmax by bisection: scores (N, K) in, weights (N, K) out, a threshold for each row."""
    return {
        "The same loop serves every α > 1: exponent 1/(α-1), scores (α-1) s.": entmax(s, 1.5),
        "this is softmax: it has no zeros.": s.softmax(-1),
        "this is sparsemax, of the whole scores and without the square.": entmax(s, 2),
        "they sum to 1, but what stands out above τ must be squared.": entmax(s / 2, 2),
        "the scores are halved before the threshold is taken off.": entmax(2 * s, 1.5),
    }


@exercise([(1.5,), (2.0,), (1.25,), (3.0,), (1.7,)], tolerance=1e-2)
def smallest_lead(alpha: float) -> dict:
    """The lead from which on entmax with α > 1 drops the second of two options."""
    return {
        "For α → 1 the lead grows without bound: softmax never drops anyone.": 1 / (alpha - 1),
        "upside down: the sparser the map, the smaller the lead that it needs.": alpha - 1,
        "the derivative of p^α brings an α, which cancels that of H.": 1 / (alpha * (alpha - 1)),
    }


sparsemax_threshold = number(
    "0.9 and 0.6 stand above it, by 0.65 and 0.35: these are the weights.",
    0.25,
    {
        "for three members τ is 0.233; then the third score, 0.2, has to be above it.": 0.7 / 3,
        "for one member τ is -0.1, and the second score, 0.6, is above that: there is more than one.": -0.1,
        "not all four have a weight: is the smallest score above this τ?": -0.3 / 4,
        "sort the scores first: these are the two that stand first, not the two largest.": 0.05,
        "the weights have to sum to 1: take 1 from the sum before you divide.": 0.75,
    },
    tolerance=0.004,
)

whole_saving = number(
    "Less than half is left, not 2/9 of it: the scorer sees every patch, whatever is chosen.",
    (9 * 4160 + 9 * 9472) / (9 * 4160 + 2 * 9472),
    {
        "that is the saving of the classifier alone; the scorer is a cost, too.": 9 / 2,
        "the dense network pays for its scorer as well: it needs the weights.": 9 * 9472 / (9 * 4160 + 2 * 9472),
        "the scorer sees all nine patches, before it is known which two are kept.": 9 * 9472 / (2 * (4160 + 9472)),
        "that is the share that is left: give its reciprocal.": (9 * 4160 + 2 * 9472) / (9 * 4160 + 9 * 9472),
    },
    tolerance=0.02,
)

inclusion = number(
    "5 of 11. The race has 5/12 for it, a little less: the two laws differ.",
    5 / 11,
    {
        "that is its marginal under the race; the coins go by products.": 5 / 12,
        "that is the probability that it is left out.": 6 / 11,
        "twice its softmax: with one draw more it is not just twice as likely.": 1 / 3,
        "that is how often softmax draws it, if one option is drawn.": 1 / 6,
        "divide by the sum of the products, 6 + 3 + 2.": 5 / 6,
        "that is one of its two subsets; it is in the other one as well.": 3 / 11,
    },
    tolerance=0.005,
)
