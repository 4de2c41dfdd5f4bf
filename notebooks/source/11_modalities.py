# %% [markdown] slideshow={"slide_type": "slide"}
# # Modalities: images and text in one sparse network
#
# **Notebook 11** · *Designing efficient and modular neural networks*
#
# One network and one set of experts, for images and for text.
# What does that gain, and which expert serves whom? We ask in numbers.

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you will be able to do.** Say what one sparse network for images and text gains, and what its two entropy
# losses are for; measure, in bits, what an expert tells about the modality; say by what rule letters and patches are
# routed; name two ways in which such a network fails. You need: notebook 08 for experts and routers. About 40
# minutes with the exercise. The networks come trained, with their record; everything else runs on a laptop in less than
# a minute.

# %% slideshow={"slide_type": "skip"}
import copy

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from lecture_lib import plots
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.data import digits
from lecture_lib.moe import MoE, switch, within_capacity
from lecture_lib.notebook import check, setup, show
from lecture_lib.pretrained import load, record
from lecture_lib.pretrained.limoe import (
    N_KINDS,
    TEMPLATES,
    caption,
    contrastive_loss,
    draw_images,
    draw_pairs,
    encode,
    entropy_losses,
    modality_share,
    retrieval,
)
from lecture_lib.widgets import Modalities

seed = setup(0)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## One network, two modalities
#
# “Very good fit for multi-modal and multi-task problems.” Is it?

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.6))
seven = draw_images(digits().train_x[digits().train_y == 7][:1], torch.tensor([31]))[0]
ax.imshow(seven, cmap="gray_r", vmin=0, vmax=1, extent=(-0.3, 1.1, 2.5, 3.9))
ax.text(0.4, 0.75, "“a bold\nwhite seven”", ha="center", va="center")
for y, text, colour in ((2.7, "16 patches\nof 2 × 2", "C0"), (0.25, "18 bytes", "C1")):
    plots.box(ax, 1.9, y, 1.35, 1.0, text, colour=colour)
    plots.arrow(ax, (1.2, y + 0.5), (1.85, y + 0.5))
    plots.arrow(ax, (3.3, y + 0.5), (3.85, y + 0.5), colour=colour)
    plots.arrow(ax, (8.85, y + 0.5), (9.4, y + 0.5), colour=colour)
ax.add_patch(plt.Rectangle((3.9, -0.1), 4.9, 4.15, fill=False, ec="0.4", lw=1.6))
ax.text(6.35, 4.2, "one transformer, the same weights for both", ha="center")
plots.box(ax, 4.1, 0.15, 1.3, 3.65, "attention,\ninside each\nimage or\ncaption", colour="0.5")
plots.box(ax, 5.55, 1.5, 0.9, 0.95, "router", colour="C2")
for e in range(8):
    plots.box(ax, 6.95, 0.1 + 0.47 * e, 1.65, 0.38, f"expert {8 - e}", colour="C2", on=e in (2, 5, 6))
