# %% [markdown] slideshow={"slide_type": "slide"}
# # Adapters and tasks
#
# **Notebook 10** · *Designing efficient and modular neural networks*
#
# A small change to a network, for every task its own. What does it buy, what does it cost?
# And which part of a network does what? We ask in numbers.

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you will be able to do.** Write an adapter in five lines, merge it and take it out again to the bit; put many
# beside one network and choose among them; say when that beats one shared network or several separate ones; add a task
# without forgetting the others; measure which experts a task uses, cut them out, exchange them. You need: notebook 08
# for experts and routers. About 50 minutes with the exercise. Everything below runs on a laptop in less than a
# minute.

# %% slideshow={"slide_type": "skip"}
import copy

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lecture_lib import plots
from lecture_lib.adapters import LoRA, MixtureOfAdapters, by_task, concatenate, merge_lora
from lecture_lib.choice import Choice, softmax
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.data import batches, digit_tasks
from lecture_lib.models import MLP
from lecture_lib.moe import MoE, expert_load, load_balance_loss, switch
from lecture_lib.notebook import check, setup, show
from lecture_lib.specialise import extract, information, needed_experts, swap_experts
from lecture_lib.training import fit

seed = setup(0)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## One adapter
#
# $$y = W x + b + \tfrac{\alpha}{r} B A x \qquad W \text{ stays}, \; A \text{ and } B \text{ learn}$$

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.6))
plots.box(ax, 0, 1.3, 0.35, 2.4, "x", colour="0.4")
plots.box(ax, 2.2, 2.1, 2.4, 2.4, "W, frozen\n\n64 × 64:\n4,096 weights", colour="0.5")
plots.box(ax, 2.2, 0.4, 2.4, 0.42, "A: 4 × 64", colour="C1")
plots.box(ax, 5.2, -0.6, 0.42, 2.4, "B", colour="C1")
ax.text(5.8, 0.0, "64 × 4\nzero at the start", va="center", fontsize="small", color="0.3")
ax.text(3.4, -0.1, "trained: 512 weights", ha="center", fontsize="small", color="0.3")
plots.box(ax, 9.0, 1.3, 0.35, 2.4, "y", colour="0.4")
plots.box(ax, 7.6, 2.2, 0.6, 0.6, "+", colour="0.4")
plots.arrow(ax, (0.4, 2.8), (2.1, 3.3))
plots.arrow(ax, (0.4, 2.0), (2.1, 0.65))
plots.arrow(ax, (4.65, 0.6), (5.15, 0.6))
plots.arrow(ax, (4.7, 3.3), (7.55, 2.6))
plots.arrow(ax, (5.7, 0.9), (7.55, 2.3))
plots.arrow(ax, (8.25, 2.5), (8.95, 2.5))
ax.set(xlim=(-0.2, 9.6), ylim=(-0.7, 4.6))
ax.axis("off")
show(
    fig,
    "x goes through a large square matrix W, frozen, of 4,096 weights, and beside it through two thin ones, A with 4 "
    "rows and B with 4 columns, together 512 weights. Both results are added to y.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# LoRA (Hu et al. 2022): leave the trained matrix alone, learn a change of it, and allow that change only a low rank r.
# B starts at zero, so on the first step nothing has changed. α is a scale, so that the learning rate need not be
# found again for each rank. The older adapter (Houlsby et al. 2019) is a bottleneck *behind* a layer,
# $x + U\,a(D x)$ with U zero at the start: `lecture_lib.adapters.Adapter`. It has an activation between its two
# matrices, so it cannot be merged. LoRA can: that is the next slide but one.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## By hand: five lines

# %% slideshow={"slide_type": "-"}
W = nn.Linear(64, 64).requires_grad_(False)  # trained, and frozen
x = torch.randn(100, 64)

A = nn.Parameter(torch.randn(4, 64) / 8)
B = nn.Parameter(torch.randn(64, 4))  # as after training; at the start it is 0
alpha, r = 8, 4
y = W(x) + alpha / r * x @ A.T @ B.T  # (100, 64): never B A, only thin products

lora = LoRA(W, rank=r, alpha=alpha)
torch.testing.assert_close(lora(x), W(x), rtol=0, atol=0)  # it starts as W
lora.A.data, lora.B.data = A.data, B.data
torch.testing.assert_close(lora(x), y)

# %% slideshow={"slide_type": "-"} tags=["fold"]
base_flops, lora_flops = count_flops(W, x), count_flops(lora, x)
trained = sum(w.numel() for w in lora.parameters() if w.requires_grad)
print(f"trained weights: {trained} of {sum(w.numel() for w in lora.parameters()):,}")
print(f"FLOPs: {lora_flops / base_flops:.3f} × those of W")
assert trained == 512 and lora_flops == base_flops + 2 * 100 * 512

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Merge, and take it out again
#
# **Predict:** add $BA$ to $W$, subtract it again. Which share of the weights is what it was?

# %% slideshow={"slide_type": "-"}
change = alpha / r * B.data @ A.data
there_and_back = (W.weight + change) - change
same = (there_and_back == W.weight).float().mean().item()
print(f"the same after adding and subtracting: {same:.0%} of the weights")

weight, y_before = W.weight.clone(), lora(x)
lora.merge()  # one product, W + (α/r) B A
torch.testing.assert_close(lora(x), y, rtol=1e-4, atol=1e-4)
assert count_flops(lora, x) == count_flops(W, x)  # the adapter costs nothing now
lora.unmerge()
assert torch.equal(W.weight, weight) and torch.equal(lora(x), y_before)  # to the bit

# %% slideshow={"slide_type": "skip"}
assert 0.02 < same < 0.7
plain = merge_lora(lora)  # a torch.nn.Linear that does not know of adapters
torch.testing.assert_close(plain(x), y, rtol=1e-4, atol=1e-4)
other = LoRA(W, rank=2)
nn.init.normal_(other.B)
both = concatenate([lora, other], weights=[0.5, 2.0])  # rank 4 + 2
torch.testing.assert_close(both.change(x), 0.5 * lora.change(x) + 2 * other.change(x), rtol=1e-4, atol=1e-4)

# %% [markdown] slideshow={"slide_type": "notes"}
# Merged, an adapted network is a network like any other: no extra product, no extra second. But floating-point
# addition rounds: what was added cannot be subtracted again without a trace. Do it a thousand times, for a thousand
# users with an adapter each, and the base has drifted. The library keeps the base and makes the merged matrix beside
# it; taking it out means to forget it, and the base is the same *to the bit*.
#
# Two adapters of one layer can be one, exactly: stack the A, put the B side by side, and the ranks add up. That is
# the exercise. Averaging the A and the B on their own gives something else, with cross terms between strangers.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Six tasks, made of the digits

# %% slideshow={"slide_type": "-"} tags=["fold"]
tasks = digit_tasks()
names = list(tasks)
example = (tasks["class"].test_y == 6).nonzero()[0, 0]
fig, axes = plt.subplots(1, 6, figsize=(10, 2.5))
for ax, (name, task) in zip(axes, tasks.items(), strict=True):
    ax.imshow(task.test_x[example], cmap="gray_r", vmin=0, vmax=1)
    ax.spines[:].set_visible(True)
    ax.set(title=name, xticks=[], yticks=[], xlabel=f"say {task.test_y[example]}")
show(
    fig,
    "The same six in six tasks: class and the label 6, parity and 0, ink and 0 or 1, turned by 180 degrees and 6, "
    "inverted to white on black and 6, mirrored and 6.",
)

# %% [markdown] slideshow={"slide_type": "-"}
# They **conflict**: *class*, *parity* and *ink* ask three things of the same image. Turned by 180°, a six
# looks like a nine. Who is not told the task cannot be right on all.

# %% slideshow={"slide_type": "skip"}
def told(image, task):
    """An image and the number of its task, as one row: 64 pixels from -1 to 1, then six places for the task."""
    return torch.cat([2 * image.flatten(1) - 1, F.one_hot(task, 6).float()], -1)  # (B, 70)


def lessons(which, run=0, size=32):
    """Endless batches of images, answers and tasks: `size` examples of each task in `which`."""
    generator = torch.Generator().manual_seed(1000 * seed + run)
    parts = [tasks[names[t]] for t in which]
    streams = [batches(part.train_x, part.train_y, size=size, generator=generator) for part in parts]
    for rows in zip(*streams, strict=True):
        image, answer = (torch.cat(column) for column in zip(*rows, strict=True))
        yield image, answer, torch.tensor(which).repeat_interleave(size)


def train(model, which, steps=400, lr=5e-3, extra=None, label="training"):
    def loss(image, answer, task):
        logits, choice = model(image, task)
        return F.cross_entropy(logits, answer) + (extra(choice) if extra else 0)

    fit(model, loss, lessons(list(which)), steps=steps, lr=lr, label=label)
    return model


@torch.no_grad()
def answers(model, t):
    """The logits for the test images of task t."""
    return model(tasks[names[t]].test_x, torch.full((540,), t))[0]


def accuracy(model, which):
    return np.array([(answers(model, t).argmax(-1) == tasks[names[t]].test_y).float().mean() for t in which])


# %% [markdown] slideshow={"slide_type": "slide"}
# ## How much rank does a task need?
#
# A network that reads digits, frozen. Beside each layer a LoRA, trained on another task for 200 steps.
# **Predict:** which of *turned*, *mirrored*, *inverted* is hard?

# %% slideshow={"slide_type": "skip"}
class Plain(nn.Module):
    """One network that is told the task."""

    def __init__(self, width):
        super().__init__()
        self.net = MLP(70, width, 10, depth=3)

    def forward(self, image, task):
        return self.net(told(image, task)), None


reader = train(Plain(32), [0], steps=300, label="digits")
ranks, views = [1, 4, 16, 32], [3, 5, 4]


def with_loras(rank):
    """The reader, frozen, with a LoRA beside each layer."""
    adapted = copy.deepcopy(reader)
    for i in (0, 2, 4):
        adapted.net[i] = LoRA(adapted.net[i], rank)
    return adapted


def learnt(model, t, steps=200):
    """What a network reaches on task t: for all of them the same steps, the same rate."""
    return accuracy(train(model, [t], steps=steps, lr=1e-2, label=names[t]), [t])[0]


by_rank = {(t, r): learnt(with_loras(r), t) for t in views for r in ranks}
all_weights = {t: learnt(copy.deepcopy(reader), t) for t in views}  # fine-tuned, nothing frozen
from_scratch = {t: learnt(Plain(32), t) for t in views}
longer = {r: learnt(with_loras(r), 4, steps=600) for r in ranks}  # inverted, three times the steps
for t in views:
    row = ", ".join(f"rank {r}: {by_rank[t, r]:.2f}" for r in ranks)
    print(f"{names[t]:9} {row}; all weights: {all_weights[t]:.2f}; a network of its own: {from_scratch[t]:.2f}; "
          f"unadapted: {accuracy(reader, [t])[0]:.2f}")  # fmt: skip
print("inverted, 600 steps:", ", ".join(f"rank {r}: {longer[r]:.2f}" for r in ranks))

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.4))
plots.curves(ax, ranks, {names[t]: [[by_rank[t, r] for r in ranks]] for t in views}, legend=False)
ax.plot(ranks, list(longer.values()), "v:", color="C2", lw=2.2, label="inverted, 600 steps")
for place, t, sign, colour in zip((90, 100, 111), views, "os^", ("C0", "C1", "C2"), strict=True):
    ax.plot(place, all_weights[t], sign, color=colour, ms=8)
