"""Properties of every public function, on inputs that nobody thought of: right, or refused by a clear error.

Random shapes (empty ones too), dtypes, ties, -inf, NaN, options at their limits; against references in float64, and by
what must not matter: a shift, an order, a forbidden option. The inputs are the same in every run; PROPERTIES=1000 draws
a thousand new ones for each test. A new public function fails the last test until a property covers it.
"""

import ast
import codecs
import importlib
import inspect
import math
import os
import pkgutil
import re
import time
from functools import partial
from itertools import islice
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
import traitlets
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import nn

import lecture_lib
from lecture_lib import (
    adapters,
    calibration,
    choice,
    cost,
    data,
    estimators,
    exercises,
    exits,
    expert_parallel,
    merging,
    mixture,
    models,
    moe,
    notebook,
    patches,
    plots,
    pretrained,
    simplex,
    skipping,
    specialise,
    training,
    widgets,
)
from lecture_lib.pretrained import __main__ as recipes
from lecture_lib.pretrained import decoder, limoe

QUIET = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much]}
settings.register_profile("same", derandomize=True, max_examples=25, database=None, **QUIET)
settings.register_profile("search", max_examples=int(os.environ.get("PROPERTIES", 25)), **QUIET)
settings.load_profile("search" if "PROPERTIES" in os.environ else "same")

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
SEEDS = st.integers(0, 2**32 - 1)
NO_NUMBER = st.sampled_from([0, -1, math.nan, math.inf, "1", None])  # what no temperature, share or number of them is
OPTIONS, LEAD = st.integers(1, 6), st.lists(st.integers(0, 3), max_size=2)
TEMPERATURES = st.sampled_from([1e-300, 1e-46, 1e-3, 0.5, 1, 10.0, 1e39, 1e300])


def correct_or_clear(fn, *args, **options):
    """What fn gives, or None where it refuses an argument by an error that names it."""
    try:
        return fn(*args, **options)
    except (ValueError, TypeError, IndexError) as error:
        names = inspect.signature(fn).parameters
        assert any(re.search(rf"\b{name}\b", str(error)) for name in names), f"names none of {list(names)}: {error}"
        return None


def refuses(name, fn, *args, **options):
    with pytest.raises((ValueError, TypeError, IndexError), match=rf"\b{name}\b"):
        fn(*args, **options)


def rng(seed):
    return torch.Generator().manual_seed(seed)


def normal(seed, *shape, dtype=torch.float64):
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64).to(dtype)


def close(got, wanted, times=16):
    """Equal up to so many roundings in the dtype of the first."""
    tolerance = times * torch.finfo(got.dtype).eps
    torch.testing.assert_close(got.double(), wanted.double(), atol=tolerance, rtol=tolerance)


def gradient(fn, at):
    """Of a sum of fn(at) with different weights, with respect to `at`: 0 where none is attached."""
    leaf = at.detach().clone().requires_grad_()
    y = fn(leaf).double()
    loss = (y * torch.linspace(-1, 2, y.numel() + 1, dtype=torch.float64)[1:].reshape(y.shape)).sum()
    return torch.autograd.grad(loss, leaf)[0] if y.requires_grad else torch.zeros_like(leaf)


# ------------------------------------------------------------------------------------------------- strategies: scores


@st.composite
def scores(draw, k=OPTIONS, lead=LEAD, dtypes=DTYPES, huge=True):
    """Scores (..., K): ordinary, with ties, far apart, as large as the dtype allows; often with forbidden options."""
    shape, dtype, seed = (*draw(lead), draw(k)), draw(st.sampled_from(dtypes)), draw(SEEDS)
    s = normal(seed, *shape)
    kinds = {"normal": s, "ties": s.round(), "wide": 50 * s, "huge": s.sign() * torch.finfo(dtype).max}
    s = kinds[draw(st.sampled_from(list(kinds)[: 4 if huge else 3]))].to(dtype)
    if draw(st.booleans()):
        allowed = torch.rand(shape, generator=rng(seed)) < 0.5
        s = s.masked_fill(~(allowed | (s == s.amax(-1, keepdim=True))), -torch.inf) if s.shape[-1] else s
    return s


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
    "softmax": choice.softmax,
    "entmax": choice.entmax,
    "argmax": choice.argmax,
    "top_k": partial(choice.top_k, k=1),
    "noisy_top_k": partial(choice.noisy_top_k, k=1),
    "gumbel_top_k": partial(choice.gumbel_top_k, k=1),
    "gumbel_softmax": choice.gumbel_softmax,
    "sample": choice.sample,
    "stick_breaking": choice.stick_breaking,
    "exact_expectation": partial(estimators.exact_expectation, lambda z: z.sum(-1)),
    "gumbel_rao": estimators.gumbel_rao,
    "gradient_statistics": partial(estimators.gradient_statistics, choice.softmax, lambda z: z.sum(-1)),
    "switch": moe.switch,
    "gshard": moe.gshard,
    "expert_choice": moe.expert_choice,
    "sinkhorn": moe.sinkhorn,
    "balanced": moe.balanced,
    "base": moe.base,
    "BalanceBias": moe.BalanceBias(3),
}


@pytest.mark.parametrize("name", TAKES_SCORES)
def test_what_is_no_score_is_refused_everywhere(name):
    for bad in BAD_SCORES:
        if name == "stick_breaking" and isinstance(bad, torch.Tensor) and bad.is_floating_point() and bad.ndim:
            if not (bad.isnan() | bad.isposinf()).any():
                continue  # no gate, or gates that never stop: allowed there
        with pytest.raises((ValueError, TypeError), match="logits"):
            TAKES_SCORES[name](bad)


# --------------------------------------------------------------------------------------------------- strategies: ways

WAYS = {  # scores, k, temperature, generator -> choice
    "softmax": lambda s, k, t, g: choice.softmax(s),
    "entmax": lambda s, k, t, g: choice.entmax(s, 1.5),
    "argmax": lambda s, k, t, g: choice.argmax(s),
    "top_k": lambda s, k, t, g: choice.top_k(s, k),
    "noisy_top_k": lambda s, k, t, g: choice.noisy_top_k(s, k, t if t < 1e4 else 1.0, generator=g),
    "gumbel_top_k": lambda s, k, t, g: choice.gumbel_top_k(s, k, t, generator=g),
    "gumbel_softmax": lambda s, k, t, g: choice.gumbel_softmax(s, t, generator=g),
    "straight_through": lambda s, k, t, g: choice.straight_through(choice.gumbel_softmax(s, t, generator=g)),
    "gumbel_rao": lambda s, k, t, g: estimators.gumbel_rao(s, t, k, generator=g),
    "sample": lambda s, k, t, g: choice.sample(s, generator=g),
}


@pytest.mark.parametrize("name", WAYS)
@given(s=scores(), t=TEMPERATURES, seed=SEEDS, share=st.sampled_from([0, 0.5, 1]))
def test_every_way_of_choosing_gives_a_choice(name, s, t, seed, share):
    k = 1 + int(share * (s.shape[-1] - 1))
    before, way = s.clone(), lambda s: WAYS[name](s, k, t, rng(seed))
    made = way(s)
    (logits, z, log_prob), is_choice = made, isinstance(made, choice.Choice)
    assert (
        is_choice
        and torch.equal(s, before)
        and logits is s
        and z.dtype == s.dtype
        and log_prob.dtype == torch.promote_types(s.dtype, torch.float32)
        and z.device == s.device
    )
    assert z.shape == s.shape and log_prob.shape == s.shape[:-1] and (log_prob <= 0).all()
    assert (z >= 0).all() and (z[s == -torch.inf] == 0).all() and torch.equal(z, way(s).weights)
    torch.testing.assert_close(z.double().sum(-1), torch.ones(s.shape[:-1]).double(), rtol=0,
                               atol=4 * torch.finfo(s.dtype).eps * s.shape[-1])  # fmt: skip
    if "top_k" in name:
        assert ((z > 0).sum(-1) <= k).all()
    if name in ("argmax", "straight_through", "sample", "gumbel_rao"):
        assert ((z == 0) | (z == 1)).all()
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
        assert average(row) == (state or 0.0)
        state = row.mean().item() if state is None else 0.75 * state + 0.25 * row.mean().item()
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


