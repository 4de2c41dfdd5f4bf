"""Turns notebooks/source/NN_name.py, what people edit, into notebooks/NN_name.ipynb, what people open.

    python notebooks/build.py execute [NAME ...]    write the notebooks; executes those whose code changed, or --again
    python notebooks/build.py check                 is every notebook its source's, as executed, with today's widgets?
    python notebooks/build.py stamp owner/name      add Colab badges and first cells; `stamp ""` takes them off
    python notebooks/build.py figures               write figures/NAME.png from the cells tagged `figure:NAME`
    python notebooks/build.py assignment            write copies for students into build/assignment

A source is a py:percent script without a header. A notebook holds a hash of the code that was executed and of what it
showed. While that is the source's code, `execute` keeps the outputs, takes over prose and tags, and brings the widgets'
JavaScript and style up to date.

Two executions on one machine give the same bytes: what a cell tagged `varies` shows, measured times, is kept from the
notebook that is there, until its code changes or it is deleted.

What the tags `fold`, `solution` and `guess` fold in JupyterLab and Colab stands in the notebook only, and so does the
head of a notebook of the second edition: its minutes, and links to its exercises.
"""

import argparse
import base64
import difflib
import hashlib
import json
import os
import re
import tempfile
import time
from pathlib import Path
from queue import Empty

import jupytext
import nbformat
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError

ROOT = Path(__file__).resolve().parent.parent
PERCENT = {"extension": ".py", "format_name": "percent"}
STATE = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/OWNER/REPO/blob/main/notebooks/NN_NAME.ipynb)"
)
STAMP = f"""\
# %% [markdown] slideshow={{"slide_type": "skip"}} tags=["colab"]
# {BADGE}

# %% slideshow={{"slide_type": "skip"}} tags=["colab"]
import importlib.util

if importlib.util.find_spec("lecture_lib") is None:
    # %pip install --quiet --no-deps git+https://github.com/OWNER/REPO

"""
REPO = r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+"

# Not yet in the second edition's form: they have no head, and tests/test_form.py passes them over.
FIRST_EDITION = {
    "14_outlook",
}
WORDS_A_MINUTE, LINES_A_MINUTE = 130, 12
TAG = r"</?[a-z]+\d?( [^<>]*)?>"  # of HTML, and not a < b
OPTIONAL = " · optional"
PREDICTED = re.compile(r"<details><summary>(.*?)</summary>.*?</details>", re.S)  # a choice, and the reason behind it
EXERCISE = re.compile(
    rf"### Exercise: (?P<name>\S.*) (?P<stars>★[★☆]☆|★★★) (?P<minutes>\d+) min(?P<optional>{OPTIONAL})?"
)
ANCHOR = ' <a id="exercise-{}"></a>'  # what the head links to: JupyterLab follows no link to a heading with stars in it


class BuildError(Exception):
    """What is wrong, in which notebook and cell; that notebook stays as it was."""


# --- one notebook -----------------------------------------------------------------------------------------------------


def convert(text, name=None):
    """The unexecuted notebook of a source, with its head if it is named and not of the first edition."""
    nb = jupytext.reads(text, PERCENT)
    nb.metadata = nbformat.from_dict(METADATA)
    for cell in nb.cells:
        cell.metadata.update(folds(cell))
    if name and name not in FIRST_EDITION:
        rows = plan(nb, name)["exercises"]
        for k, row in enumerate(rows, start=1):
            line, *rest = nb.cells[row["cell"]].source.split("\n")
            nb.cells[row["cell"]].source = "\n".join([line + ANCHOR.format(k), *rest])
        nb.cells.insert(title(nb) + 1, head(nb, name))
    return nb


def read(source):
    """The unexecuted notebook of a source's path; BuildError if jupytext would write that source in another way."""
    text = source.read_text("utf-8")
    nb = convert(text, source.stem)
    if difference := drift(text, nb):
        raise BuildError(f"{source.stem}: the source is not as jupytext writes it; change these lines:\n{difference}")
    return nb


