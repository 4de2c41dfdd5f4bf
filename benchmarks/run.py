"""Measure what the library claims to do fast, beside its peers: one table, benchmarks/results.json and results.png.

Ours and the peer take turns; times are medians, ratios have quartiles, and results are first asserted to be equal.
Between machines compare ratios, not milliseconds. `--only NAME` runs one part and writes nothing. Threads wait for each
other: on a machine that is busy with other things two are slower than one, so let it rest, or ask for `--threads 1`.
"""

import argparse
import json
import platform
import time
from functools import partial
from importlib.metadata import version
from math import inf
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from case import measure
from decisions import choices, exits, mixtures, simplices
from experts import against_dense, against_peers, memory, on_gpu
from sliders import latency

from lecture_lib.cost import measure_machine
from lecture_lib.notebook import setup

FOLDER = Path(__file__).parent
PEERS = ["torch", "entmax", "transformers", "st-moe-pytorch"]


def processor() -> str:
    """The processor's name, which Linux keeps in a file."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def show(row: dict) -> None:
    unit = "MB" if "mb" in row else "ms"
    ours, theirs = row[unit.lower()], row[f"against_{unit.lower()}"]
    limit = f"{row['limit']:6.2f}" if "limit" in row else " " * 6
    roof = f"{row['times_roofline']:5.1f} × roofline" if "times_roofline" in row else ""
    missed = "  missed" if row["ratio"] > row.get("limit", inf) else ""
    against = f"{row['against']:20}{theirs:9.2f} {unit}"
    print(f"{row['what']:66}{ours:9.2f} {unit}  {against}{row['ratio']:8.3f}{limit}{roof}{missed}", flush=True)


def draw(rows: list[dict], machine: str) -> plt.Figure:
    """Ours over theirs: left of the line at 1 ours needs less."""
    fig, ax = plt.subplots(figsize=(11, 0.24 * len(rows) + 1.2))
    for y, row in enumerate(reversed(rows)):
        good = row["ratio"] <= row.get("limit", inf)
        ax.plot(row["ratio"], y, "o" if good else "X", color="C0" if good else "C3", ms=6)
        ax.plot([row.get("ratio_low", row["ratio"]), row.get("ratio_high", row["ratio"])], [y, y], color="C0", lw=2)
        if row.get("limit", 1.0) != 1.0:
            ax.plot(row["limit"], y, "|", color="0.3", ms=11, mew=2)
    ax.axvline(1, color="0.4", lw=1)
    ax.set_yticks(range(len(rows)), [f"{row['what']} / {row['against']}" for row in reversed(rows)], fontsize=8)
    ax.set(
        xscale="log", xlabel="ours / theirs: left of 1 ours needs less; | a limit other than 1", ylim=(-1, len(rows))
    )
    ax.set_xticks(marks := [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5], marks)
    ax.minorticks_off()
    ax.set_title(machine, fontsize=9)
    ax.grid(axis="x", alpha=0.3)
    return fig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--only", default="", help="choices, simplices, mixtures, exits, dense, peers, gpu, memory, sliders"
    )
    options = parser.parse_args()
    start = time.perf_counter()
    setup(0)
    torch.set_num_threads(options.threads)
    cpu = measure_machine()
    parts = {"choices": choices, "simplices": simplices, "mixtures": mixtures, "exits": exits}
    parts |= {"dense": partial(against_dense, cpu), "peers": against_peers}
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.machine()}, {processor()}, threads: {options.threads}",
        "python": platform.python_version(),
        **{name: version(name) for name in PEERS},
        "matmul_gflops_per_second": round(cpu.matmul_rate / 1e9, 1),
        "copy_gb_per_second": round(cpu.copy_rate / 1e9, 1),
    }
    if torch.cuda.is_available():
        gpu = measure_machine(size=8192, megabytes=1024, dtype=torch.bfloat16, device="cuda")
        facts["gpu"] = torch.cuda.get_device_name()
        facts["gpu_matmul_gflops_per_second"] = round(gpu.matmul_rate / 1e9, 1)
        facts["gpu_copy_gb_per_second"] = round(gpu.copy_rate / 1e9, 1)
        parts["gpu"] = partial(on_gpu, gpu)
    rows = []
    for name, cases in parts.items():
        if options.only in ("", name):
            for case in cases():
                rows.append(measure(case))
                show(rows[-1])
    for name, part in {"memory": memory, "sliders": latency}.items():
        if options.only in ("", name):
            for row in part():
                rows.append(row)
                show(row)
    facts["minutes"] = round((time.perf_counter() - start) / 60, 1)
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    if not options.only:
        (FOLDER / "results.json").write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n", encoding="utf-8")
        draw(rows, f"{facts['machine']}, {facts['date']}, torch {facts['torch']}").savefig(
            FOLDER / "results.png", dpi=110
        )


if __name__ == "__main__":
    main()
