"""Five tasks in one body: task vectors added, merged by TIES, thinned by DARE, and training on all. Notebook 12.

An MLP 64-192-192-10 reads digits after 200 steps: its two hidden layers are the body. Each of the six tasks of
`digit_tasks` gets a head on this body (150 steps at 1e-2), which is then frozen, and a specialist: the body tuned for
100 steps of 64 images of this task. "trained on all": one body, in each of 100 steps 64 images of each of the five
tasks, as many as the five specialists together. 1,000 images of each task to learn from, 257 held out, 540 to test on.
*Inverted* is left out of the five; `more` adds tasks one by one, up to all six.

The criterion, written before the training: the mean of the five tasks' accuracies held out. By it are chosen, of each
method and seed: the rate of the specialists, of five from 1e-4 to 2.56e-2; the scale; the density of TIES; the share
that DARE drops; the rate of training on all.

"scale from n": the scale of the sum, at its rate, chosen by n random labels of each task, mean of 20 draws. "257 to
learn": for comparison the held-out images, which choosing the scale takes, are trained on, at the rate of "trained on
all".
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lecture_lib.data import digit_tasks
from lecture_lib.merging import apply_task_vectors, dare, task_vector, ties
from lecture_lib.models import MLP

NAMES, FIVE = ("class", "parity", "ink", "turned", "mirrored", "inverted"), (0, 1, 2, 3, 4)
RATES, SHARES = (1e-4, 4e-4, 1.6e-3, 6.4e-3, 2.56e-2), (0.2, 0.5, 0.8)
SCALES = {"sum": (0.2, 0.4, 0.6, 0.8, 1.0), "TIES": (0.5, 1.0, 1.5, 2.0, 3.0), "DARE": (0.2, 0.4, 0.6, 0.8, 1.0)}
LABELS = (1, 5, 20)
GRID = {"seed": (0, 1, 2, 3, 4)}
BODY, HEAD = ("0.", "2."), "4."


def make() -> nn.Sequential:
    return MLP(64, 192, 10, depth=3)


def new(make, count: int, seed: int) -> list[dict]:
    """The states of `count` new networks."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return [make().state_dict() for _ in range(count)]


def stacked(states: list[dict]) -> dict[str, Tensor]:
    return {key: torch.stack([state[key] for state in states]) for key in states[0]}


@torch.no_grad()
def logits(net: nn.Module, states: list[dict], x: Tensor) -> Tensor:
    """(R, N, 10): R networks of the shape of `net`, on x (N, 64), or (R, N, 64) for each its own."""
    return vmap(lambda p, x: functional_call(net, p, (x,)), (0, 0 if x.ndim == 3 else None))(stacked(states), x)


def accuracy(net: nn.Module, states: list[dict], x: Tensor, y: Tensor) -> Tensor:
    """(R,)"""
    return (logits(net, states, x).argmax(-1) == y).float().mean(-1)


def train(net, states, x, y, *, steps, lr, seed, only="", size=64) -> list[dict]:
    """States after training side by side: each network with its own batches, of x (N, 64), or of its own (R, N, 64).

    Only tensors whose names begin with `only` learn. Adam works entry by entry, so nobody sees anybody else.
    """
    generator = torch.Generator().manual_seed(seed)
    p = {key: t.clone().requires_grad_(key.startswith(only)) for key, t in stacked(states).items()}
    adam = torch.optim.Adam([t for t in p.values() if t.requires_grad], lr=lr)
    loss = vmap(lambda p, x, y: F.cross_entropy(functional_call(net, p, (x,)), y))
    who = torch.arange(len(states))[:, None]
    for _ in range(steps):
        rows = torch.randint(y.shape[-1], (len(states), size), generator=generator)
        adam.zero_grad()
        loss(p, *((t[rows] if y.ndim == 1 else t[who, rows]) for t in (x, y))).sum().backward()
        adam.step()
    return [{key: t[i].detach().clone() for key, t in p.items()} for i in range(len(states))]


def parts() -> dict[str, tuple[Tensor, Tensor]]:
    """All tasks' images (6, N, 64) and labels (6, N), in three parts."""
    tasks = digit_tasks()

    def of(part, rows=slice(None)):
        images, labels = (torch.stack([getattr(tasks[name], f"{part}_{k}")[rows] for name in NAMES]) for k in "xy")
        return images.flatten(2), labels

    return {"train": of("train", slice(1000)), "held out": of("train", slice(1000, None)), "test": of("test")}


def body(state: dict) -> dict:
    return {key: t for key, t in state.items() if key.startswith(BODY)}


