"""The notebooks keep the promises that readers see, and notebooks/build.py makes them the same way each time."""

import base64
import copy
import difflib
import itertools
import re
import shutil
import struct
from pathlib import Path

import nbformat
import pytest

from lecture_lib.widgets import Temperature
from notebooks import build

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LIMIT_BYTES, LIMIT_LINES, LIMIT_CHARACTERS = 2_000_000, 40, 1200
EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

# ---- the lecture's notebooks


def tags(cell):
    return cell.metadata.get("tags", [])


def faults_of_code(cell):
    """What is wrong with one code cell and its outputs."""
    limit = LIMIT_LINES + 10 * ("fold" in tags(cell))
    if (lines := cell.source.count("\n") + 1) > limit:
        yield f"{lines} lines of code are more than a screen ({limit})"
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"an error: {output.ename}"
        if output.get("name") == "stderr":
            yield "output on stderr"
        for kind, content in output.get("data", {}).items():
            if kind.startswith("image/") and not output.metadata.get(kind, {}).get("alt", "").strip():
                yield "an image without alternative text: show it with notebook.show(fig, alt)"
            if kind.startswith("text/") and re.search(r"\b0x[0-9a-f]{6,}", content):
                yield "an address in an output, which changes with every run"


def faults_of_markdown(cell):
    """What is wrong with one markdown cell."""
    prose = "".join(line for line in cell.source.splitlines(True) if not line.startswith("|"))  # tables are not read
    if len(prose) > LIMIT_CHARACTERS:
        yield f"{len(prose)} characters of prose are a wall (more than {LIMIT_CHARACTERS})"
    if line := re.search(r"^[^\W\d].*\n(\d+[.)] .*)", cell.source, re.M):
        yield f"a line that begins as a list does, in a paragraph: {line[1]!r}"
    for alt in re.findall(r"!\[(.*?)\]\(", cell.source) + re.findall(r"<img\b(.*?)>", cell.source, re.S):
        if not alt.strip() or ("=" in alt and not re.search(r"""\balt=(["'])\s*\S.*?\1""", alt)):
            yield "an image without alternative text"


def faults_of_exercise(cells, i):
    """What is wrong with the exercise in cell i: its announcement before it, its solution after it."""
    before = cells[i - 1].source if i and cells[i - 1].cell_type == "markdown" else ""
    if not re.search(r"exercise", before, re.I) or not re.search(r"\b\d+ min", before):
        yield "the markdown before an exercise says 'Exercise' and how many 'min' it takes"
    if not re.search(r"★+☆*", before):
        yield "the markdown before an exercise says its difficulty in stars (★☆☆)"
    after = cells[i + 1] if i + 1 < len(cells) else None
    if after is None or "solution" not in tags(after):
        yield "an exercise is followed by a cell tagged solution"
    elif not after.metadata.get("jupyter", {}).get("source_hidden") or after.metadata.get("cellView") != "form":
        yield "a solution is folded: its first line is '# @title Solution', and build.py does the rest"


def faults(nb):
    """Every promise that a notebook breaks, as sentences."""
    found = []
    for i, cell in enumerate(nb.cells):
        of_kind = {"code": faults_of_code, "markdown": faults_of_markdown}[cell.cell_type]
        found += [f"cell {i}: {fault}" for fault in of_kind(cell)]
        if "exercise" in tags(cell):
            found += [f"cell {i}: {fault}" for fault in faults_of_exercise(nb.cells, i)]
    counts = [cell.execution_count for cell in nb.cells if cell.cell_type == "code"]
    if counts != list(range(1, len(counts) + 1)):
        found.append(f"not executed once from top to bottom: the counts are {counts}")
    outputs = [output for cell in nb.cells for output in cell.get("outputs", [])]
    views = [output.data[build.VIEW]["model_id"] for output in outputs if build.VIEW in output.get("data", {})]
    saved = nb.metadata.get("widgets", {build.STATE: {"state": {}}}).get(build.STATE, {})
    if "state" not in saved:
        found.append("widget metadata without its state key: GitHub and nbconvert fail on it")
    elif missing := set(views) - set(saved["state"]):
        found.append(f"widgets displayed whose state is not saved: {sorted(missing)}")
    return found


