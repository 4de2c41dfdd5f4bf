"""The training loop and the evaluation: what they return, and how they stop."""

import contextlib
import itertools
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from torch import nn

from lecture_lib.data import batches
from lecture_lib.training import evaluate, fit
from notebooks import build

ROOT = Path(__file__).parents[1]
X = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([[1.0], [-2.0], [0.5]])


def problem():
    model = nn.Linear(3, 1)
    return model, lambda x, y: (model(x) - y).square().mean()


def test_fit_learns_and_returns_its_history(capsys):
    model, loss = problem()
    modes = []

    def measure():
        modes.append((model.training, torch.is_grad_enabled()))
        return {"error": loss(X, Y).item()}

    history = fit(model, loss, batches(X, Y, size=16), steps=110, lr=0.1, measure=measure, every=50)
    assert [row["step"] for row in history] == [50, 100, 110]
    assert history[-1]["error"] < 1e-2 < history[0]["loss"]
    assert set(modes) == {(False, False)} and model.training
    out, err = capsys.readouterr()
    assert "training" in out and not err  # progress is text, and not an alarm


def test_a_notebook_keeps_no_bar_whoever_saves_it():
    """A cell has one line for all its bars, and it is empty in the end."""
    source = """\
import itertools
from tqdm import tqdm
from torch import nn
from lecture_lib import training

model, seen = nn.Linear(1, 1), []
write = training._Line.write
training._Line.write = lambda line, text: (seen.append(text), write(line, text))
for label in ("one", "two"):
    training.fit(model, lambda: model.weight.sum(), itertools.repeat(()), steps=3, label=label)
    print(label)
assert any("one:" in text for text in seen) and any("two:" in text for text in seen)
"""
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    build.run(nb, "bars", ROOT)
    outputs = nb.cells[0].outputs
    assert [output.get("data") for output in outputs] == [{"text/plain": ""}, *[None] * (len(outputs) - 1)]
    assert [output.text for output in build.tidy(outputs, "bars")] == ["one\ntwo\n"]


def test_history_is_the_mean_loss_since_the_row_before():
    model = nn.Linear(1, 1)
    values = iter([1.0, 3.0, 10.0])
    history = fit(model, lambda: model.weight.sum() * 0 + next(values), itertools.repeat(()), steps=3, every=2)
    assert history == [{"step": 2, "loss": 2.0}, {"step": 3, "loss": 10.0}]


def test_a_loss_that_is_not_finite_stops_before_it_does_harm():
    model, loss = problem()
    bad = itertools.chain([(X, Y)] * 2, [(X, Y * torch.nan)])
    with pytest.raises(FloatingPointError, match=r"loss is nan at step 3 of regression: lower lr \(now 0.003\)"):
        fit(model, loss, bad, steps=10, label="regression")
    assert all(p.isfinite().all() for p in model.parameters())


def test_fit_refuses():
    model, loss = problem()
    data = itertools.repeat((X, Y))
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        fit(model, loss, data, steps=0)
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        fit(model, loss, data, steps=1, every=0)
    with pytest.raises(ValueError, match="lr must be a finite number > 0, got -1"):
        fit(model, loss, data, steps=1, lr=-1)
    with pytest.raises(ValueError, match=r"loss must return a scalar, got shape \(64, 1\)"):
        fit(model, lambda x, y: model(x), data, steps=1)
    with pytest.raises(ValueError, match="at least steps = 5 batches, got 2"):
        fit(model, loss, [(X, Y)] * 2, steps=5)


def test_evaluate_averages_over_examples_not_batches():
    model = nn.Dropout(0.5)
    parts = [(torch.ones(3),), (torch.zeros(1),)]
    assert evaluate(model, lambda x: {"mean": model(x)}, parts) == {"mean": 0.75}
    assert model.training
    with pytest.raises(ValueError, match=r"one value per example, got accuracy: \(\)"):
        evaluate(model, lambda x: {"accuracy": x.mean()}, parts)
    with pytest.raises(ValueError, match="at least one batch, got none"):
        evaluate(model, lambda x: {}, [])


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, None])
def test_modes_are_as_they_were_however_training_ends(error):
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Sequential(nn.Dropout(0.1), nn.Linear(3, 1)))
    model[2].eval()
    before, seen = [module.training for module in model.modules()], []

    def loss(x, y):
        seen.append(model[2].training)
        if error and len(seen) == 3:
            raise error
        return (model(x) - y).square().mean()

    with pytest.raises(error) if error else contextlib.nullcontext():
        fit(model, loss, itertools.repeat((X, Y)), steps=4)
    assert all(seen) and [module.training for module in model.modules()] == before
    evaluate(model, lambda x: {"mean": model(x)[:, 0]}, [(X,)])
    assert [module.training for module in model.modules()] == before


def test_numpy_numbers_are_numbers():
    model, loss = problem()
    assert (
        len(fit(model, loss, itertools.repeat((X, Y)), steps=np.int64(2), every=np.int32(1), lr=np.float32(0.1))) == 2
    )
