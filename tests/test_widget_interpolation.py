"""Interpolation: units and loss between two networks."""

import json

import numpy as np
import pytest
import torch
from javascript import module_of, moves_to, refuses, same

from lecture_lib.widgets import Interpolation

LINE = {
    "positions": [0.0, 0.25, 0.5, 1.0],
    "loss": [[0.1, 0.9, 1.4, 0.3], [0.1, 0.12, 0.25, 0.3]],
    "accuracy": torch.rand(2, 4, generator=torch.Generator().manual_seed(4)),
    "units": torch.randn(3, 5, 8, 8, generator=torch.Generator().manual_seed(5)),
}

interpolation = module_of(Interpolation)


def test_units_between_two_networks_are_those_of_torch(interpolation):
    data = json.dumps(Interpolation(**LINE)._data)
    a, b, matched = LINE["units"].flatten(1).double()
    for t in (0, 0.25, 1):
        found = interpolation(
            f"(([a, b, matched]) => [w.between(a, b, {t}), w.between(a, matched, {t})])(w.unpack({data}))"
        )
        same(found, torch.stack([torch.lerp(a, b, t), torch.lerp(a, matched, t)]))


def test_the_barrier_is_what_lies_above_the_line_between_the_ends(interpolation):
    found = interpolation(f"{LINE['loss']}.map((l) => l.map((_, i) => w.excess({LINE['positions']}, l, i)))")
    np.testing.assert_allclose(found, [[0, 0.75, 1.2, 0], [0, -0.03, 0.05, 0]], atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"positions": [0, 1, 0.5, 2]}, ["positions", "ascending", "[0.0, 1.0, 0.5, 2.0]"]),
        ({"loss": LINE["loss"][0]}, ["loss", "plain and matched, for 4 positions", "of shape (4,)"]),
        ({"loss": -np.ones((2, 4))}, ["loss", "at least 0", "from -1 to -1"]),
        ({"loss": np.zeros((2, 4))}, ["loss", "at least 0", "0 everywhere"]),
        ({"accuracy": 100 * LINE["accuracy"]}, ["accuracy", "from 0 to 1"]),
        ({"units": LINE["units"][:2]}, ["units", "A, B and B matched", "(2, 5, 8, 8)"]),
        ({"units": LINE["units"][..., :7]}, ["units", "side", "(3, 5, 8, 7)"]),
        ({"units": 0 * LINE["units"]}, ["units", "0 everywhere"]),
        ({"position": 0.3}, ["position", "one of the positions, [0.0, 0.25, 0.5, 1.0]", "0.3"]),
    ],
)
def test_interpolation_refuses_by_name(arguments, parts):
    refuses(Interpolation, LINE | arguments, parts)


def test_interpolation_in_python():
    widget = Interpolation(**LINE)
    assert widget.position == 0.5 and repr(widget) == "Interpolation(4 positions, 5 units)"
    moves_to(widget, "position", 1.0)
    accuracy = LINE["accuracy"][:, 1]
    row = f"<td>0.25</td><td>0.90</td><td>{accuracy[0]:.1%}</td><td>0.12</td><td>{accuracy[1]:.1%}</td>"
    assert row in widget._fallback()
