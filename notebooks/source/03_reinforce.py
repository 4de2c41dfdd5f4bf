# %% [markdown] slideshow={"slide_type": "slide"}
# # REINFORCE: learning from a choice that was made
#
# **Notebook 03** · *Designing efficient and modular neural networks*
#
# Choose one option, run it, see what it cost. No mixture, no derivative of the cost.
# How can the scores still learn?

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you will be able to do.** Derive the score function in three lines; choose a baseline and say what it can and
# cannot do; tell when REINFORCE beats a relaxation, and when to leave it alone. You need: notebook 02 (the three
# options, Gumbel-Softmax, find the digit). About 40 minutes with the two exercises.

# %% slideshow={"slide_type": "skip"}
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from lecture_lib import plots
from lecture_lib.choice import gumbel_softmax, keep_or_discard, sample, straight_through
from lecture_lib.data import digits, find_the_digit
from lecture_lib.estimators import (
    MovingAverage,
    exact_expectation,
    gradient_statistics,
    gumbel_rao,
    leave_one_out,
    surrogate,
)
from lecture_lib.models import MLP
from lecture_lib.notebook import check, setup, show
from lecture_lib.training import evaluate, fit
from lecture_lib.widgets import Estimators

seed = setup(0)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## "Avoid reinforcement learning"
#
# So says the talk. But a network that chooses *is* an agent:
#
# | reinforcement learning | here |
# |:---|:---|
# | state, policy | input $x$, probabilities $\pi = \operatorname{softmax}(s)$ |
# | action | the option $k$ that runs |
# | reward | minus the cost |
# | episode | one forward pass |
#
# One action, one reward, and it is over. How bad can it be?

# %% [markdown] slideshow={"slide_type": "notes"}
# "Simone doesn't like RL", say the notes of the talk. With a smile: the advice is good, and its reasons are worth
# knowing. REINFORCE (Williams 1992) is the oldest way to train a choice, and the only one so far that is unbiased and
# asks *nothing* of the cost. Its bad name is variance. We measure how bad it is, repair what can be repaired, and let
# it compete with Gumbel-Softmax on the digits.
#
# **Predict:** with one choice among nine patches, who needs fewer classifications to learn where to look?

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
# Line one: the randomness sits in $\pi$, so the gradient does as well. The costs are just numbers. Line two multiplies
# and divides by $\pi_k$, so that line three is an expectation again, and an expectation can be *sampled*: draw $k$, run
# option $k$ alone, multiply its cost by $\nabla \log \pi_k$. The cost was never differentiated. It may be a count, a
# click, a stopwatch.
#
# If the cost has parameters of its own (the classifier behind the choice), they get their ordinary gradient beside it.
# `surrogate` adds both terms.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## By hand, then in the library

# %% slideshow={"slide_type": "-"}
s, worth = torch.tensor([1.3, 0.2, 0.7]), torch.tensor([2.0, 0.0, 1.0])  # of notebook 02


def cost(z):
    return (z @ worth - 0.9) ** 2


scores = s.expand(100_000, 3).clone().requires_grad_()  # 100,000 draws, a row each
choice = sample(scores)
by_hand = cost(choice.weights)[:, None] * (choice.weights - s.softmax(-1))
loss = surrogate(cost(choice.weights), choice.log_prob)
(library,) = torch.autograd.grad(loss.sum(), scores)
torch.testing.assert_close(by_hand, library)
library[:3]  # three single estimates

# %% slideshow={"slide_type": "skip"}
leaf = s.clone().requires_grad_()
(exact,) = torch.autograd.grad(exact_expectation(cost, leaf), leaf)
mean, spread = library.mean(0), library.var(0).sum().sqrt()
assert (mean - exact).norm() < 0.012  # unbiased ...
assert spread > 1.3 * exact.norm()  # ... and one estimate is mostly noise
print("exact gradient      ", exact.numpy().round(3))
print("mean of the draws   ", mean.numpy().round(3))
print(f"length of the exact gradient {exact.norm():.2f}, spread of one estimate {spread:.2f}")

# %% [markdown] slideshow={"slide_type": "notes"}
# `sample` draws a one-hot z and remembers its log-probability. `surrogate` has the value of the cost, and the gradient
# that we derived; autograd does the rest, and the formula by hand agrees in every row.
#
# On average it is right. But one estimate is one of *three* arrows, and none of them is the true gradient; the spread
# is larger than what we want to know. And look at the signs: costs are positive, so **every option that was tried is
# pushed down**, good ones a bit less. It learns by contrast, and a single draw has no contrast.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A baseline: better than what?
#
# $$\big(\text{cost}(k) - \beta\big)\, \nabla \log \pi_k$$
#
# costs no bias, whatever the number $\beta$:
# $\;\mathbb{E}[\beta \,\nabla \log \pi_k] = \beta \sum_k \nabla \pi_k = \beta \,\nabla 1 = 0$.
#
# **Predict:** which $\beta$ gives the least spread?

