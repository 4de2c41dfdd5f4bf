"""One training loop, one evaluation. Neither plots, neither knows a technique."""

import math
import operator
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from IPython import get_ipython
from IPython.display import display
from torch import Tensor, nn
from tqdm import tqdm


def fit(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Iterable[tuple[Tensor, ...]],
    *,
    steps: int,
    lr: float = 3e-3,
    measure: Callable[[], dict[str, float]] | None = None,
    every: int = 25,
    label: str = "training",
) -> list[dict[str, float]]:
    """Minimise `loss(*batch)` over the parameters of `model` by Adam, with a progress bar as text.

    Args:
        loss: batch -> a scalar; calls the model itself.
        batches: what `loss` takes, a tuple a step; at least `steps` of them.
        measure: called with the model in evaluation mode and without gradients, every `every` steps and at the end.

    However it ends, an interruption included, each module is in the mode in which it was before.

    Returns: the history, a row each time: {"step", "loss" (mean since the row before), and what `measure` gave}.

    Raises:
        FloatingPointError: the loss is not finite; the parameters are left as they were before that step.
        ValueError: `steps`, `every` or `lr` out of range, a loss that is no scalar, too few batches.
    """
    steps, every = operator.index(steps), operator.index(every)
    for name, value in {"steps": steps, "every": every}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    lr = float(lr)
    if not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"lr must be a finite number > 0, got {lr:g}")
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    history, since, step = [], [], 0
    # not on stderr, and gone when done: a notebook keeps no red box and no bar, whoever saves it
    look = {"desc": label, "file": _Line.here(), "leave": False, "ascii": True, "ncols": 80}
    with modes_kept(model), tqdm(total=steps, **look) as bar:
        model.train()
        for step, batch in zip(range(1, steps + 1), batches):  # noqa: B905 - batches may be endless
            value = loss(*batch)
            if value.ndim:
                raise ValueError(f"loss must return a scalar, got shape {tuple(value.shape)}: take its mean")
            if not value.isfinite():
                raise FloatingPointError(
                    f"loss is {value.item()} at step {step} of {label}: lower lr (now {lr}), or look at this batch"
                )
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            since.append(value.item())
            if step % every == 0 or step == steps:
                row = {"step": step, "loss": math.fsum(since) / len(since)}
                history.append(row | (_measured(model, measure) if measure else {}))
                since = []
            bar.update()
    if step < steps:
        raise ValueError(f"batches must hold at least steps = {steps} batches, got {step}")
    return history


def evaluate(
    model: nn.Module, metrics: Callable[..., dict[str, Tensor]], batches: Iterable[tuple[Tensor, ...]]
) -> dict[str, float]:
    """Average per-example metrics over a data set, with the model in evaluation mode and without gradients.

    Args:
        metrics: batch -> {"accuracy": (B,), ...}, one value per example.

    Returns: the mean of each metric over all examples of all batches.
    """
    values: dict[str, list[Tensor]] = {}

    def collect() -> dict[str, float]:
        for batch in batches:
            for name, value in metrics(*batch).items():
                if value.ndim != 1:
                    raise ValueError(f"metrics must return one value per example, got {name}: {tuple(value.shape)}")
                values.setdefault(name, []).append(value.double())
        if not values:
            raise ValueError("batches must hold at least one batch, got none")
        return {name: torch.cat(parts).mean().item() for name, parts in values.items()}

    return _measured(model, collect)


@contextmanager
def modes_kept(*models: nn.Module) -> Iterator[None]:
    """At its end, also by an error, each module is in the mode in which it was, frozen ones too."""
    before = [(module, module.training) for model in models for module in model.modules()]
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def _measured(model: nn.Module, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    with modes_kept(model), torch.no_grad():
        model.eval()
        return measure()


class _Line:
    """A line of a notebook that is written over: one output of the cell, which is empty in the end.

    What overwrites on stdout stays in the file, each time, where no JupyterLab saves it.
    """

    cell, line = None, None

    def __init__(self):
        self.output = display({"text/plain": ""}, raw=True, display_id=True)

    @classmethod
    def here(cls):
        """The line of the running cell, made where it has none; stdout outside of notebooks."""
        shell = get_ipython()
        if getattr(shell, "kernel", None) is None:
            return sys.stdout
        if cls.cell != shell.execution_count:
            cls.cell, cls.line = shell.execution_count, cls()
        return cls.line

    def write(self, text):
        self.output.update({"text/plain": text.strip()}, raw=True)

    def flush(self):
        """Each text is shown at once."""
