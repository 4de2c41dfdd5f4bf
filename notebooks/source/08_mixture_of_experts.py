# %% [markdown] slideshow={"slide_type": "slide"}
# # Mixture of experts: many parameters, one cost
#
# **Notebook 08** · *Designing efficient and modular neural networks*
#
# Sixty-four networks side by side, and each token runs one of them.
# A router decides which. Left alone, it sends everybody to the same.

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you will be able to do.** Route tokens to experts by hand, and with a layer that runs only what was chosen; see
# routing collapse, and cure it; tell which cures hurt; say what a layer of experts costs, counted and measured; test
# with numbers, not with anecdotes, what the experts have specialised in. You need: softmax, backpropagation, notebook
# 02 or 04 for choices with a gradient. About 45 minutes with the two exercises. Everything below runs on a laptop in
# about a minute.

# %% slideshow={"slide_type": "skip"}
import math
import time
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import mutual_info_score
from torch import nn

from lecture_lib import plots
from lecture_lib.choice import argmax, top_k
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.data import KINDS, batches, digits, python_sources, token_kinds
from lecture_lib.moe import (
    BalanceBias,
    CosineRouter,
    MoE,
    collapse,
    expert_choice,
    expert_load,
    hashed,
    load_balance_loss,
    representation_collapse,
    router_z_loss,
    switch,
    within_capacity,
)
from lecture_lib.notebook import check, setup, show
from lecture_lib.training import fit
from lecture_lib.widgets import ExpertCalculator, Routing

seed = setup(0)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Six tokens, three experts
#
# $$y = \sum_e z_e \, f_e(x) \qquad z = [0.5, 0, 0]: \text{ only } f_a \text{ runs}$$

# %% slideshow={"slide_type": "skip"}
s = torch.tensor(
    [[1.3, 0.2, 0.7], [0.1, 1.5, 0.3], [2.0, 0.4, 0.1], [0.2, 0.3, 1.1], [0.9, 0.8, 0.1], [0.0, 0.6, 1.9]]
)  # scores of the experts a, b, c, for six tokens; the first row is the talk's
p = s.softmax(-1)
best = p.argmax(-1)
print("probability of the best:", [f"{'abc'[e]} {v:.2f}" for e, v in zip(best, p.max(-1).values, strict=True)])

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.5))
order, colours = best.argsort(stable=True).tolist(), ["C0", "C1", "C2"]
for i in range(6):
    e, place = best[i].item(), order.index(i)
    y, y_sorted = 5 - i, 5 - place
    for x, height in ((0, y), (4.2, y_sorted)):
        plots.box(ax, x, height, 1.1, 0.8, f"token {i + 1}", colour=colours[e])
    plots.arrow(ax, (1.15, y + 0.4), (4.15, y_sorted + 0.4), colour=colours[e])
    ax.text(-0.15, y + 0.4, f"{'abc'[e]} {p[i, e]:.2f}", ha="right", va="center", color="0.25")
for e in range(3):
    places = [5 - order.index(i) for i in range(6) if best[i] == e]
    low, high = min(places), max(places) + 0.8
    plots.box(ax, 6.6, low, 2.3, high - low, f"expert {'abc'[e]}: $f_{'abc'[e]}$", colour=colours[e])
    plots.arrow(ax, (5.35, (low + high) / 2), (6.55, (low + high) / 2), colour=colours[e])
ax.text(-0.15, 6.05, "best", ha="right")
ax.text(2.65, 6.05, "sort by expert", ha="center")
ax.text(7.75, 6.05, "one product a group", ha="center")
ax.text(9.05, 3, "× probability,\nback to the\nold order", va="center")
ax.set(xlim=(-1.0, 10.5), ylim=(-0.1, 6.4))
ax.axis("off")
show(
    fig,
    "Six tokens with the expert that each prefers and its probability. Arrows sort them by expert: three go to expert "
    "a, one to b, two to c. Each expert is one box that takes its group at once.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Row by row: softmax over the experts, keep the largest, forget the others. The talk's scores give expert a a weight of
# about 0.5. Experts are networks of one shape, usually the feed-forward part of a transformer block, so tokens that go
# to the same expert can go **together**: sort by expert, one matrix product a group, put everything back.
#
# This is the same equation as in every notebook before, with z from a top-1 choice and many more options. What is new
# is only the scale: there may be hundreds of experts, thousands of tokens, and no time to run what was not chosen.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## By hand: sort, multiply, put back

# %% slideshow={"slide_type": "-"}
layer = MoE(d_model=4, d_hidden=8, n_experts=3, choose=switch)
x = torch.randn(6, 4)  # six tokens

order = best.argsort(stable=True)
groups = x[order].split(best.bincount(minlength=3).tolist())
out = torch.cat([f(group) for f, group in zip(layer.experts, groups, strict=True)])
y = torch.zeros_like(x).index_copy(0, order, out) * p.max(-1, keepdim=True).values

choice = switch(s)  # z: the probability of the best expert, else 0
torch.testing.assert_close(y, layer(x, choice)[0])

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict:** only one expert runs. What if its weight were scaled to 1?

# %% slideshow={"slide_type": "-"} tags=["fold"]
slopes = {}
for name, choose in {"its probability": switch, "scaled to 1": partial(top_k, k=1)}.items():
    layer.choose = choose
    (slope,) = torch.autograd.grad(layer(x)[0].square().sum(), layer.router.weight, materialize_grads=True)
    slopes[name] = slope.norm().item()
    print(f"weight of the best expert: {name:16} gradient of the router: {slopes[name]:.3f}")
assert slopes["its probability"] > 0 == slopes["scaled to 1"]

# %% [markdown] slideshow={"slide_type": "notes"}
# Four lines, and the library agrees. What it adds: any way to choose, any leading shape, one grouped product in place
# of the loop, a capacity, gated experts, experts that everybody shares, gradients, and errors that say what is wrong.
#
# Why multiply by the probability, when there is only one expert? Because it is the router's only gradient. Scale the
# weight to 1, and the router never learns.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Many parameters, one cost?
#
# One to 64 experts, one of them for each token. **Predict:** does the clock agree with the counter?

# %% slideshow={"slide_type": "skip"} tags=["varies"]
experts, crowds = [1, 4, 16, 64], [16, 256, 2048]
parameters, flops, times = {}, {}, {}
for n in experts:
    layer = MoE(256, 512, n, switch, activation=F.relu)
    parameters[n] = sum(w.numel() for w in layer.parameters())
    for tokens in crowds:
        x = torch.randn(tokens, 256)
        with torch.no_grad():
            flops[n, tokens] = count_flops(layer, x) / tokens
            times[n, tokens] = wall_time(layer, x, min_seconds=0.1)
slower = {tokens: times[64, tokens] / times[1, tokens] for tokens in crowds}
print("64 experts against 1:")
print(f"  parameters {parameters[64] / parameters[1]:.0f} ×, FLOPs {flops[64, 2048] / flops[1, 2048]:.2f} ×")
print("  milliseconds " + ", ".join(f"{ratio:.1f} × for {tokens:,} tokens" for tokens, ratio in slower.items()))
assert parameters[64] > 60 * parameters[1] and flops[64, 2048] < 1.1 * flops[1, 2048]
assert max(slower[16], slower[256]) > 1.2 * slower[2048]

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.7))
lines = {"parameters": [parameters[n] / parameters[1] for n in experts]}
lines["FLOPs a token"] = [flops[n, 2048] / flops[1, 2048] for n in experts]
plots.curves(left, experts, {name: [values] for name, values in lines.items()})
left.set(title="counted")
relative = {f"{tokens:,} tokens": [[times[n, tokens] / times[1, tokens] for n in experts]] for tokens in crowds}
plots.curves(right, experts, relative)
right.set(title="measured: seconds")
for ax in (left, right):
    ax.set(xscale="log", yscale="log", xlabel="experts", ylim=(0.5, 100))
    ax.set_xticks(experts, experts)
    ax.set_yticks([1, 10, 100], ["1 ×", "10 ×", "100 ×"])
    ax.minorticks_off()
