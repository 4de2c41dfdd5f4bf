"""For teachers: student copies give nothing away, and a returned notebook is graded by the library's own checks."""

import copy
import importlib
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lecture_lib import exercises
from lecture_lib.exercises import __main__ as grader
from notebooks import build

ROOT = Path(__file__).parents[1]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EACH = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def tagged(nb, *tags):
    return [cell for cell in nb.cells if build.has(cell, *tags)]


# ---- make assignment

PREDICTION = """\
**Predict.** Which is larger?

<details><summary>A. the first, $1 < 2$</summary>

**No.** It is 1.

</details>

<details><summary>B. the second</summary>

**Yes.** It is 2.

</details>"""
WITHOUT_REASONS = """\
**Predict.** Which is larger?

- A. the first, $1 < 2$

- B. the second"""


def executed():
    """A notebook with one cell of each kind, and a widget that a guess alone shows beside one that all see."""

    def cell(source, *tags, shown):
        return new_code_cell(source, metadata={"tags": list(tags)}, outputs=[shown], execution_count=1)

    def view(model):
        return new_output("display_data", {build.VIEW: {"model_id": model}})

    nb = new_notebook(
        cells=[
            new_markdown_cell("a badge", metadata={"tags": ["colab"]}),
            new_code_cell("import it", metadata={"tags": ["colab"]}),
            new_markdown_cell(PREDICTION),
            cell("answer()", "fold", "guess", shown=view("a" * 32)),
            cell("widget()", shown=view("b" * 32)),
            cell("five = ...", "exercise", shown=new_output("stream", text="○ Not attempted yet.")),
            cell("five = 5", "solution", shown=new_output("stream", text="✓ Right.")),
            new_markdown_cell("The solution in words", metadata={"tags": ["solution"]}),
        ]
    )
    models = {i * 32: {"model_name": "AnyModel", "state": {"layout": f"IPY_MODEL_{j * 32}"}} for i, j in ("ac", "bd")}
    models |= {i * 32: {"model_name": "LayoutModel", "state": {}} for i in "cd"}
    models |= {"e" * 32: {"model_name": "LinkModel", "state": {"source": [f"IPY_MODEL_{'b' * 32}", "value"]}}}
    models |= {"f" * 32: {"model_name": "LinkModel", "state": {"source": [f"IPY_MODEL_{'a' * 32}", "value"]}}}
    nb.metadata = nbformat.from_dict({"widgets": {build.STATE: {"state": models}}, "lecture": {"executed": "0"}})
    return nb


def test_a_student_copy_of_a_small_notebook():
    nb = executed()
    ids = [cell.id for cell in nb.cells]
    copied = build.student(copy.deepcopy(nb))
    assert [cell.source for cell in copied.cells] == [
        "import it", WITHOUT_REASONS, "answer()", "widget()", "five = ..."
    ]  # fmt: skip
    assert [cell.id for cell in copied.cells] == ids[1:6]
    assert [len(cell.get("outputs", [])) for cell in copied.cells] == [0, 0, 0, 1, 0]
    assert [cell.get("execution_count") for cell in copied.cells] == [None, None, None, 1, None]
    assert {i[0] for i in build.states(copied)} == set("bde")
    assert "lecture" not in copied.metadata


def test_a_student_copy_shows_no_empty_state_of_widgets():
    nb = executed()
    nb.cells = nb.cells[:4]
    assert "widgets" not in build.student(nb).metadata


