"""Interactive pictures of what a notebook measured: its data are given once, checked, and stay as they are.

Where a choice moves, it moves over settings that were measured: nothing is interpolated.
"""

import base64
import html
import math

import numpy as np
import traitlets

from lecture_lib.widgets.base import Checked, Widget, finite, module, style

_SETTINGS = range(2, 102)  # how many stops a slider may have
_SHARES = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 1)  # thresholds, closer towards 1
_ABOVE_0 = 5e-324  # the smallest positive number
_FLOAT32 = float(np.finfo(np.float32).max)


class _Measured(Widget):
    """What these widgets share: the data, as the module gets them, and their checks."""

    _css = style("measured")
    _data = traitlets.Dict().tag(sync=True)

    @classmethod
    def _error(cls, name: str, allowed: str, given: str) -> traitlets.TraitError:
        return traitlets.TraitError(f"{cls.__name__}: {name} must be {allowed}, and is {given}")

    @classmethod
    def _array(cls, name: str, values, lengths: tuple, allowed: str, low=-math.inf, high=math.inf) -> np.ndarray:
        """`values` as finite numbers from `low` to `high`; `lengths`: per dimension one, or a range."""
        try:
            array = np.asarray(values, dtype=float)
        except (TypeError, ValueError, OverflowError, RuntimeError):  # torch raises the last
            raise cls._error(name, allowed, _short(repr(values))) from None
        shape = [range(n, n + 1) if isinstance(n, int) else n for n in lengths]
        if array.ndim != len(shape) or not all(n in some for n, some in zip(array.shape, shape, strict=True)):
            raise cls._error(name, allowed, f"of shape {array.shape}")
        if not (np.isfinite(array) & (low <= array) & (array <= high)).all():
            raise cls._error(name, allowed, f"from {array.min():.6g} to {array.max():.6g}")
        return array

    @classmethod
    def _ascending(cls, name: str, values, lengths: tuple, allowed: str, **limits) -> np.ndarray:
        array = cls._array(name, values, lengths, allowed, **limits)
        if not (np.diff(array) > 0).all():
            raise cls._error(name, allowed, _short(str(array.tolist())))
        return array

    @classmethod
    def _booleans(cls, name: str, values, lengths: tuple, allowed: str) -> np.ndarray:
        array = cls._array(name, values, lengths, allowed, 0, 1)
        if not np.isin(array, (0, 1)).all():
            raise cls._error(name, allowed, "neither 0 nor 1 in some places")
        return array.astype(bool)

    @classmethod
    def _stop(cls, name: str, stops: list[float], given: float) -> float:
        """The stop of a slider that `given` is."""
        nearest = min(stops, key=lambda stop: abs(stop - given))
        if not math.isclose(nearest, given, rel_tol=1e-6):
            raise cls._error(name, f"one of the {name}s, {_short(str(stops))}", str(given))
        return nearest

    @classmethod
    def _text(cls, name: str, value) -> str:
        if not isinstance(value, str) or not value.strip():
            raise cls._error(name, "a text that is not empty", _short(repr(value)))
        return value


class _Tradeoff(_Measured):
    """Accuracy against cost at each setting; the slider goes from setting to setting."""

    setting = Checked(0.0, finite, "one of the settings")

    def __init__(self, settings, milliseconds, full, control, setting, **data):
        """The cost of each setting is in `data`, or follows from it."""
        allowed = "three numbers: accuracy above 0 and at most 1, FLOPs and milliseconds above 0"
        full = self._array("full", full, (3,), allowed, _ABOVE_0)
        if full[0] > 1:
            raise self._error("full", allowed, str(full.tolist()))
        allowed = "positive numbers, one for each of the settings"
        milliseconds = self._array("milliseconds", milliseconds, (len(settings),), allowed, _ABOVE_0)
        data |= {
            "settings": settings.tolist(),
            "milliseconds": milliseconds.tolist(),
            "full": full.tolist(),
            "control": self._text("control", control),
        }
        super().__init__(_data=data, setting=settings[-1] if setting is None else setting)

    @classmethod
    def _stops(cls, settings) -> np.ndarray:
        limits = {"low": -_FLOAT32, "high": _FLOAT32}
        return cls._ascending("settings", settings, (_SETTINGS,), "2 to 101 ascending numbers", **limits)

    @traitlets.validate("setting")
    def _one_of_the_settings(self, proposal):
        return self._stop("setting", self._data["settings"], proposal["value"])

    def _table(self, accuracy, flops) -> str:
        data = self._data
        full_accuracy, full_flops, full_milliseconds = data["full"]
        rows = zip(data["settings"], accuracy, flops, data["milliseconds"], strict=True)
        cells = [
            f"<tr><td>{setting:.4g}</td><td>{right:.3f}</td><td>{cost / full_flops:.0%}</td>"
            f"<td>{time / full_milliseconds:.0%}</td></tr>"
            for setting, right, cost, time in rows
        ]
        names = "".join(
            f'<th scope="col">{name}</th>'
            for name in (html.escape(data["control"]), "accuracy", "FLOPs, of full", "time, of full")
        )
        return (
            f"<p>An interactive picture of accuracy against cost: run the notebook to see it. "
            f"The full network's accuracy is {full_accuracy:.3f}.</p>"
            f"<table><thead><tr>{names}</tr></thead><tbody>{''.join(cells)}</tbody></table>"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._data['settings'])} settings of the {self._data['control']})"


