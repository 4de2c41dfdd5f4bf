# %% [markdown] slideshow={"slide_type": "slide"}
# # Architecture and types: a bet, and parts that fit
#
# **Notebook 15** · *Designing efficient and modular neural networks*
#
# For a fixed budget, why do some types of network work better? And when two halves of networks have the same shapes,
# do they fit together?

# %% [markdown] slideshow={"slide_type": "skip"}
# This notebook follows the first line of the notes of a talk by Simone Scardapane (2023), and an essay by Christopher
# Olah (2015) that they name for further reading. `lecture_lib` is the package that goes with it, called *the library*
# below.
#
# **After this notebook you can** compare architectures at an equal budget, and say equal in what; take an architecture
# apart to see which ingredient does the work; read a network as a function with a type; and say what a type does not
# promise. **You need** PyTorch and backpropagation. No functional programming: its words are explained.
#
# Code that draws or prepares is folded: click on its title to open it. Where it says *Predict*, guess before you
# click. Lines that begin with ✓ or ✗ compare what the text says with the numbers of your own run.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Imports, the seed, and the data
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lecture_lib import plots, recorded
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.data import batches, digits
from lecture_lib.mixture import mix_sparse
from lecture_lib.models import MLP
from lecture_lib.notebook import check, claim, setup, show
from lecture_lib.recorded.architecture_and_types import NETWORKS, SMALL, WIDE, OwnWeights, flat, move, shuffle, train
from lecture_lib.recorded.architecture_and_types_controls import CASES, CONTROLS
from lecture_lib.training import fit

seed = setup(0)
data = digits()

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A decision that we make: the architecture
#
# The first line of the talk's notes: *given budget of parameters / compute, some types of neural network look to work
# better*.

# %% [markdown] slideshow={"slide_type": "skip"}
# The other notebooks are about decisions that a network takes, for each input. This one is about decisions that *we*
# take, once, for all inputs: which numbers does a unit read, and which weights are used again? They give a network an
# **architectural bias**: what it finds easy because of how it is built, before it has seen any data. A bias is a bet.
# To see when it is won, we need data that we can change.
#
# We take 300 handwritten digits for training (8 × 8 pixels), and two changes. **Moved:** each image is moved by −1, 0
# or 1 pixel in both directions, so to one of nine places. What leaves the frame is lost. **Shuffled:** after that, the
# 64 pixels of each image are put into another order: a random one, but the same for all images. In the code these are
# `move` and `shuffle`.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: the same six digits, as given, moved, and shuffled
six = data.test_x[[3, 8, 11, 20, 0, 5]]
shifted, _ = move(six, torch.Generator().manual_seed(seed))
versions = {"as given": six, "moved": shifted, "moved, then shuffled": shuffle(shifted, seed)}
fig, axes = plt.subplots(2, 9, figsize=(10, 2.7))
for i, (name, images) in enumerate(versions.items()):
    for ax, image in zip(axes[:, 3 * i : 3 * i + 3].flat, images, strict=True):
        ax.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(True)
    axes[0, 3 * i + 1].set_title(name)
show(fig, "The same six digits as given, moved by up to a pixel, and with all pixels in one fixed random order.")

# %% [markdown] slideshow={"slide_type": "notes"}
# A digit is the same digit at all nine places, so moving is something that a bias can know about. Shuffled images
# hold exactly the same numbers, but neighbours are neighbours no more.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Three ingredients of a convolution with pooling

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: windows, sharing, pooling
fig, axes = plt.subplots(1, 3, figsize=(10, 2))
plots.ingredients(axes, data.test_x[3])
show(
    fig,
    "Three diagrams, each with an image of 8 by 8 pixels and the grid of results. Windows: two windows of 3 by 3 "
    "pixels, each with weights of its own, give one result each. Sharing: both have the same weights. Pooling: one "
    "result for 2 by 2 places, which together see 4 by 4 pixels.",
)

# %% [markdown] slideshow={"slide_type": "-"}
# - **windows**, or *locality*: a unit reads nine neighbouring pixels, not all 64
# - **sharing**: the same weights at all places; windows with sharing are a *convolution*
# - **pooling**: of 2 × 2 neighbouring results only the largest goes on (*max pooling*); the next four begin two places
#   further on

# %% [markdown] slideshow={"slide_type": "notes"}
# People say that convolutions are good for images "because they look for the same thing at every place". But such a
# network usually has three ingredients, not one. We will take them out one by one. Colours in the picture: blue and
# orange are two different sets of weights.

# %% [markdown] slideshow={"slide_type": "skip"}
# Here they are by hand. `unfold` cuts all windows out of an image: 64 windows of nine pixels, one for each
# pixel, as there is a border of zeros.
# With *one* linear map for all windows this is torch's convolution, number for number. With a map of its *own* for each
# place it is `OwnWeights` of the library. Compare the two lines with `@`, and the shapes of their weights.

# %% slideshow={"slide_type": "skip"}
images = data.test_x.unsqueeze(1)  # (540, 1, 8, 8)
windows = F.unfold(images, 3, padding=1).permute(2, 0, 1)  # (64 places, 540, 9 pixels)

conv = nn.Conv2d(1, 5, 3, padding=1)  # five channels: five numbers for each window
shared = windows @ conv.weight.flatten(1).T + conv.bias  # (64, 540, 9) @ (9, 5)
torch.testing.assert_close(shared.permute(1, 2, 0), conv(images).flatten(2))

own = OwnWeights(1, 5, side=8)
apart = windows @ own.weight + own.bias  # (64, 540, 9) @ (64, 9, 5)
torch.testing.assert_close(apart.permute(1, 2, 0), own(images).flatten(2))

pooled = conv(images).unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))  # the largest of 2 x 2
torch.testing.assert_close(pooled, nn.MaxPool2d(2)(conv(images)))

# %% [markdown] slideshow={"slide_type": "skip"}
# Sharing saves parameters: 64 places with their own weights have 64 times as many. That is why a comparison has to say
# *equal in what*.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: the same budget ★★☆ 4 min
#
# On paper. A convolution with windows of 3 × 3 takes 16 channels to 32 channels on a map of 8 × 8 places; it has
# biases. A *dense* layer reads all $16 \cdot 64$ numbers with each unit; its units have biases, too. How many units may
# the dense layer have, if it must not have more parameters than the convolution?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
units = ...

