"""Checks of the exercises on experts at scale."""

import torch
from torch import Tensor

from lecture_lib.exercises.answers import Answer, exercise, normal, pair, tensor_of

CHOSEN = [(torch.tensor([[0, 2], [2, 0], [3, 2], [0, 3], [2, 3]]), 5)]
for n, e, k in ((4, 3, 1), (1, 4, 2), (7, 6, 3), (3, 9, 1), (4, 1, 1), (3, 3, 3)):
    CHOSEN.append((normal((n, e))[0].argsort(-1)[:, :k], e))
SIZES = [(512, 8, 64, 256), (4, 32, 64, 128), (1, 1, 3, 5), (100, 100, 16, 8), (65, 4, 24, 24)]


def part(answer: Answer, i: int, chosen: Tensor, n_experts: int) -> Tensor:
    """The ends, or the tokens, each group from the first to the last: their order is free."""
    sizes = chosen.flatten().bincount().tolist()
    found = tensor_of(pair(answer(chosen, n_experts), "two tensors, token and ends")[i])
    if i or found.shape != (sum(sizes),):
        return found
    return torch.cat([group.sort().values for group in found.split(sizes)])


@exercise(CHOSEN, ask=lambda answer, *case: part(answer, 1, *case))
def ends_of(chosen: Tensor, n_experts: int) -> dict:
    sizes = chosen.flatten().bincount(minlength=n_experts)
    ends = sizes.cumsum(0)
    return {
        "": ends,
        "those are the sizes of the groups. Where does each end?": sizes,
        "that is where each group starts; where does it end?": ends - sizes,
        "that is a group's last place; its end is one further, as in a slice.": ends - 1,
        "the last expert has no token, and a group all the same.": ends[: chosen.max() + 1],
    }


@exercise(CHOSEN, ask=lambda answer, *case: part(answer, 0, *case))
def token_of(chosen: Tensor, n_experts: int) -> dict:
    order, k = chosen.flatten().argsort(stable=True), chosen.shape[1]
    return {
        "Two small tensors: all that a grouped product needs of the routing.": order // k,
        "these are numbers of pairs, not of tokens: pair i belongs to token i // k.": order,
        "the tokens are not sorted by expert.": order.sort().values // k,
        "a token is in the groups of all its k experts.": chosen[:, 0].argsort(stable=True),
    }


def groups(answer: Answer) -> str:
    """Chosen experts (N, k) in; tokens by expert (N·k,) and where each group ends (E,) out."""
    ends_of(answer)
    return token_of(answer)


@exercise(SIZES)
def intensity(n_tokens: int, n_experts: int, width: int, hidden: int) -> dict:
    """FLOPs a byte of N tokens, each through one of E experts D × H and H × D, forward, float32."""
    n, e = n_tokens, n_experts
    one, rows = 8 * width * hidden, 8 * n * (width + hidden)  # bytes
    flops, weights = n * one / 2, min(n, e) * one
    right = flops / (weights + rows)
    return {
        "For t tokens an expert it is t/2 over 1 + t/D + t/H: compare it with the ridge.": right,
        "that is FLOPs a number; a number in float32 has 4 bytes.": 4 * right,
        "that is FLOPs for half of the bytes: float32 has 4 bytes, not 2.": 2 * right,
        "a multiply-add is 2 FLOPs.": right / 2,
        "that is bytes a FLOP; it is asked the other way round.": 1 / right,
        "the rows are missing: they are read and written as well.": flops / weights,
        "the weights are missing: each expert that has a token is read once.": flops / rows,
        "not only one expert is read: all that have a token are.": flops / (one + rows),
        "both products read their rows and write their results.": flops / (weights + rows / 2),
        "an expert is read once for all of its tokens, not by each.": flops / (n * one + rows),
        "each token runs one expert, not all of them.": e * right,
        "4 tokens touch 4 of 32 experts, the others are not read.": flops / (e * one + rows),
    }
