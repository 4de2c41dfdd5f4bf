# %% [markdown] slideshow={"slide_type": "slide"}
# # Experts at scale: fast, and on many machines
#
# **Notebook 09** · *Designing efficient and modular neural networks*
#
# Equal FLOPs are not equal seconds. What does a layer of experts wait for, with one user, with some, with thousands?

# %% [markdown] slideshow={"slide_type": "skip"}
# **After this notebook you can** say why a loop over experts is slow, and cure it; run all experts as one grouped
# product; choose between dropping, padding and neither; predict with a *roofline* whether a layer calculates or waits
# for memory; spread experts over processes, and say what a network between them must give; keep a token's experts on
# few machines. **You need** notebook 08: a router, top-k, capacity.
#
# Code that draws or prepares is folded: click on its title to open it. Where it says *Predict*, guess before you click.
# Lines that begin with ✓ or ✗ compare the text with the numbers. Times are of the machine that ran this page, with one
# thread: compare them with each other only.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Imports, the seed, a record, and a clock
import itertools
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from lecture_lib import plots, recorded
from lecture_lib.choice import top_k
from lecture_lib.cost import count_flops, measure_machine, roofline, wall_time
from lecture_lib.expert_parallel import NOMINAL_BYTES_PER_SECOND, on_paper
from lecture_lib.moe import Experts, MoE, switch, within_capacity, within_groups
from lecture_lib.notebook import check, claim, setup, show
from lecture_lib.recorded import experts_at_scale as next_byte
from lecture_lib.widgets import Roofline

seed = setup(0)
record, longer = recorded.load("experts_at_scale"), recorded.load("experts_at_scale_more")


def fastest(run, *args):
    """Seconds of a run at its best: other programs can only make it slower."""
    return min(wall_time(run, *args, min_seconds=0.03).low for _ in range(3))


# %% [markdown] slideshow={"slide_type": "slide"}
# ## The loop that everybody writes first
#
# Expert by expert: find its tokens, run them, put the results back.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Why is the obvious code slow?
#
# **Idea.** $N$ tokens of width $D$; each has chosen one of $E$ experts. An expert has two matrices, $D \times H$ and
# $H \times D$. The experts' matrices lie in two tensors, `w_in` and `w_out`, and `w_in[e]` is a **slice**. With more
# experts the FLOPs stay the same: each token still runs one.
#
# **Code.** The loop. Look at the last line: in each round it takes two slices.


# %% slideshow={"slide_type": "-"}
# x (N, D) tokens, expert (N,) of each, weights w_in (E, D, H) and w_out (E, H, D)
def loop(x, expert, w_in, w_out):
    y = torch.zeros_like(x)
    for e in range(len(w_in)):
        mine = expert == e
        y[mine] = F.gelu(x[mine] @ w_in[e]) @ w_out[e]
    return y


# %% [markdown] slideshow={"slide_type": "subslide"}
# **Predict.** From 4 to 64 experts, 1,024 tokens. How does the time of forward and backward pass grow?
#
# <details><summary>A. Hardly: the FLOPs stay the same</summary>
#
# **No.** Time is not FLOPs: each expert has its own small products, and more than that.
#
# </details>
#
# <details><summary>B. It grows, mostly in the forward pass</summary>
#
# **No.** Forward, smaller products are slower, but a slice costs nearly nothing there.
#
# </details>
#
# <details><summary>C. It grows, mostly in the backward pass</summary>
#
# **Yes.** The gradient of each slice has the size of all experts together.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# The gradient of a slice is a tensor of the size of the **whole**, zero but for one expert. So $E$ experts write $E$
# tensors of $E$ experts each: these bytes grow with $E^2$. To see whether that is the cause, we take it away, in two
# ways. `w_in.unbind()` is one operation with $E$ results, whose backward pass puts $E$ gradients side by side, once.
# And *separate* weights: each expert has two parameters of its own, as in a list of layers. The fourth way, sorted and
# grouped, comes next. All give the same output. *Small* experts have $D = 64$, $H = 256$, *large* ones $D = 256$,
# $H = 512$. With large ones `w[e]` is left out: for 64 its slices get 128 gradients of 34 MB.


# %% slideshow={"slide_type": "skip"} tags=["fold", "guess", "varies"]
# @title Measure four ways, forward and with the backward pass
def four_ways(n, width, hidden):
    """name -> (a function that runs it, the parameters that get a gradient)."""
    layer = Experts(n, width, hidden)
    x, expert, whole = torch.randn(1024, width), torch.randint(n, (1024,)), (layer.w_in, layer.w_out)
    separate = [[w.detach().clone().requires_grad_() for w in both] for both in whole]

    def grouped():
        order = expert.argsort()
        return torch.zeros_like(x).index_copy(0, order, layer(x[order], expert.bincount(minlength=n)))

    return {
        "loop, w[e]": (lambda: loop(x, expert, *whole), whole),
        "loop, w.unbind()": (lambda: loop(x, expert, *(w.unbind() for w in whole)), whole),
        "loop, separate": (lambda: loop(x, expert, *separate), separate[0] + separate[1]),
        "sorted, grouped": (grouped, whole),
    }


numbers, shapes = [4, 16, 64], {"small": (64, 256), "large": (256, 512)}
forward, step = {}, {}  # (size, way) -> seconds for each number of experts
for (size, shape), n in itertools.product(shapes.items(), numbers):
    ways, best = four_ways(n, *shape), {}
    y = ways["sorted, grouped"][0]()
    for _, (name, (run, weights)) in itertools.product(range(5), ways.items()):  # in turn
        if (size, name) == ("large", "loop, w[e]"):
            continue  # too long
        torch.testing.assert_close(run(), y, rtol=1e-4, atol=1e-4)
        with torch.no_grad():
            once = wall_time(run, min_seconds=0.02).low
        learn = lambda run=run, weights=weights: torch.autograd.grad(run().sum(), weights)  # noqa: E731
        whole = wall_time(learn, min_seconds=0.02).low
        best[name] = np.minimum(best.get(name, np.inf), [once, whole])
    for name, (once, whole) in best.items():
        forward.setdefault((size, name), []).append(once)
        step.setdefault((size, name), []).append(whole)
print("milliseconds            forward:" + "".join(f"{n:4}" + 4 * " " for n in numbers), end="")
print("   and backward:" + "".join(f"{n:4}" + 4 * " " for n in numbers) + "experts")
for key, times in step.items():
    once, whole = ("".join(f"{1e3 * t:8.2f}" for t in some) for some in (forward[key], times))
    print(f"{key[0]:7}{key[1]:21}{once}           {whole}")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Slow going backward
#
# 1,024 tokens. In each picture FLOPs and outputs are equal.

# %% slideshow={"slide_type": "-"} tags=["fold", "guess", "varies"]
# @title Plot the four ways
fig, axes = plt.subplots(1, 3, figsize=(10, 3.8), sharey=True)
titles = {"small: forward": (forward, "small"), "small: forward and backward": (step, "small")}
titles["large: forward and backward"] = step, "large"
for ax, (title, (times, size)) in zip(axes, titles.items(), strict=True):
    for i, name in enumerate(ways):
        if (size, name) in times:
            values = [1e3 * t for t in times[size, name]]
            ax.plot(numbers, values, "os^D"[i] + ["-", "--", "-.", ":"][i], color=f"C{i}", label=name, lw=2)
    ax.set(xscale="log", yscale="log", xlabel="experts (log)")
    ax.set_title(title, fontsize="medium")
    ax.set_xticks(numbers, numbers)
    ax.minorticks_off()
    ax.yaxis.set_major_formatter("{x:g}")
