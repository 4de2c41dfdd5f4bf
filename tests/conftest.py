"""Fixtures that several test files share."""

import browser
import pytest


@pytest.fixture(scope="session")
def chromium():
    """A browser with no network; skips where none is installed."""
    with browser.launch() as running:
        yield running
