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
    step = 13  # 8 pixels, and room for the score
    corners = [(step * (k % side), step * (k // side)) for k in range(len(patches))]
    for k, (x, y) in enumerate(corners):
        ax.imshow(patches[k], cmap="gray_r", vmin=0, vmax=1, extent=(x, x + 8, y + 8, y))
        weight = "bold" if k == picked else "normal"
        ax.text(x + 4, y + 9.5, f"{scores[k]:.1f}", ha="center", va="top", fontsize="small", weight=weight)
    for k, pad, line in ((picked, 0.9, "-"), (truth, 0.2, (0, (1, 1)))):
        x, y = corners[k]
        colour = "C0" if line == "-" else "C1"
        frame = Rectangle(
            (x - pad, y - pad), 8 + 2 * pad, 8 + 2 * pad, fill=False, clip_on=False, ec=colour, lw=3, ls=line
        )
        ax.add_patch(frame)
    ax.set(xlim=(-1, step * side - 4), ylim=(step * side, -1))
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


def equation(ax: Axes, image, scores: Sequence[float], z: Sequence[float]) -> Axes:
    """y = Σ_k z_k · f_k(x) for three options: an image, its scores, their weights; what has no weight does not run."""
    mid = 1.6
    ax.imshow(image, cmap="gray_r", extent=(0, 1.2, mid - 0.6, mid + 0.6))
    ax.text(0.6, mid - 0.75, "input $x$", ha="center", va="top")
    box(ax, 1.9, mid - 0.45, 1.2, 0.9, "score")
    arrow(ax, (1.3, mid), (1.85, mid))
    ax.text(4.0, 3.05, "scores $s$", ha="center")
    box(ax, 4.9, mid - 0.45, 1.2, 0.9, "choice")
    ax.text(6.85, 3.05, "weights $z$", ha="center")
    for k, (score, weight) in enumerate(zip(scores, z, strict=True)):
        y = 2.6 - k
        arrow(ax, (3.15, mid), (3.75, y), colour="0.6")
        ax.text(4.0, y, f"{score:g}", ha="center", va="center")
        arrow(ax, (4.25, y), (4.85, mid), colour="0.6")
        arrow(ax, (6.15, mid), (6.65, y), colour="0.6")
        ax.text(6.85, y, f"{weight:g}", ha="center", va="center", weight="bold" if weight else "normal")
        box(ax, 7.5, y - 0.38, 1.5, 0.76, f"$f_{k}(x)$", on=bool(weight))
        if weight:
            arrow(ax, (9.05, y), (9.6, mid))
    ax.text(9.75, mid, "$y$", va="center")
    ax.text(8.25, 0.0, "dashed: not run", ha="center", va="top", color="0.3", fontsize="small")
    ax.set(xlim=(-0.1, 10.1), ylim=(-0.3, 3.4))
    ax.axis("off")
    return ax


def dispatch(ax: Axes, p: np.ndarray) -> Axes:
    """How a layer of experts handles N tokens by their best expert: probabilities (N, E) in.

    Tokens in their order, sorted by expert, and each expert with its group.
    """
    n, n_experts = p.shape
    best = p.argmax(1)
    order = best.argsort(kind="stable").tolist()
    for i, e in enumerate(best):
        y, y_sorted = n - 1 - i, n - 1 - order.index(i)
        for x, height in ((0, y), (4.2, y_sorted)):
            box(ax, x, height, 1.1, 0.8, f"token {i}", colour=f"C{e}")
        arrow(ax, (1.15, y + 0.4), (4.15, y_sorted + 0.4), colour=f"C{e}")
        value = f"$\\pi_{e}$ = {p[i, e]:.2f}"
        ax.text(-0.15, y + 0.4, value, ha="right", va="center", color="0.25", fontsize="large")
    for e in range(n_experts):
        places = [n - 1 - order.index(i) for i in range(n) if best[i] == e]
        if not places:
            continue
        low, high = min(places), max(places) + 0.8
        box(ax, 6.6, low, 2.3, high - low, colour=f"C{e}")
        ax.text(7.75, (low + high) / 2, f"expert {e}: $f_{e}$", ha="center", va="center", fontsize="large")
        arrow(ax, (5.35, (low + high) / 2), (6.55, (low + high) / 2), colour=f"C{e}")
    for x, text, side in ((-0.15, "the largest", "right"), (2.65, "dispatch: sort by expert", "center"),
                          (7.75, "one product a group", "center")):  # fmt: skip
        ax.text(x, n + 0.05, text, ha=side)
    ax.text(9.05, n / 2, "combine:\n× probability,\nin the\nold order", va="center")
    ax.set(xlim=(-1.6, 10.7), ylim=(-0.1, n + 0.4))
    ax.axis("off")
    return ax


def expert_block(ax: Axes, n_experts: int = 4, chosen: int = 1) -> Axes:
    """A transformer block, from left to right, whose feed-forward network is a layer of experts."""
    mid, y_in = 1.5, -0.8
    for x, width, text in ((0.6, 1.0, "norm"), (2.0, 1.5, "attention"), (5.0, 1.0, "norm"), (6.4, 1.1, "router")):
        box(ax, x, mid - 0.4, width, 0.8, text, colour="C2" if text == "router" else "C0")
    for x in (4.2, 11.4):
        ax.text(x, mid, "+", ha="center", va="center", fontsize="x-large")
    steps = [(-0.2, 0.55), (1.65, 1.95), (3.55, 3.95), (4.4, 4.95), (6.05, 6.35), (11.65, 12.3)]
    for start, end in steps:
        arrow(ax, (start, mid), (end, mid))
    heights = np.linspace(-0.1, 3.1, n_experts)[::-1]
    for e, y in enumerate(heights):
        on = e == chosen
        box(ax, 8.6, y - 0.32, 1.5, 0.64, f"expert {e}", on=on, colour="C1")
        if on:
            arrow(ax, (7.55, mid), (8.55, y), colour="C1")
            arrow(ax, (10.15, y), (11.15, mid + 0.05), colour="C1")
            ax.text(10.55, y + 0.15, f"× $\\pi_{e}$", color="0.25", fontsize="large")
    for start, end in ((0.1, 4.2), (4.65, 11.4)):  # what goes around
        ax.plot([start, start, end], [mid, y_in, y_in], color="0.3", lw=1.5)
        arrow(ax, (end, y_in), (end, mid - 0.3))
    ax.text(8.0, y_in - 0.2, "residual stream", ha="center", va="top", color="0.3", fontsize="small")
    ax.text(9.35, 3.7, "in place of one feed-forward network", ha="center", fontsize="small")
    ax.text(8.45, -0.1, "dashed: not run", ha="right", va="center", color="0.3", fontsize="small")
    ax.set(xlim=(-0.3, 12.4), ylim=(-1.4, 4.1))
    ax.axis("off")
    return ax


def sorted_groups(ax: Axes, chosen: Sequence[int], n_experts: int) -> Axes:
    """Tokens with the expert that each chose, the same sorted by expert, and one product for each group."""
    order = np.argsort(chosen, kind="stable")
    ends = np.bincount(chosen, minlength=n_experts).cumsum()
    for place, token in enumerate(order):
        e = chosen[token]
        for x, y in ((0.62 * token, 3.6), (0.62 * place, 1.3)):
            box(ax, x, y, 0.56, 0.7, f"{e}", colour=f"C{e}")
        ax.plot([0.62 * token + 0.28, 0.62 * place + 0.28], [3.55, 2.05], color=f"C{e}", lw=1.2, alpha=0.7)
    for e, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        if end > start:
            middle = 0.31 * (start + end) - 0.03
            box(ax, middle - 0.8, -0.75, 1.6, 0.85, f"$\\times\\, W_{e}$", colour=f"C{e}")
            arrow(ax, (middle, 1.25), (middle, 0.12), colour=f"C{e}")
    right = 0.62 * len(chosen) + 0.26
    idle = [e for e in range(n_experts) if e not in list(chosen)]
    ax.text(right, 3.95, "tokens, each with its expert", va="center")
    ax.text(right, 1.65, f"sorted; groups end at {ends.tolist()}", va="center")
    ax.text(right, -0.3, f"one product for each group\n(none for expert {', '.join(map(str, idle))})", va="center")
    ax.set(xlim=(-0.1, right + 4.7), ylim=(-0.85, 4.4))
    ax.axis("off")
    return ax


def all_to_all(ax: Axes, wanted: Sequence[Sequence[int]], n_experts: int) -> Axes:
    """Tokens of two ranks, by the expert that each wants: to the rank of that expert, through it, and back."""
    half = n_experts // 2
    for r, base in enumerate((3.2, 0.2)):
        for left, width in ((0.0, 1.9), (4.0, 4.3), (10.4, 1.9)):
            ax.add_patch(Rectangle((left, base - 0.1), width, 2.7, fc="0.95", ec="0.75", lw=1, zorder=0))
        ax.text(-0.15, base + 1.25, f"rank {r}", ha="right", va="center", weight="bold")
        rows = sorted((e, q, i) for q in range(2) for i, e in enumerate(wanted[q]) if e // half == r)
        for place, (e, q, i) in enumerate(rows):
            own, here = (3.2, 0.2)[q] + 2.0 - 0.62 * i, base + 2.0 - 0.62 * place
            for x, y, text in ((0.3, own, f"{e}"), (4.2, here, f"{e}"), (10.7, own, f"$f_{e}$")):
                box(ax, x, y, 1.3, 0.5, text, colour=f"C{e}")
            style = {"lw": 2.2, "ls": "-"} if q != r else {"lw": 1.2, "ls": ":"}
            ax.plot([1.65, 4.15], [own + 0.25, here + 0.25], color=f"C{e}", **style)
            ax.plot([8.05, 10.65], [here + 0.25, own + 0.25], color=f"C{e}", **style)
        for e in sorted({row[0] for row in rows}):
            places = [base + 2.0 - 0.62 * p for p, row in enumerate(rows) if row[0] == e]
            low, high = min(places), max(places) + 0.5
            box(ax, 6.6, low, 1.4, high - low, f"expert {e}", colour=f"C{e}")
            arrow(ax, (5.55, (low + high) / 2), (6.55, (low + high) / 2), colour=f"C{e}")
    titles = {0.95: "its tokens", 2.9: "all to all", 6.15: "its experts", 9.35: "all to all", 11.35: "results"}
    for x, text in titles.items():
        ax.text(x, 6.05, text, ha="center")
    ax.text(6.15, -0.45, "solid: to the other rank; dotted: stays", ha="center", color="0.3", fontsize="small")
    ax.set(xlim=(-1.3, 12.4), ylim=(-0.6, 6.4))
    ax.axis("off")
    return ax


def ingredients(axes: Sequence[Axes], image) -> Sequence[Axes]:
    """What a convolution with pooling is made of, on three axes: windows of an image (8, 8), sharing, pooling.

    The same colour and hatch is the same weights.
    """
    titles = ["windows: nine neighbours", "+ sharing: one set of weights", "+ pooling: the largest of four"]
    reaches = [[(1, 1, 3), (4, 4, 3)], [(1, 1, 3), (4, 4, 3)], [(1, 1, 4), (3, 3, 4)]]  # left, top, side
    cells = [[(2, 2, 1), (5, 5, 1)], [(2, 2, 1), (5, 5, 1)], [(2, 2, 2), (4, 4, 2)]]
    for k, (ax, title) in enumerate(zip(axes, titles, strict=True)):
        ax.imshow(image, cmap="gray_r", vmin=0, vmax=2, extent=(0, 8, 8, 0))
        for line in range(0, 9, 1 + (k == 2)):
            ax.plot([11, 19], [line, line], color="0.8", lw=0.8)
            ax.plot([11 + line, 11 + line], [0, 8], color="0.8", lw=0.8)
        for i, (reach, cell) in enumerate(zip(reaches[k], cells[k], strict=True)):
            own = i == 1 and k == 0
            for x, y, side in (reach, (11 + cell[0], *cell[1:])):
                fill, edge = to_rgba(f"C{int(own)}", 0.35), f"C{int(own)}"
                ax.add_patch(Rectangle((x, y), side, side, fc=fill, ec=edge, lw=1.8, hatch="//" * own))
            middle = cell[1] + cell[2] / 2
            arrow(ax, (reach[0] + reach[2], middle), (11 + cell[0], middle))
        ax.set(xlim=(-0.3, 19.3), ylim=(8.3, -0.3), aspect="equal")
        ax.set_title(title, fontsize="medium")
        ax.axis("off")
    return axes


def patterns(axes: Sequence[Axes]) -> Sequence[Axes]:
    """Map, windowed map and fold over a list of five, on three axes: one function f at several places."""
    for ax, title in zip(axes, ["map", "windowed map: a convolution", "fold: a recurrent network"], strict=True):
        places = range(1, 4) if title[0] == "w" else range(5)
        for t in range(5):
            ax.text(t, 0, f"$x_{t}$", ha="center", va="center", fontsize="large")
        for t in places:
            box(ax, t - 0.32, 1, 0.64, 0.64, "$f$", colour="C1" if title[0] == "f" else "C0")
            for source in (t - 1, t, t + 1) if title[0] == "w" else (t,):
                arrow(ax, (t + 0.8 * (source - t), 0.25), (t + 0.2 * (source - t), 0.97))
            if title[0] != "f":
                arrow(ax, (t, 1.67), (t, 2.3))
                ax.text(t, 2.55, f"$y_{t - 1 if title[0] == 'w' else t}$", ha="center", va="center", fontsize="large")
        if title[0] == "f":
            for t in range(6):
                arrow(ax, (t - 0.68, 1.32), (t - 0.34, 1.32))
            ax.text(-0.72, 1.32, "$h$", ha="right", va="center", fontsize="large")
            ax.text(4.7, 1.32, "$h'$", ha="left", va="center", fontsize="large")
        ax.set(xlim=(-1.1, 5.1), ylim=(-0.4, 2.9), aspect="equal")
        ax.set_title(title, fontsize="medium")
        ax.axis("off")
    return axes


def decision(ax: Axes, image: np.ndarray, scores: Sequence[float]) -> Axes:
    """From left to right an image, a scorer, three scores, argmax, the choice, what follows; no gradient comes back."""
    ax.imshow(image, cmap="gray_r", extent=(0.1, 1.3, 1.1, 2.3))
    ax.text(0.7, 0.98, "input x", ha="center", va="top")
    box(ax, 1.75, 1.25, 1.35, 0.9, "scorer\nscore(x)")
    best = max(range(len(scores)), key=scores.__getitem__)
    for k, (option, score) in enumerate(zip("abc", scores, strict=True)):
        y = 2.15 - 0.6 * k
        ax.text(3.62, y, option, va="center")
        ax.barh(y, 0.75 * score, 0.36, left=3.85, color="C0")
        ax.text(3.93 + 0.75 * score, y, f"{score}", va="center")
        box(ax, 6.5, y - 0.23, 0.46, 0.46, f"{int(k == best)}", on=k == best, colour="C2")
    for x, y, text in ((4.3, 2.5, "scores s"), (6.73, 2.5, "choice z")):
        ax.text(x, y, text, ha="center", va="bottom")
    box(ax, 7.55, 1.05, 1.5, 1.3, "$f_k$, and\nwhat follows")
    for start, end in ((1.4, 1.7), (3.15, 3.5), (5.4, 6.35), (7.1, 7.5), (9.1, 9.5)):
        arrow(ax, (start, 1.7), (end, 1.7))
    ax.text(9.55, 1.7, "loss", va="center")
    ax.text(5.87, 1.82, "argmax", ha="center", va="bottom", weight="bold")
    arrow(ax, (9.75, 1.45), (6.15, 0.42), colour="C3", bend=-0.22)
    ax.text(8.3, 0.22, "gradient", color="C3", ha="center", va="top")
    ax.text(5.87, 0.42, "✗", color="C3", ha="center", va="center", fontsize=24, weight="bold")
    ax.set(xlim=(0, 10.2), ylim=(-0.25, 2.85), aspect="equal")
    ax.axis("off")
    return ax


def partial_network(ax: Axes, image: np.ndarray, patches: Sequence, blocks: Sequence, parts: Sequence) -> Axes:
    """A small transformer: 16 patches of an image (8, 8), four blocks above, each of 4 heads and 4 slices of an MLP.

    Args:
        patches, blocks, parts: 16, 4, and 4 times 8 truth values; what is off is an outline.
    """
    pixels = np.asarray(image).reshape(4, 2, 4, 2).swapaxes(1, 2)
    for t, on in enumerate(patches):
        x, y = 0.85 + 0.36 * (t % 4), 1.08 - 0.36 * (t // 4)
        if on:
            ax.imshow(pixels[t // 4, t % 4], cmap="Blues", vmin=-0.15, vmax=1.15, extent=(x, x + 0.32, y, y + 0.32))
        box(ax, x, y, 0.32, 0.32, on=on)
        if on:
            ax.patches[-1].set_facecolor("none")
    for b, on in enumerate(blocks):
        y = 1.78 + 0.58 * b
        box(ax, 0, y, 3.1, 0.46, on=on, colour="0.5")
        for g in range(8):
            colour = "C0" if g < 4 else "C1"
            box(ax, 0.1 + 0.36 * g + 0.08 * (g > 3), y + 0.1, 0.3, 0.26, on=bool(on and parts[b][g]), colour=colour)
        if not on:
            arrow(ax, (3.16, y - 0.06), (3.16, y + 0.52), colour="0.2", bend=0.8)
    arrow(ax, (1.55, 1.48), (1.55, 1.76))
    arrow(ax, (1.55, 4.0), (1.55, 4.26))
    ax.set(xlim=(-0.05, 3.55), ylim=(-0.35, 4.3), aspect="equal")
    ax.axis("off")
    return ax


def patches_kept(ax: Axes, image, keep=None) -> Axes:
    """An image (S, S) with its grid of patches; those whose `keep` (P,) is false are hatched out."""
    image = np.asarray(image)
    side = 4 if keep is None else math.isqrt(len(keep))
    if keep is not None and side**2 != len(keep):
        raise ValueError(f"keep must fill a square grid, got {len(keep)} values")
    ax.imshow(image, cmap="gray_r", vmin=0, vmax=1, extent=(0, side, side, 0))
    for line in range(side + 1):
        ax.plot([0, side], [line, line], color="0.8", lw=0.6)
        ax.plot([line, line], [0, side], color="0.8", lw=0.6)
    for p in range(side**2 if keep is not None else 0):
        if not keep[p]:
            ax.add_patch(Rectangle((p % side, p // side), 1, 1, fc="0.93", ec="0.7", hatch="///", lw=0, alpha=0.75))
    ax.set(xticks=[], yticks=[], xlim=(0, side), ylim=(side, 0))
    ax.spines[:].set_visible(False)
    return ax


def characters(ax: Axes, text: Sequence[int], inside: Sequence) -> Axes:
    """Bytes in a row, those that are `inside` framed; a space is a dot."""
    for t, (byte, framed) in enumerate(zip(text, inside, strict=True)):
        sign = {10: "↵", 32: "·"}.get(byte, chr(byte) if 32 < byte < 127 else "?")
        if framed:
            ax.add_patch(Rectangle((t - 0.5, 0), 1, 1, fc="#d6e8f2", ec="C0", lw=0.8))
        ax.text(t, 0.46, sign, ha="center", va="center", family="monospace", fontsize=15)
    ax.set(xlim=(-1, len(text)), ylim=(-0.1, 1.1))
    ax.axis("off")
    return ax


def exits(ax: Axes, said: Sequence[str], leaves: int) -> Axes:
    """A chain of blocks with a head above each, left at exit number `leaves`; said: what the heads say, if asked."""
    for k in range(len(said)):
        left, on = 0.5 + 2.2 * k, k <= leaves
        arrow(ax, (left - (0.5 if k == 0 else 0.8), 0.5), (left, 0.5), colour="0.3" if on else "0.7")
        box(ax, left, 0, 1.4, 1, f"block {k}", on=on)
        box(ax, left + 0.3, 1.6, 0.8, 0.6, f"head {k}", on=on, colour="C1")
        arrow(ax, (left + 0.7, 1), (left + 0.7, 1.6), colour="0.3" if on else "0.7")
        ax.text(left + 0.7, 2.35, said[k], ha="center", weight="bold")
    ax.text(-0.05, 0.5, "x", ha="right", va="center")
    start = 1.75 + 2.2 * leaves
    arrow(ax, (start, 1.9), (start + 0.75, 1.9), colour="C1")
    ax.text(start + 0.8, 2.35, "sure enough: leave", va="bottom", color="0.3")
    ax.text(0.3 + 2.2 * len(said), 0.5, "dashed:\nnot run", va="center", color="0.3", fontsize="small")
    ax.set(xlim=(-0.4, 2.2 * len(said) + 1.2), ylim=(-0.2, 2.9), aspect="equal")
    ax.axis("off")
    return ax


def copied_states(ax: Axes, leaves: Mapping[int, int], layers: int = 4) -> Axes:
    """Tokens side by side, their layers above each other; behind its exit a token's state is copied upwards.

    leaves: of each token the exit; the last token attends, in the highest layer, to what the others left there.
    """
    for x, (token, exit) in enumerate(leaves.items()):
        for k in range(layers):
            runs = k <= exit
            text = f"layer {k}" if runs else f"copy of {exit}"
            box(ax, 2.6 * x, k, 1.5, 0.68, text, on=runs)
            if k < layers - 1:
                arrow(ax, (2.6 * x + 0.75, k + 0.68), (2.6 * x + 0.75, k + 1), colour="0.3" if runs else "0.7")
        ax.text(2.6 * x + 0.75, -0.35, f"token {token}: exit {exit}", ha="center")
    end = 2.6 * (len(leaves) - 1)
    arrow(ax, (end, layers - 0.66), (end - 1.1, layers - 0.66), colour="C3")
    ax.text(end - 0.55, layers - 0.55, "attends", color="C3", ha="center", fontsize="small")
    ax.set(xlim=(-0.3, end + 1.8), ylim=(-0.6, layers - 0.1))
    ax.axis("off")
    return ax


def stick(ax: Axes, z: Sequence[float], names: Sequence[str]) -> Axes:
    """Weights with sum 1 as pieces of a stick, each with its name above and its size below."""
    left = 0.0
    for k, (width, name) in enumerate(zip(z, names, strict=True)):
        ax.barh(0, width, left=left, color=f"C{k}", hatch=_HATCHES[k % 4], edgecolor="white", height=0.5)
        ax.text(left + width / 2, 0.33, name, ha="center", va="bottom")
        ax.text(left + width / 2, -0.33, f"{width:.2f}", ha="center", va="top")
        left += width
    ax.set(xlim=(0, 1.03), ylim=(-0.7, 0.75))
    ax.axis("off")
    return ax
