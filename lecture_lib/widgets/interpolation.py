"""The loss between two networks."""

from lecture_lib.widgets.base import fallback, module
from lecture_lib.widgets.measured import FLOAT32, SETTINGS, Measured, Stop, packed


class Interpolation(Measured):
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
    position = Stop("positions")

    def __init__(self, positions, loss, accuracy, units, *, position=None):
        stops = self._ascending("positions", positions, (SETTINGS,), "2 to 101 ascending numbers").tolist()
        allowed = f"(2, S) numbers of at least 0, not all 0, plain and matched, for {len(stops)} positions"
        loss = self._array("loss", loss, (2, len(stops)), allowed, 0)
        if not loss.any():
            raise self._error("loss", allowed, "0 everywhere")
        allowed = f"(2, S) numbers from 0 to 1, plain and matched, for {len(stops)} positions"
        accuracy = self._array("accuracy", accuracy, (2, len(stops)), allowed, 0, 1)
        allowed = "(3, U, side, side) numbers: A, B and B matched, up to 6 units, up to 16 pixels a side"
        sizes = (3, range(1, 7), range(1, 17), range(1, 17))
        units = self._array("units", units, sizes, allowed, -FLOAT32, FLOAT32)
        if units.shape[2] != units.shape[3] or not units.any():
            raise self._error("units", allowed, f"of shape {units.shape}" if units.any() else "0 everywhere")
        data = {
            "positions": stops,
            "loss": loss.tolist(),
            "accuracy": accuracy.tolist(),
            "units": packed(units.astype("<f4")),
            "count": units.shape[1],
            "side": units.shape[2],
        }
        super().__init__(_data=data, position=stops[len(stops) // 2] if position is None else position)

    def __repr__(self) -> str:
        return f"Interpolation({len(self._data['positions'])} positions, {self._data['count']} units)"

    def _fallback(self) -> str:
        data = self._data
        rows = [
            (f"{t:.4g}", f"{plain:.2f}", f"{right:.1%}", f"{matched:.2f}", f"{other:.1%}")
            for t, plain, matched, right, other in zip(data["positions"], *data["loss"], *data["accuracy"], strict=True)
        ]
        names = ("from A to B", "plain: loss", "accuracy", "matched: loss", "accuracy")
        return fallback("picture of the loss between two networks", "", names, rows)
