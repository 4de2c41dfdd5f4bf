# %% [markdown] slideshow={"slide_type": "slide"}
# # Gumbel-Softmax: choosing, with a gradient
#
# **Notebook 02** · *Designing efficient and modular neural networks*
#
# A network picks one of $k$ options: a patch to look at, a layer to run, an expert to ask.
# How can it *learn* to pick, when picking has no gradient?

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you will be able to do.** Draw a discrete choice so that gradients pass through it; say what the temperature
# trades for what; recognise when the trick fails. You need: softmax, backpropagation, a little probability.
# About 40 minutes with the two exercises. Everything below runs on a laptop in less than a minute.

# %% slideshow={"slide_type": "skip"}
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lecture_lib import plots
from lecture_lib.choice import argmax, gumbel_softmax, sample, softmax, straight_through
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.data import digits, find_the_digit
from lecture_lib.estimators import exact_expectation, surrogate
from lecture_lib.mixture import mix, mix_sparse
from lecture_lib.models import MLP
from lecture_lib.notebook import check, setup, show
from lecture_lib.training import evaluate, fit
from lecture_lib.widgets import Temperature

seed = setup(0)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Three options, one choice
#
# Scores $s$ → choice $z$ → what comes after.

# %% slideshow={"slide_type": "-"}
s = torch.tensor([1.3, 0.2, 0.7])  # three options: a, b, c
z = argmax(s).weights
z

# %% slideshow={"slide_type": "-"}
worth = torch.tensor([2.0, 0.0, 1.0])  # what the next module makes of each option ...


def cost(z):
    return (z @ worth - 0.9) ** 2  # ... and it would like to get 0.9


cost(torch.eye(3))  # the cost of choosing a, of choosing b, of choosing c

# %% [markdown] slideshow={"slide_type": "notes"}
# The running example of the talk, $s = [1.3, 0.2, 0.7]$, gives $z = [1, 0, 0]$. We add a *downstream model*: the
# simplest one in which the choice matters. Option a has the highest score, option c would be by far the cheapest. So a
# learner should raise the score of c and lower that of a.
#
# **Predict:** what is $\partial\,\text{cost} / \partial s$?

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Argmax has no slope to follow

# %% slideshow={"slide_type": "skip"}
nudges = 1e-3 * torch.eye(3)
slope = (cost(argmax(s + nudges).weights) - cost(argmax(s).weights)) / 1e-3
assert (slope == 0).all()  # whichever score is nudged, the cost does not move
slope

# %% slideshow={"slide_type": "-"} tags=["fold"]
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
# Argmax turns the cost into a staircase. The derivative is zero wherever it exists, and where it does not (the step)
# we never are. No optimiser can walk down this curve.
#
# The dashed line is the way out: choose **at random**, with probabilities $\pi = \operatorname{softmax}(s)$. The
# *expected* cost $\sum_k \pi_k \, \text{cost}(k)$ is smooth. With three options we can simply add it up, and we will
# use that as our measure of truth. With a thousand options, or thirty choices in a row, we cannot: we have to sample.
# So the question becomes: how does a gradient pass through a **sample**?

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Noise first: the Gumbel-max trick
#
# Add independent noise $g_k \sim \text{Gumbel}(0, 1)$ to the scores, take the largest:
#
# $$\arg\max_k \,(s_k + g_k) \;\sim\; \text{Categorical}(\operatorname{softmax}(s))$$

# %% slideshow={"slide_type": "-"}
g = -torch.empty(100_000, 3).exponential_().log()  # Gumbel noise
picks = (s + g).argmax(-1)
shares = picks.bincount() / len(picks)

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 2.4))
heights = {"softmax(s)": s.softmax(-1).tolist(), "share of 100,000 picks": shares.tolist()}
plots.bars(ax, ["a", "b", "c"], heights, fmt="{:.3f}")
ax.set(ylim=(0, 0.7), ylabel="probability")
show(fig, "Bars for the options a, b and c: the shares of the picks equal softmax(s) to the second decimal place.")
assert (shares - s.softmax(-1)).abs().max() < 0.01

