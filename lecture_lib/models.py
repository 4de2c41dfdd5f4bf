"""The few small networks that the notebooks share.

Shapes: B batch, T tokens, D width (d_model), H heads.
"""

import contextlib
import operator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MLP(nn.Sequential):
    """`depth` linear layers with ReLU between them: (..., d_in) -> (..., d_out)."""

    def __init__(self, d_in: int, d_hidden: int, d_out: int, depth: int = 2):
        d_in, d_hidden = _at_least_one("d_in", d_in), _at_least_one("d_hidden", d_hidden)
        d_out, depth = _at_least_one("d_out", d_out), _at_least_one("depth", depth)
        widths = [d_in, *[d_hidden] * (depth - 1), d_out]
        layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
        super().__init__(layers[0], *[module for layer in layers[1:] for module in (nn.ReLU(), layer)])


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017): (B, T, D) -> (B, T, D)."""

    def __init__(self, d_model: int, n_heads: int, *, causal: bool = False):
        super().__init__()
        d_model, n_heads = _at_least_one("d_model", d_model), _at_least_one("n_heads", n_heads)
        if d_model % n_heads:
            raise ValueError(f"n_heads must divide d_model = {d_model}, got {n_heads}")
        self.n_heads, self.causal = n_heads, causal
        self.query_key_value = nn.Linear(d_model, 3 * d_model)
        self.output = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """`kept` (B, T), if given: how much each token is seen by the others, 0 not at all; see `attention`."""
        return self.output(self.heads(x, kept).transpose(-3, -2).flatten(-2))

    def heads(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """What each head says, before the output layer joins them: (B, H, T, D/H)."""
        heads = self.query_key_value(x).unflatten(-1, (3, self.n_heads, -1))  # (B, T, 3, H, D/H)
        return attention(*heads.movedim(-3, 0).transpose(-3, -2), kept, causal=self.causal)


def attention(q: Tensor, k: Tensor, v: Tensor, kept: Tensor | None = None, *, causal: bool = False) -> Tensor:
    """Softmax attention in which token i sees token j as far as j is kept: exp(A)·G / Σ_j exp(A)·G, then times v.

    G_ij = kept_j and G_ii = 1, so a token always sees itself, and one whose kept is 0 is as good as gone, while a
    gradient still reaches its kept. Without `kept`, or with ones, it is plain attention.

    Args:
        q, k, v: (B, H, T, D/H).
        kept: (B, T), not negative; not checked. Booleans, as for padding: torch's faster attention.

    Source: Rao et al. 2021, DynamicViT: attention masking.
    """
    if kept is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    if kept.shape != (q.shape[0], q.shape[-2]):
        raise ValueError(f"kept must have one value per token, {(q.shape[0], q.shape[-2])}, got {tuple(kept.shape)}")
    itself = torch.eye(q.shape[-2], dtype=torch.bool, device=q.device)
    if kept.dtype == torch.bool:
        seen = kept[:, None, None, :] | itself
        return F.scaled_dot_product_attention(q, k, v, seen.tril() if causal else seen)
    a = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5  # (B, H, T, T)
    a = a.to(torch.promote_types(a.dtype, torch.float32))
    g = torch.where(itself, 1, kept[:, None, None, :].to(a.dtype))  # (B, 1, T, T)
    g = g.tril() if causal else g
    top = a.detach().masked_fill(g == 0, -torch.inf).amax(-1, keepdim=True)  # of what is seen
    e = (a - top).clamp(max=20).exp() * g  # above 0 is only what is not seen: nothing overflows
    return (e / e.sum(-1, keepdim=True)).to(v.dtype) @ v


class Block(nn.Module):
    """Transformer block, normalisation first: x + attention(x), then + MLP(x)."""

    def __init__(self, d_model: int, n_heads: int, *, causal: bool = False):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attention = SelfAttention(d_model, n_heads, causal=causal)
        self.mlp = nn.Sequential(nn.Linear(d_model, 4 * d_model), nn.GELU(), nn.Linear(4 * d_model, d_model))

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.norm_1(x), kept)
        return x + self.mlp(self.norm_2(x))


class Transformer(nn.Module):
    """A stack of blocks and a last normalisation: (B, T, D) -> (B, T, D). Embedding and head are the caller's."""

    def __init__(self, d_model: int, n_heads: int, n_layers: int, *, causal: bool = False):
        super().__init__()
        n_layers = _at_least_one("n_layers", n_layers)
        self.blocks = nn.ModuleList(Block(d_model, n_heads, causal=causal) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x, kept)
        return self.norm(x)


def _at_least_one(name: str, value: int) -> int:
    if not isinstance(value, bool) and getattr(value, "dtype", None) != torch.bool:
        with contextlib.suppress(TypeError):
            if operator.index(value) >= 1:
                return operator.index(value)
    raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
