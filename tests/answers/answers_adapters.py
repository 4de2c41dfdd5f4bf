"""Wrong and right answers to the exercise of notebook 10."""

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


WRONG = {
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
    "two_in_one": [by_svd, in_place, halves, lambda f, s, w: roots(f, s, w, signed=True)],
}
