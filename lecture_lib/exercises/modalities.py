"""Checks of the exercise on modalities."""

import math

import torch
from torch import Tensor

from lecture_lib.exercises.answers import exercise, normal

FOUR, FEW, MANY = torch.arange(8) % 4, torch.arange(12) // 6, normal((12,))[0].abs().mul(2).long()
LISTS = [(MANY, FEW), (MANY, 0 * FEW), (FOUR, FOUR), (FEW, 3 * MANY), (FEW[:1], MANY[:1])]


@exercise(LISTS)
def expert_bits(expert: Tensor, label: Tensor) -> dict:
    """The mutual information, in bits, of two lists of integers (N,): experts and labels."""

    def entropy(*lists: Tensor) -> Tensor:
        """Of one list, or of several together, in bits."""
        counts = torch.stack(lists).unique(dim=1, return_counts=True)[1]
        return torch.special.entr(counts / len(label)).sum() / math.log(2)

    of_expert, of_label, joint = entropy(expert), entropy(label), entropy(expert, label)
    right = of_expert + of_label - joint
    return {
        "By chance alone it is about (E - 1)(L - 1) / (2 N ln 2) bits: shuffle, and see.": right,
        "it is NaN: some pairs never occur, and 0 · log 0 has to count as 0.": math.nan,
        "that is in nats; a bit is log 2 of them.": right * math.log(2),
        "the sign is wrong: information is never negative.": -right,
        "the counts must be divided by N to become probabilities.": right * len(label),
        "that is the entropy of the label. How much of it does the expert tell?": of_label,
        "that is the entropy of the expert. How much does it tell about the label?": of_expert,
        "that is what remains unknown of the label when the expert is known.": joint - of_expert,
        "that is the joint entropy; information is what the two have in common.": joint,
    }
