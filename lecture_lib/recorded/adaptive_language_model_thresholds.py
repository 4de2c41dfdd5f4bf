"""A margin threshold at each of many values, where bytes really leave: what is predicted, and what it costs.

400 texts of 128 bytes, spread evenly over all held-out files; the second half of each is judged. A byte leaves at the
first exit whose margin reaches the threshold, and later bytes see its state copied upwards. The first half, the prompt,
takes all layers (`careful` = 64), or leaves early as well (`careful` = 0).
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from lecture_lib.data import python_sources
from lecture_lib.pretrained import load
from lecture_lib.pretrained.decoder import exit_while_reading, softmax_margin
from lecture_lib.recorded.adaptive_language_model_settings import cost_at

PROMPT, JUDGED, WIDTH = 64, 64, 176
THRESHOLDS = [1.0, 0.999, 0.998, 0.996, 0.994, 0.99, 0.985, 0.98, 0.975, 0.97, 0.96, 0.95, 0.94, 0.93, 0.92, 0.9, 0.88]
THRESHOLDS += [0.86, 0.84, 0.82, 0.8, 0.78, 0.76, 0.74, 0.72, 0.7, 0.67, 0.64, 0.6, 0.55, 0.5, 0.4, 0.3, 0.2]
GRID = {"seed": [0], "careful": [64, 0], "threshold": THRESHOLDS}  # from the safest to the boldest


@cache
def texts(size: int = 400) -> Tensor:
    """(size, PROMPT + JUDGED + 1) bytes; of the last nothing follows."""
    text = python_sources().test
    start = torch.linspace(0, len(text) - PROMPT - JUDGED - 1, size).long()
    return text[start[:, None] + torch.arange(PROMPT + JUDGED + 1)].long()


@cache
@torch.no_grad()
def cuts(size: int = 400) -> Tensor:
    """Logits (K, size, JUDGED, 256) of each exit, where nobody leaves."""
    model = load("language_model")
    states = torch.cat([model.states(rows[:, :-1])[:, :, PROMPT:] for rows in texts(size).split(50)], 1)
    return torch.stack([model.read(k, state) for k, state in enumerate(states)])


def flops(exit: Tensor, *, exits: bool) -> Tensor:
    """FLOPs of each judged byte (..., JUDGED) that leaves at an exit: as `cost_at`, and attention in each layer run."""
    seen = torch.arange(PROMPT, PROMPT + JUDGED) + 1
    return cost_at("as it ships", exit, exits=exits) + (exit + 1) * 4 * WIDTH * seen


def judge(logits: Tensor, size: int = 400) -> dict:
    """Of each text, how many bytes differ from the full model's; accuracy and bits a byte of all."""
    said, target = logits.argmax(-1), texts(size)[:, PROMPT + 1 :]
    nats = F.cross_entropy(logits.flatten(0, 1), target.flatten()).item()
    return {
        "differ": (said != cuts(size)[-1].argmax(-1)).sum(-1).tolist(),
        "accuracy": (said == target).double().mean().item(),
        "bits": nats / math.log(2),
    }


@torch.no_grad()
def run(seed: int, careful: int, threshold: float, size: int = 400) -> dict:
    """What is predicted, and of the judged bytes the mean exit and the mean FLOPs."""
    found = [
        exit_while_reading(load("language_model"), rows[:, :-1], softmax_margin, threshold, careful=careful)
        for rows in texts(size).split(50)
    ]
    leaves = torch.cat([part.exit_index[:, PROMPT:] for part in found])
    return judge(torch.cat([part.logits[:, PROMPT:] for part in found]), size) | {
        "exit": leaves.double().mean().item(),
        "FLOPs": flops(leaves, exits=True).mean().item(),
    }


def small() -> dict:
    return {"seed": 0, "careful": 64, "threshold": 0.6, "size": 20}
