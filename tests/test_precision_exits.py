"""Exits, adapters, decoder: right in every dtype, under autocast, in both modes, with padding, in every size.

HELD is the table of what is held: for each part how it is built, what it returns for (x, mask), and in which dtype,
that of the network or float32 at least. Every test below runs down the table.
"""

import copy
import math
import pickle
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_model, save_model
from torch import nn
from torch.utils.checkpoint import checkpoint

from lecture_lib import calibration, exits
from lecture_lib.adapters import Adapter, LoRA, MixtureOfAdapters, by_task, concatenate, merge_lora
from lecture_lib.choice import Choice, gumbel_softmax, noisy_top_k, sample, softmax
from lecture_lib.pretrained import decoder
from lecture_lib.training import fit

D, C, K, V, T = 8, 3, 3, 11, 5
HALF = [torch.float16, torch.bfloat16]
NETWORK, FULL = "network", "float32 at least"


def chain(k=K):
    blocks = [nn.Sequential(nn.Linear(D, D), nn.Tanh()) for _ in range(k)]
    return exits.EarlyExitNet(blocks, [nn.Linear(D, C) for _ in range(k)])


def branching(k=K):
    return exits.DifferentiableBranching(chain(k), [nn.Linear(D, 1) for _ in range(k - 1)])


def lora(dtype, linear=None):
    layer = LoRA(nn.Linear(D, D).to(dtype) if linear is None else linear, 2, alpha=3)
    nn.init.normal_(layer.B)
    return layer


def merged(dtype):
    layer = lora(dtype)
    layer.merge()
    return layer


def bottleneck(dtype):
    layer = Adapter(D, 3)  # behind a network of this dtype, in float32 itself
    nn.init.normal_(layer.up.weight)
    return layer.double() if dtype == torch.float64 else layer


def mixture(dtype, choose=softmax, k=K):
    base = nn.Linear(D, D).to(dtype)
    layer = MixtureOfAdapters(base, [lora(dtype, base) for _ in range(k)], choose)
    return layer.double() if dtype == torch.float64 else layer


def language_model(dtype, layers=K):
    model = decoder.Decoder(D, 2, layers, n_tokens=V)
    nn.init.normal_(model.embedding.weight)
    return model.to(dtype)


def branch(net, x, mask):
    y, choice = net(x)
    cost = exits.expected_cost(choice, range(len(net.gates) + 1))
    return y, choice.weights, cost if mask is None else cost * mask


def classes(x):
    return (x.double().sum(-1) > 0).long()


def judged(dtype):
    model = language_model(dtype)
    model.learned = decoder.LearnedConfidence(D)  # beside a network in half precision, in float32 itself
    nn.init.normal_(model.learned.linear.weight)
    return model.double() if dtype == torch.float64 else model


class Held(NamedTuple):
    build: object  # dtype -> module
    run: object  # module, x (N, ...), mask (N,) or (N, T) -> tensors, one row or none each
    dtypes: tuple  # of the tensors
    tokens: bool = False


def of(build):
    return lambda dtype: build().to(dtype)


HELD = {
    "logits": Held(of(chain), lambda net, x, mask: (net(x).transpose(0, 1),), (NETWORK,)),
    "one exit": Held(of(partial(chain, 1)), lambda net, x, mask: (net(x).transpose(0, 1),), (NETWORK,)),
    "joint_loss": Held(
        of(chain),
        lambda net, x, mask: (exits.joint_loss(net(x), classes(x), [0.2, 1, 0.7], mask=mask),) if len(x) else (),
        (FULL,),
    ),
    "arithmetic_ensemble": Held(
        of(chain), lambda net, x, mask: (exits.arithmetic_ensemble(net(x)).transpose(0, 1),), (FULL,)
    ),
    "geometric_ensemble": Held(
        of(chain), lambda net, x, mask: (exits.geometric_ensemble(net(x)).transpose(0, 1),), (FULL,)
    ),
    "branching": Held(of(branching), branch, (FULL, FULL, FULL)),
    "branching, one exit": Held(of(partial(branching, 1)), branch, (FULL, FULL, FULL)),
    "LoRA": Held(lora, lambda net, x, mask: (net(x),), (NETWORK,)),
    "LoRA, merged": Held(merged, lambda net, x, mask: (net(x),), (NETWORK,)),
    "merge_lora": Held(lora, lambda net, x, mask: (merge_lora(net)(x),), (NETWORK,)),
    "concatenate": Held(lora, lambda net, x, mask: (concatenate([net, net], [0.5, -2])(x),), (NETWORK,)),
    "Adapter": Held(bottleneck, lambda net, x, mask: (net(x),), (NETWORK,)),
    "mixture": Held(mixture, lambda net, x, mask: (lambda y, z: (y, z.weights))(*net(x, mask=mask)), (NETWORK, FULL)),
    "mixture, one": Held(partial(mixture, k=1), lambda net, x, mask: net(x, mask=mask)[:1], (NETWORK,)),
    "mixture, by task": Held(mixture, lambda net, x, mask: net(x, by_task(classes(x), K), mask=mask)[:1], (NETWORK,)),
    "Decoder": Held(
        language_model, lambda net, x, mask: (net(x, mask).transpose(0, 1).transpose(1, 2),), (NETWORK,), True
    ),
    "LearnedConfidence.loss": Held(judged, lambda net, x, mask: (net.learned.loss(net, x, mask),), (FULL,), True),
}
TABLE = pytest.mark.parametrize("name", HELD)


