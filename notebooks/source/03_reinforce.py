# %% [markdown] slideshow={"slide_type": "slide"}
# # REINFORCE: learning from a choice that was made
#
# **Notebook 03** · *Designing efficient and modular neural networks*
#
# Choose one option, run it, see what it cost. No mixture, no slope of the cost.
# How can the scores still learn?

# %% [markdown] slideshow={"slide_type": "skip"}
# This notebook follows a talk by Simone Scardapane (2023); `lecture_lib` is the package that goes with it, called *the
# library* below.
#
# **After this notebook you can** derive the score function in three lines; choose a baseline, and start it fairly; say
# what hybrids such as REBAR add; count what an estimator costs; and tell when REINFORCE wins and when it loses. **You
# need** notebook 02: its three options, Gumbel-Softmax, bias and spread, and *find the digit*.
#
# Code that draws or prepares is folded: click on its title to open it. Where it says *Predict*, guess before you
# click. Lines that begin with ✓ or ✗ compare what the text says with the numbers of your own run.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Imports, and the seed
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from lecture_lib import plots, recorded
from lecture_lib.choice import gumbel_softmax, keep_or_discard, sample, straight_through
from lecture_lib.cost import count_flops
from lecture_lib.estimators import (
    MovingAverage,
    exact_expectation,
    gradient_statistics,
    gumbel_rao,
    leave_one_out,
    rebar,
    surrogate,
)
from lecture_lib.notebook import check, claim, setup, show
from lecture_lib.recorded.gumbel_softmax import Finder, scenes
from lecture_lib.recorded.reinforce import exact as exact_loss
from lecture_lib.recorded.reinforce import mistakes, reinforce, relaxed, train
from lecture_lib.widgets import Estimators

seed = setup(0)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## "Avoid reinforcement learning"
#
# So says the talk. But a network that chooses, and then sees a cost, has a problem of reinforcement learning:
#
# | reinforcement learning | here |
# |:---|:---|
# | context (or state) | the input $x$ |
# | policy | probabilities $\pi = \operatorname{softmax}(s)$, $\;s = \text{score}(x)$ |
# | action | the option $k$ that runs |
# | reward | minus the cost of $k$ |

# %% [markdown] slideshow={"slide_type": "notes"}
# One action, one reward, and it is over. This has a name: a **contextual bandit**. A *bandit* is a slot machine with
# several arms. You pull one arm, and see what this arm pays; what the others would have paid you never learn.
# *Contextual* means that you see an input $x$ before you choose. What is missing from full reinforcement learning:
# your action does not change the next input, and no cost comes later.
#
# **REINFORCE** (Williams 1992) learns such a policy by gradient descent. The talk advises against it. We measure why,
# and where it is the right tool.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The score function, in three lines
#
# $$\begin{aligned}
# \nabla \, \mathbb{E}[\,\text{cost}(k)\,] &= \nabla \sum_k \pi_k \,\text{cost}(k)
# \;=\; \sum_k \text{cost}(k)\, \nabla \pi_k \\[4pt]
# &= \sum_k \text{cost}(k)\; \pi_k \,\nabla \log \pi_k \\[4pt]
# &= \mathbb{E}\big[\,\text{cost}(k)\, \nabla \log \pi_k\,\big]
# \end{aligned}$$
#
# The second line is $\nabla \log \pi = \nabla \pi / \pi$. For softmax, $\;\partial \log \pi_k / \partial s_j =
# [j = k] - \pi_j$.

# %% [markdown] slideshow={"slide_type": "notes"}
# Here $\nabla$ is the gradient with respect to the scores, and $[j = k]$ is 1 if $j = k$, else 0. Line one: the scores
# change the probabilities $\pi$, while the costs are just numbers. Line two multiplies and divides by $\pi_k$. So line
# three is an expectation again, and an expectation can be *sampled*: draw $k$, run option $k$ alone, multiply its cost
# by $\nabla \log \pi_k$. The cost was never differentiated. It may be a count, a click, or a measured time.
# ($\text{cost}(k)$ is short for the cost of the one-hot $z$ of option $k$.)
#
# (Statistics calls $\nabla \log \pi_k$ the *score function*. That has nothing to do with our scores $s$.)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## By hand, then in the library

# %% [markdown] slideshow={"slide_type": "skip"}
# The three options of notebook 02: scores $1.3, 0.2, 0.7$; outputs $2, 0, 1$; the cost is the squared distance to 0.9.
# We make 100,000 estimates, one a row, by the formula. In the library, `sample` draws a one-hot $z$ and remembers its
# log-probability. `surrogate` is a loss with exactly this gradient:
#
# `cost + (cost - b).detach() * log_prob`
#
# (the library changes the printed value, to the cost alone, not the gradient; $b = 0$ for now). The first term gives
# the cost's own parameters, such as a classifier's, their ordinary gradient. The `detach` keeps the second one away
# from them. Without it the factor is $1 + \log \pi_k$, so for an option with $\pi_k < 0.37$ a classifier would learn to
# make its cost *larger* (and a learned $b$ would fall without limit). *Spread* is, as in notebook 02, the root of the
# summed variances of the entries.


# %% slideshow={"slide_type": "skip"}
s, outputs = torch.tensor([1.3, 0.2, 0.7]), torch.tensor([2.0, 0.0, 1.0])


def cost(z):
    return (z @ outputs - 0.9) ** 2


# %% [markdown] slideshow={"slide_type": "skip"}
# First by the formula, then by the library: the same numbers.

# %% slideshow={"slide_type": "-"}
scores = s.expand(100_000, 3).clone().requires_grad_()
choice = sample(scores)
by_hand = cost(choice.weights)[:, None] * (choice.weights - s.softmax(-1))
loss = surrogate(cost(choice.weights), choice.log_prob)
(library,) = torch.autograd.grad(loss.sum(), scores)
torch.testing.assert_close(by_hand, library)
library[:3]  # three single estimates

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: mean and spread of the estimates, and the claims
# exact_expectation: the expected cost, by trying all K options
leaf = s.clone().requires_grad_()
(exact,) = torch.autograd.grad(exact_expectation(cost, leaf), leaf)
unit = exact.norm().item()
off, spread = (library.mean(0) - exact).norm().item(), library.var(0).sum().sqrt().item()
print("exact gradient      ", exact.numpy().round(3))
print("mean of 100,000     ", library.mean(0).numpy().round(3))
print(f"length of the exact gradient {unit:.2f}, spread of one estimate {spread:.2f}")
claim("The mean of the estimates is the exact gradient to within 3 %", off < 0.03 * unit, share=off / unit)
claim("The spread of one estimate is larger than the exact gradient", spread > 1.3 * unit, ratio=spread / unit)

# %% [markdown] slideshow={"slide_type": "notes"}
# On average the estimate is right. But one estimate is one of only *three* arrows, one for each option, and none of
# them is the true gradient. Its spread is larger than what we want to know.
#
# Look at the signs. All costs are positive, so gradient descent pushes **every option that was tried** down, the good
# ones less. Only the comparison of many draws tells which option is better.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: one estimate ★☆☆ 3 min
#
# On paper. Three options have the probabilities $\pi = (0.5, 0.3, 0.2)$. Option 1 is drawn (the second: indices start
# at 0), and it costs 2. The estimate is a vector of three numbers. What is its entry for option 0?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
entry = ...

check("one_estimate", entry)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
check("one_estimate", 2 * (0 - 0.5))  # cost · ([0 = 1] - π_0)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A baseline: better than what?
#
# $$\big(\text{cost}(k) - b\big)\, \nabla \log \pi_k$$
#
# No bias, whatever the number $b$:
# $\;\mathbb{E}[b \,\nabla \log \pi_k] = b \sum_k \nabla \pi_k = b \,\nabla 1 = 0$.

# %% [markdown] slideshow={"slide_type": "skip"}
# A number $b$ that is subtracted from the cost is called a **baseline**. Now an option that costs less than $b$ is
# pushed *up*. The mean does not move, because probabilities always sum to one. The spread does.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Which baseline $b$ gives the smallest spread, for our three options?
#
# <details><summary>A. Zero</summary>
#
# **No.** Then every option that was tried is pushed down, by very different amounts.
#
# </details>
#
# <details><summary>B. The expected cost</summary>
#
# **Nearly.** It is close to the best one. But draws with a long $\nabla \log \pi_k$ make more noise than others, and
# the expected cost does not know that.
#
# </details>
#
# <details><summary>C. A weighted mean of the costs, close to the expected cost</summary>
#
# **Yes.** A draw counts more, the longer its $\nabla \log \pi_k$ is. An exercise below asks for the weights.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# With three options we need no sampling: the spread is a sum of three terms. We compute it for 301 baselines.

