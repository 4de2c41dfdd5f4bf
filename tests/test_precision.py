"""Ways to choose and their places in every precision, mode, mask and size."""

from functools import partial

import pytest
import torch
from torch import nn

from lecture_lib import choice, estimators


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


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
        with pytest.raises(ValueError, match=r"choose draws noise, so at_test must be given beside it, got .*own_way"):
            choice.quiet(way)
    monkeypatch.setitem(choice.QUIET, own_way, choice.argmax)
    assert choice.quiet(partial(own_way, generator=seeded())) is choice.argmax