def drift(text, nb):
    """The lines in which a source and the source that a notebook stands for differ, as a diff; "" if none does."""
    nb = nbformat.reads(text_of(nb), 4)  # as its file has it: keys in order
    nb.cells = [cell for cell in nb.cells if not has(cell, "head")]
    for cell in nb.cells:
        cell.source = without_anchor(cell) if cell.cell_type == "markdown" else cell.source
        for key in folds(cell):
            cell.metadata.pop(key, None)
    nb.metadata = nbformat.from_dict({"jupytext": {"notebook_metadata_filter": "-all"}})
    back = jupytext.writes(nb, PERCENT)
    return "".join(difflib.unified_diff(text.splitlines(True), back.splitlines(True), "the source", "the notebook"))


def has(cell, *tags):
    """Whether a cell has one of these tags."""
    return any(tag in cell.metadata.get("tags", []) for tag in tags)


def folds(cell):
    """The metadata that the tags of a cell stand for: what JupyterLab and, where a title says what, Colab fold."""
    hidden, form = {}, {}
    if cell.cell_type == "code" and has(cell, "fold", "solution"):
        hidden["source_hidden"] = True
        form = {"cellView": "form"} if cell.source.startswith("# @title ") else {}
    if cell.cell_type == "code" and has(cell, "guess"):
        hidden["outputs_hidden"] = True
    return form | ({"jupyter": hidden} if hidden else {})


def without_anchor(cell):
    """A cell's source as it is edited: without what the head links to."""
    return re.sub(rf"\A(### .*){ANCHOR.format('[0-9]+')}$", r"\1", cell.source, flags=re.M)


def title(nb):
    """The index of the title cell: the first of Markdown that `stamp` did not make."""
    return next((i for i, cell in enumerate(nb.cells) if cell.cell_type == "markdown" and not is_colab(cell)), -1)


def exercise(nb, i, name):
    """The match of EXERCISE with the heading in cell i; BuildError if it has none, or is without its cells of code."""
    wanted = [("exercise", i + 1), ("solution", i + 2)]
    if missing := [tag for tag, k in wanted if k >= len(nb.cells) or not has(nb.cells[k], tag)]:
        raise BuildError(f"{name}, cell {i}: an exercise's text is followed by a cell tagged {missing[0]}")
    line = without_anchor(nb.cells[i]).partition("\n")[0]
    if nb.cells[i].cell_type != "markdown" or not (found := EXERCISE.fullmatch(line)):
        raise BuildError(
            f"{name}, cell {i}: the cell before an exercise begins with a line such as "
            f"'### Exercise: its name ★★☆ 10 min', at its end perhaps '{OPTIONAL}', and not with {line!r}"
        )
    return found


def plan(nb, name):
    """The minutes of `core` reading, of `core_exercises` and of the `whole`, and the `exercises`, each a dictionary.

    A section whose heading ends in OPTIONAL is optional until the next heading of its level or above, and an exercise
    until its solution's end. The title and the sources are not read.
    """
    words, lines, rows = {True: 0, False: 0}, {True: 0, False: 0}, []
    optional, sources, fenced = 0, False, False  # optional: the level of the heading that says so
    extra = range(0)  # the cells of an optional exercise
    for i, cell in enumerate(nb.cells):
        if i == title(nb) or is_colab(cell) or has(cell, "head"):
            continue
        begins = re.search(r"^#+ +Exercise\b", cell.source, re.M) if cell.cell_type == "markdown" else None
        begins = begins or any(has(after, "exercise") for after in nb.cells[i + 1 : i + 2])
        if found := exercise(nb, i, name) if begins else None:
            extra = range(i, i + 3 * bool(found["optional"]))
        if cell.cell_type == "code":
            if not has(cell, "fold", "exercise", "solution"):
                kept = [line for line in cell.source.splitlines() if line.strip() and line.strip()[0] != "#"]
                lines[bool(optional) or i in extra] += len(kept)
            continue
        for line in cell.source.splitlines():
            fenced ^= line.startswith("```")
            if (heading := re.match(r"(#+) +(.*)", line)) and not fenced:
                level = len(heading[1])
                optional = 0 if level <= optional else optional
                sources = (sources and level > 2) or heading[2] == "Sources"
                if heading[2].endswith(OPTIONAL) and not found:
                    optional = optional or level
            if not sources:
                words[bool(optional) or i in extra] += len(re.findall(r"\S*\w\S*", re.sub(TAG, " ", line)))
        if found:
            row = found.groupdict()
            rows.append(
                row | {"minutes": int(row["minutes"]), "optional": bool(optional or row["optional"]), "cell": i}
            )
    core, more = (words[which] / WORDS_A_MINUTE + lines[which] / LINES_A_MINUTE for which in (False, True))
    of_core = sum(row["minutes"] for row in rows if not row["optional"])
    whole = core + more + sum(row["minutes"] for row in rows)
    return {"core": core, "core_exercises": of_core, "whole": whole, "exercises": rows}


