# %% [markdown] slideshow={"slide_type": "slide"}
# # Conditional computation: skip what you do not need
#
# **Notebook 05** · *Designing efficient and modular neural networks*
#
# A network looks at a part of an image, skips a layer, leaves out a head. Does that save work? And is it better than a
# smaller network?

# %% [markdown] slideshow={"slide_type": "skip"}
# **After this notebook you can** say when a saving counts; train decisions to keep or to skip under a budget, and meet
# that budget at test time; choose a fair smaller network to compare with; explain where FLOPs and milliseconds part;
# write down AdaViT's three budgets; and say which kind of mixture of depths can write text. **You need** notebooks 00
# (`mix`, `mix_sparse`), 01 (FLOPs), 02 (Gumbel-Softmax, straight-through), 03 (REINFORCE), and a transformer block.
#
# Code that draws or prepares is folded: click on its title. Lines that begin with ✓ or ✗ compare what the text says
# with your own run. Results that take minutes are *recorded*: `python -m lecture_lib.recorded NAME` makes them anew.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Imports, the seed, five records
from copy import deepcopy
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lecture_lib import plots, recorded
from lecture_lib.choice import argmax
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.mixture import mix_sparse
from lecture_lib.models import MLP, Block, SelfAttention, Transformer, attention
from lecture_lib.notebook import check, claim, setup, show
from lecture_lib.patches import PatchSelector, masked, packed
from lecture_lib.recorded import conditional_computation as wandering
from lecture_lib.recorded import conditional_computation_adavit as three_budgets
from lecture_lib.recorded import conditional_computation_below as below
from lecture_lib.recorded import conditional_computation_depths as depths
from lecture_lib.recorded.conditional_computation import ViT, chooser, cut, examples
from lecture_lib.skipping import Decisions, GatedChannels, GatedHeads, SkippableBlock, usage_losses
from lecture_lib.widgets import Savings

seed = setup(0)
record, ada_record, text_record, controls, below_record = (
    recorded.load(f"conditional_computation{end}") for end in ("", "_adavit", "_depths", "_controls", "_below")
)


def control(case, key="accuracy"):
    """Of the record of controls, one number a seed."""
    return np.array([e[key] for e in controls["entries"] if e["case"] == case and key in e])


# %% [markdown] slideshow={"slide_type": "slide"}
# ## Many small questions with two answers
#
# | place | the question, asked for each input | in the library |
# |---|---|---|
# | **patches** | does the network look at this patch? | `patches.PatchSelector` |
# | **layers** | does this layer run? | `skipping.SkippableBlock` |
# | **heads**, groups of units | does this part of a layer take part? | `GatedHeads`, `GatedChannels` |
# | **depth** | which tokens may use this layer? | `MixtureOfDepths` |
#
# Keep or discard: $\; y = x + z \, f(x), \quad z \in \{0, 1\}, \quad z = \text{choice}(\text{score}(x))$

# %% [markdown] slideshow={"slide_type": "notes"}
# The equation of notebook 00 with two options, *run $f$* and *do nothing*: keep if the score $s$ is above 0. Bengio,
# Léonard and Courville (2013) asked how a gradient gets through units that switch large parts of a network off;
# E. Bengio, Bacon, Pineau and Precup (2015) trained such switches with a policy gradient, and measured the speed.
#
# **A saving counts only if the work is not executed.** A mask that multiplies by zero computes everything first. So
# this notebook shows two numbers side by side: counted FLOPs, and measured milliseconds. And a saving is worth
# something only if a *smaller network* of the same cost does not do as well.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Discard one patch, by hand
#
# Token $i$ looks at token $j$ as far as $j$ is kept, $z_j \in [0, 1]$:
#
# $$\text{weight}_{ij} = \frac{\exp(A_{ij}) \, m_{ij}}{\sum_l \exp(A_{il}) \, m_{il}} \qquad
# m_{ij} = z_j \text{ for } i \ne j, \quad m_{ii} = 1$$

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** How can a patch be "gone" for the network, although it is computed?
#
# **Idea.** An image is cut into patches; each becomes a *token*, a vector of width $D$. A class token stands first. In
# attention, $A = q k^\top / \sqrt{D}$ says how much token $i$ wants from token $j$; softmax makes weights of it. We
# multiply each exponential by $m_{ij}$. With $z_j = 0$ nobody sees token $j$ but itself (so no row is empty). This is
# the masked attention of DynamicViT (Rao et al. 2021).
#
# **Code.** Four tokens; patch 2 is discarded. `hide` is the formula, and `attention` the library's.


# %% slideshow={"slide_type": "-"}
def hide(q, k, v, z):
    m = torch.where(torch.eye(len(z), dtype=torch.bool), 1, z)
    weights = (q @ k.T / q.shape[-1] ** 0.5).exp() * m
    return weights / weights.sum(-1, keepdim=True) @ v


q, k, v = torch.randn(3, 4, 8)  # the class token 0, and patches 1, 2, 3
z = torch.tensor([1.0, 1.0, 0.0, 1.0], requires_grad=True)
y = hide(q, k, v, z)
torch.testing.assert_close(y, attention(q[None, None], k[None, None], v[None, None], z[None])[0, 0])

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Does a hidden patch have a gradient?

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Patch 2 has $z_2 = 0$. Does the class token's output have a gradient for $z_2$?
#
# <details><summary>A. No: what is multiplied by 0 has no influence</summary>
#
# **No.** The value does not depend on patch 2, its slope does. The derivative of $z_2 \cdot a$ for $z_2$ is $a$.
#
# </details>
#
# <details><summary>B. Yes: it says what would change if the patch came back</summary>
#
# **Yes.** The patch was computed, so its part $a$ of the sum is known: that is the slope. If it had not been computed,
# nobody would know.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# Look in the output: are the kept tokens *exactly* as in a network without the patch? Is the slope for $z_2$ not 0?

# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Open after your guess: with the patch hidden and with the patch gone
there = [0, 1, 3]
without = F.scaled_dot_product_attention(q[None, there], k[None, there], v[None, there])[0]
torch.testing.assert_close(y[there], without)
(slope,) = torch.autograd.grad(y[0].sum(), z)
off = (y[there] - without).abs().max().item()
print("gradient of the class token's output for z:", [f"{g:+.3f}" for g in slope])
claim("Hidden is as good as gone, to rounding", off < 1e-5, largest_difference=off)
claim("The discarded patch has a gradient", slope[2].abs() > 1e-4, slope=slope[2])
usual = (q @ k.T / 8**0.5).masked_fill(z == 0, -torch.inf).softmax(-1) @ v
claim("The usual mask, minus infinity, gives z no gradient", not usual.requires_grad)

# %% [markdown] slideshow={"slide_type": "skip"}
# So a mask in training *equals* removal at test time: weights of the others are divided by the same sum. This needs
# that the mask acts everywhere where tokens meet, and tokens meet in attention only.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: what is left ★☆☆ 3 min
#
# On paper. A transformer block on $n$ tokens of width $D$ costs $24 n D^2 + 4 n^2 D$ FLOPs: the matrices of attention
# and of its MLP, then attention itself (notebook 01 counts it). Of $n = 64$ tokens with $D = 32$ a half is kept.
# Which share of the block's FLOPs is left?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
share = ...

check("share_left", share)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
check("share_left", (24 * 32 * 32**2 + 4 * 32**2 * 32) / (24 * 64 * 32**2 + 4 * 64**2 * 32))

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Hidden in training, gone at test time

# %% [markdown] slideshow={"slide_type": "skip"}
# **Idea.** Two ways to compute the same answer, as `mix` and `mix_sparse` of notebook 00. `masked`: compute every
# token and hide the discarded ones, so that a gradient reaches each. `packed`: compute what is kept. A discarded token
# passes by unchanged.
#
# Images keep different numbers of patches, and a tensor must be a rectangle. `packed` sorts the images by that number,
# and runs the body once for each number that occurs. **Code.** First one image by hand, then 256 in the library. Look
# at the FLOPs.

# %% slideshow={"slide_type": "skip"}
body = Transformer(d_model=32, n_heads=4, n_layers=2).eval()
x = torch.randn(256, 17, 32)  # 256 images: a class token and 16 patches
kept = (torch.rand(256, 17) < 0.5).float()  # each image keeps another number
kept[:, 0] = 1  # the class token always

by_hand = x[0].clone()
inside = kept[0] > 0
by_hand[inside] = body(x[:1, inside])[0].detach()

# %% [markdown] slideshow={"slide_type": "-"}
# 256 images, each keeps another half of its 16 patches:

# %% slideshow={"slide_type": "-"}
with torch.no_grad():
    hidden, gone = masked(body, x, kept), packed(body, x, kept)
    flops = [count_flops(f, body, x, kept) / 1e6 for f in (masked, packed)]
torch.testing.assert_close(hidden, gone, rtol=0, atol=1e-5)
torch.testing.assert_close(by_hand, gone[0], rtol=0, atol=1e-5)

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Print: FLOPs of both ways
n = kept.sum(-1)
formula = (2 * (24 * n * 32**2 + 4 * n**2 * 32)).sum().item() / 1e6
print(f"masked {flops[0]:.0f} million FLOPs, packed {flops[1]:.0f} million, by the formula {formula:.0f} million")
claim("Hiding half saves no FLOPs", flops[0] > 0.999 * 2 * 256 * (24 * 17 * 32**2 + 4 * 17**2 * 32) / 1e6)
claim("Leaving half away saves 45 to 55 %", 0.45 < flops[1] / flops[0] < 0.55, left=flops[1] / flops[0])
claim("What is counted is the formula", abs(flops[1] / formula - 1) < 1e-3, counted=flops[1], formula=formula)