# %% [markdown] slideshow={"slide_type": "notes"}
# **Why it works, in three lines.** Write $g_k = -\log E_k$ with $E_k$ exponential. Then the largest $s_k + g_k$ is the
# smallest $E_k e^{-s_k}$, and that is a race: $E_k e^{-s_k}$ is the waiting time of a clock that rings at rate
# $e^{s_k}$. Of competing clocks, number $k$ rings first with probability $e^{s_k} / \sum_i e^{s_i}$. That is softmax.
#
# We have moved the randomness into $g$, which does not depend on $s$. What is left, $\arg\max(s + g)$, is a
# deterministic function of $s$. It has no gradient yet; but now there is only *one* thing to repair.

# %% slideshow={"slide_type": "skip"}
# A bonus of the race: the winning value is Gumbel too, at logsumexp(s), whoever wins.
winning = (s + g).max(-1).values
means = torch.stack([winning[picks == k].mean() for k in range(3)])
assert (means - (s.logsumexp(-1) + np.euler_gamma)).abs().max() < 0.05
means, s.logsumexp(-1) + np.euler_gamma

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Soften the argmax
#
# $$z = \operatorname{softmax}\!\left(\frac{s + g}{\lambda}\right) \qquad \text{temperature } \lambda > 0$$

# %% slideshow={"slide_type": "-"}
def by_hand(s, temperature, generator):
    g = -torch.empty_like(s).exponential_(generator=generator).log()
    return ((s + g) / temperature).softmax(-1)


ours = by_hand(s, 0.5, torch.Generator().manual_seed(seed))
library = gumbel_softmax(s, 0.5, generator=torch.Generator().manual_seed(seed)).weights
torch.testing.assert_close(ours, library)
library

# %% [markdown] slideshow={"slide_type": "notes"}
# That is all of Gumbel-Softmax (Jang et al. 2017), found at the same time as the *Concrete* distribution (Maddison et
# al. 2017). Two lines by hand, and the library agrees; from here on we use the library. What it adds: it refuses bad
# input, accepts $-\infty$ as "forbidden", survives tiny temperatures, and takes a generator so that nothing is random
# by accident.
#
# The result is no longer a choice. It is a point *inside* the simplex: a bit of a, a bit of b, a bit of c.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The distribution, in full
#
# **Support:** the inside of the simplex, $\{z : z_k > 0, \; \sum_k z_k = 1\}$
#
# **Parameters:** weights $\alpha_k = e^{s_k} > 0$ (only their ratios matter), temperature $\lambda > 0$
#
# **Density:**
# $$p(z) = (K-1)! \; \lambda^{K-1} \prod_{k=1}^{K}
# \frac{\alpha_k \, z_k^{-\lambda - 1}}{\sum_i \alpha_i \, z_i^{-\lambda}}$$

# %% [markdown] slideshow={"slide_type": "notes"}
# The talk's notes leave this equation open; here it is (Maddison et al. 2017, eq. 10). Where it comes from: given the
# noise, $\lambda \log z_k = s_k + g_k - \text{const}$; write down the density of $g$, change variables, integrate the
# constant out. We do not need it to train anything, as sampling and backpropagation never ask for a density. But an
# equation that nobody has checked is a rumour. Three checks: torch's own, an integral, a histogram.

# %% slideshow={"slide_type": "skip"}
def density(z, s, temperature):
    K = s.shape[-1]
    parts = s.exp() * z ** (-temperature - 1) / (s.exp() * z**-temperature).sum(-1, keepdim=True)
    return torch.lgamma(torch.tensor(float(K))).exp() * temperature ** (K - 1) * parts.prod(-1)


