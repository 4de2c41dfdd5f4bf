"""Wrong and right answers to the exercises of notebook 06."""

from itertools import groupby

import numpy as np
import torch
from torch import nn

from lecture_lib.exits import EarlyExitNet, above_confidence, above_margin, infer


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


def by_library(blocks, heads, x, threshold):
    return infer(EarlyExitNet(blocks, heads), x, above_confidence(threshold)).exit_index


@torch.no_grad()
def confidences(blocks, heads, x):
    return EarlyExitNet(blocks, heads)(x).softmax(-1).amax(-1)


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
    "exit_cost": {
        "no heads": (17, "heads are asked on the way"),
        "one head": (18.0, "not only the last"),
        "from one": (torch.tensor(7.7), "exits count from 0"),
        "the slowest": (33, "slowest example"),
        "unweighted": (np.float64(22), "by its share"),
        "heads before": (17.7, "has run, too"),
        "something else": (20, "should not be 20"),
        "a list": ([11, 22, 33], "one number"),
    },
    "equal_compute": {
        "equal batches": (200, "equal batches, not equal FLOPs"),
        "all stages": (1350.0, "each stage has a third"),
        "no prefix": (600, "still run forward"),
        "frozen blocks learn": (300, "runs forward only"),
        "one block": (torch.tensor(150), "trains three blocks"),
        "something else": (420, "should not be 420"),
        "a text": ("450 steps", "it is str"),
    },
    "stick_weight": {
        "the gate": (0.25, "that is the gate"),
        "passed by g": (0.02, "let pass 1 - g"),
        "the last": (0.36, "left for the last"),
        "from one": (torch.tensor(0.32), "weight of exit 1"),
        "not taken": (0.48, "does the gate take"),
        "one gate": (0.15, "both gates"),
        "not a number": (float("nan"), "should not be nan"),
    },
    "own_network": {
        "from one": (lambda *case: by_library(*case) + 1, "exits count from 0"),
        "argmax of nothing": (lambda b, h, x, t: (confidences(b, h, x) >= t).int().argmax(0), "never sure enough"),
        "the surest": (lambda b, h, x, t: confidences(b, h, x).argmax(0), "not at the surest"),
        "the margin": (lambda b, h, x, t: infer(EarlyExitNet(b, h), x, above_margin(t)).exit_index, "is the margin"),
        "heads before their blocks": (
            lambda b, h, x, t: by_library([nn.Identity(), *b[:-1]], h, x, t),
            "not what the block gets",
        ),
        "always the last": (lambda b, h, x, t: torch.full((len(x),), len(b) - 1), "entry"),
        "the answers": (lambda b, h, x, t: infer(EarlyExitNet(b, h), x, above_confidence(t)).logits, "of shape (30,)"),
        "0.8 for all": (lambda b, h, x, t: by_library(b, h, x, 0.8), "right for"),
    },
}
RIGHT = {
    "patience_exit": [by_windows, by_runs, in_place, lambda s, p: agreements(s, p).numpy().astype(np.uint8)],
    "exit_cost": [18.7, torch.tensor([18.7]), 0.5 * 11 + 0.3 * 22 + 0.2 * 33],
    "equal_compute": [450, np.int64(450), 600 * 9 * 3 / 12 / 3],
    "stick_weight": [0.12, torch.tensor(0.12), 0.8 * 0.6 * 0.25],
    "own_network": [
        by_library,
        lambda b, h, x, t: [
            next((k for k, c in enumerate(row) if c >= t), len(b) - 1) for row in confidences(b, h, x).T
        ],
        lambda b, h, x, t: (confidences(b, h, x)[:-1] < t).int().cumprod(0).sum(0).numpy(),
    ],
}
