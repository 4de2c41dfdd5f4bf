"""Controls for choosing patches, notebook 05: decisions frozen early, larger penalties, more steps, a rule that packs.

Task and networks are those of `conditional_computation` and `conditional_computation_adavit`. "frozen" and "packed" are
other ways to spend the bill, so each picks its rate by the same criterion: the grid's best on held-out images, two
seeds of their own. The others keep the rate that their record picked. The cases were set before the run.

"frozen": masked training stops after 100 of 150 steps. Then tokens and scores stay as they are, the threshold goes to
30 %, and the rest trains on the kept patches alone (`packed`): for the 50 steps that are left, and for as many as have
the FLOPs of 50 dense ones. "most ink, packed" keeps no dense step after the first 400. "penalty" changes the factor of
the usage loss, "600 steps" the number of steps, and "FLOPs" the factor of AdaViT's one budget.
"""

from copy import deepcopy
from functools import cache

import torch
import torch.nn.functional as F

from lecture_lib import recorded
from lecture_lib.cost import count_flops
from lecture_lib.patches import usage_loss
from lecture_lib.recorded.conditional_computation import (
    BASE,
    BUDGET,
    MORE,
    RATES,
    SEARCH,
    SEEDS,
    Chooser,
    ViT,
    accuracy,
    base,
    chooser,
    descend,
    examples,
    flops,
)
from lecture_lib.recorded.conditional_computation_adavit import TARGETS, AdaViT, measure
from lecture_lib.skipping import compute_share

MASKED = 100
CASES = (
    "frozen: straight-through",
    "frozen: REINFORCE",
    "packed: most ink",
    "penalty: 20",
    "penalty: 100",
    "penalty: 500",
    "penalty: 20, tokens fixed",
    "600 steps: straight-through",
    "600 steps: REINFORCE",
    "600 steps: most ink",
    "600 steps, stripes: straight-through",
    *(f"{way}: {factor}" for way in ("FLOPs .5", "FLOPs .3") for factor in (20, 200)),
)


@cache
def rate(way: str, stripes: bool = False) -> float:
    """The one that the record picked."""
    if way in TARGETS:
        return next(e["lr"] for e in recorded.load("conditional_computation_adavit")["entries"] if e["way"] == way)
    task = "digits and stripes" if stripes else "digits"
    entries = recorded.load("conditional_computation")["entries"]
    return next(e["lr"] for e in entries if (e["name"], e["task"]) == (way, task) and e["rows"])


@torch.no_grad()
def noisy(net: Chooser, seed: int, stripes: bool = False) -> float:
    """The share of training images' patches that is kept with noise."""
    torch.manual_seed(seed)
    z = net.train().gate(net.net.tokens(examples("train", stripes)[0])[:, 1:])[0]
    net.eval()
    return round(z.mean().item(), 4)


@torch.no_grad()
def cost(net: Chooser) -> int:
    """FLOPs of one test image."""
    x = examples("test")[0]
    return round(count_flops(net, x) / len(x))


def finish(net: Chooser, seed: int, lr: float, steps: int, *, all_of_it: bool = False) -> Chooser:
    """A copy, trained on the patches that it keeps at 30 %, in evaluation mode: what is not kept is not computed."""
    net = deepcopy(net).meet(BUDGET, examples("train")[0])
    net.requires_grad_(all_of_it)
    for part in (net.net.body, net.net.head):
        part.requires_grad_(True)
    return descend(net, lambda x, y: F.cross_entropy(net.eval()(x), y), 3000 + seed, steps, lr)


def penalised(factor: float, seed: int, lr: float, before: int, steps: int, *, fixed: bool = False) -> Chooser:
    """Straight-through with another factor; the tokens, on which the scores stand, may stay as they were."""
    dense = deepcopy(base(seed, lr, False, before))
    torch.manual_seed(1000 + seed)
    net = Chooser(dense, "straight-through")
    if fixed:
        net.net.embed.requires_grad_(False)
        net.net.position.requires_grad_(False)

    def loss(images, label):
        z = net.gate(net.net.tokens(images)[:, 1:])[0]
        return F.cross_entropy(net.net(images, z.squeeze(-1)), label) + factor * usage_loss(z, BUDGET)

    return descend(net, loss, 1000 + seed, steps, lr)