temperature = 0.8
points = gumbel_softmax(s.expand(1000, 3), temperature).weights
torchs = torch.distributions.RelaxedOneHotCategorical(torch.tensor(temperature), logits=s, validate_args=False)
torch.testing.assert_close(density(points, s, temperature).log(), torchs.log_prob(points), rtol=1e-3, atol=1e-3)

# %% slideshow={"slide_type": "skip"}
n = 1200  # midpoints of a fine grid over z_a, z_b; z_c is what is left
axis = (torch.arange(n) + 0.5) / n
z_a, z_b = torch.meshgrid(axis, axis, indexing="ij")
z_grid = torch.stack([z_a, z_b, 1 - z_a - z_b], -1).double()
p_grid = torch.where(z_grid[..., 2] > 1e-9, density(z_grid.clamp_min(1e-9), s.double(), temperature), 0)
integral = p_grid.sum().item() / n**2
assert abs(integral - 1) < 0.01
print(f"integral of the density over the simplex: {integral:.4f}")

# %% slideshow={"slide_type": "skip"}
samples = gumbel_softmax(s.expand(200_000, 3), temperature).weights
counts, _, _ = np.histogram2d(samples[:, 0], samples[:, 1], bins=12, range=[[0, 1], [0, 1]])
boxes = p_grid.reshape(12, 100, 12, 100).sum((1, 3)).numpy() / n**2  # the density, integrated over the same boxes
worst = np.abs(counts / len(samples) - boxes).max()
assert worst < 0.006
print(f"share of samples in a box against the density's integral: {worst:.4f} apart at most, over {boxes.size} boxes")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The equation against 200,000 samples

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(10, 4.1))
inside = z_grid[..., 2] > 0
x, y = plots.on_triangle(z_grid[inside][::7]).T
axes[0].tripcolor(x, y, p_grid[inside][::7], shading="gouraud", cmap="mako_r", vmin=0, vmax=6, rasterized=True)
x, y = plots.on_triangle(samples).T
axes[1].hist2d(x, y, bins=60, range=[[0, 1], [0, 0.87]], cmap="mako_r", cmin=1, density=True, vmax=6 / 3**0.5 * 2)
for ax, title in zip(axes, ["density at temperature 0.8", "samples"], strict=True):
    plots.triangle(ax, ["a", "b", "c"])
    ax.set_title(title)
