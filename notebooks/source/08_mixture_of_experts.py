# %% [markdown] slideshow={"slide_type": "slide"}
# # Mixture of experts: many parameters, one cost
#
# **Notebook 08** · *Designing efficient and modular neural networks*
#
# Many networks of one shape, the *experts*. For each token a *router* chooses one of them, or a few. Only those run.

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you will be able to do.** Write a layer of experts: router, top-k, dispatch, combine. Compute its balance
# loss, and know what the value does not say. Recognise collapsed routing, and choose a cure. Compare experts with a
# dense network of equal cost. Measure, with controls, what an expert specialises in. You need: softmax and
# backpropagation, and notebook 02 or 04 for choices with a gradient.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Imports, the seed, and three records
import math
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lecture_lib import plots, pretrained, recorded
from lecture_lib.choice import top_k
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.data import KINDS, digits, python_sources, token_kinds
from lecture_lib.moe import (
    MoE,
    expert_choice,
    hashed,
    load_balance_loss,
    representation_collapse,
    router_z_loss,
    switch,
    within_capacity,
)
from lecture_lib.notebook import check, claim, setup, show
from lecture_lib.pretrained.decoder import upcycle_layers
from lecture_lib.recorded import mixture_of_experts as sixteen_codes
from lecture_lib.recorded import mixture_of_experts_hash as next_byte
from lecture_lib.recorded import mixture_of_experts_upcycled as upcycled
from lecture_lib.widgets import ExpertCalculator, Routing

seed = setup(0)
torch.set_printoptions(precision=2, sci_mode=False)
record, text_record = recorded.load("mixture_of_experts"), recorded.load("mixture_of_experts_hash")

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Six tokens, three experts
#
# $$y = \sum_e z_e \, f_e(x) \qquad \text{token 0: } z = [0.53, 0, 0], \text{ only } f_0 \text{ runs}$$

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** How can a layer hold many networks, and run few of them?
#
# **Idea.** The output $y$ is a sum of experts' results, each times its weight $z_e$; most weights are 0. A *token* is
# one vector $x$ of width $D$: a word, a patch, a byte. $N$ tokens pass the layer together.
#
# - The **experts** $f_0, \dots, f_{E-1}$ are $E$ networks of one shape, with parameters of their own. Here: two
#   matrices with a ReLU between them, and $H$ hidden units.
# - The **router** is one matrix $W$ of $D \times E$. It gives each expert a score, $s = xW$, and with softmax a
#   probability, $\pi = \mathrm{softmax}(s)$.
# - **Top-k**: the $k$ experts of largest probability are chosen; here $k = 1$. Their weight is $z_e = \pi_e$; all
#   other weights are 0.
# - **Dispatch**: sort the tokens by expert. An expert takes all its tokens at once, in one matrix product.
# - **Combine**: multiply each result by its weight, and put it back in the old order. By hand: if $z_0 = 0.53$ and
#   $f_0(x) = [2, 4]$, then $y = [1.06, 2.12]$.
#
# The cell computes $\pi$ for six tokens. Look for the largest number of each row.

# %% slideshow={"slide_type": "skip"}
s = torch.tensor(
    [[1.3, 0.2, 0.7], [0.1, 1.5, 0.3], [2.0, 0.4, 0.1], [0.2, 0.3, 1.1], [0.9, 0.8, 0.1], [0.0, 0.6, 1.9]]
)  # (N, E)
pi = s.softmax(-1)
print(pi, pi.argmax(-1), sep="\n")

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Picture: dispatch and combine
fig, ax = plt.subplots(figsize=(10, 3.5))
plots.dispatch(ax, pi.numpy())
show(
    fig,
    "Six tokens with the expert of largest probability. Arrows sort them by expert: tokens 0, 2 and 4 go to expert 0, "
    "token 1 to expert 1, tokens 3 and 5 to expert 2. Each expert takes its group at once; the results are multiplied "
    "by the probability and put back in the old order.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Tokens of one expert go **together**: one matrix product for each group. New is the scale: there may be hundreds of
# experts, thousands of tokens, and no time to run what was not chosen.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## A layer of experts, written out

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** How much code is that?
#
# **Code.** First the shape of an expert. Then the whole layer, for any $k$: each line of `forward` is one of the steps
# above; `weight` holds the $k$ largest probabilities $\pi$. Look at the loop. It goes over experts, and picks the
# tokens of each, instead of sorting. An expert runs on its own tokens only; `place`: which of the token's $k$ choices
# it is.


# %% slideshow={"slide_type": "skip"}
def network(D, H):
    return nn.Sequential(nn.Linear(D, H, bias=False), nn.ReLU(), nn.Linear(H, D, bias=False))


# %% slideshow={"slide_type": "-"}
class Layer(nn.Module):
    def __init__(self, D, H, E, k):
        super().__init__()
        self.k, self.router = k, nn.Linear(D, E, bias=False)
        self.experts = nn.ModuleList(network(D, H) for _ in range(E))

    def forward(self, x):  # (N, D)
        weight, expert = self.router(x).softmax(-1).topk(self.k)  # both (N, k)
        y = torch.zeros_like(x)
        for e, f in enumerate(self.experts):
            token, place = (expert == e).nonzero(as_tuple=True)  # dispatch: who chose e
            y = y.index_add(0, token, weight[token, place, None] * f(x[token]))  # combine
        return y


# %% [markdown] slideshow={"slide_type": "skip"}
# The library's layer is `lecture_lib.moe.MoE`. Its experts' parameters lie in two tensors, `w_in` (E, D, H) and
# `w_out` (E, H, D), and `switch` is the choice by top-k of the probability $\pi$. The cell gives both layers the same
# parameters. If `assert_close` prints nothing, they agree, here with two experts per token.

# %% slideshow={"slide_type": "skip"}
mine, x = Layer(D=4, H=8, E=3, k=2), torch.randn(6, 4)
library = MoE(d_model=4, d_hidden=8, n_experts=3, choose=partial(switch, k=2), activation=F.relu)
with torch.no_grad():
    library.router.weight.copy_(mine.router.weight)
    library.experts.w_in.copy_(torch.stack([f[0].weight.T for f in mine.experts]))
    library.experts.w_out.copy_(torch.stack([f[2].weight.T for f in mine.experts]))
y, choice = library(x)
torch.testing.assert_close(mine(x), y)
print("chosen by the six tokens:", *[row.nonzero().flatten().tolist() for row in choice.weights])

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Why is the weight a probability?

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** With $k = 1$ only one expert runs. Its weight is its probability, about 0.5. What if it were scaled to
# 1?
#
# <details><summary>A. Better: the output is not made smaller</summary>
#
# **No.** Its size is not the problem: the experts can learn another scale.
#
# </details>
#
# <details><summary>B. The router learns nothing</summary>
#
# **Yes.** The weight is the only way from the loss to the router. The constant 1 has no gradient.
#
# </details>
#
# <details><summary>C. No difference</summary>
#
# **No.** The output differs by a factor only, but the router's gradient becomes 0.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# The cell computes the gradient of the router's matrix, once with each weight. There are two: `switch` takes $\pi_e$
# as it is, `top_k` divides it by the sum of those kept. With $k = 1$ that is always 1. The last lines show both for
# token 0 above, with $k = 2$.

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title The gradient of the router, with each weight
slopes = {}
for name, choose in {"its probability": switch, "scaled to 1": partial(top_k, k=1)}.items():
    library.choose = choose
    (slope,) = torch.autograd.grad(library(x)[0].square().sum(), library.router.weight, materialize_grads=True)
    slopes[name] = slope.norm().item()
    print(f"weight: {name:16} size of the router's gradient: {slopes[name]:.4f}")
for name, choose in {"switch": switch, "top_k": top_k}.items():
    print(f"two experts, {name:6} weights:", [round(v, 2) for v in choose(s[:1], k=2).weights[0].tolist()])

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claim
claim(
    "with weight 1 the router has no gradient, with its probability it has one",
    slopes["its probability"] > 0 == slopes["scaled to 1"],
    gradient_with_probability=slopes["its probability"],
    gradient_with_1=slopes["scaled to 1"],
)

# %% [markdown] slideshow={"slide_type": "skip"}
# An expert that was not chosen has no gradient in its parameters. Its score has one with `switch`, only through the
# softmax's sum, and none with `top_k`. It says whether the *chosen* expert should be likelier, not what the other would
# have done.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Gates, tensor by tensor · optional
#
# **Question.** What if the weights should sum to 1, with $k = 2$?
#
# **Idea.** Shazeer et al. (2017) keep the $k$ largest *scores*, set the others to $-\infty$, and take the softmax of
# what is left (their word for such weights is *gates*). While training they first add noise: $s_e + G_e \cdot
# \mathrm{softplus}((xW_\text{noise})_e)$, with $G_e$ normal. So an expert that is just behind is tried now and then.
# This is **noisy top-k gating**.
#
# **Code.** Two tokens, four experts. Each step is printed: look at where a probability becomes 0.

# %% slideshow={"slide_type": "skip"}
s = torch.tensor([[2.0, 1.0, 0.9, -1.0], [0.0, 0.1, 0.2, 0.3]])
spread = F.softplus(torch.full_like(s, -1.0))  # of the noise: learnt, here equal for all
noisy = s + spread * torch.randn(s.shape, generator=torch.Generator().manual_seed(seed))
kept = torch.zeros_like(s, dtype=torch.bool).scatter(-1, noisy.topk(2).indices, True)
masked = noisy.masked_fill(~kept, -math.inf)
z = masked.softmax(-1)
for name, tensor in {"scores s": s, "noisy": noisy, "the two best": masked, "weights z": z}.items():
    print(f"{name:13}", *[[round(v, 2) for v in row] for row in tensor.tolist()])
print(f"{'π, kept':13}", *[[round(v, 2) for v in row] for row in (noisy.softmax(-1) * kept).tolist()])
torch.testing.assert_close(z, top_k(noisy, 2).weights)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Reading.** Two weights in each row are exactly 0: those experts need not run. `weights z` sums to 1; the last
# line, the weights of `switch`, sums to less. With $k = 1$ only the second kind gives the router a gradient, as you
# have seen. Token 1 has close scores: there noise may change who is chosen. The module with its learnt noise is
# `moe.NoisyRouter`.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Where the layer sits

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Picture: experts in a transformer block
fig, ax = plt.subplots(figsize=(10, 3.3))
plots.expert_block(ax)
show(
    fig,
    "A transformer block from left to right: norm, attention, added to the residual stream; norm, router, one of four "
    "experts, added to the residual stream. The experts stand where a block has one feed-forward network.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# In a transformer the layer takes the place of the feed-forward network of a block, often of every second block.
# Attention stays dense. Each token is routed at each such layer anew. The residual stream goes around the layer: a
# token without an expert still passes.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Many parameters, one cost?
#
# One to 64 experts, one of them for each token.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** What do more experts cost?
#
# **Idea.** A token runs $k$ experts and the router. A product with a matrix of $a \times b$ takes $2ab$ FLOPs (a
# multiplication and an addition for each parameter). So
#
# $$\text{parameters} = DE + 2DH \cdot E \qquad \text{FLOPs per token} = 2DE + 4DH \cdot k$$
#
# **Code.** Both are counted for $D = 256$, $H = 512$. Look at which column grows with $E$.

# %% slideshow={"slide_type": "skip"}
numbers = [1, 4, 16, 64]  # of experts
layers = {E: MoE(256, 512, E, switch, activation=F.relu) for E in numbers}
parameters, flops = {}, {}
for E, layer in layers.items():
    parameters[E] = sum(w.numel() for w in layer.parameters())
    with torch.no_grad():
        flops[E] = count_flops(layer, torch.randn(2048, 256)) / 2048
    print(f"{E:3} experts: {parameters[E]:10,} parameters, {flops[E]:9,.0f} FLOPs per token")
    torch.testing.assert_close(flops[E], 2 * 256 * E + 4 * 256 * 512.0)

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Does the clock agree with the count, for 64 experts against one?
#
# <details><summary>A. Yes, for any number of tokens</summary>
#
# **No.** For few tokens 64 experts take several times as long.
#
# </details>
#
# <details><summary>B. No; it comes nearest with many tokens</summary>
#
# **Yes.** Nearest, not equal: 64 experts have about 32 tokens each of 2,048, but 4 of 256. Of 16 most experts get none.
#
# </details>
#
# <details><summary>C. No, 64 experts take 64 times as long</summary>
#
# **No.** What was not chosen does not run.
#
# </details>

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Counted, and measured

# %% slideshow={"slide_type": "-"} tags=["fold", "guess", "varies"]
# @title Measure seconds, and plot them beside the counts
crowds = [16, 256, 2048]
times = {}
for _ in range(5):  # the best of five: another program may disturb one
    for E, layer in layers.items():
        for tokens in crowds:
            with torch.no_grad():
                seconds = wall_time(layer, torch.randn(tokens, 256), min_seconds=0.03)
            times[E, tokens] = min(seconds, times.get((E, tokens), math.inf))
slower = {tokens: times[64, tokens] / times[1, tokens] for tokens in crowds}
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.7))
lines = {"parameters": [[parameters[E] / parameters[1] for E in numbers]]}
lines["FLOPs per token"] = [[flops[E] / flops[1] for E in numbers]]
plots.curves(left, numbers, lines)
left.set(title="counted")
relative = {f"{tokens:,} tokens": [[times[E, tokens] / times[1, tokens] for E in numbers]] for tokens in crowds}
plots.curves(right, numbers, relative)
right.set(title="measured: seconds")
for ax in (left, right):
    ax.set(xscale="log", yscale="log", xlabel="experts", ylim=(0.5, 100))
    ax.set_xticks(numbers, numbers)
    ax.set_yticks([1, 10, 100], ["1 ×", "10 ×", "100 ×"])
    ax.minorticks_off()
