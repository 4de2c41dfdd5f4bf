"""The weights that ship: made by one command, which can be stopped and goes on, and read with clear errors."""

import json
import shutil

import pytest
import torch

from lecture_lib import pretrained
from lecture_lib.data import Digits, Sources, digits, python_sources
from lecture_lib.pretrained import __main__ as recipes
from lecture_lib.pretrained.decoder import token_losses
from lecture_lib.pretrained.limoe import retrieval


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The same command, for a network of two layers and 20,000 bytes."""
    data = python_sources()
    monkeypatch.setattr(recipes, "python_sources", lambda: Sources(data.train[:20_000], data.test[:2_000]))
    monkeypatch.setattr(recipes, "MODEL", {"d_model": 16, "n_heads": 2, "n_layers": 2})
    monkeypatch.setattr(recipes, "CONTEXT", 32)

    def run(folder, **options):
        where = {"folder": tmp_path / folder, "state_folder": tmp_path / "state"}
        made = recipes.pretrain("language_model", steps=20, every=5, **where, **options)
        return made, (tmp_path / folder / "language_model.safetensors").read_bytes()

    return run


def test_a_stopped_run_goes_on_and_gives_the_same_weights(small, monkeypatch, tmp_path):
    _, whole = small("whole")
    write_state = recipes._write_state

    def stop(path, settings, step, *rest):
        write_state(path, settings, step, *rest)
        if step == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "_write_state", stop)
    with pytest.raises(KeyboardInterrupt):
        small("stopped")
    with pytest.raises(ValueError, match=r"is of another run, .*'seed': 0.*, not of .*'seed': 1"):
        small("stopped", seed=1)
    monkeypatch.setattr(recipes, "_write_state", write_state)
    _, resumed = small("stopped")
    assert resumed == whole and not list((tmp_path / "state").iterdir())


def test_the_record_says_how_the_weights_were_made(small, tmp_path):
    made, _ = small("made")
    assert pretrained.record("language_model", folder=tmp_path / "made") == made
    assert made["seed"] == 0 and made["steps"] == 20
    assert made["command"] == "python -m lecture_lib.pretrained language_model --steps 20"
    model = pretrained.load("language_model", folder=tmp_path / "made")
    assert not model.training and all(p.dtype == torch.float32 for p in model.parameters())
    bits = token_losses(model, recipes.python_sources().test).mean(-1) / torch.log(torch.tensor(2.0))
    torch.testing.assert_close(bits, torch.tensor(made["bits_per_byte"]), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "limoe", "steps": 300}, "limoe"),
        ({"name": "language_model", "steps": 300, "seed": 7}, "language_model --steps 300 --seed 7"),
        ({"name": "language_model", "steps": 6_000, "compiled": True}, "language_model --compiled"),
    ],
)
def test_the_recorded_command_makes_the_same_again(options, words):
    """What differs from the defaults is in it, and nothing else."""
    assert recipes._command(**options) == f"python -m lecture_lib.pretrained {words}"


def test_missing_and_damaged_weights_name_the_command_that_makes_them(small, tmp_path):
    small("made")
    command = "`python -m lecture_lib.pretrained language_model` makes it anew"
    with pytest.raises(RuntimeError, match=f"language_model.json is missing or damaged.*{command}"):
        pretrained.load("language_model", folder=tmp_path)
    weights = tmp_path / "made" / "language_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(RuntimeError, match=f"language_model.safetensors is missing or damaged.*{command}"):
        pretrained.load("language_model", folder=tmp_path / "made")
    shutil.copy(weights, tmp_path / "language_model.safetensors")
    (tmp_path / "language_model.json").write_text("{")
    with pytest.raises(RuntimeError, match=r"language_model.json is missing or damaged"):
        pretrained.load("language_model", folder=tmp_path)
    for record in ("{}", "[]", '{"model": {"layers": 3}}', '{"model": {"d_model": 3, "n_heads": 2, "n_layers": 1}}'):
        (tmp_path / "language_model.json").write_text(record)  # of another layout
        with pytest.raises(RuntimeError, match=f"language_model.json is missing or damaged.*{command}"):
            pretrained.load("language_model", folder=str(tmp_path))
    with pytest.raises(ValueError, match="name must be one of language_model, limoe, adapters, got 'large'"):
        pretrained.load("large")


def test_the_weights_that_ship_are_small_and_as_good_as_their_record_says():
    path = pretrained.CHECKPOINTS / "language_model.safetensors"
    assert path.stat().st_size <= 5e6
    record, model = pretrained.record("language_model"), pretrained.load("language_model")
    bits, packed = record["bits_per_byte"], record["bits_per_byte_of"]
    assert bits[-1] <= 1.25 and bits[-1] <= 0.85 * bits[0] and bits[-1] < min(packed.values())
    assert len(bits) == len(model.layers) == record["model"]["n_layers"]
    part = python_sources().test[:30_000]  # a sample: another version of Python has slightly other files
    measured = token_losses(model, part).mean(-1) / torch.log(torch.tensor(2.0))
    assert (measured.diff() < 0.02).all() and measured[-1] < 0.85 * measured[0]
    json.dumps(record)


@pytest.mark.parametrize("option", ["steps", "every", "seed"])
def test_options_of_a_recipe_are_integers(option):
    for value in (True, 1.5, -1, "2"):
        with pytest.raises(ValueError, match=f"{option} must be an integer >= [01], got {value!r}"):
            recipes.pretrain("language_model", **{option: value})


# ---- limoe


def test_the_networks_of_limoe_are_those_of_their_record(monkeypatch, tmp_path):
    data = digits()
    monkeypatch.setattr(
        recipes, "digits", lambda: Digits(data.train_x, data.train_y, data.test_x[:60], data.test_y[:60])
    )
    monkeypatch.setattr(recipes, "SEEDS", 2)
    small = {"d_model": 8, "n_heads": 2, "n_layers": 2, "n_experts": 3, "d_hidden": 4}
    ways = {"both losses": small, "no losses": small, "dense": small | {"n_experts": None}}
    monkeypatch.setattr(recipes, "LIMOE", ways)
    made = [recipes.pretrain("limoe", steps=3, folder=tmp_path / name) for name in ("once", "again")]
    assert made[0] == pretrained.record("limoe", folder=tmp_path / "once") and made[0]["seeds"] == [0, 1]
    assert made[0]["command"] == "python -m lecture_lib.pretrained limoe --steps 3"
    first, second = ((tmp_path / name / "limoe.safetensors").read_bytes() for name in ("once", "again"))
    assert first == second
    models = pretrained.load("limoe", folder=tmp_path / "once")
    assert list(models) == list(ways) and not models.training
    for way, found in made[0]["retrieval"].items():
        again = [retrieval(model, data.test_x[:60], data.test_y[:60]) for model in models[way]]
        assert found == {key: [round(getattr(row, key), 4) for row in again] for key in found}
    history = made[0]["history"]
    share = torch.tensor(history["modality_share"]["both losses"])
    assert share.shape == (2, len(history["step"]), 1, 2, 3) and history["modality_share"]["dense"] == [[], []]
    torch.testing.assert_close(share.sum((-1, -2)), torch.ones(2, 2, 1), atol=1e-3, rtol=0)
    (tmp_path / "again" / "limoe.safetensors").unlink()
    with pytest.raises(
        RuntimeError, match=r"`python -m lecture_lib.pretrained limoe` makes it anew, in about ten minutes"
    ):
        pretrained.load("limoe", folder=tmp_path / "again")


def test_the_networks_of_limoe_that_ship_are_as_good_as_their_record_says():
    assert (pretrained.CHECKPOINTS / "limoe.safetensors").stat().st_size <= 1e6
    record, models, data = pretrained.record("limoe"), pretrained.load("limoe"), digits()
    found = {way: torch.tensor(values["image_to_text"]) for way, values in record["retrieval"].items()}
    assert (found["both losses"] > found["dense"]).all() and (found["local only"] < found["no losses"]).all()
    for way in ("both losses", "dense"):
        measured = retrieval(models[way][0], data.test_x, data.test_y).image_to_text
        assert measured == pytest.approx(found[way][0].item(), abs=0.02)


# ---- adapters


def test_the_adapters_are_those_of_their_record(monkeypatch, tmp_path):
    monkeypatch.setattr(recipes, "RATES", {"language": 1e-3, "tables": 1e-3})
    parts = recipes.adapting.parts
    monkeypatch.setattr(recipes.adapting, "parts", lambda text: parts(text, 1))
    made = [recipes.pretrain("adapters", steps=2, folder=tmp_path / name) for name in ("once", "again")]
    assert made[0] == pretrained.record("adapters", folder=tmp_path / "once")
    assert made[0]["command"] == "python -m lecture_lib.pretrained adapters --steps 2"
    first, second = ((tmp_path / name / "adapters.safetensors").read_bytes() for name in ("once", "again"))
    assert first == second and len(first) < 2 * 150_000
    models = pretrained.load("adapters", folder=tmp_path / "once")
    assert list(models) == ["language", "tables"] and not models.training
    for text, found in made[0]["texts"].items():
        assert found["bits_per_byte"] == pytest.approx(recipes.adapting.bits(models[text], parts(text, 1)[2]), abs=1e-3)
        assert found["parameters"] == sum(w.numel() for w in models[text].parameters() if w.requires_grad)
    one, other = (model.layers[3].up for model in models.values())
    assert one.base is other.base and not torch.equal(one.B, other.B)  # one base, so that they can be joined
    shutil.copy(tmp_path / "once" / "adapters.json", tmp_path)
    shutil.copy(pretrained.CHECKPOINTS / "language_model.safetensors", tmp_path / "adapters.safetensors")
    with pytest.raises(RuntimeError, match=r"damaged .*`python -m lecture_lib.pretrained adapters` makes it anew"):
        pretrained.load("adapters", folder=tmp_path)


def test_the_adapters_that_ship_are_as_good_as_their_record_says():
    assert (pretrained.CHECKPOINTS / "adapters.safetensors").stat().st_size <= 3 * 300e3
    made, models = pretrained.record("adapters"), pretrained.load("adapters")
    measured = recipes.adapting.bits(models["language"], recipes.adapting.parts("language")[2])
    assert measured == pytest.approx(made["texts"]["language"]["bits_per_byte"], abs=0.01)
    assert {"seed", "date", "minutes", "versions"} <= made.keys() and set(made["texts"]) == set(recipes.RATES)
