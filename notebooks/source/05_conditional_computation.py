# %% [markdown] slideshow={"slide_type": "slide"}
# # Conditional computation: skip what you do not need
#
# **Notebook 05** · *Designing efficient and modular neural networks*
#
# A network that looks at half of an image, skips a layer, leaves out a head:
# does it really save work? And what does that cost in accuracy?

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you will be able to do.** Let a transformer decide which patches, heads, layers and hidden units an input
# needs; train such decisions under a budget; tell a saving that is executed from one that is multiplied by zero; say
# when a fixed choice is as good. You need: notebooks 01 and 02, and a transformer block. About 50 minutes with the two
# exercises. Everything below runs on a laptop in about a minute.

# %% slideshow={"slide_type": "skip"}
import math
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lecture_lib import plots
from lecture_lib.choice import Choice, argmax, gumbel_softmax, sample, straight_through
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.data import batches, digits, python_sources
from lecture_lib.estimators import MovingAverage, surrogate
from lecture_lib.models import MLP, Block, SelfAttention, Transformer, attention
from lecture_lib.notebook import check, setup, show
from lecture_lib.patches import PatchSelector, masked, packed, usage_loss
from lecture_lib.skipping import (
    AdaptiveTransformer,
    GatedChannels,
    GatedHeads,
    MixtureOfDepths,
    SkippableBlock,
    compute_share,
    predictor_loss,
)
from lecture_lib.training import fit
from lecture_lib.widgets import Savings

seed = setup(0)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Many small questions with k = 2
#
# | | the question, to be answered for each input | in this lecture |
# |---|---|---|
# | **input** | does the network look at this patch? | `PatchSelector` |
# | **layer** | does this layer run? | `SkippableBlock` |
# | **block** | does this head, this group of units take part? | `GatedHeads`, `GatedChannels` |
# | **depth** | which tokens may use this layer? | `MixtureOfDepths` |
#
# Each answer is keep or discard: $\; y = x + z \cdot f(x), \quad z \in \{0, 1\}$

# %% [markdown] slideshow={"slide_type": "notes"}
# The talk's three kinds of sparsity, and one more. Notebook 01 drew them; here they become modules that learn and that
# really skip work. Every decision is the choice of notebook 02 with $k = 2$: a score against 0.
#
# **The rule of this notebook:** a saving counts only if the work is not executed. A mask that multiplies by zero saves
# nothing. So we show counted FLOPs and measured milliseconds side by side, and say where they disagree.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Discard one patch, by hand
#
# Attention of token $i$ to token $j$, as far as $j$ is kept:
#
# $$\frac{\exp(A_{ij}) \, G_{ij}}{\sum_l \exp(A_{il}) \, G_{il}} \qquad G_{ij} = z_j, \quad G_{ii} = 1$$

# %% slideshow={"slide_type": "-"}
def hide(q, k, v, z):
    G = torch.where(torch.eye(len(z), dtype=torch.bool), 1, z)
    weights = (q @ k.T / q.shape[-1] ** 0.5).exp() * G
    return weights / weights.sum(-1, keepdim=True) @ v


q, k, v = torch.randn(3, 4, 8)  # a class token and three patches
z = torch.tensor([1.0, 1.0, 0.0, 1.0], requires_grad=True)  # discard the second patch
y = hide(q, k, v, z)
library = attention(q[None, None], k[None, None], v[None, None], z[None])[0, 0]
torch.testing.assert_close(y, library)

# %% [markdown] slideshow={"slide_type": "notes"}
# DynamicViT's masked attention (Rao et al. 2021). A discarded token has $z_j = 0$: nobody sees it, except itself (the
# diagonal stays, so that no row is empty). The class token is always kept.
#
# **Predict:** two things. Is the answer of the kept tokens *exactly* that of a network in which the patch does not
# exist? And is there a gradient for $z_2$, although it is zero?

# %% slideshow={"slide_type": "skip"}
there = [0, 1, 3]
without = F.scaled_dot_product_attention(q[None, there], k[None, there], v[None, there])[0]
torch.testing.assert_close(y[there], without)  # hidden is as good as gone ...
(slope,) = torch.autograd.grad(y[0].sum(), z)
assert slope[2] != 0  # ... but it can still say: you would have wanted me
print("gradient of the class token's output:", [f"{g:+.3f}" for g in slope])
with_inf = (q @ k.T / 8**0.5).masked_fill(z == 0, -torch.inf).softmax(-1) @ v  # the usual mask: no gradient for z
assert not with_inf.requires_grad

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Hidden in training, gone at test time

# %% slideshow={"slide_type": "-"}
body = Transformer(d_model=32, n_heads=4, n_layers=2).eval()
x = torch.randn(256, 17, 32)  # 256 images: a class token and 16 patches
kept = (torch.rand(256, 17) < 0.5).float()  # each image keeps another number
kept[:, 0] = 1

with torch.no_grad():
    hidden, gone = masked(body, x, kept), packed(body, x, kept)
    torch.testing.assert_close(hidden, gone, rtol=0, atol=1e-5)  # the same answer
    flops = [count_flops(f, body, x, kept) for f in (masked, packed)]
print(f"masked {flops[0] / 1e6:.0f} million FLOPs, packed {flops[1] / 1e6:.0f} million")

