# %% [markdown] slideshow={"slide_type": "slide"}
# # Sparse choices: exact zeros, with a gradient
#
# **Notebook 04** · *Designing efficient and modular neural networks*
#
# Softmax gives every option a weight, so every option has to run.
# Can a choice say *no* to most of them, and still learn?

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you will be able to do.** See softmax, sparsemax and entmax as one optimisation problem with one dial; write
# sparsemax in a few lines; train with the loss that belongs to each; skip the options of weight zero and measure the
# gain; draw k options out of K, and say from which distribution. You need: softmax, backpropagation, a little
# geometry. About 45 minutes with the two exercises. Everything below runs on a laptop in less than a minute.

# %% slideshow={"slide_type": "skip"}
from functools import partial
from itertools import combinations, permutations

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lecture_lib import choice, plots
from lecture_lib.choice import gumbel_top_k, top_k
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.data import batches, digits, find_the_digit
from lecture_lib.mixture import mix, mix_sparse
from lecture_lib.models import MLP
from lecture_lib.notebook import check, setup, show
from lecture_lib.simplex import entmax, fenchel_young_loss, sparsemax
from lecture_lib.training import evaluate, fit
from lecture_lib.widgets import SparseMaps

seed = setup(0)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Softmax never says no

# %% slideshow={"slide_type": "-"}
s = torch.tensor([1.3, 0.2, 0.7])  # three options: a, b, c
alphas = {"softmax": 1, "1.5-entmax": 1.5, "sparsemax": 2}  # one family, and its dial
weights = {name: entmax(s, alpha).tolist() for name, alpha in alphas.items()}

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.3))
plots.bars(ax, ["a", "b", "c"], weights)
ax.set(ylim=(0, 1), ylabel="weight z")
show(
    fig,
    "Bars of weights for the options a, b and c. Softmax gives b 0.18, 1.5-entmax a little, sparsemax exactly zero; "
    "a's weight grows from 0.53 over 1.5-entmax to 0.80.",
)
assert weights["sparsemax"][1] == 0 and weights["1.5-entmax"][1] > 0

# %% [markdown] slideshow={"slide_type": "notes"}
# The talk's scores once more, $s = [1.3, 0.2, 0.7]$. Softmax finds b worth 18 %. Sparsemax gives it **exactly** zero,
# not a small number. The difference matters as soon as options cost something: in $y = \sum_k z_k f_k(x)$ an option of
# weight zero need not run.
#
# **Predict:** can softmax be made to give a zero by multiplying the scores, say by 20? The next cell looks.

# %% slideshow={"slide_type": "skip"}
assert ((20 * s).softmax(-1) > 0).all()  # sharper, and still everything has to run
(20 * s).softmax(-1)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Sparsemax: the nearest point of the simplex
#
# $$\operatorname{sparsemax}(s) = \arg\min_{p \,\in\, \text{simplex}} \|p - s\|^2$$

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.9))
two = [[1.1, 0.5], [0.2, 0.3], [0.2, 1.4], [1.5, 0.1], [0.9, -0.5], [-0.4, 0.8], [0.75, 0.85], [-0.4, 0.1]]
two = torch.tensor(two)
left.plot([0, 1], [1, 0], color="0.2", lw=3)
left.set(xlabel="score of a", ylabel="score of b", xlim=(-0.6, 1.7), ylim=(-0.6, 1.6), aspect="equal")
angles = torch.linspace(0, 2 * np.pi, 16)[:-1] + 0.1
ring = torch.stack([0.5 + 0.75 * angles.cos(), 0.29 + 0.75 * angles.sin(), torch.ones(15)], -1)
to_plane = torch.tensor([[0.5, 3**0.5 / 2, 1], [0, 0, 1], [1, 0, 1]]).T  # weights of a, b, c -> x, y, sum
three = torch.linalg.solve(to_plane, ring.T).T  # scores with sum 1, on a ring around the triangle
plots.triangle(right, ["", "", ""]).set(xlim=(-0.35, 1.35), ylim=(-0.5, 1.1))
for label, (x, y) in zip("abc", plots.on_triangle(0.7 * np.eye(3) + 0.1), strict=True):
    right.text(x, y, label, ha="center", va="center")
for ax, start, end in (
    (left, two, sparsemax(two)),
    (right, plots.on_triangle(three), plots.on_triangle(sparsemax(three))),
):
    for a, b in zip(np.asarray(start), np.asarray(end), strict=True):
        ax.annotate("", b, a, arrowprops={"arrowstyle": "->", "color": "C0", "lw": 1.4, "shrinkB": 0})
    ax.scatter(*np.asarray(start).T, s=22, color="C0", label="scores")
    ax.scatter(*np.asarray(end).T, s=50, color="C1", marker="D", zorder=4, label="nearest point")
