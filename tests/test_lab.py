"""The notebooks in JupyterLab, in a browser: sliders move by mouse and keys, and Python sees it where cells ran."""

import contextlib
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import browser
import nbformat
import pytest
import test_form
from nbformat.sign import NotebookNotary
from playwright.sync_api import TimeoutError

from notebooks import build

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[1]
WIDGETS = [path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if "anywidget" in path.read_text("utf-8")]
AGAIN = [pytest.param(path, marks=pytest.mark.again) for path in WIDGETS[1:]]
SETTINGS = {
    "notebook-extension/tracker": '{"windowingMode": "none"}',  # every cell is in the page, seen or not
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}
# Values of all synced traits that are numbers or lists of numbers, as "model trait value" lines, from the kernel
TRAITS = """
import ipywidgets.widgets.widget as _widget
for _i, _w in (getattr(_widget, "_instances", None) or _widget.Widget.widgets).items():
    for _n in _w.keys:
        _v = getattr(_w, _n)
        for _k, _x in enumerate(_v if isinstance(_v, list) else [_v]):
            if isinstance(_x, (int, float)): print(_i, f"{_n}[{_k}]", repr(_x))
"""
ASK = """async (code) => {
    let text = "";
    const asked = jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({ code });
    asked.onIOPub = (message) => { text += message.content.text ?? ""; };
    await asked.done;
    return text;
}"""
READY = """() => {
    const { context, sessionContext } = window.jupyterapp?.shell?.currentWidget ?? {};
    return context?.isReady && sessionContext?.session?.kernel?.status === "idle";
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab of its own on an empty folder, with its own settings: (folder, address, token)."""
    root = tmp_path_factory.mktemp("lab")
    for name, text in SETTINGS.items():
        path = root / "settings/@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    folder, log, token = root / "work", root / "log", secrets.token_hex(16)
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    options += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}"]
    options += ["--LabApp.expose_app_in_browser=True"]
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            env=os.environ | {name: str(root / place) for name, place in places.items()},
            stdout=out,
            stderr=out,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(480):
            assert server.poll() is None, log.read_text()[-3000:]
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/api?token={token}", timeout=1):
                break
            time.sleep(0.25)
        yield folder, address, token
    finally:
        server.kill()  # its kernels see that it is gone, and go; asked to end, it may wait for one of them for ever
        server.wait()


@pytest.fixture(scope="module")
def local_browser(chromium):
    """A browser like `chromium` that reaches this machine's own servers; playwright itself can run but once."""
    rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    path = browser.find_browser()
    with chromium.browser_type.launch(executable_path=path, args=[*browser.ARGUMENTS, rules]) as running:
        yield running


def open_in_lab(local_browser, lab, path):
    """The notebook's page with its kernel at rest; its outputs are trusted, as after "Trust Notebook"."""
    folder, address, token = lab
    shutil.copy(path, folder)
    NotebookNotary(data_dir=str(folder.parent / "data")).sign(nbformat.read(path, 4))
    page = local_browser.new_page(viewport={"width": 1280, "height": 1600})
    page.goto(f"{address}/doc/tree/{path.name}?token={token}&reset")
    page.wait_for_function(READY, timeout=120_000)
    return page


def open_and_run(local_browser, lab, path):
    """The notebook's page after all cells ran without an error."""
    page = open_in_lab(local_browser, lab, path)
    assert page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')") is not False
    errors = page.locator("[data-mime-type='application/vnd.jupyter.error']")
    assert errors.all_inner_texts() == []
    return page


def traits(page):
    """The numbers among the kernel's synced traits: {(model, trait): value}."""
    lines = page.evaluate(ASK, TRAITS).splitlines()
    return {(model, name): float(value) for model, name, value in (line.split() for line in lines)}


def by_mouse(page, slider, share):
    """Clicks at a share of a slider's track."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)


def picture(slider):
    """All that the slider's widget draws."""
    widget = slider.locator("xpath=ancestor::*[contains(concat(' ', @class, ' '), ' ll ')][1]")
    return widget.locator("svg").evaluate_all("pictures => pictures.map(picture => picture.innerHTML)")


def moves(slider):
    """Every way to move a slider to another value; each changes the picture."""
    page = slider.page
    slider.press("End")  # away from where the mouse will click: a click on the thumb moves nothing
    for move in (
        lambda: by_mouse(page, slider, 0.8),
        lambda: by_mouse(page, slider, 0.3),
        lambda: slider.press("ArrowRight"),
        lambda: slider.press("Home"),
    ):
        drawn = picture(slider)
        yield move
        assert picture(slider) != drawn


def move_and_compare(slider, move):
    """Moves a slider: one trait of one widget changes in Python, to the value that is written at the slider."""
    page = slider.page
    before = traits(page)
    move()
    written = re.search(r"-?\d+(\.\d+)?", slider.get_attribute("aria-valuetext"))
    for _ in range(100):  # the message's way to the kernel
        after = traits(page)
        changed = {key: value for key, value in after.items() if before.get(key) != value}
        if [*changed.values()] == [pytest.approx(float(written[0]), rel=0.06, abs=0.006)]:
            return
        page.wait_for_timeout(100)
    pytest.fail(f"one trait changes in Python, to {written[0]}, not {changed}")


