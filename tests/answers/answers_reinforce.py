"""Wrong and right answers to the exercises of notebook 03."""

import numpy as np
import torch


def lengths(pi):
    return (torch.eye(len(pi)) - pi).norm(dim=-1)


def weighted(weights, costs):
    return (weights * costs).sum() / weights.sum()


def without_row(costs):
    return torch.stack([torch.cat([costs[:i], costs[i + 1 :]]).mean(0) for i in range(len(costs))])


def by_least_squares(pi, costs):
    """The β that minimises Σ_k π_k |v_k|² (c_k - β)², for scaled ones."""
    root = (pi.sqrt() * lengths(pi)).double()[:, None]
    return torch.linalg.lstsq(root, root * costs.double()[:, None]).solution


def by_two_values(pi, costs):
    """Where the parabola through three values has its lowest point."""
    spread = [float((pi * (costs - x) ** 2 * lengths(pi) ** 2).sum()) for x in (-1.0, 0.0, 1.0)]
    return (spread[0] - spread[2]) / (2 * (spread[0] + spread[2] - 2 * spread[1]))


WRONG = {
    "one_estimate": {
        "of the option drawn": (1.4, "of the option that was drawn"),
        "the sign": (torch.tensor(1.0), "the sign"),
        "the other probability": (-0.6, "that of the entry"),
        "no cost": (-0.5, "multiplied by the cost"),
        "nothing": (0, "was not drawn, but"),
        "something else": (3.0, "should not be 3"),
        "the whole vector": ([-1.0, 1.4, -0.4], "one number, it is of shape (3,)"),
    },
    "times_fewer": {
        "nine": (9, "counts classifications alone"),
        "upside down": (0.382, "times *fewer*"),
        "one scorer": (1.82, "needs its scorer as well"),
        "a difference": (75776.0, "not a ratio"),
        "the scorer once": (6.56, "once for each of nine"),
        "something else": (4, "should not be 4"),
        "a text": ("2.6 times", "it is str"),
    },
    "enough_samples": {
        "no square": (8, "by the root of S"),
        "noise with N": (256, "grows with the root of N"),
        "100 choices": (16, "right for 100 choices"),
        "half a square": (32, "a factor of 8"),
        "until noise is signal": (576.0, "of 1, not of 3"),
        "not a number": (float("nan"), "should not be nan"),
    },
    "leave_one_out_baseline": {
        "the mean, its own included": (lambda c: c.mean(0).expand_as(c), "each mean holds the sample's own"),
        "divided by S": (lambda c: (c.sum(0) - c) / len(c), "its divisor does not"),
        "a sum": (lambda c: c.sum(0) - c, "the sum of the others"),
        "the advantage": (lambda c: c - (c.sum(0) - c) / (len(c) - 1), "minus the baseline"),
        "the sign": (lambda c: (c - c.sum(0)) / (len(c) - 1), "the sign"),
        "over the inputs": (lambda c: (c.sum(1, True) - c) / (c.shape[1] - 1), "Along which dimension"),
        "the samples before": (
            lambda c: torch.stack([c[:i].mean(0) if i else 0 * c[0] for i in range(len(c))]),
            "those after may be used",
        ),
        "one for all samples": (lambda c: c.mean(0), "should be a tensor of shape (4, 3), not of (3,)"),
        "in place": (lambda c: c.zero_(), "changed what it was given"),
        "S is always 4": (lambda c: (c.sum(0) - c) / 3, "right for costs = "),
        "zero": (lambda c: 0 * c, "it is 0"),
        "infinity": (lambda c: (c + 1) / 0, "should be"),
        "a shuffle": (lambda c: c.roll(1, 0), "should be"),
    },
    "best_baseline": {
        "the expected cost": (lambda pi, c: pi @ c, "expected cost"),
        "the plain mean": (lambda pi, c: c.mean(), "plain mean"),
        "length instead of its square": (lambda pi, c: weighted(pi * lengths(pi), c), "the square of |v|"),
        "without the probabilities": (lambda pi, c: weighted(lengths(pi) ** 2, c), "the probabilities are not"),
        "the option's own score only": (lambda pi, c: weighted(pi * (1 - pi) ** 2, c), "an entry for every score"),
        "not divided": (lambda pi, c: (pi * lengths(pi) ** 2 * c).sum(), "divided by the sum"),
        "for two options": (lambda pi, c: (1 - pi) @ c / (len(pi) - 1), "should be 1.76239"),
        "no baseline": (lambda pi, c: 0 * c.sum(), "should be 1.76239, it is 0"),
        "four options": (
            lambda pi, c: weighted(pi * lengths(pi) ** 2, c) if len(pi) == 4 else pi @ c,
            "right for pi = ",
        ),
        "a vector": (lambda pi, c: pi * c, "should be one number, not of (4,)"),
        "NaN": (lambda pi, c: torch.tensor(torch.nan), "there is a NaN"),
    },
}
RIGHT = {
    "one_estimate": [-1, torch.tensor([-1.0]), 2 * (0 - 0.5)],
    "times_fewer": [2.6, np.float32(2.615), 122688 / 46912],
    "enough_samples": [64, torch.tensor(64.0), [(24 / 3) ** 2]],
    "leave_one_out_baseline": [
        without_row,
        lambda c: c.sub_(c.sum(0)).neg_().div_(len(c) - 1),
        lambda c: (1 - torch.eye(len(c))) @ c / (len(c) - 1),
        lambda c: [[(sum(column) - x) / (len(column) - 1) for column, x in zip(c.T, row, strict=True)] for row in c],
        lambda c: np.stack([np.delete(c.numpy(), i, 0).mean(0) for i in range(len(c))]),
    ],
    "best_baseline": [
        by_least_squares,
        by_two_values,
        lambda pi, c: weighted(pi * (1 - 2 * pi + (pi**2).sum()), c).numpy(),
        lambda pi, c: np.average(c, weights=pi * lengths(pi) ** 2),
    ],
}
