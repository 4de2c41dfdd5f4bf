"""notebooks/claims.py counts how often a claim holds: one that fails, or is not reached, stops nothing behind it."""

import json
import math
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from lecture_lib.notebook import claim
from notebooks import claims

ROOT = Path(__file__).parents[1]
NEW = """\
# %% [markdown]
# # A second edition

# %%
import os

seed = int(os.environ["LECTURE_SEED"])
said = []

def claim(text, holds, *, clock=False, **numbers):
    said.append(numbers)

# %% [markdown]
# ## Luck

# %%
def told(i):
    claim("The seed is the second", seed == i, seed=seed)

claim("Two is more than one", 2 > 1); claim(
    clock=True, text="The first seed is the fastest", holds=seed == 0
)
for i in range(3):
    claim("No two are the same", not (seed and i == 1))
told(1)
if not seed:
    claim("Nobody gets here but the first", True)
assert said == [*5 * [{}], {"seed": seed}, *(not seed) * [{}]]

# %%
def assert_close(a, b):
    assert a == b, "an identity that fails is an error"

assert_close(seed, 0)
"""
SOURCE = """\
# %% [markdown]
# # A lecture

# %% slideshow={"slide_type": "-"}
import os

seed = int(os.environ["LECTURE_SEED"])
assert __name__ == "__main__"

# %% [markdown]
# ## Luck
#
# About two in three.

# %%
for i in range(3):
    assert seed != 1 or i != 1, "not this one"
after = "reached"
print("nobody sees this")

# %%
def assert_same(a, b):
    assert a == b  # a claim of its own, made once

assert_same(1, 1)
assert after == "reached"

# %% [markdown]
# ## Errors

# %%
if seed == 2:
    missing
made = [True]
assert True

# %%
for made_before in made if seed else made + [[]]:
    assert made_before or made_before[0]

# %% tags=["solution"]
assert seed < 9
"""


@pytest.fixture
def lecture(tmp_path, monkeypatch):
    (tmp_path / "notebooks" / "source").mkdir(parents=True)
    (tmp_path / "notebooks" / "source" / "01_luck.py").write_text(SOURCE, "utf-8")
    monkeypatch.setattr(claims.build, "FIRST_EDITION", ("00_before", "01_luck"))
    return tmp_path


def test_the_table_says_which_claims_held_how_often(lecture, capfd):
    assert not claims.measure(seeds=3, root=lecture)
    record = json.loads((lecture / "benchmarks" / "claims.json").read_text("utf-8"))
    held = [(row["slide"], row["held"], row.get("not")) for row in record["01_luck"]["claims"]]
    assert held == [("A lecture", 3, None), ("Luck", 2, [1]), *3 * [("Luck", 3, None)],
                    ("Errors", 2, [2]), ("Errors", 1, [0, 2]), ("Errors", 3, None)]  # fmt: skip
    said = capfd.readouterr().out
    assert "✗   2 seed != 1 or i != 1" in said and "NameError: name 'missing' is not defined" in said
    assert "nobody sees this" not in said


def row(slide, claim, held=10, **more):
    return {"slide": slide, "claim": claim, "held": held, **more}


def test_a_claim_keeps_its_line_as_long_as_its_source_has_its_words(lecture, capsys):
    (lecture / "notebooks" / "source" / "00_before.py").write_text(
        "# %% [markdown]\n# # Today's heading\n\n# %%\nassert a < 2\nassert b < 3\nassert a < 2\nassert c", "utf-8"
    )
    table = lecture / "benchmarks" / "claims.json"
    table.parent.mkdir()
    before = [row("Old", "a < 2", 9, **{"not": [3]}), row("Old", "b < 2"), row("Old", "c", 8)]
    record = {name: {"seeds": 10, "claims": before} for name in ("00_before", "09_gone")}
    table.write_text(json.dumps(record), "utf-8")
    assert claims.measure(seeds=0, root=lecture)
    left = json.loads(table.read_text("utf-8"))
    there = [row("Today's heading", "a < 2", 9, **{"not": [3]}), row("Today's heading", "c", 8)]
    assert left == {"00_before": {"seeds": 10, "claims": there}}
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["00_before, not measured: b < 3", "00_before, not measured: a < 2"]
    assert said[2] == '01_luck, not measured: __name__ == "__main__"'
    claims.measure(["01_luck"], seeds=1, root=lecture)  # others' lines stay
    assert json.loads(table.read_text("utf-8")) == left | {"01_luck": json.loads(table.read_text("utf-8"))["01_luck"]}


def test_the_whole_of_a_long_claim_counts(lecture):
    nb = claims.build.convert(f"# %%\nassert {'a + ' * 60}b > 0.5\nassert_close(\n    a,\n    b,\n)\n")
    said = [row["claim"] for row in claims.claims_of(nb, "01_luck").values()]
    assert said == ["a + " * 60 + "b > 0.5", "assert_close( a, b, )"]


# ---- notebooks of the second edition


