"""Sparsemax, entmax and their losses: the optimisation problem, its limits, the gradients, what is refused."""

import math
import re
from fractions import Fraction

import entmax as peer
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lecture_lib.simplex import (
    FIRST_LOOK,
    _threshold_by_root_finding,
    _threshold_by_sorting,
    as_integer,
    as_number,
    as_numbers,
    check_logits,
    check_mask,
    entmax,
    fenchel_young_loss,
    score,
    sparsemax,
)

TALK = torch.tensor([1.3, 0.2, 0.7])
ALPHAS = [1, 1.25, 1.5, 2, 3]
PEERS = {
    1: lambda s: s.softmax(-1),
    1.25: lambda s: peer.entmax_bisect(s, 1.25),
    1.5: peer.entmax15,
    2: peer.sparsemax,
    3: lambda s: peer.entmax_bisect(s, 3.0),
}
PEER_LOSSES = {
    1.25: lambda s, t: peer.entmax_bisect_loss(s, t, 1.25),
    1.5: peer.entmax15_loss,
    2: peer.sparsemax_loss,
    3: lambda s, t: peer.entmax_bisect_loss(s, t, 3.0),
}
every_alpha = pytest.mark.parametrize("alpha", ALPHAS)
sparse_alphas = pytest.mark.parametrize("alpha", ALPHAS[1:])


