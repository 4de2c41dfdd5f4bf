"""Experts in every dtype, under autocast, in both modes, with a mask, in every size, and on another device.

What is held, for each entry of `FUNCTIONS` and `LAYERS` at each point of the grid:

    value and gradient   those in float64 (where noise is drawn, float32) of the same numbers, within 8 roundings of
                         the coarser dtype
    dtype                of a choice or plan that of its logits, of a loss or load float32 at least; of a layer's logits
                         and weights float32 at least, of its y what nn.Linear returns there
    mask                 what counts is as if the rest, here NaN, were cut out, to the bit (`SoftMoE`: in value); the
                         rest is 0 and gets no gradient
    mode                 twice the same in evaluation mode, to the bit
    device               all beside the input, no operation on both devices
"""

import copy
from functools import partial
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from elsewhere import DEVICE, Elsewhere

from lecture_lib import moe
from lecture_lib.choice import Choice, gumbel_softmax, noisy_top_k, softmax, top_k
from lecture_lib.pretrained.limoe import LIMoE, contrastive_loss, draw_pairs, entropy_losses, modality_share, retrieval
from lecture_lib.specialise import extract, information, needed_experts, swap_experts

D, H = 8, 16
PRECISIONS = {  # of the network, of autocast
    "float64": (torch.float64, None),
    "float32": (torch.float32, None),
    "bfloat16": (torch.bfloat16, None),
    "float16": (torch.float16, None),
    "float32, autocast to bfloat16": (torch.float32, torch.bfloat16),
    "float32, autocast to float16": (torch.float32, torch.float16),
    "float64, autocast to bfloat16": (torch.float64, torch.bfloat16),
    "bfloat16, autocast to bfloat16": (torch.bfloat16, torch.bfloat16),
}
SIZES = [((0,), 5), ((), 5), ((1,), 1), ((7,), 5), ((2, 0), 5), ((3, 5), 4)]  # leading shape, E


class Held(NamedTuple):
    compute: object  # FUNCTIONS: logits, and a mask as keyword -> tensor. LAYERS: E -> layer
    mask: bool = True  # does it take one?
    own_dtype: bool = False  # FUNCTIONS: the dtype of the logits?
    least: int = 1  # the smallest E that makes sense
    noisy: bool = False  # LAYERS: with noise in training mode


def as_router(s):
    return moe.switch(s, min(2, s.shape[-1]))


V3 = {
    "score": torch.sigmoid,
    "normalise": True,
    "scale": 2.5,
    "limit": partial(moe.within_groups, n_groups=1, k_groups=1),
}


def bias(s, **options):
    return moe.BalanceBias(s.shape[-1], **options).to(s.device)


FUNCTIONS = {
    "switch": Held(lambda s: as_router(s).weights, mask=False, own_dtype=True),
    "BalanceBias": Held(lambda s: bias(s)(s).weights, mask=False, own_dtype=True),
    "BalanceBias, DeepSeek-V3's": Held(lambda s: bias(s, **V3)(s).weights, mask=False, own_dtype=True),
    "equal_load": Held(lambda s: moe.equal_load(s).weights, mask=False, own_dtype=True),
    "expert_choice": Held(lambda s, **m: moe.expert_choice(s, 2, **m).weights, own_dtype=True),
    "balanced": Held(lambda s, **m: moe.balanced(s, 20, **m).weights, own_dtype=True),
    "base": Held(lambda s, **m: moe.base(s, **m).weights, own_dtype=True),
    "within_capacity": Held(
        lambda s, **m: moe.within_capacity(as_router(s.nan_to_num()), 0.7, **m).weights, own_dtype=True
    ),
    "sinkhorn": Held(lambda s, **m: moe.sinkhorn(s, 20, **m), own_dtype=True),
    "load_balance_loss": Held(lambda s, **m: moe.load_balance_loss(as_router(s.nan_to_num())._replace(logits=s), **m)),
    "sequence_balance_loss": Held(
        lambda s: moe.sequence_balance_loss(Choice(*(part[None] for part in as_router(s.reshape(-1, s.shape[-1]))))),
        mask=False,
    ),
    "importance_loss": Held(lambda s, **m: moe.importance_loss(Choice(s, s.abs(), s), **m)),
    "router_z_loss": Held(lambda s, **m: moe.router_z_loss(Choice(s, s, s), **m)),
    "local_entropy": Held(lambda s, **m: moe.local_entropy(s.abs() / 8, **m)),
    "global_entropy": Held(lambda s, **m: moe.global_entropy(s.abs() / 8, 9.0, **m)),
    "noisy_load": Held(lambda s, **m: moe.noisy_load(s, 1.5 * s, 0.5 + 0 * s, 1, **m), least=2),
    "expert_load": Held(lambda s, **m: moe.expert_load(as_router(s.nan_to_num()), **m)),
}


def noisy_router(n):
    router = moe.NoisyRouter(D, n)
    torch.nn.init.normal_(router.w_g)
    return router


