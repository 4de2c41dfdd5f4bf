"""The per-token decoder: incremental decoding against a dumb reference, exits against the equations."""

import copy
import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from lecture_lib.adapters import LoRA
from lecture_lib.choice import top_k
from lecture_lib.cost import count_flops
from lecture_lib.moe import switch
from lecture_lib.pretrained.decoder import (
    AtExit,
    Decoder,
    LearnedConfidence,
    decaying_threshold,
    exit_while_reading,
    generate,
    softmax_margin,
    speculate,
    state_similarity,
    token_losses,
    upcycle_layers,
)

V, D, H, L = 11, 16, 2, 4


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = Decoder(D, H, L, n_tokens=V).double()
    torch.nn.init.normal_(model.embedding.weight)  # states that differ, so that confidences do
    return model


def text(*shape):
    return torch.randint(V, shape, generator=torch.Generator().manual_seed(1))


def slowly(model, prompt, n, confidence, threshold):
    """The dumb reference: for every token, the whole text anew, one state at a time, nothing kept but the exits."""
    exits, tokens, all_logits = [len(model.layers) - 1] * (len(prompt) - 1), prompt.tolist(), []
    for _ in range(n):
        x, turns = model.embedding(torch.tensor([tokens])), model.turns(len(tokens))
        for k, layer in enumerate(model.layers):
            y = layer(x, turns)
            for place, taken in enumerate(exits):
                if k > taken:
                    y[0, place] = x[0, place]  # left before this layer: its state stays
            at = AtExit(model, k, y[:, -1], x[:, -1] if k else None)
            x = y
            if k == L - 1 or (confidence is not None and confidence(at).item() >= threshold):
                break
        exits.append(k)
        all_logits.append(model.read(k, x[0, -1]))
        tokens.append(int(all_logits[-1].argmax()))
    return torch.tensor(tokens[len(prompt) :]), torch.stack(all_logits), torch.tensor(exits[len(prompt) - 1 :])


def test_no_token_sees_those_after_it(model):
    tokens = text(2, 9)
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % V
    before, after = model(tokens), model(changed)
    assert before.shape == (L, 2, 9, V)
    torch.testing.assert_close(before[:, :, :5], after[:, :, :5])
    assert (before[:, :, 5:] - after[:, :, 5:]).abs().amax() > 1e-3


def test_positions_are_relative(model):
    """Queries and keys turn by their positions: a layer's output does not change when all move on together."""
    layer, x, turns = model.layers[0], torch.randn(1, 6, D, dtype=torch.float64), model.turns(40)
    torch.testing.assert_close(layer(x, turns[:, :6]), layer(x, turns[:, 17:23]))
    swapped = x[:, [1, 0, 2, 3, 4, 5]]  # but the order counts
    assert not torch.allclose(layer(x, turns[:, :6])[0, -1], layer(swapped, turns[:, :6])[0, -1])


CONFIDENCES = {
    "margin": (softmax_margin, (0.05, 0.15, 0.3)),
    "similarity": (state_similarity, (0.75, 0.9, 0.97)),
    "none": (None, (0.5,)),
}
CASES = [(name, level) for name, (_, levels) in CONFIDENCES.items() for level in levels]


@pytest.mark.parametrize(("name", "threshold"), CASES)
def test_decoding_with_a_cache_equals_decoding_anew(model, name, threshold):
    confidence, prompts = CONFIDENCES[name][0], text(5, 7)
    tokens, (logits, exit_index) = generate(model, prompts, 12, confidence, threshold)
    for row, prompt in enumerate(prompts):
        expected = slowly(model, prompt, 12, confidence, threshold)
        torch.testing.assert_close((tokens[row], logits[row], exit_index[row]), expected)
    assert not any(made.is_inference() for made in (tokens, logits, exit_index))  # one may train on them


