# %% [markdown] slideshow={"slide_type": "slide"}
# # A language model that knows when it knows
#
# **Notebook 07** · *Designing efficient and modular neural networks*
#
# After `impor` the next letter is no riddle. After `import ` it is.
# Why should both cost the same number of layers?

# %% [markdown] slideshow={"slide_type": "notes"}
# **What you will be able to do.** Let every token of a decoder leave at its own layer; say what later tokens see of a
# state that left early; pick a threshold that keeps a promise about quality, with a proof; serve one model at many
# budgets. You need: notebook 06 for exits and thresholds, and what a transformer with a key-value cache does. About 45
# minutes with the two exercises. The model was trained beforehand by this project's own command; everything else runs
# here, in less than a minute.

# %% slideshow={"slide_type": "skip"}
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from lecture_lib import plots
from lecture_lib.calibration import hoeffding_bentkus_p_value, learn_then_test
from lecture_lib.cost import count_flops, wall_time
from lecture_lib.data import KINDS, python_sources, token_kinds
from lecture_lib.notebook import check, setup, show
from lecture_lib.pretrained import load, record
from lecture_lib.pretrained.decoder import (
    AtExit,
    LearnedConfidence,
    exit_while_reading,
    generate,
    softmax_margin,
    state_similarity,
    token_losses,
)
from lecture_lib.training import fit
from lecture_lib.widgets import ExitText, Savings

seed = setup(0)
generator = torch.Generator().manual_seed(seed)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A small model with six exits
#
# Bytes of Python source in, the next byte out; a read-out after every layer.
# All six were trained at once, later ones with more weight:
#
# $$\mathcal{L} = \sum_{\ell=1}^{6} \frac{\ell}{21} \, \mathcal{L}_\ell$$

# %% slideshow={"slide_type": "-"}
model, made = load("language_model"), record("language_model")
n_exits = len(model.layers)
for key in ("command", "date", "parameters", "processor_minutes"):
    print(f"{key:18} {made[key]}")

# %% [markdown] slideshow={"slide_type": "notes"}
# The corpus is the Python standard library's own sources, so nothing has to be downloaded. One file in twenty is held
# out, and never seen in training. The record lies beside the weights; to train them again, which takes about an hour,
# delete the two files in `lecture_lib/pretrained/checkpoints` and run the command that it names. A run that is stopped
# goes on where it was.
#
# Notebook 06 trained exits on digits. What is new here: a text is a *sequence of decisions*, and each token may leave
# at another layer than its neighbours.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## How good is each exit?

# %% slideshow={"slide_type": "skip"} tags=["varies"]
held_out = python_sources().test
sample = held_out[:26_000]
losses = token_losses(model, sample)  # (exits, bytes), in nats
bits = (losses.mean(-1) / math.log(2)).tolist()
print("recorded, all held-out files:", made["bits_per_byte"])
print("measured, a sample of them:  ", [round(b, 3) for b in bits])
assert bits[-1] < 0.85 * bits[0]  # depth matters
assert max(np.diff(bits)) < 0.02  # and no layer makes it worse

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 3.7))
packers = made["bits_per_byte_of"]
names = [f"exit {k}" for k in range(1, n_exits + 1)]
plots.bars(ax, [*names, *packers], {"bits per byte": [*made["bits_per_byte"], *packers.values()]})
for bar in ax.patches[n_exits:]:
    bar.set(facecolor="0.6", hatch="//")
ax.set(ylabel="bits per byte, all held-out files")
show(
    fig,
    "Bars of bits per byte on held-out files for the six exits, falling from 2.3 to 1.15, and beside them gzip, bz2 "
    "and xz at 1.9, 1.6 and 1.55. From exit 3 on the model is below all three.",
)
assert made["bits_per_byte"][-1] < min(made["bits_per_byte_of"].values())

# %% [markdown] slideshow={"slide_type": "notes"}
# Bits per byte is what a compressor built on the model would need, so compressors are the fair yardstick: gzip, bz2 and
# xz at their strongest, on the same held-out files. Most of the gain comes with the first layers, and the last ones
# refine. On *average*. The average is made of many bytes for which one layer is enough, and some that need all six.
#
# **Predict:** for which share of all bytes does the *first* exit already name the same next byte as the last one?

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Most bytes are easy

# %% slideshow={"slide_type": "skip"}
windows = sample[: 100 * 256].view(100, 256).long()
with torch.no_grad():
    states = model.states(windows)  # (exits, windows, 256, width)
    best = torch.stack([model.read(k, h).argmax(-1) for k, h in enumerate(states)])
