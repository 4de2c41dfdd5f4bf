"""How a check reads an answer, and how it finds the mistake."""

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from textwrap import shorten

import numpy as np
import torch
from torch import Tensor

Answer = Callable[..., object]  # a learner's function


class NotAttempted(Exception):
    """The three dots are still there."""


class Wrong(Exception):
    """The answer is not right; the message is a hint, not the solution."""


def graded(check: Callable[[object], str], answer: object) -> tuple[str, str]:
    """What a check says of an answer: "passed" and its praise, "wrong" and its hint, or "not attempted" and "".

    Not attempted is `...` or None, or a function that returns it. An error inside of a learner's function comes
    through, with its own traceback.
    """
    try:
        if answer is None or answer is ...:
            raise NotAttempted
        if callable(answer) == hasattr(check, "on_paper"):
            what = "a number" if callable(answer) else "the function itself, not what it returns"
            raise Wrong(f"hand over {what}.")
        return "passed", check(answer)
    except NotAttempted:
        return "not attempted", ""
    except Wrong as hint:
        return "wrong", str(hint)


def tensor_of(value: object, what: str = "a tensor") -> Tensor:
    """Any number, array, tensor, or sequence of these, in float64; a tensor keeps its graph."""
    if value is None or value is ...:
        raise NotAttempted
    if isinstance(value, Tensor) and not value.is_complex():
        return value.to_dense().cpu().double()
    if isinstance(value, (list, tuple, range, Iterator)):
        parts = [tensor_of(part, what) for part in value]
        if len({part.shape for part in parts}) > 1:
            raise Wrong(f"the result should be {what}, it holds parts of different shapes.")
        return torch.stack(parts) if parts else torch.zeros(0).double()
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biufO":  # NumPy would read text as numbers
            raise TypeError
        return torch.from_numpy(np.array(array, float))
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is of torch
        raise Wrong(f"the result should be {what}, it is {type(value).__name__}.") from None


def pair(value: object, what: str) -> tuple:
    """The two parts of a tuple, list, generator, array or tensor."""
    many = isinstance(value, (list, tuple, Iterator))
    parts = tuple(value if many else torch.atleast_1d(tensor_of(value, what)))
    if len(parts) != 2:
        raise Wrong(f"the result should be {what}, it is {type(value).__name__}.")
    return parts


def close(given: object, wanted: object, tolerance: float = 1e-4) -> bool:
    """Whether both have one shape, and agree relative to their size or within a tenth of that."""
    given, wanted = tensor_of(given), tensor_of(wanted)
    same = given.shape == wanted.shape
    return same and torch.allclose(given, wanted, tolerance, tolerance / 10, equal_nan=True)


def normal(*sizes: tuple[int, ...]) -> list[Tensor]:
    """A tensor of normal numbers of each size, the same in each call."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, generator=generator) for size in sizes]


def show(value: object) -> str:
    """Numbers as a hint prints them."""
    if isinstance(value, Tensor):
        return show(value.tolist())
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(show, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def judge(
    answer: Answer,
    solve: Callable[..., dict[str, object]],  # case -> {praise: wanted, hint: wrong, hint: ...}
    cases: list[tuple],
    ask: Callable | None = None,  # (answer, *case) -> what to compare, else answer(*case)
    verdict: Callable | None = None,  # (given, wanted, *case) -> None if right, else a hint
    tolerance: float = 1e-4,
) -> str:
    """Compare an answer with the solution on each case; at the first that differs, say why.

    A mistake is named if it explains all cases so far. Returns the praise.
    """
    names, done, start = list(inspect.signature(solve).parameters), [], ""
    for case in cases:
        table, mine, before = solve(*case), copy.deepcopy(case), show(case)
        praise, *hints = table
        known = [(k, v) for k, v in zip(names, case, strict=True) if not callable(v)]
        words = ", ".join(f"{k} = {shorten(show(v), 60, placeholder=' …')}" for k, v in known)
        wanted = tensor_of(table[praise]).detach()
        value = ask(answer, *mine) if ask else answer(*mine)
        if done and (value is None or value is ...):
            raise Wrong(f"{start}for {words}: nothing comes back.")
        what = f"a tensor of shape {tuple(wanted.shape)}" if wanted.ndim else "one number"
        given = tensor_of(value, what).detach()
        given = given.reshape(wanted.shape) if given.numel() == wanted.numel() == 1 else given
        slack = max(tolerance, 0.01 * str(getattr(value, "dtype", "")).endswith("float16"))
        hint = None if close(given, wanted, slack) else ""
        if verdict and given.shape == wanted.shape:
            hint = verdict(given, wanted, *case)
        if hint is None:
            done.append((wanted, table))
            start = start or f"right for {words}, but "
            continue
        if show(mine) != before:
            raise Wrong("the result is wrong, and the function changed what it was given: copy it.")
        for name in hints:
            if all(close(y, said[name], slack) for y, said in [*done, (given, table)]):
                raise Wrong(name)
        if given.shape != wanted.shape:
            hint = f"it should be {what}, not of {tuple(given.shape)}."
        elif given.isnan().any():
            hint = "there is a NaN, from 0/0, 0 · ∞ or ∞ - ∞?"
        elif not hint:
            off = (given - wanted).abs().nan_to_num(torch.inf, torch.inf).reshape(-1).argmax()
            place = [int(i) for i in torch.unravel_index(off, wanted.shape)]
            hint = f"{f'entry {place}' if place else 'it'} should be {show(wanted[*place])}, it is"
            hint += f" {show(given[*place])}."
            for name, v in known:  # of examples in columns the one that is wrong
                if wanted.ndim == 1 and isinstance(v, Tensor) and v.shape[1:] == wanted.shape:
                    hint += f" It is of {name}[:, {place[0]}] = {show(v[:, place[0]])}."
        raise Wrong(f"{start}for {words}: {hint}")
    return praise


def exercise(cases: list[tuple], **more: object) -> Callable[[Callable], Callable[[Answer], str]]:
    """Make a check of a function as `judge` wants it."""
    return lambda solve: functools.wraps(solve)(lambda answer: judge(answer, solve, cases, **more))


def number(praise: str, wanted: float, hints: dict[str, float], tolerance: float = 0.01) -> Callable[[object], str]:
    """Make a check of a number that was found on paper; a mistake is named if it leads to the number given."""

    def judge_number(answer: object) -> str:
        given = tensor_of(answer, "one number").detach()
        if given.numel() != 1:
            raise Wrong(f"the result should be one number, it is of shape {tuple(given.shape)}.")
        for hint, value in {"": wanted, **hints}.items():
            if abs(given.item() - value) <= tolerance:
                if hint:
                    raise Wrong(hint)
                return praise
        raise Wrong(f"it should not be {show(given.item())}. Write down each step, and check the last one first.")

    judge_number.on_paper = True
    return judge_number
