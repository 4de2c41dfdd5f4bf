r"""Train a small language model with mixtures of experts on one process, several, or several machines.

    python examples/train_moe.py                                              # one process
    torchrun --nproc-per-node 2 examples/train_moe.py                         # two, each with half of the experts
    torchrun --nproc-per-node 4 --max-restarts 3 examples/train_moe.py        # started anew when a process dies
    python examples/train_moe.py --measure 1 2 4                              # tokens per second and bytes exchanged

On several machines, started on each of them:

    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 --rdzv-id run1 \
        --max-restarts 3 examples/train_moe.py --experts 16 --folder /shared/run1

What the cluster must give: one HOST:PORT that every machine reaches, connections between all of them, the same Python
on each (its standard library is the data), and a --folder that all of them see. With CUDA each process takes one GPU
and NCCL, otherwise gloo.

Experts are spread over the processes (`ExpertParallel`), the rest of the model is sharded by FSDP2. The batch of a step
depends on the step alone, and each process takes its part: any number of processes computes the same, up to rounding.

A checkpoint is written under another name and renamed once it is whole, so what is found under its name can be loaded;
a run in a folder with checkpoints goes on from the newest, bit for bit on as many processes, and correctly on any other
number that divides the experts. A process that dies or hangs ends the others within --timeout seconds.

What --measure shows on one machine is what the exchange costs: CPU time, even where tokens per second do not fall. It
cannot show what more machines gain, as here processes share cores, caches and memory: for that, take paper and
`lecture_lib.expert_parallel.on_paper`.
"""

import argparse
import gc
import hashlib
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.elastic.multiprocessing.errors import record
from torch.distributed.fsdp import fully_shard

from lecture_lib.choice import Choice
from lecture_lib.data import python_sources
from lecture_lib.expert_parallel import ExpertParallel, ShardedExperts, global_load_balance_loss, pairs_by_rank
from lecture_lib.models import SelfAttention
from lecture_lib.moe import MoE, switch

FIXED = ("seed", "batch", "context", "d_model", "layers", "experts", "lr")  # a run goes on with the same


class Block(nn.Module):
    """Transformer block with a mixture of experts in place of the MLP: (B, T, D) -> (B, T, D) and the choice."""

    def __init__(self, d_model: int, n_experts: int):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attention = SelfAttention(d_model, 2, causal=True)
        self.moe = MoE(d_model, 4 * d_model, n_experts, partial(switch, k=min(2, n_experts)))

    def forward(self, x: Tensor) -> tuple[Tensor, Choice]:
        x = x + self.attention(self.norm_1(x))
        y, choice = self.moe(self.norm_2(x).flatten(0, 1))  # (B·T, D)
        return x + y.view_as(x), choice


class LanguageModel(nn.Module):
    """Bytes (B, T) -> logits of the next bytes (B·T, 256), and the choice of each layer, (B·T, E)."""

    def __init__(self, d_model: int, n_layers: int, n_experts: int, context: int):
        super().__init__()
        self.byte, self.position = nn.Embedding(256, d_model), nn.Embedding(context, d_model)
        self.blocks = nn.ModuleList(Block(d_model, n_experts) for _ in range(n_layers))
        self.norm, self.head = nn.LayerNorm(d_model), nn.Linear(d_model, 256)

    def forward(self, text: Tensor) -> tuple[Tensor, list[Choice]]:
        x, choices = self.byte(text) + self.position.weight[: text.shape[1]], []
        for block in self.blocks:
            x, choice = block(x)
            choices.append(choice)
        return self.head(self.norm(x).flatten(0, 1)), choices


