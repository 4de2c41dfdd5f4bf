"""A training step of `MoE`, beside a dense network of equal FLOPs and beside other people's experts.

The peers get the same weights and the same tokens; their outputs and the gradient of the input are equal to ours. What
transformers offers beyond the three implementations below (deepgemm, sonicmoe) needs a CUDA GPU and further packages.
"""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from pathlib import Path

import torch
import torch.nn.functional as F
from case import AHEAD, SAME, Case, Work
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from lecture_lib.choice import Choice, top_k
from lecture_lib.moe import MoE, switch

TOKENS, WIDTH, HIDDEN = 4096, 256, 1024
TWO = partial(top_k, k=2)


def step(layer: nn.Module, x: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
    """Forward and backward, as in training: gives the output and the gradient of x."""
    x = x.detach().clone().requires_grad_()
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x)

    def run():
        layer.zero_grad()
        x.grad = None
        y = layer(x)
        y = y[0] if isinstance(y, tuple) else y
        y.backward(direction)
        return y.detach(), x.grad

    return run


def forward(layer: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    def run():
        with torch.no_grad():
            y = layer(x)
        return y[0] if isinstance(y, tuple) else y

    return run


def work(tokens: int, width: int, hidden: int, experts: int, k: int, *, gated=False, size=4) -> Work:
    """Of a training step: each product forward, and two backward with the same three matrices."""
    matrices = 3 if gated else 2
    flops = 3 * matrices * 2 * k * tokens * width * hidden
    rows = k * tokens * (2 * width + matrices * hidden)  # read by a product, or written
    return Work(flops, 3 * size * (matrices * experts * width * hidden + rows))


def dense(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, width, bias=False))


