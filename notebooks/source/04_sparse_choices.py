# %% [markdown] slideshow={"slide_type": "slide"}
# # Sparse choices: exact zeros, with a gradient
#
# **Notebook 04** · *Designing efficient and modular neural networks*
#
# Softmax gives every option a weight, so every option has to run.
# Can a choice say *no* to most of them, and still learn?

# %% [markdown] slideshow={"slide_type": "skip"}
# **After this notebook you can** compute sparsemax with a pencil; explain why softmax has no zeros and its relatives
# do; say when an option is *dead*, and what wakes it; derive the loss that belongs to each map; say what zeros save,
# counted and on the clock; draw $k$ of $K$ options and compute how often each is in. **You need** softmax,
# backpropagation, and the task of notebook 02.
#
# As in notebook 02, code that draws or prepares is folded, and lines with ✓ or ✗ compare the text with your own run.
# Where it says *Predict*, guess before you click.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Imports, the seed, and two records
from functools import partial
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from lecture_lib import plots, recorded
from lecture_lib.choice import gumbel_top_k, softmax, top_k
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.mixture import mix, mix_sparse
from lecture_lib.models import MLP
from lecture_lib.notebook import check, claim, setup, show
from lecture_lib.recorded.gumbel_softmax import held_out
from lecture_lib.recorded.sparse_choices import SIZES, WAYS, train
from lecture_lib.simplex import entmax, fenchel_young_loss, sparsemax
from lecture_lib.widgets import SparseMaps

seed = setup(0)
record, class_record = recorded.load("sparse_choices"), recorded.load("sparse_choices_sets")

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Softmax never says no

# %% [markdown] slideshow={"slide_type": "notes"}
# As in notebook 02: $K$ options $f_k$ have scores $s_k$. A choice $z$ gives each option a weight, not negative, with
# sum 1. The output is $y = \sum_k z_k f_k(x)$. An option of weight 0 adds nothing: it need not run. But softmax,
# $\pi_k = e^{s_k} / \sum_i e^{s_i}$, gives no zeros: an exponential is positive, and so is every probability $\pi_k$.

# %% slideshow={"slide_type": "-"}
s = torch.tensor([1.3, 0.2, 0.7])  # scores of three options: a, b, c
s.softmax(-1)

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** We multiply the scores by 20, and by 100. Does the computer print an exact 0 for b?
#
# <details><summary>A. Never: an exponential is positive</summary>
#
# **Nearly.** True on paper. But a float32 number has a smallest positive value.
#
# </details>
#
# <details><summary>B. With 100, not with 20</summary>
#
# **Yes.** With 100 the gap to a is 110, and $e^{-110}$ is rounded to 0.
#
# </details>
#
# <details><summary>C. With both</summary>
#
# **No.** With 20 the gap is 22: $e^{-22}$ is small, but an ordinary number.
#
# </details>

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Open after your guess: large scores, and the slope there
slopes = {}
for factor in (1, 20, 100):
    scores = (factor * s).requires_grad_()
    weight = scores.softmax(-1)[1]
    slopes[factor] = torch.autograd.grad(weight, scores)[0][1].item()
    print(f"scores × {factor:3}: weight of b {weight.item():.2g}, its slope in b's score {slopes[factor]:.2g}")
gap = next(g / 10 for g in range(1, 2000) if torch.tensor([0.0, -g / 10]).softmax(-1)[1] == 0)
claim("In float32 the exact 0 comes at a gap of 87 to 105", 87 < gap < 105, gap=gap)
claim("Where the weight is rounded to 0, its slope is 0, too", slopes[100] == 0 < slopes[20], slope=slopes[100])

# %% [markdown] slideshow={"slide_type": "skip"}
# So: mathematically never; in float32 from a gap of about 104 on (87 where a machine drops the tiniest numbers). That
# is an accident of rounding. And where $\pi_b$ is 0, so is its slope $\pi_b (1 - \pi_b)$. We want zeros **at ordinary
# scores**, and we want to know what happens to the gradient.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Sparsemax: the nearest point of the simplex
#
# $$\operatorname{sparsemax}(s) = \arg\min_{p \,\in\, \text{simplex}} \|p - s\|^2$$

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: scores, and the nearest weights
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
# The **simplex** is the set of all possible weights $p$: not negative, with sum 1. For two options it is a segment, for
# three a triangle. Scores may lie anywhere. Sparsemax (Martins & Astudillo 2016) takes the nearest point of the simplex
# as $z$. Who starts far outside lands on the border, and on the border some weights are exactly zero. Like softmax,
# sparsemax sees only differences of scores: to move all by the same amount is at right angles to the simplex.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## By hand: sort, then a threshold
#
# $$z_k = \max(s_k - \tau, 0) \qquad \text{sparsemax: the } \tau \text{ for which } \textstyle\sum_k z_k = 1$$

# %% [markdown] slideshow={"slide_type": "skip"}
# **Idea.** Minimise $\frac12 \|p - s\|^2$ under two conditions: $\sum_k p_k = 1$, and $p_k \ge 0$. Lagrange's rule adds
# each condition with a multiplier: $\tau$ for the sum, $m_k \ge 0$ for $p_k \ge 0$, where $m_k$ may be positive only if
# $p_k = 0$. Then the derivative is set to zero:
#
# $$\frac{\partial}{\partial p_k} \Big[ \tfrac12 \|p - s\|^2 + \tau \big(\textstyle\sum_i p_i - 1\big) - \sum_i m_i p_i
# \Big] = p_k - s_k + \tau - m_k = 0$$
#
# Where $p_k > 0$, $m_k = 0$, so $p_k = s_k - \tau$. Where $p_k = 0$, $s_k - \tau = -m_k \le 0$. Both lines together are
# $z_k = \max(s_k - \tau, 0)$. (The problem is convex, so there is no other minimum.)
#
# **The threshold.** If the $n$ largest scores have a weight, then $\sum (s_k - \tau) = 1$ over these $n$, that is $\tau
# = (\text{their sum} - 1) / n$. Take the largest $n$ whose $n$-th score is above its own $\tau$.
#
# **With a pencil**, for $1.3, 0.7, 0.2$, sorted. $n = 1$: $\tau = (1.3 - 1) / 1 = 0.3$, below 1.3. $n = 2$: $\tau =
# (2.0 - 1) / 2 = 0.5$, below 0.7. $n = 3$: $\tau = (2.2 - 1) / 3 = 0.4$, but 0.2 is not above it. So $n = 2$, $\tau =
# 0.5$, and the weights are $0.8, 0.2, 0$.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: a threshold on paper ★☆☆ 3 min
#
# Which $\tau$ has sparsemax for the scores $[0.2, 0.9, 0.6, -1.0]$? Give the number.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
tau = ...

check("sparsemax_threshold", tau)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# sorted: 0.9, 0.6, 0.2, -1.0.  n = 2: (1.5 - 1) / 2 = 0.25, below 0.6.  n = 3: (1.7 - 1) / 3 = 0.233, not below 0.2
check("sparsemax_threshold", (0.9 + 0.6 - 1) / 2)

# %% [markdown] slideshow={"slide_type": "skip"}
# The same in code, for many rows at once: sort, compute $\tau$ for every $n$, find the largest $n$ that fits. In the
# library it is `sparsemax`, which adds half precision, and $-\infty$ for what is forbidden.


# %% slideshow={"slide_type": "-"}
def by_hand(s):
    ordered = s.sort(-1, descending=True).values
    n = torch.arange(1, s.shape[-1] + 1)
    tau = (ordered.cumsum(-1) - 1) / n  # the threshold, if the n largest have a weight
    size = (ordered > tau).sum(-1, keepdim=True)  # the largest n that fits
    return (s - tau.gather(-1, size - 1)).clamp(min=0)


scores = torch.randn(1000, 10)
torch.testing.assert_close(by_hand(scores), sparsemax(scores))
by_hand(s)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## One family: score, less a price for certainty
#
# $$\operatorname{entmax}_\alpha(s) = \arg\max_{p \,\in\, \text{simplex}} \; \langle p, s \rangle - \Omega_\alpha(p)
# \qquad \Omega_\alpha(p) = \frac{\sum_k p_k^\alpha - 1}{\alpha (\alpha - 1)}$$

