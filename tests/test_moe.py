"""Experts: the layer against a dumb loop, choices and losses against hand-made numbers and brute force."""

import copy
import itertools
import math
import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.checkpoint import checkpoint
from ways import WAYS

from lecture_lib.choice import Choice, argmax, gumbel_softmax, noisy_top_k, sample, softmax, top_k
from lecture_lib.cost import count_flops
from lecture_lib.mixture import mix
from lecture_lib.moe import (
    BalanceBias,
    CosineRouter,
    Experts,
    MoE,
    NoisyRouter,
    SoftMoE,
    balanced,
    base,
    collapse,
    equal_load,
    expert_choice,
    expert_load,
    global_entropy,
    gshard,
    hashed,
    importance_loss,
    load_balance_loss,
    local_entropy,
    noisy_load,
    representation_collapse,
    router_z_loss,
    sequence_balance_loss,
    sinkhorn,
    squared_cv,
    switch,
    upcycle,
    within_capacity,
    within_groups,
)

D, H, E = 8, 12, 5
STYLES = {
    "plain": {},
    "biases": {"bias": True, "activation": nn.ReLU()},
    "SwiGLU": {"gated": True, "activation": F.silu},
    "SwiGLU, biases, shared": {"gated": True, "activation": F.silu, "bias": True, "n_shared": 2},
}
CHOICES = {name: way.seeded() for name, way in WAYS.items()}
CHOICES |= {"switch, 3": partial(switch, k=3), "expert_choice, 2": partial(expert_choice, capacity_factor=2.0)}


def choice_of(weights, logits=None):
    weights = torch.as_tensor(weights)
    logits = weights.log() if logits is None else logits
    return Choice(logits, weights, weights.new_zeros(weights.shape[:-1]))


def feed_forward(x, experts, e):
    """Expert e on one token, from its parameters."""
    hidden = x @ experts.w_in[e] + (0 if experts.b_in is None else experts.b_in[e])
    if experts.gated:
        width = hidden.shape[-1] // 2
        hidden = experts.activation(hidden[:width]) * hidden[width:]
    else:
        hidden = experts.activation(hidden)
    return hidden @ experts.w_out[e] + (0 if experts.b_out is None else experts.b_out[e])


def by_loop(x, weights, moe):
    """The dumb reference: one token, one expert at a time."""
    rows, z = x.reshape(-1, x.shape[-1]), weights.reshape(-1, weights.shape[-1])
    out = []
    for n in range(len(rows)):
        y = torch.zeros_like(rows[n])
        for e in range(z.shape[-1]):
            if z[n, e] > 0:
                y = y + z[n, e] * feed_forward(rows[n], moe.experts, e)
        if moe.shared is not None:
            y = y + feed_forward(rows[n], moe.shared, 0)
        out.append(y)
    return torch.stack(out).reshape(x.shape) if out else x * 1


def compare(moe, x, rtol=1e-5, atol=1e-6):
    """Outputs and gradients of input and of every parameter, of the layer and of the loop."""
    x = x.requires_grad_()
    parameters = [x, *moe.parameters()]
    results = []
    for run in ("layer", "loop"):
        if run == "layer":
            y, _ = moe(x)
        else:
            weights = moe.choose(moe.router(x)).weights
            if moe.capacity_factor is not None:
                choice = moe.choose(moe.router(x))
                weights = within_capacity(choice, moe.capacity_factor, batch_priority=moe.batch_priority).weights
            y = by_loop(x, weights, moe)
        target = torch.sin(torch.arange(y.numel(), dtype=y.dtype)).reshape(y.shape)
        gradients = torch.autograd.grad(((y - target) ** 2).sum(), parameters, materialize_grads=True)
        results.append((y, gradients))
    torch.testing.assert_close(results[0], results[1], rtol=rtol, atol=atol)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", CHOICES)
def test_the_layer_equals_a_loop_over_tokens_and_experts(name, style):
    torch.manual_seed(0)
    moe = MoE(D, H, E, CHOICES[name], **STYLES[style]).double()
    compare(moe, torch.randn(2, 7, D, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(D,), (1, D), (3, 1, D), (0, D), (2, 0, D)])
@pytest.mark.parametrize("width", [H, 7])  # 7 is no multiple of what torch's grouped product takes
def test_any_leading_shape_a_single_token_and_none(shape, dtype, width):
    torch.manual_seed(0)
    moe = MoE(D, width, E, partial(top_k, k=2), bias=True, n_shared=1).to(dtype)
    compare(moe, torch.randn(shape, dtype=dtype), rtol=1e-4, atol=1e-5)
    assert moe(torch.randn(shape, dtype=dtype))[0].shape == shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch_priority", [False, True])
def test_empty_and_full_experts(batch_priority, dtype):
    """One expert is wanted by all, most by nobody: with and without a capacity that drops most tokens."""
    torch.manual_seed(0)
    for capacity_factor in (None, 1.0):
        moe = MoE(D, H, E, switch, capacity_factor, batch_priority=batch_priority).to(dtype)
        with torch.no_grad():
            moe.router.weight.zero_()[3] = 1
        x = torch.rand(10, D, dtype=dtype)
        y, choice = moe(x)
        assert expert_load(choice).tolist() == [0, 0, 0, 1, 0]
        assert (y.abs().sum(-1) > 0).sum() == (10 if capacity_factor is None else 2)
        compare(moe, x, rtol=1e-4, atol=1e-5)


def test_experts_are_a_sequence_of_functions():
    torch.manual_seed(0)
    moe = MoE(D, H, E, softmax, bias=True)
    x = torch.randn(2, 3, D)
    y, choice = moe(x)
    torch.testing.assert_close(mix(x, choice.weights, moe.experts), y)
    assert len(list(moe.experts)) == len(moe.experts) == E


def test_a_choice_may_come_from_outside():
    torch.manual_seed(0)
    moe = MoE(D, H, E, switch)
    x, ids = torch.randn(6, D), torch.tensor([1, 2, 3, 1, 2, 3])
    y, choice = moe(x, hashed(ids, E))
    torch.testing.assert_close(y, by_loop(x, choice.weights, moe))


