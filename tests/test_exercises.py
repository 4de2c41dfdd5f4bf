"""Exercises: each solution of a notebook passes its check, plausible mistakes do not, and each gets its own hint."""

import math
import re
from pathlib import Path

import jupytext
import pytest
import torch

from lecture_lib import exercises
from lecture_lib.notebook import check
from lecture_lib.simplex import entmax

SOURCES = sorted((Path(__file__).parent.parent / "notebooks" / "source").glob("*.py"))
SOLUTIONS = {
    re.search(r'check\("(\w+)"', cell.source)[1]: cell.source
    for source in SOURCES
    for cell in jupytext.read(source).cells
    if "solution" in cell.metadata.get("tags", [])
}


def noise(shape, generator):
    return -torch.empty(shape).exponential_(generator=generator).log()


def bisect(s, low=None, high=None, steps=30, together=False):
    """1.5-entmax by bisection, with room for mistakes."""
    s = s / 2
    top = s.amax(-1, keepdim=True)
    low, high = (top - 1 if low is None else 0 * top + low), (top if high is None else 0 * top + high)
    for _ in range(steps):
        tau = (low + high) / 2
        total = (s - tau).clamp(min=0).square().sum(-1, keepdim=True)
        more = (total.mean() if together else total) > 1
        low, high = torch.where(more, tau, low), torch.where(more, high, tau)
    return (s - (low + high) / 2).clamp(min=0).square()


def lengths(pi):
    return (torch.eye(len(pi)) - pi).norm(dim=-1)


def agreements(said, patience, count=lambda c, same: (c + 1) * same, never=None, pick=0):
    """Where a counter of agreements reaches `patience`, with room for mistakes."""
    exits = []
    for column in said.T.tolist():
        c, full = 0, []
        for k in range(1, len(column)):
            c = count(c, int(column[k] == column[k - 1]))
            full += [k] * (c >= patience)
        exits.append(full[pick] if full else len(column) - 1 if never is None else never)
    return torch.tensor(exits)


def weighted(weights, costs):
    return (weights * costs).sum() / weights.sum()


def best(scores):
    """One-hot of the best expert."""
    return torch.nn.functional.one_hot(scores.argmax(-1), scores.shape[-1]).float()


def shares(scores):
    return best(scores).mean(0)


def binomial(n, e, value):
    """The mean of value(load) over the loads of one of e experts."""
    return sum(value(m) * math.comb(n, m) * (1 / e) ** m * (1 - 1 / e) ** (n - m) for m in range(n + 1))


