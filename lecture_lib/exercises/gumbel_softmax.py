"""Checks of the exercises on gumbel softmax."""

import math

import torch
from torch import Tensor, tensor

from lecture_lib.exercises.answers import Answer, Wrong, close, exercise, normal, number, tensor_of

SCORES = tensor([[1.3, 0.2, 0.7, -2.0], [0.4, 5.0, -1.0, 0.5]])
MASKED = [(SCORES, tensor([[True, False, True, True], [False, True, True, False]]))]
MASKED += [(tensor([-3.0, -1.0, -2.0]), tensor([True, False, True])), (SCORES, SCORES < 9)]
MASKED += [(20 * s, s > s.amin(-1, True)) for s in normal((2, 3, 5))]


def odds(given: Tensor, wanted: Tensor, scores: Tensor, allowed: Tensor) -> str | None:
    for t in (1, 30, 100):
        p, q = (s.float().div(t).softmax(-1) for s in (given, wanted))
        if (top := p[~allowed].sum()) > 0:
            return f"at temperature {t} what is forbidden has probability {top:.1e}, not 0."
        if not close(p, q):
            return "the odds among the allowed options change; their scores should stay."
    return None


@exercise(MASKED, verdict=odds)
def forbid(scores: Tensor, allowed: Tensor) -> dict:
    """Scores and a mask of allowed options in, scores that never choose a forbidden one out."""
    right = scores.masked_fill(~allowed, -torch.inf)
    return {
        "exp(-∞) is exactly 0: softmax, Gumbel-Softmax and argmax agree that it is gone.": right,
        "0 · ∞ is a NaN. Select instead of multiplying.": scores + ~allowed * -torch.inf,
        "the mask is the wrong way round.": scores.masked_fill(allowed, -torch.inf),
        "a score of 0 is one like any other: softmax makes it exp(0) = 1.": scores * allowed,
    }


def keep_or_discard(answer: Answer) -> str:
    """A relaxed coin: scores (N,) in, keep (N,) in (0, 1) out, Gumbel-Softmax for k = 2."""
    for low, high, t in ((1, 1, 0.5), (-1, 3, 2.0), (-0.7, -0.7, 1.0)):
        score = torch.linspace(low, high, 20_000, requires_grad=True)
        mine, few, generator = score.clone(), score[:99], torch.Generator().manual_seed(1)
        draws = (answer(s, t, generator) for s in (few.clone(), few.clone(), mine))
        once, later, keep = map(tensor_of, draws)
        again = tensor_of(answer(few.clone(), t, generator.manual_seed(1)))
        if once.shape != few.shape or keep.shape != score.shape:
            raise Wrong(f"the result should be of shape (99,), as score, not {tuple(once.shape)}.")
        slope = torch.autograd.grad(once.sum() + 0 * score.sum(), score)[0][:99].double()
        once, keep, score = once.detach(), keep.detach(), score.detach().double()
        noise = t * keep.logit(eps=1e-12) - score  # logistic, if all is right
        middle, tail = (noise.quantile(q) - math.log(q / (1 - q)) for q in (0.75, 0.98))
        share, fair = (keep > 0.5).double().mean(), score.sigmoid().mean()
        early = t != 1 and abs(share - (score / t).sigmoid().mean()) < 0.015
        drawn = torch.equal(once, again) and not torch.equal(once, later)
        gradient = torch.allclose(slope, once * (1 - once) / t, atol=2e-3)
        got = f"keep > 1/2 in {share:.0%} of the draws, not in {fair:.0%}"
        for wrong, hint in (
            (not torch.equal(mine, score.float()), "the function changed its scores: copy them."),
            (not slope.any(), "no gradient reaches the score: a comparison or argmax cut it off."),
            (not ((keep >= 0) & (keep <= 1)).all(), "keep should lie between 0 and 1."),
            ((keep - 0.5).abs().min() > 0.49999, "that is a decision; the relaxed lies between."),
            (noise.std() < 1e-3, "every draw is the same: where is the noise? One for each score."),
            (not drawn, "the noise does not come from the generator that was given."),
            (early, "the temperature divides the noisy score: the noise as well."),
            (abs(share + fair - 1) < 0.015, "the higher the score, the more is kept, not less."),
            (abs(share - fair) > 0.015, f"{got}: the noise is the difference of two Gumbels."),
            (abs(middle) > 0.08, "the coin is fair. How does the temperature enter?"),
            (t >= 1 and abs(tail) > 0.25, "the tails of the noise are not those of two Gumbels."),
            (not gradient, "the values are right, their gradient is not: is a part detached?"),
        ):
            if wrong:
                raise Wrong(hint)
    return "The difference of two Gumbels is logistic: two-way Gumbel-Softmax is a noisy sigmoid."


