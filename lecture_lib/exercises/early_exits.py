"""Checks of the exercises on early exits."""

from collections.abc import Callable

import torch
from torch import Tensor

from lecture_lib.exercises.answers import NotAttempted, Wrong, tensor_of


def patience_exit(answer: Callable[[Tensor, int], Tensor]) -> str:
    """Predictions (K, N) and a patience in, the exit (N,) at which that many in a row have agreed out."""
    said = torch.tensor(
        [[3, 1, 4, 1, 6, 9], [3, 2, 4, 2, 0, 8], [3, 2, 7, 3, 0, 8], [3, 2, 7, 4, 6, 8], [3, 5, 7, 5, 6, 8]]
    )
    wanted = torch.tensor([2, 3, 4, 4, 4, 3])
    given = tensor_of(answer(said.clone(), 2), (6,)).long()
    mistakes = {
        (2, 3, 3, 4, 4, 3): "the counter does not start again at 0 when an exit disagrees (third example).",
        (1, 2, 1, 4, 2, 2): "too early: two agreements need three predictions.",
        (3, 4, 4, 4, 4, 4): "too late: two agreements are enough.",
        tuple((wanted + 1).tolist()): "off by one: exits count from 0.",
        (2, 3, 4, 0, 0, 3): "an example whose exits do not agree for long enough leaves at the last, not at the first.",
        (4, 3, 4, 4, 4, 4): "an example leaves the first time the counter is full, and does not come back.",
    }
    for wrong, hint in mistakes.items():
        if tuple(given.tolist()) == wrong:
            raise Wrong(hint)
    if not torch.equal(given, wanted):
        place = int((given != wanted).nonzero()[0])
        raise Wrong(f"with patience 2 and the predictions {said[:, place].tolist()} you get exit {given[place]}.")
    if not torch.equal(tensor_of(answer(said.clone(), 1), (6,)).long(), torch.tensor([1, 2, 1, 4, 2, 2])):
        raise Wrong("right for patience 2, not for 1: which number should be a name?")
    return "No threshold, no probabilities: patience works for any model that answers more than once."


def mean_flops(answer: Callable[[Tensor, int, int], float]) -> str:
    """Exits (N,), the FLOPs of a block and of a head in; the mean FLOPs of an example out."""
    given = answer(torch.tensor([0, 1, 3, 3, 2, 3]), 1000, 10)
    if given is None or given is ...:
        raise NotAttempted
    try:
        given = float(given)
    except (TypeError, ValueError, RuntimeError):  # torch raises the last
        raise Wrong("the result should be one number.") from None
    mistakes = {
        3000: "the heads are missing.",
        3010: "an example that leaves at exit 2 was asked at exits 0 and 1, too: every head on the way has run.",
        3020: "the head at which an example leaves has run, too.",
        2020: "off by one: who leaves at exit 0 has run one block and one head.",
        2030: "off by one: who leaves at exit 0 has run one block.",
        18180: "that is the sum over the examples, not the mean.",
        4040: "that is what the slowest example costs; the others are not computed any more.",
    }
    for wrong, hint in mistakes.items():
        if abs(given - wrong) < 0.5:
            raise Wrong(hint)
    if not abs(given - 3030) <= 0.5:  # NaN as well
        raise Wrong(f"for exits 0, 1, 3, 3, 2, 3 with 1000 a block and 10 a head it should be 3030, it is {given:g}.")
    if not abs(float(answer(torch.tensor([1, 0, 0, 1]), 8, 4)) - 18) <= 0.01:
        raise Wrong("right for six examples, not for four: which number should be a name?")
    return "Asking everywhere costs a head a block: cheap with ten classes, dear with a vocabulary of 50,000."
