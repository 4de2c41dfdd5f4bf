"""Merging: averages and task vectors against loops and peft, permutations against brute force, parts that fit."""

import copy
import itertools
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from lecture_lib.merging import (
    Axis,
    Stitch,
    Units,
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
from lecture_lib.models import MLP, Block, Transformer


def state(seed, *, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    counter = torch.tensor(seed)
    return {
        "w": torch.randn(3, 4, generator=g).to(dtype),
        "b": torch.randn(5, generator=g).to(dtype),
        "counter": counter,
    }


def same(a, b):
    """Bit for bit."""
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) and a[key].dtype == b[key].dtype for key in a)


# ---- averages


@pytest.mark.parametrize("weights", [None, [1, 2, 5], [0.5, 0.75, -0.25]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_average_is_the_weighted_mean_and_keeps_the_type(weights, dtype):
    states = [state(i, dtype=dtype) for i in range(3)]
    found, w = average(states, weights), weights or [1, 1, 1]
    for key in ("w", "b"):
        wanted = sum(share * s[key].double() for share, s in zip(w, states, strict=True)) / sum(w)
        torch.testing.assert_close(found[key], wanted.to(dtype))
    assert found["counter"] == 0  # the first one's


def test_equal_states_average_to_themselves_bit_for_bit():
    assert same(average([state(1)] * 7), state(1))


def test_interpolation_has_its_ends_and_goes_beyond():
    a, b = state(0), state(1)
    assert same(interpolate(a, b, 0), a)
    assert all(torch.equal(interpolate(a, b, 1)[key], b[key]) for key in ("w", "b"))
    torch.testing.assert_close(interpolate(a, b, 1.5)["w"], 1.5 * b["w"] - 0.5 * a["w"])


def test_interpolation_goes_as_far_as_numbers_do_and_its_ends_hold_infinities():
    a, b = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])}
    for t in (2.0**53 + 2, 1e17):
        torch.testing.assert_close(interpolate(a, b, t)["w"], torch.tensor([1 - t, t]))
    endless = {"w": torch.tensor([1.0, torch.inf])}
    assert same(interpolate(a, endless, 0), a) and same(interpolate(a, endless, 1), endless)
    assert same(interpolate(a, endless, 0.5), endless)


def test_results_share_no_memory_with_what_went_in():
    a = state(0)
    for result in (
        average([a]),
        permute(a, Units({"w": (None, None), "b": (None,)}, {}), {}),
        apply_task_vectors(a, [task_vector(a, a)], 1),
    ):
        for t in result.values():
            t += 1
    assert same(a, state(0))


def test_greedy_soup_is_that_of_a_loop_and_never_worse_than_its_best_member():
    target = state(9)["w"]

    def score(s):
        return -(s["w"] - target).square().sum().item()

    states = [state(i) for i in range(8)]
    order = sorted(range(8), key=lambda i: score(states[i]), reverse=True)
    soup = [order[0]]
    for i in order[1:]:
        if score(average([states[j] for j in [*soup, i]])) >= score(average([states[j] for j in soup])):
            soup.append(i)
    found = greedy_soup(states, score)
    assert found.members == soup and 1 < len(soup) < 8
    assert same(found.state, average([states[i] for i in soup]))
    assert score(found.state) >= max(map(score, states))


def test_a_soup_takes_what_does_no_harm():
    assert greedy_soup([state(0)] * 3, lambda s: 1.0).members == [0, 1, 2]


# ---- task vectors


def test_task_vectors_lead_from_base_to_tuned_and_back():
    base, tuned = state(0), state(1)
    vector = task_vector(base, tuned)
    assert list(vector) == ["w", "b"]
    there = apply_task_vectors(base, [vector], 1)
    torch.testing.assert_close(there["w"], tuned["w"])
    assert there["counter"] == 0
    torch.testing.assert_close(apply_task_vectors(there, [vector], -1)["b"], base["b"])


def test_task_vectors_add():
    base, vectors = state(0), [task_vector(state(0), state(i)) for i in (1, 2)]
    found = apply_task_vectors(base, vectors, 0.3)
    torch.testing.assert_close(found["w"], base["w"] + 0.3 * (vectors[0]["w"] + vectors[1]["w"]))


