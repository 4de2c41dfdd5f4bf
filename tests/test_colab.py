"""Every notebook as Colab would run it: Colab's package versions, an empty folder, the library by the first cell."""

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec

from lecture_lib.slides import LiveSlidesExporter
from notebooks import build

ROOT = Path(__file__).parents[1]
NOTEBOOKS = [path.name for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
AGAIN = [pytest.param(name, marks=pytest.mark.again) for name in NOTEBOOKS[1:]]
REPO = "owner/lecture"
COMPLAINS = {"torch.utils.cpp_extension"}  # on stderr when imported, where CUDA finds no GPU: Colab's torch has CUDA
MOVES = """async (slider) => {
    const { h, v } = Reveal.getIndices(slider.closest("section"));
    Reveal.slide(h, v ?? 0, 99);
    const draw = () => [...slider.closest(".ll").querySelectorAll("svg")].map((svg) => svg.innerHTML).join();
    const before = draw();
    slider.value = slider.value === slider.min ? slider.max : slider.min;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise(requestAnimationFrame);
    return before.length > 0 && draw() !== before;
}"""


def output_of(*command, cwd=None):
    """What a command prints; its complaints are in the error where it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def python():
    """Python of .venv-colab, made anew when tests/colab-constraints.txt or this Python is another."""
    folder, wanted = ROOT / ".venv-colab", ROOT / "tests/colab-constraints.txt"
    key = hashlib.sha256(sys.version.encode() + wanted.read_bytes()).hexdigest()
    ready, path = folder / "ready", folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not ready.exists() or ready.read_text("utf-8") != key:
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        output_of(path, "-m", "pip", "install", "--quiet", "--requirement", wanted)
        ready.write_text(key)
    return path


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A git repository with this working tree as its one commit, stamped for Colab."""
    root = tmp_path_factory.mktemp("repository")
    for name in output_of("git", "ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT).split("\0")[:-1]:
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    build.stamp(REPO, root=root)
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    output_of("git", "init", "--quiet", cwd=root)
    output_of("git", "add", "--all", cwd=root)
    output_of("git", *author, "commit", "--quiet", "--message", "The working tree", cwd=root)
    return root


def installed(python):
    """The packages of an environment and their versions, without ours."""
    lines = output_of(python, "-m", "pip", "freeze", "--all").splitlines()
    return [line for line in lines if not line.startswith("lecture-lib")]


@pytest.fixture(scope="module", params=NOTEBOOKS[:1] + AGAIN)
def executed(request, python, repository, tmp_path_factory):
    """The notebook after a run in an empty folder, its first cell run twice, and the packages before and after."""
    output_of(python, "-m", "pip", "uninstall", "--yes", "--quiet", "lecture-lib")
    before = installed(python)
    text = (repository / "notebooks" / request.param).read_text("utf-8")
    nb = nbformat.reads(text.replace(f"https://github.com/{REPO}", repository.as_uri()), 4)
    nb.cells.insert(2, nbformat.v4.new_code_cell(nb.cells[1].source, metadata=nb.cells[1].metadata))
    nb.cells.append(nbformat.v4.new_code_cell(f"import sys\n\nassert not {COMPLAINS} & sys.modules.keys()"))
    folder = tmp_path_factory.mktemp("empty")
    spec = KernelSpec(argv=[str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"], language="python")
    with pytest.MonkeyPatch.context() as environment:
        for name in ("PYTHONPATH", "PYTHONHOME", "LECTURE_SEED"):
            environment.delenv(name, raising=False)
        environment.setenv("IPYTHONDIR", str(folder / ".ipython"))
        environment.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # Colab's ipykernel warns of a newer Python's modules
        build.run(nb, request.param, folder, spec)
    return nb, before, installed(python)


def test_there_are_notebooks():
    assert NOTEBOOKS, "no notebooks/*.ipynb"


def test_notebook_runs_and_replaces_nothing(executed):
    nb, before, after = executed
    first, again = nb.cells[1:3]
    assert "git+file://" in first.source and first.source == again.source
    assert again.outputs == [], "the first cell does nothing when it runs again"
    assert after == before, "the first cell changes none of Colab's packages"
    errors = [o for cell in nb.cells for o in cell.get("outputs", []) if o.output_type == "error"]
    assert errors == []
    assert [o.text for c in nb.cells for o in c.get("outputs", []) if o.get("name") == "stderr"] == []


@pytest.mark.browser
def test_what_colab_saves_becomes_a_live_deck(executed, chromium, tmp_path):
    nb, *_ = executed
    views = [o for cell in nb.cells for o in cell.get("outputs", []) if build.VIEW in o.get("data", {})]
    assert not views or "state" in nb.metadata.widgets[build.STATE]
    deck = tmp_path / "deck.html"
    deck.write_text(LiveSlidesExporter().from_notebook_node(nb)[0], "utf-8")
    page = chromium.new_page()
    page.goto(deck.as_uri())
    page.wait_for_function("window.Reveal?.isReady()")
    sliders = page.locator(".ll input[type=range]").all()
    assert bool(sliders) == bool(views), "a widget without a slider in the deck"
    assert all(slider.evaluate(MOVES) for slider in sliders)
    page.screenshot(path=tmp_path / "deck.png")
    page.close()
