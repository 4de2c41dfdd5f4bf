# %% [markdown] slideshow={"slide_type": "slide"}
# # Discrete decisions: one problem, three places
#
# **Notebook 01** · *Designing efficient and modular neural networks*
#
# A modular network decides what to look at, what to run, whom to ask. What kind of problem is that?
# And where in a network does it appear?

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you will be able to do.** Write a decision inside a network as scores, argmax and a downstream model, and say
# why backpropagation cannot train it; find the three places where decisions save work, and count what they save; read
# a network as a typed function, and say what its type does not promise. You need: PyTorch, backpropagation.
# About 45 minutes with the two exercises. Everything below runs on a laptop in less than a minute.

# %% slideshow={"slide_type": "skip"}
from itertools import combinations
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib import plots
from lecture_lib.choice import argmax, keep_or_discard, softmax
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.data import batches, digits
from lecture_lib.mixture import mix_sparse
from lecture_lib.models import MLP, Transformer
from lecture_lib.notebook import check, setup, show
from lecture_lib.training import fit

seed = setup(0)
data = digits()

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A decision inside a network

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.1))
ax.imshow(data.test_x[3], cmap="gray_r", extent=(0.1, 1.3, 1.1, 2.3))
ax.text(0.7, 0.98, "input x", ha="center", va="top")
plots.box(ax, 1.8, 1.25, 1.3, 0.9, "network\n$g$")
for i, (option, score) in enumerate(zip("abc", [1.3, 0.2, 0.7], strict=True)):
    y = 2.15 - 0.6 * i
    ax.text(3.62, y, option, va="center")
    ax.barh(y, 0.75 * score, 0.36, left=3.85, color="C0")
    ax.text(3.93 + 0.75 * score, y, f"{score}", va="center")
    plots.box(ax, 6.5, y - 0.23, 0.46, 0.46, f"{int(i == 0)}", on=i == 0, colour="C2")
ax.text(4.3, 2.5, "scores s", ha="center", va="bottom")
ax.text(6.73, 2.5, "choice z", ha="center", va="bottom")
plots.box(ax, 7.55, 1.05, 1.5, 1.3, "downstream\nmodel")
for start, end in [((1.4, 1.7), (1.75, 1.7)), ((3.15, 1.7), (3.5, 1.7)), ((5.4, 1.7), (6.35, 1.7))]:
    plots.arrow(ax, start, end)
plots.arrow(ax, (7.1, 1.7), (7.5, 1.7))
plots.arrow(ax, (9.1, 1.7), (9.5, 1.7))
ax.text(9.55, 1.7, "loss", va="center")
ax.text(5.87, 1.82, "argmax", ha="center", va="bottom", weight="bold")
plots.arrow(ax, (9.75, 1.45), (6.15, 0.42), colour="C3", bend=-0.22)
ax.text(8.3, 0.22, "gradient", color="C3", ha="center", va="top")
ax.text(5.87, 0.42, "✗", color="C3", ha="center", va="center", fontsize=24, weight="bold")
ax.set(xlim=(0, 10.2), ylim=(-0.25, 2.85), aspect="equal")
ax.axis("off")
show(
    fig,
    "A diagram: an input x, a network g, three scores 1.3, 0.2 and 0.7, argmax, a choice 1, 0, 0, a downstream model, "
    "a loss. A red arrow brings the gradient back from the loss; it ends with a cross at argmax.",
)

# %% slideshow={"slide_type": "-"}
s = torch.tensor([1.3, 0.2, 0.7])
z = F.one_hot(s.argmax(-1), 3).float()
torch.testing.assert_close(z, argmax(s).weights)
z

