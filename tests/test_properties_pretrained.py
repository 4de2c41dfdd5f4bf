"""Properties of the networks that ship: the decoder, images and captions."""

import math

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from properties import BATCHES, SEEDS, close, refuses, rng

from lecture_lib import pretrained
from lecture_lib.choice import softmax
from lecture_lib.pretrained import __main__ as recipes
from lecture_lib.pretrained import adapting, decoder, limoe


@given(st.integers(1, 3), BATCHES, st.integers(1, 5), st.integers(0, 4), SEEDS, st.sampled_from([0.0, 0.3, 1.0]))
def test_a_decoder_reads_what_it_writes(n_layers, batch, t, n, seed, threshold):
    torch.manual_seed(seed)
    model = decoder.Decoder(4, 1, n_layers, n_tokens=5)
    prompt = torch.randint(5, (batch, t))
    written, made = decoder.generate(model, prompt, n)
    assert written.shape == (batch, n) and (made.exit_index == n_layers - 1).all()
    text = torch.cat([prompt, written], 1)
    with torch.no_grad():
        logits = model(text)
        torch.testing.assert_close(made.logits, logits[-1, :, t - 1 : t + n - 1], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(model(text[:, :1]), logits[:, :, :1], atol=1e-4, rtol=1e-4)
    learned = decoder.LearnedConfidence(4)
    for confidence, low in ((decoder.softmax_margin, 0), (decoder.state_similarity, -1), (learned, 0)):
        sure = confidence(decoder.AtExit(model, 0, torch.randn(batch, 4), torch.randn(batch, 4)))
        assert sure.shape == (batch,) and (sure >= low - 1e-5).all() and (sure <= 1 + 1e-5).all()
        written, made = decoder.generate(model, prompt, n, confidence, threshold)
        again = decoder.exit_while_reading(model, torch.cat([prompt, written], 1), confidence, threshold, careful=t - 1)
        if n:  # the states of later tokens are the same, up to rounding
            torch.testing.assert_close(again.logits[:, t - 1 : -1], made.logits, atol=1e-4, rtol=1e-4)
    assert n_layers == 1 or not batch or learned.loss(model, text) >= 0
    for row in text[:, :9]:
        if len(row) > 1:
            losses = decoder.token_losses(model, row, context=10)
            wanted = [F.cross_entropy(exit[0, :-1], row[1:], reduction="none") for exit in model(row[None])]
            torch.testing.assert_close(losses, torch.stack(wanted).detach(), atol=1e-4, rtol=1e-4)
    refuses("tokens", decoder.token_losses, model, torch.tensor([0, 7]))
    refuses("tokens", decoder.token_losses, model, torch.zeros(4))
    refuses("context", decoder.token_losses, model, text, context=3)
    refuses("n", decoder.generate, model, prompt, -1)
    refuses("threshold", decoder.generate, model, prompt, 1, learned, 1.5)
    refuses("threshold", decoder.exit_while_reading, model, prompt, learned, math.nan)
    double = model.double()  # where rounding decides between no two tokens
    for one in prompt[:, None] if n_layers > 1 else []:
        drafted, kept = decoder.speculate(double, one, n, exit=n_layers - 2, draft=2)
        assert torch.equal(drafted, decoder.generate(double, one, n)[0]) and set(kept) <= {0, 1, 2}
    refuses("exit", decoder.speculate, model, prompt[:1], n, exit=n_layers - 1, draft=2)
    before = model(prompt)
    decoder.upcycle_layers(model, 3, softmax, range(n_layers))
    torch.testing.assert_close(model(prompt), before, atol=1e-4, rtol=1e-4)
    refuses("layers", decoder.upcycle_layers, model, 3, softmax, [n_layers])
    level = decoder.decaying_threshold(threshold, max(n, 1))
    assert all(0 <= level(step + 1) <= level(step) <= 1 for step in range(n))
    for option in ({"threshold": -1}, {"n_steps": 0}, {"tau": math.nan}, {"tau": math.inf}, {"amplitude": -1}):
        refuses(*option, decoder.decaying_threshold, **({"threshold": 0.5, "n_steps": 3} | option))


@given(st.sampled_from(adapting.TEXTS), st.integers(1, 3), st.integers(1, 40), st.integers(1, 2), SEEDS)
def test_a_model_that_goes_on_learning(text, n, context, rank, seed):
    learnt, held_out, test = adapting.parts(text, n)
    assert len(held_out) == n * adapting.PIECE and len(test) == 2 * n * adapting.PIECE
    train = adapting.sources(text).train
    assert len(learnt) + n == len(train) // adapting.PIECE  # each piece is learnt from or held out
    places = adapting.spread(len(learnt) + n, n)
    assert torch.equal(train[places[0] * adapting.PIECE :][: adapting.PIECE], held_out[: adapting.PIECE])
    assert len(set(places.tolist())) == n and 0 <= places.min() and places.max() < len(learnt) + n
    batch = next(adapting.windows(text, n, seed, context))
    assert batch.shape == (n, context + 1)
    assert all(bytes(row.tolist()) in bytes(adapting.parts(text)[0].flatten().tolist()) for row in batch)
    torch.manual_seed(seed)
    model = decoder.Decoder(4, 1, 2)
    before = {name: w.clone() for name, w in model.state_dict().items()}
    logits = model(batch[:, :-1])
    first, last = (F.cross_entropy(exit.flatten(0, 1), batch[:, 1:].flatten()) for exit in logits)
    close(adapting.loss(model, batch), (first + 2 * last) / 3, 64)
    adapting.learn(adapting.prepare(model, f"rank {rank}", seed), iter([batch]), 0.1, 1)
    after = model.state_dict()
    kept = {name.replace(".base", ""): w for name, w in after.items()}
    assert all(torch.equal(w, kept[name]) for name, w in before.items())
    assert all(w.any() for name, w in after.items() if name.endswith("output.B"))
    wanted = decoder.token_losses(model, held_out[:50])[-1].mean() / math.log(2)
    assert math.isclose(adapting.bits(model, held_out[:50]), wanted, rel_tol=1e-4)
    refuses("text", adapting.sources, "latin")
    refuses("method", adapting.prepare, model, "some")


@given(st.integers(0, 39), st.integers(1, 4), SEEDS)
def test_pairs_of_images_and_captions(kind, n, seed):
    text = limoe.caption(kind)
    tokens = limoe.encode([text])
    assert "".join(limoe.ALPHABET[i - 1] for i in tokens[0].tolist() if i) == text and tokens.shape == (1, 24)
    pairs = limoe.draw_pairs(torch.rand(5, 8, 8), torch.arange(5), size=n, generator=rng(seed))
    assert isinstance(pairs, limoe.Pairs) and pairs.images.shape == (n, 8, 8) and (pairs.kind < 20).all()
    ink = limoe.draw_images(torch.rand(n, 8, 8), pairs.kind)
    assert (ink >= 0).all() and (ink <= 1).all()
    torch.manual_seed(seed)
    net = limoe.LIMoE(4, 2, 2, 3, 4, capacity_factor=None)
    made = net(pairs.images, pairs.captions)
    assert isinstance(made, limoe.Encoded)
    alone = net(pairs.images[:1], pairs.captions[:0]).images  # who else is there does not matter
    torch.testing.assert_close(alone, made.images[:1], atol=1e-5, rtol=1e-4)
    scores, same = 3.0 * made.images @ made.captions.T, torch.eye(n, dtype=torch.bool)
    wanted = sum(F.cross_entropy(s, torch.arange(n)) for s in (scores, scores.T)) / 2
    close(limoe.contrastive_loss(made.images, made.captions, 3.0, same), wanted, 64)
    share = limoe.modality_share(made.choices[0], made.is_text)
    assert share.shape == (2, 3) and abs(share.sum() - 1) < 1e-5
    assert limoe.entropy_losses(made.choices[0], made.is_text, 0.5) >= -1e-6
    refuses("kind", limoe.caption, 40)
    refuses("captions", limoe.encode, text)
    refuses("captions", limoe.encode, [""])
    refuses("captions", limoe.encode, ["X"])
    for wrong in (pairs.captions - 1, pairs.captions + 27, pairs.captions * 0):
        refuses("captions", net.forward, pairs.images, wrong)
    refuses("images", net.forward, pairs.images[:, 1:], pairs.captions)


def test_what_is_no_network_is_refused_by_name():
    for name in ("no such", "", "../x"):
        for job in (pretrained.load, pretrained.record, recipes.pretrain):
            refuses("name", job, name)
    refuses("steps", recipes.pretrain, "language_model", steps=0)