agrees = best == best[-1]  # does this exit predict what the last one does?
same = agrees.float().mean((1, 2))

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
kinds = token_kinds(held_out)[1 : len(sample) + 1][: 100 * 256].view(100, 256)  # of the byte that is predicted
settled = agrees.flip(0).cumprod(0).flip(0).bool()  # agrees from here on
depth = n_exits + 1 - settled.sum(0)  # (windows, 256): how many layers an oracle would run
by_kind = {kind: depth[kinds == i].float().mean().item() for i, kind in enumerate(KINDS)}
order = sorted(by_kind, key=by_kind.get)
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.0), width_ratios=(1, 1.25))
plots.bars(left, [str(k) for k in range(1, n_exits + 1)], {"same byte": same.tolist()}, fmt="{:.2f}")
left.set(xlabel="exit", ylabel="predicts as the last exit does", ylim=(0, 1.12))
plots.bars(right, order, {"layers": [by_kind[kind] for kind in order]}, fmt="{:.1f}")
right.set(ylabel="layers until settled", xlabel="kind of the byte that is predicted")
right.tick_params(axis="x", rotation=30)
show(
    fig,
    "Left: the share of bytes for which each exit predicts what the last does; it is high from the first exit on and "
    "grows. Right: how many layers until the prediction settles, by token kind, sorted.",
)
first_exit = same[0].item()
print(f"the first exit agrees on {first_exit:.0%}; an oracle needs {depth.float().mean():.1f} layers on average")
assert first_exit > 0.4 and depth.float().mean() < 0.6 * n_exits

# %% [markdown] slideshow={"slide_type": "notes"}
# The *oracle* runs a token until its prediction no longer changes. It cannot be built, as it knows the future layers;
# it says how much there is to win. Python's own tokenizer tells the kind of each byte: a ground truth that nobody had
# to label.
#
# Numbers are the hardest, spaces the easiest. Within a name, the first letter needs about twice the layers of the rest:
# that is where the information is.

# %% slideshow={"slide_type": "skip"} tags=["varies"]
is_name = kinds == KINDS.index("name")
begins = is_name[:, 1:] & ~is_name[:, :-1]  # the first byte of a name
goes_on = is_name[:, 1:] & is_name[:, :-1]
first_letter, other_letters = (depth[:, 1:][mask].float().mean().item() for mask in (begins, goes_on))
print(f"layers until settled: {first_letter:.1f} for the first letter of a name, {other_letters:.1f} for the others")
assert first_letter > 1.4 * other_letters and order[0] == "space" and by_kind["number"] > 1.5 * by_kind["space"]

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Three ways to be sure
#
# Leave at the first exit whose **confidence** $c_\ell \ge \lambda$:
#
# - **margin**: the two largest probabilities, $p_{(1)} - p_{(2)}$
# - **similarity**: $\cos(h_\ell, h_{\ell - 1})$: the state has stopped moving
# - **learned**: a linear classifier, "would the last layer say the same?"

# %% slideshow={"slide_type": "-"}
h = states[1, 0]  # the states of one window after layer 2
p = model.read(1, h).softmax(-1).sort(-1).values
by_hand = p[:, -1] - p[:, -2]
library = softmax_margin(AtExit(model, 1, h, states[0, 0]))
torch.testing.assert_close(by_hand, library.detach())

# %% [markdown] slideshow={"slide_type": "notes"}
# These are the three of CALM (Schuster et al. 2022). The margin needs a look through the read-out at every exit, which
# for a large vocabulary is the most expensive part. Similarity costs almost nothing. The classifier costs one number a
# state, but has to be trained: the decoder stays frozen, the labels come for free, and both labels get half of the
# weight, as agreement is far more common than its opposite.

# %% slideshow={"slide_type": "skip"}
learned = LearnedConfidence(model.head.in_features)
text = python_sources().train


def windows_of(text, n, length):
    while True:
        start = torch.randint(len(text) - length, (n, 1), generator=generator)
        yield (text[start + torch.arange(length)].long(),)


history = fit(learned, lambda tokens: learned.loss(model, tokens), windows_of(text, 4, 128), steps=60, lr=3e-2)
print(f"loss of the classifier: from {history[0]['loss']:.2f} to {history[-1]['loss']:.2f}; a coin has 0.69")

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## Which confidence is worth its name?
#
# **Predict:** at three layers on average, which of the three agrees most often with the full model?

