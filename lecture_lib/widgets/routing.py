"""Experts while they train."""

import numpy as np
import traitlets

from lecture_lib.widgets.base import fallback, module
from lecture_lib.widgets.measured import SETTINGS, Measured, Stop, packed, short


class Routing(Measured):
    """Experts while they train: the load of each, what is dropped and what comes of it, with several cures of collapse.

    A slider goes through the training steps, radio buttons through the cures. Bars show the load of each expert and its
    mean; beside them the quality of every cure over the steps, with that of the chosen one in front.

    Args:
        runs: the names of up to 6 cures, each with a dict of what was measured at S steps, the same for all (2 to 101):
            "step": (S,) ascending; "load": (S, E) shares of the work of up to 16 experts; "dropped": (S,) shares of the
            tokens; "quality": (S,).
        quality: its name.
        step: where the slider stands, and follows it; the last if None.
        cure: the one that is chosen, and follows the radio buttons; the first if None.

    Raises:
        traitlets.TraitError: naming the argument, what is allowed and what was given.
    """

    _esm = module("measured", "routing")
    step = Stop("step")
    cure = traitlets.Unicode().tag(sync=True)

    def __init__(self, runs, quality="accuracy", *, step=None, cure=None):
        if not isinstance(runs, dict) or not 1 <= len(runs) <= 6:
            raise self._error("runs", "a dict of 1 to 6 cures", short(repr(runs)))
        checked = {self._text("a name in runs", name): self._run(f"runs[{name!r}]", run) for name, run in runs.items()}
        (first, (steps, load, _, _)), *others = checked.items()
        for name, (its_steps, its_load, _, _) in others:
            if not np.array_equal(its_steps, steps):
                allowed = f"the steps of runs[{first!r}], {short(str(steps.tolist()))}"
                raise self._error(f"runs[{name!r}]['step']", allowed, short(str(its_steps.tolist())))
            if its_load.shape != load.shape:
                allowed = f"of shape {load.shape}, as that of runs[{first!r}]"
                raise self._error(f"runs[{name!r}]['load']", allowed, f"of shape {its_load.shape}")
        self._runs = checked
        data = [  # a list: a saved notebook sorts the keys of a dict
            {"cure": name, "load": packed(load.astype("<f4")), "dropped": dropped.tolist(), "quality": score.tolist()}
            for name, (_, load, dropped, score) in checked.items()
        ]
        super().__init__(
            _data={
                "runs": data,
                "step": steps.tolist(),
                "experts": load.shape[1],
                "quality": self._text("quality", quality),
            },
            step=steps[-1] if step is None else step,
            cure=first if cure is None else cure,
        )

    @classmethod
    def _run(cls, name, run) -> tuple:
        """Steps, load, dropped and quality of a run."""
        if not isinstance(run, dict) or set(run) != {"step", "load", "dropped", "quality"}:
            given = f"a dict of {', '.join(map(str, run))}" if isinstance(run, dict) else short(repr(run))
            raise cls._error(name, "a dict of step, load, dropped and quality", given)
        steps = cls._ascending(f"{name}['step']", run["step"], (SETTINGS,), "2 to 101 ascending numbers")
        count, each = len(steps), "one for each of the steps"
        allowed = f"(S, E) shares from 0 to 1 for {count} steps and 2 to 16 experts"
        load = cls._array(f"{name}['load']", run["load"], (count, range(2, 17)), allowed, 0, 1)
        if not load.any(1).all():
            raise cls._error(
                f"{name}['load']", "above 0 for some expert at every step", "0 for all of them at some step"
            )
        dropped = cls._array(f"{name}['dropped']", run["dropped"], (count,), f"shares from 0 to 1, {each}", 0, 1)
        return (
            steps,
            load,
            dropped,
            cls._array(f"{name}['quality']", run["quality"], (count,), f"finite numbers, {each}"),
        )

    @traitlets.validate("cure")
    def _one_of_the_cures(self, proposal):
        if proposal["value"] not in self._runs:
            raise self._error("cure", f"one of {list(self._runs)}", repr(proposal["value"]))
        return proposal["value"]

    def __repr__(self) -> str:
        return f"Routing({len(self._data['step'])} steps of {', '.join(self._runs)})"

    def _fallback(self) -> str:
        rows = [
            (name, f"{score[-1]:.3g}", f"{dropped[-1]:.0%}", f"{load[-1].max() / load[-1].mean():.1f}")
            for name, (_, load, dropped, score) in self._runs.items()
        ]
        names = ("cure", self._data["quality"], "dropped", "busiest expert, over the mean")
        text = f"At the last step, {self._data['step'][-1]:.4g}:"
        return fallback("picture of the experts' load while they train", text, names, rows)
