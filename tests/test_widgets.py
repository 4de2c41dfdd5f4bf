"""What all widgets promise: small modules, and one reading of numbers."""

import numpy as np
import pytest
import torch
from javascript import refuses

from lecture_lib import widgets
from lecture_lib.widgets import Estimators, ExpertCalculator, SparseMaps, Temperature


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
