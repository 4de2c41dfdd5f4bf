"""Skipping layers, heads and hidden units: training and evaluation mode agree, and what is skipped is not computed."""

from functools import partial

import pytest
import torch
from torch import nn

from lecture_lib.choice import argmax, entmax, gumbel_softmax, sample, softmax, straight_through
from lecture_lib.cost import count_flops
from lecture_lib.estimators import surrogate
from lecture_lib.models import MLP, Block, SelfAttention
from lecture_lib.patches import packed, usage_loss
from lecture_lib.skipping import (
    AdaptiveTransformer,
    Decisions,
    GatedChannels,
    GatedHeads,
    MixtureOfDepths,
    SkippableBlock,
    compute_share,
    predictor_loss,
    usage_losses,
)

B, T, D, H = 6, 9, 16, 4


def undecided(module):
    """Scores around 0, far from each other: some keep, some discard."""
    for name, p in module.named_parameters():
        if "score" in name:
            nn.init.normal_(p, std=1.0 if p.ndim > 1 else 0.1)
    return module


def hard(logits):
    return straight_through(softmax(logits))


# --- skipped layers ---


class Counting(nn.Module):
    """A block that remembers how many examples it was given."""

    def __init__(self, body):
        super().__init__()
        self.body, self.calls = body, []

    def forward(self, x, *args):
        self.calls.append(len(x))
        return self.body(x, *args)


@pytest.mark.parametrize("shape", [(B, D), (B, T, D)])
def test_only_the_examples_that_run_are_computed(shape):
    body = Counting(nn.Sequential(nn.LayerNorm(D), nn.Linear(D, D), nn.Tanh()))
    layer = undecided(SkippableBlock(D, body, hard))
    x = torch.randn(shape)
    dense, choice = layer(x)
    layer.eval()
    sparse, _ = layer(x)
    run = choice.weights[..., 0] > 0
    assert choice.weights.shape == (B, 2) and 0 < run.sum() < B
    assert body.calls == [B, run.sum()]
    torch.testing.assert_close(sparse, dense)
    torch.testing.assert_close(sparse[run], body.body(x[run]))
    assert torch.equal(sparse[~run], x[~run])


def test_when_all_skip_nothing_is_called_and_gradients_are_defined():
    body = Counting(Block(D, H))
    layer = SkippableBlock(D, body, softmax, at_test=argmax)
    with torch.no_grad():
        layer.gate.score.bias.fill_(-100)
    x = torch.randn(B, T, D, requires_grad=True)
    layer.eval()
    y, _ = layer(x)
    assert not body.calls and torch.equal(y, x)
    assert count_flops(layer, x) == 2 * B * D  # the decision itself
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], torch.ones_like(x))
    layer.at_test = hard
    gradients = torch.autograd.grad(layer(x)[0].sum(), [x, *layer.parameters()], materialize_grads=True)
    assert not body.calls and all((g == 0).all() for g in gradients[1:])  # zero, not missing or NaN
    assert layer(x[:0])[0].shape == (0, T, D) and not body.calls
    layer.train()
    (slope,) = torch.autograd.grad(layer(x)[0].sum(), layer.gate.score.weight)
    assert slope.isfinite().all()


# --- gated heads ---


@pytest.mark.parametrize("causal", [False, True])
def test_gated_heads_equal_the_sum_of_heads(causal):
    layer = undecided(GatedHeads(SelfAttention(D, H, causal=causal), hard)).double()
    x = torch.randn(B, T, D, dtype=torch.float64)
    kept = torch.rand(B, T, dtype=torch.float64).round()
    for seen in (None, kept):
        dense, choice = layer.train()(x, seen)
        sparse, _ = layer.eval()(x, seen)
        z = choice.weights[..., 0]
        assert z.shape == (B, H) and 0 < z.sum() < B * H
        torch.testing.assert_close(sparse, dense)
        output = layer.attention.output
        for b in range(B):
            heads = layer.attention.heads(x[b : b + 1], None if seen is None else seen[b : b + 1])[0]  # (H, T, D/H)
            y = sum(z[b, h] * heads[h] @ output.weight.unflatten(1, (H, -1))[:, h].T for h in range(H)) + output.bias
            torch.testing.assert_close(dense[b], y)


