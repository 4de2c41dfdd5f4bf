"""Experts on several processes or machines: each token travels to its experts, and its results travel back.

Each rank holds E/W of the experts, everything else of the layer, and tokens of its own. A forward pass has three
exchanges: how many rows each rank sends to each expert, the rows, the results. A backward pass has two: gradients go
the opposite way. It is all torch.distributed: gloo on CPUs, NCCL on GPUs, started by torchrun.

    torch.distributed.init_process_group()
    torch.manual_seed(0)                                  # built alike on every rank
    layer = ExpertParallel(MoE(64, 256, 8, switch), torch.distributed.group.WORLD)
    y, choice = layer(x)                                  # x: the tokens of this rank

Gradients. Let a rank's loss be its *share* of the one loss: a sum over its own tokens, divided by the number of tokens
of all ranks. The one loss is the sum of the shares, and so is every gradient. An expert's gradient is that sum already,
since all rows that it ran came back to it. The gradient of what is on every rank (router, shared experts, the rest of
the model) is of this rank's share only, and has to be *summed* over the ranks: DDP and FSDP take the mean, which would
be W times too small beside the experts'. With FSDP2:

    experts = {p for m in model.modules() if isinstance(m, ShardedExperts) for p in m.parameters()}
    fully_shard(model, mesh=mesh, ignored_params=experts)
    model.set_gradient_divide_factor(1.0)                 # a sum
    model.set_force_sum_reduction_for_comms(True)         # asked for in the only way that gloo knows

Shapes: W ranks (world size), N tokens of this rank, E experts, D width of a token, n pairs of a token and an expert.
"""

import hashlib
import itertools
import math
from functools import partial
from numbers import Number
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from lecture_lib.choice import Choice
from lecture_lib.moe import Experts, MoE, within_capacity
from lecture_lib.moe.layer import grouped_product
from lecture_lib.moe.measures import Mask, flat, pairs
from lecture_lib.simplex import as_integer, as_number


class ExpertParallel(MoE):
    """A `MoE` whose experts are spread over ranks, rank r holding those from r·E/W up: the same x -> (y, choice).

    Equal, in outputs and in all gradients, to the `MoE` on one process with the x of all ranks, one after the other.
    Batches may differ in size, and be empty; every rank has to call forward, and backward, as often as the others, with
    an x that needs a gradient everywhere or nowhere. An error in one rank's x is raised there, and told to all.

    Experts are parameters of the layer's global shape, (E, ...), as DTensor: a checkpoint by
    torch.distributed.checkpoint fits any number of ranks, and the names of parameters are those of `MoE`.

    - Capacity counts the pairs of all ranks, and the queue is the tokens of all, rank by rank, as on one process. For
      that the ranks exchange weights and scores, (N, E) each.
    - `choose` sees the tokens of its rank alone. For choices that look at one token at a time that is the same; those
      that balance many tokens (`expert_choice`, `balanced`, `base`) do so within each rank. A `BalanceBias` is its
      rank's own: after `update`, take the mean of `bias` over the ranks.
    - Balance losses of the returned choice are of this rank's tokens, and a mean of them is not that of all tokens, as
      f·P is a product. `global_load_balance_loss` is.

    Args:
        moe: built alike on every rank. Its router and shared experts are used, not copied.
        group: the ranks, a ProcessGroup or a DeviceMesh of one dimension, such as mesh["expert"].

    Raises:
        ValueError: on every rank, if the ranks differ in the layer they were given, or do not divide its experts.

    Source: Lepikhin et al. 2021, GShard, section 3.
    """

    def __init__(self, moe: MoE, group: dist.ProcessGroup | DeviceMesh):
        nn.Module.__init__(self)
        if not isinstance(moe, MoE) or isinstance(moe, ExpertParallel):
            raise TypeError(f"moe must be a MoE of this process, got {type(moe).__name__}")
        if not isinstance(group, (dist.ProcessGroup, DeviceMesh)):
            raise TypeError(f"group must be a ProcessGroup or a DeviceMesh, got {type(group).__name__}")
        if isinstance(group, DeviceMesh) and group.ndim != 1:
            raise ValueError(f"group must be a DeviceMesh of one dimension, got {group.ndim}: take one, mesh[name]")
        mesh = group if isinstance(group, DeviceMesh) else DeviceMesh.from_group(group, moe.experts.w_in.device.type)
        _check_alike(moe, mesh.get_group())
        self.experts, self.shared, self.router = ShardedExperts(moe.experts, mesh), moe.shared, moe.router
        for name in ("choose", "at_test", "capacity_factor", "batch_priority"):
            setattr(self, name, getattr(moe, name))

    def forward(self, *args, **options) -> tuple[Tensor, Choice]:
        try:
            return super().forward(*args, **options)
        except (TypeError, ValueError):  # raised before the first exchange, in which the others wait
            first = self.experts.exchange_counts if self.capacity_factor is None else self._gather_sizes
            first(None)
            raise

    def within_capacity(self, choice: Choice) -> Choice:
        weights, logits = (flat(part.detach()) for part in (choice.weights, choice.logits))  # (N, E)
        sizes = self._gather_sizes(len(weights))
        own = torch.cat([weights, logits], -1)
        padded = own.new_zeros(max(1, *sizes), own.shape[-1])
        padded[: len(own)] = own
        every = [rows[:size] for rows, size in zip(self._gather(padded), sizes, strict=True)]
        weights, logits = torch.cat(every).chunk(2, -1)
        one = Choice(logits, weights, logits.new_zeros(len(logits)))
        kept = within_capacity(one, self.capacity_factor, batch_priority=self.batch_priority).weights
        own = kept.split(sizes)[dist.get_rank(self.experts.group)].reshape(choice.weights.shape)
        return choice._replace(weights=choice.weights.masked_fill(own == 0, 0))

    def _gather_sizes(self, size: int | None) -> list[int]:
        """N of each rank; None tells the others that there is an error."""
        own = torch.tensor(-1 if size is None else size, device=self.experts.w_in.device)
        sizes = torch.stack(self._gather(own))
        if size is not None:
            _check_others(sizes)
        return sizes.tolist()

    def _gather(self, own: Tensor) -> list[Tensor]:
        every = [torch.empty_like(own) for _ in range(dist.get_world_size(self.experts.group))]
        dist.all_gather(every, own, group=self.experts.group)
        return every