def test_counted_flops_are_those_of_the_active_experts():
    """8 experts cost what one costs, and so do 64, but for the router; forward and backward, aligned or not."""
    n, d, h = 32, 16, 24
    for n_experts, width, k in itertools.product((8, 64), (h, 7), (1, 2)):
        moe = MoE(d, width, n_experts, partial(switch, k=k))
        x = torch.randn(n, d)
        router, active = 2 * n * d * n_experts, 2 * k * n * d * width * 2
        assert count_flops(moe, x) == router + active
        training = count_flops(lambda x, moe=moe: moe(x)[0].square().sum().backward(), x)
        assert training == 2 * router + 2.5 * active  # each product three times, but for the gradient of x
    dense = nn.Sequential(nn.Linear(d, h), nn.GELU(), nn.Linear(h, d))
    assert count_flops(MoE(d, h, 64, switch).experts[5], x) == count_flops(dense, x)
    dropping = MoE(d, h, 4, switch, capacity_factor=0.5)
    with torch.no_grad():
        dropping.router.weight.zero_()
    assert count_flops(dropping, x) == 2 * n * d * 4 + 2 * (n // 8) * d * h * 2  # 4 of 32 tokens fit


# Capacity


def test_first_choices_queue_before_second_ones():
    z = torch.tensor([[0.7, 0.3, 0], [0.4, 0.6, 0], [0.9, 0.1, 0], [0, 0.2, 0.8]])
    kept = within_capacity(choice_of(z), 0.75).weights  # 8 pairs, 3 experts: 2 places each
    # expert 0: first choices of tokens 0 and 2. expert 1: token 1's first choice, then the first second one, token 0's
    assert torch.equal(kept, torch.tensor([[0.7, 0.3, 0], [0, 0.6, 0], [0.9, 0, 0], [0, 0, 0.8]]))


def test_by_priority_the_surest_tokens_queue_first():
    choice = switch(torch.tensor([[0.1, 0.0], [4.0, 0.0], [0.2, 0.0], [0.3, 0.0]]))
    assert (within_capacity(choice, 1.0).weights[:, 0] > 0).tolist() == [True, True, False, False]
    by_priority = within_capacity(choice, 1.0, batch_priority=True).weights
    assert (by_priority[:, 0] > 0).tolist() == [False, True, False, True]


@pytest.mark.parametrize("batch_priority", [False, True])
def test_capacity_equals_a_loop_that_fills_the_experts(batch_priority):
    torch.manual_seed(0)
    for k, factor in itertools.product((1, 2, 3), (0.3, 1.0, 1.5)):
        choice = switch(torch.randn(3, 11, E) * 2, k)
        z = choice.weights.reshape(-1, E)
        order = range(len(z))
        if batch_priority:
            order = sorted(order, key=lambda t: -z[t].max().item())
        room = [math.ceil(factor * len(z) * k / E)] * E
        kept = torch.zeros_like(z)
        for rank in range(k):
            for t in order:
                e = z[t].argsort(descending=True)[rank].item()
                if room[e]:
                    room[e] -= 1
                    kept[t, e] = z[t, e]
        assert torch.equal(within_capacity(choice, factor, batch_priority=batch_priority).weights.reshape(-1, E), kept)


def test_enough_capacity_changes_nothing_and_gradients_pass():
    logits = torch.randn(20, E, requires_grad=True)
    choice = switch(logits, 2)
    assert torch.equal(within_capacity(choice, E).weights, choice.weights)
    within_capacity(choice, 0.5).weights.sum().backward()
    assert (logits.grad.abs().sum(-1) > 0).any() and logits.grad.isfinite().all()


def test_capacity_is_not_fooled_by_rounding():
    z = torch.zeros(10, 1).fill_(1.0).expand(10, 1)
    assert (within_capacity(choice_of(z), 0.7).weights > 0).sum() == 7
    z = F.one_hot(torch.zeros(100, dtype=torch.long), 100).float()
    assert (within_capacity(choice_of(z), 7.0).weights > 0).sum() == 7


@pytest.mark.parametrize("n", [4, 64, 300])
def test_equal_scores_go_to_the_first_experts_and_the_first_tokens(n):
    """Of all sizes: torch.topk takes any of equal ones, and another in large rows than in small ones."""
    logits = torch.zeros(n, n)
    for way in (switch, partial(switch, k=3), BalanceBias(n), BalanceBias(n, k=3)):
        chosen = way(logits).weights > 0
        assert torch.equal(chosen, torch.arange(n).expand(n, n) < chosen.sum(-1, keepdim=True))
    chosen = expert_choice(torch.zeros(3 * n, n)).weights > 0
    assert chosen[:3].all() and not chosen[3:].any()
    z = torch.zeros(n, n)
    z[:, -3:] = 1 / 3  # each of the three is somebody's first choice as much as their third
    kept = within_capacity(choice_of(z), 1.0).weights > 0  # 3 places each: those of the first choices go first
    assert kept[:3, -3:].all() and not kept[3:].any()


# Choices


def test_switch_keeps_the_probability_and_so_the_gradient():
    logits = torch.tensor([[1.3, 0.2, 0.7]], requires_grad=True)
    z = switch(logits).weights
    assert z.tolist()[0] == pytest.approx([logits.softmax(-1)[0, 0].item(), 0, 0])
    z.sum().backward()
    assert logits.grad.abs().sum() > 0.1
    two = switch(logits, 2).weights
    torch.testing.assert_close(two[0, [0, 2]], logits.softmax(-1)[0, [0, 2]])


def test_gshard_runs_the_second_with_twice_its_weight():
    logits = torch.tensor([2.0, 0.0, 0.7, -1.0]).expand(40_000, 4)
    z = gshard(logits, generator=torch.Generator().manual_seed(0)).weights
    g = torch.tensor([2.0, 0.7]).softmax(-1)
    assert (z[:, 0] == g[0]).all() and (z[:, [1, 3]] == 0).all()
    assert (z[:, 2] > 0).float().mean().item() == pytest.approx(2 * g[1].item(), abs=0.01)
    assert z[z[:, 2] > 0, 2].unique() == g[1]
    close = torch.tensor([1.0, 0.9, -5.0]).expand(1000, 3)
    assert ((gshard(close).weights > 0).sum(-1) == 2).float().mean() > 0.9  # 2 g_2 is almost 1


def test_expert_choice_gives_each_expert_its_best_tokens():
    torch.manual_seed(0)
    logits = torch.randn(2, 10, 4)
    choice = expert_choice(logits, 1.2)  # ⌈20 · 1.2 / 4⌉ = 6 tokens for each
    z, p = choice.weights.reshape(-1, 4), logits.softmax(-1).reshape(-1, 4)
    assert (z > 0).sum(0).tolist() == [6, 6, 6, 6]
    for e in range(4):
        assert set(z[:, e].nonzero()[:, 0].tolist()) == set(p[:, e].argsort(descending=True)[:6].tolist())
    torch.testing.assert_close(z[z > 0], p[z > 0])
    assert (expert_choice(logits, 100.0).weights > 0).all()


def test_sinkhorn_solves_the_balanced_problem():
    """Marginals hold, and log P - s is a row term plus a column term: the condition of optimality."""
    torch.manual_seed(0)
    logits = torch.randn(12, 4, dtype=torch.float64) * 2
    plan = sinkhorn(logits)
    torch.testing.assert_close(plan.sum(-1), torch.ones(12, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(0), torch.full((4,), 3.0, dtype=torch.float64))
    rest = plan.log() - logits
    rest = rest - rest.mean(0) - rest.mean(1, keepdim=True) + rest.mean()
    assert rest.abs().max() < 1e-9
    torch.testing.assert_close(sinkhorn(logits.reshape(3, 4, 4)), plan.reshape(3, 4, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_sinkhorn_of_the_largest_scores_is_a_plan(dtype):
    """Their differences are more than the dtype holds. The first token wants expert 0, the second has no wish."""
    big = torch.finfo(dtype).max
    plan = sinkhorn(torch.tensor([[big, big / 2], [-big, -big]], dtype=dtype))
    torch.testing.assert_close(plan, torch.eye(2, dtype=dtype), atol=0.01, rtol=0)


def test_base_is_the_best_of_all_balanced_assignments():
    torch.manual_seed(0)
    for n in (6, 5):
        logits = torch.randn(n, 3, dtype=torch.float64)
        choice = base(logits)
        assert (choice.weights > 0).sum(0).max() <= 2 and ((choice.weights > 0).sum(-1) == 1).all()
        best = max(
            sum(logits[t, e].item() for t, e in enumerate(experts))
            for experts in itertools.product(range(3), repeat=n)
            if max(experts.count(e) for e in range(3)) <= 2
        )
        chosen = choice.weights.argmax(-1, keepdim=True)
        assert logits.gather(-1, chosen).sum().item() == pytest.approx(best)
        torch.testing.assert_close(choice.weights.gather(-1, chosen), logits.gather(-1, chosen).sigmoid())


def test_balanced_choices_balance_what_argmax_does_not():
    torch.manual_seed(0)
    logits = torch.randn(512, 8) + torch.tensor([3.0, 0, 0, 0, 0, 0, 0, 0])
    assert collapse(argmax(logits)).max_over_mean > 5
    assert collapse(balanced(logits)).max_over_mean < 1.6
    assert collapse(base(logits)).max_over_mean == collapse(expert_choice(logits)).max_over_mean == 1


def test_hashing_is_fixed_and_even():
    ids = torch.arange(256, dtype=torch.uint8)
    choice = hashed(ids, 8)
    assert torch.equal(choice.weights, hashed(ids.long().reshape(16, 16), 8).weights.reshape(256, 8))
    assert collapse(choice).max_over_mean < 1.5 and (choice.weights.sum(-1) == 1).all()


@pytest.mark.parametrize("cast", [lambda m: m.bfloat16(), lambda m: m.half(), lambda m: m.to("cpu", torch.bfloat16)])
def test_a_bias_stays_in_float32_through_casts_and_files(cast, tmp_path):
    layer = MoE(D, 16, E, BalanceBias(E, rate=1e-3))
    layer.choose.bias.copy_(1 + 1e-5 * torch.arange(E))
    wanted = layer.choose.bias.clone()
    layer = cast(layer)
    save_file(layer.state_dict(), tmp_path / "layer.safetensors")
    other = cast(MoE(D, 16, E, BalanceBias(E)))
    other.load_state_dict(load_file(tmp_path / "layer.safetensors"))
    for copied in (layer, other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert copied.choose.bias.dtype == torch.float32 and torch.equal(copied.choose.bias, wanted)
    assert torch.equal(other.choose.bias, wanted) and layer.experts.w_in.dtype != torch.float32
    x = torch.randn(6, D).to(layer.experts.w_in.dtype)
    layer.choose.update(layer(x)[1])
    assert ((layer.choose.bias - wanted).abs() - 1e-3).abs().max() < 1e-6


def test_balance_in_half_precision_is_that_in_float32():
    scores = torch.randn(500, 8).bfloat16() + torch.tensor([6.0, 5, 0, 0, 0, 0, 0, 0]).bfloat16()
    biases = [BalanceBias(8, k=2, rate=1e-3).bfloat16() for _ in range(2)]
    for _ in range(1000):
        for bias, s in zip(biases, (scores, scores.float()), strict=True):
            bias.update(bias(s))
    assert torch.equal(biases[0].bias, biases[1].bias) and collapse(biases[0](scores)).max_over_mean < 1.5


def test_bias_balances_without_moving_the_weights():
    torch.manual_seed(0)
    logits = torch.randn(2000, 4) + torch.tensor([2.0, 0.0, 0.0, 0.0])
    choose = BalanceBias(4, rate=0.02)
    before = collapse(choose(logits)).max_over_mean
    for _ in range(100):
        choose.update(choose(logits))
    choice = choose(logits)
    assert before > 2.5 and collapse(choice).max_over_mean < 1.2
    chosen = choice.weights > 0
    torch.testing.assert_close(choice.weights[chosen], logits.softmax(-1)[chosen])  # p alone, whatever the bias
    assert choose.bias[0] < 0 < choose.bias[1:].min()
    assert "bias" in choose.state_dict()


def test_a_bias_at_the_mean_stays():
    choose = BalanceBias(3, rate=0.1)  # in float32, the mean of 3/9, 5/9 and 1/9 is more than 3/9
    choose.update(choice_of(torch.eye(3)[[0] * 3 + [1] * 5 + [2]]))
    assert choose.bias.tolist() == pytest.approx([0, -0.1, 0.1])


def test_one_bias_step_by_hand():
    choose = BalanceBias(3, rate=0.1)
    choose.update(choice_of([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]]))  # loads 2/3, 1/3, 0: above, at, below the mean
    assert choose.bias.tolist() == pytest.approx([-0.1, 0.0, 0.1], abs=1e-6)


def test_sigmoid_scores_shared_out_are_a_softmax_of_their_logarithms():
    torch.manual_seed(0)
    logits = torch.randn(50, E, dtype=torch.float64)
    z = BalanceBias(E, 3, score=torch.sigmoid, normalise=True, scale=2.5)(logits).weights
    torch.testing.assert_close(z, 2.5 * top_k(F.logsigmoid(logits), 3).weights)
    moe = pickle.loads(pickle.dumps(MoE(D, H, E, BalanceBias(E, score=torch.sigmoid)).eval()))
    assert set(moe.state_dict()) == {"choose.bias", "experts.w_in", "experts.w_out", "router.weight"}
    for far in (-200.0, 200.0):  # sigmoids of 0 and 1: finite, forwards and backwards
        s = torch.full((2, E), far, requires_grad=True)
        choose = BalanceBias(E, 2, score=torch.sigmoid, normalise=True)
        choose.bias[3] = 0.1
        (gradient,) = torch.autograd.grad(choose(s).weights[:, 3].sum(), s)
        assert gradient.isfinite().all() and (choose(s).weights[:, 3] == (far > 0) / 2).all()


def test_groups_are_chosen_first():
    """Group means of the two best: 2.5, 3, 1; the best expert of all is in the last group."""
    scores = torch.tensor([[2.0, 3, 0, 3, 3, 0, 4, -2, -3]])
    two = within_groups(scores, 3, 2)
    assert two.tolist() == [[2, 3, 0, 3, 3, 0, *[-math.inf] * 3]]
    assert (top_k(two, 2).weights > 0).nonzero()[:, 1].tolist() == [1, 3]
    assert (within_groups(scores, 3, 1, best=1) > -math.inf).nonzero()[:, 1].tolist() == [6, 7, 8]
    forbidden = scores.masked_fill(scores == 3, -math.inf)  # then 2 + 0, 0 alone, 4 - 2
    assert (within_groups(forbidden, 3, 2) > -math.inf).nonzero()[:, 1].tolist() == [0, 2, 6, 7, 8]
    limit = partial(within_groups, n_groups=3, k_groups=1)
    few = BalanceBias(9, 5, score=torch.sigmoid, limit=limit)(scores)  # one group has three
    assert (few.weights > 0).nonzero()[:, 1].tolist() == [3, 4, 5] and few.logits is scores
    with pytest.raises(ValueError, match="n_groups must be a divisor of the number of experts, 9, got 2"):
        within_groups(scores, 2, 1)


def test_forced_loads_are_equal_and_have_the_gradient_of_switch():
    logits = torch.tensor([100.0, 0, 0, 0, -100]).repeat(2, 5, 1).requires_grad_()
    choice = equal_load(logits, 3)
    assert (choice.weights > 0).sum((0, 1)).tolist() == [6] * 5
    assert (choice.weights[0, :2] > 0).tolist() == [[True, True, True, False, False], [True, False, False, True, True]]
    assert collapse(switch(logits)).max_over_mean == 5 and collapse(choice).max_over_mean == 1
    mild = torch.randn(4, E, requires_grad=True)
    (gradient,) = torch.autograd.grad(equal_load(mild).weights.sum(), mild)
    (wanted,) = torch.autograd.grad(mild.softmax(-1).diagonal().sum(), mild)
    torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("name", CHOICES)
def test_no_token_gets_an_empty_choice(name):
    choice = CHOICES[name](torch.zeros(0, E))
    assert choice.weights.shape == (0, E) and choice.log_prob.shape == (0,)
    assert within_capacity(choice, 1.0).weights.shape == (0, E)


@pytest.mark.parametrize("name", CHOICES)
def test_forbidden_experts_are_never_chosen(name):
    torch.manual_seed(0)
    logits = torch.randn(20, E)
    logits[::2, 2] = -torch.inf
    choice = CHOICES[name](logits)
    assert (choice.weights[::2, 2] == 0).all() and choice.weights.isfinite().all()
    assert choice.log_prob.shape == (20,)


# Routers


def test_noisy_router_adds_noise_in_training_only():
    router = NoisyRouter(D, E, generator=torch.Generator().manual_seed(0))
    x = torch.randn(5000, D)
    noisy = router(x)
    assert noisy.std().item() == pytest.approx(math.log(2), abs=0.02)  # softplus(0): it starts with noise alone
    router.eval()
    assert (router(x) == 0).all()
    moe = MoE(D, H, E, partial(top_k, k=2), router=router.train())
    assert collapse(moe(x)[1]).max_over_mean < 1.1
    again = NoisyRouter(D, E, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(x), noisy)


def test_cosine_router_sees_directions_only():
    torch.manual_seed(0)
    router = CosineRouter(D, 6)
    x = torch.randn(4, D)
    torch.testing.assert_close(router(7 * x), router(x))
    assert router(x).abs().max() <= 1 / 0.3 + 1e-5
    w, e = router.project(x), router.embedding
    cosine = torch.stack([torch.stack([w[t] @ e[i] / w[t].norm() / e[i].norm() for i in range(6)]) for t in range(4)])
    torch.testing.assert_close(router(x), cosine / 0.3)
    with torch.no_grad():
        router.log_temperature.add_(1)
    choice = softmax(router(x))
    torch.testing.assert_close(router.at_start_temperature(choice).logits, cosine / 0.3)


# Evaluation mode, copies


NOISY = {
    "noisy_top_k": partial(noisy_top_k, k=2),
    "gumbel_softmax": gumbel_softmax,
    "sample": sample,
    "gshard": gshard,
    "gshard, own generator": partial(gshard, generator=torch.Generator()),
}


@pytest.mark.parametrize("name", NOISY)
def test_evaluation_draws_no_noise_and_training_does(name):
    moe, x = MoE(D, H, E, NOISY[name]), torch.randn(50, D)
    assert not torch.equal(moe(x)[0], moe(x)[0])
    state = torch.get_rng_state()
    assert torch.equal(moe.eval()(x)[0], moe(x)[0]) and torch.equal(torch.get_rng_state(), state)


def test_evaluation_chooses_as_told():
    x, bias = torch.randn(6, D), BalanceBias(E)
    moe = MoE(D, H, E, lambda s: gumbel_softmax(s), at_test=partial(top_k, k=1))
    assert (moe(x)[1].weights > 0).all() and ((moe.eval()(x)[1].weights > 0).sum(-1) == 1).all()
    assert ((MoE(D, H, E, gshard).eval()(x)[1].weights > 0).sum(-1) == 2).all()
    assert set(MoE(D, H, E, bias).state_dict()) == {"choose.bias", "experts.w_in", "experts.w_out", "router.weight"}

    def own(logits, *, generator=None):
        return softmax(logits + torch.randn(logits.shape, generator=generator))

    with pytest.raises(ValueError, match="at_test must be given"):
        MoE(D, H, E, own)
    assert torch.equal((moe := MoE(D, H, E, own, at_test=switch).eval())(x)[0], moe(x)[0])


def private(way):
    """A layer with noise from a generator of its own, and that generator."""
    generator = torch.Generator()
    if way is NoisyRouter:
        return MoE(D, H, E, switch, router=NoisyRouter(D, E, generator=generator)), generator
    return MoE(D, H, E, partial(way, generator=generator)), generator


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("way", [gshard, gumbel_softmax, NoisyRouter])
def test_checkpointing_gives_the_same_gradient_or_a_clear_error(way, reentrant):
    """torch restores its global generator, before it runs a layer again; of others it knows nothing."""
    own, _ = private(way)
    x = torch.randn(40, D, requires_grad=True)
    with pytest.raises(RuntimeError, match="generator must be None where activations are checkpointed"):
        checkpoint(own, x, use_reentrant=reentrant)[0].square().sum().backward()
    own(x)[0].square().sum().backward()
    layer, gradients = MoE(D, H, E, switch, router=NoisyRouter(D, E)) if way is NoisyRouter else MoE(D, H, E, way), []
    for run in (layer, partial(checkpoint, layer, use_reentrant=reentrant)):
        torch.manual_seed(1)
        layer.zero_grad()
        run(x)[0].square().sum().backward()
        gradients.append([w.grad.clone() for w in layer.parameters()])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_a_copy_draws_what_the_layer_would_and_knows_no_more_of_it():
    layer, generator = private(gshard)
    layer, x = copy.deepcopy(layer), torch.randn(40, D)
    same = pickle.loads(pickle.dumps(layer))
    y = layer(x)[0]
    assert torch.equal(same(x)[0], y) and not torch.equal(layer(x)[0], y)
    assert torch.equal(generator.get_state(), torch.Generator().get_state())


# Soft MoE


def test_soft_moe_equals_its_formula():
    torch.manual_seed(0)
    n_experts, slots = 3, 2
    soft = SoftMoE(D, H, n_experts, slots, bias=True).double()
    x = torch.randn(2, 5, D, dtype=torch.float64)
    y, choice = soft(x)
    for b in range(2):
        logits = torch.zeros(5, n_experts * slots, dtype=torch.float64)
        for t, j in itertools.product(range(5), range(n_experts * slots)):
            phi = soft.phi[:, j]
            logits[t, j] = soft.scale * (x[b, t] / x[b, t].norm()) @ (phi / phi.norm())
        out = torch.zeros(5, D, dtype=torch.float64)
        for j in range(n_experts * slots):
            slot = sum(logits[:, j].softmax(0)[t] * x[b, t] for t in range(5))
            result = feed_forward(slot, soft.experts, j // slots)
            out = out + logits.softmax(-1)[:, j, None] * result
        torch.testing.assert_close(y[b], out)
    torch.testing.assert_close(choice.logits.softmax(-1), choice.weights)
    torch.testing.assert_close(choice.weights.sum(-1), torch.ones(2, 5, dtype=torch.float64))
    assert soft(x[0])[0].shape == (5, D) and soft(torch.zeros(2, 0, D).double())[0].shape == (2, 0, D)


@pytest.mark.parametrize("shape", [(5, D), (1, 5, D), (2, 3, 5, D)])
def test_soft_moe_has_the_same_gradients_in_both_precisions(shape):
    """Single precision takes torch's grouped product, double a loop."""
    torch.manual_seed(0)
    x, gradients = torch.randn(shape), []
    soft = SoftMoE(D, H, 3, 2)
    for dtype in (torch.float32, torch.float64):
        soft = soft.to(dtype)
        y, _ = soft(x.to(dtype))
        gradients.append(torch.autograd.grad(y.square().sum(), list(soft.parameters())))
    torch.testing.assert_close(gradients[0], gradients[1], check_dtype=False, rtol=1e-4, atol=1e-5)


# Losses


def test_load_balance_loss_by_hand():
    logits = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0], [4.0, 0.0]])
    p = logits.softmax(-1).mean(0)
    expected = 2 * (0.75 * p[0] + 0.25 * p[1])
    assert load_balance_loss(switch(logits)).item() == pytest.approx(expected.item())
    uniform = choice_of(F.one_hot(torch.zeros(4, dtype=torch.long), 4).float(), torch.zeros(4, 4))
    assert load_balance_loss(uniform).item() == pytest.approx(1)  # P uniform: 1, though every token went to expert 0
    assert load_balance_loss(switch(50 * torch.eye(4)[[0] * 6])).item() == pytest.approx(4)  # collapsed: E
    below = choice_of([[1.0, 0], [1, 0], [0, 1]], torch.tensor([[0.1, 0], [0.1, 0], [0, 4.0]]))
    assert load_balance_loss(below) < 1
    assert load_balance_loss(top_k(torch.randn(1000, 8) * 1e-3, 2)).item() == pytest.approx(1, abs=1e-3)


def test_load_balance_gradient_goes_through_the_probabilities_alone():
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(load_balance_loss(switch(logits)), logits)
    f = F.one_hot(logits.argmax(-1), 4).double().mean(0)
    (expected,) = torch.autograd.grad(4 * (f * logits.softmax(-1).mean(0)).sum(), logits)
    torch.testing.assert_close(gradient, expected)


def test_sequence_balance_is_the_sources_formula():
    """DeepSeek-V3, eq. 17 to 20, letter by letter, for sequences of 7 and of 4 tokens."""
    torch.manual_seed(0)
    s, k, mask = torch.randn(2, 7, E, dtype=torch.float64), 2, torch.arange(7) < torch.tensor([[7], [4]])
    choice = BalanceBias(E, k, score=torch.sigmoid, normalise=True)(s)
    losses = []
    for b, length in enumerate((7, 4)):
        f, p = [0.0] * E, [0.0] * E
        for t, i in itertools.product(range(length), range(E)):
            affinity = s[b, t].sigmoid()
            f[i] += E / (k * length) * (i in affinity.topk(k).indices.tolist())
            p[i] += affinity[i].item() / affinity.sum().item() / length
        losses.append(sum(a * b for a, b in zip(f, p, strict=True)))
    shared = choice._replace(logits=F.logsigmoid(s))
    assert sequence_balance_loss(shared, mask=mask).item() == pytest.approx(sum(losses) / 2)
    one = torch.eye(4)[None].repeat(3, 1, 1) * 50  # each sequence in turn, and all in one
    assert sequence_balance_loss(switch(one)).item() == pytest.approx(1)
    assert sequence_balance_loss(switch(one.transpose(0, 1))).item() == pytest.approx(4)
    assert load_balance_loss(switch(one.transpose(0, 1))).item() == pytest.approx(1)


def test_importance_is_a_squared_coefficient_of_variation():
    z = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])  # importance 1.5, 0.5, 0: mean 2/3, variance 7/18
    assert importance_loss(choice_of(z)).item() == pytest.approx((7 / 18) / (4 / 9))
    assert squared_cv(torch.full((4,), 3.0)) == 0 == squared_cv(torch.zeros(4))


