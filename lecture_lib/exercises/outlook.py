"""Checks of the exercises on outlook."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lecture_lib.exercises.answers import NotAttempted, Wrong, tensor_of


def pareto_front(answer: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Costs (S,) and accuracies (S,) in; a mask (S,) of the settings that no other beats out."""
    cost = torch.tensor([4.0, 1.0, 2.0, 3.0, 5.0, 3.5, 2.0, 5.0, 1.0])
    accuracy = torch.tensor([0.9, 0.5, 0.7, 0.7, 0.8, 0.75, 0.6, 0.9, 0.5])
    right = torch.tensor([True, True, True, False, False, True, False, False, True])
    front = tensor_of(answer(cost.clone(), accuracy.clone()), (9,))
    if not ((front == 0) | (front == 1)).all():
        raise Wrong(f"the result should be a mask of True and False, it holds {front.tolist()}.")
    front = front.bool()
    if torch.equal(front, right):
        one = answer(torch.tensor([2.0]), torch.tensor([0.1]))
        if not (isinstance(one, Tensor) and one.tolist() == [True]):
            raise Wrong("a setting that is alone is beaten by nobody, however bad it is.")
        return "Whatever the budget is, the best setting lies on the front; the others can be forgotten."
    if not front.any():
        raise Wrong("no setting is left: does each beat itself? It is at most as dear as itself, but not better.")
    if torch.equal(front, ~right):
        raise Wrong("the mask is the wrong way round: these are the settings that are beaten.")
    if not (front[1] and front[8]):
        raise Wrong("two settings are equal, (1, 0.5): neither is better than the other, so neither beats the other.")
    if front[3] or front[6] or front[7]:
        raise Wrong("as dear and more accurate, or as accurate and cheaper: better in *one* of the two is enough.")
    if not front[5]:
        raise Wrong(
            "(3.5, 0.75) lies below the line from (2, 0.7) to (4, 0.9), but nobody offers a point of that line: it"
            " belongs to the front."
        )
    place = int((front != right).nonzero()[0])
    raise Wrong(f"cost {cost[place]:g} and accuracy {accuracy[place]:g}: you say {bool(front[place])}.")


def random_budget(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str:
    """Costs (S,), accuracies (S,) and budgets (N,) in; the expected share of right answers out."""
    cost, accuracy = torch.tensor([1.0, 2.0, 4.0, 3.0]), torch.tensor([0.6, 0.8, 0.85, 0.9])
    budgets = torch.tensor([0.5, 1.0, 2.5, 3.5, 5.0, 4.5])

    def ask(*given: Tensor) -> float:
        value = answer(*(t.clone() for t in given))
        if value is None or value is ...:
            raise NotAttempted
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError):
            raise Wrong("the result should be one number.") from None

    share, right = ask(cost, accuracy, budgets), 4.1 / 6
    mistakes = {
        4.1: "that is the sum over the budgets; each has probability 1/N.",
        4.1 / 5: "a budget that nothing fits counts too: no answer is never right.",
        3.5 / 6: "a setting that costs exactly the budget fits.",
        4.0 / 6: "the dearest setting that fits need not be the most accurate: here it is not.",
        (0.6 + 0.7 + 2.3 / 3 + 2 * 3.15 / 4) / 6: "not the mean of all that fit: the network takes the best.",
        0.8: "that is the best at the mean budget; wanted is the mean of the best.",
        0.9: "0.9 is right only if every budget is ample: some do not allow that setting.",
        4.7 / 6: "where nothing fits, the cheapest is still too dear: that budget gets no answer.",
    }
    for wrong, hint in mistakes.items():
        if math.isclose(share, wrong, rel_tol=1e-4):
            raise Wrong(hint)
    if not math.isclose(share, right, rel_tol=1e-4):
        raise Wrong(f"for the check's six budgets it should be {right:.4f}, it is {share:.4f}.")
    other = ask(torch.tensor([3.0, 1.0]), torch.tensor([0.5, 0.2]), torch.tensor([1.0, 2.0, 3.0, 0.1]))
    if not math.isclose(other, 0.9 / 4, rel_tol=1e-4):
        raise Wrong("right for six budgets and four settings, not for four and two: which number should be a name?")
    return "The demand is part of the question: change the budgets, and another network is the best one to ship."
