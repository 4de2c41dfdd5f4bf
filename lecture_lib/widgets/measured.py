"""What the widgets share whose data a notebook measured: given once, checked, and kept.

Where a choice moves, it moves over settings that were measured: nothing is interpolated.
"""

import base64
import math

import numpy as np
import traitlets

from lecture_lib.widgets.base import Checked, Widget, as_number, style

SETTINGS = range(2, 102)  # how many stops a slider may have
ABOVE_0 = 5e-324  # the smallest positive number
FLOAT32 = float(np.finfo(np.float32).max)


class Measured(Widget):
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
            raise cls._error(name, allowed, short(repr(values))) from None
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
            raise cls._error(name, allowed, short(str(array.tolist())))
        return array

    @classmethod
    def _booleans(cls, name: str, values, lengths: tuple, allowed: str) -> np.ndarray:
        array = cls._array(name, values, lengths, allowed, 0, 1)
        if not np.isin(array, (0, 1)).all():
            raise cls._error(name, allowed, "neither 0 nor 1 in some places")
        return array.astype(bool)

    @classmethod
    def _text(cls, name: str, value) -> str:
        if not isinstance(value, str) or not value.strip():
            raise cls._error(name, "a text that is not empty", short(repr(value)))
        return value


class Stop(Checked):
    """One of the stops of a slider, which are `_data[stops]`."""

    def __init__(self, stops: str):
        super().__init__(0.0, as_number, "a number")
        self.stops = stops

    def validate(self, obj, value):
        given, stops = super().validate(obj, value), obj._data[self.stops]
        nearest = min(stops, key=lambda stop: abs(stop - given))
        if not math.isclose(nearest, given, rel_tol=1e-6):
            raise obj._error(self.name, f"one of the {self.name}s, {short(str(stops))}", str(given))
        return nearest


def first_confident(confidence: np.ndarray, threshold: float) -> np.ndarray:
    """(N, B) float32 → (N,) the first exit whose confidence is at least the threshold, else the last."""
    enough = confidence >= np.float32(threshold)
    enough[:, -1] = True
    return enough.argmax(1)


def packed(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."
