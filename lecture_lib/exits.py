"""Early exits: a classifier after every block, and inference that stops at the first one that is sure enough.

A network with exits is the equation y = Σ_k z_k · f_k(x): f_k is the network cut after block k, z says where one stops.
`infer` decides z by a rule, and runs no block behind the exit; `DifferentiableBranching` learns z by the loss.

Shapes: K exits, B examples, n of them still undecided, C classes, h the state after a block, (B, ...) of any shape.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.choice import Choice, stick_breaking
from lecture_lib.mixture import mix

Rule = Callable[[Tensor, Tensor], Tensor]  # logits so far (k, n, C), the latest last, and h (n, ...) -> stop (n,) bool
Fit = Callable[[nn.Module, Callable[[Tensor, Tensor], Tensor]], object]


class EarlyExitNet(nn.Module):
    """A chain of blocks with a head after each: x (B, ...) -> logits (K, B, C), one row an exit.

    Args:
        blocks: h_1 = blocks[0](x), h_2 = blocks[1](h_1), ...; the first may hold an embedding.
        heads: as many; heads[k] maps h_k to (B, C). The cheaper, the more an exit saves.

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
            x = block(x)
            states.append(x)
        return states

    def classify(self, states: Sequence[Tensor]) -> Tensor:
        """The logits (k, B, C) of the first k exits, from their states."""
        logits = [head(h) for head, h in zip(self.heads, states, strict=False)]
        if len({tuple(z.shape) for z in logits}) > 1 or logits[0].ndim != 2:
            raise ValueError(f"heads must all return the same (B, C), got {[tuple(z.shape) for z in logits]}")
        return torch.stack(logits)


# ------------------------------------------------------------------------------------------------------------ training
# `fit(model, loss)` minimises `loss(x, target)` over the parameters of `model`, in training mode; for example
# functools.partial(training.fit, batches=batches(x, y), steps=300). What it is not given stays as it is: frozen.


