"""The weights that ship with the lecture: `python -m lecture_lib.pretrain NAME` makes them, `load(NAME)` reads them.

Each is a file of safetensors in checkpoints/, beside a record of how it was made and how good it is. A run that was
stopped goes on from its last state when it is started again.
"""

import argparse
import bz2
import gzip
import hashlib
import json
import lzma
import math
import os
import platform
import sys
import time
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from lecture_lib.data import python_sources
from lecture_lib.decoder import Decoder, token_losses

HERE = Path(__file__).parent / "checkpoints"
NAMES = ("language_model",)
MODEL = {"d_model": 176, "n_heads": 2, "n_layers": 6}
CONTEXT, BATCH, LR = 256, 12, 6e-3


def load(name: str, *, folder: Path = HERE) -> Decoder:
    """The trained model `name`, in evaluation mode, in float32 on the CPU; its record is `record(name)`."""
    model = Decoder(**record(name, folder=folder)["model"])
    path = folder / f"{name}.safetensors"
    try:
        model.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise _unreadable(path, name, error) from None
    return model.eval()


def record(name: str, *, folder: Path = HERE) -> dict:
    """How the weights `name` were made: command, seed, data, date, minutes, and the result on the held-out files."""
    _check(name)
    path = folder / f"{name}.json"
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, name, error) from None


def pretrain(
    name: str,
    *,
    steps: int = 6_000,
    seed: int = 0,
    compiled: bool = False,
    folder: Path = HERE,
    state_folder: Path = Path("build/pretrain"),
    every: int = 100,
) -> dict:
    """Train `name` on the Python standard library's sources, write weights and record into `folder`, return the record.

    All exits are trained at once, by Σ_l l · L_l / Σ_l l (Schuster et al. 2022, eq. 6). Matrices of the layers by Muon,
    everything else by AdamW. Uses a CUDA GPU where there is one.

    Args:
        compiled: by torch.compile, which needs a C++ compiler: faster, with the same mathematics in another rounding.
        state_folder: holds what a stopped run needs to go on; `every` so many steps it is written.
    """
    _check(name)
    if steps < 1 or every < 1:
        raise ValueError(f"steps and every must be at least 1, got {steps} and {every}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = python_sources()
    train = data.train.to(device)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Decoder(**MODEL).to(device)
    optimizers = _optimizers(model)
    warm_up = min(100, steps // 10 + 1)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda step: min((step + 1) / warm_up, 1 - step / steps))
        for o in optimizers
    ]
    parts = {"model": model} | {f"optimizer {i}": o for i, o in enumerate(optimizers)}
    parts |= {f"schedule {i}": s for i, s in enumerate(schedules)}
    settings = {"name": name, "steps": steps, "seed": seed, "data": _fingerprint(data.train)}
    path = state_folder / f"{name}.pt"
    done, seconds, cpu = _resume(path, settings, parts, generator)

    low_precision = device.type == "cuda" or torch.backends.cpu.get_cpu_capability() == "AVX512"
    loss = torch.compile(_loss) if compiled else _loss
    clock, cpu_clock = time.monotonic() - seconds, time.process_time() - cpu
    model.train()
    with tqdm(total=steps, initial=done, file=sys.stdout, desc=name, ascii=True, mininterval=5) as bar:
        for step in range(done + 1, steps + 1):
            start = torch.randint(len(train) - CONTEXT, (BATCH, 1), generator=generator)
            text = train[(start + torch.arange(CONTEXT + 1)).to(device)].long()
            with torch.autocast(device.type, torch.bfloat16, enabled=low_precision):
                value = loss(model, text)
            for optimizer in optimizers:
                optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
            bar.update()
            if step % every == 0:
                bar.set_postfix_str(f"{value.item() / math.log(2):.3f} bits per byte", refresh=False)
                spent = time.monotonic() - clock, time.process_time() - cpu_clock
                _write_state(path, settings, step, spent, parts, generator)
    minutes = (time.monotonic() - clock) / 60, (time.process_time() - cpu_clock) / 60

    weights = {key: value.detach().half().cpu().contiguous() for key, value in model.state_dict().items()}
    model.load_state_dict(weights)  # the result is that of the weights that ship
    text = bytes(data.test.tolist())
    strongest = 9 | lzma.PRESET_EXTREME
    packers = {"gzip": gzip.compress, "bz2": bz2.compress, "xz": lambda b: lzma.compress(b, preset=strongest)}
    bits = token_losses(model, data.test.to(device)).mean(-1) / math.log(2)
    made = {
        "command": f"python -m lecture_lib.pretrain {name}" + " --compiled" * compiled,
        "seed": seed,
        "model": MODEL,
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": steps,
        "bytes_per_step": BATCH * CONTEXT,
        "date": date.today().isoformat(),
        "minutes": round(minutes[0], 1),
        "processor_minutes": round(minutes[1], 1),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "train": {"bytes": len(data.train), "sha256": _fingerprint(data.train)},
        "test": {"bytes": len(data.test), "sha256": _fingerprint(data.test)},
        "bits_per_byte": [round(value, 4) for value in bits.tolist()],
        "bits_per_byte_of": {kind: round(8 * len(pack(text)) / len(text), 4) for kind, pack in packers.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps(made, indent=2) + "\n", "utf-8")
    path.unlink(missing_ok=True)
    return made


def _loss(model: Decoder, text: Tensor) -> Tensor:
    logits = model(text[:, :-1]).float()  # (L, B, T, V)
    losses = [F.cross_entropy(exit.flatten(0, 1), text[:, 1:].flatten()) for exit in logits]
    return sum(k * loss for k, loss in enumerate(losses, 1)) / sum(range(1, len(losses) + 1))


def _optimizers(model: Decoder) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.layers.parameters() if p.ndim == 2]
    others = [p for name, p in model.named_parameters() if not (name.startswith("layers") and p.ndim == 2)]
    return [
        torch.optim.Muon(matrices, lr=LR, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=LR / 2, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _fingerprint(data: Tensor) -> str:
    return hashlib.sha256(data.numpy().tobytes()).hexdigest()


def _write_state(path: Path, settings: dict, step: int, spent: tuple, parts: dict, generator: torch.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {key: part.state_dict() for key, part in parts.items()}
    state |= {"settings": settings, "step": step, "spent": spent, "generator": generator.get_state()}
    torch.save(state, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)  # a stop in the middle leaves the state before


def _resume(path: Path, settings: dict, parts: dict, generator: torch.Generator) -> tuple[int, float, float]:
    """Steps done, seconds and processor seconds spent: of the state in `path` if it belongs to the same run."""
    if not path.exists():
        return 0, 0.0, 0.0
    state = torch.load(path, weights_only=True)
    if state["settings"] != settings:
        raise ValueError(f"{path} is of another run, {state['settings']}, not of {settings}: finish that or delete it")
    for key, part in parts.items():
        part.load_state_dict(state[key])
    generator.set_state(state["generator"])
    return state["step"], *state["spent"]


def _check(name: str) -> None:
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")


def _unreadable(path: Path, name: str, error: Exception) -> RuntimeError:
    reason = str(error).splitlines()[0]
    return RuntimeError(
        f"{path} is missing or damaged ({reason}): "
        f"`python -m lecture_lib.pretrain {name}` makes it anew, in about an hour"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m lecture_lib.pretrain", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--steps", type=int, default=6_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compiled", action="store_true", help="faster, where there is a C++ compiler")
    options = parser.parse_args()
    made = pretrain(options.name, steps=options.steps, seed=options.seed, compiled=options.compiled)
    print(json.dumps(made, indent=2))