show(
    fig,
    "Two triangles with corners a, b, c, at temperature 0.8: the density, and a histogram of samples. They look "
    "the same: most mass near corner a, least near b.",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What the temperature does
#
# **Predict, then move the slider:** as the temperature falls, which of the two numbers below the triangle moves, and
# which does not?

# %% slideshow={"slide_type": "-"} tags=["fold", "figure:temperature_widget"]
Temperature(s, temperature=1.0)

# %% [markdown] slideshow={"slide_type": "notes"}
# Move slowly from 10 to 0.05. Each dot is one sample, with its own noise, which stays while you move; *New noise* draws
# again. Hot: every sample sits near the centre, a bit of everything. Cold: every sample sits in a corner, a choice.
#
# What does **not** move: how often each option is the largest. Dividing by $\lambda$ never changes which entry wins, so
# argmax of a relaxed sample follows softmax(s) at *every* temperature. Temperature changes how hard the samples are,
# not which option they prefer. In the notebook, both claims are checked with numbers.

# %% slideshow={"slide_type": "skip"}
hardness = {}
for temperature in (0.1, 1.0, 10.0):
    z = gumbel_softmax(s.expand(100_000, 3), temperature).weights
    shares = z.argmax(-1).bincount(minlength=3) / len(z)
    hardness[temperature] = z.max(-1).values.mean().item()
    assert (shares - s.softmax(-1)).abs().max() < 0.01  # the law of the argmax does not move
    print(f"temperature {temperature:4}: shares {shares.numpy().round(2)}, mean largest {hardness[temperature]:.2f}")
assert hardness[0.1] > 0.9 and hardness[10.0] < 0.45  # the hardness does: 1 is a corner, 1/3 the centre

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Straight-through: hard forward, soft backward
#
# $$z = \underbrace{\text{one-hot}(\arg\max z_{\text{soft}})}_{\text{value}} \; + \;
# \underbrace{z_{\text{soft}} - \text{detach}(z_{\text{soft}})}_{0,\ \text{with a gradient}}$$

# %% slideshow={"slide_type": "-"}
soft = gumbel_softmax(s, 0.5, generator=torch.Generator().manual_seed(seed))
hard = F.one_hot(soft.weights.argmax(-1), 3) + (soft.weights - soft.weights.detach())
assert torch.equal(hard, straight_through(soft).weights)
hard

# %% [markdown] slideshow={"slide_type": "notes"}
# Often the next module cannot take "40 % of option a": a layer runs or it does not. Straight-through hands it a true
# one-hot vector, and in the backward pass pretends that it had handed over the soft one. The pretence is a bias, and
# we can measure it.
#
# Note the brackets in the code. Without them, (hard + soft) - soft is rounded, and a 0.9999999 is not a choice.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The price: bias against variance
#
# With three options the true gradient is a sum of three terms. **Predict:** what does a cold temperature do to the
# mean of our estimate? To its spread?

# %% slideshow={"slide_type": "skip"}
exact_scores = s.clone().requires_grad_()
(exact,) = torch.autograd.grad(exact_expectation(cost, exact_scores), exact_scores)
print("exact gradient of the expected cost:", [f"{v:+.3f}" for v in exact])
assert exact[0] > 0 > exact[2]  # lower the score of a, raise that of c: what we hoped for


def gradients(choose, n=100_000):
    """n independent estimates of the gradient, one a row."""
    scores = s.expand(n, 3).clone().requires_grad_()
    choice = choose(scores)
    loss = surrogate(cost(choice.weights), choice.log_prob)  # the one loss rule; next notebook: its second term
    return torch.autograd.grad(loss.sum(), scores)[0]


# %% slideshow={"slide_type": "skip"}
temperatures = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
ways = {
    "Gumbel-Softmax": lambda scores, t: gumbel_softmax(scores, t),
    "straight-through": lambda scores, t: straight_through(gumbel_softmax(scores, t)),
}
bias, spread = {}, {}
for name, way in ways.items():
    estimates = [gradients(partial(way, t=t)) for t in temperatures]
    bias[name] = [(e.mean(0) - exact).norm().item() for e in estimates]
    spread[name] = [e.var(0).sum().sqrt().item() for e in estimates]
score_function = gradients(sample)

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.9))
plots.curves(left, temperatures, {name: [values] for name, values in bias.items()})
plots.curves(right, temperatures, {name: [values] for name, values in spread.items()}, legend=False)
left.axhline(exact.norm(), color="0.4", lw=1, ls=":")
left.text(0.1, exact.norm() * 0.97, "length of the true gradient", va="top", color="0.3", fontsize="small")
right.axhline(score_function.var(0).sum().sqrt(), color="0.4", lw=1, ls=":")
right.text(10, 0.6, "score function", ha="right", color="0.3", fontsize="small")
left.set(xscale="log", xlabel="temperature", ylabel="bias (distance of the mean)", ylim=(0, None))
right.set(xscale="log", yscale="log", xlabel="temperature", ylabel="spread of one estimate")
show(
    fig,
    "Two panels against temperature. Bias grows from almost zero when cold to the length of the true gradient "
    "when hot. The spread of one estimate falls from above 1 when cold to below 0.1 when hot.",
)
for name in ways:
    assert bias[name][0] < 0.35 * bias[name][3]  # ten times colder than 1: most of the bias is gone ...
    assert spread[name][0] > 3 * spread[name][3]  # ... and one estimate is several times as noisy
    assert bias[name][-1] > 0.8 * exact.norm()  # hot: hardly any of the gradient is left
