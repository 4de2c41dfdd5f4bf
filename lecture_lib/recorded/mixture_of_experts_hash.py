"""The next byte of Python, notebook 08: what a router sees, whether it learns, with which weight an expert counts.

The criterion: for each router and each number of steps, 400 and 1,200, the learning rate of the grid with the fewest
bits a byte on held-out text, with a seed of its own. Then three other seeds, on test text. Rates fall in a line to 0.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.choice import Choice, argmax
from lecture_lib.data import python_sources
from lecture_lib.moe import CosineRouter, MoE, collapse, hashed, load_balance_loss, switch

CONTEXT, WIDTH, N_EXPERTS, BATCH = 8, 64, 8, 128
RATES = (3e-3, 1e-2, 3e-2)
SEEDS, SEARCH, STEPS = (0, 1, 2), 100, (400, 1200)


@dataclass(frozen=True)
class Router:
    """What it sees, whether it learns, and the weight of the expert: its probability p, or 1."""

    sees: str = "hidden state"  # or "last byte"
    learns: bool = True
    weight: str = "p"
    balance: float = 0.01
    n_experts: int = N_EXPERTS
    d_hidden: int = 64
    cosine: bool = False


WAYS = {
    f"{sees}, {'learnt' if learns else 'fixed'}, weight {weight}": Router(sees, learns, weight)
    for sees in ("hidden state", "last byte")
    for learns in (True, False)
    for weight in "p1"
}
COMPARED = WAYS | {"dense, H = 68": Router(n_experts=1, d_hidden=68)}  # the cost of 8 experts and a router
ROUTERS = COMPARED | {"cosine router": Router(cosine=True)}


class NextByte(nn.Module):
    """Eight bytes (B, 8) in, logits of the next (B, 256) and a choice out."""

    def __init__(self, router: Router):
        super().__init__()
        self.router = router
        self.embed, self.mix = nn.Embedding(256, 16), nn.Linear(16 * CONTEXT, WIDTH)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 256)
        self.moe = MoE(WIDTH, router.d_hidden, router.n_experts, switch, activation=F.relu)
        if router.cosine:
            self.moe.router = CosineRouter(WIDTH, router.n_experts)
        self.table = nn.Embedding(256, router.n_experts)  # the scores of a router that sees the last byte alone
        self.register_buffer("fixed", torch.randn(WIDTH, router.n_experts))

    def hidden(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """The hidden state, and the tokens that experts and router get: it, normalised."""
        h = F.relu(self.mix(self.embed(text).flatten(1)))
        return h, self.norm(h)

    def route(self, tokens: Tensor, last: Tensor) -> Choice:
        """A fixed router that weights by p gets p from a learnt one that sees the hidden state, and chooses nothing."""
        its = self.router
        s = self.table(last) if its.learns and its.sees == "last byte" else self.moe.router(tokens)
        if its.learns or its.n_experts == 1:
            chosen = argmax(s).weights
        elif its.sees == "last byte":
            chosen = hashed(last, its.n_experts).weights
        else:
            chosen = argmax(tokens @ self.fixed).weights
        z = s.softmax(-1) * chosen.detach()
        if its.weight == "1":  # of value 1; where the router learns, with the gradient of its probability
            z = z / z.detach().sum(-1, keepdim=True) if its.learns else chosen
        return Choice(s, z, z.new_zeros(len(z)))

    def forward(self, text: Tensor) -> tuple[Tensor, Choice]:
        h, tokens = self.hidden(text)
        choice = self.route(tokens, text[:, -1])
        return self.head(h + self.moe(tokens, choice)[0]), choice


@cache
def texts() -> tuple[Tensor, Tensor]:
    """Bytes to train on, and 250,000 others, to test on and to pick by."""
    sources = python_sources()
    return sources.train.long(), sources.test[:250_000].long()


def windows(text: Tensor, end: Tensor) -> Tensor:
    """The eight bytes that end at each of `end`: (N, 8)."""
    return text[end.unsqueeze(-1) + torch.arange(1 - CONTEXT, 1)]


_SPOTS = torch.arange(CONTEXT, 249_990, 7)
_TEST = _SPOTS // 10_000 % 2 == 0  # blocks in turn: a file that is unlike the others should not pick alone
SPOTS = {"test": _SPOTS[_TEST], "held_out": _SPOTS[~_TEST]}


def train(name: str, seed: int, rate: float, steps: int) -> tuple[NextByte, dict[str, float]]:
    """A network after `steps` steps of 128 windows; bits a byte on held-out and test text, largest load over mean."""
    train, other = texts()
    torch.manual_seed(seed)
    model, generator = NextByte(ROUTERS[name]), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    its = model.router
    for step in range(steps):
        end = torch.randint(CONTEXT, len(train) - 1, (BATCH,), generator=generator)
        logits, choice = model(windows(train, end))
        loss = F.cross_entropy(logits, train[end + 1])
        if its.learns and its.balance and its.n_experts > 1:
            seen = model.moe.router.at_start_temperature(choice) if its.cosine else choice
            loss = loss + its.balance * load_balance_loss(seen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.step()
    result = {}
    with torch.no_grad():
        for part, at in SPOTS.items():
            logits, choice = model(windows(other, at))
            result[part] = F.cross_entropy(logits, other[at + 1]).item() / math.log(2)
            if part == "test":
                result["max_over_mean"] = collapse(choice).max_over_mean
    return model, result


@cache
def best_rate(router: str, steps: int) -> tuple[float, list]:
    """The learning rate that is picked, and what was tried: [rate, bits a byte on held-out text]."""
    tried = [[rate, train(router, SEARCH, rate, steps)[1]["held_out"]] for rate in RATES]
    return min(tried, key=lambda pair: pair[1])[0], tried


GRID = {"router": list(COMPARED), "seed": SEEDS}


def run(seed: int, router: str, steps=STEPS) -> dict:
    """For each number of steps the rate picked, bits a byte on test text, and the largest load over the mean."""
    result = {}
    for n in steps:
        rate, tried = best_rate(router, n)
        result[str(n)] = train(router, seed, rate, n)[1] | {"rate": rate, "tried": tried}
    return result


def small() -> dict:
    return {"seed": 0, "router": "hidden state, learnt, weight 1", "steps": [5]}
