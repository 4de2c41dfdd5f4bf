"""The data: what it is, and that a seed fixes it."""

import itertools

import pytest
import torch

from lecture_lib.data import batches, digits, find_the_digit


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


def test_a_scene_holds_one_digit_and_clutter():
    data = digits()
    draw = lambda: find_the_digit(data.test_x, data.test_y, n_scenes=500, generator=torch.Generator().manual_seed(0))  # noqa: E731
    patches, label, position = draw()
    assert patches.shape == (500, 9, 8, 8)
    known = {tuple(x.flatten().tolist()): y for x, y in zip(data.test_x, data.test_y.tolist(), strict=True)}
    is_digit = [[known.get(tuple(patch.flatten().tolist())) for patch in scene] for scene in patches]
    for row, y, k in zip(is_digit, label.tolist(), position.tolist(), strict=True):
        assert row[k] == y and sum(found is not None for found in row) == 1
    assert position.bincount(minlength=9).min() > 30
    # the clutter has the ink of digits: no counting of pixels gives the place away
    ink = patches.sum((-1, -2))
    chosen = torch.zeros(500, 9, dtype=torch.bool).scatter(1, position[:, None], True)
    torch.testing.assert_close(ink[chosen].mean(), ink[~chosen].mean(), rtol=0.05, atol=0)
    assert torch.equal(draw().patches, patches)
    with pytest.raises(ValueError, match="n_patches at least 2, got 500 and 1"):
        find_the_digit(data.test_x, data.test_y, n_scenes=500, n_patches=1)
