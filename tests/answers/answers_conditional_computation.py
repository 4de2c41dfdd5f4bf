"""Wrong and right answers to the exercises of notebook 05."""

from fractions import Fraction

import numpy as np
import torch


def block(n, width):
    return 24 * n * width**2 + 4 * n**2 * width


def best(scores, n):
    mask = torch.zeros(scores.numel())
    mask[scores.flatten().topk(n).indices] = 1
    return mask.view_as(scores)


def from_the_last(scores, budget):
    """A threshold at the n-th: everything, where n is 0."""
    n = round(budget * scores.numel())
    return scores >= scores.flatten().sort().values[-n]


def rank(scores, budget):
    order = scores.flatten().argsort(descending=True, stable=True).argsort()
    return (order < round(budget * scores.numel())).view_as(scores)


def one_by_one(scores, budget):
    """Takes the highest, n times, and destroys the scores."""
    mask = np.zeros(scores.shape, dtype=bool)
    for _ in range(round(budget * scores.numel())):
        place = np.unravel_index(int(scores.argmax()), scores.shape)
        mask[place], scores[place] = True, -torch.inf
    return mask


def in_lists(scores, budget):
    places = sorted(((i, j) for i in range(len(scores)) for j in range(scores.shape[1])), key=lambda at: scores[at])
    kept = set(places[len(places) - round(budget * len(places)) :])
    return [[int((i, j) in kept) for j in range(scores.shape[1])] for i in range(len(scores))]


WRONG = {
    "share_left": {
        "linear": (lambda k, t, d: k, "attention is quadratic"),
        "quadratic": (lambda k, t, d: k**2, "only attention itself"),
        "FLOPs": (lambda k, t, d: block(k * t, d), "asked is their share"),
        "saved": (lambda k, t, d: 1 - block(k * t, d) / block(t, d), "share that is saved"),
        "no width": (lambda k, t, d: (24 * k * t + 4 * (k * t) ** 2) / (24 * t + 4 * t**2), "should be 0.4375"),
        "the width too": (lambda k, t, d: block(k * t, k * d) / block(t, d), "should be 0.4375"),
        "one case": (lambda k, t, d: block(k * 64, d) / block(64, d), "but for kept = 0.25"),
        "half": (lambda k, t, d: block(t / 2, d) / block(t, d), "but for kept = 0.25"),
        "text": (lambda k, t, d: "half", "one number, it is str"),
        "NaN": (lambda k, t, d: float("nan"), "there is a NaN"),
    },
    "batch_budget": {
        "per image": (
            lambda s, b: torch.zeros_like(s).scatter(1, s.topk(round(b * s.shape[1])).indices, 1),
            "every image keeps as many",
        ),
        "discarded": (lambda s, b: 1 - best(s, round(b * s.numel())), "patches to discard"),
        "a threshold of 0": (lambda s, b: s > 0, "where must it stand"),
        "the other share": (lambda s, b: best(s, s.numel() - round(b * s.numel())), "discarded, not kept"),
        "the worst": (
            lambda s, b: best(-s, round(b * s.numel())),
            "you keep 6 patches; it should be the 6 with the highest",
        ),
        "rounded down": (lambda s, b: best(s, int(b * s.numel())), "1.5 should become 2"),
        "at least one": (
            lambda s, b: best(s, max(round(b * s.numel()), 1)),
            "you keep 1 patches; it should be the 0",
        ),
        "all for none": (from_the_last, "you keep 8 patches; it should be the 0"),
        "all of several that are equal": (
            lambda s, b: (s >= s.flatten().topk(max(round(b * s.numel()), 1)).values[-1]) & (round(b * s.numel()) > 0),
            "of several that equal the threshold",
        ),
        "one too few": (lambda s, b: best(s, round(b * s.numel()) - 1), "you keep 5 patches"),
        "scores": (lambda s, b: s * best(s, round(b * s.numel())), "True and False"),
        "in place": (lambda s, b: s.sub_(1) > 0, "changed what it was given"),
        "places": (lambda s, b: s.flatten().topk(round(b * s.numel())).indices, "not of (6,)"),
    },
}
RIGHT = {
    "share_left": [
        lambda k, t, d: Fraction(k) * (6 * d + Fraction(k) * t) / (6 * d + t),
        lambda k, t, d: np.polyval([4 * d, 24 * d**2, 0], k * t) / np.polyval([4 * d, 24 * d**2, 0], t),
        lambda k, t, d: torch.lerp(torch.tensor(k), torch.tensor(k**2), t / (6 * d + t))[None],
    ],
    "batch_budget": [rank, one_by_one, in_lists],
}
