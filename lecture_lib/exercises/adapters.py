"""Checks of the exercises on adapters."""

import torch
from torch import Tensor

from lecture_lib.exercises.answers import Answer, Wrong, exercise, normal, number, pair, show, tensor_of

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
        "Exact, and the ranks add up. Merged into the layer, it has no FLOPs of its own.": right,
        "there is a NaN: a weight may be negative, and has no square root.": right * torch.nan,
        "the adapters are added, but where are the weights?": one + two,
        "each weight counts twice: once in A, once in B.": w[0] ** 2 * one + w[1] ** 2 * two,
        "each adapter has the weight of the other.": w[1] * one + w[0] * two,
        "row i of A must meet the column i of B that belongs to it.": flipped,
    }


memory_factor = number(
    "16 MiB become 4.5 MiB: 4 of W, half a MiB for all of the adapter. More than a factor of 4 is impossible: W stays.",
    32 / 9,
    {
        "by that factor fewer numbers learn; but W is still in memory.": 32,
        "that leaves the adapter out: 32,768 numbers, 16 bytes each.": 4,
        "A has 16 · 1,024 numbers, and B as many again.": 64 / 17,
        "Adam keeps two states for each number that learns, and W has no gradient.": 32 / 17,
        "Adam keeps two numbers for each that learns: mean and mean square.": 12 / (4 + 12 / 32),
        "turn the fraction round: full fine-tuning divided by LoRA.": 9 / 32,
    },
)

same_first_step = number(
    "Scale times rate times r is alpha times rate: alpha is four times as large, so the rate is a quarter.",
    0.005,
    {
        "the scale is 1 both times, but four times as many products are added.": 0.02,
        "the r terms have one sign and add up in full: it is r, and not its root.": 0.01,
        "that is the wrong direction: with alpha = r a larger rank moves the layer further.": 0.08,
        "the scale, alpha / r, is 1 both times; only the number of terms is another.": 0.00125,
    },
    tolerance=0.0002,
)

fair_baseline = number(
    "The wider network without a router reads .926, more than the router: at equal FLOPs it did not pay here.",
    0.926,
    {
        "that network has 2,208 FLOPs for a row, the router's 3,180: it is the one in the argument.": 0.896,
        "a random router shows what *learning* the router brings; the question is what FLOPs bring elsewhere.": 0.887,
        "that one has the FLOPs of all five adapters, 4,992 for a row.": 0.936,
        "that has fewer FLOPs, and the task is given; which network without adapters costs about 3,180?": 0.931,
        "five networks have fewer FLOPs for a row, and twice the numbers; which shared one costs about 3,180?": 0.949,
    },
    tolerance=0.0006,
)


def out_of_reach(answer: Answer) -> str:
    """d and r in, a change (d, d) out: the best change of rank r leaves half of its squared size."""
    for d, r in ((8, 2), (6, 3), (5, 1), (10, 4)):
        what, start = f"a tensor of shape ({d}, {d})", f"for d = {d} and r = {r}"
        change = tensor_of(answer(d, r), what).detach()
        if change.shape != (d, d):
            raise Wrong(f"{start} it should be {what}, not of {tuple(change.shape)}.")
        if not change.isfinite().all():
            raise Wrong(f"{start} a number is not finite.")
        squares = torch.linalg.svdvals(change).square()
        if not squares.sum() > 1e-12:
            raise Wrong(f"{start} the change is 0, and B = 0 makes it.")
        left = (squares[r:].sum() / squares.sum()).item()
        if left < 1e-6:
            raise Wrong(f"{start} it has rank {r} or less: A and B make it exactly.")
        if abs(left - 0.5) > 0.01:
            more = f"more: the {r} largest singular values should be larger" if left > 0.5 else "less than half"
            raise Wrong(f"{start} rank {r} leaves {show(round(left, 2))} of its squared size, {more}.")
    return "And of a multiple of the identity, which turns the sign of every pixel, rank r leaves 1 - r/d."
