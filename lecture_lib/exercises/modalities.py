"""Checks of the exercises on modalities."""

import math

import torch
from torch import Tensor

from lecture_lib.exercises.answers import Answer, Wrong, exercise, normal, number, tensor_of

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
        "It is 0 if the expert says nothing, and at most the entropy of either list.": right,
        "it is NaN: some pairs never occur, and 0 · log 0 has to count as 0.": math.nan,
        "that is in nats; a bit is log 2 of them.": right * math.log(2),
        "the sign is wrong: information is never negative.": -right,
        "the counts must be divided by N to become probabilities.": right * len(label),
        "that is the entropy of the label. How much of it does the expert tell?": of_label,
        "that is the entropy of the expert. How much does it tell about the label?": of_expert,
        "that is what remains unknown of the label when the expert is known.": joint - of_expert,
        "that is the joint entropy; information is what the two have in common.": joint,
    }


lowest_loss = number(
    "It is the entropy of the targets, averaged: two rows of log 2, two of 0. No network gets below.",
    0.5 * math.log(2),
    {
        "two of the four rows cannot be sure: each of them has two captions that are right.": 0.0,
        "that is the loss of a row with two right captions; average over all four rows.": math.log(2),
        "that is in bits: the loss takes the natural logarithm.": 0.5,
        "that is the sum over rows; and log 4 is what a network gets that knows nothing.": 2 * math.log(2),
        "both directions have this value, and the loss is their mean, not half of one.": 0.25 * math.log(2),
    },
    tolerance=0.004,
)

global_on_paper = number(
    "It uses two experts, and is asked for three: log 3 - log 2. Above three the loss is 0.",
    math.log(1.5),
    {
        "the entropy of (1/2, 1/2, 0, 0) is log 2, not 0.": math.log(3),
        "that is the entropy of the mean. How much is missing to log 3?": math.log(2),
        "in nats, please: the natural logarithm.": math.log2(1.5),
        "the logarithms are subtracted, not the numbers of experts.": 1.0,
        "max(0, ...) of a positive number is that number: too few experts are used here.": 0.0,
        "the sign: it is small where many experts are used.": -math.log(1.5),
    },
    tolerance=0.004,
)

above_chance = number(
    "Of 0.26 bits 0.25 are chance: nothing that 500 tokens could show.",
    0.26 - 7 * 25 / (1000 * math.log(2)),
    {
        "that is what chance gives; subtract it from what was measured.": 7 * 25 / (1000 * math.log(2)),
        "without ln 2 it is in nats; 0.26 is in bits.": 0.26 - 0.175,
        "it is (E - 1)(L - 1), not E · L.": 0.26 - 8 * 26 / (1000 * math.log(2)),
        "2 N is 1,000: the 2 is missing.": 0.26 - 7 * 25 / (500 * math.log(2)),
        "that is what was measured, chance included.": 0.26,
    },
    tolerance=0.003,
)


def hidden_collapse(answer: Answer) -> str:
    """Numbers of tokens in, tokens of each modality at each expert (2, E) out: loads equal, images on few experts."""
    for n_images, n_text, e in ((8, 24, 4), (30, 30, 6), (7, 14, 3), (10, 40, 5), (12, 4, 4)):
        what, start = f"a table of shape (2, {e})", f"for {n_images} image tokens, {n_text} text tokens, E = {e}"
        table = tensor_of(answer(n_images, n_text, e), what).detach().double()
        if table.shape != (2, e):
            raise Wrong(f"{start} it should be {what}, not of {tuple(table.shape)}.")
        if not table.isfinite().all() or (table < 0).any() or (table % 1).any():
            raise Wrong(f"{start} the table should hold numbers of tokens: whole ones, from 0.")
        if table.sum(1).tolist() != [n_images, n_text]:
            raise Wrong(f"{start} the rows should sum to {n_images} and {n_text}: each token has one expert.")
        load, mean = table.sum(0), (n_images + n_text) // e
        if (load != mean).any():
            raise Wrong(f"{start} the loads should all be {mean}, they are {[int(v) for v in load]}.")
        fewest = -(-n_images // mean)
        if (used := int((table[0] > 0).sum())) > fewest:
            raise Wrong(f"{start} images are on {used} experts, and {fewest} would do with equal loads.")
    return "Loads are perfectly equal, and a modality sits on as few experts as fit: the balance loss does not see it."