def test_all_heads_kept_is_plain_attention_and_none_is_the_bias():
    layer = GatedHeads(SelfAttention(D, H), softmax)
    x = torch.randn(B, T, D)
    for mode in (True, False):
        layer.train(mode)
        layer.choose = layer.at_test = argmax
        with torch.no_grad():
            layer.gate.score.bias.fill_(100)
            torch.testing.assert_close(layer(x)[0], layer.attention(x))
            layer.gate.score.bias.fill_(-100)
            torch.testing.assert_close(layer(x)[0], layer.attention.output.bias.expand(B, T, D))


def test_flops_are_those_of_the_heads_kept():
    layer = undecided(GatedHeads(SelfAttention(D, H), hard)).eval()
    x = torch.randn(B, T, D)
    with torch.no_grad():
        used = int(layer(x)[1].weights[..., 0].sum())
        one = 2 * T * D * 4 * (D // H) + 4 * T * T * (D // H)  # queries, keys, values, output; scores and mean
        assert count_flops(layer, x) == 2 * B * D * H + used * one
        assert count_flops(layer.attention, x) == B * H * one
        layer.train()
        assert count_flops(layer, x) == 2 * B * D * H + B * H * one  # training computes all


# --- gated channels ---


@pytest.mark.parametrize("shape", [(D,), (B, D), (2, B, D)])
def test_gated_channels_equal_a_masked_mlp(shape):
    mlp, n_groups = MLP(D, 24, 5), 3
    layer = undecided(GatedChannels(mlp, n_groups, hard))
    x = torch.randn(shape)
    dense, choice = layer(x)
    sparse, _ = layer.eval()(x)
    z = choice.weights[..., 0]
    assert z.shape == (*shape[:-1], n_groups)
    by_hand = mlp[2](mlp[1](mlp[0](x)) * z.repeat_interleave(8, -1))
    torch.testing.assert_close(dense, by_hand)
    torch.testing.assert_close(sparse, by_hand)


def test_flops_are_those_of_the_groups_kept():
    layer, x = undecided(GatedChannels(MLP(D, 24, 5), 3, hard)).eval(), torch.randn(50, D)
    with torch.no_grad():
        used = int(layer(x)[1].weights[..., 0].sum())
        assert 0 < used < 150
        assert count_flops(layer, x) == 2 * 50 * D * 3 + used * 2 * 8 * (D + 5)


def test_groups_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="n_groups must be an integer that divides the 24 hidden units, got 5"):
        GatedChannels(MLP(D, 24, 5), 5, softmax)
    with pytest.raises(ValueError, match="mlp must be a Sequential of Linear, activation, Linear, with biases, got"):
        GatedChannels(MLP(D, 24, 5, depth=3), 2, softmax)
    with pytest.raises(ValueError, match=r"x must be \(B, D\) or \(B, T, D\), got \(16,\)"):
        SkippableBlock(D, nn.Identity(), softmax)(torch.randn(D))


# --- mixture of depths ---


def test_mixture_of_depths_is_the_dense_block_masked_to_the_chosen():
    body = Block(D, H, causal=True).double()
    layer = MixtureOfDepths(D, body, 0.5).double()
    x = torch.randn(B, 10, D, dtype=torch.float64, requires_grad=True)
    y, choice = layer(x)
    r = layer.router(x).squeeze(-1).sigmoid()
    chosen = torch.zeros(B, 10, dtype=torch.float64).scatter(-1, r.argsort(descending=True)[:, :5], 1)
    torch.testing.assert_close(choice.weights[..., 0], r * chosen)
    torch.testing.assert_close(choice.weights.sum(-1), torch.ones_like(r))
    dense = x + (r * chosen).unsqueeze(-1) * (body(x, chosen) - x)  # everything computed, attention masked
    torch.testing.assert_close(y, dense)
    inputs = [x, *body.parameters(), *layer.router.parameters()]
    torch.testing.assert_close(*(torch.autograd.grad(out.square().sum(), inputs) for out in (y, dense)))


