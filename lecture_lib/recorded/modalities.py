"""Forty captions, notebook 11: what the losses of a router and the sharing of a network gain, each way at its best.

The network and the task are those of `pretrained.limoe`: 4 blocks of width 32, experts of 16 in every second one. Equal
for all ways are images, pairs a step, steps and optimisers; for those with experts and "equal FLOPs" the FLOPs, router
counted, and for two towers those of a token. Not tuned: the weights of the losses.

The criterion: for each way the learning rate with the best mean of both retrievals on held-out images, of two seeds
after 300 steps. 900 steps take the same. It falls in a line to 0: each number of steps is a training of its own. Pilots
of two ways with one seed chose the optimisers and the three rates. To fit into half an hour there are five ways and
four seeds; modalities_controls.py has more ways, after 300 steps only.

What came out: after 900 steps both losses, none, and two dense towers find about as many (means of 0.89 to 0.91 of the
images' captions), the local loss alone 0.04 fewer (0.13 after 300); of four dense networks of equal FLOPs three are
level, one found 0.74. With the local loss alone, at weight 0.2, images end on one expert for three seeds of four, text
for two. Without losses nothing collapses. Other weights, and sparse towers, were not tried.

Runs of one way are trained side by side: all parameters have a leading dimension of runs.

Shapes: R runs side by side, B pairs, N tokens, E experts, D width, T tokens of the longest caption.
"""

import copy
import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.data import digits
from lecture_lib.moe import MoE, within_capacity
from lecture_lib.pretrained.limoe import Encoded, LIMoE, draw_pairs, modality_share, retrieval
from lecture_lib.specialise import information

SIZES = {"d_model": 32, "n_heads": 2, "n_layers": 4, "d_hidden": 16}
PAIRS, CAPACITY, T = 32, 1.25, 19
RATES = (2e-3, 4e-3, 8e-3)  # at their highest: the same for all ways
SEEDS, SEARCH, STEPS = (0, 1, 2, 3), (0, 1), (300, 900)
ENTROPY, BALANCE = 0.2, 0.1  # how much the losses of the router weigh


@dataclass(frozen=True)
class Way:
    """A network and the losses of its routers."""

    n_experts: int | None = 8  # None: dense
    d_hidden: int = 16  # of the dense network in every second block
    towers: bool = False  # a network for each modality
    local: bool = False
    at_least: int = 0  # experts that the global loss asks of each modality
    balance: bool = False  # the load-balancing loss over all tokens
    frozen: bool = False  # the routers stay as they were drawn


WAYS = {
    "both losses": Way(local=True, at_least=6),
    "local only": Way(local=True),
    "global only": Way(at_least=6),
    "balance of all tokens": Way(balance=True),
    "no losses": Way(),
    "frozen random router": Way(frozen=True),
    "dense, equal FLOPs": Way(None, 20),
    "dense, equal parameters": Way(None, 132),
    "two towers, dense": Way(None, 20, towers=True),
}


class Towers(nn.Module):
    """A network for images and one for captions, that share nothing but the space of their vectors."""

    def __init__(self, image: LIMoE, text: LIMoE):
        super().__init__()
        self.image, self.text = image, text

    def forward(self, images: Tensor, captions: Tensor) -> Encoded:
        a, b = self.image(images, captions[:0]), self.text(images[:0], captions)
        return Encoded(a.images, b.captions, a.choices + b.choices, torch.cat([a.is_text, b.is_text]))


def build(way: Way, seed: int) -> nn.Module:
    """A network of `way`, drawn from `seed`."""

    def one() -> LIMoE:
        model = LIMoE(**SIZES, n_experts=way.n_experts, capacity_factor=CAPACITY)
        d = SIZES["d_model"]
        for block in model.body.blocks[1::2] if way.n_experts is None else ():
            block.mlp = nn.Sequential(nn.Linear(d, way.d_hidden), nn.GELU(), nn.Linear(way.d_hidden, d))
        return model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Towers(one(), one()) if way.towers else one()