class SwiGLU(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.w_in, self.w_out = nn.Linear(width, 2 * hidden, bias=False), nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, hidden = self.w_in(x).chunk(2, -1)
        return self.w_out(F.silu(gate) * hidden)


def against_dense() -> Iterator[Case]:
    x, other = torch.randn(TOKENS, WIDTH), dense(WIDTH, HIDDEN)
    for n, k, limit in [(8, 1, 1.1), (8, 2, 1.15), (32, 1, 1.45), (128, 1, None)]:
        moe = MoE(WIDTH, HIDDEN // k, n, switch if k == 1 else TWO)
        least = work(TOKENS, WIDTH, HIDDEN // k, n, k)
        name = f"MoE step, {n} experts, top-{k}" + (" of half width" if k == 2 else "")
        why = "the products alone, cut in groups, take nearly as long: see their rows, and those with memory kept"
        yield Case(name, step(moe, x), "dense", step(other, x), None, limit, least, 25, why)


def products(experts: int, k: int = 1) -> Callable[[], Tensor]:
    """All products of a step and the activation between them, for tokens that are sorted and share out evenly."""
    x, g = torch.randn(2, TOKENS, WIDTH)
    w_in, w_out = torch.randn(experts, WIDTH, HIDDEN), torch.randn(experts, HIDDEN, WIDTH)
    ends = torch.arange(1, experts + 1, dtype=torch.int32) * (TOKENS // experts)
    of = partial(F.grouped_mm, offs=ends) if experts > 1 else lambda a, b: a @ (b[0] if b.ndim == 3 else b)

    def run():
        hidden = of(x, w_in)
        y, back = of(F.gelu(hidden), w_out), of(g, w_out.mT)
        back = torch.ops.aten.gelu_backward(back, hidden)
        return y, of(back, w_in.mT), of(x.T, back), of(hidden.T, g)

    return run


def kernels() -> Iterator[Case]:
    """What no layer of experts can be below: the same products, cut in groups. Most of it are fresh gradients, whose
    pages the system hands out one by one: `fresh` measures a step without that."""
    for n in (8, 32, 128):
        yield Case(
            f"the products of a step, {n} experts", products(n), "one expert", products(1), None, None, rounds=25
        )


def fresh() -> list[dict]:
    """`against_dense` where freed memory is kept: no step asks the system for pages. On Linux with glibc."""
    keep = {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184"}
    program = "import json, case, experts; print(json.dumps([case.measure(c) for c in experts.against_dense()]))"
    settings = f"import torch; torch.set_num_threads({torch.get_num_threads()}); torch.manual_seed(0); "
    run = partial(subprocess.run, cwd=Path(__file__).parent, env=os.environ | keep, check=True, capture_output=True)
    rows = json.loads(run([sys.executable, "-c", settings + program]).stdout)
    drop = {"limit", "flops", "n_bytes"}
    rows = [{key: row[key] for key in row if key not in drop} for row in rows]
    return [row | {"what": f"{row['what']}, memory kept"} for row in rows]


class Mixtral(nn.Module):
    """The experts of transformers with SwiGLU, in one of its implementations, behind the same routing."""

    def __init__(self, moe: MoE, implementation: str, choice: Choice | None = None):
        """`choice`: route by this one, in place of the gate's."""
        from transformers.models.mixtral.modeling_mixtral import MixtralConfig, MixtralExperts

        super().__init__()
        n, width, hidden = len(moe.experts), moe.experts.w_in.shape[1], moe.experts.w_out.shape[1]
        config = MixtralConfig(hidden_size=width, intermediate_size=hidden, num_local_experts=n)
        config._experts_implementation = implementation
        self.experts, self.gate = MixtralExperts(config).to(moe.experts.w_in), copy.deepcopy(moe.router)
        self.routing = None if choice is None else choice.weights.detach().flatten(0, -2).topk(2)
        with torch.no_grad():
            self.experts.gate_up_proj.copy_(moe.experts.w_in.mT)
            self.experts.down_proj.copy_(moe.experts.w_out.mT)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2)
        if self.routing is not None:
            weights, chosen = self.routing
        else:
            weights, chosen = self.gate(rows).topk(2)
            weights = weights.softmax(-1)
        return self.experts(rows, chosen, weights).view_as(x)


class Routed(nn.Module):
    """Our layer, by a choice that was made before."""

    def __init__(self, moe: MoE, choice: Choice):
        super().__init__()
        self.moe, self.choice = moe, choice._replace(weights=choice.weights.detach())

    def forward(self, x: Tensor) -> Tensor:
        return self.moe(x, self.choice)[0]


def networks(moe: MoE) -> nn.ModuleList:
    """The experts as separate networks, with the same weights."""
    experts = nn.ModuleList(dense(*moe.experts.w_in.shape[1:]) for _ in moe.experts)
    with torch.no_grad():
        for expert, w_in, w_out in zip(experts, moe.experts.w_in, moe.experts.w_out, strict=True):
            expert[0].weight.copy_(w_in.T)
            expert[2].weight.copy_(w_out.T)
    return experts


class Loop(nn.Module):
    """Experts as tutorials write them: for each, find its tokens, run it on them, add what comes out."""

    def __init__(self, moe: MoE):
        super().__init__()
        self.experts, self.gate = networks(moe), copy.deepcopy(moe.router)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2)
        weights, chosen = self.gate(rows).topk(2)
        weights, y = weights.softmax(-1), torch.zeros_like(rows)
        for e, expert in enumerate(self.experts):
            token, nth = torch.where(chosen == e)
            y[token] += weights[token, nth, None] * expert(rows[token])
        return y.view_as(x)


class EveryExpert(Loop):
    """Experts as the shortest tutorials write them: all run on all tokens, and most results are multiplied by zero."""

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.gate(x).topk(2)
        z = torch.zeros(*x.shape[:-1], len(self.experts)).scatter(-1, chosen, weights.softmax(-1))
        return (torch.stack([expert(x) for expert in self.experts], -1) * z.unsqueeze(-2)).sum(-1)


def st_moe(moe: MoE, x: Tensor) -> nn.Module:
    """The same layer in st-moe-pytorch, which wants sequences and a capacity: the smallest that drops nothing."""
    import st_moe_pytorch

    n, tokens = len(moe.experts), x.shape[1]
    largest = (moe(x)[1].weights > 0).sum(1).max().item()
    peer = st_moe_pytorch.MoE(
        WIDTH,
        n,
        threshold_train=0.0,  # the second expert always runs
        capacity_factor_train=(largest + 0.5) * n / tokens,
        straight_through_dispatch_tensor=False,
        experts=networks(moe),
    )
    peer.gate.to_gates.load_state_dict(moe.router.state_dict())
    return peer


def against_peers() -> Iterator[Case]:
    x = torch.randn(16, TOKENS // 16, WIDTH)
    for n in (8, 32):
        gated, plain = MoE(WIDTH, 512, n, TWO, gated=True, activation=F.silu), MoE(WIDTH, 512, n, TWO)
        what, ours = f"MoE step, {n} SwiGLU experts, top-2", step(gated, x)
        yield Case(what, ours, "Mixtral, eager", step(Mixtral(gated, "eager"), x))
        yield Case(what, ours, "Mixtral, grouped_mm", step(Mixtral(gated, "grouped_mm"), x), limit=SAME, rounds=25)
        what, ours = f"MoE step, {n} experts, top-2", step(plain, x)
        yield Case(what, ours, "tutorials' loop", step(Loop(plain), x))
        if n == 8:
            yield Case(what, ours, "every expert", step(EveryExpert(plain), x))
        yield Case(what, ours, "st-moe-pytorch", step(st_moe(plain, x), x))
    few = torch.randn(1, 64, WIDTH)  # batched_mm copies an expert for each token: 4,096 tokens would need 12 GB
    gated = MoE(WIDTH, 512, 8, TWO, gated=True, activation=F.silu)
    for name, limit in {"eager": AHEAD, "grouped_mm": SAME, "batched_mm": AHEAD}.items():
        peer, what = Mixtral(gated, name), "8 SwiGLU experts, top-2"
        theirs = step(peer, few)
        yield Case(f"MoE step, 64 tokens, {what}", step(gated, few), f"Mixtral, {name}", theirs, limit=limit, rounds=25)
        one, what = few[:, :1], f"MoE forward, 1 token, {what}"  # next to no work: time to start it
        theirs, why = forward(peer, one), "ours checks scores, sorts ties and returns a choice: Python, not products"
        yield Case(what, forward(gated, one), f"Mixtral, {name}", theirs, limit=limit, rounds=25, why=why)


def memory() -> list[dict]:
    """Peak memory of three steps, every allocation counted, against dense plus the experts and their gradients."""
    alone, rows = peak_mb(lambda: dense(WIDTH, HIDDEN)), []
    for n in (8, 32, 128):
        added = 2 * 4 * 2 * WIDTH * HIDDEN * (n - 1) / 1e6  # one expert and its gradient are in the dense network's
        ours, theirs = peak_mb(lambda n=n: MoE(WIDTH, HIDDEN, n, switch)), alone + added
        row = {"mb": round(ours, 1), "against_mb": round(theirs, 1), "ratio": round(ours / theirs, 3), "limit": 1.05}
        rows.append({"what": f"memory of a step, {n} experts, top-1", "against": "dense + experts"} | row)
    return rows


def peak_mb(build: Callable[[], nn.Module]) -> float:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler prints when it starts and stops
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run = step(build(), torch.randn(TOKENS, WIDTH))
        for _ in range(3):
            run()
    events = sorted(record.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events if event.name() == "[memory]")) / 1e6


def on_gpu(device="cuda", tokens=(1, 64, 4096), width=2048, hidden=1024, n=64, backend="inductor") -> Iterator[Case]:
    """bfloat16, two experts of `n` for a token: as it is and compiled, against a compiled dense network of equal FLOPs
    and transformers' grouped experts."""
    dtype = torch.bfloat16
    moe = MoE(width, hidden, n, TWO, gated=True, activation=F.silu).to(device, dtype)
    network = SwiGLU(width, 2 * hidden).to(device, dtype)
    compiled = partial(torch.compile, fullgraph=True, dynamic=False, backend=backend)
    for count in tokens:
        x = torch.randn(1, count, width, device=device, dtype=dtype)
        what = f"MoE step in bfloat16, {count:,} tokens, {n} SwiGLU experts, top-2"
        least = work(count, width, hidden, n, 2, gated=True, size=2)
        for how, ours in {"eager": moe, "compiled": compiled(moe)}.items():
            theirs = step(compiled(network), x)
            yield Case(f"{what}, {how}", step(ours, x), "dense, compiled", theirs, None, None, least)
        # of two scores that are equal in bfloat16 each picks another: route both by one choice
        choice = moe(x)[1]
        routed, peer = Routed(moe, choice), step(Mixtral(moe, "grouped_mm", choice), x)
        for how, ours in {"eager": routed, "compiled": compiled(routed)}.items():
            yield Case(f"{what}, {how}, routed", step(ours, x), "Mixtral, grouped_mm", peer, 0.02, SAME)