@EACH
def test_a_student_copy_gives_nothing_away(path):
    nb = nbformat.read(path, 4)
    copied = build.student(copy.deepcopy(nb))
    nbformat.validate(copied)
    assert not tagged(copied, "solution")
    assert not any(cell.outputs for cell in tagged(copied, "guess", "exercise"))
    text = build.text_of(copied)
    for cell in tagged(nb, "solution"):
        assert json.dumps(cell.source.partition("\n")[2])[1:-1] not in json.dumps([c.source for c in copied.cells])
    for cell in nb.cells:
        if cell.cell_type == "markdown" and "<details>" in cell.source:
            (same,) = [other.source for other in copied.cells if other.id == cell.id]
            choices = re.findall(r"<summary>(.*)</summary>", cell.source)
            assert same == "\n\n".join([cell.source.partition("\n\n<details>")[0], *(f"- {one}" for one in choices)])
            for reason in re.findall(r"</summary>\n\n(.*?)\n\n</details>", cell.source, re.S):
                assert json.dumps(reason)[1:-1] not in json.dumps([c.source for c in copied.cells])
    assert not re.search(r"\*\*(Yes|No|Nearly)\.\*\*", text)


@EACH
def test_a_student_copy_keeps_all_else(path):
    nb = nbformat.read(path, 4)
    copied = build.student(copy.deepcopy(nb))
    kept = [cell for cell in nb.cells if not build.has(cell, "solution")]
    assert [cell.id for cell in copied.cells] == [cell.id for cell in kept]
    for before, after in zip(kept, copied.cells, strict=True):
        assert before.metadata == after.metadata
        if before.cell_type == "code":
            assert before.source == after.source
            assert build.has(before, "guess", "exercise") or before.outputs == after.outputs
    views = [o.data[build.VIEW]["model_id"] for c in copied.cells for o in c.get("outputs", []) if build.VIEW in
             o.get("data", {})]  # fmt: skip
    assert set(views) <= set(build.states(copied))
    assert all("..." in cell.source and "check(" in cell.source for cell in tagged(copied, "exercise"))


@EACH
def test_no_cell_needs_what_a_solution_defines(path):
    nb = nbformat.read(path, 4)
    names = {name for cell in tagged(nb, "solution") for name in re.findall(r"\b\w+_solution\b", cell.source)}
    assert not [name for cell in build.student(nb).cells for name in names if re.search(rf"\b{name}\b", cell.source)]


def test_the_command_writes_a_copy_of_each_and_refuses_what_is_not_as_executed(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "FIRST_EDITION", ("12_merging",))  # a notebook without a head
    (tmp_path / "notebooks/source").mkdir(parents=True)
    source = '# %% [markdown]\n# # A notebook\n\n# %% tags=["solution"]\nfive = 5\n'
    nb = build.number(build.convert(source))
    nb.metadata["lecture"] = {"executed": build.fingerprint(nb)}
    (tmp_path / "notebooks/source/12_merging.py").write_text(source)
    (tmp_path / "notebooks/12_merging.ipynb").write_text(build.text_of(nb))
    build.assignment(tmp_path)
    (written,) = (tmp_path / "build/assignment").iterdir()
    assert written.name == "12_merging.ipynb"
    assert [cell.source for cell in nbformat.read(written, 4).cells] == ["# A notebook"]
    (tmp_path / "notebooks/source/12_merging.py").write_text(source.replace('["solution"]', '["half"]'))
    with pytest.raises(build.BuildError, match=r"12_merging\.ipynb is not its source"):
        build.assignment(tmp_path)


# ---- python -m lecture_lib.exercises


def returned(folder, *sources, name="10_adapters_ada.ipynb"):
    """The path of a notebook that a student hands in: these cells of code."""
    path = folder / name
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in sources]), path)
    return path


def by_name(result):
    return {row["name"]: row for row in result["exercises"]}


def statuses(result):
    return {row["status"] for row in result["exercises"]}


