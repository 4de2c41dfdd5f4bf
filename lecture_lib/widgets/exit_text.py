"""Text, each byte filled up to the exit at which it left."""

import html

import numpy as np

from lecture_lib.widgets.base import fallback, module
from lecture_lib.widgets.measured import ABOVE_0, FLOAT32, SETTINGS, Measured, Stop, first_confident, packed

_SHARES = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 1)  # thresholds, closer towards 1


class ExitText(Measured):
    """Text that a language model read, each byte filled as high as the exit at which the model was sure enough of it.

    A byte leaves at the first exit whose confidence is at least the threshold, and at the last in any case. A wavy line
    marks a byte for which that exit predicts another one than the full model; below is the histogram of exits.

    The record is that of one reading in which every byte runs through all layers. Where bytes really leave, those that
    follow see copied states, and their confidences change: what that does to quality and time is for the notebook to
    measure. Confidences and thresholds are compared as float32, as torch does.

    Args:
        text_bytes: T bytes, up to 600, as bytes or as integers from 0 to 255; ten lines fit a slide.
        confidence: (T, K) from -1 to 1, of the prediction of each byte at each of K exits, 2 to 12.
        agrees: (T, K) booleans: whether that exit predicts the same byte as the last one.
        flops: (K,) ascending: FLOPs of a byte that leaves there: layers run, heads asked, keys and values owed.
        full: FLOPs of a byte in the full model, which asks its last head only.
        thresholds: ascending, the slider's stops.
        threshold: where the slider stands, and follows it; the last if None.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given.
    """

    _esm = module("measured", "exit_text")
    threshold = Stop("thresholds")

    def __init__(self, text_bytes, confidence, agrees, flops, *, full, thresholds=_SHARES, threshold=None):
        text = list(text_bytes) if isinstance(text_bytes, (bytes, bytearray)) else text_bytes
        text = self._array("text_bytes", text, (range(1, 601),), "1 to 600 bytes, or integers from 0 to 255", 0, 255)
        if (text % 1).any():
            raise self._error("text_bytes", "1 to 600 bytes, or integers from 0 to 255", "no integer in some place")
        allowed = f"(T, K) numbers from -1 to 1 for {len(text)} bytes at 2 to 12 exits"
        confidence = self._array("confidence", confidence, (len(text), range(2, 13)), allowed, -1, 1).astype("<f4")
        agrees = self._booleans("agrees", agrees, confidence.shape, f"booleans of the shape {confidence.shape}")
        if not agrees[:, -1].all():
            raise self._error("agrees", "true at the last exit, which is the full model's", "false there")
        allowed = f"ascending positive numbers, one for each of the {confidence.shape[1]} exits"
        flops = self._ascending("flops", flops, confidence.shape[1:], allowed, low=ABOVE_0)
        full = float(self._array("full", [full], (1,), "a positive number", ABOVE_0)[0])
        allowed = "2 to 101 ascending numbers"
        stops = self._ascending("thresholds", thresholds, (SETTINGS,), allowed, low=-FLOAT32, high=FLOAT32).tolist()
        self._record = text.astype(np.uint8), confidence, agrees, flops, full
        data = {
            "text": packed(self._record[0]),
            "confidence": packed(confidence),
            "agrees": packed(np.packbits(agrees)),
            "flops": flops.tolist(),
            "full": full,
            "thresholds": stops,
        }
        super().__init__(_data=data, threshold=stops[-1] if threshold is None else threshold)

    def __repr__(self) -> str:
        return f"ExitText({len(self._record[0])} bytes, {len(self._record[3])} exits)"

    def _fallback(self) -> str:
        text, confidence, agrees, flops, full = self._record
        rows = []
        for threshold in self._data["thresholds"]:
            exits = first_confident(confidence, threshold)
            cost = flops[exits].mean() / full
            same = np.take_along_axis(agrees, exits[:, None], 1).mean()
            rows.append((f"{threshold:.4g}", f"{exits.mean():.2f}", f"{cost:.0%}", f"{same:.1%}"))
        names = ("threshold", "mean exit", "FLOPs, of full", "agrees with the full model")
        read = html.escape(text.tobytes().decode("utf-8", "replace"))
        return fallback("picture of the exits at which bytes of a text leave", "", names, rows, f"<pre>{read}</pre>")