def test_noisy_load_is_the_chance_to_be_among_the_best():
    """Against drawing the noise of one expert again, the others' as it is."""
    torch.manual_seed(0)
    clean, std = torch.randn(2, 5, dtype=torch.float64), torch.rand(2, 5, dtype=torch.float64) + 0.5
    noisy = clean + std * torch.randn(2, 5, dtype=torch.float64)
    for k in (1, 2, 4):
        counted = torch.zeros(5, dtype=torch.float64)
        for t, e in itertools.product(range(2), range(5)):
            trials = noisy[t].expand(50_000, 5).clone()
            trials[:, e] = clean[t, e] + std[t, e] * torch.randn(50_000, dtype=torch.float64)
            counted[e] += (trials.topk(k).indices == e).any(-1).double().mean()
        torch.testing.assert_close(noisy_load(clean, noisy, std, k), counted, atol=0.012, rtol=0)


def test_z_loss_and_entropies_by_hand():
    logits = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0]]])
    choice = softmax(logits)
    assert router_z_loss(choice).item() == pytest.approx((math.log(2) ** 2 + math.log(4) ** 2) / 2)
    p = choice.weights
    h = math.log(2), -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert local_entropy(p).item() == pytest.approx(sum(h) / 2)
    mean = -(0.625 * math.log(0.625) + 0.375 * math.log(0.375))
    assert global_entropy(p).item() == pytest.approx(-mean)
    assert global_entropy(p, threshold=0.69).item() == pytest.approx(0.69 - mean, abs=1e-6)
    assert global_entropy(p, threshold=0.5) == 0
    sure = torch.eye(3)
    assert local_entropy(sure) == 0 and global_entropy(sure).item() == pytest.approx(-math.log(3))


