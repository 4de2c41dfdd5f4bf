"""Six exits, notebook 06: three trainings, static networks, and the rules of leaving, on digits with noise.

Images, noise and held-out images are those of notebook 00 (`start_here_exits`); the network has more exits. A run has a
rate for four fifths of its steps, then a tenth of it.

The criterion, written before the record. Each way of training, at equal batches and at equal training FLOPs, has the
same three rates. What is reported has the rate with the best mean held-out accuracy over exits, mean over the seeds.
(At first each budget had a rate of its own: then it is not one network that serves them all.) Each rule has twelve
settings, at quantiles of its own held-out scores (patience has the five that six exits allow); within a budget, the
setting is that of highest held-out accuracy among those whose held-out mean cost is not above it. Test images are used
for what was picked alone.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.cost import count_flops
from lecture_lib.data import digits
from lecture_lib.exits import (
    EarlyExitNet,
    arithmetic_ensemble,
    geometric_ensemble,
    train_jointly,
    train_layerwise,
    train_separately,
)
from lecture_lib.recorded.start_here_exits import BATCH, HELD_OUT, noisy, stream
from lecture_lib.training import fit

K, WIDTH, STEPS, DRAWS, SETTINGS = 6, 16, 600, 4, 12
RATES, SEEDS = (3e-3, 6e-3, 1.2e-2), (0, 1, 2, 3, 4)
REGIMES = {  # and the steps of their stages
    "joint": (train_jointly, [STEPS]),
    "layer-wise": (train_layerwise, [STEPS // K] * K),
    "separate": (train_separately, [2 * STEPS // 3, STEPS // 3]),
}
STATIC = {"full": (K, WIDTH), "depth 2": (2, WIDTH), "width 10": (K, 10)}  # without exits: blocks and channels


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.convolution = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return h + F.relu(self.convolution(h))


def make_head(width: int, outputs: int = 10) -> nn.Module:
    """The mean over each quarter of the image, then a linear layer."""
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(4 * width, outputs))


def make(depth: int = K, width: int = WIDTH, *, exits: bool = True) -> EarlyExitNet:
    """A convolution, then residual blocks: a head after each, or after the last alone."""
    blocks = [nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU()), *[Residual(width) for _ in range(depth - 1)]]
    return EarlyExitNet(
        blocks if exits else [nn.Sequential(*blocks)], [make_head(width) for _ in blocks[: 1 + exits * K]]
    )


@cache
def examples(part: str) -> tuple[Tensor, Tensor]:
    """Test or held-out images, each with four draws of noise: (N, 1, 8, 8) and classes (N,)."""
    data, generator = digits(), torch.Generator().manual_seed(98)
    x, y = (data.test_x, data.test_y) if part == "test" else (data.train_x[-HELD_OUT:], data.train_y[-HELD_OUT:])
    return noisy(x.repeat(DRAWS, 1, 1), generator), y.repeat(DRAWS)


@cache
def flops(depth: int = K, width: int = WIDTH, *, exits: bool = True) -> list[int]:
    """Of one image that leaves at each exit: its block and head, and all before them."""
    net, image = make(depth, width, exits=exits), torch.zeros(1, 1, 8, 8)
    return [count_flops(EarlyExitNet(net.blocks[: k + 1], net.heads[: k + 1]), image) for k in range(len(net.heads))]


def full() -> int:
    """FLOPs of an image in the network without exits: the unit of all budgets."""
    return flops(exits=False)[0]


# ------------------------------------------------------------------------------------------------------------ training


def stages(batches: Iterator, steps: Iterable[int], lr: float) -> Callable:
    """A `fit` for the regimes: each call takes the next number of steps, four fifths at lr, the rest at a tenth."""
    steps = iter(steps)

    def one(model: nn.Module, loss: Callable) -> None:
        n = next(steps)
        fit(model, loss, batches, steps=n - n // 5, lr=lr, label="training")
        if n // 5:
            fit(model, loss, batches, steps=n // 5, lr=lr / 10, label="settling")

    return one


@cache
def step_flops(regime: str, depth: int = K, width: int = WIDTH) -> list[int]:
    """Of one step, forward and backward, in each stage of a regime ("static" has one)."""
    found: list[int] = []
    x, y = torch.zeros(BATCH, 1, 8, 8), torch.zeros(BATCH, dtype=torch.int64)

    def counting(model: nn.Module, loss: Callable) -> None:
        def step() -> None:
            loss(x, y).backward()

        model.zero_grad()
        found.append(count_flops(step))

    net = make(depth, width, exits=regime != "static")
    for parameter in net.parameters():
        parameter.requires_grad_()
    (train_jointly if regime == "static" else REGIMES[regime][0])(net, counting)
    return found


@cache
def plan(way: str) -> tuple[str, tuple[int, int], tuple[int, ...]]:
    """A way to train, "joint" or "depth 2, FLOPs" -> its regime, depth and width, and the steps of its stages.

    With "FLOPs", the steps grow until training costs what "joint" costs: forward and backward of all stages. With
    "longer" there are three times as many.
    """
    name, _, equal = way.partition(", ")
    size = STATIC.get(name, (K, WIDTH))
    regime = "static" if name in STATIC else name
    steps = [STEPS] if regime == "static" else REGIMES[regime][1]
    if equal == "FLOPs":
        spent = sum(n * cost for n, cost in zip(steps, step_flops(regime, *size), strict=True))
        steps = [round(n * STEPS * step_flops("joint")[0] / spent) for n in steps]
    if equal == "longer":
        steps = [3 * n for n in steps]
    return regime, size, tuple(steps)


def training_flops(way: str) -> int:
    regime, size, steps = plan(way)
    return sum(n * cost for n, cost in zip(steps, step_flops(regime, *size), strict=True))


def train(way: str, lr: float, *, seed: int = 0, shorten: float = 1) -> EarlyExitNet:
    """One network; `shorten` divides the steps of every stage."""
    regime, size, steps = plan(way)
    torch.manual_seed(seed)
    net = make(*size, exits=regime != "static")
    train_it = train_jointly if regime == "static" else REGIMES[regime][0]
    train_it(net, stages(stream(seed), [max(1, round(n / shorten)) for n in steps], lr))
    return net.eval()


# ------------------------------------------------------------------------------------------------------------ deciding


def entropy(logits: Tensor) -> Tensor:
    """Of the softmax, in nats: (..., C) -> (...)."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def agreements(logits: Tensor) -> Tensor:
    """How many exits in a row, up to this one, agreed with the one before: (K, N, C) -> (K, N)."""
    said, count = logits.argmax(-1), []
    for k in range(len(said)):
        count.append((count[-1] + 1) * (said[k] == said[k - 1]) if k else torch.zeros_like(said[0]))
    return torch.stack(count).float()


