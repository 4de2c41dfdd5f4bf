# %% [markdown] slideshow={"slide_type": "slide"}
# # Experts at scale: fast, and on many machines
#
# **Notebook 09** · *Designing efficient and modular neural networks*
#
# The talk's notes say: "implementation tricky (sparse MoE)", and "can be parallelised if the experts are
# distributed". Here is the trick, its limit, and the parallel run.

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you will be able to do.** Say why a simple loop over experts is slow, and cure it; run all experts as one
# grouped product; choose between dropping and padding; predict with a roofline whether a layer computes or waits for
# memory; spread experts over processes, and say on paper what a network between them must give. You need: notebook 08,
# for what a router does. About 40 minutes with the two exercises. Everything below runs on a laptop in under a minute.

# %% slideshow={"slide_type": "skip"}
import itertools
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from lecture_lib import plots
from lecture_lib.cost import count_flops, measure_machine, roofline, wall_time
from lecture_lib.expert_parallel import NOMINAL_BYTES_PER_SECOND, on_paper
from lecture_lib.moe import Experts, MoE, switch, within_capacity
from lecture_lib.notebook import check, setup, show
from lecture_lib.widgets import Roofline

seed = setup(0)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The loop that everybody writes first
#
# Expert by expert: find its tokens, run them, put the results back.

# %% slideshow={"slide_type": "-"}
# x (N, D) tokens, expert (N,) of each, weights w_in (E, D, H) and w_out (E, H, D)
def loop(x, expert, w_in, w_out):
    y = torch.zeros_like(x)
    for e in range(len(w_in)):
        mine = expert == e
        y[mine] = F.gelu(x[mine] @ w_in[e]) @ w_out[e]
    return y

# %% [markdown] slideshow={"slide_type": "-"}
# From 4 to 64 experts the FLOPs stay the same: each token runs one expert.
#
# **Predict:** how does the time of a training step grow?

# %% slideshow={"slide_type": "skip"}
def unbound(x, expert, w_in, w_out):
    """The same loop; only the weights are taken apart in one go."""
    y = torch.zeros_like(x)
    for e, (first, last) in enumerate(zip(w_in.unbind(), w_out.unbind(), strict=True)):
        mine = expert == e
        y[mine] = F.gelu(x[mine] @ first) @ last
    return y


def fastest(run, *args):
    """Seconds of a run at its best: other programs can only make it slower."""
    return min(wall_time(run, *args, min_seconds=0.03).low for _ in range(3))


def training_step(run, *args):
    for w in args[-2:]:
        w.grad = None
    run(*args).sum().backward()


# %% slideshow={"slide_type": "skip"} tags=["varies"]
numbers, ways = [4, 16, 64], {"w[e] in the loop": loop, "w.unbind()": unbound}
forward, step = ({name: [] for name in [*ways, "sorted, grouped"]} for _ in range(2))
for n in numbers:
    layer = Experts(n, 64, 256)
    x, expert = torch.randn(1024, 64), torch.randint(n, (1024,))

    def grouped(x, expert, w_in, w_out, layer=layer):
        order = expert.argsort()
        y = layer(x[order], expert.bincount(minlength=len(w_in)))
        return torch.zeros_like(x).index_copy(0, order, y)

    args = x, expert, layer.w_in, layer.w_out
    for name, run in {**ways, "sorted, grouped": grouped}.items():
        torch.testing.assert_close(run(*args), loop(*args))
        with torch.no_grad():
            forward[name].append(fastest(run, *args))
        step[name].append(fastest(training_step, run, *args))
times_slower = {n: step["w[e] in the loop"][i] / step["sorted, grouped"][i] for i, n in enumerate(numbers)}
sort = fastest(expert.argsort)
print("milliseconds of a step" + " " * 4 + "".join(f"{n:4} experts" for n in numbers))
for name in step:
    print(f"{name:26}" + "".join(f"{1e3 * t:12.2f}" for t in step[name]))
print(f"of which sorting                              {1e3 * sort:16.2f}")
assert sort < 0.2 * step["sorted, grouped"][-1]  # next to nothing
assert times_slower[64] > 3 and times_slower[64] > 1.5 * times_slower[4]
assert step["w[e] in the loop"][-1] > 1.5 * step["w.unbind()"][-1]

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Slow going backward

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
fig, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True)
for ax, times, title in zip(axes, (forward, step), ("forward", "forward and backward"), strict=True):
    plots.curves(ax, numbers, {name: [[1e3 * t for t in values]] for name, values in times.items()}, legend=False)
    ax.set(title=title, xscale="log", yscale="log", xlabel="experts (log)")
    ax.set_xticks(numbers, numbers)
    ax.minorticks_off()
    ax.yaxis.set_major_formatter("{x:g}")