def normal(*shape, seed=0, dtype=torch.float64, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradient(value, at, direction=None, **options):
    return torch.autograd.grad(value, at, torch.ones_like(value) if direction is None else direction, **options)[0]


def dumb_entmax(logits, alpha):
    """Halve the bracket of τ in p = ((α-1) s - τ)_+^(1/(α-1)) two hundred times, in float64."""
    if alpha == 1:
        return logits.double().softmax(-1)
    x = (alpha - 1) * logits.double()
    low, high = x.amax(-1, keepdim=True) - 1, x.amax(-1, keepdim=True)
    for _ in range(200):
        tau = (low + high) / 2
        above = (x - tau).clamp(min=0).pow(1 / (alpha - 1)).sum(-1, keepdim=True) >= 1
        low, high = torch.where(above, tau, low), torch.where(above, high, tau)
    return (x - low).clamp(min=0).pow(1 / (alpha - 1))


def omega(p, alpha):
    """-H_α, as defined."""
    return torch.special.xlogy(p, p).sum(-1) if alpha == 1 else (p.pow(alpha).sum(-1) - 1) / (alpha * (alpha - 1))


# --- the map ---


@every_alpha
@pytest.mark.parametrize("shape", [(3,), (1,), (5, 4), (2, 3, 7), (0, 3), (4, 1), (2, 200)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_result_is_a_point_of_the_simplex(alpha, shape, dtype):
    logits = normal(*shape).to(dtype).requires_grad_()
    p = entmax(logits, alpha)
    assert p.shape == logits.shape and p.dtype == dtype and (p >= 0).all()
    tolerance = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(p.sum(-1), torch.ones(shape[:-1], dtype=dtype), atol=tolerance, rtol=0)
    assert gradient(p, logits).dtype == dtype


@every_alpha
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_float32_rounded_once(alpha, dtype):
    logits, target = normal(20, 50).to(dtype), torch.arange(20)
    if alpha > 1:
        assert torch.equal(entmax(logits, alpha), entmax(logits.float(), alpha).to(dtype))
    loss = fenchel_young_loss(logits, target, alpha)
    assert torch.equal(loss, fenchel_young_loss(logits.float(), target, alpha).to(dtype))


@pytest.mark.parametrize("alpha", [1.01, 1.25, 1.5, 1.75, 2, 2.5, 3, 5])
@pytest.mark.parametrize("k", [2, 10, 300])
def test_the_result_solves_the_optimisation_problem(alpha, k):
    """Karush-Kuhn-Tucker: s - ∇Ω(p) is one number μ on the support, and s is at most μ outside it."""
    s = normal(100, k, scale=2)
    p = entmax(s, alpha)
    multiplier = s - p.pow(alpha - 1) / (alpha - 1)
    mu = (multiplier * p).sum(-1, keepdim=True)
    torch.testing.assert_close(torch.where(p > 0, multiplier, mu), mu.expand_as(s), atol=1e-9, rtol=1e-9)
    assert (s[p == 0] <= mu.expand_as(s)[p == 0] + 1e-9).all()
    assert ((p * s).sum(-1) - omega(p, alpha) + 1e-12 >= s.amax(-1)).all()  # no corner does better


@every_alpha
@pytest.mark.parametrize("k", [1, 3, 40, 500])
@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
def test_the_peer_and_a_dumb_reference_agree_in_value_and_gradient(alpha, k, scale):
    s, direction = normal(64, k, scale=scale).requires_grad_(), normal(64, k, seed=1)
    ours, theirs = entmax(s, alpha), PEERS[alpha](s)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    torch.testing.assert_close(ours, dumb_entmax(s, alpha), atol=1e-9, rtol=0)
    torch.testing.assert_close(gradient(ours, s, direction), gradient(theirs, s, direction), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("alpha", [1.5, 2])
@pytest.mark.parametrize("scale", [0.0, 0.001, 0.1, 1.0])
def test_sorting_and_root_finding_find_the_same_threshold(alpha, scale):
    x = normal(50, 200, scale=scale)
    x = (x - x.amax(-1, keepdim=True)).clamp(min=-1)
    torch.testing.assert_close(
        _threshold_by_sorting(x, alpha), _threshold_by_root_finding(x, alpha), atol=1e-12, rtol=1e-10
    )


@pytest.mark.parametrize("alpha", [1.5, 1.75, 2, 3])
def test_supports_on_either_side_of_the_first_look(alpha):
    """Rows with 1, 31, 32, 33, 127, 128, 129 and all options in a tie at the top: in one batch, some need a second."""
    sizes = [1, FIRST_LOOK - 1, FIRST_LOOK, FIRST_LOOK + 1, 4 * FIRST_LOOK - 1, 4 * FIRST_LOOK, 4 * FIRST_LOOK + 1, 600]
    p = entmax(torch.stack([torch.where(torch.arange(600) < n, 0.0, -5.0) for n in sizes]), alpha)
    for row, n in zip(p, sizes, strict=True):
        torch.testing.assert_close(row[:n], torch.full((n,), 1 / n), atol=0, rtol=1e-5)
        assert (row[n:] == 0).all()


@pytest.mark.parametrize("function", [lambda s, dim: entmax(s, dim=dim), sparsemax], ids=["entmax", "sparsemax"])
@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2, -3])
def test_every_dimension_is_the_last_one_transposed(function, dim):
    s = normal(4, 50, 6)
    p = function(s, dim)
    assert torch.equal(p, function(s.movedim(dim, -1).contiguous(), -1).movedim(-1, dim))
    torch.testing.assert_close(p.sum(dim), torch.ones_like(p.sum(dim)))


def test_the_talks_example():
    torch.testing.assert_close(sparsemax(TALK), torch.tensor([0.8, 0.0, 0.2]))
    assert sparsemax(TALK)[1] == 0 and sparsemax(2 * TALK).tolist() == [1, 0, 0]
    assert torch.equal(sparsemax(TALK), entmax(TALK, 2)) and torch.equal(entmax(TALK), entmax(TALK, 1.5))
    assert torch.equal(entmax(TALK, 1), TALK.softmax(-1))


@every_alpha
def test_permuting_the_options_permutes_the_result_and_a_shift_changes_nothing(alpha):
    s, order = normal(50, 60), torch.randperm(60, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(entmax(s[:, order], alpha), entmax(s, alpha)[:, order])
    torch.testing.assert_close(entmax(s + 3, alpha), entmax(s, alpha))


@every_alpha
def test_a_forbidden_option_is_as_good_as_removed(alpha):
    s, direction = normal(20, 70).requires_grad_(), normal(20, 70, seed=1)
    allowed = torch.arange(70) % 3 > 0
    masked = s.masked_fill(~allowed, -torch.inf)
    p, removed = entmax(masked, alpha), entmax(s[:, allowed], alpha)
    torch.testing.assert_close(p[:, allowed], removed, atol=1e-14, rtol=1e-12)
    assert (p[:, ~allowed] == 0).all()
    got = gradient(p, masked, direction, retain_graph=True)
    expected = gradient(removed, s, direction[:, allowed])
    torch.testing.assert_close(got[:, allowed], expected[:, allowed], atol=1e-12, rtol=1e-10)
    assert (got[:, ~allowed] == 0).all()
    target = torch.ones(20, dtype=torch.int64)  # option 1 is allowed, and option 0 of those that are left
    loss, of_removed = fenchel_young_loss(masked, target, alpha), fenchel_young_loss(s[:, allowed], target - 1, alpha)
    torch.testing.assert_close(loss, of_removed, atol=1e-12, rtol=1e-12)
    assert (gradient(loss, masked)[:, ~allowed] == 0).all()


@every_alpha
def test_temperature_limits(alpha):
    s = normal(50, 40, dtype=torch.float32)
    assert torch.equal(entmax(1e6 * s, alpha), F.one_hot(s.argmax(-1), 40).float())
    torch.testing.assert_close(entmax(1e-7 * s, alpha), torch.full_like(s, 1 / 40), atol=1e-4, rtol=0)


def test_supports_shrink_as_alpha_grows():
    s = normal(200, 100)
    sizes = torch.stack([(entmax(s, alpha) > 0).sum(-1) for alpha in (1, 1.25, 1.5, 1.75, 2, 3, 5)])
    assert (sizes.diff(dim=0) <= 0).all() and (sizes[0] == 100).all() and sizes[-1].double().mean() < 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_alpha_close_to_1_is_softmax(dtype):
    s = normal(20, 1000, dtype=dtype, scale=3)
    torch.testing.assert_close(entmax(s, 1 + 1e-9), s.softmax(-1), atol=1e-6, rtol=1e-5)


@every_alpha
@pytest.mark.parametrize(
    "row",
    [[1e4, 1e4 - 5, 0.0], [1e30, 0.0, -1e30], [3e38, -3e38, 0.0], [-1e30, -3e38, -torch.inf], [0.0, -50.0, -torch.inf]],
)
def test_huge_logits_do_not_overflow(alpha, row):
    s = torch.tensor(row, requires_grad=True)
    p = entmax(s, alpha)
    torch.testing.assert_close(p, torch.tensor([1.0, 0.0, 0.0]), atol=7e-3 if alpha == 1 else 0, rtol=0)
    assert gradient(p, s, TALK).isfinite().all()
    assert fenchel_young_loss(s, torch.tensor(0), alpha) <= 7e-3


@sparse_alphas
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 5.0])
def test_float32_is_accurate_for_a_hundred_thousand_options(alpha, scale):
    s = normal(3, 100_000, dtype=torch.float32, scale=scale)
    p, exact = entmax(s, alpha), dumb_entmax(s, alpha)
    torch.testing.assert_close(p.double(), exact, atol=1e-6 if alpha < 3 else 1e-3, rtol=1e-3 if alpha == 3 else 1e-5)
    torch.testing.assert_close(p.sum(-1), torch.ones(3), atol=2e-6, rtol=0)


# --- alpha above 2 ---


def entmax_by_supports(row, alpha):
    """Every size of the support, the largest first; its smallest weight w by bisection of log w, in float64.

    p_j^a = w^a + a (s_j - s_m) with a = α-1: sums of what is not negative, so no digit is lost.
    """
    a, s = alpha - 1, sorted(row.double().tolist(), reverse=True)
    for n in range(len(s), 0, -1):
        c = [a * (s_j - s[n - 1]) for s_j in s[:n]]
        if sum(c_j ** (1 / a) for c_j in c) < 1:
            break

    def weights(log_w):
        logs = [(a * log_w, math.log(c_j) if c_j else -math.inf) for c_j in c]
        return [math.exp((max(pair) + math.log1p(math.exp(min(pair) - max(pair)))) / a) for pair in logs]

    low, high = -700.0, 0.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if sum(weights(middle)) > 1 else (middle, high)
    p = dict(zip(s[:n], weights(low), strict=True))
    return torch.tensor([p.get(s_j, 0.0) for s_j in row.double().tolist()], dtype=torch.float64)


LARGE = pytest.mark.parametrize("alpha", [2.001, 2.5, 3, 5, 10, 50, 1000.0, 1e6])


@LARGE
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e-3, 0.1])
def test_large_alphas_are_right(alpha, dtype, scale):
    s = normal(20, 8, dtype=dtype, scale=scale)
    s[:, 3] = s[:, 5]  # a tie
    p = entmax(s, alpha)
    wanted = torch.stack([entmax_by_supports(row, alpha) for row in s])
    torch.testing.assert_close(p.double(), wanted, atol=16 * torch.finfo(dtype).eps, rtol=0)
    assert torch.equal(p[:, 3], p[:, 5])


