"""Experts and the layers made of them."""

import copy
import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.choice import Choice, quiet
from lecture_lib.moe.choices import check_capacity_factor, two_best, within_capacity, zeros
from lecture_lib.moe.measures import Mask, pick, places_of, spread
from lecture_lib.moe.routers import product, sizes
from lecture_lib.simplex import as_integer, blank, check_mask, full, looks, score

Choose = Callable[[Tensor], Choice]
Routed = tuple[Tensor, Choice]


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """What autocast computes a product with x in; None where it leaves it alone."""
    kind = x.device.type
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if on and x.dtype != torch.float64 else None


def grouped_product(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """Rows (n, a), sorted by expert, times their own expert's matrix: weights (E, a, b) -> (n, b).

    Those of expert e end at `ends[e]`, int32.
    """
    if (low := autocast_dtype(rows)) is not None:  # which does not know of grouped_mm
        rows, weights = rows.to(low), weights.to(low)
    if not torch.compiler.is_compiling():
        return _product(rows, weights, ends)
    traced = rows.dtype == torch.bfloat16 and _aligned(weights)  # all that torch can trace
    return F.grouped_mm(rows, weights, offs=ends) if traced else _opaque_product(rows, weights, ends)


def _product(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    taken = rows.dtype == weights.dtype != torch.float64 and _aligned(weights) and weights.data_ptr() % 16 == 0
    if taken and len(rows):
        return F.grouped_mm(rows, weights, offs=ends)
    # what torch refuses. unbind, as every weights[e] would have a gradient of the size of all of them
    groups = zip(rows.split(_sizes(ends)), weights.unbind(), strict=True)
    return torch.cat([group @ weight for group, weight in groups])


def _sizes(ends: Tensor) -> list[int]:
    return ends.diff(prepend=ends.new_zeros(1)).tolist()


def _aligned(weights: Tensor) -> bool:
    return all(size * weights.element_size() % 16 == 0 for size in weights.shape[1:])


@torch.library.custom_op("lecture_lib::grouped_product", mutates_args=())
def _opaque_product(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """`_product` as one node of a compiled graph."""
    return _product(rows, weights, ends)


@torch.library.custom_op("lecture_lib::grouped_outer", mutates_args=())
def _opaque_outer(rows: Tensor, grad: Tensor, ends: Tensor) -> Tensor:
    """The gradient of the weights: rows (n, a), grad (n, b) -> (E, a, b)."""
    groups = (part.split(_sizes(ends)) for part in (rows, grad))
    return torch.stack([row.T @ g for row, g in zip(*groups, strict=True)])


@_opaque_product.register_fake
def _(rows: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], weights.shape[2])


@_opaque_outer.register_fake
def _(rows: Tensor, grad: Tensor, ends: Tensor) -> Tensor:
    return rows.new_empty(ends.shape[0], rows.shape[1], grad.shape[1])


_opaque_product.register_autograd(
    lambda ctx, grad: (
        _opaque_product(grad, ctx.saved_tensors[1].mT, ctx.saved_tensors[2]),
        _opaque_outer(ctx.saved_tensors[0], grad, ctx.saved_tensors[2]),
        None,
    ),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


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
        named = {"n_experts": n_experts, "d_model": d_model, "d_hidden": d_hidden}
        n_experts, d_model, d_hidden = sizes(**named)
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
        if self._most_idle(rows):  # then a product for each is slower than to look who is not
            sizes = counts.tolist()
            return torch.cat([self[e](group) for e, group in enumerate(rows.split(sizes)) if sizes[e]])
        product = partial(grouped_product, ends=counts.cumsum(0, dtype=torch.int32))
        return self._run(rows, product, lambda bias: bias.repeat_interleave(counts, 0, output_size=rows.shape[0]))

    def _most_idle(self, rows: Tensor) -> bool:
        eager = rows.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
        return eager and 0 < rows.shape[0] < len(self)

    def _run(self, rows: Tensor, product: Callable, own: Callable[[Tensor], Tensor]) -> Tensor:
        hidden = product(rows, self.w_in)
        if self.b_in is not None:
            hidden = hidden + own(self.b_in).to(hidden.dtype)
        if self.gated:
            gate, hidden = hidden.chunk(2, -1)
            hidden = self.activation(gate) * hidden
        else:
            hidden = self.activation(hidden)
        y = product(hidden, self.w_out)
        return y if self.b_out is None else y + own(self.b_out).to(y.dtype)


class MoE(nn.Module):
    """A layer of experts: y = Σ_e z_e · f_e(x) + shared(x), with z = choose(router(x)). x (..., D) -> (y, choice).

    Only experts with a weight run: pairs of a token and an expert are sorted by expert, then multiplied group by group.
    As in `mix_sparse`, the weight of an expert that did not run has no gradient; a straight-through choice that needs
    one trains with `mix(x, choice.weights, moe.experts)`.

    Args:
        choose: logits (..., E) -> Choice.
        at_test: the same in evaluation mode; if None, `choose` without its noise (`choice.quiet`,
            which cannot look into a lambda).
        capacity_factor: an expert takes at most so many times the mean number of tokens; the others are dropped, which
            means that the expert adds nothing for them (see `within_capacity`). None: all are taken.
        router: the scorer, (..., D) -> logits (..., E); linear without bias if None.
        batch_priority: the surest tokens queue first, not those that come first in x.
        n_shared: so many more experts of the same size that take every token, without a weight.
        style: of the experts; activation, gated, bias as for `Experts`.

    A device is waited for once a call, for the number of pairs; once more with a capacity, and once
    more with a mask (with float64 or widths that are no multiple of 16 bytes, for each product too).

    The returned choice is what the router wanted, from before anything was dropped: balance losses need that one.
    Where `mask` (...) says that a token does not count, y, logits and weights are 0.

    Sources: Shazeer et al. 2017; Fedus et al. 2022 (capacity); Dai et al. 2024, DeepSeekMoE (shared experts).
    """

    def __init__(
        self,
        d_model: int,
        d_hidden: int,
        n_experts: int,
        choose: Choose,
        capacity_factor: float | None = None,
        *,
        at_test: Choose | None = None,
        router: nn.Module | None = None,
        batch_priority: bool = False,
        n_shared: int = 0,
        **style,
    ):
        super().__init__()
        if capacity_factor is not None:
            capacity_factor = check_capacity_factor(capacity_factor)
        n_shared = as_integer("n_shared", n_shared, "an integer of at least 0", 0)
        self.experts = Experts(n_experts, d_model, d_hidden, **style)
        # n networks side by side are one that is n times as wide
        self.shared = Experts(1, d_model, n_shared * d_hidden, **style) if n_shared else None
        self.router = nn.Linear(d_model, n_experts, bias=False) if router is None else router
        self.choose, self.capacity_factor, self.batch_priority = choose, capacity_factor, batch_priority
        at_test = quiet(choose) if at_test is None else at_test
        self.at_test = None if at_test is choose else at_test  # a module is not registered twice

    def forward(self, x: Tensor, choice: Choice | None = None, *, mask: Mask = None) -> Routed:
        """`choice`: route by this one, in place of the router's."""
        check_x(x, self.experts, "...")
        if choice is not None:
            self._check("choice must have weights", choice.weights, x)
        if mask is None:
            return self._mixture(x, choice)
        check_mask(mask, x.shape[:-1])
        places = places_of(mask)
        given = choice if choice is None else Choice(*(pick(part, mask, places) for part in choice))
        y, choice = self._mixture(pick(x, mask, places), given)
        return spread(y, mask, places), Choice(*(spread(part, mask, places) for part in choice))

    def _mixture(self, x: Tensor, choice: Choice | None) -> Routed:
        n_experts, d_model = self.experts.w_in.shape[:2]
        if choice is None:
            logits = score(self.router, x)
            self._check("router must return logits", logits, x)
            # else argmax would send it to some expert without a word
            if looks(logits) and logits.numel() and math.isnan(logits.detach().amax()):
                raise ValueError("x must be finite, got a token whose scores are NaN")
            quietly = not self.training and self.at_test is not None
            choice = (self.at_test if quietly else self.choose)(logits)
            self._check("choice must have weights", getattr(choice, "weights", None), x)
        kept = choice if self.capacity_factor is None else self.within_capacity(choice)
        rows, z = x.reshape(-1, d_model), kept.weights.reshape(-1, n_experts).t().contiguous()  # (N, D), (E, N)
        expert, token = z.nonzero(as_tuple=True)  # the n pairs, sorted by expert
        y = self.experts(rows.index_select(0, token), z.count_nonzero(1))  # (n, D)
        y = y * z[expert, token].unsqueeze(-1).to(y.dtype)
        y = y.new_zeros(rows.shape).index_add_(0, token, y)
        if self.shared is not None:
            y = y + self.shared[0](rows)
        return y.reshape(x.shape), choice

    def _check(self, promise: str, made: object, x: Tensor) -> None:
        wanted = x.shape[:-1] + self.experts.w_in.shape[:1]
        if not isinstance(made, Tensor) or made.shape != wanted:
            got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise ValueError(f"{promise} of shape {tuple(wanted)} for this x, got {got}")

    def within_capacity(self, choice: Choice) -> Choice:
        """The choice without what the experts' capacity leaves no room for."""
        return within_capacity(choice, self.capacity_factor, batch_priority=self.batch_priority)


def check_x(x: Tensor, experts: Experts, lead: str) -> None:
    width, dtype, low = experts.w_in.shape[1], experts.w_in.dtype, autocast_dtype(x)
    if x.ndim <= lead.count("T") or x.shape[-1] != width:
        raise ValueError(f"x must have shape ({lead}, {width}), got {tuple(x.shape)}")
    if x.dtype not in ({dtype} if low is None else {dtype, torch.float32, low}):
        raise ValueError(f"x must have dtype {dtype}, got {x.dtype}")


def upcycle(ffn: nn.Sequential, n_experts: int, choose: Choose = two_best) -> MoE:
    """Experts that all start as copies of a trained network, Sequential(Linear, activation, Linear), and a new router.

    The layer equals the network, exactly, as long as the weights of a token sum to 1: with `top_k`, not with `switch`.
    What is frozen there is frozen here.

    Source: Komatsuzaki et al. 2023, Sparse upcycling.
    """
    kinds = [type(module) for module in ffn] if isinstance(ffn, nn.Sequential) else []
    if len(kinds) != 3 or kinds[0] != nn.Linear or kinds[2] != nn.Linear or ffn[0].in_features != ffn[2].out_features:
        raise ValueError(f"ffn must be Sequential(Linear(D, H), activation, Linear(H, D)), got {ffn}")
    first, activation, last = ffn
    bias = first.bias is not None
    if bias != (last.bias is not None):
        raise ValueError(f"ffn must have two biases or none, got {ffn}")
    style = {"activation": copy.deepcopy(activation), "bias": bias}
    moe = MoE(first.in_features, first.out_features, n_experts, choose, **style)
    copies = {"w_in": first.weight.t(), "w_out": last.weight.t(), "b_in": first.bias, "b_out": last.bias}
    with torch.no_grad():
        for name, value in copies.items():
            if value is not None:
                getattr(moe.experts, name).copy_(value).requires_grad_(value.requires_grad)
    return moe.to(first.weight).train(ffn.training)


class SoftMoE(nn.Module):
    """Experts for mixtures of tokens: no token is dropped, no expert idles, everything has a gradient. (..., T, D).

        slot_j = Σ_t softmax_t(s_tj) x_t,    y_t = Σ_j softmax_j(s_tj) f(slot_j),    s = scale · x̂ Φ̂

    x̂ and Φ̂ have length 1, slots mix the raw x. A token sees its whole sequence, later tokens too: not for language
    models that predict the next one.

    Returns: (y, choice) with the logits and weights of the experts (..., T, E), those of their slots summed.

    Source: Puigcerver et al. 2024, From sparse to soft mixtures of experts.
    """

    def __init__(self, d_model: int, d_hidden: int, n_experts: int, slots: int = 1, **style):
        """`slots` of each expert; `style` for `Experts`."""
        super().__init__()
        (self.slots,) = sizes(slots=slots)
        self.experts = Experts(n_experts, d_model, d_hidden, **style)
        self.phi = nn.Parameter(torch.randn(d_model, n_experts * slots))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, *, mask: Mask = None) -> Routed:
        n_experts = len(self.experts)
        check_x(x, self.experts, "..., T")
        x = blank(x, mask)
        phi = full(self.scale) * F.normalize(full(self.phi), dim=0)
        logits = product(F.normalize(full(x), dim=-1), phi)  # (..., T, E·S)
        if looks(logits) and logits.isnan().any():
            raise ValueError("x must be finite, got a token whose scores are NaN")
        combine, to_slots = blank(logits.softmax(-1), mask), logits
        if mask is not None:
            to_slots = logits.masked_fill(~mask.unsqueeze(-1), torch.finfo(logits.dtype).min)
        slots = to_slots.softmax(-2).to(x.dtype).mT @ x  # (..., E·S, D)
        by_expert = slots.unflatten(-2, (n_experts, self.slots)).movedim(-3, 0)  # (E, ..., S, D)
        rows = by_expert.reshape(-1, x.shape[-1])
        counts = torch.full((n_experts,), len(rows) // n_experts, device=x.device)
        out = self.experts(rows, counts).reshape(by_expert.shape).movedim(0, -3).flatten(-3, -2)
        per_expert = logits.unflatten(-1, (n_experts, self.slots)).logsumexp(-1)
        weights = combine.unflatten(-1, (n_experts, self.slots)).sum(-1)
        return combine.to(out.dtype) @ out, Choice(per_expert, weights, zeros(per_expert))