def test_there_are_notebooks():
    assert NOTEBOOKS, "no notebooks/*.ipynb: `make notebooks` executes notebooks/source/*.py into them"


def test_notebooks_are_their_sources():
    build.check()


@EACH
def test_notebook_keeps_its_promises(path):
    assert faults(nbformat.read(path, 4)) == []
    assert path.stat().st_size <= LIMIT_BYTES


NUMBER = re.compile(r"(?<![\w.])[-−+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")


def shown(cell):
    """The lines that a code cell shows; of a picture its size, as a word."""
    for output in cell.get("outputs", []):
        yield from output.get("text", "").splitlines()
        for kind, content in sorted(output.get("data", {}).items()):
            if kind.startswith("text/"):
                yield from content.splitlines()
            elif kind == "image/png":
                yield "a picture, w{} h{}".format(*struct.unpack(">II", base64.b64decode(content)[16:24]))
            else:
                yield kind


def numbers_in(text):
    return [float(number.replace("−", "-").replace(",", "")) for number in NUMBER.findall(text)]


def words_in(text):
    return "".join(NUMBER.sub("\0", text).split())


def differences(ours, theirs):
    """Where a notebook shows other words than another; and where other numbers, if more than a fifth is far off.

    Processors round differently, and trainings carry that on. With the instructions of an old one every notebook had
    the same words, but in one 15 of 211 numbers were off by more than a tenth, which is far.
    """
    words, numbers, count = [], [], 0
    for i, (a, b) in enumerate(zip(ours.cells, theirs.cells, strict=True)):
        if "varies" in tags(a):
            continue
        for x, y in itertools.zip_longest(shown(a), shown(b), fillvalue=""):
            found = f"cell {i}: {x!r}, and not {y!r}"
            if words_in(x) != words_in(y):
                words.append(found)
                continue
            off = [abs(p - q) > 0.1 * max(abs(p), abs(q)) for p, q in zip(numbers_in(x), numbers_in(y), strict=True)]
            numbers += [found] * sum(off)
            count += len(off)
    return words + (list(dict.fromkeys(numbers)) if 5 * len(numbers) > count else [])


def text_without_times(nb):
    """The notebook's file without what the cells tagged `varies` show."""
    nb = copy.deepcopy(nb)
    cells, ids = build.measured(nb)
    for cell in cells:
        cell.outputs = []
    for i in ids:
        del build.states(nb)[i]
    del nb.metadata["lecture"]
    return build.text_of(nb)


@pytest.mark.again
@EACH
def test_notebook_executed_again_shows_what_its_file_shows(path, monkeypatch):
    """The same bytes; on another processor, which rounds differently, the same words and most numbers, twice alike."""
    monkeypatch.delenv("LECTURE_SEED", raising=False)
    source = ROOT / "notebooks/source" / f"{path.stem}.py"
    file = nbformat.read(path, 4)
    first = build.executed(build.read(source), path.stem, path.parent)
    if text_without_times(first) != text_without_times(file):
        assert differences(first, file) == []
        second = build.executed(build.read(source), path.stem, path.parent)
        assert text_without_times(second) == text_without_times(first)


# ---- the promises' own test: each is broken once

