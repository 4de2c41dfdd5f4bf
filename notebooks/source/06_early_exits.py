# %% [markdown] slideshow={"slide_type": "slide"}
# # Early exits: stop when you are sure
#
# **Notebook 06** · *Designing efficient and modular neural networks*
#
# A deep network spends the same work on every input. Some inputs are easy.
# Can it answer these early, and keep its depth for the others?

# %% [markdown] slideshow={"slide_type": "skip"}
# **After this notebook you can** add exits to any chain of blocks; train them in three ways, and say what each way
# costs; decide when to leave, and tune that decision fairly; say what is saved in FLOPs and in seconds, for one input,
# for a batch, for the slowest; explain differentiable branching, and what its gates learnt here; and name the smaller
# network that every early exit has to be compared with. **You need** softmax, notebook 00 (its promise 2 has three
# exits), and for the last part gradients through a choice (02).
#
# Code that draws or prepares is folded: click on its title to open it. Where it says *Predict*, guess before you click.
# Lines that begin with ✓ or ✗ compare the text with the numbers. *Recorded* results took minutes; the command below the
# figure makes them again. *Ahead* and *behind* mean: in every seed. Otherwise two things are *level*; of a mean alone
# we say "on average". Exits, blocks and heads count from 0: exit 0 is the first.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Imports, the seed, the records and how they are read
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lecture_lib import exits, plots, recorded
from lecture_lib.choice import stick_breaking
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.data import digits
from lecture_lib.exits import expected_cost, infer, joint_loss
from lecture_lib.mixture import mix_sparse
from lecture_lib.notebook import check, claim, setup, show
from lecture_lib.recorded import early_exits as six
from lecture_lib.recorded import early_exits_branching as gated
from lecture_lib.training import fit
from lecture_lib.widgets import Exits

seed = setup(0)
K = six.K  # six exits
records = {name: recorded.load(f"early_exits_{name}") for name in ("more", "longer", "branching", "controls")}
record = recorded.load("early_exits")
entries = record["entries"] + records["more"]["entries"]
entries += [entry | {"way": entry["way"] + " × 3"} for entry in records["longer"]["entries"]]


def nets(way):
    """The entries of a way to train, one a seed, at the rate that is best on held-out images, mean over the exits."""
    return six.best([entry for entry in entries if entry["way"] == way], lambda entry: np.mean(entry["held out"]))


def per_exit(way):
    """Test accuracy at each exit: (seeds, K)."""
    return np.array([entry["test"] for entry in nets(way)])


def at(way, budget, rule="entropy"):
    """Test accuracy and cost within a budget, the threshold picked on held-out images: (seeds, 2)."""
    return np.array([six.within(entry[rule], budget)[2:] for entry in nets(way)])


def spread(values):
    return f"{np.mean(values):.3f} ({np.min(values):.3f} to {np.max(values):.3f})"