@LARGE
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [2, 5, FIRST_LOOK, 100])
def test_a_large_alpha_inverts_its_optimality_condition(alpha, dtype, k):
    """s = p^a / a on the support, up to a shift, gives p back; there J maps p^(α-2) · dp to dp, for Σ dp = 0."""
    p = (normal(20, k, scale=0.5) + 2).clamp(min=0.1)
    p /= p.sum(-1, keepdim=True)
    a, low = alpha - 1, p.amin(-1, keepdim=True)
    s = (((a * p.log()).exp() - (a * low.log()).exp()) / a).to(dtype).requires_grad_()
    got, eps = entmax(s, alpha), torch.finfo(dtype).eps
    inside = (s > torch.finfo(dtype).tiny).sum(-1) == k - 1  # where s does not underflow
    if alpha <= 10 and k <= FIRST_LOOK:
        assert inside.any()
    torch.testing.assert_close(got[inside].double(), p[inside], atol=16 * eps, rtol=0)
    dp = normal(20, k, seed=1)
    dp -= dp.mean(-1, keepdim=True)
    direction = dp * ((alpha - 2) * p.log()).exp()
    finite = (
        inside & (direction.abs().amin(-1) > torch.finfo(dtype).tiny) & (((2 - alpha) * low.log()).squeeze(-1) < 40)
    )
    slope = gradient(got, s, direction.to(dtype))
    torch.testing.assert_close(slope[finite].double(), dp[finite], atol=400 * alpha * eps * k, rtol=0)