left.set_ylabel("against one expert")
show(
    fig,
    "Against the number of experts, relative to one. Left: parameters grow 64 times, FLOPs hardly. Right, the "
    f"time with 64: {slower[16]:.1f} times for 16 tokens, {slower[256]:.1f} for 256, {slower[2048]:.1f} for 2,048.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The talk's motivation, "computational cost can be independent of the number of parameters", is true for the **count**.
# What is added to the FLOPs is the router's own product: one column for each expert.
#
# The clock agrees only while there are many tokens for each expert. With 16 tokens and 64 experts, almost every token
# drags a whole expert out of memory for itself: the weights are read once and used once. With 256, almost all 64
# experts are read, for four tokens each. The time goes into *bytes*, not into FLOPs. With 2,048 tokens each expert
# serves about 32, and reading it pays. So experts like big batches; and a chat with one user, one token at a time, pays
# for the memory of every expert that it touches. Notebook 09 draws the line between the two regimes.

# %% slideshow={"slide_type": "skip"}
expert_bytes, touched, intensity = 4 * 2 * 256 * 512, {}, {}
for tokens in crowds:
    with torch.no_grad():
        touched[tokens] = (expert_load(layer(torch.randn(tokens, 256))[1]) > 0).sum().item()
    intensity[tokens] = flops[64, tokens] * tokens / (touched[tokens] * expert_bytes)
    print(f"{tokens:5,} tokens: {touched[tokens]} of 64 experts read, {intensity[tokens]:4.1f} FLOPs a byte of them")
assert touched[16] >= 8 and touched[256] >= 50 and intensity[2048] > 6 * intensity[256]

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## A calculator

# %% slideshow={"slide_type": "-"} tags=["fold"]
calculator = ExpertCalculator(d_model=256, d_hidden=1024, n_experts=8, k=1, capacity_factor=1.25, n_tokens=4096)
calculator

# %% [markdown] slideshow={"slide_type": "notes"}
# **Try.** Double the experts: total parameters double, FLOPs stay. Double k: FLOPs double. Many tokens, capacity factor
# 1.25: next to nothing is dropped, *if* routing is uniform. Now few tokens: chance alone overfills some expert.
# The router that we train next is worse than chance.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Left alone, routing collapses
#
# The digits, eight experts, the task's loss and nothing else.

# %% slideshow={"slide_type": "skip"}
data = digits()
N_CODES = 16
names = torch.stack([torch.randperm(10, generator=torch.Generator().manual_seed(code)) for code in range(N_CODES)])
names[0] = torch.arange(10)  # code 0 calls a 7 a 7


class Reader(nn.Module):
    """An image and a code in, the digit's name in that code out: one hidden layer, with experts beside it."""

    def __init__(self, choose, d_model, d_hidden, n_experts, normalise=False):
        super().__init__()
        self.pixels, self.code = nn.Linear(64, d_model), nn.Embedding(N_CODES, d_model)
        self.norm = nn.LayerNorm(d_model) if normalise else nn.Identity()
        self.told = choose is None  # one expert for each code, by decree
        self.moe = MoE(d_model, d_hidden, n_experts, choose, activation=F.relu)
        self.head = nn.Linear(d_model, 10)

    def forward(self, image, code):
        h = F.relu(self.pixels(image.flatten(1)) + self.code(code))
        decree = argmax(F.one_hot(code, N_CODES).float()) if self.told else None
        y, choice = self.moe(self.norm(h), decree)
        return self.head(h + y), choice


def lessons(codes, run):
    """Endless batches of images, digits and codes."""
    generator = torch.Generator().manual_seed(1000 * seed + run)
    for image, digit in batches(data.train_x, data.train_y, size=128, generator=generator):
        yield image, digit, torch.randint(codes, (len(image),), generator=generator)


# %% slideshow={"slide_type": "skip"}
def dropped(choice, capacity_factor=1.25):
    """The share of tokens that would be dropped."""
    kept = within_capacity(choice, capacity_factor).weights
    return 1 - (kept > 0).sum().item() / (choice.weights > 0).sum().item()


def train(choose, *, extra=None, normalise=False, codes=N_CODES, size=(32, 8, 16), steps=600, every=25, run=0):
    torch.manual_seed(1000 * seed + run)
    model = Reader(choose, *size, normalise)
    image, digit = data.test_x.repeat(4, 1, 1), data.test_y.repeat(4)
    code = torch.randint(codes, digit.shape, generator=torch.Generator().manual_seed(0))

    def loss(image, digit, code):
        logits, choice = model(image, code)
        if isinstance(choose, BalanceBias):
            choose.update(choice)
        return F.cross_entropy(logits, names[code, digit]) + (extra(choice) if extra else 0)

    def measure():
        logits, choice = model(image, code)
        right = logits.argmax(-1) == names[code, digit]
        load = expert_load(choice).tolist()
        return {"quality": right.float().mean().item(), "load": load, "dropped": dropped(choice)}

    start = time.perf_counter()
    history = fit(model, loss, lessons(codes, run), steps=steps, measure=measure, every=every, label=f"run {run}")
    return model, history, (time.perf_counter() - start) / steps


def max_over_mean(history):
    return max(history[-1]["load"]) * len(history[-1]["load"])


# %% slideshow={"slide_type": "skip"}
plain = partial(train, codes=1, steps=300, every=10)
on_digits = {
    "eight experts, left alone": [plain(switch, size=(64, 64, 8), run=run) for run in range(2)],
    "eight experts, balanced": [
        plain(switch, extra=lambda c: 0.1 * load_balance_loss(c), size=(64, 64, 8), run=run) for run in range(2)
    ],
    "one expert": [plain(switch, size=(64, 64, 1), run=run) for run in range(2)],
}
for name, runs in on_digits.items():
    accuracy = np.mean([history[-1]["quality"] for _, history, _ in runs])
    loads = [max_over_mean(history) for _, history, _ in runs]
    print(f"{name:26} accuracy {accuracy:.3f}, largest load / mean " + ", ".join(f"{load:.1f}" for load in loads))

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True)
for ax, name in zip(axes, list(on_digits)[:2], strict=True):
    history = on_digits[name][0][1]
    load = np.array([row["load"] for row in history])
    ranked = load[:, load[-1].argsort()[::-1]].T
    ax.stackplot([row["step"] for row in history], ranked, colors=plt.cm.cividis(np.linspace(0.1, 0.95, 8)), ec="w")
    ax.set(title=f"{name}: {history[-1]['quality']:.1%} right", xlabel="training step", xlim=(10, 300), ylim=(0, 1))
    ax.text(290, 0.03, "the busiest expert", ha="right", color="w", fontsize="small")
