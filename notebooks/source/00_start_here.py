# %% [markdown] slideshow={"slide_type": "slide"}
# # Why build networks out of parts?
#
# **Notebook 00** · *Designing efficient and modular neural networks*
#
# Four promises of the talk, each beside the baseline that a reviewer would name. Some hold, some do not.
# And the one equation behind all of them.

# %% [markdown] slideshow={"slide_type": "skip"}
# Welcome! These notebooks follow a talk that Simone Scardapane gave on 4 October 2023, with code that runs on a laptop:
# no GPU, no download. `lecture_lib` is the package that goes with them, called *the library*.
#
# **After this notebook you can** write the one equation of the lecture, with and without skipped work; say what each of
# four promises gives and costs, beside a fair baseline; and find your way through the other notebooks. **You need**
# Python, softmax, and PyTorch at the level of "I have trained a small network".
#
# Code that draws or prepares is folded: click on its title to open it. Where it says *Predict*, guess before you click.
# Lines that begin with ✓ or ✗ compare the text with the numbers of your own run. *Recorded* results took minutes: a
# file holds them, and a command makes them again.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Imports, the seed, and three records
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lecture_lib import plots, recorded
from lecture_lib.choice import argmax
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.data import digits
from lecture_lib.exits import above_confidence, infer
from lecture_lib.mixture import mix, mix_sparse
from lecture_lib.models import MLP
from lecture_lib.moe import MoE, switch
from lecture_lib.notebook import check, claim, setup, show
from lecture_lib.recorded import start_here as tasks
from lecture_lib.recorded import start_here_exits as with_exits
from lecture_lib.recorded import start_here_linear as linear
from lecture_lib.widgets import Exits

seed = setup(0)
data = digits()
exits_record = recorded.load("start_here_exits")
record = [entry for name in ("start_here", "start_here_linear") for entry in recorded.load(name)["entries"]]

