"""Handouts: a deck as PDF, a page for each slide, printed by a Chromium or Chrome browser with no network."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]
PLACES = [
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class BrowserError(RuntimeError):
    """There is no browser, or nothing to drive it: one line that says what to install."""


def find_browser() -> str:
    """Path of the browser: the variable CHROMIUM, else the first found.

    Raises:
        BrowserError: none is found, or CHROMIUM names none.
    """
    if path := os.environ.get("CHROMIUM"):
        if found := shutil.which(path):
            return found
        raise BrowserError(f"CHROMIUM must be the path of a browser, got {path!r}, which cannot be run")
    found = [shutil.which(name) for name in NAMES] + [place for place in PLACES if Path(place).exists()]
    if path := next(filter(None, found), None):
        return path
    raise BrowserError(
        "no Chromium or Chrome found: install one (Debian: apt install chromium) or set CHROMIUM to its path"
    )


@contextlib.contextmanager
def launch(reachable: str = "") -> Iterator:
    """A running browser (playwright's). No host name resolves in it but `reachable`, such as "127.0.0.1".

    Raises:
        BrowserError: playwright or the browser is missing.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise BrowserError("no playwright: pip install playwright") from None
    rules = "MAP * ~NOTFOUND" + (f", EXCLUDE {reachable}" if reachable else "")
    path = find_browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS, f"--host-resolver-rules={rules}"])
        yield browser
        browser.close()


def write_handout(browser, deck: Path) -> Path:
    """Prints DECK.html to DECK.pdf beside it: tagged, with the headings as outline; widgets as they are at first."""
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto(deck.resolve().as_uri() + "?print-pdf")
    page.wait_for_selector(".pdf-page")
    path = deck.with_suffix(".pdf")
    page.pdf(path=path, prefer_css_page_size=True, print_background=True, tagged=True, outline=True)
    page.close()
    return path