axes[0].set_ylabel("share of the tokens")
show(
    fig,
    "Shares of eight experts over 300 training steps on the digits. Left alone, one expert soon takes most or "
    "all of them. With a balance loss, eight bands of similar height. The accuracy is the same.",
)

# %% slideshow={"slide_type": "skip"}
final = {name: np.mean([history[-1]["quality"] for _, history, _ in runs]) for name, runs in on_digits.items()}
assert all(max_over_mean(history) > 5 for _, history, _ in on_digits["eight experts, left alone"])
assert all(max_over_mean(history) < 2.5 for _, history, _ in on_digits["eight experts, balanced"])
assert max(final.values()) - min(final.values()) < 0.03

# %% [markdown] slideshow={"slide_type": "notes"}
# **The rich get richer.** At the start, all experts are equally bad. Some happen to get more tokens (the inputs of the
# router have a common part, and whoever likes it is ahead). They learn from more tokens, get better, so the router
# trusts them more, and they get even more. An expert without tokens has no gradient: it stays where it started, and
# nobody will ever ask it. This is the talk's "routing can very easily collapse".
#
# **And on this task it costs nothing.** Collapsed, balanced, or with a single expert from the start: the accuracy is
# the same. The digits do not need eight experts. Many tutorials stop here, at a picture of a collapse without a price.
# If we want to see what collapse costs, we need a task for which one expert is not enough.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A task for sixteen experts
#
# Sixteen codes, each with its own names for the digits. Given: an image and the number of the code.

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.9), width_ratios=[1, 2.4])
example = (data.test_y == 7).nonzero()[0, 0]
left.imshow(data.test_x[example], cmap="gray_r")
left.set(title="a seven", xticks=[], yticks=[])
shown = names[:8]
right.imshow(shown, cmap="Blues", vmin=-2, vmax=16, aspect="auto")
for code, digit in np.ndindex(*shown.shape):
    weight = "bold" if digit == 7 else "normal"
    right.text(digit, code, shown[code, digit].item(), ha="center", va="center", weight=weight, fontsize="small")
