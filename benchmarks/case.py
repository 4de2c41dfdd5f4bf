"""One comparison: ours beside something else, in turns, with quartiles."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from lecture_lib.cost import Bound


class Case(NamedTuple):
    """`ours` and `theirs` take no argument, and return what must be equal.

    Args:
        within: how far apart results may be, in units of the largest; None if they are not the same on purpose.
        limit: the ratio of times that is promised, None if none is.
        bound: the roofline of `ours`.
    """

    what: str
    ours: Callable
    against: str
    theirs: Callable
    within: float | None = 1e-5
    limit: float | None = 1.0
    bound: Bound | None = None


def seconds(fn: Callable, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        fn()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / calls


def measure(case: Case, rounds: int = 9) -> dict:
    """Medians of times taken in turns, as a busy machine slows both; the ratio's quartiles are those of the rounds."""
    check_equal(case)
    calls = [max(1, round(0.1 / min(seconds(fn, 1), seconds(fn, 1)))) for fn in (case.ours, case.theirs)]
    pairs = [[seconds(fn, n) for fn, n in zip((case.ours, case.theirs), calls, strict=True)] for _ in range(rounds)]
    ours, theirs = np.median(pairs, axis=0)
    low, ratio, high = np.quantile([a / b for a, b in pairs], [0.25, 0.5, 0.75])
    row = {"ms": 1e3 * ours, "against_ms": 1e3 * theirs, "ratio": ratio, "ratio_low": low, "ratio_high": high}
    if case.limit is not None:
        row["limit"] = case.limit
    if case.bound is not None:
        row["times_roofline"], row["share_of_matmul_rate"] = ours / case.bound.seconds, case.bound.compute / ours
    return {"what": case.what, "against": case.against} | {key: round(float(value), 3) for key, value in row.items()}


def check_equal(case: Case) -> None:
    if case.within is None:
        return
    results = [result if isinstance(result, tuple) else (result,) for result in (case.ours(), case.theirs())]
    for ours, theirs in zip(*results, strict=True):
        apart = (ours - theirs).abs().max() / theirs.abs().max()
        if not apart <= case.within:
            raise AssertionError(
                f"{case.what}: {apart:.1e} apart from {case.against}, at most {case.within} is allowed"
            )
