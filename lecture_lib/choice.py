"""The ways to choose: scores of k options in, a point of the simplex out.

Every way is a function `logits (..., K) -> Choice`. A layer takes one as its argument `choose`; bind options with
`functools.partial(gumbel_softmax, temperature=0.5)` or compose, `lambda s: straight_through(gumbel_softmax(s))`.

A logit of `-inf` forbids its option: it gets weight 0, in every way of choosing.

Shapes: K options, `...` any leading dimensions (batch, tokens, layers).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Choice(NamedTuple):
    """What was chosen, and what an estimator needs to know about how."""

    logits: Tensor  # (..., K) the scores that the choice was made from
    weights: Tensor  # (..., K) z: non-negative, sums to 1, carries the pathwise gradient where there is one
    log_prob: Tensor  # (...) log-probability of what was sampled for a score-function estimator; else 0


def check_logits(logits: Tensor, generator: torch.Generator | None = None) -> None:
    """Refuse anything that is no score of at least one allowed option, and a generator that cannot draw for it.

    Raises:
        TypeError: `logits` is no floating-point tensor.
        ValueError: no options, NaN, +inf, a row in which every option is forbidden; a generator on another device.
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        kind = f"a tensor of {logits.dtype}" if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(f"logits must be a floating-point tensor (..., K), got {kind}")
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must have shape (..., K) with K >= 1 options, got {tuple(logits.shape)}")
    if generator is not None and generator.device.type != logits.device.type:
        raise ValueError(f"generator must be on the device of logits, {logits.device}, got {generator.device}")
    top = logits.detach().amax(-1)  # NaN and +inf come through a maximum; -inf only if the whole row is -inf
    if not top.isfinite().all():
        if top.isnan().any():
            found = "NaN"
        else:
            found = "+inf" if top.isposinf().any() else "a row of only -inf, which forbids every option"
        raise ValueError(f"logits must be finite, or -inf for a forbidden option; got {found}")


def softmax(logits: Tensor) -> Choice:
    """Soft attention: z = softmax(logits). Every option has a weight, so every f_k has to run.

    Approximates: the expectation of a one-hot choice, by moving it inside f.
    Gradient: exact for what it computes, no sampling. Requires: f_k that accept being mixed.
    """
    check_logits(logits)
    return Choice(logits, logits.softmax(-1), _zeros(logits))


def argmax(logits: Tensor) -> Choice:
    """The talk's hard choice: z = one_hot(argmax(logits)), ties to the first.

    Its gradient is zero almost everywhere, so none is attached: for choosing at test time, or to see training fail.
    """
    check_logits(logits)
    return Choice(logits, _one_hot(logits.argmax(-1), logits), _zeros(logits))


def gumbel_softmax(logits: Tensor, temperature: float = 1.0, *, generator: torch.Generator | None = None) -> Choice:
    """Sample the Concrete (Gumbel-Softmax) distribution: z = softmax((logits + g) / temperature), g_k ~ Gumbel(0, 1).

    Approximates: a one-hot sample of Categorical(softmax(logits)), with a point inside the simplex; argmax(z) has
    exactly that law at every temperature, z itself reaches it as temperature -> 0.
    Gradient: pathwise; biased for the one-hot choice, less so at low temperature, where its variance grows as
    1 / temperature. Requires: a cost that is differentiable, and defined, inside the simplex.

    Args:
        logits: (..., K) unnormalised log-probabilities log α_k.
        temperature: λ > 0. High: near the centre of the simplex. Low: near a corner.
        generator: source of the noise, on the device of `logits`; torch's global one if None.

    Source: Jang et al. 2017, eq. 2; Maddison et al. 2017, eq. 10 (density).
    """
    check_logits(logits, generator)
    if not isinstance(temperature, (int, float)) or not math.isfinite(temperature) or temperature <= 0:
        raise ValueError(f"temperature must be a finite number > 0, got {temperature!r}")
    scores = logits + _gumbel(logits, generator)
    scores = scores - scores.detach().amax(-1, keepdim=True)  # so that dividing by a tiny temperature cannot overflow
    return Choice(logits, (scores / temperature).softmax(-1).to(logits.dtype), _zeros(logits))


def straight_through(choice: Choice) -> Choice:
    """Make a choice hard in the forward pass, keep its gradient in the backward pass: z = one_hot(argmax(weights)).

    Approximates: the zero gradient of the hard choice, with that of the soft weights. Biased at every temperature.
    Requires: a cost that is differentiable at a corner of the simplex, in the direction of options that were not
    chosen; so in training, their f_k have to run (`mix`), at test time only the chosen one (`mix_sparse`).

    Source: Bengio et al. 2013; with Gumbel-Softmax: Jang et al. 2017, section 2.2.
    """
    if not isinstance(choice, Choice):
        raise TypeError(f"choice must be a Choice, got {type(choice).__name__}")
    soft = choice.weights
    hard = _one_hot(soft.argmax(-1), soft)
    return choice._replace(weights=hard + (soft - soft.detach()))  # the bracket is exactly 0 in value


def sample(logits: Tensor, *, generator: torch.Generator | None = None) -> Choice:
    """Draw a one-hot z ~ Categorical(softmax(logits)) for a score-function estimator, with its log-probability.

    No gradient passes z. `estimators.surrogate(cost, choice.log_prob)` gives the REINFORCE gradient: unbiased,
    of high variance. Requires: nothing of the cost; only the chosen f_k has to run.

    Drawn by the Gumbel-max trick, argmax(logits + g). Source: Williams 1992.
    """
    check_logits(logits, generator)
    index = (logits.detach() + _gumbel(logits, generator)).argmax(-1)  # (...)
    log_prob = logits.log_softmax(-1).gather(-1, index.unsqueeze(-1)).squeeze(-1)
    return Choice(logits, _one_hot(index, logits), log_prob)


def _gumbel(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """Gumbel(0, 1) noise as -log(Exponential): -log(-log(uniform)) is infinite where the uniform is 0 or 1."""
    # noise in half precision would be coarse: float32 at least
    noise = torch.empty_like(logits, dtype=torch.promote_types(logits.dtype, torch.float32), requires_grad=False)
    return noise.exponential_(generator=generator).log_().neg_()


def _one_hot(index: Tensor, like: Tensor) -> Tensor:
    return F.one_hot(index, like.shape[-1]).to(like.dtype)


def _zeros(logits: Tensor) -> Tensor:
    return logits.new_zeros(logits.shape[:-1])