# %% [markdown] slideshow={"slide_type": "slide"}
# ## One equation
#
# $$y = \sum_k z_k \, f_k(x) \qquad z = \text{choice}(s), \quad s = \text{score}(x)$$

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: one input, three scores, one module
fig, ax = plt.subplots(figsize=(10, 3.3))
plots.equation(ax, data.test_x[3], [1.3, 0.2, 0.7], [1, 0, 0])
show(
    fig,
    "An input goes into a scorer, which gives the scores 1.3, 0.2 and 0.7. A choice turns them into the weights 1, 0 "
    "and 0. Of three modules only the first, number 0, is executed; its result is y. The two others are dashed.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# There are $K$ **options**; option $k$ is a **module** $f_k$: a patch of an image, a layer, an expert, an adapter, an
# exit, a whole network. A small network looks at the input $x$ and gives each option a **score** $s_k$. From the scores
# comes the **choice** $z$: a weight for each option. The output $y$ is the weighted sum. Where a weight is zero, the
# module need not run.
#
# Notebooks differ in two things: what the options are, and how the choice is made and learnt. (Notebook 12 is partly an
# exception: it averages the *weights* of networks, not their outputs.)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The equation, by hand and skipped

# %% [markdown] slideshow={"slide_type": "skip"}
# The cell writes the equation out, for 540 images and three untrained modules. All images have the scores of the
# picture; *argmax* gives the largest the weight 1. `mix` of the library is the same sum; `mix_sparse` calls a module
# only with the images that gave it a weight. `count_flops` counts **FLOPs**: the multiplications and additions of
# matrix products and convolutions. Look for the ratio of the FLOPs.

# %% slideshow={"slide_type": "-"}
modules = [MLP(64, 256, 10) for _ in range(3)]
x = data.test_x.flatten(1)  # 540 images
s = torch.tensor([[1.3, 0.2, 0.7]]).expand(540, 3)
z = argmax(s).weights  # the library's argmax: [1, 0, 0] for each image

y = sum(z[:, k, None] * modules[k](x) for k in range(3))

torch.testing.assert_close(y, mix(x, z, modules))  # every module runs
torch.testing.assert_close(y, mix_sparse(x, z, modules))  # only the chosen one runs
every, chosen = (count_flops(f, x, z, modules) for f in (mix, mix_sparse))
print(f"FLOPs: {every:,} if all modules run, {chosen:,} if the chosen one runs")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claim about the FLOPs
claim(
    "Weights of zero alone save nothing: `mix` costs three times `mix_sparse`",
    every == 3 * chosen,
    ratio=every / chosen,
)

# %% [markdown] slideshow={"slide_type": "skip"}
# Weights of zero alone save nothing, as `mix` multiplies by them. Work is saved only where it is **not executed**.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: FLOPs on paper ★☆☆ 2 min
#
# An input has 20 numbers. There are eight modules, each with two matrices: 20 × 50, then 50 × 10. The scorer is one
# matrix, 20 × 8. Two modules get a weight, the others get zero and are skipped. How many FLOPs does one input cost? A
# matrix costs 2 FLOPs for each of its entries; leave out biases and activations.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
flops = ...

check("skipped_flops", flops)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# the scorer: 2 · 20 · 8 = 320; one module: 2 · (20 · 50 + 50 · 10) = 3,000; two of them run
check("skipped_flops", 320 + 2 * 3000)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: run what is chosen ★★☆ 7 min
#
# Write $y = \sum_k z_k f_k(x)$ so that zeros are not computed. Inputs `x` (N, D), weights `z` (N, K), `modules`: a
# list of K functions (n, D) → (n, C), with C classes. Each may be called once, with the rows that gave it a weight
# (not zero; it may be negative). A row may have chosen several modules, or none at all. Some row has chosen one.


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def run_what_is_chosen(x, z, modules):
    return ...


check("run_what_is_chosen", run_what_is_chosen)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def run_what_is_chosen_solution(x, z, modules):
    y = 0
    for k, f in enumerate(modules):
        rows = z[:, k].nonzero()[:, 0]
        if len(rows):
            out = z[rows, k, None] * f(x[rows])
            y = y + out.new_zeros(len(x), out.shape[1]).index_add(0, rows, out)
    return y


check("run_what_is_chosen", run_what_is_chosen_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Promise 1: many parameters, the cost of few
#
# The talk: *computational cost can be independent of the number of parameters*. Here: a layer holds 64 networks, the
# *experts*. Each *token* (a word, a patch: one vector) runs one of them.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** What does a token cost? A reviewer would ask: compared with what? With an ordinary, *dense* layer of the
# **same FLOPs**, and with one of the **same parameters**. The *router* scores the experts; its 2 · 128 · 64
# FLOPs count: as many as 32 hidden units, so both dense layers get 32 more. Beside FLOPs we put **seconds**, for 1, 64
# and 1,024 tokens at a time.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** 64 experts, and a dense layer of the same FLOPs. Which is faster on the clock, with up to 1,024 tokens?
#
# <details><summary>A. The experts: each token uses a small part of the layer.</summary>
#
# **No.** That small part is as large as the dense layer: the FLOPs are equal.
#
# </details>
#
# <details><summary>B. The dense layer.</summary>
#
# **Yes.** It is one product. The tokens of the other are spread over 64 experts, each with weights of its own.
#
# </details>
#
# <details><summary>C. Both the same, as the FLOPs are the same.</summary>
#
# **No.** Time also goes where nothing is multiplied: the counter does not see it.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# `MoE` is the library's layer of experts (notebook 08 writes it out), `switch` chooses one expert for each token, and
# `MLP` is a dense layer. $D$ is the width of a token, $H$ the number of hidden units of an expert, $E$ the number of
# experts. Nothing is trained: here only cost matters. The folded cell times all layers, and a control: the same 64
# experts, with a router that sends *all tokens to one*. The control routes and sorts, too.

# %% slideshow={"slide_type": "skip"}
D, H, E = 128, 256, 64
layers = {
    "dense, same FLOPs": MLP(D, H + E // 2, D),
    "64 experts": MoE(D, H, E, switch, activation=F.relu),
    "dense, same parameters": MLP(D, E * H + E // 2, D),
}
size = {name: sum(w.numel() for w in layer.parameters()) for name, layer in layers.items()}
flops = {name: count_flops(layer, torch.randn(1, D)) for name, layer in layers.items()}

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess", "varies"]
# @title Open after your guess: parameters, FLOPs and milliseconds


def fastest(jobs, rounds=3):
    """Milliseconds of each job, (function, *inputs): the lowest of several medians, taken in turns."""
    with torch.no_grad():
        turns = [{name: 1e3 * wall_time(*job, min_seconds=0.02) for name, job in jobs.items()} for _ in range(rounds)]
    return {name: min(turn[name] for turn in turns) for name in jobs}


to_one, control, at_once = nn.Linear(D, E), "64 experts, all tokens to one", (1, 64, 1024)
with torch.no_grad():
    to_one.bias[0] = 100  # expert 0 always has the highest score
timed = layers | {control: MoE(D, H, E, switch, activation=F.relu, router=to_one)}
small, experts, large = layers
jobs = {(name, n): (layer, torch.randn(n, D)) for n in at_once for name, layer in timed.items()}
best = fastest(jobs | {(name, 8192): (layers[name], torch.randn(8192, D)) for name in (small, experts)})
ms = {name: [best[name, n] for n in at_once] for name in timed}
print("                                parameters   FLOPs a token    milliseconds for 1, 64, 1,024 tokens")
for name, times in ms.items():
    counted = f"{size[name]:12,}{flops[name]:16,}" if name in size else f"{'as above':>12}{'as above':>16}"
    print(f"{name:30}{counted}  " + "".join(f"{t:12.2f}" for t in times))
slower = [best[experts, n] / best[small, n] for n in (*at_once, 8192)]
print("experts / dense of the same FLOPs, for 1, 64, 1,024, 8,192 tokens:", *(f"{ratio:.1f}" for ratio in slower))

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: FLOPs fell, seconds did not ★★☆ 2 min
#
# Read the table. With 64 tokens at a time, the experts have the FLOPs of the small dense layer, and take many times its
# milliseconds. Which sentence does the *last row*, the control, support?
#
# 0. The counter misses multiplications by zero.
# 1. The router takes most of the time.
# 2. Spreading the tokens over many experts takes most of the time.
# 3. Sorting the tokens by expert takes most of the time.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
why = ...

check("why_not_faster", why)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# In the control the router runs, and tokens are sorted, too. Only the spread over many experts is gone.
check("why_not_faster", 2)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## FLOPs of a token, and its time

# %% slideshow={"slide_type": "-"} tags=["fold", "guess", "varies"]
# @title Draw: FLOPs and time of the three layers
fig, axes = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=[1, 2.6])
per_token = {name: [1e3 * t / n for t, n in zip(ms[name], at_once, strict=True)] for name in layers}
plots.bars(axes[0], ["each token"], {name: [flops[name] / 1e6] for name in layers}, fmt="{:.2f}")
plots.bars(axes[1], [f"{n:,} at a time" for n in at_once], per_token, fmt="{:,.0f}")
axes[0].set(ylabel="MFLOPs", ylim=(0, 9.5))
axes[1].set(ylabel="microseconds a token\n(log, from 1)", yscale="log", ylim=(1, 1e4))
axes[1].set_yticks([1, 10, 100, 1000, 10_000], ["1", "10", "100", "1,000", "10,000"])
axes[1].minorticks_off()
for ax in axes:
    ax.get_legend().remove()
fig.legend(*axes[1].get_legend_handles_labels(), frameon=False, ncols=3, loc="outside upper center")
a, b, c = ([round(t) for t in per_token[name]] for name in layers)
show(
    fig,
    f"Left: a token costs {flops[small] / 1e6:.2f} MFLOPs in the small dense layer and in the layer of 64 experts, "
    f"{flops[large] / 1e6:.1f} in the large dense layer. Right: microseconds a token for 1, 64 and 1,024 tokens: small "
    f"dense layer {a}, experts {b}, large dense layer {c}.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title The claims about parameters, FLOPs and time
claim(
    "64 experts have more than 50 times the parameters of the dense layer of equal FLOPs",
    size[experts] > 50 * size[small] and flops[experts] == flops[small],
    times=size[experts] / size[small],
)
faster = [d / e for e, d in zip(ms[experts], ms[large], strict=True)]
claim(
    "At up to 1,024 tokens, with this implementation, experts are slower than the dense layer of equal FLOPs",
    min(slower[:3]) > 1,
    clock=True,
    smallest=min(slower[:3]),
)
claim("They are faster than the one of equal parameters", min(faster) > 1, clock=True, smallest=min(faster))
claim(
    "The ratio is lower for 1,024 tokens than for 64, and for 8,192 less than half of that for 64",
    slower[2] < slower[1] and slower[3] < 0.5 * slower[1],
    clock=True,
    at_64=slower[1],
    at_1024=slower[2],
    at_8192=slower[3],
)
share = (ms[experts][1] - ms[control][1]) / (ms[experts][1] - ms[small][1])
claim("For 64 tokens, most of the difference is the spread over experts", share > 0.5, clock=True, share=share)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Counted, the promise holds:** 57 times the parameters of the small dense layer, for the same FLOPs. **On the clock
# it holds in part:** at up to 1,024 tokens, with this implementation, the experts are slower than the dense layer of
# equal FLOPs, and faster than the one of equal parameters. From 64 tokens on, the *ratio* falls as tokens become more;
# at 8,192 the order has turned in some of our runs. With 64, most of the *difference* is the spread over experts,
# perhaps as the weights of each have to be fetched. (With one token nothing is spread: there it is other overhead.) And
# 57 times the parameters need 57 times the *memory*, whether they run or not.

# %% [markdown] slideshow={"slide_type": "skip"}
# What this does *not* show: that more parameters make the network better (notebook 08).

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Promise 2: a cost that follows the demand
#
# The talk: *dynamic cost for inference (e.g. elastic demand)*. Here: one network, three exits. An image leaves at the
# first exit that is sure.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Can easy images cost less than hard ones?
#
# **Idea.** Put a classifier after each of three layers of convolution (8, 24 and 48 channels): an *exit*. Its
# **confidence** is the largest probability that it gives to a class. An image leaves at the first exit whose confidence
# reaches a *threshold*, and at the last one in any case. In the one equation, $f_k$ is the network up to exit $k$, and
# $z_k = 1$ where the image leaves. The confidence is the score: it is known only after $f_k$ has run.
#
# We train such a network for 300 steps on digits with noise; most have little noise, some have much. Then the cell
# computes $z$ by hand, for the threshold 0.8. `infer` of the library gives the same answers, and does not run the
# layers behind the exit that was taken. Look for the share of images at each exit: is the first ever sure enough?

# %% slideshow={"slide_type": "skip"}
net = with_exits.train("three exits", 4e-3, seed=seed, steps=300)
image, label = (part[:540] for part in with_exits.examples("test"))
with torch.no_grad():
    logits = net(image)  # (3 exits, 540 images, 10 classes)
confidence, said = logits.softmax(-1).max(-1)
sure = confidence >= 0.8
sure[-1] = True  # the last exit takes whoever is left
z = F.one_hot(sure.int().argmax(0), 3).float()  # (540, 3): of several maxima argmax takes the first
y = torch.einsum("nk,knc->nc", z, logits)  # Σ_k z_k f_k(x)
torch.testing.assert_close(y, infer(net, image, above_confidence(0.8)).logits)
print("share of the images that leave at each exit:", z.mean(0).numpy().round(2))

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** On average an image costs fewer FLOPs than in the same network without exits. And the *hardest* image?
#
# <details><summary>A. Less as well: the threshold sets the cost.</summary>
#
# **No.** The threshold moves the mean over images. A hard image is sure at no early exit, and runs everything.
#
# </details>
#
# <details><summary>B. Exactly as much.</summary>
#
# **Nearly.** It runs all layers, and two more classifiers on the way.
#
# </details>
#
# <details><summary>C. A little more.</summary>
#
# **Yes.** By 0.2 %: all layers, and three classifiers in place of one. The saving is a mean, not a bound.
#
# </details>

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Move the threshold

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Milliseconds at each threshold, and of the same network without exits
thresholds = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
costs, (full_flops,) = with_exits.flops("three exits"), with_exits.flops("full")
right, whole = said == label, nn.Sequential(*net.blocks, net.heads[-1])
static_net = with_exits.make("5, 14, 28")  # for the table below: all are timed in turns
jobs = {t: (infer, net, image, above_confidence(t)) for t in thresholds}
*times, static_time, full_time = fastest(jobs | {"static": (static_net, image), "full": (whole, image)}).values()
full = right[-1].float().mean().item(), full_flops, full_time

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
# @title Widget: accuracy and cost under a slider
demand = Exits(thresholds, times, confidence.T, right.T, costs, full=full, setting=0.8)
demand

# %% [markdown] slideshow={"slide_type": "notes"}
# Move the slider: how low can the threshold go before a *point* of accuracy is lost (1 % of the images)? (*The full
# network* is this one without its first two exits. Sure at 0.8, almost nobody is at exit 0; a lower threshold uses it.)
# One set of weights serves many budgets: low battery, rush hour, a user who can wait. That is the talk's elastic demand
# (notebooks 05 to 07).

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Beside smaller networks without exits

# %% [markdown] slideshow={"slide_type": "skip"}
# Is this better than a **smaller network** without exits, a *static* one? There each image costs the same. For each
# static network, the network with exits gets the highest threshold whose *mean* cost is not above that of the static
# one. Both have their own best learning rate, picked for each budget and number of steps on images that are not
# reported. *Full, alone* is the full size, trained without exits. Five seeds; recorded
# (`python -m lecture_lib.recorded start_here_exits`).
#
# Equal in what? At **equal steps** a large network pays more for its *training*: the FLOPs of a step are about three
# times those of an answer of all exits. So the last column counts the training, too.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Read the record: at the cost of each smaller network, what do exits reach?
small_nets = list(with_exits.STATIC)


def reached(network, step, budget, what="test"):
    """Values, one a seed."""
    rows = [entry[str(step)][budget] for entry in exits_record["entries"] if entry["network"] == network]
    return np.array([row[what] for row in rows])


def training(network, step):
    """TFLOPs: three times what an answer of all exits costs, 32 images in a step."""
    return 3 * with_exits.flops(network)[-1] * with_exits.BATCH * step / 1e12


print("                             MFLOPs                 accuracy,                  learning   TFLOPs of")
print("network          steps     an image   mean of seeds, lowest to highest          rate    training")
for budget in (*small_nets, "full"):
    for network in (budget, "three exits")[: 1 + (budget != "full")]:
        for step in with_exits.KEPT[network]:
            values, cost = reached(network, step, budget), reached(network, step, budget, "FLOPs").mean() / 1e6
            spread = f"{values.mean():.3f}   {values.min():.3f} to {values.max():.3f}"
            rate = reached(network, step, budget, "lr")[0]
            shown = network.replace("full", "full, alone")
            print(f"{shown:14}{step:8,}{cost:13.2f}     {spread:27}{rate:15}{training(network, step):12.3f}")
leads = {name: reached("three exits", 900, name) - reached(name, 900, name) for name in small_nets}
for name, values in leads.items():
    spread = f"{values.min():+.3f} to {values.max():+.3f}"
    print(f"lead of exits at the cost of {name}, 900 steps: {values.mean():+.3f}, seeds {spread}")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about exits and static networks
claim(
    "Equal steps (900), the smallest budget: exits are ahead in all five seeds, by 0.01 to 0.02 on average",
    leads["4, 11, 22"].min() > 0 and 0.01 < leads["4, 11, 22"].mean() < 0.02,
    lead=leads["4, 11, 22"].mean(),
)
claim(
    "Equal steps, the larger budget: within 0.01, and neither is ahead in all five seeds",
    abs(leads["5, 14, 28"].mean()) < 0.01 and leads["5, 14, 28"].min() < 0 < leads["5, 14, 28"].max(),
    lead=leads["5, 14, 28"].mean(),
)
longer = reached("4, 11, 22", 2700, "4, 11, 22") - reached("three exits", 900, "4, 11, 22")
share_of_training = training("4, 11, 22", 2700) / training("three exits", 900)
claim(
    "With less than 0.7 of their training FLOPs, the smallest static network is ahead of exits in all five seeds",
    share_of_training < 0.7 and longer.min() > 0,
    share=share_of_training,
    lead=longer.mean(),
)
lost = (reached("full", 900, "full") - reached("three exits", 900, "5, 14, 28")).mean()
share_of_full = reached("three exits", 900, "5, 14, 28", "FLOPs").mean() / full_flops
claim(
    "At about a third of the mean FLOPs, exits lose nothing beside the full size, trained alone (900 steps)",
    share_of_full < 0.36 and lost <= 0,
    share=share_of_full,
    lost=lost,
)

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: accuracy against the mean cost, recorded
fig, ax = plt.subplots(figsize=(10, 3.9))
sets = {
    "three exits, 900 steps: the mean cost": [("three exits", 900, name) for name in small_nets],
    "static networks, 900 steps: the cost of each image": [(name, 900, name) for name in (*small_nets, "full")],
    "static, 2,700 steps: still fewer FLOPs of training": [(small_nets[0], 2700, small_nets[0])],
}
told_points = []
for i, (label, points) in enumerate(sets.items()):
    at_cost = [reached(*point, "FLOPs").mean() / 1e6 for point in points]
    values = np.array([reached(*point) for point in points]).T
    middle = values.mean(0)
    reach = [middle - values.min(0), values.max(0) - middle]
    ax.errorbar(at_cost, middle, reach, fmt="os^"[i], ms=9, color=f"C{i}", capsize=4, label=label)
    told_points.append(f"{label}: " + ", ".join(f"{v:.3f} at {c:.2f}" for v, c in zip(middle, at_cost, strict=True)))
ax.set(xlabel="MFLOPs an image", xlim=(0, 1.7), ylabel="test accuracy (axis from 0.85)", ylim=(0.85, 0.96))
ax.set_title(f"bars: lowest to highest seed; {exits_record['label']}", fontsize="small", color="0.3")
ax.legend(frameon=False, loc="lower right")
show(fig, f"Test accuracy against MFLOPs an image. {'; '.join(told_points)}.")

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Print: FLOPs and milliseconds of exits, a static network of the same mean cost, and the full one
(budget,) = with_exits.flops("5, 14, 28")
leaves = [(confidence >= t).int().argmax(0).masked_fill((confidence < t).all(0), 2) for t in thresholds]
mean_costs = [torch.tensor(costs).double()[leave].mean().item() for leave in leaves]
at = max(i for i, cost in enumerate(mean_costs) if cost <= budget)
rule, hard = above_confidence(thresholds[at]), image[leaves[at] == 2][:1].expand(100, -1, -1, -1)


def one_by_one(f, images):
    for one in images.split(1):
        f(one)


compared = {
    "three exits": (lambda x: infer(net, x, rule), times[at]),  # as under the slider
    "static, 5, 14, 28 channels": (static_net, static_time),
    "the full network": (whole, full_time),
}
sets = image[:100], hard  # 100 calls each
alone = fastest({(name, i): (one_by_one, f, sets[i]) for i in (0, 1) for name, (f, _) in compared.items()})
ms_of = {name: (together, alone[name, 0] / 100, alone[name, 1] / 100) for name, (_, together) in compared.items()}
print(f"threshold {thresholds[at]}         MFLOPs an image             milliseconds")
print("                              mean    hardest     540 together   one by one: 100 images   one hard image, 100 ×")
counted = [(mean_costs[at], costs[-1]), (budget, budget), (full_flops, full_flops)]
for (name, (together, each, worst)), (mean, most) in zip(ms_of.items(), counted, strict=True):
    print(f"{name:28}{mean / 1e6:6.3f}{most / 1e6:11.3f}{together:17.1f}{each:19.2f} each{worst:19.2f} each")
exits_ms, static_ms, full_ms = ms_of.values()

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title The claims about the bound and the time
claim("The hardest image costs more FLOPs with exits than in the full network", costs[-1] > full_flops)
claim(
    "540 at a time, at this threshold, exits are faster than the full network; at 0.99 they gain less than a fifth",
    exits_ms[0] < 0.9 * full_ms[0] and times[-1] > 0.8 * full_ms[0],
    clock=True,
    exits=exits_ms[0],
    full=full_ms[0],
    exits_at_99=times[-1],
)
claim(
    "One by one, with this implementation, exits are the slowest of the three: 100 images, and a hard one",
    min(exits_ms[i] / rival[i] for i in (1, 2) for rival in (static_ms, full_ms)) > 1.2,
    clock=True,
    mean=exits_ms[1] / full_ms[1],
    hard=exits_ms[2] / full_ms[2],
)
claim(
    "540 at a time, exits take between half and 2.5 times the time of the static network",
    0.5 < exits_ms[0] / static_ms[0] < 2.5,
    clock=True,
    together=exits_ms[0] / static_ms[0],
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **One network for many budgets: this holds.** At about a third of the mean FLOPs it loses nothing beside the full
# size, trained alone. At 900 steps both budgets have the same rate, so one set of weights serves both.
#
# **Better than a small network: that depends on what is equal.** At equal steps, exits are 1.6 points ahead at the
# smallest budget, in every seed; at the larger one five seeds do not decide. But the smallest network is cheaper to
# train: with three times the steps, two thirds of the training FLOPs, it is ahead, in every seed. (The larger one and
# the exits were not trained longer; nothing was trained until flat. A first search, of two seeds, had picked poorer
# rates. Some rates lie at the edge of the grid; at 0.016 one run learnt nothing.) And only the static cost is a
# **bound**: with exits, the hardest image costs slightly more FLOPs than the full network.

# %% [markdown] slideshow={"slide_type": "notes"}
# **Seconds:** 540 at a time, at this threshold, exits are faster than the full network; at 0.99 little or
# nothing of the gain is left. Beside the static network, of the same mean FLOPs, there is no clear gain. One by one,
# with this implementation, exits are the slowest; how much of it is bookkeeping was not measured. (The network has
# 300 steps; weights do not change the static times.)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: who is late? ★☆☆ 2 min
#
# On paper. Leaving at the three exits of a network costs 10, 40 and 100 units; 60 %, 30 % and 10 % of the images leave
# there. The mean is 28. A static network costs 28 for each image. A device has to answer each image within 30 units.
# Which share of the images, from 0 to 1, is late in the network with exits? (In the static one, none.)

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
late = ...

check("late_share", late)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# Exit 0 costs 10, in time. Exits 1 and 2 cost 40 and 100: 30 % + 10 %.
check("late_share", 0.3 + 0.1)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Promise 3: many tasks in one network
#
# The talk: *very good fit for multi-modal and multi-task problems*. Here: eight tasks. In each, the ten digits have
# other names.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** One network is to solve all eight; with each image it gets the number of the task. How much should the
# tasks share? Here all see the *same images*. All three networks have two layers, 16 hidden units, and about the same
# FLOPs for one image (2,368; with the task as input 2,624, 11 % more). A shared first layer is called a *trunk*, a last
# layer of a task's own its *head*. The task as input means eight more inputs.

# %% [markdown] slideshow={"slide_type": "-"}
# - **Eight modules:** each task has both layers.
# - **Trunk and heads:** the first layer is shared, each task has a last.
# - **Task as input:** all is shared.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Eight modules, or a trunk with heads? Same FLOPs; the second has a quarter of the parameters.
#
# <details><summary>A. Modules are much better: the tasks contradict each other.</summary>
#
# **No.** Only the *names* contradict. What helps to tell a 3 from an 8 is the same in all tasks.
#
# </details>
#
# <details><summary>B. After a long training they are alike.</summary>
#
# **Yes.** And at 200 steps the trunk with heads is ahead, perhaps as all tasks train its trunk.
#
# </details>
#
# <details><summary>C. The trunk fails: 16 hidden units cannot serve eight tasks.</summary>
#
# **No.** They only have to tell ten digits apart. The names are made in the heads.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# The cell trains each network for 400 steps and prints its accuracy. Then it writes the trunk with heads out, for 67
# images of each task (8 · 67 = 536). Look at $z$: it is 1 at the head of the task, and 0 elsewhere. So **a trunk with
# heads is a modular network, too**, with small modules behind a shared part.

# %% slideshow={"slide_type": "skip"}
live = {}
for name in ("eight modules", "trunk and heads", "task as input"):
    live[name], history = tasks.train(name, "same images", 1e-2, seeds=[seed], kept=[400])  # measured at step 400
    print(f"{name:16} accuracy {history[400]['test'].item():.3f}")

network = live["trunk and heads"]
w, b, head_w, head_b = (weights.detach()[0] for weights in network.parameters())  # run 0 of 1
trunk = lambda x: F.relu(x @ w[0] + b[0])  # noqa: E731
heads = [lambda h, k=k: h @ head_w[k] + head_b[k] for k in range(8)]
x, task = data.test_x.flatten(1)[:536], torch.arange(536) // 67
z = F.one_hot(task, 8).float()
y = mix_sparse(trunk(x), z, heads)  # f_k is head k
torch.testing.assert_close(y, network(x.reshape(1, 8, 67, 64)).flatten(0, 2))  # runs, tasks, images, pixels

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: what is supported? ★★☆ 2 min
#
# Somebody measured two networks of about the same FLOPs, as above, each at its best learning rate, with five seeds.
# After 400 steps, eight modules have an accuracy of 0.95, the network with the task as input 0.60. Which sentence do
# these two numbers support?
#
# 0. One network with the task as input cannot learn eight tasks.
# 1. After 400 steps, at about equal FLOPs, eight modules are ahead of one network with the task as input.
# 2. Eight tasks need eight modules.
# 3. The network with the task as input is behind because its hidden units serve tasks that contradict each other.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
sentence = ...

check("supported", sentence)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# 0 needs a longer training; 2 needs other designs (a trunk with heads); 3 needs a run without the cause.
check("supported", 1)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Same images, or an own pixel order

# %% [markdown] slideshow={"slide_type": "skip"}
# The figure is recorded: five seeds, up to 4,000 steps, at each number of steps the best of three learning rates,
# picked on images that are not reported (`python -m lecture_lib.recorded start_here start_here_linear`). More rivals: a
# trunk with heads that has the *parameters* of the eight modules (66 hidden units); a network with the task as input
# that is 8 times as wide; and the simplest, for each task *one linear layer* on the pixels. And a second world: each
# task shuffles the pixels in its **own order**, so the tasks have no pixel order in common.


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Read the record, and print it
def of(what, world, measure="test"):
    """Values (seeds, steps)."""
    return np.array([e[measure] for e in record if e["what"] == what and e["world"] == world])


steps, same, own = tasks.KEPT["eight"], *tasks.WORLDS
apart, trunk_, wide_trunk, told, wide_told = tasks.NETWORKS
made = {name: tasks.Tasks([0], **shape) for name, shape in tasks.NETWORKS.items()}
made[simple := "eight linear layers"] = linear.Linear([0], 8)
end = {(name, world): of(name, world)[:, -1] for name in made for world in (same, own)}
means = {key: values.mean() for key, values in end.items()}
cost_of_tasks = {name: count_flops(net, torch.zeros(1, 8, 1, 64)) // 8 for name, net in made.items()}  # one of each
size_of_tasks = {name: sum(w.numel() for w in net.parameters()) for name, net in made.items()}
print(
    "                                                        accuracy, same images     own pixel order           rates"
)
print(
    "                                   FLOPs   parameters   200 steps   4,000 steps   200 steps   4,000 steps   picked"
)
for name in made:
    values = (of(name, world)[:, steps.index(n)].mean() for world in (same, own) for n in (200, 4000))
    rates = ", ".join(f"{of(name, world, 'rate')[0, -1]:g}" for world in (same, own))
    row = "".join(f"{v:12.3f}" for v in values)
    print(f"{name:32}{cost_of_tasks[name]:8,}{size_of_tasks[name]:13,}{row}   {rates}")

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: accuracy against steps in both worlds, recorded
fig, axes = plt.subplots(1, 2, figsize=(10, 4.1), sharey=True)
for ax, world, title in zip(axes, (same, own), ("same images", "each task its own pixel order"), strict=True):
    plots.curves(ax, steps, {name: of(name, world) for name in made}, legend=False)
    ax.set(xscale="log", xlabel="training step (log)", ylim=(0.5, 1), title=title)
    ax.set_xticks([50, 200, 1000, 4000], ["50", "200", "1,000", "4,000"])
    ax.minorticks_off()
axes[0].set(ylabel="test accuracy (axis from 0.5)")
fig.legend(*axes[0].get_legend_handles_labels(), frameon=False, ncols=3, loc="outside lower center", fontsize="small")
ends = [", ".join(f"{name} {means[name, world]:.2f}" for name in made) for world in (same, own)]
show(fig, f"Test accuracy against training steps; at the end: same images: {ends[0]}; own pixel order: {ends[1]}.")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about sharing
claim(
    "Same images, 4,000 steps: a trunk with heads is within 0.005 of eight modules, with a quarter of their parameters",
    abs(means[trunk_, same] - means[apart, same]) < 0.005
    and cost_of_tasks[trunk_] == cost_of_tasks[apart]
    and size_of_tasks[trunk_] < 0.26 * size_of_tasks[apart],
    trunk=means[trunk_, same],
    modules=means[apart, same],
)
fast = [of(name, same)[:, steps.index(200)].mean() for name in (trunk_, apart)]
claim(
    "Same images, 200 steps: the trunk with heads is ahead, on average",
    fast[0] > fast[1],
    trunk=fast[0],
    modules=fast[1],
)
claim(
    "A trunk with heads is 0.08 or more ahead of the network with the task as input, at about equal FLOPs",
    min(means[trunk_, world] - means[told, world] for world in (same, own)) > 0.08,
    same_images=means[trunk_, same] - means[told, same],
    own_order=means[trunk_, own] - means[told, own],
)
rise = of(told, same)[:, -1] - of(told, same)[:, steps.index(2000)]
claim(
    "The narrow network with the task as input still rises after 2,000 steps",
    rise.mean() > 0.02,
    since_then=rise.mean(),
)
claim(
    "Own pixel order: in every seed eight modules are ahead of the trunk with heads, by about 0.02",
    end[apart, own].min() > end[trunk_, own].max() and 0.015 < means[apart, own] - means[trunk_, own] < 0.03,
    modules=means[apart, own],
    trunk=means[trunk_, own],
)
simplest = [means[simple, world] - means[apart, world] for world in (same, own)]
claim(
    "One linear layer for each task, at less than 0.55 of the FLOPs, is within 0.005 of eight modules in both worlds",
    max(map(abs, simplest)) < 0.005 and cost_of_tasks[simple] < 0.55 * cost_of_tasks[apart],
    same_images=simplest[0],
    own_order=simplest[1],
)
wide = [means[name, world] - means[apart, world] for name in (wide_trunk, wide_told) for world in (same, own)]
claim(
    "The trunk of equal parameters and the wide network are level with eight modules or ahead, in both worlds",
    min(wide) > 0,
    lowest_lead=min(wide),
)
early = [of(simple, w)[:, steps.index(200)].mean() - of(apart, w)[:, steps.index(200)].mean() for w in (same, own)]
claim("At 200 steps the linear layers are 0.01 or more ahead of modules", min(early) > 0.01, least=min(early))

# %% [markdown] slideshow={"slide_type": "notes"}
# **What holds: at about equal FLOPs, own parts help.** A trunk with heads, small modules behind a shared
# part, is far ahead of *one network with the task as input*. That is a weak rival: after 4,000 steps it still rises.
# And 8 times as wide, at 9 times their FLOPs, it is level with modules, with all parts shared.
#
# **What does not: eight *separate* modules are not needed.** On the same images a trunk with heads is level with them,
# with a quarter of the parameters. With own pixel orders, modules are two points ahead of a trunk of 16 units. But a
# trunk of 66 units, at equal parameters and four times the FLOPs, is slightly ahead of modules in both worlds. And one
# linear layer each, about half the FLOPs, is within 0.5 points of modules after 4,000 steps, and ahead at 200. (Ten of
# the twelve printed rates lie at the edge of the grid, 0.003 or 0.03: those may be better still.)
#
# Here the task is given. To *find out* which module an input needs is harder (notebook 08).

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Promise 4: additions break nothing
#
# The talk: *encapsulation (e.g. ... model re-use)*. Here: a ninth task arrives.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** We have a trunk with eight heads, trained. How can it learn one more task? Four ways. (*Frozen* means
# not trained further. With old data, half of each batch are images of old tasks, and everything learns.)

# %% [markdown] slideshow={"slide_type": "-"}
# - **A head** on the frozen trunk: 170 new numbers
# - **A module** beside everything: 1,210 new numbers (its simple rival: one linear layer, 650)
# - **Train on:** a new head, and the trunk learns, too
# - **Train on, with old data** (*replay*)

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Which leave all answers to the old tasks as they were, bit for bit?
#
# <details><summary>A. The module only.</summary>
#
# **Nearly.** The head does, too: it is new, and what the old tasks use is frozen.
#
# </details>
#
# <details><summary>B. The head and the module.</summary>
#
# **Yes.** Nothing that the old tasks use has changed.
#
# </details>
#
# <details><summary>C. These two, and training on with old data.</summary>
#
# **No.** With old data the old answers stay *good*, but they change.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# The cell tries each way for 200 steps with batches of 128 images (`grow` copies the network, and gives the old part
# and the new one), and compares the answers to the same old images before and after.

# %% slideshow={"slide_type": "skip"}
old_images = x.reshape(1, 8, 67, 64)
before = network(old_images)
same_bits, renamed, after_200 = {}, {}, {}
for how in tasks.ADDITIONS:
    old_part, _, history = tasks.grow(network, how, "same images", 1e-2, seeds=[seed], kept=[200])
    after = old_part(old_images)
    same_bits[how] = torch.equal(after, before)
    renamed[how] = (after.argmax(-1) != before.argmax(-1)).float().mean().item()  # share of answers with another name
    after_200[how] = [history[200][part].item() for part in ("old", "new")]

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Open after your guess: four ways to add a task, and the claims
print("after 200 steps           old tasks   new task   old answers")
for how, (old_tasks, new_task) in after_200.items():
    change = "the same bits" if same_bits[how] else f"changed; {renamed[how]:.1%} another name"
    print(f"{how:24}{old_tasks:11.3f}{new_task:11.3f}   {change}")
claim("With a head or a module, the old answers keep every bit", same_bits["a head"] and same_bits["a module"])
claim(
    "When the trunk trains on, they change, with old data too",
    not (same_bits[tasks.ADDITIONS[2]] or same_bits[tasks.ADDITIONS[3]]),
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Four ways to add a task

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: old tasks and the new one after 1,000 steps, recorded
fig, axes = plt.subplots(1, 2, figsize=(10, 4.1), sharey=True)
shown = []
for ax, world, title in zip(axes, (same, own), ("same images", "each task its own pixel order"), strict=True):
    started = 100 * of("a head", world, "old").mean()  # with the trunk frozen, nothing changes
    ends = {how: [100 * of(how, world, part)[:, -1].mean() for part in ("old", "new")] for how in tasks.ADDITIONS}
    ends["a linear layer"] = [started, 100 * of("a linear layer", world)[:, -1].mean()]
    shown.append(f"{title}: " + ", ".join(f"{how} {old:.0f} and {new:.0f}" for how, (old, new) in ends.items()))
    groups = ["old tasks,\nbefore", "old tasks,\nafter", "the new\ntask"]
    plots.bars(ax, groups, {how: [started, *values] for how, values in ends.items()}, fmt="{:.0f}")
    ax.get_legend().remove()
    ax.set(title=title, ylim=(0, 108))
axes[0].set(ylabel="test accuracy, %")
fig.legend(*axes[0].get_legend_handles_labels(), frameon=False, ncols=5, loc="outside lower center", fontsize="small")
show(fig, f"Accuracy in % after 1,000 steps, old tasks and the new one. {'; '.join(shown)}.")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: the record
print(
    "after 1,000 steps; old tasks before: "
    + ", ".join(f"{of('a head', w, 'old').mean():.3f} ({w})" for w in (same, own))
)
print("                                same images            own pixel order")
print("                          old tasks   new task      old tasks   new task     rates picked")
added = {
    (how, w): [of(how, w, part)[:, -1].mean() for part in ("old", "new")]
    for how in tasks.ADDITIONS
    for w in (same, own)
}
added |= {("a linear layer", w): [added["a head", w][0], of("a linear layer", w)[:, -1].mean()] for w in (same, own)}
for how in (*tasks.ADDITIONS, "a linear layer"):
    rates = ", ".join(f"{of(how, w, 'rate')[0, -1]:g}" for w in (same, own))
    row = "    ".join("".join(f"{value:11.3f}" for value in added[how, w]) for w in (same, own))
    print(f"{how:24}{row}     {rates}")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about adding a task
head, module, train_on, replay = tasks.ADDITIONS
claim(
    "Same images: a head on the frozen trunk is within 0.005 of a module on the new task",
    abs(added[head, same][1] - added[module, same][1]) < 0.005,
    head=added[head, same][1],
    module=added[module, same][1],
)
claim(
    "Own pixel order: a module is 0.1 ahead of a head on the new task",
    added[module, own][1] - added[head, own][1] > 0.1,
    head=added[head, own][1],
    module=added[module, own][1],
)
claim(
    "Own pixel order: a linear layer is within 0.005 of a module on the new task",
    abs(added["a linear layer", own][1] - added[module, own][1]) < 0.005,
    linear=added["a linear layer", own][1],
    module=added[module, own][1],
)
forgotten = [added[head, w][0] - added[train_on, w][0] for w in (same, own)]
claim(
    "Training on without old data forgets: 0.02 to 0.04 where images are the same, 0.25 or more with own orders",
    0.02 < forgotten[0] < 0.04 and forgotten[1] > 0.25,
    same_images=forgotten[0],
    own_order=forgotten[1],
)
kept_old = [added[head, w][0] - added[replay, w][0] for w in (same, own)]
claim(
    "With old data it forgets less than 0.01 in both worlds",
    max(kept_old) < 0.01,
    same_images=kept_old[0],
    own_order=kept_old[1],
)
claim(
    "Own pixel order: with old data, the new task is 0.01 to 0.02 behind a module",
    0.01 < added[module, own][1] - added[replay, own][1] < 0.02,
    behind=added[module, own][1] - added[replay, own][1],
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **The promise holds, by construction:** what is frozen cannot be broken. What was to be measured is *which* part a new
# task needs. Where the trunk sees what the task needs, a head of 170 numbers is level with a module of 1,210. Where it
# does not, a trunk of 16 units leaves the head 12 points behind; but one linear layer of its own, 650 numbers, comes
# close to the module. So with *this* frozen trunk the task needs a part of its own, but a smaller one
# than the module.
#
# The alternative is *replay*, training on with old data. After 1,000 steps it has forgotten less than a point. But it
# needs the old data, some old answers change, and in the second world the new task is 1.5 points behind a module. How
# much is forgotten without old data depends on rate and steps. (The talk names interpretability, too; it was not
# measured.) Notebooks 10 and 14 go on.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Four promises, four numbers

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
# @title Draw: what holds, and what does not
ahead = [100 * (means[trunk_, world] - means[told, world]) for world in (same, own)]
exits_lead = [100 * values.mean() for values in leads.values()]
numbers = {
    "1  cost": (
        f"{slower[1]:.0f}–{slower[3]:.1f} ×",
        "the time at equal FLOPs,\n64 to 8,192 tokens",
        "FLOPs: holds\nseconds: in part",
    ),
    "2  demand": (
        "{:+.1f}, {:+.1f}".format(*exits_lead),
        "points beside small nets,\nequal steps, mean FLOPs",
        "many budgets: holds\nbetter: at the smallest",
    ),
    "3  tasks": (
        "{:+.1f}, {:+.1f}".format(*ahead),
        "points, about equal FLOPs,\nsame images, own order",
        "own parts: help\n8 modules: not needed",
    ),
    "4  parts": (
        "0",
        "points forgotten if frozen,\n{:.0f} to {:.0f} without old data".format(*(100 * f for f in forgotten)),
        "holds, also for a head\nor a linear layer",
    ),
}
fig, ax = plt.subplots(figsize=(10, 3.4))
for i, (promise, (number, meaning, verdict)) in enumerate(numbers.items()):
    plots.box(ax, 2.5 * i, 0, 2.36, 3.3, colour=f"C{i}")
    ax.text(2.5 * i + 1.18, 3.0, promise, ha="center", va="center", color="0.25")
    ax.text(2.5 * i + 1.18, 2.4, number, ha="center", va="center", fontsize=22, weight="bold")
    ax.text(2.5 * i + 1.18, 1.55, meaning, ha="center", va="center", fontsize="small")
    ax.text(2.5 * i + 1.18, 0.5, verdict, ha="center", va="center", fontsize="small", weight="bold")
ax.set(xlim=(-0.05, 9.9), ylim=(-0.05, 3.35))
ax.axis("off")
show(fig, "; ".join(f"{name}: {' '.join(' '.join(texts).split())}" for name, texts in numbers.items()))

# %% [markdown] slideshow={"slide_type": "-"}
# - FLOPs are not seconds, a mean is not a bound, and who learns faster need not end higher.
# - Try the simple rival first: a dense layer, a small network, a trunk with heads.

# %% [markdown] slideshow={"slide_type": "notes"}
# The first number is of the machine that ran this notebook; the others are recorded. **1** Many more parameters at
# equal FLOPs, but more seconds up to 1,024 tokens. **2** One network serves many budgets; beside small networks at
# equal steps, the lead is clear at the smallest budget only. There a static network, trained three times as long for
# fewer FLOPs, is ahead; exits were not trained longer. **3** At about equal FLOPs, own parts help, and small ones do.
# **4** What is frozen is not forgotten; the new part may be small.
#
# So the promises are worth something, and each has a simple rival. Who reports a saving has to say: beside what?

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The catch: a choice has no gradient

# %% [markdown] slideshow={"slide_type": "skip"}
# So far no choice was *learnt*: the task was given, the exit had a threshold. To learn one, the scores need a gradient.
# Suppose that module 1 is right: its reward is 1, that of the others 0. How does the reward change with each score? The
# cell asks for a soft choice, softmax, and for a hard one, argmax.

# %% slideshow={"slide_type": "-"}
s = torch.tensor([1.3, 0.2, 0.7], requires_grad=True)
reward = torch.tensor([0.0, 1.0, 0.0])  # of each module

soft = (s.softmax(-1) * reward).sum()
hard = (F.one_hot(s.argmax(-1), 3) * reward).sum()
slopes = torch.autograd.grad(soft, s)[0]
print("softmax, the slopes:", *(f"{slope:+.2f}" for slope in slopes))
print("argmax, has it any? ", hard.requires_grad)

# %% [markdown] slideshow={"slide_type": "-"}
# With softmax the scores can learn, but every module runs. With argmax, weight 1, one module runs, but the scores
# cannot learn. **The hard part is to have both.** That is where we go next.

# %% [markdown] slideshow={"slide_type": "notes"}
# When a score moves a little, argmax does not move: to PyTorch its result is a constant, and its slope is zero almost
# everywhere. In the talk's words: *fundamentally a discrete problem*. Ways out: noise and a soft sample (notebook 02),
# learning from the choice that was made (03), soft choices with exact zeros (04, optional). And `switch` multiplies the
# chosen expert by its probability, which has a slope (08).

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The map
#
# - **First, how to choose:** 01 discrete decisions → 02 Gumbel-Softmax → 03 REINFORCE
# - **Then, what to choose:** 06 early exits → 08 mixture of experts → 10 adapters
# - **Last:** 14 outlook
# - *Optional:* 04 sparse choices, 05 conditional computation, 07 adaptive language model, 09 experts at scale, 11
#   modalities, 12 merging, 15 architecture and types

# %% [markdown] slideshow={"slide_type": "skip"}
# The same with what you need to plan. *To read*: the core text of a notebook, without its exercises. *To run*: from
# restart to end, on two cores without a GPU.
#
# | core path | the k options | the choice | to read | to run |
# |---|---|---|---|---|
# | [01](01_discrete_decisions.ipynb) discrete decisions | anything | argmax | 35 min | 45 s |
# | [02](02_gumbel_softmax.ipynb) Gumbel-Softmax | a patch | noise, temperature | 35 min | 30 s |
# | [03](03_reinforce.ipynb) REINFORCE | a patch | a sample | 35 min | 40 s |
# | [06](06_early_exits.ipynb) early exits | an exit | confidence | 35 min | 25 s |
# | [08](08_mixture_of_experts.ipynb) mixture of experts | an expert | router | 35 min | 50 s |
# | [10](10_adapters.ipynb) adapters | an adapter | by task, by token | 35 min | 45 s |
# | [14](14_outlook.ipynb) outlook | all of them | all of them | 56 min | 50 s |
#
# | optional | the k options | the choice | to read | to run |
# |---|---|---|---|---|
# | [04](04_sparse_choices.ipynb) sparse choices | a patch | exact zeros | 35 min | 45 s |
# | [05](05_conditional_computation.ipynb) conditional computation | keep or drop | gates, top-k | 35 min | 50 s |
# | [07](07_adaptive_language_model.ipynb) adaptive language model | an exit | confidence | 35 min | 50 s |
# | [09](09_experts_at_scale.ipynb) experts at scale | an expert | router | 33 min | 65 s |
# | [11](11_modalities.ipynb) modalities | an expert | router | 33 min | 45 s |
# | [12](12_merging.ipynb) merging | networks | mixed weights | 32 min | 35 s |
# | [15](15_architecture_and_types.ipynb) architecture and types | an architecture | you choose | 35 min | 40 s |

# %% [markdown] slideshow={"slide_type": "skip"}
# ### How to read
#
# **The order.** The core path, from 01 to 14, is a course. The optional notebooks need: 04 and 05 need 02, 07 needs 06,
# 09 and 11 need 08, 12 and 15 only this one. Inside a notebook, skip at first what is marked *optional*. One language
# model is met three times: its bytes leave early in 07, it learns other texts in 10, its layers become experts in 08.
#
# **Exercises and predictions.** Guess before you click. Exercises check your answer and name the likely mistake; the
# solution is folded below. **What needs a kernel:** running code, and checking answers. Text, figures, predictions and
# sliders work without one.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## The symbols
#
# One symbol, one meaning, in all notebooks: come back here when you meet one. Indices start at 0, as in Python: of
# three options, the last is number 2. Layers that ran and exits that were passed are counted.
#
# | symbol | meaning |
# |---|---|
# | $x$, $y$ | input, and output $y = \sum_k z_k f_k(x)$ |
# | $f_k$, $f_e$ | an option, such as a module; an expert |
# | $K$, $k$ | number of options, one of them; in top-$k$, how many are kept |
# | $s$, $z$ | scores (logits), $s$ = score($x$); the choice: a weight for each option, most often ≥ 0 with sum 1 |
# | $\pi$ | softmax$(s)$, the **probabilities** of options, those of a router too |
# | $\bar\pi_e$ | mean of the **probability** $\pi_e$ over the tokens |
# | $G$ | Gumbel noise |
# | $\lambda$ | **temperature** |
# | $\tau$ | threshold of **sparsemax** and **entmax** |
# | $\alpha$ | the parameter of **entmax** |
# | $\theta$ | threshold of a **confidence**, for **exit**s |
# | $\delta$, $\varepsilon$ | **tolerance** of a risk, and probability of an **error**, in Learn then Test |
# | $\ell_e$ | **load** of an expert: its share of the tokens |
# | $\beta_e$ | **bias** that balances an expert |
# | $b$ | baseline of REINFORCE |
# | $c$ | capacity factor |
# | $E$, $N$ | number of experts; of tokens or examples that are routed together |
# | $B$, $T$, $D$, $H$ | size of a batch, length of a sequence, width, width of a hidden layer |
# | $L$ | loss; $L_\text{task}$ and $L_\text{balance}$ are its parts |
# | $\sigma$ | **sigmoid**, 1/(1 + exp($-x$)) |

# %% [markdown] slideshow={"slide_type": "skip"}
# ## How to teach · optional
#
# `make slides` writes a deck for each notebook, and `talk.html`, the whole story in 45 minutes. A deck is one file that
# needs no network and no kernel; its sliders work, and `S` opens the speaker's notes. Where a slide says *Predict*,
# wait for hands; the next key shows the answer. Two hours: 01, 02 and 08, with exercises in class. A course: the core
# path, a notebook a week.
#
# ## Harder data · optional
#
# With a network, `lecture_lib.data.openml("Fashion-MNIST")` gives 70,000 images of 28 × 28 pixels in the form of
# `digits()`. What expects 64 pixels, such as `MLP(64, ...)`, then has to expect 784.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023: the four motivations.
# - R. Caruana, *Multitask Learning*, Machine Learning 28, 1997: tasks learnt together on a shared representation.
# - M. McCloskey, N. J. Cohen, *Catastrophic Interference in Connectionist Networks*, Psychology of Learning and
#   Motivation 24, 1989: networks that train on forget.
# - N. Shazeer et al., *Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer*, ICLR 2017.
# - S. Teerapittayanon, B. McDanel, H. T. Kung, *BranchyNet*, ICPR 2016: early exits.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