plots.arrow(ax, (6.5, 2.0), (6.9, 2.6), colour="C2")
plots.arrow(ax, (6.5, 1.9), (6.9, 1.25), colour="C2")
ax.text(10.0, 3.2, "vector", ha="center", va="center")
ax.text(10.0, 0.75, "vector", ha="center", va="center")
ax.annotate("", (10.0, 1.05), (10.0, 2.9), arrowprops={"arrowstyle": "<|-|>", "color": "0.3", "lw": 1.8})
ax.text(10.1, 1.97, "alike?", va="center")
ax.text(7.78, -0.45, "dashed: not used here", ha="center", color="0.3", fontsize="small")
ax.set(xlim=(-0.4, 10.8), ylim=(-0.65, 4.5), aspect="auto")
ax.axis("off")
show(
    fig,
    "An image of a bold white seven in 16 patches and its caption in 18 bytes go through one transformer: attention, "
    "a router, eight experts. Out come two vectors, which should be alike.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# In notebook 10 tasks share a network. Here modalities do: one transformer for images and for text (LIMoE, Mustafa et
# al. 2022). Only the first layer differs, patches in one case and bytes in the other, and the last. Between them the
# tokens of both go through the same attention and compete for the same experts: eight in every second block, one for
# each token (`switch`), with room for 1.25 times an equal share. Who is surest is served first, whatever it is:
# **batch priority routing**.
#
# Nothing tells a token which modality it is. Will experts for images and experts for text emerge? Will one modality
# push the other out?

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Forty things to say about a digit

# %% slideshow={"slide_type": "-"}
data, generator = digits(), torch.Generator().manual_seed(seed)
pairs = draw_pairs(data.test_x, data.test_y, size=256, generator=generator)
print(*(caption(31, template) for template in TEMPLATES), sep=", ")
print("as the network reads it:", *encode([caption(31)], length=18)[0].tolist())

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(1, 6, figsize=(10, 2.3))
for ax, image, kind in zip(axes, pairs.images, pairs.kind.tolist(), strict=False):
    ax.imshow(image, cmap="gray_r", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.set_title(caption(kind).replace(" ", "\n", 1)[2:].replace(" ", "\n", 1), fontsize="medium")
show(fig, "Six digits, thin or bold, black or white: " + ", ".join(caption(k) for k in pairs.kind[:6].tolist()) + ".")

# %% [markdown] slideshow={"slide_type": "notes"}
# Ten digits, thin or bold, black or white: 40 kinds, each said in three ways. A caption is a row of bytes; the network
# knows neither words nor letters. It sees an image and a caption together, and has to find out that *seven* is a shape,
# *bold* a width and *white* the paper. Bold is the darkest of each 2 × 2 pixels, white is one minus ink.
#
# Only lower-case letters and spaces are in the vocabulary. Another byte is an error that names it:
# `encode(["a seven!"])`.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Which caption belongs to which image?
#
# $$L = \tfrac{1}{2} H\big(q, \text{softmax}_j(s_{ij})\big) + \tfrac{1}{2} H\big(q^\top, \text{softmax}_i(s_{ij})\big)
# \qquad s_{ij} = \tfrac{1}{\lambda} \cos(u_i, v_j)$$

# %% slideshow={"slide_type": "-"}
u, v = F.normalize(torch.randn(2, 4, 8), dim=-1)  # 4 images, 4 captions
kind = torch.tensor([31, 12, 31, 5])  # two of them say the same
scores, same = 10 * u @ v.T, kind[:, None] == kind

q = same / same.sum(-1, keepdim=True)  # all that is right shares the target
to_text = -(q * scores.log_softmax(-1)).sum(-1).mean()
to_image = -(q.T * scores.T.log_softmax(-1)).sum(-1).mean()
torch.testing.assert_close((to_text + to_image) / 2, contrastive_loss(u, v, 10, same))
print(q)

# %% [markdown] slideshow={"slide_type": "notes"}
# InfoNCE in both directions, as in CLIP: of all captions in the batch, find that of the image, and of all images that
# of the caption. The temperature λ is learnt.
#
# A detail that is easily forgotten: with 64 pairs and 40 kinds, several images of a batch have the **same** caption.
# CLIP's targets, the diagonal, would punish an answer that is right. So all pairs of one kind share the target, and
# measures count each of them as a hit.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Two entropies for each modality
#
# $$\underbrace{\tfrac{1}{n} \textstyle\sum_i H(p_i)}_{\text{local: be sure}} \; + \;
# \underbrace{\max\big(0, \tau - H(\tfrac{1}{n} \textstyle\sum_i p_i)\big)}_{\text{global: use at least } \exp \tau
# \text{ experts}} \qquad \text{images, text: each on its own}$$

# %% slideshow={"slide_type": "-"}
router_scores = torch.randn(50, 8)  # of 50 tokens
p, is_text, tau = router_scores.softmax(-1), torch.arange(50) >= 16, np.log(6)

def entropy(p):
    return -(p * p.log()).sum(-1)

by_hand = 0
for of_modality in (p[~is_text], p[is_text]):
    local, mean = entropy(of_modality).mean(), of_modality.mean(0)
    by_hand = by_hand + local + (tau - entropy(mean)).clamp(min=0)
torch.testing.assert_close(by_hand, entropy_losses(switch(router_scores), is_text, tau))

# %% [markdown] slideshow={"slide_type": "notes"}
# Notebook 08 balanced all tokens together. Here that is not enough: experts can be in perfect balance while all the
# text sits on one of them. So LIMoE looks at each modality on its own. **Local**: each token is sure of its expert.
# **Global**: on average the modality uses many, at least $e^\tau$, here six of eight; a threshold, so that it need not
# be all of them, and experts may still belong to one modality.
#
# **Predict.** Three networks: with both losses, with the local one only, with none. In which one does a modality
# collapse, and which modality is it?

# %% slideshow={"slide_type": "skip"}
models, made = load("limoe"), record("limoe")  # 4 ways of training, 3 seeds each
sparse_ways = [way for way in models if way != "dense"]


def experts_used(share):
    """exp of the entropy of the load of each modality: shares (..., 2, E) -> (..., 2)."""
    of_modality = share / share.sum(-1, keepdim=True)
    return torch.special.entr(of_modality).sum(-1).exp()


curves = {way: experts_used(torch.tensor(made["history"]["modality_share"][way])) for way in sparse_ways}
steps = made["history"]["step"]  # curves: (seeds, steps, layers, 2)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Without the global loss, images collapse

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True)
for m, (ax, modality) in enumerate(zip(axes, ("image", "text"), strict=True)):
    plots.curves(ax, steps, {way: values[:, :, :, m].mean(2) for way, values in curves.items()}, legend=False)
    ax.axhline(6, color="0.5", lw=1, ls=":", label="threshold τ: 6 experts")
    ax.set(title=f"{modality} tokens", xlabel="training step (recorded)", ylim=(0, 8.2), yticks=range(0, 9, 2))
axes[0].set_ylabel("experts used\n(bands: three seeds)")
fig.legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=4)
show(
    fig,
    "Recorded: experts used over 300 training steps, mean of both layers, three seeds. Images start with about two; "
    "with the local loss only they fall to one, with both they rise to six, without losses to five. Text falls to "
    "about three with the local loss only, and keeps about six otherwise.",
)