# %% slideshow={"slide_type": "skip"}
pi = s.softmax(-1)
costs = cost(torch.eye(3))
slopes = torch.eye(3) - pi  # row k: the gradient of log π_k
grid = torch.linspace(-1, 2, 301)
rows = (costs - grid[:, None]).unsqueeze(-1) * slopes  # (301 baselines, option drawn, component)
means = (pi[:, None] * rows).sum(1)  # enumerated, no sampling
torch.testing.assert_close(means, exact.expand(301, 3), atol=1e-5, rtol=0)  # the same mean at every baseline
spreads = (pi[:, None] * (rows - exact) ** 2).sum((1, 2)).sqrt()
best, expected = grid[spreads.argmin()].item(), (pi @ costs).item()
print(f"least spread {spreads.min():.2f} at {best:.2f}; the expected cost is {expected:.2f}")
assert spreads.min() < 0.85 * spreads[100]  # less than without a baseline (β = 0) ...
assert spreads[0] > 1.8 * spreads[100]  # ... and a bad one makes it much worse
assert 0.05 < expected - best < 0.3  # the best one is near the expected cost, and not equal to it

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.1))
ax.plot(grid, spreads, lw=2.5)
for x, name, marker in ((0, "no baseline", "o"), (best, "the best one", "D"), (expected, "expected cost", "s")):
    y = np.interp(x, grid, spreads)
    ax.plot(x, y, marker, ms=10, color="0.2")
    ha, offset = {"o": ("left", (10, 6)), "D": ("right", (-4, -20)), "s": ("left", (4, -20))}[marker]
    ax.annotate(name, (x, y), textcoords="offset points", xytext=offset, ha=ha, color="0.2")
