"""The checks behind the notebooks' exercises. Each takes a learner's answer, and tells the likely mistake by its trace.

A check raises `NotAttempted` or `Wrong(hint)`, or returns a sentence of praise that adds something.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lecture_lib.simplex import entmax


class NotAttempted(Exception):
    """The three dots are still there."""


class Wrong(Exception):
    """The answer is not right; the message is a hint, not the solution."""


def _tensor(value: object, shape: tuple[int, ...]) -> Tensor:
    if value is None or value is ...:
        raise NotAttempted
    if not isinstance(value, Tensor) or value.shape != shape:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise Wrong(f"the result should be a tensor of shape {shape}, it is {got}.")
    return value.float()


def run_what_is_chosen(answer: Callable[[Tensor, Tensor, list[Callable]], Tensor]) -> str:
    """Σ_k z_k · f_k(x): inputs (N, D), weights (N, K) and K modules in, (N, C) out; zeros are not computed."""
    x = torch.tensor([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0], [-2.0, 1.0], [1.5, 1.5]])
    z = torch.tensor([[0, 1.0, 0], [0.5, 0, 0], [0, 0.25, 0], [0.5, 0.75, 0], [1.0, 0, 0]])  # nobody chose the third
    weights = (torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]]), torch.tensor([[2.0, 0.0, 1.0], [1.0, 1.0, 0.0]]))
    rows, before = [0, 0, 0], (x.clone(), z.clone())

    def module(k: int) -> Callable[[Tensor], Tensor]:
        def run(some: Tensor) -> Tensor:
            rows[k] += len(some)
            return some @ weights[k % 2] + k + 1

        return run

    modules = [module(k) for k in range(3)]
    wanted = sum(z[:, k, None] * modules[k](x) for k in range(3))
    rows[:] = [0, 0, 0]
    y = _tensor(answer(x, z, modules), (5, 3))
    if not (torch.equal(x, before[0]) and torch.equal(z, before[1])):
        raise Wrong("the function changed what it was given; return a new tensor.")
    if torch.allclose(y, wanted):
        if sum(rows) > 6:
            raise Wrong(f"the sum is right, and {sum(rows)} rows were run for it; 6 weights are not zero.")
        return "This is what the library's mix_sparse does; with one module a row, it is a layer of experts."
    ones = sum((z[:, k, None] > 0) * modules[k](x) for k in range(3))
    if torch.allclose(y, ones):
        raise Wrong("every module that was chosen counts in full; where does its weight enter?")
    best = z.argmax(-1, keepdim=True)
    if torch.allclose(y, sum(((best == k) * z[:, k, None]) * modules[k](x) for k in range(3))):
        raise Wrong("a row may have chosen two modules, and row 4 did: both have to be added.")
    if torch.allclose(y.sum(0), wanted.sum(0)):
        raise Wrong("all that is needed was computed, but it came back in other rows than it belongs to.")
    row = int((y - wanted).abs().amax(-1).argmax())
    raise Wrong(f"row {row + 1} should be {wanted[row].tolist()}, it is {y[row].tolist()}.")


def forbid(answer: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Scores and a mask of allowed options in, scores out that never choose a forbidden one."""
    logits = torch.tensor([[1.3, 0.2, 0.7, -2.0], [0.4, 5.0, -1.0, 0.5]])
    allowed = torch.tensor([[True, False, True, True], [False, True, True, False]])
    before = logits.clone()
    scores = _tensor(answer(logits, allowed), (2, 4))
    if not torch.equal(logits, before):
        raise Wrong("the function changed the scores that it was given; return new ones.")
    if scores.isnan().any():
        raise Wrong("there is a NaN: 0 · ∞ is not a number. Select instead of multiplying.")
    p = scores.softmax(-1)
    if (scores[~allowed] == 0).any():
        raise Wrong("a score of 0 is a score like any other: softmax turns it into exp(0) = 1.")
    if (p[allowed] == 0).any():
        raise Wrong("an allowed option has probability 0: is the mask the wrong way round?")
    if (p[~allowed] > 0).any():
        raise Wrong(
            f"a forbidden option still has probability {p[~allowed].max():.1e}. Which score gives exactly zero?"
        )
    odds = torch.where(allowed, before.exp(), 0)
    if not torch.allclose(p, odds / odds.sum(-1, keepdim=True)):
        raise Wrong("the odds among the allowed options have changed; their scores should stay as they are.")
    return "exp(-∞) is exactly 0, so softmax, Gumbel-Softmax and argmax all agree that the option is gone."


def keep_or_discard(answer: Callable[[Tensor, float, torch.Generator], Tensor]) -> str:
    """A relaxed coin: scores (N,) in, keep (N,) in (0, 1) out, the case k = 2 of Gumbel-Softmax in one number."""
    score, temperature, n = 1.0, 0.5, 20_000
    logits = torch.full((n,), score, requires_grad=True)
    keep = _tensor(answer(logits, temperature, torch.Generator().manual_seed(0)), (n,))
    if not keep.requires_grad:
        raise Wrong("no gradient reaches the score: a comparison or an argmax cut it off.")
    keep = keep.detach().double()
    if not ((keep >= 0) & (keep <= 1)).all():
        raise Wrong("keep should lie between 0 and 1.")
    if keep.std() < 1e-6:
        raise Wrong("every draw is the same: where is the noise?")
    share, wanted = (keep > 0.5).double().mean().item(), torch.tensor(score).sigmoid().item()
    if abs(share - torch.tensor(score / temperature).sigmoid().item()) < 0.015:
        raise Wrong("the temperature divides the noisy score: the noise as well.")
    if abs(share - wanted) > 0.015:
        raise Wrong(
            f"keep > 1/2 in {share:.0%} of the draws, it should be sigmoid(1) = {wanted:.0%}. Two options have two"
            " Gumbels; what matters is their difference."
        )
    noise = temperature * keep.logit(eps=1e-12) - score  # what was added, if all is right: logistic, quartiles ± log 3
    if abs(noise.quantile(0.75) - 1.0986) > 0.08:
        raise Wrong("the coin is fair, its sharpness is not: how does the temperature enter?")
    return "The difference of two Gumbels is logistic, so two-way Gumbel-Softmax is a noisy sigmoid."