def ties_by_hand(vectors, percent):
    """Entry by entry, in plain Python, as in the paper's algorithm 1."""
    n, trimmed = len(vectors[0]), []
    for v in vectors:
        kept = sorted(range(n), key=lambda p: -abs(v[p]))[: max(1, percent * n // 100)]
        trimmed.append([v[p] if p in kept else 0.0 for p in range(n)])
    signs = [(s > 0) - (s < 0) for s in map(sum, zip(*trimmed, strict=True))]
    majority = (sum(signs) > 0) - (sum(signs) < 0)
    merged = []
    for column, sign in zip(zip(*trimmed, strict=True), signs, strict=True):
        agreeing = [x for x in column if x * (sign or majority) > 0]
        merged.append(sum(agreeing) / len(agreeing) if agreeing else 0.0)
    return merged


@settings(deadline=None, max_examples=60, derandomize=True, database=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 5), n=st.integers(2, 12), percent=st.integers(1, 100))
def test_ties_is_trim_elect_merge(seed, k, n, percent):
    tau = torch.randn(k, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = ties([{"a": v[:1], "b": v[1:]} for v in tau], percent / 100)  # trimmed as one vector, not each tensor
    wanted = torch.tensor(ties_by_hand(tau.tolist(), percent), dtype=torch.float64)
    torch.testing.assert_close(torch.cat([found["a"], found["b"]]), wanted)


def test_a_density_of_29_percent_keeps_29_entries_of_100():
    """In floating point, 0.29 · 100 is less than 29."""
    assert ties([{"w": torch.arange(1.0, 101)}], 0.29)["w"].count_nonzero() == 29


def test_ties_where_the_sum_is_zero_takes_the_sign_of_most_entries():
    vectors = [{"w": torch.tensor([1.0, -2.0, -3.0, 0.0])}, {"w": torch.tensor([-1.0, -1.0, 2.0, 0.0])}]
    torch.testing.assert_close(ties(vectors, 1)["w"], torch.tensor([-1.0, -1.5, -3.0, 0.0]))


def test_ties_keeps_all_that_equal_the_smallest_one_kept():
    torch.testing.assert_close(
        ties([{"w": torch.tensor([1.0, 1.0, 3.0, 0.5])}], 0.5)["w"], torch.tensor([1.0, 1, 3, 0])
    )


@pytest.mark.parametrize("density", [0.1, 0.5, 0.83])
def test_ties_of_one_tensor_is_that_of_peft(density):
    """Where no sum is exactly 0: there peft takes +. With several tensors, peft trims each on its own."""
    merge_utils = pytest.importorskip("peft.utils.merge_utils")
    tau = torch.randn(5, 12, 7)
    vectors = [{"w": v} for v in tau]
    torch.testing.assert_close(ties(vectors, density)["w"], merge_utils.ties(list(tau), torch.ones(5), density))
    alone = ties(vectors[:1], density)["w"]
    torch.testing.assert_close(alone, merge_utils.magnitude_prune([tau[0]], torch.ones(1), density))


def test_the_sum_of_task_vectors_is_that_of_peft():
    merge_utils = pytest.importorskip("peft.utils.merge_utils")
    tau = torch.randn(4, 9)
    found = apply_task_vectors({"w": torch.zeros(9)}, [{"w": v} for v in tau], 0.3)
    torch.testing.assert_close(found["w"], merge_utils.task_arithmetic(list(tau), torch.full((4,), 0.3)))


@pytest.mark.parametrize("drop", [0, 0.1, 0.9])
def test_dare_drops_that_share_and_keeps_the_mean(drop):
    """As peft's random pruning with density 1 - drop, by law; they draw other random numbers."""
    vector = {"w": torch.full((40_000,), 2.0), "b": torch.full((40_000,), -1.0)}
    found = dare(vector, drop, torch.Generator().manual_seed(0))
    for key, value in (("w", 2.0), ("b", -1.0)):
        torch.testing.assert_close(found[key][found[key] != 0].unique(), torch.tensor([value / (1 - drop)]))
        assert (found[key] == 0).double().mean() == pytest.approx(drop, abs=0.01)
        assert found[key].mean() == pytest.approx(value, rel=0.05)
    again = dare(vector, drop, torch.Generator().manual_seed(0))
    assert same(found, again)


# ---- permutations


def reader(d=8, heads=2, layers=1, d_in=5, d_out=3):
    return nn.Sequential(OrderedDict(
        embed=nn.Linear(d_in, d), body=Transformer(d, heads, layers), head=nn.Linear(d, d_out)
    ))  # fmt: skip


def shuffled(n, heads=None, seed=0):
    """A random permutation; for attention, one that `units` allows."""
    g = torch.Generator().manual_seed(seed)
    if heads is None:
        return torch.randperm(n, generator=g)
    d, places = n // (2 * heads), torch.randperm(heads, generator=g)
    rows = [part * heads * d + head * d + torch.randperm(d, generator=g) for part in range(2) for head in places]
    return torch.cat(rows)


def sizes(layout, weights):
    found = {}
    for key, axes in layout.axes.items():
        for length, axis in zip(weights[key].shape, axes, strict=True):
            if axis:
                found[axis.group] = max(found.get(axis.group, 0), max(axis.starts) + length // len(axis.starts))
    return found


NETWORKS = {
    "two layers": lambda: MLP(5, 6, 3),
    "six layers": lambda: MLP(5, 16, 3, depth=6),
    "normalised": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(5, 9), nn.LayerNorm(9), nn.GELU(), nn.Dropout(0.1), nn.Linear(9, 3, bias=False)
    ),
    "one block": reader,
    "three blocks": lambda: reader(16, 4, 3),
    "fixed stream": lambda: Transformer(12, 3, 2),  # its input and output are the stream, which so keeps its order
    "block alone": lambda: nn.Sequential(Block(8, 4, causal=True)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_permuted_network_is_the_same_function_and_is_recovered_bit_for_bit(name):
    network = NETWORKS[name]().eval()
    for p in network.parameters():
        nn.init.normal_(p)  # so that no two units are alike, and biases and norms count
    a, layout = network.state_dict(), units(network)
    orders = {g: shuffled(n, layout.heads.get(g), seed=n) for g, n in sizes(layout, a).items()}
    b = permute(a, layout, orders)
    assert len(orders) >= 1 and not same(a, b)
    width = next(iter(network.parameters())).shape[-1] if name not in ("fixed stream", "block alone") else None
    x = torch.randn(2, *(() if name == "normalised" else (4,)), width or {"fixed stream": 12, "block alone": 8}[name])
    torch.testing.assert_close(functional_call(network, b, (x,)), network(x), atol=2e-3, rtol=1e-4)
    assert same(match_weights(a, b, layout), a)


def test_permuting_moves_rows_before_and_columns_after():
    a, order = MLP(5, 7, 3).state_dict(), torch.randperm(7)
    found = permute(a, units(MLP(5, 7, 3)), {"0.": order})
    wanted = (a["0.weight"][order], a["0.bias"][order], a["2.weight"][:, order], a["2.bias"])
    assert all(torch.equal(t, w) for t, w in zip(found.values(), wanted, strict=True))


def alike(a, b):
    return sum((a[key].double() * b[key].double()).sum().item() for key in a)


def all_orders(n, heads):
    """Every permutation that `units` allows."""
    if heads is None:
        return [torch.tensor(order) for order in itertools.permutations(range(n))]
    d = n // (2 * heads)
    inner = list(itertools.permutations(range(d)))
    return [
        torch.tensor([part * heads * d + head * d + u for part in range(2) for i, head in enumerate(places) for u in some[2 * i + part]])  # noqa: E501
        for places in itertools.permutations(range(heads))
        for some in itertools.product(inner, repeat=2 * heads)
    ]  # fmt: skip


@pytest.mark.parametrize("width", [1, 2, 4, 6])
def test_with_one_hidden_layer_the_match_is_the_best_of_all_permutations(width):
    for _ in range(5):
        a, b = MLP(3, width, 2).state_dict(), MLP(3, width, 2).state_dict()
        layout = units(MLP(3, width, 2))
        best = max(alike(a, permute(b, layout, {"0.": order})) for order in all_orders(width, None))
        assert alike(a, match_weights(a, b, layout)) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("make", [lambda: MLP(3, 3, 2, depth=4), lambda: reader(4, 2)], ids=["MLP", "Transformer"])
def test_no_other_order_of_any_one_group_is_better(make):
    """A local optimum, by brute force over each group, heads and what is inside of them included; no worse than b."""
    reached = []
    for _ in range(6):
        network = make()
        a, b, layout = network.state_dict(), make().state_dict(), units(network)
        found = match_weights(a, b, layout)
        for group, n in sizes(layout, a).items():
            if n <= 8:
                others = (permute(found, layout, {group: order}) for order in all_orders(n, layout.heads.get(group)))
                assert max(alike(a, other) for other in others) <= alike(a, found) + 1e-6
        assert alike(a, found) >= alike(a, b) - 1e-6
        if isinstance(network, MLP):
            everywhere = itertools.product(all_orders(3, None), repeat=3)
            ways = (dict(zip(("0.", "2.", "4."), orders, strict=True)) for orders in everywhere)
            reached.append(max(alike(a, permute(b, layout, way)) for way in ways) <= alike(a, found) + 1e-6)
    assert not reached or sum(reached) >= 3  # often, not always, the best of all 216


def test_the_match_is_never_further_from_a_than_b_where_a_start_at_the_input_goes_astray():
    """What the units read says to exchange them; then all the rest would have to follow, and the output could not."""
    a = {"0.weight": torch.tensor([[1.0], [0.0]]), "2.weight": 2 * torch.eye(2), "4.weight": torch.tensor([[2.0, 0.0]])}
    b = a | {"0.weight": torch.tensor([[0.0], [1.0]])}
    layout = units(nn.Sequential(*[nn.Linear(n, m, bias=False) for n, m in ((1, 2), (2, 2), (2, 1))]))
    layout = Units({f"{2 * int(key[0])}.weight": axes for key, axes in layout.axes.items()}, {})
    assert same(match_weights(a, b, layout), b)


def test_a_position_table_is_matched_with_units_written_by_hand():
    network = reader()
    layout = units(network)
    layout.axes["place"] = None, layout.axes["embed.bias"][0]
    a = network.state_dict() | {"place": torch.randn(6, 8), "steps": torch.tensor(3)}
    order = torch.randperm(8)
    b = permute(a, layout, {"embed.": order})
    assert torch.equal(b["place"], a["place"][:, order])
    assert same(match_weights(a, b, layout), a)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


@pytest.mark.parametrize(
    ("module", "part"),
    [
        (nn.Sequential(Doubled(3, 4), nn.Linear(4, 3)), "Doubled at '0'"),
        (Residual(nn.Linear(3, 4), nn.Linear(4, 3)), "got Residual"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(3, 3)), "Conv2d at '0'"),
        (nn.Sequential(nn.Linear(3, 4), nn.Softmax(-1), nn.Linear(4, 2)), "Softmax at '1'"),
        (nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Flatten())), "Flatten at '1.0'"),
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), "BatchNorm1d at '1'"),
        (nn.LSTM(3, 4), "got LSTM"),
        (nn.Sequential(*[nn.Linear(3, 3)] * 2), "a parameter in two places"),
    ],
)
def test_what_units_does_not_know_it_refuses_by_name(module, part):
    with pytest.raises(ValueError, match="module must") as error:
        units(module)
    assert part in str(error.value)


