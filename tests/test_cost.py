"""Counted FLOPs against numbers worked out by hand; measured seconds."""

import copy
import pickle
import subprocess
import sys
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lecture_lib.cost import Machine, Seconds, count_flops, measure_machine, roofline, wall_time
from lecture_lib.models import Transformer

B, H, T, S, D = 2, 3, 5, 7, 8  # batch, heads, queries, keys, width of a head


def backward(fn):
    return lambda *args: fn(*args).square().sum().backward()


def test_matrix_products():
    x = torch.randn(10, 8)
    assert count_flops(nn.Linear(8, 6), x) == 2 * 10 * 8 * 6
    assert count_flops(torch.mv, x, torch.randn(8)) == 2 * 10 * 8
    assert count_flops(torch.dot, torch.randn(8), torch.randn(8)) == 2 * 8
    # backward: the gradient of the weight and, as x wants none, not of x
    assert count_flops(backward(nn.Linear(8, 6)), x) == 2 * (2 * 10 * 8 * 6)


def test_convolution():
    assert count_flops(nn.Conv2d(3, 4, 3, padding=1), torch.randn(B, 3, 8, 8)) == 2 * B * 8 * 8 * 4 * 3 * 3 * 3


@pytest.mark.parametrize("mask", [None, torch.ones(T, S, dtype=torch.bool)], ids=["full", "masked"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention(mask, dtype):
    q, k, v = (torch.randn(B, H, n, D, dtype=dtype, requires_grad=True) for n in (T, S, S))
    product = 2 * B * H * T * S * D
    assert count_flops(F.scaled_dot_product_attention, q, k, v, mask) == 2 * product
    # backward: two products each for the scores and the values, and the scores once more
    assert count_flops(backward(lambda: F.scaled_dot_product_attention(q, k, v, mask))) == (2 + 5) * product


def test_grouped_products():
    x, w = torch.randn(16, 8, requires_grad=True), torch.randn(3, 8, 4, requires_grad=True)
    ends = torch.tensor([4, 4, 12], dtype=torch.int32)  # 4 rows, none, 8 rows; the last 4 belong to no group
    forward = 2 * 12 * 8 * 4
    assert count_flops(lambda: F.grouped_mm(x, w, offs=ends)) == forward
    assert count_flops(lambda: F.grouped_mm(torch.randn(3, 5, 8), w)) == 2 * 3 * 5 * 8 * 4
    inner = torch.tensor([4, 8, 16], dtype=torch.int32)
    assert count_flops(lambda: F.grouped_mm(torch.randn(4, 16), torch.randn(16, 12), offs=inner)) == 2 * 4 * 16 * 12
    columns = torch.tensor([4, 8, 12], dtype=torch.int32)
    assert count_flops(lambda: F.grouped_mm(torch.randn(3, 5, 8), torch.randn(8, 12), offs=columns)) == 2 * 5 * 8 * 12
    assert count_flops(backward(lambda: F.grouped_mm(x, w, offs=ends)[:12])) == 3 * forward


@torch.no_grad()
def test_fused_layers_are_not_missed():
    x = torch.randn(B, T, D)
    layer = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True).eval()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    assert count_flops(layer, x) == 2 * B * T * (4 * D * D + 2 * D * 16) + 2 * (2 * B * T * T * D)
    assert count_flops(nn.LSTM(D, 4, batch_first=True), x) == 2 * B * T * (D + 4) * (4 * 4)
    assert torch.backends.mha.get_fastpath_enabled() == fast_path and torch.backends.mkldnn.enabled


def test_our_transformer():
    per_layer = 2 * B * T * 12 * D * D + 2 * (2 * B * T * T * D)
    assert count_flops(Transformer(D, 2, n_layers=3), torch.randn(B, T, D)) == 3 * per_layer


def test_settings_are_restored_after_an_error():
    with pytest.raises(ZeroDivisionError):
        count_flops(lambda: 1 / 0)
    assert torch.backends.mha.get_fastpath_enabled() and torch.backends.mkldnn.enabled


def test_wall_time_is_a_number_of_seconds_with_a_spread():
    seconds = wall_time(time.sleep, 0.01, min_seconds=0.1)
    assert 0.01 <= seconds.low <= seconds <= seconds.high
    assert seconds / 2 < seconds  # a float like any other
    assert "ms (" in str(seconds)
    with pytest.raises(ValueError, match="min_seconds must be > 0, got 0"):
        wall_time(time.sleep, 0.01, min_seconds=0)


def test_wall_time_is_the_median_of_one_call_after_a_warm_up(monkeypatch):
    """On a clock that goes on when the function says so: the first runs are slow, and now and then one is."""
    now, calls = [0.0], []

    def work(seconds):
        calls.append(seconds)
        now[0] += seconds * (1000 if len(calls) in (1, 2) else 20 if len(calls) % 50 == 0 else 1)

    monkeypatch.setattr("lecture_lib.cost.perf_counter", lambda: now[0])
    assert wall_time(work, 0.01, min_seconds=5) == pytest.approx(0.01) and now[0] > 5
    calls.clear()
    now[0] = 0.0
    short = wall_time(work, 1e-7, min_seconds=0.01)  # many calls in one measurement, so that a clock can tell
    assert short == pytest.approx(1.38e-7) and 0.01 < now[0] < 0.02


def test_wall_time_runs_a_long_job_three_times(monkeypatch):
    """Two warm-ups, and the run that it calibrates by is the measurement."""
    now, calls = [0.0], []

    def work():
        calls.append(None)
        now[0] += 3.0

    monkeypatch.setattr("lecture_lib.cost.perf_counter", lambda: now[0])
    assert wall_time(work, min_seconds=1) == 3.0 and len(calls) == 3


def test_wall_time_needs_nothing_that_complains_where_there_is_no_gpu():
    """torch.utils.benchmark imports cpp_extension, which writes to stderr where CUDA finds no GPU, as in Colab."""
    code = "import sys; from lecture_lib import cost; cost.wall_time(abs, 1, min_seconds=1e-3); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch.utils.cpp_extension" not in done.stdout.split() and done.stderr == ""


MACHINE = Machine(matmul_rate=1e9, copy_rate=1e8)  # calculates while ten times fewer bytes move: a ridge at 10


@pytest.mark.parametrize(
    ("flops", "n_bytes", "seconds", "binds"),
    [(2e9, 1e7, 2, "compute"), (1e8, 5e7, 0.5, "memory"), (1e9, 1e8, 1, "compute"), (0, 1e8, 1, "memory")],
)
def test_the_slower_of_calculating_and_moving_is_the_bound(flops, n_bytes, seconds, binds):
    bound = roofline(flops, n_bytes, MACHINE)
    assert bound == (flops / 1e9, n_bytes / 1e8)
    assert (bound.seconds, bound.binds) == (seconds, binds)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 1, MACHINE), "flops must be a finite number of at least 0, got -1"),
        ((1, float("nan"), MACHINE), "n_bytes must be a finite number of at least 0, got nan"),
        ((1, 1, Machine(0, 1)), "matmul_rate of the machine must be a finite number > 0, got 0"),
        ((1, 1, Machine(1, float("inf"))), "copy_rate of the machine must be a finite number > 0, got inf"),
    ],
)
def test_roofline_refuses_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        roofline(*arguments)


