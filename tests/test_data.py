"""The data: what it is, and that a seed fixes it."""

import itertools
import math

import numpy as np
import pytest
import sklearn.datasets
import torch

from lecture_lib.data import (
    KINDS,
    Language,
    batches,
    digit_tasks,
    digits,
    english,
    find_the_digit,
    openml,
    python_sources,
    tables,
    token_kinds,
)


def test_digits_are_a_fixed_fair_split():
    data = digits()
    assert data.train_x.shape == (1257, 8, 8) and data.test_x.shape == (540, 8, 8)
    assert data.train_x.dtype == torch.float32 and data.train_y.dtype == torch.int64
    assert data.train_x.min() == 0 and data.train_x.max() == 1
    shares = [y.bincount(minlength=10) / len(y) for y in (data.train_y, data.test_y)]
    torch.testing.assert_close(shares[0], shares[1], atol=2e-3, rtol=0)
    assert torch.equal(digits().test_x, data.test_x)


def test_tasks_are_the_same_digits_with_other_views_and_questions():
    data, tasks = digits(), digit_tasks()
    assert list(tasks) == ["class", "parity", "ink", "turned", "inverted", "mirrored"]
    assert all(
        torch.equal(part, whole) for part, whole in zip(tasks["class"], data, strict=True)
    )  # the task that needs no change
    for task in tasks.values():
        assert [part.shape for part in task] == [part.shape for part in data]
        assert task.train_x.min() == 0 and task.train_x.max() == 1 and task.train_y.dtype == torch.int64
    for name in ("turned", "inverted", "mirrored"):
        assert torch.equal(tasks[name].test_y, data.test_y)
    for i, j in itertools.product(range(8), range(8)):
        assert torch.equal(tasks["turned"].test_x[:, i, j], data.test_x[:, 7 - i, 7 - j])
        assert torch.equal(tasks["mirrored"].test_x[:, i, j], data.test_x[:, i, 7 - j])
    assert torch.equal(tasks["inverted"].train_x + data.train_x, torch.ones(1257, 8, 8))
    assert torch.equal(tasks["parity"].test_y, data.test_y % 2)
    ink, heavy = data.train_x.sum((-1, -2)), tasks["ink"].train_y.bool()
    assert ink[heavy].min() > ink[~heavy].max() and 0.45 < heavy.float().mean() < 0.5  # some have just the median
    test_ink, test_heavy = data.test_x.sum((-1, -2)), tasks["ink"].test_y.bool()
    assert test_ink[test_heavy].min() > ink[~heavy].max()  # the threshold of the training images


def test_batches_are_whole_and_each_pass_is_a_new_order():
    x = torch.arange(10)
    first = list(itertools.islice(batches(x, -x, size=3, generator=torch.Generator().manual_seed(0)), 6))
    assert all(torch.equal(a, -b) and len(a) == 3 for a, b in first)
    one, two = (torch.cat([a for a, _ in first[i : i + 3]]) for i in (0, 3))
    assert len(one.unique()) == 9 and not torch.equal(one, two)
    with pytest.raises(ValueError, match=r"size must be .*, got size 11 for lengths \[10\]"):
        next(batches(x, size=11))
    with pytest.raises(ValueError, match=r"got size 3 for lengths \[10, 9\]"):
        next(batches(x, x[1:], size=3))


def test_a_scene_holds_one_digit_and_clutter():
    data = digits()
    draw = lambda: find_the_digit(data.test_x, data.test_y, n_scenes=500, generator=torch.Generator().manual_seed(0))  # noqa: E731
    patches, label, position = draw()
    assert patches.shape == (500, 9, 8, 8)
    known = {tuple(x.flatten().tolist()): y for x, y in zip(data.test_x, data.test_y.tolist(), strict=True)}
    is_digit = [[known.get(tuple(patch.flatten().tolist())) for patch in scene] for scene in patches]
    for row, y, k in zip(is_digit, label.tolist(), position.tolist(), strict=True):
        assert row[k] == y and sum(found is not None for found in row) == 1
    assert position.bincount(minlength=9).min() > 30
    # the clutter has the ink of digits: no counting of pixels gives the place away
    ink = patches.sum((-1, -2))
    chosen = torch.zeros(500, 9, dtype=torch.bool).scatter(1, position[:, None], True)
    torch.testing.assert_close(ink[chosen].mean(), ink[~chosen].mean(), rtol=0.05, atol=0)
    assert torch.equal(draw().patches, patches)
    with pytest.raises(ValueError, match="n_patches at least 2, got 500 and 1"):
        find_the_digit(data.test_x, data.test_y, n_scenes=500, n_patches=1)