left.legend(frameon=False, loc="upper right", borderpad=0, handletextpad=0.2)
left.set_title("two options: a segment")
right.set_title("three options: a triangle")
show(
    fig,
    "Scores as dots with arrows to the nearest point of the simplex, for two options (a segment) and for three (a "
    "triangle). Many arrows end on an edge or in a corner.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The weights of two options live on a segment, those of three in a triangle: the **simplex**. Scores may lie anywhere.
# Sparsemax (Martins & Astudillo 2016) takes the shortest way back. Whoever starts far outside lands on the border, and
# on the border some weights are exactly zero. Moving all scores up by the same amount moves the point at right angles
# to the simplex, and changes nothing: like softmax, sparsemax sees differences only.

# %% slideshow={"slide_type": "skip"}
n = 200  # a grid over the triangle: is one of its points nearer to s than sparsemax(s)?
grid = torch.tensor([[i, j, n - i - j] for i in range(n + 1) for j in range(n + 1 - i)]) / n
distance = (grid - s).norm(dim=-1)
assert (sparsemax(s) - s).norm() <= distance.min() + 1e-6
print(f"nearest of {len(grid):,} points: {grid[distance.argmin()].numpy()}, sparsemax: {sparsemax(s).numpy()}")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## By hand: sort, then a threshold
#
# $$p_k = \max(s_k - \tau, 0) \qquad \text{with the } \tau \text{ for which } \textstyle\sum_k p_k = 1$$

# %% slideshow={"slide_type": "-"}
def by_hand(s):
    ordered = s.sort(-1, descending=True).values
    n = torch.arange(1, s.shape[-1] + 1)
    tau = (ordered.cumsum(-1) - 1) / n  # the threshold, if the n largest share the weight
    size = (ordered > tau).sum(-1, keepdim=True)  # largest n whose members all exceed it
    return (s - tau.gather(-1, size - 1)).clamp(min=0)


scores = torch.randn(1000, 10)
torch.testing.assert_close(by_hand(scores), sparsemax(scores))
by_hand(s)

# %% [markdown] slideshow={"slide_type": "notes"}
# Where the threshold comes from: minimise $\frac12 \|p - s\|^2$ under $\sum_k p_k = 1$. Where $p_k > 0$, the derivative
# $p_k - s_k$ must equal a constant, $-\tau$; everyone else is at zero.
#
# **Do it once with a pencil** for $s = [1.3, 0.7, 0.2]$, sorted. One member: $\tau = (1.3 - 1)/1 = 0.3$. Two: $\tau =
# (2.0 - 1)/2 = 0.5$, and the second score, 0.7, is above it. Three: $\tau = (2.2 - 1)/3 = 0.4$, but the third, 0.2, is
# below. So two share the weight, $p = [0.8, 0.2, 0]$. From here on we use the library: it adds gradients, $-\infty$ as
# "forbidden", half precision and a look at the largest few before it sorts thousands.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## One family: score, plus a price for certainty
#
# $$p = \arg\max_{p \,\in\, \text{simplex}} \; \langle p, s \rangle + H_\alpha(p) \qquad
# H_\alpha(p) = \frac{1 - \sum_k p_k^\alpha}{\alpha (\alpha - 1)}$$

# %% slideshow={"slide_type": "-"} tags=["fold"]
def entropy(p, alpha):
    """H_α over the last dimension; Shannon's for α = 1, the limit."""
    return torch.special.entr(p).sum(-1) if alpha == 1 else (1 - (p**alpha).sum(-1)) / (alpha * (alpha - 1))


p = torch.linspace(0, 1, 201)
lead = torch.linspace(-3, 3, 241)
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5))
pair = torch.stack([p, 1 - p], -1)
plots.curves(left, p, {name: entropy(pair, alpha)[None] for name, alpha in alphas.items()}, legend=False)
left.set(xlabel="weight of a, of two options", ylabel="entropy $H_α$", xticks=[0, 0.5, 1])
pair = torch.stack([lead, torch.zeros_like(lead)], -1)
plots.curves(right, lead, {name: entmax(pair, alpha)[None, :, 0] for name, alpha in alphas.items()})
right.set(xlabel="lead of a over b", ylabel="weight of a", xticks=range(-3, 4))
show(
    fig,
    "Left: three entropies of two options, all zero at the ends and largest in the middle; Shannon's starts with an "
    "infinite slope. Right: weight of a against its lead. Softmax is an S that never ends, 1.5-entmax is flat beyond a "
    "lead of 2, sparsemax a ramp that is flat beyond 1.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# All three maps solve the same problem: collect score, but be paid for staying undecided. Without the payment, the best
# $p$ is a corner: argmax. The payment is an entropy, Tsallis' family: $\alpha \to 1$ gives Shannon's entropy and
# softmax, $\alpha = 2$ gives sparsemax (complete the square and it is the projection), $\alpha = 1.5$ lies between.
#
# **Why softmax never reaches zero** is in the left picture, at the very ends: Shannon's entropy starts with an
# *infinite* slope. The first bit of weight pays any price. The other two start with a finite slope, so a lead that is
# large enough buys the zero. Read off the right picture how large: 2 for 1.5-entmax, 1 for sparsemax. (What is the
# rule? Exercise 2.)

# %% slideshow={"slide_type": "skip"}
for name, alpha in alphas.items():  # the maximum over the grid of the triangle is where entmax says
    value = grid @ s + entropy(grid, alpha)
    ours = entmax(s, alpha)
    assert value.max() <= ours @ s + entropy(ours, alpha) + 1e-6
    assert (grid[value.argmax()] - ours).abs().max() < 1 / n
    print(f"{name:11} best of the grid {grid[value.argmax()].numpy().round(3)}, entmax {ours.numpy().round(3)}")

# %% slideshow={"slide_type": "skip"}
ends = torch.tensor([[0.99, 0.0], [1.01, 0.0], [1.99, 0.0], [2.01, 0.0]])
assert (sparsemax(ends)[:, 1] == 0).tolist() == [False, True, True, True]
assert (entmax(ends, 1.5)[:, 1] == 0).tolist() == [False, False, False, True]

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Where the zeros are
#
# The plane of all scores: who has a weight, where? The triangle is the simplex.

# %% slideshow={"slide_type": "-"} tags=["fold"]
x, y = torch.meshgrid(torch.linspace(-1.9, 2.9, 480), torch.linspace(-1.75, 2.45, 420), indexing="xy")
plane = torch.stack([x, y, torch.ones_like(x)], -1) @ torch.linalg.inv(to_plane).T  # the scores at each point
centre = np.array([0.5, 3**0.5 / 6])
fig, axes = plt.subplots(1, 3, figsize=(10, 3.5))
for ax, (name, alpha) in zip(axes, alphas.items(), strict=True):
    support = entmax(plane, alpha) > 0
    ax.contourf(x, y, support.sum(-1), levels=[0.5, 1.5, 2.5, 3.5], colors=["#9ec9e2", "#d6e8f2", "#fbfbf7"])
    if alpha > 1:
        for k in range(3):
            ax.contour(x, y, support[..., k].float(), levels=[0.5], colors="0.35", linewidths=1)
        for members in ("a", "b", "c", "ab", "bc", "ac"):
            spot = np.mean([plots.on_triangle(np.eye(3)["abc".index(m)]) for m in members], 0)
            far = 2.5 if len(members) == 1 else 3.9
            ax.text(*(centre + far * (spot - centre)), "\n".join(members) if members in "a" else " ".join(members),
                    ha="center", va="center", fontsize="small")  # fmt: skip
    plots.triangle(ax, ["", "", ""])
    ax.text(*centre, "a b c", ha="center", va="center", fontsize="small")
    ax.set(xlim=(-1.3, 2.3), ylim=(-1.2, 1.95), title=name)
show(
    fig,
    "Three maps of the plane of scores. Softmax: everywhere all of a, b, c have a weight. Sparsemax: all three only "
    "inside the simplex, two in strips beside its edges, one in wedges behind its corners. 1.5-entmax: the same with a "
    "larger, rounded middle.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Up is a better score for a, to the left for b, to the right for c. **Softmax:** one region, everybody is in.
# **Sparsemax:** seven regions. Inside the simplex, scores are weights already. Beside an edge, the third option has
# dropped out; behind a corner only one is left. **1.5-entmax:** the same seven, with a middle twice as wide and rounded
# (its three sides are arcs of circles: $\sum_k (s_k/2 - \tau)^2 = 1$).
#
# Two things to keep. The maps are continuous: you cross a border without a jump. And size matters: multiply all scores
# by 3 and you walk outward from the centre, into sparser regions. With very small scores, every map is dense.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Drag the scores
#
# **Predict, then drag:** how far must c fall until sparsemax drops it?

# %% slideshow={"slide_type": "-"} tags=["fold", "figure:sparse_maps_widget"]
widget = SparseMaps([1.3, 0.2, 0.7, -0.4, 0.9])
widget

# %% [markdown] slideshow={"slide_type": "notes"}
# Left: five scores, and two thresholds. An option has a weight where its dot is above the line; for sparsemax, what
# stands out above the dashed line *is* the weight. A cross marks an exact zero.
#
# **Try.** Lower c slowly: it fades, then is gone; sparsemax drops it first. Raise a: one after the other drops out,
# until a alone is left. Then *all scores ×*: large numbers thin out both sparse maps, while softmax stays at 5 of 5.
# Small numbers bring everyone back. Now push e far down and move it a little: **nothing** else moves. Remember this: it
# is a danger, too.

# %% slideshow={"slide_type": "skip"}
widget.scores, sparsemax(widget.scale * torch.tensor(widget.scores))  # Python sees the sliders: move, run again

# %% slideshow={"slide_type": "skip"}
supports = {name: [(entmax(f * s, alpha) > 0).sum().item() for f in (0.1, 1.0, 10.0)] for name, alpha in alphas.items()}
assert supports == {"softmax": [3, 3, 3], "1.5-entmax": [3, 3, 1], "sparsemax": [3, 2, 1]}
print("support of scale · s for scales 0.1, 1, 10:", supports)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The danger: no weight, no gradient
#
# Costs: a 1, b ½, c nothing. Gradient descent on $\langle z, \text{cost} \rangle$, but a starts in the lead.

# %% slideshow={"slide_type": "skip"}
def descend(alpha, leads, steps):
    """Cost that gradient descent reaches from scores [lead, 0, 0], for many leads at once."""
    scores = F.pad(leads[:, None], (0, 2)).requires_grad_()
    for _ in range(steps):
        cost = entmax(scores, alpha) @ torch.tensor([1.0, 0.5, 0.0])
        (slope,) = torch.autograd.grad(cost.sum(), scores)
        scores = (scores - slope).detach().requires_grad_()
    return cost.detach()


leads = torch.linspace(0, 8, 81) + 0.05  # of the worst option
reached = {(name, steps): descend(alpha, leads, steps) for name, alpha in alphas.items() for steps in (100, 1000)}
wall = {key: leads[cost > 0.5].min().item() for key, cost in reached.items()}
print("from this lead on it fails:", {f"{name}, {steps} steps": f"{at:.2f}" for (name, steps), at in wall.items()})

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.3))
lines = {
    "softmax, 100 steps": reached["softmax", 100],
    "1.5-entmax": reached["1.5-entmax", 1000],
    "sparsemax": reached["sparsemax", 1000],
    "softmax, 1,000 steps": reached["softmax", 1000],
}
plots.curves(ax, leads, {name: cost[None] for name, cost in lines.items()})
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
ax.set(xlabel="lead of the worst option at the start", ylabel="cost after training", ylim=(-0.05, 1.1))
show(
    fig,
    "Cost after training against the head start of the worst option. Sparsemax jumps from 0 to 1 at a lead of 1, "
    "1.5-entmax at 2. Softmax fails later, and the later the more steps it gets.",
)
for steps in (100, 1000):  # the walls of the sparse maps stand where they stand, however long we train
    assert abs(wall["sparsemax", steps] - 1) < 0.2 and abs(wall["1.5-entmax", steps] - 2) < 0.2
