"""Do the notebooks' claims hold for other seeds? Runs every notebook under LECTURE_SEED = 0, 1, ...

    python notebooks/claims.py [NAME ...] [--seeds 10]

A claim is a call of `lecture_lib.notebook.claim`; in a loop it holds if all its calls do. One that is not reached,
because of an error before it, does not hold. In a notebook of the first edition an `assert` is a claim as well, and a
call such as `torch.testing.assert_close(...)` that stands alone: one that fails does not stop what follows.

Prints how often each held, and writes it to benchmarks/claims.json, where a claim of another notebook keeps its line
as long as its source has it in these words: `--seeds 0` does that alone. Claims without a line are printed as not
measured. Exit status 1 if a claim held for less than nine in ten of the seeds, or a cell ended in an error. Claims with
`clock=True`, about time, stand apart and do not count for that.

Each notebook runs in a process of its own for each seed, two at a time.
"""

import argparse
import ast
import contextlib
import difflib
import itertools
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

try:
    from notebooks import build
except ModuleNotFoundError:  # run as a script
    import build


def is_assertion(node):
    """An assert, or a call of a function named assert_... whose result nobody takes: a first edition's claim."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return name_of(node.value).startswith("assert_")
    return isinstance(node, ast.Assert)


def is_claim(node):
    """A call of `claim`."""
    return isinstance(node, ast.Call) and name_of(node) == "claim"


def name_of(call):
    """The last part of what is called."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


class Catch(ast.NodeTransformer):
    """Makes `claim(...)` into `_claim(place, claim, ...)`, puts each assertion into `with _assertion(place):`."""

    def __init__(self, first_edition):
        self.cell, self.first_edition = None, first_edition

    def visit(self, node):
        node = self.generic_visit(node)
        if is_claim(node):
            place = ast.Constant((self.cell, node.lineno, node.col_offset))
            call = ast.Call(ast.Name("_claim", ast.Load()), [place, node.func, *node.args], node.keywords)
            return ast.copy_location(call, node)
        if self.first_edition and is_assertion(node):
            place = ast.Constant((self.cell, node.lineno, node.col_offset))
            call = ast.Call(ast.Name("_assertion", ast.Load()), [place], [])
            return ast.copy_location(ast.With([ast.withitem(call)], [node]), node)
        return node


def claims_of(nb, stem):
    """The claims of a notebook in their order: place -> the heading above as "slide", the "claim", "clock"."""
    found, heading = {}, ""
    for i, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown":
            headings = [line.lstrip("# ") for line in cell.source.splitlines() if line.startswith(("# ", "## "))]
            heading = headings[-1] if headings else heading
        elif cell.cell_type == "code" and "colab" not in cell.metadata.get("tags", []):
            for node in ast.walk(ast.parse(cell.source)):
                place = (i, getattr(node, "lineno", 0), getattr(node, "col_offset", 0))
                if is_claim(node):
                    found[place] = {"slide": heading, **said(node, f"{stem}, cell {i}, line {node.lineno}")}
                elif stem in build.FIRST_EDITION and is_assertion(node):
                    words = ast.get_source_segment(cell.source, node.test if isinstance(node, ast.Assert) else node)
                    found[place] = {"slide": heading, "claim": " ".join(words.split())}
    return dict(sorted(found.items()))


def said(call, where):
    """What a call of `claim` claims, and whether it does so of time; BuildError where only a run would tell."""
    given = {word.arg: word.value for word in call.keywords}
    text, clock = (call.args or [given.get("text")])[0], given.get("clock", ast.Constant(False))
    if not (isinstance(text, ast.Constant) and isinstance(text.value, str) and isinstance(clock, ast.Constant)):
        raise build.BuildError(f"{where}: claim's text is a literal string, and clock True or False")
    return {"claim": text.value} | ({"clock": True} if clock.value else {})


