"""One loss rule: its value is the cost, its gradient is right in expectation where the estimator is unbiased."""

from functools import partial

import pytest
import torch
from torch import nn

from lecture_lib.choice import gumbel_softmax, sample, softmax, straight_through
from lecture_lib.estimators import (
    MovingAverage,
    exact_expectation,
    gradient_statistics,
    gumbel_rao,
    leave_one_out,
    rebar,
    surrogate,
)

LOGITS = torch.tensor([1.3, 0.2, 0.7], dtype=torch.float64)
PRICE = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def cost_fn(z):
    """A cost that is not linear in z, so that relaxing it is not harmless."""
    return (z @ PRICE) ** 2 + z @ PRICE.sin()


def exact_gradient():
    logits = LOGITS.clone().requires_grad_()
    return torch.autograd.grad(exact_expectation(cost_fn, logits), logits)[0]


def sampled_gradients(choose, baseline=0.0, n=100_000):
    """One gradient estimate a row: (n, K)."""
    logits = LOGITS.expand(n, 3).clone().requires_grad_()
    choice = choose(logits)
    cost = cost_fn(choice.weights)
    loss = surrogate(cost, choice.log_prob, baseline)
    assert torch.equal(loss, cost)  # the value of the surrogate is the cost, to the last bit
    return torch.autograd.grad(loss.sum(), logits)[0]


def standard_errors_off(gradients):
    return ((gradients.mean(0) - exact_gradient()) / (gradients.std(0) / len(gradients) ** 0.5)).abs()


def test_exact_expectation_is_the_sum_over_options():
    p = LOGITS.softmax(-1)
    by_hand = sum(p[k] * cost_fn(torch.eye(3, dtype=torch.float64)[k]) for k in range(3))
    torch.testing.assert_close(exact_expectation(cost_fn, LOGITS), by_hand)
    batch = torch.stack([LOGITS, LOGITS.flip(0)])
    rows = torch.stack([exact_expectation(cost_fn, row) for row in batch])
    torch.testing.assert_close(exact_expectation(cost_fn, batch), rows)
    assert torch.autograd.gradcheck(lambda s: exact_expectation(cost_fn, s), batch.clone().requires_grad_())


def test_exact_expectation_ignores_the_cost_of_a_forbidden_option():
    logits = torch.tensor([0.5, -torch.inf, 0.1], requires_grad=True)
    value = exact_expectation(lambda z: torch.where(z[1] == 1, torch.inf, z[0]), logits)
    (gradient,) = torch.autograd.grad(value, logits)
    torch.testing.assert_close(value, logits.detach().softmax(-1)[0])
    assert gradient.isfinite().all() and gradient[1] == 0


@pytest.mark.parametrize("baseline", [0.0, 1.5, torch.tensor(-3.0)])
def test_score_function_is_unbiased_with_any_fixed_baseline(baseline):
    gradients = sampled_gradients(lambda s: sample(s, generator=torch.Generator().manual_seed(0)), baseline)
    assert (standard_errors_off(gradients) < 4).all()


def test_a_good_baseline_lowers_the_variance():
    plain, with_mean = (
        sampled_gradients(lambda s: sample(s, generator=torch.Generator().manual_seed(1)), b).var(0).sum()
        for b in (0.0, exact_expectation(cost_fn, LOGITS))
    )
    assert with_mean < plain


@pytest.mark.parametrize("hard", [False, True])
def test_relaxed_choices_are_biased(hard):
    def choose(logits):
        choice = gumbel_softmax(logits, 1.0, generator=torch.Generator().manual_seed(2))
        return straight_through(choice) if hard else choice

    assert (standard_errors_off(sampled_gradients(choose)) > 10).any()


def test_relaxed_bias_shrinks_with_the_temperature():
    """By integration over the noise, a mean of 4 million samples: what is left at 0.1 is far below that at 1."""
    bias = []
    for temperature in (1.0, 0.1):
        generator = torch.Generator().manual_seed(3)
        mean = torch.stack(
            [
                sampled_gradients(lambda s, t=temperature, g=generator: gumbel_softmax(s, t, generator=g)).mean(0)
                for _ in range(40)
            ]
        ).mean(0)
        bias.append((mean - exact_gradient()).norm())
    assert bias[1] < 0.2 * bias[0]


