# %% [markdown] slideshow={"slide_type": "slide"}
# # Start here: why build networks out of parts?
#
# **Notebook 00** · *Designing efficient and modular neural networks*
#
# Four promises of the talk, each as a number that you measure in the next minute,
# and the one equation behind all of them.

# %% [markdown] slideshow={"slide_type": "notes"}
# On 4 October 2023 Simone Scardapane gave a talk, *Designing efficient and modular neural networks*. These notebooks
# are that talk, to be run. You need Python, PyTorch at the level of "I have trained a small network", softmax and the
# chain rule. No GPU, no download: everything is trained here, in seconds, on a laptop.
#
# This first notebook takes 20 minutes with its exercise. It shows **why** anyone would want a network that chooses
# among its own parts. The others show **how**.

# %% slideshow={"slide_type": "skip"}
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from lecture_lib import plots
from lecture_lib.choice import argmax
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.data import batches, digits
from lecture_lib.exits import EarlyExitNet, above_confidence, infer, train_jointly
from lecture_lib.mixture import mix, mix_sparse
from lecture_lib.models import MLP
from lecture_lib.moe import MoE, switch
from lecture_lib.notebook import check, setup, show
from lecture_lib.training import fit
from lecture_lib.widgets import Exits

seed = setup(0)
data = digits()

# %% [markdown] slideshow={"slide_type": "slide"}
# ## One equation
#
# $$y = \sum_k z_k \, f_k(x) \qquad z = \text{choice}(g(x))$$

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.2))
ax.imshow(data.test_x[3], cmap="gray_r", extent=(0, 1.2, 1.0, 2.2))
ax.text(0.6, 0.85, "input $x$", ha="center", va="top")
plots.box(ax, 1.9, 1.15, 1.2, 0.9, "scorer\n$g$")
plots.arrow(ax, (1.3, 1.6), (1.85, 1.6))
ax.text(4.0, 3.05, "scores $s$", ha="center")
plots.box(ax, 4.9, 1.15, 1.2, 0.9, "choice")
ax.text(6.85, 3.05, "$z$", ha="center")
for i, (score, weight) in enumerate(zip([1.3, 0.2, 0.7], [1, 0, 0], strict=True)):
    y = 2.6 - i
    plots.arrow(ax, (3.15, 1.6), (3.75, y), colour="0.6")
    ax.text(4.0, y, f"{score}", ha="center", va="center")
    plots.arrow(ax, (4.25, y), (4.85, 1.6), colour="0.6")
    plots.arrow(ax, (6.15, 1.6), (6.65, y), colour="0.6")
    ax.text(6.85, y, f"{weight}", ha="center", va="center", weight="bold" if weight else "normal")
    plots.box(ax, 7.4, y - 0.38, 1.5, 0.76, f"$f_{i + 1}(x)$", on=bool(weight))
    if weight:
        plots.arrow(ax, (8.95, y), (9.6, 1.6))
