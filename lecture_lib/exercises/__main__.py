"""Grades notebooks that students hand in: `python -m lecture_lib.exercises NOTEBOOK [NOTEBOOK ...]` prints JSON.

Each is run from its first cell to its last, also after errors. An exercise that the collection's notebook has is then
"passed", "wrong" with its hint, "not attempted", "error" with its type and message, or "missing": no cell came to
`check("its name", ...)`. If several did, the last counts.

The verdict is that of the library's checks on what is handed over, whatever `check` means by then. But it is found in
the process that runs the student's code: code that reaches into this module, or into what the checks call, can forge
it, and code can do on this machine what you can do. Run it in a container.
"""

import argparse
import ast
import importlib
import json
import pkgutil
import re
import tempfile
from pathlib import Path

import nbformat
from ipykernel.kernelspec import get_kernel_dict
from IPython import get_ipython
from IPython.display import display
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_code_cell, new_notebook

from lecture_lib import exercises
from lecture_lib.exercises.answers import graded

CHECKS = dict(exercises.CHECKS)  # as they are before a student's code runs
STATUSES = ("passed", "wrong", "not attempted", "error", "missing")
ROOMS = sorted({room.name for room in pkgutil.iter_modules(exercises.__path__)} - {"answers", "__main__"})
NOTEBOOKS = Path(exercises.__file__).parents[2] / "notebooks"  # in a checkout; an installed package has none
CALL = re.compile(r"""\bcheck\(\s*(?:name\s*=\s*)?["'](\w+)["']""")
ROW = re.compile(r"^\| \[(.+)\]\(#exercise-\d+\) \| \S+ \| (\d+) \| (core|optional) \|$", re.M)  # of a notebook's head
HERE = "__import__('lecture_lib.exercises.__main__', fromlist=['tell'])"  # binds no name that a student could take
MIME = "application/vnd.lecture-lib.verdicts+json"
UNREADABLE = (OSError, AttributeError, TypeError, ValueError, nbformat.ValidationError)  # nbformat's, of what is JSON

verdicts: dict[str, tuple[str, str]] = {}  # in the kernel, as `watch`, `tell` and `report`


class Redirect(ast.NodeTransformer):
    """Sends `check("name", ...)` to `tell`, if there is a check of that name."""

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        name = [*node.args, *(word.value for word in node.keywords if word.arg == "name"), None][0]
        if called == "check" and isinstance(name, ast.Constant) and name.value in CHECKS:
            node.func = ast.parse(f"{HERE}.tell", mode="eval").body
        return node


def watch() -> None:
    """From the next cell on, see what is handed over to a check."""
    get_ipython().ast_transformers.append(Redirect())


def tell(name: str, answer: object) -> None:
    """Keep the verdict on an answer; an error leaves none."""
    verdicts.pop(name, None)
    verdicts[name] = graded(CHECKS[name], answer)


def report() -> None:
    """Show all verdicts so far."""
    display({MIME: verdicts}, raw=True)


def run(sources: list[str], timeout: float) -> tuple[dict, dict]:
    """The verdicts of a notebook's cells, and for each check that a cell names the error that ended this cell."""
    cells = [new_code_cell(f"{HERE}.watch()")]
    for source in sources:
        cells += [new_code_cell(source), new_code_cell(f"{HERE}.report()")]
    errors = {}

    class Manager(AsyncKernelManager):
        kernel_spec = KernelSpec(**get_kernel_dict())  # this interpreter's, whatever the notebook names

    def note(cell, cell_index, execute_reply):
        error = {"type": execute_reply["content"]["ename"], "message": execute_reply["content"]["evalue"]}
        if cell_index % 2 == 0:  # ours: the cell before it cannot be interrupted
            raise DeadKernelError(f"no cell runs any more: {error['type']}: {error['message']}")
        errors.update(dict.fromkeys(CALL.findall(cell.source), error))

    client = NotebookClient(new_notebook(cells=cells), kernel_manager_class=Manager, allow_errors=True)
    client.extra_arguments = ["--log-level=50"]  # the kernel's, about its transport
    client.interrupt_on_timeout, client.on_cell_error = True, note
    client.error_on_timeout = {"ename": "TimeoutError", "evalue": f"no end within {timeout:g} s", "traceback": []}
    client.timeout_func = lambda cell: None if cell is cells[0] else timeout  # the first imports torch
    try:
        with tempfile.TemporaryDirectory() as folder:  # not the notebook's: a file there could hide the library
            client.execute(cwd=folder)
    except DeadKernelError as error:
        dead = {"type": "DeadKernelError", "message": str(error)}
        errors = dict.fromkeys(CALL.findall("\n".join(sources)), dead) | errors
    shown = [output.data[MIME] for cell in cells[::2] for output in cell.outputs if MIME in output.get("data", {})]
    return (shown or [{}])[-1], errors


