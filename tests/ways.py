"""The ways to choose, in one table, and what each is. What is tested of every way is tested of every row.

Whoever adds a way adds a row: tests/test_house.py misses it else.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from lecture_lib import choice, estimators, moe


@dataclass(frozen=True)
class Way:
    """`way(logits, **options)` is a choice; of k, temperature, generator, ... it is given those that it takes."""

    choose: Callable
    fixed: dict = field(default_factory=dict)  # options that no test varies
    hard: bool = False  # every row is one-hot, to the last bit
    whole: bool = True  # every row sums to 1
    alone: bool = True  # a row depends neither on the others nor on its place
    reaches_scorer: bool = True  # a gradient arrives at the logits, through the weights or by surrogate
    needs_all: bool = False  # that gradient needs options that were not chosen

    @property
    def takes(self):
        """What tests may vary."""
        return set(inspect.signature(self.choose).parameters) - set(self.fixed)

    @property
    def noisy(self):
        return "generator" in self.takes

    def __call__(self, logits, **options):
        options = {"k": min(2, n_options(logits))} | options
        return self.choose(logits, **self.fixed, **{name: options[name] for name in self.takes & options.keys()})

    def seeded(self, seed=0):
        """The same noise at each call."""
        return lambda logits: self(logits, generator=torch.Generator().manual_seed(seed))


def n_options(logits):
    """K; 1 of what is no score."""
    return (1, *getattr(logits, "shape", ()))[-1] or 1


def straight_through_softmax(logits):
    return choice.straight_through(choice.softmax(logits))


def straight_through_gumbel(logits, temperature=1.0, *, generator=None):
    return choice.straight_through(choice.gumbel_softmax(logits, temperature, generator=generator))


def balance_bias(logits, k):
    return moe.BalanceBias(n_options(logits), k)(logits)


WAYS = {  # the first word is the library's name
    "softmax": Way(choice.softmax),
    "entmax": Way(choice.entmax),
    "entmax, 2": Way(choice.entmax, {"alpha": 2}),
    "argmax": Way(choice.argmax, hard=True, reaches_scorer=False),
    "top_k": Way(choice.top_k),
    "top_k, 1": Way(choice.top_k, {"k": 1}, hard=True, reaches_scorer=False),  # its weight is the constant 1
    "noisy_top_k": Way(choice.noisy_top_k),
    "gumbel_top_k": Way(choice.gumbel_top_k),
    "gumbel_softmax": Way(choice.gumbel_softmax),
    "gumbel_softmax, cold": Way(choice.gumbel_softmax, {"temperature": 0.05}),
    "straight_through(softmax)": Way(straight_through_softmax, hard=True, needs_all=True),
    "straight_through(gumbel_softmax)": Way(straight_through_gumbel, hard=True, needs_all=True),
    "gumbel_rao": Way(estimators.gumbel_rao, hard=True, needs_all=True),
    "sample": Way(choice.sample, hard=True),
    "switch": Way(moe.switch, whole=False),
    "switch, 1": Way(moe.switch, {"k": 1}, whole=False),
    "gshard": Way(moe.gshard, whole=False),
    "expert_choice": Way(moe.expert_choice, whole=False, alone=False),
    "balanced": Way(moe.balanced, whole=False, alone=False),
    "equal_load": Way(moe.equal_load, whole=False, alone=False),
    "base": Way(moe.base, whole=False, alone=False),
    "BalanceBias": Way(balance_bias, whole=False),
}