def confidence(logits: Tensor) -> Tensor:
    return logits.softmax(-1).amax(-1)


def margin(logits: Tensor) -> Tensor:
    best, second = logits.softmax(-1).topk(2).values.unbind(-1)
    return best - second


def temperatures(logits: Tensor, label: Tensor) -> Tensor:
    """Of each exit the temperature λ whose softmax(s / λ) has the least cross-entropy, (K,)."""
    tried = torch.logspace(-0.7, 0.7, 57)  # 0.2 to 5
    every = label.expand(logits.shape[:-1])
    losses = [F.cross_entropy((logits / t).movedim(-1, 1), every, reduction="none").mean(-1) for t in tried]
    return tried[torch.stack(losses).argmin(0)]


# A rule: answers (K, N, C) at each exit, and how sure it is, (K, N): who reaches the threshold leaves.
RULES = {
    "entropy": lambda z, t: (z, -entropy(z)),
    "confidence": lambda z, t: (z, confidence(z)),
    "margin": lambda z, t: (z, margin(z)),
    "patience": lambda z, t: (z, agreements(z)),
    "calibrated entropy": lambda z, t: (z, -entropy(z / t[:, None, None])),
    "arithmetic vote": lambda z, t: (arithmetic_ensemble(z), confidence(arithmetic_ensemble(z))),
    "geometric vote": lambda z, t: (geometric_ensemble(z), confidence(geometric_ensemble(z))),
}


def leaves(sure: Tensor, threshold: float) -> Tensor:
    """The first exit that is sure enough, else the last: (K, N) -> (N,)."""
    stop = sure >= threshold
    stop[-1] = True
    return stop.int().argmax(0)


def settings(sure: Tensor, count: int = SETTINGS) -> list[float]:
    """Thresholds at quantiles of held-out scores, the last exit's apart, from the boldest to the safest."""
    levels = (torch.arange(count) + 0.5) / count
    return torch.quantile(sure[:-1].flatten().double(), levels.double()).tolist()


