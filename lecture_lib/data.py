"""Real data without a download, and synthetic tasks made of it."""

import codecs
import gzip
import hashlib
import io
import keyword
import math
import random
import re
import sysconfig
import tokenize
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lecture_lib.simplex import as_integer


class Digits(NamedTuple):
    """Handwritten digits, 8 x 8 pixels in [0, 1], with their class 0 to 9; a fixed split, classes in equal shares."""

    train_x: Tensor  # (1257, 8, 8) float32
    train_y: Tensor  # (1257,) int64
    test_x: Tensor  # (540, 8, 8)
    test_y: Tensor  # (540,)


def digits() -> Digits:
    """The digits that come with scikit-learn: 1,797 images by 13 writers, 70 % of them for training.

    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI repository (its test part). Writers
    are not marked, so both parts of the split hold digits of the same hands.
    """
    from sklearn.datasets import load_digits  # a second to import: only for those who want the data
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)
    train_x, test_x = (torch.tensor(part / 16, dtype=torch.float32).reshape(-1, 8, 8) for part in parts[:2])
    train_y, test_y = (torch.tensor(part) for part in parts[2:])
    return Digits(train_x, train_y, test_x, test_y)


def openml(name: str) -> Digits:
    """Square grey images of openml.org, such as "Fashion-MNIST" or "mnist_784" (28 x 28, 70,000), for who is online.

    Pixels in [0, 1], classes from 0 up in the order of their names; the first six sevenths are for training, as these
    two have it. The first call downloads, later ones read scikit-learn's cache.

    Raises:
        ConnectionError: no network, and nothing in the cache.
        ValueError: no data set of this name, or its rows are not square images.
    """
    from sklearn.datasets import fetch_openml

    try:
        x, y = fetch_openml(name, version=1, return_X_y=True, as_frame=False)
    except OSError as error:
        raise ConnectionError(f"name {name!r} has to be fetched from openml.org, which failed: {error}") from error
    side = math.isqrt(x.shape[1])
    if side**2 != x.shape[1]:
        raise ValueError(f"name must be a data set of square images, {name!r} has {x.shape[1]} numbers a row")
    images = torch.tensor(x / x.max(), dtype=torch.float32).reshape(-1, side, side)
    labels = torch.tensor(np.unique(y, return_inverse=True)[1])
    n_train = len(images) * 6 // 7
    return Digits(images[:n_train], labels[:n_train], images[n_train:], labels[n_train:])


def digit_tasks() -> dict[str, Digits]:
    """Six tasks of one shape, by name, that conflict: 8 x 8 images in, one of at most ten classes out.

        class      which digit? (10 classes)
        parity     even 0, odd 1
        ink        1 if the image has more ink than the median training image, else 0
        turned     which digit, when the image is turned by 180 degrees? A six looks like a nine
        inverted   which digit, in white on black: 1 - pixel?
        mirrored   which digit, left and right exchanged? A two looks like a five

    Row n of every task is the same digit, in the split of `digits`: a network can only be right on all of them if it is
    told the task.
    """
    data = digits()
    train, test = data[:2], data[2:]
    median = train[0].sum((-1, -2)).median()
    tasks = {
        "class": lambda x, y: (x, y),
        "parity": lambda x, y: (x, y % 2),
        "ink": lambda x, y: (x, (x.sum((-1, -2)) > median).long()),
        "turned": lambda x, y: (x.flip(-1, -2), y),
        "inverted": lambda x, y: (1 - x, y),
        "mirrored": lambda x, y: (x.flip(-1), y),
    }
    return {name: Digits(*task(*train), *task(*test)) for name, task in tasks.items()}


