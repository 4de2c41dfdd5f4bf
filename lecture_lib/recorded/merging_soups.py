"""A soup of eight fine-tuned networks, beside what its eight trainings could have bought otherwise. Notebook 12.

An MLP of two hidden layers of 128 learns scikit-learn's digits for 200 steps; then 800 noisy digits (one draw of noise
of standard deviation 0.5). Fine-tuning: Adam, 32 images a step. The eight of a soup: four rates times two orders of the
images, 150 steps each. "one run": the same start, 1,200 steps, as many as the eight together, at each of six
rates. "mean along it": the mean of the weights of that run at steps 650, 700, ..., 1,200. "falling": its rate falls
to 0 along a line. "strangers": eight networks that have each learnt clean digits from a start of their own, then noisy
ones at the rate of the best of the eight.

To choose by: 457 other digits, ten draws of noise of each. Reported: 540 test digits, ten draws of each.

The criterion, written before the training: accuracy held out. By it the best of the eight, the members of the greedy
soup, and the rate of each kind of long run are chosen.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lecture_lib.data import digits
from lecture_lib.merging import average, greedy_soup
from lecture_lib.models import MLP

RATES, LONG = (3e-4, 1e-3, 3e-3, 1e-2), (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
GRID = {"seed": (0, 1, 2, 3, 4, 5, 6, 7)}


def images(seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Flat images (N, 64) and digits: clean to learn first, noisy to learn, to choose by and to test on."""
    data, generator = digits(), torch.Generator().manual_seed(1000 + seed)
    x, y = data.train_x.flatten(1), data.train_y

    def noisy(x, y, draws):
        x = x.repeat(draws, 1)
        return x + 0.5 * torch.randn(x.shape, generator=generator), y.repeat(draws)

    return {
        "clean": (x[:800], y[:800]),
        "noisy": noisy(x[:800], y[:800], 1),
        "held out": noisy(x[800:], y[800:], 10),
        "test": noisy(data.test_x.flatten(1), data.test_y, 10),
    }


def learn(state: dict | None, x: Tensor, y: Tensor, steps: int, lr: float, order: int, size: int = 32, falling=False):
    """The states along a training at steps 50, 100, ... and at its end."""
    torch.manual_seed(order)
    net = MLP(64, 128, 10, depth=3)
    if state is not None:
        net.load_state_dict(state)
    adam = torch.optim.Adam(net.parameters(), lr=lr)
    generator, kept = torch.Generator().manual_seed(order), []
    for step in range(1, steps + 1):
        if falling:
            adam.param_groups[0]["lr"] = lr * (1 - (step - 1) / steps)
        rows = torch.randint(len(y), (size,), generator=generator)
        adam.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        adam.step()
        if step % 50 == 0 or step == steps:
            kept.append({key: w.detach().clone() for key, w in net.state_dict().items()})
    return kept


def run(seed: int, steps: int = 150, rates: list | None = None, orders: tuple = (1, 2), before: int = 200) -> dict:
    """Accuracy of each on test images; held out, of the eight; who is in the greedy soup; rates chosen."""
    parts, net, more = images(seed), MLP(64, 128, 10, depth=3), rates or LONG
    rates = rates or RATES

    def said(state, part):
        return torch.func.functional_call(net, state, (parts[part][0],))

    def right(state, part="test"):
        return (said(state, part).argmax(-1) == parts[part][1]).double().mean().item()

    def held(state):
        return right(state, "held out")

    base = learn(None, *parts["clean"], before, 3e-3, 100 * seed, size=64)[-1]
    eight = [learn(base, *parts["noisy"], steps, lr, 100 * seed + k)[-1] for lr in rates for k in orders]
    best = max(range(len(eight)), key=[held(state) for state in eight].__getitem__)
    soup = greedy_soup(eight, held)
    vote = sum(said(state, "test").softmax(-1) for state in eight).argmax(-1)
    result = {
        "pretrained": right(base),
        "each": [right(state) for state in eight],
        "held out": [held(state) for state in eight],
        "best of eight": right(eight[best]),
        "greedy soup": right(soup.state),
        "members": soup.members,
        "soup of all": right(average(eight)),
        "all vote": (vote == parts["test"][1]).double().mean().item(),
    }
    long = [learn(base, *parts["noisy"], len(eight) * steps, lr, 100 * seed + 3) for lr in more]
    falls = [learn(base, *parts["noisy"], len(eight) * steps, lr, 100 * seed + 3, falling=True)[-1] for lr in more]
    means = [average(kept[len(kept) // 2 :]) for kept in long]
    for name, states in (("one run", [kept[-1] for kept in long]), ("mean along it", means), ("falling", falls)):
        chosen = max(range(len(more)), key=[held(state) for state in states].__getitem__)
        result[name] = {"right": right(states[chosen]), "rate": more[chosen], "each": [right(s) for s in states]}
    rate = rates[best // len(orders)]
    starts = [learn(None, *parts["clean"], before, 3e-3, 100 * seed + 10 + k, size=64)[-1] for k in range(8)]
    strangers = [learn(s, *parts["noisy"], steps, rate, 100 * seed + 10 + k)[-1] for k, s in enumerate(starts)]
    result["strangers, each"] = [right(state) for state in strangers]
    result["soup of strangers"] = right(average(strangers))
    return result


def small() -> dict:
    return {"seed": 0, "steps": 2, "rates": [1e-3], "orders": [1], "before": 3}
