"""Checks of the exercises on mixture of experts."""

import math

import torch
from torch import Tensor

from lecture_lib.exercises.answers import Answer, Wrong, exercise, normal, tensor_of

LOADS = [(12, 4, 4), (30, 6, 7), (5, 3, 0), (4, 1, 3), (8, 2, 8), (1, 5, 1), (100, 8, 15)]
SCORES = [s + torch.arange(s.shape[1]) for s in normal((40, 4), (9, 1), (17, 3), (5, 8), (1, 6))]
SCORES += [torch.tensor([[0.0, 90.0], [0.0, 80.0]]), torch.zeros(6, 5)]  # the loss is E, and 1


@exercise([(scores,) for scores in SCORES])
def loss(scores: Tensor) -> dict:
    n, e = scores.shape
    best, p = torch.nn.functional.one_hot(scores.argmax(-1), e).float(), scores.softmax(-1)
    f, P, own, other = best.mean(0), p.mean(0), (best * p).mean(0), scores.softmax(0).mean(0)
    right = e * (f * P).sum()
    return {
        "∂/∂P_e is E · f_e: the busier the expert, the harder P_e is pushed down.": right,
        "with equal probabilities it gives 1/E, it should give 1.": right / e,
        "a mean over the experts, where a sum is meant; and E is missing.": right / e**2,
        "tokens are summed, where a share or a mean is meant: it grows with N.": n * right,
        "f counts the tokens that *go* to an expert; this has the mean P twice.": e * (P * P).sum(),
        "this has the share of the tokens twice; P is a probability.": e * (f * f).sum(),
        "P is a mean over all tokens, not only over those that chose e.": e * (f * own).sum(),
        "each token's own f and p are multiplied; take both means first.": e * own.sum(),
        "softmax over the experts, not over the tokens.": e * (f * other).sum(),
        "P is a mean of probabilities, not of scores.": e * (f * scores.mean(0)).sum(),
    }


def balance_loss(answer: Answer) -> str:
    """Scores (N, E) in, the balance loss out: E · Σ f_e P_e, its gradient through P alone."""
    praise = loss(answer)
    for scores in (SCORES[i].clone().requires_grad_() for i in (0, 2)):
        losses = tensor_of(answer(scores.clone())).sum(), loss.__wrapped__(scores)[praise]
        slope, wanted = (torch.autograd.grad(y + 0 * scores.sum(), scores)[0] for y in losses)
        if not slope.any():
            raise Wrong("the value is right, but no gradient reaches the scores through P.")
        if not torch.allclose(slope, wanted, atol=1e-6):
            raise Wrong("the value is right, its gradient is not: f is a count, and a constant.")
    return praise


@exercise(LOADS, tolerance=1e-5)
def dropped_by_chance(n_tokens: int, n_experts: int, room: int) -> dict:
    """N tokens draw one of E experts with room for C each: the mean share that finds no room."""
    n, e, loads = n_tokens, n_experts, range(n_tokens + 1)
    q = [math.comb(n, m) * (1 / e) ** m * (1 - 1 / e) ** (n - m) for m in loads]
    one, full = sum((m - room) * q[m] for m in loads[room:]), sum(q[room:])
    right, over, mean = e * one / n, sum(q[room + 1 :]), max(n - e * room, 0) / n
    return {
        "Of 12 tokens for 4 experts with room for 4, 8 % are dropped by chance.": right,
        "the mean of the overflow is not the overflow of the mean load.": mean,
        "that is what one expert drops; there are E of them.": one / n,
        "that is a number of tokens; which share of N is it?": e * one,
        "that is the number of tokens that one expert drops.": one,
        "that is the chance that an expert overflows. By how many tokens?": over,
        "that is the chance that an expert is full. By how many does it overflow?": full,
        "an expert has room for C tokens, not for C - 1.": e * (one + full) / n,
        "an expert that overflows keeps C of its tokens.": e * (one + room * over) / n,
    }