def test_decoding_calls_what_is_more_than_a_product(model):
    layer, seen = model.layers[1], []
    layer.query, layer.up = LoRA(layer.query, 2), LoRA(layer.up, 2)
    for lora in (layer.query, layer.up):
        torch.nn.init.normal_(lora.B)
    model.layers[2].output.register_forward_hook(lambda *args: seen.append(args[2].shape))
    tokens, (logits, _) = generate(model, text(1, 7), 5)
    torch.testing.assert_close((tokens[0], logits[0]), slowly(model, text(1, 7)[0], 5, None, 1.0)[:2])
    assert len(seen) > 5


def test_upcycled_layers_compute_what_the_mlps_did_and_decode_as_they_read(model):
    dense, prompt = copy.deepcopy(model), text(3, 7)
    experts = upcycle_layers(model, 4, partial(top_k, k=2), (1, 3))
    assert [layer.experts for layer in model.layers] == [None, experts[0], None, experts[1]]
    torch.testing.assert_close(model(prompt), dense(prompt))
    torch.testing.assert_close(generate(model, prompt, 6), generate(dense, prompt, 6))
    for part in experts:
        torch.nn.init.normal_(part.experts.w_out)  # now each is another
    for confidence, level in ((None, 1.0), (softmax_margin, 0.15)):
        tokens, (logits, exit_index) = generate(model, prompt, 6, confidence, level)
        for row in range(3):
            wanted = slowly(model, prompt[row], 6, confidence, level)
            torch.testing.assert_close((tokens[row], logits[row], exit_index[row]), wanted)


def test_upcycled_layers_do_not_route_padding(model):
    (part,) = upcycle_layers(model, 4, switch, [2])
    choices, mask = [], torch.tensor([[False, False, True, True, True], [True] * 5])
    part.register_forward_hook(lambda *args: choices.append(args[2][1].weights))
    model(text(2, 5), mask)
    assert torch.equal(choices[0].sum(-1) > 0, mask)


def test_layers_to_upcycle_are_layers_and_each_once(model):
    for wrong in ([4], [-1], [1, 1], [1.5]):
        with pytest.raises((ValueError, TypeError), match=r"layers\["):
            upcycle_layers(model, 4, switch, wrong)
    assert all(layer.experts is None for layer in model.layers)  # what was refused left no trace
    upcycle_layers(model, 4, switch, [1])
    with pytest.raises(ValueError, match=r"layers\[0\] must be a layer without experts, got 1 again"):
        upcycle_layers(model, 4, switch, [1])


def test_the_cases_above_exit_everywhere(model):
    taken = [generate(model, text(5, 7), 12, CONFIDENCES[n][0], level)[1].exit_index for n, level in CASES]
    assert set(torch.cat(taken).flatten().tolist()) == set(range(L))


@pytest.mark.parametrize("name", ["margin", "similarity"])
def test_reading_a_text_decides_as_writing_it_did(model, name):
    confidence, levels = CONFIDENCES[name]
    prompts = text(3, 7)
    tokens, (logits, exit_index) = generate(model, prompts, 12, confidence, levels[1])
    whole = torch.cat([prompts, tokens], 1)[:, :-1]
    read = exit_while_reading(model, whole, confidence, levels[1], careful=6)
    torch.testing.assert_close(read.logits[:, 6:], logits)
    assert torch.equal(read.exit_index[:, 6:], exit_index) and (read.exit_index[:, :6] == L - 1).all()


def test_layers_behind_the_exit_are_not_run(model):
    prompt, n = text(1, 1), 10
    everything = count_flops(generate, model, prompt, n)
    first = count_flops(generate, model, prompt, n, softmax_margin, 0.0)  # all leave at the first exit
    per_layer, head = 2 * (12 * D * D), 2 * D * V
    attention = sum(4 * t * D for t in range(1, n + 1))  # scores, and the mean of the values
    assert first == n * (per_layer + head) + attention
    assert everything == n * (L * per_layer + head) + L * attention


def test_keys_of_exited_tokens_are_made_when_first_needed(model):
    """Ten tokens leave at the first exit, the next one does not: then, and only then, the layers behind see all."""
    levels = iter([0.0] * 10 + [1.0])
    flops = count_flops(generate, model, text(1, 1), 11, softmax_margin, lambda step: next(levels))
    early = count_flops(generate, model, text(1, 1), 10, softmax_margin, 0.0)
    keys = 2 * (2 * D * D)
    last = L * 2 * (12 * D * D) + L * 4 * 11 * D + L * 2 * D * V  # one token through all, read at every exit
    assert flops == early + last + (L - 1) * 10 * keys


