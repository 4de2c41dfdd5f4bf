"""The grid: every way of choosing works in every place that has k options.

A place takes a way of choosing and gives (output, choice, scorer, parameters of the options), evaluated densely or
sparsely. Each pair is compared with a loop over examples and options, in value and in every gradient.
"""

from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import nn

from lecture_lib.choice import (
    argmax,
    entmax,
    gumbel_softmax,
    gumbel_top_k,
    noisy_top_k,
    sample,
    softmax,
    straight_through,
    top_k,
)
from lecture_lib.estimators import gumbel_rao, surrogate
from lecture_lib.mixture import mix, mix_sparse

K, D, D_OUT = 5, 8, 6


class Way(NamedTuple):
    choose: object  # logits, generator -> Choice
    reaches_scorer: bool = True  # does a gradient arrive at the logits?
    needs_all: bool = False  # does that gradient need options that were not chosen?


def quiet(choose):
    return lambda logits, generator: choose(logits)


def noisy(choose):
    return lambda logits, generator: choose(logits, generator=generator)


WAYS = {
    "softmax": Way(quiet(softmax)),
    "entmax": Way(quiet(entmax)),
    "sparsemax": Way(quiet(partial(entmax, alpha=2))),
    "argmax": Way(quiet(argmax), reaches_scorer=False),
    "top_k, 1": Way(quiet(partial(top_k, k=1)), reaches_scorer=False),  # its weight is the constant 1
    "top_k, 2": Way(quiet(partial(top_k, k=2))),
    "noisy_top_k": Way(noisy(partial(noisy_top_k, k=2))),
    "gumbel_top_k": Way(noisy(partial(gumbel_top_k, k=2))),
    "gumbel_softmax": Way(noisy(gumbel_softmax)),
    "straight_through": Way(lambda s, g: straight_through(gumbel_softmax(s, generator=g)), needs_all=True),
    "gumbel_rao": Way(noisy(partial(gumbel_rao, n_samples=3)), needs_all=True),
    "sample": Way(noisy(sample)),
}


def loop(x, weights, modules):
    """The dumb reference: one example, one option at a time."""
    rows, z = x.reshape(-1, x.shape[-1]), weights.reshape(-1, len(modules))
    y = [sum(z[n, k] * module(rows[n]) for k, module in enumerate(modules)) for n in range(len(rows))]
    return torch.stack(y).reshape(*weights.shape[:-1], -1)


def mixture(choose, evaluate):
    """The equation itself: a linear scorer, five small networks."""
    scorer = nn.Linear(D, K)
    options = nn.ModuleList(nn.Sequential(nn.Linear(D, 16), nn.Tanh(), nn.Linear(16, D_OUT)) for _ in range(K))
    x = torch.randn(2, 7, D)
    choice = choose(scorer(x))
    return evaluate(x, choice.weights, options), choice, scorer, options


PLACES = {"mixture": mixture}
PAIRS = pytest.mark.parametrize(("way", "place"), [(way, place) for way in WAYS for place in PLACES])


def run(way, place, evaluate):
    """Output, gradients of the scorer, gradients of the options; the same networks and the same noise every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            generator = torch.Generator().manual_seed(1)
            y, choice, scorer, options = PLACES[place](lambda s: WAYS[way].choose(s, generator), evaluate)
        finally:
            torch.set_default_dtype(default)
    loss = surrogate(y.square().sum(-1), choice.log_prob).mean()
    parameters = [*scorer.parameters(), *options.parameters()]
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    n = len(list(scorer.parameters()))
    return y, gradients[:n], gradients[n:]


@PAIRS
def test_dense_equals_the_loop(way, place):
    torch.testing.assert_close(run(way, place, mix), run(way, place, loop))


@PAIRS
def test_sparse_equals_dense(way, place):
    (y, to_scorer, to_options), (y_2, to_scorer_2, to_options_2) = run(way, place, mix), run(way, place, mix_sparse)
    torch.testing.assert_close(y_2, y)
    torch.testing.assert_close(to_options_2, to_options)
    if WAYS[way].needs_all:  # the documented difference, not an accident
        assert (to_scorer[0] - to_scorer_2[0]).norm() > 0.1 * to_scorer[0].norm()
    else:
        torch.testing.assert_close(to_scorer_2, to_scorer)


@PAIRS
def test_a_gradient_reaches_the_scorer_where_it_should(way, place):
    _, to_scorer, to_options = run(way, place, mix)
    assert any(g.abs().sum() > 0 for g in to_scorer) == WAYS[way].reaches_scorer
    assert any(g.abs().sum() > 0 for g in to_options)
