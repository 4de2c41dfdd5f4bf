"""One loss rule: its value is the cost, its gradient is right in expectation where the estimator is unbiased."""

import pytest
import torch

from lecture_lib.choice import gumbel_softmax, sample, softmax, straight_through
from lecture_lib.estimators import exact_expectation, surrogate

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
