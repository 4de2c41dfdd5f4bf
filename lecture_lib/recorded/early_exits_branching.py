"""Gates that learn when to leave, notebook 06: differentiable branching beside thresholds, on one network.

The network is that of `early_exits`, trained jointly at the rate picked there. All gates start at zero: g = 1/2 for
every input. A gate sees the features that its head sees, or the entropy of its head (its doubt), or both.

    features, doubt, both    the network is frozen, the gates learn by the loss of branching
    agreement                the network is frozen, the gates of features learn to predict "as the last exit says"
    all                      gates and network learn on: 300 steps from where "both" ended
    from scratch             gates that see both and the network learn together: 600 steps, as joint training has them
    joint, on                no gates: joint training for 300 more steps

The criterion, written before the record. Each arm has three rates: 5e-3 times 1, 2, 4 for gates alone, 3e-3 times these
for what trains the network. What is reported has the rate whose own loss on held-out images is least, mean over the
seeds. Then leave where g >= 1/2; and at twelve thresholds of g, as the rules of `early_exits` have them.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib import recorded
from lecture_lib.choice import stick_breaking
from lecture_lib.exits import DifferentiableBranching, EarlyExitNet, expected_cost, train_jointly
from lecture_lib.recorded import early_exits as six
from lecture_lib.recorded.start_here_exits import stream

PRICES, FRACTIONS = (0.03, 0.1, 0.3), (1, 2, 4)
SEES = {"features": (True, False), "doubt": (False, True), "both": (True, True), "agreement": (True, False)}
ARMS = [*SEES, "all", "from scratch", "joint, on"]
ON, GATE_STEPS, GATE_BATCH = 300, 1000, 256


class Gate(nn.Module):
    """The logit of stopping, linear in what it sees: the features of a head, its entropy, or both."""

    def __init__(self, head: nn.Module, features: bool, doubt: bool):
        super().__init__()
        self.look, self.head = nn.Sequential(*head[:-1]), [head] if doubt else []  # in a list: not a part of the gate
        self.features = features
        self.line = nn.Linear(features * head[-1].in_features + doubt, 1)
        nn.init.zeros_(self.line.weight)
        nn.init.zeros_(self.line.bias)

    def sees(self, h: Tensor) -> Tensor:
        seen = [self.look(h)] if self.features else []
        return torch.cat(seen + [six.entropy(head(h)).unsqueeze(-1) for head in self.head], -1)

    def forward(self, h: Tensor) -> Tensor:
        return self.line(self.sees(h)).squeeze(-1)


def branching(net: EarlyExitNet, arm: str) -> DifferentiableBranching:
    features, doubt = SEES.get(arm, (True, True))
    return DifferentiableBranching(net, [Gate(head, features, doubt) for head in net.heads[:-1]])


def costs(arm: str) -> list[float]:
    """Of leaving at each exit, as a share of the network without exits: blocks, heads, and the gates on the way."""
    features, doubt = SEES.get(arm, (True, True))
    gate = 2 * (features * 4 * six.WIDTH + doubt)
    return [(cost + gate * min(k + 1, six.K - 1)) / six.full() for k, cost in enumerate(six.flops())]


def loss_of(model: DifferentiableBranching, arm: str, price: float, x: Tensor, label: Tensor) -> Tensor:
    """The cross-entropy of the mixture, and the price of the expected cost."""
    mixed, choice = model(x)
    return F.nll_loss(mixed.clamp_min(1e-9).log(), label) + price * expected_cost(choice, costs(arm)).mean()


# ------------------------------------------------------------------------------------------------------------ training


@cache
def rate() -> float:
    """That of joint training, picked in `early_exits`."""
    entries = [entry for entry in recorded.load("early_exits")["entries"] if entry["way"] == "joint"]
    return six.best(entries, lambda entry: sum(entry["held out"]))[0]["lr"]


def joint(seed: int, shorten: float) -> EarlyExitNet:
    """A jointly trained network, its own copy; trained once."""
    net = six.make()
    net.load_state_dict(_joint(seed, shorten))
    return net.eval()


@cache
def _joint(seed: int, shorten: float) -> dict:
    return six.train("joint", rate(), seed=seed, shorten=shorten).state_dict()


@cache
@torch.no_grad()
def seen(seed: int, arm: str, shorten: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of training images with noise: what the gates see, (N, K - 1, D), log p of the right class, and what is said."""
    net, batches, parts = joint(seed, shorten), stream(1000 + seed), []
    gates = branching(net, arm).gates
    for _ in range(max(8, round(600 / shorten))):
        x, label = next(batches)
        states = net.states(x)
        logits = net.classify(states)
        log_p = logits.log_softmax(-1).movedim(0, 1).gather(-1, label[:, None, None].expand(-1, six.K, 1)).squeeze(-1)
        inputs = torch.stack([gate.sees(h) for gate, h in zip(gates, states, strict=False)], 1)
        parts.append((inputs, log_p, logits.argmax(-1).T))
    return tuple(map(torch.cat, zip(*parts, strict=True)))


