"""Samples of Gumbel-Softmax under a slider."""

import math

from lecture_lib.widgets.base import FINITE, SEED, Checked, Widget, fallback, module, number, several


class Temperature(Widget):
    """Gumbel-Softmax under a slider: z = softmax((s + G) / λ) with Gumbel noise G.

    Bars show softmax(s) beside one sample z. A triangle shows 400 samples, with the same noise at every temperature:
    they move to the corners as it falls and to the centre as it rises, and which entry is the largest never changes.

    Args:
        logits: the scores s of the three options (a list, an array or a tensor).
        labels: their three names, short ones.
        temperature: λ, from 0.05 to 10; follows the slider.
        seed: of the noise; the button adds 1.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given; on later assignments as well.
    """

    _esm = module("gumbel", "temperature")
    logits = Checked([1.3, 0.2, 0.7], several(FINITE, 3), "three finite numbers (the picture is a triangle)")
    labels = Checked(["a", "b", "c"], several(str, 3), "three names, one for each logit")
    temperature = Checked(1.0, *number(0.05, 10))
    seed = Checked(0, *SEED)

    def __init__(self, logits=(1.3, 0.2, 0.7), labels=("a", "b", "c"), *, temperature=1.0, seed=0):
        super().__init__(logits=logits, labels=labels, temperature=temperature, seed=seed)

    def __repr__(self) -> str:
        return f"Temperature(logits={self.logits})"

    def _fallback(self) -> str:
        top = max(self.logits)
        weights = [math.exp(logit - top) for logit in self.logits]
        text = "Its three options and their probabilities softmax(s):"
        return fallback(
            "picture of Gumbel-Softmax samples",
            text,
            self.labels,
            [[f"{weight / sum(weights):.2f}" for weight in weights]],
        )