axes[0].set_ylabel("milliseconds (log)")
axes[0].legend(frameon=False, fontsize="small", loc="upper left")
show(
    fig,
    "Milliseconds against 4, 16 and 64 experts. Forward, the three ways grow slowly. Forward and backward, w[e] in the "
    f"loop grows steeply: with 64 experts it takes {times_slower[64]:.0f} times as long as sorted and grouped.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Forward, the loop is not so bad. The surprise is the backward pass. `w[e]` is a slice, and the gradient of a slice is
# a tensor of the size of the **whole**, zero but for one expert. So E experts write E tensors of E experts each, and
# add them up: the bytes grow with E², though the FLOPs do not grow at all.
#
# `unbind` is one operation with E results, and its backward puts E gradients side by side, once. The cure is one word.
# It is our first sign that with experts **bytes**, not FLOPs, are what to look at.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Sort, and say where each group ends

# %% slideshow={"slide_type": "-"}
N, E, D, H = 12, 4, 16, 32
x, experts = torch.randn(N, D), Experts(E, D, H)
w_in, w_out = experts.w_in, experts.w_out
chosen = torch.tensor([0, 2, 0, 3, 2, 0, 0, 3, 2, 0, 3, 0])  # nobody asks expert 1

order = chosen.argsort(stable=True)
ends = chosen.bincount(minlength=E).cumsum(0, dtype=torch.int32)  # 6, 6, 9, 12
hidden = F.gelu(F.grouped_mm(x[order], w_in, offs=ends))
sorted_y = F.grouped_mm(hidden, w_out, offs=ends)
y = torch.zeros_like(x).index_copy(0, order, sorted_y)
torch.testing.assert_close(y, loop(x, chosen, w_in, w_out))

# %% slideshow={"slide_type": "skip"}
counts = chosen.bincount(minlength=E)  # the library takes the sizes of groups
torch.testing.assert_close(sorted_y, experts(x[order], counts))

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## One call, a product for each group

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.6))
colours, names = ["C0", "C1", "C2", "C3"], "abcd"
starts = [0, *ends.tolist()[:-1]]
for place, token in enumerate(order.tolist()):
    e = chosen[token].item()
    plots.box(ax, 0.62 * token, 3.6, 0.56, 0.7, names[e], colour=colours[e])
    plots.box(ax, 0.62 * place, 1.3, 0.56, 0.7, names[e], colour=colours[e])
    ax.plot([0.62 * token + 0.28, 0.62 * place + 0.28], [3.55, 2.05], color=colours[e], lw=1.2, alpha=0.7)
for e, (start, end) in enumerate(zip(starts, ends.tolist(), strict=True)):
    if end > start:
        middle = 0.31 * (start + end) - 0.03
        plots.box(ax, middle - 0.8, -0.75, 1.6, 0.85, colour=colours[e])
        ax.text(middle, -0.33, rf"$\times\, W_{names[e]}$", ha="center", va="center", fontsize="large")
        plots.arrow(ax, (middle, 1.25), (middle, 0.12), colour=colours[e])
ax.text(7.7, 3.95, "12 tokens, each with its expert", va="center")
ax.text(7.7, 1.65, f"sorted; ends {ends.tolist()}", va="center")
ax.text(7.7, -0.3, "one call: one product for each group\n(b has none: 6 twice)", va="center")
ax.set(xlim=(-0.1, 12.4), ylim=(-0.85, 4.4))
ax.axis("off")
show(
    fig,
    "Twelve tokens, coloured by expert, are sorted into groups: six for a, none for b, three for c, three for d. Each "
    "group is multiplied by the matrix of its expert. The ends of the groups are 6, 6, 9 and 12.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Sorting costs next to nothing: it moves numbers of tokens, not tokens. Then the tokens themselves are gathered once,
# multiplied in groups, and scattered back.
#
# `torch.nn.functional.grouped_mm` is one call for all groups. On a CPU it loops inside, without Python and without the
# gradients of slices; on a GPU it is one kernel, so that small groups share the chip. Groups may have any size, an
# empty one too: its end is that of the group before. MegaBlocks (Gale et al. 2023), with products of
# block-sparse matrices, showed that to drop and to pad nothing beats both.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Without grouped products: drop or pad
#
# A fixed room for each expert, capacity $C = \lceil c \cdot N / E \rceil$, makes one regular product.
# Who comes late is **dropped**; room that nobody takes is **padding**, computed for nothing.

# %% slideshow={"slide_type": "skip"}
tokens, n_experts = 4096, 16
factors = np.array([0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0])
scores = {"by dice": torch.randn(tokens, n_experts)}
scores["unequal"] = scores["by dice"] + torch.linspace(0, 2, n_experts)  # some experts are liked better
lost, empty, needed = {}, {}, {}  # shares of the tokens, for each c; the c from which nothing is dropped
for name, s in scores.items():
    choice = switch(s)
    wanted = (choice.weights > 0).sum(0).numpy()  # of each expert
    kept = np.stack([(within_capacity(choice, c).weights > 0).sum(0) for c in factors])
    room = np.ceil(factors * tokens / n_experts)[:, None]
    assert (kept <= room).all()
    lost[name], empty[name] = (wanted - kept).sum(1) / tokens, (room - kept).sum(1) / tokens
    np.testing.assert_allclose(empty[name] - lost[name], factors - 1, atol=1e-9)
    needed[name] = wanted.max() * n_experts / tokens
    at_one = f"{lost[name][2]:.0%} dropped, {empty[name][2]:.0%} padding"
    print(f"{name:8} at c = 1: {at_one}; nothing is dropped from c = {needed[name]:.1f} up")
assert 0.01 < lost["by dice"][2] < 0.06 and lost["unequal"][2] > 5 * lost["by dice"][2]
assert lost["unequal"][3] > 0.1 and needed["by dice"] < 1.5 and needed["unequal"] > 2.5

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(10, 3.3), sharey=True)
for ax, name in zip(axes, scores, strict=True):
    plots.curves(ax, factors, {"dropped": [lost[name]], "padding": [empty[name]]})
    ax.set(title=f"routing {name}", xlabel="capacity factor c", ylim=(0, 3.5))
    ax.set_yticks([0, 1, 2, 3], ["0", "100 %", "200 %", "300 %"])
