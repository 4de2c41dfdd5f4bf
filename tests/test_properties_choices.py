"""Properties of the ways to choose: simplex, choice, estimators, mixture."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from properties import (
    BATCHES,
    DTYPES,
    NO_NUMBER,
    SEEDS,
    SOME,
    TEMPERATURES,
    close,
    gradient,
    normal,
    refuses,
    rng,
    scores,
    unwanted,
)
from ways import WAYS

from lecture_lib import choice, estimators, mixture, moe, simplex

BAD_SCORES = [
    torch.tensor([0.0, math.nan]),
    torch.tensor([[0.0, 1.0], [0.0, math.inf]]),
    torch.tensor([[0.0, 1.0], [-math.inf, -math.inf]]),
    torch.zeros(3, 0),
    torch.tensor(1.0),
    torch.zeros(2, 3, dtype=torch.int64),
    torch.zeros(2, 3, dtype=torch.bool),
    [0.0, 1.0],
    None,
]


def dumb_entmax(s, alpha):
    """Bisection in float64."""
    x = (s.double() - s.double().amax(-1, keepdim=True)).clamp(min=-1e9)
    if alpha == 1:
        return x.masked_fill(s == -torch.inf, -torch.inf).softmax(-1)
    x = x * (alpha - 1)
    low, high = torch.full_like(x[..., :1], -1.0), torch.zeros_like(x[..., :1])
    for _ in range(100):
        tau = (low + high) / 2
        above = (x - tau).clamp(min=0).pow(1 / (alpha - 1)).sum(-1, keepdim=True) >= 1
        low, high = torch.where(above, tau, low), torch.where(above, high, tau)
    return (x - low).clamp(min=0).pow(1 / (alpha - 1))


@given(scores(), st.sampled_from([1, 1.1, 1.5, 2, 3]))
def test_entmax_is_the_optimum_whatever_is_shifted_reordered_or_forbidden(s, alpha):
    p = simplex.entmax(s, alpha)
    assert p.shape == s.shape and p.dtype == s.dtype and (p >= 0).all() and (p[s == -torch.inf] == 0).all()
    eps = torch.finfo(s.dtype).eps
    precise = max(eps, torch.finfo(torch.float32).eps if s.dtype != torch.float64 else 0)
    off = 16 * (eps + (precise ** min(1, 1 / (alpha - 1)) if alpha > 2 else precise))  # the square root is steep at 0
    torch.testing.assert_close(p.double(), dumb_entmax(s, alpha), atol=off, rtol=0)
    torch.testing.assert_close(p.double().sum(-1), torch.ones(s.shape[:-1]).double(), atol=8 * eps, rtol=0)
    torch.testing.assert_close(simplex.entmax(s.flip(-1), alpha).flip(-1), p, atol=off, rtol=0)
    first = simplex.entmax(s.movedim(-1, 0), alpha, 0).movedim(0, -1)
    torch.testing.assert_close(first, p, atol=off, rtol=0)
    for row in s.reshape(-1, s.shape[-1])[:3]:
        alone = row[row > -torch.inf]
        torch.testing.assert_close(simplex.entmax(row, alpha)[row > -torch.inf], simplex.entmax(alone, alpha))
    slope = gradient(lambda s: simplex.entmax(s, alpha), s)
    assert slope.isfinite().all() and slope.dtype == s.dtype and (slope[s == -torch.inf] == 0).all()
    if alpha == 2:
        assert torch.equal(simplex.sparsemax(s), p)


@given(scores(huge=False), st.sampled_from([1, 1.1, 1.5, 2, 3]), SEEDS)
def test_fenchel_young_losses_follow_their_definition(s, alpha, seed):
    target = torch.randint(s.shape[-1], s.shape[:-1], generator=rng(seed))
    loss = simplex.fenchel_young_loss(s, target, alpha)
    assert loss.shape == s.shape[:-1] and loss.dtype == s.dtype and not loss.isnan().any() and (loss >= 0).all()
    p, y = dumb_entmax(s, alpha), F.one_hot(target, s.shape[-1]).double()
    h = torch.special.entr(p).sum(-1) if alpha == 1 else (1 - p.pow(alpha).sum(-1)) / (alpha * (alpha - 1))
    wanted = h + torch.where(p > 0, p * s.double(), 0).sum(-1) - torch.where(y > 0, s.double(), 0).sum(-1)
    torch.testing.assert_close(loss.double(), wanted, rtol=8 * torch.finfo(s.dtype).eps, atol=1e-3)
    whole = simplex.fenchel_young_loss(s, y.to(s.dtype), alpha)
    torch.testing.assert_close(whole, loss, rtol=8 * torch.finfo(s.dtype).eps, atol=1e-5)
    finite = loss.isfinite()
    assert gradient(lambda s: simplex.fenchel_young_loss(s, target, alpha)[finite], s).isfinite().all()
    refuses("target", simplex.fenchel_young_loss, s, target.unsqueeze(-1), alpha)
    refuses("alpha", simplex.fenchel_young_loss, s, target, 0.5)


TAKES_SCORES = {
    "check_logits": simplex.check_logits,
    "sparsemax": simplex.sparsemax,
    "fenchel_young_loss": lambda s: simplex.fenchel_young_loss(s, torch.zeros(2, dtype=torch.int64)),
    "stick_breaking": choice.stick_breaking,
    "exact_expectation": partial(estimators.exact_expectation, lambda z: z.sum(-1)),
    "gradient_statistics": partial(estimators.gradient_statistics, choice.softmax, lambda z: z.sum(-1)),
    "sinkhorn": moe.sinkhorn,
} | WAYS


@pytest.mark.parametrize("name", TAKES_SCORES)
def test_what_is_no_score_is_refused_everywhere(name):
    for bad in BAD_SCORES:
        if name == "stick_breaking" and isinstance(bad, torch.Tensor) and bad.is_floating_point() and bad.ndim:
            if not (bad.isnan() | bad.isposinf()).any():
                continue  # no gate, or gates that never stop: allowed there
        with pytest.raises((ValueError, TypeError), match="logits"):
            TAKES_SCORES[name](bad)


@pytest.mark.parametrize("name", WAYS)
@given(s=scores(), t=TEMPERATURES, seed=SEEDS, share=st.sampled_from([0, 0.5, 1]))
def test_every_way_of_choosing_gives_a_choice(name, s, t, seed, share):
    k = 1 + int(share * (s.shape[-1] - 1))
    options = {"k": k, "temperature": t, "std": min(t, 1e4), "n_samples": k}
    before, way = s.clone(), lambda s: WAYS[name](s, **options, generator=rng(seed))
    if name == "balanced" and unwanted(s):
        return refuses("logits", way, s)
    made = way(s)
    (logits, z, log_prob), is_choice = made, isinstance(made, choice.Choice)
    assert is_choice and torch.equal(s, before) and logits is s
    assert z.dtype == s.dtype and z.device == s.device
    assert log_prob.dtype in (s.dtype, torch.promote_types(s.dtype, torch.float32))
    assert z.shape == s.shape and log_prob.shape == s.shape[:-1] and (log_prob <= 0).all()
    assert (z >= 0).all() and (z[s == -torch.inf] == 0).all() and torch.equal(z, way(s).weights)
    off = z.double().sum(-1) - 1
    assert ((off.abs() if WAYS[name].whole else off) <= 4 * torch.finfo(s.dtype).eps * s.shape[-1]).all()
    assert "k" not in WAYS[name].takes or ((z > 0).sum(-1) <= k).all()
    assert not WAYS[name].hard or ((z == 0) | (z == 1)).all()
    if 1e-3 <= t <= 10:
        assert gradient(lambda s: way(s).weights, s).isfinite().all()
        assert gradient(lambda s: way(s).log_prob, s).isfinite().all()


@given(scores(), TEMPERATURES, SEEDS)
def test_choices_without_noise_follow_their_definition(s, t, seed):
    close(choice.softmax(s).weights, dumb_entmax(s, 1))
    first = (s == s.amax(-1, keepdim=True)).int().argmax(-1)
    assert torch.equal(choice.argmax(s).weights.argmax(-1), first)
    for k in range(1, s.shape[-1] + 1):
        best = s.argsort(dim=-1, descending=True, stable=True)[..., :k]
        kept = torch.full_like(s, -torch.inf).scatter(-1, best, s.gather(-1, best))
        close(choice.top_k(s, k).weights, dumb_entmax(kept, 1))
        torch.testing.assert_close(choice.noisy_top_k(s, k, 0.0).weights, choice.top_k(s, k).weights)
    drawn = choice.sample(s, generator=rng(seed))
    log_p = (s.double() - s.double().amax(-1, keepdim=True)).log_softmax(-1)
    close(drawn.log_prob, log_p.gather(-1, drawn.weights.argmax(-1, keepdim=True)).squeeze(-1))
    whole = choice.gumbel_top_k(s, s.shape[-1], t, generator=rng(seed)).weights
    torch.testing.assert_close(whole, choice.gumbel_softmax(s, t, generator=rng(seed)).weights)
    gap = s.double() - s.double().amax(-1, keepdim=True)
    wanted = (gap.clamp(min=-1e300) / max(t, 1e-300)).masked_fill(gap == -torch.inf, -torch.inf).softmax(-1)
    if s.dtype == torch.float64 or 1e-3 <= t <= 10:
        close(choice.by_temperature(s, t).softmax(-1), wanted, 64)


@given(scores(k=st.integers(65, 5000), huge=False), st.integers(1, 60))
def test_the_first_are_those_of_a_stable_sort_in_long_rows_too(s, k):
    wanted = s.sort(stable=True, descending=True).indices[..., :k]
    assert torch.equal(simplex.first(s, k), wanted)
    assert torch.equal(simplex.first(s.movedim(-1, 0), k, dim=0), wanted.movedim(-1, 0))
    best = s.argmax(-1)
    assert torch.equal(simplex.one_hot(best, s), F.one_hot(best, s.shape[-1]).to(s.dtype))


@given(scores(), NO_NUMBER)
def test_options_of_choices_are_refused_by_name(s, bad):
    k = s.shape[-1]
    for wrong in (bad, k + 1, 1.5):
        refuses("k", choice.top_k, s, wrong)
        refuses("k", choice.noisy_top_k, s, wrong)
        refuses("k", choice.gumbel_top_k, s, wrong)
    refuses("temperature", choice.gumbel_softmax, s, bad)
    refuses("temperature", choice.gumbel_top_k, s, k, bad)
    refuses("temperature", estimators.gumbel_rao, s, bad)
    refuses("temperature", choice.by_temperature, s, bad)
    refuses("n_samples", estimators.gumbel_rao, s, 1.0, bad)
    refuses("alpha", simplex.entmax, s, bad)
    refuses("dim", simplex.entmax, s, 1.5, s.ndim)
    for std in (-1, math.nan, torch.ones(2, *s.shape), torch.ones(k + 1)):
        refuses("std", choice.noisy_top_k, s, 1, std)
    refuses("choice", choice.straight_through, s)


@given(scores(k=st.integers(0, 5)))
@example(torch.full((2, 3), -torch.inf))
def test_stick_breaking_is_a_walk_along_the_options(gates):
    z, left, stop = choice.stick_breaking(gates), torch.ones(gates.shape[:-1]).double(), gates.double().sigmoid()
    wanted = [left := left * (1 - stop[..., k - 1]) if k else left for k in range(gates.shape[-1] + 1)]
    wanted = [w * stop[..., k] if k < gates.shape[-1] else w for k, w in enumerate(wanted)]
    close(z.weights, torch.stack(wanted, -1))
    assert gradient(lambda g: choice.stick_breaking(g).weights, gates).isfinite().all()
    close(choice.softmax(choice.keep_or_discard(z.weights)).weights[..., 0], z.weights.double().sigmoid())


@given(scores(dtypes=DTYPES[:2], huge=False), SEEDS, st.integers(2, 5))
def test_expectations_and_baselines(s, seed, n):
    value = normal(seed, *s.shape, dtype=s.dtype).masked_fill(s == -torch.inf, math.nan)  # nobody may look there
    got = estimators.exact_expectation(lambda z: torch.where(z > 0, value, 0).sum(-1), s)
    close(got, torch.where(s > -torch.inf, dumb_entmax(s, 1) * value, 0).sum(-1))
    costs = normal(seed, n, *s.shape[:-1])
    others = [torch.cat([costs[:i], costs[i + 1 :]]).mean(0) for i in range(n)]
    close(estimators.leave_one_out(costs), torch.stack(others))
    refuses("costs", estimators.leave_one_out, costs[:1])
    average, state = estimators.MovingAverage(0.75), None
    for row in costs:
        assert state is None or math.isclose(average.value, state)
        row = row if row.numel() else torch.ones(1).double()
        state = row.mean().item() if state is None else state  # nothing was there before
        assert math.isclose(average(row), state)
        state = 0.75 * state + 0.25 * row.mean().item()
    refuses("costs", average, torch.zeros(0))
    for decay in (1, -0.1, math.nan):
        refuses("decay", estimators.MovingAverage, decay)
    cost_now, log_prob = costs.clone().requires_grad_(), normal(seed + 1, *costs.shape).requires_grad_()
    loss = estimators.surrogate(cost_now, log_prob, 0.5)
    assert torch.equal(loss, costs)
    a, b = torch.autograd.grad(loss.sum(), (cost_now, log_prob))
    assert torch.equal(a, torch.ones_like(a)) and torch.equal(b, costs - 0.5)
    refuses("log_prob", estimators.surrogate, costs, log_prob[1:])
    refuses("baseline", estimators.surrogate, costs, log_prob, torch.zeros(7, *costs.shape))


@given(scores(lead=st.just([]), dtypes=DTYPES[:2], huge=False), st.integers(2, 5), st.integers(1, 3))
def test_statistics_of_an_estimator_without_noise(s, n, samples):
    cost_fn = lambda z: z @ torch.arange(s.shape[-1]).to(s)  # noqa: E731
    made = estimators.gradient_statistics(choice.softmax, cost_fn, s, n_estimates=n, samples=samples)
    close(made.exact, gradient_of_mean(s), 64)
    close(made.mean, made.exact, 64)
    assert (
        isinstance(made, estimators.GradientStatistics) and made.variance.max() < 1e-8 and made.bias.abs().max() < 1e-4
    )
    for option in ({"n_estimates": 1}, {"samples": 0}):
        refuses(*option, estimators.gradient_statistics, choice.softmax, cost_fn, s, **option)


@given(scores(huge=False), SEEDS, TEMPERATURES, NO_NUMBER)
def test_rebar_has_the_value_of_a_real_choice_and_a_finite_gradient(s, seed, temperature, bad):
    price = normal(seed, s.shape[-1], dtype=s.dtype)

    def loss(s, cost_fn=lambda z: (z * price).sum(-1)):
        return estimators.rebar(cost_fn, s, temperature, strength=0.7, generator=rng(seed))

    made = loss(s)
    assert made.shape == s.shape[:-1] and made.dtype == simplex.full(s).dtype
    assert all(x in price.tolist() for x in made.flatten().tolist())
    slope = gradient(lambda s: loss(s).sum(), s)
    assert slope.isfinite().all() and (slope[s == -torch.inf] == 0).all()
    refuses("cost_fn", loss, s, lambda z: z)
    refuses("strength", estimators.rebar, lambda z: z.sum(-1), s, strength=math.inf)
    refuses("temperature", estimators.rebar, lambda z: z.sum(-1), s, bad)


def gradient_of_mean(s):
    p, c = dumb_entmax(s, 1), torch.arange(s.shape[-1]).double()
    return p * (c - p @ c)


@st.composite
def weighted(draw, modules=SOME):
    """x (*batch, D), weights (*batch, K) with many zeros, and K linear options of one shape."""
    batch, d, k, out, seed = draw(st.lists(BATCHES, max_size=2)), draw(SOME), draw(modules), draw(SOME), draw(SEEDS)
    x, z = normal(seed, *batch, d), normal(seed + 1, *batch, k).clamp(min=0)
    matrices = normal(seed + 2, k, d, out)
    return x, z, matrices


@given(weighted())
def test_mixtures_are_the_weighted_sum(inputs):
    x, z, matrices = inputs
    options = [lambda rows, w=w: rows @ w for w in matrices]
    wanted = torch.einsum("...d,...k,kdo->...o", x, z, matrices)
    close(mixture.mix(x, z, options), wanted, 64)
    close(mixture.mix_sparse(x, z, options), wanted, 64)
    for evaluate in (mixture.mix, mixture.mix_sparse):
        for leaf, other in ((x, lambda x: (x, z)), (z, lambda z: (x, z))):
            assert gradient(lambda at, f=other, e=evaluate: e(*f(at), options), leaf).isfinite().all()
        refuses("weights", evaluate, x, z, [*options, options[0]])
        refuses("weights", evaluate, x, z, [])
        refuses("x", evaluate, x.unsqueeze(0).expand(5, *x.shape), z.unsqueeze(0), options)
        refuses("modules", evaluate, x, z + 1, [lambda rows: rows.new_zeros(len(rows) + 1, 2)] * len(options))
