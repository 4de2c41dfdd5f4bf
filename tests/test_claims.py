"""notebooks/claims.py counts how often a claim holds: one that fails, or is not reached, stops nothing behind it."""

import json
from pathlib import Path

import pytest

from notebooks import claims

ROOT = Path(__file__).parents[1]
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
def lecture(tmp_path):
    (tmp_path / "notebooks" / "source").mkdir(parents=True)
    (tmp_path / "notebooks" / "source" / "01_luck.py").write_text(SOURCE, "utf-8")
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


def test_the_whole_of_a_long_claim_counts():
    nb = claims.build.convert(f"# %%\nassert {'a + ' * 60}b > 0.5\nassert_close(\n    a,\n    b,\n)\n")
    assert [words for _, words in claims.claims_of(nb).values()] == ["a + " * 60 + "b > 0.5", "assert_close( a, b, )"]


def test_the_record_has_no_claim_that_the_sources_do_not_make():
    record = json.loads((ROOT / "benchmarks" / "claims.json").read_text("utf-8"))
    assert record == claims.standing(record, ROOT)[0], "`make claims SEEDS=0` drops what is stale"


def test_an_error_is_not_fine_even_where_every_claim_holds(lecture):
    source = lecture / "notebooks" / "source" / "01_luck.py"
    source.write_text("# %%\nassert True\nmissing\n", "utf-8")
    assert not claims.measure(seeds=1, root=lecture)
    source.write_text("# %%\nassert True\n", "utf-8")
    assert claims.measure(seeds=1, root=lecture)


def test_names_that_do_not_exist_are_refused(lecture):
    with pytest.raises(claims.build.BuildError, match="no source for 02_more"):
        claims.measure(["02_more"], root=lecture)
