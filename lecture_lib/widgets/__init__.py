"""Interactive pictures whose mathematics runs in the browser: live in Jupyter, in Colab and, with no kernel, in slides.

Each widget is a class of synced traits, here or, if its data are measured, in measured.py, and one file of JavaScript,
which follows kit.js and what it shares with others in one module.
"""

import html
import math
import operator

import traitlets

from lecture_lib.widgets.base import Checked, Widget, module, require, style
from lecture_lib.widgets.measured import Exits, ExitText, Interpolation, Modalities, Roofline, Routing, Savings

__all__ = [
    "Estimators",
    "ExitText",
    "Exits",
    "ExpertCalculator",
    "Interpolation",
    "Modalities",
    "Roofline",
    "Routing",
    "Savings",
    "SparseMaps",
    "Temperature",
]


def _numbers(values) -> list[float]:
    return [float(f"{float(value):.7g}") for value in values]  # as written: a float32 holds 1.3 as 1.29999995


def _three_numbers(values) -> list[float]:
    numbers = _numbers(values)
    require(len(numbers) == 3 and all(map(math.isfinite, numbers)))
    return numbers


def _three_worths(values) -> list[float]:
    numbers = _three_numbers(values)
    require(all(abs(number) <= 1e6 for number in numbers))  # their squares are computed
    return numbers


def _target(value) -> float:
    require(abs(float(value)) <= 1e6)
    return float(value)


def _three_names(values) -> list[str]:
    require(not isinstance(values, str))
    names = [str(value) for value in values]
    require(len(names) == 3)
    return names


def _temperature(value) -> float:
    require(0.05 <= float(value) <= 10)
    return float(value)


def _seed(value) -> int:
    require(0 <= operator.index(value) < 2**32)
    return operator.index(value)


def _scores(values) -> list[float]:
    numbers = _numbers(values)
    require(2 <= len(numbers) <= 6 and all(-2 <= number <= 2 for number in numbers))
    return numbers


def _names(values) -> list[str]:
    require(not isinstance(values, str))
    names = [str(value) for value in values]
    require(2 <= len(names) <= 6)
    return names


def _scale(value) -> float:
    require(0.1 <= float(value) <= 10)
    return float(value)


def _baseline(value) -> float:
    require(-1 <= float(value) <= 2)
    return float(value)


def _samples(value) -> int:
    require(1 <= operator.index(value) <= 64)
    return operator.index(value)


def _integer(low: int, high: int) -> tuple:
    """How to check an integer from `low` to `high`, and what is allowed, in words."""

    def convert(value) -> int:
        require(low <= operator.index(value) <= high)
        return operator.index(value)

    return convert, f"an integer from {low} to {high} (the slider's range)"


def _capacity_factor(value) -> float:
    require(0.5 <= float(value) <= 4)
    return float(value)


def _relaxation(value) -> str:
    require(value in ("gumbel_softmax", "straight_through"))
    return value


class Temperature(Widget):
    """Gumbel-Softmax under a slider: y = softmax((s + g) / temperature) with Gumbel noise g.

    Bars show softmax(s) beside one sample y. A triangle shows 400 samples, with the same noise at every temperature:
    they move to the corners as it falls and to the centre as it rises, and which entry is the largest never changes.

    Args:
        logits: the scores s of the three options (a list, an array or a tensor).
        labels: their three names, short ones.
        temperature: from 0.05 to 10; follows the slider.
        seed: of the noise; the button adds 1.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given; on later assignments as well.
    """

    _esm = module("temperature")
    logits = Checked([1.3, 0.2, 0.7], _three_numbers, "three finite numbers (the picture is a triangle)")
    labels = Checked(["a", "b", "c"], _three_names, "three names, one for each logit")
    temperature = Checked(1.0, _temperature, "a number from 0.05 to 10 (the slider's range)")
    seed = Checked(0, _seed, "an integer from 0 to 2**32 - 1")

    def __init__(self, logits=(1.3, 0.2, 0.7), labels=("a", "b", "c"), *, temperature=1.0, seed=0):
        super().__init__(logits=logits, labels=labels, temperature=temperature, seed=seed)

    def __repr__(self) -> str:
        return f"Temperature(logits={self.logits})"

    def _fallback(self) -> str:
        top = max(self.logits)
        weights = [math.exp(logit - top) for logit in self.logits]
        names = "".join(f'<th scope="col">{html.escape(label)}</th>' for label in self.labels)
        shares = "".join(f"<td>{weight / sum(weights):.2f}</td>" for weight in weights)
        return (
            "<p>An interactive picture of Gumbel-Softmax samples: run the notebook to see it. "
            "Its three options and their probabilities softmax(s):</p>"
            f"<table><thead><tr>{names}</tr></thead><tbody><tr>{shares}</tr></tbody></table>"
        )