def entmax_15(answer: Callable[[Tensor], Tensor]) -> str:
    """1.5-entmax by bisection: scores (N, K) in, weights (N, K) out, a threshold for each row."""
    s = torch.tensor([[1.3, 0.2, 0.7, -0.4], [0.0, 0.1, 0.0, 0.2], [4.0, 1.0, 0.5, 3.1], [7.0, 7.5, 9.0, 7.2]])
    before, wanted = s.clone(), entmax(s, 1.5)
    p = _tensor(answer(s), (4, 4)).detach()
    if not torch.equal(s, before):
        raise Wrong("the function changed the scores that it was given; work on a copy.")

    def close(other: Tensor) -> bool:
        return torch.allclose(p, other, atol=1e-3)

    if close(wanted):
        return "The same loop serves every α > 1: only the exponent changes, 1/(α-1), and s/2 becomes (α-1) s."
    if close(s.softmax(-1)):
        raise Wrong("this is softmax: it has no zeros.")
    if close(entmax(s, 2)):
        raise Wrong("this is sparsemax, of the whole scores and without the square.")
    if close(entmax(s / 2, 2)):
        raise Wrong("the weights sum to 1, but what stands out above τ must be squared.")
    if close(entmax(2 * s, 1.5)):
        raise Wrong("the scores are halved before the threshold is taken off.")
    wrong = (p.sum(-1) - 1).abs() > 5e-3
    if wrong.any():
        row = int(wrong.nonzero()[0])
        got = f"the weights for the scores [{', '.join(f'{score:g}' for score in s[row])}] sum to {p[row].sum():.3f}"
        if not wrong.all() or abs(p.sum() / len(p) - 1) < 5e-3:
            raise Wrong(f"{got}, other rows do better. Every row has its own τ, and its own interval to look in.")
        raise Wrong(f"{got}. Does the interval hold τ, and is it halved often enough?")
    raise Wrong("the weights sum to 1, but not by a threshold: dividing by the sum is not the same as finding τ.")


def smallest_lead(answer: Callable[[float], float]) -> str:
    """The lead from which on entmax with α > 1 drops the second of two options."""
    for alpha in (1.5, 2.0, 1.25, 3.0):
        lead, right = answer(alpha), 1 / (alpha - 1)
        if lead is None or lead is ...:
            raise NotAttempted
        try:
            lead = float(lead)
        except (TypeError, ValueError):
            raise Wrong(f"the result should be a number, it is {type(lead).__name__}.") from None
        if abs(lead - right) <= 0.01 * right:
            continue
        if alpha < 2 and abs(lead * right - 1) < 0.02:
            raise Wrong("upside down: the sparser the map, the smaller the lead that it needs.")
        if alpha in (1.5, 2.0):
            raise Wrong(f"for α = {alpha:g} you get {lead:.3g}, and the picture of the family shows another lead.")
        raise Wrong(
            f"right for 1.5 and 2, but for α = {alpha:g} you get {lead:.3g}: try entmax with a lead just below."
        )
    return "For α → 1 the lead grows without bound: softmax never drops anyone."


def leave_one_out_baseline(answer: Callable[[Tensor], Tensor]) -> str:
    """Costs (S, B) of S samples for each of B inputs in; for every sample the mean cost of the others out, (S, B)."""
    costs = torch.tensor([[1.0, 5.0, 0.5], [0.0, 3.0, 2.5], [2.0, 8.0, 1.0], [4.0, 1.0, 0.0]])
    before, n = costs.clone(), len(costs)
    total, others = costs.sum(0), costs.sum(0) - costs
    b = _tensor(answer(costs), (4, 3)).detach()
    if not torch.equal(costs, before):
        raise Wrong("the function changed the costs that it was given; return new numbers.")

    def close(other: Tensor) -> bool:
        return torch.allclose(b, other.expand(4, 3), atol=1e-5)

    if close(others / (n - 1)):
        if not torch.allclose(_tensor(answer(costs[:2]), (2, 3)), costs[[1, 0]]):
            raise Wrong("right for 4 samples, but for 2 each one's baseline should be the other one's cost.")
        return "Every sample is judged, and judges its siblings: S costs, S baselines, no extra evaluation, no bias."
    if close(total / n):
        raise Wrong("each mean holds the sample's own cost, and shrinks the gradient by 1/S: that is a bias.")
    if close(others / n):
        raise Wrong("each sum leaves one out, but is divided as if it did not: how many others are there?")
    if close(others):
        raise Wrong("this is the sum of the others' costs, not their mean.")
    if close(costs - others / (n - 1)):
        raise Wrong("this is the cost minus the baseline; `surrogate` will subtract it.")
    if close(-others / (n - 1)):
        raise Wrong("the sign: a baseline is a cost, and `surrogate` subtracts it.")
    if close((costs.sum(1, keepdim=True) - costs) / 2):
        raise Wrong("this compares different inputs with each other. Along which dimension are the samples?")
    if close(torch.cat([torch.zeros(1, 3), costs.cumsum(0)[:-1] / torch.arange(1, n)[:, None]])):
        raise Wrong("this is the mean of the samples before; all the others may be used, those after as well.")
    got = [round(value, 2) for value in b[:, 0].tolist()]
    raise Wrong(f"for the costs {before[:, 0].tolist()} of one input you get {got}.")


