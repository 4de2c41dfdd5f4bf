"""Accuracy against cost, with a slider over the settings."""

import numpy as np

from lecture_lib.widgets.base import fallback
from lecture_lib.widgets.measured import ABOVE_0, FLOAT32, SETTINGS, Measured, Stop


class Tradeoff(Measured):
    """Accuracy against cost at each setting; the slider goes from setting to setting."""

    setting = Stop("settings")

    def __init__(self, settings, milliseconds, full, control, setting, **data):
        """The cost of each setting is in `data`, or follows from it."""
        allowed = "three numbers: accuracy above 0 and at most 1, FLOPs and milliseconds above 0"
        full = self._array("full", full, (3,), allowed, ABOVE_0)
        if full[0] > 1:
            raise self._error("full", allowed, str(full.tolist()))
        allowed = "positive numbers, one for each of the settings"
        milliseconds = self._array("milliseconds", milliseconds, (len(settings),), allowed, ABOVE_0)
        data |= {
            "settings": settings.tolist(),
            "milliseconds": milliseconds.tolist(),
            "full": full.tolist(),
            "control": self._text("control", control),
        }
        super().__init__(_data=data, setting=settings[-1] if setting is None else setting)

    @classmethod
    def _stops(cls, settings) -> np.ndarray:
        limits = {"low": -FLOAT32, "high": FLOAT32}
        return cls._ascending("settings", settings, (SETTINGS,), "2 to 101 ascending numbers", **limits)

    def _table(self, accuracy, flops, more="") -> str:
        data = self._data
        full_accuracy, full_flops, full_milliseconds = data["full"]
        rows = [
            (f"{setting:.4g}", f"{right:.3f}", f"{cost / full_flops:.0%}", f"{time / full_milliseconds:.0%}")
            for setting, right, cost, time in zip(data["settings"], accuracy, flops, data["milliseconds"], strict=True)
        ]
        names = (data["control"], "accuracy", "FLOPs, of full", "time, of full")
        text = f"The full network's accuracy is {full_accuracy:.3f}.{more}"
        return fallback("picture of accuracy against cost", text, names, rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._data['settings'])} settings of the {self._data['control']})"
