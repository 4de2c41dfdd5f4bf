"""Properties of the places: patches, skipping, models, exits, calibration."""

import math
from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from properties import BATCHES, NO_NUMBER, SEEDS, close, gradient, normal, refuses, rng
from torch import nn

from lecture_lib import calibration, choice, exits, models, patches, skipping


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
    losses = skipping.usage_losses(decided, 1.0, 1.0, 1.0) if batch and n_tokens > 1 else torch.zeros(3)
    assert losses.shape == (3,) and (losses >= 0).all() and (losses <= 1).all()
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


@given(st.integers(0, 40), SEEDS, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_bet_looks_at_losses_alone(n, seed, tolerance, error):
    losses = np.random.default_rng(seed).random(n)
    p = calibration.betting_p_value(losses, tolerance, error)
    assert 0 < p <= 1 and (n or p == 1)
    assert calibration.betting_p_value(torch.tensor(losses), tolerance, error) == p
    more = min(0.999, tolerance + 0.1)  # a weaker claim is easier to prove
    assert calibration.betting_p_value(losses, more, error) <= p + 1e-12
    same = np.full(n, tolerance)  # nobody wins, nobody loses
    assert math.isclose(calibration.betting_p_value(same, tolerance, error), 1)
    refuses("losses", calibration.betting_p_value, [*losses, math.nan], tolerance, error)
    refuses("tolerance", calibration.betting_p_value, losses, 1.0, error)
    refuses("error", calibration.betting_p_value, losses, tolerance, 0)


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
