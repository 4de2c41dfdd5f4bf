"""A mixture of depths above a full block, notebook 05: is half of a layer worth as much where context is there already?

Data, layers and windows are those of `conditional_computation_depths`, where the layer stands alone. Here a full block
comes first, so that every byte has seen its past before the layer. 1,200 steps at the rate that each layer's record
picked (for all the highest of its grid, 0.012); nothing is tuned again.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lecture_lib.models import Block
from lecture_lib.recorded import conditional_computation_depths as depths

STEPS, RATE = 1200, 1.2e-2
LAYERS = ("every token", "none", "top half", "every second", "attention alone")


class Above(depths.Bytes):
    """A byte model of a full block, then one layer of `depths.LAYERS`."""

    def __init__(self, middle: str):
        super().__init__(middle)
        self.first = Block(depths.WIDTH, 4, causal=True)

    def before(self, text: Tensor) -> Tensor:
        return self.first(super().before(text))


def train(middle: str, seed: int, steps: int) -> Above:
    """As `depths.train` does."""
    torch.manual_seed(seed)
    net = Above(middle)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1e-3, steps)
    for _, both in zip(range(steps), depths.windows("train", depths.BATCH, seed)):  # noqa: B905 - endless
        logits, foresight = net(both[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), both[:, 1:].flatten()) + foresight
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net


GRID = {"middle": list(LAYERS), "seed": list(depths.SEEDS)}


def run(seed: int, middle: str, steps: int = STEPS) -> dict:
    """Bits per byte on test files; of a mixture by its predictor, too."""
    net = train(middle, seed, steps)
    result = {"bits": depths.bits(net.train(), "test")}
    return result | ({"predictor": depths.bits(net.eval(), "test")} if middle == "top half" else {})


def small() -> dict:
    return {"seed": 0, "middle": "top half", "steps": 3}
