"""One comparison: ours beside something else, in turns, with quartiles."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from lecture_lib.cost import Machine, roofline

AHEAD, SAME = 0.95, 1.03  # limits of the ratio: SAME where the peer runs the same kernel


class Work(NamedTuple):
    """What a computation does at least: see `roofline`."""

    flops: float
    n_bytes: float


class Case(NamedTuple):
    """`ours` and `theirs` take no argument, and return what must be equal.

    Args:
        within: how far apart results may be, in units of the largest; None if they are not the same on purpose.
        limit: the ratio of times that is promised, None if none is.
        work: of `ours`, for the roofline.
        rounds: more of them where the ratio is close to its limit.
        why: what stands in the way of the limit, where it is missed: the test of the record asks for it.
    """

    what: str
    ours: Callable
    against: str
    theirs: Callable
    within: float | None = 1e-5
    limit: float | None = AHEAD
    work: Work | None = None
    rounds: int = 9
    why: str = ""


def seconds(fn: Callable, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        fn()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / calls


def measure(case: Case) -> dict:
    """Ours and theirs take turns: `ms` and `against_ms` are medians, `ratio` is the median of the rounds' ratios.

    Both halves of a round meet the same machine, and what slows it slows both; the two medians may come from rounds
    in which it was not the same. So `ratio` is not ms / against_ms. Its quartiles are those of the rounds.
    """
    check_equal(case)
    calls = [max(1, round(0.1 / min(seconds(fn, 1), seconds(fn, 1)))) for fn in (case.ours, case.theirs)]
    turns = list(zip((case.ours, case.theirs), calls, strict=True))
    pairs = [[seconds(fn, n) for fn, n in turns] for _ in range(case.rounds)]
    ours, theirs = np.median(pairs, axis=0)
    low, ratio, high = np.quantile([a / b for a, b in pairs], [0.25, 0.5, 0.75])
    row = {"ms": 1e3 * ours, "against_ms": 1e3 * theirs, "ratio": ratio, "ratio_low": low, "ratio_high": high}
    if case.limit is not None:
        row["limit"] = case.limit
    if case.work is not None:
        row |= case.work._asdict()
    row = {key: round(float(value), 3) for key, value in row.items()}
    return {"what": case.what, "against": case.against} | row | ({"why": case.why} if case.why else {})


def under_roof(row: dict, machine: Machine) -> dict:
    """How far a row with `work` is from its roofline."""
    bound, seconds = roofline(row["flops"], row["n_bytes"], machine), row["ms"] / 1e3
    if bound.compute > seconds:
        raise RuntimeError(f"{row['what']} was faster than the machine's rate of products: it was busy, measure again")
    shares = {"times_roofline": seconds / bound.seconds, "share_of_matmul_rate": bound.compute / seconds}
    return {key: round(value, 3) for key, value in shares.items()}


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
