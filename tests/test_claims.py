"""notebooks/claims.py counts how often a claim holds: one that fails, or is not reached, stops nothing behind it."""

import json

import pytest

from notebooks import claims

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


def test_notebooks_that_are_not_run_keep_their_lines(lecture):
    table = lecture / "benchmarks" / "claims.json"
    table.parent.mkdir()
    table.write_text('{"00_before": {"seeds": 10, "claims": []}}', "utf-8")
    claims.measure(["01_luck"], seeds=1, root=lecture)
    assert list(json.loads(table.read_text("utf-8"))) == ["00_before", "01_luck"]


def test_an_error_is_not_fine_even_where_every_claim_holds(lecture):
    source = lecture / "notebooks" / "source" / "01_luck.py"
    source.write_text("# %%\nassert True\nmissing\n", "utf-8")
    assert not claims.measure(seeds=1, root=lecture)
    source.write_text("# %%\nassert True\n", "utf-8")
    assert claims.measure(seeds=1, root=lecture)


def test_names_that_do_not_exist_are_refused(lecture):
    with pytest.raises(claims.build.BuildError, match="no source for 02_more"):
        claims.measure(["02_more"], root=lecture)
