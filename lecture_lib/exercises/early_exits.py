"""Checks of the exercises on early exits."""

import torch
from torch import Tensor, nn

from lecture_lib.exercises.answers import exercise, normal, number

SAID = normal((6, 40), (6, 40), (6, 40), (2, 4), (4, 1), (3, 5), (1, 3))
SAID = [((2 * s).abs().long(), p) for s, p in zip(SAID, (2, 1, 3, 1, 2, 5, 1), strict=True)]


def _network(exits: int, width: int, classes: int, n: int, threshold: float) -> tuple:
    """Blocks, heads, inputs and a threshold."""
    with torch.random.fork_rng():
        torch.manual_seed(exits)
        blocks = [nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(exits)]
        heads = [nn.Linear(width, classes) for _ in range(exits)]
        for module in (*blocks, *heads):
            for parameter in module.parameters():
                parameter.data.mul_(4)
        return blocks, heads, torch.randn(n, width), threshold


OWN = [_network(4, 5, 3, 30, 0.8), _network(3, 6, 2, 40, 0.95), _network(5, 3, 10, 25, 0.6), _network(2, 4, 7, 6, 1.0)]


exit_cost = number(
    "18.7: an example pays for each block and each head that it passes.",
    18.7,
    {
        "heads are asked on the way, and cost 1 each.": 17.0,
        "each head on the way has run, not only the last.": 18.0,
        "who leaves at exit 0 has run one block and one head: exits count from 0.": 7.7,
        "that is the slowest example, not the mean.": 33.0,
        "weight each exit by its share of the examples; that is the plain mean of the three costs.": 22.0,
        "the head at which an example leaves has run, too.": 17.7,
    },
    tolerance=0.05,
)

equal_compute = number(
    "450 steps a stage, 1,350 batches in all: at equal FLOPs layer-wise training sees 2.25 times the batches.",
    450,
    {
        "that is equal batches, not equal FLOPs: what does a step of each stage cost?": 200,
        "that is the number of steps of all stages together; each stage has a third of it.": 1350,
        "blocks in front of the one that learns still run forward: 1 for each.": 600,
        "a frozen block runs forward only, for 1; the stage that learns pays 3 for its own block.": 300,
        "that compares with a joint step of 3; it trains three blocks.": 150,
    },
    tolerance=0.5,
)

stick_weight = number(
    "0.8 · 0.6 · 0.25 = 0.12: two gates let it pass, the third takes a quarter of what arrives.",
    0.12,
    {
        "that is the gate. How much of the stick arrives there?": 0.25,
        "the gates before exit 2 let pass 1 - g, not g.": 0.02,
        "that is what is left for the last exit, exit 3.": 0.36,
        "that is the weight of exit 1: exits count from 0.": 0.32,
        "so much of the stick arrives at gate 2; how much of it does the gate take?": 0.48,
        "both gates before exit 2 count.": 0.15,
    },
    tolerance=0.001,
)


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


@exercise(OWN)
def own_network(blocks: list, heads: list, x: Tensor, threshold: float) -> dict:
    """Blocks, heads, inputs (N, D) and a confidence threshold in, the exit of each input (N,) out."""
    with torch.no_grad():
        states = [x]
        for block in blocks:
            states.append(block(states[-1]))
        logits = torch.stack([head(h) for head, h in zip(heads, states[1:], strict=True)])
        before = torch.stack([head(h) for head, h in zip(heads, states, strict=False)])
        alone = torch.stack([head(block(x)) for head, block in zip(heads, blocks, strict=True)])

    def first(logits: Tensor, threshold: float = threshold) -> Tensor:
        sure = logits.softmax(-1).amax(-1) >= threshold
        return torch.cat([sure[:-1], torch.ones_like(sure[:1])]).long().argmax(0)

    best, second = logits.softmax(-1).topk(2).values.unbind(-1)
    sure, last = best >= threshold, len(heads) - 1
    lead = torch.cat([(best - second)[:-1] >= threshold, torch.ones_like(sure[:1])]).long().argmax(0)
    return {
        "Any chain of blocks will do: train_jointly trains it, infer runs it.": first(logits),
        "off by one: exits count from 0.": first(logits) + 1,
        "who is never sure enough leaves at the last exit.": sure.long().argmax(0),
        "leave at the first exit that is sure enough, not at the surest.": best.argmax(0),
        "who left does not come back: look for the first.": last - sure.flip(0).long().argmax(0),
        "that is the margin; the confidence is the largest probability.": lead,
        "a head reads what its block gives, not what the block gets.": first(before),
        "each block reads the state that the block before it gave, not x.": first(alone),
    }
