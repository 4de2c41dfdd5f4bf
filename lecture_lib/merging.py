"""Merging networks, and making one of parts of others.

A state is a network's tensors by name, as `state_dict()` gives them; a task vector is a difference of two states.
States that meet must have the same names, shapes, types and devices. Integers, such as counters,
are not averaged: a result has those of the first state. Running statistics of a normalisation
(running_mean, running_var) are no weights either: a task vector has none, and averages have means
of them, which fit no network any more: estimate them anew. Leave other buffers out:
`dict(net.named_parameters())` is a state as well.

Shapes: N examples, D width, H heads. Sums are in float64, rounded once to the type of what went in.
"""

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lecture_lib.models import Block, SelfAttention, Transformer
from lecture_lib.simplex import as_integer, as_number

State = Mapping[str, Tensor]
_STATISTICS = "running_mean", "running_var"  # as torch names those of a normalisation

# Averages


def average(states: Sequence[State], weights: Sequence[float] | None = None) -> dict[str, Tensor]:
    """Σ_i w_i net_i / Σ_i w_i, tensor by tensor: a uniform soup if `weights` is None.

    Source: Wortsman et al. 2022, Model soups.
    """
    states = _agree("states", states)
    w = [1.0] * len(states) if weights is None else [float(weight) for weight in weights]
    if len(w) != len(states) or not all(map(math.isfinite, w)) or not sum(w) > 0:
        raise ValueError(f"weights must be {len(states)} finite numbers with a sum above 0, got {w}")
    w = [weight / math.fsum(w) for weight in w]
    if min(w) < 0:
        _check_no_statistics("weights must not be negative", states[0])
    return {
        key: sum(x * _wide(state[key]) for x, state in zip(w, states, strict=True)).to(first.dtype)
        if _has_mean(first)
        else first.clone()
        for key, first in states[0].items()
    }


def interpolate(a: State, b: State, t: float) -> dict[str, Tensor]:
    """(1-t) a + t b: a at t = 0, b at 1, beyond them outside of [0, 1]."""
    t = as_number("t", t, "a finite number", math.isfinite)
    a, b = _fit({"a": a, "b": b})
    if t in (0, 1):  # the end itself: 0 times an infinity is no number
        return {key: ((a, b)[int(t)][key] if _has_mean(w) else w).clone() for key, w in a.items()}
    if not 0 < t < 1:
        _check_no_statistics("t must be from 0 to 1", a)
    moved = {k: (1 - t) * _wide(w) + t * _wide(b[k]) for k, w in a.items() if _has_mean(w)}
    return {key: moved[key].to(w.dtype) if key in moved else w.clone() for key, w in a.items()}


class Soup(NamedTuple):
    """An average of some states."""

    state: dict[str, Tensor]
    members: list[int]  # places in the list of states, in the order in which they went in


def greedy_soup(states: Sequence[State], score: Callable[[dict[str, Tensor]], float]) -> Soup:
    """From the best state down, each joins the average if the average is then no worse.

    Args:
        score: state -> how good it is, on data held out from training *and* from the last test: the soup is chosen by
            it. Called 2n - 1 times for n states.

    Source: Wortsman et al. 2022, Model soups, recipe 1.
    """
    states = _agree("states", states)
    alone = [score(dict(state)) for state in states]
    if any(math.isnan(value) for value in alone):
        raise ValueError(f"score must return a number for every state, got {alone}")
    first, *others = sorted(range(len(states)), key=lambda i: -alone[i])
    members, best = [first], alone[first]
    for i in others:
        with_i = score(average([states[j] for j in (*members, i)]))
        if with_i >= best:
            members, best = [*members, i], with_i
    return Soup(average([states[i] for i in members]), members)


# Task vectors