assert wall["softmax", 1000] > wall["softmax", 100] + 1.5 > 4  # that of softmax gives way to patience

# %% [markdown] slideshow={"slide_type": "notes"}
# The zero that saves us work has a price. An option of weight zero does not run, so nobody learns what it would have
# cost; and the flat part of the map passes no gradient to its score. If the best option is out, it stays out, until the
# others happen to come down to it. Sparsemax is stuck from a lead of 1, 1.5-entmax from 2, after 100 steps and after
# 1,000. Softmax is never dead, only slow: its gradient shrinks like $e^{-\text{lead}}$, and patience helps.
#
# So: start with small scores, in the dense middle of the triangle. Fresh networks do. And when the choice is the
# *output*, and a label says what is right, there is a way out: a loss made for the map.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A loss for each map
#
# Fenchel-Young: what the best $p$ would collect, less what the truth $y$ does.
#
# $$L_\alpha(s, y) = \max_p \big[ \langle p, s \rangle + H_\alpha(p) \big] - \langle y, s \rangle - H_\alpha(y)
# \qquad \nabla_s L = p - y$$

# %% slideshow={"slide_type": "-"} tags=["fold"]
margin = torch.linspace(-2, 4, 241)
pair, right_class = torch.stack([margin, torch.zeros_like(margin)], -1), torch.zeros(241, dtype=torch.long)
losses = {name: fenchel_young_loss(pair, right_class, alpha)[None] for name, alpha in alphas.items()}
fig, ax = plt.subplots(figsize=(10, 2.9))
plots.curves(ax, margin, losses)
ax.set(xlabel="margin: score of the right class, less the other's", ylabel="loss", ylim=(-0.08, 2.2))
show(
    fig,
    "Loss against the margin for two classes. All three fall in the same way; the one for sparsemax is exactly zero "
    "from a margin of 1, that for 1.5-entmax from 2, cross-entropy never.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Cross-entropy takes the logarithm of a weight. With exact zeros that is $-\infty$, so sparse maps need another loss.
# Blondel, Martins & Niculae (2020) found the pattern: each entropy brings its own. Never negative, zero exactly when
# the prediction is the truth, convex in s, and with the gradient that we know from cross-entropy, *prediction minus
# truth*. For $\alpha = 1$ it **is** cross-entropy. For $\alpha = 2$ it is zero from a margin of 1 on, like the hinge of
# a support vector machine, but smooth.
#
# **And nothing is dead:** if the true class has weight 0, its gradient is $0 - 1$, as strong as can be. The flat part
# is a danger for *hidden* choices, not for predictions trained with their own loss.

# %% slideshow={"slide_type": "skip"}
def loss_by_hand(s, label, alpha):
    p = entmax(s, alpha)
    return (p * s).sum(-1) + entropy(p, alpha) - s.gather(-1, label[:, None]).squeeze(-1)  # H(y) = 0 for a class


scores, label = 2 * torch.randn(500, 10), torch.randint(10, (500,))
for alpha in alphas.values():
    s_ = scores.clone().requires_grad_()
    loss = fenchel_young_loss(s_, label, alpha)
    torch.testing.assert_close(loss, loss_by_hand(scores, label, alpha), rtol=1e-4, atol=1e-5)
    (slope,) = torch.autograd.grad(loss.sum(), s_)
    torch.testing.assert_close(slope, entmax(scores, alpha) - F.one_hot(label, 10))
torch.testing.assert_close(fenchel_young_loss(scores, label, 1), F.cross_entropy(scores, label, reduction="none"))

# %% slideshow={"slide_type": "skip"}
def loss_at(margin, alpha):
    return fenchel_young_loss(torch.tensor([[margin, 0.0, 0.0]]), torch.tensor([0]), alpha).item()


assert loss_at(1.0, 2) == 0 < loss_at(0.99, 2) and loss_at(2.0, 1.5) == 0 < loss_at(1.95, 1.5) and loss_at(10.0, 1) > 0
behind = torch.tensor([[5.0, 0.0]], requires_grad=True)  # the true class, b, is far behind: weight 0 ...
fenchel_young_loss(behind, torch.tensor([1]), 2).sum().backward()
assert sparsemax(behind)[0, 1] == 0 and behind.grad[0, 1] == -1  # ... and pulled up with full strength

# %% [markdown] slideshow={"slide_type": "slide"}
# ## On the digits: one network, three losses
#
# The classes that get a weight are a **set**: what the network does not rule out.

# %% slideshow={"slide_type": "skip"}
data = digits()
test_x = data.test_x.flatten(1)


def train_classifier(alpha, run):
    torch.manual_seed(1000 * seed + run)
    model = MLP(64, 64, 10)
    order = torch.Generator().manual_seed(1000 * seed + run)
    fit(
        model,
        lambda x, y: fenchel_young_loss(model(x.flatten(1)), y, alpha).mean(),
        batches(data.train_x, data.train_y, generator=order),
        steps=400,
        label=f"run {run}",
    )
    return model


def describe(p, named):
    """What a set-valued prediction is worth: p (N, 10), and which classes it names (N, 10)."""
    right, alone = p.argmax(-1) == data.test_y, named.sum(-1) == 1
    return {
        "accuracy": right.float().mean().item(),
        "classes named": named.sum(-1).float().mean().item(),
        "only one": alone.float().mean().item(),
        "... and right": right[alone].float().mean().item() if alone.any() else float("nan"),
        "truth named": named[torch.arange(len(named)), data.test_y].float().mean().item(),
    }


# %% slideshow={"slide_type": "skip"}
classifiers = {name: [train_classifier(alpha, run) for run in range(3)] for name, alpha in alphas.items()}
with torch.no_grad():
    p = {name: [entmax(m(test_x), alphas[name]) for m in models] for name, models in classifiers.items()}
sets = {name: [describe(z, z > 0) for z in of] for name, of in p.items()}
for z, sparse in zip(p["softmax"], p["sparsemax"], strict=True):  # a control: softmax, cut where its sets are as large
    cut = z.flatten().sort(descending=True).values[(sparse > 0).sum() - 1]
    sets.setdefault("softmax, cut", []).append(describe(z, z >= cut))
table = {name: {what: np.mean([row[what] for row in of]) for what in of[0]} for name, of in sets.items()}

# %% slideshow={"slide_type": "-"} tags=["fold"]
print(f"{'mean of 3 seeds':15}" + "".join(f"{what:>14}" for what in table["softmax"]))
for name, row in table.items():
    print(f"{name:15}" + "".join(f"{'-' if np.isnan(v) else f'{v:.3f}':>14}" for v in row.values()))
accuracies = [table[name]["accuracy"] for name in alphas]
assert min(accuracies) > 0.95 and max(accuracies) - min(accuracies) < 0.02  # the loss hardly matters for accuracy
assert min(accuracies) > accuracies[0] - 0.005  # and the sparse losses are not behind
assert table["softmax"]["classes named"] == 10 and table["sparsemax"]["classes named"] < 1.6
assert table["sparsemax"]["classes named"] < table["1.5-entmax"]["classes named"] < 2
for name in ("1.5-entmax", "sparsemax"):
    assert table[name]["only one"] > 0.5 and table[name]["... and right"] > 0.99 and table[name]["truth named"] > 0.985
assert abs(table["softmax, cut"]["truth named"] - table["sparsemax"]["truth named"]) < 0.015

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Sets of one, two and three classes

# %% slideshow={"slide_type": "-"} tags=["fold"]
z = p["sparsemax"][0]
size = (z > 0).sum(-1)
named = z[torch.arange(len(z)), data.test_y] > 0
spread = z.amax(-1)  # of those with as many classes, the least decided one
shown = [(spread + 9.0 * ~(named & (size == n))).argmin().item() for n in (1, 2, 3)]
fig, axes = plt.subplots(1, 6, figsize=(10, 4), width_ratios=[1, 1.3] * 3)
for (left, right), i in zip(axes.reshape(3, 2), shown, strict=True):
    left.imshow(data.test_x[i], cmap="gray_r")
    left.axis("off")
    left.set_title(f"truth: {data.test_y[i]}")
    other = [k for k in range(10) if k != data.test_y[i]]
    right.barh(other, z[i, other], color="C0", label="another class")
    right.barh(data.test_y[i], z[i, data.test_y[i]], color="C1", hatch="//", edgecolor="white", label="the truth")
    for k in range(10):
        right.text(z[i, k] + 0.05, k, f"{z[i, k]:.2f}" if z[i, k] > 0 else "×", va="center", fontsize="small")
    right.set(yticks=range(10), xlim=(0, 1.6), xticks=[0, 1], ylim=(9.6, -0.6), xlabel="weight")
    right.set_title(f"names {size[i]}")
fig.legend(*right.get_legend_handles_labels(), frameon=False, ncols=2, loc="outside lower center")
show(
    fig,
    "Three test digits with sparsemax's weights for the ten classes, exact zeros as crosses: one digit with a single "
    "class named, one with two, one with three.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Accuracy: the same**, to within a percent or two; the sparse losses are, if anything, ahead by a few of 540 images:
# no reason to choose them. What they add is a statement: for most test digits sparsemax names a single class, and is
# then right almost always; where it hesitates it names two or three, and the truth is nearly always among them. The
# loss asks for it: past the margin an example counts nothing, so there is no reward for ruling out more than that, and
# none for overconfidence.
#
# **An honest control** is in the last row: an ordinary softmax, with small weights cut off so that the sets are as
# large on average. It names the truth nearly as often. So the information was in the softmax, too; sparsemax saves you
# the choice of a cut, not more. And neither gives a *guarantee*: the next cell adds noise to the images, and sets that
# were trained on clean digits miss the truth. (A threshold with a guarantee: notebook 07.)

# %% slideshow={"slide_type": "skip"}
noise = torch.randn(data.test_x.shape, generator=torch.Generator().manual_seed(seed))
print("noise   classes named   only one   ... and right   truth named")
for level in (0.0, 0.25, 0.5):
    x = (data.test_x + level * noise).flatten(1)
    with torch.no_grad():
        rows = [describe(z, z > 0) for z in (sparsemax(m(x)) for m in classifiers["sparsemax"])]
    noisy = {what: np.mean([row[what] for row in rows]) for what in rows[0]}
    print("  ".join([f"{level:5}", *(f"{noisy[what]:13.3f}" for what in list(noisy)[1:])]))
assert noisy["truth named"] < 0.9  # no guarantee: it hesitates more, and yet not enough

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Sparse attention: find the digit
#
# The task of notebook 02: nine patches, one of them a digit, the class as the only label. Now $z$ may be zero.

# %% slideshow={"slide_type": "-"}
class Finder(nn.Module):  # scores every patch, weighs, classifies: y = Σ_k z_k · f(x_k)
    def __init__(self, choose):
        super().__init__()
        self.score, self.classify, self.choose = MLP(64, 32, 1), MLP(64, 64, 10), choose

    def forward(self, patches):
        x = patches.flatten(2)  # (B, 9, 64)
        z = self.choose(self.score(x).squeeze(-1)).weights  # (B, 9)
        return (z.unsqueeze(-1) * self.classify(x)).sum(1), z  # (B, 10)


methods = {name: partial(choice.entmax, alpha=alpha) for name, alpha in alphas.items()}

# %% slideshow={"slide_type": "skip"}
test = find_the_digit(data.test_x, data.test_y, n_scenes=1080, generator=torch.Generator().manual_seed(99))


def scenes(generator):
    while True:
        yield find_the_digit(data.train_x, data.train_y, generator=generator)


def look(finder, patches, label, position):
    """Test time: as in training, and how many patches got a weight; is the digit's among them?"""
    y, z = finder(patches)
    has_weight = z.gather(-1, position[:, None]).squeeze(-1) > 0
    return {"accuracy": y.argmax(-1) == label, "patches": (z > 0).sum(-1), "digit in": has_weight}


def train_finder(choose, run):
    torch.manual_seed(1000 * seed + run)
    finder = Finder(choose)
    start = evaluate(finder, partial(look, finder), [test])
    history = fit(
        finder,
        lambda patches, label, position: F.cross_entropy(finder(patches)[0], label),
        scenes(torch.Generator().manual_seed(1000 * seed + run)),
        steps=500,
        lr=5e-3,
        measure=lambda: evaluate(finder, partial(look, finder), [test]),
        every=50,
        label=f"run {run}",
    )
    return finder, [{"step": 0, **start}, *history]


# %% slideshow={"slide_type": "skip"}
runs = {name: [train_finder(choose, run) for run in range(3)] for name, choose in methods.items()}


def last(name, what):
    return np.mean([history[-1][what] for _, history in runs[name]])


print("mean of 3 seeds   accuracy   patches   digit in")
for name in methods:
    print(f"{name:16}" + "".join(f"{last(name, what):10.3f}" for what in ("accuracy", "patches", "digit in")))

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## As accurate, with two patches of nine

# %% slideshow={"slide_type": "-"} tags=["fold"]
steps = [row["step"] for row in runs["softmax"][0][1]]
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.9))
for ax, what in ((left, "accuracy"), (right, "patches")):
    series = {name: [[row[what] for row in history] for _, history in of] for name, of in runs.items()}
    plots.curves(ax, steps, series, legend=ax is left)