def test_confidences_are_those_of_the_paper(model):
    tokens = text(2, 5)
    states = model.states(tokens)
    p = model.read(1, states[1]).softmax(-1).sort(-1).values
    at = AtExit(model, 1, states[1], states[0])
    torch.testing.assert_close(softmax_margin(at), p[..., -1] - p[..., -2])
    cosine = (states[1] * states[0]).sum(-1) / states[1].norm(dim=-1) / states[0].norm(dim=-1)
    torch.testing.assert_close(state_similarity(at), cosine)
    assert (state_similarity(AtExit(model, 0, states[0], None)) < 0).all()  # there is none at the first exit


def test_the_learned_confidence_learns_to_foresee_agreement_and_leaves_the_model_alone(model):
    learned, tokens = LearnedConfidence(D).double(), text(16, 32)
    before = [p.clone() for p in model.parameters()]
    first = learned.loss(model, tokens)
    assert abs(first.item() - 0.69) < 0.3  # balanced: near log 2 before training
    optimizer = torch.optim.Adam(learned.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        learned.loss(model, tokens).backward()
        optimizer.step()
    assert learned.loss(model, tokens) < 0.95 * first
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, model.parameters(), strict=True))
    states = model.states(tokens)
    agrees = model.read(2, states[2]).argmax(-1) == model.read(L - 1, states[-1]).argmax(-1)
    c = learned(AtExit(model, 2, states[2], states[1]))
    assert c[agrees].mean() > c[~agrees].mean()


def test_the_loss_of_the_learned_confidence_weighs_both_labels_alike(model):
    learned, tokens = LearnedConfidence(D).double(), text(4, 16)
    torch.nn.init.constant_(learned.linear.weight, 0.0)
    torch.nn.init.constant_(learned.linear.bias, 2.0)  # "it agrees", whatever the state
    expected = (F.softplus(torch.tensor(-2.0)) + F.softplus(torch.tensor(2.0))) / 2
    torch.testing.assert_close(learned.loss(model, tokens).item(), expected.item(), rtol=1e-6, atol=0)


def test_decaying_threshold_is_the_papers():
    level = decaying_threshold(0.8, 50, tau=4.0)
    assert level(0) == pytest.approx(0.9 * 0.8 + 0.1) and level(50) == pytest.approx(0.72 + 0.1 * 2.718281828**-4)
    assert decaying_threshold(1.0, 50)(0) == 1.0
    assert all(a > b for a, b in itertools.pairwise(map(level, range(50))))


