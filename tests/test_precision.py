"""Ways to choose and their places in every precision, mode, mask and size. What is held, for each row of each grid:

grid             dtype    autocast  mode         size              held
ways             four     no, two   -            SIZES             weights in the dtype of the logits, log_prob in
                                                                   float32 at least; value, gradient as in float64
losses           four     no, two   -            even, odd, large  float32 at least; value, gradient as in float64
places           four     no, two*  train, eval  0, 1, odd         scores in float32 at least, outputs as those of
                                                                   a plain layer; value, gradient as in float64
places, masked   float32  no        train, eval  none, some, all   a padded batch is each example alone
places, noise    float32  no        eval         -                 the same answer twice, no noise drawn
places, copies   float32  no        train        -                 checkpoints, pickle, deepcopy
places, devices  float32  no, one   train, eval  -                 nothing on the default device

* where torch itself knows the pair: its own layers mix no two half precisions, nor autocast with float64.
"""

import contextlib
import copy
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from ways import WAYS, Way

from lecture_lib import choice, estimators, mixture, models, patches, simplex, skipping

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
HALF = [torch.float16, torch.bfloat16]
SIZES = [(3,), (1,), (0, 3), (4, 1), (5, 4), (2, 3, 7), (3, 65)]
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
autocasts = pytest.mark.parametrize("autocast", [None, *HALF])
modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def within(autocast):
    return torch.autocast("cpu", autocast) if autocast else contextlib.nullcontext()


def full(dtype):
    return torch.promote_types(dtype, torch.float32)


def gradients(y, inputs):
    """Of a sum of y with different weights."""
    weights = torch.linspace(-1, 2, y.numel() + 1, dtype=torch.float64)[1:].reshape(y.shape)
    if not y.requires_grad:
        return [torch.zeros_like(i) for i in inputs]
    return torch.autograd.grad((y.double() * weights).sum(), inputs, materialize_grads=True)


def close(got, wanted, dtype, size, what=""):
    """Within 8 roundings of `dtype`, times the root of what was summed, relative to the largest entry."""
    if not wanted.numel():
        assert got.shape == wanted.shape
        return
    scale = max(1.0, wanted.abs().max().item())
    tolerance = 8 * torch.finfo(dtype).eps * size**0.5 * scale
    torch.testing.assert_close(got.double(), wanted.double(), atol=tolerance, rtol=0, msg=lambda m: f"{what}: {m}")


# ---- ways


def by_row(logits, *, generator=None):
    """A temperature for each row."""
    return choice.gumbel_softmax(logits, logits.new_full((*logits.shape[:-1], 1), 0.7), generator=generator)


OURS = {"softmax", "entmax", "argmax", "top_k", "noisy_top_k", "gumbel_top_k", "gumbel_softmax", "sample", "gumbel_rao"}
ROWS = {name: way for name, way in WAYS.items() if name.partition(",")[0] in OURS or "straight" in name}
ROWS |= {f"entmax, {alpha}": Way(choice.entmax, {"alpha": alpha}) for alpha in (1, 3, 50)}
ROWS |= {"gumbel_softmax, by row": Way(by_row), "stick_breaking": Way(choice.stick_breaking)}


@pytest.mark.parametrize("way", ROWS.values(), ids=ROWS)
@every_dtype
@autocasts
def test_a_way_is_right_in_every_precision(way, dtype, autocast):
    """The reference has the same noise: float32 for half precision, which is rounded once at the end."""
    exact = full(dtype) if way.noisy else torch.float64
    options = {"temperature": 0.7, "std": 0.1, "n_samples": 3}
    for shape in SIZES:
        logits = normal(*shape, dtype=dtype).requires_grad_()
        reference = logits.detach().to(exact).requires_grad_()
        wanted = way(reference, **options, generator=seeded(1))
        with within(autocast):
            got = way(logits, **options, generator=seeded(1))
        assert got.logits.dtype == got.weights.dtype == dtype and got.log_prob.dtype == full(dtype)
        assert got.log_prob.shape == logits.shape[:-1]
        close(got.weights, wanted.weights, dtype, 1, shape)
        close(got.log_prob, wanted.log_prob, full(dtype), 1, shape)
        for part in ("weights", "log_prob"):
            (slope,) = gradients(getattr(got, part), [logits])
            assert slope.dtype == dtype
            close(slope, gradients(getattr(wanted, part), [reference])[0], dtype, shape[-1], f"{shape}, d {part}")


def test_a_sum_of_log_probabilities_does_not_overflow_in_half_precision():
    drawn = choice.sample(torch.zeros(30_000, 50, dtype=torch.float16))
    total = drawn.log_prob.sum()
    torch.testing.assert_close(total, torch.tensor(-30_000 * np.log(50)).float(), rtol=1e-3, atol=0)


# ---- numbers


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), torch.tensor(0.5), torch.tensor([0.5])])
@pytest.mark.parametrize("way", [choice.gumbel_softmax, partial(choice.gumbel_top_k, k=2), estimators.gumbel_rao])
def test_every_number_is_a_temperature(way, number):
    logits = normal(20, 3, dtype=torch.float32)
    expected = way(logits, temperature=0.5, generator=seeded()).weights
    assert torch.equal(way(logits, temperature=number, generator=seeded()).weights, expected)


