"""Layers of other libraries as ours."""

import copy
from functools import partial

import torch
from torch import nn

from lecture_lib.choice import top_k
from lecture_lib.moe.choices import switch
from lecture_lib.moe.layer import MoE

WEIGHTS = "gate.weight", "experts.gate_up_proj", "experts.down_proj"
OPTIONS = {"training", "top_k", "num_experts", "hidden_dim", "norm_topk_prob"}  # of the gate


def from_transformers(block: nn.Module) -> MoE:
    """A copy of an expert layer of transformers 5: Mixtral's, OLMoE's, Qwen3-MoE's, or one like it.

    There, `block.gate` weights the `top_k` best by their share of the softmax over these or, with
    `norm_topk_prob` false, over all. Mode, dtypes and what is frozen stay. Scores are float32 here,
    and Mixtral's jitter of training is left out.
    """
    weights = block.state_dict(keep_vars=True) if isinstance(block, nn.Module) else {}
    options = vars(block.gate) if {*weights} == {*WEIGHTS} else {}
    layout = f"{', '.join(WEIGHTS)} of shape (E, D), (E, 2H, D), (E, D, H), gate.top_k and no more"
    error = ValueError(f"block must have {layout}, got {type(block).__name__}")
    if "top_k" not in options or not {name for name in options if name[0] != "_"} <= OPTIONS:
        raise error  # what knows more computes something else
    router, up, down = (weights[name] for name in WEIGHTS)
    choose = partial(top_k if options.get("norm_topk_prob", True) else switch, k=options["top_k"])
    style = {"gated": True, "activation": copy.deepcopy(block.experts.act_fn)}
    with torch.device("meta"):  # nothing is drawn, no memory is taken twice
        moe = MoE(router.shape[1], down.shape[-1], len(router), choose, **style)
    places = (moe.router, "weight"), (moe.experts, "w_in"), (moe.experts, "w_out")
    for (part, name), weight in zip(places, (router, up.mT, down.mT), strict=True):
        if weight.shape != getattr(part, name).shape:
            raise error
        own = weight.detach().clone(memory_format=torch.contiguous_format)
        setattr(part, name, nn.Parameter(own, weight.requires_grad))
    return moe.train(block.training)
