"""Checks of the exercises on adaptive language model."""

import torch
from torch import Tensor

from lecture_lib.exercises.answers import Answer, NotAttempted, Wrong, exercise, normal, number, tensor_of

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
        "A bad threshold passes only after the first bad one: probability ≤ ε.": right,
        "after a test that fails nothing counts any more.": [-1, *passed][-1],
        "that is the first test that fails; the one before it was the last to pass.": right + 1,
        "that is the first that passes. Go on: bolder saves more.": [*passed, -1][0],
        "no correction for many tests: each compares with ε itself.": last(p, error / n),
        "each p-value is compared with ε by itself, not their sum.": last(sums, error),
        "if not even the safest passes, the answer is None: the full model.": max(right, 0),
        "if all pass, the boldest is the one to use.": -1 if right == n - 1 else right,
        "a p-value equal to ε passes.": last(p, error - 1e-9),
    }


byte_cost = number(
    "3.8 layers: three layers, three looks of 0.1, and keys and values for layers 3, 4 and 5. A cut there costs 3.1.",
    3.8,
    {
        "later bytes need its keys and values in the layers behind exit 2.": 3.3,
        "the head is asked at exits 0, 1 and 2.": 3.6,
        "that is a cut after layer 2; a byte that may leave pays more.": 3.1,
        "that counts layers alone.": 3.0,
        "exits count from 0: at exit 2 three layers have run.": 2 + 0.2 + 4 / 6,
        "layers 3, 4 and 5 lie behind exit 2: three, not four.": 3.3 + 4 / 6,
        "in layers 0 to 2 its keys and values were made when it ran; only those behind the exit are owed.": 4.3,
    },
    tolerance=0.005,
)

texts_needed = number(
    "0.9^21 = 0.109 and 0.9^22 = 0.098. Hoeffding-Bentkus says the same: at a measured risk of 0, p = (1 - δ)^n.",
    22,
    {
        "0.9^21 = 0.109 is still above ε.": 21,
        "if one text in ten is spoilt, ten good texts come in 0.9^10 = 35 % of all draws. That is more than ε.": 10,
        "that is for ε = 5 %.": 29,
        "there are whole texts only.": 21.854,
        "that is for a tolerance of 5 %.": 45,
        "δ is the probability that one text is spoilt; how likely is it that none of n is?": 1,
    },
    tolerance=0.01,
)

kept_bytes = number(
    "1 + 0.8 + 0.64 = 2.44: the first byte is there always, the second if draft 0 is kept, the third if 0 and 1 are.",
    2.44,
    {
        "after the first draft that is not kept, nothing counts; the others are no longer its continuation.": 2.4,
        "those are the drafts kept; where one is not, the full model's byte takes its place.": 0.8 + 0.64 + 0.512,
        "here a round whose drafts are all kept gives three bytes, not four.": 1 + 0.8 + 0.64 + 0.512,
        "two drafts of three may be kept, too.": 3 * 0.512,
        "the first draft is not always kept, but one byte is always written.": 3.0,
    },
    tolerance=0.005,
)

head_price = number(
    "2.6 layers: asked halfway, after each of 16 layers, heads alone would cost 42 layers.",
    128_000 / (12 * 4096),
    {
        "upside down: you asked how many heads a layer costs.": 12 * 4096 / 128_000,
        "a head is 2 · D · (size of the vocabulary): with the 2.": 128_000 / (24 * 4096),
        "a layer is 24 D², not 12 D²; the 2 of the head is then divided by 24.": 128_000 / (6 * 4096),
        "a layer is 24 D²: divide by its 24, too.": 2 * 128_000 / 4096,
        "that is our head: 256 tokens, width 176.": 256 / (12 * 176),
    },
    tolerance=0.005,
)
