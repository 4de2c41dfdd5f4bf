"""Adapters: against matrices written out, against peft, and to the bit where that is promised."""

import copy
from functools import partial

import peft
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lecture_lib.adapters import Adapter, LoRA, MixtureOfAdapters, add_loras, by_task, concatenate, merge_lora
from lecture_lib.choice import argmax, softmax, top_k
from lecture_lib.cost import count_flops
from lecture_lib.mixture import mix

D, D_OUT, R = 12, 7, 3


def lora(linear=None, rank=R, **options):
    """A LoRA that has learnt something: its B is not zero."""
    layer = LoRA(nn.Linear(D, D_OUT) if linear is None else linear, rank, **options)
    nn.init.normal_(layer.B)
    return layer


def bottleneck(d_model=D, d_bottleneck=R):
    adapter = Adapter(d_model, d_bottleneck)
    nn.init.normal_(adapter.up.weight)
    return adapter


# One adapter


def test_lora_is_the_layer_plus_a_product_of_two_matrices():
    layer, x = lora(alpha=6), torch.randn(2, 5, D)
    weight = layer.base.weight + 6 / R * layer.B @ layer.A
    torch.testing.assert_close(layer(x), F.linear(x, weight, layer.base.bias))
    torch.testing.assert_close(layer.change(x), layer(x) - layer.base(x))


@pytest.mark.parametrize("bias", [True, False])
def test_at_the_start_an_adapter_changes_nothing_and_can_learn(bias):
    linear, x = nn.Linear(D, D_OUT, bias=bias), torch.randn(4, D)
    before = linear(x)
    layer, adapter = LoRA(linear, R), Adapter(D, R)
    assert torch.equal(layer(x), before) and torch.equal(adapter(x), x)
    (layer(x).sum() + adapter(x).square().sum()).backward()
    assert layer.B.grad.abs().sum() > 0 and adapter.up.weight.grad.abs().sum() > 0
    assert linear.weight.grad is None and not linear.weight.requires_grad  # the base is frozen


def test_rank_r_costs_r_times_the_two_sides():
    layer, x = lora(), torch.randn(10, D)
    assert sum(w.numel() for w in (layer.A, layer.B)) == R * (D + D_OUT)
    assert count_flops(layer, x) - count_flops(layer.base, x) == 2 * 10 * R * (D + D_OUT)