def best_baseline(answer: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Probabilities and costs (K,) in, the constant baseline of least variance out, a tensor without dimensions."""
    pi, costs = torch.tensor([0.6, 0.25, 0.1, 0.05]), torch.tensor([1.0, 3.0, -2.0, 6.0])
    v = torch.eye(4) - pi
    square = (v**2).sum(-1)  # |∇ log π_k|²
    b = _tensor(answer(pi.clone(), costs.clone()), ()).item()

    def close(weights: Tensor) -> bool:
        return abs(b - ((weights * costs).sum() / weights.sum()).item()) < 1e-4

    if close(pi * square):
        return "For one bit it is p · cost(0) + (1 - p) · cost(1), probabilities swapped, and no variance is left."
    if close(pi):
        raise Wrong("this is the expected cost: good, but draws with a long gradient should count for more.")
    if close(torch.ones(4)):
        raise Wrong("this is the plain mean of the costs: options that are never drawn should not count.")
    if close(pi * square.sqrt()):
        raise Wrong("nearly: it is the square of the length of v that stands in the expectation.")
    if close(square):
        raise Wrong("the lengths are there, the probabilities are not: the expectation is over k drawn from pi.")
    if close(pi * (1 - pi) ** 2):
        raise Wrong("v has an entry for every score, not only for the one of the option drawn.")
    if abs(b - (pi * square * costs).sum().item()) < 1e-4:
        raise Wrong("a weighted mean is divided by the sum of its weights.")
    spread = [((pi * (costs - x) ** 2 * square).sum()).item() for x in (b, b + 0.1, b - 0.1)]
    side = "higher" if spread[1] < spread[2] else "lower"
    raise Wrong(f"at {b:.2f} the variance is not smallest: a {side} baseline has less.")


def scan(answer: Callable[[Callable, Tensor, Tensor], Tensor]) -> str:
    """A fold that returns every state: step, first state and inputs (T, ...) in, (T, ...) states out."""
    first, xs = torch.tensor([1.0, 2.0]), torch.tensor([[3.0, 1.0], [0.0, 4.0], [5.0, 2.0], [1.0, 1.0]])

    def step(state: Tensor, x: Tensor) -> Tensor:
        return 0.5 * state + x

    def states(state: Tensor, inputs: Tensor, step: Callable = step) -> Tensor:
        return torch.stack([state := step(state, x) for x in inputs])

    given = answer(step, first, xs)
    right = states(first, xs)
    if isinstance(given, list | tuple):
        raise Wrong("the states are in a list: torch.stack makes one tensor of them.")
    if isinstance(given, Tensor) and given.shape == first.shape:
        raise Wrong("that is one state, the result of a fold; a scan returns the state after each input.")
    if isinstance(given, Tensor) and given.shape == (5, 2):
        raise Wrong("five states for four inputs: the first state was given, it is not a result.")
    given = _tensor(given, (4, 2))
    if torch.allclose(given, torch.cat([first.unsqueeze(0), right[:-1]])):
        raise Wrong("these are the states before each input; wanted are those after it.")
    mistakes = {
        "every input met the first state: hand each step the state that the step before returned.": 0.5 * first + xs,
        "the first state is not used: it is the second argument.": states(torch.zeros(2), xs),
        "the inputs were read from the last to the first.": states(first, xs.flip(0)),
        "step takes the state first, then the input.": states(first, xs, lambda state, x: step(x, state)),
        "the states are right, in the wrong order.": right.flip(0),
    }
    mistakes["the inputs were read from the last to the first, and the result turned round."] = states(
        first, xs.flip(0)
    ).flip(0)
    for hint, wrong in mistakes.items():
        if torch.allclose(given, wrong):
            raise Wrong(hint)
    if not torch.allclose(given, right):
        raise Wrong("the states differ from those of a fold. Print them for step = lambda state, x: state + x.")
    return "With a linear step, a scan can run in parallel over time; modern state-space models live from that."


def block_flops(answer: Callable[[int, int], float]) -> str:
    """Matrix products of one transformer block: tokens and width in, FLOPs out, a multiply-add counted as 2."""
    tokens, width = 10, 32
    given = answer(tokens, width)
    if given is None or given is ...:
        raise NotAttempted
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise Wrong(f"the result should be a number, it is {type(given).__name__}.")
    mlp, square, once = 2 * tokens * width * 8 * width, 2 * tokens * width * width, 2 * tokens * tokens * width
    right = mlp + 4 * square + 2 * once
    mistakes = {
        right / 2: "exactly half: a multiply-add is two operations.",
        right - 2 * once: "attention itself is missing: the scores, and the mean of the values.",
        right - once: "tokens meet tokens twice: once for the scores, once for the mean of the values.",
        right - square: "one of the four D × D products is missing: queries, keys, values, and the output.",
        right - 3 * square: "queries, keys and values are missing: D → 3D.",
        right - 2 * square: "queries, keys and values are three products D × D.",
        right - mlp: "the MLP is missing, and it is the largest part.",
        right - mlp / 2: "the MLP has two layers: D → 4D and 4D → D.",
        right / tokens: "that is the cost of one token; the block runs on all of them.",
        mlp + 4 * square + 2 * 2 * tokens * tokens: "each of the T × T pairs of tokens costs D multiply-adds, not one.",
    }
    for wrong, hint in mistakes.items():
        if abs(given - wrong) < 0.5:
            raise Wrong(hint)
    if not abs(given - right) <= 0.5:  # NaN as well
        raise Wrong(
            f"for 10 tokens of width 32 it gives {given:,.0f}. Write down each product with its shapes, and add."
        )
    tokens, width = 50, 24
    if not abs(answer(tokens, width) - (24 * tokens * width**2 + 4 * tokens**2 * width)) <= 0.5:
        raise Wrong("right for 10 tokens of width 32, not for 50 of width 24: which number should be a name?")
    return "24·T·D² + 4·T²·D: half of the tokens cost a little less than half, and half of the width about a quarter."


def share_left(answer: Callable[[float, int, int], float]) -> str:
    """Share of tokens kept, their number and width in; the share of a block's FLOPs that remains out."""
    share = answer(0.5, 64, 32)
    if share is None or share is ...:
        raise NotAttempted
    try:
        share = float(share)
    except (TypeError, ValueError):
        raise Wrong(f"the result should be a number, it is {type(share).__name__}.") from None
    linear, square = 24 * 64 * 32**2, 4 * 64**2 * 32
    right = (linear / 2 + square / 4) / (linear + square)
    if abs(share - 0.5) < 1e-6:
        raise Wrong("half of the tokens cost less than half: attention is quadratic in their number.")
    if abs(share - 0.25) < 1e-6:
        raise Wrong("only attention itself is quadratic; the matrix products are linear in the tokens.")
    if abs(share - (linear / 2 + square / 4)) < 1:
        raise Wrong("these are the FLOPs that remain; asked is their share.")
    if abs(share - (1 - right)) < 1e-6:
        raise Wrong("this is the share that is saved, not the one that remains.")
    if abs(share - (linear / 2 + square / 2) / (linear + square)) < 1e-6 or not abs(share - right) <= 1e-6:
        raise Wrong(f"for half of 64 tokens of width 32 you get {share:.4g}. Put kept · tokens where n stands.")
    if not abs(answer(0.25, 1000, 8) - (24 * 250 * 64 + 4 * 250**2 * 8) / (24 * 1000 * 64 + 4 * 1000**2 * 8)) <= 1e-6:
        raise Wrong("right for half of 64 tokens, not for a quarter of 1,000: which number should be a name?")
    return "Between kept and kept²: the longer the sequence, the nearer to the square."


def batch_budget(answer: Callable[[Tensor, float], Tensor]) -> str:
    """Scores (B, T) and a budget in; the mask of the best round(budget · B · T) of the whole batch out."""
    scores = torch.tensor([[3.0, 2.5, 2.0, 1.5, 1.0], [0.5, -1.0, -2.0, 0.2, -3.0], [2.2, 0.1, 0.8, -4.0, -1.5]])
    before = scores.clone()
    mask = _tensor(answer(scores, 0.4), (3, 5))
    if not torch.equal(scores, before):
        raise Wrong("the function changed the scores that it was given; return a mask.")
    if mask.unique().numel() > 2 or not set(mask.double().unique().tolist()) <= {0.0, 1.0}:
        raise Wrong("the mask should hold True and False (or 1 and 0).")
    mask = mask.bool()
    best = torch.zeros(15, dtype=torch.bool).index_fill(0, before.flatten().topk(6).indices, True).view(3, 5)
    if torch.equal(mask, best):
        few = _tensor(answer(before.clone(), 0.1), (3, 5)).bool().sum().item()
        if few != 2:
            raise Wrong(f"right for 40 %, but of 15 patches 10 % are round(1.5) = 2, and you keep {few}.")
        return "One image keeps all five, one a single patch, one none: that is what a top-k per image cannot do."
    per_image = torch.zeros(3, 5, dtype=torch.bool).scatter(1, before.topk(2).indices, True)
    if torch.equal(mask, per_image):
        raise Wrong("every image keeps two: the budget is the batch's, and the second image needs less than the first.")
    if torch.equal(mask, ~best):
        raise Wrong("these are the patches to discard.")
    if torch.equal(mask, before > 0):
        raise Wrong("a threshold of 0 keeps what it likes; where must it stand so that the budget is met?")
    if int(mask.sum()) == 9:
        raise Wrong("nine are kept: that is the share to discard.")
    raise Wrong(f"{int(mask.sum())} of 15 are kept, it should be the best 6.")


def patience_exit(answer: Callable[[Tensor, int], Tensor]) -> str:
    """Predictions (K, N) and a patience in, the exit (N,) at which that many in a row have agreed out."""
    said = torch.tensor(
        [[3, 1, 4, 1, 6, 9], [3, 2, 4, 2, 0, 8], [3, 2, 7, 3, 0, 8], [3, 2, 7, 4, 6, 8], [3, 5, 7, 5, 6, 8]]
    )
    wanted = torch.tensor([2, 3, 4, 4, 4, 3])
    given = _tensor(answer(said.clone(), 2), (6,)).long()
    mistakes = {
        (2, 3, 3, 4, 4, 3): "the counter does not start again at 0 when an exit disagrees (third example).",
        (1, 2, 1, 4, 2, 2): "too early: two agreements need three predictions.",
        (3, 4, 4, 4, 4, 4): "too late: two agreements are enough.",
        tuple((wanted + 1).tolist()): "off by one: exits count from 0.",
        (2, 3, 4, 0, 0, 3): "an example whose exits do not agree for long enough leaves at the last, not at the first.",
        (4, 3, 4, 4, 4, 4): "an example leaves the first time the counter is full, and does not come back.",
    }
    for wrong, hint in mistakes.items():
        if tuple(given.tolist()) == wrong:
            raise Wrong(hint)
    if not torch.equal(given, wanted):
        place = int((given != wanted).nonzero()[0])
        raise Wrong(f"with patience 2 and the predictions {said[:, place].tolist()} you get exit {given[place]}.")
    if not torch.equal(_tensor(answer(said.clone(), 1), (6,)).long(), torch.tensor([1, 2, 1, 4, 2, 2])):
        raise Wrong("right for patience 2, not for 1: which number should be a name?")
    return "No threshold, no probabilities: patience works for any model that answers more than once."


def mean_flops(answer: Callable[[Tensor, int, int], float]) -> str:
    """Exits (N,), the FLOPs of a block and of a head in; the mean FLOPs of an example out."""
    given = answer(torch.tensor([0, 1, 3, 3, 2, 3]), 1000, 10)
    if given is None or given is ...:
        raise NotAttempted
    try:
        given = float(given)
    except (TypeError, ValueError, RuntimeError):  # torch raises the last
        raise Wrong("the result should be one number.") from None
    mistakes = {
        3000: "the heads are missing.",
        3010: "an example that leaves at exit 2 was asked at exits 0 and 1, too: every head on the way has run.",
        3020: "the head at which an example leaves has run, too.",
        2020: "off by one: who leaves at exit 0 has run one block and one head.",
        2030: "off by one: who leaves at exit 0 has run one block.",
        18180: "that is the sum over the examples, not the mean.",
        4040: "that is what the slowest example costs; the others are not computed any more.",
    }
    for wrong, hint in mistakes.items():
        if abs(given - wrong) < 0.5:
            raise Wrong(hint)
    if not abs(given - 3030) <= 0.5:  # NaN as well
        raise Wrong(f"for exits 0, 1, 3, 3, 2, 3 with 1000 a block and 10 a head it should be 3030, it is {given:g}.")
    if not abs(float(answer(torch.tensor([1, 0, 0, 1]), 8, 4)) - 18) <= 0.01:
        raise Wrong("right for six examples, not for four: which number should be a name?")
    return "Asking everywhere costs a head a block: cheap with ten classes, dear with a vocabulary of 50,000."


def oracle_exit(answer: Callable[[Tensor], Tensor]) -> str:
    """Predictions (L, T) in; for each token the first exit from which on all agree with the last out, (T,)."""
    predictions = torch.tensor([[5, 5, 1, 2, 9, 7], [5, 3, 1, 4, 2, 6], [5, 5, 8, 4, 2, 7], [5, 5, 1, 4, 3, 7]])
    wanted = torch.tensor([0, 2, 3, 1, 3, 2])
    exits = _tensor(answer(predictions.clone()), (6,)).long()
    if torch.equal(exits, wanted):
        return "It needs all layers to know that it did not need them: a yardstick, not a method."
    agrees = predictions == predictions[-1]
    if torch.equal(exits, agrees.long().argmax(0)):
        raise Wrong("a prediction may be right, change, and come back: token 2 agrees at exit 0, not at exit 1.")
    if torch.equal(exits, wanted + 1):
        raise Wrong("off by one: exits count from 0; what you return is how many layers run.")
    if torch.equal(exits, agrees.sum(0)) or torch.equal(exits, 4 - agrees.sum(0)):
        raise Wrong("counting the exits that agree does not tell which: agreement may have a gap.")
    steady = torch.cat([predictions[1:] == predictions[:-1], torch.ones(1, 6, dtype=torch.bool)]).long().argmax(0)
    if torch.equal(exits, steady):
        raise Wrong("two exits in a row that agree with each other may both be wrong; compare with the last.")
    if (exits == 3).all():
        raise Wrong("every token takes all layers.")
    place = int((exits != wanted).nonzero()[0])
    raise Wrong(f"for the predictions {predictions[:, place].tolist()} of one token you get exit {exits[place]}.")


def fixed_sequence(answer: Callable[[list[float], float], int | None]) -> str:
    """p-values from the safest threshold to the boldest and ε in; the index to use, or None, out."""

    def ask(p_values: list[float], error: float = 0.1) -> object:
        index = answer(list(p_values), error)
        if index is ...:
            raise NotAttempted
        if getattr(index, "shape", ()):
            raise Wrong(f"the result should be one index or None, it is of shape {tuple(index.shape)}.")
        return index

    gap = ask([0.01, 0.02, 0.05, 0.3, 0.04, 0.9])  # before anything that may return None: that is not an attempt
    if gap is None and ask([0.01, 0.02]) is None:
        raise NotAttempted
    if gap == 4:
        raise Wrong("after a test that fails nothing counts any more: index 4 was reached by looking further.")
    if gap == 3:
        raise Wrong("index 3 is the first test that fails; the one before it was the last to pass.")
    if gap == 0:
        raise Wrong("index 0 is the safest. Go on while tests pass: bolder saves more.")
    if gap == 1:
        raise Wrong("no correction for many tests is needed: each compares with ε itself.")
    if gap != 2:
        raise Wrong(f"for [0.01, 0.02, 0.05, 0.3, 0.04, 0.9] and ε = 0.1 you get {gap!r}.")
    nothing = ask([0.2, 0.01])
    if nothing is not None:
        raise Wrong(f"if not even the safest passes, the answer is None: use the full model. You get {nothing!r}.")
    everything = ask([0.01, 0.02, 0.03])
    if everything != 2:
        raise Wrong(f"if all three pass, the boldest is the one to use: 2. You get {everything!r}.")
    if ask([0.1, 0.5]) != 0:
        raise Wrong("a p-value equal to ε passes.")
    return "Only the first true hypothesis can be rejected by mistake, and that happens with probability at most ε."


def balance_loss(answer: Callable[[Tensor], Tensor]) -> str:
    """Scores (N, E) in, the balance loss of Switch transformers out: E · Σ f_e P_e, its gradient through P alone."""
    scores = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)).add(torch.tensor([1.0, 0.0, 0.0, 0.5]))
    scores = scores.requires_grad_()
    loss = _tensor(answer(scores), ())
    f, p = torch.nn.functional.one_hot(scores.argmax(-1), 4).float(), scores.softmax(-1)
    right = 4 * (f.mean(0) * p.mean(0)).sum()
    mistakes = {
        (f.mean(0) * p.mean(0)).sum(): "with equal probabilities it gives 1/E, it should give 1.",
        right / 16: "a mean over the experts, where a sum is meant; and E is missing.",
        40 * right: "tokens are counted, or summed, where a share or a mean is meant: it grows with N.",
        4 * (p.mean(0) ** 2).sum(): "f counts the tokens that *go* to an expert; this has the mean probability twice.",
        4 * (f.mean(0) ** 2).sum(): "this has the share of the tokens twice; P is the mean probability.",
        4 * (f.mean(0) * (f * p).mean(0)).sum(): "P is a mean over all tokens, not only over those that chose e.",
        4 * (f * p).sum(-1).mean(): "each token's own f and p are multiplied; take both means first, then multiply.",
        4 * (f.mean(0) * scores.softmax(0).mean(0)).sum(): "softmax over the experts, not over the tokens.",
        4 * (f.mean(0) * scores.mean(0)).sum(): "P is a mean of probabilities, not of scores.",
    }
    for wrong, hint in mistakes.items():
        if torch.isclose(loss, wrong, rtol=1e-4):
            raise Wrong(hint)
    if not torch.isclose(loss, right, rtol=1e-4):
        raise Wrong(f"for the check's scores it should be {right.item():.3f}, it is {loss.item():.3f}.")
    if not loss.requires_grad:
        raise Wrong("the value is right, but no gradient reaches the scores: P must stay attached to them.")
    slope, wanted = (torch.autograd.grad(value, scores)[0] for value in (loss, right))
    if not torch.allclose(slope, wanted, atol=1e-6):
        raise Wrong("the value is right, its gradient is not: f is a count, and a constant for the gradient.")
    return "The busiest experts have the largest f, so their probability is pushed down hardest."