def test_both_terms_of_the_gradient():
    """d/dθ of the cost itself flows as always, beside the score-function term."""
    theta = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    logits = LOGITS.clone().requires_grad_()
    choice = sample(logits, generator=torch.Generator().manual_seed(4))
    cost = theta * cost_fn(choice.weights)
    d_theta, d_logits = torch.autograd.grad(surrogate(cost, choice.log_prob, 0.3), [theta, logits])
    torch.testing.assert_close(d_theta, cost_fn(choice.weights))
    torch.testing.assert_close(d_logits, (cost - 0.3).detach() * (choice.weights - LOGITS.softmax(-1)))


def test_no_gradient_flows_into_the_baseline():
    baseline = torch.tensor([0.5, 0.5], requires_grad=True)
    choice = sample(torch.zeros(2, 3, requires_grad=True))
    loss = surrogate(torch.ones(2), choice.log_prob, baseline)
    assert torch.autograd.grad(loss.sum(), baseline, allow_unused=True) == (None,)


def test_shapes_are_checked():
    choice = softmax(torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"log_prob must have the shape of cost.* got \(4,\) for a cost of \(\)"):
        surrogate(torch.tensor(1.0), choice.log_prob)
    with pytest.raises(ValueError, match=r"baseline must broadcast to the shape of cost, \(4,\), got \(3,\)"):
        surrogate(torch.ones(4), choice.log_prob, torch.ones(3))
    with pytest.raises(ValueError, match=r"cost_fn must return one cost per row of logits, shape \(4,\), got \(4, 3\)"):
        exact_expectation(lambda z: z, torch.zeros(4, 3))
    with pytest.raises(ValueError, match="logits must be finite"):
        exact_expectation(cost_fn, LOGITS * torch.nan)


# ---- baselines


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_leave_one_out_is_the_mean_of_the_others():
    costs = torch.randn(5, 3, generator=seeded(0))
    by_hand = torch.stack([torch.cat([costs[:s], costs[s + 1 :]]).mean(0) for s in range(5)])
    torch.testing.assert_close(leave_one_out(costs), by_hand)
    # and the form in which papers write it: 1/(S-1) Σ (f_s - mean f) ∇log p_s
    logits = LOGITS.expand(5, 3).clone().requires_grad_()
    log_prob = sample(logits, generator=seeded(1)).log_prob
    cost = costs[:, 0].double()
    ours = torch.autograd.grad(surrogate(cost, log_prob, leave_one_out(cost)).mean(), logits, retain_graph=True)[0]
    theirs = torch.autograd.grad(((cost - cost.mean()) * log_prob).sum() / 4, logits)[0]
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(1,), (1, 4), ()])
def test_leave_one_out_wants_two_samples(shape):
    with pytest.raises(ValueError, match="costs must hold at least 2 samples"):
        leave_one_out(torch.zeros(shape))


def test_a_moving_average_is_read_before_it_is_updated():
    average = MovingAverage(0.5)
    assert [average(torch.tensor([c, c])) for c in (4.0, 8.0, 0.0)] == [4.0, 4.0, 6.0]
    assert average.value == 3.0
    with pytest.raises(ValueError, match=r"decay must be from 0 to less than 1, got 1\.0"):
        MovingAverage(1.0)
    with pytest.raises(ValueError, match="costs must be finite, got a mean of nan"):
        average(torch.tensor(torch.nan))


def test_the_first_moving_average_shortens_one_estimate_and_leaves_its_direction():
    """It is the mean of the present costs: with two of them, half of the gradient, whatever the costs' level."""
    first, then = (
        gradient_statistics(
            partial(sample, generator=seeded(20)),
            lambda z: cost_fn(z) + 100 * (z.sum(-1) > 0),
            LOGITS,
            samples=2,
            n_estimates=200_000,
            baseline=baseline,
        )
        for baseline in (lambda costs: costs.mean(0), lambda costs: 100.0)
    )
    torch.testing.assert_close(first.mean, first.exact / 2, atol=0.02, rtol=0)
    assert (then.bias.abs() < 4 * then.standard_error).all()
    assert MovingAverage()(torch.tensor([100.0, 102.0])) == 101.0


def test_leave_one_out_is_unbiased():
    measured = gradient_statistics(
        partial(sample, generator=seeded(2)), cost_fn, LOGITS, samples=4, baseline=leave_one_out
    )
    assert (measured.bias.abs() < 4 * measured.standard_error).all()