def inputs(name, n, dtype=torch.float64):
    generator = torch.Generator().manual_seed(
        3
    )  # no label of LearnedConfidence.loss on the edge, where bfloat16 tips it
    if HELD[name].tokens:
        return torch.randint(V, (n, T), generator=generator)
    return torch.randn(n, D, dtype=torch.float64, generator=generator).to(dtype)


def padding(name, n):
    shape = (n, T) if HELD[name].tokens else (n,)
    return torch.rand(shape, generator=torch.Generator().manual_seed(2)) < 0.6


def made(name, net, x, mask=None):
    """The outputs, and the gradients of a weighted sum of what counts in them."""
    x = x.clone().requires_grad_(x.is_floating_point())
    outputs = HELD[name].run(net, x, mask)
    loss = 0
    for y in outputs:
        shape = y.shape[1:]  # of what belongs to a row; () of a loss
        weight = torch.linspace(-1, 1, shape.numel(), dtype=torch.float64).reshape(shape)
        counts = 1 if mask is None or not y.ndim else mask.reshape(*mask.shape, *[1] * (y.ndim - mask.ndim))
        loss = loss + (y.double() * weight * counts).sum()
    wanted = {n: p for n, p in net.named_parameters() if p.requires_grad}
    wanted |= {"x": x} if x.requires_grad else {}
    grads = [None] * len(wanted)
    if outputs and loss.requires_grad:
        grads = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    return [y.detach() for y in outputs], {n: g for n, g in zip(wanted, grads, strict=True) if g is not None}


def close(a, b, dtype, n):
    """Within 8 roundings of the coarser dtype, of the largest number, times the root of what is summed."""
    if b.numel():
        assert a.isfinite().all()
        limit = 8 * torch.finfo(dtype).eps * math.sqrt(max(n, D)) * max(1.0, b.abs().max().item())
        assert (a.double() - b).abs().max().item() <= limit


CASES = [(d, None) for d in (*HALF, torch.float32, torch.float64)] + [(torch.float32, cast) for cast in HALF]


@TABLE
@pytest.mark.parametrize("n", [0, 1, 7])
@pytest.mark.parametrize(("dtype", "autocast"), CASES)
def test_values_and_gradients_are_those_of_float64(name, dtype, autocast, n):
    torch.manual_seed(0)
    net, x = HELD[name].build(dtype), inputs(name, n, dtype)
    exact = copy.deepcopy(net).double()
    inside = torch.autocast("cpu", autocast) if autocast else nullcontext()
    network = (autocast or dtype) if name != "Adapter" else dtype
    for training in (True, False):
        for mask in (None, padding(name, n), torch.zeros_like(padding(name, n))):
            net.train(training), exact.train(training)
            with inside:
                outputs, grads = made(name, net, x, mask)
            wanted, wanted_grads = made(name, exact, x.double() if x.is_floating_point() else x, mask)
            for y, y_exact, kind in zip(outputs, wanted, HELD[name].dtypes, strict=bool(wanted)):
                assert y.dtype == (network if kind == NETWORK else torch.promote_types(dtype, torch.float32))
                close(y, y_exact, autocast or dtype, n)
            assert grads.keys() == wanted_grads.keys()
            for key, grad in grads.items():
                close(grad, wanted_grads[key], autocast or dtype, n)


@TABLE
@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64])
def test_padding_does_not_matter(name, dtype):
    """To the bit: what stands there. Up to rounding: whether it is there."""
    torch.manual_seed(0)
    n = 7
    net, x, mask = HELD[name].build(dtype), inputs(name, n, dtype), padding(name, n)
    assert mask.any() and not mask.all()
    other = x.clone()
    other[~mask] = 3 if HELD[name].tokens else 17
    outputs, grads = made(name, net, x, mask)
    outputs_2, grads_2 = made(name, net, other, mask)
    for y, y_2 in zip(outputs, outputs_2, strict=True):
        assert torch.equal(y[mask], y_2[mask]) if y.ndim else torch.equal(y, y_2)
    for key, grad in grads.items():
        assert torch.equal(grad, grads_2[key])
        assert key != "x" or not grad[~mask].any()
    if HELD[name].tokens:  # a sequence each; a loss of several is no sum of theirs
        rows = [HELD[name].run(net, row[m][None], None)[0] for row, m in zip(x, mask, strict=True) if m.any()]
        alone = [torch.cat([y[0] for y in rows])] if outputs[0].ndim else []
    else:
        alone, alone_grads = made(name, net, x[mask])
        for key, grad in grads.items():
            close(grad[mask] if key == "x" else grad, alone_grads[key].double(), dtype, n)
    for y, y_alone in zip(outputs, alone, strict=False):
        close(y[mask] if y.ndim else y, y_alone.double(), dtype, n)


@TABLE
def test_everything_is_made_beside_the_model(name):
    """Whatever is made without a device lands on the default one, here one that holds no numbers."""
    torch.manual_seed(0)
    net, x, mask = HELD[name].build(torch.float32), inputs(name, 7, torch.float32), padding(name, 7)
    for m in (None, mask):
        wanted, _ = made(name, net, x, m)
        with torch.device("meta"):
            outputs = HELD[name].run(net, x, m)
        for y, y_wanted in zip(outputs, wanted, strict=True):
            assert y.device.type == "cpu" and torch.equal(y, y_wanted)


