"""Wrong and right answers to the exercises of notebook 04."""

from fractions import Fraction

import numpy as np
import torch

from lecture_lib.simplex import entmax


def bisect(s, low=None, high=None, steps=30, together=False):
    """1.5-entmax by bisection, with room for mistakes."""
    s = s / 2
    top = s.amax(-1, keepdim=True)
    low, high = (top - 1 if low is None else 0 * top + low), (top if high is None else 0 * top + high)
    for _ in range(steps):
        tau = (low + high) / 2
        total = (s - tau).clamp(min=0).square().sum(-1, keepdim=True)
        more = (total.mean() if together else total) > 1
        low, high = torch.where(more, tau, low), torch.where(more, high, tau)
    return (s - (low + high) / 2).clamp(min=0).square()


def without_ties(s):
    """Exact while all scores differ: equal scores count once."""
    levels = [row.unique() for row in s]
    return torch.stack([
        bisect(u[None])[0][torch.searchsorted(u, row)] for row, u in zip(s, levels, strict=True)
    ])  # fmt: skip


def by_newton(s):
    s = s.double() / 2
    tau = s.amax(-1, keepdim=True) - 1
    for _ in range(50):
        out = (s - tau).clamp(min=0)
        tau = tau + (out.square().sum(-1, keepdim=True) - 1) / (2 * out.sum(-1, keepdim=True))
    return (s - tau).clamp(min=0).square()


def row_by_row(s):
    rows = []
    for row in s.numpy() / 2:
        low, high = row.max() - 1, row.max()
        while high - low > 1e-6:
            tau = (low + high) / 2
            low, high = (tau, high) if (np.maximum(row - tau, 0) ** 2).sum() > 1 else (low, tau)
        rows.append(np.maximum(row - low, 0) ** 2)
    return rows


def in_place(s):
    s.div_(2).sub_(s.amax(-1, keepdim=True))
    tau = torch.full_like(s[:, :1], -1)
    for k in range(1, 30):
        tau += ((s - tau - 2**-k).clamp(min=0).square().sum(-1, keepdim=True) > 1) * 2**-k
    return s.sub_(tau).clamp_(min=0).square_()


def by_experiment(alpha):
    low, high = 0.0, 64.0
    while high - low > 1e-4:
        lead = (low + high) / 2
        low, high = (low, lead) if entmax(torch.tensor([lead, 0.0]), alpha)[1] == 0 else (lead, high)
    return high


WRONG = {
    "entmax_15": {
        "softmax": (lambda s: s.softmax(-1), "this is softmax"),
        "sparsemax": (lambda s: entmax(s, 2), "this is sparsemax"),
        "no square": (lambda s: entmax(s / 2, 2), "must be squared"),
        "no half": (lambda s: entmax(2 * s, 1.5), "halved before the threshold"),
        "too few halvings": (lambda s: bisect(s, steps=3), "halved often enough"),
        "an interval for small scores": (lambda s: bisect(s, low=-1.0, high=0.5), "its own interval"),
        "one threshold for all rows": (lambda s: bisect(s, together=True), "its own τ"),
        "divided by the sum": (lambda s: s.clamp(min=0) ** 2 / (s.clamp(min=0) ** 2).sum(-1, True), "dividing by"),
        "equal scores count once": (without_ties, "sum to"),
        "four rows": (lambda s: bisect(s) if len(s) == 4 else s.softmax(-1), "right for s = "),
        "in place": (lambda s: s.div_(2).softmax(-1), "changed what it was given"),
        "NaN": (lambda s: s.new_full(s.shape, torch.nan), "there is a NaN"),
        "a list": (lambda s: [1.0], "should be a tensor"),
    },
    "smallest_lead": {
        "upside down": (lambda alpha: alpha - 1, "upside down"),
        "a constant": (lambda alpha: 2, "but for alpha = 2: it should be 1, it is 2"),
        "the reciprocal": (lambda alpha: 1 / alpha, "should be 2"),
        "without the derivative": (lambda alpha: 1 / (alpha * (alpha - 1)), "brings an α"),
        "a straight line through both": (lambda alpha: 5 - 2 * alpha, "but for alpha = 1.25"),
        "a parabola through three": (
            lambda alpha: 4 - 8 * (alpha - 1.25) + 8 * (alpha - 1.25) * (alpha - 1.5),
            "but for alpha = 3",
        ),
        "2 % too much": (lambda alpha: 1.02 / (alpha - 1), "should be 2, it is 2.04"),
        "a list of two": (lambda alpha: [1, 2], "should be one number, not of (2,)"),
        "NaN": (lambda alpha: float("nan"), "there is a NaN"),
    },
    "sparsemax_threshold": {
        "of three members": (0.2333, "for three members"),
        "of one member": (torch.tensor(-0.1), "more than one"),
        "of four members": (-0.075, "not all four"),
        "not sorted": (0.05, "sort the scores"),
        "without the 1": (0.75, "sum to 1"),
        "something else": (0.6, "should not be 0.6"),
        "the weights": ([0.65, 0.35], "one number, it is of shape (2,)"),
        "a text": ("a quarter", "one number, it is str"),
        "a function": (lambda: 0.25, "hand over a number"),
    },
    "whole_saving": {
        "the classifier alone": (4.5, "classifier alone"),
        "no scorer in the dense network": (1.512, "pays for its scorer"),
        "the scorer of two patches": (3.127, "all nine patches"),
        "the share": (0.4596, "reciprocal"),
        "something else": (9, "should not be 9"),
        "no number": (float("nan"), "should not be nan"),
    },
    "inclusion": {
        "of the race": (5 / 12, "under the race"),
        "out": (6 / 11, "left out"),
        "twice the softmax": (1 / 3, "twice its softmax"),
        "softmax": (1 / 6, "if one option is drawn"),
        "odds": (5 / 6, "sum of the products"),
        "one subset": (3 / 11, "in the other one"),
        "something else": (0.7, "should not be 0.7"),
        "all three": ([9 / 11, 8 / 11, 5 / 11], "one number, it is of shape (3,)"),
    },
}
RIGHT = {
    "entmax_15": [
        by_newton,
        row_by_row,
        in_place,
        lambda s: bisect(s).half(),
        lambda s: entmax(s, 1.5).requires_grad_(),
    ],
    "smallest_lead": [
        by_experiment,
        lambda alpha: Fraction(1) / (Fraction(alpha) - 1),
        lambda alpha: torch.tensor([alpha - 1]).reciprocal(),
        lambda alpha: np.float64(1.005) / (alpha - 1),
    ],
    "sparsemax_threshold": [0.25, torch.tensor([0.25]), [0.2499]],
    "whole_saving": [2.18, np.float32(122688 / 56384), torch.tensor(2.176)],
    "inclusion": [Fraction(5, 11), 0.4545, np.array([5 / 11])],
}