def batches(*tensors: Tensor, size: int = 64, generator: torch.Generator | None = None) -> Iterator[tuple[Tensor, ...]]:
    """Endless shuffled batches of `size` examples: each pass is a new order, its last incomplete batch is left out."""
    n = len(tensors[0]) if tensors else 0
    if not 1 <= size <= n or any(len(t) != n for t in tensors):
        lengths = [len(t) for t in tensors]
        raise ValueError(f"size must be 1 to the common length of the tensors, got size {size} for lengths {lengths}")
    while True:
        order = torch.randperm(n, generator=generator)
        for rows in order[: n - n % size].split(size):
            yield tuple(t[rows] for t in tensors)


class Scenes(NamedTuple):
    """Find the digit: K patches, one of them a digit, the rest clutter."""

    patches: Tensor  # (B, K, 8, 8)
    label: Tensor  # (B,) the digit's class: all that a learner is told
    position: Tensor  # (B,) where the digit is: for measuring only


def find_the_digit(
    x: Tensor, y: Tensor, *, n_scenes: int = 64, n_patches: int = 9, generator: torch.Generator | None = None
) -> Scenes:
    """Draw scenes in which one of `n_patches` patches is a digit of `x` (N, 8, 8), and the others are made of digits.

    Seven in ten clutter patches are digits with their pixels shuffled, the others mosaics, each quadrant from another
    digit: the first are told from a digit by any smoothness, the second only by their shape.
    """
    if x.shape[1:] != (8, 8) or not 1 <= len(x) == len(y):
        raise ValueError(f"x must be (N, 8, 8) and y (N,) for N >= 1, got {tuple(x.shape)} and {tuple(y.shape)}")
    if n_scenes < 0 or n_patches < 2:
        raise ValueError(f"n_scenes must be at least 0 and n_patches at least 2, got {n_scenes} and {n_patches}")

    def draw(*shape: int, high: int = len(x)) -> Tensor:
        return torch.randint(high, shape, generator=generator)

    pixels = x.flatten(1)
    orders = torch.rand(64, 64, generator=generator).argsort(-1)  # 64 ways to shuffle, new in every batch
    shuffled = pixels[draw(n_scenes, n_patches)].gather(-1, orders[draw(n_scenes, n_patches, high=64)])
    quadrant = torch.arange(4).reshape(2, 2).repeat_interleave(4, 0).repeat_interleave(4, 1).flatten()  # (64,)
    mosaic = pixels[draw(n_scenes, n_patches, 4)[..., quadrant], torch.arange(64)]
    patches = torch.where(draw(n_scenes, n_patches, 1, high=10) < 7, shuffled, mosaic)
    digit, position = draw(n_scenes), draw(n_scenes, high=n_patches)
    patches[torch.arange(n_scenes), position] = pixels[digit]
    return Scenes(patches.unflatten(-1, (8, 8)), y[digit], position)


class Sources(NamedTuple):
    """Text as bytes, with a NUL byte between its pieces: files, paragraphs, rows of tables."""

    train: Tensor  # (T,) uint8
    test: Tensor  # (T',) uint8: pieces of their own


def python_sources() -> Sources:
    """The sources of the Python standard library that runs this, without its tests: 11 MB of text with no download.

    One file in twenty is held out, by a hash of its path in the library: it is held out in every version of Python,
    though what it says changes a little from one to the next.
    """
    root = Path(sysconfig.get_path("stdlib"))
    others = {"site-packages", "dist-packages", "test", "tests", "idle_test", "idlelib", "lib2to3"}
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if others.isdisjoint(name.parts) and not name.stem.startswith("_sysconfigdata"):  # that one is the machine's
            parts[_held_out(name.as_posix(), 20)].append(path.read_bytes())
    if not all(parts):
        raise FileNotFoundError(f"the Python standard library's sources should be in {root}, and are not")
    return _sources(parts)


