# %% [markdown] slideshow={"slide_type": "slide"}
# # Merging: new networks out of old ones
#
# **Notebook 12** · *Designing efficient and modular neural networks*
#
# Two networks are trained. Can we average their weights? Add what one has learnt to another?
# And what does the merged network really cost?

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you will be able to do.** Say when two networks can be averaged, and why most cannot. Match the units of one
# to those of the other, and check the matching. Explain variance collapse, and write REPAIR. Make a soup of
# fine-tuned networks, and compare it with what its training could have bought otherwise. Add task vectors by sum,
# TIES and DARE. Count what a merge costs. **You need** only notebook 00: linear layers, gradient descent, means and
# standard deviations.

# %% [markdown] slideshow={"slide_type": "skip"}
# Folded code draws or prepares: click on its title to open it. Where it says *Predict*, guess before you click. Lines
# with ✓ or ✗ compare the text with the numbers.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Imports
from collections import OrderedDict

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lecture_lib import plots, recorded
from lecture_lib.data import digits
from lecture_lib.merging import (
    Stitch,
    apply_task_vectors,
    average,
    dare,
    greedy_soup,
    interpolate,
    linear_cka,
    match_weights,
    permute,
    reassemble,
    task_vector,
    ties,
    units,
)
from lecture_lib.models import MLP, Transformer
from lecture_lib.notebook import check, claim, setup, show
from lecture_lib.recorded import merging as deep_and_wide
from lecture_lib.recorded import merging_soups as cook
from lecture_lib.recorded import merging_tasks as side
from lecture_lib.recorded.merging_tasks import logits
from lecture_lib.widgets import Interpolation

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The seed, the data, the records; training side by side
seed = setup(0)
record, soup_record, task_record = map(recorded.load, ("merging", "merging_soups", "merging_tasks"))
data = digits()
x, y = data.train_x[:1000].flatten(1), data.train_y[:1000]
test_x, test_y = data.test_x.flatten(1), data.test_y  # to report on
PAIRS = 5  # of a network A and a network B


def new(make, count, run=0):
    """The states of `count` new networks."""
    return side.new(make, count, 1000 * seed + run)


def train(net, states, x=x, y=y, *, steps=300, lr=3e-3, run=0, **more):
    """States after training side by side, each with its own batches; x and y may be each network's own."""
    return side.train(net, states, x, y, steps=steps, lr=lr, seed=1000 * seed + run, **more)


def accuracy(net, states, x=test_x, y=test_y):
    return side.accuracy(net, states, x, y)


# %% [markdown] slideshow={"slide_type": "slide"}
# ## Average two networks
#
# $$w = \tfrac{1}{2}\, (w_A + w_B) \qquad \text{weight by weight}$$

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Two networks of one shape do one task. Is the mean of their weights $w_A$ and $w_B$ a network that
# does it, too?
#
# **Why ask?** To run both networks and average their answers (an **ensemble**) costs twice as much at test time. One
# averaged network costs as much as one of them.
#
# **What is compared.** MLPs of 64, 32, 32 and 10 units learn the digits: scikit-learn's images of 8 × 8 pixels, 1,000
# to learn from, 540 to test on. A and B are trained in two ways. *Apart*: each from its own random start, 300 steps.
# *Fork*: one start, 100 steps together; then each goes on for 200 steps with other batches. Five pairs of each kind.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** A and B, trained apart, each read 95 % of the digits. And their average?
#
# <details><summary>A. About 95 % as well</summary>
#
# **No.** It reads about .6 of them.
#
# </details>
#
# <details><summary>B. Far less</summary>
#
# **Yes.** About .6. But a fork's average is as good as A and B.
#
# </details>
#
# <details><summary>C. More: the errors average out</summary>
#
# **No.** That is what an ensemble does, which averages *answers*.
#
# </details>

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Train five pairs of each kind, and average
net = MLP(64, 32, 10, depth=3)
alone = train(net, new(lambda: MLP(64, 32, 10, depth=3), 2 * PAIRS))
pairs = list(zip(alone[::2], alone[1::2], strict=True))
start = train(net, new(lambda: MLP(64, 32, 10, depth=3), PAIRS, run=1), steps=100, run=1)
forks = list(zip(*(train(net, start, steps=200, run=run) for run in (2, 3)), strict=True))

bars = {}
for name, some in {"apart: each from its own start": pairs, "fork: 100 steps together, then 200 apart": forks}.items():
    own = accuracy(net, [state for pair in some for state in pair]).mean().item()
    merged = accuracy(net, [average(pair) for pair in some])
    bars[name] = [own, merged.mean().item()]
    print(f"{name:40}: own {own:.3f}, average {bars[name][1]:.3f} ({merged.min():.3f} to {merged.max():.3f})")
(own, apart), (_, together) = bars.values()
claim(
    "apart, the average reads more than .2 fewer than its parents; a fork's is within .03 of them",
    own > 0.92 and apart < own - 0.2 and abs(together - bars[name][0]) < 0.03,
    own=own,
    apart=apart,
    fork=together,
)

