"""Opens a deck in a browser, where there is one, and reads what went wrong there: deck.js tells it to `?look`."""

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lecture_lib.slides.handout import BrowserError, launch
from lecture_lib.slides.page import Said


def look(page: str, wrong: Said, warned: Said) -> None:
    """Adds to `wrong` what a deck asks of the network, to `warned` what did not fit, was not set, or did not run.

    The browser has a thread of its own: playwright bears no event loop around it, and a notebook is one.
    """
    with ThreadPoolExecutor(1) as thread:
        try:
            found = thread.submit(_report, page).result()
        except BrowserError as error:
            warned[0].append(f"not opened in a browser, so nothing is known of what fits, and of mathematics: {error}")
            return
    if found is None:
        wrong[0].append("opened in a browser, the deck does not start within a minute")
    for one in found or []:
        said = (wrong if one["kind"] == "fetch" else warned)[one["cell"]]
        said.append(f"slide {one['slide']}: {one['what']}" if one["slide"] else one["what"])


def _report(page: str) -> list[dict] | None:
    """What a deck reports; None where it does not."""
    with tempfile.TemporaryDirectory() as folder, launch() as browser:
        from playwright.sync_api import TimeoutError  # `launch` says so where it is not installed

        deck = Path(folder) / "deck.html"
        deck.write_text(page, "utf-8")
        tab = browser.new_page(viewport={"width": 1280, "height": 720})
        tab.goto(f"{deck.as_uri()}?look")
        try:
            return json.loads(tab.locator("#report").text_content(timeout=60_000))
        except TimeoutError:
            return None
