"""The next byte of Python, notebook 09: what it costs in bits to keep a token's four experts in few groups.

32 experts in eight groups, four experts for a token, from at most 1, 2, 3 or 8 groups: 8 is no limit. The criterion:
for each limit the learning rate of the grid with the fewest bits a byte on held-out text, mean over the seeds; reported
is test text. Rates fall in a line to 0. The simple rival of a limit learns without one, and is placed afterwards: its
groups are then the experts that are used together on held-out text.
"""

import itertools
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


def limited(s: Tensor, limit: int, k: int = K, order: Tensor | None = None) -> Choice:
    """The k best experts of at most `limit` groups, side by side in `order`; all scores, for the balance loss."""
    order = torch.arange(N_EXPERTS) if order is None else order
    kept = within_groups(s[..., order], GROUPS, limit)[..., order.argsort()]
    return top_k(kept, k)._replace(logits=s)


def placed(taken: Tensor, n_groups: int = GROUPS) -> Tensor:
    """An order of the experts, group by group: two change places while this puts more that are used together in one.

    taken (N, E): which experts a token has.
    """
    n = taken.shape[1]
    together = (taken.double().T @ taken.double()).fill_diagonal_(0)
    group, best, better = torch.arange(n) * n_groups // n, -1.0, True

    def inside(group: Tensor) -> float:
        return together[group == group[:, None]].sum().item()

    while better:
        better, best = False, inside(group)
        for a, b in itertools.combinations(range(n), 2):
            other = group.clone()
            other[[a, b]] = group[[b, a]]
            if (value := inside(other)) > best:
                group, best, better = other, value, True
    return group.argsort(stable=True)


class Reader(nn.Module):
    """Eight bytes (B, 8) in, logits of the next (B, 256) and a choice out."""

    def __init__(self, limit: int, k: int = K):
        super().__init__()
        self.embed, self.mix = nn.Embedding(256, 16), nn.Linear(16 * CONTEXT, WIDTH)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 256)
        self.moe = MoE(WIDTH, HIDDEN, N_EXPERTS, partial(limited, limit=limit, k=k), activation=F.relu)

    def forward(self, text: Tensor) -> tuple[Tensor, Choice]:
        h = F.relu(self.mix(self.embed(text).flatten(1)))
        y, choice = self.moe(self.norm(h))
        return self.head(h + y), choice


def train(limit: int, seed: int, rate: float, steps: int, k: int = K) -> Reader:
    text, _ = texts()
    torch.manual_seed(seed)
    model, generator = Reader(limit, k), torch.Generator().manual_seed(seed)
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
def bits(model: Reader, part: str, **late) -> tuple[float, Choice]:
    """Bits a byte on "held_out" or "test" text, and the choices there; `late` changes `limited` after training."""
    _, other = texts()
    trained, at = model.moe.choose, SPOTS[part]
    model.moe.choose = partial(trained, **late)
    logits, choice = model(windows(other, at))
    model.moe.choose = trained
    return F.cross_entropy(logits, other[at + 1]).item() / math.log(2), choice


def reached(choice: Choice, order: Tensor | None = None) -> Tensor:
    """(N, groups): how many of a token's experts are in each group."""
    taken = choice.weights > 0
    return (taken if order is None else taken[..., order]).unflatten(-1, (GROUPS, -1)).sum(-1)


def groups_reached(choice: Choice, order: Tensor | None = None) -> float:
    """In how many groups the experts of a token are, on average."""
    return (reached(choice, order) > 0).sum(-1).double().mean().item()


def run(seed: int, limit: int, rate: float, steps: int = 1200, k: int = K) -> dict:
    """Bits on both texts and the groups reached; without a limit in training, also what placing does, and what each
    limit does that is set at test alone: over groups as they are numbered, and as they are placed."""
    model = train(limit, seed, rate, steps, k)
    held_out, known = bits(model, "held_out")
    test, choice = bits(model, "test")
    result = {"held_out": held_out, "test": test, "groups": groups_reached(choice)}
    if limit < GROUPS:
        return result
    order = placed(known.weights > 0)
    load, unplaced = reached(choice, order).sum(0).double(), reached(choice).sum(0).double()
    return result | {
        "groups placed": groups_reached(choice, order),
        "load": (unplaced.max() / unplaced.mean()).item(),
        "load placed": (load.max() / load.mean()).item(),
        "limited at test": {str(n): bits(model, "test", limit=n)[0] for n in LIMITS[:-1]},
        "placed, limited at test": {str(n): bits(model, "test", limit=n, order=order)[0] for n in LIMITS[:-1]},
    }


def small() -> dict:
    return {"seed": 0, "limit": 8, "rate": 1e-2, "steps": 5}
