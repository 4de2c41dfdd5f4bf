"""Interactive pictures whose mathematics runs in the browser: live in Jupyter, in Colab and, with no kernel, in slides.

Each widget is a class of synced traits here and one file of JavaScript, which follows kit.js in one module.
"""

import html
import math
import operator
from pathlib import Path

import anywidget
import traitlets

__all__ = ["Temperature"]

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


def _three_numbers(values) -> list[float]:
    numbers = [float(f"{float(value):.7g}") for value in values]  # as written: a float32 holds 1.3 as 1.29999995
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
