"""The second edition's form: what build.py makes of tags and headings, and the rules that its notebooks keep."""

import nbformat
import pytest

from notebooks import build

# A notebook in the form, as short as the rules let it be.
SOURCE = """\
# %% [markdown] slideshow={"slide_type": "slide"}
# # A notebook in the form

# %% [markdown] slideshow={"slide_type": "skip"}
# Four words stand here: `import`.

# %%
from lecture_lib.notebook import check, claim

# %% [markdown]
# ## Half a minute
#
# A cell of code follows, and more is folded.

# %% tags=["fold"]
# @title Set-up of the experiment
numbers = [1, 2]
numbers

# %% [markdown]
# **Predict.** Which is larger?
#
# <details><summary>A. the first</summary>
#
# **No.** It is 1.
#
# </details>
#
# <details><summary>B. the second</summary>
#
# **Yes.** It is 2, and 2 > 1.
#
# </details>

# %% tags=["guess"]
# the larger of the two

max(numbers)

# %% [markdown]
# ### Exercise: add *two* numbers ★☆☆ 5 min
#
# What is 2 + 3?

# %% tags=["exercise"]
five = ...

# %% tags=["solution"]
# @title Solution
five = 5

# %% [markdown]
# ### More of it · optional
#
# word word word

# %%
six = 6

# %% [markdown]
# ### Exercise: multiply ★★☆ 10 min · optional

# %% tags=["exercise"]
ten = ...

# %% tags=["solution"]
# @title Solution
ten = 10

# %% [markdown]
# This is core again.
#
# ## Sources
#
# - Euclid, *Elements*.
"""
HEAD = """\
**Time.** Core: 1 min of reading and 5 min of exercises. With all that is optional: 16 min.

| Exercise | Difficulty | Minutes | |
|---|---|---|---|
| [add *two* numbers](#Exercise:-add-two-numbers-%E2%98%85%E2%98%86%E2%98%86-5-min) | ★☆☆ | 5 | core |
| [multiply](#Exercise:-multiply-%E2%98%85%E2%98%85%E2%98%86-10-min-%C2%B7-optional) | ★★☆ | 10 | optional |"""


def tags(cell):
    return cell.metadata.get("tags", [])


def tagged(nb, tag):
    return [cell for cell in nb.cells if tag in tags(cell)]


# ---- what build.py makes of tags


@pytest.mark.parametrize(
    ("source", "metadata"),
    [
        ('# %% tags=["fold"]\n# @title Plot\nx = 1', {"jupyter": {"source_hidden": True}, "cellView": "form"}),
        ('# %% tags=["fold"]\nx = 1', {"jupyter": {"source_hidden": True}}),  # the first edition's: no title
        ('# %% tags=["solution"]\n# @title It\nx = 1', {"jupyter": {"source_hidden": True}, "cellView": "form"}),
        ('# %% tags=["guess"]\nx = 1', {"jupyter": {"outputs_hidden": True}}),
        ('# %% tags=["fold", "guess"]\nx = 1', {"jupyter": {"source_hidden": True, "outputs_hidden": True}}),
        ('# %% tags=["half"]\n# @title Plot\nx = 1', {}),
        ('# %% [markdown] tags=["fold"]\n# Prose', {}),
    ],
)
def test_a_tag_folds_in_the_notebook_and_not_in_the_source(source, metadata):
    nb = build.convert(source + "\n")
    assert {key: value for key, value in nb.cells[0].metadata.items() if key != "tags"} == metadata
    assert build.drift(source + "\n", nb) == ""


def test_a_source_folds_by_tags_alone(tmp_path):
    path = tmp_path / "99_form.py"
    path.write_text('# %% jupyter={"source_hidden": true} tags=["fold"]\nx = 1\n')
    with pytest.raises(build.BuildError, match=r'\+# %% tags=\["fold"\]'):
        build.read(path)


# ---- and of headings: the head


def convert(text=SOURCE):
    return build.convert(text, "99_form")