axes[0].set_ylabel("milliseconds (log)")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
at_64 = {way: times[-1] for way, times in step.items()}
slice_ms, grouped_ms = at_64["small", "loop, w[e]"], at_64["small", "sorted, grouped"]
unbound = at_64["large", "loop, w.unbind()"] / at_64["large", "loop, separate"]
show(
    fig,
    "Milliseconds against 4, 16 and 64 experts. Forward and backward through small experts, w[e] grows most steeply: "
    f"with 64 it takes {slice_ms / grouped_ms:.1f} times as long as sorted and grouped. With 64 large ones, unbind "
    f"takes {unbound:.1f} times as long as separate weights.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Claims: four ways
grows = {name: times["small", "loop, w[e]"] for name, times in (("forward", forward), ("both", step))}
print(f"w[e], forward and backward, from 16 to 64 experts: {grows['both'][2] / grows['both'][1]:.1f} times as long")
claim(
    "From 4 to 64 experts the loop's time with the backward pass grows by a larger factor than its forward pass",
    grows["both"][-1] / grows["both"][0] > grows["forward"][-1] / grows["forward"][0],
    clock=True,
    both=grows["both"][-1] / grows["both"][0],
    forward=grows["forward"][-1] / grows["forward"][0],
)
cured = {w: slice_ms / at_64["small", f"loop, {w}"] for w in ("w.unbind()", "separate")}
claim(
    "With 64 small experts, each of the two cures makes the loop more than twice as fast",
    min(cured.values()) > 2,
    clock=True,
    unbind=cured["w.unbind()"],
    separate=cured["separate"],
)
claim(
    "With 64 large experts unbind takes more than 1.3 times as long as separate weights",
    unbound > 1.3,
    clock=True,
    times_as_long=unbound,
)
gain = {
    f"{n}_{size}": step[size, "loop, separate"][numbers.index(n)] / step[size, "sorted, grouped"][numbers.index(n)]
    for size, n in itertools.product(shapes, numbers)
}
claim(
    "Over separate weights grouped gains most with 16 or 64 small experts, with 4 experts less than a quarter",
    max(gain, key=gain.get) in ("16_small", "64_small") and max(gain["4_small"], gain["4_large"]) < 1.25,
    clock=True,
    **gain,
)
claim(
    "With large experts, grouped and separate weights are within a factor of 2",
    all(0.5 < gain[f"{n}_large"] < 2 for n in numbers),
    clock=True,
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Forward, the loop grows, too: its products get small. With the backward pass it grows more, though the FLOPs are
# equal. Without the gradients of slices most of that is gone: they are the cause. ($E^2$ is not the whole time: from 16
# to 64 experts it would be 16 times.) Separate weights cure it. Unbind does with small experts; with 64 large ones it
# is clearly slower than separate weights, perhaps as it copies all gradients into one tensor. On this CPU the grouped
# product gains most with 16 or 64 small experts (by how much is printed); with large ones it is within a
# factor of two of separate weights.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Sort, and say where each group ends

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Can all experts run in one call?
#
# **Idea.** Sort the tokens by expert. Now the tokens of an expert are neighbours, a **group**, and it is enough to say
# where each group ends. A **grouped product** multiplies each group by its own matrix. Groups may have any size. An
# empty one ends where the group before it ends.
#
# **Code.** Twelve tokens, four experts; nobody asks expert 1. Sort, two grouped products, and put the results back in
# the old order. Sorting moves the *numbers* of tokens; the rows themselves are moved once, by `x[order]`. The last line
# compares with the loop. `lecture_lib.moe.Experts` does the two products, given the sizes of the groups.

# %% slideshow={"slide_type": "-"}
N, E, D, H = 12, 4, 16, 32
x, experts = torch.randn(N, D), Experts(E, D, H)
w_in, w_out = experts.w_in, experts.w_out
chosen = torch.tensor([0, 2, 0, 3, 2, 0, 0, 3, 2, 0, 3, 0])

order = chosen.argsort(stable=True)
ends = chosen.bincount(minlength=E).cumsum(0, dtype=torch.int32)
hidden = F.gelu(F.grouped_mm(x[order], w_in, offs=ends))
sorted_y = F.grouped_mm(hidden, w_out, offs=ends)
y = torch.zeros_like(x).index_copy(0, order, sorted_y)
torch.testing.assert_close(y, loop(x, chosen, w_in, w_out))

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Compare with the library's Experts
torch.testing.assert_close(sorted_y, experts(x[order], chosen.bincount(minlength=E)))
print("groups end at", ends.tolist())

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## One call, a product for each group

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: sorted tokens, groups and their products
fig, ax = plt.subplots(figsize=(10, 3.6))
plots.sorted_groups(ax, chosen.tolist(), E)
show(
    fig,
    "Twelve tokens, coloured by expert, are sorted into groups: six for expert 0, none for 1, three for 2, three for "
    "3. Each group is multiplied by the matrix of its expert. The groups end at 6, 6, 9 and 12.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# `torch.nn.functional.grouped_mm` is one call for all groups. On a CPU it loops inside, without Python, and without
# the gradients of slices. On a GPU it is one kernel, so that small groups share the chip.
#
# With $k = 2$ a token stands in two groups. Its two results are weighted by the router, and added.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: groups of top-k ★★☆ 5 min
#
# Each of $N$ tokens has chosen $k$ experts: `chosen`, integers of shape `(N, k)`. Write `groups(chosen, n_experts)`. It
# returns two tensors: `token`, the numbers of the tokens, $N \cdot k$ of them, sorted by expert; and `ends`, for each
# of the $E$ experts where its group ends. A token now stands in $k$ groups.


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

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Drop, pad, or neither

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** What did systems do before there were grouped products?
#
# **Idea.** They gave each expert a fixed room of $\lceil c \cdot N / E \rceil$ places, with $c$ the capacity factor
# (notebook 08). Then all experts are one regular product. A token that finds no place is **dropped**. A place that
# nobody takes is **padding**: it is computed, and thrown away.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: dropped and padded ★☆☆ 2 min
#
# On paper. $c = 1.25$, top-1, $cN/E$ is a whole number, and 10 % of the tokens are dropped. How much padding is
# computed, as a share of the number of tokens?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
share_of_padding = ...

check("padding", share_of_padding)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# 1.25 places for each token, and 0.9 tokens that sit in them
check("padding", 1.25 - 0.9)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Code.** 4,096 tokens, 16 experts, and two routings: scores *alike* in distribution, and *unequal* ones, where some
# experts are liked better. `within_capacity` drops. Look at $c = 1$. Nothing is dropped once the room is that of the
# busiest expert: this $c$ is its number of tokens over the mean, $N/E$.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Count what is dropped and what is padding, for eight capacity factors
factors = np.array([0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0])
scores = {"alike": torch.randn(4096, 16)}
scores["unequal"] = scores["alike"] + torch.linspace(0, 2, 16)
lost, empty, needed = {}, {}, {}  # shares of the tokens, for each c; the c from which nothing is dropped
for name, s in scores.items():
    choice = switch(s)
    wanted = (choice.weights > 0).sum(0).numpy()  # of each expert
    kept = np.stack([(within_capacity(choice, c).weights > 0).sum(0) for c in factors])
    places = np.ceil(factors * 4096 / 16)[:, None]
    lost[name], empty[name] = (wanted - kept).sum(1) / 4096, (places - kept).sum(1) / 4096
    needed[name] = wanted.max() * 16 / 4096
    at_one = f"{lost[name][2]:.0%} dropped, {empty[name][2]:.0%} padding"
    print(f"{name:8} at c = 1: {at_one}; nothing is dropped from c = {needed[name]:.1f} up")
claim(
    "For both routings and all c, padding minus dropped is c − 1",
    all(np.allclose(empty[name] - lost[name], factors - 1) for name in scores),
)
claim(
    "At c = 1 unequal routing drops more than 5 times as much",
    lost["unequal"][2] > 5 * lost["alike"][2],
    unequal=lost["unequal"][2],
    alike=lost["alike"][2],
)
claim(
    "To drop nothing, unequal routing needs room for more than twice N / E tokens",
    needed["unequal"] > 2,
    c=needed["unequal"],
)

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Plot dropped and padding against c
fig, axes = plt.subplots(1, 2, figsize=(10, 3.3), sharey=True)
for ax, name in zip(axes, scores, strict=True):
    plots.curves(ax, factors, {"dropped": [lost[name]], "padding": [empty[name]]})
    ax.set(title=f"scores {name}", xlabel="capacity factor c", ylim=(0, 3.5), xlim=(0, 4.1))
    ax.set_yticks([0, 1, 2, 3], ["0", "100 %", "200 %", "300 %"])
axes[0].set_ylabel("of the tokens")
show(
    fig,
    "Dropped tokens and padding against the capacity factor. With scores alike, both are a few per cent at 1. With "
    f"unequal ones, {lost['unequal'][2]:.0%} are dropped and as much is padding at 1; to drop nothing takes far more.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# At $c = 1$ what is dropped **equals** what is padding: a token without a place left a hole elsewhere. With top-1
# padding − dropped = $c - 1$, whatever the routing, if $cN/E$ is whole, as here (else rounding up adds places).
# Capacity brings no balance. It decides who pays: the dropped tokens, or the machine.
#
# A grouped product does neither. MegaBlocks (Gale et al. 2023) brought this to GPUs, with products of block-sparse
# matrices in blocks of 128 rows (only an expert's last block is padded); its authors report less time to equal loss
# than with dropping. A fixed room is still of use where memory must be known in advance: `MoE` has `capacity_factor`.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Two rates of a machine
#
# $$\text{seconds} \ge \max\Big(\frac{\text{FLOPs}}{\text{FLOPs a second}},\;
# \frac{\text{bytes}}{\text{bytes a second}}\Big)
# \qquad \text{intensity} = \frac{\text{FLOPs}}{\text{bytes}}$$

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** What limits a layer: calculating, or moving bytes?
#
# **Idea.** The *roofline* model (Williams et al. 2009) knows two numbers of a machine: how many FLOPs it does in a
# second when everything is at hand, and how many bytes it moves in a second when nothing is calculated. A computation
# has an **intensity**: FLOPs for each byte that it moves. The **ridge** is the intensity at which both take equally
# long. Below it memory binds, above it calculating binds.
#
# **Code.** Measure both numbers here, with square matrix products of three sizes and a large copy. `roofline` is the
# formula above.

# %% slideshow={"slide_type": "-"} tags=["varies"]
machine = measure_machine()  # one thread
ridge = machine.matmul_rate / machine.copy_rate
print(f"in a second {machine.matmul_rate / 1e9:.0f} GFLOPs")
print(f"     or moves {machine.copy_rate / 1e9:.0f} GB")
print(f"waits for memory below {ridge:.1f} FLOPs a byte")

by_hand = max(6e9 / machine.matmul_rate, 1e9 / machine.copy_rate)
torch.testing.assert_close(roofline(6e9, 1e9, machine).seconds, by_hand)

# %% [markdown] slideshow={"slide_type": "notes"}
# Two numbers of this machine, measured: how fast it multiplies, and how fast it moves bytes. Below the ridge, says the
# model, more FLOPs take no more time. On this CPU they do: products of few rows are slow.
#
# For comparison, from a data sheet: an H100 (SXM) has about 990 TFLOPs a second in bfloat16 and 3.35 TB a second, a
# ridge near 300. A GPU needs far more intensity than this machine.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: intensity ★★☆ 6 min
#
# $N$ tokens run forward, each through one of $E$ experts, in float32. Write
# `intensity(n_tokens, n_experts, width, hidden)`: FLOPs a byte. Tokens are shared out as equally as possible, so
# $\min(N, E)$ experts have one. A multiply-add is 2 FLOPs. The weights of each expert that has a token are read once;
# each of the two products reads its rows and writes its results once.


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

# %% [markdown] slideshow={"slide_type": "skip"}
# **Predict.** A layer has 32 experts, one for each token. Beside it stands a dense layer of the size of *one* expert:
# equal FLOPs. With which of these is the experts' intensity the most *times* lower than that of the dense layer?
#
# <details><summary>A. One token</summary>
#
# **No.** One token reads one expert, as it reads the dense layer. The two intensities are equal.
#
# </details>
#
# <details><summary>B. 64 tokens</summary>
#
# **Yes.** They touch nearly all experts, with two tokens each. The dense layer is read once for all 64.
#
# </details>
#
# <details><summary>C. 4,096 tokens</summary>
#
# **No.** All experts are read, but each has 128 tokens to share that.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# For $k$ experts a token there are $kN$ pairs of a token and an expert. With 4 bytes a number,
#
# $$\text{FLOPs} = 4 k N D H \qquad \text{bytes} = 4\,\big(2 D H \cdot \text{touched} + 2 k N (D + H)\big)$$
#
# $2DH$ are the two matrices of an expert; each pair reads $D$ numbers and writes $H$, then reads $H$ and writes $D$.
# **Touched** are the experts that have a token. In the exercise they were $\min(N, E)$. Real tokens are not shared out:
# let each choose independently, all experts alike. It leaves a given expert alone with probability $1 - k/E$, and the
# expected number is $E\,\big(1 - (1 - k/E)^N\big)$. The router is left out: it is printed how little it is.

# %% slideshow={"slide_type": "skip"}
WIDTH, HIDDEN = 512, 1024


def expected(n_tokens, n_experts, k=1):
    return n_experts * (1 - (1 - k / n_experts) ** n_tokens)


def work(n_tokens, touched, k=1, hidden=HIDDEN):  # FLOPs and bytes
    weights, rows = 2 * WIDTH * hidden * touched, 2 * k * n_tokens * (WIDTH + hidden)
    return 4 * k * n_tokens * WIDTH * hidden, 4 * (weights + rows)


print(f"touched, of 32: {[round(expected(n, 32), 1) for n in (1, 4, 16, 64, 256)]}")
print(f"the router's share of the FLOPs: {WIDTH * 32 / (WIDTH * 32 + 2 * WIDTH * HIDDEN):.1%}")

# %% [markdown] slideshow={"slide_type": "skip"}
# **A fair clock.** If a layer runs again and again, its weights stay in the processor's *cache*, a small fast memory.
# In a network other layers run in between: the code is at hand, the weights come from memory. So the clock has two
# copies of each layer, with different weights. It changes 64 MB of other numbers, which pushes weights out of the
# cache; runs the first copy, so that the code is at hand; and times the second. The best time counts. The **whole
# layer** is timed: router, sorting, gathering (copying a row for each pair), products, scattering (adding results to
# their tokens).


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The fair clock
others = torch.zeros(2**24)


@torch.no_grad()
def cold(runs, repeats):  # {name: a function of 0 or 1, the copy to run} -> {name: seconds}
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats):
        for name, run in runs.items():
            others.add_(1)  # pushes the weights out of the cache
            if repeats > 1:
                run(0)
            start = perf_counter()
            run(1)
            best[name] = min(best[name], perf_counter() - start)
    return best


# %% slideshow={"slide_type": "skip"} tags=["fold", "guess", "varies"]
# @title Measure: 1 to 32 experts, 1, 64 and 4,096 tokens
def dense(hidden):
    first, last = torch.randn(WIDTH, hidden) / WIDTH**0.5, torch.randn(hidden, WIDTH) / hidden**0.5
    return lambda x: F.gelu(x @ first) @ last


sizes, crowds = [1, 2, 4, 8, 16, 32], [1, 64, 4096]
layers = {n: [MoE(WIDTH, HIDDEN, n, switch).requires_grad_(False) for _ in range(2)] for n in sizes}
layers[1] = dense(HIDDEN), dense(HIDDEN)
points, moved, took = {}, {}, {}
for tokens in crowds:
    x = torch.randn(tokens, WIDTH)
    runs = {n: lambda i, pair=pair, x=x: pair[i](x) for n, pair in layers.items()}
    for n, time in cold(runs, 15 if tokens < 999 else 3).items():
        load = (layers[n][1](x)[1].weights > 0).sum(0) if n > 1 else torch.tensor([tokens])
        flops, n_bytes = work(tokens, (load > 0).sum().item())
        moved[n, tokens], took[n, tokens] = n_bytes, time
        points[n, tokens] = flops / n_bytes, flops / time
claim("The counter finds the FLOPs of the formula", count_flops(layers[32][1].experts, x, load) == flops)
best_rate = max(machine.matmul_rate, *(rate for _, rate in points.values()))  # the best product of this page
machine = machine._replace(matmul_rate=best_rate)
ridge = machine.matmul_rate / machine.copy_rate
print(f"the roof: {best_rate / 1e9:.0f} GFLOPs a second, the ridge {ridge:.1f}")
shown = [1, 8, 32]
of_roof = {key: rate / min(best_rate, there * machine.copy_rate) for key, (there, rate) in points.items()}
print("tokens:" + "".join(f"{n:22,}" for n in crowds))
for n in shown:
    row = [f"{points[n, t][0]:7.2f} a byte, {of_roof[n, t]:4.0%}" for t in crowds]
    print(f"{f'{n} experts' if n > 1 else 'dense':10}" + "   ".join(row) + " of the roof")
claim(
    "With 64 tokens, 8 and 32 experts are below 0.9 of the roof",
    max(of_roof[n, 64] for n in (8, 32)) < 0.9,
    clock=True,
    of_8=of_roof[8, 64],
    of_32=of_roof[32, 64],
)
claim(
    "At one token the intensity is the same for 1, 8 and 32 experts",
    points[1, 1][0] == points[8, 1][0] == points[32, 1][0],
    intensity=points[1, 1][0],
)
claim(
    "At 64 tokens 32 experts have less than a tenth of the dense layer's intensity, at 4,096 more than a quarter",
    points[32, 64][0] < points[1, 64][0] / 10 and points[32, 4096][0] > points[1, 4096][0] / 4,
    at_64=points[32, 64][0] / points[1, 64][0],
    at_4096=points[32, 4096][0] / points[1, 4096][0],
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Our layers under this roof
#
# Equal FLOPs a token: a dense layer, 8 experts, 32 experts. With 1, 64 and 4,096 tokens.

# %% slideshow={"slide_type": "-"} tags=["fold", "guess", "varies"]
# @title Plot the layers under the roof
fig, ax = plt.subplots(figsize=(10, 4.0))
reach = np.geomspace(0.25, 250, 200)
roof = np.minimum(machine.matmul_rate, reach * machine.copy_rate) / 1e9
ax.plot(reach, roof, color="0.25", lw=2.5)
ax.fill_between(reach, roof, 1e4, color="0.93", lw=0)
ax.axvline(ridge, color="0.6", lw=1, ls=":")
markers, dashes = dict(zip(crowds, "^so", strict=True)), ["-", "--", "-."]
for i, n in enumerate(shown):
    line = [points[n, tokens] for tokens in crowds]
    ax.plot([p[0] for p in line], [p[1] / 1e9 for p in line], color=f"C{i}", lw=1.5, ls=dashes[i])
    for tokens in crowds:
        ax.plot(points[n, tokens][0], points[n, tokens][1] / 1e9, markers[tokens], color=f"C{i}", ms=10, mec="w")
handles = [plt.Line2D([], [], color=f"C{i}", lw=2, ls=dashes[i]) for i in range(len(shown))]
handles += [plt.Line2D([], [], color="0.4", marker=markers[t], ls="", ms=8) for t in crowds]
labels = ["dense", "8 experts", "32 experts", *(f"{t:,} token{'s' * (t > 1)}" for t in crowds)]
ax.legend(handles, labels, frameon=False, loc="lower right", ncols=2)
ax.text(ridge / 1.1, 1.5 * machine.matmul_rate / 1e9, "← memory binds", ha="right", va="bottom")
ax.text(ridge * 1.1, 1.5 * machine.matmul_rate / 1e9, "calculating binds →", va="bottom")
ax.set(xscale="log", yscale="log", xlim=(0.25, 250), xlabel="intensity: FLOPs a byte (log)")
ax.set_ylabel("GFLOPs a second (log)")
ax.set_ylim(min(p[1] for p in points.values()) / 2e9, 4 * machine.matmul_rate / 1e9)
for axis in (ax.xaxis, ax.yaxis):
    axis.set_major_formatter("{x:g}")
show(
    fig,
    "The roofline of this machine with nine measured points. At one token all three layers have the same intensity, "
    "half a FLOP a byte. At 64 tokens the experts are far to the left of the dense layer; at 4,096 they come near it.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Triangles, one token: all three stand at the same intensity. One expert is read, as the dense layer is. Squares, 64
# tokens: the dense layer is read once for all, 32 experts are read nearly all, for two tokens each. Circles, 4,096
# tokens: each of 32 experts has 128, and calculates. The penalty lies in the **middle**. At one token a layer with
# experts is lower all the same: its router and sorting take time, too.

# %% [markdown] slideshow={"slide_type": "skip"}
# The flat roof is the best rate of all products so far. The roof is a **bound, not a forecast**: with 64 tokens, layers
# of experts stay below it. Each of 8 experts has 8 rows then, and products of few rows are slow here. (Above the
# slope a point may lie where weights were in a cache, or are only read: our copy also writes.)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### The same FLOPs, from 1 to 32 experts

# %% slideshow={"slide_type": "-"} tags=["fold", "figure:roofline_widget", "varies"]
# @title The widget: your number of experts under the roof
Roofline(
    machine,
    sizes,
    crowds,
    flops=[4 * tokens * WIDTH * HIDDEN for tokens in crowds],
    n_bytes=[[moved[n, tokens] for tokens in crowds] for n in sizes],
    seconds=[[took[n, tokens] for tokens in crowds] for n in sizes],
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Try.** Double the experts, and look at the times on the right. With one token the bytes stay; with 64 they grow with
# nearly every expert; with 4,096 they grow, too, but calculating takes longer.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## One user, some, hundreds, thousands

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** When is a layer of experts as fast as a dense one?
#
# **Idea.** In one *pass*, a language model writes one token for each user. So the tokens in a pass are the users. Two
# dense layers stand beside. One has **equal FLOPs**: the width of the $k$ experts of a token. The other has **equal
# parameters**: the width of all 32. What the experts cost in seconds is the question here; quality is notebook 08's.
#
# **Code.** Whole layers again, with the fair clock, top-1 and top-2. A column more: the experts' products alone,
# without router, sorting, gathering and scattering. Look at each row: which dense layer is near?

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Measure: experts beside the dense layers of equal FLOPs and of equal parameters
users = [1, 4, 16, 64, 256, 1024, 4096]
make = {"dense, H": partial(dense, HIDDEN), "dense, 2 H": partial(dense, 2 * HIDDEN)}
make |= {f"top-{k}": partial(MoE, WIDTH, HIDDEN, 32, partial(switch, k=k)) for k in (1, 2)}
layers = {name: [one(), one()] for name, one in make.items()}
equal_parameters = dense(32 * HIDDEN), dense(32 * HIDDEN)
seconds, met = [], []
for n in users:
    x = torch.randn(n, WIDTH)
    expert = layers["top-1"][1](x)[1].weights.argmax(-1)
    load, rows = expert.bincount(minlength=32), x[expert.argsort()]
    met.append((load > 0).sum().item())
    runs = {name: lambda i, pair=pair, x=x: pair[i](x) for name, pair in layers.items()}
    runs["products"] = lambda i, rows=rows, load=load: layers["top-1"][i].experts(rows, load)
    widest = {"dense, 32 H": lambda i, x=x: equal_parameters[i](x)}  # takes seconds: once, where tokens are many
    seconds.append(cold(runs, 15 if n < 999 else 5) | cold(widest, 5 if n < 99 else 1))
names = ["dense, H", "products", "top-1", "dense, 2 H", "top-2", "dense, 32 H"]
ms = {name: 1e3 * np.array([row[name] for row in seconds]) for name in names}
slower = {k: ms[f"top-{k}"] / ms[other] for k, other in ((1, "dense, H"), (2, "dense, 2 H"))}
print("milliseconds " + "".join(f"{name:>13}" for name in names) + "   touched")
for i, n in enumerate(users):
    row = "".join(f"{ms[name][i]:13.2f}" for name in names)
    print(f"{n:5,} token{'s' if n > 1 else ' '} {row}{met[i]:10}, by formula {expected(n, 32):.1f}")
print(
    f"32 experts, 1 token: {ms['top-1'][0]:.2f} ms here, {1e3 * took[32, 1]:.2f} in the section before: such short",
    end="",
)
print(" times are rough")

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Claims: one user, some, hundreds, thousands
at = {n: i for i, n in enumerate(users)}
for k in (1, 2):
    print(f"top-{k}, times as long as the dense layer of equal FLOPs:", slower[k].round(1).tolist())
claim(
    "The formula's number of touched experts is within 4 of what is counted, for each number of tokens",
    max(abs(expected(n, 32) - met[i]) for n, i in at.items()) < 4,
)
middle = slice(at[16], at[64] + 1)
at_roof = {n: roofline(*work(n, expected(n, 32)), machine).seconds for n in range(1, 4097)}
at_roof = {n: time / roofline(*work(n, 1), machine).seconds for n, time in at_roof.items()}
worst = max(at_roof, key=at_roof.get)
print(f"The roofline alone: slowest at {worst} tokens, {at_roof[worst]:.1f} times as long")
risen = [np.divide(*work(64, met_64)) / np.divide(*work(1, 1)) for met_64 in (expected(64, 32), 1)]
claim(
    "Up to 64 tokens the experts' intensity rises less than threefold, the dense layer's more than fiftyfold",
    risen[0] < 3 and risen[1] > 50,
    experts=risen[0],
    dense=risen[1],
)
claim(
    "Beside equal FLOPs top-1 and top-2 are slowest at some tens of tokens, 16 or 64",
    all(slower[k][middle].max() == slower[k].max() for k in (1, 2)),
    clock=True,
    top_1=slower[1][middle].max(),
    top_2=slower[2][middle].max(),
)
claim(
    "Below the ridge, 4 tokens take the dense layer more than 1.2 times as long as 1",
    np.divide(*work(4, 1)) < ridge and ms["dense, H"][1] > 1.2 * ms["dense, H"][0],
    clock=True,
    times_as_long=ms["dense, H"][1] / ms["dense, H"][0],
)
claim(
    "At 4,096 tokens top-1 takes less than twice as long as equal FLOPs",
    slower[1][-1] < 2,
    clock=True,
    times_as_long=slower[1][-1],
)
claim(
    "For each number of tokens, equal parameters take more than 1.5 times as long as top-1",
    (ms["dense, 32 H"] / ms["top-1"]).min() > 1.5,
    clock=True,
    least=(ms["dense, 32 H"] / ms["top-1"]).min(),
)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Is it the bytes?** Take them away: the same products, expert by expert, but all experts use *one* pair of matrices.
# The rows and their groups stay. The gap is that of the whole layer to the dense one of equal FLOPs.


# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Measure: experts with their own weights, and with shared ones
def by_parts(parts, first, last):  # one product for each expert that has a token
    return [F.gelu(part @ a) @ b for part, a, b in zip(parts, first, last, strict=True) if len(part)]


own = [[layer.experts.w_in.detach(), layer.experts.w_out.detach()] for layer in layers["top-1"]]
shared = [[w[:1].expand(32, -1, -1) for w in both] for both in own]
gap = {}
for n in (16, 64):
    x = torch.randn(n, WIDTH)
    expert = layers["top-1"][1](x)[1].weights.argmax(-1)
    parts = x[expert.argsort()].split(expert.bincount(minlength=32).tolist())
    runs = {"dense": lambda i, x=x: layers["dense, H"][i](x), "layer": lambda i, x=x: layers["top-1"][i](x)}
    for name, weights in (("shared", shared), ("own", own)):
        runs[name] = lambda i, parts=parts, weights=weights: by_parts(parts, *weights[i])
    time = cold(runs, 25)
    gap[n] = (time["own"] - time["shared"]) / (time["layer"] - time["dense"])
    print(f"{n:3} tokens, ms: " + ", ".join(f"{name} {1e3 * s:.2f}" for name, s in time.items()), end="")
    print(f"; own weights are {gap[n]:.0%} of the layer's gap")

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Claim: the weights are a large part of the gap
claim(
    "Over 16 and 64 tokens own weights are, on average, between a fifth and four fifths of the layer's gap",
    0.2 < (gap[16] + gap[64]) / 2 < 0.8,
    clock=True,
    at_16=gap[16],
    at_64=gap[64],
)

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
# @title Plot: intensity by the formula, time on the clock
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.9))
by_formula = {
    "dense, equal FLOPs": [np.divide(*work(n, 1)) for n in users],
    "32 experts, top-1": [np.divide(*work(n, expected(n, 32))) for n in users],
    "dense, equal parameters": [np.divide(*work(n, 1, hidden=32 * HIDDEN)) for n in users],
}
plots.curves(left, users, {name: [values] for name, values in by_formula.items()}, legend=False)
left.axhline(ridge, color="0.5", lw=1, ls=":")
left.text(1, 1.1 * ridge, "ridge", color="0.35", fontsize="small")
left.set(title="by the formula", ylabel="FLOPs a byte (log)")
keys = "dense, H", "top-1", "dense, 32 H"
per_token = {name: [ms[key] / users] for name, key in zip(by_formula, keys, strict=True)}
plots.curves(right, users, per_token, legend=False)
right.set(title="on the clock", ylabel="milliseconds a token (log)")
for ax in (left, right):
    ax.set(xscale="log", yscale="log", xlabel="tokens in a pass: users (log)")
    ax.set_xticks(users, [f"{n:,}" if n in (1, 16, 256, 4096) else "" for n in users])
    ax.minorticks_off()
    ax.yaxis.set_major_formatter("{x:g}")
fig.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
show(
    fig,
    "Against the number of tokens in a pass. Left, intensity: experts begin where the dense layer of equal FLOPs "
    "begins, rise less than threefold up to 64 tokens, and catch up at thousands. Right, milliseconds a token: the "
    f"experts' line lies between the dense ones, at some tens of tokens {slower[1][middle].max():.1f} times as slow as "
    "equal FLOPs.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **One user.** By the formula: the dense layer of equal FLOPs. On the clock the layer is slower; router, sorting and
# scattering come on top of its products.
#
# **Some tens.** Each new user touches new experts. Up to 64 tokens the intensity rises less than threefold, the dense
# layer's fiftyfold. Here, with 32 experts on this CPU, they are slowest beside equal FLOPs. (Where the roofline alone
# would be slowest is printed above.) Weights read for few tokens are between a fifth and four fifths of the
# layer's gap; the rest are small products, router, sorting and scattering. **Hundreds.** All experts are read, and are
# shared more and more. **Thousands.** Near equal FLOPs.

# %% [markdown] slideshow={"slide_type": "skip"}
# **What it does not show.** Beside *equal parameters* the experts were faster in every row: they never read more, and
# calculate less. Routing was even here; a trained router may touch fewer experts. It is one layer, without attention.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: how many users? ★☆☆ 2 min
#
# On paper. A layer has 256 experts, each token runs 8. With numbers of 2 bytes the intensity is about the number of
# tokens of an expert; the ridge of the GPU is 300, so an expert needs 300 tokens. Routing is even. How many tokens must
# a pass have?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
tokens_of_a_pass = ...

check("users", tokens_of_a_pass)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# N tokens make 8 N pairs, and 256 experts share them
check("users", 300 * 256 / 8)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Two models in use, on paper · optional
#
# Two models that are in use: *Mixtral 8x7B* (Jiang et al. 2024; $D = 4096$, $H = 14336$, 2 of 8 experts) and
# *DeepSeek-V3* (DeepSeek-AI 2024; $D = 7168$, $H = 2048$, 8 of 256; its one shared expert is left out). Their experts
# are *gated*: two matrices $D \times H$, whose results are multiplied, and one back; $6DH$ FLOPs a pair. A pair reads
# $D$ numbers, writes $H$ for each of the two matrices, reads their product, $H$, and writes $D$: $2D + 3H$. We search
# for the number of tokens at which the intensity reaches the nominal ridge of an H100, with 2 bytes a number and even
# routing, for experts and for a dense layer of equal FLOPs; and for the number at which experts are slowest beside it.


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Search: how many tokens reach the ridge
def gated_intensity(n, width, hidden, n_experts, k):  # 2 bytes a number
    weights, rows = 3 * width * hidden * expected(n, n_experts, k), k * n * (2 * width + 3 * hidden)
    return 6 * k * n * width * hidden / (2 * (weights + rows))


h100 = 990e12 / 3.35e12
models = {"Mixtral 8x7B": (4096, 14336, 8, 2), "DeepSeek-V3": (7168, 2048, 256, 8)}
enough, slow = {}, {}
for name, (width, hidden, n_experts, k) in models.items():
    shapes = (width, hidden, n_experts, k), (width, k * hidden, 1, 1)
    enough[name] = [next(n for n in range(1, 10**6) if gated_intensity(n, *shape) > h100) for shape in shapes]
    experts, dense_one = enough[name]
    print(f"{name}: the ridge, {h100:.0f}, is reached with {experts:,} tokens in a pass;")
    print(f"    dense, equal FLOPs: {dense_one}; experts need {experts / dense_one:.0f} times as many")
    every = np.arange(1, 2000)  # the roofline's times, of equal FLOPs
    own, other = (np.minimum(gated_intensity(every, *shape), h100) for shape in shapes)
    near = every[other / own > 0.95 * (other / own).max()]
    slow[name] = near[0], near[-1]
    print(f"    slowest, {(other / own).max():.0f} times (within 5 %), with {near[0]} to {near[-1]} tokens")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claim: how many tokens
more = {name: experts / dense_one for name, (experts, dense_one) in enough.items()}
claim(
    "Mixtral's experts need about 4 times as many tokens as dense, DeepSeek-V3's about 35; these are slowest with "
    "about 100 to 300",
    round(more["Mixtral 8x7B"]) == 4
    and round(more["DeepSeek-V3"]) == 35
    and [round(n, -2) for n in slow["DeepSeek-V3"]] == [100, 300],
    Mixtral=more["Mixtral 8x7B"],
    DeepSeek_V3=more["DeepSeek-V3"],
)

# %% [markdown] slideshow={"slide_type": "skip"}
# Experts need 4 and 35 times as many tokens as dense; the slowest place of DeepSeek-V3 is at about 100 to 300. (It
# needs more than the exercise's 9,600, as rows are bytes, too.) That is one reason for many machines: together they
# bring enough tokens to each expert. (DeepSeek-V3's own weights are 8-bit numbers: half of the bytes. Nothing here was
# measured.)

# %% [markdown] slideshow={"slide_type": "skip"}
# ## The fast layer beside its peers · optional

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Is the library's layer fast, beside what others write?
#
# **Idea.** Three peers, in plain PyTorch, with the same weights, router, tokens and outputs. The **loop** of notebook
# 08, over unbound weights: tutorials have it, and transformers' `eager` is much like it. **Gather**: copy for each pair
# of a token and an expert the matrices of that expert, then one batched product (transformers' `batched_mm` does so).
# **Every expert**: run all, weight most results by 0.
#
# **Code.** 8 experts, top-2, $D = 256$, $H = 512$. Forward with 1, 64 and 1,024 tokens; then with the backward pass.


# %% slideshow={"slide_type": "skip"}
def by_loop(x, z, w_in, w_out):  # z (N, E), the weights of the choice
    y = torch.zeros_like(x)
    for e, (first, last) in enumerate(zip(w_in.unbind(), w_out.unbind(), strict=True)):
        token = z[:, e].nonzero().squeeze(-1)
        y = y.index_add(0, token, z[token, e, None] * (F.gelu(x[token] @ first) @ last))
    return y


def by_gather(x, z, w_in, w_out):
    token, expert = z.nonzero(as_tuple=True)
    rows = F.gelu(x[token, None] @ w_in[expert]) @ w_out[expert]  # (pairs, 1, D)
    return torch.zeros_like(x).index_add(0, token, z[token, expert, None] * rows.squeeze(1))


# %% [markdown] slideshow={"slide_type": "skip"}
# The clock here is warm: each runs again and again. All include the router and `top_k`: the two best experts, weighted
# by the softmax over their two scores (`switch` takes it over all). *Gather* copies two matrices for each pair; with
# 1,024 tokens these are gigabytes, so it is left out there.


# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Measure the layer and its peers
def by_every(x, z, w_in, w_out):
    return torch.einsum("ne,end->nd", z, F.gelu(x @ w_in) @ w_out)


two = partial(top_k, k=2)
moe = MoE(256, 512, 8, two)
peers = {"loop": by_loop, "gather": by_gather, "every expert": by_every}
compared = {"MoE": lambda x: moe(x)[0]}
for name, run in peers.items():
    compared[name] = lambda x, run=run: run(x, two(moe.router(x)).weights, moe.experts.w_in, moe.experts.w_out)


def learn(run, x):
    moe.zero_grad()
    run(x).sum().backward()


print("milliseconds       forward: 1        64     1,024  backward: 64     1,024")
clock = {}
for name, run in compared.items():
    row = []
    for learns, n in ((False, 1), (False, 64), (False, 1024), (True, 64), (True, 1024)):
        if name == "gather" and n == 1024:
            row.append("         -")
            continue
        x = torch.randn(n, 256)
        torch.testing.assert_close(run(x), moe(x)[0], rtol=1e-4, atol=1e-4)
        with torch.set_grad_enabled(learns):
            clock[name, learns, n] = fastest(learn, run, x) if learns else fastest(run, x)
        row.append(f"{1e3 * clock[name, learns, n]:10.2f}")
    print(f"{name:18}", *row)

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Claims: the layer and its peers
claim(
    "Forward and backward with 1,024 tokens, running every expert takes more than twice as long as the layer",
    clock["every expert", True, 1024] > 2 * clock["MoE", True, 1024],
    clock=True,
    times_as_long=clock["every expert", True, 1024] / clock["MoE", True, 1024],
)
claim(
    "Forward and backward with 64 tokens, gathering weights takes more than 10 times as long",
    clock["gather", True, 64] > 10 * clock["MoE", True, 64],
    clock=True,
    times_as_long=clock["gather", True, 64] / clock["MoE", True, 64],
)
claim(
    "Forward and backward, the loop over unbound weights takes less than twice as long as the layer",
    all(clock["loop", True, n] < 2 * clock["MoE", True, n] for n in (64, 1024)),
    clock=True,
    at_64=clock["loop", True, 64] / clock["MoE", True, 64],
    at_1024=clock["loop", True, 1024] / clock["MoE", True, 1024],
)
at_one = [clock[name, False, 1] for name in compared]
claim(
    "With one token the slowest takes less than three times as long as the fastest",
    max(at_one) < 3 * min(at_one),
    clock=True,
    times_as_long=max(at_one) / min(at_one),
)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Reading.** To run every expert, or to copy weights, is far slower here once there are tokens. (For small inputs on a
# GPU, transformers' documentation calls `batched_mm` the fastest.) Over unbound weights the plain loop is near the
# layer: with 8 experts little is left to gain. With one token the slowest takes less than three times as long as the
# fastest; the loop then runs six empty experts, which transformers' `eager` skips. In the project's bench
# ([picture](../benchmarks/results.png)) the layer is **behind** transformers' `eager` and `grouped_mm` in the forward
# pass of one token.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Experts on two processes: all to all
#
# Each process has half of the tokens and half of the experts. Tokens travel.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: tokens of two ranks travel to their experts and back
fig, ax = plt.subplots(figsize=(10, 3.9))
plots.all_to_all(ax, [[0, 2, 1, 0], [3, 1, 2, 2]], 4)
show(
    fig,
    "Two ranks with four tokens each. Experts 0 and 1 are on rank 0, 2 and 3 on rank 1. Tokens for the other rank's "
    "experts cross over, solid lines; the others stay, dotted. After the experts, results travel back the same way.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# One of these processes is a *rank*. Every rank has a copy of the router, and routes its own tokens. The ranks tell
# each other how many rows will come. Then the rows travel, the experts run what has arrived, and the results go back.
# Backward, gradients take the same way: four exchanges of rows in all. Weights never travel. How much goes where is
# decided by the router, anew for each batch. This is GShard's design (Lepikhin et al. 2021).

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** How does one know that it computes the same?
#
# **Idea.** In `torch.distributed` an exchange is one call, `all_to_all_single`, with a list of sizes.
# `lecture_lib.expert_parallel.ExpertParallel` makes the exchanges around a `MoE`, forward and backward. If it is right,
# two ranks with half of the tokens each give the output and the gradients of one process with all of them.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Predict.** After the backward pass, which gradients must the two ranks add up?
#
# <details><summary>A. Those of the experts and of the router</summary>
#
# **No.** An expert lives on one rank, and all its rows came there: its gradient is whole.
#
# </details>
#
# <details><summary>B. That of the router alone</summary>
#
# **Yes.** Both ranks have a copy, and each saw its own tokens only. The gradient is the sum, as the loss is a sum over
# tokens. (For a mean, each rank divides by the number of *all* tokens.)
#
# </details>
#
# <details><summary>C. None: the exchange has done that</summary>
#
# **No.** The exchange carries rows of tokens. Nothing of the router travels.
#
# </details>

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Run it: two processes, one answer

# %% [markdown] slideshow={"slide_type": "skip"}
# **Code.** What each of the two processes runs, as a text: `torchrun` starts it twice. Both build the same layer and
# the same data from one seed, and take their half of the tokens. The loss is a sum over tokens, so the losses of both
# ranks add up to that of one process. `share` is the router's gradient *before* it is added up. The folded cell appends
# the comparison, which computes everything on one process as well.

# %% slideshow={"slide_type": "-"}
TWO_PROCESSES = """
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)  # the same on every rank
moe, everything = MoE(64, 256, 8, switch), torch.randn(256, 64)
layer = ExpertParallel(copy.deepcopy(moe), dist.group.WORLD)
y, choice = layer(everything.chunk(world)[rank])
y.square().sum().backward()
share = layer.router.weight.grad.clone()
dist.all_reduce(layer.router.weight.grad)  # the sum over ranks
"""

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
# @title Start two processes, compare outputs and gradients with one
HEAD = """
import copy, gc, json
import torch
import torch.distributed as dist
from lecture_lib.expert_parallel import ExpertParallel, pairs_by_rank
from lecture_lib.moe import MoE, switch
torch.set_num_threads(1)
"""
COMPARE = """
whole = moe(everything)[0]
whole.square().sum().backward()
router, experts = moe.router.weight.grad, moe.experts.parameters()
pairs = {"output": (y, whole.chunk(world)[rank]), "router": (layer.router.weight.grad, router)}
for name, own, whole in zip(("w_in", "w_out"), layer.experts.parameters(), experts, strict=True):
    pairs[name] = own.grad.to_local(), whole.grad.chunk(world)[rank]
pairs["router, without the sum"] = share, router
off = torch.stack([(a - b).abs().max() / b.abs().max() for a, b in pairs.values()])
dist.all_reduce(off, dist.ReduceOp.MAX)
rows = [torch.empty(world, dtype=torch.int64) for _ in range(world)]
dist.all_gather(rows, pairs_by_rank(choice, world))
if rank == 0:
    print(json.dumps({"rows": torch.stack(rows).tolist(), "off": dict(zip(pairs, off.tolist()))}))
dist.barrier()
del layer, own
gc.collect()  # layers hold process groups, whose threads must end before the interpreter does
dist.destroy_process_group()
"""
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "experts.py"
    path.write_text(HEAD + TWO_PROCESSES + COMPARE, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
if done.returncode:
    raise RuntimeError(done.stderr)
said = json.loads(done.stdout.splitlines()[-1])
for r, (first, second) in enumerate(said["rows"]):
    print(f"rank {r}: {first} of its tokens go to rank 0, {second} to rank 1")
print("largest difference, as a share of the largest number:")
print("  " + ", ".join(f"{name} {value:.1g}" for name, value in said["off"].items()))
wrong = said["off"].pop("router, without the sum")
claim("Two ranks give the output and the gradients of one process, to 1e-5", max(said["off"].values()) < 1e-5)
claim("Without the sum, the router's gradient is off by more than a tenth", wrong > 0.1, off=wrong)

# %% [markdown] slideshow={"slide_type": "notes"}
# Both ranks have work, and both send some away. Outputs and all gradients are those of one process, up to rounding.
# Without the sum the router's gradient is wrong, and no error is raised. The same layer runs on any number of processes
# that divides the number of experts; here two were tried.
#
# **What it does not show** is speed. Two processes of one machine share its caches and its memory, and here perhaps one
# core.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## On paper: what must the network give?
#
# Eight ranks, 4,096 tokens each, two experts a token. **Nominal** link speeds; 400 TFLOPs a second, about 40 % of an
# H100's 990.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** When does the exchange take longer than the products?
#
# **Idea.** Forward and backward, each pair of a token and an expert costs $3 \cdot 6DH$ FLOPs (gated experts; backward
# there are twice as many products as forward), and four times a row of $D$ numbers travels. The ratio of both has
# no $D$: only the hidden width $H$ of an expert counts. Of 8 ranks, one row in 8 stays at home; a number has 2 bytes:
#
# $$\frac{\text{exchange}}{\text{compute}} = \frac{4 \cdot \frac78 \cdot 2D \,/\, \text{bytes a second}}
# {3 \cdot 6DH \,/\, \text{FLOPs a second}}$$
#
# **Code.** `on_paper` computes this for any loads. We assume that routing is even and nothing overlaps. Two layers:
# *wide* experts, as Mixtral's, and *fine-grained* ones, as in DeepSeekMoE (Dai et al. 2024). The last line is for
# uneven routing: the experts of rank 0 are asked three times as often as those of each other rank. They get 3 of 10
# parts, where an even rank gets 1 of 8: $\frac{3}{10} / \frac18 = 2.4$ times as much.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Time of the exchange over that of the products, for two layers and four links
rows = torch.full((8, 8), 4096 * 2 // 8)  # even: the best case
wide_and_fine = {"wide: D = 4096, H = 14336": (4096, 14336), "fine: D = 2048, H = 1408": (2048, 1408)}
links = ["NVLink 4, all links of an H100", "InfiniBand NDR, 400 Gb/s", "PCIe 4.0, 16 lanes", "10 Gb Ethernet"]


def step_on_paper(rows, width, hidden, link):
    """Gated experts in bfloat16, at about 40 % of an H100's nominal rate."""
    rates = {"flops_per_second": 400e12, "bytes_per_second": NOMINAL_BYTES_PER_SECOND[link]}
    return on_paper(rows, flops_per_pair=6 * width * hidden, row_bytes=2 * width, **rates)


times_longer = {}
for name, shape in wide_and_fine.items():
    steps = [step_on_paper(rows, *shape, link) for link in links]
    times_longer[name] = [one.exchange / one.compute for one in steps]
wide, fine = times_longer.values()
print(f"exchange / compute{'GB a second':>26}{'wide':>10}{'fine':>10}")
for link, *both in zip(links, wide, fine, strict=True):
    print(f"{link:34}{NOMINAL_BYTES_PER_SECOND[link] / 1e9:10}" + "".join(f"{r:10.2f}" for r in both))
formula = [(4 * 7 / 8 * 2 / NOMINAL_BYTES_PER_SECOND[link]) / (3 * 6 * 14336 / 400e12) for link in links]
claim("The formula gives the same ratios for wide experts", np.allclose(wide, formula))
claim("The ratio of both layers is that of their H, for each link", np.allclose(np.divide(fine, wide), 14336 / 1408))
asked = torch.tensor([3, 1, 1, 1, 1, 1, 1, 1])  # the experts of rank 0 three times as often as others
uneven = (rows[0].sum() * asked / asked.sum()).expand(8, 8)  # as many rows in all
slow, even = (step_on_paper(r, 4096, 14336, links[1]) for r in (uneven, rows))
factors = slow.compute / even.compute, slow.exchange / even.exchange
print("rank 0 asked three times as often: compute × {:.1f}, exchange × {:.1f}".format(*factors))

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Plot the ratios
fig, ax = plt.subplots(figsize=(10, 3.7))
ax.axvspan(1, 400, color="0.93", lw=0)
for i, (name, values) in enumerate(times_longer.items()):
    for y, value in enumerate(values):
        ax.plot([0.01, value], [y + 0.22 * (2 * i - 1)] * 2, color=f"C{i}", lw=2.5)
        ax.annotate(f"{value:.2g}", (value, y + 0.22 * (2 * i - 1)), xytext=(10, 0), va="center",
                    textcoords="offset points", ha="left", fontsize="small")  # fmt: skip
    ax.plot(values, np.arange(4) + 0.22 * (2 * i - 1), "os"[i], color=f"C{i}", ms=10, mec="w", label=name)
ax.axvline(1, color="0.3", lw=1.5)
ax.text(0.93, -0.75, "products take longer", ha="right", va="center", color="0.3", fontsize="small")
ax.text(1.07, -0.75, "exchange takes longer", ha="left", va="center", color="0.3", fontsize="small")
ax.set(xscale="log", xlim=(0.01, 400), ylim=(3.6, -1.1), xlabel="time of the exchange over that of the products (log)")
ax.set_xticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
ax.set_yticks(range(4), [link.split(",")[0] for link in links])
ax.minorticks_off()
ax.legend(frameon=False, loc="upper right", fontsize="small", title="experts", borderaxespad=0)
show(
    fig,
    f"Time of the exchange over that of the products, on paper. Wide experts: {wide[0]:.2f} on NVLink, {wide[1]:.1f} "
    f"on InfiniBand, {wide[3]:.0f} on Ethernet. Fine-grained: ten times as much each, {fine[1]:.0f} on InfiniBand.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Not measured: nominal rates of one direction, even routing, no latency, nothing overlaps. Real systems are slower in
# each term, and overlap both. What is left is the **ratio**: a row of $D$ numbers travels for $6DH$ FLOPs. Wide experts
# hide behind a fast link. Fine-grained ones pay ten times as much for the same computation. With uneven load the
# busiest rank sets the pace: products and exchange take 2.4 times as long each, and so does their sum.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: bytes that leave ★★☆ 4 min · optional
#
# On paper. Eight ranks with 1,000 tokens each; $D = 1024$, bfloat16, two experts a token, even routing. One forward
# pass, rows there and results back. How many bytes does one rank send to others?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
sent = ...

check("bytes_away", sent)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# of 2,000 pairs 7 in 8 leave, 2 · 1,024 bytes a row; and as many results for the others' tokens
check("bytes_away", 2 * (2000 * 7 / 8) * 2 * 1024)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Few machines for each token
#
# Choose machines first, then experts on them. Or place experts that are used together on one machine.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Eight experts a token may live on eight machines. Can a token stay on few?
#
# **Idea.** First a token picks machines, at most a few; then the $k$ best experts there. A machine is as good as the
# sum of its best experts' scores: the best one in DeepSeek-V2, the best two in DeepSeek-V3. A simpler idea: train
# without a limit, count which experts are used together, and **place** these on one machine.
#
# **Code.** The limit, written out: `limit` is the largest number of machines for a token, `best` the number of experts
# whose scores are summed for a machine. A score of $-\infty$ forbids an expert. This is
# `lecture_lib.moe.within_groups`, which calls the experts of a machine a group; the last line compares both.


# %% slideshow={"slide_type": "-"}
# scores (N, E) -> the same, with -inf on all machines but the best `limit`
def within(s, n_machines, limit, best=2):
    by_machine = s.unflatten(-1, (n_machines, -1))  # (N, machines, experts of each)
    value = by_machine.topk(best).values.sum(-1)  # (N, machines)
    picked = value.topk(limit).indices  # (N, limit): the numbers of the best machines
    kept = (picked.unsqueeze(-1) == torch.arange(n_machines)).any(1)  # (N, machines)
    return by_machine.masked_fill(~kept.unsqueeze(-1), -torch.inf).flatten(-2)


s = torch.randn(1000, 32)
for limit, best in itertools.product((1, 2, 8), (1, 2)):
    library = within_groups(s, 8, limit, best=best)
    torch.testing.assert_close(within(s, 8, limit, best), library)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: lose the best expert ★★☆ 4 min · optional
#
# Write `lost_best(n_groups, size)`: scores of one token for `n_groups * size` experts, `size` on each machine (group).
# The best expert of all is *not* to be on the one machine that is picked (`limit=1, best=2`).


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def lost_best(n_groups, size):
    return ...


check("lost_best", lost_best)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def lost_best_solution(n_groups, size):
    s = torch.zeros(n_groups, size)
    s[0, 0] = 3.0  # the best, alone on its machine
    s[1, :2] = 2.0  # two good ones
    return s.flatten()


check("lost_best", lost_best_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# **What does it save?** That depends on how rows are sent. *A row for each pair*: a token with three experts on one
# machine is sent there three times, as `ExpertParallel` does. Then 7 of 8 pairs travel, whatever the limit. *A row for
# each machine*, as between DeepSeek-V3's nodes: the token is sent once, and shared there. Then 7 of 8 of the machines
# that it reaches get a row: fewer machines, fewer rows.
#
# **What was run.** A small language model predicts the next byte of Python. Its router has 32 experts on eight
# machines, $k = 4$. It learns with a limit of 1, 2 or 3 machines, or without. On networks that learnt without, two
# things are tried afterwards: a limit **set at test**; and a **placement**. Two experts change places as long as more
# pairs that are used together then share a machine; one search for each seed. It counts pairs on held-out text; all
# bits and rows are of test text.

# %% [markdown] slideshow={"slide_type": "subslide"}
# **Predict.** Trained *with* the limit, 1,200 steps: what does it cost in bits a byte?
#
# <details><summary>A. Nothing can be seen for any limit: the router learns to group its experts</summary>
#
# **No.** With one machine the loss is plain to see, in all five seeds.
#
# </details>
#
# <details><summary>B. Much with one machine, less with two, little with three</summary>
#
# **Yes.** Without a limit a token reaches between three and four of the eight machines; a limit of three takes little.
#
# </details>
#
# <details><summary>C. As much for each limit: some experts are forbidden</summary>
#
# **No.** How many of the wanted experts are forbidden depends on the limit.
#
# </details>

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### What the limit costs
#
# Five seeds. Left, a mark is the mean of what a limit adds in the same seed, its line from the lowest to the highest.
# 1,200 steps where no other number stands; the learning rate is the best of three for each limit, after 1,200 steps.


# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Read the record
def entries(limit):
    """The five seeds at the learning rate that was best on held-out text."""
    rates = {}
    for entry in record["entries"]:
        if entry["limit"] == limit:
            rates.setdefault(entry["rate"], []).append(entry)
    return min(rates.values(), key=lambda some: np.mean([entry["held_out"] for entry in some]))


def of(some, key):
    return np.array([entry[key] for entry in some])


limits, no_limit, ways = next_byte.LIMITS[:-1], entries(8), {}
for entry in longer["entries"]:
    ways.setdefault(entry["way"], []).append(entry)
whole, late = of(no_limit, "test"), ways["no limit, 4800 steps"]
costs = {  # bits more than without a limit: (5 seeds,) for each limit
    "learnt": {n: of(entries(n), "test") - whole for n in limits},
    "learnt, 4,800 steps": {n: of(ways[f"limit {n}, 4800 steps"], "test") - of(late, "test") for n in limits[1:]},
    "set at test": {n: np.array([e["limited at test"][str(n)] for e in no_limit]) - whole for n in limits},
    "set at test, placed": {
        n: np.array([e["placed, limited at test"][str(n)] for e in no_limit]) - whole for n in limits
    },
}
rows = {f"limit {n}": 7 / 8 * of(entries(n), "groups").mean() for n in limits}
rows |= {"no limit": 7 / 8 * of(no_limit, "groups").mean(), "placed": 7 / 8 * of(no_limit, "groups placed").mean()}
rows |= {f"k = {k}": 7 / 8 * of(ways[f"k = {k}"], "groups").mean() for k in (3, 2)}
added = {f"limit {n}": costs["learnt"][n].mean() for n in limits} | {"no limit": 0.0, "placed": 0.0}
added |= {f"k = {k}": (of(ways[f"k = {k}"], "test") - whole).mean() for k in (3, 2)}
rows_late = 7 / 8 * of(late, "groups placed").mean(), 7 / 8 * of(ways["limit 3, 4800 steps"], "groups").mean()

# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Plot the record: bits for each limit, and for the rows that it saves
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.9))
for i, (name, by_limit) in enumerate(costs.items()):
    x, values = np.array(list(by_limit)) + 0.13 * (i - 1.5), np.array(list(by_limit.values()))
    span = values.mean(1) - values.min(1), values.max(1) - values.mean(1)
    left.errorbar(x, values.mean(1), span, fmt="o^sD"[i], color=f"C{i}", lw=1.5, ms=7, label=name)
left.axhline(0, color="0.6", lw=1)
left.set_xticks(limits, limits)
left.set(xlabel="machines for each token, at most", ylabel="more bits a byte than without", xlim=(0.6, 3.4))
left.legend(frameon=False, fontsize="small")
left.set_title(
    f"recorded: 5 seeds, {round(record['minutes'] + longer['minutes'])} minutes", fontsize="small", loc="left"
)
for names, style in (
    (("limit 1", "limit 2", "limit 3", "no limit"), "C0o--"),
    (("placed",), "C2s"),
    (("k = 2", "k = 3"), "C3D"),
):
    right.plot([rows[name] for name in names], [added[name] for name in names], style, ms=8)
for name, x in rows.items():
    place = {"placed": (-6, -14), "k = 3": (-4, 10), "no limit": (-2, -15), "limit 3": (9, 1)}.get(name, (7, 6))
    right.annotate(name, (x, added[name]), xytext=place, textcoords="offset points", fontsize="small")
right.axhline(0, color="0.6", lw=1)
right.set(xlabel="rows a token, one for each machine", ylabel="more bits a byte", xlim=(0, 3.8), ylim=(-0.02, 0.17))
show(
    fig,
    f"Left, what a limit adds in bits. Learnt: {added['limit 1']:.2f} for one machine, {added['limit 2']:.3f} for two, "
    f"{added['limit 3']:.3f} for three after 1,200 steps, {costs['learnt, 4,800 steps'][3].mean():.3f} after 4,800. "
    f"Right, bits against rows a token: no limit {rows['no limit']:.2f} rows, placed {rows['placed']:.2f}, limit three "
    f"{rows['limit 3']:.2f}, three experts a token {rows['k = 3']:.2f} and {added['k = 3']:.3f} bits.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Claims: what the limit costs, and what placing saves
load, load_placed = (of(no_limit, key).mean() for key in ("load", "load placed"))
print(
    f"rows a token: placed {rows['placed']:.2f}, limit of three {rows['limit 3']:.2f}, no limit {rows['no limit']:.2f}"
)
live = next_byte.run(seed, limit=8, rate=1e-2, steps=300)
print(f"one seed here, 300 steps: a token reaches {live['groups']:.2f} machines, placed {live['groups placed']:.2f}")
one, two, three = (costs["learnt"][n] for n in limits)
after = costs["learnt, 4,800 steps"][3]
claim(
    "One machine costs more than 0.1 bits in each of five seeds, two cost less than a quarter of that on average",
    one.min() > 0.1 and 0 < two.mean() < one.mean() / 4,
    one=one.mean(),
    two=two.mean(),
)
claim(
    "Three machines cost .007 bits on average after 1,200 steps, .021 after 4,800, there in each seed more than 0",
    round(three.mean(), 3) == 0.007 and round(after.mean(), 3) == 0.021 and after.min() > 0,
    after_1200=three.mean(),
    after_4800=after.mean(),
)
off = {n: (costs["set at test, placed"][n] - costs["learnt"][n]).mean() for n in limits}
claim(
    "Set at test on the placement, a limit of one costs less than a learnt one; two and three are within 0.005 bits",
    off[1] < 0 and max(abs(off[2]), abs(off[3])) < 0.005,
    one=off[1],
    two=off[2],
    three=off[3],
)
claim(
    "Placed, a token needs fewer rows than with a learnt limit of three, on average, after 1,200 steps and after 4,800",
    rows["placed"] < rows["limit 3"] and rows_late[0] < rows_late[1],
    placed_4800=rows_late[0],
    limit_3_4800=rows_late[1],
)
claim(
    "Placed, the busiest machine has 1.31 times the mean number of pairs, and 1.23 times if not placed",
    round(load_placed, 2) == 1.31 and round(load, 2) == 1.23,
    placed=load_placed,
    not_placed=load,
)

# %% [markdown] slideshow={"slide_type": "notes"}
# With one machine the loss is plain. With three it is .007 bits on average after 1,200 steps, .021 after 4,800.
# Placing experts that are used together saves as many rows as a limit of three, and changes no bit: it is the same
# network. But the busiest machine, which sets the pace, has 1.31 times the mean to do, not 1.23; with a learnt limit
# its load was not measured. A placement saves in serving, not in training, and on average only: no token is held to
# three.

# %% [markdown] slideshow={"slide_type": "skip"}
# **What it does not show.** Set at test, a limit costs more than learnt where machines hold experts in arbitrary order.
# On the placement one machine is better set at test, two and three are nearly level. Fewer experts save rows, too:
# $k = 3$ in the picture. The learning rate was chosen after 1,200 steps only. A large network was not measured.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What systems do · optional
#
# | | tokens without room | where a token may go |
# |---|---|---|
# | GShard 2021, top-2 | dropped: fixed room | any device |
# | Switch 2022, top-1 | dropped: $c$ about 1 to 1.25 | any device |
# | MegaBlocks 2023 | none dropped; blocks of 128 padded | any device |
# | DeepSeek-V2 2024, 6 of 160 | dropped in training, except in about 10 % of the sequences | 3 of 8 devices |
# | DeepSeek-V3 2024, 8 of 256 | none | 4 of 8 nodes |

# %% [markdown] slideshow={"slide_type": "notes"}
# From the papers named. Who is dropped adds nothing to the layer's output; the residual stream carries the token on.
# torchtitan and transformers call torch's grouped product. DeepSeek-V3 balances with a bias
# (notebook 08) and a small loss within each sequence, not with a room.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where it fails
#
# - **Experts save FLOPs, not storage.** Each is stored; each that is touched is read.
# - **Some tens of tokens** are slowest here (32 experts, a CPU): weights are read for few tokens, products are small,
#   and router, sorting and scattering come on top.
# - **Fine-grained experts** want fast links; uneven routing makes all wait.
# - **Capacity moves the cost**, to dropped tokens or to padding.
# - **Two processes on one machine** show that it is right, not that it is fast.

# %% [markdown] slideshow={"slide_type": "notes"}
# So when is a mixture of experts the right choice? On time alone, where FLOPs are short and memory is not: in training,
# and in serving large batches. For one user it reads what a dense layer of equal FLOPs reads, but all experts must be
# stored.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# $$\text{seconds} \ge \max\Big(\frac{\text{FLOPs}}{\text{FLOPs a second}},\;
# \frac{\text{bytes}}{\text{bytes a second}}\Big)$$
#
# - Slices of one stacked tensor have expensive gradients. Separate parameters cure it; unbind most of it, not with 64
#   large experts. On this CPU the grouped product gains most with 16 or 64 small experts.
# - One token: the bytes of equal FLOPs. With 32 experts on this CPU slowest at some tens of tokens. Thousands: near
#   equal FLOPs again.
# - Over machines weights stay and tokens travel; $H$ decides whether it pays.
# - A limit of three machines costs .007 bits after 1,200 steps, .021 after 4,800. Placing experts that are used
#   together saves as many rows at no cost in bits, and loads the busiest machine a little more.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - S. Williams, A. Waterman, D. Patterson, *Roofline: An Insightful Visual Performance Model for Multicore
#   Architectures*, Communications of the ACM, 2009.
# - D. Lepikhin et al., *GShard: Scaling Giant Models with Conditional Computation and Automatic Sharding*, ICLR 2021.
# - W. Fedus, B. Zoph, N. Shazeer, *Switch Transformers*, JMLR, 2022: capacity.
# - T. Gale, D. Narayanan, C. Young, M. Zaharia, *MegaBlocks: Efficient Sparse Training with Mixture-of-Experts*, MLSys
#   2023, and the README of its repository, databricks/megablocks.

# %% [markdown] slideshow={"slide_type": "skip"}
# - D. Dai et al., *DeepSeekMoE: Towards Ultimate Expert Specialization in Mixture-of-Experts Language Models*, ACL
#   2024.
# - DeepSeek-AI, *DeepSeek-V2*, 2024, section 2.2: device-limited routing, dropped tokens.
# - DeepSeek-AI, *DeepSeek-V3 Technical Report*, 2024, sections 2.1.2 and 3.2.2: node-limited routing, no dropped
#   tokens, a row for each node; and the code of its gate, deepseek-ai/DeepSeek-V3, `inference/model.py`.
# - A. Q. Jiang et al., *Mixtral of Experts*, 2024.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023: "implementation tricky
#   (sparse MoE)", and "can be parallelised if the experts are distributed".