# %% slideshow={"slide_type": "skip"}
confidences = {"margin": softmax_margin, "similarity": state_similarity, "learned": learned}
record_of = {}  # (windows, 256, exits) for each
with torch.no_grad():
    for name, confidence in confidences.items():
        c = [confidence(AtExit(model, k, h, states[k - 1] if k else None)) for k, h in enumerate(states)]
        record_of[name] = torch.stack(c, -1)
record_of["a coin"] = torch.rand(record_of["margin"].shape, generator=generator)


def leave(c, threshold):
    """The first exit with enough confidence, the last in any case."""
    enough = c >= threshold
    enough[..., -1] = True
    return enough.float().argmax(-1)


def tradeoff(c):
    """Mean layers and agreement with the last exit at many thresholds."""
    levels = torch.quantile(c[:, :, :-1].flatten()[::7], torch.linspace(0, 1, 25)).tolist()
    exits = [leave(c, level) for level in [*levels, math.inf]]
    right = [agrees.gather(0, e[None])[0].float().mean().item() for e in exits]
    return [e.float().mean().item() + 1 for e in exits], right


curve = {name: tradeoff(c) for name, c in record_of.items()}
at_three = {name: float(np.interp(3, *map(np.array, zip(*sorted(zip(*xy, strict=True)), strict=True))))
            for name, xy in curve.items()}

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
fig, ax = plt.subplots(figsize=(10, 3.4))
for (name, xy), dash, mark in zip(curve.items(), ["-", "--", "-.", ":"], "os^D", strict=True):
    ax.plot(*xy, ls=dash, marker=mark, ms=5, lw=2, label=name)
ax.plot(range(1, n_exits + 1), same, "kx", ms=9, mew=2, label="one exit for all")
ax.plot(depth.float().mean(), 1, "k*", ms=13, label="oracle")
ax.set(xlabel="layers run, on average", ylabel="agrees with the full model\n(not from 0)")
ax.legend(frameon=False, loc="lower right")
show(
    fig,
    "Agreement with the full model against the mean number of layers. Margin is far above one exit for all, the "
    "learned classifier a little; similarity is no better than one exit for all, and a coin is below all.",
)
print("at three layers:", ", ".join(f"{name} {value:.2f}" for name, value in at_three.items()), f"| cut {same[2]:.2f}")
assert at_three["margin"] > at_three["learned"] > same[2] + 0.01 > at_three["a coin"] + 0.01
assert at_three["similarity"] < same[2] + 0.01  # here, a state that has stopped moving says little

# %% [markdown] slideshow={"slide_type": "notes"}
# The crosses are the alternative that costs nothing to build: cut the model after layer $\ell$ for every token. A way
# of deciding earns its place only above them. The margin does, by far. The linear classifier has to guess from the
# state what the margin reads off; similarity, which costs next to nothing, is worth as much on this model. The coin is
# the control: leaving at random is worse than cutting, as it pays for tokens that need nothing, not for those that do.
#
# These curves are recorded from one pass in which every token ran through all layers. When tokens really leave, those
# that follow see other states. We shall see how much that changes.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Text, filled up to the layer it needed
#
# **Predict, then move the slider:** which bytes of this function stay expensive the longest?

# %% slideshow={"slide_type": "skip"}
function = '''def mean_of_squares(values, *, weights=None):
    """Return the weighted mean of the squares."""
    if weights is None:
        weights = [1.0] * len(values)
    if len(weights) != len(values):
        raise ValueError("one weight for each value")
    total = 0.0
    for value, weight in zip(values, weights):
        total += weight * value ** 2
    return total / sum(weights)
'''
written = torch.tensor(list(function.encode()))
with torch.no_grad():
    read = model.states(F.pad(written, (1, 0), value=10)[None, :-1])[:, 0]  # each byte from those before it
    guesses = torch.stack([model.read(k, h).argmax(-1) for k, h in enumerate(read)], -1)  # (bytes, exits)
    margin = [softmax_margin(AtExit(model, k, h, None)) for k, h in enumerate(read)]
    margin = torch.stack(margin, -1)

# %% slideshow={"slide_type": "skip"}
D, V = model.head.in_features, model.head.out_features
layer_flops, head_flops = 24 * D**2, 2 * D * V  # attention itself, a few per cent at these lengths, is left out here
flops_at = [(k + 1) * (layer_flops + head_flops) for k in range(n_exits)]
counted = count_flops(generate, model, windows[:1, :1], 1)
assert counted == n_exits * layer_flops + head_flops + n_exits * 4 * D  # by hand, with attention: equal

