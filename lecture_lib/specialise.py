"""Encapsulation by numbers: who uses which expert, which experts a task needs, and who notices when one is exchanged.

Shapes: N tokens (all leading dimensions, flattened), E experts, L labels.
"""

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lecture_lib.choice import Choice
from lecture_lib.moe import BalanceBias, Experts, MoE, expert_load


class Information(NamedTuple):
    """What the expert of a token tells about its label, in bits, and what it would by chance."""

    bits: float  # I(expert; label)
    by_chance: float  # the mean of I after shuffling the labels: above 0, as samples are finite
    p_value: float  # how often chance reaches `bits`: (1 + times) / (1 + n_permutations)
    label_bits: float  # H(label), the most that can be told


def information(
    choice: Choice, label: Tensor, *, n_permutations: int = 100, generator: torch.Generator | None = None
) -> Information:
    """Mutual information of expert and label (class, task, kind of a byte), with a permutation test beside it.

        I = Σ_{e,l} p(e, l) log2 (p(e, l) / (p(e) p(l))),   p(e, l) = mean over tokens of z_e [label = l]

    where z is scaled to sum to 1 for each token. With one expert a token, the plain mutual information.

    Args:
        choice: weights (..., E), not all 0 for any token.
        label: (...) integers from 0 on.
        n_permutations: shuffles of the labels; the smallest p-value is 1 / (1 + n_permutations).
    """
    z = choice.weights.detach().reshape(-1, choice.weights.shape[-1]).double()
    if label.is_floating_point() or label.shape != choice.weights.shape[:-1] or not label.numel() or label.min() < 0:
        wanted, got = tuple(choice.weights.shape[:-1]), f"{label.dtype} of shape {tuple(label.shape)}"
        raise ValueError(f"label must hold integers from 0 on, shape {wanted} as choice, at least one; got {got}")
    if n_permutations < 1:
        raise ValueError(f"n_permutations must be at least 1, got {n_permutations}")
    total = z.sum(-1, keepdim=True)
    if not (total > 0).all():
        raise ValueError("choice must give every token an expert, got one whose weights are all 0")
    z, label = z / total, label.flatten()

    def bits(label: Tensor) -> float:
        joint = z.new_zeros(int(label.max()) + 1, z.shape[-1]).index_add(0, label, z) / len(z)  # (L, E)
        return (_entropy(joint.sum(0)) + _entropy(joint.sum(1)) - _entropy(joint)).item()

    told = bits(label)
    chance = [bits(label[torch.randperm(len(label), generator=generator)]) for _ in range(n_permutations)]
    reached = sum(value >= told - 1e-9 for value in chance)
    p_value = (1 + reached) / (1 + n_permutations)
    return Information(told, math.fsum(chance) / len(chance), p_value, _entropy(label.bincount() / len(label)).item())


def needed_experts(choice: Choice, coverage: float = 0.95) -> list[int]:
    """The fewest experts that do at least `coverage` of the work (pairs of token and expert), the busiest first."""
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage must be above 0 and at most 1, got {coverage!r}")
    load, expert = expert_load(choice).double().sort(descending=True, stable=True)
    if not load[0] > 0:
        raise ValueError("choice must give some token an expert, got none")
    n = int((load.cumsum(0) < coverage * load.sum() - 1e-9).sum()) + 1
    return expert[:n].tolist()


def extract(moe: MoE, experts: Sequence[int]) -> MoE:
    """A smaller layer of these experts only, with their rows of the router (and of a `BalanceBias`), copied; `moe`
    stays as it is.

    With `top_k` it gives the same output for every token whose experts are all among these. With `switch` it does not
    quite: the softmax is over fewer experts, so weights grow; with `BalanceBias` even a few choices differ. A
    `capacity_factor` stays as it is: fewer experts have more room each, so that other tokens may be dropped.

    Args:
        moe: with a linear router.
        experts: places, no two the same; at least as many as `moe.choose` picks for a token.
    """
    n_experts = len(moe.experts)
    if not experts or len(set(experts)) < len(experts) or not all(0 <= e < n_experts for e in experts):
        raise ValueError(f"experts must be different places from 0 to {n_experts - 1}, at least one, got {experts}")
    if not isinstance(moe.router, nn.Linear):
        raise TypeError(f"moe must have a linear router, whose rows can be taken, got {type(moe.router).__name__}")
    small = copy.deepcopy(moe)
    _replace(small.experts, list(experts))
    small.router.weight = nn.Parameter(moe.router.weight.detach()[list(experts)])
    if moe.router.bias is not None:
        small.router.bias = nn.Parameter(moe.router.bias.detach()[list(experts)])
    small.router.out_features = len(experts)
    if isinstance(moe.choose, BalanceBias):
        small.choose.bias = moe.choose.bias[list(experts)]
    return small


def swap_experts(moe: MoE, a: int, b: int) -> MoE:
    """A copy in which experts a and b have changed places while the router has not noticed."""
    order = list(range(len(moe.experts)))
    if not (a in order and b in order):
        raise ValueError(f"a and b must be from 0 to {len(order) - 1}, got {a} and {b}")
    order[a], order[b] = b, a
    swapped = copy.deepcopy(moe)
    _replace(swapped.experts, order)
    return swapped


def _replace(experts: Experts, places: list[int]) -> None:
    for name, stacked in list(experts.named_parameters()):
        setattr(experts, name, nn.Parameter(stacked.detach()[places]))


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p.double()).sum() / math.log(2)
