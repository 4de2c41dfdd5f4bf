"""Experts against the code of their sources, as the library transformers has it."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from lecture_lib.choice import top_k
from lecture_lib.moe import BalanceBias, MoE, from_transformers, within_groups

pytest.importorskip("transformers")
from transformers import DeepseekV3Config, MixtralConfig, OlmoeConfig, Qwen3MoeConfig
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2TopkRouter
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE, DeepseekV3TopkRouter
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
from transformers.models.olmoe.modeling_olmoe import OlmoeSparseMoeBlock
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

D, E = 8, 12


def drawn(kind, **options):
    """A router of theirs with drawn weights."""
    torch.manual_seed(0)
    sizes = {"hidden_size": D, "num_experts": E, "num_local_experts": E}
    router = kind(SimpleNamespace(**sizes, **options))
    torch.nn.init.normal_(router.weight)
    return router


def theirs(router, x):
    """Their logits, and weights scattered to (N, E)."""
    logits, weights, index = router(x)
    return logits, torch.zeros_like(logits).scatter(-1, index, weights.to(logits.dtype))


@pytest.mark.parametrize(("n_groups", "k_groups", "k"), [(1, 1, 4), (3, 2, 4), (4, 1, 3), (6, 4, 2)])
@pytest.mark.parametrize(("normalise", "scale"), [(True, 2.5), (True, 1.0), (False, 1.0)])
def test_routing_of_deepseek_v3(n_groups, k_groups, k, normalise, scale):
    options = {"n_group": n_groups, "topk_group": k_groups, "num_experts_per_tok": k}
    options |= {"norm_topk_prob": normalise, "routed_scaling_factor": scale}
    router = drawn(DeepseekV3TopkRouter, **options)
    limit = partial(within_groups, n_groups=n_groups, k_groups=k_groups)
    ours = BalanceBias(E, k, score=torch.sigmoid, normalise=normalise, scale=scale, limit=limit)
    ours.bias.copy_(router.e_score_correction_bias.normal_(std=0.2))
    logits, weights = theirs(router, torch.randn(500, D))
    assert torch.equal(ours(logits).weights > 0, weights > 0)
    torch.testing.assert_close(ours(logits).weights, weights, rtol=1e-6, atol=0)


@pytest.mark.parametrize("n_groups", [1, 3, 6])
def test_routing_of_deepseek_v2(n_groups):
    options = {"topk_method": "group_limited_greedy", "n_group": n_groups, "topk_group": 1, "num_experts_per_tok": 2}
    router = drawn(DeepseekV2TopkRouter, routed_scaling_factor=16.0, **options)
    logits, weights = theirs(router, torch.randn(500, D))
    limit = partial(within_groups, n_groups=n_groups, k_groups=1, best=1)
    torch.testing.assert_close(BalanceBias(E, 2, scale=16, limit=limit)(logits).weights, weights, rtol=1e-6, atol=0)
    assert torch.equal(top_k(limit(logits), 2).weights > 0, weights > 0)  # the same experts by the logits themselves


def mixtral(**options):
    return MixtralSparseMoeBlock(MixtralConfig(num_local_experts=E, num_experts_per_tok=2, **options))


def olmoe(normalise):
    return lambda **options: OlmoeSparseMoeBlock(
        OlmoeConfig(num_experts=E, num_experts_per_tok=3, norm_topk_prob=normalise, **options)
    )


def qwen(**options):
    options["moe_intermediate_size"] = options.pop("intermediate_size")
    return Qwen3MoeSparseMoeBlock(Qwen3MoeConfig(num_experts=E, num_experts_per_tok=4, norm_topk_prob=True, **options))


BLOCKS = {"Mixtral": mixtral, "OLMoE": olmoe(False), "OLMoE, normalised": olmoe(True), "Qwen3-MoE": qwen}


@pytest.fixture(params=BLOCKS)
def block(request):
    torch.manual_seed(0)
    block = BLOCKS[request.param](hidden_size=D, intermediate_size=6)
    for weight in block.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return block


PARTS = {"gate.weight": "router.weight", "experts.gate_up_proj": "experts.w_in", "experts.down_proj": "experts.w_out"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_block_of_transformers_computes_the_same_here(block, dtype):
    """Value and gradient, of the input and of every weight."""
    block, x = block.to(dtype), torch.randn(3, 50, D, dtype=dtype, requires_grad=True)
    moe, found = from_transformers(block), []
    for layer, names, run in ((moe, PARTS.values(), lambda x: moe(x)[0]), (block, PARTS, block)):
        y = run(x)
        gradients = torch.autograd.grad(y.square().mean(), [x, *map(layer.get_parameter, names)])
        found.append([y, *gradients[:2], *(gradients[2:] if layer is moe else (g.mT for g in gradients[2:]))])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)  # theirs have weights in float32 at most


def test_a_block_in_half_precision(block):
    """Their scores are rounded, so that a few tokens find another expert best."""
    block, x = block.bfloat16(), torch.randn(3, 50, D).bfloat16()
    y, choice = from_transformers(block)(x)
    same = ((choice.weights > 0) == (theirs(block.gate, x)[1] > 0).reshape(3, 50, E)).all(-1)
    assert y.dtype == torch.bfloat16 and same.float().mean() > 0.9
    torch.testing.assert_close(y[same], block(x)[same], rtol=0.05, atol=0.05)


def test_a_block_is_copied_with_its_mode_and_what_is_frozen(block):
    block.experts.gate_up_proj.requires_grad_(False)
    state, before = torch.get_rng_state(), block.experts.gate_up_proj.clone()
    moe = from_transformers(block.eval())
    assert torch.equal(torch.get_rng_state(), state) and not moe.training and from_transformers(block.train()).training
    assert [n for n, w in moe.named_parameters() if not w.requires_grad] == ["experts.w_in"]
    with torch.no_grad():
        for weight in moe.parameters():
            weight.add_(1)
    assert torch.equal(block.experts.gate_up_proj, before)
    assert isinstance(moe, MoE) and all(weight.is_contiguous() for weight in moe.parameters())


def test_other_blocks_are_refused(block):
    config = DeepseekV3Config(hidden_size=D, moe_intermediate_size=6, n_routed_experts=E)
    for other in (DeepseekV3MoE(config), block.experts, torch.nn.Linear(2, 2), None):
        with pytest.raises(ValueError, match=r"block must have .* \(E, D\), \(E, 2H, D\), .* no more, got [DMOQLN]"):
            from_transformers(other)
    block.gate.routed_scaling_factor = 2.0  # as some have it, whose scores are sigmoids
    with pytest.raises(ValueError, match="block must have"):
        from_transformers(block)
    del block.gate.routed_scaling_factor
    block.experts.gate_up_proj = torch.nn.Parameter(torch.zeros(E, 6, D))
    with pytest.raises(ValueError, match="block must have"):
        from_transformers(block)
