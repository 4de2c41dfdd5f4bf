"""Layer and block sparsity: which layers, heads and hidden units does an example use? And which tokens use a layer?

Every module here evaluates y = x + z · f(x), or y = Σ_k z_k · f_k(x), in two ways. In training mode everything is
computed and weighted, so that a gradient reaches also what was discarded. In evaluation mode what has weight zero is
not computed. Same y for the same z.

In a padded batch, `mask` is True for what counts. What does not has weight 0, is not seen, and
passes by where there is a residual connection; elsewhere it becomes 0.

Shapes: B examples, T tokens, D width, H heads, `...` any leading dimensions.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.choice import Choice, argmax, keep_or_discard, quiet, softmax
from lecture_lib.mixture import call, mix, mix_sparse
from lecture_lib.models import Block, SelfAttention, attention
from lecture_lib.patches import Choose, Gate, PatchSelector, check_tokens, masked, packed, usage_loss
from lecture_lib.simplex import as_integer, as_number, blank, check_mask, full, score


class SkippableBlock(nn.Module):
    """A layer that an example may skip: y = x + z_run · f(x), where body(x) = x + f(x). Returns (y, choice).

    Decides for each example, by a linear score of x (B, D), or of its first token for x (B, T, D). In evaluation mode
    only the examples that run are computed; if there are none, `body` is not called. Gradients stay defined: those of
    `body` and of the score are 0 for examples that did not run.

    Args:
        d_model: D.
        body: (n, ...) -> (n, ...), a block with its residual connection inside. With a
            mask (B, T), it is called as body(x, mask), as `models.Block` can be.
        choose, at_test: how to choose in training and in evaluation mode, see `patches.Gate`.

    Source: Veit & Belongie 2018, Convolutional networks with adaptive inference graphs; Meng et al. 2022, AdaViT.
    """

    def __init__(self, d_model: int, body: Callable[[Tensor], Tensor], choose: Choose, *, at_test: Choose = argmax):
        super().__init__()
        self.gate, self.body = Gate(d_model, 1, choose, at_test=at_test), body

    def forward(self, x: Tensor, *, mask: Tensor | None = None) -> tuple[Tensor, Choice]:
        """`mask` (B, T), or (B,) for x (B, D): which tokens, which examples count."""
        if x.ndim not in (2, 3) or 0 in x.shape[1:]:
            raise ValueError(f"x must be (B, D) or (B, T, D), got {tuple(x.shape)}")
        inside = blank(x, mask)
        asked = _first(inside, mask) if x.ndim == 3 else (inside, mask)
        run, choice = self.gate(*asked)  # (B, 1)
        choice = Choice(choice.logits.squeeze(-2), choice.weights.squeeze(-2), choice.log_prob.squeeze(-1))
        seen = (mask,) if x.ndim == 3 and mask is not None else ()
        y = _run(self.body, run.squeeze(-1), inside, *seen, sparse=not self.training)
        return (y if mask is None else torch.where(mask.unsqueeze(-1), y, x)), choice


class GatedHeads(nn.Module):
    """Self-attention in which each example keeps or discards each head: y = Σ_h z_h · head_h(x). Returns (y, choice).

    Decides by linear scores of the first token, one a head; choice (B, H, 2). In evaluation mode a head's queries,
    keys, values and its slice of the output layer are multiplied only for the examples that keep it. (Grouping the
    examples by their pattern of heads instead was measured: up to three times slower, as there are up to 2^H patterns.)

    Args:
        attention: owns the weights. Its output bias is always added.
        choose, at_test: how to choose in training and in evaluation mode, see `patches.Gate`.

    Source: Meng et al. 2022, AdaViT.
    """

    def __init__(self, attention: SelfAttention, choose: Choose, *, at_test: Choose = argmax):
        super().__init__()
        self.attention = attention
        self.gate = Gate(attention.output.in_features, attention.n_heads, choose, at_test=at_test)

    def forward(self, x: Tensor, kept: Tensor | None = None, *, mask: Tensor | None = None):
        """`kept` (B, T): how much each token is seen by the others, as in `models.attention`.
        `mask` (B, T): which tokens count.
        """
        check_tokens(x, mask)
        x = blank(x, mask)
        z, choice = self.gate(*_first(x, mask))  # (B, H)
        kept = mask if kept is None else kept if mask is None else kept * mask
        return blank(_heads(self.attention, x, kept, z, sparse=not self.training), mask), choice


class GatedChannels(nn.Module):
    """An MLP whose hidden units are kept or discarded in groups: y = Σ_g z_g · W2_g act(W1_g x) + b. (y, choice).

    Decides for each row of x (..., D) by linear scores of it, one a group; choice (..., G, 2). In evaluation mode a
    group's columns are multiplied only for the rows that keep it. Single units would save nothing by the clock: what
    is skipped has to be a matrix.

    Args:
        mlp: Linear, activation, Linear, with biases.
        n_groups: G, must divide the number of hidden units.
        choose, at_test: how to choose in training and in evaluation mode, see `patches.Gate`.

    Source: Bengio et al. 2015, Conditional computation in neural networks for faster models (groups of units).
    """

    def __init__(self, mlp: nn.Sequential, n_groups: int, choose: Choose, *, at_test: Choose = argmax):
        super().__init__()
        linear = [m for m in list(mlp)[::2] if isinstance(m, nn.Linear) and m.bias is not None]
        if len(mlp) != 3 or len(linear) != 2:
            wanted = "a Sequential of Linear, activation, Linear, with biases"
            raise ValueError(f"mlp must be {wanted}, got {mlp}")
        hidden = mlp[0].out_features
        allowed = f"an integer that divides the {hidden} hidden units"
        n_groups = as_integer("n_groups", n_groups, allowed, 1, hidden)
        if hidden % n_groups:
            raise ValueError(f"n_groups must be {allowed}, got {n_groups}")
        self.mlp, self.gate = mlp, Gate(mlp[0].in_features, n_groups, choose, at_test=at_test)

    def forward(self, x: Tensor, *, mask: Tensor | None = None) -> tuple[Tensor, Choice]:
        """`mask` (...): which rows count."""
        x = blank(x, mask)
        z, choice = self.gate(x, mask)  # (..., G)
        first, act, second = self.mlp
        slices = (p.chunk(z.shape[-1]) for p in (first.weight, first.bias, second.weight.T))

        def group(w_in, b_in, w_out, rows):
            return act(F.linear(rows, w_in, b_in)) @ w_out

        evaluate = mix if self.training else mix_sparse
        y = evaluate(x, z, [partial(group, *parts) for parts in zip(*slices, strict=True)])
        return blank(y + second.bias.to(y.dtype), mask), choice


class MixtureOfDepths(nn.Module):
    """A block with room for some of the tokens: y = x + r · f(x) on the top k of the sequence. Returns (y, choice).

    A router scores every token; the k = capacity · T with the largest weights r go through the block, and see only each
    other; the rest pass by. r stands on the path, so the router learns. k is known beforehand: no ragged batches.

    The top k of a sequence depend on its end, which a model that writes text does not know yet. So a second linear map,
    which sees x without a gradient, learns to predict from one token alone whether it is in; in evaluation mode it
    decides, and the layer is causal if `body` is. Train it by `predictor_loss(layer.predict(x), choice)`.

    Args:
        body: a block with its residual connection inside, for text a causal one; called as in `patches.packed`.
        capacity: share of the tokens, more than 0 and at most 1; k is rounded, and at least 1.
        choose: how r is made of the score of a token; `softmax` (r is its sigmoid), or with noise, `gumbel_softmax`. It
            must grade: ways that answer 0 or 1 leave no order from which to take the top k.
        at_test: the same in evaluation mode; `choice.quiet(choose)` if None.

    Returns: y (B, T, D), and choice (B, T, 2), whose "keep" weights are r for the chosen tokens and 0 for the others.

    Source: Raposo et al. 2024, Mixture-of-Depths. There r is the linear score itself.
    """

    def __init__(
        self,
        d_model: int,
        body: Callable[..., Tensor],
        capacity: float,
        choose: Choose = softmax,
        *,
        at_test: Choose | None = None,
    ):
        super().__init__()
        allowed = "more than 0 and at most 1"
        self.capacity = as_number("capacity", capacity, allowed, lambda c: 0 < c <= 1)
        at_test = quiet(choose) if at_test is None else at_test
        probe = at_test(keep_or_discard(torch.tensor([-0.5, 0.5]))).weights  # draws no noise
        if ((probe == 0) | (probe == 1)).all():
            raise ValueError(
                "choose must give tokens weights between 0 and 1, from which the largest are taken; this one answers"
                f" {probe[:, 0].tolist()} to scores of -0.5 and 0.5, and a hard choice leaves no order"
            )
        self.router, self.predictor = nn.Linear(d_model, 1), nn.Linear(d_model, 1)
        self.body, self.choose, self.at_test = body, choose, at_test

    def forward(self, x: Tensor, *, mask: Tensor | None = None) -> tuple[Tensor, Choice]:
        """`mask` (B, T): which tokens count; an example has room for a share of those."""
        check_tokens(x, mask)
        inside, n_tokens = blank(x, mask), x.shape[1]
        logits = keep_or_discard(score(self.router, inside).squeeze(-1))  # (B, T, 2)
        choice = (self.choose if self.training else self.at_test)(logits)
        counts = torch.ones_like(x[..., 0], dtype=torch.bool) if mask is None else mask
        r = choice.weights[..., 0].masked_fill(~counts, -1)
        if self.training:
            room = [max(1, round(self.capacity * n)) for n in range(n_tokens + 1)]
            k = torch.tensor(room, device=x.device)[counts.sum(-1, keepdim=True)]  # (B, 1)
            best = torch.arange(n_tokens, device=x.device).expand_as(r) < k
            order = r.argsort(dim=-1, descending=True, stable=True)
            chosen = torch.zeros_like(best).scatter(-1, order, best)  # (B, T)
        else:
            chosen = self.predict(inside) > 0
        chosen = chosen & (r > 0)
        r = torch.where(chosen, r, 0)
        y = packed(self.body, inside, chosen.to(r.dtype))
        y = (inside + r.unsqueeze(-1) * (y - inside)).to(x.dtype)
        y = y if mask is None else torch.where(mask.unsqueeze(-1), y, x)
        return y, choice._replace(weights=torch.stack([r, counts.to(r.dtype) - r], dim=-1))

    def predict(self, x: Tensor) -> Tensor:
        """Logits (B, T) that a token is among the chosen, each from that token alone."""
        return score(self.predictor, x.detach()).squeeze(-1)


def predictor_loss(predicted: Tensor, choice: Choice, *, mask: Tensor | None = None) -> Tensor:
    """Cross-entropy of predicting, token by token, who was chosen. `predicted` (B, T), `choice`
    (B, T, 2), `mask` (B, T): which tokens count.
    """
    if predicted.shape != choice.weights.shape[:-1] or not predicted.numel():
        wanted, got = tuple(choice.weights.shape[:-1]), tuple(predicted.shape)
        raise ValueError(f"predicted must have one logit for each of at least one token, {wanted}, got {got}")
    predicted, chosen = full(predicted), choice.weights[..., 0] > 0
    if mask is not None:
        check_mask(mask, predicted.shape)
        predicted, chosen = predicted[mask], chosen[mask]
        total = F.binary_cross_entropy_with_logits(predicted, chosen.to(predicted.dtype), reduction="sum")
        return total / max(len(predicted), 1)
    return F.binary_cross_entropy_with_logits(predicted, chosen.to(predicted.dtype))


class Decisions(NamedTuple):
    """What an adaptive transformer decided, for L blocks: 1 is use, 0 is skip, between them a soft choice."""

    kept: Tensor  # (L, B, T) tokens; the first, the class token, is always kept
    heads: Tensor  # (L, B, H)
    run: Tensor  # (L, B) blocks
    log_prob: Tensor  # (B,) summed over all decisions, for a score-function estimator


class AdaptiveTransformer(nn.Module):
    """A vision transformer that decides before each block which patches and heads it needs, and whether it runs at all.

    x + run · (block(x) - x), in which block sees the kept patches and uses the kept heads. All decisions are linear,
    patches from themselves, heads and the block from the class token; the next block decides anew. Built of
    `PatchSelector`, the gated heads and the skipped block of this module. (B, T, D) -> (y, Decisions). Train it with
    `usage_losses`, as the paper does, or with a bound on `compute_share(decisions, d_model)`, which is ours.

    Args:
        choose, at_test: how to choose in training and in evaluation mode, see `patches.Gate`.

    Source: Meng et al. 2022, AdaViT. Here a block runs or not as one; the code released with the paper decides on
    attention and MLP apart.
    """

    def __init__(self, d_model: int, n_heads: int, n_layers: int, choose: Choose, *, at_test: Choose = argmax):
        super().__init__()
        layers = range(as_integer("n_layers", n_layers, "an integer of at least 1", 1))
        self.blocks = nn.ModuleList(Block(d_model, n_heads) for _ in layers)
        self.patches = nn.ModuleList(PatchSelector(d_model, choose, at_test=at_test) for _ in layers)
        self.heads = nn.ModuleList(Gate(d_model, n_heads, choose, at_test=at_test) for _ in layers)
        self.runs = nn.ModuleList(Gate(d_model, 1, choose, at_test=at_test) for _ in layers)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x: Tensor, *, mask: Tensor | None = None) -> tuple[Tensor, Decisions]:
        """`mask` (B, T): which tokens count."""
        check_tokens(x, mask)
        x, decided = blank(x, mask), []
        some = None if mask is None else mask[:, 0]
        for block, patches, heads, runs in zip(self.blocks, self.patches, self.heads, self.runs, strict=True):
            kept, by_patch = patches(x, mask=mask)
            z, by_head = heads(x[:, 0], some)
            run, by_block = runs(x[:, 0], some)
            log_prob = sum(choice.log_prob.sum(-1) for choice in (by_patch, by_head, by_block))
            decided.append(Decisions(kept, z, run.squeeze(-1), log_prob))
            evaluate = masked if self.training else packed
            body = partial(evaluate, partial(_adaptive_block, block, sparse=not self.training))
            x = _run(body, run.squeeze(-1), x, kept, z, sparse=not self.training)
        *used, log_probs = (torch.stack(parts) for parts in zip(*decided, strict=True))
        return self.norm(x), Decisions(*used, log_probs.sum(0))


def usage_losses(
    decisions: Decisions, patches: float, heads: float, blocks: float, *, mask: Tensor | None = None
) -> Tensor:
    """(mean of the decisions - target)² for patches, heads and blocks (3,): add them to the loss of the task.

    Means over blocks and examples of what was decided, so with hard decisions of hard ones: straight-through gives them
    a gradient. The class token, which is always kept, is left out. `mask` (B, T): which tokens count.

    Args:
        patches, heads, blocks: the targets, each more than 0 and at most 1.

    Source: Meng et al. 2022, AdaViT, usage loss. The code released with the paper differs: absolute differences for
    heads and blocks, and heads counted in blocks that run only.
    """
    kept, z, run, _ = decisions
    inside = None if mask is None else mask[:, 1:].expand(kept[..., 1:].shape)
    some = None if mask is None else mask[:, 0].expand(run.shape)
    by_patch = usage_loss(kept[..., 1:], patches, mask=inside)
    return torch.stack([by_patch, usage_loss(z, heads, mask=some), usage_loss(run, blocks, mask=some)])


def compute_share(decisions: Decisions, d_model: int, *, mask: Tensor | None = None) -> Tensor:
    """The share (B,) of the blocks' matrix products that each example uses: 1 if everything is kept.

    A block costs 16·n·D² for the MLP and (8·n·D² + 4·n²·D) for attention, the latter times the share of heads, for n
    kept tokens. Differentiable, and for hard decisions exactly what is counted, without the gates.
    `mask` (B, T): which tokens count.
    """
    kept, heads, run, _ = decisions
    d, n_tokens = as_integer("d_model", d_model, "an integer of at least 1", 1), kept.shape[-1]
    if mask is not None:
        check_mask(mask, kept.shape[1:])
        n_tokens = mask.sum(-1).clamp(min=1)
    n = kept.sum(-1)  # (L, B)
    used = run * (16 * n * d**2 + heads.mean(-1) * (8 * n * d**2 + 4 * n**2 * d))
    return used.mean(0) / (24 * n_tokens * d**2 + 4 * n_tokens**2 * d)


def _run(body: Callable[..., Tensor], z: Tensor, x: Tensor, *per_example: Tensor, sparse: bool) -> Tensor:
    """x + z · (body(x, ...) - x) for weights z (B,); sparsely, on the examples of z ≠ 0 only."""
    z = z.reshape(-1, *[1] * (x.ndim - 1))
    if not sparse:
        return (x + z * (call(body, x, *per_example) - x)).to(x.dtype)
    rows = z.flatten().nonzero().squeeze(-1)
    y = inside = x[rows]
    if len(rows):  # none: nothing to add
        y = call(body, inside, *(t[rows] for t in per_example))
    return x.index_add(0, rows, (z[rows] * (y - inside)).to(x.dtype))


def _first(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The first token of each example that counts (B, D), and whether there is one (B,)."""
    if mask is None:
        return x[:, 0], None
    return x[torch.arange(len(x), device=x.device), mask.int().argmax(-1)], mask.any(-1)


