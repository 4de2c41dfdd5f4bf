"""Checks of the exercises on merging."""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lecture_lib.exercises.answers import Answer, Wrong, exercise, normal, number, show, tensor_of

COLUMNS = [3, -1, -1], [1, 1, -5], [2, 0, 4], [0, 0, 0], [-1, -2, 0], [0, 4, -1], [3, -2, -2]
VECTORS = [v * (v.abs() > 0.3) for v in normal((2, 5), (6, 9), (1, 4), (4, 1))]
VECTORS = [(v,) for v in (torch.tensor(COLUMNS).T.float(), *VECTORS)]


@exercise(VECTORS)
def elect_and_merge(v: Tensor) -> dict:
    """Trimmed task vectors (K, n) in, their merger (n,) out: the sign of the sum, its mean."""

    def mean(sign: Tensor) -> Tensor:
        return v.where(v * sign > 0, 0).sum(0) / (v * sign > 0).sum(0).clamp(min=1)

    agrees, there = (v * v.sum(0) > 0).sum(0), (v != 0).sum(0).clamp(min=1)
    right, largest = mean(v.sum(0)), v.gather(0, v.abs().argmax(0)[None])[0]
    total = right * agrees
    return {
        "In a plain mean those who disagree shrink the result; here they do not count.": right,
        "there is a NaN: where nobody votes, 0/0 is not a number.": total / agrees,
        "this is the plain mean: those who disagree count as well.": v.mean(0),
        "the mean of all that is not zero holds those of the other sign.": v.sum(0) / there,
        "the sign is that of the sum, not of the majority.": mean(v.sign().sum(0)),
        "the sign is that of the sum, not of the largest entry.": mean(largest),
        "that is the sum of those who agree; take their mean.": total,
        "the right entries are added, then divided by K. How many agree?": total / len(v),
        "these are the ones that disagree.": mean(-v.sum(0)),
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


same_function = number(
    "3! · 4! = 6 · 24 = 144: each order of the one layer goes with each of the other.",
    144,
    {
        "units stay in their layer: the seven do not change places with each other.": 5040,
        "each order of the one layer goes with each of the other: multiply.": 30,
        "those are pairs of units; in how many orders can 3 units stand? In 3 · 2 · 1.": 12,
        "inputs and outputs keep their places: only hidden units may move.": 144 * 24,
        "that is the second layer alone.": 24,
        "that is the first layer alone.": 6,
    },
)

spread = number(
    "The mean has variance (1 + 1 + 2 · 0.4) / 4 = 0.7, so a spread of √0.7 = 0.84; after eight layers 0.84⁸ = 0.24.",
    0.7**4,
    {
        "that is one layer; multiply up the eight.": 0.7**0.5,
        "those are variances; the spread is their square root.": 0.7**8,
        "that holds for a correlation of 0: the two also vary together.": 0.5**4,
        "the variance of a mean of two is a quarter of that of their sum.": 1.4**4,
        "0.4 is the correlation, not the factor of the spread.": 0.4**8,
        "one layer's variance: take the root, then multiply up eight layers.": 0.7,
    },
    tolerance=0.002,
)

scaled_unit = number(
    "The averaged unit reads with (1 + 9) / 2 = 5 and speaks with (1 + 1/9) / 2 = 0.556: 2.8 times too loud.",
    25 / 9,
    {
        "it speaks more softly, too: the outgoing weight is the mean of 1 and 1/9.": 5,
        "it reads more strongly, too: the incoming weight is the mean of 1 and 9.": 5 / 9,
        "each copy alone is right; what counts is the product of the two averaged weights.": 1,
        "that is one over the factor: the averaged unit is too loud.": 9 / 25,
        "average the weights, not the logarithms: that would be right, and is not what averaging does.": 3,
    },
    tolerance=0.05,
)
