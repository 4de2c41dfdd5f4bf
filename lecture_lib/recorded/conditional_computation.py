"""Choosing patches, notebook 05: a learned selector, rules that ask nobody, and smaller static networks.

The criterion, set before the run: for each network, way and number of steps, the learning rate of the grid with the
best accuracy on held-out images, mean of two seeds of their own. Then five other seeds, on test images.

Every way that chooses patches has a score for each patch, and keeps what lies above a threshold. It begins with the
dense network of 400 steps, and trains 150 more at a budget of 30 %. Then its threshold is moved: for each budget to
the value at which a fixed set of training images meets it.

A static network is trained for as many steps (550), and for as many training FLOPs as the 550 dense steps have: each
step of masked training computes every patch, so it costs what a dense step costs. The rate falls linearly to 0.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.choice import gumbel_softmax, sample, straight_through
from lecture_lib.cost import count_flops
from lecture_lib.data import batches, digits
from lecture_lib.estimators import MovingAverage, surrogate
from lecture_lib.models import Transformer
from lecture_lib.patches import Gate, masked, packed, usage_loss

BATCH, HELD_OUT, BASE, MORE, BUDGET = 64, 257, 400, 150, 0.3
RATES, SEEDS, SEARCH = (2e-3, 4e-3, 8e-3), (0, 1, 2, 3, 4), (100, 101)
BUDGETS = (0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)
STATIC = {  # width, layers, what is seen
    "dense": (32, 2, "all"),
    "24, 2 layers": (24, 2, "all"),
    "20, 2 layers": (20, 2, "all"),
    "16, 2 layers": (16, 2, "all"),
    "32, 1 layer": (32, 1, "all"),
    "24, 1 layer": (24, 1, "all"),
    "half the pixels": (32, 2, "half"),
    "cropped to the ink": (32, 2, "crop"),
}
LONGER = ("16, 2 layers",)  # for equal training FLOPs, too
WAYS = ("straight-through", "REINFORCE", "relaxed", "most ink", "fixed places", "at random")
STRIPED = ("straight-through", "most ink", "16, 2 layers")  # the task with stripes, three seeds


def wander(images: Tensor, generator: torch.Generator, *, stripes: bool = False) -> Tensor:
    """Digits (N, 8, 8) on an empty canvas (N, 16, 16), each in one of nine places; with four striped patches."""
    n, eight = len(images), torch.arange(8)
    row, column = 4 * torch.randint(3, (2, n, 1), generator=generator)
    here = torch.arange(n)[:, None, None], (row + eight)[:, :, None], (column + eight)[:, None]
    canvas, digit = torch.zeros(n, 16, 16), torch.zeros(n, 16, 16, dtype=torch.bool)
    canvas[here], digit[here] = images, True
    if stripes:
        free = cut(~digit).all(-1)  # (N, 16)
        order = torch.where(free, torch.rand(n, 16, generator=generator), -1).argsort(descending=True)
        tile = torch.tensor([1.0, 0.0, 1.0, 0.0]).repeat(4)
        parts = cut(canvas).scatter(1, order[:, :4, None].expand(-1, -1, 16), tile.expand(n, 4, 16))
        canvas = parts.unflatten(1, (4, 4)).unflatten(3, (4, 4)).transpose(2, 3).reshape(n, 16, 16)
    return canvas


def cut(images: Tensor) -> Tensor:
    """Images (N, S, S) -> patches of 4 x 4 pixels, row by row (N, (S/4)², 16)."""
    side = images.shape[-1] // 4
    return images.unflatten(-1, (side, 4)).unflatten(1, (side, 4)).transpose(2, 3).flatten(1, 2).flatten(2)


def crop(images: Tensor) -> Tensor:
    """The window of 8 x 8 pixels with the most ink, of nine: (N, 16, 16) -> (N, 8, 8)."""
    windows = images.unfold(1, 8, 4).unfold(2, 8, 4).flatten(1, 2)  # (N, 9, 8, 8)
    return windows[torch.arange(len(images)), windows.sum((2, 3)).argmax(1)]


VIEWS = {"all": lambda images: images, "half": lambda images: F.avg_pool2d(images, 2), "crop": crop}


class ViT(nn.Module):
    """A small vision transformer. With `kept`, it sees so much of each token; at test time it computes these only."""

    def __init__(self, width: int = 32, layers: int = 2, view: str = "all"):
        super().__init__()
        self.view = VIEWS[view]
        self.embed, self.head = nn.Linear(16, width), nn.Linear(width, 10)
        self.position = nn.Parameter(0.5 * torch.randn(17 if view == "all" else 5, width))
        self.body = Transformer(width, 4, layers)
        nn.init.normal_(self.embed.weight, std=0.3)

    def tokens(self, images: Tensor) -> Tensor:
        """(B, 16, 16) -> (B, T, D), the class token first."""
        return F.pad(self.embed(cut(self.view(images))), (0, 0, 1, 0)) + self.position

    def forward(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """`kept` (B, 16): weights of the patches. Logits (B, 10)."""
        x = self.tokens(images)
        if kept is None:
            return self.head(self.body(x)[:, 0])
        kept = F.pad(kept, (1, 0), value=1.0)  # the class token always
        return self.head((masked if self.training else packed)(self.body, x, kept)[:, 0])


class Chooser(nn.Module):
    """A ViT, and a score for each patch (B, 16): a patch is kept where it lies above the threshold."""

    def __init__(self, net: ViT, way: str):
        super().__init__()
        self.net, self.way, self.threshold, self.baseline = net, way, 0.0, MovingAverage(0.9)
        kinds = {"straight-through": lambda s: straight_through(gumbel_softmax(s)), "REINFORCE": sample}
        if way in (*kinds, "relaxed"):
            self.gate = Gate(net.position.shape[1], 1, kinds.get(way, gumbel_softmax))
            nn.init.constant_(self.gate.score.bias, -0.8473)  # sigmoid: 0.3, the budget

    def scores(self, images: Tensor) -> Tensor:
        if hasattr(self, "gate"):
            return self.gate.score(self.net.tokens(images)[:, 1:]).squeeze(-1)
        if self.way == "at random":
            return torch.rand(len(images), 16)
        return cut(images).sum(-1) if self.way == "most ink" else self.usual.expand(len(images), 16)

    @torch.no_grad()
    def meet(self, budget: float, images: Tensor) -> "Chooser":
        """Move the threshold to where these images keep the share `budget` of their patches."""
        if self.way == "fixed places":
            self.usual = cut(images).var(0).sum(-1)
        order = self.scores(images).flatten().sort(descending=True).values
        rank = round(budget * len(order))
        self.threshold = -torch.inf if rank >= len(order) else order[rank].item()
        return self

    def kept(self, images: Tensor) -> Tensor:
        """(B, 16) of 0 and 1."""
        return (self.scores(images) > self.threshold).float()

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images, self.kept(images))

    def loss(self, images: Tensor, label: Tensor) -> Tensor:
        """Of masked training: the task's loss, and for a learned gate the squared distance of its use from 30 %."""
        if not hasattr(self, "gate"):
            return F.cross_entropy(self(images), label)
        z, choice = self.gate(self.net.tokens(images)[:, 1:])  # (B, 16, 1)
        cost = F.cross_entropy(self.net(images, z.squeeze(-1)), label, reduction="none")
        if self.way == "REINFORCE":  # its z has no gradient: the cost of each image carries that of its use
            cost = cost + 40 * (z.mean() - BUDGET) * z.mean((1, 2))
            return surrogate(cost, choice.log_prob.sum((1, 2)), self.baseline(cost)).mean()
        return cost.mean() + 20 * usage_loss(z, BUDGET)


