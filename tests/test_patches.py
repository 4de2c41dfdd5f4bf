"""Keeping and discarding tokens: masked equals packed equals a loop, what is discarded is neither seen nor computed."""

from functools import partial

import pytest
import torch

from lecture_lib.choice import argmax, gumbel_softmax, softmax, straight_through
from lecture_lib.cost import count_flops
from lecture_lib.models import Block, SelfAttention, Transformer, attention
from lecture_lib.patches import Gate, PatchSelector, masked, packed, usage_loss

B, T, D, H = 6, 9, 16, 2


def ragged(batch=B, tokens=T, seed=0):
    """Hard decisions, a different number for each example: the first keeps nothing but the class token."""
    kept = (torch.rand(batch, tokens, generator=torch.Generator().manual_seed(seed)) < 0.5).float()
    kept[0] = 0
    kept[:, 0] = 1
    return kept


def block_flops(n, d):
    return 24 * n * d**2 + 4 * n**2 * d


@pytest.mark.parametrize("causal", [False, True])
def test_masked_attention_is_dynamicvits_formula(causal):
    q, k, v = torch.randn(3, B, H, T, 4, dtype=torch.float64)
    kept = torch.rand(B, T, dtype=torch.float64).round(decimals=1)  # some are exactly 0
    kept.requires_grad_()
    y = attention(q, k, v, kept, causal=causal)
    for b in range(B):
        for h in range(H):
            for i in range(T):
                last = i + 1 if causal else T
                g = torch.stack([kept.new_ones(()) if i == j else kept[b, j] for j in range(last)])
                e = (q[b, h, i] @ k[b, h, :last].T / 2).exp() * g
                torch.testing.assert_close(y[b, h, i], e / e.sum() @ v[b, h, :last])
    small = attention(q[:2, :, :4], k[:2, :, :4], v[:2, :, :4], torch.ones(2, 4), causal=causal)
    torch.testing.assert_close(small, attention(q[:2, :, :4], k[:2, :, :4], v[:2, :, :4], causal=causal))