# %% [markdown] slideshow={"slide_type": "notes"}
# The answers agree, the costs do not. A training step by `masked` costs as much as one of the full network: **decisions
# save nothing while they are learned through a mask.** A rule, or decisions that are learned and then frozen, can be
# `packed` in training, too.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The task: digits that wander
#
# 16 patches. The digit lies in four of them. Which digit is it?

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: six canvases
test_x, test_y = examples("test")
fig, axes = plt.subplots(1, 6, figsize=(10, 2.0))
for ax, image in zip(axes, test_x, strict=False):
    plots.patches_kept(ax, image)
show(fig, "Six canvases of 4 by 4 patches, each with a handwritten digit that covers 2 by 2 of them, in other places.")

# %% [markdown] slideshow={"slide_type": "notes"}
# Digits of scikit-learn, 8 × 8 pixels, on a canvas of 16 × 16, in one of nine places. *Which* four patches matter
# changes from image to image: the best case for choosing by input, chosen for that reason.
#
# `ViT` is a small vision transformer: each patch (16 pixels) is embedded in a width of $D = 32$, a position is added,
# two blocks follow, and the class token is classified. A **selector** stands right after the embedding: one linear
# score for each patch, from its token. So it knows the pixels and the place of this patch, and nothing else.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Train the selector: noise, a mask, a budget
#
# $$L = L_\text{task} + 20 \, \big(\text{mean}(z) - 0.3\big)^2$$
#
# $z$: hard decisions 0 or 1, with the slope of Gumbel-Softmax (straight-through).

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** How does a selector learn to keep 30 % of the patches, and the right ones?
#
# **Idea.** The second term is the *usage loss*. The mean goes over all patches of all images in the batch: an image may
# keep more, if another keeps less. Without this term nothing in the loss speaks against keeping. Decisions are hard in
# the forward pass: the mean is the share that is really kept. A hard step has slope 0 nearly everywhere, so the
# backward pass takes the slope of soft Gumbel-Softmax in its place. This gradient is **biased** (notebook 02): it
# belongs to another function. The factor 20 was set by hand.
#
# **Code.** We train the network without a selector first (400 steps), and then go on with a selector (150 steps).
# `loss_of` is what is minimised in the second phase; `chooser` does both phases. Its learning rate was picked on
# held-out images in the record.


# %% slideshow={"slide_type": "-"}
def loss_of(net, images, label, budget=0.3):
    tokens = net.net.tokens(images)  # (B, 17, D)
    z, _ = net.gate(tokens[:, 1:])  # (B, 16, 1), 0 or 1: straight-through in training
    logits = net.net(images, z.squeeze(-1))  # masked in training, packed at test time
    return F.cross_entropy(logits, label) + 20 * (z.mean() - budget) ** 2


rates = {(e["name"], e["task"]): e["lr"] for e in record["entries"] if e["rows"]}
net = chooser("straight-through", seed, rates["straight-through", "digits"])

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Check: this is `Chooser.loss` of the record; the same noise gives the same number
net.train()
torch.manual_seed(1)
mine = loss_of(net, test_x[:64], test_y[:64])
torch.manual_seed(1)
torch.testing.assert_close(mine, net.loss(test_x[:64], test_y[:64]))

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## And without the noise?

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** At test time there is no noise: a patch is kept if its score is above 0, that is if $\sigma(s) > 0.5$,
# with $\sigma$ the sigmoid. Does this keep the share that training had?
#
# <details><summary>A. Yes: the noise has mean effect 0</summary>
#
# **No.** With noise a patch of probability 0.3 is kept in 3 of 10 steps. Without, it is never kept.
#
# </details>
#
# <details><summary>B. Not in general: patches near 0.5 are all rounded to one side</summary>
#
# **Yes.** The mean of probabilities is one thing, the share of them above one half another. They are close where all
# probabilities are near 0 or 1. A budget in training is no promise about test time.
#
# </details>

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Open after your guess: share kept in training, and at a threshold of 0
train_x = examples("train")[0]
with torch.no_grad():
    scores = net.scores(test_x)  # (N, 16)
    noisy = net.train().gate(net.net.tokens(test_x)[:, 1:])[0].mean().item()
    net.eval()
at_zero = (scores > 0).float().mean().item()
has_ink = cut(test_x).sum(-1) > 0
print(f"target 0.30;  kept with noise {noisy:.3f};  without, at s > 0: {at_zero:.3f}")
claim("With noise, too, more than 0.35 is kept", noisy > 0.35, kept=noisy)

# %% [markdown] slideshow={"slide_type": "skip"}
# Even *with* noise the target is missed: the task opens the gate, the penalty hardly closes it (optional part).

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Which term wins? · optional
#
# We train twice more: without the task's loss, and without the usage loss. Recorded: both terms with larger factors,
# and with the embedding, so each token, held fixed in the 150 steps.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Measure: the share kept with noise, with one term alone
alone, rate = {}, rates["straight-through", "digits"]
for name, (task, usage) in {"usage loss alone": (0, 20), "task alone": (1, 0)}.items():
    one = wandering.Chooser(deepcopy(wandering.base(seed, rate, False)), "straight-through")
    with torch.no_grad():
        before = one.train().gate(one.net.tokens(test_x)[:, 1:])[0].mean().item()

    def weighed(images, label, one=one, task=task, usage=usage):
        z = one.gate(one.net.tokens(images)[:, 1:])[0]
        return task * F.cross_entropy(one.net(images, z.squeeze(-1)), label) + usage * (z.mean() - 0.3) ** 2

    wandering.descend(one, weighed, 1000 + seed, 150, rate)
    with torch.no_grad():
        alone[name] = one.train().gate(one.net.tokens(test_x)[:, 1:])[0].mean().item()
print(f"before the 150 steps: {before:.3f} kept;  then, ", end="")
print(";  ".join(f"{name}: {kept:.3f}" for name, kept in (alone | {"both": noisy}).items()))
for case in ("20", "100", "500", "20, tokens fixed"):
    kept_there, right = (control(f"penalty: {case}", key) for key in ("kept with noise", "accuracy"))
    print(f"factor {case:18}{kept_there.mean():.3f} kept ({kept_there.min():.3f} to {kept_there.max():.3f})", end="")
    print(f"   accuracy at 30 %: {right.mean():.3f}")
claim("The usage loss alone meets the target to within 0.05", abs(alone["usage loss alone"] - 0.3) < 0.05)
opened = alone["task alone"] - before
claim("The task alone opens the gate by more than 0.05", opened > 0.05, before=before, after=alone["task alone"])
claim("Both terms keep no more than 0.1 less than the task alone", noisy > alone["task alone"] - 0.1, both=noisy)
least = control("penalty: 500", "kept with noise").min()
claim("With 25 times the factor, too, each seed keeps more than 0.45", least > 0.45, fewest=least)
still = control("penalty: 20, tokens fixed", "kept with noise")
claim("With fixed tokens each seed keeps less than 0.4", still.max() < 0.4, most=still.max())
worse = control("penalty: 20").mean() - control("penalty: 20, tokens fixed").mean()
claim("Accuracy is then lower by more than 0.1", worse > 0.1, lower_by=worse)

# %% [markdown] slideshow={"slide_type": "skip"}
# The usage loss alone meets its target. The task alone opens the gate, and the usage loss beside it hardly closes it:
# 25 times the factor does not, either, within 150 steps. With fixed tokens most of the surplus is gone, so the tokens
# that the task moves are a part of it. (The task is then learned far worse.) Why so large a factor does so little is
# open.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A promise needs a threshold
#
# Scores are an *order*. Put the threshold where a set of training images keeps 30 %.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: scores of patches with and without ink, and two thresholds
fig, ax = plt.subplots(figsize=(10, 3.3))
bins = np.linspace(scores.min(), scores.max(), 50)
for mask, style in ((~has_ink, {"label": "empty patches"}), (has_ink, {"label": "with ink", "hatch": "//"})):
    ax.hist(scores[mask], bins, alpha=0.6, edgecolor="white", **style)
at_30 = net.meet(0.3, train_x).threshold
with torch.no_grad():
    above_it, on_it = (compare(net.scores(train_x), at_30).float().mean() for compare in (torch.gt, torch.eq))
print(f"of the training images' patches {above_it:.1%} lie above the threshold for 30 %, {on_it:.1%} on it")
for at, name, style in ((0.0, "s = 0", ":"), (at_30, "keeps 30 %", "--")):
    ax.axvline(at, color="0.2", lw=2, ls=style, label=name)
