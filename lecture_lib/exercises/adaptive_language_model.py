"""Checks of the exercises on adaptive language model."""

from collections.abc import Callable

import torch
from torch import Tensor

from lecture_lib.exercises.answers import NotAttempted, Wrong, tensor_of


def oracle_exit(answer: Callable[[Tensor], Tensor]) -> str:
    """Predictions (L, T) in; for each token the first exit from which on all agree with the last out, (T,)."""
    predictions = torch.tensor([[5, 5, 1, 2, 9, 7], [5, 3, 1, 4, 2, 6], [5, 5, 8, 4, 2, 7], [5, 5, 1, 4, 3, 7]])
    wanted = torch.tensor([0, 2, 3, 1, 3, 2])
    exits = tensor_of(answer(predictions.clone()), (6,)).long()
    if torch.equal(exits, wanted):
        return "It needs all layers to know that it did not need them: a yardstick, not a method."
    agrees = predictions == predictions[-1]
    if torch.equal(exits, agrees.long().argmax(0)):
        raise Wrong("a prediction may be right, change, and come back: token 2 agrees at exit 0, not at exit 1.")
    if torch.equal(exits, wanted + 1):
        raise Wrong("off by one: exits count from 0; what you return is how many layers run.")
    if torch.equal(exits, agrees.sum(0)) or torch.equal(exits, 4 - agrees.sum(0)):
        raise Wrong("counting the exits that agree does not tell which: agreement may have a gap.")
    steady = torch.cat([predictions[1:] == predictions[:-1], torch.ones(1, 6, dtype=torch.bool)]).long().argmax(0)
    if torch.equal(exits, steady):
        raise Wrong("two exits in a row that agree with each other may both be wrong; compare with the last.")
    if (exits == 3).all():
        raise Wrong("every token takes all layers.")
    place = int((exits != wanted).nonzero()[0])
    raise Wrong(f"for the predictions {predictions[:, place].tolist()} of one token you get exit {exits[place]}.")


def fixed_sequence(answer: Callable[[list[float], float], int | None]) -> str:
    """p-values from the safest threshold to the boldest and ε in; the index to use, or None, out."""

    def ask(p_values: list[float], error: float = 0.1) -> object:
        index = answer(list(p_values), error)
        if index is ...:
            raise NotAttempted
        if getattr(index, "shape", ()):
            raise Wrong(f"the result should be one index or None, it is of shape {tuple(index.shape)}.")
        return index

    gap = ask([0.01, 0.02, 0.05, 0.3, 0.04, 0.9])  # before anything that may return None: that is not an attempt
    if gap is None and ask([0.01, 0.02]) is None:
        raise NotAttempted
    if gap == 4:
        raise Wrong("after a test that fails nothing counts any more: index 4 was reached by looking further.")
    if gap == 3:
        raise Wrong("index 3 is the first test that fails; the one before it was the last to pass.")
    if gap == 0:
        raise Wrong("index 0 is the safest. Go on while tests pass: bolder saves more.")
    if gap == 1:
        raise Wrong("no correction for many tests is needed: each compares with ε itself.")
    if gap != 2:
        raise Wrong(f"for [0.01, 0.02, 0.05, 0.3, 0.04, 0.9] and ε = 0.1 you get {gap!r}.")
    nothing = ask([0.2, 0.01])
    if nothing is not None:
        raise Wrong(f"if not even the safest passes, the answer is None: use the full model. You get {nothing!r}.")
    everything = ask([0.01, 0.02, 0.03])
    if everything != 2:
        raise Wrong(f"if all three pass, the boldest is the one to use: 2. You get {everything!r}.")
    if ask([0.1, 0.5]) != 0:
        raise Wrong("a p-value equal to ε passes.")
    return "Only the first true hypothesis can be rejected by mistake, and that happens with probability at most ε."
