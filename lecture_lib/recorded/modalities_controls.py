"""Forty captions, notebook 11: four more ways, after 300 steps only. See modalities.py.

What is equal, and the measures, as there; the learning rate of each way is picked on held-out images from the same
three, over all three seeds.

What came out, with wide ranges over seeds: a frozen random router and the balance loss over all tokens find in the mean
as many as both losses (0.52 to 0.54), the global loss alone 0.48, a dense network of equal parameters 0.42. In none
with experts did a modality collapse.
"""

from functools import cache

from lecture_lib.recorded.modalities import RATES, WAYS, measure, train

CONTROLS = ("balance of all tokens", "frozen random router", "global only", "dense, equal parameters")
SEEDS = (0, 1, 2)


@cache
def at_its_best(name: str, steps: int, rates: tuple[float, ...]) -> list[dict]:
    """A way at its best rate: a dict for each of `SEEDS`."""
    models = train(WAYS[name], [(seed, rate) for rate in rates for seed in SEEDS], steps)
    rows = [measure(model) for model in models]
    held_out = [sum(row["held_out"]) / 2 for row in rows]
    found = [sum(held_out[i : i + len(SEEDS)]) / len(SEEDS) for i in range(0, len(rows), len(SEEDS))]
    best = max(range(len(rates)), key=found.__getitem__)
    tried = [[rate, round(value, 4)] for rate, value in zip(rates, found, strict=True)]
    return [{"rate": rates[best], "tried": tried} | row for row in rows[best * len(SEEDS) :][: len(SEEDS)]]


GRID = {"way": CONTROLS, "seed": SEEDS}


def run(seed: int, way: str, steps: int = 300, rates=RATES) -> dict:
    """The rate that was picked, retrieval, and what the routers do."""
    return at_its_best(way, steps, tuple(rates))[SEEDS.index(seed)]


def small() -> dict:
    return {"seed": 0, "way": "frozen random router", "steps": 4, "rates": [4e-3]}