def dropped_by_chance(answer: Callable[[int, int, int], float]) -> str:
    """N tokens draw one of E experts with room for C each: the expected share of the tokens that finds no room."""

    def chances(n: int, e: int) -> list[float]:
        return [math.comb(n, m) * (1 / e) ** m * (1 - 1 / e) ** (n - m) for m in range(n + 1)]

    def share(n: int, e: int, room: int) -> float:
        return e * sum(max(m - room, 0) * q for m, q in enumerate(chances(n, e))) / n

    n, e, room = 12, 4, 4
    given = answer(n, e, room)
    if given is None or given is ...:
        raise NotAttempted
    try:
        given = float(given)
    except (TypeError, ValueError):
        raise Wrong(f"the result should be a number, it is {type(given).__name__}.") from None
    q, right = chances(n, e), share(n, e, room)
    mistakes = {
        0.0: "on average an expert gets 3 tokens and has room for 4, and yet some are dropped: the mean of the overflow"
        " is not the overflow of the mean.",
        right / e: "that is what one expert drops; there are E of them.",
        right * n: "that is a number of tokens; which share of N is it?",
        right * n / e: "that is the number of tokens that one expert drops.",
        sum(q[room + 1 :]): "that is the chance that an expert overflows. By how many tokens?",
        sum(q[room:]): "that is the chance that an expert is full. By how many tokens does it overflow?",
        share(n, e, room - 1): "an expert has room for C tokens, not for C - 1.",
        e * sum(m * q[m] for m in range(room + 1, n + 1)) / n: "an expert that overflows keeps C of its tokens.",
    }
    for wrong, hint in mistakes.items():
        if math.isclose(given, wrong, rel_tol=1e-4, abs_tol=1e-9):
            raise Wrong(hint)
    if not math.isclose(given, right, rel_tol=1e-4):
        raise Wrong(f"for 12 tokens, 4 experts and room for 4, it should be {right:.4f}, it is {given:.4f}.")
    n, e, room = 30, 6, 7
    if not math.isclose(float(answer(n, e, room)), share(n, e, room), rel_tol=1e-4):
        raise Wrong("right for 12 tokens and 4 experts, not for 30 and 6: which number should be a name?")
    return "With few tokens for each expert chance alone overfills some, though there is room for a third more."