# %% slideshow={"slide_type": "skip"}
pi, costs = s.softmax(-1), cost(torch.eye(3))
grid = torch.linspace(-1, 2, 301)  # baselines
rows = (costs - grid[:, None]).unsqueeze(-1) * (torch.eye(3) - pi)  # (baseline, option drawn, entry)
means = (pi[:, None] * rows).sum(1)
torch.testing.assert_close(means, exact.expand(301, 3), atol=1e-5, rtol=0)  # the same mean for every baseline
spreads = (pi[:, None] * (rows - exact) ** 2).sum((1, 2)).sqrt()

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Print: the best baseline, and the claims
best, expected = grid[spreads.argmin()].item(), (pi @ costs).item()
none, least, close = spreads[100].item(), spreads.min().item(), spreads[(grid - expected).abs().argmin()].item()
print(f"no baseline: spread {none:.2f};  expected cost, {expected:.2f}: {close:.2f};  best, {best:.2f}: {least:.2f}")
claim("The best baseline lies below the expected cost, by less than 0.3", 0.05 < expected - best < 0.3, best=best)
claim("The expected cost removes most of what the best one removes", none - close > 0.8 * (none - least))
claim(
    "A bad baseline, -1 or 2, is worse than none", min(spreads[0], spreads[-1]) > 1.3 * none, spread_with_2=spreads[-1]
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The spread against the baseline

# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Draw: the spread against the baseline
fig, ax = plt.subplots(figsize=(10, 3.1))
ax.plot(grid, spreads, lw=2.5)
for x, name, marker in ((0, "no baseline", "o"), (best, "the best one", "D"), (expected, "expected cost", "s")):
    y = np.interp(x, grid, spreads)
    ax.plot(x, y, marker, ms=10, color="0.2")
    ha, offset = {"o": ("left", (10, 6)), "D": ("right", (-4, -20)), "s": ("left", (4, -20))}[marker]
    ax.annotate(name, (x, y), textcoords="offset points", xytext=offset, ha=ha, color="0.2")
ax.set(xlabel="baseline b", ylabel="spread of one estimate", ylim=(0, None))
show(
    fig,
    "Spread of one estimate against the baseline: a valley with its lowest point a little below the expected cost. "
    "A baseline of minus 1 or 2 is much worse than none.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# A baseline turns "how much did it cost?" into "was it better or worse than usual?". The expected cost is a good one,
# and not the best. A bad baseline is worse than none.
#
# There is one condition: **$b$ must not depend on the draw that it is used for.** If it does, $b$ cannot be taken out
# of the expectation, and the line above that begins with "No bias" does not hold.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: the best constant baseline ★★★ 10 min · optional
#
# Write $v_k = \nabla \log \pi_k$. The mean of the estimate does not depend on $b$, so its variance is smallest where
# $\mathbb{E}\big[(\text{cost}(k) - b)^2 \, \|v_k\|^2\big]$ is. Set the derivative to zero: which weighted mean of the
# costs is the best baseline? Write `best_baseline(pi, costs)` for probabilities `pi = softmax(s)` and costs, both
# `(K,)`; it returns one number. Then try it on two options, `pi = [p, 1 - p]`: how much variance is left?


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def best_baseline(pi, costs):
    return ...


check("best_baseline", best_baseline)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def best_baseline_solution(pi, costs):
    v = torch.eye(len(pi)) - pi  # row k: the gradient of log π_k with respect to the scores
    weights = pi * (v**2).sum(-1)
    return (weights * costs).sum() / weights.sum()


# two options: v_0 = (1 - p)·(1, -1), v_1 = -p·(1, -1). With this b both draws give the same estimate: no variance
check("best_baseline", best_baseline_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## See it: bias and spread

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** The next picture shows estimates as dots and their mean as a diamond. The left side is the score
# function. Which slider moves its diamond?
#
# <details><summary>A. The baseline</summary>
#
# **No.** It changes the spread alone.
#
# </details>
#
# <details><summary>B. The number of samples</summary>
#
# **No.** The mean of many estimates has the same mean as one, and less spread.
#
# </details>
#
# <details><summary>C. None</summary>
#
# **Yes.** The diamond stays on the exact gradient. On the right side the temperature moves it away, and no number of
# samples brings it back.
#
# </details>

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Move the baseline, the samples, the temperature

# %% slideshow={"slide_type": "-"} tags=["fold", "figure:estimators_widget"]
# @title Widget: estimates of one gradient, by score function and by a relaxation
Estimators(s, outputs, 0.9, temperature=0.5)

# %% [markdown] slideshow={"slide_type": "notes"}
# Each dot is one estimate: its entry for option a against that for option c (a, b, c are 0, 1, 2 of the text). The
# cross is the exact gradient, the diamond the mean, the dashed ellipse one standard deviation. Left, with one sample,
# there are three possible arrows (dots that coincide are spread a little). *Error* is the root of
# $\text{bias}^2 + \text{spread}^2$.
#
# Be fair when you compare: $S$ samples cost the left side the options that were drawn, never more than three. The right
# side needs all three, once: the runs serve all samples.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where does a baseline come from?
#
# | baseline | what it costs | what it knows |
# |:---|:---|:---|
# | moving average of past costs | almost nothing | how things go at this time |
# | leave one out: draw $S$ times, take the mean cost of the *other* $S - 1$ draws | at most $S$ runs | this input |
# | a network $b(x)$, trained on $(\text{cost} - b(x))^2$ | a network, and its training | this input |

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: leave one out ★☆☆ 5 min
#
# $S$ samples were drawn for each of $B$ inputs. Write `baselines(costs)`: the costs `(S, B)` in; out comes, for each
# sample, the mean cost of the *other* samples of the same input, `(S, B)`. No loop is needed.


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def baselines(costs):
    return ...


check("leave_one_out_baseline", baselines)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def baselines_solution(costs):
    return (costs.sum(0) - costs) / (len(costs) - 1)


check("leave_one_out_baseline", baselines_solution)

# %% [markdown] slideshow={"slide_type": "notes"}
# None of the three may see its own draw. The moving average is *read before it is updated*. Leave-one-out asks the
# other draws for the same input. A learned baseline sees the input $x$, and not what was drawn; in reinforcement
# learning it is called a *critic*.

# %% [markdown] slideshow={"slide_type": "skip"}
# What happens if a baseline *has* seen its own draw? We take the mean of all four costs, its own included, and compare
# the bias of both.

# %% slideshow={"slide_type": "skip"}
others = gradient_statistics(sample, cost, s, samples=4, baseline=leave_one_out)
own = gradient_statistics(sample, cost, s, samples=4, baseline=lambda costs: costs.mean(0))

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: the two biases, and the claims
print("bias, leave one out        ", others.bias.numpy().round(3))
print("bias, its own cost included", own.bias.numpy().round(3))
print("a quarter of the gradient  ", (exact / 4).numpy().round(3))
claim("Leave-one-out has no bias that shows", others.bias.norm() < 0.03 * unit, share=others.bias.norm() / unit)
short = (own.bias + exact / 4).norm() / unit
claim("With its own cost included, a quarter of the gradient is missing", short < 0.03, share_off=short)

# %% [markdown] slideshow={"slide_type": "skip"}
# With its own cost included the estimate is too short by $1/S$, here a quarter. For large $S$ this is harmless.
#
# **How does a moving average start?** Before the first step there is no past cost. Taking 0 looks natural, and is a
# trap. The first gradient is then as large as the costs themselves, and an optimiser such as Adam, which divides by the
# size of past gradients, takes small steps for a long time: with its usual $\beta_2 = 0.999$ it remembers about 1,000
# steps (an optional section below measures it). So `MovingAverage` of the
# library begins with the mean of the *first* costs. By the calculation above that makes this one estimate a bit short,
# and no other. (For one input and one draw it is zero: the first step is lost.)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## One bit, and a target of 0.499
#
# $$\min \; \mathbb{E}\big[(z_0 - 0.499)^2\big] \qquad z = (1, 0) \text{ or } (0, 1), \quad
# \pi = \operatorname{softmax}(s_0, 0)$$
#
# $z_0 = 0$ costs 0.249, $\;z_0 = 1$ costs 0.251. Choose 0!

# %% [markdown] slideshow={"slide_type": "skip"}
# A classic hard case, with probabilities $\pi$ (the setting is from Tucker et al. 2017, the number 0.499 from Grathwohl
# et al. 2018): two options whose costs hardly differ. The score function has to find a difference of 0.002 among costs
# of 0.25. A relaxation sees something else: *between* the options the cost is far lower, at $z_0 = 0.499$ it is zero.
# We measure the gradient for $s_0$ at $s_0 = -1$. "Gumbel-Rao" is straight-through with less noise: its gradient is
# averaged over several draws of the noise that all lead to the same choice (Paulus et al. 2021). Compare each mean with
# the exact gradient. (± is the standard error of the mean: the spread over the root of the number of estimates.)


# %% slideshow={"slide_type": "skip"}
def bit_cost(z):
    return (z[..., 0] - 0.499) ** 2


at_minus_1 = keep_or_discard(torch.tensor(-1.0))  # the scores (-1, 0)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The seven ways: how to choose, samples, baseline
warm, cold = partial(gumbel_softmax, temperature=1.0), partial(gumbel_softmax, temperature=0.1)
bit_ways = {
    "score function": (sample, 1, 0.0),
    "+ baseline 0.25": (sample, 1, 0.25),
    "+ leave one out, S = 2": (sample, 2, leave_one_out),
    "Gumbel-Softmax, λ = 1": (warm, 1, 0.0),
    "Gumbel-Softmax, λ = 0.1": (cold, 1, 0.0),
    "straight-through, λ = 1": (lambda scores: straight_through(warm(scores)), 1, 0.0),
    "Gumbel-Rao, λ = 1": (partial(gumbel_rao, temperature=1.0), 1, 0.0),
}

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Measure and print: the mean of the estimates, and the spread of one
bit = {
    name: gradient_statistics(choose, bit_cost, at_minus_1, samples=n, baseline=b, n_estimates=200_000)
    for name, (choose, n, b) in bit_ways.items()
}
true = bit["score function"].exact[0]
print(f"exact gradient {true:+.4f}   mean of estimates    spread of one")
for name, g in bit.items():
    wrong = "   wrong sign" if g.mean[0] < -5 * g.standard_error[0] else ""
    print(f"{name:24} {g.mean[0]:+12.4f} ± {g.standard_error[0]:.0e}{g.variance[0].sqrt():14.4f}{wrong}")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about the bit
unbiased, relaxations = list(bit)[:3], list(bit)[3:]
errors = [(bit[name].bias[0] / bit[name].standard_error[0]).abs().item() for name in unbiased]
claim("The score function has no bias that shows", max(errors) < 5, standard_errors=max(errors))
largest = max((bit[name].mean[0] / bit[name].standard_error[0]).item() for name in relaxations)
claim("The mean of each relaxation has the wrong sign", largest < -5, standard_errors=largest)
plain = bit["score function"].variance[0].sqrt()
factor = min((plain / bit[name].variance[0].sqrt()).item() for name in unbiased[1:])
claim("A baseline makes the spread more than 100 times smaller", factor > 100, smaller_factor=factor)

# %% [markdown] slideshow={"slide_type": "notes"}
# Without a baseline the noise is hundreds of times the gradient. A baseline near 0.25 takes almost all of it away. The
# relaxations have another problem: they are pulled to the middle, where nobody can choose, and **their mean points the
# wrong way**. No number of samples helps against that.
#
# It is a toy, made to be hard for relaxations.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Who finds out that 0 is better? · optional

# %% [markdown] slideshow={"slide_type": "skip"}
# The same methods in training: 20 runs each, 600 steps of Adam, one learning rate for all. The moving average is there
# twice, once with a first baseline of 0 and once as the library starts it.


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The training loop
class FromZero(MovingAverage):
    def __init__(self):
        super().__init__(0.9)
        self.value = 0.0


def train_bit(choose, samples, baseline, runs=20, steps=600, betas=(0.9, 0.999)):
    """The probability of z_0 = 1 after every 20 steps, (runs, steps / 20)."""
    s_0, history = torch.zeros(runs, requires_grad=True), []
    optimizer = torch.optim.Adam([s_0], lr=0.03, betas=betas)
    averages = baseline not in (0.0, leave_one_out) and [baseline() for _ in range(runs)]  # one for each run
    for step in range(steps):
        choice = choose(keep_or_discard(s_0).expand(samples, runs, 2))
        costs = bit_cost(choice.weights)  # (samples, runs)
        if averages:
            b = torch.tensor([average(c) for average, c in zip(averages, costs.T, strict=True)])
        else:
            b = baseline(costs) if callable(baseline) else baseline
        optimizer.zero_grad()
        surrogate(costs, choice.log_prob, b).mean(0).sum().backward()
        optimizer.step()
        if step % 20 == 19:
            history.append(s_0.detach().sigmoid())
    return torch.stack(history, 1).numpy()


trained = {
    "score function": (sample, 1, 0.0),
    "+ moving average, from 0": (sample, 1, FromZero),
    "+ moving average": (sample, 1, partial(MovingAverage, 0.9)),
    "+ leave one out, S = 2": (sample, 2, leave_one_out),
} | {name: bit_ways[name] for name in relaxations}
bits = {name: train_bit(*way) for name, way in trained.items()}

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: the probability of the worse option over training
fig, axes = plt.subplots(1, 2, figsize=(10, 4.1), sharey=True)
for ax, names in zip(axes, (list(trained)[:4], relaxations), strict=True):
    plots.curves(ax, range(20, 601, 20), {name: bits[name] for name in names})
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    ax.set(xlabel="training step", ylim=(0, 1.45), yticks=[0, 0.5, 1])  # above 1: the legend
    ax.spines["left"].set_bounds(0, 1)
axes[0].set_ylabel("probability of $z_0$ = 1")
show(
    fig,
    "Probability of the worse option over 600 steps, mean and range of 20 runs. With leave-one-out, or with a moving "
    "average that starts fairly, the score function goes to 0; with one that starts at 0 it is slower. Without a "
    "baseline, and with Gumbel-Softmax at temperature 0.1, the runs wander far; the other three relaxations stay near "
    "one half.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: where the 20 runs end, and the claims
for name, p in bits.items():
    print(f"{name:25} probability of z_0 = 1 after 600 steps: mean {p[:, -1].mean():.3f}, largest {p[:, -1].max():.3f}")
forgets = train_bit(sample, 1, FromZero, betas=(0.9, 0.9))[:, -1].mean()
print(f"from 0, but Adam remembers only about 10 steps (β₂ = 0.9): mean {forgets:.3f}")
end = {name: p[:, -1] for name, p in bits.items()}
plain, slow, fair, paired = (end[name] for name in list(trained)[:4])
claim("With a fair start, the moving average brings each run below 0.1", fair.max() < 0.1, largest=fair.max())
claim("Leave-one-out does so, too", paired.max() < 0.1, largest=paired.max())
claim("From 0, the mean is still more than 5 times as high", slow.mean() > 5 * fair.mean(), from_0=slow.mean())
claim("From 0, with the short memory, it is less than twice as high", forgets < 2 * fair.mean(), from_0=forgets)
undecided = min(plain.mean(), *(end[name].mean() for name in relaxations))
claim("Without a baseline, and with each relaxation, the mean stays above 0.35", undecided > 0.35, lowest=undecided)
away = {name: abs(end[name] - 0.5).max() for name in relaxations}
colder = away.pop("Gumbel-Softmax, λ = 0.1")
held = max(away.values())
claim(
    "Three relaxations end within 0.23 of one half; with λ = 0.1 a run is further away", held < 0.23 < colder, held=held
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Two ways to fail look alike. The plain score function is right on average, and its noise drowns it. Three of the
# relaxations are held near one half by their bias; with $\lambda = 0.1$ the runs wander. And a moving average that
# starts at 0 is slow for two reasons together: its first baseline, and Adam's long memory of the gradients that it
# made. Take either away, and it is fast. Started fairly, it is about as good as leave-one-out here, with half of the
# evaluations.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Hybrids: no bias, with the help of slopes
#
# $D = \arg\max(s + G)$ is the drawn option, of probability $\pi_D$, and $z = \operatorname{softmax}((s + G)/\lambda)$
# the relaxed sample of the *same* noise, at temperature $\lambda$:
#
# $$\big(\text{cost}(D) - \underbrace{\text{cost}(z)}_{\text{control variate}}\big)\, \nabla \log \pi_D
# \;+\; \underbrace{\nabla \text{cost}(z) - \nabla \text{cost}(z')}_{\text{puts back what was taken}}$$

# %% [markdown] slideshow={"slide_type": "notes"}
# There is a third way. A good baseline predicts the cost of *this* draw. The relaxed
# sample $z$ comes from the same noise as $D$, so its cost often moves with the cost of $D$. Such a helper is called a
# **control variate**. But it knows the draw, so subtracting it makes a bias. **REBAR** (Tucker et al. 2017) adds what
# is missing, as a gradient by backpropagation.
#
# The simplest hybrid needs no mixture. Guess the cost of each option, $c_k$, from $x$ alone:
# $(\text{cost}(k) - c_k)\, \nabla \log \pi_k + \sum_j c_j \nabla \pi_j$. The sum is the mean of what was taken.
#
# And $z'$? It has the same value as $z$, but is a function of the scores and of noise that was drawn *given that $D$
# won*.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## REBAR, whole · optional

# %% [markdown] slideshow={"slide_type": "skip"}
# **The noise, given the winner.** In notebook 02, clock $k$ rings at $T_k = E_k e^{-s_k}$, and the first one wins. The
# time $T_D$ of the first ring does not tell who rang: it is exponential with rate $\sum_k e^{s_k}$. From then on, each
# other clock waits for a new exponential time, $T_k - T_D$. With these noises fixed, the noisy scores $-\log T_k$ are
# functions of $s$ again, with other slopes:
#
# $$\begin{aligned}
# \text{behind } z: &\quad -\log T_k = s_k - \log E_k, \quad \text{slope for } s_j:\; [k = j] \\
# \text{behind } z': &\quad \tfrac{\partial}{\partial s_j} T_D = -\pi_j T_D, \quad
# \tfrac{\partial}{\partial s_j} (T_k - T_D) = -[k = j]\,(T_k - T_D)
# \end{aligned}$$
#
# The second line gives $-\log T_k$ the slope $[k = j] - \frac{T_D}{T_k}([k = j] - \pi_j)$. So the two differ by
# $\frac{T_D}{T_k}([k = j] - \pi_j)$, with the probabilities $\pi$.
#
# The function below is all of REBAR. `strength` multiplies $\text{cost}(z)$ and both of its gradients: 1 is the formula
# above, 0 is REINFORCE, and it is unbiased for *every* value. `rebar` is in the library.


# %% slideshow={"slide_type": "-"}
def rebar_by_hand(s, temperature, strength, generator):  # s: (N, K)
    noisy = s - torch.empty_like(s).exponential_(generator=generator).log()
    drawn = F.one_hot(noisy.argmax(-1), s.shape[-1]).float()
    noisy.requires_grad_()
    control = cost((noisy / temperature).softmax(-1))  # (N,)
    (slope,) = torch.autograd.grad(control.sum(), noisy)  # for each noisy score, (N, K)
    early = (noisy - noisy.max(-1, keepdim=True).values).exp()  # T_D / T_k
    slope = strength * slope * early
    by_score = (cost(drawn) - strength * control)[:, None] * (drawn - s.softmax(-1))
    return by_score + slope - slope.sum(-1, keepdim=True) * s.softmax(-1)


# %% [markdown] slideshow={"slide_type": "skip"}
# With the same noise, `rebar` has the same gradient, row by row.

# %% slideshow={"slide_type": "skip"}
rows = s.expand(1000, 3).clone().requires_grad_()
loss = rebar(cost, rows, 0.5, strength=0.8, generator=torch.Generator().manual_seed(seed))
by_hand = rebar_by_hand(s.expand(1000, 3), 0.5, 0.8, torch.Generator().manual_seed(seed))
torch.testing.assert_close(torch.autograd.grad(loss.sum(), rows)[0], by_hand.detach())

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Two evaluations of the cost, used in six ways

# %% [markdown] slideshow={"slide_type": "skip"}
# Each method gets **two evaluations of the cost**: two draws, or one draw of REBAR. The table adds what comes on top:
# slopes of the cost, and options that have to run for one choice (for a mixture, all). There are three problems: our
# three options; the bit; and 30 choices among three options at once, with *one* cost, the mean of 30 costs, each
# *linear* in $z$: the options cost 1, 0.3 and 0. "Expected cost" is the exact baseline; REBAR subtracts it, too. (An
# oracle: nobody counts its $K$ evaluations.) *Tuned*: of 5 temperatures and 4 strengths, 0 among them, the pair with
# the least spread, on other noise than the table's. Gumbel-Softmax has the temperature 0.3. A dash is a bias that does
# not show, below four standard errors.


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The six methods on the three problems
def estimates(loss_of, scores, samples, n=10_000):
    """n estimates, each the mean over some draws of the gradient of loss_of: (n, choices, K)."""
    rows = scores.expand(samples, n, *scores.shape).clone().requires_grad_()
    return torch.autograd.grad(loss_of(rows).sum(), rows)[0].mean(0)


def linear(z):
    return z @ torch.tensor([1.0, 0.3, 0.0])


def methods_for(cost, b):  # cost: (..., choices, K) -> (...); of each method its loss, draws, slopes, runs of options
    def score(rows, baseline):
        choice = sample(rows)
        costs = cost(choice.weights)
        log_prob = choice.log_prob.sum(-1)  # of independent choices: they add up
        return surrogate(costs, log_prob, baseline(costs) if callable(baseline) else baseline)

    def hybrid(rows, temperature, strength):
        return rebar(lambda z: cost(z) - b, rows, temperature, strength=strength)

    return {
        "score function": (partial(score, baseline=0.0), 2, 0, "<= 2"),
        "+ expected cost": (partial(score, baseline=b), 2, 0, "<= 2"),
        "leave one out": (partial(score, baseline=leave_one_out), 2, 0, "<= 2"),
        "REBAR, λ = 1, strength 1": (partial(hybrid, temperature=1.0, strength=1.0), 1, 1, "K"),
        "REBAR, tuned": (hybrid, 1, 1, "K"),
        "Gumbel-Softmax": (lambda rows: cost(gumbel_softmax(rows, 0.3).weights), 2, 2, "K"),
    }


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Measure them, REBAR tuned
def spread_of(e):
    return e.var(0).sum().sqrt().item()


problems = {"three options": (cost, s, 1), "the bit": (bit_cost, at_minus_1, 1), "30 choices": (linear, s, 30)}
pairs = [{"temperature": t, "strength": c} for t in (0.1, 0.3, 1.0, 3.0, 10.0) for c in (0.0, 0.1, 0.3, 1.0)]
# method, problem -> bias, spread (in units of the exact gradient), standard error of the mean
measured, picked = {}, {}
for problem, (f, scores_of_one, n_choices) in problems.items():
    leaf, scores = scores_of_one.clone().requires_grad_(), scores_of_one.expand(n_choices, -1)
    (truth,) = torch.autograd.grad(exact_expectation(f, leaf), leaf)
    truth = truth.expand(n_choices, -1) / n_choices
    methods = methods_for(lambda z, f=f: f(z).mean(-1), exact_expectation(f, leaf).item())
    hybrid = methods["REBAR, tuned"][0]
    pick = min(pairs, key=lambda pair: spread_of(estimates(partial(hybrid, **pair), scores, 1, n=3_000)))
    picked[problem] = pick["strength"]
    methods["REBAR, tuned"] = partial(hybrid, **pick), *methods["REBAR, tuned"][1:]
    print(f"{problem}: REBAR is tuned to λ = {pick['temperature']:g}, strength {pick['strength']:g}")
    for name, (loss_of, draws, _, _) in methods.items():
        e = estimates(loss_of, scores, draws) / truth.norm()
        bias = (e.mean(0) - truth / truth.norm()).norm().item()
        measured[name, problem] = bias, spread_of(e), spread_of(e) / len(e) ** 0.5

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Print: bias and spread, in units of the exact gradient
print("bias and spread in units of the exact gradient; -: no bias that shows")
print(" " * 24 + "".join(f"{problem:>16}" for problem in problems) + "  slopes  options")
print(" " * 24 + "    bias  spread" * 3 + "             run")
for name, (_, _, slopes, run) in methods.items():
    cells = ""
    for problem in problems:
        bias, spread, error = measured[name, problem]
        cells += f"{f'{bias:.2f}' if bias > 4 * error else '-':>8}{spread:8.2f}"
    print(f"{name:24}{cells}{slopes:8}  {run:>7}")


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about hybrids
spread = {key: values[1] for key, values in measured.items()}
seen = max(measured[name, p][0] / measured[name, p][2] for name in list(methods)[:5] for p in problems)
claim("REBAR and the score functions have no bias that shows", seen < 4, largest_in_standard_errors=seen)
tuned, constant = ([spread[name, p] for p in problems] for name in ("REBAR, tuned", "+ expected cost"))
claim(
    "For one choice of three, the constant baseline has less spread than tuned REBAR",
    constant[0] < tuned[0],
    constant=constant[0],
    rebar=tuned[0],
)
claim("On the bit, the best of our strengths for REBAR is 0", picked["the bit"] == 0)
lost = tuned[1] / constant[1]
claim("What is left there is one draw, not two: a spread of about root 2 times", 1.2 < lost < 1.6, times=lost)
ratio = tuned[0] * unit / least
claim("On three options it is, to within 10 %, at one draw with the best b", abs(ratio - 1) < 0.1, ratio=ratio)
mixtures = cost(gumbel_softmax(s.expand(10_000, 3), 10.0).weights).std() / (pi @ (costs - expected) ** 2).sqrt()
claim("At λ = 10 the costs of mixtures vary less than a tenth as much as the options'", mixtures < 0.1, share=mixtures)
pairwise = spread["leave one out", "three options"]
claim("On three options tuned REBAR beats leave-one-out", tuned[0] < 0.8 * pairwise, leave_one_out=pairwise)
noisier = pairwise > spread["score function", "three options"]
claim("There, leave-one-out with two draws is noisier than no baseline", noisier)
claim(
    "For 30 choices it has less than two thirds of the spread",
    tuned[2] < constant[2] / 1.5,
    constant=constant[2],
    rebar=tuned[2],
)
untuned = min(spread["REBAR, λ = 1, strength 1", p] / spread["+ expected cost", p] for p in problems)
claim("Untuned, it is noisier than the constant baseline on all three", untuned > 1, smallest_ratio=untuned)
smallest = min(measured["Gumbel-Softmax", p][0] for p in problems)
claim("Gumbel-Softmax has a bias on each problem", smallest > 0.02, smallest=smallest)

# %% [markdown] slideshow={"slide_type": "notes"}
# REBAR has no bias, and with 30 choices and a linear cost it has clearly less noise than a constant baseline. But it
# has to be tuned (in the paper, temperature and strength are learned along the way). **The two small problems do not
# test its mixture.** On the bit the best of our strengths is 0. On three options it is as good as one draw with the
# best $b$: at $\lambda = 10$ all mixtures cost nearly the same, so it only moves $b$. Leave-one-out is no ideal either:
# with two draws its baseline is *one* other cost, and noisy itself.
#
# What it asks for: a cost that is **differentiable, and defined for mixtures**, one slope, and a run of every option.
# **RELAX** (Grathwohl et al. 2018) replaces $\text{cost}(z)$ by a small network that is trained to make the estimate
# less noisy; then even a black box will do. We did not measure it.


# %% [markdown] slideshow={"slide_type": "slide"}
# ## Find the digit, by REINFORCE
#
# The task of notebook 02: nine patches, one digit, one look. The network of notebook 02, too:
# a scorer and a classifier, trained together from the class alone.

# %% [markdown] slideshow={"slide_type": "skip"}
# The scorer gives all nine patches a score. REINFORCE draws $S$ of them at random and classifies *only these*;
# Gumbel-Softmax has to classify all nine for its gradient. The function below is the whole loss, the classifier's part
# included. `reinforce` of `lecture_lib.recorded.reinforce` is the same one; with the same noise both give the same
# numbers. (`cross_entropy` wants the classes in dimension 1: `y.mT` puts them there.)


# %% slideshow={"slide_type": "-"}
def loss_by_hand(finder, patches, label, samples, baseline):
    x = patches.flatten(2)  # (B, 9, 64)
    choice = sample(finder.scores(patches).expand(samples, -1, -1))  # (S, B, 9)
    picked = x[torch.arange(len(x)), choice.weights.argmax(-1)]  # (S, B, 64)
    y = finder.classify(picked)  # S classifications a scene, not nine
    cost = F.cross_entropy(y.mT, label.expand(samples, -1), reduction="none")
    return surrogate(cost, choice.log_prob, baseline(cost))


# %% [markdown] slideshow={"slide_type": "skip"}
# We compare the two on one batch of 64 scenes.

# %% slideshow={"slide_type": "skip"}
finder, (patches, label, _) = Finder(sample), next(scenes(seed))
losses = []
for loss in (loss_by_hand, reinforce):
    torch.manual_seed(seed)
    losses.append(loss(finder, patches, label, samples=4, baseline=leave_one_out))
torch.testing.assert_close(*losses)

# %% [markdown] slideshow={"slide_type": "skip"}
# One training, live: $S = 4$, leave-one-out, 500 steps. Mind two numbers for one network. Training minimises the
# expected cost of a patch that is **sampled**; at test time we report the patch with the **highest** score (*looking
# once*, by argmax). The table shows both. (Seed 0 is the best of five at this number of steps: see the record below.)

# %% slideshow={"slide_type": "skip"}
finder, history = train(reinforce, samples=4, lr=5e-3, seed=seed)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: by argmax and by sampling, and the claim
print("step    accuracy by argmax   by a sampled patch   entropy of the choice")
for row in history:
    print(f"{row['step']:4}{row['accuracy']:22.2f}{row['accuracy, sampled']:21.2f}{row['entropy']:24.2f}")
gap = history[-1]["accuracy"] - history[-1]["accuracy, sampled"]
claim("Argmax is better than sampling, by less than 0.1", 0 < gap < 0.1, gap=gap)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## What holds it back: noise, or early commitment?

# %% [markdown] slideshow={"slide_type": "skip"}
# Two suspects. **Noise:** a few samples are a poor estimate. **Early commitment:** the scorer becomes sure of its
# choice while the classifier is still poor, and then hardly tries the other patches. To test a cause, take it away.
# *Noise away:* more samples (32 are at most nine *different* patches; we count draws), and at last the **exact
# gradient**, by nine classifications added up. *Commitment away:*
# an **entropy bonus**. The entropy $-\sum_k \pi_k \log \pi_k$ of the probabilities is 0 for a sure choice, and $\log 9
# \approx 2.2$ for a uniform one; 0.1 times the entropy is subtracted from the loss.
#
# This is **recorded**: 5 seeds, and the same three learning rates for all. At each number of steps that we report, each
# method has the rate that is best there on *validation* scenes. Gumbel-Softmax (temperature $\lambda = 2$, 3 seeds) is
# from the record of notebook 02. For $S = 1$ the baseline is a moving average, for more samples leave-one-out. (`python
# -m lecture_lib.recorded reinforce` makes the record again.)

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** With $S = 4$, and 500 steps: what helps more, to take all noise away, or to add the bonus?
#
# <details><summary>A. The exact gradient: noise is the problem of REINFORCE.</summary>
#
# **Nearly.** It helps a lot. But the bonus alone, with four samples, helps about as much.
#
# </details>
#
# <details><summary>B. The bonus: the noise averages out over the steps.</summary>
#
# **Nearly.** It helps a lot. But so does the exact gradient alone.
#
# </details>
#
# <details><summary>C. Each about as much.</summary>
#
# **Yes.** Both are causes, and they are linked: either cure alone closes most of the gap to Gumbel-Softmax.
#
# </details>

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Read the two records, pick learning rates on the validation scenes
record, RATE = recorded.load("reinforce"), 5e-3
RATES, GUMBEL = record["grid"]["lr"], "Gumbel-Softmax, λ = 2"
entries = record["entries"] + [e for e in recorded.load("gumbel_softmax")["entries"] if e["way"] == GUMBEL]


def values(way, what, lr=RATE):
    """One measure of a method at one rate: its steps, and its values (seeds, steps)."""
    mine = [e for e in entries if (e["way"], e["lr"]) == (way, lr)]
    return np.array(mine[0]["step"]), np.array([e[what] for e in mine])


def at(way, step, what="accuracy"):
    """After so many steps, at the rate that is best there on validation scenes: a value a seed.

    Between two recorded steps: on the straight line; after the last one: its value."""

    def here(what, lr):
        steps, rows = values(way, what, lr)
        return np.array([np.interp(step, steps, row) for row in rows])

    return here(what, max(RATES, key=lambda lr: here("validation", lr).mean()))


# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Noise away, commitment away

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Print: after 500 steps, and the claims
noisy = ["REINFORCE, S = 1", "REINFORCE, S = 4", "REINFORCE, S = 32", "exact gradient"]
curious = ["REINFORCE, S = 4, bonus", "exact gradient, bonus"]
all_ways = [*noisy, *curious, GUMBEL, "Gumbel-Softmax, bonus"]
print("after 500 steps           looking once (by seed)   a sampled patch   entropy at step 100")
for way in all_ways:
    now = at(way, 500)
    row = f"{way:25}{now.mean():8.3f} ({now.min():.2f} to {now.max():.2f})"
    if way != GUMBEL:  # the record of notebook 02 does not hold these
        row += f"{at(way, 500, 'accuracy, sampled').mean():14.3f}{at(way, 100, 'entropy').mean():19.2f}"
    print(row)
one, four, many, exactly, four_bonus, exact_bonus, soft, soft_bonus = (at(way, 500).mean() for way in all_ways)
claim("32 samples are more than 0.1 better than 1 or 4", many > max(one, four) + 0.1, one=one, four=four, many=many)
claim("32 samples are within 0.02 of the exact gradient", abs(many - exactly) < 0.02, many=many, exact=exactly)
claim(
    "From S = 4, the exact gradient and the bonus gain about as much: each more than 0.1, and within 0.05",
    min(exactly, four_bonus) > four + 0.1 and abs(exactly - four_bonus) < 0.05,
    exact=exactly - four,
    bonus=four_bonus - four,
)
claim("Both together gain more than either", exact_bonus > max(exactly, four_bonus) + 0.03, both=exact_bonus - four)
overlap = exactly + four_bonus - four - exact_bonus
claim("But less than the sum of the two gains: they overlap", overlap > 0.05, overlap=overlap)
claim("The bonus helps Gumbel-Softmax, too, by less than 0.05", 0 < soft_bonus - soft < 0.05, gain=soft_bonus - soft)
doubts = [at(way, 100, "entropy").mean() for way in (*noisy, *curious)]
low, high = min(doubts[4:]), max(doubts[:4])
claim("With the bonus the entropy at step 100 is higher", low > high + 0.1, lowest_with=low, highest_without=high)
claim(
    "Without it, 32 samples and the exact gradient are surer at step 100 than 1 or 4",
    max(doubts[2:4]) < min(doubts[:2]),
)
ends = [at(way, 2700).mean() for way in (*noisy[:2], noisy[3], GUMBEL)]
claim(
    "At their ends S = 1, S = 4, exact and Gumbel-Softmax are within 0.04",
    max(ends) - min(ends) < 0.04,
    low=min(ends),
    high=max(ends),
)
gaps = [at(way, 500).mean() - at(way, 500, "accuracy, sampled").mean() for way in (*noisy, *curious)]
claim("A sampled patch is right less often than argmax, by less than 0.04", 0 < min(gaps) and max(gaps) < 0.04)

# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Draw: accuracy after 500 steps, a dot for each seed
fig, ax = plt.subplots(figsize=(10, 4.0))
for i, way in enumerate(all_ways[::-1]):
    now, colour = at(way, 500), "C2" if way.startswith("Gumbel") else ("C1" if "bonus" in way else "C0")
    ax.plot(now, np.full(len(now), i), "o", ms=7, color=colour, alpha=0.5, mew=0)
    ax.plot(now.mean(), i, "|", ms=22, mew=3, color=colour)
ax.set_yticks(range(len(all_ways)), all_ways[::-1])
ax.set(xlabel="test accuracy, looking once, after 500 steps", xlim=(0, 1), ylim=(-0.6, len(all_ways) - 0.4))
for colour, name in (("C0", "REINFORCE, exact"), ("C1", "the same, with bonus"), ("C2", "Gumbel-Softmax")):
    ax.plot([], [], "o", color=colour, label=name)
ax.plot([], [], "|", ms=14, mew=3, color="0.4", label="mean of the seeds")
ax.legend(frameon=False, loc="center left")
ax.set_title(f"each at its best learning rate; {record['label']} ({GUMBEL}: 3)", fontsize="small", color="0.3")
show(
    fig,
    "Test accuracy after 500 steps. REINFORCE with one sample is at 0.63 on average, with 4 at 0.70, with 32 and with "
    "the exact gradient at 0.83. With the bonus S = 4 is at 0.86 and the exact gradient at 0.90; Gumbel-Softmax is at "
    "0.88, with the bonus 0.89. With few samples the seeds differ much.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Noise is a cause.** 32 samples are as good as the exact gradient. (From 1 to 4 the seeds do not agree.) **Early
# commitment is a cause, too:** the bonus alone lifts $S = 4$ by about as much (it also changes what is drawn). Both
# together bring the most, and the gains overlap: 0.13 and 0.16 alone, 0.20 together. *Less* noise goes with a lower
# entropy at step 100.
#
# **It is a matter of speed:** run longer, and the four without the bonus end close together ($S = 1$ after 2,700 steps,
# Gumbel-Softmax 2,000, $S = 4$ and the exact gradient 1,300). And the bonus helps Gumbel-Softmax a little, too.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: count everything ★★☆ 3 min
#
# On paper, for the forward pass of one scene. The scorer takes 4,160 FLOPs for each patch, the classifier 9,472.
# Gumbel-Softmax scores and classifies nine patches; REINFORCE with $S = 1$ scores nine and classifies one. How many
# times fewer FLOPs does REINFORCE need?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
times = ...

check("times_fewer", times)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
check("times_fewer", 9 * (4160 + 9472) / (9 * 4160 + 9472))

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Equal in what?
#
# "After 500 steps" is one way to be fair. REINFORCE classifies fewer patches in each step. If classifications are what
# is expensive, compare at equal **classifications**; if everything is, at equal **FLOPs**, the scorer and the backward
# pass included. We count the FLOPs of one training step (without the bonus: nine terms, almost free). For FLOPs we take
# two budgets: the order may depend on it.


# %% slideshow={"slide_type": "skip"}
def flops(loss):  # of one training step, forward and backward, for each scene
    return count_flops(lambda: loss(finder, patches, label).mean().backward()) / len(label)


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: at equal steps, equal classifications, equal FLOPs
step_of = {  # classifications and FLOPs, for each scene
    GUMBEL: (9, flops(relaxed)),
    "exact gradient": (9, flops(exact_loss)),
    "REINFORCE, S = 4": (4, flops(partial(reinforce, samples=4, baseline=leave_one_out))),
    "REINFORCE, S = 1": (1, flops(partial(reinforce, baseline=MovingAverage(0.9)))),
}
step_of |= {"Gumbel-Softmax, bonus": step_of[GUMBEL], "exact gradient, bonus": step_of["exact gradient"]}
step_of |= {"REINFORCE, S = 4, bonus": step_of["REINFORCE, S = 4"]}
print("                      a step, for each scene          accuracy, looking once, at equal")
print("                         classified    FLOPs    steps  classifications  FLOPs: 200      400")
cells = {}
for way, (classified, each) in step_of.items():
    fair = step_of[GUMBEL][1] / each  # steps for the FLOPs of one step of Gumbel-Softmax
    cells[way] = [at(way, budget).mean() for budget in (500, 300 * 9 // classified, 200 * fair, 400 * fair)]
    row = "{:9.3f}{:17.3f}{:12.3f}{:9.3f}".format(*cells[way])
    print(f"{way:25}{classified:10}{each:9,.0f}{row}")
print("equal: 500 steps; the classifications of 300, and the FLOPs of 200 and of 400 steps of Gumbel-Softmax,")
print("on the straight line between two measured steps (each way was measured every 100 steps)")
fewer = step_of[GUMBEL][1] / step_of["REINFORCE, S = 1"][1]
claim("S = 1 needs a ninth of the classifications, but 2.5 to 3 times fewer FLOPs", 2.5 < fewer < 3, flops=fewer)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about the three axes
pair_names, four = ("exact gradient, bonus", "Gumbel-Softmax, bonus"), cells["REINFORCE, S = 4, bonus"]
pair, alone = [cells[way] for way in pair_names], cells["REINFORCE, S = 1"]
others = [max(cell[0] for way, cell in cells.items() if way not in pair_names)]
others.append(max(cell[1] for way, cell in cells.items() if way != "REINFORCE, S = 1"))
apart, ahead = abs(pair[0][0] - pair[1][0]), min(pair[0][0], pair[1][0]) - others[0]
claim(
    "By steps, exact gradient and Gumbel-Softmax, both with bonus, are level to within 0.02", apart < 0.02, apart=apart
)
claim("Both lead all the others, by more than 0.01", ahead > 0.01, lead=ahead)
claim("At equal steps, S = 1 is more than 0.2 behind Gumbel-Softmax", alone[0] < cells[GUMBEL][0] - 0.2)
lead = alone[1] - others[1]
claim("At equal classifications S = 1 leads all others, by more than 0.02", lead > 0.02, lead=lead)
lead = four[2] - max(cell[2] for cell in cells.values() if cell is not four)
claim("By FLOPs, S = 4 with the bonus leads all at the smaller budget, by more than 0.02", lead > 0.02, lead=lead)
last = [cell[3] for cell in (four, *pair)]
claim("At the larger one the three with the bonus are within 0.02", max(last) - min(last) < 0.02, low=min(last))
behind = min(four[2], pair[0][2], pair[1][2]) - alone[2]
claim("S = 1 is more than 0.08 behind each of them at the smaller one", behind > 0.08, behind=behind)
claim(
    "S = 1 is behind each by less than 0.03 at the larger one", 0 < min(last) - alone[3] < max(last) - alone[3] < 0.03
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## By steps, by classifications, by FLOPs

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: accuracy over three axes
fig, axes = plt.subplots(1, 3, figsize=(10, 4.0), sharey=True)
drawn = [GUMBEL, "Gumbel-Softmax, bonus", "exact gradient, bonus", "REINFORCE, S = 4, bonus", "REINFORCE, S = 1"]
for i, way in enumerate(drawn):
    steps = values(way, "accuracy")[0]
    accuracy = np.stack([at(way, step) for step in steps], 1)  # at each step at the best rate there, as in the table
    classified, each = step_of[way]
    style = {"color": f"C{i}", "ls": ["-", "-.", "--", (0, (5, 1, 1, 1)), ":"][i], "marker": "sv^Do"[i]}
    for ax, x in zip(axes, (steps, steps * classified, steps * each / 1e6), strict=True):
        ax.fill_between(x, accuracy.min(0), accuracy.max(0), color=f"C{i}", alpha=0.12, lw=0)
        ax.plot(x, accuracy.mean(0), lw=2, label=way, markevery=max(1, len(x) // 5), **style)
limits = (1300, "training step"), (5000, "classifications a scene"), (130, "million FLOPs a scene")
for ax, (limit, name) in zip(axes, limits, strict=True):
    ax.set(xlabel=name, xlim=(0, limit), ylim=(0, 1))
axes[0].set_ylabel("test accuracy, looking once")
axes[1].legend(frameon=False, fontsize="small", loc="lower right", labelspacing=0.25)
fig.suptitle(
    f"each at its best learning rate; {record['label']} (Gumbel-Softmax without bonus: 3)",
    fontsize="small",
    color="0.3",
)
show(
    fig,
    "Test accuracy, mean and range of seeds, over three axes. By training steps the exact gradient and Gumbel-Softmax, "
    f"both with the bonus, lead ({pair[0][0]:.2f} and {pair[1][0]:.2f} after 500), and REINFORCE with one sample is "
    f"last ({alone[0]:.2f}). By classifications REINFORCE with one sample leads. By FLOPs REINFORCE with four samples "
    "and the bonus leads at first; later the three with the bonus are level; REINFORCE with one sample is behind.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **By steps** the exact gradient and Gumbel-Softmax, each with the bonus, lead, and are level. **By classifications**
# REINFORCE with one sample leads, by 0.03. But it makes nine times as many *updates* with them as these two, four times
# as many as $S = 4$; that may be a good part of its lead. And we count draws: where $S = 4$ draws a patch twice, it
# could classify it once. **By FLOPs** $S = 4$ with the bonus leads with the small budget, by 0.03 (the seeds overlap);
# with the large one it is level with the other two that have the bonus. (The scorer runs on all nine patches in each.)
# $S = 1$ is about 0.1 or more behind with the small budget and close with the large one, but *without* the bonus: with
# it we have no record.
#
# So it depends on the price of an option. With a classifier as cheap as ours the gain is small, and in the end none.
# For options that are far more expensive than their scores, the middle panel counts. All of this is one task and one
# small network.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Why the talk is right: many choices
#
# Not one choice but thousands (12 layers × 196 patches), each with its own scores (made by shared weights), and *one*
# cost for all of them.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** $N$ independent choices, and their mean cost. How does the noise of the score function, over the length
# of the true gradient, grow with $N$?
#
# <details><summary>A. Not at all</summary>
#
# **No.** Each choice is judged by a cost in which the other $N - 1$ choices are noise.
#
# </details>
#
# <details><summary>B. Like the root of N</summary>
#
# **Yes.** The noise of the others adds up like independent numbers do. (The first steps are steeper.)
#
# </details>
#
# <details><summary>C. Like N</summary>
#
# **No.** It would, if all the others were wrong in the same direction.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# We measure it for up to 100 choices, with the linear cost from above, for the score function and for two methods with
# a temperature. To test the reason in answer B, we take it away: in the row *each its own cost* each choice is
# charged with its cost alone. (Possible here because the cost is a sum. In a network it is not.) The last row
# is the first one again, but all choices *share* one vector of three scores.

# %% slideshow={"slide_type": "skip"}
expected_cost = exact_expectation(linear, s).item()


def own_cost(rows):  # a surrogate for each choice, instead of one for all
    choice = sample(rows)
    return surrogate(linear(choice.weights), choice.log_prob, expected_cost).mean(-1)


by_score = methods_for(lambda z: linear(z).mean(-1), expected_cost)["+ expected cost"][0]  # folded above; 0: its loss
lines = {
    "score function, one cost for all": by_score,
    "Gumbel-Softmax, λ = 1": lambda rows: linear(gumbel_softmax(rows, 1.0).weights).mean(-1),
    "REBAR, λ = 0.3, strength 1": lambda rows: rebar(lambda z: linear(z).mean(-1), rows, 0.3),
    "score function, each its own cost": own_cost,
}

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Measure and print: noise over signal, and the claims
lengths, noise, shared = [1, 3, 10, 30, 100], {}, []
leaf = s.clone().requires_grad_()
(truth,) = torch.autograd.grad(exact_expectation(linear, leaf), leaf)
print(f"{'choices':34}" + "".join(f"{n:7}" for n in lengths))
for name, loss_of in lines.items():
    noise[name] = []
    for n in lengths:
        e = estimates(loss_of, s.expand(n, -1), 1, n=max(2_000, 30_000 // n))
        noise[name].append(spread_of(e) / (truth.norm().item() / n**0.5))  # N entries, each 1/N of one choice's
        if loss_of is by_score:  # one vector of scores for all: their gradients add up
            shared.append(spread_of(e.sum(1)) / truth.norm().item())
noise["score function, shared scores"] = shared
for name, row in noise.items():
    print(f"{name:34}" + "".join(f"{value:7.2f}" for value in row))
joint, pathwise, mixed, alone, shared = noise.values()
square = joint[0] ** 2, (joint[4] ** 2 - joint[0] ** 2) / 99
print(f"(noise / signal)² = {square[0]:.2f} + (N - 1) · {square[1]:.2f}, from the first and the last")
misfit = max(abs((square[0] + (n - 1) * square[1]) ** 0.5 / x - 1) for n, x in zip(lengths, joint, strict=True))
claim("This line fits the others to within 6 %", misfit < 0.06, off_at_most=misfit)
growth = joint[4] / joint[2]
claim("From 10 to 100 choices it grows by the root of 10, to within 15 %", abs(growth / 10**0.5 - 1) < 0.15, by=growth)
flat = max(max(x) / min(x) for x in (pathwise, alone))
claim("Gumbel-Softmax and the score function with own costs are flat to within 20 %", flat < 1.2, largest_ratio=flat)
claim("REBAR starts higher", mixed[0] > 1.5 * joint[0], rebar=mixed[0], score=joint[0])
rise, height = mixed[4] / mixed[3] / (100 / 30) ** 0.5, mixed[4] / joint[4]
claim("From 30 to 100 REBAR grows by the root, too, to within 15 %", abs(rise - 1) < 0.15, of_the_root=rise)
claim("There it is at 0.35 to 0.45 of the height", 0.35 < height < 0.45, height=height)
two = joint[4] / 2**0.5  # of two draws: REBAR evaluates the cost twice
claim("At 100 choices REBAR has less than two thirds of the noise of two draws", mixed[4] < two / 1.5, two_draws=two)
claim("With shared scores, 10 to 100 choices are level to within 15 %", max(shared[2:]) < 1.15 * min(shared[2:]))
claim("There it is 1.7 to 2.4 times that of one", 1.7 < shared[4] / shared[0] < 2.4, times=shared[4] / shared[0])

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Noise grows with the choices

# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Draw: noise over signal against the number of choices
fig, ax = plt.subplots(figsize=(10, 3.6))
plots.curves(ax, lengths, {name: [values] for name, values in noise.items()})
ax.set(xscale="log", yscale="log", xlabel="choices at once, N", ylabel="noise / signal", ylim=(0.25, 30))
ax.set_xticks(lengths, [str(n) for n in lengths])
ax.set_yticks([0.3, 1, 3, 10], ["0.3", "1", "3", "10"])
ax.minorticks_off()
show(
    fig,
    "Noise over signal of one estimate against the number of choices, both axes logarithmic. The score function with "
    f"one cost for all rises from {joint[0]:.1f} to {joint[4]:.0f} at 100 choices, REBAR from {mixed[0]:.1f} to "
    f"{mixed[4]:.0f}. Gumbel-Softmax, and the score function with own costs, stay flat below 1; with shared scores it "
    f"ends at {shared[4]:.1f}.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# REINFORCE sees one number for all choices together, and to each choice the others are noise. The square of noise over
# signal is $A + (N - 1) B$: its own draw, and the costs of the others. So it grows like $\sqrt{N}$ once $N$ is large.
# Charge each choice with its own cost, and the growth is gone: the single cost is the cause. Gumbel-Softmax (here at
# temperature 1) gives *each* choice its own slope. REBAR, too, uses slopes: it starts higher, and in the end grows like
# $\sqrt{N}$ as well, at 0.4 of the height.
#
# This is the case against reinforcement learning: many choices with **scores of their own**, and a cost that *is*
# differentiable. Where all share one vector of scores, $N$ equal gradients add up in it, and the line levels off
# at twice the noise of one choice. A router shares its weights, and sees different inputs: perhaps it lies between. We
# did not measure one.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: enough samples ★★☆ 4 min
#
# On paper. With 100 choices under one cost, the noise over signal of a single sample is 12. Now there are 400 choices,
# each with scores of its own. How many samples have to be averaged to bring noise over signal down to 3?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
samples = ...

check("enough_samples", samples)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# one sample: √4 · 12 = 24 (N is large); the mean of S samples: 24 / √S = 3, so √S = 8
check("enough_samples", 8**2)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where it wins: a black box
#
# The classifier is no network now: scikit-learn's three nearest neighbours, frozen.
# The cost is its mistake, 0 or 1. Only the scorer learns.

# %% [markdown] slideshow={"slide_type": "skip"}
# A *black box* takes an input and says something; there is no slope. `mistakes` asks the neighbours (of 1,000 training
# digits), and is 1 where their answer is not the label, else 0. REINFORCE has a moving average as its baseline. We try
# what Gumbel-Softmax would need: classify a mixture of nine patches, and go backward.

# %% slideshow={"slide_type": "-"}
z = gumbel_softmax(torch.zeros(64, 9, requires_grad=True), 2.0).weights
blend = (z.unsqueeze(-1) * patches.flatten(2)).sum(1)  # a bit of every patch, (64, 64)
mistakes(blend, label).requires_grad

# %% [markdown] slideshow={"slide_type": "notes"}
# `False`: the neighbours are not PyTorch, so nothing comes back. And a *blend* of nine patches is no patch. REBAR fails
# for the same two reasons. Straight-through shows the box one real patch, but it, too, needs a slope. The score
# function asks for neither.
#
# It has rivals all the same. (1) **Nine calls** for each scene, added up: the exact gradient. (2) **A predictor**
# (*predict*), a simple method for contextual bandits: call the box for one patch, and train the score of this patch to
# predict "right or wrong", like any classifier. Which patch? Any one (*uniform*), or one that is drawn from the softmax
# of the scores (*own softmax*). At test time look where the prediction is best.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## It learns from right and wrong alone

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: four ways to use a black box, recorded, and the claims
entries += recorded.load("reinforce_predictor")["entries"]
boxes = {"REINFORCE": 1, "exact gradient": 9, "predict, uniform": 1, "predict, own softmax": 1}
names = {name: f"box: {name}" for name in boxes} | {"predict, uniform": "box: predict the answer"}
print("after 500 steps       calls for each scene   looking once (by seed)   a sampled patch")
for name, calls in boxes.items():
    now, sampled = at(names[name], 500), f"{'-':>14}"
    if "predict" not in name:
        sampled = f"{at(names[name], 500, 'accuracy, sampled').mean():14.3f}"
    print(f"{name:22}{calls:10}{now.mean():19.3f} ({now.min():.2f} to {now.max():.2f}){sampled}")
early = at("box: exact gradient", 100).mean()
print(f"the exact gradient after 100 steps, 900 calls for each scene: {early:.3f}")
sampling, adding, uniform, drawing = (at(name, 500).mean() for name in names.values())
claim("REINFORCE finds the digit with one call, above 0.85", sampling > 0.85, accuracy=sampling)
claim("With nine calls the exact gradient is less than 0.05 better", 0 < adding - sampling < 0.05, exact=adding)
claim("With fewer calls, 500, REINFORCE is ahead of the exact gradient with 900", sampling > early + 0.1, exact=early)
claim("Predicting a uniform patch is more than 0.1 behind", uniform < sampling - 0.1, predicting=uniform)
rising = uniform - at(names["predict, uniform"], 300).mean()
claim("Predict, uniform, is still rising", rising > 0.05, gained_after_step_300=rising)
apart = drawing - sampling
claim("Predicting a patch of its own softmax is within 0.03 of REINFORCE", abs(apart) < 0.03, difference=apart)
gap = sampling - at("box: REINFORCE", 500, "accuracy, sampled").mean()
claim("REINFORCE is trained on samples: a sampled patch is right less often than argmax", gap > 0.02, gap=gap)

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: accuracy against calls of the box
fig, ax = plt.subplots(figsize=(10, 3.8))
for i, (name, calls) in enumerate(boxes.items()):
    steps = values(names[name], "accuracy")[0]
    accuracy = np.stack([at(names[name], step) for step in steps], 1)  # at the best rate there, as in the table
    ax.fill_between(steps * calls, accuracy.min(0), accuracy.max(0), color=f"C{i}", alpha=0.15, lw=0)
    style = {
        "label": f"{name}, {calls} call{'s' * (calls > 1)} a scene",
        "ls": ["-", "--", "-.", ":"][i],
        "marker": "os^D"[i],
    }
    ax.plot(steps * calls, accuracy.mean(0), color=f"C{i}", lw=2.2, **style)
ax.set(xlabel="calls of the box, for each scene of a batch (log scale)", xscale="log", ylim=(0, 1))
ax.set(ylabel="test accuracy, looking once")
ax.set_xticks([100, 300, 1000, 3000], ["100", "300", "1,000", "3,000"])
ax.minorticks_off()
ax.legend(frameon=False, loc="lower right")
ax.set_title(f"each at its best learning rate; {record['label']} (own softmax: 3 seeds)", fontsize="small", color="0.3")
show(
    fig,
    f"Test accuracy against calls of the black box, on a logarithmic axis. After 500 calls a scene REINFORCE is at "
    f"{sampling:.2f}, predicting a patch of its own softmax at {drawing:.2f}, predicting a uniform patch at "
    f"{uniform:.2f} and still rising. The exact gradient needs nine calls for each step and ends at {adding:.2f}.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# One bit for each scene, right or wrong, and the scorer finds the digit. With nine calls each *step* is better, and the
# end a little; if calls are cheap, add them up. By calls REINFORCE is ahead of that (0.89 against 0.66: 500 updates
# against 100). **A predictor that tries what it believes in is close at the end** (0.87 and 0.89; the ranges of their
# seeds, 3 and 5, overlap), and slower on the way. It needs no gradient of a choice at all. If it tries patches
# uniformly it is far slower: eight calls in nine go to clutter.
#
# Training counts mistakes of a *sampled* patch, we report *argmax*: two numbers again. Frozen experts behind an
# interface, a database, a click of a user, a measured time: here the score function, or such a predictor, is the tool.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## REINFORCE or a relaxation?
#
# | | score function | REBAR | Gumbel-Softmax |
# |:---|:---|:---|:---|
# | bias | none | none | large when hot |
# | noise | large with many separate choices | less for many, linear cost | large when cold |
# | runs | what was picked | every option | every option |
# | asks for | the cost | its slope | its slope |
# | needs | a baseline | much tuning | a temperature |
#
# **Avoid RL** where the cost has a slope and choices are many, with scores of their own.
# **Use it** for black boxes, and for few choices among expensive options.

# %% [markdown] slideshow={"slide_type": "notes"}
# So the advice of the talk is good where many choices have scores of their own and the cost has a slope; it is no law.
# Where REINFORCE fails: many choices and one cost; no baseline, or one that has seen its own draw. If the cost is a sum
# over time, charge each choice only with what comes after it. And if there is one choice among a few cheap options: add
# them up, and estimate nothing.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# $$\nabla \, \mathbb{E}[\text{cost}] = \mathbb{E}\big[(\text{cost}(k) - b)\, \nabla \log \pi_k\big]$$
#
# - Try an option; raise its probability if it did better than usual.
# - It needs one option and no slope. It has no bias.
# - "Usual" is the baseline: never from the draw itself, and with a fair start.
# - Noise grows with the number of separate choices under one cost: there, follow the talk's advice.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - R. J. Williams, *Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning*, Machine
#   Learning 8, 1992: REINFORCE, baselines.
# - R. S. Sutton, A. G. Barto, *Reinforcement Learning: An Introduction*, 2nd edition, 2018: contextual bandits.
# - J. Schulman, N. Heess, T. Weber, P. Abbeel, *Gradient Estimation Using Stochastic Computation Graphs*, NeurIPS 2015.
# - G. Tucker, A. Mnih, C. J. Maddison, D. Lawson, J. Sohl-Dickstein, *REBAR: Low-Variance, Unbiased Gradient Estimates
#   for Discrete Latent Variable Models*, NeurIPS 2017.
# - W. Grathwohl, D. Choi, Y. Wu, G. Roeder, D. Duvenaud, *Backpropagation through the Void*, ICLR 2018: RELAX, and the
#   target 0.499.
# - W. Kool, H. van Hoof, M. Welling, *Buy 4 REINFORCE Samples, Get a Baseline for Free!*, ICLR 2019 workshop: leave one
#   out.
# - M. B. Paulus, C. J. Maddison, A. Krause, *Rao-Blackwellizing the Straight-Through Gumbel-Softmax Gradient
#   Estimator*, ICLR 2021.
# - S. Mohamed, M. Rosca, M. Figurnov, A. Mnih, *Monte Carlo Gradient Estimation in Machine Learning*, JMLR 21, 2020: a
#   survey.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
