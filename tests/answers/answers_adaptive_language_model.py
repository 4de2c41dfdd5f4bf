"""Wrong and right answers to the exercises of notebook 07."""

from itertools import takewhile

import numpy as np
import torch


def downwards(predictions):
    """From the last exit down, while they agree."""
    exits = []
    for column in predictions.T.tolist():
        agree = list(takewhile(lambda p, last=column[-1]: p == last, reversed(column)))
        exits.append(len(column) - len(agree))
    return tuple(exits)


def last_that_differs(predictions):
    differs = (predictions != predictions[-1]).numpy()
    places = np.arange(1, len(differs) + 1)[:, None]
    return (differs * places).max(0)


def every_exit_tried(predictions):
    good = [(predictions[k:] == predictions[-1]).all(0) for k in range(len(predictions))]
    return (predictions[0] * 0 + len(good) - torch.stack(good).sum(0)).float()


def until(p, fails):
    """The index before the first that fails, or None."""
    return next((i for i, value in enumerate(p) if fails(value, i)), len(p)) - 1


def none(index):
    return None if index < 0 else index


def by_numpy(p, error):
    passed = np.minimum.accumulate(np.asarray(p) <= error)
    return passed.sum() - 1 if passed[0] else None


def by_pop(p, error):
    """Empties the list."""
    index = None
    while p and p.pop(0) <= error:
        index = torch.tensor(0) if index is None else index + 1
    return index


def recursive(p, error, at=0):
    if at == len(p) or p[at] > error:
        return float(at - 1) if at else None
    return recursive(p, error, at + 1)


WRONG = {
    "oracle_exit": {
        "the first that agrees": (lambda p: (p == p[-1]).long().argmax(0), "right, change, and come back"),
        "layers": (lambda p: len(p) + 1 - (p == p[-1]).flip(0).cumprod(0).sum(0), "off by one"),
        "counted": (lambda p: len(p) - (p == p[-1]).sum(0), "there may be gaps"),
        "agreements": (lambda p: (p == p[-1]).sum(0), "how many exits agree"),
        "two in a row": (
            lambda p: torch.cat([p[1:] == p[:-1], torch.ones(1, p.shape[1]) == 1]).long().argmax(0),
            "may both be wrong",
        ),
        "the last": (lambda p: torch.full(p.shape[1:], len(p) - 1), "It is of predictions[:, "),
        "the first": (lambda p: torch.zeros(p.shape[1:]), "it is 0"),
        "five exits": (lambda p: 5 - (p == p[-1]).flip(0).cumprod(0).sum(0), "right for predictions = "),
        "in place": (lambda p: p.eq_(p[-1].clone()).argmax(0), "changed what it was given"),
        "a number": (lambda p: 3, "should be a tensor of shape (40,)"),
    },
    "fixed_sequence": {
        "the last that passes": (
            lambda p, e: max((i for i, value in enumerate(p) if value <= e), default=None),
            "nothing counts any more",
        ),
        "the first that fails": (lambda p, e: until(p, lambda v, i: v > e) + 1, "last to pass"),
        "the first that passes": (lambda p, e: next((i for i, v in enumerate(p) if v <= e), None), "Go on"),
        "Bonferroni": (lambda p, e: none(until(p, lambda v, i: v > e / len(p))), "no correction for many tests"),
        "Holm": (lambda p, e: none(until(p, lambda v, i: v > e / (len(p) - i))), "no correction for many tests"),
        "a sum": (lambda p, e: none(until(p, lambda v, i: sum(p[: i + 1]) > e)), "not their sum"),
        "minus one": (lambda p, e: until(p, lambda v, i: v > e), "say None"),
        "at least the safest": (lambda p, e: max(until(p, lambda v, i: v > e), 0), "the answer is None"),
        "nothing if all pass": (
            lambda p, e: next((i - 1 if i else None for i, v in enumerate(p) if v > e), None),
            "if all pass",
        ),
        "strictly": (lambda p, e: none(until(p, lambda v, i: v >= e)), "equal to ε"),
        "a fixed ε": (lambda p, e: none(until(p, lambda v, i: v > 0.1)), "right for p_values = "),
        "text": (lambda p, e: "2", "one index or None, it is str"),
        "a list": (lambda p, e: [0, 1, 2], "should be one number"),
    },
    "byte_cost": {
        "nothing owed": (3.3, "later bytes need its keys"),
        "one look": (torch.tensor(3.6), "asked at exits 0, 1 and 2"),
        "a cut": (3.1, "that is a cut"),
        "layers alone": (3, "layers alone"),
        "from one": (2 + 0.2 + 4 / 6, "exits count from 0"),
        "four owed": (3.3 + 4 / 6, "three, not four"),
        "all owed": (np.float64(4.3), "only those behind the exit"),
        "something else": (5, "should not be 5"),
        "a list": ([3, 0.3, 0.5], "one number"),
    },
    "texts_needed": {
        "one too few": (21, "still above"),
        "one in ten": (10.0, "more than ε"),
        "5 %": (29, "ε = 5 %"),
        "a fraction": (np.log(0.1) / np.log(0.9), "whole texts"),
        "another tolerance": (torch.tensor(45), "tolerance of 5 %"),
        "one": (1, "none of n"),
        "a text": ("22 texts", "it is str"),
    },
    "kept_bytes": {
        "a mean of single drafts": (2.4, "nothing counts"),
        "drafts": (0.8 + 0.64 + 0.512, "takes its place"),
        "one more": (1 + 0.8 + 0.64 + 0.512, "not four"),
        "all or nothing": (3 * 0.512, "two drafts of three"),
        "all": (3, "always written"),
        "something else": (2.0, "should not be 2"),
    },
    "head_price": {
        "upside down": (12 * 4096 / 128_000, "upside down"),
        "no 2": (128_000 / 24 / 4096, "with the 2"),
        "twice": (2 * 128_000 / 12 / 4096, "24 D², not 12 D²"),
        "no 24": (62.5, "its 24"),
        "ours": (np.float64(256 / 12 / 176), "our head"),
        "nothing": (0.0, "should not be 0"),
    },
}
RIGHT = {
    "oracle_exit": [downwards, last_that_differs, every_exit_tried],
    "fixed_sequence": [by_numpy, by_pop, recursive],
    "byte_cost": [3.8, torch.tensor([3.8]), 3 + 3 * 0.1 + 3 / 6],
    "texts_needed": [22, np.int64(22), torch.tensor(22.0)],
    "kept_bytes": [2.44, (1 - 0.8**3) / (1 - 0.8), 0.2 * 1 + 0.16 * 2 + 0.64 * 3],
    "head_price": [2.6, 2 * 4096 * 128_000 / (24 * 4096**2), torch.tensor(2.604)],
}