@pytest.mark.parametrize("alpha", [3, 5, 10, 50])
def test_a_gradient_is_finite_where_a_weight_is_tiny(alpha):
    """The Jacobian of one tiny weight among large ones is theirs: its own p^(2-α) is beyond float32."""
    a, p = alpha - 1, torch.tensor([0.6, 0.4 - 1e-6, 1e-6], dtype=torch.float64)
    s = (p.pow(a) - p[2].pow(a)) / a
    fine, coarse = s.clone().requires_grad_(), s.float().requires_grad_()
    wanted, got = (gradient(entmax(x, alpha), x, TALK.to(x.dtype)) for x in (fine, coarse))
    w = p.pow(2 - alpha)[:2]
    direct = (w * (TALK[:2] - TALK[2])).double()  # to the first order in 1 / w_3: it pays for both
    torch.testing.assert_close(wanted, torch.cat([direct, -direct.sum(-1, keepdim=True)]), rtol=1e-3, atol=0)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-3, atol=0)


@LARGE
def test_the_loss_of_a_large_alpha_is_its_definition(alpha):
    for dtype in (torch.float64, torch.float32):
        s, classes = normal(20, 6, scale=min(1, 3 / alpha), dtype=dtype), torch.arange(20) % 6
        y = normal(20, 6, seed=1).softmax(-1)
        p = torch.stack([entmax_by_supports(row, alpha) for row in s])
        for target, q in ((classes, F.one_hot(classes, 6).double()), (y.to(dtype), y)):
            expected = ((p - q) * (s.double() - s.double().amax(-1, keepdim=True))).sum(-1)
            expected = expected - omega(p, alpha) + omega(q, alpha)
            loss = fenchel_young_loss(s, target, alpha)
            torch.testing.assert_close(loss.double(), expected, atol=32 * torch.finfo(dtype).eps, rtol=1e-5)


# --- its gradient ---


@pytest.mark.parametrize("alpha", [*ALPHAS, 1.75])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_gradients_of_first_and_second_order(alpha, dim):
    s = normal(5, 4, 6, scale=0.7).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: entmax(s, alpha, dim), s)
    assert torch.autograd.gradgradcheck(lambda s: entmax(s, alpha, dim), s, atol=1e-4)


@sparse_alphas
def test_no_gradient_reaches_an_option_without_weight(alpha):
    s = normal(100, 30, scale=2).requires_grad_()
    p = entmax(s, alpha)
    assert (p == 0).any()
    for column in range(30):
        assert (gradient(p[:, column], s, retain_graph=True)[p == 0] == 0).all()


# --- the loss ---


