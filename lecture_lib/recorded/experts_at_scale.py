"""The next byte of Python, notebook 09: what it costs in bits to keep a token's four experts in few groups.

32 experts in eight groups, four experts for a token, from at most 1, 2, 3 or 8 groups: 8 is no limit. The criterion:
for each limit the learning rate of the grid with the fewest bits a byte on held-out text, mean over the seeds; reported
is test text. Rates fall in a line to 0.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.choice import Choice, top_k
from lecture_lib.moe import MoE, load_balance_loss, within_groups
from lecture_lib.recorded.mixture_of_experts_hash import BATCH, CONTEXT, SPOTS, WIDTH, texts, windows

N_EXPERTS, GROUPS, K, HIDDEN, BALANCE = 32, 8, 4, 16, 0.01
LIMITS = [1, 2, 3, 8]
GRID = {"limit": LIMITS, "rate": [3e-3, 1e-2, 3e-2], "seed": range(5)}


def limited(s: Tensor, limit: int) -> Choice:
    """The four best experts of at most `limit` groups; the scores of all, for the balance loss."""
    return top_k(within_groups(s, GROUPS, limit), K)._replace(logits=s)


class Reader(nn.Module):
    """Eight bytes (B, 8) in, logits of the next (B, 256) and a choice out."""

    def __init__(self, limit: int):
        super().__init__()
        self.embed, self.mix = nn.Embedding(256, 16), nn.Linear(16 * CONTEXT, WIDTH)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 256)
        self.moe = MoE(WIDTH, HIDDEN, N_EXPERTS, partial(limited, limit=limit), activation=F.relu)

    def forward(self, text: Tensor) -> tuple[Tensor, Choice]:
        h = F.relu(self.mix(self.embed(text).flatten(1)))
        y, choice = self.moe(self.norm(h))
        return self.head(h + y), choice


def train(limit: int, seed: int, rate: float, steps: int) -> Reader:
    text, _ = texts()
    torch.manual_seed(seed)
    model, generator = Reader(limit), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for step in range(steps):
        end = torch.randint(CONTEXT, len(text) - 1, (BATCH,), generator=generator)
        logits, choice = model(windows(text, end))
        loss = F.cross_entropy(logits, text[end + 1]) + BALANCE * load_balance_loss(choice)
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.step()
    return model


@torch.no_grad()
def bits(model: Reader, part: str, limit: int | None = None) -> tuple[float, Choice]:
    """Bits a byte on "held_out" or "test" text, and the choices there; with another limit than in training, if any."""
    _, other = texts()
    trained, at = model.moe.choose, SPOTS[part]
    model.moe.choose = trained if limit is None else partial(limited, limit=limit)
    logits, choice = model(windows(other, at))
    model.moe.choose = trained
    return F.cross_entropy(logits, other[at + 1]).item() / math.log(2), choice


def groups_reached(choice: Choice) -> float:
    """In how many groups the experts of a token are, on average."""
    return (choice.weights > 0).unflatten(-1, (GROUPS, -1)).any(-1).sum(-1).double().mean().item()


def run(seed: int, limit: int, rate: float, steps: int = 1200) -> dict:
    """Bits on both texts and the groups reached; without a limit in training, also what each does at test alone."""
    model = train(limit, seed, rate, steps)
    test, choice = bits(model, "test")
    result = {"held_out": bits(model, "held_out")[0], "test": test, "groups": groups_reached(choice)}
    late = LIMITS[:-1] if limit == GROUPS else []
    return result | {"limited at test": {str(n): bits(model, "test", n)[0] for n in late}}


def small() -> dict:
    return {"seed": 0, "limit": 8, "rate": 1e-2, "steps": 5}
