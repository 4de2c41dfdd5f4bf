"""Adapters: small changes to a network that stays as it is, and mixtures of them.

A mixture of adapters is the one equation, added to a base:  y = base(x) + Σ_k z_k · Δ_k(x). Each Δ_k is a few per cent
of the base, so many fit beside it, and those that are not chosen do not run.

    Δ(x)                          where it is added                       source
    LoRA:     (α/r) B A x         beside a linear layer, to its output    Hu et al. 2022
    Adapter:  U a(D x + d) + u    behind a layer, to what it returns      Houlsby et al. 2019

Whatever has a method `change`, x -> Δ(x), and says as `d_in` how wide x is, is an adapter for a mixture.

Shapes: `...` any leading dimensions (batch, tokens), K adapters, r rank.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.choice import Choice
from lecture_lib.mixture import mix_sparse


class LoRA(nn.Module):
    """A change of low rank beside a linear layer: y = W x + b + (α/r) B A x. (..., d_in) -> (..., d_out).

    A (r, d_in) starts at random as in Linear, B (d_out, r) at zero: at the start, the layer is what it was. `linear`
    is frozen, in place, and its weight never changes: `merge` keeps the sum W + (α/r) B A beside it, for as long as
    one product shall do the work of three, and `unmerge` forgets it. So merging is undone to the bit, any number of
    adapters can share one layer, and the state to save is the same, merged or not.

    Args:
        rank: r, at least 1.
        alpha: α, so that a change of r keeps its scale; r if None.

    Source: Hu et al. 2022, LoRA: low-rank adaptation of large language models, eq. 3.
    """

    def __init__(self, linear: nn.Linear, rank: int, *, alpha: float | None = None):
        super().__init__()
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"linear must be a torch.nn.Linear, got {type(linear).__name__}")
        _at_least_one("rank", rank)
        alpha = rank if alpha is None else alpha
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha must be a finite number > 0, got {alpha!r}")
        self.base, self.scale = linear.requires_grad_(False), alpha / rank
        d_out, self.d_in = linear.weight.shape
        bound = self.d_in**-0.5
        self.A = nn.Parameter(linear.weight.new_empty(rank, self.d_in).uniform_(-bound, bound))
        self.B = nn.Parameter(linear.weight.new_zeros(d_out, rank))
        self.register_buffer("merged", None, persistent=False)  # W + (α/r) B A, while merged

    def change(self, x: Tensor) -> Tensor:
        """Δ(x) = (α/r) B A x alone: two thin products, never the matrix B A."""
        _check_width(x, self.d_in)
        return F.linear(F.linear(x, self.A), self.B) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        if self.merged is None:
            return self.base(x) + self.change(x)
        _check_width(x, self.d_in)
        return F.linear(x, self.merged, self.base.bias)

    def merge(self) -> None:
        """From now on one product, W + (α/r) B A of this moment: no cost beyond the base, and nothing to train."""
        if self.merged is not None:
            raise RuntimeError("merge() needs a LoRA that is not merged, and this one is: unmerge() it first")
        self.merged = _merged_weight(self)

    def unmerge(self) -> None:
        if self.merged is None:
            raise RuntimeError("unmerge() needs a LoRA that is merged, and this one is not")
        self.merged = None

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        if self.merged is not None:  # else the sum from before would stay in use
            raise RuntimeError("load_state_dict() needs a LoRA that is not merged, and this one is: unmerge() it first")
        super()._load_from_state_dict(*args, **kwargs)


def merge_lora(lora: LoRA) -> nn.Linear:
    """A plain new layer with the weight W + (α/r) B A, of its own: nothing tells that there was an adapter."""
    if not isinstance(lora, LoRA):
        raise TypeError(f"lora must be a LoRA, got {type(lora).__name__}")
    base = lora.base
    linear = nn.utils.skip_init(nn.Linear, base.in_features, base.out_features, bias=base.bias is not None)
    linear.weight = nn.Parameter(_merged_weight(lora))
    if base.bias is not None:
        linear.bias = nn.Parameter(base.bias.detach().clone())
    return linear


def concatenate(loras: Sequence[LoRA], weights: Sequence[float] | None = None) -> LoRA:
    """One adapter that is the weighted sum of several, exactly: Σ_i w_i s_i B_i A_i = [w_1 s_1 B_1, ...] [A_1; ...].

    Its rank is the sum of theirs. (A mean of the A and a mean of the B would be another matrix: it has cross terms.)

    Args:
        loras: at least one, all of the same layer.
        weights: w, any sign; all 1 if None.

    Returns: a LoRA of that layer with parameters of its own, and s = α/r = 1.
    """
    if not loras or any(lora.base is not loras[0].base for lora in loras):
        raise ValueError(f"loras must be at least one, and all of the same layer, got {len(loras)} of them")
    weights = [1.0] * len(loras) if weights is None else list(weights)
    if len(weights) != len(loras) or not all(map(math.isfinite, weights)):
        raise ValueError(f"weights must be {len(loras)} finite numbers, one for each of loras, got {weights}")
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
        _at_least_one("d_model", d_model)
        _at_least_one("d_bottleneck", d_bottleneck)
        self.down, self.up = nn.Linear(d_model, d_bottleneck), nn.Linear(d_bottleneck, d_model)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.activation, self.d_in = activation, d_model

    def change(self, x: Tensor) -> Tensor:
        """What is added to x."""
        _check_width(x, self.d_in)
        return self.up(self.activation(self.down(x)))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.change(x)


class MixtureOfAdapters(nn.Module):
    """y = base(x) + Σ_k z_k · Δ_k(x), z = choose(router(x)): x (..., d_in) -> (y, choice). Only chosen adapters run.

    As in `mix_sparse`, an adapter that did not run gives its weight no gradient; a straight-through choice trains with
    `base(x) + mix(x, choice.weights, mixture.changes)`.

    To add a task, append an adapter to `.adapters` and choose it by `by_task`: whoever did not choose it does not
    notice, to the bit.

    Args:
        base: what every example runs. `nn.Identity()` where the layer has run already (`Adapter`s behind it). Frozen
            if you freeze it, `base.requires_grad_(False)`; `LoRA` does so by itself.
        adapters: LoRAs of `base`, or any modules with `change` and `d_in`.
        choose: logits (..., K) -> Choice.
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
        router: nn.Module | None = None,
    ):
        super().__init__()
        self.base, self.adapters, self.choose = base, nn.ModuleList(adapters), choose
        if not self.adapters:
            raise ValueError("adapters must hold at least one, got none")
        for k, adapter in enumerate(self.adapters):
            if not (hasattr(adapter, "change") and hasattr(adapter, "d_in")):
                raise TypeError(f"adapters must have change and d_in, adapters[{k}] is a {type(adapter).__name__}")
            if isinstance(adapter, LoRA) and adapter.base is not base:
                raise ValueError(f"adapters must be LoRAs of base itself, adapters[{k}] is one of another layer")
        if router is None:
            router = nn.Linear(self.adapters[0].d_in, len(self.adapters), bias=False)
        self.router = router

    @property
    def changes(self) -> list[Callable[[Tensor], Tensor]]:
        """The K functions Δ_k, as `mix` and `mix_sparse` take them."""
        return [adapter.change for adapter in self.adapters]

    def forward(self, x: Tensor, choice: Choice | None = None) -> tuple[Tensor, Choice]:
        """`choice`: take this one, in place of the router's."""
        _check_width(x, self.adapters[0].d_in)
        choice = self.choose(self.router(x)) if choice is None else choice
        *batch, k = choice.weights.shape
        if k != len(self.adapters) or list(x.shape[: len(batch)]) != batch:
            raise ValueError(
                f"choice must have weights (*batch, {len(self.adapters)}), batch the first dimensions of x"
                f" {tuple(x.shape)}, got {tuple(choice.weights.shape)}"
            )
        y, change = self.base(x), mix_sparse(x, choice.weights, self.changes)
        if y.shape != change.shape:
            wanted, got = tuple(y.shape), tuple(change.shape)
            raise ValueError(f"adapters must return changes of the shape of base(x), {wanted}, got {got}")
        return y + change, choice


def by_task(task: Tensor, n_tasks: int) -> Choice:
    """Each task its own adapter, by decree: z = one-hot. task (...) integers -> weights (..., n_tasks)."""
    _at_least_one("n_tasks", n_tasks)
    if not isinstance(task, Tensor) or task.is_floating_point() or task.dtype == torch.bool:
        raise TypeError(f"task must be a tensor of integers, got {getattr(task, 'dtype', type(task).__name__)}")
    unknown = task[(task < 0) | (task >= n_tasks)]
    if unknown.numel():
        raise ValueError(f"task must be from 0 to {n_tasks - 1}, a task that has an adapter, got {unknown[0].item()}")
    weights = F.one_hot(task.long(), n_tasks).to(torch.get_default_dtype())
    return Choice(weights.log(), weights, weights.new_zeros(task.shape))


@torch.no_grad()
def _merged_weight(lora: LoRA) -> Tensor:
    return lora.base.weight + lora.scale * lora.B @ lora.A


def _check_width(x: Tensor, d_in: int) -> None:
    if x.ndim == 0 or x.shape[-1] != d_in:
        raise ValueError(f"x must have shape (..., {d_in}), got {tuple(x.shape)}")


def _at_least_one(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