def groups(answer: Callable[[Tensor, int], tuple[Tensor, Tensor]]) -> str:
    """Chosen experts (N, k) in; tokens sorted by expert (N·k,) and the end of each expert's group (E,) out."""
    for chosen, n_experts in (([[0, 2], [2, 0], [3, 2], [0, 3], [2, 3]], 5), ([[1], [0], [1], [2]], 3)):
        chosen = torch.tensor(chosen)
        n, k = chosen.shape
        given = answer(chosen.clone(), n_experts)
        if given is None or given is ...:
            raise NotAttempted
        if not (isinstance(given, tuple) and len(given) == 2):
            raise Wrong(f"the result should be two tensors, token and ends, it is {type(given).__name__}.")
        counts = chosen.flatten().bincount(minlength=n_experts)
        if isinstance(given[1], Tensor) and len(given[1]) == n_experts - 1:
            raise Wrong(
                f"of {n_experts} experts you name {n_experts - 1}: the last has no token, and a group all the same."
            )
        token, ends = _tensor(given[0], (n * k,)), _tensor(given[1], (n_experts,))
        if torch.equal(ends, counts) and n_experts == 5:
            raise Wrong("those are the sizes of the groups. Where does each end?")
        if torch.equal(ends, counts.cumsum(0) - counts):
            raise Wrong("that is where each group starts; where does it end?")
        if not torch.equal(ends, counts.cumsum(0)):
            raise Wrong(f"for {chosen.tolist()} ends should be {counts.cumsum(0).tolist()}, you get {ends.tolist()}.")
        if token.max() >= n:
            raise Wrong("these are numbers of pairs, not of tokens: pair i belongs to token i // k.")
        wanted = [sorted((chosen == e).nonzero()[:, 0].tolist()) for e in range(n_experts)]
        got = [sorted(part.tolist()) for part in token.split(counts.tolist())]
        if got != wanted:
            e = next(e for e in range(n_experts) if got[e] != wanted[e])
            raise Wrong(
                f"for {chosen.tolist()} the group of expert {e} should have tokens {wanted[e]}, it has {got[e]}."
            )
    return "Two small tensors of integers: all that a grouped product needs to know about routing."


