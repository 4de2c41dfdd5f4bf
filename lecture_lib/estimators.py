"""How the gradient of an expectation E_z[cost(z)] over a discrete choice z is estimated.

Shapes: K options, `...` any leading dimensions; a cost has one value per example.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lecture_lib.choice import check_logits


def surrogate(cost: Tensor, log_prob: Tensor, baseline: float | Tensor = 0.0) -> Tensor:
    """One loss rule for every way of choosing: has the value of `cost`, and the gradient

        ∇ cost  +  (cost - baseline) · ∇ log_prob

    the pathwise term, and the score-function term (REINFORCE). Where nothing was sampled by score function,
    `log_prob` is 0 and the second term vanishes. Unbiased for `sample` if the baseline does not depend on the
    example's own sample.

    Args:
        cost: (...) one value per example. Sum over tokens and layers first.
        log_prob: (...) `Choice.log_prob`, summed over the same.
        baseline: a number or a tensor that broadcasts to `cost`; no gradient flows into it.

    Source: Schulman et al. 2015, Gradient estimation using stochastic computation graphs.
    """
    if cost.shape != log_prob.shape:
        raise ValueError(
            f"log_prob must have the shape of cost, one value per example: got {tuple(log_prob.shape)}"
            f" for a cost of {tuple(cost.shape)}"
        )
    baseline = torch.as_tensor(baseline, dtype=cost.dtype, device=cost.device).detach()
    try:
        baseline = baseline.expand_as(cost)
    except RuntimeError:
        message = f"baseline must broadcast to the shape of cost, {tuple(cost.shape)}, got {tuple(baseline.shape)}"
        raise ValueError(message) from None
    return cost + (cost.detach() - baseline) * (log_prob - log_prob.detach())


def exact_expectation(cost_fn: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    """E_z[cost_fn(z)] for a one-hot z ~ Categorical(softmax(logits)), by enumerating the K options: the oracle.

    Costs K evaluations, and is differentiable: its gradient is what every estimator is after.

    Args:
        cost_fn: one-hot weights (..., K) -> cost (...).
        logits: (..., K). The cost of a forbidden option (-inf) does not count, whatever it is.

    Returns: (...) the expected cost.
    """
    check_logits(logits)
    options = torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device)  # (K, K), one option a row
    costs = torch.stack([cost_fn(z.expand_as(logits)) for z in options], dim=-1)
    if costs.shape != logits.shape:
        wanted, got = tuple(logits.shape[:-1]), tuple(costs.shape[:-1])
        raise ValueError(f"cost_fn must return one cost per row of logits, shape {wanted}, got {got}")
    allowed = logits > -torch.inf
    return (logits.softmax(-1) * costs.masked_fill(~allowed, 0)).sum(-1)
