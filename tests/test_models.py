"""The small networks: shapes, what they compute, what they refuse."""

import pytest
import torch
from torch import nn

from lecture_lib.models import MLP, SelfAttention, Transformer


def test_mlp():
    net = MLP(8, 32, 3, depth=4)
    assert [tuple(layer.weight.shape) for layer in net if isinstance(layer, nn.Linear)] == [
        (32, 8),
        (32, 32),
        (32, 32),
        (3, 32),
    ]
    assert net(torch.randn(2, 5, 8)).shape == (2, 5, 3)
    assert len(MLP(8, 32, 3, depth=1)) == 1
    with pytest.raises(ValueError, match="depth must be an integer of at least 1, got 0"):
        MLP(8, 32, 3, depth=0)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_equals_torchs(causal):
    ours, theirs = SelfAttention(8, 2, causal=causal), nn.MultiheadAttention(8, 2, batch_first=True)
    theirs.in_proj_weight, theirs.in_proj_bias = ours.query_key_value.weight, ours.query_key_value.bias
    theirs.out_proj.weight, theirs.out_proj.bias = ours.output.weight, ours.output.bias
    x = torch.randn(2, 5, 8)
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1) if causal else None
    torch.testing.assert_close(ours(x), theirs(x, x, x, attn_mask=mask, need_weights=False)[0])


def test_transformer():
    x, changed = torch.randn(2, 2, 6, 8)
    changed = torch.cat([x[:, :4], changed[:, 4:]], dim=1)  # other tokens from the fifth on
    causal, full = (Transformer(8, 2, n_layers=2, causal=c).eval() for c in (True, False))
    torch.testing.assert_close(causal(x)[:, :4], causal(changed)[:, :4])
    assert not torch.allclose(full(x)[:, :4], full(changed)[:, :4])
    with pytest.raises(ValueError, match="n_heads must divide d_model = 8, got 3"):
        Transformer(8, 3, n_layers=1)
    with pytest.raises(ValueError, match="n_layers must be an integer of at least 1, got 0"):
        Transformer(8, 2, n_layers=0)