@every_alpha
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_the_loss_is_its_definition(alpha, scale):
    s, classes = normal(200, 20, scale=scale), torch.arange(200) % 20
    dense, sparse = normal(200, 20, seed=1).softmax(-1), sparsemax(normal(200, 20, seed=2))
    for target, y in [(classes, F.one_hot(classes, 20).double()), (dense, dense), (sparse, sparse)]:
        p = dumb_entmax(s, alpha)
        expected = (p * s).sum(-1) - omega(p, alpha) + omega(y, alpha) - (s * y).sum(-1)
        torch.testing.assert_close(fenchel_young_loss(s, target, alpha), expected, atol=1e-9, rtol=1e-9)


@every_alpha
def test_a_class_equals_its_one_hot_distribution_and_shapes_are_free(alpha):
    s, target = normal(2, 3, 50, scale=2), torch.arange(6).reshape(2, 3)
    loss = fenchel_young_loss(s, target, alpha)
    assert loss.shape == (2, 3)
    torch.testing.assert_close(loss, fenchel_young_loss(s, F.one_hot(target, 50).double(), alpha))
    torch.testing.assert_close(loss[1, 2], fenchel_young_loss(s[1, 2], target[1, 2], alpha))
    assert fenchel_young_loss(s[:0], target[:0], alpha).shape == (0, 3)


def test_alpha_1_is_cross_entropy():
    s, target = normal(100, 10, scale=10, dtype=torch.float32), torch.arange(100) % 10
    expected = F.cross_entropy(s, target, reduction="none")
    torch.testing.assert_close(fenchel_young_loss(s, target, 1), expected, atol=1e-6, rtol=1e-6)
    y = normal(100, 10, seed=1, dtype=torch.float32).softmax(-1)
    less_entropy = F.cross_entropy(s, y, reduction="none") + omega(y, 1)
    torch.testing.assert_close(fenchel_young_loss(s, y, 1), less_entropy, atol=1e-5, rtol=1e-5)
    far = torch.tensor([100.0, 0.0])  # softmax underflows here, its logarithm does not
    assert fenchel_young_loss(far, torch.tensor(1), 1) == 100


@sparse_alphas
def test_the_peers_losses_agree_in_value_and_gradient(alpha):
    s, target = normal(100, 60).requires_grad_(), torch.arange(100) % 60
    ours, theirs = fenchel_young_loss(s, target, alpha), PEER_LOSSES[alpha](s, target)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(gradient(ours, s), gradient(theirs, s), atol=1e-6, rtol=0)


@pytest.mark.parametrize("alpha", [1.001, 1.01, 1.05, 1.1])
def test_the_loss_is_continuous_where_weights_underflow(alpha):
    """Close to α = 1 a weight can be below every float32 while its option is still in the support."""
    margin = 1 / (alpha - 1)
    gaps = torch.linspace(0, 1.5 * margin, 500, dtype=torch.float64)
    s, target = torch.stack([gaps, torch.zeros_like(gaps)], -1), torch.ones(500, dtype=torch.int64)
    loss = fenchel_young_loss(s, target, alpha)
    torch.testing.assert_close(loss[gaps >= margin], gaps[gaps >= margin])  # linear once the prediction is a corner
    assert (loss.diff() > 0).all() and (loss.diff().diff() >= -1e-9).all()
    torch.testing.assert_close(fenchel_young_loss(s.float(), target, alpha).double(), loss, atol=1e-5, rtol=1e-5)


@every_alpha
@pytest.mark.parametrize("kind", ["class", "distribution"])
def test_gradient_of_the_loss_is_prediction_minus_target(alpha, kind):
    s, classes = normal(6, 5).requires_grad_(), torch.arange(6) % 5
    y = F.one_hot(classes, 5).double() if kind == "class" else normal(6, 5, seed=1).softmax(-1)
    target = classes if kind == "class" else y
    torch.testing.assert_close(
        gradient(fenchel_young_loss(s, target, alpha), s), entmax(s, alpha) - y, atol=1e-12, rtol=0
    )
    assert torch.autograd.gradcheck(lambda s: fenchel_young_loss(s, target, alpha), s)
    assert torch.autograd.gradgradcheck(lambda s: fenchel_young_loss(s, target, alpha), s, atol=1e-4)


@every_alpha
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loss_is_exactly_zero_when_the_prediction_is_the_target(alpha, dtype):
    s = normal(500, 20, dtype=dtype, scale=2)
    y = entmax(s, alpha)
    assert (fenchel_young_loss(s, y, alpha) == 0).all()
    nearly = (y * (1 + torch.finfo(dtype).eps)).clamp(max=1)
    loss = fenchel_young_loss(s, nearly, alpha)
    assert (loss >= 0).all() and (loss <= 100 * torch.finfo(dtype).eps ** 2).all()


