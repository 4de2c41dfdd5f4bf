"""Thresholds with a guarantee: p-values by exact enumeration, the guarantee by simulation."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from lecture_lib.calibration import betting_p_value, hoeffding_bentkus_p_value, learn_then_test


def below(count, n, p):
    """P(Bin(n, p) <= count), in fractions."""
    p = Fraction(p)
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(count + 1))


@pytest.mark.parametrize("tolerance", [0.05, 0.1, 0.5, 0.93])
@pytest.mark.parametrize("n", [1, 7, 100])
def test_p_value_is_the_smaller_of_both_bounds(n, tolerance):
    for count in range(n + 1):
        r = min(count / n, tolerance)
        parts = [(r, tolerance), (1 - r, 1 - tolerance)]
        hoeffding = math.exp(-n * sum(a * math.log(a / b) for a, b in parts if a > 0))
        bentkus = math.e * float(below(count, n, tolerance))
        p = hoeffding_bentkus_p_value(count / n, n, tolerance)
        assert p == pytest.approx(min(hoeffding, bentkus, 1), rel=1e-9)


def test_whole_counts_are_exact_in_spite_of_rounding():
    assert math.ceil(100 * 0.07) == 8  # the trap
    ours = hoeffding_bentkus_p_value(0.07, 100, 0.15)
    assert ours == pytest.approx(math.e * float(below(7, 100, 0.15)), rel=1e-12)
    for n in (10, 97, 100, 541, 12345):  # whatever way the mean of n losses of 0 and 1 was computed
        for count in {*range(0, n, max(1, n // 50)), n - 1, n}:
            losses = torch.zeros(n, dtype=torch.float64)
            losses[:count] = 1
            p = {hoeffding_bentkus_p_value(r, n, 0.3) for r in (count / n, losses.mean().item(), count * (1 / n))}
            assert max(p) - min(p) <= 1e-9 * max(p)
    # a sum that is not whole is rounded up: never in favour of the threshold
    assert hoeffding_bentkus_p_value(0.0701, 100, 0.15) > ours


@pytest.mark.parametrize(("n", "tolerance"), [(20, 0.1), (100, 0.05), (60, 0.5)])
def test_a_p_value_is_below_u_with_probability_at_most_u(n, tolerance):
    """The definition, by enumeration of all counts at the border of the null hypothesis, for every u attained."""
    p = [hoeffding_bentkus_p_value(count / n, n, tolerance) for count in range(n + 1)]
    assert p == sorted(p)
    for count, u in enumerate(p):
        assert float(below(count, n, tolerance)) <= u + 1e-12


def test_p_value_at_the_ends():
    assert hoeffding_bentkus_p_value(0.0, 0, 0.1) == 1  # no example, no evidence
    assert hoeffding_bentkus_p_value(1.0, 50, 0.1) == 1
    assert hoeffding_bentkus_p_value(0.0, 50, 0.1) == pytest.approx(0.9**50)
    assert hoeffding_bentkus_p_value(0.0, 10**6, 0.5) == 0


def bet(losses, tolerance, error):
    """The dumb reference: one loss after the other, and only what was seen before it decides its stake."""
    money = richest = 1.0
    for i in range(len(losses)):
        before = losses[:i]
        means = [(0.5 + sum(before[: j + 1])) / (j + 2) for j in range(i)]
        variance = (0.25 + sum((x - mean) ** 2 for x, mean in zip(before, means, strict=True))) / (i + 1)
        stake = min(1.0, math.sqrt(2 * math.log(1 / error) / (len(losses) * variance)))
        money *= 1 - stake * (losses[i] - tolerance)
        richest = max(richest, money)
    return 1 / richest


@pytest.mark.parametrize("n", [1, 2, 13, 60])
@pytest.mark.parametrize(("tolerance", "error"), [(0.1, 0.1), (0.5, 0.01), (0.9, 0.4)])
def test_a_bet_is_one_loss_after_the_other(n, tolerance, error):
    rng = np.random.default_rng(n)
    for losses in (rng.random(n), (rng.random(n) < 0.05) * 1.0, np.zeros(n), np.ones(n), 0.1 * rng.random(n)):
        assert betting_p_value(losses, tolerance, error) == pytest.approx(bet(losses, tolerance, error), rel=1e-9)


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.0, 0.05, 1.0)])
@pytest.mark.parametrize(("tolerance", "error"), [(0.1, 0.1), (0.3, 0.05), (0.6, 0.5)])
def test_a_bet_is_below_u_with_probability_at_most_u(values, tolerance, error):
    """The definition, by enumeration of all sequences of losses whose mean is the tolerance, for every u attained."""
    chances = np.full(len(values), 0.3)  # of the values in the middle
    chances[-1] = (tolerance - 0.3 * sum(values[1:-1])) / values[-1]
    chances[0] = 1 - chances[1:].sum()
    assert (chances > 0).all() and chances @ values == pytest.approx(tolerance)
    sequences = list(itertools.product(range(len(values)), repeat=9 if len(values) == 2 else 7))
    p = [betting_p_value(np.take(values, indices), tolerance, error) for indices in sequences]
    weight = [math.prod(chances[list(indices)]) for indices in sequences]
    order = np.argsort(p)
    reached = np.cumsum(np.array(weight)[order])
    assert min(p) < 0.7  # it can say something
    for place in order.argsort():
        last = np.searchsorted(np.array(p)[order], np.array(p)[order][place], side="right") - 1
        assert reached[last] <= np.array(p)[order][place] + 1e-12


def test_betting_proves_small_losses_where_the_other_bounds_do_not():
    """60 losses between 0 and 1 with a small spread: Hoeffding-Bentkus takes them for coins."""
    losses = np.random.default_rng(0).beta(2, 38, 60)  # mean 0.05
    assert betting_p_value(losses, 0.1, 0.1) < 0.1 < hoeffding_bentkus_p_value(losses.mean(), 60, 0.1)


def test_a_bet_at_the_ends():
    assert betting_p_value([], 0.1, 0.1) == 1  # no example, no evidence
    assert betting_p_value([1.0] * 50, 0.1, 0.1) == 1
    assert betting_p_value(torch.zeros(5), 0.5, 0.1) == betting_p_value(np.zeros(5), 0.5, 0.1) < 1


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([[0.1]], r"losses must have shape \(n,\), got \(1, 1\)"),
        ([0.1, 1.5], "losses must be from 0 to 1, got 0.1 to 1.5"),
        ([math.nan], "losses must be from 0 to 1, got nan to nan"),
        (["a"], r"losses must have shape \(n,\)"),
    ],
)
def test_what_cannot_be_bet_on(losses, said):
    with pytest.raises(ValueError, match=said):
        betting_p_value(losses, 0.1, 0.1)
    for tolerance, error, name in ((0, 0.1, "tolerance"), (0.1, 1, "error")):
        with pytest.raises(ValueError, match=f"{name} must be between 0 and 1"):
            betting_p_value([0.1], tolerance, error)


def losses_with(rng, risks, n):
    """Losses of 0 and 1 with these risks: bolder thresholds fail wherever safer ones do."""
    return rng.random((n, 1)) < risks


def test_the_guarantee_holds_in_2000_trials_and_the_naive_rule_breaks_it():
    rng, trials, tolerance, error = np.random.default_rng(0), 2000, 0.1, 0.1
    risks = np.linspace(0.01, 0.3, 30)  # of 30 thresholds, from the safest to the boldest
    broken = naive_broken = answered = 0
    for _ in range(trials):
        losses = losses_with(rng, risks, 300)
        index = learn_then_test(losses, tolerance, error)
        answered += index is not None
        broken += index is not None and risks[index] > tolerance
        naive = np.flatnonzero(losses.mean(0) <= tolerance)
        naive_broken += len(naive) > 0 and risks[naive[-1]] > tolerance
    margin = 3 * math.sqrt(error * (1 - error) / trials)
    assert broken / trials <= error + margin
    assert naive_broken / trials > 0.25
    assert answered == trials  # and it is not safe by never answering


def test_the_guarantee_holds_for_losses_between_0_and_1_and_betting_is_bolder():
    rng, trials, tolerance, error = np.random.default_rng(1), 1000, 0.2, 0.2
    risks = np.linspace(0.05, 0.4, 15)
    chosen = {None: [], betting_p_value: []}
    for _ in range(trials):
        losses = rng.beta(4 * risks, 4 * (1 - risks), (100, 15))
        for p_value, found in chosen.items():
            found.append(learn_then_test(losses, tolerance, error, p_value=p_value))
    for found in chosen.values():
        broken = sum(index is not None and risks[index] > tolerance for index in found)
        assert broken / trials <= error + 3 * math.sqrt(error * (1 - error) / trials)
    of_bounds, of_bets = ([risks[i] for i in found if i is not None] for found in chosen.values())
    assert len(of_bets) == trials and np.mean(of_bets) > np.mean(of_bounds) + 0.01


def test_testing_takes_the_p_value_that_it_is_given():
    seen = []

    def p_value(losses, tolerance, error):
        seen.append((losses.tolist(), tolerance, error))
        return [0.0, 0.1, 0.2][len(seen) - 1]

    assert learn_then_test([[0, 0.5, 1], [1, 0, 0]], 0.3, 0.1, p_value=p_value) == 1
    assert seen == [([0, 1], 0.3, 0.1), ([0.5, 0], 0.3, 0.1), ([1, 0], 0.3, 0.1)]


def test_testing_stops_at_the_first_that_does_not_pass():
    losses = np.zeros((200, 5))
    losses[:60, 2] = 1  # the third threshold fails, the bolder ones would pass
    assert learn_then_test(losses, 0.1, 0.1) == 1
    assert learn_then_test(torch.from_numpy(losses), 0.1, 0.1) == 1
    losses[:60, 0] = 1
    assert learn_then_test(losses, 0.1, 0.1) is None


def test_it_passes_exactly_while_the_p_value_is_at_most_the_error():
    losses = np.zeros((100, 21))
    for count in range(21):
        losses[:count, count] = 1
    for error in (0.01, 0.05, 0.3):
        p = [hoeffding_bentkus_p_value(count / 100, 100, 0.1) for count in range(21)]
        assert learn_then_test(losses, 0.1, error) == sum(value <= error for value in p) - 1


def test_nothing_to_learn_from_gives_no_threshold():
    assert learn_then_test(np.zeros((0, 4)), 0.1, 0.1) is None
    assert learn_then_test(np.zeros((100, 0)), 0.1, 0.1) is None
    assert learn_then_test(np.zeros((5, 4)), 0.1, 0.1) is None  # five good examples prove nothing at this tolerance


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, float("nan")])
def test_tolerance_and_error_must_be_inside_0_and_1(value):
    with pytest.raises(ValueError, match=f"tolerance must be between 0 and 1, both excluded, got {value}"):
        learn_then_test(np.zeros((10, 2)), value, 0.1)
    with pytest.raises(ValueError, match=f"error must be between 0 and 1, both excluded, got {value}"):
        learn_then_test(np.zeros((10, 2)), 0.1, value)
    with pytest.raises(ValueError, match="tolerance must be between"):
        hoeffding_bentkus_p_value(0.1, 10, value)


def test_other_bad_input_is_refused_by_name():
    for call, message in [
        (lambda: hoeffding_bentkus_p_value(1.2, 10, 0.1), "risk must be from 0 to 1, got 1.2"),
        (lambda: hoeffding_bentkus_p_value(0.1, -1, 0.1), "n must be an integer >= 0, got -1"),
        (lambda: hoeffding_bentkus_p_value(0.1, 2.5, 0.1), "n must be an integer >= 0, got 2.5"),
        (lambda: learn_then_test(np.zeros(5), 0.1, 0.1), r"losses must have shape \(n, thresholds\), got \(5,\)"),
        (lambda: learn_then_test(np.full((2, 2), 1.5), 0.1, 0.1), "losses must be from 0 to 1, got 1.5 to 1.5"),
        (lambda: learn_then_test(np.full((2, 2), np.nan), 0.1, 0.1), "losses must be from 0 to 1, got nan"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