def test_claims_are_counted_those_about_time_apart(lecture, capfd):
    (lecture / "notebooks" / "source" / "02_new.py").write_text(NEW, "utf-8")
    assert not claims.measure(["02_new"], seeds=2, root=lecture)
    luck = {"slide": "Luck"}
    assert json.loads((lecture / "benchmarks" / "claims.json").read_text("utf-8"))["02_new"]["claims"] == [
        luck | {"claim": "The seed is the second", "held": 1, "not": [0]},
        luck | {"claim": "Two is more than one", "held": 2},
        luck | {"claim": "The first seed is the fastest", "clock": True, "held": 1, "not": [1]},
        luck | {"claim": "No two are the same", "held": 1, "not": [1]},
        luck | {"claim": "Nobody gets here but the first", "held": 1, "not": [1]},
    ]
    told = capfd.readouterr().out.splitlines()
    assert told[:3] == [
        "02_new, 2 seeds",
        "    seed 1, cell 4: AssertionError: an identity that fails is an error",
        "  Luck",
    ]
    assert told[6:9] == [
        "  ✗   1 Nobody gets here but the first",
        "  about time, on this machine",
        "  ✗   1 The first seed is the fastest",
    ]


def test_a_claim_about_time_is_never_an_error():
    seldom = {"slide": "Luck", "claim": "It is so", "held": 1}
    assert not claims.tell([seldom], 10) and claims.tell([seldom | {"clock": True}, seldom | {"held": 9}], 10)


@pytest.mark.parametrize("call", ["claim(f'{a}', True)", "claim(*both)", "claim()", "claim('a', True, clock=b)"])
def test_a_claim_that_only_a_run_could_read_is_refused(lecture, call):
    (lecture / "notebooks" / "source" / "02_new.py").write_text(f"# %%\npass\n{call}\n", "utf-8")
    with pytest.raises(claims.build.BuildError, match="02_new, cell 0, line 2: claim's text is a literal string"):
        claims.measure(["02_new"], seeds=1, root=lecture)


def test_the_notebooks_hold_no_claim_that_failed_but_about_time():
    failed = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, 4).cells:
            lines = [line for output in cell.get("outputs", []) for line in output.get("text", "").splitlines()]
            if "varies" not in cell.metadata.get("tags", []):
                failed += [f"{path.stem}: {line}" for line in lines if line.startswith("✗ did not hold here")]
    assert not failed


# ---- claim


@pytest.mark.parametrize("holds", [True, np.bool_(True), torch.tensor(True), torch.tensor([1.0]).max() == 1])
def test_a_claim_that_holds_prints_a_line(capsys, holds):
    claim("Two is more than one", holds)
    assert capsys.readouterr().out == "✓ Two is more than one\n"


@pytest.mark.parametrize("holds", [False, np.bool_(False), torch.tensor(False)])
def test_a_claim_that_fails_stops_nothing_and_shows_its_numbers(capsys, holds):
    claim("64 experts are slower", holds, slow=torch.tensor(1.0149), fast=np.float32(1.04), n_runs=12345, clock=True)
    assert capsys.readouterr().out == "✗ did not hold here: 64 experts are slower: slow 1.01, fast 1.04, n runs 12345\n"


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (2, "2"),
        (2.0, "2"),
        (-0.123456, "-0.123"),
        (123456.7, "123000"),
        (1.5e-7, "1.5e-07"),
        (2.34567e9, "2.35e+09"),
        (0.0, "0"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (torch.tensor(1234567), "1234567"),
        (torch.tensor([[0.98765]], requires_grad=True), "0.988"),
        (np.int64(1000), "1000"),
        (np.array(1 / 3), "0.333"),
        (True, "True"),
    ],
)
def test_numbers_are_short(capsys, number, shown):
    claim("It is so", True, it=number)
    assert capsys.readouterr().out == f"✓ It is so: it {shown}\n"


@pytest.mark.parametrize("text", ["", " ", None, 3])
def test_a_claim_needs_words(text):
    with pytest.raises(ValueError, match="text must say what is claimed, got "):
        claim(text, True)


@pytest.mark.parametrize("holds", [None, 1, "yes", 0.0, torch.tensor(1), torch.tensor([True]), np.array([True, False])])
def test_a_claim_needs_a_truth_value(holds):
    with pytest.raises(ValueError, match="holds must be one truth value, True or False, got "):
        claim("It is so", holds)


@pytest.mark.parametrize("number", [None, "many", torch.ones(2), [1.0], np.ones(3), 1j])
def test_a_claim_shows_single_numbers(number):
    with pytest.raises(ValueError, match="share must be one number, got "):
        claim("It is so", True, share=number)


def test_the_record_has_no_claim_that_the_sources_do_not_make():
    record = json.loads((ROOT / "benchmarks" / "claims.json").read_text("utf-8"))
    assert record == claims.standing(record, ROOT)[0], "`make claims SEEDS=0` drops what is stale"


def test_an_error_is_not_fine_even_where_every_claim_holds(lecture):
    (lecture / "notebooks" / "source" / "01_luck.py").write_text("# %%\nassert True\nmissing\n", "utf-8")
    assert not claims.measure(seeds=1, root=lecture)


def test_names_that_do_not_exist_are_refused(lecture):
    with pytest.raises(claims.build.BuildError, match="no source for 02_more"):
        claims.measure(["02_more"], root=lecture)
