"""Checks of the exercises on start here."""

import functools

import torch
from torch import Tensor, einsum

from lecture_lib.exercises.answers import Answer, Wrong, exercise, normal

ROWS = [0, 1, 0], [0.5, 0, 0], [0, 0.25, 0], [0.5, 0.75, 0], [1, 0, 0], [0, 0, 0]
CASES = [(*normal((6, 2)), torch.tensor(ROWS), *normal((3, 2, 3)))]  # nobody chose the third
OTHERS = normal((1, 3), (1, 4), (4, 3, 2)), normal((7, 2), (7, 1), (1, 2, 3))
CASES += [(x, z * (z.abs() > 0.5), w) for x, z, w in (*OTHERS, normal((9, 4), (9, 2), (2, 4, 1)))]


def run(answer: Answer, x: Tensor, z: Tensor, w: Tensor) -> object:
    """What comes of the modules x @ w[k] + k + 1, if no zero was run."""
    chosen, rows = int((z != 0).sum()), [[] for _ in w]

    def module(k: int, some: Tensor) -> Tensor:
        rows[k].append(len(some) if some.ndim > 1 else 1)
        return some @ w[k] + k + 1

    y = answer(x, z, [lambda some, k=k: module(k, some) for k in range(len(w))])
    if (total := sum(map(sum, rows))) > chosen:
        raise Wrong(f"{total} rows were run, and only {chosen} weights are not zero.")
    if (most := max(map(len, rows))) > 1:
        raise Wrong(f"one module was called {most} times: call it once, with all of its rows.")
    return y


@exercise(CASES, ask=run)
def run_what_is_chosen(x: Tensor, z: Tensor, w: Tensor) -> dict:
    """Σ_k z_k · f_k(x): inputs (N, D), weights (N, K), K modules in, (N, C) out; no zero is run."""
    out = einsum("nd,kdc->nkc", x, w) + torch.arange(1.0, len(w) + 1)[:, None]
    inside, ones = out + einsum("nk,nd,kdc->nkc", z - 1, x, w), (z != 0).float()
    best, mix = z * (z == z.amax(1, True)), functools.partial(einsum, "nk,nkc->nc")
    parts = (z[..., None] * out).transpose(0, 1)[z.T != 0]
    return {
        "The library's mix_sparse does this; one module a row: a layer of experts.": mix(z, out),
        "every module that was chosen counts in full; where does its weight enter?": mix(ones, out),
        "a row may have chosen two modules: both have to be added.": mix(best, out),
        "a weight multiplies what comes out of its module, not what goes in.": mix(ones, inside),
        "a negative weight counts as well: only zeros are left out.": mix(z.clamp(min=0), out),
        "rows come back in the order of the modules: add each where it belongs.": parts,
    }
