"""Early exits: a classifier after every block, and inference that stops at the first one that is sure enough.

A network with exits is the equation y = Σ_k z_k · f_k(x): f_k is the network cut after block k, z says where one stops.
`infer` decides z by a rule, and runs no block behind the exit; `DifferentiableBranching` learns z by the loss.

Shapes: K exits, of which 0 is the first, B examples, n of them still undecided, C classes, h the state after a block,
(B, ...) of any shape. What is made of logits is float32 where the network is in half precision. What does not count
by a `mask` is gone before anything runs.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.choice import Choice, quiet, stick_breaking
from lecture_lib.mixture import mix
from lecture_lib.simplex import Mask, as_integer, as_number, as_numbers, blank, check_mask, full, looks, score
from lecture_lib.training import modes_kept

Choose = Callable[[Tensor], Choice]
Rule = Callable[[Tensor, Tensor], Tensor]  # logits so far (k, n, C), the latest last, and h (n, ...) -> stop (n,) bool
Fit = Callable[[nn.Module, Callable[[Tensor, Tensor], Tensor]], object]


class EarlyExitNet(nn.Module):
    """A chain of blocks with a head after each: x (B, ...) -> logits (K, B, C), one row an exit.

    Args:
        blocks: h_0 = blocks[0](x), h_1 = blocks[1](h_0), ...; the first may hold an embedding.
        heads: as many; heads[k] maps h_k to (B, C), C >= 2. The cheaper, the more an exit saves.

    Source: auxiliary classifiers: Szegedy et al. 2015 (Inception); leaving by them: Teerapittayanon et al. 2016
    (BranchyNet).
    """

    def __init__(self, blocks: Iterable[nn.Module], heads: Iterable[nn.Module]):
        super().__init__()
        self.blocks, self.heads = nn.ModuleList(blocks), nn.ModuleList(heads)
        if not len(self.blocks) == len(self.heads) >= 1:
            raise ValueError(
                f"heads must be one for each of at least one block, got {len(self.blocks)} blocks and "
                f"{len(self.heads)} heads"
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.states(x))

    def states(self, x: Tensor) -> list[Tensor]:
        """The state after each block, K of them."""
        states = []
        for block in self.blocks:
            x = _state(block, x)
            states.append(x)
        return states

    def classify(self, states: Sequence[Tensor]) -> Tensor:
        """The logits (k, B, C) of the first k exits, from their states."""
        logits = [head(h) for head, h in zip(self.heads, states, strict=False)]
        _check_heads(logits)
        return torch.stack(logits)


# ------------------------------------------------------------------------------------------------------------ training
# `fit(model, loss)` minimises `loss(x, target)` over the parameters of `model`, in training mode; for example
# functools.partial(training.fit, batches=batches(x, y), steps=300). What it is not given stays as it is: frozen.
# A padded batch is (x, target, mask). Also where `fit` breaks off, every part is left in its mode.


def joint_loss(
    exit_logits: Tensor,
    target: Tensor,
    weights: Iterable[float] | None = None,
    *,
    mask: Mask = None,
) -> Tensor:
    """Σ_k w_k · L_k, with the mean cross-entropy L_k of exit k: a scalar, in float32 at least.

    Args:
        exit_logits: (K, B, C), or (K, B, T, C) for tokens.
        target: (B,) or (B, T) classes, int64 from 0 to C - 1.
        weights: K numbers >= 0; 1 each if None.
        mask: as `target`: what counts. If nothing does, the loss is 0; without a mask, B >= 1.

    Source: Teerapittayanon et al. 2016.
    """
    if exit_logits.ndim < 3 or target.shape != exit_logits.shape[1:-1]:
        shapes = f"{tuple(exit_logits.shape)} and {tuple(target.shape)}"
        wanted = "exit_logits must have shape (K, B, ..., C) and target (B, ...)"
        raise ValueError(f"{wanted}, got {shapes}")
    n, allowed = len(exit_logits), "finite numbers >= 0, one for each exit"
    weights = [1] * n if weights is None else weights
    w = as_numbers("weights", weights, n, allowed, lambda w: 0 <= w < math.inf)
    if mask is not None:
        check_mask(mask, exit_logits.shape[1:-1])
        exit_logits = blank(exit_logits, mask.expand(exit_logits.shape[:-1]))
        target = target.masked_fill(~mask, 0)
    z, target = full(exit_logits).flatten(1, -2), target.flatten()
    _check_target(target, z.shape[-1], mask)
    losses = F.cross_entropy(z.movedim(0, 2), target.unsqueeze(-1).expand(-1, n), reduction="none")
    losses = losses if mask is None else losses[mask.flatten()]
    return torch.dot(losses.sum(0) / max(len(losses), 1), losses.new_tensor(w))  # autocast leaves dot alone


def train_jointly(net: EarlyExitNet, fit: Fit, *, weights: Iterable[float] | None = None) -> list:
    """All at once: every parameter, on `joint_loss`. Returns what `fit` returned, in a list of one.

    Exits early in the chain shape the blocks, for better (gradients arrive) or worse (they want other features).
    """
    return [_fit(fit, net, lambda x, target: joint_loss(net(x), target, weights), net)]


def train_layerwise(net: EarlyExitNet, fit: Fit) -> list:
    """One block after the other: block k and its head on L_k, the blocks before it frozen, in evaluation mode.

    Returns what `fit` returned, for each exit. No block knows of those behind it; memory is that of one block.
    Two exits share nothing.

    Source: Scardapane et al. 2020, Why should we add early exits to neural networks?
    """
    stages = [nn.ModuleList(pair) for pair in zip(net.blocks, net.heads, strict=True)]
    _check_apart(stages)
    results = []
    for k, (block, head) in enumerate(stages):
        prefix = nn.Sequential(*net.blocks[:k])

        def loss(x: Tensor, target: Tensor, prefix=prefix, block=block, head=head) -> Tensor:
            with torch.no_grad():
                h = prefix(x)
            return _cross_entropy(head(_state(block, h)), target)

        results.append(_fit(fit, stages[k], loss, net, [prefix]))
    return results


def train_separately(net: EarlyExitNet, fit: Fit) -> list:
    """First the network as if it had no exits: all blocks and the last head. Then the other heads, with the blocks
    frozen, in evaluation mode.

    Returns what `fit` returned, for both stages. The last exit loses nothing; the early ones get features not made for
    them. They may share a head, but not with the last.

    Source: Scardapane et al. 2020, Why should we add early exits to neural networks?
    """
    last, others = net.heads[-1], net.heads[:-1]
    backbone = nn.ModuleList([net.blocks, last])
    _check_apart([backbone, others])
    last_loss = lambda x, target: _cross_entropy(last(net.states(x)[-1]), target)  # noqa: E731
    results = [_fit(fit, backbone, last_loss, net)]

    def loss(x: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            states = net.states(x)
        return joint_loss(net.classify(states[:-1]), target)  # each head minimises its own term

    return [*results, _fit(fit, others, loss, net, [net])] if others else results


def train_gates(net: EarlyExitNet, gates: Iterable[nn.Module], fit: Fit) -> object:
    """Gates that learn to tell from h_k whether exit k already says what the last exit will say; the network is frozen.

    Logistic regression on that label, the two classes weighted equally within a batch. Returns what `fit` returned.

    Args:
        gates: one for each exit but the last: h_k -> (B,) or (B, 1), the logit of stopping.

    Source: Schuster et al. 2022 (CALM), its classifier.
    """
    gates = nn.ModuleList(gates)
    _check_gates(net, gates)
    _check_apart([nn.ModuleList([net.blocks, net.heads]), gates])
    if not gates:
        raise ValueError("net must have at least two exits to train gates, got one")

    def loss(x: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            states = net.states(x)
            said = net.classify(states).argmax(-1)  # (K, B)
            agrees = (said[:-1] == said[-1]).double()  # (K-1, B)
            share = agrees.mean(1, keepdim=True)
            weight = agrees / (2 * share).clamp_min(1e-9) + (1 - agrees) / (2 - 2 * share).clamp_min(1e-9)
        logits = torch.stack([_gate_logit(gate, h) for gate, h in zip(gates, states, strict=False)])
        return F.binary_cross_entropy_with_logits(logits, agrees.to(logits), weight=weight.to(logits))

    return _fit(fit, gates, loss, net, [net])


# ------------------------------------------------------------------------------------------------------------ deciding


def below_entropy(threshold: float) -> Rule:
    """Stop where the entropy of the prediction is at most `threshold`, in nats: 0 is certainty, log C a shrug.

    Source: Teerapittayanon et al. 2016.
    """
    allowed = "a finite number >= 0 (nats)"
    threshold = as_number("threshold", threshold, allowed, lambda t: 0 <= t < math.inf)
    return lambda logits, h: torch.special.entr(_shares(logits)).sum(-1) <= threshold


def above_confidence(threshold: float) -> Rule:
    """Stop where the largest probability is at least `threshold`, 0 to 1."""
    threshold = _as_share(threshold)
    return lambda logits, h: _shares(logits).amax(-1) >= threshold


def above_margin(threshold: float) -> Rule:
    """Stop where the largest probability leads the second by at least `threshold`, 0 to 1.

    Source: Schuster et al. 2022 (CALM), its softmax response.
    """
    threshold = _as_share(threshold)

    def rule(logits: Tensor, h: Tensor) -> Tensor:
        best, second = _shares(logits).topk(2, dim=-1).values.unbind(-1)
        return best - second >= threshold

    return rule


def patience(patience: int) -> Rule:
    """Stop where `patience` exits in a row agreed with the one before them: at exit number `patience` at the earliest.

    Source: Zhou et al. 2020, BERT loses patience (PABEE).
    """
    patience = as_integer("patience", patience, "an integer >= 1", 1)

    def rule(logits: Tensor, h: Tensor) -> Tensor:
        said = logits[-patience - 1 :].argmax(-1)  # (at most patience + 1, n)
        return (said == said[-1]).all(0) & (len(said) > patience)

    return rule


def learned_gate(gates: Iterable[nn.Module], threshold: float = 0.5) -> Rule:
    """Stop at exit k where sigmoid(gates[k](h)) is at least `threshold`, 0 to 1.

    Args:
        gates: one for each exit but the last: of `train_gates`, or of a `DifferentiableBranching`.
    """
    gates, threshold = list(gates), _as_share(threshold)
    return lambda logits, h: _gate_logit(gates[len(logits) - 1], h).sigmoid() >= threshold


class Exited(NamedTuple):
    """Where inference stopped, and with which prediction."""

    logits: Tensor  # (B, C)
    exit_index: Tensor  # (B,) int64, 0 to K-1; -1, with logits of 0, for what does not count


@torch.no_grad()
def infer(
    net: EarlyExitNet,
    x: Tensor,
    rule: Rule,
    *,
    ensemble: Callable[[Tensor], Tensor] | None = None,
    mask: Mask = None,
) -> Exited:
    """Run the exits one after the other, each block only on the examples that no exit before it let go.

    After each block the batch is compacted: what has left is not computed further. The last exit takes whoever is left,
    and is not asked by the rule. No gradient; call `net.eval()` first if a block behaves otherwise in training.

    Args:
        x: (B, ...), B may be 0.
        rule: (logits so far (k, n, C), state h (n, ...)) -> (n,) bool, True to stop; a function above or your own.
        ensemble: `arithmetic_ensemble` or `geometric_ensemble`: decide and answer by it; by exit k alone if None.
        mask: (B,) what counts, everything if None. The rest is not run.
    """
    undecided, seen, batch = torch.arange(len(x), device=x.device), None, len(x)  # (n,)
    if mask is not None:
        check_mask(mask, undecided.shape)
        undecided, x = undecided[mask], x[mask]
    for k, (block, head) in enumerate(zip(net.blocks, net.heads, strict=True)):
        x = _state(block, x)
        now = head(x)
        if seen is None or getattr(now, "shape", None) != seen.shape[1:] or now.device != seen.device:
            _check_heads([now] if seen is None else [seen[-1], now])
        seen = now[None] if seen is None else torch.cat([seen, now[None]])  # (k, n, C)
        logits = seen if ensemble is None else ensemble(seen)
        answer = logits[-1]
        if k == 0:
            result = Exited(answer.new_zeros(batch, answer.shape[-1]), undecided.new_full((batch,), -1))
        # until a later exit says otherwise
        result.logits.index_copy_(0, undecided, answer.to(result.logits.dtype))
        result.exit_index.index_fill_(0, undecided, k)
        if k == len(net.blocks) - 1:
            break
        stop = rule(logits, x)
        if stop.shape != undecided.shape or stop.dtype != torch.bool:
            got = f"{tuple(stop.shape)} of {stop.dtype}"
            raise ValueError(f"rule must return ({len(undecided)},) of torch.bool at exit {k}, got {got}")
        staying = stop.logical_not().nonzero().squeeze(-1)
        if not (n := staying.shape[0]):
            break
        if n < stop.shape[0]:
            undecided, x = undecided.index_select(0, staying), x.index_select(0, staying)
            seen = seen.index_select(1, staying)
    return result


def arithmetic_ensemble(exit_logits: Tensor) -> Tensor:
    """At each exit the mean of the probabilities so far: logits (K, B, C) -> log-probabilities (K, B, C).

    Source: Qendro et al. 2021, Early exit ensembles for uncertainty quantification.
    """
    log_p = full(exit_logits).log_softmax(-1)
    return log_p.logcumsumexp(0) - torch.ones_like(log_p).cumsum(0).log()


def geometric_ensemble(exit_logits: Tensor) -> Tensor:
    """At each exit the geometric mean of the probabilities so far, normalised: logits -> log-probabilities, (K, B, C).

    One exit that finds a class impossible forbids it. Source: Wołczyk et al. 2021, Zero time waste: there with learned
    weights and a bias for each class.
    """
    log_p = full(exit_logits).log_softmax(-1)
    return (log_p.cumsum(0) / torch.ones_like(log_p).cumsum(0)).log_softmax(-1)


# ---------------------------------------------------------------------------------------------- learning where to stop


class DifferentiableBranching(nn.Module):
    """Exits with gates, trained by one loss: f̃_k = g_k · f_k + (1 - g_k) · f̃_{k+1}; the last is f_{K-1} alone.

    f_k are the exits' probabilities, g_k = σ(gates[k](h_k)). Unrolled, the recursion is the mixture Σ_k z_k · f_k with
    the weights of `stick_breaking`: x (B, ...) -> (probabilities f̃_0 (B, C), choice among K exits).

    Train on the cross-entropy of f̃_0 plus `expected_cost(choice, costs).mean()` times a price. This is dense, every
    block runs. At test time either this, or the gates as a rule: `infer(net, x, learned_gate(gates))`; where the gates
    are hard, 0 or 1, both say the same.

    Args:
        net: the blocks and heads.
        gates: one for each exit but the last: h_k -> (B,) or (B, 1), the logit of stopping.
        choose: gate logits (B, K - 1) -> choice among K, in training mode.
        at_test: the same in evaluation mode; `choice.quiet(choose)` if None.

    Source: Scardapane et al. 2020, Differentiable branching in deep networks for fast inference.
    """

    def __init__(
        self,
        net: EarlyExitNet,
        gates: Iterable[nn.Module],
        *,
        choose: Choose = stick_breaking,
        at_test: Choose | None = None,
    ):
        super().__init__()
        self.net, self.gates, self.choose = net, nn.ModuleList(gates), choose
        at_test = quiet(choose) if at_test is None else at_test
        self.at_test = None if at_test is choose else at_test  # a module is registered once
        _check_gates(net, self.gates)

    def forward(self, x: Tensor) -> tuple[Tensor, Choice]:
        states = self.net.states(x)
        predictions = full(self.net.classify(states)).softmax(-1).movedim(0, 1)  # (B, K, C)
        stops = [_gate_logit(gate, h) for gate, h in zip(self.gates, states, strict=False)]
        choose = self.choose if self.training else self.at_test or self.choose
        choice = choose(torch.stack(stops, -1) if stops else predictions.new_zeros(len(x), 0))
        exits = [itemgetter((slice(None), k)) for k in range(predictions.shape[1])]
        return mix(predictions, choice.weights, exits), choice


def expected_cost(choice: Choice, costs: Iterable[float]) -> Tensor:
    """Σ_k z_k · c_k for each example (B,): the recursion of `DifferentiableBranching` over the cumulative costs c_k.

    Args:
        costs: of everything up to and including exit k, K numbers in any unit; a share of the whole network's is handy.

    Source: Scardapane et al. 2020, Differentiable branching in deep networks for fast inference.
    """
    weights = full(choice.weights)
    allowed = "finite numbers, one for each exit"
    c = as_numbers("costs", costs, weights.shape[-1], allowed, math.isfinite)
    with torch.autocast(weights.device.type, enabled=False):
        return weights @ weights.new_tensor(c)


def _fit(fit: Fit, model: nn.Module, loss: Callable, net: nn.Module, frozen: Iterable = ()):
    """fit(model, loss) of batches that may be padded; modes are as they were however it ends."""

    def of_what_counts(x: Tensor, target: Tensor, mask: Mask = None) -> Tensor:
        if mask is None:
            return loss(x, target)
        check_mask(mask, target.shape)
        nothing = torch.zeros((), device=x.device, requires_grad=True)
        return loss(x[mask], target[mask]) if mask.any() else nothing

    with modes_kept(net, model):
        for part in frozen:
            part.eval()
        return fit(model, of_what_counts)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    _check_heads([logits])
    _check_target(target, logits.shape[-1])
    return F.cross_entropy(full(logits), target)


def _shares(logits: Tensor) -> Tensor:
    """The probabilities of the latest exit, (n, C)."""
    return full(logits[-1]).softmax(-1)


def _state(block: nn.Module, x: Tensor) -> Tensor:
    h = block(x)
    if not isinstance(h, Tensor):
        raise TypeError(f"blocks must return a tensor, the state, got a {type(h).__name__}")
    return h


def _gate_logit(gate: nn.Module, h: Tensor) -> Tensor:
    logit = score(gate, h)
    if logit.shape not in ((len(h),), (len(h), 1)):
        raise ValueError(
            f"gates must return ({len(h)},) or ({len(h)}, 1), one logit an example, got {tuple(logit.shape)}"
        )
    return logit.reshape(len(h))


def _check_heads(logits: Sequence[Tensor]) -> None:
    shapes = [tuple(getattr(z, "shape", [type(z).__name__])) for z in logits]
    one = len(set(shapes)) == len({getattr(z, "device", None) for z in logits}) == 1
    if not one or len(shapes[0]) != 2 or shapes[0][1] < 2:
        raise ValueError(f"heads must all return one (B, C), C >= 2, on one device, got {shapes}")


def _check_target(target: Tensor, n: int, mask: Mask = None) -> None:
    some = mask is not None or len(target)  # with a mask, there may be none that counts
    if target.dtype != torch.int64 or not some or (looks(target) and ((target < 0) | (target >= n)).any()):
        got = f"{target.dtype}, from {target.min()} to {target.max()}" if len(target) else "none"
        raise ValueError(f"target must hold at least one int64 class from 0 to {n - 1}, got {got}")


def _check_apart(stages: Sequence[nn.Module]) -> None:
    parts = [{id(p) for p in stage.parameters() if p.requires_grad} for stage in stages]
    parts += [{id(b) for b in stage.buffers()} for stage in stages]
    if sum(map(len, parts)) > len(set().union(*parts)):
        raise ValueError("net must not share what is trained in turn: use train_jointly")


def _check_gates(net: EarlyExitNet, gates: Sequence[nn.Module]) -> None:
    if len(gates) != len(net.blocks) - 1:
        wanted = f"one for each exit but the last, {len(net.blocks) - 1}"
        raise ValueError(f"gates must be {wanted}, got {len(gates)}")


def _as_share(threshold: float) -> float:
    return as_number("threshold", threshold, "from 0 to 1", lambda t: 0 <= t <= 1)
