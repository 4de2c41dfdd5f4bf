"""Early exits from recorded confidences."""

import numpy as np

from lecture_lib.widgets.base import module
from lecture_lib.widgets.measured import ABOVE_0, FLOAT32, first_confident, packed
from lecture_lib.widgets.tradeoff import Tradeoff


class Exits(Tradeoff):
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
        confidence = self._array("confidence", confidence, sizes, allowed, -FLOAT32, FLOAT32).astype("<f4")
        allowed = f"booleans of the shape of confidence, {confidence.shape}"
        right = self._booleans("right", right, confidence.shape, allowed)
        allowed = f"ascending positive numbers, one for each of the {confidence.shape[1]} exits"
        flops = self._ascending("flops", flops, confidence.shape[1:], allowed, low=ABOVE_0)
        self._record = confidence, right, flops
        data = {
            "exits": len(flops),
            "confidence": packed(confidence),
            "right": packed(np.packbits(right)),
            "flops": flops.tolist(),
        }
        super().__init__(settings, milliseconds, full, control, setting, **data)

    def _fallback(self) -> str:
        confidence, right, flops = self._record
        thresholds = self._data["settings"]
        leaves = [first_confident(confidence, threshold) for threshold in thresholds]
        accuracy = [np.take_along_axis(right, exits[:, None], 1).mean() for exits in leaves]
        return self._table(accuracy, [flops[exits].mean() for exits in leaves])