ax.axhline(np.mean(list(from_scratch.values())), color="0.4", ls=":", lw=1)
ax.text(1, np.mean(list(from_scratch.values())) + 0.02, "a network of its own", color="0.3", fontsize="small")
ax.set(xscale="log", xlabel="rank of the adapters (the layers are 32 wide)", ylabel="accuracy", ylim=(0, 1.08))
ax.set_xticks([*ranks, 100], [*ranks, "none:\nall weights"])
ax.minorticks_off()
ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(0.8, 0))
show(
    fig,
    "Accuracy against the rank, 1 to 32, after 200 steps. "
    + " ".join(
        f"{names[t]}: " + ", ".join(f"{by_rank[t, r]:.2f} with rank {r}" for r in ranks)
        + f", {all_weights[t]:.2f} with all weights, {from_scratch[t]:.2f} by a network of its own." for t in views
    )
    + " Inverted after 600 steps: " + ", ".join(f"{longer[r]:.2f} with rank {r}" for r in ranks) + ".",
)

# %% slideshow={"slide_type": "skip"}
assert all(by_rank[t, 4] > from_scratch[t] - 0.1 and by_rank[t, 16] > from_scratch[t] - 0.06 for t in (3, 5))
assert by_rank[4, 1] < 0.6 < by_rank[3, 1] and max(by_rank[4, r] for r in ranks) < from_scratch[4] - 0.02
assert longer[4] > max(by_rank[4, 4] + 0.05, from_scratch[4] - 0.13)
assert sum(longer[r] - by_rank[4, r] for r in ranks[1:]) > 0.1  # not the rank: the steps
assert all_weights[4] > max(by_rank[4, r] for r in ranks)  # the same start, the same steps

