"""Exits: examples leave in the browser where they leave in torch."""

import json

import numpy as np
import pytest
import torch
from javascript import module_of, moves_to, refuses

from lecture_lib.widgets import Exits

CONFIDENCE = torch.rand(600, 5, generator=torch.Generator().manual_seed(0))
RIGHT = torch.rand(600, 5, generator=torch.Generator().manual_seed(1)) < CONFIDENCE
THRESHOLDS = [0.0, 0.1, 0.5, 0.9, *sorted(CONFIDENCE[:3, 2].tolist()), 1.0]  # three are the confidence of an example
EXITS = {
    "settings": sorted(THRESHOLDS),
    "milliseconds": np.linspace(1, 2, 8),
    "confidence": CONFIDENCE,
    "right": RIGHT,
    "flops": [1e5, 2e5, 3e5, 4e5, 5e5],
    "full": (0.9, 5e5, 2.0),
}

exits = module_of(Exits)


def test_examples_leave_in_the_browser_where_they_leave_in_torch(exits):
    """At every threshold, those included that equal a confidence: all counts agree."""
    data = json.dumps(Exits(**EXITS)._data)
    found = exits(f"((d) => d.settings.map((t) => w.leave(t, w.record(d))))({data})")
    for threshold, ours in zip(EXITS["settings"], found, strict=True):
        leaves = []
        for row in CONFIDENCE:  # the rule, in its words
            confident = [b for b in range(5) if row[b] >= threshold]
            leaves.append(confident[0] if confident else 4)
        leaves = torch.tensor(leaves)
        right = RIGHT[torch.arange(600), leaves]
        assert ours["left"] == leaves.bincount(minlength=5).tolist()
        assert ours["hits"] == leaves[right].bincount(minlength=5).tolist()
        assert ours["accuracy"] == pytest.approx(right.double().mean().item())
        assert ours["flops"] == pytest.approx(torch.tensor(EXITS["flops"])[leaves].mean().item())


def test_the_table_without_javascript_is_that_of_the_picture(exits):
    widget = Exits(**EXITS)
    found = exits(f"((d) => d.settings.map((t) => w.leave(t, w.record(d))))({json.dumps(widget._data)})")
    for setting, ours, time in zip(EXITS["settings"], found, EXITS["milliseconds"], strict=True):
        row = (
            f"<td>{setting:.4g}</td><td>{ours['accuracy']:.3f}</td><td>{ours['flops'] / 5e5:.0%}</td><td>{time / 2:.0%}"
        )
        assert row in widget._fallback()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"confidence": CONFIDENCE[0]}, ["confidence", "1 to 600 examples at 2 to 8 exits", "of shape (5,)"]),
        ({"confidence": torch.ones(601, 5)}, ["confidence", "1 to 600 examples", "(601, 5)"]),
        ({"confidence": CONFIDENCE * torch.nan}, ["confidence", "nan"]),
        ({"right": RIGHT[:5]}, ["right", "booleans of the shape of confidence, (600, 5)", "(5, 5)"]),
        ({"right": CONFIDENCE}, ["right", "booleans", "neither 0 nor 1"]),
        ({"flops": [1, 2, 3, 4, 4]}, ["flops", "ascending positive numbers", "5 exits", "[1.0, 2.0, 3.0, 4.0, 4.0]"]),
        ({"milliseconds": [1, 2]}, ["milliseconds", "one for each of the settings", "of shape (2,)"]),
        ({"setting": 2}, ["setting", "one of the settings", "2.0"]),
    ],
)
def test_exits_refuses_by_name(arguments, parts):
    refuses(Exits, EXITS | arguments, parts)


def test_exits_in_python():
    widget = Exits(**EXITS, setting=0.5)
    assert widget.setting == 0.5 and repr(widget) == "Exits(8 settings of the confidence threshold)"
    moves_to(widget, "setting", EXITS["settings"][3])
