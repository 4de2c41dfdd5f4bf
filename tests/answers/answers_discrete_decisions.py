"""Wrong and right answers to the exercises of notebook 01."""

import numpy as np
import torch


def by_products(n_tokens, d_model):
    shapes = [(n_tokens, d_model, 3 * d_model), (n_tokens, d_model, n_tokens), (n_tokens, n_tokens, d_model)]
    shapes += [(n_tokens, d_model, d_model), (n_tokens, d_model, 4 * d_model), (n_tokens, 4 * d_model, d_model)]
    return 2 * sum(n * m * p for n, m, p in shapes)


WRONG = {
    "block_flops": {
        "multiply-adds": (lambda t, d: 12 * t * d * d + 2 * t * t * d, "two operations"),
        "no attention": (lambda t, d: 24 * t * d * d, "attention itself is missing"),
        "attention once": (lambda t, d: 24 * t * d * d + 2 * t * t * d, "tokens meet twice"),
        "no output": (lambda t, d: 22 * t * d * d + 4 * t * t * d, "one D × D product is missing"),
        "output alone": (lambda t, d: 18 * t * d * d + 4 * t * t * d, "queries, keys and values are missing"),
        "one of three": (lambda t, d: 20 * t * d * d + 4 * t * t * d, "three products"),
        "no MLP": (lambda t, d: 8 * t * d * d + 4 * t * t * d, "the MLP is missing"),
        "half an MLP": (lambda t, d: 16 * t * d * d + 4 * t * t * d, "two layers"),
        "one token": (lambda t, d: 24 * d * d + 4 * t * d, "the cost of one token"),
        "pairs for free": (lambda t, d: 24 * t * d * d + 4 * t * t, "each of the T × T pairs"),
        "parameters": (lambda t, d: 12 * d * d, "should be 258560, it is 12288"),
        "one case": (lambda t, d: 24 * t * d * d + 4 * t * 10 * d, "but for n_tokens = 50, d_model = 24"),
        "nearly": (lambda t, d: 24 * t * d * d + 4 * t * t * d + 1, "should be 258560, it is 258561"),
        "text": (lambda t, d: "many", "one number, it is str"),
        "NaN": (lambda t, d: float("nan"), "there is a NaN"),
    },
}
RIGHT = {
    "block_flops": [
        by_products,
        lambda tokens, width: np.prod([24, tokens, width, width]) + np.prod([4, tokens, tokens, width]),
        lambda tokens, width: torch.tensor([24.0 * width, 4.0 * tokens]).sum() * tokens * width,
        lambda tokens, width: np.float32(4 * tokens * width * (6 * width + tokens)),
    ],
}