def test_the_head_says_what_takes_how_long():
    nb = convert()
    assert [tags(cell) for cell in nb.cells[:3]] == [[], ["head"], []]
    assert nb.cells[1].source == HEAD
    assert nb.cells[1].metadata.slideshow.slide_type == "skip"
    assert build.drift(SOURCE, nb) == ""


def test_the_head_stands_below_the_title_also_below_colabs_cells():
    nb = convert(build.restamp(SOURCE, "99_form", "owner/name"))
    assert [tags(cell) for cell in nb.cells[:4]] == [["colab"], ["colab"], [], ["head"]]
    assert nb.cells[3].source == HEAD


def test_the_first_edition_has_no_head():
    for name in build.FIRST_EDITION:
        assert not tagged(build.convert(SOURCE, name), "head")
    assert build.FIRST_EDITION <= {path.stem for path in build.sources()}


def plan(text):
    return build.plan(build.convert(text), "99_form")


TITLE = "# %% [markdown]\n# # Title and a subtitle\n\n"


@pytest.mark.parametrize(
    ("cells", "core", "whole"),
    [
        ("# %% [markdown]\n# one two\n", 2 / 130, 2 / 130),
        ("# %% [markdown]\n# - one | two -> $3$ *four*\n#\n# ## five\n", 5 / 130, 5 / 130),  # punctuation is no word
        ("# %% [markdown]\n# <details><summary>one</summary>\n#\n# two\n#\n# </details>\n", 2 / 130, 2 / 130),
        ("# %% [markdown]\n# where $a<b$ and $c>d$\n", 4 / 130, 4 / 130),
        ("# %%\na = 1\n\n# a comment\nb = 2  # another\n", 2 / 12, 2 / 12),
        ('# %% tags=["fold"]\n# @title It\na = 1\n', 0, 0),
        ("# %% [markdown]\n# ## a · optional\n#\n# b\n\n# %%\nx = 1\n", 0, 3 / 130 + 1 / 12),
        ("# %% [markdown]\n# ## a · optional\n# ### b\n# c\n# ## d\n# e\n", 2 / 130, 6 / 130),
        ("# %% [markdown]\n# ### a · optional\n# b\n# ### d\n# e\n", 2 / 130, 5 / 130),
        ("# %% [markdown]\n# ```\n# ## a · optional\n# ```\n# b\n", 3 / 130, 3 / 130),  # no heading
        ("# %% [markdown]\n# a\n#\n# ## Sources\n#\n# b\n#\n# ### c\n# d\n", 1 / 130, 1 / 130),
        ("# %% [markdown]\n# a\n#\n# ## Sources\n#\n# b\n#\n# ## c\n# d\n", 3 / 130, 3 / 130),
    ],
)
def test_minutes_are_words_and_unfolded_lines(cells, core, whole):
    found = plan(TITLE + cells)
    assert found["core"] == pytest.approx(core)
    assert found["whole"] == pytest.approx(whole)


EXERCISE = """\
# %% [markdown]
# ### Exercise: {} min{}

# %% tags=["exercise"]
a = ...

# %% tags=["solution"]
# @title Solution
a = 1
b = 2

"""


def test_an_exercise_takes_its_minutes_and_ends_with_its_solution():
    first, second = EXERCISE.format("one ★☆☆ 5", ""), EXERCISE.format("two ★★★ 7", " · optional")
    found = plan(TITLE + first + second + "# %% [markdown]\n# core\n")
    names = [(one["name"], one["stars"], one["minutes"], one["optional"]) for one in found["exercises"]]
    assert names == [("one", "★☆☆", 5, False), ("two", "★★★", 7, True)]
    assert found["core"] == pytest.approx(4 / 130 + 1 / 130)  # an exercise's text is read, too; stars are no word
    assert found["core_exercises"] == 5
    assert found["whole"] == pytest.approx(10 / 130 + 5 + 7)
    inside = "# %% [markdown]\n# ## Optional things · optional\n\n" + first
    assert [one["optional"] for one in plan(TITLE + inside)["exercises"]] == [True]


