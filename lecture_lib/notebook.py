"""What a notebook calls: a first line, figures that can be read without eyes, claims, exercises with their checks."""

import contextlib
import html
import io
import os
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from lecture_lib import exercises
from lecture_lib.exercises.answers import graded


def setup(seed: int = 0) -> int:
    """Seed torch, keep it to one thread, and give every figure the lecture's look, safe for colour-blind readers.

    One thread: for networks as small as ours a second one brings little, and measured times are steadier without.

    Returns: the seed; the environment variable LECTURE_SEED, where it is set, takes the place of `seed`.
    """
    seed = os.environ.get("LECTURE_SEED", seed)
    if not str(seed).isdecimal():
        raise ValueError(f"seed, or LECTURE_SEED, must be an integer of at least 0, got {seed!r}")
    seed = int(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    sns.set_theme(
        context="notebook",
        style="ticks",
        palette="colorblind",
        font_scale=1.15,
        rc={"axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True},
    )
    return seed


def show(fig: Figure, alt: str) -> None:
    """Display a figure as PNG with alternative text, and close it.

    JupyterLab and nbconvert read no such text: it stands once more below the figure, folded, and on no slide.

    Args:
        alt: what the picture says, for those who do not see it: the message, not the kind of plot alone.
    """
    if not alt.strip():
        raise ValueError(f"alt must say what the picture says, got {alt!r}")
    full, png = io.BytesIO(), io.BytesIO()
    fig.savefig(full, format="png", dpi=2 * 72)  # twice the pixels, for sharp projection
    Image.open(full).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(png, format="png", optimize=True)
    width, height = (round(72 * inches) for inches in fig.get_size_inches())
    plt.close(fig)
    display(
        {"image/png": png.getvalue(), "text/plain": alt},
        metadata={"image/png": {"alt": alt, "width": width, "height": height}},
        raw=True,
    )
    folded = f"<details><summary>What the figure shows</summary>{html.escape(alt, quote=False)}</details>"
    display({"text/html": folded}, metadata={"text/html": {"describes": "figure"}}, raw=True)


def claim(text: str, holds: object, *, clock: bool = False, **numbers: object) -> None:
    """Print whether a comparison that the lesson states holds here, with its numbers. One that fails stops nothing.

    `make claims` counts how often each holds under other seeds.

    Args:
        text: the statement, whole, as a literal string.
        holds: a bool, NumPy's as well, or a tensor of one without dimensions.
        clock: the numbers are seconds, or come from them: counted apart, as another machine is another result.
        numbers: what was compared, under its names: integers are printed whole, others to three significant digits.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"text must say what is claimed, got {text!r}")
    is_truth = isinstance(holds, Tensor) and holds.dtype == torch.bool and holds.ndim == 0
    if not is_truth and not isinstance(holds, bool | np.bool_):
        raise ValueError(f"holds must be one truth value, True or False, got {holds!r}")
    told = ", ".join(f"{name.replace('_', ' ')} {_short(name, number)}" for name, number in numbers.items())
    print(f"{'✓' if holds else '✗ did not hold here:'} {text}{': ' * bool(told)}{told}")


def _short(name: str, number: object) -> str:
    """An integer whole, another number to three significant digits."""
    with contextlib.suppress(AttributeError, TypeError, ValueError, RuntimeError):  # no number, or several
        value = number.item() if isinstance(number, Tensor | np.ndarray | np.generic) else number
        if isinstance(value, int):
            return str(value)
        value = float(value)
        if not 1e-4 <= abs(value) < 1e6:  # 0, NaN and infinity too
            return f"{value:.3g}"
        return np.format_float_positional(value, 3, unique=False, fractional=False, trim="-")
    raise ValueError(f"{name} must be one number, got {number!r}")


def check(name: str, answer: object) -> None:
    """Print whether `answer` solves the exercise `name`: not attempted yet, not right yet with a hint, or right.

    Not attempted is `...` or None, or a function that returns it. An error inside of a learner's function comes
    through, with its own traceback.
    """
    checks: dict[str, Callable] = exercises.CHECKS
    if name not in checks:
        raise ValueError(f"name must be one of {sorted(checks)}, got {name!r}")
    status, said = graded(checks[name], answer)
    if status == "passed":
        print(f"✓ Right. {said}")
    elif status == "wrong":
        print(f"✗ Not right yet: {said}")
    else:
        print("○ Not attempted yet. Replace the three dots, then run this cell again.")
