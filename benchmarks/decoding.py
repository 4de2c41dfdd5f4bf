"""The language model writes: with a cache beside reading all again, with exits beside all layers."""

from collections.abc import Iterator
from functools import partial

import torch
from case import Case

from lecture_lib.data import python_sources
from lecture_lib.pretrained import load
from lecture_lib.pretrained.decoder import generate, softmax_margin, speculate

N = 32  # bytes written after prompts of 64: a row's bytes per second are 1000 · texts · N / ms


def decoding() -> Iterator[Case]:
    """Exits promise no time: a look at one takes a third of a layer, and a layer reads its weights for one text as
    for sixteen."""
    model, text = load("language_model"), python_sources().test
    prompts = text[torch.randint(len(text) - 64, (16, 1)) + torch.arange(64)].long()

    @torch.no_grad()
    def read_again():
        tokens = prompts[:1]
        for _ in range(N):
            last = model.states(tokens)[-1, :, -1:]
            tokens = torch.cat([tokens, model.read(-1, last).argmax(-1)], 1)
        return tokens[:, 64:]

    def write(n_texts, *rule):
        return generate(model, prompts[:n_texts], N, *rule)[0]

    yield Case("decode in full, 1 text", partial(write, 1), "reading all again", read_again, 0.0)
    for n in (1, 16):
        name = f"decode with exits, margin 0.5, {n} text{'s' * (n > 1)}"  # other texts than in full
        yield Case(name, partial(write, n, softmax_margin, 0.5), "in full", partial(write, n), None, None)
    for exit, draft in ((0, 4), (1, 4), (3, 6)):  # the same text, whatever was drafted
        name = f"decode, exit {exit} drafts {draft}, 1 text"
        drafted = partial(speculate, model, prompts[:1], N, exit=exit, draft=draft)
        yield Case(name, lambda drafted=drafted: drafted()[0], "in full", partial(write, 1), 0.0, None)
