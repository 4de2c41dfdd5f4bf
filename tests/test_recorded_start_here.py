"""What the records of notebook 00 promise: networks of one cost, tasks that share what they say, and honest exits."""

import pytest
import torch

from lecture_lib.cost import count_flops
from lecture_lib.exits import above_confidence, infer
from lecture_lib.mixture import mix_sparse
from lecture_lib.models import MLP
from lecture_lib.recorded import start_here as tasks
from lecture_lib.recorded import start_here_exits as with_exits
from lecture_lib.recorded import start_here_linear as linear


def test_eight_modules_are_eight_small_networks():
    network = tasks.Tasks([3, 4], **tasks.NETWORKS["eight modules"])
    parts = [MLP(64, tasks.H, 10) for _ in range(tasks.TASKS)]
    with torch.no_grad():
        for t, part in enumerate(parts):
            for layer, w, b in ((part[0], network.w_first, network.b_first), (part[2], network.w_last, network.b_last)):
                layer.weight.copy_(w[1, t].T)
                layer.bias.copy_(b[1, t, 0])
    x = torch.randn(2, tasks.TASKS, 5, 64, generator=torch.Generator().manual_seed(0))
    z = torch.eye(tasks.TASKS).repeat_interleave(5, 0)
    torch.testing.assert_close(mix_sparse(x[1].flatten(0, 1), z, parts), network(x)[1].flatten(0, 1))


def test_runs_share_nothing():
    network = tasks.Tasks([0, 1], **tasks.NETWORKS["trunk and heads"])
    loss = network(torch.randn(2, tasks.TASKS, 3, 64)).square().sum((1, 2, 3))
    for gradient in torch.autograd.grad(loss[0], list(network.parameters())):
        assert gradient[0].any() and not gradient[1].any()


@pytest.mark.parametrize("world", tasks.WORLDS)
def test_a_lesson_has_the_tasks_names_and_pixels(world):
    rows = torch.randint(1000, (2, 3, 4), generator=torch.Generator().manual_seed(0))
    x, name = tasks.lesson(world, rows, [0, 5, 8])
    (names, orders), (pixels, digit) = tasks.tables(world), tasks.images("train")
    for t, task in enumerate([0, 5, 8]):
        assert torch.equal(x[1, t, 2], pixels[rows[1, t, 2]][orders[task]])
        assert name[1, t, 2] == names[task, digit[rows[1, t, 2]]]
    assert all(len(set(table.tolist())) == len(table) for table in (*names, *orders))


@pytest.mark.parametrize(("how", "kept"), list(zip(tasks.ADDITIONS, (True, True, False, False), strict=True)))
def test_what_is_frozen_stays_as_it_was(how, kept):
    trained = tasks.Tasks([0], **tasks.NETWORKS["trunk and heads"])
    before = [p.detach().clone() for p in trained.parameters()]
    old, new, history = tasks.grow(trained, how, "same images", 1e-2, seeds=[0], kept=[2])
    assert all(map(torch.equal, trained.parameters(), before))  # what is handed in is not touched
    assert all(map(torch.equal, old.parameters(), before)) is kept
    assert (new.w_first is old.w_first) is (how != "a module") and list(history) == [2]


def test_the_rate_is_picked_on_held_out_images():
    tried = {
        0.1: {5: {"held_out": torch.tensor([0.5, 0.7]), "test": torch.ones(2)}},
        0.2: {5: {"held_out": torch.tensor([0.6, 0.7]), "test": torch.zeros(2)}},
    }
    assert tasks.picked(tried)[5][0] == 0.2


def test_exits_are_counted_and_judged_as_inference_takes_them():
    torch.manual_seed(0)
    net = with_exits.make("three exits")
    with torch.no_grad():
        for head in net.heads:
            head[-1].weight.mul_(30)  # some are sure
    rows, (x, label) = with_exits.measure(net, "three exits"), with_exits.examples("test")
    for t in (0.3, 0.5, 0.9):
        at = with_exits.THRESHOLDS.index(t)
        exited = infer(net, x, above_confidence(t))
        assert rows["test"][at] == pytest.approx((exited.logits.argmax(-1) == label).double().mean().item(), abs=1e-4)
        counted = count_flops(infer, net, x, above_confidence(t)) / len(x)
        assert rows["test, FLOPs"][at] == pytest.approx(counted, rel=1e-3)


def test_static_networks_have_the_cost_that_is_said():
    for name in with_exits.CHANNELS.keys() - {"three exits"}:
        net = with_exits.make(name)
        assert with_exits.flops(name) == [count_flops(net, torch.zeros(1, 1, 8, 8))]
        assert with_exits.measure(net, name)["test, FLOPs"] == with_exits.flops(name)


@pytest.mark.parametrize("network", ["three exits", "4, 11, 22"])
def test_seeds_side_by_side_are_trained_as_each_alone(network):
    alone = with_exits.measure(with_exits.train(network, 4e-3, seed=1, steps=5), network)
    (_, beside) = with_exits.together(network, 4e-3, (0, 1), (5,))[5]
    for name, values in alone.items():
        assert beside[name] == pytest.approx(values, rel=0.02, abs=0.01)


def test_a_budget_is_kept_on_held_out_images():
    row = {"held out, FLOPs": [10, 20, 30]}
    assert [with_exits.within(row, budget) for budget in (9, 10, 29, 99)] == [None, 0, 1, 2]
    longest = 2700 * with_exits.flops("4, 11, 22")[0]
    assert longest < 900 * with_exits.flops("three exits")[-1]  # as the notebook says


def test_a_linear_layer_for_each_task():
    layers = linear.Linear([0, 7], 3)
    x = torch.randn(2, 3, 4, 64)
    by_hand = x[1, 2] @ layers.w_first[1, 2] + layers.b_first[1, 2]
    torch.testing.assert_close(layers(x)[1, 2], by_hand)
    assert layers.w_first.abs().max() <= 1 / 8  # the start of nn.Linear