def test_capacity_is_known_beforehand_and_never_zero():
    body, x = Counting(Block(D, H)), torch.randn(B, 10, D)
    for capacity, k in ((1.0, 10), (0.25, 2), (0.29, 3), (0.01, 1)):  # rounded, and at least one token
        layer = MixtureOfDepths(D, body, capacity)
        assert ((layer(x)[1].weights[..., 0] > 0).sum(-1) == k).all()
        with torch.no_grad():
            block = B * (24 * k * D**2 + 4 * k**2 * D)
            assert count_flops(layer, x) == 2 * B * 10 * D + block  # the router, and the block on k tokens
    for capacity in (0, -0.5, 1.5, float("nan")):
        with pytest.raises(ValueError, match="capacity must be more than 0 and at most 1, got"):
            MixtureOfDepths(D, body, capacity)


@pytest.mark.parametrize("choose", [argmax, sample, hard], ids=["argmax", "sample", "straight-through"])
def test_mixture_of_depths_refuses_ways_that_give_no_order(choose):
    with pytest.raises(ValueError, match=r"choose must give tokens weights between 0 and 1, .* leaves no order"):
        MixtureOfDepths(D, Block(D, H), 0.5, choose)


def test_top_k_looks_ahead_and_the_predictor_does_not():
    torch.manual_seed(0)
    layer = MixtureOfDepths(D, Block(D, H, causal=True), 0.3)
    x = torch.randn(64, 10, D)
    other = torch.cat([x[:, :6], torch.randn(64, 4, D)], dim=1)
    with torch.no_grad():
        assert not torch.allclose(layer(x)[0][:, :6], layer(other)[0][:, :6])  # the end of the sequence decides
        layer.eval()
        torch.testing.assert_close(layer(x)[0][:, :6], layer(other)[0][:, :6])