ax.text(9.75, 1.6, "$y$", va="center")
ax.set(xlim=(-0.1, 10.1), ylim=(0.1, 3.4))
ax.axis("off")
show(
    fig,
    "An input goes into a scorer g, which gives the scores 1.3, 0.2 and 0.7. A choice turns them into the weights 1, 0 "
    "and 0. Of three modules only the first is executed; its result is y. The two others are dashed.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# $f_1, f_2, \dots$ are the **modules**: patches of an image, layers, experts, adapters, exits, whole networks. A
# small network $g$ looks at the input and gives each module a score; a *choice* makes weights $z$ of the scores.
# Where a weight is zero, the module need not run.
#
# The scores 1.3, 0.2, 0.7 are the talk's, and you will meet them again. From notebook to notebook only two things
# change: what is chosen, and how a gradient gets through the choice.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The equation, by hand and skipped

# %% slideshow={"slide_type": "-"}
modules = [MLP(64, 256, 10) for _ in range(3)]
x = data.test_x.flatten(1)  # 540 images
s = torch.tensor([[1.3, 0.2, 0.7]]).expand(540, 3)
z = argmax(s).weights  # [1, 0, 0] for each image

y = sum(z[:, k, None] * modules[k](x) for k in range(3))

torch.testing.assert_close(y, mix(x, z, modules))  # every module runs
torch.testing.assert_close(y, mix_sparse(x, z, modules))  # only the chosen one runs
every, chosen = (count_flops(f, x, z, modules) for f in (mix, mix_sparse))
print(f"FLOPs: {every:,} if all modules run, {chosen:,} if the chosen one runs")
assert every == 3 * chosen

# %% [markdown] slideshow={"slide_type": "notes"}
# By hand, then from the library, and both agree: every notebook works like this. `mix` multiplies by zero,
# which costs as much as multiplying by anything else. `mix_sparse` skips. FLOPs are floating-point operations,
# counted while the function runs; a multiplication and an addition are two.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Promise 1: parameters that cost nothing
#
# Each token runs one of $E$ experts. **Predict:** with 64 in place of 1, how much slower?

# %% slideshow={"slide_type": "skip"} tags=["varies"]
tokens, layers = torch.randn(2048, 256), {n: MoE(256, 512, n, switch, activation=F.relu) for n in (1, 64)}
with torch.no_grad():
    size = {n: sum(w.numel() for w in layer.parameters()) for n, layer in layers.items()}
    flops = {n: count_flops(layer, tokens) for n, layer in layers.items()}
    seconds = {n: wall_time(layer, tokens) for n, layer in layers.items()}
promise_1 = {name: values[64] / values[1] for name, values in (("FLOPs", flops), ("seconds", seconds))}
print(f"parameters {size[1]:12,} → {size[64]:12,}   {size[64] / size[1]:5.1f} ×")
print(f"FLOPs      {flops[1]:12,} → {flops[64]:12,}   {promise_1['FLOPs']:5.2f} ×")
print(f"seconds    {seconds[1]:12.4f} → {seconds[64]:12.4f}   {promise_1['seconds']:5.2f} ×")
assert size[64] > 60 * size[1] and promise_1["FLOPs"] < 1.1 and promise_1["seconds"] < 20

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
fig, ax = plt.subplots(figsize=(10, 2.6))
ratios = [size[64] / size[1], promise_1["FLOPs"], promise_1["seconds"]]
bar = ax.barh(["parameters", "FLOPs", "seconds"], ratios, color=["C7", "C0", "C1"])
ax.bar_label(bar, ["64 ×", f"{ratios[1]:.2f} ×", f"{ratios[2]:.1f} ×"], padding=4)
ax.axvline(1, color="0.3", ls=":")
ax.text(1.6, -0.7, "dotted: one expert", color="0.3", va="center", fontsize="small")
ax.set(xlabel="64 experts against 1, for 2,048 tokens", xlim=(0, 72), ylim=(2.6, -0.95))
show(
    fig,
    f"Bars, 64 experts against one: 64 times the parameters, {ratios[1]:.2f} times the FLOPs, {ratios[2]:.1f} times "
    "the seconds.",
)

# %% [markdown] slideshow={"slide_type": "-"}
# The talk: *computational cost can be independent of the number of parameters*.
# The count keeps the promise. The clock, not quite.

# %% [markdown] slideshow={"slide_type": "notes"}
# Sixty-four times the parameters, and 6 % more FLOPs: those of the router, which scores all experts. The clock usually
# says more, and this lecture does not hide it: wherever a saving is claimed, you find counted operations and measured
# seconds side by side. Sixty-four experts have to be fetched from memory, and each has few tokens to run: notebooks 08
# and 09 measure what that does.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Promise 2: a cost that follows the demand
#
# One small network with three exits, on digits with noise. A digit leaves when the exit is sure.

# %% slideshow={"slide_type": "skip"}
def noisy(images, generator):
    """Each digit with noise of its own strength: (N, 8, 8) → (N, 1, 8, 8)."""
    images = images.unsqueeze(1)
    sigma = torch.rand(len(images), 1, 1, 1, generator=generator).square() / 2
    return images + sigma * torch.randn(images.shape, generator=generator)


def stream():
    generator = torch.Generator().manual_seed(seed)
    for image, label in batches(data.train_x, data.train_y, size=32, generator=generator):
        yield noisy(image, generator), label


widths = [1, 8, 32, 64]
blocks = [nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU()) for a, b in pairwise(widths)]
heads = [nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(4 * b, 10)) for b in widths[1:]]
net = EarlyExitNet(blocks, heads)
train_jointly(net, lambda model, loss: fit(model, loss, stream(), steps=300, lr=4e-3))

image = noisy(data.test_x, torch.Generator().manual_seed(99))
with torch.no_grad():
    confidence, said = net(image).softmax(-1).max(-1)  # (exits, 540)
