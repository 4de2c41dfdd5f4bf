# %% [markdown] slideshow={"slide_type": "slide"}
# # Discrete decisions: one problem, three places
#
# **Notebook 01** · *Designing efficient and modular neural networks*
#
# A modular network decides what to look at, what to run, whom to ask. What kind of problem is that?
# And where in a network does it appear?

# %% [markdown] slideshow={"slide_type": "skip"}
# **After this notebook you can** write a decision inside a network as scores, argmax, and what follows; say why
# backpropagation cannot train it although the expected loss has a slope, and which sign that slope has for an
# untrained scorer; leave out patches, blocks and parts of blocks so that work is really saved; and name two cases in
# which gates cannot be judged one by one. **You need** PyTorch and backpropagation, and notebook 00.
#
# Code that draws or prepares is folded: click on its title to open it. Where it says *Predict*, guess before you
# click. Lines that begin with ✓ or ✗ compare what the text says with the numbers of your own run.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Imports, and the seed
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lecture_lib import plots, recorded
from lecture_lib.choice import argmax, keep_or_discard, softmax
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.data import batches, digits
from lecture_lib.mixture import mix_sparse
from lecture_lib.models import MLP, Block
from lecture_lib.notebook import check, claim, setup, show
from lecture_lib.patches import packed
from lecture_lib.recorded.discrete_decisions import KINDS, Reader, at_random, cut, random_parts, train
from lecture_lib.skipping import GatedChannels, GatedHeads, SkippableBlock
from lecture_lib.training import fit

