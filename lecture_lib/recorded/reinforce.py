"""Find the digit, notebook 03: REINFORCE with 1, 4 and 32 samples, and the exact gradient that they estimate.

Task and network are those of notebook 02. The criterion: of each way, and for each number of steps that is reported,
the learning rate with the highest accuracy, looking once, on validation scenes, mean over seeds. The weight of the
entropy bonus, 0.1, was set beforehand.

The black box: three nearest neighbours, frozen, in place of the classifier; only the scorer learns.
"""

from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from lecture_lib.choice import gumbel_softmax, sample
from lecture_lib.data import digits
from lecture_lib.estimators import MovingAverage, leave_one_out, surrogate
from lecture_lib.recorded.gumbel_softmax import Finder, held_out, scenes
from lecture_lib.training import fit


def entropy(scores: Tensor) -> Tensor:
    """Of softmax(scores): 0 for a choice that is certain, log K for a uniform one. (..., K) -> (...)"""
    return -(scores.softmax(-1) * scores.log_softmax(-1)).sum(-1)


def reinforce(finder: Finder, patches: Tensor, label: Tensor, *, baseline: Callable, samples: int = 1) -> Tensor:
    """The loss of `samples` patches picked at random for each scene, (S, B): only these are classified."""
    x = patches.flatten(2)  # (B, K, 64)
    choice = sample(finder.scores(patches).expand(samples, -1, -1))  # z one-hot, (S, B, K)
    picked = x[torch.arange(len(x)), choice.weights.argmax(-1)]  # one patch, copied, (S, B, 64)
    y = finder.classify(picked)  # (S, B, 10)
    cost = F.cross_entropy(y.mT, label.expand(samples, -1), reduction="none")
    return surrogate(cost, choice.log_prob, baseline(cost))


def exact(finder: Finder, patches: Tensor, label: Tensor) -> Tensor:
    """The expected cost (B,), by classifying every patch: what `reinforce` estimates, without noise."""
    every = finder.classify(patches.flatten(2))  # (B, K, 10)
    cost = F.cross_entropy(every.mT, label[:, None].expand(every.shape[:2]), reduction="none")
    return (finder.scores(patches).softmax(-1) * cost).sum(-1)


def relaxed(finder: Finder, patches: Tensor, label: Tensor) -> Tensor:
    """The loss of a Gumbel-Softmax mixture at temperature 2, (B,), by classifying every patch."""
    z = gumbel_softmax(finder.scores(patches), 2.0).weights
    y = (z.unsqueeze(-1) * finder.classify(patches.flatten(2))).sum(1)
    return F.cross_entropy(y, label, reduction="none")


@cache
def box() -> KNeighborsClassifier:
    data = digits()
    return KNeighborsClassifier(3, algorithm="brute").fit(data.train_x[:1000].flatten(1), data.train_y[:1000])


def mistakes(x: Tensor, label: Tensor) -> Tensor:
    """Whether the box is wrong, 0 or 1: images (..., 64) and labels (...) in. No gradient goes in, none comes out."""
    said = torch.from_numpy(box().predict(x.detach().flatten(0, -2).numpy()))
    return (said.view(label.shape) != label).float()


def boxed(finder: Finder, patches: Tensor, label: Tensor, *, baseline: Callable) -> Tensor:
    """`reinforce` with one call of the box a scene, (B,)."""
    choice = sample(finder.scores(patches))
    picked = patches.flatten(2)[torch.arange(len(patches)), choice.weights.argmax(-1)]
    cost = mistakes(picked, label)
    return surrogate(cost, choice.log_prob, baseline(cost))


def boxed_exact(finder: Finder, patches: Tensor, label: Tensor) -> Tensor:
    """The expected number of mistakes (B,), by nine calls of the box a scene."""
    cost = mistakes(patches.flatten(2), label[:, None].expand(patches.shape[:2]))
    return (finder.scores(patches).softmax(-1) * cost).sum(-1)


def predicted(finder: Finder, patches: Tensor, label: Tensor) -> Tensor:
    """No gradient of a choice: call the box for any patch, learn to predict its answer by the score of this patch."""
    at = torch.randint(patches.shape[1], label.shape)
    rows = torch.arange(len(patches))
    right = 1 - mistakes(patches.flatten(2)[rows, at], label)
    return F.binary_cross_entropy_with_logits(finder.scores(patches)[rows, at], right, reduction="none")


