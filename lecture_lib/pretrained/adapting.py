"""The language model learns another text (notebook 10): the texts, what of the model learns, and how it is measured.

A text is cut into pieces of 1,024 bytes. Some of the training text, from all over it, are held out to choose by.
"""

import math
from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from lecture_lib.adapters import add_loras
from lecture_lib.data import Language, Sources, english, python_sources, tables
from lecture_lib.exits import joint_loss
from lecture_lib.pretrained.decoder import Decoder, token_losses
from lecture_lib.simplex import as_integer

TEXTS, ALPHA, PIECE, CONTEXT = ("english", "tables", "language"), 8, 1024, 128


@cache
def sources(text: str) -> Sources:
    """A text of TEXTS, or "python", which the model has learnt."""
    if text == "language":
        return Sources(*(Language().text(n, seed=seed)[0] for n, seed in ((25_000, 1), (2_500, 2))))
    found = {"english": english, "tables": tables, "python": python_sources}
    if text not in found:
        raise ValueError(f"text must be one of {', '.join(TEXTS)}, python, got {text!r}")
    return found[text]()


def parts(text: str, n_held_out: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """What is learnt from (n, PIECE); pieces of the training text held out; twice as many of the test text."""
    train, test = (whole[: len(whole) // PIECE * PIECE].view(-1, PIECE) for whole in sources(text))
    held_out, measured = spread(len(train), n_held_out), spread(len(test), 2 * n_held_out)
    learnt = torch.ones(len(train), dtype=torch.bool)
    learnt[held_out] = False
    return train[learnt], train[held_out].flatten(), test[measured].flatten()


def spread(n: int, k: int) -> Tensor:
    """k places of n, evenly spaced: (k,)."""
    n, k = as_integer("n", n, "an integer >= 1", 1), as_integer("k", k, "an integer >= 0", 0)
    return (torch.arange(k) + 0.5).mul(n / max(k, 1)).long()


def windows(text: str, n: int, seed: int, context: int = CONTEXT) -> Iterator[Tensor]:
    """Endless batches (n, context + 1) of what is learnt from."""
    context = as_integer("context", context, f"an integer from 1 to {PIECE - 1}", 1, PIECE - 1)
    pieces, generator = parts(text)[0], torch.Generator().manual_seed(seed)
    while True:
        rows = pieces[torch.randint(len(pieces), (n,), generator=generator)]
        start = torch.randint(PIECE - context, (n, 1), generator=generator)
        yield rows.gather(1, start + torch.arange(context + 1)).long()


def prepare(model: Decoder, method: str, seed: int = 0) -> Decoder:
    """What shall learn, in place: "head", "rank 4" (LoRA beside each matrix of the layers), "all weights"."""
    if method.startswith("rank "):
        model.requires_grad_(False)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            add_loras(model.layers, int(method.removeprefix("rank ")), alpha=ALPHA)
    elif method == "head":
        model.requires_grad_(False).head.requires_grad_(True)
    elif method != "all weights":
        raise ValueError(f"method must be head, all weights or a rank, such as rank 4, got {method!r}")
    return model


def loss(model: Decoder, text: Tensor) -> Tensor:
    """Of windows (B, T + 1), as the model was trained: Σ_l l · L_l / Σ_l l (Schuster et al. 2022, eq. 6)."""
    weights = range(1, len(model.layers) + 1)
    return joint_loss(model(text[:, :-1]), text[:, 1:].long(), [weight / sum(weights) for weight in weights])


def learn(model: Decoder, batches: Iterator[Tensor], rate: float, steps: int) -> Decoder:
    """Adam at a constant rate on what learns, in place."""
    adam = torch.optim.Adam([w for w in model.parameters() if w.requires_grad], rate)
    for _ in range(steps):
        adam.zero_grad()
        loss(model, next(batches)).backward()
        adam.step()
    return model


def bits(model: Decoder, text: Tensor) -> float:
    """Bits a byte of a text (T,) at the last exit."""
    return token_losses(model, text)[-1].double().mean().item() / math.log(2)
