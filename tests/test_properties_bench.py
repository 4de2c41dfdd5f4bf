"""Properties of the bench and of what notebooks call: cost, data, training, plots, notebook, exercises, widgets."""

import codecs
import contextlib
import inspect
import io
import math
import re
import time
from functools import partial
from itertools import islice

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import traitlets
from hypothesis import example, given, settings
from hypothesis import strategies as st
from properties import SEEDS, SOME, correct_or_clear, normal, refuses, rng
from torch import nn

from lecture_lib import choice, cost, data, exercises, notebook, plots, training, widgets


@given(st.lists(SOME, min_size=3, max_size=3), st.floats(0, 1e12), st.floats(0, 1e12))
def test_costs(sizes, flops, n_bytes):
    a, b, c = sizes
    assert cost.count_flops(torch.mm, torch.ones(a, b), torch.ones(b, c)) == 2 * a * b * c
    seconds = cost.Seconds(2.0, 1.0, 3.0)
    assert seconds + 1 == 3 and "1e+03 to 3e+03" in str(seconds)
    bound = cost.roofline(flops, n_bytes, cost.Machine(1e9, 1e8))
    assert isinstance(bound, cost.Bound) and bound.seconds == max(flops / 1e9, n_bytes / 1e8)
    assert bound.binds == ("compute" if flops / 1e9 >= n_bytes / 1e8 else "memory")
    for bad in (-1, math.nan, math.inf):
        refuses("flops", cost.roofline, bad, 1, cost.Machine(1, 1))
        refuses("n_bytes", cost.roofline, 1, bad, cost.Machine(1, 1))
        refuses("copy_rate", cost.roofline, 1, 1, cost.Machine(1, bad))
    for bad in (0, math.nan):
        refuses("min_seconds", cost.wall_time, abs, 1, min_seconds=bad)
        refuses("size", cost.measure_machine, size=bad)


@given(st.integers(1, 4), st.integers(1, 32))
@settings(max_examples=3)
def test_times_are_those_of_a_clock(milliseconds, size):
    took = cost.wall_time(time.sleep, milliseconds / 1000, min_seconds=1e-3)
    assert milliseconds / 1000 <= took.low <= took <= took.high  # a sleep is never shorter than asked
    machine = cost.measure_machine(size=size, megabytes=1)
    assert isinstance(machine, cost.Machine) and all(0 < rate < math.inf for rate in machine)


