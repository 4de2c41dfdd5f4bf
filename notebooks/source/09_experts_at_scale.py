# %% [markdown] slideshow={"slide_type": "slide"}
# # Experts at scale: fast, and on many machines
#
# **Notebook 09** · *Designing efficient and modular neural networks*
#
# Equal FLOPs are not equal seconds. What does a layer of experts wait for, with one user, with some, with thousands?

# %% [markdown] slideshow={"slide_type": "skip"}
# **After this notebook you can** say why a loop over experts is slow, and cure it; run all experts as one grouped
# product; choose between dropping, padding and neither; predict with a *roofline* whether a layer calculates or waits
# for memory, at one token and at thousands; spread experts over processes, and say what a network between them must
# give; keep a token's experts on few machines, and say what that saves and what it costs. **You need** notebook 08: a
# router, top-k, capacity.
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
from lecture_lib.expert_parallel import NOMINAL_BYTES_PER_SECOND, on_paper, pairs_by_rank
from lecture_lib.moe import Experts, MoE, switch, within_capacity, within_groups
from lecture_lib.notebook import check, claim, setup, show
from lecture_lib.recorded import experts_at_scale as next_byte
from lecture_lib.widgets import Roofline

seed = setup(0)
record = recorded.load("experts_at_scale")


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
# **Predict.** From 4 to 64 experts, 1,024 tokens. How does the time of a training step grow?
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
# tensors of $E$ experts each: the bytes grow with $E^2$. To see whether that is the cause, we take it away. The second
# way is the same loop over `w_in.unbind()`: one operation with $E$ results, whose backward pass puts $E$ gradients side
# by side, once. The third way, sorted and grouped, comes next. All three give the same output.

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess", "varies"]
# @title Measure three ways, forward and with the backward pass
def unbound(x, expert, w_in, w_out):
    """The same loop; only the weights are taken apart in one go."""
    y = torch.zeros_like(x)
    for e, (first, last) in enumerate(zip(w_in.unbind(), w_out.unbind(), strict=True)):
        mine = expert == e
        y[mine] = F.gelu(x[mine] @ first) @ last
    return y


def training_step(run, *args):
    for w in args[-2:]:
        w.grad = None
    run(*args).sum().backward()


numbers, ways = [4, 16, 64], {"loop, w[e]": loop, "loop, w.unbind()": unbound}
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
sort = fastest(expert.argsort)
print("milliseconds of a step" + " " * 4 + "".join(f"{n:4} experts" for n in numbers))
for name in step:
    print(f"{name:26}" + "".join(f"{1e3 * t:12.2f}" for t in step[name]))
print(f"of which sorting                              {1e3 * sort:16.2f}")
grows = {name: times["loop, w[e]"][-1] / times["loop, w[e]"][0] for name, times in (("fwd", forward), ("step", step))}
times_slower = step["loop, w[e]"][-1] / step["sorted, grouped"][-1]

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Slow going backward
#
# 1,024 tokens. The three ways have equal FLOPs and equal outputs.

# %% slideshow={"slide_type": "-"} tags=["fold", "guess", "varies"]
# @title Plot the three ways
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
    f"loop grows steeply: with 64 experts it takes {times_slower:.0f} times as long as sorted and grouped.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Claims: three ways
