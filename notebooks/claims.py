"""Do the notebooks' claims hold for other seeds? Runs every notebook under LECTURE_SEED = 0, 1, ...

    python notebooks/claims.py [NAME ...] [--seeds 10]

A claim is an `assert`, or a call such as `torch.testing.assert_close(...)` that stands alone. One that fails does not
stop what follows; one that is not reached, because of an error before it, does not hold, nor one that ends in another
error. Prints how often each held, and writes it to benchmarks/claims.json, where a claim of another notebook keeps its
line as long as its source has it in these words: `--seeds 0` does that alone. Claims without a line are printed as not
measured. Exit status 1 if a claim held for less than nine in ten of the seeds, or a cell ended in an error.

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


def is_claim(node):
    """An assert, or a call of a function named assert_... whose result nobody takes."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        function = node.value.func
        return getattr(function, "attr", getattr(function, "id", "")).startswith("assert_")
    return isinstance(node, ast.Assert)


class Catch(ast.NodeTransformer):
    """Puts each claim into `with _claim(line):`."""

    def visit(self, node):
        if not is_claim(node):
            return self.generic_visit(node)
        call = ast.Call(ast.Name("_claim", ast.Load()), [ast.Constant(node.lineno)], [])
        return ast.copy_location(ast.With([ast.withitem(call)], [node]), node)


def claims_of(nb):
    """The claims of a notebook in their order: (cell, line) -> (heading above, the claim in its source's words)."""
    found, heading = {}, ""
    for i, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown":
            headings = [line.lstrip("# ") for line in cell.source.splitlines() if line.startswith(("# ", "## "))]
            heading = headings[-1] if headings else heading
        elif cell.cell_type == "code" and "colab" not in cell.metadata.get("tags", []):
            for node in filter(is_claim, ast.walk(ast.parse(cell.source))):
                words = ast.get_source_segment(cell.source, node.test if isinstance(node, ast.Assert) else node)
                found[i, node.lineno] = (heading, " ".join(words.split()))
    return dict(sorted(found.items()))


def run(path, seed):
    """Runs one notebook under one seed: (the claims that failed or were not reached, the errors of its cells)."""
    os.environ |= {"LECTURE_SEED": str(seed), "MPLBACKEND": "agg"}
    os.chdir(path.parents[1])
    nb = build.convert(path.read_text("utf-8"))
    reached, failed, errors = set(), set(), []
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    shell.ast_transformers.append(Catch())
    for i, cell in enumerate(nb.cells):
        if cell.cell_type != "code" or "colab" in cell.metadata.get("tags", []):
            continue

        @contextlib.contextmanager
        def claim(line, i=i):
            reached.add((i, line))
            before = (i, line) in failed
            failed.add((i, line))  # unless it holds
            with contextlib.suppress(AssertionError):
                yield
                if not before:
                    failed.discard((i, line))

        shell.user_ns["_claim"] = claim
        with capture_output():
            result = shell.run_cell(cell.source)
        if not result.success:
            error = result.error_in_exec or result.error_before_exec
            errors.append(f"seed {seed}, cell {i}: {type(error).__name__}: {error}")
    return sorted(failed | (set(claims_of(nb)) - reached)), errors


def standing(record, root):
    """The rows of a record whose words are in today's sources, under today's headings, and the claims without a row."""
    kept, unmeasured = {}, {}
    for path in build.sources(root=root):
        claims = list(claims_of(build.convert(path.read_text("utf-8"))).values())
        old = record.get(path.stem, {"claims": []})
        words = [row["claim"] for row in old["claims"]], [words for _, words in claims]
        rows = {}
        for i, j, size in difflib.SequenceMatcher(None, *words, autojunk=False).get_matching_blocks():
            rows |= {j + n: {**old["claims"][i + n], "slide": claims[j + n][0]} for n in range(size)}
        if path.stem in record:
            kept[path.stem] = {**old, "claims": list(rows.values())}
        unmeasured[path.stem] = [words for j, (_, words) in enumerate(claims) if j not in rows]
    return kept, unmeasured


def shortened(words):
    """What fits a line."""
    return words if len(words) <= 100 else words[:97] + "..."


def measure(names=(), seeds=10, root=build.ROOT):
    """Runs the notebooks, prints and writes the table: does each claim hold for nine in ten of the seeds?"""
    table = root / "benchmarks" / "claims.json"
    paths = build.sources(names, root)
    record, unmeasured = standing(json.loads(table.read_text("utf-8")) if table.exists() else {}, root)
    write(table, record)
    context = multiprocessing.get_context("spawn")
    fine = True
    with ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1) as pool:
        jobs = {path: [pool.submit(run, path, seed) for seed in range(seeds)] for path in paths if seeds}
        for path, results in jobs.items():
            failed, errors = zip(*(job.result() for job in results), strict=True)
            print(f"{path.stem}, {seeds} seeds", *itertools.chain(*errors), sep="\n    ")
            fine = fine and not any(errors)
            rows, heading = [], None
            for place, (above, words) in claims_of(build.convert(path.read_text("utf-8"))).items():
                seeds_failed = [seed for seed, places in enumerate(failed) if place in places]
                held = seeds - len(seeds_failed)
                rows.append(
                    {"slide": above, "claim": words, "held": held} | ({"not": seeds_failed} if seeds_failed else {})
                )
                rare = 10 * held < 9 * seeds
                if above != heading:
                    print(f"  {above}")
                print(f"  {'✗' if rare else ' '} {held:3} {shortened(words)}", flush=True)
                fine, heading = fine and not rare, above
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
