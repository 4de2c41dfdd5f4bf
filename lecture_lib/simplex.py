"""Scores → the simplex, and the losses that belong to each way: tensors in, tensors out.

Softmax, sparsemax and everything between are one optimisation problem with one parameter, the entropy H_α:

    entmax_α(s) = argmax_{p in simplex} <p, s> + H_α(p),    H_α(p) = (1 - Σ_k p_k^α) / (α(α-1)),  Shannon's as α -> 1

α = 1 is softmax: every option keeps a weight. α = 2 is sparsemax, the Euclidean projection: weights reach exact zero.

A logit of `-inf` forbids its option: the result is that of the other options alone, and no gradient reaches it.

Shapes: K options, N rows, `...` any other dimensions. Half precision is computed in float32 and returned as it came.
"""

import contextlib
import math
import operator
from collections.abc import Callable, Iterable
from functools import wraps
from numbers import Real

import torch
from torch import Tensor

Mask = Tensor | None  # boolean, True for what counts; None: everything does
CHECKED = {"cpu"}  # devices on which the values of tensors are checked: elsewhere each look waits for the device
FIRST_LOOK = 32  # of the largest scores: most supports are smaller, and a partial sort is several times a sort's speed


def looks(x: Tensor) -> bool:
    """May the values of x be looked at? Where it costs nothing: eagerly, on a device of `CHECKED`.

    Whoever debugs on a GPU adds "cuda" to it. What is not looked at is not repaired: NaN in, NaN out.
    """
    return x.device.type in CHECKED and not _traced()


def _traced() -> bool:
    """Under torch.compile or torch.export, or in a transform of torch.func."""
    return torch.compiler.is_compiling() or torch._C._functorch.maybe_current_level() is not None