PNG = base64.b64encode(b"\x89PNG, as far as this test is concerned").decode()
SOURCE = f'''\
# %% [markdown] slideshow={{"slide_type": "slide"}}
# # A notebook
#
# ![A line that rises](line.png)

# %%
import sys

import anywidget
import ipywidgets
import traitlets
from IPython.display import display


class Dial(anywidget.AnyWidget):
    _esm = "export default {{ render() {{}} }}"
    value = traitlets.Float(0.1).tag(sync=True)

    def __repr__(self):
        return "Dial()"


# %%
unused = ipywidgets.IntSlider()
for share in range(100):
    print(f"\\r{{share}} %", end="")
print("\\r    \\rdone")
slider, follower, dial = ipywidgets.IntSlider(3), ipywidgets.IntSlider(), Dial()
link = ipywidgets.jslink((slider, "value"), (follower, "value"))
unseen = ipywidgets.jslink((unused, "value"), (unused, "max"))
ipywidgets.VBox([slider, follower, dial])

# %%
output = ipywidgets.Output()
with output:
    print("inside")
output

# %% tags=["figure:line"]
display({{"image/png": "{PNG}"}}, raw=True, metadata={{"image/png": {{"alt": "A line that rises"}}}})

# %% [markdown]
# **Exercise 1** (★☆☆, 5 min). What is 2 + 3?

# %% tags=["exercise"]
five = ...

# %% tags=["solution"]
# @title Solution
five = 5
five
'''


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder laid out as this project, with one source and a library that the kernel can import."""
    monkeypatch.setattr(build, "FIRST_EDITION", {"00_demo"})
    (tmp_path / "notebooks/source").mkdir(parents=True)
    (tmp_path / "notebooks/lecture_lib.py").touch()
    (tmp_path / "notebooks/source/00_demo.py").write_text(SOURCE)
    (tmp_path / "README.md").write_text("[Demo](notebooks/00_demo.ipynb) and [again](notebooks/00_demo.ipynb), 5 min\n")
    return tmp_path


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """The demonstration's notebook, executed."""
    return build.executed(build.convert(SOURCE), "00_demo", tmp_path_factory.mktemp("once"))


@pytest.fixture
def executed(project, once):
    """The project with its notebook as `execute` would write it."""
    (project / "notebooks/00_demo.ipynb").write_text(build.text_of(once))
    return project


def test_a_good_notebook_has_no_faults(once):
    assert faults(once) == []


@pytest.mark.parametrize(
    ("break_it", "fault"),
    [
        (lambda nb: nb.cells[1].update(source="pass\n" * 41), "more than a screen"),
        (lambda nb: nb.cells[0].update(source="word " * 300), "a wall"),
        (lambda nb: nb.cells[0].update(source="![](line.png)"), "an image without alternative text"),
        (lambda nb: nb.cells[0].update(source="with mean\n1. Add one"), "begins as a list does"),
        (lambda nb: nb.cells[0].update(source='<img src="a" alt="">'), "an image without alternative text"),
        (lambda nb: nb.cells[4].outputs[0].update(metadata={}), "an image without alternative text"),
        (lambda nb: nb.cells[1].update(execution_count=None), "not executed once"),
        (lambda nb: nb.cells[1].update(execution_count=7), "not executed once"),
        (lambda nb: nb.cells[2].outputs[0].update(name="stderr"), "output on stderr"),
        (lambda nb: nb.cells[7].outputs[0].data.update({"text/plain": "<A at 0x7f8ce806aa50>"}), "an address"),
        (lambda nb: nb.metadata.widgets[build.STATE].pop("state"), "without its state key"),
        (lambda nb: nb.metadata.pop("widgets"), "whose state is not saved"),
        (lambda nb: nb.cells[5].update(source="Exercise 1, ★☆☆"), "how many 'min'"),
        (lambda nb: nb.cells[5].update(source="Exercise 1, 5 min"), "its difficulty"),
        (lambda nb: nb.cells.pop(7), "followed by a cell tagged solution"),
        (lambda nb: nb.cells[7].metadata.pop("cellView"), "a solution is folded"),
        (lambda nb: nb.cells[7].metadata.pop("jupyter"), "a solution is folded"),
    ],
)
def test_a_broken_promise_is_found(once, break_it, fault):
    nb = copy.deepcopy(once)
    break_it(nb)
    assert any(fault in found for found in faults(nb)), faults(nb)


