# %% [markdown] slideshow={"slide_type": "slide"}
# # Merging and reassembling: new networks out of old ones
#
# **Notebook 12** · *Designing efficient and modular neural networks*
#
# A module can be used again only if it fits somewhere else.
# Can we average two networks? Add what one has learnt to another? Saw them apart, and glue the halves?

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you will be able to do.** Tell when two networks can be averaged, and why most cannot; put the units of one in
# the order of the other's; make a soup of fine-tuned networks that beats the one you would have picked; add and
# subtract tasks; stitch the bottom of one network to the top of another, with the control that keeps you honest. You
# need: linear layers, gradient descent, a norm and a least-squares fit. About 45 minutes with the two exercises.
# Everything below runs on a laptop in about a minute.

# %% slideshow={"slide_type": "skip"}
from collections import OrderedDict

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from scipy.stats import spearmanr
from torch import nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from lecture_lib import plots
from lecture_lib.data import digit_tasks, digits
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
from lecture_lib.notebook import check, setup, show
from lecture_lib.widgets import Interpolation

seed = setup(0)
data = digits()
x, y = data.train_x[:1000].flatten(1), data.train_y[:1000]
held_x, held_y = data.train_x[1000:].flatten(1), data.train_y[1000:]  # to choose by
test_x, test_y = data.test_x.flatten(1), data.test_y  # to report on

# %% [markdown] slideshow={"slide_type": "skip"}
# We need many small networks, and train them side by side: all tensors get a first dimension, one place a network, and
# `vmap` runs them together. Adam works entry by entry, so nobody sees anybody else.

# %% slideshow={"slide_type": "skip"}
def new(make, count, run=0):
    """The states of `count` new networks."""
    torch.manual_seed(1000 * seed + run)
    return [make().state_dict() for _ in range(count)]


def stacked(states):
    return {key: torch.stack([state[key] for state in states]) for key in states[0]}


def logits(net, states, x):
    """(R, N, 10): R networks of the shape of `net`, on x (N, 64), or (R, N, 64) for each its own."""
    with torch.no_grad():
        p = stacked(states)
        return vmap(lambda p, x: functional_call(net, p, (x,)), (0, 0 if x.ndim == 3 else None))(p, x)


def accuracy(net, states, x=test_x, y=test_y):
    return (logits(net, states, x).argmax(-1) == y).float().mean(-1)


def train(net, states, x=x, y=y, *, steps=300, lr=3e-3, run=0, only="", size=64):
    """States after training, each with batches of its own. Only tensors whose names begin with `only` are trained."""
    generator = torch.Generator().manual_seed(1000 * seed + run)
    p = {key: t.requires_grad_(key.startswith(only)) for key, t in stacked(states).items()}
    optimizer = torch.optim.Adam([t for t in p.values() if t.requires_grad], lr=lr)
    loss = vmap(lambda p, x, y: F.cross_entropy(functional_call(net, p, (x,)), y))
    who = torch.arange(len(states))[:, None]
    for _ in range(steps):
        rows = torch.randint(len(y) if y.ndim == 1 else y.shape[1], (len(states), size), generator=generator)
        optimizer.zero_grad()
        loss(p, *((t[rows] if y.ndim == 1 else t[who, rows]) for t in (x, y))).sum().backward()
        optimizer.step()
    return [{key: t[i].detach().clone() for key, t in p.items()} for i in range(len(states))]


# %% [markdown] slideshow={"slide_type": "slide"}
# ## Average two networks
#
# A and B read 95 digits of 100 each. **Predict:** and the mean of all their weights?

# %% slideshow={"slide_type": "skip"}
PAIRS = 5  # of a network A and a network B
net = MLP(64, 32, 10, depth=3)
alone = train(net, new(lambda: MLP(64, 32, 10, depth=3), 2 * PAIRS))
pairs = list(zip(alone[::2], alone[1::2], strict=True))

start = train(net, new(lambda: MLP(64, 32, 10, depth=3), PAIRS, run=1), steps=100, run=1)
forks = list(zip(*(train(net, start, steps=200, run=run) for run in (2, 3)), strict=True))

bars = {}
for name, some in {"each from its own start": pairs, "100 steps together, then 200 apart": forks}.items():
    own = accuracy(net, [state for pair in some for state in pair]).mean().item()
    merged = accuracy(net, [average(pair) for pair in some])
    bars[name] = [own, merged.mean().item()]
    print(f"{name:34}: own {own:.3f}, average {bars[name][1]:.3f} ({merged.min():.3f} to {merged.max():.3f})")
