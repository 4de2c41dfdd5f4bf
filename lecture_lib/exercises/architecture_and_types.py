"""Checks of the exercises on architecture and types."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, tensor

from lecture_lib.exercises.answers import Answer, Wrong, close, exercise, normal, number, tensor_of

dense_units = number(
    "4 units, against the 2,048 numbers of the convolution; they cost 8,192 FLOPs, the convolution 589,824.",
    4,
    {
        "units come whole, and the budget is a limit: round down.": 4640 / 1025,
        "5 units have 5,125 parameters, more than the convolution.": 5,
        "that is the budget; how many parameters does one unit have?": 4640,
        "that is one unit's parameters; how many of them fit into the budget?": 1025,
        "a dense unit reads all 64 places, not one: 16 · 64 numbers.": 4640 // 17,
        "a dense unit reads all places, not a window: 16 · 64 numbers.": 32,
        "that is how many numbers the convolution returns.": 2048,
        "the convolution has the same weights at all 64 places: count them once.": 289,
    },
)

interaction = number(
    "Pooling brings 0.28 with sharing and 0.06 without: an effect of one ingredient depends on the others.",
    0.22,
    {
        "that is what pooling brings with sharing; what does it bring without, and how much more is the first?": 0.28,
        "that is what pooling brings without sharing; compare it with what it brings with sharing.": 0.06,
        "that is the mean of the two effects of pooling; wanted is their difference.": 0.17,
        "that is what both bring together, over neither.": 0.30,
        "that is what sharing brings with pooling.": 0.24,
        "that is what sharing brings without pooling.": 0.02,
        "the sign: with sharing pooling brings more, not less.": -0.22,
    },
)

steps_of_the_fold = number(
    "20 words, 16 windows, 8 pairs: a fold takes one step for each item that reaches it.",
    8,
    {
        "that is the number of words; with no border there are fewer windows.": 20,
        "that is the number of windows; then two neighbours become one.": 16,
        "the windows come first, and they make the list shorter.": 10,
        "windows overlap: one begins at each word that has four after it.": 4,
        "windows overlap, and the pooling is still to come.": 2,
        "20 - 5 words can begin a window, and one more.": 7.5,
        "of 15 windows seven pairs; but there are 16 windows: the first begins at word 0, the last at word 15.": 7,
        "the fold *returns* one state; how many items does it read?": 1,
    },
)

HALVE, BEND = (lambda state, x: state / 2 + x), (lambda state, x: torch.tanh(state - 2 * x.sum()))
FIRST, XS = tensor([1.0, 2.0]), tensor([[3.0, 1.0], [0.0, 4.0], [5.0, 2.0], [1.0, 1.0]])
SCANS = [(HALVE, FIRST, XS), (HALVE, FIRST, XS[:1]), (BEND, *normal((3,), (5, 2, 2)))]


@exercise(SCANS)
def scan(step: Callable, state: Tensor, xs: Tensor) -> dict:
    """A fold that returns every state: step, first state, inputs (T, ...) in, T states out."""

    def states(state: Tensor, xs: Tensor, step: Callable = step) -> Tensor:
        return torch.stack([state := step(state, x) for x in xs])

    right, first, apart = states(state, xs), state[None], [step(state, x) for x in xs]
    return {
        "With a linear step, a scan can run in parallel: state-space models live from that.": right,
        "that is one state, of a fold; a scan returns the state after each input.": right[-1],
        "the first state was given; it is not a result.": torch.cat([first, right]),
        "wanted are the states after each input, not before.": torch.cat([first, right[:-1]]),
        "every input met the first state: go on from what the step before returned.": apart,
        "the first state is not used: it is the second argument.": states(0 * state, xs),
        "the inputs were read from the last to the first.": states(state, xs.flip(0)),
        "step takes the state first, then the input.": states(state, xs, lambda s, x: step(x, s)),
        "the states are right, in the wrong order.": right.flip(0),
    }


HEADS = [(normal((5, 5))[0], tensor([4, 0, 1, 2, 3])), (normal((3, 4))[0], tensor([2, 0, 3, 1]))]
HEADS += [(normal((2, 6))[0], tensor([1, 2, 0, 5, 3, 4])), (normal((4, 1))[0], tensor([0]))]


@exercise(HEADS)
def reordered_head(weight: Tensor, order: Tensor) -> dict:
    """A head's weight (C, H) and an order of H units in, the weight that reads h[:, order] as the old one h."""
    right, undone = weight[:, order], weight[:, order.argsort()]
    return {
        "The same function, in another order of units: 32 units have 32! such orders.": right,
        "that undoes the order; the units come in the new one.": undone,
        "the units are the columns: row c belongs to class c.": weight[order % len(weight)],
        "the units have another order now; the head still has the old one.": weight,
        "that is the transpose: (C, H) as before.": right.T,
    }


def lost_by_pooling(answer: Answer) -> str:
    """An image of even sides in, another image with the same maxima of 2 x 2 pixels out."""
    for sides in ((8, 8), (4, 6), (2, 2)):
        values = [torch.randperm(16, generator=torch.Generator().manual_seed(k)) for k in range(4)]
        image = torch.cat(values)[: sides[0] * sides[1]].reshape(sides) / 16  # in no window all four are the same
        mine = image.clone()
        given = tensor_of(answer(mine), f"an image of shape {sides}").detach()
        if given.shape != sides:
            raise Wrong(f"it should be of shape {sides}, as the image, not {tuple(given.shape)}.")
        same = close(*(F.max_pool2d(one.double()[None], 2) for one in (given, image)))
        for wrong, hint in (
            (not torch.equal(mine, image) and not same, "the function changed its image: copy it."),
            (not given.isfinite().all(), "a pixel is not finite."),
            (close(given, image), "that is the image itself: some pixel should differ."),
            (not same, "the maxima differ: of each 2 x 2 pixels the largest value should stay."),
        ):
            if wrong:
                raise Wrong(hint)
    return "Which of the four was the largest, and what the other three were, is lost."
