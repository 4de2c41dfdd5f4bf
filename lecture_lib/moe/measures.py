"""How equally the experts share the work, and what it does to the representations."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lecture_lib.choice import Choice
from lecture_lib.simplex import blank, check_mask, full

Mask = Tensor | None  # (...) of the tokens that count; None: all


def expert_load(choice: Choice, *, mask: Mask = None) -> Tensor:
    """The share of each expert in the pairs: (E,), sums to 1 (to 0 for no tokens). No gradient."""
    n = pairs(choice, mask)
    dtype = torch.promote_types(choice.weights.dtype, torch.float32)
    return n.to(dtype) / n.sum().clamp(min=1)


class Collapse(NamedTuple):
    """How far a load (E,) is from an equal one."""

    max_over_mean: float  # 1 if equal, E if one expert has all
    dead: int  # experts without a token
    entropy: float  # in units of log E: 1 if equal, 0 if one expert has all


def collapse(choice: Choice, *, mask: Mask = None) -> Collapse:
    """How far the load of a choice (..., E) is from an equal one."""
    n = pairs(choice, mask)
    load = n.double() / n.sum().clamp(min=1)
    entropy = torch.special.entr(load).sum().item() / math.log(len(load)) if len(load) > 1 else 1.0
    entropy = min(entropy, 1.0)  # rounding may leave a last digit above
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


def flat(x: Tensor, mask: Mask = None) -> Tensor:
    """The rows (N, E) of x (..., E) that count, in float32 at least."""
    if mask is not None:
        check_mask(mask, x.shape[:-1])
        x = x[mask]
    return full(x.reshape(-1, x.shape[-1]))


def pairs(choice: Choice, mask: Mask = None) -> Tensor:
    """How many of the tokens that count give an expert a weight: (E,) integers."""
    return (flat(blank(choice.weights.detach(), mask)) > 0).sum(0)


def places_of(mask: Tensor) -> Tensor:
    """Where the mask is True, flattened: what a device is waited for, once."""
    return mask.flatten().nonzero().squeeze(-1)


def pick(x: Tensor, mask: Tensor, places: Tensor) -> Tensor:
    """What counts of x (*mask.shape, *rest): (N, *rest)."""
    return x.reshape(mask.numel(), *x.shape[mask.ndim :]).index_select(0, places)


def spread(rows: Tensor, mask: Tensor, places: Tensor) -> Tensor:
    """What was computed of the tokens that count, (N, *rest), and 0: (*mask.shape, *rest)."""
    rest = rows.shape[1:]
    return rows.new_zeros(mask.numel(), *rest).index_copy(0, places, rows).reshape(mask.shape + rest)


def mean(rows: Tensor) -> Tensor:
    """Mean over the first dimension, 0 of none."""
    return rows.sum(0) / max(len(rows), 1)
