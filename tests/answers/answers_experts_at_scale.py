"""Wrong and right answers to the exercises of notebook 09."""

from fractions import Fraction

import numpy as np
import torch


def sorted_tokens(chosen):
    return chosen.flatten().argsort(stable=True) // chosen.shape[1]


def ends(chosen, n_experts):
    return chosen.flatten().bincount(minlength=n_experts).cumsum(0)


def starts(chosen, n_experts):
    return [0, *ends(chosen, n_experts).tolist()[:-1]]


def expert_by_expert(chosen, n_experts):
    token, end = [], []
    for e in range(n_experts):
        token += [i for i, row in enumerate(chosen.tolist()) if e in row]
        end.append(len(token))
    return token, end


def by_columns(chosen, n_experts):
    """Choice by choice, so that the tokens of a group come in another order."""
    order = chosen.T.flatten().argsort()
    yield order % len(chosen)
    yield (chosen.flatten()[:, None] <= torch.arange(n_experts)).sum(0).int()


def by_numpy(chosen, n_experts):
    pairs = chosen.numpy().ravel()
    order = np.argsort(pairs, kind="stable")
    return np.repeat(np.arange(len(chosen)), chosen.shape[1])[order], np.searchsorted(
        pairs[order], range(1, n_experts + 1)
    )


def moved(n, e, d, h):
    return n * d * h / (2 * min(n, e) * d * h + 2 * n * (d + h))


