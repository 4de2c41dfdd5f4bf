"""The weights that ship: made by one command, which can be stopped and goes on, and read with clear errors."""

import json
import shutil

import pytest
import torch

from lecture_lib import pretrain
from lecture_lib.data import Sources, python_sources
from lecture_lib.decoder import token_losses


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The same command, for a network of two layers and 20,000 bytes."""
    data = python_sources()
    monkeypatch.setattr(pretrain, "python_sources", lambda: Sources(data.train[:20_000], data.test[:2_000]))
    monkeypatch.setattr(pretrain, "MODEL", {"d_model": 16, "n_heads": 2, "n_layers": 2})
    monkeypatch.setattr(pretrain, "CONTEXT", 32)

    def run(folder, **options):
        where = {"folder": tmp_path / folder, "state_folder": tmp_path / "state"}
        made = pretrain.pretrain("language_model", steps=20, every=5, **where, **options)
        return made, (tmp_path / folder / "language_model.safetensors").read_bytes()

    return run


def test_a_stopped_run_goes_on_and_gives_the_same_weights(small, monkeypatch, tmp_path):
    _, whole = small("whole")
    write_state = pretrain._write_state

    def stop(path, settings, step, *rest):
        write_state(path, settings, step, *rest)
        if step == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(pretrain, "_write_state", stop)
    with pytest.raises(KeyboardInterrupt):
        small("stopped")
    with pytest.raises(ValueError, match=r"is of another run, .*'seed': 0.*, not of .*'seed': 1"):
        small("stopped", seed=1)
    monkeypatch.setattr(pretrain, "_write_state", write_state)
    _, resumed = small("stopped")
    assert resumed == whole and not list((tmp_path / "state").iterdir())


def test_the_record_says_how_the_weights_were_made(small, tmp_path):
    made, _ = small("made")
    assert pretrain.record("language_model", folder=tmp_path / "made") == made
    assert made["seed"] == 0 and made["steps"] == 20 and made["command"].startswith("python -m lecture_lib.pretrain")
    model = pretrain.load("language_model", folder=tmp_path / "made")
    assert not model.training and all(p.dtype == torch.float32 for p in model.parameters())
    bits = token_losses(model, pretrain.python_sources().test).mean(-1) / torch.log(torch.tensor(2.0))
    torch.testing.assert_close(bits, torch.tensor(made["bits_per_byte"]), atol=1e-3, rtol=0)


def test_missing_and_damaged_weights_name_the_command_that_makes_them(small, tmp_path):
    small("made")
    command = "`python -m lecture_lib.pretrain language_model` makes it anew"
    with pytest.raises(RuntimeError, match=f"language_model.json is missing or damaged.*{command}"):
        pretrain.load("language_model", folder=tmp_path)
    weights = tmp_path / "made" / "language_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(RuntimeError, match=f"language_model.safetensors is missing or damaged.*{command}"):
        pretrain.load("language_model", folder=tmp_path / "made")
    shutil.copy(weights, tmp_path / "language_model.safetensors")
    (tmp_path / "language_model.json").write_text("{")
    with pytest.raises(RuntimeError, match=r"language_model.json is missing or damaged"):
        pretrain.load("language_model", folder=tmp_path)
    with pytest.raises(ValueError, match="name must be one of language_model, got 'large'"):
        pretrain.load("large")


def test_the_weights_that_ship_are_small_and_as_good_as_their_record_says():
    path = pretrain.HERE / "language_model.safetensors"
    assert path.stat().st_size <= 5e6
    record, model = pretrain.record("language_model"), pretrain.load("language_model")
    bits, packed = record["bits_per_byte"], record["bits_per_byte_of"]
    assert bits[-1] <= 1.25 and bits[-1] <= 0.85 * bits[0] and bits[-1] < min(packed.values())
    assert len(bits) == len(model.layers) == record["model"]["n_layers"]
    part = python_sources().test[:30_000]  # a sample: another version of Python has slightly other files
    measured = token_losses(model, part).mean(-1) / torch.log(torch.tensor(2.0))
    assert (measured.diff() < 0.02).all() and measured[-1] < 0.85 * measured[0]
    json.dumps(record)
