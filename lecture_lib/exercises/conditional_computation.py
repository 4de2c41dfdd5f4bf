"""Checks of the exercises on conditional computation."""

import torch
from torch import Tensor

from lecture_lib.exercises.answers import close, exercise, normal

KEPT = [(0.5, 64, 32), (0.25, 1000, 8), (0.75, 16, 128), (0.125, 8, 1), (1.0, 10, 10)]
ROWS = [3.0, 2.5, 2.0, 1.5, 1.0], [0.5, -1.0, -2.0, 0.2, -3.0], [2.2, 0.1, 0.8, -4.0, -1.5]
SCORES = [(torch.tensor(ROWS), budget) for budget in (0.4, 0.1)]
SCORES += zip(normal((1, 7), (4, 6), (2, 4), (2, 4)), (0.7, 0.55, 1.0, 0.05), strict=True)
SCORES += [(torch.tensor([[1.0, 2.0, 1.0], [1.0, 3.0, 0.0]]), 0.5)]  # of three equals one is kept


@exercise(KEPT, tolerance=1e-5)
def share_left(kept: float, tokens: int, width: int) -> dict:
    """Share of tokens kept, their number and width in; the share of a block's FLOPs left out."""
    whole = 24 * tokens * width**2 + 4 * tokens**2 * width
    left = 24 * kept * tokens * width**2 + 4 * (kept * tokens) ** 2 * width
    return {
        "Between kept and kept²: the longer the sequence, the nearer to the square.": left / whole,
        "it is less than the share of tokens: attention is quadratic in their number.": kept,
        "only attention itself is quadratic; matrix products are linear in the tokens.": kept**2,
        "these are the FLOPs that remain; asked is their share.": left,
        "this is the share that is saved, not the one that remains.": 1 - left / whole,
    }


def best_kept(mask: Tensor, best: Tensor, scores: Tensor, budget: float) -> str | None:
    if not ((mask == 0) | (mask == 1)).all():
        return "the mask should hold True and False (or 1 and 0)."
    kept, wanted = (scores[m > 0].sort().values for m in (mask, best))
    hint = f"you keep {len(kept)} patches; it should be the {len(wanted)} with the highest scores."
    return None if close(kept, wanted) else hint  # of equal scores any may be kept


@exercise(SCORES, verdict=best_kept)
def batch_budget(scores: Tensor, budget: float) -> dict:
    """Scores (B, T) and a budget in; the mask of the batch's best round(budget · B · T) out."""

    def top(scores: Tensor, n: int) -> Tensor:
        best = scores.flatten().sort(descending=True, stable=True).indices[:n]
        return torch.zeros(scores.numel()).index_fill(0, best, 1).view_as(scores)

    size = budget * scores.numel()
    n, each = round(size), round(budget * scores.shape[1])
    right, last = top(scores, n), scores.flatten().sort(descending=True).values[max(n - 1, 0)]
    rows = torch.cat([top(row, each) for row in scores[:, None]])
    return {
        "In the check's first batch one image keeps all patches, one a single, one none.": right,
        "every image keeps as many: the budget is the batch's, and images differ.": rows,
        "these are the patches to discard.": 1 - right,
        "a threshold of 0 keeps what it likes; where must it stand?": scores > 0,
        "so many are to be discarded, not kept.": top(scores, scores.numel() - n),
        "rounded down: 1.5 should become 2.": top(scores, int(size)),
        "of several that equal the threshold all are kept.": (scores >= last) & (n > 0),
    }
