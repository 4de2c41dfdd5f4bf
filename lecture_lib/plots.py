"""Pictures that several notebooks draw: arrays and an `ax` in, the `ax` out. Nothing is trained or sampled here.

Series differ by colour, line and marker, and carry their name: no meaning by colour alone.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import BoxStyle, FancyBboxPatch, Rectangle

_CORNERS = np.array([[0.5, 3**0.5 / 2], [0, 0], [1, 0]])  # the first option on top
_DASHES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))]
_MARKERS = ["o", "s", "^", "D", "v", "P"]
_HATCHES = ["", "//", "..", "xx"]


def triangle(ax: Axes, labels: Sequence[str]) -> Axes:
    """Draw the simplex of three options as a triangle with named corners; `on_triangle` puts points on it."""
    outline = _CORNERS[[0, 1, 2, 0]]
    ax.plot(*outline.T, color="0.3", lw=1.5, zorder=3)
    for corner, label, below in zip(_CORNERS, labels, (False, True, True), strict=True):
        ax.annotate(label, corner, xytext=(0, -8 if below else 8), textcoords="offset points", ha="center",
                    va="top" if below else "bottom")  # fmt: skip
    ax.set(xlim=(-0.08, 1.08), ylim=(-0.12, 1.0), aspect="equal")
    ax.axis("off")
    return ax


def on_triangle(weights) -> np.ndarray:
    """Points of the simplex (..., 3) as points of the plane (..., 2)."""
    weights = np.asarray(weights)
    if weights.shape[-1:] != (3,):
        raise ValueError(f"weights must be (..., 3), got {weights.shape}")
    return weights @ _CORNERS


def bars(ax: Axes, groups: Sequence[str], series: Mapping[str, Sequence[float]], *, fmt: str = "{:.2f}") -> Axes:
    """One group of bars for each of `groups`, one bar in it for each of `series`, with its value above."""
    if not series:
        raise ValueError("series must hold at least one series of values, got none")
    width = 0.8 / len(series)
    for i, (name, values) in enumerate(series.items()):
        x = np.arange(len(groups)) + (i - (len(series) - 1) / 2) * width
        drawn = ax.bar(x, values, width * 0.92, label=name, hatch=_HATCHES[i % len(_HATCHES)], edgecolor="white")
        ax.bar_label(drawn, [fmt.format(v) for v in values], padding=2, fontsize="small")
    ax.set_xticks(range(len(groups)), groups)
    if len(series) > 1:
        ax.legend(frameon=False)
    return ax


def curves(ax: Axes, x: Sequence[float], series: Mapping[str, np.ndarray], *, legend: bool = True) -> Axes:
    """A line for the mean over seeds of each series (seeds, len(x)), in a band from its lowest to its highest seed."""
    colours = sns.color_palette("colorblind", len(series))
    for i, (name, values) in enumerate(series.items()):
        values = np.asarray(values)
        ax.fill_between(x, values.min(0), values.max(0), color=colours[i], alpha=0.15, lw=0)
        style = {"ls": _DASHES[i % len(_DASHES)], "marker": _MARKERS[i % len(_MARKERS)]}
        ax.plot(x, values.mean(0), label=name, color=colours[i], lw=2.2, markevery=max(1, len(x) // 8), **style)
    if legend:
        ax.legend(frameon=False)
    return ax


def scene(ax: Axes, patches, scores, truth: int, picked: int) -> Axes:
    """Patches (K, 8, 8) in a square grid with their scores (K,): the picked one framed, the true one in dots."""
    side = math.isqrt(len(patches))
    if side**2 != len(patches):
        raise ValueError(f"patches must fill a square grid, got {len(patches)}")
    step = 12  # 8 pixels, and room for the score
    corners = [(step * (k % side), step * (k // side)) for k in range(len(patches))]
    for k, (x, y) in enumerate(corners):
        ax.imshow(patches[k], cmap="gray_r", vmin=0, vmax=1, extent=(x, x + 8, y + 8, y))
        weight = "bold" if k == picked else "normal"
        ax.text(x + 4, y + 9.1, f"{scores[k]:.1f}", ha="center", va="top", fontsize="small", weight=weight)
    for k, pad, line in ((picked, 0.9, "-"), (truth, 0.2, (0, (1, 1)))):
        x, y = corners[k]
        colour = "C0" if line == "-" else "C1"
        frame = Rectangle(
            (x - pad, y - pad), 8 + 2 * pad, 8 + 2 * pad, fill=False, clip_on=False, ec=colour, lw=3, ls=line
        )
        ax.add_patch(frame)
    ax.set(xlim=(-1, step * side - 3), ylim=(step * side, -1))
    ax.axis("off")
    return ax


def box(ax: Axes, x: float, y: float, width: float, height: float, text: str = "", *, on=True, colour="C0") -> Axes:
    """A part of a diagram, its lower left corner at (x, y): filled if it is executed, a dashed outline if it is not."""
    style = {"fc": to_rgba(colour, 0.25), "ec": colour, "ls": "-"} if on else {"fc": "white", "ec": "0.6", "ls": "--"}
    rounded = BoxStyle("Round", pad=0, rounding_size=0.18 * min(width, height))
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=rounded, lw=1.6, **style))
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", color="0.1" if on else "0.45")
    return ax


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], *, colour="0.3", bend: float = 0.0) -> Axes:
    """An arrow of a diagram; `bend` curves it, to the left of its way if it is negative."""
    way = {"arrowstyle": "-|>", "color": colour, "lw": 1.8, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 15}
    ax.annotate("", end, start, arrowprops=way | {"connectionstyle": f"arc3,rad={bend}"})
    return ax
