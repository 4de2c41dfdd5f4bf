"""Checks of the exercises on reinforce."""

from collections.abc import Callable

import torch
from torch import Tensor

from lecture_lib.exercises.answers import Wrong, tensor_of


def leave_one_out_baseline(answer: Callable[[Tensor], Tensor]) -> str:
    """Costs (S, B) of S samples for each of B inputs in; for every sample the mean cost of the others out, (S, B)."""
    costs = torch.tensor([[1.0, 5.0, 0.5], [0.0, 3.0, 2.5], [2.0, 8.0, 1.0], [4.0, 1.0, 0.0]])
    before, n = costs.clone(), len(costs)
    total, others = costs.sum(0), costs.sum(0) - costs
    b = tensor_of(answer(costs), (4, 3)).detach()
    if not torch.equal(costs, before):
        raise Wrong("the function changed the costs that it was given; return new numbers.")

    def close(other: Tensor) -> bool:
        return torch.allclose(b, other.expand(4, 3), atol=1e-5)

    if close(others / (n - 1)):
        if not torch.allclose(tensor_of(answer(costs[:2]), (2, 3)), costs[[1, 0]]):
            raise Wrong("right for 4 samples, but for 2 each one's baseline should be the other one's cost.")
        return "Every sample is judged, and judges its siblings: S costs, S baselines, no extra evaluation, no bias."
    if close(total / n):
        raise Wrong("each mean holds the sample's own cost, and shrinks the gradient by 1/S: that is a bias.")
    if close(others / n):
        raise Wrong("each sum leaves one out, but is divided as if it did not: how many others are there?")
    if close(others):
        raise Wrong("this is the sum of the others' costs, not their mean.")
    if close(costs - others / (n - 1)):
        raise Wrong("this is the cost minus the baseline; `surrogate` will subtract it.")
    if close(-others / (n - 1)):
        raise Wrong("the sign: a baseline is a cost, and `surrogate` subtracts it.")
    if close((costs.sum(1, keepdim=True) - costs) / 2):
        raise Wrong("this compares different inputs with each other. Along which dimension are the samples?")
    if close(torch.cat([torch.zeros(1, 3), costs.cumsum(0)[:-1] / torch.arange(1, n)[:, None]])):
        raise Wrong("this is the mean of the samples before; all the others may be used, those after as well.")
    got = [round(value, 2) for value in b[:, 0].tolist()]
    raise Wrong(f"for the costs {before[:, 0].tolist()} of one input you get {got}.")


def best_baseline(answer: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Probabilities and costs (K,) in, the constant baseline of least variance out, a tensor without dimensions."""
    pi, costs = torch.tensor([0.6, 0.25, 0.1, 0.05]), torch.tensor([1.0, 3.0, -2.0, 6.0])
    v = torch.eye(4) - pi
    square = (v**2).sum(-1)  # |∇ log π_k|²
    b = tensor_of(answer(pi.clone(), costs.clone()), ()).item()

    def close(weights: Tensor) -> bool:
        return abs(b - ((weights * costs).sum() / weights.sum()).item()) < 1e-4

    if close(pi * square):
        return "For one bit it is p · cost(0) + (1 - p) · cost(1), probabilities swapped, and no variance is left."
    if close(pi):
        raise Wrong("this is the expected cost: good, but draws with a long gradient should count for more.")
    if close(torch.ones(4)):
        raise Wrong("this is the plain mean of the costs: options that are never drawn should not count.")
    if close(pi * square.sqrt()):
        raise Wrong("nearly: it is the square of the length of v that stands in the expectation.")
    if close(square):
        raise Wrong("the lengths are there, the probabilities are not: the expectation is over k drawn from pi.")
    if close(pi * (1 - pi) ** 2):
        raise Wrong("v has an entry for every score, not only for the one of the option drawn.")
    if abs(b - (pi * square * costs).sum().item()) < 1e-4:
        raise Wrong("a weighted mean is divided by the sum of its weights.")
    spread = [((pi * (costs - x) ** 2 * square).sum()).item() for x in (b, b + 0.1, b - 0.1)]
    side = "higher" if spread[1] < spread[2] else "lower"
    raise Wrong(f"at {b:.2f} the variance is not smallest: a {side} baseline has less.")
