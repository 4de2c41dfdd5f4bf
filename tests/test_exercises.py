"""Exercises: solutions and right answers pass, wrong ones get their hint, and what a check says is true.

The answers to the exercises of a notebook stand in tests/answers.
"""

import importlib
import math
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import jupytext
import numpy as np
import pytest
import torch

from lecture_lib import exercises
from lecture_lib.exercises.answers import NotAttempted, Wrong, judge, pair, tensor_of
from lecture_lib.notebook import check
from lecture_lib.simplex import entmax

SOURCES = sorted((Path(__file__).parent.parent / "notebooks" / "source").glob("*.py"))
CELLS = [
    cell.source
    for source in SOURCES
    for cell in jupytext.read(source).cells
    if "solution" in cell.metadata.get("tags", [])
]
MODULES = [
    importlib.import_module(f"answers.{path.stem}")
    for path in sorted((Path(__file__).parent / "answers").glob("answers_*.py"))
]
WRONG = {name: answers for module in MODULES for name, answers in module.WRONG.items()}
RIGHT = {name: answers for module in MODULES for name, answers in module.RIGHT.items()}
SOLUTIONS = {}
for cell in CELLS:
    exec(cell, {"torch": torch, "check": SOLUTIONS.setdefault})
ON_PAPER = {name for name, check in exercises.CHECKS.items() if hasattr(check, "on_paper")}  # answered by a number
FUNCTIONS = [name for name in SOLUTIONS if name not in ON_PAPER]


def said(capsys, name, answer):
    check(name, answer)
    return capsys.readouterr().out


def test_every_check_has_a_solution_and_right_and_wrong_answers():
    assert set(SOLUTIONS) == set(WRONG) == set(RIGHT) == set(exercises.CHECKS)
    assert all(len(answers) >= 5 for answers in WRONG.values()) and all(len(a) >= 3 for a in RIGHT.values())
    assert all(hint for answers in WRONG.values() for _, hint in answers.values())


@pytest.mark.parametrize("name", SOLUTIONS)
def test_the_notebooks_solution_passes(name, capsys):
    assert said(capsys, name, SOLUTIONS[name]).startswith("✓ Right. ")


@pytest.mark.parametrize(("name", "i"), [(name, i) for name in RIGHT for i in range(len(RIGHT[name]))])
def test_a_right_answer_of_another_style_passes(name, i, capsys):
    assert said(capsys, name, RIGHT[name][i]).startswith("✓ Right. ")


@pytest.mark.parametrize(("name", "mistake"), [(name, mistake) for name in WRONG for mistake in WRONG[name]])
def test_a_wrong_answer_gets_its_hint(name, mistake, capsys):
    answer, hint = WRONG[name][mistake]
    out = said(capsys, name, answer)
    assert out.startswith("✗ Not right yet: ") and hint in out


@pytest.mark.parametrize("name", sorted(exercises.CHECKS))
@pytest.mark.parametrize("answer", [..., None, lambda *args: ..., lambda *args: None])
def test_not_attempted_is_told_apart(name, answer, capsys):
    if name in ON_PAPER and callable(answer):
        answer = answer()
    assert said(capsys, name, answer).startswith("○ Not attempted yet.")


@pytest.mark.parametrize("name", ["groups", "two_in_one"])
def test_a_pair_that_is_not_written_yet_is_not_attempted(name, capsys):
    assert said(capsys, name, lambda *args: (..., ...)).startswith("○")


def test_an_unknown_exercise_and_an_error_of_the_learner_come_through():
    with pytest.raises(ValueError, match=r"name must be one of \[.*'forbid'.*\], got 'forbit'"):
        check("forbit", ...)

    def lazy(chosen, n_experts):
        yield 1 / 0

    for name, answer in (("forbid", lambda s, a: 1 / 0), ("groups", lazy), ("scan", lazy_states)):
        with pytest.raises(ZeroDivisionError):
            check(name, answer)


def lazy_states(step, state, xs):
    yield from (1 / 0 for _ in xs)


def test_the_result_of_a_function_is_no_function(capsys):
    assert "hand over the function itself" in said(capsys, "forbid", torch.zeros(2, 4))