A = MLP(3, 4, 2).state_dict()
UNITS = units(MLP(3, 4, 2))
PLAIN = Units({"w": (None, None)}, {})
HEADS = "body.blocks.0.attention."
ODD = torch.tensor([[1.0, torch.nan]])


def solved(source, target):
    return Stitch(nn.Identity(), nn.Identity(), 2, 2).solve(source, target)


def joined(x, cut=1, block=None):
    return reassemble([block or nn.Identity()] * 3, [nn.Identity()] * 3, x, cut=cut)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: average([]), ["states must be a list of at least one"]),
        (lambda: average(state(0)), ["states must be a list", "dict"]),
        (lambda: average([state(0), 3]), ["states[1] must be a dict of tensors", "int"]),
        (lambda: average([MLP(3, 4, 2)]), ["states[0] must be a dict of tensors", "MLP"]),
        (lambda: average([state(0), state(0) | {"w": torch.ones(4, 3)}]), ["states[1]['w']", "(3, 4)", "(4, 3)"]),
        (lambda: average([state(0), state(0) | {"b": torch.ones(5).double()}]), ["states[1]['b']", "float64"]),
        (lambda: average([state(0), {"w": state(0)["w"]}]), ["states[1]", "states[0]", "only one", "b, counter"]),
        (lambda: average([state(0)] * 2, [1]), ["weights must be 2 finite numbers", "[1.0]"]),
        (lambda: average([state(0)] * 2, [1, -1]), ["weights", "sum above 0"]),
        (lambda: interpolate(state(0), state(1), float("nan")), ["t must be a finite number, got nan"]),
        (lambda: interpolate(A, state(1), 0), ["b must have the tensors of a"]),
        (lambda: greedy_soup([], len), ["states must be"]),
        (lambda: task_vector(state(0), A), ["tuned must have the tensors of base"]),
        (lambda: apply_task_vectors(state(0), [], 1), ["vectors must be a list of at least one"]),
        (lambda: apply_task_vectors(state(0), [state(1)], 1), ["vectors[0]", "base", "counter"]),
        (lambda: apply_task_vectors(A, [A], float("inf")), ["scale must be a finite number, got inf"]),
        (lambda: ties([A, A], 0), ["density must be above 0 and at most 1, got 0"]),
        (lambda: ties([A, A], 1.5), ["density", "1.5"]),
        (lambda: dare(A, 1), ["drop must be at least 0 and less than 1, got 1"]),
        (lambda: match_weights(A, MLP(3, 5, 2).state_dict(), UNITS), ["b['0.weight']", "(4, 3)", "(5, 3)"]),
        (lambda: match_weights(A, A, units(MLP(3, 4, 2, depth=3))), ["layout must be that of the state", "4.weight"]),
        (lambda: match_weights(A, A, MLP(3, 4, 2)), ["layout must be Units, as of units(module), got MLP"]),
        (lambda: match_weights(*[{"w": torch.ones(2, 2).cfloat()}] * 2, PLAIN), ["a must be", "complex", "'w'"]),
        (lambda: average([{"1.running_var": torch.ones(2)}] * 2, [2, -1]), ["weights", "1.running_var"]),
        (lambda: interpolate(*[{"1.running_var": torch.ones(2)}] * 2, 1.5), ["t must be from 0 to 1", "1.running_var"]),
        (lambda: average([A, {key: t.to("meta") for key, t in A.items()}]), ["states[1]['0.weight']", "cpu", "meta"]),
        (lambda: average(3), ["states must be a list", "int"]),
        (lambda: apply_task_vectors(A, [{"0.weight": A["0.weight"]}], 1), ["vectors[0]", "no 0.bias"]),
        (lambda: apply_task_vectors(A, [A], True), ["scale must be a finite number, got True"]),
        (lambda: solved(torch.ones(2, 2).long(), torch.ones(2, 2)), ["source must be floating-point", "int64"]),
        (lambda: joined(torch.ones(4, 2), block=Pair()), ["a[0] must return a tensor (..., D), got tuple"]),
        (lambda: joined(torch.ones(4, 1, 5, 5), block=nn.Conv2d(1, 1, 3)), ["a[0] must return", "(4, 1, 3, 3)"]),
        (lambda: joined(torch.ones(4, 1, 9), block=nn.Conv1d(1, 1, 3)), ["a[0] must return", "(4, 1, 7)"]),
        (lambda: match_weights(A, A, Units({}, {})), ["layout must name an axis", "'0.weight'", "None"]),
        (
            lambda: match_weights(*[{"w": torch.ones(2, 2)}] * 2, Units({"w": (Axis("h"), Axis("h"))}, {})),
            ["no group twice"],
        ),
        (lambda: match_weights(A, A | {"2.bias": ODD[0]}, UNITS), ["b must be finite", "2.bias"]),
        (lambda: ties([A, A | {"2.bias": torch.tensor([1.0, torch.nan])}], 1), ["vectors[1] must be finite", "2.bias"]),
        (lambda: dare({"n": torch.tensor([1, 2])}, 0.5), ["vector must be", "floating point", "'n'", "int64"]),
        (lambda: ties([{}], 1), ["vectors[0] must have at least one entry"]),
        (lambda: greedy_soup([A, A], lambda s: float("nan")), ["score must return a number"]),
        (lambda: permute(A, UNITS, {"0.": torch.tensor([0, 1, 1, 2])}), ["orders", "'0.'", "[0, 1, 1, 2]"]),
        (lambda: permute(A, UNITS, {"1.": torch.arange(4)}), ["orders", "{'0.': 4}", "'1.'"]),
        (lambda: permute(A | {"2.weight": torch.ones(2, 5)}, UNITS, {}), ["layout", "'2.weight' has 5 units of '0.'"]),
        (
            lambda: permute(reader().state_dict(), units(reader()), {HEADS: torch.arange(16).flip(0)}),
            ["heads together", HEADS],
        ),
        (lambda: linear_cka(torch.ones(1, 2), torch.ones(1, 2)), ["N at least 2", "(1, 2)"]),
        (lambda: linear_cka(torch.ones(3, 2), torch.ones(4, 2)), ["(3, 2), (4, 2)"]),
        (lambda: reassemble([nn.Identity()] * 2, [nn.Identity()] * 2, torch.ones(3, 2), cut=2), ["cut", "got 2"]),
        (lambda: joined(torch.ones(2)), ["x must be finite", "(N, ...)", "shape (2,)"]),
        (lambda: joined(ODD), ["x must be finite", "shape (1, 2) with a NaN or an infinity"]),
        (lambda: joined(torch.ones(0, 2)), ["x", "N at least 2", "(0, 2)"]),
        (lambda: joined(torch.ones(3, 2), cut=1.5), ["cut must be 1", "got 1.5"]),
        (lambda: solved(torch.ones(4, 2), torch.ones(4, 3)), ["source and target", "(..., 2)", "(4, 2) and (4, 3)"]),
        (lambda: solved(torch.tensor(1.0), torch.ones(2)), ["source and target", "() and (2,)"]),
        (lambda: solved(torch.ones(0, 2), torch.ones(0, 2)), ["source must hold at least one example", "(0, 2)"]),
        (lambda: solved(ODD, torch.ones(1, 2)), ["source must", "be finite", "a NaN or an infinity"]),
        (lambda: solved(torch.ones(1, 2), ODD), ["target must", "be finite", "a NaN or an infinity"]),
    ],
)  # fmt: skip
def test_errors_name_the_argument_and_the_tensor(call, parts):
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    for part in parts:
        assert part in str(error.value)


