"""Checks of the exercises on discrete decisions."""

import itertools

import torch

from lecture_lib.exercises.answers import Answer, Wrong, exercise, number, tensor_of

boundary_slope = number(
    "A quarter of the images per unit of score, times -1.2 for each: more score, less loss.",
    -0.3,
    {
        "an image that changes from the other option to this one pays 0.5 in place of 1.7: is that more, or less?": 0.3,
        "that is the slope for one image alone. The mean also moves because some images change their choice.": 0.0,
        "that is what one image saves when it changes. How many of them change per unit of score?": -1.2,
        "the images are spread over 4 units of score, from -2 to 2, not over 2.": -0.6,
        "that is the share of the images that change. What does each of them gain or lose?": 0.25,
    },
    tolerance=0.005,
)

tries = number(
    "16 + 15 + ... + 9 = 100 in place of 12,870: cheap, if it finds something good.",
    100,
    {
        "that is the number of halves. One by one, each round tries one gate more or less, not all sets.": 12_870,
        "eight are closed, so there are eight rounds; in each round every gate that is still open is tried.": 8,
        "in each round one gate fewer is open: 16 in the first, 15 in the second.": 128,
        "that is 16 + 15 + ... + 1: it stops when eight are left.": 136,
        "in the first round no gate is closed yet, so there are 16 to try.": 92,
        "the last round begins with nine open gates, and ends with eight.": 91,
        "that round begins with eight open gates, and is not played.": 108,
        "that is the first round alone.": 16,
    },
    tolerance=0.5,
)

together = number(
    "0.62: almost all of it comes from closing both. Each stands in for the other, until both are gone.",
    0.62,
    {
        "that is what closing both adds to the loss. How much would the two single closings make you expect?": 0.65,
        "that is what the two single closings add. And closing both?": 0.03,
        "the losses themselves are not to be added: compare what each closing adds to 0.30.": 0.32,
        "the sign: closing both adds more than the sum of the two, so the difference is positive.": -0.62,
        "the loss with all gates open, 0.30, has to be taken off once for each closing.": 0.92,
        "subtract both single effects, not the larger one alone.": 0.63,
        "subtract both single effects, not the smaller one alone.": 0.64,
    },
    tolerance=0.004,
)


def one_at_a_time(cost: dict[tuple, float], z: tuple, allowed: tuple[int, ...]) -> tuple:
    """Where a search ends that turns one gate into one of `allowed` at a time, the best one, while the cost falls."""
    while True:
        near = [(*z[:i], new, *z[i + 1 :]) for i, old in enumerate(z) for new in allowed if new != old]
        best = min(near, key=cost.get, default=z)
        if not cost[best] < cost[z] - 1e-9:
            return z
        z = best


def hidden_pair(answer: Answer) -> str:
    """A cost of four gates, (N, 4) -> (N,), whose best setting two searches miss by at least 1."""
    settings = list(itertools.product((0, 1), repeat=4))
    z = torch.tensor(settings).float()
    given = z.clone()
    mine = tensor_of(answer(given), "one cost for each row of z").detach()
    if not torch.equal(given, z):
        raise Wrong("the function changed z: copy it.")
    if mine.shape != (16,):
        raise Wrong(f"it should be of shape (N,), and is {tuple(mine.shape)} for z of shape (16, 4).")
    if not mine.isfinite().all():
        raise Wrong("a cost is not finite.")
    again = tensor_of(answer(z.flip(0))).detach()
    if again.shape != mine.shape or not torch.allclose(again.flip(0), mine):
        raise Wrong("the cost of a setting should depend on that setting alone, not on its place in z.")
    cost = dict(zip(settings, mine.tolist(), strict=True))
    best = min(cost.values())
    for start, allowed, name in (((0,) * 4, (1,), "opens"), ((1,) * 4, (0,), "closes")):
        end = one_at_a_time(cost, start, allowed)
        if (gap := cost[end] - best) < 1:
            found = "finds the best setting" if gap < 1e-9 else f"comes within {gap:.2f} of the best"
            raise Wrong(
                f"the search that {name} one gate at a time {found}: it ends at {end}, the cost is {cost[end]:.2f}."
            )
    return (
        "Both searches stop, because no single gate helps: only a search that turns several gates at once can see it."
    )


@exercise([(10, 32), (50, 24), (1, 8), (7, 5)], tolerance=1e-6)
def block_flops(n_tokens: int, d_model: int) -> dict:
    """Matrix products of a block: tokens and width in, FLOPs out, a multiply-add counted as 2."""
    square, once = 2 * n_tokens * d_model**2, 2 * n_tokens**2 * d_model
    right, linear = 12 * square + 2 * once, 12 * square
    return {
        "24·T·D² + 4·T²·D: while T is well below 6·D, half of the tokens cost nearly half.": right,
        "exactly half: a multiply-add is two operations.": right / 2,
        "attention itself is missing: the scores, and the mean of the values.": linear,
        "tokens meet twice: for the scores, and for the mean of the values.": right - once,
        "one D × D product is missing: queries, keys, values, and the output.": right - square,
        "queries, keys and values are missing: D → 3D.": right - 3 * square,
        "queries, keys and values are three products D × D.": right - 2 * square,
        "the MLP is missing, for these sizes the largest part.": right - 8 * square,
        "the MLP has two layers: D → 4D and 4D → D.": right - 4 * square,
        "that is the cost of one token; the block runs on all of them.": right / n_tokens,
        "each of the T × T pairs costs D multiply-adds, not one.": linear + 2 * once / d_model,
    }
