"""Wrong and right answers to the exercise of notebook 11."""

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


WRONG = {
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
    "expert_bits": [by_counters, by_numpy, by_divergence],
}