claim(
    "From 4 to 64 experts the step of the loop grows by a larger factor than its forward pass",
    grows["step"] > grows["fwd"],
    clock=True,
    step=grows["step"],
    forward=grows["fwd"],
)
at_64 = {name: times[-1] for name, times in step.items()}
taken_away = (at_64["loop, w[e]"] - at_64["loop, w.unbind()"]) / (at_64["loop, w[e]"] - at_64["sorted, grouped"])
claim(
    "With 64 experts, unbind alone takes away more than half of the loop's extra time over the grouped step",
    taken_away > 0.5,
    clock=True,
    share=taken_away,
)
claim(
    "With 64 experts, the loop takes more than 3 times as long as sorted and grouped",
    times_slower > 3,
    clock=True,
    times_as_long=times_slower,
)
claim(
    "Sorting takes less than a fifth of the grouped step",
    sort < 0.2 * step["sorted, grouped"][-1],
    clock=True,
    share=sort / step["sorted, grouped"][-1],
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Forward, the loop grows slowly. Backward its time runs away, though the FLOPs are equal. One word, `unbind`, takes the
# gradients of slices away, and most of the extra time with them. What is left of the gap to the grouped product is
# perhaps the start of many small operations. A first sign that **bytes**, not FLOPs, are what to look at.

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
# On paper. $c = 1.25$, top-1, and 10 % of the tokens are dropped. How much padding is computed, as a share of the
# number of tokens?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
share_of_padding = ...

check("padding", share_of_padding)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# 1.25 places for each token, and 0.9 tokens that sit in them
check("padding", 1.25 - 0.9)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Code.** 4,096 tokens, 16 experts, and two routings: scores *alike* in distribution, and *unequal* ones, where some
# experts are liked better. `within_capacity` drops. Look at $c = 1$.

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
    "To drop nothing, unequal routing needs more than twice its mean as room",
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
# At $c = 1$ what is dropped **equals** what is padding: a token without a place left a hole elsewhere. In general
# padding − dropped = $c - 1$, whatever the routing. Capacity brings no balance. It decides who pays: the dropped
# tokens, or the machine.
#
# A grouped product does neither. MegaBlocks (Gale et al. 2023) brought this to GPUs, with products of block-sparse
# matrices, and its authors report faster training than with padding or dropping. A fixed room is still of use where
# memory must be known in advance. Our `MoE` has `capacity_factor`; its default is `None`.

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
# **Code.** Measure both numbers here, with a large matrix product and a large copy. `roofline` is the formula above.

# %% slideshow={"slide_type": "-"} tags=["varies"]
machine = measure_machine()  # one thread
ridge = machine.matmul_rate / machine.copy_rate
print(f"in a second {machine.matmul_rate / 1e9:.0f} GFLOPs")
print(f"     or moves {machine.copy_rate / 1e9:.0f} GB")
print(f"waits for memory below {ridge:.1f} FLOPs a byte")

by_hand = max(6e9 / machine.matmul_rate, 1e9 / machine.copy_rate)
torch.testing.assert_close(roofline(6e9, 1e9, machine).seconds, by_hand)

# %% [markdown] slideshow={"slide_type": "notes"}
# Two numbers of this machine, measured: how fast it multiplies, and how fast it moves bytes. Left of the ridge memory
# binds, and more FLOPs take no more time. Right of it calculating binds.
#
# For comparison, from a data sheet: an H100 (SXM) has about 990 TFLOPs a second in bfloat16 and 3.35 TB a second, a
# ridge near 300. A GPU needs far more intensity than this machine.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: intensity ★★☆ 6 min
#
# $N$ tokens run forward, each through one of $E$ experts, in float32. Write
# `intensity(n_tokens, n_experts, width, hidden)`: FLOPs a byte, when routing is as equal as it can be. A multiply-add
# is 2 FLOPs. The weights of each expert that has a token are read once; each of the two products reads its rows and
# writes its results once. Fewer tokens than experts? Then not all experts are read.


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
# equal FLOPs. For how many tokens is the experts' intensity furthest below that of the dense layer?
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
# For $k$ experts a token the count is, with 4 bytes a number,
#
# $$\text{FLOPs} = 4 k N D H \qquad \text{bytes} = 4\,\big(2 D H \cdot \text{touched} + 2 k N (D + H)\big)$$
#
# **Touched** are the experts that have a token. A token leaves a given expert alone with probability $1 - k/E$. If
# routing is even, and tokens choose independently, the expected number is
# $E\,\big(1 - (1 - k/E)^N\big)$. The cell below has both formulas. The router is left out: it is printed how little it
# is.

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
# **A fair clock.** If a layer is run again and again, its weights stay in the processor's *cache*, a small fast memory.
# In a whole network, other layers run in between, and weights come from memory each time. So before each run the clock
# changes 64 MB of other numbers, more than most caches hold; that time does not count. Layers that are compared run in
# turn, and each keeps its best time. What is timed is the **whole layer**, without gradients: router, sorting,
# gathering, products, scattering.


# %% slideshow={"slide_type": "skip"}
others = torch.zeros(2**24)


@torch.no_grad()
def cold(runs, repeats):  # {name: a function} -> {name: seconds}
    best = dict.fromkeys(runs, float("inf"))
    for i in range(repeats + (repeats > 1)):
        for name, run in runs.items():
            others.add_(1)  # pushes the weights out of the cache
            start = perf_counter()
            run()
            if i or repeats == 1:  # else the first round is a warm-up
                best[name] = min(best[name], perf_counter() - start)
    return best


# %% slideshow={"slide_type": "skip"} tags=["fold", "guess", "varies"]
# @title Measure: 1 to 32 experts, 1, 64 and 4,096 tokens
def dense(hidden):
    first, last = torch.randn(WIDTH, hidden) / WIDTH**0.5, torch.randn(hidden, WIDTH) / hidden**0.5
    return lambda x: F.gelu(x @ first) @ last


sizes, crowds = [1, 2, 4, 8, 16, 32], [1, 64, 4096]
layers = {n: MoE(WIDTH, HIDDEN, n, switch).requires_grad_(False) for n in sizes}
points, moved, took = {}, {}, {}
for tokens in crowds:
    x = torch.randn(tokens, WIDTH)
    runs = {n: partial(dense(HIDDEN) if n == 1 else layer, x) for n, layer in layers.items()}
    for n, time in cold(runs, 9 if tokens < 999 else 3).items():
        load = (layers[n](x)[1].weights > 0).sum(0)
        flops, n_bytes = work(tokens, (load > 0).sum().item())
        moved[n, tokens], took[n, tokens] = n_bytes, time
        points[n, tokens] = flops / n_bytes, flops / time, roofline(flops, n_bytes, machine)
claim("The counter finds the FLOPs of the formula", count_flops(layers[32].experts, x, load) == flops)
shown = [1, 8, 32]
for n, tokens in itertools.product(shown, crowds):
    intensity_there, rate, bound = points[n, tokens]
    name = f"{n:2} experts" if n > 1 else "dense     "
    print(f"{name}, {tokens:5,} tokens: {intensity_there:6.2f} FLOPs a byte, {bound.binds:7} binds, ", end="")
    print(f"{rate / 1e9:5.1f} GFLOPs a second, {1e3 * took[n, tokens]:7.2f} ms")
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
# A point above the slope is no mistake: some weights were in a cache, or were only read, while our copy also writes. A
# point above the flat roof says that another program disturbed the measurement of the roof. A point far below says that
# something else takes time, which the model does not know: the router, the sorting, the start of many small products.

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
# **Try.** One expert is the dense layer. Double the experts, again and again, and look at the times on the right. The
# FLOPs stay. With one token the bytes stay as well; with 64 they grow with nearly every expert; with 4,096 they grow,
# too, but calculating takes longer.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## One user, some, hundreds, thousands

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** When is a layer of experts as fast as a dense one?
#
# **Idea.** A language model writes one token for each user and step. So the tokens in a step are the users. Two dense
# layers are fair to compare with. One has **equal FLOPs**: it is as wide as the $k$ experts of a token. The other has
# **equal parameters**: it is as wide as all 32 experts. Experts promise the quality of the second (perhaps) for the
# FLOPs of the first. What they cost in seconds is the question here; quality is notebook 08's.
#
# **Code.** Whole layers again, with the fair clock, top-1 and top-2. A column more: the experts' products alone,
# without router, sorting, gathering and scattering. Look at each row: which dense layer is near?

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Measure: experts beside the dense layers of equal FLOPs and of equal parameters
users = [1, 4, 16, 64, 256, 1024, 4096]
layers = {"dense, H": dense(HIDDEN), "dense, 2 H": dense(2 * HIDDEN)}
layers |= {f"top-{k}": MoE(WIDTH, HIDDEN, 32, partial(switch, k=k)).requires_grad_(False) for k in (1, 2)}
equal_parameters, experts = dense(32 * HIDDEN), layers["top-1"].experts
seconds, met = [], []
for n in users:
    x = torch.randn(n, WIDTH)
    expert = layers["top-1"](x)[1].weights.argmax(-1)
    load, rows = expert.bincount(minlength=32), x[expert.argsort()]
    met.append((load > 0).sum().item())
    runs = {name: partial(layer, x) for name, layer in layers.items()} | {"products": partial(experts, rows, load)}
    widest = {"dense, 32 H": partial(equal_parameters, x)}  # takes seconds: once, where there are many tokens
    seconds.append(cold(runs, 15 if n < 999 else 5) | cold(widest, 9 if n < 99 else 1))
names = ["dense, H", "products", "top-1", "dense, 2 H", "top-2", "dense, 32 H"]
ms = {name: 1e3 * np.array([row[name] for row in seconds]) for name in names}
slower = {k: ms[f"top-{k}"] / ms[other] for k, other in ((1, "dense, H"), (2, "dense, 2 H"))}
print("milliseconds " + "".join(f"{name:>13}" for name in names) + "   touched")
for i, n in enumerate(users):
    row = "".join(f"{ms[name][i]:13.2f}" for name in names)
    print(f"{n:5,} tokens {row}{met[i]:10}, by formula {expected(n, 32):.1f}")

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Claims: one user, some, hundreds, thousands
at = {n: i for i, n in enumerate(users)}
for k in (1, 2):
    print(f"top-{k}, times as long as the dense layer of equal FLOPs:", slower[k].round(1).tolist())
claim(
    "The formula's number of touched experts is within 4 of what is counted, for each number of tokens",
    max(abs(expected(n, 32) - met[i]) for n, i in at.items()) < 4,
)
middle = slice(at[4], at[256] + 1)
claim(
    "Beside equal FLOPs top-1 is slowest in the middle, from 4 to 256 tokens, and not at 1 or 4,096",
    slower[1][middle].max() > max(slower[1][0], slower[1][-1]),
    clock=True,
    at_1=slower[1][0],
    middle=slower[1][middle].max(),
    at_4096=slower[1][-1],
)
claim(
    "So is top-2",
    slower[2][middle].max() > max(slower[2][0], slower[2][-1]),
    clock=True,
    at_1=slower[2][0],
    middle=slower[2][middle].max(),
    at_4096=slower[2][-1],
)
claim(
    "At 4,096 tokens top-1 takes less than 1.5 times as long as equal FLOPs",
    slower[1][-1] < 1.5,
    clock=True,
    times_as_long=slower[1][-1],
)
claim(
    "At one token more than a quarter of top-1's time is not its products",
    ms["products"][0] < 0.75 * ms["top-1"][0],
    clock=True,
    products=ms["products"][0],
    layer=ms["top-1"][0],
)
claim(
    "For each number of tokens, equal parameters take more than 1.5 times as long as top-1",
    (ms["dense, 32 H"] / ms["top-1"]).min() > 1.5,
    clock=True,
    least=(ms["dense, 32 H"] / ms["top-1"]).min(),
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
    ax.set(xscale="log", yscale="log", xlabel="tokens in a step: users (log)")
    ax.set_xticks(users, [f"{n:,}" if n in (1, 16, 256, 4096) else "" for n in users])
    ax.minorticks_off()
    ax.yaxis.set_major_formatter("{x:g}")
fig.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
show(
    fig,
    "Against the number of tokens in a step. Left, intensity: experts begin where the dense layer of equal FLOPs "
    "begins, stay flat up to 64 tokens, and catch up at thousands. Right, milliseconds a token: the experts' line lies "
    f"between the dense ones, up to {slower[1][middle].max():.0f} times as slow as equal FLOPs, in the middle.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **One user.** By the formula: the dense layer of equal FLOPs. On the clock the layer is slower; router, sorting and
# scattering come on top of its products.
#
# **The middle.** Each new user touches new experts. Up to 64 tokens the intensity hardly rises, where the dense layer's
# grows with each user. Here experts are slowest beside equal FLOPs. **Hundreds.** All experts are read, and from now on
# they are shared. **Thousands.** Near equal FLOPs.

# %% [markdown] slideshow={"slide_type": "skip"}
# **What it does not show.** Beside *equal parameters* the experts were faster in every row: they never read more, and
# calculate less. Which comparison counts depends on what experts replace. Routing was even here; a trained router may
# touch fewer experts, as neighbours in a text like the same ones. And it is one layer, on one processor: attention,
# and what it keeps for each user, is not counted. Where the machine is busy, the numbers move; their order should not.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: how many users? ★☆☆ 2 min
#
# On paper. A layer has 256 experts, each token runs 8. Your GPU calculates instead of waiting once an expert has 300
# tokens. Routing is even. How many tokens must a step have?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
tokens_of_a_step = ...

check("users", tokens_of_a_step)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# N tokens make 8 N pairs, and 256 experts share them
check("users", 300 * 256 / 8)

# %% [markdown] slideshow={"slide_type": "skip"}
# Two models that are in use, on paper: *Mixtral 8x7B* (Jiang et al. 2024) and *DeepSeek-V3* (DeepSeek-AI 2024). Their
# experts are *gated*, with three matrices: $6DH$ FLOPs a token. We search for the number of tokens at which the
# intensity of a layer's experts reaches the nominal ridge of an H100, with bfloat16 weights and even routing.

# %% slideshow={"slide_type": "skip"}
def gated_intensity(n, width, hidden, n_experts, k):  # 2 bytes a number
    weights, rows = 3 * width * hidden * expected(n, n_experts, k), k * n * (2 * width + 3 * hidden)
    return 6 * k * n * width * hidden / (2 * (weights + rows))


h100 = 990e12 / 3.35e12
models = {"Mixtral 8x7B": (4096, 14336, 8, 2), "DeepSeek-V3": (7168, 2048, 256, 8)}
enough = {name: next(n for n in range(1, 10**6) if gated_intensity(n, *shape) > h100) for name, shape in models.items()}
for name, shape in models.items():
    one, hundreds = (gated_intensity(n, *shape) for n in (1, 256))
    print(f"{name}: {one:.1f} FLOPs a byte at 1 token, {hundreds:.0f} at 256;")
    print(f"    the ridge, {h100:.0f}, is reached with {enough[name]:,} tokens in a step")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claim: hundreds of tokens
at_256 = {name: gated_intensity(256, *shape) / h100 for name, shape in models.items()}
claim(
    "With 256 tokens Mixtral's experts have less than a third of the ridge's intensity, DeepSeek-V3's less than a 30th",
    at_256["Mixtral 8x7B"] < 1 / 3 and at_256["DeepSeek-V3"] < 1 / 30,
    Mixtral=at_256["Mixtral 8x7B"],
    DeepSeek_V3=at_256["DeepSeek-V3"],
)

# %% [markdown] slideshow={"slide_type": "skip"}
# With one user both models wait for memory, as a dense model would. With hundreds they still do, DeepSeek-V3 with its
# many small experts far more. Thousands of tokens in a step reach the ridge. That is one reason for many machines: the
# weights do not fit on one, and together the machines bring enough tokens to each expert. (DeepSeek-V3's own weights
# are 8-bit numbers: half of the bytes. Nothing here was measured.)

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
# **Code.** 8 experts, top-2, $D = 256$, $H = 512$. Forward with 1, 64 and 1,024 tokens; then a training step.


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
# The clock here is warm: each runs again and again. All include the router and its top-2. *Gather* copies two matrices
# for each pair; with 1,024 tokens these are gigabytes, so it is left out there.

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


print("milliseconds       forward: 1        64     1,024      step: 64     1,024")
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
    "In a step of 1,024 tokens running every expert takes more than twice as long as the layer",
    clock["every expert", True, 1024] > 2 * clock["MoE", True, 1024],
    clock=True,
    times_as_long=clock["every expert", True, 1024] / clock["MoE", True, 1024],
)
claim(
    "In a step of 64 tokens gathering weights takes more than 10 times as long",
    clock["gather", True, 64] > 10 * clock["MoE", True, 64],
    clock=True,
    times_as_long=clock["gather", True, 64] / clock["MoE", True, 64],
)
claim(
    "In both steps the loop over unbound weights takes less than twice as long as the layer",
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
# layer: with 8 experts little is left to gain. With one token the four are near each other.
#
# The project's bench compares more carefully: pairs side by side, medians, with *transformers*' three implementations
# of Mixtral's experts, st-moe-pytorch and the loops of tutorials; outputs and gradients are equal. Its rows are in
# [benchmarks/results.json](../benchmarks/results.json), with [a picture](../benchmarks/results.png). In training steps
# the layer is ahead of its peers, but for one: with 8 experts it is level with transformers' `eager`, where the limit
# asks for more. It misses its limits, too, in the forward pass of a single token, **behind** transformers' `eager` and
# `grouped_mm`; and beside a dense layer of equal FLOPs, where it is slower, more so with more experts.

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
# A process of such a group is a *rank*. Every rank has a copy of the router, and routes its own tokens. The ranks tell
# each other how many rows will come. Then the rows travel, the experts run what has arrived, and the results go back.
# Backward, gradients take the same way: four exchanges of rows in a training step. Weights never travel. How much goes
# where is decided by the router, anew in each step. This is GShard's design (Lepikhin et al. 2021).

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
# **Yes.** Both ranks have a copy, and each saw its own tokens only. The gradient is the sum.
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
# The same text runs on 2 or 2,000 processes. Both ranks have work, and both send some away. Outputs and all gradients
# are those of one process, up to rounding. Without the sum the router's gradient is wrong, and nothing else would have
# told you.
#
# **What it does not show** is speed. Two processes of one machine share its caches and its memory, and here perhaps one
# core. The time of processes is a row of the project's bench.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## On paper: what must the network give?
#
# Eight ranks, 4,096 tokens each, two experts a token. **Nominal** link speeds, 400 TFLOPs a second.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** When does the exchange take longer than the products?
#
# **Idea.** In a training step each pair of a token and an expert costs $3 \cdot 6DH$ FLOPs (gated experts; the backward
# pass has twice the products of the forward pass), and four times a row of $D$ numbers travels. The ratio of both has
# no $D$: only the hidden width $H$ of an expert counts.
#
# **Code.** `on_paper` divides FLOPs and bytes by the rates given. We assume that routing is even and nothing overlaps,
# and take the links' nominal speeds. Two layers: *wide* experts, as Mixtral's, and *fine-grained* ones, as in
# DeepSeekMoE (Dai et al. 2024).

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
    print(f"{name}: exchange / compute " + ", ".join(f"{r:.2f}" for r in times_longer[name]))
wide, fine = times_longer.values()
claim("The ratio of both layers is that of their H, for each link", np.allclose(np.divide(fine, wide), 14336 / 1408))
asked = torch.tensor([3, 1, 1, 1, 1, 1, 1, 1])  # the experts of rank 0 three times as often as others
uneven = (rows[0].sum() * asked / asked.sum()).expand(8, 8)  # as many rows in all
slow, even = (step_on_paper(r, 4096, 14336, links[1]) for r in (uneven, rows))
factors = slow.compute / even.compute, slow.exchange / even.exchange
print("one rank asked three times as often: compute × {:.1f}, exchange × {:.1f}".format(*factors))

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
# hide behind a fast link. Fine-grained ones pay ten times as much for the same computation. And uneven load counts
# twice: the slowest rank sets the pace of the products, and of the exchange.

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
# Choose groups of experts first, then experts. A group is what one machine holds.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Eight experts a token may live on eight machines. Can a token stay on few?
#
# **Idea.** The experts of one machine are a **group**. First a token picks the groups, at most a few; then the $k$ best
# experts in these. A group is as good as the sum of its best experts' scores: the best one in DeepSeek-V2
# (*device-limited* routing), the best two in DeepSeek-V3 (*node-limited*: a node is a machine with several GPUs).
#
# **Code.** The rule, written out. `limit` is the largest number of groups, $-\infty$ forbids an expert. This is
# `lecture_lib.moe.within_groups`; the last line compares both.


# %% slideshow={"slide_type": "-"}
# scores (N, E) -> the same, with -inf outside of the groups picked
def within(s, n_groups, limit, best=2):
    group = s.unflatten(-1, (n_groups, -1))  # (N, groups, experts in each)
    value = group.topk(best).values.sum(-1)  # (N, groups)
    picked = value.topk(limit).indices
    kept = torch.zeros_like(value, dtype=torch.bool).scatter(-1, picked, True)
    return group.masked_fill(~kept.unsqueeze(-1), -torch.inf).flatten(-2)


s = torch.randn(1000, 32)
for limit, best in itertools.product((1, 2, 8), (1, 2)):
    library = within_groups(s, 8, limit, best=best)
    torch.testing.assert_close(within(s, 8, limit, best), library)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: lose the best expert ★★☆ 4 min · optional
#
# Write `lost_best(n_groups, size)`: scores of one token for `n_groups * size` experts, for which the best expert of all
# is *not* in the one group that is picked (`limit=1, best=2`).


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def lost_best(n_groups, size):
    return ...


check("lost_best", lost_best)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def lost_best_solution(n_groups, size):
    s = torch.zeros(n_groups, size)
    s[0, 0] = 3.0  # the best, alone in its group
    s[1, :2] = 2.0  # two good ones
    return s.flatten()


check("lost_best", lost_best_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# **What does it save?** That depends on how rows are sent. *A row for each pair*: a token with three experts on one
# machine is sent there three times. `ExpertParallel` does so, and `pairs_by_rank` counts these rows. *A row for each
# machine*: it is sent once, and shared there. DeepSeek-V3 sends so between nodes.
#
# **Code.** A small language model, 300 steps, whose router has 32 experts in eight groups, $k = 4$, and no limit. Then
# its scores on other text, routed under four limits. Token $i$ lives on machine $i$ modulo 8. Look at the two columns
# of rows.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Train the router, 300 steps
reader = next_byte.train(limit=8, seed=seed, rate=1e-2, steps=300)
bits, choice = next_byte.bits(reader, "test")
s, pi = choice.logits, choice.logits.softmax(-1)
print(f"{bits:.2f} bits a byte, {len(s):,} bytes of test text")

# %% [markdown] slideshow={"slide_type": "skip"}
# `there` holds, for each token and machine, how many of its experts live there. Those at home do not travel. *Changed*
# are the experts that an unlimited router would not have chosen. *Kept* is what is left of the sum of their
# probabilities.

# %% slideshow={"slide_type": "skip"}
free, token, travels = top_k(s, 4).weights > 0, torch.arange(len(s)), {}
print("at most   reached   rows a token: for each pair   for each machine   changed   kept")
for limit in next_byte.LIMITS:
    chosen = top_k(within(s, 8, limit), 4)
    taken = chosen.weights > 0
    there = taken.unflatten(-1, (8, -1)).sum(-1)  # (N, machines)
    torch.testing.assert_close(there.sum(0), pairs_by_rank(chosen, 8))
    reached = (there > 0).sum(-1).double().mean()
    there[token, token % 8] = 0
    travels[limit] = there.sum().item() / len(s), (there > 0).sum().item() / len(s)
    changed, kept = 1 - (taken & free).sum() / free.sum(), (pi * taken).sum() / (pi * free).sum()
    print(f"{limit:7}{reached:10.2f}{travels[limit][0]:27.2f}{travels[limit][1]:19.2f}{changed:10.0%}{kept:7.0%}")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: rows that travel
claim(
    "Sent for each pair, at most 2 machines save less than a tenth of the rows",
    travels[2][0] > 0.9 * travels[8][0],
    at_most_2=travels[2][0],
    no_limit=travels[8][0],
)
claim(
    "Sent for each machine, they save more than a quarter",
    travels[2][1] < 0.75 * travels[8][1],
    at_most_2=travels[2][1],
    no_limit=travels[8][1],
)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Reading.** With two machines at most, each token has its experts on two. Sent for each pair, as many rows travel as
# without a limit: $k$ pairs are $k$ pairs. Only where a machine gets a token *once* does a limit save rows.

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
# **Yes.** Without a limit a token reaches between three and four machines; a limit of three takes little away.
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
# Five seeds; each limit at its best learning rate of three.

# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Plot the record: bits a byte for each limit, learnt with it, or set at test alone
def entries(limit):
    """The five seeds at the learning rate that was best on held-out text."""
    rates = {}
    for entry in record["entries"]:
        if entry["limit"] == limit:
            rates.setdefault(entry["rate"], []).append(entry)
    return min(rates.values(), key=lambda some: np.mean([entry["held_out"] for entry in some]))


limits = next_byte.LIMITS
learnt = np.array([[entry["test"] for entry in entries(limit)] for limit in limits]).T  # (seeds, limits)
late = np.array([[*entry["limited at test"].values(), entry["test"]] for entry in entries(8)])
fig, ax = plt.subplots(figsize=(10, 3.5))
plots.curves(ax, range(4), {"limit set at test alone": late, "learnt with the limit": learnt})
ax.set_xticks(range(4), ["1", "2", "3", "no limit"])
ax.set(xlabel="machines for each token, at most", ylabel="bits a byte (not from 0)")
ax.text(0.99, 0.62, record["label"], transform=ax.transAxes, ha="right", fontsize="small", color="0.35")
cost = {limit: (learnt[:, i] - learnt[:, -1]).mean() for i, limit in enumerate(limits)}
show(
    fig,
    f"Bits a byte on test text against the limit. Learnt with it: {cost[1]:.2f} bits more than without a limit for one "
    f"machine, {cost[2]:.3f} for two, {cost[3]:.3f} for three. Set at test alone, each limit costs a little more.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Claims: what the limit costs
for limit in limits[:-1]:
    print(f"at most {limit}: {cost[limit]:+.3f} bits a byte learnt with the limit, ", end="")
    print(f"{(late[:, limits.index(limit)] - late[:, -1]).mean():+.3f} set at test alone")
claim(
    "One machine costs more than 0.1 bits in each of five seeds, two cost less than a quarter of that on average",
    (learnt[:, 0] - learnt[:, -1]).min() > 0.1 and 0 < cost[2] < cost[1] / 4,
    one=cost[1],
    two=cost[2],
)
claim(
    "Three machines cost less than 0.01 bits on average, and not in each seed",
    cost[3] < 0.01 and (learnt[:, 2] - learnt[:, -1]).min() < 0,
    three=cost[3],
)
claim(
    "Each limit costs less where the network learnt with it than where it is set at test alone, on average",
    (learnt.mean(0) < late.mean(0))[:-1].all(),
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Without a limit a token reaches three to four machines of eight. With at most three, quality is nearly equal; with two
# a little is lost; with one the loss is plain. A network that learnt with the limit loses less than one that learnt
# without. What a limit saves are rows, where a machine gets a token once.

# %% [markdown] slideshow={"slide_type": "skip"}
# **What it does not show.** It is a tiny network after 1,200 steps; a large one was not measured. DeepSeek-V2's authors
# write that with three devices or more, for six experts, quality is roughly that of unlimited routing. How many experts
# are *changed* says little about quality by itself: compare that column with the bits.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What systems do
#
# | | tokens without room | where a token may go |
# |---|---|---|
# | GShard 2021, top-2 | dropped: fixed room | any device |
# | Switch 2022, top-1 | dropped: $c$ about 1 to 1.25 | any device |
# | MegaBlocks 2023 | none: block-sparse product | any device |
# | DeepSeek-V2 2024, 6 of 160 | some dropped in training | 3 of 8 devices |
# | DeepSeek-V3 2024, 8 of 256 | none | 4 of 8 nodes |

# %% [markdown] slideshow={"slide_type": "notes"}
# From the papers named. Who is dropped adds nothing to the layer's output; the residual stream carries the token on.
# Today's libraries have grouped products: torchtitan and transformers call torch's, MegaBlocks itself recommends a
# grouped product on GPUs of the H100's generation. DeepSeek-V3 balances with a bias (notebook 08), not with a room.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where it fails
#
# - **Experts save FLOPs, not bytes.** Each is stored; each that is touched is read.
# - **The middle is expensive**: some tens of tokens touch most experts, and hardly share one.
# - **Fine-grained experts** want fast links; uneven routing makes all wait.
# - **Capacity moves the cost**, to dropped tokens or to padding.
# - **Two processes on one machine** show that it is right, not that it is fast.

# %% [markdown] slideshow={"slide_type": "notes"}
# So when is a mixture of experts the right choice? Where FLOPs are short and memory is not: in training, and in serving
# large batches. For one user it reads what a dense layer of equal FLOPs reads, but all experts must be stored. On a
# small device memory is what is short: there early exits or a smaller network (notebooks 05 and 06) save more.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# $$\text{seconds} \ge \max\Big(\frac{\text{FLOPs}}{\text{FLOPs a second}},\;
# \frac{\text{bytes}}{\text{bytes a second}}\Big)$$
#
# - Slices have expensive gradients: sort, then one grouped product. No token is dropped, none is padded.
# - One token: the bytes of equal FLOPs. The middle: nearly the bytes of equal parameters. Thousands: equal FLOPs again.
# - Over machines weights stay and tokens travel; $H$ decides whether it pays.
# - Few machines for each token: saves rows if each gets a token once; three of four lost hardly any quality here.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - S. Williams, A. Waterman, D. Patterson, *Roofline: An Insightful Visual Performance Model for Multicore
#   Architectures*, Communications of the ACM, 2009.
# - N. Shazeer et al., *Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer*, ICLR 2017.
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
# - W. Fedus, B. Zoph, J. Dean, *A Review of Sparse Expert Models in Deep Learning*, 2022.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023: "implementation tricky
#   (sparse MoE)", and "can be parallelised if the experts are distributed".
