"""One symbol, one meaning: the table of notebook 00 holds for the library, its widgets and the notebooks."""

import re

import pytest

from notebooks import build

NAMES = "alpha beta gamma delta epsilon varepsilon eta theta kappa lambda mu nu xi pi rho sigma tau phi psi omega ell"
GREEK = dict(zip(NAMES.split(), "αβγδεεηθκλμνξπρστφψωℓ", strict=True))
SOURCES = {path.stem: path for path in build.sources()}
FILES = sorted(
    path for path in (build.ROOT / "lecture_lib").glob("**/*.*") if path.suffix in {".py", ".js"}
    and "node_modules" not in path.parts
)  # fmt: skip


def letters(text):
    """The small Greek letters of a text, in TeX too."""
    text = re.sub(r"\\\\?(" + "|".join(GREEK) + r")(?![a-zA-Z])", lambda match: GREEK[match[1]], text)
    return set(re.findall("[α-ωℓ]", text))


def table():
    """Of each Greek letter in the table: the words, in bold there, of which one stands near it."""
    section = SOURCES["00_start_here"].read_text("utf-8").split("# ## The symbols")[1].split("# %%")[0]
    words = {}
    for symbol, meaning in re.findall(r"^# \| (.+?) \| (.+) \|$", section, re.MULTILINE):
        for letter in letters(symbol):
            words.setdefault(letter, []).extend(re.findall(r"\*\*(\w+)\*\*", meaning))
    return words


WORDS = table()


def strange(text):
    """The letters of a text that are not in the table, or far from their meaning."""
    near = re.sub(r"\s+", " ", text).lower()
    return {x for x in letters(text) if not any(word[:9].lower() in near for word in WORDS.get(x, ()))}


def test_the_table_names_every_letter_once():
    assert set("αβδεθλπστℓ") == set(WORDS) and all(WORDS.values())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("the temperature λ", ""),
        ("a threshold $\\tau$ of sparsemax, a temperature $\\tau$", ""),
        ("a temperature $\\tau$", "τ"),
        ("LoRA: α/r", "α"),
        ("a mean \\mu", "μ"),
    ],
)
def test_a_letter_without_its_meaning_is_found(text, found):
    assert strange(text) == set(found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(build.ROOT / "lecture_lib")))
def test_letters_of_the_library_have_their_meaning(path):
    text = path.read_text("utf-8")
    assert not strange(re.sub(r"\btau\b", "τ", text) if path.suffix == ".js" else text)


@pytest.mark.parametrize("name", sorted(SOURCES.keys() - build.FIRST_EDITION))
def test_letters_of_a_notebook_have_their_meaning(name):
    """Each in its section, from heading to heading."""
    for section in re.split(r"^# #+ ", SOURCES[name].read_text("utf-8"), flags=re.MULTILINE):
        if not section.startswith("The symbols"):
            assert not strange(section), section[:60]