def gradient_of_mean(s):
    p, c = dumb_entmax(s, 1), torch.arange(s.shape[-1]).double()
    return p * (c - p @ c)


# ---------------------------------------------------------------------------------------- strategies: layers and sizes

BATCHES = st.sampled_from([0, 1, 3])
SOME = st.integers(1, 4)


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


@given(st.integers(1, 6), BATCHES, SEEDS, st.sampled_from([0.0, 0.5, 1.0]), st.booleans())
def test_discarded_tokens_are_as_good_as_gone(n_tokens, batch, seed, share, soft):
    torch.manual_seed(seed)
    x, block = torch.randn(batch, n_tokens, 4), models.Block(4, 2)
    kept = (torch.rand(batch, n_tokens) < share).float() * (torch.rand(batch, n_tokens) if soft else 1)
    y = patches.masked(block, x, kept)
    torch.testing.assert_close(patches.packed(block, x, kept), y, atol=1e-5, rtol=1e-4)
    assert torch.equal(y[kept == 0], x[kept == 0])
    for tokens, keep, row in zip(x, kept, y, strict=True):
        if not soft and keep.any():
            torch.testing.assert_close(row[keep > 0], block(tokens[keep > 0][None])[0], atol=1e-5, rtol=1e-4)
    assert gradient(lambda kept: patches.masked(block, x, kept), kept).isfinite().all()
    for place in (patches.masked, patches.packed):
        refuses("kept", place, block, x, kept[:, 1:])
    selector = patches.PatchSelector(4, choice.gumbel_softmax)
    now, decided = selector(x, kept)
    assert now.shape == kept.shape and (now <= kept).all() and torch.equal(now[:, 0], kept[:, 0])
    assert decided.weights.shape == (batch, n_tokens - 1, 2)
    with pytest.raises(ValueError, match="kept"):
        selector(x, kept[:, 1:])
    shares, gate = patches.Gate(4, 3, choice.softmax)(x)
    assert shares.shape == (batch, n_tokens, 3) and torch.equal(shares, gate.weights[..., 0])
    if kept.numel():
        close(patches.usage_loss(kept, 0.5), (kept.double().mean() - 0.5) ** 2)
    refuses("target", patches.usage_loss, kept, 0)
    refuses("kept", patches.usage_loss, kept[:0], 0.5)


@given(st.integers(1, 5), BATCHES, SEEDS, st.sampled_from([1e-9, 0.3, 1.0]))
def test_what_is_skipped_is_not_missed(n_tokens, batch, seed, capacity):
    torch.manual_seed(seed)
    x, hidden = torch.randn(batch, n_tokens, 4), nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4))
    layers = [
        skipping.SkippableBlock(4, models.Block(4, 2), choice.argmax),
        skipping.GatedHeads(models.SelfAttention(4, 2), choice.argmax),
        skipping.GatedChannels(hidden, 3, choice.argmax),
        skipping.AdaptiveTransformer(4, 2, 2, choice.argmax),
    ]
    for layer in layers:
        for name, value in layer.named_parameters():
            if "score.bias" in name:
                nn.init.zeros_(value)
        (dense, decided), (sparse, _) = layer.train()(x), layer.eval()(x)
        torch.testing.assert_close(sparse, dense, atol=1e-5, rtol=1e-4)
    assert isinstance(decided, skipping.Decisions) and decided.kept.shape == (2, batch, n_tokens)
    used = skipping.compute_share(decided, 4)
    assert used.shape == (batch,) and (used >= 0).all() and (used <= 1).all()
    everything = skipping.Decisions(*(torch.ones_like(part) for part in decided))
    torch.testing.assert_close(skipping.compute_share(everything, 4), torch.ones(batch))
    depths = skipping.MixtureOfDepths(4, models.Block(4, 2), capacity)
    y, chosen = depths(x)
    keep = chosen.weights[..., 0] > 0
    assert (keep.sum(-1) == max(1, round(capacity * n_tokens))).all() and torch.equal(y[~keep], x[~keep])
    predicted = depths.predict(x)
    if batch:
        close(skipping.predictor_loss(predicted, chosen), F.binary_cross_entropy(predicted.sigmoid(), keep.float()), 64)
    refuses("predicted", skipping.predictor_loss, predicted[:, :0], chosen)
    refuses("n_groups", skipping.GatedChannels, hidden, 4, choice.argmax)
    refuses("capacity", skipping.MixtureOfDepths, 4, hidden, 1.5)
    refuses("choose", skipping.MixtureOfDepths, 4, hidden, 0.5, choice.argmax)
    with pytest.raises(ValueError, match=r"\bx\b"):
        depths(x[:, :0])