check("dense_units", units)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# the convolution: 9 · 16 weights for each of 32 channels, and 32 biases = 4,640
# a dense unit:    16 · 64 weights and a bias = 1,025, and 4,640 / 1,025 = 4.5
# FLOPs, two for each weight that is used: 2 · 4 · 1,024 = 8,192, and 2 · 64 places · 9 · 16 · 32 = 589,824
check("dense_units", 4640 // 1025)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Equal in what?

# %% [markdown] slideshow={"slide_type": "skip"}
# A **budget** can be parameters (what has to be stored) or FLOPs (the multiplications and additions in
# matrix products and convolutions, for one image; biases, ReLU and maxima are not counted). With
# shared weights a parameter is used at many places, so the two are not the same. We build five networks of about 5,700
# parameters, and four more, called *wide*, of about 171,000 FLOPs. The convolution with pooling keeps to both budgets,
# so it stands in both groups.
#
# The windowed networks have two layers of windows, 8 × 8 places to 4 × 4 to 2 × 2, and a linear layer at the end. Where
# pooling is taken out, a layer skips three of four places instead (*stride* 2), so the sizes stay the same. That skips
# work as well: look at the FLOPs. The channels make up for the budget: with 5,700 parameters, own weights leave room
# for 3 and 8 channels with pooling and 10 and 10 with a stride, shared weights for 21 and 24. So some steps change the
# channels, too. One network, by hand:

# %% slideshow={"slide_type": "skip"}
net = NETWORKS["windows + sharing + pooling"]()
print(net)
parameters = (9 + 1) * 21 + (9 * 21 + 1) * 24 + (96 + 1) * 10  # a bias for each channel and class
flops = 2 * (64 * 9 * 21 + 16 * 9 * 21 * 24 + 96 * 10)  # 64 places, then 16; a weight: one multiplication, one addition
print(f"by hand: {parameters:,} parameters, {flops:,} FLOPs")

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Measure nine networks
size, work, seconds, channels = {}, {}, {}, {}
for name, make in NETWORKS.items():
    net = make()
    layers = [part for part in net.modules() if isinstance(part, nn.Conv2d | OwnWeights)]
    channels[name] = " and ".join(str(layer.bias.shape[-1]) for layer in layers)
    size[name] = sum(p.numel() for p in net.parameters())
    work[name] = count_flops(net, data.test_x[:1])
    with torch.no_grad():
        seconds[name] = wall_time(net, data.test_x, min_seconds=0.05)

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
# @title Print: parameters, FLOPs and seconds of nine networks
print(f"{'':30}parameters   FLOPs an image    channels   ms for 540 images")
for name in [*SMALL, *WIDE[1:]]:
    print(f"{name:30}{size[name]:10,}{work[name]:17,}{channels[name] or '-':>12}{1e3 * seconds[name]:20.1f}")

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title The claim about seconds
took = [seconds[name] for name in SMALL]
claim(
    "With equal parameters, the slowest takes more than 5 times as long as the fastest",
    max(took) > 5 * min(took),
    clock=True,
    fastest=min(took),
    slowest=max(took),
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about the budgets
few, many = [size[name] for name in SMALL], [work[name] for name in WIDE]
claim("Five networks have equal parameters, to within 4 %", max(few) < 1.04 * min(few), least=min(few), most=max(few))
claim("Five have equal FLOPs, to within 3 %", max(many) < 1.03 * min(many), least=min(many), most=max(many))
both = "windows + sharing + pooling"
claim(
    "The convolution with pooling has more than ten times the FLOPs of the MLP",
    work[both] > 10 * work["MLP"],
    times=work[both] / work["MLP"],
)

# %% [markdown] slideshow={"slide_type": "notes"}
# With 5,700 parameters, the convolution with pooling does 15 times as many FLOPs as the MLP. So "better with equal
# parameters" could just mean "more work". That is what the wide networks are for. The clock is a third measure, and it
# agrees with neither: windows with own weights have few FLOPs and take long, perhaps because all windows have to be
# copied. It is also noisy. We do not compare at equal seconds.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Which ingredient does the work?

# %% [markdown] slideshow={"slide_type": "skip"}
# To *ablate* is to take something out and to measure again. With several ingredients, one has to ask what is left in.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** Digits are moved, 300 of them for training. All networks have 5,700 parameters. The MLP is right for
# seven digits of ten. What makes a windowed network clearly better than that?
#
# <details><summary>A. Windows alone.</summary>
#
# **No.** They are as good as the MLP, or a little worse.
#
# </details>
#
# <details><summary>B. Sharing: the same weights at every place.</summary>
#
# **No.** Windows with sharing and no pooling are about as good as the MLP.
#
# </details>
#
# <details><summary>C. Pooling.</summary>
#
# **Nearly.** It is needed, but with own weights at every place, and this budget, it brings little.
#
# </details>
#
# <details><summary>D. Sharing and pooling together.</summary>
#
# **Yes.** Together they bring much more than the sum of what each brings alone.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: read an ablation ★★☆ 4 min
#
# On paper; the numbers are invented. Four networks have the accuracies: with neither ingredient 0.50, with sharing
# 0.52, with pooling 0.56, with both 0.80. By how much does pooling bring *more* when the weights are shared than when
# they are not? This difference is called the *interaction*. If it were 0, one could speak of "the effect of pooling"
# without saying what else is there.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
more = ...

check("interaction", more)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
check("interaction", (0.80 - 0.52) - (0.56 - 0.50))

# %% [markdown] slideshow={"slide_type": "skip"}
# First live, one seed. `train` takes 300 of 1,000 images, moves each to a random place, and trains for 500 steps with
# Adam, at one learning rate. The 540 test images are moved in the same way. The same function made the record below.

# %% slideshow={"slide_type": "skip"}
live = {}
for name in ("MLP", "windows + sharing", "windows + sharing + pooling"):
    network, history = train(name, "moved", lr=1e-2, seed=seed)
    live[name] = [row["test"] for row in history]

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Open after your guess: three networks, one seed
print("test accuracy after step       125    250    375    500")
for name, values in live.items():
    print(f"{name:28}" + "".join(f"{value:7.2f}" for value in values))

# %% [markdown] slideshow={"slide_type": "skip"}
# One training may be luck, and one learning rate may suit one network better than another. So here is a **recorded**
# result: all networks, five seeds, three learning rates (0.003, 0.01, 0.03), 500 steps. Each network stands at *its*
# best rate, picked on 257 validation images that are in no training and no test. For one seed, all networks get the
# same images, moved to the same places. The MLP is best at the highest of the three rates, the convolution with pooling
# at the lowest, so a second, smaller record tries one rate beyond each. (`python -m lecture_lib.recorded
# architecture_and_types` makes it again.)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Read the record, pick each network's rate on the validation images
record = recorded.load("architecture_and_types")
rates, result = {}, {}  # of each case: its best rate, and the accuracy on test images (5 seeds, 4 quarters)
by_case = {}
beyond = recorded.load("architecture_and_types_controls")
for entry in beyond["entries"]:
    name, entry["lr"] = CASES[entry["case"]]
    entry["case"] = f"moved: {name}" + ", beyond" * (name not in CONTROLS)
for entry in record["entries"] + beyond["entries"]:
    by_case.setdefault(entry["case"], {}).setdefault(entry["lr"], []).append(entry)
for case, entries in by_case.items():
    rates[case] = max(entries, key=lambda lr: np.mean([entry["validation"][-1] for entry in entries[lr]]))
    result[case] = np.array([entry["test"] for entry in entries[rates[case]]])


def final(name, kind="moved"):
    return result[f"{kind}: {name}"][:, -1]  # of five seeds


def mean(name, kind="moved"):
    return final(name, kind).mean()


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Two ways to draw five seeds
def draw_one_each(ax, values, marked=""):
    """A bar for each label with a dot for each seed; `values`: label -> the accuracy of five seeds."""
    for i, (label, five) in enumerate(values.items()):
        ax.bar(
            i, five.mean(), 0.72, color="C1" if label == marked else "C0", hatch="//" * (label == marked), ec="white"
        )
        dots = ax.plot([i] * 5, five, "o", ms=5, mfc="white", mec="0.15", mew=0.8)
        ax.text(i, five.max() + 0.025, f"{five.mean():.2f}", ha="center", fontsize="small")
    ax.set_xticks(range(len(values)), list(values), fontsize="small")
    ax.set(ylim=(0, 1.06))
    return dots


def draw(ax, names, kinds):
    """A group of bars for each of `kinds`, with a dot for each seed; `names`: label -> network."""
    plots.bars(
        ax, list(kinds), {label: [mean(name, kind) for kind in kinds.values()] for label, name in names.items()}, fmt=""
    )
    for i, name in enumerate(names.values()):
        for k, kind in enumerate(kinds.values()):
            x, values = k + (i - (len(names) - 1) / 2) * 0.8 / len(names), final(name, kind)
            dots = ax.plot([x] * 5, values, "o", ms=4.5, mfc="white", mec="0.15", mew=0.8, label="_")
            ax.text(x, values.max() + 0.025, f"{values.mean():.2f}", ha="center", fontsize="small")
    dots[0].set_label("one seed; bars: mean of five")
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(
        handles[1:] + handles[:1], labels[1:] + labels[:1], frameon=False, ncols=2, loc="upper center", fontsize="small"
    )
    ax.set(ylim=(0, 1.42))
    ax.set_yticks(np.arange(0, 1.01, 0.2))


# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Two budgets, one task

# %% slideshow={"slide_type": "-"} tags=["fold", "figure:architectural_bias"]
# @title Draw: networks on moved digits, recorded
short = {"MLP": "MLP", "windows": "windows", "windows + pooling": "windows\n+ pooling"}
short |= {"windows + sharing": "windows\n+ sharing", both: "windows\n+ sharing\n+ pooling"}
fig, axes = plt.subplots(1, 2, figsize=(10, 4.1), sharey=True, gridspec_kw={"width_ratios": [6, 5]})
budgets = [f"equal parameters, {size[both] / 1000:.1f} thousand", f"equal FLOPs, {work[both] / 1000:.0f} thousand"]
for ax, names, title in zip(axes, (SMALL, [*WIDE[1:], WIDE[0]]), budgets, strict=True):
    values = {short[name.removesuffix(", wide")]: final(name) for name in names}
    if names is SMALL:
        values["no\nneighbours"] = final("no neighbours")
    dots = draw_one_each(ax, values, marked=short[both])
    ax.tick_params(axis="x", labelsize="x-small")
    ax.set_title(title, fontsize="medium")
axes[0].set(ylabel="test accuracy, moved digits")
axes[0].legend(dots[:1], ["one seed; bars: mean of five"], frameon=False, loc="upper left", handletextpad=0.1)
fig.suptitle(
    f"500 steps, each at its best rate; {record['label']}, and {beyond['minutes']:.0f} more",
    fontsize="small",
    color="0.3",
)
show(
    fig,
    "Test accuracy on moved digits. With equal parameters: MLP, windows, windows with pooling and windows with sharing "
    f"all between {min(map(mean, SMALL)):.2f} and {max(map(mean, SMALL[:4])):.2f}; with sharing and pooling "
    f"{mean(both):.2f}, and {mean('no neighbours'):.2f} if its windows hold no neighbours. With equal FLOPs the others "
    f"reach up to {max(map(mean, WIDE[1:])):.2f}.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Left, equal parameters: four networks end near .70, and the fifth at .85. (The last bar is a control, explained
# below.) Windows with shared weights, so a convolution without pooling, are no better here than the MLP. Pooling
# without sharing is no better either. Together they are. So "it looks for the same thing at every place" is not enough
# of an explanation.
#
# Right, equal FLOPs: the others now have 4 to 15 times as many parameters as the convolution with pooling. They gain,
# and the lead shrinks to .07. The best of them is pooling with own weights.

# %% [markdown] slideshow={"slide_type": "skip"}
# The same as differences: what does an ingredient bring, when the other one is there or not? The interaction is that of
# the exercise; we print it for the five seeds. And what do the *neighbours* in a window bring? **No neighbours** is the
# convolution with pooling, with the same parameters and FLOPs, but the nine values of a window lie 3 places apart in
# the first layer and 2 in the second (a *dilated* convolution). **Windows of 4 × 4** is a stronger convolution without
# pooling: stride 2, 16 and 18 channels, as many parameters.

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Print: what each ingredient brings on moved digits, and the claims
effects = {}
for budget, (plain, pool, share) in {"parameters": SMALL[1:4], "FLOPs": WIDE[2:]}.items():
    none, pooling, sharing, all_three = (final(name) for name in (plain, pool, share, both))
    effects[budget] = {
        "pooling, without sharing": pooling - none,
        "pooling, with sharing": all_three - sharing,
        "sharing, without pooling": sharing - none,
        "sharing, with pooling": all_three - pooling,
        "interaction": all_three - sharing - pooling + none,
    }
print(f"accuracy gained{'equal parameters':>28}{'equal FLOPs':>25}   (lowest and highest of five seeds)")
for row in effects["FLOPs"]:
    cells = [(gain[row].mean(), gain[row].min(), gain[row].max()) for gain in effects.values()]
    print(f"{row:26}" + "".join(f"{m:+9.3f} ({low:+.2f}, {high:+.2f})" for m, low, high in cells))
far, larger = mean("no neighbours"), mean("windows of 4 x 4")
print(f"with both {mean(both):.3f}; no neighbours {far:.3f}; windows of 4 x 4, stride, no pooling {larger:.3f}")
for name in ("MLP", both):
    further = f"{name}, beyond"
    print(f"{name} at rate {rates['moved: ' + further]:g}: {mean(further):.3f}, not {mean(name):.3f}")
gains = [mean(f"{name}, beyond") - mean(name) for name in ("MLP", both)]
claim("One rate beyond the grid is worse, for both", max(gains) < 0, MLP=gains[0], all_three=gains[1])
rivals, wide = [mean(name) for name in SMALL[:4]], [mean(name) for name in WIDE[1:]]
claim("At equal parameters, both together are ahead by more than 0.1", mean(both) > max(rivals) + 0.1, best=max(rivals))
claim("Ahead of windows of 4 x 4, too, by more than 0.1", mean(both) > larger + 0.1, lead=mean(both) - larger)
claim("Without neighbours, more than 0.03 is lost", far < mean(both) - 0.03, lost=mean(both) - far)
kept = (far - max(rivals)) / (mean(both) - max(rivals))
claim("Without neighbours, between 0.4 and 0.8 of the lead is kept", 0.4 < kept < 0.8, kept=kept)
claim("The other four lie within 0.03", max(rivals) - min(rivals) < 0.03, low=min(rivals), high=max(rivals))
claim("At equal FLOPs, they are ahead by more than 0.05", mean(both) > max(wide) + 0.05, best=max(wide))
claim("The best of those is pooling without sharing", max(wide) == mean("windows + pooling, wide"))
lowest = min(gain["interaction"].min() for gain in effects.values())
claim("The interaction is positive in each seed, at both budgets", lowest > 0, lowest=lowest)
alone = [gain["sharing, without pooling"].mean() for gain in effects.values()]
claim("Sharing without pooling brings less than 0.03", max(alone) < 0.03, parameters=alone[0], FLOPs=alone[1])

# %% [markdown] slideshow={"slide_type": "skip"}
# Sharing without pooling brings almost nothing. Pooling without sharing brings .02 at equal parameters and .06 at
# equal FLOPs. With both there is a surplus, the interaction: it is positive for each of the five seeds, at both
# budgets. Two steps change neither channels nor windows: pooling in place of stride, with sharing (21 and 24 channels,
# left column: more FLOPs, +.155), and shared weights in place of own ones, with pooling (right column: fewer
# parameters, +.068).
#
# Neighbours help, by .06, perhaps less (without them, more of a window lies in the border of zeros). More than half of
# the lead stays: most of it comes from sharing and pooling together. Windows of 4 × 4, a better rival, make the lead
# .12 in place of .15. What this does not show: that sharing is worth little. It buys channels.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Shuffle the pixels

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** The moved digits are shuffled. What happens to the MLP, and to the convolution with pooling?
#
# <details><summary>A. Both fall to the level of guessing.</summary>
#
# **No.** The order is the same for all images, so all information is still there.
#
# </details>
#
# <details><summary>B. The MLP stays where it was; the convolution loses its lead.</summary>
#
# **Yes.** It even falls below the MLP. An MLP reads all pixels with all units: to it the order is only a name. The
# windows now hold pixels from anywhere.
#
# </details>
#
# <details><summary>C. Both lose the same.</summary>
#
# **No.** The MLP has no idea of neighbours that it could lose.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# That the MLP cannot notice can be shown exactly. Take two MLPs with the same first weights, but the columns of the
# second in the shuffled order. Train one on the images, the other on the shuffled images, with the same batches. Do
# their outputs ever differ? (`flat(76)` makes our MLP, with 76 units; `plain[1][0]` is its first linear layer.
# `batches` gives random batches without end, and `fit` trains on them with Adam.)

# %% slideshow={"slide_type": "skip"}
plain, mixed = flat(76), flat(76)
mixed.load_state_dict(plain.state_dict())
first = plain[1][0].weight.data  # (76, 64): a column for each pixel
mixed[1][0].weight.data = shuffle(first.unflatten(1, (8, 8)), seed).flatten(1)

for network, x in ((plain, data.train_x), (mixed, shuffle(data.train_x, seed))):
    stream = batches(x, data.train_y, generator=torch.Generator().manual_seed(seed))
    fit(network, lambda x, y, f=network: F.cross_entropy(f(x), y), stream, steps=20, lr=5e-3)

with torch.no_grad():
    apart = (plain(data.test_x) - mixed(shuffle(data.test_x, seed))).abs().max().item()
claim("After 20 steps, both give the same outputs, to within 0.001", apart < 1e-3, largest_difference=apart)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Three data sets, one budget

# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Draw: as given, moved, shuffled, recorded
kinds = {"as given": "as given", "moved": "moved", "moved, then shuffled": "shuffled"}
chosen = ["MLP", "windows + sharing", both, "MLP, wide"]
fig, ax = plt.subplots(figsize=(10, 4))
draw(ax, {name: name for name in chosen}, kinds)
ax.set(ylabel="test accuracy")
ax.set_title(record["label"], fontsize="small", color="0.3")
show(
    fig,
    "Test accuracy of four networks on digits as given, moved, and shuffled. "
    + " ".join(f"{name}: " + ", ".join(f"{mean(name, kind):.2f}" for kind in kinds.values()) + "." for name in chosen),
)

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Print: the networks on three data sets (three were not run as given), and the claims
print(f"{'':30}" + "".join(f"{kind:>12}" for kind in kinds.values()) + "      best rates, in this order")
for name in [*SMALL, *WIDE[1:]]:
    there = [kind for kind in kinds.values() if f"{kind}: {name}" in result]
    cells = [f"{mean(name, kind):12.3f}" if kind in there else f"{'':12}" for kind in kinds.values()]
    print(f"{name:30}{''.join(cells)}      " + ", ".join(f"{rates[f'{kind}: {name}']:g}" for kind in there))
given = [mean(name, "as given") for name in [*SMALL, "MLP, wide"]]
claim(
    "As given, the six that were run lie within 0.04", max(given) - min(given) < 0.04, low=min(given), high=max(given)
)
behind = mean("MLP", "shuffled") - mean(both, "shuffled")
claim("Shuffled, sharing and pooling are behind the MLP of that size by more than 0.03", behind > 0.03, behind=behind)
for name in ("MLP", both):
    print(f"shuffled, after each 125 steps: {name:28}", result[f"shuffled: {name}"].mean(0).round(3))
moves = [abs(mean(name, "shuffled") - mean(name)) for name in ("MLP", "MLP, wide")]
claim("Shuffling changes the MLPs by less than 0.03", max(moves) < 0.03, small=moves[0], wide=moves[1])

# %% [markdown] slideshow={"slide_type": "notes"}
# As given, small and neatly centred, the networks are close together, within .04. Moved, the convolution with pooling
# leads. Shuffled, it is *below* the MLP of its size after 500 steps, while both MLPs stay where they were, up to their
# random starts. (The convolution still gains a little then, and the lowest rate is its best.)
#
# The information is all there. Two things are gone: neighbours belong together no more, and a moved digit is no longer
# the same pattern a place further on. The control without neighbours lost .06 only, so perhaps the second costs more.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Networks as typed functions

# %% [markdown] slideshow={"slide_type": "skip"}
# We have taken an architecture apart into ingredients. Is there a language for such ingredients? Olah (2015) proposes
# one: *functional programming*, where programs are made of functions that take other functions. He calls the idea
# extremely speculative. But each line of the table below can be checked, so we check it. The words first:
#
# - A **type** says which values are meant: an image, a class, 32 numbers. $X$, $Y$, $V$, $S$ stand for any types.
# - $X \to Y$ is the type of a **function** that takes an $X$ and returns a $Y$. A network is such a function.
# - $[X]$ is a **list** of $X$, as long as you like; $[X]_3$ is three neighbours of a list. $X + V$: an $X$ *or* a $V$,
#   see below.
# - A **higher-order function** takes functions and makes a new one. Here it takes small networks, with their weights.
#
# The higher-order function is the pattern, fixed by us: the architecture. What it takes is learnt.

# %% [markdown] slideshow={"slide_type": "-"}
# | a function that takes functions | its type | in a network |
# |:--|:--|:--|
# | **compose** | $(X \to Y),\; (Y \to V) \;\to\; (X \to V)$ | layers, one after another |
# | **map** | $(X \to Y),\; [X] \;\to\; [Y]$ | one layer for every token |
# | **windowed map** | $([X]_3 \to Y),\; [X] \;\to\; [Y]$ | a convolution |
# | **fold** | $((S, X) \to S),\; S,\; [X] \;\to\; S$ | a recurrent network that reads |
# | **choice** | $(X \to Y),\; (V \to Y) \;\to\; (X + V \to Y)$ | a router with two options |

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The same function at several places

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: map, windowed map, fold
fig, axes = plt.subplots(1, 3, figsize=(10, 2.3))
plots.patterns(axes)
show(
    fig,
    "Three diagrams of a list of five inputs. Map: f is applied to each. Windowed map: f is applied to three "
    "neighbours, at three places. Fold: f takes a state and an input and returns the next state, from left to right.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# In all three pictures there is *one* function $f$, used at every place. That is weight sharing, and the type explains
# why: the pattern is handed one $f$, and no number of the place, so it cannot do another thing at another place. (The
# convolution's *windows* stand in the type as well, $[X]_3$. Pooling is a windowed map whose $f$ is the maximum, and
# whose windows begin two places apart: step and border are choices on which the type is silent. The type does not say
# which of them does the work. That we had to measure.)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Map** is so common that PyTorch does it without a word: a linear layer acts on the last dimension, and maps over all
# dimensions before it. And the *windowed map* you know already: it was the line with `conv.weight` above, there with a
# border of zeros. Nothing asks its $f$ to be linear: with an MLP at every window it is the *network in network* of Lin
# et al. (2014).

# %% slideshow={"slide_type": "skip"}
layer = nn.Linear(8, 16)
rows = data.test_x  # 540 lists of eight rows of eight pixels: (540, 8, 8)
mapped = torch.stack([layer(row) for row in rows.unbind(1)], 1)  # map, by hand
torch.testing.assert_close(mapped, layer(rows))


def windowed_map(f, images, size):
    windows = images.unfold(1, size, 1).unfold(2, size, 1)  # (B, 6, 6, size, size)
    return f(windows.flatten(3))  # f: (..., size²) → (..., channels)


five = nn.Linear(9, 5)
torchs = F.conv2d(rows.unsqueeze(1), five.weight.reshape(5, 1, 3, 3), five.bias)
torch.testing.assert_close(windowed_map(five, rows, 3), torchs.movedim(1, -1))
windowed_map(MLP(9, 32, 5), rows, 3).shape  # f need not be linear

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## A fold is a recurrent network

# %% [markdown] slideshow={"slide_type": "skip"}
# A **fold** starts with a state, takes the inputs one by one, and returns the last state. It knows nothing about
# networks: with addition it is a sum, with `max` a maximum.


# %% slideshow={"slide_type": "-"}
def fold(step, state, xs):
    for x in xs:
        state = step(state, x)
    return state


fold(lambda total, x: total + x, 0, [1, 2, 3]), fold(max, 0, [3, 1, 2])

# %% [markdown] slideshow={"slide_type": "skip"}
# With a linear layer and a tanh as its step it is PyTorch's recurrent network, which reads a digit row by row. The
# weights belong to `step`, the pattern to `fold`.

# %% slideshow={"slide_type": "-"}
rnn = nn.RNN(8, 16, batch_first=True)
W_x, W_h, b_x, b_h = rnn.parameters()


def step(h, x):
    return torch.tanh(x @ W_x.T + b_x + h @ W_h.T + b_h)


last = fold(step, torch.zeros(540, 16), rows.unbind(1))
torch.testing.assert_close(last, rnn(rows)[1][0])

# %% [markdown] slideshow={"slide_type": "notes"}
# `fold` and `nn.RNN` give the same numbers. Because the same step is used for each input, a list of any length fits:
# that is the $[X]$ in its type. The type also says what a fold cannot do: each step needs the state of the step before,
# so the steps wait for each other. A map has no such order: all its places can be computed at once.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: a scan ★★☆ 8 min · optional
#
# A fold returns the last state. A recurrent network that tags each word needs the state after *every*
# input; this is called a **scan**, $((S, X) \to S), S, [X] \to [S]$. Write `scan(step, state, xs)`: `xs` is a tensor
# `(T, ...)`, `step(state, x)` returns the next state, and the result is a tensor with the `T` states after each input,
# `(T, *state.shape)`. The first state is not among them. Does yours agree with PyTorch, which calls it the output?
# `torch.testing.assert_close(scan(step, torch.zeros(540, 16), rows.movedim(1, 0)), rnn(rows)[0].movedim(1, 0))`


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def scan(step, state, xs):
    return ...


check("scan", scan)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def scan_solution(step, state, xs):
    states = []
    for x in xs:
        state = step(state, x)
        states.append(state)
    return torch.stack(states)


check("scan", scan_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: follow the types ★★☆ 3 min
#
# On paper. A network reads a text of 20 words. A map turns each word into 8 numbers. A windowed map with windows of 5
# words, one for each place where a whole window fits, makes 16 numbers of each window (step 1, no border). Pooling
# takes the largest of each two neighbouring results, without overlap. A fold reads what is left, and a linear layer
# turns its last state into a class. How many times is the fold's step called?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
steps = ...

check("steps_of_the_fold", steps)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# [word] of 20 → map → [ℝ⁸] of 20 → windows → [ℝ¹⁶] of 20 − 5 + 1 = 16 → pooling → [ℝ¹⁶] of 8 → fold → S → class
check("steps_of_the_fold", (20 - 5 + 1) // 2)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## A choice is a sum type

# %% [markdown] slideshow={"slide_type": "skip"}
# The last line of the table is the subject of the other notebooks. A value of the **sum type** $X + V$ is an $X$ *or* a
# $V$, and it carries a **tag** that says which. To use it, look at the tag and take one branch (*case analysis*). Here:
# a digit is easy or hard, and a small or a large network reads it.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The two networks, not trained
small, large = MLP(64, 16, 10), MLP(64, 512, 10)


# %% slideshow={"slide_type": "-"}
class Easy(NamedTuple):
    image: Tensor


class Hard(NamedTuple):
    image: Tensor


def route(value):  # Easy + Hard → class scores
    match value:
        case Easy(image):
            return small(image)
        case Hard(image):
            return large(image)


# %% [markdown] slideshow={"slide_type": "skip"}
# Their equation is $y = \sum_k z_k f_k(x)$, with a choice $z$. When $z$ is one-hot, it *is* the tag, for a
# whole batch, and `mix_sparse` of the library is the case analysis: it runs option $k$ only on the inputs that chose
# it. We check that both give the same, with a rule of thumb for the tag: much ink is hard.

# %% slideshow={"slide_type": "skip"}
pixels = data.test_x.flatten(1)
hard = pixels.sum(-1) > pixels.sum(-1).median()
values = [Hard(x) if h else Easy(x) for x, h in zip(pixels, hard, strict=True)]
z = F.one_hot(hard.long(), 2).float()  # the tags
with torch.no_grad():
    one_by_one = torch.stack([route(value) for value in values])
    torch.testing.assert_close(one_by_one, mix_sparse(pixels, z, [small, large]))
    always_large = count_flops(large, pixels)
    one_runs = count_flops(mix_sparse, pixels, z, [small, large])
claim(
    "With half of the digits tagged hard, it runs about half of the FLOPs of always running the large one",
    abs(one_runs / always_large - 0.5) < 0.05,
    share=one_runs / always_large,
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The analogy also shows what is missing. In a program, the one who makes the value knows its tag, and the compiler
# checks that each tag has a branch. In a network the tag must be *learnt*, and looking at a tag has no gradient. That
# is notebooks 01 to 04.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## A residual block: from a type to itself · optional

# %% [markdown] slideshow={"slide_type": "skip"}
# A residual block computes $x + f(x)$, so $f(x)$ must be of the type of $x$, and the result is again: $X \to X$. Such a
# function is called an **endomorphism**. Its type allows what modular networks live from: leave a block out, run it
# twice, change the order, stop early. The next cell does all of that, and nothing complains.

# %% slideshow={"slide_type": "-"}
blocks = [MLP(64, 32, 64) for _ in range(4)]


def run(x, order):
    return fold(lambda x, k: x + blocks[k](x), x, order)  # a fold over the blocks


with torch.no_grad():
    for order in ([0, 1, 2, 3], [0, 2], [0, 1, 1, 1, 3], [3, 2, 1, 0], []):
        print(f"blocks {order!s:16} {tuple(pixels.shape)} → {tuple(run(pixels, order).shape)}")

# %% [markdown] slideshow={"slide_type": "skip"}
# The type says that the composition *exists*. It does not say that it is any good: notebooks 05 and 06 measure what
# skipped blocks and early exits cost, and how to train for them.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Do equal shapes fit?
#
# Four networks, the same types: encoder $\mathbb{R}^{64} \to \mathbb{R}^{32}$, head $\mathbb{R}^{32} \to$ class.

# %% [markdown] slideshow={"slide_type": "skip"}
# How far do types carry? We cut a small network into two halves: an *encoder*, which turns an image into 32 numbers,
# and a *head*, which turns the 32 numbers into class scores. Four such networks are trained on all 1,257 training
# images, not moved, each from its own random start, each to above .9. This part is live, with one seed. Then the
# encoder of one is put before the head of another. All shapes fit.

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** How good is the encoder of one network with the head of another? (Guessing is right in 10 %.)
#
# <details><summary>A. Nearly as good as with its own: both learnt the same digits.</summary>
#
# **No.** They learnt the same task, but each in a code of its own.
#
# </details>
#
# <details><summary>B. About half as good.</summary>
#
# **No.** Some pairs are right more often than a guess, but none comes near that.
#
# </details>
#
# <details><summary>C. About as good as guessing.</summary>
#
# **Yes.** On average. A single pair may be far below or above a guess: its errors have a system.
#
# </details>


# %% slideshow={"slide_type": "skip"}
def halves(start):
    torch.manual_seed(1000 * seed + start)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU()), nn.Linear(32, 10)


def learn(part, network, run, lr=5e-3):  # only `part` of the network learns
    generator = torch.Generator().manual_seed(1000 * seed + run)
    stream = batches(data.train_x, data.train_y, generator=generator)
    fit(part, lambda images, label: F.cross_entropy(network(images), label), stream, steps=300, lr=lr)


# %% [markdown] slideshow={"slide_type": "skip"}
# Here both halves of each network learn; the four begin at four starts.


# %% slideshow={"slide_type": "skip"}
def learn_all(networks, first_run, lr=5e-3):  # each with an order of batches of its own
    for run, (encode, head) in enumerate(networks, start=first_run):
        both_halves = nn.Sequential(encode, head)
        learn(both_halves, both_halves, run, lr)


four = [halves(start) for start in range(4)]
learn_all(four, 0)

# %% [markdown] slideshow={"slide_type": "skip"}
# A network that was "trained separately" differs in two things: its random *start*, and the order of its *batches*. To
# see which one matters, we train four more networks that have one start and four orders of batches, then four that
# begin with the same *head* only, and four that begin with the same *encoder* only. And one more group: four encoders
# from four starts, each trained in front of the *same* head, that of network 0, which stays as it is (*frozen*).

# %% slideshow={"slide_type": "skip"}
alike, alike_fast = ([halves(0) for _ in range(4)] for _ in range(2))  # one start
learn_all(alike, 10)
learn_all(alike_fast, 10, lr=3e-2)  # the same at six times the rate

same_head = [(halves(40 + k)[0], halves(0)[1]) for k in range(4)]
same_encoder = [(halves(0)[0], halves(40 + k)[1]) for k in range(4)]
learn_all(same_head, 10)
learn_all(same_encoder, 10)

agreed = [(halves(10 + start)[0], four[0][1]) for start in range(4)]  # four starts, one frozen head
for run, (encode, head) in enumerate(agreed):
    learn(encode, nn.Sequential(encode, head), 20 + run)


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Each encoder with each head
def crossed(encoders, heads):
    """Test accuracy of each encoder (rows) with each head (columns)."""
    with torch.no_grad():
        codes = [encode(data.test_x) for encode in encoders]
        right = [[(head(h).argmax(-1) == data.test_y).float().mean() for head in heads] for h in codes]
    return np.array(right)


groups = (four, alike, alike_fast, same_head, same_encoder)
apart, together, fast, by_head, by_encoder = (crossed(*zip(*group, strict=True)) for group in groups)
to_one = crossed([encode for encode, _ in agreed], [four[0][1]])

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Print: the ranges, and the claims
off = ~np.eye(4, dtype=bool)
rows_of = {"four starts": apart, "one start, four orders of batches": together, "the same, rate 0.03": fast}
rows_of |= {"same start of the head only": by_head, "same start of the encoder only": by_encoder}
for name, table in rows_of.items():
    own, mixed = table[~off], table[off]
    print(f"{name:34} own head {own.min():.2f} to {own.max():.2f}, another's head "
          f"{mixed.min():.2f} to {mixed.max():.2f}, mean {mixed.mean():.2f}")  # fmt: skip
print(f"{'four starts, one frozen head':34} that head {to_one.min():.2f} to {to_one.max():.2f}")
claim("With its own head each is right in more than 0.9", apart[~off].min() > 0.9, lowest=apart[~off].min())
claim(
    "With another's head the mean is that of guessing, to within 0.05",
    abs(apart[off].mean() - 0.1) < 0.05,
    mean=apart[off].mean(),
)
system = (abs(apart[off] - 0.1) > 0.03).mean()  # guessing 540 times strays by 0.013
claim("Yet more than a quarter of the pairs are further than 0.03 from guessing", system > 0.25, share=system)
claim("With another's head none reaches one half", apart[off].max() < 0.5, highest=apart[off].max())
claim("From one start, each pair is right in more than 0.85", together[off].min() > 0.85, lowest=together[off].min())
worst = fast[off].min()
claim("At six times the rate the worst pair is lower", worst < together[off].min() - 0.05, lowest=worst)
low, high = by_encoder[off].mean(), by_head[off].mean()
claim(
    "The head's start alone does more than the encoder's start alone, by 0.2", high > low + 0.2, head=high, encoder=low
)
claim("And less than both, by 0.1", high < together[off].mean() - 0.1, both=together[off].mean())
claim("With the head that they were trained for, all four are above 0.9", to_one.min() > 0.9, lowest=to_one.min())

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Each encoder with each head

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: each encoder with each head
fig, axes = plt.subplots(1, 3, figsize=(10, 3.6), gridspec_kw={"width_ratios": [4, 4, 1.6]})
titles = ["four starts", "one start, four orders", "one frozen head"]
for ax, table, title in zip(axes, (apart, together, to_one), titles, strict=True):
    ax.imshow(table, cmap="Blues", vmin=0, vmax=1.15)
    for i, j in np.ndindex(table.shape):
        ax.text(j, i, f"{table[i, j]:.2f}", ha="center", va="center", color="white" if table[i, j] > 0.6 else "0.1")
    ax.set(xticks=range(table.shape[1]), yticks=range(4), xlabel="head of network")
    ax.set_title(title, fontsize="medium")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
axes[0].set(ylabel="encoder of network")
show(
    fig,
    f"Three tables of test accuracy, encoder by head. Four starts: about {apart[~off].mean():.2f} with the own head, "
    f"between {apart[off].min():.2f} and {apart[off].max():.2f} with another's. One start: at least "
    f"{together[off].min():.2f} everywhere. One frozen head: at least {to_one.min():.2f}.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Every pair has the right shapes, and PyTorch runs it without a word. From four starts, only an encoder with its own
# head works. The mixed pairs are on average no better than guessing, and their errors have a system: a pair that takes
# most threes for eights, and so on, is right less often than one in ten. The shape $\mathbb{R}^{32}$ says how many
# numbers there are, not what the third of them means. Olah: representations are types, and two layers compose only when
# their representations agree.
#
# What makes them agree? Not the data, and not "training together": the four networks of the middle table never met.
# They only began at the same point. Most of that is the start of the *head*: with it alone the mixed pairs are right
# far more often than with the encoder's start alone. But only both together come near to the own head. On the right,
# four encoders were trained towards one head, an agreed *interface*, and are measured with that head.

# %% [markdown] slideshow={"slide_type": "skip"}
# This is for one hidden layer, 300 steps and a rate of 0.005. At 0.03, networks that began together drift apart (third
# line of the print). Longer training and deeper networks we have not measured.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: the same units in another order ★☆☆ 4 min
#
# One reason is easy to see. Reorder the 32 units of an encoder: `h[:, order]` in place of `h`. Nothing is lost, but the
# head reads the wrong numbers. Write `reordered_head(weight, order)`: a head's weight, of shape (classes, units), and
# the order; it returns the weight with which the head gives the same as before, from the reordered units.


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def reordered_head(weight, order):
    return ...


check("reordered_head", reordered_head)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def reordered_head_solution(weight, order):
    return weight[:, order]  # the columns are the units


check("reordered_head", reordered_head_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# How bad is it to reorder and not to tell the head? We try one random order.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: one random order, without and with the head
encode, head = four[0]
order = torch.randperm(32, generator=torch.Generator().manual_seed(seed))
with torch.no_grad():
    h = encode(data.test_x)[:, order]
    told = F.linear(h, head.weight[:, order], head.bias)  # the head in the same order
    accuracy = [(scores.argmax(-1) == data.test_y).float().mean().item() for scores in (head(h), told)]
print("reordered: {:.2f}, the head as well: {:.2f}".format(*accuracy))
claim(
    "Reordered units cost more than half of the accuracy",
    accuracy[0] < accuracy[1] / 2,
    reordered=accuracy[0],
    both=accuracy[1],
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What would make them fit?
#
# - **Begin together**: from one start, at a small rate, halves were exchanged with little loss.
# - **Agree on an interface**: train new encoders for a head that stays fixed.
# - **Reorder**: find which unit of one network is which unit of the other (notebook 12).
# - **Translate**: put one affine layer between, a *stitch* (notebook 12).

# %% [markdown] slideshow={"slide_type": "notes"}
# For modular networks this is the central point of the types. Modules that are to be exchanged must speak one language:
# by a common start, by an interface that is fixed, or by a translation. Notebook 12 measures the last two, with a
# control that shows how little a good translation proves.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What this does not show
#
# - **Tiny images, tiny networks.** 8 × 8 pixels, two layers, one data set.
# - **No attention here.** It was not in the comparison, so we say nothing about it.
# - **Channels were not searched.** Each network spends its budget in one way that we chose.
# - **Types explain, they do not predict.** What an ingredient is worth was measured.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# - Equal parameters and equal FLOPs are two comparisons. Say which.
# - Sharing and pooling work *together*, neighbours add a little: take them out one by one.
# - A bias is a bet on the data: shuffle the pixels, and it is lost.
# - Map and fold use one function at every place; a choice takes one of two.
# - Equal shapes are not equal types: what fits may still not mean the same.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Appendix: three more measurements · optional
#
# Is it the maximum? Does the bias matter less with more data? And does pooling forget the place?

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Is it the maximum?

# %% [markdown] slideshow={"slide_type": "skip"}
# Taking out the pooling changed two more things: three of four windows were not computed, and the maximum went. Four
# controls, all with shared weights, on moved digits. **Mean:** the *mean* of 2 × 2 results in place of the
# largest. **Nothing:** all 64 places are kept in both layers, nothing is pooled; fewer channels keep the parameters
# equal. **4 × 4:** larger windows with stride, as above. **Wide:** stride, and as many FLOPs as with pooling.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: the controls, recorded
controls = {"max pooling": both, "mean pooling": "mean instead of max", "nothing pooled": "nothing instead of max"}
controls |= {
    "stride": "windows + sharing",
    "stride, 4 × 4": "windows of 4 x 4",
    "stride, wide": "windows + sharing, wide",
}
fig, ax = plt.subplots(figsize=(10, 3.9))
labels = {name: f"{label}\n{work[name] / 1000:.0f} k FLOPs" for label, name in controls.items()}
dots = draw_one_each(ax, {labels[name]: final(name) for name in controls.values()}, marked=labels[both])
ax.set(ylabel="test accuracy, moved digits")
ax.legend(dots[:1], ["one seed; bars: mean of five"], frameon=False, loc="upper right", handletextpad=0.1)
ax.set_title(f"windows with shared weights; {record['label']}", fontsize="small", color="0.3")
show(
    fig,
    "Test accuracy of six convolutions on moved digits. "
    + " ".join(f"{label}: {mean(name):.2f}." for label, name in controls.items()),
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: the controls, and the claims
print("moved digits       accuracy (lowest to highest of five seeds)   parameters      FLOPs")
for label, name in controls.items():
    low, high = final(name).min(), final(name).max()
    print(f"{label:16}{mean(name):11.3f} ({low:.3f} to {high:.3f}){size[name]:28,}{work[name]:11,}")
unpooled = max(mean(name) for name in list(controls.values())[2:])
averaged = mean("mean instead of max")
kept = mean("nothing instead of max")
claim("Max and mean pooling are within 0.03", abs(mean(both) - averaged) < 0.03, max=mean(both), mean=averaged)
claim("With nothing pooled it is ahead of stride", kept > mean("windows + sharing"), nothing=kept)
claim(
    "Both kinds of pooling are ahead of the four without by more than 0.05",
    min(mean(both), averaged) > unpooled + 0.05,
    max=mean(both),
    mean=averaged,
    best_without=unpooled,
)

# %% [markdown] slideshow={"slide_type": "notes"}
# It is not the maximum: the mean is nearly as good. Perhaps it is partly that all places are computed: with nothing
# pooled the network is ahead of the one with stride, but its channels and its last layer differ, too. Most of the gain
# needs the pooling. And it is not the FLOPs: stride with as many FLOPs as max pooling, and four times the parameters,
# stays far behind.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### More data, less bias?

# %% [markdown] slideshow={"slide_type": "skip"}
# A bias stands in for data: what the network knows by its build, it need not learn. Does it matter less with more data?
# We measure it in two ways. Fresh digits: 100, 300 or 1,000 of them. Fresh *moves*: 300 digits, but each batch
# moves them anew, so that the MLP can learn from the data what pooling knows beforehand. (With 1,000 images and with
# fresh moves all networks get 1,000 steps, else 500.)

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: accuracy against the number of training images, recorded
columns = {"100": "moved, 100 images", "300": "moved", "1,000": "moved, 1,000 images", "300, moved anew": "moved anew"}
three = {"MLP": "MLP", "MLP, wide": "MLP, wide", "windows + sharing + pooling": both}
fig, ax = plt.subplots(figsize=(10, 3.9))
draw(ax, three, columns)
ax.set(xlabel="digits for training", ylabel="test accuracy, moved digits")
ax.set_title(record["label"], fontsize="small", color="0.3")
show(
    fig,
    "Test accuracy of three networks for 100, 300 and 1,000 digits, and for 300 that are moved anew. "
    + " ".join(
        f"{label}: " + ", ".join(f"{mean(name, kind):.2f}" for kind in columns.values()) + "."
        for label, name in three.items()
    ),
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Print: the lead of the convolution with pooling, and the claims
columns |= {"anew, 500 steps": "half"}
for name in three.values():  # the second of four quarters, each at its best rate there
    runs = by_case[f"moved anew: {name}"].values()
    best = max(runs, key=lambda entries: np.mean([entry["validation"][1] for entry in entries]))
    result[f"half: {name}"] = np.array([entry["test"][:2] for entry in best])
print(f"{'':30}" + "".join(f"{column:>17}" for column in columns))
leads, ratios = {}, {}
for name in ("MLP", "MLP, wide"):
    ends = {column: (mean(both, kind), mean(name, kind)) for column, kind in columns.items()}
    leads[name] = {column: ours - other for column, (ours, other) in ends.items()}
    ratios[name] = {column: (1 - ours) / (1 - other) for column, (ours, other) in ends.items()}
    print(f"lead over {name:20}" + "".join(f"{value:17.3f}" for value in leads[name].values()))
    print(f"errors, as a share of {name:8}" + "".join(f"{value:17.2f}" for value in ratios[name].values()))
lead, share = (list(table["MLP, wide"].values()) for table in (leads, ratios))
claim("Over the wide MLP, the lead shrinks from 100 to 300 to 1,000", lead[0] > lead[1] > lead[2])
claim(
    "The share of errors does not: it stays between 0.55 and 0.75",
    0.55 < min(share[:3]) < max(share[:3]) < 0.75,
    low=min(share[:3]),
    high=max(share[:3]),
)
claim("With fresh moves, after 500 steps and after 1,000, the lead is less than 0.02", max(map(abs, lead[3:])) < 0.02)

# %% [markdown] slideshow={"slide_type": "notes"}
# With more digits, the lead over the wide MLP shrinks from .15 to .03. But all networks come nearer to 1, so a lead
# must shrink. Of the errors that the wide MLP makes, the convolution with pooling makes about two thirds, at 100, 300
# and 1,000 digits alike: up to here, more digits do not make the bias matter less. (At 1,000 the steps doubled as
# well.)
#
# With fresh moves the lead over the wide MLP is gone, after 500 steps already. It has learnt from the data what the
# other one knew beforehand. That took 15 times the parameters, and somebody who knew that moves do not matter: the bias
# went from the network into the data.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ### Which place?

# %% [markdown] slideshow={"slide_type": "skip"}
# Pooling forgets where something was. So turn the question round: the same moved digits, but the label is the *place*,
# 0 to 8, to which the image was moved. Before we ran it, we expected the networks with pooling to be last.

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Print: which place? Five networks of equal parameters, recorded
print("label = place       accuracy (lowest to highest of five seeds)")
for name in SMALL:
    values = final(name, "place")
    print(f"{name:30}{values.mean():8.3f} ({values.min():.3f} to {values.max():.3f})")
places = {name: mean(name, "place") for name in SMALL}
claim("All five are right in more than 0.9", min(places.values()) > 0.9, lowest=min(places.values()))
claim("With pooling it is within 0.02 of the MLP", abs(places[both] - places["MLP"]) < 0.02, pooling=places[both])

# %% [markdown] slideshow={"slide_type": "notes"}
# We were wrong. All five know the place nine times of ten, and with pooling it is no worse than the MLP. Perhaps
# because after two poolings 2 × 2 places are left, and the frame of zeros shows; we have not tested that. A bias is not
# a wall: what a network finds hard, it may still learn.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: what pooling cannot see ★★☆ 5 min · optional
#
# Something *is* lost in one layer of max pooling. Write `lost_by_pooling(image)`: an image of shape `(m, n)`, both
# even, in; *another* image of that shape out, of which max pooling of 2 × 2 pixels gives exactly the same.


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def lost_by_pooling(image):
    return ...


check("lost_by_pooling", lost_by_pooling)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def lost_by_pooling_solution(image):
    other = image.clone()
    k = int(image[:2, :2].argmin())
    other[k // 2, k % 2] -= 1  # the smallest of four; if all are equal, the other three keep the maximum
    return other


check("lost_by_pooling", lost_by_pooling_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - C. Olah, *Neural Networks, Types, and Functional Programming*, blog post, 3 September 2015.
# - S. d'Ascoli, L. Sagun, J. Bruna, G. Biroli, *Finding the Needle in the Haystack with Convolutions: on the benefits
#   of architectural bias*, NeurIPS 2019.
# - G. F. Elsayed, P. Ramachandran, J. Shlens, S. Kornblith, *Revisiting Spatial Invariance with Low-Rank Local
#   Connectivity*, ICML 2020: between shared and own weights.
# - E. Malach, S. Shalev-Shwartz, *Computational Separation Between Convolutional and Fully-Connected Networks*, ICLR
#   2021: a task where locality is what counts.
# - M. Lin, Q. Chen, S. Yan, *Network In Network*, ICLR 2014: an MLP in every window.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