# %% [markdown] slideshow={"slide_type": "notes"}
# *Turned* and *mirrored* need new combinations of pixels, and rank 4 comes within a few points of a network of their
# own, rank 16 reaches it. *Inverted* looks simplest to us: white on black. With pixels from -1 to 1 the image is just
# $-x$. But what $W$ does to $x$, only $-W$ does to $-x$: a change of $-2W$, of **full** rank.
#
# A nice story, and the dotted line refutes it. Given 600 steps in place of 200, rank 4 comes within ten points of a
# network of its own: from there on time was missing, not rank. Nor is the start to blame: from the same reader, in the
# same 200 steps, *all* weights together get there or nearly so. Why adapters are slow here we have not found out. An
# adapter is a bet that the new task is close to what the network can do; close for a network is not what is close for
# us.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A mixture of adapters
#
# $$y = f(x) + \sum_k z_k \, \Delta_k(x) \qquad z = \text{choice}(\text{score}(x)) \text{ or given by the task}$$

# %% slideshow={"slide_type": "-"}
base = nn.Linear(70, 32)
layer = MixtureOfAdapters(base, [LoRA(base, 2) for _ in range(5)], softmax)
for adapter in layer.adapters:
    nn.init.normal_(adapter.B)  # as after training
x, task = torch.randn(100, 70), torch.randint(5, (100,))

y = base(x)
for k, adapter in enumerate(layer.adapters):
    mine = task == k
    y[mine] += adapter.scale * x[mine] @ adapter.A.T @ adapter.B.T

torch.testing.assert_close(layer(x, by_task(task, 5))[0], y)

# %% slideshow={"slide_type": "-"} tags=["fold"]
one, every = count_flops(layer, x, by_task(task, 5)), count_flops(layer, x, softmax(layer.router(x)))
print(f"FLOPs against the base: {one / count_flops(base, x):.2f} × with one adapter each, "
      f"{every / count_flops(base, x):.2f} × with all five")  # fmt: skip
assert one < 1.15 * count_flops(base, x) and every - count_flops(base, x) == 5 * (one - count_flops(base, x))

# %% [markdown] slideshow={"slide_type": "notes"}
# The one equation again, with a base in front: every example runs f, and of the K adapters only the chosen ones. Any
# `choose` of notebooks 02 to 04 works, per token or per example. If the task of an example is known, `by_task` chooses
# by decree and no router is needed. The same library layer takes bottleneck adapters, with `nn.Identity()` as base.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## One network, five, or adapters?
#
# Five tasks, equal FLOPs for an example. **Predict:** who wins, narrow? And wide?