@given(st.integers(1, 9), st.integers(1, 9), SEEDS)
def test_batches_are_passes_in_a_new_order(n, size, seed):
    rows = torch.arange(n)
    if size > n:
        return refuses("size", next, data.batches(rows, size=size))
    made = list(islice(data.batches(rows, 2 * rows, size=size, generator=rng(seed)), 2 * (n // size)))
    assert all(len(a) == size and torch.equal(b, 2 * a) for a, b in made)
    for part in (made[: n // size], made[n // size :]):
        seen = torch.cat([a for a, _ in part])
        assert len(seen.unique()) == len(seen)
    refuses("size", next, data.batches(rows, rows[1:], size=1))


@given(st.integers(1, 5), st.integers(0, 4), st.integers(2, 9), SEEDS)
def test_scenes_hold_one_digit(n, n_scenes, n_patches, seed):
    x, y = torch.rand(n, 8, 8, generator=rng(seed)), torch.arange(n)
    scenes = data.find_the_digit(x, y, n_scenes=n_scenes, n_patches=n_patches, generator=rng(seed))
    assert isinstance(scenes, data.Scenes) and scenes.patches.shape == (n_scenes, n_patches, 8, 8)
    assert torch.equal(scenes.patches[torch.arange(n_scenes), scenes.position], x[scenes.label])
    for name, wrong in {"x": (x[:, 1:], y), "y": (x, y[1:]), "n_patches": (x, y)}.items():
        refuses(name, data.find_the_digit, *wrong, n_patches=1)


@given(st.integers(1, 5), SEEDS, SEEDS)
def test_a_language_goes_on_and_each_sentence_has_its_bits(n, words, seed):
    language = data.Language(words)
    (text, bits), (longer, more) = (language.text(k, seed=seed) for k in (n, n + 1))
    assert text.dtype == torch.uint8 and torch.equal(longer[: len(text)], text)
    assert bytes(text.tolist()).decode().count(".\n") == n and 6 * n < bits < more
    refuses("n", language.text, 0)
    refuses("seed", language.text, 1, seed=-1)
    refuses("seed", data.Language, 0.5)


PIECES = {
    0: [" ", "\n", "  \n", "\\\n "],
    1: ["if", "lambda", "None"],
    2: ["x", "été", "print"],
    3: ["7", "1.5e3", "0x1F"],
    4: ["'a b'", '"é"', "b'x'", "'''two\nlines'''"],
    5: ["# why? é\n"],
    6: ["+", "**=", "->"],
}
PIECE = st.sampled_from([(kind, text) for kind, texts in PIECES.items() for text in texts])


@given(st.lists(PIECE, max_size=12), st.booleans())
def test_bytes_of_source_have_the_kind_of_their_token(pieces, marked):
    source, kinds = codecs.BOM_UTF8 * marked + b"(", [0] * (3 * marked) + [6]
    for kind, piece in pieces:
        source += piece.encode() + b" "
        kinds += [kind] * len(piece.encode()) + [0]
        if kind == 5:
            kinds[-2] = 0  # the line's end
    made = data.token_kinds(torch.tensor(list(source + b")\0y"), dtype=torch.uint8))
    assert made.tolist() == [*kinds, 6, 0, 2]


@given(st.binary(max_size=40))
@example(b"# coding: latin-1\nx = '\xe9'")
@example(b"x = 1\n\n\ny = '\xff'")
def test_bytes_that_are_no_source_are_refused(source):
    made = correct_or_clear(data.token_kinds, torch.tensor(list(source), dtype=torch.uint8))
    assert made is None or (made.shape == (len(source),) and (made < len(data.KINDS)).all())


@given(st.integers(1, 6), st.integers(1, 4), SEEDS)
def test_training_goes_down_and_tells_what_it_did(steps, every, seed):
    model, batches = nn.Linear(1, 1), [(normal(seed + i, 3, 1, dtype=torch.float32),) for i in range(steps)]
    loss = lambda x: model(x).square().mean()  # noqa: E731
    fit = partial(training.fit, model, loss, batches, steps=steps, every=every)
    history = fit(measure=lambda: {"loss of the first": loss(*batches[0]).item()})
    assert [row["step"] for row in history] == sorted({*range(every, steps + 1, every), steps})
    mean = training.evaluate(model, lambda x: {"y": model(x).squeeze(1)}, batches)["y"]
    assert math.isclose(mean, model(torch.cat([x for (x,) in batches])).mean().item(), rel_tol=1e-4, abs_tol=1e-6)
    for option in ({"steps": 0}, {"every": 0}, {"lr": math.nan}, {"lr": 0}):
        refuses(*option, fit, **option)
    refuses("batches", fit, steps=steps + 1)
    with training.modes_kept(model):
        model.eval()
    assert model.training
    refuses("batches", training.evaluate, model, loss, [])
    refuses("metrics", training.evaluate, model, lambda x: {"y": model(x)}, batches)
    refuses("loss", training.fit, model, model, batches, steps=1)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(FloatingPointError, match="loss"):
        training.fit(model, lambda x: loss(x) * math.nan, batches, steps=1)
    assert all(map(torch.equal, before, model.parameters()))


@given(st.integers(1, 4), st.integers(1, 5), SEEDS)
@settings(max_examples=5)
def test_pictures_are_drawn_where_asked(n, k, seed):
    plt.close("all")
    figure, ax = plt.subplots()
    values = normal(seed, n, k).numpy()
    assert plots.bars(ax, list("abcdefgh"[:k]), {str(i): row for i, row in enumerate(values)}) is ax
    assert len([patch for patch in ax.patches if patch.get_height() in values]) >= 1
    assert plots.curves(ax, range(k), {str(i): values for i in range(n)}) is ax
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), values.mean(0))
    assert plots.triangle(ax, ["a", "b", "c"]) is ax
    assert plots.box(ax, 0, 0, n, k, "x", on=n > 1) is ax and plots.arrow(ax, (0, 0), (n, k), bend=0.1) is ax
    assert plots.dispatch(ax, values[:, :k]) is ax and plots.expert_block(ax, n, n - 1) is ax
    assert plots.sorted_groups(ax, [n - 1] * k, n + 1) is ax and plots.all_to_all(ax, [[0] * k, [1] * n], 2) is ax
    assert plots.decision(ax, np.zeros((8, 8)), [1.0, 0.2, 0.7]) is ax
    assert plots.exits(ax, ["x"] * n, n - 1) is ax and plots.stick(ax, [1 / n] * n, ["z"] * n) is ax
    on = (values[0, :1] > 0).tolist()
    assert plots.copied_states(ax, {k: min(k, 3) for k in range(n)}) is ax
    assert plots.partial_network(ax, np.zeros((8, 8)), 16 * on, 4 * on, 4 * [8 * on]) is ax
    assert plots.equation(ax, np.zeros((8, 8)), np.arange(k), np.eye(k)[0]) is ax
    assert plots.scene(ax, np.zeros((n * n, 8, 8)), np.zeros(n * n), n * n - 1, 0) is ax
    assert plots.patches_kept(ax, np.zeros((8, 8)), n * n * on) is ax and plots.characters(ax, k * [32], k * on) is ax
    refuses("keep", plots.patches_kept, ax, np.zeros((8, 8)), [True, False])
    three = figure.subplots(1, 3)
    assert plots.ingredients(three, np.zeros((8, 8))) is three and plots.patterns(three) is three
    refuses("patches", plots.scene, ax, np.zeros((n * n + 1, 8, 8)), np.zeros(n * n + 1), 0, 0)
    z = choice.softmax(normal(seed, 6, 3)).weights
    points = plots.on_triangle(z)
    assert points.shape == (6, 2) and (0 <= points).all() and (points <= 1).all()
    refuses("weights", plots.on_triangle, z[:, :2])
    refuses("series", plots.bars, ax, ["a"], {})
    with pytest.MonkeyPatch.context() as patch:
        shown = []
        patch.setattr(notebook, "display", lambda *args, **options: shown.append((*args, options)))
        notebook.show(figure, f"{n} by {k}")
    (content, options), (folded, _) = shown
    assert content["image/png"].startswith(b"\x89PNG") and content["text/plain"] == f"{n} by {k}"
    assert options["metadata"]["image/png"]["alt"] == f"{n} by {k}" and not plt.fignum_exists(figure.number)
    assert folded["text/html"].endswith(f"</summary>{n} by {k}</details>")
    for alt in ("", "  "):
        refuses("alt", notebook.show, figure, alt)


@given(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(-1e30, 1e30) | st.sampled_from([math.nan, math.inf, -math.inf]),
    st.sampled_from([float, np.float64, torch.tensor]),
)
def test_a_claim_is_a_line_whose_numbers_are_near(holds, whole, number, kind):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        notebook.claim("It is so", np.bool_(holds), clock=True, a_b=whole, c=kind(number))
    mark = "✓ " if holds else "✗ did not hold here: "
    said = re.fullmatch(f"{mark}It is so: a b {whole}, c (.*)\n", out.getvalue())[1]
    assert len(re.sub(r"e.*|^-?[0.]*|\D", "", said).rstrip("0")) <= 3 or not math.isfinite(number)
    assert float(said) == pytest.approx(float(kind(number)), rel=5.1e-3, abs=1e-40, nan_ok=True)
    refuses("text", notebook.claim, " ", holds)
    refuses("holds", notebook.claim, "It is so", number)


@given(st.text(max_size=8) | st.sampled_from(sorted(exercises.CHECKS)), SEEDS)
def test_checks_answer_whatever_they_are_given(name, seed):
    if name not in exercises.CHECKS:
        return refuses("name", notebook.check, name, ...)
    notebook.check(name, lambda *args: ...)


def answers(seed):
    """Tensors and numbers that no one would hand in, for arguments of any kind."""
    shapes = [(), (2,), (3,), (4,), (6,), (2, 4), (3, 5), (4, 2), (4, 3), (4, 4), (5, 3), (20_000,)]
    for dtype in (torch.float32, torch.float64, torch.int64, torch.bool):
        for shape in shapes:
            yield (10 * normal(seed, *shape)).to(dtype)
            yield torch.full(shape, math.nan if dtype.is_floating_point else 1, dtype=dtype)
            yield torch.full(shape, math.inf if dtype.is_floating_point else 0, dtype=dtype)
    yield from (math.nan, math.inf, -1, 0, 3, True, "a", None, ..., [], [1.0], {}, normal(seed, 2, 2).numpy())


@pytest.mark.parametrize("name", exercises.CHECKS)
def test_no_exercise_praises_or_falls_over_an_answer_by_chance(name):
    for answer in answers(len(name)):
        with pytest.raises((exercises.Wrong, exercises.NotAttempted)):
            exercises.CHECKS[name](lambda *args, answer=answer: answer)


@given(SEEDS)
@settings(max_examples=3)
def test_setup_seeds(seed):
    seed %= 2**31
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LECTURE_SEED", raising=False)
        assert notebook.setup(seed) == seed and torch.equal(torch.rand(2), torch.rand(2, generator=rng(seed)))
        patch.setenv("LECTURE_SEED", "7")
        assert notebook.setup(seed) == 7
        patch.setenv("LECTURE_SEED", "seven")
        with pytest.raises(ValueError, match="LECTURE_SEED"):
            notebook.setup()


RUN = {"step": [0, 1], "load": [[1, 0], [1, 0]], "dropped": [0, 0], "quality": [0, 1]}
TRADE = {"settings": [0, 1], "milliseconds": [1, 2], "full": [1, 2, 3]}
READ = {"confidence": [[0, 1]] * 2, "flops": [1, 2]}
TWO = np.ones((2, 2))
WIDGETS = {
    "Temperature": {},
    "SparseMaps": {},
    "Estimators": {},
    "ExpertCalculator": {},
    "Savings": TRADE | {"accuracy": [0, 1], "flops": [1, 2], "images": np.zeros((1, 2, 2)), "kept": [[[1]], [[0]]]},
    "Exits": TRADE | READ | {"right": [[0, 1]] * 2},
    "ExitText": {"text_bytes": b"ab", "agrees": [[0, 1]] * 2, "full": 2} | READ,
    "Routing": {"runs": {"a": RUN}},
    "Interpolation": {"positions": [0, 1], "loss": TWO, "accuracy": TWO, "units": np.ones((3, 1, 2, 2))},
    "Roofline": {key: [1, 2] for key in ("machine", "counts", "tokens", "flops")} | {"n_bytes": TWO, "seconds": TWO},
    "Modalities": {
        "inputs": ["a", "b"],
        "experts": [[[0]], [[1]]],
        "share": [TWO / 2],
        "layers": ["x"],
        "titles": ["a", "b"],
    },
}
GARBAGE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.binary(max_size=3),
    st.complex_numbers(), st.lists(st.floats() | st.text(max_size=2) | st.just(10**400), max_size=6),
    st.dictionaries(st.integers(), st.floats(), max_size=2),
    st.sampled_from([10**400, torch.zeros(2, 2), np.full((2, 2), 1e300), np.full(2, 0.5)]),
)  # fmt: skip


@pytest.mark.parametrize("name", WIDGETS)
@given(value=GARBAGE, seed=SEEDS)
def test_widgets_take_a_value_or_refuse_it_by_name(name, value, seed):
    kind = getattr(widgets, name)
    options = [option for option in inspect.signature(kind).parameters if option != "controls"]
    try:
        made = kind(**WIDGETS[name] | {options[seed % len(options)]: value})
    except traitlets.TraitError as error:
        assert any(re.search(rf"\b{option}\b", str(error)) for option in options)
    else:
        assert "<table>" in made._fallback() and "nan" not in made._fallback() and repr(made).startswith(name)
