# %% [markdown] slideshow={"slide_type": "slide"}
# # Modalities: images and text in one sparse network
#
# **Notebook 11** · *Designing efficient and modular neural networks*
#
# One network and one set of experts, for images and for text.
# What does that gain, and which expert serves whom?

# %% [markdown] slideshow={"slide_type": "skip"}
# **What you will be able to do.** Write a contrastive loss for a batch in which several answers are right. Write the
# two entropy losses of a router that serves two modalities, and say what each does alone. Compare a sparse network with
# dense ones and with two separate networks, at equal cost. Measure in bits what an expert says about a label, with
# four controls. You need: notebook 08, for experts and routers.
#
# **Two sets of trained networks** come along. *Set A*: three ways to train the routers, 64 pairs a step, 300 steps;
# these networks you can open. *Set B*: five ways, 32 pairs a step, 300 and 900 steps; four more, 300 only; of these the
# numbers are kept. All else is measured here, in less than a minute. Lines with ✓ check the text: skip them at first.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Imports, the seed, and the records
import copy
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans

from lecture_lib import plots, recorded
from lecture_lib.cost import wall_time
from lecture_lib.data import digits
from lecture_lib.moe import load_balance_loss, switch, within_capacity
from lecture_lib.notebook import check, claim, setup, show
from lecture_lib.pretrained import load
from lecture_lib.pretrained import record as record_of
from lecture_lib.pretrained.limoe import (
    ALPHABET,
    N_KINDS,
    TEMPLATES,
    caption,
    contrastive_loss,
    draw_images,
    draw_pairs,
    encode,
    entropy_losses,
    modality_share,
)
from lecture_lib.recorded import modalities as ten_ways
from lecture_lib.specialise import extract, information, needed_experts, swap_experts
from lecture_lib.widgets import Modalities

seed = setup(0)
made, fair, more = record_of("limoe"), recorded.load("modalities"), recorded.load("modalities_controls")

# %% [markdown] slideshow={"slide_type": "slide"}
# ## One network, two modalities

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Experts divide tokens among them. What if some tokens come from images and some from text: will there be
# experts for each? And does one network for both gain anything over two?
#
# **Idea.** A *modality* is a kind of input: image, text, sound. LIMoE (Mustafa et al. 2022) is one transformer for
# images and for text. Only the first layer differs (of patches, or of letters; a space is a letter too) and the last.
# Between them, the tokens of both pass the same attention (inside one image, or one caption) and the same experts.
# Nothing says to a router what its token is. The vector of an image or of a caption is the mean of its tokens after the
# last block, times a matrix of its modality.
#
# Our LIMoE is small: four layers (blocks) of width $D = 32$. In layers 2 and 4, eight experts with 16 hidden units take
# the place of the feed-forward network; each token goes to one (`switch`, notebook 08). An expert has room for 1.25
# times an equal share of the batch's tokens; those of the highest probability are served first, whatever their
# modality. A token without room is *dropped*: the layer adds nothing to it.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Picture: one transformer for both
fig, ax = plt.subplots(figsize=(10, 3.6))
sevens = draw_images(digits().train_x[digits().train_y == 7], torch.tensor([31]))
seven = sevens[(sevens - sevens.mean(0)).square().sum((1, 2)).argmin()]  # the one nearest to their mean
ax.imshow(seven, cmap="gray_r", vmin=0, vmax=1, extent=(-0.3, 1.1, 2.3, 4.1))
ax.add_patch(plt.Rectangle((-0.3, 2.3), 1.4, 1.8, fill=False, ec="0.5", lw=0.8))
ax.text(0.4, 0.75, "“a bold\nwhite seven”", ha="center", va="center")
for y, text, colour in ((2.7, "16 patches\nof 2 × 2", "C0"), (0.25, "18 letters", "C1")):
    plots.box(ax, 1.9, y, 1.35, 1.0, text, colour=colour)
    plots.arrow(ax, (1.2, y + 0.5), (1.85, y + 0.5))
    plots.arrow(ax, (3.3, y + 0.5), (3.85, y + 0.5), colour=colour)
    plots.arrow(ax, (8.85, y + 0.5), (9.4, y + 0.5), colour=colour)
ax.add_patch(plt.Rectangle((3.9, -0.1), 4.9, 4.15, fill=False, ec="0.4", lw=1.6))
ax.text(6.35, 4.2, "one transformer, the same parameters for both", ha="center")
plots.box(ax, 4.1, 0.15, 1.3, 3.65, "attention,\ninside each\nimage or\ncaption", colour="0.5")
plots.box(ax, 5.55, 1.5, 0.9, 0.95, "router", colour="C2")
for e in range(8):
    plots.box(ax, 6.95, 0.1 + 0.47 * e, 1.65, 0.38, f"expert {7 - e}", colour="C2", on=e in (2, 5, 6))
for y in (3.11, 2.64, 1.23):  # the middle of experts 1, 2 and 5
    plots.arrow(ax, (6.5, 1.97), (6.9, y), colour="C2")