left.set(xlabel="training step", ylabel="test accuracy", ylim=(0, 1))
right.set(xlabel="training step", ylabel="patches with a weight", ylim=(0, 9.4), yticks=[1, 3, 5, 7, 9])
show(
    fig,
    "Two panels over 500 training steps. Accuracy: the three maps climb together to about 0.9. Patches with a weight: "
    "softmax stays at 9, 1.5-entmax falls to about 2, sparsemax below 2.",
)
assert all(last(name, "accuracy") > 0.8 for name in methods)
assert all(abs(last(name, "accuracy") - last("softmax", "accuracy")) < 0.04 for name in methods)
assert last("softmax", "patches") == 9 and 1 < last("sparsemax", "patches") < last("1.5-entmax", "patches") < 3
assert last("sparsemax", "digit in") > 0.95
assert all(history[0]["patches"] > 7 for of in runs.values() for _, history in of)  # fresh scores are dense

# %% [markdown] slideshow={"slide_type": "notes"}
# Same accuracy, to within a few percent. But where softmax mixes nine classifications, 1.5-entmax mixes about two,
# and sparsemax fewer: one patch where the scene is easy, three or four where it is not. Nobody chose that number. And
# the digit is nearly always among the patches that are left.
#
# Look at the start of the right picture: fresh scores are small, so nearly **every** patch has a weight. That is what
# keeps the danger of three slides ago away. The scorer sees all options first, and drops them as it becomes sure.