(own, apart), (_, together) = bars.values()
assert own > 0.92 and apart < own - 0.2 and together > own - 0.03

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.4))
plots.bars(ax, ["A and B, each alone", "their average, (A + B) / 2"], bars)
ax.set(ylabel="test accuracy", ylim=(0, 1.45), yticks=[0, 0.5, 1])
show(
    fig,
    f"Accuracy of networks and of their average. Each from its own start: {own:.2f} alone, {apart:.2f} averaged. "
    f"With the first hundred steps in common: the average, {together:.2f}, is as good as each.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Two networks of 64, 32, 32 and 10 units on scikit-learn's digits, with different first weights and different batches.
# All the bars are means over five pairs.
#
# The mean is a wreck. But where the two have *begun together*, and gone their own ways for twice as many steps, it is
# as good as either. So it is not training itself that makes networks strangers to each other. What else?

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The order of units means nothing

# %% slideshow={"slide_type": "-"}
W1, b1, W2 = torch.randn(4, 64), torch.randn(4), torch.randn(10, 4)
order = torch.tensor([2, 0, 3, 1])  # the four hidden units change places
before = F.relu(x @ W1.T + b1) @ W2.T
after = F.relu(x @ W1[order].T + b1[order]) @ W2[:, order].T
torch.testing.assert_close(before, after)  # the same function, other weights

# %% slideshow={"slide_type": "-"} tags=["fold"]
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
# Put the hidden units in another order: rows of the matrix before, entries of the bias, columns of the matrix after.
# The function is the same, to the last digit but rounding. (The four names in the picture are made up.)
#
# Half of A plus half of this B is half an edge plus half a bar: four units that are nothing in particular. Yet A and B
# *are* the same network! With 32 units a layer and two layers there are $(32!)^2 \approx 10^{71}$ ways to write each
# network down. Two that start differently have hardly settled on the same one. Two that start together have.
#
# **Hypothesis** (Entezari et al. 2022): this is all that separates them. If so, then find the order, and the average
# will work.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## By hand: match, then average

# %% slideshow={"slide_type": "skip"}
small = MLP(64, 16, 10)  # one hidden layer
A, B = train(small, new(lambda: MLP(64, 16, 10), 2, run=4), run=4)

# %% slideshow={"slide_type": "-"}
alike = A["0.weight"] @ B["0.weight"].T  # (16, 16): what the units read,
alike += torch.outer(A["0.bias"], B["0.bias"])  # when they wake up,
alike += A["2.weight"].T @ B["2.weight"]  # and what they say
_, order = linear_sum_assignment(alike, maximize=True)  # each unit of A gets one of B

matched = B | {"0.weight": B["0.weight"][order], "0.bias": B["0.bias"][order]}
matched["2.weight"] = B["2.weight"][:, order]

# %% slideshow={"slide_type": "skip"}
library = match_weights(A, B, units(small))
for key in matched:
    torch.testing.assert_close(matched[key], library[key])
torch.testing.assert_close(logits(small, [matched], test_x), logits(small, [B], test_x))
found = accuracy(small, [A, B, average([A, B]), average([A, matched])]).tolist()
print("A {:.2f}, B {:.2f}, average {:.2f}, average with B matched {:.2f}".format(*found))
similarity = [F.cosine_similarity(A["0.weight"], state["0.weight"]).mean().item() for state in (B, matched)]
print(f"cosine of what the units of A and B read: {similarity[0]:.2f}, matched {similarity[1]:.2f}")
assert found[3] > found[2] and similarity[1] > similarity[0] + 0.2

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(3, 16, figsize=(10, 2.4))
best_first = F.cosine_similarity(A["0.weight"], matched["0.weight"]).argsort(descending=True)
for row, (name, state) in zip(axes, {"A": A, "B": B, "B matched": matched}.items(), strict=True):
    for ax, unit in zip(row, best_first, strict=True):
        ax.imshow(state["0.weight"][unit].unflatten(0, (8, 8)), cmap="RdBu", vmin=-0.9, vmax=0.9)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
fig.suptitle("accuracy: A {:.2f}, B {:.2f}, average {:.2f}; with B matched {:.2f}".format(*found))
fig.supxlabel("blue: ink here wakes the unit up; red: it keeps it asleep", fontsize="small")
show(
    fig,
    "The weights with which the sixteen hidden units read the image: in A, in B, and in B matched to A, the best "
    "matches to the left. The units of B in its own order have nothing to do with those of A above them; matched, "
    "many look alike, and those on the right do not.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Each unit of B is compared with each of A: what it reads, its threshold, and what it tells the next layer. Who goes
# with whom, so that the sum is as large as it can be? That is the **assignment problem**, solved exactly in a moment.
# In the picture, the best matches are to the left. Pale units have learnt nothing, and some of A find no counterpart.
#
# With several layers, the order of one decides what the next one reads. *Git Re-Basin* (Ainsworth et al. 2023) takes
# one layer at a time, the others as they are, until nothing moves: `match_weights(A, B, units(net))`, where `units`
# reads from the network which units may change places. It climbs, and it may stop at a local optimum; the best is hard
# to find. The library does residual streams too (one order for all the layers that share it), and attention, where
# heads change places as blocks.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## From A to B, step by step

# %% slideshow={"slide_type": "skip"}
STOPS = np.linspace(0, 1, 21).round(2)


def along(net, a, b, stops=STOPS):
    """Test loss and accuracy at each stop of the line from a to b: (S,), (S,)."""
    z = logits(net, [interpolate(a, b, t) for t in stops], test_x)
    loss = F.cross_entropy(z.flatten(0, 1), test_y.repeat(len(stops)), reduction="none").unflatten(0, z.shape[:2])
    return loss.mean(-1), (z.argmax(-1) == test_y).float().mean(-1)


A, B = pairs[0]
lines = [along(net, A, other) for other in (B, match_weights(A, B, units(net)))]
rise = [(loss.max() - max(loss[0], loss[-1])).item() for loss, _ in lines]
print(f"the loss rises by {rise[0]:.2f} on the plain line, by {rise[1]:.2f} on the matched one")
assert rise[0] > 2.5 * rise[1]
loud = A["0.weight"].norm(dim=1).topk(6).indices  # six units that read with large weights
reads = torch.stack([state["0.weight"][loud].unflatten(1, (8, 8)) for state in (A, B, match_weights(A, B, units(net)))])
short, long = (((reads[0] + other) / 2).norm() / reads[0].norm() for other in reads[1:])
print(f"half way, the plain average of these units has length {short:.2f} of that of A, the matched one {long:.2f}")
assert short < 0.85 and long > short + 0.05
torch.testing.assert_close(lines[0][0][-1], lines[1][0][-1])  # at the right end, the same function

# %% slideshow={"slide_type": "-"} tags=["figure:interpolation_widget", "fold"]
Interpolation(STOPS, *(torch.stack(some) for some in zip(*lines, strict=True)), reads)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Try.** Go from A to B. On the plain line, the loss rises to a barrier, and the units in the middle row are mush: an
# average of two things that have nothing in common is short, and means little. On the matched line, the loss rises far
# less. At the right end both are B, the same function, in two orders.
#
# Look at the units as well: matched, the average is still a picture of *something*. Not all of them: some units of A
# have no counterpart in B. This is what is left of the barrier.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The barrier, by width

# %% slideshow={"slide_type": "skip"}
def barriers(net, pairs):
    """The largest excess of the loss over the straight line between its ends, and what the accuracy lacks half way.

    (2, 2, pairs): each plain and matched.
    """
    t, found = torch.tensor(STOPS[::2]).float(), []
    for a, b in pairs:
        for other in (b, match_weights(a, b, units(net))):
            loss, right = along(net, a, other, STOPS[::2])
            excess = (loss - (1 - t) * loss[0] - t * loss[-1]).max()
            found.append([excess, (right[0] + right[-1]) / 2 - right[len(t) // 2]])
    return np.array(found).reshape(-1, 2, 2).T


widths, found = [8, 16, 32, 64, 128], []
for width in widths:
    net_w = MLP(64, width, 10, depth=3)
    some = alone if width == 32 else train(net_w, new(lambda: MLP(64, width, 10, depth=3), 2 * PAIRS))  # noqa: B023
    found.append(barriers(net_w, list(zip(some[::2], some[1::2], strict=True))))
(plain, matched), (_, lost) = np.stack(found, -1)  # (pairs, widths)
for k, width in enumerate(widths):
    print(f"width {width:3}: barrier {plain[:, k].mean():.2f}, matched {matched[:, k].mean():.3f}", end=", ")
    print(f"and then the average reads {100 * lost[:, k].mean():.1f} of 100 digits fewer")
assert (matched.mean(0) < plain.mean(0)).all() and (np.diff(matched.mean(0)) < 0).all()
assert matched[:, 3:].max() < 0.15 and lost[:, 3:].mean(0).max() < 0.04  # from 64 units on
assert matched[:, -1].max() < 0.12 and matched[:, 0].mean() > 0.2 and lost[:, 0].mean() > 0.08
assert 0.3 < plain[:, -1].mean() < plain[:, 0].mean()

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.6))
plots.curves(ax, widths, {"plain": plain, "matched": matched})
ax.axhline(np.log(10), color="0.4", ls=":", lw=1)
ax.text(widths[-1], np.log(10) + 0.05, "the loss of a blind guess", color="0.3", ha="right", fontsize="small")
ax.set(xscale="log", ylim=(0, 2.75))
ax.set(xlabel="units in each of two hidden layers (bands: five pairs)", ylabel="barrier, in nats")
ax.set_xticks(widths, widths)
ax.minorticks_off()
show(
    fig,
    f"Loss barrier against width, five pairs each. Plain it is {plain[:, 0].mean():.1f} nats with 8 units, "
    f"{plain[:, -1].mean():.1f} with 128; matched {matched[:, 0].mean():.1f} with 8 and almost nothing with 128.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The **barrier** is the largest excess of the loss over the straight line between both ends. Wide networks have many
# units to choose from: for each of A there is something alike in B. From 64 units on, the average of matched networks
# reads about as well as each of them; with 8 units, it does not. (Wide networks also get less hostile without
# matching.)
#
# The claim of the paper, that after matching there is *no* barrier, holds for wide networks. With depth it gets harder:
# each layer's mismatch is the next one's input. Five hidden layers of 32 keep about a third of their barrier, and two
# small transformers do not survive the average (the cells below).

# %% slideshow={"slide_type": "skip"}
deep = MLP(64, 32, 10, depth=6)
some = train(deep, new(lambda: MLP(64, 32, 10, depth=6), 2 * PAIRS))
deep_plain, deep_matched = barriers(deep, list(zip(some[::2], some[1::2], strict=True)))[0].mean(1)
print(f"five hidden layers of 32 instead of two: barrier {deep_plain:.2f}, matched {deep_matched:.2f}")
assert 0.2 < deep_matched / deep_plain < 0.5 and deep_matched > 2 * matched[:, widths.index(32)].mean()

# %% [markdown] slideshow={"slide_type": "skip"}
# Residual streams and attention can be matched as well: all layers that share the stream share its order, and heads
# change places as blocks. Two small transformers, trained apart:

# %% slideshow={"slide_type": "skip"}
class Rows(nn.Module):
    """A digit as eight tokens, one a row of pixels: a transformer of one block."""

    def __init__(self, d_model=32, n_heads=4):
        super().__init__()
        self.embed, self.place = nn.Linear(8, d_model), nn.Parameter(0.1 * torch.randn(8, d_model))
        self.body, self.head = Transformer(d_model, n_heads, n_layers=1), nn.Linear(d_model, 10)

    def forward(self, x):
        return self.head(self.body(self.embed(x.unflatten(-1, (8, 8))) + self.place).mean(-2))


# %% slideshow={"slide_type": "skip"}
rows = Rows()
layout = units(nn.Sequential(OrderedDict(embed=rows.embed, body=rows.body, head=rows.head)))
layout.axes["place"] = (None, layout.axes["embed.bias"][0])  # positions keep their order, the stream's units do not
found = []
with sdpa_kernel(SDPBackend.MATH):  # attention written out, for vmap
    some = train(rows, new(Rows, 2 * PAIRS, run=20), steps=200, run=20)
    for A, B in zip(some[::2], some[1::2], strict=True):
        found.append(accuracy(rows, [A, average([A, B]), average([A, match_weights(A, B, layout)])]))
own_rows, plain_rows, matched_rows = torch.stack(found).mean(0).tolist()
print(f"a transformer: {own_rows:.2f}, averaged {plain_rows:.2f}, matched and averaged {matched_rows:.2f}")
shuffle = {"embed.": torch.randperm(32), "body.blocks.0.mlp.0.": torch.randperm(128)}
again = match_weights(A, permute(A, layout, shuffle), layout)
assert all(torch.equal(again[key], A[key]) for key in A)  # the same network is found again, bit for bit
assert plain_rows < 0.35 and plain_rows + 0.1 < matched_rows < 0.7 and own_rows > 0.92

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A soup of fine-tuned networks
#
# Pretrained on clean digits, tuned to noisy ones. Eight settings: which is best?

# %% slideshow={"slide_type": "skip"}
noise = torch.Generator().manual_seed(seed)


def noisy(images):
    return images + 0.5 * torch.randn(images.shape, generator=noise)


net = MLP(64, 128, 10, depth=3)
base = train(net, new(lambda: MLP(64, 128, 10, depth=3), PAIRS, run=5), steps=200, run=5)
new_x, held_noisy = noisy(x), noisy(held_x)
test_noisy, test_three = noisy(test_x.repeat(3, 1)), test_y.repeat(3)  # each test digit three times
settings = [(lr, run) for lr in (3e-4, 1e-3, 3e-3, 1e-2) for run in (6, 7)]
tuned = [train(net, base, new_x, steps=150, lr=lr, run=run, size=32) for lr, run in settings]
tuned = list(zip(*tuned, strict=True))  # five times eight states that have started together


def score(state):
    return accuracy(net, [state], held_noisy, held_y).item()


# %% slideshow={"slide_type": "-"}
soups = {"the best by held-out data": [max(eight, key=score) for eight in tuned]}
soups["greedy soup"] = [greedy_soup(eight, score).state for eight in tuned]
soups["soup of all eight"] = [average(eight) for eight in tuned]

# %% slideshow={"slide_type": "skip"}
def tested(states):
    return accuracy(net, states, test_noisy, test_three)


each = torch.stack([tested(eight) for eight in tuned])  # (5, 8)
quality = {"pretrained": tested(base), "the eight, mean": each.mean(1)}
quality |= {name: tested(states) for name, states in soups.items()}
together = [logits(net, eight, test_noisy).softmax(-1).mean(0).argmax(-1) for eight in tuned]
quality["all eight vote"] = torch.stack([(said == test_three).float().mean() for said in together])
strangers = train(net, new(lambda: MLP(64, 128, 10, depth=3), 8 * PAIRS, run=8), new_x, steps=150, run=8)
quality["soup of strangers"] = tested([average(strangers[i : i + 8]) for i in range(0, 8 * PAIRS, 8)])
for name, values in quality.items():
    print(f"{name:26} {values.mean():.3f}")
q = {name: values.mean().item() for name, values in quality.items()}
assert q["soup of all eight"] > max(q["the best by held-out data"] + 0.003, q["the eight, mean"] + 0.01)
assert abs(q["soup of all eight"] - q["all eight vote"]) < 0.025
assert abs(q["soup of all eight"] - q["greedy soup"]) < 0.025
assert q["soup of strangers"] < q["the eight, mean"] - 0.15

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 2.9))
drawn = ax.barh(list(q), list(q.values()))
ax.bar_label(drawn, [f"{value:.1%}" for value in q.values()], padding=5)
ax.invert_yaxis()
ax.set(xlim=(0, 0.85), xticks=[], xlabel="accuracy on noisy digits, mean over five starts")
ax.spines["bottom"].set_visible(False)
show(
    fig,
    "Accuracy on noisy digits: " + ", ".join(f"{name} {value:.0%}" for name, value in q.items()) + ". The soup beats "
    "the best single network, and costs the same.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Four learning rates times two orders of the data, five times. The usual way: keep the network that is best on held-out
# data, and throw the other seven away. **Model soups** (Wortsman et al. 2022) average all of them instead.
#
# The soup beats the best, and it is about as good as a vote of all eight, which costs eight times as much to run. All
# began at one pretrained network, so they lie in one basin, around a place that is better than its rim.
#
# The **greedy soup** takes the networks from the best down, and keeps each that does not hurt on held-out data. It
# protects against bad members; here there is none, and it is about as good as the simple mean. And a soup of
# strangers, each from its own start, is no food at all.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Arithmetic with tasks
#
# $$\tau_i = \theta_i - \theta_0 \qquad \theta = \theta_0 + \lambda \sum_i \tau_i$$

# %% slideshow={"slide_type": "skip"}
tasks = digit_tasks()
NAMES = ["class", "parity", "ink", "turned", "mirrored", "inverted"]
BODY, HEAD, RUNS = ("0.", "2."), "4.", 5
net = MLP(64, 192, 10, depth=3)


def of_tasks(part, rows=slice(None)):
    """All tasks' images (6·RUNS, N, 64) and labels (6·RUNS, N), task by task for each run."""
    images, labels = (torch.stack([getattr(tasks[name], f"{part}_{k}")[rows] for name in NAMES]) for k in "xy")
    return images.flatten(2).repeat(RUNS, 1, 1), labels.repeat(RUNS, 1)


learn, choose, report = of_tasks("train", slice(1000)), of_tasks("train", slice(1000, None)), of_tasks("test")
base = train(net, new(lambda: MLP(64, 192, 10, depth=3), RUNS, run=9), steps=200, run=9)  # reads digits
heads = train(net, [state for state in base for _ in NAMES], *learn, steps=150, lr=1e-2, run=10, only=HEAD)
tuned = train(net, heads, *learn, steps=100, lr=4e-4, run=11, only=BODY)  # a specialist for each task


def body(state):
    return {key: t for key, t in state.items() if key.startswith(BODY)}


def on_tasks(bodies, data=report):
    """Accuracy (RUNS, 6) of one body a run with each task's own head."""
    whole = [heads[6 * run + i] | bodies[run] for run in range(RUNS) for i in range(6)]
    return accuracy(net, whole, *data).unflatten(0, (RUNS, 6))


vectors = [[task_vector(body(base[run]), body(tuned[6 * run + i])) for i in range(6)] for run in range(RUNS)]

# %% slideshow={"slide_type": "-"}
theta_0, theta_1, theta_2 = body(base[0]), body(tuned[0]), body(tuned[1])
by_hand = {}
for key, start in theta_0.items():  # one body that can do both tasks, we hope
    by_hand[key] = start + 0.4 * ((theta_1[key] - start) + (theta_2[key] - start))

library = apply_task_vectors(theta_0, vectors[0][:2], scale=0.4)
for key in library:
    torch.testing.assert_close(by_hand[key], library[key])

# %% [markdown] slideshow={"slide_type": "notes"}
# The tasks of notebook 10: which digit; odd or even; much ink or little; which digit, turned by 180 degrees; mirrored;
# white on black. All start at one network $\theta_0$ that reads digits. Each task gets a head of its own, trained on
# the untouched body and then frozen, and fine-tunes the body. What it has changed is its **task vector** (Ilharco et
# al. 2023). Add them all, and hope for a body that serves all heads: no data, no training, two lines.
#
# How the vectors are combined is an art of its own. **TIES** (Yadav et al. 2023): keep each vector's largest entries,
# elect a sign for each weight, average those who agree. **DARE** (Yu et al. 2024): drop a share of the entries at
# random and rescale the rest, so that vectors collide less.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Five tasks, one body, no training

# %% slideshow={"slide_type": "skip"}
dice = torch.Generator().manual_seed(seed)
SCALES = {"sum": [0.2, 0.4, 0.6, 0.8, 1.0], "TIES": [0.5, 1.0, 1.5, 2.0, 2.5], "DARE": [0.2, 0.4, 0.6, 0.8, 1.0]}


def merged(way, scale, run, members):
    """One body of the task vectors of some tasks of a run."""
    some = [vectors[run][i] for i in members]
    if way == "TIES":
        some = [ties(some, density=0.5)]
    elif way == "DARE":
        some = [dare(vector, drop=0.5, generator=dice) for vector in some]
    return apply_task_vectors(body(base[run]), some, scale)


def merge_all(members):
    """Mean accuracy over `members` and runs of each way at each scale, and at the scale chosen on held-out data."""
    curves, best = {}, {}
    for way, scales in SCALES.items():
        bodies = {scale: [merged(way, scale, run, members) for run in range(RUNS)] for scale in scales}
        curves[way] = [on_tasks(bodies[scale])[:, members].mean(1) for scale in scales]
        chosen = max(scales, key=lambda scale: on_tasks(bodies[scale], choose)[:, members].mean())
        best[way] = (chosen, on_tasks(bodies[chosen]))
    return curves, best


five = [0, 1, 2, 3, 4]  # all but white on black
curves, best = merge_all(five)
start = on_tasks([body(state) for state in base])
single = accuracy(net, tuned, *report).unflatten(0, (RUNS, 6))

# %% slideshow={"slide_type": "skip"}
def multi_task(members, steps=100):
    """One body a run, trained on all the tasks of `members` at once, each with its frozen head, as long as tuned."""
    p = {key: t.requires_grad_() for key, t in stacked([body(state) for state in base]).items()}
    rows_of = torch.tensor([6 * run + i for run in range(RUNS) for i in members])
    fixed = {key: t[rows_of] for key, t in stacked(heads).items() if key.startswith(HEAD)}
    optimizer, (images, labels) = torch.optim.Adam(p.values(), lr=4e-4), (t[rows_of] for t in learn)
    generator = torch.Generator().manual_seed(1000 * seed + 12)
    loss = vmap(lambda p, x, y: F.cross_entropy(functional_call(net, p, (x,)), y))
    for _ in range(steps):
        rows = torch.randint(1000, (len(rows_of), 64), generator=generator)
        everywhere = {key: t.repeat_interleave(len(members), 0) for key, t in p.items()} | fixed
        who = torch.arange(len(rows_of))[:, None]
        optimizer.zero_grad()
        loss(everywhere, images[who, rows], labels[who, rows]).sum().backward()
        optimizer.step()
    return [{key: t[run].detach() for key, t in p.items()} for run in range(RUNS)]


multi = on_tasks(multi_task(five))
means = {"only heads": start, "specialists": single, "trained on all": multi}
means |= {f"{way}, scale {scale}": result for way, (scale, result) in best.items()}
means = {name: result[:, five].mean().item() for name, result in means.items()}
for name, value in means.items():
    print(f"{name:16} {value:.3f}")

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.7))
for k, (way, some) in enumerate(curves.items()):
    heights = np.array([values.mean().item() for values in some])
    ax.plot(SCALES[way], heights, label=way, color=f"C{k}", ls=["-", "--", ":"][k], marker="os^"[k], lw=2.2)
for name, side in (("only heads", "right"), ("specialists", "left"), ("trained on all", "right")):
    ax.axhline(means[name], color="0.5", lw=1, ls="-" if side == "right" else (0, (4, 4)))
    place = 2.55 if side == "right" else 0.15
    ax.text(place, means[name] + 0.0015, name, ha=side, color="0.3", fontsize="small")
ax.set(xlabel="scale λ", ylabel="accuracy, mean of 5 tasks\n(not from 0)", xlim=(0.1, 2.6))
ax.set_ylim(means["only heads"] - 0.01, means["specialists"] + 0.01)
ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0.73), ncols=3)
show(
    fig,
    f"Mean accuracy of one merged body on five tasks against the scale. Heads alone {means['only heads']:.3f}, "
    f"specialists {means['specialists']:.3f}, trained on all {means['trained on all']:.3f}. Merged bodies lie between.",
)