def task_vector(base: State, tuned: State) -> dict[str, Tensor]:
    """v = tuned - base: what a task has changed, in float32 at least, so that a merge rounds once.

    A tensor that `base` holds under two names, as tied weights are, is one in v as well.

    Source: Ilharco et al. 2023, Task arithmetic.
    """
    _fit({"base": base, "tuned": tuned})
    weights = {key: w for key, w in base.items() if _has_mean(w) and not key.endswith(_STATISTICS)}
    change = {
        key: (_wide(tuned[key]) - _wide(w)).to(torch.promote_types(w.dtype, torch.float32))
        for key, w in weights.items()
    }
    return {key: change[first] for key, first in _first_names(weights).items()}


def apply_task_vectors(base: State, vectors: Sequence[State], scale: float) -> dict[str, Tensor]:
    """base + scale · Σ_i v_i; a negative scale forgets. Source: Ilharco et al. 2023."""
    scale = as_number("scale", scale, "a finite number", math.isfinite)
    vectors = _agree("vectors", vectors)
    if odd := [key for key in vectors[0] if key not in base or not _has_mean(base[key])]:
        raise ValueError(f"vectors[0] must have weights of base, got {', '.join(odd)}")
    weights = {k for k, w in base.items() if _has_mean(w) and not k.endswith(_STATISTICS)}
    if odd := sorted(weights - vectors[0].keys()):
        raise ValueError(f"vectors[0] must have all weights of base, but has no {', '.join(odd)}")
    _fit({"base": {key: base[key] for key in vectors[0]}, "vectors[0]": vectors[0]}, types=False)
    return {
        key: (_wide(w) + scale * sum(_wide(vector[key]) for vector in vectors)).to(w.dtype)
        if key in vectors[0]
        else w.clone()
        for key, w in base.items()
    }


def ties(vectors: Sequence[State], density: float) -> dict[str, Tensor]:
    """Trim, elect a sign, merge: one task vector of several, to be applied with a scale of about 1.

    1. Each vector keeps its ⌊density · n⌋ largest entries in magnitude, of all its n entries together, and those that
       equal the smallest one kept; the others become 0.
    2. The sign of an entry is that of the sum over the vectors. Where the sum is 0, it is the sign of most entries.
    3. The mean over those vectors whose entry has that sign.

    Other code (peft; mergekit 0.1.5) trims every tensor on its own, and takes + where the sum is 0. Apart from that it
    gives the same: of one tensor, to the last digit but rounding.

    Args:
        density: share of the entries that are kept, above 0 and at most 1.

    Source: Yadav et al. 2023, TIES-Merging, algorithm 1; where that is silent, its released code.
    """
    vectors = _agree("vectors", vectors)
    for i, vector in enumerate(vectors):
        _check_vector(f"vectors[{i}]", vector)
    density = as_number("density", density, "above 0 and at most 1", lambda share: 0 < share <= 1)
    names = _first_names(vectors[0])
    own = list(dict.fromkeys(names.values()))  # tied weights count once
    changes = torch.stack([torch.cat([v[key].double().flatten() for key in own]) for v in vectors])
    n = changes.shape[1]  # of changes (K, n)
    kept = max(1, math.floor(density * n * (1 + 1e-12)))  # in floating point, 0.29 · 100 is less than 29
    smallest = changes.abs().kthvalue(n - kept + 1, dim=1, keepdim=True).values
    changes = torch.where(changes.abs() >= smallest, changes, 0)
    sign = changes.sum(0).sign()
    sign = torch.where(sign == 0, sign.sum().sign(), sign)
    agrees = changes.sign() == sign
    merged = torch.where(agrees, changes, 0).sum(0) / (agrees & (changes != 0)).sum(0).clamp(min=1)
    parts = dict(zip(own, merged.split([vectors[0][key].numel() for key in own]), strict=True))
    return {key: parts[names[key]].reshape(t.shape).to(t.dtype) for key, t in vectors[0].items()}


