"""A language model that decides, for every token, after how many layers it knows enough (Schuster et al. 2022, CALM).

Shapes: B sequences, T tokens, D width, H heads, L layers, which are the exits; V tokens in the vocabulary; N states, of
any sequences and tokens.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib.choice import Choice
from lecture_lib.exits import Exited
from lecture_lib.moe import MoE, upcycle
from lecture_lib.simplex import Mask, as_integer, as_number, check_mask, full, score


class Decoder(nn.Module):
    """A causal transformer with an exit after every layer: tokens (B, T) -> logits of the next token (L, B, T, V).

    All exits read their state through one head, each after its own normalisation. Positions are rotary (Su et al.
    2021), so a text may be longer than those of the training.

    `mask` (B, T) says what counts: padding is not seen, takes no position, and gets zeros.
    """

    def __init__(self, d_model: int, n_heads: int, n_layers: int, *, n_tokens: int = 256):
        super().__init__()
        d_model = as_integer("d_model", d_model, "an integer of at least 2", 2)
        n_heads = as_integer("n_heads", n_heads, "an integer of at least 1", 1)
        if d_model % (2 * n_heads):
            raise ValueError(f"n_heads must divide d_model = {d_model} into heads of even width, got {n_heads}")
        n_layers = as_integer("n_layers", n_layers, "an integer of at least 1", 1)
        n_tokens = as_integer("n_tokens", n_tokens, "an integer of at least 2", 2)
        self.embedding = nn.Embedding(n_tokens, d_model)
        self.layers = nn.ModuleList(_Layer(d_model, n_heads) for _ in range(n_layers))
        self.norms = nn.ModuleList(nn.RMSNorm(d_model) for _ in range(n_layers))
        self.head = nn.Linear(d_model, n_tokens, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def states(self, tokens: Tensor, mask: Mask = None) -> Tensor:
        """The state of every token after every layer: (B, T) -> (L, B, T, D)."""
        tokens, mask = self._check(tokens, mask)
        x, states = self.embedding(tokens), []
        turns, seen = self._places(tokens.shape[1], mask)
        for layer in self.layers:
            x = layer(x, turns, seen, mask)
            states.append(x)
        states = torch.stack(states)
        return states if mask is None else states.masked_fill(~mask[..., None], 0)

    def read(self, exit: int, state: Tensor) -> Tensor:
        """What an exit predicts from a state: (..., D) -> logits (..., V)."""
        return self.head(self.norms[exit](state))

    def forward(self, tokens: Tensor, mask: Mask = None) -> Tensor:
        states = self.states(tokens, mask)
        return torch.stack([self.read(exit, state) for exit, state in enumerate(states)])

    def turns(self, n: int) -> Tensor:
        """Cosine and sine of the angles by which queries and keys at positions 0 ... n-1 turn.

        (2, n, D/H): for both coordinates of a pair, the sine negative for the first.
        """
        weight, heads = self.head.weight, self.layers[0].n_heads
        half = weight.shape[1] // heads // 2
        exponent = -torch.arange(half, device=weight.device).to(full(weight[:0])) / half
        rate = 10_000.0**exponent
        angle = torch.arange(n, device=weight.device)[:, None] * rate
        cos, sin = angle.cos(), angle.sin()
        return torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)]).to(weight.dtype)

    def _places(self, n: int, mask: Mask) -> tuple[Tensor, Mask]:
        """The turns of n tokens, and whom they see (None: all so far), by sequence if masked."""
        turns = self.turns(n)
        if mask is None:
            return turns, None
        itself = torch.eye(n, dtype=torch.bool, device=mask.device)  # or padding would see nothing
        return _of_each(turns, mask), (mask[:, None, None] | itself).tril()

    def _check(self, tokens: Tensor, mask: Mask) -> tuple[Tensor, Mask]:
        """The tokens as int64, and a mask only if something is padded."""
        dtype, shape = getattr(tokens, "dtype", type(tokens)), tuple(getattr(tokens, "shape", ()))
        if dtype not in (torch.int64, torch.int32, torch.uint8) or len(shape) != 2:
            raise TypeError(f"tokens must be integers (B, T), got {dtype} {shape}")
        n = self.embedding.num_embeddings
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < n:
            raise ValueError(f"tokens must lie from 0 to {n - 1}, got {int(tokens.min())} to {int(tokens.max())}")
        if mask is not None:
            check_mask(mask, tokens.shape)
        return tokens.long(), None if mask is None or mask.all() else mask


class _Layer(nn.Module):
    """Attention to the tokens so far, then an MLP or experts, both after a normalisation and added to the state."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.norm_1, self.norm_2 = nn.RMSNorm(d_model), nn.RMSNorm(d_model)
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key_value = nn.Linear(d_model, 2 * d_model, bias=False)  # apart: an exited state still needs these
        self.output = nn.Linear(d_model, d_model, bias=False)
        self.up = nn.Linear(d_model, 4 * d_model, bias=False)
        self.down = nn.Linear(4 * d_model, d_model, bias=False)
        self.experts: MoE | None = None  # in place of both, see `upcycle_layers`

    def forward(self, x: Tensor, turns: Tensor, seen: Mask = None, mask: Mask = None) -> Tensor:
        h = self.norm_1(x)
        return self.finish(x, h, *self.keys_values(h, turns), turns, seen, mask)

    def keys_values(self, h: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised states (B, T, D), turns of their positions -> keys, values (B, H, T, D/H)."""
        key, value = self.key_value(h).unflatten(-1, (2, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        return _rotate(key, turns), value

    def finish(
        self, x: Tensor, h: Tensor, key: Tensor, value: Tensor, turns: Tensor, seen: Mask, mask: Mask = None
    ) -> Tensor:
        """The rest of the layer for the states (B, T, D), causally; h are the states normalised."""
        query = _rotate(self.query(h).unflatten(-1, (self.n_heads, -1)).transpose(1, 2), turns)
        y = F.scaled_dot_product_attention(query, key, value, seen, is_causal=seen is None)
        x = x + self.output(y.transpose(1, 2).flatten(-2))
        h = self.norm_2(x)
        return x + (self.mlp(h) if self.experts is None else self.experts(h, mask=mask)[0])

    @property
    def mlp(self) -> nn.Sequential:
        return nn.Sequential(self.up, _SquaredReLU(), self.down)


class _SquaredReLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()


def upcycle_layers(
    model: Decoder, n_experts: int, choose: Callable[[Tensor], Choice], layers: Iterable[int]
) -> list[MoE]:
    """The MLPs of some layers become experts that start as copies of them, in place; returns these, in order.

    `choose` as for `moe.MoE`: with weights that sum to 1 the model computes what it did, until they learn.

    Source: Komatsuzaki et al. 2023, Sparse upcycling.
    """
    places, last = list(layers), len(model.layers) - 1
    for i, place in enumerate(places):
        as_integer(f"layers[{i}]", place, f"an integer from 0 to {last}, each once", 0, last)
        if model.layers[place].experts is not None or place in places[:i]:
            raise ValueError(f"layers[{i}] must be a layer without experts, got {place} again")
    made = []
    for layer in (model.layers[place] for place in places):
        layer.experts = upcycle(layer.mlp, n_experts, choose).train(layer.training)
        del layer.up, layer.down
        made.append(layer.experts)
    return made


def _rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Rotary positions: each pair of coordinates of (B, H, T, D/H) turns by an angle that grows with the position."""
    cos, sin = turns
    return x * cos.to(x.dtype) + x.roll(x.shape[-1] // 2, -1) * sin.to(x.dtype)


def _quick(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """norm(x), x (B, D), in fewer operations: x beside -x has mean 0, and layer_norm is one."""
    eps = torch.finfo(x.dtype).eps if norm.eps is None else norm.eps
    d = x.shape[-1]
    return F.layer_norm(torch.cat([x, -x], -1), (2 * d,), eps=eps)[:, :d] * norm.weight


def _bare(linear: nn.Module) -> Callable[[Tensor], Tensor]:
    """Its product alone, where a call of the module is that: for one text the call itself takes as long again."""
    hooked = getattr(linear, "_forward_hooks", {}) or getattr(linear, "_forward_pre_hooks", {})
    plain = type(linear) is nn.Linear and linear.bias is None and not hooked
    return partial(F.linear, weight=linear.weight) if plain else linear


def _beside(*linears: nn.Module) -> Callable[[Tensor], Tensor]:
    """What they return side by side; of bare products, one."""
    if all(isinstance(_bare(linear), partial) for linear in linears):
        return partial(F.linear, weight=torch.cat([linear.weight for linear in linears]))
    return lambda x: torch.cat([linear(x) for linear in linears], -1)


def _quick_mlp(layer: _Layer) -> Callable[[Tensor], Tensor]:
    if layer.experts is not None:
        return lambda h: layer.experts(h)[0]
    up, down = _bare(layer.up), _bare(layer.down)
    return lambda h: down(up(h).relu().square())


def _of_each(turns: Tensor, mask: Tensor) -> Tensor:
    """Turns (2, T, D/H) of sequences that start at different tokens: (2, B, 1, T, D/H)."""
    return turns[:, (mask.cumsum(-1) - 1).clamp(min=0)].unsqueeze(2)


@dataclass
class AtExit:
    """What a confidence may look at: states that reached an exit, and what the exit would predict from them."""

    model: Decoder
    exit: int  # 0 ... L - 1
    state: Tensor  # (N, D)
    previous: Tensor | None  # (N, D) the states after the layer before; None at the first exit

    @cached_property
    def logits(self) -> Tensor:  # (N, V), computed when first asked for
        return self.model.read(self.exit, self.state)


# how sure are these states? (N,), compared with a threshold
Confidence = Callable[[AtExit], Tensor]


def softmax_margin(at: AtExit) -> Tensor:
    """The difference of the two largest probabilities, in [0, 1]. Costs a look through the head at every exit.

    Source: Schuster et al. 2022, section 3.4, softmax response.
    """
    top = full(at.logits).softmax(-1).topk(2).values
    return top[..., 0] - top[..., 1]


def state_similarity(at: AtExit) -> Tensor:
    """The cosine of a state and the one a layer before, in [-1, 1]: has it settled? Nothing exits at the first exit.

    Source: Schuster et al. 2022, section 3.4, hidden-state saturation.
    """
    if at.previous is None:
        return full(at.state).new_full(at.state.shape[:-1], -1.0)
    return F.cosine_similarity(full(at.state), full(at.previous), dim=-1)


class LearnedConfidence(nn.Module):
    """A linear classifier of the state, one for all exits: would the last layer predict the same? In (0, 1).

    Train it by `loss`, the decoder frozen. Source: Schuster et al. 2022, section 3.5.
    """

    def __init__(self, d_model: int):
        super().__init__()
        self.linear = nn.Linear(d_model, 1)

    def forward(self, at: AtExit) -> Tensor:
        return self._score(at.model, at.exit, at.state).sigmoid()

    def loss(self, model: Decoder, tokens: Tensor, mask: Mask = None) -> Tensor:
        """Cross-entropy of the label "this exit predicts what the last one does", both labels with half of the weight.

        tokens (B, T) -> a scalar, whose gradient reaches this classifier only. mask: as in Decoder.
        """
        if len(model.layers) < 2:
            raise ValueError("model must have at least two layers to learn from, got one")
        with torch.no_grad():
            states = model.states(tokens, mask)
            states = states if mask is None else states[:, mask]  # (L, B, T, D) or (L, N, D)
            best = torch.stack([model.read(k, state).argmax(-1) for k, state in enumerate(states)])
        losses = []
        for exit, state in enumerate(states[:-1]):
            logit = self._score(model, exit, state)
            agrees = (best[exit] == best[-1]).to(logit.dtype)
            share = agrees.mean().clamp(1e-6, 1 - 1e-6)
            weight = torch.where(agrees == 1, 0.5 / share, 0.5 / (1 - share))
            loss = F.binary_cross_entropy_with_logits(logit, agrees, weight)
            losses.append(loss if agrees.numel() else logit.sum())
        return torch.stack(losses).mean()

    def _score(self, model: Decoder, exit: int, state: Tensor) -> Tensor:
        return score(self.linear, model.norms[exit](state).detach()).squeeze(-1)


def decaying_threshold(
    threshold: float, n_steps: int, *, tau: float = 4.0, amplitude: float = 0.1
) -> Callable[[int], float]:
    """More careful at the start, where a mistake spoils all that follows: clip(0.9 θ + amplitude · e^(-tau t/N), 0, 1).

    Args:
        threshold: θ. n_steps: N, of the whole text. tau: how fast it falls.
        amplitude: 0.1 as the paper writes it; 0.1 θ is what its released code is said to have.

    Returns: the step t = 0, 1 ... -> the threshold. Source: Schuster et al. 2022, eq. 5.
    """
    threshold = _as_threshold(threshold)
    n_steps = as_integer("n_steps", n_steps, "an integer >= 1", 1)
    allowed = "a finite number >= 0"
    tau = as_number("tau", tau, allowed, lambda x: 0 <= x < math.inf)
    amplitude = as_number("amplitude", amplitude, allowed, lambda x: 0 <= x < math.inf)
    return lambda step: min(1.0, 0.9 * threshold + amplitude * math.exp(-tau * step / n_steps))


@torch.no_grad()
def generate(
    model: Decoder,
    prompt: Tensor,
    n: int,
    confidence: Confidence | None = None,
    threshold: float | Callable[[int], float] = 1.0,
    *,
    mask: Mask = None,
) -> tuple[Tensor, Exited]:
    """Continue texts by the likeliest token, n times; each token leaves at the first exit with confidence >= threshold.

    Layers behind the exit are not run for it. Tokens that come later still attend to it there: they see the keys and
    values that those layers make of the state it left with, computed when one first asks for them.

    In a batch a text that has left attends on until all have: to pick the others out of the cache would take longer.
    There exits save little time: a layer reads its weights for one text as for sixteen, and attention is not saved.

    Args:
        prompt: (B, T) tokens; all but the last take all layers.
        confidence: None for the full model. threshold: θ, or a function of the step, see `decaying_threshold`.
        mask: (B, T), where prompts are padded on their left to one length: False for padding.

    Returns: the continuations (B, n), and with which logits (B, n, V) after which exit (B, n) each was chosen.
    """
    n = as_integer("n", n, "an integer >= 0", 0)
    prompt, mask = model._check(prompt, mask)
    if prompt.shape[1] < 1:
        raise ValueError(f"prompt must hold at least one token, got {tuple(prompt.shape)}")
    if mask is not None:
        if not mask[:, -1].all() or (mask[:, :-1] & ~mask[:, 1:]).any():
            raise ValueError("mask must be False only left of each prompt, got padding elsewhere")
        longest = int(mask.sum(-1).max())
        prompt, mask = model._check(prompt[:, -longest:], mask[:, -longest:])
    b, t = prompt.shape
    cache = _Cache(model, b, t + n, mask)
    if t > 1:
        cache.fill(prompt[:, :-1])
    token, steps = prompt[:, -1], []
    with torch.inference_mode():
        for step in range(n):
            level = threshold(step) if callable(threshold) else threshold
            logits, exit_index = cache.step(token, confidence, _as_threshold(level))
            token = logits.argmax(-1)
            steps.append((token, logits, exit_index))
    if not steps:
        vocabulary = model.head.out_features
        return prompt[:, :0], Exited(model.head.weight.new_zeros(b, 0, vocabulary), prompt[:, :0].long())
    tokens, logits, exit_index = (torch.stack(parts, 1) for parts in zip(*steps, strict=True))
    return tokens, Exited(logits, exit_index)


@torch.no_grad()
def speculate(model: Decoder, prompt: Tensor, n: int, *, exit: int, draft: int) -> tuple[Tensor, list[int]]:
    """Continue a text by the full model's likeliest tokens: an exit drafts them, the layers behind it check a draft.

    A round drafts `draft` tokens one by one, each from the state at the exit. Then the layers behind it read these
    states at once, and say what the full model would have written after each. What agrees is kept, and the first that
    does not is replaced by what the full model says. So every round gives at least one token, and a wrong draft costs
    work, never the result (up to rounding: where two tokens are as likely, sums in another order may choose the other).

    No layer runs twice for a token that is kept: checking goes on from the states and the cache of drafting. The head
    is asked twice for each drafted token.

    Args:
        prompt: (1, T) tokens. n: how many to write.
        exit: 0 ... L - 2, after whose layer drafts are read. draft: how many tokens at most are drafted in a round.

    Returns: the continuation (1, n), and of each round how many drafts were kept.

    Source: Zhang et al. 2024 (Draft & Verify), who leave out layers to draft; Elhoushi et al. 2024 (LayerSkip), who
    draft at an exit and go on from its states.
    """
    n = as_integer("n", n, "an integer >= 0", 0)
    behind = len(model.layers) - 2
    exit = as_integer("exit", exit, f"an integer from 0 to {behind}", 0, behind)
    draft = as_integer("draft", draft, "an integer >= 1", 1)
    prompt, _ = model._check(prompt, None)
    if len(prompt) != 1:
        raise ValueError(f"prompt must hold one text, got {len(prompt)}: texts keep drafts of different lengths")
    if prompt.shape[1] < 1:
        raise ValueError(f"prompt must hold at least one token, got {tuple(prompt.shape)}")
    cache, kept, written = _Cache(model, 1, prompt.shape[1] + n, None), [], prompt[:, :0]
    cache.fill(prompt[:, :-1])
    token = prompt[:, -1]
    with torch.inference_mode():
        while (done := written.shape[1]) < n:
            drafts, start = [], cache.now
            for _ in range(min(draft, n - done)):
                logits, _ = cache.step(token, None, 1.0, exit)
                drafts.append(token := logits.argmax(-1))
            drafts = torch.cat(drafts)
            said = cache.check(start, exit).argmax(-1)
            kept.append(int((drafts == said).cumprod(0).sum()))
            taken = said[: kept[-1] + 1]
            cache.back(start + len(taken))
            written, token = torch.cat([written, taken[None]], 1), taken[-1:]
    return written, kept


class _Cache:
    """Keys and values of the tokens so far, layer by layer, and the states with which tokens left."""

    def __init__(self, model: Decoder, b: int, t: int, mask: Mask):
        weight = model.head.weight
        heads, width = model.layers[0].n_heads, weight.shape[1] // model.layers[0].n_heads
        self.model, self.now = model, 0
        self.state = weight.new_zeros(b, t, weight.shape[1])
        self.keys_values = weight.new_zeros(len(model.layers), b, 2, heads, t, width)
        self.known = [0] * len(model.layers)  # up to which token a layer has keys and values
        turns, self.mask = model.turns(t)[:, None, None], mask
        if mask is not None:
            self.mask = F.pad(mask, (0, t - mask.shape[1]), value=True)  # (B, t)
            turns = _of_each(turns[:, 0, 0], self.mask)
        still = turns.new_tensor([1, 0]).view(2, 1, 1, 1, 1).expand_as(turns)
        # of queries, keys and values: (2, B or 1, 3, 1, t, D/H)
        self.turns = torch.stack([turns, turns, still], 2)
        self.products = [(_beside(of.query, of.key_value), _bare(of.output), _quick_mlp(of)) for of in model.layers]

    def fill(self, tokens: Tensor) -> None:
        """Read tokens (B, T): through all layers, but of the last one only keys and values."""
        self.now = now = tokens.shape[1]
        x = self.model.embedding(tokens)
        turns, seen = self.model._places(now, None if self.mask is None else self.mask[:, :now])
        for exit, layer in enumerate(self.model.layers):
            h = layer.norm_1(x)
            key, value = self._add(exit, h, turns)
            if exit < len(self.model.layers) - 1:
                x = layer.finish(x, h, key, value, turns, seen)

    def step(
        self, token: Tensor, confidence: Confidence | None, threshold: float, until: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Read one more token (B,): the logits (B, V) at each sequence's exit, and the exits (B,), at most `until`."""
        model, here = self.model, self.now
        last = len(model.layers) - 1 if until is None else until
        rows = torch.arange(len(token), device=token.device)  # the sequences still undecided
        exit_index, found, x = torch.full_like(rows, last), [], model.embedding(token)
        turns = self.turns[..., here : here + 1, :].unbind()
        seen = None if self.mask is None else self.mask[:, None, None, : here + 1]
        cache = self.keys_values[..., : here + 1, :]
        parts = zip(model.layers, self.products, cache[..., here:, :], *cache.unbind(2), strict=True)
        for exit, (layer, (joint, output, mlp), latest, key, value) in enumerate(parts):
            if (known := self.known[exit]) < here:  # what tokens owe that left before this layer
                h = layer.norm_1(self.state[:, known:here])
                self._add(exit, h, self.turns[:, :, 1, ..., known:here, :])
            self.known[exit], h = here + 1, _quick(layer.norm_1, x)
            made = _rotate(joint(h).unflatten(-1, (3, layer.n_heads, 1, -1)), turns)
            latest.copy_(made[:, 1:])
            y, before = F.scaled_dot_product_attention(made[:, 0], key, value, seen).flatten(1), x
            if some := len(rows) < len(x):
                y, before = y[rows], x[rows]
            state = before + output(y)
            state = state + mlp(_quick(layer.norm_2, state))
            x = x.index_copy(0, rows, state) if some else state  # who has left keeps its state
            if confidence is None and exit < last:
                continue
            at = AtExit(model, exit, state, before if exit else None)
            if exit == last:
                break
            sure = confidence(at) >= threshold
            leaving = sure.nonzero().squeeze(-1)
            if len(leaving) == len(rows):
                break
            if len(leaving):
                found.append((rows[leaving], at.logits[leaving]))
                exit_index[found[-1][0]], rows = exit, rows[~sure]
        self.now += 1
        exit_index[rows] = exit
        if exit < len(model.layers) - 1:
            self.state[:, here] = x
        if not found:
            return at.logits, exit_index
        places, logits = map(torch.cat, zip(*found, (rows, at.logits), strict=True))
        return logits[places.argsort()], exit_index

    def check(self, start: int, exit: int) -> Tensor:
        """The full model's logits (T, V) for one text's tokens from `start` on, which have left after `exit`."""
        model, now, x = self.model, self.now, self.state[:, start : self.now]
        turns = self.turns[:, 0, 0, ..., start:now, :]
        seen = torch.ones(now - start, now, dtype=torch.bool, device=x.device).tril(start)
        for behind in range(exit + 1, len(model.layers)):
            layer = model.layers[behind]
            h = layer.norm_1(x)
            x = layer.finish(x, h, *self._add(behind, h, turns), turns, seen)
        return model.read(len(model.layers) - 1, x[0])

    def back(self, now: int) -> None:
        """Forget the tokens from `now` on."""
        self.now, self.known = now, [min(known, now) for known in self.known]

    def _add(self, exit: int, h: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values in one layer of all tokens read, the new ones made of their states h."""
        new, self.known[exit] = slice(self.known[exit], self.now), self.now
        keys, values = self.keys_values[exit, ..., : self.now, :].unbind(1)
        keys[:, :, new], values[:, :, new] = self.model.layers[exit].keys_values(h, turns)
        return keys, values


@torch.no_grad()
def exit_while_reading(
    model: Decoder,
    tokens: Tensor,
    confidence: Confidence,
    threshold: float,
    *,
    careful: int = 0,
    mask: Mask = None,
) -> Exited:
    """Where each token of a given text exits, and what is predicted there: tokens (B, T) -> (B, T, V), (B, T).

    The same states and decisions as in `generate`, but every layer runs on all tokens: it measures quality, and skips
    nothing. The first `careful` tokens take all layers. mask: as in `Decoder`; padding exits at -1.
    """
    tokens, mask = model._check(tokens, mask)
    threshold = _as_threshold(threshold)
    careful = as_integer("careful", careful, "an integer >= 0", 0)
    x = model.embedding(tokens)
    turns, seen = model._places(tokens.shape[1], mask)
    counts = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask
    free, is_open = counts.cumsum(-1) > careful, counts
    logits, exit_index = None, torch.full_like(tokens, len(model.layers) - 1)
    for exit, layer in enumerate(model.layers):
        before, x = x, torch.where(is_open[..., None], layer(x, turns, seen), x)
        at = AtExit(model, exit, x, before if exit else None)
        logits = at.logits if logits is None else torch.where(is_open[..., None], at.logits, logits)
        if exit < len(model.layers) - 1:
            sure = is_open & free & (confidence(at) >= threshold)
            exit_index[sure] = exit
            is_open = is_open & ~sure
    if mask is None:
        return Exited(logits, exit_index)
    return Exited(logits.masked_fill(~mask[..., None], 0), exit_index.masked_fill(~mask, -1))


def _as_threshold(threshold: float) -> float:
    return as_number("threshold", threshold, "a number from 0 to 1", lambda t: 0 <= t <= 1)


@torch.no_grad()
def token_losses(
    model: Decoder,
    tokens: Tensor,
    *,
    context: int = 256,
    mask: Mask = None,
) -> Tensor:
    """Surprise of each token but the first, in nats, at every exit: text (T,) -> (L, T - 1).

    Windows of `context` tokens overlap by half, so each token sees at least context/2 before it, where there are.
    mask (T,): what counts; the text is the rest left out, where padding has a loss of 0.
    """
    context = as_integer("context", context, "even and at least 2", 2)
    if context % 2:
        raise ValueError(f"context must be even and at least 2, got {context}")
    if tokens.ndim != 1 or len(tokens) < 2:
        raise ValueError(f"tokens must be a text (T,) of at least two tokens, got shape {tuple(tokens.shape)}")
    if mask is not None:
        check_mask(mask, tokens.shape)
        places = mask.nonzero().squeeze(-1)[1:] - 1
        losses = full(model.head.weight).new_zeros(len(model.layers), len(tokens) - 1)
        if len(places):
            losses[:, places] = token_losses(model, tokens[mask], context=context)
        return losses
    half, tokens = context // 2, model._check(tokens[None], None)[0][0]
    n = max(0, -(-(len(tokens) - 1 - context) // half)) + 1  # windows
    padded = F.pad(tokens, (0, n * half + half + 1 - len(tokens)))
    windows = padded.unfold(0, context + 1, half)  # (n, context + 1)
    parts = []
    for rows in windows.split(16):
        logits = model(rows[:, :-1])  # (L, 16, context, V)
        target = rows[:, 1:].expand(len(logits), -1, -1)
        loss = F.cross_entropy(full(logits).movedim(-1, 1), target, reduction="none")
        parts.append(loss)
    loss = torch.cat(parts, 1)  # (L, n, context)
    once = torch.cat([loss[:, 0, :half], loss[:, :, half:].flatten(1)], 1)  # a first window in full, then second halves
    return once[:, : len(tokens) - 1]
