"""The setting that was picked after 500 steps, "fewer heads", trained for 3,000, beside a static one of four layers.

The settings, the budgets and the criterion are those of `adaptive_language_model_settings`, written down before.
"""

from lecture_lib.recorded.adaptive_language_model_settings import SETTINGS, SIX, measure, train

SETTINGS["static"] = (SIX | {"n_layers": 4}, (3,))
GRID = {"seed": [0], "setting": ["fewer heads", "static"]}


def run(seed: int, setting: str, steps: int = 3000, size: int = 48) -> dict:
    """Cuts and exits of one long training, as in `adaptive_language_model_settings`."""
    return measure(train(setting, seed=seed, steps=steps), setting, size)


def small() -> dict:
    return {"seed": 0, "setting": "static", "steps": 2, "size": 2}
