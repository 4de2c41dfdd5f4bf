"""The networks that ship with weights: `load(NAME)` reads them, `python -m lecture_lib.pretrained NAME` makes them.

Each is a file of safetensors in checkpoints/, beside a record of how it was made and how good it is.
"""

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from lecture_lib.pretrained.decoder import Decoder
from lecture_lib.pretrained.limoe import LIMoE

__all__ = ["load", "record"]

CHECKPOINTS = Path(__file__).parent / "checkpoints"
NAMES = {"language_model": "an hour", "limoe": "ten minutes"}  # and how long each takes


def load(name: str, *, folder: Path = CHECKPOINTS) -> Decoder | nn.ModuleDict:
    """The trained model `name`, in evaluation mode, in float32 on the CPU; its record is `record(name)`.

    language_model is a Decoder; limoe a ModuleDict, for each way of training a list of LIMoE, one for each seed.
    """
    made = record(name, folder=folder)
    path = Path(folder) / f"{name}.json"
    try:
        if name == "language_model":
            model = Decoder(**made["model"])
        else:
            model = limoes(made["model"], len(made["seeds"]))
        path = path.with_suffix(".safetensors")
        model.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    except (OSError, SafetensorError, RuntimeError, LookupError, TypeError, ValueError) as error:
        raise _unreadable(path, name, error) from None
    return model.eval()


def record(name: str, *, folder: Path = CHECKPOINTS) -> dict:
    """How the weights `name` were made: command, seed, data, date, minutes, and the result on the held-out files."""
    check(name)
    path = Path(folder) / f"{name}.json"
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, name, error) from None


def limoes(settings: dict, n_seeds: int) -> nn.ModuleDict:
    return nn.ModuleDict({way: nn.ModuleList(LIMoE(**its) for _ in range(n_seeds)) for way, its in settings.items()})


def check(name: str) -> None:
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")


def _unreadable(path: Path, name: str, error: Exception) -> RuntimeError:
    reason = str(error).splitlines()[0]
    return RuntimeError(
        f"{path} is missing or damaged ({reason}): "
        f"`python -m lecture_lib.pretrained {name}` makes it anew, in about {NAMES[name]}"
    )