def test_entropies_have_finite_gradients_where_a_probability_is_0():
    logits = torch.tensor([[110.0, 0.0, 0.0], [0.0, 1.0, 2.0]], requires_grad=True)
    for loss in (local_entropy, global_entropy, lambda p: local_entropy(p.half())):
        (gradient,) = torch.autograd.grad(loss(logits.softmax(-1)), logits)
        assert gradient.isfinite().all() and gradient[1].abs().max() > 0.01
    p = torch.tensor([[0.0, 0.25, 0.75]], requires_grad=True)
    (gradient,) = torch.autograd.grad(local_entropy(p), p)
    torch.testing.assert_close(gradient[0, 1:], -1 - p[0, 1:].log())


def test_losses_survive_what_half_precision_does_not():
    """1000 tokens of 300: a square is above 65,504; so is a sum, a count."""
    scores = 60 * (torch.randn(1000, 4) + torch.tensor([5.0, 0, 0, 0])).half()
    torch.testing.assert_close(router_z_loss(switch(scores)), router_z_loss(switch(scores.float())))
    many = torch.zeros(70_000, 2).half()
    assert expert_load(top_k(many, 1)).tolist() == [1, 0] and importance_loss(top_k(many, 1)) == 1
    assert squared_cv(torch.tensor([6e4, 0.0]).half()) == 1