assert (score_function.mean(0) - exact).norm() < 0.02  # the score function has no bias

# %% [markdown] slideshow={"slide_type": "notes"}
# Cold: almost unbiased, and wild. Hot: calm, and wrong. At temperature 10 hardly any of the true gradient is left, and
# our cost shows why: a mixture of options is worth about 1, and 1 is nearly what the next module wants. *Inside* the
# simplex everything is fine already, while every *corner* but c is bad. That is the danger of every relaxation: it may
# solve a problem that nobody has.
#
# And be fair: with three options, the plain score function has no bias at all, and less spread than a cold
# Gumbel-Softmax. The next notebook gives it its due. What the relaxation has to offer shows on a real task.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A real task: find the digit
#
# Nine patches. One is a handwritten digit, eight are clutter made of other digits. The network may classify **one**
# patch. It is told the class, never the place.

# %% slideshow={"slide_type": "skip"}
data = digits()
test = find_the_digit(data.test_x, data.test_y, n_scenes=1080, generator=torch.Generator().manual_seed(99))
test.patches.shape, test.label[:4].tolist()

# %% slideshow={"slide_type": "-"} tags=["fold"]
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
# **Find the three digits first.** Most of the clutter is a digit with its pixels shuffled, easy to reject. Three in ten
# are mosaics, each quarter from another digit: these have strokes, and can only be rejected by their shape.
#
# The class is the only label. Nobody tells the network *where* to look: it has to learn that through the choice. We do
# know the place, and use it for measuring only. The digits are real (scikit-learn's, 8 × 8 pixels), test scenes are
# made of digits never seen in training. A word of honesty: we made the clutter just hard enough for the methods to
# differ, by looking at these test scenes. Trust the large differences, not the second decimal.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## One equation: $y = \sum_k z_k \, f_k(x)$

# %% slideshow={"slide_type": "-"}
class Finder(nn.Module):
    """Score every patch, choose, classify: y = Σ_k z_k · f(x_k)."""

    def __init__(self, choose):
        super().__init__()
        self.score, self.classify, self.choose = MLP(64, 32, 1), MLP(64, 64, 10), choose

    def forward(self, patches):
        x = patches.flatten(2)  # (B, 9, 64)
        choice = self.choose(self.score(x).squeeze(-1))  # weights z: (B, 9)
        y = (choice.weights.unsqueeze(-1) * self.classify(x)).sum(1)  # (B, 10)
        return y, choice


# %% slideshow={"slide_type": "skip"}
def at_random(scores):
    return sample(torch.zeros_like(scores))


methods = {
    "random": at_random,
    "argmax": argmax,
    "softmax (soft attention)": softmax,
    "Gumbel-Softmax": partial(gumbel_softmax, temperature=2.0),
    "straight-through": lambda scores: straight_through(gumbel_softmax(scores, 2.0)),
}


def scenes(generator):
    while True:
        yield find_the_digit(data.train_x, data.train_y, generator=generator)


# %% [markdown] slideshow={"slide_type": "notes"}
# The same network for all methods; only `choose` differs. Here the options $f_k$ are "classify patch k", one classifier
# for all nine, so the nine calls are one batch.
#
# At test time there is no noise, and no mixing: the patch with the highest score is picked, and the classifier sees
# nothing else.
#
# **Predict** an order: random, argmax, softmax, Gumbel-Softmax, straight-through. Which learn where to look? Does any
# of the last three stand out?

# %% slideshow={"slide_type": "skip"}
def look_once(finder, patches, label, position):
    """Test time: pick one patch, classify only that; and what mixing all nine would have said."""
    x, rows = patches.flatten(2), torch.arange(len(patches))
    scores = finder.score(x).squeeze(-1)
    pick = at_random if finder.choose is at_random else argmax
    picked = pick(scores).weights.argmax(-1)
    one = finder.classify(x[rows, picked]).argmax(-1)
    nine = (scores.softmax(-1).unsqueeze(-1) * finder.classify(x)).sum(1).argmax(-1)
    return {"accuracy": one == label, "right patch": picked == position, "accuracy, all nine": nine == label}


