"""Opens a deck in a browser, where there is one, and reads what went wrong there: look.js tells it to `?look`."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from lecture_lib.slides.handout import BrowserError, launch
from lecture_lib.slides.page import Said

NO_BROWSER = 3  # status


def look(page: str, wrong: Said, warned: Said) -> None:
    """Adds to `wrong` what a deck asks of the network, to `warned` what did not fit, was not set, or did not run.

    The browser runs in a process of its own: playwright bears no event loop around it, and a notebook is one.
    """
    with tempfile.TemporaryDirectory() as folder:
        deck = Path(folder) / "deck.html"
        deck.write_text(page, "utf-8")
        command = [sys.executable, "-m", "lecture_lib.slides.look", str(deck)]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    reason = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
    if done.returncode == NO_BROWSER:
        warned[0].append(f"not opened in a browser, so nothing is known of what fits, and of mathematics: {reason}")
        return
    if done.returncode != 0:
        wrong[0].append(f"the deck does not start in a browser: {reason}")
        return
    for found in json.loads(done.stdout):
        to = wrong if found["kind"] == "fetch" else warned
        to[found["cell"]].append(f"slide {found['slide']}: {found['what']}" if found["slide"] else found["what"])


def main(deck: Path) -> None:
    """Prints what a deck reports, as JSON."""
    try:
        with launch() as browser:
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.goto(f"{deck.as_uri()}?look")
            print(page.locator("#report").text_content(timeout=60_000))
    except BrowserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(NO_BROWSER) from None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