def test_masked_attention_has_the_formulas_gradient_also_at_zero():
    q, k, v = torch.randn(3, 2, H, 4, 3, dtype=torch.float64, requires_grad=True)
    kept = torch.tensor([[1.0, 0.3, 1e-3, 0.6], [1.0, 1.0, 0.5, 0.2]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(attention, (q, k, v, kept))
    kept = torch.tensor([[1.0, 0.0, 1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(attention(q[:1], k[:1], v[:1], kept).square().sum(), kept)
    for j in (1, 3):  # what would change if a discarded token came back a little
        up = kept.detach().clone()
        up[0, j] = 1e-6
        change = attention(q[:1], k[:1], v[:1], up).square().sum() - attention(q[:1], k[:1], v[:1], kept).square().sum()
        torch.testing.assert_close(slope[0, j], change.detach() / 1e-6, rtol=1e-4, atol=1e-4)


def test_a_discarded_token_with_enormous_scores_does_no_harm():
    q, k, v = torch.randn(3, 1, 1, 3, 4)
    q, k = 0 * q + 10, torch.cat([k[..., :2, :], 0 * k[..., 2:, :] + 1e4], dim=-2)  # the last would win everything
    kept = torch.tensor([[1.0, 1.0, 0.0]], requires_grad=True)
    y = attention(q, k, v, kept)
    assert y.isfinite().all() and torch.autograd.grad(y.sum(), kept)[0].isfinite().all()
    torch.testing.assert_close(y[..., :2, :], attention(q[..., :2, :], k[..., :2, :], v[..., :2, :]))


@pytest.mark.parametrize("body", [Block(D, H), Block(D, H, causal=True), Transformer(D, H, 2)])
def test_masked_equals_packed_equals_one_example_at_a_time(body):
    x, kept = torch.randn(B, T, D), ragged()
    sparse = packed(body, x, kept)
    torch.testing.assert_close(masked(body, x, kept), sparse, rtol=0, atol=1e-5)
    for b in range(B):
        alone = body(x[b : b + 1, kept[b] > 0])  # the others are gone
        torch.testing.assert_close(sparse[b : b + 1, kept[b] > 0], alone, rtol=0, atol=1e-5)
        assert torch.equal(sparse[b, kept[b] == 0], x[b, kept[b] == 0])


def test_soft_weights_give_the_same_both_ways_with_all_gradients():
    body = Block(D, H).double()
    x = torch.randn(B, T, D, dtype=torch.float64, requires_grad=True)
    kept = (torch.rand(B, T, dtype=torch.float64) * ragged().double()).requires_grad_()
    inputs = [x, kept, *body.parameters()]
    dense, sparse = (evaluate(body, x, kept) for evaluate in (masked, packed))
    torch.testing.assert_close(sparse, dense)
    to_dense, to_sparse = (torch.autograd.grad(y.square().sum(), inputs) for y in (dense, sparse))
    assert (to_dense[1][kept == 0] != 0).any() and (to_sparse[1][kept == 0] == 0).all()  # the documented difference
    torch.testing.assert_close(to_sparse[1][kept != 0], to_dense[1][kept != 0])
    torch.testing.assert_close(to_sparse[::2] + to_sparse[3::2], to_dense[::2] + to_dense[3::2])


def test_packed_calls_the_body_once_for_each_count_and_never_on_nothing():
    x, kept, seen = torch.randn(B, T, D), ragged(), []
    kept[1] = 0  # not even the class token
    extra = torch.arange(B)

    def body(tokens, weights, number):
        assert weights is None and len(tokens) == len(number)
        seen.append((*tokens.shape[:2], number.tolist()))
        return tokens

    assert torch.equal(packed(body, x, kept, extra), x)
    counts = kept.sum(-1)
    assert [n for _, n, _ in seen] == sorted({int(n) for n in counts if n})
    for rows, n, numbers in seen:
        assert numbers == (counts == n).nonzero().squeeze(-1).tolist() and rows == len(numbers)
    seen.clear()
    weights = torch.zeros(B, T, requires_grad=True)
    y = packed(body, x, weights, extra)
    assert not seen and torch.equal(y, x)
    assert (torch.autograd.grad(y.sum(), weights)[0] == 0).all()
    assert packed(lambda x, kept: x, x[:0], kept[:0]).shape == (0, T, D)


def test_flops_are_those_of_the_kept_tokens():
    x, kept, body = torch.randn(B, T, D), ragged(), Transformer(D, H, 3)
    by_hand = 3 * sum(block_flops(int(n), D) for n in kept.sum(-1))
    with torch.no_grad():
        assert count_flops(packed, body, x, kept) == by_hand
        assert count_flops(masked, body, x, kept) == 3 * B * block_flops(T, D)


def test_the_selector_keeps_the_class_token_and_what_was_kept_before():
    selector = PatchSelector(D, lambda s: straight_through(gumbel_softmax(s)))
    x = torch.randn(B, T, D)
    kept, choice = selector(x)
    assert kept.shape == (B, T) and choice.logits.shape == (B, T - 1, 2) and choice.log_prob.shape == (B, T - 1)
    assert (kept[:, 0] == 1).all() and ((kept == 0) | (kept == 1)).all()
    torch.testing.assert_close(kept[:, 1:], choice.weights[..., 0])
    before = ragged()
    assert (selector(x, before)[0] <= before).all()
    with torch.no_grad():
        selector.gate.score.bias.fill_(-100)
    kept, _ = selector(x)
    assert torch.equal(kept, torch.eye(T)[0].expand(B, T))  # nothing but the class token: works
    body = Block(D, H)
    torch.testing.assert_close(packed(body, x, kept)[:, :1], body(x[:, :1]), rtol=0, atol=1e-5)
    assert selector(x[:, :1])[0].shape == (B, 1)


def test_a_gate_decides_by_choose_in_training_and_by_argmax_at_test():
    gate = Gate(D, 3, partial(gumbel_softmax, temperature=1.0))
    x = torch.randn(5, D)
    assert not torch.equal(gate(x)[0], gate(x)[0])
    gate.eval()
    kept, choice = gate(x)
    assert torch.equal(kept, (gate.score(x).sigmoid() > 0.5).float())
    assert torch.equal(choice.weights, argmax(choice.logits).weights)
    soft = Gate(D, 3, softmax, at_test=softmax).eval()
    torch.testing.assert_close(soft(x)[0], soft.score(x).sigmoid())


def test_usage_loss():
    kept = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]], requires_grad=True)
    loss = usage_loss(kept, 0.5)
    torch.testing.assert_close(loss, torch.tensor((3 / 8 - 0.5) ** 2))
    assert (torch.autograd.grad(loss, kept)[0] < 0).all()  # too little is used: every decision is pulled up
    assert usage_loss(torch.ones(3), 1.0) == 0


@pytest.mark.parametrize("target", [0, -0.1, 1.1, float("nan")])
def test_a_budget_outside_0_to_1_is_refused(target):
    with pytest.raises(ValueError, match="target must be more than 0 and at most 1, got"):
        usage_loss(torch.ones(3), target)


def test_what_does_not_fit_is_refused():
    x = torch.randn(B, T, D)
    for evaluate in (masked, packed):
        with pytest.raises(ValueError, match=r"kept must be \(B, T\) for x \(B, T, D\), got \(6, 8\) for \(6, 9, 16\)"):
            evaluate(Block(D, H), x, torch.ones(B, T - 1))
    with pytest.raises(ValueError, match=r"x must be \(B, T, D\) with at least one token, got \(9, 16\)"):
        PatchSelector(D, softmax)(x[0])
    with pytest.raises(ValueError, match="kept must hold at least one decision"):
        usage_loss(torch.ones(3, 0), 0.5)
    with pytest.raises(ValueError, match=r"kept must have one value per token, \(6, 9\), got \(6, 8\)"):
        SelfAttention(D, H)(x, torch.ones(B, T - 1))


def test_half_of_the_tokens_take_well_less_time():
    """Wide enough a network, one thread and a wide margin: the machine may be busy."""
    from lecture_lib.cost import wall_time

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        body, x = Transformer(256, 4, 2).eval(), torch.randn(256, 17, 256)
        kept = ragged(256, 17)
        with torch.no_grad():
            ratios = [wall_time(packed, body, x, kept) / wall_time(body, x) for _ in range(4)]
    finally:
        torch.set_num_threads(threads)
    assert min(ratios) < 0.9