# %% [markdown] slideshow={"slide_type": "notes"}
# $\langle p, s \rangle = \sum_k p_k s_k$ is the mean score that the weights $p$ collect. Alone it is largest in a
# corner: argmax. $\Omega$ is the price of certainty: 0 in a corner, lower inside, so sharing is rewarded. ($-\Omega$
# is an *entropy*, of Tsallis' family.) The number $\alpha$ says how $\Omega$ is shaped. Three members of the family
# have names:
#
# - $\alpha \to 1$ is **softmax**: $\Omega_1 = \sum_k p_k \log p_k$; the derivative $s_k - \log p_k - 1$ has to be the
#   same for all options, so $p_k$ is proportional to $e^{s_k}$.
# - $\alpha = 2$ is **sparsemax**: complete the square, $\langle p, s \rangle - \frac12 (\|p\|^2 - 1) = -\frac12 \|p -
#   s\|^2 + \frac12 \|s\|^2 + \frac12$. Only the first term depends on $p$: the best $p$ is the nearest.
# - $\alpha = 1.5$, between them, is **1.5-entmax** (Peters et al. 2019).

# %% [markdown] slideshow={"slide_type": "skip"}
# `entmax(s, alpha)` of the library computes them all. Look at option b.

# %% slideshow={"slide_type": "-"}
alphas = {"softmax": 1, "1.5-entmax": 1.5, "sparsemax": 2}
weights = {name: entmax(s, alpha) for name, alpha in alphas.items()}
for name, z in weights.items():
    print(f"{name:11}", [round(weight, 3) for weight in z.tolist()])

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claim about b
claim(
    "Sparsemax gives b exactly 0, 1.5-entmax less than softmax, but not 0",
    weights["sparsemax"][1] == 0 < weights["1.5-entmax"][1] < weights["softmax"][1],
    entmax=weights["1.5-entmax"][1],
    softmax=weights["softmax"][1],
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Why softmax never reaches zero
#
# Two options; b is behind a by some lead. To move weight from a to b **costs** the lead, for each unit of weight. It
# **earns** what $\Omega$ falls.

# %% [markdown] slideshow={"slide_type": "skip"}
# Let b have the weight $p$. By differentiating $-\Omega_\alpha$ at $(1 - p, p)$, the next bit of weight earns
#
# $$\text{softmax: } \log \frac{1 - p}{p} \qquad \text{1.5-entmax: } 2 \big(\sqrt{1 - p} - \sqrt p\big) \qquad
# \text{sparsemax: } 1 - 2p$$
#
# Weight moves to b as long as this is more than the lead. In the picture: where the curve crosses the line of the
# lead, there is b's weight. Look at the left border.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: what the next bit of weight earns
p = np.linspace(1e-9, 0.5, 1001)
earned = {"softmax: without end": np.log((1 - p) / p)}
earned["1.5-entmax: at most 2"] = 2 * (np.sqrt(1 - p) - np.sqrt(p))
earned["sparsemax: at most 1"] = 1 - 2 * p
lead = 1.5
fig, ax = plt.subplots(figsize=(10, 3.9))
plots.curves(ax, p, {name: [values] for name, values in earned.items()}, legend=False)
ax.axhline(lead, color="0.4", lw=1, ls=":")
ax.text(0.5, lead + 0.08, "a lead of 1.5", ha="right", va="bottom", color="0.3")
for values, alpha in zip(earned.values(), alphas.values(), strict=True):
    weight = entmax(torch.tensor([lead, 0.0]), alpha)[1].item()
    if weight:  # the library's weight is where the curve crosses the line
        np.testing.assert_allclose(np.interp(weight, p, values), lead, atol=0.01)
        ax.plot(weight, lead, "o", ms=12, mfc="none", mec="0.2", mew=1.5, zorder=5)
        ax.annotate(f"weight {weight:.2f}", (weight, lead), (5, 9), textcoords="offset points", fontsize="small")
ax.set(xlabel="weight p of b", ylabel="earned by the next bit", xlim=(0, 0.5), ylim=(0, 5))
ax.legend(frameon=False, loc="upper right")
show(
    fig,
    "What the next bit of weight for b earns, against the weight that b has. At weight 0 softmax's curve goes to "
    "infinity; 1.5-entmax begins at 2, sparsemax at 1. A line at a lead of 1.5 crosses the first two curves only.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Softmax's curve has no end at the left: the first bit of weight earns more than *any* lead costs, so b always gets
# some. The other two begin at 2 and at 1. A larger lead is never paid, and b's weight is exactly 0.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: how large a lead? ★★☆ 5 min
#
# Two options. Sparsemax drops the second from a lead of 1 on, 1.5-entmax from a lead of 2. Find the rule for every
# $\alpha > 1$ of entmax: write `smallest_lead(alpha)`. Differentiate $-\Omega_\alpha$ at $(1 - p, p)$ and set $p = 0$,
# or find it by experiment with `entmax`: 1 % of error will do. What does the rule say for $\alpha \to 1$?


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def smallest_lead(alpha):
    return ...


check("smallest_lead", smallest_lead)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def smallest_lead_solution(alpha):
    # -Ω = (1 - (1-p)^α - p^α) / (α(α-1)); its slope ((1-p)^(α-1) - p^(α-1)) / (α-1) is 1 / (α-1) at p = 0
    return 1 / (alpha - 1)


check("smallest_lead", smallest_lead_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Any α, by bisection · optional
#
# For $\alpha = 1.5$ the same calculation as for sparsemax gives $z_k = \max(s_k / 2 - \tau, 0)^2$ (entmax halves the
# scores, and squares what stands out). First we check, on a grid of 20,301 points of the triangle, that the library's
# entmax really is the maximum. Then it is your turn to compute it.


# %% slideshow={"slide_type": "skip"}
def omega(p, alpha):
    if alpha == 1:
        return -torch.special.entr(p).sum(-1)  # Σ p log p, with 0 log 0 = 0
    return ((p**alpha).sum(-1) - 1) / (alpha * (alpha - 1))


n = 200
grid = torch.tensor([[i, j, n - i - j] for i in range(n + 1) for j in range(n + 1 - i)]) / n
for name, alpha in alphas.items():
    best = grid[(grid @ s - omega(grid, alpha)).argmax()]
    print(f"{name:11} best of the grid {best.numpy().round(3)}, entmax {entmax(s, alpha).numpy().round(3)}")
    torch.testing.assert_close(best, entmax(s, alpha), atol=1 / n, rtol=0)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: 1.5-entmax without sorting ★★☆ 10 min · optional
#
# Find the $\tau$ of 1.5-entmax by bisection: $\sum_k \max(s_k / 2 - \tau, 0)^2$ falls as $\tau$ rises, and $\tau$ lies
# between $\max_k s_k / 2 - 1$ and $\max_k s_k / 2$ (why?). Write `entmax_15(s)`: scores `(N, K)` in, weights `(N, K)`
# out, one threshold a row. About 30 halvings are enough.


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

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Five scores, one falls

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Five scores: a 1.3, b 0.2, c 0.7, d −0.4, e 0.9. Only c moves down. When does sparsemax drop it?
#
# <details><summary>A. At 0.6</summary>
#
# **Yes.** Without c, a and e share the weight: $\tau = (1.3 + 0.9 - 1) / 2 = 0.6$. Below that c is out.
#
# </details>
#
# <details><summary>B. At 0</summary>
#
# **No.** What counts is the threshold $\tau$ that the others set, not zero.
#
# </details>
#
# <details><summary>C. Below −0.4, when it is the last</summary>
#
# **No.** b and d are out already: several options can be.
#
# </details>

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Drag the scores

# %% slideshow={"slide_type": "-"} tags=["fold", "figure:sparse_maps_widget"]
# @title Widget: five scores, three maps
SparseMaps([1.3, 0.2, 0.7, -0.4, 0.9])

# %% [markdown] slideshow={"slide_type": "notes"}
# Left: the scores, and two thresholds. An option has a weight where its dot is above the line. For sparsemax, what
# stands out above $\tau$ *is* the weight. A cross marks an exact zero.
#
# **Try.** Lower c: sparsemax drops it first. Then move *all scores ×*: large scores are sparse, small scores give every
# option a weight, in each map. Now push d far down, and move it a little: **nothing** else moves. This is a danger, and
# our next subject.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Where the zeros are · optional
#
# The plane of all scores: who has a weight, where? The triangle is the simplex.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: who has a weight, for all scores
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
# Up is a better score for a, to the left for b, to the right for c. **Softmax:** one region, all have a weight.
# **Sparsemax:** seven regions. Inside the simplex, scores are weights already. Beside an edge, the third option is out;
# behind a corner one is left alone. **1.5-entmax:** the same seven, with a larger, rounded middle. All maps are
# continuous: you cross a border without a jump. To multiply all scores by 3 is to walk outward from the centre.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The danger: no weight, no gradient
#
# $$\frac{\partial z_k}{\partial s_j} = [k = j] - \frac{1}{|S|} \quad \text{for } k, j \in S, \qquad \text{else } 0$$

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** What gradient does sparsemax pass to the scores?
#
# **Idea.** The **support** $S$ is the set of options with a weight; it has $|S|$ members. Inside it $z_k = s_k - \tau$
# with $\tau = (\sum_{i \in S} s_i - 1) / |S|$. Differentiate: that is the formula above ($[k = j]$ is 1 if $k = j$,
# else 0). Outside $S$ the score does not appear at all. So a **dead** option, one without weight, has a row *and* a
# column of zeros: its weight does not move, and its score gets no gradient, whatever the loss behind $z$ is.
#
# All slopes together are the *Jacobian*, $\operatorname{diag}(1_S) - 1_S 1_S^\top / |S|$, where $1_S$ is 1 inside $S$
# and 0 outside. The cell compares it with backpropagation. Look for the zeros of b.

# %% slideshow={"slide_type": "-"}
inside = (sparsemax(s) > 0).float()  # 1_S
jacobian = inside.diag() - inside.outer(inside) / inside.sum()
torch.testing.assert_close(jacobian, torch.autograd.functional.jacobian(sparsemax, s))
jacobian

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## When the dead option is the right one
#
# Cost of a 1, of b ½, of c **nothing**. Gradient descent on the mean cost $\sum_k z_k \, \text{cost}_k$, but a starts
# in the lead.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** The lead is 3. Who finds c within 1,000 steps?
#
# <details><summary>A. Softmax and 1.5-entmax</summary>
#
# **Nearly.** Softmax does. But from a lead of 2 on, 1.5-entmax has no gradient.
#
# </details>
#
# <details><summary>B. Softmax alone</summary>
#
# **Yes.** Its gradient is small, but never 0. For the other two b and c are dead from the start.
#
# </details>
#
# <details><summary>C. None</summary>
#
# **No.** That is so for much larger leads only.
#
# </details>

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Walls, and patience

# %% [markdown] slideshow={"slide_type": "skip"}
# `descend` follows the gradient from many starts at once, one a row, with step size 1.


# %% slideshow={"slide_type": "skip"}
cost = torch.tensor([1.0, 0.5, 0.0])  # of options a, b, c


def descend(loss, start, steps):
    scores = start.clone().requires_grad_()
    for _ in range(steps):
        (slope,) = torch.autograd.grad(loss(scores).sum(), scores)
        scores = (scores - slope).detach().requires_grad_()
    return scores.detach()


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Descend from 81 leads, by 100 and by 1,000 steps
leads = torch.linspace(0, 8, 81) + 0.05
start = F.pad(leads[:, None], (0, 2))  # scores [lead, 0, 0]
reached = {}
for name, alpha in alphas.items():
    for steps in (100, 1000):
        end = descend(lambda scores, alpha=alpha: entmax(scores, alpha) @ cost, start, steps)
        reached[name, steps] = entmax(end, alpha) @ cost

# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Draw: the cost that descent reaches
lines = {
    "softmax, 100 steps": reached["softmax", 100],
    "1.5-entmax, 1,000": reached["1.5-entmax", 1000],
    "sparsemax, 1,000": reached["sparsemax", 1000],
    "softmax, 1,000": reached["softmax", 1000],
}
fig, ax = plt.subplots(figsize=(10, 3.3))
plots.curves(ax, leads, {name: values[None] for name, values in lines.items()})
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
ax.set(xlabel="lead of the worst option at the start", ylabel="cost after training", ylim=(-0.05, 1.1))
show(
    fig,
    "Cost after training against the head start of the worst option. Sparsemax jumps from 0 to 1 at a lead of 1, "
    "1.5-entmax at 2. Softmax fails later, and the later the more steps it gets.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title The claims about the leads
wall = {key: leads[values > 0.5].min().item() for key, values in reached.items()}
stands = {name: [wall[name, steps] for steps in (100, 1000)] for name in alphas}
claim(
    "Sparsemax fails from a lead of about 1 on, 1.5-entmax from about 2, after 100 and after 1,000 steps",
    all(abs(w - 1) < 0.2 for w in stands["sparsemax"]) and all(abs(w - 2) < 0.2 for w in stands["1.5-entmax"]),
    sparsemax=stands["sparsemax"][1],
    entmax=stands["1.5-entmax"][1],
)
claim(
    "With 1,000 steps softmax bears a lead that is larger by more than 1.5 than with 100",
    wall["softmax", 1000] > wall["softmax", 100] + 1.5,
    in_100=wall["softmax", 100],
    in_1000=wall["softmax", 1000],
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The zero that saves work has a price: the option does not run, so nobody learns what it would have cost. Sparsemax is
# stuck from a lead of 1 on, 1.5-entmax from 2. Softmax is slow: its gradient shrinks like $e^{-\text{lead}}$, and
# patience helps (in float32 up to a gap of 104).

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A loss for each map
#
# Fenchel-Young: what the best $p$ collects, less what the truth $t$ collects.
#
# $$L_\alpha(s, t) = \underbrace{\max_p \big[ \langle p, s \rangle - \Omega_\alpha(p) \big]}_{\Omega_\alpha^*(s)}
# + \, \Omega_\alpha(t) - \langle t, s \rangle \qquad \nabla_s L = z - t$$

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Sometimes a label says which option is right, as with classes. Which loss belongs to entmax? The
# cross-entropy does not: it takes the logarithm of a weight, and $\log 0 = -\infty$.
#
# **Idea.** Blondel, Martins & Niculae (2020): the truth $t$ is a one-hot vector. The best weights $z =
# \operatorname{entmax}_\alpha(s)$ collect $\Omega^*(s)$; the truth collects less, and the difference is the loss. It
# is never negative, and 0 only if $z = t$. For $\alpha = 1$ it *is* the cross-entropy. Its gradient, in four lines:

# %% [markdown] slideshow={"slide_type": "-"}
# 1. $\Omega^*(s)$ is a maximum over all $p$, reached at $p = z$.
# 2. The slope of a maximum is the slope of the expression at the best $p$, *held fixed* (Danskin's theorem). So
#    $\nabla \Omega^*(s) = z$.
# 3. $\Omega(t)$ does not depend on $s$, and $\langle t, s \rangle$ has the slope $t$.
# 4. Together: $\nabla_s L = z - t$.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Line 2 as a picture** (left, two options, sparsemax). For each fixed $p$, $\langle p, s \rangle - \Omega(p)$ is a
# *straight line* in the scores, with slope $p$. The maximum is the curve along their tops: at each point it touches one
# line, that of $z$, and so has its slope.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The slope of a maximum

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: lines and their maximum; three losses
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.1))
lead = torch.linspace(-1.6, 2, 181)
for p in (0.0, 0.25, 0.5, 0.75):
    left.plot(lead, p * lead + p - p**2, color="0.7", lw=1.2, label="one line for each p" if p == 0 else None)
pair = torch.stack([lead, torch.zeros_like(lead)], -1)
z = sparsemax(pair)
highest = (z * pair).sum(-1) - (z.square().sum(-1) - 1) / 2
left.plot(lead, highest, color="C0", lw=2.6, label="their maximum $Ω^*(s)$: slope z")
left.plot(lead, lead, "--", color="C1", lw=2.2, label="the truth, a: slope t = 1")
at = -0.75
left.plot(lead, (1 + at) / 2 * lead + (1 + at) / 2 - (1 + at) ** 2 / 4, ":", color="C0", lw=1.8, label="the line of z")
left.annotate("", (at, (at + 1) ** 2 / 4), (at, at), arrowprops={"arrowstyle": "<->", "color": "0.2", "lw": 1.5})
left.text(
    at - 0.08, -0.42, "L", color="0.1", fontsize="large", ha="right", bbox={"fc": "white", "ec": "none", "pad": 1}
)
left.plot(at, (at + 1) ** 2 / 4, "o", color="C0", ms=8)
left.set(xlabel="lead of a over b", ylabel="collected", ylim=(-1.7, 3.3), xlim=(-1.6, 2))
left.legend(frameon=False, loc="upper left", fontsize="small", borderpad=0)
margin = torch.linspace(-2, 4, 241)
pair, truth = torch.stack([margin, torch.zeros_like(margin)], -1), torch.zeros(241, dtype=torch.long)
plots.curves(right, margin, {name: fenchel_young_loss(pair, truth, alpha)[None] for name, alpha in alphas.items()})
right.set(xlabel="lead of the right class", ylabel="loss", ylim=(0, 2.6))
show(
    fig,
    "Left: straight lines, one for each p; their maximum is a curve that each line touches. The line of the truth lies "
    "below it; the gap is the loss L, which is 0 from a lead of 1 on. Right: three losses against the lead of the "
    "right class. That of sparsemax is 0 from a lead of 1 on, of 1.5-entmax from 2, cross-entropy never.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Left: the loss is the gap between the curve and the line of the truth; the gap changes by the difference of the two
# slopes, $z - t$. From a lead of 1 on the two are one line: the loss is exactly 0. Right: the losses of the three maps.
# That of sparsemax is 0 from a lead of 1 on, like the hinge loss of a support vector machine, but smooth.
#
# **And nothing is dead.** If the right option has weight 0, its gradient is $0 - 1$: as strong as can be.

# %% [markdown] slideshow={"slide_type": "skip"}
# The formula in plain PyTorch, for a class as truth (then $\Omega(t) = 0$). It is compared with `fenchel_young_loss` of
# the library, in value and gradient. The last line prints the gradient for a dead option, c, that is the truth.


# %% slideshow={"slide_type": "skip"}
def loss_by_hand(s, label):  # for sparsemax, α = 2
    z = sparsemax(s)
    collected = (z * s).sum(-1) - (z.square().sum(-1) - 1) / 2  # Ω*(s)
    return collected - s.gather(-1, label[:, None]).squeeze(-1)


scores, label = 2 * torch.randn(500, 10, requires_grad=True), torch.randint(10, (500,))
loss = fenchel_young_loss(scores, label, alpha=2)
torch.testing.assert_close(loss_by_hand(scores, label), loss, rtol=1e-4, atol=1e-5)
(slope,) = torch.autograd.grad(loss.sum(), scores)
torch.testing.assert_close(slope, sparsemax(scores) - F.one_hot(label, 10))
dead = torch.tensor([[3.0, 0.0, 0.0]], requires_grad=True)
torch.autograd.grad(fenchel_young_loss(dead, torch.tensor([2]), 2).sum(), dead)[0]

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## What wakes a dead option?

# %% [markdown] slideshow={"slide_type": "-"}
# Back to the three options, with a lead of 3 for a. Four ways to train, 100 runs each, 400 steps, and always
# sparsemax at the end. *Noise*: Gumbel noise on the scores, new in each step, so that c has a weight now and then.
# *Softmax first*: 100 steps with softmax, then sparsemax. The last one knows the label, c, and uses its loss.


# %% slideshow={"slide_type": "skip"}
def noisy(scores):
    return scores - torch.empty_like(scores).exponential_().log()


begin = torch.tensor([[3.0, 0.0, 0.0]]).expand(100, 3)
warm = descend(lambda scores: scores.softmax(-1) @ cost, begin, 100)
ends = {
    "sparsemax": descend(lambda scores: sparsemax(scores) @ cost, begin, 400),
    "with noise": descend(lambda scores: sparsemax(noisy(scores)) @ cost, begin, 400),
    "softmax first": descend(lambda scores: sparsemax(scores) @ cost, warm, 300),
    "label known": descend(lambda scores: fenchel_young_loss(scores, torch.full((100,), 2), 2), begin, 400),
}

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Print: how often c is chosen in the end
chosen = {name: (sparsemax(scores)[:, 2] == 1).float().mean().item() for name, scores in ends.items()}
print("lead of a: 3. How often is c, the best option, chosen after 400 steps of training?")
for name, share in chosen.items():
    print(f"  {name:14}{share:5.0%} of 100 runs")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about waking
claim("Sparsemax alone never finds c", chosen["sparsemax"] == 0, share=chosen["sparsemax"])
woken = min(share for name, share in chosen.items() if name != "sparsemax")
claim("Each of the other three finds it in more than 95 % of the runs", woken > 0.95, lowest_share=woken)

# %% [markdown] slideshow={"slide_type": "skip"}
# So: begin dense (with small scores, or with softmax), add noise, or, where a label says which option is right, use the
# loss of the map. A *hidden* choice, such as a patch, has no label. And a toy does not say how often real networks die:
# we measure that below.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Sparse attention: find the digit
#
# The task of notebook 02: nine patches, one of them a digit, the class as the only label. Now $z$ may be zero.

# %% [markdown] slideshow={"slide_type": "skip"}
# The network is `Finder` of notebook 02: a scorer gives each of the nine patches a score, `choose` makes weights $z$ of
# them, and one classifier reads each patch: $y = \sum_k z_k f(x_k)$. Only `choose` differs: softmax, 1.5-entmax or
# sparsemax. At test time nothing changes: the patches with a weight are mixed.
#
# First live, once and short: 300 steps. Look at how soon the weights become sparse. *Patches*: how many have a weight,
# on average over test scenes; *digit in*: how often the digit's patch is one of them.

# %% slideshow={"slide_type": "skip"}
live = {name: train(**WAYS[name], lr=3e-3, steps=300, every=100, seed=seed) for name in ("softmax", "sparsemax")}

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Print: one short training of each
print("            step   accuracy   patches   digit in")
for name, (_, history, _) in live.items():
    for row in history:
        print(f"{name:10}{row['step']:6}{row['accuracy']:11.2f}{row['patches']:10.2f}{row['digit in']:11.2f}")

# %% [markdown] slideshow={"slide_type": "skip"}
# One seed and 300 steps say little. The next figures are **recorded**: five seeds, 1,000 steps, each way with three
# learning rates, of which the best on validation scenes is shown.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Read the record, pick each way's learning rate on the validation scenes


def best(entries, way):
    """The entries of a way at the learning rate with the highest accuracy on validation data, by seed."""
    by_rate = {}
    for entry in entries:
        if entry["way"] == way:
            score = entry["validation"][-1] if isinstance(entry["validation"], list) else entry["validation"]
            by_rate.setdefault(entry["lr"], []).append((score, entry))
    lr = max(by_rate, key=lambda lr: np.mean([score for score, _ in by_rate[lr]]))
    return [entry for _, entry in sorted(by_rate[lr], key=lambda pair: pair[1]["seed"])]


def nearest(size):
    """The place in SIZES that is nearest to a mean size."""
    return int(np.abs(np.array(SIZES) - size).argmin())


runs = {way: best(record["entries"], way) for way in WAYS}
kept = runs["softmax"][0]["step"]


def end(way, what="accuracy"):
    """The measure at the end, one number for each seed."""
    return np.array([np.atleast_1d(entry[what])[-1] for entry in runs[way]])


# %% [markdown] slideshow={"slide_type": "subslide"}
# ## As accurate, with fewer patches

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: accuracy and patches over training, recorded
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.9))
for ax, what in ((left, "accuracy"), (right, "patches")):
    plots.curves(ax, kept, {name: [entry[what] for entry in runs[name]] for name in alphas}, legend=ax is left)
left.set(xlabel="training step", ylabel="test accuracy", ylim=(0, 1))
right.set(xlabel="training step", ylabel="patches with a weight", ylim=(0, 9.4), yticks=[1, 3, 5, 7, 9])
right.set_title(f"each at its best rate; {record['label']}", fontsize="small", color="0.3")
show(
    fig,
    "Two panels over 1,000 training steps, five seeds. Accuracy: the three maps climb together. Patches with a weight: "
    "softmax stays at 9, 1.5-entmax falls to about 2, sparsemax below 2, most of it in the first 100 steps.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: the ends in numbers, and the claims

print("after 1,000 steps     lr   accuracy (lowest to highest seed)   patches   digit in   patches in training")
for way in alphas:
    a = end(way)
    numbers = f"{end(way, 'patches').mean():17.2f}{end(way, 'digit in').mean():11.3f}"
    spread = f"{a.mean():.3f} ({a.min():.3f} to {a.max():.3f})"
    print(f"{way:18}{runs[way][0]['lr']:6g}   {spread:26}{numbers}{end(way, 'patches in training').mean():22.2f}")
score, classify = 2 * (64 * 32 + 32), 2 * (64 * 64 + 64 * 10)  # FLOPs for one patch
spent = {way: 9 * score + end(way, "patches in training").mean() * classify for way in alphas}
times = spent["softmax"] / spent["sparsemax"]
means = {way: end(way).mean() for way in alphas}
claim(
    "The three mean accuracies differ by less than the seeds of any of the three maps",
    max(means.values()) - min(means.values()) < min(np.ptp(end(way)) for way in alphas),
    means_differ_by=max(means.values()) - min(means.values()),
    seeds_by=min(np.ptp(end(way)) for way in alphas),
)
patches = end("sparsemax", "patches").mean()
claim("Sparsemax gives fewer than two patches a weight", patches < 2, patches=patches)
claim("With the scorer, sparsemax needs 2.1 to 2.3 times fewer FLOPs in training", 2.1 < times < 2.3, times_fewer=times)

# %% [markdown] slideshow={"slide_type": "notes"}
# After 1,000 steps the three maps are equally accurate: their gaps are smaller than the spread of the seeds. Softmax
# mixes nine patches, 1.5-entmax about two, sparsemax fewer, and the digit is nearly always one of them.
#
# Look at the start of the right picture: untrained scores are small, so nearly **every** patch has a weight. After 100
# steps two or three are left. The last column of the table is the mean over the whole training.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The control: cut a softmax

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Nine weights of a softmax, most of them tiny. What if we just set the small ones to 0?
#
# **Experiment.** Take the trained *softmax* networks. At test time, set weights below a threshold to 0, the same for
# all scenes; the largest weight always stays. So the number of patches adapts to the scene, as with sparsemax. The
# threshold is chosen on validation scenes, so that as many patches are left there as sparsemax has, on average. (What
# is left is not scaled up again: that changes no predicted class.) A simpler cut keeps the two largest, or one.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Softmax is cut to as many patches as sparsemax has. How does its accuracy compare?
#
# <details><summary>A. It falls by several points: it was trained with all nine</summary>
#
# **No.** The weights that are cut are small, and the classifier reads each patch alone.
#
# </details>
#
# <details><summary>B. About the same</summary>
#
# **Yes.** After training most of the weight is on one or two patches anyway.
#
# </details>
#
# <details><summary>C. It gains several points</summary>
#
# **No.** What is cut adds little, good or bad.
#
# </details>

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Accuracy against patches

# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Draw: accuracy against patches, recorded
fig, ax = plt.subplots(figsize=(10, 4.1))
of_size = np.array([entry["patches, cut"] for entry in runs["softmax"]]).mean(0)
plots.curves(ax, of_size, {"softmax, cut at a threshold": [entry["accuracy, cut"] for entry in runs["softmax"]]})
for i, (name, x, a) in enumerate([
    ("softmax, its two largest", [2], end("softmax", "accuracy, two largest")),
    ("1.5-entmax", end("1.5-entmax", "patches"), end("1.5-entmax")),
    ("sparsemax", end("sparsemax", "patches"), end("sparsemax")),
]):  # fmt: skip
    low_high = [[a.mean() - a.min()], [a.max() - a.mean()]]
    ax.errorbar(np.mean(x), a.mean(), low_high, fmt="Ds^"[i], ms=10, color=f"C{i}", capsize=5, lw=2, label=name)
ax.axhline(end("softmax").mean(), color="0.4", lw=1, ls=":", label="softmax, all nine patches")
ax.set(xlabel="patches with a weight, mean over test scenes", ylabel="test accuracy (axis from 0.85)")
ax.set(xlim=(0.9, 3.1), ylim=(0.85, 0.96))
ax.legend(frameon=False, loc="lower right")
ax.set_title(record["label"], fontsize="small", color="0.3")
show(
    fig,
    "Test accuracy against the mean number of patches, bars and bands from the lowest to the highest of five seeds. A "
    "softmax network, cut at a threshold, has a flat curve from one patch to three; the sparse maps lie near it.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Print: the control in numbers, and the claims
places = [nearest(entry["patches, validation"]) for entry in runs["sparsemax"]]  # as many patches, in validation
equal = np.array([entry["accuracy, cut"][i] for entry, i in zip(runs["softmax"], places, strict=True)])
left_over = np.array([entry["patches, cut"][i] for entry, i in zip(runs["softmax"], places, strict=True)])
once = np.array([entry["accuracy, cut"][0] for entry in runs["softmax"]])
rows = {
    "sparsemax": (end("sparsemax"), end("sparsemax", "patches").mean()),
    "softmax, cut to as many": (equal, left_over.mean()),
    "softmax, two largest": (end("softmax", "accuracy, two largest"), 2),
    "softmax, largest alone": (once, 1),
    "softmax, all nine": (end("softmax"), 9),
}
print("accuracy of five seeds" + " " * 40 + "mean   patches")
for name, (a, size) in rows.items():
    print(f"{name:25}" + "".join(f"{value:7.3f}" for value in a) + f"{a.mean():8.3f}{size:10.2f}")
shares = np.mean([entry["shares of 1 to 9 patches"] for entry in runs["sparsemax"]], 0)
print("sparsemax, shares of scenes with 1, 2, 3, more patches:", *shares[:3].round(2), shares[3:].sum().round(2))
gaps = end("sparsemax").mean() - np.array([rows[name][0].mean() for name in list(rows)[1:4]])
claim("Sparsemax and a softmax cut to as many patches are equal to within 0.01", abs(gaps[0]) < 0.01, ahead=gaps[0])
claim("So are sparsemax and the two largest weights of softmax", abs(gaps[1]) < 0.01, ahead=gaps[1])
claim("Softmax's largest weight alone is behind by 0.01 to 0.03", 0.01 < gaps[2] < 0.03, behind=gaps[2])
claim("Fewer than one in ten scenes get three patches or more", shares[2:].sum() < 0.1, share=shares[2:].sum())

# %% [markdown] slideshow={"slide_type": "notes"}
# At equal size sparsemax and the cut softmax are level, and so are its two largest weights. So **at test time the zeros
# bring no accuracy here**; they save you the threshold. One patch alone costs about 0.02. Not shown: a task in which
# many scenes need three patches or more; here fewer than one in ten get them.
#
# What this cut does not do is save work in *training*: there softmax ran all nine until the end. That is next.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Sets of classes · optional
#
# Classes with a weight are a **set**: what the network does not rule out.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Sparsemax and its loss, on digits: does the set hold the truth? And does softmax with a cut do as well?
#
# **Experiment.** One small network, three losses, each at its best of three learning rates (picked on 257 validation
# digits), five seeds, 1,000 steps. *Softmax, cut*: weights of the softmax network below one threshold for all digits
# are set to 0, the largest always stays. The threshold is chosen on the validation digits, so that the sets are as
# large as sparsemax's there. The columns: accuracy; classes in the set, on average; how often it holds the truth; how
# often it has a single class; and how often that is right. Then the same with noise on the pixels, with the same
# threshold.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Print: sets of classes, recorded, and the claims


of = {name: best(class_record["entries"], name) for name in alphas}
cuts = [nearest(entry["classes, validation"]) for entry in of["sparsemax"]]
columns = ["accuracy", "classes", "truth named", "a single class", "truth named, of single ones"]
print(f"{class_record['label']}\n{'':22}accuracy   classes   truth in   single   ... right")
sets = {}
for noise in (0, 0.5):
    rows = {name: [entry[f"noise {noise:g}"] for entry in entries] for name, entries in of.items()}
    cut = [entry[f"noise {noise:g}, cut"] for entry in of["softmax"]]
    rows["softmax, cut"] = [{c: row[c][i] for c in columns} for row, i in zip(cut, cuts, strict=True)]
    for name, found in rows.items():
        sets[name, noise] = {c: np.mean([row[c] for row in found]) for c in columns}
        values = [sets[name, noise][c] for c in columns]
        last = f"{values[4]:12.3f}" if values[3] else f"{'-':>12}"
        print(f"{name:14} noise {noise:3g}{values[0]:9.3f}{values[1]:10.2f}{values[2]:11.3f}{values[3]:9.2f}{last}")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about sets
gap = sets["sparsemax", 0]["truth named"] - sets["softmax, cut", 0]["truth named"]
claim("Without noise, sets of equal size: the truth is in as often, to within 0.005", abs(gap) < 0.005, difference=gap)
grown = [sets[name, 0.5]["classes"] - sets[name, 0]["classes"] for name in ("sparsemax", "softmax, cut")]
claim("With noise, the sets of both grow, by less than one class", 0 < min(grown) and max(grown) < 1, most=max(grown))
right = [sets[name, 0.5]["truth named, of single ones"] for name in ("sparsemax", "softmax, cut")]
alone = [sets[name, 0.5]["a single class"] for name in ("sparsemax", "softmax, cut")]
claim(
    "With noise, sparsemax has fewer single classes, and they are right more often",
    alone[0] < alone[1] and right[0] > right[1],
    right=right[0],
    right_of_cut=right[1],
)
noisy_truth = {name: sets[name, 0.5]["truth named"] for name in ("sparsemax", "softmax, cut")}
claim("With noise, both miss the truth more than five times as often", all(
    1 - value > 5 * (1 - sets[name, 0]["truth named"]) for name, value in noisy_truth.items()
), sparsemax=noisy_truth["sparsemax"], cut=noisy_truth["softmax, cut"])  # fmt: skip

# %% [markdown] slideshow={"slide_type": "notes"}
# Without noise the two are level again: sparsemax names 1.2 classes, and the truth is nearly always among them; a
# softmax, cut to sets of that size, does the same. With noise on the pixels both sets grow, but far too little: the
# truth is missed in three of ten images. **A set is no guarantee.** (A threshold with one: notebook 07.) Single classes
# are right a little more often with sparsemax under noise, but it also names fewer of them.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What zeros save
#
# Run only what has a weight: `z.nonzero()` says which patch of which scene that is.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Does it pay, in training and at test time, in FLOPs and in seconds?
#
# **Code.** Our options share one classifier $f$. `dense` runs it on all nine patches. `gathered` runs it on those with
# a weight, in one call, and adds the results up, scene by scene.


# %% slideshow={"slide_type": "-"}
def dense(x, z, f):  # patches (B, 9, 64), weights (B, 9)
    return (z.unsqueeze(-1) * f(x)).sum(1)


def gathered(x, z, f):
    scene, k = z.nonzero(as_tuple=True)
    parts = z[scene, k, None] * f(x[scene, k])
    return parts.new_zeros(len(x), parts.shape[-1]).index_add(0, scene, parts)


# %% [markdown] slideshow={"slide_type": "skip"}
# May we skip **in training**, too? The cell compares the gradients of all parameters, the scorer's as well. They are
# the same: what was skipped has slope 0 anyway. (A straight-through choice, notebook 02, may not skip: it learns from
# options that it did not choose.)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Compare the gradients of all parameters
finder, test = live["sparsemax"][0], held_out("test")
x, label = test.patches.flatten(2), test.label
slopes = []
for evaluate in (dense, gathered):
    y = evaluate(x, finder.choose(finder.scores(test.patches)).weights, finder.classify)
    slopes.append(torch.autograd.grad(F.cross_entropy(y, label), list(finder.parameters())))
torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-5)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: count everything ★☆☆ 3 min
#
# To score a patch costs 4,160 FLOPs, to classify it 9,472. The scorer sees all nine patches. A sparse choice classifies
# 2 of them, on average. How many times fewer FLOPs has the *whole network* at test time, against classifying all nine?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
times_fewer = ...

check("whole_saving", times_fewer)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
check("whole_saving", (9 * 4160 + 9 * 9472) / (9 * 4160 + 2 * 9472))  # the scorer is in both

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Counted, and on the clock

# %% [markdown] slideshow={"slide_type": "skip"}
# Now a sweep over the classifier's width and the batch. *Dense*: softmax, all nine patches. *Sparse*: sparsemax, the
# patches with a weight. Scorer, choice and, in training, Adam's update count in both. Two kinds of options: nine
# patches share **one classifier** (`dense`, `gathered`), or there are **nine classifiers**, one for each place, run one
# after the other (`mix` and `mix_sparse` of the library). Each time is the best of several medians, after a warm-up.
# The zeros are those of the scorer that we just trained; the learning rate is 0, so nothing moves while we measure.


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title A training step, and test time, as they are measured
def step(evaluate, choose, f, optimizer, x, label):  # of training
    z = choose(finder.score(x).squeeze(-1)).weights
    optimizer.zero_grad()
    F.cross_entropy(evaluate(x, z, f), label).backward()
    optimizer.step()


@torch.no_grad()
def infer(evaluate, choose, f, optimizer, x, label):  # test time
    return evaluate(x, choose(finder.score(x).squeeze(-1)).weights, f)


# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Measure: dense against sparse, and print
ways = {"shared": (dense, gathered), "own": (mix, mix_sparse)}
faster, fewer = {}, {}
print("milliseconds             training step: dense  sparse  ratio     test: dense  sparse  ratio   FLOPs of test")
for kind, evaluate in ways.items():
    for n in (64, 1024):
        for width in (64, 256, 1024):
            nets = [MLP(64, width, 10) for _ in range(9)]
            own = [lambda x, k=k, nets=nets: nets[k](x[:, k]) for k in range(9)]
            f, used = (nets[0], nets[:1]) if kind == "shared" else (own, nets)
            weights = [w for net in [*used, finder.score] for w in net.parameters()]
            rest = f, torch.optim.Adam(weights, lr=0), x[:n], label[:n]
            pairs = list(zip(evaluate, (softmax, finder.choose), strict=True))
            line = []
            for job in (step, infer):
                many = 3 if n * width > 300_000 else 15
                rounds = [[wall_time(job, *pair, *rest, min_seconds=0.004) for pair in pairs] for _ in range(many)]
                times = np.min(rounds, 0)  # the best of several medians: another program can only make it slower
                faster[kind, n, width, job] = times[0] / times[1]
                line += [f"{1e3 * times[0]:{14 - 1 * (job is step)}.2f}{1e3 * times[1]:8.2f}{times[0] / times[1]:7.2f}"]
                counts = [count_flops(job, *pair, *rest) for pair in pairs]
                fewer[n, width, job] = counts[0] / counts[1]
            print(f"{kind:7}{n:6} scenes, width{width:5}", *line, f"{counts[0] / counts[1]:8.2f}")

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
# @title Draw: how many times faster
fig, axes = plt.subplots(1, 2, figsize=(10, 4.1), sharey=True)
widths = [64, 256, 1024]
for ax, job, title in zip(axes, (step, infer), ("a training step", "test time"), strict=True):
    lines = {
        f"{name}, {n:,} scenes": [[faster[kind, n, width, job] for width in widths]]
        for kind, name in (("shared", "one classifier"), ("own", "nine classifiers"))
        for n in (64, 1024)
    }
    plots.curves(ax, widths, lines, legend=False)
    ax.plot(
        widths, [fewer[1024, width, job] for width in widths], color="0.2", lw=1.2, marker="x", label="FLOPs counted"
    )
    ax.axhline(1, color="0.4", lw=1, ls=":")
    ax.set(xscale="log", xlabel="width of a classifier (log)", title=title)
    ax.set_xticks(widths, [f"{width:,}" for width in widths])
    ax.minorticks_off()
axes[0].set(ylabel="times faster than dense", ylim=(0, None))
fig.legend(*axes[0].get_legend_handles_labels(), frameon=False, ncols=3, loc="outside lower center", fontsize="small")
small = [faster[kind, 64, 64, job] for kind in ways for job in (step, infer)]
middle = [faster[kind, 1024, 256, job] for kind in ways for job in (step, infer)]
large = [faster[kind, 1024, 1024, job] for kind in ways for job in (step, infer)]
show(
    fig,
    f"Times faster than dense, against the classifier's width. For width 64 and 64 scenes {min(small):.1f} to "
    f"{max(small):.1f} times, below or near 1; for width 1,024 and 1,024 scenes {min(large):.1f} to {max(large):.1f} "
    "times. The FLOPs counted say 2.2 to 4.3 times.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title The claims about the clock
claim("Width 64, 64 scenes: sparse is slower", max(small) < 1, clock=True, times_as_fast=max(small))
claim("Width 256, 1,024 scenes: sparse is faster", min(middle) > 1, clock=True, least=min(middle))
claim("Width 1,024, 1,024 scenes: sparse is more than twice as fast", min(large) > 2, clock=True, least=min(large))

# %% [markdown] slideshow={"slide_type": "notes"}
# **For small modules zeros cost time.** With width 64 and 64 scenes, as in our training, to pick out rows takes longer
# than the work that it saves. With 1,024 scenes it pays from width 256 on; at width 1,024 it is more than twice as
# fast, up to several times, where 4 times are counted. (More than counted, perhaps as less work fits the cache better.)
# So the sparsemax of our record needed 2.2 times fewer FLOPs in its whole training, scorer included, and at this size
# no less time. All this on one thread of a CPU.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Dead options in a real task

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** In the toy, sparsemax dies behind a lead. Does that happen when a network learns?
#
# **Experiment.** The same task and record. In *scores × 30* all scores are multiplied by 30, so that the untrained
# network is sparse from the start. Softmax with the same factor is the control: if it does well, large scores alone are
# not the harm.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: a dense and a sparse start, recorded
names = ["softmax", "sparsemax", "softmax, scores × 30", "sparsemax, scores × 30"]
fig, ax = plt.subplots(figsize=(10, 3.7))
plots.curves(ax, kept, {name: [entry["accuracy"] for entry in runs[name]] for name in names}, legend=False)
ax.set(xlabel="training step", ylabel="test accuracy", ylim=(0, 1), xlim=(0, 1000))
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), title=record["label"], title_fontsize="small")
show(
    fig,
    "Test accuracy over 1,000 steps, means and ranges of five seeds. Softmax, sparsemax and softmax with scores times "
    "30 climb to above 0.9; sparsemax with scores times 30 lies far below them, with a wide band.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: dense and sparse starts in numbers, and the claims
print("patches with a weight:  before training   after 100 steps   digit in, after 100   accuracy at the end")
for name in names:
    entries = runs[name]
    patches = [np.mean([entry["patches"][i] for entry in entries]) for i in (0, 1)]
    digit = np.mean([entry["digit in"][1] for entry in entries])
    values = f"{patches[0]:13.2f}{patches[1]:18.2f}{digit:22.2f}"
    print(f"{name:25}{values}{end(name).mean():14.3f} ({end(name).min():.3f} to {end(name).max():.3f})")
dead_end, control = end("sparsemax, scores × 30"), end("softmax, scores × 30")
claim(
    "With a sparse start, sparsemax ends more than 0.05 below softmax of the same scale",
    control.mean() - dead_end.mean() > 0.05,
    softmax=control.mean(),
    sparsemax=dead_end.mean(),
)
rise = np.mean([entry["accuracy"][-1] - entry["accuracy"][-3] for entry in runs["sparsemax, scores × 30"]])
claim("The sparse start is still rising, by more than 0.02 in the last 200 steps", rise > 0.02, rise=rise)
digit = np.mean([entry["digit in"][1] for entry in runs["sparsemax, scores × 30"]])
claim(
    "With the sparse start, after 100 steps the digit has a weight in less than half of the scenes",
    digit < 0.5,
    share=digit,
)

# %% [markdown] slideshow={"slide_type": "notes"}
# With a sparse start sparsemax is clearly behind, though softmax bears the same scale well. The table says why it may
# be: after 100 steps the digit has a weight in fewer than half of the scenes; in the others no gradient says "look
# there". But the network is **slow, not shown to be stuck**: the curve still rises. Perhaps because, unlike in the toy,
# all patches share one scorer, which other scenes teach. From the usual dense start sparsemax ends level with softmax.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A fixed budget: k of K
#
# | | how many run | who decides | the left out |
# |---|---|---|---|
# | `entmax` | as many as the scores say | the scores | no gradient |
# | `top_k` | always k | the scores | no gradient |
# | `gumbel_top_k` | always k | scores + noise | get their turn |

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Entmax lets the scores decide how many options run. Hardware would rather know: fixed shapes, a fixed
# bill. How do we take always $k$?
#
# **Idea. Top-k:** keep the $k$ largest scores, set the others to $-\infty$, and take the softmax. It is what large
# mixtures of experts do (notebook 08). **Gumbel top-k:** add the Gumbel noise $G$ of notebook 02 first, so that every
# option has its turn. In both, the weights of those that are taken have a gradient; *which* are taken has none. So the
# gradient is biased, as that of Gumbel-Softmax is.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The k largest, by hand

# %% [markdown] slideshow={"slide_type": "skip"}
# Top-k in three lines, and the library's `top_k` and `gumbel_top_k`. Compare where the zeros are.


# %% slideshow={"slide_type": "-"}
def top_k_by_hand(s, k):
    best = s.topk(k).indices
    masked = torch.full_like(s, -torch.inf).scatter(-1, best, s.gather(-1, best))
    return masked.softmax(-1)  # exp(-∞) = 0


s = torch.tensor([4.0, 2.0, 1.0, 1.0]).log()  # softmax: 4/8, 2/8, 1/8, 1/8
torch.testing.assert_close(top_k_by_hand(s, 2), top_k(s, 2).weights)
print("top-2:       ", *(f"{weight:.2f}" for weight in top_k_by_hand(s, 2)))
for _ in range(3):
    print("Gumbel top-2:", *(f"{weight:.2f}" for weight in gumbel_top_k(s, 2).weights))

# %% [markdown] slideshow={"slide_type": "skip"}
# Two things are worse than with entmax. There is a **jump**: when two scores swap places at the cut, the weights jump.
# And with $k = 1$ the one weight is the constant 1, so *no* score gets a gradient. The cell shows both, and then, from
# the record, how top-2 and Gumbel top-2 do when they are used **in training** to find the digit, with two patches from
# the first step on.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: the jump, the gradient of top-1, and top-2 in training
two = torch.tensor([[1.0, 0.001, 0.0], [1.0, -0.001, 0.0]])  # b and c swap places
jumps = [(choose(two)[0] - choose(two)[1]).abs().max().item() for choose in (partial(top_k_by_hand, k=2), sparsemax)]
claim("Top-2 jumps by more than 0.2, sparsemax by less than 0.01", jumps[0] > 0.2 > 20 * jumps[1], top_2=jumps[0])
scores = s.clone().requires_grad_()
(slope,) = torch.autograd.grad(top_k_by_hand(scores, 1) @ torch.tensor([0.0, 1, 2, 3]), scores)
claim("Top-1 passes no gradient", bool((slope == 0).all()), largest=slope.abs().max())
print("trained with           lr   accuracy (lowest to highest seed)   after 500 steps")
for name in ("softmax", "sparsemax", "top-2", "Gumbel top-2"):
    a = end(name)
    early = np.mean([entry["accuracy"][5] for entry in runs[name]])
    print(f"{name:18}{runs[name][0]['lr']:7g}   {a.mean():.3f} ({a.min():.3f} to {a.max():.3f}){early:22.3f}")
behind = end("softmax").mean() - np.array([end(name).mean() for name in ("top-2", "Gumbel top-2")])
claim("Both end within 0.01 of softmax", max(abs(behind)) < 0.01, top_2_behind=behind[0], gumbel_behind=behind[1])
slower = np.mean([entry["accuracy"][5] for entry in runs["top-2"]]) - early  # the last: Gumbel top-2
claim("After 500 steps Gumbel top-2 is behind top-2", slower > 0, behind=slower)

# %% [markdown] slideshow={"slide_type": "notes"}
# Two patches from the first step on are enough: both end within 0.01 of softmax. Gumbel noise brings nothing here; it
# is slower. Perhaps dead patches wake without it because all share one scorer. Where each option has parameters of its
# own, as in notebook 08, this may be different.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Six subsets, by hand
#
# Four options with $e^{s} = 4, 2, 1, 1$: two of them are drawn. How often is each one in?

# %% [markdown] slideshow={"slide_type": "skip"}
# There are six subsets of two, and two laws that sound alike.
#
# **The race** (*Plackett-Luce*; it is what Gumbel top-k draws, Kool et al. 2019). Draw the first option by softmax,
# $\pi = \frac48, \frac28, \frac18, \frac18$. Take it out, and draw the second by the softmax of the rest. For example
#
# $$P(\{a, b\}) = \frac48 \cdot \frac{2/8}{4/8} + \frac28 \cdot \frac{4/8}{6/8} = \frac14 + \frac16 = \frac{5}{12}$$

# %% [markdown] slideshow={"slide_type": "-"}
# **The coins** (*conditional Poisson*). Toss a coin for each option, with odds $e^{s_k}$; throw away all tosses that do
# not show exactly two heads. Then the probability of a subset is proportional to the *product* of its $e^{s_k}$:
#
# | subset | ab | ac | ad | bc | bd | cd | sum |
# |---|---|---|---|---|---|---|---|
# | product | 8 | 4 | 4 | 2 | 2 | 1 | 21 |
# | in it: a | 8 | 4 | 4 | | | | 16 |
# | in it: c | | 4 | | 2 | | 1 | 7 |
#
# How often an option is in, is its **marginal** (or inclusion probability): for a it is $16/21$, for c $7/21$. The four
# marginals sum to 2, as two are always in.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: how often is it in? ★☆☆ 4 min
#
# Three options with $e^s = 3, 2, 1$. Two are drawn by coins. How often is the third one in? Give the number.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
marginal = ...

check("inclusion", marginal)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# the subsets {0, 1}, {0, 2}, {1, 2} have the products 6, 3, 2; the third option is in the last two
check("inclusion", (3 + 2) / (6 + 3 + 2))

# %% [markdown] slideshow={"slide_type": "skip"}
# The code lists the six subsets as rows of zeros and ones, and computes both laws. The last line checks a neat fact:
# the marginals of the coins are the *gradient* of $\log \sum_{\text{subsets}} \prod e^{s_k}$, as softmax is the
# gradient of logsumexp.

# %% slideshow={"slide_type": "skip"}
subsets = list(combinations(range(4), 2))
member = torch.tensor([[float(k in subset) for k in range(4)] for subset in subsets])  # (6, 4)
coins = (member @ s).softmax(-1)  # product of e^s = e^(sum of s), divided by the total
pi = s.softmax(-1)
race = torch.stack([pi[i] * pi[j] / (1 - pi[i]) + pi[j] * pi[i] / (1 - pi[j]) for i, j in subsets])
for subset, p, q in zip(subsets, race, coins, strict=True):
    print("abcd"[subset[0]] + "abcd"[subset[1]], f"  race {p:.3f}   coins {q:.3f}")
marginals = torch.func.grad(lambda s: (member @ s).logsumexp(-1))(s)
torch.testing.assert_close(marginals, coins @ member)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Same subsets, another law

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: the marginals of both laws, and draws
drawn = (gumbel_top_k(s.expand(100_000, 4), 2).weights > 0).float().mean(0)
tossed = torch.rand(400_000, 4) < s.sigmoid()  # a coin with odds e^s shows heads with probability sigmoid(s)
tossed = tossed[tossed.sum(-1) == 2].float().mean(0)
fig, ax = plt.subplots(figsize=(10, 3.2))
inclusion = {"race": (race @ member).tolist(), "coins": (coins @ member).tolist()}
plots.bars(ax, ["a", "b", "c", "d"], inclusion, fmt="{:.3f}")
ax.set(ylim=(0, 1), ylabel="how often it is in")
show(
    fig,
    "Bars for the options a to d: how often each is among the two. The race takes a in 0.810 of the draws, the coins "
    "in 0.762; for c and d it is 0.310 against 0.333. For b both have 0.571.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about the two laws
off = [(share - law @ member).abs().max().item() for share, law in ((drawn, race), (tossed, coins))]
claim("`gumbel_top_k` draws the race, tossed coins the other law, to within 0.01", max(off) < 0.01, off=max(off))
more = (race - coins) @ member
claim("The race takes the favourite more often, the outsiders less", more[0] > 0.04 and more[2] < -0.02, a=more[0])

# %% [markdown] slideshow={"slide_type": "notes"}
# Both laws always take two, both favour high scores, and they differ: the race takes the favourite a more often. Why
# care? SIMPLE (Ahmed et al. 2023) draws by the coins, and goes back through the marginals of the coins. With draws by
# Gumbel top-k the same marginals would belong to another distribution.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### A gradient through the marginals · optional
#
# In the form of straight-through: the value of $z$ is the subset that was drawn, its gradient is that of the marginals.
# Is it right? For a cost that is linear, $\sum_k z_k \, \text{cost}_k$, the expected cost depends on the marginals
# alone, so the estimate is exact. For a cost that is not linear it need not be. The cell compares the mean of the
# estimate over all six subsets with the gradient of the true expected cost, for one cost of each kind.

# %% slideshow={"slide_type": "skip"}
price = torch.tensor([1.0, 0.5, 0.2, 0.0])
costs = {"linear": lambda z: z @ price, "squared": lambda z: (z @ price - 0.9) ** 2}
for name, f in costs.items():
    scores = s.clone().requires_grad_()
    law = (member @ scores).softmax(-1)  # coins
    (true,) = torch.autograd.grad(law @ f(member), scores, retain_graph=True)
    inclusion = law @ member
    z = member + (inclusion - inclusion.detach())  # each row a drawn subset, with the marginals' gradient
    (estimate,) = torch.autograd.grad(law.detach() @ f(z), scores)
    print(f"{name:8} true {true.numpy().round(3)}, estimate {estimate.numpy().round(3)}")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claim about the squared cost
cosine = F.cosine_similarity(true, estimate, 0).item()
claim("For the squared cost the estimate has another direction", cosine < 0.99, cosine=cosine)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where sparse choices fail
#
# - **Out is out.** No weight, no gradient. A hidden choice begins dense, or needs noise.
# - **Scale decides.** Small scores are dense, large ones sparse.
# - **A cut softmax may do as well** at test time. Try it first.
# - **Zeros pay for large modules**, not for small ones.
# - **The bill varies** from example to example. Top-k fixes it, and adds a jump.

# %% [markdown] slideshow={"slide_type": "notes"}
# When these hurt: notebook 05 sets a target for the budget, notebook 07 a threshold with a guarantee, notebook 08 keeps
# many options alive.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# $$z = \arg\max_{p} \; \langle p, s \rangle - \Omega_\alpha(p) \qquad L_\alpha(s, t): \; \nabla L = z - t$$
#
# - One number in entmax: softmax at $\alpha = 1$, sparsemax at 2, exact zeros beyond 1.
# - What has weight zero need not run, in training too.
# - It gets no gradient either: start dense.
# - $k$ of $K$: by a race or by coins. Their marginals differ.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - A. F. T. Martins, R. F. Astudillo, *From Softmax to Sparsemax*, ICML 2016.
# - B. Peters, V. Niculae, A. F. T. Martins, *Sparse Sequence-to-Sequence Models*, ACL 2019: entmax.
# - M. Blondel, A. F. T. Martins, V. Niculae, *Learning with Fenchel-Young Losses*, JMLR 2020.
# - W. Kool, H. van Hoof, M. Welling, *Stochastic Beams and Where to Find Them*, ICML 2019: Gumbel top-k.
# - K. Ahmed, Z. Zeng, M. Niepert, G. Van den Broeck, *SIMPLE: A Gradient Estimator for k-Subset Sampling*, ICLR 2023.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
