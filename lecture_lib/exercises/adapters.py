"""Checks of the exercise on adapters."""

import torch
from torch import Tensor

from lecture_lib.exercises.answers import Answer, Wrong, exercise, normal, pair, tensor_of

RANKS = (2, 2, (0.5, -2)), (2, 1, (0.5, -2)), (1, 3, (-1, 3))
LORAS = [(normal((r, 7), (5, r), (q, 7), (5, q)), w) for r, q, w in RANKS]
LORAS = [(tuple(lora[:2]), tuple(lora[2:]), w) for lora, w in LORAS]


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
