"""Notebook 09: four times as many steps with a limit of three groups, of two and of none; fewer experts for a token.

Everything else as in `experts_at_scale`, at the learning rate that is best there for each limit.
"""

from lecture_lib.recorded import experts_at_scale

WAYS = {
    "limit 3, 4800 steps": {"limit": 3, "steps": 4800},
    "limit 2, 4800 steps": {"limit": 2, "steps": 4800},
    "no limit, 4800 steps": {"limit": 8, "steps": 4800},
    "k = 3": {"limit": 8, "k": 3},
    "k = 2": {"limit": 8, "k": 2},
}
GRID = {"way": list(WAYS), "seed": range(5)}


def run(seed: int, way: str, **changed) -> dict:
    return experts_at_scale.run(seed=seed, rate=1e-2, **(WAYS[way] | changed))


def small() -> dict:
    return {"seed": 0, "way": "k = 3", "steps": 5}