# %% [markdown] slideshow={"slide_type": "notes"}
# Two evaluations of the same thing, like `mix` and `mix_sparse`. `masked` computes every token and hides the discarded
# ones: a gradient reaches everyone. `packed` computes what is kept: images that keep equally many patches form a batch
# without padding, one batch for each number that occurs. A discarded token passes by unchanged.
#
# Counted by hand, a block on $n$ tokens of width $D$ costs $24 n D^2 + 4 n^2 D$ (notebook 01).

# %% slideshow={"slide_type": "skip"}
def blocks_cost(n, width=32, layers=2):
    return layers * (24 * n * width**2 + 4 * n**2 * width)


assert flops == [256 * blocks_cost(17), blocks_cost(kept.sum(-1)).sum().item()]

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The task: digits that wander
#
# 16 patches, 4 of them hold the digit. Which digit is it?

# %% slideshow={"slide_type": "skip"}
data = digits()


def wander(x, generator):
    """Digits (N, 8, 8) on an empty canvas (N, 16, 16), each in one of nine places."""
    row, column = 4 * torch.randint(3, (2, len(x), 1), generator=generator)
    canvas = torch.zeros(len(x), 16, 16)
    eight = torch.arange(8)
    canvas[torch.arange(len(x))[:, None, None], (row + eight)[:, :, None], (column + eight)[:, None]] = x
    return canvas


def cut(images):
    """(N, 16, 16) -> 16 patches (N, 16, 16 pixels), row by row."""
    return images.unflatten(-1, (4, 4)).unflatten(1, (4, 4)).transpose(2, 3).flatten(1, 2).flatten(2)


generator = torch.Generator().manual_seed(1000 + seed)
test_x, test_y = wander(data.test_x, generator), data.test_y
train_x = wander(data.train_x, generator)  # a fixed set, to measure budgets on