axes[0].set_ylabel("of the tokens")
show(
    fig,
    "Dropped tokens and padding against the capacity factor. By dice, both are a few per cent at 1. With unequal "
    f"experts, {lost['unequal'][2]:.0%} are dropped and as much is padding at 1; to drop nothing takes far more.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# At c = 1 what is dropped **equals** what is padded: every token without room left a hole elsewhere. In general,
# padding - dropped = c - 1, whatever the routing; the cell asserts it. So capacity never buys balance, it only chooses
# who pays: the dropped tokens (the layer adds nothing for them), or the machine.
#
# Grouped products have neither. Capacity is still used where memory must be known in advance: compiled programs, TPUs,
# buffers between machines. Our `MoE` has `capacity_factor`, and `None` is its default.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Two rates of a machine
#
# $$\text{seconds} \ge \max\Big(\frac{\text{FLOPs}}{\text{FLOPs a second}},\;
# \frac{\text{bytes}}{\text{bytes a second}}\Big)
# \qquad \text{intensity} = \frac{\text{FLOPs}}{\text{bytes}}$$

# %% slideshow={"slide_type": "-"} tags=["varies"]
machine = measure_machine()  # a large product, a large copy, one thread
ridge = machine.matmul_rate / machine.copy_rate
print(f"in a second {machine.matmul_rate / 1e9:.0f} GFLOPs")
print(f"     or moves {machine.copy_rate / 1e9:.0f} GB")
print(f"waits for memory below {ridge:.0f} FLOPs a byte")

by_hand = max(6e9 / machine.matmul_rate, 1e9 / machine.copy_rate)
assert roofline(6e9, 1e9, machine).seconds == by_hand
assert ridge > 1  # calculating is cheaper than moving, everywhere

# %% [markdown] slideshow={"slide_type": "notes"}
# The roofline model (Williams et al. 2009) knows two numbers of a machine, and we measure both: how fast it multiplies
# when everything is at hand, and how fast it moves bytes when nothing is calculated. A computation is an intensity: how
# many FLOPs it does with each byte that it moves. Left of the ridge memory binds, and more FLOPs are free. Right of it
# calculating binds.
#
# A GPU's data sheet, for comparison: an H100 (SXM) has about 990 TFLOPs a second in bfloat16 and 3.35 TB a
# second, **nominally**: a ridge near 300. GPUs are hungrier for intensity than your laptop.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Our layers under this roof
#
# **Predict:** 1, 8, 32, 128 experts; 16, 256 or 4,096 tokens. Which of them wait for memory?

# %% slideshow={"slide_type": "skip"} tags=["varies"]
WIDTH, HIDDEN = 256, 512
sizes, crowds = [1, 2, 4, 8, 16, 32, 64, 128], [16, 256, 4096]
points, moved, took = {}, {}, {}
for n in sizes:
    layer = MoE(WIDTH, HIDDEN, n, switch).requires_grad_(False)
    for tokens in crowds:
        x = torch.randn(tokens, WIDTH)
        expert = layer(x)[1].weights.argmax(-1)
        order, load = expert.argsort(), expert.bincount(minlength=n)
        flops = count_flops(layer.experts, x[order], load)
        assert flops == 4 * tokens * WIDTH * HIDDEN  # two products; the same for any number of experts
        touched = (load > 0).sum().item()
        n_bytes = 4 * (touched * 2 * WIDTH * HIDDEN + 2 * tokens * (WIDTH + HIDDEN))  # read and written once
        seconds = fastest(layer.experts, x[order], load)  # as the machine's rates were measured
        points[n, tokens] = flops / n_bytes, flops / seconds, roofline(flops, n_bytes, machine)
        moved[n, tokens], took[n, tokens] = n_bytes, seconds
shown = [1, 8, 32, 128]
for n, tokens in itertools.product(shown, crowds):
    intensity, rate, bound = points[n, tokens]
    reached = bound.seconds * rate / (4 * tokens * WIDTH * HIDDEN)  # 1: on its roof
    print(f"{n:3} experts, {tokens:5,} tokens: {intensity:5.1f} FLOPs a byte, {bound.binds:7} binds, ", end="")
    print(f"{rate / 1e9:5.1f} GFLOPs a second, {reached:4.0%} of its roof")
assert points[1, 4096][0] > 80 > 20 > points[128, 4096][0] > 10  # intensity
assert all(points[n, 16][0] < 9 for n in sizes) and points[128, 16][0] < 1.2
binds = {place: bound.binds for place, (_, _, bound) in points.items()}  # with any ridge from 2 to 50
assert binds[1, 4096] == binds[1, 256] == "compute" and binds[128, 256] == "memory"
assert all(binds[n, 16] == "memory" for n in shown[1:]) and 7 < points[1, 16][0] < 8
assert points[128, 16][1] < 0.5 * points[1, 4096][1]  # measured: few tokens, many experts, far below the roof

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
fig, ax = plt.subplots(figsize=(10, 4.0))
reach = np.geomspace(0.25, 250, 200)
roof = np.minimum(machine.matmul_rate, reach * machine.copy_rate) / 1e9
ax.plot(reach, roof, color="0.25", lw=2.5)
ax.fill_between(reach, roof, 1e4, color="0.93", lw=0)
ax.axvline(ridge, color="0.6", lw=1, ls=":")
markers, dashes = dict(zip(crowds, "^so", strict=True)), ["-", "--", "-.", ":"]
for i, n in enumerate(shown):
    line = [points[n, tokens] for tokens in crowds]
    ax.plot([p[0] for p in line], [p[1] / 1e9 for p in line], color=f"C{i}", lw=1.5, ls=dashes[i])
    for tokens in crowds:
        ax.plot(points[n, tokens][0], points[n, tokens][1] / 1e9, markers[tokens], color=f"C{i}", ms=10, mec="w")
handles = [plt.Line2D([], [], color=f"C{i}", lw=2, ls=dashes[i]) for i in range(len(shown))]
handles += [plt.Line2D([], [], color="0.4", marker=markers[t], ls="", ms=8) for t in crowds]
labels = ["dense", *(f"{n} experts" for n in shown[1:]), *(f"{t:,} tokens" for t in crowds)]
ax.legend(handles, labels, frameon=False, loc="lower right", ncols=2)
ax.text(0.27, 0.9 * machine.matmul_rate / 1e9, "above the roof: from a cache,\nor only read", va="top", color="0.35")
ax.text(ridge / 1.1, 2 * machine.matmul_rate / 1e9, "← memory binds", ha="right", va="bottom")
ax.text(ridge * 1.1, 2 * machine.matmul_rate / 1e9, "calculating binds →", va="bottom")
ax.set(xscale="log", yscale="log", xlim=(0.25, 250), xlabel="intensity: FLOPs a byte", ylabel="GFLOPs a second")
ax.set_ylim(min(p[1] for p in points.values()) / 2e9, 4 * machine.matmul_rate / 1e9)
for axis in (ax.xaxis, ax.yaxis):
    axis.set_major_formatter("{x:g}")
show(
    fig,
    "The roofline of this machine with twelve measured points. More experts move points to the left and down along the "
    "slope, more tokens move them to the right and up. Only few experts with many tokens come near the flat roof.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The FLOPs of the twelve points are 4 · N · D · H, whatever the number of experts. What differs is how often a weight
# is used once it has been read: about N / E times. So each expert makes the intensity smaller, each token larger:
# points slide along the slope.
#
# Triangles, 16 tokens: experts wait for memory, dense too if the ridge is above 7. Squares: dense is over the ridge,
# many experts are not. Circles, 4,096 tokens: with 128 experts each still has only 32.
#
# A point above the slope is no mistake: its weights came from a cache, or were only read, while our copy also writes.
# A point far below its roof tells of what the model does not know, such as the time to start many small products.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The same FLOPs, from 1 to 128 experts

# %% slideshow={"slide_type": "-"} tags=["figure:roofline_widget", "fold", "varies"]
Roofline(
    machine,
    sizes,
    crowds,
    flops=[4 * tokens * WIDTH * HIDDEN for tokens in crowds],
    n_bytes=[[moved[n, tokens] for tokens in crowds] for n in sizes],
    seconds=[[took[n, tokens] for tokens in crowds] for n in sizes],
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Try.** One expert: with 4,096 tokens calculating takes longest. Now double the experts, again and again, and look at
# the times on the right. The diamonds do not move: the FLOPs of a token stay. The bars go to the right, first with few
# tokens, last with many, and the measured time follows whichever is later. All three crowds have the same FLOPs for a
# token, and times for a token that are far apart.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## How many tokens must an expert have?
#
# $$I(t) = \frac{4\,t\,D\,H}{4\,(2 D H + 2 t (D + H))} \approx \frac t2 \qquad t \text{ tokens an expert, float32}$$

# %% slideshow={"slide_type": "skip"} tags=["varies"]
def intensity_of(t, width, hidden, number=4):  # bytes of a number
    return 4 * t * width * hidden / (number * (2 * width * hidden + 2 * t * (width + hidden)))


t = np.geomspace(1, 4096, 97)
here, there = intensity_of(t, WIDTH, HIDDEN), intensity_of(t, 4096, 14336, number=2)
ridges = {"this machine": ridge, "H100, on paper": 990e12 / 3.35e12}
needed = {}
for (name, goal), values in zip(ridges.items(), (here, there), strict=True):
    assert values[-1] >= goal  # a ridge that no number of tokens reaches would need another picture
    needed[name] = round(np.interp(goal, values, t))
    print(f"{name}: ridge {goal:.0f} FLOPs a byte, reached with {needed[name]} tokens for each expert")
assert 250 < needed["H100, on paper"] < 450
assert abs(intensity_of(20, WIDTH, HIDDEN) / 10 - 1) < 0.15  # t / 2
stored = 16 * sum(w.numel() for w in Experts(128, WIDTH, HIDDEN).parameters()) / 1e6
print(f"128 experts in training: {stored:.0f} MB, 16 bytes a parameter")

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
fig, ax = plt.subplots(figsize=(10, 3.2))
plots.curves(ax, t, {"our layer, float32": [here], "D = 4096, H = 14336, bfloat16": [there]})
for i, (name, goal) in enumerate(ridges.items()):
    side, y = ("bottom", 1.08 * goal) if i == 0 else ("top", 0.93 * goal)
    ax.axhline(goal, color=f"C{i}", lw=1, ls=":")
    ax.text(3900, y, f"ridge of {name}: {goal:.0f}", color=f"C{i}", ha="right", va=side, fontsize="small")
    ax.plot(needed[name], goal, "*", color=f"C{i}", ms=22, mec="w", zorder=5)
    side, place = ("left", (12, -20)) if i == 0 else ("right", (-12, 8))
    ax.annotate(f"{needed[name]} tokens", (needed[name], goal), xytext=place, textcoords="offset points", ha=side)
ax.legend(frameon=False, loc="upper left")
ax.set(xscale="log", yscale="log", xlabel="tokens for each expert (log)", ylabel="FLOPs a byte (log)")
ax.set(xlim=(0.9, 4600), ylim=(0.4, 4000))
for axis in (ax.xaxis, ax.yaxis):
    axis.set_major_formatter("{x:g}")
show(
    fig,
    "Intensity against tokens for each expert, on logarithmic axes: two curves that rise in proportion and then bend. "
    f"Stars where they reach the ridge: {needed['this machine']} tokens here, {needed['H100, on paper']} on an H100.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Sparse saves FLOPs, not bytes.** All experts have to be stored: in training 16 bytes a parameter (weight, gradient,
# and two moments of Adam in float32). And all that are touched have to be read.
#
# A chat with one user gives an expert one token at a time: pure waiting. A provider collects hundreds of users into one
# batch, and *then* the experts are busy. That is one reason for many machines: not only do the weights not fit, it is
# the way to bring enough tokens to each expert.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Experts on two processes: all to all
#
# Each process has half of the tokens and half of the experts. Tokens travel.

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.9))
wanted = {0: "acba", 1: "dbcc"}  # the tokens of two ranks, by the expert that each wants
where = dict(zip("abcd", [0, 0, 1, 1], strict=True))
base = {0: 3.2, 1: 0.2}
stacks = {r: sorted((e, q, i) for q in wanted for i, e in enumerate(wanted[q]) if where[e] == r) for r in base}
for r, y in base.items():
    for left, width in ((0.0, 1.9), (4.0, 4.3), (10.4, 1.9)):
        ax.add_patch(plt.Rectangle((left, y - 0.1), width, 2.7, fc="0.95", ec="0.75", lw=1, zorder=0))
    ax.text(-0.15, y + 1.25, f"rank {r}", ha="right", va="center", weight="bold")
    for place, (e, q, i) in enumerate(stacks[r]):
        colour, y0 = colours["abcd".index(e)], base[q] + 2.0 - 0.62 * i
        y1 = y + 2.0 - 0.62 * place
        plots.box(ax, 0.3, y0, 1.3, 0.5, f"{e}", colour=colour)
        plots.box(ax, 4.2, y1, 1.3, 0.5, f"{e}", colour=colour)
        plots.box(ax, 10.7, y0, 1.3, 0.5, colour=colour)
        ax.text(11.35, y0 + 0.22, f"$f_{e}$", ha="center", va="center", fontsize="large")
        style = {"lw": 2.2 if q != r else 1.2, "ls": "-" if q != r else ":", "color": colour}
        ax.plot([1.65, 4.15], [y0 + 0.25, y1 + 0.25], **style)
        ax.plot([8.05, 10.65], [y1 + 0.25, y0 + 0.25], **style)
    for e in "abcd"[2 * r : 2 * r + 2]:
        places = [y + 2.0 - 0.62 * p for p, row in enumerate(stacks[r]) if row[0] == e]
        low, high = min(places), max(places) + 0.5
        plots.box(ax, 6.6, low, 1.4, high - low, f"expert {e}", colour=colours["abcd".index(e)])
        plots.arrow(ax, (5.55, (low + high) / 2), (6.55, (low + high) / 2), colour=colours["abcd".index(e)])
titles = {0.95: "its tokens", 2.9: "all to all", 6.15: "its experts", 9.35: "all to all", 11.35: "results"}
for x0, text in titles.items():
    ax.text(x0, 6.05, text, ha="center")
ax.text(6.15, -0.45, "solid: to the other rank; dotted: stays", ha="center", color="0.3", fontsize="small")
ax.set(xlim=(-1.3, 12.4), ylim=(-0.6, 6.4))
ax.axis("off")
show(
    fig,
    "Two ranks with four tokens each. Experts a and b are on rank 0, c and d on rank 1. Tokens for the other rank's "
    "experts cross over, solid lines; the others stay, dotted. After the experts, results travel back the same way.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# A process of such a group is called a *rank*. The router is small, so every rank has a copy and routes its own tokens.
# Then: how many rows do I send you? Then the rows. The experts run what has arrived, from whichever rank. Results go
# back the way the tokens came. Backward, gradients take the same way in the opposite direction: four exchanges of rows
# in a training step.
#
# Weights never travel. The exchange is *uneven*: the router decides how much goes where, anew in each step.
# In `torch.distributed` it is one call, `all_to_all_single`, with a list of sizes. This is GShard's design (Lepikhin et
# al. 2021), and the gradient rule is in the docstring of `lecture_lib.expert_parallel`.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Run it: two processes, one answer

# %% slideshow={"slide_type": "-"}
EQUAL = """
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)  # the same layer and the same data on every rank
moe, everything = MoE(64, 256, 8, switch), torch.randn(256, 64)
layer = ExpertParallel(copy.deepcopy(moe), dist.group.WORLD)
y, choice = layer(everything.chunk(world)[rank])
y.square().sum().backward()  # the losses of all ranks add up to that of one process
dist.all_reduce(layer.router.weight.grad)  # each rank has a share of it
"""

# %% slideshow={"slide_type": "skip"}
HEAD = """
import copy, gc, time
import torch
import torch.distributed as dist
from lecture_lib.expert_parallel import ExpertParallel, pairs_by_rank
from lecture_lib.moe import MoE, switch
torch.set_num_threads(1)
"""
COMPARE = """
whole = moe(everything)[0]
whole.square().sum().backward()
pairs = [(y, whole.chunk(world)[rank]), (layer.router.weight.grad, moe.router.weight.grad)]
for own, all_of_them in zip(layer.experts.parameters(), moe.experts.parameters(), strict=True):  # w_in and w_out
    pairs.append((own.grad.to_local(), all_of_them.grad.chunk(world)[rank]))
off = torch.stack([(one - other).abs().max() / other.abs().max() for one, other in pairs])
dist.all_reduce(off, dist.ReduceOp.MAX)
rows = [torch.empty(world, dtype=torch.int64) for _ in range(world)]
dist.all_gather(rows, pairs_by_rank(choice, world))
if rank == 0:
    (stays, goes), (comes, home) = torch.stack(rows).tolist()
    print(f"rows: rank 0 keeps {stays} and sends {goes}, rank 1 keeps {home} and sends {comes}")
    print(f"apart from one process: output {off[0]:.1g}, gradients {off[1:].max():.1g}")
"""

# %% slideshow={"slide_type": "skip"}
SPEED = """
moe, x = MoE(256, 512, 8, switch), torch.randn(world, 2048, 256)[rank]
layer = ExpertParallel(copy.deepcopy(moe), dist.group.WORLD)

def tokens_per_second(layer, processes, steps=4):
    for i in range(steps + 1):
        if i == 1:  # the first one is a warm-up
            start = time.perf_counter()
        layer(x)[0].square().mean().backward()
    return processes * steps * len(x) / (time.perf_counter() - start)

alone = tokens_per_second(moe, 1) if rank == 0 else None  # rank 1 waits
dist.barrier()
together = tokens_per_second(layer, world)
to = pairs_by_rank(layer(x)[1], world)
away = to.sum() - to[rank]
dist.all_reduce(away)
if rank == 0:
    print(f"tokens a second: {alone:.0f} by one process, {together:.0f} by two; {away} of {world * len(x)} travel")
dist.barrier()
"""
END = """
main()
gc.collect()  # layers hold process groups, whose threads must end before the interpreter does
dist.destroy_process_group()
"""

# %% slideshow={"slide_type": "skip"}
def torchrun(script, processes=2, limit=120):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "experts.py"
        path.write_text(HEAD + "def main():" + textwrap.indent(script, "    ") + END, encoding="utf-8")
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), str(path)]
        done = subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            timeout=limit,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()


# %% slideshow={"slide_type": "-"} tags=["varies"]
said = torchrun(EQUAL + COMPARE + SPEED)  # two processes
print(said)

# %% slideshow={"slide_type": "skip"} tags=["varies"]
def numbers_after(words):
    """The numbers of the line that starts with these words."""
    (line,) = (line for line in said.splitlines() if line.startswith(words))
    return [float(number) for number in re.findall(r"\d[\d.]*(?:e[+-]\d+)?", line.removeprefix(words))]


_, stays, goes, _, home, comes = numbers_after("rows:")
sent = np.array([[stays, goes], [comes, home]])
assert sent.sum() == 256 and sent.sum(1).tolist() == [128, 128]  # each rank has 128 tokens, and each goes somewhere
assert sent.min() > 10  # both ranks have work, both send some of it away
assert max(numbers_after("apart from one process: output")[:2]) < 1e-6
alone, together, away, of = numbers_after("tokens a second:")
share_away = away / of
travel = 4 * share_away * 4 * 256  # bytes a token: four exchanges of 256 numbers of 4 bytes
print(f"speed-up {together / alone:.2f}; {share_away:.0%} of the tokens travel, {travel:,.0f} bytes a token in all")
assert 0.2 < share_away < 0.8

# %% [markdown] slideshow={"slide_type": "notes"}
# `torchrun` starts the file twice, and tells each process its rank. The same file runs on 2 or 2,000 processes. The
# comparison is made on every rank, of outputs and of all gradients: within 1e-6 of one process, in units of the largest
# number. Both ranks compute the whole thing once more for it, which is what a test may do.
#
# **The rule** that is easily missed: an expert's gradient is whole where the expert is, as all its rows came there. The
# router is on every rank, and each has the gradient of its own tokens only: these are to be added up.
#
# The last line times a larger layer, 2,048 tokens on each rank. **What does it show?** That the exchange works and
# what it costs here. **What not?** How it scales. Two processes of one machine share its memory, which is what experts
# wait for; they share caches, perhaps one core; gloo copies through the same memory. A speed-up near 2 here would not
# promise 2,000 elsewhere, and one below 1 does not forbid it.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## On paper: what must the network give?
#
# Eight ranks, 4,096 tokens each, two experts a token. **Nominal** link speeds, 400 TFLOPs a second.

# %% slideshow={"slide_type": "skip"}
RATE = 400e12  # about 40 % of what an H100 has nominally in bfloat16
rows = torch.full((8, 8), 4096 * 2 // 8)  # perfect balance: the best case
layers = {"wide: D = 4096, H = 14336": (4096, 14336), "fine: D = 2048, H = 1408": (2048, 1408)}
links = ["NVLink 4, all links of an H100", "InfiniBand NDR, 400 Gb/s", "PCIe 4.0, 16 lanes", "10 Gb Ethernet"]
paper = {
    name: [
        on_paper(
            rows,
            flops_per_pair=6 * width * hidden,  # gated: three matrices
            row_bytes=2 * width,  # bfloat16
            flops_per_second=RATE,
            bytes_per_second=NOMINAL_BYTES_PER_SECOND[link],
        )
        for link in links
    ]
    for name, (width, hidden) in layers.items()
}
ratio = {name: [step.exchange / step.compute for step in steps] for name, steps in paper.items()}
for name in layers:
    print(f"{name}: exchange / compute " + ", ".join(f"{r:.2f}" for r in ratio[name]))
wide, fine = ratio.values()
away = 7 / 8 * 4096 * 2 * 2  # rows that leave a rank, times bytes a number
np.testing.assert_allclose(wide[0], 4 * away * RATE / (18 * 8192 * 14336 * 450e9))  # D cancels
np.testing.assert_allclose([b / a for a, b in zip(wide, fine, strict=True)], 14336 / 1408)
assert wide[0] < 0.05 and wide[1] < 0.3 and wide[3] > 5 and fine[1] > 2

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.7))
ax.axvspan(1, 400, color="0.93", lw=0)
for i, (name, values) in enumerate(ratio.items()):
    for y, value in enumerate(values):
        ax.plot([1, value], [y + 0.22 * (2 * i - 1)] * 2, color=f"C{i}", lw=2.5)
        ax.annotate(f"{value:.2g}", (value, y + 0.22 * (2 * i - 1)), xytext=(10 if value > 1 else -10, 0), va="center",
                    textcoords="offset points", ha="left" if value > 1 else "right", fontsize="small")  # fmt: skip
    ax.plot(values, np.arange(4) + 0.22 * (2 * i - 1), "os"[i], color=f"C{i}", ms=10, mec="w", label=name)