# %% slideshow={"slide_type": "skip"}
class Adapted(nn.Module):
    """A network of three layers, each with K adapters: by decree of the task, or by routers that learn."""

    def __init__(self, width, rank, choose=None, n_tasks=5):
        super().__init__()
        layers = [nn.Linear(70, width), nn.Linear(width, width), nn.Linear(width, 10)]
        self.layers = nn.ModuleList(
            MixtureOfAdapters(linear, [LoRA(linear, rank) for _ in range(n_tasks)], choose) for linear in layers
        )
        self.requires_grad_(True)  # here, the base learns as well
        self.by_decree = choose is None

    def forward(self, image, task, wear=None):
        """`wear`: the adapter to choose, if not the task's own."""
        x, decree = told(image, task), None
        if self.by_decree:
            decree = by_task(task if wear is None else wear, len(self.layers[0].adapters))
        for i, layer in enumerate(self.layers):
            x, choice = layer(x if i == 0 else F.relu(x), decree)
        return x, choice


class Blind(Plain):
    """One network that is not told the task."""

    def forward(self, image, task):
        return self.net(told(image, task) * (torch.arange(70) < 64)), None


class Separate(nn.Module):
    """A network for each task."""

    def __init__(self, width):
        super().__init__()
        self.nets = nn.ModuleList(Plain(width) for _ in range(5))

    def forward(self, image, task):
        return self.nets[task[0].item()](image, task)  # a batch of one task


# %% slideshow={"slide_type": "skip"}
old, sizes = range(5), {12: (10, 2), 32: (28, 3)}  # width of a plain network: width and rank of one with adapters
systems = {}
for width, (narrower, rank) in sizes.items():
    separate = Separate(width)
    for t in old:
        train(separate.nets[t], [t], label=f"{names[t]} alone")
    systems["separate", width] = separate
    systems["adapters", width] = train(Adapted(narrower, rank), old, label="adapters")
    systems["shared", width] = train(Plain(width), old, label="shared")
systems["not told", 32] = train(Blind(32), old, label="not told")
systems["learnt router", 12] = train(Adapted(10, 2, switch), old, label="learnt router")

# %% slideshow={"slide_type": "skip"} tags=["varies"]
scores = {key: accuracy(model, old) for key, model in systems.items()}
parameters = {key: sum(w.numel() for w in model.parameters()) for key, model in systems.items()}
image, task = tasks["class"].test_x, torch.zeros(540, dtype=torch.long)
flops, times = {}, {}
for key, model in systems.items():
    with torch.no_grad():
        flops[key] = count_flops(model, image, task) / 540
        times[key] = wall_time(model, image, task, min_seconds=0.1)
print("width                " + " ".join(f"{names[t]:>9}" for t in old) + "      mean  weights   FLOPs   µs/image")
for key in sorted(systems, key=lambda key: (key[1], -scores[key].mean())):
    row = " ".join(f"{score:9.3f}" for score in scores[key]) + f" {scores[key].mean():9.3f}"
    print(f"{key[1]:3}  {key[0]:14}  {row} {parameters[key]:8,} {flops[key]:7,.0f} {1e6 * times[key] / 540:10.2f}")

# %% slideshow={"slide_type": "skip"}
mean = {key: score.mean() for key, score in scores.items()}
for width in sizes:
    assert parameters["separate", width] > 1.8 * parameters["adapters", width]
    equal = [flops[kind, width] for kind in ("separate", "adapters", "shared")]
    assert max(equal) < 1.05 * min(equal)
gap = {width: mean["separate", width] - mean["shared", width] for width in sizes}
left_over = {width: mean["separate", width] - mean["adapters", width] for width in sizes}
assert gap[12] > 1.5 * gap[32] > -0.01 and gap[12] > 0.04 and 0.005 < left_over[12] < 0.8 * gap[12]
assert left_over[32] < 0.03 and mean["adapters", 32] > mean["shared", 32] - 0.01
assert mean["learnt router", 12] < mean["adapters", 12] + 0.05
assert abs(mean["learnt router", 12] - mean["shared", 12]) < 0.12
print(f"learnt router against shared: {mean['learnt router', 12] - mean['shared', 12]:+.3f}")
assert flops["learnt router", 12] > 1.3 * flops["adapters", 12]
guess = scores["shared", 32] - scores["not told", 32]  # lost by who is not told: class, parity, ink against inverted
assert guess[:3].min() > 0.1 and guess[:3].mean() > 0.25 and guess[4] < 0.05
print({f"gap at width {width}, of which is left with adapters": (round(gap[width], 3), round(left_over[width], 3))
       for width in sizes})  # fmt: skip

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(10, 3.7), sharey=True)
for ax, width in zip(axes, sizes, strict=True):
    for i, kind in enumerate(("separate", "adapters", "shared", "learnt router")):
        if (kind, width) in mean:
            x, y = parameters[kind, width], mean[kind, width]
            ax.scatter(x, y, s=130, color=f"C{i}", marker="osD^"[i], ec="0.2", lw=0.6, zorder=3)
            place = {"separate": (0, 12), "adapters": (0, 12), "shared": (0, -22)}.get(kind, (10, -5))
            side = "center" if place[0] == 0 else "left"
            ax.annotate(kind, (x, y), xytext=place, textcoords="offset points", ha=side)
    ax.set(xscale="log", xlabel="weights (log)", title=f"{flops['shared', width]:,.0f} FLOPs (width {width})")
    ax.set(xlim=(700, 27_000), ylim=(0.8, 1.0), yticks=[0.8, 0.85, 0.9, 0.95, 1])
    ax.set_xticks([1000, 3000, 10_000], ["1,000", "3,000", "10,000"])
    ax.minorticks_off()
