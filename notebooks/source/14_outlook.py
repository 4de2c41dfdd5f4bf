# %% [markdown] slideshow={"slide_type": "slide"}
# # Outlook: everything, side by side
#
# **Notebook 14** · *Designing efficient and modular neural networks*
#
# One network for every budget, one network for every new task.
# Four dials, experts and static networks on one plot, their bill in joules, and what nobody knows yet.

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you will be able to do.** Train one network that can be run at many prices; compare it fairly with networks of
# a fixed size; say what a saving is worth in joules, and how much of that number to believe; let a network learn task
# after task without forgetting, and say what that costs; choose among the techniques of this lecture. You need:
# notebooks 05 and 06; 08 and 10 help. About 45 minutes with the two exercises. Everything below runs on a laptop in
# about a minute.

# %% slideshow={"slide_type": "skip"}
import time
from functools import partial
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
import torch.nn.functional as F
from torch import nn

from lecture_lib import plots
from lecture_lib.adapters import LoRA, MixtureOfAdapters, by_task
from lecture_lib.choice import argmax
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.data import batches, digit_tasks, digits
from lecture_lib.exits import EarlyExitNet, above_confidence, infer, joint_loss
from lecture_lib.mixture import mix_sparse
from lecture_lib.models import MLP, Block, attention
from lecture_lib.moe import MoE, load_balance_loss, switch
from lecture_lib.notebook import check, setup, show
from lecture_lib.patches import masked
from lecture_lib.training import fit
from lecture_lib.widgets import Savings

seed = setup(0)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## One model, many budgets
#
# The talk calls it *elastic demand*: the same weights, at a price that is set when they run.
#
# | dial | what does not run | who decides | notebook |
# |---|---|---|---|
# | **patches** | the least promising of 16 patches | the image | 05 |
# | **exit** | blocks behind the first sure exit | the image | 06 |
# | **width** | heads and groups of hidden units | we, for all | 05 |
# | **depth** | the last blocks | we, for all | a control |
#
# The rival of each: a smaller network, trained for nothing else.

# %% [markdown] slideshow={"slide_type": "notes"}
# Until now every notebook measured its own technique on a task made for it. Here they meet: one task (the wandering
# digits of notebook 05), one backbone (a vision transformer of three blocks), trained alike, on one plot.
#
# Two questions are often mixed up. *At this budget, which network is best?* And: *I do not know the budget yet, which
# network do I ship?* They have different answers.

# %% slideshow={"slide_type": "skip"}
data = digits()


def wander(x, generator):
    """Digits (N, 8, 8) on an empty canvas (N, 16, 16), each in one of nine places."""
    row, column = 4 * torch.randint(3, (2, len(x), 1), generator=generator)
    canvas, eight = torch.zeros(len(x), 16, 16), torch.arange(8)
    canvas[torch.arange(len(x))[:, None, None], (row + eight)[:, :, None], (column + eight)[:, None]] = x
    return canvas


def cut(images):
    """(N, 16, 16) -> 16 patches (N, 16, 16 pixels), row by row."""
    return images.unflatten(-1, (4, 4)).unflatten(1, (4, 4)).transpose(2, 3).flatten(1, 2).flatten(2)


def examples(generator):
    for x, y in batches(data.train_x, data.train_y, generator=generator):
        yield wander(x, generator), y


generator = torch.Generator().manual_seed(1000 + seed)
pick_x, pick_y = wander(data.test_x[:270].repeat(2, 1, 1), generator), data.test_y[:270].repeat(2)  # to choose settings
test_x, test_y = wander(data.test_x[270:].repeat(4, 1, 1), generator), data.test_y[270:].repeat(4)  # to report

# %% slideshow={"slide_type": "skip"}
class SlimBlock(Block):
    """Runs with the first `used` of its heads, and as many groups of hidden units."""

    used = 4

    def forward(self, x, kept=None):
        n, a, (first, act, second) = self.used, self.attention, self.mlp
        d = x.shape[-1] // a.n_heads
        w, b = (p.unflatten(0, (3, a.n_heads, d))[:, :n].flatten(0, 2) for p in a.query_key_value.parameters())
        qkv = F.linear(self.norm_1(x), w, b).unflatten(-1, (3, n, d))  # (B, T, 3, n, d)
        y = attention(*qkv.movedim(-3, 0).transpose(-3, -2), kept)  # (B, n, T, d)
        y = y.transpose(-3, -2).flatten(-2)
        x = x + F.linear(y, a.output.weight[:, : n * d], a.output.bias)
        units = slice(n * x.shape[-1])
        h = act(F.linear(self.norm_2(x), first.weight[units], first.bias[units]))
        return x + F.linear(h, second.weight[:, units], second.bias)

# %% slideshow={"slide_type": "skip"}
block, slim = Block(32, 4), SlimBlock(32, 4)
slim.load_state_dict(block.state_dict())
x = torch.randn(5, 17, 32)
with torch.no_grad():
    torch.testing.assert_close(slim(x), block(x))  # all heads: the block that we know
    whole = count_flops(slim, x)
    slim.used = 1
    quarter = count_flops(slim, x)
assert quarter * 4 == whole == count_flops(block, x)  # a quarter of the heads and units is a quarter of the work

# %% [markdown] slideshow={"slide_type": "notes"}
# A *slimmable* network (Yu et al. 2019): gates on heads and channels that are the same for every input, so the slice is
# cut once and what is left is a smaller dense product. Notebook 05 showed why: gates of single examples hardly save
# time. The hidden cell checks that all four heads are the ordinary block, and that one head costs a quarter.

# %% slideshow={"slide_type": "skip"}
class ClassToken(nn.Module):
    def forward(self, x):
        return x[:, 0]


class ViT(nn.Module):
    """Three exits, a score for each patch; a static network uses the last exit alone."""

    def __init__(self, width=32, layers=3, make=SlimBlock):
        super().__init__()
        self.embed, self.score = nn.Linear(16, width), nn.Linear(width, 1)
        nn.init.normal_(self.embed.weight, std=0.3)
        self.position = nn.Parameter(0.5 * torch.randn(17, width))
        heads = [nn.Sequential(ClassToken(), nn.LayerNorm(width), nn.Linear(width, 10)) for _ in range(layers)]
        self.exits = EarlyExitNet([make(width, 4) for _ in range(layers)], heads)

    def tokens(self, images):
        return F.pad(self.embed(cut(images)), (0, 0, 1, 0)) + self.position  # (B, 17, D)

    def scores(self, x):
        return self.score(x[:, 1:]).squeeze(-1)  # (B, 16)

    def use(self, width):
        for block in self.exits.blocks:
            block.used = width

    def forward(self, images):
        x = self.tokens(images)
        for block in self.exits.blocks:
            x = block(x)
        return self.exits.heads[-1](x)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Train: draw a setting at every step