def test_noisy_load_has_a_gradient_without_noise():
    clean, std = torch.randn(3, 4, requires_grad=True), torch.tensor([0.0, 1e-37, 1e-30, 1]).expand(3, 4).clone()
    load = noisy_load(clean, clean.detach(), std.requires_grad_(), 2)
    assert all(g.isfinite().all() for g in torch.autograd.grad(load[0] + load.square().sum(), [clean, std]))


def test_nothing_that_counts_costs_nothing():
    nothing, choice = torch.zeros(6, dtype=torch.bool), switch(torch.randn(6, 4))
    losses = [load_balance_loss(choice, mask=nothing), importance_loss(choice, mask=nothing)]
    losses += [sequence_balance_loss(choice, mask=nothing)]
    losses += [router_z_loss(choice, mask=nothing), local_entropy(choice.weights, mask=nothing)]
    losses += [global_entropy(choice.weights, mask=nothing), global_entropy(choice.weights, 2.0, mask=nothing)]
    assert all(loss == 0 for loss in losses)
    bias = BalanceBias(4)
    bias.update(choice, mask=nothing)
    assert not bias.bias.any()


LOSSES = [load_balance_loss, importance_loss, router_z_loss]
LOSSES += [lambda c: local_entropy(c.logits.softmax(-1)), lambda c: global_entropy(c.logits.softmax(-1), 2.0)]


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_do_not_see_the_order_of_tokens_or_the_names_of_experts(loss):
    torch.manual_seed(0)
    logits = torch.randn(12, 4)
    value = loss(switch(logits, 2))
    assert value.shape == ()
    torch.testing.assert_close(loss(switch(logits[torch.randperm(12)], 2)), value)
    torch.testing.assert_close(loss(switch(logits[:, torch.randperm(4)], 2)), value)
    torch.testing.assert_close(loss(switch(logits.reshape(3, 4, 4), 2)), value)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_no_token_are_finite(loss):
    assert loss(switch(torch.zeros(0, 4))).isfinite()