# %% slideshow={"slide_type": "-"} tags=["figure:exit_text_widget", "fold"]
ExitText(function.encode(), margin, guesses == guesses[:, -1:], flops_at, threshold=0.8)

# %% [markdown] slideshow={"slide_type": "notes"}
# Each byte is filled as high as the layer at which the model was sure enough of it; a wavy line marks a byte for which
# that exit says another byte than the full model would. Move the threshold up: indentation, the rest of a word that has
# begun, closing quotes stay cheap. The first letter of a name does not.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What do later tokens see?
#
# Token 5 left after layer 2. Token 6 is in layer 4, and attends to token 5: **to which state?**
#
# To the one that it left with, **copied upwards**. Layer 4 makes its own keys and values of it.

# %% slideshow={"slide_type": "-"} tags=["fold"]
fig, ax = plt.subplots(figsize=(10, 2.9))
leaves = {3: 4, 4: 3, 5: 2, 6: 4}  # token: the layer it leaves after
for token, last in leaves.items():
    for layer in range(1, 5):
        runs = layer <= last
        name = "h" if runs else "copy"
        plots.box(ax, 2.2 * token, layer, 1.2, 0.7, f"{name}, layer {min(layer, last)}", on=runs)
        if layer < 4:
            plots.arrow(ax, (2.2 * token + 0.6, layer + 0.7), (2.2 * token + 0.6, layer + 1))
    ax.text(2.2 * token + 0.6, 0.55, f"token {token}", ha="center")
plots.arrow(ax, (13.2, 4.35), (12.2, 4.35), colour="C3")
ax.text(12.7, 4.5, "attends", color="C3", ha="center", fontsize="small")
ax.set(xlim=(6.4, 14.6), ylim=(0.4, 4.9))
ax.axis("off")
show(
    fig,
    "Four tokens in four layers. Token 5 leaves after layer 2: in layers 3 and 4 stands a copy of its state. Token 6, "
    "in layer 4, attends to that copy.",
)

# %% slideshow={"slide_type": "skip"}
prompt = windows[:4, :64]
written, exited = generate(model, prompt, 24, softmax_margin, 0.8)
whole = torch.cat([prompt, written], 1)[:, :-1]
reference = exit_while_reading(model, whole, softmax_margin, 0.8, careful=63)
assert torch.equal(reference.exit_index[:, 63:], exited.exit_index)
torch.testing.assert_close(reference.logits[:, 63:], exited.logits, rtol=1e-3, atol=1e-3)

# %% [markdown] slideshow={"slide_type": "notes"}
# Two computations that must agree. `generate` writes byte by byte with a cache of keys and values, and runs no layer
# behind an exit. `exit_while_reading` takes the finished text at once, runs every layer on everything, and holds the
# state of a token that left. Same exits, same logits: the cache is right.
#
# The copy is not free. A later token that goes deep needs keys and values of every token before it, in every layer; so
# for tokens that left, those two products (a sixth of a layer) are still owed. `generate` pays when somebody asks: if
# no later token goes as deep, never.

# %% [markdown] slideshow={"slide_type": "subslide"}
# ## The copy has a price
#
# **Predict:** once tokens really leave, does the agreement of the slide before last hold?

# %% slideshow={"slide_type": "skip"}
quiz, answers = windows[:24, :-1], windows[:24, 1:]
full_logits = model(quiz).detach()
online = {}  # level: layers, agreement, accuracy, bits
for level in (0.2, 0.3, 0.5, 0.7, 0.9, 0.97):
    logits, exits = exit_while_reading(model, quiz, softmax_margin, level)
    guess, nats = logits.argmax(-1), F.cross_entropy(logits.flatten(0, 1), answers.flatten())
    online[level] = (
        exits.float().mean().item() + 1,
        (guess == full_logits[-1].argmax(-1)).float().mean().item(),
        (guess == answers).float().mean().item(),
        nats.item() / math.log(2),
    )