# %% slideshow={"slide_type": "skip"}
def keep(net, x, patches):  # the best patches, by noisy scores: straight-through
    noisy = net.scores(x)
    noisy = noisy + torch.rand_like(noisy).logit(eps=1e-6)  # two Gumbels: logistic noise
    soft = noisy.sigmoid()
    hard = torch.zeros_like(soft).scatter(1, noisy.topk(patches).indices, 1)
    return F.pad(hard + soft - soft.detach(), (1, 0), value=1)  # the class token stays

# %% slideshow={"slide_type": "-"}
def any_setting(net, images, y):
    patches, width = draw([4, 5, 6, 8, 16, 16]), draw([2, 3, 4, 4, 4, 4])
    net.use(width)
    x = net.tokens(images)
    # the best patches, by noisy scores; the gradient is straight-through
    kept = keep(net, x, patches) if patches < 16 else torch.ones(x.shape[:2])
    states = []
    for block in net.exits.blocks:
        x = masked(block, x, kept)
        states.append(x)
    return joint_loss(net.exits.classify(states), y)  # all three exits

# %% [markdown] slideshow={"slide_type": "notes"}
# Every step serves another customer: so many patches, so many heads, and all exits at once. It costs as many steps, on
# as many images, as a static network gets. A network trained at one setting falls apart at the others; one that has
# seen all of them does not. (A cell below runs both with half of their heads.)
#
# **Predict:** which dial costs the least accuracy? And does this network, at full size, match one trained for full size
# alone?

# %% slideshow={"slide_type": "skip"}
draws = torch.Generator().manual_seed(seed)


def draw(options):
    return options[torch.randint(len(options), (), generator=draws)]


def train(net, loss):
    """Fast steps, then slow ones to settle: the same for every network of this notebook's first half."""
    stream, start = examples(torch.Generator().manual_seed(seed)), time.perf_counter()
    for steps, lr in ((380, 3e-3), (80, 5e-4)):
        fit(net, partial(loss, net), stream, steps=steps, lr=lr, every=1000, label="training")
    net.eval()
    return time.perf_counter() - start


torch.manual_seed(seed)
elastic = ViT()
training_seconds = train(elastic, any_setting)

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Run: what is left out is gone

# %% slideshow={"slide_type": "skip"}
def best_tokens(images, patches):
    x = elastic.tokens(images)
    if patches == 16:
        return x
    best = elastic.scores(x).topk(patches).indices.sort().values + 1
    best = best.unsqueeze(-1).expand(-1, -1, x.shape[-1])
    return torch.cat([x[:, :1], x.gather(1, best)], 1)

# %% slideshow={"slide_type": "-"}
@torch.no_grad()
def run(images, patches=16, sure=None, width=4, depth=3):
    elastic.use(width)
    x = best_tokens(images, patches)  # gathered, no others: (B, 1 + patches, D)
    if sure is not None:
        return infer(elastic.exits, x, above_confidence(sure)).logits
    for block in elastic.exits.blocks[:depth]:
        x = block(x)
    return elastic.exits.heads[depth - 1](x)

# %% slideshow={"slide_type": "skip"}
def measure(run, x=test_x, y=test_y):
    """Share of right answers, and FLOPs an image, counted while it runs."""
    answers = []
    flops = count_flops(lambda: answers.append(run(x)))
    return (answers[0].argmax(-1) == y).float().mean().item(), flops / len(x)


full, full_flops = measure(run)
dials = {
    "patches": [{"patches": k} for k in (4, 5, 6, 8, 12, 16)],
    "exit": [{"sure": t} for t in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)],
    "width": [{"width": n} for n in (2, 3, 4)],
    "depth": [{"depth": n} for n in (1, 2, 3)],
}
curves = {dial: [measure(partial(run, **s)) for s in settings] for dial, settings in dials.items()}
for dial, points in curves.items():
    print(f"{dial:8}" + "  ".join(f"{a:.3f} at {f / full_flops:.0%}" for a, f in points))
never_drawn, _ = measure(partial(run, width=1))
print(f"one head, which was never drawn: {never_drawn:.3f}")
assert never_drawn < curves["width"][0][0] - 0.25

# %% [markdown] slideshow={"slide_type": "notes"}
# The number of patches is the same for every image, *which* ones differs: so the batch stays one rectangle, and the
# clock can follow the count. (Notebook 05 let the number differ too, and paid with ragged batches.) Exits shrink the
# batch after each block, as in notebook 06.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## One set of weights, four dials

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.9))
styles = {"patches": "o-", "exit": "s--", "width": "^-.", "depth": "D:"}
for dial, points in curves.items():
    accuracy, flops = np.array(points).T
    ax.plot(100 * flops / full_flops, 100 * accuracy, styles[dial], lw=2.2, ms=8, label=dial)
ax.set(xlabel="FLOPs, % of the full network's", ylabel="test accuracy, % (not from 0)", xlim=(0, 104))
ax.legend(frameon=False, loc="lower right")
show(
    fig,
    "Test accuracy against FLOPs for four dials of one network. With patches the accuracy stays until about 30 per "
    "cent of the FLOPs, with exits until about 40; with width and depth, set for all, it falls earlier.",
)


def at(dial, share):
    """Accuracy of a dial at a share of the FLOPs, between its measured settings."""
    accuracy, flops = np.array(curves[dial]).T
    return np.interp(share, flops / full_flops, accuracy)


print("accuracy at 50 % of the FLOPs:", ", ".join(f"{dial} {at(dial, 0.5):.3f}" for dial in dials))
assert at("patches", 0.4) > full - 0.025 and at("exit", 0.5) > full - 0.035
assert at("exit", 0.4) > at("depth", 0.4) + 0.01  # the same blocks and heads, asked or not
assert min(at("patches", 0.5), at("exit", 0.5)) > max(at("width", 0.5), at("depth", 0.5))

# %% [markdown] slideshow={"slide_type": "notes"}
# The dials that ask the image (patches, exits) save half of the work for nothing, or with some seeds for a point or
# two; those that we turn for all (width, depth) cost more. **Depth** is the control of the **exits**: the same blocks,
# the same heads, and nobody is asked. What lies between those two curves is the value of a decision by input.
#
# Patches go furthest, because at least 12 of 16 are empty here; on photographs they would not. And a setting that was
# never drawn in training falls apart: one head alone (the cell before printed it).
#
# Patches and exits do not compete. They multiply.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Three dials at once, for a budget
#
# 60 settings of patches, confidence and width. One half of the test digits chooses, the other half reports.

