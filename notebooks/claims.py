"""Do the notebooks' claims hold for other seeds? Runs every notebook under LECTURE_SEED = 0, 1, ...

    python notebooks/claims.py [NAME ...] [--seeds 10]

A claim is an `assert`, or a call such as `torch.testing.assert_close(...)` that stands alone. One that fails does not
stop what follows; one that is not reached, because of an error before it, does not hold, nor one that ends in another
error. Prints how often each held, and writes it to benchmarks/claims.json, where notebooks that were not run keep their
lines. Exit status 1 if a claim held for less than nine in ten of the seeds, or a cell ended in an error.

Each notebook runs in a process of its own for each seed, two at a time.
"""

import argparse
import ast
import contextlib
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
    """The claims of a notebook in their order: (cell, line) -> [heading above, the claim's first words]."""
    found, heading = {}, ""
    for i, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown":
            headings = [line.lstrip("# ") for line in cell.source.splitlines() if line.startswith(("# ", "## "))]
            heading = headings[-1] if headings else heading
        elif cell.cell_type == "code" and "colab" not in cell.metadata.get("tags", []):
            for node in filter(is_claim, ast.walk(ast.parse(cell.source))):
                words = ast.unparse(node.test if isinstance(node, ast.Assert) else node)
                found[i, node.lineno] = [heading, words if len(words) <= 70 else words[:67] + "..."]
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


def measure(names=(), seeds=10, root=build.ROOT):
    """Runs the notebooks, prints and writes the table: does each claim hold for nine in ten of the seeds?"""
    table = root / "benchmarks" / "claims.json"
    record = json.loads(table.read_text("utf-8")) if table.exists() else {}
    context = multiprocessing.get_context("spawn")
    fine = True
    with ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1) as pool:
        jobs = {path: [pool.submit(run, path, seed) for seed in range(seeds)] for path in build.sources(names, root)}
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
                print(f"  {'✗' if rare else ' '} {held:3} {words}", flush=True)
                fine, heading = fine and not rare, above
            record = dict(sorted((record | {path.stem: {"seeds": seeds, "claims": rows}}).items()))
            build.write(table, json.dumps(record, indent=1, ensure_ascii=False, sort_keys=False) + "\n")
    return fine


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args(argv)
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {options.seeds}")
    try:
        fine = measure(options.names, options.seeds)
    except build.BuildError as error:
        raise SystemExit(f"claims.py: {error}") from error
    raise SystemExit(0 if fine else 1)


if __name__ == "__main__":
    main()
