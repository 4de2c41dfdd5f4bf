"""The second edition's form: what build.py makes of tags and headings, and the rules that its notebooks keep."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from notebooks import build

ROOT = Path(__file__).parents[1]
SECOND_EDITION = [path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if path.stem not in build.FIRST_EDITION]
MINUTES = {"core": 35, "core_exercises": 15, "whole": 90}
LIMIT_LINES, LIMIT_WITHOUT_TEXT, EXERCISES = 15, 0.1, range(4, 7)
PLOTTING = {"plt", "fig", "figure", "ax", "axes", "axs", "plots", "show"}
CHOICE = re.compile(
    r"<details><summary>(?P<letter>[A-Z])\. [^\n`*]+</summary>\n\n"
    r"\*\*(?P<answer>Yes|No|Nearly)\.\*\* \S((?!</?details).)*\n\n</details>(\n\n|$)",
    re.S,
)

# A notebook in the form, as short as the rules let it be.
EXERCISE = """\
# %% [markdown]
# ### Exercise: {} min{}
#
# A short one.

# %% tags=["exercise"]
a = ...

# %% tags=["solution"]
# @title Solution
a = 1
b = 2

"""
SOURCE = f"""\
# %% [markdown] slideshow={{"slide_type": "slide"}}
# # A notebook in the form

# %% [markdown] slideshow={{"slide_type": "skip"}}
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
fig, ax = plt.subplots()

# %% [markdown]
# **Predict.** Which is larger?
#
# <details><summary>A. the first</summary>
#
# **No.** It is 1, and $1 < 2$.
#
# </details>
#
# <details><summary>B. the second</summary>
#
# **Yes.** It is 2, and 2 > 1.
#
# </details>

# %% tags=["fold", "guess"]
# @title Open this after your guess
claim("the second is larger", numbers[1] > numbers[0], second=numbers[1])

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

{EXERCISE.format("multiply ★★☆ 10", " · optional")}\
{EXERCISE.format("divide ★☆☆ 4", "")}\
{EXERCISE.format("subtract ★★★ 6", "")}\
# %% [markdown]
# This is core again.
#
# ## Sources
#
# - Euclid, *Elements*.
"""
HEAD = """\
**Time.** Core: 1 min of reading and 15 min of exercises. With all that is optional: 26 min.

