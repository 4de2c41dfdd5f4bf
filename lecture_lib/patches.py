"""Input sparsity: which tokens (patches of an image, say) does a network look at?

A gate keeps or discards each token, the case k = 2 of choosing. What is done with the answer has two evaluations, as
the equation has `mix` and `mix_sparse`: `masked` computes every token and hides the discarded ones from the others, so
that a gradient reaches them; `packed` computes the kept ones only. Both give the same y.

Shapes: B examples, T tokens, the first of them the class token, D width.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lecture_lib.choice import Choice, argmax, keep_or_discard

Choose = Callable[[Tensor], Choice]


class Gate(nn.Module):
    """n decisions to keep or discard, from a linear score each: (..., d_in) -> kept (..., n) in [0, 1], and the choice.

    In training mode it decides by `choose`, in evaluation mode by `at_test`, which is argmax unless told otherwise:
    keep what has σ(score) > 1/2, without noise. "Keep" is option 0 of the choice. The scores start at about 2, so a new
    gate keeps most: what is discarded from the start is hard to learn from.
    """

    def __init__(self, d_in: int, n: int, choose: Choose, *, at_test: Choose = argmax):
        super().__init__()
        self.score, self.choose, self.at_test = nn.Linear(d_in, n), choose, at_test
        nn.init.constant_(self.score.bias, 2.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Choice]:
        choice = (self.choose if self.training else self.at_test)(keep_or_discard(self.score(x)))
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

    def forward(self, x: Tensor, kept: Tensor | None = None) -> tuple[Tensor, Choice]:
        """`kept` (B, T), if given, is what an earlier selector kept: what it discarded does not come back."""
        if x.ndim != 3 or x.shape[1] < 1:
            raise ValueError(f"x must be (B, T, D) with a class token first, got {tuple(x.shape)}")
        if kept is not None:
            _check(x, kept)
        patches, choice = self.gate(x[:, 1:])  # (B, T - 1, 1), of logits (B, T - 1, 1, 2)
        choice = Choice(choice.logits.squeeze(-2), choice.weights.squeeze(-2), choice.log_prob.squeeze(-1))
        now = torch.cat([x.new_ones(len(x), 1), patches.squeeze(-1)], dim=1)  # (B, T)
        return (now if kept is None else now * kept), choice


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
    return x + kept.unsqueeze(-1) * (body(x, kept, *per_example) - x)


def packed(body: Callable[..., Tensor], x: Tensor, kept: Tensor, *per_example: Tensor) -> Tensor:
    """The same y, computing the kept tokens only: discarded ones are gone before `body` is called.

    Examples that keep equally many tokens make a batch without padding; `body` is called once for each number that
    occurs, with kept = None where all is kept in full, which allows torch's faster attention. Arguments as in `masked`.
    A discarded token's `kept` gets no gradient.
    """
    _check(x, kept)
    batch, n_tokens, _ = x.shape
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
            y = body(inside[part].unflatten(0, (repeat, size)), seen, *(t[rows] for t in per_example))
            outside.append(y.flatten(0, 1))
    y = torch.cat(outside) if outside else inside
    return tokens.index_copy(0, places, inside + w.unsqueeze(-1) * (y - inside)).unflatten(0, (batch, n_tokens))


def usage_loss(kept: Tensor, target: float) -> Tensor:
    """(mean of kept - target)²: asks for a share of what could be used, and leaves open which example gets it.

    Args:
        kept: shares of use in [0, 1], any shape. Leave out what is always kept: `usage_loss(kept[:, 1:], 0.5)`.
        target: the budget, more than 0 and at most 1.

    Source: Meng et al. 2022, AdaViT (usage loss).
    """
    if not 0 < target <= 1:
        raise ValueError(f"target must be more than 0 and at most 1, got {target!r}")
    if not kept.numel():
        raise ValueError(f"kept must hold at least one decision, got shape {tuple(kept.shape)}")
    return (kept.mean() - target).square()


def _check(x: Tensor, kept: Tensor) -> None:
    if x.ndim != 3 or kept.shape != x.shape[:2]:
        raise ValueError(f"kept must be (B, T) for x (B, T, D), got {tuple(kept.shape)} for {tuple(x.shape)}")