@given(st.integers(1, 6), BATCHES, SEEDS, st.sampled_from([torch.float64, torch.float32, torch.float16]))
def test_attention_and_small_networks(n_tokens, batch, seed, dtype):
    q, k, v = (8 * normal(seed + i, batch, 2, n_tokens, 3, dtype=dtype) for i in range(3))
    kept = torch.rand(batch, n_tokens, generator=rng(seed)).round().to(dtype)
    for causal in (False, True):
        seen = torch.eye(n_tokens).double().maximum(kept.double()[:, None, None])
        seen = seen.tril() if causal else seen
        a = (q.double() @ k.double().mT / 3**0.5).masked_fill(seen == 0, -torch.inf).softmax(-1)
        torch.testing.assert_close(models.attention(q, k, v, kept, causal=causal).double(), a @ v.double(), rtol=0,
                                   atol=2000 * torch.finfo(dtype).eps)  # fmt: skip
    refuses("kept", models.attention, q, k, v, kept[:, 1:])
    torch.manual_seed(seed)
    x, net = torch.randn(batch, n_tokens, 4), models.Transformer(4, 2, 2, causal=True)
    torch.testing.assert_close(net(x)[:, :1], net(x[:, :1]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(net(x, torch.ones(batch, n_tokens)), net(x), atol=1e-5, rtol=1e-4)
    depth = 1 + seed % 4
    assert models.MLP(4, 5, 3, depth)(x).shape == (batch, n_tokens, 3)
    assert sum(isinstance(m, nn.Linear) for m in models.MLP(4, 5, 3, depth)) == depth
    for name in ("d_in", "d_hidden", "d_out", "depth"):
        refuses(name, models.MLP, **({"d_in": 1, "d_hidden": 1, "d_out": 1} | {name: 0}))
    refuses("n_heads", models.SelfAttention, 4, 3)
    refuses("n_layers", models.Transformer, 4, 2, 0)


# --------------------------------------------------------------------------------------------------- early exits, text


@given(st.integers(1, 4), BATCHES, st.integers(2, 4), SEEDS, st.sampled_from([0, 0.4, 1]))
def test_early_exits_leave_where_the_rule_says(k, batch, classes, seed, threshold):
    torch.manual_seed(seed)
    net = exits.EarlyExitNet([nn.Linear(3, 3) for _ in range(k)], [nn.Linear(3, classes) for _ in range(k)])
    x, target, gates = (
        3 * torch.randn(batch, 3),
        torch.randint(classes, (batch,)),
        [nn.Linear(3, 1) for _ in range(k - 1)],
    )
    with torch.no_grad():
        logits, states = net(x), net.states(x)
    p = logits.softmax(-1)
    top = p.topk(2).values
    stop = {
        "entropy": (exits.below_entropy(threshold), torch.special.entr(p).sum(-1) <= threshold),
        "confidence": (exits.above_confidence(threshold), top[..., 0] >= threshold),
        "margin": (exits.above_margin(threshold), top[..., 0] - top[..., 1] >= threshold),
        "gate": (
            exits.learned_gate(gates, threshold),
            torch.stack([gate(h).sigmoid().squeeze(-1) >= threshold for gate, h in zip(gates, states, strict=False)]
                        + [torch.ones(batch, dtype=torch.bool)]),
        ),
        "patience": (
            exits.patience(1),
            torch.cat([torch.zeros(1, batch, dtype=torch.bool), p[1:].argmax(-1) == p[:-1].argmax(-1)]),
        ),
    }  # fmt: skip
    for name, (rule, leaves) in stop.items():
        leaves = leaves.clone()
        leaves[-1] = True
        made, wanted = exits.infer(net, x, rule), leaves.int().argmax(0)
        assert torch.equal(made.exit_index, wanted), name
        torch.testing.assert_close(made.logits, logits[wanted, torch.arange(batch)], atol=1e-5, rtol=1e-4)
    for ensemble, power in ((exits.arithmetic_ensemble, 1), (exits.geometric_ensemble, 0)):
        mean = [(p[: i + 1].double() if power else p[: i + 1].double().log()).mean(0) for i in range(k)]
        mean = torch.stack(mean).log() if power else torch.stack(mean).log_softmax(-1)
        close(ensemble(logits), mean, 64)
        assert isinstance(exits.infer(net, x, exits.patience(9), ensemble=ensemble), exits.Exited)
    branching = exits.DifferentiableBranching(net, gates)
    y, z = branching(x)
    torch.testing.assert_close(y, torch.einsum("bk,kbc->bc", z.weights, p), atol=1e-5, rtol=1e-4)
    costs = list(range(k))
    close(exits.expected_cost(z, costs), (z.weights.double() * torch.arange(k)).sum(-1))
    refuses("costs", exits.expected_cost, z, [*costs, 1])
    refuses("gates", exits.DifferentiableBranching, net, [*gates, nn.Linear(3, 1)])
    refuses("gates", exits.train_gates, net, [*gates, nn.Linear(3, 1)], print)
    refuses("heads", exits.EarlyExitNet, [nn.Identity()], [])
    once = lambda model, loss: loss(x, target)  # noqa: E731
    if batch:
        each = torch.stack([F.cross_entropy(row, target) for row in logits.double()])
        close(exits.joint_loss(logits, target), each.sum(), 64)
        (jointly,), layers, apart = (
            exits.train_jointly(net, once),
            exits.train_layerwise(net, once),
            exits.train_separately(net, once),
        )
        close(jointly, each.sum(), 64)
        close(torch.stack(layers), each, 64)
        close(torch.stack(apart).sum(), each.sum(), 64)
        if k > 1:
            assert exits.train_gates(net, gates, once) > 0
    for wrong in (target[:0], target + classes, target - classes, target.float(), target[:, None]):
        if wrong.shape != target.shape or not batch or wrong.dtype != target.dtype or (wrong != target).all():
            refuses("target", exits.joint_loss, logits, wrong)


@given(NO_NUMBER)
def test_options_of_exits_are_refused_by_name(bad):
    if bad not in (0, "1", None):
        refuses("threshold", exits.below_entropy, bad)
        for rule in (exits.above_confidence, exits.above_margin, partial(exits.learned_gate, [])):
            refuses("threshold", rule, bad)
    refuses("patience", exits.patience, bad)
    logits, target = torch.zeros(2, 1, 3), torch.zeros(1, dtype=torch.int64)
    for weights in ([1.0], [1.0, -1.0], [1.0, math.nan]):
        refuses("weights", exits.joint_loss, logits, target, weights)


@given(st.integers(0, 60), st.floats(0, 1), st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_p_values_are_the_two_bounds(n, risk, tolerance):
    total = round(n * risk)
    p = calibration.hoeffding_bentkus_p_value(total / n if n else risk, n, tolerance)
    low = min(total / n, tolerance) if n else tolerance
    terms = [a * math.log(a / b) for a, b in ((low, tolerance), (1 - low, 1 - tolerance)) if a > 0]
    bounds = [math.exp(-n * math.fsum(terms)), math.e * scipy.stats.binom.cdf(total, n, tolerance), 1]
    assert math.isclose(p, min(bounds) if n else 1, rel_tol=1e-6, abs_tol=1e-12)
    for bad in (-1, 0.5, math.nan, math.inf, True):
        refuses("n", calibration.hoeffding_bentkus_p_value, 0.5, bad, 0.5)
    for bad in (-0.1, 1.1, math.nan):
        refuses("risk", calibration.hoeffding_bentkus_p_value, bad, 5, 0.5)
        refuses("tolerance", calibration.hoeffding_bentkus_p_value, 0.5, 5, bad)


@given(st.integers(0, 40), st.integers(0, 5), SEEDS, st.sampled_from([0.05, 0.3, 0.9]))
def test_the_tests_stop_at_the_first_that_fails(n, thresholds, seed, tolerance):
    losses = np.random.default_rng(seed).random((n, thresholds)) < np.linspace(0, 1, thresholds)
    p = [
        calibration.hoeffding_bentkus_p_value(losses[:, i].mean() if n else 0, n, tolerance) for i in range(thresholds)
    ]
    passed = next((i for i, value in enumerate(p) if value > 0.1), thresholds) - 1
    assert calibration.learn_then_test(losses, tolerance, 0.1) == (passed if passed >= 0 else None)
    refuses("losses", calibration.learn_then_test, losses[:, 0] if thresholds else [], tolerance, 0.1)
    refuses("losses", calibration.learn_then_test, [[math.nan]], tolerance, 0.1)
    refuses("error", calibration.learn_then_test, losses, tolerance, 1)


@given(st.integers(1, 3), BATCHES, st.integers(1, 5), st.integers(0, 4), SEEDS, st.sampled_from([0.0, 0.3, 1.0]))
def test_a_decoder_reads_what_it_writes(n_layers, batch, t, n, seed, threshold):
    torch.manual_seed(seed)
    model = decoder.Decoder(4, 1, n_layers, n_tokens=5)
    prompt = torch.randint(5, (batch, t))
    written, made = decoder.generate(model, prompt, n)
    assert written.shape == (batch, n) and (made.exit_index == n_layers - 1).all()
    text = torch.cat([prompt, written], 1)
    with torch.no_grad():
        logits = model(text)
        torch.testing.assert_close(made.logits, logits[-1, :, t - 1 : t + n - 1], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(model(text[:, :1]), logits[:, :, :1], atol=1e-4, rtol=1e-4)
    learned = decoder.LearnedConfidence(4)
    for confidence, low in ((decoder.softmax_margin, 0), (decoder.state_similarity, -1), (learned, 0)):
        sure = confidence(decoder.AtExit(model, 0, torch.randn(batch, 4), torch.randn(batch, 4)))
        assert sure.shape == (batch,) and (sure >= low - 1e-5).all() and (sure <= 1 + 1e-5).all()
        written, made = decoder.generate(model, prompt, n, confidence, threshold)
        again = decoder.exit_while_reading(model, torch.cat([prompt, written], 1), confidence, threshold, careful=t - 1)
        if n:  # the states of later tokens are the same, up to rounding
            torch.testing.assert_close(again.logits[:, t - 1 : -1], made.logits, atol=1e-4, rtol=1e-4)
    assert n_layers == 1 or not batch or learned.loss(model, text) >= 0
    for row in text[:, :9]:
        if len(row) > 1:
            losses = decoder.token_losses(model, row, context=10)
            wanted = [F.cross_entropy(exit[0, :-1], row[1:], reduction="none") for exit in model(row[None])]
            torch.testing.assert_close(losses, torch.stack(wanted).detach(), atol=1e-4, rtol=1e-4)
    refuses("tokens", decoder.token_losses, model, torch.tensor([0, 7]))
    refuses("tokens", decoder.token_losses, model, torch.zeros(4))
    refuses("context", decoder.token_losses, model, text, context=3)
    refuses("n", decoder.generate, model, prompt, -1)
    refuses("threshold", decoder.generate, model, prompt, 1, learned, 1.5)
    refuses("threshold", decoder.exit_while_reading, model, prompt, learned, math.nan)
    level = decoder.decaying_threshold(threshold, max(n, 1))
    assert all(0 <= level(step + 1) <= level(step) <= 1 for step in range(n))
    for option in ({"threshold": -1}, {"n_steps": 0}, {"tau": math.nan}, {"tau": math.inf}, {"amplitude": -1}):
        refuses(*option, decoder.decaying_threshold, **({"threshold": 0.5, "n_steps": 3} | option))


# ------------------------------------------------------------------------------------------------------------- experts

ROUTES = {  # logits, k -> choice
    "top_k": lambda s, k: choice.top_k(s, k),
    "switch": lambda s, k: moe.switch(s, k),
    "gshard": lambda s, k: moe.gshard(s, generator=rng(0)),
    "expert_choice": lambda s, k: moe.expert_choice(s, k),
    "balanced": lambda s, k: moe.balanced(s, 5),
    "base": lambda s, k: moe.base(s),
    "BalanceBias": lambda s, k: moe.BalanceBias(s.shape[-1], k)(s),
    "hashed": lambda s, k: moe.hashed(torch.arange(s.shape[:-1].numel()).reshape(s.shape[:-1]), s.shape[-1]),
}


@pytest.mark.parametrize("name", ROUTES)
@given(s=scores(k=st.integers(2, 5)), k=st.integers(1, 2))
def test_every_route_is_a_choice_of_which_the_layer_is_the_mixture(name, s, k):
    if name in ("balanced", "base") and (s == -torch.inf).any():
        s = s.clamp(min=-100)  # a plan may not exist else
    route = ROUTES[name](s, k)
    z, p = route.weights, s.double().softmax(-1) if name != "hashed" else 1
    assert z.shape == s.shape and route.log_prob.shape == s.shape[:-1] and (z >= 0).all()
    assert (z[s == -torch.inf] == 0).all() or name == "hashed"
    if name in ("switch", "BalanceBias"):
        close(z[z > 0], p[z > 0])
    rows = z.reshape(-1, z.shape[-1])
    n, e = rows.shape
    wanted = {"expert_choice": min(n, math.ceil(n * k / e)), "base": -(-n // e), "balanced": n, "hashed": n}
    assert ((rows > 0).sum(0) <= wanted.get(name, n)).all()
    if name not in ("expert_choice", "gshard", "top_k", "base"):
        assert ((z > 0).sum(-1) <= k).all() and torch.equal(ROUTES[name](s, k).weights, z)
    layer, x = moe.MoE(4, 3, e, lambda s: route).double(), normal(0, *s.shape[:-1], 4)
    route = route._replace(weights=z.double())
    with torch.no_grad():
        close(layer(x)[0], mixture.mix(x, z.double(), layer.experts), 64)
        close(layer(x, route)[0], layer(x)[0])
    for factor in (0.3, 1.0):
        kept = moe.within_capacity(route, factor).weights
        room = math.ceil(round(factor * int((rows > 0).sum()) / e, 6))
        assert ((kept == 0) | (kept == route.weights)).all() and ((kept > 0).reshape(-1, e).sum(0) <= room).all()
        sure = moe.within_capacity(route, factor, batch_priority=True).weights
        assert torch.equal((sure > 0).reshape(-1, e).sum(0), (kept > 0).reshape(-1, e).sum(0))
    for bad in (0, -1, math.nan, math.inf):
        refuses("capacity_factor", moe.within_capacity, route, bad)


@given(scores(k=st.integers(1, 5)), SEEDS)
def test_losses_and_measures_of_balance(s, seed):
    e, route = s.shape[-1], choice.top_k(s, 1)
    rows, p = s.double().reshape(-1, e), s.double().softmax(-1).reshape(-1, e)
    n = max(len(rows), 1)
    load = (choice.argmax(s).weights > 0).reshape(-1, e).sum(0) / n
    close(moe.expert_load(route), load)
    close(moe.load_balance_loss(route), e * (load * p.sum(0) / n).sum(), 64)
    z_loss = (rows.logsumexp(-1) ** 2).sum() / n
    if z_loss < torch.finfo(s.dtype).max / 2:
        close(moe.router_z_loss(route), z_loss, 64)
    w = choice.softmax(s).weights
    close(moe.local_entropy(w), torch.special.entr(p).sum() / n, 64)
    close(moe.global_entropy(w), -torch.special.entr(p.sum(0) / n).sum(), 64)
    assert moe.global_entropy(w, 0.0) == 0
    many, dead, entropy = moe.collapse(route)
    assert isinstance(moe.collapse(route), moe.Collapse) and dead == (load == 0).sum() and -1e-6 <= entropy <= 1 + 1e-6
    assert math.isclose(many, e * load.max(), rel_tol=1e-2)
    values = (normal(seed, e).abs() * 10.0 ** (seed % 40 - 20)).float()
    close(moe.squared_cv(values), values.double().var(correction=0) / values.double().mean() ** 2, 64)
    assert moe.importance_loss(route) <= max(e - 1, 0) + 0.05 * e and moe.squared_cv(torch.zeros(e)) == 0
    clean, std = normal(seed, 7, e), normal(seed + 1, 7, e).abs() * (seed % 2)
    noisy = clean + std * normal(seed + 2, 7, e)
    for k in range(1, e):
        chance = moe.noisy_load(clean, noisy, std, k)
        assert (chance >= 0).all() and (chance <= 7).all()  # a probability for each token
    refuses("k", moe.noisy_load, clean, noisy, std, e)
    if len(rows) and (s.abs() < 1e30).all():
        plan = moe.sinkhorn(s, 3).double()
        close(plan.sum(-1).to(s.dtype), torch.ones(s.shape[:-1]))
    refuses("n_iters", moe.sinkhorn, s.clamp(min=-100), 0)
    refuses("k", moe.BalanceBias, e, e + 1)
    bias = moe.BalanceBias(e, rate=0.5)
    bias.update(route)
    close(bias.bias, 0.5 * (load.mean() - load).sign())


@given(st.integers(1, 4), BATCHES, st.integers(1, 4), SEEDS)
def test_layers_and_routers_of_experts(e, batch, t, seed):
    torch.manual_seed(seed)
    x, ffn = torch.randn(batch, t, 4), nn.Sequential(nn.Linear(4, 3), nn.GELU(), nn.Linear(3, 4))
    with torch.no_grad():
        close(moe.upcycle(ffn, e, choice.softmax)(x)[0], ffn(x), 64)
        soft = moe.SoftMoE(4, 3, e, slots=1 + seed % 2)
        y, route = soft(x)
        torch.testing.assert_close(soft(x.flip(1))[0].flip(1), y, atol=1e-5, rtol=1e-4)
        close(route.weights.sum(-1), torch.ones(batch, t))
    for router in (moe.NoisyRouter(4, e), moe.CosineRouter(4, e)):
        assert router.train()(x).shape == (batch, t, e) and torch.equal(router.eval()(x), router(x))
    close(router.at_start_temperature(choice.softmax(router(x))).logits, router(x), 64)
    assert len(moe.Experts(e, 4, 3)) == e and moe.Experts(e, 4, 3, gated=True, bias=True)[e - 1](x).shape == x.shape
    hidden, label = torch.randn(12, 1 + seed % 3), torch.arange(12) % 3
    spread = moe.representation_collapse(hidden, label)
    moved = moe.representation_collapse(5 * hidden.flip(-1) + 2, label)
    torch.testing.assert_close(moved, spread, rtol=1e-3, atol=1e-6)  # means may nearly coincide
    refuses("label", moe.representation_collapse, hidden, label * 0)
    layer = moe.MoE(4, 3, e, choice.softmax, n_shared=1)
    with pytest.raises(ValueError, match=r"\bx\b"):
        layer(x.new_full((2, 4), math.nan))
    for bad in (x[..., 1:], torch.zeros(())):
        with pytest.raises(ValueError, match=r"\bx\b"):
            layer(bad)
    for name in ("n_experts", "d_model", "d_hidden"):
        refuses(name, moe.Experts, **({"n_experts": 1, "d_model": 1, "d_hidden": 1} | {name: 0}))
    refuses("e", moe.Experts(e, 4, 3).__getitem__, e)
    refuses("n_shared", moe.MoE, 4, 3, e, choice.softmax, n_shared=-1)
    refuses("slots", moe.SoftMoE, 4, 3, e, 0)
    refuses("temperature", moe.CosineRouter, 4, e, temperature=math.nan)
    refuses("ffn", moe.upcycle, ffn[:2], e)
    refuses("ids", moe.hashed, torch.zeros(2), e)


# --------------------------------------------------------------------------------------------- costs, data, training


@given(st.lists(SOME, min_size=3, max_size=3), st.floats(0, 1e12), st.floats(0, 1e12))
def test_costs(sizes, flops, n_bytes):
    a, b, c = sizes
    assert cost.count_flops(torch.mm, torch.ones(a, b), torch.ones(b, c)) == 2 * a * b * c
    seconds = cost.Seconds(2.0, 1.0, 3.0)
    assert seconds + 1 == 3 and "1e+03 to 3e+03" in str(seconds)
    bound = cost.roofline(flops, n_bytes, cost.Machine(1e9, 1e8))
    assert isinstance(bound, cost.Bound) and bound.seconds == max(flops / 1e9, n_bytes / 1e8)
    assert bound.binds == ("compute" if flops / 1e9 >= n_bytes / 1e8 else "memory")
    for bad in (-1, math.nan, math.inf):
        refuses("flops", cost.roofline, bad, 1, cost.Machine(1, 1))
        refuses("n_bytes", cost.roofline, 1, bad, cost.Machine(1, 1))
        refuses("copy_rate", cost.roofline, 1, 1, cost.Machine(1, bad))
    for bad in (0, math.nan):
        refuses("min_seconds", cost.wall_time, abs, 1, min_seconds=bad)
        refuses("size", cost.measure_machine, size=bad)


@given(st.integers(1, 4), st.integers(1, 32))
@settings(max_examples=3)
def test_times_are_those_of_a_clock(milliseconds, size):
    took = cost.wall_time(time.sleep, milliseconds / 1000, min_seconds=1e-3)
    assert milliseconds / 1000 <= took.low <= took <= took.high  # a sleep is never shorter than asked
    machine = cost.measure_machine(size=size, megabytes=1)
    assert isinstance(machine, cost.Machine) and all(0 < rate < math.inf for rate in machine)


@given(st.integers(1, 9), st.integers(1, 9), SEEDS)
def test_batches_are_passes_in_a_new_order(n, size, seed):
    rows = torch.arange(n)
    if size > n:
        return refuses("size", next, data.batches(rows, size=size))
    made = list(islice(data.batches(rows, 2 * rows, size=size, generator=rng(seed)), 2 * (n // size)))
    assert all(len(a) == size and torch.equal(b, 2 * a) for a, b in made)
    for part in (made[: n // size], made[n // size :]):
        seen = torch.cat([a for a, _ in part])
        assert len(seen.unique()) == len(seen)
    refuses("size", next, data.batches(rows, rows[1:], size=1))


@given(st.integers(1, 5), st.integers(0, 4), st.integers(2, 9), SEEDS)
def test_scenes_hold_one_digit(n, n_scenes, n_patches, seed):
    x, y = torch.rand(n, 8, 8, generator=rng(seed)), torch.arange(n)
    scenes = data.find_the_digit(x, y, n_scenes=n_scenes, n_patches=n_patches, generator=rng(seed))
    assert isinstance(scenes, data.Scenes) and scenes.patches.shape == (n_scenes, n_patches, 8, 8)
    assert torch.equal(scenes.patches[torch.arange(n_scenes), scenes.position], x[scenes.label])
    for name, wrong in {"x": (x[:, 1:], y), "y": (x, y[1:]), "n_patches": (x, y)}.items():
        refuses(name, data.find_the_digit, *wrong, n_patches=1)


PIECES = {
    0: [" ", "\n", "  \n", "\\\n "],
    1: ["if", "lambda", "None"],
    2: ["x", "été", "print"],
    3: ["7", "1.5e3", "0x1F"],
    4: ["'a b'", '"é"', "b'x'", "'''two\nlines'''"],
    5: ["# why? é\n"],
    6: ["+", "**=", "->"],
}
PIECE = st.sampled_from([(kind, text) for kind, texts in PIECES.items() for text in texts])


@given(st.lists(PIECE, max_size=12), st.booleans())
def test_bytes_of_source_have_the_kind_of_their_token(pieces, marked):
    source, kinds = codecs.BOM_UTF8 * marked + b"(", [0] * (3 * marked) + [6]
    for kind, piece in pieces:
        source += piece.encode() + b" "
        kinds += [kind] * len(piece.encode()) + [0]
        if kind == 5:
            kinds[-2] = 0  # the line's end
    made = data.token_kinds(torch.tensor(list(source + b")\0y"), dtype=torch.uint8))
    assert made.tolist() == [*kinds, 6, 0, 2]


@given(st.binary(max_size=40))
@example(b"# coding: latin-1\nx = '\xe9'")
@example(b"x = 1\n\n\ny = '\xff'")
def test_bytes_that_are_no_source_are_refused(source):
    made = correct_or_clear(data.token_kinds, torch.tensor(list(source), dtype=torch.uint8))
    assert made is None or (made.shape == (len(source),) and (made < len(data.KINDS)).all())


@given(st.integers(1, 6), st.integers(1, 4), SEEDS)
def test_training_goes_down_and_tells_what_it_did(steps, every, seed):
    model, batches = nn.Linear(1, 1), [(normal(seed + i, 3, 1, dtype=torch.float32),) for i in range(steps)]
    loss = lambda x: model(x).square().mean()  # noqa: E731
    fit = partial(training.fit, model, loss, batches, steps=steps, every=every)
    history = fit(measure=lambda: {"loss of the first": loss(*batches[0]).item()})
    assert [row["step"] for row in history] == sorted({*range(every, steps + 1, every), steps})
    mean = training.evaluate(model, lambda x: {"y": model(x).squeeze(1)}, batches)["y"]
    assert math.isclose(mean, model(torch.cat([x for (x,) in batches])).mean().item(), rel_tol=1e-4, abs_tol=1e-6)
    for option in ({"steps": 0}, {"every": 0}, {"lr": math.nan}, {"lr": 0}):
        refuses(*option, fit, **option)
    refuses("batches", fit, steps=steps + 1)
    refuses("batches", training.evaluate, model, loss, [])
    refuses("metrics", training.evaluate, model, lambda x: {"y": model(x)}, batches)
    refuses("loss", training.fit, model, model, batches, steps=1)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(FloatingPointError, match="loss"):
        training.fit(model, lambda x: loss(x) * math.nan, batches, steps=1)
    assert all(map(torch.equal, before, model.parameters()))
    for name in ("no such", "", "../x"):
        for job in (pretrained.load, pretrained.record, recipes.pretrain):
            refuses("name", job, name)
    refuses("steps", recipes.pretrain, "language_model", steps=0)


# ------------------------------------------------------------------------------------- parts: adapters, merging, pairs


@given(SOME, SOME, st.integers(1, 3), BATCHES, SEEDS)
def test_adapters_add_what_they_say(d_in, d_out, rank, batch, seed):
    torch.manual_seed(seed)
    x, linear = torch.randn(batch, 2, d_in).double(), nn.Linear(d_in, d_out, bias=seed % 2 == 0).double()
    loras = [adapters.LoRA(linear, rank, alpha=1 + k) for k in range(3)]
    assert torch.equal(loras[0](x), linear(x))  # at the start, nothing
    for lora in loras:
        nn.init.normal_(lora.B)
    changes = [(1 + k) / rank * x @ lora.A.T @ lora.B.T for k, lora in enumerate(loras)]
    close(adapters.merge_lora(loras[2])(x), linear(x) + changes[2], 99)
    close(adapters.concatenate(loras, [1, 0, -2])(x), linear(x) + changes[0] - 2 * changes[2], 99)
    task = torch.randint(3, (batch, 2))
    by_task = adapters.by_task(task, 3)
    y, z = adapters.MixtureOfAdapters(linear, loras, choice.softmax, router=nn.Identity())(x, by_task)
    wanted = torch.stack(changes, -2)[torch.arange(batch)[:, None], torch.arange(2), task]
    close(y, linear(x) + wanted, 99)
    adapter = adapters.Adapter(d_in, rank).double()
    assert torch.equal(adapter(x), x) and z is by_task
    refuses("x", adapter.forward, x[..., 1:])
    refuses("rank", adapters.LoRA, linear, 0)
    refuses("alpha", adapters.LoRA, linear, 1, alpha=math.nan)
    refuses("linear", adapters.LoRA, nn.ReLU(), 1)
    refuses("weights", adapters.concatenate, loras, [1, 2])
    refuses("loras", adapters.concatenate, [])
    refuses("adapters", adapters.MixtureOfAdapters, linear, [], choice.softmax)
    refuses("task", adapters.by_task, task + 3 if batch else task.float(), 3)


@given(st.integers(0, 4), st.integers(1, 4), SEEDS, st.sampled_from(DTYPES), st.floats(-2, 2))
def test_states_are_merged_entry_by_entry(n, k, seed, dtype, scale):
    states = [{"w": normal(seed + i, n, 2, dtype=dtype), "count": torch.tensor(i)} for i in range(k)]
    w = torch.stack([state["w"] for state in states]).double()
    close(merging.average(states)["w"], w.mean(0))
    numbers = torch.arange(1, k + 1).double()
    mean = torch.einsum("kno,k->no", w, numbers / numbers.sum())
    close(merging.average(states, numbers.tolist())["w"], mean)
    assert merging.average(states)["count"] == 0
    a, b = states[0], states[-1]
    assert all(torch.equal(merging.interpolate(a, b, t)["w"], state["w"]) for t, state in ((0, a), (1, b)))
    close(merging.interpolate(a, b, scale)["w"], (1 - scale) * w[0] + scale * w[-1])
    vectors = [merging.task_vector(a, state) for state in states]
    assert all(set(vector) == {"w"} for vector in vectors)
    tau = torch.stack([vector["w"] for vector in vectors]).double()
    close(tau.to(dtype), w - w[0])
    moved = merging.apply_task_vectors(a, vectors, scale)
    close(moved["w"], w[0] + scale * tau.sum(0))
    assert moved["count"] == 0
    goal = w.mean(0)
    score = lambda state: -(state["w"].double() - goal).square().sum().item()  # noqa: E731
    first, *others = sorted(range(k), key=lambda i: -score(states[i]))
    members = [first]
    for i in others:
        if score(merging.average([states[j] for j in [*members, i]])) >= score(
            merging.average([states[j] for j in members])
        ):
            members.append(i)
    soup = merging.greedy_soup(states, score)
    assert isinstance(soup, merging.Soup) and soup.members == members
    assert torch.equal(soup.state["w"], merging.average([states[i] for i in members])["w"])
    assert merging.greedy_soup(states, lambda state: 0.0).members == list(range(k))  # what does no harm joins
    if not n:
        refuses("vectors", merging.ties, vectors, 0.5)
        return refuses("vector", merging.dare, vectors[0], 0.5)
    dropped = merging.dare({"w": a["w"]}, 0.5, rng(seed))["w"]
    assert ((dropped == 0) | (dropped == 2 * a["w"])).all() and torch.equal(merging.dare({"w": a["w"]}, 0)["w"], a["w"])
    for density in (0.3, 1.0):
        flat = w.flatten(1)
        kept = max(1, math.floor(round(density * 2 * n, 9)))
        flat = torch.where(flat.abs() >= flat.abs().sort(1).values[:, -kept, None], flat, 0)
        sign = flat.sum(0).sign()
        agrees = (flat.sign() == sign) & (flat != 0)
        wanted = (flat * agrees).sum(0) / agrees.sum(0).clamp(min=1)
        merged = merging.ties([{"w": state["w"]} for state in states], density)["w"].flatten()
        close(merged[sign != 0], wanted[sign != 0])
    for odd in (math.nan, math.inf):
        bad = {"w": a["w"].index_fill(0, torch.tensor(0), odd)}
        good = {"w": b["w"]}
        refuses("vectors", merging.ties, [good, bad], 0.5)
        refuses("vector", merging.dare, bad, 0.5)
        for state in (
            merging.average([bad, good]),
            merging.interpolate(bad, good, 0.5),
            merging.interpolate(good, bad, 1),
            merging.task_vector(good, bad),
            merging.apply_task_vectors(good, [bad], 1),
            merging.greedy_soup([good, bad], lambda state: 0.0).state,
        ):
            assert torch.equal(state["w"].isfinite(), bad["w"].isfinite())
    for density in (0, 1.1, math.nan):
        refuses("density", merging.ties, vectors, density)
    refuses("states", merging.average, [])
    refuses("states", merging.average, [a, {"w": a["w"]}])
    refuses("weights", merging.average, states, [0.0] * k)
    refuses("t", merging.interpolate, a, b, math.nan)
    refuses("tuned", merging.task_vector, a, {})
    refuses("scale", merging.apply_task_vectors, a, vectors, math.inf)
    refuses("drop", merging.dare, {"w": a["w"]}, 1)
    refuses("score", merging.greedy_soup, states, lambda state: math.nan)


@given(SOME, SEEDS)
def test_permuted_networks_are_found_again(width, seed):
    torch.manual_seed(seed)
    net, x = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 3)), torch.randn(9, 3)
    layout, state = merging.units(net), net.state_dict()
    assert isinstance(layout, merging.Units) and all(isinstance(axis, merging.Axis) for axis in layout.axes["0.bias"])
    order = {layout.axes["0.bias"][0].group: torch.randperm(width)}
    shuffled = merging.permute(state, layout, order)
    torch.testing.assert_close(torch.func.functional_call(net, shuffled, x), net(x), atol=1e-5, rtol=1e-4)
    for again in (merging.match_weights(state, shuffled), merging.match_weights(state, shuffled, layout)):
        assert all(torch.equal(again[key], state[key]) for key in state)
    y, rotation = torch.randn(9, width).double(), torch.linalg.qr(torch.randn(width, width).double())[0]
    assert abs(merging.linear_cka(y, 3 * y @ rotation + 1) - 1) < 1e-9 and 0 <= merging.linear_cka(x, y) <= 1
    stitched = merging.Stitch(net, nn.Identity(), 3, 3).solve(net(x), 2 * net(x) + 1)
    torch.testing.assert_close(stitched(x), 2 * net(x) + 1, atol=1e-3, rtol=1e-3)
    whole, left_out = merging.reassemble(net, net, x, cut=1)  # joined to itself, it is itself
    assert left_out == 1
    torch.testing.assert_close(whole(x), net(x), atol=1e-3, rtol=1e-3)
    for cut in (0, 3, 1.5):
        refuses("cut", merging.reassemble, net, net, x, cut=cut)
    for bad in (x[0], x[:0], x * math.nan, x / 0):
        refuses("x", merging.reassemble, net, net, bad, cut=1)
    for bad in (x[:0], x * math.nan, x / 0):
        refuses("source", stitched.solve, bad, x[: len(bad)])
    refuses("target", stitched.solve, x, x * math.nan)
    broken = state | {"0.bias": state["0.bias"] * math.nan}
    refuses("b", merging.match_weights, state, broken)
    refuses("module", merging.units, nn.Conv2d(1, 1, 1))
    refuses("x", merging.linear_cka, x, y[1:])


@given(st.integers(1, 4), st.integers(1, 8), SEEDS)
def test_what_experts_tell_about_labels(e, n, seed):
    torch.manual_seed(seed)
    weights, label = F.one_hot(torch.randint(e, (n,)), e).float(), torch.randint(3, (n,))
    z = choice.Choice(weights, weights, torch.zeros(n))
    told = specialise.information(z, label, n_permutations=3)
    joint = torch.einsum("ne,nl->el", weights.double(), F.one_hot(label, 3).double()) / n
    chance = joint.sum(1, keepdim=True) * joint.sum(0)
    wanted = torch.where(joint > 0, joint * (joint / chance).log2(), 0).sum().item()
    assert isinstance(told, specialise.Information) and math.isclose(told.bits, wanted, abs_tol=1e-6)
    assert told.bits <= told.label_bits + 1e-6 and 0 < told.p_value <= 1
    needed, load = specialise.needed_experts(z, 0.7), weights.mean(0)
    assert load[needed].sum() >= 0.7 - 1e-6 and load[needed[:-1]].sum() < 0.7 + 1e-6
    layer, x = moe.MoE(4, 3, e, partial(choice.top_k, k=1)), torch.randn(n, 4)
    y, route = layer(x)
    inside = (route.weights[:, :1] > 0).squeeze(1)
    torch.testing.assert_close(specialise.extract(layer, [0])(x)[0][inside], y[inside])
    swapped = specialise.swap_experts(layer, 0, e - 1)
    torch.testing.assert_close(specialise.swap_experts(swapped, e - 1, 0)(x)[0], y)
    refuses("label", specialise.information, z, label.float())
    refuses("n_permutations", specialise.information, z, label, n_permutations=0)
    refuses("coverage", specialise.needed_experts, z, 0)
    refuses("experts", specialise.extract, layer, [e])
    refuses("b", specialise.swap_experts, layer, 0, e)


@given(st.integers(0, 39), st.integers(1, 4), SEEDS)
def test_pairs_of_images_and_captions(kind, n, seed):
    text = limoe.caption(kind)
    tokens = limoe.encode([text])
    assert "".join(limoe.ALPHABET[i - 1] for i in tokens[0].tolist() if i) == text and tokens.shape == (1, 24)
    pairs = limoe.draw_pairs(torch.rand(5, 8, 8), torch.arange(5), size=n, generator=rng(seed))
    assert isinstance(pairs, limoe.Pairs) and pairs.images.shape == (n, 8, 8) and (pairs.kind < 20).all()
    ink = limoe.draw_images(torch.rand(n, 8, 8), pairs.kind)
    assert (ink >= 0).all() and (ink <= 1).all()
    torch.manual_seed(seed)
    net = limoe.LIMoE(4, 2, 2, 3, 4, capacity_factor=None)
    made = net(pairs.images, pairs.captions)
    assert isinstance(made, limoe.Encoded)
    alone = net(pairs.images[:1], pairs.captions[:0]).images  # who else is there does not matter
    torch.testing.assert_close(alone, made.images[:1], atol=1e-5, rtol=1e-4)
    scores, same = 3.0 * made.images @ made.captions.T, torch.eye(n, dtype=torch.bool)
    wanted = sum(F.cross_entropy(s, torch.arange(n)) for s in (scores, scores.T)) / 2
    close(limoe.contrastive_loss(made.images, made.captions, 3.0, same), wanted, 64)
    share = limoe.modality_share(made.choices[0], made.is_text)
    assert share.shape == (2, 3) and abs(share.sum() - 1) < 1e-5
    assert limoe.entropy_losses(made.choices[0], made.is_text, 0.5) >= -1e-6
    refuses("kind", limoe.caption, 40)
    refuses("captions", limoe.encode, text)
    refuses("captions", limoe.encode, [""])
    refuses("captions", limoe.encode, ["X"])
    for wrong in (pairs.captions - 1, pairs.captions + 27, pairs.captions * 0):
        refuses("captions", net.forward, pairs.images, wrong)
    refuses("images", net.forward, pairs.images[:, 1:], pairs.captions)


# ---------------------------------------------------------------------------------- pictures, notebooks, exercises


@given(st.integers(1, 4), st.integers(1, 5), SEEDS)
@settings(max_examples=5)
def test_pictures_are_drawn_where_asked(n, k, seed):
    plt.close("all")
    figure, ax = plt.subplots()
    values = normal(seed, n, k).numpy()
    assert plots.bars(ax, list("abcdefgh"[:k]), {str(i): row for i, row in enumerate(values)}) is ax
    assert len([patch for patch in ax.patches if patch.get_height() in values]) >= 1
    assert plots.curves(ax, range(k), {str(i): values for i in range(n)}) is ax
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), values.mean(0))
    assert plots.triangle(ax, ["a", "b", "c"]) is ax
    assert plots.box(ax, 0, 0, n, k, "x", on=n > 1) is ax and plots.arrow(ax, (0, 0), (n, k), bend=0.1) is ax
    assert plots.scene(ax, np.zeros((n * n, 8, 8)), np.zeros(n * n), n * n - 1, 0) is ax
    refuses("patches", plots.scene, ax, np.zeros((n * n + 1, 8, 8)), np.zeros(n * n + 1), 0, 0)
    z = choice.softmax(normal(seed, 6, 3)).weights
    points = plots.on_triangle(z)
    assert points.shape == (6, 2) and (0 <= points).all() and (points <= 1).all()
    refuses("weights", plots.on_triangle, z[:, :2])
    refuses("series", plots.bars, ax, ["a"], {})
    with pytest.MonkeyPatch.context() as patch:
        shown = []
        patch.setattr(notebook, "display", lambda *args, **options: shown.append((*args, options)))
        notebook.show(figure, f"{n} by {k}")
    [(content, options)] = shown
    assert content["image/png"].startswith(b"\x89PNG") and content["text/plain"] == f"{n} by {k}"
    assert options["metadata"]["image/png"]["alt"] == f"{n} by {k}" and not plt.fignum_exists(figure.number)
    for alt in ("", "  "):
        refuses("alt", notebook.show, figure, alt)


@given(st.text(max_size=8) | st.sampled_from(sorted(exercises.CHECKS)), SEEDS)
def test_checks_answer_whatever_they_are_given(name, seed):
    if name not in exercises.CHECKS:
        return refuses("name", notebook.check, name, ...)
    notebook.check(name, lambda *args: ...)


def answers(seed):
    """Tensors and numbers that no one would hand in, for arguments of any kind."""
    shapes = [(), (2,), (3,), (4,), (6,), (2, 4), (3, 5), (4, 2), (4, 3), (4, 4), (5, 3), (20_000,)]
    for dtype in (torch.float32, torch.float64, torch.int64, torch.bool):
        for shape in shapes:
            yield (10 * normal(seed, *shape)).to(dtype)
            yield torch.full(shape, math.nan if dtype.is_floating_point else 1, dtype=dtype)
            yield torch.full(shape, math.inf if dtype.is_floating_point else 0, dtype=dtype)
    yield from (math.nan, math.inf, -1, 0, 3, True, "a", None, ..., [], [1.0], {}, normal(seed, 2, 2).numpy())


@pytest.mark.parametrize("name", exercises.CHECKS)
def test_no_exercise_praises_or_falls_over_an_answer_by_chance(name):
    for answer in answers(len(name)):
        with pytest.raises((exercises.Wrong, exercises.NotAttempted)):
            exercises.CHECKS[name](lambda *args, answer=answer: answer)


@given(SEEDS)
@settings(max_examples=3)
def test_setup_seeds(seed):
    seed %= 2**31
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LECTURE_SEED", raising=False)
        assert notebook.setup(seed) == seed and torch.equal(torch.rand(2), torch.rand(2, generator=rng(seed)))
        patch.setenv("LECTURE_SEED", "7")
        assert notebook.setup(seed) == 7
        patch.setenv("LECTURE_SEED", "seven")
        with pytest.raises(ValueError, match="LECTURE_SEED"):
            notebook.setup()


RUN = {"step": [0, 1], "load": [[1, 0], [1, 0]], "dropped": [0, 0], "quality": [0, 1]}
TRADE = {"settings": [0, 1], "milliseconds": [1, 2], "full": [1, 2, 3]}
READ = {"confidence": [[0, 1]] * 2, "flops": [1, 2]}
TWO = np.ones((2, 2))
WIDGETS = {
    "Temperature": {},
    "SparseMaps": {},
    "Estimators": {},
    "ExpertCalculator": {},
    "Savings": TRADE | {"accuracy": [0, 1], "flops": [1, 2], "images": np.zeros((1, 2, 2)), "kept": [[[1]], [[0]]]},
    "Exits": TRADE | READ | {"right": [[0, 1]] * 2},
    "ExitText": {"text_bytes": b"ab", "agrees": [[0, 1]] * 2} | READ,
    "Routing": {"runs": {"a": RUN}},
    "Interpolation": {"positions": [0, 1], "loss": TWO, "accuracy": TWO, "units": np.ones((3, 1, 2, 2))},
    "Roofline": {key: [1, 2] for key in ("machine", "counts", "tokens", "flops")} | {"n_bytes": TWO, "seconds": TWO},
    "Modalities": {
        "inputs": ["a", "b"],
        "experts": [[[0]], [[1]]],
        "share": [TWO / 2],
        "layers": ["x"],
        "titles": ["a", "b"],
    },
}
GARBAGE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.binary(max_size=3),
    st.complex_numbers(), st.lists(st.floats() | st.text(max_size=2) | st.just(10**400), max_size=6),
    st.dictionaries(st.integers(), st.floats(), max_size=2),
    st.sampled_from([10**400, torch.zeros(2, 2), np.full((2, 2), 1e300), np.full(2, 0.5)]),
)  # fmt: skip


@pytest.mark.parametrize("name", WIDGETS)
@given(value=GARBAGE, seed=SEEDS)
def test_widgets_take_a_value_or_refuse_it_by_name(name, value, seed):
    kind = getattr(widgets, name)
    options = [option for option in inspect.signature(kind).parameters if option != "controls"]
    try:
        made = kind(**WIDGETS[name] | {options[seed % len(options)]: value})
    except traitlets.TraitError as error:
        assert any(re.search(rf"\b{option}\b", str(error)) for option in options)
    else:
        assert "<table>" in made._fallback() and "nan" not in made._fallback() and repr(made).startswith(name)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 6), SEEDS)
def test_experts_over_ranks_on_paper(ranks, per_rank, n, seed):
    z = choice.top_k(normal(seed, n, ranks * per_rank), 1)
    rows = expert_parallel.pairs_by_rank(z, ranks)
    owner = z.weights.argmax(-1) // per_rank
    assert rows.tolist() == [int((owner == r).sum()) for r in range(ranks)]
    pairs = torch.randint(0, 9, (ranks, ranks), generator=rng(seed)).double()
    rates = {"flops_per_pair": 2.0, "row_bytes": 3.0, "flops_per_second": 5.0, "bytes_per_second": 7.0}
    step = expert_parallel.on_paper(pairs, **rates)
    assert math.isclose(step.compute, 3 * pairs.sum(0).max().item() * 2 / 5)
    sent = [sum(pairs[r, q].item() for q in range(ranks) if q != r) for r in range(ranks)]
    got = [sum(pairs[q, r].item() for q in range(ranks) if q != r) for r in range(ranks)]
    assert math.isclose(step.exchange, 4 * max(sent + got) * 3 / 7)
    late = expert_parallel.on_paper(pairs, **rates, latency=1.0)
    assert math.isclose(late.exchange - step.exchange, 5.0 * (ranks > 1))
    refuses("n_ranks", expert_parallel.pairs_by_rank, z, ranks * per_rank + 1)
    refuses("pairs", expert_parallel.on_paper, pairs[:, :0], **rates)
    for name in rates:
        refuses(name, expert_parallel.on_paper, pairs, **rates | {name: 0.0})
    refuses("latency", expert_parallel.on_paper, pairs, **rates, latency=-1.0)


# -------------------------------------------------------------------------------------------- is everything covered?

EXEMPT = {
    "expert_parallel.ExpertParallel": "needs several processes: tests/test_expert_parallel.py",
    "expert_parallel.ShardedExperts": "needs several processes",
    "expert_parallel.global_load_balance_loss": "needs several processes",
    "limoe.retrieval": "the ten best of 40 looks: tests/test_limoe.py",
    "simplex.as_number": "tests/test_simplex.py tries every kind of number",
    "simplex.as_integer": "tests/test_simplex.py",
    "slides": "turns files into files: tests/test_slides.py looks at them in a browser",
    "data.digits": "takes no argument",
    "data.openml": "needs a network: tests/test_data.py puts one in its place",
    "data.digit_tasks": "takes no argument: tests/test_data.py looks at all of its images",
    "data.python_sources": "takes no argument",
}


def used_in(node):
    """module.name of all that is used; to be refused, or to be a type, is no use."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("refuses", "isinstance"):
        return set()
    named = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    here = {f"{node.value.id}.{node.attr}"} if named else set()
    return here.union(*map(used_in, ast.iter_child_nodes(node)))


def test_every_public_function_has_a_property():
    used = used_in(ast.parse(Path(__file__).read_text("utf-8")))
    used |= {f"widgets.{name}" for name in WIDGETS} | {f"exercises.{name}" for name in exercises.CHECKS}
    missing = []
    for module in {m.name for m in pkgutil.iter_modules(lecture_lib.__path__)} - set(EXEMPT):
        home = importlib.import_module(f"lecture_lib.{module}")
        public = [
            name for name in getattr(home, "__all__", vars(home)) if not name.startswith("_") and
            (inspect.isfunction(value := vars(home)[name]) or inspect.isclass(value)) and
            value.__module__.startswith(home.__name__) and
            not (inspect.isclass(value) and issubclass(value, (tuple, Exception)))  # plain records
        ]  # fmt: skip
        missing += sorted({f"{module}.{name}" for name in public} - used - set(EXEMPT))
    assert not missing, f"without a property here: {', '.join(missing)}"
