"""Adapters: small changes to a network that stays as it is, and mixtures of them.

A mixture of adapters is the one equation, added to a base:  y = base(x) + Σ_k z_k · Δ_k(x). Each Δ_k is a few per cent
of the base, so many fit beside it, and those that are not chosen do not run.

    Δ(x)                              where it is added                       source
    LoRA:     scale · B A x           beside a linear layer, to its output    Hu et al. 2022
    Adapter:  U a(D x + d) + u        behind a layer, to what it returns      Houlsby et al. 2019

Whatever has a method `change`, x -> Δ(x), and says as `d_in` how wide x is, is an adapter for a mixture.

Beside a layer in half precision an adapter is float32; their sum is rounded to the layer's dtype.

Shapes: `...` any leading dimensions (batch, tokens), K adapters, r rank.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.choice import Choice, quiet
from lecture_lib.mixture import mix_sparse
from lecture_lib.simplex import Mask, as_integer, as_number, as_numbers, check_mask, full, looks, one_hot, score


class LoRA(nn.Module):
    """A change of low rank beside a linear layer: y = W x + b + scale · B A x. (..., d_in) -> (..., d_out).

    A (r, d_in) starts at random as in Linear, B (d_out, r) at zero: at the start, the layer is what it was. `linear`
    is frozen, in place, and its weight never changes: `merge` keeps the sum W + scale · B A beside it, for as long as
    one product shall do the work of three, and `unmerge` forgets it. So merging is undone to the bit, any number of
    adapters can share one layer, and the state to save is the same, merged or not.

    Args:
        rank: r, at least 1.
        alpha: known as lora_alpha: scale = alpha/r, so that a change of r keeps its size; r if None.

    Source: Hu et al. 2022, LoRA: low-rank adaptation of large language models, eq. 3.
    """

    def __init__(self, linear: nn.Linear, rank: int, *, alpha: float | None = None):
        super().__init__()
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"linear must be a torch.nn.Linear, got {type(linear).__name__}")
        rank = _at_least_one("rank", rank)
        alpha = rank if alpha is None else alpha
        alpha = as_number("alpha", alpha, "a finite number > 0", lambda a: 0 < a < math.inf)
        self.base, self.scale = linear.requires_grad_(False), alpha / rank
        d_out, self.d_in = linear.weight.shape
        bound = self.d_in**-0.5
        weight = full(linear.weight.detach()[:0])
        self.A = nn.Parameter(weight.new_empty(rank, self.d_in).uniform_(-bound, bound))
        self.B = nn.Parameter(weight.new_zeros(d_out, rank))
        self.register_buffer("merged", None, persistent=False)  # W + scale · B A, while merged

    def change(self, x: Tensor) -> Tensor:
        """Δ(x) = scale · B A x alone: two thin products, never the matrix B A. In the dtype of A."""
        _check_width(x, self.d_in)
        return F.linear(F.linear(_at_least(x, self.A), self.A), self.B) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        if self.merged is None:
            y = self.base(x)
            return (y + self.change(x)).to(y.dtype)
        _check_width(x, self.d_in)
        return F.linear(x, self.merged, self.base.bias)

    def merge(self) -> None:
        """From now on one product, W + scale · B A of this moment: no cost beyond the base, and nothing to train."""
        if self.merged is not None:
            raise RuntimeError("merge() needs a LoRA that is not merged, and this one is: unmerge() it first")
        self.merged = _merged_weight(self)  # rounded once

    def unmerge(self) -> None:
        if self.merged is None:
            raise RuntimeError("unmerge() needs a LoRA that is merged, and this one is not")
        self.merged = None

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        if self.merged is not None:  # else the sum from before would stay in use
            raise RuntimeError("load_state_dict() needs a LoRA that is not merged, and this one is: unmerge() it first")
        super()._load_from_state_dict(*args, **kwargs)


def add_loras(model: nn.Module, rank: int, *, alpha: float | None = None) -> list[LoRA]:
    """Put a LoRA beside each nn.Linear inside `model`, in place, and freeze everything else; returns them, in order.

    The model computes what it did, to the bit, until they learn. What is no nn.Linear gets none: an embedding, a layer
    of a subclass, a LoRA that is there already.
    """
    loras = []
    for path, module in list(model.named_modules()):
        parent, _, name = path.rpartition(".")
        parent = model.get_submodule(parent)
        if path and type(module) is nn.Linear and not isinstance(parent, LoRA):
            loras.append(LoRA(module, rank, alpha=alpha))
            setattr(parent, name, loras[-1])
    if not loras:
        raise ValueError(f"model must hold a torch.nn.Linear, got {type(model).__name__} with none inside")
    model.requires_grad_(False)
    for lora in loras:
        lora.A.requires_grad_(True)
        lora.B.requires_grad_(True)
    return loras


def merge_lora(lora: LoRA) -> nn.Linear:
    """A plain new layer with the weight W + scale · B A, of its own: nothing tells that there was an adapter."""
    if not isinstance(lora, LoRA):
        raise TypeError(f"lora must be a LoRA, got {type(lora).__name__}")
    base = lora.base
    linear = nn.Linear(base.in_features, base.out_features, base.bias is not None, device="meta")
    linear.weight = nn.Parameter(_merged_weight(lora))
    if base.bias is not None:
        linear.bias = nn.Parameter(base.bias.detach().clone())
    return linear.train(lora.training)


def concatenate(loras: Iterable[LoRA], weights: Sequence[float] | None = None) -> LoRA:
    """One adapter that is the weighted sum of several, exactly: Σ_i w_i s_i B_i A_i = [w_1 s_1 B_1, ...] [A_1; ...].

    Its rank is the sum of theirs. (A mean of the A and a mean of the B would be another matrix: it has cross terms.)

    Args:
        loras: at least one, all of the same layer.
        weights: w, any sign; all 1 if None.

    Returns: a LoRA of that layer with parameters of its own, and scale 1.
    """
    loras = list(loras)
    if len(bases := {getattr(lora, "base", None) for lora in loras}) != 1 or None in bases:
        raise ValueError(f"loras must be at least one, and all of the same layer, got {len(loras)} of them")
    n, allowed = len(loras), "finite numbers, one for each of loras"
    weights = [1.0] * n if weights is None else weights
    weights = as_numbers("weights", weights, n, allowed, math.isfinite)
    total = LoRA(loras[0].base, sum(len(lora.A) for lora in loras))
    with torch.no_grad():
        total.A.copy_(torch.cat([lora.A for lora in loras]))
        total.B.copy_(torch.cat([w * lora.scale * lora.B for w, lora in zip(weights, loras, strict=True)], dim=1))
    return total


class Adapter(nn.Module):
    """A bottleneck behind a layer: y = x + U a(D x + d) + u. (..., d_model) -> (..., d_model).

    U and u start at zero, so that it starts as the identity, exactly (in the source, nearly: small random values).

    Args:
        d_bottleneck: the width between D and U.
        activation: a, element-wise.

    Source: Houlsby et al. 2019, Parameter-efficient transfer learning for NLP, section 2.
    """

    def __init__(self, d_model: int, d_bottleneck: int, *, activation: Callable[[Tensor], Tensor] = F.gelu):
        super().__init__()
        d_model = _at_least_one("d_model", d_model)
        d_bottleneck = _at_least_one("d_bottleneck", d_bottleneck)
        self.down, self.up = nn.Linear(d_model, d_bottleneck), nn.Linear(d_bottleneck, d_model)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.activation, self.d_in = activation, d_model

    def change(self, x: Tensor) -> Tensor:
        """What is added to x."""
        _check_width(x, self.d_in)
        return self.up(self.activation(self.down(_at_least(x, self.down.weight))))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.change(x)).to(x.dtype)


class MixtureOfAdapters(nn.Module):
    """y = base(x) + Σ_k z_k · Δ_k(x), z = choose(router(x)): x (..., d_in) -> (y, choice). Only chosen adapters run.

    As in `mix_sparse`, an adapter that did not run gives its weight no gradient; a straight-through choice trains with
    `base(x) + mix(x, choice.weights, mixture.changes)`.

    To add a task, append an adapter to `.adapters` and choose it by `by_task`: in the same batch, rows that did not
    choose it stay what they were, to the bit; among other rows up to rounding, as groups have another size.

    Args:
        base: what every example runs. `nn.Identity()` where the layer has run already (`Adapter`s behind it). Frozen
            if you freeze it, `base.requires_grad_(False)`; `LoRA` does so by itself.
        adapters: LoRAs of `base`, or any modules with `change` and `d_in`.
        choose: logits (..., K) -> Choice, in training mode.
        at_test: the same in evaluation mode; `choice.quiet(choose)` if None.
        router: the scorer, x -> logits (*batch, K), where `batch` are leading dimensions of x: all of them, (B, T), for
            a choice per token; (B,) for one per example. If None, linear without bias, per token.

    Sources: Wang et al. 2022, AdaMix (a mixture of adapters, chosen at random); Ponti et al. 2023, Combining
    parameter-efficient modules for task-level generalisation (chosen per task).
    """

    def __init__(
        self,
        base: nn.Module,
        adapters: Iterable[nn.Module],
        choose: Callable[[Tensor], Choice],
        *,
        at_test: Callable[[Tensor], Choice] | None = None,
        router: nn.Module | None = None,
    ):
        super().__init__()
        self.base, self.adapters, self.choose = base, nn.ModuleList(adapters), choose
        at_test = quiet(choose) if at_test is None else at_test
        self.at_test = None if at_test is choose else at_test  # a module is registered once
        if not self.adapters:
            raise ValueError("adapters must hold at least one, got none")
        for k, adapter in enumerate(self.adapters):
            if not (hasattr(adapter, "change") and hasattr(adapter, "d_in")):
                raise TypeError(f"adapters must have change and d_in, adapters[{k}] is a {type(adapter).__name__}")
            if isinstance(adapter, LoRA) and adapter.base is not base:
                raise ValueError(f"adapters must be LoRAs of base itself, adapters[{k}] is one of another layer")
        if router is None:
            beside = next(self.adapters.parameters(), torch.empty(0)).device
            router = nn.Linear(self.adapters[0].d_in, len(self.adapters), bias=False, device=beside)
        self.router = router

    @property
    def changes(self) -> list[Callable[[Tensor], Tensor]]:
        """The K functions Δ_k, as `mix` and `mix_sparse` take them."""
        return [adapter.change for adapter in self.adapters]

    def forward(
        self,
        x: Tensor,
        choice: Choice | None = None,
        *,
        mask: Mask = None,
    ) -> tuple[Tensor, Choice]:
        """`choice`: take this one, in place of the router's.

        `mask` (*batch,): what counts; the rest has no weight, and y = base(x).
        """
        _check_width(x, self.adapters[0].d_in)
        if choice is None:
            choose = self.choose if self.training else self.at_test or self.choose
            choice = choose(score(self.router, x))
        (*batch, k), device = choice.weights.shape, choice.weights.device
        if k != len(self.adapters) or list(x.shape[: len(batch)]) != batch or device != x.device:
            raise ValueError(
                f"choice must have weights (*batch, {len(self.adapters)}), batch the first dimensions of x"
                f" {tuple(x.shape)} on {x.device}, got {tuple(choice.weights.shape)} on {device}"
            )
        if mask is not None:
            check_mask(mask, choice.weights.shape[:-1])
            weights, log_prob = choice.weights * mask[..., None], choice.log_prob * mask
            choice = choice._replace(weights=weights, log_prob=log_prob)
        y, change = self.base(x), mix_sparse(x, choice.weights, self.changes)
        if getattr(y, "shape", None) != change.shape:
            wanted, got = tuple(getattr(y, "shape", [type(y).__name__])), tuple(change.shape)
            raise ValueError(f"adapters must return changes of the shape of base(x), {wanted}, got {got}")
        return (y + change).to(y.dtype), choice


def by_task(task: Tensor, n_tasks: int) -> Choice:
    """Each task its own adapter, the task is given: z = one-hot. task (...) integers -> weights (..., n_tasks)."""
    n_tasks = _at_least_one("n_tasks", n_tasks)
    if not isinstance(task, Tensor) or task.is_floating_point() or task.dtype == torch.bool:
        raise TypeError(f"task must be a tensor of integers, got {getattr(task, 'dtype', type(task).__name__)}")
    if looks(task) and (unknown := task[(task < 0) | (task >= n_tasks)]).numel():
        raise ValueError(f"task must be from 0 to {n_tasks - 1}, a task that has an adapter, got {unknown[0].item()}")
    weights = one_hot(task.long(), torch.zeros(*task.shape, n_tasks, device=task.device))
    return Choice(weights.log(), weights, weights.new_zeros(task.shape))


@torch.no_grad()
def _merged_weight(lora: LoRA) -> Tensor:
    with torch.autocast(lora.A.device.type, enabled=False):
        weight, a, b = map(full, (lora.base.weight, lora.A, lora.B))
        return (weight + lora.scale * b @ a).to(lora.base.weight.dtype)


def _at_least(x: Tensor, weight: Tensor) -> Tensor:
    """x in the dtype of a weight that has more digits."""
    return x.to(torch.promote_types(x.dtype, weight.dtype))


def _check_width(x: Tensor, d_in: int) -> None:
    if x.ndim == 0 or x.shape[-1] != d_in:
        raise ValueError(f"x must have shape (..., {d_in}), got {tuple(x.shape)}")


def _at_least_one(name: str, value: int) -> int:
    return as_integer(name, value, "an integer of at least 1", 1)
