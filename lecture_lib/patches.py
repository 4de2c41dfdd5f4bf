"""Input sparsity: which tokens (patches of an image, say) does a network look at?

A gate keeps or discards each token, the case k = 2 of choosing. What is done with the answer has two evaluations, as
the equation has `mix` and `mix_sparse`: `masked` computes every token and hides the discarded ones from the others, so
that a gradient reaches them; `packed` computes the kept ones only. Both give the same y.

In a padded batch, `mask` is True for what counts; padding stands at the end. It is never kept.

Shapes: B examples, T tokens, the first of them the class token, D width.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lecture_lib.choice import Choice, argmax, keep_or_discard
from lecture_lib.mixture import call
from lecture_lib.simplex import as_integer, as_number, blank, check_mask, full, looks, score

Choose = Callable[[Tensor], Choice]


class Gate(nn.Module):
    """n decisions to keep or discard, from a linear score each: (..., d_in) -> kept (..., n) in [0, 1], and the choice.

    In training mode it decides by `choose`, in evaluation mode by `at_test`, which is argmax unless told otherwise:
    keep what has sigmoid(score) > 1/2, without noise. "Keep" is option 0 of the choice. The scores start at about 2, so
    a new gate keeps most: what is discarded from the start is hard to learn from. In half precision, too,
    scores and choice are float32.
    """

    def __init__(self, d_in: int, n: int, choose: Choose, *, at_test: Choose = argmax):
        super().__init__()
        n = as_integer("n", n, "an integer of at least 1", 1)
        self.score, self.choose, self.at_test = nn.Linear(d_in, n), choose, at_test
        nn.init.constant_(self.score.bias, 2.0)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Choice]:
        """`mask` (...): which inputs count; for others, weights and `log_prob` are 0."""
        logits = keep_or_discard(score(self.score, blank(x, mask)))
        choice = (self.choose if self.training else self.at_test)(logits)
        if mask is not None:
            m = mask.unsqueeze(-1)
            choice = Choice(logits, choice.weights * m.unsqueeze(-1), choice.log_prob * m)
        return choice.weights[..., 0], choice


class PatchSelector(nn.Module):
    """Which tokens are kept? (B, T, D) -> kept (B, T) in [0, 1], and the choice (B, T - 1, 2).

    The first token is the class token, about which nothing is asked: it is always kept, so an example that keeps no
    patch still has an answer. Pass `kept` on to `masked` or `packed`.

    Args:
        choose, at_test: how to choose in training and in evaluation mode, see `Gate`.

    Source: Meng et al. 2022, AdaViT; Rao et al. 2021, DynamicViT.
    """

    def __init__(self, d_model: int, choose: Choose, *, at_test: Choose = argmax):
        super().__init__()
        self.gate = Gate(d_model, 1, choose, at_test=at_test)

    def forward(self, x: Tensor, kept: Tensor | None = None, *, mask: Tensor | None = None):
        """`kept` (B, T), if given, is what an earlier selector kept: what it discarded does not
        come back. `mask` (B, T): which tokens count, the class token where any does.
        """
        check_tokens(x, mask)
        if mask is not None and looks(mask) and (mask.any(-1) & ~mask[:, 0]).any():
            raise ValueError("mask must have padding at the end, got some before the class token")
        if kept is not None:
            _check(x, kept)
        patches, choice = self.gate(x[:, 1:], None if mask is None else mask[:, 1:])  # (B, T-1, 1)
        choice = Choice(choice.logits.squeeze(-2), choice.weights.squeeze(-2), choice.log_prob.squeeze(-1))
        now = torch.cat([patches.new_ones(len(x), 1), patches.squeeze(-1)], dim=1)  # (B, T)
        for part in (mask, kept):
            now = now if part is None else now * part
        return now, choice


def masked(body: Callable[..., Tensor], x: Tensor, kept: Tensor, *per_example: Tensor) -> Tensor:
    """y = x + kept · (body(x) - x), in which tokens see each other as far as they are kept. Computes every token.

    For training: every token's `kept` gets a gradient, that of discarded ones too.

    Args:
        body: (x, kept, *per_example) -> (B, T, D) with its residual connections inside, a `models.Block` or a
            `models.Transformer`; uses `kept` as `models.attention` does.
        x: (B, T, D).
        kept: (B, T) in [0, 1]. A discarded token passes by unchanged.
        per_example: tensors (B, ...) that `body` wants besides.

    Source: Rao et al. 2021, DynamicViT (attention masking).
    """
    _check(x, kept)
    return (x + kept.unsqueeze(-1) * (call(body, x, kept, *per_example) - x)).to(x.dtype)


def packed(body: Callable[..., Tensor], x: Tensor, kept: Tensor, *per_example: Tensor) -> Tensor:
    """The same y, computing the kept tokens only: discarded ones are gone before `body` is called.

    Examples that keep equally many tokens make a batch without padding; `body` is called once for each number that
    occurs, with kept = None where all is kept in full, which allows torch's faster attention. Arguments as in `masked`.
    A discarded token's `kept` gets no gradient.
    """
    _check(x, kept)
    n_tokens = x.shape[1]
    tokens, weights = x.flatten(0, 1), kept.flatten()
    counts = (kept != 0).sum(-1)  # (B,)
    order = counts.argsort(stable=True)  # examples of equal counts side by side
    places = (order.unsqueeze(-1) * n_tokens + torch.arange(n_tokens, device=x.device)).flatten()  # in `tokens`
    places = places[weights[places] != 0]  # (N,) all that is kept
    inside, w = tokens[places], weights[places]
    whole = bool((w == 1).all())
    sizes, repeats = counts[order].unique_consecutive(return_counts=True)
    outside, token, example = [], 0, 0
    for size, repeat in zip(sizes.tolist(), repeats.tolist(), strict=True):
        rows, example = order[example : example + repeat], example + repeat
        part, token = slice(token, token + repeat * size), token + repeat * size
        if size:
            seen = None if whole else w[part].unflatten(0, (repeat, size))
            batch = inside[part].unflatten(0, (repeat, size))
            y = call(body, batch, seen, *(t[rows] for t in per_example))
            outside.append(y.flatten(0, 1))
    y = torch.cat(outside) if outside else inside
    inside = (inside + w.unsqueeze(-1) * (y - inside)).to(x.dtype)
    return tokens.index_copy(0, places, inside).reshape(x.shape)


def usage_loss(kept: Tensor, target: float, *, mask: Tensor | None = None) -> Tensor:
    """(mean of kept - target)²: asks for a share of what could be used, and leaves open which example gets it.

    Args:
        kept: shares of use in [0, 1], any shape. Leave out what is always kept: `usage_loss(kept[:, 1:], 0.5)`.
        target: the budget, more than 0 and at most 1.
        mask: which of them count, in the shape of kept or its first dimensions. If none does: 0.

    Source: Meng et al. 2022, AdaViT (usage loss).
    """
    target = as_number("target", target, "more than 0 and at most 1", lambda t: 0 < t <= 1)
    kept = full(kept)
    if mask is not None:
        check_mask(mask, kept.shape[: getattr(mask, "ndim", kept.ndim)])
        kept = kept[mask]
    elif not kept.numel():
        raise ValueError(f"kept must hold at least one decision, got shape {tuple(kept.shape)}")
    return (kept.sum() / max(kept.numel(), 1) - target).square() * min(kept.numel(), 1)


def check_tokens(x: Tensor, mask: Tensor | None = None) -> None:
    if x.ndim != 3 or x.shape[1] < 1:
        raise ValueError(f"x must be (B, T, D) with at least one token, got {tuple(x.shape)}")
    if mask is not None:
        check_mask(mask, x.shape[:2])


def _check(x: Tensor, kept: Tensor) -> None:
    if x.ndim != 3 or kept.shape != x.shape[:2]:
        raise ValueError(f"kept must be (B, T) for x (B, T, D), got {tuple(kept.shape)} for {tuple(x.shape)}")