right.add_patch(plt.Rectangle((6.5, -0.5), 1, 8, fill=False, ec="C1", lw=3))
right.set(xlabel="digit in the image", ylabel="code", xticks=range(10), yticks=range(8), title="its name in 8 codes")
show(
    fig,
    "An image of a seven, and a table: for each code a row with the names of the digits 0 to 9 in that code. The "
    "column of the seven is framed: it has a different name in most codes.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The codes contradict each other: the same image is a 7 here and a 2 there. One expert of eight hidden units cannot
# keep sixteen codes apart; sixteen experts, one for each code, could. It is the smallest version of what experts are
# for, "multi-task problems" in the talk's list. And we know the truth: which expert *should* take which token. The
# router is not told; it sees image and code mixed in one vector.
#
# **Predict:** how much better than a collapsed router is one that sends tokens to *random* experts, in perfect balance?

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Two cures: a loss, or a thermostat
#
# **A loss for balance:** 1 if balanced, $E$ if collapsed; its gradient goes through $P$
#
# $$L_{\text{balance}} = E \sum_e f_e \, P_e \qquad
# f_e: \text{share of the tokens}, \quad P_e: \text{mean probability}$$
#
# **A bias, no loss:** it changes who is chosen, never with which weight
#
# $$e^* = \arg\max_e \,(p_e + b_e) \qquad
# b_e \leftarrow b_e + u \cdot \operatorname{sign}(\text{mean load} - \text{load}_e)$$

# %% slideshow={"slide_type": "skip"}
scores = torch.randn(100, 8)
f = F.one_hot(scores.argmax(-1), 8).float().mean(0)
P = scores.softmax(-1).mean(0)
torch.testing.assert_close(8 * (f * P).sum(), load_balance_loss(switch(scores)))
collapsed = switch(torch.tensor([30.0, 0, 0, 0, 0, 0, 0, 0]).expand(100, 8))
print(f"at the start {load_balance_loss(switch(scores)):.2f}, collapsed {load_balance_loss(collapsed):.2f}")
assert load_balance_loss(collapsed) > 7.9

# %% [markdown] slideshow={"slide_type": "notes"}
# $f$ counts, so it has no gradient; $P$ has one, and it is larger where $f$ is large: the busiest expert is pushed down
# hardest (Fedus et al. 2022, *Switch Transformers*). Written as $\sum_e f_e P_e$ it looks like an agreement of the two,
# and that is what is penalised.
#
# The bias (Wang et al. 2024) is a thermostat: busy experts get a malus, idle ones a bonus, by a small step after each
# batch. Weights stay the probabilities, so no gradient of balance disturbs the one of the task.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The cures, as code

# %% slideshow={"slide_type": "-"}
def at_random(scores):
    return argmax(torch.rand_like(scores))


def balance(strength):
    return lambda choice: strength * load_balance_loss(choice)


cures = {
    "left alone": lambda: {"choose": switch},
    "normalised input": lambda: {"choose": switch, "normalise": True},
    "balance loss": lambda: {"choose": switch, "extra": balance(0.1)},
    "balance loss × 100": lambda: {"choose": switch, "extra": balance(10)},
    "bias": lambda: {"choose": BalanceBias(16, rate=0.01)},
    "at random": lambda: {"choose": at_random},
    "expert choice": lambda: {"choose": expert_choice},
    "z-loss": lambda: {"choose": switch, "extra": lambda c: 0.01 * router_z_loss(c)},
    "told the code": lambda: {"choose": None},
}

# %% slideshow={"slide_type": "skip"} tags=["varies"]
cured = {name: [train(**cure(), run=run) for run in range(2)] for name, cure in cures.items()}
quality = {name: np.mean([history[-1]["quality"] for _, history, _ in runs]) for name, runs in cured.items()}
uneven = {name: np.mean([max_over_mean(history) for _, history, _ in runs]) for name, runs in cured.items()}
print("mean of 2 runs       accuracy   largest load / mean   dropped at 1.25   ms a step")
for name, runs in cured.items():
    drop, step = np.mean([(history[-1]["dropped"], 1e3 * seconds) for _, history, seconds in runs], 0)
    print(f"{name:20} {quality[name]:8.3f} {uneven[name]:21.1f} {drop:17.0%} {step:11.2f}")

# %% slideshow={"slide_type": "skip"}
moderate = ("normalised input", "balance loss", "bias")
assert all(quality["left alone"] < quality[name] - 0.005 < quality["told the code"] for name in moderate)
assert quality["expert choice"] > quality["left alone"] - 0.01
assert max(quality[name] for name in ("at random", "balance loss × 100")) < quality["left alone"] - 0.06
assert quality["z-loss"] < quality["left alone"] + 0.04 and min(uneven["z-loss"], uneven["left alone"]) > 3
assert max(uneven[name] for name in ("balance loss", "balance loss × 100", "bias", "at random")) < 2.5

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Which cure helps, which hurts
#
# Two runs each. **Predict:** where is routing at random?

# %% slideshow={"slide_type": "-"} tags=["fold", "figure:experts_cures"]
fig, ax = plt.subplots(figsize=(10, 4.1))
for i, (name, runs) in enumerate(cured.items()):
    x, y = [max_over_mean(history) for _, history, _ in runs], [history[-1]["quality"] for _, history, _ in runs]
    ax.plot(x, y, color=f"C{i}", lw=1)
    size = 220 if name == "expert choice" else 100  # a star has little area
    ax.scatter(x, y, s=size, color=f"C{i}", marker="osD^vP*Xh"[i], zorder=3, label=name, ec="0.2", lw=0.6)
ax.set(xscale="log", xlabel="largest load / mean load", ylabel="accuracy", xlim=(0.92, 17), ylim=(0.62, 0.97))
ax.set_xticks([1, 2, 4, 8, 16], ["1\nequal", "2", "4", "8", "16\none has all"])
ax.minorticks_off()
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
show(
    fig,
    "Accuracy against the largest load over the mean. Told the code: equal loads, best. Bias, balance loss, "
    "normalised input: loads of 1 to 4 times the mean, almost as good. Left alone and z-loss: 5 to 11, worse. At "
    "random and the balance loss times 100: equal loads, and by far the worst.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Collapse has a price now**, some points of accuracy, and the moderate cures get them back. But look at the left
# edge: balance is not the goal. Random routing is in perfect balance and far worse than collapse, as every expert must
# learn all codes. A balance loss that is 100 times too strong ends next to it. Balance is *necessary* to use all the
# experts; what is wanted is a router that knows.
#
# Surprising: a plain **layer normalisation** before the router does as much as the cures that carry the name. Hidden
# units after a ReLU are all positive, so tokens look alike to the router, and all prefer the same expert from the first
# step. Transformers normalise there anyway. The **z-loss** keeps scores small, which is good for rounding errors; it is
# often listed beside the cures, but balances nothing. **Expert choice** lets each expert take its best tokens: equal by
# construction, but who is taken depends on the whole batch, at test time too.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Watch it happen
#
# **Predict, then scrub:** is the final winner ahead from the start?

# %% slideshow={"slide_type": "-"} tags=["fold", "figure:routing_widget"]
Routing(
    {
        name: {key: [row[key] for row in cured[name][0][1]] for key in ("step", "load", "dropped", "quality")}
        for name in list(cures)[:6]
    }
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Recorded from the runs above: step through the training, switch the cure. Left alone, a few experts take over early
# and keep most of the tokens. With the balance loss, the bars stay near the dashed mean. "Dropped" is what a capacity
# of 1.25 times the mean would not take.

# %% slideshow={"slide_type": "skip"}
busiest = {name: np.sort(cured[name][0][1][-1]["load"])[-4:].sum() for name in ("left alone", "balance loss")}
print("share of the four busiest experts at the end:", {name: f"{share:.0%}" for name, share in busiest.items()})
assert busiest["left alone"] > 0.55 > busiest["balance loss"] + 0.05

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## A capacity turns imbalance into loss
#
# On real machines an expert has room for so many tokens: *capacity factor* × the mean. The others are dropped.

# %% slideshow={"slide_type": "skip"}
def expected_drop(n_tokens, n_experts, factor):
    """If each token went to a random expert: E · E[max(load - capacity, 0)] / N, the load is binomial."""
    room = math.ceil(round(factor * n_tokens / n_experts, 6))
    q, load = 1 / n_experts, np.arange(n_tokens + 1)
    binomial = [math.comb(n_tokens, int(m)) * q**m * (1 - q) ** (n_tokens - m) for m in load]
    return n_experts * (np.maximum(load - room, 0) * binomial).sum() / n_tokens


def test_choice(name, tokens=256):
    """The choice of a trained reader for some test images in random codes."""
    model = cured[name][0][0].eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return model(data.test_x[:tokens], torch.randint(N_CODES, (tokens,), generator=generator))[1]


factors = np.linspace(0.5, 4, 29)
measured = {name: test_choice(name) for name in ("left alone", "balance loss", "bias")}
drops = {name: [dropped(choice, factor) for factor in factors] for name, choice in measured.items()}
drops["uniform, in theory"] = [expected_drop(256, 16, factor) for factor in factors]
at = {name: values[6] for name, values in drops.items()}  # at a factor of 1.25
print("dropped at a capacity factor of 1.25:", {name: f"{value:.0%}" for name, value in at.items()})
assert at["left alone"] > at["balance loss"] + 0.2 and at["uniform, in theory"] < 0.08

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.3))
plots.curves(ax, factors, {name: [values] for name, values in drops.items()})
ax.set(xlabel="capacity factor", ylabel="dropped, of 256 tokens", ylim=(0, 1), xlim=(0.5, 4))
ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
show(
    fig,
    "Share of dropped tokens against the capacity factor. Left alone, most tokens are dropped up to a factor of 2 and "
    "more. With the balance loss or the bias little more than by chance.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# A dropped token gets $y = 0$ from the layer: only the residual stream carries it on. Who is dropped is settled by a
# queue, first choices before second ones and tokens in order, or by *batch priority*: the surest first.
#
# The dotted curve is exact: if every token drew an expert by dice, loads would be binomial, and with 16 tokens for each
# expert some overflow is pure chance. (Exercise 2 asks you for the formula.) A router that balances *on average* drops
# a little more than that.

# %% slideshow={"slide_type": "skip"}
queue = switch(torch.tensor([[0.2, 0.0], [0.4, 0.0], [3.0, 0.0], [0.0, 1.0]]))  # three want expert a, one wants b
for name, priority in {"first come": False, "batch priority": True}.items():
    kept = within_capacity(queue, 1.0, batch_priority=priority).weights
    print(f"{name:15} weights {[[round(v, 2) for v in row] for row in kept.tolist()]}")
first, surest = (within_capacity(queue, 1.0, batch_priority=priority).weights for priority in (False, True))
assert (first[:, 0] > 0).tolist() == [True, True, False, False]  # room for 2: the third of them is dropped ...
assert (surest[:, 0] > 0).tolist() == [False, True, True, False]  # ... or the one who is least sure

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Real text: bytes of Python
#
# Eight bytes in, the next byte out. Eight experts. The sources of Python's own library.

# %% slideshow={"slide_type": "skip"}
CONTEXT = 8
sources = python_sources()
test = sources.test[: (sources.test[:150_000] == 0).nonzero()[-1, 0]]  # whole files
kinds = token_kinds(test)
spots = torch.arange(CONTEXT, len(test) - 1, 7)  # what we test on: every seventh byte, with its kind
train_bytes, test_bytes, kinds = sources.train.long(), test.long(), kinds[spots]


def windows(text, end):
    return text[end[:, None] + torch.arange(1 - CONTEXT, 1)]


class NextByte(nn.Module):
    """Bytes (B, 8) in, logits of the next (B, 256) out."""

    def __init__(self, router=None, n_experts=8, width=64):
        super().__init__()
        self.embed, self.mix = nn.Embedding(256, 16), nn.Linear(16 * CONTEXT, width)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 256)
        self.moe = MoE(width, 64, n_experts, switch, router=router, activation=F.relu)

    def hidden(self, text):
        h = F.relu(self.mix(self.embed(text).flatten(1)))
        return h, self.norm(h)

    def forward(self, text, decree=None):
        h, tokens = self.hidden(text)
        y, choice = self.moe(tokens, decree)
        return self.head(h + y), choice


# %% slideshow={"slide_type": "skip"}
def read(*, strength=0.0, router=lambda: None, hashing=False, steps=400, run=0):
    torch.manual_seed(1000 * seed + run)
    model, generator = NextByte(router()), torch.Generator().manual_seed(1000 * seed + run)

    def positions():
        while True:
            yield (torch.randint(CONTEXT, len(train_bytes) - 1, (256,), generator=generator),)

    def predict(text):
        return model(text, hashed(text[:, -1], 8) if hashing else None)

    def loss(end):
        logits, choice = predict(windows(train_bytes, end))
        if isinstance(model.moe.router, CosineRouter):
            choice = model.moe.router.at_start_temperature(choice)
        return F.cross_entropy(logits, train_bytes[end + 1]) + strength * load_balance_loss(choice)

    @torch.no_grad()
    def look():
        text = windows(test_bytes, spots)
        logits, choice = predict(text)
        bits = F.cross_entropy(logits, test_bytes[spots + 1]).item() / math.log(2)
        return {"bits": bits, "choice": choice, "expert": choice.weights.argmax(-1), "tokens": model.hidden(text)[1]}

    start = look()
    fit(model, loss, positions(), steps=steps, every=steps, label=f"run {run}")
    return look() | {"start": start}


# %% slideshow={"slide_type": "skip"}
readers = {
    "left alone": partial(read),
    "balance loss": partial(read, strength=0.01),
    "cosine router": partial(read, strength=0.01, router=lambda: CosineRouter(64, 8)),
    "hash of the last byte": partial(read, hashing=True),
}
texts = {name: [reader(run=run) for run in range(2)] for name, reader in readers.items()}
bits = {name: np.mean([text["bits"] for text in of]) for name, of in texts.items()}
loads = {name: np.mean([collapse(text["choice"]).max_over_mean for text in of]) for name, of in texts.items()}
for name in texts:
    print(f"{name:22} {bits[name]:.3f} bits a byte, largest load / mean {loads[name]:.1f}")

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5))
for ax, values, fmt, title in (
    (left, bits, "{:.2f}", "bits a byte: less is better"),
    (right, loads, "{:.1f}", "largest load / mean"),
):
    drawn = ax.barh(list(values)[::-1], list(values.values())[::-1], color=["C3", "C2", "C1", "C0"], height=0.6)
    ax.bar_label(drawn, [fmt.format(value) for value in list(values.values())[::-1]], padding=4)
    ax.set(title=title, xlim=(0, 1.15 * max(values.values())), xticks=[])
    ax.spines["bottom"].set_visible(False)