def test_no_product_beats_the_measured_machine_by_much():
    a, b = torch.rand(512, 512), torch.rand(512, 512)
    for _ in range(5):  # a machine that others use just now is measured too slow: then once more
        machine = measure_machine(size=512, megabytes=16)
        if wall_time(torch.mm, a, b) > 0.5 * roofline(2 * 512**3, 4 * 3 * 512**2, machine).seconds:
            break
    else:
        pytest.fail("five times, a product took less than half of what the measured machine needs")
    assert 1e7 < machine.copy_rate and 1e7 < machine.matmul_rate
    with pytest.raises(ValueError, match="size must be an integer of at least 1, got 0"):
        measure_machine(size=0)
    with pytest.raises(ValueError, match=r"megabytes must be an integer of at least 1, got 0\.5"):
        measure_machine(megabytes=0.5)


X, Y = torch.ones(5, 7), torch.ones(7, 5)
PRODUCTS = {  # FLOPs by hand
    "bilinear": (lambda: nn.Bilinear(7, 6, 3)(X, torch.ones(5, 6)), 2 * 5 * 3 * 7 * 6),
    "bilinear of one": (lambda: nn.Bilinear(7, 6, 3)(X[0], torch.ones(6)), 2 * 3 * 7 * 6),
    "addbmm": (lambda: torch.addbmm(torch.zeros(5, 5), X.expand(3, 5, 7), Y.expand(3, 7, 5)), 2 * 3 * 5 * 7 * 5),
    "baddbmm": (lambda: torch.baddbmm(torch.zeros(1, 5, 5), X[None], Y[None]), 2 * 5 * 7 * 5),
    "vdot": (lambda: torch.vdot(X[0], X[1]), 2 * 7),
    "integers": (lambda: torch._int_mm(*[torch.ones(32, 32, dtype=torch.int8)] * 2), 2 * 32**3),
    "einsum": (lambda: torch.einsum("ij,jk->ik", X, Y), 2 * 5 * 7 * 5),
    "outer, element-wise": (lambda: torch.outer(X[0], X[1]), 0),
    "a norm, element-wise": (lambda: torch.cosine_similarity(X, X), 0),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_every_product_counts(name):
    run, flops = PRODUCTS[name]
    assert count_flops(run) == flops


def test_both_gradients_of_a_bilinear_layer_count():
    layer, x = nn.Bilinear(7, 6, 3), X.clone().requires_grad_()
    forward = 2 * 5 * 3 * 7 * 6
    assert count_flops(lambda: layer(x, torch.ones(5, 6)).sum().backward()) >= 2 * forward


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda: torch.cdist(X, X), r"_cdist_forward of \(5, 7\), \(5, 7\)"),
        (lambda: torch.cdist(torch.ones(30, 7), torch.ones(30, 7)), r"_euclidean_dist of \(30, 7\)"),
        (lambda: X.to_sparse() @ Y, r"mm of \(5, 7\), \(7, 5\)"),
        (lambda: torch.sparse.mm(X.to_sparse(), Y), r"_sparse_addmm of"),
        (lambda: X.cfloat() @ Y.cfloat(), r"mm of \(5, 7\), \(7, 5\)"),
        (lambda: torch.linalg.svd(X), r"_linalg_svd of \(5, 7\)"),
        (lambda: torch.fft.fft(X), r"_fft_r2c of \(5, 7\)"),
    ],
)
def test_what_is_not_counted_is_named_with_its_shapes(run, said):
    with pytest.warns(UserWarning, match=f"count_flops does not count, or not as it runs: aten.{said}"):
        count_flops(run)


def test_a_measured_time_survives_pickle_and_copy():
    seconds = Seconds(2e-3, 1e-3, 3e-3)
    for same in (pickle.loads(pickle.dumps(seconds)), copy.copy(seconds), copy.deepcopy(seconds)):
        assert (same, same.low, same.high, repr(same)) == (seconds, 1e-3, 3e-3, repr(seconds))