def measured(n, e, d, h):
    """Adds up tensor by tensor."""
    groups = [torch.empty(n // e + (i < n % e), d, device="meta") for i in range(e)]
    flops = read = 0
    for x in groups:
        if len(x):
            w_in, w_out = torch.empty(d, h, device="meta"), torch.empty(h, d, device="meta")
            hidden = x @ w_in
            flops += 2 * x.numel() * h + 2 * hidden.numel() * d
            read += sum(t.numel() * t.element_size() for t in (w_in, w_out, x, hidden, hidden, hidden @ w_out))
    return flops / read


def one_against_two(n_groups, size):
    s = torch.zeros(n_groups, size)
    s[0, 0], s[1, :2] = 3.0, 2.0
    return s.flatten()


def level(n_groups, size):
    s = torch.zeros(n_groups, size)
    s[0, :2], s[1, 0] = torch.tensor([2.0, 1.0]), 3.0
    return s.flatten()


def by_list(n_groups, size):
    weak = [0] * (n_groups * size - 3)
    return [1, 1, *weak, 1.5] if size > 2 else [1, 1, *weak[:-1], 1.5, 0]


WRONG = {
    "lost_best": {
        "all equal": (lambda g, n: torch.zeros(g * n), "two experts are best, with 0"),
        "one alone": (lambda g, n: torch.eye(g * n)[0], "in the group that is kept: the best two of group 0 sum to 1"),
        "rising": (lambda g, n: torch.arange(g * n), "in the group that is kept"),
        "level": (level, "two groups are level, with 3"),
        "a matrix": (lambda g, n: one_against_two(g, n).view(g, n), "shape (8,), not of (4, 2)"),
        "always four": (lambda g, n: one_against_two(4, 2), "for 2 groups of 3 it should be"),
        "infinite": (lambda g, n: one_against_two(g, n).log(), "not finite"),
        "a number": (lambda g, n: 1.0, "a tensor of shape (8,)"),
    },
    "padding": {
        "nothing dropped": (0.25, "did not take are empty, too"),
        "less": (0.15, "more padding, not less"),
        "of the places": (0.28, "a share of the places"),
        "kept": (0.9, "so many places are taken"),
        "places": (torch.tensor(1.25), "all places"),
        "dropped": (0.1, "what is dropped"),
        "per cent": (35, "give a share"),
        "something else": (0.5, "should not be 0.5"),
    },
    "users": {
        "pairs": (76800, "counts for 8"),
        "one expert": (300, "what one expert needs"),
        "divided": (9.375, "more, not less"),
        "eight experts": (2400.0, "as if there were 8"),
        "something else": (torch.tensor(1000), "should not be 1000"),
        "a text": ("many", "it is str"),
    },
    "bytes_away": {
        "one way": (1750 * 2048, "results leave as well"),
        "all": (2 * 2000 * 2048, "stays at home"),
        "one expert": (875 * 2048, "two experts, two rows"),
        "one byte a number": (2 * 1750 * 1024, "a bfloat16 has 2 bytes"),
        "float32": (torch.tensor(2 * 1750 * 4096), "has 2 bytes, not 4"),
        "what stays": (2 * 250 * 2048, "7 of 8 leave"),
        "rows": (3500, "bytes are asked"),
        "something else": (0, "should not be 0"),
    },
    "groups": {
        "sizes": (lambda c, e: (sorted_tokens(c), c.flatten().bincount(minlength=e)), "the sizes"),
        "starts": (lambda c, e: (sorted_tokens(c), starts(c, e)), "each group starts"),
        "the last place": (lambda c, e: (sorted_tokens(c), ends(c, e) - 1), "as in a slice"),
        "a zero first": (lambda c, e: (sorted_tokens(c), [0, *ends(c, e)]), "shape (5,), not of (6,)"),
        "pairs": (lambda c, e: (c.flatten().argsort(), ends(c, e)), "numbers of pairs, not of tokens"),
        "the last is idle": (lambda c, e: (sorted_tokens(c), ends(c, 0)), "the last expert has no token"),
        "by column": (lambda c, e: (c.T.flatten().argsort() // c.shape[1], ends(c, e)), "should be"),
        "not sorted": (lambda c, e: (torch.arange(c.numel()) // c.shape[1], ends(c, e)), "not sorted by expert"),
        "first choices": (
            lambda c, e: (c[:, 0].argsort(stable=True), ends(c, e)),
            "in the groups of all its k experts",
        ),
        "experts": (lambda c, e: (c.flatten().sort().values, ends(c, e)), "should be"),
        "two choices": (lambda c, e: (c.flatten().argsort(stable=True) // 2, ends(c, e)), "right for chosen = "),
        "in place": (lambda c, e: (c.zero_().flatten(), ends(c, e)), "changed what it was given"),
        "exchanged": (lambda c, e: (ends(c, e), sorted_tokens(c)), "shape (5,), not of (10,)"),
        "one tensor": (lambda c, e: ends(c, e), "two tensors"),
        "short lists": (lambda c, e: ([0], [1]), "should be a tensor"),
    },
    "intensity": {
        "numbers": (lambda n, e, d, h: 4 * moved(n, e, d, h), "has 4 bytes."),
        "bfloat16": (lambda n, e, d, h: 2 * moved(n, e, d, h), "4 bytes, not 2"),
        "multiply-adds": (lambda n, e, d, h: moved(n, e, d, h) / 2, "is 2 FLOPs"),
        "upside down": (lambda n, e, d, h: 1 / moved(n, e, d, h), "the other way round"),
        "no rows": (lambda n, e, d, h: n / min(n, e) / 2, "the rows are missing"),
        "no weights": (lambda n, e, d, h: d * h / (2 * (d + h)), "the weights are missing"),
        "one expert": (lambda n, e, d, h: moved(n, 1, d, h), "all that have a token are"),
        "rows once": (lambda n, e, d, h: n * d * h / (2 * min(n, e) * d * h + n * (d + h)), "both products"),
        "weights for each token": (lambda n, e, d, h: n * d * h / (2 * n * d * h + 2 * n * (d + h)), "not by each"),
        "all experts run": (lambda n, e, d, h: e * moved(n, e, d, h), "not all of them"),
        "all experts read": (
            lambda n, e, d, h: n * d * h / (2 * e * d * h + 2 * n * (d + h)),
            "4 tokens touch 4 of 32",
        ),
        "t / 2": (lambda n, e, d, h: n / e / 2, "the rows are missing"),
        "one case": (lambda n, e, d, h: moved(512, 8, 64, 256), "but for n_tokens = 4"),
        "text": (lambda n, e, d, h: "high", "one number, it is str"),
        "infinity": (lambda n, e, d, h: float("inf"), "it is inf"),
    },
}
RIGHT = {
    "lost_best": [one_against_two, by_list, lambda g, n: (v for v in one_against_two(g, n).flip(0).numpy() - 9)],
    "padding": [0.35, torch.tensor([0.35]), 1.25 - 0.9],
    "users": [9600, np.int64(9600), 300 / (8 / 256)],
    "bytes_away": [7168000, torch.tensor(7168000), 2 * 7 / 8 * 1000 * 2 * 1024 * 2],
    "groups": [expert_by_expert, by_columns, by_numpy],
    "intensity": [
        measured,
        lambda n, e, d, h: 1 / (2 * Fraction(min(n, e), n) + 2 * Fraction(1, d) + 2 * Fraction(1, h)),
        lambda n, e, d, h: torch.tensor([n * d * h], dtype=torch.int32) / (2 * (min(n, e) * d * h + n * d + n * h)),
    ],
}
