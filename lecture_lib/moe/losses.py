"""Losses: how unequal, how uncertain. Scalars, to be added to the task's with a small weight."""

import torch
from torch import Tensor

from lecture_lib.choice import Choice
from lecture_lib.moe.measures import Mask, expert_load, flat, mean
from lecture_lib.simplex import as_integer, blank, full


def load_balance_loss(choice: Choice, *, mask: Mask = None) -> Tensor:
    """E · Σ_e ℓ_e π̄_e: the load ℓ_e is the share of the pairs (no gradient), π̄_e the mean softmax probability.

    1 if π̄ is uniform, whatever ℓ is; E when collapsed. Other code counts k at uniform (Mixtral's in transformers).

    Source: Fedus et al. 2022, eq. 4 to 6.
    """
    p = flat(choice.logits, mask).softmax(-1)
    return p.shape[-1] * (expert_load(choice, mask=mask) * mean(p)).sum()


def sequence_balance_loss(choice: Choice, *, mask: Mask = None) -> Tensor:
    """`load_balance_loss` of each sequence alone, their mean: choice (..., T, E), mask (..., T).

    Sequences without a token that counts are left out. With sigmoid scores, the source's P shares
    them out: it is that of `choice._replace(logits=F.logsigmoid(choice.logits))`.

    Source: DeepSeek-AI 2024, DeepSeek-V3, eq. 17 to 20.
    """
    if choice.logits.ndim < 2:
        raise ValueError(f"choice must be (..., T, E), got shape {tuple(choice.logits.shape)}")

    def share(rows: Tensor) -> Tensor:
        return rows.sum(-2) / rows.sum((-2, -1)).clamp(min=1).unsqueeze(-1)

    p = share(blank(full(blank(choice.logits, mask)).softmax(-1), mask))  # of nothing, 0
    f = share((blank(choice.weights.detach(), mask) > 0).to(p.dtype))
    return p.shape[-1] * (f * p).sum() / p.detach().sum().clamp(min=1)


def importance_loss(choice: Choice, *, mask: Mask = None) -> Tensor:
    """CV² of the experts' importance, the sum of their weights over the tokens. Shazeer et al. 2017, eq. 6 and 7."""
    return squared_cv(flat(choice.weights, mask).sum(0))


def noisy_load(clean: Tensor, noisy: Tensor, std: Tensor, k: int, *, mask: Mask = None) -> Tensor:
    """A load that has a gradient: Σ_tokens P(expert e is among the k best if its noise is drawn again). -> (E,).

        ℓ_e = Σ_tokens Φ((clean_e - (k-th largest of noisy, e excluded)) / std_e),    Φ of the normal law

    Its loss is `squared_cv(noisy_load(...))`. clean, noisy, std (..., E); k < E.

    Source: Shazeer et al. 2017, eq. 8 to 10.
    """
    n_experts = clean.shape[-1]
    allowed = f"from 1 to less than the number of experts, {n_experts}"
    k = as_integer("k", k, allowed, 1, n_experts - 1)
    clean, noisy, std = (flat(part, mask) for part in (clean, noisy, std))
    best = noisy.topk(k + 1).values
    kth, next_one = best[..., k - 1 : k], best[..., k:]
    bar = torch.where(noisy >= kth, next_one, kth)  # who is among the best itself has to stay above the one behind
    spread = std.clamp(min=torch.finfo(std.dtype).eps ** 2)  # 0 would leave no gradient but NaN
    return torch.special.ndtr((clean - bar) / spread).sum(0)


def squared_cv(values: Tensor) -> Tensor:
    """CV² = variance / mean² (of the population): how unequal positive values (E,) are; 0 where all are zero."""
    values = full(values)
    return (values / values.mean().clamp(min=torch.finfo(values.dtype).tiny)).var(correction=0)


def router_z_loss(choice: Choice, *, mask: Mask = None) -> Tensor:
    """mean (log Σ_e exp s_e)²: keeps scores small, and so their rounding errors. Zoph et al. 2022 (ST-MoE), eq. 5."""
    z = full(blank(choice.logits, mask)).logsumexp(-1, keepdim=True)  # first: of no rows, a graph could not know it
    return mean(flat(z.square(), mask)).squeeze(-1)


def local_entropy(weights: Tensor, *, mask: Mask = None) -> Tensor:
    """mean H(p(x)), in nats: small where each token is sure of its expert. `weights` p (..., E), of all experts.

    Source: Mustafa et al. 2022, LIMoE, section 2.2: for each modality on its own.
    """
    return mean(_entr(flat(weights, mask)).sum(-1))


def global_entropy(weights: Tensor, threshold: float | None = None, *, mask: Mask = None) -> Tensor:
    """-H(mean p), in nats: small where the experts share the work; max(0, threshold - H) asks for so much and no more.

    Source: as `local_entropy`. A threshold of log(m) asks for at least m experts.
    """
    rows = flat(weights, mask)
    entropy = _entr(mean(rows)).sum()
    return -entropy if threshold is None else (threshold - entropy).clamp(min=0) * min(len(rows), 1)


def _entr(p: Tensor) -> Tensor:
    """-p log p, of gradient 0 at p = 0: it is infinite, and NaN behind an underflowing softmax."""
    return torch.where(p == 0, 0, torch.special.entr(p.clamp(min=torch.finfo(p.dtype).tiny)))
