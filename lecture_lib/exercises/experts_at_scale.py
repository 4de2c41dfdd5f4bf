"""Checks of the exercises on experts at scale."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lecture_lib.exercises.answers import NotAttempted, Wrong, tensor_of


def groups(answer: Callable[[Tensor, int], tuple[Tensor, Tensor]]) -> str:
    """Chosen experts (N, k) in; tokens sorted by expert (N·k,) and the end of each expert's group (E,) out."""
    for chosen, n_experts in (([[0, 2], [2, 0], [3, 2], [0, 3], [2, 3]], 5), ([[1], [0], [1], [2]], 3)):
        chosen = torch.tensor(chosen)
        n, k = chosen.shape
        given = answer(chosen.clone(), n_experts)
        if given is None or given is ...:
            raise NotAttempted
        if not (isinstance(given, tuple) and len(given) == 2):
            raise Wrong(f"the result should be two tensors, token and ends, it is {type(given).__name__}.")
        counts = chosen.flatten().bincount(minlength=n_experts)
        if isinstance(given[1], Tensor) and len(given[1]) == n_experts - 1:
            raise Wrong(
                f"of {n_experts} experts you name {n_experts - 1}: the last has no token, and a group all the same."
            )
        token, ends = tensor_of(given[0], (n * k,)), tensor_of(given[1], (n_experts,))
        if torch.equal(ends, counts) and n_experts == 5:
            raise Wrong("those are the sizes of the groups. Where does each end?")
        if torch.equal(ends, counts.cumsum(0) - counts):
            raise Wrong("that is where each group starts; where does it end?")
        if not torch.equal(ends, counts.cumsum(0)):
            raise Wrong(f"for {chosen.tolist()} ends should be {counts.cumsum(0).tolist()}, you get {ends.tolist()}.")
        if token.max() >= n:
            raise Wrong("these are numbers of pairs, not of tokens: pair i belongs to token i // k.")
        wanted = [sorted((chosen == e).nonzero()[:, 0].tolist()) for e in range(n_experts)]
        got = [sorted(part.tolist()) for part in token.split(counts.tolist())]
        if got != wanted:
            e = next(e for e in range(n_experts) if got[e] != wanted[e])
            raise Wrong(
                f"for {chosen.tolist()} the group of expert {e} should have tokens {wanted[e]}, it has {got[e]}."
            )
    return "Two small tensors of integers: all that a grouped product needs to know about routing."


def intensity(answer: Callable[[int, int, int, int], float]) -> str:
    """FLOPs a byte of N tokens through one of E experts each, two matrices D × H and H × D, forward, float32."""

    def parts(n: int, e: int, d: int, h: int) -> tuple[int, int, int]:  # FLOPs, bytes of weights, bytes of rows
        return 4 * n * d * h, 8 * min(n, e) * d * h, 8 * n * (d + h)

    n, e, d, h = 512, 8, 64, 256
    given = answer(n, e, d, h)
    if given is None or given is ...:
        raise NotAttempted
    try:
        given = float(given)
    except (TypeError, ValueError):
        raise Wrong(f"the result should be a number, it is {type(given).__name__}.") from None
    flops, weights, rows = parts(n, e, d, h)
    right = flops / (weights + rows)
    mistakes = {
        4 * right: "that is FLOPs a number; a number in float32 has 4 bytes.",
        2 * right: "that is FLOPs for half of the bytes: float32 has 4 bytes, not 2.",
        right / 2: "a multiply-add is 2 FLOPs.",
        1 / right: "that is bytes a FLOP; it is asked the other way round.",
        flops / weights: "the rows are missing: they are read and written as well.",
        flops / rows: "the weights are missing: each expert that has a token is read once.",
        flops / (weights / e + rows): "that reads the weights of one expert; here 8 experts have tokens.",
        flops / (weights + rows / 2): "two products, and each reads its rows and writes its results.",
        flops / (n * weights / e + rows): "the weights of an expert are read once for all of its tokens, not by each.",
        e * right: "each token runs one expert, not all of them.",
    }
    for wrong, hint in mistakes.items():
        if math.isclose(given, wrong, rel_tol=1e-4):
            raise Wrong(hint)
    if not math.isclose(given, right, rel_tol=1e-4):
        raise Wrong(f"for 512 tokens, 8 experts, width 64, hidden 256, it should be {right:.2f}, it is {given:.2f}.")
    n, e, d, h = 4, 32, 64, 128
    flops, weights, rows = parts(n, e, d, h)
    few = float(answer(n, e, d, h))
    if math.isclose(few, flops / (8 * weights + rows), rel_tol=1e-4):
        raise Wrong("right for many tokens; but 4 tokens touch 4 of 32 experts, and the others are not read.")
    if not math.isclose(few, flops / (weights + rows), rel_tol=1e-4):
        raise Wrong(f"for 4 tokens, 32 experts, width 64, hidden 128, it should be {flops / (weights + rows):.3f}.")
    return "About t / 2 for t tokens an expert: compare it with the ridge of your machine, and you know what binds."