class Savings(_Tradeoff):
    """Accuracy against cost, counted and measured, for a network that can do less: one slider over its settings.

    The picture has a point for each setting and for each cost, as shares of the full network's: FLOPs and milliseconds,
    which do not agree. Beside it, if given, images whose dropped patches are hatched out.

    For early exits, whose accuracy and FLOPs follow from recorded confidences, see `Exits`.

    Args:
        settings: S ascending numbers, the slider's stops.
        accuracy, flops, milliseconds: S numbers each, measured: shares from 0 to 1, per example, per batch.
        control: what the settings are, the slider's label.
        full: the full network's accuracy, FLOPs and milliseconds.
        images: (N, side, side) from 0 to 1, up to 10.
        kept: (S, N, P) booleans: which of the P patches, row by row on a square grid, an image keeps at a setting.
        setting: where the slider stands, and follows it; the last if None.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given.
    """

    _esm = module("measured", "tradeoff", "savings")

    def __init__(
        self, settings, accuracy, flops, milliseconds, *, control="budget", full, images=None, kept=None, setting=None
    ):
        settings = self._stops(settings)
        stops = (len(settings),)
        accuracy = self._array("accuracy", accuracy, stops, "numbers from 0 to 1, one for each of the settings", 0, 1)
        flops = self._array("flops", flops, stops, "positive numbers, one for each of the settings", _ABOVE_0)
        data = {"accuracy": accuracy.tolist(), "flops": flops.tolist()}
        if (images is None) != (kept is None):
            raise self._error("kept", "given with images, or not at all", "without the other")
        if images is not None:
            data |= self._digits(stops, images, kept)
        super().__init__(settings, milliseconds, full, control, setting, **data)

    @classmethod
    def _digits(cls, stops, images, kept) -> dict:
        allowed = "(N, side, side) numbers from 0 to 1, for up to 10 images of up to 32 pixels a side"
        images = cls._array("images", images, (range(1, 11), range(1, 33), range(1, 33)), allowed, 0, 1)
        n, side = images.shape[:2]
        allowed = (
            f"(S, N, P) booleans for {stops[0]} settings and {n} images, P square and its root a divisor of {side}"
        )
        kept = cls._booleans("kept", kept, (*stops, n, range(1, side * side + 1)), allowed)
        grid = math.isqrt(kept.shape[2])
        if grid**2 != kept.shape[2] or side % grid or images.shape[2] != side:
            raise cls._error("kept", allowed, f"of shape {kept.shape}, for images of shape {images.shape}")
        ink = _packed((255 * images).round().astype(np.uint8))
        return {"images": ink, "count": n, "side": side, "grid": grid, "kept": _packed(np.packbits(kept))}

    def _fallback(self) -> str:
        return self._table(self._data["accuracy"], self._data["flops"])


