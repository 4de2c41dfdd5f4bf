"""Bits a byte of compressors on the held-out files: alone, and after the training text of the language model.

After the training text: what the held-out files add to a file that begins with the training text. gzip looks back 32
thousand bytes, bz2 900 thousand, xz here 64 million, that is over all of it. `seed` has no part in it.
"""

import bz2
import gzip
import lzma

from lecture_lib.data import python_sources

PACKERS = {
    "gzip": lambda text: gzip.compress(text, 9, mtime=0),
    "bz2": lambda text: bz2.compress(text, 9),
    "xz": lambda text: lzma.compress(text, preset=9 | lzma.PRESET_EXTREME),
}
GRID = {"seed": [0], "packer": list(PACKERS)}


def run(seed: int, packer: str, size: int | None = None) -> dict:
    """Bits a byte, alone and after the training text, of both the first `size` bytes."""
    text, pack = python_sources(), PACKERS[packer]
    before, held_out = (bytes(part[:size].tolist()) for part in (text.train, text.test))
    bits = 8 / len(held_out)
    return {
        "alone": bits * len(pack(held_out)),
        "after the training text": bits * (len(pack(before + held_out)) - len(pack(before))),
    }


def small() -> dict:
    return {"seed": 0, "packer": "bz2", "size": 20_000}
