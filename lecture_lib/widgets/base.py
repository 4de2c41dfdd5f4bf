"""What the widgets share: their module of JavaScript, checked traits, and what stands in where no JavaScript runs."""

import math
import operator
from pathlib import Path

import anywidget
import traitlets

_HERE = Path(__file__).parent


def module(*names: str) -> str:
    """The ES module of a widget: the kit, then the files named. One text, so that nothing is imported."""
    return "\n".join((_HERE / f"{name}.js").read_text("utf-8") for name in ("kit", *names))


def style(*names: str) -> str:
    """The style of a widget: the kit's, then that of the files named."""
    return "\n".join((_HERE / f"{name}.css").read_text("utf-8") for name in ("kit", *names))


class Checked(traitlets.TraitType):
    """A synced trait: `convert` returns what is allowed in its plain form, or raises an error."""

    def __init__(self, default, convert, allowed: str):
        super().__init__(default)
        self.convert, self.allowed = convert, allowed
        self.tag(sync=True)

    def validate(self, obj, value):
        try:
            return self.convert(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):  # torch raises the last
            name = f"{type(obj).__name__}: {self.name}"
            raise traitlets.TraitError(f"{name} must be {self.allowed}, and is {value!r}") from None


def require(holds: bool) -> None:
    if not holds:
        raise ValueError


def finite(value) -> float:
    require(math.isfinite(float(value)))
    return float(value)


def as_numbers(values) -> list[float]:
    return [float(f"{float(value):.7g}") for value in values]  # as written: a float32 holds 1.3 as 1.29999995


def integer(low: int, high: int) -> tuple:
    """How to check an integer from `low` to `high`, and what is allowed, in words."""

    def convert(value) -> int:
        require(low <= operator.index(value) <= high)
        return operator.index(value)

    return convert, f"an integer from {low} to {high} (the slider's range)"


def as_three_names(values) -> list[str]:
    require(not isinstance(values, str))
    names = [str(value) for value in values]
    require(len(names) == 3)
    return names


def as_three_numbers(values) -> list[float]:
    numbers = as_numbers(values)
    require(len(numbers) == 3 and all(map(math.isfinite, numbers)))
    return numbers


def as_temperature(value) -> float:
    require(0.05 <= float(value) <= 10)
    return float(value)


def as_seed(value) -> int:
    require(0 <= operator.index(value) < 2**32)
    return operator.index(value)


class Widget(anywidget.AnyWidget):
    """What the widgets share: the look, and what stands in for the picture where no JavaScript runs.

    Each has a method `_fallback()`: HTML for notebooks that are not executed or not trusted.
    """

    _css = style()
    _ipython_display_ = None  # ipywidgets 7 would display by it, without the fallback

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return {**data, "text/html": self._fallback()}, metadata
