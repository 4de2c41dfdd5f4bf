"""Wrong and right answers to the exercises of notebook 00."""

import numpy as np
import torch


def chosen_rows(x, z, modules, weigh=True, keep=lambda z: z != 0, stack=False):
    """Σ_k z_k · f_k(x) on the rows that chose k, with room for mistakes."""
    parts, y = [], 0
    for k, f in enumerate(modules):
        rows = keep(z[:, k]).nonzero()[:, 0]
        if len(rows):
            part = f(x[rows]) * (z[rows, k, None] if weigh else 1)
            parts.append(part)
            y = y + part.new_zeros(len(x), part.shape[1]).index_add(0, rows, part)
    return torch.cat(parts) if stack else y


def row_by_row(x, z, modules):
    return torch.stack(
        [sum([z[i, k] * f(x[i]) for k, f in enumerate(modules) if z[i, k]], torch.zeros(3)) for i in range(6)]
    )


def masked(x, z, modules):
    y = None
    for f, weight in zip(modules, z.T, strict=True):
        if (on := weight != 0).any():
            out = f(x[on]) * weight[on, None]
            y = torch.zeros(len(x), out.shape[1]) if y is None else y
            y[on] += out
    return y


def by_numpy(x, z, modules):
    parts = []
    for k, f in enumerate(modules):
        rows = np.flatnonzero(z[:, k].numpy())
        parts.append((rows, (z[rows, k, None] * f(x[rows])).numpy()))
    y = np.zeros((len(x), max(part.shape[1] for _, part in parts)))
    for rows, part in parts:
        np.add.at(y, rows, part)
    return y


def by_a_product(x, z, modules):
    """The rows of each module put back by a matrix of zeros and weights; modules without rows run on none."""
    back = [torch.eye(len(x))[:, z[:, k] != 0] * z[z[:, k] != 0, k] for k in range(len(modules))]
    return sum(m @ f(x[z[:, k] != 0]) for k, (m, f) in enumerate(zip(back, modules, strict=True)))


WRONG = {
    "run_what_is_chosen": {
        "dense": (lambda x, z, f: sum(z[:, k, None] * f[k](x) for k in range(3)), "18 rows were run"),
        "without weights": (lambda x, z, f: chosen_rows(x, z, f, weigh=False), "where does its weight enter"),
        "one module a row": (
            lambda x, z, f: chosen_rows(x, torch.where(z == z.amax(-1, keepdim=True), z, 0), f),
            "may have chosen two",
        ),
        "positive weights only": (
            lambda x, z, f: chosen_rows(x, z, f, keep=lambda z: z > 0),
            "a negative weight counts as well",
        ),
        "weighted input": (
            lambda x, z, f: sum(
                torch.zeros(len(x), 3).index_add(0, rows := z[:, k].nonzero()[:, 0], f[k](z[rows, k, None] * x[rows]))
                for k in range(3)
            ),
            "not what goes in",
        ),
        "as they were computed": (lambda x, z, f: chosen_rows(x, z, f, stack=True), "the order of the modules"),
        "other rows": (lambda x, z, f: chosen_rows(x, z, f).flip(0), "should be"),
        "the mean": (lambda x, z, f: chosen_rows(x, z, f) / 3, "should be"),
        "row by row": (row_by_row, "call it once"),
        "in place": (lambda x, z, f: chosen_rows(x.add_(1), z, f), "changed what it was given"),
        "a sum of all": (lambda x, z, f: chosen_rows(x, z, f).sum(), "should be a tensor of shape (6, 3)"),
    },
    "skipped_flops": {
        "without the scorer": (6000, "the scorer looks at each input"),
        "one module": (torch.tensor(3320.0), "two modules are chosen"),
        "weights, not FLOPs": (3160, "2 FLOPs for each of its weights"),
        "all of them": ([24_320], "when all eight modules run"),
        "all, and no scorer": (24_000, "no scorer"),
        "a share": (0.26, "should not be 0.26"),
        "two numbers": ([6000, 320], "one number, it is of shape (2,)"),
        "a function": (lambda: 6320, "hand over a number"),
    },
    "why_not_faster": {
        "the counter": (0, "FLOPs are equal"),
        "the router": (1.0, "router runs in the last row"),
        "sorting": (torch.tensor(3), "sorted in the last row"),
        "no such statement": (4, "should not be 4"),
        "two of them": ([2, 3], "one number"),
        "a text": ("the spread", "one number, it is str"),
    },
    "late_share": {
        "nobody": (0, "holds for each image"),
        "the last exit": (0.1, "leaves at the second exit"),
        "the second exit": (torch.tensor(0.3), "those at the last exit"),
        "in time": (0.6, "images in time"),
        "the mean": (28, "the mean cost"),
        "per cent": (40, "should not be 40"),
    },
    "supported": {
        "the limit": (0, "no longer run"),
        "every design": (2, "a head for each task"),
        "the cause": (np.int64(3), "nothing was tried without it"),
        "none": (float("nan"), "should not be nan"),
        "all": ([0, 1, 2, 3], "one number, it is of shape (4,)"),
    },
}
RIGHT = {
    "run_what_is_chosen": [masked, by_numpy, by_a_product],
    "skipped_flops": [6320, 2 * (20 * 8) + 2 * 2 * (20 * 50 + 50 * 10), torch.tensor([6.32e3])],
    "why_not_faster": [2, 2.0, np.array([2])],
    "late_share": [0.4, 0.3 + 0.1, torch.tensor(2 / 5)],
    "supported": [1, torch.tensor(1), [1]],
}
