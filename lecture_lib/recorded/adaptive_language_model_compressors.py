"""Bits a byte of compressors on the held-out files: alone, and after the training text of the language model.

After the training text: what the held-out files add to a file that begins with the training text. gzip looks back 32
thousand bytes, bz2 900 thousand, xz here 64 million, that is over all of it. PPMd predicts each byte from the bytes
before it, as a language model does, and goes on counting while it reads; how many bytes it looks at (its order) is
picked on the training text: the last twentieth, after the rest. `seed` has no part in it.
"""

import bz2
import gzip
import lzma
from functools import cache

from lecture_lib.data import python_sources

ORDERS = (4, 6, 10, 16)


def ppmd(text: bytes, order: int) -> bytes:
    import pyppmd  # a package of the development environment

    return pyppmd.compress(text, max_order=order, mem_size=1 << 30)


@cache
def best_order(size: int | None) -> int:
    text = bytes(python_sources().train[:size].tolist())
    before = text[: len(text) * 19 // 20]
    return min(ORDERS, key=lambda order: len(ppmd(text, order)) - len(ppmd(before, order)))


PACKERS = {
    "gzip": lambda text, size: gzip.compress(text, 9, mtime=0),
    "bz2": lambda text, size: bz2.compress(text, 9),
    "xz": lambda text, size: lzma.compress(text, preset=9 | lzma.PRESET_EXTREME),
    "PPMd": lambda text, size: ppmd(text, best_order(size)),
}
GRID = {"seed": [0], "packer": list(PACKERS)}


def run(seed: int, packer: str, size: int | None = None) -> dict:
    """Bits a byte, alone and after the training text, of both the first `size` bytes."""
    text, pack = python_sources(), PACKERS[packer]
    before, held_out = (bytes(part[:size].tolist()) for part in (text.train, text.test))
    bits = 8 / len(held_out)
    result = {
        "alone": bits * len(pack(held_out, size)),
        "after the training text": bits * (len(pack(before + held_out, size)) - len(pack(before, size))),
    }
    return result | ({"order": best_order(size)} if packer == "PPMd" else {})


def small() -> dict:
    return {"seed": 0, "packer": "bz2", "size": 20_000}
