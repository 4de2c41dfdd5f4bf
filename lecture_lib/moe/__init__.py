"""Mixtures of experts: y = Σ_e z_e · f_e(x), with many experts f_e of which each token runs a few.

A router scores the experts, `choose` makes a choice of the scores, `MoE` runs what was chosen. Nothing makes a router
use all of its experts: the losses and biases below do, all of them pure functions of choices.

    choose              the choice z of a token                                            source
    choice.softmax      every expert, z = softmax(s): nothing is saved                     Jacobs et al. 1991
    choice.top_k        the k best, their softmax: with k = 1 no gradient for the router   Shazeer et al. 2017
    switch              the k best, their share of the softmax over all                    Fedus et al. 2022
    gshard              the two best, the second only sometimes                            Lepikhin et al. 2021
    balanced            the best under equal load, by Sinkhorn                             Clark et al. 2022
    base                the best under equal load, exactly                                 Lewis et al. 2021
    expert_choice       each expert takes its best tokens                                  Zhou et al. 2022
    BalanceBias         the k best after a bonus for idle experts                          Wang et al. 2024
    equal_load          the next k in turn, whatever the scores, for benchmarks            TorchTitan
    hashed              by the token's identity alone, nothing is learnt                   Roller et al. 2021

`within_groups` keeps any of them to few groups of experts (DeepSeek-AI 2024). `upcycle` makes a
layer of a dense network, `from_transformers` of another library's experts.

Scores, losses and counters are float32 at least, whatever the network is. Where batches are padded,
a `mask` (...) says which tokens count: the others get weight 0, and change nothing for anyone.

Shapes: N tokens (all leading dimensions, flattened), E experts, D width of a token (d_model), H of an expert's hidden
layer. A *pair* is a token and an expert that it gave a weight; n of them.
"""

from lecture_lib.moe.choices import (
    BalanceBias,
    balanced,
    base,
    equal_load,
    expert_choice,
    gshard,
    hashed,
    sinkhorn,
    switch,
    within_capacity,
    within_groups,
)
from lecture_lib.moe.foreign import from_transformers
from lecture_lib.moe.layer import Experts, MoE, SoftMoE, upcycle
from lecture_lib.moe.losses import (
    global_entropy,
    importance_loss,
    load_balance_loss,
    local_entropy,
    noisy_load,
    router_z_loss,
    sequence_balance_loss,
    squared_cv,
)
from lecture_lib.moe.measures import Collapse, collapse, expert_load, representation_collapse
from lecture_lib.moe.routers import CosineRouter, NoisyRouter

__all__ = [
    "BalanceBias",
    "Collapse",
    "CosineRouter",
    "Experts",
    "MoE",
    "NoisyRouter",
    "SoftMoE",
    "balanced",
    "base",
    "collapse",
    "equal_load",
    "expert_choice",
    "expert_load",
    "from_transformers",
    "global_entropy",
    "gshard",
    "hashed",
    "importance_loss",
    "load_balance_loss",
    "local_entropy",
    "noisy_load",
    "representation_collapse",
    "router_z_loss",
    "sequence_balance_loss",
    "sinkhorn",
    "squared_cv",
    "switch",
    "upcycle",
    "within_capacity",
    "within_groups",
]
