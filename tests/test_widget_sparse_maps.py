"""SparseMaps: three maps are those of torch."""

import pytest
import torch
from javascript import module_of, refuses
from traitlets import TraitError

from lecture_lib.simplex import entmax
from lecture_lib.widgets import SparseMaps

sparse_maps = module_of(SparseMaps)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_three_maps_are_those_of_torch(sparse_maps, scale):
    draws = torch.rand(40, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = torch.cat([(60 * draws).round() / 10 - 3, torch.zeros(1, 5, dtype=torch.float64)])  # steps of 0.1: ties
    found = sparse_maps(f"{scores.tolist()}.map((s) => w.maps(s, {scale}))")
    for i, alpha in enumerate((1, 1.5, 2)):
        ours = torch.tensor([row[i]["p"] for row in found], dtype=torch.float64)
        theirs = entmax(scale * scores, alpha)
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
        assert torch.equal(ours > 1e-9, theirs > 1e-9)


def test_options_have_a_weight_above_the_threshold_only(sparse_maps):
    for alpha in (1.5, 2):
        found = sparse_maps(f"w.entmax([1.3, 0.2, 0.7, -0.4, 0.9], {alpha})")
        for score, weight in zip([1.3, 0.2, 0.7, -0.4, 0.9], found["p"], strict=True):
            above = max(0, (alpha - 1) * (score - found["threshold"]))
            assert weight == pytest.approx(above ** (1 / (alpha - 1)))


def test_a_zero_is_exactly_zero_in_the_browser(sparse_maps):
    assert sparse_maps("w.entmax([3, 2, -3], 2).p") == [1, 0, 0]
    assert sparse_maps("w.entmax([3, 1, 1], 1.5).p") == [1, 0, 0]
    assert min(sparse_maps("w.softmax([30, 0, -30])")) > 0


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"scores": [1.0]}, ["scores", "2 to 6 numbers from -2 to 2", "[1.0]"]),
        ({"scores": [1.0] * 7}, ["scores", "2 to 6 numbers"]),
        ({"scores": [1.0, 4.0]}, ["scores", "from -2 to 2", "[1.0, 4.0]"]),
        ({"scores": [1.0, float("nan")]}, ["scores", "from -2 to 2", "nan"]),
        ({"scores": torch.tensor(1.0)}, ["scores", "2 to 6 numbers", "tensor(1.)"]),
        ({"labels": "abcde"}, ["labels", "2 to 6 names", "'abcde'"]),
        ({"labels": ["x", "y"]}, ["labels", "one name for each of the scores", "['x', 'y']"]),
        ({"scale": 0}, ["scale", "from 0.1 to 10", "0"]),
    ],
)
def test_sparse_maps_refuse_by_name(arguments, parts):
    refuses(SparseMaps, arguments, parts)


def test_sparse_maps_in_python():
    widget = SparseMaps(torch.tensor([0.5, -1.0]))
    assert (widget.scores, widget.labels, repr(widget)) == ([0.5, -1.0], ["a", "b"], "SparseMaps(scores=[0.5, -1.0])")
    with pytest.raises(TraitError, match="one name for each"):
        widget.scores = [1, 2, 0]
    assert widget.scores == [0.5, -1.0]
    widget.set_state({"scores": [2, 0], "scale": 2})  # what a message from the front-end does
    assert (widget.scores, widget.scale) == ([2.0, 0.0], 2.0)
    fallback = SparseMaps([1, 2], ["<a>", "b"])._repr_mimebundle_()[0]["text/html"]
    assert "&lt;a&gt;" in fallback and "<td>2.0</td>" in fallback