def train(choose, run):
    torch.manual_seed(1000 * seed + run)
    finder = Finder(choose)
    history = fit(
        finder,
        lambda patches, label, position: F.cross_entropy(finder(patches)[0], label),
        scenes(torch.Generator().manual_seed(1000 * seed + run)),
        steps=500,
        lr=5e-3,
        measure=lambda: evaluate(finder, partial(look_once, finder), [test]),
        every=50,
        label=f"run {run}",
    )
    return finder, history


# %% slideshow={"slide_type": "skip"}
runs = {name: [train(choose, run) for run in range(3)] for name, choose in methods.items()}


def last(name, what):
    return np.mean([history[-1][what] for _, history in runs[name]])


columns = ["accuracy", "right patch", "accuracy, all nine"]
print("mean of 3 seeds           " + "  ".join(columns))
for name in methods:
    print(f"{name:26}" + "  ".join(f"{last(name, what):{len(what)}.2f}" for what in columns))

# %% slideshow={"slide_type": "skip"}
learners = list(methods)[2:]
assert all(last(name, "accuracy") < 0.35 for name in ("random", "argmax"))
assert all(last(name, "accuracy") > 0.75 and last(name, "right patch") > 0.75 for name in learners)
# soft attention is as good as the two that choose, and loses nothing when it is made to choose at test time
assert all(last("softmax (soft attention)", "accuracy") > last(name, "accuracy") - 0.02 for name in learners)
assert abs(last("softmax (soft attention)", "accuracy, all nine") - last("softmax (soft attention)", "accuracy")) < 0.03

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Who learns where to look?