def test_a_baseline_that_saw_its_own_sample_is_biased():
    """What forgetting to leave the own sample out does: the estimate shrinks by (S - 1) / S."""
    measured = gradient_statistics(
        partial(sample, generator=seeded(3)), cost_fn, LOGITS, samples=2, baseline=lambda costs: costs.mean(0)
    )
    assert (measured.bias.abs() > 10 * measured.standard_error).any()
    torch.testing.assert_close(measured.mean, measured.exact / 2, atol=0.02, rtol=0)


def variance_with(baseline, steps=200):
    """Total variance of a gradient estimate in which every example has its own price level: 64 examples, 4 samples."""
    generator, level = seeded(4), 3 * torch.randn(64, generator=seeded(5), dtype=torch.float64)
    estimates = []
    for _ in range(steps):
        logits = LOGITS.expand(4, 64, 3).clone().requires_grad_()
        choice = sample(logits, generator=generator)
        cost = 5 + level + cost_fn(choice.weights)
        loss = surrogate(cost, choice.log_prob, baseline(cost))
        estimates.append(torch.autograd.grad(loss.sum(), logits)[0].mean(0))
    return torch.stack(estimates[20:]).var(0).sum()


def test_variance_falls_from_no_baseline_to_a_moving_average_to_leave_one_out():
    none, moving, others = variance_with(lambda c: 0.0), variance_with(MovingAverage(0.9)), variance_with(leave_one_out)
    assert others < 0.5 * moving and moving < 0.5 * none


def test_a_learned_baseline_lowers_the_variance_where_examples_differ():
    """b(x), fitted to the cost by squared error; the surrogate lets no gradient of its own flow into it."""
    generator = seeded(6)
    x = torch.randn(256, 2, generator=generator, dtype=torch.float64)
    level = 3 * x[:, 0] - x[:, 1]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        learned = nn.Linear(2, 1).double()
    optimizer = torch.optim.Adam(learned.parameters(), lr=0.1)

    def estimate(baseline):
        logits = LOGITS.expand(256, 3).clone().requires_grad_()
        choice = sample(logits, generator=generator)
        cost = level + cost_fn(choice.weights)
        b = baseline()
        loss = surrogate(cost, choice.log_prob, b).mean() + (0 if isinstance(b, float) else (b - cost).square().mean())
        optimizer.zero_grad()
        loss.backward()
        return 256 * logits.grad

    for _ in range(200):
        estimate(lambda: learned(x).squeeze(-1))
        optimizer.step()
    with_b, without = (
        torch.stack([estimate(b) for _ in range(200)]).var(0).sum()
        for b in (lambda: learned(x).squeeze(-1), lambda: 0.0)
    )
    assert with_b < 0.5 * without


# ---- Gumbel-Rao


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_gumbel_rao_has_the_mean_of_straight_through_and_less_variance(temperature):
    measured = [
        gradient_statistics(choose, cost_fn, LOGITS)
        for choose in (
            lambda s: straight_through(gumbel_softmax(s, temperature, generator=seeded(7))),
            lambda s: gumbel_rao(s, temperature, 1, generator=seeded(8)),
            lambda s: gumbel_rao(s, temperature, 20, generator=seeded(9)),
        )
    ]
    plain, one, many = measured
    for other in (one, many):
        error = (plain.standard_error.square() + other.standard_error.square()).sqrt()
        assert ((plain.mean - other.mean).abs() < 4 * error).all()
    assert many.variance.sum() < 0.8 * plain.variance.sum()
    assert 0.9 < one.variance.sum() / plain.variance.sum() < 1.1  # with one draw it is straight-through


def test_gumbel_rao_gains_more_the_lower_the_temperature():
    gain = []
    for t in (1.0, 0.1):
        plain = gradient_statistics(
            lambda s, t=t: straight_through(gumbel_softmax(s, t, generator=seeded(10))), cost_fn, LOGITS
        )
        rao = gradient_statistics(lambda s, t=t: gumbel_rao(s, t, 20, generator=seeded(11)), cost_fn, LOGITS)
        gain.append(plain.variance.sum() / rao.variance.sum())
    assert gain[1] > gain[0] > 1


