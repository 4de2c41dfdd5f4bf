# %% [markdown] slideshow={"slide_type": "slide"}
# # Early exits: stop when you are sure
#
# **Notebook 06** · *Designing efficient and modular neural networks*
#
# A deep network spends the same work on every input. Most inputs are easy.
# Can it answer the easy ones early, and keep its depth for the hard ones?

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you will be able to do.** Add exits to any chain of blocks; train them in three ways; decide in four ways when
# to leave; count and measure what is saved; let the loss itself learn where to stop. You need: softmax, a classifier
# trained by gradient descent, notebook 01's equation. About 45 minutes with the two exercises. Everything below runs
# on a laptop in about a minute.

# %% slideshow={"slide_type": "skip"}
from copy import deepcopy
from functools import partial
from itertools import pairwise
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lecture_lib import exits, plots
from lecture_lib.choice import stick_breaking
from lecture_lib.cost import count_flops
from lecture_lib.data import batches, digits
from lecture_lib.exits import DifferentiableBranching, EarlyExitNet, expected_cost, infer
from lecture_lib.mixture import mix_sparse
from lecture_lib.notebook import check, setup, show
from lecture_lib.training import fit
from lecture_lib.widgets import Exits

seed = setup(0)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A classifier after every block

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.4))
plots.arrow(ax, (0.0, 0.5), (0.5, 0.5))
ax.text(-0.05, 0.5, "x", ha="right", va="center")
for k in range(4):
    left, on = 0.5 + 2.2 * k, k < 2
    plots.box(ax, left, 0, 1.4, 1, f"block {k + 1}", on=on)
    plots.box(ax, left + 0.3, 1.6, 0.8, 0.6, f"head {k + 1}", on=on, colour="C1")
    plots.arrow(ax, (left + 0.7, 1), (left + 0.7, 1.6), colour="0.3" if on else "0.7")
    if k < 3:
        plots.arrow(ax, (left + 1.4, 0.5), (left + 2.2, 0.5), colour="0.3" if k < 1 else "0.7")
ax.text(1.2, 2.4, "3? or 5?", ha="center", weight="bold")
ax.text(3.4, 2.4, "3!", ha="center", weight="bold")
plots.arrow(ax, (3.6, 2.5), (4.5, 2.5), colour="C1")
ax.text(4.6, 2.4, "sure enough: leave here", color="0.3")
ax.set(xlim=(-0.4, 9), ylim=(-0.2, 2.9), aspect="equal")
ax.axis("off")
show(
    fig,
    "A chain of four blocks with a head above each. The first head hesitates between 3 and 5, the second is sure of 3. "
    "The last two blocks and heads are dashed: they are not executed.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Google's Inception (Szegedy et al. 2015) had classifiers at the side of a deep network: in *training*, to bring a
# gradient to its lower blocks; they were thrown away afterwards. **BranchyNet** (Teerapittayanon et al. 2016) keeps
# them, and leaves through the first that is sure enough. What lies behind is not multiplied by zero. It does not run.
#
# Two questions make the rest of this notebook: how do we **train** the heads, and how do we **decide** when to leave?

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Easy and hard: every digit has its own noise

# %% slideshow={"slide_type": "skip"}
data = digits()


def noisy(images, generator):
    """Images (N, 8, 8) → (N, 1, 8, 8) with noise of a strength of their own: σ = u²/2, for u between 0 and 1."""
    images = images.unsqueeze(1)
    sigma = torch.rand(len(images), 1, 1, 1, generator=generator).square() / 2
    return images + sigma * torch.randn(images.shape, generator=generator), sigma.flatten()


x, sigma = noisy(data.test_x.repeat(2, 1, 1), torch.Generator().manual_seed(99))  # each test digit twice
y = data.test_y.repeat(2)


def stream(size=32):
    """Endless batches of training digits, with new noise every time."""
    generator = torch.Generator().manual_seed(seed)
    for images, labels in batches(data.train_x, data.train_y, size=size, generator=generator):
        yield noisy(images, generator)[0], labels


# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(2, 6, figsize=(10, 3.9))
for ax, i in zip(axes.flat, sigma[:540].argsort()[:: 540 // 11], strict=False):
    ax.imshow(x[i, 0], cmap="gray_r", vmin=-0.3, vmax=1.3)
    ax.set_title(f"σ = {sigma[i]:.2f}", fontsize="small")
    ax.axis("off")
show(fig, "Twelve digits in order of their noise: the first are clean, the last can hardly be read.")

# %% [markdown] slideshow={"slide_type": "notes"}
# Scikit-learn's digits, real handwriting, on a bad line: each picture gets noise of a strength of its own. Half of them
# are nearly clean ($\sigma < 1/8$), some can hardly be read. That is the world in which early exits make sense: inputs
# that differ in how hard they are, and nobody tells the network which is which. Without the noise, one block would be
# enough for almost all digits, and this notebook would have nothing to save.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## One exit, by hand

# %% slideshow={"slide_type": "skip"}
def convolutions(*widths):
    return nn.Sequential(*[m for a, b in pairwise(widths) for m in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU())])


def head(width, outputs):  # the mean over each quarter of the image, and a linear layer: cheap
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(4 * width, outputs))


torch.manual_seed(seed)
block_1, head_1 = convolutions(1, 32, 32), head(32, 10)  # a cheap look ...
block_2, head_2 = convolutions(32, 64, 64), head(64, 10)  # ... and an expensive one


def both_losses(x, y):
    h = block_1(x)
    return F.cross_entropy(head_1(h), y) + F.cross_entropy(head_2(block_2(h)), y)


everything = nn.ModuleList([block_1, block_2, head_1, head_2])
history = fit(everything, both_losses, stream(), steps=250, lr=4e-3, label="one exit")

# %% slideshow={"slide_type": "-"}
def leave_early(x, threshold):
    h = block_1(x)
    logits = head_1(h)
    p = logits.softmax(-1)
    unsure = -(p * p.log()).sum(-1) > threshold  # entropy, in nats
    logits[unsure] = head_2(block_2(h[unsure]))  # the others never see block 2
    return logits, unsure


# %% slideshow={"slide_type": "skip"}
small = EarlyExitNet([block_1, block_2], [head_1, head_2])
with torch.no_grad():
    logits, unsure = leave_early(x, 0.7)
exited = infer(small, x, exits.below_entropy(0.7))
torch.testing.assert_close(exited.logits, logits)
assert torch.equal(exited.exit_index, unsure.long())

# %% slideshow={"slide_type": "skip"}
with torch.no_grad():
    first, last = small(x)
accuracy = [(z.argmax(-1) == y).float().mean().item() for z in (first, exited.logits, last)]
flops = [
    count_flops(nn.Sequential(block_1, head_1), x),
    count_flops(infer, small, x, exits.below_entropy(0.7)),
    count_flops(nn.Sequential(block_1, block_2, head_2), x),
]
for name, a, f in zip(["exit 1 alone", "early exit", "no exit"], accuracy, flops, strict=True):
    print(f"{name:13} accuracy {a:.3f}   FLOPs a digit {f / len(x):9,.0f}")
print(f"{1 - unsure.float().mean():.0%} of the digits leave at exit 1")
assert flops[2] > 1.3 * flops[1]
assert accuracy[1] > accuracy[2] - 0.02 and accuracy[1] > accuracy[0]

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(10, 2.1))
names = ["exit 1 alone", "leave early", "no exit"]
for ax, values, label, fmt in (
    (axes[0], [100 * a for a in accuracy], "accuracy, %", "{:.1f}"),
    (axes[1], [f / len(x) / 1e6 for f in flops], "MFLOPs a digit", "{:.1f}"),
):
    plots.bars(ax, names, {label: values}, fmt=fmt)
    ax.set(ylabel=label, ylim=(0, 1.25 * max(values)))
