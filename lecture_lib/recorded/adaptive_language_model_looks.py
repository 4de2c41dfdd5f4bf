"""Fewer looks: the network that ships, the same weights, the head asked after some layers only.

Everybody leaves, the prompt too. Exits count every layer run, attention, the heads asked, and the keys and values owed;
they are compared with cuts of the same weights, and a straight line between two cuts, at equal FLOPs, text by text.

The looks are chosen on the first half of the held-out files ("pick": the largest mean gain in bits over the
thresholds), and reported on the second half ("test").
"""

import math
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lecture_lib.data import python_sources
from lecture_lib.pretrained import load
from lecture_lib.pretrained.decoder import AtExit, exit_while_reading, softmax_margin
from lecture_lib.recorded.adaptive_language_model_settings import costs
from lecture_lib.recorded.adaptive_language_model_thresholds import JUDGED, PROMPT, flops

LAST = 5
GRID = {
    "seed": [0],
    "part": ["pick", "test"],
    "looks": ["0 1 2 3 4 5", "1 3 5", "1 5", "2 5", "3 5", "4 5"],
    "threshold": [0.95, 0.9, 0.8, 0.7, 0.5],
}
SIZE = {"pick": 200, "test": 400}


@cache
def texts(part: str, size: int) -> Tensor:
    """(size, PROMPT + JUDGED + 1) bytes, spread evenly over the first or the second half of the held-out files."""
    text = python_sources().test
    text = text[: len(text) // 2] if part == "pick" else text[len(text) // 2 :]
    start = torch.linspace(0, len(text) - PROMPT - JUDGED - 1, size).long()
    return text[start[:, None] + torch.arange(PROMPT + JUDGED + 1)].long()


@cache
@torch.no_grad()
def cuts(part: str, size: int) -> Tensor:
    """Logits (K, size, JUDGED, 256) of each exit, where nobody leaves."""
    model = load("language_model")
    states = torch.cat([model.states(rows[:, :-1])[:, :, PROMPT:] for rows in texts(part, size).split(50)], 1)
    return torch.stack([model.read(k, state) for k, state in enumerate(states)])


def judge(logits: Tensor, part: str, size: int) -> dict[str, np.ndarray]:
    """Three measures of each text."""
    said, target = logits.argmax(-1), texts(part, size)[:, PROMPT + 1 :]
    nats = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view(target.shape)
    return {
        "accuracy": (said == target).double().mean(1).numpy(),
        "bits": nats.double().mean(1).numpy() / math.log(2),
        "agreement": (said == cuts(part, size)[-1].argmax(-1)).double().mean(1).numpy(),
    }


@torch.no_grad()
def run(seed: int, part: str, looks: str, threshold: float, size: int | None = None) -> dict:
    """Exits minus the cut at equal FLOPs: means over texts, and their standard errors."""
    size, asked = size or SIZE[part], [int(k) for k in looks.split()]

    def confidence(at: AtExit) -> Tensor:
        return softmax_margin(at) if at.exit in asked else at.state.new_full(at.state.shape[:-1], -1.0)

    found = [
        exit_while_reading(load("language_model"), rows[:, :-1], confidence, threshold)
        for rows in texts(part, size).split(50)
    ]
    leaves = torch.cat([one.exit_index[:, PROMPT:] for one in found])
    here = judge(torch.cat([one.logits[:, PROMPT:] for one in found]), part, size)
    of = costs("as it ships")
    heads = (leaves[..., None] >= torch.tensor(asked)).sum(-1)
    cost = flops(leaves, exits=False) + (heads - 1) * of["head"] + (LAST - leaves) * of["keys and values"]
    cost = cost.mean().item()
    each = [judge(logits, part, size) for logits in cuts(part, size)]
    line = [flops(torch.full((JUDGED,), k), exits=False).mean().item() for k in range(LAST + 1)]
    weights = [np.interp(cost, line, row) for row in np.eye(LAST + 1)]
    result = {"FLOPs": cost / line[-1], "exit": leaves.double().mean().item()}
    for what, values in here.items():
        gap = values - sum(w * cut[what] for w, cut in zip(weights, each, strict=True))
        result |= {what: gap.mean(), f"{what}, standard error": gap.std(ddof=1) / math.sqrt(size)}
    return {what: float(value) for what, value in result.items()}


def small() -> dict:
    return {"seed": 0, "part": "test", "looks": "3 5", "threshold": 0.8, "size": 10}