seed = setup(0)
data = digits()

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A decision inside a network

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: scores, argmax, choice
fig, ax = plt.subplots(figsize=(10, 3.1))
plots.decision(ax, data.test_x[3], [1.3, 0.2, 0.7])
show(
    fig,
    "A diagram: an input x, a scorer, three scores 1.3, 0.2 and 0.7, argmax, a choice 1, 0, 0, the option that was "
    "chosen, a loss. An arrow named gradient leads back from the loss; it ends with a cross, below argmax.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# A picture of the talk that these notebooks follow (Scardapane 2023), with its numbers. There are $K$ **options**
# $f_k$: patches to look at, layers to run, experts to ask. A network, the **scorer**, gives each option a score $s_k$.
# **Argmax** picks the largest. The **choice** $z$ holds a weight for each option, here 1 for the one that was picked
# and 0 for the others (*one-hot*):
#
# $$y = \sum_k z_k \, f_k(x), \qquad z = \text{one-hot}(\operatorname{argmax} \, \text{score}(x))$$
#
# As $z$ is one-hot, only one $f_k$ has to run. That is the saving. It is also the trouble: the path from the loss back
# to the scorer leads through argmax.

# %% [markdown] slideshow={"slide_type": "skip"}
# In the library, `argmax` returns a `Choice`: a named tuple with the scores it was made from (`logits`), the weights
# $z$ (`weights`), and `log_prob`, which matters for ways that choose at random (notebook 03) and is 0 here. All ways to
# choose in these notebooks return one, so a network can take any of them.

# %% slideshow={"slide_type": "-"}
s = torch.tensor([1.3, 0.2, 0.7])  # the scores of the options a, b, c
z = F.one_hot(s.argmax(-1), 3).float()
torch.testing.assert_close(z, argmax(s).weights)
argmax(s)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Move one score

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** The score of a falls slowly from 1.3 to 0.6. What does the loss do?
#
# <details><summary>A. It changes slowly.</summary>
#
# **No.** A one-hot choice has no slow change: each weight is 0 or 1.
#
# </details>
#
# <details><summary>B. Nothing, then one jump.</summary>
#
# **Yes.** Down to 0.7, a is the largest: the same choice, the same loss. Then c is, and the loss jumps.
#
# </details>
#
# <details><summary>C. Nothing at all.</summary>
#
# **Nearly.** That is right down to 0.7. Below it, c has the largest score.
#
# </details>

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A small real case: read one band
#
# Three options: read the **top** (rows 0–3), the **middle** (2–5) or the **bottom** (4–7) of a digit. They overlap.
# Only one may be read.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: three bands of four digits
fig, axes = plt.subplots(2, 6, figsize=(10, 3.9))
for i, ax in enumerate(axes.flat):
    image, top, name = data.test_x[[3, 8, 11, 20][i // 3]], 2 * (i % 3), ("top", "middle", "bottom")[i % 3]
    seen = torch.full((8, 8), torch.nan)
    seen[top : top + 4] = image[top : top + 4]
    ax.imshow(seen, cmap="gray_r", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[], xlabel=name)
    ax.spines[["top", "right"]].set_visible(True)
show(fig, "Four digits, each seen through three bands of four rows: the top, the middle, the bottom.")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The same as a network

# %% [markdown] slideshow={"slide_type": "skip"}
# The network has a scorer, which sees the whole image, and three **readers**, small classifiers: $f_k$ sees band $k$
# only. Look at the loop: reader $k$ is called on the images that chose band $k$, and on no others. `mix_sparse` of the
# library does the same for any options (notebook 00). The images are scikit-learn's digits, 8 × 8 pixels.


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The three bands, the scorer's input, three readers
def bands(images):  # rows 0 to 3, 2 to 5, 4 to 7: (B, 8, 8) → (B, 3, 32)
    return torch.stack([images[:, top : top + 4].flatten(1) for top in (0, 2, 4)], 1)


def centred(images):  # differences to the mean digit, times 4: (B, 8, 8) → (B, 64)
    return 4 * (images - data.train_x.mean(0)).flatten(1)


def make_readers():
    torch.manual_seed(seed)
    return nn.ModuleList(MLP(32, 32, 10) for _ in range(3))


# %% [markdown] slideshow={"slide_type": "skip"}
# Here is the decision, written out. `bands` cuts an image into its three bands; `centred` gives the scorer the
# differences to the mean digit. Below it is checked against `mix_sparse`.


# %% slideshow={"slide_type": "-"}
def read_one_band(images, score, readers):
    s = score(centred(images))  # (B, 3)
    picked = s.argmax(-1)  # (B,)
    y = torch.zeros(len(images), 10)
    for k, reader in enumerate(readers):
        rows = picked == k  # the images that chose band k
        y[rows] = reader(bands(images)[rows, k])
    return y


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The same with mix_sparse
score, readers = MLP(64, 32, 3), make_readers()
options = [lambda x, k=k: readers[k](x[:, k]) for k in range(3)]
library = mix_sparse(bands(data.test_x), argmax(score(centred(data.test_x))).weights, options)
torch.testing.assert_close(read_one_band(data.test_x, score, readers), library)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Train the readers first
#
# Each reader is trained on its own band, for all images. Then only the decision is left to learn. This is the training
# loop that all notebooks use, written out once. `fit` of the library is the same loop with a progress bar and a
# measurement now and then.


# %% slideshow={"slide_type": "skip"}
def train_by_hand(model, loss, batches, steps, lr):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _, batch in zip(range(steps), batches, strict=False):
        optimizer.zero_grad()
        loss(*batch).backward()
        optimizer.step()


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Train the readers by hand, and a twin with fit: the same weights
twin = make_readers()
for model, way in ((readers, train_by_hand), (twin, fit)):
    stream = batches(data.train_x, data.train_y, generator=torch.Generator().manual_seed(seed))
    all_bands = lambda x, y, model=model: sum(F.cross_entropy(model[k](bands(x)[:, k]), y) for k in range(3))  # noqa: E731
    way(model, all_bands, stream, steps=300, lr=5e-3)
torch.testing.assert_close(readers.state_dict(), twin.state_dict())

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## What would a good decision be worth?

# %% [markdown] slideshow={"slide_type": "skip"}
# We compare: always the same band; argmax of the untrained scorer; and a *ceiling* that counts an image as right if any
# of the three readers is right. The ceiling knows the answer when it chooses, and counts lucky guesses; nobody can
# promise it. A fairer target is a **taught** scorer. Its training runs all three readers on each training image, and
# its loss is $\sum_k \pi_k \, \text{loss}_k$ with the probabilities $\pi = \text{softmax}(s)$ (notebook 02 explains
# it); at test it runs one reader, as the others do. And one rival without any decision: a small classifier of the
# *whole* image.


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Measure: bands, scorers, and the whole image
def losses_of(images, label):  # what each band would cost: (B, 3)
    return torch.stack([F.cross_entropy(f(bands(images)), label, reduction="none") for f in options], 1)


def stream_of(*tensors):
    return batches(*tensors, generator=torch.Generator().manual_seed(seed))


with torch.no_grad():
    logits = torch.stack([f(bands(data.test_x)) for f in options], 1)  # (540, 3, 10)
    right = logits.argmax(-1) == data.test_y.unsqueeze(-1)  # (540, 3): which bands would be right
    table = losses_of(data.train_x, data.train_y)
taught, whole = MLP(64, 32, 3), MLP(64, 32, 10)
fit(
    taught,
    lambda x, loss: (taught(x).softmax(-1) * loss).sum(-1).mean(),
    stream_of(centred(data.train_x), table),
    steps=300,
    lr=5e-3,
)
fit(
    whole,
    lambda x, y: F.cross_entropy(whole(x), y),
    stream_of(centred(data.train_x), data.train_y),
    steps=300,
    lr=5e-3,
)
with torch.no_grad():
    picked = {name: net(centred(data.test_x)).argmax(-1, keepdim=True) for name, net in (("u", score), ("t", taught))}
    worth = {name: right[:, k] for k, name in enumerate(("always\ntop", "always\nmiddle", "always\nbottom"))}
    worth["argmax,\nuntrained"] = right.gather(1, picked["u"])
    worth["argmax,\ntaught"] = right.gather(1, picked["t"])
    worth["ceiling:\nany right"] = right.any(-1)
    worth["whole\nimage"] = whole(centred(data.test_x)).argmax(-1) == data.test_y
worth = {name: hits.float().mean().item() for name, hits in worth.items()}
top, middle, bottom, untrained, learnt, ceiling, plain = worth.values()
flops = [count_flops(read_one_band, data.test_x, score, readers) / 540, count_flops(whole, centred(data.test_x)) / 540]
of_scorer = count_flops(score, centred(data.test_x)) / 540
print(f"scorer {of_scorer:,.0f} + one reader {flops[0] - of_scorer:,.0f} = {flops[0]:,.0f} FLOPs an image")
print(f"a classifier of the whole image: {flops[1]:,.0f}")
averaged = (logits.softmax(-1).mean(1).argmax(-1) == data.test_y).float().mean().item()
print(f"all three readers, no scorer: {3 * (flops[0] - of_scorer):,.0f}, accuracy of their mean {averaged:.3f}")

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: what a decision is worth
fig, ax = plt.subplots(figsize=(10, 3.6))
plots.bars(ax, list(worth), {"": list(worth.values())}, fmt="{:.3f}")
ax.patches[5].set(facecolor="white", edgecolor="C0", hatch="//")
ax.patches[6].set(facecolor="C1")
ax.set(ylim=(0, 1.1), ylabel="test accuracy")
show(
    fig,
    "Bars of test accuracy: " + ", ".join(f"{name} {v:.2f}" for name, v in worth.items()).replace("\n", " ") + ".",
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about what a decision is worth
claim("The middle is the best single band", middle > max(top, bottom) + 0.02, middle=middle, next_best=max(top, bottom))
claim("An untrained scorer does not beat it", untrained < middle, untrained=untrained, middle=middle)
claim("A taught scorer beats it by a point or more", learnt > middle + 0.01, taught=learnt, middle=middle)
claim(
    "The whole image is read better, with fewer FLOPs",
    plain > learnt and flops[1] < flops[0],
    whole=plain,
    taught=learnt,
)
claim("The mean of all three readers beats the taught scorer", averaged > learnt, mean=averaged, taught=learnt)
claim("The scorer costs more than a reader", of_scorer > flops[0] - of_scorer, scorer=of_scorer)

# %% [markdown] slideshow={"slide_type": "notes"}
# The middle is the best fixed choice. A taught scorer gains a point or more: so there is something to learn. But look
# at the last bar: this network saves *nothing*. Its scorer sees the whole image and costs more than a reader; a plain
# classifier of the whole image is better and cheaper. (And the mean of all three readers, without any scorer, is better
# than the taught choice, for a little more work.) We use the case to study decisions, not to save work.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## No gradient, measured three times

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** We train this network end to end, with argmax in it. What does the scorer learn?
#
# <details><summary>A. A little: its gradients are small.</summary>
#
# **No.** They are not small. There are none.
#
# </details>
#
# <details><summary>B. Nothing: it stays as it was, to the last bit.</summary>
#
# **Yes.** Argmax returns an index, and an index has no derivative.
#
# </details>
#
# <details><summary>C. To prefer the middle, as the readers change.</summary>
#
# **No.** The readers do change. But nothing tells the scorer.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# First ask PyTorch for the gradients. Second, ask by small steps: add $10^{-8}$ to one score at a time, and see whether
# the loss of an image moves. (In double precision: in single precision so small a step may vanish in the score.) To
# have many choices we score each of the 540 test images by 100 random scorers: 54,000 choices. `losses_of`, folded
# above, returns what each of the three bands would cost. Third, train for 50 steps and see who moved.

# %% slideshow={"slide_type": "skip"}
F.cross_entropy(read_one_band(data.train_x, score, readers), data.train_y).backward()  # 1. backpropagation
gradients = [p.grad for p in score.parameters()]

with torch.no_grad():
    scores = torch.stack([MLP(64, 32, 3)(centred(data.test_x)) for _ in range(100)]).double()  # (100, 540, 3)
    losses = losses_of(data.test_x, data.test_y).double().expand(100, -1, -1)


def loss_at(s):  # the loss of each choice: (100, 540)
    return losses.gather(-1, s.argmax(-1, keepdim=True)).squeeze(-1)


towards_middle = torch.tensor([0.0, 1.0, 0.0]).double()
slopes = torch.stack([(loss_at(scores + step) - loss_at(scores)) / 1e-8 for step in 1e-8 * torch.eye(3)])  # 2.

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Open after your guess: three measurements, and the claims
both = nn.ModuleList([score, readers])
before = [p.detach().clone() for p in both.parameters()]
fit(
    both,
    lambda x, y: F.cross_entropy(read_one_band(x, score, readers), y),
    stream_of(data.train_x, data.train_y),
    steps=50,
)
moves = [(p - was).norm().item() for p, was in zip(both.parameters(), before, strict=True)]
readers.load_state_dict(twin.state_dict())  # as they were
print(f"1. {gradients.count(None)} of the scorer's {len(gradients)} gradients are None")
print(f"2. {slopes.numel():,} slopes, {(slopes == 0).double().mean():.0%} of them exactly zero")
print(f"3. after 50 steps, the scorer moved by {max(moves[:4])}, the readers by up to {max(moves[4:]):.2f}")
claim("No gradient reaches the scorer", gradients.count(None) == len(gradients), none=gradients.count(None))
claim("Each slope by a small step is zero", (slopes == 0).all(), not_zero=(slopes != 0).sum())
claim("Training moves the readers, and not the scorer", max(moves[:4]) == 0 < min(moves[4:]), readers=max(moves[4:]))

# %% [markdown] slideshow={"slide_type": "notes"}
# Three times nothing. Not a small gradient: none. The talk says "gradient almost always zero!" Where it is not zero, it
# does not exist: there the choice jumps.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Each slope is zero, that of the expected loss is not
#
# Add $t$ to each score of "middle". As $t$ rises, some images change to the middle, and their losses jump. Loss of an
# image: a **step**. *Expected* loss $E$, the mean over all that could be drawn: a **slope**.
#
# $$\frac{d}{dt} \, E[\text{loss}] \;=\; \underbrace{E[\text{slope}]}_{0} \;+\;
# \underbrace{\text{density: how many change per } t}_{\ge\, 0} \;\times\;
# \underbrace{\text{their mean jump}}_{\text{gives the sign}}$$

# %% [markdown] slideshow={"slide_type": "notes"}
# The *expected* loss, $E$, is the mean over all images and scorers that we could draw. An image that reads another band
# changes to the middle at one value of $t$, where the middle catches up with its best rival. Before and after, its loss
# is flat. If these values are spread *continuously*, then among all that could be drawn a few change in each step
# of $t$, however small. The **density** says how many per unit of $t$ (it may be larger than 1). Density times mean
# jump is the slope. (Mathematics: if the boundary of an integral moves, its derivative has a term for the boundary,
# Leibniz's rule. Backpropagation computes the other term. That one is zero.)
#
# **Which sign?** Images only change *to* the middle. Each jump is the loss of the middle minus the loss of the band
# that was read before. Not each is negative, but the middle is the best single band. So for an *untrained* scorer,
# whose boundaries lie anywhere, we expect a **negative** slope. (For the best $t$ that a scorer can have, rises and
# falls balance, or none change: slope 0.)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: the slope of an expected loss ★★☆ 5 min
#
# On paper. Two options. The loss is 0.5 with this option and 1.7 with the other one, for every image. The lead of this
# option, its score minus the other's, is spread evenly from −2 to 2. Everybody's score of this option rises by a small
# $t$. What is the slope of the expected loss in $t$, with its sign?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
slope_of_expected = ...

check("boundary_slope", slope_of_expected)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# with t more, the images whose lead was between -t and 0 change: a share t / 4, so 1/4 per unit of t
# each of them pays 0.5 in place of 1.7: a jump of -1.2
check("boundary_slope", 1 / 4 * (0.5 - 1.7))

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Small steps of a staircase

# %% [markdown] slideshow={"slide_type": "skip"}
# Can we *estimate* that slope from 54,000 choices? We add a nudge to all scores of the middle and divide the change of
# the mean loss by the nudge. Few choices change if the nudge is small, and the jump of each is divided by a small
# number. So expect noise. The last column is the standard error, from the spread over the 100 scorers and over the 540
# images (what is in both is subtracted once); trust what is several times as large. (All share one set of readers: it
# says nothing about others.)


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The standard error of a mean over 100 scorers and 540 images
def standard_error(jump):  # luck of the scorers, luck of the images; what is in both, once
    variance = jump.mean(1).var() / 100 + jump.mean(0).var() / 540 - jump.var() / 54_000
    return variance.clamp(min=0).sqrt().item()


# %% slideshow={"slide_type": "-"}
measured = {}
print("  nudge  choices that change  loss falls   rises   change / nudge   standard error")
for nudge in (1e-8, 1e-4, 1e-3, 1e-2, 1e-1):
    jump = loss_at(scores + nudge * towards_middle) - loss_at(scores)  # (100, 540)
    slope, error = jump.mean().item() / nudge, standard_error(jump) / nudge
    fall, rise = (jump < 0).sum().item(), (jump > 0).sum().item()
    measured[nudge] = fall, rise, slope, error
    print(f"{nudge:7g}{fall + rise:21,}{fall:12,}{rise:8,}{slope:+17.3f}", f"{error:16.3f}" if error else f"{'–':>16}")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: the two factors of the slope, and the claims
jump = loss_at(scores + 0.1 * towards_middle) - loss_at(scores - 0.1 * towards_middle)
changed = jump != 0
density, mean_jump = changed.double().mean().item() / 0.2, jump[changed].mean().item()
slope = jump.mean().item() / 0.2
print(f"from -0.1 to 0.1: {density:.2f} of the choices change per unit, times a mean jump of {mean_jump:+.3f}")
print(f"slope: {density * mean_jump:+.3f}")
torch.testing.assert_close(density * mean_jump, slope)
fall, rise, wide, error = measured[1e-1]
claim("The estimated slope is between -0.25 and -0.1", -0.25 < slope < -0.1, slope=slope)
claim("Nothing changes for a nudge of 1e-8", measured[1e-8][:2] == (0, 0), slope=measured[1e-8][2])
claim(
    "For 0.01 and 0.1 the slope is negative, by more than three standard errors",
    all(m[2] < -3 * m[3] for m in (measured[1e-2], measured[1e-1])),
    at_a_hundredth=measured[1e-2][2],
    at_a_tenth=wide,
)
claim("More than twice as many losses fall as rise", fall > 2 * rise, fall=fall, rise=rise)
claim(
    "The error is more than twice as large for 0.001 as for 0.1",
    measured[1e-3][3] > 2 * error,
    at_a_thousandth=measured[1e-3][3],
    at_a_tenth=error,
)

# %% [markdown] slideshow={"slide_type": "notes"}
# As predicted: for a nudge of 0.1, more than two losses fall for each one that rises, and the slope is negative. (The
# other estimate, from −0.1 to 0.1, is between −0.1 and −0.25.) For 0.001 few of the 54,000 choices change, and the
# error is more than twice that of 0.1. For 0.0001 one or a handful change: the number printed is noise. And for
# $10^{-8}$ nothing changes: there is nothing to estimate from.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Steps, and the mean of many

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: four images, and the mean over all choices
shifts = torch.linspace(-1, 1, 81).double()
curve = torch.stack([loss_at(scores + shift * towards_middle).mean() for shift in shifts])
stairs = torch.stack([loss_at(scores + shift * towards_middle)[0] for shift in shifts], -1)  # (540, 81)
jumps = (stairs[:, 0] - stairs[:, -1]).abs()
shown = [i for i in range(540) if 0.4 < jumps[i] < 3][:4]
fig, (left, right_panel) = plt.subplots(1, 2, figsize=(10, 3.9))
plots.curves(left, shifts, {f"image {n}": [stairs[i]] for n, i in enumerate(shown)})
for line in left.lines:
    line.set(marker="", drawstyle="steps-mid")
right_panel.plot(shifts, curve, lw=2.5, label="mean over 54,000 choices")
right_panel.plot(
    shifts, curve[40] + slope * shifts, ls="--", color="0.4", lw=1.5, label=f"from −0.1 to 0.1: {slope:.3f} per unit"
)
left.set(xlabel='added to the score of "middle"', ylabel="loss", title="four images with large jumps")
left.set_ylim(0, 1.4 * stairs[shown].max())
left.legend(frameon=False, ncols=2, loc="upper center", fontsize="small")
right_panel.set(xlabel='added to the score of "middle"', title="the mean", ylim=(0, 0.75))
right_panel.legend(frameon=False, loc="upper right")
show(
    fig,
    "Left: the loss of each of four images is a step function of what is added to the score of the middle band. "
    "Right: the mean over 54,000 choices, a staircase too fine to be seen, falls around 0. A dashed line has the slope "
    "of its change from −0.1 to 0.1, an estimate for the expected loss.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# (The four were picked because their jumps can be seen; how many rise among four means nothing.) The curve on the right
# looks smooth. It is a staircase too, of many small steps: a mean of 54,000 staircases is one, and its slope is zero
# wherever it has one. The row of $10^{-8}$ shows it. What has another slope is the *expected* loss that it estimates.
# So there *is* something to follow, and backpropagation, which differentiates each image, does not see it.
#
# That is also the way out. Notebook 02 adds *noise* to the scores. Then already the choice of a single image has an
# expected loss, a smooth curve, and the question is how to estimate its slope. Here decisions stay untrained. We ask
# what they are for.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## K = 2: keep or discard
#
# Only the difference of two scores matters. So give "discard" the score 0: argmax becomes *score ≥ 0*.

# %% [markdown] slideshow={"slide_type": "skip"}
# This is a **gate**: open or closed, run or skip. Here is one around a transformer block (or any function $f$ whose
# output has the shape of its input): each example has a score, linear in its first token, and examples whose score is
# negative pass by unchanged. The block is not called for them. In the library: `SkippableBlock`, which returns the
# output and its choice. And softmax of (score, 0) is a sigmoid; `keep_or_discard` builds these pairs.


# %% slideshow={"slide_type": "-"}
def skip(x, block, score):  # x: (B, T, D)
    s = score(x[:, 0]).squeeze(-1)  # (B,) one score for each example
    runs = s >= 0  # the argmax of (s, 0): a tie runs
    y = x.clone()
    y[runs] = block(x[runs])  # only these are computed
    return y


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Compare with SkippableBlock, on six random examples of 16 tokens
layer = SkippableBlock(32, Block(32, 4), argmax).eval()
x = torch.randn(6, 16, 32)
nn.init.zeros_(layer.gate.score.bias)  # new, it prefers to run
torch.testing.assert_close(skip(x, layer.body, layer.gate.score), layer(x)[0])
s = layer.gate.score(x[:, 0]).squeeze(-1)
torch.testing.assert_close(softmax(keep_or_discard(s)).weights[:, 0], s.sigmoid())
print("runs:", (s >= 0).tolist())

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Sixteen gates: 65,536 ways to look


# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: sixteen patches, sixteen scores, what is kept
def surprise(images):
    """How far each patch is from that patch of the mean digit: (B, 8, 8) → (B, 16)."""
    return (cut(images) - cut(data.train_x.mean(0, keepdim=True))).abs().sum(-1)


image = data.test_x[3]
rule = surprise(image.unsqueeze(0))[0] - surprise(data.train_x).median()  # a score by rule of thumb
keep = argmax(keep_or_discard(rule)).weights[:, 0].reshape(4, 4).repeat_interleave(2, 0).repeat_interleave(2, 1)
fig, axes = plt.subplots(1, 3, figsize=(10, 3.7))
axes[0].imshow(image, cmap="gray_r", vmin=0, vmax=1)
axes[1].imshow(rule.reshape(4, 4), cmap="vlag", vmin=-1.5, vmax=1.5)
for k in range(16):
    axes[1].text(k % 4, k // 4, f"{rule[k]:.2f}", ha="center", va="center", fontsize="small")
axes[2].imshow(torch.where(keep > 0, image, torch.nan), cmap="gray_r", vmin=0, vmax=1)
for ax, title in zip(axes, ["16 patches", "16 scores", f"{int(keep.sum()) // 4} kept"], strict=True):
    ax.set(xticks=[], yticks=[], title=title)
    ax.spines[:].set_visible(True)
    lines = np.arange(0.5, 3) if title == "16 scores" else np.arange(1.5, 7, 2)
    ax.hlines(lines, *ax.get_xlim(), color="0.75", lw=1)
    ax.vlines(lines, *ax.get_ylim(), color="0.75", lw=1)
for k in (rule < 0).nonzero().flatten().tolist():
    corner = (2 * (k % 4) - 0.5, 2 * (k // 4) - 0.5)
    axes[2].add_patch(plt.Rectangle(corner, 2, 2, fc="0.93", ec="0.6", hatch="//", lw=0))
fig.get_layout_engine().set(wspace=0.1)
show(fig, "A digit in sixteen patches, a score for each, and what is kept: a patch with a negative score is hatched.")

# %% [markdown] slideshow={"slide_type": "notes"}
# The scores in the picture are a rule of thumb: how unusual is the patch? One gate is easy. But gates come in groups,
# and $n$ of them have $2^n$ settings: 65,536 for sixteen patches. To keep exactly 8 of the 16, there are 12,870 ways.
# For each image. So one scores each gate on its own, or changes one gate at a time. At the end of this notebook we see
# how that can fail.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: how many tries ★☆☆ 2 min
#
# On paper. You close eight of 16 gates, one by one: try for each open gate what closing it would cost, close the
# cheapest, and try again among those that are left, until eight are open. How many tries is that?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
how_many = ...

check("tries", how_many)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
check("tries", sum(range(9, 17)))  # 16 in the first round, 9 in the eighth

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Three places to decide

# %% slideshow={"slide_type": "-"} tags=["figure:three_sparsities", "fold"]
# @title Draw: input, layer and block sparsity
every, parts = [1] * 16, [[1] * 8] * 4
half = [0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1, 0]
some = [[1, 0, 0, 1, 0, 1, 1, 0], [0, 1, 1, 0, 1, 0, 0, 1], [1, 1, 0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 0, 1, 0]]
fig, axes = plt.subplots(1, 3, figsize=(10, 4.1))
settings = (half, [1] * 4, parts), (every, [1, 0, 1, 0], parts), (every, [1] * 4, some)
titles = ["input: drop patches", "layer: skip blocks", "block: switch off parts"]
notes = ["left four: attention heads", "outline: not executed", "right four: slices of the MLP"]
for ax, setting, title, note in zip(axes, settings, titles, notes, strict=True):
    plots.partial_network(ax, data.test_x[3], *setting).set_title(title)
    ax.text(1.55, -0.1, note, color="0.25", ha="center", va="top", fontsize="small")
show(
    fig,
    "Three drawings of one network: a digit in 16 patches, four blocks above it, each with four attention heads and "
    "four slices of an MLP. Left: half of the patches dropped. Middle: two blocks skipped, with an arrow around each. "
    "Right: half of the heads and slices switched off.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The talk's three kinds of modular sparsity, on one small transformer:
#
# | sparsity | what it drops | what a decision looks at | data that it may suit |
# |:--|:--|:--|:--|
# | **input** | patches (tokens) | each patch itself | many pieces, most of them empty |
# | **layer** | whole blocks | what enters the block | some easy, some hard examples |
# | **block**, or feature | heads, slices of the MLP | what enters the block | examples of several kinds |
#
# (A block *adds* to its input: without it, the input passes.) All are keep-or-discard, and all may differ from image to
# image. The saving is real only if what is discarded is **not executed**. Multiplying by zero afterwards saves nothing;
# a patch of zeros is still a token, which costs as much.

# %% [markdown] slideshow={"slide_type": "skip"}
# The network is a `Reader` of the library: it cuts the image into sixteen patches of 2 × 2 pixels, makes a token of
# width $D = 32$ of each, applies four transformer blocks, takes the mean over the tokens, and a linear head. A token is
# a linear map of the four pixels (`embed`) plus a learnt vector for the patch's position (`place`): so a kept patch
# brings its place along, and the mean takes any number of tokens. Nothing in the training prepares it for missing
# parts. We train it live for 200 steps.

# %% slideshow={"slide_type": "skip"}
net = train("whole", steps=200, seed=seed)[0]
images, n = data.test_x, len(data.test_x)


def accuracy(logits):
    return (logits.argmax(-1) == data.test_y).float().mean().item()


with torch.no_grad():
    print(f"test accuracy, everything executed: {accuracy(net(images)):.2f}")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Input and layer sparsity in ten lines
#
# Dropping is indexing. Skipping is $K = 2$: the block, or the identity.

# %% [markdown] slideshow={"slide_type": "skip"}
# `gather` picks the pixels of the kept patches; the others never enter. To skip is the gate from above, with given
# decisions: the block runs on the images that want it, all of them together.


# %% slideshow={"slide_type": "-"}
def drop_patches(net, images, keep):  # keep: (B, m), numbers of the kept patches
    pixels = cut(images).gather(1, keep.unsqueeze(-1).expand(-1, -1, 4))  # (B, m, 4)
    x = net.embed(pixels) + net.place[keep]  # (B, m, D): what is there, and where
    return net.head(net.body(x).mean(1))


def skip_blocks(net, images, run):  # run: (B, 4), 1 runs a block, 0 skips it
    x = net.tokens(images)
    for block, z in zip(net.body.blocks, run.unbind(1), strict=True):
        rows = z.nonzero().squeeze(1)
        x = x.index_copy(0, rows, block(x[rows]))
    return net.head(net.body.norm(x).mean(1))


# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Block sparsity: a layer is a sum

# %% [markdown] slideshow={"slide_type": "skip"}
# Attention concatenates its four heads and multiplies by one matrix $W$. Cut $W$ into columns, eight for each head:
#
# $$\text{concat}(\text{head}_0, \dots, \text{head}_3) \, W^\top = \sum_k \text{head}_k W_k^\top$$
#
# The hidden layer of an MLP can be cut the same way: `slices` returns functions whose sum is the MLP, without its last
# bias. So both layers are $\sum_k z_k f_k(x)$ plus a bias, with all $z_k = 1$, and block sparsity sets some to 0. (A
# mixture of experts, notebook 08, is such a sum from the start.)


# %% slideshow={"slide_type": "-"}
def slices(mlp, n=4):  # mlp(x) = Σ_k slice_k(x) + bias
    up, act, down = mlp

    def one(u):  # u: the hidden units of the slice
        W, b, W_down = up.weight[u], up.bias[u], down.weight[:, u]
        return lambda x: F.linear(act(F.linear(x, W, b)), W_down)

    return [one(u) for u in torch.arange(up.out_features).chunk(n)]


# %% [markdown] slideshow={"slide_type": "skip"}
# The same for attention. Queries, keys and values come from one matrix (3D, D), in this order. A head owns the same few
# rows of each, and those columns of the output matrix.


# %% slideshow={"slide_type": "skip"}
def heads(attention):  # attention(x) = Σ_k head_k(x) + bias
    into, out = attention.query_key_value, attention.output
    D = out.in_features

    def one(c):  # c: the columns of the head, (D / 4,)
        rows = torch.cat([c, c + D, c + 2 * D])  # of its queries, keys, values: (3D / 4,)
        W, b, W_out = into.weight[rows], into.bias[rows], out.weight[:, c]
        return lambda x: F.linear(F.scaled_dot_product_attention(*F.linear(x, W, b).chunk(3, -1)), W_out)

    return [one(c) for c in torch.arange(D).chunk(attention.n_heads)]


# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Block sparsity: run some of the parts

# %% [markdown] slideshow={"slide_type": "skip"}
# The network is cut once. Then a block runs some of its parts: `mix_sparse` runs part $k$ on the images that keep it.

# %% slideshow={"slide_type": "-"}
parts = [(heads(block.attention), slices(block.mlp)) for block in net.body.blocks]


def switch_parts(net, images, on):  # on: (B, 4, 8), ones for the heads and slices that run
    x = net.tokens(images)
    for block, z, (head, slice_) in zip(net.body.blocks, on.unbind(1), parts, strict=True):
        x = x + mix_sparse(block.norm_1(x), z[:, :4], head) + block.attention.output.bias
        x = x + mix_sparse(block.norm_2(x), z[:, 4:], slice_) + block.mlp[2].bias
    return net.head(net.body.norm(x).mean(1))


# %% [markdown] slideshow={"slide_type": "skip"}
# One live look: a random half, another one for each image, two heads and two slices in each block. (The folded cell
# compares all three with the library's `packed`, `SkippableBlock`, `GatedHeads` and `GatedChannels`; it stops if they
# differ.)

# %% slideshow={"slide_type": "skip"}
keep = torch.rand(n, 16).argsort(-1)[:, :8]  # the numbers of eight patches
run, on = at_random(n, 4), random_parts(n)  # ones for two blocks, (n, 4); for half of the parts, (n, 4, 8)
with torch.no_grad():
    print(f"half of the patches, at random  {accuracy(drop_patches(net, images, keep)):.2f}")
    print(f"half of the blocks,  at random  {accuracy(skip_blocks(net, images, run)):.2f}")
    print(f"half of the parts,   at random  {accuracy(switch_parts(net, images, on)):.2f}")


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Compare the three with the library's layers
def decided(z):  # a way to choose that keeps where z is 1, whatever the scores
    return lambda logits: argmax(keep_or_discard(z - 0.5))


mask = torch.zeros(n, 16).scatter(1, keep, 1.0)
with torch.no_grad():
    x = packed(net.body, net.tokens(images), mask)[mask > 0].unflatten(0, (n, 8))
    torch.testing.assert_close(drop_patches(net, images, keep), net.head(x.mean(1)))
    x = y = net.tokens(images)
    for block, r, z in zip(net.body.blocks, run.split(1, 1), on.unbind(1), strict=True):
        x = SkippableBlock(32, block, argmax, at_test=decided(r)).eval()(x)[0]
        y = y + GatedHeads(block.attention, argmax, at_test=decided(z[:, :4])).eval()(block.norm_1(y))[0]
        by_token = decided(z[:, None, 4:].expand(-1, 16, -1))
        y = y + GatedChannels(block.mlp, 4, argmax, at_test=by_token).eval()(block.norm_2(y))[0]
    torch.testing.assert_close(skip_blocks(net, images, run), net.head(net.body.norm(x).mean(1)))
    torch.testing.assert_close(switch_parts(net, images, on), net.head(net.body.norm(y).mean(1)))

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: what a block costs ★★☆ 10 min · optional
#
# Before you skip something, know its price. Write `block_flops(n_tokens, d_model)`: the FLOPs (additions and
# multiplications) of one transformer block for one image. An $n \times m$ matrix times an $m \times p$ matrix costs
# $2nmp$, and only matrix products count. The block has queries, keys and values ($D \to 3D$), attention (tokens by
# tokens, for the scores and for the mean of the values; the number of heads cancels), an output ($D \to D$), and an MLP
# ($D \to 4D \to D$). Then: half of the tokens, what share of the work? And half of the width?


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
# half of the tokens: nearly half; half of the width: about a quarter, as 24 T D² is the larger term
for tokens, width in ((8, 32), (16, 16)):
    print(f"{tokens} tokens, width {width}: {block_flops_solution(tokens, width) / block_flops_solution(16, 32):.3f}")
print(f"four blocks: {4 * block_flops_solution(16, 32):,}; embedding and head come on top")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Half of the FLOPs: half of the time? · optional

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Each kind executes about half of the FLOPs, with another random half for each image. Which take clearly
# less time than the whole network?
#
# <details><summary>A. All three.</summary>
#
# **No.** Equal FLOPs need not be equal time. Many small products cost more than one large product.
#
# </details>
#
# <details><summary>B. Dropping patches and skipping blocks.</summary>
#
# **Yes.** They do the same operations on smaller tensors. Eight small parts in each block are another matter.
#
# </details>
#
# <details><summary>C. Skipping blocks only.</summary>
#
# **Nearly.** With half of the tokens all tensors are half as large, so dropping patches is fast as well.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# We count FLOPs and measure time in a batch of 180 images. All parts are cut beforehand, and the decisions are given (a
# linear scorer would add about a thousandth of the FLOPs). Where does time get lost? We take causes away one by one:
#
# - **by image**: the rows of each block or part are collected, computed, put back;
# - **two groups**: one half of the network for images 0–89, the other half for 90–179. As many products of about
#   the same size, nothing to collect;
# - **same for all**: half as many parts, each on all 180 images;
# - **half a network**: that half as a network of its own, heads and slices in one matrix each.


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Prepare: blocks of half the size
class HalfBlock(nn.Module):
    """The first two heads and two slices of a block: matrices of half the size."""

    def __init__(self, block):
        super().__init__()
        into, out, (up, self.act, down) = block.attention.query_key_value, block.attention.output, block.mlp
        self.norm_1, self.norm_2 = block.norm_1, block.norm_2
        rows = torch.cat([torch.arange(16) + 32 * i for i in range(3)])
        weights = into.weight[rows], out.weight[:, :16], up.weight[:64], down.weight[:, :64]
        self.into, self.out, self.up, self.down = (w.detach().contiguous() for w in weights)
        self.biases = [b.detach() for b in (into.bias[rows], out.bias, up.bias[:64], down.bias)]

    def forward(self, x, kept=None):
        b_into, b_out, b_up, b_down = self.biases
        q, k, v = F.linear(self.norm_1(x), self.into, b_into).unflatten(-1, (3, 2, 8)).movedim(2, 0).transpose(2, 3)
        said = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + F.linear(said, self.out, b_out)
        return x + F.linear(self.act(F.linear(self.norm_2(x), self.up, b_up)), self.down, b_down)


def with_blocks(net, blocks):
    small = Reader(n_layers=len(blocks))
    small.embed, small.place, small.head, small.body.norm = net.embed, net.place, net.head, net.body.norm
    small.body.blocks = nn.ModuleList(blocks)
    return small


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Prepare: parts that are added up
def sum_of_parts(net, images, groups):  # images in equal groups, each with its own parts, the same in all blocks
    x = net.tokens(images)
    for block, (head, slice_) in zip(net.body.blocks, parts, strict=True):
        for norm, functions, bias in (
            (block.norm_1, head, block.attention.output.bias),
            (block.norm_2, slice_, block.mlp[2].bias),
        ):
            h = norm(x).chunk(len(groups))
            x = x + torch.cat([sum(functions[k](rows) for k in on) for rows, on in zip(h, groups, strict=True)]) + bias
    return net.head(net.body.norm(x).mean(1))


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Prepare: what is measured
first, last = with_blocks(net, net.body.blocks[:2]), with_blocks(net, net.body.blocks[2:])
narrower = with_blocks(net, [HalfBlock(block) for block in net.body.blocks])
whole_network = lambda net, images, _: net(images)  # noqa: E731
few, m = images[:180], 180
ways = {
    ("whole", ""): (whole_network, net, None),
    ("input", "by image"): (drop_patches, net, keep[:m]),
    ("layer", "by image"): (skip_blocks, net, at_random(m, 4)),
    ("layer", "two groups"): (
        lambda nets, x, _: torch.cat([f(h) for f, h in zip(nets, x.chunk(2), strict=True)]),
        [first, last],
        None,
    ),
    ("layer", "half a network"): (whole_network, first, None),
    ("block", "by image"): (switch_parts, net, random_parts(m)),
    ("block", "two groups"): (sum_of_parts, net, [[0, 1], [2, 3]]),
    ("block", "same for all"): (sum_of_parts, net, [[0, 1]]),
    ("block", "half a network"): (whole_network, narrower, None),
}

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Check that equal decisions give equal results
second_half = (torch.arange(m) >= 90).long()  # the group of each image
two_blocks, two_parts = (
    torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]]),
    torch.tensor([[1.0, 1, 0, 0] * 2, [0, 0, 1, 1] * 2]),
)
expected = {
    ("layer", "two groups"): skip_blocks(net, few, two_blocks[second_half]),
    ("layer", "half a network"): skip_blocks(net, few, two_blocks[[0] * m]),
    ("block", "two groups"): switch_parts(net, few, two_parts[second_half, None].expand(-1, 4, -1)),
    ("block", "same for all"): switch_parts(net, few, two_parts[[0] * m, None].expand(-1, 4, -1)),
    ("block", "half a network"): switch_parts(net, few, two_parts[[0] * m, None].expand(-1, 4, -1)),
}
with torch.no_grad():
    for name, y in expected.items():
        f, model, z = ways[name]
        torch.testing.assert_close(f(model, few, z), y)

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess", "varies"]
# @title Open after your guess: FLOPs and milliseconds
with torch.no_grad():
    flops = {name: count_flops(f, model, few, z) / m for name, (f, model, z) in ways.items()}
    times = dict.fromkeys(ways, np.inf)
    for _ in range(20):  # the calmest moment of twenty rounds
        for name, (f, model, z) in ways.items():
            times[name] = min(times[name], wall_time(f, model, few, z, min_seconds=0.03).low)
print("                           FLOPs an image   share    ms for 180 images   share")
for name in ways:
    counted, took = flops[name], times[name]
    print(f"{' '.join(name):25}{counted:16,.0f}{counted / flops['whole', '']:8.2f}", end="")
    print(f"{1e3 * took:21.1f}{took / times['whole', '']:8.2f}")
share = {name: times[name] / times["whole", ""] for name in ways}

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess", "varies"]
# @title The claims about FLOPs and milliseconds
per_block = 24 * 16 * 32**2 + 4 * 16**2 * 32  # the exercise
two_left = flops["whole", ""] - 2 * per_block
claim(
    "Layer and block sparsity save exactly two blocks of four",
    flops["layer", "by image"] == flops["block", "by image"] == two_left,
    flops=two_left,
)
claim(
    "Half of the patches costs a little less: attention is quadratic",
    flops["input", "by image"] < two_left,
    flops=flops["input", "by image"],
)
claim(
    "Input and layer sparsity take less than 0.8 of the time",
    share["input", "by image"] < 0.8 and share["layer", "by image"] < 0.8,
    clock=True,
    input=share["input", "by image"],
    layer=share["layer", "by image"],
)
claim(
    "Block sparsity by image is slower than the whole network",
    share["block", "by image"] > 1,
    clock=True,
    block=share["block", "by image"],
)
of_block = {way: took for (kind, way), took in share.items() if kind == "block"}
claim(
    "Without collecting rows block sparsity is faster by 0.15 or more",
    of_block["by image"] - of_block["two groups"] > 0.15,
    clock=True,
    by_image=of_block["by image"],
    two_groups=of_block["two groups"],
)
claim(
    "In one matrix each, the same parts are faster by 0.15 or more",
    of_block["same for all"] - of_block["half a network"] > 0.15,
    clock=True,
    for_all=of_block["same for all"],
    half_a_network=of_block["half a network"],
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Counted, and measured by the clock · optional

# %% slideshow={"slide_type": "-"} tags=["fold", "guess", "varies"]
# @title Draw: the share of FLOPs and of time
fig, ax = plt.subplots(figsize=(10, 3.8))
bars_of = {name: took for name, took in share.items() if name[1]}
labels = [f"{kind},\n" + way.replace(" ", "\n", 1) for kind, way in bars_of]
plots.bars(ax, labels, {"": list(bars_of.values())})
for (kind, _), bar in zip(bars_of, ax.patches, strict=True):
    bar.set_facecolor({"input": "C0", "layer": "C1", "block": "C2"}[kind])
for number in ax.texts:
    number.set_bbox({"fc": "white", "ec": "none", "pad": 1})  # no line through it
for y, text in ((1, "the whole network"), (0.5, "half of it")):
    ax.axhline(y, color="0.3", lw=1, ls=":")
    ax.text(7.55, y + 0.02, text, color="0.3", fontsize="small")
ax.set(ylabel="share of the time", ylim=(0, 1.15 * max(bars_of.values())), xlim=(-0.5, 9.2))
text = "; ".join(f"{kind} {way} {took:.2f}" for (kind, way), took in bars_of.items())
show(fig, f"Bars: share of the whole network's time that its halves take. {text}.")

# %% [markdown] slideshow={"slide_type": "notes"}
# All execute about half of the FLOPs. To drop patches or skip blocks saves time, too: both take less than 0.8 of the
# whole network's. (The two shares need not be equal; why they differ we did not measure.) Block sparsity by image is
# *slower* here than the whole network. Without collecting rows it is faster, by 0.15 or more; one matrix in place of
# several parts is faster by 0.15 or more again. What the step between changes, half as many products of twice the size,
# read in your own table. So a saving on paper has to be *arranged* before it is one on the clock: notebooks 05 and 09.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Which half? Eight patches of sixteen

# %% [markdown] slideshow={"slide_type": "skip"}
# Random halves lost much accuracy. But the network never met missing patches, and nobody asked *which* to drop. So the
# following figures are a **record**: five networks, 400 steps each, tested with many halves. Some rules choose *by
# image*: random patches, those with most ink, those that differ most from the mean digit ("most surprising"). Others
# keep *the same for all images*: the top half, the patches that vary most over the training digits (here the two middle
# columns), and eight found by closing one gate at a time, as in the exercise, on validation digits. A simple rival is a
# network that was trained *from the start* with eight fixed patches, those that vary most. Each kind of network has the
# learning rate, of 0.001, 0.003 and 0.01, that does best on validation digits. That is 0.001, the lowest: a still lower
# one may be better. And what a network can lose depends on its rate, as we shall see. (The live network: 0.003.)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Read the record
record = recorded.load("discrete_decisions")
best = {}
for kind in KINDS:
    at = {lr: [e for e in record["entries"] if (e["kind"], e["lr"]) == (kind, lr)] for lr in record["grid"]["lr"]}
    best[kind] = max(at.values(), key=lambda entries: np.mean([e["validation"] for e in entries]))
    values, lr = [e["test"] for e in best[kind]], best[kind][0]["lr"]
    print(f"{kind:18} learning rate {lr:g}: {np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
dense = np.array([e["test"] for e in best["whole"]])


def of(*keys, lr=0.001):
    """The values of the five whole networks."""
    found = [e for e in record["entries"] if (e["kind"], e["lr"]) == ("whole", lr)]
    for key in keys:
        found = [e[key] for e in found]
    return np.array(found)


def bars_of_five(ax, values, colours, label, dense=dense):
    """A bar for each mean, a dot for each network, the whole network as a line."""
    plots.bars(ax, list(values), {"": [v.mean() for v in values.values()]}, fmt="")
    for i, (v, colour) in enumerate(zip(values.values(), colours, strict=True)):
        ax.patches[i].set_facecolor(colour)
        ax.plot([i] * len(v), v, "o", ms=5, mfc="white", mec="0.15", clip_on=False)
        inside = v.min() > 0.095  # room for the number in the bar
        height, colour = (0.02, "white") if inside else (v.max() + 0.03, "0.15")
        ax.text(i, height, f"{v.mean():.2f}", ha="center", fontsize="small", color=colour, weight="bold")
    ax.axhline(dense.mean(), color="0.4", lw=1, ls=":")
    ax.set(ylim=(0, 1.12), ylabel="test accuracy", xlabel=label)
    ax.set_yticks(np.arange(0, 1.01, 0.2))


def name_colours(fig, *colours):
    """What the three colours of these bars mean."""
    names = {"C0": "chosen by image", "C1": "the same for all images", "C2": "trained with a fixed half"}
    squares = [plt.Rectangle((0, 0), 1, 1, fc=colour) for colour in colours]
    meant = [names[colour] for colour in colours]
    fig.legend(squares, meant, frameon=False, ncols=3, loc="outside upper center", fontsize="small")


# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: eight patches of sixteen, by several rules
by_image = {"random": of("by image", "input", 1)}
by_image |= {rule.replace(" ", "\n"): of("patches", rule) for rule in ("most ink", "most surprising")}
for_all = {rule.replace(" ", "\n"): of("patches", rule) for rule in ("top half", "most varied")}
for_all["removed\none by one"] = of("patches", "removed one by one")
trained = {"trained\nso": np.array([e["test"] for e in best["8 patches"]])}
fig, ax = plt.subplots(figsize=(10, 4.1))
bars_of_five(ax, by_image | for_all | trained, ["C0"] * 3 + ["C1"] * 3 + ["C2"], "")
name_colours(fig, "C0", "C1", "C2")
ax.text(-0.4, dense.mean() + 0.02, "all 16 patches", color="0.3", fontsize="small")
ax.set_title(f"dots: five networks; {record['label']}", fontsize="small", color="0.3", pad=2)
show(
    fig,
    "Mean test accuracy with 8 of 16 patches: "
    + ", ".join(f"{name} {v.mean():.2f}" for name, v in (by_image | for_all | trained).items()).replace("\n", " ")
    + f"; the whole network {dense.mean():.2f}. The first three choose by image.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about the patches
patches = {rule: of("patches", rule) for rule in best["whole"][0]["patches"]}
random_half, found, eight = of("by image", "input", 1), patches["removed one by one"], trained["trained\nso"]
surprising, varied, ink = (patches[rule] for rule in ("most surprising", "most varied", "most ink"))
spread = cut(data.train_x[:1000].std(0).unsqueeze(0)).sum(-1)[0]
claim(
    "The patches that vary most are the two middle columns",
    sorted(spread.topk(8).indices.tolist()) == [k for k in range(16) if k % 4 in (1, 2)],
)
claim(
    "Random patches lose about half of the accuracy",
    0.4 < random_half.mean() / dense.mean() < 0.6,
    random=random_half.mean(),
    whole=dense.mean(),
)
claim(
    "Most ink is worse than random by 0.05 or more, on average",
    ink.mean() < random_half.mean() - 0.05,
    ink=ink.mean(),
    random=random_half.mean(),
)
claim(
    "Most surprising gains more than 0.2, on average",
    surprising.mean() > random_half.mean() + 0.2,
    surprising=surprising.mean(),
    random=random_half.mean(),
)
claim(
    "A fixed set, most varied, does as well to within 0.05",
    abs(varied.mean() - surprising.mean()) < 0.05,
    fixed=varied.mean(),
    by_image=surprising.mean(),
)
claim(
    "A fixed set, removed one by one, gains 0.1 more, and leads in four of five networks",
    found.mean() > surprising.mean() + 0.1 and (found > surprising).sum() == 4,
    fixed=found.mean(),
    by_image=surprising.mean(),
)
leads = [(of("patches", "removed one by one", lr=lr) - of("patches", "most surprising", lr=lr)).mean() for lr in at]
claim("Removed one by one leads by 0.1, on average, at each of the three rates", min(leads) > 0.1, smallest=min(leads))
claim(
    "A network trained with eight patches is within 0.01 of the whole one",
    abs(eight.mean() - dense.mean()) < 0.01,
    eight=eight.mean(),
    whole=dense.mean(),
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Which half runs matters a great deal, at equal cost. But look at the controls. "Keep where the ink is" sounds right,
# and on average is worse than a random half in these networks. "Most surprising" looks at each image, and one fixed
# set, "most varied", is within 0.05 of it on average; a fixed set that was searched for is ahead in four networks of
# five, and on average at all three rates. And a network *trained* with eight fixed patches is within 0.01 of the whole
# one. So on these easy digits half of the patches is enough, and a decision by image has to beat *that*. This does not
# show that it cannot: none of these rules was learnt, and the whole network never practised with missing patches
# (notebook 05).

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Which half? Two blocks of four · optional

# %% [markdown] slideshow={"slide_type": "skip"}
# The same question for blocks. There are only six pairs, so the record has them all, each the same for all images. Can
# a rule find the best one? *Costly to skip alone* keeps the two blocks whose skipping, one at a time, raises the
# validation loss most. *Changes its input most* keeps those with the largest mean of |block(x) − x| / |x|. The figure
# shows the networks of two learning rates, 0.001 and 0.003, which differ by less than 0.02 with everything open; the
# table below has all three rates.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: pairs of blocks
every_pair = [f"{i}, {j}" for i in range(4) for j in range(i + 1, 4)]
as_bits = {pair: "".join(str(int(str(k) in pair)) for k in range(4)) for pair in every_pair}
pairs = {lr: {pair: of("blocks", bits, lr=lr) for pair, bits in as_bits.items()} for lr in record["grid"]["lr"]}
two = np.array([e["test"] for e in best["2 blocks"]])
fig, axes = plt.subplots(1, 2, figsize=(10, 3.9), sharey=True)
for ax, lr in zip(axes, (0.001, 0.003), strict=True):
    so = [e["test"] for e in record["entries"] if (e["kind"], e["lr"]) == ("2 blocks", lr)]
    both = pairs[lr] | {"trained\nso": np.array(so)}
    bars_of_five(ax, both, ["C1"] * 6 + ["C2"], "", dense=of("test", lr=lr))
    ax.set_title(f"learning rate {lr:g}", fontsize="medium")
axes[1].set_ylabel("")
axes[0].text(-0.4, dense.mean() + 0.02, "all four blocks", color="0.3", fontsize="small")
name_colours(fig, "C1", "C2")
fig.supxlabel(f"which two blocks run (dots: five networks; {record['label']})", fontsize="small")
means = "; ".join(
    f"rate {lr:g}: " + ", ".join(f"{pair.replace(', ', ' and ')} {v.mean():.2f}" for pair, v in pairs[lr].items())
    for lr in (0.001, 0.003)
)
show(
    fig,
    f"Mean test accuracy with two of four blocks, for the six pairs. {means}. "
    "Networks trained with two blocks: within 0.02 of four at 0.001, better at 0.003.",
)


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: the pair that each rule keeps, in each network, and the claims
def pair_by(rule, e):
    loss = {on: value for on, value in e["loss of blocks"].items() if on.count("1") == (2 if "six" in rule else 3)}
    if rule == "tried all six":
        best_on = min(loss, key=loss.get)
        return ", ".join(str(k) for k in range(4) if best_on[k] == "1")
    value = e["change"] if "changes" in rule else [loss["".join(str(int(k != j)) for k in range(4))] for j in range(4)]
    return ", ".join(map(str, sorted(np.argsort(value)[2:])))


got = {}
for lr in record["grid"]["lr"]:
    networks = [e for e in record["entries"] if (e["kind"], e["lr"]) == ("whole", lr)]
    print(f"rate {lr:<7g}{'all four blocks':58}test accuracy {of('test', lr=lr).mean():.3f}")
    for rule in ("tried all six", "costly to skip alone", "changes its input most"):
        kept = [pair_by(rule, e) for e in networks]
        got[rule, lr] = np.mean([pairs[lr][pair][i] for i, pair in enumerate(kept)])
        print(f"rate {lr:<7g}{rule:24}{'   '.join(kept)}   test accuracy {got[rule, lr]:.2f}")
between = np.ptp([list(of_rate.values()) for of_rate in pairs.values()], axis=1)
behind = [got["tried all six", lr] - got["costly to skip alone", lr] for lr in pairs]
low, middle_rate, high = (got["changes its input most", lr] for lr in pairs)
claim("The pairs differ by more than 0.35, in each network, at each rate", between.min() > 0.35, smallest=between.min())
claim("Judged alone, blocks are within 0.03 of the best pair, at each rate", max(behind) < 0.03, most=max(behind))
claim(
    "The two that change their input most are near guessing at one rate, within 0.01 of the best pair at two",
    low < 0.2 and all(got["tried all six", lr] - got["changes its input most", lr] < 0.01 for lr in (0.003, 0.01)),
    rate_low=low,
    rate_middle=middle_rate,
    rate_high=high,
)
apart = dense.mean() - of("test", lr=0.003).mean()
claim(
    "With everything open the networks of 0.003 are less than 0.02 behind those of 0.001", 0 < apart < 0.02, lead=apart
)
lost = dense.mean() - two.mean()
claim("A network of two blocks is within 0.02 of four", abs(lost) < 0.02, two=two.mean(), four=dense.mean())
two_at = np.mean([e["test"] for e in record["entries"] if (e["kind"], e["lr"]) == ("2 blocks", 0.003)])
four_at = of("test", lr=0.003).mean()
claim("At rate 0.003 it is better than four, on average", two_at > four_at + 0.01, two=two_at, four=four_at)

# %% [markdown] slideshow={"slide_type": "notes"}
# Again the pair matters, and again a network trained with half of the blocks is nearly as good as the whole. To judge
# each block alone is nearly as good as to try all six pairs, at each rate. The other rule is a warning: to keep the
# blocks that change their input most is nearly guessing in networks of rate 0.001, and at 0.003 and 0.01 as good, to
# within 0.01 of accuracy, as to try all six (at 0.01 with other pairs). A rule of thumb is a statement about the
# networks on which it was tried.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Gates that need each other
#
# Four patches: a digit **a**, the same digit **again**, a digit **b**, and **another** digit. *Are a and b both even or
# both odd?* Each patch that is kept costs 0.05.

# %% [markdown] slideshow={"slide_type": "notes"}
# Judging each gate on its own, or changing one at a time, can fail where gates matter *together*. Here is a task, built
# to show it. One digit alone says nothing about whether two digits are both odd or both even. You need a (or its copy)
# *and* b.

# %% [markdown] slideshow={"slide_type": "skip"}
# The model is small enough to read. A network, trained on single digits, says how far a digit *leans* to odd: from −1
# (surely even) to 1 (surely odd). The product of the leanings of a and b says whether they are the same kind. A patch
# that is discarded leans to neither side: 0. If both copies of a are kept, their mean counts. The loss is the
# cross-entropy, plus the price.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Train the network on single digits, and draw 540 scenes
odd = MLP(64, 32, 1)
digit_loss = lambda x, y: F.binary_cross_entropy_with_logits(odd(x.flatten(1)).squeeze(-1), (y % 2).float())  # noqa: E731
fit(odd, digit_loss, stream_of(data.train_x, data.train_y), steps=300, lr=5e-3)
a, b, other = (torch.randperm(540) for _ in range(3))  # 540 scenes
with torch.no_grad():
    lean = 2 * odd(data.test_x.flatten(1)).squeeze(-1).sigmoid() - 1
same = (data.test_y[a] % 2 == data.test_y[b] % 2).float()

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: two scenes
fig, axes = plt.subplots(2, 4, figsize=(6, 2.9), gridspec_kw={"hspace": 0.15})
for row, scene in zip(axes, (same.argmax().item(), same.argmin().item()), strict=True):
    for ax, name, which in zip(row, ("a", "again", "b", "another"), (a, a, b, other), strict=True):
        ax.imshow(data.test_x[which[scene]], cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(True)
        ax.set_title(name if ax in axes[0] else "")
    row[0].set_ylabel("same" if same[scene] else "not same")
show(fig, "Two scenes of four patches each: a digit a, the same digit again, a digit b, and another digit.")

# %% [markdown] slideshow={"slide_type": "skip"}
# Below, `lean` holds the leanings of 540 test digits; `a` and `b` say which digits are in each of 540 scenes; `same` is
# 1 where they are the same kind. All searches are given the same scenes.


# %% slideshow={"slide_type": "-"}
def gated_loss(z):  # z: four zeros and ones, for a, again, b, another
    of_a = lean[a] * min(z[0] + z[1], 1)  # the mean of what is kept of a
    p = (1 + of_a * lean[b] * z[2]) / 2  # the probability of "the same kind"
    return F.binary_cross_entropy(p, same).item() + 0.05 * sum(z)


# %% [markdown] slideshow={"slide_type": "subslide"}
# ## One gate at a time

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Start with nothing and open the best gate, one at a time, as long as the loss falls. Which end open?
#
# <details><summary>A. a and b</summary>
#
# **No.** That is the best setting. But the search has to get there over a single gate.
#
# </details>
#
# <details><summary>B. b alone</summary>
#
# **No.** With b alone, the answer is as uncertain as with nothing, and b costs 0.05.
#
# </details>
#
# <details><summary>C. none</summary>
#
# **Yes.** Each gate alone brings nothing and costs 0.05. So the search ends before it begins.
#
# </details>

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Where three searches end

# %% [markdown] slideshow={"slide_type": "skip"}
# Sixteen settings can all be tried, so we know the best one. Three cheaper searches: *open* one at a time from nothing;
# *judge each alone*: with all open, close one, note the effect, open it again, and at the end discard every gate whose
# closing made the loss smaller; *close* one at a time from all, measuring again after each step.


# %% slideshow={"slide_type": "skip"}
def one_at_a_time(z, new):  # turn the best gate to `new`, as long as the loss falls
    while True:
        near = [(*z[:k], new, *z[k + 1 :]) for k in range(4) if z[k] != new]
        best_near = min(near, key=gated_loss, default=z)
        if gated_loss(best_near) >= gated_loss(z):
            return z
        z = best_near


# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Open after your guess: what each search found, and the claims
everything = (1, 1, 1, 1)
effect = [gated_loss((*everything[:k], 0, *everything[k + 1 :])) - gated_loss(everything) for k in range(4)]
searches = {
    "nothing": (0, 0, 0, 0),
    "everything": everything,
    "open one at a time": one_at_a_time((0, 0, 0, 0), 1),
    "judge each alone": tuple(int(e > 0) for e in effect),
    "close one at a time": one_at_a_time(everything, 0),
    "try all sixteen": min(product((0, 1), repeat=4), key=gated_loss),
}
names = ("a", "again", "b", "another")
print(
    "effect of closing one gate, all others open:",
    "  ".join(f"{k} {e:+.3f}" for k, e in zip(names, effect, strict=True)),
)
for name, z in searches.items():
    kept = " + ".join(k for k, on in zip(names, z, strict=True) if on) or "none"
    print(f"{name:22}{gated_loss(z):.3f}   keeps {kept}")
at = {name: gated_loss(z) for name, z in searches.items()}
lowest, singles = at["try all sixteen"], [gated_loss(tuple(int(j == k) for j in range(4))) for k in range(4)]
claim(
    "Each single gate costs its price and brings nothing",
    max(abs(one - at["nothing"] - 0.05) for one in singles) < 1e-4,
    nothing=at["nothing"],
    single=singles[0],
)
claim(
    "Opening one at a time ends with nothing", sum(searches["open one at a time"]) == 0, loss=at["open one at a time"]
)
claim(
    "Judging each alone keeps b alone, and is worse than nothing",
    searches["judge each alone"] == (0, 0, 1, 0) and at["judge each alone"] > at["nothing"],
    loss=at["judge each alone"],
)
claim("Closing one at a time finds the best", at["close one at a time"] - lowest < 1e-9, loss=lowest)

# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Draw: the loss that each search ends with
fig, ax = plt.subplots(figsize=(10, 3.8))
labels = [f"{name.replace(' ', chr(10), 1)}" for name in searches]
plots.bars(ax, labels, {"": list(at.values())}, fmt="")
for i, (name, z) in enumerate(searches.items()):
    kept = (
        " + ".join(k for k, on in zip(names, z, strict=True) if on).replace("a + again + b + another", "all") or "none"
    )
    ax.text(i, at[name] + 0.02, f"{at[name]:.2f}\nkeeps {kept}", ha="center", va="bottom", fontsize="small")
ax.set(ylabel="loss and price", ylim=(0, 1))
show(
    fig,
    "Bars: the loss with price of nothing and everything, and of four searches. Opening one at a time ends with "
    "nothing, judging each alone with b alone, which is worse; closing one at a time and trying all find a copy and b.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Who knows nothing pays ln 2 = 0.693. (The best keeps *again* and b; *a* and b are as good.) Two failures, of opposite
# kinds. **Gates that need each other:** a and b. Opening one at a time sees no gain in either, and stops at once.
# **Gates that stand in for each other:** the two copies of a. With everything open, each copy alone can go, so judging
# each alone discards *both*, and b is left without a partner.
#
# Closing one at a time and measuring again is right here: after one copy is gone, the other one matters. It is no cure
# in general: the last exercise asks you to break it.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## And in a trained network?

# %% [markdown] slideshow={"slide_type": "skip"}
# That task was made to fail. Do the gates of our small transformer need each other? A second record takes ten whole
# networks, five of rate 0.001 and five of 0.003, and closes half of the 16 patches, or 8 of 16 heads and 8 of 16
# slices, in whichever blocks, the same for all images: at random; *judged alone*: those eight whose closing, all others
# open, costs least; *one at a time*, measured again after each. Gates are judged by the loss on validation digits.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: half of the gates closed, in three ways
alone_record = recorded.load("discrete_decisions_alone")
ways_to_close, rates = ("at random", "judged alone", "one at a time"), alone_record["grid"]["lr"]


def ended(kind, lr, way):
    """What the five networks of a rate are worth when half of one kind is closed this way."""
    return np.array([e[kind][way] for e in alone_record["entries"] if e["lr"] == lr])


fig, axes = plt.subplots(1, 4, figsize=(10, 3.9), sharey=True)
told = []
for ax, (kind, lr) in zip(axes, product(("patches", "parts"), rates), strict=True):
    values = {
        way.replace("at a ", "at\na ").replace("random", "\nrandom").replace("alone", "\nalone"): ended(kind, lr, way)
        for way in ways_to_close
    }
    bars_of_five(ax, values, ["0.6", "C1", "C0"], "", dense=of("test", lr=lr))
    ax.set_title(f"{'patches' if kind == 'patches' else 'heads and slices'}\nrate {lr:g}", fontsize="medium")
    told.append(
        f"{kind}, rate {lr:g}: " + ", ".join(f"{way} {ended(kind, lr, way).mean():.2f}" for way in ways_to_close)
    )
    ax.set_ylabel("test accuracy" if ax is axes[0] else "")
fig.suptitle(f"dots: five networks; dotted: everything open; {alone_record['label']}", fontsize="small", color="0.3")
show(fig, f"Test accuracy of five networks with half of the gates closed. {'; '.join(told)}.")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about judging alone
gap = {key: ended(*key, "one at a time") - ended(*key, "judged alone") for key in product(("patches", "parts"), rates)}
for (kind, lr), value in gap.items():
    print(f"{kind:8} rate {lr:g}: measuring again gains {value.mean():+.3f} ({value.min():+.3f} to {value.max():+.3f})")
tries = [e["parts"]["tries of both"] - 32 for e in alone_record["entries"]]
print(f"heads and slices: 32 tries to judge alone, {min(tries)} to {max(tries)} to measure again after each")
of_parts = {lr: [ended("parts", lr, way) for way in ways_to_close] for lr in rates}
loss_alone = {lr: of("test", lr=lr).mean() - of_parts[lr][1].mean() for lr in rates}
back = {lr: gap["parts", lr].mean() / loss_alone[lr] for lr in rates}
for lr in rates:
    print(
        f"parts, rate {lr:g}: judging alone loses {loss_alone[lr]:.2f}; measuring again wins back {back[lr]:.2f} of it"
    )
claim(
    "Heads and slices, rate 0.001: measuring again gains 0.15 or more, in each network",
    gap["parts", 0.001].min() > 0.15,
    smallest=gap["parts", 0.001].min(),
)
claim(
    "Heads and slices, rate 0.003: it gains less than 0.1, in each network",
    gap["parts", 0.003].max() < 0.1,
    largest=gap["parts", 0.003].max(),
)
claim(
    "Patches: it gains less than 0.06 on average, and more than 0.1 in one network of five, at both rates",
    all(gap["patches", lr].mean() < 0.06 and (gap["patches", lr] > 0.1).sum() == 1 for lr in rates),
    low_rate=gap["patches", 0.001].mean(),
    high_rate=gap["patches", 0.003].mean(),
)
claim(
    "Judging parts alone loses 0.35 or more at rate 0.001, less than 0.1 at 0.003; 0.4 to 0.6 of it comes back at both",
    loss_alone[0.001] > 0.35 and loss_alone[0.003] < 0.1 and all(0.4 < share < 0.6 for share in back.values()),
    low_rate=back[0.001],
    high_rate=back[0.003],
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about both searches, and training
lowest_gain = min(v.mean() for v in gap.values())
claim("Measuring again gains 0.03 or more, on average, in all four cases", lowest_gain > 0.03, smallest=lowest_gain)
leads = [ended(*key, way) - ended(*key, "at random") for key in gap for way in ways_to_close[1:]]
least, mean_leads = min(v.min() for v in leads), [v.mean() for v in leads]
claim("Both searches beat random halves by 0.09 or more, in each network", least > 0.09, smallest_lead=least)
claim(
    "On average they do so by 0.2 to 0.45",
    0.2 < min(mean_leads) and max(mean_leads) < 0.45,
    least=min(mean_leads),
    most=max(mean_leads),
)
trained_so = {
    lr: np.mean([e["test"] for e in record["entries"] if (e["kind"], e["lr"]) == ("half of the parts", lr)])
    for lr in rates
}
claim(
    "A network trained with half of the parts is better than what either leaves, on average, at both rates",
    all(trained_so[lr] > max(v.mean() for v in of_parts[lr]) for lr in rates),
    low_rate=trained_so[0.001],
    high_rate=trained_so[0.003],
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Both searches find better halves than chance in each network, by 0.2 to 0.45 on average. What measuring again gains
# depends on the network. Heads and slices: at rate 0.001 0.15 or more in each of the five, at rate 0.003 less than 0.1
# in each. But there was more to gain at 0.001: judging alone lost 0.35 or more, and less than 0.1 at 0.003; about half
# of it comes back at both. Patches: little on average, but more than 0.1 in one network of five. You may not know
# beforehand which case you have. On average measuring again, after each closing, paid in all four. It takes more tries:
# some 370 in place of 32 for the parts (when eight of a kind are closed, that kind is not tried again), 100 in place of
# 16 for the patches.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: read a table ★★☆ 3 min
#
# Two attention heads of a trained network were switched off, alone and together:
#
# | | second head on | second head off |
# |:--|:--|:--|
# | **first head on** | validation loss 0.30 | 0.32 |
# | **first head off** | 0.31 | 0.95 |
#
# By how much does closing both raise the loss *more* than the two single effects add up to? (And what do you reply to
# "both heads are useless"?)

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
more_than_expected = ...

check("together", more_than_expected)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# both: 0.95 - 0.30 = 0.65; the single effects: 0.01 and 0.02
# "Each is useless while the other one is there: they stand in for each other."
check("together", (0.95 - 0.30) - (0.31 - 0.30) - (0.32 - 0.30))

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: hide the best setting ★★☆ 5 min
#
# Break the search that worked. Write a cost of four gates for which opening one at a time (from none) *and* closing
# one at a time (from all), each as long as the cost falls, end at a cost that is higher than the best by 1 or more.
# Your function takes all settings at once: `z`, a float tensor of shape `(N, 4)` of zeros and ones. It returns the `N`
# costs.


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def hidden_pair(z):
    return ...


check("hidden_pair", hidden_pair)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def hidden_pair_solution(z):
    hidden = (z == torch.tensor([1.0, 1.0, 0.0, 0.0])).all(-1)  # two steps away from none and from all
    return 2 - 2 * hidden.float()


check("hidden_pair", hidden_pair_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What a decision does not give you
#
# - **No gradient.** Each slope is zero, although the expected loss has one.
# - **No simple search.** Gates may need each other, or stand in for each other.
# - **No time by counting alone.** Fine decisions cost bookkeeping and small products.
# - **No gain by itself.** Try a fixed half first, and a network trained with it.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# $$y = \sum_k z_k \, f_k(x) \qquad z = \text{one-hot}(\operatorname{argmax} \, \text{score}(x))$$
#
# - A decision is scores, a choice, and the option that then runs.
# - Slope of the expected loss = how many change × how much their loss jumps.
# - Patches, layers, parts of layers: the same keep-or-discard, three times.
# - The saving is easy. *Which* to keep is the problem, and it is discrete.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - A. Vaswani et al., *Attention Is All You Need*, NeurIPS 2017: the block (ours normalises before each layer, and has
#   GELU in place of ReLU).
# - L. Meng et al., *AdaViT: Adaptive Vision Transformers for Efficient Image Recognition*, CVPR 2022: patches, heads
#   and blocks as decisions of one network.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
