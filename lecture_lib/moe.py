"""Mixtures of experts: y = Σ_e z_e · f_e(x), with many experts f_e of which each token runs a few.

A router scores the experts, `choose` makes a choice of the scores, `MoE` runs what was chosen. Nothing makes a router
use all of its experts: the losses and biases below do, all of them pure functions of choices.

    choose              the choice z of a token                                            source
    choice.softmax      every expert, z = softmax(s): nothing is saved                     Jacobs et al. 1991
    choice.top_k        the k best, their softmax: with k = 1 no gradient for the router   Shazeer et al. 2017
    switch              the k best, their share of the softmax over all                    Fedus et al. 2022
    gshard              the two best, the second only sometimes                            Lepikhin et al. 2021
    balanced            the best under equal load, by Sinkhorn                             Clark et al. 2022
    base                the best under equal load, exactly                                 Lewis et al. 2021
    expert_choice       each expert takes its best tokens                                  Zhou et al. 2022
    BalanceBias         the k best after a bonus for idle experts                          Wang et al. 2024
    hashed              by the token's identity alone, nothing is learnt                   Roller et al. 2021

Shapes: N tokens (all leading dimensions, flattened), E experts, D width of a token (d_model), H of an expert's hidden
layer. A *pair* is a token and an expert that it gave a weight; n of them.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.choice import Choice, top_k
from lecture_lib.simplex import check_logits

_TWO_BEST = partial(top_k, k=2)

# Experts and the layer


def _grouped_product(rows: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
    """Rows (n, a), sorted by expert, times their own expert's matrix: weights (E, a, b), counts (E,) -> (n, b)."""
    aligned = all(size * rows.element_size() % 16 == 0 for size in weights.shape[1:]) and weights.data_ptr() % 16 == 0
    if len(rows) and aligned and rows.dtype == weights.dtype != torch.float64:
        return F.grouped_mm(rows, weights, offs=counts.cumsum(0, dtype=torch.int32))
    # what torch refuses. unbind, as every weights[e] would have a gradient of the size of all of them
    groups = zip(rows.split(counts.tolist()), weights.unbind(), strict=True)
    return torch.cat([group @ weight for group, weight in groups])


class Experts(nn.Module):
    """E feed-forward networks of one shape, their weights stacked: f_e(x) = a(x W_in) W_out, or gated, W_out of
    a(x W_gate) * (x W_in), which with a = silu is SwiGLU (Shazeer 2020).

    As a sequence, `experts[e]` is the function f_e: (..., D) -> (..., D), so that `mix(x, weights, experts)` is the
    mixture with every expert run.

    Args:
        activation: a, element-wise.
        bias: add biases b_in and b_out, as Linear has them.
    """

    def __init__(
        self,
        n_experts: int,
        d_model: int,
        d_hidden: int,
        *,
        activation: Callable[[Tensor], Tensor] = F.gelu,
        gated: bool = False,
        bias: bool = False,
    ):
        super().__init__()
        for name, value in {"n_experts": n_experts, "d_model": d_model, "d_hidden": d_hidden}.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        self.activation, self.gated = activation, gated

        def parameter(fan_in: int, *shape: int) -> nn.Parameter:  # the start of nn.Linear
            return nn.Parameter(torch.empty(n_experts, *shape).uniform_(-(fan_in**-0.5), fan_in**-0.5))

        d_in = 2 * d_hidden if gated else d_hidden  # W_gate and W_in side by side: one product
        self.w_in, self.w_out = parameter(d_model, d_model, d_in), parameter(d_hidden, d_hidden, d_model)
        self.b_in = parameter(d_model, d_in) if bias else None
        self.b_out = parameter(d_hidden, d_model) if bias else None

    def __len__(self) -> int:
        return len(self.w_in)

    def __getitem__(self, e: int) -> Callable[[Tensor], Tensor]:
        if not 0 <= e < len(self):
            raise IndexError(f"e must be from 0 to {len(self) - 1}, got {e}")
        return lambda x: self._run(x, lambda rows, weights: rows @ weights[e], lambda bias: bias[e])

    def forward(self, rows: Tensor, counts: Tensor) -> Tensor:
        """Each row through its own expert: rows (n, D), sorted by expert, `counts` (E,) for each -> (n, D)."""
        product = partial(_grouped_product, counts=counts)
        return self._run(rows, product, lambda bias: bias.repeat_interleave(counts, 0))

    def _run(self, rows: Tensor, product: Callable, own: Callable[[Tensor], Tensor]) -> Tensor:
        hidden = product(rows, self.w_in)
        if self.b_in is not None:
            hidden = hidden + own(self.b_in)
        if self.gated:
            gate, hidden = hidden.chunk(2, -1)
            hidden = self.activation(gate) * hidden
        else:
            hidden = self.activation(hidden)
        y = product(hidden, self.w_out)
        return y if self.b_out is None else y + own(self.b_out)


