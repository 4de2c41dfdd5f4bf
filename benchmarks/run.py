"""Measure what the library claims to do fast, beside its peers: one table, benchmarks/results.json and results.png.

Ours and the peer take turns; times are medians, ratios have quartiles, and results are first asserted to be equal.
Between machines compare ratios, not milliseconds; the record keeps one of each processor. A limit is missed when both
quartiles are above it: that is recorded, and ends in exit status 1. `--only NAME` runs one part and writes nothing;
`--only gpu`, five minutes on a machine with one, is the record of that GPU.
Threads wait for each other: on a machine that is busy with other things two are slower than one, so let it rest, or
ask for `--threads 1`.
"""

import argparse
import json
import platform
import sys
import time
from functools import partial
from importlib.metadata import version
from math import inf
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from case import measure, under_roof
from decisions import choices, exits, mixtures, simplices
from decoding import decoding
from experts import against_dense, against_peers, fresh, kernels, memory, on_gpu
from processes import over_processes
from sliders import latency

from lecture_lib.cost import Machine, measure_machine, processor
from lecture_lib.notebook import setup

RESULTS = Path(__file__).parent / "results.json"
PEERS = ["torch", "entmax", "transformers", "st-moe-pytorch"]


def missed(row: dict) -> bool:
    """Is the whole spread above the limit?"""
    return row.get("ratio_low", row["ratio"]) > row.get("limit", inf)


def show(row: dict) -> None:
    unit = "MB" if "mb" in row else "ms"
    ours, theirs = row[unit.lower()], row[f"against_{unit.lower()}"]
    limit = f"{row['limit']:6.2f}" if "limit" in row else " " * 6
    roof = f"{row['times_roofline']:5.1f} × roofline" if "times_roofline" in row else ""
    against = f"{row['against']:20}{theirs:9.2f} {unit}"
    end = "  missed" if missed(row) else ""
    print(f"{row['what']:66}{ours:9.2f} {unit}  {against}{row['ratio']:8.3f}{limit}{roof}{end}", flush=True)


def draw(records: dict[str, dict]) -> plt.Figure:
    """Ours over theirs, a colour for each machine: left of the line at 1 ours needs less."""
    rows = {machine: {label(row): row for row in record["rows"]} for machine, record in records.items()}
    names = list(dict.fromkeys(what for of_one in rows.values() for what in of_one))
    fig, ax = plt.subplots(figsize=(11, 0.24 * len(names) + 1.6))
    for n, (machine, of_one) in enumerate(rows.items()):
        for what, row in of_one.items():
            y, colour = names.index(what) + 0.25 * n, f"C{n}"
            ax.plot(
                [row.get("ratio_low", row["ratio"]), row.get("ratio_high", row["ratio"])], [y, y], color=colour, lw=2
            )
            mark = {"marker": "X", "ms": 10, "color": "k"} if missed(row) else {"marker": "o", "color": colour}
            ax.plot(row["ratio"], y, **mark, mfc=mark["color"] if "limit" in row else "w")
            if row.get("limit", 1.0) != 1.0:
                ax.plot(row["limit"], y, "|", color="0.3", ms=11, mew=2)
        if of_one:
            ax.plot([], [], "o", color=f"C{n}", label=f"{machine}, {records[machine]['date']}")
    ax.axvline(1, color="0.4", lw=1)
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set(xscale="log", ylim=(len(names), -1))
    ax.set_xlabel("ours / theirs: left of 1 ours needs less; | the limit, × missed; hollow: no promise", fontsize=9)
    ax.set_xticks(marks := [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5], marks, fontsize=9)
    ax.minorticks_off()
    ax.legend(fontsize=9, loc="lower left", bbox_to_anchor=(0, 1))
    ax.grid(axis="x", alpha=0.3)
    return fig


def label(row: dict) -> str:
    return f"{row['what']} / {row['against']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--only",
        default="",
        help="choices, simplices, mixtures, exits, decoding, dense, peers, gpu, memory, sliders, processes",
    )
    options = parser.parse_args()
    start = time.perf_counter()
    setup(0)
    torch.set_num_threads(options.threads)
    parts = {"choices": choices, "simplices": simplices, "mixtures": mixtures, "exits": exits}
    parts |= {"decoding": decoding, "dense": against_dense, "kernels": kernels, "peers": against_peers}
    roofs = {"dense": measure_machine}  # parts whose rows stand under the roof of a machine, and how to measure it
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.machine()}, {processor()}, threads: {options.threads}",
        "python": platform.python_version(),
        **{name: version(name) for name in PEERS},
    }
    if options.only == "gpu":
        facts["machine"] = torch.cuda.get_device_name()
        parts = {"gpu": on_gpu}
        roofs["gpu"] = partial(measure_machine, size=8192, megabytes=1024, dtype=torch.bfloat16, device="cuda")
    rows = []
    for name, cases in parts.items():
        if options.only not in ("", name):
            continue
        before = roofs[name]() if name in roofs else None
        new = [measure(case) for case in cases()]
        if before is not None:
            best = Machine(*map(max, before, roofs[name]()))  # other programs can only make it slower
            new = [row | under_roof(row, best) if "flops" in row else row for row in new]
            facts["matmul_gflops_per_second"] = round(best.matmul_rate / 1e9, 1)
            facts["copy_gb_per_second"] = round(best.copy_rate / 1e9, 1)
        rows += new
        for row in new:
            show(row)
    for name, part in {"fresh": fresh, "memory": memory, "sliders": latency}.items():
        if options.only in ("", name):
            for row in part():
                rows.append(row)
                show(row)
    facts["processes"] = over_processes() if options.only in ("", "processes") else []
    for row in facts["processes"]:
        print(", ".join(f"{key} {value:g}" for key, value in row.items()), flush=True)
    facts["minutes"] = round((time.perf_counter() - start) / 60, 1)
    print(", ".join(f"{key} {value}" for key, value in facts.items() if key != "processes"))
    if options.only in ("", "gpu"):  # the record of this machine; another's stays, with its date
        records = json.loads(RESULTS.read_text("utf-8")) | {facts.pop("machine"): {**facts, "rows": rows}}
        RESULTS.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
        draw(records).savefig(RESULTS.with_suffix(".png"), dpi=110)
    sys.exit(any(map(missed, rows)))


if __name__ == "__main__":
    main()