def connect(timeout: timedelta) -> torch.device:
    """Find the other processes, as torchrun says, or be the only one: the device of this one."""
    place, said = {}, os.environ
    if "RANK" not in said:
        place = {"store": dist.HashStore(), "rank": 0, "world_size": 1}
    elif said.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # torchrun's store outlives its processes: after a restart it has the addresses of the dead (PyTorch issue
        # 135712), so each start needs a part of its own. Only machines that count alike would find each other there
        if said["GROUP_WORLD_SIZE"] != "1" and said["TORCHELASTIC_MAX_RESTARTS"] != "0":
            raise ValueError("--max-restarts on several machines needs TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 on each")
        store = dist.TCPStore(said["MASTER_ADDR"], int(said["MASTER_PORT"]), is_master=False, timeout=timeout)
        store = dist.PrefixStore(f"start {said['TORCHELASTIC_RESTART_COUNT']}", store)
        place = {"store": store, "rank": int(said["RANK"]), "world_size": int(said["WORLD_SIZE"])}
    if not torch.cuda.is_available():
        dist.init_process_group("gloo", timeout=timeout, **place)
        return torch.device("cpu")
    device = torch.device("cuda", int(said.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    dist.init_process_group("nccl", timeout=timeout, device_id=device, **place)
    return device


def build(args: argparse.Namespace, device: torch.device) -> tuple[nn.Module, torch.optim.Optimizer, dist.ProcessGroup]:
    """The model over all processes. All parameters are DTensors on one mesh: one optimizer, norm and checkpoint do."""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),), mesh_dim_names=("rank",))
    torch.manual_seed(args.seed)
    model = LanguageModel(args.d_model, args.layers, args.experts, args.context).to(device)
    for block in model.blocks:
        block.moe = ExpertParallel(block.moe, mesh)
    experts = {p for m in model.modules() if isinstance(m, ShardedExperts) for p in m.parameters()}
    fully_shard(model, mesh=mesh, ignored_params=experts)
    # the loss of a process is its share of the loss: gradients add up, see lecture_lib.expert_parallel
    model.set_gradient_divide_factor(1.0)
    model.set_force_sum_reduction_for_comms(True)
    return model, torch.optim.AdamW(model.parameters(), lr=args.lr), mesh.get_group()


def batch_of(data: Tensor, step: int, args: argparse.Namespace) -> Tensor:
    """This process's part of the batch of a step: (about batch / processes, context + 1) bytes."""
    generator = torch.Generator().manual_seed(args.seed * 1_000_003 + step)
    start = torch.randint(len(data) - args.context, (args.batch, 1), generator=generator)
    start = start.tensor_split(dist.get_world_size())[dist.get_rank()]
    return data[start + torch.arange(args.context + 1)].long()


def everyone(value: object) -> list:
    """What each process has as `value`."""
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    found = folder.glob("step-*") if folder.exists() else []
    return sorted(path for path in found if re.fullmatch(r"step-\d{8}", path.name))


def save(folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, args: argparse.Namespace) -> None:
    path = folder / f"step-{step:08}"
    part, first = path.with_suffix(".part"), dist.get_rank() == 0
    if first:
        for left_over in folder.glob("*.part"):
            shutil.rmtree(left_over)
        part.mkdir(parents=True)
    dist.barrier()
    parameters, state = get_state_dict(model, optimizer)
    dcp.save({"model": parameters, "optimizer": state}, checkpoint_id=part)  # returns when all have written, synced
    if first:
        with open(part / "run.json", "w", encoding="utf-8") as file:
            json.dump({"step": step} | {name: getattr(args, name) for name in FIXED}, file)
            file.flush()
            os.fsync(file.fileno())
        sync(part)
        os.rename(part, path)  # from now on it exists, as a whole
        sync(folder)
        for old in checkpoints(folder)[: -args.keep]:
            shutil.rmtree(old.rename(old.with_suffix(".part")))  # not half there under its name either
    dist.barrier()


