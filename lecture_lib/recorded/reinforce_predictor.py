"""Find the digit, notebook 03: a predictor that tries the black box where it believes in it, with three rates.

It calls the box for a patch that is drawn from the softmax of its own scores; that of `reinforce` draws uniformly. The
criterion is that of `reinforce`: at each number of steps the rate with the highest accuracy, looking once, on
validation scenes, mean over seeds.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lecture_lib.choice import sample
from lecture_lib.recorded.gumbel_softmax import Finder, held_out, scenes
from lecture_lib.recorded.reinforce import mistakes
from lecture_lib.training import fit


def predicted_drawn(finder: Finder, patches: Tensor, label: Tensor) -> Tensor:
    """Call the box for a patch drawn from the softmax of the scores; the score of this patch predicts its answer."""
    scores, rows = finder.scores(patches), torch.arange(len(patches))
    at = sample(scores.detach()).weights.argmax(-1)
    right = 1 - mistakes(patches.flatten(2)[rows, at], label)
    return F.binary_cross_entropy_with_logits(scores[rows, at], right, reduction="none")


GRID = {"seed": range(3), "way": ["box: predict, own softmax"], "lr": [2e-3, 5e-3, 1.5e-2]}


def run(seed: int, way: str, lr: float, steps: int = 500) -> dict[str, list[float]]:
    """The history of one training, every 100 steps: a list for each measure."""
    torch.manual_seed(seed)
    finder, parts = Finder(sample), {"accuracy": held_out("test"), "validation": held_out("validation")}
    right = {
        name: 1 - mistakes(part.patches.flatten(2), part.label[:, None].expand(part.patches.shape[:2]))
        for name, part in parts.items()
    }

    def measure() -> dict[str, float]:
        once = {name: finder.scores(part.patches).argmax(-1, keepdim=True) for name, part in parts.items()}
        return {name: right[name].gather(-1, once[name]).mean().item() for name in parts}

    def objective(patches: Tensor, label: Tensor, position: Tensor) -> Tensor:
        return predicted_drawn(finder, patches, label).mean()

    options = {"steps": steps, "lr": lr, "measure": measure, "every": 100, "label": f"{seed}"}
    history = fit(finder, objective, scenes(seed), **options)
    return {name: [round(row[name], 4) for row in history] for name in ("step", "accuracy", "validation")}


def small() -> dict:
    return {"seed": 0, "way": "box: predict, own softmax", "lr": 5e-3, "steps": 8}