def table(held_out: tuple, test: tuple, thresholds: Iterable[float], costs: list[int]) -> list[list[float]]:
    """Of each threshold: accuracy and mean cost, held out and on test images. A part is (answers, sure, label)."""
    rows, cost = [], torch.tensor(costs).double() / full()
    for threshold in thresholds:
        row = []
        for answers, sure, label in (held_out, test):
            leave = leaves(sure, threshold)
            right = answers[leave, torch.arange(len(label))].argmax(-1) == label
            row += [round(right.double().mean().item(), 4), round(cost[leave].mean().item(), 4)]
        rows.append(row)
    return rows


def within(rows: list[list[float]], budget: float) -> list[float]:
    """The row of the highest held-out accuracy whose held-out cost is within the budget; the cheapest if none is."""
    allowed = [row for row in rows if row[1] <= budget + 1e-9]
    return max(allowed, key=lambda row: row[0]) if allowed else min(rows, key=lambda row: row[1])


@torch.no_grad()
def measure(net: EarlyExitNet, names: Iterable[str], costs: list[int]) -> dict:
    """Accuracy at each exit, held out and on test images, and the table of each rule."""
    (x_held, y_held), (x, y) = examples("held out"), examples("test")
    z_held, z = net(x_held), net(x)
    result = {
        "held out": [round(v, 4) for v in (z_held.argmax(-1) == y_held).double().mean(-1).tolist()],
        "test": [round(v, 4) for v in (z.argmax(-1) == y).double().mean(-1).tolist()],
        "confidence at the exits": [round(v, 4) for v in confidence(z).mean(-1).tolist()],
    }
    if len(z) > 1:
        t = temperatures(z_held, y_held)
        result["temperatures"] = [round(v, 3) for v in t.tolist()]
        result["cut"] = [
            [held, cost / full(), test, cost / full()]
            for held, test, cost in zip(result["held out"], result["test"], costs, strict=True)
        ]
        for name in names:
            parts = [(*RULES[name](logits, t), label) for logits, label in ((z_held, y_held), (z, y))]
            thresholds = range(1, len(z)) if name == "patience" else settings(parts[0][1])
            result[name] = table(*parts, thresholds, costs)
            if name == "entropy":  # with as few settings as patience has
                result["entropy, few"] = table(*parts, settings(parts[0][1], len(z) - 1), costs)
    return result


@torch.no_grad()
def overthinking(net: EarlyExitNet) -> dict:
    """On test images: which are wrong at the last exit, which of these were right before; shares; an oracle's cost."""
    x, y = examples("test")
    right = net(x).argmax(-1) == y  # (K, N)
    first, cost = right.int().argmax(0), torch.tensor(flops()).double() / full()
    wrong = ~right[-1]
    return {
        "wrong": wrong.nonzero().squeeze(-1).tolist(),
        "destructive": (wrong & right.any(0)).nonzero().squeeze(-1).tolist(),
        "wasteful": (right[-1] & right[:-1].any(0)).double().mean().item(),
        "rescued": (right[-1] & ~right[0]).double().mean().item(),
        "oracle's cost": cost[torch.where(right.any(0), first, 0)].mean().item(),
    }


WAYS = ["joint", "layer-wise", "separate", "full", "depth 2"]
WAYS += [f"{way}, FLOPs" for way in WAYS if way not in ("joint", "full")]
GRID = {"seed": SEEDS, "way": WAYS, "lr": RATES}


def run(seed: int, way: str, lr: float, shorten: float = 1) -> dict:
    """One training: what `measure` says; of joint and separate training `overthinking`, too."""
    net = train(way, lr, seed=seed, shorten=shorten)
    regime, size, _ = plan(way)
    rules = RULES if regime == "joint" else ["entropy"]
    result = measure(net, rules, flops(*size, exits=regime != "static"))
    return result | ({"overthinking": overthinking(net)} if way in ("joint", "separate") else {})


def small() -> dict:
    return {"seed": 0, "way": "depth 2", "lr": 6e-3, "shorten": 100}


# ------------------------------------------------------------------------------------------------- reading the record


def best(entries: list[dict], value: Callable[[dict], float]) -> list[dict]:
    """Of entries of several rates those of the rate with the highest mean value, which is held out, one a seed."""
    rates = sorted({entry["lr"] for entry in entries})
    means = {lr: [value(entry) for entry in entries if entry["lr"] == lr] for lr in rates}
    picked = max(rates, key=lambda lr: sum(means[lr]) / len(means[lr]))
    return sorted((entry for entry in entries if entry["lr"] == picked), key=lambda entry: entry["seed"])