left.set_ylabel("against one expert (log)")
show(
    fig,
    "Against the number of experts, relative to one. Left: parameters grow 64 times, FLOPs hardly. Right, the "
    f"time with 64: {slower[16]:.1f} times for 16 tokens, {slower[256]:.1f} for 256, {slower[2048]:.1f} for 2,048.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Claims: counted and measured
claim(
    "64 experts have more than 60 times the parameters of one, and less than 1.1 times its FLOPs",
    parameters[64] > 60 * parameters[1] and flops[64] < 1.1 * flops[1],
    parameters=parameters[64] / parameters[1],
    FLOPs=flops[64] / flops[1],
)
claim(
    "64 experts are slower than one by a smaller factor for 2,048 tokens than for 16 and for 256",
    slower[2048] < min(slower[16], slower[256]),
    clock=True,
    for_16=slower[16],
    for_256=slower[256],
    for_2048=slower[2048],
)

# %% [markdown] slideshow={"slide_type": "notes"}
# "Computational cost can be independent of the number of parameters" (S. Scardapane's talk, see Sources) is true for
# the count: only the router's product grows, one column for each expert. The clock comes nearest with many tokens for
# each expert, and even then is well above. Perhaps because an expert is read from memory for all its tokens at once:
# notebook 09.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## A calculator

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title The calculator
calculator = ExpertCalculator(d_model=256, d_hidden=1024, n_experts=8, k=1, capacity_factor=1.25, n_tokens=4096)
calculator

# %% [markdown] slideshow={"slide_type": "notes"}
# **Try.** Double the experts: parameters double, FLOPs hardly change. Double $k$: FLOPs nearly double. The last
# numbers, of dropped tokens, belong to the capacity, the next section.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: a dense layer of equal cost ★★☆ 3 min
#
# $D = 32$, $H = 8$, 64 experts, $k = 1$. A dense layer, one network without a router, is to cost the same FLOPs
# per token. How many hidden units has it? Give the number.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
hidden_units = ...

check("equal_cost", hidden_units)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
hidden_units_solution = (2 * 32 * 64 + 4 * 32 * 8) / (4 * 32)  # (router + expert) / FLOPs of a hidden unit

check("equal_cost", hidden_units_solution)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## An expert has limited room
#
# $$\text{room} = \left\lceil c \cdot \frac{kN}{E} \right\rceil \qquad c: \text{capacity factor}$$

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** What if all tokens want the same expert?
#
# **Idea.** On real machines tensors have fixed sizes, so each expert has a fixed room: the mean number of its tokens,
# times the *capacity factor* $c$. Who comes too late is **dropped**: $y = 0$ for this token, and only the residual
# stream carries it on. Places go to first choices first, then to second ones; among equals, to the earlier token.
#
# **Code.** Four tokens, two experts, $c = 1$, so the room is 2. Three tokens want expert 0. `within_capacity` sets
# the weights of dropped tokens to 0. Look at which of the three is dropped, in the order of tokens, and with *batch
# priority* (Riquelme et al. 2021), where the tokens of largest probability come first.

# %% slideshow={"slide_type": "-"}
choice = switch(torch.tensor([[0.2, 0.0], [0.4, 0.0], [3.0, 0.0], [0.0, 1.0]]))
print("weight of token     0     1     2     3")
for name, priority in {"in order": False, "batch priority": True}.items():
    kept = within_capacity(choice, 1.0, batch_priority=priority).weights.sum(-1)
    print(f"{name:15}", *(f"{weight:5.2f}" for weight in kept))

# %% [markdown] slideshow={"slide_type": "notes"}
# In order, token 2 is dropped, though it is the surest. With batch priority it is token 0, the least sure. A large
# $c$ drops little and wastes room; a small one drops much.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: dropped by chance ★★☆ 10 min · optional
#
# Each of N tokens draws one of E experts at random. An expert has room for C tokens; the rest is dropped. Which share
# of the tokens is dropped, on average? Write `dropped_by_chance(n_tokens, n_experts, room)`; it should return a
# number, exact (no simulation). The load of one expert is Binomial(N, 1/E), and `math.comb(n, m)` counts the ways to
# choose m of n.


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
# ## A task for sixteen experts
#
# Sixteen codes, each with its own names for the digits. Given: an image and the number of the code.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Picture: the names of a digit
data, names = digits(), sixteen_codes.codebook()
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.7), width_ratios=[1, 2.4])
example = (data.test_y == 7).nonzero()[0, 0]
left.imshow(data.test_x[example], cmap="gray_r")
left.set(title="a seven", xticks=[], yticks=[])
shown = names[:8]
right.imshow(shown, cmap="Blues", vmin=-2, vmax=16, aspect="auto")
for code, digit in np.ndindex(*shown.shape):
    weight = "bold" if digit == 7 else "normal"
    right.text(digit, code, shown[code, digit].item(), ha="center", va="center", weight=weight, fontsize="small")
right.add_patch(plt.Rectangle((6.5, -0.5), 1, 8, fill=False, ec="C1", lw=3))
right.set(xlabel="digit in the image", ylabel="code", xticks=range(10), yticks=range(8))
right.set(title="8 of the 16 codes, the names of the seven framed")
show(
    fig,
    "An image of a seven, and a table: for each code a row with the names of the digits 0 to 9 in that code. The "
    "column of the seven is framed: it has a different name in most codes.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The codes contradict each other: the same image is a 7 in one, a 2 in another. Sixteen experts, one for each code,
# could divide the work. We know which expert *should*
# take which token. The router does not: it sees image and code mixed in one vector.

# %% [markdown] slideshow={"slide_type": "skip"}
# **The network.** $h = \mathrm{ReLU}(\text{image} \cdot A + \text{code's vector})$ has width $D = 32$. A layer of 16
# experts with $H = 8$ is added to it, $h + \sum_e z_e f_e(h)$, and one matrix gives the ten logits. It is `Readers`
# in `lecture_lib.recorded.mixture_of_experts`. Training: Adam, 128 images per step, each in a random code, from 1,000
# images; 257 others to pick learning rates by; 540 to test.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Left alone, routing collapses
#
# Sixteen experts, sixteen contradicting tasks, and no loss but the task's.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Does a router that only minimises the task's loss use all its experts?
#
# **Idea.** The **load** $\ell_e$ of an expert is its share of the tokens; the loads sum to 1. Routing has
# **collapsed** if few experts have most of the load.
#
# **Code.** Two trainings of 600 steps: with the task's loss alone, and with the *balance loss* of the next section
# added. Loads on test images are kept every 25 steps. Look at the busiest expert over the mean: 1 is equal, 16 is one
# expert for all.

# %% slideshow={"slide_type": "skip"}
live = {}
for name, strength in {"left alone": 0.0, "balance loss": 0.1}.items():
    setting = (seed, 0.01, strength)  # seed, learning rate, strength of the balance loss
    # All 16 codes are trained. To save time, each test image is measured in 4 of them (n_codes).
    _, (live[name],) = sixteen_codes.train(sixteen_codes.METHODS[name], [setting], 600, every=25, n_codes=4)
    end = live[name][-1]
    print(f"{name:20} accuracy {end['test']:.3f}, busiest expert over the mean {16 * max(end['load']):4.1f}")

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Plot: the load of each expert, left alone and with a balance loss
fig, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True)
for ax, name in zip(axes, ("left alone", "balance loss"), strict=True):
    load = np.array([row["load"] for row in live[name]])
    ranked = load[:, load[-1].argsort()[::-1]].T
    steps = [row["step"] for row in live[name]]
    ax.stackplot(steps, ranked, colors=plt.cm.cividis(np.linspace(0.1, 0.95, 16)), ec="w", lw=0.4)
    ax.set(title=name, xlabel="training step", xlim=(25, 600), ylim=(0, 1))
    ax.text(590, 0.012, "the busiest expert", ha="right", va="bottom", color="w", fontsize="small")
