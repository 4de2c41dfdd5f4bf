"""Checks of the exercises on outlook."""

import torch
from torch import Tensor

from lecture_lib.exercises.answers import exercise, normal

COST = torch.tensor([4.0, 1.0, 2.0, 3.0, 5.0, 3.5, 2.0, 5.0, 1.0])
ACCURACY = torch.tensor([0.9, 0.5, 0.7, 0.7, 0.8, 0.75, 0.6, 0.9, 0.5])
SETTINGS = [(COST, ACCURACY), (COST[:1], 0 * COST[:1]), (COST[:3] * 0, COST[:3] * 0)]
SETTINGS += [(c.round() + 3, a.sigmoid().round(decimals=1)) for c, a in normal((2, 5), (2, 9))]
FOUR = [1.0, 2.0, 4.0, 3.0], [0.6, 0.8, 0.85, 0.9], [0.5, 1.0, 2.5, 3.5, 5.0, 4.5]
TWO, NONE_FITS = ([3.0, 1.0], [0.5, 0.2], [1.0, 2.0, 3.0, 0.1]), ([2.0], [0.7], [1.0, 1.5])
BUDGETS = [tuple(map(torch.tensor, case)) for case in (FOUR, TWO, NONE_FITS)]
BUDGETS += [tuple(map(torch.sigmoid, normal((5,), (5,), (n,)))) for n in (9, 1)]


@exercise(SETTINGS)
def pareto_front(cost: Tensor, accuracy: Tensor) -> dict:
    """Costs (S,) and accuracies (S,) in; a mask (S,) of the settings that no other beats out."""
    c, a = cost[:, None] - cost, accuracy - accuracy[:, None]  # negative: i is better than j
    front, twin = ~((c <= 0) & (a <= 0) & (c + a < 0)).any(0), (c == 0) & (a == 0)
    t = c[:, None] / (c[:, None] - c)  # (S, S, S): where between two settings a third is
    below = ((0 < t) & (t < 1) & (a[:, None] * (1 - t) + a * t < -1e-6)).any(0).any(0)
    first, last = front & ~twin.triu(1).any(0), front & ~twin.tril(-1).any(0)
    return {
        "Whatever the budget, a best setting lies on the front; forget the others.": front,
        "no setting is left: does each beat itself? It is as good, but not better.": 0 * cost,
        "the mask is the wrong way round: these are the settings that are beaten.": ~front,
        "of two equals only the first is left: neither beats the other.": first,
        "of two equals only the last is left: neither beats the other.": last,
        "two equals are both out: neither beats the other.": front & (twin.sum(0) == 1),
        "better in *one* of the two is enough.": ~((c < 0) & (a < 0)).any(0),
        "what lies below a line may be on the front: nobody offers the line.": front & ~below,
    }


@exercise(BUDGETS)
def random_budget(cost: Tensor, accuracy: Tensor, budgets: Tensor) -> dict:
    """Costs (S,), accuracies (S,) and budgets (N,) in; the expected share of right answers out."""

    def best(budgets: Tensor) -> Tensor:
        return accuracy.where(cost <= budgets[:, None], 0).amax(-1)

    fits, got = cost <= budgets[:, None], best(budgets)  # (N, S), (N,)
    right, served, cheapest = got.mean(), fits.any(-1), accuracy[cost.argmin()]
    dearest = accuracy[cost.where(fits, -1).argmax(-1)] * served
    mean = (accuracy * fits).sum(-1) / fits.sum(-1).clamp(min=1)
    return {
        "The demand decides: with other budgets, another network is the best to ship.": right,
        "that is the sum over the budgets; each has probability 1/N.": got.sum(),
        "a budget that nothing fits counts too, as 0.": got.sum() / served.sum(),
        "a setting that costs exactly the budget fits.": best(budgets - 1e-6).mean(),
        "the dearest setting that fits need not be the most accurate.": dearest.mean(),
        "not the mean of all that fit: the network takes the best.": mean.mean(),
        "wanted is the mean of the best, not the best at the mean.": best(budgets.mean()[None])[0],
        "some budgets do not allow the most accurate setting.": accuracy.max(),
        "where nothing fits, the cheapest is still too dear.": got.where(served, cheapest).mean(),
    }