class MoE(nn.Module):
    """A layer of experts: y = Σ_e z_e · f_e(x) + shared(x), with z = choose(router(x)). x (..., D) -> (y, choice).

    Only experts with a weight run: pairs of a token and an expert are sorted by expert, then multiplied group by group.
    As in `mix_sparse`, the weight of an expert that did not run has no gradient; a straight-through choice that needs
    one trains with `mix(x, choice.weights, moe.experts)`.

    Args:
        choose: logits (..., E) -> Choice.
        capacity_factor: an expert takes at most so many times the mean number of tokens; the others are dropped, which
            means that the expert adds nothing for them (see `within_capacity`). None: all are taken.
        router: the scorer, (..., D) -> logits (..., E); linear without bias if None.
        batch_priority: the surest tokens queue first, not those that come first in x.
        n_shared: so many more experts of the same size that take every token, without a weight.
        style: of the experts; activation, gated, bias as for `Experts`.

    The returned choice is what the router wanted, from before anything was dropped: balance losses need that one.

    Sources: Shazeer et al. 2017; Fedus et al. 2022 (capacity); Dai et al. 2024, DeepSeekMoE (shared experts).
    """

    def __init__(
        self,
        d_model: int,
        d_hidden: int,
        n_experts: int,
        choose: Callable[[Tensor], Choice],
        capacity_factor: float | None = None,
        *,
        router: nn.Module | None = None,
        batch_priority: bool = False,
        n_shared: int = 0,
        **style,
    ):
        super().__init__()
        if capacity_factor is not None:
            _check_capacity_factor(capacity_factor)
        if not isinstance(n_shared, int) or n_shared < 0:
            raise ValueError(f"n_shared must be an integer of at least 0, got {n_shared!r}")
        self.experts = Experts(n_experts, d_model, d_hidden, **style)
        # n networks side by side are one that is n times as wide
        self.shared = Experts(1, d_model, n_shared * d_hidden, **style) if n_shared else None
        self.router = nn.Linear(d_model, n_experts, bias=False) if router is None else router
        self.choose, self.capacity_factor, self.batch_priority = choose, capacity_factor, batch_priority

    def forward(self, x: Tensor, choice: Choice | None = None) -> tuple[Tensor, Choice]:
        """`choice`: route by this one, in place of the router's."""
        n_experts, d_model = self.experts.w_in.shape[:2]
        if x.ndim == 0 or x.shape[-1] != d_model:
            raise ValueError(f"x must have shape (..., {d_model}), got {tuple(x.shape)}")
        if choice is None:
            logits = self.router(x)
            if logits.isnan().any():  # else argmax would send the token to some expert without a word
                raise ValueError("x must be finite, got a token whose scores are NaN")
            choice = self.choose(logits)
        if choice.weights.shape != (*x.shape[:-1], n_experts):
            wanted, got = (*x.shape[:-1], n_experts), tuple(choice.weights.shape)
            raise ValueError(f"choice must have weights of shape {wanted} for this x, got {got}")
        kept = choice if self.capacity_factor is None else self.within_capacity(choice)
        rows, z = x.reshape(-1, d_model), kept.weights.reshape(-1, n_experts).t().contiguous()  # (N, D), (E, N)
        expert, token = z.nonzero(as_tuple=True)  # the n pairs, sorted by expert
        y = self.experts(rows.index_select(0, token), expert.bincount(minlength=n_experts))  # (n, D)
        y = y * z.flatten().gather(0, expert * len(rows) + token).unsqueeze(-1)
        y = y.new_zeros(rows.shape).index_add(0, token, y)
        if self.shared is not None:
            y = y + self.shared[0](rows)
        return y.reshape(x.shape), choice

    def within_capacity(self, choice: Choice) -> Choice:
        """The choice without what the experts' capacity leaves no room for."""
        return within_capacity(choice, self.capacity_factor, batch_priority=self.batch_priority)