# %% slideshow={"slide_type": "skip"}
values = (4, 2), (4, 5, 6, 8, 16), (0.5, 0.7, 0.8, 0.9, 0.97, None)
grid = [{"width": n, "patches": k, "sure": t} for n, k, t in product(*values)]
table = [measure(partial(run, **setting), pick_x, pick_y) for setting in grid]
reported = [measure(partial(run, **setting)) for setting in grid]

four_patches, sure = curves["patches"][0][1] / full_flops, curves["exit"][4][1] / full_flops
both = reported[grid.index({"width": 4, "patches": 4, "sure": 0.9})][1] / full_flops
print(f"4 patches {four_patches:.0%} × 0.9 sure {sure:.0%} = {four_patches * sure:.1%} of the FLOPs; both: {both:.1%}")
assert 0.85 < both / (four_patches * sure) < 1.15

# %% slideshow={"slide_type": "-"}
def best_within(budget, table):
    """The most accurate row (accuracy, FLOPs) that the budget allows; None if none is."""
    rows = [i for i, (_, flops) in enumerate(table) if flops <= budget * full_flops]
    return max(rows, key=lambda i: (table[i][0], -table[i][1]), default=None)


for budget in (0.08, 0.2, 1.0):
    i = best_within(budget, table)
    accuracy, used = reported[i][0], reported[i][1] / full_flops
    print(f"budget {budget:4.0%}: {used:4.0%} used, {accuracy:.3f} right", end="; ")
    print(", ".join(f"{dial} {value}" for dial, value in grid[i].items()))

# %% [markdown] slideshow={"slide_type": "notes"}
# A setting looks better than it is on the images that chose it: 60 settings are 60 tries. So 270 of the test digits
# choose, the other 270 report (each in several places). Of equally good settings the cheaper one is taken.
#
# At the smallest budget all dials are turned: fewer patches and heads make every block cheaper, exits leave blocks out.
# At a budget of 100 % nothing has to be spent: the best setting need not be the dearest.
#
# **Predict** the rivals: static networks of four sizes, each trained for nothing else. Where do they lie?

# %% slideshow={"slide_type": "skip"}
class ExpertBlock(Block):
    """A block whose MLP is one of four experts for each token."""

    def __init__(self, width, heads):
        super().__init__(width, heads)
        self.mlp = MoE(width, 4 * width, 4, switch, activation=F.gelu, bias=True)

    def forward(self, x):
        x = x + self.attention(self.norm_1(x))
        y, self.choice = self.mlp(self.norm_2(x))
        return x + y


def plain(net, x, y):
    return F.cross_entropy(net(x), y)


def balanced(net, x, y):
    return plain(net, x, y) + 0.01 * sum(load_balance_loss(block.choice) for block in net.exits.blocks)


def new(width, layers, make, loss):
    torch.manual_seed(seed)
    net = ViT(width, layers, make)
    train(net, loss)
    return net


static = {f"{w} × {n}": new(w, n, Block, plain) for w, n in ((16, 1), (16, 2), (24, 2), (32, 3))}
experts = new(16, 2, ExpertBlock, balanced)

# %% slideshow={"slide_type": "skip"}
def parameters(net):
    spare = [*net.score.parameters(), *net.exits.heads[:-1].parameters()]  # what a static network does not use
    return sum(p.numel() for p in net.parameters()) - (net is not elastic) * sum(p.numel() for p in spare)


with torch.no_grad():
    fixed = {name: measure(net) for name, net in static.items()}
    fixed_table = [measure(net, pick_x, pick_y) for net in static.values()]
    with_experts = measure(experts)
    halved = ViT()  # the static network that is the elastic one's size, and half of its heads
    halved.load_state_dict(static["32 × 3"].state_dict())
    halved.use(2)
    narrowed, _ = measure(halved)
for name, (accuracy, flops), net in (
    *((name, fixed[name], net) for name, net in static.items()),
    ("16 × 2, 4 experts", with_experts, experts),
    ("elastic, in full", (full, full_flops), elastic),
):
    print(f"{name:18} accuracy {accuracy:.3f} at {flops / full_flops:4.0%}, {parameters(net):6,} parameters")
print(f"with half of their heads: 32 × 3 {narrowed:.3f}, elastic {curves['width'][0][0]:.3f}")
assert narrowed < curves["width"][0][0] - 0.08
assert 2.5 < parameters(experts) / parameters(static["16 × 2"]) < 3.3 and with_experts[1] < 1.1 * fixed["16 × 2"][1]
assert abs(with_experts[0] - fixed["16 × 2"][0]) < 0.05

# %% slideshow={"slide_type": "skip"}
budgets = [0.08, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6, 1.0]
best = [best_within(budget, table) for budget in budgets]
chosen, front = [grid[i] for i in best], [reported[i] for i in best]
a_front, f_front = np.array(front).T
ahead = {name: np.interp(flops, f_front, a_front) - accuracy for name, (accuracy, flops) in fixed.items()}
print("elastic minus static of equal FLOPs:", {name: round(float(lead), 3) for name, lead in ahead.items()})
assert chosen[0]["width"] == 2 and chosen[0]["patches"] < 16 and chosen[0]["sure"]  # all dials are turned
assert min(ahead["16 × 1"], ahead["16 × 2"]) > -0.03 and -0.05 < ahead["32 × 3"] < 0.03

# %% slideshow={"slide_type": "skip"} tags=["varies"]
@torch.no_grad()
def milliseconds(function, images):
    return 1e3 * wall_time(function, images, min_seconds=0.02).low


dial = [{"patches": k, "sure": 0.9} for k in (1, 2, 3, 4, 5, 6, 8, 12, 16)]
for_all = [*dials["width"], *dials["depth"]]
asked = {str(setting): partial(run, **setting) for setting in [{}, *chosen, *for_all, *dial]}  # each once
functions = [*asked.values(), *static.values(), experts]
turns = [[milliseconds(f, test_x[:256]) for f in functions] for _ in range(4)]
times = np.min(turns, axis=0).tolist()  # the quiet moments of a busy machine
ms = dict(zip(asked, times, strict=False))
full_ms = ms["{}"]
front_ms, for_all_ms, dial_ms = ([ms[str(setting)] for setting in settings] for settings in (chosen, for_all, dial))
*static_ms, expert_ms = times[len(asked) :]
by_flops = {"elastic": f_front[budgets.index(0.2)] / full_flops, "16 × 2": fixed["16 × 2"][1] / full_flops}
by_clock = {"elastic": front_ms[budgets.index(0.2)] / full_ms, "16 × 2": static_ms[1] / full_ms}
for name, time_share in by_clock.items():
    print(f"{name:8} {by_flops[name]:.0%} of the full network's FLOPs, {time_share:.0%} of its time")
    assert by_flops[name] < time_share < 1
