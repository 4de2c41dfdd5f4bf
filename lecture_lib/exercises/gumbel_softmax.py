"""Checks of the exercises on gumbel softmax."""

from collections.abc import Callable

import torch
from torch import Tensor

from lecture_lib.exercises.answers import Wrong, tensor_of


def forbid(answer: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Scores and a mask of allowed options in, scores out that never choose a forbidden one."""
    logits = torch.tensor([[1.3, 0.2, 0.7, -2.0], [0.4, 5.0, -1.0, 0.5]])
    allowed = torch.tensor([[True, False, True, True], [False, True, True, False]])
    before = logits.clone()
    scores = tensor_of(answer(logits, allowed), (2, 4))
    if not torch.equal(logits, before):
        raise Wrong("the function changed the scores that it was given; return new ones.")
    if scores.isnan().any():
        raise Wrong("there is a NaN: 0 · ∞ is not a number. Select instead of multiplying.")
    p = scores.softmax(-1)
    if (scores[~allowed] == 0).any():
        raise Wrong("a score of 0 is a score like any other: softmax turns it into exp(0) = 1.")
    if (p[allowed] == 0).any():
        raise Wrong("an allowed option has probability 0: is the mask the wrong way round?")
    if (p[~allowed] > 0).any():
        raise Wrong(
            f"a forbidden option still has probability {p[~allowed].max():.1e}. Which score gives exactly zero?"
        )
    odds = torch.where(allowed, before.exp(), 0)
    if not torch.allclose(p, odds / odds.sum(-1, keepdim=True)):
        raise Wrong("the odds among the allowed options have changed; their scores should stay as they are.")
    return "exp(-∞) is exactly 0, so softmax, Gumbel-Softmax and argmax all agree that the option is gone."


def keep_or_discard(answer: Callable[[Tensor, float, torch.Generator], Tensor]) -> str:
    """A relaxed coin: scores (N,) in, keep (N,) in (0, 1) out, the case k = 2 of Gumbel-Softmax in one number."""
    score, temperature, n = 1.0, 0.5, 20_000
    logits = torch.full((n,), score, requires_grad=True)
    keep = tensor_of(answer(logits, temperature, torch.Generator().manual_seed(0)), (n,))
    if not keep.requires_grad:
        raise Wrong("no gradient reaches the score: a comparison or an argmax cut it off.")
    keep = keep.detach().double()
    if not ((keep >= 0) & (keep <= 1)).all():
        raise Wrong("keep should lie between 0 and 1.")
    if keep.std() < 1e-6:
        raise Wrong("every draw is the same: where is the noise?")
    share, wanted = (keep > 0.5).double().mean().item(), torch.tensor(score).sigmoid().item()
    if abs(share - torch.tensor(score / temperature).sigmoid().item()) < 0.015:
        raise Wrong("the temperature divides the noisy score: the noise as well.")
    if abs(share - wanted) > 0.015:
        raise Wrong(
            f"keep > 1/2 in {share:.0%} of the draws, it should be sigmoid(1) = {wanted:.0%}. Two options have two"
            " Gumbels; what matters is their difference."
        )
    noise = temperature * keep.logit(eps=1e-12) - score  # what was added, if all is right: logistic, quartiles ± log 3
    if abs(noise.quantile(0.75) - 1.0986) > 0.08:
        raise Wrong("the coin is fair, its sharpness is not: how does the temperature enter?")
    return "The difference of two Gumbels is logistic, so two-way Gumbel-Softmax is a noisy sigmoid."