def opaque(shape: Callable[..., Tensor]) -> Callable[[Callable], Callable]:
    """For a function of tensors and numbers whose loops depend on values: one piece of a graph, without a gradient.

    `shape` makes an empty result of the same arguments. Outside of graphs and torch.func the function is as it was.
    """

    def decorate(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
        op = torch.library.custom_op(f"lecture_lib::{fn.__name__.strip('_')}", fn, mutates_args=())
        op.register_fake(shape)
        return wraps(fn)(lambda *args: (op if _traced() else fn)(*args))

    return decorate


def no_repair(weights: Tensor, logits: Tensor) -> Tensor:
    """The weights, and NaN in each row that `check_logits` would have refused if it had looked."""
    return weights if looks(logits) else weights + (0 * logits.detach().amax(-1, keepdim=True)).to(weights.dtype)


def one_hot(index: Tensor, like: Tensor) -> Tensor:
    """index (...) -> (..., K), as `like` is. Unlike torch's, it looks at no values."""
    return torch.zeros_like(like, requires_grad=False).scatter(-1, index.unsqueeze(-1), 1)


def first(scores: Tensor, k: int, dim: int = -1) -> Tensor:
    """Where the k largest along `dim` are, as a stable sort has them: of equal ones the first.

    In long rows, where sorting is slow, by torch.topk, which takes any of those that are as large
    as the last: the first ones of them replace these.
    """
    n = scores.shape[dim]
    if not torch.compiler.is_compiling() and k == 1:
        return scores.argmax(dim, keepdim=True)
    if n <= 64 or n < 4 * k or scores.numel() < 4096:
        return scores.sort(dim=dim, descending=True, stable=True).indices.narrow(dim, 0, k)
    scores = scores.detach().movedim(dim, -1)
    best, index = scores.topk(k)
    tie, backwards = best == best[..., -1:], torch.arange(n, 0, -1, dtype=torch.int32, device=scores.device)
    ties = n - torch.where(scores == best[..., -1:], backwards, 0).topk(k).values.long()
    nth = (tie.cumsum(-1) - 1).clamp(min=0)
    index = torch.where(tie, ties.gather(-1, nth), index).sort().values
    order = scores.gather(-1, index).sort(descending=True, stable=True).indices
    return index.gather(-1, order).movedim(-1, dim)


def check_logits(logits: Tensor, generator: torch.Generator | None = None, *, dim: int = -1) -> None:
    """Refuse anything that is no score of at least one allowed option, and a generator that cannot draw for it.

    Raises:
        TypeError: `logits` is no floating-point tensor.
        ValueError: no options; a generator on another device; no dimension `dim`; where it `looks`, NaN, +inf, a row
            in which every option is forbidden.
        RuntimeError: a generator in a checkpoint of activations: torch restores only its own. (A graph of torch.compile
            takes no generator at all; without one, noise is torch's own.)
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        kind = f"a tensor of {logits.dtype}" if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(f"logits must be a floating-point tensor (..., K), got {kind}")
    if logits.ndim and not -logits.ndim <= dim < logits.ndim:
        raise ValueError(f"dim must be from {-logits.ndim} to {logits.ndim - 1} for these logits, got {dim}")
    if logits.ndim == 0 or logits.shape[dim] == 0:
        raise ValueError(f"logits must have shape (..., K) with K >= 1 options, got {tuple(logits.shape)}")
    if generator is not None and generator.device.type != logits.device.type:
        raise ValueError(f"generator must be on the device of logits, {logits.device}, got {generator.device}")
    if generator is not None and not _traced() and torch._C._current_graph_task_id() != -1:  # in backward
        why = "the choice would be another one when computed anew, and the gradient wrong"
        raise RuntimeError(f"generator must be None where activations are checkpointed: {why}")
    if not looks(logits):
        return
    top = logits.detach().amax(dim)  # NaN and +inf come through a maximum; -inf only if the whole row is -inf
    if not math.isfinite(top.sum()) and not top.isfinite().all():  # most often one operation says it
        if top.isnan().any():
            found = "NaN"
        else:
            found = "+inf" if top.isposinf().any() else "a row of only -inf, which forbids every option"
        raise ValueError(f"logits must be finite, or -inf for a forbidden option; got {found}")


def as_number(name: str, value: object, allowed: str, holds: Callable[[float], bool]) -> float:
    """`value` as a Python float: any real number, NumPy's and 0-dimensional tensors, but no bool.

    Raises:
        ValueError: "`name` must be `allowed`, got `value`", where it is none or `holds` says no.
    """
    if isinstance(value, Tensor):
        real = value.ndim == 0 and value.dtype != torch.bool and not value.is_complex()
    else:
        real = isinstance(value, Real) and not isinstance(value, bool)
    if real and holds(float(value)):
        return float(value)
    raise ValueError(f"{name} must be {allowed}, got {value!r}")


def as_integer(name: str, value: object, allowed: str, low: int, high: float = math.inf) -> int:
    """`value` as a Python int from `low` to `high`; otherwise as `as_number`. 2.0 is no integer."""
    if not isinstance(value, bool) and not (isinstance(value, Tensor) and value.dtype == torch.bool):
        with contextlib.suppress(TypeError):
            if low <= operator.index(value) <= high:
                return operator.index(value)
    raise ValueError(f"{name} must be {allowed}, got {value!r}")


def as_numbers(name: str, values: Iterable, n: int, allowed: str, holds: Callable) -> list[float]:
    """`n` numbers, each as by `as_number`."""
    with contextlib.suppress(TypeError):  # not to be iterated
        if len(numbers := list(values)) == n:
            return [as_number(name, value, f"{n} {allowed}", holds) for value in numbers]
    raise ValueError(f"{name} must be {n} {allowed}, got {values!r}")


def check_mask(mask: Tensor, shape: torch.Size) -> None:
    """Refuse what does not say of each of `shape` whether it counts.

    Raises:
        ValueError: no boolean tensor of that shape.
    """
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != shape:
        got = f"{tuple(mask.shape)} of {mask.dtype}" if isinstance(mask, Tensor) else repr(mask)
        wanted = f"{tuple(shape)} of torch.bool, True for what counts"
        raise ValueError(f"mask must be {wanted}, got {got}")


def blank(x: Tensor, mask: Tensor | None) -> Tensor:
    """x (..., D), 0 where it does not count by `mask` (...): whatever stood there does no harm."""
    if mask is None:
        return x
    check_mask(mask, x.shape[:-1])
    return x.masked_fill(~mask.unsqueeze(-1), 0)


def full(x: Tensor) -> Tensor:
    """x in float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def score(scorer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """scorer(x) in float32 at least, whatever the dtype of the network, under autocast too."""
    kind, half = x.device.type, {}
    if x.dtype in (torch.float16, torch.bfloat16):
        x, parts = full(x), getattr(scorer, "named_parameters", tuple)()
        half = {name: full(part) for name, part in parts if part.dtype != torch.float64}
    if not half and not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
        return scorer(x)
    with torch.autocast(kind, enabled=False):
        return torch.func.functional_call(scorer, half, (x,)) if half else scorer(x)


def sparsemax(logits: Tensor, dim: int = -1) -> Tensor:
    """The Euclidean projection onto the simplex, argmin_p ||p - s||²: `entmax` with α = 2.

        p_k = max(s_k - τ, 0),    with the threshold τ for which Σ p_k = 1

    Piecewise linear: its Jacobian is that of centring the scores of the support, 0 elsewhere.

    Args and errors: as for `entmax`. Source: Martins & Astudillo 2016, From softmax to sparsemax.
    """
    return entmax(logits, 2, dim)


def entmax(logits: Tensor, alpha: float = 1.5, dim: int = -1) -> Tensor:
    """The point of the simplex that solves argmax_p <p, s> + H_α(p); the larger α, the sparser.

        p_k = max((α-1) s_k - τ, 0)^(1/(α-1)),    with the threshold τ for which Σ p_k = 1

    Exact by sorting for α = 1.5 and 2, to float precision by Newton's method for others: it finds τ
    or, above 2, where no float is fine enough for τ, the smallest weight. The gradient is analytic
    and can itself be differentiated. It is 0 outside the support: an option without weight learns
    nothing, until the others come down to it.

    Args:
        logits: scores s, of any shape.
        alpha: a finite number >= 1. 1: softmax. 2: sparsemax. Above 2 the gradient grows without
            bound at small weights, as p^(2-α), cut at the root of the largest float.
        dim: where the K options are.

    Returns: as `logits`, non-negative, sums to 1 along `dim`.

    Raises:
        TypeError, ValueError: `logits` as in `check_logits`; alpha below 1, infinite, NaN or no number.

    Source: Peters, Niculae & Martins 2019, Sparse sequence-to-sequence models; the Newton iteration is our own.
    """
    check_logits(logits, dim=dim)
    alpha = _as_alpha(alpha)
    if alpha == 1:
        return logits.softmax(dim).to(logits.dtype)
    return _Entmax.apply(full(logits), alpha, dim).to(logits.dtype)


def fenchel_young_loss(logits: Tensor, target: Tensor, alpha: float = 1.5) -> Tensor:
    """The loss for which `entmax` is the prediction: convex in s, never negative, 0 only where entmax(s) = y.

        L(s, y) = Ω*(s) + Ω(y) - <s, y>,    Ω = -H_α,  Ω*(s) = max_p <p, s> - Ω(p);    ∇L = entmax_α(s) - y

    α = 1 is cross-entropy, for a distribution y less its entropy: the divergence KL(y || softmax(s)). α = 2 is the
    sparsemax loss. For α > 1 and a class as target the loss is exactly 0 from a margin of 1/(α-1) on.

    Args:
        logits: (..., K) scores s.
        target: (...) int64 class indices, or (..., K) distributions; a constant, no gradient flows into it. One that
            gives weight to a forbidden option (-inf) costs +inf, as with torch's cross-entropy.
        alpha: as in `entmax`.

    Returns: (...) one loss per row, in the dtype of `logits`.

    Raises:
        TypeError: a target that is neither int64 nor floating-point.
        ValueError: a target of another shape, a class index outside 0 ... K-1, a row that is no distribution.

    Source: Blondel, Martins & Niculae 2020, Learning with Fenchel-Young losses.
    """
    check_logits(logits)
    alpha, scores = _as_alpha(alpha), full(logits)
    y, index = _check_target(target, scores)
    return _FenchelYoung.apply(scores, entmax(scores, alpha), y, index, alpha).to(logits.dtype)


class _Entmax(torch.autograd.Function):
    @staticmethod
    def forward(logits, alpha, dim):
        x = logits
        if alpha <= 2:
            # At -1 or below is no weight, as τ >= -1: cutting there keeps -inf out of every sum.
            x = (logits - logits.amax(dim, keepdim=True)).mul_(alpha - 1).clamp_(min=-1)
        x = x.movedim(dim, -1)
        rows = x.reshape(-1, x.shape[-1])  # (N, K)
        p = (_ratios if alpha <= 2 else _weights_above)(rows, _threshold(rows, alpha), alpha)
        p /= p.sum(-1, keepdim=True)
        return p.reshape(x.shape).movedim(-1, dim)

    @staticmethod
    def vmap(info, in_dims, logits, alpha, dim):
        return _Entmax.apply(logits.movedim(in_dims[0], 0), alpha, dim if dim < 0 else dim + 1), 0

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.alpha, ctx.dim = inputs
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, grad):
        """J = diag(w) - w wᵀ / Σw with w = p^(2-α) on the support, 0 elsewhere; plain operations on p, so that autograd
        can differentiate this once more."""
        (p,), dim = ctx.saved_tensors, ctx.dim
        support = p.sign()  # 1 or 0: several times the speed of torch.where, here and below
        p = p + (1 - support)  # away from 0, where a power has an infinite slope
        if ctx.alpha <= 2:
            w = p.pow(2 - ctx.alpha) * support
            w_grad = w * grad
            mean = w_grad.sum(dim, keepdim=True) / w.sum(dim, keepdim=True)
            return w_grad - w * mean, None, None
        # The smallest weight has the largest w, beyond any float. J grad is that of grad less its
        # entry there: for others, only ratios to that w are needed; it pays for them all.
        log_w = (2 - ctx.alpha) * p.log()
        top, at = log_w.masked_fill(support == 0, -math.inf).max(dim, keepdim=True)
        share = (log_w - top).exp() * support
        share = share / share.sum(dim, keepdim=True)
        w = log_w.clamp(max=math.log(torch.finfo(p.dtype).max) / 2).exp() * support
        grad = grad - grad.gather(dim, at)
        back = w * (grad - (share * grad).sum(dim, keepdim=True))
        last = -(w * grad).sum(dim, keepdim=True) * share.gather(dim, at)
        return back.scatter(dim, at, last), None, None


def _ratios(x: Tensor, tau: Tensor, alpha: float) -> Tensor:
    """The weights (x - τ)_+^(1/(α-1)) as ratios to the largest, so that they can be divided by their sum: (N, K)."""
    if alpha == 2:
        return torch.sub(x, tau).clamp_(min=0).div_(-tau)
    if alpha == 1.5:
        return torch.sub(x, tau).clamp_(min=0).div_(-tau).square_()
    log_r = torch.div(x, -tau).clamp_(min=-1).log1p_().div_(alpha - 1)  # log1p: a power is inexact as α -> 1
    floor = math.log(torch.finfo(x.dtype).tiny) + 1
    allowed = log_r > floor  # without this, exp(-inf) and denormal numbers take a CPU ten times as long
    return log_r.clamp_(min=floor).exp_().mul_(allowed)


@opaque(lambda x, alpha, k=FIRST_LOOK: x.new_empty(len(x), 1 if alpha <= 2 else 2))
def _threshold(x: Tensor, alpha: float, k: int = FIRST_LOOK) -> Tensor:
    """τ (N, 1) for rows x (N, K) = (α-1)(s - max s), cut at -1, so that -1 <= τ < 0; above α = 2,
    for rows x = s, `_smallest_weight` (N, 2).

    Only the support matters. From α = 1.5 on it is small: look for it among the k largest, then further for the rows
    that need it.
    """
    solve = _threshold_by_sorting if alpha in (1.5, 2) else _threshold_by_root_finding
    solve = solve if alpha <= 2 else _smallest_weight
    if k >= x.shape[-1] or alpha < 1.5:
        return solve(x, alpha)
    top = x.topk(k, dim=-1).values
    tau = solve(top, alpha)
    last, low = top[:, -1], tau[:, 0]
    unsolved = last > low if alpha <= 2 else last == low  # all k have a weight: there may be more
    if unsolved.any():
        tau[unsolved] = _threshold(x[unsolved], alpha, 4 * k)
    return tau


def _threshold_by_sorting(x: Tensor, alpha: float) -> Tensor:
    """Solve for τ as if the n largest were the support, for every n; the support is the largest n that is consistent.

    α = 2: Σ (x - τ) = 1.    α = 1.5: Σ (x - τ)² = 1, a quadratic equation.
    """
    x = x.sort(-1, descending=True).values
    n = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
    mean = x.cumsum(-1) / n
    if alpha == 2:
        tau = mean - 1 / n
    else:
        variance = x.square().cumsum(-1) / n - mean.square()
        tau = mean - (1 / n - variance).clamp_(min=0).sqrt_()
    support = (tau < x).sum(-1, keepdim=True).clamp_(min=1)
    return tau.gather(-1, support - 1)


def _threshold_by_root_finding(x: Tensor, alpha: float) -> Tensor:
    """Find the largest weight q in [1/K, 1]: τ = -q^(α-1), and F(q) = q Σ r = 1 with r the ratios p / q.

    Up to α = 2, F is convex and increasing: Newton's method comes down from q = 1 without overshooting. It starts at
    the solution as α -> 1 (F is linear) and takes 4 to 10 steps else.
    """
    eps, tiny = torch.finfo(x.dtype).eps, torch.finfo(x.dtype).tiny
    q = x.new_ones(x.shape[0], 1)

    def tau():
        return -q.pow(alpha - 1).clamp(min=tiny)

    for _ in range(100):  # F · F' falls to a quarter or less: for float64, K = 10^6, 50 are enough
        r = _ratios(x, tau(), alpha)
        u = torch.div(x, -tau()).add_(1).clamp_(min=tiny)
        step = (q * r.sum(-1, keepdim=True) - 1) / r.div_(u).sum(-1, keepdim=True)  # F' = Σ r / u
        q = q - step
        if not (step > 8 * eps * q).any():
            break
    return tau()


def _smallest_weight(x: Tensor, alpha: float) -> Tensor:
    """The smallest score s_m of the support and its weight w, for α > 2: x = s (N, K) -> (N, 2).

    p_j^a = w^a + a (s_j - s_m), a = α-1: a sum, where τ needs a difference. F(w) = Σ p, of norms of
    (w, ·), is convex with a slope >= 1: Newton's method comes down from w = 1/n. The support are
    the n best, for the largest n whose last can have a weight, F(0) < 1, found by halving.
    """
    x = x.sort(-1, descending=True).values
    low = torch.ones_like(x[:, :1], dtype=torch.int64)
    high = low * x.shape[-1]
    while (low < high).any():
        n = (low + high + 1) // 2
        at = x.gather(-1, n - 1)
        room = _excess(x, at, alpha).pow_(1 / (alpha - 1)).mul_(x > at).sum(-1, keepdim=True) < 1
        low, high = torch.where(room, n, low), torch.where(room, high, n - 1)
    least, w = x.gather(-1, low - 1), 1 / low.to(x.dtype)
    for _ in range(50):
        p = _weights_above(x, torch.cat([least, w], -1), alpha)
        slope = (w / torch.maximum(p, w)).pow(alpha - 2) * p.sign()
        step = (p.sum(-1, keepdim=True) - 1) / slope.sum(-1, keepdim=True)
        w = (w - step).clamp(min=torch.finfo(x.dtype).tiny)
        if not (step > 4 * torch.finfo(x.dtype).eps).any():
            break
    return torch.cat([least, w], -1)


def _excess(x: Tensor, least: Tensor, alpha: float) -> Tensor:
    """a (s_j - s_m), a = α-1, cut at 1, where a weight is 1, and 1 for s_j < s_m."""
    return torch.where(x < least, 1, (x - least).mul_(alpha - 1).clamp_(max=1))


def _weights_above(x: Tensor, solved: Tensor, alpha: float) -> Tensor:
    """The weights (w^a + a (s_j - s_m))^(1/a), by logarithms as powers underflow; 0 below s_m."""
    least, w = solved.split(1, -1)
    log_p = torch.logaddexp((alpha - 1) * w.log(), _excess(x, least, alpha).log_()) / (alpha - 1)
    return log_p.exp_().mul_(x >= least)


class _FenchelYoung(torch.autograd.Function):
    """Value and gradient of the loss; the prediction p is an argument so that a second derivative finds its graph.

    Target: distributions y (..., K) and no index, or class indices (..., 1) and their y, ones (..., 1): then all but
    the class has y = 0, where the divergence is p^α / α.
    """

    @staticmethod
    def forward(logits, p, y, index, alpha):
        # s_k = max s + (p_k^a - max p^a) / a on the support, a = α-1, and lower by a slack outside it. So the loss is
        # the Bregman divergence of Ω between y and p, plus <slack, y>: sums of terms that are not negative.
        loss, target_p = 0, p
        if index is not None:
            others = p.scatter(-1, index, 0)
            loss = others.pow(alpha).sum(-1) / alpha
            target_p = p.gather(-1, index)
        if alpha == 1:
            log_p = logits.log_softmax(-1)
            log_p = log_p if index is None else log_p.gather(-1, index)
            return loss + _divergence(y, target_p, log_p, alpha).sum(-1)
        a = alpha - 1
        z = a * ((logits if index is None else logits.gather(-1, index)) - logits.amax(-1, keepdim=True))
        top = p.amax(-1, keepdim=True)
        top_a = top.pow(a).clamp_(min=torch.finfo(p.dtype).tiny)
        log_p = target_p.log()
        if alpha <= 2:  # finite where p underflows
            log_p = top.log() + (z / top_a).clamp_(min=-1).log1p_() / a
        slack = torch.where((target_p == 0) & (y > 0), -(z + top_a).clamp_(max=0) * (y / a), 0)
        return loss + (_divergence(y, target_p, log_p, alpha) + slack).sum(-1)

    @staticmethod
    def vmap(info, in_dims, *args):
        def rows(x, d):
            return x if not isinstance(x, Tensor) else x.expand(n, *x.shape) if d is None else x.movedim(d, 0)

        n = info.batch_size
        return _FenchelYoung.apply(*map(rows, args, in_dims)), 0

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, p, y, index, _ = inputs
        ctx.save_for_backward(p, y, index)

    @staticmethod
    def backward(ctx, grad):
        p, y, index = ctx.saved_tensors
        difference = p - y if index is None else p.scatter_add(-1, index, -y)
        return grad.unsqueeze(-1) * difference, None, None, None, None


def _divergence(y: Tensor, p: Tensor, log_p: Tensor, alpha: float) -> Tensor:
    """The terms of Ω's Bregman divergence, [y (y^a - p^a) / a - p^a (y - p)] / α with a = α-1; exactly 0 where y = p.

    Written with d = |log y - log p|, (y^a - p^a) / a = ± max(y, p)^a (1 - e^(-ad)) / a: no cancellation as α -> 1
    (where it is ±d), nor as p -> y.
    """
    a = alpha - 1
    gap, low = y - p, torch.minimum(y, p)
    near = gap.abs() <= low
    size = torch.where(near, (gap.abs() / low).log1p(), (y.log() - log_p).abs())
    if a > 0:
        size = torch.maximum(y, p).pow(a) * torch.expm1(-a * size) / -a
    first = torch.where(y > 0, y * size.copysign(gap), 0)
    terms = (first - (a * log_p).exp() * gap) if a > 0 else first - gap
    return torch.where(gap == 0, 0, terms / alpha).clamp(min=0)


def _check_target(target: Tensor, logits: Tensor) -> tuple[Tensor, Tensor | None]:
    """Class indices (...) or distributions (..., K) as `_FenchelYoung` takes them."""
    if not isinstance(target, Tensor) or not (target.dtype == torch.int64 or target.is_floating_point()):
        kind = f"a tensor of {target.dtype}" if isinstance(target, Tensor) else type(target).__name__
        raise TypeError(
            f"target must be a tensor of int64 class indices or of floating-point distributions, got {kind}"
        )
    classes = target.dtype == torch.int64
    wanted = logits.shape[:-1] if classes else logits.shape
    if target.shape != wanted:
        kind = "class indices" if classes else "distributions"
        raise ValueError(
            f"target must have shape {tuple(wanted)} as {kind} for logits {tuple(logits.shape)},"
            f" got {tuple(target.shape)}"
        )
    if classes:
        k = logits.shape[-1]
        if looks(target) and (wrong := target[(target < 0) | (target >= k)]).numel():
            raise ValueError(f"target must hold class indices from 0 to {k - 1}, got {wrong[0].item()}")
        index = target.unsqueeze(-1)  # (..., 1)
        return torch.ones_like(index, dtype=logits.dtype), index
    y = target.detach().to(logits.dtype)
    if not looks(y):
        return y, None
    if not (y >= 0).all():
        raise ValueError(f"target must hold distributions, without negative entries or NaN, got {y.min().item():.6g}")
    total = y.sum(-1)
    tolerance = max(1e-4, 8 * torch.finfo(target.dtype).eps)
    wrong = total[~((total - 1).abs() <= tolerance)]
    if wrong.numel():
        raise ValueError(f"target must hold distributions, rows that sum to 1, got a sum of {wrong[0].item():.6g}")
    return y, None


def _as_alpha(alpha: float) -> float:
    allowed = "a finite number >= 1 (1 softmax, 2 sparsemax)"
    return as_number("alpha", alpha, allowed, lambda a: 1 <= a < math.inf)