# %% slideshow={"slide_type": "-"} tags=["fold"]
def picture(ax, image, keep=None):
    """An image with its 16 patches; discarded ones are crossed out."""
    ax.imshow(image, cmap="gray_r", vmin=0, vmax=1, extent=(0, 4, 4, 0))
    for line in range(5):
        ax.plot([0, 4], [line, line], color="0.8", lw=0.6)
        ax.plot([line, line], [0, 4], color="0.8", lw=0.6)
    for p in range(16) if keep is not None else []:
        if not keep[p]:
            corner = (p % 4, p // 4)
            ax.add_patch(plt.Rectangle(corner, 1, 1, fc="0.93", ec="0.7", hatch="///", lw=0, alpha=0.75))
    ax.set(xticks=[], yticks=[], xlim=(0, 4), ylim=(4, 0))
    ax.spines[:].set_visible(False)


fig, axes = plt.subplots(1, 6, figsize=(10, 2.0))
for ax, image in zip(axes, test_x, strict=False):
    picture(ax, image)
show(fig, "Six canvases of 4 by 4 patches, each with a handwritten digit that covers 2 by 2 of them, in other places.")

# %% [markdown] slideshow={"slide_type": "notes"}
# The digits of scikit-learn on a canvas of 16 × 16 pixels, in one of nine places. Four patches of sixteen carry all the
# information, and *which* four changes from image to image. That is the best case for choosing by input, and we say so:
# were the digit always in the same place, a fixed crop would do.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## A small vision transformer

# %% slideshow={"slide_type": "-"}
class Parts(nn.Module):
    def __init__(self, choose=None, width=32, layers=2):
        super().__init__()
        self.embed, self.head = nn.Linear(16, width), nn.Linear(width, 10)
        self.position = nn.Parameter(0.5 * torch.randn(17, width))
        self.selector = PatchSelector(width, choose) if choose else None
        self.body = Transformer(width, 4, layers)

    def tokens(self, images):
        return F.pad(self.embed(cut(images)), (0, 0, 1, 0)) + self.position  # (B, 17, D)


# %% [markdown] slideshow={"slide_type": "subslide"}
# ## With a selector, or without

# %% slideshow={"slide_type": "-"}
class ViT(Parts):
    def forward(self, images):
        x = self.tokens(images)
        if self.selector is None:
            return self.head(self.body(x)[:, 0]), None, None
        kept, choice = self.selector(x)  # (B, 17), the class token kept
        evaluate = masked if self.training else packed
        return self.head(evaluate(self.body, x, kept)[:, 0]), kept, choice

# %% [markdown] slideshow={"slide_type": "notes"}
# The selector stands right after the embedding: a linear score for each patch, from its pixels and its position. (Later
# in the network it would know more and save less.) In training `masked`, at test time `packed`.
#
# First we train the network without a selector. Then every method continues from the same weights for a few steps: the
# way AdaViT does it, and it makes the comparison fair and short.

# %% slideshow={"slide_type": "skip"}
def examples(generator):
    for x, y in batches(data.train_x, data.train_y, generator=generator):
        yield wander(x, generator), y


def train(net, loss, steps, run):
    """Fast steps, then slow ones to settle."""
    generator = torch.Generator().manual_seed(1000 * seed + run)
    for n, lr in zip(steps, (3e-3, 5e-4), strict=True):
        fit(net, loss, examples(generator), steps=n, lr=lr, every=1000, label=f"run {run}")
    return net.eval()


def plain(net):
    return lambda x, y: F.cross_entropy(net(x)[0], y)


def accuracy(net, images=test_x):
    with torch.no_grad():
        return (net(images)[0].argmax(-1) == test_y).float().mean().item()


torch.manual_seed(seed)
dense = ViT()
nn.init.normal_(dense.embed.weight, std=0.3)
train(dense, plain(dense), (400, 60), 0)
full = accuracy(dense)
print(f"dense network: accuracy {full:.3f}")
assert full > 0.88

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Train the selector: noise, a mask, a budget

# %% slideshow={"slide_type": "-"}
def gumbel(scores):
    return straight_through(gumbel_softmax(scores))


def under_budget(net, budget, x, y):
    logits, _, choice = net(x)
    cost = F.cross_entropy(logits, y, reduction="none")  # (B,)
    log_prob = choice.log_prob.sum(-1)  # 0, unless sampled by score function
    expected = choice.logits.softmax(-1)[..., 0]  # P(keep) of each patch
    loss = surrogate(cost, log_prob, baseline(cost)).mean()
    return loss + 20 * usage_loss(expected, budget)

# %% [markdown] slideshow={"slide_type": "notes"}
# Straight-through Gumbel-Softmax for each patch, as in AdaViT: hard decisions with a gradient. The usage loss,
# $(\text{mean} - \text{target})^2$, wants three patches in ten *on average over the batch*: an image may take more and
# another less. The loss rule `surrogate` of notebook 03 serves all methods; for REINFORCE, below, it adds the term that
# needs a baseline.
#
# **Predict:** we train with a budget of 30 %. After training, we turn the noise off and keep a patch where
# $\sigma(s) > ½$. What share of the patches is kept?

# %% slideshow={"slide_type": "skip"}
baseline = MovingAverage(0.9)


def branch(choose, run, loss=under_budget, budget=0.3, at_test=argmax):
    """Continue from the dense network with a selector that chooses by `choose`."""
    torch.manual_seed(1000 * seed + run)
    net = ViT(choose)
    net.load_state_dict(dense.state_dict(), strict=False)
    nn.init.constant_(net.selector.gate.score.bias, math.log(budget / (1 - budget)))  # start at the budget
    net.selector.gate.at_test = at_test
    return train(net, partial(loss, net, budget), (150, 60), run)


def scores_of(net, images):
    with torch.no_grad():
        return net.selector.gate.score(net.tokens(images)[:, 1:]).squeeze(-1)  # (N, 16)


net = branch(gumbel, 1)
scores = scores_of(net, test_x)
has_ink = cut(test_x).sum(-1) > 0  # (540, 16)
in_training, at_half = scores.sigmoid().mean(), (scores > 0).float().mean()
print(f"share kept: {in_training:.2f} in training (expected), {at_half:.2f} at test time, without noise")

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A promise needs a threshold
#
# The usage loss asks for 30 %, the task asks for more: training ends between. Without the noise, $s > 0$ keeps yet
# another share. So put the threshold where *training images* meet the budget.

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.5))
bins = np.linspace(scores.min(), scores.max(), 50)
for mask, style in ((~has_ink, {"label": "empty patches"}), (has_ink, {"label": "with ink", "hatch": "//"})):
    ax.hist(scores[mask], bins, alpha=0.6, edgecolor="white", **style)
ordered = scores_of(net, train_x).flatten().sort(descending=True).values
at_30 = ordered[int(0.3 * len(ordered))].item()
for at, name, right in ((0.0, "s = 0", at_30 < 0), (at_30, "keeps 30 %", at_30 >= 0)):
    ax.axvline(at, color="0.2", lw=2, ls="--" if at else ":")
    side = {"ha": "left" if right else "right", "va": "top"}
    ax.text(at, 0.99, f" {name} ", transform=ax.get_xaxis_transform(), **side)
