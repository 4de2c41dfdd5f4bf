"""The networks side by side of lecture_lib.recorded.adapters are those of the library, and so is their Adam."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from lecture_lib.adapters import LoRA, MixtureOfAdapters, by_task
from lecture_lib.cost import count_flops
from lecture_lib.models import MLP
from lecture_lib.moe import load_balance_loss
from lecture_lib.recorded import adapters, adapters_alpha, adapters_mixtures


@pytest.mark.parametrize("method", ["all weights", "rank 4, alpha 8"])
def test_one_of_many_is_a_network_of_the_library(method):
    layers, scale = adapters.make(method, adapters.reader(0, 32, 3))
    r, t = 2, 1
    net = MLP(64, 32, 10, depth=3)
    with torch.no_grad():
        for i, layer in zip((0, 2, 4), layers, strict=True):
            net[i].weight.copy_(layer["W"].expand(5, 4, -1, -1)[r, t])
            net[i].bias.copy_(layer["b"].expand(5, 4, -1, -1)[r, t, 0])
            if "A" in layer:
                net[i] = LoRA(net[i], 4, alpha=8)
                net[i].A.copy_(layer["A"][r, t])
    rows = list(itertools.islice(adapters.drawn(*adapters.images(adapters.TASKS, "train"), 32, 7), 5))
    optimizer = torch.optim.Adam([w for w in net.parameters() if w.requires_grad], lr=adapters.RATES[r])
    for x, y in rows:
        optimizer.zero_grad()
        F.cross_entropy(net(x[t]), y[t]).backward()
        optimizer.step()

    def loss(x, y):
        return adapters.error(adapters.forward(layers, x, scale=scale)[0], y)

    assert list(adapters.learn(layers, loss, iter(rows), 5)) == [5]
    x, _ = adapters.images(adapters.TASKS, "test")
    got = adapters.forward(layers, x, scale=scale)[0][r, t]
    torch.testing.assert_close(got, net(x[t]), rtol=1e-3, atol=1e-3)


def test_the_further_scales_are_trained_as_the_first():
    one = adapters_alpha.run(0, 4, "scale = 2/√r", steps=3)["3"]  # 2/√4 = 4/4
    other = adapters.run(0, "rank 4, alpha 4", 1000, steps=3)["3"]
    for part in ("held out", "test"):
        got = torch.tensor(one[part])[:, 1:]  # the grid has one more rate, the lowest
        torch.testing.assert_close(got, torch.tensor(other[part]), rtol=0, atol=0.006)


@pytest.mark.parametrize("name", ["by task", "top-1", "top-2", "softmax"])
def test_a_mixture_is_that_of_the_library_and_costs_as_much(name):
    torch.manual_seed(0)
    system, r, rank = adapters_mixtures.SYSTEMS[name], 3, 2
    layers = adapters_mixtures.make(system, "narrow")
    x = adapters_mixtures.rows(adapters_mixtures.OLD, "test", told=True)[0][:, :20]
    task, h, choices, flops = torch.arange(5)[:, None].expand(5, 20), x, [], 0
    with torch.no_grad():
        for layer in layers:
            layer["B"].normal_()
        got, their = adapters.forward(layers, x, choose=system.choose)
        for n, layer in enumerate(layers):
            base = torch.nn.Linear(h.shape[-1], layer["W"].shape[-2])
            base.weight.copy_(layer["W"][r, 0])
            base.bias.copy_(layer["b"][r, 0, 0])
            mixture = MixtureOfAdapters(base, [LoRA(base, rank) for _ in range(5)], system.choose)
            for k, adapter in enumerate(mixture.adapters):
                mine = slice(k * rank, (k + 1) * rank)
                adapter.A.copy_(layer["A"][r, 0, mine] if system.choose else layer["A"][r, k])
                adapter.B.copy_(layer["B"][r, 0, :, mine] if system.choose else layer["B"][r, k])
            if system.choose:
                mixture.router.weight.copy_(layer["router"][r, 0])
            decree = None if system.choose else by_task(task, 5)
            flops += count_flops(mixture, h, decree)
            h, choice = mixture(h, decree)
            choices.append(choice)
            h = h.relu() if n < 2 else h
    torch.testing.assert_close(got[r], h, rtol=1e-3, atol=1e-3)
    assert flops == 100 * adapters_mixtures.costs(system, layers)["FLOPs of a row"]
    if system.choose:
        one = their[0]._replace(logits=their[0].logits[r : r + 1], weights=their[0].weights[r : r + 1])
        torch.testing.assert_close(adapters_mixtures.balance_loss(one), load_balance_loss(choices[0]))
