"""Wrong and right answers to the exercises of notebook 02."""

import torch


def noise(shape, generator):
    return -torch.empty(shape).exponential_(generator=generator).log()


def logistic(shape, generator):
    u = torch.rand(shape, generator=generator).clamp(1e-7, 1 - 1e-7)
    return u.logit()


def seeded_once(score, temperature, generator):
    return ((score + logistic(score.shape, torch.Generator().manual_seed(0))) / temperature).sigmoid()


def sharp(score, temperature, generator):
    """A decision, with the gradient of the relaxed sample."""
    soft = ((score + logistic(score.shape, generator)) / temperature).sigmoid()
    return (soft > 0.5).float() + soft - soft.detach()


def by_softmax(score, temperature, generator):
    pairs = torch.stack([score, torch.zeros_like(score)], -1) + noise((*score.shape, 2), generator)
    return (pairs / temperature).softmax(-1)[:, 0]


def by_ratio(score, temperature, generator):
    e = torch.empty(2, len(score), dtype=torch.float64).exponential_(generator=generator)
    odds = (score.exp() * e[1] / e[0]) ** (1 / temperature)
    return odds / (1 + odds)


def one_by_one(score, temperature, generator):
    u = logistic(score.shape, generator).tolist()
    return [((s + g) / temperature).sigmoid() for s, g in zip(score, u, strict=True)]


