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


def chosen_rows(x, z, modules, weigh=True, stack=False):
    """Σ_k z_k · f_k(x) on the rows that chose k, with room for mistakes."""
    parts, y = [], torch.zeros(len(x), 3)
    for k, f in enumerate(modules):
        rows = z[:, k].nonzero()[:, 0]
        if len(rows):
            part = f(x[rows]) * (z[rows, k, None] if weigh else 1)
            parts.append(part)
            y[rows] += part
    return torch.cat(parts)[:5] if stack else y


def in_the_order_of_modules(x, z, modules):
    y = chosen_rows(x, z, modules)
    return y[z.argmax(-1).argsort(stable=True)]


def elected(tau, sign):
    agrees = tau * sign > 0
    return (tau * agrees).sum(0) / agrees.sum(0).clamp(min=1)


def best_first(alone):
    return sorted(range(len(alone)), key=lambda i: -alone[i])


def souped(order, score, joins=lambda new, old: new >= old, stop=False):
    members = list(order[:1])
    for i in order[1:]:
        if joins(score([*members, i]), score(members)):
            members.append(i)
        elif stop:
            break
    return members


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


def ends(chosen, n_experts):
    return chosen.flatten().bincount(minlength=n_experts).cumsum(0)


def moved(n, e, d, h):
    return n * d * h / (2 * min(n, e) * d * h + 2 * n * (d + h))


def stacked(first, second, w, flip=False, ranks=None):
    """One adapter of two, with the weights in B."""
    (A1, B1), (A2, B2) = first, second
    parts = [w[0] * B1, w[1] * B2]
    return torch.cat([A1, A2])[:ranks], torch.cat(parts[::-1] if flip else parts, 1)[:, :ranks]


def shares_of(a, b, n=3):
    """p(a, b), p(a) and p(b) of two lists."""
    joint = torch.zeros(n, n).index_put((a, b), torch.ones(()), accumulate=True) / len(a)
    return joint, joint.sum(1), joint.sum(0)


def uncertainty(p):
    return torch.special.entr(p).sum() / math.log(2)


def told_bits(a, b, n=3):
    joint, of_a, of_b = shares_of(a, b, n)
    return uncertainty(of_a) + uncertainty(of_b) - uncertainty(joint)


def beaten(cost, accuracy, strictly=False, itself=False, later=False):
    """Which settings are beaten by another, with room for mistakes."""
    rows, columns = cost[:, None], accuracy[:, None]
    if strictly:
        return ((rows < cost) & (columns > accuracy)).any(0)
    better = (rows < cost) | (columns > accuracy)
    if itself:
        better = torch.ones_like(better)
    elif later:
        better = better | torch.ones_like(better).triu(1)
    return ((rows <= cost) & (columns >= accuracy) & better).any(0)


def under_the_line(cost, accuracy):
    """Which settings lie below a line between two others."""
    below = beaten(cost, accuracy)
    for a in range(len(cost)):
        for b in range(len(cost)):
            if cost[a] < cost[b]:
                line = accuracy[a] + (accuracy[b] - accuracy[a]) * (cost - cost[a]) / (cost[b] - cost[a])
                below |= (cost > cost[a]) & (cost < cost[b]) & (accuracy < line - 1e-6)
    return below


def best_that_fits(cost, accuracy, budgets, value=lambda c, a: a.max(), none=0.0, fits=lambda c, b: c <= b):
    """What each budget gets, with room for mistakes."""
    got = [value(cost[fits(cost, b)], accuracy[fits(cost, b)]) if fits(cost, b).any() else none for b in budgets]
    return torch.tensor([float(value) for value in got if value is not None])