def dare(vector: State, drop: float, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    """Drop each entry with probability `drop`, and rescale the others by 1/(1 - drop): the mean stays.

    Source: Yu et al. 2024, Language models are super Mario (DARE), eq. 1.
    """
    _check_vector("vector", *_fit({"vector": vector}))
    drop = as_number("drop", drop, "at least 0 and less than 1", lambda share: 0 <= share < 1)
    names = _first_names(vector)

    def dropped(t: Tensor) -> Tensor:
        kept = torch.rand(t.shape, generator=generator, device=t.device) >= drop
        return torch.where(kept, t.double() / (1 - drop), 0).to(t.dtype)

    own = {key: dropped(t) for key, t in vector.items() if names[key] == key}
    return {key: own[names[key]] for key in vector}


def _check_vector(name: str, vector: State) -> None:
    for key, t in vector.items():
        if not (t.is_floating_point() and t.isfinite().all()):
            raise ValueError(f"{name} must be finite, and of floating point, got {key!r} of {t.dtype} that is not")
    if not sum(t.numel() for t in vector.values()):
        raise ValueError(f"{name} must have at least one entry, got none")


# Permutations: the order of hidden units has no meaning


class Axis(NamedTuple):
    """The units along one dimension of a tensor: it is cut into equal chunks, each a run of units of one group."""

    group: str
    starts: tuple[int, ...] = (0,)  # the unit with which each chunk begins


class Units(NamedTuple):
    """Which dimensions of which tensors must be permuted together."""

    axes: dict[str, tuple[Axis | None, ...]]  # None: the order is fixed, as that of inputs and outputs
    heads: dict[str, int]  # groups of attention: how many heads; see `units`


_ELEMENTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Identity, nn.Dropout)


def units(module: nn.Module) -> Units:
    """Which units of a network may change places: for `match_weights` and `permute`.

    - A `Linear` makes a group of units, which lasts up to the next one.
    - A residual stream is one group: all layers that read or write it share its order.
    - Heads of attention change places as blocks. Inside of a head, the order of its queries and keys is one, that of
      its values another. So a group has 2D units: D of queries and keys, then D of values.
    - Inputs and outputs of the network keep their order.

    Supported: `Sequential` of `Linear`, `LayerNorm`, elementwise activations, dropout, `models.Block` and
    `models.Transformer`, and a first `Flatten`. Write `Units` by hand for others.
    """
    if len(list(module.parameters())) < len(list(module.named_parameters(remove_duplicate=False))):
        raise ValueError("module must not use a parameter in two places: their orders could differ")
    axes: dict[str, tuple[Axis | None, ...]] = {}
    heads: dict[str, int] = {}

    def linear(path: str, layer: nn.Linear, out: Axis | None, into: Axis | None) -> Axis | None:
        axes[f"{path}weight"] = out, into
        if layer.bias is not None:
            axes[f"{path}bias"] = (out,)
        return out

    def walk(path: str, part: nn.Module, stream: Axis | None) -> Axis | None:
        """Notes the axes of a part that reads `stream`; returns what it writes."""
        kind = type(part)  # a subclass may compute something else
        if kind is nn.Linear:
            return linear(path, part, Axis(path), stream)
        if kind.forward is nn.Sequential.forward:
            for name, child in part.named_children():
                stream = walk(f"{path}{name}.", child, stream)
        elif kind is nn.LayerNorm and len(part.normalized_shape) == 1:
            axes.update({f"{path}{name}": (stream,) for name, _ in part.named_parameters()})
        elif kind is SelfAttention:
            d = part.output.in_features
            linear(f"{path}query_key_value.", part.query_key_value, Axis(path, (0, 0, d)), stream)
            linear(f"{path}output.", part.output, stream, Axis(path, (d,)))
            heads[path] = part.n_heads
        elif kind is Block:
            for name in ("norm_1", "attention", "norm_2"):
                walk(f"{path}{name}.", getattr(part, name), stream)
            hidden = walk(f"{path}mlp.0.", part.mlp[0], stream)
            linear(f"{path}mlp.2.", part.mlp[2], stream, hidden)
        elif kind is Transformer:
            for i, block in enumerate(part.blocks):
                walk(f"{path}blocks.{i}.", block, stream)
            walk(f"{path}norm.", part.norm, stream)
        elif not (kind in _ELEMENTWISE or (kind is nn.Flatten and stream is None)):
            where = f" at {path[:-1]!r}" if path else ""
            raise ValueError(f"module must be made of parts that `units` lists, got {kind.__name__}{where}")
        return stream

    last = walk("", module, None)
    free = {key: tuple(None if axis == last else axis for axis in some) for key, some in axes.items()}
    return Units(free, heads)


