"""How the gradient of an expectation E_z[cost(z)] over a discrete choice z is estimated.

Shapes: K options, `...` any leading dimensions; a cost has one value per example.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lecture_lib.choice import QUIET, Choice, argmax, by_temperature, sample
from lecture_lib.simplex import as_integer, as_number, check_logits, full, one_hot


def surrogate(cost: Tensor, log_prob: Tensor, baseline: float | Tensor = 0.0) -> Tensor:
    """One loss rule for every way of choosing: has the value of `cost`, and the gradient

        ∇ cost  +  (cost - baseline) · ∇ log_prob

    the pathwise term, and the score-function term (REINFORCE). Where nothing was sampled by score function,
    `log_prob` is 0 and the second term vanishes. Unbiased for `sample` if the baseline does not depend on the
    example's own sample.

    Args:
        cost: (...) one value per example, of any dtype. Sum over tokens and layers first.
        log_prob: (...) `Choice.log_prob`, summed over the same.
        baseline: a number or a tensor that broadcasts to `cost`; no gradient flows into it.

    Returns: (...) the dtype of both promoted, float32 at least.

    Source: Schulman et al. 2015, Gradient estimation using stochastic computation graphs.
    """
    if cost.shape != log_prob.shape:
        raise ValueError(
            f"log_prob must have the shape of cost, one value per example: got {tuple(log_prob.shape)}"
            f" for a cost of {tuple(cost.shape)}"
        )
    cost = full(cost.to(torch.promote_types(cost.dtype, log_prob.dtype)))
    baseline = baseline.to(cost) if isinstance(baseline, Tensor) else cost.new_full((), baseline)  # without a wait
    try:
        baseline = baseline.detach().expand_as(cost)
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

    Returns: (...) the expected cost, in float32 at least.
    """
    check_logits(logits)
    options = torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device)  # (K, K), one option a row
    costs = [cost_fn(z.expand_as(logits)) for z in options]
    for cost in costs:
        if not isinstance(cost, Tensor) or cost.shape != logits.shape[:-1]:
            got = tuple(cost.shape) if isinstance(cost, Tensor) else type(cost).__name__
            wanted = f"one cost per row of logits, shape {tuple(logits.shape[:-1])}"
            raise ValueError(f"cost_fn must return {wanted}, got {got}")
    costs = torch.stack(costs, dim=-1).masked_fill(logits == -torch.inf, 0)
    return (full(logits).softmax(-1) * costs).sum(-1)


def leave_one_out(costs: Tensor) -> Tensor:
    """A baseline for each of S samples: the mean cost of the S - 1 others. Unbiased, as it never sees its own sample.

    Args:
        costs: (S, ...) the costs of S >= 2 independent samples of the same choices.

    Returns: (S, ...) baselines for `surrogate`. The mean over S is then 1/(S-1) Σ (f_s - mean f) ∇log p_s.

    Source: Mnih & Rezende 2016 (VIMCO); Kool et al. 2019, Buy 4 REINFORCE samples, get a baseline for free!
    """
    if costs.ndim == 0 or len(costs) < 2:
        raise ValueError(f"costs must hold at least 2 samples, shape (S, ...), got {tuple(costs.shape)}")
    costs = full(costs.detach())
    return (costs.sum(0) - costs) / (len(costs) - 1)


class MovingAverage:
    """A baseline that remembers: calling it with the present costs returns the average of those *before*.

    Reading comes before updating, in one call, as a baseline that has seen its own cost would bias the gradient. The
    first call has nothing to read, and returns the mean of the present costs: for N of them, from independent draws,
    this one estimate is (1 - 1/N) of the gradient on average. A first baseline of 0 would be unbiased, and make it so
    long that an optimiser such as Adam, which divides by the size of past gradients, is slow for hundreds of steps.
    """

    def __init__(self, decay: float = 0.9):
        """`decay`, 0 to less than 1: the share of the old value that an update keeps."""
        self.decay = as_number("decay", decay, "from 0 to less than 1", lambda d: 0 <= d < 1)
        self.value = None

    def __call__(self, costs: Tensor) -> float:
        """The baseline for `costs` (any shape): their own mean the first time."""
        now = full(costs.detach()).mean().item()
        if not math.isfinite(now):
            raise ValueError(f"costs must be finite, got a mean of {now}")
        before = now if self.value is None else self.value
        self.value = self.decay * before + (1 - self.decay) * now
        return before