@cache
def frozen(seed: int, arm: str, lr: float, shorten: float) -> tuple[Tensor, Tensor]:
    """Gates of a frozen network for each price side by side: weights (P, K - 1, D) and biases (P, K - 1)."""
    inputs, log_p, said = seen(seed, arm, shorten)
    prices = (0.0,) if arm == "agreement" else PRICES
    w = torch.zeros(len(prices), *inputs.shape[1:], requires_grad=True)
    b = torch.zeros(len(prices), six.K - 1, requires_grad=True)
    price, c = torch.tensor(prices)[:, None], torch.tensor(costs(arm))
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam([w, b], lr=lr)
    for _ in range(max(1, round(GATE_STEPS / shorten))):
        rows = torch.randint(len(inputs), (GATE_BATCH,), generator=generator)
        logits = torch.einsum("nkd,pkd->pnk", inputs[rows], w) + b[:, None]
        if arm == "agreement":
            agrees = (said[rows, :-1] == said[rows, -1:]).float()
            share = agrees.mean(0).clamp(0.01, 0.99)
            weight = agrees / (2 * share) + (1 - agrees) / (2 - 2 * share)
            loss = F.binary_cross_entropy_with_logits(logits[0], agrees, weight)
        else:
            choice = stick_breaking(logits)
            right = (choice.logits + log_p[rows]).logsumexp(-1)  # log of Σ z p
            loss = (price * (choice.weights @ c) - right).mean(1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return w.detach(), b.detach()


def with_gates(seed: int, arm: str, lr: float, i: int, shorten: float) -> DifferentiableBranching:
    """The frozen network with its gates for price number i."""
    model = branching(joint(seed, shorten), arm)
    w, b = frozen(seed, arm, lr, shorten)
    with torch.no_grad():
        for k, gate in enumerate(model.gates):
            gate.line.weight.copy_(w[i, k : k + 1])
            gate.line.bias.copy_(b[i, k : k + 1])
    return model


def train(seed: int, arm: str, lr: float, i: int, shorten: float) -> DifferentiableBranching:
    """An arm with gates, at price number i."""
    if arm in SEES:
        return with_gates(seed, arm, lr, i, shorten)
    if arm == "all":  # the gates at their own best rate for this price
        tried = [with_gates(seed, "both", 5e-3 * n, i, shorten) for n in FRACTIONS]
        model, steps = min(tried, key=lambda one: held_out_loss(one, "both", PRICES[i])), ON
    else:
        torch.manual_seed(seed)
        model, steps = branching(six.make(), arm), six.STEPS
    fit = six.stages(stream(100 + seed), [max(1, round(steps / shorten))], lr)
    fit(model, lambda x, label: loss_of(model, arm, PRICES[i], x, label))
    return model


@torch.no_grad()
def held_out_loss(model: DifferentiableBranching, arm: str, price: float) -> float:
    return loss_of(model.eval(), arm, price, *six.examples("held out")).item()


# ----------------------------------------------------------------------------------------------------------- measuring


def area(sure: Tensor, right: Tensor) -> float:
    """How often a right example is surer than a wrong one: the area under the ROC curve."""
    ranks = sure.double().argsort().argsort().double()
    n = right.sum().item()
    wrong = len(right) - n
    return ((ranks[right].sum().item() - n * (n - 1) / 2) / (n * wrong)) if n * wrong else 0.5


@torch.no_grad()
def measure(model: DifferentiableBranching, arm: str, price: float) -> dict:
    """Leaving at g >= 1/2 and at twelve thresholds of g; by entropy in the same network; the mixture itself."""
    model.eval()
    parts, result, units = [], {}, [cost * six.full() for cost in costs(arm)]
    for part in ("held out", "test"):
        x, label = six.examples(part)
        states = model.net.states(x)
        gates = torch.stack([gate(h) for gate, h in zip(model.gates, states, strict=False)])
        sure = torch.cat([gates, torch.full_like(gates[:1], torch.inf)])
        parts.append((model.net.classify(states), sure, label))
        result[f"mixture, {part}"] = round((model(x)[0].argmax(-1) == label).double().mean().item(), 4)
    logits, sure, label = parts[1]
    by_entropy = [(z, -six.entropy(z), y) for z, _, y in parts]
    right, g = logits.argmax(-1) == label, sure[:-1].sigmoid()
    return result | {
        "loss": held_out_loss(model, arm, price),
        "half": six.table(*parts, [0.0], units)[0],
        "gates": six.table(*parts, six.settings(parts[0][1]), units),
        "entropy": six.table(*by_entropy, six.settings(by_entropy[0][1]), six.flops()),
        "exits": six.leaves(sure.clone(), 0.0).bincount(minlength=six.K).double().div(len(label)).tolist(),
        "last": right[-1].double().mean().item(),
        "lowest and highest g": g.quantile(torch.tensor([0.05, 0.95]), 1).T.tolist(),
        "area of g": [area(sure[k], right[k]) for k in range(six.K - 1)],
        "area of entropy": [area(-six.entropy(logits[k]), right[k]) for k in range(six.K - 1)],
    }


GRID = {"seed": (0, 1, 2), "arm": ARMS, "lr": FRACTIONS}


def run(seed: int, arm: str, lr: float, shorten: float = 1) -> dict:
    """Price -> what `measure` says; of "joint, on" what `early_exits.measure` says, at price 0."""
    if arm == "joint, on":
        net = joint(seed, shorten)
        train_jointly(net, six.stages(stream(100 + seed), [max(1, round(ON / shorten))], 3e-3 * lr))
        return {"0": six.measure(net.eval(), ["entropy"], six.flops())}
    scale = 5e-3 if arm in SEES else 3e-3
    prices = {"agreement": (0,), "from scratch": (0.1,)}.get(arm, PRICES)
    return {
        str(price): measure(train(seed, arm, scale * lr, PRICES.index(price) if price else 0, shorten), arm, price)
        for price in prices
    }


def small() -> dict:
    return {"seed": 0, "arm": "doubt", "lr": 1, "shorten": 100}