WRONG = {
    "run_what_is_chosen": {
        "dense": (lambda x, z, f: sum(z[:, k, None] * f[k](x) for k in range(3)), "15 rows were run"),
        "without weights": (lambda x, z, f: chosen_rows(x, z, f, weigh=False), "where does its weight enter"),
        "one module a row": (
            lambda x, z, f: chosen_rows(x, torch.where(z == z.amax(-1, keepdim=True), z, 0), f),
            "may have chosen two",
        ),
        "in the order of the modules": (in_the_order_of_modules, "in other rows"),
        "as they were computed": (lambda x, z, f: chosen_rows(x, z, f, stack=True), "row"),
        "the mean": (lambda x, z, f: chosen_rows(x, z, f) / 3, "should be"),
        "in place": (lambda x, z, f: x.add_(1) @ torch.ones(2, 3), "changed what it was given"),
        "a sum of all": (lambda x, z, f: chosen_rows(x, z, f).sum(), "should be a tensor of shape"),
    },
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
    "groups": {
        "sizes": (lambda c, e: (c.flatten().argsort() // c.shape[1], c.flatten().bincount(minlength=e)), "the sizes"),
        "starts": (
            lambda c, e: (c.flatten().argsort() // c.shape[1], ends(c, e) - ends(c, e).diff(prepend=c.new_zeros(1))),
            "each group starts",
        ),
        "pairs": (lambda c, e: (c.flatten().argsort(), ends(c, e)), "numbers of pairs, not of tokens"),
        "the last is idle": (
            lambda c, e: (c.flatten().argsort() // c.shape[1], c.flatten().bincount().cumsum(0)),
            "the last has no token",
        ),
        "by column": (lambda c, e: (c.T.flatten().argsort() // c.shape[1], ends(c, e)), "should have tokens"),
        "not sorted": (lambda c, e: (torch.arange(c.numel()) // c.shape[1], ends(c, e)), "should have tokens"),
        "first choices": (lambda c, e: (c[:, 0].argsort(), ends(c[:, :1], e)), "should be a tensor of shape"),
        "one tensor": (lambda c, e: ends(c, e), "two tensors"),
        "lists": (lambda c, e: ([0], [1]), "should be a tensor"),
    },
    "intensity": {
        "numbers": (lambda n, e, d, h: 4 * moved(n, e, d, h), "has 4 bytes."),
        "bfloat16": (lambda n, e, d, h: 2 * moved(n, e, d, h), "4 bytes, not 2"),
        "multiply-adds": (lambda n, e, d, h: moved(n, e, d, h) / 2, "is 2 FLOPs"),
        "upside down": (lambda n, e, d, h: 1 / moved(n, e, d, h), "the other way round"),
        "no rows": (lambda n, e, d, h: n / min(n, e) / 2, "the rows are missing"),
        "no weights": (lambda n, e, d, h: d * h / (2 * (d + h)), "the weights are missing"),
        "one expert": (lambda n, e, d, h: moved(n, 1, d, h), "of one expert"),
        "rows once": (lambda n, e, d, h: n * d * h / (2 * min(n, e) * d * h + n * (d + h)), "two products"),
        "weights for each token": (lambda n, e, d, h: n * d * h / (2 * n * d * h + 2 * n * (d + h)), "not by each"),
        "all experts run": (lambda n, e, d, h: e * moved(n, e, d, h), "not all of them"),
        "all experts read": (
            lambda n, e, d, h: n * d * h / (2 * e * d * h + 2 * n * (d + h)),
            "4 tokens touch 4 of 32",
        ),
        "t / 2": (lambda n, e, d, h: n / e / 2, "the rows are missing"),
        "one case": (lambda n, e, d, h: moved(512, 8, 64, 256), "for 4 tokens"),
        "text": (lambda n, e, d, h: "high", "should be a number"),
    },
    "elect_and_merge": {
        "plain mean": (lambda t: t.mean(0), "the plain mean"),
        "mean of what is there": (lambda t: t.sum(0) / (t != 0).sum(0).clamp(min=1), "all that is not zero"),
        "votes": (lambda t: elected(t, t.sign().sum(0)), "not of the majority"),
        "sum": (lambda t: (t * (t * t.sum(0) > 0)).sum(0), "take their mean"),
        "divided by K": (lambda t: (t * (t * t.sum(0) > 0)).mean(0), "divided by too many"),
        "zero over zero": (lambda t: (t * (t * t.sum(0) > 0)).sum(0) / (t * t.sum(0) > 0).sum(0), "a NaN"),
        "those who lost": (lambda t: elected(t, -t.sum(0)), "that disagree"),
        "largest": (lambda t: t.gather(0, t.abs().argmax(0, keepdim=True))[0], "which sign has their sum"),
        "in place": (lambda t: t.clamp_(min=0).mean(0), "changed the vectors"),
        "a number": (lambda t: t.mean(), "should be a tensor of shape (7,)"),
    },
    "soup_members": {
        "not sorted": (lambda a, s: souped(range(len(a)), s), "in the order of the list"),
        "worst first": (lambda a, s: souped(best_first(a)[::-1], s), "from the worst up"),
        "only if better": (lambda a, s: souped(best_first(a), s, lambda new, old: new > old), "as it is should join"),
        "against the best": (
            lambda a, s: souped(best_first(a), s, lambda new, old: new >= max(a)),
            "not with the best network",
        ),
        "stops": (lambda a, s: souped(best_first(a), s, stop=True), "go on with the next"),
        "all": (lambda a, s: list(range(len(a))), "the uniform soup"),
        "the best": (lambda a, s: [best_first(a)[0]], "only the best"),
        "some": (lambda a, s: [0, 5], "others than [0, 5]"),
        "a number": (lambda a, s: max(a), "a list of places"),
    },
    "two_in_one": {
        "means": (lambda f, s, w: (f[0] / 2 + s[0] / 2, f[1] / 2 + s[1] / 2), "have cross terms"),
        "weighted sums": (lambda f, s, w: (w[0] * f[0] + w[1] * s[0], w[0] * f[1] + w[1] * s[1]), "have cross terms"),
        "no weights": (lambda f, s, w: stacked(f, s, (1, 1)), "where are the weights"),
        "weights twice": (
            lambda f, s, w: (torch.cat([w[0] * f[0], w[1] * s[0]]), stacked(f, s, w)[1]),
            "each weight counts twice",
        ),
        "roots": (
            lambda f, s, w: (
                torch.cat([a * torch.tensor(v).sqrt() for a, v in ((f[0], w[0]), (s[0], w[1]))]),
                torch.cat([b * torch.tensor(v).sqrt() for b, v in ((f[1], w[0]), (s[1], w[1]))], 1),
            ),
            "has no square root",
        ),
        "exchanged weights": (lambda f, s, w: stacked(f, s, w[::-1]), "the weight of the other"),
        "strangers meet": (lambda f, s, w: stacked(f, s, w, flip=True), "must meet the column"),
        "beside each other": (lambda f, s, w: (torch.cat([f[0], s[0]], 1), torch.cat([f[1], s[1]], 1)), "should be of"),
        "the matrix": (lambda f, s, w: (torch.eye(7), w[0] * f[1] @ f[0] + w[1] * s[1] @ s[0]), "should be of shape"),
        "one tensor": (lambda f, s, w: w[0] * f[1] @ f[0] + w[1] * s[1] @ s[0], "a pair of tensors"),
        "equal ranks only": (lambda f, s, w: stacked(f, s, w, ranks=2 * len(s[0])), "not for ranks 2 and 1"),
    },
    "expert_bits": {
        "nats": (lambda a, b: told_bits(a, b) * math.log(2), "in nats"),
        "sign": (lambda a, b: -told_bits(a, b), "the sign is wrong"),
        "counts": (lambda a, b: told_bits(a, b) * len(a), "divided by N"),
        "of the label": (lambda a, b: uncertainty(shares_of(a, b)[2]), "the entropy of the label"),
        "of the expert": (lambda a, b: uncertainty(shares_of(a, b)[1]), "the entropy of the expert"),
        "what remains": (lambda a, b: uncertainty(shares_of(a, b)[2]) - told_bits(a, b), "remains unknown"),
        "joint": (lambda a, b: uncertainty(shares_of(a, b)[0]), "the joint entropy"),
        "0 log 0": (lambda a, b: (shares_of(a, b)[0] * shares_of(a, b)[0].log2()).sum(), "has to count as 0"),
        "accuracy": (lambda a, b: (a == b).float().mean(), "it should be"),
        "a table": (lambda a, b: shares_of(a, b)[0], "should be one number"),
        "always": (lambda a, b: told_bits(a, b if b.any() else a), "nothing to tell"),
        "three": (lambda a, b: told_bits(a.clamp(max=2), b.clamp(max=2)), "not for 4 of each"),
    },
    "pareto_front": {
        "better in both": (lambda c, a: ~beaten(c, a, strictly=True), "better in *one* of the two"),
        "beaten by itself": (lambda c, a: ~beaten(c, a, itself=True), "does each beat itself"),
        "one of two equals": (lambda c, a: ~beaten(c, a, later=True), "neither beats the other"),
        "the beaten": (lambda c, a: beaten(c, a), "the wrong way round"),
        "the hull": (lambda c, a: ~under_the_line(c, a), "nobody offers a point of that line"),
        "indices": (lambda c, a: (~beaten(c, a)).nonzero()[:, 0], "should be a tensor of shape (9,)"),
        "accuracies": (lambda c, a: a * ~beaten(c, a), "a mask of True and False"),
        "as if sorted": (lambda c, a: a >= a.cummax(0).values, "neither beats the other"),
        "never alone": (lambda c, a: ~beaten(c, a) & (len(a) > 1), "beaten by nobody"),
        "most accurate": (lambda c, a: (a == a.max()) | (a == 0.5), "is enough"),
    },
    "random_budget": {
        "sum": (lambda c, a, b: best_that_fits(c, a, b).sum(), "the sum over the budgets"),
        "those that are served": (lambda c, a, b: best_that_fits(c, a, b, none=None).mean(), "counts too"),
        "strictly": (lambda c, a, b: best_that_fits(c, a, b, fits=lambda c, b: c < b).mean(), "exactly the budget"),
        "the dearest": (
            lambda c, a, b: best_that_fits(c, a, b, lambda c, a: a[c.argmax()]).mean(),
            "need not be the most accurate",
        ),
        "the mean": (lambda c, a, b: best_that_fits(c, a, b, lambda c, a: a.mean()).mean(), "not the mean of all"),
        "the mean budget": (lambda c, a, b: best_that_fits(c, a, b.mean()[None]), "the mean of the best"),
        "any budget": (lambda c, a, b: a.max(), "every budget is ample"),
        "the cheapest": (lambda c, a, b: best_that_fits(c, a, b, none=0.6).mean(), "still too dear"),
        "six": (lambda c, a, b: best_that_fits(c, a, b).sum() / 6, "not for four and two"),
        "each": (lambda c, a, b: best_that_fits(c, a, b), "one number"),
        "chance": (lambda c, a, b: best_that_fits(c, a, b, none=0.1).mean(), "it should be 0.6833"),
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
