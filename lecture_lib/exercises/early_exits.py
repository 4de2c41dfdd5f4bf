"""Checks of the exercises on early exits."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from lecture_lib.exercises.answers import Wrong, exercise, normal, number

SAID = normal((6, 40), (6, 40), (6, 40), (2, 4), (4, 1), (3, 5), (1, 3))
SAID = [((2 * s).abs().long(), p) for s, p in zip(SAID, (2, 1, 3, 1, 2, 5, 1), strict=True)]
OWN = [(3, [5, 4, 6], 10), (2, [3], 2), (4, [4, 4, 4, 4], 3), (1, [2, 7], 5)]

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


def _chain(d_in: int, widths: list[int]) -> list[nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in pairwise([d_in, *widths])]


def _behaviour(net: object, blocks: list[nn.Module], d_in: int, classes: int) -> Tensor:
    """Of a network with exits: the shape of its logits, whether it runs these blocks, and what a gradient reaches."""
    if net is None or net is ...:
        return net
    if not isinstance(net, nn.Module) or not hasattr(net, "states"):
        raise Wrong(f"the result should be an EarlyExitNet, it is {type(net).__name__}.")
    x = torch.ones(3, d_in)
    try:
        states, logits = net.states(x), net(x)
    except RuntimeError as error:
        raise Wrong(f"the network does not run: {error}. Which width does each head see?") from None
    h = x
    for block in blocks:
        h = block(h)
    same = len(states) == len(blocks) and states[-1].shape == h.shape and torch.allclose(states[-1], h)
    heads = {id(p) for head in net.heads for p in head.parameters()}
    own = len({id(head) for head in net.heads}) == len(net.heads) and all(list(h.parameters()) for h in net.heads)
    registered = heads <= {id(p) for p in net.parameters()}
    return torch.tensor([*logits.shape, same, own and registered]).double()


def _ask(answer, d_in: int, widths: list[int], classes: int) -> object:
    blocks = _chain(d_in, widths)
    return _behaviour(answer(blocks, widths, classes), blocks, d_in, classes)


@exercise(OWN, ask=_ask)
def own_network(d_in: int, widths: list[int], classes: int) -> dict:
    """Blocks, the width after each, and the number of classes in; an EarlyExitNet out."""
    right = [len(widths), 3, classes]
    return {
        "Your blocks, with exits: train it with train_jointly, run it with infer.": torch.tensor([*right, 1, 1]),
        "the blocks are not those that were given: use them, in their order.": torch.tensor([*right, 0, 1]),
        "each exit needs a head with parameters of its own.": torch.tensor([*right, 1, 0]),
        "a head gives a logit for each class: how many outputs has it?": torch.tensor(
            [len(widths), 3, widths[-1], 1, 1]
        ),
    }
