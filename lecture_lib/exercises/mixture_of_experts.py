"""Checks of the exercises on mixture of experts."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lecture_lib.exercises.answers import NotAttempted, Wrong, tensor_of


def balance_loss(answer: Callable[[Tensor], Tensor]) -> str:
    """Scores (N, E) in, the balance loss of Switch transformers out: E · Σ f_e P_e, its gradient through P alone."""
    scores = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)).add(torch.tensor([1.0, 0.0, 0.0, 0.5]))
    scores = scores.requires_grad_()
    loss = tensor_of(answer(scores), ())
    f, p = torch.nn.functional.one_hot(scores.argmax(-1), 4).float(), scores.softmax(-1)
    right = 4 * (f.mean(0) * p.mean(0)).sum()
    mistakes = {
        (f.mean(0) * p.mean(0)).sum(): "with equal probabilities it gives 1/E, it should give 1.",
        right / 16: "a mean over the experts, where a sum is meant; and E is missing.",
        40 * right: "tokens are counted, or summed, where a share or a mean is meant: it grows with N.",
        4 * (p.mean(0) ** 2).sum(): "f counts the tokens that *go* to an expert; this has the mean probability twice.",
        4 * (f.mean(0) ** 2).sum(): "this has the share of the tokens twice; P is the mean probability.",
        4 * (f.mean(0) * (f * p).mean(0)).sum(): "P is a mean over all tokens, not only over those that chose e.",
        4 * (f * p).sum(-1).mean(): "each token's own f and p are multiplied; take both means first, then multiply.",
        4 * (f.mean(0) * scores.softmax(0).mean(0)).sum(): "softmax over the experts, not over the tokens.",
        4 * (f.mean(0) * scores.mean(0)).sum(): "P is a mean of probabilities, not of scores.",
    }
    for wrong, hint in mistakes.items():
        if torch.isclose(loss, wrong, rtol=1e-4):
            raise Wrong(hint)
    if not torch.isclose(loss, right, rtol=1e-4):
        raise Wrong(f"for the check's scores it should be {right.item():.3f}, it is {loss.item():.3f}.")
    if not loss.requires_grad:
        raise Wrong("the value is right, but no gradient reaches the scores: P must stay attached to them.")
    slope, wanted = (torch.autograd.grad(value, scores)[0] for value in (loss, right))
    if not torch.allclose(slope, wanted, atol=1e-6):
        raise Wrong("the value is right, its gradient is not: f is a count, and a constant for the gradient.")
    return "The busiest experts have the largest f, so their probability is pushed down hardest."


def dropped_by_chance(answer: Callable[[int, int, int], float]) -> str:
    """N tokens draw one of E experts with room for C each: the expected share of the tokens that finds no room."""

    def chances(n: int, e: int) -> list[float]:
        return [math.comb(n, m) * (1 / e) ** m * (1 - 1 / e) ** (n - m) for m in range(n + 1)]

    def share(n: int, e: int, room: int) -> float:
        return e * sum(max(m - room, 0) * q for m, q in enumerate(chances(n, e))) / n

    n, e, room = 12, 4, 4
    given = answer(n, e, room)
    if given is None or given is ...:
        raise NotAttempted
    try:
        given = float(given)
    except (TypeError, ValueError):
        raise Wrong(f"the result should be a number, it is {type(given).__name__}.") from None
    q, right = chances(n, e), share(n, e, room)
    mistakes = {
        0.0: "on average an expert gets 3 tokens and has room for 4, and yet some are dropped: the mean of the overflow"
        " is not the overflow of the mean.",
        right / e: "that is what one expert drops; there are E of them.",
        right * n: "that is a number of tokens; which share of N is it?",
        right * n / e: "that is the number of tokens that one expert drops.",
        sum(q[room + 1 :]): "that is the chance that an expert overflows. By how many tokens?",
        sum(q[room:]): "that is the chance that an expert is full. By how many tokens does it overflow?",
        share(n, e, room - 1): "an expert has room for C tokens, not for C - 1.",
        e * sum(m * q[m] for m in range(room + 1, n + 1)) / n: "an expert that overflows keeps C of its tokens.",
    }
    for wrong, hint in mistakes.items():
        if math.isclose(given, wrong, rel_tol=1e-4, abs_tol=1e-9):
            raise Wrong(hint)
    if not math.isclose(given, right, rel_tol=1e-4):
        raise Wrong(f"for 12 tokens, 4 experts and room for 4, it should be {right:.4f}, it is {given:.4f}.")
    n, e, room = 30, 6, 7
    if not math.isclose(float(answer(n, e, room)), share(n, e, room), rel_tol=1e-4):
        raise Wrong("right for 12 tokens and 4 experts, not for 30 and 6: which number should be a name?")
    return "With few tokens for each expert chance alone overfills some, though there is room for a third more."