# %% [markdown] slideshow={"slide_type": "slide"}
# ## A classifier after every block

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: four blocks, four heads, an image that leaves at exit 1
fig, ax = plt.subplots(figsize=(10, 3.4))
plots.exits(ax, ["3? or 5?", "3!", "", ""], 1)
show(
    fig,
    "A chain of four blocks, 0 to 3, with a head above each. Head 0 hesitates between 3 and 5, head 1 is sure of 3, "
    "and the image leaves there. Blocks and heads 2 and 3 are dashed: they are not run.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Question.** Can a network stop in the middle?
#
# **Idea.** Cut a network into $K$ **blocks**. After block $k$ stands a **head**: a small classifier that reads what the
# block gives. Block and head make **exit** $k$. An image runs through block 0, asks head 0, and leaves if the answer is
# sure enough. Otherwise it goes on. The last exit takes whoever is left. In the one equation of the lecture,
# $y = \sum_k z_k f_k(x)$: option $f_k$ is the network up to exit $k$, and $z_k = 1$ where one leaves.
#
# Inception (Szegedy et al. 2015) had such side classifiers to help *training*, and threw them away. BranchyNet
# (Teerapittayanon et al. 2016) keeps them, and leaves by them. What lies behind the exit is not multiplied by zero. It
# does not run.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Our network: six exits

# %% [markdown] slideshow={"slide_type": "skip"}
# The task is that of notebook 00: 8 × 8 digits, each with noise of its own strength. Most have little noise, some
# have so much that nobody can read them. 1,000 images are for training, 257 are **held out** (to pick rates and
# thresholds), and 540 are for the **test**: only reported, never used to pick. Block 0 is a convolution with 16
# channels. Each later block is a *residual* one, `h + relu(convolution(h))`, and sees one pixel further. A head takes
# the mean of each quarter of the image, then one linear layer.
#
# `EarlyExitNet` of the library holds blocks and heads. The cell writes its training out, for one batch: the **sum of
# the losses of all exits**. `fit` then takes 300 steps (the recorded results below have 600). Look at the costs.

# %% slideshow={"slide_type": "-"}
torch.manual_seed(seed)
net = six.make()  # EarlyExitNet(blocks, heads)


def sum_of_losses(x, label):
    h, loss = x, 0
    for block, head in zip(net.blocks, net.heads, strict=True):
        h = block(h)
        loss = loss + F.cross_entropy(head(h), label)
    return loss


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Compare with the library's joint_loss, train, print costs and accuracies
x, digit = (part[:540] for part in six.examples("test"))  # each test image once
torch.testing.assert_close(sum_of_losses(x, digit), joint_loss(net(x), digit))
fit(net, sum_of_losses, six.stream(seed), steps=300, lr=1.2e-2, label="300 steps")
net.eval()
with torch.no_grad():
    logits = net(x)  # (K, 540, 10)
costs, full_flops = six.flops(), six.full()
accuracy = (logits.argmax(-1) == digit).double().mean(-1)
print(f"without exits, an image costs {full_flops:,} FLOPs")
print("exit            " + "".join(f"{k:10}" for k in range(K)))
print("FLOPs to there  " + "".join(f"{cost:10,}" for cost in costs))
print("share of full   " + "".join(f"{cost / full_flops:10.3f}" for cost in costs))
print("test accuracy   " + "".join(f"{a:10.3f}" for a in accuracy))
head_flops = count_flops(net.heads[0], torch.zeros(1, 16, 8, 8))
claim("A head costs less than half a percent of a residual block", head_flops < 0.005 * (costs[1] - costs[0]))
claim("At the last exit, an image costs more than in the network without exits", costs[-1] > full_flops)
claim("The last exit is more accurate than exit 0, by 0.05 or more", accuracy[-1] - accuracy[0] > 0.05)

# %% [markdown] slideshow={"slide_type": "-"}
# - An exit pays for **all blocks and all heads** up to it.
# - Heads are cheap here: ten classes. A vocabulary of 50,000 words is another matter (notebook 07).
# - Who stays to the end pays *more* than without exits.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: the mean cost ★☆☆ 3 min
#
# On paper. A network has three exits. Each block costs 10, each head costs 1. Half of the examples leave at exit 0,
# 30 % at exit 1, 20 % at exit 2, the last. What does an example cost on average?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
mean_cost = ...

check("exit_cost", mean_cost)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# leaving costs 11, 22 and 33: one block and one head for each exit that is passed, the last one included
check("exit_cost", 0.5 * 11 + 0.3 * 22 + 0.2 * 33)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Leaving, written out

# %% [markdown] slideshow={"slide_type": "skip"}
# How sure is a head? The simplest measure is its **confidence**, the largest probability of its softmax. We leave where
# it reaches a threshold $\theta$. The function below is all of it. `left` holds the places of the images that are still
# inside. The line that saves is the one before the last: `h` becomes a smaller batch, and the next block runs on these
# rows only.
#
# `infer` of the library does the same for any **rule**, a function that says for each image in the batch whether to
# stop; `above_confidence` makes this rule. The folded cell checks that both agree on every image, and counts FLOPs.


# %% slideshow={"slide_type": "-"}
@torch.no_grad()
def leave_early(net, x, threshold):
    answer, exit_of = torch.zeros(len(x), 10), torch.zeros(len(x), dtype=torch.long)
    left, h = torch.arange(len(x)), x
    for k, (block, head) in enumerate(zip(net.blocks, net.heads, strict=True)):
        h = block(h)
        answer[left] = head(h)  # until a later exit says otherwise
        exit_of[left] = k
        stay = answer[left].softmax(-1).amax(-1) < threshold
        left, h = left[stay], h[stay]
    return answer, exit_of


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Compare with infer; accuracy and FLOPs at the threshold 0.8
answer, exit_of = leave_early(net, x, 0.8)
exited = infer(net, x, exits.above_confidence(0.8))
torch.testing.assert_close(exited.logits, answer)
torch.testing.assert_close(exited.exit_index, exit_of)
spent = torch.tensor(costs)[exit_of]
counted = count_flops(infer, net, x, exits.above_confidence(0.8))
saved = 1 - counted / len(x) / full_flops
print("share of the images that leave at each exit:", exit_of.bincount(minlength=K).div(len(x)).numpy().round(2))
print(
    f"accuracy {(answer.argmax(-1) == digit).double().mean():.3f}, at {1 - saved:.0%} of the FLOPs of the full network"
)
claim("The counter finds the FLOPs of the exits that were taken, to the last one", counted == spent.sum())
claim("At the threshold 0.8, a quarter of the FLOPs or more is saved", saved > 0.25, saved=saved)

# %% [markdown] slideshow={"slide_type": "-"}
# That is a mean over images, and a saving beside *the same* network. Three questions follow. How do we **train** exits?
# How do we **decide**? And would a **smaller network** have done?

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Who leaves where

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: images that leave at each exit
fig, axes = plt.subplots(3, 11, figsize=(10, 3.3), width_ratios=[2.6] + [1] * 10)
rows = [0, 2, K - 1]
for row, k in zip(axes, rows, strict=True):
    there = (exit_of == k).nonzero().squeeze(-1)
    row[0].text(1, 0.5, f"exit {k}: {len(there) / len(x):.0%}", ha="right", va="center", transform=row[0].transAxes)
    for ax, i in zip(row[1:], there, strict=False):
        ax.imshow(x[i, 0], cmap="gray_r", vmin=-0.3, vmax=1.3)
    for ax in row:
        ax.axis("off")
show(
    fig,
    "Three rows of digits, those that leave at exits 0, 2 and 5 at the threshold 0.8. Clean and noisy ones are in "
    "each row; in the last, some that nobody could read.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claim about the noise
noise = (x[:, 0] - digits().test_x).flatten(1).std(1)
stayed, left_before = noise[exit_of == K - 1].mean(), noise[exit_of < K - 1].mean()
claim(
    "Who stays to the end has more than 1.1 times the noise of those who left before",
    stayed > 1.1 * left_before,
    stayed=stayed,
    left_before=left_before,
)
to_the_end = (exit_of == K - 1).double().mean()
claim("More than one image in ten goes to the end", to_the_end > 0.1, share=to_the_end)

# %% [markdown] slideshow={"slide_type": "notes"}
# Nobody gave the network the strength of the noise. Still, who stays to the end has more of it, on average; some noisy
# digits leave at exit 0, too. In the last row are some that nobody can read: for them, all blocks run in vain.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Three ways to train
#
# | | loss | what learns | a step costs |
# |---|---|---|---|
# | **joint** | $\sum_k L_k$ | everything | all blocks, both ways |
# | **layer-wise** | $L_0$, then $L_1$, … | block $k$, head $k$ | to block $k$, back one |
# | **separate** | last $L$, then others | network, then heads | all; then forward |

# %% [markdown] slideshow={"slide_type": "notes"}
# $L_k$ is the cross-entropy of exit $k$. **Joint** (BranchyNet): the lower blocks serve all exits. **Layer-wise**:
# train block 0 with head 0 and freeze them; put block 1 and head 1 on top, and so on. Backward needs the memory of one
# block only; no block knows what comes behind it. **Separate**: take a trained network, freeze it, and train heads. It
# is the only way for a network that you cannot train again. (The three are those of Scardapane et al. 2020.)
#
# **Equal in what?** A step of layer-wise training is cheaper. So *equal batches* and *equal FLOPs of training* are two
# different comparisons. We make both: 600 batches for everyone; and for everyone the FLOPs of 600 joint steps, forward
# and backward of all stages counted.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: equal FLOPs of training ★★☆ 3 min
#
# On paper. Three blocks; heads cost nothing. Forward through a block costs 1; backward through it costs 2 more, if it
# learns: 1 for its weights, 1 for its input. (Frozen blocks run forward only.) Joint training takes 600 steps.
# Layer-wise training may spend the same in total, with the same number of steps in each of its three stages. How many
# steps has a stage?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
steps_of_a_stage = ...

check("equal_compute", steps_of_a_stage)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
# a joint step costs 3 · 3 = 9; steps of the stages cost 3, 1 + 3 and 2 + 3, 12 together
check("equal_compute", 600 * 9 / 12)

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** At *equal batches*, 600 in all: which training has the most accurate exit 0?
#
# <details><summary>A. Layer-wise: block 0 learns for head 0 alone.</summary>
#
# **No.** Its first stage has only 100 of the 600 batches. In the other five, exit 0 is frozen.
#
# </details>
#
# <details><summary>B. Joint.</summary>
#
# **Yes.** Block 0 and head 0 learn in all 600 batches, and head 0 has a loss of its own.
#
# </details>
#
# <details><summary>C. Separate: the best features, then a head.</summary>
#
# **No.** Its head 0 learns in only 200 of the 600 batches.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# The library has the three ways; each takes a network and a `fit`. The cell runs each for one step of a stage and
# counts its FLOPs: the trick is a `fit` that only counts. Forward, a block takes about 9.5 MFLOPs (block 0 less); the
# lowest that learns needs no gradient of its input: it pays 2 forwards, not 3. Then the record: three learning rates
# for each way, the best on held-out images, five seeds. Look at exit 0, and at the last exit beside *full*, the network
# without exits.

# %% slideshow={"slide_type": "skip"}
ways = {
    "joint": exits.train_jointly,
    "layer-wise": exits.train_layerwise,
    "separate": exits.train_separately,
}
for name, regime in ways.items():
    stages = []
    regime(
        six.make(), lambda model, loss, to=stages: to.append(count_flops(lambda: loss(x[:32], digit[:32]).backward()))
    )
    print(f"{name:11} MFLOPs of a step in each stage:", *(f"{flops / 1e6:.0f}" for flops in stages))

# %% slideshow={"slide_type": "skip"} tags=["fold", "guess"]
# @title Open after your guess: accuracy at each exit, recorded
print(f"test accuracy, mean of 5 seeds                          {record['label']}")
print("                     batches  GFLOPs   exit " + "".join(f"{k:7}" for k in range(K)))
acc = {}
for name in (*ways, "layer-wise, FLOPs", "separate, FLOPs", "full"):
    acc[name] = per_exit(name)
    batches, gflops = sum(six.plan(name)[2]), six.training_flops(name) / 1e9
    values = "".join(f"{v:7.3f}" for v in acc[name].mean(0)).rjust(7 * K)
    print(f"{name:20}{batches:8,}{gflops:8.1f}        {values}")
print("python -m lecture_lib.recorded early_exits")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## How good is each exit?

# %% slideshow={"slide_type": "-"} tags=["fold", "guess"]
# @title Draw: accuracy at each exit, at equal batches and at equal FLOPs of training
fig, axes = plt.subplots(1, 2, figsize=(10, 3.7), sharey=True)
for ax, equal, title in zip(axes, ("", ", FLOPs"), ("equal batches: 600", "equal FLOPs of training"), strict=True):
    plots.curves(ax, range(K), {name: acc[name + equal * (name != "joint")] for name in ways}, legend=False)
    ax.axhline(acc["full"].mean(), color="0.3", ls=(0, (1, 1)), label="full: no exits, same blocks")
    ax.set(xlabel="exit", title=title, ylim=(0.5, 1))
axes[0].set_ylabel("test accuracy (axis from 0.5)")
axes[1].legend(frameon=False, loc="lower right", fontsize="small")
fig.supxlabel(f"bands: lowest to highest seed; {record['label']}", fontsize="small", color="0.3")
show(
    fig,
    "Test accuracy at exits 0 to 5. "
    + " ".join(
        f"{name}: {', '.join(f'{v:.2f}' for v in values.mean(0))}."
        for name, values in acc.items()
        if values.shape[1] > 1
    )
    + f" The full network without exits: {acc['full'].mean():.2f}.",
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about the three trainings
ahead = {name: acc["joint"] - acc[name] for name in acc if acc[name].shape[1] > 1}  # (seeds, K)
for_0 = [ahead[name][:, 0] for name in ("layer-wise", "separate")]
claim(
    "Equal batches: at exit 0 joint training is ahead of both others in all five seeds, by 0.05 or more on average",
    min(a.min() for a in for_0) > 0 and min(a.mean() for a in for_0) > 0.05,
    layer_wise=for_0[0].mean(),
    separate=for_0[1].mean(),
)
claim(
    "Equal batches: at the last exit layer-wise training is 0.08 or more behind joint in all five seeds",
    ahead["layer-wise"][:, -1].min() >= 0.08,
    smallest=ahead["layer-wise"][:, -1].min(),
)
behind = -ahead["layer-wise, FLOPs"]  # how far joint is behind
claim(
    "Equal FLOPs: at no exit is layer-wise training behind joint, not even on average; at exit 1 it is ahead in all "
    "five seeds, by 0.015 to 0.02 on average",
    behind.mean(0).min() >= 0 and behind[:, 1].min() > 0 and 0.015 < behind[:, 1].mean() < 0.02,
    least=behind.mean(0).min(),
    exit_1=behind[:, 1].mean(),
)
apart = ahead["separate, FLOPs"]
claim(
    "Equal FLOPs: separate training is behind joint by 0.055 to 0.065 at exits 0 to 3, on average, and at exits 0 and "
    "1 in all five seeds",
    0.055 < apart.mean(0)[:4].min() and apart.mean(0)[:4].max() < 0.065 and apart[:, :2].min() > 0,
    largest=apart.mean(0)[:4].max(),
)
last_gap = acc["joint"][:, -1] - acc["full"][:, 0]
claim(
    "The last exit of joint training and the full network without exits: level, and within 0.01 on average",
    abs(last_gap.mean()) < 0.01 and last_gap.min() < 0 < last_gap.max(),
    joint=acc["joint"][:, -1].mean(),
    full=acc["full"].mean(),
)

# %% [markdown] slideshow={"slide_type": "skip"}
# Are the early exits of *separate* training weak as the frozen features do not suit them, or as its heads had too few
# steps (258 at equal FLOPs)? A second record: a network learns for 600 steps, with its last head only, at the rate of
# joint training (not the best rate of *full*), and is frozen; then heads 0 to 4 learn for 1,300.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Heads with 1,300 steps on a frozen network, recorded
controls = records["controls"]["entries"]
patient = np.array([entry["heads"] for entry in controls])
print(f"test accuracy, mean of 5 seeds; {records['controls']['label']}")
beside = {"separate, FLOPs": acc["separate, FLOPs"], "heads: 1,300 steps": patient, "joint": acc["joint"]}
for name, values in beside.items():
    print(f"{name:20}" + "".join(f"{v:7.3f}" for v in values.mean(0)))
spent = np.dot((600, 1300), six.step_flops("separate")) / six.training_flops("joint")
print(f"heads with 1,300 steps: {spent:.1f} times the training FLOPs of the others")
print("python -m lecture_lib.recorded early_exits_controls")
short = acc["joint"] - patient
claim(
    "Heads with 1,300 steps: exits 0 to 4 are level with those of joint training, at exit 0 within 0.01 on average",
    all(short[:, k].min() < 0 < short[:, k].max() for k in range(K - 1)) and abs(short[:, 0].mean()) < 0.01,
    exit_0=short[:, 0].mean(),
)
claim(
    "At exits 2 and 3 they are 0.01 to 0.02 behind on average",
    0.01 < short.mean(0)[2:4].min() and short.mean(0)[2:4].max() < 0.02,
    exit_2=short[:, 2].mean(),
    exit_3=short[:, 3].mean(),
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Equal batches:** joint training is ahead at exit 0, by 8 points (separate) and 15 (layer-wise). Layer-wise training
# is far behind: each of its stages saw 100 batches. **Equal FLOPs:** layer-wise training sees 4.4 times as
# many batches, and is *level* with joint, at exit 1 ahead by almost two points. Which is better depends on what is
# scarce, data or compute.
#
# **Separate** training, at equal FLOPs, is six points behind joint at exits 0 to 3 on average. Most of that is too few
# steps: with 1,300 for its heads (1.7 times the FLOPs), exits 0 to 4 are level. On average exits 2 and 3 stay almost
# two points behind: perhaps the frozen features.
#
# **The last exit** of joint training is level with *full*: the exits on the way neither helped nor
# hurt it here.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## How to decide
#
# | rule | leave when | what it asks |
# |---|---|---|
# | entropy | entropy ≤ a threshold, in nats | is the whole prediction sharp? |
# | confidence | largest $p \ge \theta$ | how sure is it of the winner? |
# | margin | largest minus second largest $p \ge$ a threshold | is the second far behind? |
# | patience | $P$ exits in a row agreed with the one before | has it changed its mind? |
# | vote | confidence of the *mean* of all exits so far $\ge \theta$ | what do all of them say? |

# %% [markdown] slideshow={"slide_type": "notes"}
# The entropy of probabilities $p$ is $-\sum_c p_c \log p_c$: 0 nats if one class has everything, $\log 10 \approx 2.3$
# if ten classes are alike (BranchyNet). Margin is that of CALM (Schuster et al. 2022). **Patience** (PABEE, Zhou et
# al. 2020) looks at no probability, only at agreement. A **vote** uses the answers that were paid for anyway: the
# *arithmetic* mean of the probabilities (Qendro et al. 2021), or the *geometric* one (Zero Time Waste, Wołczyk et al.
# 2021, with learnt weights there; plain here).
#
# Heads can be too sure or not sure enough. **Calibration** divides the logits of each head by a temperature $\lambda$,
# fitted on held-out images. It changes no answer, but the same threshold now means the same at each exit.

# %% [markdown] slideshow={"slide_type": "skip"}
# A rule is a function of the logits of all exits so far, `(k + 1, n, 10)`, and the state `h`; the answer is a boolean
# for each of the `n` images. You can write your own:


# %% slideshow={"slide_type": "skip"}
def below_entropy(threshold):
    def rule(logits, h):
        p = logits[-1].softmax(-1)
        return -(p * p.log()).sum(-1) <= threshold

    return rule


mine, theirs = (infer(net, x, make(0.5)) for make in (below_entropy, exits.below_entropy))
torch.testing.assert_close(mine.exit_index, theirs.exit_index)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Predict.** Patience with $P = 1$. Which is the first exit at which an image can leave?
#
# <details><summary>A. Exit 0</summary>
#
# **No.** There is nothing before it to agree with.
#
# </details>
#
# <details><summary>B. Exit 1</summary>
#
# **Yes.** One agreement needs two answers. With $P = 2$ it is exit 2.
#
# </details>
#
# <details><summary>C. Exit 2</summary>
#
# **No.** That is for $P = 2$: two agreements, three answers.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: patience ★★☆ 6 min
#
# Write `patience_exit(said, patience)`. `said` is `(K, N)`: the class that each of K exits predicts for each of N
# examples. A counter starts at 0. When an exit agrees with the one before it, the counter goes up by 1; when it
# disagrees, the counter goes back to 0. An example leaves as soon as the counter reaches `patience`, and at the last
# exit in any case. Return the exits, `(N,)`.


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

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Each rule tuned alike

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Which rule is best?
#
# **A fair comparison.** All rules judge the same five jointly trained networks. Each threshold has twelve settings,
# spread over its own held-out scores. For a budget, we take the setting with the best *held-out* accuracy among those
# whose *held-out* mean cost is within the budget; if there is none, the cheapest (patience at 21 %). Then we report
# *test* accuracy. Patience has five settings, the $P$ that six exits allow. So there is also an entropy rule with five
# (*few*); and patience gets budgets that suit it, what its own $P = 1$ and $P = 2$ cost. The simplest rule is a *cut*:
# one exit for everybody. (Held-out cost is not test cost: it may end a little above.)
#
# All for networks of 600 steps, and for three of 1,800.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Read the record: each rule within three budgets, and at the costs of patience
names = ["entropy", "confidence", "margin", "patience", "calibrated entropy", "arithmetic vote", "geometric vote"]
budgets = [costs[k] / full_flops + 1e-3 for k in (1, 2, 3)]  # what everybody costs at exits 1, 2, 3: 21, 41, 61 %
joint_nets = nets("joint")
by_rule, by_rule_longer = (
    {name: np.stack([at(way, budget, name) for budget in budgets], 1) for name in (*names, "entropy, few", "cut")}
    for way in ("joint", "joint, longer")
)  # of each rule (seeds, budgets, accuracy and cost)
for steps, found in (("600 steps, 5 seeds", by_rule), ("1,800 steps, 3 seeds", by_rule_longer)):
    print(f"test accuracy and mean cost within a budget, as shares of the full network; {steps}")
    print(f"{'':22}" + "".join(f"{f'budget {b:.0%}':>18}" for b in budgets))
    for name, values in found.items():
        print(f"{name:22}" + "".join(f"{a:10.3f} at {c:4.0%}" for a, c in values.mean(0)))
print("temperatures of the exits:", np.mean([entry["temperatures"] for entry in joint_nets], 0).round(2))
at_patience = {}
for P in (1, 2):
    for settings, rule in ((12, "entropy"), (5, "entropy, few")):
        rows = [(e["patience"][P - 1], six.within(e[rule], e["patience"][P - 1][1])) for e in joint_nets]
        at_patience[P, settings] = np.array([[*own[2:], *other[2:]] for own, other in rows])
        a, c, a2, c2 = at_patience[P, settings].mean(0)
        print(f"patience, P = {P}: {a:.3f} at {c:.0%}; entropy of {settings} settings there: {a2:.3f} at {c2:.0%}")
print("python -m lecture_lib.recorded early_exits early_exits_more")

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: the lead over the entropy rule, within three budgets
fig, ax = plt.subplots(figsize=(10, 3.6))
others = [name for name in (*names, "entropy, few", "cut") if name != "entropy"]
for i, budget in enumerate(budgets):
    leads = np.array([100 * (by_rule[name] - by_rule["entropy"])[:, i, 0] for name in others])
    middle = leads.mean(1)
    reach = [middle - leads.min(1), leads.max(1) - middle]
    place = np.arange(len(others)) + 0.22 * (i - 1)
    ax.errorbar(place, middle, reach, fmt="os^"[i], ms=8, capsize=4, color=f"C{i}", label=f"budget {budget:.0%}")
ax.axhline(0, color="0.3", lw=1)
ax.set_xticks(range(len(others)), [name.replace(" ", "\n", 1) for name in others], fontsize="small")
low, high = ax.get_ylim()
ax.set(ylabel="points ahead of entropy", ylim=(low, high + 0.2 * (high - low)))  # room for the legend
ax.legend(frameon=False, ncols=3, loc="upper right", fontsize="small")
ax.set_title(f"mean, lowest and highest seed; {record['label']}", fontsize="small", color="0.3")
show(
    fig,
    "Test accuracy of each rule minus that of the entropy rule, in points, within budgets of 21, 41 and 61 %. "
    + "; ".join(
        f"{name}: " + ", ".join(f"{v:+.1f}" for v in 100 * (by_rule[name] - by_rule["entropy"])[..., 0].mean(0))
        for name in others
    )
    + ".",
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about the rules
leads, longer = (
    {name: (one[name] - one["entropy"])[..., 0] for name in one} for one in (by_rule, by_rule_longer)
)  # (seeds, budgets)
claim(
    "Entropy, confidence and margin: within 41 and 61 %, in each seed at most 0.002 apart",
    max(abs(leads[name][:, 1:]).max() for name in ("confidence", "margin")) < 0.002,
    largest=max(abs(leads[name][:, 1:]).max() for name in ("confidence", "margin")),
)
claim(
    "Within 21 %, they are at most 0.006 apart on average, and none is ahead in all five seeds",
    all(abs(leads[name][:, 0].mean()) < 0.006 and leads[name][:, 0].min() < 0 < leads[name][:, 0].max()
        for name in ("confidence", "margin")),
    margin=leads["margin"][:, 0].mean(),
)  # fmt: skip
behind = {which: values[:, 2] - values[:, 0] for which, values in at_patience.items()}
claim(
    "At the costs of P = 1 and of P = 2, patience is behind entropy of twelve settings in all five seeds",
    min(behind[1, 12].min(), behind[2, 12].min()) > 0,
    P_1=behind[1, 12].mean(),
    P_2=behind[2, 12].mean(),
)
half = at_patience[1, 5][:, 3].mean() / at_patience[1, 5][:, 1].mean()
claim(
    "With five settings for both: P = 2 is behind in all five seeds; P = 1 is level, and entropy has less than half "
    "its FLOPs there",
    behind[2, 5].min() > 0 and behind[1, 5].min() < 0 < behind[1, 5].max() and half < 0.5,
    P_1=behind[1, 5].mean(),
    P_2=behind[2, 5].mean(),
    FLOPs=half,
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about votes, a cut, calibration and the number of settings
votes, votes_longer = (np.array([one["arithmetic vote"], one["geometric vote"]]) for one in (leads, longer))
claim(
    "600 steps: both votes are behind entropy within 41 and 61 % in all five seeds, and level with it within 21 %",
    votes[:, :, 1:].max() < 0 and votes[:, :, 0].min(1).max() < 0 < votes[:, :, 0].max(1).min(),
    mean=votes[:, :, 1:].mean(),
    within_21=votes[:, :, 0].mean(),
)
claim(
    "1,800 steps: both votes are behind entropy within each budget, in all three seeds, by 0.005 to 0.01 on average",
    votes_longer.max() < 0 and 0.005 <= -votes_longer.mean(1).max() and -votes_longer.mean(1).min() <= 0.01,
    closest=votes_longer.max(),
)
claim(
    "1,800 steps: a cut and patience are behind entropy within each budget, in all three seeds, by 0.013 or more on "
    "average",
    all(longer[name].max() < 0 and longer[name].mean(0).max() < -0.013 for name in ("cut", "patience")),
    cut=longer["cut"].mean(),
    patience=longer["patience"].mean(),
)
claim(
    "Calibration changes the mean accuracy by less than 0.005 within each budget",
    abs(leads["calibrated entropy"].mean(0)).max() < 0.005,
    largest=abs(leads["calibrated entropy"].mean(0)).max(),
)
claim(
    "With five settings in place of twelve, entropy is 0.02 or more behind within 21 %, in all five seeds",
    leads["entropy, few"][:, 0].max() <= -0.02,
    mean=leads["entropy, few"][:, 0].mean(),
)
three = np.array([leads["cut"] - leads[name] for name in ("entropy", "confidence", "margin")])
claim("A cut, one exit for all, is behind these three within each budget, in all five seeds", three.max() < 0)

# %% [markdown] slideshow={"slide_type": "notes"}
# Entropy, confidence and margin are three readings of one prediction: level. **A cut is behind** all three: the images
# *are* told apart. **Patience** is behind entropy by two points or so, even at the costs that suit it. With *five*
# settings for both, $P = 2$ is still behind; $P = 1$ is level, for more than twice the FLOPs: entropy has no setting
# near its cost. A threshold can be set finely, patience cannot. **Plain votes** are behind by a point at 41 and 61 %,
# level at 21 %; after 1,800 steps behind at each budget. Learnt weights we did not try.
#
# **Calibration**: the first heads are not sure enough (temperatures below 1), the last are about right. Mending it
# changed little.
#
# **How many settings** matters as much as the rule: with five, entropy loses three points at the smallest budget, as
# no setting comes close to it. A rule that is tried with more settings than its rival looks better than it is.

# %% [markdown] slideshow={"slide_type": "subslide"} tags=["figure:slide"]
# ## Move the threshold

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
# @title Widget: accuracy, cost and exits of our network under a slider
thresholds = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
whole = nn.Sequential(*net.blocks, net.heads[-1])
with torch.no_grad():
    confidence, said = logits.softmax(-1).max(-1)
    right = said == digit
    times = [1e3 * wall_time(infer, net, x, exits.above_confidence(t), min_seconds=0.05) for t in thresholds]
    full_time = 1e3 * wall_time(whole, x, min_seconds=0.05)
full = right[-1].double().mean().item(), full_flops, full_time
Exits(thresholds, times, confidence.T, right.T, costs, full=full, setting=0.8)

# %% [markdown] slideshow={"slide_type": "notes"}
# The picture computes accuracy, FLOPs and exits of 540 test images at each confidence threshold $\theta$; milliseconds
# are measured, for all images at once. From right to left, the work falls first, the accuracy later. A threshold is
# *picked* on held-out images, as above.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The honest comparison: a smaller network

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Would a smaller network without exits, a **static** one, do as well at the same cost?
#
# Two small ones: *depth 2*, our first two blocks and one head (21 % of the FLOPs); and *width 10*, all six blocks with
# 10 channels (39 %). Each has its best rate. Exits get these budgets; the threshold is picked on held-out images, the
# network is the same for all budgets. *Width 10* has three seeds, compared with the same three of exits.
#
# **Equal in what?** At *equal steps*, a small network pays far less for its training. So it is also trained for the
# FLOPs of 600 joint steps. Exits come from both trainings that were level there, joint and layer-wise. And as 600 steps
# are few, joint exits are trained three times as long, and small networks for as many FLOPs.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Read the records: accuracy within a budget, with its training
small = {
    "depth 2": six.flops(2, 16, exits=False)[0] / full_flops,
    "width 10": six.flops(6, 10, exits=False)[0] / full_flops,
}
points = {}  # label -> list of (accuracies of the seeds, cost, TFLOPs of training)
tflops = lambda way: six.training_flops(way.removesuffix(" × 3")) * (3 if "×" in way else 1) / 1e12  # noqa: E731
for way, label in (("joint", "joint exits, 600 steps"), ("layer-wise, FLOPs", "layer-wise exits, as many FLOPs"),
                   ("joint, longer", "joint exits, 1,800 steps")):  # fmt: skip
    points[label] = [(*at(way, budget).T, tflops(way)) for budget in (*small.values(), budgets[2])]
points["cut: one exit for all, 600 steps"] = [(*at("joint", b, "cut").T, tflops("joint")) for b in budgets]
for equal, label in (("", "static, 600 steps"), (", FLOPs", "static, FLOPs of 600 joint steps"),
                     (", FLOPs × 3", "static, FLOPs of 1,800 joint steps")):  # fmt: skip
    chosen = [*small, "full"] if not equal else list(small)
    points[label] = []
    for name in chosen:
        values = per_exit(name + equal)[:, 0]
        points[label].append((values, np.full(len(values), small.get(name, 1.0)), tflops(name + equal)))
print("noisy batches of depth 2 for the FLOPs of 600 joint steps:", *six.plan("depth 2, FLOPs")[2])
print("accuracy on test images, lowest to highest seed          mean cost   TFLOPs of training   seeds")
for label, rows in points.items():
    for values, cost, training in rows:
        print(f"{label:36}{spread(values):26}{np.mean(cost):7.0%}{training:17.3f}{len(values):13}")
same = [at(way, small["width 10"])[:3, 0].mean() for way in ("joint", "layer-wise, FLOPs")]
print("within 39 %, on the three seeds of width 10: joint exits, 600 steps, {:.3f}; layer-wise {:.3f}".format(*same))
print("python -m lecture_lib.recorded early_exits early_exits_more early_exits_longer")

# %% slideshow={"slide_type": "-"} tags=["fold", "figure:early_exits"]
# @title Draw: accuracy against the mean cost, recorded
fig, ax = plt.subplots(figsize=(10, 3.9))
for i, (label, rows) in enumerate(points.items()):
    values, cost = [row[0] for row in rows], [100 * np.mean(row[1]) for row in rows]
    middle = np.array([v.mean() for v in values])
    reach = [middle - [v.min() for v in values], [v.max() for v in values] - middle]
    line = ["-", "--", "-", ":", "", "", ""][i]
    ax.errorbar(cost, middle, reach, marker="ovPs^D*"[i], ls=line, ms=8, color=[*[f"C{j}" for j in range(6)], "0.1"][i],
                capsize=3, label=label)  # fmt: skip
ax.set(xlabel="mean FLOPs of an image, % of the full network", xlim=(0, 105))
ax.set(ylabel="test accuracy (axis from 0.8)", ylim=(0.8, 0.97))
ax.legend(frameon=False, loc="lower right", fontsize="small")
labels = [record["label"], *(records[name]["label"].split(": ")[1] for name in ("more", "longer"))]
ax.set_title(f"bars: lowest to highest seed; {' + '.join(labels)}", fontsize="small", color="0.3")
show(
    fig,
    "Test accuracy against the mean cost of an image. "
    + "; ".join(
        f"{label}: " + ", ".join(f"{values.mean():.3f} at {np.mean(cost):.0%}" for values, cost, _ in rows)
        for label, rows in points.items()
    )
    + ".",
)


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about smaller networks
def lead_of_exits(way, equal):
    """Over each small network, at its cost, seed by seed."""
    pairs = [(at(way, budget)[:, 0], per_exit(name + equal)[:, 0]) for name, budget in small.items()]
    return [a[: len(b)] - b[: len(a)] for a, b in pairs]


level, same_flops = lead_of_exits("joint", ""), lead_of_exits("joint", ", FLOPs")
layer_wise, thrice = lead_of_exits("layer-wise, FLOPs", ", FLOPs"), lead_of_exits("joint, longer", ", FLOPs × 3")
claim(
    "Equal steps, 600: within 0.01 of both small networks on average, and neither is ahead in all seeds",
    all(abs(v.mean()) < 0.01 and v.min() < 0 < v.max() for v in level),
    depth_2=level[0].mean(),
    width_10=level[1].mean(),
)
claim(
    "Equal FLOPs of training: both small networks are ahead of joint exits in all seeds, by 0.02 or more on average",
    all(v.max() < 0 and v.mean() <= -0.02 for v in same_flops),
    depth_2=same_flops[0].mean(),
    width_10=same_flops[1].mean(),
)
claim(
    "And ahead of layer-wise exits in all seeds, by 0.015 or more on average",
    all(v.max() < 0 and v.mean() <= -0.015 for v in layer_wise),
    depth_2=layer_wise[0].mean(),
    width_10=layer_wise[1].mean(),
)
claim(
    "Three times these FLOPs for both: both small networks are ahead in all three seeds, by 0.005 to 0.015 on average",
    all(v.max() < 0 and -0.015 <= v.mean() <= -0.005 for v in thrice),
    depth_2=thrice[0].mean(),
    width_10=thrice[1].mean(),
)
gained = np.mean([row[0].mean() for row in points["joint exits, 1,800 steps"]]) - np.mean(
    [row[0].mean() for row in points["joint exits, 600 steps"]]
)
claim("Three times the steps raise exits by 0.015 or more: 600 steps are far from the end", gained > 0.015, gain=gained)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Equal steps:** exits are level with both small networks. **Equal FLOPs of training:** the small networks are ahead,
# by two to three points, and by about two if exits are trained layer-wise. (For these FLOPs depth 2 sees 2,907 noisy
# batches, joint exits 600.) **Three times the FLOPs, for both:** the small networks are still ahead, by about one
# point. Nothing was trained until it was flat.
#
# What do exits give, then? *One* network for all budgets; two budgets need two small networks, each with its training.
# And the cost of exits is a mean; that of a static network holds for each image.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Overthinking: wasteful, and destructive

# %% [markdown] slideshow={"slide_type": "skip"}
# Kaya et al. (2019) call it **overthinking** when a network could be right before its last layer. It is **wasteful** if
# the answer is right early, and the network runs on although it stays right at the end. It is **destructive** if the
# answer is right early and *wrong at the end*. The cell reads both off the logits of our network.

# %% slideshow={"slide_type": "-"}
right = logits.argmax(-1) == digit  # (K, 540)
early = right[:-1].any(0)  # at some exit before the last
wasteful = (early & right[-1]).double().mean()
destructive = (early & ~right[-1]).double().mean()
rescued = (~right[0] & right[-1]).double().mean()
print(f"wasteful {wasteful:.3f}, destructive {destructive:.3f}, of {1 - right[-1].double().mean():.3f} errors")
print(f"rescued by depth: {rescued:.3f}")

# %% [markdown] slideshow={"slide_type": "skip"}
# Several answers are several chances to be right by luck. So a share of destructive cases alone says little. Our
# **control**: take the images that one network gets wrong at its last exit. How often was it right at an earlier exit?
# And how often is *another seed's* network right on them: with its one last answer, and with as many chances, its exits
# 0 to 4? Five networks, twenty pairs, recorded.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Read the record: destructive overthinking, beside another seed's network
thinking = [entry["overthinking"] for entry in joint_nets]
wrong = [set(one["wrong"]) for one in thinking]
n = len(six.examples("test")[1])
own = np.array([len(one["destructive"]) / len(one["wrong"]) for one in thinking])
other = np.array([np.mean([len(wrong[i] - wrong[j]) / len(wrong[i]) for j in range(5) if j != i]) for i in range(5)])
oracle = np.array([1 - (len(one["wrong"]) - len(one["destructive"])) / n for one in thinking])
last = np.array([1 - len(one["wrong"]) / n for one in thinking])
wasted, helped = (np.array([one[name] for one in thinking]) for name in ("wasteful", "rescued"))
hurt = np.array([len(one["destructive"]) / n for one in thinking])
second = [entry["another seed"] for entry in controls]
chances = np.array([np.mean(one["other, any"]) for one in second])
more_often = sum(value > one["own, any"] for one in second for value in one["other, any"])
print("recorded, joint training, mean of 5 seeds (lowest to highest)")
print(f"right early and right at the end (wasteful)       {spread(wasted)}")
print(f"right early and wrong at the end (destructive)    {spread(hurt)}")
print(f"wrong at exit 0, right at the end (rescued)       {spread(helped)}")
print(f"of the errors, right at an earlier exit           {spread(own)}")
print(f"of the errors, right in another seed's network    {spread(other)}")
print(f"of the errors, right at one of its exits 0 to 4   {spread(chances)}")
print(f"in {more_often} of 20 pairs, more often than at the network's own exits 0 to 4")
print(f"accuracy: the last exit {spread(last)}, an oracle that picks the exit {spread(oracle)}")
print("python -m lecture_lib.recorded early_exits early_exits_controls")

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about overthinking
claim("Most images are right early and at the end: running on is wasteful", wasted.min() > 0.8, lowest=wasted.min())
claim(
    "Depth rescues more than twice as many images as it destroys",
    (helped / hurt).min() > 2,
    lowest=(helped / hurt).min(),
)
claim("A fifth to a half of the errors were right at an earlier exit", 0.2 < own.min() and own.max() < 0.5)
claim(
    "With as many chances, other seeds' exits 0 to 4 are right on more of these errors than a network's own: for each "
    "of the five, and by 0.1 or more on average",
    (chances - own).min() > 0 and (chances - own).mean() > 0.1,
    own=own.mean(),
    another_seed=chances.mean(),
)
claim(
    "Another seed's network is right on as many of these errors, to within 0.1 on average",
    abs(own.mean() - other.mean()) < 0.1,
    earlier_exit=own.mean(),
    another_seed=other.mean(),
)
highest = max(values[:, i, 0].mean() for values in by_rule.values() for i in range(3))
claim(
    "No rule above, at no budget, is ahead of the last exit by 0.005 or more, on average",
    highest - last.mean() < 0.005,
    best=highest,
    last=last.mean(),
)
claim("An oracle that picks the exit would gain 0.02 or more, in all five seeds", (oracle - last).min() >= 0.02)

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: six images that were right early and wrong at the end
said = logits.argmax(-1)
shown = (early & ~right[-1]).nonzero().squeeze(-1)[:6]
fig, axes = plt.subplots(1, 6, figsize=(10, 2.4))
for ax, i in zip(axes, shown, strict=False):
    ax.imshow(x[i, 0], cmap="gray_r", vmin=-0.3, vmax=1.3)
    ax.set_title(f"a {digit[i]}")
    ax.text(3.5, 8.0, " ".join(str(c) for c in said[:, i].tolist()), ha="center", va="top")
for ax in axes:
    ax.axis("off")
show(
    fig,
    "Six noisy digits, with what the six exits say below each: "
    + "; ".join(f"a {digit[i]}: {' '.join(str(c) for c in said[:, i].tolist())}" for i in shown)
    + ". Each is right at an early exit and wrong at the last.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Wasteful**: nine images of ten are right early and right at the end. That is what early exits save. **Destructive**:
# of the errors, about a third had been right at an earlier exit. (Kaya et al. report half, on other data.) An oracle
# that knew where to stop would gain three points over the last exit.
#
# But *another seed's* network, with its single last answer, is right on just as many of these
# errors; with as many chances, on more of them than our own. So these are close calls, and any second opinion
# is often right. That depth "destroyed" a good answer is not shown by such a share. And no rule above got hold of the
# oracle's gain: none was clearly ahead of the last exit. Depth rescues more images than it loses.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Seconds: one image, a batch, the slowest

# %% [markdown] slideshow={"slide_type": "-"}
# **Predict.** One image at a time, on a CPU, with blocks as small as ours: 0.3 MFLOPs. How long does the *slowest*
# image take, beside the full network?
#
# <details><summary>A. Less: FLOPs are saved.</summary>
#
# **No.** That is the mean. For the slowest image, no early exit is sure.
#
# </details>
#
# <details><summary>B. About as long.</summary>
#
# **Nearly.** The FLOPs differ by 0.4 %. But they do not see what it takes to *ask*.
#
# </details>
#
# <details><summary>C. Much longer</summary>
#
# **Yes.** All blocks run, six heads are asked. Asking takes about as long as a small block.
#
# </details>

# %% [markdown] slideshow={"slide_type": "skip"}
# For one image at a time the loop is simple, and nothing has to be gathered. The function below: one block, one head,
# one number. It measures the network above, with blocks of 0.3 MFLOPs; and one with **the same decisions, but blocks 64
# times as large** (128 channels, untrained: weights do not change the time). Rivals: the same network without exits,
# *depth 2*, and *one exit*: we ask at exit 1 only. For single images we report the mean, the **median**, and the **90th
# percentile**, the time that one image in ten exceeds. In a batch, everyone waits for the last.

# %% slideshow={"slide_type": "-"}
def one_image(net, x, threshold):
    for block, head in zip(net.blocks, net.heads, strict=True):
        x = block(x)
        logits = head(x)
        if logits.softmax(-1).max() >= threshold:
            break
    return logits


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Replay recorded exits in a network of any size, and a clock
torch.testing.assert_close(one_image(net, x[:1], 0.8).detach(), answer[:1])


def stop_as(leaves):
    """A rule that repeats recorded exits, and what one image does."""
    inside = [leaves]

    def rule(logits, h):
        stop = inside[-1] == len(logits) - 1
        inside.append(inside[-1][~stop])
        return stop

    return rule


@torch.no_grad()
def replay(net, x, k):
    """One image leaves at exit k; each head on the way is asked."""
    h = x
    for i in range(k + 1):
        h = net.blocks[i](h)
        float(net.heads[i](h).softmax(-1).max())


def one_exit(net):
    """The same blocks, asked after block 1 and at the end."""
    blocks = [nn.Sequential(*part) for part in (net.blocks[:2], net.blocks[2:])]
    return exits.EarlyExitNet(blocks, [net.heads[1], net.heads[-1]])


def each(jobs, rounds):
    """Milliseconds of each job: the least of some rounds."""
    best = np.full(len(jobs), np.inf)
    with torch.no_grad():
        for _ in range(rounds):
            for i, (f, *arguments) in enumerate(jobs):
                start = perf_counter()
                f(*arguments)
                best[i] = min(best[i], 1e3 * (perf_counter() - start))
    return best


# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title Measure: one image at a time, batches of 32 and of 512, small and large blocks
rule = exits.above_confidence(0.8)
once = infer(one_exit(net), x, rule)
right_once = (once.logits.argmax(-1) == digit).double().mean()
right_all = (answer.argmax(-1) == digit).double().mean()
cost_once = count_flops(infer, one_exit(net), x, rule) / len(x) / full_flops
print(f"asked at each exit: accuracy {right_all:.3f} at {1 - saved:.0%} of the FLOPs; "
      f"at exit 1 only: {right_once:.3f} at {cost_once:.0%}")  # fmt: skip
measured = {}
for size, width in (("small blocks", 16), ("blocks 64 × as large", 128)):
    wide = net if width == 16 else six.make(width=width).eval()
    rivals = nn.Sequential(*wide.blocks, wide.heads[-1]), nn.Sequential(*wide.blocks[:2], wide.heads[1])
    ones, rounds = x.split(1), 6 if width == 16 else 3
    asked = (wide, exit_of), (one_exit(wide), once.exit_index)
    alone = [each([(replay, w, one, k) for one, k in zip(ones, e.tolist(), strict=True)], rounds) for w, e in asked]
    alone += [each([(rival, one) for one in ones], rounds) for rival in rivals]
    for n in (32, 512):
        jobs = [(lambda w=w, e=e, n=n: infer(w, x[:n], stop_as(e[:n])),) for w, e in asked]
        jobs += [(rival, x[:n]) for rival in rivals]
        measured[size, n] = each(jobs, 8 if n * width < 9000 else 6)
    measured[size, 1] = [(t.mean(), np.median(t), np.quantile(t, 0.9)) for t in alone]
print("milliseconds                         exits  one exit      full   depth 2")
for (size, n), values in sorted(measured.items(), key=lambda item: (item[0][0] != "small blocks", item[0][1])):
    for i, what in enumerate(("mean", "median", "90th %") if n == 1 else ("",)):
        row = [v[i] if n == 1 else v for v in values]
        print(f"{size:22}{n:4} {what:8}" + "".join(f"{v:10.2f}" for v in row))

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Time, as a share of the full network's

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
# @title Draw: time as a share of the full network's
fig, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True)
groups = ["one:\nmean", "one:\nmedian", "one:\n90th %", "batch\nof 32", "batch\nof 512"]
shares = {}
for ax, size in zip(axes, ("small blocks", "blocks 64 × as large"), strict=True):
    rows = [*np.array(measured[size, 1]).T, measured[size, 32], measured[size, 512]]
    names = {"exits": 0, "one exit": 1, "depth 2": 3}
    shares[size] = {name: [100 * row[i] / row[2] for row in rows] for name, i in names.items()}
    plots.bars(ax, groups, shares[size], fmt="{:.0f}")
    ax.axhline(100, color="0.3", lw=1, ls=":", zorder=0)
    for text in ax.texts:
        text.set_fontsize("x-small")
        if 80 < float(text.get_text()) <= 100:  # not through the line
            text.set_bbox({"fc": "white", "ec": "none", "pad": 0.5})
    ax.tick_params(axis="x", labelsize="small")
    ax.set_title(size)
    ax.get_legend().remove()
axes[0].set(
    ylabel="time, % of the full network's", ylim=(0, 1.15 * max(max(v) for s in shares.values() for v in s.values()))
)
axes[1].legend(frameon=False, fontsize="small", loc="upper right")
show(
    fig,
    f"Time as a share of the full network's; in FLOPs, exits need {100 * (1 - saved):.0f} % and depth 2 needs 21 %. "
    + "; ".join(
        f"{size}, {name}: "
        + ", ".join(f"{g.replace(chr(10), ' ')} {v:.0f} %" for g, v in zip(groups, row, strict=True))
        for size, both in shares.items()
        for name, row in both.items()
    )
    + ".",
)

# %% slideshow={"slide_type": "skip"} tags=["fold", "varies"]
# @title The claims about seconds
(mean_1, _, slowest, batch_32, batch_512), large = (shares[size]["exits"] for size in shares)
once_32 = shares["small blocks"]["one exit"][3]
counted = 100 * (1 - saved)
claim(
    "Small blocks, one image at a time: on average exits take a larger share of the time than of the FLOPs, but not "
    "all of it",
    counted < mean_1 < 100,
    clock=True,
    time=mean_1,
    counted=counted,
)
claim(
    "Small blocks: at the 90th percentile exits take 1.3 times the full network's time or more",
    slowest > 130,
    clock=True,
    percentile=slowest,
)
claim(
    "Small blocks, a batch of 32: to ask at each exit is slower than the full network, and than to ask at exit 1 only",
    batch_32 > max(100, once_32),
    clock=True,
    each=batch_32,
    exit_1=once_32,
)
claim(
    "Asked at exit 1 only, the network is as accurate to within 0.02, and needs more FLOPs",
    abs(right_once - right_all) < 0.02 and cost_once > 1 - saved,
    difference=right_once - right_all,
)
claim("Small blocks, 512 at once: exits are faster than the full network", batch_512 < 100, clock=True, share=batch_512)
claim(
    "Blocks 64 times as large: exits save a fifth of the time or more, on average, and in both batches",
    max(large[0], *large[3:]) < 80,
    clock=True,
    one=large[0],
    batch_of_32=large[3],
    batch_of_512=large[4],
)

# %% [markdown] slideshow={"slide_type": "notes"}
# With **small blocks** the clock does not follow the FLOPs: to ask takes about as long as to run a block. **One image
# at a time**, a part of the gain is left on average, and the slowest images take much longer than in the full network.
# In a **batch of 32**, to ask at each exit takes more time than it saves. Asked at **exit 1 only**, the network takes
# less than that, is about as accurate, and needs more FLOPs. With **512 at once**, there is a gain again. With
# **blocks 64 times as large**, a good part of the FLOPs saved is saved in time, too; how much of it in a batch depends
# on the machine.
#
# **The tail**: an image that goes through all exits pays for all blocks and all heads. Here more than one image in ten
# does so. If a device has to answer within a fixed time, a mean does not help. *Anytime* prediction (a bound for each
# image) and a *budgeted batch* (a mean over many) are two different tasks (Huang et al. 2018). *Depth 2* has a bound:
# it costs the same for every image, in every column here.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Differentiable branching
#
# $$\tilde f_k = g_k \, f_k + (1 - g_k)\, \tilde f_{k+1} \qquad \tilde f_{K-1} = f_{K-1} \qquad g_k \in (0, 1)$$
#
# Unrolled: $\;\tilde f_0 = \sum_k z_k f_k\;$ with $\;z_k = g_k \prod_{j<k} (1 - g_j)$

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: gates break a stick
z = stick_breaking(torch.tensor([0.5, 0.4, 0.6]).logit()).weights  # three gates, four exits
fig, ax = plt.subplots(figsize=(10, 1.9))
plots.stick(ax, z.tolist(), ["$z_0 = g_0$", "$z_1 = (1 - g_0)\\, g_1$", "$z_2$", "$z_3$: the rest"])
show(
    fig,
    "A stick in four pieces. Gate 0, at 0.5, takes half. Gate 1, at 0.4, takes two fifths of the rest: 0.2. Gate 2, at "
    "0.6, takes 0.18 of what is left then. The last exit gets the rest, 0.12.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Question.** So far we chose the rule. Can the *loss* learn where to stop?
#
# **Idea** (Scardapane et al. 2020, by the speaker of the talk and others). Each exit but the last gets a **gate**
# $g_k$, between 0 and 1: how much of the answer it gives. The rest, $1 - g_k$, is left to those behind. Here $f_k$ are
# the *probabilities* of exit $k$. The weights $z_k$ are pieces of a stick, and sum to 1.
#
# **One loss**: the cross-entropy of the mixture $\tilde f_0$, not a sum over exits; plus a price times the **expected
# cost** $\sum_k z_k c_k$, with $c_k$ the cost of leaving at exit $k$, as a share of the full network. Training is
# dense: all blocks run.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: a piece of the stick ★☆☆ 3 min
#
# On paper. Four exits, three gates: $g = (0.2, 0.4, 0.25)$. Which weight $z_2$ has exit 2?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
weight = ...

check("stick_weight", weight)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
check("stick_weight", (1 - 0.2) * (1 - 0.4) * 0.25)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The recursion, written out

# %% [markdown] slideshow={"slide_type": "skip"}
# The recursion starts at the last exit and goes back. A gate is a linear layer, followed by a sigmoid. Ours start with
# all weights at **zero**: $g = 1/2$ for every image. What they know, they have learnt.
# `DifferentiableBranching` of the library is the same, written as a mixture with the weights of `stick_breaking`. The
# folded cell checks the weights, the answer, the expected cost, and the gradient.
#
# **The gradient of a gate:** $\partial \tilde f_0 / \partial g_k = \prod_{j<k} (1 - g_j) \, (f_k - \tilde f_{k+1})$. It
# opens the gate where exit $k$ gives the right class more probability than the mixture of those behind it. The price
# opens it further, as they cost more.


# %% slideshow={"slide_type": "-"}
def recursion(f, g):  # f: (K, N, ...), g: (K - 1, N)
    out = f[-1]
    for k in reversed(range(len(g))):
        stop = g[k].reshape(-1, *[1] * (f.dim() - 2))
        out = stop * f[k] + (1 - stop) * out
    return out


# %% [markdown] slideshow={"slide_type": "-"}
# At test time there are two uses:
#
# - the mixture $\tilde f_0$ itself: all blocks run, nothing is saved;
# - leave where $g_k \ge 1/2$: what lies behind does not run.

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Compare with DifferentiableBranching, expected_cost and the one equation
branching = gated.branching(net, "both")
with torch.no_grad():
    for gate in branching.gates:  # anything but zero, for the test
        nn.init.normal_(gate.line.weight, std=0.3)
    states = net.states(x)
    g = torch.stack([gate(h) for gate, h in zip(branching.gates, states, strict=False)]).sigmoid()
    mixed, choice = branching(x)
    torch.testing.assert_close(recursion(net.classify(states).softmax(-1), g), mixed)
    torch.testing.assert_close(stick_breaking(g.T.logit()).weights, choice.weights, rtol=1e-3, atol=1e-5)
    c = torch.tensor(costs) / full_flops
    torch.testing.assert_close(recursion(c[:, None].expand(K, len(x)), g), expected_cost(choice, c.tolist()))
    cut_at = [nn.Sequential(*net.blocks[: k + 1], net.heads[k]) for k in range(K)]
    one_hot = F.one_hot(exit_of, K).float()
    torch.testing.assert_close(mix_sparse(x, one_hot, cut_at), answer, rtol=1e-4, atol=1e-4)  # leaving: z is one-hot
p_right = net.classify(states).softmax(-1)[:, torch.arange(len(x)), digit]  # of the right class, (K, N)
g = g.clone().requires_grad_()
recursion(p_right, g).sum().backward()
behind = recursion(p_right[3:], g[3:])  # what exits 3 to 5 give together
torch.testing.assert_close(g.grad[2], ((1 - g[0]) * (1 - g[1]) * (p_right[2] - behind)).detach(), rtol=1e-3, atol=1e-6)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## What do gates learn?

# %% [markdown] slideshow={"slide_type": "skip"}
# **Question.** Do gates learn to send each image to its own exit, better than a threshold?
#
# A gate sees the **features** that its head sees, or the **doubt**, the entropy of its head, or **both**. Five arms
# learn by the loss of branching; one does not:
#
# - *features*, *doubt*, *both*: the jointly trained network is frozen, only the gates learn (1,000 steps).
# - *all*: from where *both* ended, network and gates learn on, for 300 steps.
# - *from scratch*: network and gates learn together from the start, for 600 steps, as joint training has.
# - *agreement*: a gate of features learns to predict "I say what the last exit will say", as in CALM (Schuster et al.
#   2022). Our loss gives "yes" and "no" equal weight, so this $g$ is no probability.
#
# Three prices (*from scratch* one, *agreement* none), three rates; the rate with the least loss on held-out images;
# three seeds. The **rival** is the entropy rule, tuned on held-out images *within the cost that the gates had there*:
# on the same joint network; for *all*, after 300 more joint steps. It has seen no more batches
# than the gates and their network. Look at its accuracy *and cost*: where its curve is flat, equal accuracy
# says little.


# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Read the record: gates beside an entropy threshold
def arm(name, price):
    """The entries of three seeds at the best rate."""
    rows = [e | e[str(price)] for e in records["branching"]["entries"] if e["arm"] == name]
    return six.best(rows, lambda entry: -entry["loss"] if "loss" in entry else np.mean(entry["held out"]))


rival = {"all": arm("joint, on", 0)}
found = {}
for name in ("features", "doubt", "both", "all", "from scratch", "agreement"):
    for price in {"from scratch": (0.1,), "agreement": (0,)}.get(name, gated.PRICES):
        rows = arm(name, price)
        others = rival.get(name, joint_nets[:3])
        pairs = [(e["half"], six.within(o["entropy"], e["half"][1])) for e, o in zip(rows, others, strict=True)]
        tuned = [six.within([e["half"], *e["gates"]], e["half"][1])[2] for e in rows]
        found[name, price] = {
            "accuracy": np.array([half[2] for half, _ in pairs]),
            "cost": np.array([half[3] for half, _ in pairs]),
            "rival": np.array([entropy[2:] for _, entropy in pairs]),
            "lead": np.array([half[2] - entropy[2] for half, entropy in pairs]),
            "last": np.mean([e["last"] for e in rows]),
            "tuned": np.array(tuned) - [entropy[2] for _, entropy in pairs],
            "mixture": np.array([e["mixture, test"] for e in rows]),
            "exits": np.mean([e["exits"] for e in rows], 0),
            "area": np.array([e["area of g"] for e in rows]),
            "area of entropy": np.array([e["area of entropy"] for e in rows]),
        }
print("gates: leave at g >= 1/2; rival: the entropy threshold within the same held-out cost; mean of 3 seeds")
print("tuned: the lead of the threshold of g, 1/2 or twelve others, that is best on held-out images within that cost")
print("gates see   price gates         rival        lead (lowest to highest)   tuned mixture last exit leave at 0 to 5")
for (name, price), v in found.items():
    accuracy_, cost_ = v["rival"].mean(0)
    lead_ = f"{v['lead'].mean():+.3f} ({v['lead'].min():+.3f} to {v['lead'].max():+.3f})"
    print(
        f"{name:12}{price:5}{v['accuracy'].mean():6.3f} at{v['cost'].mean():4.0%}"
        f"{accuracy_:7.3f} at{cost_:4.0%}  {lead_}"
        f"{v['tuned'].mean():+8.3f}{v['mixture'].mean():8.3f}{v['last']:8.3f}    "
        + "".join(f"{s:5.2f}" for s in v["exits"])
    )
areas = {n: found[n, p]["area"][:, 2].mean() for n, p in (("features", 0.1), ("both", 0.1), ("agreement", 0))}
areas["entropy"] = found["doubt", 0.1]["area of entropy"][:, 2].mean()
print("how often is a right answer of exit 2 held surer than a wrong one? (the area under the ROC curve)")
print(", ".join(f"{n} {area:.2f}" for n, area in areas.items()))
print(records["branching"]["label"], "· python -m lecture_lib.recorded early_exits_branching")

# %% slideshow={"slide_type": "-"} tags=["fold"]
# @title Draw: gates beside the curve of an entropy threshold
fig, ax = plt.subplots(figsize=(10, 3.9))
for others, style, label in ((joint_nets[:3], "o-", "entropy threshold, joint network"),
                             (rival["all"], "s--", "the same, after 300 more joint steps")):  # fmt: skip
    grid = np.arange(0.1, 1.01, 0.1)
    curve = np.array([[six.within(e["entropy"], b)[2:] for b in grid] for e in others]).mean(0)
    ax.plot(100 * curve[:, 1], curve[:, 0], style, color="0.45" if style[0] == "o" else "0.65", lw=2, ms=5, label=label)
for i, name in enumerate(("features", "doubt", "both", "all", "from scratch", "agreement")):
    these = [v for (n, _), v in found.items() if n == name]
    accuracy_, cost_ = ([v[what].mean() for v in these] for what in ("accuracy", "cost"))
    label = f"gates: {name}" if name != "all" else "gates: all learn on"
    ax.plot([100 * c for c in cost_], accuracy_, "D^vP*X"[i], ms=10, ls="", color=f"C{i}", label=label)
ax.set(xlabel="mean FLOPs of an image, % of the full network", xlim=(0, 105))
ax.set(ylabel="test accuracy (axis from 0.8)", ylim=(0.8, 0.95))
ax.legend(frameon=False, loc="lower right", fontsize="small", ncols=2)
ax.set_title(f"mean of 3 seeds; {records['branching']['label']}", fontsize="small", color="0.3")
show(
    fig,
    "Test accuracy against mean cost: gates beside the curves of an entropy threshold. "
    + "; ".join(f"{n}, price {p}: {v['accuracy'].mean():.3f} at {v['cost'].mean():.0%}" for (n, p), v in found.items())
    + ".",
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title Read the record: a threshold tuned on the loss of the gates
print(f"leaving, mean of 5 seeds; {records['controls']['label']}")
print("        gates of doubt, g >= 1/2               one entropy threshold, tuned on their loss")
print("price   cost accuracy cross-entropy   loss     cost accuracy cross-entropy   loss     lead in loss")
better, dearer = {}, {}
for price in gated.PRICES:
    n = min(gated.FRACTIONS, key=lambda n: np.mean([entry[f"gates, {price}, {n}"]["loss"] for entry in controls]))
    rows = [np.array([entry[f"gates, {price}, {n}"]["paid"] for entry in controls])]
    rows += [np.array([entry[f"threshold, {price}"] for entry in controls])]
    losses = [row[:, 0] + price * row[:, 1] for row in rows]  # cross-entropy + price × cost, on test images
    better[price] = losses[1] - losses[0]
    dearer[price] = rows[1][:3, 1].mean() / found["doubt", price]["rival"][:, 1].mean()
    print(f"{price:5}", end="   ")
    for (cross_entropy, cost_, accuracy_), loss in zip((row.mean(0) for row in rows), losses, strict=True):
        print(f"{cost_:4.0%}{accuracy_:9.3f}{cross_entropy:14.3f}{loss.mean():7.3f}", end="     ")
    print(f"{better[price].mean():+.3f} ({better[price].min():+.3f} to {better[price].max():+.3f})")
print("python -m lecture_lib.recorded early_exits_controls")
claim(
    "On the loss of the gates, at each price: neither they nor the threshold are ahead in all five seeds, and they are "
    "at most 0.006 apart on average",
    all(v.min() < 0 < v.max() and abs(v.mean()) <= 0.006 for v in better.values()),
    largest=max(abs(v.mean()) for v in better.values()),
)
claim(
    "At the two lower prices, this threshold costs 1.3 times the one tuned for accuracy, or more",
    min(dearer[0.03], dearer[0.1]) >= 1.3,
    price_003=dearer[0.03],
    price_01=dearer[0.1],
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about gates
lead = {key: v["lead"] for key, v in found.items()}
cheap = np.array([lead["doubt", price] for price in (0.03, 0.1)])
claim(
    "Frozen network, gates of doubt, the two lower prices: within 0.002 of the threshold in all three seeds",
    abs(cheap).max() < 0.002,
    largest=abs(cheap).max(),
)
ratio = {price: found["doubt", price]["cost"] / found["doubt", price]["rival"][:, 1] for price in (0.03, 0.1)}
claim(
    "For that accuracy they cost 1.3 times the threshold's FLOPs or more in all three seeds, and at the lowest price "
    "1.9 times or more on average",
    min(r.min() for r in ratio.values()) > 1.3 and ratio[0.03].mean() > 1.9,
    price_003=ratio[0.03].mean(),
    price_01=ratio[0.1].mean(),
)
claim(
    "At the highest price they are behind it in all three seeds, by less than 0.01 on average",
    lead["doubt", 0.3].max() < 0 and lead["doubt", 0.3].mean() > -0.01,
    lead=lead["doubt", 0.3].mean(),
)
behind = [lead["features", price].max() for price in gated.PRICES]
claim("Gates of features, each price: behind in all three seeds", max(behind) < 0, closest=max(behind))
claim(
    "No arm, at no price, is ahead in all three seeds: neither at g >= 1/2 nor at its best threshold within that cost",
    max(np.max([v["lead"].min(), v["tuned"].min()]) for v in found.values()) <= 0,
)

# %% slideshow={"slide_type": "skip"} tags=["fold"]
# @title The claims about the other arms
behind = [lead["all", price].max() for price in (0.1, 0.3)]
claim("All learn on, the two higher prices: behind in all three seeds", max(behind) < 0, closest=max(behind))
more = (found["all", 0.03]["cost"] / found["all", 0.03]["rival"][:, 1]).mean()
claim(
    "All learn on, the lowest price: ahead in no seed, for 1.7 times the threshold's FLOPs or more on average",
    lead["all", 0.03].max() <= 0 and more >= 1.7,
    FLOPs=more,
)
at_1, last_one = found["from scratch", 0.1]["exits"].max(), found["from scratch", 0.1]["last"]
claim("From scratch, nine images of ten leave at one and the same exit", at_1 > 0.9, share=at_1)
claim("From scratch, the last exit has not learnt: below 0.2", last_one < 0.2, accuracy=last_one)
scratch = lead["from scratch", 0.1]
claim("From scratch: level with the threshold", scratch.min() < 0 < scratch.max(), lead=scratch.mean())
agreement = max(lead["agreement", 0].max(), found["agreement", 0]["tuned"].max())
claim(
    "Agreement, at g >= 1/2 and at the best threshold within its cost: 0.02 or more behind in all three seeds",
    agreement <= -0.02,
    closest=agreement,
)
tells = found["doubt", 0.1]["area of entropy"].mean(0)
best_gate = np.max([v["area"].mean(0) for (n, _), v in found.items() if n in ("features", "agreement")], 0)
claim("At each exit, entropy tells right from wrong better than any gate of features", (tells > best_gate).all())
mixed = max(abs(v["mixture"].mean() - v["accuracy"].mean()) for (n, _), v in found.items() if n != "agreement")
claim("The mixture of each arm but agreement is within 0.005 of leaving at g >= 1/2", mixed < 0.005, largest=mixed)

# %% [markdown] slideshow={"slide_type": "notes"}
# **Do gates learn?** On the frozen network, gates that see the **doubt** do. At the two lower prices they reach a
# threshold's accuracy (to 0.2 points) for 1.3 to 2 times its FLOPs. But their loss asks for that: at a low price it
# buys confidence where no accuracy is left to gain. One entropy threshold tuned on *this loss* costs more, too, and is
# level with gates at each price. Gates of **features** are behind at each price; they tell right from wrong less well
# than the entropy. Beside **all learn on**, 300 more *joint* steps with a plain threshold are ahead, and at the lowest
# price level for about half the FLOPs. **From scratch**, the loss settles on one exit for nine images of ten, level
# with a threshold at its cost; the last exit guesses. **Agreement** leaves too early.

# %% [markdown] slideshow={"slide_type": "notes"}
# **The verdict here:** at no price was branching ahead of one threshold on a network with no more batches, neither at
# $g \ge 1/2$ nor at another threshold of $g$. To meet a budget, one has to try prices.
#
# What this does not show: one task, one network, linear gates, three seeds; many of the best rates are the highest of
# the grid, so longer training may help.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Relatives.** Adaptive computation time (ACT, Graves 2016) lets a recurrent network learn how many steps to take: it
# halts when the halting probabilities sum to almost 1, mixes the states, and pays a *ponder cost*. PonderNet (Banino et
# al. 2021) has the same stick, $z_k = g_k \prod_{j<k} (1 - g_j)$, but the loss is $\sum_k z_k L_k$, a mean of losses,
# where branching takes the loss of a mean. A prior on the number of steps takes the place of our price.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## A network of your own · optional
#
# `EarlyExitNet(blocks, heads)` takes any chain of blocks: convolutions, layers of a transformer, an `MLP`. The first
# block may hold an embedding. Each head maps the state of its block to logits. Then everything above works:
# `train_jointly(net, fit)`, `infer(net, x, rule)`, and for a network that is already trained, `train_separately`, whose
# second stage trains heads alone.

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise: exits for your blocks ★★☆ 8 min · optional
#
# Write `leaving(blocks, heads, x, threshold)`. `blocks` and `heads` are lists of modules, one head a block; `x` is
# `(N, D)`. Put an `exits.EarlyExitNet` around them, and return for each row of `x` the exit, `(N,)`, at which it
# leaves at this confidence threshold. Then try it with blocks of yours: at which exit do most of your inputs leave?


# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def leaving(blocks, heads, x, threshold):
    return ...


check("own_network", leaving)


# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def leaving_solution(blocks, heads, x, threshold):
    from lecture_lib.exits import EarlyExitNet, above_confidence, infer

    return infer(EarlyExitNet(blocks, heads), x, above_confidence(threshold)).exit_index


check("own_network", leaving_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# - A head after every block; leave at the first that is sure. What lies behind **does not run**.
# - **Joint** training for few batches; **layer-wise** was level or ahead for equal FLOPs.
# - One threshold, tuned finely on held-out images, was ahead of a cut and of patience, and, trained longer, of votes.
# - The saving is a **mean**, not a bound; with small blocks, time follows the FLOPs in part: ask less often.
# - A **small static network** was ahead of joint exits, for equal FLOPs of training and for three times as many.
# - Gates that see the doubt do learn; they were level with one threshold tuned on the same loss.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - C. Szegedy et al., *Going Deeper with Convolutions*, CVPR 2015: classifiers at the side.
# - S. Teerapittayanon, B. McDanel, H. T. Kung, *BranchyNet: Fast Inference via Early Exiting from Deep Neural
#   Networks*, ICPR 2016.
# - A. Graves, *Adaptive Computation Time for Recurrent Neural Networks*, arXiv 2016.
# - Y. Kaya, S. Hong, T. Dumitras, *Shallow-Deep Networks: Understanding and Mitigating Network Overthinking*, ICML
#   2019.

# %% [markdown] slideshow={"slide_type": "skip"}
# On trainings, rules and gates:
#
# - S. Scardapane, M. Scarpiniti, E. Baccarelli, A. Uncini, *Why Should We Add Early Exits to Neural Networks?*,
#   Cognitive Computation 2020: the three ways to train.
# - S. Scardapane, D. Comminiello, M. Scarpiniti, E. Baccarelli, A. Uncini, *Differentiable Branching in Deep Networks
#   for Fast Inference*, ICASSP 2020.
# - W. Zhou et al., *BERT Loses Patience: Fast and Robust Inference with Early Exit*, NeurIPS 2020.
# - G. Huang et al., *Multi-Scale Dense Networks for Resource Efficient Image Classification*, ICLR 2018 (MSDNet).
# - L. Qendro et al., *Early Exit Ensembles for Uncertainty Quantification*, ML4H 2021.
# - M. Wołczyk et al., *Zero Time Waste: Recycling Predictions in Early Exit Neural Networks*, NeurIPS 2021.
# - A. Banino, J. Balaguer, C. Blundell, *PonderNet: Learning to Ponder*, 2021.
# - T. Schuster et al., *Confident Adaptive Language Modeling*, NeurIPS 2022 (CALM): margin, and gates that predict
#   agreement.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
