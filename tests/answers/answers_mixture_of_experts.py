"""Wrong and right answers to the exercises of notebook 08."""

import math
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F


def best(scores):
    """One-hot of the best expert."""
    return F.one_hot(scores.argmax(-1), scores.shape[-1]).float()


def shares(scores):
    return best(scores).mean(0)


def four_experts(scores):
    chosen = scores.argmax(-1)[:, None] == torch.arange(4)
    return 4 * (chosen.float().mean(0) * scores.softmax(-1).mean(0)).sum()


def by_pairs(scores):
    """The mean over all pairs of tokens of the probability that one gives to the other's choice."""
    return scores.shape[1] * scores.softmax(-1)[:, scores.argmax(-1)].mean()


def in_place(scores):
    choice = scores.argmax(-1)
    p = scores.sub_(1).softmax(-1).mean(0, keepdim=True)
    return p @ choice.bincount(minlength=p.shape[1])[:, None].float() * p.shape[1] / len(choice)


def expert_by_expert(scores):
    n, e = scores.shape
    top = scores.max(-1).indices
    return [sum((top == i).sum() / n * F.softmax(scores, 1)[:, i].mean() for i in range(e)) * e]


def binomial(n, e, value):
    """The mean of value(load) over the loads of one of e experts."""
    return sum(value(m) * math.comb(n, m) * (1 / e) ** m * (1 - 1 / e) ** (n - m) for m in range(n + 1))


def dropped(n, e, room):
    return e * binomial(n, e, lambda m: max(m - room, 0)) / n


def exactly(n, e, room):
    loads = range(room, n + 1)
    return sum(Fraction((m - room) * math.comb(n, m) * (e - 1) ** (n - m), e ** (n - 1) * n) for m in loads)


def token_by_token(n, e, room):
    """Each token in turn finds its expert full or not."""
    load = np.zeros(n + 1)
    load[0], lost = 1.0, 0.0
    for _ in range(n):
        lost += load[room:].sum()
        load[1:], load[0] = load[1:] * (1 - 1 / e) + load[:-1] / e, load[0] * (1 - 1 / e)
    return torch.tensor(lost / n)


def kept_instead(n, e, room):
    return 1 - np.float64(e / n * binomial(n, e, lambda m: min(m, room)))