# Measures


def test_measures_of_collapse():
    equal, one = choice_of(torch.eye(4)), choice_of(torch.eye(4)[[2, 2, 2]])
    assert collapse(equal) == (1, 0, pytest.approx(1))
    assert collapse(one) == (4, 3, 0)
    assert expert_load(choice_of([[0.5, 0.5, 0], [1, 0, 0.0]])).tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    assert expert_load(switch(torch.zeros(0, 4))).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("n_experts", [3, 7, 48])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_an_equal_load_has_entropy_one_and_no_more(dtype, n_experts):
    assert 1 - 1e-12 < collapse(choice_of(torch.eye(n_experts, dtype=dtype))).entropy <= 1


def test_representation_collapse_by_hand_and_its_invariance():
    hidden = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 2.0], [-1.0, -2.0]])
    label = torch.tensor([0, 0, 1, 1])  # means (±1, 0); between diag(1, 0), within diag(0, 2.5): nothing along the axis
    assert representation_collapse(hidden, label) == pytest.approx(0)
    spread = hidden + torch.tensor([[0.5, 0], [-0.5, 0], [0.5, 0], [-0.5, 0]])
    assert representation_collapse(spread, label).item() == pytest.approx(0.25)
    torch.manual_seed(0)
    x, y = torch.randn(200, 3), torch.arange(200) % 5
    value = representation_collapse(x, y)
    rotation = torch.linalg.qr(torch.randn(3, 3))[0]
    torch.testing.assert_close(representation_collapse(3 * x @ rotation + 4, y), value)
    centred = x - torch.stack([x[y == e].mean(0) for e in range(5)])[y]
    assert representation_collapse(x - 0.9 * centred, y).item() == pytest.approx(0.01 * value.item(), rel=1e-4)


