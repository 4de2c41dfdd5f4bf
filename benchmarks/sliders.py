"""From a slider's movement to the redrawn picture, in the decks, in a browser: milliseconds of 95 % of the redraws."""

import sys
import tempfile
from pathlib import Path

import nbformat
import pytest

from lecture_lib.slides import LiveSlidesExporter

ROOT = Path(__file__).parent.parent
FRAME_MS = 1000 / 60
# of a slider: 95 % of 60 redraws take at most so many milliseconds
REDRAW_MS = """async (slider) => {
  const times = [];
  for (let k = 0; k < 60; k++) {
    slider.value = Number(slider.min) + (slider.max - slider.min) * k / 59;
    const start = performance.now();
    slider.dispatchEvent(new Event("input", {bubbles: true}));
    slider.closest(".widget").getBoundingClientRect(); // waits for the layout
    times.push(performance.now() - start);
    await new Promise(requestAnimationFrame);
  }
  return times.sort((a, b) => a - b)[56];
}"""


def latency() -> list[dict]:
    """One row, for the slowest slider; none, with the reason, where there is no browser."""
    sys.path.append(str(ROOT / "tests"))
    from browser import launch

    try:
        with launch() as chromium:
            paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
            times = [pair for path in paths for pair in _deck(chromium, path)]
    except pytest.skip.Exception as reason:
        print(f"sliders left out: {reason}")
        return []
    name, slowest = max(times, key=lambda pair: pair[1])
    row = {"ms": round(slowest, 2), "against_ms": round(FRAME_MS, 2), "ratio": round(slowest / FRAME_MS, 3)}
    what = f"redraw, p95, slowest of {len(times)} sliders (notebook {name})"
    return [{"what": what, "against": "one frame", **row, "limit": 1.0}]


def _deck(chromium, path: Path) -> list[tuple[str, float]]:
    context = chromium.new_context(viewport={"width": 1280, "height": 720}, offline=True)
    page = context.new_page()
    html, _ = LiveSlidesExporter().from_notebook_node(nbformat.read(path, 4), {"metadata": {"name": path.stem}})
    with tempfile.TemporaryDirectory() as folder:
        deck = Path(folder) / "deck.html"
        deck.write_text(html, "utf-8")
        page.goto(deck.as_uri())
    page.wait_for_function("window.Reveal?.isReady()")
    times = []
    for h, v in page.evaluate("Reveal.getSlides().map((s) => [Reveal.getIndices(s).h, Reveal.getIndices(s).v ?? 0])"):
        page.evaluate("([h, v]) => Reveal.slide(h, v, 99)", [h, v])
        for slider in page.locator("section.present:not(.stack) input[type=range]").all():
            times.append((path.stem[:2], min(slider.evaluate(REDRAW_MS) for _ in range(2))))
    context.close()
    return times