def test_merging_gives_the_same_function_for_the_cost_of_the_base():
    layer, x = lora(alpha=6), torch.randn(10, D)
    y, cost = layer(x), count_flops(layer.base, x)
    plain = merge_lora(layer)
    assert type(plain) is nn.Linear and layer.merged is None
    torch.testing.assert_close(plain(x), y)
    layer.merge()
    assert torch.equal(layer(x), plain(x)) and count_flops(layer, x) == cost == count_flops(plain, x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_unmerging_restores_weight_and_output_to_the_bit(dtype):
    layer, x = lora(nn.Linear(D, D_OUT, dtype=dtype)), torch.randn(10, D, dtype=dtype)
    weight, y, state = layer.base.weight.clone(), layer(x), copy.deepcopy(layer.state_dict())
    for _ in range(3):
        layer.merge()
        assert not torch.equal(layer(x), y)
        assert layer.state_dict().keys() == state.keys()  # what is saved does not depend on being merged
        layer.unmerge()
    assert torch.equal(layer.base.weight, weight) and torch.equal(layer(x), y)


def test_a_merged_copy_is_of_its_own():
    layer = lora()
    plain = merge_lora(layer)
    weight = plain.weight.clone()
    with torch.no_grad():
        layer.B.zero_(), layer.base.weight.zero_(), layer.base.bias.zero_()
    assert torch.equal(plain.weight, weight) and plain.bias.abs().sum() > 0 and plain.weight.requires_grad


def test_concatenated_ranks_are_the_weighted_sum_and_averaged_factors_are_not():
    linear, x, weights = nn.Linear(D, D_OUT), torch.randn(5, D), [0.5, 2.0, -1.0]
    several = [lora(linear, rank, alpha=alpha) for rank, alpha in ((1, 3), (3, 3), (2, 1))]
    total = concatenate(several, weights)
    wanted = sum(w * one.change(x) for w, one in zip(weights, several, strict=True))
    torch.testing.assert_close(total.change(x), wanted)
    assert total.base is linear and len(total.A) == 6
    torch.testing.assert_close(concatenate(several).change(x), sum(one.change(x) for one in several))
    a, b = lora(linear), lora(linear)
    product_of_means = (a.B + b.B) / 2 @ ((a.A + b.A) / 2)
    mean_of_products = (a.B @ a.A + b.B @ b.A) / 2
    assert (product_of_means - mean_of_products).norm() > 0.3 * mean_of_products.norm()


def test_lora_is_the_one_of_peft():
    """Forward, merged weight and weighted sum by concatenation, for two adapters of one layer."""
    net, x = nn.Sequential(nn.Linear(D, D_OUT)), torch.randn(5, D)
    config = partial(peft.LoraConfig, target_modules=["0"], init_lora_weights=False)
    theirs = peft.get_peft_model(copy.deepcopy(net), config(r=3, lora_alpha=6), adapter_name="first")
    theirs.add_adapter("second", config(r=2, lora_alpha=1))
    layer = theirs.base_model.model[0]
    ours = {"first": LoRA(net[0], 3, alpha=6), "second": LoRA(net[0], 2, alpha=1)}
    close = partial(torch.testing.assert_close, atol=1e-6, rtol=1e-6)
    for name, mine in ours.items():
        mine.load_state_dict(
            {"A": layer.lora_A[name].weight, "B": layer.lora_B[name].weight}, strict=False
        )  # but for the base, which they share
        theirs.set_adapter(name)
        close(mine(x), theirs(x))
        close(merge_lora(mine).weight, layer.weight + layer.get_delta_weight(name))
    theirs.add_weighted_adapter(["first", "second"], [0.7, 0.3], "both", combination_type="cat")
    theirs.set_adapter("both")
    close(concatenate(list(ours.values()), [0.7, 0.3])(x), theirs(x))
    merged = theirs.merge_and_unload()
    close(merge_lora(concatenate(list(ours.values()), [0.7, 0.3])).weight, merged[0].weight)


# Mixtures


def mixture(choose=softmax, n=4, **options):
    linear = nn.Linear(D, D_OUT)
    return MixtureOfAdapters(linear, [lora(linear) for _ in range(n)], choose, **options)


def test_loras_beside_every_linear_layer_change_nothing_until_they_learn():
    model = nn.Sequential(
        nn.Embedding(5, 8), nn.Sequential(nn.Linear(8, 6), nn.ReLU()), nn.LayerNorm(6), nn.Linear(6, 3)
    )
    x, before = torch.arange(5), copy.deepcopy(model)
    loras = add_loras(model, 2, alpha=4)
    assert torch.equal(model(x), before(x))
    assert loras == [model[1][0], model[3]] and all(isinstance(lora, LoRA) and lora.scale == 2 for lora in loras)
    learning = {name for name, w in model.named_parameters() if w.requires_grad}
    assert learning == {"1.0.A", "1.0.B", "3.A", "3.B"}
    model(x).square().sum().backward()
    assert all(lora.B.grad.abs().sum() > 0 for lora in loras) and model[0].weight.grad is None
    with pytest.raises(ValueError, match=r"model must hold a torch.nn.Linear, got Sequential with none inside"):
        add_loras(model, 2)  # all have one
    with pytest.raises(ValueError, match="rank must be an integer of at least 1, got 0"):
        add_loras(before, 0)


def test_a_mixture_is_the_base_and_a_weighted_sum_of_changes():
    layer, x = mixture(), torch.randn(2, 5, D)
    y, choice = layer(x)
    z = layer.router(x).softmax(-1)
    wanted = layer.base(x) + sum(z[..., k, None] * layer.adapters[k].change(x) for k in range(4))
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(choice.weights, z)


def test_one_choice_per_example_is_the_same_for_all_its_tokens():
    class Mean(nn.Linear):
        def forward(self, x):
            return super().forward(x.mean(1))

    layer, x = mixture(argmax, router=Mean(D, 4)), torch.randn(6, 5, D)
    y, choice = layer(x)
    assert choice.weights.shape == (6, 4)
    for n in range(6):
        k = choice.weights[n].argmax()
        torch.testing.assert_close(y[n], layer.base(x[n]) + layer.adapters[k].change(x[n]))


def test_behind_a_layer_a_mixture_of_bottlenecks_is_a_mixture_of_layers():
    layer = MixtureOfAdapters(nn.Identity(), [bottleneck() for _ in range(3)], partial(top_k, k=2))
    x = torch.randn(8, D)
    y, choice = layer(x)
    torch.testing.assert_close(y, mix(x, choice.weights, layer.adapters))


def test_only_chosen_adapters_run_and_the_others_learn_nothing():
    layer, x = mixture(), torch.randn(20, D)
    task = torch.tensor([0, 2]).repeat(10)
    base, one = count_flops(layer.base, x), 2 * 20 * R * (D + D_OUT)
    assert count_flops(layer, x, by_task(task, 4)) == base + one  # twenty examples, one adapter each
    ran = []
    for k, adapter in enumerate(layer.adapters):
        adapter.change = lambda x, k=k, adapter=adapter: ran.append((k, len(x))) or LoRA.change(adapter, x)
    y, _ = layer(x, by_task(task, 4))
    assert ran == [(0, 10), (2, 10)]
    y.sum().backward()
    assert [adapter.B.grad is not None for adapter in layer.adapters] == [True, False, True, False]


def test_a_new_adapter_does_not_touch_the_others_to_the_bit():
    layer, x = mixture(n=3), torch.randn(30, D)
    old = torch.arange(3).repeat(10)
    before = layer(x, by_task(old, 3))[0]
    layer.adapters.append(LoRA(layer.base, 5))
    new = torch.full((30,), 3)
    assert torch.equal(layer(x, by_task(new, 4))[0], layer.base(x))  # it starts as the base
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        layer(x, by_task(new, 4))[0].square().mean().backward()
        optimizer.step()
    assert not torch.equal(layer(x, by_task(new, 4))[0], layer.base(x))
    assert torch.equal(layer(x, by_task(old, 4))[0], before)


def test_merging_one_adapter_leaves_the_others_of_the_same_layer_alone():
    layer, x = mixture(), torch.randn(10, D)
    y = layer(x)[0]
    layer.adapters[1].merge()
    assert torch.equal(layer(x)[0], y)


def test_by_task_is_one_hot():
    choice = by_task(torch.tensor([[2, 0], [1, 1]]), 3)
    assert choice.weights.tolist() == [[[0, 0, 1], [1, 0, 0]], [[0, 1, 0], [0, 1, 0]]]
    assert torch.equal(choice.logits.softmax(-1), choice.weights) and choice.log_prob.shape == (2, 2)


# Bad input


def test_bad_input_is_told():
    linear = nn.Linear(D, D_OUT)
    for rank in (0, -1, 1.5):
        with pytest.raises(ValueError, match=f"rank must be an integer of at least 1, got {rank}"):
            LoRA(linear, rank)
    for alpha in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"alpha must be a finite number > 0, got {alpha}"):
            LoRA(linear, R, alpha=alpha)
    for layer in (nn.Conv2d(1, 1, 1), nn.Sequential(linear), LoRA(linear, R)):
        with pytest.raises(TypeError, match=f"linear must be a torch.nn.Linear, got {type(layer).__name__}"):
            LoRA(layer, R)
    with pytest.raises(TypeError, match="lora must be a LoRA, got Linear"):
        merge_lora(linear)
    with pytest.raises(ValueError, match="d_bottleneck must be an integer of at least 1, got 0"):
        Adapter(D, 0)
    for layer in (lora(), bottleneck()):
        with pytest.raises(ValueError, match=r"x must have shape \(\.\.\., 12\), got \(3, 5\)"):
            layer.change(torch.randn(3, 5))


