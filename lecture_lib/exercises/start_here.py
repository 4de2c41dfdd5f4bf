"""Checks of the exercises on start here."""

import functools

import torch
from torch import Tensor, einsum

from lecture_lib.exercises.answers import Answer, Wrong, exercise, normal, number

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


skipped_flops = number(
    "A scorer of 320 FLOPs and two modules of 3,000 each: 26 % of the 24,320 that all eight would cost.",
    6320,
    {
        "the scorer looks at each input, too: count its matrix.": 6000,
        "two modules are chosen, not one.": 3320,
        "a matrix costs 2 FLOPs for each of its weights: one multiplication, one addition.": 3160,
        "that is what it costs when all eight modules run.": 24_320,
        "that is all eight modules, and no scorer.": 24_000,
        "a module has two matrices: 20 × 50 and 50 × 10.": 4320,
        "biases are not counted here.": 6448,
    },
    tolerance=5,
)

why_not_faster = number(
    "Sorting and routing stay when all tokens go to one expert; what goes away is the spread over many experts.",
    2,
    {
        "a multiplication by zero would be counted, and here FLOPs are equal. The counter misses none.": 0,
        "the router runs in the last row as well, and its tokens are fast.": 1,
        "tokens are sorted in the last row as well, and its tokens are fast.": 3,
    },
    tolerance=0,
)

late_share = number(
    "30 % + 10 % are late. The mean is 28 in both cases; only the small network's 28 is a bound.",
    0.4,
    {
        "the mean is below 30, but the limit holds for each image: who costs more than 30?": 0,
        "an image that leaves at the second exit costs 40: it is late as well.": 0.1,
        "those at the last exit are late, too.": 0.3,
        "those are the images in time.": 0.6,
        "28 is the mean cost. Which share of the images costs more than 30?": 28,
    },
    tolerance=0.005,
)

supported = number(
    "After 400 steps, this design, at equal FLOPs: that was measured. The limit, the cause, other designs were not.",
    1,
    {
        "no longer run was made: the shared network may still be learning.": 0,
        "one design was compared. A shared trunk with a head for each task has the same FLOPs.": 2,
        "a cause was named, and nothing was tried without it.": 3,
    },
    tolerance=0,
)
