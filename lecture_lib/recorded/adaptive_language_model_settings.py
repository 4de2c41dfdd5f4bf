"""Could exits for each byte beat a cut of the same model? Three settings, written down before any was trained.

The network that ships has six layers of width 176 and asks its head after each. There, at equal FLOPs, cutting it after
layer k for all bytes is better than letting each byte leave at its own layer. Three settings that could change that:

- "deep": twelve layers of width 128, as many parameters; the head is asked after every third.
- "fewer heads": the network that ships, with the head asked after every second layer.
- "copied states": "deep", and in training half of the bytes leave at an exit drawn by chance: the layers behind it see
  their states copied upwards, as they do when a text is written.

The budgets are the costs of the cuts: the layers up to an inner exit, and one head. Exits count every layer run, every
head asked, and the keys and values that layers behind an exit need from a byte that left. At each budget, the threshold
on the margin is the highest whose mean cost on the first half of the held-out files is within it; accuracy and bits a
byte are those of the second half.

The criterion: a setting works if at some budget exits are ahead of the cut both in accuracy and in bits a byte. After
500 steps each, the setting with the largest mean gain in bits over its budgets is trained for 3,000, and beside it, as
long, a network of its own with as many layers as the cut in the middle has, and one head. One seed each.

What came out: after 500 steps none works; by the criterion "fewer heads" is nearest. The criterion was followed, and
picked the wrong one: the means of the two deep settings include a budget at which all bytes leave at the first exit,
for 76 % of the FLOPs; at equal FLOPs both are nearer. After 3,000 steps (`adaptive_language_model_longer`) "fewer
heads" has accuracy .681 against .656 of its cut, bits 1.798 against 1.810, for 102 % of the FLOPs: beside a mixture of
cuts of these FLOPs, a tie in bits. The static network of four layers is ahead of both: .694 and 1.654.
"""

import math
from collections.abc import Iterator
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from lecture_lib.cost import count_flops
from lecture_lib.data import python_sources
from lecture_lib.pretrained.decoder import AtExit, Decoder, exit_while_reading, softmax_margin

CONTEXT, BATCH, LR = 256, 12, 6e-3  # as the network that ships
SIX, TWELVE = {"d_model": 176, "n_heads": 2, "n_layers": 6}, {"d_model": 128, "n_heads": 2, "n_layers": 12}
SETTINGS = {  # the network, and the layers after which the head is asked
    "as it ships": (SIX, (0, 1, 2, 3, 4, 5)),
    "deep": (TWELVE, (2, 5, 8, 11)),
    "fewer heads": (SIX, (1, 3, 5)),
    "copied states": (TWELVE, (2, 5, 8, 11)),
    "static": (TWELVE | {"n_layers": 6}, (5,)),
}
THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.94, 0.97, 0.98, 0.99, 0.995, 0.999)
GRID = {"seed": [0], "setting": ["deep", "fewer heads", "copied states"]}