class SparseMaps(Widget):
    """Softmax, 1.5-entmax and sparsemax of the same scores: three groups of bars, and the support of each.

    The scores move by sliders, or by dragging their dots; dashed lines show the thresholds above which an option has a
    weight. A weight of exactly zero has a cross instead of a bar.

    Args:
        scores: of the 2 to 6 options, each from -2 to 2 (a list, an array or a tensor); follow the sliders.
        labels: their names, short ones; a, b, c ... if None.
        scale: all scores times this, from 0.1 to 10; follows its slider.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given; on later assignments as well.
    """

    _esm = module("sparse_maps")
    scores = Checked([1.3, 0.2, 0.7, -0.4, 0.9], _scores, "2 to 6 numbers from -2 to 2 (the sliders' range)")
    labels = Checked(["a", "b", "c", "d", "e"], _names, "2 to 6 names, one for each score")
    scale = Checked(1.0, _scale, "a number from 0.1 to 10 (the slider's range)")

    def __init__(self, scores=(1.3, 0.2, 0.7, -0.4, 0.9), labels=None, *, scale=1.0):
        scores = type(self).scores.validate(self, scores)
        labels = list("abcdef"[: len(scores)]) if labels is None else labels
        super().__init__(scores=scores, labels=labels, scale=scale)

    @traitlets.validate("scores", "labels")
    def _one_name_each(self, proposal):
        new = {"scores": self.scores, "labels": self.labels, proposal["trait"].name: proposal["value"]}
        if len(new["scores"]) != len(new["labels"]):
            message = f"labels must be one name for each of the scores, {new['scores']}, and is {new['labels']}"
            raise traitlets.TraitError(f"SparseMaps: {message}")
        return proposal["value"]

    def __repr__(self) -> str:
        return f"SparseMaps(scores={self.scores})"

    def _fallback(self) -> str:
        names = "".join(f'<th scope="col">{html.escape(label)}</th>' for label in self.labels)
        scores = "".join(f"<td>{score:.1f}</td>" for score in self.scores)
        return (
            "<p>An interactive picture of softmax, 1.5-entmax and sparsemax: run the notebook to see it. "
            "Its options and their scores:</p>"
            f"<table><thead><tr>{names}</tr></thead><tbody><tr>{scores}</tr></tbody></table>"
        )


