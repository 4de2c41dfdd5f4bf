"""Properties of every public function, on inputs that nobody thought of: right, or refused by a clear error.

Random shapes (empty ones too), dtypes, ties, -inf, NaN, options at their limits; against references in float64, and by
what must not matter: a shift, an order, a forbidden option. They stand in test_properties_*.py, a file for rooms of one
kind; a new public function fails the test below until one of them covers it.
"""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

from test_properties_bench import WIDGETS

import lecture_lib
from lecture_lib import exercises, pretrained

EXEMPT = {
    "expert_parallel.ExpertParallel": "needs several processes: tests/test_expert_parallel.py",
    "expert_parallel.ShardedExperts": "needs several processes",
    "expert_parallel.global_load_balance_loss": "needs several processes",
    "limoe.retrieval": "the ten best of 40 looks: tests/test_limoe.py",
    "simplex.as_number": "tests/test_simplex.py tries every kind of number",
    "simplex.as_integer": "tests/test_simplex.py",
    "simplex.as_numbers": "tests/test_simplex.py",
    "simplex.check_mask": "tests/test_simplex.py",
    "simplex.full": "one line: tests/test_precision.py",
    "simplex.score": "tests/test_simplex.py",
    "simplex.blank": "tests/test_precision.py tries padding of every kind",
    "simplex.looks": "tests/test_compile.py",
    "simplex.no_repair": "tests/test_compile.py",
    "simplex.opaque": "tests/test_compile.py",
    "choice.quiet": "tests/test_precision.py",
    "choice.zeros": "one line: tests/test_choice.py",
    "mixture.call": "tests/test_precision.py",
    "patches.check_tokens": "tests/test_precision.py",
    "cost.processor": "takes no argument",
    "recorded.load": "reads what its command wrote: tests/test_recorded.py has both",
    "data.digits": "takes no argument",
    "data.openml": "needs a network: tests/test_data.py puts one in its place",
    "data.digit_tasks": "takes no argument: tests/test_data.py looks at all of its images",
    "data.python_sources": "takes no argument",
    "data.english": "takes no argument",
    "data.tables": "takes no argument",
}


def used_in(node):
    """module.name of all that is used; to be refused, or to be a type, is no use."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("refuses", "isinstance"):
        return set()
    named = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    here = {f"{node.value.id}.{node.attr}"} if named else set()
    return here.union(*map(used_in, ast.iter_child_nodes(node)))


def public():
    """room.name of every public function and class but plain records; the networks that ship are rooms of their own."""
    for package in (lecture_lib, pretrained):
        for room in (module.name for module in pkgutil.iter_modules(package.__path__) if module.name[0] != "_"):
            home = importlib.import_module(f"{package.__name__}.{room}")
            for name in getattr(home, "__all__", vars(home)):
                value = vars(home)[name]
                record = inspect.isclass(value) and issubclass(value, (tuple, Exception))
                here = getattr(value, "__module__", "").startswith(home.__name__)
                if callable(value) and not name.startswith("_") and not record and here:
                    yield f"{room}.{name}"


def test_every_public_function_has_a_property():
    tests = Path(__file__).parent
    files = [*tests.glob("test_properties_*.py"), tests / "ways.py"]
    used = set().union(*(used_in(ast.parse(path.read_text("utf-8"))) for path in files))
    used |= {f"widgets.{name}" for name in WIDGETS} | {f"exercises.{name}" for name in exercises.CHECKS}
    # slides turns files into files: tests/test_slides.py looks at them in a browser
    wanted = {name for name in public() if not name.startswith("slides.")}
    missing, gone = sorted(wanted - used - set(EXEMPT)), sorted(set(EXEMPT) - wanted)
    assert not missing, f"without a property: {', '.join(missing)}"
    assert not gone, f"exempt, but not there: {', '.join(gone)}"
