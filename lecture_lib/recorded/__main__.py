"""The command: `python -m lecture_lib.recorded NAME ...` runs the grid of NAME.py and writes NAME.json beside it.

With no NAME it lists the records: minutes that each took, and with what.
"""

import argparse
import itertools
import json
import os
import platform
import re
import sys
import time
from datetime import date

import torch
from tqdm import tqdm

from lecture_lib import recorded
from lecture_lib.cost import processor


def record(name: str) -> dict:
    """Run every entry of the grid `name`, write its record, return it."""
    module = recorded.home(name)
    grid = {key: list(values) for key, values in module.GRID.items()}
    if "seed" not in grid:
        raise ValueError(f"GRID must have its seeds under 'seed', got {', '.join(grid)}")
    small = {"arguments": module.small(), "result": entry(module, module.small())}  # first: what is wrong shows at once
    clock, entries = time.monotonic(), []
    settings = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    for setting in tqdm(settings, file=sys.stdout, desc=name, ascii=True):
        entries.append(setting | entry(module, setting))
    minutes = (time.monotonic() - clock) / 60
    seeds = len(grid["seed"])
    made = {
        "label": f"recorded: {seeds} seed{'s' * (seeds != 1)}, {spoken(minutes)}",
        "command": f"python -m lecture_lib.recorded {name}",
        "date": date.today().isoformat(),
        "minutes": round(minutes, 1),
        "processor": processor(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "code": recorded.fingerprint(name),
        "small": small,
        "grid": grid,
        "entries": entries,
    }
    text = json.dumps(made, indent=1, ensure_ascii=False)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda row: " ".join(row[0].split()), text)  # a row of numbers is one line
    path = recorded.path_of(name, "json")
    path.with_suffix(".new").write_text(text + "\n", "utf-8")
    os.replace(path.with_suffix(".new"), path)
    return made


def entry(module, arguments: dict) -> dict:
    """What `run` returns, with numbers of six digits; an error if a file of JSON would not give it back."""
    result = module.run(**arguments)
    try:
        same = json.loads(json.dumps(result, allow_nan=False)) == result and isinstance(result, dict)
    except (TypeError, ValueError) as error:
        raise ValueError(f"run must return a dict of finite numbers, strings, lists and dicts: {error}") from None
    if not same:
        raise ValueError(f"run must return a dict of finite numbers, strings, lists and dicts, got {result!r}")
    if taken := result.keys() & arguments.keys():
        raise ValueError(f"run must not return what it takes: {', '.join(sorted(taken))}")
    return json.loads(json.dumps(result), parse_float=lambda text: float(f"{float(text):.6g}"))


def spoken(minutes: float) -> str:
    """40 minutes, 1 minute, less than a minute."""
    whole = round(minutes)
    return f"{whole} minute{'s' * (whole != 1)}" if whole else "less than a minute"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m lecture_lib.recorded", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(recorded.names()) or 'none yet'}")
    wanted = parser.parse_args(argv).names
    if not wanted:
        made = {name: recorded.load(name) for name in recorded.names()}
        for name, r in made.items():
            print(f"{name:40} {r['minutes']:5.1f} min  {r['date']}  torch {r['versions']['torch']}, {r['processor']}")
        print(f"{'all':40} {sum(r['minutes'] for r in made.values()):5.1f} min")
    torch.set_num_threads(1)  # as in the notebooks
    for name in wanted:
        print(f"{name}: {record(name)['label']}")


if __name__ == "__main__":
    main()
