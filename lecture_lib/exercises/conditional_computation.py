"""Checks of the exercises on conditional computation."""

import torch
from torch import Tensor

from lecture_lib.exercises.answers import close, exercise, normal, number

ROWS = [3.0, 2.5, 2.0, 1.5, 1.0], [0.5, -1.0, -2.0, 0.2, -3.0], [2.2, 0.1, 0.8, -4.0, -1.5]
SCORES = [(torch.tensor(ROWS), budget) for budget in (0.4, 0.1)]
SCORES += zip(normal((1, 7), (4, 6), (2, 4), (2, 4)), (0.7, 0.55, 1.0, 0.05), strict=True)
SCORES += [(torch.tensor([[1.0, 2.0, 1.0], [1.0, 3.0, 0.0]]), 0.5)]  # of three equals one is kept


share_left = number(
    "44 %: a quarter of attention itself is left, and a half of the rest.",
    0.4375,
    {
        "attention is quadratic in the tokens: less than a half is left.": 0.5,
        "only attention itself is quadratic; the first part is linear in the tokens.": 0.25,
        "that is the share that is saved, not the one that is left.": 0.5625,
        "these are the FLOPs that are left; asked is their share.": 917504,
        "the formula has n once in its first part, and n² in its second: put in n = 32 and n = 64, and divide.": 0.375,
    },
    tolerance=0.002,
)


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


equal_training = number(
    "2,200: the same training bill buys the small network four times the steps.",
    2200,
    {
        "equal steps are not equal FLOPs: a step of the small network costs a quarter.": 550,
        "the steps after the 400 cost as much as the others: masked training computes every patch.": 1780,
        "the 150 steps with a mask count as well.": 1600,
        "the small network is cheaper a step, so it gets more steps, not fewer.": 137.5,
        "that gives the 150 steps a bill of 30 %; the mask multiplies by zero, and saves nothing.": 1780.5,
    },
    tolerance=0.25,
)

three_losses = number(
    "0.02, of two targets that are missed by 0.1. The blocks meet theirs in the mean, and nobody asks more.",
    0.02,
    {
        "the distances are squared.": 0.2,
        "the class token is always kept: it is left out of the mean.": 0.02526,
        "only the patches: add the three.": 0.01,
        "0.1 too many patches do not pay for 0.1 too few heads: square first, then add.": 0,
        "that is the mean of the three; they are added.": 0.00667,
        "that is the square of the sum of the distances, one budget for all.": 0.04,
    },
    tolerance=0.00005,
)

break_even = number(
    "0.2: what is skipped has to pay for the moves first, 2 ms by assumption.",
    0.2,
    {
        "that is where skipping costs as much as the products that are left.": 0.8,
        "the moves take 2 ms whatever is skipped: which share of 10 ms is that?": 2,
        "any share saves FLOPs; asked is the clock, and the moves are on it.": 0,
        "that is where the saving is one half of the time.": 0.5,
        "that is where the clock shows 10 % less, not where it begins to.": 0.3,
    },
    tolerance=0.005,
)
