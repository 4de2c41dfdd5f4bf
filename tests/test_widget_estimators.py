"""Estimators: gradients are those of autograd, their moments those of numpy."""

import json

import numpy as np
import pytest
import torch
from javascript import module_of, refuses, same

from lecture_lib.estimators import exact_expectation, surrogate
from lecture_lib.widgets import Estimators

LOGITS = [1.3, 0.2, 0.7]

TOY = "{worth: [2, 0, 1], target: 0.9}"


def toy_cost(z):
    return (z @ torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64) - 0.9) ** 2


def toy_scores(n=1):
    return torch.tensor(LOGITS, dtype=torch.float64).repeat(n, 1).requires_grad_()


def gradient(loss, scores):
    return torch.autograd.grad(loss.sum(), scores)[0]


estimators = module_of(Estimators)


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
    refuses(Estimators, {argument: value}, [argument, allowed, repr(value)])


def test_estimators_in_python():
    widget = Estimators(torch.tensor(LOGITS), samples=4)
    widget.set_state({"baseline": 0.5, "samples": 16, "relaxation": "straight_through"})
    assert (widget.baseline, widget.samples, widget.relaxation) == (0.5, 16, "straight_through")
    assert repr(widget) == "Estimators(logits=[1.3, 0.2, 0.7], worth=[2.0, 0.0, 1.0], target=0.9)"
    data, _ = widget._repr_mimebundle_()
    assert "<td>+0.224</td><td>+0.004</td><td>-0.227</td>" in data["text/html"]