def run(path, places, first_edition, seed):
    """Runs one notebook under one seed: (the claims that failed or were not reached, the errors of its cells).

    ``first_edition``: its assertions are claims.
    """
    os.environ |= {"LECTURE_SEED": str(seed), "MPLBACKEND": "agg"}
    os.chdir(path.parents[1])
    nb = build.convert(path.read_text("utf-8"))
    held, errors = {}, []
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    catch = Catch(first_edition)
    shell.ast_transformers.append(catch)

    def claim(place, function, /, text, holds, **more):
        function(text, holds, **more)
        held[place] = held.get(place, True) and bool(holds)

    @contextlib.contextmanager
    def assertion(place):
        before = held.get(place, True)
        held[place] = False  # unless it holds
        with contextlib.suppress(AssertionError):
            yield
            held[place] = before

    shell.user_ns |= {"_claim": claim, "_assertion": assertion}
    for i, cell in enumerate(nb.cells):
        if cell.cell_type != "code" or "colab" in cell.metadata.get("tags", []):
            continue
        catch.cell = i
        with capture_output():
            result = shell.run_cell(cell.source)
        if not result.success:
            error = result.error_in_exec or result.error_before_exec
            errors.append(f"seed {seed}, cell {i}: {type(error).__name__}: {error}")
    return [place for place in places if not held.get(place, False)], errors


def standing(record, root):
    """The rows of a record whose words are in today's sources, under today's headings, and the claims without a row."""
    kept, unmeasured = {}, {}
    for path in build.sources(root=root):
        claims = list(claims_of(build.convert(path.read_text("utf-8")), path.stem).values())
        old = record.get(path.stem, {"claims": []})
        words = [row["claim"] for row in old["claims"]], [row["claim"] for row in claims]
        rows = {}
        for i, j, size in difflib.SequenceMatcher(None, *words, autojunk=False).get_matching_blocks():
            for n in range(size):
                counts = {key: old["claims"][i + n][key] for key in ("held", "not") if key in old["claims"][i + n]}
                rows[j + n] = claims[j + n] | counts
        if path.stem in record:
            kept[path.stem] = {**old, "claims": list(rows.values())}
        unmeasured[path.stem] = [row["claim"] for j, row in enumerate(claims) if j not in rows]
    return kept, unmeasured


def shortened(words):
    """What fits a line."""
    return words if len(words) <= 100 else words[:97] + "..."


def tell(rows, seeds):
    """Prints what held how often, what is about time at the end; does all else hold for nine in ten of the seeds?"""
    fine, heading = True, None
    for row in sorted(rows, key=lambda row: "clock" in row):
        above = "about time, on this machine" if "clock" in row else row["slide"]
        rare = 10 * row["held"] < 9 * seeds
        if above != heading:
            print(f"  {above}")
        print(f"  {'✗' if rare else ' '} {row['held']:3} {shortened(row['claim'])}", flush=True)
        fine, heading = fine and (not rare or "clock" in row), above
    return fine


def measure(names=(), seeds=10, root=build.ROOT):
    """Runs the notebooks, prints and writes the table: does each claim hold for nine in ten of the seeds?"""
    table = root / "benchmarks" / "claims.json"
    paths = build.sources(names, root)
    record, unmeasured = standing(json.loads(table.read_text("utf-8")) if table.exists() else {}, root)
    write(table, record)
    context = multiprocessing.get_context("spawn")
    fine = True
    with ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1) as pool:
        jobs = {}
        for path in paths if seeds else []:
            claims = claims_of(build.convert(path.read_text("utf-8")), path.stem)
            call = run, path, list(claims), path.stem in build.FIRST_EDITION
            jobs[path] = claims, [pool.submit(*call, seed) for seed in range(seeds)]
        for path, (claims, results) in jobs.items():
            failed, errors = zip(*(job.result() for job in results), strict=True)
            print(f"{path.stem}, {seeds} seeds", *itertools.chain(*errors), sep="\n    ")
            rows = []
            for place, claim in claims.items():
                seeds_failed = [seed for seed, places in enumerate(failed) if place in places]
                counts = {"held": seeds - len(seeds_failed)} | ({"not": seeds_failed} if seeds_failed else {})
                rows.append(claim | counts)
            fine = tell(rows, seeds) and fine and not any(errors)
            record[path.stem] = {"seeds": seeds, "claims": rows}
            write(table, record)
            del unmeasured[path.stem]
    for stem, claims in unmeasured.items():
        for words in claims:
            print(f"{stem}, not measured: {shortened(words)}")
    return fine


def write(table, record):
    """The record as its file, notebooks in their order."""
    build.write(table, json.dumps(dict(sorted(record.items())), indent=1, ensure_ascii=False) + "\n")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args(argv)
    if options.seeds < 0:
        parser.error(f"--seeds must be at least 0, got {options.seeds}")
    try:
        fine = measure(options.names, options.seeds)
    except build.BuildError as error:
        raise SystemExit(f"claims.py: {error}") from error
    raise SystemExit(0 if fine else 1)


if __name__ == "__main__":
    main()