# %% slideshow={"slide_type": "skip"}
now = {}
for way in sparse_ways:
    with torch.no_grad():
        found = [model(pairs.images, pairs.captions) for model in models[way]]
    chosen = [[modality_share(c, f.is_text) for c in f.choices] for f in found]
    sure = [c.logits.softmax(-1).amax(-1).mean() for f in found for c in f.choices]
    room = [within_capacity(c, 1.25, batch_priority=True) for f in found for c in f.choices]
    lost = [1 - (c.weights > 0).any(-1).float().mean() for c in room]
    share = torch.stack([torch.stack(layers) for layers in chosen])  # (seeds, layers, 2, E)
    now[way] = share, torch.stack(sure).mean().item(), torch.stack(lost).mean().item()
    used = experts_used(share).mean((0, 1)).tolist()
    print(f"{way:12} experts used: {used[0]:.1f} by images, {used[1]:.1f} by text; "
          f"sure of the best: {now[way][1]:.2f}; dropped: {now[way][2]:.2f}")

used = {way: experts_used(share) for way, (share, _, _) in now.items()}
assert used["local only"][..., 0].max() < 1.5  # images: one expert, in every layer, for every seed
assert used["both losses"].min() > 5 and 3 < used["no losses"].mean() < used["both losses"].mean() + 0.6
assert now["both losses"][1] > 0.85 > 0.6 > now["no losses"][1]
assert now["local only"][2] > 0.4 > 0.3 > now["both losses"][2]

