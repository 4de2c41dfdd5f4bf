"""What a notebook calls: a first line, figures that can be read without eyes, and exercises that check themselves."""

import io
import os
from collections.abc import Callable

import matplotlib.pyplot as plt
import seaborn as sns
import torch
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from lecture_lib import exercises


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

    Args:
        alt: what the picture says, for those who do not see it: the message, not the kind of plot alone.
    """
    if not alt.strip():
        raise ValueError(f"alt must say what the picture says, got {alt!r}")
    full, png = io.BytesIO(), io.BytesIO()
    fig.savefig(full, format="png", dpi=2 * 72)  # twice the pixels, for sharp projection
    Image.open(full).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(png, format="png", optimize=True)
    width, height = (round(72 * inches) for inches in fig.get_size_inches())
    plt.close(fig)
    display(
        {"image/png": png.getvalue(), "text/plain": alt},
        metadata={"image/png": {"alt": alt, "width": width, "height": height}},
        raw=True,
    )


def check(name: str, answer: object) -> None:
    """Print whether `answer` solves the exercise `name`: not attempted yet, not right yet with a hint, or right.

    Not attempted is `...` or None, or a function that returns it. An error inside of a learner's function comes
    through, with its own traceback.
    """
    checks: dict[str, Callable] = exercises.CHECKS
    if name not in checks:
        raise ValueError(f"name must be one of {sorted(checks)}, got {name!r}")
    try:
        if answer is None or answer is ...:
            raise exercises.NotAttempted
        if not callable(answer):
            raise exercises.Wrong("hand over the function itself, not what it returns.")
        praise = checks[name](answer)
    except exercises.NotAttempted:
        print("○ Not attempted yet. Replace the three dots, then run this cell again.")
    except exercises.Wrong as hint:
        print(f"✗ Not right yet: {hint}")
    else:
        print(f"✓ Right. {praise}")
