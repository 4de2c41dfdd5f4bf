"""Roofline: what binds in the browser is what binds in Python."""

import json

import numpy as np
import pytest
from javascript import module_of, moves_to, refuses

from lecture_lib.cost import Machine, roofline
from lecture_lib.widgets import Roofline

ROOF = {
    "machine": Machine(2e9, 1e8),
    "counts": [1, 4, 16, 64],
    "tokens": [16, 4096],
    "flops": [1e6, 256e6],
    "n_bytes": [[1e5, 2e6], [4e5, 3e6], [1e6, 6e6], [1e6, 20e6]],
    "seconds": [[2e-3, 0.2], [5e-3, 0.2], [0.01, 0.21], [0.02, 0.3]],
}

roof = module_of(Roofline)


def test_what_binds_in_the_browser_is_what_binds_in_python(roof):
    data = json.dumps(Roofline(**ROOF)._data)
    found = roof(
        f"(({{ flops, bytes, machine }}) => bytes.map((r) => r.map((b, k) => w.bound(flops[k], b, machine))))({data})"
    )
    for row, moved in zip(found, ROOF["n_bytes"], strict=True):
        for cell, flops, n_bytes in zip(row, ROOF["flops"], moved, strict=True):
            wanted = roofline(flops, n_bytes, ROOF["machine"])
            assert (cell["seconds"], cell["binds"]) == (pytest.approx(wanted.seconds), wanted.binds)
    assert {cell["binds"] for row in found for cell in row} == {"compute", "memory"}


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [(0.3, 250, [1, 10, 100]), (1, 10, [1, 2, 5, 10]), (0.05, 0.6, [0.05, 0.1, 0.2, 0.5]), (11, 19, [])],
)
def test_axes_have_round_numbers_inside(roof, low, high, marks):
    assert roof(f"w.marksFor({low}, {high})") == pytest.approx(marks)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"machine": (0, 1)}, ["machine", "above 0", "from 0 to 1"]),
        ({"counts": [4, 1, 16, 64]}, ["counts", "ascending", "[4.0, 1.0, 16.0, 64.0]"]),
        ({"tokens": [16]}, ["tokens", "2 or 3", "(1,)"]),
        ({"flops": [1, 2, 3]}, ["flops", "2 numbers above 0", "(3,)"]),
        ({"n_bytes": ROOF["seconds"][:3]}, ["n_bytes", "4 rows of 2", "(3, 2)"]),
        ({"seconds": -np.ones((4, 2))}, ["seconds", "above 0", "from -1 to -1"]),
        ({"count": 5}, ["count", "one of the counts", "5"]),
    ],
)
def test_roofline_refuses_by_name(arguments, parts):
    refuses(Roofline, ROOF | arguments, parts)


def test_roofline_in_python():
    widget = Roofline(**ROOF)
    assert widget.count == 1 and repr(widget) == "Roofline(4 numbers of experts, 2 of tokens)"
    moves_to(widget, "count", 16)
    row = "<td>16</td><td>0.1 GFLOP/s, memory binds</td><td>1.22 GFLOP/s, compute binds</td>"
    assert row in widget._fallback()