@TABLE
def test_copies_are_the_same_and_keep_what_is_frozen_and_shared(name):
    torch.manual_seed(0)
    net, x = HELD[name].build(torch.float32), inputs(name, 7, torch.float32)
    (wanted, grads), trained = made(name, net, x), [n for n, p in net.named_parameters() if p.requires_grad]
    fresh = HELD[name].build(torch.float32)
    fresh.load_state_dict(net.state_dict()) if name != "LoRA, merged" else None
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), fresh):
        if name == "LoRA, merged" and twin is fresh:
            continue
        outputs, its_grads = made(name, twin, x)
        assert (
            all(map(torch.equal, outputs, wanted))
            and [n for n, p in twin.named_parameters() if p.requires_grad] == trained
        )
        assert its_grads.keys() == grads.keys() and all(torch.equal(g, grads[n]) for n, g in its_grads.items())


@TABLE
def test_checkpoints_of_activations_and_accumulated_gradients_are_exact(name):
    torch.manual_seed(0)
    net, x = HELD[name].build(torch.float32), inputs(name, 7, torch.float32)
    x.requires_grad_(x.is_floating_point())
    run = lambda t: HELD[name].run(net, t, None)[0].double().square().sum()  # noqa: E731
    for _ in range(2):
        run(x).backward()
    twice = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    checkpoint(run, x, use_reentrant=False).backward()
    assert twice.keys() == {n for n, p in net.named_parameters() if p.grad is not None}
    for n, grad in twice.items():
        torch.testing.assert_close(grad, 2 * net.get_parameter(n).grad)


# ---- confidences and rules


@pytest.mark.parametrize("dtype", HALF)
def test_rules_decide_in_float32(dtype):
    logits, h = (3 * torch.randn(2, 40_000, C)).to(dtype), torch.randn(40_000, D).to(dtype)
    gates = [nn.Linear(D, 1).to(dtype)]
    rules = [exits.below_entropy(0.5), exits.above_confidence(0.7), exits.above_margin(0.5), exits.patience(1)]
    for rule in rules:
        assert torch.equal(rule(logits, h), rule(logits.double(), h.double()))
    twins = [copy.deepcopy(gate).double() for gate in gates]
    assert torch.equal(
        exits.learned_gate(gates, 0.7)(logits[:1], h), exits.learned_gate(twins, 0.7)(logits[:1].double(), h.double())
    )
    p = logits[-1].softmax(-1)  # in half precision another decision is taken
    assert not torch.equal(p.amax(-1) >= 0.7, rules[1](logits, h))


@pytest.mark.parametrize("dtype", HALF)
def test_confidences_are_float32(dtype):
    model, state = judged(dtype), torch.randn(200, D).to(dtype)
    exact = copy.deepcopy(model).double()
    at = [decoder.AtExit(m, 1, s, s.roll(1, 0)) for m, s in ((model, state), (exact, state.double()))]
    for confidence in (decoder.softmax_margin, decoder.state_similarity):
        made, wanted = map(confidence, at)
        assert made.dtype == torch.float32
        assert (made - wanted).abs().max() < (1e-6 if confidence is decoder.state_similarity else 0.1)
    with torch.autocast("cpu", dtype):
        assert model.learned(at[0]).dtype == torch.float32
    first = decoder.AtExit(model, 0, state, None)
    assert decoder.state_similarity(first).dtype == torch.float32


# ---- masks


def with_statistics():
    """Exits whose blocks look at the whole batch in training."""
    blocks = [nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D), nn.Tanh()) for _ in range(K)]
    return exits.EarlyExitNet(blocks, [nn.Linear(D, C) for _ in range(K)])


def train_gates(net, run):
    torch.manual_seed(3)
    net.gates = nn.ModuleList(nn.Linear(D, 1) for _ in range(K - 1))
    return exits.train_gates(net, net.gates, run)


TRAINING = pytest.mark.parametrize(
    "train", [exits.train_jointly, exits.train_layerwise, exits.train_separately, train_gates], ids=lambda f: f.__name__
)


