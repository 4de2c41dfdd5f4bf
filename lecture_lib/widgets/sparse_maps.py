"""Three maps to the simplex, side by side."""

import traitlets

from lecture_lib.widgets.base import Checked, Widget, fallback, module, number, several

_COUNTS = range(2, 7)


class SparseMaps(Widget):
    """Softmax, 1.5-entmax and sparsemax of the same scores: three groups of bars, and the support of each.

    The scores move by sliders, or by dragging their dots; dashed lines show the thresholds above which an option has a
    weight. A weight of exactly zero has a cross instead of a bar.

    Args:
        scores: of the 2 to 6 options, each from -2 to 2 (a list, an array or a tensor); follow the sliders.
        labels: their names, short ones; a, b, c ... if None.
        scale: all scores times this, from 0.1 to 10; follows its slider.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given; on later assignments as well.
    """

    _esm = module("sparse_maps")
    scores = Checked([1.3, 0.2, 0.7, -0.4, 0.9], several(number(-2, 2)[0], *_COUNTS), "2 to 6 numbers from -2 to 2")
    labels = Checked(["a", "b", "c", "d", "e"], several(str, *_COUNTS), "2 to 6 names, one for each score")
    scale = Checked(1.0, *number(0.1, 10))

    def __init__(self, scores=(1.3, 0.2, 0.7, -0.4, 0.9), labels=None, *, scale=1.0):
        scores = type(self).scores.validate(self, scores)
        labels = list("abcdef"[: len(scores)]) if labels is None else labels
        super().__init__(scores=scores, labels=labels, scale=scale)

    @traitlets.validate("scores", "labels")
    def _one_name_each(self, proposal):
        new = {"scores": self.scores, "labels": self.labels, proposal["trait"].name: proposal["value"]}
        if len(new["scores"]) != len(new["labels"]):
            message = f"labels must be one name for each of the scores, {new['scores']}, and is {new['labels']}"
            raise traitlets.TraitError(f"SparseMaps: {message}")
        return proposal["value"]

    def __repr__(self) -> str:
        return f"SparseMaps(scores={self.scores})"

    def _fallback(self) -> str:
        scores = [f"{score:.1f}" for score in self.scores]
        return fallback(
            "picture of softmax, 1.5-entmax and sparsemax", "Its options and their scores:", self.labels, [scores]
        )