@pytest.mark.parametrize(
    "heading",
    [
        "### Exercise 1: one ★☆☆ 5 min",
        "## Exercise: one ★☆☆ 5 min",
        "### Exercise: one (★☆☆, 5 min)",
        "### Exercise: one ☆☆☆ 5 min",
        "### Exercise: one ★☆☆ 5 min, optional",
        "**Exercise.** One",
        "Read this.\n#\n# ### Exercise: one ★☆☆ 5 min",
    ],
)
def test_an_exercise_that_cannot_be_read_is_an_error(heading):
    text = SOURCE.replace("### Exercise: multiply ★★☆ 10 min · optional", heading)
    with pytest.raises(build.BuildError, match=r"^99_form, cell 12: .*### Exercise: its name ★★☆ 10 min"):
        convert(text)


@pytest.mark.parametrize("gone", ["exercise", "solution"])
def test_an_exercise_without_its_cells_is_an_error(gone):
    text = SOURCE.replace(f'# %% tags=["{gone}"]', '# %% tags=["half"]', 1)
    with pytest.raises(build.BuildError, match=rf"^99_form, cell \d+: .*a cell tagged {gone}"):
        convert(text)


# ---- build.py execute, check and stamp


@pytest.fixture
def project(tmp_path):
    """A folder laid out as this project, with one notebook as `execute` would write it."""
    (tmp_path / "notebooks/source").mkdir(parents=True)
    (tmp_path / "notebooks/source/99_form.py").write_text(SOURCE, "utf-8")
    (tmp_path / "README.md").write_text("[Form](notebooks/99_form.ipynb)\n")
    nb = build.number(convert())
    nb.metadata["lecture"] = {"executed": build.fingerprint(nb)}
    (tmp_path / "notebooks/99_form.ipynb").write_text(build.text_of(nb), "utf-8")
    return tmp_path


def change(project, old, new):
    path = project / "notebooks/source/99_form.py"
    assert old in path.read_text("utf-8")
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")


def test_nothing_to_do_changes_nothing(project, capsys):
    path = project / "notebooks/99_form.ipynb"
    before = path.read_text("utf-8")
    build.check(project)
    build.execute(root=project)
    assert capsys.readouterr().out == "99_form: the same code, not executed\n"
    assert path.read_text("utf-8") == before


def test_the_head_follows_the_source_without_execution(project):
    change(project, "★☆☆ 5 min", "★★★ 8 min")
    before = nbformat.read(project / "notebooks/99_form.ipynb", 4)
    with pytest.raises(build.BuildError, match=r"99_form\.ipynb is not its source"):
        build.check(project)
    build.execute(root=project)
    build.check(project)
    after = nbformat.read(project / "notebooks/99_form.ipynb", 4)
    assert "| ★★★ | 8 | core |" in after.cells[1].source and "8 min of exercises" in after.cells[1].source
    assert [cell.id for cell in after.cells] == [cell.id for cell in before.cells]


@pytest.mark.parametrize(
    "change_it",
    [
        lambda nb: nb.cells[1].update(source=HEAD.replace("16 min", "12 min")),
        lambda nb: nb.cells.pop(1),
        lambda nb: nb.cells.insert(3, nbformat.from_dict({**nb.cells[1], "id": "another"})),
        lambda nb: tagged(nb, "fold")[0].metadata.pop("jupyter"),
        lambda nb: tagged(nb, "fold")[0].metadata.pop("cellView"),
        lambda nb: tagged(nb, "guess")[0].metadata.pop("jupyter"),
    ],
)
def test_check_finds_what_the_source_does_not_say(project, change_it):
    path = project / "notebooks/99_form.ipynb"
    nb = nbformat.read(path, 4)
    change_it(nb)
    path.write_text(build.text_of(nb), "utf-8")
    with pytest.raises(
        build.BuildError, match=r"99_form\.ipynb folds other cells than its source, or has another head"
    ):
        build.check(project)


def test_stamps_come_and_go_around_the_head(project):
    path = project / "notebooks/99_form.ipynb"
    before = path.read_text("utf-8")
    build.stamp("owner/name", project)
    build.check(project)
    nb = nbformat.read(path, 4)
    assert [tags(cell) for cell in nb.cells[:4]] == [["colab"], ["colab"], [], ["head"]]
    build.stamp("", project)
    assert path.read_text("utf-8") == before