# ---- parts of different networks


def test_a_stitch_learns_and_nothing_else_does():
    bottom, top = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)), MLP(5, 7, 3)
    stitch = Stitch(bottom, top, 6, 5).train()
    before = {key: t.clone() for key, t in stitch.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in stitch.parameters() if p.requires_grad], lr=0.1)
    F.cross_entropy(stitch(torch.randn(8, 4)), torch.arange(8) % 3).backward()
    optimizer.step()
    changed = {key for key, t in stitch.state_dict().items() if not torch.equal(t, before[key])}
    assert changed == {"affine.weight", "affine.bias"}  # running statistics neither
    assert bottom.training and all(p.requires_grad for p in [*bottom.parameters(), *top.parameters()])  # copies


def test_solve_is_least_squares_and_finds_an_affine_map_that_is_there():
    x, weight, bias = torch.randn(50, 2, 4), torch.randn(3, 4), torch.randn(3)
    x = torch.cat([x, x[..., :1]], -1)  # one direction twice: many solutions
    stitch = Stitch(nn.Identity(), nn.Identity(), 5, 3).solve(x, x[..., :4] @ weight.T + bias)
    torch.testing.assert_close(stitch(x), x[..., :4] @ weight.T + bias, atol=1e-4, rtol=1e-4)
    y = torch.randn(50, 2, 3)
    stitch.solve(x, y)
    full = torch.cat([x.flatten(0, 1)[:, :4], torch.ones(100, 1)], -1)
    wanted = full @ torch.linalg.lstsq(full, y.flatten(0, 1)).solution
    torch.testing.assert_close(stitch(x).flatten(0, 1), wanted, atol=1e-4, rtol=1e-4)


