"""Measure what the library claims to do fast, beside its peers: one table, and benchmarks/results.json.

Ours and the peer take turns; times are medians after a warm-up, ratios have quartiles. Between machines compare ratios,
not milliseconds.
"""

import json
import platform
import time
from functools import partial
from pathlib import Path
from statistics import median

import entmax as peer
import numpy as np
import torch
import torch.nn.functional as F

from lecture_lib.choice import argmax, gumbel_softmax, sample
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.mixture import mix, mix_sparse
from lecture_lib.models import MLP
from lecture_lib.simplex import entmax


def choices():
    logits = torch.randn(4096, 512)
    yield "gumbel_softmax, forward", partial(gumbel_softmax, logits), "torch's", partial(F.gumbel_softmax, logits)
    draws = torch.distributions.Categorical(logits=logits)
    yield "sample with log-probability", partial(sample, logits), "torch's", lambda: draws.log_prob(draws.sample())


def simplices():
    logits, direction = torch.randn(4096, 512, requires_grad=True), torch.randn(4096, 512)

    @torch.enable_grad()
    def both_ways(function):
        return torch.autograd.grad(function(logits), logits, direction)

    for alpha, theirs in {1.25: partial(peer.entmax_bisect, alpha=1.25), 1.5: peer.entmax15, 2: peer.sparsemax}.items():
        ours = partial(entmax, alpha=alpha)
        yield f"entmax, alpha {alpha}, forward", partial(ours, logits), "entmax 1.3", partial(theirs, logits)
        yield f"entmax, alpha {alpha}, both", partial(both_ways, ours), "entmax 1.3", partial(both_ways, theirs)


def mixtures():
    for width in (64, 256, 1024):
        modules = [MLP(64, width, 10) for _ in range(9)]
        x, z = torch.randn(1024, 64), argmax(torch.randn(1024, 9)).weights
        counted = count_flops(mix, x, z, modules) / count_flops(mix_sparse, x, z, modules)
        name = f"mix_sparse, 1 of 9, width {width}, {counted:.0f} times fewer FLOPs"
        yield name, partial(mix_sparse, x, z, modules), "mix", partial(mix, x, z, modules)


@torch.no_grad()
def main():
    torch.manual_seed(0)
    rows = []
    print(f"{'what':58}{'ms':>8}  {'against':10}{'ms':>8}{'ratio':>8}")
    for name, ours, other, theirs in [*choices(), *simplices(), *mixtures()]:
        rounds = [(wall_time(ours), wall_time(theirs)) for _ in range(7)]  # taken in turns: a busy machine slows both
        a, b = (median(times) for times in zip(*rounds, strict=True))
        low, ratio, high = np.quantile([x / y for x, y in rounds], [0.25, 0.5, 0.75])
        print(f"{name:58}{1e3 * a:8.2f}  {other:10}{1e3 * b:8.2f}{ratio:8.2f}")
        row = {"ms": 1e3 * a, "against_ms": 1e3 * b, "ratio": ratio, "ratio_low": low, "ratio_high": high}
        rows.append({"what": name, "against": other} | {key: round(float(value), 3) for key, value in row.items()})
    machine = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    path = Path(__file__).parent / "results.json"
    path.write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(", ".join(machine.values()))


if __name__ == "__main__":
    main()