# %% slideshow={"slide_type": "skip"}
reached = {way: result[:, five].mean().item() for way, (_, result) in best.items()}
gap = means["trained on all"] - means["only heads"]
for way, value in reached.items():
    print(f"{way:5}: {(value - means['only heads']) / gap:.0%} of the way from heads alone to training on all")
assert all(0.25 < (value - means["only heads"]) / gap < 0.9 for value in reached.values())
assert max(reached.values()) - min(reached.values()) < 0.25 * gap and best["TIES"][0] > best["sum"][0]
assert all(some[-1].mean() < max(values.mean() for values in some) - 0.005 for some in curves.values())  # too large
assert abs(means["trained on all"] - means["specialists"]) < 0.025

# %% slideshow={"slide_type": "skip"}
mirrored = NAMES.index("mirrored")
forgotten = (start - on_tasks([merged("sum", -1.0, run, [mirrored]) for run in range(RUNS)])).mean(0).tolist()
print("subtract mirrored:", ", ".join(f"{name} loses {v:.1%}" for name, v in zip(NAMES, forgotten, strict=True)))
others = (sum(forgotten) - forgotten[mirrored]) / 5
print(f"the others: {others:.1%} on average")
assert forgotten[mirrored] > 0.08 and others < 0.04

# %% [markdown] slideshow={"slide_type": "notes"}
# Two controls frame the picture. *Only heads*: the body of $\theta_0$ untouched. It is the honest zero: what merging
# gives must come on top of it. *Trained on all*: all the tasks at once, each for as many batches as its specialist had.
# It is about as good as the five specialists, so one body *can* do all five. (White on black is left out: it is the
# hardest to merge. The next slide has all six.)
#
# Merging covers a good part of that way, without a single step of training. The scale matters, and is chosen on
# held-out data; too large, and the sum runs into land that nobody has seen. Between the three recipes the differences
# are small here, and which one is ahead changes with the seed. Note that the best scale for TIES is larger than for
# sums: it takes a mean where they add.
#
# A vector can be **subtracted** as well. With λ = -1 the body forgets: of mirrored digits it reads about 17 in a
# hundred fewer, in the other tasks about 2.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The more tasks, the less of each