def test_token_losses_equal_a_loop_over_tokens(model):
    tokens = text(70)
    losses = token_losses(model, tokens, context=16)
    assert losses.shape == (L, 69)
    for place in (1, 2, 15, 16, 17, 24, 25, 48, 49, 69):
        start = max(0, -(-(place - 16) // 8)) * 8
        logits = model(tokens[None, start:place])[:, 0, -1]
        torch.testing.assert_close(losses[:, place - 1], -logits.log_softmax(-1)[:, tokens[place]])
    for length in (2, 16, 17, 18, 24, 25, 26):
        assert token_losses(model, tokens[:length], context=16).shape == (L, length - 1)


@pytest.mark.parametrize("exit", range(L - 1))
@pytest.mark.parametrize("draft", [1, 2, 3, 7])
def test_what_is_drafted_and_checked_is_what_the_full_model_writes(model, exit, draft):
    for prompt in (text(1, 1), text(1, 6), text(3, 9)[2:]):
        for n in (0, 1, 2, 3, 10, 23):
            wanted, _ = generate(model, prompt, n)
            written, kept = speculate(model, prompt, n, exit=exit, draft=draft)
            assert torch.equal(written, wanted)
            assert all(0 <= some <= draft for some in kept)


def by_rule(full, drafts, draft, n):
    """How many drafts of each round are kept, from a text and what an exit would draft after each part of it."""
    kept, done = [], 0
    while done < n:
        size = min(draft, n - done)
        some = 0
        while some < size and drafts(full[:done + some]) == full[done + some]:  # fmt: skip
            some += 1
        kept.append(some)
        done += min(some + 1, size)
    return kept


@pytest.mark.parametrize("exit", [0, 2])
def test_a_round_keeps_what_agrees_and_goes_on_from_the_first_that_does_not(model, exit):
    prompt, n = text(1, 5), 40
    full = generate(model, prompt, n)[0][0].tolist()

    def drafts(before):  # by the exit alone, from the whole text
        return int(model(torch.tensor([prompt[0].tolist() + before]))[exit, 0, -1].argmax())

    kept = speculate(model, prompt, n, exit=exit, draft=4)[1]
    assert kept == by_rule(full, drafts, 4, n)
    assert len(set(kept)) > 2  # it is a mixture of good and bad rounds


def test_layers_before_the_exit_run_once_for_each_draft_and_the_head_twice(model):
    prompt, n, calls = text(1, 5), 12, {}

    def count(name):
        return lambda module, args, result: calls.update({name: calls.get(name, 0) + result.shape[:-1].numel()})

    hooks = [layer.up.register_forward_hook(count(k)) for k, layer in enumerate(model.layers)]
    hooks.append(model.head.register_forward_hook(count("head")))
    kept = speculate(model, prompt, n, exit=1, draft=4)[1]
    for hook in hooks:
        hook.remove()
    sizes, done = [], 0
    for some in kept:
        sizes.append(min(4, n - done))
        done += min(some + 1, sizes[-1])
    read = len(prompt[0]) - 1
    # each drafted token: the layers once, the head twice; the prompt all layers but the last
    assert calls == {
        0: read + sum(sizes),
        1: read + sum(sizes),
        2: read + sum(sizes),
        3: sum(sizes),
        "head": 2 * sum(sizes),
    }


def test_one_text_and_a_draft_of_an_exit(model):
    with pytest.raises(ValueError, match="prompt must hold one text, got 2: texts keep drafts of different lengths"):
        speculate(model, text(2, 3), 4, exit=1, draft=2)
    with pytest.raises(ValueError, match="prompt must hold at least one token"):
        speculate(model, text(1, 0), 4, exit=1, draft=2)
    for exit in (-1, L - 1, 1.5):
        with pytest.raises(ValueError, match=f"exit must be an integer from 0 to {L - 2}, got {exit}"):
            speculate(model, text(1, 3), 4, exit=exit, draft=2)
    with pytest.raises(ValueError, match="draft must be an integer >= 1, got 0"):
        speculate(model, text(1, 3), 4, exit=1, draft=0)
    with pytest.raises(ValueError, match="n must be an integer >= 0, got -1"):
        speculate(model, text(1, 3), -1, exit=1, draft=2)


def test_empty_and_wrong_input(model):
    tokens, exited = generate(model, text(2, 3), 0)
    assert tokens.shape == (2, 0) and exited.logits.shape == (2, 0, V) and exited.exit_index.shape == (2, 0)
    assert generate(model, text(0, 3), 4, softmax_margin, 0.5)[0].shape == (0, 4)
    with pytest.raises(ValueError, match="prompt must hold at least one token"):
        generate(model, text(2, 0), 4)
    with pytest.raises(ValueError, match=r"threshold must be a number from 0 to 1, got 1.5"):
        generate(model, text(1, 2), 4, softmax_margin, 1.5)
    with pytest.raises(ValueError, match="tokens must lie from 0 to 10, got 11 to 11"):
        model(torch.tensor([[11]]))
    with pytest.raises(TypeError, match="tokens must be integers"):
        model(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="n_heads must divide d_model = 16 into heads of even width, got 3"):
        Decoder(16, 3, 2)
    with pytest.raises(ValueError, match="context must be even"):
        token_losses(model, text(9), context=7)
    with pytest.raises(ValueError, match="n_steps must be an integer >= 1, got 0"):
        decaying_threshold(0.5, 0)
