"""Wrong and right answers to the exercises of notebook 10."""

from fractions import Fraction

import numpy as np
import torch


def stacked(first, second, w, flip=False, ranks=None):
    """One adapter of two, with the weights in B."""
    (A1, B1), (A2, B2) = first, second
    parts = [w[0] * B1, w[1] * B2]
    return torch.cat([A1, A2])[:ranks], torch.cat(parts[::-1] if flip else parts, 1)[:, :ranks]


def roots(first, second, w, signed=False):
    """The square root of each weight in A and in B, perhaps with its sign in B."""
    size, sign = torch.tensor(w).sqrt(), torch.ones(2)
    if signed:
        size, sign = torch.tensor(w).abs().sqrt(), torch.tensor(w).sign()
    A = torch.cat([size[0] * first[0], size[1] * second[0]])
    return A, torch.cat([size[0] * sign[0] * first[1], size[1] * sign[1] * second[1]], 1)


def by_svd(first, second, w):
    r = len(first[0]) + len(second[0])
    total = sum(x * B.double() @ A.double() for (A, B), x in zip((first, second), w, strict=True))
    U, S, V = torch.linalg.svd(total)
    return S[:r, None].sqrt() * V[:r], U[:, :r] * S[:r].sqrt()


def in_place(first, second, w):
    first[0].mul_(w[0])
    second[1].mul_(w[1])
    return [torch.cat([second[0], first[0]]), torch.cat([second[1], first[1]], 1)]


def halves(first, second, w):
    yield np.concatenate([first[0], second[0]])
    yield np.concatenate([w[0] * first[1].numpy(), w[1] * second[1].numpy()], 1)


def half(d, r):
    """Singular values: r of 1, and d - r smaller ones of the same sum of squares."""
    return torch.tensor([1.0] * r + [(r / (d - r)) ** 0.5] * (d - r)).diag()


def turned(d, r):
    Q = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(d)))[0]
    return Q @ half(d, r) @ Q.flip(0)


WRONG = {
    "memory_factor": {
        "numbers that learn": (32, "W is still in memory"),
        "an adapter for nothing": (4.0, "leaves the adapter out"),
        "one of its matrices": (torch.tensor(64 / 17), "B as many again"),
        "no states": (32 / 17, "two states"),
        "one state": (np.float64(2.743), "mean and mean square"),
        "turned round": (Fraction(9, 32), "turn the fraction round"),
        "something else": (3, "should not be 3"),
        "two numbers": ([16, 4.5], "shape (2,)"),
    },
    "same_first_step": {
        "the same": (0.02, "four times as many"),
        "the root": (0.01, "not its root"),
        "larger": (0.08, "the wrong direction"),
        "twice": (0.00125, "is 1 both times"),
        "something else": (0.2, "should not be 0.2"),
        "a text": ("a quarter", "one number, it is str"),
    },
    "fair_baseline": {
        "the small one": (0.896, "2,208 FLOPs"),
        "random": (0.887, "what *learning* the router"),
        "all adapters": (torch.tensor(0.936), "all five adapters"),
        "by task": (0.931, "the task is given"),
        "separate": (np.float32(0.949), "twice the numbers"),
        "the router itself": (0.913, "should not be 0.913"),
        "its difference": (0.013, "should not be 0.013"),
    },
    "out_of_reach": {
        "nothing": (lambda d, r: torch.zeros(d, d), "B = 0 makes it"),
        "one row": (lambda d, r: torch.eye(d)[:1].repeat(d, 1), "A and B make it exactly"),
        "rank r": (lambda d, r: torch.diag((torch.arange(d) < r).float()), "A and B make it exactly"),
        "one rank more": (lambda d, r: torch.diag((torch.arange(d) <= r).float()), "leaves 0.33"),
        "the identity": (lambda d, r: torch.eye(d), "leaves 0.75 of its squared size, more"),
        "half of the size": (lambda d, r: half(d, r).square(), "leaves 0.25"),
        "these ranks only": (lambda d, r: half(8, 2)[:d, :d], "for d = 6 and r = 3 rank 3 leaves"),
        "one size only": (lambda d, r: half(8, 2), "should be a tensor of shape (6, 6), not of (8, 8)"),
        "a vector": (lambda d, r: torch.ones(d), "not of (8,)"),
        "infinite": (lambda d, r: torch.eye(d) / 0, "not finite"),
    },
    "two_in_one": {
        "means": (lambda f, s, w: (f[0] / 2 + s[0] / 2, f[1] / 2 + s[1] / 2), "have cross terms"),
        "weighted sums": (lambda f, s, w: (w[0] * f[0] + w[1] * s[0], w[0] * f[1] + w[1] * s[1]), "have cross terms"),
        "no weights": (lambda f, s, w: stacked(f, s, (1, 1)), "where are the weights"),
        "weights twice": (
            lambda f, s, w: (torch.cat([w[0] * f[0], w[1] * s[0]]), stacked(f, s, w)[1]),
            "each weight counts twice",
        ),
        "roots": (roots, "has no square root"),
        "exchanged weights": (lambda f, s, w: stacked(f, s, w[::-1]), "the weight of the other"),
        "strangers meet": (lambda f, s, w: stacked(f, s, w, flip=True), "must meet the column"),
        "beside each other": (lambda f, s, w: (torch.cat([f[0], s[0]], 1), torch.cat([f[1], s[1]], 1)), "(2, 14)"),
        "exchanged": (lambda f, s, w: stacked(f, s, w)[::-1], "they are ((5, 4), (4, 7))"),
        "the matrix": (lambda f, s, w: (torch.eye(7), w[0] * f[1] @ f[0] + w[1] * s[1] @ s[0]), "as ranks add up"),
        "one tensor": (lambda f, s, w: w[0] * f[1] @ f[0] + w[1] * s[1] @ s[0], "should be two tensors (A, B)"),
        "equal ranks only": (lambda f, s, w: stacked(f, s, w, ranks=2 * len(s[0])), "((3, 7), (5, 3))"),
        "these weights only": (lambda f, s, w: stacked(f, s, (0.5, -2)), "right for first = "),
    },
}
RIGHT = {
    "memory_factor": [32 / 9, 3.56, torch.tensor([3.5556]), Fraction(2**24, 4718592)],
    "same_first_step": [0.005, np.array(5e-3), torch.tensor(0.02) / 4],
    "fair_baseline": [0.926, torch.tensor(0.9261), np.float64(0.9257)],
    "out_of_reach": [
        turned,
        lambda d, r: -5 * half(d, r).flip(1).numpy(),
        lambda d, r: [[float(i == j) * (1 if i >= r else (d / r - 1) ** 0.5) for j in range(d)] for i in range(d)],
    ],
    "two_in_one": [by_svd, in_place, halves, lambda f, s, w: roots(f, s, w, signed=True)],
}
