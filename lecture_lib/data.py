"""Real data without a download, and synthetic tasks made of it."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Digits(NamedTuple):
    """Handwritten digits, 8 x 8 pixels in [0, 1], with their class 0 to 9; a fixed split, classes in equal shares."""

    train_x: Tensor  # (1257, 8, 8) float32
    train_y: Tensor  # (1257,) int64
    test_x: Tensor  # (540, 8, 8)
    test_y: Tensor  # (540,)


def digits() -> Digits:
    """The digits that come with scikit-learn: 1,797 images by 13 writers, 70 % of them for training.

    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI repository (its test part). Writers
    are not marked, so both parts of the split hold digits of the same hands.
    """
    from sklearn.datasets import load_digits  # a second to import: only for those who want the data
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)
    train_x, test_x = (torch.tensor(part / 16, dtype=torch.float32).reshape(-1, 8, 8) for part in parts[:2])
    train_y, test_y = (torch.tensor(part) for part in parts[2:])
    return Digits(train_x, train_y, test_x, test_y)


def batches(*tensors: Tensor, size: int = 64, generator: torch.Generator | None = None) -> Iterator[tuple[Tensor, ...]]:
    """Endless shuffled batches of `size` examples: each pass is a new order, its last incomplete batch is left out."""
    n = len(tensors[0]) if tensors else 0
    if not 1 <= size <= n or any(len(t) != n for t in tensors):
        lengths = [len(t) for t in tensors]
        raise ValueError(f"size must be 1 to the common length of the tensors, got size {size} for lengths {lengths}")
    while True:
        order = torch.randperm(n, generator=generator)
        for rows in order[: n - n % size].split(size):
            yield tuple(t[rows] for t in tensors)
