"""A network with three exits beside smaller networks without, notebook 00: digits with noise of different strength.

The criterion, from before any training: for each network the learning rate of the grid with the best accuracy on
held-out images at the end, mean of two seeds of their own; the network with exits is judged at confidence 0.8. Then
five other seeds, on test images. All networks get the same number of steps; rates are constant.
"""

from collections.abc import Iterator
from functools import cache, partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.cost import count_flops
from lecture_lib.data import batches, digits
from lecture_lib.exits import EarlyExitNet, joint_loss
from lecture_lib.training import fit

EVERY, HELD_OUT = 300, 257  # steps; images
RATES, SEEDS, SEARCH = (2e-3, 4e-3, 8e-3), (0, 1, 2, 3, 4), (100, 101)
THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)
CHANNELS = {  # of the three layers
    "three exits": (8, 24, 48),
    "full": (8, 24, 48),
    "6, 17, 34": (6, 17, 34),
    "5, 14, 28": (5, 14, 28),
    "4, 11, 22": (4, 11, 22),
}


def make(network: str) -> nn.Module:
    """Three layers of convolution, with a classifier after each, or after the last alone."""
    channels = [1, *CHANNELS[network]]
    blocks = [nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU()) for a, b in pairwise(channels)]
    heads = [nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(4 * b, 10)) for b in channels[1:]]
    return EarlyExitNet(blocks, heads) if network == "three exits" else nn.Sequential(*blocks, heads[-1])


def noisy(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each digit with noise of its own strength, most often little: (N, 8, 8) -> (N, 1, 8, 8)."""
    images = images.unsqueeze(1)
    strength = torch.rand(len(images), 1, 1, 1, generator=generator).square() / 2
    return images + strength * torch.randn(images.shape, generator=generator)


def stream(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of 32 of the first 1,000 training images, with new noise each time."""
    data, generator = digits(), torch.Generator().manual_seed(seed)
    x, y = data.train_x[:-HELD_OUT], data.train_y[:-HELD_OUT]
    for image, label in batches(x, y, size=32, generator=generator):
        yield noisy(image, generator), label


@cache
def examples(part: str) -> tuple[Tensor, Tensor]:
    """Test or held-out images, each with two draws of noise: (N, 1, 8, 8) and classes (N,)."""
    data, generator = digits(), torch.Generator().manual_seed(99)
    x, y = (data.test_x, data.test_y) if part == "test" else (data.train_x[-HELD_OUT:], data.train_y[-HELD_OUT:])
    return noisy(x.repeat(2, 1, 1), generator), y.repeat(2)


@cache
def flops(network: str) -> list[int]:
    """Of one image: up to and with each exit, all heads asked on the way; or of the network."""
    net, image = make(network), torch.zeros(1, 1, 8, 8)
    if network != "three exits":
        return [count_flops(net, image)]
    return [count_flops(EarlyExitNet(net.blocks[:k], net.heads[:k]), image) for k in (1, 2, 3)]


@torch.no_grad()
def measure(net: nn.Module, network: str) -> dict[str, list]:
    """Accuracy and mean FLOPs on held-out and on test images, one number or one for each threshold."""
    result: dict[str, list] = {}
    for part in ("held out", "test"):
        x, label = examples(part)
        if network != "three exits":
            accuracies, costs = [(net(x).argmax(-1) == label).double().mean().item()], flops(network)
        else:
            confidence, said = net(x).softmax(-1).max(-1)  # (3, N)
            sure = torch.stack([confidence >= threshold for threshold in THRESHOLDS])  # (thresholds, 3, N)
            sure[:, -1] = True
            leaves = sure.int().argmax(1)  # (thresholds, N): the first that is sure
            accuracies = (said.gather(0, leaves) == label).double().mean(1).tolist()
            costs = torch.tensor(flops(network)).double()[leaves].mean(1).tolist()
        result |= {part: [round(value, 4) for value in accuracies], f"{part}, FLOPs": [round(cost) for cost in costs]}
    return result


def train(network: str, lr: float, *, seed: int = 0, steps: int = 900) -> tuple[nn.Module, list[dict]]:
    """A network, and what `measure` says after every 300 steps and at the end."""
    torch.manual_seed(seed)
    net = make(network)

    def loss(x: Tensor, label: Tensor) -> Tensor:
        return joint_loss(net(x), label) if network == "three exits" else F.cross_entropy(net(x), label)

    look = partial(measure, net, network)
    return net, fit(net, loss, stream(seed), steps=steps, lr=lr, measure=look, every=EVERY, label=network)


@cache
def best_rate(network: str, steps: int) -> tuple[float, list]:
    """The learning rate that is picked, and what was tried: [rate, accuracy on held-out images]."""
    at = THRESHOLDS.index(0.8) if network == "three exits" else 0
    tried = [
        [lr, sum(train(network, lr, seed=seed, steps=steps)[1][-1]["held out"][at] for seed in SEARCH)] for lr in RATES
    ]
    return max(tried, key=lambda pair: pair[1])[0], [[lr, round(total / len(SEARCH), 4)] for lr, total in tried]


GRID = {"network": list(CHANNELS), "seed": SEEDS}


def run(seed: int, network: str, steps: int = 900) -> dict:
    """After every 300 steps what `measure` says; the learning rate, and those that were tried."""
    lr, tried = best_rate(network, steps)
    history = train(network, lr, seed=seed, steps=steps)[1]
    rows = {
        str(row["step"]): {name: value for name, value in row.items() if name not in ("step", "loss")}
        for row in history
    }
    return {"lr": lr, "tried": tried, "after": rows}


def small() -> dict:
    return {"seed": 0, "network": "4, 11, 22", "steps": 10}