| Exercise | Difficulty | Minutes | |
|---|---|---|---|
| [add *two* numbers](#exercise-1) | ★☆☆ | 5 | core |
| [multiply](#exercise-2) | ★★☆ | 10 | optional |
| [divide](#exercise-3) | ★☆☆ | 4 | core |
| [subtract](#exercise-4) | ★★★ | 6 | core |"""


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
    headings = [cell.source.split("\n")[0] for cell in nb.cells if "### Exercise" in cell.source]
    assert headings[1] == '### Exercise: multiply ★★☆ 10 min · optional <a id="exercise-2"></a>'
    assert [heading[-7:] for heading in headings] == [f'{number}"></a>' for number in (1, 2, 3, 4)]
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


def test_an_exercise_takes_its_minutes_and_ends_with_its_solution():
    first, second = EXERCISE.format("one ★☆☆ 5", ""), EXERCISE.format("two ★★★ 7", " · optional")
    found = plan(TITLE + first + second + "# %% [markdown]\n# core\n")
    names = [(one["name"], one["stars"], one["minutes"], one["optional"]) for one in found["exercises"]]
    assert names == [("one", "★☆☆", 5, False), ("two", "★★★", 7, True)]
    assert found["core"] == pytest.approx(7 / 130 + 1 / 130)  # an exercise's text is read, too; stars are no word
    assert found["core_exercises"] == 5
    assert found["whole"] == pytest.approx(16 / 130 + 5 + 7)
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
    assert "| ★★★ | 8 | core |" in after.cells[1].source and "18 min of exercises" in after.cells[1].source
    assert [cell.id for cell in after.cells] == [cell.id for cell in before.cells]


@pytest.mark.parametrize(
    "change_it",
    [
        lambda nb: nb.cells[1].update(source=HEAD.replace("26 min", "12 min")),
        lambda nb: nb.cells.pop(1),
        lambda nb: nb.cells[8].update(source=nb.cells[8].source.replace(' <a id="exercise-1"></a>', "")),
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


# ---- the rules


def is_folded(cell):
    return "fold" in tags(cell) or "solution" in tags(cell)


def faults_of_code(cell):
    """What is wrong with one code cell and what it shows."""
    tree = ast.parse(cell.source)
    nodes = list(ast.walk(tree))
    if is_folded(cell) and not re.match(r"# @title \S", cell.source):
        yield "what is folded begins with '# @title what is inside'"
    if "guess" in tags(cell) and not is_folded(cell):
        yield "what shows the answer to a guess is tagged fold, too: else JupyterLab shows its first line"
    if not is_folded(cell):
        if (lines := cell.source.count("\n") + 1) > LIMIT_LINES:
            yield f"{lines} lines of code that is not folded, more than {LIMIT_LINES}"
        if drawn := sorted({node.id for node in nodes if isinstance(node, ast.Name)} & PLOTTING):
            yield f"plotting ({', '.join(drawn)}) that is not folded"
    if any(isinstance(node, ast.Assert) for node in nodes):
        yield "a bare assert: say it with claim, or assert_close"
    for call in (node for node in nodes if isinstance(node, ast.Call)):
        if getattr(call.func, "attr", getattr(call.func, "id", "")) == "claim":
            text = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
            if not isinstance(text, str) or not text.strip():
                yield f"line {call.lineno}: the first argument of claim is its text, in quotation marks"
            if "clock" in {word.arg for word in call.keywords} and "varies" not in tags(cell):
                yield f"line {call.lineno}: a claim about seconds in a cell that is not tagged varies"
    shown = "".join(str(output.get("text", "")) for output in cell.outputs)
    if "did not hold" in shown and "varies" not in tags(cell):
        yield f"a claim that did not hold: {shown.strip()}"


def faults_of_prediction(cell):
    """What is wrong with a prediction, if the cell is one."""
    if "**Predict" not in cell.source and "<details" not in cell.source:
        return
    if cell.metadata.get("slideshow", {}).get("slide_type") in ("notes", "fragment"):
        yield "a prediction is on the slide, or in the notebook only"
    question, begin, rest = cell.source.partition("<details")
    choices = list(CHOICE.finditer(begin + rest))
    if not re.fullmatch(r"\*\*Predict\.\*\* \S.*\n\n", question, re.S) or CHOICE.sub("", begin + rest):
        yield f"a prediction that is not of the form in CONTRIBUTING.md: {CHOICE.sub('', begin + rest)[:60]!r}"
        return
    if not 2 <= len(choices) <= 4 or [choice["letter"] for choice in choices] != list("ABCD")[: len(choices)]:
        yield "a prediction has two to four choices, A to D"
    if [choice["answer"] for choice in choices].count("Yes") != 1:
        yield "a prediction has one choice whose answer is Yes"


def faults(nb, name):
    """Every rule of the form that a notebook breaks, as sentences."""
    cells = [cell for cell in nb.cells if not build.has(cell, "head", "colab")]
    for i, cell in enumerate(cells):
        of_kind = {"code": faults_of_code, "markdown": faults_of_prediction}[cell.cell_type]
        yield from (f"cell {i}: {fault}" for fault in of_kind(cell))
    code = [i for i, cell in enumerate(cells) if cell.cell_type == "code" and not is_folded(cell)]
    bare = [i for i in code if not has_text(cells[i - 1])]
    if len(bare) > LIMIT_WITHOUT_TEXT * len(code):
        yield f"{len(bare)} of {len(code)} cells of code have no text right before them, the cells {bare}"
    try:
        plan = build.plan(nbformat.v4.new_notebook(cells=cells), name)
    except build.BuildError as error:
        yield str(error)
        return
    for which, limit in MINUTES.items():
        if plan[which] > limit:
            yield f"{which}: {plan[which]:.1f} minutes, more than {limit}"
    places = [row["cell"] for row in plan["exercises"]]
    if len(places) not in EXERCISES:
        yield f"{len(places)} exercises, not four to six"
    elif places[0] > len(cells) / 2:
        yield "no exercise before the middle: they stand where their idea is"


def has_text(cell):
    """Whether a cell is of Markdown, and not a heading alone."""
    return cell.cell_type == "markdown" and bool(re.search(r"^(?!#+ )\s*\S", cell.source, re.M))


@pytest.mark.parametrize("path", SECOND_EDITION, ids=lambda path: path.stem)
def test_a_notebook_of_the_second_edition_keeps_the_form(path):
    assert list(faults(nbformat.read(path, 4), path.stem)) == []


# ---- the rules' own test: each is broken once


def test_a_notebook_in_the_form_has_no_faults():
    assert list(faults(convert(), "99_form")) == []


CHOICES = SOURCE[SOURCE.index("# <details><summary>A") : SOURCE.index('\n# %% tags=["fold", "guess"]')]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("# @title Set-up of the experiment\n", "", "what is folded begins with"),
        ("# @title Solution\n", "", "what is folded begins with"),
        ('["fold", "guess"]', '["guess"]', "tagged fold, too"),
        ("six = 6", "six = 6\n" * 16, "more than 15"),
        ("six = 6", "import matplotlib.pyplot as plt\n\nplt.plot([6])", r"plotting \(plt\)"),
        ("six = 6", "plots.bars(ax, six)", r"plotting \(ax, plots\)"),
        ("six = 6", "assert six == 6", "bare assert"),
        ("five = 5", "five = 5\nassert five == 5", "bare assert"),
        ('claim("the second is larger"', "claim(words", "first argument of claim"),
        ('claim("the second is larger"', 'claim(f"the {second} is larger"', "first argument of claim"),
        ('claim("the second is larger"', 'claim(" "', "first argument of claim"),
        ("second=numbers[1]", "clock=True", "about seconds"),
        ("# word word word\n", "# word word word\n\n# %%\nseven = 7\n", "1 of 7 cells of code have no text"),
        ("# Four words stand here: `import`.", "# ## Four words", "1 of 6 cells of code have no text"),
        ("%% [markdown]\n# **Predict", '%% [markdown] slideshow={"slide_type": "notes"}\n# **Predict', "on the slide"),
        ("**Predict.** Which", "**Predict:** which", "not of the form"),
        ("# **Predict.** Which", "# Read.\n#\n# **Predict.** Which", "not of the form"),
        ("<summary>A. the first", "<summary>The first", "not of the form"),
        ("<summary>A. the first", "<summary>A. the *first*", "not of the form"),
        ("<details><summary>A.", "<details open><summary>A.", "not of the form"),
        ("the first</summary>\n#\n", "the first</summary>\n", "not of the form"),
        ("**No.** It is 1,", "It is 1,", "not of the form"),
        ("**No.** It is 1, and $1 < 2$.", "**No.**", "not of the form"),
        (CHOICES, "# Think.\n", "not of the form"),
        ("<summary>B.", "<summary>C.", "two to four choices"),
        (CHOICES, CHOICES[: CHOICES.index("#\n# <details><summary>B")].replace("**No.**", "**Yes.**"), "two to four"),
        ("**No.** It is 1", "**Yes.** It is 1", "one choice whose answer is Yes"),
        ("**Yes.** It is 2", "**Nearly.** It is 2", "one choice whose answer is Yes"),
        ("# word word word", "# " + 10_000 * "word ", "whole: .* more than 90"),
        ("# This is core again", "# " + 5_000 * "word ", "^core: .* more than 35"),
        ("divide ★☆☆ 4 min", "divide ★☆☆ 5 min", "core_exercises: 16.0 minutes, more than 15"),
        (EXERCISE.format("divide ★☆☆ 4", ""), "", "3 exercises"),
        ("# # A notebook in the form\n", "# # A\n" + 20 * "\n# %% [markdown]\n# More\n", "before the middle"),
    ],
)
def test_a_broken_rule_is_found(old, new, fault):
    assert old in SOURCE
    nb = build.convert(SOURCE.replace(old, new))
    assert any(re.search(fault, found) for found in faults(nb, "99_form")), list(faults(nb, "99_form"))


def test_an_exercise_that_cannot_be_read_is_a_fault():
    nb = build.convert(SOURCE.replace("### Exercise: divide", "### Exercise 3: divide"))
    assert any("### Exercise: its name" in found for found in faults(nb, "99_form"))


def test_a_claim_that_did_not_hold_is_a_fault_unless_its_cell_varies():
    nb = convert()
    (cell,) = tagged(nb, "guess")
    cell.outputs = [nbformat.v4.new_output("stream", text="✗ did not hold here: the second is larger: second 1\n")]
    assert [found for found in faults(nb, "99_form") if "a claim that did not hold" in found]
    cell.metadata.tags.append("varies")
    assert list(faults(nb, "99_form")) == []


def test_each_notebook_has_its_page_for_teachers_with_its_minutes():
    pages = re.split(r"\n## \[", (ROOT / "notebooks/teach.md").read_text("utf-8"))[1:]
    parts = ("Time", "Goals", "Before", "Ask", "Misconception", "On the board", "If time is short", "Exam question")
    assert len(pages) == len(SECOND_EDITION)
    for page, path in zip(pages, SECOND_EDITION, strict=True):
        nb = nbformat.read(path, 4)
        found = build.plan(nb, path.stem)
        title = next(cell.source for cell in nb.cells if cell.source.startswith("# ")).split("\n")[0][2:]
        assert page.split("\n")[0] == f"{path.stem[:2]}]({path.name}) {title}"
        assert f"Core {found['core']:.0f} min, exercises {found['core_exercises']} min" in page
        assert f"with all that is optional {found['whole']:.0f} min" in page
        assert re.findall(r"(?m)^\*\*(.*?)\.\*\*", page) == [*parts, "Answer"]
        assert len(page.split()) < 420