ax.set(xlabel="baseline β", ylabel="spread of one estimate", ylim=(0, None))
show(
    fig,
    "Spread of one estimate against the baseline: a valley with its lowest point a little below the expected cost. "
    "A baseline of minus 1 or 2 is much worse than none.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# A baseline turns "how much did it cost?" into "was it better or worse than usual?". Now an option that does better
# than the baseline is pushed *up*. The mean does not move, by the line on the slide: probabilities always sum to one.
#
# The expected cost is a good baseline, and not the best: exercise 2 finds the best one in closed form. A bad baseline
# is worse than none. And one condition: **β must not depend on the draw it is used for**. A baseline that has already
# seen its own cost is biased.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## See it: bias and variance
#
# **Predict, then move:** which sliders move the *mean*, which only the cloud?

# %% slideshow={"slide_type": "-"} tags=["fold", "figure:estimators_widget"]
Estimators(s, worth, 0.9, temperature=0.5)

# %% [markdown] slideshow={"slide_type": "notes"}
# Each dot is one estimate of the same gradient: its entry for option a against that for option c. The cross is the
# exact gradient, the diamond the mean, the dashed ellipse one standard deviation. Left, with one sample, there are
# three possible arrows (dots that coincide are spread a little, so that you see how many there are).
#
# Left: the diamond never leaves the cross. The baseline squeezes the cloud, samples shrink it. Right: temperature
# moves the diamond, samples do not bring it back. *Error* is both together, $\sqrt{\text{bias}^2 + \text{spread}^2}$.
#
# Be fair when you compare: with three options, S samples cost the left side S evaluations; the right side S evaluations
# of a mixture, for which all three options have to run.

# %% slideshow={"slide_type": "skip"}
relaxed = partial(gumbel_softmax, temperature=1.0)
statistics = {
    (name, n): gradient_statistics(choose, cost, s, samples=n, n_estimates=40_000, baseline=b)
    for name, choose, b in (("score function", sample, best), ("Gumbel-Softmax", relaxed, 0.0))
    for n in (1, 16)
}
for (name, n), g in statistics.items():
    print(f"{name:16} {n:2} samples: bias {g.bias.norm():.3f}, spread {g.variance.sum().sqrt():.3f}")
for name in ("score function", "Gumbel-Softmax"):
    few, many = (statistics[name, n] for n in (1, 16))
    assert 3.8 < (few.variance.sum() / many.variance.sum()).sqrt() < 4.2  # 16 samples: a quarter of the spread
assert statistics["score function", 16].bias.norm() < 0.01  # nothing to repair
assert statistics["Gumbel-Softmax", 16].bias.norm() > 0.15  # what samples cannot repair

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where do baselines come from?
#
# | baseline | costs | knows |
# |:---|:---|:---|
# | moving average of past costs | nothing | the time |
# | leave one out: mean cost of the other $S - 1$ samples | $S$ evaluations | the input |
# | a network $b(x)$, trained on $(\text{cost} - b(x))^2$ | a network | the input |

# %% slideshow={"slide_type": "-"}
four = torch.tensor([1.0, 0.0, 2.0, 1.0])  # the costs of four samples for one input
average = MovingAverage(0.9)
first, then = average(torch.tensor(4.0)), average(torch.tensor(1.0))
print("leave one out: ", *(f"{baseline:.2f}" for baseline in leave_one_out(four)))
print(f"moving average: {first:.1f}, then {then:.1f}")  # each call: the value before it

# %% [markdown] slideshow={"slide_type": "notes"}
# All three read before they write. The moving average knows how things go at the moment, not whether *this* input is
# hard. Leave-one-out asks the other samples of the same input; each sample is judged by its siblings, so all of them
# are used twice. With S = 2: "which of my two tries was better?" A learned baseline is the critic of actor-critic
# methods; pass its output to `surrogate`, which lets no gradient through it, and train it by its own squared error.

# %% slideshow={"slide_type": "skip"}
assert first == 0.0 and then == 4.0
torch.testing.assert_close(leave_one_out(four), torch.tensor([1.0, 4 / 3, 2 / 3, 1.0]))
g = gradient_statistics(sample, cost, s, samples=4, baseline=leave_one_out)
cheat = gradient_statistics(sample, cost, s, samples=4, baseline=lambda costs: costs.mean(0))  # includes its own
print("bias, leave one out       ", g.bias.numpy().round(3))
print("bias, mean with its own   ", cheat.bias.numpy().round(3), "= minus a quarter of", exact.numpy().round(3))
assert g.bias.norm() < 0.01
torch.testing.assert_close(cheat.bias, -exact / 4, atol=0.01, rtol=0)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## One bit, and a target of 0.499
#
# $$\min_\theta \; \mathbb{E}\big[(b - 0.499)^2\big] \qquad b \sim \text{Bernoulli}(\sigma(\theta))$$
#
# $b = 0$ costs 0.249, $\;b = 1$ costs 0.251: go to $\theta = -\infty$, by a slope of 0.0005.

# %% slideshow={"slide_type": "skip"}
def bit_cost(z):
    return (z[..., 0] - 0.499) ** 2


hot, cold = partial(gumbel_softmax, temperature=1.0), partial(gumbel_softmax, temperature=0.1)
bit_ways = {  # how to choose, baseline, samples
    "score function": (sample, lambda: 0.0, 1),
    "+ moving average": (sample, partial(MovingAverage, 0.9), 1),
    "+ leave one out, S = 2": (sample, lambda: leave_one_out, 2),
    "Gumbel-Softmax, λ = 1": (hot, lambda: 0.0, 1),
    "Gumbel-Softmax, λ = 0.1": (cold, lambda: 0.0, 1),
    "straight-through, λ = 1": (lambda scores: straight_through(hot(scores)), lambda: 0.0, 1),
    "Gumbel-Rao, λ = 0.1": (partial(gumbel_rao, temperature=0.1, n_samples=10), lambda: 0.0, 1),
}
at = keep_or_discard(torch.tensor(-1.0))  # θ = -1, already on its way
bit = {}
for name, (choose, baseline, samples) in bit_ways.items():
    b = 0.25 if "moving" in name else baseline()  # what the moving average settles at, about
    bit[name] = gradient_statistics(choose, bit_cost, at, samples=samples, baseline=b, n_estimates=200_000)

# %% slideshow={"slide_type": "-"} tags=["fold"]
true = bit["score function"].exact[0]
print(f"at θ = -1          exact gradient {true:+.4f}")
print("                             mean of estimates   spread of one")
for name, g in bit.items():
    verdict = "WRONG WAY" if g.mean[0] < -5 * g.standard_error[0] else ""
    print(f"{name:25} {g.mean[0]:+12.4f} ± {g.standard_error[0]:.4f} {g.variance[0].sqrt():13.4f}   {verdict}")

# %% [markdown] slideshow={"slide_type": "notes"}
# The classic test (Tucker et al. 2017; Grathwohl et al. 2018). The reward for getting it right is tiny, and the noise
# of a plain score function is hundreds of times larger. A baseline takes away almost all of it: both costs are near
# 0.25, and only their difference matters. For a single bit some baseline has *no* variance at all (exercise 2).
#
# The relaxations have another problem. *Between* 0 and 1 the cost is much lower than at both ends, at $z = 0.499$ it is
# zero. They are pulled to the middle, by a force far stronger than the true gradient: **the mean points the wrong
# way**. Straight-through and Gumbel-Rao choose hard bits, but learn by the same slopes. No number of samples helps
# against a bias. This is notebook 02's "it solves a problem that nobody has", in its purest form.

# %% slideshow={"slide_type": "skip"}
score_like, relaxations = list(bit)[:3], list(bit)[3:]
for name in score_like:
    assert abs(bit[name].bias[0]) < 5 * bit[name].standard_error[0]  # unbiased
for name in relaxations:
    assert bit[name].mean[0] < -5 * bit[name].standard_error[0] < 0 < true  # significantly the wrong way
    assert bit[name].bias[0].abs() > 5 * true
plain = bit["score function"].variance[0].sqrt()
assert plain > 100 * true
assert all(bit[name].variance[0].sqrt() < plain / 100 for name in score_like[1:])  # what a baseline is worth
p = torch.tensor(-1.0).sigmoid()  # with the costs swapped, the two gradients that can come out are equal:
swapped = (1 - p) * bit_cost(torch.eye(2))[0] + p * bit_cost(torch.eye(2))[1]
assert gradient_statistics(sample, bit_cost, at, baseline=swapped.item()).variance[0].sqrt() < true / 1000
through = gradient_statistics(lambda scores: straight_through(cold(scores)), bit_cost, at)
assert bit["Gumbel-Rao, λ = 0.1"].variance[0] < 0.5 * through.variance[0]  # Rao-Blackwell: less noise, same bias


# %% slideshow={"slide_type": "skip"}
def train_bit(choose, baseline, samples, runs=20, steps=600):
    """The probability of b = 1 in the course of training, for 20 runs at once: (runs, steps / 20)."""
    theta = torch.zeros(runs, requires_grad=True)
    optimizer, history = torch.optim.Adam([theta], lr=0.03), []
    baselines = [baseline() for _ in range(runs)]  # one for each run
    for step in range(steps):
        choice = choose(keep_or_discard(theta).expand(samples, runs, 2))
        costs = bit_cost(choice.weights)
        b = [fn(c) if callable(fn) else c.new_tensor(fn) for fn, c in zip(baselines, costs.unbind(1), strict=True)]
        b = torch.stack([torch.as_tensor(v).expand(samples) for v in b], 1)
        optimizer.zero_grad()
        surrogate(costs, choice.log_prob, b).mean(0).sum().backward()
        optimizer.step()
        if step % 20 == 19:
            history.append(theta.detach().sigmoid())
    return torch.stack(history, 1).numpy()


bits = {name: train_bit(*way) for name, way in bit_ways.items()}
for name, p in bits.items():
    print(f"{name:25} final probability of b = 1: mean {p[:, -1].mean():.2f}, largest {p[:, -1].max():.2f}")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Who finds out that 0 is better?

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(10, 4.1), sharey=True)
for ax, names in zip(axes, (score_like, relaxations), strict=True):
    plots.curves(ax, range(20, 601, 20), {name: bits[name] for name in names})
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    ax.set(xlabel="training step", ylim=(0, 1.25), yticks=[0, 0.5, 1])
axes[0].set_ylabel("probability of b = 1")
show(
    fig,
    "Probability of b = 1 over 600 steps, mean and range of 20 runs. With a baseline the score function goes to 0; "
    "without one it wanders around one half, and so do all four relaxations.",
)
assert all(bits[name][:, -1].max() < 0.45 for name in score_like[1:])  # every run goes down
assert bits["+ leave one out, S = 2"][:, -1].max() < 0.1
assert all(bits[name][:, -1].mean() > 0.35 for name in (score_like[0], *relaxations))  # no drift to 0

