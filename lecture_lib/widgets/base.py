"""What the widgets share: their module of JavaScript, checked traits, and what stands in where no JavaScript runs."""

import hashlib
import html
import operator
import re
import sys
import weakref
from collections.abc import Sequence
from numbers import Real
from pathlib import Path

import anywidget
import traitlets
from IPython import get_ipython

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


def plain(value) -> Real:
    """A number as Python's own. NumPy's and tensors without dimensions are numbers, bools are none."""
    value = value.item() if getattr(value, "ndim", None) == 0 else value
    require(isinstance(value, Real) and not isinstance(value, bool))
    return value


def as_number(value) -> float:
    return float(plain(value))


def as_written(value) -> float:
    return float(f"{as_number(value):.7g}")  # a float32 holds 1.3 as 1.29999995


def as_integer(value) -> int:
    return operator.index(plain(value))


def number(low: float, high: float, convert=as_written, kind="a number") -> tuple:
    """How to check a number from `low` to `high`, and what is allowed, in words."""

    def checked(value):
        require(low <= convert(value) <= high)
        return convert(value)

    return checked, f"{kind} from {low} to {high}"


def integer(low: int, high: int) -> tuple:
    """The same for an integer."""
    return number(low, high, as_integer, "an integer")


def several(convert, *counts: int):
    """How to check a list: `convert` for each value, one of the `counts` for their number."""

    def checked(values) -> list:
        require(not isinstance(values, str))
        values = [convert(value) for value in values]
        require(len(values) in counts)
        return values

    return checked


FINITE = number(-sys.float_info.max, sys.float_info.max)[0]
SEED = integer(0, 2**32 - 1)


def fallback(what: str, text: str, head: Sequence[str], rows: Sequence[Sequence[str]], body: str = "") -> str:
    """HTML where no JavaScript runs: what there is to see, and a table.

    Its cells are escaped, `what` and `text` not. Without a head each row's first cell is its
    header; `body` is HTML that stands before the table.
    """

    def row(cells: Sequence[str], *scopes: str) -> str:
        tags = [f'th scope="{scope}"' for scope in scopes] + ["td"] * len(cells)
        made = (f"<{tag}>{html.escape(cell)}</{tag[:2]}>" for tag, cell in zip(tags, cells, strict=False))
        return f"<tr>{''.join(made)}</tr>"

    names = f"<thead>{row(head, *['col'] * len(head))}</thead>" if head else ""
    lines = "".join(row(cells) if head else row(cells, "row") for cells in rows)
    said = f"An interactive {what}: run the notebook to see it. {text}".strip()
    return f"<p>{said}</p>{body}<table>{names}<tbody>{lines}</tbody></table>"


_alive = weakref.WeakValueDictionary()  # the widgets of cells, by their ids
_count = {"run": None, "made": 0}  # of the widgets that a run of a cell has made


def _place() -> str | None:
    """The id of a widget that is being made: a hash of its cell and of its number there. None outside of a cell.

    A cell that runs again gives the same ids. So the states in a notebook's file still fit after it was run and saved:
    JupyterLab shows its widgets the next day, before anything runs. With ids drawn anew it would find no state.
    """
    shell = get_ipython()
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    if "code" not in parent.get("content", {}):
        return None
    run, cell = parent["header"]["msg_id"], parent.get("metadata", {}).get("cellId")
    if not re.fullmatch(r"[\w-]{1,64}", cell or ""):  # no id of the file: as notebooks/build.py makes them
        cell = hashlib.sha256(f"code\n{parent['content']['code']}\n1".encode()).hexdigest()[:12]
    _count.update(run=run, made=_count["made"] + 1 if _count["run"] == run else 1)
    return hashlib.sha256(f"{cell}\n{_count['made']}".encode()).hexdigest()[:32]


class Widget(anywidget.AnyWidget):
    """What the widgets share: the look, and what stands in for the picture where no JavaScript runs.

    Each has a method `_fallback()`: HTML for notebooks that are not executed or not trusted.
    """

    _css = style()
    _ipython_display_ = None  # ipywidgets 7 would display by it, without the fallback

    def __init__(self, **traits):
        if place := _place():
            if place in _alive:  # the cell runs again: its first widget must not go, one day, with the second's id
                _alive[place].close()
            traits["model_id"] = place
            _alive[place] = self
        super().__init__(**traits)

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return {**data, "text/html": self._fallback()}, metadata