# %% [markdown] slideshow={"slide_type": "notes"}
# The talk's picture, with the talk's numbers. There are $k$ options: patches to look at, layers to run, experts to ask.
# A network scores them, argmax picks one, and the **downstream model** works with what was picked:
#
# $$y = \sum_k z_k \, f_k(x), \qquad z = \text{choice}(g(x))$$
#
# One equation for the whole lecture. In it $z$ is one-hot, so only one $f_k$ has to run: that is the saving. It is also
# the trouble, because the path from the loss back to $g$ leads through argmax.
#
# **Predict:** the score of a moves from 1.3 to 1.31. What does the loss do? What if it falls to 0.69?

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A small real case: one glance
#
# Three options: read the **top**, the **middle** or the **bottom** of a digit. Only one may be read.

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(2, 6, figsize=(10, 3.9))
for i, ax in enumerate(axes.flat):
    image, top, name = data.test_x[[3, 8, 11, 20][i // 3]], 2 * (i % 3), ("top", "middle", "bottom")[i % 3]
    seen = torch.full((8, 8), torch.nan)
    seen[top : top + 4] = image[top : top + 4]
    ax.imshow(seen, cmap="gray_r", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[], xlabel=name)
    ax.spines[["top", "right"]].set_visible(True)
show(fig, "Four digits, each seen through three windows of four rows: the top, the middle, the bottom.")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The same as a network

# %% slideshow={"slide_type": "-"}
class Glance(nn.Module):  # scores three bands of a digit, reads one: y = Σ_k z_k · f_k(x)
    def __init__(self):
        super().__init__()
        self.score = MLP(64, 32, 3)
        self.read = nn.ModuleList(MLP(32, 32, 10) for _ in range(3))

    def options(self):  # f_k: reader k reads band k
        return [lambda x, k=k: self.read[k](x[:, k]) for k in range(3)]

    def forward(self, images):  # (B, 8, 8)
        z = argmax(self.score(centred(images))).weights  # (B, 3)
        return mix_sparse(bands(images), z, self.options())


# %% slideshow={"slide_type": "skip"}
def bands(images):
    """Rows 0 to 3, 2 to 5, 4 to 7: (B, 8, 8) → (B, 3, 32)."""
    return torch.stack([images[:, top : top + 4].flatten(1) for top in (0, 2, 4)], 1)


def centred(images):
    """Pixels as differences to the mean digit, stretched: (B, 8, 8) → (B, 64)."""
    return 4 * (images - data.train_x.mean(0)).flatten(1)


torch.manual_seed(seed)
glance = Glance()
fit(
    glance.read,  # the three readers first, each on its own band: then the decision is all that is left to learn
    lambda images, label: sum(F.cross_entropy(f(bands(images)), label) for f in glance.options()),
    batches(data.train_x, data.train_y, generator=torch.Generator().manual_seed(seed)),
    steps=200,
    lr=5e-3,
)
with torch.no_grad():
    logits = torch.stack([f(bands(data.test_x)) for f in glance.options()], 1)  # (540, 3, 10)
    right = logits.argmax(-1) == data.test_y.unsqueeze(-1)  # (540, 3): which bands would have told the class
    untrained = glance(data.test_x).argmax(-1) == data.test_y

# %% [markdown] slideshow={"slide_type": "notes"}
# A small network scores the whole image, and `mix_sparse` runs reader $f_k$ only on the images that chose band $k$. The
# three readers are already trained, each on its own band; so the decision is the only thing left to learn. Everything
# is real (scikit-learn's digits, 8 × 8 pixels), and trains in a second.
#
# **Predict:** always reading the same band, which one would you take, and how often is it right? How much better could
# a perfect decision be?

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## What a good decision would be worth

# %% slideshow={"slide_type": "-"} tags=["fold"]
worth = {
    "always\ntop": right[:, 0],
    "always\nmiddle": right[:, 1],
    "always\nbottom": right[:, 2],
    "argmax,\nuntrained": untrained,
    "some band\nis right": right.any(-1),
}
worth = {name: hits.float().mean().item() for name, hits in worth.items()}
assert max(list(worth.values())[:4]) < 0.94 and worth["some band\nis right"] > 0.95
fig, ax = plt.subplots(figsize=(10, 3.8))
plots.bars(ax, list(worth), {"test accuracy": list(worth.values())})
ax.patches[-1].set(facecolor="white", edgecolor="C0", hatch="//")
ax.set(ylim=(0, 1.1), ylabel="test accuracy")
show(
    fig,
    "Bars of test accuracy: always the top, middle or bottom band, or argmax of an untrained scorer, 0.8 to 0.9; for "
    "almost every digit at least one of the three bands tells the class.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Any fixed band is right for eight or nine digits of ten. For almost every digit *some* band is right; the hatched bar
# knows the answer when it chooses, and counts lucky guesses, so it is a ceiling and not a promise. Between the two lies
# what a good decision is worth. So let us train the scorer.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The gradient, measured three times
#
# **Predict:** how much of it reaches the scorer?

# %% slideshow={"slide_type": "-"}
F.cross_entropy(glance(data.train_x), data.train_y).backward()  # 1. backpropagation
gradients = [p.grad for p in glance.score.parameters()]
print(f"{gradients.count(None)} of the scorer's {len(gradients)} gradients are None")

# %% slideshow={"slide_type": "skip"}
with torch.no_grad():  # 20 random scorers on 540 images, and what each band would cost on each image
    scores = torch.cat([Glance().score(centred(data.test_x)) for _ in range(20)]).double()  # (10800, 3)
    losses = torch.stack([F.cross_entropy(of_band, data.test_y, reduction="none") for of_band in logits.unbind(1)], 1)
losses = losses.double().repeat(20, 1)  # (10800, 3)


def cost(s):
    return losses.gather(1, s.argmax(-1, keepdim=True)).squeeze(1)


# %% slideshow={"slide_type": "-"}
nudges = 1e-8 * torch.eye(3)  # 2. finite differences, 20 random scorers, 540 images
slopes = torch.stack([(cost(scores + nudge) - cost(scores)) / 1e-8 for nudge in nudges])
print(f"{slopes.numel():,} slopes, {(slopes == 0).double().mean():.0%} exactly zero")

# %% slideshow={"slide_type": "-"} tags=["fold"]
before = [p.detach().clone() for p in glance.parameters()]  # 3. training, through argmax
fit(
    glance,
    lambda images, label: F.cross_entropy(glance(images), label),
    batches(data.train_x, data.train_y, generator=torch.Generator().manual_seed(seed)),
    steps=50,
)
moves = [(p - was).norm().item() for p, was in zip(glance.parameters(), before, strict=True)]
print(f"3. after 50 steps of training, the readers moved by {max(moves[4:]):.2f}, the scorer by {max(moves[:4])}")

# %% slideshow={"slide_type": "skip"}
assert all(p.grad is None for p in glance.score.parameters())  # nothing arrived, not even a zero
assert (slopes == 0).all()
assert max(moves[:4]) == 0 < min(moves[4:])

# %% [markdown] slideshow={"slide_type": "notes"}
# Three witnesses. Backpropagation has nothing to deliver: PyTorch's argmax returns an index, and an index has no
# derivative. Finite differences agree: nudge a score by $10^{-8}$, and the choice, hence the loss, stays as it was, in
# 32,400 cases of 32,400. And fifty steps of training improve the readers while the scorer stays where it was, to the
# last bit. (The talk: "gradient almost always zero!" Where it is not zero, it does not exist: there the choice jumps.)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Where the slope went

# %% slideshow={"slide_type": "skip"}
shifts = torch.linspace(-1, 1, 201).double()
middle = torch.tensor([0.0, 1.0, 0.0]).double()
stairs = torch.stack([cost(scores + shift * middle) for shift in shifts], -1)  # (10800, 201)
print("add to the score   losses that move   mean of (change / nudge)")
for nudge in (1e-8, 1e-3, 1e-2, 1e-1):
    change = cost(scores + nudge * middle) - cost(scores)
    print(f"{nudge:16g}{(change != 0).double().mean():17.2%}{change.mean() / nudge:+23.3f}")
slope = ((stairs.mean(0)[110] - stairs.mean(0)[90]) / 0.2).item()
print(f"slope of the mean loss: {slope:+.3f}")
assert slope < -0.05

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, (left, right_panel) = plt.subplots(1, 2, figsize=(10, 3.9))
jumps = (stairs[:, 0] - stairs[:, -1]).abs()
shown = [i for i in range(0, 10800, 7) if 0.4 < jumps[i] < 3][:4]
plots.curves(left, shifts, {f"image {n}": [stairs[i]] for n, i in enumerate(shown, 1)})
for line in left.lines:
    line.set(marker="", drawstyle="steps-mid")
right_panel.plot(shifts, stairs.mean(0), lw=2.5)
right_panel.plot(shifts, stairs.mean(0)[100] + slope * shifts, ls="--", color="0.4", lw=1.5)
right_panel.text(0, 0.52, f"dashed: slope at 0, {slope:.2f}", color="0.3")
left.set(xlabel='added to the score of "middle"', ylabel="loss", title="four images")
left.set_ylim(0, 1.35 * stairs[shown].max())
left.legend(frameon=False, ncols=2, loc="upper center", fontsize="small")
right_panel.set(xlabel='added to the score of "middle"', title="mean over 10,800 choices", ylim=(0, 0.7))
show(
    fig,
    "Left: the loss of each of four images is a step function of what is added to the score of the middle band. "
    "Right: the mean over 10,800 choices falls smoothly, with a slope at 0 that is not zero.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Each image sees a stair: flat, a jump, flat. The jumps lie at different places, so the **mean** over many images is a
# smooth hill, and it clearly goes down as "middle" gets more score. There *is* something to follow. But backpropagation
# differentiates each image first and averages after, and the mean of 10,800 zeros is zero. The slope sits in the jumps,
# and no derivative sees a jump: here the derivative of the mean is not the mean of the derivatives. The printed table
# shows how it happens: the smaller the nudge, the fewer losses move, and those that do move by a whole step.
#
# That is also the way out. Notebook 02 adds *noise* to the scores, which makes the hill for a single image, and then
# looks for estimators that see the slope. In this notebook we leave decisions untrained, and ask what they are for.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## k = 2: keep or discard
#
# Only the difference of two scores matters. So give "discard" the score 0.

# %% slideshow={"slide_type": "-"}
score = torch.tensor([1.3, -0.4, 0.7])  # of three patches, or layers, or modules
logits = torch.stack([score, torch.zeros(3)], -1)  # (3, 2): keep, discard
torch.testing.assert_close(logits, keep_or_discard(score))
torch.testing.assert_close(softmax(logits).weights[:, 0], score.sigmoid())
argmax(logits).weights[:, 0]

# %% slideshow={"slide_type": "skip"}
def cut(images):
    """Sixteen patches of 2 x 2 pixels: (B, 8, 8) → (B, 16, 4)."""
    return F.unfold(images.unsqueeze(1), 2, stride=2).transpose(1, 2)


def surprise(images):
    """How far each patch is from that patch of the mean digit: (B, 8, 8) → (B, 16)."""
    return (cut(images) - cut(data.train_x.mean(0, keepdim=True))).abs().sum(-1)


# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Sixteen gates: 65,536 ways to look

# %% slideshow={"slide_type": "-"} tags=["fold"]
image = data.test_x[3]
score = surprise(image.unsqueeze(0))[0] - surprise(data.train_x).median()  # a score by rule of thumb
keep = argmax(keep_or_discard(score)).weights[:, 0].reshape(4, 4).repeat_interleave(2, 0).repeat_interleave(2, 1)
fig, axes = plt.subplots(1, 3, figsize=(10, 3.7))
axes[0].imshow(image, cmap="gray_r", vmin=0, vmax=1)
axes[1].imshow(score.reshape(4, 4), cmap="vlag", vmin=-1.5, vmax=1.5)
for k in range(16):
    axes[1].text(k % 4, k // 4, f"{score[k]:.1f}", ha="center", va="center", fontsize="small")
axes[2].imshow(torch.where(keep > 0, image, torch.nan), cmap="gray_r", vmin=0, vmax=1)
for ax, title in zip(axes, ["16 patches", "16 scores", f"{int(keep.sum()) // 4} kept"], strict=True):
    ax.set(xticks=[], yticks=[], title=title)
    ax.spines[:].set_visible(True)
    lines = np.arange(0.5, 3) if title == "16 scores" else np.arange(1.5, 7, 2)
    ax.hlines(lines, *ax.get_xlim(), color="0.75", lw=1)
    ax.vlines(lines, *ax.get_ylim(), color="0.75", lw=1)
for k in (score < 0).nonzero().flatten().tolist():
    corner = (2 * (k % 4) - 0.5, 2 * (k // 4) - 0.5)
    axes[2].add_patch(plt.Rectangle(corner, 2, 2, fc="0.93", ec="0.6", hatch="//", lw=0))
fig.get_layout_engine().set(wspace=0.1)
show(fig, "A digit in sixteen patches, a score for each, and what is kept: a negative score is hatched out.")
assert 2**16 == 65_536

# %% [markdown] slideshow={"slide_type": "notes"}
# From here on most decisions are of this kind: a gate, open or closed. Softmax of two scores is a sigmoid, argmax is a
# threshold at 0. (The scores in the picture are a rule of thumb: how unusual is the patch?)
#
# One gate is easy. But gates come in bunches, and $n$ of them have $2^n$ settings: 65,536 for sixteen patches. Trying
# them all is no plan. Scoring each gate on its own is: $n$ scores instead of $2^n$, at the price that gates which
# matter only *together* are hard to find.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Three places to decide

# %% slideshow={"slide_type": "skip"}
def stack(ax, title, patches_on, blocks_on, parts_on):
    """A digit in 16 patches, four blocks above, in each 4 heads and 4 slices: what is off is an outline."""
    pixels = data.test_x[3].reshape(4, 2, 4, 2).transpose(1, 2)
    for t, on in enumerate(patches_on):
        x, y = 0.85 + 0.36 * (t % 4), 1.08 - 0.36 * (t // 4)
        if on:
            ax.imshow(pixels[t // 4, t % 4], cmap="Blues", vmin=-0.15, vmax=1.15, extent=(x, x + 0.32, y, y + 0.32))
        plots.box(ax, x, y, 0.32, 0.32, on=on)
        if on:
            ax.patches[-1].set_facecolor("none")
    for b, on in enumerate(blocks_on):
        y = 1.78 + 0.58 * b
        plots.box(ax, 0, y, 3.1, 0.46, on=on, colour="0.5")
        for g in range(8):
            kind = "C0" if g < 4 else "C1"
            plots.box(ax, 0.1 + 0.36 * g + 0.08 * (g > 3), y + 0.1, 0.3, 0.26, on=on and parts_on[b][g], colour=kind)
        if not on:
            plots.arrow(ax, (3.16, y - 0.06), (3.16, y + 0.52), colour="0.2", bend=0.8)
    plots.arrow(ax, (1.55, 1.48), (1.55, 1.76))
    plots.arrow(ax, (1.55, 4.0), (1.55, 4.26))
    ax.set(xlim=(-0.05, 3.55), ylim=(-0.35, 4.3), aspect="equal", title=title)
    ax.axis("off")
    return ax


# %% slideshow={"slide_type": "-"} tags=["figure:three_sparsities", "fold"]
every, parts = [1] * 16, [[1] * 8] * 4
some = [[1, 0, 0, 1, 0, 1, 1, 0], [0, 1, 1, 0, 1, 0, 0, 1], [1, 1, 0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 0, 1, 0]]
fig, axes = plt.subplots(1, 3, figsize=(10, 4.1))
stack(axes[0], "input: drop patches", [0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1, 0], [1] * 4, parts)
stack(axes[1], "layer: skip blocks", every, [1, 0, 1, 0], parts)
stack(axes[2], "block: switch off parts", every, [1] * 4, some)
notes = ["left four: attention heads", "outline: not executed", "right four: slices of the MLP"]
for ax, note in zip(axes, notes, strict=True):
    ax.text(1.55, -0.1, note, color="0.25", ha="center", va="top", fontsize="small")
show(
    fig,
    "Three drawings of one network: a digit in 16 patches, four blocks above it, each with four attention heads and "
    "four slices of an MLP. Left: half of the patches dropped. Middle: two blocks skipped, with an arrow around each. "
    "Right: half of the heads and slices switched off.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The talk's three kinds of modular sparsity, on one small transformer. **Input sparsity:** some patches never enter.
# **Layer sparsity:** some blocks are skipped; the residual connection makes that possible, as a block *adds* to its
# input, so without the block the input passes. **Block sparsity** (or feature sparsity): inside of a block, some heads
# or some slices of the hidden layer do not run.
#
# All three are keep-or-discard decisions, all three may differ from image to image, and in all three the saving is
# real only if what is discarded is **not executed**. Multiplying by zero afterwards saves nothing.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## One small network, trained as usual

# %% slideshow={"slide_type": "-"}
class Reader(nn.Module):
    def __init__(self, d_model=32, n_layers=4):
        super().__init__()
        self.embed = nn.Linear(4, d_model)
        self.place = nn.Parameter(0.5 * torch.randn(16, d_model))
        self.body, self.head = Transformer(d_model, 4, n_layers), nn.Linear(d_model, 10)

    def tokens(self, images):  # sixteen patches of 2 x 2 pixels: (B, 8, 8) → (B, 16, D)
        return self.embed(cut(images)) + self.place

    def forward(self, images):
        return self.head(self.body(self.tokens(images)).mean(1))


# %% slideshow={"slide_type": "skip"}
def learn(model, x, y, run, steps=200, lr=3e-3):
    generator = torch.Generator().manual_seed(1000 * seed + run)
    fit(
        model,
        lambda images, label: F.cross_entropy(model(images), label),
        batches(x, y, generator=generator),
        steps=steps,
        lr=lr,
        label=f"{type(model).__name__} {run}",
    )
    return model.eval()


def accuracy(logits, label=data.test_y):
    return (logits.argmax(-1) == label).float().mean().item()


readers = []
for run in range(3):
    torch.manual_seed(1000 * seed + run)
    readers.append(learn(Reader(), data.train_x, data.train_y, run))
with torch.no_grad():
    dense = [accuracy(net(data.test_x)) for net in readers]
print("test accuracy of three seeds:", [f"{a:.2f}" for a in dense])
assert min(dense) > 0.85

# %% [markdown] slideshow={"slide_type": "notes"}
# The mean over patches at the end takes any number of them: that is what will let us drop some. Nothing in the training
# prepares the network for missing parts; we want to see what the decisions alone do.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Input and layer sparsity in ten lines
#
# Dropping is indexing. Skipping is $k = 2$: the block, or the identity.

# %% slideshow={"slide_type": "-"}
def drop_patches(net, images, keep):  # keep: (B, m), which m patches each image keeps
    x = net.tokens(images)
    x = x.gather(1, keep.unsqueeze(-1).expand(-1, -1, x.shape[-1]))  # (B, m, D)
    return net.head(net.body(x).mean(1))


def skip_blocks(net, images, run):  # run: (B, 4), 1 runs a block, 0 skips it
    x = net.tokens(images)
    for block, z in zip(net.body.blocks, run.unbind(1), strict=True):
        x = mix_sparse(x, torch.stack([z, 1 - z], -1), [block, nn.Identity()])
    return net.head(net.body.norm(x).mean(1))


# %% [markdown] slideshow={"slide_type": "notes"}
# Dropping is indexing: `gather` picks the kept patches, and everything after works on fewer tokens.
#
# Skipping is our equation with $k = 2$: the options are the block and the identity, $y = z f(x) + (1 - z) x$, and
# `mix_sparse` runs the block only on the images that want it, all of them together.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Block sparsity: a layer is a sum

# %% slideshow={"slide_type": "-"}
def slices(mlp, n=4):  # mlp(x) = Σ_g slice_g(x) + bias
    up, act, down = mlp

    def one(u):  # u: the hidden units of the slice
        W, b, W_down = up.weight[u], up.bias[u], down.weight[:, u]
        return lambda x: F.linear(act(F.linear(x, W, b)), W_down)

    return [one(u) for u in torch.arange(up.out_features).chunk(n)]


# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Block sparsity: run some of the parts

# %% slideshow={"slide_type": "-"}
def switch_parts(net, images, on):  # on: (B, 4, 8), for four heads and four slices
    x = net.tokens(images)
    for block, z in zip(net.body.blocks, on.unbind(1), strict=True):
        att, mlp = block.attention, block.mlp
        x = x + mix_sparse(block.norm_1(x), z[:, :4], heads(att)) + att.output.bias
        x = x + mix_sparse(block.norm_2(x), z[:, 4:], slices(mlp)) + mlp[2].bias
    return net.head(net.body.norm(x).mean(1))


# %% slideshow={"slide_type": "skip"}
def attend(query_key_value):
    return F.scaled_dot_product_attention(*query_key_value.chunk(3, -1))


def heads(attention):  # attention(x) = Σ_h head_h(x) + bias
    into, out = attention.query_key_value, attention.output
    D = out.in_features

    def head(c):  # c: the head's columns
        rows = torch.cat([c, c + D, c + 2 * D])  # of its queries, keys, values
        W, b, W_out = into.weight[rows], into.bias[rows], out.weight[:, c]
        return lambda x: F.linear(attend(F.linear(x, W, b)), W_out)

    return [head(c) for c in torch.arange(D).chunk(attention.n_heads)]


images, n = data.test_x, len(data.test_x)
with torch.no_grad():
    for sparse, everything in (
        (drop_patches, torch.arange(16).expand(n, 16)),
        (skip_blocks, torch.ones(n, 4)),
        (switch_parts, torch.ones(n, 4, 8)),
    ):
        torch.testing.assert_close(sparse(readers[0], images, everything), readers[0](images))

# %% [markdown] slideshow={"slide_type": "notes"}
# Attention concatenates its heads and multiplies by one matrix; cut that matrix into columns, and the layer is a *sum*
# over heads. The hidden layer of the MLP can be cut the same way. So both are $\sum_k z_k f_k(x)$ with all $z_k = 1$,
# and block sparsity sets some of them to 0. (A mixture of experts, notebook 08, is such a sum from the start.)
#
# By hand first: with everything on, all three functions must return what the dense network returns. They do; the hidden
# cell asserts it.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Half of everything: counted and measured
#
# **Predict:** each way executes about half of the network. Which are twice as fast?

# %% slideshow={"slide_type": "skip"}
def half_of(*shape, share=0.5):
    """A random half of the last dimension, another one for each image: ones and zeros."""
    return (torch.rand(shape).argsort(-1) < round(share * shape[-1])).float()


def decide(share, n=n):
    """Random decisions for n images, that execute a share of the patches, of the blocks, of the parts."""
    return {
        "input": (drop_patches, torch.rand(n, 16).argsort(-1)[:, : round(16 * share)]),
        "layer": (skip_blocks, half_of(n, 4, share=share)),
        "block": (switch_parts, half_of(n, 4, 2, 4, share=share).flatten(2)),
    }


ways = {"dense": (lambda net, images, _: net(images), None)} | decide(0.5)
with torch.no_grad():
    flops = {name: count_flops(f, readers[0], images, z) / n for name, (f, z) in ways.items()}
    times = dict.fromkeys(ways, np.inf)
    for _ in range(5):  # the calmest moments of five rounds
        for name, (f, z) in ways.items():
            times[name] = min(times[name], wall_time(f, readers[0], images, z, min_seconds=0.1).low)
per_block = 24 * 16 * 32**2 + 4 * 16**2 * 32  # exercise 2
assert flops["dense"] - flops["layer"] == 2 * per_block == flops["dense"] - flops["block"]
assert flops["input"] < flops["layer"]  # half of the patches are less than half of the work: attention is quadratic
assert times["block"] > 1.25 * max(times["input"], times["layer"])

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
fig, (left, right_panel) = plt.subplots(1, 2, figsize=(10, 3.7))
plots.bars(left, list(ways), {"": [1e-6 * f for f in flops.values()]})
plots.bars(right_panel, list(ways), {"": [1e3 * t for t in times.values()]}, fmt="{:.1f}")
left.set(ylabel="million FLOPs an image, counted", ylim=(0, 2))
right_panel.set(ylabel="ms for 540 images, measured")
for ax in (left, right_panel):
    for bar, colour in zip(ax.patches, ("0.6", "C0", "C1", "C2"), strict=True):
        bar.set_facecolor(colour)
show(
    fig,
    f"Bars. Counted: {flops['dense'] / 1e6:.2f} million FLOPs dense, and half of that for each kind of sparsity. "
    f"Measured: {1e3 * times['dense']:.0f} ms dense, {1e3 * times['input']:.0f} for input, "
    f"{1e3 * times['layer']:.0f} for layer, {1e3 * times['block']:.0f} for block sparsity.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# All three execute half of the FLOPs, input sparsity a little less, because attention is quadratic in the number of
# patches. The clock likes two of them: fewer patches and fewer blocks mean the same operations on smaller tensors, and
# the time falls with the count.
#
# Block sparsity, with a decision for each image, saves much less than it counts, on some machines nothing: eight small
# parts per block, each gathering its own images, instead of two large ones. The finer the decision, the more it costs
# to follow it. This is the theme of notebooks 05 and 09: a saving on paper has to be *arranged* before it is one on the
# clock.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Random decisions are bad decisions

# %% slideshow={"slide_type": "skip"}
torch.manual_seed(seed)
shares = [1.0, 0.75, 0.5, 0.25]
at_random = {name: np.zeros((3, 4)) for name in ("input", "layer", "block")}
with torch.no_grad():
    for i, net in enumerate(readers):
        for j, share in enumerate(shares):
            for name, (f, z) in decide(share).items():
                at_random[name][i, j] = accuracy(f(net, images, z))
half = {name: a[:, 2].mean() for name, a in at_random.items()}
print("accuracy with a random half:", {name: f"{a:.2f}" for name, a in half.items()})
assert max(half["input"], half["layer"]) < 0.65 * np.mean(dense)
assert max(half["input"], half["layer"]) < half["block"] < 0.8 * np.mean(dense)

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.8))
plots.curves(ax, shares, {f"{name} sparsity": a for name, a in at_random.items()})
ax.axhline(0.1, color="0.4", lw=1, ls=":")
ax.text(1, 0.115, "guessing", color="0.3", ha="left", fontsize="small")
ax.set(xlim=(1.02, 0.23), ylim=(0, 1), xlabel="share of the network that is executed", ylabel="test accuracy")
ax.set_xticks(shares, [f"{share:.0%}" for share in shares])
show(
    fig,
    "Test accuracy against the share that is executed, mean and range of three networks. With random decisions it "
    "falls steeply for input, layer and block sparsity: from above 0.9 to about 0.5 at one half.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Every way runs, none complains, and the accuracy falls steeply: a random half of the patches or of the blocks costs
# about half of it. Half of the heads and slices hurts less: decisions in small pieces are less drastic.
#
# Two things are missing. The network has never practised with missing parts, and nobody asked **which** parts can go.
# The first is a matter of training (notebook 05). The second is this lecture.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The same cost: but which half?

# %% slideshow={"slide_type": "skip"}
ink = cut(images).sum(-1)  # (540, 16)
rules = {"most ink": ink, "at random": torch.rand(n, 16), "most surprising": surprise(images)}
keep = {name: score.topk(8).indices for name, score in rules.items()}
pairs = list(combinations(range(4), 2))
with torch.no_grad():
    by_rule = {name: [accuracy(drop_patches(net, images, z)) for net in readers] for name, z in keep.items()}
    runs = [torch.eye(4)[list(pair)].sum(0).expand(n, 4) for pair in pairs]
    by_pair = np.array([[accuracy(skip_blocks(net, images, run)) for net in readers] for run in runs])  # (6, 3)
print({name: f"{np.mean(a):.2f}" for name, a in by_rule.items()})
print({f"blocks {a + 1}, {b + 1}": f"{acc.mean():.2f}" for (a, b), acc in zip(pairs, by_pair, strict=True)})
assert np.mean(by_rule["most surprising"]) > np.mean(by_rule["at random"]) + 0.2
assert np.mean(by_rule["most ink"]) < np.mean(by_rule["at random"]) + 0.1
assert ((by_pair.max(0) - by_pair.min(0)) > 0.4).all()  # in each of the three networks
assert by_pair.mean(-1).max() > 0.7 * np.mean(dense) and by_pair.mean(-1).min() < 0.3

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, (left, right_panel) = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True)
names = [f"{a + 1}, {b + 1}" for a, b in pairs]
for ax, labels, values in ((left, list(by_rule), np.array(list(by_rule.values()))), (right_panel, names, by_pair)):
    plots.bars(ax, labels, {"": values.mean(-1)}, fmt="")
    dots = ax.plot(range(len(labels)), values, "o", ms=6, mfc="white", mec="0.15", clip_on=False)
    for i, value in enumerate(values.mean(-1)):
        ax.text(i, -0.08, f"{value:.2f}", ha="center", va="center", weight="bold", fontsize="small")
    ax.tick_params(axis="x", length=0, pad=26)
    ax.axhline(np.mean(dense), color="0.4", lw=1, ls=":")
left.text(-0.4, np.mean(dense) + 0.015, "all 16 patches, all 4 blocks", color="0.3", fontsize="small")
left.set(ylabel="test accuracy", xlabel="8 of 16 patches: which?", ylim=(0, 1.05))
right_panel.set(xlabel="2 of 4 blocks: which?")
name = "one network; bars: mean of three"
left.legend(dots[:1], [name], frameon=False, loc="upper left", bbox_to_anchor=(0, 0.92), handletextpad=0.1)
show(
    fig,
    "Left: with 8 of 16 patches, accuracy is about 0.4 for the patches with most ink and for random ones, 0.8 for the "
    "most surprising ones. Right: with two of four blocks, it is between 0.2 and 0.9, depending on the pair.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Bars are means of three networks, dots the networks. On the left, 8 patches of 16, chosen by a rule for each image.
# "Keep where the ink is" sounds right, and is hardly better than a random half, or worse: white where others
# have ink says a lot. Patches that differ most from the mean digit do far better. On the right, two blocks of four:
# at *exactly* the same cost, one pair keeps most of the accuracy, another comes close to guessing.
#
# So the saving is easy and the choice is everything. Six pairs can be tried; 12,870 ways to keep 8 patches of 16
# cannot, and it may be another half for each image. The decision has to be **learnt**, and argmax does not let it.
# That is the problem of notebooks 02 to 04; notebook 05 comes back to these three places with the tools.

# %% slideshow={"slide_type": "skip"}
def as_they_are(images, run):
    return images


def moved(images, run):
    """Each image by 0 or 1 pixel in each direction: one of nine places."""
    places = F.pad(images, (1, 1, 1, 1)).unfold(1, 8, 1).unfold(2, 8, 1).flatten(1, 2)  # (B, 9, 8, 8)
    generator = torch.Generator().manual_seed(1000 * seed + run)
    return places[torch.arange(len(images)), torch.randint(9, (len(images),), generator=generator)]


def shuffled(images, run):
    """All images by the same random order of their 64 pixels."""
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1000 * seed + run))
    return images.flatten(1)[:, order].reshape(images.shape)


versions = {
    "as they are": as_they_are,
    "moved by a pixel": moved,
    "moved, then shuffled": lambda images, run: shuffled(moved(images, run), run),
}

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A decision we make: the architecture
#
# MLP, convolution, attention: **the same number of parameters**. Which learns best from 300 digits?
# **Predict** for each data set:

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(2, 9, figsize=(10, 3))
for i, (name, change) in enumerate(versions.items()):
    for ax, image in zip(axes[:, 3 * i : 3 * i + 3].flat, change(data.test_x, 0)[[3, 8, 11, 20, 0, 5]], strict=True):
        ax.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(True)
    axes[0, 3 * i + 1].set_title(name)
show(fig, "The same six digits as they are, moved by up to a pixel, and with all pixels in one fixed random order.")

# %% slideshow={"slide_type": "skip"}
def convolution():
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        *(nn.Conv2d(1, 21, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(21, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(4 * 24, 10)),
    )


def flat_mlp(width):
    return nn.Sequential(nn.Flatten(), MLP(64, width, 10))


networks = {
    "MLP": lambda: flat_mlp(76),
    "attention": lambda: Reader(d_model=20, n_layers=1),
    "convolution": convolution,
    "MLP, wide": lambda: flat_mlp(1150),
}
size = {name: sum(p.numel() for p in make().parameters()) for name, make in networks.items()}
work = {name: count_flops(make(), data.test_x[:1]) for name, make in networks.items()}
for name in networks:
    print(f"{name:12}{size[name]:8,} parameters{work[name]:10,} FLOPs an image")
equal = [size[name] for name in ("MLP", "attention", "convolution")]
assert max(equal) < 1.03 * min(equal)
equal = [work[name] for name in ("MLP, wide", "attention", "convolution")]
assert max(equal) < 1.05 * min(equal)

# %% slideshow={"slide_type": "skip"}
result = {name: np.zeros((3, 3)) for name in networks}  # versions, runs
for run in range(3):
    few = torch.randperm(len(data.train_x), generator=torch.Generator().manual_seed(1000 * seed + run))[:300]
    for i, change in enumerate(versions.values()):
        x, test_x = change(data.train_x[few], run), change(data.test_x, run)
        for name, make in networks.items():
            torch.manual_seed(1000 * seed + run)
            model = learn(make(), x, data.train_y[few], run, lr=5e-3)
            with torch.no_grad():
                result[name][i, run] = accuracy(model(test_x))

# %% slideshow={"slide_type": "skip"}
mean = {name: values.mean(-1) for name, values in result.items()}  # as they are, moved, moved and shuffled
for name, values in mean.items():
    print(f"{name:12}" + "".join(f"{value:8.3f}" for value in values))
lead = mean["convolution"] - mean["MLP"]
print("the convolution's lead:", lead.round(3))
assert abs(lead[0]) < 0.04 and lead[1] > 0.1 and lead[2] < 0.05
assert mean["convolution"][1] > mean["MLP, wide"][1] + 0.04 and mean["convolution"][2] < mean["MLP, wide"][2] - 0.04
assert all(abs(mean[name][1] - mean[name][2]) < 0.06 for name in ("MLP", "MLP, wide"))
assert (mean["attention"] < mean["MLP"]).all()

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## A bias is a bet on the data

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 4.1))
labels = [f"{name}: {1e-3 * size[name]:.1f} k parameters, {1e-3 * work[name]:.0f} k FLOPs" for name in networks]
plots.bars(ax, list(versions), {label: mean[name] for label, name in zip(labels, networks, strict=True)}, fmt="")
for i, values in enumerate(result.values()):
    for x, seeds in zip(np.arange(3) + (i - 1.5) * 0.2, values, strict=True):
        dots = ax.plot([x] * 3, seeds, "o", ms=5, mfc="white", mec="0.15", mew=0.8, label="_")
        ax.text(x, seeds.max() + 0.04, f"{seeds.mean():.2f}", ha="center", fontsize="small")
dots[0].set_label("one seed; bars: mean of three")
ax.set(ylim=(0, 1.55), ylabel="test accuracy")
ax.set_yticks(np.arange(0, 1.01, 0.2))
ax.legend(frameon=False, ncols=2, loc="upper center", fontsize="small")
show(
    fig,
    "Test accuracy of four networks after 300 training digits, with three seeds each. As they are: all above 0.9 but "
    "attention. Moved by a pixel: the convolution leads clearly. Then shuffled: the convolution falls back, to the MLP "
    "or below, while the MLPs stay where they were.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The talk: given a budget, some types of network work better. Here is when. On the digits *as they are*, small and
# neatly centred, MLP and convolution hardly differ. Let them *move by a pixel*, and the convolution leads by far with
# the same parameters, and clearly with the same FLOPs: it looks for the same thing at every place, and needs not learn
# it nine times. *Shuffle* the pixels of the moved digits, the same way for all: neighbours mean nothing now, and the
# whole lead is gone. The MLP cannot even notice.
#
# Attention is the weakest here, everywhere: it knows little beforehand about images, and 300 digits and 200 steps are
# too few to learn it. Do not read more into it: on large data the order is another.
#
# An architectural bias is a bet on the data, made once, by us. Modular networks place smaller bets, one for each input;
# and the bet is learnt.

# %% slideshow={"slide_type": "skip"}
# "Cannot even notice", exactly: give the MLP on shuffled digits the same first weights, in the new order, and train
a, b = flat_mlp(76), flat_mlp(76)
b.load_state_dict(a.state_dict())
b[1][0].weight.data = shuffled(a[1][0].weight.data.reshape(-1, 8, 8), 0).flatten(1)
learn(a, data.train_x, data.train_y, 0, steps=20)
learn(b, shuffled(data.train_x, 0), data.train_y, 0, steps=20)
torch.testing.assert_close(a(data.test_x), b(shuffled(data.test_x, 0)), atol=1e-3, rtol=1e-3)
print("the same outputs on all test digits: to an MLP, the order of its inputs is only a name")

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Networks as typed functions
#
# | a function that takes functions | its type | in a network |
# |:--|:--|:--|
# | **compose** | $(A \to B), (B \to C) \;\to\; (A \to C)$ | layers, one after another |
# | **fold** | $(H, A \to H),\; H,\; [A] \;\to\; H$ | a recurrent network that reads |
# | **windowed map** | $([A]_w \to B),\; [A] \;\to\; [B]$ | a convolution |
# | **choice** | $(A \to C), (B \to C) \;\to\; (A + B \to C)$ | a router with two options |

# %% [markdown] slideshow={"slide_type": "notes"}
# If parts of a network are chosen, exchanged and put together again, what tells us which parts *fit*? Christopher Olah
# proposed in 2015 to read networks as functional programs: known patterns are functions that take functions, and what
# they take are small networks with learnt weights. He calls the idea speculative, and so do we. But the correspondence
# itself can be checked in a few lines, so we check it: $[A]$ is a list of $A$, $[A]_w$ a window of length $w$, and
# $A + B$ is "an $A$ or a $B$, and you can tell which".

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## A fold is a recurrent network

# %% slideshow={"slide_type": "-"}
def fold(step, state, xs):
    for x in xs:
        state = step(state, x)
    return state


fold(lambda total, x: total + x, 0, [1, 2, 3]), fold(max, 0, [3, 1, 2])

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The same fold, with a layer inside

# %% slideshow={"slide_type": "-"}
rnn = nn.RNN(8, 16)
W_x, W_h, b_x, b_h = rnn.parameters()
rows = data.test_x.transpose(0, 1)  # eight rows of eight pixels: (8, 540, 8)


def step(h, x):
    return torch.tanh(x @ W_x.T + b_x + h @ W_h.T + b_h)


torch.testing.assert_close(fold(step, torch.zeros(540, 16), rows), rnn(rows)[1][0])

# %% [markdown] slideshow={"slide_type": "notes"}
# `fold` knows nothing about networks: start with a state, take the inputs one by one, return the last state. Give it
# addition and it sums. Give it a linear layer and a tanh, and it is PyTorch's RNN; the weights belong to `step`, the
# pattern belongs to `fold`. Because the same `step` is used at every position, any length fits: the type says $[A]$.
#
# The states on the way are often wanted too. That is a *scan*, and your first exercise.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## A windowed map is a convolution

# %% slideshow={"slide_type": "-"}
def windowed_map(f, images, size):
    windows = images.unfold(1, size, 1).unfold(2, size, 1)  # (B, 6, 6, size, size)
    return f(windows.flatten(3))  # f: (..., size²) → (..., C)


linear = nn.Linear(9, 5)
ours = windowed_map(linear, data.test_x, 3)  # (B, 6, 6, 5)
kernels = linear.weight.reshape(5, 1, 3, 3)
torchs = F.conv2d(data.test_x.unsqueeze(1), kernels, linear.bias)  # (B, 5, 6, 6)
torch.testing.assert_close(ours, torchs.movedim(1, -1))

# %% slideshow={"slide_type": "-"}
windowed_map(MLP(9, 32, 5), data.test_x, 3).shape  # and why should f be linear?

# %% [markdown] slideshow={"slide_type": "notes"}
# One small function, applied to every window: if it is linear, this is `conv2d`, number for number. The type explains
# the bias that we measured: the *same* $f$ at every place, and a window is made of *neighbours*. Nothing asks $f$ to be
# linear. With an MLP in its place we have what Lin et al. (2014) called a network in a network.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## A choice is a sum type

# %% slideshow={"slide_type": "skip"}
small, large = MLP(64, 16, 10), MLP(64, 512, 10)

# %% slideshow={"slide_type": "-"}
class Easy(NamedTuple):
    image: Tensor


class Hard(NamedTuple):
    image: Tensor


def read(value):  # Easy + Hard → class scores
    match value:
        case Easy(image):
            return small(image)
        case Hard(image):
            return large(image)


# %% slideshow={"slide_type": "skip"}
pixels = data.test_x.flatten(1)
hard = (ink > ink.mean()).sum(-1) > 7  # any rule will do here: many patches with ink
values = [Hard(x) if h else Easy(x) for x, h in zip(pixels, hard, strict=True)]
one_hot = F.one_hot(hard.long(), 2).float()  # the tag of the sum type
with torch.no_grad():
    torch.testing.assert_close(torch.stack([read(v) for v in values]), mix_sparse(pixels, one_hot, [small, large]))
    counted = count_flops(mix_sparse, pixels, one_hot, [small, large])
    by_kind = {"easy": count_flops(small, pixels[:1]), "hard": count_flops(large, pixels[:1])}
assert counted == (~hard).sum() * by_kind["easy"] + hard.sum() * by_kind["hard"]

# %% slideshow={"slide_type": "-"} tags=["fold"]
print(f"mix_sparse: {(~hard).sum()} easy x {by_kind['easy']:,} + {hard.sum()} hard x {by_kind['hard']:,} FLOPs")

# %% [markdown] slideshow={"slide_type": "notes"}
# A value of type `Easy + Hard` is one or the other and carries a tag that says which. `match` looks at the tag and runs
# one branch. A one-hot $z$ is that tag for a whole batch, and `mix_sparse` is the `match`: same result, and the FLOPs
# are those of the branches taken.
#
# The analogy also says what is missing: in a program, the one who *makes* the value knows its tag. In a network the tag
# must be learnt. Here we took a rule of thumb.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Equal shapes do not compose
#
# Four networks, the same types: encoder $[\text{pixel}] \to \mathbb{R}^{32}$, head $\mathbb{R}^{32} \to$ class.
# **Predict:** network 1's encoder with network 2's head?

# %% slideshow={"slide_type": "skip"}
pairs_of = []
for run in range(4):
    torch.manual_seed(1000 * seed + run)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    learn(net, data.train_x, data.train_y, run, lr=5e-3)
    pairs_of.append((net[:3], net[3]))
with torch.no_grad():
    swap = np.array([[accuracy(head(encode(data.test_x))) for _, head in pairs_of] for encode, _ in pairs_of])
own, others = swap.diagonal(), swap[~np.eye(4, dtype=bool)]
print(f"own head {own.mean():.2f}, another's head {others.mean():.2f} (from {others.min():.2f} to {others.max():.2f})")
assert own.min() > 0.93 and others.mean() < 0.25 and others.max() < 0.5

# %% slideshow={"slide_type": "-"} tags=["half", "fold"]
fig, ax = plt.subplots(figsize=(5, 3.9))
ax.imshow(swap, cmap="Blues", vmin=0, vmax=1.15)
for i, j in np.ndindex(4, 4):
    ax.text(j, i, f"{swap[i, j]:.2f}", ha="center", va="center", color="white" if swap[i, j] > 0.6 else "0.1")
ax.set(xticks=range(4), yticks=range(4), xticklabels="1234", yticklabels="1234", xlabel="head of", ylabel="encoder of")
ax.spines[:].set_visible(False)
ax.tick_params(length=0)
show(
    fig,
    f"A table of test accuracies, encoder by head. With its own head an encoder reaches about {own.mean():.2f}, with "
    f"the head of another network about {others.mean():.2f}.",
)

# %% [markdown] slideshow={"slide_type": "-"} tags=["half"]
# $$\text{encode}_i : [\text{pixel}] \to \mathbb{R}^{32}$$
# $$\text{head}_j : \mathbb{R}^{32} \to \text{class}$$
#
# Every composition has the right **type**, and runs.
#
# Only $i = j$ has the right **meaning**: a guess is right one time in ten.

# %% [markdown] slideshow={"slide_type": "notes"}
# Every composition type-checks, no shape is wrong, PyTorch is content. And every mixed pair is near chance. The shape
# $\mathbb{R}^{32}$ says how many numbers there are, not what the third of them stands for; each training finds its own
# code. Olah's answer: the true type of a layer's output is its *representation*, and only training together makes two
# networks agree on one.
#
# The next cell shows how little it takes: reorder the 32 units of one encoder, which throws nothing away, and its own
# head fails as well, until it is reordered too. For modular networks this is the central fact: modules that are to be
# exchanged must learn to speak one language, by training together, or be translated afterwards (notebook 12).

# %% slideshow={"slide_type": "skip"}
encode, head = pairs_of[0]
order = torch.randperm(32)
with torch.no_grad():
    reordered = encode(data.test_x)[:, order]  # the same 32 numbers, in another order
    repaired = F.linear(reordered, head.weight[:, order], head.bias)
    print(f"units reordered: {accuracy(head(reordered)):.2f}, the head as well: {accuracy(repaired):.2f}")
    torch.testing.assert_close(repaired, head(encode(data.test_x)))
    assert accuracy(head(reordered)) < 0.6

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What does not come for free
#
# - **Argmax is deaf.** Each gradient is zero, although the mean loss has a slope.
# - **Decisions multiply.** Four gates: try them all. Sixteen, for each image: no.
# - **Fewer FLOPs need not be less time.** Fine decisions cost bookkeeping.
# - **A bias is a bet.** Shuffle the pixels, and it is lost.
# - **Shapes are not types.** What fits may still not mean the same.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercises
#
# ### Exercise 1: a scan (★★☆, 10 min)
#
# A fold returns the last state. A recurrent network that tags each word, or writes one, needs the state after *every*
# input. Write `scan(step, state, xs)`: `xs` is a tensor `(T, ...)`, `step(state, x)` returns the next state, and the
# result is a tensor with the T states after each input, `(T, *state.shape)`. The first state is not among them.
# With the `step` above it is what `nn.RNN` calls its output: `rnn(rows)[0]`.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def scan(step, state, xs):
    return ...


check("scan", scan)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def scan_solution(step, state, xs):
    states = []
    for x in xs:
        state = step(state, x)
        states.append(state)
    return torch.stack(states)


check("scan", scan_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# Does yours agree with PyTorch? `torch.testing.assert_close(scan(step, torch.zeros(540, 16), rows), rnn(rows)[0])`
#
# ### Exercise 2: what a block costs (★★☆, 10 min)
#
# Before you skip something, know its price. Write `block_flops(n_tokens, d_model)`: the FLOPs of one transformer block
# for one image, where an $n \times m$ matrix times an $m \times p$ matrix costs $2nmp$, and only matrix products count.
# The block has queries, keys and values ($D \to 3D$), attention (tokens by tokens, for scores and for the mean of
# values; the number of heads cancels), an output ($D \to D$), and an MLP ($D \to 4D \to D$).
#
# **Predict** first: half of the tokens, what share of the work? And half of the width?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def block_flops(n_tokens, d_model):
    return ...


check("block_flops", block_flops)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def block_flops_solution(n_tokens, d_model):
    linear = 2 * n_tokens * d_model * (3 * d_model + d_model + 4 * d_model + 4 * d_model)
    attention = 2 * (2 * n_tokens * n_tokens * d_model)
    return linear + attention


check("block_flops", block_flops_solution)

# %% slideshow={"slide_type": "skip"}
assert count_flops(readers[0].body.blocks[0], torch.zeros(1, 16, 32)) == per_block == 24 * 16 * 32**2 + 4 * 16**2 * 32

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# $$y = \sum_k z_k \, f_k(x) \qquad z = \text{choice}(g(x))$$
#
# - A decision is scores, a choice, and a model that lives with it.
# - Through argmax, nothing is learnt: zero slope for each image.
# - Patches, layers, parts of layers: the same keep-or-discard, three times.
# - The saving is easy. *Which* to keep is the problem, and it is discrete.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - C. Olah, *Neural Networks, Types, and Functional Programming*, blog post, 2015: networks as typed functions.
# - A. Vaswani et al., *Attention Is All You Need*, NeurIPS 2017: the block.
# - M. Lin, Q. Chen, S. Yan, *Network In Network*, ICLR 2014: an MLP in every window.
# - L. Meng et al., *AdaViT: Adaptive Vision Transformers for Efficient Image Recognition*, CVPR 2022: patches, heads
#   and blocks as decisions of one network.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