@pytest.mark.parametrize(
    ("said", "before", "same"),
    [
        ("one 0.93, two −0.5, three 1,024", "one 0.95, two −0.48, three 1,001", True),
        ("[[0.01 1.  ]]", "[[0. 1.]]", False),  # a number in two is off
        ("a 1, b 2, c 3, d 4, +0.1 e", "a 1, b 2, c 3, d 4, -0.1 e", True),
        ("a 1, b 2, c 3, +0.1 e", "a 1, b 2, c 3, -0.1 e", False),
        ("accuracy 0.9", "accuracy: 0.9", False),
        ("a 1\nb 2", "a 1", False),
        ("a 1", "a 1 2", False),
    ],
)
def test_other_words_and_many_other_numbers_are_differences(said, before, same):
    books = [nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("f()")]) for _ in range(2)]
    for nb, text in zip(books, (said, before), strict=True):
        nb.cells[0].outputs = [nbformat.v4.new_output("stream", text=text)]
    assert (differences(*books) == []) == same
    books[0].cells[0].metadata["tags"] = ["varies"]
    assert differences(*books) == []


def test_another_picture_is_a_difference_if_its_size_is_another(once):
    def as_picture(width, comment):
        nb = copy.deepcopy(once)
        header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + width.to_bytes(4, "big") + (100).to_bytes(4, "big")
        nb.cells[4].outputs[0].data["image/png"] = base64.b64encode(header + comment).decode()
        return nb

    assert differences(as_picture(200, b"this"), as_picture(200, b"that")) == []
    assert differences(as_picture(200, b""), as_picture(300, b"")) == [
        "cell 4: 'a picture, w200 h100', and not 'a picture, w300 h100'"
    ]
    gone = copy.deepcopy(once)
    gone.cells[4].outputs = []
    assert len(differences(once, gone)) == 1


# ---- build.py execute


def test_two_executions_give_the_same_bytes(project, once, capsys):
    build.execute(["00_demo"], root=project)
    assert (project / "notebooks/00_demo.ipynb").read_text() == build.text_of(once)
    assert re.fullmatch(r"00_demo: \d+\.\d s\n", capsys.readouterr().out)
    build.check(root=project)


def edit(project, old, new):
    """Replaces a text in the source, wherever it stands."""
    source = project / "notebooks/source/00_demo.py"
    assert old in source.read_text()
    source.write_text(source.read_text().replace(old, new))


def lines_changed(project, before):
    """The lines of the notebook that went and those that came, after `execute`."""
    build.execute(root=project)
    build.check(root=project)
    after = (project / "notebooks/00_demo.ipynb").read_text()
    difference = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    return [sorted(line[2:].strip() for line in difference if line.startswith(sign)) for sign in "-+"]


@pytest.fixture
def no_kernel(monkeypatch):
    """Fails if anything is executed."""
    monkeypatch.delattr(build, "run")


@pytest.mark.parametrize(
    ("old", "new", "gone", "came"),
    [
        ("# # A notebook", "# # Another one", ['"# A notebook\\n",'], ['"# Another one\\n",']),
        (
            "★☆☆",
            "★★☆",
            ['"**Exercise 1** (★☆☆, 5 min). What is 2 + 3?"'],
            ['"**Exercise 1** (★★☆, 5 min). What is 2 + 3?"'],
        ),
        ('"slide"}', '"subslide"}', ['"slide_type": "slide"'], ['"slide_type": "subslide"']),
        ('["exercise"]', '["exercise", "half"]', ['"exercise"'], ['"exercise",', '"half"']),
    ],
)
def test_prose_and_tags_change_without_execution_and_the_diff_is_the_edit(
    executed, no_kernel, once, old, new, gone, came
):
    edit(executed, old, new)
    assert lines_changed(executed, build.text_of(once)) == [gone, came]


def test_a_new_cell_of_prose_changes_no_other(executed, no_kernel, once):
    edit(executed, "# %% [markdown]\n# **Exercise", "# %% [markdown]\n# New.\n\n# %% [markdown]\n# **Exercise")
    gone, came = lines_changed(executed, build.text_of(once))
    assert gone == [] and '"New."' in came and len(came) == 8


