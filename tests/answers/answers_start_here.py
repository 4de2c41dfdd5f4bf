"""Wrong and right answers to the exercise of notebook 00."""

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
}
RIGHT = {"run_what_is_chosen": [masked, by_numpy, by_a_product]}
