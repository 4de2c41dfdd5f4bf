"""What a computation costs: counted in floating-point operations, and measured in seconds.

The two are shown side by side, because they disagree: work that is counted may be fast, and work that is skipped on
paper may still run.
"""

import platform
import re
import warnings
from collections.abc import Callable
from math import inf, prod
from numbers import Integral
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten


def count_flops(fn: Callable, *args) -> int:
    """Floating-point operations of `fn(*args)`, which is run once.

    Counts matrix products, convolutions and attention, forward and, if `fn` calls it, backward; a multiply-add is 2.
    Element-wise work (activations, softmax, normalisation, outer products) counts 0. Attention under
    a mask, a causal one too, counts in full. What else is more than element-wise is not counted, or
    not as it runs: distances, decompositions, Fourier transforms, quantised, sparse and complex
    products. A UserWarning names it, with its shapes.
    """
    mha, mkldnn = torch.backends.mha, torch.backends.mkldnn
    before = mha.get_fastpath_enabled(), mkldnn.enabled
    mha.set_fastpath_enabled(False)  # one fused operation for a whole encoder layer would hide its products
    mkldnn.enabled = False  # likewise for an LSTM
    try:
        with _Unseen() as unseen, FlopCounterMode(display=False, custom_mapping=_FORMULAS) as mode:
            fn(*args)
    finally:
        mha.set_fastpath_enabled(before[0])
        mkldnn.enabled = before[1]
    if unseen.names:
        names = "; ".join(unseen.names)
        warnings.warn(f"count_flops does not count, or not as it runs: {names}", stacklevel=2)
    return mode.get_total_flops()


class Seconds(float):
    """A measured time: the median in seconds, as a number to calculate with, and the quartiles `low` and `high`."""

    low: float
    high: float

    def __new__(cls, median: float, low: float, high: float):
        seconds = super().__new__(cls, median)
        seconds.low, seconds.high = low, high
        return seconds

    def __getnewargs__(self):  # for pickle and copy
        return float(self), self.low, self.high

    def __repr__(self):
        return f"{1e3 * self:.3g} ms ({1e3 * self.low:.3g} to {1e3 * self.high:.3g})"

    __str__ = __repr__


def wall_time(fn: Callable, *args, min_seconds: float = 0.2) -> Seconds:
    """Seconds that `fn(*args)` takes: the median of repeated runs after a warm-up, with its quartiles as spread.

    Args:
        min_seconds: how long to repeat, at least. Compare times only within one run of one machine.

    Waits for the GPU, where there is one, and runs with the number of threads that torch has now.
    """
    if not min_seconds > 0:
        raise ValueError(f"min_seconds must be > 0, got {min_seconds!r}")
    # torch.utils.benchmark would do, but where CUDA finds no GPU its import complains on stderr
    wait = torch.accelerator.synchronize if torch.accelerator.is_available() else lambda: None

    def seconds(calls: int) -> float:
        wait()
        start = perf_counter()
        for _ in range(calls):
            fn(*args)
        wait()
        return perf_counter() - start

    seconds(2)  # warm-up: allocations, caches, lazily loaded kernels
    calls = 1
    while (first := seconds(calls)) < max(1e-3 * min_seconds, 1e-4):  # long enough for the clock
        calls *= 10
    times = [first]
    while sum(times) < min_seconds:
        times.append(seconds(calls))
    times = np.divide(times, calls)
    low, median, high = np.quantile(times, [0.25, 0.5, 0.75]).tolist()
    return Seconds(median, low, high)


class Machine(NamedTuple):
    """What a machine does at best: FLOPs and bytes in a second. Bytes read and bytes written count alike."""

    matmul_rate: float
    copy_rate: float