ax.set(xlabel="score s of a patch", ylabel="test patches", yscale="log", ylim=(0.8, 2e4))
ax.legend(frameon=False, loc="upper right")
show(
    fig,
    "Histogram of the patches' scores on test images. Patches with ink have the higher scores, empty ones the lower. "
    "The threshold for 30 per cent lies between most of them, the threshold 0 does not keep 30 per cent.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Noise decides near the threshold, so a patch of score 0 is kept in every second training step, and a mean over steps
# is no promise about the network that is left when the noise is gone. But the scores are in a good *order*: ink above,
# empty below. An order is all that a threshold needs, and a threshold can be moved after training, for any budget: the
# elastic demand of the talk.
#
# Empty patches look alike and differ by their place only, so they have sixteen scores, in steps. A budget that falls
# into a step is met as well as it can be.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Any budget, from one network

# %% slideshow={"slide_type": "-"}
def meet(net, budget, images=train_x):
    """Move the threshold of the scores until the budget is met on these images."""
    s = scores_of(net, images).flatten().sort(descending=True).values
    net.selector.gate.score.bias.data -= s[min(int(budget * len(s)), len(s) - 1)]
    return net

# %% slideshow={"slide_type": "skip"}
budgets = [0.3, 0.4, 0.5, 0.6, 0.8, 1.0]


def look(net):
    """Accuracy on test images, what is kept (540, 16), and FLOPs an image."""
    with torch.no_grad():
        logits, kept, _ = net(test_x)
        flops = count_flops(net, test_x) / len(test_x)
    return (logits.argmax(-1) == test_y).float().mean().item(), kept[:, 1:] > 0, flops


seen = {}
for budget in budgets:
    seen[budget] = look(meet(net, budget))
    assert abs(seen[budget][1].float().mean() - budget) < 0.1  # the promise holds on new images, up to a step
dense_flops = count_flops(dense, test_x) / len(test_x)
assert seen[0.5][0] > full - 0.03 and seen[0.3][0] > full - 0.08

# %% slideshow={"slide_type": "-"} tags=["fold"]
for budget, (right, keep, flops) in seen.items():
    print(f"budget {budget:4.0%}   kept {keep.float().mean():4.0%}", end="   ")
    print(f"FLOPs {flops / dense_flops:4.0%}   accuracy {right:.3f}   (dense {full:.3f})")

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Which patches does it keep?

# %% slideshow={"slide_type": "-"} tags=["figure:kept_patches", "fold"]
fig, axes = plt.subplots(2, 6, figsize=(10, 3.6))
for row, budget in zip(axes, (0.5, 0.3), strict=True):
    for ax, image, keep in zip(row, test_x, seen[budget][1], strict=False):
        picture(ax, image, keep)
    row[0].set_ylabel(f"budget {budget:.0%}")
fig.supxlabel("hatched: left out", fontsize="medium")
show(
    fig,
    "Six digits on their canvases at a budget of 50 and of 30 per cent: discarded patches are hatched. The kept ones "
    "lie on the digits' ink, wherever the digit stands.",
)
found = (seen[0.3][1] & has_ink).sum() / has_ink.sum()
print(f"at 30 %: {found:.0%} of the patches with ink are kept; by chance it would be 30 %")
assert found > 0.7

# %% [markdown] slideshow={"slide_type": "notes"}
# Nobody told the selector where the digit is: the label of the digit was all. It learned to find ink. With sixteen
# patches and one linear score, "there is ink" is what can be learned, and on this task it is nearly all there is to
# know. On photographs the selector needs to see more, so AdaViT decides anew in every block.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Who learns to choose?
#
# Same network, same steps, 30 % of the patches.
# **Predict** the order: straight-through Gumbel, REINFORCE, a relaxed choice, five fixed patches, chance.

# %% slideshow={"slide_type": "skip"}
def constant(keep):
    """A way of choosing that asks nobody: `keep` gives (..., 16) of zeros and ones."""
    def choose(logits):
        z = keep(logits.shape[:-1])
        return Choice(logits, torch.stack([z, 1 - z], -1), torch.zeros_like(z))
    return choose


def by_loss_alone(net, budget, x, y):
    return F.cross_entropy(net(x)[0], y)


ink = cut(train_x).var(0).sum(-1)
five = torch.zeros(16).index_fill(0, ink.topk(5).indices, 1)  # the five patches that vary most
crop = constant(lambda shape: five[:, None].expand(shape))
chance = constant(lambda shape: torch.full(shape, 0.3).bernoulli())

ways = {"straight-through\nGumbel": seen[0.3][0]}
ways["REINFORCE"] = look(meet(branch(sample, 2), 0.3))[0]
ways["relaxed"] = look(meet(branch(gumbel_softmax, 3), 0.3))[0]
ways["five fixed\npatches"] = accuracy(branch(crop, 4, by_loss_alone, at_test=crop))
ways["chance"] = accuracy(branch(chance, 5, by_loss_alone, at_test=chance))

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.5))
plots.bars(ax, list(ways), {"accuracy": list(ways.values())}, fmt="{:.3f}")
ax.axhline(full, color="0.4", lw=1.5, ls=":", zorder=0)
for label in ax.texts:
    label.set_bbox({"fc": "white", "ec": "none", "pad": 1})  # not on the line
ax.text(4.45, full, "all patches", ha="right", va="bottom", color="0.3")
ax.set(ylabel="test accuracy", ylim=(0, 1.12))
show(
    fig,
    "Test accuracy at 30 per cent of the patches: straight-through Gumbel and REINFORCE nearly as good as all patches, "
    "the relaxed choice below them, five fixed patches clearly below, chance far below.",
)
assert min(ways["straight-through\nGumbel"], ways["REINFORCE"]) > ways["five fixed\npatches"] + 0.05
assert ways["five fixed\npatches"] > ways["chance"] + 0.05

# %% [markdown] slideshow={"slide_type": "notes"}
# REINFORCE does as well as straight-through here, with one sampled mask an image and a moving average for a baseline:
# sixteen small decisions, started from a network that already works, with a cost of low variance. The relaxed choice is
# trained on patches that are half there, and is tested on patches that are not; what that costs varies from seed to
# seed. Both controls were trained for as many steps; at random, the network has to guess from what happens to be left.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The honest comparison: a smaller network
#
# Conditional computation competes with the plain alternative: train a *smaller* network, for all inputs alike.

