"""The ways to choose: scores of k options in, a point of the simplex out.

Every way is a function `logits (..., K) -> Choice`. A layer takes one as its argument `choose`; bind options with
`functools.partial(gumbel_softmax, temperature=0.5)` or compose, `lambda s: straight_through(gumbel_softmax(s))`.

A logit of `-inf` forbids its option: it gets weight 0, in every way of choosing.

Shapes: K options, `...` any leading dimensions (batch, tokens, layers).
"""

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lecture_lib import simplex
from lecture_lib.simplex import as_integer, as_number, check_logits, first, full, looks, no_repair, one_hot


class Choice(NamedTuple):
    """What was chosen, and what an estimator needs to know about how."""

    logits: Tensor  # (..., K) the scores that the choice was made from
    weights: Tensor  # (..., K) z: non-negative, sums to 1, carries the pathwise gradient where there is one
    log_prob: Tensor  # (...) log-probability of what was sampled for a score-function estimator; else 0
    # float32 for logits in half precision: it is there to be summed


def softmax(logits: Tensor) -> Choice:
    """Soft attention: z = softmax(logits). Every option has a weight, so every f_k has to run.

    Approximates: the expectation of a one-hot choice, by moving it inside f.
    Gradient: exact for what it computes, no sampling. Requires: f_k that accept being mixed.
    """
    check_logits(logits)
    return Choice(logits, logits.softmax(-1).to(logits.dtype), zeros(logits))


def entmax(logits: Tensor, alpha: float = 1.5) -> Choice:
    """Sparse attention: z = entmax_α(logits), see `simplex.entmax`. α = 1 is `softmax`, α = 2 sparsemax.

    Approximates: the expectation of a one-hot choice, by a mixture of a few options; those of weight 0 need not run.
    Gradient: exact for what it computes, no sampling; 0 for options without weight. Requires: f_k that accept being
    mixed, and scores close enough that the right option still has a weight.
    """
    return Choice(logits, simplex.entmax(logits, alpha), zeros(logits))


def argmax(logits: Tensor) -> Choice:
    """The talk's hard choice: z = one_hot(argmax(logits)), ties to the first.

    Its gradient is zero almost everywhere, so none is attached: for choosing at test time, or to see training fail.
    """
    check_logits(logits)
    return Choice(logits, no_repair(one_hot(logits.argmax(-1), logits), logits), zeros(logits))


def top_k(logits: Tensor, k: int) -> Choice:
    """The k best: z = softmax over the k largest logits, 0 for the others; ties to the first.

    So everywhere in this library (`simplex.first`): 11, 12 and 84 µs for a row of 8, 64 and 4096, 0.12, 2.2 and 50 ms
    for 1024 of them. torch.topk, which takes any of a tie, takes 4, 4 and 13 µs, 0.08, 0.7 and 15 ms.

    Approximates: softmax, by its k largest terms. Gradient: exact for the weights of the chosen; none for which are
    chosen. With k = 1 the weight is the constant 1 and *no* gradient reaches the logits: an expert layer that keeps one
    expert scales it by its softmax probability instead. Requires: every option that matters to be tried now and then.

    Args:
        k: how many, 1 to K. Forbidden options (-inf) get weight 0 even where fewer than k are allowed.

    Source: Shazeer et al. 2017, eq. 3 to 5.
    """
    check_logits(logits)
    k = _as_k(k, logits)
    return Choice(logits, _top_k(logits, logits, k), zeros(logits))


def noisy_top_k(
    logits: Tensor, k: int, std: float | Tensor = 1.0, *, generator: torch.Generator | None = None
) -> Choice:
    """The k best of noisy scores, `top_k(logits + std · noise)`, Normal(0, 1) noise: it lets every option be tried.

    Gradient: pathwise, through the noisy weights, to the logits and to `std`; biased, and none for which are chosen.

    Args:
        std: standard deviation of the noise, a number or a tensor that broadcasts to `logits`; softplus(x W_noise) in
            the source.

    Source: Shazeer et al. 2017, eq. 3 to 5.
    """
    check_logits(logits, generator)
    k = _as_k(k, logits)
    like = full(logits.detach())
    if not isinstance(std, Tensor):
        most = torch.finfo(like.dtype).max
        std = like.new_full((), as_number("std", std, "finite and >= 0", lambda std: 0 <= std <= most))
    scale = std.to(like)
    if looks(scale) and not (scale.isfinite() & (scale >= 0)).all():
        raise ValueError(f"std must be finite and >= 0, got {std!r}")
    try:
        scale = scale.expand_as(logits)
    except RuntimeError:
        message = f"std must broadcast to logits, {tuple(logits.shape)}, got shape {tuple(scale.shape)}"
        raise ValueError(message) from None
    noise = like.new_empty(logits.shape).normal_(generator=generator)
    return Choice(logits, _top_k(logits, logits + scale * noise, k), zeros(logits))