show(
    fig,
    "Bars: leaving early has the accuracy of the network without an exit, for about half of its FLOPs; exit 1 alone is "
    "cheaper still and less accurate.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# That is all: a block, a head, a question, and the next block on the rows that are left. Training adds both losses
# (`joint_loss` in the library). The last line of `leave_early` is the one that saves: `h[unsure]` makes the batch
# smaller. The library's `infer` does the same for any number of exits, and any rule; the next cell checks that both
# agree on every example.
#
# The entropy is that of BranchyNet: 0 nats for certainty, $\log 10 \approx 2.3$ nats for a shrug among ten classes.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Does the first exit know what it knows?

# %% slideshow={"slide_type": "-"} tags=["fold"]
entropy = torch.special.entr(first.softmax(-1)).sum(-1)
right = first.argmax(-1) == y
fig, ax = plt.subplots(figsize=(10, 3.5))
bins = np.linspace(0, 2, 33)
for mask, name, hatch in ((right, "right at exit 1", ""), (~right, "wrong at exit 1", "//")):
    ax.hist(entropy[mask], bins, label=f"{name}: {mask.sum()} digits", alpha=0.75, hatch=hatch, edgecolor="white")
ax.axvline(0.7, color="0.3", ls=":")
ax.text(0.7, 90, " threshold", color="0.3")
ax.set(xlabel="entropy at exit 1, in nats", ylabel="test digits (log scale)", yscale="log", ylim=(0.7, 400))
ax.legend(frameon=False)
show(
    fig,
    "Histogram of the first exit's entropy for test digits: those it gets right pile up near 0, those it gets wrong "
    "spread over larger values, most of them above the threshold of 0.7.",
)
assert (entropy[~right] > 0.7).float().mean() > (entropy[right] > 0.7).float().mean() + 0.25  # doubt where it errs

# %% [markdown] slideshow={"slide_type": "notes"}
# This is what the whole idea rests on: the first exit must not only be right often, it must **know when it may be
# wrong**. Most digits are right and sure. Of the wrong ones, most are unsure, and go on to the expensive block. A few
# are wrong *and* sure: no rule that looks at this head will save them.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A network in which depth matters

# %% slideshow={"slide_type": "-"}
class Residual(nn.Module):  # sees two pixels further than the block before it
    def __init__(self, width):
        super().__init__()
        self.a, self.b = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, h):
        return h + self.b(F.relu(self.a(h)))


def network(depth, width=48):
    blocks = [Residual(width) for _ in range(depth)]
    blocks[0] = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), blocks[0])
    return EarlyExitNet(blocks, [head(width, 10) for _ in range(depth)])

# %% slideshow={"slide_type": "skip"}
def new(depth):
    torch.manual_seed(seed)
    return network(depth).to(memory_format=torch.channels_last)  # the layout in which small heads are fast


def train(model, loss):
    """A fit for the regimes below: 200 steps, then 50 gentle ones."""
    digits_to_come = stream()
    fit(model, loss, digits_to_come, steps=200, lr=3e-3, label="training")
    return fit(model, loss, digits_to_come, steps=50, lr=3e-4, label="settling")


