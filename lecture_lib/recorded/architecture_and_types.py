"""Architectural bias at a fixed budget, notebook 15: windows, shared weights and pooling taken apart.

Two budgets: 5,700 parameters, within 3 %, or ("wide") 174,000 FLOPs an image, within 3 %. The convolution with pooling
keeps to both.

The criterion: of each network and data set the learning rate with the highest accuracy at the last step on validation
images, mean over seeds. No validation or test image is among those for training. For one seed, all networks get the
same images, moved to the same places. How the channels are shared out between the two layers was not searched.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.data import batches, digits
from lecture_lib.models import MLP
from lecture_lib.training import fit


class OwnWeights(nn.Module):
    """A convolution of 3 x 3 windows without shared weights: each of the places has a linear map of its own.

    (B, C, side, side) -> (B, C', side / stride, side / stride), with a border of zeros.
    """

    def __init__(self, c_in: int, c_out: int, side: int, stride: int = 1):
        super().__init__()
        self.stride, places, scale = stride, (side // stride) ** 2, (9 * c_in) ** -0.5  # begins as nn.Conv2d does
        self.weight = nn.Parameter(torch.empty(places, 9 * c_in, c_out).uniform_(-scale, scale))
        self.bias = nn.Parameter(torch.empty(places, 1, c_out).uniform_(-scale, scale))

    def forward(self, x: Tensor) -> Tensor:
        windows = F.pad(x, (1, 1, 1, 1)).unfold(2, 3, self.stride).unfold(3, 3, self.stride)  # (B, C, S, S, 3, 3)
        side = windows.shape[2]
        windows = windows.permute(2, 3, 0, 1, 4, 5).reshape(side**2, len(x), -1)  # (places, B, 9 C)
        return (windows @ self.weight + self.bias).permute(1, 2, 0).unflatten(2, (side, side))


def windowed(c_0: int, c_1: int, *, shared: bool, shrink: str) -> nn.Module:
    """Two layers of 3 x 3 windows with c_0 and c_1 channels, and a linear head: (B, 8, 8) -> (B, 10).

    Args:
        shared: whether all places have the same weights, which makes a layer a convolution.
        shrink: how a layer halves its side: the "max" or the "mean" of 2 x 2 places, or "stride", where only one of the
            four is computed. With "nothing" the side stays.
    """
    stride, pool = 1 + (shrink == "stride"), {"max": nn.MaxPool2d, "mean": nn.AvgPool2d}.get(shrink)
    sides = [8, 8, 8] if shrink == "nothing" else [8, 4, 2]

    def layer(c_in: int, c_out: int, side: int) -> list[nn.Module]:
        maps = nn.Conv2d(c_in, c_out, 3, stride, 1) if shared else OwnWeights(c_in, c_out, side, stride)
        return [maps, nn.ReLU(), *([pool(2)] if pool else [])]

    head = nn.Linear(c_1 * sides[2] ** 2, 10)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)), *layer(1, c_0, sides[0]), *layer(c_0, c_1, sides[1]), nn.Flatten(), head
    )


def flat(width: int) -> nn.Module:
    """An MLP with one hidden layer: (B, 8, 8) -> (B, 10)."""
    return nn.Sequential(nn.Flatten(), MLP(64, width, 10))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "MLP": lambda: flat(76),
    "windows": lambda: windowed(10, 10, shared=False, shrink="stride"),
    "windows + pooling": lambda: windowed(3, 8, shared=False, shrink="max"),
    "windows + sharing": lambda: windowed(21, 24, shared=True, shrink="stride"),
    "windows + sharing + pooling": lambda: windowed(21, 24, shared=True, shrink="max"),
    "MLP, wide": lambda: flat(1150),
    "windows, wide": lambda: windowed(40, 55, shared=False, shrink="stride"),
    "windows + pooling, wide": lambda: windowed(21, 24, shared=False, shrink="max"),
    "windows + sharing, wide": lambda: windowed(40, 55, shared=True, shrink="stride"),
    "mean instead of max": lambda: windowed(21, 24, shared=True, shrink="mean"),
    "nothing instead of max": lambda: windowed(16, 7, shared=True, shrink="nothing"),
}
SMALL, WIDE = list(NETWORKS)[:5], list(NETWORKS)[4:9]
FEW = ["MLP", "windows + sharing + pooling", "MLP, wide"]
CASES = {  # a name, which a record holds: the network, the data, how many images for training, steps
    **{f"as given: {name}": (name, "as given", 300, 500) for name in [*SMALL, "MLP, wide"]},
    **{f"moved: {name}": (name, "moved", 300, 500) for name in NETWORKS},
    **{f"shuffled: {name}": (name, "shuffled", 300, 500) for name in [*SMALL, *WIDE[1:]]},
    **{f"place: {name}": (name, "place", 300, 500) for name in SMALL},
    **{f"moved, 100 images: {name}": (name, "moved", 100, 500) for name in FEW},
    **{f"moved, 1,000 images: {name}": (name, "moved", 1000, 1000) for name in FEW},
    **{f"moved anew: {name}": (name, "moved anew", 300, 1000) for name in FEW},
}


def move(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each image moved by -1, 0 or 1 pixel in both directions, and its place: 0 to 8, row by row; 4 is the middle."""
    moved = F.pad(images, (1, 1, 1, 1)).unfold(1, 8, 1).unfold(2, 8, 1).flatten(1, 2)  # (B, 9, 8, 8)
    place = torch.randint(9, (len(images),), generator=generator)
    return moved[torch.arange(len(images)), place], place


def shuffle(images: Tensor, seed: int) -> Tensor:
    """The pixels of all images in the same random order."""
    order = torch.randperm(64, generator=torch.Generator().manual_seed(seed))
    return images.flatten(1)[:, order].reshape(images.shape)


def sets(data: str, n: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Images and labels, for training (n of the first 1,000), validation (the other 257) and test (540).

    Args:
        data: digits "as given", "moved" once and for all, or "shuffled" after that; or "place": the same moved images,
            with the place as their label. "moved anew": as "moved", but those for training are as given.
    """
    every, generator = digits(), torch.Generator().manual_seed(seed)
    few = torch.randperm(1000, generator=generator)[:n]
    parts = [(every.train_x[few], every.train_y[few]), (every.train_x[1000:], every.train_y[1000:])]
    made = []
    for k, (x, y) in enumerate([*parts, (every.test_x, every.test_y)]):
        moved, place = move(x, generator)
        stays = data == "as given" or (data == "moved anew" and k == 0)
        x = x if stays else shuffle(moved, seed) if data == "shuffled" else moved
        made.append((x, place if data == "place" else y))
    return made


def stream(x: Tensor, y: Tensor, data: str, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of 32 images."""
    generator = torch.Generator().manual_seed(seed)
    for images, label in batches(x, y, size=32, generator=generator):
        yield (move(images, generator)[0] if data == "moved anew" else images), label


def train(
    network: str, data: str = "moved", n: int = 300, steps: int = 500, *, lr: float = 1e-2, seed: int = 0
) -> tuple[nn.Module, list[dict[str, float]]]:
    """A network of NETWORKS, and its history: at each quarter the step, the accuracy in "validation" and in "test"."""
    torch.manual_seed(seed)
    net = NETWORKS[network]()
    (x, y), *held_out = sets(data, n, seed)

    def measure() -> dict[str, float]:
        right = [(net(x).argmax(-1) == y).double().mean().item() for x, y in held_out]
        return dict(zip(("validation", "test"), right, strict=True))

    def loss(images: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(net(images), label)

    return net, fit(
        net, loss, stream(x, y, data, seed), steps=steps, lr=lr, measure=measure, every=steps // 4, label=network
    )


GRID = {"seed": range(5), "case": list(CASES), "lr": [3e-3, 1e-2, 3e-2]}


def run(seed: int, case: str, lr: float, steps: int | None = None) -> dict[str, list[float]]:
    """The accuracy of one training after each quarter of its steps."""
    network, data, n, usual = CASES[case]
    history = train(network, data, n, steps or usual, lr=lr, seed=seed)[1]
    return {part: [round(row[part], 4) for row in history] for part in ("validation", "test")}


def small() -> dict:
    return {"seed": 0, "case": "moved: windows + pooling", "lr": 1e-2, "steps": 40}
