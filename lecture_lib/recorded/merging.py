"""Two networks from two starts, averaged: how deep and how wide may they be? Notebook 12.

MLPs of 1 to 8 hidden layers of 16 to 256 units learn scikit-learn's digits: 1,000 images, 600 steps of Adam at 1e-3, 64
images a step. A pair of a seed has two starts and two orders of the images. Measured on test images: at 11 stops of the
line from A to B, plain and with B's units in A's order (`match_weights`), the barrier: the largest excess of the loss
over the straight line between its ends. And half way the accuracy, as averaged and after REPAIR (`repair`), which looks
at the 1,000 training images, or 50 of them, without labels.

`std` is, for each hidden layer, the mean over units of the standard deviation of what the averaged network computes
before the ReLU, over the mean of those of A and B.

Nothing is chosen, so there is no criterion.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.data import digits
from lecture_lib.merging import interpolate, match_weights, units
from lecture_lib.models import MLP
from lecture_lib.training import fit

HIDDEN, WIDTHS, STOPS = (1, 2, 3, 5, 8), (16, 32, 64, 128, 256), 11
GRID = {"seed": (0, 1, 2, 3, 4), "hidden": HIDDEN, "width": WIDTHS}


def images() -> dict[str, tuple[Tensor, Tensor]]:
    """Flat images (N, 64) and their digits: 1,000 to learn from, 540 to test on."""
    data = digits()
    return {
        "train": (data.train_x[:1000].flatten(1), data.train_y[:1000]),
        "test": (data.test_x.flatten(1), data.test_y),
    }


def trained(hidden: int, width: int, steps: int, start: int) -> nn.Sequential:
    """An MLP of so many hidden layers, from a start and with an order of the images of its own."""
    torch.manual_seed(start)
    net, (x, y) = MLP(64, width, 10, depth=hidden + 1), images()["train"]
    generator = torch.Generator().manual_seed(start)
    batches = (torch.randint(1000, (64,), generator=generator) for _ in range(steps))
    fit(net, lambda x, y: F.cross_entropy(net(x), y), ((x[rows], y[rows]) for rows in batches), steps=steps, lr=1e-3)
    return net.requires_grad_(False)


def with_state(net: nn.Sequential, state: dict[str, Tensor]) -> nn.Sequential:
    """A network of the same shape with other weights."""
    wide = [layer for layer in net if isinstance(layer, nn.Linear)]
    made = MLP(wide[0].in_features, wide[0].out_features, wide[-1].out_features, depth=len(wide))
    made.load_state_dict(state)
    return made.requires_grad_(False)


def moments(net: nn.Sequential, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Mean and standard deviation over x of what each hidden unit has before its ReLU."""
    found = []
    for layer in net:
        x = layer(x)
        if isinstance(layer, nn.Linear):
            found.append((x.mean(0), x.std(0)))
    return found[:-1]


def repair(net: nn.Sequential, a: nn.Sequential, b: nn.Sequential, x: Tensor, t: float = 0.5) -> nn.Sequential:
    """The network at t of the line from a to b, its hidden units with the mean and spread between those of a and b.

    Layer by layer, below first: each unit's weights are multiplied, and its bias moved. Source: Jordan et al. 2023.
    """
    net = with_state(net, net.state_dict())
    ends = zip(moments(a, x), moments(b, x), strict=True)
    wanted = [[(1 - t) * m + t * n for m, n in zip(*pair, strict=True)] for pair in ends]
    for layer in net:
        h = layer(x)
        if isinstance(layer, nn.Linear) and wanted:
            mean, std = wanted.pop(0)
            scale = std / h.std(0).clamp(min=1e-6)
            layer.bias.copy_(mean + scale * (layer.bias - h.mean(0)))
            layer.weight.mul_(scale[:, None])
            h = layer(x)
        x = h
    return net


def run(seed: int, hidden: int, width: int, steps: int = 600) -> dict:
    """Accuracy and loss of the two, and of each line: barrier, and half way accuracy, repaired or not, and spread."""
    parts = images()
    (x, _), (test_x, test_y) = parts["train"], parts["test"]
    a, b = (trained(hidden, width, steps, 2 * seed + i) for i in range(2))

    def measure(net):
        said = net(test_x)
        return F.cross_entropy(said, test_y).item(), (said.argmax(-1) == test_y).double().mean().item()

    ends = [measure(net) for net in (a, b)]
    result = {"loss": [loss for loss, _ in ends], "right": [right for _, right in ends]}
    same = match_weights(a.state_dict(), b.state_dict(), units(a))
    for way, other in (("plain", b), ("matched", with_state(a, same))):
        line = [with_state(a, interpolate(a.state_dict(), other.state_dict(), k / (STOPS - 1))) for k in range(STOPS)]
        losses = torch.tensor([measure(net)[0] for net in line])
        t = torch.linspace(0, 1, STOPS)
        middle = line[STOPS // 2]
        spread = [
            (s.mean() / ((p + q).mean() / 2)).item()
            for (_, s), (_, p), (_, q) in zip(moments(middle, x), moments(a, x), moments(other, x), strict=True)
        ]
        result[way] = {
            "barrier": (losses - (1 - t) * losses[0] - t * losses[-1]).max().item(),
            "right": measure(middle)[1],
            "repaired": measure(repair(middle, a, other, x))[1],
            "repaired with 50": measure(repair(middle, a, other, x[:50]))[1],
            "std": spread,
        }
    return result


def small() -> dict:
    return {"seed": 0, "hidden": 1, "width": 4, "steps": 3}
