"""The records of the language model that goes on learning: what is compared is what their text says."""

import pytest
import torch

from lecture_lib import pretrained
from lecture_lib.adapters import LoRA, MixtureOfAdapters
from lecture_lib.choice import Choice
from lecture_lib.moe import hashed
from lecture_lib.pretrained.adapting import parts, prepare
from lecture_lib.recorded import adapters_language_model as learnt
from lecture_lib.recorded import adapters_language_model_mixed as mixed
from lecture_lib.recorded import mixture_of_experts_upcycled as upcycled


def test_half_of_the_rows_of_replay_are_python(monkeypatch):
    seen = []
    monkeypatch.setattr(learnt, "learn", lambda model, batches, rate, steps: seen.append(next(batches)))
    learnt.trained("language", "all weights, replay", 1e-3, 0, 1)
    learnt.trained("language", "all weights", 1e-3, 0, 1)
    texts = {text: bytes(parts(text)[0].flatten().tolist()) for text in ("language", "python")}
    rows = [[bytes(row.tolist()) for row in batch] for batch in seen]
    assert [row in texts["language"] for row in rows[0]] == [True, True, False, False]
    assert all(row in texts["python"] for row in rows[0][2:]) and all(row in texts["language"] for row in rows[1])
    assert seen[0].shape == seen[1].shape == (learnt.WINDOWS, 129)


@pytest.mark.parametrize("method", learnt.METHODS)
def test_what_learns_is_what_is_counted(method):
    model, before = learnt.start(method, 0), pretrained.load("language_model")
    rows = torch.randint(256, (2, 9))
    same = torch.allclose(model(rows), before(rows), atol=1e-4)  # nothing is learnt yet
    assert same == (method != "own network")
    wanted = {"head": 256 * 176, "all weights": sum(w.numel() for w in before.parameters())}
    wanted["own network"] = wanted["all weights"]
    rank = int(method[5:]) if method.startswith("rank") else 0
    thin = rank * 6 * sum(i + o for i, o in ((176, 176), (176, 352), (176, 176), (176, 704), (704, 176)))
    assert learnt.costs(method)["numbers"] == wanted.get(method.removesuffix(", replay"), thin)


def test_adapters_are_joined_as_their_weights_say():
    rows, adapters = torch.randint(256, (2, 9)), pretrained.load("adapters")
    with torch.no_grad():
        torch.testing.assert_close(mixed.fixed("none")(rows), pretrained.load("language_model")(rows))
        for text in mixed.TEXTS:
            torch.testing.assert_close(mixed.fixed(text)(rows), adapters[text](rows), rtol=1e-4, atol=1e-3)
        model = mixed.joined(mixed.routed)
        routers = [module for module in model.modules() if isinstance(module, MixtureOfAdapters)]
        assert len(routers) == 30
        for k, text in enumerate((*mixed.TEXTS, "none")):
            for module in routers:
                weights = torch.eye(4)[k]
                module.choose = module.at_test = lambda s, z=weights: Choice(s, z.expand_as(s), s[..., 0] * 0)
            torch.testing.assert_close(model(rows), mixed.fixed(text)(rows), rtol=1e-4, atol=1e-3)


def test_routers_alone_learn():
    model = mixed.trained("routers", 1e-2, 0, 0)
    learning = [name for name, w in model.named_parameters() if w.requires_grad]
    assert len(learning) == 30 and all(name.endswith("router.weight") for name in learning)
    batch = next(mixed.of_all(0))
    texts = [bytes(parts(text)[0].flatten().tolist()) for text in mixed.ALL]
    assert all(bytes(row.tolist()) in text for row, text in zip(batch, texts, strict=True))


def test_the_adapter_of_all_has_as_many_numbers_as_the_three():
    def numbers(model):
        return sum(w.numel() for name, w in model.named_parameters() if name.endswith((".A", ".B")))

    three = pretrained.load("adapters").values()
    assert numbers(prepare(pretrained.load("language_model"), "rank 12")) == sum(map(numbers, three))
    assert not any(isinstance(layer.up, LoRA) for layer in pretrained.load("language_model").layers)


@pytest.mark.parametrize("way", upcycled.WAYS)
def test_an_upcycled_model_starts_as_it_was(way):
    made, rows = upcycled.Model(way, 0), torch.randint(256, (2, 9))
    torch.testing.assert_close(made.model(rows), pretrained.load("language_model")(rows), rtol=1e-4, atol=1e-4)
    assert len(made.choices) == (0 if way.startswith("dense") else 3)
    for choice in made.choices:
        assert ((choice.weights > 0).sum(-1) == (1 if way.endswith("byte") else 2)).all()
        if way.endswith("byte"):
            assert torch.equal(choice.weights, hashed(rows, 8).weights)
    learning = [name for name, w in made.model.named_parameters() if w.requires_grad and "router" in name]
    assert len(learning) == (3 if way == "two of eight" else 0)
    assert made.model.training == pretrained.load("language_model").training


def test_another_expert_is_the_next_one():
    z = torch.tensor([[0.0, 0.6, 0.4, 0.0], [0.3, 0.0, 0.0, 0.7]])
    choice = upcycled._next_expert(lambda s: Choice(s, z, s[..., 0]), torch.zeros(2, 4))
    assert choice.weights.tolist() == torch.tensor([[0.0, 0.0, 0.6, 0.4], [0.7, 0.3, 0.0, 0.0]]).tolist()


def test_dense_runs_on_to_the_flops_of_two_of_eight():
    dense, two = (upcycled.costs(way)["FLOPs of a step"] for way in ("dense", "two of eight"))
    assert upcycled.LONGER / upcycled.STEPS == pytest.approx(two / dense, abs=0.005)