def head(nb, name):
    """The cell that says what a notebook takes, and which exercises it has."""
    found = plan(nb, name)
    text = [
        f"**Time.** Core: {found['core']:.0f} min of reading and {found['core_exercises']} min of exercises. "
        f"With all that is optional: {found['whole']:.0f} min.",
        "",
        "| Exercise | Difficulty | Minutes | |",
        "|---|---|---|---|",
    ]
    for k, row in enumerate(found["exercises"], start=1):
        kind = "optional" if row["optional"] else "core"
        text.append(f"| [{row['name']}](#exercise-{k}) | {row['stars']} | {row['minutes']} | {kind} |")
    return nbformat.v4.new_markdown_cell(
        "\n".join(text), metadata={"slideshow": {"slide_type": "skip"}, "tags": ["head"]}
    )


class Shell(AsyncZMQSocketChannel):
    """A channel that looks each second whether a message is there.

    nbclient answers an Output widget on the channel on which it waits for the cell's reply, and now and then the signal
    of the reply is lost with that. Left alone, the cell would wait for its whole timeout.
    """

    async def get_msg(self, timeout=None):
        deadline = None if timeout is None else time.monotonic() + timeout
        while not await self.socket.poll(1000):
            if deadline and time.monotonic() > deadline:
                raise Empty
        return await self._recv()


class Client(AsyncKernelClient):
    shell_channel_class = Shell


def run(nb, name, cwd, spec=None):
    """Executes a notebook in place from top to bottom; BuildError names the cell that fails.

    The kernel is this interpreter's, whatever kernels are registered on the machine, unless ``spec`` says another.
    """

    class Manager(AsyncKernelManager):
        kernel_spec = spec or KernelSpec(**get_kernel_dict())
        client_factory = Client

    at = ["?"]
    client = NotebookClient(nb, kernel_manager_class=Manager, timeout=600, record_timing=False)
    client.extra_arguments = ["--log-level=50"]  # the kernel's, about its transport and its end: nothing of the cells'
    client.on_cell_start = lambda cell, cell_index: at.append(cell_index)
    try:
        client.execute(cwd=str(cwd))
    except (CellControlSignal, DeadKernelError) as error:
        raise BuildError(f"{name}, cell {at[-1]}: {error}") from error
    return nb


def terminal(text):
    """What a terminal shows of a text in which carriage returns and cursor-up (progress bars) overwrite."""
    if "\r" not in text:
        return text
    rows, row, col = [""], 0, 0
    for part in re.split(r"(\r|\n|\x1b\[A)", text):
        if part == "\r":
            col = 0
        elif part == "\n":
            row, col = row + 1, 0
            rows += [""] * (row == len(rows))
        elif part == "\x1b[A":
            row = max(row - 1, 0)
        else:
            rows[row] = rows[row][:col].ljust(col) + part + rows[row][col + len(part) :]
            col += len(part)
    text = "\n".join(line.rstrip() for line in rows)
    return text if text.strip() else ""