LAYERS = {
    "switch": Held(lambda n: moe.MoE(D, H, n, moe.switch)),
    "top_k, capacity, biases, shared": Held(
        lambda n: moe.MoE(D, H, n, partial(top_k, k=min(2, n)), 0.8, bias=True, n_shared=2)
    ),
    "softmax, SwiGLU, no aligned rows": Held(lambda n: moe.MoE(D, 7, n, softmax, gated=True, activation=F.silu)),
    "bias, surest first": Held(lambda n: moe.MoE(D, H, n, moe.BalanceBias(n), 0.8, batch_priority=True)),
    "expert choice": Held(lambda n: moe.MoE(D, H, n, moe.expert_choice)),
    "balanced": Held(lambda n: moe.MoE(D, H, n, moe.balanced)),
    "base": Held(lambda n: moe.MoE(D, H, n, moe.base)),
    "cosine router": Held(lambda n: moe.MoE(D, H, n, moe.switch, router=moe.CosineRouter(D, n))),
    "noisy router": Held(lambda n: moe.MoE(D, H, n, moe.switch, router=noisy_router(n)), noisy=True),
    "noisy_top_k": Held(lambda n: moe.MoE(D, H, n, partial(noisy_top_k, k=1)), noisy=True),
    "gumbel_softmax": Held(lambda n: moe.MoE(D, H, n, gumbel_softmax), noisy=True),
    "gshard": Held(lambda n: moe.MoE(D, H, n, moe.gshard), noisy=True),
    "Soft MoE": Held(lambda n: moe.SoftMoE(D, H, n, 2, bias=True)),
}


def close(got, wanted, eps):
    assert got.shape == wanted.shape and got.isfinite().all()
    error, size = ((t.detach().double().abs().max() if t.numel() else 0) for t in (got.double() - wanted, wanted))
    working = 4 * min(eps, torch.finfo(torch.float32).eps)  # where large terms cancel
    assert error <= 8 * (eps * size + working), f"{error / size / eps:.3g} roundings: {got}, {wanted}"


def masks(lead, takes):
    """None, and of what counts: some, nothing."""
    yield None
    if takes:
        yield torch.rand(lead) < 0.6
        yield torch.zeros(lead, dtype=torch.bool)


def padded(x, mask):
    return x if mask is None else x.masked_fill(~mask.unsqueeze(-1), torch.nan)


def of(mask):
    return {} if mask is None else {"mask": mask}


def weighted(y):
    """A sum in which no two columns weigh the same."""
    return (y.double() * torch.linspace(-1, 2, (1, *y.shape)[-1] + 1, dtype=torch.float64)[1:]).sum()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, precision):
    (dtype, low), held = PRECISIONS[precision], FUNCTIONS[name]
    eps = torch.finfo(dtype).eps

    def run(s, mask):
        s = s.detach().clone().requires_grad_()
        with torch.autocast("cpu", low, enabled=low is not None):
            y = held.compute(s, **of(mask))
        return y, torch.autograd.grad(weighted(y), s)[0] if y.requires_grad else torch.zeros_like(s)

    for lead, n in SIZES:
        for mask in masks(lead, held.mask and lead) if n >= held.least else ():
            s = padded((2 * torch.randn(*lead, n, dtype=torch.float64)).to(dtype), mask)
            y, gradient = run(s, mask)
            wanted, wanted_gradient = run(s.double(), mask)
            assert y.dtype == (dtype if held.own_dtype else torch.promote_types(dtype, torch.float32))
            close(y, wanted, eps)
            close(gradient, wanted_gradient, eps)
            if mask is not None:
                cut, cut_gradient = run(s[mask], None)
                assert torch.equal(y[mask] if y.shape == s.shape else y, cut)
                assert torch.equal(gradient[mask], cut_gradient)
                assert not gradient[~mask].any() and (y.shape != s.shape or not y[~mask].any())