right.set_yticks([])
show(
    fig,
    "Bars for four routers on Python source. Left alone: the largest load, and the most bits a byte or almost. With "
    "the balance loss: a little better. Hash of the last byte: fewest bits, by far.",
)

# %% slideshow={"slide_type": "skip"}
assert loads["left alone"] > 1.3 * loads["balance loss"] and loads["balance loss"] < 3.2
assert bits["balance loss"] < bits["left alone"]
assert bits["hash of the last byte"] < bits["balance loss"] - 0.1

# %% [markdown] slideshow={"slide_type": "notes"}
# On real text, too, most bytes end up with one expert or two, and the price is small: a few hundredths of a bit. The
# balance loss repairs the load, and gets them back.
#
# Then the cold shower: **a hash beats every learned router**. It learns nothing: the last byte alone decides, by a
# fixed table (Roller et al. 2021). In training this short, our router must find out what to look at while the experts
# change under it; a hash never changes its mind, and the last byte is a very good thing to look at. Whoever claims that
# a router has learnt something should compare with a hash.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Representation collapse
#
# A linear router scores $\langle x, e \rangle$: it pulls tokens towards experts' embeddings. On a sphere:
# $\cos(Wx, e) / \tau$.

# %% slideshow={"slide_type": "skip"}
by_hash = hashed(test_bytes[spots], 8).weights.argmax(-1)
routers = {"linear": "balance loss", "cosine": "cosine router", "hash": "hash of the last byte"}


