"""Checks of the exercises on sparse choices."""

from collections.abc import Callable

import torch
from torch import Tensor

from lecture_lib.exercises.answers import NotAttempted, Wrong, tensor_of
from lecture_lib.simplex import entmax


def entmax_15(answer: Callable[[Tensor], Tensor]) -> str:
    """1.5-entmax by bisection: scores (N, K) in, weights (N, K) out, a threshold for each row."""
    s = torch.tensor([[1.3, 0.2, 0.7, -0.4], [0.0, 0.1, 0.0, 0.2], [4.0, 1.0, 0.5, 3.1], [7.0, 7.5, 9.0, 7.2]])
    before, wanted = s.clone(), entmax(s, 1.5)
    p = tensor_of(answer(s), (4, 4)).detach()
    if not torch.equal(s, before):
        raise Wrong("the function changed the scores that it was given; work on a copy.")

    def close(other: Tensor) -> bool:
        return torch.allclose(p, other, atol=1e-3)

    if close(wanted):
        return "The same loop serves every α > 1: only the exponent changes, 1/(α-1), and s/2 becomes (α-1) s."
    if close(s.softmax(-1)):
        raise Wrong("this is softmax: it has no zeros.")
    if close(entmax(s, 2)):
        raise Wrong("this is sparsemax, of the whole scores and without the square.")
    if close(entmax(s / 2, 2)):
        raise Wrong("the weights sum to 1, but what stands out above τ must be squared.")
    if close(entmax(2 * s, 1.5)):
        raise Wrong("the scores are halved before the threshold is taken off.")
    wrong = (p.sum(-1) - 1).abs() > 5e-3
    if wrong.any():
        row = int(wrong.nonzero()[0])
        got = f"the weights for the scores [{', '.join(f'{score:g}' for score in s[row])}] sum to {p[row].sum():.3f}"
        if not wrong.all() or abs(p.sum() / len(p) - 1) < 5e-3:
            raise Wrong(f"{got}, other rows do better. Every row has its own τ, and its own interval to look in.")
        raise Wrong(f"{got}. Does the interval hold τ, and is it halved often enough?")
    raise Wrong("the weights sum to 1, but not by a threshold: dividing by the sum is not the same as finding τ.")


def smallest_lead(answer: Callable[[float], float]) -> str:
    """The lead from which on entmax with α > 1 drops the second of two options."""
    for alpha in (1.5, 2.0, 1.25, 3.0):
        lead, right = answer(alpha), 1 / (alpha - 1)
        if lead is None or lead is ...:
            raise NotAttempted
        try:
            lead = float(lead)
        except (TypeError, ValueError):
            raise Wrong(f"the result should be a number, it is {type(lead).__name__}.") from None
        if abs(lead - right) <= 0.01 * right:
            continue
        if alpha < 2 and abs(lead * right - 1) < 0.02:
            raise Wrong("upside down: the sparser the map, the smaller the lead that it needs.")
        if alpha in (1.5, 2.0):
            raise Wrong(f"for α = {alpha:g} you get {lead:.3g}, and the picture of the family shows another lead.")
        raise Wrong(
            f"right for 1.5 and 2, but for α = {alpha:g} you get {lead:.3g}: try entmax with a lead just below."
        )
    return "For α → 1 the lead grows without bound: softmax never drops anyone."