class Exits(_Tradeoff):
    """Early exits from recorded confidences: an example leaves at the first exit that is confident enough.

    It leaves at the first exit whose confidence is at least the threshold, and at the last in any case. Accuracy, FLOPs
    and the histogram of exits are computed from the record; milliseconds are those measured at each threshold.

    Confidences and thresholds are compared as float32, as torch does for a float32 tensor and a Python number: the
    browser and Python agree on every example.

    Args:
        settings: S ascending thresholds, the slider's stops.
        milliseconds: (S,) measured at each, per batch.
        confidence: (N, B) of N examples, up to 600, at each of B exits, up to 8.
        right: (N, B) booleans: whether the prediction of that exit is right.
        flops: (B,) ascending: FLOPs of an example that leaves there, all work up to it.
        control: what the settings are, the slider's label.
        full: the full network's accuracy, FLOPs and milliseconds.
        setting: where the slider stands, and follows it; the last if None.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given.
    """

    _esm = module("measured", "tradeoff", "exits")

    def __init__(
        self,
        settings,
        milliseconds,
        confidence,
        right,
        flops,
        *,
        control="confidence threshold",
        full,
        setting=None,
    ):
        settings = self._stops(settings)
        allowed = "(N, B) numbers for 1 to 600 examples at 2 to 8 exits"
        sizes = (range(1, 601), range(2, 9))
        confidence = self._array("confidence", confidence, sizes, allowed, -_FLOAT32, _FLOAT32).astype("<f4")
        allowed = f"booleans of the shape of confidence, {confidence.shape}"
        right = self._booleans("right", right, confidence.shape, allowed)
        allowed = f"ascending positive numbers, one for each of the {confidence.shape[1]} exits"
        flops = self._ascending("flops", flops, confidence.shape[1:], allowed, low=_ABOVE_0)
        self._record = confidence, right, flops
        data = {
            "exits": len(flops),
            "confidence": _packed(confidence),
            "right": _packed(np.packbits(right)),
            "flops": flops.tolist(),
        }
        super().__init__(settings, milliseconds, full, control, setting, **data)

    def _fallback(self) -> str:
        confidence, right, flops = self._record
        thresholds = self._data["settings"]
        leaves = [_first_confident(confidence, threshold) for threshold in thresholds]
        accuracy = [np.take_along_axis(right, exits[:, None], 1).mean() for exits in leaves]
        return self._table(accuracy, [flops[exits].mean() for exits in leaves])