def test_merging_twice_and_unmerging_what_is_not_merged_are_refused():
    layer, x = lora(), torch.randn(4, D)
    y = layer(x)
    with pytest.raises(RuntimeError, match=r"unmerge\(\) needs a LoRA that is merged, and this one is not"):
        layer.unmerge()
    layer.merge()
    with pytest.raises(RuntimeError, match=r"merge\(\) needs a LoRA that is not merged, and this one is"):
        layer.merge()
    layer.unmerge()
    assert torch.equal(layer(x), y)


def test_weights_are_not_loaded_into_what_is_merged():
    """The product from before would stay in use, without a word."""
    layer, x, state = lora(), torch.randn(4, D), lora().state_dict()
    net = nn.Sequential(layer)
    layer.merge()
    y = layer(x)
    for module, its_state in ((layer, state), (net, {f"0.{name}": value for name, value in state.items()})):
        with pytest.raises(RuntimeError, match=r"load_state_dict\(\) needs a LoRA that is not merged, .* unmerge\(\)"):
            module.load_state_dict(its_state)
        assert torch.equal(layer(x), y)
    layer.unmerge()
    layer.load_state_dict(state)
    assert torch.equal(layer(x), F.linear(x, state["base.weight"], state["base.bias"]) + layer.change(x))


