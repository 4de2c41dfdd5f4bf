"""Checks of the exercises on adaptive language model."""

import torch
from torch import Tensor

from lecture_lib.exercises.answers import Answer, NotAttempted, Wrong, exercise, normal, tensor_of

SAID = [((2 * s).abs().long(),) for s in normal((5, 40), (2, 5), (5, 12), (7, 1), (1, 3))]
GAP = [0.01, 0.012, 0.05, 0.3, 0.04, 0.9]
TESTS = [(p, 0.1) for p in (GAP, [0.2, 0.01], [0.01, 0.02, 0.03], [0.1, 0.5], [0.04, 0.04, 0.04])]
TESTS += [(p.sigmoid().tolist(), 0.6) for p in normal((1,), (2,), (3,), (5,), (8,))]


@exercise(SAID)
def oracle_exit(predictions: Tensor) -> dict:
    """Predictions (L, T) in; the first exit (T,) from which on all agree with the last out."""
    n, agrees = len(predictions), (predictions == predictions[-1]).long()
    settled, total = agrees.flip(0).cumprod(0).sum(0), agrees.sum(0)
    pairs = torch.cat([predictions[1:] == predictions[:-1], agrees[-1:].bool()])
    return {
        "It needs all layers to know that it did not: a yardstick, not a method.": n - settled,
        "a prediction may be right, change, and come back, as in 5, 3, 5, 5.": agrees.argmax(0),
        "off by one: exits count from 0; what you return is how many layers run.": n - settled + 1,
        "the number of exits that agree does not tell which: there may be gaps.": n - total,
        "that is how many exits agree. Which is the first of those at the end?": total,
        "two in a row that agree may both be wrong: ask the last.": pairs.long().argmax(0),
    }


def index_or_none(answer: Answer, p_values: list[float], error: float) -> object:
    index = answer(p_values, error)
    if index is None and all(answer(list(p), 0.1) is None for p in (GAP, [0.01, 0.02])):
        raise NotAttempted  # else None may be meant
    if index is not None and tensor_of(index, "one index or None").eq(-1).all():
        raise Wrong("-1 is the last place of a list; if not even the safest passes, say None.")
    return -1 if index is None else index


def named(given: Tensor, wanted: Tensor, *case: object) -> str | None:
    got = "None" if given == -1 else f"{given:g}"
    return None if given == wanted else f"you get {got}."


@exercise(TESTS, ask=index_or_none, verdict=named)
def fixed_sequence(p_values: list[float], error: float) -> dict:
    """p-values from the safest threshold to the boldest and ε in; the index or None out."""

    def last(p: list[float], error: float) -> int:
        return [*(value > error for value in p), True].index(True) - 1  # -1 is None

    p, n, right = p_values, len(p_values), last(p_values, error)
    passed, sums = [i for i in range(n) if p[i] <= error], [sum(p[: i + 1]) for i in range(n)]
    return {
        "A true hypothesis is rejected only after the first true one: probability ≤ ε.": right,
        "after a test that fails nothing counts any more.": [-1, *passed][-1],
        "that is the first test that fails; the one before it was the last to pass.": right + 1,
        "that is the first that passes. Go on: bolder saves more.": [*passed, -1][0],
        "no correction for many tests: each compares with ε itself.": last(p, error / n),
        "each p-value is compared with ε by itself, not their sum.": last(sums, error),
        "if not even the safest passes, the answer is None: the full model.": max(right, 0),
        "if all pass, the boldest is the one to use.": -1 if right == n - 1 else right,
        "a p-value equal to ε passes.": last(p, error - 1e-9),
    }
