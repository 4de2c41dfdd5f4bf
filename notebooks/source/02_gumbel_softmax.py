# %% [markdown] slideshow={"slide_type": "slide"}
# # Gumbel-Softmax: choosing, with a gradient
#
# **Notebook 02** · *Designing efficient and modular neural networks*
#
# A network picks one of $K$ options: a patch to look at, a layer to run, an expert to ask.
# How can it *learn* to pick, when picking has no gradient?

# %% [markdown] slideshow={"slide_type": "skip"}
# This notebook follows a talk by Simone Scardapane (2023); `lecture_lib` is the package that goes with it, called *the
# library* below.
#
# **After this notebook you can** draw a discrete choice so that a gradient passes through it; say what a low and a high
# temperature cost; tell a method that is slow from one that cannot get there; and say when the trick fails. **You
# need** softmax, backpropagation, and a little probability.
#
# Code that draws or prepares is folded: click on its title to open it. Where it says *Predict*, guess before you
# click. Lines that begin with ✓ or ✗ compare what the text says with the numbers of your own run.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Imports, and the seed
import math
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from lecture_lib import plots, recorded
from lecture_lib.choice import argmax, gumbel_softmax, sample, softmax, straight_through
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.data import digits, find_the_digit
from lecture_lib.estimators import exact_expectation, surrogate
from lecture_lib.mixture import mix, mix_sparse
from lecture_lib.models import MLP
from lecture_lib.notebook import check, claim, setup, show
from lecture_lib.recorded.gumbel_softmax import WAYS, Finder, train
from lecture_lib.widgets import Temperature

seed = setup(0)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Three options, one choice
#
# Scores $s$ → choice $z$ → output $y = \sum_k z_k \, f_k(x)$ → cost

# %% [markdown] slideshow={"slide_type": "notes"}
# Many modular networks take the same step. There are $K$ **options**; option $k$ is a module $f_k$. A small network
# gives each option a **score** $s_k$. From the scores comes a **choice** $z$: one weight for each option, not negative,
# with sum 1. The output is the weighted sum $y = \sum_k z_k f_k(x)$. When $z$ is *one-hot* (a single 1, the rest 0),
# one module decides alone, and only that one has to run.

# %% [markdown] slideshow={"slide_type": "skip"}
# The example of the talk: three options a, b, c with the scores $1.3, 0.2, 0.7$. **Softmax** turns scores into
# probabilities, $\pi_k = e^{s_k} / \sum_i e^{s_i}$. **Argmax** puts all the weight on the largest score. In the
# library, a *way to choose* is a function from scores to a `Choice`; its field `weights` is $z$.

# %% slideshow={"slide_type": "-"}
s = torch.tensor([1.3, 0.2, 0.7])  # three options: a, b, c
pi = s.softmax(-1)
z = argmax(s).weights
print("probabilities:", pi.numpy().round(2), "  choice:", z.numpy())

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Which choice is cheap?

# %% [markdown] slideshow={"slide_type": "skip"}
# What is a good choice? That depends on the network behind it. Here is the smallest one in which the choice matters:
# option $k$ has the fixed output `outputs[k]`, and the cost is the squared distance of $y$ to 0.9. The identity matrix
# holds the three one-hot choices, so the next line prints the cost of a, of b, of c.

# %% slideshow={"slide_type": "-"}
outputs = torch.tensor([2.0, 0.0, 1.0])  # the output f_k of each option


def cost(z):
    y = z @ outputs  # Σ_k z_k f_k
    return (y - 0.9) ** 2


cost(torch.eye(3))  # of choosing a, of choosing b, of choosing c

# %% [markdown] slideshow={"slide_type": "skip"}
# The scores prefer a, and a is the *most* expensive option. Option c is by far the cheapest. So learning should raise
# the score of c and lower the score of a.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** The choice is argmax. What is $\partial \, \text{cost} / \partial s_c$, for the score of c?
#
# <details><summary>A. Negative</summary>
#
# **No.** We would like that. But with a little more score for c, a is still the largest: same choice, same cost.
#
# </details>
#
# <details><summary>B. Zero</summary>
#
# **Yes.** The choice does not move when a score moves a little, so the cost does not move.
#
# </details>
#
# <details><summary>C. It does not exist</summary>
#
# **Nearly.** Only where two scores are equal, which is almost never so. Elsewhere it is zero.
#
# </details>

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Argmax has no slope to follow

# %% [markdown] slideshow={"slide_type": "skip"}
# We check it with the definition of a slope: add a small number to one score at a time, and see how far the cost moves.

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Open after your guess: the slope by small steps
nudges = 1e-3 * torch.eye(3)  # row k: a little more for option k
slope = (cost(argmax(s + nudges).weights) - cost(argmax(s).weights)) / 1e-3
slope

# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Draw: the cost against the score of c
grid = torch.linspace(-1.5, 3.5, 400)
scores = s.repeat(400, 1)
scores[:, 2] = grid  # only the score of c moves
fig, ax = plt.subplots(figsize=(10, 3.8))
ax.plot(grid, cost(argmax(scores).weights), lw=2.5, label="choose the largest score (argmax)")
ax.plot(grid, exact_expectation(cost, scores), "--", lw=2.5, label="choose at random, by softmax: expected cost")
ax.axvline(s[2], color="0.4", lw=1, ls=":")
ax.text(0.66, 0.05, "we are here", ha="right", color="0.3")
ax.set(xlabel="score of option c", ylabel="cost", ylim=(-0.06, 1.75))  # room for the legend
ax.legend(frameon=False, loc="upper right")
show(
    fig,
    "Cost against the score of option c. With argmax it is a step: flat, then a drop at 1.3, then flat again. "
    "The expected cost of a random choice falls smoothly.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Argmax makes a staircase of the cost. The slope is zero on every step, so nothing that follows the slope can move.
#
# The dashed line is the way out: choose **at random**, option $k$ with probability $\pi_k$. The *expected* cost is
# smooth in the scores:
#
# $$\mathbb{E}[\text{cost}] = \sum_k \pi_k \, \text{cost}(k)$$

# %% [markdown] slideshow={"slide_type": "skip"}
# With three options we can add up the three terms and differentiate the sum. This gives the **true gradient**. We keep
# it: every method of this notebook will be compared with it. `exact_expectation` is the same sum for any number of
# options.

# %% slideshow={"slide_type": "skip"}
scores = s.clone().requires_grad_()
by_hand = (scores.softmax(-1) * cost(torch.eye(3))).sum()
torch.testing.assert_close(by_hand, exact_expectation(cost, scores))
(exact,) = torch.autograd.grad(by_hand, scores)
exact

# %% [markdown] slideshow={"slide_type": "skip"}
# The slope is positive for a and negative for c: going down the slope lowers the score of a and raises the score of c,
# as we hoped.
#
# Why not always add up? Because networks decide often. Thirty decisions among three options in a row have $3^{30}
# \approx 2 \cdot 10^{14}$ outcomes. We have to **sample**, and so the question becomes: how does a gradient pass
# through a sample?

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Noise first: the Gumbel-max trick
#
# Add independent noise $G_k \sim \text{Gumbel}(0, 1)$ to the scores, take the largest:
#
# $$\arg\max_k \,(s_k + G_k) \;\sim\; \text{Categorical}(\operatorname{softmax}(s))$$

# %% [markdown] slideshow={"slide_type": "notes"}
# A *Gumbel* number is minus the logarithm of an exponential number: $G = -\log E$, where $E$ is exponential (and has
# the mean 1). Add one to each score, and take the argmax. The claim is that option $k$ wins with probability $\pi_k$,
# exactly.

# %% [markdown] slideshow={"slide_type": "skip"}
# We draw 100,000 times, count how often each option wins, and compare with softmax.

# %% slideshow={"slide_type": "-"}
noise = -torch.empty(100_000, 3).exponential_().log()  # Gumbel noise
picks = (s + noise).argmax(-1)
shares = picks.bincount(minlength=3) / len(picks)
shares

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claim about the shares
off = (shares - pi).abs().max().item()
claim("The shares of the picks are those of softmax, to within 0.01", off < 0.01, largest_difference=off)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Shares of 100,000 picks

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: shares of the picks beside softmax
fig, ax = plt.subplots(figsize=(10, 3.2))
heights = {"softmax(s)": pi.tolist(), "share of 100,000 picks": shares.tolist()}
plots.bars(ax, ["a", "b", "c"], heights, fmt="{:.3f}")
ax.set(ylim=(0, 0.7), ylabel="probability")
show(fig, "Bars for the options a, b and c: the shares of the picks equal softmax(s) to the second decimal place.")

# %% [markdown] slideshow={"slide_type": "notes"}
# **Why it works, in three steps.** (1) $s_k + G_k = s_k - \log E_k = -\log(E_k e^{-s_k})$. So the largest noisy score
# is the smallest $T_k = E_k e^{-s_k}$. (2) Think of $T_k$ as the time at which clock $k$ rings. It is exponential with
# rate $r_k = e^{s_k}$: $P(T_k > t) = e^{-r_k t}$. (3) Clock $k$ rings first if it rings at some time $t$ and all others
# later:
#
# $$P(k \text{ first}) = \int_0^\infty r_k e^{-r_k t} \prod_{i \ne k} e^{-r_i t} \, dt
# = \frac{r_k}{\sum_i r_i} = \pi_k$$
#
# The randomness now sits in $G$, which does not depend on the scores. What is left, $\arg\max(s + G)$, is a plain
# function of $s$. It still has no gradient, but there is only *one* thing left to repair.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: a forbidden option ★☆☆ 5 min
#
# A patch at the border must not be chosen; a layer is switched off. Write `forbid(scores, allowed)`: scores `(..., K)`
# and a mask of True and False in, new scores out. A forbidden option must **never** be chosen, neither by argmax nor
# with noise, and the ratios of the others' probabilities must stay as they are.


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def forbid(scores, allowed):
    return ...


check("forbid", forbid)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def forbid_solution(scores, allowed):
    return scores.masked_fill(~allowed, -torch.inf)


check("forbid", forbid_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Soften the argmax
#
# $$z = \operatorname{softmax}\!\left(\frac{s + G}{\lambda}\right) \qquad \text{temperature } \lambda > 0$$

# %% [markdown] slideshow={"slide_type": "notes"}
# Replace the argmax by a softmax, and divide by a **temperature** $\lambda$. This is Gumbel-Softmax (Jang et al. 2017),
# found at the same time under the name *Concrete distribution* (Maddison et al. 2017). The sample is a smooth function
# of the scores, so backpropagation works: the noise is a constant, like an input.
#
# The price: the sample is no longer one-hot. It is a mixture, a bit of a, a bit of b, a bit of c.
#
# **Why noise at all?** Softmax of $s / 0.01$ is nearly one-hot as well, but it picks the *same* option every time. With
# noise, each option is tried as often as its probability says, and so the network can find out that another one is
# better.

# %% [markdown] slideshow={"slide_type": "skip"}
# By hand it takes two lines. `gumbel_softmax` of the library is the same function: with the same generator of random
# numbers both give the same sample. In addition it refuses bad input, takes $-\infty$ as "forbidden", and keeps its
# precision at tiny temperatures.


# %% slideshow={"slide_type": "-"}
def gumbel_softmax_by_hand(s, temperature, generator):
    noise = -torch.empty_like(s).exponential_(generator=generator).log()
    return ((s + noise) / temperature).softmax(-1)


ours = gumbel_softmax_by_hand(s, 0.5, torch.Generator().manual_seed(seed))
library = gumbel_softmax(s, 0.5, generator=torch.Generator().manual_seed(seed)).weights
torch.testing.assert_close(ours, library)
library

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: keep or discard ★★☆ 10 min · optional
#
# The talk's special case: with $K = 2$ we *keep or discard* a patch, a layer, a module. Only the difference of the two
# scores matters, so let the score of "discard" be 0. Write `keep(score, temperature, generator)`, which returns the
# first entry of the two-way Gumbel-Softmax sample, without a softmax. `score` is `(N,)`, and so is the result. Hint:
# softmax of two numbers is the sigmoid of their difference. Draw exponential numbers with
# `torch.empty(...).exponential_(generator=generator)`, in any shape and order.


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def keep(score, temperature, generator):
    return ...


check("keep_or_discard", keep)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def keep_solution(score, temperature, generator):
    e = torch.empty(2, *score.shape).exponential_(generator=generator)
    logistic = e[1].log() - e[0].log()  # the difference of two Gumbel numbers
    return ((score + logistic) / temperature).sigmoid()


check("keep_or_discard", keep_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The distribution, in full
#
# **Support** (the values that $z$ can take): the inside of the simplex, $\{z : z_k > 0, \; \sum_k z_k = 1\}$
#
# **Parameters:** probabilities $\pi_k > 0$ (only their ratios matter), temperature $\lambda > 0$
#
# **Density:**
# $$p(z) = (K-1)! \; \lambda^{K-1} \prod_{k}
# \frac{\pi_k \, z_k^{-\lambda - 1}}{\sum_i \pi_i \, z_i^{-\lambda}}$$

# %% [markdown] slideshow={"slide_type": "notes"}
# The talk's notes leave this equation open. Here it is (Maddison et al. 2017, eq. 10). The *simplex* is the set of all
# weight vectors: for three options it is a triangle whose corners are the three one-hot choices.

# %% [markdown] slideshow={"slide_type": "skip"}
# Maddison et al. derive it by a change of variables from $G$ to $z$. We do not need the density for training: sampling
# and backpropagation never ask for it. But it says exactly what we sample from, so we check it. The function below is
# the equation; torch has the same distribution under the name `RelaxedOneHotCategorical`.


# %% slideshow={"slide_type": "skip"}
def density(z, pi, temperature):
    K = pi.shape[-1]
    parts = pi * z ** (-temperature - 1) / (pi * z**-temperature).sum(-1, keepdim=True)
    return math.factorial(K - 1) * temperature ** (K - 1) * parts.prod(-1)


points = gumbel_softmax(s.expand(1000, 3), 0.8).weights
torchs = torch.distributions.RelaxedOneHotCategorical(torch.tensor(0.8), logits=s, validate_args=False)
torch.testing.assert_close(density(points, pi, 0.8).log(), torchs.log_prob(points), rtol=1e-3, atol=1e-3)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The density on a fine grid of the triangle, and 200,000 samples
n = 1200  # midpoints over z_a, z_b; z_c is what is left
axis = (torch.arange(n) + 0.5) / n
z_a, z_b = torch.meshgrid(axis, axis, indexing="ij")
z_grid = torch.stack([z_a, z_b, 1 - z_a - z_b], -1).double()
p_grid = torch.where(z_grid[..., 2] > 1e-9, density(z_grid.clamp_min(1e-9), pi.double(), 0.8), 0)
samples = gumbel_softmax(s.expand(200_000, 3), 0.8).weights

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The equation against 200,000 samples

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: the density beside a histogram of samples
fig, axes = plt.subplots(1, 2, figsize=(10, 4.1))
inside = z_grid[..., 2] > 0
x, y = plots.on_triangle(z_grid[inside][::7]).T
axes[0].tripcolor(x, y, p_grid[inside][::7], shading="gouraud", cmap="mako_r", vmin=0, vmax=6, rasterized=True)
x, y = plots.on_triangle(samples).T
axes[1].hist2d(
    x, y, bins=60, range=[[0, 1], [0, 0.87]], cmap="mako_r", cmin=1e-9, density=True, vmin=0, vmax=6 / 3**0.5 * 2
)
for ax, title in zip(axes, ["density at temperature 0.8 (dark: high)", "samples (dark: many)"], strict=True):
    plots.triangle(ax, ["a", "b", "c"])
    ax.set_title(title)
show(
    fig,
    "Two triangles with corners a, b, c, at temperature 0.8: the density, and a histogram of samples. They look "
    "the same: more mass near corner a than near the others, least near b.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Each point of the triangle is a possible $z$. Dark means likely. Left the equation, right what we sample: the same
# picture. Corner a, the option with the highest score, has the most mass.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What the temperature does

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** The temperature falls from 10 to 0.05. Two things are printed below the pictures: how often each option
# is the largest entry of $z$, and the mean of the largest entry. Which of them moves?
#
# <details><summary>A. How often each option is the largest.</summary>
#
# **No.** Dividing all entries by $\lambda$ does not change which one is the largest.
#
# </details>
#
# <details><summary>B. The mean of the largest entry.</summary>
#
# **Yes.** It goes from about 1/3 (all mixed) to about 1 (a choice). How often each option is the largest stays
# softmax(s).
#
# </details>
#
# <details><summary>C. Both.</summary>
#
# **Nearly.** The size of the largest entry moves, but which entry is the largest does not.
#
# </details>

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Move the temperature

# %% slideshow={"slide_type": "-"} tags=["fold", "figure:temperature_widget"]
# @title Widget: samples of Gumbel-Softmax under a slider
Temperature(s, temperature=1.0)

# %% [markdown] slideshow={"slide_type": "notes"}
# Move the slider slowly from 10 to 0.05. Each dot is one sample $z$ with its own noise, and the noise stays the same
# while you move; *New noise* draws again. Hot: all samples are near the centre. Cold: nearly all are in a corner.

# %% [markdown] slideshow={"slide_type": "skip"}
# The same with numbers. For three temperatures: how often each option is the largest entry of $z$, and how large that
# entry is on average (1 is a corner, 1/3 the centre).

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Print: three temperatures in numbers, and the claims
moved, largest = {}, {}
for temperature in (0.1, 1.0, 10.0):
    z = gumbel_softmax(s.expand(100_000, 3), temperature).weights
    shares = z.argmax(-1).bincount(minlength=3) / len(z)
    moved[temperature] = (shares - pi).abs().max().item()
    largest[temperature] = z.max(-1).values.mean().item()
    print(f"temperature {temperature:4}: shares {shares.numpy().round(2)}, mean largest {largest[temperature]:.2f}")
claim("The shares are those of softmax at each temperature", max(moved.values()) < 0.01, off=max(moved.values()))
claim("Cold samples are nearly one-hot", largest[0.1] > 0.9, mean_largest=largest[0.1])
claim("Hot samples are nearly uniform", largest[10.0] < 0.45, mean_largest=largest[10.0])

# %% [markdown] slideshow={"slide_type": "skip"}
# So the temperature decides how *hard* the samples are, not which option they prefer. In the limit $\lambda \to 0$ the
# sample is the one-hot choice of Gumbel-max. In the limit $\lambda \to \infty$ it is the uniform mixture, whatever the
# scores are.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: how often above 0.9? ★★★ 10 min · optional
#
# On paper. Two options have the scores $\log 3$ and $0$, and the temperature is $1/2$. In which share of the samples is
# the first entry of $z$ above 0.9? You need two facts. The difference of two Gumbel numbers is a *logistic* number $R$,
# with $P(R > r) = 1 / (1 + e^r)$. And for two options softmax is a sigmoid: $z_0 = 1 / (1 + e^{-(\log 3 +
# R)/\lambda})$.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
share = ...

check("surely", share)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# z_0 > 0.9  means  (log 3 + R) / λ > log(0.9 / 0.1) = log 9 = 2 log 3
# with λ = 1/2:     log 3 + R > log 3,  that is R > 0, and P(R > 0) = 1 / (1 + 1)
check("surely", 1 / 2)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Straight-through: hard forward, soft backward
#
# $$z = \underbrace{\text{one-hot}(\arg\max z_{\text{soft}})}_{\text{value}} \; + \;
# \underbrace{z_{\text{soft}} - \text{detach}(z_{\text{soft}})}_{0,\ \text{with a gradient}}$$

# %% [markdown] slideshow={"slide_type": "notes"}
# Often the next module cannot take "40 % of option a": a layer runs or it does not. **Straight-through** (Bengio et al.
# 2013; with Gumbel noise Jang et al. 2017) gives it a true one-hot vector. Going backward, the slope of the cost is
# taken at this one-hot vector, but $z$ is differentiated as if it were the soft sample. `detach` means: the same value,
# but a constant for backpropagation.
#
# All scores get a gradient. Of the modules only the chosen one does: its weight is 1, the weights of the others are 0.

# %% [markdown] slideshow={"slide_type": "skip"}
# Look at the printed value: it is one-hot, and it has a gradient. The brackets matter. Without them, (hard + soft) −
# soft is rounded, and 0.9999999 is not a choice. `straight_through` of the library does the same to any soft choice.

# %% slideshow={"slide_type": "-"}
scores = s.clone().requires_grad_()
soft = gumbel_softmax(scores, 0.5, generator=torch.Generator().manual_seed(seed))
hard = F.one_hot(soft.weights.argmax(-1), 3) + (soft.weights - soft.weights.detach())
torch.testing.assert_close(hard, straight_through(soft).weights)
hard

# %% [markdown] slideshow={"slide_type": "skip"}
# ### What its gradient is
#
# By the chain rule the gradient has two factors: the slope of the cost with respect to $z$, and the
# Jacobian of $z$ with respect to $s$ (the matrix of all $\partial z_k / \partial s_j$). Straight-through takes the
# **first at the hard point**, where the network really was, and the **second from the soft sample**. The next cell
# computes both factors by hand and multiplies them.

# %% slideshow={"slide_type": "skip"}
(gradient,) = torch.autograd.grad(cost(hard), scores)

noise = -torch.empty(3).exponential_(generator=torch.Generator().manual_seed(seed)).log()
jacobian = torch.autograd.functional.jacobian(lambda s: ((s + noise) / 0.5).softmax(-1), s)  # soft
slope = 2 * (hard.detach() @ outputs - 0.9) * outputs  # of the cost, at the hard point
torch.testing.assert_close(gradient, slope @ jacobian)
gradient

# %% [markdown] slideshow={"slide_type": "skip"}
# The two factors belong to different points, so their product is not the gradient of the cost at either of them.
# How far it is from the true gradient has to be measured. That comes next.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Bias against variance
#
# One estimate of the gradient is random. How far is its *mean* from the true gradient? That is the **bias**.
# How far is *one* estimate from the mean? That is the **spread** (the root of the summed variances).

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** We lower the temperature from 1 to 0.1. What happens?
#
# <details><summary>A. Less bias, more spread.</summary>
#
# **Yes.** A cold sample is nearly a real choice, so the mean comes close to the true gradient. But the softmax is now
# very steep: most estimates are almost zero, and a few are very large.
#
# </details>
#
# <details><summary>B. More bias, less spread.</summary>
#
# **No.** That is what a *hotter* temperature does.
#
# </details>
#
# <details><summary>C. Less of both.</summary>
#
# **No.** Then everybody would use the coldest temperature that a computer can hold.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# For each temperature we draw 100,000 estimates for our small cost. `surrogate` turns a cost and a choice into the loss
# that has to be differentiated; for a relaxed choice that is the cost itself. For comparison we also take `sample`, a
# one-hot choice without any relaxation. Its gradient comes from the *score function*: if option $k$ was chosen (its
# probability is $\pi_k$), $\text{cost}(k) \, \partial \log \pi_k / \partial s$. (The name has nothing to do with our
# scores; notebook 03 is about it.)


# %% slideshow={"slide_type": "skip"}
def gradients(choose, cost=cost, n=100_000):  # n independent estimates, one a row
    scores = s.expand(n, 3).clone().requires_grad_()
    choice = choose(scores)
    loss = surrogate(cost(choice.weights), choice.log_prob)
    return torch.autograd.grad(loss.sum(), scores)[0]


temperatures = [0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0]
ways = {"Gumbel-Softmax": gumbel_softmax, "straight-through": lambda s, t: straight_through(gumbel_softmax(s, t))}
bias, spread, length = {}, {}, {}
for name, way in ways.items():
    estimates = [gradients(lambda s, t=t, way=way: way(s, t)) for t in temperatures]
    bias[name] = [(e.mean(0) - exact).norm().item() for e in estimates]
    spread[name] = [e.var(0).sum().sqrt().item() for e in estimates]
    length[name] = [e.mean(0).norm().item() for e in estimates]

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Print: bias and spread in units of the true gradient, and the claims
drawn = gradients(sample)
score_bias, score_spread = (drawn.mean(0) - exact).norm().item(), drawn.var(0).sum().sqrt().item()
unit = exact.norm().item()
print("in units of the true gradient's length; spread also divided by the length of the estimate's own mean")
print("temperature         " + "".join(f"{t:7g}" for t in temperatures))
for name in ways:
    print(f"{name}\n  bias              " + "".join(f"{b / unit:7.2f}" for b in bias[name]))
    print("  spread            " + "".join(f"{v / unit:7.2f}" for v in spread[name]))
    print("  spread / own mean " + "".join(f"{v / m:7.2f}" for v, m in zip(spread[name], length[name], strict=True)))
print(f"score function: bias {score_bias / unit:.2f}, spread {score_spread / unit:.2f}")
warm, cold = temperatures.index(1.0), temperatures.index(0.1)
less = [bias[name][cold] / bias[name][warm] for name in ways]
more = [spread[name][cold] / spread[name][warm] for name in ways]
claim("From 1 down to 0.1 the bias shrinks to less than a third, both ways", max(less) < 1 / 3, largest_ratio=max(less))
claim("From 1 down to 0.1 the spread grows more than threefold, both ways", min(more) > 3, smallest_ratio=min(more))
claim("The score function has no bias that shows", score_bias < 0.05 * unit, bias=score_bias / unit)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Cold: nearly unbiased, and noisy

# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Draw: bias and spread against the temperature
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.9))
plots.curves(left, temperatures, {name: [np.array(values) / unit] for name, values in bias.items()})
plots.curves(right, temperatures, {name: [np.array(values) / unit] for name, values in spread.items()}, legend=False)
right.axhline(score_spread / unit, color="0.4", lw=1, ls=":")
right.text(10, 1.15 * score_spread / unit, "score function", ha="right", color="0.3", fontsize="small")
left.set(xscale="log", xlabel="temperature", ylabel="bias / true gradient", ylim=(0, 1.05))
right.set(xscale="log", yscale="log", xlabel="temperature", ylabel="spread / true gradient")
for ax in (left, right):
    ax.set_xticks([0.05, 0.2, 1, 5], ["0.05", "0.2", "1", "5"])
    ax.minorticks_off()
right.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
show(
    fig,
    "Two panels against temperature, in units of the true gradient's length. Bias grows from almost zero when cold to "
    "1 when hot. The spread of one estimate falls from above 6 when cold to below 0.3 when hot.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Cold: nearly right on average, and very noisy. With two options one sees why: $\partial z_0 / \partial s_0 =
# z_0 (1 - z_0) / \lambda$. At $\lambda = 0.1$ this is 2.5 when the two options are level, and 0.1 when $z_0 = 0.99$.
# Cold samples are mostly of the second kind, so most estimates are almost zero, and a few are very large.
#
# Hot: calm, and wrong. At temperature 10 the mean is almost zero, so the bias is as long as the true gradient.

# %% [markdown] slideshow={"slide_type": "skip"}
# Two warnings. The spread is measured in units of the *true* gradient; by the length of the estimate's *own* mean, a
# hot estimate is not as calm as it looks (third line of each block). And the plain score function has no bias at all,
# with less spread than a cold Gumbel-Softmax: with three options and this cost there is no need for a relaxation.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: the error of a mean ★☆☆ 5 min
#
# A batch averages many estimates. One estimate has a bias and a spread (its standard deviation). Write
# `mean_error(bias, spread, n)`, the root mean square distance between the true value and the mean of `n` independent
# estimates. (Mean square error = bias² + variance.)


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def mean_error(bias, spread, n):
    return ...


check("mean_error", mean_error)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def mean_error_solution(bias, spread, n):
    return (bias**2 + spread**2 / n) ** 0.5  # noise averages out, bias does not


check("mean_error", mean_error_solution)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## How cold? It depends on how much you average

# %% [markdown] slideshow={"slide_type": "skip"}
# With the formula of the exercise we can ask which temperature has the smallest error, if a batch averages 1, 10, 100
# or 1,000 independent estimates of the same gradient.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: the best temperature for each number of estimates
best = {}
for name in ways:
    for n in (1, 10, 100, 1000):
        errors = [(b**2 + v**2 / n) ** 0.5 / unit for b, v in zip(bias[name], spread[name], strict=True)]
        best[name, n] = temperatures[int(np.argmin(errors))]
        print(f"{name:15} mean of {n:5}: best temperature {best[name, n]:4}, error {min(errors):.2f}")
colder = all(best[name, 1] > best[name, 10] > best[name, 100] > best[name, 1000] for name in ways)
claim("The more estimates are averaged, the colder the best temperature", colder)

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: the error of a mean of n estimates
fig, ax = plt.subplots(figsize=(10, 3.8))
b, v = np.array(bias["Gumbel-Softmax"]), np.array(spread["Gumbel-Softmax"])
lines = {f"mean of {n:,}": [np.sqrt(b**2 + v**2 / n) / unit] for n in (1, 10, 100, 1000)}
plots.curves(ax, temperatures, lines)
for n, (line,) in zip((1, 10, 100, 1000), lines.values(), strict=True):
    ax.plot(best["Gumbel-Softmax", n], line.min(), "o", ms=13, mfc="none", mec="0.2", mew=1.5)
ax.axhline(1, color="0.4", lw=1, ls=":")
ax.text(10, 1.08, "as wrong as no gradient at all", ha="right", va="bottom", color="0.3", fontsize="small")
ax.set(xscale="log", yscale="log", xlabel="temperature (circle: the best)", ylabel="error / true gradient")
ax.set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
ax.set_xticks([0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10"])
ax.minorticks_off()
show(
    fig,
    "Error of a mean of 1, 10, 100 and 1,000 Gumbel-Softmax estimates against temperature. Each curve has a minimum; "
    "it moves from 2 for one estimate to 0.1 for a thousand. When hot all curves end at 1.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Averaging removes noise, and leaves the bias. So there is no single best temperature, even for one cost: with little
# averaging it is warm, with much averaging it is cold. A large batch, or a small learning rate, should average more;
# that was not tested here.
#
# Note what an error of 1 means: no gradient at all would do as well. With one estimate the best is 0.86: a warm
# temperature mostly helps by making the estimate *small*.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Hot: a short gradient, perhaps in a wrong direction · optional

# %% [markdown] slideshow={"slide_type": "skip"}
# A large bias can have two reasons: the mean gradient is too *short*, or it points in another *direction*. We separate
# them, and repeat everything with a second cost, one that is linear in $z$. For each temperature: the length of the
# mean (1 is the true one), λ times that length, and the cosine of the angle to the true gradient (1 is the same
# direction).


# %% slideshow={"slide_type": "skip"}
def linear_cost(z):
    return z @ torch.tensor([1.0, 0.3, 0.0])


mean_of = {}
for name, f in {"our cost": cost, "a linear cost": linear_cost}.items():
    scores = s.clone().requires_grad_()
    (true,) = torch.autograd.grad(exact_expectation(f, scores), scores)
    for t in (0.1, 1.0, 3.0, 10.0, 30.0):
        mean = gradients(partial(gumbel_softmax, temperature=t), f).mean(0)
        shorter, cosine = (mean.norm() / true.norm()).item(), F.cosine_similarity(mean, true, 0).item()
        mean_of[name, t] = shorter, cosine
        print(f"{name:14} temperature {t:4}: length {shorter:.3f}, λ · length {t * shorter:.2f}, cosine {cosine:.2f}")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about length and direction
for name in ("our cost", "a linear cost"):
    (short, _), (shorter, _) = mean_of[name, 10.0], mean_of[name, 30.0]
    claim(
        "From 10 to 30 the length falls about threefold",
        abs(short / shorter / 3 - 1) < 0.3,
        ratio=short / shorter,
    )
claim(
    "For the linear cost the direction stays right, however hot",
    mean_of["a linear cost", 30.0][1] > 0.98,
    cosine=mean_of["a linear cost", 30.0][1],
)
claim(
    "For our cost the direction is far off when hot",
    mean_of["our cost", 30.0][1] < 0.7,
    cosine=mean_of["our cost", 30.0][1],
)

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: length and direction of the mean gradient
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.7))
hot = sorted({t for _, t in mean_of})
for ax, i in ((left, 0), (right, 1)):
    series = {name: [[mean_of[name, t][i] for t in hot]] for name in ("our cost", "a linear cost")}
    plots.curves(ax, hot, series, legend=i == 1)
    ax.set(xscale="log", xlabel="temperature")
    ax.set_xticks(hot, [f"{t:g}" for t in hot])
    ax.minorticks_off()
left.set(yscale="log", ylabel="length / true length")
left.set_yticks([0.01, 0.1, 1], ["0.01", "0.1", "1"])
right.set(ylabel="cosine to the true gradient", ylim=(0, 1.05))
right.legend(frameon=False, loc="lower left")
show(
    fig,
    "Left: the length of the mean gradient falls with the temperature for both costs, when hot about as fast as 1/λ "
    "or faster. Right: its direction stays right for the linear cost; for our cost the cosine falls from 1 to a half.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Short:** when hot, the length falls about as fast as $1/\lambda$, the factor that stands in the softmax, or faster.
# An optimiser such as Adam, which rescales gradients, removes the shortness. (A delay remains: see *Two causes,
# tested*.) **Wrong direction:** that depends on the cost. A linear cost has the same slope everywhere, so the slope at
# a mixture is the right one for the options as well. Our cost is curved: near the centre the output is about 1, already
# close to 0.9. So the slope there is small, and says little about how bad a and b are alone.

# %% [markdown] slideshow={"slide_type": "skip"}
# That is the deeper danger of a relaxation: its best answer may be a mixture, which nobody can choose. The next
# exercise asks you for a simple case.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: fool the relaxation ★★☆ 5 min
#
# Find a case in which the relaxation goes wrong: write a smooth cost for which some mixture is better than each of the
# three options, by at least 1. Your function takes `z` of shape `(N, 3)`, each row a mixture, and returns the `N`
# costs.


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def fooled(z):
    return ...


check("fooled", fooled)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def fooled_solution(z):
    return 3 * (z**2).sum(-1)  # 3 for each option, 1 for the uniform mixture


check("fooled", fooled_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A real task: find the digit
#
# Nine patches. One is a handwritten digit, eight are clutter made of other digits. The network may classify **one**
# patch. It is given the class, never the place.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: three scenes
data = digits()
test = find_the_digit(data.test_x, data.test_y, n_scenes=1080, generator=torch.Generator().manual_seed(99))
fig, axes = plt.subplots(1, 3, figsize=(10, 3.4))
for ax, patches in zip(axes, test.patches, strict=False):
    tiles = F.pad(patches, (1, 1, 1, 1), value=float("nan")).reshape(3, 3, 10, 10)
    ax.imshow(tiles.swapaxes(1, 2).reshape(30, 30), cmap="gray_r")
    ax.axis("off")
fig.get_layout_engine().set(wspace=0.15)
show(
    fig,
    "Three scenes of three by three patches of 8 by 8 pixels. In each, one patch is a digit; the others are "
    "shuffled pixels or mosaics of digit quarters.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Can you find the three digits? Seven in ten of the clutter patches are digits with their pixels shuffled: easy to
# reject. Three in ten are mosaics, each quarter from another digit: they have strokes, and can only be rejected by
# their shape. The class is the only label, so the network has to learn *where* to look through the choice.

# %% [markdown] slideshow={"slide_type": "skip"}
# We know the place, and use it for measuring only. The digits are real (scikit-learn's, 8 × 8 pixels). Test scenes are
# made of digits that no training scene holds; a third group of digits, for *validation*, serves to pick learning rates.
# When we made this task, we looked at the test scenes to make the clutter just difficult enough. Trust large
# differences only.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## One equation: $y = \sum_k z_k \, f_k(x)$

# %% [markdown] slideshow={"slide_type": "skip"}
# Here is the whole network. A scorer gives each patch a score; `choose` makes weights of the nine scores; a classifier
# gives each patch ten numbers, one a class; $y$ is their weighted sum. The option $f_k$ is "classify patch $k$", with
# one classifier for all nine. The library keeps the same network as `Finder`, to train it several times. For all
# methods below it is the same; only `choose` differs.


# %% slideshow={"slide_type": "-"}
def find(patches, score, classify, choose):  # patches (B, 9, 8, 8)
    x = patches.flatten(2)  # (B, 9, 64)
    s = score(x).squeeze(-1)  # (B, 9)
    z = choose(s).weights  # (B, 9)
    return (z.unsqueeze(-1) * classify(x)).sum(1)  # y: (B, 10)


finder = Finder(softmax)  # choose = softmax: every patch has a weight
by_hand = find(test.patches, finder.score, finder.classify, softmax)
torch.testing.assert_close(by_hand, finder(test.patches)[0])

# %% [markdown] slideshow={"slide_type": "skip"}
# At test time there is no noise and no mixture: the patch with the highest score is picked, and the classifier sees
# only that one. We call this *looking once*.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Five ways to choose

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Five ways to choose in training: at random, argmax, softmax (*soft attention*, no noise),
# Gumbel-Softmax, straight-through. Which learn where to look?
#
# <details><summary>A. Gumbel-Softmax and straight-through only.</summary>
#
# **Nearly.** These two do. But softmax has a gradient as well, and learns it too.
#
# </details>
#
# <details><summary>B. Softmax, Gumbel-Softmax and straight-through.</summary>
#
# **Yes.** In these three a gradient reaches the scorer. Argmax and a random choice give it none.
#
# </details>
#
# <details><summary>C. All five: the classifier gets better anyway.</summary>
#
# **No.** With random choices the classifier does get better, but the scorer has no gradient and stays as it was.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# We train each of them here once, for 500 steps, all with the same learning rate, those with a temperature at λ = 2
# (below we vary it). Chance is 1/9 = 0.11 for the right patch. At test time, *random* picks at random as well. `train`
# is the usual loop, with new scenes in each step. The table says: how often looking once gives the right class; how
# often the right patch was picked; and how often the class is right *if the right patch is given*. The last column
# tells whether the classifier is the problem.

# %% slideshow={"slide_type": "skip"}
names = ["random", "argmax", "softmax", "Gumbel-Softmax, λ = 2", "straight-through, λ = 2"]
runs = {name: train(**WAYS[name], lr=5e-3, seed=seed) for name in names}
last = {name: history[-1] for name, (_, history) in runs.items()}

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Open after your guess: five ways after 500 steps
print("after 500 steps            looking once   right patch   if the right patch is given")
for name, row in last.items():
    right, given = row["right patch"], row["accuracy, right patch given"]
    print(f"{name:26}{row['accuracy']:13.2f}{right:14.2f}{given:19.2f}")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about who learns
worst = max(last[name]["accuracy"] for name in names[:2])
lowest = min(last[name]["right patch"] for name in names[2:])
claim("Random and argmax stay below 0.35", worst < 0.35, highest=worst)
claim("The three with a gradient find the right patch in more than 70 %", lowest > 0.7, lowest=lowest)

# %% [markdown] slideshow={"slide_type": "skip"}
# One training may be luck, 500 steps is short, and one learning rate may suit one method better than another. So the
# next figure shows a **recorded** result: each way with four learning rates, three seeds and 2,000 steps, which takes
# too long for a notebook. The figure shows all ways at the same rate, 0.005, to compare their speed. The table adds
# where each one ends at *its* best rate, picked on the validation scenes. (The command `python -m lecture_lib.recorded
# gumbel_softmax` makes the record again.)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Read the record, pick each way's learning rate on the validation scenes
record = recorded.load("gumbel_softmax")


def at_best(way):
    """Its learning rate, and for each measure its values (seeds, steps)."""
    entries = {}
    for entry in record["entries"]:
        if entry["way"] == way:
            entries.setdefault(entry["lr"], []).append(entry)
    lr = max(entries, key=lambda lr: np.mean([entry["validation"][-1] for entry in entries[lr]]))
    measures = entries[lr][0].keys() - {"seed", "way", "lr"}
    return lr, {name: np.array([entry[name] for entry in entries[lr]]) for name in measures}


best_of = {way: at_best(way) for way in WAYS}
kept = best_of["softmax"][1]["step"][0].astype(int)


def at_one_rate(way, what="accuracy"):
    """The measure at learning rate 0.005: its values (seeds, steps)."""
    return np.array([entry[what] for entry in record["entries"] if entry["way"] == way and entry["lr"] == 5e-3])


def final(way, what="accuracy", step=2000):
    return best_of[way][1][what][:, list(kept).index(step)].mean().item()


def early(way):
    return at_one_rate(way)[:, list(kept).index(500)].mean().item()


# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Who learns where to look?

# %% slideshow={"slide_type": "-"} tags=["fold", "figure:find_the_digit_learning"]
# @title Draw: accuracy against training steps, recorded
fig, ax = plt.subplots(figsize=(10, 4.1))
plots.curves(ax, kept, {name: at_one_rate(name) for name in names}, legend=False)
ax.set(xlabel="training step", ylabel="test accuracy, looking once", ylim=(0, 1), xlim=(0, 2000))
ax.legend(frameon=False, loc="center right", bbox_to_anchor=(1, 0.45))
ax.set_title(f"learning rate 0.005 for all; {record['label']}", fontsize="small", color="0.3")
show(
    fig,
    "Test accuracy over 2,000 training steps, mean and range of 3 seeds. Random and argmax stay below 0.26. "
    "Softmax, Gumbel-Softmax and straight-through climb to above 0.9 and end close together.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: the record in numbers, and the claims
print("accuracy, looking once      500 steps, lr 0.005   2,000 steps, best lr (lowest to highest seed)")
for name in names:
    lr, values = best_of[name]
    end = values["accuracy"][:, -1]
    print(f"{name:26}{early(name):21.3f}   {end.mean():.3f}, lr {lr:g} ({end.min():.3f} to {end.max():.3f})")
losses = [final("softmax", what) for what in ("relaxed loss", "argmax loss")]
print("softmax, loss of the mixture {:.2f}, looking once {:.2f}".format(*losses))
learners = [final(name) for name in names[2:]]
claim(
    "The three that learn end within 0.03 of each other",
    max(learners) - min(learners) < 0.03,
    lowest=min(learners),
    highest=max(learners),
)
soft = final("softmax")
claim("Soft attention ends within 0.02 of the best of the three", soft > max(learners) - 0.02, softmax=soft)
mixed = final("softmax", "accuracy, mixed")
claim(
    "Soft attention loses less than 0.02 when it looks once",
    mixed - final("softmax") < 0.02,
    all_nine=mixed,
    once=final("softmax"),
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Random and argmax never learn where to look: no gradient reaches the scorer. Argmax depends on its start: in our 500
# steps above, the untrained scorer prefers clutter, so the classifier hardly ever saw a digit. The other three find the
# digit from the class label alone.
#
# **Soft attention does as well as the methods with noise**: who is ahead by a point depends on the learning rate. When
# it is made to pick a single patch, it loses almost nothing in accuracy, at this learning rate. (Its loss rises more:
# the last line of the table.) If you can run every option in training, try it first. Where a mixture cannot be run it
# fails, like Gumbel-Softmax; where running all options costs too much, so do all three.

# %% [markdown] slideshow={"slide_type": "skip"}
# What this does *not* show: that noise is useless. Here a mixture of classifications makes sense, and every option is
# in it, so nothing has to be tried by chance. Where mixtures make no sense, soft attention may look better in training
# than it is at test time. The next section shows how to see that.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Relaxed and hard loss, side by side

# %% [markdown] slideshow={"slide_type": "skip"}
# Training minimises the **relaxed loss**: the loss of the mixture, $z$ a Gumbel-Softmax sample. What we care about is
# the **hard loss**: the loss when one patch is picked. If you only watch the relaxed loss, you may not see a problem.
# So draw both, on the same test scenes, for three temperatures. "Sampled" picks the largest entry of the noisy sample;
# "argmax" picks the highest score without noise, as we do at test time.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** At which temperature is the gap between the relaxed loss and the sampled hard loss largest?
#
# <details><summary>A. 0.5</summary>
#
# **No.** Cold samples are nearly one-hot: the mixture and the single patch are nearly the same.
#
# </details>
#
# <details><summary>B. 2</summary>
#
# **No.** The gap is larger than at 0.5, but 10 is hotter still.
#
# </details>
#
# <details><summary>C. 10</summary>
#
# **Yes.** Hot samples are mixtures of all nine patches. Their loss says little about a single patch picked with this
# much noise.
#
# </details>

# %% slideshow={"slide_type": "skip"}
gaps = {2.0: runs["Gumbel-Softmax, λ = 2"][1]}
for temperature in (0.5, 10.0):
    gaps[temperature] = train(partial(gumbel_softmax, temperature=temperature), lr=5e-3, seed=seed)[1]

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Open after your guess: the three losses
print("after 500 steps   loss: relaxed   hard, sampled   hard, argmax   accuracy: mixture   argmax")
for temperature in (0.5, 2.0, 10.0):
    row = gaps[temperature][-1]
    losses = f"{row['relaxed loss']:15.2f}{row['hard loss']:16.2f}{row['argmax loss']:15.2f}"
    print(f"temperature {temperature:4}{losses}{row['accuracy, mixed']:20.2f}{row['accuracy']:9.2f}")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The gap over training

# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Draw: relaxed and hard loss over training
fig, axes = plt.subplots(1, 3, figsize=(10, 3.6), sharey=True)
for ax, temperature in zip(axes, (0.5, 2.0, 10.0), strict=True):
    history = gaps[temperature]
    steps = [row["step"] for row in history]
    series = {"relaxed": "relaxed loss", "hard, sampled": "hard loss", "hard, argmax": "argmax loss"}
    lines = {name: [[row[key] for row in history]] for name, key in series.items()}
    plots.curves(ax, steps, lines, legend=temperature == 0.5)
    ax.set(title=f"temperature {temperature:g}", xlabel="training step")
axes[0].set(ylabel="loss on test scenes", ylim=(0, None))
show(
    fig,
    "Three panels: loss over training for temperatures 0.5, 2 and 10. At 0.5 the three losses are close together. At 2 "
    "the sampled hard loss is above the relaxed one. At 10 both hard losses are far above it.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title The claim about the gap
wide, middle, narrow = (gaps[t][-1]["hard loss"] - gaps[t][-1]["relaxed loss"] for t in (10.0, 2.0, 0.5))
claim(
    "The hotter, the wider the gap between relaxed and sampled hard loss",
    wide > middle > narrow,
    hot=wide,
    middle=middle,
    cold=narrow,
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The gap between relaxed and sampled grows with the temperature; at 2 most of it is the noisy pick, as argmax shows.
# But at 10 its loss is still far above the relaxed one: the classifier was trained as one part of a mixture, and is
# used alone. Its *accuracy* hardly suffers in this run. So report what you will run: here that is looking once, by
# argmax, in accuracy.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Temperature: slow, or stuck?

# %% [markdown] slideshow={"slide_type": "skip"}
# After a short training, some temperatures look bad. Are they *slow*, or do they end at a worse place? And is it the
# temperature, or a learning rate that does not suit it? Only a longer run with several learning rates can say. From the
# same record: five temperatures.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: five temperatures after 500 and 2,000 steps
hot_and_cold = {t: f"Gumbel-Softmax, λ = {t:g}" for t in (0.1, 0.5, 2, 10, 30)}
print("accuracy, looking once      500 steps, lr 0.005   2,000 steps, best lr (lowest to highest seed)")
for name in hot_and_cold.values():
    lr, values = best_of[name]
    end = values["accuracy"][:, -1]
    print(f"{name:26}{early(name):21.3f}   {end.mean():.3f}, lr {lr:g} ({end.min():.3f} to {end.max():.3f})")

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: five temperatures over training, recorded
fig, ax = plt.subplots(figsize=(10, 3.9))
plots.curves(ax, kept, {f"λ = {t:g}": at_one_rate(name) for t, name in hot_and_cold.items()}, legend=False)
ax.set(xlabel="training step", ylabel="test accuracy, looking once", ylim=(0, 1), xlim=(0, 2000))
ax.legend(frameon=False, loc="lower right")
ax.set_title(f"learning rate 0.005 for all; {record['label']}", fontsize="small", color="0.3")
show(
    fig,
    "Test accuracy over 2,000 training steps for five temperatures. From 0.5 to 10 the curves end together above 0.9, "
    "30 a little below. At 0.1 the curve is far below, and still climbs at the end.",
)

# %% [markdown] slideshow={"slide_type": "skip"}
# From 0.5 to 10 the temperatures end at about the same place, though 0.5 is well behind after 500 steps: **slow, not
# stuck**. At 30 the network is a few points behind after 2,000 steps, at 0.1 it is far behind (and at its best rate the
# three seeds differ a lot). But both curves still rise, so "stuck" is not shown for these either. Why are they so slow?

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Two causes, tested
#
# To show a cause, take it away. **Cold:** is it the noise of the gradient? Then averaging over eight samples of $z$ for
# each scene should help. (The nine classifications are shared, so this costs little.) **Hot:** is it that the scores
# are divided by 30, and have to grow 30 times as large? Then a network that multiplies its scores by 30 should be fast,
# and one that divides them by 30 should be slow even *without* any noise. For a fair look at speed, the first column
# has *one* learning rate for all, 0.005. Third question: papers often start hot and **cool down**. Does that help here?


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: the causes taken away, and the claims
rows = ["Gumbel-Softmax, λ = 0.1", "λ = 0.1, mean of 8 samples", "Gumbel-Softmax, λ = 30", "λ = 30, scores × 30"]
rows += ["scores / 30, no noise", "cooling from 10 to 0.5", "Gumbel-Softmax, λ = 2", "softmax"]
print("accuracy, looking once      500 steps, lr 0.005   2,000 steps, each at its best lr")
for name in rows:
    print(f"{name:26}{early(name):21.3f}{final(name):35.3f}")
middle = [final(hot_and_cold[t]) for t in (0.5, 2, 10)]
cold, averaged, hot, _, _, cooled, constant, _ = (final(name) for name in rows)
claim("From 0.5 to 10 the ends lie within 0.03", max(middle) - min(middle) < 0.03, low=min(middle), high=max(middle))
claim("At 30 and at 0.1 the ends are lower", max(hot, cold) < min(middle), cold=cold, hot=hot, lowest=min(middle))
rise = [final(hot_and_cold[t]) - final(hot_and_cold[t], step=1300) for t in (0.1, 30)]
claim("At their best rates, both are still rising after step 1,300", min(rise) > 0.01, cold=rise[0], hot=rise[1])
claim(
    "Eight samples close most of the gap that 0.1 leaves",
    averaged > cold + (min(middle) - cold) / 2,
    one=cold,
    eight=averaged,
)
_, _, hot, scaled, silent, _, _, soft = (early(name) for name in rows)
claim("At 30, scores × 30 are as fast as softmax", scaled > max(hot + 0.1, soft - 0.03), scaled=scaled, softmax=soft)
claim("Scores / 30 are as slow without noise as with it", abs(silent - hot) < 0.05, noise=hot, no_noise=silent)
claim("Cooling ends within 0.02 of a constant 2", abs(cooled - constant) < 0.02, cooled=cooled, constant=constant)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Cold is slow, at least in part, because it is noisy**: averaging over eight samples closes a third of the gap to
# temperature 2 after 500 steps, and most of it after 2,000. **Hot is slow because the scores are divided by λ**:
# multiply them by 30, and the delay is gone; divide them by 30 and take all noise away, and it is still there.
# **Cooling down**, by this one schedule, brings nothing against a constant 2.

# %% [markdown] slideshow={"slide_type": "skip"}
# Why does Adam not help, which rescales gradients? It makes the *steps* of all parameters alike, but the scores have to
# go 30 times as far before $z$ becomes one-hot. So: choose a temperature of the right order of magnitude, and a
# learning rate that suits it.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Where it looks
#
# Straight-through, after 500 steps. Solid frame: the patch it picked. Dots: the digit. Below each patch its score.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: two scenes that it solved, one that it missed
finder = runs[names[-1]][0]
with torch.no_grad():
    scores = finder.scores(test.patches)
right = scores.argmax(-1) == test.position
shown = [*right.nonzero()[:2, 0].tolist(), (~right).nonzero()[0, 0].item()]
fig, axes = plt.subplots(1, 3, figsize=(10, 3.75))
for ax, i, title in zip(axes, shown, ["found", "found", "missed"], strict=True):
    plots.scene(ax, test.patches[i], scores[i].tolist(), truth=test.position[i], picked=scores[i].argmax())
    ax.set_title(f"{test.label[i]}: {title}")
fig.get_layout_engine().set(wspace=0.12)
show(
    fig,
    "Three scenes with the score under each patch. A solid frame marks the patch picked, a dotted one the digit: "
    "in two scenes they are the same patch, in the third the clutter got the higher score.",
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## What looking once saves · optional

# %% [markdown] slideshow={"slide_type": "skip"}
# The promise of a choice is to save work at test time. `mix` evaluates every option and adds them up with their
# weights; `mix_sparse` evaluates only options whose weight is not zero. With a one-hot $z$ both give the same answer.
# We count FLOPs (additions and multiplications) and measure seconds, for our classifier and for one that is 32 times as
# wide. The second one is not trained: only its cost matters here.

# %% slideshow={"slide_type": "skip"} tags=["varies"]
x = test.patches.flatten(2)
rows = []
with torch.no_grad():
    z = argmax(finder.scores(test.patches)).weights
    for width, classify in ((64, finder.classify), (2048, MLP(64, 2048, 10))):
        options = [lambda x, k=k, f=classify: f(x[:, k]) for k in range(9)]  # f_k: classify patch k
        torch.testing.assert_close(mix(x, z, options), mix_sparse(x, z, options))  # the same answer
        flops = [count_flops(evaluate, x, z, options) for evaluate in (mix, mix_sparse)]
        times = [wall_time(evaluate, x, z, options) for evaluate in (mix, mix_sparse)]
        rows.append((width, *flops, *times))
    scoring = count_flops(finder.score, x)

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Print: FLOPs and seconds, and the claims
print("classifier      FLOPs a scene                milliseconds for 1,080 scenes")
print("   width     all nine   picked  ratio       all nine   picked  ratio")
for width, nine, one, slow, fast in rows:
    counted = f"{nine / 1080:13,.0f}{one / 1080:9,.0f}{nine / one:7.1f}"
    print(f"{width:8}{counted}{1e3 * slow:15.2f}{1e3 * fast:9.2f}{slow / fast:7.1f}")
print(f"the scorer looks at all nine: {scoring / 1080:,.0f} FLOPs a scene")
saved = (rows[0][1] + scoring) / (rows[0][2] + scoring)
print(f"with the scorer, the whole network at width 64 needs {saved:.1f} times fewer FLOPs, not 9")
claim(
    "One of nine classifications is a ninth of the FLOPs",
    all(r[1] == 9 * r[2] for r in rows),
    ratio=rows[0][1] / rows[0][2],
)
claim("With the scorer, 2 to 3 times fewer are left", 2 < saved < 3, times_fewer=saved)
claim(
    "The wide classifier gains a larger factor in time than the narrow one",
    rows[0][3] / rows[0][4] < rows[1][3] / rows[1][4],
    clock=True,
    narrow=rows[0][3] / rows[0][4],
    wide=rows[1][3] / rows[1][4],
)

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
# @title Draw: what is saved, counted and measured
fig, ax = plt.subplots(figsize=(10, 3.4))
groups = [f"classifier {width:,} wide" for width, *_ in rows]
counted, measured = [nine / one for _, nine, one, *_ in rows], [slow / fast for *_, slow, fast in rows]
plots.bars(ax, groups, {"fewer FLOPs, counted": counted, "less time, measured": measured}, fmt="{:.1f} ×")
ax.set(ylabel="times less, scorer not counted", ylim=(0, 1.5 * max(*counted, *measured)))
show(
    fig,
    f"Bars: for one patch instead of nine, 9 times fewer FLOPs at both widths; measured {measured[0]:.1f} times "
    f"less time at width 64, {measured[1]:.1f} times at width 2,048. The scorer is not counted.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Nothing is multiplied by zero: what is not chosen is not executed. For our small classifier counter and clock
# disagree, perhaps because collecting the right rows takes time. The wide one gains a larger factor.
#
# And the scorer has to look at all nine patches. With it, the whole network gains a factor of two to three, not nine.

# %% [markdown] slideshow={"slide_type": "skip"}
# Is it worth it? A simple rival has *no choice at all*: soft attention over all nine patches, with a classifier so
# narrow (8 hidden units) that the whole network costs about the same. It was trained in the same way, and is in the
# record.

# %% slideshow={"slide_type": "skip"}
with torch.no_grad():
    once = (scoring + rows[0][2]) / 1080
    rival = count_flops(Finder(softmax, width=8), test.patches) / 1080
looking, soft = final("softmax"), final("softmax, classifier 8 wide", "accuracy, mixed")
print(f"look once, classifier 64 wide:    {once:7,.0f} FLOPs a scene, accuracy {looking:.3f}")
print(f"mix all nine, classifier 8 wide:  {rival:7,.0f} FLOPs a scene, accuracy {soft:.3f}")
rises = soft - final("softmax, classifier 8 wide", "accuracy, mixed", step=1300)
claim("At equal test FLOPs, after 2,000 steps, looking once is ahead", looking > soft + 0.01, once=looking, mixed=soft)
claim("The narrow classifier is still improving", rises > 0.01, since_step_1300=rises)

# %% [markdown] slideshow={"slide_type": "skip"}
# So at equal FLOPs at test time the choice is ahead here by a few points after 2,000 steps. (In training it costs more:
# it runs all nine wide classifications.) The narrow classifier is still improving, so with more training this lead may
# shrink. A choice pays where options are expensive and scores are cheap: with a classifier of width 2,048, the scorer
# would be a small part of the cost. And the saving comes at *test* time: in training softmax, Gumbel-Softmax and
# straight-through all need every $f_k(x)$.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where Gumbel-Softmax fails
#
# - **It solves a relaxed problem.** A mixture may be good where no single option is.
# - **Cold is noisy, hot needs large scores.** Get the order of magnitude right, and the learning rate with it.
# - **Training is dense.** The gradient needs every option; the saving comes later.
# - **The cost must be differentiable**, and defined between the options.
# - **Soft attention may do as well.** Try it first if you can afford it.

# %% [markdown] slideshow={"slide_type": "notes"}
# When these hurt, look further: the score function (notebook 03) needs one option and no derivative; sparsemax and
# top-k (notebook 04) have exact zeros without noise; for many options, mixtures of experts (notebook 08) have ways of
# their own.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# $$y = \sum_k z_k \, f_k(x) \qquad z = \operatorname{softmax}\!\left(\frac{s + G}{\lambda}\right)$$
#
# - Noise on the scores turns argmax into a sample of softmax.
# - A temperature turns the sample into something with a gradient.
# - Straight-through makes it one-hot again, for the forward pass.
# - The price: bias when hot, noise when cold. Averaging helps against noise, not against bias.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - E. J. Gumbel, *Statistical Theory of Extreme Values and Some Practical Applications*, 1954: the Gumbel-max trick, as
#   Jang et al. and Maddison et al. cite it.
# - E. Jang, S. Gu, B. Poole, *Categorical Reparameterization with Gumbel-Softmax*, ICLR 2017.
# - C. J. Maddison, A. Mnih, Y. W. Teh, *The Concrete Distribution*, ICLR 2017: the density, the limits.
# - Y. Bengio, N. Léonard, A. Courville, *Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
#   Computation*, 2013: straight-through.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
