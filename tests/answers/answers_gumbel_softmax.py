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
}