axes[0].set_ylabel("accuracy, mean of 5 tasks\n(axis from 0.8)")
show(
    fig,
    "Mean accuracy of five tasks against the number of weights, at equal FLOPs, narrow on the left and wide on the "
    "right. "
    + " ".join(
        f"Width {width}: "
        + ", ".join(f"{kind} {mean[kind, w]:.2f} with {parameters[kind, w]:,} weights"
                    for kind, w in mean if w == width and kind != "not told") + "."
        for width in sizes
    ),
)  # fmt: skip

# %% [markdown] slideshow={"slide_type": "notes"}
# **Narrow, separate networks win**, at five times the weights. One shared network that is told the task is the
# smallest, and about ten points behind: in a few hidden units the tasks fight for room. Adapters win back about two
# thirds of that, for about twice the weights of the shared one. **Wide** (three times the FLOPs), the fight is nearly
# over: a few points, at most five in ten seeds, between shared and separate, and adapters reach the separate ones
# within a point or two, with a third of the weights. What looked like a conflict of tasks was mostly a lack of room.
# But a network that is not *told* the task is lost on *class*, *parity* and *ink*, wide as it is: that conflict is in
# the labels. (*Inverted* needs no telling: nothing else looks like it.)
#
# **The learnt router** chooses an adapter for each example and layer. It sees the task among its inputs, and is no
# safe win over the shared network: from a few points worse to nearly as good as the decree, as the seed has it, for
# 40 % more FLOPs (the router's own). As in notebook 08, it has to find the division of labour that a decree simply
# states. Where you know the task, say it.

# %% [markdown] slideshow={"slide_type": "notes"}
# **Cost.** The FLOPs are equal, the seconds are not: fifteen small adapters, each with a gather and two thin products,
# take several times as long as one plain network. If a whole batch has one task, merge its adapters first.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Equal FLOPs are not equal seconds
#
# 540 images, width 32, three layers. **Predict** the time with adapters.

# %% slideshow={"slide_type": "skip"} tags=["varies"]
adapted, t = systems["adapters", 32], 3
merged = nn.Sequential(*[part for layer in adapted.layers for part in (merge_lora(layer.adapters[t]), nn.ReLU())][:-1])
turned, turned_task = tasks["turned"].test_x, torch.full((540,), t)
mixed, mixed_task = torch.cat([tasks[names[t]].test_x[:108] for t in old]), torch.arange(5).repeat_interleave(108)
runs = {
    "one plain network": lambda: systems["shared", 32](turned, turned_task),
    "one task, adapters merged": lambda: merged(told(turned, turned_task)),
    "one task, adapters": lambda: adapted(turned, turned_task),
    "five tasks, adapters": lambda: adapted(mixed, mixed_task),
}
with torch.no_grad():
    torch.testing.assert_close(merged(told(turned, turned_task)), answers(adapted, t), rtol=1e-3, atol=1e-3)
    counted = {kind: count_flops(run) for kind, run in runs.items()}
    rounds = [{kind: wall_time(run, min_seconds=0.02) for kind, run in runs.items()} for _ in range(10)]
measured = {kind: min(times[kind] for times in rounds) for kind in runs}  # the quietest of ten rounds
slower = measured["five tasks, adapters"] / measured["one plain network"]

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
fig, axes = plt.subplots(1, 2, figsize=(10, 3.0), sharey=True)
for ax, values, title in zip(axes, (counted, measured), ("counted: FLOPs", "measured: seconds"), strict=True):
    relative = [values[kind] / values["one plain network"] for kind in runs]
    drawn = ax.barh(list(runs), relative)
    ax.bar_label(drawn, [f"{value:.1f} ×" for value in relative], padding=4)
    ax.set(title=title, xticks=[], xlim=(0, 1.25 * max(relative)))
    ax.spines["bottom"].set_visible(False)
axes[0].invert_yaxis()
show(
    fig,
    "FLOPs and seconds of 540 images, relative to one plain network. "
    + "; ".join(
        f"{kind}: {counted[kind] / counted['one plain network']:.1f} and "
        f"{measured[kind] / measured['one plain network']:.1f}" for kind in runs
    ) + ".",
)  # fmt: skip

# %% slideshow={"slide_type": "skip"}
assert counted["one task, adapters merged"] < counted["one plain network"] and slower > 1.5
assert measured["one task, adapters merged"] < 0.8 * measured["five tasks, adapters"]

# %% [markdown] slideshow={"slide_type": "notes"}
# Merging needs a batch of a single task. A server with a thousand users, each with an adapter and one request in the
# batch, cannot merge; it pays for the gathers, or it has special kernels that do many thin products at once.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A sixth task, and nothing forgotten
#
# *Mirrored* comes later. Fine-tune everything, or add adapters? **Predict** the old tasks.