@sparse_alphas
def test_the_loss_is_exactly_zero_from_the_margin_on_and_positive_before(alpha):
    margin = 1 / (alpha - 1)
    s = torch.tensor(
        [[0.0, -margin, -margin], [0.0, -2 * margin, -torch.inf], [5e3, 0.0, 1e3], [0.0, -0.99 * margin, -9]]
    )
    loss = fenchel_young_loss(s, torch.zeros(4, dtype=torch.int64), alpha)
    assert (loss[:3] == 0).all() and loss[3] > 0


@every_alpha
def test_the_loss_is_never_negative(alpha):
    for seed, scale in enumerate([1e-6, 1e-3, 0.1, 1, 10, 1e3, 1e6]):
        s = normal(2000, 8, seed=seed, scale=scale, dtype=torch.float32)
        y = entmax(s + normal(2000, 8, seed=seed + 50, scale=1e-3, dtype=torch.float32), alpha)
        for target in (y, torch.arange(2000) % 8, normal(2000, 8, seed=99, dtype=torch.float32).softmax(-1)):
            loss = fenchel_young_loss(s, target, alpha)
            assert (loss >= 0).all() and loss.isfinite().all()


@every_alpha
def test_the_loss_is_convex_along_a_line(alpha):
    start, end, target = normal(1, 50, 10, scale=3), normal(1, 50, 10, seed=1, scale=3), torch.arange(50) % 10
    t = torch.linspace(0, 1, 41, dtype=torch.float64).reshape(-1, 1, 1)
    loss = fenchel_young_loss((1 - t) * start + t * end, target.expand(41, 50), alpha)
    assert (loss.diff(dim=0).diff(dim=0) >= -1e-10).all()


@every_alpha
def test_a_forbidden_target_costs_infinity(alpha):
    s = torch.tensor([[0.0, -torch.inf, 1.0]])
    assert fenchel_young_loss(s, torch.tensor([1]), alpha).item() == torch.inf
    assert fenchel_young_loss(s, torch.tensor([[0.5, 0.5, 0.0]]), alpha).item() == torch.inf
    assert F.cross_entropy(s, torch.tensor([1])).item() == torch.inf  # torch's convention


# --- what is refused ---


@pytest.mark.parametrize("alpha", [0.99, 0, -1.0, torch.nan, torch.inf, "1.5", None, True, torch.ones(2)])
def test_alpha_is_checked(alpha):
    for call in (lambda: entmax(TALK, alpha), lambda: fenchel_young_loss(TALK, torch.tensor(0), alpha)):
        with pytest.raises(ValueError, match=r"alpha must be a finite number >= 1 .*, got "):
            call()


@pytest.mark.parametrize("alpha", [np.float32(1.5), torch.tensor(1.5), Fraction(3, 2)])
def test_every_number_is_an_alpha(alpha):
    assert torch.equal(entmax(TALK, alpha), entmax(TALK, 1.5))