assert expert_ms > static_ms[1]  # 16 × 2 with experts, and without

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Everything on one plot

# %% slideshow={"slide_type": "-"} tags=["figure:everything_on_one_plot", "fold", "varies"]
def share(points):
    return [100 * flops / full_flops for _, flops in points]


def right_of(points):
    return [100 * accuracy for accuracy, _ in points]


turned = [*curves["width"], *curves["depth"]]
fig, (left, clock) = plt.subplots(1, 2, figsize=(10, 4.0), sharey=True)
left.plot(share(reported), right_of(reported), ".", color="C0", alpha=0.35, ms=9, label="elastic: three dials")
for ax, ours, one_dial, theirs, with_four in (
    (left, share(front), share(turned), share(fixed.values()), share([with_experts])),
    (clock, front_ms, for_all_ms, static_ms, [expert_ms]),
):
    ax.plot(one_dial, right_of(turned), "^", color="0.7", ms=6, label="elastic: width or depth alone")
    ax.plot(ours, right_of(front), "o-", lw=2.4, ms=8, color="C0", label="elastic: the best for a budget")
    ax.plot(theirs, right_of(fixed.values()), "ks:", ms=8, label="static: a network a point")
    ax.plot(with_four, right_of([with_experts]), "P", color="C1", ms=11, label="static, with four experts")
    for name, cost, accuracy in zip(fixed, theirs, right_of(fixed.values()), strict=True):
        off = {"16 × 1": (20, -20), "16 × 2": (26, -26)}.get(name, (0, 8))
        ax.annotate(name, (cost, accuracy), xytext=off, textcoords="offset points", fontsize="small", color="0.3",
                    ha="center")  # fmt: skip
    low, high = 0.7 * min(theirs + ours), 1.6 * max(theirs + ours)
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100) if low < t < high]
    ax.set(xscale="log", xlim=(low, high))
    ax.set_xticks(ticks, ticks)
    ax.minorticks_off()