def test_sources_are_whole_files_and_the_held_out_ones_are_others():
    data = python_sources()
    train, test = (bytes(part.tolist()).split(b"\0") for part in data)
    assert len(train) > 300 and len(test) > 10 and 0.02 < len(data.test) / len(data.train) < 0.12
    assert not set(test) & {text for text in train if len(text) > 100}
    for text in test[:5]:
        compile(text, "held out", "exec")
    assert torch.equal(python_sources().test, data.test)


def test_token_kinds_of_a_line_by_hand():
    text = "if x:  # é\n    café = 'é' + 12\n".encode()
    expected = "kk.no..cccc." + "....nnnnn.o.ssss.o.##."
    kinds = token_kinds(torch.tensor(list(text), dtype=torch.uint8))
    letters = {"space": ".", "keyword": "k", "name": "n", "number": "#", "string": "s", "comment": "c", "operator": "o"}
    assert "".join(letters[KINDS[kind]] for kind in kinds) == expected


def test_token_kinds_of_two_files_are_those_of_each():
    one, two = (torch.tensor(list(text), dtype=torch.uint8) for text in (b"a = 1\n", b'"""doc\nstring"""'))
    both = torch.cat([one, torch.zeros(1, dtype=torch.uint8), two])
    assert torch.equal(token_kinds(both), torch.cat([token_kinds(one), torch.zeros(1).long(), token_kinds(two)]))
    assert token_kinds(torch.zeros(0, dtype=torch.uint8)).shape == (0,)


def test_token_kinds_refuses_what_is_no_source():
    with pytest.raises(TypeError, match=r"source must be a tensor .* of uint8, got torch.int64"):
        token_kinds(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="source must be whole files of Python: at byte 6"):
        token_kinds(torch.tensor(list(b"a = 1\0x = (\n"), dtype=torch.uint8))


