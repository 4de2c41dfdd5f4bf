"""Checks of the exercises on adapters."""

import math

import torch
from torch import Tensor

from lecture_lib.exercises.answers import Answer, Wrong, exercise, normal, pair, tensor_of

RANKS = (2, 2, (0.5, -2)), (2, 1, (0.5, -2)), (1, 3, (-1, 3))
LORAS = [(normal((r, 7), (5, r), (q, 7), (5, q)), w) for r, q, w in RANKS]
LORAS = [(tuple(lora[:2]), tuple(lora[2:]), w) for lora, w in LORAS]
FOUR, FEW, MANY = torch.arange(8) % 4, torch.arange(12) // 6, normal((12,))[0].abs().mul(2).long()
LISTS = [(MANY, FEW), (MANY, 0 * FEW), (FOUR, FOUR), (FEW, 3 * MANY), (FEW[:1], MANY[:1])]


def product(answer: Answer, first: tuple, second: tuple, w: tuple) -> Tensor:
    (r1, d_in), (d_out, r2) = first[0].shape, second[1].shape
    A, B = (tensor_of(part) for part in pair(answer(first, second, w), "two tensors (A, B)"))
    got, wanted = (tuple(A.shape), tuple(B.shape)), ((r1 + r2, d_in), (d_out, r1 + r2))
    if got == wanted:
        return B @ A
    if r1 == r2 and got == ((r1, d_in), (d_out, r1)):
        raise Wrong(f"sums of A and of B have cross terms; what is wanted has rank {r1 + r2}.")
    raise Wrong(f"the shapes of A and B should be {wanted}, as ranks add up; they are {got}.")


@exercise(LORAS, ask=product)
def two_in_one(first: tuple, second: tuple, w: tuple) -> dict:
    """Two LoRAs (A, B) of a layer and two weights in, one (A, B) with their weighted sum out."""
    (A1, B1), (A2, B2) = first, second
    one, two = B1 @ A1, B2 @ A2
    right = w[0] * one + w[1] * two
    flipped = torch.cat([w[1] * B2, w[0] * B1], 1) @ torch.cat([A1, A2])
    return {
        "Exact, and the ranks add up. Merged into the layer, even that costs nothing.": right,
        "there is a NaN: a weight may be negative, and has no square root.": right * torch.nan,
        "the adapters are added, but where are the weights?": one + two,
        "each weight counts twice: once in A, once in B.": w[0] ** 2 * one + w[1] ** 2 * two,
        "each adapter has the weight of the other.": w[1] * one + w[0] * two,
        "row i of A must meet the column i of B that belongs to it.": flipped,
    }


@exercise(LISTS)
def expert_bits(expert: Tensor, label: Tensor) -> dict:
    """The mutual information, in bits, of two lists of integers (N,): experts and labels."""

    def entropy(*lists: Tensor) -> Tensor:
        """Of one list, or of several together, in bits."""
        counts = torch.stack(lists).unique(dim=1, return_counts=True)[1]
        return torch.special.entr(counts / len(label)).sum() / math.log(2)

    of_expert, of_label, joint = entropy(expert), entropy(label), entropy(expert, label)
    right = of_expert + of_label - joint
    return {
        "By chance alone it is about (E - 1)(L - 1) / (2 N ln 2) bits: shuffle, and see.": right,
        "it is NaN: some pairs never occur, and 0 · log 0 has to count as 0.": math.nan,
        "that is in nats; a bit is log 2 of them.": right * math.log(2),
        "the sign is wrong: information is never negative.": -right,
        "the counts must be divided by N to become probabilities.": right * len(label),
        "that is the entropy of the label. How much of it does the expert tell?": of_label,
        "that is the entropy of the expert. How much does it tell about the label?": of_expert,
        "that is what remains unknown of the label when the expert is known.": joint - of_expert,
        "that is the joint entropy; information is what the two have in common.": joint,
    }
