"""Routing: loads and their summaries are those that Python gave."""

import json

import numpy as np
import pytest
import torch
from javascript import module_of, moves_to, refuses

from lecture_lib.widgets import Routing

RNG = np.random.default_rng(0)

LOADS = RNG.dirichlet(np.ones(8), (2, 5))
LOADS[0, 4, :6] = 0
RUNS = {
    name: {"step": [0, 10, 20, 40, 80], "load": load, "dropped": RNG.random(5), "quality": torch.linspace(0.2, 0.9, 5)}
    for name, load in zip(["no cure", "<bias>"], LOADS, strict=True)
}

routing = module_of(Routing)


def test_loads_and_their_summaries_are_those_that_python_gave(routing):
    data = json.dumps(Routing(RUNS)._data, sort_keys=True)  # as in a saved notebook
    assert routing(f"Object.keys(w.unpack({data}))") == list(RUNS)
    found = routing(f"Object.values(w.unpack({data})).map((run) => [run.load, run.load.map(w.summary)])")
    for (rows, summaries), load in zip(found, LOADS, strict=True):
        np.testing.assert_allclose(rows, load, rtol=1e-6)
        np.testing.assert_allclose([one["mean"] for one in summaries], load.mean(1), rtol=1e-6)
        np.testing.assert_allclose([one["busiest"] for one in summaries], load.max(1) / load.mean(1), rtol=1e-6)
        assert [one["idle"] for one in summaries] == (load == 0).sum(1).tolist()


def with_bias(**parts):
    return {"runs": RUNS | {"<bias>": RUNS["<bias>"] | parts}}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"runs": {}}, ["runs", "1 to 6 cures", "{}"]),
        ({"runs": {str(i): RUNS["no cure"] for i in range(7)}}, ["runs", "1 to 6 cures"]),
        ({"runs": {"": RUNS["no cure"]}}, ["a name in runs", "not empty"]),
        ({"runs": {"x": {"step": [1, 2]}}}, ["runs['x']", "step, load, dropped and quality", "a dict of step"]),
        (with_bias(step=[0, 10, 20, 40, 81]), ["runs['<bias>']['step']", "the steps of runs['no cure']", "81"]),
        (with_bias(step=[0, 10, 20, 40, 40]), ["runs['<bias>']['step']", "ascending"]),
        (with_bias(load=LOADS[1, :, :7]), ["runs['<bias>']['load']", "(5, 8)", "(5, 7)"]),
        (with_bias(load=100 * LOADS[1]), ["runs['<bias>']['load']", "shares from 0 to 1"]),
        (with_bias(load=0 * LOADS[1]), ["runs['<bias>']['load']", "above 0 for some expert"]),
        (with_bias(dropped=[0, 1]), ["runs['<bias>']['dropped']", "one for each of the steps", "(2,)"]),
        (with_bias(quality=[0, 1, 2, 3, float("inf")]), ["runs['<bias>']['quality']", "finite numbers", "inf"]),
        ({"runs": RUNS, "quality": 3}, ["quality", "a text", "3"]),
        ({"runs": RUNS, "step": 15}, ["step", "one of the steps, [0.0, 10.0, 20.0, 40.0, 80.0]", "15"]),
        ({"runs": RUNS, "cure": "loss"}, ["cure", "one of ['no cure', '<bias>']", "'loss'"]),
    ],
)
def test_routing_refuses_by_name(arguments, parts):
    refuses(Routing, arguments, parts)


def test_routing_in_python():
    widget = Routing(RUNS, "purity")
    assert (widget.step, widget.cure, repr(widget)) == (80.0, "no cure", "Routing(5 steps of no cure, <bias>)")
    moves_to(widget, "step", 10.0)
    moves_to(widget, "cure", "<bias>")
    fallback = widget._fallback()
    assert "purity" in fallback and f"<td>&lt;bias&gt;</td><td>{RUNS['<bias>']['quality'][-1]:.3g}</td>" in fallback