def spread(text, groups=None):
    return representation_collapse(text["tokens"], text["expert"] if groups is None else groups).item()


own = {r: np.mean([(spread(t["start"]), spread(t)) for t in texts[name]], 0) for r, name in routers.items()}
same = {
    r: np.mean([(spread(t["start"], by_hash), spread(t, by_hash)) for t in texts[name]], 0)
    for r, name in routers.items()
}
for ruler, spreads in {"grouped by their own experts": own, "all grouped by the hash": same}.items():
    print(ruler, {r: f"{start:.0f} → {end:.0f}" for r, (start, end) in spreads.items()})
assert all(end < 0.9 * start for start, end in [*own.values(), *same.values()])  # it falls, with any router or none,
assert same["hash"][1] > same["linear"][1]  # if less without
assert own["cosine"][1] > 1.5 * own["linear"][1]  # the sphere ends higher ...
assert own["cosine"][0] > 1.5 * own["linear"][0]  # ... as it started higher,
assert abs(math.log(same["cosine"][1] / same["linear"][1])) < math.log(1.5)  # and by the same ruler they are alike
assert bits["cosine router"] > bits["balance loss"]  # nor does it help the task, here

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(1, 4, figsize=(10, 3.5), width_ratios=[1, 1, 1.15, 1.15])
trained = texts["balance loss"][0]
for ax, text, title in zip(axes, (trained["start"], trained), ("start", "trained"), strict=False):
    tokens, expert = text["tokens"][:4000].double(), text["expert"][:4000]
    means = torch.stack([tokens[expert == e].mean(0) for e in expert.unique()])
    directions = torch.linalg.svd(means - means.mean(0)).Vh[:2].T  # where the experts differ most
    x, y = ((tokens - means.mean(0)) @ directions).T
    ax.scatter(x, y, c=expert, cmap="tab10", vmax=9, vmin=0, s=3, alpha=0.5, rasterized=True)
    ax.set(title=f"linear, {title}", xticks=[], yticks=[], xlim=(-7, 7), ylim=(-7, 7), aspect="equal")
    ax.spines[:].set_visible(False)
for ax, spreads, title in zip(axes[2:], (own, same), ("grouped by own experts", "same groups for all"), strict=True):
    heights = {"start": [v[0] for v in spreads.values()], "trained": [v[1] for v in spreads.values()]}
    plots.bars(ax, list(routers), heights, fmt="{:.0f}")
    ax.set(title=title, yticks=[], ylim=(0, 1.45 * max(v[0] for v in spreads.values())))
    ax.spines["left"].set_visible(False)