ax.set(xlabel="score s of a patch", ylabel="test patches (log scale)", yscale="log", ylim=(0.8, 2e4))
ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
show(
    fig,
    "Histogram of the patches' scores on test images. Patches with ink have higher scores than most of the empty ones. "
    "The threshold that keeps 30 per cent lies near the border between them.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# A threshold can be moved *after* training, to any budget. Empty patches of one place have the same score; such a tie
# is left out whole, so a little less is kept. On new images the share is near that: a mean, and no bound for one image
# or one batch.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: a threshold for a batch ★★☆ 5 min
#
# Write `keep_best(scores, budget)`: scores `(B, T)` of $T$ patches in $B$ images, and a budget in; out comes the mask
# `(B, T)` of the `round(budget · B · T)` patches with the highest scores **of the whole batch**: one image may keep
# many, another none.


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def keep_best(scores, budget):
    return ...


check("batch_budget", keep_best)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def batch_budget(scores, budget):
    n = round(budget * scores.numel())
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[scores.flatten().topk(n).indices] = True
    return mask.view_as(scores)


check("batch_budget", batch_budget)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Any budget, from one network

# %% [markdown] slideshow={"slide_type": "skip"}
# For each budget: move the threshold, classify the test images, count FLOPs. These count the selector, too, the
# embedding of every patch, and the class token: so 20 % of the patches is more than 20 % of the FLOPs. At which budget
# does accuracy begin to fall? (At 30 % seed 0 is the best of the five recorded seeds: their means follow.)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Measure: each budget on test images
seen = {}
for budget in wandering.BUDGETS:
    net.meet(budget, train_x)
    with torch.no_grad():
        right = (net(test_x).argmax(-1) == test_y).float().mean().item()
        seen[budget] = right, net.kept(test_x), count_flops(net, test_x) / len(test_x)

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Print: budgets, shares kept, FLOPs, accuracy of this run
dense_flops = wandering.flops(ViT().eval())
for budget, (right, keep, cost) in seen.items():
    print(f"budget {budget:4.0%}   kept {keep.mean():4.0%}   FLOPs {cost / dense_flops:4.0%}   accuracy {right:.3f}")
gap = max(abs(keep.mean().item() - budget) for budget, (_, keep, _) in seen.items())
claim("Each budget is met on new images to within 0.08", gap < 0.08, largest_difference=gap)
found = (seen[0.3][1] * has_ink).sum() / has_ink.sum()
claim("At 30 % more than 0.8 of the patches with ink are kept", found > 0.8, kept=found)
lost = seen[1.0][0] - seen[0.5][0]
claim("Half of the patches lose less than 0.03 of accuracy against all", lost < 0.03, lost=lost)
claim("At 20 % accuracy is lower than at 50 %", seen[0.2][0] < seen[0.5][0], at_20=seen[0.2][0], at_50=seen[0.5][0])

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Which patches does it keep?

# %% slideshow={"slide_type": "-"} tags=["figure:kept_patches", "fold"]
# @title Draw: six digits at two budgets
fig, axes = plt.subplots(2, 6, figsize=(10, 3.6))
for row, budget in zip(axes, (0.5, 0.3), strict=True):
    for ax, image, keep in zip(row, test_x, seen[budget][1], strict=False):
        plots.patches_kept(ax, image, keep)
    row[0].set_ylabel(f"budget {budget:.0%}")
fig.supxlabel("hatched: left out", fontsize="medium")
show(
    fig,
    "Six digits on their canvases at a budget of 50 and of 30 per cent: discarded patches are hatched. Nearly all "
    "patches with ink are kept, wherever the digit stands; at 50 per cent several empty ones are kept, too.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The label of the digit was all that training had; where the digit lies was in no label. The selector learned to find
# ink.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Who has to learn to choose?
#
# The same network, the same 150 steps, 30 % of the patches: chosen by three learners, and by three rules.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** One rule keeps the patches with the most ink, and learns nothing. How does it do against the learned
# selector?
#
# <details><summary>A. Far worse</summary>
#
# **No.** On this task "is there ink?" is nearly all there is to know about a patch. The rule knows it from the start.
#
# </details>
#
# <details><summary>B. As well, or better</summary>
#
# **Yes.** A linear score of the pixels can hardly learn more than such a rule. The network around it learns as before.
#
# </details>
#
# <details><summary>C. Like fixed places</summary>
#
# **No.** These are the same in every image; ink moves with the digit.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# The rules: *most ink*; *fixed places*, the five places whose ink varies most; *at random*, anew each time. The
# learners: straight-through; REINFORCE, with a moving average as its baseline (notebook 03); *relaxed*, which trains on
# soft $z$ and is tested on hard ones. Each has its own learning rate of three, picked on held-out images; then five
# seeds. *Cropped* is no selector: it cuts out the 8 × 8 pixels with the most ink, and trains a network on these alone,
# for 550 steps. (Sums of ink are not counted as FLOPs.)

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Open after your guess: accuracy at 30 % of the patches, recorded, and the claims


def table(name, task="digits"):
    """Accuracy, share kept and FLOPs of a recorded network, each (seeds, budgets)."""
    rows = [e["rows"] for e in record["entries"] if (e["name"], e["task"]) == (name, task) and e["rows"]]
    return np.array(rows).transpose(2, 0, 1)[1:]


at_30 = wandering.BUDGETS.index(0.3)
ways = {way: table(way)[0][:, at_30] for way in wandering.WAYS} | {"cropped": table("cropped to the ink")[0][:, 0]}
full = table("dense")[0][:, 0]
for name, values in ({"all patches": full} | ways).items():
    print(f"{name:18}{values.mean():.3f}  ({values.min():.3f} to {values.max():.3f})")
more = {way: control(f"600 steps: {way}") for way in ("straight-through", "REINFORCE", "most ink")}
for name, values in more.items():
    print(f"{name + ', 600 for 150':30}{values.mean():.3f}  ({values.min():.3f} to {values.max():.3f})")
means = {name: values.mean() for name, values in ways.items()}
learned, ink = means["straight-through"], means["most ink"]
behind = full.mean() - learned
claim("Straight-through is behind all patches by less than 0.05", 0 < behind < 0.05, all=full.mean(), learned=learned)
others = max(means[way] for way in ("straight-through", "REINFORCE", "relaxed"))
claim("After 150 steps the rule of most ink is ahead of all three learners", ink > others, ink=ink, best_learner=others)
claim("REINFORCE is ahead of straight-through in the mean", means["REINFORCE"] > learned, reinforce=means["REINFORCE"])
claim("Seed 0 is straight-through's best of five", ways["straight-through"].argmax() == 0)
*late, late_ink = (values.mean() for values in more.values())
claim("With 600 steps two learners reach what the rule had after 150, to 0.005", min(late) > ink - 0.005, rule=ink)
claim("The rule with 600 steps is ahead of both in the mean", late_ink > max(late), rule=late_ink, learner=max(late))
claim("Relaxed is the last of the learners", means["relaxed"] < min(learned, means["REINFORCE"]))
order = learned > means["fixed places"] + 0.1 and means["fixed places"] > means["at random"] + 0.1
claim("Fixed places are behind by more than 0.1, chance by more than 0.1 again", order)
claim("The crop is the best of all", means["cropped"] > max(ink, learned, full.mean()), cropped=means["cropped"])

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## At 30 % of the patches

# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Open after your guess: accuracy at 30 % of the patches
fig, ax = plt.subplots(figsize=(10, 3.3))
names = [name.replace(" ", "\n").replace("-", "-\n") for name in ways]
plots.bars(ax, names, {"accuracy": list(means.values())}, fmt="{:.3f}")
for i, values in enumerate(ways.values()):
    ax.plot([i, i], [values.min(), values.max()], color="0.2", lw=2)
    ax.texts[i].xy = (i, values.max() + 0.02)
line = ax.axhline(full.mean(), color="0.4", lw=1.5, ls=":", zorder=0, label="all patches")
for label in ax.texts:
    label.set_bbox({"fc": "white", "ec": "none", "pad": 1})
ax.set(ylabel="test accuracy", ylim=(0, 1.15))
ax.legend(handles=[line], frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
ax.set_title(f"lines: lowest to highest seed; {record['label']}", fontsize="small", color="0.3")
show(
    fig,
    "Test accuracy at 30 per cent of the patches: "
    + ", ".join(f"{n} {v:.2f}" for n, v in means.items())
    + f"; all patches {full.mean():.2f}.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Choosing *by input* is worth a lot here: compare with fixed places, and with chance. *Learning* to choose is behind
# the rule **after these 150 steps**; with 600 in their place, straight-through and REINFORCE reach what it had then,
# and it is still a little ahead. So much of this is speed. The relaxed choice is trained on patches that are half
# there, and tested on whole ones. *Cropped* is an easier task: its digit does not wander any more.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### And where ink is not the key? · optional
#
# In the record the same ways also meet canvases on which four other patches hold
# stripes, with more ink than a digit. Now the rule is wrong. Does the learned selector find the digit?

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: digits and stripes, recorded, and the claims
striped = {name: table(name, "digits and stripes") for name in wandering.STRIPED}
for name in ("straight-through", "most ink"):
    print(f"{name:18}", end="")
    for b, budget in enumerate(wandering.BUDGETS):
        print(f"{budget:5.0%}: {striped[name][0][:, b].mean():.3f}", end="")
    print()
print("the seeds at 30 %:", striped["straight-through"][0][:, at_30])
small_net, chosen = striped["16, 2 layers"][0].mean(), striped["straight-through"][0][:, at_30].mean()
print(f"width 16, all patches, 27 % of the FLOPs: {small_net:.3f} (three seeds)")
claim("At 30 % the learned selector is ahead of the rule", chosen > striped["most ink"][0][:, at_30].mean())
claim("It is more than 0.1 behind a static network of fewer FLOPs", chosen < small_net - 0.1, static=small_net)
half = striped["straight-through"][0][:, wandering.BUDGETS.index(0.5)].mean()
claim("At 50 % of the patches, too, it is behind", half < small_net, at_50=half)
long = control("600 steps, stripes: straight-through")
print(f"600 steps: {long.mean():.3f} at 30 % ({long.min():.3f} to {long.max():.3f})")
claim("With 600 steps it gains more than 0.2 at 30 %", long.mean() > chosen + 0.2, then=long.mean(), before=chosen)
claim("It is then ahead of that static network in the mean", long.mean() > small_net, then=long.mean())

# %% [markdown] slideshow={"slide_type": "skip"}
# Is one linear score of a single patch too little? We take that cause away: the *same* score is fitted to the answer,
# "is this a patch of the digit?", which the selector never sees, and then frozen. The rest trains as before.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Measure: the same linear score, told which patches are the digit's, and the claims
train_s, (test_s, label_s) = examples("train", True)[0], examples("test", True)
stripe = torch.tensor([1.0, 0.0, 1.0, 0.0]).repeat(4)


def of_digit(images):
    patches = cut(images)
    return ((patches.sum(-1) > 0) & ((patches - stripe).abs().sum(-1) > 1e-6)).float()


fitted = wandering.Chooser(deepcopy(wandering.base(seed, 4e-3, True)), "straight-through")
fitted.requires_grad_(False)
with torch.no_grad():
    tokens = fitted.net.tokens(train_s)[:, 1:]
linear = fitted.gate.score.requires_grad_(True)
optimizer = torch.optim.Adam(linear.parameters(), 0.05)
for _ in range(300):
    optimizer.zero_grad()
    F.binary_cross_entropy_with_logits(linear(tokens).squeeze(-1), of_digit(train_s)).backward()
    optimizer.step()
fitted.meet(0.3, train_s)
linear.requires_grad_(False)
for part in (fitted.net.body, fitted.net.head):  # tokens stay as they are, so the score stays right
    part.requires_grad_(True)
wandering.descend(fitted, lambda a, b: F.cross_entropy(fitted.net(a, fitted.kept(a)), b), 1000 + seed, 150, 4e-3, True)
digit = of_digit(test_s)
found_s = ((fitted.kept(test_s) * digit).sum() / digit.sum()).item()
fitted_right = wandering.accuracy(fitted, "test", True)
print(f"at 30 %: {found_s:.3f} of the digits' patches kept, accuracy {fitted_right:.3f}")
claim("The fitted linear score keeps more than 0.9 of the digits' patches", found_s > 0.9, kept=found_s)
claim("With it accuracy is more than 0.1 above the learned selector", fitted_right > chosen + 0.1, it=fitted_right)

# %% [markdown] slideshow={"slide_type": "notes"}
# After 150 steps the selector knows more than the rule, and far too little; its seeds differ a lot. But a linear score
# *can* do it, and with 600 steps it is learned: then it is ahead of the static network (which had 550 steps, each
# cheaper). Steps were missing, and not another form of the score.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The honest comparison: a smaller network
#
# The plain rival of skipping: train a *smaller* network, with all patches, for all images alike.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Equal in what? A fair baseline has the same test cost, and the same *training* cost. The selector had
# 400 + 150 steps, all at full cost. So each static network gets (a) as many steps, 550; width 16, below the selector's
# FLOPs at 30 %, also gets (b) as many training *FLOPs*: more steps of a cheaper network. The selector's bill can be
# spent in another way, too: *frozen*, it learns for 100 masked steps; then scores and tokens stay, the threshold goes
# to 30 %, and the rest trains on kept patches, `packed`, for the FLOPs of 50 dense steps. *Most ink, packed* has no
# masked step at all. Rates come from the same grid. "24, 2 layers" is of width 24; *half the pixels* averages 2 × 2
# pixels: four patches.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: an equal bill ★☆☆ 3 min
#
# On paper. A network is trained for 400 steps, and for 150 more with masks; it keeps 30 % of its patches in these. A
# small static network has a quarter of the FLOPs of the full one. For how many steps does it train, for an equal number
# of training FLOPs?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
steps = ...

check("equal_training", steps)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
check("equal_training", (400 + 150) / 0.25)  # masked training computes every patch: 550 full steps

# %% [markdown] slideshow={"slide_type": "skip"}
# For milliseconds we measure all of them now, on 256 test images: the selector of this run at each budget, the static
# networks untrained. Each is timed in turn, five times; the lowest counts.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Helper: milliseconds of several functions, in turn


def turns(functions, n=5, seconds=0.04):
    """Milliseconds of each function, measured in turn n times: the lowest."""
    with torch.no_grad():
        rounds = [[1e3 * wall_time(f, min_seconds=seconds).low for f in functions] for _ in range(n)]
    return np.min(rounds, axis=0).tolist()


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Measure: milliseconds of static networks and of the selector at each budget
static = ["dense", "24, 2 layers", "20, 2 layers", "16, 2 layers", "32, 1 layer", "24, 1 layer", "half the pixels"]
images = test_x[:256]
nets = [ViT(*wandering.STATIC[name]).eval() for name in static]
static_ms = turns([partial(one, images) for one in nets])
ms = turns([partial(deepcopy(net).meet(budget, train_x), images) for budget in wandering.BUDGETS])

# %% [markdown] slideshow={"slide_type": "skip"}
# In the figure: at equal cost, which mark is higher?

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Print: static networks and selectors
curve_a, _, curve_f = table("straight-through")
ink_a, _, ink_f = table("most ink")
print("network             FLOPs  time   accuracy, 550 steps      equal training FLOPs")
share_of, points = {}, {}
for name, t in zip(static, static_ms, strict=True):
    a, _, f = (part[:, 0] for part in table(name))
    share_of[name], points[name] = f.mean() / dense_flops, a
    line = f"{name:18}{share_of[name]:6.0%}{t / static_ms[0]:6.0%}   {a.mean():.3f} ({a.min():.3f} to {a.max():.3f})"
    if name in wandering.LONGER:
        b = table(f"{name}, longer")[0][:, 0]
        line += f"   {b.mean():.3f} ({b.min():.3f} to {b.max():.3f})"
    print(line)
chosen_share = curve_f.mean(0) / dense_flops
for i, budget in enumerate(wandering.BUDGETS):
    a = curve_a[:, i]
    print(f"patches, {budget:4.0%}    {chosen_share[i]:6.0%}{ms[i] / static_ms[0]:6.0%}", end="   ")
    print(f"{a.mean():.3f} ({a.min():.3f} to {a.max():.3f})")

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Print: the bill spent in another way, and the claims
print("equal training FLOPs, 30 % of the patches:")
spent = {"straight-through, frozen": "frozen: straight-through", "REINFORCE, frozen": "frozen: REINFORCE",
         "most ink, packed": "packed: most ink"}  # fmt: skip
for name, case in spent.items():
    a, bill = control(case), control(case, "steps").mean()
    print(f"{name:26}{control(case, 'FLOPs').mean() / dense_flops:4.0%}   {a.mean():.3f} ", end="")
    print(f"({a.min():.3f} to {a.max():.3f}), {bill:.0f} packed steps")
spent = {name: control(case) for name, case in spent.items()}
top = [n for (n, task), lr in rates.items() if task == "digits" and lr == max(wandering.RATES)]
print("at the highest rate of the grid:", "; ".join(top))
r, longer = table("REINFORCE")[0][:, at_30].mean(), table("16, 2 layers, longer")[0][:, 0]
s16, one_layer = points["16, 2 layers"].mean(), points["32, 1 layer"].mean()
less = share_of["16, 2 layers"] < min(chosen_share[at_30], ink_f.mean(0)[at_30] / dense_flops)
claim("Width 16 has fewer FLOPs than the selectors and the rule at 30 %", less, width_16=share_of["16, 2 layers"])
claim("After as many steps it is ahead of straight-through, not of REINFORCE", learned < s16 < r, width_16=s16)
ahead = longer.mean() - learned
claim("After as many training FLOPs it is more than 0.02 ahead of straight-through", ahead > 0.02, ahead_by=ahead)
done = [spent[f"{way}, frozen"].mean() for way in ("straight-through", "REINFORCE")]
gain, apart = done[1] - r, abs(longer.mean() - done[1])
claim("REINFORCE, frozen and finished on kept patches, gains more than 0.005", gain > 0.005, gain=gain)
level = apart < 0.01 < np.ptp(longer)
claim("It is then within 0.01 of the smaller network, whose seeds spread by more", level, difference=apart)
late = longer.mean() - done[0]
claim("Straight-through, frozen, is still more than 0.02 behind it", late > 0.02, behind_by=late)
claim("So early frozen, it gains nothing in the mean", done[0] < learned, frozen=done[0], as_trained=learned)
claim("Its seeds lie more than 0.05 apart", np.ptp(spent["straight-through, frozen"]) > 0.05)
rule = spent["most ink, packed"].mean()
claim("The rule that packs is ahead of all three in the mean", rule > max(longer.mean(), *done), rule=rule)
one_ms = static_ms[static.index("32, 1 layer")]
same = ms[wandering.BUDGETS.index(0.5)]
claim("One layer of width 32 takes less time than the selector at 50 %, of as many FLOPs", one_ms < same, clock=True)
hardly = ms[0] > 0.9 * ms[1] and ms[-2] > 0.9 * static_ms[0]
claim("The selector takes over 0.9 of the time, at 20 % of that at 25 %, at 75 % of the dense", hardly, clock=True)
near = abs(one_layer - done[1])
lead = one_layer - max(learned, done[0])
claim("One layer is more than 0.01 ahead of straight-through at 30 %", lead > 0.01, ahead_by=lead)
claim("It is within 0.01 of REINFORCE, frozen", near < 0.01, difference=near)
ends = f"{chosen_share[0]:.0%} to {chosen_share[-1]:.0%}"
print(f"the curve of the selector runs from {ends} of the dense FLOPs")

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
# @title Draw: accuracy against FLOPs and against milliseconds
fig, axes = plt.subplots(1, 2, figsize=(10, 4.0), sharey=True, width_ratios=(1.7, 1))
other_a, _, other_f = table("REINFORCE")
here = wandering.BUDGETS.index(0.25)  # beyond, no patch with ink is left to add
white = dict(ms=9, mfc="white", mew=2, capsize=0)


def with_seeds(ax, x, values, marker, color, label, **style):
    mean = values.mean()
    ends = [[mean - values.min()], [values.max() - mean]]
    ax.errorbar([x], [mean], ends, fmt=marker, color=color, label=label, lw=1.2, **style)


for ax, costs, times in zip(axes, (chosen_share, np.array(ms) / static_ms[0]), (False, True), strict=True):
    ax.fill_between(costs, curve_a.min(0), curve_a.max(0), color="C0", alpha=0.15, lw=0)
    ax.plot(costs, curve_a.mean(0), color="C0", marker="o", lw=2.2, label="straight-through")
    at = {n: t / static_ms[0] if times else share_of[n] for n, t in zip(static, static_ms, strict=True)}
    for name in static:
        with_seeds(ax, at[name], points[name], "s", "C1", "static", ms=8)
    with_seeds(ax, at["16, 2 layers"], longer, "s", "C1", "static, equal FLOPs", **white)
    if not times:
        ax.plot(other_f.mean(0) / dense_flops, other_a.mean(0), "P--", color="C5", lw=1.5, label="REINFORCE")
        ax.plot(ink_f.mean(0)[here] / dense_flops, ink_a.mean(0)[here], "^", color="C2", ms=10, label="most ink")
        marks = zip(spent, ("o", "P", "^"), ("C0", "C5", "C2"), strict=True)
        for name, marker, color in marks:
            case = f"packed: {name[:-8]}" if "packed" in name else f"frozen: {name[:-8]}"
            with_seeds(ax, control(case, "FLOPs").mean() / dense_flops, spent[name], marker, color, name, **white)
    ax.set(xlim=(0, None) if times else (0.24, 0.6), ylim=(0.84, 0.98))
    ax.set_xlabel("time / dense" if times else "FLOPs / dense (axis from 0.24 to 0.6)")
axes[0].set_ylabel("test accuracy\n(axis from 0.84)")
handles = dict(zip(*axes[0].get_legend_handles_labels()[::-1], strict=True))
fig.legend(handles.values(), handles, frameon=False, loc="outside lower center", ncols=4, fontsize="small")
fig.suptitle(
    "filled: 550 steps; white: equal training FLOPs; recorded: 5 seeds, "
    f"{record['minutes']:.0f} and {controls['minutes']:.0f} minutes; times of this run",
    fontsize="small", color="0.3",
)  # fmt: skip
show(
    fig,
    "Two panels, accuracy against FLOPs and against time, as shares of the dense network; white marks: equal training "
    f"FLOPs. At about 30 per cent of the FLOPs: straight-through {learned:.3f} as trained, "
    f"{done[0]:.3f} frozen; REINFORCE {r:.3f}, {done[1]:.3f} frozen; width 16 {s16:.3f}, {longer.mean():.3f} with more "
    f"steps; most ink {ink:.3f}, {rule:.3f} packed. By the clock half the pixels are the fastest "
    "and least accurate of the static networks, then come those of one layer.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **The verdict.** *As trained here*, masked to the end and never at 30 %, straight-through is behind the smaller
# network. REINFORCE, *frozen* after 100 steps and finished on kept patches, for the same bill, is level with it;
# straight-through is not: its seeds differ a lot. **No learned choice is clearly ahead of the smaller network.** The
# rule that packs has the highest mean, and is nearly level. (Only width 16 was trained for equal FLOPs.) By the
# clock *one* layer takes less time than the selector at 50 %, and is about as accurate as REINFORCE.
#
# What the selector has is a **dial**: one set of weights for many budgets, with room for the ink. By the clock 20 % is
# hardly faster than 25 %, 75 % hardly than dense. All this is some 550 steps on small digits.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## One network, a slider for its budget

# %% slideshow={"slide_type": "-"} tags=["figure:savings_widget", "fold", "varies"]
# @title Widget: accuracy, FLOPs and milliseconds at each budget
dense = wandering.static("dense", seed, rates["dense", "digits"], 550)  # of this seed, as the selector is
Savings(
    wandering.BUDGETS, [seen[b][0] for b in seen], [seen[b][2] for b in seen], ms,
    full=(wandering.accuracy(dense, "test"), dense_flops, static_ms[0]),
    images=test_x[:10], kept=torch.stack([seen[b][1][:10] > 0 for b in seen]), setting=0.4,
)  # fmt: skip

# %% [markdown] slideshow={"slide_type": "notes"}
# The selector of this run (seed 0 is the best of five): accuracy on test images, FLOPs of an image, milliseconds for
# all 256. Move the slider down until a digit loses ink.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Skip a layer, by hand
#
# An example $b$ that does not need the layer goes past it:
# $\;y_b = x_b + z_b \, f(x_b)$, and $f$ runs only where $z_b \ne 0$

# %% [markdown] slideshow={"slide_type": "skip"}
# **Idea.** One score for each example, from its class token. **Code.** Three lines: who runs? Run the block on these.
# Put the results back. `SkippableBlock` does the same; its `block` is $x + f(x)$ in one. `argmax` takes the larger of
# the scores of *run*, $s$, and *skip*, 0. The gate's bias is set to 0, so that about half of the examples run.

# %% slideshow={"slide_type": "-"}
block = Block(32, 4)
layer = SkippableBlock(32, block, argmax).eval()
nn.init.zeros_(layer.gate.score.bias)
x = torch.randn(64, 17, 32)

run = layer.gate.score(x[:, 0]).squeeze(-1) > 0  # (B,)
by_hand = x.clone()
by_hand[run] = block(x[run])
torch.testing.assert_close(by_hand, layer(x)[0])

# %% [markdown] slideshow={"slide_type": "skip"}
# In training mode the layer runs for everyone and is weighted by $z_b$: straight-through has to know what it missed.
# The idea is from Veit and Belongie (2018).

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Skip heads, skip groups of units
#
# A layer that is a sum of parts: $\; y = \sum_k z_k \, f_k(x), \quad z_k \in \{0, 1\}$
#
# - **heads**: $f_k$ is head $k$ of attention with its slice of the output matrix; asked for each example
# - **groups**: $f_k$ is a group of hidden units of an MLP; asked for each token

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Groups by hand · optional
#
# **Code.** An MLP with 4 hidden units in 2 groups. $f_k$ uses rows of the first matrix and columns of
# the second. `mix_sparse` of notebook 00 runs each $f_k$ on the tokens that keep it. `GatedChannels` does this;
# `GatedHeads` is alike for heads.


# %% slideshow={"slide_type": "skip"}
def group(mlp, units):
    return lambda rows: mlp[1](F.linear(rows, mlp[0].weight[units], mlp[0].bias[units])) @ mlp[2].weight[:, units].T


mlp, x = MLP(8, 4, 8), torch.randn(6, 8)
gated = GatedChannels(mlp, 2, argmax).eval()
nn.init.zeros_(gated.gate.score.bias)
z = (gated.gate.score(x) > 0).float()  # (tokens, groups)
by_hand = mix_sparse(x, z, [group(mlp, slice(0, 2)), group(mlp, slice(2, 4))]) + mlp[2].bias
torch.testing.assert_close(by_hand, gated(x)[0])

# %% [markdown] slideshow={"slide_type": "slide"}
# ## By the clock: tokens, layers, heads, groups
#
# All four skip about half of the FLOPs. Does the clock agree?

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Which one gains most by the clock, in a narrow layer?
#
# <details><summary>A. Half of the examples skip the layer</summary>
#
# **Yes.** What is left is one batch, half as long, of the same large products.
#
# </details>
#
# <details><summary>B. Each image drops half of its tokens</summary>
#
# **No.** Images keep different numbers of tokens: one batch becomes many small ones.
#
# </details>
#
# <details><summary>C. Each token drops half of the groups of units</summary>
#
# **No.** It is the finest choice: rows are gathered for each group, and added back for each.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# **Why?** What has to be explained is the *extra* time over a half that is **the same for all**: all inputs skip the
# same tokens, examples, heads or groups. That is pruning: the part is cut out once, nothing is moved.
#
# - *Small products alone*: rows were gathered and matrices cut before the clock starts; nothing is put back.
# - *Moves alone*: gather and put back, with no product between. *Deciding alone*: scores, and hard decisions.
# - *Ragged numbers*: in **even tokens** each image drops tokens of its own, but keeps 9 of 17: one rectangle.
#
# Two widths, 64 and 256; 128 examples, for tokens also 1,024; gates undecided, so each keeps about half.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Helpers: undecided gates, moves alone, attention with some of its heads


def undecided(layer):
    nn.init.zeros_(layer.gate.score.bias)
    return layer.eval()


def moved_only(rows_of, width, out):
    """Gather and put back, for lists of rows."""

    def go(x):
        y = torch.zeros(len(x), out)
        for rows in rows_of:
            y = y.index_add(0, rows, x[rows])
        return y

    return go


def some_heads(width, k):
    """Attention with k of four heads."""
    layer = SelfAttention(width * k // 4, k)
    layer.query_key_value, layer.output = nn.Linear(width, 3 * width * k // 4), nn.Linear(width * k // 4, width)
    return layer


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The places themselves, and their measurement


def four_places(width, n=128):
    """name -> (dense, by input, same half for all, small products, moves, deciding), without arguments."""
    x, order = torch.randn(n, 17, width), torch.rand(n, 17)
    order[:, 0] = 0  # the class token always
    half, even = (order < 0.5).float(), (order.argsort(-1).argsort(-1) < 9).float()
    block, heads, units = Block(width, 4).eval(), SelfAttention(width, 4), MLP(width, 4 * width, width)
    fewer, one = some_heads(width, 2), some_heads(width, 1)
    smaller, slice_of = MLP(width, 2 * width, width), MLP(width, width, width)
    skip, some, part = SkippableBlock(width, block, argmax), GatedHeads(heads, argmax), GatedChannels(units, 4, argmax)
    select = PatchSelector(width, argmax)
    tokens, run = x.flatten(0, 1), undecided(skip).gate.score(x[:, 0]).squeeze(-1) > 0
    by_head = [(z > 0).nonzero().squeeze(-1) for z in undecided(some).gate.score(x[:, 0]).T]
    by_group = [(z > 0).nonzero().squeeze(-1) for z in undecided(part).gate.score(tokens).T]
    move_heads = moved_only(by_head, width, 17 * width)
    move_groups, move_run = moved_only(by_group, width, width), moved_only([run.nonzero().squeeze(-1)], 0, 17 * width)
    a, b, c = x[:, :9].contiguous(), x[: n // 2], x[run]
    sizes = zip(*half.sum(-1).int().unique(return_counts=True), strict=True)
    ragged = [torch.randn(int(repeat), int(size), width) for size, repeat in sizes]
    for_heads, for_groups = [x[rows] for rows in by_head], [tokens[rows] for rows in by_group]
    return {
        "tokens": (lambda: block(x), lambda: (select(x), packed(block, x, half)), lambda: block(a),
                   lambda: [block(rows) for rows in ragged], lambda: packed(lambda rows, seen: rows, x, half),
                   lambda: select(x)),
        "even tokens": (lambda: block(x), lambda: (select(x), packed(block, x, even)), lambda: block(a),
                        lambda: block(a), lambda: packed(lambda rows, seen: rows, x, even), lambda: select(x)),
        "layers": (lambda: block(x), lambda: skip(x), lambda: block(b), lambda: block(c),
                   lambda: move_run(x.flatten(1)), lambda: skip.gate(x[:, 0])),
        "heads": (lambda: heads(x), lambda: some(x), lambda: fewer(x), lambda: [one(rows) for rows in for_heads],
                  lambda: move_heads(x.flatten(1)), lambda: some.gate(x[:, 0])),
        "groups": (lambda: units(x), lambda: part(x), lambda: smaller(x), lambda: [slice_of(g) for g in for_groups],
                   lambda: move_groups(tokens), lambda: part.gate(x)),
    }  # fmt: skip


clock, counted = {}, {}
cases = {(place, width): functions for width in (64, 256) for place, functions in four_places(width).items()}
cases["tokens, 1024", 64] = four_places(64, n=1024)["tokens"]
for case, functions in cases.items():
    clock[case] = turns(functions, n=6, seconds=0.02)
    with torch.no_grad():
        counted[case] = [count_flops(f) for f in functions]

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess", "varies"]
# @title Open after your guess: FLOPs and time, as shares of computing everything, and the claims
print("place, width   FLOPs | time: by input, same for all | alone: small products, moves, deciding | dense, ms")
ratio = {}
for key, (whole, *rest) in clock.items():
    ratio[key] = row = np.array([counted[key][1] / counted[key][0], *(t / whole for t in rest)])
    print(f"{key[0]:12}{key[1]:5}{row[0]:8.2f}{row[1]:13.2f}{row[2]:14.2f}", end="")
    print(f"{row[3]:24.2f}{row[4]:7.2f}{row[5]:10.2f}{whole:12.2f}")
shares = [row[0] for row in ratio.values()]
claim("All skip 35 to 65 % of the FLOPs", 0.35 < min(shares) and max(shares) < 0.65)
wide = {place: ratio[place, 256] for place in ("tokens", "even tokens", "layers", "heads", "groups")}
narrow = {place: ratio[place, 64] for place in wide}
slow, least = narrow["groups"][1], min(narrow, key=lambda place: narrow[place][1])
claim("At width 64 layers gain most", least == "layers", clock=True, layers=narrow["layers"][1])
both = min(narrow["heads"][1], slow)
claim("There heads and groups take more than 0.75 of the time of all", both > 0.75, clock=True, smaller=both)
claim("At width 256 tokens and layers take less than 0.85 of the time", wide["tokens"][1] < 0.85 > wide["layers"][1],
      clock=True, tokens=wide["tokens"][1], layers=wide["layers"][1])  # fmt: skip
shrinks = wide["groups"][1] < 0.8 * slow
claim("Four times as wide, groups take less than 0.8 of that share", shrinks, clock=True, share=wide["groups"][1])
extra, even = (narrow[place][1] - narrow[place][2] for place in ("tokens", "even tokens"))
claim("With even numbers tokens lose less than 0.7 of the extra, width 64", even < 0.7 * extra, clock=True,
      ragged=extra, even=even)  # fmt: skip
many = ratio["tokens, 1024", 64]
large = many[1] - many[2] < 0.4 * extra
claim("With 1,024 images, less than 0.4 of the extra is left", large, clock=True, it=many[1] - many[2], extra=extra)
regular = np.mean([row[2] for row in wide.values()])
claim("With the same half for all, 0.75 or less at width 256 in the mean", regular <= 0.75, clock=True, mean=regular)
claim("At width 64 ragged tokens take more than 0.8 of the time", narrow["tokens"][1] > 0.8, clock=True)
parts = [sum(narrow[place][4:]) / (narrow[place][1] - narrow[place][2]) for place in ("heads", "groups")]
half = 0.35 < min(parts) and max(parts) < 0.75
claim("Moves and deciding are 0.35 to 0.75 of the extra of heads and groups there", half,
      clock=True, heads=parts[0], groups=parts[1])  # fmt: skip

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Take the causes away

# %% slideshow={"slide_type": "-"} tags=["fold", "guess", "varies"]
# @title Open after your guess: FLOPs and time by place, width 64


def draw_clock(width):
    fig, ax = plt.subplots(figsize=(10, 3.6))
    rows = np.array([ratio[place, width] for place in wide])[:, :3]
    labels = ["FLOPs", "time, by input", "time, same half for all"]
    plots.bars(ax, list(wide), dict(zip(labels, rows.T, strict=True)))
    ax.axhline(1, color="0.4", lw=1.5, ls=":", zorder=0, label="computing all")
    ax.set(ylabel="share of computing all", ylim=(0, 1.15 * max(1, rows.max())), title=f"width {width}")
    ax.get_legend().remove()
    fig.legend(frameon=False, loc="outside lower center", ncols=4, fontsize="small")
    numbers = "; ".join(f"{place} " + ", ".join(f"{v:.2f}" for v in row) for place, row in zip(wide, rows, strict=True))
    show(fig, f"Shares of computing everything at width {width}: FLOPs, time by input, same for all: {numbers}.")


draw_clock(64)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The same, four times as wide

# %% slideshow={"slide_type": "-"} tags=["fold", "guess", "varies"]
# @title Open after your guess: FLOPs and time by place, width 256
draw_clock(256)

# %% [markdown] slideshow={"slide_type": "notes"}
# Pruning, the same half for all, keeps its saving, and is no decision by input any more. A layer for half of the
# examples is one shorter batch: little is lost.
#
# **Tokens**: with even numbers a good part of the extra is gone, and tokens are still chosen by input. So it is the
# *ragged* numbers that cost, much less the choice: one call for each number of tokens, however many images there are.
# With 1,024 images, or in the wide layer, little of the extra is left. **Heads and groups**, width 64: moving and
# deciding, alone, are about half of the extra; a third is none of the causes measured, and stays open.
#
# (One thread of a processor; no GPU.)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: when does skipping pay? ★☆☆ 3 min · optional
#
# On paper. A layer takes 10 ms for a batch. With choices by input, say that gathering and putting back take 2 ms,
# whatever is skipped (a simple assumption: `packed` moves fewer rows when it keeps fewer); the products shrink with the
# share that is skipped. From which share on is the layer faster than the full one?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
from_share = ...

check("break_even", from_share)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
check("break_even", 2 / 10)  # 10 · (1 - share) + 2 < 10

# %% [markdown] slideshow={"slide_type": "slide"}
# ## All at once: AdaViT's three budgets
#
# Before each block: which patches, which heads, the block at all? Each kind has a target $t$:
#
# $$\big(\text{mean}(z_\text{patches}) - t_\text{patches}\big)^2 +
# \big(\text{mean}(z_\text{heads}) - t_\text{heads}\big)^2 +
# \big(\text{mean}(z_\text{blocks}) - t_\text{blocks}\big)^2$$

# %% [markdown] slideshow={"slide_type": "skip"}
# **Idea.** AdaViT (Meng et al. 2022) has linear scores before each block: of each patch from this patch, of heads and
# block from the class token. All decisions are **hard** in the forward pass (straight-through Gumbel-Softmax), and each
# mean goes over all blocks and all images of the batch. The class token is always kept and not counted. Three targets,
# three losses: the paper fixes how much of *each kind* is used.
#
# (The released code takes absolute differences for heads and blocks; we follow the formula.) **FLOPs do not follow from
# the three means:** an MLP's work is (blocks that run) × (patches kept), shares multiply, and an image that keeps much
# of one kind may keep much of the other. So FLOPs are counted for each image.
#
# **Code.** By hand and in the library, for two images, one block, four patches.

# %% slideshow={"slide_type": "skip"}
kept = torch.tensor([[[1.0, 1, 1, 0, 0], [1, 1, 1, 1, 0]]])  # (blocks, images, class token and patches)
heads, run = torch.tensor([[[1.0, 0], [1, 1]]]), torch.tensor([[1.0, 0.0]])
decisions = Decisions(kept, heads, run, torch.zeros(2))
by_hand = [(kept[..., 1:].mean() - 0.5) ** 2, (heads.mean() - 0.5) ** 2, (run.mean() - 0.75) ** 2]
torch.testing.assert_close(torch.stack(by_hand), usage_losses(decisions, patches=0.5, heads=0.5, blocks=0.75))

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: three targets ★★☆ 4 min
#
# On paper. The targets are 0.5 for patches, 0.5 for heads and 0.75 for blocks. In a batch, each image keeps 60 % of its
# 16 patches in each block, 40 % of the heads are used, and 3 of 4 blocks run. How large is the sum of the three losses?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
loss = ...

check("three_losses", loss)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
check("three_losses", (0.6 - 0.5) ** 2 + (0.4 - 0.5) ** 2 + (0.75 - 0.75) ** 2)

# %% [markdown] slideshow={"slide_type": "skip"}
# Our own variant has **one budget**, on the FLOPs that all decisions use together: $(\text{mean share of FLOPs} -
# t)^2$. `compute_share` has a gradient, so the network may trade a patch here for a head there. Both start from the
# dense network and train 150 steps; five seeds.
#
# Are targets met with noise, and without? What does accuracy cost in FLOPs? Does the network use *different* heads and
# blocks for different images? *The same for all* takes those that most training images use, for every image.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Print: three targets, one budget, recorded
ada = {way: [e for e in ada_record["entries"] if e["way"] == way] for way in three_budgets.TARGETS}


def mean_of(way, key, i=None):
    return np.mean([e[key] if i is None else e[key][i] for e in ada[way]])


moves = {way: max(abs(e["accuracy"] - e["same for all"][0]) for e in ada[way]) for way in ada}

print(f"{'':20}  used, training    used, test       accuracy  FLOPs  same for all")
for way in ada:
    used = ["  ".join(f"{mean_of(way, key, i):.2f}" for i in range(3)) for key in ("shares in training", "shares")]
    print(f"{way:20}  {used[0]}  {used[1]}  {mean_of(way, 'accuracy'):.3f}", end="")
    print(f"{mean_of(way, 'FLOPs') / dense_flops:9.0%}  {mean_of(way, 'same for all', 0):.3f} ({moves[way]:.3f})")
print("used: patches, heads, blocks; in brackets: how far a seed moves at most")
print(ada_record["label"])

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: the claims about them
sets = {"targets .75, .75, .9": (0.75, 0.9), "targets .5, .5, .75": (0.5, 0.75)}  # heads, blocks
missed = max(
    abs(mean_of(way, "shares in training", i) - t) for way, both in sets.items() for i, t in enumerate(both, start=1)
)
claim("With noise the targets of heads and blocks are met to within 0.05", missed < 0.05, missed_by=missed)
more = mean_of("targets .5, .5, .75", "shares in training", 0)
claim("Of patches more than 0.6 are kept for a target of 0.5", more > 0.6, kept=more)
quiet = mean_of("targets .75, .75, .9", "shares", 1)
far = [mean_of(way, "FLOPs") / dense_flops - t for way, t in (("FLOPs .5", 0.5), ("FLOPs .3", 0.3))]
claim("The FLOPs targets are missed at test time, by more than 0.1 and 0.2", far[0] > 0.1 and far[1] > 0.2, far=far[1])
claim("Without noise more than 0.9 of the heads are used for a target of 0.75", quiet > 0.9, used=quiet)
best = max(mean_of(way, "accuracy") for way in ada)
cheaper = share_of["32, 1 layer"] * dense_flops < min(mean_of(way, "FLOPs") for way in ada)
claim("A static network of one layer has fewer FLOPs than each of the four", cheaper, share=share_of["32, 1 layer"])
claim("It is as accurate as each of them in the mean, after as many steps", one_layer >= best, it=one_layer, best=best)
first, *others = moves.values()
claim("The same heads and blocks for all change no seed of the first way by more than 0.005", first <= 0.005, it=first)
some = min(others) > 0.01 and max(others) <= 0.02
claim("In each other way they move a seed by more than 0.01, none by more than 0.02", some, largest=max(others))
low, high = (part(points["32, 1 layer"]) for part in (np.min, np.max))
print(f"the static network of one layer: accuracy {one_layer:.3f} ({low:.3f} to {high:.3f})")
print("one budget, factor: share of the blocks' FLOPs (without scores and embedding) with noise, without; accuracy")
with_noise, quietly, right = ({} for _ in range(3))
for case in ("FLOPs .5: 20", "FLOPs .5: 200", "FLOPs .3: 20", "FLOPs .3: 200"):
    with_noise[case], quietly[case] = control(case, "share with noise").mean(), control(case, "share").mean()
    right[case] = control(case).mean()
    print(f"{case.replace(': ', ', factor '):20}{with_noise[case]:6.3f}{quietly[case]:7.3f}{right[case]:7.3f}")
half, third = (np.array([with_noise[f"FLOPs {t}: 20"], quietly[f"FLOPs {t}: 20"]]) for t in (".5", ".3"))
claim("Target 0.5: the noise's end moves the share more than training missed it", half[0] - 0.5 < half[1] - half[0])
both = third[0] - 0.3 > 0.1 and third[1] - third[0] > 0.1
claim("Target 0.3: missed by more than 0.1 with noise, and by as much again without", both, with_noise=third[0])
tenfold = [with_noise["FLOPs .5: 200"] - 0.5, with_noise["FLOPs .3: 200"] - 0.3]
claim("With ten times the factor both are met with noise, to within 0.05", max(map(abs, tenfold)) < 0.05)
missed = min(quietly["FLOPs .5: 200"] - 0.5, quietly["FLOPs .3: 200"] - 0.3)
claim("Without noise both are still missed by more than 0.1", missed > 0.1, missed_by=missed)
paid = right["FLOPs .3: 20"] - right["FLOPs .3: 200"]
claim("For 0.3 that takes more than 0.2 of accuracy", paid > 0.2, paid=paid)
spread = max(np.ptp([mean_of(way, "share of FLOPs, 5 % and 95 %", i) for i in (0, 1)]) for way in ada)
claim("From image to image (5 % to 95 %) the share of FLOPs differs by less than 0.15", spread < 0.15, spread=spread)

# %% [markdown] slideshow={"slide_type": "notes"}
# With noise heads and blocks meet their targets, patches miss that of 0.5. Without noise, heads with a probability
# above one half are used always, so 0.75 becomes nearly all. **Both FLOPs targets are missed at test time**: 0.5 mostly
# because the noise is gone, 0.3 with noise, too. Ten times the factor meets both with noise, not without, and for 0.3
# accuracy falls from 0.87 to 0.52.
#
# With the same heads and blocks for all images the first way stays: for these two kinds it is pruning, found by
# training (patches are still chosen by input). In the others single seeds move, up or down, by up to 0.02. A static
# network of one layer is cheaper than each of the four, and as good as the best. Three targets force a share of each
# kind; with one budget for the FLOPs the network kept its heads. (150 steps: this shows how the losses work, not how
# good AdaViT is.)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Text: a layer with room for half of the tokens
#
# **Mixture of depths:** a router scores every token. The top half of the sequence goes through the block, the rest pass
# by: $\; y_t = x_t + z_t \, f(x)_t$

# %% [markdown] slideshow={"slide_type": "skip"}
# **Idea** (Raposo et al. 2024). The number of tokens is fixed beforehand: 32 of 64. So all shapes are known, also in
# training: what is not chosen is not computed. Here $z_t$ is 0 or, for a chosen token, a weight below 1: the sigmoid of
# its score (in the paper the score itself); it stands on the path, so the router learns from the task. The chosen see
# only each other.
#
# **Code.** The layer by hand: sort the scores, keep the order in time, run, weigh, put back. `causal` attention looks
# back only.


# %% slideshow={"slide_type": "-"}
def top_half(x, router, block):
    s = router(x).squeeze(-1)  # (B, T)
    best = s.topk(x.shape[1] // 2).indices.sort().values  # in the order of the text
    rows = torch.arange(len(x))[:, None]
    inside, z = x[rows, best], s[rows, best].sigmoid().unsqueeze(-1)
    y = x.clone()
    y[rows, best] = inside + z * (block(inside) - inside)  # block(x) = x + f(x)
    return y


# %% [markdown] slideshow={"slide_type": "skip"}
# Check: a model is trained for 80 steps, and asked on 64 test texts.

# %% slideshow={"slide_type": "skip"}
bytes_net = depths.train("top half", seed, 1.2e-2, steps=80)
x = bytes_net.before(next(depths.windows("test", 64, seed))[:, :-1]).detach()  # (64, 64, D)
layer = bytes_net.middle.train()
torch.testing.assert_close(top_half(x, layer.router, layer.body), layer(x)[0])

# %% [markdown] slideshow={"slide_type": "skip"}
# This is `lecture_lib.skipping.MixtureOfDepths`. The model reads bytes of Python source; this is its only layer.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Who gets in, and who can know?

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Change the last 16 bytes of a text. With the top half, can outputs at *earlier* bytes change?
#
# <details><summary>A. No: the attention is causal</summary>
#
# **No.** Attention is. The choice is not: it compares each score with those of the whole sequence.
#
# </details>
#
# <details><summary>B. Yes: a later byte can take the place of an earlier one</summary>
#
# **Yes.** Places are few. Whether byte 5 gets one depends on the scores of bytes that come after it.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# A model that *writes* does not know the end of its text. So a second linear map, the **predictor**, learns to tell
# from one token alone whether it will be among the top half (cross-entropy; its input has no gradient back into the
# model). At test time it decides. The gradient is stopped so that the model serves the text, and not a choice that is
# easy to foresee. Or a **threshold** decides: the median of the router's own score on validation text, fixed
# beforehand.
#
# The cell changes the end of 64 texts, and asks both: `train(True)` is the top half, `train(False)` the predictor. It
# also takes the time of a full block, and of its attention alone, for all tokens.

# %% slideshow={"slide_type": "skip"}
text = next(depths.windows("test", 64, seed))[:, :-1]
other = torch.cat([text[:, :48], text.roll(1, 0)[:, 48:]], dim=1)  # the same beginning, another end
with torch.no_grad():
    moved = {mode: bytes_net.train(mode)(text)[0] - bytes_net(other)[0] for mode in (True, False)}
    top, foreseen = layer.train()(x)[1].weights[..., 0] > 0, layer.predict(x) > 0
moved = {mode: difference[:, :48].abs().max().item() for mode, difference in moved.items()}

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess", "varies"]
# @title Open after your guess: what moves, who is admitted, what it takes by the clock
print(f"largest change before the change: top half {moved[True]:.3f}, predictor {moved[False]:.0e}")
claim("With the top half earlier outputs change", moved[True] > 0.01, change=moved[True])
claim("With the predictor they do not, to rounding", moved[False] < 1e-3, change=moved[False])
agree = (top == foreseen).float().mean().item()
text_rows = {name: [e for e in text_record["entries"] if e["middle"] == name] for name in depths.LAYERS}
row = np.array([e["predictor"] for e in text_rows["top half"]])
print(f"here the predictor agrees with the top half on {agree:.0%} of the tokens; always yes would on 50% (80 steps)")
print(f"recorded: it admits {row[:, 1].mean():.0f} of 64 tokens on average,", end=" ")
print(f"from {row[:, 2].min():.0f} to {row[:, 3].max():.0f}, {row[:, 4].min():.0f} different numbers or more")
plain = depths.LAYERS["attention alone"](layer.body)
times = turns([lambda: layer.body(x), lambda: layer.train()(x), lambda: layer.eval()(x), lambda: plain(x)], n=6)
for name, t in zip(["every token", "top half", "predictor", "attention"], times, strict=True):
    print(f"{name:12}{t:8.2f} ms   {t / times[0]:5.0%}")
claim("The predictor admits many different numbers of tokens: more than 20", row[:, 4].min() > 20)
claim("By the clock it is slower than the top half", times[2] > times[1], clock=True, ratio=times[2] / times[1])
claim("It takes more than 0.85 of the time of every token", times[2] > 0.85 * times[0], clock=True)
claim("Attention alone is faster than the top half", times[3] < times[1], clock=True, ratio=times[3] / times[1])

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: bytes that the layer computes are framed (top half)
fig, axes = plt.subplots(4, 1, figsize=(10, 3.2))
for ax, line, mask in zip(axes, text[20:], top[20:], strict=False):
    plots.characters(ax, line[:48].tolist(), mask[:48].tolist())
show(fig, "Four lines of Python source, about half of the bytes in each framed: those that the layer computes.")

# %% [markdown] slideshow={"slide_type": "notes"}
# "The top half of the sequence" depends on bytes that a writing model does not know: a number measured with it looks
# into the future. **Fixed shapes hold for the top half only.** The predictor is causal and decides byte by byte, so
# windows have different numbers of tokens, and `packed` runs many small batches: here it takes about as long as every
# token. Attention alone, of as many FLOPs as the top half, is faster. The threshold is causal, and ragged, too.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## What a half of a layer is worth

# %% [markdown] slideshow={"slide_type": "skip"}
# Rivals of the same FLOPs (of this layer): *every second* token; *a random half*; *attention
# alone*, for all tokens, with no MLP; *a smaller MLP alone*, for all tokens, so that nothing mixes tokens. Two ends: a
# full layer (twice the FLOPs), and none. Each has the best of three learning rates; three seeds; bits of test files.
# Then five of them once more *above one full block*, so that every byte has seen its past before (1,200 steps).

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: bits per byte, recorded, and the claims
above = {m: np.array([e["bits"] for e in below_record["entries"] if e["middle"] == m]) for m in below.LAYERS}
above["top half, predictor"] = np.array([e["predictor"] for e in below_record["entries"] if "predictor" in e])
bits = {name: np.array([e["bits"] for e in rows]) for name, rows in text_rows.items()}
for mode in ("predictor", "threshold"):
    bits[f"top half, {mode}"] = np.array([e[mode][0] for e in text_rows["top half"]])
for name, b in bits.items():
    cost = text_rows[name][0]["FLOPs"] / text_rows["every token"][0]["FLOPs"] if name in text_rows else None
    flops_of_it = "" if cost is None else f"{cost:.0%} of the layer"
    print(f"{name:22}{b.mean():.3f}  ({b.min():.3f} to {b.max():.3f})  {flops_of_it}")
b = {name: values.mean() for name, values in bits.items()}
won = {name: (b["none"] - value) / (b["none"] - b["every token"]) for name, value in b.items()}
share = text_rows["top half"][0]["FLOPs"] / text_rows["every token"][0]["FLOPs"]
claim("The top half has 0.4 to 0.5 of the layer's FLOPs", 0.4 < share < 0.5, share=share)
claim("It keeps less than 0.4 of what the full layer wins over none", won["top half"] < 0.4, kept=won["top half"])
claim("Attention alone, for all tokens, keeps more than 0.7", won["attention alone"] > 0.7, kept=won["attention alone"])
ahead = bits["top half"].max() < bits["every second"].min() and b["every second"] < b["random half"]
claim("After 400 steps the top half is ahead of every second token in each seed, and that of a random half", ahead)
lost = min(b["top half, predictor"], b["top half, threshold"]) - b["top half"]
claim("Decided in a way that can write, it loses more than 0.02 bits", lost > 0.02, lost=lost)
apart = max(abs(b[f"top half, {mode}"] - b["every second"]) for mode in ("predictor", "threshold"))
claim("That leaves it, after 400 steps, within 0.02 of every second token", apart < 0.02, difference=apart)
print("above a full block:")
for name, values in above.items():
    print(f"{name:22}{values.mean():.3f}  ({values.min():.3f} to {values.max():.3f})")
gain, apart = above["none"].mean() - above["every token"].mean(), np.ptp(above["every token"])
claim("There a full layer wins less over none than its seeds lie apart", gain < apart, won=gain, apart=apart)
lost = (above["top half, predictor"] - above["top half"]).max()
claim("The predictor loses less than 0.005 bits in each seed", lost < 0.005, lost=lost)

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: bits per byte won over no layer
fig, axes = plt.subplots(1, 2, figsize=(10, 3.7), sharey=True, width_ratios=(6, 5))
shown = ["every token", "attention alone", "top half", "top half, predictor", "every second", "MLP alone, smaller"]
said = []
for ax, rows, name in zip(axes, (bits, above), ("the only layer", "above a full block"), strict=True):
    here = [layer for layer in shown if layer in rows]
    won = {layer: rows["none"].mean() - rows[layer] for layer in here}  # (seeds,)
    plots.bars(ax, [layer.replace(", ", "\n").replace(" ", "\n", 1) for layer in here],
               {"won": [won[layer].mean() for layer in here]})  # fmt: skip
    for i, (value, seeds) in enumerate(zip(ax.texts, won.values(), strict=True)):
        ax.plot([i, i], [seeds.min(), seeds.max()], color="0.2", lw=2)
        value.xy = (i, seeds.max())
    ax.axhline(0, color="0.4", lw=1)
    ax.set(title=name, ylim=(-0.08, 0.6))
    ax.tick_params(axis="x", labelsize="x-small")
    said.append(f"{name}: " + ", ".join(f"{layer} {seeds.mean():.2f}" for layer, seeds in won.items()))
axes[0].set_ylabel("bits per byte won\nover no layer")
labels = f"{depths.STEPS} and {below.STEPS} steps; lines: seeds; {text_record['label']}; {below_record['label']}"
fig.suptitle(labels, fontsize="small", color="0.3")
show(fig, "Bits per byte of held-out Python source that layers win over no layer. " + "; ".join(said) + ".")

# %% [markdown] slideshow={"slide_type": "notes"}
# **Where the layer is the only source of context**, a full one wins much over *none*. The top half keeps a third of it,
# for 46 % of the FLOPs: a byte that it skips sees no other byte. Attention alone, for everyone, keeps three quarters.
# Decided in a way that can write, the top half loses 0.03 bits, and is level with every second byte.
#
# **Above a full block** no order can be told: after 1,200 steps even a second full layer wins less over none than its
# seeds lie apart. And to decide in a way that can write loses hardly anything there, in each seed. So the left panel
# is about context, and no verdict on mixtures of depths. The paper puts them between full layers, in much larger
# models, and reports gains.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# - Keep or discard: one question at every place: patch, layer, head, group, token.
# - Train with everything computed and hidden; test with it gone. The answers agree, the costs do not.
# - A saving counts if the work is not executed: FLOPs *and* milliseconds. Ragged batches save hardly
#   any time when batch and width are small.
# - A budget in training is not one at test time: measure, then move the threshold. A mean is no bound for one image.
# - Compare with a smaller network of equal test cost *and* equal training cost, and with a rule.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - Y. Bengio, N. Léonard, A. Courville, *Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
#   Computation*, arXiv:1308.3432, 2013.
# - E. Bengio, P.-L. Bacon, J. Pineau, D. Precup, *Conditional Computation in Neural Networks for Faster Models*,
#   arXiv:1511.06297, 2015: blocks of units, dropped by a policy.
# - A. Veit, S. Belongie, *Convolutional Networks with Adaptive Inference Graphs*, ECCV 2018: layers that examples skip.
# - Y. Rao, W. Zhao, B. Liu, J. Lu, J. Zhou, C.-J. Hsieh, *DynamicViT: Efficient Vision Transformers with Dynamic Token
#   Sparsification*, NeurIPS 2021: masked attention.
# - L. Meng, H. Li, B.-C. Chen, S. Lan, Z. Wu, Y.-G. Jiang, S.-N. Lim, *AdaViT: Adaptive Vision Transformers for
#   Efficient Image Recognition*, CVPR 2022.
# - D. Raposo, S. Ritter, B. Richards, T. Lillicrap, P. C. Humphreys, A. Santoro, *Mixture-of-Depths: Dynamically
#   Allocating Compute in Transformer-Based Language Models*, 2024.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