def joint_loss(exit_logits: Tensor, target: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """Σ_k w_k · L_k, with the mean cross-entropy L_k of exit k: a scalar.

    Args:
        exit_logits: (K, B, C), B >= 1.
        target: (B,) classes, int64 from 0 to C - 1.
        weights: K numbers >= 0; 1 each if None.

    Source: Teerapittayanon et al. 2016.
    """
    if exit_logits.ndim != 3 or target.shape != exit_logits.shape[1:2]:
        shapes = f"{tuple(exit_logits.shape)} and {tuple(target.shape)}"
        raise ValueError(f"exit_logits must have shape (K, B, C) and target (B,), got {shapes}")
    n_classes = exit_logits.shape[-1]
    if target.dtype != torch.int64 or not len(target) or target.min() < 0 or target.max() >= n_classes:
        got = f"{target.dtype}, from {target.min()} to {target.max()}" if len(target) else "none"
        raise ValueError(f"target must hold at least one int64 class from 0 to {n_classes - 1}, got {got}")
    w = torch.ones(len(exit_logits)) if weights is None else torch.as_tensor(weights)
    if w.shape != exit_logits.shape[:1] or not (w.isfinite() & (w >= 0)).all():
        raise ValueError(f"weights must be {len(exit_logits)} finite numbers >= 0, one for each exit, got {weights!r}")
    losses = F.cross_entropy(exit_logits.movedim(0, 2), target.unsqueeze(-1).expand(-1, len(w)), reduction="none")
    return losses.mean(0) @ w.to(losses)


def train_jointly(net: EarlyExitNet, fit: Fit, *, weights: Sequence[float] | None = None) -> list:
    """All at once: every parameter, on `joint_loss`. Returns what `fit` returned, in a list of one.

    Exits early in the chain shape the blocks, for better (gradients arrive) or worse (they want other features).
    """
    return [fit(net, lambda x, target: joint_loss(net(x), target, weights))]


def train_layerwise(net: EarlyExitNet, fit: Fit) -> list:
    """One block after the other: block k and its head on L_k, the blocks before it frozen, in evaluation mode.

    Returns what `fit` returned, for each exit. No block knows of those behind it; memory is that of one block.

    Source: Scardapane et al. 2020, Why should we add early exits to neural networks?
    """
    training, results = net.training, []
    for k, (block, head) in enumerate(zip(net.blocks, net.heads, strict=True)):
        prefix = nn.Sequential(*net.blocks[:k]).eval()

        def loss(x: Tensor, target: Tensor, prefix=prefix, block=block, head=head) -> Tensor:
            with torch.no_grad():
                h = prefix(x)
            return F.cross_entropy(head(block(h)), target)

        results.append(fit(nn.ModuleList([block, head]), loss))
    net.train(training)
    return results


def train_separately(net: EarlyExitNet, fit: Fit) -> list:
    """First the network as if it had no exits: all blocks and the last head, on L_K. Then the other heads, with the
    blocks frozen, in evaluation mode.

    Returns what `fit` returned, for both stages. The last exit loses nothing; the early ones get features not made for
    them.

    Source: Scardapane et al. 2020, Why should we add early exits to neural networks?
    """
    training, last = net.training, net.heads[-1]
    results = [fit(nn.ModuleList([net.blocks, last]), lambda x, y: F.cross_entropy(last(net.states(x)[-1]), y))]
    if len(net.heads) > 1:
        net.eval()

        def loss(x: Tensor, target: Tensor) -> Tensor:
            with torch.no_grad():
                states = net.states(x)
            return joint_loss(net.classify(states[:-1]), target)  # no parameter is shared: each minimises its own term

        results.append(fit(net.heads[:-1], loss))
    net.train(training)
    return results


def train_gates(net: EarlyExitNet, gates: Sequence[nn.Module], fit: Fit) -> object:
    """Gates that learn to tell from h_k whether exit k already says what the last exit will say; the network is frozen.

    Logistic regression on that label, the two classes weighted equally within a batch. Returns what `fit` returned.

    Args:
        gates: one for each exit but the last: h_k -> (B,) or (B, 1), the logit of stopping.

    Source: Schuster et al. 2022 (CALM), its classifier.
    """
    _check_gates(net, gates)
    training = net.training
    net.eval()

    def loss(x: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            states = net.states(x)
            said = net.classify(states).argmax(-1)  # (K, B)
            agrees = (said[:-1] == said[-1]).double()  # (K-1, B)
            share = agrees.mean(1, keepdim=True)
            weight = agrees / (2 * share).clamp_min(1e-9) + (1 - agrees) / (2 - 2 * share).clamp_min(1e-9)
        logits = torch.stack([_gate_logit(gate, h) for gate, h in zip(gates, states, strict=False)])
        return F.binary_cross_entropy_with_logits(logits, agrees.to(logits), weight=weight.to(logits))

    result = fit(nn.ModuleList(gates), loss)
    net.train(training)
    return result


# ------------------------------------------------------------------------------------------------------------ deciding


def below_entropy(threshold: float) -> Rule:
    """Stop where the entropy of the prediction is at most `threshold`, in nats: 0 is certainty, log C a shrug.

    Source: Teerapittayanon et al. 2016.
    """
    if not (math.isfinite(threshold) and threshold >= 0):
        raise ValueError(f"threshold must be a finite number >= 0 (nats), got {threshold!r}")
    return lambda logits, h: torch.special.entr(logits[-1].softmax(-1)).sum(-1) <= threshold


def above_confidence(threshold: float) -> Rule:
    """Stop where the largest probability is at least `threshold`, 0 to 1."""
    _check_share("threshold", threshold)
    return lambda logits, h: logits[-1].softmax(-1).amax(-1) >= threshold


def above_margin(threshold: float) -> Rule:
    """Stop where the largest probability leads the second by at least `threshold`, 0 to 1.

    Source: Schuster et al. 2022 (CALM), its softmax response.
    """
    _check_share("threshold", threshold)

    def rule(logits: Tensor, h: Tensor) -> Tensor:
        best, second = logits[-1].softmax(-1).topk(2, dim=-1).values.unbind(-1)
        return best - second >= threshold

    return rule


def patience(patience: int) -> Rule:
    """Stop where `patience` exits in a row agreed with the one before them: at exit patience + 1 at the earliest.

    Source: Zhou et al. 2020, BERT loses patience (PABEE).
    """
    if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
        raise ValueError(f"patience must be an integer >= 1, got {patience!r}")

    def rule(logits: Tensor, h: Tensor) -> Tensor:
        said = logits[-patience - 1 :].argmax(-1)  # (at most patience + 1, n)
        return (said == said[-1]).all(0) & (len(said) > patience)

    return rule


def learned_gate(gates: Sequence[nn.Module], threshold: float = 0.5) -> Rule:
    """Stop at exit k where sigmoid(gates[k](h)) is at least `threshold`, 0 to 1.

    Args:
        gates: one for each exit but the last: of `train_gates`, or of a `DifferentiableBranching`.
    """
    _check_share("threshold", threshold)
    return lambda logits, h: _gate_logit(gates[len(logits) - 1], h).sigmoid() >= threshold


class Exited(NamedTuple):
    """Where inference stopped, and with which prediction."""

    logits: Tensor  # (B, C)
    exit_index: Tensor  # (B,) int64, 0 to K-1


@torch.no_grad()
def infer(net: EarlyExitNet, x: Tensor, rule: Rule, *, ensemble: Callable[[Tensor], Tensor] | None = None) -> Exited:
    """Run the exits one after the other, each block only on the examples that no exit before it let go.

    After each block the batch is compacted: what has left is not computed further. The last exit takes whoever is left,
    and is not asked by the rule. No gradient; call `net.eval()` first if a block behaves otherwise in training.

    Args:
        x: (B, ...), B may be 0.
        rule: (logits so far (k, n, C), state h (n, ...)) -> (n,) bool, True to stop; a function above or your own.
        ensemble: `arithmetic_ensemble` or `geometric_ensemble`: decide and answer by it; by exit k alone if None.
    """
    undecided = torch.arange(len(x), device=x.device)  # (n,)
    for k, (block, head) in enumerate(zip(net.blocks, net.heads, strict=True)):
        x = block(x)
        now = head(x).unsqueeze(0)
        if k == 0:
            result, seen = Exited(torch.empty_like(now[0]), torch.empty_like(undecided)), now
        else:
            seen = torch.cat([seen, now])  # (k, n, C)
        logits = seen if ensemble is None else ensemble(seen)
        if k == len(net.blocks) - 1:
            stop = undecided.new_ones(len(undecided), dtype=torch.bool)
        else:
            stop = rule(logits, x)
            if stop.shape != undecided.shape or stop.dtype != torch.bool:
                got = f"{tuple(stop.shape)} of {stop.dtype}"
                raise ValueError(f"rule must return ({len(undecided)},) of torch.bool at exit {k}, got {got}")
        leaving = stop.nonzero().squeeze(-1)
        if len(leaving):
            result.logits[undecided[leaving]] = logits[-1, leaving]
            result.exit_index[undecided[leaving]] = k
        if len(leaving) == len(undecided):
            break
        if len(leaving):
            staying = (~stop).nonzero().squeeze(-1)
            undecided, x, seen = undecided[staying], x[staying], seen[:, staying]
    return result


def arithmetic_ensemble(exit_logits: Tensor) -> Tensor:
    """At each exit the mean of the probabilities so far: logits (K, B, C) -> log-probabilities (K, B, C).

    Source: Qendro et al. 2021, Early exit ensembles for uncertainty quantification.
    """
    return exit_logits.log_softmax(-1).logcumsumexp(0) - _counts(exit_logits).log()


def geometric_ensemble(exit_logits: Tensor) -> Tensor:
    """At each exit the geometric mean of the probabilities so far, normalised: logits -> log-probabilities, (K, B, C).

    One exit that finds a class impossible forbids it. Source: Wołczyk et al. 2021, Zero time waste: there with learned
    weights and a bias for each class.
    """
    return (exit_logits.log_softmax(-1).cumsum(0) / _counts(exit_logits)).log_softmax(-1)


# ---------------------------------------------------------------------------------------------- learning where to stop


class DifferentiableBranching(nn.Module):
    """Exits with gates, trained by one loss: f̃_k = g_k · f_k + (1 - g_k) · f̃_{k+1}, and f̃_K = f_K.

    f_k are the exits' probabilities, g_k = σ(gates[k](h_k)). Unrolled, the recursion is the mixture Σ_k z_k · f_k with
    the weights of `stick_breaking`: x (B, ...) -> (probabilities f̃_1 (B, C), choice among K exits).

    Train on the cross-entropy of f̃_1 plus `expected_cost(choice, costs).mean()` times a price. This is dense, every
    block runs. At test time either this, or the gates as a rule: `infer(net, x, learned_gate(gates))`; where the gates
    are hard, 0 or 1, both say the same.

    Args:
        net: the blocks and heads.
        gates: one for each exit but the last: h_k -> (B,) or (B, 1), the logit of stopping.
        choose: gate logits (B, K - 1) -> choice among K.

    Source: Scardapane et al. 2020, Differentiable branching in deep networks for fast inference.
    """

    def __init__(
        self,
        net: EarlyExitNet,
        gates: Iterable[nn.Module],
        *,
        choose: Callable[[Tensor], Choice] = stick_breaking,
    ):
        super().__init__()
        self.net, self.gates, self.choose = net, nn.ModuleList(gates), choose
        _check_gates(net, self.gates)

    def forward(self, x: Tensor) -> tuple[Tensor, Choice]:
        states = self.net.states(x)
        predictions = self.net.classify(states).softmax(-1).movedim(0, 1)  # (B, K, C)
        stops = [_gate_logit(gate, h) for gate, h in zip(self.gates, states, strict=False)]
        choice = self.choose(torch.stack(stops, -1) if stops else predictions.new_zeros(len(x), 0))
        exits = [itemgetter((slice(None), k)) for k in range(predictions.shape[1])]
        return mix(predictions, choice.weights, exits), choice


def expected_cost(choice: Choice, costs: Sequence[float]) -> Tensor:
    """Σ_k z_k · c_k for each example (B,): the recursion of `DifferentiableBranching` over the cumulative costs c_k.

    Args:
        costs: of everything up to and including exit k, K numbers in any unit; a share of the whole network's is handy.

    Source: Scardapane et al. 2020, Differentiable branching in deep networks for fast inference.
    """
    c = torch.as_tensor(costs, dtype=choice.weights.dtype, device=choice.weights.device)
    if c.shape != choice.weights.shape[-1:] or not c.isfinite().all():
        raise ValueError(f"costs must be {choice.weights.shape[-1]} finite numbers, one for each exit, got {costs!r}")
    return choice.weights @ c


def _counts(exit_logits: Tensor) -> Tensor:
    """1 to K as (K, 1, 1), of the dtype of the logits."""
    return torch.arange(1, len(exit_logits) + 1, device=exit_logits.device).to(exit_logits).reshape(-1, 1, 1)


def _gate_logit(gate: nn.Module, h: Tensor) -> Tensor:
    logit = gate(h)
    if logit.shape not in ((len(h),), (len(h), 1)):
        raise ValueError(
            f"gates must return ({len(h)},) or ({len(h)}, 1), one logit an example, got {tuple(logit.shape)}"
        )
    return logit.reshape(len(h))


def _check_gates(net: EarlyExitNet, gates: Sequence[nn.Module]) -> None:
    if len(gates) != len(net.blocks) - 1:
        wanted = f"one for each exit but the last, {len(net.blocks) - 1}"
        raise ValueError(f"gates must be {wanted}, got {len(gates)}")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {value!r}")