def test_nothing_to_do_changes_nothing(executed, no_kernel, once):
    assert lines_changed(executed, build.text_of(once)) == [[], []]


@pytest.mark.parametrize(
    "change",
    [
        lambda project: edit(project, "five = 5\n", "five = 6\n"),
        lambda project: edit(project, '# %% tags=["exercise"]\nfive = ...\n\n', ""),
        lambda project: change_notebook(project, lambda nb: nb.metadata.pop("lecture")),
        lambda project: change_notebook(project, lambda nb: nb.metadata.lecture.update(executed="0" * 16)),
        lambda project: change_notebook(
            project, lambda nb: nb.cells[-1].update(source="# @title Solution\nfive = 6\nfive")
        ),
        lambda project: change_notebook(project, lambda nb: nb.cells[-1].update(outputs=[])),
        lambda project: change_notebook(project, lambda nb: nb.cells[-1].outputs[0].data.update({"text/plain": "6"})),
        lambda project: (project / "notebooks/00_demo.ipynb").unlink(),
    ],
    ids=[
        "code",
        "a cell less",
        "no hash",
        "another hash",
        "code by hand",
        "outputs cleared",
        "an output by hand",
        "no notebook",
    ],
)
def test_what_is_not_as_executed_is_executed(executed, no_kernel, change):
    change(executed)
    with pytest.raises(NameError, match="'run'"):
        build.execute(root=executed)


def test_execution_can_be_asked_for(executed, no_kernel):
    with pytest.raises(NameError, match="'run'"):
        build.execute(again=True, root=executed)


def change_notebook(project, change):
    """Changes the notebook behind its source's back."""
    path = project / "notebooks/00_demo.ipynb"
    nb = nbformat.read(path, 4)
    change(nb)
    path.write_text(build.text_of(nb))


def as_temperature(nb, esm="old code", home="lecture_lib.widgets"):
    """The demonstration's dial becomes a widget of the package, saved with other code."""
    (dial,) = (model for model in build.states(nb).values() if "_esm" in model["state"])
    dial["state"] |= {"_anywidget_id": f"{home}.Temperature", "_esm": esm, "_css": "old style"}
    return dial["state"]


def test_a_widgets_new_code_comes_without_execution(executed, no_kernel, capsys):
    change_notebook(executed, as_temperature)
    with pytest.raises(build.BuildError, match=r"00_demo\.ipynb holds old code of widgets: Temperature"):
        build.check(root=executed)
    build.execute(root=executed)
    assert "00_demo: the same code, not executed, new code in Temperature" in capsys.readouterr().out
    build.check(root=executed)
    saved = build.states(nbformat.read(executed / "notebooks/00_demo.ipynb", 4)).values()
    (state,) = (model["state"] for model in saved if "_esm" in model["state"])
    assert state["value"] == 0.1  # what was set stays, and all else is as in a new one
    live = Temperature().get_state(["_anywidget_id", "_css", "_esm"])
    assert {key: state[key] for key in live} == live


def test_a_widget_is_found_wherever_its_class_has_moved(once):
    nb = copy.deepcopy(once)
    state = as_temperature(nb, home="lecture_lib.widgets.elsewhere")
    assert build.refresh(nb, "00_demo") == ["Temperature"]
    assert state["_anywidget_id"] == f"{Temperature.__module__}.Temperature"


def test_a_widget_of_the_notebooks_own_stays(once):
    nb = copy.deepcopy(once)
    assert build.refresh(nb, "00_demo") == [] and build.text_of(nb) == build.text_of(once)


def test_a_widget_that_is_no_more_is_named(once):
    nb = copy.deepcopy(once)
    as_temperature(nb)["_anywidget_id"] = "lecture_lib.widgets.Abacus"
    with pytest.raises(
        build.BuildError, match=r"00_demo shows a widget that lecture_lib\.widgets does not have: Abacus"
    ):
        build.refresh(nb, "00_demo")