def intensity(answer: Callable[[int, int, int, int], float]) -> str:
    """FLOPs a byte of N tokens through one of E experts each, two matrices D × H and H × D, forward, float32."""

    def parts(n: int, e: int, d: int, h: int) -> tuple[int, int, int]:  # FLOPs, bytes of weights, bytes of rows
        return 4 * n * d * h, 8 * min(n, e) * d * h, 8 * n * (d + h)

    n, e, d, h = 512, 8, 64, 256
    given = answer(n, e, d, h)
    if given is None or given is ...:
        raise NotAttempted
    try:
        given = float(given)
    except (TypeError, ValueError):
        raise Wrong(f"the result should be a number, it is {type(given).__name__}.") from None
    flops, weights, rows = parts(n, e, d, h)
    right = flops / (weights + rows)
    mistakes = {
        4 * right: "that is FLOPs a number; a number in float32 has 4 bytes.",
        2 * right: "that is FLOPs for half of the bytes: float32 has 4 bytes, not 2.",
        right / 2: "a multiply-add is 2 FLOPs.",
        1 / right: "that is bytes a FLOP; it is asked the other way round.",
        flops / weights: "the rows are missing: they are read and written as well.",
        flops / rows: "the weights are missing: each expert that has a token is read once.",
        flops / (weights / e + rows): "that reads the weights of one expert; here 8 experts have tokens.",
        flops / (weights + rows / 2): "two products, and each reads its rows and writes its results.",
        flops / (n * weights / e + rows): "the weights of an expert are read once for all of its tokens, not by each.",
        e * right: "each token runs one expert, not all of them.",
    }
    for wrong, hint in mistakes.items():
        if math.isclose(given, wrong, rel_tol=1e-4):
            raise Wrong(hint)
    if not math.isclose(given, right, rel_tol=1e-4):
        raise Wrong(f"for 512 tokens, 8 experts, width 64, hidden 256, it should be {right:.2f}, it is {given:.2f}.")
    n, e, d, h = 4, 32, 64, 128
    flops, weights, rows = parts(n, e, d, h)
    few = float(answer(n, e, d, h))
    if math.isclose(few, flops / (8 * weights + rows), rel_tol=1e-4):
        raise Wrong("right for many tokens; but 4 tokens touch 4 of 32 experts, and the others are not read.")
    if not math.isclose(few, flops / (weights + rows), rel_tol=1e-4):
        raise Wrong(f"for 4 tokens, 32 experts, width 64, hidden 128, it should be {flops / (weights + rows):.3f}.")
    return "About t / 2 for t tokens an expert: compare it with the ridge of your machine, and you know what binds."


def elect_and_merge(answer: Callable[[Tensor], Tensor]) -> str:
    """Trimmed task vectors (K, n) in, their merger (n,) out: the sign of the sum, the mean of those who agree."""
    tau = torch.tensor([
        [3.0, 1.0, 2.0, 0.0, -1.0, 0.0, 0.5],
        [-1.0, 1.0, 0.0, 0.0, -2.0, 4.0, -3.0],
        [-1.0, -5.0, 4.0, 0.0, 0.0, -1.0, 1.0],
    ])  # fmt: skip
    before, n = tau.clone(), len(tau)
    merged = _tensor(answer(tau), (7,)).detach()
    if not torch.equal(tau, before):
        raise Wrong("the function changed the vectors that it was given; return a new one.")

    def close(agrees: Tensor, count: Tensor | int) -> bool:
        return torch.allclose(merged, torch.where(agrees, tau, 0).sum(0) / count, equal_nan=True)

    agrees = tau * tau.sum(0).sign() > 0
    if close(agrees, agrees.sum(0).clamp(min=1)):
        return "A plain mean lets many small noes shrink a large yes; here those who disagree do not count."
    everybody, votes = torch.ones_like(agrees), tau * tau.sign().sum(0).sign() > 0
    if merged.isnan().any():
        raise Wrong("there is a NaN: on some entry nobody votes, and 0/0 is not a number.")
    if close(everybody, n):
        raise Wrong("this is the plain mean: those who disagree count as well.")
    if close(everybody, (tau != 0).sum(0).clamp(min=1)):
        raise Wrong("this is the mean of all that is not zero; those of the other sign should not count.")
    if close(votes, votes.sum(0).clamp(min=1)):
        raise Wrong("the sign is that of the sum, not of the majority: one large entry may outvote two small ones.")
    if close(agrees, 1):
        raise Wrong("the sum of those who agree; take their mean.")
    if close(agrees, n) or close(agrees, (tau != 0).sum(0).clamp(min=1)):
        raise Wrong("the right entries are added up, then divided by too many: how many agree?")
    if close(~agrees & (tau != 0), (~agrees & (tau != 0)).sum(0).clamp(min=1)):
        raise Wrong("these are the ones that disagree.")
    place = int((merged - torch.where(agrees, tau, 0).sum(0) / agrees.sum(0).clamp(min=1)).abs().argmax())
    raise Wrong(f"for the entries {tau[:, place].tolist()} you get {merged[place]:.3g}: which sign has their sum?")


