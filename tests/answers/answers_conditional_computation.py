"""Wrong and right answers to the exercises of notebook 05."""

import numpy as np
import torch


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
        "linear": (0.5, "attention is quadratic"),
        "quadratic": (0.25, "only attention itself"),
        "saved": (0.5625, "share that is saved"),
        "FLOPs": (917504, "asked is their share"),
        "the mean of both": (0.375, "put in n = 32"),
        "something else": (0.7, "should not be 0.7"),
        "text": ("44 %", "it is str"),
        "both": ([917504, 2097152], "of shape (2,)"),
    },
    "equal_training": {
        "equal steps": (550, "equal steps are not"),
        "masks are cheap": (1780, "every patch"),
        "the first phase alone": (400 / 0.25, "150 steps with a mask"),
        "upside down": (0.25 * 550, "more steps, not fewer"),
        "something else": (600, "should not be 600"),
        "a function": (np.array([400, 150]) * 4, "of shape (2,)"),
    },
    "three_losses": {
        "absolute": (0.2, "are squared"),
        "patches alone": (0.01, "only the patches"),
        "the mean": (0.02 / 3, "they are added"),
        "one budget": (0.2**2, "one budget for all"),
        "one pays for the other": (0.0, "do not pay for"),
        "with the class token": (((16 * 0.6 + 1) / 17 - 0.5) ** 2 + 0.01, "always kept"),
        "three numbers": ([0.01, 0.01, 0.0], "of shape (3,)"),
        "not a number": (float("nan"), "should not be nan"),
    },
    "break_even": {
        "milliseconds": (2, "which share of 10 ms"),
        "the rest": (0.8, "products that are left"),
        "always": (0, "the moves are on it"),
        "half": (1 / 2, "one half of the time"),
        "ten per cent": (0.3, "10 % less"),
        "something else": (0.9, "should not be 0.9"),
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
    "share_left": [0.4375, np.float32(7 / 16), torch.tensor([0.4375])],
    "equal_training": [2200, np.int64(550) * 4, torch.tensor(550 / 0.25)],
    "three_losses": [0.02, torch.tensor([0.1, -0.1, 0.0]).square().sum(), np.array([0.02])],
    "break_even": [0.2, torch.tensor(2 / 10), np.array([[0.2]])],
    "batch_budget": [rank, one_by_one, in_lists],
}