# %% slideshow={"slide_type": "fragment"} tags=["fold", "guess"]
# @title Plot: A and B, and their average
fig, ax = plt.subplots(figsize=(10, 3.4))
plots.bars(ax, ["A and B, each alone", "their average"], bars)
ax.set(ylabel="test accuracy", ylim=(0, 1.45), yticks=[0, 0.5, 1])
show(
    fig,
    f"Accuracy of networks and of their average. Trained apart: {own:.2f} alone, {apart:.2f} averaged. "
    f"Forks: {bars[name][0]:.2f} alone, {together:.2f} averaged.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Reading.** The average of two networks that were trained apart is of little use. That of a fork, which has spent two
# thirds of its steps apart, is as good as its parents (Frankle et al. 2020). So 200 steps apart need not make networks
# unfit for each other. What does?

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The order of units means nothing

# %% [markdown] slideshow={"slide_type": "skip"}
# **Idea.** A hidden unit reads with its row of the matrix before it and its entry of the bias. It speaks with its
# column of the matrix after it. Let the units change places, and move all three with them: the sum over units has the
# same terms in another order.
#
# **Code.** Four hidden units in another order. `order[i]` is the unit that goes to place `i`. Look at which dimension
# each tensor is indexed: rows before, columns after.

# %% slideshow={"slide_type": "-"}
W1, b1, W2 = torch.randn(4, 64), torch.randn(4), torch.randn(10, 4)
order = torch.tensor([2, 0, 3, 1])  # the four hidden units change places
before = F.relu(x @ W1.T + b1) @ W2.T
after = F.relu(x @ W1[order].T + b1[order]) @ W2[:, order].T
torch.testing.assert_close(before, after)  # the same function, other weights

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Picture: one network in two orders
fig, ax = plt.subplots(figsize=(10, 2.5))
names = ["edge", "loop", "bar", "dot"]
for left, some, title in ((0, [0, 1, 2, 3], "network A"), (5.2, [2, 0, 3, 1], "network B: A in another order")):
    for place, unit in enumerate(some):
        plots.box(ax, left + 1.15 * place, 0, 1, 0.7, names[unit], colour=f"C{unit}")
    ax.text(left + 2.2, 0.95, title, ha="center")
for place, unit in enumerate([2, 0, 3, 1]):
    plots.arrow(ax, (0.5 + 1.15 * unit, -0.05), (5.7 + 1.15 * place, -0.05), colour=f"C{unit}", bend=0.28)
ax.set(xlim=(-0.2, 10), ylim=(-1.75, 1.3))
ax.axis("off")
show(fig, "Network A has four hidden units, say edge, loop, bar, dot; network B has the same four in another order.")

# %% [markdown] slideshow={"slide_type": "notes"}
# **Reading.** The function is the same, but for rounding. (The four names in the picture are made up.) Half of A plus
# half of this B is, in the first place, half an edge and half a bar: no unit of either. And yet A and B are the same
# network. Two networks that start apart have no reason to choose the same order; a fork starts in one order.
#
# **A conjecture** (Entezari et al. 2022): this is all that stands between two trained networks. Find the order, and
# the average works. We test it.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: the same function ★☆☆ 2 min
#
# An MLP has two hidden layers, of 3 and of 4 units. In how many orders of its hidden units can the *same* function be
# written, the first one included? Work it out on paper.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
orders = ...

check("same_function", orders)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
orders_solution = 3 * 2 * 1 * 4 * 3 * 2 * 1

check("same_function", orders_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## By hand: match, then average
#
# Which unit of B is most like which unit of A?

# %% [markdown] slideshow={"slide_type": "skip"}
# **Idea.** Compare each unit of B with each of A: what it reads, its bias, what it says. That is a table of
# similarities. Each unit of A gets one of B, so that the sum of similarities is as large as possible: the
# **assignment problem**, which `linear_sum_assignment` solves exactly. It *minimises* unless you say `maximize=True`.
#
# **Code.** Two networks with one hidden layer of 16 units. In `matched`, unit `order[i]` of B stands in place `i`.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Train two networks with one hidden layer
small = MLP(64, 16, 10)
A, B = train(small, new(lambda: MLP(64, 16, 10), 2, run=4), run=4)

# %% [markdown] slideshow={"slide_type": "skip"}
# The similarity is a sum of three inner products, one for each tensor that a unit has a part in.

# %% slideshow={"slide_type": "-"}
alike = A["0.weight"] @ B["0.weight"].T  # (16, 16): what the units read,
alike += torch.outer(A["0.bias"], B["0.bias"])  # how easily they answer,
alike += A["2.weight"].T @ B["2.weight"]  # and what they say
_, order = linear_sum_assignment(alike, maximize=True)  # each unit of A gets one of B

matched = B | {"0.weight": B["0.weight"][order], "0.bias": B["0.bias"][order]}
matched["2.weight"] = B["2.weight"][:, order]

# %% [markdown] slideshow={"slide_type": "skip"}
# **Two checks that need no second training.** A permutation leaves the function as it was: `matched` must answer as B
# does. (This finds a bias left behind, or rows taken for columns. It finds no wrong *choice* of the order.) And a
# copy of A with its units shuffled must come back as A. (This finds a wrong choice.) The folded cell does both, then
# calls the library: `units(net)` says which units may change places, `match_weights(A, B, units(net))` returns B in
# A's order.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Two checks; equal to the library; the average
torch.testing.assert_close(logits(small, [matched], test_x), logits(small, [B], test_x))  # the same function
library = match_weights(A, B, units(small))
for key in matched:
    torch.testing.assert_close(matched[key], library[key])
shuffled = permute(A, units(small), {"0.": torch.randperm(16)})
again = match_weights(A, shuffled, units(small))
found = accuracy(small, [A, B, average([A, B]), average([A, matched])]).tolist()
print("A {:.2f}, B {:.2f}, average {:.2f}, average with B matched {:.2f}".format(*found))
similarity = [F.cosine_similarity(A["0.weight"], state["0.weight"]).mean().item() for state in (B, matched)]
print(f"cosine of what the units of A and B read: {similarity[0]:.2f}, matched {similarity[1]:.2f}")
claim(
    "a shuffled copy of A comes back as A, bit for bit; matching A and B brings their units and the average closer",
    all(torch.equal(again[key], A[key]) for key in A) and found[3] > found[2] and similarity[1] > similarity[0] + 0.2,
    gain=found[3] - found[2],
)

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Plot: what the units of A, B and B matched read
fig, axes = plt.subplots(3, 16, figsize=(10, 2.4))
best_first = F.cosine_similarity(A["0.weight"], matched["0.weight"]).argsort(descending=True)
for row, (name, state) in zip(axes, {"A": A, "B": B, "B matched": matched}.items(), strict=True):
    for ax, unit in zip(row, best_first, strict=True):
        ax.imshow(state["0.weight"][unit].unflatten(0, (8, 8)), cmap="RdBu", vmin=-0.9, vmax=0.9)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
fig.suptitle("accuracy: A {:.2f}, B {:.2f}, average {:.2f}; with B matched {:.2f}".format(*found))
fig.supxlabel("blue: ink here raises the unit; red: it lowers it", fontsize="small")
show(
    fig,
    "The weights with which sixteen hidden units read the image, in A, in B, and in B matched to A, the best matches "
    "to the left. Average cosine of a unit of A with the one below it: "
    f"{similarity[0]:.2f} in B's own order, {similarity[1]:.2f} matched.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Reading.** Columns are sorted by how alike A and its match are. To the left most matches look alike. To the right
# some units of A get a pale one of B, which reads almost nothing: they have no counterpart, and matching cannot make
# one.
#
# **Several layers.** The order of one layer decides what the next one reads. So the similarity of a layer depends on
# the orders of both its neighbours: no longer one assignment problem, but a product of unknowns, which is hard. *Git
# Re-Basin* (Ainsworth et al. 2023) takes one layer at a time, the others as they are, until nothing changes. It
# climbs, and may stop at a **local** optimum.
#
# **Another similarity.** One can match what units *compute* on data, instead of weights. Then take the correlation,
# not the plain inner product: a unit that is always large would be similar to all.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## From A to B, step by step

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** What lies between two networks? A and B are now the first pair of the beginning, with two hidden layers
# of 32. The line is $(1-t)\, w_A + t\, w_B$, for $t$ from 0 to 1.
#
# **The barrier** is the largest excess of the loss over the straight line between the losses of its two ends:
# $\max_t\, [L(t) - (1-t) L(0) - t L(1)]$. Half way is only one place: what you find there is at most the barrier.
#
# **Look for**: the two curves, and the units in the middle row.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Measure loss and accuracy along the plain line and the matched one
STOPS = np.linspace(0, 1, 21).round(2)


def along(net, a, b):
    """Test loss and accuracy at each stop of the line from a to b: (S,), (S,)."""
    z = logits(net, [interpolate(a, b, t) for t in STOPS], test_x)
    loss = F.cross_entropy(z.flatten(0, 1), test_y.repeat(len(STOPS)), reduction="none").unflatten(0, z.shape[:2])
    return loss.mean(-1), (z.argmax(-1) == test_y).float().mean(-1)


def height(loss):
    t = torch.tensor(STOPS).float()
    return (loss - (1 - t) * loss[0] - t * loss[-1]).max().item()


A, B = pairs[0]
matched = match_weights(A, B, units(net))
lines = [along(net, A, other) for other in (B, matched)]
barriers = [height(loss) for loss, _ in lines]
print(f"barrier {barriers[0]:.2f} on the plain line, {barriers[1]:.2f} on the matched one")
loud = A["0.weight"].norm(dim=1).topk(6).indices  # six units that read with large weights
reads = torch.stack([state["0.weight"][loud].unflatten(1, (8, 8)) for state in (A, B, matched)])
short, long = (((reads[0] + other) / 2).norm() / reads[0].norm() for other in reads[1:])
print(f"half way, the weights of these units are {short:.2f} as long as in A, matched {long:.2f}")
torch.testing.assert_close(lines[0][0][-1], lines[1][0][-1])  # at the right end, the same function
claim(
    "the plain barrier is more than 2.5 times the matched one; half way, matched units keep more of their length",
    barriers[0] > 2.5 * barriers[1] and short < 0.85 and long > short + 0.05,
    plain=barriers[0],
    matched=barriers[1],
)

# %% slideshow={"slide_type": "-"} tags=["figure:interpolation_widget", "fold"]
# @title Widget: from A to B
Interpolation(STOPS, *(torch.stack(some) for some in zip(*lines, strict=True)), reads)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Reading.** On the plain line the loss rises to a barrier, and half way the units resemble neither end: the mean of
# two vectors that have nothing in common is shorter than both. On the matched line the barrier is far lower. At the
# right end both lines reach B, one function in two orders. It is one pair of one size; the next section has 125
# pairs.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The barrier by depth and width

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Is a permutation all that stands between two networks?
#
# **What is compared** (recorded). MLPs with 1, 2, 3, 5 and 8 hidden layers of 16 to 256 units; five pairs of each,
# 600 steps at one rate, 1e-3. The barrier on test images, over 11 stops, plain and with B matched.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title The record: barriers, plain and matched
HIDDEN, WIDTHS = record["grid"]["hidden"], record["grid"]["width"]


def of_size(hidden, width, what):
    """Of each of five pairs."""
    return np.array([what(e) for e in record["entries"] if (e["hidden"], e["width"]) == (hidden, width)])


def table_of(what):
    """(hidden, width, pairs)"""
    return np.array([[of_size(hidden, width, what) for width in WIDTHS] for hidden in HIDDEN])


height_of = {way: table_of(lambda e, way=way: e[way]["barrier"]) for way in ("plain", "matched")}
fig, axes = plt.subplots(1, 2, figsize=(10, 3.9))
for ax, (way, values) in zip(axes, height_of.items(), strict=True):
    means = values.mean(-1)
    ax.imshow(means, cmap="Blues", vmin=0, vmax=2.4, aspect="auto")
    for i, j in np.ndindex(*means.shape):
        text = (
            f"{means[i, j]:.2f}"
            if way == "plain"
            else f"{means[i, j]:.2f}\n{values[i, j].min():.2f}–{values[i, j].max():.2f}"
        )
        ax.text(j, i, text, ha="center", va="center", fontsize="small", color="w" if means[i, j] > 1.3 else "0.1")
    ax.set(title=way, xlabel="units in each hidden layer", ylabel="hidden layers")
    ax.set_xticks(range(5), WIDTHS)
    ax.set_yticks(range(5), HIDDEN)
fig.suptitle(f"barrier; {record['label']}; right: mean, least–largest of five pairs")
show(
    fig,
    "Barrier of five depths (rows) and five widths (columns). "
    + " ".join(f"{way}, {h} hidden layers: {', '.join(f'{v:.2f}' for v in row)}."
               for way, values in height_of.items() for h, row in zip(HIDDEN, values.mean(-1), strict=True)),
)  # fmt: skip

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: depth and width
plain, same_order = (height_of[way].mean(-1) for way in ("plain", "matched"))
claim(
    "up to 5 layers matching lowers every mean barrier; matched it falls with width and rises with depth",
    (same_order[:4] < plain[:4]).all() and (np.diff(same_order[:4], axis=1) < 0).all()
    and (np.diff(same_order, axis=0) > 0).all(),
)  # fmt: skip
claim(
    "five layers, matched: 1.25 with 16 units, .05 with 256; eight layers of 256: .86, from .23 to 1.51",
    np.allclose(same_order[3, [0, 4]], [1.25, 0.05], atol=0.005)
    and np.allclose(
        [same_order[4, 4], *np.quantile(height_of["matched"][4, 4], [0, 1])], [0.86, 0.23, 1.51], atol=0.005
    ),
    narrow=same_order[3, 0],
    wide=same_order[3, 4],
)
weak = table_of(lambda e: np.mean(e["right"])).mean(-1)
half = table_of(lambda e: [e["plain"]["right"], e["matched"]["right"]]).mean(2)[4, 0]
claim(
    "eight layers of 16 and of 32: matching raises the mean barrier; of 16, accuracy half way .21 in place of .10",
    (same_order[4, :2] > plain[4, :2]).all() and np.allclose(half, [0.105, 0.208], atol=6e-4),
)
claim(
    "eight layers of 16 read .59 alone, of 256 .95", abs(weak[4, 0] - 0.59) < 0.005 and abs(weak[4, 4] - 0.95) < 0.005
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Reading.** Matched, the barrier falls with width and rises with depth: for five layers from 1.25 (16 units) to .05
# (256). So depth does not decide alone, and the permutation *found* is not all. (Up to three layers the plain barrier
# falls with width, too.) (Perhaps a wide layer has more units to choose a counterpart from; the cause was not tested.)
# With eight layers of 256 it is .86, and differs much from pair to pair, .23 to 1.51. Perhaps the matching stopped at a
# poor local optimum there; we have no better one to compare with. Deep narrow networks read little themselves after 600
# steps at this rate (eight layers of 16: .59), so their loss is large at both ends. With eight layers of 16 or 32
# matching *raises* the mean barrier (of 16: 2.02 against 1.38), though more digits are read (.21 against .10). Guessing
# has a loss of ln 10 = 2.30: a plain average that says next to nothing is not much worse, and one that is sure and
# wrong can be (a matched pair has a barrier of 4.03).

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What averaging does to the spread
#
# $$\text{var}\!\left(\tfrac{a + b}{2}\right) = \tfrac{1}{4}\left(\text{std}_a^2 + \text{std}_b^2 + 2\,
# \text{corr} \cdot \text{std}_a\, \text{std}_b\right)$$

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Even a good match is not the same unit. What does that do, layer after layer?
#
# **Idea.** In the first layer both networks read the same $x$. A unit of A computes $a$ before its ReLU, its match in
# B computes $b$, and the averaged unit exactly $(a+b)/2$. Its variance over the data is the formula above. With equal
# spreads (standard deviations) it is $(1 + \text{corr})/2$ of what it was: less, unless the two agree entirely. The
# next layer reads inputs that vary less, and loses again. This is **variance collapse** (Jordan et al. 2023): in a
# deep average all images look alike in the end.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: what is left of the spread ★★☆ 3 min
#
# In every layer, matched units have equal standard deviations and a correlation of 0.4. Suppose that what a layer
# loses multiplies up over eight layers. Which share of the standard deviation is left? (The supposition is rough:
# from the second layer on the inputs differ as well.)

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
left = ...

check("spread", left)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
left_solution = ((1 + 0.4) / 2) ** (8 / 2)  # a variance of 0.7 a layer; the root of it for the spread

check("spread", left_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Measured** (the same record): for each hidden layer, the mean spread of its units in the average, over that in A
# and B. And the formula itself, in the first layer of the pair above.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The formula in the first layer
a, b, h = (x @ state["0.weight"].T + state["0.bias"] for state in (A, matched, average([A, matched])))
corr = ((a - a.mean(0)) * (b - b.mean(0))).mean(0) / (a.std(0, correction=0) * b.std(0, correction=0))
var = (a.var(0) + b.var(0) + 2 * corr * a.std(0) * b.std(0)) / 4
torch.testing.assert_close(var, h.var(0), rtol=1e-3, atol=1e-4)
print(f"first layer of one matched pair: correlation {corr.mean():.2f} in the mean of its units, the formula holds")

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title The record: spread by layer
fig, ax = plt.subplots(figsize=(10, 3.4))
spread_of = {way: of_size(8, 64, lambda e, way=way: e[way]["std"]) for way in ("plain", "matched")}
plots.curves(ax, range(8), spread_of, legend=False)
for way, place in (("plain", 0.1), ("matched", 0.08)):
    ax.text(5, spread_of[way].mean(0)[5] + place, way, ha="center")
ax.axhline(1, color="0.5", lw=1)
ax.text(7, 1.03, "A and B", ha="right", color="0.3", fontsize="small")
ax.set(
    xlabel=f"hidden layer, of eight with 64 units each (bands: five pairs; {record['label']})",
    ylabel="spread of the average\nover A's and B's",
)
ax.set_ylim(0, 1.2)
show(
    fig,
    "Standard deviation of hidden units in the average, over that in A and B, layer by layer. Plain: "
    f"{', '.join(f'{v:.2f}' for v in spread_of['plain'].mean(0))}; matched: "
    f"{', '.join(f'{v:.2f}' for v in spread_of['matched'].mean(0))}.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claim: the spread
end = {way: values.mean(0)[-1] for way, values in spread_of.items()}
claim(
    "after eight layers of 64 the plain average keeps .02 of the spread in the mean of pairs, the matched one .56",
    np.allclose([end["plain"], end["matched"]], [0.02, 0.56], atol=0.005),
    plain=end["plain"],
    matched=end["matched"],
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Reading.** Plain, 2 % of the spread is left after eight layers; matched, 56 %. To multiply the first layer's loss up
# would give 6 % and 25 %: so deeper layers lose at another rate, plain more, matched less (why was not tested). Does
# the lost spread *cost* accuracy? Then giving it back must help.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## REPAIR: give the spread back

# %% [markdown] slideshow={"slide_type": "skip"}
# **Idea.** Run some images through A, B and their average. Where a unit has mean $m_A$ and spread $\text{std}_A$ in
# A, and $m_B$, $\text{std}_B$ in B, it gets the mean $(m_A+m_B)/2$ and the spread $(\text{std}_A + \text{std}_B)/2$:
# a gain for each unit and a shift, put into its weights and bias. Layer by layer, the first one first, since each
# changes what the next one reads. It takes images, no labels, no gradient.
#
# **Code.** `nets` are A, matched B and their average, each a list of (weight, bias) from the input on.


# %% slideshow={"slide_type": "-"}
def repaired(nets, x):
    a, b, h, made = x, x, x, []
    for (WA, cA), (WB, cB), (W, c) in zip(*nets, strict=True):
        a, b, h = a @ WA.T + cA, b @ WB.T + cB, h @ W.T + c  # before the ReLU
        if len(made) < len(nets[0]) - 1:  # the outputs stay as they are
            mean, std = (a.mean(0) + b.mean(0)) / 2, (a.std(0) + b.std(0)) / 2
            gain = std / h.std(0).clamp(min=1e-6)
            W, c = gain[:, None] * W, mean + gain * (c - h.mean(0))
            h = mean + gain * (h - h.mean(0))
            a, b, h = a.relu(), b.relu(), h.relu()
        made.append((W, c))
    return made


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Equal to the record's `repair`; what REPAIR does not change
def layers(state):
    return [(state[key], state[key.replace("weight", "bias")]) for key in state if key.endswith("weight")]


mine = repaired([layers(state) for state in (A, matched, average([A, matched]))], x)
ends = [deep_and_wide.with_state(net, state) for state in (A, matched)]
library = deep_and_wide.repair(deep_and_wide.with_state(net, average([A, matched])), *ends, x)
for (W, c), (weight, bias) in zip(mine, layers(library.state_dict()), strict=True):
    torch.testing.assert_close(W, weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(c, bias, rtol=1e-4, atol=1e-5)


def agreement(p, q):
    """Mean over units of the correlation over images."""
    p, q = ((t - t.mean(0)) / t.std(0).clamp(min=1e-6) for t in (p, q))
    return ((p * q).sum(0) / (len(p) - 1)).mean().item()


before, after = agreement(h, a), agreement(x @ mine[0][0].T + mine[0][1], a)
print(f"first layer: correlation of the averaged units with A's {before:.3f}, after REPAIR {after:.3f}")
claim("REPAIR changes no correlation in the first layer", abs(before - after) < 1e-3, difference=before - after)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### REPAIR, with matching and without

# %% [markdown] slideshow={"slide_type": "skip"}
# **What is compared** (recorded): five hidden layers; the average half way, plain and matched, each as it is and
# repaired with the 1,000 training images. The plain line is the control: REPAIR *without* matching.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Five layers of 256 units, averaged without matching: .23 of the digits. REPAIR sets means and spreads,
# and nothing else. What does it read then?
#
# <details><summary>A. About .25: the units are mixed up, whatever their spread</summary>
#
# **No.** Mixed, yes. But a mixed unit is still half a unit of A, and 256 of them say much (perhaps; not tested).
#
# </details>
#
# <details><summary>B. About .6</summary>
#
# **No.** That is what it does with 64 units.
#
# </details>
#
# <details><summary>C. About .9</summary>
#
# **Yes.** .896, with no unit matched. Matched and repaired: .954. A and B: .964.
#
# </details>

# %% slideshow={"slide_type": "fragment"} tags=["fold", "guess"]
# @title The record: accuracy half way, five hidden layers
halfway = {"A and B": lambda e: np.mean(e["right"])}
for way in ("matched", "plain"):
    halfway |= {f"{way}, REPAIR": lambda e, way=way: e[way]["repaired"], way: lambda e, way=way: e[way]["right"]}
halfway = {name: table_of(what) for name, what in halfway.items()}
fig, ax = plt.subplots(figsize=(10, 4))
plots.curves(ax, WIDTHS, {name: values[3].T for name, values in halfway.items()}, legend=False)
ax.set(
    xscale="log", xlabel="units in each of five hidden layers (bands: five pairs)", ylabel="accuracy", ylim=(0, 1.05)
)
ax.set_xticks(WIDTHS, WIDTHS)
ax.minorticks_off()
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), title=record["label"].replace(", ", ",\n"))
show(
    fig,
    "Accuracy half way for widths 16 to 256, five hidden layers. "
    + " ".join(f"{name}: {', '.join(f'{v:.2f}' for v in values[3].mean(-1))}." for name, values in halfway.items()),
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: REPAIR
at = {name: dict(zip(WIDTHS, values[3].mean(-1), strict=True)) for name, values in halfway.items()}
few = table_of(lambda e: e["matched"]["repaired with 50"])
claim(
    "five layers of 64, matched: .821, repaired .866; of 256, plain: .230, repaired .896; matched, repaired .954",
    np.allclose([at["matched"][64], at["matched, REPAIR"][64]], [0.821, 0.866], atol=6e-4)
    and np.allclose(
        [at["plain"][256], at["plain, REPAIR"][256], at["matched, REPAIR"][256]], [0.230, 0.896, 0.954], atol=6e-4
    ),
)
gain = halfway["matched, REPAIR"].mean(-1) - halfway["matched"].mean(-1)
claim(
    "REPAIR lowers no mean of matched pairs, of 25 sizes", (gain >= -1e-9).all(), least=gain.min(), largest=gain.max()
)
gap = np.abs(few.mean(-1) - halfway["matched, REPAIR"].mean(-1)).max()
claim("50 images in place of 1,000 change no mean by more than .013", gap < 0.013, largest=gap)
rest = at["A and B"][16] - at["matched, REPAIR"][16]
claim("five layers of 16: matched and repaired still .24 below A and B", 0.23 < rest < 0.25, behind=rest)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Reading.** Five layers of 64: .821 matched, .866 with REPAIR. Of 256 units *without* matching: .230, with REPAIR
# .896. So much of what a plain average loses in a wide network is in means and spreads, which need no matching. Narrow
# is different: with 16 units, matched and repaired are still .24 below A and B. REPAIR gives back mean and spread of
# each unit; it does not make an averaged unit agree more with A's: a gain changes no correlation. 50 images serve about
# as well as 1,000. So lost spread is a cause of lost accuracy, and not the only one: with eight layers of 256 all stay
# behind A and B (.948): matched .698, repaired .712, repaired and not matched .730.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Is such a merge worth it?

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** A merge of two strangers takes *two* trainings. What does one get for that?
#
# **What is compared.** Two hidden layers of 128, five pairs, 600 steps a network at one rate, 1e-3. *Same images*: A
# and B learn from all 1,000. *Half each*: from 500 images each, as if they could not be shared. *Other digits*: A
# knows 0 to 4 only, B 5 to 9. Test images have all ten digits. Rivals: A or B alone; an ensemble, two networks at
# test time; one network trained for 600 steps on all images.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** A knows 0 to 4 only, B 5 to 9 only. Which average of the two reads most of the ten digits?
#
# <details><summary>A. Matched and repaired</summary>
#
# **No.** About .6. It is the best one where both know the same.
#
# </details>
#
# <details><summary>B. Repaired, and not matched</summary>
#
# **Yes.** More than .8. Here matching does harm.
#
# </details>
#
# <details><summary>C. None reads more than A alone, about .5</summary>
#
# **No.** All do, even the matched one, .53.
#
# </details>

# %% slideshow={"slide_type": "fragment"} tags=["fold", "guess"]
# @title Train pairs that know the same, or not; merge them
wide = MLP(64, 128, 10, depth=3)
low = y < 5
n = min(int(low.sum()), int((~low).sum()))
known = {
    "same images": [(x, y)] * 2,
    "half each": [(x[:500], y[:500]), (x[500:], y[500:])],
    "other digits": [(x[low][:n], y[low][:n]), (x[~low][:n], y[~low][:n])],
}
WAYS = ["A or B alone", "average", "average, REPAIR", "matched", "matched, REPAIR", "ensemble"]


def with_repair(pair):
    ends = [deep_and_wide.with_state(wide, state) for state in pair]
    return deep_and_wide.repair(deep_and_wide.with_state(wide, average(pair)), *ends, x).state_dict()


reached = {}
for k, (case, (of_a, of_b)) in enumerate(known.items()):
    images, labels = (torch.stack([u, v] * PAIRS) for u, v in zip(of_a, of_b, strict=True))
    starts = new(lambda: MLP(64, 128, 10, depth=3), 2 * PAIRS, run=20 + k)
    both = train(wide, starts, images, labels, steps=600, lr=1e-3, run=20 + k)
    found, some = [both], list(zip(both[::2], both[1::2], strict=True))
    for few in (some, [(A, match_weights(A, B, units(wide))) for A, B in some]):
        found += [[average(pair) for pair in few], [with_repair(pair) for pair in few]]
    answers = torch.stack([logits(wide, list(pair), test_x).softmax(-1).sum(0).argmax(-1) for pair in some])
    scores = [accuracy(wide, states) for states in found] + [(answers == test_y).float().mean(-1)]
    reached[case] = dict(zip(WAYS, scores, strict=True))
print(f"{'':16} " + " ".join(f"{case:>12}" for case in reached))
for way in WAYS:
    print(f"{way:16} " + " ".join(f"{found[way].mean():12.3f}" for found in reached.values()))

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: merging strangers
of = {case: {way: v.mean().item() for way, v in found.items()} for case, found in reached.items()}
claim(
    "same images: matched and repaired not .003 above one parent, in the mean; half each: not .01 above",
    of["same images"]["matched, REPAIR"] < of["same images"]["A or B alone"] + 0.003
    and of["half each"]["matched, REPAIR"] < of["half each"]["A or B alone"] + 0.01,
    same=of["same images"]["matched, REPAIR"] - of["same images"]["A or B alone"],
    half=of["half each"]["matched, REPAIR"] - of["half each"]["A or B alone"],
)
claim(
    "half each: the ensemble is ahead of the merge, and as good as one network on all images within .01",
    of["half each"]["ensemble"] > of["half each"]["matched, REPAIR"]
    and abs(of["half each"]["ensemble"] - of["same images"]["A or B alone"]) < 0.01,
    ensemble=of["half each"]["ensemble"],
    merge=of["half each"]["matched, REPAIR"],
)
other = of["other digits"]
claim(
    "other digits: matching harms, by .02 plain and by .15 with REPAIR; no merge is as good as the ensemble",
    other["matched"] < other["average"] - 0.02
    and other["matched, REPAIR"] < other["average, REPAIR"] - 0.15
    and other["average, REPAIR"] < other["ensemble"],
    not_matched=other["average, REPAIR"],
    matched=other["matched, REPAIR"],
    ensemble=other["ensemble"],
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Reading.** *Same images*: two trainings, matching and REPAIR give a network no better than one parent. Throwing B
# away is half the price. *Half each*: the merge is about as good as a parent; the ensemble, twice the cost at test
# time, is about as good as one network trained on all images. *Other digits*: matching harms (why was not tested), and
# REPAIR without it is .05 below the ensemble. All stay far below one network
# trained on all digits (.97, first column). REPAIR looked at 1,000 images of all digits, without labels: so much is
# shared. If A and B are there already, their training is spent; then the rivals are the better of the two, trained on
# for as long as you can afford, and the ensemble. Not tried: other sizes, training the merge further, one network that
# learns the ensemble's answers on these images.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A soup of fine-tuned networks
#
# Pretrained on clean digits, fine-tuned on noisy ones: eight times.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Forks can be averaged. What is that good for?
#
# **Idea.** Who fine-tunes tries several settings, keeps the network that is best on held-out data, and throws the
# others away. A **soup** (Wortsman et al. 2022) averages them: *uniform*, all of them; *greedy*, from the best one
# down, each that does not lower the held-out accuracy of the soup so far. So the greedy soup is at least as good as
# the best network on the *held-out* data that chose it. On new data nothing is promised.
#
# **What is compared.** An MLP 64-128-128-10, trained on clean digits, fine-tuned on 800 digits with noise. The eight:
# four rates, 3e-4 to 1e-2, times two orders of the images, 150 steps each. To choose by: 457 *other* digits, each
# with ten draws of noise; to report on: 540, ten draws each.
#
# **Code.** One seed, live; `held_out(state)` is the accuracy on the held-out images.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Pretrain, and fine-tune eight times
noisy, soup_net = cook.images(seed), MLP(64, 128, 10, depth=3)
base = cook.learn(None, *noisy["clean"], 200, 3e-3, 100 * seed, size=64)[-1]
eight = [cook.learn(base, *noisy["noisy"], 150, lr, 100 * seed + k)[-1] for lr in cook.RATES for k in (1, 2)]


def held_out(state):
    return accuracy(soup_net, [state], *noisy["held out"]).item()


# %% [markdown] slideshow={"slide_type": "skip"}
# `greedy_soup` returns the soup and the places of its members, in the order in which they joined.

# %% slideshow={"slide_type": "-"}
best = max(eight, key=held_out)
uniform = average(eight)
greedy, members = greedy_soup(eight, held_out)

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Accuracy of this seed
soups = {"best of eight": best, "uniform soup": uniform, "greedy soup": greedy}
for name, state in soups.items():
    print(f"{name:14} held out {held_out(state):.3f}, test {accuracy(soup_net, [state], *noisy['test']).item():.3f}")
print("members of the greedy soup, by place in the list:", members)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claim: the greedy soup
claim(
    "held out, the greedy soup is at least as good as the best of the eight",
    held_out(greedy) >= held_out(best),
    gain=held_out(greedy) - held_out(best),
)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: the greedy soup ★★☆ 5 min
#
# Write `soup_members(alone, score)`. `alone` is a list: the held-out score of each network by itself, larger is
# better. `score(members)` averages the networks in a list of places, such as `[3, 0]`, and scores the average. Return
# the list of members: from the best network down, each joins if the soup is then no worse than the soup before.


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def soup_members(alone, score):
    return ...


check("soup_members", soup_members)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def soup_members_solution(alone, score):
    first, *others = sorted(range(len(alone)), key=lambda i: -alone[i])
    members = [first]
    for i in others:
        if score([*members, i]) >= score(members):
            members.append(i)
    return members


check("soup_members", soup_members_solution)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### The same training, spent on one run

# %% [markdown] slideshow={"slide_type": "skip"}
# A soup costs no more than one network *at test time*. It was trained eight times. **What is compared** (recorded,
# eight seeds), all from the same pretrained start and with 1,200 steps in all: the soups; the ensemble of the eight;
# *one run* of 1,200 steps at the best of six constant rates; the mean of the weights along its second half; a run
# whose rate falls to 0. And a *soup of strangers*: eight networks, each with a start of its own.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** The uniform soup reads .685. One run with the same 1,200 steps, at its best rate?
#
# <details><summary>A. Less by .02 or more: a soup is more than its training</summary>
#
# **No.** That compares the soup with a run of an eighth of its training.
#
# </details>
#
# <details><summary>B. About the same</summary>
#
# **Yes.** .682. The soup is ahead in five of eight seeds.
#
# </details>
#
# <details><summary>C. More by .02 or more: it trains longer</summary>
#
# **No.** It is .005 ahead of the best of the eight, not of the soup.
#
# </details>


# %% slideshow={"slide_type": "fragment"} tags=["fold", "guess"]
# @title The record: eight trainings of 150 steps, or one of 1,200
def of_seeds(key):
    found = [e[key] for e in soup_record["entries"]]
    return np.array([np.mean(v) if isinstance(v, list) else v["right"] if isinstance(v, dict) else v for v in found])


shown = {"the eight, mean": "each", "best of eight": "best of eight", "greedy soup": "greedy soup",
         "uniform soup": "soup of all",
         "ensemble: 8 × at test time": "all vote", "one run": "one run", "mean along one run": "mean along it",
         "one run, falling rate": "falling", "soup of strangers": "soup of strangers"}  # fmt: skip
right = {name: of_seeds(key) for name, key in shown.items()}
fig, ax = plt.subplots(figsize=(10, 3.6))
near = {name: values for name, values in right.items() if name != "soup of strangers"}  # that one is far to the left
for row, values in enumerate(near.values()):
    ax.plot(values, [row] * len(values), "o", color="0.65", ms=5)
    ax.plot(values.mean(), row, "D", color="C0", ms=9)
    ax.text(0.7105, row, f"{values.mean():.3f}", va="center", ha="right")
ax.set_yticks(range(len(near)), near)
ax.invert_yaxis()
ax.set(xlim=(0.638, 0.711), xlabel="accuracy on noisy digits (not from 0)")
ax.set_title(f"{soup_record['label']}; diamond: mean of seeds", fontsize="medium")
show(
    fig,
    "Accuracy on noisy digits, mean of eight seeds: "
    + ", ".join(f"{k} {v.mean():.3f}" for k, v in right.items())
    + ".",
)


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claims: soups
def ahead(one, other):
    difference = right[one] - right[other]
    return difference.mean(), difference.std(ddof=1) / len(difference) ** 0.5, int((difference > 0).sum())


for other in ("best of eight", "greedy soup", "ensemble: 8 × at test time", "one run", "mean along one run"):
    print("uniform soup against {:27} {:+.4f}, standard error {:.4f}, ahead in {} of 8 seeds".format(
        other, *ahead("uniform soup", other)))  # fmt: skip
claim(
    "the uniform soup beats the best of eight by .008 and in 7 of 8 seeds, one run by .003 and in 5",
    abs(ahead("uniform soup", "best of eight")[0] - 0.008) < 5e-4 and ahead("uniform soup", "best of eight")[2] == 7
    and abs(ahead("uniform soup", "one run")[0] - 0.003) < 5e-4 and ahead("uniform soup", "one run")[2] == 5,
)  # fmt: skip
four = [right[name].mean() for name in ("greedy soup", "uniform soup", "ensemble: 8 × at test time")]
claim("both soups and the ensemble are within .002", max(four) - min(four) <= 0.0021, range=max(four) - min(four))
claim("a soup of strangers reads .21", abs(right["soup of strangers"].mean() - 0.21) < 0.005)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Reading.** The soup beats the best of the eight by .008 (7 of 8 seeds), and is about as good as the ensemble, which
# costs eight times as much at test time. But one run with the soup's training is within .003 of it, with a standard
# error of .0015: the difference is not settled. What a soup saves is the *search*: where eight were trained anyway to
# find a rate, their soup was better than the best of them. (The run is the best of six rates, 7,200 steps in all; at
# the rate of the best of the eight, 3e-3, it reads .669, .015 behind the soup. A falling rate is behind by .006.)
# Strangers make no soup. Four of the eight read .02 or more less than the others; to leave them out (greedy) gained
# nothing sure.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Arithmetic with tasks
#
# $$v_i = w_i - w_0 \qquad w = w_0 + \text{scale} \cdot \sum_i v_i$$

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** The soup's members do one task. What if each was fine-tuned for another one?
#
# **Idea.** All start at $w_0$. What a task has changed is its **task vector** $v_i$ (Ilharco et al. 2023). Add all to
# $w_0$, times a scale, and hope for one network that does all tasks. How vectors are combined:
#
# - **sum**, as above. Where two vectors have opposite signs, they cancel.
# - **TIES** (Yadav et al. 2023). *Trim*: keep the entries of largest size, whatever their sign, of each vector, a
#   share called density; the others become 0. *Elect*: the sign of an entry is that of the sum over vectors. *Merge*:
#   the mean of those kept entries that have this sign. The others give it up.
# - **DARE** (Yu et al. 2024). Drop each entry with probability $p$, at random, divide the others by $1-p$; then sum.
#   The mean stays; the variance of an entry $v$ becomes $v^2 p/(1-p)$. Over many small entries that averages out,
#   over few large ones not.
#
# **The tasks** are those of notebook 10: which digit; odd or even; much ink or little; which digit, turned by 180
# degrees; mirrored; white on black (*inverted*). Each has its own head.
#
# **Code.** Two bodies' vectors added by hand, and by the library.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title A body that reads digits, heads for six tasks, and specialists
tasks_net = side.make()
w_0, heads = side.begin(seed)
specialists = side.specialists(heads, seed, rate=1.6e-3)
w_0, w_1, w_2 = (side.body(state) for state in (w_0, *specialists[:2]))
vectors = [task_vector(w_0, side.body(state)) for state in specialists]

# %% [markdown] slideshow={"slide_type": "skip"}
# The **body**, two hidden layers, is what is merged; heads are not. `w_0`, `w_1`, `w_2` are bodies: tensors by name.

# %% slideshow={"slide_type": "-"}
by_hand = {}
for key, start in w_0.items():  # one body that can do both tasks, we hope
    by_hand[key] = start + 0.4 * ((w_1[key] - start) + (w_2[key] - start))

library = apply_task_vectors(w_0, vectors[:2], scale=0.4)
for key in library:
    torch.testing.assert_close(by_hand[key], library[key])

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: elect and merge ★★☆ 5 min
#
# The heart of TIES. Write `elect_and_merge(v)`: trimmed task vectors `(K, n)` in, whose dropped entries are 0, one
# merged vector `(n,)` out. Each entry takes the sign of the *sum* over the K vectors, and the mean of those entries
# that have this sign. Where all K entries are 0, it is 0; no other sum is exactly 0.


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def elect_and_merge(v):
    return ...


check("elect_and_merge", elect_and_merge)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def elect_and_merge_solution(v):
    agrees = v * v.sum(0).sign() > 0  # dropped entries agree with nobody
    return (v * agrees).sum(0) / agrees.sum(0).clamp(min=1)


check("elect_and_merge", elect_and_merge_solution)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title TIES and DARE written out, beside the library's
flat = torch.stack([torch.cat([t.flatten() for t in vector.values()]) for vector in vectors])  # (6, n)
kept = int(0.2 * flat.shape[1])
smallest = flat.abs().topk(kept, dim=1).values[:, -1:]
trimmed = torch.where(flat.abs() >= smallest, flat, 0)
agrees = trimmed * trimmed.sum(0).sign() > 0
by_ties = (trimmed * agrees).sum(0) / agrees.sum(0).clamp(min=1)
library = torch.cat([t.flatten() for t in ties(vectors, density=0.2).values()])
torch.testing.assert_close(by_ties, library, rtol=1e-4, atol=1e-7)

small_one, p = {"entry": torch.full((100_000,), 2.0)}, 0.75
drawn = dare(small_one, drop=p, generator=torch.Generator().manual_seed(seed))["entry"]
print(f"an entry 2, DARE with p = 0.75: mean {drawn.mean():.2f}, variance {drawn.var():.1f} = {4 * p / (1 - p):.1f}?")
claim(
    "DARE keeps the mean of an entry, and its variance is v² p / (1 - p), within 2 %",
    abs(drawn.mean() - 2) < 0.04 and abs(drawn.var() / 12 - 1) < 0.02,
    mean=drawn.mean(),
    variance=drawn.var(),
)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Five tasks, one body

# %% [markdown] slideshow={"slide_type": "skip"}
# **What is compared** (recorded, five seeds; all but *inverted*):
#
# - *heads only*: the body $w_0$ as it was, the heads on it. What merging gives comes on top of that;
# - *specialists*: five bodies, one a task, 100 steps of 64 images each;
# - *sum*, *TIES*, *DARE* of their vectors, each at its best rate of the specialists, scale, and density or $p$,
#   chosen on 257 held-out images of each task;
# - *trained on all*: one body, 100 steps of 64 images of *each* task: as many images as the five specialists
#   together;
# - *257 to learn*: as before, at the same rate, but learning only from the 257 held-out images that a merge takes to
#   choose by.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Heads only: .848; trained on all: .917. Each way at its best: which is ahead?
#
# <details><summary>A. The sum, by .01 or more</summary>
#
# **No.** .879: level.
#
# </details>
#
# <details><summary>B. TIES or DARE, by .01 or more</summary>
#
# **No.** Both .878: no better than the sum here.
#
# </details>
#
# <details><summary>C. They are level, below training on all</summary>
#
# **Yes.** .878 to .879, less than half of the way to .917.
#
# </details>

# %% slideshow={"slide_type": "fragment"} tags=["fold", "guess"]
# @title The record: five tasks in one body
five = list(side.FIVE)


def tested(key):
    """Mean of the five tasks, of each seed."""
    return np.array([np.mean([e[key]["right"][i] for i in five]) for e in task_record["entries"]])


merged = {key: tested(key) for key in
          ("heads only", "sum", "TIES", "DARE", "257 to learn", "trained on all", "specialists")}  # fmt: skip
labels = {
    "257 to learn": "257 to learn, one body",
    "trained on all": "trained on all, one body",
    "specialists": "specialists, five bodies",
}
fig, ax = plt.subplots(figsize=(10, 3.3))
for row, values in enumerate(merged.values()):
    ax.plot(values, [row] * len(values), "o", color="0.65", ms=5)
    ax.plot(values.mean(), row, "D", color="C0", ms=9)
    ax.text(0.9495, row, f"{values.mean():.3f}", va="center", ha="right")
ax.set_yticks(range(len(merged)), [labels.get(key, key) for key in merged])
ax.invert_yaxis()
ax.set(xlim=(0.83, 0.95), xlabel="accuracy, mean of five tasks (not from 0)")
ax.set_title(f"{task_record['label']}; diamond: mean of seeds", fontsize="medium")
show(fig, "Mean accuracy on five tasks: " + ", ".join(f"{k} {v.mean():.3f}" for k, v in merged.items()) + ".")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title What the held-out labels are worth; claims
by_labels = {n: np.mean([e[f"scale from {n}"] for e in task_record["entries"]]) for n in side.LABELS}
print("sum, its scale chosen by n labels of each task:", ", ".join(f"{n}: {v:.3f}" for n, v in by_labels.items()))
scales = {way: [e[way]["scale"] for e in task_record["entries"]] for way in side.SCALES}
print("scales chosen in the five seeds:", scales)
m = {key: values.mean() for key, values in merged.items()}
three = [m[way] for way in side.SCALES]
claim(
    "sum, TIES and DARE, each at its best, are within .002",
    max(three) - min(three) < 0.002,
    range=max(three) - min(three),
)
share = (m["sum"] - m["heads only"]) / (m["trained on all"] - m["heads only"])
claim("the sum goes .46 of the way from heads only to training on all", abs(share - 0.46) < 0.005, share=share)
claim(
    "learning from the 257 images that chose the merge beats every merge by .02, in the mean",
    m["257 to learn"] > max(three) + 0.02,
    ahead=m["257 to learn"] - max(three),
)
claim("a scale from 1 label of each task: .868; from 20: .874; from all 257: .879",
      np.allclose([by_labels[1], by_labels[20], m["sum"]], [0.868, 0.874, 0.879], atol=6e-4))  # fmt: skip

# %% [markdown] slideshow={"slide_type": "notes"}
# **Reading.** At their best the three ways are level: .878 to .879. (One can only see this when each has its own
# scale: TIES takes a mean where the others add, so its scale is the larger.) The sum goes .46 of the way to training
# on all.
#
# **The price.** The specialists took as many images as *trained on all*. To choose the scale took labels: with one
# label of each task .868, with all 257 .879. Learnt from instead, those 257 a task give .900 (at a rate found with the
# 1,000). So where data for all tasks can be had, train. Merging is for when the specialists are there and their data is
# not.
#
# In three seeds *trained on all* took the largest rate of the grid: a larger one might be better still. In one seed
# the merges took the smallest rate and the largest scale.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What a merge costs
#
# | | training | labels to choose by | when used |
# |---|---|---|---|
# | strangers | 2 ×, images for REPAIR | none | 1 × |
# | soup of eight | 8 × 150 steps | greedy: held out | 1 × |
# | ensemble of eight | 8 × 150 steps | none | 8 × |
# | one long run | 1,200 steps | held out, for its rate | 1 × |
# | task vectors | a specialist a task | held out, of each task | 1 × |
# | trained on all | as many batches, data together | held out, for its rate | 1 × |

# %% [markdown] slideshow={"slide_type": "skip"}
# **Before you believe "merging is cheap", ask:** were the parents trained for this? Then count them, and compare with
# one run of that length, with its own rate. Do they lie around? Then compare with the better parent, with the parent
# trained on for as long as the merge is, with the ensemble. Was a member, a scale or a method chosen? Then on which
# data, and was the result reported on other data?
#
# **Which tool first?** One start, one task: a soup. One start, several tasks, their training data gone: task vectors,
# with a few labels for the scale (with none, no scale can be chosen). Something to forget: subtract a vector, and
# measure what else goes. Two starts, one task: an ensemble if you can pay for it at test time; if not, the better
# parent: matched and repaired was no better here. Different shapes: weights cannot be averaged; parts can be stitched,
# as below. Data for everything: train.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## More tasks, fewer tasks · optional

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** How many vectors can one body hold? And can one be taken out?
#
# **What is compared** (recorded, five seeds): the sum of 1 to 6 vectors, the scale chosen held out each time, counted
# on from three of the tasks; the share of the specialists' gain over *heads only*. Then $w_0 - v$ of *mirrored*: does
# it forget that task and no other?

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title The record: more vectors in one body; one taken out
shares = np.array([[gained / possible for gained, possible in e["more"]] for e in task_record["entries"]])
fig, ax = plt.subplots(figsize=(10, 3.3))
plots.curves(ax, range(1, 7), {"sum": 100 * shares}, legend=False)
ax.axhline(0, color="0.5", lw=1)
ax.text(6, 2, "heads only", ha="right", color="0.3", fontsize="small")
ax.set(
    xlabel=f"task vectors in one body (band: five seeds; {task_record['label']})", ylabel="% of the\nspecialists' gain"
)
ax.set(xticks=range(1, 7), ylim=(-12, 125))
show(
    fig,
    "Share of the specialists' gain that one merged body keeps, with 1 to 6 vectors in it: "
    + ", ".join(f"{v:.0%}" for v in shares.mean(0)) + ".",
)  # fmt: skip


def six(key):
    found = [e[key]["right"] if isinstance(e[key], dict) else e[key] for e in task_record["entries"]]
    return np.mean(found, 0)


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The record: mirrored subtracted; claims
lost = six("heads only") - six("less mirrored")
print("mirrored subtracted:", ", ".join(f"{name} loses {v:.3f}" for name, v in zip(side.NAMES, lost, strict=True)))
claim(
    "of two vectors .71 of the gain is left, of six .25; subtracted, mirrored loses .22, the others .02 to .09",
    np.allclose(shares.mean(0)[[1, 5]], [0.71, 0.25], atol=0.006) and abs(lost[4] - 0.22) < 0.005
    and lost[:4].min() > 0.02 and np.delete(lost, 4).max() < 0.09,
    inverted=lost[5],
)  # fmt: skip

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Live: a random change of the same length; how far the vectors are from orthogonal
at_start = side.on_tasks(heads, w_0, "test")
minus = at_start - side.on_tasks(heads, apply_task_vectors(w_0, [vectors[4]], -1.0), "test")
noise = [{key: torch.randn_like(t) for key, t in vectors[4].items()} for _ in range(5)]
noise = [{key: t * vectors[4][key].norm() / t.norm() for key, t in one.items()} for one in noise]
by_chance = torch.stack([at_start - side.on_tasks(heads, apply_task_vectors(w_0, [one], 1.0), "test") for one in noise])
print(f"mirrored subtracted: loses {minus[4]:.3f}; a random change of that length: {by_chance[:, 4].mean():.3f}")
cosines = F.normalize(flat) @ F.normalize(flat).T - torch.eye(6)
print(f"cosine of two task vectors: at most {cosines.abs().max():.2f}")
claim(
    "subtracting mirrored costs it .05 more than a random change of that length; no two vectors have a cosine of .3",
    minus[4] > by_chance[:, 4].mean() + 0.05 and cosines.abs().max() < 0.3,
    subtracted=minus[4],
    random=by_chance[:, 4].mean(),
    cosine=cosines.abs().max(),
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Reading.** With one vector the body *is* the specialist, but for the scale. With more, less is left in the mean: .71
# with two, .25 with six, but not at each step, and seeds differ much. Subtracting *mirrored* takes .22 from it, and .02
# to .09 from the others: not only what was meant. A random change of the same length (live) takes far less from
# *mirrored*: the direction matters. And all this with vectors that are nearly orthogonal: that weights do not overlap
# does not say that functions do not.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Symmetries that a permutation does not cover · optional

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Two networks are one function. Must one be a permutation of the other?
#
# **Idea.** It need not. ReLU$(s\,h) = s\,$ReLU$(h)$ for $s > 0$. Multiply what a unit reads with, and its bias, by
# $s$; divide what it says by $s$: the same function. For each unit there is one such number, and matching sees none
# of them.
#
# **Code.** B is A with each unit scaled by its own number, 1/4 to 4. Then their average; then both are put into one
# form first: each unit reads with weights of length 1, and its scale is moved into what it says.


# %% slideshow={"slide_type": "-"}
def rescaled(state, s):
    """One hidden layer; s (units,), positive."""
    return {
        "0.weight": s[:, None] * state["0.weight"],
        "0.bias": s * state["0.bias"],
        "2.weight": state["2.weight"] / s,
        "2.bias": state["2.bias"],
    }


def balanced(state):
    return rescaled(state, 1 / state["0.weight"].norm(dim=1))


# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title A and its rescaled copy, averaged as they are and balanced
(A,) = train(small, new(lambda: MLP(64, 16, 10), 1, run=5), run=5)
generator = torch.Generator().manual_seed(seed)
s = 4 ** (2 * torch.rand(16, generator=generator) - 1)
B = rescaled(A, s)
torch.testing.assert_close(logits(small, [B], test_x), logits(small, [A], test_x), rtol=1e-3, atol=1e-3)  # one function


def loss_of(state):
    return F.cross_entropy(logits(small, [state], test_x)[0], test_y).item()


both = {"A": A, "average": average([A, B]), "balanced, average": average([balanced(A), balanced(B)])}
both = {name: (loss_of(state), accuracy(small, [state]).item()) for name, state in both.items()}
for name, (loss, found) in both.items():
    print(f"{name:18} loss {loss:.3f}, accuracy {found:.3f}")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Balanced, the average is exact; by how much a unit is too loud
torch.testing.assert_close(both["balanced, average"][0], both["A"][0], rtol=1e-3, atol=1e-3)
factor = (1 + s) * (1 + 1 / s) / 4
seen = average([A, B])
torch.testing.assert_close(seen["0.weight"].norm(dim=1) * seen["2.weight"].norm(dim=0),
                           factor * A["0.weight"].norm(dim=1) * A["2.weight"].norm(dim=0))  # fmt: skip
off = (logits(small, [seen], test_x) - logits(small, [A], test_x)).norm() / logits(small, [A], test_x).norm()
claim("the average of A and its rescaled copy answers otherwise: logits are off by more than .05", off > 0.05, off=off)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Reading.** The averaged unit reads with $(1+s)/2$ times A's weights, and says $(1+1/s)/2$ times A's: too much by
# the product, which is 1 only at $s = 1$. REPAIR on this unit finds nothing wrong: its spread *is* the mean of both,
# as the two agree entirely. The mistake is in what the unit says. Balanced first, the average is exact. (Accuracy and
# loss may change little, and either way: they do not say that the two are no longer one function.)
#
# **Attention has more.** Scores are $q^\top k = (W_q x)^\top (W_k x')$: any invertible $M$ into the one and its
# inverse into the other, $W_q \to M W_q$ and $W_k \to M^{-\top} W_k$, gives the same. So it is with values and
# output. Inside a head, matching has all invertible matrices to search, not only permutations. And tanh has signs to
# flip.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Check: queries and keys under any invertible matrix
W_q, W_k, tokens = torch.randn(3, 8, 8).double()
M = torch.randn(8, 8).double()
scores = (tokens @ W_q.T) @ (tokens @ W_k.T).T
torch.testing.assert_close((tokens @ (M @ W_q).T) @ (tokens @ (torch.linalg.inv(M).T @ W_k).T).T, scores)
print("the same scores, with queries and keys that are no permutation of the old ones")

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: too loud ★★☆ 3 min · optional
#
# B is A, but one unit has $s = 9$. A and B are averaged; the matching was right. By which factor is what this unit
# adds to the next layer too large?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
too_loud = ...

check("scaled_unit", too_loud)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
too_loud_solution = (1 + 9) / 2 * (1 + 1 / 9) / 2

check("scaled_unit", too_loud_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Two transformers · optional
#
# All layers that read or write one residual stream share its order; heads change places as blocks. `units` knows
# that. Two small transformers, a digit as eight tokens (its rows), trained apart, five pairs.


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Match two transformers
class Rows(nn.Module):
    """A digit as eight tokens, one a row of pixels: a transformer of one block."""

    def __init__(self, d_model=32, n_heads=4):
        super().__init__()
        self.embed, self.place = nn.Linear(8, d_model), nn.Parameter(0.1 * torch.randn(8, d_model))
        self.body, self.head = Transformer(d_model, n_heads, n_layers=1), nn.Linear(d_model, 10)

    def forward(self, x):
        return self.head(self.body(self.embed(x.unflatten(-1, (8, 8))) + self.place).mean(-2))


rows = Rows()
layout = units(nn.Sequential(OrderedDict(embed=rows.embed, body=rows.body, head=rows.head)))
layout.axes["place"] = (None, layout.axes["embed.bias"][0])  # positions keep their order, the stream's units do not
found = []
with sdpa_kernel(SDPBackend.MATH):  # attention written out, for vmap
    some = train(rows, new(Rows, 2 * PAIRS, run=30), steps=200, run=30)
    for A, B in zip(some[::2], some[1::2], strict=True):
        found.append(accuracy(rows, [A, average([A, B]), average([A, match_weights(A, B, layout)])]))
own_rows, plain_rows, matched_rows = torch.stack(found).mean(0).tolist()
print(f"a transformer: {own_rows:.2f}, averaged {plain_rows:.2f}, matched and averaged {matched_rows:.2f}")
claim(
    "matched, the average reads more than plain by .1, and less than a transformer by .2",
    plain_rows + 0.1 < matched_rows < own_rows - 0.2,
    plain=plain_rows,
    matched=matched_rows,
    own=own_rows,
)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Reading.** Matching helps, and leaves most of the loss. Width 32, one block and 200 steps: what a wide one would
# do was not tried, nor REPAIR for attention.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Parts of different networks · optional
#
# $$f: \text{image} \to \mathbb{R}^{64} \qquad g: \mathbb{R}^{64} \to \text{digit}$$
#
# The bottom of A, the top of B. Shapes agree. Does $g \circ f$ read digits?

# %% [markdown] slideshow={"slide_type": "skip"}
# Averaging needs equal shapes. To take *parts* needs less: only what goes across the cut must fit. But a shape is a
# weak type (notebook 15): what A writes into its 64 numbers is not what B reads there.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Picture: the bottom of A, a stitch, the top of B
fig, ax = plt.subplots(figsize=(10, 2.0))
for k in range(5):
    for on, height, colour in ((k < 2, 1.3, "C0"), (k >= 2, 0, "C1")):
        if k == 2 and height:
            plots.box(ax, 1.9 * k, height, 1.5, 0.8, "stitch?", colour="C2")
            continue
        plots.box(ax, 1.9 * k, height, 1.5, 0.8, f"block {k}", on=on, colour=colour)
        if k in (0, 2, 3) and on:
            plots.arrow(ax, (1.9 * k + 1.5, height + 0.4), (1.9 * k + 1.9, height + 0.4), colour=colour)
plots.arrow(ax, (3.4, 1.7), (3.8, 1.7))
plots.arrow(ax, (4.55, 1.3), (4.55, 0.8))
for name, height in (("A", 1.7), ("B", 0.4)):
    ax.text(-0.15, height, name, ha="right", va="center")
ax.set(xlim=(-0.4, 9.3), ylim=(-0.1, 2.2))
ax.axis("off")
show(fig, "Two chains of five blocks, A and B. Blocks 0 and 1 of A are f; their numbers go, perhaps through a stitch, "
     "to blocks 2, 3 and 4 of B, which are g.")  # fmt: skip

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Train five pairs with five layers; g after f
DEPTH = 5
net = MLP(64, 64, 10, depth=DEPTH)
some = train(net, new(lambda: MLP(64, 64, 10, depth=DEPTH), 2 * PAIRS, run=13), steps=400, run=13)
untrained = new(lambda: MLP(64, 64, 10, depth=DEPTH), PAIRS, run=14)


def blocks(state):
    """A chain of five blocks: a linear layer each, and a ReLU after all but the last."""
    layers = list(MLP(64, 64, 10, depth=DEPTH))
    nn.Sequential(*layers).load_state_dict(state)
    return [nn.Sequential(*layers[2 * i : 2 * i + 2]).requires_grad_(False) for i in range(DEPTH)]


def reads_digits(*parts):
    return (nn.Sequential(*parts)(test_x).argmax(-1) == test_y).float().mean().item()


a, b = blocks(some[0]), blocks(some[1])
f, g = nn.Sequential(*a[:2]), nn.Sequential(*b[2:])
print(f"one pair: A {reads_digits(*a):.2f}, B {reads_digits(*b):.2f}, g after f {reads_digits(f, g):.2f}")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### A stitch: one affine layer, nothing else learns

# %% [markdown] slideshow={"slide_type": "skip"}
# **Idea.** Put one affine layer between $f$ and $g$; both stay frozen (Lenc and Vedaldi 2015, Bansal et al. 2021). It
# can be trained on the task, or, as here, solved by least squares so that it turns what A says into what B would have
# said.
#
# **Code.** `here` is what A says about 1,000 images, `there` what B says at the same depth.

# %% slideshow={"slide_type": "-"}
here, there = f(x), nn.Sequential(*b[:2])(x)  # (1000, 64): what A says, what B would
h = torch.cat([here, torch.ones(len(x), 1)], 1).double()
W = torch.linalg.lstsq(h, there.double(), driver="gelsd").solution  # (65, 64)
glued = g((h @ W).float())

stitch = Stitch(f, g, 64, 64).solve(here, there)
torch.testing.assert_close(glued, stitch(x), atol=1e-2, rtol=1e-3)
print(f"g after the stitch after f: {reads_digits(stitch):.2f}")

# %% [markdown] slideshow={"slide_type": "skip"}
# **Controls.** A good stitch may owe little to A. In A's place: an *untrained* network's bottom, and nothing at all,
# the 64 *pixels*. Same affine layer, same images, same top.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Stitch at each cut, with A's bottom, a random one, pixels
cuts = list(range(1, DEPTH))
NAMES = ("no stitch", "units matched", "stitch", "stitch, random bottom", "stitch, pixels")
glue = {name: np.empty((PAIRS, DEPTH - 1)) for name in NAMES}
own = np.empty(PAIRS)
for pair in range(PAIRS):
    A, B = some[2 * pair : 2 * pair + 2]
    a, b, b_matched, random = blocks(A), blocks(B), blocks(match_weights(A, B, units(net))), blocks(untrained[pair])
    own[pair] = (reads_digits(*a) + reads_digits(*b)) / 2
    for i, cut in enumerate(cuts):
        glue["no stitch"][pair, i] = reads_digits(*a[:cut], *b[cut:])
        glue["units matched"][pair, i] = reads_digits(*a[:cut], *b_matched[cut:])
        said = nn.Sequential(*b[:cut])(x)
        for name, bottom in zip(NAMES[2:], (a[:cut], random[:cut], [nn.Identity()]), strict=True):
            bottom = nn.Sequential(*bottom)
            stitched = Stitch(bottom, nn.Sequential(*b[cut:]), 64, 64).solve(bottom(x), said)
            glue[name][pair, i] = reads_digits(stitched)
means = {name: values.mean(0) for name, values in glue.items()}
for name, values in means.items():
    print(f"{name:22}", *(f"{value:.2f}" for value in values))
claim(
    "with a stitch within .04 of A and B at each cut; with none, at most .3",
    means["stitch"].min() > own.mean() - 0.04 and means["no stitch"].max() < 0.3,
    own=own.mean(),
    stitch=means["stitch"].min(),
)
claim(
    "random bottom: within .1 of A and B at the first cut, more than .08 below A's stitch at the last",
    means["stitch, random bottom"][0] > own.mean() - 0.1
    and means["stitch, random bottom"][-1] < means["stitch"][-1] - 0.08,
    first=means["stitch, random bottom"][0],
    last=means["stitch, random bottom"][-1],
)
claim(
    "pixels alone, stitched to B's top, read above .85 at each cut",
    means["stitch, pixels"].min() > 0.85,
    first=means["stitch, pixels"][0],
    last=means["stitch, pixels"][-1],
)

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Plot: the stitch and its controls
fig, ax = plt.subplots(figsize=(10, 3.2))
plots.curves(ax, cuts, glue, legend=False)
ax.axhline(own.mean(), color="0.5", lw=1)
ax.text(4, own.mean() + 0.02, "A and B alone", ha="right", color="0.3", fontsize="small")
ax.set(xlabel="blocks below the cut (bands: five pairs)", ylabel="accuracy", xticks=cuts, ylim=(0, 1.1))
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
show(
    fig,
    f"Accuracy against the place of the cut, 1 to 4 blocks below it; A and B alone {own.mean():.2f}. "
    + " ".join(f"{name}: {', '.join(f'{v:.2f}' for v in values)}." for name, values in means.items()),
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Reading.** With a stitch, $g$ after $f$ is about as good as A and B, at each cut. But most of that needs no A:
# pixels, with the same affine layer under B's top, read nearly as much, and so does a random bottom at the first cut.
# What A's training adds is the distance to these controls, not to zero. And what fits after an affine map is not the
# same representation: only as much of it as B's top uses. Digits are easy: on harder images the distance may be
# larger.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Reassembly: does similarity choose the joint?

# %% [markdown] slideshow={"slide_type": "skip"}
# **DeRy**, *Deep Model Reassembly* (Yang et al. 2022): 1. cut many pretrained networks, of different shapes, into
# blocks, so that blocks of one set do about the same and are interchangeable; 2. choose a block of each set under a
# limit of parameters and FLOPs, by a score that needs no training; 3. join them by stitching layers; 4. fine-tune.
#
# **Ours** is one small part of that. `reassemble(a, b, x, cut)` takes two networks and *one* joint: it cuts A where
# you say, finds the place in B that is most like it, by **linear CKA** (1 if one representation is a rotation of the
# other, times a number; Kornblith et al. 2019), and solves for the stitch. No sets, no budget, no search, no
# fine-tuning. That most similar places should be joined is our simplification.
#
# **Look for**: does the similarity say which joint is good?

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title CKA before the stitch, accuracy after it, for all joints
cka, joined = np.empty((2, PAIRS, DEPTH - 1, DEPTH - 1))
for pair in range(PAIRS):
    a, b = blocks(some[2 * pair]), blocks(some[2 * pair + 1])
    for i, j in np.ndindex(DEPTH - 1, DEPTH - 1):
        bottom, head = nn.Sequential(*a[: i + 1]), nn.Sequential(*b[: j + 1])
        cka[pair, i, j] = linear_cka(bottom(x), head(x))
        stitched = Stitch(bottom, nn.Sequential(*b[j + 1 :]), 64, 64).solve(bottom(x), head(x))
        joined[pair, i, j] = reads_digits(stitched)
chosen, left_out = reassemble(a, b, x, cut=1)
print(
    f"the last pair, cut 1, joined where CKA is largest: {left_out} of B left out, accuracy {reads_digits(chosen):.3f}"
)
fig, axes = plt.subplots(1, 2, figsize=(10, 3.3))
panels = ((cka, "linear CKA before the stitch", 0.7), (joined, "accuracy after it", 0.8))
for ax, (values, title, least) in zip(axes, panels, strict=True):
    table = values.mean(0)
    ax.imshow(table, cmap="Blues", vmin=least, vmax=1, aspect="auto")
    for i, j in np.ndindex(*table.shape):
        colour = "w" if table[i, j] > (1 + least) / 2 else "0.1"
        ax.text(j, i, f"{table[i, j]:.2f}", ha="center", va="center", color=colour)
    ax.set(title=title, xlabel="blocks of B left out", ylabel="blocks of A below")
    ax.set_xticks(range(4), cuts)
    ax.set_yticks(range(4), cuts)
show(
    fig,
    f"Two tables over the joints of A and B. Linear CKA goes from {cka.mean(0).min():.2f} to {cka.mean(0).max():.2f}, "
    f"accuracy only from {joined.mean(0).min():.2f} to {joined.mean(0).max():.2f}: all joints are about equally good.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Claim: the joints
claim(
    "every joint is within .05 of A and B, whatever its CKA",
    joined.mean(0).min() > own.mean() - 0.05,
    worst=joined.mean(0).min(),
    own=own.mean(),
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Reading.** Every joint works, so there is nothing to choose: a test that everything passes says nothing about the
# criterion. Even A's first block under B's last one does, three layers in place of five. Before you believe a recipe
# for reassembly, ask what random joints, and the same fine-tuning of one network, would have given.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where merging fails
#
# - **Strangers that know different things.** With different digits, matching did harm.
# - **Deep, narrow networks.** Barriers stay after matching, and REPAIR mends spread, not mixing.
# - **Many tasks.** With six vectors a quarter of the gain is left.
# - **Where the data can be had.** Training on all is ahead at equal batches.
# - **In its accounts.** Parents, search, held-out labels: who paid?

# %% [markdown] slideshow={"slide_type": "skip"}
# Two traps. *Batch normalisation*: averaged running statistics fit no network; run data through, and estimate them
# anew. *Low-rank adapters*: averaging their two factors apart is not the average of their products; concatenate the
# ranks (notebook 10). And all networks here are small, the images 64 pixels.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# - The order of units means nothing: **match**, then average, if both know the same. Here wide was easier, deep harder.
# - Averaging shrinks the **spread**; REPAIR gives it back, from 50 images without labels.
# - **Soup:** one start, one task. Better than the best of its members; not surely better than one run as long, at the
#   best of six rates.
# - **Task vectors:** sum, TIES, DARE, each with its own scale, were level, and below training on all.
# - A **stitch** proves what it adds to pixels and random features.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - J. Frankle, G. K. Dziugaite, D. M. Roy, M. Carbin, *Linear Mode Connectivity and the Lottery Ticket Hypothesis*,
#   ICML 2020: networks that begin together.
# - R. Entezari, H. Sedghi, O. Saukh, B. Neyshabur, *The Role of Permutation Invariance in Linear Mode Connectivity of
#   Neural Networks*, ICLR 2022.
# - S. K. Ainsworth, J. Hayase, S. Srinivasa, *Git Re-Basin: Merging Models modulo Permutation Symmetries*, ICLR 2023.
# - K. Jordan, H. Sedghi, O. Saukh, R. Entezari, B. Neyshabur, *REPAIR: REnormalizing Permuted Activations for
#   Interpolation Repair*, ICLR 2023.
# - M. Wortsman et al., *Model Soups: Averaging Weights of Multiple Fine-tuned Models Improves Accuracy without
#   Increasing Inference Time*, ICML 2022.
# - G. Ilharco et al., *Editing Models with Task Arithmetic*, ICLR 2023.
# - P. Yadav et al., *TIES-Merging: Resolving Interference When Merging Models*, NeurIPS 2023.
# - L. Yu et al., *Language Models are Super Mario: Absorbing Abilities from Homologous Models as a Free Lunch*,
#   ICML 2024: DARE.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Sources on stitching
#
# - K. Lenc, A. Vedaldi, *Understanding Image Representations by Measuring Their Equivariance and Equivalence*, CVPR
#   2015.
# - Y. Bansal, P. Nakkiran, B. Barak, *Revisiting Model Stitching to Compare Neural Representations*, NeurIPS 2021.
# - A. Csiszárik et al., *Similarity and Matching of Neural Network Representations*, NeurIPS 2021: the stitch by
#   least squares.
# - S. Kornblith, M. Norouzi, H. Lee, G. Hinton, *Similarity of Neural Network Representations Revisited*, ICML 2019.
# - X. Yang, D. Zhou, S. Liu, J. Ye, X. Wang, *Deep Model Reassembly*, NeurIPS 2022.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
