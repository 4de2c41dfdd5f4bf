"""Checks of the exercises on discrete decisions."""

from collections.abc import Callable

import torch
from torch import Tensor

from lecture_lib.exercises.answers import exercise, normal


@exercise([(10, 32), (50, 24), (1, 8), (7, 5)], tolerance=1e-6)
def block_flops(n_tokens: int, d_model: int) -> dict:
    """Matrix products of a block: tokens and width in, FLOPs out, a multiply-add counted as 2."""
    square, once = 2 * n_tokens * d_model**2, 2 * n_tokens**2 * d_model
    right, linear = 12 * square + 2 * once, 12 * square
    return {
        "24·T·D² + 4·T²·D: while T is well below 6·D, half of the tokens cost nearly half.": right,
        "exactly half: a multiply-add is two operations.": right / 2,
        "attention itself is missing: the scores, and the mean of the values.": linear,
        "tokens meet twice: for the scores, and for the mean of the values.": right - once,
        "one D × D product is missing: queries, keys, values, and the output.": right - square,
        "queries, keys and values are missing: D → 3D.": right - 3 * square,
        "queries, keys and values are three products D × D.": right - 2 * square,
        "the MLP is missing, for these sizes the largest part.": right - 8 * square,
        "the MLP has two layers: D → 4D and 4D → D.": right - 4 * square,
        "that is the cost of one token; the block runs on all of them.": right / n_tokens,
        "each of the T × T pairs costs D multiply-adds, not one.": linear + 2 * once / d_model,
    }


HALVE, BEND = (lambda state, x: state / 2 + x), (lambda state, x: torch.tanh(state - 2 * x.sum()))
FIRST, XS = torch.tensor([1.0, 2.0]), torch.tensor([[3.0, 1.0], [0.0, 4.0], [5.0, 2.0], [1.0, 1.0]])
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
