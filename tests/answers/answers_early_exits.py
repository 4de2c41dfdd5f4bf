"""Wrong and right answers to the exercises of notebook 06."""

from fractions import Fraction
from itertools import groupby

import numpy as np
import torch


def agreements(said, patience, count=lambda c, same: (c + 1) * same, never=None, pick=0):
    """Where a counter of agreements reaches `patience`, with room for mistakes."""
    exits = []
    for column in said.T.tolist():
        c, full = 0, []
        for k in range(1, len(column)):
            c = count(c, int(column[k] == column[k - 1]))
            full += [k] * (c >= patience)
        exits.append(full[pick] if full else len(column) - 1 if never is None else never)
    return torch.tensor(exits)


def two_ends(said, patience):
    columns, last = said.T.tolist(), len(said) - 1
    return [next((k for k in range(patience, len(c)) if c[k] == c[k - patience]), last) for c in columns]


def by_windows(said, patience):
    if len(said) <= patience:
        return np.full(said.shape[1], len(said) - 1)
    windows = said.unfold(0, patience + 1, 1)
    full = (windows == windows[..., :1]).all(-1)
    return torch.where(full.any(0), full.int().argmax(0) + patience, len(said) - 1)


def by_runs(said, patience):
    for column in said.T.tolist():
        start, place = 0, len(column) - 1
        for _, run in groupby(column):
            n = len(list(run))
            if n > patience:
                place = min(place, start + patience)
            start += n
        yield place


def in_place(said, patience):
    """Turns predictions into counters."""
    before = said[0].clone()
    said[0] = 0
    for k in range(1, len(said)):
        now = said[k].clone()
        said[k] = torch.where(now == before, said[k - 1] + 1, 0)
        before = now
    said[-1] = patience
    return (said >= patience).int().argmax(0).float()


WRONG = {
    "patience_exit": {
        "no reset": (lambda s, p: agreements(s, p, lambda c, same: c + same), "starts again at 0"),
        "predictions counted": (lambda s, p: agreements(s, p - 1), "two agreements need three predictions"),
        "more than": (lambda s, p: agreements(s, p + 1), "reach the patience, no more"),
        "from one": (lambda s, p: agreements(s, p) + 1, "exits count from 0"),
        "argmax of nothing": (lambda s, p: agreements(s, p, never=0), "leaves at the last exit"),
        "the last time": (lambda s, p: agreements(s, p, pick=-1), "does not come back"),
        "two ends": (two_ends, "1, 2, 1 is no agreement"),
        "always the last": (lambda s, p: torch.full(s.shape[1:], len(s) - 1), "it is 5. It is of said[:, "),
        "patience is two": (lambda s, p: agreements(s, 2), "right for said = "),
        "in place": (lambda s, p: agreements(s.zero_(), p), "changed what it was given"),
        "a short list": (lambda s, p: [2, 3, 4], "should be a tensor of shape (40,), not of (3,)"),
        "a ragged list": (lambda s, p: [[2], [3, 4]], "parts of different shapes"),
    },
    "mean_flops": {
        "no heads": (lambda k, b, h: (k + 1).float().mean() * b, "the heads are missing"),
        "one head": (lambda k, b, h: (k + 1).float().mean() * b + h, "every head on the way"),
        "heads before": (lambda k, b, h: ((k + 1) * b + k * h).float().mean(), "at which an example leaves"),
        "off by one": (lambda k, b, h: k.float().mean() * (b + h), "one block and one head"),
        "blocks off by one": (lambda k, b, h: (k * b + (k + 1) * h).float().mean(), "has run one block."),
        "sum": (lambda k, b, h: (k + 1).sum() * (b + h), "not the mean"),
        "slowest": (lambda k, b, h: (k.max() + 1) * (b + h), "the slowest example"),
        "rounded down": (
            lambda k, b, h: int(((k + 1) * (b + h)).sum()) // len(k),
            "exit_index = [0, 0, 1], block = 3, head = 50",
        ),
        "six": (lambda k, b, h: (k + 1).sum() * (b + h) / 6, "should be 18, it is 12"),
        "each": (lambda k, b, h: (k + 1) * (b + h), "should be one number, not of (6,)"),
        "no mean": (lambda k, b, h: b + h, "should be 3030"),
    },
}
RIGHT = {
    "patience_exit": [by_windows, by_runs, in_place, lambda s, p: agreements(s, p).numpy().astype(np.uint8)],
    "mean_flops": [
        lambda k, b, h: Fraction(int((k + 1).sum()) * (b + h), len(k)),
        lambda k, b, h: np.average(np.arange(1, 6) * (b + h), weights=np.bincount(k, minlength=5)),
        lambda k, b, h: torch.tensor([sum(b + h for _ in range(i + 1)) for i in k.tolist()]).double().mean(0, True),
        lambda k, b, h: k.add_(1).mul_(b + h).sum() / len(k),
    ],
}
