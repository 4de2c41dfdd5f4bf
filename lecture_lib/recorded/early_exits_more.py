"""Six exits, notebook 06, more of it: narrow static networks, and joint training for three times the steps.

Networks, tasks, rates and criterion are those of `early_exits`, with three seeds.
"""

from lecture_lib.recorded import early_exits

GRID = {
    "seed": (0, 1, 2),
    "way": ["width 10", "width 10, FLOPs", "joint, longer"],
    "lr": early_exits.RATES,
}


def run(seed: int, way: str, lr: float, shorten: float = 1) -> dict:
    """One training, as in `early_exits`."""
    return early_exits.run(seed, way, lr, shorten)


def small() -> dict:
    return {"seed": 0, "way": "width 10", "lr": 6e-3, "shorten": 100}
