"""Wrong and right answers to the exercises of notebook 11."""

import math
from collections import Counter

import numpy as np
import torch


def shares_of(a, b, n=16):
    """p(a, b), p(a) and p(b) of two lists."""
    joint = torch.zeros(n, n).index_put((a, b), torch.ones(()), accumulate=True) / len(a)
    return joint, joint.sum(1), joint.sum(0)


def uncertainty(p):
    return torch.special.entr(p).sum() / math.log(2)


def told_bits(a, b, n=16):
    joint, of_a, of_b = shares_of(a, b, n)
    return uncertainty(of_a) + uncertainty(of_b) - uncertainty(joint)


def by_counters(expert, label):
    pairs = Counter(zip(expert.tolist(), label.tolist(), strict=True))
    of_expert, of_label, n = Counter(expert.tolist()), Counter(label.tolist()), len(expert)
    return sum(c / n * math.log2(n * c / of_expert[e] / of_label[x]) for (e, x), c in pairs.items())


def by_numpy(expert, label):
    joint = np.histogram2d(expert, label, bins=(range(17), range(17)))[0] / len(expert)
    apart = joint.sum(1, keepdims=True) * joint.sum(0)
    return np.where(joint > 0, joint * np.log2(np.where(joint > 0, joint, 1) / np.where(apart > 0, apart, 1)), 0).sum()


def by_divergence(expert, label):
    joint, of_expert, of_label = shares_of(expert, label)
    return torch.nn.functional.kl_div((of_expert[:, None] * of_label + 1e-30).log(), joint, reduction="sum") / math.log(
        2
    )


def filled(n_images, n_text, e):
    """Images fill one expert after the other, text takes the rest."""
    mean = (n_images + n_text) // e
    images = torch.tensor([min(mean, max(0, n_images - i * mean)) for i in range(e)])
    return torch.stack([images, mean - images])


def from_the_last(n_images, n_text, e):
    """Expert of each token, images last, then counted."""
    expert = np.repeat(np.arange(e), (n_images + n_text) // e)
    return np.stack([np.bincount(part, minlength=e) for part in (expert[n_text:], expert[:n_text])])


def in_lists(n_images, n_text, e):
    mean, left, rows = (n_images + n_text) // e, n_images, []
    for _ in range(e):
        rows.append(min(left, mean))
        left -= rows[-1]
    return [rows, [mean - row for row in rows]]


def spread_evenly(n_images, n_text, e):
    """Equal loads, but both modalities are everywhere, as far as they can."""
    table = filled(n_images, n_text, e)
    while (table[0] == 0).any() and table[0].max() > 1:
        a, b = table[0].argmax(), table[0].argmin()
        table[0, a], table[0, b], table[1, a], table[1, b] = (
            table[0, a] - 1,
            table[0, b] + 1,
            table[1, a] + 1,
            table[1, b] - 1,
        )
    return table


def on_one(n_images, n_text, e):
    images = torch.tensor([n_images] + [0] * (e - 1))
    return torch.stack(
        [images, torch.tensor([0] + [n_text // (e - 1)] * (e - 2) + [n_text - n_text // (e - 1) * (e - 2)])]
    )


WRONG = {
    "lowest_loss": {
        "zero": (0, "cannot be sure"),
        "one row": (math.log(2), "average over all four rows"),
        "bits": (0.5, "natural logarithm"),
        "a sum": (2 * math.log(2), "the sum over rows"),
        "half": (math.log(2) / 4, "not half of one"),
        "nothing known": (torch.tensor(4.0).log(), "knows nothing"),
        "something else": (0.9, "should not be 0.9"),
    },
    "global_on_paper": {
        "log 3": (math.log(3), "is log 2, not 0"),
        "the entropy": (math.log(2), "How much is missing"),
        "bits": (math.log2(1.5), "in nats"),
        "experts": (1, "logarithms are subtracted"),
        "zero": (0.0, "too few experts are used"),
        "sign": (-math.log(1.5), "the sign"),
        "something else": (0.3, "should not be 0.3"),
    },
    "above_chance": {
        "chance": (0.2525, "subtract it"),
        "nats": (0.085, "in nats"),
        "E L": (0.26 - 208 / (1000 * math.log(2)), "not E · L"),
        "without 2": (0.26 - 175 / (500 * math.log(2)), "the 2 is missing"),
        "measured": (0.26, "chance included"),
        "something else": (0.1, "should not be 0.1"),
    },
    "hidden_collapse": {
        "everywhere": (spread_evenly, "would do with equal loads"),
        "all on one": (on_one, "the loads should all be"),
        "another order": (lambda i, t, e: filled(i, t, e).flip(0), "the rows should sum to"),
        "the wrong shape": (lambda i, t, e: filled(i, t, e).T, "of shape (2, 4), not of (4, 2)"),
        "shares": (lambda i, t, e: filled(i, t, e) / (i + t), "whole ones"),
        "negative": (lambda i, t, e: filled(i, t, e) + torch.tensor([[-90], [90]]), "whole ones"),
        "text first": (lambda i, t, e: filled(t, i, e), "the rows should sum to"),
    },
    "expert_bits": {
        "nats": (lambda a, b: told_bits(a, b) * math.log(2), "in nats"),
        "sign": (lambda a, b: -told_bits(a, b), "the sign is wrong"),
        "counts": (lambda a, b: told_bits(a, b) * len(a), "divided by N"),
        "of the label": (lambda a, b: uncertainty(shares_of(a, b)[2]), "the entropy of the label"),
        "of the expert": (lambda a, b: uncertainty(shares_of(a, b)[1]), "the entropy of the expert"),
        "what remains": (lambda a, b: uncertainty(shares_of(a, b)[2]) - told_bits(a, b), "remains unknown"),
        "joint": (lambda a, b: uncertainty(shares_of(a, b)[0]), "the joint entropy"),
        "0 log 0": (lambda a, b: (shares_of(a, b)[0] * shares_of(a, b)[0].log2()).sum(), "has to count as 0"),
        "accuracy": (lambda a, b: (a == b).float().mean(), "it should be"),
        "a table": (lambda a, b: shares_of(a, b)[0], "should be one number, not of (16, 16)"),
        "always": (lambda a, b: told_bits(a, b if b.any() else a), "should be 0"),
        "three": (lambda a, b: told_bits(a, b.clamp(max=2)), "should be 2, it is 1.5"),
        "normalised": (lambda a, b: told_bits(a, b) / uncertainty(shares_of(a, b)[1]), "it should be"),
    },
}
RIGHT = {
    "lowest_loss": [0.5 * math.log(2), np.float64(0.3466), torch.tensor([0.3466])],
    "global_on_paper": [math.log(3) - math.log(2), torch.tensor(1.5).log(), np.array([0.405])],
    "above_chance": [0.26 - 0.2525, torch.tensor(0.0075), np.float32(0.0075)],
    "hidden_collapse": [filled, from_the_last, in_lists],
    "expert_bits": [by_counters, by_numpy, by_divergence],
}
