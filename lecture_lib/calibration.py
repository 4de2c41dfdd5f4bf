"""Thresholds with a guarantee: from losses on held-out examples, one that keeps the risk below a tolerance.

The risk is the expected loss on new examples. Picking the boldest threshold whose *measured* loss is low enough gives
no such promise: among many thresholds, the measurement that looks good is often just lucky.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr
from torch import Tensor

from lecture_lib.simplex import as_integer, as_number


def hoeffding_bentkus_p_value(risk: float, n: int, tolerance: float) -> float:
    """A p-value for "the true risk is above δ", from the mean r of n independent losses in [0, 1]:

        p = min( exp(-n · h(min(r, δ), δ)),  e · P(Bin(n, δ) <= ⌈n r⌉) )
        h(a, b) = a log(a / b) + (1 - a) log((1 - a) / (1 - b))

    If the true risk is at least δ, then p is below any u in [0, 1] with probability at most u.

    Args:
        risk: r, the mean loss. Where n · r is a whole number up to rounding, as the mean of losses of 0 and 1 is, it
            counts as that number: computed naively, ⌈100 · 0.07⌉ is 8.
        n: how many losses, >= 0; with none, p is 1.
        tolerance: δ in (0, 1).

    Source: Bates et al. 2021, Distribution-free, risk-controlling prediction sets; Angelopoulos et al. 2021, Learn then
    test.
    """
    n = as_integer("n", n, "an integer >= 0", 0)
    risk = as_number("risk", risk, "from 0 to 1", lambda r: 0 <= r <= 1)
    tolerance = _as_open_share("tolerance", tolerance)
    total = n * risk
    if abs(total - round(total)) <= 4 * np.finfo(float).eps * n:
        total = round(total)
    return _p_value(total, n, tolerance)


def learn_then_test(losses: ArrayLike, tolerance: float, error: float) -> int | None:
    """The boldest threshold whose risk is proved to be at most `tolerance`, except with probability `error`.

    Fixed-sequence testing: from the safest threshold on, reject "the risk is above the tolerance" while the p-value is
    at most `error`; stop at the first that is not, and return the one before it. As each test is reached only through
    rejections, the first true hypothesis is the only one that can go wrong: no correction for many tests is needed.

    Args:
        losses: (n, thresholds) in [0, 1], of n independent held-out examples, thresholds from the safest to the
            boldest: an order fixed before looking at these losses.
        tolerance: δ in (0, 1).
        error: ε in (0, 1).

    Returns: the index of the threshold, or None if not even the first passes: then use the full model.

    Source: Angelopoulos et al. 2021, Learn then test; for exits: Schuster et al. 2022 (CALM).
    """
    losses = losses.detach().cpu().double() if isinstance(losses, Tensor) else losses
    try:
        losses = np.asarray(losses, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"losses must have shape (n, thresholds): {error}") from None
    if losses.ndim != 2:
        raise ValueError(f"losses must have shape (n, thresholds), got {losses.shape}")
    if not ((losses >= 0) & (losses <= 1)).all():
        raise ValueError(f"losses must be from 0 to 1, got {losses.min()} to {losses.max()}")
    tolerance, error = _as_open_share("tolerance", tolerance), _as_open_share("error", error)
    passed = None
    for index in range(losses.shape[1]):
        total = math.fsum(losses[:, index])  # exact for losses of 0 and 1
        if _p_value(total, len(losses), tolerance) > error:
            break
        passed = index
    return passed


def _p_value(total: float, n: int, tolerance: float) -> float:
    """The p-value from the sum of the losses."""
    if n == 0:
        return 1.0
    low = min(total / n, tolerance)
    divergence = low * math.log(low / tolerance) if low > 0 else 0.0
    divergence += (1 - low) * (math.log1p(-low) - math.log1p(-tolerance))  # low <= tolerance < 1
    bentkus = math.e * float(bdtr(min(math.ceil(total), n), n, tolerance))
    return min(math.exp(-n * divergence), bentkus, 1.0)


def _as_open_share(name: str, value: float) -> float:
    return as_number(name, value, "between 0 and 1, both excluded", lambda x: 0 < x < 1)