right = said == data.test_y
print("accuracy of the three exits:", [f"{share:.3f}" for share in right.float().mean(1)])

# %% slideshow={"slide_type": "skip"} tags=["varies"]
thresholds = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
times = [wall_time(infer, net, image, above_confidence(t), min_seconds=0.1) for t in thresholds]
costs = [count_flops(EarlyExitNet(blocks[:k], heads[:k]), image[:1]) for k in (1, 2, 3)]
whole = nn.Sequential(*blocks, heads[-1])
full = [right[-1].float().mean().item(), count_flops(whole, image[:1]), wall_time(whole, image)]

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
milliseconds = [1e3 * t for t in times]  # for all test digits
demand = Exits(
    thresholds,
    milliseconds,
    confidence.T,
    right.T,
    costs,
    full=(full[0], full[1], 1e3 * full[2]),
    setting=0.7,
)
demand

# %% slideshow={"slide_type": "skip"}
exited = infer(net, image, above_confidence(0.7))
promise_2 = count_flops(infer, net, image, above_confidence(0.7)) / (full[1] * len(image))
kept = (exited.logits.argmax(-1) == data.test_y).float().mean().item() - full[0]
print(f"confidence 0.7: {promise_2:.2f} of the FLOPs, accuracy {100 * kept:+.1f} points")
assert promise_2 < 0.5 and kept > -0.03

# %% [markdown] slideshow={"slide_type": "notes"}
# **Predict, then move the slider:** how low can the threshold go before accuracy falls? At 0.7 the network does less
# than half of its work on average, and loses about nothing: most digits are easy. One set of weights, and whoever
# runs it chooses the price: low battery, rush hour, a patient reviewer. The talk calls it *elastic demand*. Notebooks
# 05 to 07.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Promise 3: many tasks in one network
#
# Eight tasks that contradict each other: task $t$ has its own name for every digit.

# %% slideshow={"slide_type": "skip"}
TASKS, WIDTH = 8, 16
names = torch.stack([torch.randperm(10, generator=torch.Generator().manual_seed(t)) for t in range(TASKS + 1)])


def lessons(tasks):
    """Endless batches of images, tasks (drawn from `tasks`), and the digits' names in those."""
    generator = torch.Generator().manual_seed(seed)
    for image, digit in batches(data.train_x, data.train_y, size=128, generator=generator):
        task = torch.tensor(tasks)[torch.randint(len(tasks), digit.shape, generator=generator)]
        yield image.flatten(1), task, names[task, digit]


def learn(network, tasks, steps=400):
    torch.manual_seed(seed)
    fit(network, lambda x, task, y: F.cross_entropy(network(x, task), y), lessons(tasks), steps=steps)


@torch.no_grad()
def accuracy(network, task):
    x, tasks = data.test_x.flatten(1), torch.full_like(data.test_y, task)
    return (network(x, tasks).argmax(-1) == names[task, data.test_y]).float().mean().item()


# %% slideshow={"slide_type": "-"}
class Modular(nn.Module):
    """One module for each task."""

    def __init__(self):
        super().__init__()
        self.f = nn.ModuleList(MLP(64, WIDTH, 10) for _ in range(TASKS))

    def forward(self, x, task):
        z = F.one_hot(task, len(self.f)).float()
        return mix_sparse(x, z, self.f)  # the one equation

# %% slideshow={"slide_type": "skip"}
class Shared(nn.Module):
    """One network that is told the task."""

    def __init__(self, width):
        super().__init__()
        self.f = MLP(64 + TASKS + 1, width, 10)  # room for one more task

    def forward(self, x, task):
        return self.f(torch.cat([x, F.one_hot(task, TASKS + 1).float()], -1))


# %% slideshow={"slide_type": "skip"}
networks = {"eight modules": Modular(), "shared, same FLOPs": Shared(WIDTH), "shared, 8 × FLOPs": Shared(8 * WIDTH)}
for network in networks.values():
    learn(network, list(range(TASKS)))
by_task = {name: [accuracy(network, t) for t in range(TASKS)] for name, network in networks.items()}
mean = {name: sum(values) / TASKS for name, values in by_task.items()}
one_image = data.test_x[:1].flatten(1), torch.tensor([0])
work = {name: count_flops(network, *one_image) for name, network in networks.items()}
for name in networks:
    print(f"{name:20} accuracy {mean[name]:.3f}   {work[name]:6,} FLOPs an image")