# %% slideshow={"slide_type": "skip"}
static = {}
for width, layers in ((16, 2), (20, 2), (32, 1)):
    torch.manual_seed(seed)
    small = ViT(width=width, layers=layers)
    nn.init.normal_(small.embed.weight, std=0.3)
    train(small, plain(small), (550, 120), 6)  # as many steps as both phases together
    static[f"width {width}, {layers} layer{'s' * (layers > 1)}"] = (count_flops(small, test_x) / 540, accuracy(small))

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 2.8))
shares = [flops / dense_flops for _, _, flops in seen.values()]
ax.plot(shares, [a for a, *_ in seen.values()], "o-", lw=2.2, label="chooses patches")
for (name, (flops, a)), mark in zip(static.items(), "s^D", strict=True):
    ax.plot(flops / dense_flops, a, mark, color="C1", ms=9, label=f"static: {name}")
ax.plot(1, full, "k*", ms=14, label="dense")
ax.set(xlabel="FLOPs an image, as a share of the dense network's", xlim=(0, 1.05))
ax.set_ylabel(f"test accuracy\n(axis from {ax.get_ylim()[0]:.2f})")
ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
show(
    fig,
    "Accuracy against FLOPs. The network that chooses patches keeps its accuracy down to about 40 per cent of the "
    "FLOPs. Smaller static networks at 30 to 50 per cent lie close to the same curve.",
)
curve = sorted((f, a) for a, _, f in seen.values())
for name, (flops, a) in static.items():
    ours = np.interp(flops, *zip(*curve, strict=True))
    print(f"{name}: {flops / dense_flops:.0%} of the FLOPs, accuracy {a:.3f}, choosing patches {ours:.3f}")
    assert abs(ours - a) < 0.07  # neither is far ahead

# %% [markdown] slideshow={"slide_type": "notes"}
# **The verdict.** Against a random or a fixed choice of patches, the learned one wins clearly. Against a smaller
# network with the same FLOPs, trained for as long, it is about even, on a task made for it. What the smaller network
# does not have: a *dial*. One set of weights serves every budget on the curve. And what papers compare with is often
# the dense network alone. Ask for the third curve.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## By the clock
#
# Half of the patches, 256 images at once. **Predict:** half of the time?

# %% slideshow={"slide_type": "skip"}
def one_turn(*functions):
    """Seconds of each, one after the other: whatever else the machine does, it does to all."""
    return [wall_time(f, min_seconds=0.1).low for f in functions]


half = (torch.rand(256, 17) < 0.5).float()
half[:, 0] = 1
clock = {}
with torch.no_grad():
    for width in (32, 128, 256):
        body, x = Transformer(width, 4, 2).eval(), torch.randn(256, 17, width)
        flops = count_flops(packed, body, x, half) / count_flops(body, x)
        turns = [one_turn(partial(packed, body, x, half), partial(body, x)) for _ in range(3)]
        sparse, whole = zip(*turns, strict=True)
        clock[f"width {width}"] = flops, min(sparse) / min(whole)  # the quiet moments of a busy machine

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
fig, ax = plt.subplots(figsize=(10, 3.5))
counted, measured = zip(*clock.values(), strict=True)
plots.bars(ax, list(clock), {"FLOPs, counted": counted, "time, measured": measured})
ax.axhline(1, color="0.4", lw=1.5, ls=":", zorder=0, label="all patches")
for label in ax.texts:
    label.set_bbox({"fc": "white", "ec": "none", "pad": 1})  # not on the line
ax.set(ylabel="share of computing all", ylim=(0, 1.35 * max(1, *measured)))
ax.legend(frameon=False, loc="upper right", ncols=3)
show(
    fig,
    "Counted FLOPs and measured time at half of the patches, as shares of all patches, for three widths: FLOPs are one "
    "half at each; nothing is gained in time at width 32, more at width 128, and at 256 about what is counted.",
)
assert min(measured[1:]) < 0.85 and max(counted) < 0.56  # on a quiet machine at most 0.65
assert min(measured[1:]) < measured[0]

# %% [markdown] slideshow={"slide_type": "notes"}
# Sorting, gathering and putting back cost time that no FLOP counter sees, and so do many small batches in place of a
# large one. At width 32 they eat the saving, or more; at 256 there is enough work in a token to make them small. With
# *one* image there is no batch to sort, and less to skip. A saving on paper becomes one by the clock when the skipped
# pieces are large.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## One network, a slider for its budget

# %% slideshow={"slide_type": "skip"}
def milliseconds(net):
    with torch.no_grad():
        return 1e3 * wall_time(net, test_x[:256], min_seconds=0.1).low


turns = [[milliseconds(dense), *(milliseconds(meet(net, budget)) for budget in budgets)] for _ in range(3)]
full_ms, *ms = np.min(turns, axis=0).tolist()

# %% slideshow={"slide_type": "-"} tags=["figure:savings_widget", "fold", "varies"]
Savings(
    budgets, [seen[b][0] for b in budgets], [seen[b][2] for b in budgets], ms, full=(full, dense_flops, full_ms),
    images=test_x[:10], kept=torch.stack([seen[b][1][:10] for b in budgets]), setting=0.4,
)  # fmt: skip