axes[0].set_ylabel("share of the tokens\n(a band: one expert)")
show(
    fig,
    "Shares of sixteen experts over 600 training steps. Left alone, a few wide bands take most of the tokens. With a "
    "balance loss, sixteen bands of similar height.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The usual explanation: **the rich get richer**. At first all experts are equally bad. One gets more tokens by
# chance, learns from them, becomes better, so the router sends it more. An expert without tokens has no gradient and
# hardly moves. It is not final: the router still moves, and an idle expert can come back.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: how uneven, and who comes back
four = {name: np.sort(live[name][-1]["load"])[-4:].sum() for name in ("left alone", "balance loss")}
claim(
    "left alone, the four busiest of sixteen experts have more of the tokens than with a balance loss",
    four["left alone"] > four["balance loss"],
    left_alone=four["left alone"],
    balance_loss=four["balance loss"],
)
load = np.array([row["load"] for row in live["left alone"]])
idle = load == 0
back = sum(int((idle[i, e]) and (load[i + 1 :, e] > 0).any()) for e in range(16) for i in [idle[:, e].argmax()])
claim(
    "left alone, an expert that had no test token got some again later",
    back > 0,
    experts_that_were_idle=int(idle.any(0).sum()),
    of_them_back=int(back),
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Two cures: a loss, or a thermostat
#
# **A loss for balance.** Its gradient goes through $\bar\pi$
#
# $$L_{\text{balance}} = E \sum_e \ell_e \, \bar\pi_e \qquad
# \ell_e: \text{load}, \quad \bar\pi_e: \text{mean probability}$$
#
# $$L = L_{\text{task}} + \text{strength} \cdot L_{\text{balance}}$$
#
# **A bias, no loss.** It changes who is chosen, never with which weight
#
# $$e^* = \arg\max_e \,(\pi_e + \beta_e) \qquad
# \beta_e \leftarrow \beta_e + u \cdot \operatorname{sign}(\text{mean load} - \ell_e)$$

# %% [markdown] slideshow={"slide_type": "notes"}
# The load is a count: it has no gradient. The mean probability has one, $\partial L_\text{balance} / \partial
# \bar\pi_e = E \, \ell_e$: the busiest expert's probability is pushed down hardest (Fedus et al. 2022). The bias
# (Wang et al. 2024) works as a thermostat: after each batch, a busy expert's bias goes down by a small step $u$, its
# strength; an idle one's goes up. The weight of an expert stays its probability, so no gradient of balance disturbs
# that of the task.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### The balance loss by hand

# %% [markdown] slideshow={"slide_type": "skip"}
# **Predict.** During training the balance loss is 1.00. Are the loads equal?
#
# <details><summary>A. Yes, 1 means balance</summary>
#
# **No.** See B.
#
# </details>
#
# <details><summary>B. Not necessarily</summary>
#
# **Yes.** If all $\bar\pi_e = 1/E$, it is $\sum_e \ell_e = 1$, whatever the loads are. Look at the loads as well.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Which value is good?
#
# **Code.** The formula, for four pairs of loads and mean probabilities. Look at the last one.


# %% slideshow={"slide_type": "skip"}
def by_hand(load, mean_pi):
    return len(load) * sum(share * mean for share, mean in zip(load, mean_pi, strict=True))


print("equal loads          ", by_hand([0.25, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, 0.25]))
print("half of the experts  ", by_hand([0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0]))
print("collapsed            ", by_hand([1, 0, 0, 0], [1, 0, 0, 0]))
pi = torch.tensor([[0.51, 0.49]] * 8 + [[0.0, 1.0]] * 2)  # eight tokens undecided, two sure
load, mean_pi = pi.argmax(-1).bincount() / 10, pi.mean(0)
shares = [[round(v, 3) for v in values.tolist()] for values in (load, mean_pi)]
print(f"loads {shares[0]}, mean probabilities {shares[1]}: {by_hand(load, mean_pi):.3f}")
torch.testing.assert_close(by_hand(load, mean_pi), load_balance_loss(switch(pi.log())))

# %% [markdown] slideshow={"slide_type": "skip"}
# **Reading.** If probabilities follow loads, the loss is 1 for equal loads, 2 if half of the experts share all tokens,
# and $E$ if one has all. But 1 is not the minimum: the last line has loads of 0.8 and 0.2, and a loss of 0.89. Eight
# tokens choose expert 0 by a small lead, two choose expert 1 for sure. So its mean probability is the larger one.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: two experts idle ★☆☆ 3 min
#
# Four experts. Experts 0 and 1 get half of the tokens each, 2 and 3 get none. The mean probabilities are 0.4, 0.4,
# 0.1, 0.1. Work out the balance loss on paper, and give the number.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
loss_on_paper = ...

check("half_loads", loss_on_paper)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
loss_on_paper_solution = 4 * (0.5 * 0.4 + 0.5 * 0.4 + 0 * 0.1 + 0 * 0.1)

check("half_loads", loss_on_paper_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: the balance loss is 1.3. Is that bad? ★★☆ 4 min
#
# A run with $E = 16$ experts and $k = 1$ reports $L_{\text{balance}} = 1.3$. Suppose that the router is sure, so that
# each mean probability is the load, $\bar\pi_e = \ell_e$. By how much do the loads differ from the mean load 1/16?
# Give the *coefficient of variation*: their standard deviation (root of the mean squared difference) divided by the
# mean.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
variation = ...

check("read_the_loss", variation)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# The mean of (ℓ - 1/E)² is (Σ ℓ²)/E - 1/E². Divided by the squared mean, 1/E², it is E Σ ℓ² - 1 = loss - 1.
variation_solution = (1.3 - 1) ** 0.5

check("read_the_loss", variation_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: the balance loss ★★☆ 5 min
#
# Write `balance_loss(scores)`: scores `(N, E)` of N tokens for E experts in, a scalar out. Each token goes to its
# best expert. The gradient must go through the probabilities.


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def balance_loss(scores):
    return ...


check("balance_loss", balance_loss)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def balance_loss_solution(scores):
    n_experts = scores.shape[-1]
    load = scores.argmax(-1).bincount(minlength=n_experts) / len(scores)
    mean_pi = scores.softmax(-1).mean(0)
    return n_experts * (load * mean_pi).sum()


check("balance_loss", balance_loss_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: break it ★★★ 10 min · optional
#
# Write `below_one(n_tokens, n_experts)`: it returns scores `(N, E)` for which at least three quarters of the tokens
# go to one expert, and yet the balance loss is below 0.9.


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def below_one(n_tokens, n_experts):
    return ...


check("below_one", below_one)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def below_one_solution(n_tokens, n_experts):
    scores = torch.zeros(n_tokens, n_experts)
    scores[:, 0] = 0.01  # a small lead: chosen, with hardly more than 1/E
    sure = torch.arange(n_tokens // 4)  # a quarter is sure of the others, in turn
    scores[sure, 1 + sure % (n_experts - 1)] = 20.0
    return scores


check("below_one", below_one_solution)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Watch it happen


# %% slideshow={"slide_type": "-"} tags=["fold", "figure:routing_widget"]
# @title Three more trainings, and the loads of all, step by step
for name, step in {"balancing bias": 0.01, "layer normalisation": 0.0, "expert choice": 0.0}.items():
    _, (live[name],) = sixteen_codes.train(sixteen_codes.METHODS[name], [(seed, 0.01, step)], 600, every=25, n_codes=4)


def dropped(load, factor=1.25):
    """The share of the tokens beyond each expert's room, for top-1 routing."""
    return sum(max(share - factor / len(load), 0) for share in load)


Routing(
    {
        name: {
            "step": [row["step"] for row in rows],
            "load": [row["load"] for row in rows],
            "dropped": [dropped(row["load"]) for row in rows],
            "quality": [row["test"] for row in rows],
        }
        for name, rows in live.items()
    }
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The two runs above, and three more cures: the bias, and two that are explained in "Cures at their best". Step
# through the training, switch the method. "Dropped": above a capacity factor of 1.25, all test tokens at once.

# %% [markdown] slideshow={"slide_type": "skip"}
# With top-1 routing a capacity factor of $c$ drops $\sum_e \max(\ell_e - c/E,\, 0)$ of the tokens: what is above the
# room, $c/E$. The plot shows it for the loads at the end, against $c$.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Plot: imbalance becomes dropped tokens
factors = np.linspace(0.5, 4, 29)
drops = {
    name: [dropped(live[name][-1]["load"], c) for c in factors]
    for name in ("left alone", "layer normalisation", "balance loss", "balancing bias")
}
fig, ax = plt.subplots(figsize=(10, 3.3))
plots.curves(ax, factors, {name: [values] for name, values in drops.items()})
ax.set(xlabel="capacity factor c", ylabel="dropped tokens", ylim=(0, 1), xlim=(0.5, 4))
ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
show(
    fig,
    "Share of dropped tokens against the capacity factor. Left alone, many are dropped even at a factor of 2, with "
    "layer normalisation fewer; with the balance loss or the bias, few above 1.25.",
)
at = {name: values[6] for name, values in drops.items()}
claim(
    "at a capacity factor of 1.25, routing left alone drops more tokens than with layer normalisation, and that more "
    "than with the balance loss or the bias",
    at["left alone"] > at["layer normalisation"] > max(at["balance loss"], at["balancing bias"]),
    **{name.replace(" ", "_"): value for name, value in at.items()},
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The price of collapse
#
# How much accuracy does it cost, and for how long? From 300 to 4,800 steps, each method with the best of three
# learning rates.

# %% [markdown] slideshow={"slide_type": "skip"}
# **What is equal.** All routers of 16 experts have the same parameters and FLOPs, except for the layer
# normalisation; the same training images and steps. For each method, learning rate (of three) and strength (of two)
# were picked on held-out images; the learning rate falls to 0, so that each number of steps is a training of its own.
# (4,800 steps take what was picked for 1,200.) The numbers are of test images and five other seeds.
#
# **What is compared.**
#
# - *left alone*, and its extreme, *one expert*: a dense layer with $H = 8$, as if one had all tokens;
# - *balance loss*, and *at random*: each token goes to an expert drawn anew each time (not by a fixed random matrix),
#   with weight 1;
# - *code given*: expert $i$ takes code $i$, with weight 1. No router has this knowledge;
# - *dense, same cost*: a dense layer, $H = 16$, of the same FLOPs as 16 experts and their router.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Routing at random is in perfect balance. Is it better than routing left alone?
#
# <details><summary>A. Yes: all experts are used</summary>
#
# **No.** It ends lower. Perhaps because no expert gets a part of its own: each has to learn all codes.
#
# </details>
#
# <details><summary>B. No</summary>
#
# **Yes.** A router that knows something is worth more than balance.
#
# </details>

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title The record: accuracy of six methods
STEPS = sixteen_codes.STEPS
accuracy = {
    method: np.array([[e[str(n)]["test"] for n in STEPS] for e in record["entries"] if e["method"] == method])
    for method in sixteen_codes.METHODS
}  # (5 seeds, 3 numbers of steps) each
mean = {method: values.mean(0) for method, values in accuracy.items()}
names_of = {"dense, H = 8": "one expert (dense, H = 8)", "dense, H = 16": "dense, same cost (H = 16)"}
drawn = ("code given", "balance loss", "left alone", "dense, H = 16", "dense, H = 8", "at random")
for method in drawn:
    shown = ", ".join(f"{n:,}: {v:.3f}" for n, v in zip(STEPS, mean[method], strict=True))
    print(f"{names_of.get(method, method):25} after {shown} steps")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Accuracy against steps

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Plot: accuracy against the number of steps
fig, ax = plt.subplots(figsize=(10, 4.0))
plots.curves(ax, STEPS, {names_of.get(name, name): accuracy[name] for name in drawn}, legend=False)
ax.set(
    xscale="log",
    xlabel="training steps, each a training of its own (log)",
    ylabel="accuracy (not from 0)",
    ylim=(0.55, 1),
)
ax.set_xticks(STEPS, [f"{n:,}" for n in STEPS])
ax.minorticks_off()
label = f"{record['label']}\nlines: means; bands: all seeds"
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), title=label, title_fontsize="small")
show(
    fig,
    "Accuracy against training steps, 300 to 4,800. After 1,200 and 4,800 code given is highest, then the balance "
    "loss, left alone, the dense layer of the same cost, one expert, random routing; after 300 the dense layer of the "
    "same cost is ahead of left alone. Gaps shrink with the steps.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Mostly speed.** After 300 steps the balance loss is 0.08 ahead of routing left alone, after 4,800 steps 0.01, in
# the mean of five seeds; there the seeds overlap. One expert for all, the extreme of collapse, is 0.13 behind the
# balance loss at first, 0.02 at the end. Whether the last gap would close, these runs do not say. Random routing is
# far behind at first, and ends near one expert: balance by random draws brings nothing. A dense layer of the same
# cost is 0.04 ahead of routing left alone at first, level with it at the end, and there 0.01 behind the balance loss.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: the price of collapse
first, last = 0, 2
gap = mean["balance loss"] - mean["left alone"]
claim(
    "the balance loss is ahead of routing left alone after 300 steps, by more than four times the gap after 4,800",
    gap[first] > 4 * gap[last],
    after_300=gap[first],
    after_4800=gap[last],
)
claim(
    "after 4,800 steps it is ahead by about 0.01 in the mean of five seeds, and the seeds of the two overlap",
    0.005 < gap[last] < 0.015 and accuracy["left alone"][:, last].max() > accuracy["balance loss"][:, last].min(),
    gap=gap[last],
)
one = mean["balance loss"] - mean["dense, H = 8"]
claim(
    "one expert is 0.13 behind the balance loss after 300 steps, 0.02 after 4,800",
    0.125 < one[first] < 0.135 and 0.015 < one[last] < 0.025,
    after_300=one[first],
    after_4800=one[last],
)
claim(
    "with the code given, accuracy is 0.02 above the balance loss after 1,200 steps",
    0.015 < (mean["code given"] - mean["balance loss"])[1] < 0.025,
    code_given=mean["code given"][1],
    balance_loss=mean["balance loss"][1],
)
claim(
    "routing at random is the last of all after 300 steps, and after 4,800 within 0.01 of one expert",
    mean["at random"][first] == min(values[first] for values in mean.values())
    and abs(mean["at random"] - mean["dense, H = 8"])[last] < 0.01,
    at_random=mean["at random"][last],
    one_expert=mean["dense, H = 8"][last],
)
claim(
    "the dense layer of the same cost is about 0.04 ahead of routing left alone after 300 steps; after 4,800 it is "
    "level with it, within 0.005, and behind the balance loss",
    0.03 < (mean["dense, H = 16"] - mean["left alone"])[first] < 0.045
    and abs(mean["dense, H = 16"] - mean["left alone"])[last] < 0.005
    and mean["dense, H = 16"][last] < mean["balance loss"][last],
    dense=mean["dense, H = 16"][last],
    left_alone=mean["left alone"][last],
    balance_loss=mean["balance loss"][last],
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Cures at their best

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Which cure?
#
# **What is compared.** *Layer normalisation*: the vector $h$ is brought to mean 0 and variance 1 before router and
# experts, as a transformer block does. Two controls take it apart: normalised *for the router* alone, and a dense
# layer of the same cost *with* the normalisation. *Expert choice* (below) lets each expert take its best tokens.
#
# Look, in each row, at accuracy after 300 and 4,800 steps, and at the busiest over the mean.

# %% slideshow={"slide_type": "skip"}
uneven = {m: np.mean([e["4800"]["max_over_mean"] for e in record["entries"] if e["method"] == m]) for m in accuracy}
print("mean accuracy after 300 and 4,800 steps (its lowest and highest seed), busiest / mean there")
cures = ["left alone", "balance loss", "balancing bias", "layer normalisation", "normalised for the router"]
cures += ["normalisation and balance loss", "expert choice", "at random", "dense, H = 16", "dense, H = 16, normalised"]
for m in cures:
    low, high = accuracy[m][:, 2].min(), accuracy[m][:, 2].max()
    print(f"{names_of.get(m, m):31} {mean[m][0]:.3f}, {mean[m][2]:.3f} ({low:.3f} to {high:.3f}), {uneven[m]:4.1f}")

# %% slideshow={"slide_type": "-"} tags=["fold", "figure:experts_cures"]
# @title Plot: accuracy against balance
fig, ax = plt.subplots(figsize=(10, 4.1))
for i, m in enumerate([m for m in cures if "dense" not in m] + ["code given"]):
    x = [e["4800"]["max_over_mean"] for e in record["entries"] if e["method"] == m]
    top = m == "expert choice"  # its stars lie on the hexagons of the code
    ax.scatter(x, accuracy[m][:, 2], s=130 if top else 70, color=f"C{i}", marker="osD^vP*Xh"[i], label=m, ec="0.2",
               lw=0.6, zorder=4 if top else 3)  # fmt: skip
ax.axhline(mean["dense, H = 16"][2], color="0.4", ls=":", lw=1.5, label="dense, same cost")
ax.set(xscale="log", xlabel="busiest expert over the mean (log)", xlim=(0.92, 17))
ax.set(ylabel="accuracy (not from 0)", title="after 4,800 steps")
ax.set_xticks([1, 2, 4, 8, 16], ["1\nequal", "2", "4", "8", "16\none has all"])
ax.minorticks_off()
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), title=record["label"], title_fontsize="small")
show(
    fig,
    "Accuracy after 4,800 steps against the busiest expert over the mean, five seeds each. The cures lie within 0.01 "
    "of each other on average, with loads from equal to a busiest expert of more than four times the mean. Left alone "
    "and the dense layer are lower on average, at random lowest.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **After 4,800 steps the cures are alike**: within 0.01 of each other, and seeds of one of them differ by as much. All
# are ahead of routing left alone and of the dense layer, on average. **After 300 steps** normalisation and balance loss
# together are best; the seeds of the others overlap. **Balance is not the goal.** With layer normalisation the busiest
# expert keeps three times the mean, and the accuracy is that of the balance loss. But with a capacity such loads drop
# tokens. At random, loads are equal, and the accuracy is the lowest. Left alone, the busiest has 4.3 times the mean
# here.
#
# Normalising the *router's* input alone does as well after 4,800 steps. A dense layer gains nothing by normalisation
# then, 0.02 after 300. Normalising the experts' input alone was not recorded, so the cause is open.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: the cures
end = {m: mean[m][2] for m in cures}
cured = {m: end[m] for m in cures[1:7]}
claim(
    "after 4,800 steps the means of the six cures are within 0.01 of each other, ahead of routing left alone and of "
    "the dense layer of the same cost",
    max(cured.values()) - min(cured.values()) < 0.01
    and min(cured.values()) > max(end["left alone"], end["dense, H = 16"]),
    lowest=min(cured.values()),
    highest=max(cured.values()),
    left_alone=end["left alone"],
    dense=end["dense, H = 16"],
)
early = {m: mean[m][0] for m in cures[1:7]}
claim(
    "after 300 steps the means spread over 0.07, and normalisation and balance loss together are best",
    0.065 < max(early.values()) - min(early.values()) < 0.075
    and max(early, key=early.get) == "normalisation and balance loss",
    lowest=min(early.values()),
    highest=max(early.values()),
)
claim(
    "after 4,800 steps, with layer normalisation the busiest expert has about three times the mean, and the accuracy "
    "of the balance loss, within 0.005",
    2.5 < uneven["layer normalisation"] < 4 and abs(end["layer normalisation"] - end["balance loss"]) < 0.005,
    busiest=uneven["layer normalisation"],
    normalised=end["layer normalisation"],
    balance_loss=end["balance loss"],
)
claim(
    "after 4,800 steps normalising the router's input alone is within 0.005 of normalising both; a dense layer gains "
    "nothing by it then, and 0.02 after 300 steps",
    abs(end["normalised for the router"] - end["layer normalisation"]) < 0.005
    and end["dense, H = 16, normalised"] <= end["dense, H = 16"]
    and 0.015 < mean["dense, H = 16, normalised"][0] - mean["dense, H = 16"][0] < 0.025,
    router=end["normalised for the router"],
    both=end["layer normalisation"],
    dense_normalised=end["dense, H = 16, normalised"],
    dense=end["dense, H = 16"],
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Are more experts better?

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** From 1 to 64 experts the cost grows five times here, only by the router: $D$ and $H$ are
# small. What does accuracy do, and what would a dense network do?
#
# **What is equal.** A dense layer has no router: at the cost of 16 experts and their router it has 16 hidden units,
# at the cost of 64 it has 40 (your exercise). With 128 it has about the *parameters* of 16 experts, at eight times
# their cost.

# %% slideshow={"slide_type": "skip"}
sizes = {"dense, H = 8": "one expert", "balance loss": "16 experts", "64 experts": "64 experts"}
for m in (*sizes, "dense, H = 16", "dense, H = 40", "dense, H = 128"):
    cost = sixteen_codes.cost(sixteen_codes.METHODS[m])
    size = f"{cost['flops']:6,} FLOPs per token, {cost['weights']:6,} parameters"
    print(f"{sizes.get(m, m):14} {size}: {mean[m][0]:.3f} after 300 steps, {mean[m][2]:.3f} after 4,800")

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Plot: accuracy against cost
fig, ax = plt.subplots(figsize=(10, 3.7))
for names_, colour, marker, label in (
    (("dense, H = 8", "dense, H = 16", "dense, H = 40", "dense, H = 128"), "C0", "o", "dense"),
    (("balance loss", "64 experts"), "C1", "s", "experts, balance loss"),
):
    cost = [sixteen_codes.cost(sixteen_codes.METHODS[m]) for m in names_]
    x, y = [c["flops"] for c in cost], np.array([accuracy[m][:, 2] for m in names_])
    ax.errorbar(x, y.mean(1), [y.mean(1) - y.min(1), y.max(1) - y.mean(1)], color=colour, marker=marker, label=label)
    below = label == "dense"
    for c, m, level in zip(cost, names_, y.min(1) if below else y.max(1), strict=True):
        name = f"{sizes.get(m, m) if not below else m.removeprefix('dense, ')}\n{c['weights']:,} parameters"
        ax.annotate(name, (c["flops"], level), xytext=(0, -8 if below else 7), textcoords="offset points",
                    ha="center", va="top" if below else "bottom", fontsize="small")  # fmt: skip
ax.set(xscale="log", xlabel="FLOPs per token of the layer, router included (log)")
ax.set(ylabel="accuracy (not from 0)", title="after 4,800 steps")
low, high = ax.get_ylim()
ax.set(xlim=(680, 26000), ylim=(low - 0.5 * (high - low), high + 0.35 * (high - low)))
ax.set_xticks([1024, 2048, 5120, 16384], ["1,024", "2,048", "5,120", "16,384"])
ax.minorticks_off()
label = f"{record['label']}\npoints: means; bars: all seeds"
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), title=label, title_fontsize="small")
show(
    fig,
    "Accuracy after 4,800 steps against FLOPs per token of the layer, with its parameters. Sixteen experts lie above "
    "the dense layer of their cost, 64 experts level with theirs. A dense layer of 128 hidden units is above all.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# After 4,800 steps **16 experts** are 0.02 ahead of one, and 0.01 ahead of the dense layer of the same cost. **64
# experts** are level with theirs, which has a fourteenth of the parameters: at this width four fifths of their cost
# is the router. **128 hidden units**, about the parameters of 16 experts, are better than all of them, at eight times
# the cost. So 16 experts are not as good as a dense layer of their size: they are cheaper. After 300 steps the dense
# layer of the cost of 64 experts is even 0.03 ahead of them.
#
# The router's share of the cost is $E / (E + 2Hk)$. For $E = 64$ it is 80 % here, with $H = 8$, and 0.2 % with
# $H = 16{,}384$. What holds at our size need not hold for large models.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: experts and dense layers
end = {m: values[2] for m, values in mean.items()}
claim(
    "after 4,800 steps 16 experts are about 0.02 ahead of one, and about 0.01 ahead of the dense layer of their cost",
    0.015 < end["balance loss"] - end["dense, H = 8"] < 0.025
    and 0.005 < end["balance loss"] - end["dense, H = 16"] < 0.015,
    sixteen=end["balance loss"],
    one=end["dense, H = 8"],
    dense=end["dense, H = 16"],
)
claim(
    "64 experts are within 0.005 of the dense layer of the same cost after 4,800 steps, and 0.03 behind it after 300",
    abs(end["64 experts"] - end["dense, H = 40"]) < 0.005
    and 0.025 < mean["dense, H = 40"][0] - mean["64 experts"][0] < 0.035,
    experts=end["64 experts"],
    dense=end["dense, H = 40"],
    behind_after_300=mean["dense, H = 40"][0] - mean["64 experts"][0],
)
claim(
    "after 4,800 steps the dense layer of 128 hidden units is ahead of 16 and of 64 experts",
    end["dense, H = 128"] > max(end["balance loss"], end["64 experts"]),
    dense=end["dense, H = 128"],
    sixteen=end["balance loss"],
    sixty_four=end["64 experts"],
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A hash as router · optional
#
# Eight bytes of Python in, the next byte out. Eight experts.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Is what the router learns worth anything?
#
# **Idea.** A *hash* sends each token to an expert by a fixed table of its last byte. Nothing is learnt (Roller et al.
# 2021). It is the simplest baseline for any router. It differs from our router in three things: it *sees* the last
# byte and not the hidden state; it is *fixed*; and its weight is 1, not the probability $\pi_e$. So all eight
# combinations are trained.
#
# - Learnt, weight 1: a constant 1 has no gradient, as we saw. So the value is 1, and the gradient that of $\pi_e$
#   (straight-through, notebook 02).
# - Fixed, weight $\pi_e$: the table chooses the expert. A second router, learnt, only gives its weight.
# - A fixed router of the hidden state is a random matrix; a learnt one of the last byte is a table.
#
# **What is equal.** The network around the layer, the experts, steps, batches; the learning rate is the best of three
# on held-out text, picked for each number of steps. Learnt routers have a balance loss of strength 0.01. *Dense, H =
# 68* has the FLOPs of the experts and the router. Bits per byte on test text, mean of three seeds; less is better.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Which of the three differences matters most?
#
# <details><summary>A. That it is fixed: experts train on a division of labour that stands still</summary>
#
# **No.** Fixed is better with weight 1, and worse with weight $\pi$, by less than 0.1 bits after 1,200 steps.
#
# </details>
#
# <details><summary>B. That it sees the last byte</summary>
#
# **Yes.** In all four pairs, on average about 0.2 bits.
#
# </details>
#
# <details><summary>C. Its weight, 1</summary>
#
# **No.** It helps the fixed table and costs a learnt router, by less than 0.1 bits after 1,200 steps.
#
# </details>

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title The record: bits per byte of eight routers
bits = {}
for name in text_record["grid"]["router"]:
    entries = [e for e in text_record["entries"] if e["router"] == name]
    bits[name] = np.array([[e[str(n)]["test"] for n in next_byte.STEPS] for e in entries])  # (seeds, steps)
    load = np.mean([e["1200"]["max_over_mean"] for e in entries])
    short, long = bits[name].mean(0)
    name = name.replace("weight p", "weight π")
    print(f"{name:30} {short:.3f} after 400 steps, {long:.3f} after 1,200; busiest / mean {load:.1f}")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### The hash taken apart

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Plot: the hash taken apart
fig, axes = plt.subplots(1, 2, figsize=(10, 3.9), sharey=True)
for ax, (i, n) in zip(axes, enumerate(next_byte.STEPS), strict=True):
    groups = [f"{sees},\n{how}" for sees in ("hidden state", "last byte") for how in ("learnt", "fixed")]
    for j, weight in enumerate("p1"):
        values = [bits[f"{group.replace(chr(10), ' ')}, weight {weight}"][:, i] for group in groups]
        x = np.arange(4) + 0.16 * (2 * j - 1)
        for at, seeds in zip(x, values, strict=True):
            ax.plot([at] * len(seeds), seeds, color=f"C{j}", marker="os"[j], ls="none", ms=7, mec="0.2", mew=0.5)
        ax.plot([], [], color=f"C{j}", marker="os"[j], ls="none", label=["weight π", "weight 1"][j])
    dense = bits["dense, H = 68"][:, i]
    ax.axhspan(dense.min(), dense.max(), color="0.9", lw=0)
    ax.axhline(dense.mean(), color="0.4", ls=":", lw=1.5, label="dense, same cost\n(band: its seeds)")
    ax.set(title=f"after {n:,} steps", xlim=(-0.5, 3.5))
    ax.set_xticks(range(4), [group.replace("hidden state", "hidden") for group in groups], fontsize="small")
axes[0].set_ylabel("bits per byte (not from 0)")
axes[1].legend(
    frameon=False, loc="upper left", bbox_to_anchor=(1, 1), title=text_record["label"], title_fontsize="small"
)
show(
    fig,
    "Bits per byte of eight routers after 400 and 1,200 steps, three seeds each. Those that see the last byte are "
    "below those that see the hidden state, which lie near the dense layer of the same cost (a band from its lowest to "
    "its highest seed).",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **What a router sees** decides: the last byte is about 0.2 bits better, after 400 and after 1,200 steps, learnt or
# fixed, with either weight. What learning brings depends on the weight: fixed is better with weight 1, worse with the
# probability $\pi$. After 1,200 steps, each with its better weight ($\pi$ for learnt, 1 for fixed), a learnt router of
# the last byte is 0.03 behind the hash; one of the hidden state is 0.05 ahead of a random matrix, and level with the
# dense layer.
#
# What this does not show: why the hidden state serves less, though it is made
# of the last byte and seven others; and nothing about long training and large models. Whoever praises a learnt router
# should show a hash beside it.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: the hash taken apart
pairs = [[bits[f"{sees}, {how}"].mean(0) for sees in ("hidden state", "last byte")] for how in (
    "learnt, weight p", "learnt, weight 1", "fixed, weight p", "fixed, weight 1")]  # fmt: skip
gain = np.array([hidden - last for hidden, last in pairs])  # (4 ways, 2 numbers of steps)
claim(
    "in all four pairs the last byte is better than the hidden state, on average by 0.2 bits after 400 and "
    "after 1,200 steps",
    gain.min() > 0 and (abs(gain.mean(0) - 0.2) < 0.02).all(),
    after_400=gain.mean(0)[0],
    after_1200=gain.mean(0)[1],
    smallest=gain.min(),
)
ways = {name: values.mean(0)[1] for name, values in bits.items() if "weight" in name}


def less(better, worse):
    """How many bits less, for both that a router can see."""
    return [ways[f"{sees}, {worse}"] - ways[f"{sees}, {better}"] for sees in ("hidden state", "last byte")]


with_1, with_p = less("fixed, weight 1", "learnt, weight 1"), less("learnt, weight p", "fixed, weight p")
claim(
    "after 1,200 steps fixed is better than learnt with weight 1, and worse with weight π, by less than 0.1 bits",
    all(0 < bits_less < 0.1 for bits_less in with_1 + with_p),
    most_with_1=max(with_1),
    most_with_p=max(with_p),
)
fixed, learnt = less("fixed, weight 1", "fixed, weight p"), less("learnt, weight p", "learnt, weight 1")
claim(
    "after 1,200 steps weight 1 helps the fixed table and costs a learnt router, by less than 0.1 bits",
    all(0 < bits_less < 0.1 for bits_less in [fixed[1], *learnt]),
    table=fixed[1],
    most_learnt=max(learnt),
)
claim(
    "the hash is 0.03 bits ahead of a learnt router of the last byte",
    abs(ways["last byte, learnt, weight p"] - ways["last byte, fixed, weight 1"] - 0.03) < 0.005,
    learnt=ways["last byte, learnt, weight p"],
    hash=ways["last byte, fixed, weight 1"],
)
learnt = ways["hidden state, learnt, weight p"]
random, dense = ways["hidden state, fixed, weight 1"], bits["dense, H = 68"].mean(0)[1]
claim(
    "a learnt router of the hidden state is 0.05 bits ahead of a random matrix, and within 0.02 of the dense layer",
    abs(random - learnt - 0.05) < 0.005 and abs(dense - learnt) < 0.02,
    learnt=learnt,
    random=random,
    dense=dense,
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What has each expert learnt?
#
# Python's tokenizer knows the kind of each byte: a ground truth.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** "Expert 3 does strings." Is there more to it than a story?
#
# **Idea.** Measure the **mutual information** of expert $e$ and kind $a$ of a byte, in bits: how much the expert says
# about the kind,
#
# $$I = \sum_{e, a} p(e, a) \log_2 \frac{p(e, a)}{p(e)\, p(a)}$$
#
# 0 if they are independent. Beside it stand controls: the experts *shuffled* over the bytes; a *random router*, an
# untrained matrix on the same tokens (the mean of ten); and a *hash*, a fixed table from the last byte to an expert.
#
# **The network** gets eight bytes of Python and predicts the next. A token is its hidden vector, $D = 64$; eight
# experts, $H = 64$, are added to it. Three networks are trained here for 400 steps, with the balance loss.
#
# **Code.** First the formula.


# %% slideshow={"slide_type": "skip"}
def information(a, b):
    joint = torch.zeros(int(a.max()) + 1, int(b.max()) + 1).index_put((a, b), torch.tensor(1.0), accumulate=True)
    joint = joint.double() / len(a)
    alone = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    return (joint[joint > 0] * (joint[joint > 0] / alone[joint > 0]).log2()).sum().item()


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Kinds of bytes, trained networks, and a random router
whole = python_sources().test[:250_000]
whole = whole[: (whole == 0).nonzero()[-1, 0]]  # whole files, for the tokenizer
spots = next_byte.SPOTS["test"]
spots = spots[spots < len(whole)]
kinds = token_kinds(whole)[spots]
_, text = next_byte.texts()
rate = next(e["400"]["rate"] for e in text_record["entries"] if e["router"] == "hidden state, learnt, weight p")
models = [next_byte.train("hidden state, learnt, weight p", seed + run, rate, 400)[0] for run in range(3)]


@torch.no_grad()
def routed(model):
    """The tokens of the test text, and the expert of each."""
    seen = next_byte.windows(text, spots)
    tokens = model.hidden(seen)[1]
    return tokens, model.route(tokens, seen[:, -1]).weights.argmax(-1)


def random_router(tokens, n_experts, about):
    """Bits that an untrained router's expert says about something: the mean of ten."""
    draw = torch.Generator().manual_seed(seed)
    each = [tokens @ torch.randn(tokens.shape[1], n_experts, generator=draw) for _ in range(10)]
    return np.mean([information(scores.argmax(-1), about) for scores in each])


# %% [markdown] slideshow={"slide_type": "skip"}
# `routed` gives the tokens and their experts, at every seventh byte of the test text (`text[spots]`). `hashed` is the
# hash. Look at how far the trained routers are from the random one, and from each other.

# %% slideshow={"slide_type": "skip"}
about_kinds = {"shuffled": [], "random router": [], "trained router": []}
for model in models:
    tokens, expert = routed(model)
    about_kinds["shuffled"].append(information(expert[torch.randperm(len(expert))], kinds))
    about_kinds["random router"].append(random_router(tokens, 8, kinds))
    about_kinds["trained router"].append(information(expert, kinds))
about_kinds["hash"] = [information(hashed(text[spots], 8).weights.argmax(-1), kinds)]
unknown = information(kinds, kinds)  # all that there is to know
print(f"the kind of a byte: {unknown:.2f} bits; of which the expert says, in three runs")
for name, values in about_kinds.items():
    print(f"{name:15}", ", ".join(f"{value:.3f}" for value in values))

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Plot: kinds of bytes by expert
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.0), width_ratios=[1.6, 1])
fig.get_layout_engine().set(wspace=0.06)
table = torch.stack([(F.one_hot(kinds, 7).float()[expert == e]).mean(0) for e in range(8)])
left.imshow(table, cmap="Blues", vmin=0, vmax=0.8, aspect="auto")
for row in range(8):
    if table[row].isnan().any():
        left.text(3, row, "no token", ha="center", va="center", fontsize="small")
for row, column in table.isfinite().nonzero().tolist():
    value = table[row, column].item()
    colour = "w" if value > 0.5 else "0.2"
    left.text(column, row, f"{value:.0%}", ha="center", va="center", fontsize="small", color=colour)
left.set_xticks(range(7), KINDS, rotation=35, ha="right", rotation_mode="anchor")
left.set(ylabel="expert", title="kinds of its bytes, third run", yticks=range(8))
level = {name: np.mean(values) for name, values in about_kinds.items()}
right.barh(list(level), list(level.values()), label="mean")
for place, values in enumerate(about_kinds.values()):
    label = None if place else "a run"
    right.plot(values, [place] * len(values), "o", color="w", mec="0.1", ms=7, clip_on=False, zorder=3, label=label)
right.legend(frameon=False, loc="lower right")
right.set(title=f"bits about the kind, of {unknown:.1f}", xlim=(0, 0.6))
show(
    fig,
    "Left: for each expert of the third run, the one that says most, the shares of seven kinds of bytes; a few rows "
    "stand out, most look alike, one expert has no token. "
    f"Right: bits about the kind: {', '.join(f'{name} {value:.2f}' for name, value in level.items())}, a dot a run.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: experts and kinds of bytes
trained, random, shuffled = (about_kinds[name] for name in ("trained router", "random router", "shuffled"))
claim(
    "in each run the trained router says more than ten times as much about the kind as shuffled experts",
    all(a > 10 * b for a, b in zip(trained, shuffled, strict=True)),
    least=min(trained),
    shuffled=max(shuffled),
)
claim(
    "in each run a random router on the same tokens says at least a third as much as the trained one",
    all(b > a / 3 for a, b in zip(trained, random, strict=True)),
    random=level["random router"],
    trained=level["trained router"],
)
claim(
    "in the mean of runs the random router says more than half of what the trained one says",
    level["random router"] > level["trained router"] / 2,
    random=level["random router"],
    trained=level["trained router"],
)
claim(
    "the hash says more about the kind than the trained routers in the mean",
    level["hash"] > level["trained router"],
    hash=level["hash"],
    trained=level["trained router"],
)

# %% [markdown] slideshow={"slide_type": "notes"}
# *Shuffled* experts say nothing: what we see is not chance. But a *random* router on the same tokens says most of
# what trained ones say, in the mean of runs (0.25 against 0.29 bits): tokens that look alike go together under any
# linear map. One run says less than the random router. And the *hash* says more, since a byte gives a part of its
# kind away.

# %% [markdown] slideshow={"slide_type": "skip"}
# On the sixteen codes we know which division of labour the task asks for: by code. The next cell asks how much the
# expert says there about the code, of 4 bits ($\log_2 16$), and about the digit, of 3.3 ($\log_2 10$). Three networks
# are trained for 600 steps with the balance loss.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title What the expert says about code and digit
settings = [(seed + run, 0.01, 0.1) for run in range(3)]
readers, _ = sixteen_codes.train(sixteen_codes.METHODS["balance loss"], settings, 600, n_codes=1)
code = torch.arange(16).repeat_interleave(len(data.test_x))
digit, image = data.test_y.repeat(16), data.test_x.flatten(1).repeat(16, 1)
said = {name: {"trained": [], "random": []} for name in ("code", "digit")}
with torch.no_grad():
    experts = readers(image.expand(3, -1, -1), code.expand(3, -1))[2].argmax(-1)
    for run in range(3):
        w = {name: value[run] for name, value in readers.weights.items()}
        hidden = F.relu(image @ w["pixels"] + w["bias"] + w["code"][code])
        for name, about in {"code": code, "digit": digit}.items():
            said[name]["trained"].append(information(experts[run], about))
            said[name]["random"].append(random_router(hidden, 16, about))
for name, values in said.items():
    print(f"bits about the {name:5}:", end=" ")
    print(", ".join(f"{who} router {np.mean(each):.2f}" for who, each in values.items()), "(mean of three runs)")
claim(
    "in each run the trained router says more about the code than a random one, but less than half of its 4 bits",
    all(b < a < 2 for a, b in zip(*said["code"].values(), strict=True)),
    trained=np.mean(said["code"]["trained"]),
    random=np.mean(said["code"]["random"]),
)
claim(
    "it says about as much about the digit as about the code, within half a bit",
    abs(np.mean(said["digit"]["trained"]) - np.mean(said["code"]["trained"])) < 0.5,
    digit=np.mean(said["digit"]["trained"]),
    code=np.mean(said["code"]["trained"]),
)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Reading.** The router has learnt something about the codes that a random one does not have. But it has not found
# *our* division, one expert for each code: the expert says about as much about the digit as about the code. With the
# code given (and weight 1), accuracy is 0.02 better after 1,200 steps, 0.01 after 4,800 (recorded above). Here experts
# specialised only in part in what we call a task.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Do the experts differ?

# %% [markdown] slideshow={"slide_type": "skip"}
# Mutual information is about the *router*. Do the experts compute different things? **Force** each expert on each
# group of tokens: a group is what the router sends to one expert. The weight stays the router's. Beside it: no expert
# at all (weight 0), and experts of random routing, which learn from all kinds of tokens.


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Force each expert on each group
def forced(quality, z):
    """Quality of each expert forced on each token (E, ..., N); means with its own expert, with another, with none."""
    own, weight, n_experts = z.argmax(-1), z.amax(-1, keepdim=True), z.shape[-1]
    each = [quality(weight * F.one_hot(torch.full_like(own, e), n_experts)) for e in range(n_experts)]
    each = torch.stack(each)
    kept = each.gather(0, own.unsqueeze(0))[0]
    another = (each.sum(0) - kept) / (n_experts - 1)
    return each, [part.mean(-1).numpy() for part in (kept, another, quality(0 * z))]


at_random, _ = sixteen_codes.train(sixteen_codes.METHODS["at random"], settings, 600, n_codes=1)
given, truth = (image.expand(3, -1, -1), code.expand(3, -1)), names[code, digit]
swapped, swapped_bits = {}, []
with torch.no_grad():
    for name, network_ in {"at random": at_random, "trained": readers}.items():

        def correct(z, network_=network_):
            network_.route = lambda s, code: z  # in place of the router's choice
            return (network_(*given)[0].argmax(-1) == truth).float()

        z = network_(*given)[2]
        each, swapped[name] = forced(correct, z)
    owner = z.argmax(-1)  # of trained routing
    groups = [torch.stack([each[:, run, owner[run] == g].mean(1) for g in range(16)], 1) for run in range(3)]
    for model in models:
        h, tokens = model.hidden(next_byte.windows(text, spots))
        chosen = model.route(tokens, text[spots])

        def missing(z, model=model, h=h, tokens=tokens, chosen=chosen):
            logits = model.head(h + model.moe(tokens, chosen._replace(weights=z))[0])
            return F.cross_entropy(logits, text[spots + 1], reduction="none") / math.log(2)

        swapped_bits.append(forced(missing, chosen.weights)[1])

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Plot: each expert on each group
ways_ = ["own expert", "another", "no expert"]
fig, (left, right_) = plt.subplots(1, 2, figsize=(10, 4.0), width_ratios=[1, 1.1])
shade = left.imshow(groups[0], cmap="Blues", vmin=0, vmax=1)
fig.get_layout_engine().set(wspace=0.08)
fig.colorbar(shade, ax=left)
left.set(xlabel="tokens that the router sends to", ylabel="expert that is forced", title="accuracy, one run")
left.set_xticks(range(0, 16, 3))
left.set_yticks(range(0, 16, 3))
for name, mark, colour, side in (("trained", "o", "C0", "right"), ("at random", "s", "C1", "left")):
    shift = -0.08 if side == "right" else 0.08
    for i, values in enumerate(swapped[name]):
        right_.plot(
            [i + shift] * 3,
            values,
            mark,
            color=colour,
            ms=8,
            label=None if i else {"trained": "trained routing", "at random": "random routing"}[name],
        )
        right_.text(i + 2.2 * shift, values.mean(), f"{values.mean():.2f}", ha=side, va="center")
right_.set(xlim=(-0.7, 2.6), ylim=(0, 1), title="accuracy of three runs, and their mean")
right_.set_xticks(range(3), ways_)
right_.legend(frameon=False, loc="center left")
show(
    fig,
    "Left: accuracy of each of sixteen experts forced on each group of tokens; dark on the diagonal, light elsewhere. "
    "Right: trained routing has "
    + ", ".join(f"{v.mean():.2f} with {way}" for way, v in zip(ways_, swapped["trained"], strict=True))
    + "; random routing "
    + ", ".join(f"{v.mean():.2f}" for v in swapped["at random"])
    + ".",
)
own, another, none = np.mean(swapped_bits, 0)
print(f"bits per byte of the text: own expert {own:.2f}, another {another:.2f}, none {none:.2f} (mean of three runs)")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: experts forced
own, another, none = swapped["trained"]
claim(
    "in each run of trained routing, accuracy with another expert is less than half of that with its own, and lower "
    "than with none",
    (another < own / 2).all() and (another < none).all(),
    own=own.mean(),
    another=another.mean(),
    none=none.mean(),
)
claim(
    "in each run, on each of the sixteen groups its own expert is the best of all",
    all((group.argmax(0) == torch.arange(16)).all() for group in groups),
    smallest_lead=min((group.diag() - (group - torch.eye(16)).amax(0)).min().item() for group in groups),
)
own, another, _ = swapped["at random"]
claim(
    "with random routing own and another are within 0.02",
    abs(own - another).max() < 0.02,
    own=own.mean(),
    another=another.mean(),
)
own, another, none = np.transpose(swapped_bits)
claim(
    "on the text another expert costs less than 0.1 bits in each run, and none costs less than 0.05",
    0 < (another - own).min() and (another - own).max() < 0.1 and 0 < (none - own).min() and (none - own).max() < 0.05,
    another=(another - own).mean(),
    none=(none - own).mean(),
)

# %% [markdown] slideshow={"slide_type": "notes"}
# On the codes the experts **do differ**: each is the best on its own group, and with another expert accuracy is lower
# than with none. With random routing it hardly matters which expert runs, or whether one runs. That fits: different
# tokens make experts differ, even though no expert has a code of its own. That an expert fails on tokens that it was
# not trained on does not make the division a good one. On the text, after 400 steps, it hardly matters which expert
# runs, or whether one runs: 0.04 and 0.02 bits.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Other routers · optional
#
# Experts that choose, an expert that all share, and a loss on the size of scores.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** What else is done with the same scores?
#
# **Expert choice** (Zhou et al. 2022) turns the table round: each *expert* takes its $\lceil cN/E \rceil$ best
# tokens. Loads are equal by construction; a token may get several experts, or none. Whether it is taken depends on
# all other tokens, also later ones. So it is not for models that predict the next token.
#
# **Code.** The choice in four lines. Look at the sums over rows and columns.

# %% slideshow={"slide_type": "-"}
draw = torch.Generator().manual_seed(seed)
s = torch.randn(6, 3, generator=draw)  # 6 tokens, 3 experts
pi = s.softmax(-1)
best = pi.topk(6 // 3, dim=0).indices  # each expert's best, c = 1
z = pi * torch.zeros_like(pi).scatter(0, best, 1.0)
torch.testing.assert_close(z, expert_choice(s).weights)
print("tokens of each expert:", *(z > 0).sum(0).tolist())
print("experts of each token:", *(z > 0).sum(1).tolist())

# %% [markdown] slideshow={"slide_type": "skip"}
# **Shared experts** (Dai et al. 2024). One more expert takes every token, with weight 1:
# $y = \sum_e z_e f_e(x) + f_\text{shared}(x)$. What all tokens need is then learnt once, and the others can differ.
#
# **Code.** `n_shared=1` adds one. The difference to the sum of the others is $f_\text{shared}(x)$, for each token.

# %% slideshow={"slide_type": "skip"}
layer, x = MoE(4, 8, 3, switch, n_shared=1), torch.randn(6, 4)
y, choice = layer(x)
routed_only = sum(choice.weights[:, e, None] * layer.experts[e](x) for e in range(3))
torch.testing.assert_close(y, routed_only + layer.shared[0](x))

# %% [markdown] slideshow={"slide_type": "skip"}
# **z-loss** (Zoph et al. 2022) keeps scores small, and so their rounding errors in half precision:
#
# $$L_z = \frac1N \sum_{n} \Big(\log \sum_e \exp s_{ne}\Big)^2$$
#
# It is often listed among the cures of collapse. **Code.** The formula against the library's; then the codes, trained
# with it (again measured in 4 codes per image). Look at whether it balances.

# %% slideshow={"slide_type": "skip"}
torch.testing.assert_close(s.exp().sum(-1).log().square().mean(), router_z_loss(switch(s)))
setting = (seed, 0.01, 0.01)
_, ((row,),) = sixteen_codes.train(sixteen_codes.Method(loss="z"), [setting], 600, n_codes=4)
busiest = {"z-loss": 16 * max(row["load"])}
busiest |= {name: 16 * max(live[name][-1]["load"]) for name in ("left alone", "balance loss")}
claim(
    "with the z-loss the busiest expert has more of the tokens than with the balance loss",
    busiest["z-loss"] > busiest["balance loss"],
    **{name.replace(" ", "_").replace("-", "_"): value for name, value in busiest.items()},
)

# %% [markdown] slideshow={"slide_type": "notes"}
# In this one run the z-loss does not balance (5.7; left alone 8.0). Who chooses, who is always
# asked, how large scores may become: three changes of one line each. More are in `lecture_lib.moe`: GShard's second
# expert with a probability, assignments by Sinkhorn and BASE, groups of experts, LIMoE's entropies (notebook 11),
# Soft MoE. With `choose=softmax` every expert runs: a soft mixture (Jacobs et al. 1991
# train one with a competitive loss).

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A trained network, upcycled · optional
#
# Take a dense network that is trained. Copy its MLP eight times, add a router, and go on.
#
# $$\sum_e z_e f(x) = f(x) \qquad \text{while all experts are copies, and } \sum_e z_e = 1$$

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Above, all layers started at random. Can experts start from a dense network, and does it pay?
#
# **Idea.** This is **sparse upcycling** (Komatsuzaki et al. 2023): $f$ is the old MLP, $z_e$ the weight of expert $e$,
# 0 if it does not run. While all experts are copies, it does not matter who runs: if the weights of a token sum to 1,
# the new network computes what the old one did. Then training makes the copies differ, as each learns from its own
# tokens.
#
# **The network** is the byte model of notebook 07: 2.3 million parameters, trained on Python's sources. In three of its
# six layers the MLP becomes eight experts: 7.5 million parameters.
#
# **Code.** `upcycle_layers` does it in place; `top_k` makes two weights that sum to 1. `assert_close` prints nothing if
# the two networks agree.

# %% slideshow={"slide_type": "-"}
model, dense = pretrained.load("language_model"), pretrained.load("language_model")
upcycle_layers(model, 8, partial(top_k, k=2), layers=[1, 3, 5])
letters = torch.tensor([list(b"def load(path):")])
with torch.no_grad():
    torch.testing.assert_close(model(letters), dense(letters))
for name, its in {"dense": dense, "upcycled": model}.items():
    print(f"{name:9} {sum(w.numel() for w in its.parameters()):9,} parameters")

# %% [markdown] slideshow={"slide_type": "skip"}
# **What is compared.** The model goes on with four texts: Python, which it knows, and three new ones, English, tables
# of numbers, and a small made-up *language* (notebook 10 has more on them). 120 steps of 1,024 bytes, a quarter of each
# text, all weights learn:
#
# - *dense*: the old network. Two runs: 120 steps, and 149 steps, which take the FLOPs of two of eight;
# - *two of eight*: a learnt router, with a balance loss of .01;
# - *two, random router*: it stays as it was drawn, with no balance loss;
# - *one, by byte*: a fixed table of the byte just read, weight 1. No router, and the FLOPs of the dense network.
#
# Each has the best of three learning rates (.0003, .001, .003) for seed 0, on held-out pieces of the training texts;
# *dense* also at .0003. Then **bits a byte** on other, test texts: the mean of $-\log_2$ of the probability of the next
# byte; fewer are better.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** The learnt router and the random one, at equal FLOPs: how far is the learnt one ahead?
#
# <details><summary>A. More than .05 bits: it sends each text to its experts</summary>
#
# **No.** It does tell the tables apart, but is .003 ahead, less than seeds differ.
#
# </details>
#
# <details><summary>B. Not at all, within the seeds</summary>
#
# **Yes.** Both end within .014 of the dense network of equal FLOPs.
#
# </details>

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title The record: bits a byte of four texts, parameters, FLOPs
upcycled_record = recorded.load("mixture_of_experts_upcycled")
FEW, MORE, TEXTS = str(upcycled.STEPS), str(upcycled.LONGER), upcycled.TEXTS
WAYS = {"dense": ("dense", FEW), "dense, equal FLOPs": ("dense", MORE)}
WAYS |= {"dense, rate .0003": ("dense, lowest rate", FEW)}
WAYS |= {"two of eight": ("two of eight", FEW), "two, random router": ("two of eight, random router", FEW)}
WAYS |= {"one, by byte": ("one of eight, by byte", FEW)}


def of_way(way):
    return [e for e in upcycled_record["entries"] if e["way"] == WAYS[way][0]]


def bits_of(way, test="test"):
    """(seeds, texts)"""
    return np.array([[e[WAYS[way][1]][test][text] for text in TEXTS] for e in of_way(way)])


start_bits = np.array([*of_way("dense")[0]["before"].values()])
further = {way: bits_of(way) for way in WAYS}
print(f"bits a byte, {upcycled_record['label']}; FLOPs: of the training, trillions")
columns = " ".join(f"{text:>8}" for text in TEXTS)
print(f"{'':19}{'parameters':>10} {'FLOPs':>6} {'rate':>6}  {columns}  mean of texts, by seed")
print(f"{'before':44}" + " ".join(f"{b:8.3f}" for b in start_bits) + f"  {start_bits.mean():.3f}")
for way, (_, steps) in WAYS.items():
    first = of_way(way)[0]
    flops = first["FLOPs of a step"] * int(steps) / 1e12
    columns = " ".join(f"{b:8.3f}" for b in further[way].mean(0))
    each = " ".join(f"{b:.3f}" for b in further[way].mean(1))
    print(f"{way:19}{first['numbers']:10,} {flops:6.2f} {first[steps]['rate']:6g}  {columns}  {each}")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### What it buys, and what an expert says

# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Plot: bits a byte, and what the first expert says about text and kind
def says(way, about, moment="experts"):
    """(seeds, layers)"""
    found = [e["before, experts"] if moment == "before" else e[FEW]["experts"] for e in of_way(way)]
    return np.array([its["bits"][about] for its in found])


fig, (left, *rest) = plt.subplots(1, 3, figsize=(10, 4.0), width_ratios=[1.2, 1, 1])
for y, values in enumerate(further.values()):
    left.plot(values.mean(1), [y] * len(values), "o", color="0.2", ms=9, mfc="none", mew=2)
left.set_yticks(range(len(further)), [name.replace(", ", ",\n") for name in further])
left.invert_yaxis()
left.set(xlabel="bits a byte (not from 0)", title=f"four texts; before {start_bits.mean():.2f}")
expert_says = {}
for ax, about, most in zip(rest, ("text", "kind"), (2, 2.4), strict=True):
    expert_says |= {(about, "before"): says("two of eight", about, "before")}
    expert_says |= {(about, way): says(way, about) for way in list(WAYS)[3:]}
    for i, way in enumerate(("before", *list(WAYS)[3:])):
        places = np.arange(3) + 0.18 * (i - 1.5)
        for j, each in enumerate(expert_says[about, way]):
            style = {"color": ("0.3", "C0", "C1", "C2")[i], "mfc": "none", "mew": 2, "ms": 8}
            ax.plot(places, each, "Dos^"[i], label=None if j else way, **style)
    ax.set_xticks(range(3), upcycled.LAYERS)
    ax.set(xlabel="layer", ylim=(0, None), title=f"{about}: of {most} bits")
rest[1].legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(0, 0.68))
show(
    fig,
    f"Left: bits a byte, mean of four texts, {start_bits.mean():.2f} before: "
    + ", ".join(f"{name} {values.mean():.3f}" for name, values in further.items())
    + ". Right: bits that a byte's first expert says, in layers 1, 3, 5. "
    + " ".join(
        f"About the {about}, {way}: " + ", ".join(f"{v:.2f}" for v in values.mean(0)) + "."
        for (about, way), values in expert_says.items()
    ),
)

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Measure: FLOPs and seconds of a pass over 1,024 bytes
passes = {name: upcycled.Model(WAYS[name][0], 0) for name in ("dense", "two of eight", "one, by byte")}
bytes_ = python_sources().test[:1024].long().view(4, 256)
with torch.no_grad():
    rounds = [{n: wall_time(made.model, bytes_, min_seconds=0.1) for n, made in passes.items()} for _ in range(4)]
took = {name: min(turn[name] for turn in rounds) for name in passes}
for name in passes:
    flops, every = (of_way(n)[0]["FLOPs of a pass"] for n in (name, "dense"))
    longer = took[name] / took["dense"]
    print(f"{name:13} {flops / every:5.2f} times the FLOPs of dense, {longer:5.2f} times the seconds")
claim(
    "two of eight takes longer than dense, by byte less than 1.2 times as long",
    took["two of eight"] > took["dense"] and took["one, by byte"] < 1.2 * took["dense"],
    clock=True,
    two_of_eight=took["two of eight"] / took["dense"],
    by_byte=took["one, by byte"] / took["dense"],
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The next expert in place of the chosen one, and what the text's bits are made of
def between(way, *groups):
    """Bits that the first expert says about which group of texts, mean of layers and runs."""
    values = []
    for counts in (np.array(c) for e in of_way(way) for c in e[FEW]["experts"]["bytes by expert"]["text"]):
        joint = np.array([counts[list(group)].sum(0) for group in groups]) / counts[[*sum(groups, ())]].sum()
        alone = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
        values.append((joint[joint > 0] * np.log2(joint[joint > 0] / alone[joint > 0])).sum())
    return np.mean(values)


routed_ways = ("two of eight", "two, random router")
swapped = {way: bits_of(way, "test, another expert").mean(0) - further[way].mean(0) for way in routed_ways}
tables_or_not = {way: between(way, (2,), (0, 1, 3)) for way in routed_ways}
python_or_english = {way: between(way, (0,), (1,)) for way in routed_ways}
for way in routed_ways:
    costs = ", ".join(f"{text} {value:+.2f}" for text, value in zip(TEXTS, swapped[way], strict=True))
    print(f"{way:19} next expert: {costs}, mean {swapped[way].mean():+.2f} bits")
    print(f"{'':19} its expert says {tables_or_not[way]:.2f} bits of: tables or not;", end=" ")
    print(f"{python_or_english[way]:.2f} of: Python or English")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: upcycling
ends = {way: values.mean(1) for way, values in further.items()}  # of each seed
claim(
    "all ways end more than 1.4 bits below the start, and within .1 of each other",
    all(start_bits.mean() - values.mean() > 1.4 for values in ends.values())
    and max(values.mean() for values in ends.values()) - min(values.mean() for values in ends.values()) < 0.1,
    before=start_bits.mean(),
    lowest=min(values.mean() for values in ends.values()),
    highest=max(values.mean() for values in ends.values()),
)
claim(
    "learnt router, random router and dense of equal FLOPs: means within .03",
    np.ptp([ends[way].mean() for way in ("two of eight", "two, random router", "dense, equal FLOPs")]) < 0.03,
    learnt=ends["two of eight"].mean(),
    random=ends["two, random router"].mean(),
    dense=ends["dense, equal FLOPs"].mean(),
)
gap = {way: ends[way].mean() - ends["one, by byte"].mean() for way in list(WAYS)[:3]}
claim(
    "one by byte against dense, means: .04 to .05 below; equal FLOPs of two .01 to .02; at its rate .05 to .06",
    0.04 < gap["dense"] < 0.05
    and 0.01 < gap["dense, equal FLOPs"] < 0.02
    and (ends["one, by byte"] < ends["dense, rate .0003"]).all()
    and 0.05 < gap["dense, rate .0003"] < 0.06,
    dense=gap["dense"],
    equal_FLOPs_of_two=gap["dense, equal FLOPs"],
    at_its_rate=gap["dense, rate .0003"],
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: what an expert says
claim(
    "about the text, the learnt router's expert says more than before, and than the random router's, in each layer",
    (expert_says["text", "two of eight"].mean(0) > expert_says["text", "before"].mean(0)).all()
    and (expert_says["text", "two of eight"].mean(0) > expert_says["text", "two, random router"].mean(0)).all(),
    learnt=expert_says["text", "two of eight"].mean(),
    before=expert_says["text", "before"].mean(),
    random=expert_says["text", "two, random router"].mean(),
)
claim(
    "about the kind, each router's expert says less than .2 bits in the mean, the last byte alone more than .4",
    max(expert_says["kind", way].mean() for way in ("before", *routed_ways)) < 0.2
    and expert_says["kind", "one, by byte"].mean() > 0.4,
    learnt=expert_says["kind", "two of eight"].mean(),
    before=expert_says["kind", "before"].mean(),
    by_byte=expert_says["kind", "one, by byte"].mean(),
)
claim(
    "learnt router: more than .4 of its bits about the text are tables or not, less than .05 Python or English",
    tables_or_not["two of eight"] > 0.4 and python_or_english["two of eight"] < 0.05,
    tables_or_not=tables_or_not["two of eight"],
    Python_or_English=python_or_english["two of eight"],
)
claim(
    "the next expert, both routers: more than .1 bits worse in the mean, .4 on language; Python better by .03 to .05",
    all(v.mean() > 0.1 and v[3] > 0.4 and -0.05 < v[0] < -0.03 for v in swapped.values()),
    mean=swapped["two of eight"].mean(),
    language=swapped["two of eight"][3],
    Python=swapped["two of eight"][0],
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Reading.** The mean falls from 3.01 to about 1.55 in all ways: most of it is training. Python itself gets worse,
# from 1.22 to 1.35 or more. *Equal steps*: two of eight is .02 below dense, for 1.24 times the FLOPs of training.
# *Equal FLOPs*: dense is .01 ahead, in two seeds of three. *Learnt or random router*: .003 apart, though the random one
# has no balance. *By byte*, at the FLOPs and steps of dense, is .05 below dense, and below dense at its own rate by
# .06, in each seed: Python alike, the language .17 fewer. It has 3.2 times the parameters. Against dense with the FLOPs
# of two of eight it is .015 below, in two seeds of three.
#
# So: the router buys nothing that can be seen here; more parameters, chosen by the byte, buy a little. A difference of
# .02 is no more than what the same dense runs move in 29 further steps at a constant rate.

# %% [markdown] slideshow={"slide_type": "skip"}
# *Who goes where*, as mutual information. The learnt router's first expert says .55 of 2 bits about the text (mean of
# layers and runs); untrained .19, as similar tokens go to one expert from the start; the random router .25, since its
# input learns; the byte alone .22. Most of the .55 is tables or not, .45; Python or English it hardly tells apart.
# About the kind of a byte (number, name, ...; in Python) it says .17 bits of 2.4, untrained .12; the byte alone .47.
#
# *Do the copies differ?* With the next expert in place of the chosen ones the language takes .45 bits more, but Python
# .04 *fewer*, with both routers. So experts differ; that each does best what it is sent is not so.
#
# Not tried: a falling rate; longer training. Komatsuzaki et al. report gains of large models with about half of the
# first training's cost once more; these 123 thousand bytes are 0.7 % of the bytes of the first training.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Representation collapse · optional
#
# A linear router scores $\langle x, w_e \rangle$: it may pull tokens towards its columns $w_e$. A remedy:
# $\cos(Vx, w_e) / \lambda$.
#
# $$\operatorname{tr}(\Sigma_\text{within} \Sigma_\text{between}^{+})\text{: small means collapsed}$$

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Does routing make *tokens* alike?
#
# **Idea.** Chi et al. (2022) measure the trace above: the spread
# of tokens within an expert against the spread between experts, as covariances ($^+$: the pseudo-inverse). Small
# means collapsed. Their remedy: a learnt matrix $V$ brings $x$ to few dimensions; the score is the cosine of its
# angle with the expert's learnt vector $w_e$, divided by a learnt temperature $\lambda$.
#
# **What is compared.** Groups differ from router to router, and so does the measure. So it is also taken with *the
# same groups* for all, those of the hash. The hash pulls nothing: it is the control for training itself. 400 steps,
# one seed.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Train each router, and measure before and after
by_hash = hashed(text[spots], 8).weights.argmax(-1)
rows = {}
print("after 1 → after 400 steps   own experts   groups of the hash")
compared = {"linear": "hidden state, learnt, weight p", "cosine": "cosine router", "hash": "last byte, fixed, weight 1"}
for name, its in compared.items():
    before, after = (next_byte.train(its, seed, 1e-2, steps)[0] for steps in (1, 400))
    rows[name] = []
    for groups in ("own", "same"):
        for moment in (before, after):
            tokens, expert = routed(moment)
            rows[name].append(representation_collapse(tokens, expert if groups == "own" else by_hash).item())
    print("{:27} {:3.0f} → {:2.0f}       {:3.0f} → {:2.0f}".format(f"router: {name}", *rows[name]))

# %% [markdown] slideshow={"slide_type": "-"}
# A hash pulls nothing, and its spread falls, too.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: representation collapse
claim(
    "with the same groups for all, the spread falls for each router, the hash included",
    all(row[3] < row[2] for row in rows.values()),
    **{f"{name}_{moment}": row[i] for name, row in rows.items() for moment, i in (("before", 2), ("after", 3))},
)
linear, cosine, hash_ = rows.values()
claim(
    "by its own experts the cosine router starts with more spread than the linear one",
    cosine[0] > linear[0],
    cosine=cosine[0],
    linear=linear[0],
)
claim(
    "with the same groups for all, cosine and linear router end within a quarter of each other",
    4 / 5 < cosine[3] / linear[3] < 5 / 4,
    cosine=cosine[3],
    linear=linear[3],
    hash=hash_[3],
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Measured by its own experts, the cosine router *starts* with far more spread than the linear one: it cuts the tokens
# in another way. So the two ends must not be compared. With the same groups for all, linear, cosine and hash end closer
# together. A good part of the fall is there with the hash, too, which pulls nothing: that is training itself. But the
# groups are those that the hash was trained with: they are not quite neutral. And this is one seed. The gains that Chi
# et al. report are on large multilingual models.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What a review of the field says
#
# W. Fedus, J. Dean, B. Zoph, *A Review of Sparse Expert Models in Deep Learning*, 2022
#
# - One idea, thirty years old: each example is processed by a subset of the parameters.
# - Sparse models and the machines that train them are designed together.
# - The gain over a dense model becomes smaller as models become larger.
# - Who chooses? Tokens, experts, an optimiser, or a fixed table.

# %% [markdown] slideshow={"slide_type": "notes"}
# Mixtures of experts, Switch, routing networks, hash and BASE layers have one thing in common, says the review: the
# number of parameters and the compute for an example are two numbers, not one.

# %% [markdown] slideshow={"slide_type": "skip"}
# On **scaling**, the review reports strong results in pre-training, in language, vision and speech; and that better
# pre-training does not always give better results on the task that one trains for next. That the gain shrinks with
# size is a law fitted by Clark et al. (2022). The number of experts, their size, and how many layers have them
# matter.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where experts fail
#
# - **They collapse** when left alone. Here such routing trains more slowly than with a cure; with a capacity it drops
#   tokens.
# - **Balance is not enough.** Random routing has it.
# - **The router costs.** At our width a dense layer of the same cost is as good as 64 experts.
# - **Memory is not free.** All experts must be kept, and few tokens pay for many bytes.
# - **A router may learn little.** A fixed table of the last byte can be better: try it first.
# - **They may not specialise** in anything that you can name. Measure, with controls, and swap them.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# $$y = \sum_e z_e \, f_e(x) \qquad L = L_{\text{task}} + \text{strength} \cdot E \sum_e \ell_e \, \bar\pi_e$$
#
# - Router, top-k, dispatch, combine: parameters × 64, FLOPs hardly more, if the experts are large.
# - Seconds do not follow: they come nearest with many tokens per expert.
# - Left alone, routing collapses. Cures are alike after 4,800 steps; after 300 two together are best. A capacity needs
#   balanced loads.
# - A balance loss of 1 is no proof of balance. Look at the loads $\ell$, not at probabilities $\bar\pi$.
# - Compare with a dense layer of the same cost.

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
# - D. Lepikhin et al., *GShard: Scaling Giant Models with Conditional Computation and Automatic Sharding*, ICLR 2021.
# - A. Komatsuzaki et al., *Sparse Upcycling: Training Mixture-of-Experts from Dense Checkpoints*, ICLR 2023.
# - A. Clark et al., *Unified Scaling Laws for Routed Language Models*, ICML 2022.

# %% [markdown] slideshow={"slide_type": "skip"}
# - Y. Zhou et al., *Mixture-of-Experts with Expert Choice Routing*, NeurIPS 2022.
# - Z. Chi et al., *On the Representation Collapse of Sparse Mixture of Experts*, NeurIPS 2022.
# - L. Wang et al., *Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts*, 2024: the bias.
# - D. Dai et al., *DeepSeekMoE: Towards Ultimate Expert Specialization*, 2024: shared experts.
# - W. Fedus, J. Dean, B. Zoph, *A Review of Sparse Expert Models in Deep Learning*, 2022.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
