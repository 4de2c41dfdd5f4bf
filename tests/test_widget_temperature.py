"""Temperature: samples and their summaries are those of torch for the same noise."""

import numpy as np
import pytest
import torch
from javascript import module_of, refuses
from scipy import stats
from traitlets import TraitError

from lecture_lib.widgets import Temperature

LOGITS = [1.3, 0.2, 0.7]

javascript = module_of(Temperature)


@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0, 10.0])
def test_samples_are_those_of_torch_for_the_same_noise(javascript, temperature):
    noise = torch.distributions.Gumbel(0.0, 1.0).sample((20, 3)).double()
    ours = javascript(f"{noise.tolist()}.map((g) => w.gumbelSoftmax({LOGITS}, g, {temperature}))")
    theirs = torch.softmax((torch.tensor(LOGITS, dtype=torch.float64) + noise) / temperature, -1)
    torch.testing.assert_close(torch.tensor(ours, dtype=torch.float64), theirs, atol=1e-6, rtol=1e-6)


def test_softmax_of_large_scores_is_finite(javascript):
    assert javascript("w.softmax([1000, 0, -1000], 0.05)") == [1, 0, 0]


def test_noise_is_gumbel_and_a_function_of_its_seed(javascript):
    noise = np.array(javascript("w.gumbelNoise(3, 5000)")).ravel()
    assert np.mean(noise) == pytest.approx(np.euler_gamma, abs=4 * np.pi / np.sqrt(6 * noise.size))
    assert np.var(noise) == pytest.approx(np.pi**2 / 6, rel=0.1)
    assert stats.kstest(noise, "gumbel_r").pvalue > 0.01
    assert javascript("w.gumbelNoise(3, 9)") == javascript("w.gumbelNoise(3, 9)")
    assert javascript("w.gumbelNoise(3, 9)") != javascript("w.gumbelNoise(4, 9)")


def test_how_often_each_is_largest_is_its_probability_at_every_temperature(javascript):
    samples = f"w.gumbelNoise(1, 20000).map((g) => w.gumbelSoftmax({LOGITS}, g, t))"
    shares = javascript(f"[0.05, 1, 10].map((t) => w.summary({samples}).share)")
    assert shares[0] == shares[1] == shares[2]
    np.testing.assert_allclose(shares[0], torch.softmax(torch.tensor(LOGITS), -1), atol=0.015)


def test_the_largest_entry_goes_from_one_third_to_one_as_temperature_falls(javascript):
    samples = f"w.gumbelNoise(1, 400).map((g) => w.gumbelSoftmax({LOGITS}, g, t))"
    largest = javascript(f"[10, 1, 0.05].map((t) => w.summary({samples}).largest)")
    assert 1 / 3 < largest[0] < 0.45 < largest[1] < 0.9 < largest[2] < 1


def test_triangle_maps_one_hot_to_corners_and_uniform_to_the_centre(javascript):
    corners = [[0, 0], [3, 0], [0, 3]]
    points = javascript(f"[[1,0,0],[0,1,0],[0,0,1],[1/3,1/3,1/3]].map((y) => w.inTriangle(y, {corners}))")
    np.testing.assert_allclose(points, [*corners, [1, 1]])


def test_arrays_and_tensors_are_taken_as_logits():
    assert Temperature(torch.tensor([1.0, 2.0, 3.0])).logits == [1.0, 2.0, 3.0]
    assert Temperature(np.arange(3)).logits == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("logits", [1.0, 2.0], "three finite numbers"),
        ("logits", [1.0, 2.0, float("nan")], "three finite numbers"),
        ("logits", torch.ones(3, 3), "three finite numbers"),
        ("labels", ["a", "b"], "three names"),
        ("labels", "abc", "three names"),
        ("temperature", 0.01, "from 0.05 to 10"),
        ("temperature", None, "from 0.05 to 10"),
        ("seed", -1, "an integer from 0 to 4294967295"),
        ("seed", 0.5, "an integer from 0 to 4294967295"),
    ],
)
def test_errors_name_argument_value_and_what_is_allowed(argument, value, allowed):
    refuses(Temperature, {argument: value}, [argument, allowed, repr(value)])


def test_a_float32_is_read_as_it_is_written():
    assert Temperature(np.float32([1.3, 0.2, 0.7]), temperature=np.float32(0.3)).temperature == 0.3
    assert Temperature(torch.tensor([1.3, 0.2, 0.7])).logits == [1.3, 0.2, 0.7]
    for wrong in ([True, False, True], ["1", "2", "3"]):
        refuses(Temperature, {"logits": wrong}, ["logits", "three finite numbers", repr(wrong)])


def test_a_refused_assignment_changes_nothing():
    widget = Temperature()
    with pytest.raises(TraitError, match="temperature"):
        widget.temperature = 99
    assert widget.temperature == 1.0


def test_python_sees_what_the_browser_sets():
    widget = Temperature()
    widget.set_state({"temperature": 2, "seed": 7})  # what a message from the front-end does
    assert (widget.temperature, widget.seed) == (2.0, 7)


def test_text_of_a_widget_is_the_same_in_every_run():
    assert repr(Temperature(seed=3)) == "Temperature(logits=[1.3, 0.2, 0.7])"


def test_where_no_javascript_runs_the_probabilities_are_shown():
    data, _ = Temperature(labels=["<a>", "b", "c"])._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "<td>0.53</td><td>0.18</td><td>0.29</td>" in data["text/html"]
    assert "&lt;a&gt;" in data["text/html"]
    assert Temperature()._ipython_display_ is None  # ipywidgets 7 would show no HTML by it