def gumbel_top_k(
    logits: Tensor, k: int, temperature: float = 1.0, *, generator: torch.Generator | None = None
) -> Choice:
    """k options drawn without replacement: the k largest of logits + g, weighted by softmax((logits + g)/temperature).

    Approximates: a subset from the Plackett-Luce distribution (draw one by softmax, remove it, draw the next), which
    the *chosen set* follows exactly, at every temperature. Gradient: pathwise through the weights of the chosen,
    biased; with k = K it is `gumbel_softmax`. An unordered subset has no simple log-probability, so `log_prob` is 0:
    for a score-function estimator draw one option with `sample`.

    Source: Kool et al. 2019, Stochastic beams and where to find them; Yellott 1977.
    """
    check_logits(logits, generator)
    k = _as_k(k, logits)
    scores = by_temperature(logits + _gumbel(logits, generator), temperature)
    return Choice(logits, _top_k(logits, scores, k), zeros(logits))


def gumbel_softmax(
    logits: Tensor, temperature: float | Tensor = 1.0, *, generator: torch.Generator | None = None
) -> Choice:
    """Sample the Concrete (Gumbel-Softmax) distribution: z = softmax((logits + g) / temperature), g_k ~ Gumbel(0, 1).

    Approximates: a one-hot sample of Categorical(softmax(logits)), with a point inside the simplex; argmax(z) has
    exactly that law at every temperature, z itself reaches it as temperature -> 0.
    Gradient: pathwise; biased for the one-hot choice, less so at low temperature, where its variance grows as
    1 / temperature. Requires: a cost that is differentiable, and defined, inside the simplex.

    Args:
        logits: (..., K) the scores s_k, unnormalised log-probabilities.
        temperature: λ > 0. High: near the centre of the simplex. Low: near a corner.
            A tensor, one for all () or one a row (..., 1), can be learnt.
        generator: source of the noise, on the device of `logits`; torch's global one if None.

    Source: Jang et al. 2017, eq. 2; Maddison et al. 2017, eq. 10 (density).
    """
    check_logits(logits, generator)
    scores = by_temperature(logits + _gumbel(logits, generator), temperature)
    return Choice(logits, scores.softmax(-1).to(logits.dtype), zeros(logits))


def straight_through(choice: Choice) -> Choice:
    """Make a choice hard in the forward pass, keep its gradient in the backward pass: z = one_hot(argmax(weights)).

    Approximates: the zero gradient of the hard choice, with that of the soft weights. Biased at every temperature.
    Requires: a cost that is differentiable at a corner of the simplex, in the direction of options that were not
    chosen; so in training, their f_k have to run (`mix`), at test time only the chosen one (`mix_sparse`).

    A row without any weight, as of a token that no expert took, stays without.

    Source: Bengio et al. 2013; with Gumbel-Softmax: Jang et al. 2017, section 2.2.
    """
    if not isinstance(choice, Choice):
        raise TypeError(f"choice must be a Choice, got {type(choice).__name__}")
    soft = choice.weights
    hard = one_hot(soft.argmax(-1), soft) * (soft.amax(-1, keepdim=True) > 0)
    return choice._replace(weights=hard + (soft - soft.detach()))  # the bracket is exactly 0 in value


def sample(logits: Tensor, *, generator: torch.Generator | None = None) -> Choice:
    """Draw a one-hot z ~ Categorical(softmax(logits)) for a score-function estimator, with its log-probability.

    No gradient passes z. `estimators.surrogate(cost, choice.log_prob)` gives the REINFORCE gradient: unbiased,
    of high variance. Requires: nothing of the cost; only the chosen f_k has to run.

    Drawn by the Gumbel-max trick, argmax(logits + g). Source: Williams 1992.
    """
    check_logits(logits, generator)
    index = (logits.detach() + _gumbel(logits, generator)).argmax(-1)  # (...)
    log_prob = full(logits).log_softmax(-1).gather(-1, index.unsqueeze(-1)).squeeze(-1)
    return Choice(logits, no_repair(one_hot(index, logits), logits), log_prob)


def stick_breaking(gate_logits: Tensor) -> Choice:
    """A choice by going along the options: stop at option k with probability σ(gate_k), else go on.

        z_k = σ(gate_k) · Π_{j<k} (1 - σ(gate_j)),    the last option takes what is left

    Approximates: the expectation of where one stops. Gradient: exact for what it computes. Early exits are such
    choices: the gates belong to the exits but the last. A gate of `-inf` never stops.

    Args:
        gate_logits: (..., K - 1), one gate for each option but the last.

    Returns: a choice among K options, whose logits are log z.

    Source: Sethuraman 1994 (sticks); Scardapane et al. 2020, Differentiable branching in deep networks (exits).
    """
    if not isinstance(gate_logits, Tensor) or not gate_logits.is_floating_point() or gate_logits.ndim == 0:
        raise TypeError(f"gate_logits must be a floating-point tensor (..., K - 1), got {gate_logits!r}")
    if looks(gate_logits) and (gate_logits.isnan() | gate_logits.isposinf()).any():
        raise ValueError("gate_logits must be finite, or -inf for an option that is never taken; got NaN or +inf")
    gates = full(gate_logits)  # sums in half precision would be coarse
    start = gates.new_zeros(*gates.shape[:-1], 1)
    going_on = torch.cat([start, F.logsigmoid(-gates).cumsum(-1)], -1)  # (..., K) log Π_{j<k} (1 - σ)
    stopping = torch.cat([F.logsigmoid(gates), start], -1)  # (..., K) log σ, and 0: the last always stops
    log_z = going_on + stopping
    logits = log_z.to(gate_logits.dtype)
    return Choice(logits, log_z.exp().to(gate_logits.dtype), zeros(logits))


