"""Controls of notebook 06, on the networks that `early_exits` picked: joint training, 600 steps, at its best rate.

another seed    on the images that a network gets wrong at its last exit: how often each of its earlier exits is
                right, and any of them; and the same of the four other seeds' exits 0 to 4
heads           a network without exits, 600 steps; then it is frozen, and heads learn on it for 1,300 steps
gates           gates of doubt, as in `early_exits_branching`, left at g >= 1/2, and one entropy threshold of 60
                that is tuned on the same loss, held out: the cross-entropy of the exits taken and a price of cost
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from lecture_lib.exits import train_separately
from lecture_lib.recorded import early_exits as six
from lecture_lib.recorded import early_exits_branching as gated
from lecture_lib.recorded.start_here_exits import stream

HEAD_STEPS, SETTINGS = 1300, 60
GRID = {"seed": (0, 1, 2, 3, 4)}


@cache
def right(seed: int, shorten: float) -> Tensor:
    """Of each exit and test image (K, N)."""
    net, (x, label) = gated.joint(seed, shorten), six.examples("test")
    with torch.no_grad():
        return net(x).argmax(-1) == label


def another_seed(seed: int, shorten: float) -> dict:
    wrong = ~right(seed, shorten)[-1]
    early = {other: right(other, shorten)[:-1, wrong].double() for other in GRID["seed"]}
    rest = [value for other, value in early.items() if other != seed]
    return {
        "own, any": early[seed].amax(0).mean().item(),
        "other, any": torch.stack([value.amax(0).mean() for value in rest]).tolist(),
        "own, each": early[seed].mean(1).tolist(),
        "other, each": torch.stack(rest).mean((0, 2)).tolist(),
    }


def heads(seed: int, shorten: float) -> list[float]:
    """Test accuracy at each exit."""
    torch.manual_seed(seed)
    net, steps = six.make(), [max(1, round(n / shorten)) for n in (six.STEPS, HEAD_STEPS)]
    train_separately(net, six.stages(stream(seed), steps, gated.rate()))
    return six.measure(net.eval(), [], six.flops())["test"]


def paid(logits: Tensor, leave: Tensor, label: Tensor, units: list[float]) -> list[float]:
    """Leaving so: cross-entropy, mean cost, accuracy."""
    taken, cost = logits[leave, torch.arange(len(label))], torch.tensor(units)[leave].mean().item()
    return [F.cross_entropy(taken, label).item(), cost, (taken.argmax(-1) == label).double().mean().item()]


def threshold(seed: int, price: float, shorten: float) -> list[float]:
    """The entropy threshold of least held-out loss: what it pays on test images."""
    net, parts = gated.joint(seed, shorten), []
    for x, label in map(six.examples, ("held out", "test")):
        with torch.no_grad():
            parts.append((net(x), label))
    units = [cost / six.full() for cost in six.flops()]

    def pays(t: float, logits: Tensor, label: Tensor) -> list[float]:
        return paid(logits, six.leaves(-six.entropy(logits), t), label, units)

    def loss(t: float) -> float:
        cross_entropy, cost, _ = pays(t, *parts[0])
        return cross_entropy + price * cost

    return pays(min(six.settings(-six.entropy(parts[0][0]), SETTINGS), key=loss), *parts[1])


def gates(seed: int, rate: float, i: int, shorten: float) -> dict:
    """Gates of doubt at price number i: their own loss, held out, and what leaving at g >= 1/2 pays on test images."""
    model, (x, label) = gated.with_gates(seed, "doubt", rate, i, shorten).eval(), six.examples("test")
    with torch.no_grad():
        states = model.net.states(x)
        logits = model.net.classify(states)
        sure = torch.stack([gate(h) for gate, h in zip(model.gates, states, strict=False)])
    leave = six.leaves(torch.cat([sure, torch.full_like(sure[:1], torch.inf)]), 0.0)
    return {
        "loss": gated.held_out_loss(model, "doubt", gated.PRICES[i]),
        "paid": paid(logits, leave, label, gated.costs("doubt")),
    }


def run(seed: int, shorten: float = 1) -> dict:
    found = {"another seed": another_seed(seed, shorten), "heads": heads(seed, shorten)}
    for i, price in enumerate(gated.PRICES):
        found[f"threshold, {price}"] = threshold(seed, price, shorten)
        for n in gated.FRACTIONS:
            found[f"gates, {price}, {n}"] = gates(seed, 5e-3 * n, i, shorten)
    return found


def small() -> dict:
    return {"seed": 0, "shorten": 100}