# %% slideshow={"slide_type": "-"} tags=["fold", "figure:find_the_digit_learning"]
steps = [row["step"] for row in runs["random"][0][1]]
fig, ax = plt.subplots(figsize=(10, 4.1))
accuracy = {name: [[row["accuracy"] for row in history] for _, history in of] for name, of in runs.items()}
plots.curves(ax, steps, accuracy)
ax.set(xlabel="training step", ylabel="test accuracy, looking once", ylim=(0, 1), xlim=(50, 500))
show(
    fig,
    "Test accuracy over 500 training steps, mean and range of 3 seeds. Random and argmax stay near 0.2. Softmax, "
    "Gumbel-Softmax and straight-through climb to almost 0.9, softmax first.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Random and argmax learn to classify whatever patch they happen to get, and never where to look: no gradient reaches
# the scorer. (Averaging their nine answers blindly does better than their choice.) The other three find the digit in
# almost nine scenes of ten, from the class label alone.
#
# And the honest part: **soft attention does as well as the discrete methods here**, and learns faster. It even loses
# nothing when it is made to pick a single patch at test time. If you can afford to run every option in training, try it
# first. What it cannot do is train in a world where options exclude each other: where *running* f on a mixture, or
# running all of them, is impossible or too expensive.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Too cold is a trap, too hot is a blur

# %% slideshow={"slide_type": "skip"}
sweep = {2.0: runs["Gumbel-Softmax"]}
for temperature in (0.1, 0.5, 10.0, 30.0):
    sweep[temperature] = [train(partial(gumbel_softmax, temperature=temperature), run) for run in range(3)]
sweep = dict(sorted(sweep.items()))
final = {t: [history[-1]["accuracy"] for _, history in of] for t, of in sweep.items()}
print({t: f"{np.mean(accuracies):.2f}" for t, accuracies in final.items()})
assert np.mean(final[2.0]) > np.mean(final[0.1]) + 0.2
assert np.mean(final[2.0]) > np.mean(final[30.0]) + 0.05

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.8))
plots.curves(ax, list(final), {"Gumbel-Softmax": np.array(list(final.values())).T}, legend=False)
ax.set(xscale="log", xlabel="temperature", ylabel="test accuracy, looking once", ylim=(0, 1))
ax.set_xticks(list(final), [f"{t:g}" for t in final])
ax.minorticks_off()
show(
    fig,
    "Test accuracy after 500 steps against temperature, mean and range of 3 seeds: about 0.5 at 0.1, highest "
    "near 2, lower again at 30.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The trade of bias against variance, on a real task. Cold: the estimates are so noisy that the scorer commits to the
# first patches that look useful, and does not get out again. Hot: the classifier sees a blur of nine patches in
# training and one sharp patch at test time, and the scorer's gradient is small. In between lies a wide plateau, so
# temperature needs the right order of magnitude and no more. Papers often start hot and cool down slowly; on this task
# that brought nothing.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Where it looks
#
# Solid frame: the patch it picked. Dots: the digit. Below each patch its score.

# %% slideshow={"slide_type": "-"} tags=["fold"]
finder = runs["straight-through"][0][0]
with torch.no_grad():
    scores = finder.score(test.patches.flatten(2)).squeeze(-1)
right = scores.argmax(-1) == test.position
shown = [*right.nonzero()[:2, 0].tolist(), (~right).nonzero()[0, 0].item()]
fig, axes = plt.subplots(1, 3, figsize=(10, 3.9))
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
# ## What looking once saves

# %% slideshow={"slide_type": "skip"}
x = test.patches.flatten(2)
with torch.no_grad():
    z = argmax(finder.score(x).squeeze(-1)).weights
rows = []
for width in (64, 2048):  # the classifier above, and one 32 times as wide (untrained: only its cost matters)
    classify = finder.classify if width == 64 else MLP(64, width, 10)
    options = [lambda x, k=k, f=classify: f(x[:, k]) for k in range(9)]  # f_k: classify patch k
    with torch.no_grad():
        torch.testing.assert_close(mix(x, z, options), mix_sparse(x, z, options))  # the same answer ...
        flops = [count_flops(evaluate_mixture, x, z, options) for evaluate_mixture in (mix, mix_sparse)]
        times = [wall_time(evaluate_mixture, x, z, options) for evaluate_mixture in (mix, mix_sparse)]
    assert flops[0] == 9 * flops[1]  # ... for a ninth of the work
    rows.append((width, *flops, *times))
assert rows[0][3] / rows[0][4] < rows[1][3] / rows[1][4]  # the clock agrees better where the work is large
assert rows[1][3] > 4 * rows[1][4]

# %% slideshow={"slide_type": "skip"} tags=["varies"]
print("classifier      FLOPs a scene                milliseconds for 1,080 scenes")
print("   width     all nine   picked  ratio       all nine   picked  ratio")
for width, nine, one, slow, fast in rows:
    counted = f"{nine / 1080:13,.0f}{one / 1080:9,.0f}{nine / one:7.1f}"
    print(f"{width:8}{counted}{1e3 * slow:15.2f}{1e3 * fast:9.2f}{slow / fast:7.1f}")

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
fig, ax = plt.subplots(figsize=(10, 3.4))
groups = [f"classifier {width:,} wide" for width, *_ in rows]
counted, measured = [nine / one for _, nine, one, *_ in rows], [slow / fast for *_, slow, fast in rows]
plots.bars(ax, groups, {"fewer FLOPs, counted": counted, "less time, measured": measured}, fmt="{:.1f} ×")
ax.set(ylabel="one patch against nine", ylim=(0, 1.5 * max(*counted, *measured)))
show(
    fig,
    f"Bars: for one patch instead of nine, 9 times fewer FLOPs at both widths; measured {measured[0]:.1f} times "
    f"less time at width 64, {measured[1]:.1f} times at width 2,048.",
)

# %% slideshow={"slide_type": "skip"}
with torch.no_grad():
    scoring = count_flops(finder.score, x)
saved = (rows[0][1] + scoring) / (rows[0][2] + scoring)
print(f"with the scorer, which must see all nine patches: {saved:.1f} times fewer FLOPs at width 64")
assert 2 < saved < 3

# %% [markdown] slideshow={"slide_type": "notes"}
# `mix` evaluates every option and weights it; `mix_sparse` evaluates only what has a weight. Same answer, a ninth of
# the work: the skipped classifications are not multiplied by zero, they are not executed. Counter and clock disagree:
# for our tiny classifier, gathering rows eats most of the gain; for one that is 32 times as wide the gain is there, and
# may exceed the count, because less work also fits the cache better.
#
# Two caveats. The scorer must look at every patch, and is not much cheaper than our classifier, so the whole network
# gains much less. A choice pays where options are expensive and scores are cheap. And the saving comes at *test* time:
# in training, softmax, Gumbel-Softmax and straight-through all need every $f_k(x)$ for the gradient.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where Gumbel-Softmax fails
#
# - **It solves a relaxed problem.** A mixture may be good where no single option is.
# - **Cold is noisy, hot is blind.** Find the plateau; do not tune the decimals.
# - **Training is dense.** The gradient needs every option, the saving comes later.
# - **The cost must be differentiable**, and defined between the options.
# - **Soft attention may do as well.** Try it first if you can afford it.

# %% [markdown] slideshow={"slide_type": "notes"}
# When these hurt, look further: the score function (notebook 03) needs one option and no derivative; sparsemax and
# top-k (notebook 04) have exact zeros without noise; and for large k, mixtures of experts (notebook 08) bring their own
# tricks, and their own diseases.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercises
#
# ### Exercise 1: a forbidden option (★☆☆, 5 min)
#
# A patch at the border must not be chosen; a layer is switched off. Write `forbid(scores, allowed)`: scores `(..., k)`
# and a mask of True and False in, new scores out. A forbidden option must **never** be chosen, by any of the ways
# above, and the odds among the others must stay as they are.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def forbid(scores, allowed):
    return ...


check("forbid", forbid)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def forbid_solution(scores, allowed):
    return scores.masked_fill(~allowed, -torch.inf)


check("forbid", forbid_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise 2: keep or discard (★★☆, 10 min)
#
# The talk's special case: with $k = 2$ we *keep or discard* a patch, a layer, a module. Two scores are one too many, as
# only their difference matters; so let the score of "discard" be 0. Write `keep(score, temperature, generator)`, which
# returns the first entry of the two-way Gumbel-Softmax sample, without a softmax. `score` is `(N,)`, and so is the
# result; draw noise with `torch.empty(...).exponential_(generator=generator)`.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def keep(score, temperature, generator):
    return ...


check("keep_or_discard", keep)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def keep_solution(score, temperature, generator):
    e = torch.empty(2, *score.shape).exponential_(generator=generator)
    logistic = e[1].log() - e[0].log()  # g_keep - g_discard
    return ((score + logistic) / temperature).sigmoid()


check("keep_or_discard", keep_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# $$y = \sum_k z_k \, f_k(x) \qquad z = \operatorname{softmax}\!\left(\frac{s + g}{\lambda}\right)$$
#
# - Noise on the scores turns argmax into a sample of softmax.
# - A temperature turns the sample into something with a gradient.
# - Straight-through makes it hard again, for the forward pass.
# - The price: bias when hot, variance when cold.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - E. Jang, S. Gu, B. Poole, *Categorical Reparameterization with Gumbel-Softmax*, ICLR 2017.
# - C. J. Maddison, A. Mnih, Y. W. Teh, *The Concrete Distribution*, ICLR 2017: the density, the limits.
# - Y. Bengio, N. Léonard, A. Courville, *Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
#   Computation*, 2013: straight-through.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