def _heads(layer: SelfAttention, x: Tensor, kept: Tensor | None, z: Tensor, *, sparse: bool) -> Tensor:
    """Self-attention with the heads weighted by z (B, H); sparsely, each head on the examples of z ≠ 0 only."""
    if not sparse:
        y = layer.heads(x, kept)  # (B, H, T, D/H)
        y = (y * z[:, :, None, None]).to(y.dtype)
        return layer.output(y.transpose(-3, -2).flatten(-2))
    w_in = layer.query_key_value.weight.unflatten(0, (3, layer.n_heads, -1)).unbind(1)  # H times (3, D/H, D)
    b_in = layer.query_key_value.bias.unflatten(0, (3, layer.n_heads, -1)).unbind(1)
    w_out = layer.output.weight.T.unflatten(0, (layer.n_heads, -1)).unbind(0)  # H times (D/H, D)
    y = full(layer.output.bias).expand_as(x)
    for h in range(layer.n_heads):
        rows = z[:, h].nonzero().squeeze(-1)
        if len(rows):
            qkv = F.linear(x[rows], w_in[h].flatten(0, 1), b_in[h].flatten()).unflatten(-1, (3, 1, -1))
            seen = None if kept is None else kept[rows]
            part = attention(*qkv.movedim(-3, 0).transpose(-3, -2), seen, causal=layer.causal).squeeze(-3)
            y = y.index_add(0, rows, (z[rows, h, None, None] * (part @ w_out[h])).to(y.dtype))
    return y.to(layer.output(x[:0]).dtype)  # that of a plain layer here, under autocast too


def _adaptive_block(block: Block, x: Tensor, kept: Tensor | None, z: Tensor, *, sparse: bool) -> Tensor:
    """A `models.Block` with weighted heads."""
    x = x + _heads(block.attention, block.norm_1(x), kept, z, sparse=sparse)
    return x + block.mlp(block.norm_2(x))
