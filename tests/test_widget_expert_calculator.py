"""ExpertCalculator: costs are those of a real layer, what is dropped is exact."""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from javascript import module_of, moves_to, refuses
from scipy import stats

from lecture_lib.choice import Choice
from lecture_lib.cost import count_flops
from lecture_lib.moe import MoE, within_capacity
from lecture_lib.widgets import ExpertCalculator
from lecture_lib.widgets.expert_calculator import MODELS

calculator = module_of(ExpertCalculator)

LAYERS = [
    {"d_model": 16, "d_hidden": 40, "n_experts": 8, "k": 1, "capacity_factor": 1.25, "n_tokens": 64},
    {"d_model": 24, "d_hidden": 16, "n_experts": 16, "k": 3, "capacity_factor": 1.0, "n_tokens": 100},
    {"d_model": 16, "d_hidden": 16, "n_experts": 10, "k": 2, "capacity_factor": 0.55, "n_tokens": 200},
    {"d_model": 16, "d_hidden": 16, "n_experts": 8, "k": 8, "capacity_factor": 0.5, "n_tokens": 64},
]


def draw(logits, k, generator):
    """A choice of k experts, uniformly at random."""
    taken = torch.rand(logits.shape, generator=generator).topk(k, -1).indices
    return Choice(logits, torch.zeros_like(logits).scatter(-1, taken, 1 / k), logits.new_zeros(logits.shape[:-1]))


@pytest.mark.parametrize("layer", LAYERS)
def test_costs_are_those_of_a_real_layer(calculator, layer):
    """Parameters and FLOPs by count; slots and what is dropped by routing at random, many times."""
    ours = calculator(f"w.costs({json.dumps(layer)})")
    d, h, n_experts, k, factor, n = layer.values()
    generator = torch.Generator().manual_seed(0)
    choose = partial(draw, k=k, generator=generator)
    moe = MoE(d, h, n_experts, choose, at_test=choose)
    assert ours["total"] == sum(p.numel() for p in moe.parameters()) == ours["bytes"] / 4
    experts = sum(p.numel() for p in moe.experts.parameters())
    assert ours["active"] == ours["total"] - experts * (1 - k / n_experts)
    x = torch.randn(n, d, generator=generator)
    assert n * ours["perToken"] == count_flops(moe, x)

    moe.capacity_factor = factor
    choices = [draw(torch.zeros(n, n_experts), k, generator) for _ in range(200)]
    loads = torch.stack([(within_capacity(choice, factor).weights > 0).sum(0) for choice in choices])
    assert loads.max() == ours["slots"]  # the capacity of the layer: some expert is full
    dropped = 1 - loads.sum(1).double() / (n * k)
    assert abs(dropped.mean() - ours["dropped"]) <= 4 * dropped.std() / len(dropped) ** 0.5 + 1e-12
    assert 1 - ours["empty"] == pytest.approx(n * k * (1 - ours["dropped"]) / (ours["slots"] * n_experts))
    flops = count_flops(lambda: moe(x, choices[0]))  # the choice is given, the router does not run
    assert flops == loads[0].sum() * 4 * d * h
    router = 2 * n * d * n_experts
    assert ours["inAll"] - router == pytest.approx(n * k * (1 - ours["dropped"]) * 4 * d * h)


@pytest.mark.parametrize(
    ("n", "p"), [(64, 1 / 8), (4096, 1 / 256), (65536, 0.5), (100, 7 / 8), (64, 1.0), (65536, 1 / 8)]
)
def test_the_law_of_the_load_is_binomial(calculator, n, p):
    found = calculator(f"w.binomial({n}, {p})")
    counts = found["first"] + np.arange(len(found["shares"]))
    np.testing.assert_allclose(found["shares"], stats.binom.pmf(counts, n, p), atol=1e-12, rtol=1e-8)
    assert 0 <= counts[0] and counts[-1] <= n and sum(found["shares"]) == pytest.approx(1)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.05, 1.25, 2.0, 4.0])
def test_the_dropped_share_is_exact(calculator, factor):
    """E[max(load - slots, 0)] over the mean load, summed over the whole law by scipy."""
    for n_experts, k, n in [(8, 1, 64), (8, 7, 100), (64, 2, 4096), (256, 8, 65536)]:
        layer = {
            "d_model": 16,
            "d_hidden": 16,
            "n_experts": n_experts,
            "k": k,
            "capacity_factor": factor,
            "n_tokens": n,
        }
        ours = calculator(f"w.costs({json.dumps(layer)})")
        slots = math.ceil(round(factor * n * k / n_experts, 6))
        beyond = np.arange(slots + 1, n + 1)
        over = ((beyond - slots) * stats.binom.pmf(beyond, n, k / n_experts)).sum()
        assert ours["slots"] == slots
        assert ours["dropped"] == pytest.approx(over / (n * k / n_experts), rel=1e-6, abs=1e-12)