def permute(state: State, layout: Units, orders: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same function with its units in another order: place u of a group gets what was in place order[u].

    Args:
        orders: for some or all groups of `layout`, a permutation of its units; for attention, one that `units` allows.
    """
    sizes = _sizes(state, layout)
    orders = {group: torch.as_tensor(order) for group, order in orders.items()}
    for group, order in orders.items():
        if group not in sizes or sorted(order.tolist()) != list(range(sizes[group])):
            raise ValueError(f"orders must permute all units of groups in {sizes}, got {group!r}: {order.tolist()}")
        if group in layout.heads:
            head = order.reshape(2, layout.heads[group], -1) // (len(order) // (2 * layout.heads[group]))  # it is from
            if (head != head[..., :1]).any() or (head[0] != head[1] - layout.heads[group]).any():
                raise ValueError(f"orders must leave heads together, as `units` says, got {group!r}: {order.tolist()}")
    return {key: _permuted(t, layout.axes.get(key, ()), orders) for key, t in state.items()}


def match_weights(a: State, b: State, layout: Units) -> dict[str, Tensor]:
    """A copy of b whose units are permuted to lie near those of a: it computes what b does.

        maximise <a, P(b)> over the permutations P of each group

    Coordinate descent: one group at a time, exactly, by linear assignment, over all tensors that it touches under the
    other groups' present orders, until none gets better. It starts twice, from b's own order and from one that goes
    through the network from its input on, and keeps the better end: a local optimum, never further from a than b. If b
    is a permuted a whose units differ in what they read, it is a again, bit for bit.

    Args:
        layout: which units may change places, from `units(module)`. One written by hand is taken
            at its word: run the network with b and with the result on the same input, and compare.

    Source: Ainsworth et al. 2023, Git Re-Basin, section 3.2; for their order of groups, which is random.
    """
    a, b = _fit({"a": a, "b": b})
    sizes = _sizes(a, layout)
    for name, state in {"a": a, "b": b}.items():
        tensors = {key: state[key] for key in layout.axes}
        if odd := [key for key, t in tensors.items() if t.is_complex() or not t.isfinite().all()]:
            raise ValueError(f"{name} must be finite, not NaN nor complex, got {odd}")

    def descend(orders: dict[str, Tensor]) -> dict[str, Tensor]:
        better = True
        while better:
            better = False
            for group, n in sizes.items():
                gains = _gains(a, b, layout, orders, group, n)
                order = _assign(gains, layout.heads.get(group))
                places, before = torch.arange(n), orders.get(group)
                rounding = 1e-12 * gains.abs().sum()
                if before is None or gains[places, order].sum() > gains[places, before].sum() + rounding:
                    orders, better = orders | {group: order}, True
        return permute(b, layout, orders)

    ends = [descend({group: torch.arange(n) for group, n in sizes.items()}), descend({})]
    return max(ends, key=lambda end: sum((a[key].double() * end[key].double()).sum() for key in layout.axes))


def _sizes(state: State, layout: Units) -> dict[str, int]:
    """How many units each group has; errors where layout and state do not fit."""
    if not isinstance(layout, Units):
        raise TypeError(f"layout must be Units, as of units(module), got {type(layout).__name__}")
    if odd := sorted(layout.axes.keys() - state.keys()):
        raise ValueError(f"layout must be that of the state, which has no {', '.join(odd)}")
    sizes: dict[str, int] = {}
    for key, t in state.items():
        axes = layout.axes.get(key, () if not t.is_floating_point() else None)
        groups = [axis.group for axis in axes or () if axis]
        if axes is None or (axes and len(axes) != t.ndim) or len(set(groups)) < len(groups):
            raise ValueError(f"layout must name an axis for each dimension of {key!r}, and no group twice, got {axes}")
        for length, axis in zip(t.shape, axes, strict=False):
            if axis:
                n = max(axis.starts) + length // len(axis.starts)
                if sizes.setdefault(axis.group, n) != n or length % len(axis.starts):
                    raise ValueError(f"layout must fit the state: {key!r} has {n} units of {axis.group!r}, not {sizes}")
    return sizes


def _permuted(t: Tensor, axes: Iterable[Axis | None], orders: Mapping[str, Tensor]) -> Tensor:
    t = t.clone()
    for dim, axis in enumerate(axes):
        if axis and axis.group in orders:
            order, size = orders[axis.group].to(t.device), t.shape[dim] // len(axis.starts)
            chunks = [order[start : start + size] - start + i * size for i, start in enumerate(axis.starts)]
            t = t.index_select(dim, torch.cat(chunks))
    return t


def _gains(a: State, b: State, layout: Units, orders: Mapping[str, Tensor], group: str, n: int) -> Tensor:
    """(n, n): what unit v of b in place u adds to <a, P(b)>, from the tensors whose other groups have an order."""
    gains = torch.zeros(n, n, dtype=torch.float64)
    others = {name: order for name, order in orders.items() if name != group}
    for key, axes in layout.axes.items():
        for dim, axis in enumerate(axes):
            if not axis or axis.group != group or any(o and o != axis and o.group not in others for o in axes):
                continue
            b_key = _permuted(b[key], axes, others)
            x, y = (t.detach().double().cpu().movedim(dim, 0).reshape(len(axis.starts), -1, t.numel() // t.shape[dim])
                    for t in (a[key], b_key))  # fmt: skip
            size = x.shape[1]
            for i, start in enumerate(axis.starts):
                gains[start : start + size, start : start + size] += x[i] @ y[i].T
    return gains


def _assign(gains: Tensor, heads: int | None) -> Tensor:
    """The permutation with the largest sum of gains[u, order[u]]; for attention, of those that `units` allows."""
    from scipy.optimize import linear_sum_assignment  # half a second to import: only for those who use it

    if heads is None:
        return torch.as_tensor(linear_sum_assignment(gains.numpy(), maximize=True)[1])
    d = len(gains) // (2 * heads)
    inner = torch.empty(2, heads, heads, d, dtype=torch.long)  # the best order of head j in place i
    value = torch.zeros(heads, heads, dtype=torch.float64)
    for i in range(heads):
        for j in range(heads):
            for part in range(2):  # queries and keys, values
                block = gains.reshape(2, heads, d, 2, heads, d)[part, i, :, part, j]
                inner[part, i, j] = _assign(block, None)
                value[i, j] += block[torch.arange(d), inner[part, i, j]].sum()
    best = _assign(value, None)
    chosen = inner[:, torch.arange(heads), best] + d * best[:, None]  # (2, H, D/H)
    return (chosen + heads * d * torch.arange(2)[:, None, None]).flatten()


# Parts of different networks


class Stitch(nn.Module):
    """The bottom of one network, an affine layer, the top of another: x -> top(affine(bottom(x))).

    Bottom and top are copies, frozen and always in evaluation mode; only the affine layer has parameters that learn.

    Args:
        d_in, d_out: the widths of what `bottom` writes and `top` reads, last dimension of (..., D).

    Source: Lenc and Vedaldi 2015; Bansal et al. 2021, Revisiting model stitching.
    """

    def __init__(self, bottom: nn.Module, top: nn.Module, d_in: int, d_out: int):
        super().__init__()
        self.bottom, self.top = (copy.deepcopy(part).requires_grad_(False).eval() for part in (bottom, top))
        self.affine = nn.Linear(d_in, d_out)

    def train(self, mode: bool = True) -> "Stitch":
        super().train(mode)
        self.bottom.eval()
        self.top.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.affine(self.bottom(x)))

    @torch.no_grad()
    def solve(self, source: Tensor, target: Tensor) -> "Stitch":
        """Set the affine layer by least squares: source (..., d_in) of one network, target (..., d_out) of another.

        The shortest solution, where there are many; directions of the source below the rounding of
        its type count as none. Source: Csiszárik et al. 2021, direct matching.
        """
        if not source.is_floating_point():
            raise TypeError(f"source must be floating-point, got a tensor of {source.dtype}")
        x, y = (torch.atleast_2d(t.detach().double()).flatten(0, -2) for t in (source, target))
        if len(x) != len(y) or (x.shape[1], y.shape[1]) != (self.affine.in_features, self.affine.out_features):
            raise ValueError(
                f"source and target must be (..., {self.affine.in_features}) and (..., {self.affine.out_features}) "
                f"for the same examples, got {tuple(source.shape)} and {tuple(target.shape)}"
            )
        for name, rows in {"source": x, "target": y}.items():
            if not len(rows) or not rows.isfinite().all():
                raise ValueError(f"{name} must hold at least one example, and be finite, got {_told(rows)}")
        cutoff = max(x.shape) ** 0.5 * torch.finfo(source.dtype).eps  # the norm of rounding noise
        weight = torch.linalg.pinv(x - x.mean(0), rtol=cutoff) @ (y - y.mean(0))  # (d_in, d_out)
        self.affine.weight.copy_(weight.T)
        self.affine.bias.copy_(y.mean(0) - x.mean(0) @ weight)
        return self


def _told(t: Tensor) -> str:
    return f"shape {tuple(t.shape)}" + ("" if t.isfinite().all() else " with a NaN or an infinity")


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """How alike two representations of the same N examples are: ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖), columns centred. -> scalar.

    1 if one is a rotation of the other, times a number; 0 if no linear function of the one correlates with the other,
    or one does not vary. x (N, D), y (N, D'). With few examples for the width it is high for anything: N >> D.

    Source: Kornblith et al. 2019, Similarity of neural network representations revisited, section 3.
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 2:
        raise ValueError(
            f"x and y must be (N, D) and (N, D') with N at least 2, got {tuple(x.shape)}, {tuple(y.shape)}"
        )
    x, y = (t.double() - t.double().mean(0) for t in (x, y))
    norm = (x.T @ x).norm() * (y.T @ y).norm()
    return (y.T @ x).square().sum() / norm if norm > 0 else norm


def reassemble(a: Sequence[nn.Module], b: Sequence[nn.Module], x: Tensor, *, cut: int) -> tuple[Stitch, int]:
    """The first `cut` blocks of a, and of b what follows the place that is most alike, with a stitch between them.

    The place is that of the largest `linear_cka` on the examples x, among those with at least one block of b before and
    after; the stitch maps the one representation to the other by least squares. Nothing is trained.

    Args:
        a, b: the blocks of two networks, each a chain; (..., D) between them. (N, C, H, W), as
            between convolutions, is refused: there the last dimension is the width of an image.
        cut: from 1 to len(a) - 1.

    Returns: the stitched network, and how many blocks of b were left out.

    Ours: the joint, by `linear_cka`. Yang et al. 2022, Deep model reassembly (DeRy), do more, and other things: they
    partition many networks into sets of interchangeable blocks, search one block a set under a budget by a score that
    needs no training, join them by stitching layers, and fine-tune.
    """
    a, b = list(a), list(b)
    if len(b) < 2:
        raise ValueError(f"b must have at least 2 blocks, got {len(b)}")
    cut = as_integer("cut", cut, f"1 to less than the blocks of a, {len(a)}", 1, len(a) - 1)
    if x.ndim < 2 or not x.isfinite().all():
        raise ValueError(f"x must be finite, examples first, (N, ...), got {_told(x)}")

    def run(name: str, blocks: list[nn.Module]) -> list[Tensor]:
        """What is said after each block."""
        h, said = x, []
        for i, block in enumerate(copy.deepcopy(blocks)):
            h = block.eval()(h)
            _check_features(f"{name}[{i}]", block, h)
            said.append(h)
        return said

    with torch.no_grad():
        source, inside = run("a", a[:cut])[-1], run("b", b[:-1])
    fits = [h.shape[:-1] == source.shape[:-1] for h in inside]
    if not any(fits):
        raise ValueError(
            f"b must have a place with features for {tuple(source.shape[:-1])} tokens, as a has "
            f"after the cut, got shapes {[tuple(h.shape) for h in inside]}"
        )
    alike = [
        linear_cka(source.flatten(0, -2), h.flatten(0, -2)).item() if fit else -1
        for h, fit in zip(inside, fits, strict=True)
    ]
    place = max(range(len(alike)), key=alike.__getitem__)
    target = inside[place]
    bottom, top = nn.Sequential(*a[:cut]), nn.Sequential(*b[place + 1 :])
    stitch = Stitch(bottom, top, source.shape[-1], target.shape[-1])
    return stitch.to(source).solve(source, target), place + 1


def _check_features(name: str, block: nn.Module, h: object) -> None:
    """Refuses what is no (..., D): several tensors, images, and channels before places."""
    if not isinstance(h, Tensor):
        raise TypeError(f"{name} must return a tensor (..., D), got {type(h).__name__}")
    convolves = any(isinstance(part, nn.modules.conv._ConvNd) for part in block.modules())
    if h.ndim > 3 or (h.ndim == 3 and convolves):
        wanted = "(N, D) or (N, T, D), features last: flatten"
        raise ValueError(f"{name} must return {wanted} what is of shape {tuple(h.shape)}")


def _agree(name: str, states: Sequence[State]) -> list[State]:
    """`states` in a list; an error names the state and the tensor that does not fit the first."""
    if isinstance(states, (Mapping, Tensor, nn.Module)) or not isinstance(states, Iterable):
        raise TypeError(f"{name} must be a list of at least one state, got {type(states).__name__}")
    states = list(states)
    if not states:
        raise ValueError(f"{name} must be a list of at least one state, got none")
    names = [f"{name}[{i}]" for i in range(len(states))]
    return _fit(dict(zip(names, states, strict=True)))


def _fit(states: dict[str, State], types: bool = True) -> list[State]:
    """The states, by names for errors: all must have the tensors of the first, and its `types`."""
    (first_name, first), *_ = states.items()
    for name, state in states.items():
        if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()):
            raise TypeError(f"{name} must be a dict of tensors, as of state_dict(), got {type(state).__name__}")
        if odd := sorted(first.keys() ^ state.keys()):
            raise ValueError(f"{name} must have the tensors of {first_name}: only one of them has {', '.join(odd)}")
        for key, wanted in first.items():
            found = state[key]
            alike = (found.shape, found.device) == (wanted.shape, wanted.device)
            if not alike or (types and found.dtype != wanted.dtype):
                told = [f"{t.dtype} of shape {tuple(t.shape)} on {t.device}" for t in (wanted, found)]
                raise ValueError(f"{name}[{key!r}] must be {told[0]}, as in {first_name}, got {told[1]}")
    return list(states.values())


def _has_mean(t: Tensor) -> bool:
    return t.is_floating_point() or t.is_complex()


def _wide(t: Tensor) -> Tensor:
    return t.to(torch.complex128 if t.is_complex() else torch.float64)


def _check_no_statistics(demand: str, state: State) -> None:
    """A variance outside of those that it is between may be negative."""
    if found := [key for key in state if key.endswith(_STATISTICS)]:
        raise ValueError(f"{demand} where states hold running statistics: {', '.join(found)}")


def _first_names(state: State) -> dict[str, str]:
    """For each name the first one that has the same tensor: tied weights share their memory."""
    seen: dict[tuple, str] = {}
    places = {key: (t.data_ptr() or key, t.shape, t.stride()) for key, t in state.items()}
    return {key: seen.setdefault(place, key) for key, place in places.items()}