def test_cka_is_that_of_centred_gram_matrices_and_sees_neither_rotation_nor_scale():
    x, y = torch.randn(30, 6, dtype=torch.float64), torch.randn(30, 4, dtype=torch.float64)
    centre = torch.eye(30, dtype=torch.float64) - 1 / 30
    k, m = (centre @ t @ t.T @ centre for t in (x, y))
    torch.testing.assert_close(linear_cka(x, y), (k * m).sum() / (k.norm() * m.norm()))  # HSIC, normalised
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    assert linear_cka(x, 3 * x @ rotation + 7).item() == pytest.approx(1)
    assert linear_cka(x, torch.ones(30, 2)) == 0


def test_reassembly_joins_where_the_representations_are_most_alike():
    """b's third block says what a's second does, rotated: the joint must be found there, and a itself come out."""
    a = [nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 6), nn.Tanh()), nn.Linear(6, 3)]
    rotate, back = nn.Linear(6, 6, bias=False), nn.Linear(6, 3)
    nn.init.orthogonal_(rotate.weight)
    back.weight.data, back.bias.data = a[2].weight.data @ rotate.weight.data.T, a[2].bias.data
    b = [a[0], nn.Identity(), nn.Sequential(a[1], rotate), back]
    x = torch.randn(200, 4)
    stitch, left_out = reassemble(a, b, x, cut=2)
    assert left_out == 3
    torch.testing.assert_close(stitch(x), nn.Sequential(*a)(x), atol=1e-4, rtol=1e-4)


