"""Sixteen codes, notebook 08: routers, cures of their collapse and dense networks, each at its best.

One image has another name in each of sixteen codes. A network gets the image and the code, and gives the name.

The criterion, from before any search: for each method and number of steps, the setting of the grid (learning
rate, and strength of a cure) with the best mean accuracy of three seeds on held-out images; the longest training
takes the setting of the one before. Then five other seeds, on test images. Learning rates fall in a line to 0: each
number of steps is a training of its own.

Runs of one method are trained side by side: all parameters have a leading dimension of runs.

Shapes: R runs side by side, B examples, E experts, D width, H hidden units of an expert.
"""

import itertools
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from lecture_lib.choice import argmax
from lecture_lib.data import Digits, digits
from lecture_lib.moe import expert_choice, switch

N_CODES, D, BATCH = 16, 32, 128
RATES = (3e-3, 1e-2, 3e-2)  # of learning, at the start: the same for all methods
SEEDS, SEARCH = (0, 1, 2, 3, 4), (100, 101, 102)
STEPS = (300, 1200, 4800)


@dataclass(frozen=True)
class Method:
    """How a network routes, and its size. The layer of experts stands beside one hidden layer of D units."""

    route: str = "switch"  # or "at random", "code given", "expert choice", "bias"
    n_experts: int = 16
    d_hidden: int = 8
    loss: str = ""  # "balance" or "z", added to the task's with a strength
    strengths: tuple[float, ...] = (0.0,)  # that are tried, of the loss or for the step of the bias
    normalise: str = ""  # the input of "router" alone, or of "both", router and experts


BALANCE = {"loss": "balance", "strengths": (0.01, 0.1)}
METHODS = {
    "left alone": Method(),
    "balance loss": Method(**BALANCE),
    "dense, H = 8": Method(n_experts=1),
    "dense, H = 16": Method(n_experts=1, d_hidden=16),
    "dense, H = 40": Method(n_experts=1, d_hidden=40),
    "dense, H = 128": Method(n_experts=1, d_hidden=128),
    "code given": Method(route="code given"),
    "at random": Method(route="at random"),
    "layer normalisation": Method(normalise="both"),
    "normalised for the router": Method(normalise="router"),
    "dense, H = 16, normalised": Method(n_experts=1, d_hidden=16, normalise="both"),
    "balancing bias": Method(route="bias", strengths=(0.001, 0.01)),
    "normalisation and balance loss": Method(normalise="both", **BALANCE),
    "expert choice": Method(route="expert choice"),
    "64 experts": Method(n_experts=64, **BALANCE),
}


def codebook() -> Tensor:
    """The name of each digit in each code: (16, 10). In code 0, a 7 is called 7."""
    names = [torch.randperm(10, generator=torch.Generator().manual_seed(code)) for code in range(N_CODES)]
    return torch.stack([torch.arange(10), *names[1:]])


def cost(method: Method) -> dict[str, int]:
    """FLOPs of the layer for a token, router included, and its weights. A dense network has no router."""
    router, expert = D * method.n_experts * (method.n_experts > 1), 2 * D * method.d_hidden
    return {"flops": 2 * (router + expert), "weights": router + method.n_experts * expert}