def test_gumbel_rao_chooses_hard_with_law_softmax_and_respects_forbidden_options():
    logits = torch.tensor([1.3, -torch.inf, 0.7, 1e4 - 1e4]).expand(50_000, 4).clone().requires_grad_()
    choice = gumbel_rao(logits, 0.5, 3, generator=seeded(12))
    assert ((choice.weights == 0) | (choice.weights == 1)).all()
    p = logits[0].softmax(-1)
    assert ((choice.weights.mean(0) - p).abs() < 4 * (p * (1 - p) / 50_000).sqrt() + 1e-9).all()
    (gradient,) = torch.autograd.grad((choice.weights * torch.arange(4.0)).sum(), logits)
    assert gradient.isfinite().all() and (gradient[:, 1] == 0).all()
    large = gumbel_rao(torch.tensor([1000.0, 0.0], requires_grad=True), 0.5, 3)
    assert torch.autograd.grad(large.weights[0], large.logits)[0].isfinite().all()
    with pytest.raises(ValueError, match="n_samples must be an integer >= 1, got 0"):
        gumbel_rao(LOGITS, 0.5, 0)
    with pytest.raises(ValueError, match="temperature must be a finite number > 0, got 0"):
        gumbel_rao(LOGITS, 0)


# ---- REBAR


def rebar_gradients(logits, cost, *options, n=200_000, seed=13, **more):
    """(n, K), an estimate a row."""
    rows = logits.expand(n, -1).clone().requires_grad_()
    loss = rebar(cost, rows, *options, generator=seeded(seed), **more)
    return torch.autograd.grad(loss.sum(), rows)[0]


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, -1.0])
@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
def test_rebar_is_unbiased_at_every_temperature_and_strength(temperature, strength):
    gradients = rebar_gradients(LOGITS, cost_fn, temperature, strength=strength)
    assert (standard_errors_off(gradients) < 4).all()


@pytest.mark.parametrize("n_options", [2, 5])
def test_rebar_is_unbiased_for_other_numbers_of_options(n_options):
    logits, price = torch.linspace(-1, 2, n_options).double(), torch.linspace(0, 1, n_options).double().sin()

    def cost(z):
        return (z @ price - 0.3) ** 2

    leaf = logits.clone().requires_grad_()
    (exact,) = torch.autograd.grad(exact_expectation(cost, leaf), leaf)
    gradients = rebar_gradients(logits, cost, 0.5)
    assert ((gradients.mean(0) - exact).abs() < 4 * gradients.std(0) / len(gradients) ** 0.5).all()


def test_rebar_without_its_control_variate_is_reinforce():
    rows = LOGITS.expand(1000, 3).clone().requires_grad_()
    drawn = []

    def cost(z):
        drawn.append(z.detach())
        return cost_fn(z)

    loss = rebar(cost, rows, strength=0, generator=seeded(14))
    hard, relaxed = drawn  # two evaluations
    assert torch.equal(loss, cost_fn(hard))  # the value is the cost of what was chosen
    assert torch.equal(hard.argmax(-1), relaxed.argmax(-1))
    (gradient,) = torch.autograd.grad(loss.sum(), rows)
    torch.testing.assert_close(gradient, cost_fn(hard)[:, None] * (hard - LOGITS.softmax(-1)))


@pytest.mark.parametrize("seed", range(20))
def test_rebar_is_its_three_terms_with_the_noise_given_the_choice(seed):
    """By autograd through noisy scores given D: log Σ exp s - log E_D, and -log(E_k / exp s_k + E_D / Σ exp s)."""
    s = LOGITS.clone().requires_grad_()
    z = s - torch.empty_like(LOGITS).exponential_(generator=seeded(seed)).log()
    d, times, rates = z.argmax(), (-z).exp().detach(), s.detach().exp()
    e = (times - times.min()) * rates  # the noise given D, if it is to make this z
    e[d] = times.min() * rates.sum()
    given = torch.where(torch.arange(3) == d, s.logsumexp(0) - e[d].log(), -(e / s.exp() + e[d] / s.exp().sum()).log())
    torch.testing.assert_close(given, z)
    relaxed, conditional = (cost_fn((x / 0.7).softmax(-1)) for x in (z, given))
    weight = (cost_fn(torch.eye(3).double()[d]) - 0.6 * conditional).detach()
    (wanted,) = torch.autograd.grad(weight * s.log_softmax(-1)[d] + 0.6 * (relaxed - conditional), s)
    loss = rebar(cost_fn, s, 0.7, strength=0.6, generator=seeded(seed))
    torch.testing.assert_close(torch.autograd.grad(loss, s)[0], wanted)


