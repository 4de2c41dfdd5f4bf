"""The data: what it is, and that a seed fixes it."""

import itertools

import pytest
import torch

from lecture_lib.data import batches, digits


def test_digits_are_a_fixed_fair_split():
    data = digits()
    assert data.train_x.shape == (1257, 8, 8) and data.test_x.shape == (540, 8, 8)
    assert data.train_x.dtype == torch.float32 and data.train_y.dtype == torch.int64
    assert data.train_x.min() == 0 and data.train_x.max() == 1
    shares = [y.bincount(minlength=10) / len(y) for y in (data.train_y, data.test_y)]
    torch.testing.assert_close(shares[0], shares[1], atol=2e-3, rtol=0)
    assert torch.equal(digits().test_x, data.test_x)


def test_batches_are_whole_and_each_pass_is_a_new_order():
    x = torch.arange(10)
    first = list(itertools.islice(batches(x, -x, size=3, generator=torch.Generator().manual_seed(0)), 6))
    assert all(torch.equal(a, -b) and len(a) == 3 for a, b in first)
    one, two = (torch.cat([a for a, _ in first[i : i + 3]]) for i in (0, 3))
    assert len(one.unique()) == 9 and not torch.equal(one, two)
    with pytest.raises(ValueError, match=r"size must be .*, got size 11 for lengths \[10\]"):
        next(batches(x, size=11))
    with pytest.raises(ValueError, match=r"got size 3 for lengths \[10, 9\]"):
        next(batches(x, x[1:], size=3))
