"""Checks of the exercises on conditional computation."""

from collections.abc import Callable

import torch
from torch import Tensor

from lecture_lib.exercises.answers import NotAttempted, Wrong, tensor_of


def share_left(answer: Callable[[float, int, int], float]) -> str:
    """Share of tokens kept, their number and width in; the share of a block's FLOPs that remains out."""
    share = answer(0.5, 64, 32)
    if share is None or share is ...:
        raise NotAttempted
    try:
        share = float(share)
    except (TypeError, ValueError):
        raise Wrong(f"the result should be a number, it is {type(share).__name__}.") from None
    linear, square = 24 * 64 * 32**2, 4 * 64**2 * 32
    right = (linear / 2 + square / 4) / (linear + square)
    if abs(share - 0.5) < 1e-6:
        raise Wrong("half of the tokens cost less than half: attention is quadratic in their number.")
    if abs(share - 0.25) < 1e-6:
        raise Wrong("only attention itself is quadratic; the matrix products are linear in the tokens.")
    if abs(share - (linear / 2 + square / 4)) < 1:
        raise Wrong("these are the FLOPs that remain; asked is their share.")
    if abs(share - (1 - right)) < 1e-6:
        raise Wrong("this is the share that is saved, not the one that remains.")
    if abs(share - (linear / 2 + square / 2) / (linear + square)) < 1e-6 or not abs(share - right) <= 1e-6:
        raise Wrong(f"for half of 64 tokens of width 32 you get {share:.4g}. Put kept · tokens where n stands.")
    if not abs(answer(0.25, 1000, 8) - (24 * 250 * 64 + 4 * 250**2 * 8) / (24 * 1000 * 64 + 4 * 1000**2 * 8)) <= 1e-6:
        raise Wrong("right for half of 64 tokens, not for a quarter of 1,000: which number should be a name?")
    return "Between kept and kept²: the longer the sequence, the nearer to the square."


def batch_budget(answer: Callable[[Tensor, float], Tensor]) -> str:
    """Scores (B, T) and a budget in; the mask of the best round(budget · B · T) of the whole batch out."""
    scores = torch.tensor([[3.0, 2.5, 2.0, 1.5, 1.0], [0.5, -1.0, -2.0, 0.2, -3.0], [2.2, 0.1, 0.8, -4.0, -1.5]])
    before = scores.clone()
    mask = tensor_of(answer(scores, 0.4), (3, 5))
    if not torch.equal(scores, before):
        raise Wrong("the function changed the scores that it was given; return a mask.")
    if mask.unique().numel() > 2 or not set(mask.double().unique().tolist()) <= {0.0, 1.0}:
        raise Wrong("the mask should hold True and False (or 1 and 0).")
    mask = mask.bool()
    best = torch.zeros(15, dtype=torch.bool).index_fill(0, before.flatten().topk(6).indices, True).view(3, 5)
    if torch.equal(mask, best):
        few = tensor_of(answer(before.clone(), 0.1), (3, 5)).bool().sum().item()
        if few != 2:
            raise Wrong(f"right for 40 %, but of 15 patches 10 % are round(1.5) = 2, and you keep {few}.")
        return "One image keeps all five, one a single patch, one none: that is what a top-k per image cannot do."
    per_image = torch.zeros(3, 5, dtype=torch.bool).scatter(1, before.topk(2).indices, True)
    if torch.equal(mask, per_image):
        raise Wrong("every image keeps two: the budget is the batch's, and the second image needs less than the first.")
    if torch.equal(mask, ~best):
        raise Wrong("these are the patches to discard.")
    if torch.equal(mask, before > 0):
        raise Wrong("a threshold of 0 keeps what it likes; where must it stand so that the budget is met?")
    if int(mask.sum()) == 9:
        raise Wrong("nine are kept: that is the share to discard.")
    raise Wrong(f"{int(mask.sum())} of 15 are kept, it should be the best 6.")