promise_3 = mean["eight modules"] - mean["shared, same FLOPs"]
assert promise_3 > 0.25 and abs(mean["eight modules"] - mean["shared, 8 × FLOPs"]) < 0.05

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Against one network that everybody shares
#
# **Predict:** one network of the same cost, told which task it is. How good is it?

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(1, 2, figsize=(10, 3.3))
labels = ["eight\nmodules", "shared,\nsame FLOPs", "shared,\n8 × FLOPs"]
for ax, values, label, fmt in (
    (axes[0], [100 * v for v in mean.values()], "accuracy, %", "{:.0f}"),
    (axes[1], [v / 1000 for v in work.values()], "kFLOPs an image", "{:.1f}"),
):
    plots.bars(ax, labels, {label: values}, fmt=fmt)
    ax.set(ylabel=label, ylim=(0, 1.18 * max(values)))
show(
    fig,
    f"Bars. Accuracy: eight modules {mean['eight modules']:.0%}, a shared network of the same FLOPs "
    f"{mean['shared, same FLOPs']:.0%}, a shared network eight times as wide {mean['shared, 8 × FLOPs']:.0%}. "
    "FLOPs an image: the first two about the same, the third eight times as many.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The talk: *very good fit for multi-modal and multi-task problems*, as tasks can use different parts of the network. At
# the cost of one small network, eight modules are far better than one that everybody shares. A shared network can do it
# too, at eight times the FLOPs: modules are not magic, they are **cheap**.
#
# Be fair: here the task is known and each has its module by decree. When a network has to *find out* which module an
# input needs, it often finds something worse: notebook 08. And tasks that have more in common than these would share a
# trunk, and need a small module each: notebook 10.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Promise 4: additions break nothing
#
# A ninth task arrives. **Predict:** what happens to the other eight?

# %% slideshow={"slide_type": "skip"}
x, tasks = data.test_x.flatten(1), torch.arange(len(data.test_x)) % TASKS
modular, shared = networks["eight modules"], networks["shared, 8 × FLOPs"]
with torch.no_grad():
    before = modular(x, tasks)

new = MLP(64, WIDTH, 10)
fit(new, lambda x, task, y: F.cross_entropy(new(x), y), lessons([TASKS]), steps=200)
modular.f.append(new)  # add a module ...
learn(shared, [TASKS], steps=200)  # ... or train on

with torch.no_grad():
    assert torch.equal(modular(x, tasks), before)  # the same bits
old = {name: sum(accuracy(networks[name], t) for t in range(TASKS)) / TASKS for name in networks}
ninth = {"eight modules": accuracy(modular, TASKS), "shared, 8 × FLOPs": accuracy(shared, TASKS)}
promise_4 = mean["shared, 8 × FLOPs"] - old["shared, 8 × FLOPs"]
for name in ninth:
    print(f"{name:18} old tasks {mean[name]:.3f} → {old[name]:.3f}, new task {ninth[name]:.3f}")
assert old["eight modules"] == mean["eight modules"] and promise_4 > 0.5
assert min(ninth.values()) > 0.85 and ninth["shared, 8 × FLOPs"] > ninth["eight modules"]

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.0))
groups = ["eight old tasks, before", "eight old tasks, after", "the new task"]
series = {
    {"eight modules": "add a module", "shared, 8 × FLOPs": "train the shared network on"}[name]: [
        100 * value for value in (mean[name], old[name], ninth[name])
    ]
    for name in ninth
}
plots.bars(ax, groups, series, fmt="{:.0f}")
ax.set(ylabel="accuracy, %", ylim=(0, 118))
ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=2)
show(
    fig,
    f"Bars. Both networks start at about {mean['eight modules']:.0%} on the eight old tasks and learn the new one. "
    f"With a module added, the old tasks stay as they were; the shared network falls to "
    f"{old['shared, 8 × FLOPs']:.0%}: it has forgotten them.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The talk: *encapsulation*, for better interpretability and model re-use. The modular network's answers on the old
# tasks are the same to the last bit: nothing that it knew was touched. The shared network, eight times as wide, learns
# the ninth task a little better, and forgets the other eight. Showing it the old tasks again while it trains would
# help, if the old data are still there.
#
# Software engineers would not be surprised. Notebook 10 takes this further with adapters, notebook 12 takes networks
# apart and puts parts of different ones together, notebook 14 lets six tasks arrive one by one.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The catch: a choice has no gradient

# %% slideshow={"slide_type": "-"}
s = torch.tensor([1.3, 0.2, 0.7], requires_grad=True)
answers = torch.tensor([0.0, 1.0, 0.0])  # module 2 would have been right

soft = (s.softmax(-1) * answers).sum()
hard = (F.one_hot(s.argmax(-1), 3) * answers).sum()
slopes = torch.autograd.grad(soft, s)[0]
print("softmax, the slopes:", *(f"{slope:+.2f}" for slope in slopes))
print("argmax, has it any? ", hard.requires_grad)
assert not hard.requires_grad

# %% [markdown] slideshow={"slide_type": "-"}
# Softmax learns and saves nothing: every module runs. Argmax saves and learns nothing.
# **The rest of the lecture is about having both.**

# %% [markdown] slideshow={"slide_type": "notes"}
# All four promises need a $z$ with zeros in it, and a discrete $z$ does not move when a score moves a little: its
# gradient is zero almost everywhere. In the talk's words: *fundamentally a discrete problem*. Three ways out come
# next: noise and relaxation (notebook 02), learning from what happened (03), and maps that are sparse and smooth at
# once (04).

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The map
#
# | | notebook | the k options | the choice |
# |---|---|---|---|
# | 01 | discrete decisions | anything | argmax |
# | 02 to 04 | Gumbel-Softmax, REINFORCE, sparse choices | a patch | noise, samples, zeros |
# | 05 | conditional computation | keep or drop | gates, top-k |
# | 06, 07 | early exits; a language model | an exit | confidence |
# | 08, 09 | mixture of experts; at scale | an expert | router |
# | 10 | adapters and modalities | an adapter | by task, token |
# | 12 | merging | networks | mixed weights |
# | 14 | outlook: side by side | all of them | all of them |

# %% [markdown] slideshow={"slide_type": "skip"}
# ## The symbols
#
# One symbol, one meaning, in all notebooks. Indices start at 0, as in Python: of three options, the last is number 2.
# Layers that ran and exits that were passed are counted.
#
# | symbol | meaning |
# |---|---|
# | $x$, $y$ | input, and output $y = \sum_k z_k f_k(x)$ |
# | $f_k$, $f_e$ | an option, such as a module; an expert |
# | $K$, $k$ | number of options, one of them; in top-$k$, how many are kept |
# | $s$, $z$ | scores (logits), $s$ = score($x$); the choice: weights on the simplex |
# | $\pi$ | softmax$(s)$, the **probabilities** of options, those of a router too |
# | $\bar\pi_e$ | mean of the **probability** $\pi_e$ over the tokens |
# | $G$ | Gumbel noise |
# | $\lambda$ | **temperature** |
# | $\tau$ | threshold of **sparsemax** and **entmax** |
# | $\alpha$ | the parameter of **entmax** |
# | $\theta$ | threshold of a **confidence**, for **exit**s |
# | $\delta$, $\varepsilon$ | **tolerance** of a risk, and probability of an **error**, in Learn then Test |
# | $\ell_e$ | **load** of an expert: its share of the tokens |
# | $\beta_e$ | **bias** that balances an expert |
# | $b$ | baseline of REINFORCE |
# | $c$ | capacity factor |
# | $E$, $N$ | number of experts; of tokens or examples that are routed together |
# | $B$, $T$, $D$, $H$ | size of a batch, length of a sequence, width, width of a hidden layer |
# | $L$ | loss; $L_\text{task}$ and $L_\text{balance}$ are its parts |
# | $\sigma$ | **sigmoid**, 1/(1 + exp($-x$)) |

# %% [markdown] slideshow={"slide_type": "skip"}
# **How to use the notebooks.** Run the cells from top to bottom. Where it says **Predict**, stop and guess first: it
# is the cheapest way to learn something. Pictures with a slider answer at once, in JupyterLab, in Colab and in the
# slides, and work with the keyboard. Exercises check themselves; the solution is the folded cell below each.
#
# 01, 02 and one of 03 and 04 are the ground; after them read what you like, in any order, but 06 before 07, 08 before
# 09, 10 and 12, and 14 last. Each takes 40 to 80 minutes to read and under a minute to run:
# [01](01_discrete_decisions.ipynb) 45 s ·
# [02](02_gumbel_softmax.ipynb) 30 s · [03](03_reinforce.ipynb) 45 s · [04](04_sparse_choices.ipynb) 25 s ·
# [05](05_conditional_computation.ipynb) 50 s · [06](06_early_exits.ipynb) 55 s ·
# [07](07_adaptive_language_model.ipynb) 50 s · [08](08_mixture_of_experts.ipynb) 40 s ·
# [09](09_experts_at_scale.ipynb) 30 s · [10](10_adapters.ipynb) 40 s · [12](12_merging.ipynb) 35 s ·
# [14](14_outlook.ipynb) 50 s

# %% [markdown] slideshow={"slide_type": "skip"}
# **With a network,** `lecture_lib.data.openml("Fashion-MNIST")` gives 70,000 images of 28 × 28 pixels in the form of
# `digits()`. Where a notebook says that digits are too easy, try them; what expects 64 pixels, such as `MLP(64, ...)`,
# then has to expect 784.
#
# **To teach with them:** `make slides` writes a deck for each notebook, and one for the whole talk. The letter `S`
# opens the speaker's notes, which are the prose of these notebooks.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercise: run what is chosen ★★☆ 10 min
#
# Write $y = \sum_k z_k f_k(x)$ so that zeros are not computed. Inputs `x` (N, D), weights `z` (N, K), `modules`: a
# list of K functions (n, D) → (n, C). Each may be called once, with the rows that gave it a weight. A row may have
# chosen several modules, or none at all.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def run_what_is_chosen(x, z, modules):
    return ...


check("run_what_is_chosen", run_what_is_chosen)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def run_what_is_chosen_solution(x, z, modules):
    y = 0
    for k, f in enumerate(modules):
        rows = z[:, k].nonzero()[:, 0]
        if len(rows):
            out = z[rows, k, None] * f(x[rows])
            y = y + out.new_zeros(len(x), out.shape[1]).index_add(0, rows, out)
    return y


check("run_what_is_chosen", run_what_is_chosen_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Four promises, four numbers

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
numbers = {
    "1  cost": (f"{ratios[1]:.2f} ×", f"the FLOPs\n{ratios[2]:.1f} × the time\nwith 64 × parameters"),
    "2  demand": (f"{promise_2:.0%}", f"of the FLOPs\n{100 * kept:+.1f} points\nof accuracy"),
    "3  tasks": (f"+{100 * promise_3:.0f}", "points, against\na shared network\nof the same cost"),
    "4  parts": ("0", f"points forgotten\n{100 * promise_4:.0f} without\nmodules"),
}
fig, ax = plt.subplots(figsize=(10, 2.9))
for i, (promise, (number, meaning)) in enumerate(numbers.items()):
    plots.box(ax, 2.5 * i, 0, 2.3, 2.8, colour=f"C{i}")
    ax.text(2.5 * i + 1.15, 2.5, promise, ha="center", va="center", color="0.25")
    ax.text(2.5 * i + 1.15, 1.75, number, ha="center", va="center", fontsize=30, weight="bold")
    ax.text(2.5 * i + 1.15, 0.68, meaning, ha="center", va="center", fontsize="small")
ax.set(xlim=(-0.05, 9.85), ylim=(-0.05, 2.85))
ax.axis("off")
show(fig, "; ".join(f"{name}: {number} {' '.join(text.split())}" for name, (number, text) in numbers.items()))

# %% [markdown] slideshow={"slide_type": "-"}
# - A module that does not run costs nothing, if it really does not run.
# - One equation: $y = \sum_k z_k f_k(x)$, with $z = \text{choice}(g(x))$.
# - The hard part is to *learn* a choice. That is where we go next.

# %% [markdown] slideshow={"slide_type": "notes"}
# The numbers are of the machine that ran the notebook. Cost: 64 experts in place of one, and the count hardly moves.
# Demand: with early exits, less than half of the work. Tasks: eight small modules against one network of the cost of
# one module. Parts: a ninth task, and nothing else changes; a shared network that trains on forgets the other eight.
#
# Nothing here was learnt about *which* module to use: the task was told, the exit was a threshold. A network that
# decides for itself has to make a discrete choice, and learn it.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023: the four motivations.
# - M. McCloskey, N. J. Cohen, *Catastrophic Interference in Connectionist Networks*, Psychology of Learning and
#   Motivation 24, 1989: networks that train on forget.
# - N. Shazeer et al., *Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer*, ICLR 2017.
# - S. Teerapittayanon, B. McDanel, H. T. Kung, *BranchyNet*, ICPR 2016: early exits.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