class Estimators(Widget):
    """Estimates of one gradient against the exact one: by score function on the left, by relaxation on the right.

    The gradient is that of E[cost(z)] with cost(z) = (z · worth - target)², for one-hot z ~ Categorical(softmax(s)).
    Each side shows 300 estimates as dots (the components of the first and the third option), their mean as a diamond in
    an ellipse of one standard deviation, the exact gradient as a cross; below it bias, spread (standard deviation) and
    both (root mean square error), over all three components. Those of the score function are exact, by enumeration;
    those of the relaxation come from 19,200 samples.

    Args:
        logits: the scores s of the three options (a list, an array or a tensor).
        worth, target: of the cost.
        labels: the options' names, short ones.
        baseline: of the score function, -1 to 2; follows its slider.
        temperature: of the relaxation, 0.05 to 10; follows its slider.
        samples: how many samples an estimate averages, 1 to 64; follows its slider.
        relaxation: "gumbel_softmax" or "straight_through".
        seed: of the noise; the button adds 1.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given; on later assignments as well.
    """

    _esm = module("estimators")
    logits = Checked([1.3, 0.2, 0.7], _three_numbers, "three finite numbers")
    worth = Checked([2.0, 0.0, 1.0], _three_worths, "three finite numbers, one for each option, up to 10**6")
    target = Checked(0.9, _target, "a finite number up to 10**6")
    labels = Checked(["a", "b", "c"], _three_names, "three names, one for each logit")
    baseline = Checked(0.0, _baseline, "a number from -1 to 2 (the slider's range)")
    temperature = Checked(0.5, _temperature, "a number from 0.05 to 10 (the slider's range)")
    samples = Checked(1, _samples, "an integer from 1 to 64 (the slider's range)")
    relaxation = Checked("gumbel_softmax", _relaxation, "'gumbel_softmax' or 'straight_through'")
    seed = Checked(0, _seed, "an integer from 0 to 2**32 - 1")

    def __init__(self, logits=(1.3, 0.2, 0.7), worth=(2.0, 0.0, 1.0), target=0.9, labels=("a", "b", "c"), **controls):
        super().__init__(logits=logits, worth=worth, target=target, labels=labels, **controls)

    def __repr__(self) -> str:
        return f"Estimators(logits={self.logits}, worth={self.worth}, target={self.target})"

    def _fallback(self) -> str:
        top = max(self.logits)
        weights = [math.exp(logit - top) for logit in self.logits]
        p = [weight / sum(weights) for weight in weights]
        cost = [(worth - self.target) ** 2 for worth in self.worth]
        mean = sum(map(operator.mul, p, cost))
        names = "".join(f'<th scope="col">{html.escape(label)}</th>' for label in self.labels)
        exact = "".join(f"<td>{p_k * (c - mean):+.3f}</td>" for p_k, c in zip(p, cost, strict=True))
        return (
            "<p>An interactive picture of gradient estimates: run the notebook to see it. "
            "The exact gradient that they estimate, for each option:</p>"
            f"<table><thead><tr>{names}</tr></thead><tbody><tr>{exact}</tr></tbody></table>"
        )


class ExpertCalculator(Widget):
    """What a layer of experts costs: `lecture_lib.moe.MoE` with experts of two matrices and no biases, by six sliders.

    Parameters in all and active for a token, FLOPs, bytes; and what the capacity drops, if each token draws its k
    experts uniformly at random and apart from the others. Then the load of one expert is Binomial(N, k / E), and the
    share expected to be dropped is exact. A router that has learnt is not random: measure its share.

    Args:
        d_model, d_hidden: D and H, the widths of a token and of an expert's hidden layer.
        n_experts, k: E, and how many of them a token chooses.
        capacity_factor: an expert has so many times its mean number of tokens as slots, rounded up.
        n_tokens: N.

    All follow their sliders.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given; on later assignments as well.
    """

    _esm = module("measured", "expert_calculator")
    _css = style("measured")
    d_model = Checked(256, *_integer(16, 4096))
    d_hidden = Checked(1024, *_integer(16, 16384))
    n_experts = Checked(8, *_integer(8, 256))
    k = Checked(1, *_integer(1, 8))
    capacity_factor = Checked(1.25, _capacity_factor, "a number from 0.5 to 4 (the slider's range)")
    n_tokens = Checked(4096, *_integer(64, 65536))

    def __init__(self, d_model=256, d_hidden=1024, n_experts=8, k=1, capacity_factor=1.25, n_tokens=4096):
        super().__init__(
            d_model=d_model,
            d_hidden=d_hidden,
            n_experts=n_experts,
            k=k,
            capacity_factor=capacity_factor,
            n_tokens=n_tokens,
        )

    def __repr__(self) -> str:
        return f"ExpertCalculator({self.d_model}, {self.d_hidden}, n_experts={self.n_experts}, k={self.k})"

    def _fallback(self) -> str:
        router, expert = self.d_model * self.n_experts, 2 * self.d_model * self.d_hidden
        total, active = router + self.n_experts * expert, router + self.k * expert
        rows = {
            "total parameters": total,
            "active for a token": active,
            "bytes, as float32": 4 * total,
            "FLOPs for a token": 2 * active,
        }
        cells = "".join(f'<tr><th scope="row">{name}</th><td>{number:,}</td></tr>' for name, number in rows.items())
        return (
            "<p>An interactive calculator of what a layer of experts costs: run the notebook to move it. "
            f"{self.n_experts} experts of {self.d_model} × {self.d_hidden}, {self.k} of them for a token:</p>"
            f"<table><tbody>{cells}</tbody></table>"
        )