# %% slideshow={"slide_type": "skip"}
shares = torch.empty(RUNS, 6)  # of what the specialists gain over heads alone, what one body has
for count in range(1, 7):
    gained, possible = torch.zeros(2, RUNS)
    for first in (0, 2, 4):
        members = [(first + i) % 6 for i in range(count)]
        ways = [[merged("sum", scale, run, members) for run in range(RUNS)] for scale in SCALES["sum"]]
        way = max(ways, key=lambda bodies: on_tasks(bodies, choose)[:, members].mean())
        gained += (on_tasks(way) - start)[:, members].mean(1)
        possible += (single - start)[:, members].mean(1)
    shares[:, count - 1] = gained / possible
print("tasks merged, share of the gain:", {k + 1: f"{v:.0%}" for k, v in enumerate(shares.mean(0).tolist())})
assert 0.85 < shares[:, 0].mean() < 1.15 and shares[:, -1].mean() < shares[:, 1].mean() - 0.1 < 0.85
assert shares[:, -1].mean() < 0.65
gained = dict(zip(NAMES, (on_tasks(way) - start).mean(0).tolist(), strict=True))  # the body of all six
print("all six in one body:", ", ".join(f"{name} {value:+.1%}" for name, value in gained.items()))
assert min(gained, key=gained.get) == "inverted" and gained["inverted"] < 0
flat = [torch.stack([torch.cat([t.flatten() for t in v.values()]) for v in some]) for some in vectors]
cosines = torch.stack([F.normalize(some) @ F.normalize(some).T for some in flat]).mean(0)
print(f"cosines of two task vectors: up to {cosines[~torch.eye(6, dtype=torch.bool)].abs().max():.2f}")
assert cosines[~torch.eye(6, dtype=torch.bool)].abs().max() < 0.2

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.5))
plots.curves(ax, range(1, 7), {"sum": 100 * shares.numpy()}, legend=False)
ax.axhline(0, color="0.5", lw=1)
ax.text(6, 2, "only heads", ha="right", color="0.3", fontsize="small")
ax.set(xlabel="task vectors in one body (band: five runs)", ylabel="% of the specialists' gain")
ax.set(xticks=range(1, 7), ylim=(-5, 112))
show(
    fig,
    "The share of the specialists' gain that one merged body keeps, against the number of tasks in it: all of it with "
    f"one, {shares[:, 1].mean():.0%} with two, {shares[:, -1].mean():.0%} with six.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# One task vector, with λ = 1, *is* the specialist. With each further one, everybody keeps less; of all six, white on
# black keeps nothing, and is read a little worse than with heads alone. And yet the vectors are almost orthogonal: the
# cosine of two of them is hardly more than 0.1. Orthogonal weights are not independent functions: they pass through the
# same ReLUs, which know nothing of tasks.
#
# A mixture (notebooks 08 and 10) keeps the parts apart, and chooses for each input; merging pays for one network only,
# and must do everything with it. That is the trade.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Networks as types
#
# $$f: \text{image} \to \mathbb{R}^{64} \qquad g: \mathbb{R}^{64} \to \text{digit}$$
#
# The bottom of A, the top of B. The types agree. **Predict:** does $g \circ f$ read digits?

# %% slideshow={"slide_type": "skip"}
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


# %% slideshow={"slide_type": "-"}
a, b = blocks(some[0]), blocks(some[1])
f, g = nn.Sequential(*a[:2]), nn.Sequential(*b[2:])
print(f"A {reads_digits(*a):.2f}, B {reads_digits(*b):.2f}")
print(f"g after f {reads_digits(f, g):.2f}")

# %% slideshow={"slide_type": "-"} tags=["fold"]
def halves(between):
    """The bottom of A and the top of B, and what is between them."""
    fig, ax = plt.subplots(figsize=(10, 1.4))
    for k in range(DEPTH):
        for on, height, colour in ((k < 2, 1.3, "C0"), (k >= 2, 0, "C1")):
            if not (between and k == 2 and height):  # there stands the stitch
                plots.box(ax, 1.9 * k, height, 1.5, 0.8, f"block {k + 1}", on=on, colour=colour)
            if k < DEPTH - 1 and k != 1 and not (between and k == 2 and height):
                start, end = (1.9 * k + 1.5, height + 0.4), (1.9 * k + 1.9, height + 0.4)
                plots.arrow(ax, start, end, colour=colour if on else "0.8")
    if between:
        plots.box(ax, 3.8, 1.3, 1.5, 0.8, between, colour="C2")
        plots.arrow(ax, (3.4, 1.7), (3.8, 1.7))
        plots.arrow(ax, (4.55, 1.3), (4.55, 0.8))
    else:
        plots.arrow(ax, (2.65, 1.3), (3.8, 0.5))
    ax.text(-0.15, 1.7, "A", ha="right", va="center")
    ax.text(-0.15, 0.4, "B", ha="right", va="center")
    ax.set(xlim=(-0.4, 9.3), ylim=(-0.1, 2.2))
    ax.axis("off")
    return fig


alt = "Two chains of five blocks, A and B. The first two of A are f; their 64 numbers go to the last three of B, g"
show(halves(""), f"{alt}.")

# %% [markdown] slideshow={"slide_type": "notes"}
# Olah's essay *Neural Networks, Types, and Functional Programming* (2015) reads a network as functions that compose: a
# fold is a network that encodes a sequence, a map with a window is a convolution. He calls it speculative; so do we.
# But it asks the right question. A *shape* is a weak type. What A says in its 64 numbers, B has never learnt to hear.
#
# So the type of a module is not ℝ⁶⁴ but "ℝ⁶⁴ *as written by A*". Two types can be the same up to something simple: a
# permutation (we have that already), or an affine map. Modules are reusable when the map between their types is known,
# or when training has forced everybody to write the same.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## A stitch: one affine layer, nothing else learns

# %% slideshow={"slide_type": "-"}
here, there = f(x), nn.Sequential(*b[:2])(x)  # (1000, 64): what A says, what B would
h = torch.cat([here, torch.ones(len(x), 1)], 1).double()
W = torch.linalg.lstsq(h, there.double(), driver="gelsd").solution  # (65, 64)
glued = g((h @ W).float())

stitch = Stitch(f, g, 64, 64).solve(here, there)
torch.testing.assert_close(glued, stitch(x), atol=1e-2, rtol=1e-3)
print(f"g after the stitch after f: {reads_digits(stitch):.2f}")

# %% slideshow={"slide_type": "skip"}
assert reads_digits(stitch) > (reads_digits(*a) + reads_digits(*b)) / 2 - 0.04

# %% slideshow={"slide_type": "-"} tags=["fold"]
show(halves("stitch"), f"{alt}, through a stitch.")

# %% [markdown] slideshow={"slide_type": "notes"}
# Is there an affine map from what A says to what B would have said? Least squares finds it on a thousand images, with
# nothing trained in either network. With it, g after f is as good as A and B. Bottom and top stay **frozen**: all that
# is new is one matrix. `Stitch` can also be trained by the task's loss; then it asks for less, for a map that
# serves B's top, not for B's own words.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The control: a bottom that learnt nothing

# %% slideshow={"slide_type": "skip"}
cuts = list(range(1, DEPTH))
glue = {name: np.empty((PAIRS, DEPTH - 1)) for name in ("nothing", "units matched", "stitch", "stitch, random bottom")}
own, similar = np.empty(PAIRS), np.empty((2, PAIRS, DEPTH - 1))
for pair in range(PAIRS):
    A, B = some[2 * pair : 2 * pair + 2]
    a, b, b_matched, random = blocks(A), blocks(B), blocks(match_weights(A, B, units(net))), blocks(untrained[pair])
    own[pair] = (reads_digits(*a) + reads_digits(*b)) / 2
    for i, cut in enumerate(cuts):
        glue["nothing"][pair, i] = reads_digits(*a[:cut], *b[cut:])
        glue["units matched"][pair, i] = reads_digits(*a[:cut], *b_matched[cut:])
        said = nn.Sequential(*b[:cut])(x)
        for k, (name, bottom) in enumerate({"stitch": a, "stitch, random bottom": random}.items()):
            h = nn.Sequential(*bottom[:cut])(x)
            stitched = Stitch(nn.Sequential(*bottom[:cut]), nn.Sequential(*b[cut:]), 64, 64).solve(h, said)
            glue[name][pair, i], similar[k, pair, i] = reads_digits(stitched), linear_cka(h, said)
for name, values in glue.items():
    print(f"{name:22}", *(f"{value:.2f}" for value in values.mean(0)))
means = {name: values.mean(0) for name, values in glue.items()}
assert means["nothing"].max() < 0.3 and means["units matched"].min() > 0.5
assert means["stitch"].min() > own.mean() - 0.04
control = means["stitch, random bottom"]
assert control[0] > own.mean() - 0.1 and control[-1] < means["stitch"][-1] - 0.08

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.9))
plots.curves(ax, cuts, glue, legend=False)
for name, place in {"nothing": 0, "units matched": -0.05, "stitch": 0.04, "stitch, random bottom": 0.05}.items():
    ax.text(4.06, means[name][-1] + place, name, va="center", fontsize="small")