@TRAINING
def test_training_on_padded_batches_is_training_without_the_padding_to_the_bit(train):
    x, mask = torch.randn(9, D), torch.arange(9) % 3 > 0
    y = classes(x)
    nothing = torch.zeros(9, dtype=torch.bool)
    garbage = torch.where(mask, y, -100)
    nets = []
    for batches in ([(x, garbage, mask)] * 3, [(x[mask], y[mask])] * 3):
        torch.manual_seed(0)
        nets.append(with_statistics())
        for _ in range(2):
            train(nets[-1], lambda model, loss, it=batches: fit(model, loss, iter(it), steps=3))
    for a, b in zip(nets[0].state_dict().values(), nets[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)
    before = copy.deepcopy(nets[0].state_dict())
    train(nets[0], lambda model, loss: loss(x, y, nothing).backward())
    again = {n: t for n, t in nets[0].state_dict().items() if not n.startswith("gates")}
    assert all(torch.equal(t, before[n]) for n, t in again.items())
    with pytest.raises(ValueError, match=r"mask must be \(9,\) of torch.bool"):
        train(nets[0], lambda model, loss: loss(x, y, mask.float()))


def test_joint_loss_of_padded_tokens_is_that_of_the_others_to_the_bit():
    logits, target = torch.randn(K, 4, T, C), torch.randint(C, (4, T))
    mask = torch.rand(4, T) < 0.5
    loss = exits.joint_loss(logits, torch.where(mask, target, -100), [1, 0, 2], mask=mask)
    assert torch.equal(loss, exits.joint_loss(logits[:, mask], target[mask], [1, 0, 2]))
    by_hand = [F.cross_entropy(z[mask], target[mask]) for z in logits]
    torch.testing.assert_close(loss, by_hand[0] + 2 * by_hand[2])
    logits.requires_grad_()
    none = exits.joint_loss(logits, target, mask=torch.zeros_like(mask))
    none.backward()
    assert none == 0 and not logits.grad.any()


@pytest.mark.parametrize("ensemble", [None, exits.arithmetic_ensemble])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_infer_leaves_padding_out_to_the_bit(ensemble, dtype):
    net, x = chain().to(dtype), 3 * torch.randn(20, D).to(dtype)
    mask, rule, ran = torch.arange(20) % 4 > 0, exits.above_confidence(0.5), []
    net.blocks[0].register_forward_hook(lambda block, inputs, output: ran.append(len(output)))
    for m in (mask, torch.zeros_like(mask)):
        exited, alone = (exits.infer(net, a, rule, ensemble=ensemble, mask=b) for a, b in ((x, m), (x[m], None)))
        assert torch.equal(exited.logits[m], alone.logits) and torch.equal(exited.exit_index[m], alone.exit_index)
        assert not exited.logits[~m].any() and (exited.exit_index[~m] == -1).all()
        assert exited.logits.dtype == (dtype if ensemble is None else torch.float32)
    assert ran == [15, 15, 0, 0]


LENGTHS = (7, 3, 1, 5)


def left_padded(width=7):
    """Prompts of different lengths: each alone, and all in one batch."""
    prompts = [torch.randint(V, (n,)) for n in LENGTHS]
    batch, mask = (
        torch.zeros(len(LENGTHS), width, dtype=torch.int64),
        torch.zeros(len(LENGTHS), width, dtype=torch.bool),
    )
    for row, (n, prompt) in enumerate(zip(LENGTHS, prompts, strict=True)):
        batch[row, width - n :], mask[row, width - n :] = prompt, True
    return prompts, batch, mask


CONFIDENCES = {"margin": decoder.softmax_margin, "similarity": decoder.state_similarity, "none": None}


@pytest.mark.parametrize("name", CONFIDENCES)
def test_left_padded_prompts_are_continued_as_each_alone(name):
    model, confidence, level = language_model(torch.float64, 4), CONFIDENCES[name], 0.05 if name == "margin" else 0.8
    prompts, batch, mask = left_padded()
    tokens, (logits, exit_index) = decoder.generate(model, batch, 9, confidence, level, mask=mask)
    for row, prompt in enumerate(prompts):
        alone = decoder.generate(model, prompt[None], 9, confidence, level)
        assert torch.equal(tokens[row], alone[0][0]) and torch.equal(exit_index[row], alone[1].exit_index[0])
        torch.testing.assert_close(logits[row], alone[1].logits[0])
    assert name == "none" or len(exit_index.unique()) > 1
    other = torch.where(mask, batch, 5)
    made = decoder.generate(model, other, 9, confidence, level, mask=mask)
    wide = decoder.generate(model, F.pad(batch, (3, 0)), 9, confidence, level, mask=F.pad(mask, (3, 0)))
    for a, b, c in zip((tokens, logits, exit_index), (made[0], *made[1]), (wide[0], *wide[1]), strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)  # whatever stands there; padding of all is cut off
    whole = decoder.generate(model, batch, 9, confidence, level)
    assert not torch.equal(whole[1].logits, logits)  # and it does matter to those who read it


@pytest.mark.parametrize("name", ["margin", "similarity"])
def test_padded_texts_are_read_as_each_alone(name):
    model, level = language_model(torch.float64, 4), 0.05 if name == "margin" else 0.8
    prompts, batch, mask = left_padded()
    right = torch.stack([row.roll(n) for row, n in zip(batch, LENGTHS, strict=True)])
    right_mask = torch.stack([row.roll(n) for row, n in zip(mask, LENGTHS, strict=True)])
    read = partial(decoder.exit_while_reading, model, confidence=CONFIDENCES[name], threshold=level, careful=1)
    for x, m in ((batch, mask), (right, right_mask)):
        padded = read(x, mask=m)
        assert (padded.exit_index[~m] == -1).all() and not padded.logits[~m].any()
        for row, prompt in enumerate(prompts):
            alone = read(prompt[None])
            assert torch.equal(padded.exit_index[row, m[row]], alone.exit_index[0])
            torch.testing.assert_close(padded.logits[row, m[row]], alone.logits[0])
    assert len(padded.exit_index.unique()) > 2


def test_losses_of_a_padded_text_are_those_of_the_text_to_the_bit():
    model, text = language_model(torch.float32), torch.randint(V, (40,))
    padded, mask = F.pad(text, (6, 3)), F.pad(torch.ones(40, dtype=torch.bool), (6, 3))
    losses = decoder.token_losses(model, padded, context=16, mask=mask)
    assert torch.equal(losses[:, 6:45], decoder.token_losses(model, text, context=16))
    assert losses.shape == (K, 48) and not losses[:, :6].any() and not losses[:, 45:].any()
    for n in (0, 1):
        few = torch.arange(49) < n
        assert not decoder.token_losses(model, padded, context=16, mask=few).any()


@pytest.mark.parametrize(("dtype", "autocast"), CASES)
@pytest.mark.parametrize("name", CONFIDENCES)
def test_the_decoder_decodes_in_every_dtype(name, dtype, autocast):
    model, (_, batch, mask) = language_model(dtype), left_padded()
    with torch.autocast("cpu", autocast) if autocast else nullcontext():
        tokens, exited = decoder.generate(model, batch, 4, CONFIDENCES[name], 0.3, mask=mask)
        text, its_mask = torch.cat([batch, tokens], 1), F.pad(mask, (0, 4), value=True)
        full = model(text, its_mask)[-1, :, 6:-1]
        read = decoder.exit_while_reading(model, text, decoder.softmax_margin, 0.3, mask=its_mask)
        losses = decoder.token_losses(model, text[0], context=4)
    assert exited.logits.dtype == read.logits.dtype == full.dtype == (autocast or dtype)
    assert losses.dtype == torch.promote_types(dtype, torch.float32)
    if name == "none":
        close(exited.logits, full.double(), autocast or dtype, 11)


@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64])
def test_positions_are_as_exact_as_the_dtype(dtype):
    place, pair = np.arange(300)[:, None], np.arange(D // 4)
    angle = torch.from_numpy(place * 10_000.0 ** (-pair / (D // 4)))
    turns = language_model(dtype).turns(300)
    limit = torch.finfo(dtype).eps + 300 * torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    wanted = torch.stack([angle.cos().repeat(1, 2), torch.cat([-angle.sin(), angle.sin()], -1)])
    assert (turns.double() - wanted).abs().max() < limit


# ---- devices: also what decides by what it computes


def test_decoding_and_leaving_early_stay_beside_the_model():
    model, (_, batch, mask) = language_model(torch.float32, 4), left_padded()
    net, x = chain(), 3 * torch.randn(20, D)
    read = partial(decoder.exit_while_reading, model, batch, decoder.softmax_margin, 0.15)
    branch = branching()
    twice = [(x, classes(x)), (x, classes(x), x[:, 0] > 0), (x, classes(x), x[:, 0] > 99)]

    def train(f):
        def once(model, loss):
            return [loss(*batch).detach() for batch in twice]

        return torch.stack([value for values in f(net, once) for value in values])

    jobs = {
        "generate": lambda: decoder.generate(model, batch, 6, decoder.softmax_margin, 0.15),
        "generate, all layers": lambda: decoder.generate(model, batch, 6),
        "generate, nothing": lambda: decoder.generate(model, batch, 0),
        "generate, padded": lambda: decoder.generate(model, batch, 6, decoder.softmax_margin, 0.15, mask=mask),
        "speculate": lambda: decoder.speculate(model, batch[:1], 6, exit=1, draft=3)[0],
        "exit_while_reading": read,
        "exit_while_reading, padded": partial(read, mask=mask),
        "token_losses": lambda: decoder.token_losses(model, batch.flatten(), context=6),
        "token_losses, padded": lambda: decoder.token_losses(model, batch[1], mask=mask[1]),
        "infer": lambda: exits.infer(net, x, exits.above_confidence(0.5)),
        "infer, padded": lambda: exits.infer(net, x, exits.above_margin(0.2), mask=x[:, 0] > 0),
        "learned_gate": lambda: exits.infer(net, x, exits.learned_gate(branch.gates)),
        "training": lambda: [train(f) for f in (exits.train_jointly, exits.train_layerwise, exits.train_separately)],
    }
    for job in jobs.values():
        wanted = job()
        with torch.device("meta"):
            made = job()
        torch.testing.assert_close(made, wanted, rtol=0, atol=0)


# ---- evaluation mode


NOISY = {
    "noisy_top_k": partial(noisy_top_k, k=2),
    "gumbel_softmax": gumbel_softmax,
    "its generator": partial(gumbel_softmax, generator=torch.Generator()),
}


@pytest.mark.parametrize("name", NOISY)
def test_there_is_no_noise_in_evaluation_mode(name):
    x, gates = torch.randn(7, D), [nn.Linear(D, 1) for _ in range(K - 1)]

    def among_three(gate_logits):
        return NOISY[name](F.pad(gate_logits, (0, 1)))

    for layer in (
        mixture(torch.float32, NOISY[name]),
        exits.DifferentiableBranching(chain(), gates, choose=among_three, at_test=lambda s: softmax(F.pad(s, (0, 1)))),
    ):
        assert not torch.equal(layer(x)[0], layer(x)[0])
        layer.eval()
        assert torch.equal(layer(x)[0], layer(x)[0])
        kept = 2 if name == "noisy_top_k" and isinstance(layer, MixtureOfAdapters) else K
        assert (layer(x)[1].weights.count_nonzero(-1) == kept).all()  # as many as in training


def test_who_draws_in_a_way_of_its_own_says_how_not_to():
    def mine(logits, *, generator=None):
        return gumbel_softmax(logits, generator=generator)

    for build in (
        partial(mixture, torch.float32),
        lambda choose: exits.DifferentiableBranching(chain(1), [], choose=choose),
    ):
        with pytest.raises(ValueError, match="at_test"):
            build(mine)
    layer = MixtureOfAdapters(nn.Identity(), [bottleneck(None)], mine, at_test=softmax).eval()
    assert torch.equal(layer(torch.randn(2, D))[1].weights, torch.ones(2, 1))


def test_a_way_to_choose_with_parameters_is_registered_once():
    class Balanced(nn.Linear):
        def forward(self, logits):
            return softmax(logits + self.bias)

    names = list(mixture(torch.float32, Balanced(K, K)).state_dict())
    assert [n for n in names if "choose" in n or "at_test" in n] == ["choose.weight", "choose.bias"]


# ---- adapters beside half precision


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("inside", [nullcontext, partial(torch.autocast, "cpu", torch.bfloat16)])
def test_a_merge_rounds_once(dtype, inside):
    layer = lora(dtype)
    assert layer.A.dtype == layer.B.dtype == torch.float32
    weight = layer.base.weight.clone()
    with inside():
        layer.merge()
        plain = merge_lora(layer)
    exact = weight.double() + 1.5 * layer.B.double() @ layer.A.double()
    for merged_weight in (layer.merged, plain.weight):
        assert merged_weight.dtype == dtype and torch.equal(merged_weight, exact.to(dtype))
    assert not torch.equal(layer.merged, weight + (1.5 * layer.B @ layer.A).to(dtype))  # as rounding twice gives it
    layer.unmerge()
    assert torch.equal(layer.base.weight, weight)


@pytest.mark.parametrize("dtype", HALF)
def test_adapters_train_beside_half_precision_and_the_base_stays(dtype):
    layer, x, y = mixture(dtype), torch.randn(64, D).to(dtype), torch.randn(64, D).to(dtype)
    layer.base.requires_grad_(False)
    before, losses = copy.deepcopy(layer.base.state_dict()), []
    adam = torch.optim.Adam([p for p in layer.parameters() if p.requires_grad], 1e-2)
    for _ in range(30):
        loss = (layer(x)[0].float() - y.float()).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0] and all(map(math.isfinite, losses))
    assert all(torch.equal(t, before[n]) for n, t in layer.base.state_dict().items())


def test_adapters_are_made_beside_the_layer_and_merged_in_its_mode():
    linear = nn.Linear(D, D)
    with torch.device("meta"):  # the default device is another
        loras = [LoRA(linear, 2) for _ in range(K)]
        layer = MixtureOfAdapters(linear, loras, softmax)
        plain = merge_lora(loras[0].eval())
    assert {p.device.type for p in [*layer.parameters(), *plain.parameters()]} == {"cpu"}
    assert not plain.training and merge_lora(loras[1]).training


def test_padding_is_no_decision_of_a_score_function_estimator():
    layer, x, mask = mixture(torch.float32, sample), torch.randn(20, D), torch.arange(20) % 3 > 0
    _, choice = layer(x, mask=mask)
    assert choice.log_prob[mask].all() and not choice.log_prob[~mask].any() and not choice.weights[~mask].any()


# ---- shared and tied parts


def test_shared_parts_are_refused_where_stages_would_undo_each_other():
    head, block = nn.Linear(D, C), nn.Linear(D, D)
    blocks = [nn.Linear(D, D) for _ in range(3)]
    heads = [nn.Linear(D, C) for _ in range(3)]
    never = lambda model, loss: pytest.fail("nothing may be trained")  # noqa: E731
    for net in (exits.EarlyExitNet(blocks, [head] * 3), exits.EarlyExitNet([block] * 3, heads)):
        with pytest.raises(ValueError, match="net must not share"):
            exits.train_layerwise(net, never)
    with pytest.raises(ValueError, match="net must not share"):
        exits.train_separately(exits.EarlyExitNet(blocks, [heads[0], head, head]), never)
    net = exits.EarlyExitNet(blocks, heads)
    with pytest.raises(ValueError, match="net must not share"):
        exits.train_gates(net, [nn.Sequential(blocks[0], nn.Linear(D, 1)), nn.Linear(D, 1)], never)
    early = exits.EarlyExitNet([block] * 3, [head, head, heads[2]])  # one block again and again, the last head its own
    last, x = copy.deepcopy(heads[2].state_dict()), torch.randn(64, D)

    def only_the_others(model, loss):
        if model[-1] is not heads[2]:
            fit(model, loss, iter([(x, classes(x))] * 20), steps=20)

    before = copy.deepcopy(head.state_dict())
    exits.train_separately(early, only_the_others)
    assert all(torch.equal(t, last[n]) for n, t in heads[2].state_dict().items())
    assert not torch.equal(before["weight"], head.weight)


def test_frozen_parts_may_be_shared_and_stay_frozen():
    head = nn.Linear(D, C).requires_grad_(False)
    net, x = exits.EarlyExitNet([nn.Linear(D, D) for _ in range(3)], [head] * 3), torch.randn(64, D)
    before = copy.deepcopy(head.state_dict())
    for train in (exits.train_layerwise, exits.train_jointly):
        train(net, lambda model, loss: fit(model, loss, iter([(x, classes(x))] * 3), steps=3))
    assert all(torch.equal(t, before[n]) for n, t in head.state_dict().items())


@TRAINING
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_training_leaves_every_part_in_its_mode(train, error):
    for stage in range(3):
        net, calls = with_statistics(), []
        net.blocks[1].eval()
        parts = [net, *net.blocks.modules(), *net.heads.modules()]
        modes = [part.training for part in parts]

        def stop(model, loss, calls=calls, stage=stage):
            model.train()
            calls.append(model)
            if len(calls) > stage:
                raise error

        try:
            train(net, stop)
        except error:
            assert len(calls) == stage + 1
        assert [part.training for part in parts] == modes


def tied(dtype=torch.float64):
    model = language_model(dtype, 3)
    model.head.weight = model.embedding.weight
    model.layers[2] = model.layers[0]
    return model


def test_a_decoder_with_tied_weights_decodes_and_its_copies_stay_tied(tmp_path):
    model, (prompts, batch, mask) = tied(), left_padded()
    tokens, (logits, _) = decoder.generate(model, batch, 5, decoder.softmax_margin, 0.2, mask=mask)
    for row, prompt in enumerate(prompts):
        text = torch.cat([prompt, tokens[row]])[None]
        read = decoder.exit_while_reading(model, text, decoder.softmax_margin, 0.2, careful=len(prompt) - 1)
        torch.testing.assert_close(read.logits[0, len(prompt) - 1 : -1], logits[row])
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), tied()]
    copies[2].load_state_dict(model.state_dict())
    copies.append(tied())
    save_model(model, tmp_path / "tied.safetensors")
    load_model(copies[3], tmp_path / "tied.safetensors")
    for twin in copies:
        assert twin.head.weight is twin.embedding.weight and twin.layers[2] is twin.layers[0]
        assert torch.equal(twin(batch), model(batch))


def test_adapters_of_one_layer_go_through_safetensors_and_copies_and_share_it_still(tmp_path):
    layer, x = mixture(torch.float16), torch.randn(4, D).half()
    save_model(layer, tmp_path / "mixture.safetensors")
    read = mixture(torch.float16)
    assert not torch.equal(read(x)[0], layer(x)[0])
    load_model(read, tmp_path / "mixture.safetensors")
    for twin in (read, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x)[0], layer(x)[0])
        assert all(adapter.base is twin.base for adapter in twin.adapters) and not twin.base.weight.requires_grad
        assert all(adapter.A.dtype == torch.float32 for adapter in twin.adapters)
    layer.adapters[0].merge()
    twin = copy.deepcopy(layer.adapters[0])
    assert torch.equal(twin(x), layer.adapters[0](x))
    twin.unmerge()
    assert torch.equal(twin(x), lora_of(twin, x))


