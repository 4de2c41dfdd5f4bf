"""Find the digit, notebook 02: every way to choose, with four learning rates, for 2,000 steps.

The criterion: of each way the rate with the highest accuracy, looking once, on validation scenes at the end, mean over
seeds. At 2,000 steps the coldest and the hottest are still rising.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.choice import Choice, argmax, gumbel_softmax, sample, softmax, straight_through
from lecture_lib.data import Scenes, digits, find_the_digit
from lecture_lib.models import MLP
from lecture_lib.training import evaluate, fit


class Finder(nn.Module):
    """Score every patch, choose, classify: y = Σ_k z_k · f(x_k). Patches (B, K, 8, 8) in, logits (B, 10) out.

    Args:
        choose: scores (B, K) -> Choice.
        width: hidden units of the classifier f, the same for all patches.
        scale: the scores are multiplied by it.
    """

    def __init__(self, choose: Callable[[Tensor], Choice], *, width: int = 64, scale: float = 1.0):
        super().__init__()
        self.score, self.classify = MLP(64, 32, 1), MLP(64, width, 10)
        self.choose, self.scale = choose, scale

    def scores(self, patches: Tensor) -> Tensor:
        return self.scale * self.score(patches.flatten(2)).squeeze(-1)

    def forward(self, patches: Tensor) -> tuple[Tensor, Choice]:
        choice = self.choose(self.scores(patches))
        return (choice.weights.unsqueeze(-1) * self.classify(patches.flatten(2))).sum(1), choice


def at_random(scores: Tensor) -> Choice:
    """Any option, whatever its score."""
    return sample(torch.zeros_like(scores))


def hard(scores: Tensor, temperature: float) -> Choice:
    """Gumbel-Softmax with a one-hot value."""
    return straight_through(gumbel_softmax(scores, temperature))


def cooling(steps: int, first: float = 10.0, last: float = 0.5) -> Callable[[Tensor], Choice]:
    """Gumbel-Softmax whose temperature falls from `first` to `last` by the same factor a call, in `steps` calls."""
    calls = 0

    def choose(scores: Tensor) -> Choice:
        nonlocal calls
        temperature = first * (last / first) ** min(calls / steps, 1)
        calls += scores.requires_grad  # in training
        return gumbel_softmax(scores, temperature)

    return choose


WAYS = {
    "random": {"choose": at_random},
    "argmax": {"choose": argmax},
    "softmax": {"choose": softmax},
    **{f"Gumbel-Softmax, λ = {t:g}": {"choose": partial(gumbel_softmax, temperature=t)} for t in (0.1, 0.5, 2, 10, 30)},
    "straight-through, λ = 2": {"choose": partial(hard, temperature=2)},
    "cooling from 10 to 0.5": {"choose": cooling},
    "λ = 30, scores × 30": {"choose": partial(gumbel_softmax, temperature=30), "scale": 30.0},
    "scores / 30, no noise": {"choose": softmax, "scale": 1 / 30},
    "λ = 0.1, mean of 8 samples": {"choose": partial(gumbel_softmax, temperature=0.1), "samples": 8},
    "softmax, classifier 8 wide": {"choose": softmax, "width": 8},
}
KEPT = (100, 200, 300, 400, 500, 700, 1000, 1300, 1600, 2000)  # the steps whose measures a record holds


def scenes(seed: int) -> Iterator[Scenes]:
    """Endless training scenes; the last 257 training digits are kept apart, to pick the learning rate on."""
    data, generator = digits(), torch.Generator().manual_seed(seed)
    while True:
        yield find_the_digit(data.train_x[:1000], data.train_y[:1000], generator=generator)


def held_out(part: str) -> Scenes:
    """1,080 scenes of digits that no training scene holds: "validation", or "test"."""
    data, generator = digits(), torch.Generator().manual_seed(99)
    if part == "test":
        return find_the_digit(data.test_x, data.test_y, n_scenes=1080, generator=generator)
    return find_the_digit(data.train_x[1000:], data.train_y[1000:], n_scenes=1080, generator=generator)


def look(finder: Finder, patches: Tensor, label: Tensor, position: Tensor) -> dict[str, Tensor]:
    """Per scene: what looking once gives at test time, and the losses of mixed and of single patches."""
    rows = torch.arange(len(patches))
    scores, every = finder.scores(patches), finder.classify(patches.flatten(2))  # (B, K, 10)
    pick = at_random if finder.choose is at_random else argmax
    picked = pick(scores).weights.argmax(-1)
    choice = finder.choose(scores)
    sampled = choice.weights.argmax(-1)
    mixed = (choice.weights.unsqueeze(-1) * every).sum(1)
    return {
        "accuracy": every[rows, picked].argmax(-1) == label,
        "right patch": picked == position,
        "accuracy, mixed": mixed.argmax(-1) == label,
        "accuracy, right patch given": every[rows, position].argmax(-1) == label,
        "relaxed loss": F.cross_entropy(mixed, label, reduction="none"),
        "hard loss": F.cross_entropy(every[rows, sampled], label, reduction="none"),
        "argmax loss": F.cross_entropy(every[rows, picked], label, reduction="none"),
    }


def train(
    choose, *, width=64, scale=1.0, samples=1, lr=5e-3, steps=500, every=50, seed=0
) -> tuple[Finder, list[dict[str, float]]]:
    """A finder and its history: the step, the means of `look` on test scenes, the accuracy on validation scenes.

    Args:
        samples: over how many choices the loss of a batch is averaged.
    """
    torch.manual_seed(seed)
    finder = Finder(choose(steps) if choose is cooling else choose, width=width, scale=scale)
    test, validation = held_out("test"), held_out("validation")

    def loss(patches: Tensor, label: Tensor, position: Tensor) -> Tensor:
        scores, every = finder.scores(patches), finder.classify(patches.flatten(2))  # (B, K), (B, K, 10)
        weights = [finder.choose(scores).weights.unsqueeze(-1) for _ in range(samples)]
        return sum(F.cross_entropy((z * every).sum(1), label) for z in weights) / samples

    def measure() -> dict[str, float]:
        kept_apart = evaluate(finder, partial(look, finder), [validation])["accuracy"]
        return evaluate(finder, partial(look, finder), [test]) | {"validation": kept_apart}

    return finder, fit(finder, loss, scenes(seed), steps=steps, lr=lr, measure=measure, every=every, label=f"{seed}")


GRID = {"seed": range(3), "way": list(WAYS), "lr": [6e-4, 2e-3, 5e-3, 1.5e-2]}


def run(seed: int, way: str, lr: float, steps: int = 2000) -> dict[str, list[float]]:
    """The history of one training at the steps KEPT: a list for each measure."""
    history = train(**WAYS[way], lr=lr, steps=steps, every=100, seed=seed)[1]
    rows = [row for row in history if row["step"] in KEPT]
    return {name: [round(row[name], 4) for row in rows] for name in rows[0]}


def small() -> dict:
    return {"seed": 0, "way": "Gumbel-Softmax, λ = 2", "lr": 5e-3, "steps": 100}