def soup_members(answer: Callable[[list[float], Callable[[list[int]], float]], list[int]]) -> str:
    """Who is in a greedy soup: each network's own score and a function that scores an average in, the members out."""
    # networks of two weights, the best place is (0, 0): each mistake below makes another soup
    w = torch.tensor([[2, -4], [-4, 4], [2, -3], [2, -1], [0, -3], [-3, -3], [-4, 3]], dtype=torch.float64)

    def score(members: list[int]) -> float:
        return -w[list(members)].mean(0).square().sum().item()

    alone = [score([i]) for i in range(len(w))]
    found = answer(list(alone), score)
    if found is None or found is ...:
        raise NotAttempted
    try:
        found = {int(i) for i in found}
    except (TypeError, ValueError, OverflowError, RuntimeError):  # torch raises the last
        raise Wrong(f"the result should be a list of places, it is {type(found).__name__}.") from None

    def soup(order, joins=lambda new, old: new >= old, stop=False) -> set[int]:
        members = list(order[:1])
        for i in order[1:]:
            if joins(score([*members, i]), score(members)):
                members.append(i)
            elif stop:
                break
        return set(members)

    down = sorted(range(len(w)), key=lambda i: -alone[i])
    if found == soup(down):
        return "It can never be worse, on the held-out data, than the best single network: that is where it starts."
    for wrong, hint in (
        (soup(range(len(w))), "they come in the order of the list; begin with the best."),
        (soup(down[::-1]), "they come from the worst up; begin with the best."),
        (soup(down, lambda new, old: new > old), "a network that leaves the score as it is should join."),
        (soup(down, lambda new, old: new >= max(alone)), "compare with the soup so far, not with the best network."),
        (soup(down, stop=True), "one that does not fit is left out; go on with the next."),
        (set(down), "all of them: that is the uniform soup."),
        ({down[0]}, "only the best: nobody has joined."),
    ):
        if found == wrong:
            raise Wrong(hint)
    raise Wrong(f"the members should be others than {sorted(found)}: is every candidate scored with the soup so far?")