@torch.no_grad()
def measure_machine(
    *, size: int = 2048, megabytes: int = 128, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Machine:
    """The rates of this machine, with the number of threads that torch has now; takes two seconds or so.

    Best is what the best of three measurements reaches: other programs can only make it slower.

    Args:
        size: of the largest square matrices whose product is timed; half and a quarter of it may be faster.
        megabytes: of the tensor that is copied; what fits into a cache is faster than memory.
    """
    for name, value in {"size": size, "megabytes": megabytes}.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    sides = [max(1, size // part) for part in (1, 2, 4)]
    square = {n: [torch.rand(n, n, device=device).to(dtype) for _ in range(2)] for n in sides}
    source = torch.ones(megabytes * 10**6 // dtype.itemsize, dtype=dtype, device=device)
    target = torch.empty_like(source)
    rates = (2 * n**3 / wall_time(torch.mm, *square[n], min_seconds=0.1).low for n in sides * 3)
    copy = min(wall_time(target.copy_, source, min_seconds=0.1).low for _ in range(3))
    return Machine(max(rates), 2 * source.numel() * dtype.itemsize / copy)


class Bound(NamedTuple):
    """The least time of a computation: seconds to calculate and seconds to move the bytes, which may overlap."""

    compute: float
    memory: float

    @property
    def seconds(self) -> float:
        return max(self)

    @property
    def binds(self) -> str:
        """The longer of the two, by name. More of the other would come for free."""
        return "compute" if self.compute >= self.memory else "memory"


def processor() -> str:
    """The processor's name, which Linux keeps in a file."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def roofline(flops: float, n_bytes: float, machine: Machine) -> Bound:
    """No computation is faster than max(flops / matmul_rate, n_bytes / copy_rate) seconds.

    The two are equal at an intensity, flops / n_bytes, of matmul_rate / copy_rate: below it memory binds.

    Args:
        flops: see `count_flops`.
        n_bytes: read and written, each operand and result once; what is moved again counts again.
        machine: see `measure_machine`.

    Source: Williams, Waterman, Patterson 2009, Roofline: an insightful visual performance model.
    """
    for name, value in {"flops": flops, "n_bytes": n_bytes}.items():
        if not 0 <= value < inf:
            raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")
    for name, value in zip(Machine._fields, machine, strict=True):
        if not 0 < value < inf:
            raise ValueError(f"{name} of the machine must be a finite number > 0, got {value!r}")
    return Bound(flops / machine.matmul_rate, n_bytes / machine.copy_rate)


class _Unseen(TorchDispatchMode):
    """Notes work that is more than element-wise and has no formula, or none that fits."""

    heavy = r"mm|mv|dot|linear_|linalg|conv|dist|rnn|lstm|gru|attention|fft|cholesky|triangular|_exp$"
    light = "check_errors", "prepack", "cross", "vector_norm"

    def __init__(self):
        super().__init__()
        self.names: dict[str, bool] = {}  # a set that keeps its order

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out, packet = func(*args, **(kwargs or {})), func._overloadpacket
        tensors = [x for x in tree_leaves((args, out)) if isinstance(x, Tensor)]
        if re.search(self.heavy, packet.__name__) and not packet.__name__.endswith(self.light):
            dense = all(x.layout == torch.strided and not x.is_quantized for x in tensors)
            odd = not dense or any(x.is_complex() for x in tensors)
            if odd or (packet not in _FORMULAS and packet not in flop_counter.flop_registry):
                self.names[f"{packet} of {', '.join(str(tuple(x.shape)) for x in tensors)}"] = True
        return out


# torch's counter has no formula for these, and would count 0. Arguments are shapes, unless marked as raw tensors.


def _attention(query, key, value, *args, out_shape=None, **kwargs) -> int:
    return flop_counter.sdpa_flop_count(query, key, value)


def _attention_backward(grad, query, key, value, *args, out_shape=None, **kwargs) -> int:
    return flop_counter.sdpa_backward_flop_count(grad, query, key, value)


def _grouped_mm(a: Tensor, b: Tensor, offs: Tensor | None = None, *args, out_val=None, **kwargs) -> int:
    """Products of groups, cut out of a, b or both by the ends `offs`: what lies behind the last end is not computed."""
    if a.ndim == b.ndim == 3:  # (E, M, K) @ (E, K, N)
        return 2 * prod(a.shape) * b.shape[-1]
    end = int(offs[-1])
    if b.ndim == 3:  # rows of a are grouped: (M, K) @ (E, K, N)
        return 2 * end * prod(b.shape[1:])
    if a.ndim == 3:  # columns of b are grouped: (E, M, K) @ (K, N)
        return 2 * end * prod(a.shape[1:])
    return 2 * end * a.shape[0] * b.shape[1]  # the inner dimension is grouped: (M, K) @ (K, N) -> (E, M, N)


def _vector_product(*shapes, out_shape=None, **kwargs) -> int:
    return 2 * max(prod(shape) for shape in shapes if isinstance(shape, torch.Size))


def _product(*shapes, out_shape=None, **kwargs) -> int:
    """(..., M, K) @ (..., K, N), perhaps added to what stands before them."""
    *_, a, b = (shape for shape in shapes if isinstance(shape, torch.Size))
    return 2 * prod(a) * b[-1]


def _trilinear(a, b, c, expand_a, expand_b, expand_c, *args, out_shape=None, **kwargs) -> int:
    """Σ a b c over some dimensions, after each got dimensions of 1 at the places `expand`."""
    shapes = [list(shape) for shape in (a, b, c)]
    for shape, places in zip(shapes, (expand_a, expand_b, expand_c), strict=True):
        for place in sorted(places):
            shape.insert(place, 1)
    return 2 * prod(map(max, zip(*shapes, strict=True)))


_grouped_mm._get_raw = True
_FORMULAS = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten._grouped_mm: _grouped_mm,
    aten.mv: _vector_product,
    aten.addmv: _vector_product,
    aten.dot: _vector_product,
    aten.vdot: _vector_product,
    aten._trilinear: _trilinear,
    aten.addbmm: _product,
    aten._int_mm: _product,
}