# %% slideshow={"slide_type": "-"}
grown = copy.deepcopy(systems["adapters", 32]).requires_grad_(False)  # all frozen
before = [answers(grown, t) for t in old]
for layer in grown.layers:
    layer.adapters.append(LoRA(layer.base, 4))  # the new ones learn
train(grown, [5], steps=300, lr=1e-2)
assert all(torch.equal(answers(grown, t), before[t]) for t in old)  # to the bit

tuned = train(copy.deepcopy(systems["shared", 32]), [5], steps=300)
extra = sum(w.numel() for w in grown.parameters() if w.requires_grad)
print(f"new weights: {extra}; a network of its own: {parameters['shared', 32]:,}")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Fine-tuning forgets, adapters cannot

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.5))
heights = {"shared, before": [*scores["shared", 32], 0], "shared, fine-tuned": accuracy(tuned, range(6)),
           "adapters, added": accuracy(grown, range(6))}  # fmt: skip
plots.bars(ax, names, heights)
ax.patches[5].set_visible(False)
ax.texts[5].set_visible(False)
ax.legend(frameon=False, ncols=3, loc="upper left")
ax.set(ylabel="accuracy", ylim=(0, 1.3), yticks=[0, 0.5, 1])
show(
    fig,
    "Accuracy on six tasks. "
    + " ".join(f"{how}: {', '.join(f'{name} {v:.2f}' for name, v in zip(names, row, strict=True) if v)}."
               for how, row in heights.items()),
)  # fmt: skip

# %% slideshow={"slide_type": "skip"}
lost = (scores["shared", 32] - accuracy(tuned, old)).mean()
new = {"fine-tuned": accuracy(tuned, [5])[0], "added": accuracy(grown, [5])[0]}
print(f"old tasks: fine-tuned {lost:.2f} lost on average, added adapters 0 to the bit; mirrored: "
      + ", ".join(f"{how} {value:.2f}" for how, value in new.items()))  # fmt: skip
assert lost > 0.15 and new["added"] > new["fine-tuned"] - 0.06 and extra < 0.3 * parameters["shared", 32]

# %% [markdown] slideshow={"slide_type": "notes"}
# Catastrophic forgetting in one picture. Nothing is wrong with the fine-tuned network: it was never asked to keep the
# old tasks. The adapters keep them because they *cannot* do otherwise: the base and the old adapters are frozen, and an
# old example does not run the new ones. `torch.equal`, not "about the same". The price: the old tasks learn nothing
# from the new one either, and someone has to say which task it is.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Who uses which expert?
#
# The five tasks, eight experts, a router that learns. Nobody told it to split by task.

