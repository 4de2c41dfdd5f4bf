"""The ways to choose: their laws, their gradients, what they refuse."""

from functools import partial

import pytest
import torch
from scipy import stats
from torch.distributions import RelaxedOneHotCategorical

from lecture_lib.choice import Choice, argmax, gumbel_softmax, sample, softmax, straight_through

TALK = torch.tensor([1.3, 0.2, 0.7])
WAYS = {
    "softmax": softmax,
    "argmax": argmax,
    "gumbel_softmax": gumbel_softmax,
    "gumbel_softmax, cold": partial(gumbel_softmax, temperature=0.05),
    "straight_through(softmax)": lambda s: straight_through(softmax(s)),
    "straight_through(gumbel_softmax)": lambda s: straight_through(gumbel_softmax(s)),
    "sample": sample,
}
HARD = ["argmax", "straight_through(softmax)", "straight_through(gumbel_softmax)", "sample"]
every_way = pytest.mark.parametrize("choose", WAYS.values(), ids=WAYS)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@every_way
@pytest.mark.parametrize("shape", [(3,), (1,), (5, 4), (2, 3, 7), (0, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_weights_are_a_point_of_the_simplex(choose, shape, dtype):
    logits = torch.randn(shape, generator=seeded()).to(dtype)
    choice = choose(logits)
    assert choice.logits is logits
    assert choice.weights.shape == logits.shape and choice.weights.dtype == dtype
    assert choice.log_prob.shape == logits.shape[:-1] and choice.log_prob.dtype == dtype
    assert (choice.weights >= 0).all()
    torch.testing.assert_close(choice.weights.sum(-1), torch.ones(shape[:-1], dtype=dtype), atol=1e-2, rtol=0)


@every_way
def test_a_forbidden_option_gets_no_weight_and_no_gradient(choose):
    logits = torch.tensor([[0.3, -torch.inf, 1.0], [-torch.inf, -torch.inf, 0.0]]).repeat(500, 1).requires_grad_()
    choice = choose(logits)
    assert (choice.weights[logits == -torch.inf] == 0).all()
    total = (choice.weights * torch.tensor([1.0, 2.0, 3.0])).sum() + choice.log_prob.sum()
    if total.requires_grad:
        (gradient,) = torch.autograd.grad(total, logits)
        assert gradient.isfinite().all() and (gradient[logits == -torch.inf] == 0).all()


@pytest.mark.parametrize("way", HARD)
def test_a_hard_choice_is_exactly_one_hot(way):
    weights = WAYS[way](torch.randn(1000, 5, generator=seeded())).weights
    assert ((weights == 0) | (weights == 1)).all() and (weights.sum(-1) == 1).all()


def test_the_talks_example():
    assert argmax(TALK).weights.tolist() == [1, 0, 0]
    torch.testing.assert_close(softmax(TALK).weights, TALK.exp() / TALK.exp().sum())


def test_argmax_has_no_gradient_and_its_finite_difference_is_zero():
    assert not argmax(TALK.clone().requires_grad_()).weights.requires_grad
    assert torch.equal(argmax(TALK + 1e-3).weights, argmax(TALK).weights)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_gumbel_softmax_has_the_concrete_law(temperature):
    """log x_i - log x_j is logistic with location (s_i - s_j) / λ and scale 1 / λ, for every pair."""
    x = gumbel_softmax(TALK.double().expand(20_000, 3), temperature, generator=seeded(1)).weights
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        both = (x[:, i] > 0) & (x[:, j] > 0)  # at a low temperature a few are rounded to a corner
        ratio = (x[both, i].log() - x[both, j].log()).numpy()
        law = stats.logistic(loc=(TALK[i] - TALK[j]).item() / temperature, scale=1 / temperature)
        assert stats.kstest(ratio, law.cdf).pvalue > 1e-3


def test_gumbel_softmax_agrees_with_torchs_distribution():
    ours = gumbel_softmax(TALK.expand(20_000, 3), 0.7, generator=seeded(2)).weights
    with torch.random.fork_rng():
        torch.manual_seed(3)
        theirs = RelaxedOneHotCategorical(torch.tensor(0.7), logits=TALK).sample((20_000,))
    for k in range(3):
        assert stats.ks_2samp(ours[:, k].numpy(), theirs[:, k].numpy()).pvalue > 1e-3


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("way", ["gumbel_softmax", "straight_through"])
def test_argmax_of_a_relaxed_sample_has_law_softmax_at_every_temperature(way, temperature):
    choice = gumbel_softmax(TALK.expand(100_000, 3), temperature, generator=seeded(4))
    choice = straight_through(choice) if way == "straight_through" else choice
    counts = choice.weights.argmax(-1).bincount(minlength=3)
    assert stats.chisquare(counts.numpy(), (100_000 * TALK.double().softmax(-1)).numpy()).pvalue > 1e-3


def test_sample_has_law_softmax_and_knows_its_log_probability():
    logits = TALK.expand(100_000, 3)
    choice = sample(logits, generator=seeded(5))
    counts = choice.weights.sum(0)
    assert stats.chisquare(counts.numpy(), (100_000 * TALK.double().softmax(-1)).numpy()).pvalue > 1e-3
    torch.testing.assert_close(choice.log_prob, (choice.weights * TALK.log_softmax(-1)).sum(-1))


def test_temperature_limits():
    cold = gumbel_softmax(TALK.expand(1000, 3), 1e-30, generator=seeded()).weights
    assert ((cold == 0) | (cold == 1)).all()
    hot = gumbel_softmax(TALK.expand(1000, 3), 1e6, generator=seeded()).weights
    torch.testing.assert_close(hot, torch.full_like(hot, 1 / 3), atol=1e-4, rtol=0)


def test_pathwise_gradient_is_that_of_the_noisy_softmax():
    logits = TALK.double().expand(50, 3).clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: gumbel_softmax(s, 0.5, generator=seeded(6)).weights, logits)


def test_straight_through_keeps_the_gradient_of_the_soft_weights():
    logits = torch.randn(20, 4, generator=seeded(), requires_grad=True)
    soft = gumbel_softmax(logits, generator=seeded(7))
    direction = torch.randn(20, 4, generator=seeded(8))
    expected, got = (
        torch.autograd.grad((c.weights * direction).sum(), logits, retain_graph=True)[0]
        for c in (soft, straight_through(soft))
    )
    assert torch.equal(expected, got)


@pytest.mark.parametrize("way", [gumbel_softmax, sample])
def test_one_generator_gives_one_choice_and_leaves_the_global_state_alone(way):
    logits, state = torch.randn(10, 4), torch.get_rng_state()
    assert torch.equal(way(logits, generator=seeded(9)).weights, way(logits, generator=seeded(9)).weights)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("choose", [softmax, argmax], ids=["softmax", "argmax"])
def test_permuting_the_options_permutes_the_choice_and_a_shift_changes_nothing(choose):
    logits, order = torch.randn(50, 6, generator=seeded()), torch.randperm(6, generator=seeded(1))
    torch.testing.assert_close(choose(logits[:, order]).weights, choose(logits).weights[:, order])
    torch.testing.assert_close(choose(logits + 3).weights, choose(logits).weights)


@every_way
@pytest.mark.parametrize(
    ("logits", "error", "found"),
    [
        (torch.zeros(()), ValueError, r"shape .*got \(\)"),
        (torch.zeros(4, 0), ValueError, r"K >= 1 options, got \(4, 0\)"),
        (torch.tensor([0.0, torch.nan]), ValueError, "got NaN"),
        (torch.tensor([0.0, torch.inf]), ValueError, r"got \+inf"),
        (torch.tensor([[0.0, 1.0], [-torch.inf, -torch.inf]]), ValueError, "row of only -inf"),
        (torch.tensor([1, 2, 3]), TypeError, "got a tensor of torch.int64"),
        ([1.3, 0.2, 0.7], TypeError, "got list"),
    ],
)
def test_logits_are_checked(choose, logits, error, found):
    with pytest.raises(error, match=f"logits must .*{found}"):
        choose(logits)


@pytest.mark.parametrize("temperature", [0, -1.0, torch.nan, torch.inf, "1", None])
def test_temperature_is_checked(temperature):
    with pytest.raises(ValueError, match=r"temperature must be a finite number > 0, got "):
        gumbel_softmax(TALK, temperature)


@pytest.mark.parametrize("way", [gumbel_softmax, sample])
def test_a_generator_on_another_device_is_refused(way):
    elsewhere = torch.zeros(3, device="meta")  # a device that every machine has; its values cannot be looked at
    with pytest.raises(ValueError, match="generator must be on the device of logits, meta, got cpu"):
        way(elsewhere, generator=seeded())


def test_straight_through_wants_a_choice():
    with pytest.raises(TypeError, match="choice must be a Choice, got Tensor"):
        straight_through(TALK)
    assert isinstance(straight_through(softmax(TALK)), Choice)