class ShardedExperts(nn.Module):
    """The experts of `ExpertParallel`: called as `Experts` with rows for all experts; E/W of them are here.

    Parameters are those of `Experts`, sharded over their first dimension.
    """

    _run = Experts._run

    def __init__(self, experts: Experts, mesh: DeviceMesh):
        super().__init__()
        self.activation, self.gated = experts.activation, experts.gated
        self.mesh, self.group = mesh, mesh.get_group()
        for name in ("w_in", "w_out", "b_in", "b_out"):
            whole = getattr(experts, name)
            if whole is not None:
                part = whole.detach().chunk(mesh.size())[mesh.get_local_rank()].clone()
                whole = nn.Parameter(DTensor.from_local(part, mesh, [Shard(0)]), requires_grad=whole.requires_grad)
            self.register_parameter(name, whole)

    def __len__(self) -> int:
        return len(self.w_in)

    def forward(self, rows: Tensor, counts: Tensor) -> Tensor:
        received = self.exchange_counts(counts)  # (W, E/W) rows from each rank, for each expert
        there, back = counts.view_as(received).sum(-1).tolist(), received.sum(-1).tolist()
        rows = _AllToAll.apply(rows, there, back, self.group)  # sorted by rank, then by expert
        expert = torch.arange(received.numel(), device=rows.device) % received.shape[-1]
        order = expert.repeat_interleave(received.flatten()).argsort(stable=True)
        own = received.sum(0)
        ends = own.cumsum(0, dtype=torch.int32)
        y = self._run(
            rows.index_select(0, order),
            lambda rows, weights: grouped_product(rows, weights.to_local(), ends),
            lambda bias: bias.to_local().repeat_interleave(own, 0),
        )
        return _AllToAll.apply(y.index_select(0, order.argsort()), back, there, self.group)

    def exchange_counts(self, counts: Tensor | None) -> Tensor:
        """Rows for each expert of all ranks (E,) -> rows from each rank (W, E/W); None tells that there is an error."""
        sent = torch.full((len(self),), -1, device=self.w_in.device) if counts is None else counts
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=self.group)
        received = received.view(self.mesh.size(), -1)
        if counts is not None:
            _check_others(received.amin(-1))
        return received


class _AllToAll(torch.autograd.Function):
    """Rows, sorted by the rank that they are for -> rows, sorted by the rank that they came from; gradients go back."""

    @staticmethod
    def forward(ctx, rows: Tensor, sent: list[int], received: list[int], group: dist.ProcessGroup) -> Tensor:
        ctx.sizes, ctx.group = (received, sent), group
        arrived = rows.new_empty(sum(received), *rows.shape[1:])
        dist.all_to_all_single(arrived, rows.contiguous(), received, sent, group=group)
        return arrived

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _AllToAll.apply(gradient, *ctx.sizes, ctx.group), None, None, None


def global_load_balance_loss(
    choice: Choice,
    group: dist.ProcessGroup,
    *,
    mask: Mask = None,
) -> Tensor:
    """This rank's share of `load_balance_loss` for the tokens of all: E · Σ_e ℓ_e Σ_own π_e / N, loads ℓ and N of all,
    probabilities π_e of its own.

    The shares add up to the loss, and their gradients to its gradient. One exchange of E + 1 numbers.
    """
    p = flat(choice.logits, mask).softmax(-1)  # (N, E)
    n = pairs(choice, mask)
    totals = torch.cat([n, n.new_tensor([len(p)])])
    dist.all_reduce(totals, group=group)
    f = totals[:-1].to(p.dtype) / totals[:-1].sum().clamp(min=1)
    return p.shape[-1] * (f * p.sum(0)).sum() / totals[-1].clamp(min=1)


