"""Checks of the exercises on sparse choices."""

import torch
from torch import Tensor

from lecture_lib.exercises.answers import close, exercise, normal, show
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