def begin(seed: int, steps: int = 100) -> tuple[dict, list[dict]]:
    """A network that reads digits, and the six with a head for each task on its body."""
    (images, labels), net = parts()["train"], make()
    (base,) = train(net, new(make, 1, 100 * seed), images[0], labels[0], steps=2 * steps, lr=3e-3, seed=100 * seed)
    heads = train(net, [base] * 6, images, labels, steps=steps * 3 // 2, lr=1e-2, seed=100 * seed + 1, only=HEAD)
    return base, heads


def specialists(heads: list[dict], seed: int, rate: float, steps: int = 100) -> list[dict]:
    return train(make(), heads, *parts()["train"], steps=steps, lr=rate, seed=100 * seed + 2, only=BODY)


def on_tasks(heads: list[dict], one: dict, part: str) -> Tensor:
    """Accuracy (6,) of one body with each task's own head."""
    return accuracy(make(), [head | one for head in heads], *parts()[part])


def train_on_all(base: dict, heads: list[dict], images: Tensor, labels: Tensor, rate: float, seed: int, steps: int):
    """One body for the five tasks: 64 images of each in each step, each through its frozen head."""
    p = {key: t.clone().requires_grad_() for key, t in body(base).items()}
    fixed = {key: t[list(FIVE)] for key, t in stacked(heads).items() if key.startswith(HEAD)}
    adam, generator = torch.optim.Adam(p.values(), lr=rate), torch.Generator().manual_seed(100 * seed + 3)
    net, who = make(), torch.tensor(FIVE)[:, None]
    loss = vmap(lambda head, x, y: F.cross_entropy(functional_call(net, p | head, (x,)), y))
    for _ in range(steps):
        rows = torch.randint(images.shape[1], (len(FIVE), 64), generator=generator)
        adam.zero_grad()
        loss(fixed, images[who, rows], labels[who, rows]).sum().backward()
        adam.step()
    return {key: t.detach() for key, t in p.items()}


def merged(base: dict, vectors: list[dict], way: str, share: float, scale: float, seed: int) -> dict:
    """One body of some task vectors; `share` is the density of TIES, or what DARE drops."""
    if way == "TIES":
        vectors = [ties(vectors, density=share)]
    elif way == "DARE":
        dice = torch.Generator().manual_seed(100 * seed + 4)
        vectors = [dare(vector, drop=share, generator=dice) for vector in vectors]
    return apply_task_vectors(body(base), vectors, scale)


def run(seed: int, steps: int = 100, rates=RATES, shares=SHARES, scales: dict = SCALES) -> dict:
    """Accuracy on test images of the six tasks, of each method at what held-out images chose."""
    (base, heads), five = begin(seed, steps), list(FIVE)
    tuned = {rate: specialists(heads, seed, rate, steps) for rate in rates}
    vectors = {rate: [task_vector(body(base), body(state)) for state in states] for rate, states in tuned.items()}

    def held(one):
        return on_tasks(heads, one, "held out")[five].mean().item()

    def six(states, part):
        return accuracy(make(), states, *parts()[part])

    rate = max(rates, key=lambda rate: six(tuned[rate], "held out")[five].mean())
    result = {
        "heads only": {"right": on_tasks(heads, body(base), "test").tolist()},
        "specialists": {"right": six(tuned[rate], "test").tolist(), "rate": rate},
    }
    for way, some in scales.items():
        settings = [(r, k, s) for r in rates for k in ((1.0,) if way == "sum" else shares) for s in some]
        scored = {(r, k, s): held(merged(base, [vectors[r][i] for i in five], way, k, s, seed)) for r, k, s in settings}
        r, share, scale = best = max(scored, key=scored.get)
        one = merged(base, [vectors[r][i] for i in five], way, share, scale, seed)
        result[way] = {"right": on_tasks(heads, one, "test").tolist(), "rate": r, "share": share, "scale": scale}
        curve = [merged(base, [vectors[r][i] for i in five], way, share, s, seed) for s in some]
        result[way]["by scale"] = [on_tasks(heads, one, "test")[five].mean().item() for one in curve]
        if way == "sum":
            ones, r_sum = curve, best[0]
    (images, labels), (held_x, held_y) = parts()["train"], parts()["held out"]
    bodies = {r: train_on_all(base, heads, images, labels, r, seed, steps) for r in rates}
    r = max(rates, key=lambda r: held(bodies[r]))
    result["trained on all"] = {"right": on_tasks(heads, bodies[r], "test").tolist(), "rate": r}
    instead = train_on_all(base, heads, held_x, held_y, r, seed, steps)
    result["257 to learn"] = {"right": on_tasks(heads, instead, "test").tolist()}

    says = [logits(make(), [heads[i] | one for i in five], held_x[five]).argmax(-1) == held_y[five] for one in ones]
    dice, says = torch.Generator().manual_seed(100 * seed + 5), torch.stack(says).float()  # (scales, 5, 257)
    for n in LABELS:
        chosen = [says[..., torch.randperm(257, generator=dice)[:n]].mean((1, 2)).argmax().item() for _ in range(20)]
        result[f"scale from {n}"] = sum(result["sum"]["by scale"][k] for k in chosen) / 20

    gains, start = [], torch.tensor(result["heads only"]["right"])
    for count in range(1, 7):
        gained = possible = 0.0
        for first in (0, 2, 4):
            members = [(first + i) % 6 for i in range(count)]
            curve = [merged(base, [vectors[r_sum][i] for i in members], "sum", 1.0, s, seed) for s in scales["sum"]]
            one = max(curve, key=lambda one: on_tasks(heads, one, "held out")[members].mean())
            gained += (on_tasks(heads, one, "test") - start)[members].mean().item()
            possible += (six(tuned[r_sum], "test") - start)[members].mean().item()
        gains.append([gained, possible])
    mirrored = merged(base, [vectors[r_sum][4]], "sum", 1.0, -1.0, seed)
    return result | {
        "more": gains,
        "all six": on_tasks(heads, one, "test").tolist(),
        "less mirrored": on_tasks(heads, mirrored, "test").tolist(),
    }


def small() -> dict:
    return {
        "seed": 0,
        "steps": 2,
        "rates": [4e-4],
        "shares": [0.5],
        "scales": {"sum": [0.4], "TIES": [1.0], "DARE": [0.4]},
    }