def test_adapters_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="loras must be at least one, and all of the same layer, got 0"):
        concatenate([])
    with pytest.raises(ValueError, match="all of the same layer, got 2"):
        concatenate([lora(), lora()])
    one = lora()
    for weights in ([1.0, 2.0], [float("nan")]):
        with pytest.raises(ValueError, match="weights must be 1 finite numbers"):
            concatenate([one], weights)
    linear = nn.Linear(D, D_OUT)
    with pytest.raises(ValueError, match="adapters must hold at least one"):
        MixtureOfAdapters(linear, [], softmax)
    with pytest.raises(TypeError, match=r"adapters\[1\] is a Linear"):
        MixtureOfAdapters(linear, [lora(linear), nn.Linear(D, D_OUT)], softmax)
    with pytest.raises(ValueError, match=r"adapters\[1\] is one of another layer"):
        MixtureOfAdapters(linear, [lora(linear), lora()], softmax)
    with pytest.raises(ValueError, match=r"shape of base\(x\), \(2, 7\), got \(2, 12\)"):
        MixtureOfAdapters(linear, [Adapter(D, R)], softmax)(torch.randn(2, D))


@pytest.mark.parametrize("task", [-1, 4, 100])
def test_a_task_that_nobody_knows_is_refused(task):
    with pytest.raises(ValueError, match=f"task must be from 0 to 3, a task that has an adapter, got {task}"):
        by_task(torch.tensor([0, 3, task]), 4)


@pytest.mark.parametrize("task", [torch.zeros(3), torch.ones(3, dtype=torch.bool), [0, 1]])
def test_a_task_is_a_tensor_of_integers(task):
    with pytest.raises(TypeError, match="task must be a tensor of integers, got"):
        by_task(task, 4)


def test_a_choice_among_too_few_or_for_another_batch_is_refused():
    layer = mixture()
    with pytest.raises(ValueError, match=r"x must have shape \(\.\.\., 12\), got \(6, 5\)"):
        layer(torch.randn(6, 5))
    with pytest.raises(ValueError, match="logits must be"):
        layer(torch.full((6, D), torch.nan))
    layer.adapters.append(lora(layer.base))  # and the router was not told
    with pytest.raises(ValueError, match=r"weights \(\*batch, 5\), .* x \(6, 12\) on cpu, got \(6, 4\)"):
        layer(torch.randn(6, D))
    with pytest.raises(ValueError, match=r"got \(7, 5\)"):
        layer(torch.randn(6, D), by_task(torch.zeros(7, dtype=torch.long), 5))