class Stack:
    """R networks of one way, trained side by side: the forward pass of `LIMoE`, with all experts computed."""

    def __init__(self, way: Way, seeds: list[int]):
        self.way, self.models = way, [build(way, seed) for seed in seeds]
        states = [model.state_dict() for model in self.models]
        self.weights = {name: torch.stack([s[name] for s in states]).requires_grad_() for name in states[0]}
        self.logits: list[tuple] = []  # of each sparse layer: scores (R, N, E), and which tokens count

    def __call__(self, images: Tensor, captions: Tensor) -> tuple[Tensor, Tensor]:
        """Images (R, B, 8, 8) and captions (R, B, T) -> vectors (R, B, D) of both."""
        self.logits, towers = [], self.way.towers
        patches = images.unfold(2, 2, 2).unfold(3, 2, 2).reshape(*images.shape[:2], 16, 4)
        of = {kind: f"{kind}." if towers else "" for kind in ("image", "text")}
        w, there = self.weights, captions > 0
        x = {
            "image": self._linear(of["image"] + "patch", patches) + w[of["image"] + "place.image"][:, None],
            "text": self._embed(of["text"], captions) + w[of["text"] + "place.text"][:, None, :T],
        }
        seen = there[:, :, None, None] | torch.eye(T, dtype=torch.bool)  # (R, B, 1, T, T)
        masks = {"image": torch.ones(patches.shape[:3], dtype=torch.bool), "text": there}
        for i in range(SIZES["n_layers"]):
            block = f"body.blocks.{i}."
            for kind, h in x.items():
                x[kind] = h + self._attend(of[kind] + block, h, seen if kind == "text" else None)
            if towers:
                for kind, h in x.items():
                    y = self._mlp(of[kind] + block, h.flatten(1, 2), masks[kind].flatten(1), i)
                    x[kind] = h + y.view_as(h)
            else:
                h, mask = (torch.cat([d["image"].flatten(1, 2), d["text"].flatten(1, 2)], 1) for d in (x, masks))
                y = self._mlp(block, h, mask, i).split([x[kind][0, ..., 0].numel() for kind in x], 1)
                x = {kind: h + part.view_as(h) for (kind, h), part in zip(x.items(), y, strict=True)}
        out = []
        for kind, h in x.items():
            h, mask = self._norm(of[kind] + "body.norm", h), masks[kind].unsqueeze(-1)
            mean = (h * mask).sum(2) / mask.sum(2)
            out.append(F.normalize(mean @ w[f"{of[kind]}heads.{kind}.weight"].mT, dim=-1))
        return out[0], out[1]

    def _embed(self, of: str, captions: Tensor) -> Tensor:
        table = self.weights[of + "byte.weight"]
        return (F.one_hot(captions, table.shape[1]).flatten(1, 2).float() @ table).unflatten(1, captions.shape[1:])

    def _linear(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.weights[name + ".weight"], self.weights[name + ".bias"]
        return torch.baddbmm(bias.unsqueeze(1), x.flatten(1, -2), weight.mT).view(*x.shape[:-1], -1)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = (
            self.weights[f"{name}.{part}"].view(len(x), *[1] * (x.ndim - 2), -1) for part in ("weight", "bias")
        )
        return F.layer_norm(x, x.shape[-1:]) * weight + bias

    def _attend(self, block: str, x: Tensor, seen: Tensor | None) -> Tensor:
        heads = self._linear(block + "attention.query_key_value", self._norm(block + "norm_1", x))
        q, k, v = heads.unflatten(-1, (3, SIZES["n_heads"], -1)).movedim(-3, 0).transpose(-3, -2).flatten(1, 2)
        a = q @ k.mT / q.shape[-1] ** 0.5  # (R·B, H, T, T)
        if seen is not None:
            a = a.masked_fill(~seen.flatten(0, 1), -torch.inf)
        y = (a.softmax(-1) @ v).transpose(-3, -2).flatten(-2).view_as(x)
        return self._linear(block + "attention.output", y)

    def _mlp(self, block: str, x: Tensor, mask: Tensor, i: int) -> Tensor:
        x, n_experts, w = self._norm(block + "norm_2", x), self.way.n_experts, self.weights
        if n_experts is None or i % 2 == 0:
            return self._linear(block + "mlp.2", F.gelu(self._linear(block + "mlp.0", x)))
        s, mlp = x @ w[block + "mlp.router.weight"].mT, block + "mlp.experts."
        self.logits.append((s, mask))
        p, expert = s.softmax(-1).max(-1)
        with torch.no_grad():  # the surest first; each expert has as many places as the run with most tokens needs
            room = (CAPACITY * mask.sum(1, keepdim=True) / n_experts).ceil().long()  # (R, 1)
            order = torch.where(mask, p, -1).argsort(dim=-1, descending=True, stable=True)
            queue = expert.gather(1, order)
            nth = F.one_hot(queue, n_experts).cumsum(1).gather(2, queue.unsqueeze(-1)).squeeze(-1) - 1
            n_places = int(room.max())
            kept = (nth < room) & mask.gather(1, order)
            place = torch.where(kept, queue * n_places + nth, n_experts * n_places)  # the last one is of the dropped
            place = torch.empty_like(place).scatter(1, order, place)  # of each token
            token = torch.zeros(len(x), n_experts * n_places + 1, dtype=torch.int64)
            token = token.scatter(1, place, torch.arange(x.shape[1]).expand_as(place))[:, :-1]  # in each place
            runs = torch.arange(len(x)).unsqueeze(1)
            token, place = token + runs * x.shape[1], place + runs * (n_experts * n_places + 1)
        inside = x.flatten(0, 1).index_select(0, token.flatten()).view(-1, n_places, x.shape[-1])
        inside = torch.baddbmm(w[mlp + "b_in"].flatten(0, 1).unsqueeze(1), inside, w[mlp + "w_in"].flatten(0, 1))
        y = torch.baddbmm(w[mlp + "b_out"].flatten(0, 1).unsqueeze(1), F.gelu(inside), w[mlp + "w_out"].flatten(0, 1))
        y = F.pad(y.view(len(x), -1, x.shape[-1]), (0, 0, 0, 1)).flatten(0, 1)
        return y.index_select(0, place.flatten()).view_as(x) * p.unsqueeze(-1)

    def extra(self) -> Tensor:
        """The losses of the routers: (R,)."""
        way, total = self.way, 0.0
        for s, mask in self.logits:
            p, entropy = s.softmax(-1), lambda p: torch.special.entr(p).sum(-1)
            if way.balance:
                count = mask.sum(1, keepdim=True)
                load = F.one_hot(s.argmax(-1), s.shape[-1]).mul(mask.unsqueeze(-1)).sum(1) / count
                mean = p.mul(mask.unsqueeze(-1)).sum(1) / count
                total = total + BALANCE * s.shape[-1] * (load * mean).sum(-1)
            text = torch.arange(s.shape[1]) >= 16 * PAIRS
            for part in (~text, text):
                q, m = p[:, part], mask[:, part].float()
                n = m.sum(1, keepdim=True)
                if way.local:
                    total = total + ENTROPY * (entropy(q) * m / n).sum(1)
                if way.at_least:
                    mean = (q * m.unsqueeze(-1)).sum(1) / n
                    total = total + ENTROPY * (math.log(way.at_least) - entropy(mean)).clamp(min=0)
        return total + torch.zeros(len(self.models))

    def networks(self) -> list[nn.Module]:
        """The same as networks of the library."""
        for run, model in enumerate(self.models):
            model.load_state_dict({name: w[run].detach().clone() for name, w in self.weights.items()})
        return self.models


def train(way: Way, runs: list[tuple[int, float]], steps: int) -> list[nn.Module]:
    """Train a way, a run for each (seed, learning rate), all of the same number of steps.

    Adam; the rate rises over 20 steps and falls in a line to 0. 1,000 of the training images are drawn from.
    """
    data, (seeds, rates) = digits(), zip(*runs, strict=True)
    stack, rate = Stack(way, list(seeds)), torch.tensor(rates)
    streams = {seed: torch.Generator().manual_seed(seed) for seed in seeds}
    trained = {n: w for n, w in stack.weights.items() if not (way.frozen and "router" in n)}
    moments = {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in trained.items()}
    temperature = "image.log_scale" if way.towers else "log_scale"
    for step in range(steps):
        drawn = {
            s: draw_pairs(data.train_x[:1000], data.train_y[:1000], size=PAIRS, generator=g) for s, g in streams.items()
        }
        images, captions, kind = (torch.stack(part) for part in zip(*(drawn[s] for s in seeds), strict=True))
        u, v = stack(images, captions[..., :T])
        scores = stack.weights[temperature].exp().view(-1, 1, 1) * (u @ v.mT)
        q = (kind[:, :, None] == kind[:, None, :]).float()
        q = q / q.sum(-1, keepdim=True)  # kinds are the same both ways: q is symmetric
        rows = -(scores.log_softmax(-1) * q).sum(-1).mean(-1)
        columns = -(scores.mT.log_softmax(-1) * q).sum(-1).mean(-1)
        loss = (rows + columns) / 2 + stack.extra()
        grads = torch.autograd.grad(loss.sum(), list(trained.values()), allow_unused=True)
        with torch.no_grad():
            now = rate * min((step + 1) / 20, 1 - step / steps)
            for (name, w), grad in zip(trained.items(), grads, strict=True):
                if grad is not None:
                    update = _muon if "attention" in name and name.endswith("weight") else _adam
                    update(w, grad, *moments[name], now.view(-1, *[1] * (w.ndim - 1)), step + 1)
    return stack.networks()


def _adam(w: Tensor, grad: Tensor, first: Tensor, second: Tensor, rate: Tensor, step: int) -> None:
    first.lerp_(grad, 0.1)
    second.mul_(0.95).addcmul_(grad, grad, value=0.05)
    w -= rate / (1 - 0.9**step) * first / ((second / (1 - 0.95**step)).sqrt() + 1e-8)


def _muon(w: Tensor, grad: Tensor, first: Tensor, second: Tensor, rate: Tensor, step: int) -> None:
    """That of torch, with twice the rate of the others: the momentum, made nearly orthogonal."""
    first.lerp_(grad, 0.05)
    x = grad.lerp(first, 0.95)
    x = x.mT if (tall := x.shape[-2] > x.shape[-1]) else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    x = x.mT if tall else x
    w.mul_(1 - 2 * rate * 0.05).sub_(2 * rate * 0.2 * max(w.shape[-2:]) ** 0.5 * x)


def cost(way: Way) -> dict[str, int]:
    """FLOPs of the products for one image and a caption of 17 bytes, routers included, and all parameters."""
    d, routed = SIZES["d_model"], way.n_experts is not None
    token = SIZES["n_layers"] * 8 * d * d + 2 * 4 * d * SIZES["d_hidden"]  # attention's layers; two blocks are dense
    token += 2 * (4 * d * (SIZES["d_hidden"] if routed else way.d_hidden) + 2 * d * (way.n_experts or 0))
    seen = 4 * d * SIZES["n_layers"] * (16**2 + 17**2)
    ends = 16 * 2 * 4 * d + 2 * 2 * d * d
    return {"flops": 33 * token + seen + ends, "parameters": sum(p.numel() for p in build(way, 0).parameters())}


def used(share: Tensor) -> list[float]:
    """exp of the entropy of the load of each modality, mean over layers: shares (L, 2, E) -> images, text."""
    return torch.special.entr(share / share.sum(-1, keepdim=True)).sum(-1).exp().mean(0).tolist()


def table(label: Tensor, expert: Tensor) -> float:
    """The share of the tokens that go to the expert of most tokens of their label."""
    counts = torch.zeros(int(label.max()) + 1, int(expert.max()) + 1)
    return (
        counts.index_put((label, expert), torch.ones(len(label)), accumulate=True).amax(-1).sum() / len(label)
    ).item()


@torch.no_grad()
def measure(model: nn.Module) -> dict:
    """Retrieval, image to text and text to image; and of the routers, who chooses what: means over sparse layers."""
    model, data = model.eval(), digits()
    parts = {"held_out": (data.train_x[1000:], data.train_y[1000:]), "test": (data.test_x, data.test_y)}
    result: dict = {part: list(retrieval(model, *xy)) for part, xy in parts.items()}
    pairs = draw_pairs(data.test_x, data.test_y, size=256, generator=torch.Generator().manual_seed(0))
    found = model(pairs.images, pairs.captions)
    if not found.choices:
        return result
    is_text, letter = found.is_text, pairs.captions[pairs.captions > 0]
    room = [within_capacity(choice, CAPACITY, batch_priority=True) for choice in found.choices]
    halves, choices = [~is_text, is_text], found.choices
    lost = [1 - (choice.weights.amax(-1) > 0).float() for choice in room]
    best = [choice.logits.softmax(-1).amax(-1) for choice in choices]
    of_text = [choice.weights.argmax(-1)[is_text] for choice in choices]
    free = copy.deepcopy(model)
    for module in free.modules():
        if isinstance(module, MoE):
            module.capacity_factor = None
    return result | {
        "test_no_capacity": list(retrieval(free, *parts["test"])),
        "used": used(torch.stack([modality_share(choice, is_text) for choice in choices])),
        "dropped": [sum(part[half].mean().item() for part in lost) / len(lost) for half in halves],
        "best": [sum(part[half].mean().item() for part in best) / len(best) for half in halves],
        "bits": sum(information(choice, is_text.long(), n_permutations=1).bits for choice in choices) / len(choices),
        "letters": [table(letter, expert) for expert in of_text],
        "busiest": [table(0 * letter, expert) for expert in of_text],
    }


@cache
def at_its_best(name: str, steps: tuple[int, ...], rates: tuple[float, ...] = RATES) -> list[dict]:
    """A way, its rate picked after the first number of steps: a dict for each of `SEEDS`."""
    way, results = WAYS[name], [{} for _ in SEEDS]
    runs = [(seed, rate) for rate in rates for seed in SEARCH]
    models = train(way, runs, steps[0])
    measured = [measure(model) for model in models]
    found = torch.tensor([sum(row["held_out"]) / 2 for row in measured]).view(-1, len(SEARCH)).mean(1)
    rate, at = rates[int(found.argmax())], int(found.argmax()) * len(SEARCH)
    tried = [[r, round(value, 4)] for r, value in zip(rates, found.tolist(), strict=True)]
    for n in steps:
        known = measured[at : at + len(SEARCH)] if n == steps[0] else []
        rows = known + [measure(model) for model in train(way, [(s, rate) for s in SEEDS[len(known) :]], n)]
        for result, row in zip(results, rows, strict=True):
            result[str(n)] = {"rate": rate, "tried": tried} | row
    return results


GRID = {
    "way": ["both losses", "local only", "no losses", "dense, equal FLOPs", "two towers, dense"],
    "seed": SEEDS,
}


def run(seed: int, way: str, steps=STEPS, rates=RATES) -> dict:
    """For each number of steps the rate that was picked, retrieval, and what the routers do."""
    return at_its_best(way, tuple(steps), tuple(rates))[SEEDS.index(seed)]


def small() -> dict:
    return {"seed": 0, "way": "both losses", "steps": [6], "rates": [4e-3]}
