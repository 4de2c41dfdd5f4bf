"""Results that take longer than a notebook: `load(NAME)` reads what `python -m lecture_lib.recorded NAME` wrote.

A module NAME.py in this folder, named as its notebook's exercises are, says what is run; NAME.json is its record:

    GRID = {"seed": [0, 1, 2], "lr": [0.01, 0.1]}     every combination is run once
    def run(seed, lr, steps=2000): ...                one entry: a dict of numbers, strings, lists and dicts, no seconds
    def small(): return {"seed": 0, "lr": 0.1, "steps": 5}      arguments of an entry of a moment: a test repeats it,
                                                                on processors that round otherwise, so let it pick no
                                                                best of what is nearly equal

`run` draws from its seed alone, and the notebook calls it live, with few steps. A record is {"label": "recorded: 3
seeds, 40 minutes" for the figure, "grid": GRID, "entries": [{"seed": 0, "lr": 0.01, what run returned}, ...]}, and how
it was made. It is stale once the code of NAME.py is another; what else the library changes, the small entry shows.
"""

import ast
import hashlib
import importlib
import json
from pathlib import Path
from types import ModuleType

__all__ = ["load"]


def load(name: str) -> dict:
    """The record `name`: label, grid, entries, and how it was made."""
    home(name)
    path = path_of(name, "json")
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RuntimeError(
            f"{path} is missing or damaged ({error}): `python -m lecture_lib.recorded {name}` makes it anew"
        ) from None


def names() -> list[str]:
    return sorted(path.stem for path in Path(__path__[0]).glob("[a-z]*.py"))


def path_of(name: str, kind: str) -> Path:
    return Path(__path__[0]) / f"{name}.{kind}"


def home(name: str) -> ModuleType:
    """The module that says what is run."""
    if name not in names():
        raise ValueError(f"name must be one of {', '.join(names()) or 'none yet'}, got {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def fingerprint(name: str) -> str:
    """A hash of a module's lines of code: comments, docstrings and empty lines are none."""
    text = path_of(name, "py").read_text("utf-8")
    lines = dict(enumerate(text.splitlines(), start=1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for n in range(node.lineno, node.end_lineno + 1):
                lines.pop(n, None)
    kept = [line.rstrip() for line in lines.values() if line.strip() and not line.lstrip().startswith("#")]
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()[:16]
