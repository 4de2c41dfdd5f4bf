"""Experts on several processes: equal to one process, on every rank, in outputs and in every gradient.

Run as a program, this file is the world: `python test_expert_parallel.py WORLD FOLDER` starts WORLD processes that go
through all checks together, and writes what each of them raised.
"""

import copy
import itertools
import json
import math
import multiprocessing
import os
import subprocess
import sys
import traceback
import warnings
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from lecture_lib.choice import Choice, entmax, gumbel_softmax, noisy_top_k, softmax, top_k
from lecture_lib.expert_parallel import (
    ExpertParallel,
    ShardedExperts,
    global_load_balance_loss,
    on_paper,
    pairs_by_rank,
)
from lecture_lib.moe import BalanceBias, CosineRouter, MoE, load_balance_loss, switch

D, H, E = 8, 12, 8
STYLES = [
    {},
    {"bias": True, "activation": F.relu},
    {"gated": True, "activation": F.silu, "n_shared": 2},
]
CHOICES = [softmax, entmax, partial(top_k, k=2), switch, partial(switch, k=3)]


def summed(gradient):
    gradient = gradient.clone()
    dist.all_reduce(gradient)
    return gradient


def compare(moe, sizes, atol=1e-6, x=None):
    """The layer on all ranks, rank r with a batch of sizes[r], against `moe` on the whole batch."""
    rank, world = dist.get_rank(), dist.get_world_size()
    dtype = moe.experts.w_in.dtype
    layer = ExpertParallel(copy.deepcopy(moe), dist.group.WORLD)
    x = torch.randn(sum(sizes), D, dtype=dtype) if x is None else x
    target = torch.randn(x.shape, dtype=dtype)
    own = x.split(sizes)[rank].clone().requires_grad_()
    whole = x.clone().requires_grad_()
    y, choice = layer(own)
    ((y - target.split(sizes)[rank]) ** 2).sum().div(len(x)).backward()
    wanted, wanted_choice = moe(whole)
    ((wanted - target) ** 2).sum().div(len(x)).backward()
    close = partial(torch.testing.assert_close, rtol=0, atol=atol)
    close(y, wanted.split(sizes)[rank])
    for part, wanted_part in zip(choice, wanted_choice, strict=True):
        close(part, wanted_part.split(sizes)[rank])
    close(own.grad, whole.grad.split(sizes)[rank])
    found, expected = dict(layer.named_parameters()), dict(moe.named_parameters())
    assert found.keys() == expected.keys()
    for name, parameter in found.items():
        gradient = expected[name].grad
        if name.startswith("experts."):
            close(parameter.grad.to_local(), gradient.chunk(world)[rank])
            close(parameter.grad.full_tensor(), gradient)
        elif gradient is None:  # the router's, where the choice has no gradient
            assert parameter.grad is None
        else:
            close(summed(parameter.grad), gradient)
    return choice


def sizes_of(world):
    return [[5] * world, [3, 0, 7, 2][:world], [0, 4, 1, 0][:world], [1] + [0] * (world - 1)]


def check_equal_to_one_process(folder):
    for style in STYLES:
        for choose in CHOICES:
            moe = MoE(D, H, E, choose, **style)
            for sizes in sizes_of(dist.get_world_size()):
                compare(moe, sizes)
                moe.zero_grad()
    compare(MoE(D, H, E, switch, router=CosineRouter(D, E)), [5] * dist.get_world_size())


def check_equal_to_one_process_to_the_last_digits_in_float64(folder):
    for sizes in sizes_of(dist.get_world_size()):
        compare(MoE(D, H, E, partial(switch, k=2), bias=True).double(), sizes, atol=1e-13)