def sync(folder: Path) -> None:
    """Have the names in a folder on the disk; Windows cannot, and needs not."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def resume(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, args: argparse.Namespace) -> int:
    """Load the newest whole checkpoint, if there is one: the number of steps done."""
    newest = everyone([path.name for path in checkpoints(folder)][-1:])
    if any(other != newest[0] for other in newest):
        raise ValueError(f"--folder must be one that all processes see, got {folder} with {newest} in it")
    if not newest[0]:
        return 0
    path = folder / newest[0][0]
    run = json.loads((path / "run.json").read_text("utf-8"))
    for name in FIXED:
        if run[name] != getattr(args, name):
            raise ValueError(
                f"--{name.replace('_', '-')} must be {run[name]}, as for {path}, got {getattr(args, name)}: "
                "keep it, or take another --folder"
            )
    parameters, state = get_state_dict(model, optimizer)
    whole = {"model": parameters, "optimizer": state}
    dcp.load(whole, checkpoint_id=path)
    set_state_dict(model, optimizer, model_state_dict=whole["model"], optim_state_dict=whole["optimizer"])
    return run["step"]


def train(args: argparse.Namespace, device: torch.device) -> None:
    data = python_sources().train
    digests = everyone(hashlib.sha256(data.numpy()).hexdigest()[:8])
    if len(set(digests)) > 1:
        raise ValueError(f"all processes must have the same Python, as its sources are the data, got data {digests}")
    model, optimizer, group = build(args, device)
    done, rank, world = resume(args.folder, model, optimizer, args), dist.get_rank(), dist.get_world_size()
    say = partial(print, flush=True) if rank == 0 else lambda text: None
    processes = f"{world} process{'es' if world > 1 else ''}"
    say(f"{processes}, {sum(p.numel() for p in model.parameters()):,} parameters, from step {done}")
    seconds, cpu, sent = [], [], torch.zeros((), dtype=torch.float64, device=device)
    for step in range(done + 1, args.steps + 1):
        clock, cpu_clock = time.perf_counter(), time.process_time()
        text = batch_of(data, step, args).to(device)
        for settings in optimizer.param_groups:
            settings["lr"] = args.lr * min(1, step / 20)
        logits, choices = model(text[:, :-1])
        cross_entropy = F.cross_entropy(logits, text[:, 1:].flatten(), reduction="sum")
        loss = cross_entropy / (args.batch * args.context)  # this process's share of the mean over all tokens
        balance = sum(global_load_balance_loss(choice, group) for choice in choices)
        optimizer.zero_grad()
        (loss + 0.01 * balance).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - clock)
        cpu.append(time.process_time() - cpu_clock)
        for choice in choices:
            pairs = pairs_by_rank(choice, world)
            sent += pairs.sum() - pairs[rank]
        if step % args.print == 0 or step == args.steps:
            loss = loss.detach()
            dist.all_reduce(loss)
            say(f"step {step}: {loss.item() / math.log(2):.3f} bits per byte")
        if step % args.every == 0 or step == args.steps:
            save(args.folder, step, model, optimizer, args)
    if seconds:  # of a step: the median, without the first ones
        seconds, cpu = (statistics.median(values[len(values) // 4 :]) for values in (seconds, cpu))
        totals = torch.stack([sent / (args.steps - done), sent.new_tensor(cpu)])
        dist.all_reduce(totals)
        tokens = args.batch * args.context
        megabytes = 4 * totals[0] * args.d_model * 4 / 1e6  # rows there, results back, and the gradients of both
        say(
            f"{processes}: {tokens / seconds:,.0f} tokens/s, {1e6 * totals[1] / tokens:.0f} ms of CPU time for 1,000, "
            f"{megabytes:.3g} MB exchanged between experts a step"
        )


def measure(args: argparse.Namespace) -> None:
    """A run of 40 steps for each number of processes, a thread each; its last line is the result."""
    same = [word for name in FIXED for word in (f"--{name.replace('_', '-')}", str(getattr(args, name)))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for world in args.measure:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"] if world > 1 else []
        with tempfile.TemporaryDirectory() as folder:
            run = [sys.executable, *torchrun, __file__, *same, "--steps", "40", "--folder", folder]
            said = subprocess.run(run, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
        print(said.splitlines()[-1], flush=True)


@record
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--keep", type=int, default=2, help="how many checkpoints stay")
    parser.add_argument("--print", type=int, default=20, help="steps between lines of output")
    parser.add_argument("--folder", type=Path, default=Path("build/train_moe"), help="of the checkpoints")
    parser.add_argument("--timeout", type=float, default=30, help="seconds until a process that hangs ends the run")
    parser.add_argument("--batch", type=int, default=16, help="sequences of a step, of all processes together")
    parser.add_argument("--context", type=int, default=128, help="bytes of a sequence")
    parser.add_argument("--d-model", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--experts", type=int, default=8, help="of a layer; the number of processes must divide it")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure", type=int, nargs="+", metavar="PROCESSES", help="run and compare these numbers")
    args = parser.parse_args(argv)
    for name in ("steps", "every", "keep", "print", "batch", "context", "timeout"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(args, name)}")
    if args.measure:
        return measure(args)
    device = connect(timedelta(seconds=args.timeout))
    train(args, device)
    dist.barrier()
    gc.collect()  # the model's cycles hold process groups, whose threads must end before the interpreter does
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
