"""What the records of notebook 08 promise: runs side by side are those of the library's layer."""

import pytest
import torch
import torch.nn.functional as F

from lecture_lib.cost import count_flops
from lecture_lib.moe import MoE, load_balance_loss, switch
from lecture_lib.recorded import mixture_of_experts as codes
from lecture_lib.recorded import mixture_of_experts_hash as next_byte


def batch(runs, n=9):
    draw = torch.Generator().manual_seed(0)
    return torch.rand(runs, n, 64, generator=draw), torch.randint(codes.N_CODES, (runs, n), generator=draw)


@pytest.mark.parametrize("normalise", ["", "both"])
def test_runs_side_by_side_have_the_value_and_the_gradient_of_the_layer(normalise):
    readers = codes.Readers(codes.Method(loss="balance", normalise=normalise), [3, 4], [0.1, 1.0])
    image, code = batch(2)
    logits, s, z = readers(image, code)
    ((logits**2).sum((1, 2)) + readers.extra(s, z)).sum().backward()
    for r, strength in enumerate((0.1, 1.0)):
        w = {name: value[r].detach() for name, value in readers.weights.items()}
        moe = MoE(codes.D, 8, 16, switch, activation=F.relu)
        with torch.no_grad():
            moe.router.weight.copy_(w["router"].T)
            moe.experts.w_in.copy_(w["w_in"])
            moe.experts.w_out.copy_(w["w_out"])
        h = F.relu(image[r] @ w["pixels"] + w["bias"] + w["code"][code[r]])
        y, choice = moe(F.layer_norm(h, (codes.D,)) if normalise else h)
        out = (h + y) @ w["head"] + w["head_bias"]
        torch.testing.assert_close(out, logits[r])
        (out.square().sum() + strength * load_balance_loss(choice)).backward()
        for ours, theirs in (("router", moe.router.weight.grad.T), ("w_in", moe.experts.w_in.grad)):
            torch.testing.assert_close(readers.weights[ours].grad[r], theirs)


def test_a_run_is_the_same_alone_and_beside_others():
    method = codes.METHODS["balancing bias"]
    _, both = codes.train(method, [(0, 1e-2, 0.01), (1, 3e-3, 0.001)], 3, n_codes=1)
    _, alone = codes.train(method, [(1, 3e-3, 0.001)], 3, n_codes=1)
    for name, value in alone[0][-1].items():
        assert both[1][-1][name] == pytest.approx(value, abs=2e-3)


@pytest.mark.parametrize("name", ["balance loss", "64 experts"])
def test_cost_is_what_is_counted(name):
    method = codes.METHODS[name]
    moe = MoE(codes.D, method.d_hidden, method.n_experts, switch, activation=F.relu)
    with torch.no_grad():
        counted = count_flops(moe, torch.randn(64, codes.D)) / 64
    assert codes.cost(method) == {"flops": counted, "weights": sum(w.numel() for w in moe.parameters())}


def test_equal_cost():
    cost = {name: codes.cost(method)["flops"] for name, method in codes.METHODS.items()}
    assert cost["dense, H = 16"] == cost["balance loss"] and cost["dense, H = 40"] == cost["64 experts"]


@pytest.mark.parametrize("name", next_byte.WAYS)
def test_a_router_is_what_its_name_says(name):
    torch.manual_seed(0)
    model = next_byte.NextByte(next_byte.ROUTERS[name])
    text = torch.randint(256, (40, 8))
    other = torch.randint(256, (40, 8))
    other[:, -1] = text[:, -1]  # the same last byte
    (_, first), (_, second) = model(text), model(other)
    same = torch.equal(first.weights > 0, second.weights > 0)
    assert same == name.startswith("last byte")
    one = torch.equal(first.weights.amax(-1), torch.ones(40))
    assert one == name.endswith("1")
    learns = [model.table.weight, model.moe.router.weight]
    slopes = torch.autograd.grad(model(text)[0].square().sum(), learns, allow_unused=True)
    has_one = [slope is not None and bool(slope.any()) for slope in slopes]
    sees_the_byte = name.startswith("last byte, learnt")
    assert has_one == [sees_the_byte, not sees_the_byte and name != f"{name.split(',')[0]}, fixed, weight 1"]