IMPORTS = "import torch\nfrom lecture_lib.notebook import check"
SOLVED = 'factor = 16 * 1024**2 / (4 * 1024**2 + 16 * 2 * 1024 * 16)\ncheck("memory_factor", factor)'


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """One notebook in which much is wrong, graded."""
    path = returned(
        tmp_path_factory.mktemp("mixed"),
        IMPORTS,
        'check("memory_factor", 4.0)',
        "1 / 0",
        "%reset -f",
        "def check(name, answer):\n    print('✓ Right.')\n",
        "from lecture_lib.exercises import CHECKS\nCHECKS['same_first_step'] = CHECKS['memory_factor']",
        f"%%time\n{SOLVED}",  # once more: the last counts
        "import lecture_lib.notebook as notebook\nnotebook.check(name='two_in_one', answer=lambda *three: 1 / 0)",
        'check("same_first_step", factor)',
        'factor = = 1\ncheck("out_of_reach", factor)',
        'check("fair_baselin", 0.926)\n# check("fair_baseline", 0.926)',
    )
    return grader.grade(path)


def test_each_exercise_is_graded_for_itself(mixed):
    rows = by_name(mixed)
    assert {name: row["status"] for name, row in rows.items()} == {
        "memory_factor": "passed",
        "two_in_one": "error",
        "same_first_step": "wrong",
        "out_of_reach": "error",
        "fair_baseline": "missing",
    }
    assert rows["two_in_one"]["error"] == {"type": "ZeroDivisionError", "message": "division by zero"}
    assert rows["out_of_reach"]["error"]["type"] == "SyntaxError"
    assert rows["same_first_step"]["hint"] and rows["memory_factor"]["hint"] is rows["memory_factor"]["error"] is None
    assert mixed["totals"] == {"passed": 1, "wrong": 1, "not attempted": 0, "error": 2, "missing": 1}
    assert mixed["unknown"] == ["fair_baselin"]


def test_an_exercise_is_described_as_the_collection_does(mixed):
    row = by_name(mixed)["out_of_reach"]
    assert (row["heading"], row["minutes"], row["kind"]) == ("out of reach", 5, "optional")
    assert mixed["notebook"] == "adapters" and mixed["file"].endswith("10_adapters_ada.ipynb")
    json.dumps(mixed)


def test_without_the_collection_at_hand_an_exercise_has_its_name_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(grader, "NOTEBOOKS", tmp_path)
    rows = grader.plan("adapters")
    assert {"name": "memory_factor", "heading": None, "minutes": None, "kind": None} in rows and len(rows) == 5


def test_an_endless_cell_ends_and_the_next_is_graded(tmp_path):
    path = returned(tmp_path, 'while True:\n    pass\ncheck("same_first_step", 1)', SOLVED)
    rows = by_name(grader.grade(path, timeout=4))
    assert rows["same_first_step"]["error"] == {"type": "TimeoutError", "message": "no end within 4 s"}
    assert rows["memory_factor"]["status"] == "passed"


STUBBORN = "while True:\n    try:\n        while True:\n            pass\n    except:\n        pass"


@pytest.mark.again
@pytest.mark.parametrize("last", [STUBBORN, "import os\nos._exit(1)"], ids=["cannot be interrupted", "ends the kernel"])
def test_what_was_graded_before_the_kernel_was_lost_stays(tmp_path, last):
    path = returned(tmp_path, SOLVED, last, 'check("fair_baseline", 0.926)')
    rows = by_name(grader.grade(path, timeout=4))
    assert rows["memory_factor"]["status"] == "passed" and rows["two_in_one"]["status"] == "missing"
    assert rows["fair_baseline"]["error"]["type"] == "DeadKernelError"


@EACH
def test_the_package_has_the_exercises_of_the_notebook(path):
    nb = nbformat.read(path, 4)
    names = [name for cell in tagged(nb, "exercise") for name in grader.CALL.findall(cell.source)]
    rows = grader.plan(path.stem[3:])
    assert [row["name"] for row in rows] == names
    found = [] if path.stem in build.FIRST_EDITION else build.plan(nb, path.stem)["exercises"]
    for row, wanted in zip(rows, found, strict=bool(found)):
        kind = "optional" if wanted["optional"] else "core"
        assert (row["heading"], row["minutes"], row["kind"]) == (wanted["name"], wanted["minutes"], kind)