def stream(seed: int, stripes: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of the first 1,000 training digits, each time in other places."""
    data, generator = digits(), torch.Generator().manual_seed(seed)
    x, y = data.train_x[:-HELD_OUT], data.train_y[:-HELD_OUT]
    for image, label in batches(x, y, size=BATCH, generator=generator):
        yield wander(image, generator, stripes=stripes), label


@cache
def examples(part: str, stripes: bool = False) -> tuple[Tensor, Tensor]:
    """Fixed canvases (N, 16, 16) and classes (N,): "train" for thresholds, "held out", "test"; two places a digit."""
    data, generator = digits(), torch.Generator().manual_seed(99)
    x, y = (data.test_x, data.test_y) if part == "test" else (data.train_x, data.train_y)
    rows = {"train": slice(0, -HELD_OUT), "held out": slice(-HELD_OUT, None), "test": slice(None)}[part]
    x, y = (x[rows], y[rows]) if part == "train" else (x[rows].repeat(2, 1, 1), y[rows].repeat(2))
    return wander(x, generator, stripes=stripes), y


def descend(net: nn.Module, loss: Callable, seed: int, steps: int, lr: float, stripes: bool = False) -> nn.Module:
    """Adam for so many steps, its rate falling linearly to 0. Returns the network in evaluation mode."""
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1e-3, steps)
    net.train()
    for _, batch in zip(range(steps), stream(seed, stripes)):  # noqa: B905 - endless
        optimizer.zero_grad()
        loss(*batch).backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def static(name: str, seed: int, lr: float, steps: int, stripes: bool = False) -> ViT:
    """One of STATIC, trained."""
    torch.manual_seed(seed)
    net = ViT(*STATIC[name])
    return descend(net, lambda x, y: F.cross_entropy(net(x), y), seed, steps, lr, stripes)


@cache
def base(seed: int, lr: float, stripes: bool, steps: int = BASE) -> ViT:
    return static("dense", seed, lr, steps, stripes)


def chooser(way: str, seed: int, lr: float, stripes: bool = False, *, before: int = BASE, steps: int = MORE) -> Chooser:
    """One of WAYS, from a dense network."""
    dense = deepcopy(base(seed, lr, stripes, before))
    torch.manual_seed(1000 + seed)
    net = Chooser(dense, way)
    net.meet(BUDGET, examples("train", stripes)[0])
    return descend(net, net.loss, 1000 + seed, steps, lr, stripes)


@torch.no_grad()
def accuracy(net: nn.Module, part: str, stripes: bool = False) -> float:
    x, label = examples(part, stripes)
    return round((net(x).argmax(-1) == label).double().mean().item(), 4)


@torch.no_grad()
def flops(net: nn.Module) -> float:
    """Of one image, mean over the test images; counts a learned gate, not the sums of ink."""
    x = examples("test")[0]
    return round(count_flops(net, x) / len(x))


def equal_flops(name: str) -> int:
    """So many steps cost as much as BASE + MORE steps of the dense network."""
    return round((BASE + MORE) * flops(ViT().eval()) / flops(ViT(*STATIC[name]).eval()))


def trained(name: str, seed: int, lr: float, steps: int | None, stripes: bool) -> nn.Module:
    if name in STATIC:
        return static(name, seed, lr, steps or BASE + MORE, stripes)
    short = {"before": steps, "steps": steps} if steps else {}
    return chooser(name, seed, lr, stripes, **short).meet(BUDGET, examples("train", stripes)[0])


@cache
def tried(name: str, steps: int | None, stripes: bool) -> list[list[float]]:
    """Each learning rate, and its mean accuracy on held-out images."""
    nets = {lr: [trained(name, seed, lr, steps, stripes) for seed in SEARCH] for lr in RATES}
    return [[lr, sum(accuracy(net, "held out", stripes) for net in row) / len(row)] for lr, row in nets.items()]


GRID = {
    "task": ["digits", "digits and stripes"],
    "name": [*STATIC, *WAYS, *(f"{name}, longer" for name in LONGER)],
    "seed": list(SEEDS),
}


def run(seed: int, name: str, task: str, steps: int | None = None) -> dict:
    """The rate, those tried, and for each budget (a static network has one) accuracy, share kept, FLOPs, on test."""
    stripes, plain = task != "digits", name.removesuffix(", longer")
    if stripes and (name not in STRIPED or seed > 2):
        return {"rows": []}
    steps = equal_flops(plain) if name != plain else steps
    rates = tried(plain, steps, stripes)
    lr = max(rates, key=lambda row: row[1])[0]
    net, rows = trained(plain, seed, lr, steps, stripes), []
    x = examples("test", stripes)[0]
    for budget in (1.0,) if plain in STATIC else BUDGETS:
        if plain in STATIC:
            share, cost = 1.0, flops(net)
        else:
            net.meet(budget, examples("train", stripes)[0])
            with torch.no_grad():
                share, cost = net.kept(x).mean().item(), round(count_flops(net, x) / len(x))
        rows.append([budget, accuracy(net, "test", stripes), round(share, 4), cost])
    return {"lr": lr, "tried": rates, "trained": steps or BASE + MORE, "rows": rows}


def small() -> dict:
    return {"seed": 0, "name": "straight-through", "task": "digits", "steps": 4}