ax.text(10.0, 3.2, "vector", ha="center", va="center")
ax.text(10.0, 0.75, "vector", ha="center", va="center")
ax.annotate("", (10.0, 1.05), (10.0, 2.9), arrowprops={"arrowstyle": "<|-|>", "color": "0.3", "lw": 1.8})
ax.text(10.1, 1.97, "alike?", va="center")
ax.text(7.78, -0.45, "dashed: not used here", ha="center", color="0.3", fontsize="small")
ax.set(xlim=(-0.4, 10.8), ylim=(-0.65, 4.5), aspect="auto")
ax.axis("off")
show(
    fig,
    "An image of a bold white seven in 16 patches and its caption in 18 letters go through one transformer: attention, "
    "a router, eight experts, of which three are used. Out come two vectors, which should be alike.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Patches and letters share attention and experts. Will there be experts for images and experts for text?

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Forty things to say about a digit

# %% [markdown] slideshow={"slide_type": "skip"}
# **The data.** Ten digits, thin or bold, black or white: 40 *kinds*, each said in three ways. A caption is a row of
# letters; the network knows no words. It sees an image and a caption together, and has to find out that *seven* is a
# shape, *bold* a width and *white* the colour of the digit. (Bold: each pixel takes the strongest ink of a 2 × 2
# square. White: ink becomes 1 - ink, a bright digit on black.) The cell draws 256 pairs of test images, and prints
# the captions of kind 31.

# %% slideshow={"slide_type": "-"}
data, generator = digits(), torch.Generator().manual_seed(seed)
pairs = draw_pairs(data.test_x, data.test_y, size=256, generator=generator)
print(*(caption(31, template) for template in TEMPLATES), sep=", ")
print("as the network reads it:", *encode([caption(31)], length=18)[0].tolist())

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Plot: six of the pairs
fig, axes = plt.subplots(1, 6, figsize=(10, 2.3))
for ax, image, kind in zip(axes, pairs.images, pairs.kind.tolist(), strict=False):
    ax.imshow(image, cmap="gray_r", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.set_title(caption(kind).replace(" ", "\n", 1)[2:].replace(" ", "\n", 1), fontsize="medium")
show(fig, "Six digits, thin or bold, black or white: " + ", ".join(caption(k) for k in pairs.kind[:6].tolist()) + ".")

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Which caption belongs to which image?
#
# $$L_\text{task} = \tfrac{1}{2} H\big(q, \text{softmax}(C)\big) + \tfrac{1}{2} H\big(q^\top,
# \text{softmax}(C^\top)\big) \qquad C = \tfrac{1}{\lambda} \, U V^\top$$

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** How does a network learn that an image and a caption belong together?
#
# **Idea.** By a *contrastive loss*: in a batch of $B$ pairs, find the caption of each image among all $B$, and the
# image of each caption. The rows of $U$ and $V$ are the vectors of images and of captions, all of length 1. So $C$ is
# a table $(B, B)$ of cosines, an image in each row and a caption in each column, divided by a temperature $\lambda$
# that is learnt. The softmax is over a row. $H(q, p) = -\sum q \log p$ is the cross-entropy with the targets $q$ of
# a row, averaged over rows; the second term does the same with the columns.
#
# CLIP (Radford et al. 2021) takes $q = 1$ on the diagonal. With 64 pairs and 40 kinds, several images of a batch are of
# the **same** kind, and each caption of the kind is right: the diagonal would punish a right answer. So all captions of
# one kind share the target.
#
# **Code.** Four pairs; 0 and 2 are of one kind. Look at the rows of $q$.

# %% slideshow={"slide_type": "-"}
u, v = F.normalize(torch.randn(2, 4, 8), dim=-1)  # vectors of 4 images and of 4 captions
kind = torch.tensor([31, 12, 31, 5])
scores, same = 10 * u @ v.T, kind[:, None] == kind  # temperature 1/10

q = same / same.sum(-1, keepdim=True)  # all that is right shares the target
to_text = -(q * scores.log_softmax(-1)).sum(-1).mean()
to_image = -(q.T * scores.T.log_softmax(-1)).sum(-1).mean()
torch.testing.assert_close((to_text + to_image) / 2, contrastive_loss(u, v, 10, same))
print(q)

# %% [markdown] slideshow={"slide_type": "skip"}
# The library's `contrastive_loss(u, v, 1/temperature, same)` agrees.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: the loss does not reach 0 ★★☆ 4 min
#
# These four pairs, $q$ as printed, and a perfect network: the cosine of an image is 1 with its right captions and $-1$
# with the others, and the temperature $\lambda$ goes to 0. Which value does the loss approach? Give the number (natural
# logarithm).

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
lowest = ...

check("lowest_loss", lowest)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
from math import log

lowest_solution = (log(2) + 0 + log(2) + 0) / 4  # rows 0 and 2: half and half; both directions are alike

check("lowest_loss", lowest_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Two entropies for each modality
#
# $$\underbrace{\tfrac{1}{n} \textstyle\sum_i H(\pi_i)}_{\text{local: be sure}} \; + \;
# \underbrace{\max\big(0, \log m - H(\bar\pi)\big)}_{\text{global: use at least } m \text{ experts}}
# \qquad \text{images and text, each on its own}$$

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** How should a router share its experts between two modalities?
#
# **Idea.** LIMoE adds entropy losses of the router's probabilities $\pi = \mathrm{softmax}(s)$; $s$ are its scores, one
# for each of $E$ experts $e$. Here each modality gets both of the following, on its own. $H(\pi) = -\sum_e \pi_e \log
# \pi_e$, with one argument, is an entropy: 0 if one expert has probability 1, $\log m$ if $m$ experts have the same.
# The sum is over the $n$ tokens $i$ of the modality.
#
# - **Local**: the mean of $H(\pi_i)$ over tokens. Small where each is sure of its expert.
# - **Global**: $H$ of the *mean* probability $\bar\pi$. $\exp H(\bar\pi)$ is an effective number of experts, of
#   probabilities; the tokens may still all go to few. It should be at least $m$, here 6 of 8; then the loss is 0. As it
#   asks for no more than $m$, an expert may belong to one modality.
#
# **Code.** 16 image tokens and 18 text tokens, as in the first picture, with random scores. Look at the loop: the
# modalities never mix.

# %% slideshow={"slide_type": "-"}
s = torch.randn(34, 8)
pi, is_text, m = s.softmax(-1), torch.arange(34) >= 16, 6


def entropy(pi):
    return -(pi * pi.log()).sum(-1)


by_hand = 0
for of_modality in (pi[~is_text], pi[is_text]):
    local, mean = entropy(of_modality).mean(), of_modality.mean(0)
    by_hand = by_hand + local + (math.log(m) - entropy(mean)).clamp(min=0)
torch.testing.assert_close(by_hand, entropy_losses(switch(s), is_text, math.log(m)))

# %% [markdown] slideshow={"slide_type": "skip"}
# `entropy_losses(choice, is_text, log m)` is the library's; with $\log m = 0$ only the local part is left. In training
# both are added to the task's loss, for each of the two sparse layers, with weight 0.2. No other weight was tried.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: the global loss on paper ★☆☆ 2 min
#
# Four experts. The mean probabilities of a modality are 1/2, 1/2, 0, 0. The loss asks for $m = 3$ experts. Work it out
# (natural logarithm), and give the number.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
global_loss = ...

check("global_on_paper", global_loss)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
from math import log

global_loss_solution = log(3) - log(2)  # the entropy of two equal halves is log 2

check("global_on_paper", global_loss_solution)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Who collapses?

# %% [markdown] slideshow={"slide_type": "skip"}
# **Code.** Four tokens of one modality, four experts, $m = 3$: three routers. Which does each loss like?

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Three routers, and their two losses
routers = {
    "not sure": torch.zeros(4, 4),
    "sure, all on one expert": 20.0 * F.one_hot(torch.zeros(4, dtype=torch.int64), 4),
    "sure, on four experts": 20.0 * torch.eye(4),
}
for name, logits in routers.items():
    p = logits.softmax(-1)
    losses = entropy(p).mean(), (math.log(3) - entropy(p.mean(0))).clamp(min=0)
    print(f"{name:24} local {losses[0]:.2f}   global {losses[1]:.2f}")

# %% [markdown] slideshow={"slide_type": "skip"}
# Only "sure, on four experts" has 0 in both.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Set A: in which way does a modality end on one expert?
#
# <details><summary>A. local only: the images</summary>
#
# **Yes.** In both layers, for all three seeds.
#
# </details>
#
# <details><summary>B. local only: both modalities</summary>
#
# **No.** In set A text keeps about three. In set B text collapses too, for two of four seeds.
#
# </details>
#
# <details><summary>C. no losses: the images</summary>
#
# **No.** Without losses images start on about two experts and end on about five.
#
# </details>

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Experts used over training

# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Load the networks, and plot the experts used over training (recorded)
models = load("limoe")
steps = made["history"]["step"]


def experts_used(share):
    """exp of the entropy of the load of each modality: shares (..., 2, E) -> (..., 2)."""
    share = torch.as_tensor(share)
    return torch.special.entr(share / share.sum(-1, keepdim=True)).sum(-1).exp()


curves = {way: experts_used(made["history"]["modality_share"][way]).mean(2) for way in models if way != "dense"}
fig, axes = plt.subplots(1, 2, figsize=(10, 3.3), sharey=True)
for k, (ax, modality) in enumerate(zip(axes, ("image", "text"), strict=True)):
    plots.curves(ax, steps, {way: values[:, :, k] for way, values in curves.items()}, legend=False)
    ax.axhline(6, color="0.5", lw=1, ls=":", label="asked for: m = 6")
    ax.set(title=f"{modality} tokens", xlabel="training step", ylim=(0, 8.2), yticks=range(0, 9, 2))
axes[0].set_ylabel("experts used")
title = f"set A, recorded: {len(made['seeds'])} seeds (bands), {made['processor_minutes']:.0f} minutes"
fig.legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=4, title=title)
show(
    fig,
    "Set A, recorded: experts used over 300 training steps, mean of both layers, three seeds. Images start with "
    "about two; with the local loss only they fall to one, with both they rise to six, without losses to five. Text "
    "falls to about three with the local loss only, and keeps about six otherwise.",
)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Recorded**: `python -m lecture_lib.pretrained limoe` trained set A in four minutes of one processor core. *Experts
# used* is $\exp H$ of the **load**: of the shares of a modality's tokens that go to each expert. The loss sees
# probabilities, this number choices. It is a mean of both layers.
#
# **Set B** has other seeds, and each way has its best learning rate (how, says the section "What does it gain?"). Three
# more ways to train routers, after 300 steps only: *global only*; *balance of all tokens*, the balance loss of notebook
# 08 with weight 0.1, images and text together; *frozen random router*, which keeps the matrix that was drawn while the
# rest of the network is trained. Printed, for test images: experts used, the mean probability of the best expert, and
# the share of tokens dropped.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Set B: experts used, sureness, dropped tokens
N = ten_ways.STEPS
ways = [*fair["grid"]["way"], *more["grid"]["way"]]


def values(way, key, n):
    """What set B has, (seeds, ...), or None: the controls were trained for the shorter time only."""
    if way in fair["grid"]["way"]:
        return np.array([entry[str(n)][key] for entry in fair["entries"] if entry["way"] == way])
    return np.array([entry[key] for entry in more["entries"] if entry["way"] == way]) if n == N[0] else None


sparse = [way for way in ways if ten_ways.WAYS[way].n_experts]
used = {(way, n): values(way, "used", n) for n in N for way in sparse if values(way, "used", n) is not None}
print(f"{'means over seeds, of images / of text':40}{'experts used':>13}{'best probability':>18}{'dropped':>13}")
for way, n in used:
    cells = [values(way, key, n).mean(0) for key in ("used", "best", "dropped")]
    print(f"{way:24}{n:4} steps      " + "".join(f"{a:10.2f} / {b:4.2f}" for a, b in cells))
seeds_of = ("  ".join(f"{v:.2f}" for v in part) for part in used["local only", N[1]].T)
print(f"local only, {N[1]} steps, used by images and by text, each seed, mean of layers:", *seeds_of, sep="\n    ")

# %% [markdown] slideshow={"slide_type": "skip"}
# **Reading.** Set B, after 900 steps:
#
# - **Local only**: images sit on one expert for three of four seeds, on fewer than two for the fourth. Text collapses
#   too, for two seeds. More than half of all tokens are dropped: one expert has room for 1.25/8 of them. Images lose
#   fewer than text here, more after 300 steps; why, was not tried.
# - **Both losses**: six experts for each modality, and the best one has a probability above 0.9. So the global loss
#   prevents the collapse, at this weight.
# - **No losses**: nothing collapsed here; images use about 5.5 experts, text 7. But the router is less sure: the best
#   expert has a probability of about 0.35, and its output is scaled by that.
#
# After 300 steps, with the *global* loss only, or the *balance* loss over all tokens, each modality uses more than five
# experts: in neither did a modality collapse, nor without any loss. With the local loss only images collapse first,
# perhaps as they start on two or three experts (plot); other starts were not tried.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: who collapses
shipped = {way: experts_used(made["history"]["modality_share"][way])[:, -1] for way in curves}  # (seeds, layers, 2)
claim(
    "in set A, with the local loss only, images use fewer than 1.05 experts in each layer for each seed, and "
    "text more than two in the mean",
    bool((shipped["local only"][..., 0] < 1.05).all() and shipped["local only"][..., 1].mean() > 2),
    images_most=shipped["local only"][..., 0].max(),
    text_mean=shipped["local only"][..., 1].mean(),
)
local, both = used["local only", N[1]], used["both losses", N[1]]
claim(
    "in set B, after 900 steps, images use fewer than two for each seed, text fewer than 2.5; with the global loss "
    "added both use more than five",
    local[:, 0].max() < 2 and local[:, 1].max() < 2.5 and both.min() > 5,
    images_most=local[:, 0].max(),
    text_most=local[:, 1].max(),
    both_losses_fewest=both.min(),
)
best, without = values("both losses", "best", N[1]).min(), values("no losses", "best", N[1]).max()
claim(
    "after 900 steps without losses both modalities use more than four experts; the best one has a mean probability "
    "below 0.45, with both losses above 0.9",
    used["no losses", N[1]].min() > 4 and without < 0.45 and best > 0.9,
    fewest_experts=used["no losses", N[1]].min(),
    best_without=without,
    best_with=best,
)
collapsed = used["local only", N[1]] < 1.01
claim(
    "with the local loss only, after 900 steps, images sit on one expert for three of four seeds, text for two",
    collapsed.sum(0).tolist() == [3, 2],
    of_images=int(collapsed[:, 0].sum()),
    of_text=int(collapsed[:, 1].sum()),
)
spread = min(used[way, N[0]].min() for way in ("global only", "balance of all tokens"))
claim(
    "after 300 steps with the global loss only, or the balance loss over all tokens, each modality uses more than five "
    "experts",
    spread > 5,
    fewest=spread,
)
lost = {way: values(way, "dropped", N[1]).mean() for way in ("local only", "both losses", "no losses")}
claim(
    "with the local loss only, more than half of the tokens are dropped; with both or without losses fewer than 0.2",
    lost["local only"] > 0.5 and max(lost["both losses"], lost["no losses"]) < 0.2,
    local_only=lost["local only"],
    both_losses=lost["both losses"],
    no_losses=lost["no losses"],
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Why not balance all tokens together?
#
# Image tokens on expert 0, text tokens on experts 1, 2, 3: all loads equal, and images collapsed.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Notebook 08 balanced the load of all tokens with one loss. Why is one balance loss not enough?
#
# **Idea.** The load of *all* tokens can be equal while one modality sits on one expert. **Code.** 8 image tokens and 24
# text tokens, four experts, routers that are sure. Look at the two losses ($m = 3$).

# %% slideshow={"slide_type": "-"}
expert = torch.tensor([0] * 8 + [1, 2, 3] * 8)
choice = switch(20.0 * F.one_hot(expert, 4))  # sure of its expert
is_text = torch.arange(32) >= 8
print(f"balance loss: {load_balance_loss(choice):.2f}, as for equal loads")
print(f"entropy losses: {entropy_losses(choice, is_text, math.log(3)):.2f} = log 3")

# %% [markdown] slideshow={"slide_type": "skip"}
# The global loss sees the images' one expert: $\log 3 - \log 1$. That the balance loss *can* miss a collapse does not
# say that routers *do* collapse under it: in set B they did not (row "balance of all tokens").

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: break the balance loss ★★☆ 5 min
#
# Write `hidden_collapse(n_images, n_text, n_experts)`: it returns how many tokens of each modality each expert gets,
# a table `(2, E)`, images in the first row. All loads are to be equal, and images are to use as few experts as
# possible. (`n_images + n_text` is a multiple of `n_experts`. If images do not fill their last expert, text fills it.)


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def hidden_collapse(n_images, n_text, n_experts):
    return ...


check("hidden_collapse", hidden_collapse)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def hidden_collapse_solution(n_images, n_text, n_experts):
    room = (n_images + n_text) // n_experts
    images = (n_images - room * torch.arange(n_experts)).clamp(0, room)  # one expert after the other
    return torch.stack([images, room - images])


check("hidden_collapse", hidden_collapse_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What does it gain?

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** The network is sparse, has two losses, and shares its parts between modalities. Which of the three gains
# anything?
#
# **What is equal** in set B: the 1,000 training images, 32 pairs a step, and the optimisers. For each way the learning
# rate is the best of three on 257 held-out images after 300 steps, for two of the four seeds (controls: all three
# seeds); 900 steps take the same one. It falls to 0 at the end: each length is a training of its own. The weights of
# the losses, 0.2 and 0.1, were not tuned.
#
# **What is compared.** The six ways to train a router, and
#
# - *dense, equal FLOPs*: 20 hidden units in place of an expert's 16. One unit costs 32 products in and 32 out, so the
#   router's 8 × 32 = 256 pay for 4 units more;
# - *two towers, dense*: one such network for images, another for text. A token costs the same FLOPs; nothing is shared;
# - *dense, equal parameters*: 8 × 16 + 4 = 132 hidden units, at 1.6 times the FLOPs.

# %% [markdown] slideshow={"slide_type": "skip"}
# **What is measured**, on test images. *Image to text*: the share of the images whose best caption of 40 is right; by
# chance 1/40. *Text to image*: of the 10 best images for a caption, the share of its kind. This is easier: of 2,160
# images (540 digits in four looks), about 54 are right; by chance again 1/40. All are encoded in one batch, with
# capacity 1.25.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title The cost of each network, for one pair
costs = {way: ten_ways.cost(ten_ways.WAYS[way]) for way in ways}
print(f"{'':26}{'parameters':>11}{'MFLOPs':>8}")
for way in ("both losses", "dense, equal FLOPs", "two towers, dense", "dense, equal parameters"):
    print(f"{way:26}{costs[way]['parameters']:11,}{costs[way]['flops'] / 1e6:8.2f}")
print("the other ways cost as much as both losses")

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** After 900 steps, has the sparse network with both losses left the dense one of equal FLOPs behind?
#
# <details><summary>A. Yes, for all seeds</summary>
#
# **No.** Three of the four dense networks find as many.
#
# </details>
#
# <details><summary>B. In the mean, but most seeds are level</summary>
#
# **Yes.** One dense network is far behind, and lowers the mean.
#
# </details>
#
# <details><summary>C. No, the dense one is ahead</summary>
#
# **No.** In the mean it is behind after 300 and after 900 steps.
#
# </details>

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title The record: images whose caption is found
found = {way: [values(way, "test", n) for n in N if values(way, "test", n) is not None] for way in ways}  # (seeds, 2)
mean = {way: np.array([rows.mean(0) for rows in of_steps]) for way, of_steps in found.items()}  # (steps, 2 directions)
print(f"set B: {fair['label']}; after {N[0]} steps only: {more['label']}")
print(f"{'':27}" + "".join(f"{f'after {n} steps':29}" for n in N).rstrip())
print(f"{'':27}to text (seeds), to image    to text (seeds), to image")
for way, of_steps in found.items():
    cells = [f"{a.mean():.2f} ({a.min():.2f} to {a.max():.2f}), {b.mean():.2f}" for a, b in (r.T for r in of_steps)]
    print(f"{way:24}   " + "    ".join(cells))
but_one = np.sort(found["dense, equal FLOPs"][1][:, 0])[1:].mean()
print(f"dense, equal FLOPs, after {N[1]} steps without its worst seed: {but_one:.2f}")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Speed, and limit

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Plot: all ways, after both lengths of training
fig, ax = plt.subplots(figsize=(10, 4.4))
for row, (way, of_steps) in enumerate(reversed(found.items())):
    for i, rows in enumerate(of_steps):
        y, colour, label = row + 0.13 - 0.26 * i, f"C{i}", f"{N[i]} steps" if row == len(found) - 1 else None
        ax.plot(rows[:, 0], [y] * len(rows), "os"[i], color=colour, ms=5, alpha=0.6)
        ax.plot(mean[way][i, 0], y, "|", color=colour, ms=15, mew=3, label=label)
ax.set_yticks(range(len(found)), list(reversed(found)))
ax.axhline(len(more["grid"]["way"]) - 0.5, color="0.7", lw=1)
ax.set(xlim=(0, 1), ylim=(-0.6, len(found) - 0.4), xlabel="share of test images whose best caption of 40 is right")
title = f"{fair['label']}\nbelow the line: {more['label'].removeprefix('recorded: ')}\nbars: means; points: seeds"
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), title=title, title_fontsize="small")
show(
    fig,
    f"Images whose caption is found, means after {N[0]} and {N[1]} steps: "
    + "; ".join(f"{way} " + " and ".join(f"{v:.2f}" for v in rows[:, 0]) for way, rows in mean.items())
    + ". Below a line the controls, after the shorter training only.",
)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Reading**, image to text, means of four seeds.
#
# - **The losses.** After 900 steps 0.89 with both and 0.89 with none; seeds overlap. The local loss alone is 0.04
#   below both at 900, seeds apart by 0.01; 0.13 at 300, seeds overlap. It is 0.06, then 0.04 below none; ranges
#   overlap. At this size the losses make routing sure, not the network better.
# - **Sparsity**, at equal FLOPs. After 300 steps 0.52 against 0.43 for the dense network, with overlapping seeds. After
#   900 steps 0.89 against 0.86; but that gap is one network, which found 0.74: without it the dense mean is 0.90
#   (sparse without its own worst: also 0.90). These data do not show that the task needs experts: with the local loss
#   only, 63 % and 87 % of the tokens are dropped, and 0.85 found. A network without those layers was not tried. FLOPs
#   are counted as if nothing were dropped.
# - **Sharing.** Two dense towers are level with the sparse network after 300 steps, and less than 0.02 ahead after 900,
#   with overlapping seeds. Of the *shared* dense network they are ahead by 0.09, then 0.05, nearly all of it that one
#   network: without it by 0.01. They have twice its parameters. Sparse towers were not tried.

# %% [markdown] slideshow={"slide_type": "skip"}
# - **The controls**, three seeds against four, after 300 steps only: a frozen random router and the balance loss find
#   0.52 and 0.54, in the mean as many as both losses; the trained router without losses 0.45, a dense network of equal
#   parameters 0.42.
# - **Speed or limit?** Mostly speed in these two lengths: all five ways gain more than 0.3; the range of their means
#   falls from 0.13 to 0.06. A limit was not reached. The two towers and the dense network of equal parameters took the
#   lowest rate of three: a lower one might be better still.
#
# **Recorded** by `python -m lecture_lib.recorded modalities modalities_controls`.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: what it gains
both, alone, none, dense, towers = (found[way] for way in fair["grid"]["way"])  # each: two lengths, (seeds, 2)
gap = [both[i][:, 0].mean() - none[i][:, 0].mean() for i in range(2)]
claim(
    "after 900 steps both losses are less than 0.02 ahead of none, and their seeds overlap",
    0 < gap[1] < 0.02 and none[1][:, 0].max() > both[1][:, 0].min(),
    after_900=gap[1],
)
behind = [both[i][:, 0].mean() - alone[i][:, 0].mean() for i in range(2)]
claim(
    "the local loss alone is 0.13 below both after 300 steps, where seeds overlap, 0.04 after 900, its best seed there "
    "below their worst",
    alone[1][:, 0].max() < both[1][:, 0].min()
    and alone[0][:, 0].max() > both[0][:, 0].min()
    and 0.035 < behind[1] < 0.05
    and 0.12 < behind[0] < 0.14,
    after_300=behind[0],
    after_900=behind[1],
    local_best=alone[1][:, 0].max(),
    both_worst=both[1][:, 0].min(),
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: beside dense networks
level = int((dense[1][:, 0] > both[1][:, 0].min()).sum())
claim(
    "the sparse network is ahead of the dense one of equal FLOPs in the mean, by 0.09 after 300 steps, by 0.03 after "
    "900; there three of four dense networks are above the worst sparse one",
    0.085 < both[0][:, 0].mean() - dense[0][:, 0].mean() < 0.1
    and 0.025 < both[1][:, 0].mean() - dense[1][:, 0].mean() < 0.04
    and level == 3
    and dense[0][:, 0].max() > both[0][:, 0].min(),
    sparse=both[1][:, 0].mean(),
    dense=dense[1][:, 0].mean(),
    dense_worst=dense[1][:, 0].min(),
    level=level,
)
claim(
    "without that one dense network, the dense mean after 900 steps is not below the sparse one, and the towers are "
    "about 0.01 ahead of it",
    but_one >= both[1][:, 0].mean() and 0.005 < towers[1][:, 0].mean() - but_one < 0.015,
    dense_but_one=but_one,
    sparse=both[1][:, 0].mean(),
    towers=towers[1][:, 0].mean(),
)
claim(
    "two dense towers are within 0.01 of the sparse network after 300 steps, less than 0.02 ahead after 900, with "
    "overlapping seeds, there about 0.05 ahead of the shared dense one",
    abs(towers[0][:, 0].mean() - both[0][:, 0].mean()) < 0.01
    and 0 < towers[1][:, 0].mean() - both[1][:, 0].mean() < 0.02
    and both[1][:, 0].max() > towers[1][:, 0].min()
    and 0.04 < towers[1][:, 0].mean() - dense[1][:, 0].mean() < 0.055,
    towers=towers[1][:, 0].mean(),
    sparse=both[1][:, 0].mean(),
    shared_dense=dense[1][:, 0].mean(),
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: the controls, and the gain of time
control = {way: found[way][0][:, 0].mean() for way in ("frozen random router", "balance of all tokens")}
claim(
    "after 300 steps a frozen random router and the balance loss over all tokens are within 0.03 of both losses",
    max(abs(value - both[0][:, 0].mean()) for value in control.values()) < 0.03,
    frozen=control["frozen random router"],
    balance=control["balance of all tokens"],
    both_losses=both[0][:, 0].mean(),
)
gains = [of_steps[1][:, 0].mean() - of_steps[0][:, 0].mean() for of_steps in (both, alone, none, dense, towers)]
claim("from 300 to 900 steps each of the five trained for 900 gains more than 0.3", min(gains) > 0.3, least=min(gains))
spans = [np.ptp([of[i][:, 0].mean() for of in (both, alone, none, dense, towers)]) for i in range(2)]
claim(
    "the range of their means is above 0.12 after 300 steps, below 0.065 after 900",
    spans[0] > 0.12 and spans[1] < 0.065,
    after_300=spans[0],
    after_900=spans[1],
)


# %% [markdown] slideshow={"slide_type": "skip"}
# **And the clock?** One network of each kind encodes 64 images and 64 captions, here.

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Measure: seconds beside FLOPs
timed = ("both losses", "dense, equal FLOPs", "dense, equal parameters", "two towers, dense")
seconds, sample = {way: math.inf for way in timed}, (pairs.images[:64], pairs.captions[:64])
for _ in range(5):  # the best of five: another program may disturb one
    for way in timed:
        network = ten_ways.build(ten_ways.WAYS[way], seed).eval()
        with torch.no_grad():
            seconds[way] = min(seconds[way], wall_time(network, *sample, min_seconds=0.05))
for way in timed:
    flops = ten_ways.cost(ten_ways.WAYS[way])["flops"]
    print(f"{way:26}{64 * flops / 1e6:6.0f} MFLOPs {1000 * seconds[way]:6.1f} ms")
claim(
    "the sparse network takes longer than the dense one of equal FLOPs",
    seconds["both losses"] > seconds["dense, equal FLOPs"],
    clock=True,
    sparse=seconds["both losses"],
    dense=seconds["dense, equal FLOPs"],
)

# %% [markdown] slideshow={"slide_type": "skip"}
# Equal FLOPs, not equal seconds. That sorting and eight small groups take the rest is our guess.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Who uses which expert, in bits
#
# $$I(\text{expert}; \text{label}) = \sum_{e, l} p(e, l) \, \log_2 \frac{p(e, l)}{p(e) \, p(l)}$$
#
# Four controls: what chance gives, a permutation test, a **random router** on the same tokens, and **clusters** of the
# same tokens.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Does the expert of a token say whether it is of an image or of text? Which letter it is?
#
# **Idea.** *Mutual information* answers in bits. $p(e, l)$ is the share of the tokens that have expert $e$ and label
# $l$; $p(e)$ and $p(l)$ are the shares of each alone. If expert and label have nothing to do with each other, $p(e, l)
# = p(e) \, p(l)$, and $I = 0$. $I$ is at most the entropy of the label (one bit for two modalities of equal size), and
# at most that of the expert (3 bits for eight). $I = H(\text{label})$ means that the expert decides the label; $I =
# H(\text{expert})$ means that the label decides the expert. Neither gives the other.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: information in bits ★★☆ 4 min
#
# `expert` and `label` are tensors `(N,)` of integers from 0 on: where each token went, and what it was. Write
# `expert_bits(expert, label)`, the mutual information in bits. Some pairs never occur: $0 \log 0$ counts as 0.


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

# %% [markdown] slideshow={"slide_type": "skip"}
# Four controls:
#
# - **By chance**: of $N$ independent tokens, even random labels give $I > 0$, in the mean about
#   $(E - 1)(L - 1) / (2N \ln 2)$ for $L$ labels (known from the G test). `information` in `lecture_lib.specialise`
#   shuffles the labels 100 times and reports the mean: `by_chance`.
# - **A permutation test**: if $k$ of the 100 shuffles reach the measured bits, `p_value` is $(1 + k)/101$. All tokens
#   of an image have one modality, look and digit, and are no independent samples: so `group` shuffles labels between
#   whole images and captions. Letters change inside a caption: only single tokens can be shuffled.
# - **A random router** on the *same* tokens. Tokens of one label are alike, so any fixed matrix sends many of them to
#   the same expert. What is above that was not given by an arbitrary matrix.
# - **Clusters**: k-means puts the same tokens into eight clusters, without labels: what the tokens alone give. For the
#   look we also cluster image tokens *alone*.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Code.** `into(network)` returns the tokens that enter the two sparse layers, the choices there, and which are text.
# A random matrix of the same shape is a random router.


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The tokens that enter each sparse layer, by a hook
def into(network):
    """The tokens (N, D) that enter each sparse layer for the test pairs, and the choices there."""
    tokens, layers = [], [block.mlp for block in network.body.blocks[1::2]]
    hooks = [layer.register_forward_pre_hook(lambda _, given: tokens.append(given[0])) for layer in layers]
    with torch.no_grad():
        found = network(pairs.images, pairs.captions)
    for hook in hooks:
        hook.remove()
    return tokens, found.choices, found.is_text


# %% slideshow={"slide_type": "-"}
tokens, choices, is_text = into(models["both losses"][0])
of_caption = 256 + (pairs.captions > 0).nonzero()[:, 0]  # images are 0 to 255
sequence = torch.cat([torch.arange(256).repeat_interleave(16), of_caption])
random_router = switch(tokens[0] @ torch.randn(32, 8))
print("bits, by chance, p")
for name, choice in {"trained": choices[0], "random": random_router}.items():
    said = information(choice, is_text.long(), group=sequence)
    print(name, *(f"{value:.3f}" for value in said[:3]))

# %% [markdown] slideshow={"slide_type": "skip"}
# **Reading.** Of 100 shuffles none reached the bits ($p$ = 0.01). A random matrix says something, too; the next
# section draws five for each layer.
#
# How much could it say, with two modalities of equal size? If each uses six of eight experts evenly, four are shared:
# they have 1/6 of the tokens each, the others 1/12. The expert has $\frac{4}{6} \log_2 6 + \frac{4}{12} \log_2 12$ =
# 2.92 bits, and $\log_2 6$ = 2.58 within a modality: 1/3 is left. Uneven use allows up to $3 - \log_2 6$ = 0.42 (86 %
# of images on four experts, text mirrored). So "of one bit" is the wrong scale.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: 0.26 bits ★★☆ 3 min · optional
#
# Someone reports that the expert says 0.26 bits about the letter: $N = 500$ independent tokens, $E = 8$ experts, $L =
# 26$ letters. How many bits are left when those by chance (the formula above) are subtracted?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
left_over = ...

check("above_chance", left_over)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
from math import log

left_over_solution = 0.26 - (8 - 1) * (26 - 1) / (2 * 500 * log(2))

check("above_chance", left_over_solution)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Modality, letter, look, digit

# %% [markdown] slideshow={"slide_type": "skip"}
# **Code.** Four labels. Of all tokens: their *modality*. Of text tokens: their *letter*. Of image tokens: the *look* of
# the image (thin or bold, black or white) and its *digit*. Means over two layers and three networks of set A;
# *untrained* are three networks as drawn. Random routers and clusters are of the tokens of the network named. First the
# permutation test, for both losses. Look at the two columns of $p$.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Bits of four labels: trained and random routers, clusters
letter, kinds = pairs.captions[pairs.captions > 0], pairs.kind.repeat_interleave(16)
of_images = {"look": kinds % 4, "digit": kinds // 4}
untrained = [ten_ways.build(ten_ways.WAYS["no losses"], seed + i) for i in range(3)]
names, labels = ("modality", "letter", *of_images), {"modality": (is_text.long(), None)}
for name, label in {"letter": letter, **of_images}.items():
    mask = is_text == (name == "letter")
    labels[name] = torch.zeros(len(is_text), dtype=torch.int64).masked_scatter(mask, label), mask


def all_bits(choice, n=1):
    """For each label bits, by chance, p, p of single tokens; entropy of the expert of images and of text. One layer."""
    rows = []
    for name, (label, mask) in labels.items():
        how = {"mask": mask, "n_permutations": n}
        whole = information(choice, label, group=None if name == "letter" else sequence, **how)
        rows.append([*whole[:3], information(choice, label, **how).p_value])
    expert = choice.weights.argmax(-1)
    return rows, [torch.special.entr(expert[m].bincount() / m.sum()).sum() / math.log(2) for m in (~is_text, is_text)]


def clusters(tokens):
    """Eight clusters as a choice (N, 8)."""
    return switch(20.0 * F.one_hot(torch.tensor(KMeans(8, n_init=3, random_state=seed).fit_predict(tokens)).long(), 8))


rows = {}
of_ways = {way: models[way] for way in ("both losses", "no losses", "local only")} | {"untrained": untrained}
for way, networks in of_ways.items():
    for tokens, choices, _ in map(into, networks):
        for layer, choice in zip(tokens, choices, strict=True):
            matrices = torch.randn(5, 32, 8)
            rows.setdefault(way, []).append(all_bits(choice, 100 if way == "both losses" else 1))
            rows.setdefault(way + ": random", []).extend(all_bits(switch(layer @ m)) for m in matrices)
            rows.setdefault(way + ": clusters", []).append(all_bits(clusters(layer)))
bits = {name: np.array([row[0] for row in of])[..., 0] for name, of in rows.items()}  # (layers, labels)
test = np.array([row[0] for row in rows["both losses"]])  # (layers, labels, 4)
print(f"{'both losses, six layers':25}bits  by chance   p, whole images or captions   p, single tokens")
for i, name in enumerate(names):
    whole, single = (f"{test[:, i, k].min():.2f} to {test[:, i, k].max():.2f}" for k in (2, 3))
    whole = "-" if name == "letter" else whole
    print(f"{name:23}{test[:, i, 0].mean():6.2f}{test[:, i, 1].mean():11.3f}{whole:>29}{single:>19}")

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Plot: bits of four labels, four routers
most = [1.0] + [
    torch.special.entr(label.bincount() / len(label)).sum().item() / math.log(2)
    for label in (letter, *of_images.values())
]
drawn = {"both losses": "both losses", "both losses: clusters": "clusters of the same tokens",
         "both losses: random": "random router, same tokens", "untrained": "untrained network"}  # fmt: skip
fig, ax = plt.subplots(figsize=(10, 3.9))
groups = [f"{name}\n(of {value:.1f})" for name, value in zip(names, most, strict=True)]
plots.bars(ax, groups, {label: bits[router].mean(0) for router, label in drawn.items()})
ax.set(ylim=(0, 3.2), ylabel="bits that the expert says", xlabel="label (and its entropy)")
ax.legend(frameon=False, loc="upper right")
show(
    fig,
    "Set A: bits that the expert says about four labels. "
    + "; ".join(f"{label}: " + ", ".join(f"{n} {b:.2f}" for n, b in zip(names, bits[router].mean(0), strict=True))
                for router, label in drawn.items()) + ".",
)  # fmt: skip

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title All rows, and what limits them
print(f"{'mean bits about':24}" + "".join(f"{name:>10}" for name in names) + "   of the expert: images, text")
for name, of in rows.items():
    of_expert = np.mean([row[1] for row in of], axis=0)
    print(
        f"{name:24}"
        + "".join(f"{abs(v):10.2f}" for v in bits[name].mean(0))
        + f"{of_expert[0]:18.2f}{of_expert[1]:9.2f}"
    )
alone = {}
for way, networks in of_ways.items():
    own = [clusters(layer[~is_text]) for network in networks for layer in into(network)[0]]
    alone[way] = np.mean([information(choice, of_images["look"], n_permutations=1).bits for choice in own])
print("look, clusters of image tokens alone: " + ", ".join(f"{way} {value:.2f}" for way, value in alone.items()))
use = torch.tensor([0.86] * 4 + [0.14] * 4) / 4  # of images; text mirrored
bound = 3 - torch.special.entr(use).sum() / math.log(2)
print(
    f"bound of modality for eight uneven experts, exp H = {torch.special.entr(use).sum().exp():.2f}: {bound:.2f} bits"
)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Reading.** With both losses, in the mean:
#
# - **modality**: 0.08 bits of at most 0.42. A random router says as much, the clusters 0.15. Untrained routers say
#   0.46, those without losses 0.14, with the local loss only 0.65, by the collapse. So with both losses or none experts
#   say less after training; so does a random router on those tokens (0.40, then 0.08 and 0.12).
# - **letter**: nearly all that the expert says is about the letter: 2.56 of its 2.58 bits, not the whole letter (3.9).
#   An untrained router says 2.17 of 2.47 already.
# - **look**: 1.39 of 2 bits, a random router 0.68; clusters of image tokens alone 1.50, of untrained ones 0.52. So the
#   *network* learnt to group image tokens by look, and its router says no more than these groups. Without losses the
#   router says 0.91, these clusters 1.49.
# - **digit**: 0.11 bits; shuffles of whole images give 0.07, and in some layers reach it ($p$ up to 0.18). With single
#   tokens shuffled, $p$ would have been 0.01 in every layer. The clusters say 0.14, the random router 0.22: experts did
#   not specialise in digits, perhaps as 1.4 of an image token's 2.6 bits go to the look.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: bits
# Each seed draws the test pairs once more; the networks of set A stay the same three.
say = {router: dict(zip(names, of.mean(0), strict=True)) for router, of in bits.items()}
trained, random, grouped = say["both losses"], say["both losses: random"], say["both losses: clusters"]
claim(
    "no shuffle of 100 reaches the bits of modality, letter and look in any layer; shuffles of whole images reach "
    "those of the digit in some layer, shuffles of single tokens in none",
    test[:, [0, 2], 2].max() < 0.011 and test[:, :, 3].max() < 0.011 and test[:, 3, 2].max() > 0.011,
    p_others=max(test[:, [0, 2], 2].max(), test[:, 1, 3].max()),
    p_digit=test[:, 3, 2].max(),
    p_digit_single_tokens=test[:, 3, 3].max(),
)
claim(
    "the expert says less than 0.15 bits about the modality, within 0.03 of a random router on the same tokens; an "
    "untrained network's more than 0.1 more, with the local loss only more than 0.3 more; without losses less than 0.2",
    trained["modality"] < 0.15
    and abs(trained["modality"] - random["modality"]) < 0.03
    and say["untrained"]["modality"] > trained["modality"] + 0.1
    and say["local only"]["modality"] > trained["modality"] + 0.3
    and say["no losses"]["modality"] < 0.2,
    trained=trained["modality"],
    random_router=random["modality"],
    untrained=say["untrained"]["modality"],
    local_only=say["local only"]["modality"],
)
of_text = np.mean([row[1][1] for row in rows["both losses"]])
claim(
    "about the letter it says all its bits but 0.05, more than a random router; an untrained network says more than "
    "one trained without losses",
    of_text - trained["letter"] < 0.05
    and trained["letter"] > random["letter"] + 0.1
    and say["untrained"]["letter"] > say["no losses"]["letter"] + 0.1,
    trained=trained["letter"],
    of_the_expert=of_text,
    random_router=random["letter"],
    untrained=say["untrained"]["letter"],
    no_losses=say["no losses"]["letter"],
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: bits about look and digit
claim(
    "about the look it says more than 1.5 times as many bits as a random router; clusters of image tokens alone say no "
    "less, of untrained ones less than half; without losses the router is more than 0.3 below these clusters",
    trained["look"] > 1.5 * random["look"]
    and trained["look"] < alone["both losses"]
    and alone["untrained"] < alone["both losses"] / 2
    and alone["no losses"] > say["no losses"]["look"] + 0.3,
    look=trained["look"],
    random_router=random["look"],
    clusters=alone["both losses"],
    clusters_untrained=alone["untrained"],
    clusters_no_losses=alone["no losses"],
)
by_chance = test[:, 3, 1].mean()
claim(
    "about the digit it says less than a random router, within 0.1 of the clusters; more than a third of it by chance",
    trained["digit"] < random["digit"]
    and abs(trained["digit"] - grouped["digit"]) < 0.1
    and by_chance > trained["digit"] / 3,
    digit=trained["digit"],
    random_router=random["digit"],
    clusters=grouped["digit"],
    by_chance=by_chance,
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Look inside: which expert for which token?

# %% [markdown] slideshow={"slide_type": "skip"}
# **Try.** Move through six images and their captions. The numbers are experts. Under each layer: of all test tokens of
# a modality, the share of each expert. What decides the expert of a letter? Here experts have no capacity. (`free`: the
# three networks of set A with both losses, without a capacity; `every`: the 40 captions.)


# %% slideshow={"slide_type": "-"} tags=["figure:modalities_widget", "fold"]
# @title The widget: the expert of each token
def with_room(network):
    """The same network, its experts without a capacity: every token runs, whoever else is in the batch."""
    network = copy.deepcopy(network)
    for block in network.body.blocks[1::2]:
        block.mlp.capacity_factor = None
    return network


free = [with_room(network) for network in models["both losses"]]
every = encode([caption(k) for k in range(N_KINDS)])
inputs, experts, titles = [], [], []
for i, k in enumerate([31, 8, 24, 2, 13, 38]):
    image = draw_images(data.test_x[data.test_y == k // 4][:1], torch.tensor([k]))[0]
    text = caption(k, TEMPLATES[i % 3])
    with torch.no_grad():
        seen, read = free[0](image[None], every), free[0](image[None][:0], encode([text]))
    best = caption(int((seen.images @ seen.captions.T).argmax()))
    inputs += [image, text]
    titles += [f"an image; its best caption of 40: “{best}”", f"a caption: “{text}”"]
    experts.append(torch.stack([c.weights[~seen.is_text].argmax(-1) for c in seen.choices]))
    experts.append(torch.stack([c.weights.argmax(-1) for c in read.choices]))
_, choices, is_text = into(free[0])
share = torch.stack([modality_share(choice, is_text) for choice in choices])  # (layers, 2, E)
Modalities(inputs, experts, share / share.sum(-1, keepdim=True), layers=["2", "4"], titles=titles)

# %% [markdown] slideshow={"slide_type": "notes"}
# Look at the letters of a caption. A letter has nearly always the same expert, wherever it stands.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### A table of letters

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Three captions of one kind, and the expert of each letter
for template in TEMPLATES:
    text = caption(31, template)
    with torch.no_grad():
        read = free[0](pairs.images[:0], encode([text]))
    print("  ".join(text), "  ".join(str(e) for e in read.choices[0].weights.argmax(-1).tolist()), sep="\n", end="\n\n")
print("one network with both losses, layer 2")

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** With both losses a letter goes to the same expert, whatever its word, for nearly all tokens. Where does
# this table come from?
#
# <details><summary>A. The losses make it: who has to be sure looks at the letter</summary>
#
# **Nearly.** They make it sharper, and change the expert of many letters.
#
# </details>
#
# <details><summary>B. It is there before training</summary>
#
# **Yes.** In untrained networks the letter alone gives the expert of more than four tokens in five. Which expert it is
# changes for many letters.
#
# </details>
#
# <details><summary>C. The contrastive loss makes it: letters tell digits apart</summary>
#
# **No.** With the contrastive loss alone the letter gives the expert less often than untrained: 65 to 87 %, against
# 83 to 96 %.
#
# </details>


# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Of how many tokens does the letter, or the look, give the expert?
def by_label(label, expert):
    """The share of the tokens that go where most tokens of their label go."""
    return ten_ways.table(label, expert)


right = {}
print("share of the tokens that go where most of their label go: lowest to highest of 2 layers, 3 networks")
for name in ("both losses", "no losses", "untrained"):
    networks, rows = of_ways[name], []
    for network in networks:
        _, choices, is_text = into(network)
        for choice in choices:
            text, patches = (choice.weights[part].argmax(-1) for part in (is_text, ~is_text))
            row = [by_label(letter, text), by_label(0 * letter, text)]
            rows.append(row + [by_label(label, patches) for label in (*of_images.values(), 0 * kinds)])
    right[name] = dict(zip(("letter", "busiest, text", *of_images, "busiest, image"), np.array(rows).T, strict=True))
    for kind, what, busiest in (("text", "letter", "busiest, text"), ("images", "look", "busiest, image")):
        a, b = right[name][what], right[name][busiest]
        ranges = f"{a.min():4.0%} to {a.max():4.0%}   busiest expert {b.min():4.0%} to {b.max():4.0%}"
        print(f"{name:12} {kind:7} {what:6} {ranges}")
seen = sorted(set(letter.tolist()))
first = []  # the same network, as drawn and trained: (letters, layers)
for network in (ten_ways.build(ten_ways.WAYS["both losses"], 0), models["both losses"][0]):
    _, choices, is_text = into(network)
    pick = [choice.weights[is_text].argmax(-1) for choice in choices]
    first.append(torch.tensor([[expert[letter == one].mode().values for expert in pick] for one in seen]))
stay = (first[0] == first[1]).sum(0).tolist()
print(f"one network, untrained and with both losses: of {len(seen)} letters {stay} keep their expert (layers 2, 4)")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### The table before and after training

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Plot: the table of letters, of one network
fig, axes = plt.subplots(3, 1, figsize=(10, 3.7), sharex=True)
first_of = {"untrained": untrained[0], "no losses": models["no losses"][0], "both losses": models["both losses"][0]}
for ax, (name, network) in zip(axes, first_of.items(), strict=True):
    _, choices, is_text = into(network)
    seen = sorted(set(letter.tolist()))
    for row, choice in enumerate(choices):
        expert = choice.weights[is_text].argmax(-1)
        for x, one in enumerate(seen):
            counts = expert[letter == one].bincount(minlength=8)
            e, share_of = counts.argmax().item(), counts.max().item() / counts.sum().item()
            ax.add_patch(plt.Rectangle((x, 1 - row), 1, share_of, fc=f"C{e}", alpha=0.6, lw=0))
            ax.text(x + 0.5, 1.45 - row, e, ha="center", va="center", fontsize="small")
    ax.axhline(1, color="0.3", lw=1)
    ax.set(xlim=(0, len(seen)), ylim=(0, 2), ylabel=name.replace(" ", "\n"))
    ax.set_yticks([1.5, 0.5], ["layer 2", "layer 4"])
    ax.set_xticks(np.arange(len(seen)) + 0.5, ["␣" if one == 1 else ALPHABET[one - 1] for one in seen])
    ax.tick_params(length=0)
fig.suptitle("each letter's most frequent expert; height: its share of the letter's tokens", fontsize="medium")
show(
    fig,
    "For each letter its most frequent expert in two layers, and the share of the letter's tokens that go there. "
    "Untrained: bars are nearly full, experts unequal. No losses: many bars are only partly full. Both losses: nearly "
    "all bars are full.",
)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Reading.** With both losses, for 97 % of the text tokens or more the letter alone gives the expert, in both layers
# of all three networks: routing of text is a **table of letters**. Notebook 08 had such a table as a baseline, a hash.
# That a letter gives the expert is there before training (83 to 96 %), perhaps because a token is then still mostly
# its letter's embedding; which expert it is changes for many letters (in one network 16 of 22 agree in layer 2, 11 in
# layer 4). Trained without losses the share is lower in range, 65 to 87 %.
#
# For patches, the look gives the expert of 58 to 75 %; the busiest expert alone has 22 to 29 %. Untrained, nearly all
# may go to one expert: the look is "right" often, and so is the busiest expert. Bits count that as nothing.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: by what rule
both, none, before = right["both losses"], right["no losses"], right["untrained"]
claim(
    "with both losses the letter gives the expert of more than 96 % of text tokens, untrained of more than 82 %, "
    "without losses of less than with both",
    min(both["letter"]) > 0.96 and min(before["letter"]) > 0.82 and max(none["letter"]) < min(both["letter"]),
    both_losses=min(both["letter"]),
    untrained=min(before["letter"]),
    no_losses=max(none["letter"]),
)
claim(
    "of one network, more than half of the letters keep their expert in layer 2 by training, and some change in each "
    "layer",
    stay[0] > len(seen) / 2 and max(stay) < len(seen),
    layer_2=stay[0],
    layer_4=stay[1],
    letters=len(seen),
)
claim(
    "with both losses the look gives the expert of more than half of the patches, the digit of less than 0.1 more than "
    "the busiest expert",
    min(both["look"]) > 0.5 and max(both["digit"] - both["busiest, image"]) < 0.1,
    look=min(both["look"]),
    digit_over_busiest=max(both["digit"] - both["busiest, image"]),
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Who else is in the batch?

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Experts have room for 1.25 times an equal share. Images are encoded 128 in one batch, one by one, or
# without a capacity. When is the fewest found?
#
# <details><summary>A. In one batch: others take the places</summary>
#
# **No.** In the mean more are found there than one by one.
#
# </details>
#
# <details><summary>B. One by one</summary>
#
# **Yes.** In the mean, and for two of three networks. Images and captions were both alone. An expert has room for three
# of an image's 16 tokens: 58 % of image tokens find no place.
#
# </details>
#
# <details><summary>C. Without a capacity: they were trained with one</summary>
#
# **No.** About as many as in one batch.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# Alone, an image has 16 tokens: 1.25 × 16/8 = 2.5, rounded up to room for three.
#
# **Code.** Set A, both losses. The same images and the 40 captions in three companies: one batch, one by one
# (`every[:0]` is no caption), and without a capacity.


# %% slideshow={"slide_type": "skip"}
@torch.no_grad()
def one_by_one(network):
    """Vectors of the images and of 40 captions, each encoded alone, and the share of image tokens dropped."""
    images = [network(image, every[:0]) for image in pairs.images[:128].split(1)]
    texts = [network(pairs.images[:0], text) for text in every.split(1)]
    room = [within_capacity(c, 1.25, batch_priority=True).weights for f in images for c in f.choices]
    dropped = 1 - (torch.stack(room) > 0).any(-1).float().mean()
    return torch.cat([f.images for f in images]), torch.cat([f.captions for f in texts]), dropped.item()


# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Three companies
with torch.no_grad():
    company = {
        "in one batch": [network(pairs.images[:128], every)[:2] for network in models["both losses"]],
        "one by one": [one_by_one(network) for network in models["both losses"]],
        "no capacity": [network(pairs.images[:128], every)[:2] for network in free],
    }
    alone = free[0](pairs.images[:1], every[:0]).images
score, each_of = {}, {}
print("images whose best caption of 40 is right: mean of three networks (each)")
for name, of_seeds in company.items():
    each = [((u @ v.T).argmax(-1) == pairs.kind[:128]).float().mean().item() for u, v, *_ in of_seeds]
    score[name], each_of[name] = np.mean(each), each
    print(f"  {name:12}  {score[name]:.2f}   (" + ", ".join(f"{value:.2f}" for value in each) + ")")
dropped = np.mean([row[2] for row in company["one by one"]])
print(f"one by one, {dropped:.0%} of an image's tokens are dropped")
torch.testing.assert_close(alone, company["no capacity"][0][0][:1])  # without a capacity, the same in any company

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: company
claim(
    "one by one, fewer are found than in one batch and without a capacity; more than half of the tokens are dropped",
    score["one by one"] < min(score["in one batch"], score["no capacity"]) and dropped > 0.5,
    one_by_one=score["one by one"],
    in_one_batch=score["in one batch"],
    no_capacity=score["no capacity"],
    dropped=dropped,
)
worse = sum(a < b for a, b in zip(each_of["one by one"], each_of["in one batch"], strict=True))
claim("one by one, at least two networks of three find fewer than in one batch", worse >= 2, networks=worse)
claim(
    "without a capacity, what is found is within 0.06 of one batch",
    abs(score["in one batch"] - score["no capacity"]) < 0.06,
    in_one_batch=score["in one batch"],
    no_capacity=score["no capacity"],
)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Reading.** With a capacity the vector of an image depends on its company. Alone it is the same each time, but in the
# mean fewer are found (0.70 against 0.78; one network of three finds more). **Without a capacity** it is the same in
# any company, and about as many are found.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Take it apart · optional

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** If experts divide the work by modality, can we cut out those that images need, and throw the others
# away?
#
# **Code.** `needed_experts(choice, 0.95, mask=...)` lists the fewest experts that 95 % of a modality's tokens go to;
# `extract(layer, experts)` keeps these only, with their rows of the router. The cell cuts for images, encodes images
# with what is left, and captions with the whole network; then for text, the other way round.


# %% slideshow={"slide_type": "skip"}
@torch.no_grad()
def cut_for(network, part):
    """Experts kept in both layers, and images whose caption is found, whole and cut. part 0: images, 1: text."""
    whole, small = network(pairs.images, every), copy.deepcopy(network)
    _, choices, is_text = into(network)
    kept = [needed_experts(choice, 0.95, mask=is_text == part) for choice in choices]
    for block, places in zip(small.body.blocks[1::2], kept, strict=True):
        block.mlp = extract(block.mlp, places)
    cut = small(pairs.images, every)
    u, v = (cut.images, whole.captions) if part == 0 else (whole.images, cut.captions)
    hits = [((a @ b.T).argmax(-1) == pairs.kind).float().mean().item() for a, b in (whole[:2], (u, v))]
    return [len(places) for places in kept], hits


# %% [markdown] slideshow={"slide_type": "skip"}
# Set A: both losses, then the local loss only. *Found* are images whose best caption of 40 is right.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title The experts that a modality needs
cuts = {}
for way, networks in {"both losses": free, "local only": [with_room(n) for n in models["local only"]]}.items():
    for part, modality in enumerate(("images", "text")):
        cuts[way, modality] = [cut_for(network, part) for network in networks]
        for kept, (before, after) in cuts[way, modality]:
            hits = f"found {before:.2f} -> {after:.2f}"
            print(f"{way}, cut for {modality:6}: {kept[0]} and {kept[1]} of 8 experts kept, {hits}")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: what can be cut out
kept = {key: [n for row, _ in rows for n in row] for key, rows in cuts.items()}
lost = [before - after for part in ("images", "text") for _, (before, after) in cuts["both losses", part]]
claim(
    "with both losses each modality needs five to seven of eight experts, and what is cut costs less than 0.06",
    all(5 <= n <= 7 for part in ("images", "text") for n in kept["both losses", part]) and max(lost) < 0.06,
    fewest=min(kept["both losses", "images"] + kept["both losses", "text"]),
    most=max(kept["both losses", "images"] + kept["both losses", "text"]),
    most_lost=max(lost),
)
whole = {way: np.mean([before for _, (before, _) in cuts[way, "images"]]) for way in ("both losses", "local only")}
claim(
    "with the local loss only less than two thirds are found of what both losses find",
    whole["local only"] < 2 / 3 * whole["both losses"],
    **{way.replace(" ", "_"): value for way, value in whole.items()},
)
claim(
    "with the local loss only, images need one expert in each layer",
    max(kept["local only", "images"]) == 1,
    most=max(kept["local only", "images"]),
)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Reading.** With both losses a modality needs five to seven of eight experts; one to three can go, at a loss of at
# most 0.06. With the local loss only, images need one expert. But that network finds less than two thirds of the other,
# in set A. In set B, with 32 pairs a step, it was 0.13 behind after 300 steps and 0.04 after 900.
# What is cut is not always without effect: the other tokens, up to 5 %, go to another expert.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Exchange two experts: who notices? · optional

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** We exchange two experts and leave the router as it is. Do images change that have no token at either?
#
# **Code.** `swap_experts(layer, a, b)` exchanges two experts. Printed are, for three networks, the images with a
# token there, and how many of the other images changed.


# %% slideshow={"slide_type": "skip"}
@torch.no_grad()
def swap(network, layer, a, b):
    """Images with a token at expert a or b of sparse layer 0 or 1 (layer 2 or 4); images whose vector changes."""
    other, block = copy.deepcopy(network), 2 * layer + 1
    other.body.blocks[block].mlp = swap_experts(network.body.blocks[block].mlp, a, b)
    before, after = network(pairs.images, pairs.captions), other(pairs.images, pairs.captions)
    used = before.choices[layer].weights[~before.is_text][:, [a, b]].sum(-1) > 0  # image tokens, 16 an image
    return used.view(-1, 16).any(-1), (before.images != after.images).any(-1)


# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Two experts exchanged in each sparse layer, with and without a capacity
untouched, shares = {}, []
for network in free:
    _, choices, is_text = into(network)
    shares.append([modality_share(choice, is_text) for choice in choices])
for layer in (0, 1):
    for room, networks in (("no capacity", free), ("capacity 1.25", models["both losses"])):
        rows = []
        for network, share in zip(networks, shares, strict=True):
            a, b = (
                (share[layer][1] - share[layer][0]).topk(2).indices.tolist()
            )  # two that text uses more than images do
            used, changed = swap(network, layer, a, b)
            rows.append([used.sum().item(), (changed & ~used).sum().item()])
        untouched[layer, room] = max(row[1] for row in rows)
        of_images, others = ([row[k] for row in rows] for k in (0, 1))
        print(f"layer {2 * layer + 2}, {room:13}: of 256 images there {of_images}, others changed {others}")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: who notices an exchange
claim(
    "without a capacity, no image changes that has no token at the two experts, to the bit",
    max(untouched[layer, "no capacity"] for layer in (0, 1)) == 0,
    changed=max(untouched[layer, "no capacity"] for layer in (0, 1)),
)
claim(
    "with a capacity, an exchange in layer 2 changes such images, one in layer 4 does not",
    untouched[0, "capacity 1.25"] > 0 == untouched[1, "capacity 1.25"],
    first=untouched[0, "capacity 1.25"],
    last=untouched[1, "capacity 1.25"],
)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Reading.** Without a capacity an image is its own world: attention stays inside it. With a capacity, changed tokens
# of other images and captions take other places in layer 4, and someone else is dropped. After layer 4 no router
# follows, so nobody else changes.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where it fails
#
# - **Experts of one modality?** With $m = 6$ or without losses an expert says on average under 0.2 bits about it.
#   Single experts may still serve mostly one: in one layer at least two needed for text are not needed for 95 % of the
#   image tokens. The paper, far larger, reports such experts and gains over dense models; ours does not contradict it.
# - **Letters and looks, not digits,** go with the expert.
# - **The local loss alone does harm** at weight 0.2, the only weight tried: images end on one expert.
# - **With a capacity, company counts:** a vector depends on who else is in the batch. To store vectors, encode without.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# $$\tfrac{1}{n} \textstyle\sum_i H(\pi_i) \; + \; \max\big(0, \log m - H(\bar\pi)\big)
# \qquad \text{for each modality}$$
#
# $\pi_i$: the router's probabilities of token $i$.
#
# - At weight 0.2 the local loss alone makes routing collapse; with the global loss it does not. Without both, nothing
#   collapsed here.
# - After 900 steps both losses, none, and two dense towers find about as many; so do three of four shared dense
#   networks of equal FLOPs.
# - That a letter gives the expert is there before training. The network learns the look: clusters of its image tokens
#   say no less than the router. With both losses or none, experts say less about the modality after training.
# - Bits need their bounds, and four controls: chance, whole images shuffled, a random router, clusters.

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
