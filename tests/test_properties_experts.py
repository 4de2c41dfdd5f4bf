"""Properties of experts and of parts: moe, expert_parallel, adapters, merging, specialise."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from properties import BATCHES, DTYPES, SEEDS, SOME, close, gradient, normal, refuses, rng, scores, unwanted
from torch import nn
from ways import WAYS

from lecture_lib import adapters, choice, expert_parallel, merging, mixture, moe, specialise


def hashed(s, **options):
    return moe.hashed(torch.arange(s.shape[:-1].numel()).reshape(s.shape[:-1]), s.shape[-1])


ROUTES = WAYS | {"hashed": hashed}


@pytest.mark.parametrize("name", ROUTES)
@given(s=scores(k=st.integers(2, 5)), k=st.integers(1, 2))
def test_every_route_is_a_choice_of_which_the_layer_is_the_mixture(name, s, k):
    options = {"k": k, "capacity_factor": k, "n_iters": 5, "n_samples": k}
    if name == "balanced" and unwanted(s):
        s = s.clamp(min=-100)
    route = ROUTES[name](s, **options, generator=rng(0))
    z, p = route.weights, s.double().softmax(-1) if name != "hashed" else 1
    assert z.shape == s.shape and route.log_prob.shape == s.shape[:-1] and (z >= 0).all()
    assert (z[s == -torch.inf] == 0).all() or name == "hashed"
    if name in ("switch", "switch, 1", "BalanceBias"):
        close(z[z > 0], p[z > 0])
    rows = z.reshape(-1, z.shape[-1])
    n, e = rows.shape
    assert ((rows > 0).sum(0) <= {"expert_choice": math.ceil(n * k / e), "base": -(-n // e)}.get(name, n)).all()
    most = {"gshard": 2, "balanced": 1, "base": 1, "hashed": 1}.get(name, e)
    assert ((rows > 0).sum(1) <= most).all()
    assert torch.equal(ROUTES[name](s, **options, generator=rng(0)).weights, z)
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
    pairs = (choice.argmax(s).weights > 0).reshape(-1, e).sum(0)
    load = pairs.double() / n
    close(moe.expert_load(route), load)
    close(moe.load_balance_loss(route), e * (load * p.sum(0) / n).sum(), 64)
    z_loss = (rows.logsumexp(-1) ** 2).sum() / n
    if z_loss < torch.finfo(s.dtype).max / 2:
        close(moe.router_z_loss(route), z_loss, 64)
    w = choice.softmax(s.to(torch.promote_types(s.dtype, torch.float32))).weights  # no rounding before the loss
    close(moe.local_entropy(w), torch.special.entr(p).sum() / n, 64)
    close(moe.global_entropy(w), -torch.special.entr(p.sum(0) / n).sum(), 64)
    assert moe.global_entropy(w, 0.0) == 0
    many, dead, entropy = moe.collapse(route)
    assert isinstance(moe.collapse(route), moe.Collapse) and dead == (load == 0).sum() and 0 <= entropy <= 1
    assert math.isclose(many, e * load.max())
    values = (normal(seed, e).abs() * 10.0 ** (seed % 40 - 20)).float()
    close(moe.squared_cv(values), values.double().var(correction=0) / values.double().mean() ** 2, 64)
    assert moe.importance_loss(route) <= max(e - 1, 0) + 0.05 * e and moe.squared_cv(torch.zeros(e)) == 0
    clean, std = normal(seed, 7, e), normal(seed + 1, 7, e).abs() * (seed % 2)
    noisy = clean + std * normal(seed + 2, 7, e)
    for k in range(1, e):
        chance = moe.noisy_load(clean, noisy, std, k)
        assert (chance >= 0).all() and (chance <= 7).all()  # a probability for each token
    refuses("k", moe.noisy_load, clean, noisy, std, e)
    if not unwanted(s):
        plan = moe.sinkhorn(s, 3)
        assert plan.dtype == s.dtype and (plan[s == -torch.inf] == 0).all()
        torch.testing.assert_close(plan.double().sum(-1), torch.ones(s.shape[:-1]).double(),
                                   atol=e * torch.finfo(s.dtype).eps, rtol=0)  # fmt: skip
    else:
        refuses("logits", moe.sinkhorn, s)
    refuses("n_iters", moe.sinkhorn, s.clamp(min=-100), 0)
    refuses("k", moe.BalanceBias, e, e + 1)
    bias = moe.BalanceBias(e, rate=0.5)
    bias.update(route)
    assert torch.equal(bias.bias, 0.5 * (pairs.sum() - e * pairs).sign())


def groups_by_hand(row, n_groups, k_groups, best):
    """The scores of one token as a list, -inf but in its best groups, which are sorted by the mean of their best."""
    size = len(row) // n_groups
    groups = [[e for e in range(g * size, (g + 1) * size) if row[e] > -math.inf] for g in range(n_groups)]
    top = [sorted((row[e] for e in group), reverse=True)[:best] for group in groups]
    order = sorted(range(n_groups), key=lambda g: -(sum(top[g]) / len(top[g]) if top[g] else -math.inf))
    kept = {e for g in order[:k_groups] for e in groups[g]}
    return [row[e] if e in kept else -math.inf for e in range(len(row))]


@given(scores(k=st.sampled_from([1, 2, 4, 6, 12]), huge=False), st.data(), st.booleans(), SEEDS)
def test_groups_and_biases_equal_a_loop_over_tokens(s, data, normalise, seed):
    e = s.shape[-1]
    n_groups = data.draw(st.sampled_from([n for n in range(1, e + 1) if e % n == 0]))
    k_groups, k = data.draw(st.integers(1, n_groups)), data.draw(st.integers(1, e))
    limits = n_groups, k_groups, data.draw(st.integers(1, 3))
    got = moe.within_groups(s, *limits[:2], best=limits[2])
    assert got.dtype == s.dtype and got.reshape(-1, e).tolist() == [
        groups_by_hand(row, *limits) for row in s.reshape(-1, e).tolist()
    ]
    score = data.draw(st.sampled_from([torch.sigmoid, None]))
    options = {"score": score, "normalise": normalise, "scale": 1 + seed % 3 / 2}
    choose = moe.BalanceBias(e, k, **options, limit=lambda s: moe.within_groups(s, *limits[:2], best=limits[2]))
    choose.bias.copy_(normal(seed, e, dtype=torch.float32).round(decimals=1))
    full = s.to(torch.promote_types(s.dtype, torch.float32))
    p, rows = full.softmax(-1) if score is None else score(full), []
    for row, weight, allowed in zip(*(t.reshape(-1, e).tolist() for t in (p + choose.bias, p, s)), strict=True):
        ranked = groups_by_hand([r if a > -math.inf else a for r, a in zip(row, allowed, strict=True)], *limits)
        taken = [i for i in sorted(range(e), key=lambda i: -ranked[i])[:k] if ranked[i] > -math.inf]
        total = sum(weight[i] for i in taken) + 1e-20 if normalise else 1
        rows.append([options["scale"] * weight[i] / total if i in taken else 0 for i in range(e)])
    close(choose(s).weights, torch.tensor(rows, dtype=torch.float64).reshape(s.shape))
    assert gradient(lambda s: choose(s).weights, s).isfinite().all()
    for bad, name in (((e + 1, 1), "n_groups"), ((0, 1), "n_groups"), ((n_groups, n_groups + 1), "k_groups")):
        refuses(name, moe.within_groups, s, *bad)
    refuses("best", moe.within_groups, s, n_groups, 1, best=0)
    refuses("scale", moe.BalanceBias, e, scale=0)


@given(scores(k=st.integers(1, 6)), st.data())
def test_forced_loads_are_equal_whatever_the_scores(s, data):
    e = s.shape[-1]
    k = data.draw(st.integers(1, e))
    z, allowed = moe.equal_load(s, k).weights.reshape(-1, e), s.reshape(-1, e) > -torch.inf
    turn = [{(t * k + i) % e for i in range(k)} for t in range(len(z))]
    assert (z > 0).tolist() == [[i in turn[t] and bool(allowed[t, i]) for i in range(e)] for t in range(len(z))]
    assert not allowed.all() or not len(z) or (load := (z > 0).sum(0)).max() - load.min() <= 1
    close(z, torch.where(z > 0, s.double().softmax(-1).reshape(-1, e), 0))


@given(scores(k=st.integers(1, 5), lead=st.lists(st.integers(0, 3), min_size=1, max_size=3)), st.integers(1, 2), SEEDS)
def test_balance_of_sequences_is_the_mean_of_their_own(s, k, seed):
    route, mask = moe.switch(s, min(k, s.shape[-1])), torch.rand(s.shape[:-1], generator=rng(seed)) < 0.6
    for counts in (torch.ones_like(mask), mask):
        padded = choice.Choice(*(t.masked_fill(~counts[..., None], math.nan) for t in route[:2]), route.log_prob)
        places = [at for at in np.ndindex(s.shape[:-2]) if counts[at].any()]
        alone = [moe.load_balance_loss(choice.Choice(*(part[at][counts[at]] for part in route))) for at in places]
        wanted = sum(loss.double() for loss in alone) / max(len(alone), 1) + torch.zeros(())
        close(moe.sequence_balance_loss(padded, mask=counts), wanted, 64)
        slope = gradient(lambda s, c=counts: moe.sequence_balance_loss(route._replace(logits=s), mask=c), s)
        assert slope.isfinite().all() and not slope[~counts].any()
    assert torch.equal(moe.sequence_balance_loss(route), moe.sequence_balance_loss(route, mask=torch.ones_like(mask)))
    refuses("choice", moe.sequence_balance_loss, choice.softmax(torch.zeros(4)))
    refuses("mask", moe.sequence_balance_loss, route, mask=mask[..., None])


@given(SOME, SOME, SOME, st.integers(0, 3), st.booleans(), SEEDS)
def test_foreign_layers_compute_what_they_did(e, d, h, n, normalise, seed):
    block, x, k = nn.Module(), normal(seed, n, d), 1 + seed % e
    block.gate, block.experts = nn.Linear(d, e, bias=False).double(), nn.Module()
    block.experts.act_fn = nn.ReLU()
    block.experts.gate_up_proj = nn.Parameter(normal(seed + 1, e, 2 * h, d))
    block.experts.down_proj = nn.Parameter(normal(seed + 2, e, d, h))
    refuses("block", moe.from_transformers, block)  # a Linear knows more than a gate, and no k
    del block.gate.in_features, block.gate.out_features
    block.gate.top_k, block.gate.norm_topk_prob = k, normalise
    p = block.gate(x).softmax(-1)
    z = torch.where(p >= p.sort(-1).values[..., -k, None], p, 0)
    up, down = block.experts.gate_up_proj, block.experts.down_proj
    each = [(F.relu(x @ up[i, :h].T) * (x @ up[i, h:].T)) @ down[i].T for i in range(e)]
    z = z / z.sum(-1, keepdim=True) if normalise else z
    close(moe.from_transformers(block)(x)[0], torch.einsum("ne,end->nd", z, torch.stack(each)), 64)
    block.experts.down_proj = nn.Parameter(normal(seed, e, d + 1, h))
    refuses("block", moe.from_transformers, block)


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
    model = nn.Sequential(nn.ReLU(), nn.Linear(d_in, 2), nn.Sequential(nn.Linear(2, 1))).double()
    wanted = model(x)
    beside = adapters.add_loras(model, rank)
    assert torch.equal(model(x), wanted) and len(beside) == 2
    assert [w for w in model.parameters() if w.requires_grad] == [w for lora in beside for w in (lora.A, lora.B)]
    refuses("model", adapters.add_loras, nn.ReLU(), 1)
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
    again = merging.match_weights(state, shuffled, layout)
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
    refuses("b", merging.match_weights, state, broken, layout)
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
    refuses("group", specialise.information, z, label, group=label.float())
    refuses("n_permutations", specialise.information, z, label, n_permutations=0)
    refuses("coverage", specialise.needed_experts, z, 0)
    refuses("experts", specialise.extract, layer, [e])
    refuses("b", specialise.swap_experts, layer, 0, e)
