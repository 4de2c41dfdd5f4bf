"""What a graph takes whole, what torch.func transforms, and how often a device is waited for."""

import copy
import shutil
from functools import partial

import pytest
import torch
from elsewhere import DEVICE, Elsewhere
from properties import gradient, normal
from torch import nn
from torch.func import grad, jacrev, vmap
from ways import WAYS

from lecture_lib import choice, estimators, exits, mixture, models, moe, patches, simplex, skipping
from lecture_lib.adapters import Adapter, LoRA, MixtureOfAdapters, by_task

# dynamo and inductor warn of what they do themselves
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
single = partial(normal, dtype=torch.float32)
S, X = single(1, 4, 3), single(2, 2, 5, 8)  # scores of four tokens, two examples
MASK, KEPT = torch.tensor([True, False, True, True]), torch.tensor([[1, 1, 0, 1, 0], [1, 0, 1, 1, 1.0]])
top = partial(choice.top_k, k=2)


def target(s):
    return s.detach().sin().argmax(-1)


LOSSES = {  # scalars, of scores (N, 3) and perhaps of a mask
    "fenchel_young_loss": lambda s: simplex.fenchel_young_loss(s, target(s)).sum(),
    "fenchel_young_loss, 1": lambda s: simplex.fenchel_young_loss(s, target(s), 1).sum(),
    "fenchel_young_loss, 2": lambda s: simplex.fenchel_young_loss(s, s.detach().sin().softmax(-1), 2).sum(),
    "surrogate": lambda s: estimators.surrogate(s.square().sum(-1), s[:, 0].sin(), 0.3).sum(),
    "leave_one_out": lambda s: estimators.surrogate(s[:, 0], s[:, 1], estimators.leave_one_out(s[:, 0])).sum(),
    "exact_expectation": lambda s: estimators.exact_expectation(lambda z: z.square().sum(-1), s).sum(),
    "squared_cv": lambda s: moe.squared_cv(s.exp().sum(0)),
    "expected_cost": lambda s: exits.expected_cost(choice.stick_breaking(s), [1, 2, 3, 4]).sum(),
    "sequence_balance_loss": lambda s, mask=None: moe.sequence_balance_loss(top(s), mask=mask),
    "load_balance_loss": lambda s, mask=None: moe.load_balance_loss(top(s), mask=mask),
    "importance_loss": lambda s, mask=None: moe.importance_loss(top(s), mask=mask),
    "router_z_loss": lambda s, mask=None: moe.router_z_loss(top(s), mask=mask),
    "noisy_load": lambda s, mask=None: moe.squared_cv(moe.noisy_load(s, s + s.sin(), s.exp(), 2, mask=mask)),
    "local_entropy": lambda s, mask=None: moe.local_entropy(s.softmax(-1), mask=mask),
    "global_entropy": lambda s, mask=None: moe.global_entropy(s.softmax(-1), mask=mask),
    "global_entropy, 1": lambda s, mask=None: moe.global_entropy(s.softmax(-1), 1.05, mask=mask),
    "usage_loss": lambda s, mask=None: patches.usage_loss(s.sigmoid(), 0.5, mask=mask),
    "predictor_loss": lambda s, mask=None: skipping.predictor_loss(s[:, 0], choice.argmax(s), mask=mask),
    "joint_loss": lambda s, mask=None: exits.joint_loss(torch.stack([s, 2 * s]), target(s), mask=mask),
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
every_loss = pytest.mark.parametrize("loss", LOSSES)


def places():
    """Functions of tensors, and these."""
    torch.manual_seed(0)
    block, gate = models.Block(8, 2), patches.Gate(8, 2, choice.gumbel_softmax)
    selector = patches.PatchSelector(8, choice.gumbel_softmax)
    adapters, base = [Adapter(8, 2) for _ in range(3)], nn.Linear(8, 8)
    mixed = MixtureOfAdapters(base, adapters, partial(choice.top_k, k=1))
    lora = LoRA(copy.deepcopy(base), 2)
    for changed in (lora.B, *(adapter.up.weight for adapter in adapters)):
        nn.init.normal_(changed)
    bias, router = moe.BalanceBias(3, 2), moe.NoisyRouter(8, 3)
    groups = {"limit": partial(moe.within_groups, n_groups=2, k_groups=1)}
    third = moe.BalanceBias(4, 2, score=torch.sigmoid, normalise=True, scale=2.5, **groups)
    layers = {
        "MoE": moe.MoE(8, 16, 4, moe.switch),
        "MoE, SwiGLU, shared": moe.MoE(8, 16, 4, top, gated=True, bias=True, n_shared=1),
        "MoE, no aligned rows": moe.MoE(8, 7, 4, choice.softmax, bias=True),
        "MoE, capacity": moe.MoE(8, 16, 4, top, 0.8),
        "MoE, DeepSeek-V3's": moe.MoE(8, 16, 4, third),
        "SoftMoE": moe.SoftMoE(8, 16, 4),
    }
    net = exits.EarlyExitNet([nn.Linear(8, 8), nn.Linear(8, 8)], [nn.Linear(8, 3), nn.Linear(8, 3)])
    branching = exits.DifferentiableBranching(net, [nn.Linear(8, 1)])
    return (
        {
            "masked": (partial(patches.masked, block), X, KEPT),
            "Gate": (lambda x: gate(x)[0], X),
            "Gate, mask": (lambda x, mask: gate(x, mask)[0], X, KEPT > 0),
            "PatchSelector, mask": (lambda x, mask: selector(x, mask=mask)[0], X, KEPT >= 0),
            "LoRA": (lora, X),
            "Adapter": (adapters[0], X),
            "mix of adapters": (lambda x: base(x) + mixture.mix(x, top(x[..., :3]).weights, mixed.changes), X),
            "MixtureOfAdapters": (lambda x: mixed(x)[0], X),
            "MixtureOfAdapters, mask": (lambda x, mask: mixed(x, mask=mask)[0], X, KEPT > 0),
            "by_task": (lambda task: by_task(task, 3).weights, target(S)),
            "hashed": (lambda ids: moe.hashed(ids, 3).weights, target(S)),
            "BalanceBias": (lambda s: bias.update(bias(s)) or bias(s).weights, S),
            "NoisyRouter": (router, X),
            "CosineRouter": (moe.CosineRouter(8, 3), X),
            "DifferentiableBranching": (lambda x: branching(x)[0], X[0]),
            "stick_breaking": (lambda s: choice.stick_breaking(s).weights, S),
            "expert_load": (lambda s, mask: moe.expert_load(top(s), mask=mask), S, MASK),
            "within_capacity": (lambda s: moe.within_capacity(top(s), 0.8).weights, S),
            "within_capacity, mask": (
                lambda s, mask: moe.within_capacity(top(s), 0.8, batch_priority=True, mask=mask).weights,
                S,
                MASK,
            ),
            "temperature": (lambda s, t: choice.gumbel_softmax(s, t).weights, S, torch.tensor(0.5)),
            "std": (lambda s, std: choice.noisy_top_k(s, 2, std).weights, S, S.exp()),
            "entmax, 1.3": (lambda s: simplex.entmax(s, 1.3), S),
            "entmax, long rows": (lambda s: simplex.entmax(s), single(3, 2, 100)),
            "long rows": (lambda s: choice.top_k(s, 3).weights, single(3, 2, 3000)),
        }
        | {name: (lambda x, layer=layer: layer(x)[0], X) for name, layer in layers.items()}
        | {
            "MoE, mask": (lambda x, mask, layer=layers["MoE"]: layer(x, mask=mask)[0], X, KEPT > 0),
        }
        | {
            f"{choose.__name__}, mask": (lambda s, mask, choose=choose: choose(s, mask=mask).weights, S, MASK)
            for choose in (moe.gshard, moe.expert_choice, moe.balanced, moe.base)
        }
    )


PLACES = sorted(places())


def compiled(fn, **options):
    torch._dynamo.reset()
    return torch.compile(fn, fullgraph=True, **{"backend": "aot_eager", "dynamic": False} | options)


def same(fn, graph, *args):
    """Value and gradient, to the bit."""
    results = []
    for f in (fn, graph):
        torch.manual_seed(0)
        x = args[0].clone().requires_grad_(args[0].is_floating_point())
        y = f(x, *args[1:])
        slopes = torch.linspace(-1, 2, y.numel()).reshape(y.shape)
        results.append([y, *(torch.autograd.grad((y * slopes).sum(), x) if y.requires_grad else ())])
    assert len(results[0]) == len(results[1]) and all(map(torch.equal, *results))


def told(way):
    """Weights and log-probability of its choice."""

    def fn(s):
        made = way(s)
        return torch.cat([made.weights, made.log_prob[..., None]], -1)

    return fn


# ---- graphs


@every_way
def test_a_graph_takes_every_way_to_choose_whole(way):
    same(told(way), compiled(told(way)), S)


@every_loss
def test_a_graph_takes_every_loss_whole(loss):
    same(LOSSES[loss], graph := compiled(LOSSES[loss]), S)
    if "mask" in LOSSES[loss].__code__.co_varnames:
        for mask in (MASK, torch.zeros_like(MASK)):
            same(LOSSES[loss], graph, S, mask)


@pytest.mark.parametrize("place", PLACES)
def test_a_graph_takes_every_place_whole(place):
    fn, *args = places()[place]
    same(fn, compiled(places()[place][0]), *args)


@pytest.mark.parametrize("way", ["top_k", "entmax"])
def test_a_graph_that_is_compiled_in_earnest_gives_the_same_numbers(way):
    compiler = (
        any(map(shutil.which, ("c++", "g++", "clang++"))) and " " not in torch.__file__
    )  # which inductor cannot link
    graph = compiled(fn := told(WAYS[way]), backend="inductor" if compiler else "aot_eager")
    torch.testing.assert_close(graph(S), fn(S))
    torch.testing.assert_close(gradient(graph, S), gradient(fn, S))


@pytest.mark.parametrize("way", ["noisy_top_k", "gshard"])
def test_one_graph_for_any_number_of_rows(way):
    graph = compiled(fn := told(WAYS[way]), dynamic=True)
    for n in (7, 9):
        same(fn, graph, single(0, n, 4))


def test_a_graph_makes_a_training_step():
    gate = patches.Gate(8, 1, choice.sample)

    def step(x):
        kept, chosen = gate(x)
        return estimators.surrogate((kept.mean((1, 2)) - 0.5).square(), chosen.log_prob.sum((1, 2))).mean()

    same(step, compiled(step), X)


@pytest.mark.parametrize("layer", [place for place in PLACES if place.startswith(("MoE", "SoftMoE"))])
def test_an_exported_layer_computes_the_same_for_other_tokens(layer):
    fn, x, *mask = places()[layer]
    module = fn.__defaults__[0].eval()
    with torch.no_grad():
        exported = torch.export.export(module, (x,), {"mask": mask[0]} if mask else {}).module()
        for rows in (x, x.sin()):
            torch.testing.assert_close(exported(rows, **({"mask": mask[0]} if mask else {}))[0], fn(rows, *mask))


# ---- torch.func


@every_way
def test_every_way_can_be_mapped_and_each_sample_has_its_gradient(way):
    samples = single(0, 5, 4, 3)
    slopes, options = single(4, 4, 4), {"randomness": "different"} if way.noisy else {}

    def loss(s):
        return (told(way)(s) * slopes).sum()

    y, g = vmap(told(way), **options)(samples), vmap(grad(loss), **options)(samples)
    assert y.isfinite().all() and g.isfinite().all() and g.shape == samples.shape
    if not way.noisy:
        torch.testing.assert_close(y, torch.stack([told(way)(s) for s in samples]))
        torch.testing.assert_close(g, torch.stack([gradient_of(loss, s) for s in samples]))


def gradient_of(loss, s):
    value = loss(leaf := s.clone().requires_grad_())
    return torch.autograd.grad(value, leaf)[0] if value.requires_grad else torch.zeros_like(s)


@every_loss
def test_every_loss_can_be_mapped_and_each_sample_has_its_gradient(loss):
    samples, fn = single(0, 5, 4, 3), LOSSES[loss]
    torch.testing.assert_close(vmap(fn)(samples), torch.stack([fn(s) for s in samples]))
    torch.testing.assert_close(vmap(grad(fn))(samples), torch.stack([gradient_of(fn, s) for s in samples]))


@pytest.mark.parametrize("alpha", [1.3, 1.5, 2, 2.5])
def test_entmax_in_transforms_of_transforms(alpha):
    s, fn = normal(0, 5, 3, 4), partial(simplex.entmax, alpha=alpha, dim=0)
    torch.testing.assert_close(vmap(fn, in_dims=1, out_dims=1)(s), torch.stack([fn(r) for r in s.unbind(1)], 1))
    twice = torch.autograd.functional.jacobian
    wanted = twice(lambda x: twice(fn, x, create_graph=True), s[0])
    torch.testing.assert_close(jacrev(jacrev(fn))(s[0]), wanted)
    for target in (torch.tensor([0, 2, 1]), normal(1, 3, 4).softmax(-1)):  # here, unlike the scores, not mapped
        loss = partial(simplex.fenchel_young_loss, target=target, alpha=alpha)
        torch.testing.assert_close(vmap(loss)(s), torch.stack([loss(x) for x in s]))


# ---- values that no one looks at


@every_way
def test_where_no_one_looks_nan_goes_in_and_comes_out(way, monkeypatch):
    bad = S.repeat(2, 1)
    bad[1, 1], bad[2, 0], bad[3] = torch.nan, torch.inf, -torch.inf
    with pytest.raises(ValueError, match="logits"):
        way(bad)
    monkeypatch.setattr(simplex, "CHECKED", set())
    seen = way(bad).weights.isnan()
    assert seen[1:4].all() and (not seen[[0, *range(4, 8)]].any() or not way.alone)
    assert torch.equal(way.seeded()(S).weights, monkeypatch.undo() or way.seeded()(S).weights)


def test_where_no_one_looks_wrong_classes_do_not_pass(monkeypatch):
    monkeypatch.setattr(simplex, "CHECKED", set())
    for refused in (
        lambda: by_task(torch.tensor([3]), 3),
        lambda: simplex.fenchel_young_loss(S[:1], torch.tensor([3])),
    ):
        with pytest.raises(RuntimeError, match="out of bounds"):
            refused()


def waits(fn, *args):
    """For how many values, forward and backward, a device is waited for."""
    with Elsewhere() as there:
        args = [arg.to(DEVICE) for arg in args]
        x = args[0].detach().requires_grad_(args[0].is_floating_point())
        there.waits.clear()
        y = fn(x, *args[1:])
        if y.requires_grad:
            y.sum().backward()
        return len(there.waits)


# Nothing is waited for but these: `base` is solved on the processor, a list of numbers is sent to the device, Newton's
# method looks whether it is there, and an index by a mask is waited for twice, forward and backward.
PATIENT = {"base": 2, "joint_loss": 1, "expected_cost": 1, "entmax, 1.3": 4, "entmax, long rows": 1}
PATIENT |= {"noisy_load, mask": 6, "predictor_loss, mask": 3, "joint_loss, mask": 3}
PATIENT |= {"sequence_balance_loss, mask": 0}
PATIENT |= {f"{choose}, mask": 1 for choose in ("gshard", "expert_choice", "balanced")} | {"base, mask": 3}
PATIENT |= {"MoE": 1, "MoE, SwiGLU, shared": 1, "MoE, DeepSeek-V3's": 1, "MoE, capacity": 2, "MoE, mask": 2}
PATIENT |= {"MoE, no aligned rows": 3}  # each product asks for the sizes of its groups
PATIENT |= {"within_capacity": 1, "within_capacity, mask": 1, "MixtureOfAdapters": 3, "MixtureOfAdapters, mask": 3}


@pytest.mark.parametrize("way", sorted(set(WAYS) - {"BalanceBias"}))
def test_no_way_to_choose_waits_for_the_device(way):
    assert waits(told(WAYS[way]), S) == PATIENT.get(way, 0)


@every_loss
def test_no_loss_waits_for_the_device_but_for_a_mask(loss):
    assert waits(LOSSES[loss], S) == PATIENT.get(loss, 0)
    if "mask" in LOSSES[loss].__code__.co_varnames:
        assert waits(LOSSES[loss], S, MASK) == PATIENT.get(f"{loss}, mask", 2)


@pytest.mark.parametrize("place", PLACES)
def test_no_place_waits_for_the_device_without_need(place):
    fn, *args = places()[place]
    with Elsewhere():
        cells = [c.cell_contents for c in getattr(fn, "__closure__", None) or ()]
        for cell in (fn, *cells, *(getattr(fn, "__defaults__", None) or ())):
            for module in (cell, *getattr(cell, "args", ())):
                if isinstance(module, nn.Module):
                    module.to(DEVICE)
    assert waits(fn, *args) == PATIENT.get(place, 0)