def english() -> Sources:
    """Paragraphs of plain English from docstrings of NumPy, SciPy, scikit-learn and Matplotlib, each once: 0.7 MB.

    No line of it is in the standard library. Files are held out as those of `python_sources` are, one in ten.
    """
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    seen = set()
    for package in ("matplotlib", "numpy", "scipy", "sklearn"):
        root = Path(find_spec(package).origin).parent
        for path in sorted(root.rglob("*.py")):
            name = path.relative_to(root.parent)
            if "tests" in name.parts:
                continue
            for string in re.findall(r'"""(.*?)"""', path.read_text("utf-8"), re.DOTALL):
                for paragraph in re.split(r"\n\s*\n", string):
                    text = " ".join(paragraph.split())
                    if text not in seen and _PROSE.fullmatch(text):
                        seen.add(text)
                        parts[_held_out(name.as_posix(), 10)].append(text.encode())
    return _sources(parts)


_PROSE = re.compile(r"(?!.*--)[A-Z][a-zA-Z0-9 ,.;:?!()/'\"%-]{78,}\.")  # 80 letters or more, no markup


def tables() -> Sources:
    """Rows of the tables that come with scikit-learn, as text, numbers with commas between them: 0.4 MB.

    Every tenth row of a table is held out, so the columns are known, their numbers are not.
    """
    from sklearn import datasets

    folder = Path(datasets.__file__).parent / "data"
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    for name in ("breast_cancer.csv", "diabetes_data_raw.csv.gz", "digits.csv.gz", "iris.csv", "wine_data.csv"):
        data = (folder / name).read_bytes()
        rows = (gzip.decompress(data) if name.endswith(".gz") else data).replace(b"\r", b"").strip().split(b"\n")
        for part, held_out in zip(parts, (False, True), strict=True):
            chosen = [row.replace(b" ", b",") for i, row in enumerate(rows) if (i % 10 == 9) == held_out]
            part.append(b"\n".join(chosen) + b"\n")
    return _sources(parts)


def _held_out(name: str, one_in: int) -> bool:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % one_in == 0


def _sources(parts: tuple[list[bytes], list[bytes]]) -> Sources:
    return Sources(*(torch.frombuffer(bytearray(b"\0".join(pieces)), dtype=torch.uint8) for pieces in parts))


class Language:
    """A small language with a grammar of its own: made-up words, and for each sentence how surprising it is.

        sentence -> noun phrase, verb phrase
        noun phrase -> article noun [adjective] [relative clause]
        verb phrase -> verb [noun phrase]               the verb agrees with its subject in number
        relative clause -> "ke" verb phrase             its verb agrees with the noun before it

    Articles and adjectives agree with their noun in number and class. A subject and its verb may stand far apart, with
    a clause between them, and clauses nest: what a count of neighbouring words cannot know. Words are drawn with
    probability 1/1, 1/2, 1/3 ..., optional parts with probability 0.3. Each sentence has one derivation only, so minus
    the logarithm of the derivation's probability is the sentence's information.

    Args:
        seed: of the words.
    """

    OPTIONAL = 0.3

    def __init__(self, seed: int = 0):
        rng = random.Random(as_integer("seed", seed, "an integer >= 0", 0))
        syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
        stems = [first + second for first in syllables for second in syllables]
        rng.shuffle(stems)
        self.nouns, self.verbs, self.adjectives = stems[:48], stems[48:72], stems[72:84]

    def text(self, n: int, *, seed: int = 0) -> tuple[Tensor, float]:
        """n sentences, one a line: bytes (T,) uint8, and their information in bits, the least that any model needs."""
        n = as_integer("n", n, "an integer >= 1", 1)
        rng = random.Random(as_integer("seed", seed, "an integer >= 0", 0))
        words, bits = [], []
        for _ in range(n):
            number = self._noun_phrase(rng, words, bits)
            self._verb_phrase(rng, number, words, bits)
            words.append(".\n")
        text = " ".join(words).replace(" .", ".").replace("\n ", "\n")
        return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8), math.fsum(bits)

    def _noun_phrase(self, rng: random.Random, words: list[str], bits: list[float]) -> int:
        number, noun = _draw(rng, [0.5, 0.5], bits), _draw(rng, _zipf(len(self.nouns)), bits)
        ending = "oaiu"[2 * number + noun % 2]  # of number and class
        words += ["l" + ending, self.nouns[noun] + ending]
        if _draw(rng, [1 - self.OPTIONAL, self.OPTIONAL], bits):
            words.append(self.adjectives[_draw(rng, _zipf(len(self.adjectives)), bits)] + ending + "n")
        if _draw(rng, [1 - self.OPTIONAL, self.OPTIONAL], bits):
            words.append("ke")
            self._verb_phrase(rng, number, words, bits)
        return number

    def _verb_phrase(self, rng: random.Random, number: int, words: list[str], bits: list[float]) -> None:
        words.append(self.verbs[_draw(rng, _zipf(len(self.verbs)), bits)] + ("s", "t")[number])
        if _draw(rng, [1 - self.OPTIONAL, self.OPTIONAL], bits):
            self._noun_phrase(rng, words, bits)