# %% [markdown] slideshow={"slide_type": "notes"}
# The curves are **recorded**: `python -m lecture_lib.pretrained limoe` trained twelve networks (four ways, three seeds,
# 300 steps of 64 pairs) in about four minutes of one processor core, and wrote weights and record. The numbers that
# the cell behind this slide prints are measured here, on held-out images.
#
# At the start all patches look alike to the router, and images sit on one or two experts; bytes differ more. The local
# loss alone makes that permanent: "be sure" is cheapest where everybody agrees. Images end on **one** expert, in both
# layers, for all three seeds, and most of their tokens find no room.
#
# Without any loss, *nothing collapsed here*. The paper reports collapse at scale, also under the classic balance
# losses; our small network does not reproduce it. What is missing without losses is sureness: the best expert gets a
# probability of about 0.4. So its output is scaled by 0.4, and a small change of the scores moves a token to another.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Whose experts are they?

# %% slideshow={"slide_type": "skip"}
def bits(share):
    """Mutual information of expert and modality in bits, at most 1, both alike: shares (..., 2, E) -> (...)."""
    entr, share = torch.special.entr, share / share.sum(-1, keepdim=True) / 2
    return (entr(share.sum(-1)).sum(-1) + entr(share.sum(-2)).sum(-1) - entr(share).sum((-1, -2))) / np.log(2)


apart = {way: bits(share) for way, (share, _, _) in now.items()}
print("bits that an expert says about the modality:", {way: f"{b.mean():.2f}" for way, b in apart.items()})
assert apart["both losses"].max() < 0.3 and apart["local only"].mean() > 0.4 > 0.25 > apart["no losses"].mean()
images, text = (now["local only"][0] / now["local only"][0].sum(-1, keepdim=True)).unbind(2)  # (seeds, layers, E)
theirs = text.gather(-1, images.argmax(-1, keepdim=True)).flatten()
print("local only: the images' expert has, of the text tokens,", [f"{value:.0%}" for value in theirs])
assert images.amax(-1).min() > 0.9 and theirs.min() < 0.1 and 0.3 < theirs.max() < 0.8

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(2, 3, figsize=(10, 4.4), sharex=True, sharey=True)
for column, way in zip(axes.T, ("local only", "no losses", "both losses"), strict=True):
    share = torch.tensor(made["history"]["modality_share"][way])[0, :, -1]  # (steps, 2, E): seed 0, last layer
    share = share / share.sum(-1, keepdim=True)
    for m, ax in enumerate(column):
        bands = ax.stackplot(steps, share[:, m].T, colors=[f"C{e}" for e in range(8)], lw=0.8, edgecolor="white")
        ends = share[-1, m].cumsum(0) - share[-1, m] / 2
        for e, (y, size) in enumerate(zip(ends.tolist(), share[-1, m].tolist(), strict=True)):
            if size > 0.11:
                ax.text(steps[-1] - 6, y, str(e + 1), ha="right", va="center", fontsize="small")
            bands[e].set_alpha(0.65)
    column[0].set_title(f"{way}: {apart[way].mean():.2f} bit")
    column[1].set(xlabel="training step (recorded)", xlim=(0, steps[-1]), ylim=(0, 1), yticks=[0, 0.5, 1])
for ax, modality in zip(axes[:, 0], ("image tokens", "text tokens"), strict=True):
    ax.set_ylabel(f"share of\n{modality}")
fig.suptitle("each band: one expert, with its number", fontsize="medium")
show(
    fig,
    "Recorded: the share of each of eight experts in the image tokens and in the text tokens over training, last layer,"
    " one seed. Local only: images all on one expert, text mostly on another. No losses: many experts for both. Both "
    "losses: about six experts for each modality, mostly the same ones.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Read the numbers at the right edge: which expert has which part of a modality at the end. In the titles: how many
# bits the expert of a token says about its modality, measured on held-out pairs over all seeds and layers. One bit
# would be strict separation.
#
# With local loss only the modalities separate in part: images all sit on one expert, which text shares more or less,
# from none to more than half of its tokens. With both losses they do **not**: the same six experts serve patches and
# bytes, 0.1 bit. LIMoE at scale finds experts for images, experts for text, and shared ones. A mixture *allows*
# encapsulation (notebook 10) by modality; it does not bring it about. If you need it, ask for it: give each modality
# experts of its own.

# %% slideshow={"slide_type": "skip"}
rows = torch.randperm(540, generator=generator)[:270]
x, y = data.test_x[rows], data.test_y[rows]  # held out: 270 digits in four looks, 1,080 images
hits = {way: np.array([retrieval(model, x, y) for model in models[way]]) for way in models}  # (seeds, 2)
for way, values in hits.items():
    means = values.mean(0)
    print(f"{way:12} image to text {means[0]:.2f}, text to image {means[1]:.2f}; seeds {values[:, 0].round(2)}")
mean = {way: values.mean(0) for way, values in hits.items()}
assert (mean["both losses"] > mean["dense"] + 0.08).all() and (mean["no losses"] > mean["dense"] + 0.05).all()
assert (mean["local only"] < mean["dense"]).all()
assert (hits["both losses"][:, 0] > hits["dense"][:, 0]).all()

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Retrieval, at equal active FLOPs
#
# Hidden layers of 16, 300 steps of training.

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.5))
order = ["both losses", "no losses", "local only", "dense"]
plots.bars(ax, order, {"image → text: best of 40": [mean[w][0] for w in order],
                       "text → image: share of 10 best": [mean[w][1] for w in order]})