ax.axvline(1, color="0.3", lw=1.5)
ax.text(0.93, -0.75, "products take longer", ha="right", va="center", color="0.3", fontsize="small")
ax.text(1.07, -0.75, "exchange takes longer", ha="left", va="center", color="0.3", fontsize="small")
ax.set(xscale="log", xlim=(0.01, 400), ylim=(3.6, -1.1), xlabel="time of the exchange, as a multiple of the products'")
ax.set_xticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
ax.set_yticks(range(4), [link.split(",")[0] for link in links])
ax.minorticks_off()
ax.legend(frameon=False, loc="upper right", fontsize="small", title="experts", borderaxespad=0)
show(
    fig,
    "Time of the exchange over that of the products, on paper. Wide experts: 0.02 on NVLink, 0.2 on InfiniBand, 9 on "
    "Ethernet. Fine-grained experts: ten times as much each, 2 on InfiniBand.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Not measured: nominal rates of one direction from the links' standards, ideal balance, no latency, nothing overlaps.
# Real systems are slower in each term, and overlap both.
#
# What survives all that is the **ratio**. A row of D numbers travels, and pays for 6 · D · H FLOPs: D cancels, and only
# the hidden width H of an expert counts. Wide experts hide behind any good link. Fine-grained ones, as in DeepSeekMoE
# (Dai et al. 2024), pay ten times as much in communication for the same computation. Ethernet is no home for either.
#
# And unequal load costs twice: the slowest rank sets the pace of the products, and of the exchange.

# %% slideshow={"slide_type": "skip"}
asked = torch.tensor([3, 1, 1, 1, 1, 1, 1, 1])  # the experts of rank 0 three times as often as others
uneven = (rows[0].sum() * asked / asked.sum()).expand(8, 8)  # as many rows in all
slow, fair = (
    on_paper(r, flops_per_pair=1.0, row_bytes=1.0, flops_per_second=1.0, bytes_per_second=1.0) for r in (uneven, rows)
)
print("one rank asked three times as often: ", end="")
print(f"compute × {slow.compute / fair.compute:.1f}, exchange × {slow.exchange / fair.exchange:.1f}")
np.testing.assert_allclose([slow.compute / fair.compute, slow.exchange / fair.exchange], 3 / 10 * 8, rtol=1e-6)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where it fails
#
# - **Sparse saves FLOPs, not bytes.** Every expert is stored; every expert that is touched is read.
# - **Small batches wait for memory**, with experts more than without.
# - **Many machines want wide experts** and fast links; the router's imbalance is everybody's wait.
# - **Capacity moves the cost**, to dropped tokens or to padding. It removes nothing.
# - **Two processes on a laptop** prove that it is right, not that it is fast.

# %% [markdown] slideshow={"slide_type": "notes"}
# So when is a mixture of experts the right choice? When FLOPs are short and memory is not: training, and serving
# large batches. On one small device for one user it is the other way round, and early exits or a smaller network
# (notebooks 05 and 06) save what is short there.
#
# `make bench` compares the layer with transformers' experts, st-moe-pytorch and the loops of tutorials; that results
# are equal is asserted. `examples/train_moe.py` trains a small language model with experts on one process or many, and
# survives being killed.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercises
#
# ### Exercise 1: groups (★★☆, 10 min)
#
# Each of N tokens has chosen k experts: `chosen`, integers of shape `(N, k)`. Write `groups(chosen, n_experts)` that
# returns two tensors: `token`, the numbers of the tokens, N · k of them, sorted by expert, and `ends`, for each of the
# E experts where its group ends. With top-1 you have seen it above; now a token may stand in several groups.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def groups(chosen, n_experts):
    return ...


check("groups", groups)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def groups_solution(chosen, n_experts):
    k = chosen.shape[1]
    pairs = chosen.flatten()  # the pairs of a token and an expert, token by token
    token = pairs.argsort(stable=True) // k
    return token, pairs.bincount(minlength=n_experts).cumsum(0)


check("groups", groups_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise 2: intensity (★★☆, 10 min)
#
# Predict the bound. N tokens run forward, each through one of E experts, in float32; an expert has two matrices,
# D × H and H × D. Write `intensity(n_tokens, n_experts, width, hidden)`: FLOPs a byte, when routing is as equal as it
# can be. A multiply-add is 2 FLOPs. The weights of each expert that has a token are read once; each of the two products
# reads its rows and writes its results once. Fewer tokens than experts? Then not all of these are read.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def intensity(n_tokens, n_experts, width, hidden):
    return ...


check("intensity", intensity)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def intensity_solution(n_tokens, n_experts, width, hidden):
    flops = 2 * 2 * n_tokens * width * hidden
    weights = min(n_tokens, n_experts) * 2 * width * hidden
    rows = 2 * n_tokens * (width + hidden)
    return flops / (4 * (weights + rows))


check("intensity", intensity_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# $$\text{seconds} \ge \max\Big(\frac{\text{FLOPs}}{\text{FLOPs a second}},\;
# \frac{\text{bytes}}{\text{bytes a second}}\Big)$$
#
# - Slices have expensive gradients: sort, then one grouped product.
# - Few tokens for each expert: the layer waits for memory.
# - Over machines weights stay, tokens travel, and H decides whether it pays.
# - Count FLOPs *and* bytes; then measure.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - S. Williams, A. Waterman, D. Patterson, *Roofline: An Insightful Visual Performance Model for Multicore
#   Architectures*, Communications of the ACM, 2009.
# - N. Shazeer et al., *Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer*, ICLR 2017.
# - D. Lepikhin et al., *GShard: Scaling Giant Models with Conditional Computation and Automatic Sharding*, ICLR 2021.
# - W. Fedus, B. Zoph, N. Shazeer, *Switch Transformers*, JMLR, 2022: capacity.
# - T. Gale et al., *MegaBlocks: Efficient Sparse Training with Mixture-of-Experts*, MLSys 2023: nothing dropped.
# - D. Dai et al., *DeepSeekMoE: Towards Ultimate Expert Specialization in Mixture-of-Experts Language Models*, ACL
#   2024.
# - W. Fedus, B. Zoph, J. Dean, *A Review of Sparse Expert Models in Deep Learning*, 2022.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