# Upcycling


@pytest.mark.parametrize("bias", [True, False])
def test_upcycled_experts_equal_the_network_while_weights_sum_to_one(bias):
    torch.manual_seed(0)
    ffn = nn.Sequential(nn.Linear(D, H, bias=bias), nn.PReLU(), nn.Linear(H, D, bias=bias)).double()
    x = torch.randn(2, 9, D, dtype=torch.float64)
    for choose in (partial(top_k, k=2), softmax, argmax):
        torch.testing.assert_close(upcycle(ffn, E, choose)(x)[0], ffn(x))
    y, choice = upcycle(ffn, E, switch)(x)
    torch.testing.assert_close(y, choice.weights.sum(-1, keepdim=True) * ffn(x))
    torch.testing.assert_close(upcycle(ffn, E)(x)[0], ffn(x))
    before = ffn[0].weight.clone()
    with torch.no_grad():
        upcycle(ffn, E).experts.w_in.add_(1)  # copies, not views
    assert torch.equal(ffn[0].weight, before)


def test_upcycling_keeps_what_is_frozen_the_mode_and_the_activation_apart():
    ffn = nn.Sequential(nn.Linear(D, H), nn.PReLU(), nn.Linear(H, D)).double().eval()
    ffn[0].weight.requires_grad_(False)
    ffn[1].requires_grad_(False)
    moe = upcycle(ffn, E)
    frozen = {name for name, w in moe.named_parameters() if not w.requires_grad}
    assert frozen == {"experts.w_in", "experts.activation.weight"} and not moe.training
    with torch.no_grad():
        moe.experts.activation.weight.add_(1)
    assert ffn[1].weight.item() == 0.25
    assert {w.dtype for w in moe.parameters()} == {torch.float64}


# Bad input


def test_what_is_no_layer_is_refused():
    with pytest.raises(ValueError, match="n_experts must be an integer of at least 1, got 0"):
        MoE(D, H, 0, switch)
    with pytest.raises(ValueError, match="d_hidden must be an integer of at least 1, got -1"):
        Experts(2, D, -1)
    with pytest.raises(ValueError, match="capacity_factor must be a finite number > 0, got 0"):
        MoE(D, H, E, switch, capacity_factor=0)
    with pytest.raises(ValueError, match="n_shared must be an integer of at least 0, got -1"):
        MoE(D, H, E, switch, n_shared=-1)
    with pytest.raises(ValueError, match="slots must be an integer of at least 1, got 0"):
        SoftMoE(D, H, E, slots=0)
    with pytest.raises(ValueError, match="temperature must be a finite number > 0, got 0"):
        CosineRouter(D, E, temperature=0)
    for k in (6, True, 1.0):
        with pytest.raises(ValueError, match=f"k must be from 1 to n_experts = 5, got {k}"):
            BalanceBias(E, k=k)
    with pytest.raises(ValueError, match="rate must be a finite number >= 0, got nan"):
        BalanceBias(E, rate=math.nan)
    for router in (NoisyRouter, CosineRouter):
        with pytest.raises(ValueError, match="n_experts must be an integer of at least 1, got 0"):
            router(D, 0)
    with pytest.raises(ValueError, match="d_low must be an integer of at least 1, got 0"):
        CosineRouter(D, E, 0)
    with pytest.raises(ValueError, match=r"ffn must be Sequential\(Linear\(D, H\), activation, Linear\(H, D\)\)"):
        upcycle(nn.Sequential(nn.Linear(D, H), nn.Linear(H, D)), E)
    with pytest.raises(ValueError, match="ffn must have two biases or none"):
        upcycle(nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, D, bias=False)), E)