def few_are_sure(n, e):
    """Three in four tokens have hardly a preference, the others are sure of one of the other experts."""
    scores = torch.zeros(n, e)
    scores[:, 0] = 0.01
    sure = range(0, n // 4)
    scores[list(sure), [1 + i % (e - 1) for i in sure]] = 20.0
    return scores


def without_torch(n, e):
    rows = [[1.0] + [0.9] * (e - 1) for _ in range(n - n // 4)]
    return rows + [[-9.0 if j != 1 + i % (e - 1) else 9.0 for j in range(e)] for i in range(n // 4)]


WRONG = {
    "half_loads": {
        "without E": (0.4, "E is missing"),
        "a mean": (0.1, "not a mean"),
        "the load twice": (2, "the load twice"),
        "the probability twice": (torch.tensor(1.36), "probability twice"),
        "one expert": (0.8, "both count"),
        "collapsed": (4.0, "collapse to one expert"),
        "something else": (1.5, "should not be 1.5"),
        "two numbers": ([1.6, 1.6], "shape (2,)"),
        "a function": (lambda: 1.6, "hand over a number"),
    },
    "read_the_loss": {
        "squared": (0.3, "squared coefficient"),
        "of 1.3": (1.3**0.5, "what is above 1 counts"),
        "not over the mean": (0.3**0.5 / 16, "divide it by the mean"),
        "with E": ((0.3 / 16) ** 0.5, "E does not enter again"),
        "times E": ((0.3 * 16) ** 0.5, "E does not enter it again"),
        "something else": (0.7, "should not be 0.7"),
        "a text": ("bad", "one number, it is str"),
    },
    "equal_cost": {
        "one expert": (8, "the router costs"),
        "equal weights": (512, "a token runs one of them"),
        "equal weights and the router": (np.int64(544), "a token runs one expert"),
        "the router as two matrices": (72, "the router has one matrix"),
        "the router alone": (32, "the expert costs"),
        "one matrix": (80, "two matrices"),
        "something else": (64, "should not be 64"),
    },
    "below_one": {
        "equal loads": (lambda n, e: torch.eye(e).repeat(n, 1)[:n], "has 25% of the tokens"),
        "collapsed": (lambda n, e: 50.0 * torch.eye(e)[:1].repeat(n, 1), "is 4, not below 0.9"),
        "no preference": (lambda n, e: torch.zeros(n, e), "is 1, not below 0.9"),
        "hardly a preference": (lambda n, e: 0.01 * torch.eye(e)[[1] * n], "not below 0.9"),
        "all others to one": (lambda n, e: torch.eye(e)[[0] * (n - n // 4) + [1] * (n // 4)] * 9, "not below 0.9"),
        "the wrong shape": (lambda n, e: few_are_sure(n, e).T, "should be a tensor of shape (40, 4), not of (4, 40)"),
        "always four": (lambda n, e: few_are_sure(n, 4), "shape (24, 2)"),
        "infinite": (lambda n, e: few_are_sure(n, e).masked_fill(few_are_sure(n, e) == 0, -math.inf), "not finite"),
        "a number": (lambda n, e: 0.89, "a tensor of shape (40, 4)"),
    },
    "balance_loss": {
        "without E": (lambda s: (shares(s) * s.softmax(-1).mean(0)).sum(), "it gives 1/E"),
        "a mean instead of a sum": (lambda s: (shares(s) * s.softmax(-1).mean(0)).mean(), "where a sum is meant"),
        "counts": (lambda s: 4 * (len(s) * shares(s) * s.softmax(-1).mean(0)).sum(), "it grows with N"),
        "probabilities twice": (lambda s: 4 * (s.softmax(-1).mean(0) ** 2).sum(), "the mean probability twice"),
        "shares twice": (lambda s: 4 * (shares(s) ** 2).sum() + 0 * s.sum(), "the share of the tokens twice"),
        "P of the chosen": (
            lambda s: 4 * (shares(s) * (best(s) * s.softmax(-1)).mean(0)).sum(),
            "not only over those that chose",
        ),
        "token by token": (lambda s: 4 * (best(s) * s.softmax(-1)).sum(-1).mean(), "take both means first"),
        "over the tokens": (lambda s: 4 * (shares(s) * s.softmax(0).mean(0)).sum(), "over the experts"),
        "scores": (lambda s: 4 * (shares(s) * s.mean(0)).sum(), "not of scores"),
        "E is always 4": (four_experts, "should be 1, it is 4"),
        "detached": (lambda s: by_pairs(s).detach(), "no gradient reaches"),
        "a number": (lambda s: by_pairs(s).item(), "no gradient reaches"),
        "straight-through shares": (
            lambda s: by_pairs(s) + s.shape[1] * ((s.mean(0) - s.mean(0).detach()) * s.softmax(-1).mean(0)).sum(),
            "its gradient is not",
        ),
        "CV²": (lambda s: s.softmax(-1).sum(0).var() / s.softmax(-1).sum(0).mean() ** 2, "should be"),
        "a vector": (lambda s: 4 * shares(s) * s.softmax(-1).mean(0), "should be one number, not of (4,)"),
    },
    "dropped_by_chance": {
        "overflow of the mean": (lambda n, e, c: max(n / e - c, 0) * e / n, "not the overflow of the mean"),
        "one expert": (lambda n, e, c: dropped(n, e, c) / e, "there are E of them"),
        "tokens": (lambda n, e, c: dropped(n, e, c) * n, "which share of N"),
        "tokens of one expert": (lambda n, e, c: dropped(n, e, c) * n / e, "tokens that one expert drops"),
        "chance of overflow": (lambda n, e, c: binomial(n, e, lambda m: m > c), "the chance that an expert overflows"),
        "chance to be full": (lambda n, e, c: binomial(n, e, lambda m: m >= c), "the chance that an expert is full"),
        "off by one": (lambda n, e, c: dropped(n, e, c - 1), "not for C - 1"),
        "all of them": (lambda n, e, c: e / n * binomial(n, e, lambda m: m * (m > c)), "keeps C of its tokens"),
        "one case": (lambda n, e, c: dropped(12, 4, 4), "but for n_tokens = 30, n_experts = 6, room = 7"),
        "more room than one": (lambda n, e, c: dropped(n, e, max(c, 1)), "n_tokens = 5, n_experts = 3, room = 0"),
        "no chance to stay away": (
            lambda n, e, c: e / n * sum((m - c) * math.comb(n, m) / e**m for m in range(c + 1, n + 1)),
            "should be 0.0765039",
        ),
        "a simulation": (lambda n, e, c: 0.0769, "should be 0.0765039, it is 0.0769"),
        "text": (lambda n, e, c: "few", "one number, it is str"),
    },
}
RIGHT = {
    "half_loads": [1.6, [Fraction(8, 5)], torch.tensor([1.6])],
    "read_the_loss": [0.3**0.5, 0.548, np.array([0.55])],
    "equal_cost": [40, 40.0, torch.tensor(40)],
    "below_one": [few_are_sure, without_torch, lambda n, e: (row for row in few_are_sure(n, e).flip(0, 1).numpy())],
    "balance_loss": [by_pairs, in_place, expert_by_expert],
    "dropped_by_chance": [exactly, token_by_token, kept_instead],
}
