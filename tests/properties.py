"""What the properties share: how many examples, strategies, references. The tests are in test_properties_*.py.

The inputs are the same in every run; PROPERTIES=1000 draws a thousand new ones for each test. "The same" hangs on a
test's source: one that is moved or edited draws others.
"""

import inspect
import math
import os
import re

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

QUIET = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much]}
settings.register_profile("same", derandomize=True, max_examples=25, database=None, **QUIET)
settings.register_profile("search", max_examples=int(os.environ.get("PROPERTIES", 25)), **QUIET)
settings.load_profile("search" if "PROPERTIES" in os.environ else "same")

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
SEEDS = st.integers(0, 2**32 - 1)
NO_NUMBER = st.sampled_from([0, -1, math.nan, math.inf, "1", None])  # what no temperature, share or number of them is
OPTIONS, LEAD = st.integers(1, 6), st.lists(st.integers(0, 3), max_size=2)
BATCHES, SOME = st.sampled_from([0, 1, 3]), st.integers(1, 4)
TEMPERATURES = st.sampled_from([1e-300, 1e-46, 1e-3, 0.5, 1, 10.0, 1e39, 1e300])


def correct_or_clear(fn, *args, **options):
    """What fn gives, or None where it refuses an argument by an error that names it."""
    try:
        return fn(*args, **options)
    except (ValueError, TypeError, IndexError) as error:
        names = inspect.signature(fn).parameters
        assert any(re.search(rf"\b{name}\b", str(error)) for name in names), f"names none of {list(names)}: {error}"
        return None


def refuses(name, fn, *args, **options):
    with pytest.raises((ValueError, TypeError, IndexError), match=rf"\b{name}\b"):
        fn(*args, **options)


def rng(seed):
    return torch.Generator().manual_seed(seed)


def normal(seed, *shape, dtype=torch.float64):
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64).to(dtype)


def unwanted(s):
    """Is there an option that every row forbids? Then no plan shares the options out."""
    return bool(s.numel() and s.isneginf().reshape(-1, s.shape[-1]).all(0).any())


def close(got, wanted, times=16):
    """Equal up to so many roundings in the dtype of the first."""
    tolerance = times * torch.finfo(got.dtype).eps
    torch.testing.assert_close(got.double(), wanted.double(), atol=tolerance, rtol=tolerance)


def gradient(fn, at):
    """Of a sum of fn(at) with different weights, with respect to `at`: 0 where none is attached."""
    leaf = at.detach().clone().requires_grad_()
    y = fn(leaf).double()
    loss = (y * torch.linspace(-1, 2, y.numel() + 1, dtype=torch.float64)[1:].reshape(y.shape)).sum()
    return torch.autograd.grad(loss, leaf)[0] if y.requires_grad else torch.zeros_like(leaf)


@st.composite
def scores(draw, k=OPTIONS, lead=LEAD, dtypes=DTYPES, huge=True):
    """Scores (..., K): ordinary, with ties, far apart, as large as the dtype allows; often with forbidden options."""
    shape, dtype, seed = (*draw(lead), draw(k)), draw(st.sampled_from(dtypes)), draw(SEEDS)
    s = normal(seed, *shape)
    kinds = {"normal": s, "ties": s.round(), "wide": 50 * s, "huge": s.sign() * torch.finfo(dtype).max}
    s = kinds[draw(st.sampled_from(list(kinds)[: 4 if huge else 3]))].to(dtype)
    if draw(st.booleans()):
        allowed = torch.rand(shape, generator=rng(seed)) < 0.5
        s = s.masked_fill(~(allowed | (s == s.amax(-1, keepdim=True))), -torch.inf) if s.shape[-1] else s
    return s