def lora_of(layer, x):
    return (layer.base(x) + layer.change(x)).to(x.dtype)


# ---- the library's own sentences


class Two(nn.Module):
    def forward(self, x):
        return x, x


def test_what_does_not_fit_is_refused_in_the_librarys_words():
    x, rule, choice = torch.randn(4, D), exits.above_margin(0.5), softmax(torch.zeros(4, K))
    nowhere, layer = torch.device("meta"), mixture(torch.float32)
    pair = exits.EarlyExitNet([Two()], [nn.Linear(D, C)])
    one_logit = exits.EarlyExitNet([nn.Identity()] * 2, [nn.Linear(D, 1), nn.Linear(D, 1)])
    flat = exits.EarlyExitNet([nn.Identity()], [nn.Flatten(0)])
    as_is = exits.EarlyExitNet([nn.Identity()] * 2, [nn.Identity()] * 2)
    mixed = exits.EarlyExitNet([nn.Identity()] * 2, [nn.Linear(D, 2), nn.Linear(D, 3)])
    never = lambda logits, h: torch.zeros(len(h), dtype=torch.bool)  # noqa: E731
    run = lambda model, loss: loss(x, classes(x))  # noqa: E731
    model, text = language_model(torch.float32), torch.randint(V, (2, T))
    ones = torch.ones(2, T, dtype=torch.bool)
    holes = ones.clone()
    holes[0, 2] = False
    for call, words in {
        "tuple": (lambda: pair(x), "blocks must return a tensor, the state, got a tuple"),
        "tuple, infer": (lambda: exits.infer(pair, x, rule), "blocks must return a tensor, .* got a tuple"),
        "tuple, trained": (lambda: exits.train_layerwise(pair, run), "blocks must return a tensor, .* got a tuple"),
        "head of tuples": (lambda: exits.EarlyExitNet([nn.Identity()], [Two()])(x), "heads must .* got .*tuple"),
        "one logit": (lambda: one_logit(x), r"heads must all return one \(B, C\), C >= 2, .* got \[\(4, 1\)"),
        "one logit, infer": (lambda: exits.infer(one_logit, x, rule), r"heads must .* got \[\(4, 1\)\]"),
        "one logit, trained": (lambda: exits.train_layerwise(one_logit, run), r"heads must .* got \[\(4, 1\)\]"),
        "flat": (lambda: exits.infer(flat, x, rule), r"heads must .* got \[\(32,\)\]"),
        "two sizes": (lambda: exits.infer(mixed, x, never), r"heads must .* got \[\(4, 2\), \(4, 3\)\]"),
        "two devices": (lambda: as_is.classify([x, x.to(nowhere)]), "heads must .* on one device"),
        "no gates": (lambda: exits.train_gates(chain(1), [], run), "net must have at least two exits"),
        "no layers": (lambda: decoder.Decoder(D, 2, 0), "n_layers must be an integer of at least 1, got 0"),
        "half a layer": (lambda: decoder.Decoder(D, 2, 1.5), "n_layers must be an integer of at least 1, got 1.5"),
        "one token": (lambda: decoder.Decoder(D, 2, 1, n_tokens=1), "n_tokens must be an integer of at least 2, got 1"),
        "no width": (lambda: decoder.Decoder(0, 1, 1), "d_model must be an integer of at least 2, got 0"),
        "no heads": (lambda: decoder.Decoder(D, True, 1), "n_heads must be an integer of at least 1, got True"),
        "a list of tokens": (lambda: model([[1, 2]]), "tokens must be integers"),
        "one layer": (
            lambda: decoder.LearnedConfidence(D).loss(language_model(torch.float32, 1), text),
            "model must have at least two layers",
        ),
        "a hole": (lambda: decoder.generate(model, text, 1, mask=holes), "mask must be False only left of each prompt"),
        "padding behind": (lambda: decoder.generate(model, text, 1, mask=ones.roll(1, 0) & holes.flip(1)), "mask must"),
        "nothing counts": (lambda: decoder.generate(model, text, 1, mask=~ones), "mask must be False only left"),
        "another mask": (lambda: model(text, ones[:, 1:]), r"mask must be \(2, 5\) of torch.bool"),
        "a float mask": (lambda: layer(x, mask=torch.ones(4)), r"mask must be \(4,\) of torch.bool"),
        "another base": (
            lambda: MixtureOfAdapters(Two(), [bottleneck(None)], softmax)(x),
            r"shape of base\(x\), \('tuple',\), got",
        ),
        "elsewhere": (
            lambda: layer(x, Choice(*(t.to(nowhere) for t in choice))),
            r"choice must have .* on cpu, got \(4, 3\) on meta",
        ),
        "no LoRAs": (lambda: concatenate([nn.Linear(D, D)] * 2), "loras must be at least one"),
        "no list": (lambda: concatenate([lora(torch.float32)], 0.5), "weights must be 1 finite numbers, .* got 0.5"),
        "ragged": (lambda: calibration.learn_then_test([[0, 1], [0]], 0.1, 0.1), "losses must"),
    }.values():
        with pytest.raises((ValueError, TypeError), match=words):
            call()