# %% [markdown] slideshow={"slide_type": "notes"}
# Two ways to fail, and they look alike. The plain score function is right on average and drowned in noise: it walks at
# random, and given enough time and a small enough step it would arrive. The relaxations are held at one half by their
# bias: wherever one wanders off, the mean of its estimates pushes back. With a baseline, the score function walks
# straight to zero.
#
# So is "avoid RL" wrong? A toy made to break relaxations breaks relaxations. On to a real task.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Find the digit, by REINFORCE
#
# The task of notebook 02: nine patches, one digit, one look.

# %% slideshow={"slide_type": "skip"}
class Finder(nn.Module):
    def __init__(self):
        super().__init__()
        self.score, self.classify = MLP(64, 32, 1), MLP(64, 64, 10)


# %% slideshow={"slide_type": "-"}
def reinforce(finder, patches, label, *, baseline, samples, bonus):
    x = patches.flatten(2)  # (B, 9, 64)
    scores = finder.score(x).squeeze(-1)  # (B, 9)
    choice = sample(scores.expand(samples, -1, -1))  # z one-hot: (S, B, 9)
    picked = (choice.weights.unsqueeze(-1) * x).sum(2)  # a copy of one patch: (S, B, 64)
    y = finder.classify(picked)  # S classifications a scene, not nine
    cost = F.cross_entropy(y.mT, label.expand(samples, -1), reduction="none")  # (S, B)
    pi, log_pi = scores.softmax(-1), scores.log_softmax(-1)
    entropy = -(pi * log_pi).sum(-1).mean()  # a bonus for staying curious
    return surrogate(cost, choice.log_prob, baseline(cost)).mean() - bonus * entropy