@pytest.mark.parametrize("choose", CHOICES.values(), ids=CHOICES)
def test_bad_tokens_are_refused_not_sent_to_some_expert(choose):
    moe = MoE(D, H, E, choose)
    x = torch.randn(4, D)
    x[2, 3] = torch.nan
    with pytest.raises(ValueError, match="x must be finite, got a token whose scores are NaN"):
        moe(x)
    for value, found in ((torch.nan, "NaN"), (torch.inf, r"\+inf"), (-torch.inf, "a row of only -inf")):
        logits = torch.randn(4, E)
        logits[1] = value
        with pytest.raises(ValueError, match=f"logits must be finite.*got {found}"):
            choose(logits)


def test_what_does_not_fit_is_refused():
    x = torch.randn(4, D)
    with pytest.raises(ValueError, match="k must be an integer from 1 to the number of options, 5, got 6"):
        MoE(D, H, E, partial(top_k, k=6))(x)
    with pytest.raises(ValueError, match=r"x must have shape \(..., 8\), got \(4, 7\)"):
        MoE(D, H, E, switch)(x[:, :7])
    with pytest.raises(ValueError, match=r"choice must have weights of shape \(4, 5\) for this x, got \(4, 3\)"):
        MoE(D, H, E, switch)(x, switch(torch.randn(4, 3)))
    with pytest.raises(ValueError, match=r"x must have shape \(..., T, 8\), got \(8,\)"):
        SoftMoE(D, H, E)(x[0])
    with pytest.raises(ValueError, match="x must be finite"):
        SoftMoE(D, H, E)(x * torch.nan)
    with pytest.raises(ValueError, match="capacity_factor must be a finite number > 0, got -1"):
        expert_choice(torch.randn(4, 3), -1)
    with pytest.raises(ValueError, match="capacity_factor must be a finite number > 0, got nan"):
        within_capacity(switch(torch.randn(4, 3)), math.nan)
    with pytest.raises(ValueError, match="k must be from 1 to less than the number of experts, 3, got 3"):
        noisy_load(torch.randn(4, 3), torch.randn(4, 3), torch.ones(4, 3), 3)
    with pytest.raises(ValueError, match="each expert to some token"):
        sinkhorn(torch.tensor([[0.0, -torch.inf], [0.0, -torch.inf]]))
    for wrong in (0, True, 1.5):
        with pytest.raises(ValueError, match=f"n_iters must be an integer of at least 1, got {wrong}"):
            sinkhorn(torch.zeros(2, 2), wrong)
    for wrong in (torch.randn(4), [1, 2]):
        with pytest.raises(ValueError, match="ids must be integers, a tensor, got"):
            hashed(wrong, 3)
    with pytest.raises(ValueError, match="n_experts must be an integer of at least 1, got 0"):
        hashed(torch.arange(4), 0)
    with pytest.raises(ValueError, match=r"logits must have shape \(..., 5\), got \(4, 3\)"):
        BalanceBias(E)(torch.randn(4, 3))
    for wrong in (x.long(), x.double()):
        with pytest.raises(ValueError, match=rf"x must have dtype torch.float32, got {wrong.dtype}"):
            MoE(D, H, E, switch)(wrong)
    with (
        torch.autocast("cpu", torch.float16),
        pytest.raises(ValueError, match=r"x must have dtype torch.float32, got"),
    ):
        MoE(D, H, E, switch)(x.bfloat16())
    for wrong, got in ((nn.Linear(D, 3), r"\(4, 3\)"), (nn.LSTM(D, E), "tuple"), (nn.Flatten(0), r"\(32,\)")):
        with pytest.raises(ValueError, match=rf"router must return logits of shape \(4, 5\) for this x, got {got}"):
            MoE(D, H, E, switch, router=wrong)(x)
    with pytest.raises(ValueError, match=r"choice must have weights of shape \(4, 5\) for this x, got NoneType"):
        MoE(D, H, E, lambda s: s.softmax(-1))(x)
    for wrong in (torch.ones(4), torch.ones(3, dtype=torch.bool), [True] * 4):
        for refuses in (MoE(D, H, E, switch), SoftMoE(D, H, E)):
            with pytest.raises(ValueError, match=r"mask must be \(4,\) of torch.bool"):
                refuses(x, mask=wrong)
        for refuses in (expert_choice, balanced, base, gshard, sinkhorn):
            with pytest.raises(ValueError, match=r"mask must be \(4,\) of torch.bool"):
                refuses(torch.randn(4, E), mask=wrong)
        for refuses in (expert_load, load_balance_loss, importance_loss, router_z_loss, BalanceBias(E).update):
            with pytest.raises(ValueError, match=r"mask must be \(4,\) of torch.bool"):
                refuses(switch(torch.randn(4, E)), mask=wrong)
        with pytest.raises(ValueError, match=r"mask must be \(4,\) of torch.bool"):
            within_capacity(switch(torch.randn(4, E)), 1.0, mask=wrong)
    with pytest.raises(ValueError, match="label must name at least 2 groups"):
        representation_collapse(x, torch.zeros(4))
    with pytest.raises(IndexError, match="e must be from 0 to 4, got 5"):
        Experts(E, D, H)[5]


@pytest.mark.parametrize("bias", [False, True])
def test_a_few_tokens_run_only_the_experts_that_they_chose_and_get_the_same(bias):
    torch.manual_seed(0)
    moe = MoE(16, 32, 8, partial(top_k, k=2), gated=True, bias=bias)
    for n in (1, 3):
        x = torch.randn(n, 16)
        wanted, choice = moe(x)
        with torch.no_grad():
            torch.testing.assert_close(moe(x)[0], wanted)
            moe.experts.w_in[(choice.weights == 0).all(0)] = torch.nan  # whoever runs an idle expert sees it
            torch.testing.assert_close(moe(x)[0], wanted)
            moe = MoE(16, 32, 8, partial(top_k, k=2), gated=True, bias=bias)