def two_in_one(answer: Callable[[tuple, tuple, tuple], tuple[Tensor, Tensor]]) -> str:
    """Two LoRAs (A, B) of one layer and two weights in, one (A, B) out whose B A is the weighted sum."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda r: (torch.randn(r, 7, generator=generator), torch.randn(5, r, generator=generator))  # noqa: E731
    first, second, third, w = draw(2), draw(2), draw(1), (0.5, -2.0)  # weights may be negative
    given = answer(first, second, w)
    if given is None or given is ...:
        raise NotAttempted
    if not isinstance(given, (tuple, list)) or len(given) != 2 or not all(isinstance(part, Tensor) for part in given):
        raise Wrong("the result should be a pair of tensors (A, B).")
    A, B = given
    (A1, B1), (A2, B2) = first, second
    wanted = w[0] * B1 @ A1 + w[1] * B2 @ A2  # (5, 7)
    if A.shape == (2, 7) and B.shape == (5, 2):
        raise Wrong("a sum of two products of rank 2 has rank 4: means or sums of the A and of the B have cross terms.")
    if A.shape != (4, 7) or B.shape != (5, 4):
        got = f"{tuple(A.shape)} and {tuple(B.shape)}"
        raise Wrong(f"A should be of shape (4, 7) and B of shape (5, 4), as the ranks 2 and 2 add up; they are {got}.")
    if B.isnan().any() or A.isnan().any():
        raise Wrong("there is a NaN: a weight may be negative, and then has no square root.")
    mistakes = {
        B1 @ A1 + B2 @ A2: "the adapters are added, but where are the weights?",
        w[0] ** 2 * B1 @ A1 + w[1] ** 2 * B2 @ A2: "each weight counts twice: once in A, once in B.",
        w[1] * B1 @ A1 + w[0] * B2 @ A2: "each adapter has the weight of the other.",
    }
    for wrong, hint in mistakes.items():
        if torch.allclose(B @ A, wrong, atol=1e-5):
            raise Wrong(hint)
    if not torch.allclose(B @ A, wanted, atol=1e-5):
        raise Wrong("B A is not the weighted sum: row i of A must meet the column i of B that belongs to it.")
    A, B = answer(first, third, w)
    if A.shape != (3, 7) or not torch.allclose(B @ A, w[0] * B1 @ A1 + w[1] * third[1] @ third[0], atol=1e-5):
        raise Wrong("right for two adapters of rank 2, not for ranks 2 and 1.")
    return "Exact, and the ranks add up. Merged into the layer, even that costs nothing."


def expert_bits(answer: Callable[[Tensor, Tensor], float]) -> str:
    """The mutual information, in bits, of two lists of integers (N,): experts and labels."""
    expert = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2])
    label = torch.tensor([0, 0, 0, 1, 1, 1, 0, 0, 2, 2, 2, 1])

    def bits(a: Tensor, b: Tensor) -> float:
        joint = torch.zeros(int(a.max()) + 1, int(b.max()) + 1).index_put((a, b), torch.ones(()), accumulate=True)
        return (entropy(joint.sum(1)) + entropy(joint.sum(0)) - entropy(joint)).item()

    def entropy(counts: Tensor) -> Tensor:
        return torch.special.entr(counts / counts.sum()).sum() / math.log(2)

    given = answer(expert, label)
    if given is None or given is ...:
        raise NotAttempted
    try:
        given = float(given)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"the result should be one number, it is {type(given).__name__}.") from None
    right, of_expert, of_label = bits(expert, label), bits(expert, expert), bits(label, label)
    if math.isnan(given):
        raise Wrong("it is NaN: expert 1 never has the label 0, and 0 · log 0 has to count as 0.")
    mistakes = {
        right * math.log(2): "that is in nats; a bit is log 2 of them.",
        -right: "the sign is wrong: information is never negative.",
        right * len(label): "the counts must be divided by N to become probabilities.",
        of_label: "that is the entropy of the label, what there is to tell. How much of it does the expert tell?",
        of_expert: "that is the entropy of the expert. How much does it tell about the label?",
        of_label - right: "that is what remains unknown of the label when the expert is known.",
        of_expert
        + of_label
        - right: "that is the joint entropy; information is what the two entropies have in common.",
    }
    for wrong, hint in mistakes.items():
        if math.isclose(given, wrong, rel_tol=1e-4):
            raise Wrong(hint)
    if not math.isclose(given, right, rel_tol=1e-4):
        raise Wrong(f"for the check's 12 tokens it should be {right:.4f} bits, it is {given:.4f}.")
    alone = float(answer(expert, torch.zeros_like(label)))
    if abs(alone) > 1e-5:
        raise Wrong(f"about a label that is always the same there is nothing to tell: 0 bits, not {alone:.4f}.")
    other = torch.tensor([3, 0, 1, 2]).repeat(5)
    if not math.isclose(float(answer(other, other)), 2, rel_tol=1e-4):
        raise Wrong("right for 3 experts and 3 labels, not for 4 of each, which should have 2 bits.")
    return "Shuffle the labels and ask again: in a finite sample, chance alone has a few thousandths of a bit."


def pareto_front(answer: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Costs (S,) and accuracies (S,) in; a mask (S,) of the settings that no other beats out."""
    cost = torch.tensor([4.0, 1.0, 2.0, 3.0, 5.0, 3.5, 2.0, 5.0, 1.0])
    accuracy = torch.tensor([0.9, 0.5, 0.7, 0.7, 0.8, 0.75, 0.6, 0.9, 0.5])
    right = torch.tensor([True, True, True, False, False, True, False, False, True])
    front = _tensor(answer(cost.clone(), accuracy.clone()), (9,))
    if not ((front == 0) | (front == 1)).all():
        raise Wrong(f"the result should be a mask of True and False, it holds {front.tolist()}.")
    front = front.bool()
    if torch.equal(front, right):
        one = answer(torch.tensor([2.0]), torch.tensor([0.1]))
        if not (isinstance(one, Tensor) and one.tolist() == [True]):
            raise Wrong("a setting that is alone is beaten by nobody, however bad it is.")
        return "Whatever the budget is, the best setting lies on the front; the others can be forgotten."
    if not front.any():
        raise Wrong("no setting is left: does each beat itself? It is at most as dear as itself, but not better.")
    if torch.equal(front, ~right):
        raise Wrong("the mask is the wrong way round: these are the settings that are beaten.")
    if not (front[1] and front[8]):
        raise Wrong("two settings are equal, (1, 0.5): neither is better than the other, so neither beats the other.")
    if front[3] or front[6] or front[7]:
        raise Wrong("as dear and more accurate, or as accurate and cheaper: better in *one* of the two is enough.")
    if not front[5]:
        raise Wrong(
            "(3.5, 0.75) lies below the line from (2, 0.7) to (4, 0.9), but nobody offers a point of that line: it"
            " belongs to the front."
        )
    place = int((front != right).nonzero()[0])
    raise Wrong(f"cost {cost[place]:g} and accuracy {accuracy[place]:g}: you say {bool(front[place])}.")


def random_budget(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str:
    """Costs (S,), accuracies (S,) and budgets (N,) in; the expected share of right answers out."""
    cost, accuracy = torch.tensor([1.0, 2.0, 4.0, 3.0]), torch.tensor([0.6, 0.8, 0.85, 0.9])
    budgets = torch.tensor([0.5, 1.0, 2.5, 3.5, 5.0, 4.5])

    def ask(*given: Tensor) -> float:
        value = answer(*(t.clone() for t in given))
        if value is None or value is ...:
            raise NotAttempted
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError):
            raise Wrong("the result should be one number.") from None

    share, right = ask(cost, accuracy, budgets), 4.1 / 6
    mistakes = {
        4.1: "that is the sum over the budgets; each has probability 1/N.",
        4.1 / 5: "a budget that nothing fits counts too: no answer is never right.",
        3.5 / 6: "a setting that costs exactly the budget fits.",
        4.0 / 6: "the dearest setting that fits need not be the most accurate: here it is not.",
        (0.6 + 0.7 + 2.3 / 3 + 2 * 3.15 / 4) / 6: "not the mean of all that fit: the network takes the best.",
        0.8: "that is the best at the mean budget; wanted is the mean of the best.",
        0.9: "0.9 is right only if every budget is ample: some do not allow that setting.",
        4.7 / 6: "where nothing fits, the cheapest is still too dear: that budget gets no answer.",
    }
    for wrong, hint in mistakes.items():
        if math.isclose(share, wrong, rel_tol=1e-4):
            raise Wrong(hint)
    if not math.isclose(share, right, rel_tol=1e-4):
        raise Wrong(f"for the check's six budgets it should be {right:.4f}, it is {share:.4f}.")
    other = ask(torch.tensor([3.0, 1.0]), torch.tensor([0.5, 0.2]), torch.tensor([1.0, 2.0, 3.0, 0.1]))
    if not math.isclose(other, 0.9 / 4, rel_tol=1e-4):
        raise Wrong("right for six budgets and four settings, not for four and two: which number should be a name?")
    return "The demand is part of the question: change the budgets, and another network is the best one to ship."


CHECKS = {
    check.__name__: check
    for check in (
        run_what_is_chosen,
        forbid,
        keep_or_discard,
        entmax_15,
        smallest_lead,
        leave_one_out_baseline,
        best_baseline,
        scan,
        block_flops,
        share_left,
        batch_budget,
        patience_exit,
        mean_flops,
        oracle_exit,
        fixed_sequence,
        balance_loss,
        dropped_by_chance,
        elect_and_merge,
        soup_members,
        groups,
        intensity,
        two_in_one,
        expert_bits,
        pareto_front,
        random_budget,
    )
}
