"""What all widgets promise: small modules, and one reading of numbers."""

import numpy as np
import pytest
import torch
from javascript import refuses

from lecture_lib import widgets
from lecture_lib.widgets import Estimators, ExpertCalculator, SparseMaps, Temperature, base


@pytest.mark.parametrize("name", widgets.__all__)
def test_module_is_small_and_imports_nothing(name):
    module = getattr(widgets, name)._esm
    assert len(module.encode()) < 24_000
    assert not any(line.startswith("import") for line in module.splitlines())
    assert "http" not in module.replace("http://www.w3.org/", "")


NUMBERS = {
    Temperature: {"temperature": 2, "seed": 3},
    Estimators: {"target": 1, "baseline": 1, "temperature": 2, "samples": 4, "seed": 3},
    SparseMaps: {"scale": 2},
    ExpertCalculator: {"d_model": 64, "d_hidden": 64, "n_experts": 16, "k": 2, "capacity_factor": 2, "n_tokens": 128},
}


@pytest.mark.parametrize(
    ("widget", "name", "value"), [(widget, *item) for widget, items in NUMBERS.items() for item in items.items()]
)
def test_numbers_of_numpy_and_torch_are_numbers_and_bools_are_none(widget, name, value):
    for kind in (np.int64, np.float32, torch.tensor):
        if kind is np.float32 and isinstance(getattr(widget(), name), int):
            continue
        found = getattr(widget(**{name: kind(value)}), name)
        assert found == value and type(found) in (int, float)
    for wrong in (True, np.True_, torch.tensor(True), str(value), [value]):
        refuses(widget, {name: wrong}, [name, "from", repr(wrong)])


@pytest.fixture
def cell(monkeypatch):
    """Runs the making of a widget as the code of a cell: cell(make, code, cellId=...)."""
    runs = iter(range(99))

    class Shell:
        def get_parent(self):
            return self.parent

    def run(make, code="a", **metadata):
        shell = Shell()
        shell.parent = {"header": {"msg_id": str(next(runs))}, "content": {"code": code}, "metadata": metadata}
        monkeypatch.setattr(base, "get_ipython", lambda: shell)
        return make()

    return run


def test_ids_of_widgets_are_those_of_their_place_in_the_notebook(cell):
    def pair():
        return Temperature(), SparseMaps()

    first = [w.model_id for w in cell(pair)]
    assert [w.model_id for w in cell(pair)] == first and len(set(first)) == 2
    assert all(len(i) == 32 for i in first)
    assert cell(Temperature, "b").model_id not in first
    by_id = cell(Temperature, "a", cellId="1f").model_id
    assert cell(Temperature, "edited", cellId="1f").model_id == by_id not in first
    for of_an_editor in ("vscode-notebook-cell:/a.ipynb#W0", None):
        assert cell(Temperature, "a", cellId=of_an_editor).model_id == first[0]


def test_a_cell_that_runs_again_closes_its_widget_of_before(cell):
    before = cell(Temperature)
    after = cell(lambda: Temperature(temperature=2))
    assert before.comm is None and after.comm is not None
    del before
    assert base._alive[after.model_id] is after
    after.temperature = 3.0
    with pytest.raises(Exception, match="temperature"):
        cell(lambda: Temperature(temperature=-1))
    assert cell(Temperature).comm is not None


def test_outside_of_a_cell_ids_are_drawn(cell, monkeypatch):
    assert Temperature().model_id != Temperature().model_id
    shell = type("Shell", (), {"get_parent": lambda self: {"header": {"msg_id": "1"}, "content": {"comm_id": "2"}}})()
    monkeypatch.setattr(base, "get_ipython", lambda: shell)
    assert Temperature().model_id != Temperature().model_id
