"""A mixture of depths as the one layer of a model, notebook 05: bytes of Python source, and layers of equal FLOPs.

The criterion: of each layer, the learning rate with the fewest bits per byte on validation text (a part of the training
files that is not trained on), one seed of its own; then three others, on test files. 400 steps, rate falling linearly
to 0. At test time the mixture is also asked in ways that a model which writes could use: by its predictor, and by its
router's score against a fixed threshold, the median on validation text.

Two earlier records had the layer between two full blocks, as the paper has it: with 160 steps a full layer was 0.02
bits per byte ahead of none, with 400 steps 0.002, less than the seeds' spread of 0.05. Nothing that lies between can be
compared there. Here the layer stands alone.
"""

from collections.abc import Callable, Iterator
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.cost import count_flops
from lecture_lib.data import python_sources
from lecture_lib.models import Block
from lecture_lib.patches import packed
from lecture_lib.simplex import score
from lecture_lib.skipping import MixtureOfDepths, predictor_loss

WIDTH, LENGTH, BATCH, STEPS = 48, 64, 16, 400
RATES, SEEDS, SEARCH = (3e-3, 6e-3, 1.2e-2), (0, 1, 2), 100


class Half(nn.Module):
    """A block for half of the tokens: every second, or any half, drawn anew; they see each other only."""

    def __init__(self, body: nn.Module, *, random: bool):
        super().__init__()
        self.body, self.random = body, random

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        order = torch.rand(n, t).argsort(-1) if self.random else torch.arange(t).expand(n, t) % 2
        return packed(self.body, x, (order < (t // 2 if self.random else 1)).float())


class Part(nn.Module):
    """x + f(norm(x)), for every token."""

    def __init__(self, f: Callable[[Tensor], Tensor]):
        super().__init__()
        self.norm, self.f = nn.LayerNorm(WIDTH), f

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(self.norm(x))


def mlp(hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, hidden), nn.GELU(), nn.Linear(hidden, WIDTH))


LAYERS = {  # the last three have the FLOPs of a half
    "every token": lambda block: block,
    "none": lambda block: nn.Identity(),
    "top half": lambda block: MixtureOfDepths(WIDTH, block, capacity=0.5),
    "every second": lambda block: Half(block, random=False),
    "random half": lambda block: Half(block, random=True),
    "attention alone": lambda block: Part(block.attention),
    "MLP alone, smaller": lambda block: Part(mlp(160)),
}


class Bytes(nn.Module):
    """A byte model of one layer of LAYERS."""

    def __init__(self, middle: str):
        super().__init__()
        self.embed, self.position = nn.Embedding(256, WIDTH), nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        self.middle = LAYERS[middle](Block(WIDTH, 4, causal=True))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 256))

    def before(self, text: Tensor) -> Tensor:
        """What the layer gets."""
        return self.embed(text) + self.position[: text.shape[1]]

    def forward(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, T, 256), and the predictor's loss, or 0."""
        x, foresight = self.before(text), torch.zeros(())
        y = self.middle(x)
        if isinstance(self.middle, MixtureOfDepths):
            y, choice = y
            foresight = predictor_loss(self.middle.predict(x), choice)
        return self.head(y), foresight


@cache
def text(part: str) -> Tensor:
    """Training text without its last half million bytes; these; test files."""
    sources = python_sources()
    return {"train": sources.train[:-500_000], "validation": sources.train[-500_000:], "test": sources.test}[part]


def windows(part: str, n: int, seed: int) -> Iterator[Tensor]:
    """Endless batches (n, LENGTH + 1)."""
    source, generator = text(part), torch.Generator().manual_seed(seed)
    while True:
        yield source[torch.randint(len(source) - LENGTH, (n, 1), generator=generator) + torch.arange(LENGTH + 1)].long()


def train(middle: str, seed: int, lr: float, steps: int = STEPS) -> Bytes:
    torch.manual_seed(seed)
    net = Bytes(middle)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1e-3, steps)
    for _, both in zip(range(steps), windows("train", BATCH, seed)):  # noqa: B905 - endless
        logits, foresight = net(both[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), both[:, 1:].flatten()) + foresight
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net


@torch.no_grad()
def bits(net: Bytes, part: str) -> float:
    """Per byte, on 1,000 windows, in the mode in which the network is."""
    both = next(windows(part, 1000, 7))
    nats = F.cross_entropy(net(both[:, :-1])[0].flatten(0, 1), both[:, 1:].flatten())
    return round(nats.item() / torch.tensor(2.0).log().item(), 4)


@torch.no_grad()
def threshold(net: Bytes) -> float:
    """The median of the router's scores on validation text."""
    return score(net.middle.router, net.before(next(windows("validation", 1000, 8))[:, :-1])).median().item()


@torch.no_grad()
def admitted(net: Bytes) -> list[float]:
    """By `predict`, of LENGTH tokens of 1,000 test windows: mean, fewest, most, how many different numbers."""
    counts = (net.middle.predict(net.before(next(windows("test", 1000, 7))[:, :-1])) > 0).sum(-1)
    return [round(counts.double().mean().item(), 2), counts.min().item(), counts.max().item(), len(counts.unique())]


@torch.no_grad()
def flops(net: Bytes) -> int:
    """Of the middle layer, one window."""
    x = net.before(next(windows("test", 200, 7))[:, :-1])
    return round(count_flops(net.middle, x) / len(x))


@cache
def tried(middle: str, steps: int) -> list[list[float]]:
    return [[lr, bits(train(middle, SEARCH, lr, steps).train(), "validation")] for lr in RATES]


GRID = {"middle": list(LAYERS), "seed": list(SEEDS)}


def run(seed: int, middle: str, short: int = 0) -> dict:
    """Rate, those tried, bits per byte on test files, FLOPs of the middle layer; of a mixture, in three modes."""
    rates = tried(middle, short or STEPS)
    lr = min(rates, key=lambda row: row[1])[0]
    net = train(middle, seed, lr, short or STEPS)
    result = {"lr": lr, "tried": rates, "bits": bits(net.train(), "test"), "FLOPs": flops(net)}
    if middle == "top half":
        net.eval()
        result |= {"predictor": [bits(net, "test"), *admitted(net)], "predictor, FLOPs": flops(net)}
        at, router = threshold(net), net.middle.router
        net.middle.predict = lambda x: score(router, x).squeeze(-1) - at
        result["threshold"] = [bits(net, "test"), *admitted(net)]
    return result


def small() -> dict:
    return {"seed": 0, "middle": "top half", "short": 3}
