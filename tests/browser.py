"""A Chromium or Chrome browser for tests marked `browser`, with nothing that it could reach."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest

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


def find_browser() -> str:
    """Path of the browser: the variable CHROMIUM, else the first found; skips the test where there is none."""
    if path := os.environ.get("CHROMIUM"):
        return path
    found = [shutil.which(name) for name in NAMES] + [place for place in PLACES if Path(place).exists()]
    path = next(filter(None, found), None)
    if path is None:
        pytest.skip(
            "no Chromium or Chrome found: install one (Debian: apt install chromium) or set CHROMIUM to its path"
        )
    return path


@contextlib.contextmanager
def launch(reachable: str = ""):
    """A running browser (playwright's). No host name resolves in it but `reachable`, such as "127.0.0.1"."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    rules = "MAP * ~NOTFOUND" + (f", EXCLUDE {reachable}" if reachable else "")
    path = find_browser()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS, f"--host-resolver-rules={rules}"])
        yield browser
        browser.close()