def pairs_by_rank(choice: Choice, n_ranks: int) -> Tensor:
    """How many rows a choice sends to the experts of each rank: (W,), before any capacity."""
    n = pairs(choice)
    n_ranks = as_integer("n_ranks", n_ranks, "an integer of at least 1", 1)
    if len(n) % n_ranks:
        raise ValueError(f"n_ranks must divide the number of experts, {len(n)}, got {n_ranks}")
    return n.view(n_ranks, -1).sum(-1)


# What one direction of a link moves at best, by its standard. Measured numbers are lower.
NOMINAL_BYTES_PER_SECOND = {
    "10 Gb Ethernet": 1.25e9,
    "InfiniBand HDR, 200 Gb/s": 25e9,
    "InfiniBand NDR, 400 Gb/s": 50e9,
    "PCIe 4.0, 16 lanes": 31.5e9,
    "PCIe 5.0, 16 lanes": 63e9,
    "NVLink 4, all links of an H100": 450e9,
}


class OnPaper(NamedTuple):
    """Seconds of a training step of one layer, the slowest rank's: what is computed, what is exchanged."""

    compute: float
    exchange: float


def on_paper(
    pairs: Tensor,
    *,
    flops_per_pair: float,
    row_bytes: float,
    flops_per_second: float,
    bytes_per_second: float,
    latency: float = 0.0,
) -> OnPaper:
    """The time of a step, forward and backward, if every rank computes at its rate and every link is at its best.

        compute  = 3 · max_r (pairs that r runs) · flops_per_pair / flops_per_second
        exchange = 5 · latency + 4 · max_r max(rows r sends away, rows r gets) · row_bytes / bytes_per_second

    3: a backward pass has twice the products of a forward pass. 4: rows there, results back, and the gradient of both;
    5: the counts before them. The slowest rank sets the pace, so unequal load costs in both. Nothing overlaps here, so
    the step takes their sum.

    Args:
        pairs: (W, W), entry (r, q) the rows that rank r has for the experts of rank q; rows on the diagonal stay.
        flops_per_pair: of one token in one expert, forward: 4 · D · H, or 6 · D · H if gated.
        row_bytes: of one token: D times the bytes of a number.
        latency: seconds that an exchange takes at least.
    """
    if pairs.ndim != 2 or pairs.shape[0] != pairs.shape[1] or not len(pairs):
        raise ValueError(f"pairs must have shape (W, W), W at least 1, got {tuple(pairs.shape)}")
    given = {"flops_per_pair": flops_per_pair, "row_bytes": row_bytes}
    given |= {"flops_per_second": flops_per_second, "bytes_per_second": bytes_per_second}
    flops_per_pair, row_bytes, flops_per_second, bytes_per_second = (
        as_number(k, v, "a finite number > 0", lambda v: 0 < v < math.inf) for k, v in given.items()
    )
    latency = as_number("latency", latency, "a finite number >= 0", lambda v: 0 <= v < math.inf)
    away = pairs - pairs.diag().diag()
    busiest = max(away.sum(1).max().item(), away.sum(0).max().item())
    compute = 3 * pairs.sum(0).max().item() * flops_per_pair / flops_per_second
    return OnPaper(compute, 5 * latency + 4 * busiest * row_bytes / bytes_per_second if len(pairs) > 1 else 0.0)


def _check_alike(moe: MoE, group: dist.ProcessGroup) -> None:
    parts = ("experts", "router", "shared", "choose", "at_test")
    own = {name: _digest(getattr(moe, name)) for name in parts}
    own |= {name: getattr(moe, name) for name in ("capacity_factor", "batch_priority")}
    every: list[dict] = [{}] * dist.get_world_size(group)
    dist.all_gather_object(every, own, group=group)
    differ = [name for name in own if any(other[name] != every[0][name] for other in every)]
    if differ:
        raise ValueError(
            f"moe must be built alike on every rank, and differs in {', '.join(differ)}: set one seed before it is "
            "built, or load the same weights"
        )
    if len(moe.experts) % len(every):
        raise ValueError(f"the number of ranks must divide the number of experts, {len(moe.experts)}, got {len(every)}")


def _digest(part: object) -> str:
    """Equal for what computes alike: a module by class, settings and weights, a function by name and arguments."""
    if isinstance(part, partial):
        arguments = [*part.args, *itertools.chain(*sorted(part.keywords.items()))]
        return f"{_digest(part.func)}({', '.join(map(_digest, arguments))})"
    if isinstance(part, nn.Module):
        sha = hashlib.sha256()
        for child in part.modules():
            settings = {name: _digest(value) for name, value in vars(child).items() if not name.startswith("_")}
            sha.update(f"{type(child).__qualname__} {settings}".encode())
        for name, value in part.state_dict().items():
            sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            sha.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return sha.hexdigest()
    if isinstance(part, Tensor):
        return f"{part.dtype} {part.tolist()}"
    if part is None or isinstance(part, (Number, str)):
        return repr(part)
    named = part if hasattr(part, "__qualname__") else type(part)
    return f"{named.__module__}.{named.__qualname__}"


def _check_others(told: Tensor) -> None:
    failed = (told < 0).nonzero().flatten().tolist()
    if failed:
        raise RuntimeError(f"rank {', '.join(map(str, failed))} of the group has an error in its x: see there")