def all_sliders(page, path):
    """The sliders of all widgets that the notebook displays."""
    cells = nbformat.read(path, 4).cells
    displayed = sum(build.VIEW in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))
    last = page.locator(".ll").nth(displayed - 1)
    try:
        last.wait_for()
    except TimeoutError:  # a connection that breaks while the page loads: JupyterLab shows no widget until a reload
        page.reload()
        page.wait_for_function(READY, timeout=120_000)
        last.wait_for()
    assert page.locator(".ll").count() == displayed
    return page.locator(".ll input[type=range]").all()


def test_there_are_widgets():
    assert WIDGETS, "no notebooks/*.ipynb shows a widget"


@pytest.mark.parametrize("path", WIDGETS[1:], ids=lambda path: path.stem)
def test_widgets_that_come_executed_move(local_browser, lab, path, tmp_path):
    page = open_in_lab(local_browser, lab, path)
    sliders = all_sliders(page, path)
    for slider in sliders:
        for move in moves(slider):
            move()
    page.screenshot(path=tmp_path / f"{path.stem}.png")
    page.close()


@pytest.mark.parametrize("path", WIDGETS[:1] + AGAIN, ids=lambda path: path.stem)
def test_sliders_are_live_and_python_sees_them(local_browser, lab, path, tmp_path):
    page = open_and_run(local_browser, lab, path)
    for slider in all_sliders(page, path):
        for move in moves(slider):
            move_and_compare(slider, move)
    page.screenshot(path=tmp_path / f"{path.stem}.png")
    page.close()


def test_a_guess_comes_before_its_answer_and_the_head_leads_to_the_exercises(local_browser, lab, tmp_path):
    nb = build.number(test_form.convert())
    (guess,) = test_form.tagged(nb, "guess")
    guess.outputs = [nbformat.v4.new_output("stream", text="the answer\n")]
    nb.cells[10:10] = [nbformat.v4.new_markdown_cell("word\n\n" * 100)]
    path = tmp_path / "form.ipynb"
    path.write_text(build.text_of(nb), "utf-8")
    page = open_in_lab(local_browser, lab, path)

    def seen(text):
        return page.get_by_text(text).filter(visible=True).count() > 0

    assert [seen(text) for text in ("@title Set-up", "numbers = [1, 2]", "a = 1")] == [True, False, False]
    assert [seen(text) for text in ("A. the first", "and 2 > 1", "the answer")] == [True, False, False]
    page.get_by_text("B. the second", exact=True).click()
    assert seen("and 2 > 1")
    page.get_by_text("# @title Open this").filter(visible=True).click()
    page.locator(".jp-OutputPlaceholder").get_by_title("Click to expand").click()
    assert page.locator(".jp-OutputArea-output").get_by_text("the answer").is_visible()
    exercise = page.get_by_role("heading", name="Exercise: subtract")
    assert exercise.bounding_box()["y"] > 1600
    page.get_by_role("link", name="subtract").click()
    page.wait_for_timeout(500)
    assert 0 < exercise.bounding_box()["y"] < 1600
    page.screenshot(path=tmp_path / "form.png")
    page.close()


NEXT_DAY = """\
# %%
import matplotlib.pyplot as plt
from lecture_lib.notebook import show
from lecture_lib.widgets import Temperature

show(plt.figure(figsize=(1, 1)), "Nothing < something")

# %%
display(Temperature(), Temperature([2, 1, 0]))

# %%
later = Temperature([1, 2, 3])

# %%
later
"""
SHUTDOWN = "jupyterapp.serviceManager.sessions.shutdownAll()"


def test_a_notebook_that_was_run_and_saved_has_its_widgets_the_next_day(local_browser, lab, tmp_path):
    path, saved = tmp_path / "next_day.ipynb", lab[0] / "next_day.ipynb"
    path.write_text(build.text_of(build.executed(build.convert(NEXT_DAY), "next_day", ROOT)), "utf-8")
    page = open_and_run(local_browser, lab, path)
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")  # the same ids twice in one kernel
    for slider in all_sliders(page, path):
        move_and_compare(slider, lambda slider=slider: slider.press("End"))
    told = page.locator("details", has_text="Nothing < something")
    folded = told.bounding_box()["height"]
    told.locator("summary").click()
    assert told.bounding_box()["height"] > 1.5 * folded
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    for day in ("the same, in another window", "the next"):
        page.close()
        page = local_browser.new_page(viewport={"width": 1280, "height": 1600})
        page.goto(f"{lab[1]}/doc/tree/{saved.name}?token={lab[2]}&reset")
        page.wait_for_function(READY, timeout=120_000)
        sliders = all_sliders(page, saved)
        assert len(sliders) == 3 and page.get_by_text("model not found").count() == 0, day
        for slider in sliders:
            drawn = picture(slider)
            slider.press("Home")
            assert picture(slider) != drawn
        page.evaluate(SHUTDOWN)
    page.close()
    views = [
        o.data[build.VIEW]["model_id"] for c in nbformat.read(saved, 4).cells for o in c.outputs if build.VIEW in o.data
    ]
    assert set(views) <= set(build.states(nbformat.read(path, 4)))


def test_an_error_in_a_cell_fails(local_browser, lab, tmp_path):
    path = tmp_path / "broken.ipynb"
    path.write_text(build.text_of(build.convert("# %%\n1 / 0\n")))
    with pytest.raises(AssertionError):
        open_and_run(local_browser, lab, path)