def test_reassembly_looks_at_networks_in_evaluation_mode():
    first = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
    a = [first, nn.Sequential(nn.ReLU(), nn.Linear(6, 6), nn.Dropout(0.5)), nn.Linear(6, 3)]
    nn.Sequential(*a)(3 * torch.randn(99, 4) + 1)  # statistics that are not those of x
    before, x = copy.deepcopy(a), torch.randn(200, 4)
    stitch, left_out = reassemble(a, a, x, cut=1)
    assert left_out == 1 and all(block.training for block in a)
    assert same(nn.Sequential(*a).state_dict(), nn.Sequential(*before).state_dict())
    torch.testing.assert_close(stitch(x), nn.Sequential(*before).eval()(x), atol=1e-4, rtol=1e-4)


# ---- what is no weight, what is tied, and types


def normalised(seed, dtype=torch.float32):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(20, 20), nn.BatchNorm1d(20), nn.Linear(20, 5)).to(dtype)
    net[1].running_mean += 100 * seed
    net[1].running_var += 100 * seed
    net[1].num_batches_tracked += seed
    return net.state_dict()


def test_running_statistics_are_no_task():
    base, tuned = normalised(0), normalised(1)
    vector = task_vector(base, tuned)
    assert set(base) - set(vector) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert ties([vector], 0.05)["0.weight"].count_nonzero() > 0
    moved = apply_task_vectors(base, [vector], 1)
    assert all(torch.equal(moved[key], base[key]) for key in set(base) - set(vector))
    torch.testing.assert_close(moved["0.weight"], tuned["0.weight"])
    assert average([base, tuned])["1.running_var"][0] == 51 and average([base, tuned])["1.num_batches_tracked"] == 0
    assert interpolate(base, tuned, 0.25)["1.running_mean"][0] == 25


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_merge_rounds_once(dtype):
    """Base plus the change of one task is the tuned state, though half precision holds no such difference."""
    base, tuned = ({key: 10 * t if key == "w" else t for key, t in state(i, dtype=dtype).items()} for i in (0, 1))
    vector = task_vector(base, tuned)
    assert vector["w"].dtype == torch.promote_types(dtype, torch.float32)
    moved = apply_task_vectors(base, [vector], 1)
    assert moved["w"].dtype == dtype
    tolerance = 0 if dtype in (torch.float16, torch.bfloat16) else 2 * torch.finfo(dtype).eps * 50
    torch.testing.assert_close(moved["w"], tuned["w"], atol=tolerance, rtol=0)
    exact = base["w"].double() + 0.3 * (tuned["w"].double() - base["w"].double())
    torch.testing.assert_close(apply_task_vectors(base, [vector], 0.3)["w"], exact.to(dtype), atol=tolerance, rtol=0)
    assert same(
        interpolate(base, tuned, 0.3),
        {**base, **{k: (0.7 * base[k].double() + 0.3 * tuned[k].double()).to(dtype) for k in "wb"}},
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_task_vectors_of_half_precision_are_merged_as_those_of_float64(dtype):
    base = state(0, dtype=dtype)
    vectors = [task_vector(base, state(i, dtype=dtype)) for i in (1, 2, 3)]
    wide = [{key: t.double() for key, t in vector.items()} for vector in vectors]
    merged, wanted = ties(vectors, 0.4), ties(wide, 0.4)
    dropped = dare(vectors[0], 0.3, torch.Generator().manual_seed(0))
    for key in ("w", "b"):
        torch.testing.assert_close(merged[key].double(), wanted[key], atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(
            dropped[key].double(), dropped[key].sign().abs() * wide[0][key] / 0.7, atol=1e-5, rtol=0
        )


def test_tied_weights_are_one_tensor_in_a_task_vector():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    net[1].weight = net[0].weight
    base, tuned = (
        net.state_dict(),
        {key: t + torch.randn(t.shape) for key, t in copy.deepcopy(net).state_dict().items()},
    )
    tuned["1.weight"] = tuned["0.weight"]
    vector = task_vector(base, tuned)
    once = {key: t for key, t in vector.items() if key != "1.weight"}
    for merge in (lambda v: ties([v, v], 0.3), lambda v: dare(v, 0.5, torch.Generator().manual_seed(0))):
        merged, wanted = merge(vector), merge(once)
        assert same({key: merged[key] for key in wanted}, wanted) and torch.equal(
            merged["1.weight"], merged["0.weight"]
        )


def test_complex_weights_are_averaged():
    a, b = {"w": torch.tensor([1 + 2j])}, {"w": torch.tensor([3 - 2j])}
    assert average([a, b])["w"] == 2 and interpolate(a, b, 0.25)["w"] == 1.5 + 1j
    assert apply_task_vectors(a, [task_vector(a, b)], 1)["w"] == b["w"]


def test_lists_may_be_generators_and_numbers_numpys():
    states = [state(i) for i in range(3)]
    assert same(average(s for s in states), average(states))
    assert same(interpolate(*states[:2], np.float32(0.5)), interpolate(*states[:2], 0.5))
    assert same(interpolate(*states[:2], torch.tensor(0.5)), interpolate(*states[:2], 0.5))
    blocks = [nn.Linear(4, 4) for _ in range(3)]
    x = torch.randn(30, 4)
    one, two = (reassemble(iter(blocks), iter(blocks), x, cut=cut)[0] for cut in (np.int64(1), 1))
    assert torch.equal(one(x), two(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rank", [1, 4, 63])
def test_a_stitch_of_rank_deficient_features_is_short_and_exact(dtype, rank):
    x = torch.randn(200, rank, dtype=dtype)
    source, target = x @ torch.randn(rank, 64, dtype=dtype), x @ torch.randn(rank, 32, dtype=dtype) + 1
    stitch = Stitch(nn.Identity(), nn.Identity(), 64, 32).to(dtype).solve(source, target)
    assert stitch.affine.weight.abs().max() < 100
    torch.testing.assert_close(stitch(source), target, atol=1e-3, rtol=1e-3)


def test_networks_of_convolutions_are_joined_where_features_come_last():
    def blocks():
        return [nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten()), nn.Linear(144, 8), nn.Linear(8, 3)]

    x = torch.randn(50, 1, 8, 8)
    stitch, _ = reassemble(blocks(), blocks(), x, cut=1)
    assert stitch(x).shape == (50, 3)
    tokens = [nn.Linear(4, 4) for _ in range(3)]
    with pytest.raises(ValueError, match=r"b must have a place with features for \(9, 7\) tokens"):
        reassemble(tokens, [nn.Flatten(), nn.Linear(28, 3)], torch.randn(9, 7, 4), cut=1)
