"""Checks of the exercises on start here."""

from collections.abc import Callable

import torch
from torch import Tensor

from lecture_lib.exercises.answers import Wrong, tensor_of


def run_what_is_chosen(answer: Callable[[Tensor, Tensor, list[Callable]], Tensor]) -> str:
    """Σ_k z_k · f_k(x): inputs (N, D), weights (N, K) and K modules in, (N, C) out; zeros are not computed."""
    x = torch.tensor([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0], [-2.0, 1.0], [1.5, 1.5]])
    z = torch.tensor([[0, 1.0, 0], [0.5, 0, 0], [0, 0.25, 0], [0.5, 0.75, 0], [1.0, 0, 0]])  # nobody chose the third
    weights = (torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]]), torch.tensor([[2.0, 0.0, 1.0], [1.0, 1.0, 0.0]]))
    rows, before = [0, 0, 0], (x.clone(), z.clone())

    def module(k: int) -> Callable[[Tensor], Tensor]:
        def run(some: Tensor) -> Tensor:
            rows[k] += len(some)
            return some @ weights[k % 2] + k + 1

        return run

    modules = [module(k) for k in range(3)]
    wanted = sum(z[:, k, None] * modules[k](x) for k in range(3))
    rows[:] = [0, 0, 0]
    y = tensor_of(answer(x, z, modules), (5, 3))
    if not (torch.equal(x, before[0]) and torch.equal(z, before[1])):
        raise Wrong("the function changed what it was given; return a new tensor.")
    if torch.allclose(y, wanted):
        if sum(rows) > 6:
            raise Wrong(f"the sum is right, and {sum(rows)} rows were run for it; 6 weights are not zero.")
        return "This is what the library's mix_sparse does; with one module a row, it is a layer of experts."
    ones = sum((z[:, k, None] > 0) * modules[k](x) for k in range(3))
    if torch.allclose(y, ones):
        raise Wrong("every module that was chosen counts in full; where does its weight enter?")
    best = z.argmax(-1, keepdim=True)
    if torch.allclose(y, sum(((best == k) * z[:, k, None]) * modules[k](x) for k in range(3))):
        raise Wrong("a row may have chosen two modules, and row 4 did: both have to be added.")
    if torch.allclose(y.sum(0), wanted.sum(0)):
        raise Wrong("all that is needed was computed, but it came back in other rows than it belongs to.")
    row = int((y - wanted).abs().amax(-1).argmax())
    raise Wrong(f"row {row + 1} should be {wanted[row].tolist()}, it is {y[row].tolist()}.")