def plan(room: str) -> list[dict]:
    """The exercises of a notebook: their names, and in a checkout what its head says of each, else None."""
    checks, rows = vars(importlib.import_module(f"lecture_lib.exercises.{room}")), []
    names = [name for name, check in checks.items() if CHECKS.get(name) is check]
    for path in NOTEBOOKS.glob(f"[0-9]*_{room}.ipynb"):
        cells = nbformat.read(path, 4).cells
        names = [n for c in cells if "exercise" in c.metadata.get("tags", []) for n in CALL.findall(c.source)]
        rows = [row for c in cells if "head" in c.metadata.get("tags", []) for row in ROW.findall(c.source)]
    return [
        {"name": name, "heading": heading, "minutes": minutes and int(minutes), "kind": kind}
        for name, (heading, minutes, kind) in zip(names, rows or [(None, None, None)] * len(names), strict=True)
    ]


def read(path: Path) -> tuple[str, list[str]]:
    """Which notebook a file is, by its name, and its cells of code; ValueError if it is none of the collection."""
    rooms = [room for room in ROOMS if re.search(rf"(?<![a-z]){room}(?![a-z])", path.stem.lower())]
    if len(rooms) != 1:
        raise ValueError(
            f"NOTEBOOK must have the name of one of ours in its own, {', '.join(ROOMS)}; got {path.name!r}"
        )
    try:
        return rooms[0], [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    except UNREADABLE as error:
        raise ValueError(f"NOTEBOOK must be the file of a notebook, got {str(path)!r}: {error}") from None


def grade(path: Path, timeout: float = 300) -> dict:
    """Run a notebook, each cell for at most `timeout` seconds: which exercises pass? ValueError as in `read`."""
    room, sources = read(path)
    (verdicts, errors), rows = run(sources, timeout), plan(room)
    for row in rows:
        error = errors.get(row["name"])
        status, said = verdicts.get(row["name"], ("error" if error else "missing", ""))
        row |= {"status": status, "hint": said if status == "wrong" else None}
        row["error"] = error if status == "error" else None
    totals = {status: [row["status"] for row in rows].count(status) for status in STATUSES}
    unknown = sorted(set(CALL.findall("\n".join(sources))) - {row["name"] for row in rows})
    return {"file": str(path), "notebook": room, "exercises": rows, "totals": totals, "unknown": unknown}


def main(argv: list[str] | None = None) -> None:
    """The command line: a list with an entry for each notebook; what cannot be graded ends it before anything runs."""
    parser = argparse.ArgumentParser(prog="python -m lecture_lib.exercises", description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", type=Path, nargs="+", metavar="NOTEBOOK")
    parser.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="for a cell; 300 if not said")
    options = parser.parse_args(argv)
    if not options.timeout > 0:
        parser.error(f"--timeout must be above 0 seconds, got {options.timeout}")
    try:
        for path in options.notebooks:
            read(path)
    except ValueError as error:
        raise SystemExit(f"exercises: {error}") from None
    print(json.dumps([grade(path, options.timeout) for path in options.notebooks], indent=1))


if __name__ == "__main__":
    main()