K = 4
one = x[:1]
block_flops = count_flops(new(K).blocks[1], torch.zeros(1, 48, 8, 8))
head_flops = count_flops(new(K).heads[0], torch.zeros(1, 48, 8, 8))
print(f"FLOPs for a digit: {block_flops:,} a block, {head_flops:,} a head")
assert block_flops > 500 * head_flops  # asking is cheap

# %% [markdown] slideshow={"slide_type": "notes"}
# Four residual blocks of two convolutions. After the first, a pixel knows its surroundings up to three pixels away;
# each further block adds two. Depth means context here, and it will matter. A head costs less than a thousandth of a
# block, so asking after each block is almost free.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Three ways to train
#
# | | loss | what moves | what it costs |
# |---|---|---|---|
# | **joint** | $\sum_k w_k L_k$ | everything, at once | exits share features |
# | **layer-wise** | $L_k$, one after the other | block $k$ and head $k$ | no block plans ahead |
# | **separate** | $L_K$, then the others | backbone, then heads | early features not made for it |

# %% slideshow={"slide_type": "-"}
regimes = {
    "joint": exits.train_jointly,
    "layer-wise": exits.train_layerwise,
    "separate": exits.train_separately,
}

# %% [markdown] slideshow={"slide_type": "notes"}
# **Joint:** one sum of losses (BranchyNet). The lower blocks serve all exits, which helps (short ways for the gradient)
# or hurts (they are pulled to features that are useful *now*). **Layer-wise:** train block 1 with head 1, freeze, put
# block 2 with head 2 on top, freeze, and so on: memory for one block at a time. **Separate:** take a network that
# someone has trained, freeze it, add heads. The only way to add exits to a network you cannot train again.
#
# The yardstick: **static** networks of 1, 2, 3, 4 blocks with one head, trained in the same way. If a static network of
# 2 blocks does as well as our exits at its cost, exits are not worth the trouble.
#
# **Predict:** which of the three has the best first exit? Which the best last one?

# %% slideshow={"slide_type": "skip"}
nets = {name: new(K) for name in regimes}
for name, regime in regimes.items():
    regime(nets[name], train)
    nets[name].eval()

# %% slideshow={"slide_type": "skip"}
static = {depth: new(depth) for depth in range(1, K)}
for depth, net in static.items():  # trained on the loss of the last head alone
    exits.train_jointly(net, train, weights=[0] * (depth - 1) + [1])
static[K] = nets["separate"]  # its first stage is just that

# %% slideshow={"slide_type": "skip"}
@torch.no_grad()
def right_at_each_exit(net):
    return net(x).argmax(-1) == y  # (K, N)


