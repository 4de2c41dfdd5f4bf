"""y = Σ_k z_k · f_k(x): what runs, which shapes fit. Values and gradients in every way of choosing: test_grid.py."""

import pytest
import torch
from torch import nn

from lecture_lib.choice import argmax
from lecture_lib.cost import count_flops
from lecture_lib.mixture import mix, mix_sparse

D, D_OUT, K = 8, 6, 5


def test_sparse_runs_each_option_only_on_the_examples_that_chose_it():
    x = torch.randn(2, 7, D, dtype=torch.float64)
    weights = torch.zeros(2, 7, K, dtype=torch.float64)
    weights[..., 1] = 1
    weights[0, 3] = torch.tensor([0, 0, 0.5, 0, 0.5])
    seen = {}

    def option(k):
        def f(rows):
            seen[k] = len(rows)
            return rows * k

        return f

    y = mix_sparse(x, weights, [option(k) for k in range(K)])
    assert seen == {1: 13, 2: 1, 4: 1}  # 0 and 3 were not called at all
    torch.testing.assert_close(y[0, 3], 3 * x[0, 3])


def test_flops_are_those_of_the_support():
    x, weights = torch.randn(10, D), argmax(torch.randn(10, K)).weights
    options = [nn.Linear(D, D_OUT) for _ in range(K)]
    one = 2 * 10 * D * D_OUT
    assert count_flops(mix, x, weights, options) == K * one
    assert count_flops(mix_sparse, x, weights, options) == one


@pytest.mark.parametrize("evaluate", [mix, mix_sparse])
def test_shapes_of_examples_are_free(evaluate):
    """Weights without batch dimensions, examples that are sequences, empty batches, rows without a choice."""
    attention = [nn.Flatten(1), nn.Flatten(1)]
    assert evaluate(torch.randn(3, 4, D), torch.rand(3, 2), attention).shape == (3, 4 * D)
    assert evaluate(torch.randn(4, D), torch.rand(2), [nn.Identity(), nn.Tanh()]).shape == (4, D)
    assert evaluate(torch.randn(0, D), torch.rand(0, 2), [nn.Linear(D, 3)] * 2).shape == (0, 3)
    assert evaluate(torch.randn(2, 0, D), torch.rand(2, 0, 2), [nn.Linear(D, 3)] * 2).shape == (2, 0, 3)
    assert torch.equal(evaluate(torch.randn(5, D), torch.zeros(5, 2), [nn.Linear(D, 3)] * 2), torch.zeros(5, 3))


@pytest.mark.parametrize("evaluate", [mix, mix_sparse])
def test_what_does_not_fit_is_refused(evaluate):
    x = torch.randn(4, D)
    with pytest.raises(ValueError, match=r"weights must have shape \(\*batch, K\) for K = 2 modules, got \(4, 3\)"):
        evaluate(x, torch.rand(4, 3), [nn.Identity()] * 2)
    with pytest.raises(ValueError, match="for K = 0 modules"):
        evaluate(x, torch.rand(4, 0), [])
    with pytest.raises(ValueError, match=r"x must start with the batch dimensions of weights, \(3,\), got \(4, 8\)"):
        evaluate(x, torch.rand(3, 2), [nn.Identity()] * 2)
    with pytest.raises(ValueError, match=r"modules must all return the same shape per example, got \[\(8,\), \(3,\)\]"):
        evaluate(x, torch.rand(4, 2), [nn.Identity(), nn.Linear(D, 3)])
    with pytest.raises(ValueError, match=r"modules\[0\] must return one output per example, \(4, ...\), got \(\)"):
        evaluate(x, torch.rand(4, 2), [torch.sum] * 2)