online_layers, online_agreement, online_accuracy, online_bits = zip(*online.values(), strict=True)
recorded = np.interp(online_layers, *curve["margin"])  # at as many layers, no state copied

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
fig, ax = plt.subplots(figsize=(10, 3.4))
ax.plot(*curve["margin"], "-", lw=2, label="margin, recorded: nobody left")
ax.plot(online_layers, online_agreement, "--", marker="s", lw=2, label="margin, for real: states copied")
ax.plot(range(1, n_exits + 1), same, "kx", ms=9, mew=2, label="one exit for all")
ax.set(xlabel="layers run, on average", ylabel="agrees with the full model\n(not from 0)")
ax.legend(frameon=False, loc="lower right")
show(
    fig,
    "Agreement with the full model against mean layers, for the margin: the curve with copied states lies clearly "
    "below the recorded one, and only a little above one exit for all.",
)
price = np.array(recorded) - online_agreement
print(f"lost by copying: {price.min():.3f} to {price.max():.3f} of the bytes")
assert 0.02 < max(np.array(recorded) - online_agreement) < 0.2

# %% [markdown] slideshow={"slide_type": "notes"}
# A token that left after one layer gives layer 6 keys and values of a state that layer 6 has never seen the like of:
# in training, nobody left. Hard tokens, which do go deep, read these from their easy neighbours. So the cost of an exit
# is paid by others, later, and no record of confidences shows it. Papers that train with copied states, or share the
# weights of the layers, do so for this reason. Whoever evaluates exits on recorded states measures another system.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What is saved, counted and measured

# %% slideshow={"slide_type": "skip"}
texts = windows[10:90:20, :64]  # four prompts, each on its own


def write(confidence=None, level=1.0, n=16):
    return [generate(model, one[None], n, confidence, level)[1].exit_index for one in texts]


def in_turns(levels, call=write):
    """Seconds in full, and what shares of it thresholds take: in turns, as what slows the machine slows all of them."""
    rules = [(), *((softmax_margin, level) for level in levels)]
    seconds = np.array([[wall_time(call, *rule, min_seconds=0.05) for rule in rules] for _ in range(5)])
    return np.median(seconds[:, 0]), np.median(seconds[:, 1:] / seconds[:, :1], 0)


levels = (0.5, 0.7, 0.9)
reading = count_flops(write, None, 1.0, 0)
full_flops = count_flops(write) - reading
full_seconds, shares = in_turns(levels)
rows = []
for level, share in zip(levels, shares, strict=True):
    layers = torch.cat(write(softmax_margin, level)).float().mean().item() + 1
    rows.append((level, layers, (count_flops(write, softmax_margin, level) - reading) / full_flops, share))

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
fig, ax = plt.subplots(figsize=(10, 3.7))
names = [f"threshold {level}\n{layers:.1f} layers" for level, layers, _, _ in rows]
plots.bars(ax, names, {"FLOPs, counted": [row[2] for row in rows], "time, measured": [row[3] for row in rows]})
ax.axhline(1, color="0.4", lw=1.5, ls=":", label="the full model")
ax.set(ylabel="share of the full model's", ylim=(0, 1.3 * max(1.04, *shares)))
for value in ax.texts:  # above the line
    value.set_bbox({"fc": "w", "ec": "none", "pad": 0.5})
ax.legend(frameon=False, ncols=3, loc="upper left")
show(fig, "Counted FLOPs and measured time as shares of the full model's, at three thresholds: less time is saved.")
print(f"one text at a time; the full model writes {64 / full_seconds:,.0f} bytes a second")
assert rows[0][2] < 0.85 and rows[0][3] > rows[0][2]  # fewer operations; of the time, less is saved

# %% [markdown] slideshow={"slide_type": "notes"}
# One text at a time, as in an editor that completes a line. FLOPs are counted over the bytes written, the time holds
# the reading of the prompt too. The margin looks through the read-out at every exit; in a model as narrow as this one,
# that eats a good part of what is saved. Where few leave early, the looks can take longer than the layers they spare.
#
# **In a batch the picture changes.** A layer reads its weights once, for one text that is still undecided as for all.
# And who has left attends on until the last has left, as picking the others out of the cache would take longer. The
# next cell measures what remains.

# %% slideshow={"slide_type": "skip"} tags=["varies"]
many = windows[:48, :64]
_, (batch_share,) = in_turns([0.7], lambda *rule: generate(model, many, 8, *rule))
print(f"threshold 0.7, time of the full model's: {rows[1][3]:.2f} for one text, {batch_share:.2f} for a batch of 48")

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A promise about quality
#
# "At most 10 % of the bytes will differ from the full model's."
#
# Measure the share at 81 thresholds on 60 held-out texts, take the boldest that is below 10 %.
# **Predict:** on *new* texts, how often is that promise broken?

