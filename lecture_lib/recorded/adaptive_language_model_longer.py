"""The setting that lost least in `adaptive_language_model_settings`, and a network without exits, trained as long.

By the criterion written there that is "fewer heads", and the cut in the middle has four layers.
"""

from lecture_lib.recorded.adaptive_language_model_settings import SETTINGS, SIX, measure, train

SETTINGS["static"] = (SIX | {"n_layers": 4}, (3,))
GRID = {"seed": [0], "setting": ["fewer heads", "static"]}


def run(seed: int, setting: str, steps: int = 3000, size: int = 48) -> dict:
    """Cuts and exits of one training, as there."""
    return measure(train(setting, seed=seed, steps=steps), setting, size)


def small() -> dict:
    return {"seed": 0, "setting": "static", "steps": 2, "size": 2}