@pytest.fixture
def grade_all(tmp_path, monkeypatch):
    """Grades cells as if one notebook had all exercises: they need no other cell, and each kernel takes seconds."""
    rows = [row for room in grader.ROOMS for row in grader.plan(room)]
    monkeypatch.setattr(grader, "plan", lambda room: rows)
    return lambda *cells: grader.grade(returned(tmp_path, IMPORTS, *cells))


def cells_of_all(tag):
    return [cell.source for path in PATHS for cell in tagged(nbformat.read(path, 4), tag)]


def test_right_answers_pass_all(grade_all):
    result = grade_all(*cells_of_all("solution"))
    assert statuses(result) == {"passed"} and set(by_name(result)) == set(exercises.CHECKS)


def test_exercises_as_they_are_given_out_are_not_attempted(grade_all):
    assert statuses(grade_all(*cells_of_all("exercise"))) == {"not attempted"}


def test_a_wrong_answer_is_wrong_with_its_hint(grade_all):
    modules = [f"answers.answers_{path.stem[3:]}" for path in PATHS]
    cells = [f"import sys\nsys.path.append({str(ROOT / 'tests')!r})"]
    hints = {}
    for module in modules:
        cells.append(f"from {module} import WRONG")
        for name, answers in importlib.import_module(module).WRONG.items():
            mistake, (_, hints[name]) = next(iter(answers.items()))
            cells.append(f"check({name!r}, WRONG[{name!r}][{mistake!r}][0])")
    rows = by_name(grade_all(*cells))
    assert {row["status"] for row in rows.values()} == {"wrong"} and set(rows) == set(hints)
    assert all(hint in rows[name]["hint"] for name, hint in hints.items())


@pytest.mark.again
def test_a_whole_notebook_with_right_answers_passes_all(tmp_path, capsys):
    nb = nbformat.read(ROOT / "notebooks/15_architecture_and_types.ipynb", 4)
    answers = iter([cell.source for cell in tagged(nb, "solution")])
    copied = build.student(nb)
    for cell in tagged(copied, "exercise"):
        cell.source = next(answers)
    nbformat.write(copied, tmp_path / "Lovelace_15_architecture_and_types (1).ipynb")
    grader.main([str(tmp_path / "Lovelace_15_architecture_and_types (1).ipynb")])
    (result,) = json.loads(capsys.readouterr().out)
    assert result["totals"]["passed"] == len(result["exercises"]) == 6


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("10_adapters.ipynb", None, r"must be the file of a notebook, got '.*10_adapters.ipynb'"),
        ("10_adapters.ipynb", "not JSON", r"must be the file of a notebook, got '.*10_adapters.ipynb'"),
        ("10_adapters.ipynb", "[]", r"must be the file of a notebook"),
        ("10_adapters.ipynb", "{}", r"must be the file of a notebook"),
        ("10_adapters.ipynb", '{"cells": 3}', r"must be the file of a notebook"),
        ("homework.ipynb", "{}", r"must have the name of one of ours in its own, adapters, .*; got 'homework"),
        ("10_adaptersoup.ipynb", "{}", r"must have the name of one of ours"),
        ("adapters_or_merging.ipynb", "{}", r"must have the name of one of ours"),
    ],
)
def test_what_is_no_notebook_of_the_collection_ends_with_one_message(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(SystemExit, match=rf"^exercises: NOTEBOOK {message}"):
        grader.main([str(tmp_path / name)])


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "soon"])
def test_a_timeout_is_seconds(timeout, capsys):
    with pytest.raises(SystemExit):
        grader.main(["x.ipynb", "--timeout", timeout])
    assert "--timeout" in capsys.readouterr().err


def test_every_notebook_has_a_room_of_checks():
    assert set(grader.ROOMS) == {path.stem[3:] for path in PATHS}
    assert sum(len(grader.plan(room)) for room in grader.ROOMS) == len(exercises.CHECKS)