def test_a_seed_of_ones_own_is_not_written(executed, monkeypatch):
    monkeypatch.setenv("LECTURE_SEED", "7")
    with pytest.raises(build.BuildError, match="LECTURE_SEED is set"):
        build.execute(root=executed)


def test_what_was_measured_stays_until_the_code_changes(once):
    """Outputs and widgets of cells tagged `varies`; here the measured time is a dial's value."""
    old, new = copy.deepcopy(once), copy.deepcopy(once)
    for nb, value in ((old, 0.1), (new, 0.7)):
        (cell,) = (cell for cell in nb.cells if "ipywidgets.VBox" in cell.source)
        cell.metadata["tags"] = ["varies"]
        (dial,) = (model for model in build.states(nb).values() if model["state"].get("value") == 0.1)
        dial["state"]["value"] = value
        (shown,) = (output for output in cell.outputs if "data" in output)
        shown["data"]["text/plain"] = f"measured {value}"
    prose, code = copy.deepcopy(new), copy.deepcopy(new)
    prose.cells[0].source += "\nmore prose"
    code.cells[1].source += "\n# changed"
    more = copy.deepcopy(new)
    more.cells[4].metadata["tags"] = ["varies"]
    for nb in (new, prose, code, more):
        build.keep_measured(nb, old)
    assert build.text_of(new) == build.text_of(old)
    assert "measured 0.1" in build.text_of(prose)
    assert "measured 0.7" in build.text_of(code)
    assert "measured 0.7" in build.text_of(more)  # another cell varies: it is not known which output is whose


def test_what_was_measured_stays_when_executed_again(project):
    path = project / "notebooks/00_demo.ipynb"
    (project / "notebooks/source/00_demo.py").write_text(
        '# %% tags=["varies"]\nimport time\n\ntime.time_ns()\n', "utf-8"
    )
    build.execute(root=project)
    before = path.read_bytes()
    build.execute(again=True, root=project)
    assert path.read_bytes() == before
    build.check(root=project)


def test_saved_state_is_what_is_displayed(once):
    models = once.metadata.widgets[build.STATE]["state"]
    names = [model["model_name"] for model in models.values()]
    kept = ("VBoxModel", "IntSliderModel", "AnyModel", "OutputModel", "LinkModel")
    assert [names.count(name) for name in kept] == [1, 2, 1, 1, 1]
    assert list(models) == [f"{i:032x}" for i in range(1, len(models) + 1)]
    held = {i for model in models.values() for i in re.findall(r"IPY_MODEL_(\w+)", str(model["state"]))}
    assert held <= set(models), "a model that another one holds is missing"
    assert once.cells[2].outputs[1].data[build.VIEW]["model_id"] == f"{1:032x}"


def test_a_progress_bar_leaves_nothing(once):
    assert once.cells[2].outputs[0].text == "done\n"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("a\rb", "b"),
        ("abc\rx\n", "xbc\n"),
        ("loss 3  \n", "loss 3  \n"),  # untouched where nothing overwrites
        ("\r 50 %\r100 %\r      \r", ""),
        ("\r 50 %\n\r inner\x1b[A\r100 %", "100 %\n inner"),  # a bar in a bar
        ("\router\n\rinner\r     \r\x1b[A\r     \r", ""),
    ],
)
def test_terminal_overwrites(written, shown):
    assert build.terminal(written) == shown


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", r"00_demo, cell 1: [\s\S]*ZeroDivisionError"),
        ("import sys\n\nprint('look', file=sys.stderr)", "00_demo, cell 1 writes to stderr: look"),
        (
            "import ipywidgets\n\noutput = ipywidgets.Output()\nwith output:\n    1 / 0\noutput",
            "00_demo, an Output widget holds an exception: ZeroDivisionError",
        ),
        ("import os\n\nos._exit(1)", "00_demo, cell 1: Kernel died"),
    ],
)
def test_a_failing_cell_is_named_and_the_old_notebook_stays(executed, code, message):
    old = (executed / "notebooks/00_demo.ipynb").read_bytes()
    (executed / "notebooks/source/00_demo.py").write_text(f"# %% [markdown]\n# # Demo\n\n# %%\n{code}\n")
    with pytest.raises(build.BuildError, match=message):
        build.execute(root=executed)
    assert (executed / "notebooks/00_demo.ipynb").read_bytes() == old


