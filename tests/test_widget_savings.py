"""Savings: patches, ink, ticks and places of the images."""

import json

import numpy as np
import pytest
import torch
from javascript import module_of, moves_to, refuses
from traitlets import TraitError

from lecture_lib.widgets import Savings

RNG = np.random.default_rng(0)
SAVINGS = {
    "settings": [0.25, 0.5, 0.75, 1.0],
    "accuracy": [0.7, 0.9, 0.95, 0.96],
    "flops": [3e5, 5e5, 8e5, 11e5],
    "milliseconds": [0.5, 0.8, 0.9, 1.2],
    "full": (0.97, 1e6, 1.0),
}
KEPT = RNG.random((4, 3, 16)) < 0.5
IMAGES = RNG.random((3, 8, 8))

savings = module_of(Savings)


def test_the_browser_has_the_patches_and_the_ink_that_python_gave(savings):
    data = Savings(**SAVINGS, images=IMAGES, kept=torch.tensor(KEPT))._data
    ours = savings(
        f"(() => {{ const keeps = w.patches({json.dumps(data)}); return [0, 1, 2, 3].map((s) => [0, 1, 2].map((n) =>"
        " Array.from({length: 16}, (_, p) => keeps(s, n, p)))) })()"
    )
    assert np.array_equal(ours, KEPT)
    ink = np.array(savings(f"Array.from(w.bytesOf({json.dumps(data['images'])}))")).reshape(3, 8, 8)
    np.testing.assert_allclose(ink / 255, IMAGES, atol=0.5 / 255 + 1e-9)


@pytest.mark.parametrize(("low", "high"), [(0, 1.04), (0.713, 0.988), (0.962, 0.974), (0, 2.7), (0, 21), (3e-4, 5e-4)])
def test_ticks_are_few_round_numbers_inside_the_axis(savings, low, high):
    ticks = savings(f"w.ticks({low}, {high}, 5)")
    values, texts = np.array(ticks["values"]), [f"{value:.{ticks['decimals']}f}" for value in ticks["values"]]
    assert 3 <= len(values) <= 7 and low - 1e-9 <= values[0] and values[-1] <= high + 1e-9
    np.testing.assert_allclose([float(text) for text in texts], values, atol=1e-9)


@pytest.mark.parametrize("count", range(1, 11))
def test_images_fit_their_picture(savings, count):
    best = savings(f"w.layout({count})")
    assert best["columns"] * best["rows"] >= count and best["side"] > 80
    assert best["columns"] * best["side"] <= 520 and best["rows"] * (best["side"] + 30) <= 354


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"settings": [0.5, 0.2, 1.0, 2.0]}, ["settings must be 2 to 101 ascending numbers", "[0.5, 0.2, 1.0, 2.0]"]),
        ({"settings": [0.5]}, ["settings", "of shape (1,)"]),
        ({"settings": "abc"}, ["settings", "'abc'"]),
        ({"accuracy": [0.7, 0.9, 0.95]}, ["accuracy", "one for each of the settings", "of shape (3,)"]),
        ({"accuracy": [0.7, 0.9, 0.95, 96]}, ["accuracy", "from 0 to 1", "from 0.7 to 96"]),
        ({"flops": [0, 1, 2, 3]}, ["flops", "positive", "from 0 to 3"]),
        ({"milliseconds": [1, 1, 1, float("nan")]}, ["milliseconds", "positive", "nan"]),
        ({"full": (1.2, 1e6, 1)}, ["full", "accuracy above 0 and at most 1", "[1.2, 1000000.0, 1.0]"]),
        ({"full": (0.9, 0, 1)}, ["full", "FLOPs and milliseconds above 0", "from 0 to 1"]),
        ({"control": ""}, ["control", "a text that is not empty", "''"]),
        ({"setting": 0.6}, ["setting", "one of the settings, [0.25, 0.5, 0.75, 1.0]", "0.6"]),
        ({"images": IMAGES}, ["kept", "given with images"]),
        ({"rival": ("a cut", [0.5])}, ["rival", "a name, accuracies and FLOPs"]),
        ({"rival": ("a cut", [0.5], [1, 2])}, ["rival", "as many positive FLOPs"]),
        ({"rival": ("", [0.5], [1])}, ["rival", "a text that is not empty"]),
        ({"images": 16 * IMAGES, "kept": KEPT}, ["images", "from 0 to 1"]),
        ({"images": IMAGES, "kept": KEPT[:3]}, ["kept", "4 settings and 3 images", "(3, 3, 16)"]),
        ({"images": IMAGES, "kept": KEPT[..., :9]}, ["kept", "a divisor of 8", "(4, 3, 9)"]),
        ({"images": IMAGES, "kept": 0.5 * KEPT}, ["kept", "booleans", "neither 0 nor 1"]),
    ],
)
def test_savings_refuses_by_name(arguments, parts):
    refuses(Savings, SAVINGS | arguments, parts)


def test_savings_in_python():
    widget = Savings(**SAVINGS, control="share <kept>")
    assert widget.setting == 1.0 and repr(widget) == "Savings(4 settings of the share <kept>)"
    moves_to(widget, "setting", 0.5)
    with pytest.raises(TraitError, match="one of the settings"):
        widget.setting = 0.51
    assert widget.setting == 0.5
    fallback = widget._repr_mimebundle_()[0]["text/html"]
    assert "share &lt;kept&gt;" in fallback and "accuracy is 0.970" in fallback
    assert "<tr><td>1</td><td>0.960</td><td>110%</td><td>120%</td></tr>" in fallback


def test_a_rival_stands_in_the_table():
    widget = Savings(**SAVINGS, rival=("a cut", [0.5, 0.8], [2e5, 6e5]))
    assert "a cut: 0.500 at 20%, 0.800 at 60%." in widget._fallback()
