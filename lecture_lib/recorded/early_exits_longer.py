"""Six exits, notebook 06: small static networks with the FLOPs of 1,800 joint steps, three times those of 600.

Networks, tasks, rates and criterion are those of `early_exits`, with three seeds.
"""

from lecture_lib.recorded import early_exits

GRID = {"seed": (0, 1, 2), "way": ["depth 2, FLOPs", "width 10, FLOPs"], "lr": early_exits.RATES}


def run(seed: int, way: str, lr: float, shorten: float = 1) -> dict:
    """One training, as in `early_exits`, three times as long."""
    return early_exits.run(seed, way, lr, shorten / 3)


def small() -> dict:
    return {"seed": 0, "way": "depth 2, FLOPs", "lr": 6e-3, "shorten": 900}
