"""Checks of the exercises on merging."""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lecture_lib.exercises.answers import Answer, Wrong, exercise, normal, show, tensor_of

COLUMNS = [3, -1, -1], [1, 1, -5], [2, 0, 4], [0, 0, 0], [-1, -2, 0], [0, 4, -1], [3, -2, -2]
TAUS = [tau * (tau.abs() > 0.3) for tau in normal((2, 5), (6, 9), (1, 4), (4, 1))]
TAUS = [(tau,) for tau in (torch.tensor(COLUMNS).T.float(), *TAUS)]


@exercise(TAUS)
def elect_and_merge(tau: Tensor) -> dict:
    """Trimmed task vectors (K, n) in, their merger (n,) out: the sign of the sum, its mean."""

    def mean(sign: Tensor) -> Tensor:
        return tau.where(tau * sign > 0, 0).sum(0) / (tau * sign > 0).sum(0).clamp(min=1)

    agrees, there = (tau * tau.sum(0) > 0).sum(0), (tau != 0).sum(0).clamp(min=1)
    right, largest = mean(tau.sum(0)), tau.gather(0, tau.abs().argmax(0)[None])[0]
    total = right * agrees
    return {
        "In a plain mean those who disagree shrink the result; here they do not count.": right,
        "there is a NaN: where nobody votes, 0/0 is not a number.": total / agrees,
        "this is the plain mean: those who disagree count as well.": tau.mean(0),
        "the mean of all that is not zero holds those of the other sign.": tau.sum(0) / there,
        "the sign is that of the sum, not of the majority.": mean(tau.sign().sum(0)),
        "the sign is that of the sum, not of the largest entry.": mean(largest),
        "that is the sum of those who agree; take their mean.": total,
        "the right entries are added, then divided by K. How many agree?": total / len(tau),
        "these are the ones that disagree.": mean(-tau.sum(0)),
    }


def places(answer: Answer, alone: list[float], score: Callable) -> Tensor:
    """Which networks are in the list of members, as 0 and 1."""
    n, found = len(alone), answer(alone, score)
    found = list(found) if isinstance(found, (set, frozenset)) else found
    found = tensor_of(found, "a list of places").flatten()
    if len(set(found.tolist()) & set(range(n))) != len(found):
        raise Wrong(f"the result should be a list of places from 0 to {n - 1}, each once.")
    return torch.zeros(n).index_fill(0, found.long(), 1)


def score(w: Tensor, members: Sequence[int]) -> float:
    """The score of an average of networks of two weights: the best place is (0, 0)."""
    found = [int(i) for i in members]
    return -w[found].double().mean(0).square().sum().item() if found else -torch.inf


def others(given: Tensor, wanted: Tensor, *case: object) -> str | None:
    hint = f"{show(given.nonzero()[:, 0])} is wrong: is each candidate scored with the soup so far?"
    return None if torch.equal(given, wanted) else hint


HAND = torch.tensor([[2, -4], [-4, 4], [2, -3], [2, -1], [0, -3], [-3, -3], [-4, 3]])
NETWORKS = HAND, *normal((1, 2), (2, 2), (6, 2), (7, 2))
SOUPS = [([score(w, [i]) for i in range(len(w))], functools.partial(score, w)) for w in NETWORKS]


@exercise(SOUPS, ask=places, verdict=others)
def soup_members(alone: list[float], score: Callable) -> dict:
    """Who is in a greedy soup: each network's score and a function that scores an average in."""
    n, mask, fits = len(alone), torch.zeros(len(alone)), float.__ge__
    down = sorted(range(n), key=lambda i: -alone[i])

    def soup(order: Sequence[int], joins: Callable = fits, stop: bool = False) -> Tensor:
        found = list(order[:1])
        for i in order[1:]:
            if joins(score([*found, i]), score(found)):
                found.append(i)
            elif stop:
                break
        return mask.index_fill(0, torch.tensor(found), 1)

    wary = soup(down, lambda new, old: new >= max(alone))
    return {
        "Held out, it is never worse than the best network: that is where it starts.": soup(down),
        "they come in the order of the list; begin with the best.": soup(range(n)),
        "they come from the worst up; begin with the best.": soup(down[::-1]),
        "a network that leaves the score as it is should join.": soup(down, float.__gt__),
        "compare with the soup so far, not with the best network.": wary,
        "one that does not fit is left out; go on with the next.": soup(down, stop=True),
        "all of them: that is the uniform soup.": mask + 1,
        "only the best: nobody has joined.": soup(down[:1]),
    }
