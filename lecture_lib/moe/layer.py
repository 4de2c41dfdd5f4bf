"""Experts and the layers made of them."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.choice import Choice, top_k
from lecture_lib.moe.choices import check_capacity_factor, within_capacity, zeros

_TWO_BEST = partial(top_k, k=2)


def grouped_product(rows: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
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
        product = partial(grouped_product, counts=counts)
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
            check_capacity_factor(capacity_factor)
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
        return combine @ out, Choice(per_expert, weights, zeros(per_expert))
