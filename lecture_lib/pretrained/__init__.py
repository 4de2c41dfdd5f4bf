"""The networks that ship with weights: `load(NAME)` reads them, `python -m lecture_lib.pretrained NAME` makes them.

Each is a file of safetensors in checkpoints/, beside a record of how it was made and how good it is.
"""

import copy
import json
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lecture_lib.pretrained.adapting import prepare
from lecture_lib.pretrained.decoder import Decoder
from lecture_lib.pretrained.limoe import LIMoE

__all__ = ["load", "record"]

CHECKPOINTS = Path(__file__).parent / "checkpoints"
NAMES = {"language_model": "an hour", "limoe": "ten minutes", "adapters": "two minutes"}  # and how long each takes


def load(name: str, *, folder: Path = CHECKPOINTS) -> Decoder | nn.ModuleDict:
    """The trained model `name`, in evaluation mode, in float32 on the CPU; its record is `record(name)`.

    language_model is a Decoder; limoe a ModuleDict, for each way of training a list of LIMoE, one for each seed;
    adapters a ModuleDict, for each text language_model with LoRAs that learnt it: they share its layers.
    """
    made = record(name, folder=folder)
    path = Path(folder) / f"{name}.json"
    try:
        if name == "language_model":
            model = Decoder(**made["model"])
        elif name == "limoe":
            model = limoes(made["model"], len(made["seeds"]))
        else:
            model = adapted(made["rank"], made["texts"])
        path = path.with_suffix(".safetensors")
        weights = {key: value.float() for key, value in load_file(path).items()}
        if name == "adapters" and weights.keys() != set(shipped(model)):
            raise LookupError("not the weights of its record")
        model.load_state_dict(weights, strict=name != "adapters")
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


def adapted(rank: int, texts: Iterable[str], *, seed: int = 0) -> nn.ModuleDict:
    base = load("language_model")
    layers = {id(module): module for module in base.modules() if not list(module.children())}
    copies = {text: copy.deepcopy(base, dict(layers)) for text in texts}  # of what holds the layers, not of them
    return nn.ModuleDict({text: prepare(model, f"rank {rank}", seed) for text, model in copies.items()})


def shipped(adapters: nn.ModuleDict) -> dict[str, Tensor]:
    """Of adapted networks what is not the base."""
    return {key: value for key, value in adapters.state_dict().items() if key.endswith((".A", ".B"))}


def check(name: str) -> None:
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")


def _unreadable(path: Path, name: str, error: Exception) -> RuntimeError:
    reason = str(error).splitlines()[0]
    return RuntimeError(
        f"{path} is missing or damaged ({reason}): "
        f"`python -m lecture_lib.pretrained {name}` makes it anew, in about {NAMES[name]}"
    )