# %% [markdown] slideshow={"slide_type": "notes"}
# Everything in this picture was measured in the notebook: accuracy on 540 test images, FLOPs an image, milliseconds
# for 256. This network is narrow: its products are so small that the clock sees little of what they save. A wide
# network gains more. **Predict, then move:** from which budget on does a digit lose ink?

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Skip a layer, by hand
#
# An example that does not need the layer goes past it:
# $\;y_b = x_b + z_b \, f(x_b)$, and $f$ runs only where $z_b \ne 0$

# %% slideshow={"slide_type": "-"}
block = Block(32, 4)
layer = SkippableBlock(32, block, gumbel).eval()
nn.init.zeros_(layer.gate.score.bias)  # undecided: a new gate runs nearly always
x = torch.randn(6, 17, 32)
run = layer.gate.score(x[:, 0]).squeeze(-1) > 0  # asks each example's class token
by_hand = x.clone()
by_hand[run] = block(x[run])
torch.testing.assert_close(by_hand, layer(x)[0])
gate_flops = 2 * 6 * 32
assert count_flops(layer, x) == gate_flops + int(run.sum()) * count_flops(block, x[:1])
print(f"the layer ran for {run.sum()} of {len(run)} examples")

# %% [markdown] slideshow={"slide_type": "notes"}
# If no example of a batch wants the layer, it is not called at all, and its gradients are zeros. In training mode the
# layer runs for everyone and is weighted: straight-through needs to know what it missed, as `mix` in notebook 02.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Skip heads, skip hidden units
#
# Many small questions: $\; y = \sum_h z_h \cdot \text{head}_h(x), \quad z_h \in \{0, 1\}$
#
# **Predict:** all three below skip half. Which one does the clock notice?

# %% slideshow={"slide_type": "skip"}
x, skipped = torch.randn(256, 17, 128), {}
for name, layer, dense_layer in (
    ("layers of examples", *(lambda f: (SkippableBlock(128, f, argmax), f))(Block(128, 4))),
    ("heads of examples", *(lambda f: (GatedHeads(f, argmax), f))(SelfAttention(128, 4))),
    ("hidden units of tokens", *(lambda f: (GatedChannels(f, 4, argmax), f))(MLP(128, 512, 128))),
):
    nn.init.zeros_(layer.gate.score.bias)  # undecided: about half is kept
    layer.eval(), dense_layer.eval()
    with torch.no_grad():
        flops = count_flops(layer, x) / count_flops(dense_layer, x)
        sparse, whole = zip(*(one_turn(partial(layer, x), partial(dense_layer, x)) for _ in range(3)), strict=True)
    skipped[name] = flops, min(sparse) / min(whole)

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
fig, ax = plt.subplots(figsize=(10, 3.2))
counted, measured = zip(*skipped.values(), strict=True)
plots.bars(ax, list(skipped), {"FLOPs, counted": counted, "time, measured": measured})
ax.axhline(1, color="0.4", lw=1.5, ls=":", zorder=0, label="nothing skipped")
for label in ax.texts:
    label.set_bbox({"fc": "white", "ec": "none", "pad": 1})  # not on the line
ax.set(ylabel="share of the whole", ylim=(0, 1.25 * max(1.2, *measured)))
ax.legend(frameon=False, loc="upper left", ncols=3)
show(
    fig,
    "Counted FLOPs and measured time when half is skipped, at width 128: about one half of the FLOPs in all three. "
    "The time follows for whole layers; for heads and for hidden units of single tokens there is little gain or none.",
)
assert all(0.3 < share < 0.7 for share in counted)
assert measured[0] < min(measured[1:])

# %% [markdown] slideshow={"slide_type": "notes"}
# `GatedHeads` multiplies a head's queries, keys, values and its slice of the output for the examples that keep it;
# `GatedChannels` does so for groups of hidden units, token by token. The counter sees half in all three. The clock sees
# the *shape* of what is left: a whole layer for half of the examples is one smaller batch. Heads are four thin products
# with a gather before and a scatter after. Units of single tokens are the finest choice, and nearly all bookkeeping.
#
# Gates that agree between examples would be cheap: then the slice can be cut out once, for all. That is pruning, and
# no longer a decision by input.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## All at once: patches, heads, blocks
#
# AdaViT asks before each block: which patches, which heads, the block at all? One budget for the sum:
#
# $$\Big(\text{mean share of the FLOPs used} - \tfrac12\Big)^2$$

# %% slideshow={"slide_type": "skip"}
class AdaViT(ViT):
    def __init__(self, choose, width=32, layers=2):
        super().__init__()
        self.body = AdaptiveTransformer(width, 4, layers, choose)

    def forward(self, images):
        y, decisions = self.body(self.tokens(images))
        return self.head(y[:, 0]), decisions


torch.manual_seed(1000 * seed + 7)
ada = AdaViT(gumbel)
ada.load_state_dict(dense.state_dict(), strict=False)


def half_of_the_compute(x, y):
    logits, decisions = ada(x)
    return F.cross_entropy(logits, y) + 20 * usage_loss(compute_share(decisions, 32), 0.5)


train(ada, half_of_the_compute, (250, 60), 7)
with torch.no_grad():
    logits, decisions = ada(test_x)
    share = compute_share(decisions, 32)  # (540,)
    ada_accuracy = (logits.argmax(-1) == test_y).float().mean().item()
    counted = count_flops(ada, test_x)