def check_one_rank_receives_all_and_the_others_none(folder):
    world = dist.get_world_size()
    for busy in range(world):
        moe = MoE(D, H, E, switch)
        with torch.no_grad():
            moe.router.weight.zero_()[busy * E // world] = 1
        x = torch.rand(5 * world, D)
        choice = compare(moe, [5] * world, x=x)
        assert pairs_by_rank(choice, world).tolist() == [5 * (r == busy) for r in range(world)]


def check_no_token_anywhere(folder):
    layer = ExpertParallel(MoE(D, H, E, switch, bias=True, n_shared=1), dist.group.WORLD)
    layer(torch.zeros(2, 0, D, requires_grad=True))[0].sum().backward()
    assert layer.experts.w_in.grad.to_local().abs().sum() == 0


def check_capacity_counts_the_tokens_of_all(folder):
    for factor in (0.5, 1.0, 1.3):
        for priority in (False, True):
            for choose in (switch, partial(top_k, k=3)):
                for sizes in sizes_of(dist.get_world_size()):
                    compare(MoE(D, H, E, choose, factor, batch_priority=priority), sizes)


def check_padding_is_as_if_it_were_not_there(folder):
    world, rank = dist.get_world_size(), dist.get_rank()
    for factor, choose in itertools.product((None, 0.7), (switch, partial(top_k, k=2))):
        moe = MoE(D, H, E, choose, factor, bias=True, n_shared=1)
        layer = ExpertParallel(copy.deepcopy(moe), dist.group.WORLD)
        for share in (0.6, 0.0):
            mask = torch.rand(world, 2, 4) < share
            x = torch.randn(world, 2, 4, D).masked_fill(~mask.unsqueeze(-1), torch.nan)
            y, choice = layer(x[rank], mask=mask[rank])
            wanted, wanted_choice = moe(x, mask=mask)
            torch.testing.assert_close(y, wanted[rank], rtol=0, atol=1e-6)
            assert not y[~mask[rank]].any()
            assert torch.equal(summed(pairs_by_rank(choice, world)), pairs_by_rank(wanted_choice, world))
            shares = global_load_balance_loss(choice, dist.group.WORLD, mask=mask[rank])
            torch.testing.assert_close(summed(shares), load_balance_loss(wanted_choice, mask=mask))
    if rank == world - 1:
        with pytest.raises(ValueError, match="mask must be"):
            layer(x[rank], mask=mask[rank, 0])
    else:
        with pytest.raises(RuntimeError, match=f"rank {world - 1} of the group has an error"):
            layer(x[rank], mask=mask[rank])


def check_evaluation_draws_no_noise(folder):
    moe = MoE(D, H, E, partial(noisy_top_k, k=2)).eval()
    layer, x = ExpertParallel(copy.deepcopy(moe), dist.group.WORLD).eval(), torch.randn(6, D)
    torch.testing.assert_close(layer(x)[0], moe(x)[0], rtol=0, atol=1e-6)


def check_half_precision(folder):
    world, rank = dist.get_world_size(), dist.get_rank()
    for dtype in (torch.bfloat16, torch.float16):
        moe = MoE(D, 16, E, partial(top_k, k=2), 1.0, bias=True).to(dtype)
        layer, x = ExpertParallel(copy.deepcopy(moe), dist.group.WORLD), torch.randn(world, 5, D, dtype=dtype)
        (y, choice), (wanted, wanted_choice) = layer(x[rank]), moe(x)
        assert y.dtype == dtype and choice.weights.dtype == torch.float32
        torch.testing.assert_close(y, wanted[rank])
        torch.testing.assert_close(choice.weights, wanted_choice.weights[rank])


def check_any_leading_shape(folder):
    moe = MoE(D, H, E, partial(switch, k=2), 1.0)
    layer = ExpertParallel(copy.deepcopy(moe), dist.group.WORLD)
    world, rank = dist.get_world_size(), dist.get_rank()
    for shape in ((D,), (2, 3, D), (1, 1, D)):
        x = torch.randn(world, *shape)
        torch.testing.assert_close(layer(x[rank])[0], moe(x)[0][rank], rtol=0, atol=1e-6)


def check_two_layers_in_evaluation_without_gradients(folder):
    first, second = (MoE(D, H, E, switch) for _ in range(2))
    spread = [ExpertParallel(moe, dist.group.WORLD) for moe in (first, second)]
    x = torch.randn(6 * dist.get_world_size(), D)
    with torch.no_grad():
        y = spread[1](spread[0](x.chunk(dist.get_world_size())[dist.get_rank()])[0])[0]
        wanted = second(first(x)[0])[0].chunk(dist.get_world_size())[dist.get_rank()]
    torch.testing.assert_close(y, wanted, rtol=0, atol=1e-6)
    assert not y.requires_grad


def check_shares_of_the_balance_loss_add_up(folder):
    world, rank = dist.get_world_size(), dist.get_rank()
    for sizes in sizes_of(world):
        logits = torch.randn(sum(sizes), E, dtype=torch.float64)
        own, whole = logits.split(sizes)[rank].clone().requires_grad_(), logits.requires_grad_()
        share, loss = global_load_balance_loss(switch(own), dist.group.WORLD), load_balance_loss(switch(whole))
        share.backward()
        loss.backward()
        torch.testing.assert_close(summed(share.detach()), loss.detach())
        torch.testing.assert_close(own.grad, whole.grad.split(sizes)[rank])
    # what the mean of the local losses would be: another number
    one_each = torch.eye(E).repeat_interleave(world, 0)[rank * 2 : rank * 2 + 2] * 9
    local, share = load_balance_loss(switch(one_each)), global_load_balance_loss(switch(one_each), dist.group.WORLD)
    assert summed(local) / world > summed(share) + 0.5


def check_beside_fsdp_as_the_module_says(folder):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    world, rank = dist.get_world_size(), dist.get_rank()
    mesh = init_device_mesh("cpu", (world,))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.moe, self.last = nn.Linear(D, D), MoE(D, H, E, partial(switch, k=2)), nn.Linear(D, D)

        def forward(self, x):
            return self.last(self.moe(self.first(x))[0])

    model = Net()
    whole = copy.deepcopy(model)
    model.moe = ExpertParallel(model.moe, mesh)
    experts = {p for m in model.modules() if isinstance(m, ShardedExperts) for p in m.parameters()}
    fully_shard(model, mesh=mesh, ignored_params=experts)
    model.set_gradient_divide_factor(1.0)
    model.set_force_sum_reduction_for_comms(True)
    sizes = [3, 0, 7, 2][:world]
    x = torch.randn(sum(sizes), D)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=0.1) for m in (model, whole)]
    for _ in range(3):
        for m, optimizer, part in zip((model, whole), optimizers, (x.split(sizes)[rank], x), strict=True):
            optimizer.zero_grad()
            m(part).square().sum().div(len(x)).backward()
        norms = [nn.utils.clip_grad_norm_(m.parameters(), 0.1) for m in (model, whole)]
        torch.testing.assert_close(norms[0].full_tensor(), norms[1], rtol=1e-6, atol=1e-6)
        gradients = dict(whole.named_parameters())
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad.full_tensor(), gradients[name].grad, rtol=0, atol=1e-6)
        for optimizer in optimizers:
            optimizer.step()


