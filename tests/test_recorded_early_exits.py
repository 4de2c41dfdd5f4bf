"""What the records of notebook 06 promise: budgets that are kept, equal costs of training, gates that start alike."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from lecture_lib import exits
from lecture_lib.cost import count_flops
from lecture_lib.exits import infer
from lecture_lib.recorded import early_exits as six
from lecture_lib.recorded import early_exits_branching as gated
from lecture_lib.recorded import early_exits_controls as controls
from lecture_lib.recorded import early_exits_longer as longer


@pytest.mark.parametrize("way", ["layer-wise, FLOPs", "separate, FLOPs", "depth 2, FLOPs", "width 10, FLOPs"])
def test_equal_flops_of_training_are_equal(way):
    assert six.training_flops(way) == pytest.approx(six.training_flops("joint"), rel=0.005)


@pytest.mark.parametrize("way", ["joint", "layer-wise", "separate", "full", "depth 2", "width 10"])
def test_equal_batches_are_equal(way):
    assert sum(six.plan(way)[2]) == six.STEPS


def test_a_step_of_layerwise_training_runs_its_prefix_forward_and_its_block_back():
    joint, stages = six.step_flops("joint")[0], six.step_flops("layer-wise")
    assert stages == sorted(stages) and stages[-1] < joint / 2


RULES = [
    ("entropy", lambda t: exits.below_entropy(-t)),
    ("confidence", exits.above_confidence),
    ("margin", exits.above_margin),
    ("patience", lambda t: exits.patience(int(t))),
]


@pytest.mark.parametrize(("name", "rule"), RULES)
def test_what_is_read_off_the_logits_is_what_infer_does(name, rule):
    torch.manual_seed(0)
    net, (x, y) = six.make().eval(), six.examples("held out")
    with torch.no_grad():
        answers, sure = six.RULES[name](net(x), torch.ones(six.K))
    threshold = 2 if name == "patience" else six.settings(sure)[6]
    exited = infer(net, x, rule(threshold))
    leave = six.leaves(sure, threshold)
    assert (leave == exited.exit_index).float().mean() > 0.99  # a tie at the threshold may be rounded
    row = six.table((answers, sure, y), (answers, sure, y), [threshold], six.flops())[0]
    assert row[:2] == row[2:]
    cost = count_flops(infer, net, x, rule(threshold)) / len(x) / six.full()
    assert row[1] == pytest.approx(cost, rel=0.01)


def test_a_budget_is_kept_on_held_out_images():
    rows = [[0.5, 0.1, 0.4, 0.2], [0.8, 0.3, 0.9, 0.9], [0.7, 0.4, 1, 1], [0.9, 0.6, 1, 1]]
    assert six.within(rows, 0.45) == rows[1] and six.within(rows, 0.05) == rows[0]


def test_the_rate_is_picked_by_the_mean_over_seeds():
    entries = [{"lr": lr, "seed": s, "v": v} for lr, v in ((1, 0.5), (2, 0.6)) for s in (1, 0)]
    assert [(e["lr"], e["seed"]) for e in six.best(entries, lambda e: e["v"])] == [(2, 0), (2, 1)]


def test_temperatures_undo_a_scaling():
    z = torch.randn(2, 4000, 10, generator=torch.Generator().manual_seed(0)) * 2
    label = torch.distributions.Categorical(logits=z[0]).sample()
    found = six.temperatures(torch.stack([z[0], 3 * z[0]]), label)
    assert found[0] == pytest.approx(1, rel=0.1) and found[1] == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("arm", ["features", "doubt", "both"])
def test_gates_start_at_a_half_and_cost_what_they_say(arm):
    net = six.make().eval()
    model, (x, _) = gated.branching(net, arm), six.examples("held out")
    with torch.no_grad():
        choice = model(x[:8])[1]
    torch.testing.assert_close(choice.weights, torch.tensor([2.0**-k for k in (1, 2, 3, 4, 5, 5)]).expand(8, -1))
    image, state = x[:1], net.states(x[:1])[0]
    assert not list(model.gates[0].parameters())[2:]  # the head is no part of a gate
    line = count_flops(model.gates[0].line, model.gates[0].sees(state))
    first = count_flops(torch.nn.Sequential(net.blocks[0], net.heads[0]), image)
    assert gated.costs(arm)[0] * six.full() == pytest.approx(first + line)


def test_area_is_that_of_the_roc_curve():
    generator = torch.Generator().manual_seed(0)
    sure, right = torch.randn(200, generator=generator), torch.rand(200, generator=generator) < 0.7
    assert gated.area(sure, right) == pytest.approx(roc_auc_score(right, sure))


def test_what_leaving_pays_is_what_its_table_says():
    net, (x, label) = six.make().eval(), six.examples("held out")
    with torch.no_grad():
        logits = net(x)
    sure = -six.entropy(logits)
    threshold, part = six.settings(sure)[6], (logits, sure, label)
    units = [cost / six.full() for cost in six.flops()]
    _, cost, accuracy = controls.paid(logits, six.leaves(sure.clone(), threshold), label, units)
    assert six.table(part, part, [threshold], six.flops())[0][:2] == pytest.approx([accuracy, cost], abs=1e-4)


def test_three_times_the_flops_are_three_times_the_steps(monkeypatch):
    seen = []
    monkeypatch.setattr(six, "stages", lambda batches, steps, lr: seen.extend(steps) or (lambda model, loss: None))
    longer.run(0, "depth 2, FLOPs", 6e-3)
    assert seen == [3 * n for n in six.plan("depth 2, FLOPs")[2]]