# %% slideshow={"slide_type": "skip"}
thresholds = torch.linspace(1, 0.2, 81)  # from the safest to the boldest
pieces = record_of["margin"].reshape(-1, 64, n_exits)  # 400 texts of 64 bytes
agrees_pieces = agrees.reshape(n_exits, -1, 64)
loss_at = []
for level in thresholds:
    exits = leave(pieces, level)
    loss_at.append(1 - agrees_pieces.gather(0, exits[None])[0].float().mean(-1))
loss_table = torch.stack(loss_at, -1).double().numpy()  # (texts, thresholds): the share of bytes that differ
risk = loss_table.mean(0)  # of all our texts: in this simulation, the truth

# %% slideshow={"slide_type": "-"}
tolerance, error, rng = 0.10, 0.10, np.random.default_rng(seed)
chosen = {"boldest below 10 %": [], "learn then test": []}
for _ in range(1000):
    drawn = loss_table[rng.integers(len(loss_table), size=60)]  # 60 texts to calibrate on
    chosen["boldest below 10 %"].append(np.flatnonzero(drawn.mean(0) <= tolerance).max())
    chosen["learn then test"].append(learn_then_test(drawn, tolerance, error))
broken = {name: np.mean([risk[i] > tolerance for i in index if i is not None])
          for name, index in chosen.items()}
print(*(f"{name}: broken in {share:.1%}" for name, share in broken.items()), sep="\n")

# %% [markdown] slideshow={"slide_type": "notes"}
# A simulation with real losses. Our 400 texts stand for the world, so that the true risk of every threshold is known.
# A thousand times, somebody draws 60 of them, calibrates, and makes the promise.
#
# The naive rule breaks it in about four of ten cases. No wonder: an estimate is as often too low as too high, and
# whoever takes the boldest threshold that *looks* good prefers those that look better than they are. What is needed is
# a rule that keeps its promise, except in at most a share $\varepsilon$ of all calibrations.

# %% slideshow={"slide_type": "skip"} tags=["varies"]
print({name: f"promise broken in {share:.1%}" for name, share in broken.items()})
assert broken["boldest below 10 %"] > 0.25 and broken["learn then test"] <= error

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Learn, then test
#
# From the safest threshold to the boldest, test "its risk is above δ":
#
# $$p = \min\!\Big(e^{-n\,h(\hat r \wedge \delta,\; \delta)},\;\;
# e \cdot P\big(\text{Bin}(n, \delta) \le \lceil n \hat r \rceil\big)\Big)$$
#
# Stop at the first $p > \varepsilon$; use the threshold before it.

# %% slideshow={"slide_type": "skip"}
drawn = loss_table[rng.integers(len(loss_table), size=60)]
p_values = [hoeffding_bentkus_p_value(r, len(drawn), tolerance) for r in drawn.mean(0)]
by_hand = next((i for i, p in enumerate(p_values) if p > error), len(p_values)) - 1
assert by_hand == learn_then_test(drawn, tolerance, error)

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 2.8))
left.plot(thresholds, risk, "k-", lw=1.5, label="true risk")
left.plot(thresholds, drawn.mean(0), "C0o", ms=4, label="measured on 60 texts")
left.axhline(tolerance, color="0.4", ls=":", lw=1.5)
left.text(0.75, tolerance, "tolerance δ", va="bottom", color="0.3")
right.semilogy(thresholds, np.maximum(p_values, 1e-6), "C1s", ms=4)
right.axhline(error, color="0.4", ls=":", lw=1.5)
right.text(0.75, error, "error ε", va="bottom", color="0.3")
for ax in (left, right):
    ax.axvline(thresholds[by_hand], color="C2", lw=2, ls="--", label="chosen")
    ax.set(xlabel="threshold (right: safest)")
