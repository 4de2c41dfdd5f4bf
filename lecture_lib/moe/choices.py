"""Choices: which experts, with which weight, and who finds room."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor, nn

from lecture_lib.choice import QUIET, Choice, top_k, zeros
from lecture_lib.moe.measures import Mask, flat, pairs, pick, places_of, spread
from lecture_lib.simplex import (
    as_integer,
    as_number,
    blank,
    check_logits,
    check_mask,
    first,
    full,
    looks,
    no_repair,
    one_hot,
    opaque,
)


def switch(logits: Tensor, k: int = 1) -> Choice:
    """The k best, weighted by their probability in the softmax over *all* experts: sums to less than 1.

    That is what gives the router a gradient with k = 1: renormalised, the weight would be the constant 1.

    Source: Fedus et al. 2022, Switch transformers, eq. 2.
    """
    chosen = top_k(logits, k).weights > 0  # checks the logits, and k
    return only(chosen, logits, full(logits).softmax(-1))


def gshard(logits: Tensor, *, generator: Generator | None = None, mask: Mask = None) -> Choice:
    """The two best, g = softmax over the two; the second runs with probability min(1, 2 g_2) only.

    Source: Lepikhin et al. 2021, GShard, algorithm 1.
    """
    if mask is not None:
        return among(partial(gshard, generator=generator), logits, mask)
    check_logits(logits, generator)
    choice = two_best(logits)
    g = full(choice.weights.detach())
    noise = g.new_empty(g.shape[:-1]).uniform_(generator=generator)
    second = (g > 0) & (one_hot(g.argmax(-1), g) == 0)
    return choice._replace(weights=choice.weights.masked_fill(second & (2 * g <= noise.unsqueeze(-1)), 0))


def two_best(logits: Tensor) -> Choice:
    """`top_k` with k = 2, or 1 where there is one expert: `gshard` without its noise."""
    return top_k(logits, min(2, logits.shape[-1]))


QUIET[gshard] = two_best


def expert_choice(logits: Tensor, capacity_factor: float = 1.0, *, mask: Mask = None) -> Choice:
    """Each expert takes its ⌈N · capacity_factor / E⌉ best tokens, by p = softmax over the experts; z = p for those.
    Of equal ones it takes the first.

    Balanced by construction; a token may get many experts, or none. Whether it is taken depends on all the others, on
    later ones too: not for language models that predict the next token.

    Source: Zhou et al. 2022, Mixture-of-experts with expert choice routing.
    """
    if mask is not None:
        return among(partial(expert_choice, capacity_factor=capacity_factor), logits, mask)
    check_logits(logits)
    p = full(logits).softmax(-1)
    rows = flat(p.detach())  # (N, E)
    size = ceil(len(rows) * check_capacity_factor(capacity_factor) / rows.shape[-1])
    best = first(rows, min(len(rows), size), dim=0)
    taken = torch.zeros_like(rows, dtype=torch.bool).scatter(0, best, True)
    return only(taken.reshape(p.shape), logits, p)


def sinkhorn(logits: Tensor, n_iters: int = 100, *, mask: Mask = None) -> Tensor:
    """The plan that gives each token 1 and each expert N/E: argmax_P <P, s> + H(P) under both. (..., E) -> (..., E).

    Rows are exact, columns as near as `n_iters` rounds of normalising both bring them. No gradient.

    Source: Cuturi 2013, Sinkhorn distances: lightspeed computation of optimal transport.
    """
    if mask is not None:
        check_mask(mask, logits.shape[:-1])
        places = places_of(mask)
        return spread(sinkhorn(pick(logits, mask, places), n_iters), mask, places)
    check_logits(logits)
    if looks(logits) and logits.numel() and flat(logits).isneginf().all(0).any():
        raise ValueError("logits must leave each expert to some token, got a column of only -inf")
    return _plan(logits.detach(), as_integer("n_iters", n_iters, "an integer of at least 1", 1))


@opaque(lambda logits, n_iters: logits.new_empty(logits.shape))
def _plan(logits: Tensor, n_iters: int) -> Tensor:
    rows = flat(logits).double()
    forbidden = rows == -torch.inf
    rows = (rows - rows.amax(-1, keepdim=True)).clamp(min=-1e300)  # differences stay finite
    rows = rows.masked_fill(forbidden, -torch.inf)
    share = math.log(max(len(rows), 1) / rows.shape[-1])
    for _ in range(n_iters):
        rows = rows - rows.logsumexp(0) + share
        rows = rows - rows.logsumexp(-1, keepdim=True)
    return rows.exp().to(logits.dtype).reshape(logits.shape)


def balanced(logits: Tensor, n_iters: int = 100, *, mask: Mask = None) -> Choice:
    """The expert with the largest entry in the plan of `sinkhorn`, weighted by its softmax probability, as `switch`.

    For training: a token's expert depends on all the others. `switch` is its `at_test`.

    Source: Clark et al. 2022, Unified scaling laws for routed language models (S-BASE).
    """
    if mask is not None:
        return among(partial(balanced, n_iters=n_iters), logits, mask)
    check_logits(logits)
    plan = sinkhorn(full(logits), n_iters)
    return only(one_hot(plan.argmax(-1), plan) > 0, logits, no_repair(full(logits).softmax(-1), plan))


def base(logits: Tensor, *, mask: Mask = None) -> Choice:
    """The assignment of largest total score in which no expert has more than ⌈N/E⌉ tokens; z = sigmoid(score).

    Exact, by scipy's linear assignment: some thousand tokens at most. For training; at test time tokens go to their
    largest score.

    Source: Lewis et al. 2021, BASE layers, eq. 1 and 2.
    """
    if mask is not None:
        return among(base, logits, mask)
    check_logits(logits)
    best = _assignment(logits.detach())
    return only(one_hot(best, logits) > 0, logits, full(logits).sigmoid())


@opaque(lambda logits: logits.new_empty(logits.shape[:-1], dtype=torch.int64))
def _assignment(logits: Tensor) -> Tensor:
    """The expert of each token."""
    from scipy.optimize import linear_sum_assignment  # half a second to import: only for those who use it

    scores = flat(logits).cpu().double().nan_to_num(-1e9, posinf=1e9).clamp(min=-1e9)  # (N, E)
    size = -(-len(scores) // scores.shape[-1])  # ⌈N/E⌉ places for each expert
    _, place = linear_sum_assignment(scores.repeat_interleave(size, dim=-1).numpy(), maximize=True)
    return torch.as_tensor(place // max(size, 1), device=logits.device).reshape(logits.shape[:-1])


def hashed(ids: Tensor, n_experts: int) -> Choice:
    """A fixed expert for each identity, such as a byte or a word: z = one-hot, scattered evenly. ids (...) integers.

    Source: Roller et al. 2021, Hash layers for large sparse models (their random hash).
    """
    if not isinstance(ids, Tensor) or ids.is_floating_point():
        raise ValueError(f"ids must be integers, a tensor, got {getattr(ids, 'dtype', ids)!r}")
    n_experts = as_integer("n_experts", n_experts, "an integer of at least 1", 1)
    mixed = (ids.long() + 1) * 2654435761 % 2**32  # Knuth's multiplicative hash: the upper bits are well mixed
    weights = one_hot((mixed >> 12) % n_experts, mixed.new_zeros(*ids.shape, n_experts, dtype=torch.float32))
    return Choice(weights.log(), weights, weights.new_zeros(ids.shape))


class BalanceBias(nn.Module):
    """Balance without a loss: the k largest of p + b are chosen, weighted by p alone.

    After a step, `update(choice)`: b_e += rate · sign(mean load - load_e). No gradient of balance disturbs the task's.
    b stays in float32 whatever the network is cast to: its small steps would round to nothing.

    Args:
        rate: u, the step of the bias; the scale of p is 1.
        score: logits (..., E) -> p, such as torch.sigmoid, the sources'; softmax over all if None.
        normalise: the weights of a token are divided by their sum, as in DeepSeek-V3.
        scale: a factor of all weights; 2.5 there.
        limit: p + b -> the same, with -inf to forbid experts: `within_groups`, its options bound.

    Sources: Wang et al. 2024, Auxiliary-loss-free load balancing strategy for mixture-of-experts;
    DeepSeek-AI 2024, DeepSeek-V3, eq. 12 to 16.
    """

    def __init__(
        self,
        n_experts: int,
        k: int = 1,
        rate: float = 1e-3,
        *,
        score: Callable[[Tensor], Tensor] | None = None,
        normalise: bool = False,
        scale: float = 1.0,
        limit: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__()
        n_experts = as_integer("n_experts", n_experts, "an integer of at least 1", 1)
        self.k = as_integer("k", k, f"from 1 to n_experts = {n_experts}", 1, n_experts)
        self.rate = as_number("rate", rate, "a finite number >= 0", lambda u: 0 <= u < math.inf)
        self.scale = as_number("scale", scale, "a finite number > 0", lambda c: 0 < c < math.inf)
        self.score, self.normalise, self.limit = score, normalise, limit
        self.register_buffer("bias", torch.zeros(n_experts, dtype=torch.float32))

    def forward(self, logits: Tensor) -> Choice:
        check_logits(logits)
        if logits.shape[-1] != (n := len(self.bias)):
            raise ValueError(f"logits must have shape (..., {n}), got {tuple(logits.shape)}")
        p = full(logits).softmax(-1) if self.score is None else self.score(full(logits))
        ranked = (p.detach() + self.bias).masked_fill(logits == -torch.inf, -torch.inf)
        ranked = ranked if self.limit is None else self.limit(ranked)
        taken = torch.zeros_like(p, dtype=torch.bool).scatter(-1, first(ranked, self.k), True)
        z = torch.where(taken & (ranked > -torch.inf), p, 0)
        if self.normalise:
            z = z / (z.sum(-1, keepdim=True) + 1e-20)  # as there: all may be 0
        return Choice(logits, no_repair((self.scale * z).to(logits.dtype), logits), zeros(logits))

    @torch.no_grad()
    def update(self, choice: Choice, *, mask: Mask = None) -> None:
        n = pairs(choice, mask)  # integers: at the mean, rounding moves no bias
        self.bias += self.rate * (n.sum() - len(n) * n).sign()

    def _apply(self, fn: Callable[[Tensor], Tensor], *args, **options) -> nn.Module:
        exact = self.bias
        super()._apply(fn, *args, **options)
        if self.bias.dtype != exact.dtype:
            self.bias = exact.to(self.bias.device)
        return self


def within_groups(logits: Tensor, n_groups: int, k_groups: int, *, best: int = 2) -> Tensor:
    """The logits (..., E), -inf but in the `k_groups` groups whose `best` best are best on average.

    A token then travels to few devices; a group is what one holds, experts side by side. For any
    choice: `lambda s: top_k(within_groups(s, 8, 4), k)`, whose losses see the kept groups alone.
    What is forbidden does not count in the average; of equal groups it takes the first.

    Sources: DeepSeek-AI 2024, DeepSeek-V3, section 2.1.2 (best = 2, as `BalanceBias`'s limit);
    DeepSeek-V2, section 2.2.2 (best = 1).
    """
    check_logits(logits)
    allowed = f"a divisor of the number of experts, {logits.shape[-1]}"
    size, rest = divmod(logits.shape[-1], as_integer("n_groups", n_groups, allowed, 1))
    if rest:
        raise ValueError(f"n_groups must be {allowed}, got {n_groups}")
    k_groups = as_integer("k_groups", k_groups, f"from 1 to n_groups = {n_groups}", 1, n_groups)
    best = min(size, as_integer("best", best, "an integer of at least 1", 1))
    top = full(logits.detach()).unflatten(-1, (-1, size)).topk(best).values  # (..., G, best)
    mean = top.masked_fill(top == -torch.inf, torch.nan).nanmean(-1).nan_to_num(-torch.inf)
    kept = torch.zeros_like(mean, dtype=torch.bool).scatter(-1, first(mean, k_groups), True)
    return no_repair(logits.masked_fill(~kept.repeat_interleave(size, -1), -torch.inf), logits)


def equal_load(logits: Tensor, k: int = 1) -> Choice:
    """Each token the next k experts in turn, whatever the scores, weighted as by `switch`.

    For benchmarks: loads differ by one at most. The router has its gradient, which uniform weights
    would not leave it; only the search for the best is spared. What is forbidden stays so.

    Source: TorchTitan, `_debug_force_load_balance`.
    """
    check_logits(logits)
    *lead, n = logits.shape
    k = as_integer("k", k, f"from 1 to the number of experts, {n}", 1, n)
    turn = torch.arange(math.prod(lead) * k, device=logits.device).reshape(*lead, k) % n
    taken = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, turn, True)
    p = full(logits).softmax(-1).clamp(min=torch.finfo(logits.dtype).tiny)  # 0 would be no pair
    return only(taken & (logits > -torch.inf), logits, p)


def within_capacity(
    choice: Choice,
    capacity_factor: float,
    *,
    batch_priority: bool = False,
    mask: Mask = None,
) -> Choice:
    """The same choice with weight 0 where an expert is full: it takes at most ⌈capacity_factor · n / E⌉ of n pairs.

    Queues are deterministic: all first choices before all second ones, and so on, in each the tokens in order
    (Lepikhin et al. 2021, algorithm 1); with `batch_priority`, the surest first, those of the largest softmax
    probability (Riquelme et al. 2021, V-MoE).
    """
    choice = choice._replace(weights=blank(choice.weights, mask))
    capacity_factor = check_capacity_factor(capacity_factor)
    z = flat(choice.weights.detach())  # (N, E)
    if batch_priority:
        order = flat(choice.logits.detach()).softmax(-1).amax(-1).argsort(descending=True, stable=True)
        z = z[order]
    token, expert = (z > 0).nonzero(as_tuple=True)  # the n pairs, as the queue goes: the one wait for the device
    n, n_experts = token.shape[0], z.shape[-1]
    by_weight = z[token, expert].argsort(descending=True, stable=True)
    at = torch.empty_like(token).scatter(0, by_weight, torch.arange(n, device=z.device))
    by_token = (token * n + at).argsort()  # of each token first choice, second choice, ...
    token, expert = token[by_token], expert[by_token]
    by_expert = (expert * n_experts + _nth(token, z.shape[0])).argsort(
        stable=True
    )  # all first choices, all second ones
    token, expert = token[by_expert], expert[by_expert]
    late = _nth(expert, n_experts) >= ceil(capacity_factor * n / n_experts)
    full = torch.zeros_like(z, dtype=torch.bool)
    full[order[token] if batch_priority else token, expert] = late
    return choice._replace(weights=choice.weights.masked_fill(full.reshape(choice.weights.shape), 0))


def _nth(of: Tensor, n: int) -> Tensor:
    """Of sorted integers below n, the how manieth of its kind each is, from 0 on."""
    counts = of.new_zeros(n).scatter_add(0, of, torch.ones_like(of))
    return torch.arange(of.shape[0], device=of.device) - (counts.cumsum(0) - counts)[of]


def among(choose: Callable[[Tensor], Choice], logits: Tensor, mask: Tensor) -> Choice:
    """The choice of the tokens that count as if there were no others, who get weight 0."""
    check_mask(mask, logits.shape[:-1])
    places = places_of(mask)
    _, *made = choose(pick(logits, mask, places))
    return Choice(logits, *(spread(part, mask, places) for part in made))


def only(chosen: Tensor, logits: Tensor, weights: Tensor) -> Choice:
    weights = torch.where(chosen, weights, 0).to(logits.dtype)
    return Choice(logits, no_repair(weights, logits), zeros(logits))


def ceil(x: float) -> int:
    return math.ceil(x * (1 - 1e-12))  # in floating point, 1.1 · 10 is more than 11


def check_capacity_factor(capacity_factor: float) -> float:
    finite = "a finite number > 0"
    return as_number("capacity_factor", capacity_factor, finite, lambda c: 0 < c < math.inf)