def check_a_mesh_with_a_second_dimension(folder):
    from torch.distributed.device_mesh import init_device_mesh

    world, rank = dist.get_world_size(), dist.get_rank()
    mesh = init_device_mesh("cpu", (world // 2, 2), mesh_dim_names=("replica", "expert"))
    moe = MoE(D, H, E, switch)
    layer = ExpertParallel(copy.deepcopy(moe), mesh["expert"])
    assert layer.experts.w_in.to_local().shape[0] == E // 2
    x = torch.randn(world, 5, D)
    torch.testing.assert_close(layer(x[rank])[0], moe(x)[0][rank], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="one dimension"):
        ExpertParallel(moe, mesh)


def check_a_checkpoint_fits_any_number_of_ranks(folder):
    import torch.distributed.checkpoint as dcp

    moe = MoE(D, H, E, switch, bias=True)
    torch.manual_seed(dist.get_world_size())  # those who load start from other weights
    layer = ExpertParallel(moe if dist.get_world_size() == 2 else MoE(D, H, E, switch, bias=True), dist.group.WORLD)
    if dist.get_world_size() == 2:
        dcp.save(layer.state_dict(), checkpoint_id=folder / "checkpoint")
    else:
        state = layer.state_dict()
        dcp.load(state, checkpoint_id=folder / "checkpoint")
        layer.load_state_dict(state)
    for name, value in moe.state_dict().items():
        found = layer.state_dict()[name]
        found = found.full_tensor() if name.startswith("experts.") else found
        assert torch.equal(found, value), name


def check_under_autocast(folder):
    world, rank = dist.get_world_size(), dist.get_rank()
    moe = MoE(D, H, E, switch)
    layer = ExpertParallel(copy.deepcopy(moe), dist.group.WORLD)
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(world, 5, D).to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(layer(x[rank])[0], moe(x)[0][rank])


def check_layers_that_differ_are_refused_on_every_rank(folder):
    last = dist.get_rank() == dist.get_world_size() - 1
    for name, change in {
        "router": lambda moe: moe.router.weight[0, 0].add_(1e-3),
        "experts": lambda moe: moe.experts.w_out[-1, 0, 0].add_(1e-3),
        "shared": lambda moe: moe.shared.w_in[0, 0, 0].add_(1e-3),
        "choose": lambda moe: moe.choose.bias[0].add_(1),
        "capacity_factor": lambda moe: setattr(moe, "capacity_factor", 2.0),
    }.items():
        moe = MoE(D, H, E, BalanceBias(E), 1.0, n_shared=1)
        if last:
            with torch.no_grad():
                change(moe)
        with pytest.raises(ValueError, match=f"alike on every rank, and differs in {name}: set one seed"):
            ExpertParallel(moe, dist.group.WORLD)
    # the same weights, put to another use
    for name, ways in {
        "choose": [
            *(partial(top_k, k=2), switch, partial(top_k, k=1), partial(switch, 2), partial(switch, 3)),
            *(partial(switch, k=np.int64(2)), partial(switch, k=np.int64(3)), partial(switch, k=torch.tensor(2))),
        ],
        "at_test": [None, softmax, partial(top_k, k=2)],
        "activation": [F.gelu, F.relu, nn.GELU(), nn.GELU("tanh"), nn.ELU(), nn.ELU(0.5)],
        "router": [nn.Identity(), nn.Softmax(-1), nn.Softmax(0), nn.Sequential(nn.Softmax(0))],
    }.items():
        for one, other in itertools.combinations(ways, 2):
            torch.manual_seed(0)
            setting = {"choose": switch} | {name: other if last else one}
            with pytest.raises(ValueError, match="differs in " + name.replace("activation", "experts")):
                ExpertParallel(MoE(D, H, E, **setting), dist.group.WORLD)
    for same in (lambda logits: top_k(logits, 2), partial(gumbel_softmax, generator=torch.Generator())):
        torch.manual_seed(0)
        ExpertParallel(MoE(D, H, E, same, activation=nn.GELU()), dist.group.WORLD)
    with pytest.raises(ValueError, match="differs in experts, router"):
        ExpertParallel(MoE(D, H, E + last, switch), dist.group.WORLD)


def check_ranks_that_do_not_divide_the_experts_are_refused(folder):
    world = dist.get_world_size()
    with pytest.raises(ValueError, match=f"number of ranks must divide the number of experts, {E + 1}, got {world}"):
        ExpertParallel(MoE(D, H, E + 1, switch), dist.group.WORLD)


def check_what_is_no_layer_or_no_group_is_refused(folder):
    moe = MoE(D, H, E, switch)
    layer = ExpertParallel(moe, dist.group.WORLD)
    for wrong in (nn.Linear(D, D), layer):
        with pytest.raises(TypeError, match="moe must be a MoE of this process"):
            ExpertParallel(wrong, dist.group.WORLD)
    with pytest.raises(TypeError, match="group must be a ProcessGroup or a DeviceMesh, got int"):
        ExpertParallel(moe, 2)


def check_an_error_of_one_rank_is_told_to_all(folder):
    last = dist.get_world_size() - 1
    moe = MoE(D, H, E, switch)
    with pytest.raises(ValueError, match=r"x must have dtype torch\.float32, got torch\.int64"):
        ExpertParallel(moe, dist.group.WORLD)(torch.ones(3, D, dtype=torch.int64))
    for capacity_factor in (None, 1.0):
        layer = ExpertParallel(MoE(D, H, E, switch, capacity_factor), dist.group.WORLD)
        for wrong in (torch.full((3, D), torch.nan), torch.ones(3, D + 1), torch.ones(3, D).double()):
            if dist.get_rank() == last:
                with pytest.raises(ValueError, match="x must"):
                    layer(wrong)
            else:
                with pytest.raises(RuntimeError, match=f"rank {last} of the group has an error in its x"):
                    layer(torch.ones(3, D))
        layer(torch.ones(3, D))  # and nothing is left over for the next call


CHECKS = {name: check for name, check in list(globals().items()) if name.startswith("check_")}


def work(rank, world, folder):
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / f"store{world}"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timedelta(minutes=5))
    raised = {}
    for name, check in CHECKS.items():
        torch.manual_seed(0)
        try:
            check(folder)
        except BaseException:  # pytest's own failures too; the test shows it
            raised[name] = traceback.format_exc()
            break  # the ranks are no longer in step
        raised[name] = ""
    (folder / f"raised{world}-{rank}.json").write_text(json.dumps(raised), "utf-8")
    dist.destroy_process_group()


def run(world, folder):
    # with everything imported, a fork is a process for nothing
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    processes = [context.Process(target=work, args=(rank, world, folder)) for rank in range(world)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


@pytest.fixture(scope="module")
def raised(tmp_path_factory):
    """{(world, rank): {check: what it raised}} of all worlds, started one after the other by one program."""
    folder = tmp_path_factory.mktemp("worlds")
    program = [sys.executable, __file__, str(folder)]
    done = subprocess.run(
        program, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return {
        (world, rank): json.loads((folder / f"raised{world}-{rank}.json").read_text("utf-8"))
        for world in (2, 4)
        for rank in range(world)
    }


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("world", [2, 4])
def test_on_every_rank(name, world, raised):
    for rank in range(world):
        result = raised[world, rank].get(name, "not run, as a check before it failed")
        assert not result, f"rank {rank} of {world}: {result}"


def test_pairs_by_rank_by_hand():
    weights = torch.tensor([[0.5, 0, 0.5, 0], [0, 0, 0.1, 0.9], [1.0, 0, 0, 0]])
    choice = Choice(weights.log(), weights, torch.zeros(3))
    assert pairs_by_rank(choice, 2).tolist() == [2, 3]
    assert pairs_by_rank(choice, 4).tolist() == [2, 0, 2, 1]
    with pytest.raises(ValueError, match="must divide the number of experts, 4, got 3"):
        pairs_by_rank(choice, 3)
    with pytest.raises(ValueError, match="n_ranks must be an integer of at least 1, got True"):
        pairs_by_rank(choice, True)


def test_time_on_paper_by_hand():
    """Rank 0 sends 6 of its 10 rows and gets 2, rank 1 runs 14 of 20: that is what both wait for."""
    link = {"flops_per_pair": 100, "flops_per_second": 50, "row_bytes": 4, "bytes_per_second": 2}
    time = on_paper(torch.tensor([[4, 6], [2, 8]]), **link, latency=0.5)
    assert time.compute == 3 * 14 * 100 / 50
    assert time.exchange == 5 * 0.5 + 4 * 6 * 4 / 2
    assert on_paper(torch.tensor([[20]]), **link, latency=0.5).exchange == 0
    with pytest.raises(ValueError, match=r"pairs must have shape \(W, W\), W at least 1, got \(2, 3\)"):
        on_paper(torch.ones(2, 3), **link)
    for name, wrong in itertools.product(link, (0, math.nan, True, "1")):
        with pytest.raises(ValueError, match=f"{name} must be a finite number > 0, got {wrong!r}"):
            on_paper(torch.ones(2, 2), **link | {name: wrong})
    for number in (np.float32, torch.tensor):
        made = on_paper(torch.ones(2, 2), **{name: number(value) for name, value in link.items()}, latency=number(0.5))
        assert made == on_paper(torch.ones(2, 2), **link, latency=0.5) and type(made.compute) is float


if __name__ == "__main__":
    for world in (2, 4):
        run(world, Path(sys.argv[1]))
