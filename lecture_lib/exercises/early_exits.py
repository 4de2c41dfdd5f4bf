"""Checks of the exercises on early exits."""

import torch
from torch import Tensor

from lecture_lib.exercises.answers import exercise, normal

SAID = normal((6, 40), (6, 40), (6, 40), (2, 4), (4, 1), (3, 5), (1, 3))
SAID = [((2 * s).abs().long(), p) for s, p in zip(SAID, (2, 1, 3, 1, 2, 5, 1), strict=True)]
EXITS = ([0, 1, 3, 3, 2, 3], 1000, 10), ([1, 0, 0, 1], 8, 4), ([2, 0, 4], 5, 2), ([2], 7, 0)
EXITS = [(torch.tensor(exits), *costs) for exits, *costs in (*EXITS, ([0, 0, 1], 3, 50))]


@exercise(SAID)
def patience_exit(said: Tensor, patience: int) -> dict:
    """Predictions (K, N) and a patience in, the exit (N,) where so many in a row agreed out."""

    def first(full: Tensor) -> Tensor:  # or the last exit
        return torch.cat([full[:-1], torch.ones_like(full[:1])]).long().argmax(0)

    no, last = torch.zeros_like(said).bool(), len(said) - 1
    same = torch.cat([no[:1], said[1:] == said[:-1]])
    ends = torch.cat([no[:patience], said[patience:] == said[:-patience]])
    counts = same.long()
    for k in range(1, len(said)):
        counts[k] *= counts[k - 1] + 1
    full, total = counts >= patience, same.cumsum(0)
    return {
        "No confidence, no probabilities: patience needs only the classes said.": first(full),
        "the counter starts again at 0 when an exit disagrees.": first(total >= patience),
        "too early: two agreements need three predictions.": first(counts >= patience - 1),
        "too late: the counter has to reach the patience, no more.": first(counts > patience),
        "off by one: exits count from 0.": first(full) + 1,
        "who never has enough agreement leaves at the last exit.": full.long().argmax(0),
        "who left does not come back: look for the first.": last - full.flip(0).long().argmax(0),
        "1, 2, 1 is no agreement: compare neighbours, not the two ends.": first(ends),
    }


@exercise(EXITS, tolerance=1e-5)
def mean_flops(exit_index: Tensor, block: int, head: int) -> dict:
    """Exits (N,), the FLOPs of a block and of a head in; the mean FLOPs of an example out."""
    blocks, slowest = exit_index.double().mean() + 1, exit_index.max() + 1
    right = blocks * (block + head)
    return {
        "Asking everywhere costs a head a block: cheap for ten classes, dear for 50,000.": right,
        "the heads are missing.": blocks * block,
        "every head on the way has run, not only the last.": blocks * block + head,
        "the head at which an example leaves has run, too.": right - head,
        "off by one: who leaves at exit 0 has run one block and one head.": right - block - head,
        "off by one: who leaves at exit 0 has run one block.": right - block,
        "that is the sum over the examples, not the mean.": right * len(exit_index),
        "that is what the slowest example costs; asked is the mean.": slowest * (block + head),
    }