def windows(text: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        start = torch.randint(len(text) - CONTEXT, (BATCH, 1), generator=generator)
        yield text[start + torch.arange(CONTEXT + 1)].long()


def loss_of(model: Decoder, text: Tensor, asked: tuple[int, ...], leaves: Tensor | None) -> Tensor:
    """Cross-entropy at the exits asked, later ones with more weight, of the bytes that are still there.

    leaves (B, T): the layer after which each byte leaves, and is copied upwards; None: all stay.
    """
    x, target, total = model.embedding(text[:, :-1]), text[:, 1:].flatten(), 0.0
    turns = model.turns(x.shape[1])
    for k, layer in enumerate(model.layers):
        here = torch.ones_like(x[..., 0], dtype=torch.bool) if leaves is None else leaves >= k
        x = torch.where(here[..., None], layer(x, turns), x)
        if k in asked:
            loss = F.cross_entropy(model.read(k, x).float().flatten(0, 1), target, reduction="none")
            total = total + (k + 1) * (loss * here.flatten()).sum() / here.sum()
    return total / sum(k + 1 for k in asked)


def train(setting: str, *, seed: int = 0, steps: int = 500) -> Decoder:
    """Matrices of the layers by Muon, the rest by AdamW, as the network that ships."""
    shape, asked = SETTINGS[setting]
    torch.manual_seed(seed)
    model, generator = Decoder(**shape), torch.Generator().manual_seed(seed)
    matrices = [p for p in model.layers.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if not any(p is q for q in matrices)]
    optimizers = [
        torch.optim.Muon(matrices, lr=LR, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=LR / 2, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    half = torch.backends.cpu.get_cpu_capability() == "AVX512"  # elsewhere bfloat16 is slow
    for step, text in zip(range(steps), windows(python_sources().train, generator), strict=False):
        leaves = None
        if setting == "copied states":
            drawn = torch.tensor(asked)[torch.randint(len(asked), (BATCH, CONTEXT), generator=generator)]
            leaves = torch.where(torch.rand(BATCH, CONTEXT, generator=generator) < 0.5, drawn, asked[-1])
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = loss_of(model, text, asked, leaves)
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.zero_grad()
            for group, lr in zip(optimizer.param_groups, rate, strict=True):
                group["lr"] = lr * min((step + 1) / min(100, steps // 10 + 1), 1 - step / steps)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
    return model.eval()


@cache
def costs(setting: str) -> dict[str, int]:
    """FLOPs for one byte, attention itself left out: a layer, the head, and the keys and values of a layer."""
    shape, _ = SETTINGS[setting]
    model, x = Decoder(**shape), torch.zeros(1, 1, shape["d_model"])
    layer = model.layers[0]
    return {
        "layer": 24 * shape["d_model"] ** 2,
        "head": count_flops(model.head, x),
        "keys and values": count_flops(layer.key_value, x),
    }


def cost_at(setting: str, exit: Tensor | int, *, exits: bool) -> Tensor:
    """FLOPs of a byte that leaves after a layer: of a cut there, or with all heads on the way and what it owes."""
    (shape, asked), of = SETTINGS[setting], costs(setting)
    exit = torch.as_tensor(exit)
    heads = (exit[..., None] >= torch.tensor(asked)).sum(-1) if exits else 1
    owed = (shape["n_layers"] - 1 - exit) * of["keys and values"] if exits else 0
    return ((exit + 1) * of["layer"] + heads * of["head"] + owed).double()


@cache
def held_out(part: str, size: int = 48) -> Tensor:
    """Windows (size, CONTEXT + 1), spread evenly over the first or the second half of the held-out text."""
    text = python_sources().test
    text = text[: len(text) // 2] if part == "pick" else text[len(text) // 2 :]
    start = torch.linspace(0, len(text) - CONTEXT - 1, size).long()
    return text[start[:, None] + torch.arange(CONTEXT + 1)].long()


@torch.no_grad()
def read(model: Decoder, setting: str, text: Tensor, threshold: float) -> dict[str, float]:
    """Accuracy, bits and FLOPs of a byte where each leaves at the first exit asked whose margin is high enough."""
    _, asked = SETTINGS[setting]

    def confidence(at: AtExit) -> Tensor:
        return softmax_margin(at) if at.exit in asked else at.state.new_full(at.state.shape[:-1], -1.0)

    logits, leaves = [], []
    for rows in text.split(24):
        found = exit_while_reading(model, rows[:, :-1], confidence, threshold)
        logits.append(found.logits)
        leaves.append(found.exit_index)
    found = judge(torch.cat(logits), text)
    return found | {"FLOPs": cost_at(setting, torch.cat(leaves), exits=True).mean().item()}


def judge(logits: Tensor, text: Tensor) -> dict[str, float]:
    right, target = logits.argmax(-1) == text[:, 1:], text[:, 1:].flatten()
    nats = F.cross_entropy(logits.flatten(0, 1), target).item()
    return {"accuracy": right.double().mean().item(), "bits": nats / math.log(2)}


@torch.no_grad()
def measure(model: Decoder, setting: str, size: int = 48) -> dict:
    """Each cut, and exits within the FLOPs of each inner cut."""
    _, asked = SETTINGS[setting]
    text, result = held_out("test", size), {"cuts": [], "exits": []}
    states = [model.states(rows[:, :-1]) for rows in text.split(24)]
    for k in asked:
        logits = torch.cat([model.read(k, of[k]) for of in states])
        result["cuts"].append({"layer": k, "FLOPs": cost_at(setting, k, exits=False).item()} | judge(logits, text))
    if len(asked) == 1:
        return result
    pick = held_out("pick", size)
    tried = {threshold: read(model, setting, pick, threshold)["FLOPs"] for threshold in THRESHOLDS}
    for cut in result["cuts"][:-1]:
        within = [threshold for threshold, flops in tried.items() if flops <= cut["FLOPs"]]
        if within:
            found = read(model, setting, text, max(within))
            result["exits"].append({"budget": cut["layer"], "threshold": max(within)} | found)
    return result


def run(seed: int, setting: str, steps: int = 500, size: int = 48) -> dict:
    """Cuts and exits of one training: accuracy, bits a byte and FLOPs on the second half of the held-out files."""
    return measure(train(setting, seed=seed, steps=steps), setting, size)


def small() -> dict:
    return {"seed": 0, "setting": "fewer heads", "steps": 2, "size": 2}