def test_a_source_that_would_not_come_back_is_refused_before_it_runs(project):
    (project / "notebooks/source/00_demo.py").write_text('# %% tags=["a"] cellView="form"\n1 / 0\n')
    with pytest.raises(build.BuildError, match=r'\+# %% cellView="form" tags=\["a"\]'):
        build.execute(root=project)


def test_an_unknown_name_is_refused(project):
    with pytest.raises(build.BuildError, match="no source for 07_none; there are: 00_demo"):
        build.execute(["07_none"], root=project)


# ---- build.py check


def test_check_finds_drift(executed):
    build.check(root=executed)
    source = executed / "notebooks/source/00_demo.py"
    source.write_text(source.read_text().replace("five = 5", "five = 6"))
    shutil.copy(source, source.with_name("01_new.py"))
    shutil.copy(executed / "notebooks/00_demo.ipynb", executed / "notebooks/02_old.ipynb")
    with pytest.raises(build.BuildError) as error:
        build.check(root=executed)
    for part in ("00_demo.ipynb is not its source", "-five = 6\n+five = 5", "01_new.py has no", "02_old.ipynb has no"):
        assert part in str(error.value)


def test_check_finds_code_that_was_changed_in_both_and_not_executed(executed):
    edit(executed, "five = 5", "five = 6")
    change_notebook(executed, lambda nb: nb.cells[-1].update(source="# @title Solution\nfive = 6\nfive"))
    with pytest.raises(
        build.BuildError, match=r"^00_demo\.ipynb has code or outputs that are not those of its execution\n`make"
    ):
        build.check(root=executed)


# ---- build.py stamp


def contents(project):
    return {path: path.read_bytes() for path in sorted(project.rglob("*")) if path.suffix in (".py", ".ipynb", ".md")}


def test_stamp_is_what_execution_gives_and_comes_off(executed):
    before = contents(executed)
    build.stamp("first/one", root=executed)
    build.stamp("an-owner/a.name", root=executed)
    stamped = contents(executed)
    assert all(b"first/one" not in text for text in stamped.values())
    nb = nbformat.read(executed / "notebooks/00_demo.ipynb", 4)
    assert [(cell.cell_type, tags(cell)) for cell in nb.cells[:2]] == [("markdown", ["colab"]), ("code", ["colab"])]
    assert "    %pip install --quiet --no-deps git+https://github.com/an-owner/a.name" in nb.cells[1].source
    address = "https://colab.research.google.com/github/an-owner/a.name/blob/main/notebooks/00_demo.ipynb"
    assert nb.cells[0].source.startswith(
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]("
    )
    assert nb.cells[0].source.endswith(f"]({address})")
    assert stamped[executed / "README.md"].decode().count("](notebooks/00_demo.ipynb) [![Open in Colab]") == 2
    assert faults(nb) == []
    build.check(root=executed)
    build.execute(again=True, root=executed)
    assert contents(executed) == stamped
    build.stamp("", root=executed)
    assert contents(executed) == before


@pytest.mark.parametrize("repo", ["owner", "owner/", "https://github.com/owner/name", "owner/name/x", "o w/n", "o/n)"])
def test_a_bad_repository_is_refused_and_nothing_written(executed, repo):
    before = contents(executed)
    with pytest.raises(build.BuildError, match=f"REPO is {re.escape(repr(repo))}, but must be owner/name"):
        build.stamp(repo, root=executed)
    assert contents(executed) == before


def test_stamp_refuses_a_notebook_that_drifted(executed):
    source = executed / "notebooks/source/00_demo.py"
    source.write_text(source.read_text().replace("five = 5", "five = 6"))
    before = contents(executed)
    with pytest.raises(build.BuildError, match="00_demo: notebook and source differ; execute it first"):
        build.stamp("owner/name", root=executed)
    assert contents(executed) == before