surely = number(
    "Above 0.9 in half of the draws: at λ = 1/2 a lead of log 3 is cancelled by λ log 9 = log 3.",
    0.5,
    {
        "that is how often the first entry is the larger one; it should also be above 0.9.": 0.75,
        "that is the answer at temperature 1. Where does λ enter?": 0.25,
        "λ divides the noisy lead, so it multiplies log 9: λ log 9, not log 9 / λ.": 1 / 28,
        "the scores are log 3 and 0: the first option leads, the second does not.": 0.1,
        "that is the share of the draws in which the first entry is *not* the larger one.": 0.75 / 3,
    },
)

ERRORS = [(0.3, 2.0, 1), (0.3, 2.0, 100), (0.0, 1.5, 9), (0.4, 0.0, 5), (1.0, 3.0, 4)]


@exercise(ERRORS)
def mean_error(bias: float, spread: float, n: int) -> dict:
    """Bias and spread (standard deviation) of one estimate in, root mean square error of the mean of n out."""
    right = math.sqrt(bias**2 + spread**2 / n)
    return {
        "The mean of more estimates is less noisy, and as biased: with many samples, go colder.": right,
        "the variance of a mean of n is the variance of one, divided by n.": math.hypot(bias, spread),
        "the spread falls with the root of n: it is the variance that is divided by n.": math.hypot(bias, spread / n),
        "squares are added, not the numbers: bias and noise are independent errors.": bias + spread / math.sqrt(n),
        "the root is missing: this is the mean *square* error.": right**2,
        "averaging does not change the bias.": math.hypot(bias, spread) / math.sqrt(n),
    }


def fooled(answer: Answer) -> str:
    """A smooth cost (N, 3) -> (N,) for which some mixture is better than every option, by 1 at least."""
    counts = [(i, j, 60 - i - j) for i in range(61) for j in range(61 - i)]
    grid, corners = torch.tensor(counts) / 60, torch.eye(3)
    mine = corners.clone(), grid.clone()
    at_corners, inside = (tensor_of(answer(z), "one cost for each row of z").detach() for z in mine)
    if at_corners.shape != (3,) or inside.shape != (len(grid),):
        raise Wrong(f"it should be of shape (N,), and is {tuple(at_corners.shape)} for z of shape (3, 3).")
    gap = at_corners.min() - inside.min()
    neighbours = {one: k for k, one in enumerate(counts)}
    pairs = [(k, neighbours[i - 1, j + 1, m]) for (i, j, m), k in neighbours.items() if i]
    pairs += [(k, neighbours[i - 1, j, m + 1]) for (i, j, m), k in neighbours.items() if i]
    jump = (inside[[a for a, _ in pairs]] - inside[[b for _, b in pairs]]).abs().max()
    for wrong, hint in (
        (not (torch.equal(mine[0], corners) and torch.equal(mine[1], grid)), "the function changed z: copy it."),
        (not (at_corners.isfinite().all() and inside.isfinite().all()), "a cost is not finite."),
        (gap <= 0, "the best cost is at a corner: there the relaxed problem and yours agree."),
        (jump > 0.25 * (inside.max() - inside.min()), "it jumps: a relaxation needs a smooth cost."),
        (gap < 1, f"the best mixture is better than the best option by {gap:.2f} only, not by 1."),
    ):
        if wrong:
            raise Wrong(hint)
    return "A learner of z would be pleased with a mixture that nobody can choose: the gap is what you pay later."