# ------------------------------------------------------------------------------ whatever the exercise is


def in_form(form, value):
    """A result of another type: each tensor, or each number, of it."""
    if isinstance(value, tuple):
        return tuple(in_form(form, part) for part in value)
    return value if value is None else form(torch.as_tensor(value))


FORMS = {
    "array": lambda t: t.detach().numpy(),
    "list": lambda t: t.tolist(),
    "tuple": lambda t: tuple(t) if t.ndim else t.item(),
    "iterator": lambda t: iter(t) if t.ndim else t,
    "float64": lambda t: t.double(),
    "float16": lambda t: t.half() if t.double().abs().max() < 6e4 else t,
    "with a gradient": lambda t: t.double() + torch.zeros(1, requires_grad=True).sum(),
    "sparse": lambda t: t.detach().to_sparse() if t.ndim else t,
    "one more dimension": lambda t: t if t.ndim else t[None],
    "list of arrays": lambda t: [part.numpy() for part in t.detach()] if t.ndim else t.detach().numpy(),
    "NumPy's number": lambda t: t.detach().numpy()[()],
}
EXACT = {"forbid", "two_in_one"}  # as the exercise says, and half precision is not
DETACHED = {
    "balance_loss": {"array", "list", "tuple", "list of arrays", "NumPy's number"},
    "keep_or_discard": {"array", "list", "sparse", "list of arrays", "NumPy's number"},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_type_of_a_result_does_not_matter(name, form, capsys):
    out = said(capsys, name, lambda *args: in_form(FORMS[form], SOLUTIONS[name](*args)))
    if form in DETACHED.get(name, ()):
        assert "no gradient reaches" in out
    else:
        assert out.startswith("✓") or (form == "float16" and name in EXACT)


def spoil(args):
    for arg in args:
        if isinstance(arg, torch.Tensor):
            arg.zero_()
        elif isinstance(arg, list) and not callable(arg[0]):
            arg.clear()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_right_answer_may_spoil_what_it_was_given(name, capsys):
    def answer(*args):
        result = SOLUTIONS[name](*args)
        result = in_form(lambda t: t.clone(), result)
        spoil(args)
        return result

    out = said(capsys, name, answer)
    assert out.startswith("✓") or "changed" in out


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in {"soup_members", "fixed_sequence"}])
def test_a_wrong_answer_that_spoils_what_it_was_given_is_told_so(name, capsys):
    def answer(*args):
        nonlocal spoilt
        spoilt = any(isinstance(arg, torch.Tensor) for arg in args)
        spoil(args)
        return SOLUTIONS[name](*args)

    spoilt = False
    out = said(capsys, name, answer)
    assert not spoilt or "changed" in out


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_number_is_not_right(name, bad, capsys):
    out = said(capsys, name, lambda *args: in_form(lambda t: t.double() * 0 + bad, SOLUTIONS[name](*args)))
    assert out.startswith("✗")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_right_for_the_first_case_alone_is_not_right(name, capsys):
    first = []

    def answer(*args):
        first.append(SOLUTIONS[name](*args))
        return first[0]

    assert said(capsys, name, answer).startswith("✗")


def arguments(name):
    return range(SOLUTIONS[name].__code__.co_argcount)


@pytest.mark.parametrize(("name", "i"), [(name, i) for name in FUNCTIONS for i in arguments(name)])
def test_each_argument_has_to_be_used(name, i, capsys):
    """With one argument as it was in the first call; most of these fail by their shapes."""
    first = []

    def answer(*args):
        first.append(args[i].clone() if isinstance(args[i], torch.Tensor) else args[i])
        return SOLUTIONS[name](*args[:i], first[0], *args[i + 1 :])

    try:
        check(name, answer)
    except (RuntimeError, IndexError, ValueError):
        return
    assert capsys.readouterr().out.startswith("✗")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_check_leaves_the_global_generator_alone_and_says_the_same_again(name, capsys):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    once = said(capsys, name, next(iter(WRONG[name].values()))[0])
    assert said(capsys, name, SOLUTIONS[name]) == said(capsys, name, SOLUTIONS[name])
    assert said(capsys, name, next(iter(WRONG[name].values()))[0]) == once
    assert torch.equal(torch.get_rng_state(), before[0]) and (np.random.get_state()[1] == before[1]).all()