# %% slideshow={"slide_type": "skip"}
kept = []
with torch.no_grad():  # a control: softmax as trained, cut to its 2 largest weights at test time
    for finder, _ in runs["softmax"]:
        z = top_k(finder.score(test.patches.flatten(2)).squeeze(-1), 2).weights
        y = (z.unsqueeze(-1) * finder.classify(test.patches.flatten(2))).sum(1)
        kept.append((y.argmax(-1) == test.label).float().mean().item())
    sizes = (runs["sparsemax"][0][0](test.patches)[1] > 0).sum(-1).bincount(minlength=10)
print(f"softmax, cut to 2 patches at test time: accuracy {np.mean(kept):.3f}")
print("sparsemax, scenes in which 1, 2, 3 ... patches have a weight:", sizes[1:].tolist())
assert sizes[1] > 100 and sizes[3:].sum() > 30
assert abs(np.mean(kept) - last("sparsemax", "accuracy")) < 0.04

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## What the zeros save

# %% slideshow={"slide_type": "skip"}
x, rows = test.patches.flatten(2), []
wide = MLP(64, 2048, 10)  # a classifier 32 times as wide (untrained: only its cost matters)
for width in (64, 2048):
    for name in ("1.5-entmax", "sparsemax"):
        finder = runs[name][0][0]
        classify = finder.classify if width == 64 else wide
        options = [lambda x, k=k, f=classify: f(x[:, k]) for k in range(9)]  # f_k: classify patch k
        with torch.no_grad():
            z = finder(test.patches)[1]
            torch.testing.assert_close(mix(x, z, options), mix_sparse(x, z, options), rtol=1e-4, atol=1e-5)
            flops = [count_flops(evaluate_mixture, x, z, options) for evaluate_mixture in (mix, mix_sparse)]
            times = [wall_time(evaluate_mixture, x, z, options) for evaluate_mixture in (mix, mix_sparse)]
        assert flops[0] / flops[1] == 9 * 1080 / (z > 0).sum().item()  # what has no weight is not executed
        rows.append((width, name, flops[0] / flops[1], times[0].low / times[1].low))  # quiet moments of the machine