def within_capacity(choice: Choice, capacity_factor: float, *, batch_priority: bool = False) -> Choice:
    """The same choice with weight 0 where an expert is full: it takes at most ⌈capacity_factor · n / E⌉ of n pairs.

    Queues are deterministic: all first choices before all second ones, and so on, in each the tokens in order
    (Lepikhin et al. 2021, algorithm 1); with `batch_priority`, the surest first, those of the largest softmax
    probability (Riquelme et al. 2021, V-MoE).
    """
    _check_capacity_factor(capacity_factor)
    z = _flat(choice.weights.detach())  # (N, E)
    n_experts, wanted = z.shape[-1], (z > 0).sum(-1)
    capacity = _ceil(capacity_factor * int(wanted.sum()) / n_experts)
    weight, expert = z.topk(int(wanted.max()) if len(z) else 0)  # (N, k) a token's first choice, second choice, ...
    order = torch.arange(len(z), device=z.device)
    if batch_priority:
        order = _flat(choice.logits.detach()).softmax(-1).amax(-1).argsort(descending=True, stable=True)
    queue = weight[order].t().flatten() > 0  # all first choices, then all second ones; of those, the pairs
    token, expert = order.repeat(weight.shape[-1])[queue], expert[order].t().flatten()[queue]  # (n,), (n,)
    counts, by_expert = expert.bincount(minlength=n_experts), expert.argsort(stable=True)
    place = torch.arange(len(expert), device=z.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    late = by_expert[place >= capacity]
    full = torch.zeros_like(z, dtype=torch.bool)
    full[token[late], expert[late]] = True
    return choice._replace(weights=choice.weights.masked_fill(full.reshape(choice.weights.shape), 0))


def upcycle(ffn: nn.Sequential, n_experts: int, choose: Callable[[Tensor], Choice] = _TWO_BEST) -> MoE:
    """Experts that all start as copies of a trained network, Sequential(Linear, activation, Linear), and a new router.

    The layer equals the network, exactly, as long as the weights of a token sum to 1: with `top_k`, not with `switch`.

    Source: Komatsuzaki et al. 2023, Sparse upcycling.
    """
    kinds = [type(module) for module in ffn] if isinstance(ffn, nn.Sequential) else []
    if len(kinds) != 3 or kinds[0] != nn.Linear or kinds[2] != nn.Linear or ffn[0].in_features != ffn[2].out_features:
        raise ValueError(f"ffn must be Sequential(Linear(D, H), activation, Linear(H, D)), got {ffn}")
    first, activation, last = ffn
    bias = first.bias is not None
    if bias != (last.bias is not None):
        raise ValueError(f"ffn must have two biases or none, got {ffn}")
    moe = MoE(first.in_features, first.out_features, n_experts, choose, activation=activation, bias=bias)
    copies = {"w_in": first.weight.t(), "w_out": last.weight.t(), "b_in": first.bias, "b_out": last.bias}
    with torch.no_grad():
        for name, value in copies.items():
            if value is not None:
                getattr(moe.experts, name).copy_(value)
    return moe.to(first.weight)


class SoftMoE(nn.Module):
    """Experts for mixtures of tokens: no token is dropped, no expert idles, everything has a gradient. (..., T, D).

        slot_j = Σ_t softmax_t(l_tj) x_t,    y_t = Σ_j softmax_j(l_tj) f(slot_j),    l = scale · x̂ Φ̂

    x̂ and Φ̂ have length 1, slots mix the raw x. A token sees its whole sequence, later tokens too: not for language
    models that predict the next one.

    Returns: (y, choice) with the logits and weights of the experts (..., T, E), those of their slots summed.

    Source: Puigcerver et al. 2024, From sparse to soft mixtures of experts.
    """

    def __init__(self, d_model: int, d_hidden: int, n_experts: int, slots: int = 1, **style):
        """`slots` of each expert; `style` for `Experts`."""
        super().__init__()
        if not isinstance(slots, int) or slots < 1:
            raise ValueError(f"slots must be an integer of at least 1, got {slots!r}")
        self.experts, self.slots = Experts(n_experts, d_model, d_hidden, **style), slots
        self.phi, self.scale = nn.Parameter(torch.randn(d_model, n_experts * slots)), nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> tuple[Tensor, Choice]:
        n_experts = len(self.experts)
        if x.ndim < 2 or x.shape[-1] != len(self.phi):
            raise ValueError(f"x must have shape (..., T, {len(self.phi)}), got {tuple(x.shape)}")
        logits = F.normalize(x, dim=-1) @ (self.scale * F.normalize(self.phi, dim=0))  # (..., T, E·S)
        if logits.isnan().any():
            raise ValueError("x must be finite, got a token whose scores are NaN")
        combine = logits.softmax(-1)
        slots = logits.softmax(-2).mT @ x  # (..., E·S, D)
        by_expert = slots.unflatten(-2, (n_experts, self.slots)).movedim(-3, 0)  # (E, ..., S, D)
        rows = by_expert.reshape(-1, x.shape[-1])
        counts = torch.full((n_experts,), len(rows) // n_experts, device=x.device)
        out = self.experts(rows, counts).reshape(by_expert.shape).movedim(0, -3).flatten(-3, -2)
        per_expert = logits.unflatten(-1, (n_experts, self.slots)).logsumexp(-1)
        weights = combine.unflatten(-1, (n_experts, self.slots)).sum(-1)
        return combine @ out, Choice(per_expert, weights, _zeros(per_expert))


# Routers: what scores the experts


class NoisyRouter(nn.Module):
    """Shazeer's scores: x W_g + ε · softplus(x W_n), ε ~ Normal(0, 1) while training: (..., D) -> logits (..., E).

    For `noisy_load`, `clean_and_std` gives the two parts. Both matrices start at zero, as in the source: the noise
    balances the load until the router has learnt something.

    Source: Shazeer et al. 2017, eq. 4.
    """

    def __init__(self, d_model: int, n_experts: int, *, generator: torch.Generator | None = None):
        super().__init__()
        self.w_g, self.w_n = (nn.Parameter(torch.zeros(d_model, n_experts)) for _ in range(2))
        self.generator = generator

    def clean_and_std(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x @ self.w_g, F.softplus(x @ self.w_n)

    def forward(self, x: Tensor) -> Tensor:
        clean, std = self.clean_and_std(x)
        if not self.training:
            return clean
        return clean + std * torch.randn(clean.shape, dtype=x.dtype, device=x.device, generator=self.generator)


class CosineRouter(nn.Module):
    """Scores by direction alone, on a low-dimensional sphere: s_e = cos(W x, e_e) / τ, (..., D) -> logits (..., E).

    A linear router pulls tokens towards the embeddings of experts, in their own space: one way to collapse.

    Args:
        d_low: dimension of the sphere; E/2, at least 2, if None.
        temperature: τ at the start; learnt.

    Source: Chi et al. 2022, On the representation collapse of sparse mixture of experts (X-MoE).
    """

    def __init__(self, d_model: int, n_experts: int, d_low: int | None = None, temperature: float = 0.3):
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be > 0, got {temperature!r}")
        d_low = max(2, n_experts // 2) if d_low is None else d_low
        self.project = nn.Linear(d_model, d_low, bias=False)
        self.embedding = nn.Parameter(F.normalize(torch.randn(n_experts, d_low), dim=-1))
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))  # so that τ stays above 0
        self.start = temperature

    def forward(self, x: Tensor) -> Tensor:
        cosine = F.normalize(self.project(x), dim=-1) @ F.normalize(self.embedding, dim=-1).t()
        return cosine / self.log_temperature.exp()

    def at_start_temperature(self, choice: Choice) -> Choice:
        """For the balance loss, which the source takes at a fixed τ: a learnt one could please it by going up."""
        return choice._replace(logits=choice.logits * (self.log_temperature.exp() / self.start))


# Choices: which experts, with which weight


def switch(logits: Tensor, k: int = 1) -> Choice:
    """The k best, weighted by their probability in the softmax over *all* experts: sums to less than 1.

    That is what gives the router a gradient with k = 1: renormalised, the weight would be the constant 1.

    Source: Fedus et al. 2022, Switch transformers, eq. 2.
    """
    chosen = top_k(logits, k).weights > 0  # checks the logits, and k
    return _only(chosen, logits, logits.softmax(-1))


def gshard(logits: Tensor, *, generator: torch.Generator | None = None) -> Choice:
    """The two best, g = softmax over the two; the second runs with probability min(1, 2 g_2) only.

    Source: Lepikhin et al. 2021, GShard, algorithm 1.
    """
    choice = top_k(logits, 2)
    g = choice.weights.detach()
    noise = torch.rand(logits.shape[:-1], dtype=logits.dtype, device=logits.device, generator=generator)
    second = (g > 0) & ~F.one_hot(g.argmax(-1), g.shape[-1]).bool()
    return choice._replace(weights=choice.weights.masked_fill(second & (2 * g <= noise.unsqueeze(-1)), 0))


def expert_choice(logits: Tensor, capacity_factor: float = 1.0) -> Choice:
    """Each expert takes its ⌈N · capacity_factor / E⌉ best tokens, by p = softmax over the experts; z = p for those.

    Balanced by construction; a token may get many experts, or none. Whether it is taken depends on all the others, on
    later ones too: not for language models that predict the next token.

    Source: Zhou et al. 2022, Mixture-of-experts with expert choice routing.
    """
    check_logits(logits)
    _check_capacity_factor(capacity_factor)
    p = logits.softmax(-1)
    rows = _flat(p.detach())  # (N, E)
    size = min(len(rows), _ceil(len(rows) * capacity_factor / rows.shape[-1]))
    taken = torch.zeros_like(rows, dtype=torch.bool).scatter(0, rows.topk(size, dim=0).indices, True)
    return _only(taken.reshape(p.shape), logits, p)


def sinkhorn(logits: Tensor, n_iters: int = 100) -> Tensor:
    """The plan that gives each token 1 and each expert N/E: argmax_P <P, s> + H(P) under both. (..., E) -> (..., E).

    Rows are exact, columns as near as `n_iters` rounds of normalising both bring them. No gradient.

    Source: Cuturi 2013, Sinkhorn distances: lightspeed computation of optimal transport.
    """
    check_logits(logits)
    rows = _flat(logits.detach())
    if len(rows) and rows.isneginf().all(0).any():
        raise ValueError("logits must leave each expert to some token, got a column of only -inf")
    if n_iters < 1:
        raise ValueError(f"n_iters must be at least 1, got {n_iters}")
    share = math.log(max(len(rows), 1) / rows.shape[-1])
    for _ in range(n_iters):
        rows = rows - rows.logsumexp(0) + share
        rows = rows - rows.logsumexp(-1, keepdim=True)
    return rows.exp().reshape(logits.shape)


def balanced(logits: Tensor, n_iters: int = 100) -> Choice:
    """The expert with the largest entry in the plan of `sinkhorn`, weighted by its softmax probability, as `switch`.

    For training: a token's expert depends on all the others. At test time, use `switch`.

    Source: Clark et al. 2022, Unified scaling laws for routed language models (S-BASE).
    """
    best = sinkhorn(logits, n_iters).argmax(-1)
    return _only(F.one_hot(best, logits.shape[-1]).bool(), logits, logits.softmax(-1))


def base(logits: Tensor) -> Choice:
    """The assignment of largest total score in which no expert has more than ⌈N/E⌉ tokens; z = sigmoid(score).

    Exact, by scipy's linear assignment: some thousand tokens at most. For training; at test time tokens go to their
    largest score.

    Source: Lewis et al. 2021, BASE layers, eq. 1 and 2.
    """
    check_logits(logits)
    from scipy.optimize import linear_sum_assignment  # half a second to import: only for those who use it

    scores = _flat(logits.detach()).double().clamp(min=-1e9)  # (N, E)
    size = -(-len(scores) // scores.shape[-1])  # ⌈N/E⌉ places for each expert
    _, place = linear_sum_assignment(scores.repeat_interleave(size, dim=-1).cpu().numpy(), maximize=True)
    best = torch.as_tensor(place, device=logits.device).reshape(logits.shape[:-1]) // max(size, 1)
    return _only(F.one_hot(best, logits.shape[-1]).bool(), logits, logits.sigmoid())


def hashed(ids: Tensor, n_experts: int) -> Choice:
    """A fixed expert for each identity, such as a byte or a word: z = one-hot, scattered evenly. ids (...) integers.

    Source: Roller et al. 2021, Hash layers for large sparse models (their random hash).
    """
    if ids.is_floating_point() or n_experts < 1:
        raise ValueError(f"ids must be integers, n_experts at least 1, got {ids.dtype} and {n_experts}")
    mixed = (ids.long() + 1) * 2654435761 % 2**32  # Knuth's multiplicative hash: the upper bits are well mixed
    weights = F.one_hot((mixed >> 12) % n_experts, n_experts).float()
    return Choice(weights.log(), weights, weights.new_zeros(ids.shape))


class BalanceBias(nn.Module):
    """Balance without a loss: the k largest of p + b are chosen, weighted by p = softmax(s) alone. A way to `choose`.

    After a step, `update(choice)`: b_e += rate · sign(mean load - load_e). No gradient of balance disturbs the task's.

    Args:
        rate: u, the step of the bias; the scale of p is 1.

    Source: Wang et al. 2024, Auxiliary-loss-free load balancing strategy for mixture-of-experts (with p = sigmoid(s)).
    """

    def __init__(self, n_experts: int, k: int = 1, rate: float = 1e-3):
        super().__init__()
        if not 1 <= k <= n_experts:
            raise ValueError(f"k must be from 1 to n_experts = {n_experts}, got {k}")
        self.k, self.rate = k, rate
        self.register_buffer("bias", torch.zeros(n_experts))

    def forward(self, logits: Tensor) -> Choice:
        check_logits(logits)
        p = logits.softmax(-1)
        ranked = (p.detach() + self.bias).masked_fill(logits == -torch.inf, -torch.inf)
        taken = torch.zeros_like(p, dtype=torch.bool).scatter(-1, ranked.topk(self.k).indices, True)
        return _only(taken, logits, p)

    @torch.no_grad()
    def update(self, choice: Choice) -> None:
        load = expert_load(choice)
        self.bias += self.rate * (load.mean() - load).sign()


# Losses: how unequal, how uncertain. All are scalars, to be multiplied by a small number and added to the task's


def load_balance_loss(choice: Choice) -> Tensor:
    """E · Σ_e f_e P_e: f the share of the pairs (no gradient), P the mean softmax probability.

    1 if P is uniform, whatever f is; E when collapsed. Other code counts k at uniform (Mixtral's in transformers).

    Source: Fedus et al. 2022, eq. 4 to 6.
    """
    p = _flat(choice.logits).softmax(-1)
    return p.shape[-1] * (expert_load(choice) * _mean(p)).sum()


def importance_loss(choice: Choice) -> Tensor:
    """CV² of the experts' importance, the sum of their weights over the tokens. Shazeer et al. 2017, eq. 6 and 7."""
    return squared_cv(_flat(choice.weights).sum(0))


def noisy_load(clean: Tensor, noisy: Tensor, std: Tensor, k: int) -> Tensor:
    """A load that has a gradient: Σ_tokens P(expert e is among the k best if its noise is drawn again). -> (E,).

        P_e = Φ((clean_e - (k-th largest of noisy, e excluded)) / std_e)

    Its loss is `squared_cv(noisy_load(...))`. clean, noisy, std (..., E); k < E.

    Source: Shazeer et al. 2017, eq. 8 to 10.
    """
    n_experts = clean.shape[-1]
    if not 1 <= k < n_experts:
        raise ValueError(f"k must be from 1 to less than the number of experts, {n_experts}, got {k}")
    best = noisy.topk(k + 1).values
    kth, next_one = best[..., k - 1 : k], best[..., k:]
    bar = torch.where(noisy >= kth, next_one, kth)  # who is among the best itself has to stay above the one behind
    spread = std.clamp(min=torch.finfo(std.dtype).tiny)  # softplus may underflow to 0
    return torch.special.ndtr((clean - bar) / spread).reshape(-1, n_experts).sum(0)


def squared_cv(values: Tensor) -> Tensor:
    """CV² = variance / mean² (of the population): how unequal positive values (E,) are; 0 where all are zero."""
    return (values / values.mean().clamp(min=torch.finfo(values.dtype).tiny)).var(correction=0)


def router_z_loss(choice: Choice) -> Tensor:
    """mean (log Σ_e exp s_e)²: keeps scores small, and so their rounding errors. Zoph et al. 2022 (ST-MoE), eq. 5."""
    return _mean(_flat(choice.logits).logsumexp(-1).square())


def local_entropy(weights: Tensor) -> Tensor:
    """mean H(p(x)), in nats: small where each token is sure of its expert. `weights` p (..., E), of all experts.

    Source: Mustafa et al. 2022, LIMoE, section 2.2: for each modality on its own.
    """
    return _mean(torch.special.entr(_flat(weights)).sum(-1))


def global_entropy(weights: Tensor, threshold: float | None = None) -> Tensor:
    """-H(mean p), in nats: small where the experts share the work; max(0, threshold - H) asks for so much and no more.

    Source: as `local_entropy`. A threshold of log(m) asks for at least m experts.
    """
    entropy = torch.special.entr(_mean(_flat(weights))).sum()
    return -entropy if threshold is None else (threshold - entropy).clamp(min=0)


# Measures


def expert_load(choice: Choice) -> Tensor:
    """The share of each expert in the pairs: (E,), sums to 1 (to 0 for no tokens). No gradient."""
    pairs = (_flat(choice.weights.detach()) > 0).sum(0)
    return (pairs.double() / pairs.sum().clamp(min=1)).to(choice.weights.dtype)  # half precision ends at 65,504 pairs


class Collapse(NamedTuple):
    """How far a load (E,) is from an equal one."""

    max_over_mean: float  # 1 if equal, E if one expert has all
    dead: int  # experts without a token
    entropy: float  # in units of log E: 1 if equal, 0 if one expert has all


def collapse(choice: Choice) -> Collapse:
    """How far the load of a choice (..., E) is from an equal one."""
    load = expert_load(choice)
    entropy = torch.special.entr(load).sum().item() / math.log(len(load)) if len(load) > 1 else 1.0
    return Collapse(load.max().item() * len(load), int((load == 0).sum()), entropy)


def representation_collapse(hidden: Tensor, label: Tensor) -> Tensor:
    """Tr(Σ_W Σ_B⁺): the spread of representations (N, D) within their group, against that between groups' means.

    Near 0, all tokens of a group have become one point. Shifts, rotations and scale do not matter. Groups (N,) are the
    experts that the tokens went to, and each counts the same. Compare values of one grouping only.

    Source: Chi et al. 2022, section 5; after Papyan et al. 2020 (neural collapse).
    """
    groups = [hidden[label == e].double() for e in label.unique()]
    if len(groups) < 2:
        raise ValueError("label must name at least 2 groups")
    means = torch.stack([group.mean(0) for group in groups])
    within = torch.stack([_covariance(group) for group in groups]).mean(0)
    return torch.trace(within @ torch.linalg.pinv(_covariance(means), hermitian=True))


def _covariance(rows: Tensor) -> Tensor:
    """(n, D) -> (D, D), for D = 1 as well, where that of torch has no dimensions."""
    centred = rows - rows.mean(0)
    return centred.T @ centred / len(rows)


def _mean(rows: Tensor) -> Tensor:
    """Mean over the first dimension, 0 of none; in one step, as a sum in half precision overflows early."""
    return rows.mean(0) if len(rows) else rows.sum(0)


def _only(chosen: Tensor, logits: Tensor, weights: Tensor) -> Choice:
    return Choice(logits, torch.where(chosen, weights, 0), _zeros(logits))


def _flat(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _zeros(logits: Tensor) -> Tensor:
    return logits.new_zeros(logits.shape[:-1])


def _ceil(x: float) -> int:
    return math.ceil(x * (1 - 1e-12))  # in floating point, 1.1 · 10 is more than 11


def _check_capacity_factor(capacity_factor: float) -> None:
    if not 0 < capacity_factor < math.inf:
        raise ValueError(f"capacity_factor must be a finite number > 0, got {capacity_factor!r}")