bad_logits = pytest.mark.parametrize(
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


@pytest.mark.parametrize(
    "function", [entmax, sparsemax, lambda s: fenchel_young_loss(s, torch.tensor(0)), check_logits]
)
@bad_logits
def test_logits_are_checked(function, logits, error, found):
    with pytest.raises(error, match=f"logits must .*{found}"):
        function(logits)


def test_logits_are_checked_along_their_dimension():
    column = torch.tensor([[0.0, -torch.inf], [1.0, -torch.inf]])
    check_logits(column)
    with pytest.raises(ValueError, match="row of only -inf"):
        sparsemax(column, dim=0)
    for dim in (2, -3):
        with pytest.raises(ValueError, match=f"dim must be from -2 to 1 for these logits, got {dim}"):
            entmax(column, dim=dim)


@pytest.mark.parametrize(
    ("target", "error", "found"),
    [
        (torch.tensor([0, 3]), ValueError, "class indices from 0 to 2, got 3"),
        (torch.tensor([0, -1]), ValueError, "class indices from 0 to 2, got -1"),
        (torch.tensor([0]), ValueError, r"shape \(2,\) as class indices for logits \(2, 3\), got \(1,\)"),
        (torch.zeros(2, 3, dtype=torch.int64), ValueError, r"shape \(2,\) as class indices"),
        (torch.zeros(2), ValueError, r"shape \(2, 3\) as distributions for logits \(2, 3\), got \(2,\)"),
        (torch.tensor([0, 1], dtype=torch.int32), TypeError, "got a tensor of torch.int32"),
        (torch.tensor([True, False]), TypeError, "got a tensor of torch.bool"),
        ([0, 1], TypeError, "got list"),
        (torch.tensor([[0.5, 0.5, 0.0], [1.2, -0.2, 0.0]]), ValueError, "negative entries or NaN, got -0.2"),
        (torch.tensor([[0.5, 0.5, 0.0], [torch.nan, 0.5, 0.5]]), ValueError, "negative entries or NaN, got nan"),
        (torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.4, 0.0]]), ValueError, "sum to 1, got a sum of 0.9"),
        (torch.tensor([[0.5, 0.5, 0.0], [torch.inf, 0.4, 0.0]]), ValueError, "sum to 1, got a sum of inf"),
    ],
)
def test_targets_are_checked(target, error, found):
    with pytest.raises(error, match=f"target must .*{found}"):
        fenchel_young_loss(torch.zeros(2, 3), target)


@pytest.mark.parametrize("kind", [float, np.float32, np.float64, np.float16, torch.tensor, int, np.int64, Fraction])
def test_numbers_are_numbers(kind):
    assert as_number("share", kind(2), "above 1", lambda x: x > 1) == 2.0


@pytest.mark.parametrize("value", [True, np.True_, torch.tensor(True), "2", None, math.nan, 0.5, torch.ones(1), 1j])
def test_what_is_no_number_is_refused_by_name(value):
    with pytest.raises(ValueError, match=f"^share must be above 1, got {re.escape(repr(value))}$"):
        as_number("share", value, "above 1", lambda x: x > 1)


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, torch.tensor])
def test_integers_are_integers(kind):
    k = as_integer("k", kind(2), "an integer from 1 to 3", 1, 3)
    assert k == 2 and type(k) is int


@pytest.mark.parametrize("value", [True, np.True_, torch.tensor(True), "2", None, 2.0, 0, 4, torch.tensor(2.0), [2]])
def test_what_is_no_integer_is_refused_by_name(value):
    with pytest.raises(ValueError, match=f"^k must be an integer from 1 to 3, got {re.escape(repr(value))}$"):
        as_integer("k", value, "an integer from 1 to 3", 1, 3)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_a_score_is_made_in_float32_whatever_the_network_computes_in(half):
    scorer, x = torch.nn.Linear(8, 3).to(half), torch.randn(5, 8).to(half)
    weight = scorer.weight.detach().float().requires_grad_()
    wanted = F.linear(x.float(), weight, scorer.bias.float())
    with torch.autocast("cpu", half):
        made = score(scorer, x)
    assert made.dtype == torch.float32 and torch.equal(made, wanted)
    made.square().sum().backward(), wanted.square().sum().backward()
    assert torch.equal(scorer.weight.grad, weight.grad.to(half))
    assert score(lambda x: 2 * x, x).dtype == torch.float32
    assert score(torch.nn.Identity(), x.double()).dtype == torch.float64


@pytest.mark.parametrize("mask", [torch.ones(3), torch.ones(4, dtype=torch.bool), [True] * 3, None])
def test_a_mask_is_a_boolean_for_each(mask):
    check_mask(torch.ones(3, dtype=torch.bool), torch.Size([3]))
    with pytest.raises(ValueError, match=r"mask must be \(3,\) of torch.bool, True for what counts, got"):
        check_mask(mask, torch.Size([3]))


def test_several_numbers_are_read_one_by_one():
    above_0 = {"allowed": "numbers above 0", "holds": lambda x: x > 0}
    for values in ([1, 2.5], (np.float32(1), torch.tensor(2.5)), np.array([1, 2.5]), torch.tensor([1, 2.5])):
        assert as_numbers("shares", values, 2, **above_0) == [1, 2.5]
    for values in ([1], [1, 2, 3], [1, 0], [1, True], [1, "2"], 1, None):
        with pytest.raises(ValueError, match=r"^shares must be 2 numbers above 0, got "):
            as_numbers("shares", values, 2, **above_0)
