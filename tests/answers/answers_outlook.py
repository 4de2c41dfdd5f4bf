"""Wrong and right answers to the exercises of notebook 14."""

from fractions import Fraction

import numpy as np
import torch


def beaten(cost, accuracy, strictly=False, itself=False, later=False):
    """Which settings are beaten by another, with room for mistakes."""
    rows, columns = cost[:, None], accuracy[:, None]
    if strictly:
        return ((rows < cost) & (columns > accuracy)).any(0)
    better = (rows < cost) | (columns > accuracy)
    if itself:
        better = torch.ones_like(better)
    elif later:
        better = better | torch.ones_like(better).triu(1)
    return ((rows <= cost) & (columns >= accuracy) & better).any(0)


def under_the_line(cost, accuracy):
    """Which settings lie below a line between two others."""
    below = beaten(cost, accuracy)
    for a in range(len(cost)):
        for b in range(len(cost)):
            if cost[a] < cost[b]:
                line = accuracy[a] + (accuracy[b] - accuracy[a]) * (cost - cost[a]) / (cost[b] - cost[a])
                below |= (cost > cost[a]) & (cost < cost[b]) & (accuracy < line - 1e-6)
    return below


def without_twins(cost, accuracy):
    twins = (cost[:, None] == cost) & (accuracy[:, None] == accuracy)
    return ~beaten(cost, accuracy) & (twins.sum(0) == 1)


def by_sorting(cost, accuracy):
    """From the cheapest up: new ones must beat the best so far, or equal a setting that did."""
    front, settings = set(), sorted(zip(cost.tolist(), (-accuracy).tolist(), strict=True))
    for c, a in settings:
        if all(a < other for _, other in front):
            front.add((c, a))
    return [pair in front for pair in zip(cost.tolist(), (-accuracy).tolist(), strict=True)]


def by_budgets(cost, accuracy):
    """The best that a budget of one's own cost buys, at no lower price."""
    best = torch.stack([accuracy[cost <= c].max() for c in cost])
    cheapest = torch.stack([cost[accuracy >= a].min() for a in accuracy])
    return ((best == accuracy) & (cheapest == cost)).int()


def one_by_one(cost, accuracy):
    a, c = accuracy.numpy(), cost.numpy()
    front = np.ones(len(c))
    for i in range(len(c)):
        front[i] = not np.any((c <= c[i]) & (a >= a[i]) & ((c != c[i]) | (a != a[i])))
    return front


def best_that_fits(cost, accuracy, budgets, value=lambda c, a: a.max(), none=0.0, fits=lambda c, b: c <= b):
    """What each budget gets, with room for mistakes."""
    got = [value(cost[fits(cost, b)], accuracy[fits(cost, b)]) if fits(cost, b).any() else none for b in budgets]
    return torch.tensor([float(value) for value in got if value is not None])


def by_search(cost, accuracy, budgets):
    order = cost.argsort()
    best = torch.cat([torch.zeros(1), accuracy[order].cummax(0).values])
    return best[torch.searchsorted(cost[order], budgets, right=True)].mean().double()


def by_steps(cost, accuracy, budgets):
    """Setting by setting, from the worst: each gets the budgets that it fits."""
    got = dict.fromkeys(range(len(budgets)), Fraction(0))
    for a, c in sorted(zip(accuracy.tolist(), cost.tolist(), strict=True)):
        got.update({i: Fraction(a) for i, b in enumerate(budgets.tolist()) if c <= b})
    return sum(got.values()) / len(got)


def in_place(cost, accuracy, budgets):
    budgets.unsqueeze_(1).sub_(cost[None].max()).add_(cost.max())
    return np.where(budgets.numpy() >= cost.numpy(), accuracy.numpy(), 0).max(1).mean(keepdims=True)


WRONG = {
    "pareto_front": {
        "better in both": (lambda c, a: ~beaten(c, a, strictly=True), "better in *one* of the two"),
        "beaten by itself": (lambda c, a: ~beaten(c, a, itself=True), "does each beat itself"),
        "one of two equals": (lambda c, a: ~beaten(c, a, later=True), "only the first is left"),
        "the other of two equals": (
            lambda c, a: ~beaten(c.flip(0), a.flip(0), later=True).flip(0),
            "only the last is left",
        ),
        "none of two equals": (without_twins, "two equals are both out"),
        "the beaten": (lambda c, a: beaten(c, a), "the wrong way round"),
        "the hull": (lambda c, a: ~under_the_line(c, a), "nobody offers the line"),
        "indices": (lambda c, a: (~beaten(c, a)).nonzero()[:, 0], "should be a tensor of shape (9,)"),
        "accuracies": (lambda c, a: a * ~beaten(c, a), "should be 1, it is 0.5"),
        "as if sorted": (lambda c, a: a >= a.cummax(0).values, "should be"),
        "never alone": (lambda c, a: ~beaten(c, a) & (len(a) > 1), "but for cost = [4], accuracy = [0]"),
        "most accurate": (lambda c, a: (a == a.max()) | (a == 0.5), "should be"),
        "in place": (lambda c, a: c.sub_(c) > a, "changed what it was given"),
    },
    "random_budget": {
        "sum": (lambda c, a, b: best_that_fits(c, a, b).sum(), "the sum over the budgets"),
        "those that are served": (lambda c, a, b: best_that_fits(c, a, b, none=None).mean(), "counts too"),
        "strictly": (lambda c, a, b: best_that_fits(c, a, b, fits=lambda c, b: c < b).mean(), "exactly the budget"),
        "the dearest": (
            lambda c, a, b: best_that_fits(c, a, b, lambda c, a: a[c.argmax()]).mean(),
            "need not be the most accurate",
        ),
        "the mean": (lambda c, a, b: best_that_fits(c, a, b, lambda c, a: a.mean()).mean(), "not the mean of all"),
        "the mean budget": (lambda c, a, b: best_that_fits(c, a, b.mean()[None]), "the mean of the best"),
        "any budget": (lambda c, a, b: a.max(), "some budgets do not allow"),
        "the cheapest": (lambda c, a, b: best_that_fits(c, a, b, none=0.6).mean(), "still too dear"),
        "six": (lambda c, a, b: best_that_fits(c, a, b).sum() / 6, "should be 0.225"),
        "each": (lambda c, a, b: best_that_fits(c, a, b), "one number, not of (6,)"),
        "chance": (lambda c, a, b: best_that_fits(c, a, b, none=0.1).mean(), "should be 0.683333"),
        "none of nothing": (
            lambda c, a, b: best_that_fits(c, a, b).mean() if (c.min() <= b).any() else float("nan"),
            "there is a NaN",
        ),
    },
}
RIGHT = {
    "pareto_front": [by_sorting, by_budgets, one_by_one],
    "random_budget": [by_search, by_steps, in_place],
}