@pytest.mark.parametrize("k", [np.int64(2), np.uint8(2), torch.tensor(2)])
@pytest.mark.parametrize("way", [choice.top_k, choice.noisy_top_k, choice.gumbel_top_k])
def test_every_integer_is_a_k(way, k):
    assert ((way(normal(20, 3), k).weights > 0).sum(-1) == 2).all()
    for wrong in (True, np.True_, torch.tensor(True), 2.0):
        with pytest.raises(ValueError, match=r"k must be an integer from 1 to the number of options, 3, got"):
            way(normal(20, 3), wrong)


@pytest.mark.parametrize("shape", [(), (1,), (4, 1), (2, 1, 1), (2, 4, 1)])
def test_a_temperature_can_be_learnt_one_for_all_or_one_a_row(shape):
    logits = normal(2, 4, 3)
    logits[0, 0, 1] = -torch.inf  # a forbidden option has no part in it
    t = (normal(*shape, seed=1).abs() + 0.5).requires_grad_()
    rows = t.expand(2, 4, 1)

    def way(t):
        return choice.gumbel_softmax(logits, t, generator=seeded(2)).weights

    for b in range(2):
        for n in range(4):
            alone = choice.by_temperature(logits[b, n], rows[b, n].item()).softmax(-1)
            torch.testing.assert_close(choice.by_temperature(logits, t).softmax(-1)[b, n], alone)
    assert torch.autograd.gradcheck(way, t)


@pytest.mark.parametrize(
    "temperature",
    [torch.ones(3), torch.ones(4, 3), torch.ones(3, 1), torch.ones(2, 4, 1), torch.tensor([[1.0]] * 3 + [[0.0]])],
)
def test_a_temperature_that_is_none_for_each_row_is_refused(temperature):
    message = r"temperature must be finite numbers > 0, one a row: broadcast to \(4, 1\), got "
    with pytest.raises(ValueError, match=message):
        choice.gumbel_softmax(torch.zeros(4, 3), temperature)
    with pytest.raises(ValueError, match="temperature must be a finite number > 0, got "):
        choice.gumbel_softmax(torch.zeros(4, 3), torch.tensor(True))


def test_std_is_a_number_or_a_tensor():
    logits = normal(20, 3, dtype=torch.float32)
    wanted = choice.noisy_top_k(logits, 2, 2.0, generator=seeded()).weights
    for std in (np.float32(2), 2, torch.tensor(2), torch.full((20, 1), 2.0)):
        assert torch.equal(choice.noisy_top_k(logits, 2, std, generator=seeded()).weights, wanted)
    with pytest.raises(ValueError, match="std must be finite and >= 0, got True"):
        choice.noisy_top_k(logits, 2, True)