low, high = left.get_ylim()
left.set(xlabel="FLOPs, % of the full network's (log)", ylabel="test accuracy, %\n(not from 0)")
left.set_ylim(low - 0.6, high + 1)
clock.set_xlabel("milliseconds for 256 images (log)")
fig.legend(*left.get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=3, fontsize="small")
leads = ", ".join(f"{name} {100 * lead:+.1f}" for name, lead in ahead.items())
show(
    fig,
    "Accuracy against FLOPs and against milliseconds, both logarithmic, for one elastic network and for static ones. "
    f"At a static network's FLOPs the best elastic setting is ahead by so many points: {leads}. By the clock "
    "everything small moves to the right, towards the full network.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The blue points are **one** set of weights; every black square is a network of its own, trained for that size alone.
#
# *Which network is best at a budget that is known?* It depends on the budget. Where it is ample, a static network is
# level or better, by up to four points with other seeds: nothing in it is made for other customers. Where it is small,
# asking the image helps: several dials at once come out level with a static network of equal cost, or ahead, on a task
# made for patches. By the clock everything small moves to the right, static networks too (the notebook prints it).
#
# Papers that compare with the full network alone do not show you the black line. Ask for it.
#
# The four experts have about three times the parameters of their static sister, at the same FLOPs, and are about as
# good: 1,257 digits leave little for more parameters to learn. And the clock sees the sorting. Experts pay where data
# and tokens are plenty.
#
# Not on the plot: skipped layers and gates by input (notebook 05 measured them, on tasks of their own); adapters and
# merging, which change what a network knows, not how much of it runs.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## And if nobody knows the budget?
#
# Every request brings a budget: from an eighth of the full network's FLOPs to twice as
# many, each octave as likely. What is too dear gives no answer.

# %% slideshow={"slide_type": "skip"}
demand = np.geomspace(0.125, 2, 400)


def served(table, reported):
    """The share of right answers when each budget takes the best row that it allows, chosen on the other images."""
    rows = [best_within(budget, table) for budget in demand]
    return float(np.mean([0 if i is None else reported[i][0] for i in rows]))


right = {"elastic": served(table, reported)}
for i, name in enumerate(static):
    right[f"{name} alone"] = served(fixed_table[i : i + 1], [fixed[name]])
right["all four static"] = served(fixed_table, list(fixed.values()))
weights = [parameters(elastic), *map(parameters, static.values()), sum(map(parameters, static.values()))]
alone = max(value for name, value in right.items() if name.endswith("alone"))
for (name, value), count in zip(right.items(), weights, strict=True):
    print(f"{name:16} {value:.3f} right, {count:6,} parameters")
assert right["elastic"] > alone - 0.01 and abs(right["elastic"] - right["all four static"]) < 0.05
assert weights[-1] > 1.3 * weights[0]
assert max(fixed["16 × 1"][1], min(flops for _, flops in table)) < 0.125 * full_flops  # both kinds can always answer

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(2, 1, figsize=(10, 3.75), sharex=True)
for ax, values, fmt, label in (
    (axes[0], [100 * value for value in right.values()], "{:.0f}", "right, %"),
    (axes[1], [count / 1000 for count in weights], "{:.0f}", "thousand\nparameters"),
):
    labels = [name.replace(" alone", "\nalone").replace(" static", "\nstatic") for name in right]
    plots.bars(ax, labels, {label: values}, fmt=fmt)
    ax.set(ylabel=label, ylim=(0, 1.3 * max(values)))
    for bar in ax.patches[1:]:
        bar.set(facecolor="0.7")
show(
    fig,
    f"Bars. Right answers under a random budget: elastic {right['elastic']:.0%}, the best static network alone "
    f"{alone:.0%}, all four static networks together {right['all four static']:.0%}, with more parameters to keep.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# A small static network always answers and is rarely excellent; a large one is excellent and mostly too dear. The
# elastic one is level with the best of them or better, as it moves with the demand. (On digits even the smallest is
# good, so it comes close. Where small networks fail, it would not.) A **family** of static networks, with
# a switch in front, does as well: for more parameters to keep, four trainings instead of one, and sizes that somebody
# has to choose beforehand. That is the fair summary of *dynamic cost for inference*: at one budget that is known, an
# elastic network may win or lose; its case is that budgets are many.
#
# The demand is our choice: flat in octaves, and from an eighth on, where the smallest network of either kind fits. With
# another one the order of the grey bars changes. Exercise 2 lets you try.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Turn the dial yourself
#
# How many patches are kept; each digit leaves when an exit is 0.9 sure.

# %% slideshow={"slide_type": "skip"}
with torch.no_grad():
    scores = elastic.scores(elastic.tokens(test_x[:8]))
rank = scores.argsort(descending=True).argsort()  # 0 is the most promising patch
patches = [setting["patches"] for setting in dial]
kept = torch.stack([rank < k for k in patches])
dialled = [measure(partial(run, **setting)) for setting in dial]
leave = {}  # the share of digits that leave after the first block
with torch.no_grad():
    elastic.use(4)
    for k in patches:
        exits = infer(elastic.exits, best_tokens(test_x, k), above_confidence(0.9)).exit_index
        leave[k] = (exits == 0).float().mean().item()
for k, (accuracy, _) in zip(patches, dialled, strict=True):
    print(f"{k:2} patches: {accuracy:.3f} right, {leave[k]:.0%} leave after the first block")
assert dialled[3][0] > full - 0.03 and dialled[3][0] > dialled[1][0] + 0.05
assert min(leave[k] for k in patches if k >= 4) > max(0.45, leave[2] + 0.1)

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
Savings(
    patches, *zip(*dialled, strict=True), dial_ms, full=(full, full_flops, full_ms),
    control="patches", images=test_x[:8], kept=kept, setting=4,
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Everything was measured in the notebook: accuracy on the reporting half, FLOPs while it ran, milliseconds for 256
# images. The slider takes patches away, and the exits stay at a confidence of 0.9. What the picture does not show: from
# four patches on, about half of the digits or more leave after the first block; with two, far fewer dare to.
#
# **Predict, then move:** a digit covers at most four patches. What happens at three, which were never drawn in
# training? And why is half of the FLOPs not half of the time? (This network is narrow: notebook 05.)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What does a million digits cost?
#
# The talk's abstract asks for less *power*. An estimate: seconds, measured, times **15 watts, assumed**.

# %% slideshow={"slide_type": "skip"} tags=["varies"]
WATTS, MILLION = 15, 1_000_000  # a laptop's processor under load: an assumption, not a measurement
lean = partial(run, **chosen[budgets.index(0.2)])
contenders = {"full": run, "elastic, 20 %": lean, "static 16 × 2": static["16 × 2"]}
many, singly = test_x[:256], test_x[:8].split(1)
served_as = {
    "batches of 256": (256, {name: partial(f, many) for name, f in contenders.items()}),
    "one at a time": (8, {name: partial(lambda f: [f(x) for x in singly], f) for name, f in contenders.items()}),
}
joules = {}
for how, (size, work) in served_as.items():
    with torch.no_grad():
        times = np.min([[wall_time(f, min_seconds=0.02).low for f in work.values()] for _ in range(6)], axis=0)
    joules[how] = [WATTS * t / size * MILLION for t in times]
    print(f"{how:14}: ", dict(zip(contenders, (f"{e / 3600:.2f} Wh" for e in joules[how]), strict=True)))
batched, single = joules.values()
saved = batched[0] - batched[1]  # joules in a million digits
training = WATTS * training_seconds
print(f"training took {training:.0f} J, which is saved again after {training / saved:.1f} million digits")
assert max(batched[1:]) < 0.9 * batched[0]  # on a quiet machine about 0.4, both
assert single[0] > 3 * batched[0]  # the same FLOPs
assert single[1] > 0.6 * single[0] and single[2] < 0.9 * single[1]  # on a quiet machine about 1 and 0.5
assert single[1] > 1.5 * batched[0]  # lean, but one at a time: dearer than in full, but in batches

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
fig, ax = plt.subplots(figsize=(10, 2.9))
plots.bars(ax, list(contenders), {how: [e / 1e3 for e in energy] for how, energy in joules.items()}, fmt="{:.1f}")
ax.set(ylabel="kilojoules, estimated", ylim=(0, 1.3 * max(single) / 1e3))
ax.legend(frameon=False, ncols=2, loc="upper center")
bills = (
    f"{how} (" + "; ".join(f"{name}: {e / 1e3:.1f}" for name, e in zip(contenders, energy, strict=True)) + ")"
    for how, energy in joules.items()
)
show(fig, f"Bars: estimated kilojoules for a million digits, in {', '.join(bills)}.")

# %% [markdown] slideshow={"slide_type": "-"}
# *How* digits are served matters more than *what* is skipped. One at a time, elastic saves next to nothing; a
# small static network does save.

# %% [markdown] slideshow={"slide_type": "notes"}
# A watt hour is 3.6 kilojoules; boiling a litre of water takes about a hundred. Digits are cheap.
#
# In batches elastic at 20 % of the FLOPs needs much less than in full, and so does a static network of about equal
# FLOPs. One at a time the same FLOPs take several times as long, and the order changes: elastic is about as dear as in
# full, the small static network much cheaper.
#
# **Do not believe such numbers far.** The watts are assumed. A machine that waits draws power too, so a second saved is
# worth less than 15 joules while the machine stays on. Moving a number from memory can cost far more than adding to it,
# and FLOPs do not see that. What becomes cheap is used more. And training, with all the trainings that were thrown
# away, may outweigh it all: the cell above says after how many digits *this* one is paid back. Measure with a meter,
# and report the machine, the batch and the idle time (Henderson et al. 2020).

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Tasks arrive one by one
#
# Six tasks on the same digits, one after the other. Old data are gone.

# %% slideshow={"slide_type": "skip"}
tasks = digit_tasks()
names, T = list(tasks), len(tasks)

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(2, T, figsize=(10, 3.6))
for column, (name, task) in zip(axes.T, tasks.items(), strict=True):
    for ax, n in zip(column, (7, 12), strict=True):
        ax.imshow(task.test_x[n], cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[], xlabel=f"→ {task.test_y[n]}")
    column[0].set_title(name)
show(fig, "Two digits as six tasks see them, with the answers: class, parity, ink, turned, inverted, mirrored.")

# %% [markdown] slideshow={"slide_type": "notes"}
# Which digit? Even or odd? More ink than usual? Which digit, if it is turned, in white on black, in a mirror? All six
# share ten outputs, and the answers conflict: the first three tasks see the same image and want different numbers. So
# everybody is *told* the task.
#
# **Predict:** a network learns the six one after the other, told each time which task it is. What does it know in the
# end about the first?

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Train on, or add adapters

# %% slideshow={"slide_type": "skip"}
class Told(nn.Sequential):  # one network for all, which is told the task
    def forward(self, x, task):
        return super().forward(torch.cat([x, F.one_hot(task, T).float()], -1))

# %% slideshow={"slide_type": "-"}
class Adapted(nn.Module):  # a frozen network; in each layer an adapter for each task
    def __init__(self, base, rank=4):
        super().__init__()
        lora = partial(LoRA, rank=rank, alpha=4 * rank)
        self.layers = nn.ModuleList(
            MixtureOfAdapters(layer, [lora(layer) for _ in range(T)], argmax)
            for layer in base if isinstance(layer, nn.Linear)
        )

    def forward(self, x, task):
        for i, layer in enumerate(self.layers):
            x, _ = layer(F.relu(x) if i else x, by_task(task, T))
        return x

# %% [markdown] slideshow={"slide_type": "notes"}
# **One network for all**, trained on: nothing grows. **Adapters** (notebook 10): the network learns the first task and
# is frozen; each later task gets a LoRA of rank 4 in each of the three layers, about 1,300 numbers. **Fresh modules**:
# a small network of about 1,200 numbers for each task, as in notebook 00.
#
# And the cheap alternative that every such comparison owes its readers: **replay**. One network, and 75 old images of
# each task in a drawer, mixed into every later batch. An image has 64 pixels of a byte each: 75 of them take as much
# room as an adapter, about 5 kilobytes.

# %% slideshow={"slide_type": "skip"}
class Fresh(nn.Module):
    """A small network of its own for each task."""

    def __init__(self):
        super().__init__()
        self.f = nn.ModuleList(MLP(64, 16, 10) for _ in range(T))

    def forward(self, x, task):
        return mix_sparse(x, F.one_hot(task, T).float(), self.f)


# %% slideshow={"slide_type": "skip"}
def lessons(name, generator):
    for x, y in batches(tasks[name].train_x, tasks[name].train_y, generator=generator):
        yield x.flatten(1), y


@torch.no_grad()
def accuracies(f, known):
    """Accuracy on each of the first `known` tasks, and no number for the others."""
    row = [np.nan] * T
    for t, name in enumerate(names[:known]):
        x, y = tasks[name].test_x.flatten(1), tasks[name].test_y
        row[t] = (f(x, torch.full_like(y, t)).argmax(-1) == y).float().mean().item()
    return row


def one_by_one(learn, f):
    """learn(t, name, generator) for each task in turn; (T, T): after each, the accuracy on all tasks so far."""
    generator, matrix = torch.Generator().manual_seed(seed), []
    for t, name in enumerate(names):
        learn(t, name, generator)
        matrix.append(accuracies(f, t + 1))
    return np.array(matrix)


def on(f, t):
    """The loss of f on task t."""
    return lambda x, y: F.cross_entropy(f(x, torch.full_like(y, t)), y)


def quick(module, loss, stream, lr=3e-3, steps=200):
    fit(module, loss, stream, steps=steps, lr=lr, every=1000, label="a task")

# %% slideshow={"slide_type": "skip"}
def told(drawer_size):
    """Train one network on; with a drawer, old examples join every batch."""
    torch.manual_seed(seed)
    net, drawer = Told(*MLP(64 + T, 64, 10, depth=3)), []

    def learn(t, name, generator):
        def loss(x, y):
            total = on(net, t)(x, y)
            if drawer:
                old_x, old_y, old_t = map(torch.cat, zip(*drawer, strict=True))
                rows = torch.randint(len(old_x), (64,), generator=generator)
                total = total + F.cross_entropy(net(old_x[rows], old_t[rows]), old_y[rows])
            return total

        quick(net, loss, lessons(name, generator))
        if drawer_size:
            rows = torch.randperm(len(tasks[name].train_x), generator=generator)[:drawer_size]
            x, y = tasks[name].train_x[rows].flatten(1), tasks[name].train_y[rows]
            drawer.append((x, y, torch.full_like(y, t)))

    return one_by_one(learn, net)


matrices = {"train on": told(0), "replay": told(75)}

# %% slideshow={"slide_type": "skip"}
torch.manual_seed(seed)
base = MLP(64, 64, 10, depth=3)
adapted, answers, probe = Adapted(base), [], data.test_x.flatten(1)


def learn_adapter(t, name, generator):
    if t == 0:  # the first task trains the base; its adapters change nothing
        base.requires_grad_(True)
        quick(base, on(lambda x, task: base(x), 0), lessons(name, generator))
        base.requires_grad_(False)
    else:
        new = nn.ModuleList(layer.adapters[t] for layer in adapted.layers)
        quick(new, on(adapted, t), lessons(name, generator), lr=1e-2)
    with torch.no_grad():
        answers.append([adapted(probe, torch.full_like(data.test_y, old)) for old in range(t + 1)])


matrices["adapters"] = one_by_one(learn_adapter, adapted)
for then in answers:
    assert all(torch.equal(old, now) for old, now in zip(then, answers[-1], strict=False))  # the same bits, to the end

fresh = Fresh()
matrices["fresh modules"] = one_by_one(
    lambda t, name, generator: quick(fresh.f[t], on(fresh, t), lessons(name, generator), lr=1e-2), fresh
)

# %% slideshow={"slide_type": "skip"}
torch.manual_seed(seed)
together, generator = Told(*MLP(64 + T, 64, 10, depth=3)), torch.Generator().manual_seed(seed)
streams = [lessons(name, generator) for name in names]
mixed = ((t, *next(stream)) for _ in range(200) for t, stream in enumerate(streams))
quick(together, lambda t, x, y: on(together, t)(x, y), mixed, steps=200 * T)
joint = accuracies(together, T)


def forgotten(matrix):
    """How much lower is a task in the end than just after it was learnt? The mean over all but the last."""
    return float(np.mean([matrix[t, t] - matrix[-1, t] for t in range(T - 1)]))


in_the_end = {name: matrix[-1].mean() for name, matrix in matrices.items()} | {"all at once": np.mean(joint)}
for name, matrix in matrices.items():
    print(f"{name:14} in the end {in_the_end[name]:.3f}, forgotten {forgotten(matrix):.3f},", matrix[-1].round(2))
print(f"all at once    in the end {in_the_end['all at once']:.3f}", np.array(joint).round(2))

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What is left of each task

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, axes = plt.subplots(1, 4, figsize=(10, 3.5), sharey=True)
for ax, (name, matrix) in zip(axes, matrices.items(), strict=True):
    sns.heatmap(
        100 * matrix, ax=ax, annot=True, fmt=".0f", vmin=0, vmax=100, cmap="cividis", cbar=False, square=True,
        annot_kws={"size": "small"}, xticklabels=names, yticklabels=names, linewidths=0.5,
    )
    ax.set_title(f"{name}\nforgotten: {100 * forgotten(matrix):.0f} points", fontsize="medium")
    ax.tick_params(length=0, labelsize="small")
axes[0].set_ylabel("after learning\n(accuracy, %)")
show(
    fig,
    "Accuracy in per cent on each task, a row after each task learnt, for four ways. Trained on, the columns fade: "
    f"{100 * forgotten(matrices['train on']):.0f} points are forgotten on average. With replay they fade a little. "
    "With adapters and with fresh modules every column keeps its number to the end.",
)
assert forgotten(matrices["train on"]) > 0.4 and forgotten(matrices["replay"]) < 0.2
assert forgotten(matrices["adapters"]) == forgotten(matrices["fresh modules"]) == 0

# %% [markdown] slideshow={"slide_type": "notes"}
# Read down a column: what becomes of a task. **Train on:** each new task erases the old ones, although the network is
# told which is meant. **Replay:** a drawer of old images keeps most of it. **Modules:** the numbers stand still. That
# is no success of training; nothing that a task uses is ever touched again, and the hidden cells check that its answers
# are the same to the last bit.
#
# Read the diagonal: how well a task is learnt when its turn comes. There is the catch.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Nothing forgotten, not everything learnt

# %% slideshow={"slide_type": "skip"}
lora_numbers = sum(p.numel() for layer in adapted.layers for p in (layer.adapters[1].A, layer.adapters[1].B))
own_numbers = sum(p.numel() for p in fresh.f[1].parameters())
kilobytes = {"train on": 0, "replay": 75 * 65 / 1e3, "adapters": 4 * lora_numbers / 1e3}
kilobytes |= {"fresh modules": 4 * own_numbers / 1e3, "all at once": 1257 * 65 / 1e3}  # 65: the pixels and the answer
base_kilobytes = 4 * sum(p.numel() for p in base.parameters()) / 1e3
print({name: round(size, 1) for name, size in kilobytes.items()}, f"a task; the base {base_kilobytes:.0f}")
assert max(kilobytes[name] for name in ("replay", "adapters", "fresh modules")) < 5.5  # about the same room for each

# %% slideshow={"slide_type": "skip"}
torch.manual_seed(seed)
wide, generator = Adapted(base, rank=32), torch.Generator().manual_seed(seed)
for name in ("ink", "inverted"):  # where adapters were behind, with seed 0: does more rank help?
    t = names.index(name)
    quick(nn.ModuleList(layer.adapters[t] for layer in wide.layers), on(wide, t), lessons(name, generator), lr=1e-2)
    rank_32, rank_4, own = accuracies(wide, T)[t], matrices["adapters"][-1, t], matrices["fresh modules"][-1, t]
    print(f"{name:8} rank 4: {rank_4:.3f}, rank 32: {rank_32:.3f}, a fresh module: {own:.3f}")
assert rank_32 < own - 0.03  # of inverted

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, (left, right_) = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=(1, 1.25))
labels = [f"{name} · {kilobytes[name]:.0f} kB" for name in in_the_end]
bars = left.barh(labels, [100 * value for value in in_the_end.values()], color=["C3", "C2", "C0", "C1", "0.7"])
left.bar_label(bars, fmt="%.0f", padding=3)
left.invert_yaxis()
left.set(xlabel="right in the end, all six tasks, %", xlim=(0, 112))
each_task = {name: 100 * matrices[name][-1] for name in ("adapters", "fresh modules")}
plots.bars(right_, names, each_task, fmt="{:.0f}")
right_.set(ylim=(0, 125), yticks=[0, 50, 100], ylabel="right in the end, %")
right_.legend(frameon=False, ncols=2, loc="upper center")
right_.tick_params(axis="x", labelsize="small", rotation=25)
show(
    fig,
    "Left: accuracy on all tasks in the end, with the kilobytes that each task adds. " +
    ", ".join(f"{name} {value:.0%}" for name, value in in_the_end.items()) +
    ". Right, by task, adapters against fresh modules: " +
    ", ".join(f"{name} {a:.0f} against {b:.0f}" for name, a, b in zip(names, *each_task.values(), strict=True)) + ".",
)
behind = dict(zip(names, matrices["fresh modules"][-1] - matrices["adapters"][-1], strict=True))
assert behind["inverted"] > 0.2 and max(behind[name] for name in ("class", "parity", "turned", "mirrored")) < 0.05
assert in_the_end["replay"] > in_the_end["train on"] + 0.25
assert in_the_end["fresh modules"] > in_the_end["adapters"] + 0.03
assert abs(in_the_end["replay"] - in_the_end["adapters"]) < 0.12
assert abs(in_the_end["fresh modules"] - in_the_end["all at once"]) < 0.06

# %% [markdown] slideshow={"slide_type": "notes"}
# After 200 steps each, adapters are about as good as fresh modules on four tasks. On *inverted* they are far behind,
# and more rank alone does not cure it: the hidden cell tries 32 in place of 4. On *ink* it depends on the seed.
# (Notebook 10 looks closer. More steps, or smaller ones? Try, with more than one seed.) At the price of an adapter, a
# fresh small network does better here, and a drawer of 75 images about as well, with no growth of the network (but at
# twice the work for each step, and only if old images may be kept).
#
# So the fair sentence is: modules make forgetting impossible; they do not make learning better. On large pretrained
# networks adapters shine, because there the base holds far more than any task needs. And all of this needs to be *told*
# the task. If nobody tells, a router has to guess, and can be wrong.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Use it when ... do not when ...
#
# | | use it when | do not when |
# |---|---|---|
# | **patches, tokens** | much of the input is empty | everything matters |
# | **early exits** | many inputs are easy | time must be constant |
# | **heads, channels** | one slice for all | each example wants its own |
# | **experts** | data and memory are plenty | one token at a time |
# | **adapters** | the base knows a lot | the task is foreign to it |
# | **merging** | models share a base | they were trained apart |
# | **smaller network** | the budget is known | it changes all day |

# %% [markdown] slideshow={"slide_type": "notes"}
# Each row was measured in this lecture: patches and channels in 05, exits in 06 and 07, experts in 08 and 09, adapters
# in 10 and above, merging in 12. The last row is the one that is forgotten most often. Before you make a network
# modular, train a smaller one, alike, and put it on the plot.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Open questions
#
# - **Do modules mean something?** Trained end to end, they rarely split a task as we would, even where it would help.
# - **Who trains the router?** The best choice has no gradient; at scale, hashing comes close.
# - **Can it be attacked?** Inputs can be made to take the longest way.
# - **Can many people build one network?** Modules as packages, with versions and tests.
# - **When is a choice by input worth it?** Ask against a static network of equal cost.

# %% [markdown] slideshow={"slide_type": "notes"}
# *Meaning:* Csordás et al. 2021 find that networks rarely reuse parts where they could; Mittal et al. 2022 build data
# that are modular by construction, and find that modular networks trained end to end do not reach what knowing the
# modules would allow. *Routers:* Clark et al. 2022 compare three kinds of routing, hashing among them, over many sizes:
# all help, the gaps between them are small, and the help shrinks as networks grow. *Attacks:* Hong et al. 2021 make
# inputs that exit late; a service that bills by the joule has a new weak spot. *Many hands:* Raffel 2023 asks for
# models built as open-source software is. Pfeiffer et al. 2023 survey all of it. *By input or not:* that question is
# ours, out of notebooks 05 and 06 and the plot above, where static networks of equal cost came close, or ahead.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Not in this lecture
#
# - Smaller numbers and fewer weights: **quantisation, pruning, distillation**
# - Who designs the modules: **architecture search, hypernetworks**
# - A small model drafts, a large one checks: **speculative decoding**
# - Halting in **recurrent** networks; modules composed by a program
# - Modules outside of the weights: **retrieval, tools, other models**
# - Hardware that likes sparsity; **energy by a meter**

# %% [markdown] slideshow={"slide_type": "notes"}
# Most of these combine with what we did, and some are its rivals: a network quantised to a quarter of the bytes may
# save more than any router. We left them out because their choices are made once, before the input is seen, or because
# they need machines that a laptop is not.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Exercises
#
# ### Exercise 1: the front (★★☆, 10 min)
#
# Settings have a `cost` (S,) and an `accuracy` (S,), in any order. A setting is *beaten* if another is at most as dear
# and at least as accurate, and better in one of the two. Write `pareto_front(cost, accuracy)`: a mask (S,) of the
# settings that nobody beats.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def pareto_front(cost, accuracy):
    return ...


check("pareto_front", pareto_front)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def pareto_front_solution(cost, accuracy):
    no_dearer = cost[:, None] <= cost  # (S, S): row i is no dearer than column j
    no_worse = accuracy[:, None] >= accuracy
    better = (cost[:, None] < cost) | (accuracy[:, None] > accuracy)
    return ~(no_dearer & no_worse & better).any(0)


check("pareto_front", pareto_front_solution)

# %% [markdown] slideshow={"slide_type": "skip"}
# ### Exercise 2: a random budget (★★☆, 10 min)
#
# A budget is drawn from `budgets` (N,), each equally likely. The network takes the most accurate setting whose cost is
# at most the budget; where there is none, it gives no answer, which is never right. Write `random_budget(cost,
# accuracy, budgets)`: the expected share of right answers. Then try another demand: when is the smallest network best?

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def random_budget(cost, accuracy, budgets):
    return ...


check("random_budget", random_budget)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def random_budget_solution(cost, accuracy, budgets):
    fits = cost <= budgets[:, None]  # (N, S)
    return torch.where(fits, accuracy, 0).amax(-1).mean()


check("random_budget", random_budget_solution)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home, from all of it
#
# $$y = \sum_k z_k \, f_k(x) \qquad z = \text{choice}(\text{score}(x))$$
#
# - One equation: patches, layers, exits, experts, adapters, other networks.
# - A choice has no gradient. Noise, samples or sparse maps lend it one.
# - A saving counts when the work does not run, and the clock agrees.
# - Many budgets, many tasks: there modules win. One of each: try a small network first.
# - Parts that nobody touches are not forgotten.
#
# **Thank you for following to the end. Now take something apart.**

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - J. Yu, L. Yang, N. Xu, J. Yang, T. Huang, *Slimmable Neural Networks*, ICLR 2019: one network at many widths.
# - G. Huang et al., *Multi-Scale Dense Networks for Resource Efficient Image Classification*, ICLR 2018: budgets, known
#   or not.
# - H. Cai, C. Gan, T. Wang, Z. Zhang, S. Han, *Once-for-All: Train One Network and Specialize it for Efficient
#   Deployment*, ICLR 2020.
# - M. Dehghani, A. Arnab, L. Beyer, A. Vaswani, Y. Tay, *The Efficiency Misnomer*, ICLR 2022: FLOPs, seconds and
#   parameters disagree.
# - P. Henderson et al., *Towards the Systematic Reporting of the Energy and Carbon Footprints of Machine Learning*,
#   JMLR 2020.
# - M. Horowitz, *Computing's Energy Problem (and What We Can Do About It)*, ISSCC 2014: moving data costs more.
# - A. A. Rusu et al., *Progressive Neural Networks*, 2016: a new module for each task.
# - D. Rolnick, A. Ahuja, J. Schwarz, T. Lillicrap, G. Wayne, *Experience Replay for Continual Learning*, NeurIPS 2019.
# - E. J. Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, ICLR 2022.

# %% [markdown] slideshow={"slide_type": "skip"}
# - R. Csordás, S. van Steenkiste, J. Schmidhuber, *Are Neural Nets Modular? Inspecting Functional Modularity Through
#   Differentiable Weight Masks*, ICLR 2021.
# - S. Mittal, Y. Bengio, G. Lajoie, *Is a Modular Architecture Enough?*, NeurIPS 2022.
# - A. Clark et al., *Unified Scaling Laws for Routed Language Models*, ICML 2022.
# - S. Hong, Y. Kaya, I.-V. Modoranu, T. Dumitras, *A Panda? No, It's a Sloth: Slowdown Attacks on Adaptive Multi-Exit
#   Neural Network Inference*, ICLR 2021.
# - C. Raffel, *Building Machine Learning Models Like Open Source Software*, Communications of the ACM 2023.
# - J. Pfeiffer, S. Ruder, I. Vulić, E. M. Ponti, *Modular Deep Learning*, TMLR 2023.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - Digits: E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.
