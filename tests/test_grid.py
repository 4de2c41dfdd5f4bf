"""The grid: every way of choosing works in every place that has k options.

A place takes a way of choosing and gives (output, choice, scorer, parameters of the options), evaluated densely or
sparsely. Each pair is compared with a loop over examples and options, in value and in every gradient.
"""

from itertools import product

import pytest
import torch
from torch import nn
from ways import WAYS

from lecture_lib.adapters import LoRA, MixtureOfAdapters
from lecture_lib.estimators import surrogate
from lecture_lib.exits import EarlyExitNet
from lecture_lib.mixture import mix, mix_sparse
from lecture_lib.models import Block, SelfAttention
from lecture_lib.moe import MoE
from lecture_lib.patches import PatchSelector, masked, packed
from lecture_lib.skipping import GatedChannels, GatedHeads, MixtureOfDepths, SkippableBlock

K, D, D_OUT = 5, 8, 6


def loop(x, weights, modules):
    """The dumb reference: one example, one option at a time."""
    rows, z = x.reshape(-1, x.shape[-1]), weights.reshape(-1, len(modules))
    y = [sum(z[n, k] * module(rows[n]) for k, module in enumerate(modules)) for n in range(len(rows))]
    return torch.stack(y).reshape(*weights.shape[:-1], -1)


def mixture(choose, evaluate):
    """The equation itself: a linear scorer, five small networks."""
    scorer = nn.Linear(D, K)
    options = nn.ModuleList(nn.Sequential(nn.Linear(D, 16), nn.Tanh(), nn.Linear(16, D_OUT)) for _ in range(K))
    x = torch.randn(2, 7, D)
    choice = choose(scorer(x))
    return evaluate(x, choice.weights, options), choice, scorer, options


def experts(choose, evaluate):
    """A layer of experts: sparse by grouped products, dense with every expert run."""
    moe = MoE(D, 16, K, choose, bias=True)
    x = torch.randn(2, 7, D)
    if evaluate is mix_sparse:
        return *moe(x), moe.router, moe.experts
    choice = choose(moe.router(x))
    return evaluate(x, choice.weights, moe.experts), choice, moe.router, moe.experts


def adapters(choose, evaluate):
    """Small changes beside a layer that all share: sparse by running the chosen, dense with every change computed."""
    base = nn.Linear(D, D_OUT)
    layer = MixtureOfAdapters(base, [LoRA(base, 2) for _ in range(K)], choose)
    for adapter in layer.adapters:
        nn.init.normal_(adapter.B)
    x = torch.randn(2, 7, D)
    if evaluate is mix_sparse:
        return *layer(x), layer.router, layer.adapters.requires_grad_(True)
    choice = choose(layer.router(x))
    return (
        base(x) + evaluate(x, choice.weights, layer.changes),
        choice,
        layer.router,
        layer.adapters.requires_grad_(True),
    )


def exits(choose, evaluate):
    """Early exits: option k is the network cut after block k; its blocks are shared with the options behind it."""
    scorer, x = nn.Linear(D, K), torch.randn(2, 7, D)
    blocks = [nn.Sequential(nn.Linear(D, D), nn.Tanh()) for _ in range(K)]
    net = EarlyExitNet(blocks, [nn.Linear(D, D_OUT) for _ in range(K)])
    choice = choose(scorer(x))
    cut = [nn.Sequential(*net.blocks[: k + 1], net.heads[k]) for k in range(K)]
    return evaluate(x, choice.weights, cut), choice, scorer, net


def slow_attention(attention, x, kept, z):
    """Self-attention on one example (T, D), head by head: exp(A)·G / Σ exp(A)·G, weighted by z (H,)."""
    q, k, v = attention.query_key_value(x).unflatten(-1, (3, len(z), -1)).unbind(-3)  # (T, H, D/H)
    g = torch.where(torch.eye(len(x), dtype=torch.bool), 1, kept)
    e = [(q[:, h] @ k[:, h].T / q.shape[-1] ** 0.5).exp() * g for h in range(len(z))]
    heads = [z[h] * (e[h] / e[h].sum(-1, keepdim=True)) @ v[:, h] for h in range(len(z))]
    return attention.output(torch.cat(heads, -1))


def slow_block(block, x, kept):
    x = x + slow_attention(block.attention, block.norm_1(x), kept, torch.ones(block.attention.n_heads))
    return x + block.mlp(block.norm_2(x))


def on_this_side(layer, evaluate):
    """The evaluation that belongs to `mix` is the one of training mode; to `mix_sparse`, that of evaluation mode."""
    torch.nn.init.zeros_(layer.gate.score.bias)  # so that some keep and some discard
    return layer.train(evaluate is not mix_sparse)


def patches(choose, evaluate):
    """A block that sees the kept tokens."""
    selector = on_this_side(PatchSelector(D, choose, at_test=choose), evaluate)
    block, x = Block(D, 2), 2 * torch.randn(4, 7, D)
    kept, choice = selector(x)
    if evaluate is loop:
        y = torch.stack([row + w[:, None] * (slow_block(block, row, w) - row) for row, w in zip(x, kept, strict=True)])
    else:
        y = (masked if evaluate is mix else packed)(block, x, kept)
    return y, choice, selector, block