ax.axhline(own.mean(), color="0.5", lw=1)
ax.text(2.5, own.mean() + 0.04, "A and B, each alone", color="0.3", fontsize="small", ha="center")
ax.set(xlabel="blocks of A below the cut (bands: five pairs)", ylabel="accuracy")
ax.set(xticks=cuts, xlim=(0.9, 4.9), ylim=(0, 1.1))
show(
    fig,
    "Accuracy of the bottom of A under the top of B against the place of the cut. With nothing between, chance; with "
    f"units matched about {means['units matched'].mean():.1f}; with a stitch as good as the networks. A random "
    f"bottom is nearly as good at the first cut, {control[0]:.2f}, and clearly worse at the last, {control[-1]:.2f}.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# With nothing between, g after f guesses, at every cut. Matched by a mere permutation, it reads most digits. With an
# affine map, it is as good as A and B, wherever we cut. Stitching (Lenc and Vedaldi 2015; Bansal et al. 2021) says:
# both have learnt the same, in other words.
#
# **The control.** Put an *untrained* bottom there. It stitches nearly as well at the first cut! On digits, random
# features keep what matters, and the affine map with B's top is a classifier on top of them. Only deeper down does the
# difference show, where random layers have lost what a trained one keeps. A good stitch alone proves little: report it
# beside that of a random bottom.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Reassembly: does similarity choose the joint?

# %% slideshow={"slide_type": "skip"}
cka, joined = np.empty((2, PAIRS, DEPTH - 1, DEPTH - 1))
for pair in range(PAIRS):
    a, b = blocks(some[2 * pair]), blocks(some[2 * pair + 1])
    for i, j in np.ndindex(DEPTH - 1, DEPTH - 1):
        bottom, head = nn.Sequential(*a[: i + 1]), nn.Sequential(*b[: j + 1])
        cka[pair, i, j] = linear_cka(bottom(x), head(x))
        stitched = Stitch(bottom, nn.Sequential(*b[j + 1 :]), 64, 64).solve(bottom(x), head(x))
        joined[pair, i, j] = reads_digits(stitched)
rank = np.mean([spearmanr(c.ravel(), q.ravel()).statistic for c, q in zip(cka, joined, strict=True)])
chosen, left_out = reassemble(a, b, x, cut=1)
print(f"cut 1, joined where CKA is largest: {left_out} of B left out, accuracy {reads_digits(chosen):.3f}")
print(f"A and B {own.mean():.3f}; joints from {joined.mean(0).min():.3f} to {joined.mean(0).max():.3f}")
print(f"block 1 of A, then B's last: {joined[:, 0, -1].mean():.3f} with 3 layers for 5")
print(f"rank correlation of CKA and accuracy over the joints of a pair: {rank:.2f}")
print(f"CKA with B's same layer: trained {similar[0].mean():.2f}, random {similar[1].mean():.2f}")
assert abs(rank) < 0.6 and joined.mean(0).min() > own.mean() - 0.05
assert similar[0].mean() > similar[1].mean() + 0.15

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(10, 3.9))
panels = ((cka, "linear CKA before the stitch", 0.7), (joined, "accuracy after it", 0.8))
for ax, (values, title, low) in zip(axes, panels, strict=True):
    table = values.mean(0)
    ax.imshow(table, cmap="Blues", vmin=low, vmax=1, aspect="auto")
    for i, j in np.ndindex(*table.shape):
        colour = "w" if table[i, j] > (1 + low) / 2 else "0.1"
        ax.text(j, i, f"{table[i, j]:.2f}", ha="center", va="center", color=colour)
    ax.set(title=title, xlabel="blocks of B left out", ylabel="blocks of A below")
    ax.set_xticks(range(4), cuts)
    ax.set_yticks(range(4), cuts)
