"""Checks of the exercises on mixture of experts."""

import math

import torch
from torch import Tensor

from lecture_lib.exercises.answers import Answer, Wrong, exercise, normal, number, show, tensor_of

LOADS = [(12, 4, 4), (30, 6, 7), (5, 3, 0), (4, 1, 3), (8, 2, 8), (1, 5, 1), (100, 8, 15)]
SCORES = [s + torch.arange(s.shape[1]) for s in normal((40, 4), (9, 1), (17, 3), (5, 8), (1, 6))]
SCORES += [torch.tensor([[0.0, 90.0], [0.0, 80.0]]), torch.zeros(6, 5)]  # the loss is E, and 1


@exercise([(scores,) for scores in SCORES])
def loss(scores: Tensor) -> dict:
    n, e = scores.shape
    best, p = torch.nn.functional.one_hot(scores.argmax(-1), e).float(), scores.softmax(-1)
    load, mean = best.mean(0), p.mean(0)
    own, other = (best * p).mean(0), scores.softmax(0).mean(0)
    right = e * (load * mean).sum()
    return {
        "∂L/∂π̄_e is E · ℓ_e: the busier the expert, the harder its probability is pushed down.": right,
        "with equal probabilities it gives 1/E, it should give 1.": right / e,
        "a mean over the experts, where a sum is meant; and E is missing.": right / e**2,
        "tokens are summed, where a share or a mean is meant: it grows with N.": n * right,
        "ℓ_e counts the tokens that *go* to an expert; this has the mean probability twice.": e * (mean * mean).sum(),
        "this has the share of the tokens twice; π̄_e is a probability.": e * (load * load).sum(),
        "π̄_e is a mean over all tokens, not only over those that chose e.": e * (load * own).sum(),
        "each token's own choice and probability are multiplied; take both means first.": e * own.sum(),
        "softmax over the experts, not over the tokens.": e * (load * other).sum(),
        "π̄_e is a mean of probabilities, not of scores.": e * (load * scores.mean(0)).sum(),
    }


def balance_loss(answer: Answer) -> str:
    """Scores (N, E) in, the balance loss out: E · Σ ℓ_e π̄_e, its gradient through π̄ alone."""
    praise = loss(answer)
    for scores in (SCORES[i].clone().requires_grad_() for i in (0, 2)):
        losses = tensor_of(answer(scores.clone())).sum(), loss.__wrapped__(scores)[praise]
        slope, wanted = (torch.autograd.grad(y + 0 * scores.sum(), scores)[0] for y in losses)
        if not slope.any():
            raise Wrong("the value is right, but no gradient reaches the scores through π̄.")
        if not torch.allclose(slope, wanted, atol=1e-6):
            raise Wrong("the value is right, its gradient is not: ℓ is a count, and a constant.")
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


half_loads = number(
    "The two idle experts have a fifth of the probability, so the loss is 1.6 and not 2.",
    1.6,
    {
        "E is missing: with equal loads this formula would give 1/4.": 0.4,
        "a sum over the experts, not a mean.": 0.1,
        "that has the load twice, E · Σ ℓ_e²; one of the two is the mean probability.": 2.0,
        "that has the mean probability twice.": 1.36,
        "experts 0 and 1 both count.": 0.8,
        "that is the loss of a collapse to one expert of probability 1.": 4.0,
    },
    tolerance=0.005,
)

read_the_loss = number(
    "Loads differ from the mean by 55 % of it: with a capacity factor of 1.25, some experts overflow.",
    math.sqrt(0.3),
    {
        "that is the squared coefficient of variation.": 0.3,
        "a loss of 1 is equal loads: what is above 1 counts.": math.sqrt(1.3),
        "that is the standard deviation; divide it by the mean load, 1/16.": math.sqrt(0.3) / 16,
        "that is the variance of the loads; take its root, then divide by the mean.": 0.3 / 16**2,
        "E · Σ ℓ_e² - 1 = CV² already: E does not enter again.": math.sqrt(0.3 / 16),
        "E · Σ ℓ_e² - 1 = CV² already: E does not enter it again.": math.sqrt(0.3 * 16),
    },
)

equal_cost = number(
    "5,120 FLOPs: a dense layer of 40 hidden units. Four fifths of what is paid goes to the router.",
    40,
    {
        "that is one expert: the router costs something, too.": 8,
        "that is a layer with the *weights* of all experts; a token runs one of them.": 512,
        "those are the weights of all experts and of the router; a token runs one expert.": 544,
        "a matrix costs 2 FLOPs for each of its weights: the router has one matrix, the layer two.": 72,
        "that is the router alone; the expert costs as well.": 32,
        "the dense layer has two matrices, as an expert has.": 80,
    },
    tolerance=0.4,
)


def below_one(answer: Answer) -> str:
    """N and E in, scores (N, E) out: three in four tokens go to one expert, and the balance loss is below 0.9."""
    for n, e in ((40, 4), (24, 2), (105, 8), (45, 5)):
        what, start = f"a tensor of shape ({n}, {e})", f"for N = {n} and E = {e}"
        s = tensor_of(answer(n, e), what).detach()
        if s.shape != (n, e):
            raise Wrong(f"{start} it should be {what}, not of {tuple(s.shape)}.")
        if not s.isfinite().all():
            raise Wrong(f"{start} a score is not finite.")
        load, p = s.argmax(-1).bincount(minlength=e) / n, s.softmax(-1).mean(0)
        value, busiest = e * (load * p).sum().item(), load.max().item()
        if busiest < 0.75:
            raise Wrong(f"{start} the busiest expert has {busiest:.0%} of the tokens, not 75 %.")
        if value >= 0.9:
            hint = "who is chosen by a small lead has little probability; who is chosen by a large one, much."
            raise Wrong(f"{start} the balance loss is {show(value)}, not below 0.9: {hint}")
    return "A loss below 1, and one expert has most of the tokens: 1 is no minimum, and no proof of balance."
