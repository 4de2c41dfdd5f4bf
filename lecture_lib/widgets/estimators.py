"""Estimates of a gradient around the exact one."""

import math
import operator

from lecture_lib.widgets.base import FINITE, SEED, Checked, Widget, fallback, integer, module, number, require, several

_WORTH = number(-(10**6), 10**6)  # their squares are computed


def _relaxation(value) -> str:
    require(value in ("gumbel_softmax", "straight_through"))
    return value


class Estimators(Widget):
    """Estimates of one gradient against the exact one: by score function on the left, by relaxation on the right.

    The gradient is that of E[cost(z)] with cost(z) = (z · worth - target)², for one-hot z ~ Categorical(softmax(s)).
    Each side shows 300 estimates as dots (the components of the first and the third option), their mean as a diamond in
    an ellipse of one standard deviation, the exact gradient as a cross; below it bias, spread (standard deviation) and
    both (root mean square error), over all three components. Those of the score function are exact, by enumeration;
    those of the relaxation come from 19,200 samples.

    Args:
        logits: the scores s of the three options (a list, an array or a tensor).
        worth, target: of the cost.
        labels: the options' names, short ones.
        baseline: of the score function, -1 to 2; follows its slider.
        temperature: of the relaxation, 0.05 to 10; follows its slider.
        samples: how many samples an estimate averages, 1 to 64; follows its slider.
        relaxation: "gumbel_softmax" or "straight_through".
        seed: of the noise; the button adds 1.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given; on later assignments as well.
    """

    _esm = module("gumbel", "estimators")
    logits = Checked([1.3, 0.2, 0.7], several(FINITE, 3), "three finite numbers")
    worth = Checked([2.0, 0.0, 1.0], several(_WORTH[0], 3), f"three times {_WORTH[1]}, one for each option")
    target = Checked(0.9, *_WORTH)
    labels = Checked(["a", "b", "c"], several(str, 3), "three names, one for each logit")
    baseline = Checked(0.0, *number(-1, 2))
    temperature = Checked(0.5, *number(0.05, 10))
    samples = Checked(1, *integer(1, 64))
    relaxation = Checked("gumbel_softmax", _relaxation, "'gumbel_softmax' or 'straight_through'")
    seed = Checked(0, *SEED)

    def __init__(self, logits=(1.3, 0.2, 0.7), worth=(2.0, 0.0, 1.0), target=0.9, labels=("a", "b", "c"), **controls):
        super().__init__(logits=logits, worth=worth, target=target, labels=labels, **controls)

    def __repr__(self) -> str:
        return f"Estimators(logits={self.logits}, worth={self.worth}, target={self.target})"

    def _fallback(self) -> str:
        top = max(self.logits)
        weights = [math.exp(logit - top) for logit in self.logits]
        p = [weight / sum(weights) for weight in weights]
        cost = [(worth - self.target) ** 2 for worth in self.worth]
        mean = sum(map(operator.mul, p, cost))
        exact = [f"{p_k * (c - mean):+.3f}" for p_k, c in zip(p, cost, strict=True)]
        text = "The exact gradient that they estimate, for each option:"
        return fallback("picture of gradient estimates", text, self.labels, [exact])