axes[2].legend(frameon=False, loc="upper left", borderaxespad=0)
axes[2].set_ylabel("spread within / between")
axes[3].get_legend().remove()
show(
    fig,
    "Left: tokens in the plane in which their experts differ most, coloured by expert, mixed at the start, in groups "
    "when trained. Right: spread within groups over spread between. By own experts it falls for linear and cosine "
    "router and hash, cosine the highest. With the same groups for all, linear and cosine are alike.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Chi et al. (2022) describe a second collapse, of the *tokens*: a linear router pulls them towards its experts'
# embeddings, so they gather around a few points and lose what made them different. Their measure,
# $\operatorname{tr}(\Sigma_W \Sigma_B^{+})$, is the spread within an expert's tokens against that between experts;
# small means collapsed. With the linear router it falls by almost a half.
#
# Their remedy (X-MoE): score in few dimensions, by direction only, with a learnt temperature. It ends at a much
# higher value. A success? Two controls say no. It *started* higher, and fell by no less: the sphere cuts the tokens
# differently. Measured with the same groups for all, the two routers do not differ. And with a **hash**, which pulls
# nothing, it falls as well, if less: most of the fall is training itself. Nor are the bits better. Their gains were
# measured on large multilingual models. At our size the disease is mild, and the cure does not show.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What has each expert learnt?
#
# Python's tokenizer knows the kind of each byte: a ground truth.

# %% slideshow={"slide_type": "skip"}
def information(a, b):
    """Mutual information of two lists of labels, in bits: Σ p(a, b) log p(a, b) / (p(a) p(b))."""
    joint = torch.zeros(int(a.max()) + 1, int(b.max()) + 1).index_put((a, b), torch.tensor(1.0), accumulate=True)
    joint = joint.double() / len(a)
    alone = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    return (joint[joint > 0] * (joint[joint > 0] / alone[joint > 0]).log2()).sum().item()


balanced_text = texts["balance loss"][0]
expert = balanced_text["expert"]
assert abs(information(expert, kinds) - mutual_info_score(expert, kinds) / math.log(2)) < 1e-6


def about_kinds(text):
    """Bits that the expert tells about the kind: trained, by a random router on the same tokens, and shuffled."""
    expert, router = text["expert"], nn.Linear(text["tokens"].shape[1], 8, bias=False)
    untrained = [information(router.weight.data.normal_().matmul(text["tokens"].T).argmax(0), kinds) for _ in range(10)]
    return information(expert, kinds), np.mean(untrained), information(expert[torch.randperm(len(expert))], kinds)


learnt = {name: np.mean([about_kinds(text) for text in texts[name]], 0) for name in ("left alone", "balance loss")}
told = information(by_hash, kinds)
share = torch.bincount(kinds) / len(kinds)
unknown = torch.special.entr(share).sum().item() / math.log(2)
print(f"the kind of a byte: {unknown:.2f} bits; of which the expert tells")
for name, (trained, untrained, shuffled) in learnt.items():
    print(f"  {name:13} {trained:.3f}, a random router on the same tokens {untrained:.3f}, shuffled {shuffled:.3f}")
print(f"  hash of the last byte {told:.3f}")

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.0), width_ratios=[1.6, 1])
fig.get_layout_engine().set(wspace=0.06)
table = torch.stack([(F.one_hot(kinds, 7).float()[expert == e]).mean(0) for e in expert.unique()])
image = left.imshow(table, cmap="Blues", vmin=0, vmax=0.8, aspect="auto")
for row, column in np.ndindex(*table.shape):
    value = table[row, column].item()
    left.text(column, row, f"{value:.0%}", ha="center", va="center", fontsize=9, color="w" if value > 0.5 else "0.2")
left.set_xticks(range(7), KINDS, rotation=35, ha="right", rotation_mode="anchor")
left.set(ylabel="expert", title="kinds of its bytes", yticks=range(len(table)))
trained, untrained, shuffled = learnt["balance loss"]
facts = {"shuffled": shuffled, "random\nrouter": untrained, "trained\nrouter": trained, "hash": told}
drawn = right.barh(list(facts), list(facts.values()), color=["0.7", "0.7", "C1", "C3"])
right.bar_label(drawn, [f"{value:.2f}" for value in facts.values()], padding=4)
right.set(title=f"bits about the kind, of {unknown:.1f}", xlim=(0, 1.3 * max(facts.values())), xticks=[])
right.spines["bottom"].set_visible(False)
show(
    fig,
    "Left: for each expert the shares of seven kinds of bytes; a few rows stand out, most look alike. Right: bits "
    f"about the kind: shuffled {shuffled:.2f}, random router {untrained:.2f}, trained {trained:.2f}, hash {told:.2f}.",
)

# %% slideshow={"slide_type": "skip"}
assert trained > 10 * shuffled  # far from chance ...
assert untrained > 10 * shuffled and untrained > 0.3 * trained  # ... but so is a router that learnt nothing
assert 0.6 * trained < told and trained < 0.3 * unknown  # a hash knows as much, and all know little
codes = torch.arange(N_CODES).repeat_interleave(len(data.test_y))
with torch.no_grad():
    reader = cured["bias"][0][0].eval()
    tokens = F.relu(reader.pixels(data.test_x.repeat(N_CODES, 1, 1).flatten(1)) + reader.code(codes))
    by_code = information(reader.moe(tokens)[1].weights.argmax(-1), codes)
    for_free = np.mean([information((tokens @ torch.randn(32, 16)).argmax(-1), codes) for _ in range(10)])
print(f"the sixteen codes: the expert tells {by_code:.1f} of 4 bits, a random router on the same tokens {for_free:.1f}")
assert by_code > 2 and by_code > for_free + 0.5

# %% [markdown] slideshow={"slide_type": "notes"}
# "Expert 3 does strings": such stories are easy to tell, as some row of such a table always looks special. So measure:
# **mutual information** between expert and kind, in bits, beside three controls.
#
# *Shuffled* experts: about zero, so what we see is not chance. A *random* router on the same tokens: half as much as
# the trained one, or more! Tokens that look alike go together under any linear map, so much of the "specialisation"
# comes for free. And the *hash* knows about as much, since a byte gives a part of its kind away. The router was never
# asked for kinds; what helps to predict the next byte is something else.
#
# On the sixteen codes, where the task needs a division of labour, experts do divide it: the expert tells most of the
# code, far more than a random router would. Specialisation is real where the loss pays for it.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Are more experts better?
#
# The sixteen codes, 1 to 64 experts, the same FLOPs for a token (but for the router).

# %% slideshow={"slide_type": "skip"}
counts = [1, 4, 16, 64]
grown = {16: cured["balance loss"]}
for n in (1, 4, 64):
    grown[n] = [train(switch, extra=balance(0.1), size=(32, 8, n), every=600, run=run) for run in range(2)]
