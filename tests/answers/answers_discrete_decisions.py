"""Wrong and right answers to the exercises of notebook 01."""

import itertools
from functools import reduce

import numpy as np
import torch


def states(step, state, xs):
    return torch.stack([state := step(state, x) for x in xs])


def in_place(step, state, xs):
    out = xs.new_empty(len(xs), *state.shape)
    for t, x in enumerate(xs):
        state.copy_(step(state, x))
        out[t] = state
    return out


def kept_in_a_list(step, state, xs):
    kept = []
    for x in xs:
        state.copy_(step(state, x))
        kept.append(state)
    return torch.stack(kept)


def lazily(step, state, xs):
    for x in xs:
        state = step(state, x)
        yield state


def by_products(n_tokens, d_model):
    shapes = [(n_tokens, d_model, 3 * d_model), (n_tokens, d_model, n_tokens), (n_tokens, n_tokens, d_model)]
    shapes += [(n_tokens, d_model, d_model), (n_tokens, d_model, 4 * d_model), (n_tokens, 4 * d_model, d_model)]
    return 2 * sum(n * m * p for n, m, p in shapes)


WRONG = {
    "scan": {
        "a fold": (lambda step, state, xs: states(step, state, xs)[-1], "of a fold"),
        "the first state as well": (
            lambda step, state, xs: torch.cat([state[None], states(step, state, xs)]),
            "it is not a result",
        ),
        "the states before": (
            lambda step, state, xs: torch.cat([state[None], states(step, state, xs)])[:-1],
            "after each input, not before",
        ),
        "a map": (lambda step, state, xs: torch.stack([step(state, x) for x in xs]), "every input met the first state"),
        "the first state forgotten": (
            lambda step, state, xs: states(step, torch.zeros_like(state), xs),
            "first state is not used",
        ),
        "from the end": (lambda step, state, xs: states(step, state, xs.flip(0)), "from the last to the first"),
        "arguments swapped": (
            lambda step, state, xs: states(lambda state, x: step(x, state), state, xs),
            "the state first, then the input",
        ),
        "results turned round": (lambda step, state, xs: states(step, state, xs).flip(0), "in the wrong order"),
        "a running sum": (lambda step, state, xs: state + xs.cumsum(0), "entry [3, 1] should be 3.25"),
        "its own step": (lambda step, state, xs: states(lambda s, x: s / 2 + x, state, xs[..., :1]), "should be"),
        "one tensor in a list": (kept_in_a_list, "changed what it was given"),
        "text": (lambda step, state, xs: "states", "it is str"),
    },
    "block_flops": {
        "multiply-adds": (lambda t, d: 12 * t * d * d + 2 * t * t * d, "two operations"),
        "no attention": (lambda t, d: 24 * t * d * d, "attention itself is missing"),
        "attention once": (lambda t, d: 24 * t * d * d + 2 * t * t * d, "tokens meet twice"),
        "no output": (lambda t, d: 22 * t * d * d + 4 * t * t * d, "one D × D product is missing"),
        "output alone": (lambda t, d: 18 * t * d * d + 4 * t * t * d, "queries, keys and values are missing"),
        "one of three": (lambda t, d: 20 * t * d * d + 4 * t * t * d, "three products"),
        "no MLP": (lambda t, d: 8 * t * d * d + 4 * t * t * d, "the MLP is missing"),
        "half an MLP": (lambda t, d: 16 * t * d * d + 4 * t * t * d, "two layers"),
        "one token": (lambda t, d: 24 * d * d + 4 * t * d, "the cost of one token"),
        "pairs for free": (lambda t, d: 24 * t * d * d + 4 * t * t, "each of the T × T pairs"),
        "parameters": (lambda t, d: 12 * d * d, "should be 258560, it is 12288"),
        "one case": (lambda t, d: 24 * t * d * d + 4 * t * 10 * d, "but for n_tokens = 50, d_model = 24"),
        "nearly": (lambda t, d: 24 * t * d * d + 4 * t * t * d + 1, "should be 258560, it is 258561"),
        "text": (lambda t, d: "many", "one number, it is str"),
        "NaN": (lambda t, d: float("nan"), "there is a NaN"),
    },
}
RIGHT = {
    "scan": [
        in_place,
        lazily,
        lambda step, state, xs: list(itertools.accumulate(xs, step, initial=state))[1:],
        lambda step, state, xs: np.stack([reduce(step, xs[: t + 1], state).numpy() for t in range(len(xs))]),
    ],
    "block_flops": [
        by_products,
        lambda tokens, width: np.prod([24, tokens, width, width]) + np.prod([4, tokens, tokens, width]),
        lambda tokens, width: torch.tensor([24.0 * width, 4.0 * tokens]).sum() * tokens * width,
        lambda tokens, width: np.float32(4 * tokens * width * (6 * width + tokens)),
    ],
}