# ------------------------------------------------------------------------------ the machinery


def tensors(n):
    yield from (torch.tensor(float(i)) for i in range(n))


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        (3, 3.0),
        (True, 1.0),
        (Fraction(1, 4), 0.25),
        (Decimal("0.5"), 0.5),
        (np.float16(2), 2.0),
        (np.longdouble(2), 2.0),
        (np.array(7), 7.0),
        (torch.tensor(2, dtype=torch.bfloat16), 2.0),
        (torch.nn.Parameter(torch.ones(2)), [1.0, 1.0]),
        (np.arange(3)[::-1], [2.0, 1.0, 0.0]),
        (np.array([Fraction(1, 2), 3], dtype=object), [0.5, 3.0]),
        (range(2), [0.0, 1.0]),
        (tensors(3), [0.0, 1.0, 2.0]),
        ([torch.ones(2), (3, np.int8(4))], [[1.0, 1.0], [3.0, 4.0]]),
        (torch.eye(2).to_sparse(), [[1.0, 0.0], [0.0, 1.0]]),
        ([], []),
    ],
)
def test_any_number_array_or_tensor_is_read(value, numbers):
    read = tensor_of(value)
    assert read.dtype == torch.float64 and read.tolist() == numbers


@pytest.mark.parametrize(
    "value", ["2", "a", ["1"], 1j, torch.tensor(1j, requires_grad=True), np.array(["2"]), {}, {1, 2}, object(), len]
)
def test_text_and_what_holds_no_numbers_is_refused(value):
    with pytest.raises(Wrong, match=r"the result should be a mask, it is \w+\."):
        tensor_of(value, "a mask")


@pytest.mark.parametrize("value", [None, ..., [...], (1, None)])
def test_what_is_not_there_is_not_attempted(value):
    with pytest.raises(NotAttempted):
        tensor_of(value)


def test_a_tensor_keeps_its_graph():
    x = torch.ones(2, requires_grad=True)
    sum(tensor_of([x[0], 3 * x[1]])).backward()
    assert x.grad.tolist() == [1.0, 3.0]


def test_a_pair_is_read():
    for value in ((1, 2), [1, 2], tensors(2), torch.arange(2), np.arange(2)):
        assert len(pair(value, "two tensors")) == 2
    for value in (1, (1, 2, 3), "a", torch.ones(()), {}):
        with pytest.raises(Wrong, match="two tensors, it is"):
            pair(value, "two tensors")


def doubled(x):
    return {"Even.": 2 * x, "that is the square.": x * x, "that is x.": x}


def test_a_mistake_is_named_only_if_it_explains_all_cases():
    cases = [(2,), (0,), (3,), (5,)]
    assert judge(lambda x: x + x, doubled, cases) == "Even."
    with pytest.raises(Wrong, match="that is the square"):  # right for 2 and 0, as it should be
        judge(lambda x: x * x, doubled, cases)
    with pytest.raises(Wrong, match="that is x"):
        judge(lambda x: x, doubled, cases)
    with pytest.raises(Wrong, match="right for x = 2, but for x = 3: it should be 6, it is 3"):
        judge(lambda x: 3 if x == 3 else 2 * x, doubled, cases)  # not x, which is wrong for 2
    with pytest.raises(Wrong, match="right for x = 2, but for x = 3: nothing comes back"):
        judge(lambda x: None if x == 3 else 2 * x, doubled, cases)
    with pytest.raises(NotAttempted):
        judge(lambda x: None, doubled, cases)


# ------------------------------------------------------------------------------ what is said is true