# ---- build.py figures and the command line


def test_figures_are_the_tagged_cells_images(executed):
    other = executed / "figures/other.png"
    build.write(other, b"stays")
    build.figures(root=executed)
    assert (executed / "figures/line.png").read_bytes() == base64.b64decode(PNG)
    assert other.read_bytes() == b"stays"


def test_the_picture_of_a_slide_is_of_the_cells_up_to_the_next():
    kinds = ["slide", "-", "notes", "subslide", "-", "skip"]
    cells = [nbformat.v4.new_markdown_cell(metadata={"slideshow": {"slide_type": kind}}) for kind in kinds]
    assert build.slide_of(cells, 0) == cells[:3] and build.slide_of(cells, 3) == cells[3:]


def test_figures_need_an_image_in_the_tagged_cell(executed, once):
    nb = copy.deepcopy(once)
    nb.cells[1].metadata["tags"] = ["figure:none"]
    (executed / "notebooks/00_demo.ipynb").write_text(build.text_of(nb))
    with pytest.raises(build.BuildError, match="00_demo, cell 1, tagged figure:none, has 0 images"):
        build.figures(root=executed)
    assert not (executed / "figures").exists()


def test_the_command_line_ends_with_one_message():
    with pytest.raises(SystemExit, match=r"^build\.py: no source for nope"):
        build.main(["execute", "nope"])


ROW = r"\]\((?:notebooks/)?(\w+)\.ipynb\).*\| (\S+(?: to \d+)?) min \| (\d+) s \|"  # of the map, and of README's table


def test_the_map_of_the_first_notebook_and_the_readme_agree_on_times():
    start = (ROOT / "notebooks/source/00_start_here.py").read_text("utf-8")
    told = {name: seconds for name, _, seconds in re.findall(ROW, start)}
    readme = {name: seconds for name, _, seconds in re.findall(ROW, (ROOT / "README.md").read_text("utf-8"))}
    readme.pop("00_start_here")
    assert told == readme and set(told) == {path.stem for path in NOTEBOOKS} - {"00_start_here"}


def test_the_readme_says_the_minutes_that_the_notebooks_say():
    text, said, found = (ROOT / "README.md").read_text("utf-8"), {}, {}
    for name, core, exercises, whole in re.findall(r"(\w+)\.ipynb\).*\| (\d+) \+ (\d+) \| (\d+) min \|", text):
        said[name] = [int(core), int(exercises), int(whole)]
        plan = build.plan(nbformat.read(ROOT / f"notebooks/{name}.ipynb", 4), name)
        found[name] = [round(plan["core"]), plan["core_exercises"], round(plan["whole"])]
    assert said == found and set(said) == {path.stem for path in NOTEBOOKS} - build.FIRST_EDITION


def test_the_first_hour_takes_an_hour():
    text, total = (ROOT / "README.md").read_text("utf-8"), 0
    for name, heading, minutes in re.findall(r"(\w+)\.ipynb\) up to \*(.*?)\* \((\d+) minutes\)", text):
        nb = nbformat.read(ROOT / f"notebooks/{name}.ipynb", 4)
        (end,) = (i for i, cell in enumerate(nb.cells) if re.match(rf"## {heading}\b", cell.source))
        nb.cells = nb.cells[:end]
        plan = build.plan(nb, name)
        assert abs(plan["core"] + plan["core_exercises"] - int(minutes)) < 1
        total += int(minutes)
    assert total == 60


def test_the_map_says_the_minutes_that_the_notebooks_say():
    rows = re.findall(ROW, (ROOT / "notebooks/source/00_start_here.py").read_text("utf-8"))
    said = {name: int(minutes) for name, minutes, _ in rows if name not in build.FIRST_EDITION}
    core = {
        path.stem: round(build.plan(nbformat.read(path, 4), path.stem)["core"])
        for path in NOTEBOOKS
        if path.stem in said
    }
    assert {name: said[name] for name in core} == core
