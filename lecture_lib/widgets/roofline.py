"""Experts under a roofline."""

from lecture_lib.widgets.base import fallback, module
from lecture_lib.widgets.measured import ABOVE_0, SETTINGS, Measured, Stop


class Roofline(Measured):
    """A layer of experts under the roof of the machine that it was measured on; a slider over the number of experts.

    Rates against intensity, one mark for each number of tokens, with the roof: no computation is faster than its FLOPs
    and its bytes allow. Beside it the time to calculate, the time to move the bytes, and the time that was measured.

    Args:
        machine: FLOPs a second and bytes a second, as `measure_machine` returns them.
        counts: S ascending numbers of experts, the slider's stops.
        tokens: 2 or 3 ascending numbers of tokens, T of them.
        flops: (T,) of a forward pass, whatever the number of experts.
        n_bytes: (S, T) read and written.
        seconds: (S, T) measured.
        count: where the slider stands, and follows it; the first if None.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given.
    """

    _esm = module("measured", "roofline")
    count = Stop("counts")

    def __init__(self, machine, counts, tokens, flops, n_bytes, seconds, *, count=None):
        machine = self._array("machine", machine, (2,), "two numbers above 0: FLOPs and bytes a second", ABOVE_0)
        allowed = "2 to 101 ascending numbers of at least 1"
        counts = self._ascending("counts", counts, (SETTINGS,), allowed, low=1).tolist()
        tokens = self._ascending("tokens", tokens, (range(2, 4),), "2 or 3 ascending numbers of at least 1", low=1)
        allowed = f"{len(tokens)} numbers above 0, one for each number of tokens"
        flops = self._array("flops", flops, (len(tokens),), allowed, ABOVE_0)
        data = {"machine": machine.tolist(), "counts": counts, "tokens": tokens.tolist(), "flops": flops.tolist()}
        for name, values in {"n_bytes": n_bytes, "seconds": seconds}.items():
            allowed = f"numbers above 0, {len(counts)} rows of {len(tokens)}"
            array = self._array(name, values, (len(counts), len(tokens)), allowed, ABOVE_0)
            data[name.removeprefix("n_")] = array.tolist()
        super().__init__(_data=data, count=counts[0] if count is None else count)

    def __repr__(self) -> str:
        return f"Roofline({len(self._data['counts'])} numbers of experts, {len(self._data['tokens'])} of tokens)"

    def _fallback(self) -> str:
        data = self._data
        names = ("experts", *(f"{n:,.0f} tokens" for n in data["tokens"]))
        rows = []
        for count, moved, times in zip(data["counts"], data["bytes"], data["seconds"], strict=True):
            rows.append([f"{count:.4g}"])
            for flops, n_bytes, seconds in zip(data["flops"], moved, times, strict=True):
                binds = "compute" if flops / data["machine"][0] >= n_bytes / data["machine"][1] else "memory"
                rows[-1].append(f"{flops / seconds / 1e9:.3g} GFLOP/s, {binds} binds")
        return fallback("picture of experts under a roofline", "", names, rows)