gates = 540 * 2 * 2 * 32 * (16 + 4 + 1)  # two blocks, each with 16 patches, 4 heads and itself to ask about
outside = count_flops(lambda: dense.head(dense.tokens(test_x)[:, 0]))
blocks = 540 * 2 * (24 * 17 * 32**2 + 4 * 17**2 * 32)
assert abs(counted - (share.mean().item() * blocks + gates + outside)) < 1e-3 * counted  # by hand, and counted
print(f"accuracy {ada_accuracy:.3f} with {share.mean():.2f} of the blocks' FLOPs; dense {full:.3f}")
assert ada_accuracy > full - 0.06 and share.mean() < 0.8

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 2.35))
used = {
    "block 1": [decisions.kept[0, :, 1:].mean(), decisions.heads[0].mean(), decisions.run[0].mean()],
    "block 2": [decisions.kept[1, :, 1:].mean(), decisions.heads[1].mean(), decisions.run[1].mean()],
}
plots.bars(ax, ["patches kept", "heads used", "block run"], {k: [float(v) for v in vs] for k, vs in used.items()})
ax.set(ylabel="mean over\ntest images", ylim=(0, 1.25), yticks=[0, 0.5, 1])
ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
show(fig, "Shares of patches kept, heads used and examples that run, in both blocks of the adaptive network.")
print(f"accuracy {ada_accuracy:.3f} (dense {full:.3f}) with {share.mean():.0%} of the blocks' FLOPs;", end=" ")
print(f"from image to image {share.quantile(0.05):.0%} to {share.quantile(0.95):.0%}")

# %% [markdown] slideshow={"slide_type": "notes"}
# One budget lets the network trade: a patch less here for a head more there. Its accuracy hardly suffers, as this
# network is larger than it needs to be. Note how little the share varies between images: it found a saving that suits
# all of them, which a static network could have as well. The count holds: the share that the formula gives is what the
# counter counts, plus the few FLOPs of the gates.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Text: a layer with room for half of the tokens
#
# **Mixture of depths:** a router scores every token, the top half of the sequence goes through the block, the rest pass
# by: $\; y_t = x_t + r_t \, f(x)_t$

# %% slideshow={"slide_type": "skip"}
class Bytes(nn.Module):
    """A byte model of one block, which may be a mixture of depths, or missing."""

    def __init__(self, make_block, width=64):
        super().__init__()
        self.embed, self.position = nn.Embedding(256, width), nn.Parameter(0.02 * torch.randn(64, width))
        self.block = make_block(width, Block(width, 4, causal=True))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 256))

    def forward(self, text):
        x = self.embed(text) + self.position
        if not isinstance(self.block, MixtureOfDepths):
            return self.head(self.block(x)), x.new_zeros(())
        y, choice = self.block(x)
        return self.head(y), predictor_loss(self.block.predict(x), choice)


text = python_sources()


def windows(part, n, generator):
    while True:
        yield (part[torch.randint(len(part) - 65, (n, 1), generator=generator) + torch.arange(65)].long(),)


def loss_of(model, both):
    logits, foresight = model(both[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), both[:, 1:].flatten()) + foresight

# %% slideshow={"slide_type": "skip"}
kinds = {
    "every token": lambda width, block: block,
    "half of them": lambda width, block: MixtureOfDepths(width, block, capacity=0.5),
    "none": lambda width, block: nn.Identity(),
}
bits, models, block_flops = {}, {}, {}
(held_out,) = next(windows(text.test, 200, torch.Generator().manual_seed(seed)))
for name, make_block in kinds.items():
    torch.manual_seed(seed)
    models[name] = model = Bytes(make_block)
    stream = windows(text.train, 16, torch.Generator().manual_seed(seed))
    fit(model, partial(loss_of, model), stream, steps=250, lr=5e-3, every=1000, label=name)
    with torch.no_grad():
        block_flops[name] = count_flops(model.block, model.embed(held_out[:, :-1]))
        for mode in (True, False):  # the top of the sequence; then what the predictor lets in
            logits = model.train(mode)(held_out[:, :-1])[0]
            bits[name, mode] = F.cross_entropy(logits.flatten(0, 1), held_out[:, 1:].flatten()).item() / math.log(2)