def gumbel_rao(
    logits: Tensor, temperature: float = 1.0, n_samples: int = 10, *, generator: torch.Generator | None = None
) -> Choice:
    """Straight-through Gumbel-Softmax with less noise: its gradient, averaged over noise that gives the same choice.

    Draws a one-hot D as straight-through does; given D, draws `n_samples` Gumbel vectors whose argmax is D, and
    averages their softmax Jacobians (Rao-Blackwell). Same mean as `straight_through(gumbel_softmax(...))`, hence as
    biased; less variance, the more so the lower the temperature.

    Args: as for `gumbel_softmax`; `n_samples` >= 1 is the number K of conditional draws.

    Source: Paulus, Maddison & Krause 2021, Rao-Blackwellizing the straight-through Gumbel-Softmax gradient estimator.
    """
    n_samples = as_integer("n_samples", n_samples, "an integer >= 1", 1)
    drawn = sample(logits, generator=generator)
    hard, scores = drawn.weights, full(logits)  # D (..., K)
    e = scores.detach().new_empty((n_samples, *logits.shape))
    e.exponential_(generator=generator)  # (n, ..., K)
    s = (scores - scores.amax(-1, keepdim=True)).detach()  # the noise does not depend on a shift
    log_z = s.logsumexp(-1, keepdim=True)
    log_e = e.log()
    log_e_chosen = (e * hard).sum(-1, keepdim=True).log()  # (n, ..., 1) log E_D
    winner = log_z - log_e_chosen
    others = -torch.logaddexp(log_e - s, log_e_chosen - log_z)  # -log(E_k / exp s_k + E_D / Z)
    noisy = torch.where(hard.bool(), winner, others)  # (n, ..., K) logits + noise, given that D wins
    noise = torch.where(s > -torch.inf, noisy - s, 0)  # a constant: no gradient through the condition
    soft = by_temperature(scores + noise, temperature).softmax(-1).mean(0).to(logits.dtype)
    return Choice(logits, hard + (soft - soft.detach()), torch.zeros_like(drawn.log_prob))


QUIET[gumbel_rao] = argmax