# By hand: weights of one layer and, of it, those that a token uses; of the network, those that all tokens use outside
# of such layers (attention, embeddings, dense layers): the rest.
BY_HAND = {
    "Switch-Base": (
        768 * 128 + 128 * 3 * 768 * 2048,
        768 * 128 + 3 * 768 * 2048,
        32128 * 768 + (12 + 2 * 12) * 4 * 768**2 + 12 * 3 * 768 * 2048,  # the decoder has two attentions a layer
    ),
    "Mixtral 8x7B": (
        4096 * 8 + 8 * 3 * 4096 * 14336,
        4096 * 8 + 2 * 3 * 4096 * 14336,
        2 * 32000 * 4096 + 32 * (2 * 4096**2 + 2 * 4096 * 1024),
    ),
    "OLMoE-1B-7B": (
        2048 * 64 + 64 * 3 * 2048 * 1024,
        2048 * 64 + 8 * 3 * 2048 * 1024,
        2 * 50304 * 2048 + 16 * 4 * 2048**2,
    ),
    "DeepSeek-V3": (
        7168 * 256 + 257 * 3 * 7168 * 2048,
        7168 * 256 + 9 * 3 * 7168 * 2048,
        2 * 129280 * 7168
        + 3 * 3 * 7168 * 18432
        + 61 * (7168 * (1536 + 576) + 1536 * 128 * 192 + 512 * 128 * 256 + 128 * 128 * 7168),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_layers_of_published_models_are_those_counted_by_hand(calculator, name):
    model, (total, active, rest) = MODELS[name], BY_HAND[name]
    layer = {number: model[number] for number in ("d_model", "d_hidden", "n_experts", "k")}
    ours = calculator(f"w.costs({json.dumps(layer | {'capacity_factor': 1.25, 'n_tokens': 4096})})")
    assert (ours["total"], ours["active"], ours["perToken"]) == (total, active, 2 * active)
    assert f"<td>{total:,}</td>" in ExpertCalculator(**layer)._fallback()
    # what the paper says, rounded as it is there, is such layers and the rest
    assert model["layers"] * total / 1e9 + rest / 1e9 == pytest.approx(model["total"], rel=0.01)
    assert model["layers"] * active / 1e9 + rest / 1e9 == pytest.approx(model["active"], rel=0.13)
    said = calculator(f"w.said({json.dumps(name)}, {json.dumps({'total': total, 'active': active})})")
    assert f"{model['layers']} such layers" in said and f"of {model['total']} billion" in said
    assert said.endswith(f"the rest: {model['rest']}. {model['source']}")


def test_large_numbers_are_written_short(calculator):
    found = calculator("[7, 640, 999.6, 1000, 526336, 4196352, 999999999, 1.5e13].map(w.short)")
    assert found == ["7 ", "640 ", "1.00 k", "1.00 k", "526 k", "4.20 M", "1.00 G", "15.0 T"]


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("d_model", 8, "an integer from 16 to 8192"),
        ("d_hidden", 64.0, "an integer from 16 to 16384"),
        ("n_experts", 4, "an integer from 8 to 256"),
        ("k", 9, "an integer from 1 to 8"),
        ("capacity_factor", 0.1, "a number from 0.5 to 4"),
        ("n_tokens", None, "an integer from 64 to 65536"),
    ],
)
def test_the_calculator_refuses_by_name(argument, value, allowed):
    refuses(ExpertCalculator, {argument: value}, [argument, allowed, repr(value)])


def test_the_calculator_in_python(calculator):
    widget = ExpertCalculator(64, 128, k=2)
    assert repr(widget) == "ExpertCalculator(64, 128, n_experts=8, k=2)"
    moves_to(widget, "n_experts", 16)
    moves_to(widget, "capacity_factor", 1.5)
    layer = {name: getattr(widget, name) for name in LAYERS[0]}
    ours = calculator(f"w.costs({json.dumps(layer)})")
    for name in ("total", "active", "bytes", "perToken"):
        assert f"<td>{ours[name]:,}</td>" in widget._fallback()
