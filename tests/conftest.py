"""Fixtures that several test files share."""

import browser
import pytest
import torch

# each is run by one process: what its tests share takes long to make, or cannot be there twice
TOGETHER = {"test_colab.py", "test_expert_parallel.py", "test_lab.py", "test_train_moe.py"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """What a process that is free gets: a file of TOGETHER, all tests of a deck, at last the others one by one."""
    from xdist.scheduler import LoadScopeScheduling  # which begins with the scopes of many tests

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, _, test = nodeid.rpartition("/")[2].partition("::")
            if file == "test_slides.py" and "[" in test:
                return test[test.index("[") :]
            return file if file in TOGETHER else nodeid

    return Scheduler(config, log)


@pytest.fixture(scope="session")
def chromium():
    """A browser with no network; skips where none is installed."""
    with browser.launch() as running:
        yield running


@pytest.fixture(autouse=True)
def the_same_numbers_every_time():
    """Each test draws from torch's global generator as if it were the first."""
    torch.manual_seed(0)