def _zipf(n: int) -> list[float]:
    weights = [1 / (k + 1) for k in range(n)]
    return [weight / sum(weights) for weight in weights]


def _draw(rng: random.Random, p: list[float], bits: list[float]) -> int:
    """A place of p; its information is added to bits."""
    k = rng.choices(range(len(p)), p)[0]
    bits.append(-math.log2(p[k]))
    return k


KINDS = ("space", "keyword", "name", "number", "string", "comment", "operator")


def token_kinds(source: Tensor) -> Tensor:
    """The kind of each byte of Python source, as Python's own tokenizer sees it: a ground truth for specialisation.

    Args:
        source: (T,) uint8, whole files with a NUL byte between them.

    Returns: (T,) int64, places in `KINDS`; spaces, indentation and line ends are "space", docstrings are "string".
    """
    if not isinstance(source, Tensor) or source.dtype != torch.uint8 or source.ndim != 1:
        raise TypeError(f"source must be a tensor (T,) of uint8, got {getattr(source, 'dtype', type(source).__name__)}")
    kinds = torch.zeros(len(source), dtype=torch.int64)
    start = 0
    for file in bytes(source.tolist()).split(b"\0"):
        text = file.removeprefix(codecs.BOM_UTF8)  # no column counts it
        start += len(file) - len(text)
        lines = text.splitlines(keepends=True) if b"\r" not in text else io.BytesIO(text).readlines()
        starts = [start, *(start + end for end in accumulate(map(len, lines)))]  # of each line
        try:
            tokens = list(tokenize.tokenize(io.BytesIO(text).readline))
        except (tokenize.TokenError, SyntaxError, UnicodeDecodeError) as error:
            raise ValueError(f"source must be whole files of Python: at byte {start}, {error}") from None
        width = partial(_width, encoding=tokens[0].string)  # what the file says of itself, or UTF-8
        for token in tokens:
            kind = _kind(token)
            if kind:
                (row, column), (end_row, end_column) = token.start, token.end
                first, last = lines[row - 1], lines[end_row - 1]
                kinds[starts[row - 1] + width(first, column) : starts[end_row - 1] + width(last, end_column)] = kind
        start += len(text) + 1
    return kinds


def _kind(token: tokenize.TokenInfo) -> int:
    name = tokenize.tok_name[token.type]
    if name == "NAME":
        return KINDS.index("keyword" if keyword.iskeyword(token.string) else "name")
    if "STRING" in name:  # Python 3.12 cuts formatted strings into parts
        return KINDS.index("string")
    return {"NUMBER": 3, "COMMENT": 5, "OP": 6}.get(name, 0)


def _width(line: bytes, column: int, encoding: str) -> int:
    """Columns are counted in characters: how many bytes are they?"""
    return column if line.isascii() else len(line.decode(encoding)[:column].encode(encoding))
