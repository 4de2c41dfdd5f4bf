"""What takes longer than a notebook: a command records it, and a record of other code than today's is found."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from lecture_lib import recorded
from lecture_lib.recorded import __main__ as command

TOY = '''\
"""How far a walk goes."""

import torch

GRID = {"seed": range(3), "steps": [10, 20]}  # a comment


def run(seed, steps):
    """One walk."""
    walk = torch.randn(steps, generator=torch.Generator().manual_seed(seed)).cumsum(0)
    return {"end": walk[-1].item(), "walk": walk.tolist(), "kind": "random", "sizes": {"all": steps}}


def small():
    return {"seed": 1, "steps": 3}
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """In place of the package's folder, one with toy.py."""
    monkeypatch.setattr(recorded, "__path__", [str(tmp_path)])
    (tmp_path / "toy.py").write_text(TOY, "utf-8")
    yield tmp_path
    sys.modules.pop("lecture_lib.recorded.toy", None)
    vars(recorded).pop("toy", None)


def differences(said, before, where=""):
    """Where two results differ, numbers by more than another processor's rounding makes of a few steps."""
    if isinstance(before, dict) and isinstance(said, dict) and said.keys() == before.keys():
        return [found for key in before for found in differences(said[key], before[key], f"{where}.{key}")]
    if isinstance(before, list) and isinstance(said, list) and len(said) == len(before):
        return [found for i in range(len(before)) for found in differences(said[i], before[i], f"{where}[{i}]")]
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (said, before))
    same = math.isclose(said, before, rel_tol=0.02, abs_tol=1e-4) if numbers else said == before
    return [] if same else [f"{where[1:]}: {said!r}, and not {before!r}"]


def stale(name):
    """Why a record is not what its module would write today: the code, or the small entry, repeated."""
    record, module = recorded.load(name), recorded.home(name)
    if record["code"] != recorded.fingerprint(name) or record["small"]["arguments"] != module.small():
        return f"{name}.py is another since its record: `make recorded NAMES={name}`"
    torch.manual_seed(12345)  # `run` draws from its own seed
    if found := differences(command.entry(module, module.small()), record["small"]["result"]):
        return f"the library gives {name}.py another result: {'; '.join(found[:5])}"
    return None


@pytest.mark.parametrize("name", recorded.names() or [pytest.param("", marks=pytest.mark.skip("no record yet"))])
def test_records_are_those_of_todays_code(name):
    assert stale(name) is None


def test_every_record_has_its_module():
    assert {path.stem for path in Path(recorded.__path__[0]).glob("*.json")} == set(recorded.names())


def test_a_record_holds_every_entry_and_how_it_was_made(folder, capsys):
    command.main(["toy"])
    assert "toy: recorded: 3 seeds, less than a minute\n" in capsys.readouterr().out
    record = recorded.load("toy")
    assert record["label"] == "recorded: 3 seeds, less than a minute" and record["minutes"] == 0
    assert record["grid"] == {"seed": [0, 1, 2], "steps": [10, 20]}
    assert record["versions"]["torch"] == torch.__version__ and record["date"] and record["processor"]
    assert [(e["seed"], e["steps"]) for e in record["entries"]] == [(s, n) for s in range(3) for n in (10, 20)]
    entry = record["entries"][-1]
    walk = torch.randn(20, generator=torch.Generator().manual_seed(2)).cumsum(0)
    assert entry["walk"] == pytest.approx(walk.tolist(), rel=1e-5) and entry["end"] == entry["walk"][-1]
    assert entry["kind"] == "random" and entry["sizes"] == {"all": 20}
    assert all(len(str(abs(number)).replace(".", "").lstrip("0")) <= 6 for number in entry["walk"])
    before = json.loads((folder / "toy.json").read_text("utf-8"))
    command.main(["toy"])
    assert recorded.load("toy") == before and sorted(path.name for path in folder.glob("*.*")) == ["toy.json", "toy.py"]


def test_with_no_name_the_command_lists_what_each_took(folder, capsys):
    command.main(["toy"])
    capsys.readouterr()
    command.main([])
    row, total = capsys.readouterr().out.splitlines()
    assert row.split()[:3] == ["toy", "0.0", "min"] and total.split() == ["all", "0.0", "min"]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"""How far a walk goes."""', '"""How far it goes,\nat most."""', None),
        ("  # a comment", "", "another since"),  # beside code; whole lines of comment are none:
        ("def small", "# All of it\n\n\ndef small", None),
        ("[10, 20]", "[10, 30]", "another since"),
        ('"steps": 3}', '"steps": 4}', "another since"),
    ],
)
def test_a_record_is_stale_once_the_code_is_another(folder, old, new, why):
    command.record("toy")
    assert stale("toy") is None and TOY.count(old) == 1
    (folder / "toy.py").write_text(TOY.replace(old, new), "utf-8")
    said = stale("toy")
    assert said is None if why is None else why in said


def test_a_record_is_stale_once_the_library_gives_another_result(folder, monkeypatch):
    command.record("toy")
    randn = torch.randn
    monkeypatch.setattr(torch, "randn", lambda *args, **options: 1.1 * randn(*args, **options))
    assert stale("toy").startswith("the library gives toy.py another result: end: ")


def test_what_draws_from_outside_its_seed_is_found(folder):
    (folder / "toy.py").write_text(TOY.replace("generator=torch.Generator().manual_seed(seed)", ""), "utf-8")
    command.record("toy")
    assert stale("toy").startswith("the library gives")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("walk.tolist()", "walk", "run must return a dict of finite numbers, strings, lists and dicts: .*Tensor"),
        ("walk[-1].item()", "float('nan')", "run must return a dict of finite numbers.*not JSON"),
        ("walk.tolist()", "tuple(walk.tolist())", "run must return a dict of finite numbers"),
        ('"kind"', '"steps"', "run must not return what it takes: steps"),
        ('{"seed": range(3), ', "{", "GRID must have its seeds under 'seed', got steps"),
    ],
)
def test_what_no_record_can_hold_is_refused_at_once(folder, old, new, why):
    (folder / "toy.py").write_text(TOY.replace(old, new), "utf-8")
    with pytest.raises(ValueError, match=why):
        command.record("toy")
    assert not (folder / "toy.json").exists()


def test_what_is_not_there_is_said(folder):
    with pytest.raises(ValueError, match="name must be one of toy, got 'walk'"):
        recorded.load("walk")
    with pytest.raises(RuntimeError, match=r"toy\.json is missing or damaged.*`python -m lecture_lib\.recorded toy`"):
        recorded.load("toy")
    (folder / "toy.json").write_text("{", "utf-8")
    with pytest.raises(RuntimeError, match="missing or damaged"):
        recorded.load("toy")


def test_minutes_are_spoken():
    assert [command.spoken(minutes) for minutes in (0.4, 1.2, 39.8)] == ["less than a minute", "1 minute", "40 minutes"]