class Routing(_Measured):
    """Experts while they train: the load of each, what is dropped and what comes of it, with several cures of collapse.

    A slider goes through the training steps, radio buttons through the cures. Bars show the load of each expert and its
    mean; beside them the quality of every cure over the steps, with that of the chosen one in front.

    Args:
        runs: the names of up to 6 cures, each with a dict of what was measured at S steps, the same for all (2 to 101):
            "step": (S,) ascending; "load": (S, E) shares of the work of up to 16 experts; "dropped": (S,) shares of the
            tokens; "quality": (S,).
        quality: its name.
        step: where the slider stands, and follows it; the last if None.
        cure: the one that is chosen, and follows the radio buttons; the first if None.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given.
    """

    _esm = module("measured", "routing")
    step = Checked(0.0, finite, "one of the steps")
    cure = traitlets.Unicode().tag(sync=True)

    def __init__(self, runs, quality="accuracy", *, step=None, cure=None):
        if not isinstance(runs, dict) or not 1 <= len(runs) <= 6:
            raise self._error("runs", "a dict of 1 to 6 cures", _short(repr(runs)))
        checked = {self._text("a name in runs", name): self._run(f"runs[{name!r}]", run) for name, run in runs.items()}
        (first, (steps, load, _, _)), *others = checked.items()
        for name, (its_steps, its_load, _, _) in others:
            if not np.array_equal(its_steps, steps):
                allowed = f"the steps of runs[{first!r}], {_short(str(steps.tolist()))}"
                raise self._error(f"runs[{name!r}]['step']", allowed, _short(str(its_steps.tolist())))
            if its_load.shape != load.shape:
                allowed = f"of shape {load.shape}, as that of runs[{first!r}]"
                raise self._error(f"runs[{name!r}]['load']", allowed, f"of shape {its_load.shape}")
        self._runs = checked
        data = [  # a list: a saved notebook sorts the keys of a dict
            {"cure": name, "load": _packed(load.astype("<f4")), "dropped": dropped.tolist(), "quality": score.tolist()}
            for name, (_, load, dropped, score) in checked.items()
        ]
        super().__init__(
            _data={
                "runs": data,
                "step": steps.tolist(),
                "experts": load.shape[1],
                "quality": self._text("quality", quality),
            },
            step=steps[-1] if step is None else step,
            cure=first if cure is None else cure,
        )

    @classmethod
    def _run(cls, name, run) -> tuple:
        """Steps, load, dropped and quality of a run."""
        if not isinstance(run, dict) or set(run) != {"step", "load", "dropped", "quality"}:
            given = f"a dict of {', '.join(map(str, run))}" if isinstance(run, dict) else _short(repr(run))
            raise cls._error(name, "a dict of step, load, dropped and quality", given)
        steps = cls._ascending(f"{name}['step']", run["step"], (_SETTINGS,), "2 to 101 ascending numbers")
        count, each = len(steps), "one for each of the steps"
        allowed = f"(S, E) shares from 0 to 1 for {count} steps and 2 to 16 experts"
        load = cls._array(f"{name}['load']", run["load"], (count, range(2, 17)), allowed, 0, 1)
        if not load.any(1).all():
            raise cls._error(
                f"{name}['load']", "above 0 for some expert at every step", "0 for all of them at some step"
            )
        dropped = cls._array(f"{name}['dropped']", run["dropped"], (count,), f"shares from 0 to 1, {each}", 0, 1)
        return (
            steps,
            load,
            dropped,
            cls._array(f"{name}['quality']", run["quality"], (count,), f"finite numbers, {each}"),
        )

    @traitlets.validate("step")
    def _one_of_the_steps(self, proposal):
        return self._stop("step", self._data["step"], proposal["value"])

    @traitlets.validate("cure")
    def _one_of_the_cures(self, proposal):
        if proposal["value"] not in self._runs:
            raise self._error("cure", f"one of {list(self._runs)}", repr(proposal["value"]))
        return proposal["value"]

    def __repr__(self) -> str:
        return f"Routing({len(self._data['step'])} steps of {', '.join(self._runs)})"

    def _fallback(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{score[-1]:.3g}</td><td>{dropped[-1]:.0%}</td>"
            f"<td>{load[-1].max() / load[-1].mean():.1f}</td></tr>"
            for name, (_, load, dropped, score) in self._runs.items()
        )
        names = ("cure", html.escape(self._data["quality"]), "dropped", "busiest expert, over the mean")
        head = "".join(f'<th scope="col">{name}</th>' for name in names)
        return (
            "<p>An interactive picture of the experts' load while they train: run the notebook to see it. "
            f"At the last step, {self._data['step'][-1]:.4g}:</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )


class ExitText(_Measured):
    """Text that a language model read, each byte filled as high as the layer at which the model was sure enough of it.

    A byte leaves at the first layer whose confidence is at least the threshold, and at the last in any case. A wavy
    line marks a byte for which that layer predicts another one than the full model; below is the histogram of layers.

    The record is that of one reading in which every byte runs through all layers. Where bytes really leave, those that
    follow see copied states, and their confidences change: what that does to quality and time is for the notebook to
    measure. Confidences and thresholds are compared as float32, as torch does.

    Args:
        text_bytes: T bytes, up to 600, as bytes or as integers from 0 to 255; ten lines fit a slide.
        confidence: (T, L) from -1 to 1, of the prediction of each byte at each of L layers, 2 to 12.
        agrees: (T, L) booleans: whether that layer predicts the same byte as the last one.
        flops: (L,) ascending: FLOPs of a byte that leaves there, all work up to it.
        thresholds: ascending, the slider's stops.
        threshold: where the slider stands, and follows it; the last if None.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given.
    """

    _esm = module("measured", "exit_text")
    threshold = Checked(0.0, finite, "one of the thresholds")

    def __init__(self, text_bytes, confidence, agrees, flops, *, thresholds=_SHARES, threshold=None):
        text = list(text_bytes) if isinstance(text_bytes, (bytes, bytearray)) else text_bytes
        text = self._array("text_bytes", text, (range(1, 601),), "1 to 600 bytes, or integers from 0 to 255", 0, 255)
        if (text % 1).any():
            raise self._error("text_bytes", "1 to 600 bytes, or integers from 0 to 255", "no integer in some place")
        allowed = f"(T, L) numbers from -1 to 1 for {len(text)} bytes at 2 to 12 layers"
        confidence = self._array("confidence", confidence, (len(text), range(2, 13)), allowed, -1, 1).astype("<f4")
        agrees = self._booleans("agrees", agrees, confidence.shape, f"booleans of the shape {confidence.shape}")
        if not agrees[:, -1].all():
            raise self._error("agrees", "true at the last layer, which is the full model's", "false there")
        allowed = f"ascending positive numbers, one for each of the {confidence.shape[1]} layers"
        flops = self._ascending("flops", flops, confidence.shape[1:], allowed, low=_ABOVE_0)
        allowed = "2 to 101 ascending numbers"
        stops = self._ascending("thresholds", thresholds, (_SETTINGS,), allowed, low=-_FLOAT32, high=_FLOAT32).tolist()
        self._record = text.astype(np.uint8), confidence, agrees, flops
        data = {
            "text": _packed(self._record[0]),
            "confidence": _packed(confidence),
            "agrees": _packed(np.packbits(agrees)),
            "flops": flops.tolist(),
            "thresholds": stops,
        }
        super().__init__(_data=data, threshold=stops[-1] if threshold is None else threshold)

    @traitlets.validate("threshold")
    def _one_of_the_thresholds(self, proposal):
        return self._stop("threshold", self._data["thresholds"], proposal["value"])

    def __repr__(self) -> str:
        return f"ExitText({len(self._record[0])} bytes, {len(self._record[3])} layers)"

    def _fallback(self) -> str:
        text, confidence, agrees, flops = self._record
        rows = ""
        for threshold in self._data["thresholds"]:
            exits = _first_confident(confidence, threshold)
            cost = flops[exits].mean() / flops[-1]
            same = np.take_along_axis(agrees, exits[:, None], 1).mean()
            cells = f"{threshold:.4g}", f"{exits.mean() + 1:.2f}", f"{cost:.0%}", f"{same:.1%}"
            rows += f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        names = ("threshold", "mean layers", "FLOPs, of full", "agrees with the full model")
        head = "".join(f'<th scope="col">{name}</th>' for name in names)
        return (
            "<p>An interactive picture of the layers that each byte of a text needs: run the notebook to see it.</p>"
            f"<pre>{html.escape(text.tobytes().decode('utf-8', 'replace'))}</pre>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )


class Interpolation(_Measured):
    """The loss along the line between two networks: as they are, and with the units of the one matched to the other's.

    A slider goes from network A to network B. Beside the loss, what some hidden units read, at that place of either
    line: the average of two units is computed, loss and accuracy are those measured.

    Args:
        positions: S ascending numbers, the slider's stops: the t of (1-t) A + t B.
        loss, accuracy: (2, S), measured at each on the plain line and on the matched one; not negative.
        units: (3, U, side, side): the weights with which U units, up to 6, read an image of up to 16 pixels a side, in
            A, in B, and in B matched to A.
        position: where the slider stands, and follows it; the middle one if None.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given.
    """

    _esm = module("measured", "interpolation")
    position = Checked(0.0, finite, "one of the positions")

    def __init__(self, positions, loss, accuracy, units, *, position=None):
        stops = self._ascending("positions", positions, (_SETTINGS,), "2 to 101 ascending numbers").tolist()
        allowed = f"(2, S) numbers of at least 0, not all 0, plain and matched, for {len(stops)} positions"
        loss = self._array("loss", loss, (2, len(stops)), allowed, 0)
        if not loss.any():
            raise self._error("loss", allowed, "0 everywhere")
        allowed = f"(2, S) numbers from 0 to 1, plain and matched, for {len(stops)} positions"
        accuracy = self._array("accuracy", accuracy, (2, len(stops)), allowed, 0, 1)
        allowed = "(3, U, side, side) numbers: A, B and B matched, up to 6 units, up to 16 pixels a side"
        sizes = (3, range(1, 7), range(1, 17), range(1, 17))
        units = self._array("units", units, sizes, allowed, -_FLOAT32, _FLOAT32)
        if units.shape[2] != units.shape[3] or not units.any():
            raise self._error("units", allowed, f"of shape {units.shape}" if units.any() else "0 everywhere")
        data = {
            "positions": stops,
            "loss": loss.tolist(),
            "accuracy": accuracy.tolist(),
            "units": _packed(units.astype("<f4")),
            "count": units.shape[1],
            "side": units.shape[2],
        }
        super().__init__(_data=data, position=stops[len(stops) // 2] if position is None else position)

    @traitlets.validate("position")
    def _one_of_the_positions(self, proposal):
        return self._stop("position", self._data["positions"], proposal["value"])

    def __repr__(self) -> str:
        return f"Interpolation({len(self._data['positions'])} positions, {self._data['count']} units)"

    def _fallback(self) -> str:
        data = self._data
        rows = "".join(
            f"<tr><td>{t:.4g}</td><td>{plain:.2f}</td><td>{right:.1%}</td><td>{matched:.2f}</td><td>{other:.1%}</td></tr>"
            for t, plain, matched, right, other in zip(data["positions"], *data["loss"], *data["accuracy"], strict=True)
        )
        names = ("from A to B", "plain: loss", "accuracy", "matched: loss", "accuracy")
        head = "".join(f'<th scope="col">{name}</th>' for name in names)
        return (
            "<p>An interactive picture of the loss between two networks: run the notebook to see it.</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )


class Roofline(_Measured):
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
    count = Checked(0.0, finite, "one of the counts")

    def __init__(self, machine, counts, tokens, flops, n_bytes, seconds, *, count=None):
        machine = self._array("machine", machine, (2,), "two numbers above 0: FLOPs and bytes a second", _ABOVE_0)
        allowed = "2 to 101 ascending numbers of at least 1"
        counts = self._ascending("counts", counts, (_SETTINGS,), allowed, low=1).tolist()
        tokens = self._ascending("tokens", tokens, (range(2, 4),), "2 or 3 ascending numbers of at least 1", low=1)
        allowed = f"{len(tokens)} numbers above 0, one for each number of tokens"
        flops = self._array("flops", flops, (len(tokens),), allowed, _ABOVE_0)
        data = {"machine": machine.tolist(), "counts": counts, "tokens": tokens.tolist(), "flops": flops.tolist()}
        for name, values in {"n_bytes": n_bytes, "seconds": seconds}.items():
            allowed = f"numbers above 0, {len(counts)} rows of {len(tokens)}"
            array = self._array(name, values, (len(counts), len(tokens)), allowed, _ABOVE_0)
            data[name.removeprefix("n_")] = array.tolist()
        super().__init__(_data=data, count=counts[0] if count is None else count)

    @traitlets.validate("count")
    def _one_of_the_counts(self, proposal):
        return self._stop("count", self._data["counts"], proposal["value"])

    def __repr__(self) -> str:
        return f"Roofline({len(self._data['counts'])} numbers of experts, {len(self._data['tokens'])} of tokens)"

    def _fallback(self) -> str:
        data = self._data
        names = ["experts", *(f"{n:,.0f} tokens" for n in data["tokens"])]
        head = "".join(f'<th scope="col">{name}</th>' for name in names)
        rows = ""
        for count, moved, times in zip(data["counts"], data["bytes"], data["seconds"], strict=True):
            cells = ""
            for flops, n_bytes, seconds in zip(data["flops"], moved, times, strict=True):
                binds = "compute" if flops / data["machine"][0] >= n_bytes / data["machine"][1] else "memory"
                cells += f"<td>{flops / seconds / 1e9:.3g} GFLOP/s, {binds} binds</td>"
            rows += f"<tr><td>{count:.4g}</td>{cells}</tr>"
        return (
            "<p>An interactive picture of experts under a roofline: run the notebook to see it.</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )


class Modalities(_Measured):
    """One network for images and captions: the expert of each patch and of each byte, and who else goes there.

    A slider goes through the inputs. Beside the input is a picture for each sparse layer: its tokens with the number
    and the tint of their expert, and below, for each expert, its share of all image tokens and of all text tokens. The
    line above says how many bits the expert of a token tells about its modality, where both modalities count alike.

    Args:
        inputs: up to 32: images (side, side) from 0 to 1, up to 16 pixels a side, or captions of up to 27 characters.
        experts: for each of the inputs (L, T) integers from 0, the expert of each token in L sparse layers, 1 to 2: for
            an image its patches, row by row on a square grid, for a caption its characters.
        share: (L, 2, E) of all image tokens, and of all text tokens, the share of each of 2 to 8 experts.
        layers: their L names, short ones.
        titles: one for each of the inputs, such as what was found for it.
        input: where the slider stands, from 1, and follows it.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given.
    """

    _esm = module("measured", "modalities")
    input = Checked(1, int, "the number of an input")

    def __init__(self, inputs, experts, share, *, layers, titles, input=1):
        lists = {"inputs": inputs, "experts": experts, "layers": layers, "titles": titles}
        for name, values in lists.items():
            if isinstance(values, str) or not hasattr(values, "__len__") or not hasattr(values, "__getitem__"):
                raise self._error(name, "a list", _short(repr(values)))
        inputs, experts, layers, titles = map(list, lists.values())
        if not 2 <= len(inputs) <= 32:
            raise self._error("inputs", "2 to 32 images and captions", f"{len(inputs)} of them")
        allowed = "(L, 2, E) shares from 0 to 1, for 1 or 2 layers, image and text, and 2 to 8 experts"
        share = self._array("share", share, (range(1, 3), 2, range(2, 9)), allowed, 0, 1)
        if not np.allclose(share.sum(-1), 1, atol=1e-3):
            raise self._error("share", "of sum 1 over the experts", f"of sums {_short(str(share.sum(-1).tolist()))}")
        for name, values, count in (("layers", layers, len(share)), ("titles", titles, len(inputs))):
            if len(values) != count:
                raise self._error(name, f"{count} texts", f"{len(values)}")
        if len(experts) != len(inputs):
            raise self._error("experts", f"(L, T) integers for each of {len(inputs)} inputs", f"{len(experts)} of them")
        data, rows = [], []
        for i, (value, its_experts) in enumerate(zip(inputs, experts, strict=True)):
            given, tokens = self._input(f"inputs[{i}]", value)
            counts = " or ".join(map(str, tokens))
            allowed = f"(L, T) integers from 0 to {share.shape[2] - 1}, of {len(share)} layers and {counts} tokens"
            shape, name = (len(share), range(1, 257)), f"experts[{i}]"
            array = self._array(name, its_experts, shape, allowed, 0, share.shape[2] - 1)
            if array.shape[1] not in tokens or (array % 1).any():
                raise self._error(name, allowed, f"of shape {array.shape}, or no integers")
            data.append(given)
            rows.append(array.astype(int).tolist())
        super().__init__(
            _data={
                "inputs": data,
                "experts": rows,
                "share": share.tolist(),
                "layers": [self._text(f"layers[{i}]", name) for i, name in enumerate(layers)],
                "titles": [self._text(f"titles[{i}]", title) for i, title in enumerate(titles)],
            },
            input=input,
        )

    @classmethod
    def _input(cls, name, value) -> tuple[dict, list[int]]:
        """An input as the module gets it, and how many tokens it may have: characters, or patches in a square grid."""
        if isinstance(value, str):
            if not (1 <= len(value) <= 27 and value.isascii() and value.isprintable()):
                raise cls._error(name, "a caption of 1 to 27 printable ASCII characters", _short(repr(value)))
            return {"text": value}, [len(value)]
        allowed = "a caption, or an image (side, side) from 0 to 1 of up to 16 pixels a side"
        image = cls._array(name, value, (range(1, 17), range(1, 17)), allowed, 0, 1)
        if image.shape[0] != image.shape[1]:
            raise cls._error(name, allowed, f"of shape {image.shape}")
        given = {"ink": _packed((255 * image).round().astype(np.uint8)), "side": len(image)}
        return given, [grid**2 for grid in range(1, len(image) + 1) if len(image) % grid == 0]

    @traitlets.validate("input")
    def _one_of_the_inputs(self, proposal):
        if not 1 <= proposal["value"] <= len(self._data["inputs"]):
            raise self._error("input", f"from 1 to {len(self._data['inputs'])}", str(proposal["value"]))
        return proposal["value"]

    def __repr__(self) -> str:
        return f"Modalities({len(self._data['inputs'])} inputs, {len(self._data['layers'])} layers)"

    def _fallback(self) -> str:
        data = self._data
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{kind}</td>{''.join(f'<td>{share:.0%}</td>' for share in row)}</tr>"
            for name, both in zip(data["layers"], data["share"], strict=True)
            for kind, row in zip(("image", "text"), both, strict=True)
        )
        head = "".join(f'<th scope="col">expert {e + 1}</th>' for e in range(len(data["share"][0][0])))
        return (
            "<p>An interactive picture of the experts of images and captions: run the notebook to see it. "
            "The share of each expert in all tokens of a modality:</p>"
            f'<table><thead><tr><th scope="col">layer</th><th scope="col">tokens</th>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table>"
        )


def _first_confident(confidence: np.ndarray, threshold: float) -> np.ndarray:
    """(N, B) float32 → (N,) the first exit whose confidence is at least the threshold, else the last."""
    enough = confidence >= np.float32(threshold)
    enough[:, -1] = True
    return enough.argmax(1)


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."
