"""A network that can do less: accuracy against cost."""

import math

import numpy as np

from lecture_lib.widgets.base import module
from lecture_lib.widgets.measured import ABOVE_0, packed
from lecture_lib.widgets.tradeoff import Tradeoff


class Savings(Tradeoff):
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
        rival: what else could be done for these FLOPs, as crosses: a name, R accuracies, R FLOPs.
        setting: where the slider stands, and follows it; the last if None.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given.
    """

    _esm = module("measured", "tradeoff", "savings")

    def __init__(
        self,
        settings,
        accuracy,
        flops,
        milliseconds,
        *,
        control="budget",
        full,
        images=None,
        kept=None,
        rival=None,
        setting=None,
    ):
        settings = self._stops(settings)
        stops = (len(settings),)
        accuracy = self._array("accuracy", accuracy, stops, "numbers from 0 to 1, one for each of the settings", 0, 1)
        flops = self._array("flops", flops, stops, "positive numbers, one for each of the settings", ABOVE_0)
        data = {"accuracy": accuracy.tolist(), "flops": flops.tolist()}
        if (images is None) != (kept is None):
            raise self._error("kept", "given with images, or not at all", "without the other")
        if rival is not None:
            data["rival"] = self._other(rival)
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
        ink = packed((255 * images).round().astype(np.uint8))
        return {"images": ink, "count": n, "side": side, "grid": grid, "kept": packed(np.packbits(kept))}

    @classmethod
    def _other(cls, rival) -> dict:
        if not isinstance(rival, (tuple, list)) or len(rival) != 3:
            raise cls._error("rival", "a name, accuracies and FLOPs", repr(rival))
        allowed = "a name, then 1 to 20 accuracies from 0 to 1 and as many positive FLOPs"
        accuracy = cls._array("rival", rival[1], (range(1, 21),), allowed, 0, 1)
        flops = cls._array("rival", rival[2], accuracy.shape, allowed, ABOVE_0)
        return {"name": cls._text("rival", rival[0]), "accuracy": accuracy.tolist(), "flops": flops.tolist()}

    def _fallback(self) -> str:
        data, full = self._data, self._data["full"][1]
        other = data.get("rival")
        points = zip(other["accuracy"], other["flops"], strict=True) if other else ()
        said = ", ".join(f"{accuracy:.3f} at {flops / full:.0%}" for accuracy, flops in points)
        return self._table(data["accuracy"], data["flops"], f" {other['name']}: {said}." if other else "")