def tidy(outputs, where):
    """Outputs with streams merged as a terminal shows them and empty ones dropped; an error or stderr is refused."""
    merged = []
    for output in outputs:
        if output["output_type"] == "error":
            raise BuildError(f"{where} holds an exception: {output['ename']}: {output['evalue']}")
        if output.get("name") == "stderr":
            raise BuildError(f"{where} writes to stderr: {output['text'].strip()}")
        if output.get("data") == {"text/plain": ""}:  # of a progress bar that is gone
            continue
        if output["output_type"] == "stream" and merged and merged[-1]["output_type"] == "stream":
            merged[-1]["text"] += output["text"]
        else:
            merged.append(output)
    for output in merged:
        if output["output_type"] == "stream":
            output["text"] = terminal(output["text"])
    return [output for output in merged if output.get("text") != ""]


def normalise(nb, name):
    """The notebook without what differs from one execution to the next; BuildError for an error or stderr in it."""
    for i, cell in enumerate(nb.cells):
        if cell.cell_type == "code":
            cell.outputs = tidy(cell.outputs, f"{name}, cell {i}")
    state = states(nb)
    for model in state.values():
        if "outputs" in model["state"]:
            model["state"]["outputs"] = tidy(model["state"]["outputs"], f"{name}, an Output widget")
    order = shown(nb)
    ids = {old: f"{new:032x}" for new, old in enumerate((i for i in order if not is_ours(state[i])), start=1)}
    nb.metadata = nbformat.from_dict(METADATA)
    if order:
        kept = {i: state[i] for i in order}
        nb.metadata["widgets"] = {STATE: {"state": kept, "version_major": 2, "version_minor": 0}}
    text = re.sub(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", lambda m: ids.get(m[0], m[0]), json.dumps(nb))
    return number(nbformat.reads(text, 4))


def is_ours(model):
    """Whether a widget's model is of the package: its id comes from its place, and is the same in every run."""
    return model["state"].get("_anywidget_id", "").startswith("lecture_lib.")


def shown(nb):
    """The ids of the widget models that a notebook's outputs lead to, in the order of reference; links come last."""
    state = states(nb)
    views = [o.data[VIEW]["model_id"] for c in nb.cells for o in c.get("outputs", []) if VIEW in o.get("data", {})]
    links = [i for i, model in state.items() if model["model_name"] in ("LinkModel", "DirectionalLinkModel")]
    order = reachable(views, state)
    return reachable(order + [i for i in links if state[i]["state"]["source"][0][-32:] in order], state)


def reachable(ids, state):
    """The models that these ids lead to, themselves first, each once, in the order of reference."""
    todo, order = list(ids), {}
    while todo:
        if (i := todo.pop(0)) in state and i not in order:
            order[i] = True
            todo += re.findall(r"[0-9a-f]{32}", json.dumps(state[i]["state"]))
    return list(order)


def number(nb):
    """The notebook with execution counts 1 to n and ids from the code alone, so that an edit of prose changes none."""
    seen, count, above = {}, 0, ""
    for cell in nb.cells:
        if cell.cell_type == "code" and not is_colab(cell):
            above = cell.source
        text = f"{cell.cell_type}\n{cell.source if is_colab(cell) else 'head' if has(cell, 'head') else above}"
        seen[text] = seen.get(text, 0) + 1
        cell.id = hashlib.sha256(f"{text}\n{seen[text]}".encode()).hexdigest()[:12]
        if cell.cell_type == "code" and cell.source.strip():
            cell.execution_count = count = count + 1
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = count
    return nb


def executed(nb, name, cwd, old=None):
    """The notebook executed, in place, normalised, with what was measured in the old one, and with its hash."""
    nb = normalise(run(nb, name, cwd), name)
    if old:
        keep_measured(nb, old)
    nb.metadata["lecture"] = {"executed": fingerprint(nb)}
    return nb


def states(nb):
    """The widget models of a notebook, by their ids."""
    return nb.metadata.get("widgets", {}).get(STATE, {}).get("state", {})


def measured(nb):
    """The cells tagged ``varies``, and the ids of the widget models that they show."""
    cells = [cell for cell in nb.cells if has(cell, "varies")]
    views = [o.data[VIEW]["model_id"] for c in cells for o in c.outputs if VIEW in o.get("data", {})]
    return cells, reachable(views, states(nb))


def is_colab(cell):
    """Whether `stamp` made this cell."""
    return has(cell, "colab")


def code(nb):
    """The sources of the code cells, without Colab's."""
    return [cell.source for cell in nb.cells if cell.cell_type == "code" and not is_colab(cell)]


def fingerprint(nb):
    """A hash of the code cells and of what they show, in their order, without Colab's."""
    cells = [cell for cell in nb.cells if cell.cell_type == "code" and not is_colab(cell)]
    shown = [[cell.source, [[output.get("text"), output.get("data")] for output in cell.outputs]] for cell in cells]
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()[:16]


def is_as_executed(nb):
    """Whether the notebook's code and outputs are those of its execution."""
    return nb.metadata.get("lecture", {}).get("executed") == fingerprint(nb)


def refresh(nb, name):
    """Puts the package's present code into the widgets that a notebook saved: the names of those that had other code.

    A widget that the notebook defines itself stays as it is.
    """
    old = []
    for model in states(nb).values():
        if not is_ours(model):
            continue
        kind = model["state"]["_anywidget_id"].rpartition(".")[2]
        from lecture_lib import widgets  # not above: it imports torch

        if not (widget := getattr(widgets, kind, None)):
            raise BuildError(f"{name} shows a widget that lecture_lib.widgets does not have: {kind}")
        present = {"_anywidget_id": f"{widget.__module__}.{kind}", "_css": str(widget._css), "_esm": str(widget._esm)}
        if not present.items() <= model["state"].items():
            model["state"].update(present)
            old.append(kind)
    return old


def keep_measured(nb, old):
    """Gives the cells tagged ``varies`` what they show in the old notebook, if its code and widgets are the same."""
    (new_cells, new_ids), (old_cells, old_ids) = measured(nb), measured(old)
    same = [cell.source for cell in new_cells] == [cell.source for cell in old_cells] and new_ids == old_ids
    if same and code(nb) == code(old):
        for cell, before in zip(new_cells, old_cells, strict=True):
            cell.outputs = before.outputs
        states(nb).update({i: states(old)[i] for i in old_ids})


def fill(template, repo, name):
    """BADGE or STAMP of one repository and one notebook."""
    return template.replace("OWNER/REPO", repo).replace("NN_NAME", name)


def stamped(template):
    """The pattern of BADGE or STAMP, whatever the repository and the notebook."""
    return re.escape(template).replace("OWNER/REPO", REPO).replace("NN_NAME", r"\w+")


def restamp(text, name, repo):
    """A source without its Colab cells, then with those of ``repo`` unless that is empty."""
    text = re.sub(rf"\A{stamped(STAMP)}", "", text)
    return fill(STAMP, repo, name) + text if repo else text


def transplant(nb, fresh):
    """A source's fresh notebook with the outputs of one that was executed with the same code."""
    old, new = ([c for c in book.cells if c.cell_type == "code" and not is_colab(c)] for book in (nb, fresh))
    for a, b in zip(old, new, strict=True):
        b.outputs = a.outputs
    fresh.metadata = nb.metadata
    return number(fresh)


def student(nb):
    """An executed notebook as students get it, in place: no solution, and nothing that gives a prediction away.

    What a guess or an exercise shows is gone, with its widgets, and so are Colab's badge, which leads to the solutions,
    and the reasons behind the choices of a prediction.
    """
    nb.cells = [c for c in nb.cells if not has(c, "solution") and not (is_colab(c) and c.cell_type == "markdown")]
    for cell in nb.cells:
        if cell.cell_type == "markdown":  # choices in a list: what opens on nothing would look broken
            cell.source = PREDICTED.sub(r"- \1", cell.source)
        elif has(cell, "guess", "exercise"):
            cell.outputs, cell.execution_count = [], None
    kept = {i: states(nb)[i] for i in shown(nb)}
    nb.metadata = nbformat.from_dict(METADATA)
    if kept:
        nb.metadata["widgets"] = {STATE: {"state": kept, "version_major": 2, "version_minor": 0}}
    return nb


# --- the files --------------------------------------------------------------------------------------------------------


def write(path, content):
    """Writes a text or bytes so that the old file stays whole until the new one is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.replace(part, path)


def text_of(nb):
    """A notebook as its file's text."""
    return nbformat.writes(nb) + "\n"


def sources(names=(), root=ROOT):
    """The sources' paths, all or those named (``03_reinforce``, or a path ending so); BuildError for a name unknown."""
    every = {path.stem: path for path in sorted((root / "notebooks/source").glob("[0-9]*.py"))}
    if unknown := [name for name in names if Path(name).stem not in every]:
        raise BuildError(f"no source for {', '.join(unknown)}; there are: {', '.join(every) or 'none'}")
    return [every[Path(name).stem] for name in names] or list(every.values())


def target(source):
    """The notebook's path of a source's path."""
    return source.parents[1] / f"{source.stem}.ipynb"


def execute(names=(), again=False, root=ROOT):
    """Writes the notebooks, one after the other; executes those whose code changed, or all. A failing one stays."""
    if "LECTURE_SEED" in os.environ:
        raise BuildError("LECTURE_SEED is set, but notebooks are written with their own seed: see `make claims`")
    for source in sources(names, root):
        start, path, nb = time.perf_counter(), target(source), read(source)
        old = nbformat.read(path, 4) if path.exists() else None
        if old and not again and is_as_executed(old) and code(old) == code(nb):
            nb, done = transplant(old, nb), "the same code, not executed"
        else:
            nb = executed(nb, source.stem, root / "notebooks", old)
            done = f"{time.perf_counter() - start:.1f} s"
        if kinds := refresh(nb, source.stem):
            done += f", new code in {', '.join(kinds)}"
        write(path, text_of(nb))
        print(f"{source.stem}: {done}", flush=True)


def check(root=ROOT):
    """Raises BuildError with what is not as `execute` would write it: source, executed code, widgets."""
    pairs = {source: target(source) for source in sources(root=root)}
    problems = [f"{path.name} has no source" for path in sorted((root / "notebooks").glob("*.ipynb"))
                if path not in pairs.values()]  # fmt: skip
    for source, path in pairs.items():
        if not path.exists():
            problems.append(f"{source.name} has no notebook")
            continue
        nb = nbformat.read(path, 4)
        if difference := drift(source.read_text("utf-8"), nb):
            problems.append(f"{path.name} is not its source:\n{difference}")
        if not is_as_executed(nb):
            problems.append(f"{path.name} has code or outputs that are not those of its execution")
        elif not difference and text_of(nb) != text_of(transplant(nb, read(source))):
            problems.append(f"{path.name} folds other cells than its source, or has another head")
        if old := refresh(nb, source.stem):
            problems.append(f"{path.name} holds old code of widgets: {', '.join(old)}")
    if problems:
        raise BuildError("\n".join([*problems, "`make notebooks` writes what has a source"]))


def stamp(repo, root=ROOT):
    """Puts the Colab badges and first cells of ``owner/name`` in all sources, notebooks and README.md; "" removes."""
    if repo and not re.fullmatch(REPO, repo):
        raise BuildError(f"REPO is {repo!r}, but must be owner/name, as in GitHub's address, or empty: no badges")
    new = {}
    for source in sources(root=root):
        new[source] = restamp(source.read_text("utf-8"), source.stem, repo)
        if (path := target(source)).exists():
            old, fresh = nbformat.read(path, 4), convert(new[source], source.stem)
            if code(old) != code(fresh):
                raise BuildError(f"{source.stem}: notebook and source differ; execute it first")
            new[path] = text_of(transplant(old, fresh))
    readme = root / "README.md"
    text = re.sub(" " + stamped(BADGE), "", readme.read_text("utf-8"))
    if repo:
        text = re.sub(r"\]\(notebooks/(\w+)\.ipynb\)", lambda m: f"{m[0]} {fill(BADGE, repo, m[1])}", text)
    for path, content in {**new, readme: text}.items():
        write(path, content)


def figures(root=ROOT):
    """Writes figures/NAME.png from the cells tagged ``figure:NAME``: image, widget, or the slide that prose opens."""
    found = {}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        nb = nbformat.read(path, 4)
        for i, cell in enumerate(nb.cells):
            for name in (tag[7:] for tag in cell.metadata.get("tags", []) if tag.startswith("figure:")):
                data = [output.get("data", {}) for output in cell.get("outputs", [])]
                images = [base64.b64decode(d["image/png"]) for d in data if "image/png" in d]
                images += [photograph(nb, [cell]) for d in data if VIEW in d]
                if cell.cell_type == "markdown":
                    images.append(photograph(nb, slide_of(nb.cells, i), whole=True))
                where = f"{path.stem}, cell {i}, tagged figure:{name},"
                if len(images) != 1:
                    raise BuildError(f"{where} has {len(images)} images, not one")
                if not re.fullmatch(r"[\w-]+", name) or name in found:
                    raise BuildError(f"{where} needs a name of its own, of letters, digits, _ and -")
                found[name] = images[0]
    for name, image in found.items():
        write(root / "figures" / f"{name}.png", image)
        print(f"figures/{name}.png")


def assignment(root=ROOT):
    """Writes a copy of every notebook for students into build/assignment; BuildError if `check` finds something."""
    check(root)  # or an answer that was tried in JupyterLab, and saved, would go out
    for path in map(target, sources(root=root)):
        copied = root / "build/assignment" / path.name
        write(copied, text_of(student(nbformat.read(path, 4))))
        print(copied.relative_to(root))


def slide_of(cells, i):
    """The cells of the slide that cell i opens."""
    opens = [cell.metadata.get("slideshow", {}).get("slide_type") in ("slide", "subslide") for cell in cells[i + 1 :]]
    return cells[i : i + 1 + opens.index(True)] if True in opens else cells[i:]


def photograph(nb, cells, whole=False):
    """The widget of these cells as PNG, or their whole slide, as a browser shows it."""
    from lecture_lib.slides import LiveSlidesExporter
    from lecture_lib.slides.handout import BrowserError, launch

    alone = nbformat.v4.new_notebook(cells=cells, metadata=nb.metadata)
    try:
        with tempfile.TemporaryDirectory() as folder, launch() as browser:
            deck = Path(folder) / "deck.html"
            deck.write_text(LiveSlidesExporter().from_notebook_node(alone)[0], "utf-8")
            page = browser.new_page(viewport={"width": 1280, "height": 720}, device_scale_factor=1.5)
            page.goto(deck.as_uri())
            if whole:
                page.wait_for_selector(".reveal.ready")
                return page.screenshot()
            page.wait_for_selector(".widget svg")
            box = page.locator(".widget").bounding_box()  # and a margin of 24 pixels
            clip = {"x": box["x"] - 24, "y": box["y"] - 24, "width": box["width"] + 48, "height": box["height"] + 48}
            return page.screenshot(clip=clip)
    except BrowserError as error:
        raise BuildError(f"a widget's picture needs a browser: {error}") from error


def main(argv=None):
    """The command line; a BuildError becomes its one message and exit status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for job in (execute, check, stamp, figures, assignment):
        command = commands.add_parser(job.__name__, help=job.__doc__)
        command.set_defaults(job=job)
        if job is execute:
            command.add_argument("names", nargs="*", metavar="NAME")
            command.add_argument("--again", action="store_true", help="execute whether or not the code changed")
        if job is stamp:
            command.add_argument("repo", metavar="owner/name")
    options = vars(parser.parse_args(argv))
    del options["command"]
    try:
        options.pop("job")(**options)
    except BuildError as error:
        raise SystemExit(f"build.py: {error}") from error


if __name__ == "__main__":
    main()
