"""Modalities: experts of patches and bytes, and what they tell about the modality."""

import json

import numpy as np
import pytest
import torch
from javascript import module_of, moves_to, refuses

from lecture_lib.choice import Choice
from lecture_lib.specialise import information
from lecture_lib.widgets import Modalities

RNG = np.random.default_rng(0)

INPUTS = {
    "inputs": [RNG.random((8, 8)), "a bold <seven>", RNG.random((8, 8)), "a"],
    "experts": [RNG.integers(0, 4, (2, n)) for n in (16, 14, 16, 1)],
    "share": RNG.dirichlet(np.ones(4), (2, 2)),
    "layers": ["2", "<4>"],
    "titles": ["image", "caption", "<image>", "short"],
}

modalities = module_of(Modalities)


def test_the_browser_has_the_experts_that_python_gave(modalities):
    data = json.dumps(Modalities(**INPUTS)._data, sort_keys=True)
    found = modalities(f"(({{ experts }}) => experts.map((rows) => rows.map(w.used)))({data})")
    assert found == [[len(np.unique(row)) for row in rows] for rows in INPUTS["experts"]]
    assert json.loads(data)["experts"] == [rows.tolist() for rows in INPUTS["experts"]]


def test_bits_about_the_modality_are_the_mutual_information(modalities):
    """Both modalities count alike: 100 tokens of each, here."""
    for counts in ([[70, 20, 10, 0], [0, 20, 10, 70]], [[100, 0, 0, 0], [0, 0, 100, 0]], [[25] * 4] * 2):
        expert = torch.tensor([e for row in counts for e, count in enumerate(row) for _ in range(count)])
        z = torch.nn.functional.one_hot(expert, 4).float()
        told = information(Choice(z.log(), z, torch.zeros(200)), torch.arange(2).repeat_interleave(100))
        share = json.dumps((np.array(counts) / 100).tolist())
        assert modalities(f"w.bits({share})") == pytest.approx(told.bits, abs=1e-9)


@pytest.mark.parametrize(("i", "columns"), [(0, 4), (1, 9), (3, 1)])
def test_tokens_fill_their_picture_row_by_row_without_overlap(modalities, i, columns):
    data = Modalities(**INPUTS)._data
    count = len(data["experts"][i][0])
    cells = np.array(modalities(f"w.places({json.dumps(data['inputs'][i])}, {count})"))
    assert cells.shape == (count, 4) and (cells[:, :2] >= 0).all()
    assert (cells[:, 0] + cells[:, 2]).max() <= 350 + 1e-6 and (cells[:, 1] + cells[:, 3]).max() < 240
    assert len(np.unique(cells[:, 0].round(3))) == min(columns, count)
    assert len(np.unique(cells[:, :2].round(3), axis=0)) == count


def other(name, place, value):
    values = [*INPUTS[name]]
    values[place] = value
    return {name: values}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"inputs": INPUTS["inputs"][:1]}, ["inputs", "2 to 32", "1 of them"]),
        (other("inputs", 1, "é" * 14), ["inputs[1]", "1 to 27 printable ASCII"]),
        (other("inputs", 0, np.ones((8, 7))), ["inputs[0]", "(side, side)", "(8, 7)"]),
        (other("inputs", 2, 2 * np.ones((8, 8))), ["inputs[2]", "from 0 to 1"]),
        ({"experts": INPUTS["experts"][:3]}, ["experts", "each of 4 inputs", "3 of them"]),
        (other("experts", 0, np.zeros((2, 9))), ["experts[0]", "1 or 4 or 16 or 64 tokens", "(2, 9)"]),
        (other("experts", 1, np.full((2, 14), 4)), ["experts[1]", "integers from 0 to 3"]),
        (other("experts", 1, np.full((2, 14), 0.5)), ["experts[1]", "no integers"]),
        ({"share": np.ones((2, 2, 4))}, ["share", "of sum 1"]),
        ({"share": np.ones((3, 2, 4)) / 4}, ["share", "1 or 2 layers", "(3, 2, 4)"]),
        ({"layers": ["2"]}, ["layers", "2 texts", "1"]),
        ({"titles": ["", *"abc"]}, ["titles[0]", "not empty"]),
        ({"input": 4}, ["input", "from 0 to 3", "4"]),
    ],
)
def test_modalities_refuses_by_name(arguments, parts):
    refuses(Modalities, INPUTS | arguments, parts)


def test_modalities_in_python():
    widget = Modalities(**INPUTS)
    assert widget.input == 0 and repr(widget) == "Modalities(4 inputs, 2 layers)"
    moves_to(widget, "input", 3)
    row = "".join(f"<td>{share:.0%}</td>" for share in INPUTS["share"][1, 1])
    assert f"<td>&lt;4&gt;</td><td>text</td>{row}" in widget._fallback()