assert all(row[2] > 3.5 for row in rows)
assert all(row[3] > 1.3 for row in rows[2:])
assert all(small[3] < min(small[2], large[3]) for small, large in zip(rows[:2], rows[2:], strict=True))

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
fig, ax = plt.subplots(figsize=(10, 3.9))
groups = [f"{name}\nclassifier {width:,} wide" for width, name, *_ in rows]
counted, measured = [row[2] for row in rows], [row[3] for row in rows]
plots.bars(ax, groups, {"fewer FLOPs, counted": counted, "less time, measured": measured}, fmt="{:.1f} ×")
ax.axhline(1, color="0.4", lw=1, ls=":", zorder=0, label="all nine patches")
for label in ax.texts:
    label.set_bbox({"fc": "white", "ec": "none", "pad": 1})
ax.legend(frameon=False)
ax.set(ylabel="times less than all nine patches", ylim=(0, 1.45 * max(*counted, *measured)))
show(
    fig,
    f"Bars: 1.5-entmax needs {counted[0]:.1f} times fewer FLOPs than nine patches, sparsemax {counted[1]:.1f} times; "
    f"measured with the small classifier {measured[0]:.1f} and {measured[1]:.1f} times less time, with the wide one "
    f"{measured[2]:.1f} and {measured[3]:.1f} times.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# `mix_sparse` gathers, for each option, the examples that give it a weight, and runs nothing else. Counted: about four
# to five times less. For the wide classifier the clock agrees, or shows even more, as less work also fits the cache
# better. For the small one, gathering rows eats most of the gain, on a busy machine all of it. And the scorer, which
# must see all nine patches, comes on top.
#
# **The honest control** again: take the *softmax* network and keep its two largest weights at test time. Above, the
# accuracy was the same. So at test time a cut does the job. Two things a cut cannot do: give easy scenes one patch and
# hard ones three; and save work in **training**. There the zeros pay too, as the next cell proves.

# %% slideshow={"slide_type": "skip"}
def slopes(evaluate_mixture, finder, choose, patches, label):
    x = patches.flatten(2)
    options = [lambda x, k=k: finder.classify(x[:, k]) for k in range(9)]
    y = evaluate_mixture(x, choose(finder.score(x).squeeze(-1)).weights, options)
    return torch.autograd.grad(F.cross_entropy(y, label), list(finder.parameters()))


finder, batch = runs["sparsemax"][0][0], (test.patches[:256], test.label[:256])
dense, sparse = (slopes(way, finder, finder.choose, *batch) for way in (mix, mix_sparse))
torch.testing.assert_close(dense, sparse, rtol=1e-3, atol=1e-5)  # all gradients, the scorer's too: what was skipped
steps = [count_flops(slopes, way, finder, finder.choose, *batch) for way in (mix, mix_sparse)]  # has slope 0 anyway
print(f"a training step, scorer included: {steps[0] / steps[1]:.1f} times fewer FLOPs, the same gradient")
assert steps[0] > 1.5 * steps[1]


def hard(scores):
    return choice.straight_through(choice.softmax(scores))


dense, sparse = (slopes(way, finder, hard, *batch)[0] for way in (mix, mix_sparse))
assert (dense - sparse).norm() > 0.1 * dense.norm()  # straight-through needs the branches that did not run

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A fixed budget: k of K
#
# | | how many run | who decides | the left out |
# |---|---|---|---|
# | `entmax` | as many as the scores say | the scores | no gradient |
# | `top_k` | always k | the scores | no gradient |
# | `gumbel_top_k` | always k | scores + noise | get their turn |

# %% slideshow={"slide_type": "-"}
s = torch.tensor([2.0, 1.0, 0.0, -1.0])  # four options
print("top-k:       ", *(f"{z:.2f}" for z in top_k(s, 2).weights))
print("Gumbel top-k:", *(f"{z:.2f}" for z in gumbel_top_k(s, 2).weights))

# %% [markdown] slideshow={"slide_type": "notes"}
# Entmax lets the scores decide how many options run. Hardware would rather know: fixed shapes, fixed memory, a fixed
# bill. So large mixtures of experts (notebook 08) use **top-k**: softmax over the k largest scores, zero elsewhere. Its
# danger is that of entmax: who is out gets no gradient. And a jump is added: when two scores swap places at the cut,
# the weights jump, where entmax would be continuous.
#
# With k = 1 the one weight is always 1, a constant, and **no** gradient reaches any score; the next cell shows it.
#
# Noise on the scores gives everyone a turn. Add the Gumbel noise of notebook 02 and keep the k largest: which subsets
# do we draw, and how often?

# %% slideshow={"slide_type": "skip"}
def slope_of(choose):
    scores = s.clone().requires_grad_()
    return torch.autograd.grad(choose(scores).weights @ torch.tensor([0.0, 1.0, 2.0, 3.0]), scores)[0]


assert (slope_of(partial(top_k, k=2))[:2] != 0).all() and (slope_of(partial(top_k, k=2))[2:] == 0).all()
assert (slope_of(partial(top_k, k=1)) == 0).all()
before, after = torch.tensor([[1.0, 0.001, 0.0], [1.0, -0.001, 0.0]])  # b and c swap places at the cut
assert (top_k(before, 2).weights - top_k(after, 2).weights).abs().max() > 0.25  # a jump ...
assert (sparsemax(before) - sparsemax(after)).abs().max() < 0.01  # ... where sparsemax has none
slope_of(partial(top_k, k=2)), slope_of(partial(top_k, k=1))

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The race goes on without the winner
#
# $$P(i \text{ first}, j \text{ second}) = \pi_i \cdot \frac{\pi_j}{1 - \pi_i} \qquad \pi = \operatorname{softmax}(s)$$

# %% slideshow={"slide_type": "-"} tags=["fold"]
pi, n = s.softmax(-1), 100_000
order = gumbel_top_k(s.expand(n, 4), 2).weights.topk(2).indices  # first and second of each draw
pairs = list(permutations(range(4), 2))
formula = torch.stack([pi[i] * pi[j] / (1 - pi[i]) for i, j in pairs])
shares = torch.tensor([((order[:, 0] == i) & (order[:, 1] == j)).sum() / n for i, j in pairs])
fig, ax = plt.subplots(figsize=(10, 3.4))
names = ["abcd"[i] + " " + "abcd"[j] for i, j in pairs]
heights = {"formula": formula.tolist(), "share of 100,000 draws": shares.tolist()}
plots.bars(ax, names, heights, fmt="{:.3f}")
for label in ax.texts[: len(pairs)]:  # one number a pair is enough
    label.remove()
ax.set(ylim=(0, 0.5), ylabel="probability", xlabel="first and second")
show(
    fig,
    "Bars for the twelve ordered pairs of the options a, b, c, d: the shares of the draws equal the formula. a before "
    "b is the most frequent, with 0.43.",
)
assert (shares - formula).abs().max() < 0.01 and abs(formula.sum() - 1) < 1e-5

# %% [markdown] slideshow={"slide_type": "notes"}
# Remember the race of notebook 02: every option is a clock that rings at rate $e^{s_k}$. The first to ring is the
# winner, by softmax. Who is second? The clocks that are left run on as if nothing had happened, so it is again a
# softmax, over those that remain. This is the **Plackett-Luce** distribution: drawing without replacement, in order
# (Kool et al. 2019 made it a tool). Twelve ordered pairs, and the counts agree with the formula.
#
# What the weights say beyond that: softmax of the noisy scores over the two that were drawn. They carry a gradient, a
# biased one, like Gumbel-Softmax; which two were drawn has none.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Same subsets, another law
#
# **Race:** the first two of four clocks. **Coins:** toss one coin an option, with odds $\exp(s_k)$; keep only tosses
# with exactly two heads. How often is each option in?

# %% slideshow={"slide_type": "-"} tags=["fold"]
subsets = list(combinations(range(4), 2))
member = torch.tensor([[float(k in subset) for k in range(4)] for subset in subsets])  # (6, 4)
race = torch.stack([sum(formula[pairs.index(p)] for p in permutations(subset)) for subset in subsets])
coins = (member @ s).softmax(-1)  # P(S) ∝ Π exp(s_k), k in S
fig, ax = plt.subplots(figsize=(10, 3.0))
inclusion = {"race: Plackett-Luce": (race @ member).tolist(), "coins: conditional Poisson": (coins @ member).tolist()}
plots.bars(ax, ["a", "b", "c", "d"], inclusion, fmt="{:.3f}")
ax.set(ylim=(0, 1.1), ylabel="P(option is in)")
show(
    fig,
    "Bars for the options a to d: how often each is among the two. Plackett-Luce takes a in 0.93 of the draws, "
    "conditional Poisson in 0.88; for c it is 0.27 against 0.31. For b they hardly differ.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Six subsets of two, and two ways to make them random that sound alike. Both favour high scores, both always take
# two, and they differ: the favourite is in more often under the race, the outsiders under the coins.
#
# Why care? SIMPLE (Ahmed et al. 2023) trains k-subset choices with the exact marginals of the second law, **conditional
# Poisson**: $P(S) \propto \prod_{k \in S} e^{s_k}$. If you sample by Gumbel top-k and use those marginals in the
# backward pass, you differentiate another distribution than the one you draw from. The marginals of the coins have a
# neat form: they are the gradient of a log-sum over subsets, as softmax is the gradient of logsumexp.

# %% slideshow={"slide_type": "skip"}
drawn = gumbel_top_k(s.expand(n, 4), 2).weights > 0
assert (drawn.float().mean(0) - race @ member).abs().max() < 0.01  # the library draws the race
tossed = torch.rand(400_000, 4) < s.sigmoid()  # a coin with odds exp(s_k) shows heads with probability sigmoid(s_k)
tossed = tossed[tossed.sum(-1) == 2].float()
assert (tossed.mean(0) - coins @ member).abs().max() < 0.01
assert abs((race @ member).sum() - 2) < 1e-5 and abs((coins @ member).sum() - 2) < 1e-5
more = race @ member - coins @ member
assert more[0] > 0.04 and (more[2:] < -0.01).all()  # the favourite gains in the race, the outsiders lose
scores = s.clone().requires_grad_()
(slope,) = torch.autograd.grad((member @ scores).logsumexp(-1), scores)
torch.testing.assert_close(slope, coins @ member)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where sparse choices fail
#
# - **Out is out.** No weight, no gradient, no second chance for a hidden choice.
# - **Scale decides.** Small scores are dense, large ones sparse.
# - **The bill varies** from example to example. Top-k fixes it, and adds a jump.
# - **A cut softmax may do as well** at test time. Try it first.
# - **A support is no guarantee** that the truth is in it.

# %% [markdown] slideshow={"slide_type": "notes"}
# When these hurt: noise brings the dead back (Gumbel top-k above, noisy top-k in notebook 08); a target on the budget
# makes the bill predictable (notebook 05); and a threshold that is *calibrated* comes with a guarantee (notebook 07).

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercises
#
# ### Exercise 1: 1.5-entmax without sorting (★★☆, 10 min)
#
# For $\alpha = 1.5$ the weights are $p_k = \max(s_k / 2 - \tau, 0)^2$, with the $\tau$ for which they sum to 1. Find
# $\tau$ by bisection: the sum falls as $\tau$ rises, and $\tau$ lies between $\max_k s_k / 2 - 1$ and $\max_k s_k / 2$
# (why?). Write `entmax_15(s)`: scores `(N, K)` in, weights `(N, K)` out, one threshold a row. About 30 halvings are
# enough.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def entmax_15(s):
    return ...


check("entmax_15", entmax_15)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def entmax_15_solution(s):
    s = s / 2
    high = s.amax(-1, keepdim=True)  # here all weights are 0 ...
    low = high - 1  # ... and here the largest alone is 1
    for _ in range(30):
        tau = (low + high) / 2
        too_much = (s - tau).clamp(min=0).square().sum(-1, keepdim=True) > 1
        low, high = torch.where(too_much, tau, low), torch.where(too_much, high, tau)
    return (s - high).clamp(min=0).square()


check("entmax_15", entmax_15_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise 2: how large a lead? (★☆☆, 5 min)
#
# Two options. Sparsemax drops the second from a lead of 1, 1.5-entmax from a lead of 2. Find the rule: write
# `smallest_lead(alpha)` for any $\alpha > 1$. By thought (compare the slopes of $\langle p, s \rangle$ and of the
# entropy where $p = (1, 0)$) or by experiment with `entmax`; a result within 1 % will do. What does the rule say about
# $\alpha = 1$?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def smallest_lead(alpha):
    return ...


check("smallest_lead", smallest_lead)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def smallest_lead_solution(alpha):
    # Moving a little weight e to the second option loses lead · e, and earns the slope of the entropy, e / (alpha - 1)
    return 1 / (alpha - 1)


check("smallest_lead", smallest_lead_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# $$p = \arg\max_{p} \; \langle p, s \rangle + H_\alpha(p) \qquad L_\alpha(s, y): \; \nabla L = p - y$$
#
# - One dial: softmax at $\alpha = 1$, sparsemax at 2, exact zeros beyond 1.
# - What has weight zero need not run, in training too.
# - It gets no gradient either: start dense, or add noise.
# - Top-k fixes the bill. With Gumbel noise it is a race, not coins.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - A. F. T. Martins, R. F. Astudillo, *From Softmax to Sparsemax*, ICML 2016.
# - B. Peters, V. Niculae, A. F. T. Martins, *Sparse Sequence-to-Sequence Models*, ACL 2019: 1.5-entmax.
# - M. Blondel, A. F. T. Martins, V. Niculae, *Learning with Fenchel-Young Losses*, JMLR 2020.
# - W. Kool, H. van Hoof, M. Welling, *Stochastic Beams and Where to Find Them*, ICML 2019: Gumbel top-k.
# - K. Ahmed, Z. Zeng, M. Niepert, G. Van den Broeck, *SIMPLE: A Gradient Estimator for k-Subset Sampling*, ICLR 2023.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