for i, way in enumerate(order):
    for k in range(2):
        ax.plot([i - 0.2 + 0.4 * k + 0.155] * 3, hits[way][:, k], "o", color="0.15", ms=4)
ax.set(ylim=(0, 1.25), yticks=[])
ax.legend(frameon=False, ncols=2, loc="upper right")
ax.text(-0.4, 1.15, "bars: means, dots: three seeds", color="0.3", va="center")
ax.spines["left"].set_visible(False)
show(
    fig,
    "Retrieval on held-out images, mean of three seeds, dots for the seeds: "
    + "; ".join(f"{w} {mean[w][0]:.2f} and {mean[w][1]:.2f}" for w in order) + ".",
)

# %% slideshow={"slide_type": "-"} tags=["fold", "small", "varies"]
a, b = models["both losses"][0], models["dense"][0]
flops = [count_flops(model, pairs.images, pairs.captions) for model in (a, b)]
seconds = [wall_time(model, pairs.images[:64], pairs.captions[:64]) for model in (a, b)]
ratio = made["parameters"]["both losses"] / made["parameters"]["dense"]
assert made["steps"] == 300 and all((m["d_model"], m["d_hidden"]) == (32, 16) for m in made["model"].values())
more = flops[0] / flops[1], seconds[0] / seconds[1]
print(f"sparse over dense: parameters {ratio:.2f}, FLOPs {more[0]:.3f}, seconds {more[1]:.2f}")
assert 1 <= flops[0] / flops[1] < 1.03 and ratio > 1.5 and seconds[0] > 0.5 * seconds[1]

# %% [markdown] slideshow={"slide_type": "notes"}
# Chance is 0.025. A token is 32 wide; each expert has a hidden layer of 16, and so has the dense network in its place.
# So each token costs the same FLOPs, up to the router; both saw the same pairs, with the same optimisers. With both
# losses the sparse one finds about 0.15 to 0.2 more. With the local loss only it is *worse* than dense: one expert, and
# most image tokens dropped.
#
# Do not read too much into "both losses" against "no losses". On average it is a few hundredths better, but three
# seeds vary by as much, and one seed is best without any loss. At this width, after 300 steps, the win of sparsity
# over density is clear, that of the losses over nothing is not. What wider layers or longer training would say, we have
# not measured. And seconds are not FLOPs: sorting tokens for eight small groups takes longer than one product.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Look inside: which expert for which token?

# %% slideshow={"slide_type": "skip"}
def with_room(network):
    """The same network, its experts without a capacity: every token runs, whoever else is in the batch."""
    network = copy.deepcopy(network)
    for block in network.body.blocks:
        if isinstance(block.mlp, MoE):
            block.mlp.capacity_factor = None
    return network


