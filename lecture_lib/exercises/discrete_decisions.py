"""Checks of the exercises on discrete decisions."""

from lecture_lib.exercises.answers import exercise


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
