"""One network for images and captions: data, losses and routing against numbers worked out by hand."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from lecture_lib.choice import Choice, gumbel_softmax, noisy_top_k
from lecture_lib.cost import count_flops
from lecture_lib.data import digits
from lecture_lib.moe import MoE, switch
from lecture_lib.pretrained.limoe import (
    N_KINDS,
    TEMPLATES,
    LIMoE,
    caption,
    contrastive_loss,
    draw_images,
    draw_pairs,
    encode,
    entropy_losses,
    modality_share,
    retrieval,
)

SMALL = {"d_model": 8, "n_heads": 2, "n_layers": 2, "n_experts": 4, "d_hidden": 6}


def pairs(size=6, seed=0):
    data = digits()
    return draw_pairs(data.train_x, data.train_y, size=size, generator=torch.Generator().manual_seed(seed))


# ---- images and captions


def test_each_kind_has_its_own_caption_in_every_template():
    assert caption(31) == "a bold white seven" and caption(0, TEMPLATES[1]) == "black zero in thin"
    for template in TEMPLATES:
        assert len({caption(kind, template) for kind in range(N_KINDS)}) == N_KINDS
    with pytest.raises(ValueError, match="kind must be from 0 to 39, got 40"):
        caption(40)


def test_a_caption_is_places_in_the_alphabet_and_padding():
    assert encode(["a z"], 5).tolist() == [[2, 1, 27, 0, 0]]
    assert encode([]).shape == (0, 24)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A seven", r"letters and spaces, got byte 0x41 in 'A seven'"),
        ("seven.", r"got byte 0x2e in 'seven\.'"),
        ("café", r"got byte 0xc3 in 'café'"),
        ("", "of 1 to 24 bytes, got 0 in ''"),
        (25 * "a", "of 1 to 24 bytes, got 25"),
    ],
)
def test_a_caption_out_of_the_vocabulary_is_refused_with_its_byte(text, message):
    with pytest.raises(ValueError, match=message):
        encode(["a seven", text])


def test_one_text_is_no_list_of_captions():
    with pytest.raises(TypeError, match="captions must be a list of texts, got one text, 'seven'"):
        encode("seven")


def test_bold_and_white_are_what_they_say():
    x = torch.zeros(1, 8, 8)
    x[0, 3, 4] = 0.75
    thin, thin_white, bold, bold_white = (draw_images(x, torch.tensor([kind])) for kind in range(4))
    assert torch.equal(thin, x) and torch.equal(thin_white, 1 - x) and torch.equal(bold_white, 1 - bold)
    assert bold.nonzero().tolist() == [[0, i, j] for i in (2, 3) for j in (3, 4)] and bold.max() == 0.75


def test_a_pair_is_an_image_and_what_it_shows():
    drawn, again = pairs(500), pairs(500)
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))
    assert drawn.kind.unique().numel() == N_KINDS
    for tokens, kind in zip(drawn.captions, drawn.kind.tolist(), strict=True):
        assert any(torch.equal(tokens, encode([caption(kind, template)])[0]) for template in TEMPLATES)
    white = drawn.kind % 2 == 1
    assert drawn.images[white].mean() > 0.5 > drawn.images[~white].mean()


# ---- the network


def test_an_input_is_encoded_the_same_alone_as_in_company():
    model, p = LIMoE(**SMALL, capacity_factor=None).eval(), pairs()
    together = model(p.images, p.captions)
    none = p.captions[:0]
    torch.testing.assert_close(together.images[:1], model(p.images[:1], none).images)
    alone = model(p.images[:0], p.captions[2:3, :20])  # padding does not count
    torch.testing.assert_close(together.captions[2:3], alone.captions)
    for found in (together.images, together.captions):
        torch.testing.assert_close(found.norm(dim=-1), torch.ones(6))


def test_both_modalities_compete_for_the_same_experts_and_padding_does_not():
    model, p = LIMoE(**SMALL), pairs()
    seen, counts = [], []
    moe = model.body.blocks[1].mlp
    moe.register_forward_hook(lambda layer, inputs, out: seen.append(inputs[0]))
    moe.experts.register_forward_hook(lambda layer, inputs, out: counts.append(inputs[1]))
    found = model(p.images, p.captions)
    n_text = int((p.captions > 0).sum())
    assert isinstance(moe, MoE) and moe.batch_priority and len(found.choices) == 1
    assert found.is_text.tolist() == [False] * 6 * 16 + [True] * n_text
    assert found.choices[0].weights.shape == (6 * 16 + n_text, 4) and seen[0].shape == (6 * 16 + n_text, 8)
    wanted, room = (found.choices[0].weights > 0).sum(0), math.ceil(1.25 * (6 * 16 + n_text) / 4)
    assert wanted.max() > room  # else nothing would be seen here
    assert torch.equal(counts[0], wanted.clamp(max=room))  # what the experts ran


def test_the_network_is_its_blocks_one_sequence_at_a_time():
    """A dumb loop: no padding, no mask, each image and each caption on its own."""
    model, p = LIMoE(**SMALL, capacity_factor=None).eval(), pairs()
    found = model(p.images, p.captions)

    def run(x, head):
        for block in model.body.blocks:
            x = x + block.attention(block.norm_1(x))
            y = block.mlp(block.norm_2(x))
            x = x + (y[0] if isinstance(y, tuple) else y)
        return F.normalize(head(model.body.norm(x).mean(1)), dim=-1)

    for i in range(6):
        corners = [(a, b) for a in range(0, 8, 2) for b in range(0, 8, 2)]
        patches = torch.stack([p.images[i, a : a + 2, b : b + 2].flatten() for a, b in corners])
        image = run((model.patch(patches) + model.place["image"])[None], model.heads["image"])
        text = p.captions[i][p.captions[i] > 0]
        words = run((model.byte(text) + model.place["text"][: len(text)])[None], model.heads["text"])
        torch.testing.assert_close(found.images[i : i + 1], image)
        torch.testing.assert_close(found.captions[i : i + 1], words)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_says_about_the_same(low, autocast):
    """Scores and losses in float32, images and captions in the dtype of the network, gradients for all."""
    net, p = LIMoE(**SMALL | {"d_hidden": 8}), pairs(20)
    same = p.kind[:, None] == p.kind

    def run(net, images):
        found = net(images, p.captions)
        loss = contrastive_loss(found.images, found.captions, net.log_scale.exp(), same)
        return found, loss + sum(entropy_losses(c, found.is_text, 1.0) for c in found.choices)

    _, wanted = run(net, p.images)
    net = net if autocast else net.to(low)
    with torch.autocast("cpu", low, enabled=autocast):
        found, loss = run(net, p.images if autocast else p.images.to(low))
    assert {part.dtype for choice in found.choices for part in choice} == {loss.dtype} == {torch.float32}
    assert found.images.dtype == low and abs(loss - wanted) < 0.05
    loss.backward()
    assert all(w.grad.isfinite().all() and w.grad.any() for w in net.parameters())


def test_evaluation_draws_no_noise():
    net, p = LIMoE(**SMALL, choose=partial(noisy_top_k, k=1)), pairs()
    assert not torch.equal(net(p.images, p.captions).images, net(p.images, p.captions).images)
    assert torch.equal(net.eval()(p.images, p.captions).images, net(p.images, p.captions).images)
    told = LIMoE(**SMALL, choose=lambda s: gumbel_softmax(s), at_test=switch).eval()
    assert ((told(p.images, p.captions).choices[0].weights > 0).sum(-1) == 1).all()


def test_a_gradient_reaches_every_parameter():
    model, p = LIMoE(**SMALL), pairs(32)
    found = model(p.images, p.captions)
    loss = contrastive_loss(found.images, found.captions, model.log_scale.exp(), p.kind[:, None] == p.kind)
    (loss + sum(entropy_losses(c, found.is_text, 1.0) for c in found.choices)).backward()
    dead = [name for name, w in model.named_parameters() if w.grad is None or not w.grad.abs().sum() > 0]
    assert dead == []


def test_active_flops_are_those_of_the_dense_network_and_the_router():
    p = pairs()
    sparse, dense = LIMoE(**SMALL, capacity_factor=None), LIMoE(**SMALL | {"n_experts": None})
    tokens = 6 * 16 + int((p.captions > 0).sum())
    router = 2 * tokens * SMALL["d_model"] * SMALL["n_experts"]
    difference = count_flops(sparse, p.images, p.captions) - count_flops(dense, p.images, p.captions)
    assert difference == router


@pytest.mark.parametrize(
    ("images", "captions", "message"),
    [
        (torch.zeros(2, 28, 28), torch.ones(2, 4).long(), r"images must have shape \(B, 8, 8\), got \(2, 28, 28\)"),
        (torch.zeros(8, 8), torch.ones(2, 4).long(), r"images must have shape \(B, 8, 8\), got \(8, 8\)"),
        (torch.zeros(2, 8, 8), torch.ones(2, 25).long(), r"captions must have shape \(C, T\) .* got \(2, 25\)"),
        (torch.zeros(2, 8, 8), torch.full((2, 4), 28), r"captions must be tokens from 0 to 27, got 28"),
        (torch.zeros(2, 8, 8), torch.tensor([[2, 3], [0, 0]]), r"captions must hold a token each"),
    ],
)
def test_wrong_shapes_and_tokens_are_refused(images, captions, message):
    with pytest.raises(ValueError, match=message):
        LIMoE(**SMALL)(images, captions)


# ---- losses


def test_contrastive_loss_is_that_of_clip_where_no_caption_is_twice():
    images, captions = F.normalize(torch.randn(2, 5, 4, dtype=torch.float64), dim=-1)
    scores, right = 7 * images @ captions.T, torch.arange(5)
    wanted = (F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right)) / 2
    torch.testing.assert_close(contrastive_loss(images, captions, 7, torch.eye(5, dtype=torch.bool)), wanted)


def test_contrastive_loss_shares_the_target_among_equal_captions():
    images, captions = F.normalize(torch.randn(2, 3, 4, dtype=torch.float64), dim=-1)
    kind = torch.tensor([0, 1, 0])
    p = (5 * images @ captions.T).softmax(1).log()
    q = (5 * images @ captions.T).softmax(0).log()
    by_hand = -((p[0, 0] + p[0, 2] + p[2, 0] + p[2, 2]) / 2 + p[1, 1]) / 3
    by_hand -= ((q[0, 0] + q[2, 0] + q[0, 2] + q[2, 2]) / 2 + q[1, 1]) / 3
    torch.testing.assert_close(contrastive_loss(images, captions, 5, kind[:, None] == kind), by_hand / 2)


def test_an_image_without_a_caption_of_its_own_is_refused():
    images, captions = F.normalize(torch.randn(2, 3, 4), dim=-1)
    for row, column in (([0, 1, 2], [0, 1, 1]), ([0, 1, 1], [0, 1, 2])):
        same = torch.zeros(3, 3, dtype=torch.bool)
        same[row, column] = True
        with pytest.raises(ValueError, match="same must hold a True in each row and column"):
            contrastive_loss(images, captions, 5, same)


def logits_of(p):
    logits = torch.tensor(p, dtype=torch.float64).log()
    return Choice(logits, logits.softmax(-1), logits.new_zeros(len(logits)))


def test_entropy_losses_by_hand():
    sure, text = [[1.0, 0, 0, 0], [0, 1.0, 0, 0]], [[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0]]
    choice, is_text = logits_of(sure + text), torch.tensor([False, False, True, True])
    log2 = math.log(2)
    for threshold, wanted in ((0, log2), (log2, log2), (math.log(3), log2 + 2 * (math.log(3) - log2))):
        assert entropy_losses(choice, is_text, threshold).item() == pytest.approx(wanted)  # local of the text is log 2


def test_entropy_losses_do_not_mix_modalities():
    """Text on one expert is a loss, however well images use the others."""
    images, text = [[0, 1.0, 0], [0, 0, 1.0]], [[1.0, 0, 0], [1.0, 0, 0]]
    loss = entropy_losses(logits_of(images + text), torch.tensor([False, False, True, True]), math.log(2))
    assert loss.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("is_text", [True, False])
def test_entropy_losses_of_one_modality_alone_are_its_own(is_text):
    """The other one is not there: no part of the loss, and no constant either."""
    p, there = torch.rand(6, 4).softmax(-1), torch.full((6,), is_text)
    local, mean = -(p * p.log()).sum(-1).mean(), p.mean(0)
    wanted = local + (2 + (mean * mean.log()).sum()).clamp(min=0)
    torch.testing.assert_close(entropy_losses(Choice(p.log(), p, torch.zeros(6)), there, 2.0), wanted)
    none = Choice(*(part[:0] for part in (p.log(), p, torch.zeros(6))))
    assert entropy_losses(none, there[:0], 2.0).item() == 0


def test_modality_share_counts_tokens():
    choice = logits_of([[0.9, 0.1, 0], [0.9, 0.1, 0], [0.2, 0.8, 0], [0.2, 0.8, 0]])
    one = choice._replace(weights=choice.weights * (choice.weights > 0.5))
    share = modality_share(one, torch.tensor([False, True, True, True]))
    assert share.tolist() == [[0.25, 0, 0], [0.25, 0.5, 0]]
    assert not modality_share(Choice(*(part[:0] for part in one)), torch.zeros(0, dtype=torch.bool)).any()


# ---- measures


def test_retrieval_of_a_network_that_knows_and_of_one_that_does_not():
    data, model = digits(), LIMoE(**SMALL)
    x, y = data.test_x[:100], data.test_y[:100]

    class Knows(torch.nn.Module):
        def forward(self, images, captions):
            kind = 4 * y.repeat(4) + torch.arange(4).repeat_interleave(len(y))
            return model(images[:0], captions[:0])._replace(images=F.one_hot(kind, 40).float(), captions=torch.eye(40))

    assert retrieval(Knows(), x, y) == (1, pytest.approx((y.bincount() / 10).clamp(max=1).mean().item()))
    assert retrieval(model.eval(), x, y).image_to_text < 0.2


def test_retrieval_needs_ten_images_to_find():
    data, model = digits(), LIMoE(**SMALL).eval()
    for n in (0, 2):
        with pytest.raises(ValueError, match=f"x must hold at least 3 digits, .* got {n}"):
            retrieval(model, data.test_x[:n], data.test_y[:n])
    assert 0 <= retrieval(model, data.test_x[:3], data.test_y[:3]).text_to_image <= 0.1  # of 10, at most 1 a kind