def test_openml_is_read_as_the_digits_are(monkeypatch):
    """What openml.org sends: rows of pixels from 0 to 255, classes as text; nothing is downloaded here."""
    x = np.random.default_rng(0).integers(0, 255, (21, 784), endpoint=True).astype(float)
    x[0, 0] = 255
    y = np.array([str(i % 3) for i in range(21)])
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda name, **options: (x, y))
    data = openml("Fashion-MNIST")
    assert data.train_x.shape == (18, 28, 28) and data.test_x.shape == (3, 28, 28)
    assert data.train_x.dtype == torch.float32 and data.train_x.max() == 1 and data.train_x.min() == 0
    torch.testing.assert_close(data.test_x[-1].flatten() * 255, torch.tensor(x[-1], dtype=torch.float32))
    assert data.test_y.tolist() == [0, 1, 2] and data.train_y.dtype == torch.int64

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda name, **options: (x[:, :783], y))
    with pytest.raises(ValueError, match="name must be a data set of square images, 'iris' has 783 numbers a row"):
        openml("iris")

    def offline(name, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", offline)
    with pytest.raises(ConnectionError, match=r"'mnist_784' has to be fetched from openml.org, .* no route to host"):
        openml("mnist_784")


def pieces(text):
    return bytes(text.tolist()).split(b"\0")


def test_english_is_plain_and_new_and_no_paragraph_is_in_both_parts():
    data = english()
    train, test = map(pieces, data)
    assert len(set(train + test)) == len(train) + len(test) > 2000  # each once
    assert 0.05 < len(data.test) / len(data.train) < 0.2
    assert all(80 <= len(piece) and piece.isascii() and piece.endswith(b".") and b"--" not in piece for piece in test)
    sources = bytes(python_sources().train.tolist())
    assert not any(piece in b" ".join(sources.split()) for piece in test[::20])
    assert torch.equal(english().test, data.test)


def test_tables_hold_out_every_tenth_row():
    data = tables()
    train, test = ([table.splitlines() for table in pieces(part)] for part in data)
    assert [len(rows) + len(held_out) for rows, held_out in zip(train, test, strict=True)] == [570, 442, 1797, 151, 179]
    assert [len(held_out) for held_out in test] == [57, 44, 179, 15, 17]
    assert train[3][1] == b"5.1,3.5,1.4,0.2,0" and test[3][0] == b"4.4,2.9,1.4,0.2,0"
    assert all(b"," in row and b" " not in row and b"\r" not in row for table in train + test for row in table)


def entropy(p):
    return -sum(q * math.log2(q) for q in p)


def zipf(n):
    return [1 / k / sum(1 / j for j in range(1, n + 1)) for k in range(1, n + 1)]


def information(language, sentence):
    """Bits of the only derivation of a sentence, read from its words; an error where they do not agree."""
    words, bits = sentence.removesuffix(".").split(), 0.0
    optional = {False: -math.log2(0.7), True: -math.log2(0.3)}

    def ahead(test):
        nonlocal bits
        there = bool(words) and test(words[0])
        bits += optional[there]
        return there

    def noun_phrase():
        nonlocal bits
        article, noun = words.pop(0), words.pop(0)
        k, number = language.nouns.index(noun[:-1]), "oaiu".index(noun[-1]) // 2
        assert article == "l" + noun[-1] and "oaiu".index(noun[-1]) % 2 == k % 2
        bits += 1 - math.log2(zipf(48)[k])
        if ahead(lambda word: word[:-2] in language.adjectives and word.endswith("n")):
            adjective = words.pop(0)
            assert adjective[-2] == noun[-1]
            bits -= math.log2(zipf(12)[language.adjectives.index(adjective[:-2])])
        if ahead(lambda word: word == "ke"):
            words.pop(0)
            verb_phrase(number)
        return number

    def verb_phrase(number):
        nonlocal bits
        verb = words.pop(0)
        assert verb[-1] == "st"[number]
        bits -= math.log2(zipf(24)[language.verbs.index(verb[:-1])])
        if ahead(lambda word: word[0] == "l" and len(word) == 2):
            noun_phrase()

    verb_phrase(noun_phrase())
    assert not words
    return bits


def test_the_bits_of_a_small_language_are_those_of_its_sentences_only_derivation():
    language = Language(3)
    text, bits = language.text(300, seed=1)
    sentences = bytes(text.tolist()).decode().splitlines()
    assert len(sentences) == 300 and all(sentence.endswith(".") for sentence in sentences)
    assert bits == pytest.approx(sum(information(language, sentence) for sentence in sentences))
    assert any(sentence.count(" ke ") > 1 for sentence in sentences)


def test_a_small_language_has_the_information_of_its_grammar():
    """Expected bits of a noun phrase n and a verb phrase v: n = 1 + H + 2h + .3 H' + .3 v, v = H\" + h + .3 n."""
    h = entropy([0.3, 0.7])
    noun = 1 + entropy(zipf(48)) + 2 * h + 0.3 * entropy(zipf(12))
    verb = entropy(zipf(24)) + h
    n = (noun + 0.3 * verb) / (1 - 0.09)
    _, bits = Language().text(20_000, seed=5)
    assert bits / 20_000 == pytest.approx(n + verb + 0.3 * n, rel=0.01)


def test_a_small_language_is_that_of_its_seed():
    text, bits = Language(1).text(5, seed=2)
    again, same = Language(1).text(5, seed=2)
    assert torch.equal(text, again) and bits == same and text.dtype == torch.uint8
    assert not set(Language(1).nouns) <= set(Language(2).nouns)
    with pytest.raises(ValueError, match="n must be an integer >= 1, got 0"):
        Language().text(0)
    with pytest.raises(ValueError, match="seed must be an integer >= 0, got -1"):
        Language(-1)