free = {way: [with_room(network) for network in models[way]] for way in ("both losses", "no losses")}
model, kinds = free["both losses"][0], [31, 8, 24, 2, 13, 38]
shown = [draw_images(data.test_x[data.test_y == k // 4][:1], torch.tensor([k]))[0] for k in kinds]
said = [caption(k, TEMPLATES[i % 3]) for i, k in enumerate(kinds)]
every = encode([caption(k) for k in range(N_KINDS)])
inputs, chosen, titles = [], [], []
for image, text in zip(shown, said, strict=True):
    with torch.no_grad():
        seen, read = model(image[None], every), model(image[None][:0], encode([text]))
    best = caption(int((seen.images @ seen.captions.T).argmax()))
    inputs += [image, text]
    titles += [f"an image; its best caption of 40: “{best}”", f"a caption: “{text}”"]
    chosen += [torch.stack([c.weights[~f.is_text | (f is read)].argmax(-1) for c in f.choices]) for f in (seen, read)]

# %% slideshow={"slide_type": "skip"}
def table_of(label, expert):
    """The share of tokens that go where most tokens of their label go: labels, experts (N,) -> a number."""
    counts = torch.zeros(int(label.max()) + 1, 8).index_put((label, expert), torch.ones(len(label)), accumulate=True)
    return (counts.amax(-1).sum() / len(label)).item()


letter, of_patch = pairs.captions[pairs.captions > 0], pairs.kind.repeat_interleave(16)
label = {"letter": letter, "look": of_patch % 4, "digit": of_patch // 4, "nothing": 0 * of_patch}
right, shares = {(way, what): [] for way in free for what in label}, []  # for 3 seeds and 2 layers
for way, what in right:
    for network in free[way]:
        with torch.no_grad():
            seen = network(pairs.images, pairs.captions)
        shares += [modality_share(c, seen.is_text) for c in seen.choices]
        expert = [c.weights.argmax(-1)[seen.is_text == (what == "letter")] for c in seen.choices]
        right[way, what] += [table_of(label[what], e) for e in expert]
    low, high = min(right[way, what]), max(right[way, what])
    print(f"{way:12} {what:8} tells the expert of {low:.0%} to {high:.0%} of the tokens")
by_letter, by_look, by_digit, busiest = (right["both losses", what] for what in label)
assert min(by_letter) > 0.9 and max(right["no losses", "letter"]) < min(by_letter) - 0.03
assert min(by_look) > 0.45 and max(by_digit) < 0.42 and min(by_look) > max(by_digit) + 0.08
assert 0.15 < min(busiest) and max(busiest) < 0.35

# %% slideshow={"slide_type": "-"} tags=["figure:modalities_widget", "fold"]
share = torch.stack(shares[:2])  # both losses, seed 0: (layers, 2, E)
Modalities(inputs, chosen, share / share.sum(-1, keepdim=True), layers=["2", "4"], titles=titles)

# %% [markdown] slideshow={"slide_type": "notes"}
# Move through six images and their captions. Numbers are experts. Here they have no capacity: every token runs, and you
# see where. **Look for a rule**: what decides the expert of a letter? Below each layer: of all held-out tokens of a
# modality, the share of each expert; above, the bits that an expert tells about the modality. Most experts serve both.
#
# The rule is plain, and the cell behind this slide counts it: routing of text is a **table of letters**. Whatever the
# word and the place, a letter goes to one expert, in both layers, for all seeds, as good as always. It comes with the
# losses: trained without, the table is right for two thirds to nine tenths. The local loss asked for sure
# routers, and what is surest about a byte is which one it is. Notebook 08 had that as a baseline: hashed routing, where
# nothing is learnt.
#
# Patches go by the **look** of the whole image: its stroke and colour predict the expert of about 60 % of them, the
# digit hardly more than nothing would (the busiest expert has about 25 %). Experts specialised in what is easy to see,
# not in what we would call a concept.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where it fails: a word it never heard
#
# It heard *a bold white seven*. We ask in another order, *seven bold white*, or begin in another way, *the bold white
# seven*. **Predict:** which beginning hurts?

# %% slideshow={"slide_type": "skip"}
asked = {"a (heard)": TEMPLATES[0], "(order)": "{digit} {stroke} {colour}"}
asked |= {f"{word} ...": word + " {stroke} {colour} {digit}" for word in ("in a", "an", "abc", "our", "the")}
right = np.array([np.mean([retrieval(net, x, y, template=template) for net in models["both losses"]], axis=0)
                  for template in asked.values()])  # fmt: skip
looks = draw_images(x.repeat(4, 1, 1), torch.arange(4).repeat_interleave(len(x)))  # the same 1,080 images


@torch.no_grad()
def digits_found(template):
    """Of the 10 best images for each of 40 captions, the share of each digit: 0.1, were all right."""
    found = [net(looks, encode([caption(k, template) for k in range(N_KINDS)])) for net in models["both losses"]]
    best = torch.cat([(f.images @ f.captions.T).topk(10, dim=0).indices.flatten() for f in found])
    return y.repeat(4)[best].bincount(minlength=10) / len(best)


drawn_to = [digits_found(template) for template in asked.values()]
for template, hits, share in zip(asked.values(), right, drawn_to, strict=True):
    two, three, four = share[2:5]
    print(f"{template:32} image to text {hits[0]:.2f}, text to image {hits[1]:.2f}; "
          f"found: {two:.0%} twos, {three:.0%} threes, {four:.0%} fours")  # fmt: skip
heard, order, in_a, an, abc, our, the = right
assert (order < heard - 0.02).all() and (order > 0.5).all() and (heard - 0.15 < in_a).all() and (heard - 0.2 < an).all()
assert (the < order - 0.08).all() and (our < order - 0.08).all() and (the > 0.1).all() and (the < abc).all()
assert drawn_to[-1][2:4].sum() > 0.35 > 0.27 > drawn_to[0][2:4].sum() and drawn_to[-2][4] > 0.22 > drawn_to[0][4] + 0.05

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.0))
plots.bars(ax, list(asked), {"image → text": right[:, 0], "text → image": right[:, 1]})
ax.set(ylim=(0, 1.2), yticks=[], ylabel="share found")
ax.legend(frameon=False, ncols=2, loc="upper right")
ax.spines["left"].set_visible(False)
show(
    fig,
    "Retrieval, mean of three seeds: "
    + "; ".join(f"{a} {r[0]:.2f} and {r[1]:.2f}" for a, r in zip(asked, right, strict=True)) + ".",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Another order of the words costs a little, and so do known words in other places (*in a*). A beginning that it never
# read costs about as little (*an*, *abc*), or a third of the captions found and more than half of the images (*the*).
# Why such differences? Look at what is found: after *the*, about half of all images are twos and threes, after *our*
# more than a third are fours; each should be a tenth. *The* begins like *three*, *our* is most of *four*. To a network
# that goes by letters, a strange word is a piece of the digit's name.
#
# 40 kinds in three templates are a small language. Whether a network "understands captions" is not tested by captions
# of the kind that it was trained on.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Where it fails: who else is in the batch?
#
# An expert is full after 1.25 times an equal share: of the 16 patches of an image alone, after three.
# **Predict:** 256 images, in one batch, one by one, or with no capacity at all.

# %% slideshow={"slide_type": "skip"}
@torch.no_grad()
def one_by_one(network):
    """Vectors of 256 images and of 40 captions, each encoded alone, and the share of image tokens that were dropped."""
    images = [network(image, every[:0]) for image in pairs.images.split(1)]
    texts = [network(pairs.images[:0], text) for text in every.split(1)]
    room = [within_capacity(c, 1.25, batch_priority=True).weights for f in images for c in f.choices]
    dropped = 1 - (torch.stack(room) > 0).any(-1).float().mean()
    return torch.cat([f.images for f in images]), torch.cat([f.captions for f in texts]), dropped.item()


@torch.no_grad()
def together(network):
    return network(pairs.images, every)[:2]


found = {
    "in one batch": [together(network) for network in models["both losses"]],
    "one by one": [one_by_one(network) for network in models["both losses"]],
    "no capacity": [together(network) for network in free["both losses"]],
}
hits = {company: [((u @ v.T).argmax(-1) == pairs.kind).float().mean().item() for u, v, *_ in of_seeds]
        for company, of_seeds in found.items()}  # fmt: skip
moved, dropped = 1 - (found["in one batch"][0][0] * found["one by one"][0][0]).sum(-1), found["one by one"][0][2]

# %% slideshow={"slide_type": "-"} tags=["fold"]
print("images whose best caption of 40 is right, mean of three seeds")
for company, values in hits.items():
    print(f"  {company:12}  {np.mean(values):.2f}   (" + ", ".join(f"{value:.2f}" for value in values) + ")")
print(f"alone, {dropped:.0%} of an image's tokens are dropped; against the batch, 1 - cosine is {moved.mean():.2f}")

# %% slideshow={"slide_type": "skip"}
score = {company: np.mean(values) for company, values in hits.items()}
assert score["in one batch"] > score["one by one"] + 0.02 and score["no capacity"] > score["one by one"]
assert abs(score["in one batch"] - score["no capacity"]) < 0.08 and dropped > 0.4 and moved.max() > 0.03
with torch.no_grad():
    alone = free["both losses"][0](pairs.images[:1], every[:0]).images
torch.testing.assert_close(alone, found["no capacity"][0][0][:1])  # the same in any company

# %% [markdown] slideshow={"slide_type": "notes"}
# Capacity has a price at test time: an image's vector depends on **who else is in the batch**, because others may take
# its places. One by one, an image gets the same vector each time, but a worse one: its patches want the same few
# experts, each is full after three, and more than half of the tokens are dropped. What helps is to encode **without a
# capacity**: the same vector alone as in any company, and found about as often as in the batch. The widget did so.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where one network for two modalities fails
#
# - **Modalities mix.** Experts of one modality are allowed, not brought about.
# - **Letters and looks, not concepts,** decide the expert.
# - **A word that it never heard** counts by its letters, as a piece of a digit's name.
# - **Capacity:** what becomes of an image depends on who else is in the batch.

# %% [markdown] slideshow={"slide_type": "notes"}
# Numbers for each of these are above; none comes from a large model. Specialisation is something to measure, with its
# baselines, before it is told. Notebook 12 goes on: parts of *different* networks, averaged, added and stitched.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercise
#
# ### Exercise: information in bits (★★☆, 10 min)
#
# `expert` and `label` are lists of integers from 0 on, tensors `(N,)`: where each token went, and what it was. Write
# `expert_bits(expert, label)`, the mutual information in bits,
#
# $$I = \sum_{e,l} p(e, l) \, \log_2 \frac{p(e, l)}{p(e)\, p(l)}$$
#
# Some pairs never occur: $0 \log 0$ counts as 0.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def expert_bits(expert, label):
    return ...


check("expert_bits", expert_bits)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def expert_bits_solution(expert, label):
    joint = torch.zeros(int(expert.max()) + 1, int(label.max()) + 1)
    for pair in zip(expert.tolist(), label.tolist(), strict=True):
        joint[pair] += 1 / len(expert)
    alone = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    seen = joint > 0
    return (joint[seen] * (joint[seen] / alone[seen]).log2()).sum().item()


check("expert_bits", expert_bits_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# $$\tfrac{1}{n} \textstyle\sum_i H(p_i) \; + \; \max\big(0, \tau - H(\tfrac{1}{n} \textstyle\sum_i p_i)\big)
# \qquad \text{for each modality}$$
#
# - One network serves images and text; the same experts serve both.
# - The local loss alone makes images collapse. The global loss prevents it.
# - At equal active FLOPs, the sparse network with both losses finds more than the dense one.
# - Letters go by a table, patches by the look of their image, not by its digit.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - B. Mustafa et al., *Multimodal Contrastive Learning with LIMoE: the Language-Image Mixture of Experts*, NeurIPS
#   2022.
# - A. Radford et al., *Learning Transferable Visual Models From Natural Language Supervision*, ICML 2021: CLIP.
# - W. Fedus, B. Zoph, N. Shazeer, *Switch Transformers*, JMLR, 2022: the choice of one expert.
# - C. Riquelme et al., *Scaling Vision with Sparse Mixture of Experts*, NeurIPS 2021: batch priority.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