# ---- ties


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("n", [5, 8, 64, 300, 5000])
def test_ties_go_to_the_first_in_every_size(n, k):
    ties = torch.zeros(2, n)
    ties[1, n // 2] = 1  # one is better, all others are equal
    first = [list(range(k)), sorted([n // 2, *[i for i in range(n) if i != n // 2][: k - 1]])]
    for weights in (choice.top_k(ties, k).weights, choice.noisy_top_k(ties, k, 0.0).weights):
        assert [row.nonzero().squeeze(-1).tolist() for row in weights] == first
    assert choice.argmax(ties).weights.argmax(-1).tolist() == [0, n // 2]
    assert choice.straight_through(choice.softmax(ties)).weights.argmax(-1).tolist() == [0, n // 2]


@pytest.mark.parametrize("n", [4, 16, 300])
def test_depths_take_the_first_tokens_of_a_tie(n):
    layer = skipping.MixtureOfDepths(4, lambda x, kept: x, 0.5)
    nn.init.zeros_(layer.router.weight)
    chosen = layer(torch.randn(3, n, 4))[1].weights[..., 0] > 0
    assert torch.equal(chosen, (torch.arange(n) < n // 2).expand(3, n))


# ---- without noise


def own_way(logits, *, generator=None):
    return choice.sample(logits, generator=generator)


QUIET = {
    "noisy_top_k": (partial(choice.noisy_top_k, k=2), partial(choice.top_k, k=2)),
    "noisy_top_k, all options": (
        partial(choice.noisy_top_k, k=2, std=0.5, generator=seeded()),
        partial(choice.top_k, k=2),
    ),
    "gumbel_top_k": (partial(choice.gumbel_top_k, k=3, temperature=0.1), partial(choice.top_k, k=3)),
    "gumbel_softmax": (choice.gumbel_softmax, choice.softmax),
    "gumbel_softmax, cold": (partial(choice.gumbel_softmax, temperature=0.1, generator=seeded()), choice.softmax),
    "sample": (choice.sample, choice.argmax),
    "gumbel_rao": (partial(estimators.gumbel_rao, temperature=0.5, n_samples=2), choice.argmax),
    "partial of partial": (partial(partial(choice.noisy_top_k, k=1), std=2.0), partial(choice.top_k, k=1)),
}


@pytest.mark.parametrize("name", QUIET)
def test_a_noisy_way_has_a_quiet_one(name):
    noisy, expected = QUIET[name]
    way, logits, state = choice.quiet(noisy), torch.randn(50, 5, generator=seeded()), torch.get_rng_state()
    assert torch.equal(way(logits).weights, expected(logits).weights)
    assert torch.equal(torch.get_rng_state(), state)
    noisy_weights = noisy(logits).weights
    if "sample" not in name and "rao" not in name:  # as many options
        assert torch.equal((noisy_weights > 0).sum(-1), (way(logits).weights > 0).sum(-1))


def test_what_makes_no_noise_is_returned_as_it_is():
    module = nn.Linear(2, 2)
    ways = (choice.softmax, choice.argmax, partial(choice.top_k, k=2), lambda s: choice.softmax(s), module, max)
    for way in ways:
        assert choice.quiet(way) is way


def test_an_unknown_way_that_draws_is_refused_unless_it_says_how_not_to(monkeypatch):
    for way in (own_way, partial(own_way, generator=seeded())):
        with pytest.raises(ValueError, match=r"choose draws noise, so at_test must be given too, got .*own_way"):
            choice.quiet(way)
    monkeypatch.setitem(choice.QUIET, own_way, choice.argmax)
    assert choice.quiet(partial(own_way, generator=seeded())).func is choice.argmax


# ---- losses

LOSSES = {  # logits -> the loss
    "fenchel_young_loss": lambda s: simplex.fenchel_young_loss(s, torch.arange(len(s)) % s.shape[-1]).double().mean(),
    "fenchel_young_loss, alpha 1": lambda s: simplex.fenchel_young_loss(s, torch.zeros(len(s), dtype=int), 1).mean(),
    "exact_expectation": lambda s: estimators.exact_expectation(lambda z: (z @ price(z)).square(), s).mean(),
    "surrogate": lambda s: estimators.surrogate((s * price(s)).sum(-1), s.log_softmax(-1)[..., 0], 0.5).mean(),
    "leave_one_out": lambda s: estimators.leave_one_out(1000 * s).abs().max(),
    "usage_loss": lambda s: patches.usage_loss(s.sigmoid(), 0.9),
    "predictor_loss": lambda s: skipping.predictor_loss(s[..., 0], choice.softmax(s)),
}


def price(z):
    return torch.linspace(-1, 2, z.shape[-1]).to(z)


@pytest.mark.parametrize("loss", LOSSES)
@every_dtype
@autocasts
def test_a_loss_is_right_in_every_precision(loss, dtype, autocast):
    for n, k in ((2, 2), (33, 3), (4001, 2)):
        logits = (2 * normal(n, k)).to(dtype).requires_grad_()
        reference = logits.detach().double().requires_grad_()
        wanted = LOSSES[loss](reference)
        with within(autocast):
            got = LOSSES[loss](logits)
        if not loss.startswith("fenchel"):  # one loss a row, in the dtype of its logits
            assert got.dtype == full(dtype)
        worst = dtype if autocast is None else torch.bfloat16
        close(got, wanted, worst, k)
        close(gradients(got, [logits])[0], gradients(wanted, [reference])[0], worst, k)


@pytest.mark.parametrize("cost", [torch.tensor([1, 2]), torch.tensor([1, 2], dtype=torch.uint8),
                                  torch.tensor([True, False]), torch.tensor([1.0, 2.0]).half()])  # fmt: skip
@pytest.mark.parametrize("baseline", [0.7, np.float32(0.7), torch.tensor(0.7), torch.tensor([0.7, 0.2])])
@pytest.mark.parametrize("dtype", DTYPES)
def test_integer_and_boolean_costs_are_numbers(cost, baseline, dtype):
    log_prob = torch.zeros(2, dtype=dtype, requires_grad=True)
    loss = estimators.surrogate(cost, log_prob, baseline)
    assert torch.equal(loss.detach(), cost.to(loss.dtype)) and loss.dtype == full(dtype)
    (slope,) = torch.autograd.grad(loss.sum(), log_prob)
    torch.testing.assert_close(slope, (cost.double() - torch.as_tensor(baseline)).to(dtype))


COSTS = [torch.tensor([[1, 2], [4, 8], [0, 1]]), torch.tensor([[True], [False], [True]])]
COSTS += [torch.full((3, 2), 40_000.0).half(), torch.ones(3, 2, dtype=torch.uint8) * 200]


@pytest.mark.parametrize("costs", COSTS)
def test_baselines_of_integer_boolean_and_half_costs(costs):
    wanted = (costs.double().sum(0) - costs.double()) / 2
    torch.testing.assert_close(estimators.leave_one_out(costs), wanted.float())
    average = estimators.MovingAverage(np.float32(0.5))
    assert [average(costs), average(costs)] == pytest.approx([costs.double().mean().item()] * 2, rel=1e-6)


def test_an_expected_cost_may_be_counted_in_integers():
    logits = normal(5, 3).requires_grad_()
    counted = estimators.exact_expectation(lambda z: z.argmax(-1), logits)
    torch.testing.assert_close(counted, logits.softmax(-1) @ torch.arange(3.0).double())
    assert estimators.exact_expectation(lambda z: z.argmax(-1) > 0, logits).dtype == torch.float64
    measured = estimators.gradient_statistics(choice.sample, lambda z: z.argmax(-1), logits[0].detach(), baseline=1)
    assert (measured.bias.abs() < 5 * measured.standard_error).all()


# ---- places

D, H, B, T = 16, 4, 4, 7


class Place(nn.Module):
    """A layer, how it is called, and what a plain layer in its place would return."""

    def __init__(self, layer, call=None, residual=True):
        super().__init__()
        self.layer, self.call, self.residual = (
            layer,
            call or (lambda layer, *args, **mask: layer(*args, **mask)),
            residual,
        )

    def forward(self, x, **mask):
        return self.call(self.layer, x, **mask)


def mlp():
    return nn.Sequential(nn.Linear(D, 3 * D), nn.GELU(), nn.Linear(3 * D, D))


def soft(layer, *args, **options):
    return layer(*args, choice.softmax, at_test=choice.softmax, **options)


class Selected(nn.Module):
    """Patches kept by a selector, hidden while training, gone at test."""

    def __init__(self):
        super().__init__()
        self.selector, self.block = soft(patches.PatchSelector, D), models.Block(D, H)

    def forward(self, x, **mask):
        x = patches.blank(x, mask.get("mask"))
        kept, made = self.selector(x, **mask)
        return (patches.masked if self.training else patches.packed)(self.block, x, kept), made


def depths():
    layer = skipping.MixtureOfDepths(D, models.Block(D, H), 0.5)
    nn.init.normal_(layer.predictor.weight)
    return layer


def expand(evaluate):
    def call(layers, x):
        made = choice.softmax(simplex.score(layers[0], x))
        return evaluate(x, made.weights, layers[1:]), made

    return call


PLACES = {
    "patches": lambda: Place(Selected()),
    "skipped layer": lambda: Place(soft(skipping.SkippableBlock, D, models.Block(D, H))),
    "skipped network": lambda: Place(soft(skipping.SkippableBlock, D, mlp())),
    "heads": lambda: Place(soft(skipping.GatedHeads, models.SelfAttention(D, H)), residual=False),
    "causal heads": lambda: Place(soft(skipping.GatedHeads, models.SelfAttention(D, H, causal=True)), residual=False),
    "channels": lambda: Place(soft(skipping.GatedChannels, mlp(), 4), residual=False),
    "depths": lambda: Place(depths()),
    "all": lambda: Place(soft(skipping.AdaptiveTransformer, D, H, 2)),
    "mix": lambda: Place(nn.ModuleList([nn.Linear(D, 3), mlp(), mlp(), mlp()]), expand(mixture.mix), False),
    "mix_sparse": lambda: Place(
        nn.ModuleList([nn.Linear(D, 3), mlp(), mlp(), mlp()]), expand(mixture.mix_sparse), False
    ),
}
MASKED = [name for name in PLACES if name not in ("mix", "mix_sparse", "skipped network")]


def scores(made):
    """The parts of a choice, or of decisions, that belong to a router."""
    if isinstance(made, choice.Choice):
        return made
    return [made.kept, made.heads, made.run, made.log_prob]


IN = [(dtype, None) for dtype in DTYPES] + [(torch.float32, half) for half in HALF] + [(half, half) for half in HALF]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("dtype", "autocast"), IN)
@modes
def test_a_place_is_right_in_every_precision(place, dtype, autocast, training):
    exact = PLACES[place]().double().train(training)
    module = copy.deepcopy(exact).to(dtype)
    exact.load_state_dict(module.state_dict())  # what is left to differ is the arithmetic
    coarse = autocast or dtype
    for batch, tokens in ((0, T), (1, 1), (B, T)):
        x = normal(batch, tokens, D).to(dtype).requires_grad_()
        reference = x.detach().double().requires_grad_()
        wanted, _ = exact(reference)
        with within(autocast):
            got, made = module(x)
            linear = nn.functional.linear(x, torch.zeros(1, D, dtype=dtype)).dtype
        if place != "all":  # its last normalisation decides: under autocast, that is torch's affair
            assert got.dtype == (dtype if module.layer and exact.residual else linear)
        assert all(part.dtype == full(dtype) for part in scores(made))
        close(got, wanted, coarse, D, (batch, tokens))
        inputs = [x, *module.parameters()]
        names = ["x", *(name for name, _ in module.named_parameters())]
        slopes = gradients(got, inputs)
        expected = gradients(wanted, [reference, *exact.parameters()])
        for name, slope, right in zip(names, slopes, expected, strict=True):
            assert slope.isfinite().all(), name
            close(slope, right, coarse, 4 * D * max(1, batch * tokens) ** 0.5, f"{(batch, tokens)}, d {name}")


def test_mixtures_sum_in_float32_and_round_once():
    z, options = torch.full((1, 256), 1 / 256), [lambda rows: rows] * 256
    x = torch.ones(1, 4, dtype=torch.bfloat16)
    for evaluate in (mixture.mix, mixture.mix_sparse):
        assert torch.equal(evaluate(x, z, options), x)  # 256 roundings would be off by a tenth


@pytest.mark.parametrize("dtype", HALF)
def test_attention_to_kept_tokens_is_right_in_half_precision(dtype):
    q, k, v = (3 * normal(3, 2, H, T, 8)).to(dtype)
    kept = (
        (torch.rand(2, T, generator=seeded()) * (torch.rand(2, T, generator=seeded(1)) < 0.6)).float().requires_grad_()
    )
    exact = kept.detach().double().requires_grad_()
    got, wanted = models.attention(q, k, v, kept), models.attention(q.double(), k.double(), v.double(), exact)
    assert got.dtype == dtype
    close(got, wanted, dtype, 8)
    close(gradients(got, [kept])[0], gradients(wanted, [exact])[0], dtype, 8 * T)


@pytest.mark.parametrize("causal", [False, True])
def test_a_boolean_kept_is_that_of_zeros_and_ones(causal):
    q, k, v = normal(3, 2, H, T, 8)
    kept = torch.rand(2, T, generator=seeded()) < 0.5
    torch.testing.assert_close(models.attention(q, k, v, kept, causal=causal),
                               models.attention(q, k, v, kept.double(), causal=causal))  # fmt: skip


# ---- masks


def padded(lengths, pad, left=False, dtype=torch.float32):
    """Examples of these lengths, alone and in one batch, and its mask."""
    alone = [normal(n, D, seed=n, dtype=dtype) for n in lengths]
    x = torch.full((len(lengths), max(lengths, default=0), D), pad, dtype=dtype)
    mask = torch.zeros(x.shape[:2], dtype=torch.bool)
    for row, keep, example in zip(x, mask, alone, strict=True):
        where = slice(len(row) - len(example), None) if left else slice(len(example))
        row[where], keep[where] = example, True
    return alone, x, mask


@pytest.mark.parametrize("place", MASKED)
@modes
@pytest.mark.parametrize("pad", [0.0, 1e4, torch.nan])
@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_a_padded_batch_is_each_example_alone(place, training, pad, left):
    module = PLACES[place]().train(training)
    alone, x, mask = padded([3, 7, 1, 5], pad, left)
    if left and place in ("patches", "all"):  # there the class token comes first
        with pytest.raises(ValueError, match="mask must have padding at the end, got some before the class token"):
            module(x, mask=mask)
        return
    parameters = list(module.parameters())
    y, made = module(x, mask=mask)
    got = gradients(torch.cat([y[i][mask[i]] for i in range(4)]), parameters)
    each = [module(example[None])[0][0] for example in alone]
    wanted = gradients(torch.cat(each), parameters)
    for i, example in enumerate(each):
        torch.testing.assert_close(y[i][mask[i]], example, atol=2e-6, rtol=1e-5)
    for slope, right in zip(got, wanted, strict=True):
        torch.testing.assert_close(slope, right, atol=1e-5, rtol=1e-4)
    if isinstance(made, choice.Choice) and made.weights.shape[:2] == mask.shape:
        assert (made.weights[~mask] == 0).all() and (made.log_prob[~mask] == 0).all()
    if place in ("skipped layer", "depths"):  # what does not count passes by
        torch.testing.assert_close(y[~mask], x[~mask], equal_nan=True, atol=0, rtol=0)


@pytest.mark.parametrize("place", MASKED)
@modes
def test_a_mask_of_ones_changes_nothing_and_one_of_zeros_leaves_nothing(place, training):
    module = PLACES[place]().train(training)
    x = normal(B, T, D, dtype=torch.float32)
    everything, nothing = torch.ones(B, T, dtype=torch.bool), torch.zeros(B, T, dtype=torch.bool)
    torch.testing.assert_close(module(x, mask=everything)[0], module(x)[0], atol=2e-6, rtol=1e-5)
    y, made = module(x, mask=nothing)
    assert y.isfinite().all()
    if isinstance(made, choice.Choice):
        assert (made.weights == 0).all() and (made.log_prob == 0).all()
    assert module(x[:0], mask=nothing[:0])[0].shape == (0, T, D)
    for wrong in (everything[:, 1:], everything.float(), everything[0], [True]):
        with pytest.raises(ValueError, match=r"mask must be \(4, 7\) of torch.bool, True for what counts, got"):
            module(x, mask=wrong)


def test_examples_of_one_vector_can_be_masked_too():
    layer, x = soft(skipping.SkippableBlock, D, mlp()), normal(B, D, dtype=torch.float32)
    mask = torch.tensor([True, False, True, False])
    y, made = layer(x, mask=mask)
    torch.testing.assert_close(y[mask], layer(x)[0][mask])
    assert torch.equal(y[~mask], x[~mask]) and (made.weights[~mask] == 0).all()


@pytest.mark.parametrize("capacity", [0.25, 0.35, 0.5, 1.0])
def test_room_in_depth_is_counted_in_tokens_that_count(capacity):
    layer = skipping.MixtureOfDepths(D, models.Block(D, H), capacity)
    lengths = [1, 2, 5, 10, 20]
    _, x, mask = padded(lengths, 0.0)
    chosen = layer(x, mask=mask)[1].weights[..., 0] > 0
    assert chosen.sum(-1).tolist() == [max(1, round(capacity * n)) for n in lengths]


def test_losses_and_shares_count_what_counts():
    alone, x, mask = padded([3, 7, 1, 5], torch.nan)
    flat = torch.cat(alone)
    for target in (0.3, np.float32(0.3), torch.tensor(0.3)):
        got, wanted = (
            patches.usage_loss(x[..., 0].sigmoid(), target, mask=mask),
            patches.usage_loss(flat[:, 0].sigmoid(), 0.3),
        )
        torch.testing.assert_close(got, wanted)
    by_group = patches.usage_loss(x.sigmoid(), 0.3, mask=mask)  # (B, T, G), a mask (B, T)
    torch.testing.assert_close(by_group, patches.usage_loss(flat.sigmoid(), 0.3))
    made = choice.softmax(torch.nan_to_num(x[..., :2]))
    got = skipping.predictor_loss(x[..., 0], made, mask=mask)
    torch.testing.assert_close(got, skipping.predictor_loss(flat[:, 0], choice.softmax(flat[:, :2])))
    shares = x.sigmoid().requires_grad_()
    (slope,) = torch.autograd.grad(patches.usage_loss(shares, 0.3, mask=mask), shares)
    assert (slope[~mask] == 0).all()
    nothing = torch.zeros_like(mask)
    assert (
        patches.usage_loss(x[..., 0], 0.3, mask=nothing) == 0 == skipping.predictor_loss(x[..., 0], made, mask=nothing)
    )
    net = PLACES["all"]().layer.eval()
    for at_test in (choice.softmax, choice.argmax):
        for gate in (m for m in net.modules() if isinstance(m, patches.Gate)):
            gate.at_test = at_test
        got = skipping.compute_share(net(x, mask=mask)[1], D, mask=mask)
        each = torch.cat([skipping.compute_share(net(example[None])[1], D) for example in alone])
        torch.testing.assert_close(got, each)
    assert skipping.compute_share(net(x, mask=nothing)[1], D, mask=nothing).tolist() == [0] * 4
    for call in (
        lambda m: patches.usage_loss(x[..., 0], 0.3, mask=m),
        lambda m: skipping.predictor_loss(x[..., 0], made, mask=m),
    ):
        with pytest.raises(ValueError, match=r"mask must be \(4, 7\) of torch.bool"):
            call(mask.int())


# ---- noise in evaluation mode

NOISES = {
    "gumbel_softmax": choice.gumbel_softmax,
    "private": partial(choice.gumbel_softmax, temperature=0.5, generator=seeded()),
    "sample": choice.sample,
    "lambda": lambda s: choice.straight_through(choice.gumbel_softmax(s)),
    "own": own_way,
}
NOISY_PLACES = {
    "gate": lambda choose: patches.Gate(D, 3, choose),
    "patches": lambda choose: patches.PatchSelector(D, choose),
    "skipped layer": lambda choose: skipping.SkippableBlock(D, models.Block(D, H), choose),
    "heads": lambda choose: skipping.GatedHeads(models.SelfAttention(D, H), choose),
    "channels": lambda choose: skipping.GatedChannels(mlp(), 4, choose),
    "all": lambda choose: skipping.AdaptiveTransformer(D, H, 2, choose),
}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("place", NOISY_PLACES)
def test_no_place_draws_noise_in_evaluation_mode(place, noise):
    layer, x = NOISY_PLACES[place](NOISES[noise]).eval(), torch.randn(3, T, D)
    state, private = torch.get_rng_state(), NOISES["private"].keywords["generator"].get_state()
    once, twice = layer(x), layer(x)
    for one, two in zip(pytree.tree_leaves(once), pytree.tree_leaves(twice), strict=True):
        assert torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(NOISES["private"].keywords["generator"].get_state(), private)


def test_depths_have_a_way_for_test_time():
    def depths(choose, **options):
        return skipping.MixtureOfDepths(D, models.Block(D, H), 0.5, choose, **options)

    x, state = torch.randn(3, T, D), torch.get_rng_state()
    for choose in (choice.gumbel_softmax, partial(choice.gumbel_softmax, generator=seeded())):
        before = choose.keywords["generator"].get_state() if isinstance(choose, partial) else None
        layer = depths(choose).eval()
        with torch.no_grad():
            layer.predictor.bias.fill_(1.0)
        assert layer.at_test.func is choice.softmax and torch.equal(layer(x)[0], layer(x)[0])
        assert before is None or torch.equal(
            choose.keywords["generator"].get_state(), before
        )  # making it draws nothing
    layer = depths(choice.gumbel_softmax, at_test=partial(choice.entmax, alpha=2)).eval()
    made = layer(x)[1]
    expected = choice.entmax(made.logits, 2).weights[..., 0] * (layer.predict(x) > 0)
    torch.testing.assert_close(made.weights[..., 0], expected)
    with pytest.raises(ValueError, match="choose draws noise, so at_test must be given too"):
        depths(own_way)
    with pytest.raises(ValueError, match="a hard choice leaves no order"):
        depths(choice.sample)
    assert depths(own_way, at_test=choice.softmax).eval()(x)[0].shape == x.shape
    torch.set_rng_state(state)


# ---- generators, copies


def private(layer_of, generator):
    return layer_of(lambda s: choice.gumbel_softmax(s, generator=generator))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("place", NOISY_PLACES)
def test_checkpointing_with_the_global_generator_is_right_and_with_a_private_one_is_refused(place, reentrant):
    generator, x = seeded(), torch.randn(3, T, D, requires_grad=True)

    def slopes(layer, run):
        torch.manual_seed(1)
        y = pytree.tree_leaves(run(layer))[0]
        return torch.autograd.grad(y.square().sum(), layer.parameters(), materialize_grads=True)

    def recomputed(layer):
        return checkpoint(lambda x: tuple(pytree.tree_leaves(layer(x))), x, use_reentrant=reentrant)

    layer = NOISY_PLACES[place](choice.gumbel_softmax)
    if not reentrant:  # torch allows no autograd.grad through the other kind
        for got, wanted in zip(slopes(layer, recomputed), slopes(layer, lambda layer: layer(x)), strict=True):
            assert torch.equal(got, wanted)
    layer = private(NOISY_PLACES[place], generator)
    y = recomputed(layer)[0]
    with pytest.raises(RuntimeError, match="generator must be None where activations are checkpointed"):
        y.square().sum().backward()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("place", NOISY_PLACES)
def test_a_copy_draws_what_the_original_draws_from_a_generator_of_its_own(place, copied):
    generator, x = seeded(3), torch.randn(3, T, D)
    layer = NOISY_PLACES[place](partial(choice.gumbel_softmax, temperature=0.5, generator=generator))
    twin = copied(layer)
    for one, two in zip(pytree.tree_leaves(layer(x)), pytree.tree_leaves(twin(x)), strict=True):
        assert torch.equal(one, two)
    layer(x)
    assert not torch.equal(generator.get_state(), layer_generator(twin).get_state())


def layer_generator(layer):
    return next(m.choose for m in layer.modules() if hasattr(m, "choose")).keywords["generator"]


def test_a_choice_is_a_tree_and_can_be_copied():
    made = choice.sample(torch.randn(4, 3))
    for twin in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), pytree.tree_map(torch.clone, made)):
        assert isinstance(twin, choice.Choice) and all(map(torch.equal, made, twin))


# ---- devices


class NothingOnTheDefaultDevice(TorchDispatchMode):
    """The default device is meta, all else is on the CPU: a line that forgets the device of its inputs is found
    without a GPU. `torch.device("meta")` alone is not enough: torch gathers and multiplies across it without a word.
    Nor are fake tensors: no check of a value can run on them.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.check(func, (args, kwargs))
        made = func(*args, **(kwargs or {}))
        self.check(func, made)
        return made

    def check(self, func, tree):
        strays = [t for t in pytree.tree_leaves(tree) if isinstance(t, torch.Tensor) and t.is_meta]
        assert not strays, f"{func} has a tensor on the default device"


@contextlib.contextmanager
def elsewhere():
    with torch.device("meta"), NothingOnTheDefaultDevice():
        yield


def test_a_stray_tensor_is_found():
    x = torch.randn(3)
    for line in (lambda: x[torch.arange(2)], lambda: x + torch.zeros(3), lambda: torch.as_tensor(0.5) * x):
        with pytest.raises(AssertionError, match="has a tensor on the default device"), elsewhere():
            line()


@pytest.mark.parametrize("way", ROWS.values(), ids=ROWS)
def test_a_way_makes_nothing_on_another_device(way):
    logits = torch.randn(5, 4, requires_grad=True)
    with elsewhere():
        made = way(logits)
        gradients_here(made.weights.sum() + made.log_prob.sum(), [logits])


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_makes_nothing_on_another_device(loss):
    if loss.startswith("fenchel"):
        scores, target = torch.randn(8, 3, requires_grad=True), torch.zeros(8, dtype=torch.int64)
        with elsewhere():
            gradients_here(simplex.fenchel_young_loss(scores, target).sum(), [scores])
        return
    scores, costs = torch.randn(8, 3, requires_grad=True), torch.randn(3)
    run = {
        "exact_expectation": lambda: estimators.exact_expectation(lambda z: z @ costs, scores),
        "surrogate": lambda: estimators.surrogate(scores.sum(-1), scores[..., 0], 0.5),
        "leave_one_out": lambda: estimators.leave_one_out(scores) + scores,
        "usage_loss": lambda: patches.usage_loss(scores.sigmoid(), 0.9, mask=scores > 0),
        "predictor_loss": lambda: skipping.predictor_loss(
            scores[..., 0], choice.softmax(scores), mask=scores[..., 0] > 0
        ),
    }[loss]
    with elsewhere():
        gradients_here(run().sum(), [scores])


@pytest.mark.parametrize("place", MASKED)
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@modes
def test_a_place_makes_nothing_on_another_device(place, autocast, training):
    module, x = PLACES[place]().train(training), torch.randn(B, T, D)
    mask = torch.arange(T) < torch.tensor([[7], [3], [1], [0]])
    with elsewhere(), within(autocast):
        for options in ({}, {"mask": mask}):
            y, made = module(x, **options)
            gradients_here(y.float().sum(), list(module.parameters()))
        if place == "all":
            skipping.compute_share(made, D, mask=mask)


def gradients_here(y, inputs):
    if y.requires_grad:
        torch.autograd.grad(y, inputs, allow_unused=True)


# ---- what is refused, in words of this library


def test_what_is_refused_is_refused_in_our_words():
    x, attention = torch.randn(B, T, D), models.SelfAttention(D, H)

    class Two(nn.Module):
        def forward(self, x, *others):
            return x, x

    class Narrow(nn.Module):
        def forward(self, x, *others):
            return x[..., 1:]

    for body, got in ((Two(), "tuple"), (Narrow(), r"\(4, 7, 15\)")):
        message = rf"body must return the shape of its x, \(4, 7, 16\), got {got}"
        places = [
            partial(patches.masked, body, x, torch.ones(B, T)),
            partial(patches.packed, body, x, torch.ones(B, T)),
        ]
        for training in (True, False):
            skipped = skipping.SkippableBlock(D, body, choice.softmax, at_test=choice.softmax).train(training)
            places.append(partial(skipped, x))
        places.append(partial(skipping.MixtureOfDepths(D, body, 1.0), x))
        for place in places:
            with pytest.raises(ValueError, match=message):
                place()
    for evaluate in (mixture.mix, mixture.mix_sparse):
        with pytest.raises(ValueError, match=r"modules\[0\] must return one output per example, \(4, ...\), got tuple"):
            evaluate(x, torch.rand(B, 2), [Two(), Two()])
    for wrong in (0, True, 2.0):
        with pytest.raises(ValueError, match="n_layers must be an integer of at least 1, got"):
            skipping.AdaptiveTransformer(D, H, wrong, choice.softmax)
        with pytest.raises(ValueError, match="n must be an integer of at least 1, got"):
            patches.Gate(D, wrong, choice.softmax)
    for net in (
        skipping.GatedHeads(attention, choice.softmax),
        skipping.SkippableBlock(D, models.Block(D, H), choice.softmax),
        patches.PatchSelector(D, choice.softmax),
        skipping.AdaptiveTransformer(D, H, 1, choice.softmax),
        skipping.MixtureOfDepths(D, models.Block(D, H), 0.5),
    ):
        with pytest.raises(ValueError, match=r"x must be .*\(B, T, D\).*, got \(4, 0, 16\)"):
            net(x[:, :0])
    with pytest.raises(ValueError, match=r"x must be \(B, T, D\) .*, got \(7, 16\)"):
        skipping.GatedHeads(attention, choice.softmax)(x[0])
    with pytest.raises(ValueError, match="mlp must be a Sequential of Linear, activation, Linear, with biases, got"):
        skipping.GatedChannels(
            nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4)), 2, choice.softmax
        )
    with pytest.raises(ValueError, match=r"cost_fn must return one cost per row of logits, shape \(4,\), got float"):
        estimators.exact_expectation(lambda z: 1.0, torch.zeros(4, 3))
    with pytest.raises(ValueError, match="n_samples must be an integer >= 1, got True"):
        estimators.gumbel_rao(torch.zeros(3), 1.0, True)
    with pytest.raises(ValueError, match="decay must be from 0 to less than 1, got True"):
        estimators.MovingAverage(True)
    with pytest.raises(ValueError, match="capacity must be more than 0 and at most 1, got True"):
        skipping.MixtureOfDepths(D, models.Block(D, H), True)


@pytest.mark.parametrize("k", [np.int64(2), torch.tensor(2)])
def test_every_integer_is_a_size(k):
    assert skipping.AdaptiveTransformer(D, k, k, choice.softmax)(torch.randn(2, 3, D))[1].heads.shape == (2, 2, 2)
    assert skipping.GatedChannels(mlp(), k, choice.softmax)(torch.randn(3, D))[1].weights.shape == (3, 2, 2)
    assert models.Transformer(D, k, k)(torch.randn(2, 3, D)).shape == (2, 3, D)
    assert len(models.MLP(k, k, k, k)) == 3
    assert estimators.gumbel_rao(torch.zeros(3), 1.0, k).weights.sum() == 1
    for make in (
        lambda: models.Transformer(D, True, 1),
        lambda: models.Transformer(D, 2, True),
        lambda: models.MLP(2.0, 1, 1),
    ):
        with pytest.raises(ValueError, match="must"):
            make()
