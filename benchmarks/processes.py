"""A training run of the example on several processes of this machine, a thread each, on the CPU."""

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent / "examples" / "train_moe.py"
NUMBERS = ["processes", "tokens_per_second", "cpu_ms_per_1000_tokens", "mb_exchanged_per_step"]
LINE = re.compile(
    r"(\d+) process(?:es)?: ([\d,]+) tokens/s, (\d+) ms of CPU time for 1,000, "
    r"(\S+) MB exchanged between experts a step"
)


def over_processes(*settings: str, worlds: tuple[int, ...] = (1, 2, 4)) -> list[dict]:
    """What the example's --measure says, a row for each number of processes."""
    program = [sys.executable, str(EXAMPLE), *settings, "--measure", *map(str, worlds)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    said = subprocess.run(program, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = [[float(number.replace(",", "")) for number in LINE.fullmatch(line).groups()] for line in said.splitlines()]
    return [dict(zip(NUMBERS, row, strict=True)) | {"processes": int(row[0])} for row in rows]
