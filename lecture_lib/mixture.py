"""The equation y = Σ_k z_k · f_k(x), evaluated in two ways.

Both give the same y for the same weights. Their gradients differ in one case: for the weights of options whose weight
is zero. `mix` ran them and knows ∂y/∂z_k = f_k(x); `mix_sparse` did not, and says 0. A straight-through choice learns
from exactly those, so train it with `mix`. Everything else (softmax, top-k, sampled choices) may use either.

Shapes: N examples (all leading dimensions of the weights, flattened), K options, `...` the shape of one example.
"""

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

Module = Callable[[Tensor], Tensor]


def mix(x: Tensor, weights: Tensor, modules: Sequence[Module]) -> Tensor:
    """y = Σ_k z_k · f_k(x), evaluating every f_k on every example.

    Args:
        x: (*batch, ...) examples; `batch` are the leading dimensions of `weights`.
        weights: (*batch, K) z.
        modules: the K options f_k; each is called with (N, ...) and returns (N, *out), the same for all.

    Returns: (*batch, *out), in the dtype of the modules; where weights are finer, rounded once.
    """
    rows, z = _flatten(x, weights, modules)
    outputs = [_call(k, module, rows) for k, module in enumerate(modules)]
    _same_shape([tuple(y.shape[1:]) for y in outputs])
    y = sum(_scale(y_k, z_k) for y_k, z_k in zip(outputs, z.unbind(-1), strict=True))
    y = y.to(_dtype(outputs, z))
    return y.reshape(*weights.shape[:-1], *y.shape[1:])


def mix_sparse(x: Tensor, weights: Tensor, modules: Sequence[Module]) -> Tensor:
    """The same y, evaluating f_k only on the examples that give it a non-zero weight: skipped work is not executed.

    An example whose weights are all zero gets y = 0. Arguments and result as in `mix`.
    """
    rows, z = _flatten(x, weights, modules)
    chosen = [z_k.nonzero().squeeze(-1) for z_k in z.unbind(-1)]  # per option, the examples that want it
    # if none: option 0 on no example, for the shape; a graph, which knows no sizes, runs all
    active = [k for k, c in enumerate(chosen) if torch.compiler.is_compiling() or len(c)] or [0]
    outputs = [_call(k, modules[k], rows[chosen[k]]) for k in active]
    _same_shape([tuple(part.shape[1:]) for part in outputs])
    weights_of = [z[chosen[k], k] for k in active]
    parts = torch.cat([_scale(y_k, z_k) for y_k, z_k in zip(outputs, weights_of, strict=True)])
    y = parts.new_zeros(len(rows), *parts.shape[1:])
    y = y.index_add(0, torch.cat([chosen[k] for k in active]), parts).to(_dtype(outputs, z))
    return y.reshape(*weights.shape[:-1], *y.shape[1:])


def call(body: Callable[..., Tensor], x: Tensor, *others: Tensor | None) -> Tensor:
    """body(x, ...), which has to have the shape of x."""
    y = body(x, *others)
    if not isinstance(y, Tensor) or y.shape != x.shape:
        got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"body must return the shape of its x, {tuple(x.shape)}, got {got}")
    return y


def _flatten(x: Tensor, weights: Tensor, modules: Sequence[Module]) -> tuple[Tensor, Tensor]:
    """x as (N, ...) and weights as (N, K), after checking that they fit together."""
    k = len(modules)
    if weights.ndim == 0 or weights.shape[-1] != k or k == 0:
        raise ValueError(f"weights must have shape (*batch, K) for K = {k} modules, got {tuple(weights.shape)}")
    batch = weights.shape[:-1]
    if x.shape[: len(batch)] != batch:
        raise ValueError(f"x must start with the batch dimensions of weights, {tuple(batch)}, got {tuple(x.shape)}")
    return x.reshape(batch.numel(), *x.shape[len(batch) :]), weights.reshape(batch.numel(), k)


def _call(k: int, module: Module, rows: Tensor) -> Tensor:
    y = module(rows)
    if not isinstance(y, Tensor) or y.ndim == 0 or len(y) != len(rows):
        got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        wanted = f"one output per example, ({len(rows)}, ...)"
        raise ValueError(f"modules[{k}] must return {wanted}, got {got}")
    return y


def _dtype(outputs: Sequence[Tensor], z: Tensor) -> torch.dtype:
    dtype = reduce(torch.promote_types, (y.dtype for y in outputs))
    return dtype if dtype.is_floating_point else torch.promote_types(dtype, z.dtype)


def _scale(y: Tensor, z: Tensor) -> Tensor:
    return y * z.reshape(-1, *[1] * (y.ndim - 1))


def _same_shape(shapes: list[tuple[int, ...]]) -> None:
    if len(set(shapes)) > 1:
        raise ValueError(f"modules must all return the same shape per example, got {shapes}")
