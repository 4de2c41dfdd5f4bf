"""Checks of the exercises on experts at scale."""

import torch
from torch import Tensor

from lecture_lib.exercises.answers import Answer, Wrong, exercise, normal, number, pair, show, tensor_of

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


padding = number(
    "1.25 places a token, 0.9 of them taken: padding - dropped = c - 1, whatever the routing, if c N / E is whole.",
    0.35,
    {
        "places that dropped tokens did not take are empty, too.": 0.25,
        "a dropped token leaves its place empty: there is more padding, not less.": 0.15,
        "that is a share of the places; a share of the tokens is asked.": 0.28,
        "so many places are taken; how many are not?": 0.9,
        "those are all places; how many of them are empty?": 1.25,
        "that is what is dropped: it would be the padding at c = 1.": 0.1,
        "give a share of the tokens, such as 0.5 for 50 %.": 35,
    },
    tolerance=0.004,
)


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


users = number(
    "9,600 tokens in one step, for one layer: it takes many users, and machines that share the experts.",
    9600,
    {
        "each token runs 8 experts: it counts for 8 of them.": 76800,
        "that is what one expert needs; there are 256, and each token runs 8.": 300,
        "it is more, not less: the tokens spread over 256 experts.": 300 * 8 / 256,
        "a token runs 8 of 256 experts, not one.": 300 * 256,
        "that is as if there were 8 experts, and one for each token.": 2400,
    },
    tolerance=0.5,
)

bytes_away = number(
    "1,750 rows leave, and as many results: 7 of 8 pairs, if experts are chosen independently of the token's home.",
    2 * 1750 * 2048,
    {
        "half of it: results leave as well, as many rows again; and a bfloat16 has 2 bytes.": 1750 * 2048,
        "1 of 8 pairs stays at home, in balance.": 2 * 2000 * 2048,
        "each token has two experts, two rows, and that is one way: results leave as well.": 875 * 2048,
        "a number in bfloat16 has 2 bytes, not 4.": 2 * 1750 * 4096,
        "only 1 of 8 pairs stays; 7 of 8 leave.": 2 * 250 * 2048,
        "bytes are asked, not rows.": 3500,
    },
    tolerance=0.5,
)


def lost_best(answer: Answer) -> str:
    """Groups and their size in, scores (groups · size,) out: the best expert is in a group that is not kept."""
    for n_groups, size in ((4, 2), (2, 3), (8, 4), (3, 5)):
        what, start = f"a tensor of shape ({n_groups * size},)", f"for {n_groups} groups of {size}"
        s = tensor_of(answer(n_groups, size), what).detach()
        if s.shape != (n_groups * size,):
            raise Wrong(f"{start} it should be {what}, not of {tuple(s.shape)}.")
        if not s.isfinite().all():
            raise Wrong(f"{start} a score is not finite.")
        top = s.unflatten(0, (n_groups, size)).topk(2).values
        if (s == s.max()).sum() > 1:
            raise Wrong(f"{start} two experts are best, with {show(s.max())}: let there be one.")
        best, kept = int(s.argmax()) // size, int(top.sum(-1).argmax())
        if best == kept:
            hint = f"the best two of group {kept} sum to {show(top[kept].sum())}, those of no other group to more."
            raise Wrong(f"{start} the best expert is in the group that is kept: {hint}")
        if (top.sum(-1) == top[kept].sum()).sum() > 1:
            raise Wrong(f"{start} two groups are level, with {show(top[kept].sum())}: let one be ahead.")
    return "One strong expert among weak ones loses to two good ones: with best = 1, as in DeepSeek-V2, it would stay."