# %% slideshow={"slide_type": "skip"}
class Experts(nn.Module):
    """Image and task in; one hidden layer with eight experts beside it."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(70, 32), nn.LayerNorm(32), nn.Linear(32, 10)
        self.moe = MoE(32, 16, 8, switch, activation=F.relu)

    def tokens(self, image, task):
        return self.norm(F.relu(self.first(told(image, task))))

    def forward(self, image, task):
        h = self.tokens(image, task)
        y, choice = self.moe(h)
        return self.head(h + y), choice


experts = train(Experts(), old, steps=500, extra=lambda choice: 0.05 * load_balance_loss(choice), label="experts")
all_images = torch.cat([tasks[names[t]].test_x for t in old])
all_tasks, digit = torch.arange(5).repeat_interleave(540), tasks["class"].test_y.repeat(5)
with torch.no_grad():
    tokens = experts.tokens(all_images, all_tasks)
    choice = experts.moe(tokens)[1]


def of(t):
    """The choices for the images of task t."""
    return Choice(*(part[all_tasks == t] for part in choice))


use = torch.stack([expert_load(of(t)) for t in old])  # (tasks, experts)
about_task, about_digit = information(choice, all_tasks), information(choice, digit)
untrained = np.mean(
    [information(switch(tokens @ torch.randn(32, 8)), all_tasks, n_permutations=1).bits for _ in range(10)]
)
for name, told_bits in {"task": about_task, "digit": about_digit}.items():
    print(f"the expert tells {told_bits.bits:.2f} of the {told_bits.label_bits:.2f} bits of the {name}; "
          f"by chance {told_bits.by_chance:.3f}, p = {told_bits.p_value:.2f}")  # fmt: skip
print(f"a random router on the same tokens tells {untrained:.2f} bits of the task")

# %% slideshow={"slide_type": "-"} tags=["fold"]
def table(ax, values, rows, columns, fmt="{:.0%}", cmap="Blues", limits=(0, 1)):
    """Numbers on coloured fields."""
    ax.imshow(values, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect="auto")
    for i, j in np.ndindex(*np.shape(values)):
        value = float(values[i][j])
        dark = abs(value) > 0.5 * limits[1]
        ax.text(j, i, fmt.format(value), ha="center", va="center", fontsize="small", color="w" if dark else "0.2")
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5), width_ratios=[1.7, 1])
table(left, use, [names[t] for t in old], range(1, 9))
left.set(xlabel="expert", title="share of a task's images")
facts = {"shuffled": about_task.by_chance, "random router": untrained, "trained router": about_task.bits}
drawn = right.barh(list(facts), list(facts.values()))
right.bar_label(drawn, [f"{value:.2f}" for value in facts.values()], padding=4)
right.set(title=f"bits about the task, of {about_task.label_bits:.1f}", xticks=[], xlim=(0, 1.3 * about_task.bits))
right.spines["bottom"].set_visible(False)
show(
    fig,
    "Left: for each of five tasks, which share of its images goes to each of eight experts: the busiest has "
    f"{use.amax(1).min():.0%} to {use.amax(1).max():.0%}. Right: bits that the expert tells about the task: "
    f"shuffled {about_task.by_chance:.2f}, random router {untrained:.2f}, trained {about_task.bits:.2f}.",
)

# %% slideshow={"slide_type": "skip"}
assert about_task.p_value < 0.02 and about_task.bits > 20 * about_task.by_chance
assert about_task.bits > 1.3 * untrained > 3 * about_task.by_chance
overlap = torch.minimum(use[:, None], use).sum(-1)  # (tasks, tasks): the share of work at common experts
print("work in common with class:", {names[t]: f"{overlap[0, t]:.0%}" for t in old[1:]})
assert overlap[0, 3] > overlap[0, 4] + 0.1  # turned shares its experts with class, inverted does not

# %% [markdown] slideshow={"slide_type": "notes"}
# Three numbers, not a story: the trained router's expert tells almost half of the task's bits; shuffled labels
# almost none, and no shuffle in a hundred comes near (the permutation test); a *random* router on the same tokens tells
# a good part for free, since tokens of one task are alike. What is above that was learnt.
#
# Look at the rows: *class* and *turned* share experts: they ask the same question about similar strokes. *Inverted*
# keeps to itself. Nobody asked for that.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Cut out what one task needs
#
# The fewest experts that do 95 % of its work, with their rows of the router. **Predict** the loss.

# %% slideshow={"slide_type": "skip"}
def specialist(t):
    """The same network with only those experts that do 95 % of the work of task t."""
    small = copy.deepcopy(experts)
    small.moe = extract(experts.moe, needed_experts(of(t), coverage=0.95))
    return small


specialists = [specialist(t) for t in old]
full = accuracy(experts, old)
cut = np.stack([accuracy(small, old) for small in specialists])

# %% slideshow={"slide_type": "-"} tags=["fold"]
kept = [len(small.moe.experts) for small in specialists]
fig, ax = plt.subplots(figsize=(10, 3.5))
rows = [*(f"{names[t]}: {n} of 8" for t, n in zip(old, kept, strict=True)), "all eight"]
table(ax, np.vstack([cut, full]), rows, [names[t] for t in old])
ax.xaxis.tick_top()
ax.xaxis.set_label_position("top")
ax.set(xlabel="accuracy on the task", ylabel="experts kept for")
show(
    fig,
    "Accuracy of five specialists on five tasks, and of the whole. On its own task each specialist is as good as the "
    f"whole; on others often far worse. They keep {min(kept)} to {max(kept)} of 8 experts.",
)

# %% slideshow={"slide_type": "skip"}
own = np.diag(cut)
share = sum(w.numel() for small in specialists for w in small.moe.parameters()) / 5
share /= sum(w.numel() for w in experts.moe.parameters())
others = ((full - cut).sum() - (full - own).sum()) / 20
print(f"own task: {(full - own).mean():+.3f} lost; the others: {others:.2f} lost; weights of the layer: {share:.0%}")
assert (full - own).max() < 0.05 and others > 0.08 and 0.4 < share < 0.75
lost = full - cut  # (specialist, task)
assert lost[:4, 4].mean() > 0.15  # inverted, by those who never needed its experts
assert lost[4, :4].mean() > 0.06 and lost[0, 3] < 0.06  # the other way round; turned, by class

# %% [markdown] slideshow={"slide_type": "notes"}
# The talk's "re-use of components" as a number: with half to two thirds of the layer a task keeps all of its accuracy.
# The specialist for *class* is still good at *turned*: they share experts. *Inverted* keeps to experts of its own, so
# its specialist falls on the others, and they fall on *inverted*. By how much depends on the seed. Other tokens are not
# lost at once: the router sends them to the best expert that is left, which may be quite good. One detail: `switch`
# weighs by a softmax over *all* experts. With fewer, weights grow a little; with `top_k` the outputs would be equal.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Exchange two modules: who notices?

# %% slideshow={"slide_type": "skip"}
a, b = use[2].argmax().item(), use[4].argmax().item()  # the busiest expert of ink, and of inverted
swapped = copy.deepcopy(experts)
swapped.moe = swap_experts(experts.moe, a, b)
with torch.no_grad():
    changed = (swapped.moe(tokens)[0] != experts.moe(tokens)[0]).any(-1)
assert torch.equal(changed, choice.weights[:, [a, b]].sum(-1) > 0)  # their own tokens, and no other, to the bit
noticed = torch.stack([changed[all_tasks == t].float().mean() for t in old])
drop = full - accuracy(swapped, old)


@torch.no_grad()
def wearing(t, k):
    """Accuracy on task t with the adapters of task k."""
    task = tasks[names[t]]
    logits = systems["adapters", 32](task.test_x, torch.full((540,), t), torch.full((540,), k))[0]
    return (logits.argmax(-1) == task.test_y).float().mean().item()


worn = np.array([[wearing(t, k) for k in old] for t in old])
print(f"experts {a + 1} and {b + 1} exchanged: accuracy lost", {names[t]: f"{drop[t]:.2f}" for t in old})
assert drop.max() > 0.08 and drop[4] > 0.05 and (drop <= noticed.numpy() + 1e-6).all()
assert np.diag(worn).mean() > worn[~np.eye(5, dtype=bool)].mean() + 0.3

# %% slideshow={"slide_type": "skip"}
c = use[0].argmax().item()  # the busiest expert of class
one = copy.deepcopy(experts).requires_grad_(False)  # all is frozen, but this expert: it learns on, for class alone
for stacked in one.moe.experts.parameters():  # (8, ...)
    stacked.requires_grad_(True).register_hook(lambda grad: grad * (torch.arange(8) == c)[:, None, None])
train(one, [0], steps=200, label="one expert")
with torch.no_grad():
    moved = (one.moe(tokens)[0] != experts.moe(tokens)[0]).any(-1)
assert moved.any() and not moved[choice.weights[:, c] == 0].any()  # its own tokens, and no other, to the bit
moved = torch.stack([moved[all_tasks == t].float().mean() for t in old])
gain = accuracy(one, old) - full
print(f"expert {c + 1} alone learns on, for class: outputs changed, accuracy gained",
      {names[t]: f"{moved[t]:.0%}, {gain[t]:+.2f}" for t in old})  # fmt: skip
assert (np.abs(gain) <= moved.numpy() + 1e-6).all() and moved[0] > 0.1 and moved[3] > 0.05 and gain[0] > -0.02

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=[1.15, 1])
plots.bars(left, [names[t] for t in old],
           {"outputs changed": 100 * noticed.numpy(), "accuracy lost": 100 * drop.clip(0)}, fmt="{:.0f}")  # fmt: skip
left.tick_params(axis="x", rotation=30)
left.set(title=f"experts {a + 1} and {b + 1} exchanged", yticks=[], ylim=(0, 135), ylabel="% of a task's images")
left.spines["left"].set_visible(False)
table(right, worn, [names[t] for t in old], [names[t] for t in old])
right.tick_params(axis="x", rotation=30)
right.set(title="accuracy with another's adapters", xlabel="adapters of", ylabel="task")
show(
    fig,
    f"Left: after exchanging experts {a + 1} and {b + 1}, the busiest of ink and of inverted, outputs change for those "
    "who use them only, and only they lose accuracy. Right: the accuracy of each task with each adapter: "
    f"{np.diag(worn).mean():.2f} on the diagonal, {worn[~np.eye(5, dtype=bool)].mean():.2f} elsewhere, on average.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Encapsulation means: a change here is not seen there. For the experts it holds to the bit, for tokens that chose
# neither of the two: a task can lose only as far as it uses them. The same if we freeze all but one expert, that of
# *class*, which learns on: who does not use it does not notice; who shares it, such as *turned*, gets other outputs,
# though hardly another accuracy.
#
# On the right, each task wears the adapters of every other: they are not interchangeable, although they are small
# changes to one base. Note what is *not* encapsulated: the first layer, the head, the base. Exchange one of those, and
# everybody notices.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where modules fail
#
# - **Low rank is a bet** that the new task is near. *Inverted* took three times the steps.
# - **Somebody must know the task.** What a decree states, a learnt router finds with luck.
# - **Room beats modules.** With wide enough layers, sharing costs few points.
# - **Only modules are encapsulated.** What they share, everybody feels.

# %% [markdown] slideshow={"slide_type": "notes"}
# Numbers for each of these are above; none comes from a large model. What changes with size: the gap between shared and
# separate networks closes where there is room, and adapters are a smaller part of the whole. What does not change:
# merging is exact, an adapter that does not run cannot disturb, and specialisation is something to measure, with its
# baselines, before it is told. Notebook 11 goes on: one network for images and for text.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercise
#
# ### Exercise: two adapters in one (★★☆, 10 min)
#
# Two LoRAs of one layer, `first = (A1, B1)` and `second = (A2, B2)`, with A of shape `(r, d_in)` and B of shape
# `(d_out, r)`, and two weights `w`. Write `two_in_one(first, second, w)`: return one pair `(A, B)` with
# $BA = w_1 B_1 A_1 + w_2 B_2 A_2$, exactly, of the smallest rank that is always enough. Weights may be negative.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def two_in_one(first, second, w):
    return ...


check("two_in_one", two_in_one)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def two_in_one_solution(first, second, w):
    (A1, B1), (A2, B2) = first, second
    return torch.cat([A1, A2]), torch.cat([w[0] * B1, w[1] * B2], dim=1)


check("two_in_one", two_in_one_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# $$y = f(x) + \sum_k z_k \, \Delta_k(x) \qquad \Delta(x) = \tfrac{\alpha}{r} B A x$$
#
# - An adapter is 512 weights beside 4,096, and free when merged.
# - Narrow: tasks fight, modules help. Wide: one shared network is near.
# - Added adapters forget nothing, to the bit. Fine-tuning forgets.
# - Who uses what is a number of bits, beside what chance would give.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - N. Houlsby et al., *Parameter-Efficient Transfer Learning for NLP*, ICML 2019: adapters.
# - E. J. Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, ICLR 2022.
# - Y. Wang et al., *AdaMix: Mixture-of-Adaptations for Parameter-efficient Model Tuning*, EMNLP 2022.
# - W. Fedus, B. Zoph, N. Shazeer, *Switch Transformers*, JMLR, 2022: the choice of one expert.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
