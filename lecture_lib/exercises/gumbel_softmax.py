"""Checks of the exercises on gumbel softmax."""

import math

import torch
from torch import Tensor, tensor

from lecture_lib.exercises.answers import Answer, Wrong, close, exercise, normal, tensor_of

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