WRONG = {
    "forbid": {
        "multiplied by the mask": (lambda s, a: s * a, "score of 0"),
        "minus a number that is not large enough": (lambda s, a: s - 10.0 * ~a, "has probability 1.0e-05"),
        "enough for one temperature": (lambda s, a: s - 150 * (~a).float(), "at temperature 30"),
        "enough for two temperatures": (lambda s, a: s - 5000 * (~a).float(), "at temperature 100"),
        "minus infinity times the mask": (lambda s, a: s + ~a * -torch.inf, "NaN"),
        "NaN": (lambda s, a: s.masked_fill(~a, torch.nan), "NaN"),
        "probabilities instead of scores": (
            lambda s, a: s.softmax(-1).masked_fill(~a, -torch.inf),
            "odds among the allowed",
        ),
        "sorted": (lambda s, a: s.masked_fill(~a, -torch.inf).sort(-1).values, "forbidden has probability"),
        "the mask the wrong way round": (lambda s, a: s.masked_fill(a, -torch.inf), "wrong way round"),
        "the allowed alone": (lambda s, a: s[a], "should be a tensor of shape (2, 4), not of (5,)"),
        "two dimensions only": (
            lambda s, a: s.masked_fill(~a, -torch.inf) if s.ndim == 2 else s,
            "right for scores = ",
        ),
        "a list": (lambda s, a: [1.0], "should be a tensor"),
    },
    "keep_or_discard": {
        "no noise": (lambda s, t, g: (s / t).sigmoid(), "where is the noise"),
        "one draw for all": (lambda s, t, g: ((s + logistic((), g)) / t).sigmoid(), "One for each score"),
        "one Gumbel": (lambda s, t, g: ((s + noise(s.shape, g)) / t).sigmoid(), "the difference of two Gumbels"),
        "normal noise": (lambda s, t, g: ((s + torch.randn(s.shape, generator=g)) / t).sigmoid(), "two Gumbels"),
        "normal noise of the same quartiles": (
            lambda s, t, g: ((s + 1.628 * torch.randn(s.shape, generator=g)) / t).sigmoid(),
            "the tails of the noise",
        ),
        "noise of another source": (lambda s, t, g: ((s + torch.rand(s.shape).logit()) / t).sigmoid(), "the generator"),
        "noise of its own seed": (seeded_once, "the generator"),
        "the same noise again": (lambda s, t, g: seeded_once(s, t, g.manual_seed(3)), "the generator"),
        "noise outside the temperature": (
            lambda s, t, g: (s / t + noise(s.shape, g) - noise(s.shape, g)).sigmoid(),
            "the noise as well",
        ),
        "temperature multiplies": (lambda s, t, g: ((s + logistic(s.shape, g)) * t).sigmoid(), "temperature enter"),
        "one temperature": (lambda s, t, g: ((s + logistic(s.shape, g)) / 0.5).sigmoid(), "temperature enter"),
        "discard": (lambda s, t, g: ((-s + logistic(s.shape, g)) / t).sigmoid(), "the more is kept"),
        "hard": (lambda s, t, g: (s + logistic(s.shape, g) > 0).float(), "no gradient"),
        "a decision": (sharp, "that is a decision"),
        "half a gradient": (
            lambda s, t, g: (((s + s.detach()) / 2 + logistic(s.shape, g)) / t).sigmoid(),
            "their gradient is not",
        ),
        "no sigmoid": (lambda s, t, g: (s + logistic(s.shape, g)) / t, "between 0 and 1"),
        "a mean": (
            lambda s, t, g: ((s + logistic(s.shape, g)) / t).sigmoid().mean(),
            "of shape (99,), as score, not ()",
        ),
        "in place": (lambda s, t, g: s.add_(logistic(s.shape, g)).div_(t).sigmoid(), "changed its scores"),
    },
    "surely": {
        "that the first is larger": (0.75, "how often the first entry is the larger one"),
        "the temperature forgotten": (torch.tensor(0.25), "answer at temperature 1"),
        "divided by the temperature": (1 / 28, "multiplies log 9"),
        "something else": (0.33, "should not be 0.33"),
        "two numbers": ([0.5, 0.5], "one number, it is of shape (2,)"),
        "a text": ("a half", "one number, it is str"),
        "a function": (lambda: 0.5, "hand over a number"),
        "no number": (float("nan"), "should not be nan"),
    },
    "mean_error": {
        "of one estimate": (lambda b, s, n: (b**2 + s**2) ** 0.5, "divided by n"),
        "divided by n": (lambda b, s, n: (b**2 + (s / n) ** 2) ** 0.5, "root of n"),
        "added": (lambda b, s, n: b + s / n**0.5, "squares are added"),
        "no root": (lambda b, s, n: b**2 + s**2 / n, "the root is missing"),
        "the bias averaged as well": (lambda b, s, n: ((b**2 + s**2) / n) ** 0.5, "does not change the bias"),
        "no bias": (lambda b, s, n: s / n**0.5, "it should be"),
    },
    "fooled": {
        "a straight line": (lambda z: z @ torch.tensor([2.0, 0.0, 1.0]), "best cost is at a corner"),
        "the wrong way round": (lambda z: -3 * (z**2).sum(-1), "best cost is at a corner"),
        "too little": (lambda z: (z**2).sum(-1), "by 0.67 only"),
        "a jump": (lambda z: (z.max(-1).values == 1) * 5.0, "it jumps"),
        "one number for all": (lambda z: (3 * z**2).sum(), "of shape (N,), and is ()"),
        "infinite at the corners": (lambda z: -(1 - z.max(-1).values).log(), "not finite"),
        "z changed": (lambda z: 3 * z.mul_(2).square().sum(-1), "changed z"),
    },
}
RIGHT = {
    "forbid": [
        lambda s, a: s.masked_fill_(~a, -torch.inf),
        lambda s, a: s + a.float().log(),
        lambda s, a: (s.softmax(-1) * a).log(),
        lambda s, a: torch.where(a, s.double(), -1e30).tolist(),
        lambda s, a: torch.where(a, s - 3.0, torch.finfo(torch.float32).min).numpy(),
    ],
    "keep_or_discard": [
        by_softmax,
        by_ratio,
        one_by_one,
        lambda s, t, g: (1 + ((s + logistic(s.shape, g)) / (2 * t)).tanh()) / 2,
    ],
    "surely": [0.5, torch.tensor([0.5]), [0.4999]],
    "mean_error": [
        lambda b, s, n: torch.tensor(b**2 + s**2 / n).sqrt(),
        lambda b, s, n: abs(complex(b, s * n**-0.5)),
        lambda b, s, n: [(b * b + s * s / n) ** 0.5],
    ],
    "fooled": [
        lambda z: 3 * (z**2).sum(-1),
        lambda z: 20 * (z[:, 0] - 0.5) ** 2,
        lambda z: [-9.0 * float(a * b + b * c + a * c) for a, b, c in z],
    ],
}
