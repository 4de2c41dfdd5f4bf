"""Bits a byte of PPMd, a compressor that counts, on the test pieces of the texts that the language model learns.

Three times: after the very windows that the networks of `adapters_language_model` see with that seed; after all pieces
that they are drawn from; after the sources of Python, which the language model knew before, and then those windows. How
many bytes it looks at (its order) is picked on the held-out pieces. It goes on counting in what is measured.
"""

import itertools
from functools import cache

import torch

from lecture_lib.pretrained.adapting import TEXTS, parts, sources, windows
from lecture_lib.recorded.adapters_language_model import STEPS, WINDOWS
from lecture_lib.recorded.adaptive_language_model_compressors import ORDERS as FEWER
from lecture_lib.recorded.adaptive_language_model_compressors import ppmd

ORDERS = (*FEWER, 24)
GRID = {"seed": (0, 1, 2), "text": TEXTS, "after": ("as much", "all", "Python and as much")}


@cache
def added(before: bytes, text: bytes, order: int) -> float:
    return 8 * (len(ppmd(before + text, order)) - len(ppmd(before, order))) / len(text)


def run(seed: int, text: str, after: str, steps: int = STEPS, orders: list = ORDERS) -> dict:
    learnt, *measured = parts(text)
    seen = torch.cat(list(itertools.islice(windows(text, WINDOWS, seed), steps)))
    before = bytes((learnt if after == "all" else seen).flatten().tolist())
    if after.startswith("Python"):
        before = bytes(sources("python").train.tolist()) + before
    held_out, test = (bytes(part.tolist()) for part in measured)
    found = [added(before, held_out, order) for order in orders]
    order = orders[found.index(min(found))]
    return {"order": order, "held out": found, "bytes before": len(before), "test": added(before, test, order)}


def small() -> dict:
    return {"seed": 0, "text": "language", "after": "as much", "steps": 5, "orders": [4]}