# %% [markdown] slideshow={"slide_type": "notes"}
# The scorer sees all nine patches, the classifier only what was picked. Gumbel-Softmax has to classify all nine for its
# gradient. So there are two fair comparisons, and they may disagree: the same number of **training steps** (scenes
# seen), and the same number of **classifications**. The second counts when the options are expensive, which is when
# choosing pays.
#
# The entropy bonus is the second repair after the baseline. The scorer commits to what works first, while the
# classifier is still poor, and then never sees the rest. A small reward for undecided probabilities keeps it looking
# around.

# %% slideshow={"slide_type": "skip"}
data = digits()
test = find_the_digit(data.test_x, data.test_y, n_scenes=1080, generator=torch.Generator().manual_seed(99))


def relax(finder, patches, label):
    x = patches.flatten(2)
    z = gumbel_softmax(finder.score(x).squeeze(-1), 2.0).weights  # the temperature that was best in notebook 02
    return F.cross_entropy((z.unsqueeze(-1) * finder.classify(x)).sum(1), label)


def relax_with_bonus(finder, patches, label):
    scores = finder.score(patches.flatten(2)).squeeze(-1)
    return relax(finder, patches, label) + 0.1 * (scores.softmax(-1) * scores.log_softmax(-1)).sum(-1).mean()


four_samples = partial(reinforce, baseline=leave_one_out, samples=4)
methods = {  # loss (made anew for each run), classifications a scene, steps
    "Gumbel-Softmax": (lambda: relax, 9, 500),
    "REINFORCE": (lambda: partial(reinforce, baseline=lambda cost: 0.0, samples=1, bonus=0.0), 1, 500),
    "+ moving average": (lambda: partial(reinforce, baseline=MovingAverage(0.9), samples=1, bonus=0.0), 1, 1350),
    "+ leave one out, S = 4": (lambda: partial(four_samples, bonus=0.0), 4, 500),
    "+ leave one out, S = 4, bonus": (lambda: partial(four_samples, bonus=0.1), 4, 1125),
    "Gumbel-Softmax, bonus": (lambda: relax_with_bonus, 9, 500),
}


# %% slideshow={"slide_type": "skip"}
def look_once(finder, patches, label, position):
    x, rows = patches.flatten(2), torch.arange(len(patches))
    picked = finder.score(x).squeeze(-1).argmax(-1)
    return {"accuracy": finder.classify(x[rows, picked]).argmax(-1) == label}


def scenes(generator):
    while True:
        yield find_the_digit(data.train_x, data.train_y, generator=generator)


def train(make_loss, steps, run):
    torch.manual_seed(1000 * seed + run)
    finder, loss = Finder(), make_loss()
    history = fit(
        finder,
        lambda patches, label, position: loss(finder, patches, label),
        scenes(torch.Generator().manual_seed(1000 * seed + run)),
        steps=steps,
        lr=5e-3,
        measure=lambda: evaluate(finder, partial(look_once, finder), [test]),
        every=50,
        label=f"run {run}",
    )
    return [row["accuracy"] for row in history]  # after 50, 100, ... steps


runs = {name: np.array([train(make, steps, run) for run in range(3)]) for name, (make, _, steps) in methods.items()}

