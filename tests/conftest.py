"""Fixtures that several test files share."""

import browser
import pytest
import torch


@pytest.fixture(scope="session")
def chromium():
    """A browser with no network; skips where none is installed."""
    with browser.launch() as running:
        yield running


@pytest.fixture(autouse=True)
def the_same_numbers_every_time():
    """Each test draws from torch's global generator as if it were the first."""
    torch.manual_seed(0)