# Noisy ways and their counterparts without noise. Your own: QUIET[my_noisy_way] = its_counterpart.
QUIET = {noisy_top_k: top_k, gumbel_top_k: top_k, gumbel_softmax: softmax, sample: argmax}


def quiet(choose: Callable[[Tensor], Choice]) -> Callable[[Tensor], Choice]:
    """`choose` without its noise, for evaluation mode: of as many options, the same in every call.

    noisy_top_k and gumbel_top_k become top_k, sample and gumbel_rao argmax. gumbel_softmax, which
    runs every option, becomes softmax, the mean of its samples at a low temperature. `partial` is
    looked through, a lambda cannot be: what takes no `generator` is returned as it is.

    Raises:
        ValueError: a way with a `generator` that is not in `QUIET`: whoever draws says how not to.
    """
    way, options = getattr(choose, "func", choose), getattr(choose, "keywords", {})
    if not inspect.isfunction(way):
        return choose
    if way in QUIET:
        taken = inspect.signature(QUIET[way]).parameters
        return partial(QUIET[way], **{name: options[name] for name in options if name in taken})
    if "generator" in inspect.signature(way).parameters:
        raise ValueError(f"choose draws noise, so at_test must be given too, got {choose!r}")
    return choose


def keep_or_discard(score: Tensor) -> Tensor:
    """The case k = 2: the score of keeping, against 0 for discarding. (...) -> logits (..., 2), "keep" first.

    Every way of choosing makes a gate of it: `softmax(keep_or_discard(score)).weights[..., 0]` is sigmoid(score).
    """
    return torch.stack([score, torch.zeros_like(score)], dim=-1)


def _top_k(logits: Tensor, scores: Tensor, k: int) -> Tensor:
    """Softmax over the k largest scores, 0 elsewhere, in the dtype of `logits`."""
    index = first(scores, k)
    best = scores.gather(-1, index).softmax(-1).to(scores.dtype)
    weights = torch.zeros_like(scores).scatter(-1, index, best)
    return no_repair(weights.to(logits.dtype), logits)


def _as_k(k: int, logits: Tensor) -> int:
    n = logits.shape[-1]
    return as_integer("k", k, f"an integer from 1 to the number of options, {n}", 1, n)


def by_temperature(scores: Tensor, temperature: float | Tensor) -> Tensor:
    """scores / temperature up to a shift of each row, the largest to 0: any temperature is safe before a softmax."""
    gap = scores - scores.detach().amax(-1, keepdim=True)
    limits = torch.finfo(scores.dtype)  # outside these, scores of this dtype see a temperature of 0 or infinity
    if not isinstance(temperature, Tensor) or not temperature.is_floating_point():
        t = as_number("temperature", temperature, "a finite number > 0", lambda t: 0 < t < math.inf)
        return gap.div_(min(max(t, limits.tiny), limits.max))
    rows, shape = (*scores.shape[:-1], 1), temperature.shape
    shape = (1,) * (len(rows) - len(shape)) + shape
    fits = len(shape) == len(rows) and all(n in (1, m) for n, m in zip(shape, rows, strict=True))
    if not fits or (looks(temperature) and not ((temperature > 0) & temperature.isfinite()).all()):
        allowed = f"finite numbers > 0, one a row: broadcast to {rows}"
        raise ValueError(f"temperature must be {allowed}, got {temperature!r}")
    forbidden = gap == -torch.inf  # kept out of the gradient of the temperature
    t = temperature.to(scores).clamp(limits.tiny, limits.max)
    return (gap.masked_fill(forbidden, 0) / t).masked_fill(forbidden, -torch.inf)


def _gumbel(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """Gumbel(0, 1) noise as -log(Exponential): -log(-log(uniform)) is infinite where the uniform is 0 or 1."""
    noise = torch.empty_like(full(logits.detach()))
    return noise.exponential_(generator=generator).log_().neg_()  # in half precision it would be coarse


def zeros(logits: Tensor) -> Tensor:
    """The log-probability (...) of what was not sampled."""
    return full(logits).new_zeros(logits.shape[:-1])