show(
    fig,
    f"Two tables over the joints of A and B. Linear CKA goes from {cka.mean(0).min():.2f} to {cka.mean(0).max():.2f}, "
    f"accuracy only from {joined.mean(0).min():.2f} to {joined.mean(0).max():.2f}: all joints are about equally good.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Reassembly takes blocks from a shelf of trained networks, and joins those that are alike (*Deep Model Reassembly*,
# Yang et al. 2022, for large vision models). A common measure is **linear CKA** (Kornblith et al. 2019): 1 if one
# representation is a rotation of the other. `reassemble` cuts A, finds the place in B that is most like it, and
# solves for the stitch. Nothing is trained.
#
# Does the similarity choose well? Every joint works, so there is nothing to choose! CKA does know a trained layer from
# a random one. But over the joints, its rank correlation with the accuracy is weak, of either sign from run to run.
# Even the first block of A with the last of B does: three layers in place of five, and hardly worse. Digits do not need
# the depth, and a test that everything passes tells nothing. Before you believe in a recipe for reassembly, ask what a
# random choice of joints would have given.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where merging fails
#
# - **Strangers do not average.** Matching cures it for wide, shallow networks only.
# - **Merging is not training.** It covers a part of the way; more tasks, less of each.
# - **It needs a common start.** A soup of strangers is noise.
# - **A stitch proves little** without the random bottom beside it.
# - **Similarity does not tell** which joint to take, where all of them work.

# %% [markdown] slideshow={"slide_type": "notes"}
# More that did not fit here. Batch normalisation: its running statistics belong to no average; run some data through,
# and estimate them anew. Low-rank adapters: averaging the factors A and B separately is *not* the average of the
# products; concatenate the ranks instead. And two transformers of width 32, matched and averaged, read about half of
# the digits: better than about a fifth without matching, far from the 95 % of each.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercises
#
# ### Exercise 1: elect and merge (★★☆, 10 min)
#
# The heart of TIES. Write `elect_and_merge(tau)`: trimmed task vectors `(K, n)` in, whose dropped entries are 0, one
# merged vector `(n,)` out. Each entry takes the sign of the *sum* over the K vectors, and the mean of those entries
# that have this sign. Where all K entries are 0, it is 0; no other sum is exactly 0.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def elect_and_merge(tau):
    return ...


check("elect_and_merge", elect_and_merge)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def elect_and_merge_solution(tau):
    agrees = tau * tau.sum(0).sign() > 0  # dropped entries agree with nobody
    return (tau * agrees).sum(0) / agrees.sum(0).clamp(min=1)


check("elect_and_merge", elect_and_merge_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise 2: the greedy soup (★★☆, 10 min)
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

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# - The order of units means nothing: **match** before you average.
# - **Soup:** what began together can be averaged. Better than the best, for the price of one.
# - **Task vectors** add up to a part of multi-task training, for no training at all.
# - **Shapes are weak types.** One affine stitch makes two networks fit; ask what a random bottom does.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - M. Wortsman et al., *Model Soups: Averaging Weights of Multiple Fine-tuned Models Improves Accuracy without
#   Increasing Inference Time*, ICML 2022.
# - J. Frankle, G. K. Dziugaite, D. M. Roy, M. Carbin, *Linear Mode Connectivity and the Lottery Ticket Hypothesis*,
#   ICML 2020: networks that begin together.
# - R. Entezari, H. Sedghi, O. Saukh, B. Neyshabur, *The Role of Permutation Invariance in Linear Mode Connectivity of
#   Neural Networks*, ICLR 2022.
# - S. K. Ainsworth, J. Hayase, S. Srinivasa, *Git Re-Basin: Merging Models modulo Permutation Symmetries*, ICLR 2023.
# - G. Ilharco et al., *Editing Models with Task Arithmetic*, ICLR 2023.
# - P. Yadav et al., *TIES-Merging: Resolving Interference When Merging Models*, NeurIPS 2023.
# - L. Yu et al., *Language Models are Super Mario: Absorbing Abilities from Homologous Models as a Free Lunch*,
#   ICML 2024: DARE.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Sources on stitching and types
#
# - K. Lenc, A. Vedaldi, *Understanding Image Representations by Measuring Their Equivariance and Equivalence*, CVPR
#   2015.
# - Y. Bansal, P. Nakkiran, B. Barak, *Revisiting Model Stitching to Compare Neural Representations*, NeurIPS 2021.
# - A. Csiszárik et al., *Similarity and Matching of Neural Network Representations*, NeurIPS 2021.
# - S. Kornblith, M. Norouzi, H. Lee, G. Hinton, *Similarity of Neural Network Representations Revisited*, ICML 2019.
# - X. Yang et al., *Deep Model Reassembly*, NeurIPS 2022.
# - C. Olah, *Neural Networks, Types, and Functional Programming*, blog, 2015.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