def rebar(
    cost_fn: Callable[[Tensor], Tensor],
    logits: Tensor,
    temperature: float = 1.0,
    *,
    strength: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A loss with the value cost_fn(D) of a sampled one-hot D, and an unbiased gradient with less noise (REBAR).

    D = argmax(z) for the noisy scores z = logits + G, of which relaxed(z) = softmax(z / temperature) is Gumbel-Softmax.
    The cost of relaxed(z) is a baseline that knows D. What it changes on average is added again, pathwise:

        (cost(D) - strength · cost(relaxed(z))) ∇log p(D)  +  strength · (∇cost(relaxed(z)) - ∇cost(relaxed(z')))

    Here z' has the value of z, but is a function of the logits and of noise that is drawn *given* D. For noisy scores
    z_k = -log T_k, T_k exponential and T_D the least: T_D does not know which D it is, and T_k - T_D are exponential
    again. With both held fixed, z_D = log Σ exp(logits) + a constant; the two Jacobians differ by

        ∂(z - z')_k / ∂logits_j = exp(z_k - z_D) · ([k = j] - softmax(logits)_j)

    Unbiased at every temperature and strength: these two say how much noise is left. With strength 0 it is REINFORCE.
    One estimate takes two evaluations of the cost and one of its gradient. Requires: a cost that is differentiable, and
    defined between the options.

    Args:
        cost_fn: weights (..., K) -> cost (...), or fewer dimensions: one cost for all choices behind them. A baseline
            is subtracted in here; parameters of its own get the gradient of cost(D) alone.
        logits: (..., K).
        strength: any finite number.

    Returns: one loss for each cost, in float32 at least.

    Source: Tucker et al. 2017, REBAR: low-variance, unbiased gradient estimates for discrete latent variable models,
    with the noise of z and z' tied, as in the authors' code.
    """
    check_logits(logits, generator)
    strength = as_number("strength", strength, "a finite number", math.isfinite)
    scores = full(logits)
    z = scores.detach() - torch.empty_like(scores.detach()).exponential_(generator=generator).log()
    index = z.argmax(-1, keepdim=True)
    log_pi = scores.log_softmax(-1)
    share = (z - z.gather(-1, index)).exp()
    way = torch.where(share > 0, share * log_pi, 0)  # its Jacobian is that of z - z'
    relaxed = by_temperature(z + (way - way.detach()), temperature).softmax(-1).to(logits.dtype)
    cost = cost_fn(one_hot(index.squeeze(-1), logits))
    if cost.shape != logits.shape[: cost.ndim] or cost.ndim == logits.ndim:
        raise ValueError(f"cost_fn must return a cost of {tuple(logits.shape[:-1])}, or less, got {tuple(cost.shape)}")
    with torch.enable_grad():
        leaf = relaxed.detach().requires_grad_()
        control = cost_fn(leaf)
        if not control.requires_grad:
            raise ValueError("cost_fn must be differentiable in its weights, got a cost without a gradient")
        (slope,) = torch.autograd.grad(control.sum(), leaf)
    pathwise = (slope * (relaxed - relaxed.detach())).flatten(cost.ndim).sum(-1)  # 0, with a gradient
    log_prob = log_pi.gather(-1, index).flatten(cost.ndim).sum(-1)
    return surrogate(cost, log_prob, strength * control) + strength * pathwise


class GradientStatistics(NamedTuple):
    """How an estimator's gradient relates to the exact one; every entry is a tensor (K,)."""

    exact: Tensor  # the gradient of the expected cost, by enumeration
    mean: Tensor  # of the estimates
    variance: Tensor  # of one estimate
    standard_error: Tensor  # of `mean`: the precision of this measurement

    @property
    def bias(self) -> Tensor:
        return self.mean - self.exact


def gradient_statistics(
    choose: Callable[[Tensor], Choice],
    cost_fn: Callable[[Tensor], Tensor],
    logits: Tensor,
    *,
    n_estimates: int = 100_000,
    samples: int = 1,
    baseline: float | Callable[[Tensor], Tensor | float] = 0.0,
) -> GradientStatistics:
    """Measure bias and variance of an estimator of the gradient of E_z[cost_fn(z)], against the exact gradient.

    Args:
        choose: a way of choosing, which draws its own noise for every row.
        cost_fn: weights (..., K) -> cost (...).
        logits: (K,).
        n_estimates: how many independent estimates to make, at least 2.
        samples: each estimate is the mean over so many draws.
        baseline: a number, or a function of the costs (samples, n_estimates) such as `leave_one_out`.
    """
    check_logits(logits)
    if logits.ndim != 1:
        raise ValueError(f"logits must have shape (K,), got {tuple(logits.shape)}")
    n_estimates = as_integer("n_estimates", n_estimates, "at least 2", 2)
    samples = as_integer("samples", samples, "at least 1", 1)
    leaf = logits.detach().requires_grad_()
    (exact,) = torch.autograd.grad(exact_expectation(cost_fn, leaf), leaf)
    rows = logits.detach().expand(samples, n_estimates, -1).clone().requires_grad_()
    choice = choose(rows)
    costs = cost_fn(choice.weights)
    loss = surrogate(costs, choice.log_prob, baseline(costs.detach()) if callable(baseline) else baseline)
    estimates = full(torch.autograd.grad(loss.sum(), rows)[0]).mean(0)  # (n_estimates, K)
    variance = estimates.var(0)
    return GradientStatistics(exact, estimates.mean(0), variance, (variance / n_estimates).sqrt())
