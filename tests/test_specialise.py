"""Specialisation: information against another implementation, parts of a layer against the whole."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score
from torch import nn

from lecture_lib.choice import Choice, argmax, softmax, top_k
from lecture_lib.moe import BalanceBias, CosineRouter, MoE, switch, upcycle
from lecture_lib.specialise import extract, information, needed_experts, swap_experts

D, H, E = 8, 12, 5


def one_hot(expert, n_experts=E):
    return argmax(nn.functional.one_hot(torch.as_tensor(expert), n_experts).float())


def test_information_is_the_mutual_information_in_bits():
    label = torch.randint(4, (300,))
    expert = torch.where(torch.rand(300) < 0.5, label, torch.randint(E, (300,)))
    told = information(one_hot(expert), label)
    assert told.bits == pytest.approx(mutual_info_score(expert, label) / math.log(2))
    assert told.label_bits == pytest.approx(mutual_info_score(label, label) / math.log(2))
    assert told.bits > 5 * told.by_chance > 0 and told.p_value == 1 / 101


def test_information_of_soft_weights_is_that_of_their_expectation():
    z, label = torch.rand(3, 4, E).softmax(-1), torch.randint(3, (3, 4))
    joint = torch.zeros(3, E).index_add(0, label.flatten(), z.reshape(-1, E)) / 12
    by_hand = sum(p * math.log2(p / (joint[i].sum() * joint[:, j].sum())) for (i, j), p in _entries(joint))
    told = information(Choice(z.log(), 7 * z, torch.zeros(3, 4)), label)  # the scale of the weights says nothing
    assert told.bits == pytest.approx(float(by_hand), abs=1e-6)


def _entries(table):
    return [((i, j), table[i, j]) for i in range(table.shape[0]) for j in range(table.shape[1])]


def test_all_and_nothing():
    label = torch.arange(4).repeat(50)
    assert information(one_hot(label), label).bits == pytest.approx(2)
    assert information(one_hot(torch.zeros(200, dtype=torch.long)), label).bits == pytest.approx(0, abs=1e-12)


def test_chance_is_rarely_significant_and_the_same_for_one_generator():
    p_values = []
    for _ in range(40):
        choice, label = one_hot(torch.randint(E, (60,))), torch.randint(4, (60,))
        draw = [information(choice, label, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
        assert draw[0] == draw[1] and draw[0].bits > 0  # chance has information, in a finite sample
        p_values.append(draw[0].p_value)
    assert sum(p < 0.1 for p in p_values) <= 10 and max(p_values) > 0.5


def test_tokens_of_one_image_are_no_independent_samples():
    """All 20 tokens of an image go to one expert, drawn for it alone: single tokens look significant, images do not."""
    alone, together = [], []
    for _ in range(30):
        image = torch.arange(12).repeat_interleave(20)
        choice, label = one_hot(torch.randint(E, (12,))[image]), torch.randint(2, (12,))[image]
        alone.append(information(choice, label).p_value)
        together.append(information(choice, label, group=image))
    assert np.mean([p < 0.05 for p in alone]) > 0.8
    assert np.mean([told.p_value < 0.05 for told in together]) < 0.3 < max(told.p_value for told in together)
    assert np.mean([told.bits - told.by_chance for told in together]) == pytest.approx(0, abs=0.08)


def test_whole_groups_are_shuffled_as_a_loop_would():
    group, mask = torch.tensor([[7, 7, 2, 2], [9, 4, 4, 4]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]).bool()
    label, expert = torch.tensor([[1, 1, 0, 0], [2, 0, 0, 5]]), torch.tensor([[0, 1, 2, 2], [1, 3, 3, 0]])
    told = information(
        one_hot(expert), label, mask=mask, group=group, n_permutations=9, generator=torch.Generator().manual_seed(1)
    )
    generator, order, chance = torch.Generator().manual_seed(1), [2, 4, 7, 9], []
    of = {2: 0, 4: 0, 7: 1, 9: 2}
    for _ in range(9):
        drawn = torch.randperm(4, generator=generator).tolist()
        new = {g: of[order[i]] for g, i in zip(order, drawn, strict=True)}
        chance.append(mutual_info_score([new[g] for g in group[mask].tolist()], expert[mask]) / math.log(2))
    assert told.bits == pytest.approx(mutual_info_score(label[mask], expert[mask]) / math.log(2))
    assert told.by_chance == pytest.approx(np.mean(chance))
    assert told.p_value == pytest.approx((1 + sum(value >= told.bits - 1e-9 for value in chance)) / 10)


def test_bad_groups_are_refused():
    choice, label = one_hot([0, 1, 2]), torch.tensor([0, 0, 1])
    with pytest.raises(ValueError, match="group must hold tokens of one label each, got a group with several"):
        information(choice, label, group=torch.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match=r"group must hold integers from 0 on, shape \(3,\) as choice, got .*\(2,\)"):
        information(choice, label, group=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="group must hold integers from 0 on"):
        information(choice, label, group=torch.tensor([0.0, 1, 2]))


def test_what_does_not_count_tells_nothing():
    label, mask = torch.randint(4, (6, 30)), torch.rand(6, 30) < 0.6
    choice = one_hot(torch.where(torch.rand(6, 30) < 0.5, label, torch.randint(E, (6, 30))))
    cut = Choice(*(part[mask] for part in choice))
    padded = choice._replace(weights=choice.weights.masked_fill(~mask.unsqueeze(-1), torch.nan))
    told, wanted = (
        information(c, of, generator=torch.Generator().manual_seed(0), **options)
        for c, of, options in ((padded, label.where(mask, -100), {"mask": mask}), (cut, label[mask], {}))
    )
    assert told == wanted
    assert needed_experts(padded, mask=mask) == needed_experts(cut)
    for dtype in (torch.uint8, torch.int32):
        assert information(cut, label[mask].to(dtype), generator=torch.Generator().manual_seed(0)) == wanted
    assert information(cut, label[mask] > 1).label_bits <= 1
    half = choice._replace(weights=choice.weights.half())
    assert information(half, label, n_permutations=1).bits == information(choice, label, n_permutations=1).bits


def test_needed_experts_are_the_fewest_for_the_work():
    choice = one_hot([3] * 6 + [1] * 3 + [0])
    assert needed_experts(choice, 0.5) == [3] and needed_experts(choice, 0.6) == [3]
    assert needed_experts(choice, 0.61) == [3, 1] and needed_experts(choice, 1) == [3, 1, 0]


@pytest.mark.parametrize("style", [{}, {"bias": True}, {"gated": True, "n_shared": 1}])
def test_extracted_experts_do_what_they_did_for_the_tokens_that_are_theirs(style):
    moe, x = MoE(D, H, E, partial(top_k, k=1), **style), torch.randn(200, D)
    y, choice = moe(x)
    before = {name: value.clone() for name, value in moe.state_dict().items()}
    small = extract(moe, [4, 1])
    theirs = choice.weights[:, [4, 1]].sum(-1) > 0
    assert 20 < theirs.sum() < 180
    torch.testing.assert_close(small(x)[0][theirs], y[theirs])
    assert not torch.allclose(small(x)[0][~theirs], y[~theirs])
    assert len(small.experts) == 2 and small.router.out_features == 2
    parameters = [sum(w.numel() for w in layer.experts.parameters()) for layer in (moe, small)]
    assert parameters[0] * 2 == parameters[1] * E
    small(x)[0].sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in moe.state_dict().items())
    assert all(w.grad is None for w in moe.parameters())


def test_all_experts_in_another_order_are_the_same_layer():
    moe, x = MoE(D, H, E, softmax, router=nn.Linear(D, E)), torch.randn(20, D)
    torch.testing.assert_close(extract(moe, [3, 1, 4, 0, 2])(x)[0], moe(x)[0])


def test_with_switch_an_extracted_expert_weighs_more():
    moe, x = MoE(D, H, E, switch), torch.randn(100, D)
    mine = moe(x)[1].weights[:, 2] > 0
    assert (extract(moe, [2])(x)[1].weights[mine, 0] > moe(x)[1].weights[mine, 2]).all()


def test_a_balance_bias_goes_with_its_experts():
    moe, x = MoE(D, H, E, BalanceBias(E)), torch.randn(100, D)
    moe.choose.bias = torch.tensor([0.0, 0.1, 0.4, 0.2, -0.1])
    small, mine = extract(moe, [3, 2]), moe(x)[1].weights[:, [3, 2]].sum(-1) > 0
    assert 20 < mine.sum() and small.choose.bias.tolist() == pytest.approx([0.2, 0.4])
    same = (small(x)[1].weights > 0)[mine] == (moe(x)[1].weights[:, [3, 2]] > 0)[mine]
    assert 0.8 < same.float().mean() and len(moe.choose.bias) == E


def test_exchanged_experts_are_noticed_by_their_own_tokens_only_to_the_bit():
    moe, x = MoE(D, H, E, switch), torch.randn(200, D)
    y, choice = moe(x)
    other, same = swap_experts(moe, 0, 3)(x)
    theirs = choice.weights[:, [0, 3]].sum(-1) > 0
    assert torch.equal(same.weights, choice.weights) and 20 < theirs.sum() < 180
    assert torch.equal((other != y).any(-1), theirs)
    assert torch.equal(swap_experts(swap_experts(moe, 0, 3), 3, 0)(x)[0], y)


def test_parts_keep_what_is_frozen_and_take_any_list_of_places():
    ffn = nn.Sequential(nn.Linear(D, H), nn.PReLU(), nn.Linear(H, D))
    moe = upcycle(ffn.requires_grad_(False), E, partial(top_k, k=1))
    moe.router.weight.requires_grad_(False)
    x = torch.randn(20, D)
    for part in (extract(moe, range(3)), swap_experts(moe, np.int64(0), torch.tensor(2))):
        assert not any(w.requires_grad for w in part.parameters())
        part(x)
    for places in ((e for e in (2, 0)), np.array([2, 0]), torch.tensor([2, 0])):
        assert torch.equal(extract(moe, places)(x)[0], extract(moe, [2, 0])(x)[0])


def test_bad_input_is_told():
    moe, choice = MoE(D, H, E, switch), one_hot([0, 1, 2])
    for experts in ([], [0, 0], [5], [-1], [True], [1.0], iter(()), torch.tensor([1, 1])):
        with pytest.raises(ValueError, match="experts must be different places from 0 to 4"):
            extract(moe, experts)
    with pytest.raises(TypeError, match=r"moe must have a linear router, .* got CosineRouter"):
        extract(MoE(D, H, E, switch, router=CosineRouter(D, E)), [0])
    with pytest.raises(ValueError, match=r"choose\.k must be at most the number of experts, got 2"):
        extract(MoE(D, H, E, BalanceBias(E, 2)), [0])
    for wrong in (5, -1, True):
        with pytest.raises(ValueError, match=f"b must be from 0 to 4, got {wrong}"):
            swap_experts(moe, 0, wrong)
    for coverage in (0, 1.1):
        with pytest.raises(ValueError, match=f"coverage must be above 0 and at most 1, got {coverage}"):
            needed_experts(choice, coverage)
    for label in (torch.tensor([0, 1]), torch.tensor([0.0, 1, 2]), torch.tensor([0, -1, 2])):
        with pytest.raises(ValueError, match=r"label must hold integers from 0 on, shape \(3,\)"):
            information(choice, label)
    for weights in (torch.zeros(3, E), torch.zeros(0, E)):
        with pytest.raises(ValueError, match="choice must give some token an expert, got none"):
            needed_experts(choice._replace(weights=weights))
    with pytest.raises(ValueError, match="n_permutations must be an integer of at least 1, got 0"):
        information(choice, torch.tensor([0, 1, 2]), n_permutations=0)
    with pytest.raises(ValueError, match="choice must give every token an expert"):
        information(choice._replace(weights=torch.zeros(3, E)), torch.tensor([0, 1, 2]))