assert block_flops["half of them"] < 0.5 * block_flops["every token"] and block_flops["none"] == 0
assert bits["every token", True] + 0.05 < bits["half of them", True] < bits["none", True] - 0.02

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
fig, ax = plt.subplots(figsize=(10, 3.3))
share = block_flops["half of them"] / block_flops["every token"]
names = ["every token", f"top half\n{share:.0%} of the FLOPs", "half, as foreseen", "none"]
order = [("every token", True), ("half of them", True), ("half of them", False), ("none", True)]
plots.bars(ax, names, {"bits": [bits[key] for key in order]})
ax.set(ylabel="bits per byte (less is better)", ylim=(0, 4.4))
show(
    fig,
    "Bits per byte of held-out Python source. The layer for every token is best, without the layer it is worst; with "
    "room for half of the tokens it lies between, a little worse when a predictor decides who gets in.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Raposo et al. 2024. The budget is fixed beforehand, so tensors have fixed shapes: no ragged batches, which is what
# hardware likes. Attention among half of the tokens costs a quarter, so the layer costs less than half.
#
# Read the bars with the last one in mind, the model **without** the layer. Half of the tokens keep well less than half
# of what the layer brings here: the chosen see only each other, and in a model of one layer nobody else looks back. The
# paper puts such layers between full ones, in much larger models, and reports gains. There, too, ask for the last bar:
# a layer that nobody misses is easily skipped for half of the tokens.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Who gets in, and who can know?
#
# Framed: bytes that the layer computes. **Predict:** the end of the line changes; does what came before?

# %% slideshow={"slide_type": "skip"}
deep = models["half of them"]
one = held_out[:, :-1]
other = torch.cat([one[:, :48], one.roll(1, 0)[:, 48:]], dim=1)  # the same beginning, another end
with torch.no_grad():
    x = deep.embed(held_out[:, :-1]) + deep.position
    chosen = deep.block.train()(x)[1].weights[..., 0] > 0  # (200, 64)
    foreseen = deep.block.predict(x) > 0
    top, causal = ((deep.train(mode)(one)[0] - deep(other)[0])[:, :48].abs().max() for mode in (True, False))
agree = (foreseen == chosen).float().mean().item()
print(f"the predictor agrees with the top half on {agree:.0%} of the tokens")
print(f"logits before the change move by up to {top:.2f} with the top half, {causal:.0e} with the predictor")
assert agree > 0.7 and top > 0.1 and causal < 1e-3

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
fig, axes = plt.subplots(4, 1, figsize=(10, 3.2))
for ax, line, mask in zip(axes, held_out[20:], chosen[20:], strict=False):
    for t, (byte, inside) in enumerate(zip(line[:48].tolist(), mask[:48].tolist(), strict=True)):
        sign = {10: "↵", 32: "·"}.get(byte, chr(byte) if 32 < byte < 127 else "?")
        if inside:
            ax.add_patch(plt.Rectangle((t - 0.5, 0), 1, 1, fc="#d6e8f2", ec="C0", lw=0.8))
        ax.text(t, 0.46, sign, ha="center", va="center", family="monospace", fontsize=15)
    ax.set(xlim=(-1, 48), ylim=(-0.1, 1.1))
    ax.axis("off")
show(fig, "Four lines of Python source, about half of the bytes in each framed: those that the layer computes.")

# %% [markdown] slideshow={"slide_type": "notes"}
# "The top half of the sequence" depends on tokens that a model which writes does not know yet: change the end, and the
# threshold moves for everyone. That is a peek into the future, and a number measured with it flatters the model. So a
# second linear map learns to foresee, from one token alone, whether it will be chosen; in evaluation mode it decides,
# and the layer is causal again. The bar "as foreseen" is that model, and the only one of the two that could write.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where it fails
#
# - **Small pieces**: sorting and gathering cost as much as they save.
# - **A smaller network** of equal FLOPs is a hard competitor.
# - **A budget in training** is not a budget at test time: measure, then move the threshold.
# - **Discarded too early** is gone: a selector before the first layer knows only pixels.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Exercise 1** (★☆☆, 5 min). *What is left.* A block on $n$ tokens of width $D$ costs $24 n D^2 + 4 n^2 D$. Which
# share of the FLOPs of a block remains when a share `kept` of `tokens` tokens of `width` is kept?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def my_share(kept, tokens, width):
    return ...


check("share_left", my_share)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def share_left(kept, tokens, width):
    def block(n):
        return 24 * n * width**2 + 4 * n**2 * width

    return block(kept * tokens) / block(tokens)


check("share_left", share_left)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Exercise 2** (★★☆, 10 min). *A threshold for a batch.* Given `scores` (B, T) and a budget, return the mask (B, T)
# that keeps the highest-scored `round(budget · B · T)` patches **of the whole batch**: an image may keep many, another
# few.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def my_mask(scores, budget):
    return ...


check("batch_budget", my_mask)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def batch_budget(scores, budget):
    n = round(budget * scores.numel())
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[scores.flatten().topk(n).indices] = True
    return mask.view_as(scores)


check("batch_budget", batch_budget)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# - Keep or discard, $k = 2$, at every place: patch, layer, head, token.
# - Train with everything computed and hidden; test with it gone. The answers agree.
# - Savings count when the work is not executed: FLOPs *and* milliseconds.
# - Compare with a smaller network, not with the dense one alone.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - L. Meng, H. Li, B.-C. Chen, S. Lan, Z. Wu, Y.-G. Jiang, S.-N. Lim, *AdaViT: Adaptive Vision Transformers for
#   Efficient Image Recognition*, CVPR 2022.
# - Y. Rao, W. Zhao, B. Liu, J. Lu, J. Zhou, C.-J. Hsieh, *DynamicViT: Efficient Vision Transformers with Dynamic Token
#   Sparsification*, NeurIPS 2021: masked attention.
# - A. Veit, S. Belongie, *Convolutional Networks with Adaptive Inference Graphs*, ECCV 2018: layers that examples skip.
# - D. Raposo, S. Ritter, B. Richards, T. Lillicrap, P. C. Humphreys, A. Santoro, *Mixture-of-Depths: Dynamically
#   Allocating Compute in Transformer-Based Language Models*, 2024.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
