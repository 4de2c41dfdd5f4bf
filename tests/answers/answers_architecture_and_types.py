"""Wrong and right answers to the exercises of notebook 15."""

import itertools
from functools import reduce

import numpy as np
import torch
import torch.nn.functional as F


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


def turned(image):
    """Each 2 x 2 pixels turned by half a turn."""
    m, n = image.shape
    return image.reshape(m // 2, 2, n // 2, 2).flip(1, 3).reshape(m, n)


def enlarged(image):
    """Every pixel the largest of its 2 x 2."""
    return F.max_pool2d(image[None], 2)[0].repeat_interleave(2, 0).repeat_interleave(2, 1)


def one_pixel(image):
    """The first 2 x 2 pixels sorted."""
    image = image.clone()
    corner = image[:2, :2].flatten()
    image[:2, :2] = corner[[1, 0, 3, 2]].reshape(2, 2)
    return image


def doubled(image):
    return image.mul_(2)


WRONG = {
    "dense_units": {
        "not rounded": (4640 / 1025, "units come whole"),
        "rounded up": (5, "5 units have"),
        "the budget": (4640, "that is the budget"),
        "one unit": (torch.tensor(1025.0), "one unit's parameters"),
        "one place": (272, "all 64 places"),
        "as many as channels": (32, "not a window"),
        "what comes out": (2048, "returns"),
        "each place counted": (289, "count them once"),
        "something else": (7, "should not be 7"),
        "two numbers": ([4, 5], "one number, it is of shape (2,)"),
        "a text": ("four", "one number, it is str"),
        "a function": (lambda: 4, "hand over a number"),
    },
    "interaction": {
        "with sharing": (0.28, "brings with sharing; what does it bring without"),
        "without sharing": (0.06, "compare it with"),
        "the mean": (0.17, "wanted is their difference"),
        "both": (0.3, "over neither"),
        "of sharing": (0.24, "what sharing brings with pooling"),
        "of sharing alone": (0.02, "what sharing brings without pooling"),
        "the other way round": (-0.22, "the sign"),
        "a product": (0.56, "should not be 0.56"),
        "no number": (float("nan"), "should not be nan"),
    },
    "steps_of_the_fold": {
        "the words": (20, "number of words"),
        "the windows": (16, "number of windows"),
        "no windows": (10, "windows come first"),
        "no overlap": (4, "windows overlap"),
        "no overlap, pooled": (2, "still to come"),
        "a fence and its posts": (7, "16 windows"),
        "half a step": (7.5, "one more"),
        "what comes out": (1, "*returns* one state"),
        "something else": (9, "should not be 9"),
        "a list": ([20, 16, 8], "one number, it is of shape (3,)"),
    },
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
    "reordered_head": {
        "undone": (lambda w, order: w[:, order.argsort()], "undoes the order"),
        "rows": (lambda w, order: w[order], "units are the columns"),
        "as it was": (lambda w, order: w, "still has the old one"),
        "turned": (lambda w, order: w[:, order].T, "transpose"),
        "from the end": (lambda w, order: w.flip(1), "should be"),
        "sorted": (lambda w, order: w.sort(1).values, "should be"),
        "the order": (lambda w, order: order, "should be a tensor of shape (5, 5), not of (5,)"),
        "in place": (lambda w, order: w.copy_(w[:, order.argsort()]), "changed what it was given"),
        "text": (lambda w, order: "columns", "it is str"),
    },
    "lost_by_pooling": {
        "the same": (lambda image: image.clone(), "the image itself"),
        "pooled": (lambda image: F.max_pool2d(image[None], 2)[0], "should be of shape (8, 8)"),
        "moved": (lambda image: image.roll(1, 0), "the maxima differ"),
        "mirrored": (lambda image: image.flip(1), "the maxima differ"),
        "brighter": (lambda image: image + 0.1, "the maxima differ"),
        "in place": (doubled, "changed its image"),
        "no number": (lambda image: image / 0, "not finite"),
        "for one size": (lambda image: turned(image) if len(image) == 8 else image.T, "should be of shape (4, 6)"),
        "a number": (lambda image: 1.0, "not ()"),
        "a text": (lambda image: "turned", "it is str"),
    },
}
RIGHT = {
    "dense_units": [4, torch.tensor([4]), np.float32(4)],
    "interaction": [0.22, (0.8 - 0.52) - (0.56 - 0.5), torch.tensor(0.22)],
    "steps_of_the_fold": [8, torch.tensor(8.0), [8]],
    "scan": [
        in_place,
        lazily,
        lambda step, state, xs: list(itertools.accumulate(xs, step, initial=state))[1:],
        lambda step, state, xs: np.stack([reduce(step, xs[: t + 1], state).numpy() for t in range(len(xs))]),
    ],
    "reordered_head": [
        lambda w, order: w.index_select(1, order),
        lambda w, order: [[row[i] for i in order.tolist()] for row in w.tolist()],
        lambda w, order: w @ torch.eye(len(order))[:, order],
        lambda w, order: np.take(w.numpy(), order.numpy(), axis=1),
    ],
    "lost_by_pooling": [turned, enlarged, one_pixel, lambda image: turned(image).numpy()],
}