WAYS = {
    "exact gradient": {"loss": exact, "steps": 1300},
    "REINFORCE, S = 32": {"loss": reinforce, "samples": 32, "steps": 500},
    "REINFORCE, S = 4": {"loss": reinforce, "samples": 4, "steps": 1300},
    "REINFORCE, S = 1": {"loss": reinforce, "steps": 2700},
    "exact gradient, bonus": {"loss": exact, "bonus": 0.1, "steps": 700},
    "REINFORCE, S = 4, bonus": {"loss": reinforce, "samples": 4, "bonus": 0.1, "steps": 700},
    "Gumbel-Softmax, bonus": {"loss": relaxed, "bonus": 0.1, "steps": 700},
    "box: REINFORCE": {"loss": boxed, "steps": 500},
    "box: exact gradient": {"loss": boxed_exact, "steps": 500},
    "box: predict the answer": {"loss": predicted, "steps": 500},
}


def train(loss, *, samples=None, bonus=0.0, lr=5e-3, steps=500, every=100, seed=0) -> tuple[Finder, list[dict]]:
    """A finder and its history. A row: step; on test scenes the accuracy by argmax and by a sampled pick, how often
    argmax is the right patch, and the entropy; on validation scenes the accuracy by argmax.

    Args:
        loss: (finder, patches, label) -> losses, their mean is minimised; one above, `reinforce` with `samples`.
        bonus: so many times the mean entropy of the choice is subtracted from it.
    """
    torch.manual_seed(seed)
    finder, by_box = Finder(sample), loss in (boxed, boxed_exact, predicted)
    if loss in (reinforce, boxed):
        loss = partial(loss, baseline=leave_one_out if samples else MovingAverage(0.9))
    if samples:
        loss = partial(loss, samples=samples)

    def objective(patches: Tensor, label: Tensor, position: Tensor) -> Tensor:
        mean = loss(finder, patches, label).mean()
        return mean - bonus * entropy(finder.scores(patches)).mean() if bonus else mean

    def right_class(patches: Tensor, label: Tensor) -> Tensor:
        """Of each patch alone, (B, K)."""
        if by_box:
            return 1 - mistakes(patches.flatten(2), label[:, None].expand(patches.shape[:2]))
        return (finder.classify(patches.flatten(2)).argmax(-1) == label[:, None]).float()

    def looked(patches: Tensor, right: Tensor, position: Tensor) -> dict[str, float]:
        scores = finder.scores(patches)
        once = F.one_hot(scores.argmax(-1), right.shape[1])
        return {
            "accuracy": (once * right).sum(-1).mean().item(),
            "accuracy, sampled": (scores.softmax(-1) * right).sum(-1).mean().item(),
            "right patch": (scores.argmax(-1) == position).float().mean().item(),
            "entropy": entropy(scores).mean().item(),
        }

    test, validation = held_out("test"), held_out("validation")
    answers = [right_class(part.patches, part.label) for part in (test, validation)] if by_box else None

    def measure() -> dict[str, float]:
        rights = answers or [right_class(part.patches, part.label) for part in (test, validation)]
        kept_apart = looked(validation.patches, rights[1], validation.position)["accuracy"]
        return looked(test.patches, rights[0], test.position) | {"validation": kept_apart}

    options = {"steps": steps, "lr": lr, "measure": measure, "every": every, "label": f"{seed}"}
    return finder, fit(finder, objective, scenes(seed), **options)


GRID = {"seed": range(5), "way": list(WAYS), "lr": [2e-3, 5e-3, 1.5e-2]}


def run(seed: int, way: str, lr: float, steps: int | None = None) -> dict[str, list[float]]:
    """The history of one training, every 100 steps: a list for each measure."""
    settings = WAYS[way] | ({"steps": steps} if steps else {})
    history = train(**settings, lr=lr, seed=seed)[1]
    return {name: [round(row[name], 4) for row in history] for name in history[0] if name != "loss"}


def small() -> dict:
    return {"seed": 0, "way": "REINFORCE, S = 4", "lr": 5e-3, "steps": 100}
