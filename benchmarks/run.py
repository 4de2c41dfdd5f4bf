"""Measure what the library claims to do fast, beside its peers: one table, and benchmarks/results.json.

Ratios come from one run, times are medians after a warm-up, with quartiles. Compare ratios, not milliseconds, between
machines.
"""

import json
import platform
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from lecture_lib.choice import argmax, gumbel_softmax, sample
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.mixture import mix, mix_sparse
from lecture_lib.models import MLP


def choices():
    logits = torch.randn(4096, 512)
    yield "gumbel_softmax, forward", partial(gumbel_softmax, logits), "torch's", partial(F.gumbel_softmax, logits)
    draws = torch.distributions.Categorical(logits=logits)
    yield "sample with log-probability", partial(sample, logits), "torch's", lambda: draws.log_prob(draws.sample())


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
    for name, ours, other, theirs in [*choices(), *mixtures()]:
        a, b = wall_time(ours, min_seconds=1), wall_time(theirs, min_seconds=1)
        print(f"{name:58}{1e3 * a:8.2f}  {other:10}{1e3 * b:8.2f}{a / b:8.2f}")
        quartiles = {"ms": [1e3 * t for t in (a.low, a, a.high)], "against_ms": [1e3 * t for t in (b.low, b, b.high)]}
        rows.append({"what": name, "against": other, "ratio": round(a / b, 3)} | _rounded(quartiles))
    machine = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    path = Path(__file__).parent / "results.json"
    path.write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(", ".join(machine.values()))


def _rounded(rows):
    return {name: [round(float(v), 3) for v in values] for name, values in rows.items()}


if __name__ == "__main__":
    main()
