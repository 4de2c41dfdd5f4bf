"""Wrong and right answers to the exercises of notebook 01."""

import numpy as np
import torch


def by_products(n_tokens, d_model):
    shapes = [(n_tokens, d_model, 3 * d_model), (n_tokens, d_model, n_tokens), (n_tokens, n_tokens, d_model)]
    shapes += [(n_tokens, d_model, d_model), (n_tokens, d_model, 4 * d_model), (n_tokens, 4 * d_model, d_model)]
    return 2 * sum(n * m * p for n, m, p in shapes)


def needle(z):
    return 2 - 2 * (z == torch.tensor([1, 1, 0, 0])).all(-1).float()


def by_loop(z):
    return [0.0 if row == [0, 1, 1, 0] else 1.0 + sum(row) % 2 for row in z.tolist()]


def by_product(z):
    both = z[:, 0] * z[:, 3] * (1 - z[:, 1]) * (1 - z[:, 2])
    return (3 - 3 * both).double().numpy()


WRONG = {
    "boundary_slope": {
        "the sign": (0.3, "is that more, or less?"),
        "of each image": (0, "the slope for one image alone"),
        "of all images": (torch.tensor(-1.2), "How many of them change"),
        "over two units": (-0.6, "spread over 4 units"),
        "a share": (0.25, "the share of the images"),
        "something else": (-0.55, "should not be -0.55"),
        "two numbers": ([-0.3, 0.3], "one number, it is of shape (2,)"),
        "a text": ("minus 0.3", "one number, it is str"),
    },
    "tries": {
        "all halves": (12_870, "the number of halves"),
        "rounds": (8, "eight rounds"),
        "sixteen each": (8 * 16, "one gate fewer is open"),
        "to the last": (sum(range(17)), "stops when eight are left"),
        "from fifteen": (sum(range(8, 16)), "no gate is closed yet"),
        "one round too many": (sum(range(8, 17)), "is not played"),
        "one round too few": (91, "the last round"),
        "the first round": (16.0, "the first round alone"),
        "all settings": (2**16, "should not be 65536"),
    },
    "together": {
        "both": (0.95 - 0.30, "what closing both adds"),
        "the singles": (0.01 + 0.02, "the two single closings add"),
        "losses": (0.95 - 0.31 - 0.32, "not to be added"),
        "the sign": (-0.62, "positive"),
        "the open loss forgotten": (0.95 - 0.03, "taken off once"),
        "the second alone": (0.95 - 0.32, "not the larger one alone"),
        "the first alone": (0.95 - 0.31, "not the smaller one alone"),
        "a mean": (0.31, "should not be 0.31"),
        "no number": (float("nan"), "should not be nan"),
    },
    "hidden_pair": {
        "each gate helps": (lambda z: -z.sum(-1), "opens one gate at a time finds the best"),
        "each gate costs": (lambda z: 2 * z.sum(-1), "opens one gate at a time finds the best"),
        "closing finds it": (lambda z: 2 - 2 * z[:, 0] * z[:, 1] + z.sum(-1) / 9, "closes one gate at a time finds"),
        "all four": (
            lambda z: 2 - 2 * z.prod(-1),
            "closes one gate at a time finds the best setting: it ends at (1, 1",
        ),
        "too little": (lambda z: needle(z) / 4, "comes within 0.50"),
        "one number": (lambda z: needle(z).sum(), "of shape (N,), and is ()"),
        "by place": (lambda z: torch.arange(len(z)) + 1.0, "not on its place"),
        "infinite": (lambda z: needle(z).log(), "not finite"),
        "z changed": (lambda z: needle(z.mul_(0)), "changed z"),
        "text": (lambda z: "cost", "one cost for each row of z, it is str"),
    },
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
    "boundary_slope": [-0.3, torch.tensor([-0.3]), np.float32((0.5 - 1.7) / 4)],
    "tries": [100, np.int64(100), sum(range(9, 17))],
    "together": [0.62, torch.tensor([0.62]), [0.95 - 0.31 - 0.32 + 0.30]],
    "hidden_pair": [needle, by_loop, by_product, lambda z: -9 * by_product(z).__eq__(0)],
    "block_flops": [
        by_products,
        lambda tokens, width: np.prod([24, tokens, width, width]) + np.prod([4, tokens, tokens, width]),
        lambda tokens, width: torch.tensor([24.0 * width, 4.0 * tokens]).sum() * tokens * width,
        lambda tokens, width: np.float32(4 * tokens * width * (6 * width + tokens)),
    ],
}