@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, precision, mode):
    (dtype, low), held = PRECISIONS[precision], LAYERS[name]
    linear, soft = torch.nn.Linear(D, D).to(dtype), name == "Soft MoE"
    eps, draw = torch.finfo(dtype if low is None or dtype == torch.float64 else low).eps, torch.Generator()

    def run(layer, x, mask):
        x = x.detach().clone().requires_grad_()
        torch.manual_seed(0)
        with torch.autocast("cpu", low, enabled=low is not None and layer is not exact):
            y, choice = layer(x, **of(mask))
            loss = weighted(y) + moe.load_balance_loss(choice, **of(mask)) + moe.router_z_loss(choice, **of(mask))
        return y, choice, torch.autograd.grad(loss, [x, *layer.parameters()], materialize_grads=True)

    for lead, n in SIZES:
        if n < held.least or (soft and not lead):
            continue
        layer = held.compute(n).to(dtype).train(mode == "training")
        # the same noise is drawn in float32 at least, not in float64
        precise = torch.promote_types(dtype, torch.float32 if held.noisy and layer.training else torch.float64)
        exact = copy.deepcopy(layer).to(precise)
        for mask in masks(lead, True):
            x = padded(torch.randn(*lead, D, generator=draw, dtype=torch.float64).to(dtype), mask)
            y, choice, gradients = run(layer, x, mask)
            wanted, wanted_choice, wanted_gradients = run(exact, x.to(precise), mask)
            with torch.autocast("cpu", low, enabled=low is not None):
                assert y.dtype == linear(x).dtype
            assert {part.dtype for part in choice} == {torch.promote_types(dtype, torch.float32)}
            close(y, wanted, eps)
            for part, wanted_part in zip(choice, wanted_choice, strict=True):
                close(part, wanted_part, torch.finfo(part.dtype).eps)
            for gradient, wanted_gradient in zip(gradients, wanted_gradients, strict=True):
                close(gradient, wanted_gradient, eps)
            if mode == "evaluation":
                assert all(map(torch.equal, [y, *choice, *gradients], [*(r := run(layer, x, mask))[:1], *r[1], *r[2]]))
            if mask is not None:
                assert not any(part[~mask].any() for part in (y, choice.weights, gradients[0]))
            if mask is not None and not soft:
                cut, cut_choice, cut_gradients = run(layer, x[mask], None)
                assert torch.equal(y[mask], cut) and torch.equal(gradients[0][mask], cut_gradients[0])
                assert all(torch.equal(part[mask], alone) for part, alone in zip(choice, cut_choice, strict=True))
                assert all(map(torch.equal, gradients[1:], cut_gradients[1:]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_elsewhere(name):
    s, mask = torch.randn(6, 5), torch.rand(6) < 0.6
    wanted = FUNCTIONS[name].compute(s, **(of(mask) if FUNCTIONS[name].mask else {}))
    with Elsewhere():
        s, there = s.to(DEVICE), {"mask": mask.to(DEVICE)} if FUNCTIONS[name].mask else {}
        step = moe.BalanceBias(5).to(DEVICE)
        step.update(step(s), **there)
        y = FUNCTIONS[name].compute(s, **there)
        assert y.device == step.bias.device == DEVICE and torch.equal(y.cpu(), wanted)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_elsewhere(name):
    layer, x, mask = LAYERS[name].compute(5).eval(), torch.randn(6, D), torch.rand(6) < 0.6
    wanted, route = layer(x, mask=mask)
    with Elsewhere():
        layer, x = layer.to(DEVICE), x.to(DEVICE).requires_grad_()
        y, choice = layer(x, mask=mask.to(DEVICE))
        y.square().sum().backward()
        layer.train()(x)[0].square().sum().backward()
        assert {t.device for t in (y, *choice, x.grad, *(w.grad for w in layer.parameters()))} == {DEVICE}
        assert torch.equal(y.cpu(), wanted) and torch.equal(choice.weights.cpu(), route.weights)


def test_what_is_measured_elsewhere():
    layer, x, label, mask = moe.MoE(D, H, 5, moe.switch), torch.randn(40, D), torch.arange(40) % 3, torch.rand(40) < 0.6
    here = layer(x)[1]
    wanted = information(here, label, generator=torch.Generator().manual_seed(0), mask=mask)
    spread = moe.representation_collapse(x, label)
    with Elsewhere():
        choice = layer.to(DEVICE)(x.to(DEVICE))[1]
        for labels in (label, label.to(DEVICE)):
            assert (
                information(choice, labels, generator=torch.Generator().manual_seed(0), mask=mask.to(DEVICE)) == wanted
            )
        assert needed_experts(choice, mask=mask.to(DEVICE)) == needed_experts(here, mask=mask)
        assert (
            extract(layer, [1, 0])(x.to(DEVICE))[0].device
            == swap_experts(layer, 0, 1)(x.to(DEVICE))[0].device
            == DEVICE
        )
        assert torch.equal(moe.representation_collapse(x.to(DEVICE), label.to(DEVICE)).cpu(), spread)


def test_images_and_captions_elsewhere():
    net, x, y = LIMoE(8, 2, 2, 4, 6).eval(), torch.rand(5, 8, 8), torch.arange(5)
    pairs, wanted = draw_pairs(x, y, size=6, generator=torch.Generator().manual_seed(0)), retrieval(net, x, y)
    with Elsewhere():
        net, x = net.to(DEVICE), x.to(DEVICE)
        for labels in (y, y.to(DEVICE)):
            assert retrieval(net, x, labels) == wanted
            drawn = draw_pairs(x, labels, size=6, generator=torch.Generator().manual_seed(0))
        assert all(torch.equal(part.cpu(), same) for part, same in zip(drawn, pairs, strict=True))
        found = net(drawn.images, drawn.captions)
        same = drawn.kind[:, None] == drawn.kind
        loss = contrastive_loss(found.images, found.captions, net.log_scale.exp(), same)
        loss = loss + entropy_losses(found.choices[0], found.is_text, 1.0)
        loss.backward()
        assert loss.device == modality_share(found.choices[0], found.is_text).device == DEVICE