class Readers:
    """R networks of one method: an image and a code in, the digit's name in that code out.

    All experts are computed, and those not chosen get the weight 0: value and gradient are those of
    `moe.MoE`, which skips them, and runs can stand side by side.
    """

    def __init__(self, method: Method, seeds: list[int], strengths: list[float]):
        e, h = method.n_experts, method.d_hidden
        fans = {"pixels": (64, 64, D), "bias": (64, D), "code": (1, N_CODES, D), "router": (D, D, e)}
        fans |= {"w_in": (D, e, D, h), "w_out": (h, e, h, D), "head": (D, D, 10), "head_bias": (D, 10)}
        runs = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.weights = {
            name: torch.stack([(2 * torch.rand(shape, generator=run) - 1) / fan**0.5 for run in runs]).requires_grad_()
            for name, (fan, *shape) in fans.items()
        }
        self.method, self.strength = method, torch.tensor(strengths)
        self.balancing = torch.zeros(len(seeds), 1, e)

    def route(self, s: Tensor, code: Tensor) -> Tensor:
        """Scores (R, B, E) -> the experts' weights z."""
        match self.method.route:
            case "at random":
                return argmax(torch.rand_like(s)).weights
            case "code given":
                return F.one_hot(code, N_CODES).to(s)
            case "expert choice":
                return torch.stack([expert_choice(run).weights for run in s])
            case "bias":
                p = s.softmax(-1)
                return p * argmax(p.detach() + self.balancing).weights
        return switch(s).weights

    def __call__(self, image: Tensor, code: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (R, B, 64) and codes (R, B) -> logits (R, B, 10), the router's scores and z (R, B, E)."""
        w = self.weights
        own = w["code"].gather(1, code.unsqueeze(-1).expand(-1, -1, D))
        h = F.relu(image @ w["pixels"] + w["bias"].unsqueeze(1) + own)  # (R, B, D)
        even = F.layer_norm(h, (D,))
        x = even if self.method.normalise == "both" else h
        s = (even if self.method.normalise else h) @ w["router"]
        z = self.route(s, code)
        inside = F.relu(x @ w["w_in"].transpose(1, 2).flatten(2))  # (R, B, E·H)
        inside = (inside.unflatten(-1, (s.shape[-1], -1)) * z.unsqueeze(-1)).flatten(-2)
        y = inside @ w["w_out"].flatten(1, 2)
        return (h + y) @ w["head"] + w["head_bias"].unsqueeze(1), s, z

    def extra(self, s: Tensor, z: Tensor) -> Tensor:
        """The loss that is added to the task's: (R,)."""
        if self.method.loss == "balance":
            load = (z > 0).float().mean(1)
            return self.strength * s.shape[-1] * (load * s.softmax(-1).mean(1)).sum(-1)
        if self.method.loss == "z":
            return self.strength * s.logsumexp(-1).square().mean(1)
        return torch.zeros(len(s))

    def balance(self, z: Tensor) -> None:
        """One step of the bias: the busy down, the idle up."""
        if self.method.route == "bias":
            load = (z > 0).float().mean(1, keepdim=True)
            self.balancing += self.strength.view(-1, 1, 1) * (1 / z.shape[-1] - load).sign()


def train(
    method: Method, runs: list[tuple[int, float, float]], steps: int, every: int | None = None, n_codes: int = N_CODES
) -> tuple[Readers, list[list[dict]]]:
    """Train a method, a run for each (seed, learning rate, strength), and measure at the end, or `every` so often.

    Adam, 128 examples a step of 1,000 training images in a random code. Accuracy is that of the 257 other training
    images ("held_out") and of the test images, each in `n_codes` of the codes; loads are of the latter.

    Returns: the networks; and for each run, for each time that it was measured, {"step", "held_out", "test", "load"}.
    """
    seeds, rates, strengths = map(list, zip(*runs, strict=True))
    data, names, rate = digits(), codebook(), torch.tensor(rates)
    x, y = data.train_x.flatten(1), data.train_y
    torch.manual_seed(seeds[0])  # for routing at random
    model = Readers(method, seeds, strengths)
    streams = {seed: torch.Generator().manual_seed(10_000 + seed) for seed in seeds}
    moments = {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in model.weights.items()}
    history: list[list[dict]] = [[] for _ in runs]
    for step in range(1, steps + 1):
        drawn = {seed: torch.randint(1000 * N_CODES, (BATCH,), generator=stream) for seed, stream in streams.items()}
        rows = torch.stack([drawn[seed] for seed in seeds])
        image, code = rows // N_CODES, rows % N_CODES
        logits, s, z = model(x[image], code)
        task = F.cross_entropy(logits.transpose(1, 2), names[code, y[image]], reduction="none").mean(1)
        (task + model.extra(s, z)).sum().backward()  # runs share no weight: each gets its own gradient
        with torch.no_grad():
            model.balance(z)
            _adam(model.weights, moments, rate * (1 - (step - 1) / steps), step)
            if step == steps or (every and step % every == 0):
                for row, measured in zip(history, _measure(model, data, names, n_codes), strict=True):
                    row.append({"step": step} | measured)
    return model, history


def _adam(weights: dict[str, Tensor], moments: dict, rate: Tensor, step: int) -> None:
    """Kingma and Ba 2015, with a learning rate for each run."""
    for name, w in weights.items():
        if w.grad is None:
            continue
        first, second = moments[name]
        first.lerp_(w.grad, 0.1)
        second.mul_(0.999).addcmul_(w.grad, w.grad, value=0.001)
        size = rate.view(-1, *[1] * (w.ndim - 1)) / (1 - 0.9**step)
        w -= size * first / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        w.grad = None


def _measure(model: Readers, data: Digits, names: Tensor, n_codes: int) -> list[dict]:
    parts = {"held_out": (data.train_x[1000:], data.train_y[1000:]), "test": (data.test_x, data.test_y)}
    runs: list[dict] = [{} for _ in model.strength]
    for part, (x, y) in parts.items():
        nth = torch.arange(n_codes * len(x))
        code = (nth + nth // len(x)) % N_CODES  # an image is read in n_codes different ones
        truth, right, load = names[code, y.repeat(n_codes)], [], []
        for chosen in nth.split(2000):
            image = x.flatten(1)[chosen % len(x)].expand(len(runs), -1, -1)
            logits, _, z = model(image, code[chosen].expand(len(runs), -1))
            right.append(logits.argmax(-1) == truth[chosen])
            load.append((z > 0).float())
        right, load = torch.cat(right, 1).float().mean(1), torch.cat(load, 1)
        load = load.sum(1) / load.sum((1, 2)).unsqueeze(-1)
        for run, accuracy, shares in zip(runs, right.tolist(), load.tolist(), strict=True):
            run[part], run["load"] = accuracy, shares
    return runs


@cache
def at_its_best(name: str, steps: tuple[int, ...]) -> list[dict]:
    """A method, its setting picked for each number of steps: a dict for each of `SEEDS`."""
    method, results, rate, strength = METHODS[name], [{} for _ in SEEDS], 0.0, 0.0
    for n in steps:
        tried = []
        if n == steps[0] or n < steps[-1]:
            settings = list(itertools.product(RATES, method.strengths))
            runs = [(seed, *setting) for setting in settings for seed in SEARCH]
            _, history = train(method, runs, n)
            found = torch.tensor([rows[-1]["held_out"] for rows in history]).view(-1, len(SEARCH)).mean(1)
            rate, strength = settings[int(found.argmax())]
            tried = [[*setting, round(value, 4)] for setting, value in zip(settings, found.tolist(), strict=True)]
        _, history = train(method, [(seed, rate, strength) for seed in SEEDS], n)
        for result, (row,) in zip(results, history, strict=True):
            uneven = max(row["load"]) * method.n_experts
            result[str(n)] = {"rate": rate, "strength": strength, "test": row["test"], "max_over_mean": uneven}
            result[str(n)]["tried"] = tried  # [rate, strength, held out]
    return results


GRID = {"method": list(METHODS), "seed": SEEDS}


def run(seed: int, method: str, steps=STEPS) -> dict:
    """For each number of steps what was picked, the accuracy on test images, the largest load over the mean."""
    return at_its_best(method, tuple(steps))[SEEDS.index(seed)]


def small() -> dict:
    return {"seed": 0, "method": "balance loss", "steps": [20]}
