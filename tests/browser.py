"""A Chromium or Chrome browser for tests marked `browser`, with nothing that it could reach."""

import contextlib

import pytest

from lecture_lib.slides import handout

ARGUMENTS = handout.ARGUMENTS


def find_browser() -> str:
    """Path of the browser; skips the test where there is none."""
    try:
        return handout.find_browser()
    except handout.BrowserError as error:
        pytest.skip(str(error))


@contextlib.contextmanager
def launch(reachable: str = ""):
    """A running browser (playwright's). No host name resolves in it but `reachable`, such as "127.0.0.1"."""
    try:
        with handout.launch(reachable) as running:
            yield running
    except handout.BrowserError as error:
        pytest.skip(str(error))
