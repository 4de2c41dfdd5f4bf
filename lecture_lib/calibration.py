"""Thresholds with a guarantee: from losses on held-out examples, one that keeps the risk below a tolerance.

The risk is the expected loss on new examples. Picking the boldest threshold whose *measured* loss is low enough gives
no such promise: among many thresholds, the measurement that looks good is often just lucky.
"""

import math
from collections.abc import Callable

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


def betting_p_value(losses: ArrayLike, tolerance: float, error: float) -> float:
    """A p-value for "the true risk is above δ", from independent losses x_i in [0, 1] in the order they came:

        p = 1 / max_i K_i,    K_i = Π_{j <= i} (1 - stake_j · (x_j - δ)),    K_0 = 1

    K is the money of somebody who bets that losses are below δ. If the risk is at least δ, no rule for the stakes
    that looks at earlier losses alone makes money on average, and K ever reaches 1/u with probability at most u
    (Ville's inequality). So p is below any u with probability at most u, as in `hoeffding_bentkus_p_value`. Where
    losses spread little the stakes are high, and it is much smaller than that.

    Args:
        losses: (n,) in [0, 1]; with none, p is 1. Their order must not depend on their values.
        tolerance: δ in (0, 1).
        error: ε in (0, 1), at which the test will be made. The promise holds for any; it only sets the stakes,
            min(1, sqrt(2 log(1/ε) / (n v_{j-1}))), v_j = (1/4 + Σ_{i <= j} (x_i - m_i)²) / (1 + j),
            m_j = (1/2 + Σ_{i <= j} x_i) / (1 + j).

    Source: Waudby-Smith and Ramdas 2023, Estimating means of bounded random variables by betting; with these stakes
    Bates et al. 2021, Distribution-free, risk-controlling prediction sets.
    """
    losses = _as_losses(losses, 1, "(n,)")
    tolerance, error = _as_open_share("tolerance", tolerance), _as_open_share("error", error)
    if not len(losses):
        return 1.0
    seen = np.arange(len(losses)) + 1
    mean = (0.5 + losses.cumsum()) / (seen + 1)
    variance = (0.25 + ((losses - mean) ** 2).cumsum()) / (seen + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    stakes = np.minimum(1, np.sqrt(2 * math.log(1 / error) / (len(losses) * before)))
    return float(np.exp(-max(0.0, np.log1p(-stakes * (losses - tolerance)).cumsum().max())))


def learn_then_test(
    losses: ArrayLike,
    tolerance: float,
    error: float,
    *,
    p_value: Callable[[np.ndarray, float, float], float] | None = None,
) -> int | None:
    """The boldest threshold whose risk is proved to be at most `tolerance`, except with probability `error`.

    Fixed-sequence testing: from the safest threshold on, reject "the risk is above the tolerance" while the p-value is
    at most `error`; stop at the first that is not, and return the one before it. As each test is reached only through
    rejections, the first true hypothesis is the only one that can go wrong: no correction for many tests is needed.

    Args:
        losses: (n, thresholds) in [0, 1], of n independent held-out examples, thresholds from the safest to the
            boldest: an order fixed before looking at these losses.
        tolerance: δ in (0, 1).
        error: ε in (0, 1).
        p_value: of the losses (n,) at a threshold, δ and ε, such as `betting_p_value`; None: Hoeffding-Bentkus.

    Returns: the index of the threshold, or None if not even the first passes: then use the full model.

    Source: Angelopoulos et al. 2021, Learn then test; for exits: Schuster et al. 2022 (CALM).
    """
    losses = _as_losses(losses, 2, "(n, thresholds)")
    tolerance, error = _as_open_share("tolerance", tolerance), _as_open_share("error", error)
    passed = None
    for index in range(losses.shape[1]):
        if (p_value or _hoeffding_bentkus)(losses[:, index], tolerance, error) > error:
            break
        passed = index
    return passed


def _hoeffding_bentkus(losses: np.ndarray, tolerance: float, _error: float) -> float:
    return _p_value(math.fsum(losses), len(losses), tolerance)  # a sum that is exact for losses of 0 and 1


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


def _as_losses(losses: ArrayLike, ndim: int, shape: str) -> np.ndarray:
    """The losses as floats, from 0 to 1."""
    losses = losses.detach().cpu().double() if isinstance(losses, Tensor) else losses
    try:
        losses = np.asarray(losses, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"losses must have shape {shape}: {error}") from None
    if losses.ndim != ndim:
        raise ValueError(f"losses must have shape {shape}, got {losses.shape}")
    if not ((losses >= 0) & (losses <= 1)).all():
        raise ValueError(f"losses must be from 0 to 1, got {losses.min()} to {losses.max()}")
    return losses