def test_the_predictor_learns_the_top_k_and_leaves_the_layer_alone():
    torch.manual_seed(0)
    layer, x = MixtureOfDepths(D, Block(D, H, causal=True), 0.3), torch.randn(64, 20, D, requires_grad=True)
    _, choice = layer(x)
    loss = predictor_loss(layer.predict(x), choice)
    reached = torch.autograd.grad(loss, [x, *layer.parameters()], materialize_grads=True)
    names = ["x", *(name for name, _ in layer.named_parameters())]
    assert {n for n, g in zip(names, reached, strict=True) if (g != 0).any()} == {"predictor.weight", "predictor.bias"}
    optimizer = torch.optim.Adam(layer.predictor.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        predictor_loss(layer.predict(x), choice).backward()
        optimizer.step()
    right = ((layer.predict(x) > 0) == (choice.weights[..., 0] > 0)).float().mean()
    assert right > 0.85  # the top 30 % of a sequence are, nearly, the tokens above a threshold


# --- all of it ---


def test_adaptive_transformer_evaluates_what_it_trained():
    net = undecided(AdaptiveTransformer(D, H, 3, hard))
    x = torch.randn(B, T, D)
    dense, decisions = net(x)
    sparse, again = net.eval()(x)
    torch.testing.assert_close(sparse[:, 0], dense[:, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(sparse, dense, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(decisions, again, strict=True):
        torch.testing.assert_close(ours, theirs)
    kept, heads, run, log_prob = decisions
    assert kept.shape == (3, B, T) and heads.shape == (3, B, H) and run.shape == (3, B) and log_prob.shape == (B,)
    assert all(0 < part.mean() < 1 for part in (kept, heads, run)) and (kept[..., 0] == 1).all()


def test_adaptive_transformer_without_a_budget_is_a_transformer():
    net = AdaptiveTransformer(D, H, 2, argmax)
    x = torch.randn(B, T, D)
    plain = x
    for block in net.blocks:
        plain = block(plain)
    with torch.no_grad():
        for gate in net.modules():
            if hasattr(gate, "score"):
                gate.score.bias.fill_(100)
    for mode in (True, False):
        torch.testing.assert_close(net.train(mode)(x)[0], net.norm(plain), rtol=1e-4, atol=1e-5)


def test_compute_share_is_what_is_counted():
    net = undecided(AdaptiveTransformer(D, H, 3, hard)).eval()
    x = torch.randn(B, T, D)
    with torch.no_grad():
        decisions = net(x)[1]
        share = compute_share(decisions, D)
        full = 3 * (24 * T * D**2 + 4 * T**2 * D)
        gates = 3 * 2 * B * D * ((T - 1) + H + 1)
        assert count_flops(net, x) == gates + round(float(share.sum()) * full)
    kept, heads, run, _ = decisions
    everything = decisions._replace(kept=torch.ones_like(kept), heads=torch.ones_like(heads), run=torch.ones_like(run))
    torch.testing.assert_close(compute_share(everything, D), torch.ones(B))


def test_usage_losses_are_those_of_hard_decisions():
    kept = torch.tensor([[[1.0, 1, 0, 0, 0], [1, 1, 1, 1, 0]]])  # (L, B, T): four of eight patches
    decisions = Decisions(kept, torch.tensor([[[1.0, 0], [1, 1]]]), torch.tensor([[1.0, 0]]), torch.zeros(2))
    wanted = torch.tensor([0.5 - 0.25, 0.75 - 0.5, 0.5 - 1]).square()
    torch.testing.assert_close(usage_losses(decisions, 0.25, 0.5, 1.0), wanted)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0]]).bool()  # the second example is padding
    wanted = torch.tensor([0.25 - 0.25, 0.5 - 0.5, 1 - 1]).square()
    torch.testing.assert_close(usage_losses(decisions, 0.25, 0.5, 1.0, mask=mask), wanted)
    with pytest.raises(ValueError, match="target"):
        usage_losses(decisions, 0.25, 0, 1.0)


def test_three_budgets_reach_every_decision():
    net = AdaptiveTransformer(D, H, 2, hard)
    optimizer = torch.optim.Adam([p for name, p in net.named_parameters() if "score" in name], lr=0.05)
    x = torch.randn(64, T, D)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(80):
            losses = usage_losses(net(x)[1], 0.5, 0.25, 0.75)
            optimizer.zero_grad()
            losses.sum().backward()
            optimizer.step()
        kept, heads, run, _ = net(x)[1]
    for used, target in ((kept[..., 1:], 0.5), (heads, 0.25), (run, 0.75)):
        assert abs(used.mean() - target) < 0.1


@pytest.mark.parametrize("choose", [softmax, partial(gumbel_softmax, temperature=0.5), entmax, hard, sample])
def test_one_budget_reaches_every_decision(choose):
    net = AdaptiveTransformer(D, H, 2, choose)
    optimizer = torch.optim.Adam([p for name, p in net.named_parameters() if "score" in name], lr=0.05)
    x = torch.randn(B, T, D)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, *_, last = (step(net, x, optimizer, choose is sample) for _ in range(60))
    assert abs(last - 0.5) < 0.12 < abs(first - 0.5)


def step(net, x, optimizer, by_score_function):
    decisions = net(x)[1]
    share = compute_share(decisions, D)
    cost = (share - 0.5).square() if by_score_function else usage_loss(share, 0.5).expand(B)
    optimizer.zero_grad()
    surrogate(cost, decisions.log_prob, cost.mean()).mean().backward()
    optimizer.step()
    return share.mean().item()


def test_nothing_kept_but_the_class_token_still_gives_an_answer():
    net = AdaptiveTransformer(D, H, 2, softmax).eval()
    x = torch.randn(B, T, D)
    with torch.no_grad():
        for patches in net.patches:
            patches.gate.score.bias.fill_(-100)
        y, decisions = net(x)
        assert (decisions.kept.sum(-1) == 1).all() and y.isfinite().all()
        alone = x[:, :1]
        for block in net.blocks:
            alone = block(alone)
        torch.testing.assert_close(y[:, :1], net.norm(alone), rtol=1e-4, atol=1e-5)
        assert torch.equal(packed(net.blocks[0], x, decisions.kept[0])[:, 1:], x[:, 1:])
