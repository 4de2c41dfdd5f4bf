"""Checks of the exercises on discrete decisions."""

from collections.abc import Callable

import torch
from torch import Tensor

from lecture_lib.exercises.answers import NotAttempted, Wrong, tensor_of


def block_flops(answer: Callable[[int, int], float]) -> str:
    """Matrix products of one transformer block: tokens and width in, FLOPs out, a multiply-add counted as 2."""
    tokens, width = 10, 32
    given = answer(tokens, width)
    if given is None or given is ...:
        raise NotAttempted
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise Wrong(f"the result should be a number, it is {type(given).__name__}.")
    mlp, square, once = 2 * tokens * width * 8 * width, 2 * tokens * width * width, 2 * tokens * tokens * width
    right = mlp + 4 * square + 2 * once
    mistakes = {
        right / 2: "exactly half: a multiply-add is two operations.",
        right - 2 * once: "attention itself is missing: the scores, and the mean of the values.",
        right - once: "tokens meet tokens twice: once for the scores, once for the mean of the values.",
        right - square: "one of the four D × D products is missing: queries, keys, values, and the output.",
        right - 3 * square: "queries, keys and values are missing: D → 3D.",
        right - 2 * square: "queries, keys and values are three products D × D.",
        right - mlp: "the MLP is missing, and it is the largest part.",
        right - mlp / 2: "the MLP has two layers: D → 4D and 4D → D.",
        right / tokens: "that is the cost of one token; the block runs on all of them.",
        mlp + 4 * square + 2 * 2 * tokens * tokens: "each of the T × T pairs of tokens costs D multiply-adds, not one.",
    }
    for wrong, hint in mistakes.items():
        if abs(given - wrong) < 0.5:
            raise Wrong(hint)
    if not abs(given - right) <= 0.5:  # NaN as well
        raise Wrong(
            f"for 10 tokens of width 32 it gives {given:,.0f}. Write down each product with its shapes, and add."
        )
    tokens, width = 50, 24
    if not abs(answer(tokens, width) - (24 * tokens * width**2 + 4 * tokens**2 * width)) <= 0.5:
        raise Wrong("right for 10 tokens of width 32, not for 50 of width 24: which number should be a name?")
    return "24·T·D² + 4·T²·D: half of the tokens cost a little less than half, and half of the width about a quarter."


def scan(answer: Callable[[Callable, Tensor, Tensor], Tensor]) -> str:
    """A fold that returns every state: step, first state and inputs (T, ...) in, (T, ...) states out."""
    first, xs = torch.tensor([1.0, 2.0]), torch.tensor([[3.0, 1.0], [0.0, 4.0], [5.0, 2.0], [1.0, 1.0]])

    def step(state: Tensor, x: Tensor) -> Tensor:
        return 0.5 * state + x

    def states(state: Tensor, inputs: Tensor, step: Callable = step) -> Tensor:
        return torch.stack([state := step(state, x) for x in inputs])

    given = answer(step, first, xs)
    right = states(first, xs)
    if isinstance(given, list | tuple):
        raise Wrong("the states are in a list: torch.stack makes one tensor of them.")
    if isinstance(given, Tensor) and given.shape == first.shape:
        raise Wrong("that is one state, the result of a fold; a scan returns the state after each input.")
    if isinstance(given, Tensor) and given.shape == (5, 2):
        raise Wrong("five states for four inputs: the first state was given, it is not a result.")
    given = tensor_of(given, (4, 2))
    if torch.allclose(given, torch.cat([first.unsqueeze(0), right[:-1]])):
        raise Wrong("these are the states before each input; wanted are those after it.")
    mistakes = {
        "every input met the first state: hand each step the state that the step before returned.": 0.5 * first + xs,
        "the first state is not used: it is the second argument.": states(torch.zeros(2), xs),
        "the inputs were read from the last to the first.": states(first, xs.flip(0)),
        "step takes the state first, then the input.": states(first, xs, lambda state, x: step(x, state)),
        "the states are right, in the wrong order.": right.flip(0),
    }
    mistakes["the inputs were read from the last to the first, and the result turned round."] = states(
        first, xs.flip(0)
    ).flip(0)
    for hint, wrong in mistakes.items():
        if torch.allclose(given, wrong):
            raise Wrong(hint)
    if not torch.allclose(given, right):
        raise Wrong("the states differ from those of a fold. Print them for step = lambda state, x: state + x.")
    return "With a linear step, a scan can run in parallel over time; modern state-space models live from that."