def skipped_block(choose, evaluate):
    body, x = nn.Sequential(nn.Linear(D, 16), nn.Tanh(), nn.Linear(16, D)), 2 * torch.randn(10, D)
    layer = on_this_side(SkippableBlock(D, body, choose, at_test=choose), evaluate)
    y, choice = layer(x)
    if evaluate is loop:
        y = torch.stack([row + w * (body(row) - row) for row, w in zip(x, choice.weights[:, 0], strict=True)])
    return y, choice, layer.gate, body


def heads(choose, evaluate):
    attention, x = SelfAttention(D, 4), 2 * torch.randn(6, 5, D)
    layer = on_this_side(GatedHeads(attention, choose, at_test=choose), evaluate)
    y, choice = layer(x)
    if evaluate is loop:
        z = choice.weights[..., 0]
        y = torch.stack([slow_attention(attention, row, torch.ones(5), w) for row, w in zip(x, z, strict=True)])
    return y, choice, layer.gate, attention


def channels(choose, evaluate):
    mlp, x = nn.Sequential(nn.Linear(D, 12), nn.GELU(), nn.Linear(12, D_OUT)), 2 * torch.randn(4, 7, D)
    layer = on_this_side(GatedChannels(mlp, 3, choose, at_test=choose), evaluate)
    y, choice = layer(x)
    if evaluate is loop:
        z = choice.weights[..., 0].repeat_interleave(4, -1)
        y = torch.stack([torch.stack([mlp[2](z[b, t] * mlp[1](mlp[0](x[b, t]))) for t in range(7)]) for b in range(4)])
    return y, choice, layer.gate, mlp


def depths(choose, evaluate):
    """Room for 3 of 7 tokens, which see each other only."""
    block, x = Block(D, 2), 2 * torch.randn(4, 7, D)
    layer = MixtureOfDepths(D, block, 0.43, choose)
    y, choice = layer(x)
    r = choice.weights[..., 0]
    if evaluate is mix:
        y = x + r.unsqueeze(-1) * (block(x, (r > 0).to(x.dtype)) - x)
    elif evaluate is loop:
        y = x.clone()
        for b in range(4):
            best = [t for t in sorted(range(7), key=lambda t: -r[b, t].item())[:3] if r[b, t] > 0]
            y[b, best] = x[b, best] + r[b, best, None] * (block(x[None, b, best])[0] - x[b, best])
    return y, choice, layer.router, block


PLACES = {"exits": exits, "experts": experts, "mixture": mixture, "patches": patches, "skipped block": skipped_block}
PLACES |= {"adapters": adapters, "heads": heads, "channels": channels, "depths": depths}
# a mixture of depths takes the tokens of the largest weights: ways that answer 0 or 1 give it no order
NO_SENSE = {(name, "depths"): "a hard choice leaves no order" for name, way in WAYS.items() if way.hard}
PAIRS = pytest.mark.parametrize(("way", "place"), [pair for pair in product(WAYS, PLACES) if pair not in NO_SENSE])


def run(way, place, evaluate):
    """Output, gradients of the scorer, gradients of the options; the same networks and the same noise every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            generator = torch.Generator().manual_seed(1)
            y, choice, scorer, options = PLACES[place](lambda s: WAYS[way](s, generator=generator), evaluate)
        finally:
            torch.set_default_dtype(default)
    log_prob = choice.log_prob.reshape(len(y), -1).sum(-1)  # of all decisions about an example
    loss = surrogate(y.square().flatten(1).sum(-1), log_prob).mean()
    parameters = [*scorer.parameters(), *options.parameters()]
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    n = len(list(scorer.parameters()))
    return y, gradients[:n], gradients[n:]


@PAIRS
def test_dense_equals_the_loop(way, place):
    torch.testing.assert_close(run(way, place, mix), run(way, place, loop))


@PAIRS
def test_sparse_equals_dense(way, place):
    (y, to_scorer, to_options), (y_2, to_scorer_2, to_options_2) = run(way, place, mix), run(way, place, mix_sparse)
    torch.testing.assert_close(y_2, y)
    torch.testing.assert_close(to_options_2, to_options)
    if WAYS[way].needs_all:  # the documented difference, not an accident
        assert (to_scorer[0] - to_scorer_2[0]).norm() > 0.1 * to_scorer[0].norm()
    else:
        torch.testing.assert_close(to_scorer_2, to_scorer)


@PAIRS
def test_a_gradient_reaches_the_scorer_where_it_should(way, place):
    _, to_scorer, to_options = run(way, place, mix)
    assert any(g.abs().sum() > 0 for g in to_scorer) == WAYS[way].reaches_scorer
    assert any(g.abs().sum() > 0 for g in to_options)


@pytest.mark.parametrize(("way", "place"), NO_SENSE)
def test_a_pair_that_makes_no_sense_is_refused_with_the_reason(way, place):
    with pytest.raises(ValueError, match=NO_SENSE[way, place]):
        run(way, place, mix)