def dropped(n, e, room):
    return e * binomial(n, e, lambda m: max(m - room, 0)) / n


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
    "entmax_15": {
        "softmax": (lambda s: s.softmax(-1), "this is softmax"),
        "sparsemax": (lambda s: entmax(s, 2), "this is sparsemax"),
        "no square": (lambda s: entmax(s / 2, 2), "must be squared"),
        "no half": (lambda s: entmax(2 * s, 1.5), "halved before the threshold"),
        "too few halvings": (lambda s: bisect(s, steps=3), "halved often enough"),
        "an interval for small scores": (lambda s: bisect(s, low=-1.0, high=0.5), "its own interval"),
        "one threshold for all rows": (lambda s: bisect(s, together=True), "its own τ"),
        "divided by the sum": (lambda s: s.clamp(min=0) ** 2 / (s.clamp(min=0) ** 2).sum(-1, True), "dividing by"),
        "in place": (lambda s: bisect(s.div_(2) * 2), "changed the scores"),
        "a list": (lambda s: [1.0], "should be a tensor"),
    },
    "smallest_lead": {
        "upside down": (lambda alpha: alpha - 1, "upside down"),
        "a constant": (lambda alpha: 2, "for α = 2 you get 2"),
        "the reciprocal": (lambda alpha: 1 / alpha, "shows another lead"),
        "a straight line through both": (lambda alpha: 5 - 2 * alpha, "right for 1.5 and 2, but for α = 1.25"),
        "a tensor of two": (lambda alpha: [1, 2], "should be a number"),
    },
    "leave_one_out_baseline": {
        "the mean, its own included": (lambda c: c.mean(0).expand_as(c), "each mean holds the sample's own"),
        "divided by S": (lambda c: (c.sum(0) - c) / len(c), "as if it did not"),
        "a sum": (lambda c: c.sum(0) - c, "the sum of the others"),
        "the advantage": (lambda c: c - (c.sum(0) - c) / (len(c) - 1), "minus the baseline"),
        "the sign": (lambda c: (c - c.sum(0)) / (len(c) - 1), "the sign"),
        "over the inputs": (lambda c: (c.sum(1, True) - c) / (c.shape[1] - 1), "Along which dimension"),
        "the samples before": (
            lambda c: torch.stack([c[:i].mean(0) if i else 0 * c[0] for i in range(len(c))]),
            "those after as well",
        ),
        "one for all samples": (lambda c: c.mean(0), "should be a tensor of shape (4, 3)"),
        "in place": (lambda c: c.sub_(c.sum(0)).neg_().div_(len(c) - 1), "changed the costs"),
        "S is always 4": (lambda c: (c.sum(0) - c) / 3, "for 2 each one's baseline"),
        "zero": (lambda c: 0 * c, "of one input you get"),
    },
    "best_baseline": {
        "the expected cost": (lambda pi, c: pi @ c, "expected cost"),
        "the plain mean": (lambda pi, c: c.mean(), "plain mean"),
        "length instead of its square": (lambda pi, c: weighted(pi * lengths(pi), c), "the square of the length"),
        "without the probabilities": (lambda pi, c: weighted(lengths(pi) ** 2, c), "the probabilities are not"),
        "the option's own score only": (lambda pi, c: weighted(pi * (1 - pi) ** 2, c), "an entry for every score"),
        "not divided": (lambda pi, c: (pi * lengths(pi) ** 2 * c).sum(), "divided by the sum"),
        "no baseline": (lambda pi, c: 0 * c.sum(), "not smallest: a higher"),
        "too high": (lambda pi, c: c.max(), "not smallest: a lower"),
        "a vector": (lambda pi, c: pi * c, "should be a tensor of shape ()"),
    },
    "scan": {
        "a fold": (lambda step, state, xs: [state := step(state, x) for x in xs][-1], "the result of a fold"),
        "a list": (lambda step, state, xs: [state := step(state, x) for x in xs], "torch.stack"),
        "the first state as well": (
            lambda step, state, xs: torch.stack([state, *(state := step(state, x) for x in xs)]),
            "it is not a result",
        ),
        "the states before": (
            lambda step, state, xs: torch.stack([state, *(state := step(state, x) for x in xs)])[:-1],
            "states before each input",
        ),
        "a map": (lambda step, state, xs: torch.stack([step(state, x) for x in xs]), "every input met the first state"),
        "the first state forgotten": (
            lambda step, state, xs: torch.stack(
                [state := step(0 * state if i == 0 else state, x) for i, x in enumerate(xs)]
            ),
            "not used",
        ),
        "from the end": (
            lambda step, state, xs: torch.stack([state := step(state, x) for x in xs.flip(0)]),
            "from the last to the first",
        ),
        "from the end, turned round": (
            lambda step, state, xs: torch.stack([state := step(state, x) for x in xs.flip(0)]).flip(0),
            "turned round",
        ),
        "arguments swapped": (
            lambda step, state, xs: torch.stack([state := step(x, state) for x in xs]),
            "the state first, then the input",
        ),
        "results turned round": (
            lambda step, state, xs: torch.stack([state := step(state, x) for x in xs]).flip(0),
            "in the wrong order",
        ),
        "a running sum": (lambda step, state, xs: state + xs.cumsum(0), "differ from those of a fold"),
    },
    "block_flops": {
        "multiply-adds": (lambda t, d: 12 * t * d * d + 2 * t * t * d, "two operations"),
        "no attention": (lambda t, d: 24 * t * d * d, "attention itself is missing"),
        "attention once": (lambda t, d: 24 * t * d * d + 2 * t * t * d, "tokens meet tokens twice"),
        "no output": (lambda t, d: 22 * t * d * d + 4 * t * t * d, "one of the four"),
        "output alone": (lambda t, d: 18 * t * d * d + 4 * t * t * d, "queries, keys and values are missing"),
        "one of three": (lambda t, d: 20 * t * d * d + 4 * t * t * d, "three products"),
        "no MLP": (lambda t, d: 8 * t * d * d + 4 * t * t * d, "the MLP is missing"),
        "half an MLP": (lambda t, d: 16 * t * d * d + 4 * t * t * d, "two layers"),
        "one token": (lambda t, d: 24 * d * d + 4 * t * d, "the cost of one token"),
        "pairs for free": (lambda t, d: 24 * t * d * d + 4 * t * t, "each of the T × T pairs"),
        "parameters": (lambda t, d: 12 * d * d, "Write down each product"),
        "one case": (lambda t, d: 24 * t * d * d + 4 * t * 10 * d, "not for 50 of width 24"),
        "text": (lambda t, d: "many", "should be a number"),
    },
    "share_left": {
        "linear": (lambda k, t, d: k, "less than half"),
        "quadratic": (lambda k, t, d: k**2, "only attention itself"),
        "FLOPs": (lambda k, t, d: 24 * k * t * d**2 + 4 * (k * t) ** 2 * d, "asked is their share"),
        "saved": (
            lambda k, t, d: 1 - (24 * k * t * d**2 + 4 * (k * t) ** 2 * d) / (24 * t * d**2 + 4 * t**2 * d),
            "share that is saved",
        ),
        "no width": (lambda k, t, d: (24 * k * t + 4 * (k * t) ** 2) / (24 * t + 4 * t**2), "where n stands"),
        "one case": (
            lambda k, t, d: (24 * k * 64 * d**2 + 4 * (k * 64) ** 2 * d) / (24 * 64 * d**2 + 4 * 64**2 * d),
            "which number should be a name",
        ),
        "text": (lambda k, t, d: "half", "should be a number"),
    },
    "batch_budget": {
        "per image": (
            lambda s, b: torch.zeros_like(s).scatter(1, s.topk(round(b * s.shape[1])).indices, 1),
            "every image keeps two",
        ),
        "discarded": (lambda s, b: s < s.flatten().topk(round(b * s.numel())).values[-1], "patches to discard"),
        "a threshold of 0": (lambda s, b: s > 0, "where must it stand"),
        "the other share": (lambda s, b: s >= s.flatten().topk(round((1 - b) * s.numel())).values[-1], "nine are kept"),
        "rounded down": (
            lambda s, b: s >= s.flatten().sort(descending=True).values[max(int(b * s.numel()), 1) - 1],
            "right for 40 %",
        ),
        "scores": (lambda s, b: s * (s > 1), "True and False"),
        "one too few": (lambda s, b: s > s.flatten().topk(round(b * s.numel())).values[-1], "5 of 15 are kept"),
        "a list": (lambda s, b: [True], "should be a tensor"),
    },
    "patience_exit": {
        "no reset": (lambda s, p: agreements(s, p, lambda c, same: c + same), "does not start again at 0"),
        "predictions counted": (lambda s, p: agreements(s, p - 1), "two agreements need three predictions"),
        "more than": (lambda s, p: agreements(s, p + 1), "two agreements are enough"),
        "from one": (lambda s, p: agreements(s, p) + 1, "exits count from 0"),
        "argmax of nothing": (lambda s, p: agreements(s, p, never=0), "leaves at the last, not at the first"),
        "the last time": (lambda s, p: agreements(s, p, pick=-1), "does not come back"),
        "always the last": (lambda s, p: torch.full(s.shape[1:], len(s) - 1), "you get exit 4"),
        "patience is two": (lambda s, p: agreements(s, 2), "not for 1"),
        "a list": (lambda s, p: [2, 3, 4, 4, 4, 3], "should be a tensor"),
    },
    "mean_flops": {
        "no heads": (lambda k, b, h: (k + 1).float().mean() * b, "the heads are missing"),
        "one head": (lambda k, b, h: (k + 1).float().mean() * b + h, "every head on the way"),
        "heads before": (lambda k, b, h: ((k + 1) * b + k * h).float().mean(), "at which an example leaves"),
        "off by one": (lambda k, b, h: k.float().mean() * (b + h), "one block and one head"),
        "blocks off by one": (lambda k, b, h: (k * b + (k + 1) * h).float().mean(), "has run one block."),
        "sum": (lambda k, b, h: (k + 1).sum() * (b + h), "not the mean"),
        "slowest": (lambda k, b, h: (k.max() + 1) * (b + h), "the slowest example"),
        "six": (lambda k, b, h: (k + 1).sum() * (b + h) / 6, "not for four"),
        "each": (lambda k, b, h: (k + 1) * (b + h), "one number"),
        "no mean": (lambda k, b, h: b + h, "should be 3030"),
    },
    "oracle_exit": {
        "the first that agrees": (lambda p: (p == p[-1]).long().argmax(0), "right, change, and come back"),
        "layers": (lambda p: len(p) + 1 - (p == p[-1]).flip(0).cumprod(0).sum(0), "off by one"),
        "counted": (lambda p: len(p) - (p == p[-1]).sum(0), "agreement may have a gap"),
        "two in a row": (
            lambda p: torch.cat([p[1:] == p[:-1], torch.ones(1, p.shape[1]) == 1]).long().argmax(0),
            "may both be wrong",
        ),
        "the last": (lambda p: torch.full(p.shape[1:], len(p) - 1), "every token takes all layers"),
        "the first": (lambda p: torch.zeros(p.shape[1:]), "of one token you get exit 0"),
        "a list": (lambda p: [0] * 6, "should be a tensor"),
    },
    "fixed_sequence": {
        "the last that passes": (
            lambda p, e: max((i for i, value in enumerate(p) if value <= e), default=None),
            "nothing counts any more",
        ),
        "the first that fails": (lambda p, e: next((i for i, v in enumerate(p) if v > e), len(p)), "last to pass"),
        "the first that passes": (lambda p, e: next((i for i, v in enumerate(p) if v <= e), None), "Go on while"),
        "Bonferroni": (
            lambda p, e: next((i for i, v in enumerate(p) if v > e / len(p) * 2), len(p)) - 1,
            "no correction for many tests",
        ),
        "minus one": (lambda p, e: next((i for i, v in enumerate(p) if v > e), len(p)) - 1, "not even the safest"),
        "nothing if all pass": (
            lambda p, e: next((i - 1 if i else None for i, v in enumerate(p) if v > e), None),
            "if all three pass",
        ),
        "strictly": (
            lambda p, e: next((i for i, v in enumerate(p) if v >= e), len(p)) - 1 if p[0] < e else None,
            "equal to ε",
        ),
        "text": (lambda p, e: "2", "you get '2'"),
    },
    "balance_loss": {
        "without E": (lambda s: (shares(s) * s.softmax(-1).mean(0)).sum(), "it gives 1/E"),
        "a mean instead of a sum": (lambda s: (shares(s) * s.softmax(-1).mean(0)).mean(), "where a sum is meant"),
        "counts": (lambda s: 4 * (len(s) * shares(s) * s.softmax(-1).mean(0)).sum(), "it grows with N"),
        "probabilities twice": (lambda s: 4 * (s.softmax(-1).mean(0) ** 2).sum(), "the mean probability twice"),
        "shares twice": (lambda s: 4 * (shares(s) ** 2).sum() + 0 * s.sum(), "the share of the tokens twice"),
        "P of the chosen": (
            lambda s: 4 * (shares(s) * (best(s) * s.softmax(-1)).mean(0)).sum(),
            "not only over those that chose",
        ),
        "token by token": (lambda s: 4 * (best(s) * s.softmax(-1)).sum(-1).mean(), "take both means first"),
        "over the tokens": (lambda s: 4 * (shares(s) * s.softmax(0).mean(0)).sum(), "over the experts"),
        "scores": (lambda s: 4 * (shares(s) * s.mean(0)).sum(), "not of scores"),
        "detached": (lambda s: 4 * (shares(s) * s.softmax(-1).mean(0)).sum().detach(), "no gradient reaches"),
        "straight-through shares": (
            lambda s: 4 * ((shares(s) + s.mean(0) - s.mean(0).detach()) * s.softmax(-1).mean(0)).sum(),
            "its gradient is not",
        ),
        "CV²": (lambda s: s.softmax(-1).sum(0).var() / s.softmax(-1).sum(0).mean() ** 2, "it should be"),
        "a vector": (lambda s: 4 * shares(s) * s.softmax(-1).mean(0), "should be a tensor of shape ()"),
    },
    "dropped_by_chance": {
        "overflow of the mean": (lambda n, e, c: max(n / e - c, 0) * e / n, "not the overflow of the mean"),
        "one expert": (lambda n, e, c: dropped(n, e, c) / e, "there are E of them"),
        "tokens": (lambda n, e, c: dropped(n, e, c) * n, "which share of N"),
        "tokens of one expert": (lambda n, e, c: dropped(n, e, c) * n / e, "tokens that one expert drops"),
        "chance of overflow": (lambda n, e, c: binomial(n, e, lambda m: m > c), "the chance that an expert overflows"),
        "chance to be full": (lambda n, e, c: binomial(n, e, lambda m: m >= c), "the chance that an expert is full"),
        "off by one": (lambda n, e, c: dropped(n, e, c - 1), "not for C - 1"),
        "all of them": (lambda n, e, c: e / n * binomial(n, e, lambda m: m * (m > c)), "keeps C of its tokens"),
        "one case": (lambda n, e, c: dropped(12, 4, 4), "not for 30 and 6"),
        "no chance to stay away": (
            lambda n, e, c: e / n * sum((m - c) * math.comb(n, m) / e**m for m in range(c + 1, n + 1)),
            "it should be",
        ),
        "text": (lambda n, e, c: "few", "should be a number"),
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
    with pytest.raises(ValueError, match=r"name must be one of \[.*'forbid'.*\], got 'forbit'"):
        check("forbit", ...)
    with pytest.raises(ZeroDivisionError):
        check("forbid", lambda s, a: 1 / 0)
