# %% [markdown] slideshow={"slide_type": "slide"}
# # Start here: why build networks out of parts?
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
# @title Imports, the seed, and two records
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
from lecture_lib.widgets import Exits

seed = setup(0)
data = digits()
record, exits_record = recorded.load("start_here"), recorded.load("start_here_exits")

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
# only with the images that gave it a weight. `count_flops` counts **FLOPs**, multiplications and additions, while a
# function runs. Look for the ratio of the FLOPs.

# %% slideshow={"slide_type": "-"}
modules = [MLP(64, 256, 10) for _ in range(3)]
x = data.test_x.flatten(1)  # 540 images
s = torch.tensor([[1.3, 0.2, 0.7]]).expand(540, 3)
z = argmax(s).weights  # [1, 0, 0] for each image

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
# By hand first, then the library, and both agree: so do all notebooks. Weights of zero alone save nothing, as `mix`
# multiplies by them. Work is saved only where it is **not executed**.

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
# list of K functions (n, D) → (n, C). Each may be called once, with the rows that gave it a weight. A row may have
# chosen several modules, or none at all.


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
# **same FLOPs**, and with one of the **same parameters**. The *router* scores the experts; its FLOPs count, so the
# first dense layer gets 32 more hidden units. Beside FLOPs we put **seconds**, for 1, 64 and 1,024 tokens at a time.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** 64 experts, and a dense layer of the same FLOPs. Which is faster on the clock?
#
# <details><summary>A. The experts: each token uses a small part of the layer.</summary>
#
# **No.** That small part is as large as the dense layer: the FLOPs are equal.
#
# </details>
#
# <details><summary>B. The dense layer.</summary>
#
# **Yes.** It is one large product. The experts are many small ones, and tokens have to be sorted first.
#
# </details>
#
# <details><summary>C. Both the same, as the FLOPs are the same.</summary>
#
# **No.** FLOPs count multiplications and additions. Fetching weights and starting many small products takes time, too.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# `MoE` is the library's layer of experts (notebook 08 writes it out), `switch` chooses one expert for each token, and
# `MLP` is a dense layer. $D$ is the width of a token, $H$ the number of hidden units of an expert, $E$ the number of
# experts. Nothing is trained: here only cost matters. The folded cell times all layers, and a control: the same 64
# experts, with a router that sends *all tokens to one*.

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
to_one, control, at_once = nn.Linear(D, E), "64 experts, all tokens to one", (1, 64, 1024)
with torch.no_grad():
    to_one.bias[0] = 100  # expert 0 always has the highest score
    timed = layers | {control: MoE(D, H, E, switch, activation=F.relu, router=to_one)}
    ms = {name: [1e3 * wall_time(layer, torch.randn(n, D)) for n in at_once] for name, layer in timed.items()}