left.set(ylabel="bytes that differ")
right.set(ylabel="p-value (log)")
right.minorticks_off()
right.yaxis.set_major_formatter("{x:g}")
fig.legend(*left.get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=3)
show(
    fig,
    "Left: true and measured risk fall as the threshold rises; the chosen threshold, a dashed line, lies where the "
    "risk is safely below the tolerance. Right: the p-values, above the error level for bold thresholds.",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The $p$-value is a bound on how likely so good a measurement is if the true risk is above $\delta$ (Hoeffding's
# inequality, and Bentkus's, whichever is smaller; $h$ is the divergence of two coins). It holds for any distribution of
# losses between 0 and 1, and for every $n$: nothing is asymptotic.
#
# Why is there no correction for eighty-one tests? Because they are made in an order fixed beforehand. To return a bad
# threshold, the procedure has to reject the *first* true hypothesis that it meets, and that happens with probability at
# most $\varepsilon$. Anything after it is never reached. What the promise needs: new texts must come from the same
# source as those of the calibration. Another programming language, and it is void.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The price of the promise
#
# For real: the model *writes* 12 bytes after each of 160 prompts, and leaves early.
# Loss: the share of the continuation after the first byte that differs.

# %% slideshow={"slide_type": "skip"}
start = torch.randint(len(held_out) - 32, (240, 1), generator=generator)
prompts = held_out[start + torch.arange(32)].long()
levels = [0.99, 0.97, 0.94, 0.9, 0.8]
full, _ = generate(model, prompts, 12)
lost, layers = [], []
for level in levels:
    written, exited = generate(model, prompts, 12, softmax_margin, level)
    lost.append(1 - (written == full).cumprod(1).double().mean(1))
    layers.append(exited.exit_index.float().mean().item() + 1)
lost = torch.stack(lost, -1).numpy()  # (prompts, levels)
calibration, test = lost[:160], lost[160:]

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
index = learn_then_test(calibration, tolerance=0.15, error=0.1)
fig, ax = plt.subplots(figsize=(10, 3.5))
names = [f"{level}\n{mean:.1f} layers" for level, mean in zip(levels, layers, strict=True)]
plots.bars(ax, names, {"calibration": calibration.mean(0), "test": test.mean(0)}, fmt="{:.3f}")
ax.axhline(0.15, color="0.4", lw=1.5, ls=":")
for value in ax.texts:  # above the line
    value.set_bbox({"fc": "w", "ec": "none", "pad": 0.5})
ax.text(-0.45, 0.153, "tolerance", color="0.3")
if index is not None:
    ax.get_xticklabels()[index].set(weight="bold")
ax.set(ylim=(0, 0.2), ylabel="lost of a continuation")
ax.set_xlabel("threshold, from the safest on; in bold the one with the promise")
show(
    fig,
    "Share of a continuation that is lost, in calibration and in the test, rising from safe to bold thresholds; the "
    "promised threshold is the last whose p-value is small, well below the tolerance.",
)
if index is None:
    print("no threshold passes: use the full model")

# %% [markdown] slideshow={"slide_type": "notes"}
# A byte that differs sends the rest of the text another way, so the loss counts everything after it. That is strict,
# and it makes early exits look worse than in the teacher's text above: a promise about *texts* is more expensive than
# one about bytes. If no threshold passes, `learn_then_test` returns `None`, and the answer is: use the full model.

# %% slideshow={"slide_type": "skip"} tags=["varies"]
mean_lost = lost.mean(0)
assert mean_lost[0] < 0.12 and mean_lost[0] < mean_lost[-1]
assert layers[0] < n_exits - 0.3  # even then, something is saved
if index is not None:
    assert test[:, index].mean() < 0.15 + 3 * test[:, index].std() / 80**0.5  # 80 texts have their own luck

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Elastic demand: one model, many budgets
#
# Traffic doubles at noon. The threshold is a dial: no second model, no retraining.

# %% slideshow={"slide_type": "skip"}
budgets = [2.0, 2.5, 3.0, 3.5, 4.0, 5.0]  # layers, on average
grid = [*torch.linspace(0, 0.9, 19).tolist(), 0.92, 0.94, 0.96, 0.97, 0.98, 0.99, 0.995, 0.999, 1.0]
mean_layers = [leave(record_of["margin"], level).float().mean().item() + 1 for level in grid]
picked = [float(np.interp(budget, mean_layers, grid)) for budget in budgets]
points = []
for level in picked:
    logits, exits = exit_while_reading(model, quiz, softmax_margin, level)
    accuracy = (logits.argmax(-1) == answers).float().mean().item()
    flops = torch.tensor(flops_at)[exits].float().mean().item()
    points.append((accuracy, flops))
static = (full_logits.argmax(-1) == answers).float().mean((1, 2)).tolist()  # cut after each layer, for all
full_seconds, shares = in_turns(picked)
full_cost = static[-1], n_exits * layer_flops + head_flops, 1e3 * full_seconds

# %% slideshow={"slide_type": "-"} tags=["fold", "varies"]
accuracy, flops = zip(*points, strict=True)
Savings(budgets, accuracy, flops, 1e3 * full_seconds * shares, control="layers per byte", full=full_cost, setting=3)

# %% [markdown] slideshow={"slide_type": "notes"}
# Accuracy here is that of the next byte on held-out text, not agreement with the full model. FLOPs are those of a byte
# read; milliseconds those of writing four times 16 bytes, one text at a time. The alternative to the dial is to train
# three models of two, three and six layers: three trainings, three sets of weights. Or to cut this one: every token
# leaves after layer $\ell$. The next cell compares with that, fairly, in two measures.

# %% slideshow={"slide_type": "skip"} tags=["varies"]
static_bits = [F.cross_entropy(z.flatten(0, 1), answers.flatten()).item() / math.log(2) for z in full_logits]
cut = range(1, n_exits + 1)
for layers, a, b in zip(online_layers, online_accuracy, online_bits, strict=True):
    other = np.interp(layers, cut, static), np.interp(layers, cut, static_bits)
    print(f"{layers:.1f} layers: accuracy {a:.3f}, cut {other[0]:.3f}; bits per byte {b:.2f}, cut {other[1]:.2f}")
assert online_accuracy[2] > np.interp(online_layers[2], cut, static) - 0.01  # the likeliest byte: on a par, or better
assert online_bits[2] > np.interp(online_layers[2], cut, static_bits)  # its probability: worse

# %% [markdown] slideshow={"slide_type": "notes"}
# **A negative result.** For naming the likeliest byte, exits per token are on a par with cutting the model, or a little
# better. For its *probability* they are worse: the margin asks "will the winner change?", and a token that leaves with
# 0.8 where the full model has 0.99 names the same byte and pays in bits. What exits buy is agreement with the full
# model, and a dial that can be turned for every request. On a model of six narrow layers that is little. The savings
# that papers report come from models with many more layers than most tokens need, trained with exits in use.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Where it fails
#
# - **Copied states**: who leaves early makes life harder for those who stay.
# - In a **batch**, hardly any time is saved: a layer runs until the last text has left.
# - The likeliest byte is kept, **its probability is not**: bits per byte suffer.
# - The promise holds for texts **like those of the calibration**.

# %% [markdown] slideshow={"slide_type": "skip"}
# **Exercise 1** (★☆☆, 5 min). *The oracle.* Given what each exit predicts, `predictions` (L, T), return for every token
# the index 0 … L-1 of the first exit from which on **all** later exits, it included, predict what the last one does.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def my_oracle(predictions):
    return ...


check("oracle_exit", my_oracle)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def oracle(predictions):
    agrees = predictions == predictions[-1]  # (L, T)
    settled = agrees.flip(0).cumprod(0)  # from the last exit backwards: agreement without a break
    return len(predictions) - settled.sum(0)


check("oracle_exit", oracle)

# %% [markdown] slideshow={"slide_type": "skip"}
# **Exercise 2** (★★☆, 10 min). *Fixed sequence.* Given the p-values of thresholds from the safest to the boldest, and
# the error ε, return the index of the threshold to use, or `None`.

# %% slideshow={"slide_type": "skip"} tags=["exercise"]
def my_fixed_sequence(p_values, error):
    return ...


check("fixed_sequence", my_fixed_sequence)

# %% slideshow={"slide_type": "skip"} tags=["solution"]
# @title Solution
def fixed_sequence(p_values, error):
    passed = None
    for index, p in enumerate(p_values):
        if p > error:
            break
        passed = index
    return passed


check("fixed_sequence", fixed_sequence)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take home
#
# - Most tokens are easy: an exit for each, not one for all.
# - A state that left is copied upwards; later layers make keys and values of it.
# - Measured risk is not risk. Test thresholds in order, from the safest.
# - One model serves many budgets. Whether FLOPs become time depends on the batch.

# %% [markdown] slideshow={"slide_type": "skip"}
# ## Sources
#
# - T. Schuster, A. Fisch, J. Gupta, M. Dehghani, D. Bahri, V. Q. Tran, Y. Tay, D. Metzler, *Confident Adaptive Language
#   Modeling*, NeurIPS 2022: exits per token, the three confidences, copied states, calibration.
# - A. N. Angelopoulos, S. Bates, E. J. Candès, M. I. Jordan, L. Lei, *Learn then Test*, 2021: the procedure.
# - S. Bates, A. Angelopoulos, L. Lei, J. Malik, M. I. Jordan, *Distribution-Free, Risk-Controlling Prediction Sets*,
#   Journal of the ACM, 2021: the bound.
# - J. Su, Y. Lu, S. Pan, A. Murtadha, B. Wen, Y. Liu, *RoFormer*, 2021: rotary positions.
# - S. Scardapane, *Designing efficient and modular neural networks*, talk, 4 October 2023.
# - The text: the Python standard library, docs.python.org.