accuracy = {n: [history[-1]["quality"] for _, history, _ in grown[n]] for n in counts}
work, size = {}, {}
for n in counts:
    layer = grown[n][0][0].moe
    size[n] = sum(w.numel() for w in layer.experts.parameters())
    with torch.no_grad():
        work[n] = count_flops(layer, torch.randn(1000, 32)) / 1000
    counted = f"{size[n]:7,} parameters in experts, {work[n]:5,.0f} FLOPs a token, {2 * 32 * n:5,} of them to route"
    print(f"{n:3} experts: {counted}; accuracy {np.mean(accuracy[n]):.3f}")
assert np.mean(accuracy[16]) > np.mean(accuracy[4]) > np.mean(accuracy[1]) + 0.01
assert np.mean(accuracy[16]) > np.mean(accuracy[1]) + 0.07
assert np.mean(accuracy[64]) < np.mean(accuracy[16]) + 0.03  # four experts a code bring nothing
assert work[64] - work[1] == 2 * 32 * 63  # what grows is the router

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.5))
plots.curves(ax, counts, {"balance loss": np.array([accuracy[n] for n in counts]).T}, legend=False)
ax.axhline(quality["told the code"], color="0.4", ls=":", lw=1)
ax.text(1, quality["told the code"] + 0.003, "16 experts, told the code", color="0.3", fontsize="small")
ax.set(xscale="log", xlabel="experts", ylabel="accuracy", ylim=(0.75, 0.96))
ax.set_xticks(counts, [f"{n}\n{size[n]:,} weights" for n in counts])
ax.minorticks_off()
show(
    fig,
    "Accuracy against the number of experts. It rises from about 0.79 with one to about 0.91 with 16, as many as there "
    "are codes, and no further with 64.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# This is the promise kept: from 1 to 16 experts, the FLOPs of the experts stay what they are, and the accuracy climbs
# by about twelve points. And this is its limit: at 64, four experts for each code, nothing more is gained, and each
# sees a quarter of the tokens. Parameters help where knowledge is missing. Note the router: at width 32 and 64 experts
# it costs four times as much as the expert. In a large model it is small change; in a small one it is the bill.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where experts fail
#
# - **They collapse** without a cure; and with too much of one they turn random.
# - **Memory is not free.** All the experts must be somewhere, and few tokens pay for many bytes.
# - **They may not be needed.** On the digits, one expert is as good as eight.
# - **They may not specialise** in anything that you can name: measure, with controls.
# - **A hash may do as well.** Try it before you praise a router.

# %% [markdown] slideshow={"slide_type": "notes"}
# More that did not fit here is in `lecture_lib.moe`: noisy top-k with its smooth load (Shazeer et al. 2017), GShard's
# top-2, Sinkhorn and BASE assignments, LIMoE's entropies (notebook 10), Soft MoE, upcycling a dense network. The
# oldest of all needs nothing new: with `choose=softmax` every expert runs, and you have the adaptive mixture of Jacobs
# et al. 1991. Notebook 09 makes the layer fast, and spreads it over several processes.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercises
#
# ### Exercise 1: the balance loss (★★☆, 10 min)
#
# Write `balance_loss(scores)`: scores `(N, E)` of N tokens for E experts in, a scalar out. Each token goes to its best
# expert. The loss must be 1 when all experts have the same probability, E when one has everything, and its gradient
# must go through the probabilities.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def balance_loss(scores):
    return ...


check("balance_loss", balance_loss)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def balance_loss_solution(scores):
    n_experts = scores.shape[-1]
    f = scores.argmax(-1).bincount(minlength=n_experts) / len(scores)
    P = scores.softmax(-1).mean(0)
    return n_experts * (f * P).sum()


check("balance_loss", balance_loss_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise 2: dropped by chance (★★☆, 10 min)
#
# Each of N tokens draws one of E experts by dice. An expert has room for C tokens; the rest is dropped. Which share of
# the tokens is dropped, on average? Write `dropped_by_chance(n_tokens, n_experts, room)`; it should return a number,
# exact (no simulation). The load of one expert is Binomial(N, 1/E), and `math.comb(n, m)` counts the ways to choose m
# of n.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def dropped_by_chance(n_tokens, n_experts, room):
    return ...


check("dropped_by_chance", dropped_by_chance)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def dropped_by_chance_solution(n_tokens, n_experts, room):
    from math import comb

    q = 1 / n_experts
    loads = range(room + 1, n_tokens + 1)  # those that overflow
    overflow = sum((m - room) * comb(n_tokens, m) * q**m * (1 - q) ** (n_tokens - m) for m in loads)
    return n_experts * overflow / n_tokens


check("dropped_by_chance", dropped_by_chance_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# $$y = \sum_e z_e \, f_e(x) \qquad L = L_{\text{task}} + \alpha \, E \sum_e f_e P_e$$
#
# - Sort, multiply in groups, put back: parameters × 64, FLOPs × 1.
# - Seconds follow only with many tokens for each expert.
# - Left alone, routing collapses. Normalise, then balance, gently.
# - Balance is not the goal: random routing has it.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - R. A. Jacobs, M. I. Jordan, S. J. Nowlan, G. E. Hinton, *Adaptive Mixtures of Local Experts*, Neural Computation,
#   1991.
# - N. Shazeer et al., *Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer*, ICLR 2017.
# - W. Fedus, B. Zoph, N. Shazeer, *Switch Transformers*, JMLR, 2022: top-1, the balance loss, capacity.
# - B. Zoph et al., *ST-MoE: Designing Stable and Transferable Sparse Expert Models*, 2022: the z-loss.
# - C. Riquelme et al., *Scaling Vision with Sparse Mixture of Experts*, NeurIPS 2021: batch priority.
# - S. Roller et al., *Hash Layers For Large Sparse Models*, NeurIPS 2021.
# - Y. Zhou et al., *Mixture-of-Experts with Expert Choice Routing*, NeurIPS 2022.
# - Z. Chi et al., *On the Representation Collapse of Sparse Mixture of Experts*, NeurIPS 2022.
# - L. Wang et al., *Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts*, 2024: the bias.
# - W. Fedus, J. Dean, B. Zoph, *A Review of Sparse Expert Models in Deep Learning*, 2022.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