# %% slideshow={"slide_type": "skip"}
def accuracy_at(name, steps):
    return runs[name].mean(0)[min(-(-steps // 50), runs[name].shape[1]) - 1]


print("test accuracy, mean of 3 runs    500 steps   at the end (classifications)")
for name, (_, each, steps) in methods.items():
    print(f"{name:31}{accuracy_at(name, 500):11.2f}{accuracy_at(name, steps):13.2f}   ({64 * each * steps:,})")
soft, none, simple, siblings, full, curious = methods
print(f"{soft} after 150 steps ({64 * 9 * 150:,} classifications): {accuracy_at(soft, 150):.2f}")
assert accuracy_at(soft, 500) > accuracy_at(simple, 500) + 0.1  # the same steps: the relaxation is ahead ...
assert accuracy_at(simple, 1350) > accuracy_at(soft, 150) + 0.2  # ... the same classifications: it is behind
assert accuracy_at(none, 500) < accuracy_at(simple, 500) < accuracy_at(full, 500)  # what the repairs are worth
assert accuracy_at(siblings, 500) < accuracy_at(full, 500) - 0.03  # the bonus alone
assert accuracy_at(full, 500) > accuracy_at(soft, 500) - 0.06  # 128,000 classifications against 288,000 ...
assert accuracy_at(full, 1125) > accuracy_at(soft, 500)  # ... and 288,000 each
assert accuracy_at(full, 1125) > accuracy_at(curious, 500) - 0.01  # even if the relaxation gets the bonus as well
assert accuracy_at(curious, 200) > accuracy_at(soft, 200)  # which helps it to start

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## By steps, and by classifications

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(10, 4.1), sharey=True)
palette = sns.color_palette("colorblind", len(runs))
for i, (name, values) in enumerate(list(runs.items())[:5]):
    steps = np.minimum(50 * np.arange(1, values.shape[1] + 1), methods[name][2])
    for ax, x in zip(axes, (steps, 64e-3 * methods[name][1] * steps), strict=True):
        ax.fill_between(x, values.min(0), values.max(0), color=palette[i], alpha=0.15, lw=0)
        style = {"ls": ["-", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), "--"][i], "marker": "os^vD"[i]}
        ax.plot(x, values.mean(0), color=palette[i], lw=2.2, label=name, markevery=max(1, len(x) // 6), **style)
axes[0].set(xlabel="training step", ylabel="test accuracy, looking once", ylim=(0, 1), xlim=(0, 1400))
axes[1].set(xlabel="classifications (thousands, log scale)", xscale="log", xlim=(2.8, 330))
axes[1].set_xticks([3, 10, 30, 100, 300], ["3", "10", "30", "100", "300"])
axes[1].minorticks_off()
axes[0].legend(frameon=False, fontsize="small", loc="lower right")
show(
    fig,
    "Two panels of test accuracy, mean and range of 3 runs. By steps Gumbel-Softmax is early at almost 0.9; REINFORCE "
    "with four samples and the bonus is level with it, one sample is late. By classifications both of these are ahead.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **The honest verdict.** Step for step, Gumbel-Softmax is ahead of REINFORCE with one sample: it learns from all nine
# patches in each scene. Classification for classification the order turns round: with a moving average REINFORCE is at
# almost 0.9 when the relaxation, after as many classifications, is half way. And with every repair (four samples, leave
# one out, the bonus) it keeps up step for step on less than half of the classifications.
#
# Grains of salt. The bonus helps Gumbel-Softmax too (see the table), and then the two end about level. Our classifier
# is so small that the clock hardly notices what is saved. And four samples *without* the bonus stay behind: what holds
# them back is the early commitment, not the noise. Still: "REINFORCE does not work" is not what happened here. So why
# avoid it?

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Why the talk is right: many choices
#
# Not one choice but thousands (12 layers × 196 patches), and one cost for all.
#
# **Predict:** T choices, their average cost. How does the noise grow with T?

# %% slideshow={"slide_type": "skip"}
def relative_spread(choose, T, baseline, n=200_000):
    """Spread of one estimate of the gradient for T choices at once, over the length of the exact one."""
    scores = s.expand(n // T, T, 3).clone().requires_grad_()
    choice = choose(scores)
    joint = cost(choice.weights).mean(1)  # one cost for T choices
    log_prob = choice.log_prob.sum(1)  # the T choices are independent: log-probabilities add up
    (estimates,) = torch.autograd.grad(surrogate(joint, log_prob, baseline).sum(), scores)
    return (estimates.var(0).sum().sqrt() / ((exact / T).norm() * T**0.5)).item()


lengths = [1, 3, 10, 30, 100]
relative = {
    "score function, baseline: expected cost": [relative_spread(sample, T, expected) for T in lengths],
    "Gumbel-Softmax, λ = 1": [relative_spread(relaxed, T, 0.0) for T in lengths],
}
for name, values in relative.items():
    print(f"{name:40}", np.round(values, 2))
reinforced, pathwise = (np.array(values) for values in relative.values())
assert 2.8 < reinforced[4] / reinforced[2] < 3.6  # ten times the choices: √10 times the noise over signal
assert 0.8 < pathwise[-1] / pathwise[0] < 1.25  # does not grow

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.5))
plots.curves(ax, lengths, {name: [values] for name, values in relative.items()})
ax.plot(lengths, reinforced[2] * np.sqrt(np.array(lengths) / 10) * 0.7, ":", color="0.4", lw=1.5)
ax.text(30, 0.62 * reinforced[2] * 3**0.5, "slope of √T", color="0.3", va="top", fontsize="small")
ax.set(xscale="log", yscale="log", xlabel="choices at once, T", ylabel="noise / signal")
ax.set_xticks(lengths, [str(T) for T in lengths])
ax.set_yticks([1, 3, 10], ["1", "3", "10"])
ax.minorticks_off()
show(
    fig,
    "Noise over signal of one estimate against the number of choices, both axes logarithmic. The score function rises "
    "from about 1 to above 10 at 100 choices; Gumbel-Softmax stays flat below 1.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# REINFORCE sees one number for all choices together. Each choice hears its own contribution in the noise of all the
# others, and noise over signal grows like $\sqrt{T}$: ten times the choices need ten times the samples. The pathwise
# gradient goes back through the network and tells *each* choice its own slope; it does not care how many there are.
#
# That is the case against RL in modular networks, and it is a good one: routers decide for every token in every layer,
# and the cost *is* differentiable. Reinforcement learning has answers (critics, credit assignment), each with a network
# and a knob of its own.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where it wins: a black box
#
# The classifier is no network now. It is scikit-learn's three nearest neighbours, frozen, and the cost is its mistake:
# 0 or 1.

# %% slideshow={"slide_type": "-"}
neighbours = KNeighborsClassifier(3, algorithm="brute")
neighbours.fit(data.train_x.flatten(1).numpy(), data.train_y.numpy())


def mistakes(x, label):  # no gradient goes in here, none comes out
    return torch.tensor(neighbours.predict(x.detach().numpy()) != label.numpy()).float()


scores = torch.zeros(1080, 9, requires_grad=True)
z = gumbel_softmax(scores, 2.0).weights
blend = (z.unsqueeze(-1) * test.patches.flatten(2)).sum(1)  # a bit of every patch
mistakes(blend, test.label).requires_grad

# %% [markdown] slideshow={"slide_type": "notes"}
# `False`: there is nothing to call `backward` on. A vote among neighbours is a count; it is piecewise constant in the
# pixels, so even an autograd through it would say zero. And the *blend* of nine patches is no patch: what the
# relaxation asks of the black box is an answer to a question that makes no sense.
#
# (One could call the box nine times a scene and add up: then the expectation is exact, and no estimator is needed. That
# is fair for nine cheap options. The point is the price: nine calls, or one.)

# %% slideshow={"slide_type": "skip"}
assert not mistakes(blend, test.label).requires_grad
rows, pixels = torch.arange(1080), test.patches.flatten(2)
correct = torch.stack([1 - mistakes(pixels[:, k], test.label) for k in range(9)], 1)  # for every patch: (1080, 9)
chance, ceiling = correct.mean().item(), correct[rows, test.position].mean().item()


def train_black_box(run, steps=700):
    torch.manual_seed(1000 * seed + run)
    scorer, baseline = MLP(64, 32, 1), MovingAverage(0.9)

    def loss(patches, label, position):
        x = patches.flatten(2)
        choice = sample(scorer(x).squeeze(-1))
        cost = mistakes(x[torch.arange(64), choice.weights.argmax(-1)], label)  # one call of the box a scene
        return surrogate(cost, choice.log_prob, baseline(cost)).mean()

    def measure():
        return {"accuracy": correct[rows, scorer(pixels).squeeze(-1).argmax(-1)].mean().item()}

    batches = scenes(torch.Generator().manual_seed(1000 * seed + run))
    history = fit(scorer, loss, batches, steps=steps, lr=5e-3, measure=measure, every=50, label=f"run {run}")
    return [row["accuracy"] for row in history]


black_box = np.array([train_black_box(run) for run in range(3)])
print(f"a random patch {chance:.2f}, after training {black_box[:, -1].mean():.2f}, the right patch {ceiling:.2f}")
assert chance < 0.25
assert black_box[:, -1].min() > 0.8 and black_box[:, -1].mean() > 0.85

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## It learns from right and wrong alone

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.8))
plots.curves(ax, range(50, 701, 50), {"REINFORCE, one call of the box a scene": black_box}, legend=False)
for height, name in ((chance, "a random patch"), (ceiling, "always the right patch")):
    ax.axhline(height, color="0.4", lw=1, ls=":")
    ax.text(8, height - 0.02, name, va="top", color="0.3", fontsize="small")
ax.set(xlabel="training step", ylabel="test accuracy, looking once", ylim=(0, 1.02), xlim=(0, 700))
show(
    fig,
    "Test accuracy over 700 steps, mean and range of 3 runs: from a random patch's 0.2 to about 0.9, close to what the "
    "right patch gives, 0.98.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# One bit of feedback a scene, right or wrong, and it finds the digit in about nine scenes of ten. No logits, no
# probabilities, no slope. And it minimises what we report: the number of mistakes, not a stand-in for it.
#
# It is also *easier* than before: the box knows the digits from the start, so there is nothing to commit to too early.
# Frozen experts behind an interface, a database, a user's click, measured milliseconds: here the score function is the
# tool, and the advice of the talk does not apply.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## REINFORCE or a relaxation?
#
# | | score function | Gumbel-Softmax |
# |:---|:---|:---|
# | bias | none | grows with temperature |
# | noise | grows with the choices | grows when cold |
# | runs | what was picked | every option |
# | asks for | the cost | its slope, between options too |
# | lives by | a baseline | a temperature |
#
# **Avoid RL** where the cost has a slope and choices are many.
# **Use it** for few choices, expensive options, black boxes.

# %% [markdown] slideshow={"slide_type": "notes"}
# Where it fails: many choices and one cost; a baseline that is missing, or that has seen its own sample; a scorer that
# commits before the rest of the network is any good. The last is not noise alone: with the same four samples, the bonus
# for curiosity is what made the difference on the digits.
#
# If the cost is a sum over time, each choice should be charged only with what comes after it. If there are a few
# options and they are cheap: add them up, and estimate nothing.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercises
#
# ### Exercise 1: leave one out (★☆☆, 5 min)
#
# S samples were drawn for each of B inputs. Write `baselines(costs)`: the costs `(S, B)` in, for every sample the mean
# cost of the *other* samples of the same input out, `(S, B)`. No loop is needed.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def baselines(costs):
    return ...


check("leave_one_out_baseline", baselines)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def baselines_solution(costs):
    return (costs.sum(0) - costs) / (len(costs) - 1)


check("leave_one_out_baseline", baselines_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise 2: the best constant baseline (★★☆, 15 min)
#
# Write $v_k = \nabla \log \pi_k$. The mean of the estimate does not depend on $\beta$, so its variance is smallest
# where $\mathbb{E}\big[(\text{cost}(k) - \beta)^2 \, \|v_k\|^2\big]$ is. Set the derivative to zero: which weighted
# mean of the costs is the best baseline? Write `best_baseline(pi, costs)` for a choice with probabilities `pi =
# softmax(s)` and costs, both `(K,)`; it returns a tensor with no dimensions. Then try it on a single bit, `pi = [p, 1 -
# p]`.

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


check("best_baseline", best_baseline_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# $$\nabla \, \mathbb{E}[\text{cost}] = \mathbb{E}\big[(\text{cost}(k) - \beta)\, \nabla \log \pi_k\big]$$
#
# - Try an option; make it likelier if it did better than usual.
# - It needs one option and no derivative. It has no bias.
# - "Usual" is the baseline, and it makes or breaks the method.
# - Noise grows with the number of choices: there, follow the talk's advice.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - R. J. Williams, *Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning*, Machine
#   Learning 8, 1992: REINFORCE, baselines.
# - J. Schulman, N. Heess, T. Weber, P. Abbeel, *Gradient Estimation Using Stochastic Computation Graphs*, NeurIPS 2015.
# - G. Tucker, A. Mnih, C. J. Maddison, J. Lawson, J. Sohl-Dickstein, *REBAR: Low-Variance, Unbiased Gradient Estimates
#   for Discrete Latent Variable Models*, NeurIPS 2017.
# - W. Grathwohl, D. Choi, Y. Wu, G. Roeder, D. Duvenaud, *Backpropagation through the Void*, ICLR 2018: the 0.499 toy.
# - W. Kool, H. van Hoof, M. Welling, *Buy 4 REINFORCE Samples, Get a Baseline for Free!*, ICLR 2019 workshop: leave one
#   out.
# - M. B. Paulus, C. J. Maddison, A. Krause, *Rao-Blackwellizing the Straight-Through Gumbel-Softmax Gradient
#   Estimator*, ICLR 2021.
# - S. Mohamed, M. Rosca, M. Figurnov, A. Mnih, *Monte Carlo Gradient Estimation in Machine Learning*, JMLR 21, 2020: a
#   survey.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