def test_praise_a_block_of_half_the_tokens_costs_nearly_half():
    cost = SOLUTIONS["block_flops"]
    for width in (16, 64):
        shares = [cost(n // 2, width) / cost(n, width) for n in (2, width // 4, width, 6 * width)]
        assert all(0.45 < share < 0.5 for share in shares[:3]) and shares[3] < 0.4


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_praise_the_best_baseline_of_one_bit_leaves_no_variance(p):
    pi, costs = torch.tensor([p, 1 - p]), torch.tensor([2.0, -1.0])
    b = SOLUTIONS["best_baseline"](pi, costs)
    torch.testing.assert_close(b, (1 - p) * costs[0] + p * costs[1])
    first, second = (costs[:, None] - b) * (torch.eye(2) - pi)
    torch.testing.assert_close(first, second)  # both draws give the same estimate


def test_praise_each_sample_judges_its_siblings_without_bias():
    costs = torch.randn(4, 50_000, generator=torch.Generator().manual_seed(0))
    own = costs - SOLUTIONS["leave_one_out_baseline"](costs)
    shrunk = costs - costs.mean(0)
    assert (own * costs).mean().item() == pytest.approx(1, abs=0.02)  # of a gradient of 1
    assert (shrunk * costs).mean().item() == pytest.approx(3 / 4, abs=0.02)  # short by 1/S


def test_praise_the_loop_of_entmax_serves_every_alpha():
    s = torch.tensor([1.0, 0.2, -0.5], dtype=torch.float64)
    for alpha in (1.2, 1.5, 3.0):
        low, high = (alpha - 1) * s.max() - 1, (alpha - 1) * s.max()
        for _ in range(60):
            tau = (low + high) / 2
            p = ((alpha - 1) * s - tau).clamp(min=0) ** (1 / (alpha - 1))
            low, high = (tau, high) if p.sum() > 1 else (low, tau)
        torch.testing.assert_close(p, entmax(s, alpha), atol=1e-5, rtol=1e-4)


def test_praise_a_quarter_of_attention_is_left_and_half_of_the_rest():
    matrices, attention = 24 * 64 * 32**2, 4 * 64**2 * 32
    assert SOLUTIONS["share_left"] == (matrices / 2 + attention / 4) / (matrices + attention)


def test_praise_one_image_keeps_all_patches_one_a_single_and_one_none():
    kept = []

    def answer(scores, budget):
        kept.append(SOLUTIONS["batch_budget"](scores, budget))
        return kept[-1]

    check("batch_budget", answer)
    assert sorted(kept[0].sum(1).tolist()) == [0, 1, 5]


def test_praise_the_busier_an_expert_the_harder_it_is_pushed_down():
    scores = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))
    f = scores.argmax(-1).bincount(minlength=4) / 30
    P = scores.softmax(-1).mean(0).requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(4 * (f * P).sum(), P)[0], 4 * f)


def test_praise_of_the_dropped_and_of_intensity():
    assert round(100 * SOLUTIONS["dropped_by_chance"](12, 4, 4)) == 8
    for t, e, d, h in ((64, 8, 64, 256), (3, 5, 16, 8)):
        assert SOLUTIONS["intensity"](t * e, e, d, h) == pytest.approx(t / 2 / (1 + t / d + t / h))


def test_praise_chance_alone_has_some_bits():
    draw = torch.Generator().manual_seed(0)
    n, e, labels = 500, 4, 3
    bits = [
        SOLUTIONS["expert_bits"](
            torch.randint(0, e, (n,), generator=draw), torch.randint(0, labels, (n,), generator=draw)
        )
        for _ in range(40)
    ]
    assert np.mean(bits) == pytest.approx((e - 1) * (labels - 1) / (2 * n * math.log(2)), rel=0.15)


def test_praise_the_front_holds_a_best_setting_for_every_budget():
    cost, accuracy = torch.randint(0, 6, (2, 40), generator=torch.Generator().manual_seed(0))
    front = SOLUTIONS["pareto_front"](cost, accuracy)
    for budget in range(6):
        assert accuracy[cost <= budget].max() == accuracy[front & (cost <= budget)].max()


def test_hints_of_smallest_lead_and_soup():
    p = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    for alpha in (1.5, 3.0):  # H has the slope 1 / (α - 1): the α of the derivative cancels
        (slope,) = torch.autograd.grad((1 - (p**alpha).sum()) / (alpha * (alpha - 1)), p)
        assert (slope[1] - slope[0]).item() == pytest.approx(SOLUTIONS["smallest_lead"](alpha))
    assert SOLUTIONS["smallest_lead"](1.001) > 900
