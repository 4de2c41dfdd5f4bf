"""Interactive pictures whose mathematics runs in the browser: live in Jupyter, in Colab and, with no kernel, in slides.

Each widget is a class of synced traits here and one file of JavaScript, which follows kit.js in one module.
"""

import html
import math
import operator
from pathlib import Path

import anywidget
import traitlets

__all__ = ["Estimators", "SparseMaps", "Temperature"]

_HERE = Path(__file__).parent


def _module(name: str) -> str:
    """The ES module of a widget: the kit, then the widget's own file. One text, so that nothing is imported."""
    return "\n".join((_HERE / file).read_text("utf-8") for file in ("kit.js", f"{name}.js"))


class _Checked(traitlets.TraitType):
    """A synced trait: `convert` returns what is allowed in its plain form, or raises an error."""

    def __init__(self, default, convert, allowed: str):
        super().__init__(default)
        self.convert, self.allowed = convert, allowed
        self.tag(sync=True)

    def validate(self, obj, value):
        try:
            return self.convert(value)
        except (TypeError, ValueError, RuntimeError):  # torch raises the last
            name = f"{type(obj).__name__}: {self.name}"
            raise traitlets.TraitError(f"{name} must be {self.allowed}, and is {value!r}") from None


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError


def _numbers(values) -> list[float]:
    return [float(f"{float(value):.7g}") for value in values]  # as written: a float32 holds 1.3 as 1.29999995


def _three_numbers(values) -> list[float]:
    numbers = _numbers(values)
    _require(len(numbers) == 3 and all(map(math.isfinite, numbers)))
    return numbers


def _three_names(values) -> list[str]:
    _require(not isinstance(values, str))
    names = [str(value) for value in values]
    _require(len(names) == 3)
    return names


def _temperature(value) -> float:
    _require(0.05 <= float(value) <= 10)
    return float(value)


def _seed(value) -> int:
    _require(0 <= operator.index(value) < 2**32)
    return operator.index(value)


def _scores(values) -> list[float]:
    numbers = _numbers(values)
    _require(2 <= len(numbers) <= 6 and all(-2 <= number <= 2 for number in numbers))
    return numbers


def _names(values) -> list[str]:
    _require(not isinstance(values, str))
    names = [str(value) for value in values]
    _require(2 <= len(names) <= 6)
    return names


def _scale(value) -> float:
    _require(0.1 <= float(value) <= 10)
    return float(value)


def _finite(value) -> float:
    _require(math.isfinite(float(value)))
    return float(value)


def _baseline(value) -> float:
    _require(-1 <= float(value) <= 2)
    return float(value)


def _samples(value) -> int:
    _require(1 <= operator.index(value) <= 64)
    return operator.index(value)


def _relaxation(value) -> str:
    _require(value in ("gumbel_softmax", "straight_through"))
    return value


class _Widget(anywidget.AnyWidget):
    """What the widgets share: the look, and what stands in for the picture where no JavaScript runs.

    Each has a method `_fallback()`: HTML for notebooks that are not executed or not trusted.
    """

    _css = (_HERE / "kit.css").read_text("utf-8")
    _ipython_display_ = None  # ipywidgets 7 would display by it, without the fallback

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return {**data, "text/html": self._fallback()}, metadata


class Temperature(_Widget):
    """Gumbel-Softmax under a slider: y = softmax((s + g) / temperature) with Gumbel noise g.

    Bars show softmax(s) beside one sample y. A triangle shows 400 samples, with the same noise at every temperature:
    they move to the corners as it falls and to the centre as it rises, and which entry is the largest never changes.

    Args:
        logits: the scores s of the three options (a list, an array or a tensor).
        labels: their three names, short ones.
        temperature: from 0.05 to 10; follows the slider.
        seed: of the noise; the button adds 1.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given; on later assignments as well.
    """

    _esm = _module("temperature")
    logits = _Checked([1.3, 0.2, 0.7], _three_numbers, "three finite numbers (the picture is a triangle)")
    labels = _Checked(["a", "b", "c"], _three_names, "three names, one for each logit")
    temperature = _Checked(1.0, _temperature, "a number from 0.05 to 10 (the slider's range)")
    seed = _Checked(0, _seed, "an integer from 0 to 2**32 - 1")

    def __init__(self, logits=(1.3, 0.2, 0.7), labels=("a", "b", "c"), *, temperature=1.0, seed=0):
        super().__init__(logits=logits, labels=labels, temperature=temperature, seed=seed)

    def __repr__(self) -> str:
        return f"Temperature(logits={self.logits})"

    def _fallback(self) -> str:
        top = max(self.logits)
        weights = [math.exp(logit - top) for logit in self.logits]
        names = "".join(f'<th scope="col">{html.escape(label)}</th>' for label in self.labels)
        shares = "".join(f"<td>{weight / sum(weights):.2f}</td>" for weight in weights)
        return (
            "<p>An interactive picture of Gumbel-Softmax samples: run the notebook to see it. "
            "Its three options and their probabilities softmax(s):</p>"
            f"<table><thead><tr>{names}</tr></thead><tbody><tr>{shares}</tr></tbody></table>"
        )


class SparseMaps(_Widget):
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

    _esm = _module("sparse_maps")
    scores = _Checked([1.3, 0.2, 0.7, -0.4, 0.9], _scores, "2 to 6 numbers from -2 to 2 (the sliders' range)")
    labels = _Checked(["a", "b", "c", "d", "e"], _names, "2 to 6 names, one for each score")
    scale = _Checked(1.0, _scale, "a number from 0.1 to 10 (the slider's range)")

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
        names = "".join(f'<th scope="col">{html.escape(label)}</th>' for label in self.labels)
        scores = "".join(f"<td>{score:.1f}</td>" for score in self.scores)
        return (
            "<p>An interactive picture of softmax, 1.5-entmax and sparsemax: run the notebook to see it. "
            "Its options and their scores:</p>"
            f"<table><thead><tr>{names}</tr></thead><tbody><tr>{scores}</tr></tbody></table>"
        )


class Estimators(_Widget):
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

    _esm = _module("estimators")
    logits = _Checked([1.3, 0.2, 0.7], _three_numbers, "three finite numbers")
    worth = _Checked([2.0, 0.0, 1.0], _three_numbers, "three finite numbers, one for each option")
    target = _Checked(0.9, _finite, "a finite number")
    labels = _Checked(["a", "b", "c"], _three_names, "three names, one for each logit")
    baseline = _Checked(0.0, _baseline, "a number from -1 to 2 (the slider's range)")
    temperature = _Checked(0.5, _temperature, "a number from 0.05 to 10 (the slider's range)")
    samples = _Checked(1, _samples, "an integer from 1 to 64 (the slider's range)")
    relaxation = _Checked("gumbel_softmax", _relaxation, "'gumbel_softmax' or 'straight_through'")
    seed = _Checked(0, _seed, "an integer from 0 to 2**32 - 1")

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
        names = "".join(f'<th scope="col">{html.escape(label)}</th>' for label in self.labels)
        exact = "".join(f"<td>{p_k * (c - mean):+.3f}</td>" for p_k, c in zip(p, cost, strict=True))
        return (
            "<p>An interactive picture of gradient estimates: run the notebook to see it. "
            "The exact gradient that they estimate, for each option:</p>"
            f"<table><thead><tr>{names}</tr></thead><tbody><tr>{exact}</tr></tbody></table>"
        )