def test_the_noise_given_the_choice_does_not_know_the_choice():
    """E_k of the test above are exponential numbers, for each D: so what is drawn given D has the law of z."""
    z = LOGITS - torch.empty(300_000, 3).double().exponential_(generator=seeded(17)).log()
    d, times, rates = z.argmax(-1), (-z).exp(), LOGITS.exp()
    e = (times - times.amin(-1, keepdim=True)) * rates
    e.scatter_(-1, d[:, None], (times.amin(-1) * rates.sum())[:, None])
    q = torch.tensor([0.1, 0.5, 0.9]).double()
    for k in range(3):
        torch.testing.assert_close(e[d == k].quantile(q, 0), -(1 - q).log().expand(3, 3).mT, atol=0.05, rtol=0)


def test_rebar_is_unbiased_for_one_cost_of_several_choices_and_less_noisy_than_reinforce():
    """Three choices, one cost. A cost that is nearly linear: its relaxation is a good prediction."""
    weight = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)

    def cost(z):  # (..., 3, K) -> (...)
        return ((z @ PRICE) * weight).sum(-1) + 0.1 * (z @ PRICE).prod(-1)

    leaf = LOGITS.expand(3, 3).clone().requires_grad_()
    options = torch.eye(3, dtype=torch.float64)[torch.cartesian_prod(*[torch.arange(3)] * 3)]  # (27, 3, K), all
    prob = (options * leaf.softmax(-1)).sum(-1).prod(-1)
    (exact,) = torch.autograd.grad((prob * cost(options)).sum(), leaf)
    spread = []
    for strength in (0.0, 1.0):
        rows = LOGITS.expand(100_000, 3, 3).clone().requires_grad_()
        loss = rebar(cost, rows, 0.5, strength=strength, generator=seeded(18))
        assert loss.shape == (100_000,)
        (estimates,) = torch.autograd.grad(loss.sum(), rows)
        assert ((estimates.mean(0) - exact).abs() < 4 * estimates.std(0) / len(estimates) ** 0.5).all()
        spread.append(estimates.var(0).sum().sqrt())
    assert spread[1] < 0.8 * spread[0]


def test_rebar_gives_parameters_of_the_cost_the_gradient_of_what_was_chosen():
    theta = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    rows, drawn = LOGITS.expand(100, 3), []
    loss = rebar(lambda z: drawn.append(z) or theta * cost_fn(z), rows, generator=seeded(16))
    (gradient,) = torch.autograd.grad(loss.sum(), theta)
    torch.testing.assert_close(gradient, cost_fn(drawn[0]).sum())
    with torch.no_grad():
        assert rebar(cost_fn, rows).shape == (100,)


def test_rebar_respects_forbidden_options_and_its_limits():
    logits = torch.tensor([1.3, -torch.inf, 1000.0, 999.0], requires_grad=True)
    loss = rebar(lambda z: (z * torch.arange(4.0)).sum(-1).square(), logits.expand(500, 4), 0.01)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient.isfinite().all() and gradient[1] == 0 and ((loss == 4) | (loss == 9)).all()
    with pytest.raises(ValueError, match="strength must be a finite number, got nan"):
        rebar(cost_fn, LOGITS, strength=torch.nan)
    with pytest.raises(ValueError, match="temperature must be a finite number > 0, got 0"):
        rebar(cost_fn, LOGITS, 0)
    with pytest.raises(ValueError, match="cost_fn must be differentiable in its weights"):
        rebar(lambda z: z.argmax(-1).double(), LOGITS)
    with pytest.raises(ValueError, match=r"cost_fn must return a cost of \(4,\), or less, got \(4, 3\)"):
        rebar(lambda z: z, torch.zeros(4, 3))


def test_gradient_statistics_agrees_with_the_samples_above():
    measured = gradient_statistics(partial(sample, generator=seeded(0)), cost_fn, LOGITS)
    torch.testing.assert_close(measured.exact, exact_gradient())
    gradients = sampled_gradients(lambda s: sample(s, generator=seeded(0)))
    torch.testing.assert_close(measured.mean, gradients.mean(0))
    torch.testing.assert_close(measured.variance, gradients.var(0))
    with pytest.raises(ValueError, match=r"logits must have shape \(K,\), got \(2, 3\)"):
        gradient_statistics(sample, cost_fn, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        gradient_statistics(sample, cost_fn, LOGITS, samples=0)
