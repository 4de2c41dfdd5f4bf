"""The widgets as the notebooks show them, at the widths that JupyterLab leaves them: nothing cut, covered or tiny."""

import json

import nbformat
import pytest

from lecture_lib import widgets
from notebooks import build

# The width of an output beside the file browser, by that of the window (at 200 % zoom 1366 pixels are 683)
WIDTHS = {1366: 934, 1024: 592, 683: 315, 600: 232}
SCREEN = 760  # of height, for all of a widget in the widest window
HOST = build.ROOT.joinpath("lecture_lib/widgets/host.js").read_text("utf-8")
VIEW = """<!doctype html><meta charset="utf-8"><style>body {{ margin: 0 }}</style>
<div id="box" style="width: {width}px; overflow: auto"><div class="widget" data-model="one"></div></div>
<script type="application/json" id="models">{models}</script><script type="module">{host}</script>"""
# What is wrong with the view as it stands. Boxes of text are a little less high than their lines, which may touch.
FAULTS = """() => {
  const faults = [], boxes = [], box = document.getElementById("box").getBoundingClientRect();
  const add = (name, node, r) => {
    const edge = r.height * (node.closest("svg") ? 0.2 : 0.1);
    if (r.width) boxes.push({ name, node, l: r.left + 1, r: r.right - 1, t: r.top + edge, b: r.bottom - edge });
  };
  const walker = document.createTreeWalker(document.querySelector(".ll"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, node = text.parentElement, name = text.textContent.trim();
    if (!name || node.closest("title, option, .ll-text") || getComputedStyle(node).visibility === "hidden") continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    for (const r of range.getClientRects()) add(name, node, r);
    const scale = node.closest("svg") ? node.getScreenCTM().a : 1;
    const size = scale * parseFloat(getComputedStyle(node).fontSize);
    if (size < 12) faults.push(`${size.toFixed(1)} px: ${name}`);
    const holder = (node.closest("svg") ?? node.closest("div, p, table, label, button"));
    const outer = holder.getBoundingClientRect(), r = range.getBoundingClientRect();
    if (r.width && (r.left < outer.left - 9 || r.right > outer.right + 9 || r.top < outer.top - 3 ||
        r.bottom > outer.bottom + 3)) faults.push(`sticks out: ${name}`);
  }
  for (const node of document.querySelectorAll(".ll :is(input, button, select, .ll-text)"))
    add(`<${node.className || node.tagName}>`, node, node.getBoundingClientRect());
  boxes.forEach((a, i) => {
    if (a.l < box.left - 1 || a.r > box.right + 1) faults.push(`is cut: ${a.name}`);
    for (const b of boxes.slice(i + 1))
      if (a.l < b.r && b.l < a.r && a.t < b.b && b.t < a.b && !b.node.contains(a.node))
        faults.push(`overlap: ${a.name} / ${b.name}`);
  });
  const { scrollWidth, clientWidth } = document.getElementById("box");
  if (scrollWidth > clientWidth) faults.push(`is ${scrollWidth} px wide`);
  return faults;
}"""
MOVE = """(key) => {
  for (const slider of document.querySelectorAll(".ll input[type=range]")) {
    slider.value = slider[key];
    slider.dispatchEvent(new Event("input"));
  }
  for (const menu of document.querySelectorAll(".ll select")) {
    menu.selectedIndex = key === "max" ? menu.length - 1 : 0;
    menu.dispatchEvent(new Event("change"));
  }
}"""


def shown():
    """The widgets that the notebooks show: (notebook, name, state), with the package's present code."""
    for path in sorted((build.ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, 4)
        build.refresh(notebook, path.stem)
        for model in build.states(notebook).values():
            if model["model_module"] == "anywidget":
                yield path.stem, model["state"]["_anywidget_id"].rpartition(".")[2], model["state"]


SHOWN = list(shown())


def open_widget(chromium, state, width, zoom=1):
    """A page with the widget in a box of this width, and nothing else."""
    page = chromium.new_page(viewport={"width": width, "height": SCREEN}, device_scale_factor=zoom)
    models = json.dumps({"one": {"state": state, "buffers": []}}).replace("<", "\\u003c")
    page.set_content(VIEW.format(width=width, models=models, host=HOST))
    page.locator(".ll").wait_for()
    return page


def test_every_widget_is_shown_by_a_notebook():
    assert {name for _, name, _ in SHOWN} == set(widgets.__all__)


@pytest.mark.browser
@pytest.mark.parametrize("window", WIDTHS)
@pytest.mark.parametrize(("notebook", "name", "state"), SHOWN, ids=[f"{name}-{stem[:2]}" for stem, name, _ in SHOWN])
def test_nothing_is_cut_covered_or_tiny(chromium, notebook, name, state, window):
    page = open_widget(chromium, state, WIDTHS[window], 2 if window == 683 else 1)
    faults = page.evaluate(FAULTS)
    for key in ("min", "max"):  # wherever sliders and menus stand
        page.evaluate(MOVE, key)
        faults += [f"all at {key}: {fault}" for fault in page.evaluate(FAULTS)]
    height = page.locator(".ll").bounding_box()["height"]
    if window == max(WIDTHS) and height > SCREEN:
        faults.append(f"is {height:.0f} px high")
    page.close()
    assert faults == [], "\n".join(dict.fromkeys(faults))


@pytest.mark.browser
def test_a_model_is_chosen_by_keys(chromium):
    page = open_widget(chromium, next(state for _, name, state in SHOWN if name == "ExpertCalculator"), 934)
    menu, sliders = page.locator("select"), page.locator(".ll-slider output")
    own = sliders.all_inner_texts()
    menu.press("ArrowDown")
    menu.press("ArrowDown")
    assert sliders.all_inner_texts() == ["8", "2", own[2], "4096", "14336", own[5]]
    assert "45.1 of 47 billion weights" in page.locator(".ll-menu").inner_text()
    page.get_by_label("chosen k").press("ArrowRight")
    assert menu.input_value() == "own numbers"
    page.close()
