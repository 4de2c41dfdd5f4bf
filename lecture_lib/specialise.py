"""Encapsulation by numbers: who uses which expert, which experts a task needs, and who notices when one is exchanged.

Shapes: N tokens (all leading dimensions, flattened), E experts, L labels.
"""

import copy
import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lecture_lib.choice import Choice
from lecture_lib.moe import BalanceBias, MoE, expert_load
from lecture_lib.moe.measures import Mask, flat
from lecture_lib.simplex import as_integer, as_number


class Information(NamedTuple):
    """What the expert of a token tells about its label, in bits, and what it would by chance."""

    bits: float  # I(expert; label)
    by_chance: float  # the mean of I after shuffling the labels: above 0, as samples are finite
    p_value: float  # how often chance reaches `bits`: (1 + times) / (1 + n_permutations)
    label_bits: float  # H(label), the most that can be told


def information(
    choice: Choice,
    label: Tensor,
    *,
    n_permutations: int = 100,
    generator: torch.Generator | None = None,
    mask: Mask = None,
    group: Tensor | None = None,
) -> Information:
    """Mutual information of expert and label (class, task, kind of a byte), with a permutation test beside it.

        I = Σ_{e,l} p(e, l) log2 (p(e, l) / (p(e) p(l))),   p(e, l) = mean over tokens of z_e [label = l]

    where z is scaled to sum to 1 for each token. With one expert a token, the plain mutual information.

    Args:
        choice: weights (..., E), not all 0 for any token that counts.
        label: (...) integers from 0 on.
        n_permutations: shuffles of the labels; the smallest p-value is 1 / (1 + n_permutations).
        mask: (...) the tokens that count; None: all.
        group: (...) integers from 0 on, which tokens belong together, such as those of an image. They have one label,
            and are no independent samples: labels are then shuffled between whole groups. None: each token alone.
    """
    z = flat(choice.weights.detach(), mask).double()
    fits = not label.is_floating_point() and label.shape == choice.weights.shape[:-1]
    if fits:
        label = label.to(z.device, torch.int64)
        label = label.flatten() if mask is None else label[mask]
    if not fits or not label.numel() or label.min() < 0:
        wanted, got = tuple(choice.weights.shape[:-1]), f"{label.dtype} of shape {tuple(label.shape)}"
        raise ValueError(f"label must hold integers from 0 on, shape {wanted} as choice, at least one; got {got}")
    n_permutations = as_integer("n_permutations", n_permutations, "an integer of at least 1", 1)
    of_groups, place = _of_groups(label, group, mask, choice)
    total = z.sum(-1, keepdim=True)
    if not (total > 0).all():
        raise ValueError("choice must give every token an expert, got one whose weights are all 0")
    z = z / total

    def bits(label: Tensor) -> float:
        joint = z.new_zeros(int(label.max()) + 1, z.shape[-1]).index_add(0, label, z) / len(z)  # (L, E)
        return (_entropy(joint.sum(0)) + _entropy(joint.sum(1)) - _entropy(joint)).item()

    told = bits(label)
    there = {"generator": generator, "device": getattr(generator, "device", "cpu")}
    orders = (torch.randperm(len(of_groups), **there) for _ in range(n_permutations))
    chance = [bits(of_groups[order.to(label.device)][place]) for order in orders]
    reached = sum(value >= told - 1e-9 for value in chance)
    p_value = (1 + reached) / (1 + n_permutations)
    return Information(told, math.fsum(chance) / len(chance), p_value, _entropy(label.bincount() / len(label)).item())


def _of_groups(label: Tensor, group: Tensor | None, mask: Mask, choice: Choice) -> tuple[Tensor, Tensor]:
    """The labels (G,) of groups, and the group (N,) of each token."""
    if group is None:
        return label, torch.arange(len(label), device=label.device)
    wanted = choice.weights.shape[:-1]
    if group.is_floating_point() or group.shape != wanted or group.min() < 0:
        got = f"{group.dtype} of shape {tuple(group.shape)}"
        raise ValueError(f"group must hold integers from 0 on, shape {tuple(wanted)} as choice, got {got}")
    group = group.to(label.device, torch.int64)
    place = (group.flatten() if mask is None else group[mask]).unique(return_inverse=True)[1]
    of_groups = label.new_zeros(int(place.max()) + 1).index_copy(0, place, label)
    if not torch.equal(of_groups[place], label):
        raise ValueError("group must hold tokens of one label each, got a group with several")
    return of_groups, place


def needed_experts(choice: Choice, coverage: float = 0.95, *, mask: Mask = None) -> list[int]:
    """The fewest experts that do at least `coverage` of the work (pairs of token and expert), the busiest first."""
    coverage = as_number("coverage", coverage, "above 0 and at most 1", lambda c: 0 < c <= 1)
    load, expert = expert_load(choice, mask=mask).double().sort(descending=True, stable=True)
    if not load[0] > 0:
        raise ValueError("choice must give some token an expert, got none")
    n = int((load.cumsum(0) < coverage * load.sum() - 1e-9).sum()) + 1
    return expert[:n].tolist()


def extract(moe: MoE, experts: Iterable[int]) -> MoE:
    """A smaller layer of these experts only, with their rows of the router (and of a `BalanceBias`), copied; `moe`
    stays as it is.

    With `top_k` it gives the same output for every token whose experts are all among these. With `switch` it does not
    quite: the softmax is over fewer experts, so weights grow; with `BalanceBias` even a few choices differ. A
    `capacity_factor` stays as it is: fewer experts have more room each, so that other tokens may be dropped.

    Args:
        moe: with a linear router.
        experts: places, no two the same; at least as many as `moe.choose` picks for a token.
    """
    last = len(moe.experts) - 1
    allowed = f"different places from 0 to {last}, at least one"
    places = [as_integer("experts", e, allowed, 0, last) for e in experts]
    if not places or len(set(places)) < len(places):
        raise ValueError(f"experts must be {allowed}, got {places}")
    if not isinstance(moe.router, nn.Linear):
        raise TypeError(f"moe must have a linear router, whose rows can be taken, got {type(moe.router).__name__}")
    small = copy.deepcopy(moe)
    _replace(small.experts, places)
    _replace(small.router, places)
    small.router.out_features = len(places)
    if isinstance(moe.choose, BalanceBias):
        as_integer("choose.k", moe.choose.k, "at most the number of experts", 1, len(places))
        small.choose.bias = moe.choose.bias[places]
    return small


def swap_experts(moe: MoE, a: int, b: int) -> MoE:
    """A copy in which experts a and b have changed places while the router has not noticed."""
    order = list(range(len(moe.experts)))
    allowed, last = f"from 0 to {order[-1]}", order[-1]
    a, b = as_integer("a", a, allowed, 0, last), as_integer("b", b, allowed, 0, last)
    order[a], order[b] = b, a
    swapped = copy.deepcopy(moe)
    _replace(swapped.experts, order)
    return swapped


def _replace(of: nn.Module, places: list[int]) -> None:
    for name, stacked in list(of.named_parameters(recurse=False)):
        setattr(of, name, nn.Parameter(stacked.detach()[places], stacked.requires_grad))


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p.double()).sum() / math.log(2)