def budgeted(way: str, factor: float, seed: int, lr: float, before: int, steps: int) -> dict:
    """Of AdaViT with one budget: the share of FLOPs with noise and without, accuracy."""
    dense = deepcopy(base(seed, lr, False, before))
    torch.manual_seed(2000 + seed)
    net = AdaViT(dense)

    def loss(images, label):
        logits, decisions = net(images)
        return F.cross_entropy(logits, label) + factor * usage_loss(compute_share(decisions, 32), *TARGETS[way])

    right, _, decisions = measure(descend(net, loss, 2000 + seed, steps, lr), "test")
    with torch.no_grad():
        with_noise = compute_share(net.train()(examples("train")[0])[1], 32).mean().item()
    without = compute_share(decisions, 32).mean().item()
    return {"accuracy": round(right, 4), "share with noise": round(with_noise, 4), "share": round(without, 4)}


def spent(case: str, seed: int, lr: float, short: int) -> tuple[int, list[Chooser]]:
    """Of "frozen" and "packed": how many packed steps the bill buys, and the networks; the first has them."""
    kind, what = case.split(": ")
    dense, before = flops(ViT().eval()), short or BASE
    if kind == "packed":
        net = Chooser(deepcopy(base(seed, lr, False, before)), what).meet(BUDGET, examples("train")[0])
        steps = short or round(MORE * dense / cost(net))
        return steps, [finish(net, seed, lr, steps, all_of_it=True)]
    net = chooser(what, seed, lr, before=before, steps=short or MASKED).meet(BUDGET, examples("train")[0])
    steps = short or round((MORE - MASKED) * dense / cost(net))
    return steps, [finish(net, seed, lr, n) for n in (steps, short or MORE - MASKED)]


@cache
def tried(case: str, short: int) -> list[list[float]]:
    """Each learning rate, and its mean accuracy on held-out images."""
    nets = {lr: [spent(case, seed, lr, short)[1][0] for seed in SEARCH] for lr in RATES}
    return [[lr, sum(accuracy(net, "held out") for net in row) / len(row)] for lr, row in nets.items()]


GRID = {"case": list(CASES), "seed": list(SEEDS)}


def run(seed: int, case: str, short: int = 0) -> dict:
    """Accuracy on test images at 30 % of the patches, and what else the case is about."""
    kind, what = case.split(": ")
    before, more, train = short or BASE, short or MORE, examples("train")[0]
    if kind in TARGETS:
        return budgeted(kind, float(what), seed, rate(kind), before, more)
    if kind == "penalty":
        factor, fixed = float(what.split(",")[0]), "tokens" in what
        net = penalised(factor, seed, rate("straight-through"), before, more, fixed=fixed)
        return {"kept with noise": noisy(net, seed), "accuracy": accuracy(net.meet(BUDGET, train), "test")}
    if kind in ("frozen", "packed"):
        rates = tried(case, short)
        lr = max(rates, key=lambda row: row[1])[0]
        steps, nets = spent(case, seed, lr, short)
        right = [accuracy(net, "test") for net in nets]
        result = {"lr": lr, "tried": rates, "steps": steps, "FLOPs": cost(nets[0]), "accuracy": right[0]}
        return result | ({"equal steps": right[1]} if kind == "frozen" else {})
    stripes = "stripes" in kind
    if stripes and seed > 2:
        return {}
    net = chooser(what, seed, rate(what, stripes), stripes, before=before, steps=short or 600)
    share = {} if what == "most ink" else {"kept with noise": noisy(net, seed, stripes)}
    net.meet(BUDGET, examples("train", stripes)[0])
    return share | {"accuracy": accuracy(net, "test", stripes)}


def small() -> dict:
    return {"seed": 0, "case": "packed: most ink", "short": 3}