def test_lists_may_be_generators():
    net = exits.EarlyExitNet((nn.Linear(D, D) for _ in range(3)), (nn.Linear(D, C) for _ in range(3)))
    gates, x = [nn.Linear(D, 1) for _ in range(2)], torch.randn(4, D)
    wanted = exits.infer(net, x, exits.learned_gate(gates))
    made = exits.infer(net, x, exits.learned_gate(gate for gate in gates))
    assert torch.equal(made.logits, wanted.logits)
    exits.train_gates(net, (gate for gate in gates), lambda model, loss: loss(x, classes(x)))
    exits.DifferentiableBranching(net, (gate for gate in gates))(x)
    logits = net(x)
    assert exits.joint_loss(logits, classes(x), (w for w in (1, 2, 3))) == exits.joint_loss(
        logits, classes(x), torch.tensor([1, 2, 3])
    )
    loras = [lora(torch.float32)] * 2
    assert torch.equal(concatenate((one for one in loras), (w for w in (1, 2))).B, concatenate(loras, [1, 2]).B)


@pytest.mark.parametrize("kind", [np.float32, torch.tensor, float], ids=["numpy", "torch", "python"])
def test_numbers_are_numbers(kind):
    half, two = kind(0.5), np.int64(2) if kind is np.float32 else torch.tensor(2)
    x, model = torch.randn(4, D), language_model(torch.float32)
    for rule in (exits.below_entropy, exits.above_confidence, exits.above_margin):
        assert torch.equal(rule(half)(x[None], x), rule(0.5)(x[None], x))
    exits.patience(two), decoder.decaying_threshold(half, two, tau=half, amplitude=half)(1)
    choice = softmax(torch.zeros(4, 2))
    assert torch.equal(exits.expected_cost(choice, [half, two]), torch.full((4,), 1.25))
    LoRA(nn.Linear(D, D), two, alpha=half), Adapter(two, two), by_task(torch.zeros(3, dtype=torch.uint8), two)
    tokens, _ = decoder.generate(model, torch.zeros(1, 2, dtype=torch.uint8), two, decoder.softmax_margin, half)
    assert tokens.shape == (1, 2)
    decoder.Decoder(torch.tensor(D), two, two)
    assert calibration.learn_then_test(np.zeros((100, 3)), half, half) == 2
    assert calibration.hoeffding_bentkus_p_value(half, two, half) == calibration.hoeffding_bentkus_p_value(0.5, 2, 0.5)
    for call in (lambda: exits.above_confidence(True), lambda: exits.patience(True), lambda: Adapter(True, 2)):
        with pytest.raises(ValueError, match="got True"):
            call()


@pytest.mark.parametrize("dtype", [torch.bool, *HALF])
def test_losses_to_calibrate_by_come_in_every_dtype(dtype):
    losses = (torch.rand(200, 4) < torch.tensor([0.01, 0.02, 0.1, 0.5])).to(dtype)
    wanted = calibration.learn_then_test(losses.numpy() if dtype == torch.bool else losses.float().numpy(), 0.1, 0.1)
    losses = losses.requires_grad_() if dtype != torch.bool else losses
    assert calibration.learn_then_test(losses, 0.1, 0.1) == wanted is not None