print("                                parameters   FLOPs a token    milliseconds for 1, 64, 1,024 tokens")
for name, times in ms.items():
    counted = f"{size[name]:12,}{flops[name]:16,}" if name in size else f"{'as above':>12}{'as above':>16}"
    print(f"{name:30}{counted}  " + "".join(f"{t:12.2f}" for t in times))

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
show(
    fig,
    "Left: a token costs 0.15 MFLOPs in the small dense layer and in the layer of 64 experts, 8.4 in the large dense "
    "layer. Right: time a token for 1, 64 and 1,024 tokens. The experts lie between the two dense layers each time.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title The claims about parameters, FLOPs and time
small, experts, large = layers
claim(
    "64 experts have more than 50 times the parameters of the dense layer of equal FLOPs",
    size[experts] > 50 * size[small] and flops[experts] == flops[small],
    times=size[experts] / size[small],
)
slower = [e / d for e, d in zip(ms[experts], ms[small], strict=True)]
faster = [d / e for e, d in zip(ms[experts], ms[large], strict=True)]
claim("The experts are slower than the dense layer of equal FLOPs", min(slower) > 1, clock=True, smallest=min(slower))
claim("They are faster than the one of equal parameters", min(faster) > 1, clock=True, smallest=min(faster))
claim(
    "The gap is smaller for 1,024 tokens than for 64",
    slower[2] < slower[1],
    clock=True,
    at_64=slower[1],
    at_1024=slower[2],
)
share = (ms[experts][1] - ms[control][1]) / (ms[experts][1] - ms[small][1])
claim("For 64 tokens, most of the gap is the spread over experts", share > 0.5, clock=True, share=share)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Counted, the promise holds:** 57 times the parameters of the small dense layer, for the same FLOPs. **On the clock
# it holds in part:** the experts are slower than the dense layer of equal FLOPs, and faster than the one of equal
# parameters. With 1,024 tokens the gap is smaller than with 64. And 57 times the parameters need 57 times the *memory*,
# whether they run or not.

# %% [markdown] slideshow={"slide_type": "skip"}
# What this does *not* show: that more parameters make the network better. Notebook 08 measures that, beside dense
# layers of equal FLOPs and after a short and a long training. Notebook 09 is about the seconds.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Promise 2: a cost that follows the demand
#
# The talk: *dynamic cost for inference (e.g. elastic demand)*. Here: one network, three exits. An image leaves at the
# first exit that is sure.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Most images are easy. Can they cost less than the hard ones?
#
# **Idea.** Put a classifier after each of three layers: an *exit*. Its **confidence** is the largest probability that
# it gives to a class. An image leaves at the first exit whose confidence reaches a *threshold*, and at the last one in
# any case. In the one equation, $f_k$ is the network up to exit $k$, and $z_k = 1$ where the image leaves.
#
# We train such a network for 300 steps on digits with noise; most have little noise, some have much. Then the cell
# computes $z$ by hand, for the threshold 0.8. `infer` of the library gives the same answers, and does not run the
# layers behind the exit that was taken. Look for the share of images at each exit.

# %% slideshow={"slide_type": "skip"}
net, _ = with_exits.train("three exits", 4e-3, seed=seed, steps=300)
image, label = (part[:540] for part in with_exits.examples("test"))
with torch.no_grad():
    logits = net(image)  # (3 exits, 540 images, 10 classes)
confidence, said = logits.softmax(-1).max(-1)
sure = confidence >= 0.8
sure[-1] = True  # the last exit takes whoever is left
z = F.one_hot(sure.int().argmax(0), 3).float()  # (540, 3): the first exit that is sure
y = torch.einsum("nk,knc->nc", z, logits)  # Σ_k z_k f_k(x)
torch.testing.assert_close(y, infer(net, image, above_confidence(0.8)).logits)
print("share of the images that leave at each exit:", z.mean(0).numpy().round(2))

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** On average an image costs less than in the same network without exits. And the *hardest* image?
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
# **Yes.** All layers, and three classifiers in place of one. The saving is a mean, not a bound.
#
# </details>

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Move the threshold

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Milliseconds at each threshold, and of the same network without exits
thresholds = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
costs, (full_flops,) = with_exits.flops("three exits"), with_exits.flops("full")
right, whole = said == label, nn.Sequential(*net.blocks, net.heads[-1])
with torch.no_grad():
    times = [1e3 * wall_time(infer, net, image, above_confidence(t), min_seconds=0.1) for t in thresholds]
    full = right[-1].float().mean().item(), full_flops, 1e3 * wall_time(whole, image)

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
# @title Widget: accuracy and cost under a slider
demand = Exits(thresholds, times, confidence.T, right.T, costs, full=full, setting=0.8)
demand

# %% [markdown] slideshow={"slide_type": "notes"}
# Move the slider: how low can the threshold go before accuracy falls? One set of weights serves many budgets: low
# battery, rush hour, a user who can wait. That is the elastic demand of the talk. Notebooks 05 to 07 are about it.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Beside smaller networks without exits

# %% [markdown] slideshow={"slide_type": "skip"}
# Is this better than a **smaller network** without exits, a *static* one? That is the first baseline to try: it needs
# no threshold, and each image costs the same. We trained three of them, and one of full size, each for as many steps as
# the network with exits (900), each at its own best learning rate, picked on images that are not reported. Five seeds;
# recorded (the command is `python -m lecture_lib.recorded start_here_exits`). For each static network, the network with
# exits gets the highest threshold whose *mean* cost is not above that of the static one.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Read the record: at the cost of each smaller network, what do exits reach?
at_seed = {}
for entry in exits_record["entries"]:
    at_seed.setdefault(entry["network"], []).append(entry["after"])
small_nets = ["4, 11, 22", "5, 14, 28", "6, 17, 34"]


def static(name, step):
    """Accuracies, one a seed."""
    return np.array([after[step]["test"][0] for after in at_seed[name]])


def exits_within(budget, step):
    """The highest threshold whose mean cost on held-out images is within the budget: accuracies and FLOPs on test."""
    found = []
    for row in (after[step] for after in at_seed["three exits"]):
        i = max(i for i, cost in enumerate(row["held out, FLOPs"]) if cost <= budget)
        found.append((row["test"][i], row["test, FLOPs"][i]))
    return np.array(found).T


lead = {}
print("                   MFLOPs an image     accuracy after 300, 900 steps       lead of exits after 900 steps,")
print("channels           static    exits     static            exits              lowest to highest seed")
for name in small_nets:
    (budget,) = with_exits.flops(name)
    early, (late, cost) = exits_within(budget, "300")[0], exits_within(budget, "900")
    lead[name] = late - static(name, "900")
    values = [static(name, "300").mean(), static(name, "900").mean(), early.mean(), late.mean()]
    print(f"{name:18}{budget / 1e6:7.2f}{cost.mean() / 1e6:9.2f}     {values[0]:.3f}, {values[1]:.3f}      ", end="")
    print(f"{values[2]:.3f}, {values[3]:.3f}     {lead[name].min():+.3f} to {lead[name].max():+.3f}")
whole_net = [static("full", step).mean() for step in ("300", "900")]
print(f"8, 24, 48 (full)  {with_exits.flops('full')[0] / 1e6:7.2f}              {whole_net[0]:.3f}, {whole_net[1]:.3f}")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about exits and static networks
mean_lead = [values.mean() for values in lead.values()]
claim(
    "At three costs, exits and the static network are within 0.015 of each other, mean of five seeds",
    max(map(abs, mean_lead)) < 0.015,
    lowest_lead=min(mean_lead),
    highest_lead=max(mean_lead),
)
claim(
    "At none of the three is one of them ahead in all five seeds",
    all(values.min() < 0 < values.max() for values in lead.values()),
)
late = exits_within(with_exits.flops("6, 17, 34")[0], "900")
claim(
    "At less than half of the full network's mean FLOPs, exits lose less than a point",
    late[1].mean() < full_flops / 2 and whole_net[1] - late[0].mean() < 0.01,
    share=late[1].mean() / full_flops,
    lost=whole_net[1] - late[0].mean(),
)


# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: accuracy against the mean cost, recorded
fig, ax = plt.subplots(figsize=(10, 3.9))
rows = [after["900"] for after in at_seed["three exits"]]
at_threshold = np.array([row["test"] for row in rows])  # (seeds, thresholds)
cost_of = np.array([row["test, FLOPs"] for row in rows]).mean(0) / 1e6
plots.curves(ax, cost_of, {"three exits, each mark a threshold: the mean cost": at_threshold}, legend=False)
ax.lines[0].set_markevery(1)
statics = {with_exits.flops(name)[0] / 1e6: static(name, "900") for name in (*small_nets, "full")}
middle = np.array([values.mean() for values in statics.values()])
reach = [[values.mean() - values.min(), values.max() - values.mean()] for values in statics.values()]
ax.errorbar(
    list(statics),
    middle,
    np.array(reach).T,
    fmt="s",
    ms=9,
    color="C1",
    capsize=4,
    label="static networks: the cost of each image",
)
ax.set(xlabel="MFLOPs an image", xlim=(0, None), ylabel="test accuracy (axis from 0.7)", ylim=(0.7, 1))
ax.set_title(
    f"900 steps; bands and bars: lowest to highest seed; {exits_record['label']}", fontsize="small", color="0.3"
)
ax.legend(frameon=False, loc="lower right")
show(
    fig,
    "Accuracy against MFLOPs an image. With exits it rises from 0.77 to 0.91, flat from 0.4 MFLOPs on. The static "
    "networks of 0.34, 0.54 and 0.79 MFLOPs lie on this curve or within a point of it; the full one, 1.56, has 0.92.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Print: FLOPs and milliseconds of exits, a static network of the same mean cost, and the full one
(budget,) = with_exits.flops("5, 14, 28")
leaves = [(confidence >= t).int().argmax(0).masked_fill((confidence < t).all(0), 2) for t in with_exits.THRESHOLDS]
mean_costs = [torch.tensor(costs).double()[leave].mean().item() for leave in leaves]
at = max(i for i, cost in enumerate(mean_costs) if cost <= budget)
rule, hard = above_confidence(with_exits.THRESHOLDS[at]), image[leaves[at] == 2][:1]


def one_by_one(f):
    for one in image[:100].split(1):
        f(one)


ms_of = {}
with torch.no_grad():
    for name, f in {
        "three exits": lambda x: infer(net, x, rule),
        "static, 5, 14, 28 channels": with_exits.make("5, 14, 28"),
        "full size, no exits": whole,
    }.items():
        together, alone = wall_time(f, image), wall_time(one_by_one, f) / 100
        ms_of[name] = 1e3 * together, 1e3 * alone, 1e3 * wall_time(f, hard)
print("                              MFLOPs an image            milliseconds")
print("                              mean    hardest      540 together   one by one: mean   a hard one")
counted = [(mean_costs[at], costs[-1]), (budget, budget), (full_flops, full_flops)]
for (name, (together, alone, worst)), (mean, most) in zip(ms_of.items(), counted, strict=True):
    print(f"{name:28}{mean / 1e6:6.2f}{most / 1e6:11.2f}{together:18.1f}{alone:19.2f}{worst:13.2f}")
exits_ms, static_ms, full_ms = ms_of.values()
claim(
    "540 at a time, exits are faster than the full network",
    exits_ms[0] < full_ms[0],
    clock=True,
    exits=exits_ms[0],
    full=full_ms[0],
)
claim(
    "One by one, exits are slower than the full network, on average and for a hard image",
    exits_ms[1] > full_ms[1] and exits_ms[2] > full_ms[2],
    clock=True,
    mean=exits_ms[1] / full_ms[1],
    hard=exits_ms[2] / full_ms[2],
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **One network for many budgets: this holds.** At less than half of the mean FLOPs it loses less than a *point* (1 % of
# the images) beside the full network, and the budget can change at any moment.
#
# **Cheaper than a small network: this does not hold here.** After 900 steps, static networks of the same mean FLOPs are
# level: neither side is ahead in all seeds. (Two of them picked the highest learning rate that was tried, so they may
# be better still.) But each budget needs its own. And only the static cost is a **bound**: with exits, a hard image
# costs a little more than the full network.
#
# **Seconds:** with 540 images at a time, exits are faster than the full network. One image at a time they are slower,
# on average too: perhaps, in a network so small, asking costs more than it saves.


# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: who is late? ★☆☆ 2 min
#
# On paper. Leaving at the three exits of a network costs 10, 40 and 100 units; 60 %, 30 % and 10 % of the images leave
# there. The mean is 28. A static network costs 28 for each image. A device has to answer each image within 30 units.
# Which share of the images is late in the network with exits? (In the static one, none.)

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
# tasks share? All three networks have two layers, 16 hidden units, and about the same FLOPs for one image. A shared
# first layer is called a *trunk*, a last layer of a task's own its *head*. The task as input means eight more inputs.

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
# **Yes.** And the trunk with heads learns faster, perhaps as all tasks train its trunk.
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
# images of each task. Look at $z$: it is 1 at the head of the task, and 0 elsewhere. So **a trunk with heads is a
# modular network, too**, with small modules behind a shared part.

# %% slideshow={"slide_type": "skip"}
live = {}
for name in ("eight modules", "trunk and heads", "task as input"):
    live[name], history = tasks.train(name, "same images", 1e-2, seeds=[seed], kept=[400])
    print(f"{name:16} accuracy {history[400]['test'].item():.3f}")

network = live["trunk and heads"]
w, b, head_w, head_b = (weights.detach()[0] for weights in network.parameters())
trunk = lambda x: F.relu(x @ w[0] + b[0])  # noqa: E731
heads = [lambda h, k=k: h @ head_w[k] + head_b[k] for k in range(8)]
x, task = data.test_x.flatten(1)[:536], torch.arange(536) // 67
z = F.one_hot(task, 8).float()
y = mix_sparse(trunk(x), z, heads)  # f_k is head k
torch.testing.assert_close(y, network(x.reshape(1, 8, 67, 64)).flatten(0, 2))

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
# ## Same images, or nothing in common

# %% [markdown] slideshow={"slide_type": "skip"}
# One short training of one seed says little. The figure is recorded: five seeds, up to 4,000 steps, at each number of
# steps the best of three learning rates, picked on images that are not reported (`python -m lecture_lib.recorded
# start_here`). Two more baselines: a trunk with heads that has the *parameters* of the eight modules (66 hidden units),
# and a network with the task as input that is 8 times as wide. And a second world: each task shuffles the pixels in its
# **own order**, so the tasks have nothing in common.


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Read the record, and print it
def of(what, world, measure="test"):
    """Values (seeds, steps)."""
    return np.array([e[measure] for e in record["entries"] if e["what"] == what and e["world"] == world])


steps, same, own = tasks.KEPT["eight"], *tasks.WORLDS
end = {(name, world): of(name, world)[:, -1] for name in tasks.NETWORKS for world in (same, own)}
cost_of_tasks, size_of_tasks, eight_images = {}, {}, torch.zeros(1, 8, 1, 64)  # one of each task
for name, shape in tasks.NETWORKS.items():
    made = tasks.Tasks([0], **shape)
    cost_of_tasks[name] = count_flops(made, eight_images) // 8
    size_of_tasks[name] = sum(w.numel() for w in made.parameters())
print("                                                        accuracy, same images     own pixel order")
print("                                   FLOPs   parameters   200 steps   4,000 steps   200 steps   4,000 steps")
for name in tasks.NETWORKS:
    values = (of(name, world)[:, steps.index(n)].mean() for world in (same, own) for n in (200, 4000))
    print(f"{name:32}{cost_of_tasks[name]:8,}{size_of_tasks[name]:13,}" + "".join(f"{v:12.3f}" for v in values))

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: accuracy against steps in both worlds, recorded
fig, axes = plt.subplots(1, 2, figsize=(10, 4.1), sharey=True)
for ax, world, title in zip(axes, (same, own), ("same images", "own pixel order: nothing in common"), strict=True):
    plots.curves(ax, steps, {name: of(name, world) for name in tasks.NETWORKS}, legend=False)
    ax.set(xscale="log", xlabel="training step (log)", ylim=(0.5, 1), title=title)
    ax.set_xticks([50, 200, 1000, 4000], ["50", "200", "1,000", "4,000"])
    ax.minorticks_off()
axes[0].set(ylabel="test accuracy (axis from 0.5)")
fig.legend(*axes[0].get_legend_handles_labels(), frameon=False, ncols=3, loc="outside lower center", fontsize="small")
show(
    fig,
    "Test accuracy against training steps. Same images: eight modules, trunk and heads, and the wide networks end "
    "together at 0.97; the narrow one with the task as input ends at 0.80. Own pixel order: eight modules and the wide "
    "networks end at 0.97, the trunk with heads at 0.945, the narrow one with the task as input at 0.85.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about sharing
apart, trunk_, wide_trunk, told, wide_told = tasks.NETWORKS
means = {key: values.mean() for key, values in end.items()}
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
wide = [means[name, world] - means[apart, world] for name in (wide_trunk, wide_told) for world in (same, own)]
claim(
    "The two wide networks are within 0.005 of eight modules, or ahead, in both worlds",
    min(wide) > -0.005,
    lowest_lead=min(wide),
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **As it stands, the promise does not hold here.** Where tasks see the same images, a trunk with heads ends level with
# eight modules, learns faster, and has a quarter of the parameters. Modules are far ahead of *one network with the task
# as input*, at equal FLOPs. But that is a weak baseline: after 4,000 steps it still rises, and 8 times as wide it is
# level.
#
# **What remains:** where tasks have nothing in common, modules are two points ahead of a trunk with heads, *at equal
# FLOPs*. A trunk of equal parameters closes the gap, at four times the FLOPs. How much to share depends on the tasks.

# %% [markdown] slideshow={"slide_type": "skip"}
# And the **seconds**? The table has 536 images, 67 of each task: mixed, so that `mix_sparse` has to collect the images
# of each module; and sorted by task, all modules in one product.

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Print: milliseconds for 536 images, mixed and sorted by task, and the claims
mixed = torch.randperm(536, generator=torch.Generator().manual_seed(seed))
parts, small_trunk = [MLP(64, 16, 10) for _ in range(8)], nn.Sequential(nn.Linear(64, 16), nn.ReLU())
small_heads, wide_mlp = [nn.Linear(16, 10) for _ in range(8)], MLP(72, 128, 10)
in_a_row = {
    apart: lambda x, z: mix_sparse(x, z, parts),
    trunk_: lambda x, z: mix_sparse(small_trunk(x), z, small_heads),
    wide_told: lambda x, z: wide_mlp(torch.cat([x, z], -1)),
}
print("                              FLOPs an image   ms, mixed   ms, sorted by task")
ms_mixed, ms_sorted = {}, {}
with torch.no_grad():
    for name, f in in_a_row.items():
        ms_mixed[name] = 1e3 * wall_time(f, x[mixed], z[mixed])
        ms_sorted[name] = 1e3 * wall_time(tasks.Tasks([0], **tasks.NETWORKS[name]), x.reshape(1, 8, 67, 64))
        print(f"{name:28}{cost_of_tasks[name]:16,}{ms_mixed[name]:12.2f}{ms_sorted[name]:21.2f}")
claim(
    "Mixed, eight modules take longer than the network with almost 9 times their FLOPs",
    ms_mixed[apart] > ms_mixed[wide_told],
    clock=True,
    modules=ms_mixed[apart],
    wide=ms_mixed[wide_told],
)
claim(
    "Sorted by task, they take less",
    ms_sorted[apart] < ms_sorted[wide_told],
    clock=True,
    modules=ms_sorted[apart],
    wide=ms_sorted[wide_told],
)

# %% [markdown] slideshow={"slide_type": "skip"}
# In a mixed batch eight modules are *slower* than one network of nearly nine times their FLOPs; sorted, they are
# faster. And here the task is given: a network that has to *find out* which module an input needs often finds something
# worse (notebook 08).

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Promise 4: additions break nothing
#
# The talk: *encapsulation (e.g. ... model re-use)*. Here: a ninth task arrives.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** We have a trunk with eight heads, trained. How can it learn one more task? Four ways. (*Frozen* means
# not trained further. With old data, half of each batch are images of old tasks, and everything learns.)

# %% [markdown] slideshow={"slide_type": "-"}
# - **A head** on the frozen trunk: 170 new numbers
# - **A module** beside everything: 1,210 new numbers
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
# The cell tries each way for 200 steps with batches of 128 images, and compares the answers to the same old images
# before and after.

# %% slideshow={"slide_type": "skip"}
old_images = x.reshape(1, 8, 67, 64)
before = network(old_images)
same_bits, after_200 = {}, {}
for how in tasks.ADDITIONS:
    old_part, _, history = tasks.grow(network, how, "same images", 1e-2, seeds=[seed], kept=[200])
    same_bits[how] = torch.equal(old_part(old_images), before)
    after_200[how] = [history[200][part].item() for part in ("old", "new")]

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Open after your guess: four ways to add a task, and the claims
print("after 200 steps           old tasks   new task   old answers")
for how, (old_tasks, new_task) in after_200.items():
    print(f"{how:24}{old_tasks:11.3f}{new_task:11.3f}   {'the same bits' if same_bits[how] else 'changed'}")
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
for ax, world, title in zip(axes, (same, own), ("same images", "own pixel order: nothing in common"), strict=True):
    started = 100 * of("a head", world, "old").mean()  # with the trunk frozen, nothing changes
    ends = {how: [100 * of(how, world, part)[:, -1].mean() for part in ("old", "new")] for how in tasks.ADDITIONS}
    groups = ["old tasks,\nbefore", "old tasks,\nafter", "the new\ntask"]
    plots.bars(ax, groups, {how: [started, *values] for how, values in ends.items()}, fmt="{:.0f}")
    ax.get_legend().remove()
    ax.set(title=title, ylim=(0, 108))
axes[0].set(ylabel="test accuracy, %")
fig.legend(*axes[0].get_legend_handles_labels(), frameon=False, ncols=4, loc="outside lower center", fontsize="small")
show(
    fig,
    "Accuracy after 1,000 steps on eight old tasks and a new one. Same images: all four ways have 97 on the new task; "
    "on the old ones, training on without old data has 94, the others 97. Own pixel order: a head learns the new task "
    "to 85 only, a module to 97; training on without old data leaves 62 on the old tasks, with old data 94.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: the record, and the claims
print(
    "after 1,000 steps; old tasks before: "
    + ", ".join(f"{of('a head', w, 'old').mean():.3f} ({w})" for w in (same, own))
)
print("                                same images            own pixel order")
print("                          old tasks   new task      old tasks   new task")
added = {
    (how, w): [of(how, w, part)[:, -1].mean() for part in ("old", "new")]
    for how in tasks.ADDITIONS
    for w in (same, own)
}
for how in tasks.ADDITIONS:
    print(f"{how:24}" + "    ".join("".join(f"{value:11.3f}" for value in added[how, w]) for w in (same, own)))
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
forgotten = [added[head, w][0] - added[train_on, w][0] for w in (same, own)]
claim(
    "Training on without old data forgets: 0.02 to 0.04 where images are the same, 0.25 or more where nothing is",
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

# %% [markdown] slideshow={"slide_type": "notes"}
# **The promise holds, by construction:** what is frozen cannot be broken. It does not need a whole module. Where the
# trunk sees what the new task needs, a head of 170 numbers does as well as a module of 1,210. Where it does not, the
# head stays 12 points behind, and a module of its own is needed.
#
# The alternative is *replay*, training on with old data. It forgets less than a point, but it needs the old data, and
# all old answers change a little. Without old data, training on forgets, a little or a lot. Notebooks 10 and 14 go on.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Four promises, four numbers

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
# @title Draw: what holds, and what does not
gap = 100 * (means[apart, same] - means[trunk_, same])
gap_own = 100 * (means[apart, own] - means[trunk_, own])
numbers = {
    "1  cost": (
        f"{slower[2]:.1f} ×",
        "the time at equal FLOPs,\nwith 57 × parameters",
        "FLOPs: holds\nseconds: in part",
    ),
    "2  demand": (
        f"{100 * np.mean(mean_lead):+.1f}",
        "points beside small nets\nof the same mean FLOPs",
        "many budgets: holds\nbetter: no; a bound: no",
    ),
    "3  tasks": (
        f"{gap:+.1f}",
        "points beside a trunk\nwith heads, same FLOPs",
        f"does not hold\n(nothing shared: {gap_own:+.1f})",
    ),
    "4  parts": (
        "0",
        "points forgotten if frozen,\n{:.0f} to {:.0f} without old data".format(*(100 * f for f in forgotten)),
        "holds, also for a\nhead on a trunk",
    ),
}
fig, ax = plt.subplots(figsize=(10, 3.4))
for i, (promise, (number, meaning, verdict)) in enumerate(numbers.items()):
    plots.box(ax, 2.5 * i, 0, 2.36, 3.3, colour=f"C{i}")
    ax.text(2.5 * i + 1.18, 3.0, promise, ha="center", va="center", color="0.25")
    ax.text(2.5 * i + 1.18, 2.4, number, ha="center", va="center", fontsize=28, weight="bold")
    ax.text(2.5 * i + 1.18, 1.55, meaning, ha="center", va="center", fontsize="small")
    ax.text(2.5 * i + 1.18, 0.5, verdict, ha="center", va="center", fontsize="small", weight="bold")
ax.set(xlim=(-0.05, 9.9), ylim=(-0.05, 3.35))
ax.axis("off")
show(fig, "; ".join(f"{name}: {' '.join(' '.join(texts).split())}" for name, texts in numbers.items()))

# %% [markdown] slideshow={"slide_type": "-"}
# - FLOPs are not seconds, a mean is not a bound, and speed is not the limit.
# - Try the simple rival first: a dense layer, a small network, a trunk with heads.

# %% [markdown] slideshow={"slide_type": "notes"}
# The first number is of the machine that ran this notebook, with 1,024 tokens; the others are recorded. **1** Many more
# parameters at equal FLOPs, but more seconds. **2** One network serves many budgets; a small network of the same mean
# FLOPs is as good, and its cost is a bound. **3** A trunk with heads is level with eight modules; where tasks have
# nothing in common, modules are ahead. **4** What is frozen is not forgotten; a head does where the trunk fits, a
# module where it does not.
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
# With softmax the scores can learn, but every module runs. With argmax one module runs, but the scores cannot learn.
# **The hard part is to have both.** That is where we go next.

# %% [markdown] slideshow={"slide_type": "notes"}
# When a score moves a little, argmax does not move: its gradient is zero almost everywhere. In the talk's words:
# *fundamentally a discrete problem*. Three ways out come next: noise and a soft sample (notebook 02), learning from the
# choice that was made (03), soft choices with exact zeros (04).

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The map
#
# - **First, how to choose:** 01 discrete decisions → 02 Gumbel-Softmax → 03 REINFORCE
# - **Then, what to choose:** 06 early exits → 08 mixture of experts → 10 adapters
# - **Last:** 14 outlook
# - *Optional:* 04 sparse choices, 05 conditional computation, 07 adaptive language model, 09 experts at scale, 12
#   merging, 15 architecture and types

# %% [markdown] slideshow={"slide_type": "skip"}
# The same with what you need to plan. *To read*: the core text of a notebook, without its exercises. *To run*: from
# restart to end, on two cores without a GPU.
#
# | core path | the k options | the choice | to read | to run |
# |---|---|---|---|---|
# | [01](01_discrete_decisions.ipynb) discrete decisions | anything | argmax | 34 min | 45 s |
# | [02](02_gumbel_softmax.ipynb) Gumbel-Softmax | a patch | noise, temperature | 35 min | 30 s |
# | [03](03_reinforce.ipynb) REINFORCE | a patch | a sample | 35 min | 45 s |
# | [06](06_early_exits.ipynb) early exits | an exit | confidence | 41 min | 55 s |
# | [08](08_mixture_of_experts.ipynb) mixture of experts | an expert | router | 35 min | 40 s |
# | [10](10_adapters.ipynb) adapters and modalities | an adapter | by task, by token | 66 min | 40 s |
# | [14](14_outlook.ipynb) outlook | all of them | all of them | 56 min | 50 s |
#
# | optional | the k options | the choice | to read | to run |
# |---|---|---|---|---|
# | [04](04_sparse_choices.ipynb) sparse choices | a patch | exact zeros | 35 min | 25 s |
# | [05](05_conditional_computation.ipynb) conditional computation | keep or drop | gates, top-k | 42 min | 50 s |
# | [07](07_adaptive_language_model.ipynb) adaptive language model | an exit | confidence | 33 min | 50 s |
# | [09](09_experts_at_scale.ipynb) experts at scale | an expert | router | 38 min | 30 s |
# | [12](12_merging.ipynb) merging | networks | mixed weights | 50 min | 35 s |
# | [15](15_architecture_and_types.ipynb) architecture and types | an architecture | you choose | 31 min | 30 s |

# %% [markdown] slideshow={"slide_type": "skip"}
# ### How to read
#
# **The order.** The core path, from 01 to 14, is a course. The optional notebooks need: 04 and 05 need 02, 07 needs 06,
# 09 needs 08, 12 and 15 only this one. Inside a notebook, skip at first what is marked *optional*: the core does not
# need it. The lines below its title say what takes how long. Most networks are trained before your eyes; 07 and 10 load
# weights that this project trained.
#
# **Exercises and predictions.** Guess before you click: a wrong guess that you notice teaches more than a right
# sentence that you read. Exercises check your answer and name the likely mistake; the solution is folded below. **What
# needs a kernel:** running code, and checking answers. Text, figures, predictions and sliders work without one.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### How to teach · optional
#
# `make slides` writes a deck for each notebook, and `talk.html`, the whole story in 45 minutes. A deck is one file that
# needs no network and no kernel; its sliders work, and `S` opens the speaker's notes. Where a slide says *Predict*,
# wait for hands; the next key shows the answer. Two hours: 01, 02 and 08, with exercises in class. A course: the core
# path, a notebook a week.
#
# ### Harder data · optional
#
# With a network, `lecture_lib.data.openml("Fashion-MNIST")` gives 70,000 images of 28 × 28 pixels in the form of
# `digits()`. What expects 64 pixels, such as `MLP(64, ...)`, then has to expect 784.

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
# | $s$, $z$ | scores (logits), $s$ = score($x$); the choice: weights on the simplex |
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
# ## Sources
#
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023: the four motivations.
# - R. Caruana, *Multitask Learning*, Machine Learning 28, 1997: tasks learnt together on a shared representation.
# - M. McCloskey, N. J. Cohen, *Catastrophic Interference in Connectionist Networks*, Psychology of Learning and
#   Motivation 24, 1989: networks that train on forget.
# - N. Shazeer et al., *Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer*, ICLR 2017.
# - S. Teerapittayanon, B. McDanel, H. T. Kung, *BranchyNet*, ICPR 2016: early exits.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
