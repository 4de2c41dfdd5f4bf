"""The ways to choose: their laws, their gradients, what they refuse."""

import pytest
import torch
from scipy import stats
from test_simplex import bad_logits
from torch.distributions import RelaxedOneHotCategorical
from ways import WAYS

from lecture_lib import simplex
from lecture_lib.choice import (
    Choice,
    argmax,
    entmax,
    gumbel_softmax,
    gumbel_top_k,
    keep_or_discard,
    noisy_top_k,
    sample,
    softmax,
    stick_breaking,
    straight_through,
    top_k,
)

TALK = torch.tensor([1.3, 0.2, 0.7])
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def those(holds):
    """The ways for which it holds."""
    return pytest.mark.parametrize("way", [pytest.param(way, id=name) for name, way in WAYS.items() if holds(way)])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@every_way
@pytest.mark.parametrize("shape", [(3,), (1,), (5, 4), (2, 3, 7), (0, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_weights_are_a_point_of_the_simplex(way, shape, dtype):
    """Or below it, for ways that give away less than all."""
    logits = torch.randn(shape, generator=seeded()).to(dtype)
    choice = way(logits)
    assert choice.logits is logits
    assert choice.weights.shape == logits.shape and choice.weights.dtype == dtype
    assert choice.log_prob.shape == logits.shape[:-1]
    assert choice.log_prob.dtype in (dtype, torch.promote_types(dtype, torch.float32))
    assert (choice.weights >= 0).all()
    total = choice.weights.sum(-1)
    assert (total <= 1.01).all()
    if way.whole:
        torch.testing.assert_close(total, torch.ones(shape[:-1], dtype=dtype), atol=1e-2, rtol=0)


@every_way
def test_a_forbidden_option_gets_no_weight_and_no_gradient(way):
    logits = torch.tensor([[0.3, -torch.inf, 1.0], [-torch.inf, -torch.inf, 0.0], [0.0, 1.0, 2.0]])
    logits = logits.repeat(500, 1).requires_grad_()
    choice = way(logits)
    assert (choice.weights[logits == -torch.inf] == 0).all()
    total = (choice.weights * torch.tensor([1.0, 2.0, 3.0])).sum() + choice.log_prob.sum()
    if total.requires_grad:
        (gradient,) = torch.autograd.grad(total, logits)
        assert gradient.isfinite().all() and (gradient[logits == -torch.inf] == 0).all()


@every_way
def test_the_table_says_what_each_way_is(way):
    logits = torch.randn(1000, 5, generator=seeded())
    weights = way.seeded()(logits).weights
    assert (((weights == 0) | (weights == 1)).all() and (weights.sum(-1) == 1).all()) == way.hard
    assert ((weights.sum(-1) - 1).abs() < 1e-5).all() == way.whole
    assert torch.equal(weights, way.seeded(1)(logits).weights) != way.noisy
    if not way.noisy:
        assert torch.allclose(weights[-7:], way(logits[-7:]).weights) == way.alone


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


@those(lambda way: way.noisy)
def test_one_generator_gives_one_choice_and_leaves_the_global_state_alone(way):
    logits, state = torch.randn(10, 4), torch.get_rng_state()
    assert torch.equal(way(logits, generator=seeded(9)).weights, way(logits, generator=seeded(9)).weights)
    assert torch.equal(torch.get_rng_state(), state)


@those(lambda way: way.alone and not way.noisy)
def test_permuting_the_options_permutes_the_choice_and_a_shift_changes_nothing(way):
    logits, order = torch.randn(50, 6, generator=seeded()), torch.randperm(6, generator=seeded(1))
    torch.testing.assert_close(way(logits[:, order]).weights, way(logits).weights[:, order])
    torch.testing.assert_close(way(logits + 3).weights, way(logits).weights)


@every_way
@bad_logits
def test_logits_are_checked(way, logits, error, found):
    with pytest.raises(error, match=f"logits must .*{found}"):
        way(logits)


@pytest.mark.parametrize("temperature", [0, -1.0, torch.nan, torch.inf, "1", None])
@those(lambda way: "temperature" in way.takes)
def test_temperature_is_checked(way, temperature):
    with pytest.raises(ValueError, match=r"temperature must be a finite number > 0, got "):
        way(TALK, temperature=temperature)


@those(lambda way: way.noisy)
def test_a_generator_on_another_device_is_refused(way):
    elsewhere = torch.zeros(3, device="meta")  # a device that every machine has; its values cannot be looked at
    with pytest.raises(ValueError, match="generator must be on the device of logits, meta, got cpu"):
        way(elsewhere, generator=seeded())


def test_straight_through_wants_a_choice():
    with pytest.raises(TypeError, match="choice must be a Choice, got Tensor"):
        straight_through(TALK)
    assert isinstance(straight_through(softmax(TALK)), Choice)


# ---- subsets


@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k_is_a_softmax_of_the_k_best(k):
    logits = torch.randn(50, 4, dtype=torch.float64, generator=seeded())
    weights = top_k(logits, k).weights
    others = logits < logits.sort(-1, descending=True).values[:, k - 1 : k]
    torch.testing.assert_close(weights, logits.masked_fill(others, -torch.inf).softmax(-1))
    assert ((weights > 0).sum(-1) == k).all()
    assert torch.autograd.gradcheck(lambda s: top_k(s, k).weights, logits[:5].clone().requires_grad_())


def test_top_1_lets_no_gradient_through():
    logits = torch.randn(5, 4, generator=seeded(), requires_grad=True)
    weights = top_k(logits, 1).weights
    (gradient,) = torch.autograd.grad((weights * torch.arange(4.0)).sum(), logits)
    assert torch.equal(weights, argmax(logits).weights) and (gradient == 0).all()


def test_fewer_allowed_options_than_k():
    logits = torch.tensor([0.5, -torch.inf, -torch.inf])
    for choice in (top_k(logits, 2), gumbel_top_k(logits, 2), noisy_top_k(logits, 2)):
        assert choice.weights.tolist() == [1, 0, 0]


def test_noisy_top_k_is_top_k_of_noisy_scores():
    logits, std = torch.randn(100, 5, generator=seeded()), torch.rand(100, 5, generator=seeded(1))
    noise = torch.randn(100, 5, generator=seeded(2))
    ours = noisy_top_k(logits, 2, std, generator=seeded(2))
    torch.testing.assert_close(ours.weights, top_k(logits + std * noise, 2).weights)
    assert torch.equal(noisy_top_k(logits, 2, 0.0).weights, top_k(logits, 2).weights)
    with pytest.raises(ValueError, match="std must be finite and >= 0, got -1"):
        noisy_top_k(logits, 2, -1)


def test_gumbel_top_k_is_plackett_luce():
    """P(a, then b) = p_a · p_b / (1 - p_a), for every ordered pair: a has the larger weight."""
    p = TALK.double().softmax(-1)
    weights = gumbel_top_k(TALK.expand(100_000, 3), 2, 0.5, generator=seeded(3)).weights
    first, second = weights.topk(2, dim=-1).indices.T
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    counts = [((first == a) & (second == b)).sum().item() for a, b in pairs]
    expected = [100_000 * (p[a] * p[b] / (1 - p[a])).item() for a, b in pairs]
    assert sum(counts) == 100_000 and stats.chisquare(counts, expected).pvalue > 1e-3


def test_gumbel_top_k_of_all_is_gumbel_softmax():
    logits = torch.randn(50, 4, generator=seeded())
    both = (gumbel_top_k(logits, 4, 0.7, generator=seeded(1)), gumbel_softmax(logits, 0.7, generator=seeded(1)))
    torch.testing.assert_close(both[0].weights, both[1].weights)


@those(lambda way: "k" in way.takes)
@pytest.mark.parametrize("k", [0, 4, -1, 1.0, None])
def test_k_is_checked(way, k):
    with pytest.raises(ValueError, match=r"k must be .*from 1 to .* 3, got "):
        way(TALK, k=k)


# ---- sparse maps, sticks, gates


def test_entmax_chooses_by_the_sparse_map():
    logits = torch.randn(20, 6, generator=seeded())
    assert torch.equal(entmax(logits, 2).weights, simplex.sparsemax(logits))
    torch.testing.assert_close(entmax(logits, 1).weights, softmax(logits).weights)


@pytest.mark.parametrize("shape", [(3,), (5, 2), (4, 0), (0, 3)])
def test_stick_breaking_equals_the_product(shape):
    gates = torch.randn(shape, dtype=torch.float64, generator=seeded())
    choice = stick_breaking(gates)
    g = torch.cat([gates.sigmoid(), torch.ones(*shape[:-1], 1, dtype=torch.float64)], -1)
    by_hand = torch.stack([g[..., k] * (1 - g[..., :k]).prod(-1) for k in range(g.shape[-1])], -1)
    torch.testing.assert_close(choice.weights, by_hand)
    torch.testing.assert_close(softmax(choice.logits).weights, by_hand)
    if gates.numel():
        assert torch.autograd.gradcheck(lambda s: stick_breaking(s).weights, gates.clone().requires_grad_())


def test_stick_breaking_at_its_limits():
    gates = torch.tensor([-torch.inf, 100.0, 3.0], requires_grad=True)
    choice = stick_breaking(gates)
    torch.testing.assert_close(choice.weights, torch.tensor([0.0, 1.0, 0.0, 0.0]))
    (gradient,) = torch.autograd.grad(choice.weights[1], gates)
    assert gradient.isfinite().all()
    with pytest.raises(ValueError, match=r"gate_logits must be finite, or -inf .* got NaN"):
        stick_breaking(torch.tensor([torch.nan]))
    with pytest.raises(TypeError, match=r"gate_logits must be a floating-point tensor \(..., K - 1\), got 3"):
        stick_breaking(3)


def test_keep_or_discard_is_a_sigmoid():
    score = torch.randn(7, generator=seeded())
    torch.testing.assert_close(softmax(keep_or_discard(score)).weights[:, 0], score.sigmoid())
    assert torch.equal(argmax(keep_or_discard(score)).weights[:, 0] == 1, score >= 0)
