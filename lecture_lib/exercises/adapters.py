"""Checks of the exercises on adapters."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lecture_lib.exercises.answers import NotAttempted, Wrong


def two_in_one(answer: Callable[[tuple, tuple, tuple], tuple[Tensor, Tensor]]) -> str:
    """Two LoRAs (A, B) of one layer and two weights in, one (A, B) out whose B A is the weighted sum."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda r: (torch.randn(r, 7, generator=generator), torch.randn(5, r, generator=generator))  # noqa: E731
    first, second, third, w = draw(2), draw(2), draw(1), (0.5, -2.0)  # weights may be negative
    given = answer(first, second, w)
    if given is None or given is ...:
        raise NotAttempted
    if not isinstance(given, (tuple, list)) or len(given) != 2 or not all(isinstance(part, Tensor) for part in given):
        raise Wrong("the result should be a pair of tensors (A, B).")
    A, B = given
    (A1, B1), (A2, B2) = first, second
    wanted = w[0] * B1 @ A1 + w[1] * B2 @ A2  # (5, 7)
    if A.shape == (2, 7) and B.shape == (5, 2):
        raise Wrong("a sum of two products of rank 2 has rank 4: means or sums of the A and of the B have cross terms.")
    if A.shape != (4, 7) or B.shape != (5, 4):
        got = f"{tuple(A.shape)} and {tuple(B.shape)}"
        raise Wrong(f"A should be of shape (4, 7) and B of shape (5, 4), as the ranks 2 and 2 add up; they are {got}.")
    if B.isnan().any() or A.isnan().any():
        raise Wrong("there is a NaN: a weight may be negative, and then has no square root.")
    mistakes = {
        B1 @ A1 + B2 @ A2: "the adapters are added, but where are the weights?",
        w[0] ** 2 * B1 @ A1 + w[1] ** 2 * B2 @ A2: "each weight counts twice: once in A, once in B.",
        w[1] * B1 @ A1 + w[0] * B2 @ A2: "each adapter has the weight of the other.",
    }
    for wrong, hint in mistakes.items():
        if torch.allclose(B @ A, wrong, atol=1e-5):
            raise Wrong(hint)
    if not torch.allclose(B @ A, wanted, atol=1e-5):
        raise Wrong("B A is not the weighted sum: row i of A must meet the column i of B that belongs to it.")
    A, B = answer(first, third, w)
    if A.shape != (3, 7) or not torch.allclose(B @ A, w[0] * B1 @ A1 + w[1] * third[1] @ third[0], atol=1e-5):
        raise Wrong("right for two adapters of rank 2, not for ranks 2 and 1.")
    return "Exact, and the ranks add up. Merged into the layer, even that costs nothing."


def expert_bits(answer: Callable[[Tensor, Tensor], float]) -> str:
    """The mutual information, in bits, of two lists of integers (N,): experts and labels."""
    expert = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2])
    label = torch.tensor([0, 0, 0, 1, 1, 1, 0, 0, 2, 2, 2, 1])

    def bits(a: Tensor, b: Tensor) -> float:
        joint = torch.zeros(int(a.max()) + 1, int(b.max()) + 1).index_put((a, b), torch.ones(()), accumulate=True)
        return (entropy(joint.sum(1)) + entropy(joint.sum(0)) - entropy(joint)).item()

    def entropy(counts: Tensor) -> Tensor:
        return torch.special.entr(counts / counts.sum()).sum() / math.log(2)

    given = answer(expert, label)
    if given is None or given is ...:
        raise NotAttempted
    try:
        given = float(given)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"the result should be one number, it is {type(given).__name__}.") from None
    right, of_expert, of_label = bits(expert, label), bits(expert, expert), bits(label, label)
    if math.isnan(given):
        raise Wrong("it is NaN: expert 1 never has the label 0, and 0 · log 0 has to count as 0.")
    mistakes = {
        right * math.log(2): "that is in nats; a bit is log 2 of them.",
        -right: "the sign is wrong: information is never negative.",
        right * len(label): "the counts must be divided by N to become probabilities.",
        of_label: "that is the entropy of the label, what there is to tell. How much of it does the expert tell?",
        of_expert: "that is the entropy of the expert. How much does it tell about the label?",
        of_label - right: "that is what remains unknown of the label when the expert is known.",
        of_expert
        + of_label
        - right: "that is the joint entropy; information is what the two entropies have in common.",
    }
    for wrong, hint in mistakes.items():
        if math.isclose(given, wrong, rel_tol=1e-4):
            raise Wrong(hint)
    if not math.isclose(given, right, rel_tol=1e-4):
        raise Wrong(f"for the check's 12 tokens it should be {right:.4f} bits, it is {given:.4f}.")
    alone = float(answer(expert, torch.zeros_like(label)))
    if abs(alone) > 1e-5:
        raise Wrong(f"about a label that is always the same there is nothing to tell: 0 bits, not {alone:.4f}.")
    other = torch.tensor([3, 0, 1, 2]).repeat(5)
    if not math.isclose(float(answer(other, other)), 2, rel_tol=1e-4):
        raise Wrong("right for 3 experts and 3 labels, not for 4 of each, which should have 2 bits.")
    return "Shuffle the labels and ask again: in a finite sample, chance alone has a few thousandths of a bit."