per_exit = {name: right_at_each_exit(net).float().mean(-1).tolist() for name, net in nets.items()}
per_exit["static, of that depth"] = [right_at_each_exit(net)[-1].float().mean().item() for net in static.values()]
for name, accuracy in per_exit.items():
    print(f"{name:22}" + "  ".join(f"{a:.3f}" for a in accuracy))

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## How good is each exit?

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.7))
per_cent = {name: [100 * a for a in accuracy] for name, accuracy in per_exit.items()}
plots.bars(ax, [f"exit {k}" for k in range(1, K + 1)], per_cent, fmt="{:.1f}")
ax.set(ylim=(0, 120), yticks=range(0, 101, 20), ylabel="test accuracy, %")
ax.legend(frameon=False, ncols=4, loc="upper center")
show(
    fig,
    "Bars of test accuracy at exits 1 to 4 for joint, layer-wise and separate training and for static networks of that "
    "depth: all end near 92 per cent. Exit 1 has almost 90, but only about 75 with separate training.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The frozen network has by far the worst first exit: its first block was made for the blocks behind it, not for a
# classifier. And the last exit? Look at the bars on the right: whether exits were trained along or added later makes
# little difference there.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Four ways to decide
#
# | rule | leave when | asks |
# |---|---|---|
# | `below_entropy(t)` | entropy $\le t$ | is the whole prediction sharp? |
# | `above_confidence(t)` | largest $p \ge t$ | how sure of the winner? |
# | `above_margin(t)` | $p_1 - p_2 \ge t$ | is the second far behind? |
# | `patience(P)` | $P$ exits in a row agree with the one before | has it changed its mind? |

# %% slideshow={"slide_type": "-"}
def above_confidence(threshold):  # a rule is a function; write your own
    return lambda logits, h: logits[-1].softmax(-1).amax(-1) >= threshold

# %% [markdown] slideshow={"slide_type": "notes"}
# A rule gets the logits of all exits so far, `(k, n, C)`, and the hidden state, and says for each of the `n` examples
# still there: leave or stay. The last exit takes everybody and asks no one.
#
# Three of the rules need a threshold. **Patience** (PABEE, Zhou et al. 2020) needs none: it waits until predictions
# agree. Its price: with $P = 1$ the earliest way out is exit 2, for two predictions must exist to agree.
#
# **Predict:** which rule gives the most accuracy for the same work?

# %% slideshow={"slide_type": "skip"}
def full(net):
    return lambda x: net.heads[-1](net.states(x)[-1])  # no exits: the blocks, and the last head


def best_times(calls, rounds=8):
    """Milliseconds of each call: the best of some rounds in which they take turns, so that all see the same machine."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            start = perf_counter()
            call()
            best[name] = min(best[name], 1e3 * (perf_counter() - start))
    return best


def stop_at(k):
    return lambda logits, h: torch.full((len(h),), len(logits) == k + 1)


costs = torch.tensor([count_flops(infer, nets["joint"], one, stop_at(k)) for k in range(K)])  # FLOPs of leaving at k
full_flops = count_flops(full(nets["joint"]), one)
with torch.no_grad():
    recorded = {name: net(x) for name, net in nets.items()}  # the logits of all exits: (K, N, C)


def first_stop(logits, rule):
    """Where `infer` would stop, from recorded logits."""
    stop = [rule(logits[: k + 1], None) for k in range(K - 1)]
    return torch.stack([*stop, torch.ones(len(y), dtype=torch.bool)]).int().argmax(0)  # (N,) the first


def tradeoff(logits, rule):
    """Accuracy, and mean FLOPs as a share of the full network's."""
    k = first_stop(logits, rule)
    accuracy = (logits[k, torch.arange(len(y))].argmax(-1) == y).float().mean().item()
    return accuracy, (costs[k].float().mean() / full_flops).item()


# %% slideshow={"slide_type": "skip"}
thresholds = [0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999]
rules = {
    "entropy": [exits.below_entropy(t) for t in (1.5, 1.2, 0.9, 0.7, 0.5, 0.3, 0.15, 0.08, 0.04, 0.01)],
    "confidence": [exits.above_confidence(t) for t in thresholds],
    "margin": [exits.above_margin(t) for t in (0.05, 0.1, 0.3, 0.5, 0.7, 0.85, 0.92, 0.96, 0.99, 0.999)],
    "patience": [exits.patience(p) for p in (1, 2)],
}
by_rule = {name: [tradeoff(recorded["joint"], rule) for rule in family] for name, family in rules.items()}
for name, rows in by_rule.items():
    print(f"{name:11}" + "  ".join(f"{100 * a:.1f} at {f:.0%}" for a, f in rows))

joint, rule = nets["joint"], above_confidence(0.8)
exited = infer(joint, x, rule)  # what we read off the record is what happens, to the last FLOP
assert torch.equal(exited.exit_index, first_stop(recorded["joint"], rule))
assert count_flops(infer, joint, x, rule) == costs[exited.exit_index].sum()

# %% slideshow={"slide_type": "skip"}
shares = np.linspace(0.35, 0.8, 10)  # the three thresholds agree all the way
along = [np.interp(shares, *np.array(by_rule[name])[:, ::-1].T) for name in ("entropy", "confidence", "margin")]
print(f"entropy, confidence and margin: at most {100 * np.ptp(along, 0).max():.1f} points apart for the same FLOPs")
assert np.ptp(along, 0).max() < 0.02
assert by_rule["patience"][0][1] > 0.5  # two blocks at least

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The rule matters less than one hopes

# %% slideshow={"slide_type": "-"} tags=["fold"]
full_accuracy = per_exit["joint"][-1]
fig, ax = plt.subplots(figsize=(10, 3.9))
for (name, rows), marker, line in zip(by_rule.items(), "osD^", ["-", "--", "-.", ":"], strict=True):
    accuracy, flops = np.array(rows).T
    ax.plot(100 * flops, 100 * accuracy, marker=marker, ls=line, lw=2, label=name)
ax.axhline(100 * full_accuracy, color="0.4", lw=1, ls=":")
ax.text(2, 100 * full_accuracy + 0.1, "the last exit alone", color="0.3", fontsize="small")
ax.set(xlabel="FLOPs, % of the full network's", xlim=(0, 105))
ax.set_ylabel(f"test accuracy, %\n(axis from {ax.get_ylim()[0]:.0f})")
ax.legend(frameon=False, loc="lower right")
show(
    fig,
    "Accuracy against FLOPs for four rules on the jointly trained network. Entropy, confidence and margin lie on one "
    "curve, which reaches the accuracy of the last exit at about half of the FLOPs. Patience has two points, at half "
    "and at three quarters.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Each point is a threshold. Entropy, confidence and margin are three readings of the same prediction, and with ten
# classes they put the digits in almost the same order: one curve. Take the one that you can explain. (With thousands
# of classes they drift apart: entropy then counts the dust in the tail.)
#
# Patience looks at something else, agreement. It has two settings here, near the curve or below it, and it cannot leave
# at exit 1. With twelve layers instead of four it has more room, and there is no threshold to tune.
#
# The sweep was free: record the logits of all exits once, then try any rule on the record. The cell above checks that
# `infer` does what the record says.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What it saves: counted, and measured

# %% slideshow={"slide_type": "skip"}
batch = x[:256]
stops = {"joint": thresholds, "layer-wise": [0.5, 0.7, 0.8, 0.9, 0.99], "separate": [0.4, 0.5, 0.7, 0.9, 0.99]}
calls = {(name, t): partial(infer, nets[name], batch, above_confidence(t)) for name in stops for t in stops[name]}
calls |= {("static", depth): partial(full(net), batch) for depth, net in static.items()}
with torch.no_grad():
    times = best_times(calls)
full_time = times["static", K]

measured = {
    name: [(*tradeoff(recorded[name], above_confidence(t)), times[name, t]) for t in those]
    for name, those in stops.items()
}
measured["static"] = [
    (accuracy, count_flops(full(net), one) / full_flops, times["static", depth])
    for (depth, net), accuracy in zip(static.items(), per_exit["static, of that depth"], strict=True)
]

# %% slideshow={"slide_type": "skip"} tags=["varies"]
print(f"leaving at confidence 0.8, a batch of 256 digits; the full network takes {full_time:.1f} ms")
for name in ("joint", "layer-wise"):
    fewer = count_flops(full(joint), batch) / count_flops(infer, nets[name], batch, above_confidence(0.8))
    less = full_time / times[name, 0.8]
    print(f"{name:11} {fewer:.2f} × fewer FLOPs, {less:.2f} × less time: {less / fewer:.0%} of what was counted")
    assert less > 0.5 * fewer  # the clock follows, with room for a busy machine

# %% slideshow={"slide_type": "skip"}
for t in (0.8, 0.9):
    for name in ("joint", "layer-wise"):
        accuracy, share, _ = measured[name][stops[name].index(t)]
        lost = per_exit[name][-1] - accuracy
        print(f"confidence {t}: {name:11} {1 / share:.1f} × fewer FLOPs, {100 * lost:+.1f} points of accuracy lost")
        assert share < (0.45 if t == 0.8 else 0.55)  # less than half of the work ...
        assert lost < (0.02 if t == 0.8 else 0.01)  # ... for hardly any accuracy

# %% slideshow={"slide_type": "-"} tags=["fold", "figure:early_exits", "varies"]
fig, axes = plt.subplots(1, 2, figsize=(10, 3.9), sharey=True)
styles = {"joint": "o-", "layer-wise": "s--", "separate": "D-.", "static": "^:"}
for name, style in styles.items():
    accuracy, share, milliseconds = np.array(measured[name]).T
    label = "static networks" if name == "static" else f"exits, {name}"
    axes[0].plot(100 * share, 100 * accuracy, style, lw=2, label=label)
    axes[1].plot(100 * milliseconds / full_time, 100 * accuracy, style, lw=2)
axes[0].set(xlabel="FLOPs, % of the full network's", ylabel="test accuracy, %\n(axis from 86)")
axes[1].set(xlabel="time, % of the full network's")
for ax in axes:
    ax.set_xlim(left=0)
axes[0].set_ylim(bottom=86)
axes[0].legend(frameon=False, loc="lower right")
show(
    fig,
    "Accuracy against FLOPs and against time, for exits trained in three ways and for static networks of one to four "
    "blocks. Joint and layer-wise exits reach their full accuracy at about 40 per cent of the FLOPs, and at somewhat "
    "more of the time. Separate exits need most of the network.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Left counted, right measured, on a batch of 256. At confidence 0.8, joint and layer-wise training need about two and a
# half times fewer FLOPs and lose a few tenths of a point; at 0.9 it is about two times, for less still. The clock gives
# about 85 % of what was counted; what is missing is the asking: heads, comparisons, gathering the rows that stay.
#
# **Separate** exits save little. Frozen early features were made for the blocks behind them, not for a head: the first
# exits are weak, and know it. **Static** networks are a strong rival: two blocks for everybody do nearly as well as
# exits at that cost, or just as well. What exits add: one network, and a threshold that can be moved at any moment.
#
# Why does **layer-wise** do so well? Four short trainings, each block with a teacher right above it. On deeper networks
# and harder data, greedy blocks throw away what later ones would need. Try it before you believe it.

# %% slideshow={"slide_type": "skip"}
first_exit = {name: per_exit[name][0] for name in nets}
assert first_exit["separate"] < min(first_exit["joint"], first_exit["layer-wise"]) - 0.02
needed = {name: min(f for a, f, _ in measured[name] if a > per_exit[name][-1] - 0.01) for name in nets}
print({name: f"{share:.0%} of the FLOPs for the last exit's accuracy, less a point" for name, share in needed.items()})
assert needed["separate"] > max(needed["joint"], needed["layer-wise"]) + 0.05
two_blocks, at_half = measured["static"][1][0], np.interp(0.5, *np.array(by_rule["confidence"])[:, ::-1].T)
print(f"half of the work: {two_blocks:.3f} by two blocks for everybody, {at_half:.3f} by joint exits")
assert abs(two_blocks - at_half) < 0.025

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Move the threshold
#
# **Predict:** where does accuracy begin to fall?

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
logits = recorded["joint"][:, :540]  # each test digit once
confidence, said = logits.softmax(-1).max(-1)
right = said == y[:540]
Exits(
    thresholds,
    [times["joint", t] for t in thresholds],
    confidence.T,
    right.T,
    costs,
    full=(right[-1].float().mean().item(), full_flops, full_time),
    setting=0.8,
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The picture computes accuracy, FLOPs and the histogram of exits from 540 recorded digits, at each threshold; the
# milliseconds are the measured ones. Move from right to left: the work falls first, the accuracy much later.
#
# Nobody has promised anything yet. We looked at test digits to see where accuracy begins to fall, and a threshold that
# is picked by looking was partly picked by luck. In notebook 07 a threshold is **calibrated** on held-out examples, and
# comes with a guarantee that can be stated and proved (`learn_then_test`).

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Who leaves where

# %% slideshow={"slide_type": "-"} tags=["fold"]
k = exited.exit_index
fig, axes = plt.subplots(K, 11, figsize=(10, 3.7), width_ratios=[2.6] + [1] * 10)
for row in range(K):
    there = (k == row).nonzero().squeeze(-1)
    label = f"exit {row + 1}: {len(there) / len(y):.0%}\nmean σ = {sigma[there].mean():.2f}"
    axes[row, 0].text(1, 0.5, label, ha="right", va="center", transform=axes[row, 0].transAxes, fontsize="small")
    for ax, i in zip(axes[row, 1:], there, strict=False):
        ax.imshow(x[i, 0], cmap="gray_r", vmin=-0.3, vmax=1.3)
    for ax in axes[row]:
        ax.axis("off")
show(
    fig,
    "Four rows of digits, one for each exit at which they leave, with the share of digits and their mean noise, which "
    "grows from row to row. Two thirds or more leave at exit 1, about a tenth stay to the end.",
)
assert sigma[k == K - 1].mean() > 1.3 * sigma[k == 0].mean()

# %% [markdown] slideshow={"slide_type": "notes"}
# Nobody told the network how much noise a digit has. Yet those that stay to the end have about 1.7 times the noise of
# those that leave at once: depth goes where it is needed. Noise is not all of it; a clean digit in an odd hand stays,
# too. And the last row is mixed: digits that need the depth, and digits that nobody can read, for which all four blocks
# run in vain.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Overthinking: right early, wrong at the end

# %% slideshow={"slide_type": "skip"}
over = {}
print("share of the digits     over-    rescued    right at   right at")
print("                      thought   by depth   some exit   the last")
for name, logits in recorded.items():
    right = logits.argmax(-1) == y  # (K, N)
    over[name], rescued = right[:-1].any(0) & ~right[-1], ~right[0] & right[-1]
    shares = [of.float().mean().item() for of in (over[name], rescued, right.any(0), right[-1])]
    print(f"{name:19}" + "".join(f"{share:11.3f}" for share in shares))
    assert shares[0] > 0.005 and shares[1] > shares[0]  # it is there; depth helps more often than it hurts
    assert shares[2] > shares[3] + 0.005  # what an oracle could gain

# %% slideshow={"slide_type": "-"} tags=["fold"]
said = recorded["joint"].argmax(-1)
shown = over["joint"].nonzero().squeeze(-1)[:6]
fig, axes = plt.subplots(1, 6, figsize=(10, 2.5))
for ax, i in zip(axes, shown, strict=False):
    ax.imshow(x[i, 0], cmap="gray_r", vmin=-0.3, vmax=1.3)
    ax.set_title(f"a {y[i]}")
    ax.text(3.5, 8.0, " → ".join(str(c) for c in said[:, i].tolist()), ha="center", va="top")
for ax in axes:
    ax.axis("off")
show(fig, "Six noisy digits with what the four exits say: each is right at an early exit and wrong at the last.")

# %% [markdown] slideshow={"slide_type": "notes"}
# Depth does not always help. Some digits are right early, and talked out of it later (Kaya et al. 2019 call it
# **overthinking**). An oracle that knew where to stop would beat the last exit by a point or more. No rule knows: on
# the curves above, leaving early hardly ever beats the full network. Most of these digits are close calls.
#
# If exits err in different ways, let them vote: an **ensemble** of the predictions so far costs nothing more. The next
# cell compares the mean of probabilities (arithmetic) and of log-probabilities (geometric, as in Zero Time Waste, which
# learns the weights). Here a vote changes little, for better or worse.

# %% slideshow={"slide_type": "skip"}
ensembles = {"alone": lambda z: z, "arithmetic": exits.arithmetic_ensemble, "geometric": exits.geometric_ensemble}
votes = {}
for how, combine in ensembles.items():
    votes[how] = {name: (combine(z)[-1].argmax(-1) == y).float().mean().item() for name, z in recorded.items()}
    print(f"{how:11}" + "   ".join(f"{name} {a:.3f}" for name, a in votes[how].items()))
assert all(abs(votes[how][name] - votes["alone"][name]) < 0.03 for how in votes for name in nets)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Exits are options: the same equation
#
# $$y = \sum_k z_k \, f_k(x) \qquad f_k: \text{the network, cut after block } k$$

# %% slideshow={"slide_type": "-"}
cut = [nn.Sequential(*joint.blocks[: k + 1], joint.heads[k]) for k in range(K)]
z = F.one_hot(exited.exit_index, K).float()  # (N, K) where each digit stopped
with torch.no_grad():
    torch.testing.assert_close(mix_sparse(x, z, cut), exited.logits, rtol=1e-4, atol=1e-4)

# %% [markdown] slideshow={"slide_type": "notes"}
# Stopping at exit $k$ is choosing option $k$. `infer` is the sparse evaluation of the mixture, with one extra: the
# options share their blocks. So far a rule of ours made the choice, after training. In notebooks 02 to 04 the *loss*
# shaped the choice. Can it learn where to stop?

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Differentiable branching
#
# $$\tilde f_k = g_k \, f_k + (1 - g_k)\, \tilde f_{k+1} \qquad \tilde f_K = f_K \qquad g_k \in (0, 1)$$

# %% slideshow={"slide_type": "-"}
def recursion(f, g):  # predictions (K, N, C), gates (K-1, N)
    y = f[-1]
    for k in reversed(range(K - 1)):
        stop = g[k].unsqueeze(-1)
        y = stop * f[k] + (1 - stop) * y
    return y

# %% slideshow={"slide_type": "-"} tags=["fold"]
z = stick_breaking(torch.tensor([0.5, 0.4, 0.6]).logit()).weights  # three gates, four exits
fig, ax = plt.subplots(figsize=(10, 1.8))
for k, (start, width) in enumerate(zip(z.cumsum(0) - z, z, strict=True)):
    ax.barh(0, width, left=start, color=f"C{k}", hatch=["", "//", "..", "xx"][k], edgecolor="white", height=0.5)
    name = ["$z_1 = g_1$", "$z_2 = (1 - g_1)\\, g_2$", "$z_3$", "$z_4$: what is left"][k]
    ax.text(start + width / 2, 0.33, name, ha="center", va="bottom", fontsize=13)
    ax.text(start + width / 2, -0.33, f"{width:.2f}", ha="center", va="top", fontsize=13)
ax.set(xlim=(0, 1.03), ylim=(-0.7, 0.7))
ax.axis("off")
show(
    fig,
    "A stick in four pieces: the first gate, 0.5, breaks off half; the second, 0.4, takes two fifths of the rest; the "
    "third 0.6 of what is left then; the last exit gets what remains.",
)

# %% slideshow={"slide_type": "skip"}
gates = nn.ModuleList(head(48, 1) for _ in range(K - 1))  # each sees what its head sees
branching = DifferentiableBranching(joint, gates)
with torch.no_grad():
    f = joint(x).softmax(-1)
    scores = torch.stack([gate(h).squeeze(-1) for gate, h in zip(gates, joint.states(x), strict=False)], -1)  # (N, K-1)
    mixed, choice = branching(x)
torch.testing.assert_close(recursion(f, scores.sigmoid().T), mixed)
torch.testing.assert_close(stick_breaking(scores).weights, choice.weights)
torch.testing.assert_close(recursion(costs[:, None, None].float().expand(K, len(x), 1), scores.sigmoid().T).squeeze(-1),
                           expected_cost(choice, costs))  # fmt: skip
print("weights of the four exits, mean over the digits:", choice.weights.mean(0).numpy().round(3))

# %% [markdown] slideshow={"slide_type": "notes"}
# Scardapane et al. 2020, by the speaker himself. Each exit has a **gate**: how much of the answer it gives, how much it
# leaves to those behind it. Unrolled, exit $k$ gets the weight $z_k = g_k \prod_{j<k} (1 - g_j)$: break a piece off a
# stick, then a piece off what is left. That is `stick_breaking`, one more way to choose. The library mixes with it, and
# the notebook checks that it is the recursion.
#
# **One** cross-entropy on $\tilde f_1$, not a sum over exits. And a price: the same recursion over the cumulative
# *costs* $c_k$ is the expected work. The loss is $L(\tilde f_1, y) + \text{price} \cdot \sum_k z_k c_k$.
#
# Training is dense: every block runs. At test time a gate above ½ stops, and nothing behind it is executed.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## What should a gate see?

# %% slideshow={"slide_type": "-"}
class Doubt(nn.Module):  # a gate that asks its head how sure it is
    def __init__(self, head):
        super().__init__()
        self.head, self.line = head, nn.Linear(1, 1)
        nn.init.constant_(self.line.weight, -4.0)
        nn.init.constant_(self.line.bias, 2.0)  # at first: open below half a nat

    def forward(self, h):
        log_p = self.head(h).log_softmax(-1)
        entropy = -(log_p.exp() * log_p).sum(-1, keepdim=True)
        return self.line(entropy)

# %% slideshow={"slide_type": "skip"}
share = costs / full_flops  # the price is that of the whole network's work


def branch(price, make_gates):
    """Start from the jointly trained network, and go on with gates and a price."""
    torch.manual_seed(seed)
    net = deepcopy(nets["joint"])
    branching = DifferentiableBranching(net, make_gates(net))

    def loss(images, labels):
        mixed, choice = branching(images)
        return F.nll_loss(mixed.clamp_min(1e-6).log(), labels) + price * expected_cost(choice, share).mean()

    fit(branching, loss, stream(), steps=100, lr=5e-4, label=f"price {price}")
    exited = infer(net, x, exits.learned_gate(branching.gates))  # sparse: a gate above 1/2 stops
    accuracy = (exited.logits.argmax(-1) == y).float().mean().item()
    return accuracy, share[exited.exit_index].mean().item(), exited.exit_index.bincount(minlength=K) / len(y)


kinds = {
    "gates see features": ([0.03, 0.3], lambda net: [head(48, 1) for _ in range(K - 1)]),
    "gates see doubt": ([0.1, 0.3, 0.6], lambda net: [Doubt(h) for h in net.heads[:-1]]),
}
learned = {kind: [branch(price, make) for price in prices] for kind, (prices, make) in kinds.items()}
for kind, (prices, _) in kinds.items():
    for price, (accuracy, work, where) in zip(prices, learned[kind], strict=True):
        print(f"{kind:19} price {price:4}: {accuracy:.3f} at {work:.0%}, exits {where.numpy().round(2)}")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Doubt sends each digit to its own exit

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.9))
accuracy, work = np.array(by_rule["confidence"]).T
ax.plot(100 * work, 100 * accuracy, "o-", color="0.6", lw=2, label="a threshold on confidence, after training")
for (kind, points), style in zip(learned.items(), ["s--", "D-."], strict=True):
    accuracy, work = [a for a, _, _ in points], [w for _, w, _ in points]
    ax.plot(100 * np.array(work), 100 * np.array(accuracy), style, ms=9, lw=2, label=f"branching, {kind}")
ax.set(xlabel="FLOPs, % of the full network's", xlim=(0, 105))
ax.set_ylabel(f"test accuracy, %\n(axis from {ax.get_ylim()[0]:.0f})")
ax.legend(frameon=False, loc="lower right")
show(
    fig,
    "Accuracy against FLOPs: differentiable branching whose gates see doubt lies close to the curve of confidence "
    "thresholds, at about 40 per cent; with gates that see features it lies below the curve.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Gates that look at **features** mostly learn a depth for everybody: the price moves all digits together from exit to
# exit. A linear layer on features hardly tells a digit that is hard from one that is easy. Gates that look at their
# head's **doubt** (the entropy of its prediction, with a slope and a threshold that are learned) send each digit to an
# exit of its own, the first and the last among them. One price is one point of work against accuracy.
#
# The honest comparison is the grey curve: a threshold, set after training, with no gates and no price. Branching with
# doubt comes out about level with it. It is worth its trouble where one threshold is too blunt: costs that differ from
# block to block, a budget that must be met on average. Note also that we started from the jointly trained network. An
# early exit that is bad at first gets little weight, so little gradient, and stays bad: the danger of notebook 04.

# %% slideshow={"slide_type": "skip"}
curve = np.array(by_rule["confidence"])[:, ::-1].T  # work, accuracy
behind = {kind: np.mean([np.interp(w, *curve) - a for a, w, _ in points]) for kind, points in learned.items()}
used = {kind: np.mean([(where > 0.05).sum().item() for *_, where in points]) for kind, points in learned.items()}
for kind in kinds:
    print(f"{kind:19} {used[kind]:.1f} exits in use, {100 * behind[kind]:+.1f} points behind the threshold's curve")
assert used["gates see doubt"] > used["gates see features"] + 0.2
assert behind["gates see doubt"] < 0.03

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where early exits fail
#
# - **A wrong exit can be sure.** No rule that reads its head can know.
# - **Batches wait.** The batch is done when its last example is.
# - **Frozen features** make weak early exits: plan them when you train.
# - **A smaller network may do.** Compare with one, trained alike.
# - **Large outputs** make asking expensive: a vocabulary is a wide head.

# %% [markdown] slideshow={"slide_type": "notes"}
# A batch that shrinks keeps a processor busy only while it is large: on a GPU the last few stragglers cost nearly as
# much as a full batch. Serving systems refill the batch instead. Noise from outside the training distribution makes
# heads sure of nonsense. And in a language model every token asks at every layer, with 50,000 classes: notebook 07
# meets all of this.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercises
#
# ### Exercise 1: patience (★★☆, 10 min)
#
# Write `patience_exit(said, patience)`. `said` is `(K, N)`: the class that each of K exits predicts for each of N
# examples. A counter starts at 0; whenever an exit agrees with the one before it, the counter goes up by 1, and when it
# disagrees, back to 0. An example leaves as soon as the counter reaches `patience`, at the last exit in any case.
# Return the exits `(N,)`, counted from 0.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def patience_exit(said, patience):
    return ...


check("patience_exit", patience_exit)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def patience_exit_solution(said, patience):
    count = torch.zeros_like(said[0])
    leaves = torch.full_like(count, len(said) - 1)
    for k in range(1, len(said)):
        count = torch.where(said[k] == said[k - 1], count + 1, 0)
        now = (count == patience) & (leaves == len(said) - 1)
        leaves[now] = k
    return leaves


check("patience_exit", patience_exit_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise 2: what does it cost? (★☆☆, 5 min)
#
# Every block costs `block` FLOPs an example, every head `head`. Examples leave at exits `exit_index`, `(N,)` whole
# numbers counted from 0, as `infer` returns them. Write `mean_flops(exit_index, block, head)`: the mean FLOPs of an
# example. Which heads were asked?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def mean_flops(exit_index, block, head):
    return ...


check("mean_flops", mean_flops)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def mean_flops_solution(exit_index, block, head):
    return (exit_index + 1).float().mean() * (block + head)


check("mean_flops", mean_flops_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# $$y = \sum_k z_k \, f_k(x) \qquad z_k = g_k \prod_{j<k} (1 - g_j)$$
#
# - A head after every block; leave at the first that is sure.
# - Train jointly or layer by layer; frozen features exit late.
# - Any reading of the doubt will do. Asking is cheap, depth is not.
# - Skipped blocks are not executed: the clock agrees with the count.
# - Gates let the loss decide, if they can see the doubt.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - C. Szegedy et al., *Going Deeper with Convolutions*, CVPR 2015: auxiliary classifiers.
# - S. Teerapittayanon, B. McDanel, H. T. Kung, *BranchyNet: Fast Inference via Early Exiting from Deep Neural
#   Networks*, ICPR 2016.
# - Y. Kaya, S. Hong, T. Dumitras, *Shallow-Deep Networks: Understanding and Mitigating Network Overthinking*, ICML
#   2019.
# - W. Zhou et al., *BERT Loses Patience: Fast and Robust Inference with Early Exit*, NeurIPS 2020.
# - S. Scardapane, M. Scarpiniti, E. Baccarelli, A. Uncini, *Why Should We Add Early Exits to Neural Networks?*,
#   Cognitive Computation 2020: the three ways to train.
# - S. Scardapane, D. Comminiello, M. Scarpiniti, E. Baccarelli, A. Uncini, *Differentiable Branching in Deep Networks
#   for Fast Inference*, ICASSP 2020.
# - M. Wołczyk et al., *Zero Time Waste: Recycling Predictions in Early Exit Neural Networks*, NeurIPS 2021.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
