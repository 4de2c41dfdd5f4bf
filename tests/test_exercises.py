"""Exercises: each solution of a notebook passes its check, plausible mistakes do not, and each gets its own hint."""

import re
from pathlib import Path

import jupytext
import pytest
import torch

from lecture_lib import exercises
from lecture_lib.notebook import check

SOURCES = sorted((Path(__file__).parent.parent / "notebooks" / "source").glob("*.py"))
SOLUTIONS = {
    re.search(r'check\("(\w+)"', cell.source)[1]: cell.source
    for source in SOURCES
    for cell in jupytext.read(source).cells
    if "solution" in cell.metadata.get("tags", [])
}


def noise(shape, generator):
    return -torch.empty(shape).exponential_(generator=generator).log()


WRONG = {
    "forbid": {
        "multiplied by the mask": (lambda s, a: s * a, "score of 0"),
        "minus a number that is not large enough": (lambda s, a: s - 10.0 * ~a, "still has probability"),
        "minus infinity times the mask": (lambda s, a: s + ~a * -torch.inf, "NaN"),
        "probabilities instead of scores": (
            lambda s, a: s.softmax(-1).masked_fill(~a, -torch.inf),
            "odds among the allowed",
        ),
        "in place": (lambda s, a: s.masked_fill_(~a, -torch.inf), "changed the scores"),
        "the mask the wrong way round": (lambda s, a: s.masked_fill(a, -torch.inf), "wrong way round"),
        "a list": (lambda s, a: [1.0], "should be a tensor"),
    },
    "keep_or_discard": {
        "no noise": (lambda s, t, g: (s / t).sigmoid(), "where is the noise"),
        "one Gumbel": (lambda s, t, g: ((s + noise(s.shape, g)) / t).sigmoid(), "Two options have two Gumbels"),
        "normal noise": (lambda s, t, g: ((s + torch.randn(s.shape, generator=g)) / t).sigmoid(), "Two options"),
        "noise outside the temperature": (
            lambda s, t, g: (s / t + noise(s.shape, g) - noise(s.shape, g)).sigmoid(),
            "the noise as well",
        ),
        "temperature multiplies": (
            lambda s, t, g: ((s + noise(s.shape, g) - noise(s.shape, g)) * t).sigmoid(),
            "how does the temperature enter",
        ),
        "hard": (lambda s, t, g: (s + noise(s.shape, g) - noise(s.shape, g) > 0).float(), "no gradient"),
        "no sigmoid": (lambda s, t, g: (s + noise(s.shape, g) - noise(s.shape, g)) / t, "between 0 and 1"),
    },
}


def test_every_check_has_a_solution_in_a_notebook_and_wrong_answers_here():
    assert set(SOLUTIONS) == set(WRONG) == set(exercises.CHECKS)
    assert all(len(answers) >= 3 for answers in WRONG.values())


@pytest.mark.parametrize("name", SOLUTIONS)
def test_the_notebooks_solution_passes(name, capsys):
    exec(SOLUTIONS[name], {"torch": torch, "check": check})
    assert capsys.readouterr().out.startswith("✓ Right.")


@pytest.mark.parametrize(("name", "mistake"), [(name, mistake) for name in WRONG for mistake in WRONG[name]])
def test_a_wrong_answer_gets_its_hint(name, mistake, capsys):
    answer, hint = WRONG[name][mistake]
    check(name, answer)
    out = capsys.readouterr().out
    assert out.startswith("✗ Not right yet:") and hint in out


@pytest.mark.parametrize("name", sorted(exercises.CHECKS))
@pytest.mark.parametrize("answer", [..., lambda *args: ..., lambda *args: None])
def test_not_attempted_is_told_apart(name, answer, capsys):
    check(name, answer)
    assert capsys.readouterr().out.startswith("○ Not attempted yet.")


def test_an_unknown_exercise_and_an_error_of_the_learner_come_through():
    with pytest.raises(ValueError, match=r"name must be one of \['forbid', .*got 'forbit'"):
        check("forbit", ...)
    with pytest.raises(ZeroDivisionError):
        check("forbid", lambda s, a: 1 / 0)
