"""Early exits: what is trained, what runs, when one stops; differentiable branching against the recursion it states."""

import copy
from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lecture_lib.choice import stick_breaking
from lecture_lib.cost import count_flops
from lecture_lib.exits import (
    DifferentiableBranching,
    EarlyExitNet,
    above_confidence,
    above_margin,
    arithmetic_ensemble,
    below_entropy,
    expected_cost,
    geometric_ensemble,
    infer,
    joint_loss,
    learned_gate,
    patience,
    train_gates,
    train_jointly,
    train_layerwise,
    train_separately,
)
from lecture_lib.mixture import mix_sparse
from lecture_lib.training import fit

B, D, C, K = 40, 6, 3, 4


def network(seed=0, exits=K, dtype=torch.float64):
    torch.manual_seed(seed)
    blocks = [nn.Sequential(nn.Linear(D, D, dtype=dtype), nn.Tanh()) for _ in range(exits)]
    return EarlyExitNet(blocks, [nn.Linear(D, C, dtype=dtype) for _ in range(exits)])


def gates_of(dtype=torch.float64):
    return nn.ModuleList(nn.Linear(D, 1, dtype=dtype) for _ in range(K - 1))


@pytest.fixture
def x():
    return 3 * torch.randn(B, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_every_exit_is_the_network_cut_there(x):
    net = network()
    wanted = torch.stack([nn.Sequential(*net.blocks[: k + 1], net.heads[k])(x) for k in range(K)])
    torch.testing.assert_close(net(x), wanted)


def test_joint_loss_is_the_weighted_sum_of_cross_entropies_with_its_gradients():
    logits = torch.randn(K, B, C, dtype=torch.float64, requires_grad=True)
    target, weights = torch.arange(B) % C, [0.1, 0.0, 2.0, 1.0]
    by_hand = sum(w * F.cross_entropy(z, target) for w, z in zip(weights, logits, strict=True))
    loss = joint_loss(logits, target, weights)
    torch.testing.assert_close(loss, by_hand)
    torch.testing.assert_close(torch.autograd.grad(loss, logits), torch.autograd.grad(by_hand, logits))
    equal = sum(F.cross_entropy(z, target) for z in logits)
    torch.testing.assert_close(joint_loss(logits, target), equal)


# -------------------------------------------------------------------------------------------------------------- rules


def one_by_one(net, x, stops):
    """The dumb reference: one example, exit after exit; `stops(predictions so far, h)` for one example."""
    outputs, indices = [], []
    for example in x:
        h, seen = example[None], []
        for k in range(len(net.blocks)):
            h = net.blocks[k](h)
            seen.append(net.heads[k](h)[0])
            if k == len(net.blocks) - 1 or stops([z.softmax(-1) for z in seen], h):
                break
        outputs.append(seen[-1])
        indices.append(k)
    return torch.stack(outputs), torch.tensor(indices)


def unsure(p):
    return -(p * p.log()).sum()


def pabee(patience):
    """The paper's counter, which starts again at 0 when an exit disagrees with the one before."""

    def stops(seen, h):
        count = 0
        for before, now in pairwise(seen):
            count = count + 1 if before.argmax() == now.argmax() else 0
        return count >= patience

    return stops


torch.manual_seed(5)
GATES = gates_of()
RULES = {
    "entropy": (below_entropy(0.9), lambda seen, h: unsure(seen[-1]) <= 0.9),
    "confidence": (above_confidence(0.5), lambda seen, h: seen[-1].max() >= 0.5),
    "margin": (above_margin(0.2), lambda seen, h: seen[-1].sort().values[-1] - seen[-1].sort().values[-2] >= 0.2),
    "patience 1": (patience(1), pabee(1)),
    "patience 2": (patience(2), pabee(2)),
    "learned gate": (learned_gate(GATES), lambda seen, h: GATES[len(seen) - 1](h).item() >= 0),
    "my own": (lambda logits, h: h[:, 0] > 0, lambda seen, h: h[0, 0] > 0),
}


@pytest.mark.parametrize("rule", RULES)
def test_infer_equals_one_example_at_a_time(rule, x):
    net, (rule, stops) = network(), RULES[rule]
    logits, index = one_by_one(net, x, stops)
    exited = infer(net, x, rule)
    torch.testing.assert_close(exited.logits, logits.detach())
    assert exited.exit_index.tolist() == index.tolist()
    assert len(index.unique()) >= 2  # the rule does tell examples apart


@pytest.mark.parametrize("rule", RULES)
def test_infer_is_the_mixture_over_exits_evaluated_sparsely(rule, x):
    net = network()
    exited = infer(net, x, RULES[rule][0])
    z = F.one_hot(exited.exit_index, K).double()
    cut = [nn.Sequential(*net.blocks[: k + 1], net.heads[k]) for k in range(K)]
    torch.testing.assert_close(exited.logits, mix_sparse(x, z, cut).detach())


@pytest.mark.parametrize("rule", RULES)
def test_what_has_left_is_not_computed(rule, x):
    net = network()
    index = infer(net, x, RULES[rule][0]).exit_index
    block, head, gate = 2 * D * D, 2 * D * C, 2 * D if rule == "learned gate" else 0
    reached = [(index >= k).sum().item() for k in range(K)]  # examples that come to exit k
    counted = count_flops(infer, net, x, RULES[rule][0])
    assert counted == sum(n * (block + head) for n in reached) + gate * sum(reached[:-1])
    assert counted < count_flops(net, x)


def test_the_last_exit_takes_all_and_no_block_runs_behind_the_last_that_is_needed(x):
    net = network()
    never, always = above_confidence(1.0), above_confidence(0.0)
    assert (infer(net, x, never).exit_index == K - 1).all()
    torch.testing.assert_close(infer(net, x, never).logits, net(x)[-1].detach())
    for block in net.blocks[1:]:
        block.forward = None  # calling it would fail
    assert (infer(net, x, always).exit_index == 0).all()
    assert (infer(network(exits=1), x, never).exit_index == 0).all()  # the rule is not asked at the last exit


def test_patience_waits_for_the_exit_after_it(x):
    net = network()
    for p in (1, 2):
        assert infer(net, x, patience(p)).exit_index.min() == p
    assert (infer(net, x, patience(K)).exit_index == K - 1).all()  # longer than the network: never early


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("ensemble", [None, arithmetic_ensemble, geometric_ensemble])
def test_an_empty_batch_gives_an_empty_result(rule, ensemble, x):
    exited = infer(network(), x[:0], RULES[rule][0], ensemble=ensemble)
    assert exited.logits.shape == (0, C) and exited.exit_index.shape == (0,) and exited.exit_index.dtype == torch.int64
    assert network()(x[:0]).shape == (K, 0, C)


def test_infer_is_deterministic_and_leaves_inputs_and_gradients_alone(x):
    net, before = network(), x.clone()
    first, second = (infer(net, x, below_entropy(0.9)) for _ in range(2))
    assert torch.equal(first.logits, second.logits) and torch.equal(x, before)
    assert not first.logits.requires_grad


# ---------------------------------------------------------------------------------------------------------- ensembles


def test_ensembles_are_the_means_of_the_predictions_so_far():
    logits = torch.randn(K, B, C, dtype=torch.float64)
    p = logits.softmax(-1)
    for k in range(K):
        torch.testing.assert_close(arithmetic_ensemble(logits)[k].exp(), p[: k + 1].mean(0))
        product = p[: k + 1].prod(0) ** (1 / (k + 1))
        torch.testing.assert_close(geometric_ensemble(logits)[k].exp(), product / product.sum(-1, keepdim=True))


@pytest.mark.parametrize("ensemble", [arithmetic_ensemble, geometric_ensemble])
def test_infer_decides_and_answers_by_the_ensemble(ensemble, x):
    net = network()
    exited = infer(net, x, above_confidence(0.5), ensemble=ensemble)
    together = ensemble(net(x)).detach()
    sure = together.exp().amax(-1) >= 0.5
    sure[-1] = True
    wanted = sure.int().argmax(0)  # the first
    assert exited.exit_index.tolist() == wanted.tolist()
    torch.testing.assert_close(exited.logits, together[wanted, torch.arange(B)])


# ----------------------------------------------------------------------------------------------------------- training


def snapshots(net, stages):
    """A `fit` that takes a few real steps, and records which parameters of `net` each stage changed."""
    names = [name for name, _ in net.named_parameters()]
    target = torch.arange(B) % C
    data = 3 * torch.randn(B, D, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def run(model, loss):
        before = copy.deepcopy(dict(net.named_parameters()))
        history = fit(model, loss, iter([(data, target)] * 3), steps=3)
        stages.append({name for name in names if not torch.equal(before[name], net.get_parameter(name))})
        return history

    return run


def parameters(*prefixes):
    return {f"{prefix}.{kind}" for prefix in prefixes for kind in ("weight", "bias")}


def test_joint_training_moves_everything():
    net, stages = network(), []
    results = train_jointly(net, snapshots(net, stages))
    assert stages == [{name for name, _ in net.named_parameters()}] and len(results) == 1


def test_joint_training_with_one_weight_is_training_without_exits():
    net, stages = network(), []
    train_jointly(net, snapshots(net, stages), weights=[0, 0, 0, 1])
    assert stages == [parameters(*[f"blocks.{k}.0" for k in range(K)], "heads.3")]


def test_layerwise_training_moves_one_block_and_its_head_at_a_time():
    net, stages = network(), []
    results = train_layerwise(net, snapshots(net, stages))
    assert stages == [parameters(f"blocks.{k}.0", f"heads.{k}") for k in range(K)] and len(results) == K


def test_separate_training_moves_the_backbone_then_the_other_heads():
    net, stages = network(), []
    results = train_separately(net, snapshots(net, stages))
    backbone = parameters(*[f"blocks.{k}.0" for k in range(K)], "heads.3")
    assert stages == [backbone, parameters("heads.0", "heads.1", "heads.2")] and len(results) == 2
    alone, plain = network(exits=1), network(exits=1)
    assert len(train_separately(alone, snapshots(alone, []))) == 1  # one exit: nothing is left for a second stage
    train_jointly(plain, snapshots(plain, []))
    torch.testing.assert_close(alone.state_dict(), plain.state_dict())


def test_each_regime_lowers_its_losses_and_layerwise_equals_a_loop_by_hand():
    net, by_hand = network(), network()
    data = torch.randn(B, D, dtype=torch.float64)
    target = data[:, 0].gt(0).long() + data[:, 1].gt(0).long()
    many = partial(fit, batches=iter([(data, target)] * 1000), steps=20, lr=0.01)
    before = [F.cross_entropy(z, target).item() for z in net(data)]
    train_layerwise(net, many)
    assert all(F.cross_entropy(z, target) < loss for z, loss in zip(net(data), before, strict=True))
    h = data
    for block, head in zip(by_hand.blocks, by_hand.heads, strict=True):
        optimizer = torch.optim.Adam([*block.parameters(), *head.parameters()], lr=0.01)
        for _ in range(20):
            optimizer.zero_grad()
            F.cross_entropy(head(block(h)), target).backward()
            optimizer.step()
        h = block(h).detach()
    torch.testing.assert_close(net.state_dict(), by_hand.state_dict())


@pytest.mark.parametrize("train", [train_layerwise, train_separately])
def test_frozen_parts_are_in_evaluation_mode_and_the_mode_is_given_back(train):
    torch.manual_seed(0)
    net = EarlyExitNet([nn.BatchNorm1d(D) for _ in range(3)], [nn.Linear(D, C) for _ in range(3)])
    counts = []

    def run(model, loss):
        model.train()
        loss(torch.randn(8, D), torch.arange(8) % C)
        counts.append([block.num_batches_tracked.item() for block in net.blocks])

    train(net, run)
    assert (
        counts
        == {
            train_layerwise: [[1, 0, 0], [1, 1, 0], [1, 1, 1]],  # each counts in its own stage only
            train_separately: [[1, 1, 1], [1, 1, 1]],
        }[train]
    )
    assert net.training and all(module.training for module in net.modules())


def test_gates_learn_whether_the_last_exit_agrees_and_the_network_stays(x):
    net, gates, stages = network(seed=4), gates_of(), []
    train_gates(net, gates, snapshots(net, stages))
    assert stages == [set()]
    many = 3 * torch.randn(500, D, dtype=torch.float64)
    steps = partial(fit, batches=iter([(many, torch.zeros(500))] * 300), steps=300, lr=0.05)
    train_gates(net, gates, steps)
    with torch.no_grad():
        said, states = net(many).argmax(-1), net.states(many)
        for k, gate in enumerate(gates):
            agrees = said[k] == said[-1]
            stop = gate(states[k]).squeeze(-1) > 0
            rates = stop[agrees].double().mean(), (~stop[~agrees]).double().mean()
            assert sum(rates) / 2 > 0.55  # balanced accuracy; a guess has 0.5


# ------------------------------------------------------------------------------------------- differentiable branching


def recursion(net, gates, x, costs):
    """As the paper states it, from the last exit to the first: f̃_k = g_k f_k + (1 - g_k) f̃_{k+1}, costs alike."""
    states = net.states(x)
    f = [head(h).softmax(-1) for head, h in zip(net.heads, states, strict=True)]
    g = [gate(h).sigmoid() for gate, h in zip(gates, states, strict=False)]
    y, cost = f[-1], torch.full((len(x), 1), costs[-1], dtype=x.dtype)
    for k in reversed(range(K - 1)):
        y, cost = g[k] * f[k] + (1 - g[k]) * y, g[k] * costs[k] + (1 - g[k]) * cost
    return y, cost.squeeze(-1)


def test_branching_is_the_recursion_in_value_and_in_every_gradient(x):
    net, costs, target = network(), [1.0, 2.5, 3.0, 4.0], torch.arange(B) % C
    branching = DifferentiableBranching(net, gates_of())
    y, choice = branching(x)
    y_hand, cost_hand = recursion(net, branching.gates, x, costs)
    torch.testing.assert_close(y, y_hand)
    torch.testing.assert_close(y.sum(-1), torch.ones(B, dtype=torch.float64))
    torch.testing.assert_close(expected_cost(choice, costs), cost_hand)
    loss = F.nll_loss(y.log(), target) + 0.3 * expected_cost(choice, costs).mean()
    by_hand = F.nll_loss(y_hand.log(), target) + 0.3 * cost_hand.mean()
    everything = list(branching.parameters())
    torch.testing.assert_close(torch.autograd.grad(loss, everything), torch.autograd.grad(by_hand, everything))


def test_hard_gates_make_the_sparse_evaluation_equal_to_the_dense_one(x):
    class Hard(nn.Linear):
        def forward(self, h):
            return torch.where(super().forward(h) > 0, 1e4, -1e4).to(h)  # σ is exactly 1 or 0

    net = network(seed=3)
    branching = DifferentiableBranching(net, [Hard(D, 1, dtype=torch.float64) for _ in range(K - 1)])
    y, choice = branching(x)
    assert set(choice.weights.unique().tolist()) == {0.0, 1.0}
    exited = infer(net, x, learned_gate(branching.gates))
    torch.testing.assert_close(exited.logits.softmax(-1), y.detach())
    assert exited.exit_index.tolist() == choice.weights.argmax(-1).tolist()
    assert len(exited.exit_index.unique()) >= 3
    costs = torch.arange(1.0, K + 1, dtype=torch.float64)
    torch.testing.assert_close(expected_cost(choice, costs), costs[exited.exit_index])
    assert count_flops(infer, net, x, learned_gate(branching.gates)) < count_flops(branching, x)


def test_branching_takes_another_way_to_choose_one_exit_and_an_empty_batch(x):
    first = DifferentiableBranching(network(), gates_of(), choose=lambda g: stick_breaking(torch.full_like(g, 1e4)))
    torch.testing.assert_close(first(x)[0], first.net(x)[0].softmax(-1))
    alone = DifferentiableBranching(network(exits=1), [])
    torch.testing.assert_close(alone(x)[0], alone.net(x)[0].softmax(-1))
    y, choice = DifferentiableBranching(network(), gates_of())(x[:0])
    assert y.shape == (0, C) and choice.weights.shape == (0, K)


# ---------------------------------------------------------------------------------------------------------- bad input


def test_bad_input_is_refused_by_name(x):
    net, logits, target = network(), torch.randn(K, B, C), torch.zeros(B, dtype=torch.long)
    bad = [
        (lambda: EarlyExitNet([nn.Identity()] * 2, [nn.Identity()]), "got 2 blocks and 1 heads"),
        (lambda: EarlyExitNet([], []), "got 0 blocks and 0 heads"),
        (lambda: EarlyExitNet([nn.Identity()] * 2, [nn.Linear(D, 2), nn.Linear(D, 3)])(x.float()), "one .B, C."),
        (
            lambda: EarlyExitNet([nn.Identity()], [nn.Flatten(0)])(x),
            r"one .B, C., C >= 2, on one device, got \[\(240,\)\]",
        ),
        (lambda: joint_loss(logits, target, [1.0, 2.0]), r"weights must be 4 finite .* got \[1.0, 2.0\]"),
        (lambda: joint_loss(logits, target, [1, 1, 1, -1]), "weights must be 4 finite numbers >= 0"),
        (
            lambda: joint_loss(logits[0], target),
            r"exit_logits must have shape \(K, B, ..., C\) .* got \(40, 3\) and \(40,\)",
        ),
        (lambda: joint_loss(logits, target[:5]), r"target \(B, ...\), got \(4, 40, 3\) and \(5,\)"),
        (lambda: below_entropy(-0.1), "threshold must be a finite number >= 0 .nats., got -0.1"),
        (lambda: below_entropy(float("nan")), "got nan"),
        (lambda: above_confidence(1.1), "threshold must be from 0 to 1, got 1.1"),
        (lambda: above_margin(-1), "threshold must be from 0 to 1, got -1"),
        (lambda: learned_gate([], float("nan")), "threshold must be from 0 to 1, got nan"),
        (lambda: patience(0), "patience must be an integer >= 1, got 0"),
        (lambda: patience(1.5), "patience must be an integer >= 1, got 1.5"),
        (
            lambda: infer(net, x, lambda z, h: z[-1] > 0),
            r"rule must return \(40,\) of torch.bool at exit 0, got \(40, 3\)",
        ),
        (lambda: infer(net, x, lambda z, h: z[-1, :, 0]), r"got \(40,\) of torch.float64"),
        (
            lambda: infer(net, x, learned_gate([nn.Linear(D, 2).double()] * 3)),
            r"gates must return \(40,\) or \(40, 1\)",
        ),
        (lambda: DifferentiableBranching(net, [nn.Linear(D, 1)]), "each exit but the last, 3, got 1"),
        (lambda: train_gates(net, [], lambda model, loss: None), "each exit but the last, 3, got 0"),
        (lambda: expected_cost(stick_breaking(torch.zeros(2, 3)), [1, 2]), r"costs must be 4 finite .* got \[1, 2\]"),
    ]
    for call, message in bad:
        with pytest.raises(ValueError, match=message):
            call()
