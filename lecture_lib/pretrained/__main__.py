"""The recipes: `python -m lecture_lib.pretrained NAME` trains what ships, and writes weights and record.

A run of the language model that was stopped goes on from its last state when it is started again.
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
import re
import sys
import time
from datetime import date
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from lecture_lib.data import digits, python_sources
from lecture_lib.pretrained import CHECKPOINTS, NAMES, adapted, adapting, check, limoes, shipped
from lecture_lib.pretrained.decoder import Decoder, token_losses
from lecture_lib.pretrained.limoe import LIMoE, contrastive_loss, draw_pairs, entropy_losses, modality_share, retrieval
from lecture_lib.simplex import as_integer

STEPS = {"language_model": 6_000, "limoe": 300, "adapters": 120}
MODEL = {"d_model": 176, "n_heads": 2, "n_layers": 6}
CONTEXT, BATCH, LR = 256, 12, 6e-3
SPARSE = {"d_model": 32, "n_heads": 2, "n_layers": 4, "n_experts": 8, "d_hidden": 16}
LIMOE = {"both losses": SPARSE, "local only": SPARSE, "no losses": SPARSE, "dense": SPARSE | {"n_experts": None}}
THRESHOLDS = {"both losses": math.log(6), "local only": 0.0}  # of the global entropy
ENTROPY, PAIRS, SEEDS = 0.2, 64, 3
RANK, WINDOWS = 4, 4
RATES = {"english": 3e-3, "tables": 1e-2, "language": 1e-2}  # the best in recorded/adapters_language_model.json


def pretrain(
    name: str,
    *,
    steps: int | None = None,
    seed: int = 0,
    compiled: bool = False,
    folder: Path = CHECKPOINTS,
    state_folder: Path = Path("build/pretrain"),
    every: int = 100,
) -> dict:
    """Train `name`, write weights and record into `folder`, return the record.

    language_model: a Decoder on the Python standard library's sources. All exits are trained at once, by
    Σ_l l · L_l / Σ_l l (Schuster et al. 2022, eq. 6). Matrices of the layers by Muon, everything else by AdamW. Uses a
    CUDA GPU where there is one.

    limoe: LIMoE in each of the ways of `LIMOE`, from three seeds, on the CPU. It takes minutes: a stopped run starts
    anew, and `compiled`, `state_folder` and `every` are not used. Matrices of attention by Muon, the others by AdamW.

    adapters: LoRAs beside the layers of the language model, for each text of `RATES`, as `adapting` says.

    Args:
        steps: 6,000 for language_model, 300 for limoe, 120 for adapters if None.
        compiled: by torch.compile, which needs a C++ compiler: faster, with the same mathematics in another rounding.
        state_folder: holds what a stopped run needs to go on; `every` so many steps it is written.
    """
    check(name)
    steps = as_integer("steps", STEPS[name] if steps is None else steps, "an integer >= 1", 1)
    every = as_integer("every", every, "an integer >= 1", 1)
    seed, folder = as_integer("seed", seed, "an integer >= 0", 0), Path(folder)
    if name == "limoe":
        return _pretrain_limoe(steps, seed, folder)
    if name == "adapters":
        return _pretrain_adapters(steps, seed, folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = python_sources()
    train = data.train.to(device)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Decoder(**MODEL).to(device)
    matrices = [p for p in model.layers.parameters() if p.ndim == 2]
    optimizers = _optimizers(model, matrices, LR)
    warm_up = min(100, steps // 10 + 1)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda step: min((step + 1) / warm_up, 1 - step / steps))
        for o in optimizers
    ]
    parts = {"model": model} | {f"optimizer {i}": o for i, o in enumerate(optimizers)}
    parts |= {f"schedule {i}": s for i, s in enumerate(schedules)}
    settings = {"name": name, "steps": steps, "seed": seed, "data": _fingerprint(data.train)}
    path = Path(state_folder) / f"{name}.pt"
    done, seconds, cpu = _resume(path, settings, parts, generator)

    low_precision = device.type == "cuda" or torch.backends.cpu.get_cpu_capability() == "AVX512"
    objective = torch.compile(adapting.loss) if compiled else adapting.loss
    clock, cpu_clock = time.monotonic() - seconds, time.process_time() - cpu
    model.train()
    with tqdm(total=steps, initial=done, file=sys.stdout, desc=name, ascii=True, mininterval=5) as bar:
        for step in range(done + 1, steps + 1):
            start = torch.randint(len(train) - CONTEXT, (BATCH, 1), generator=generator)
            text = train[(start + torch.arange(CONTEXT + 1)).to(device)].long()
            with torch.autocast(device.type, torch.bfloat16, enabled=low_precision):
                value = objective(model, text)
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
        "command": _command(name, steps, seed, compiled),
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
    _write(name, weights, made, folder)
    path.unlink(missing_ok=True)
    return made


def _pretrain_limoe(steps: int, seed: int, folder: Path) -> dict:
    data, seeds = digits(), list(range(seed, seed + SEEDS))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        models = limoes(LIMOE, len(seeds))
    seen = draw_pairs(data.test_x, data.test_y, size=128, generator=torch.Generator().manual_seed(seed))
    clock, cpu_clock, history, results = time.monotonic(), time.process_time(), {}, {}
    with tqdm(total=steps * len(seeds) * len(LIMOE), file=sys.stdout, desc="limoe", ascii=True, mininterval=5) as bar:
        for way, of_seeds in models.items():
            history[way] = []
            for model, its_seed in zip(of_seeds, seeds, strict=True):
                generator, shares = torch.Generator().manual_seed(its_seed), []
                matrices = [p for name, p in model.body.named_parameters() if p.ndim == 2 and "attention" in name]
                optimizers = _optimizers(model, matrices, 1e-2)
                for step in range(steps):
                    if model.sparse and step % 25 == 0:
                        shares.append(_shares(model, seen))
                    pairs = draw_pairs(data.train_x, data.train_y, size=PAIRS, generator=generator)
                    found = model(pairs.images, pairs.captions)
                    same = pairs.kind[:, None] == pairs.kind
                    loss = contrastive_loss(found.images, found.captions, model.log_scale.exp(), same)
                    if way in THRESHOLDS:
                        terms = [entropy_losses(c, found.is_text, THRESHOLDS[way]) for c in found.choices]
                        loss = loss + ENTROPY * sum(terms)
                    for optimizer, lr in zip(optimizers, (1e-2, 5e-3), strict=True):
                        optimizer.param_groups[0]["lr"] = lr * min((step + 1) / 20, 1 - step / steps)
                        optimizer.zero_grad()
                    loss.backward()
                    for optimizer in optimizers:
                        optimizer.step()
                    bar.update()
                history[way].append([*shares, _shares(model, seen)] if model.sparse else [])
    minutes = (time.monotonic() - clock) / 60, (time.process_time() - cpu_clock) / 60
    weights = {key: value.detach().half().contiguous() for key, value in models.state_dict().items()}
    models.load_state_dict(weights)  # the result is that of the weights that ship
    for way, of_seeds in models.items():
        rows = [retrieval(model.eval(), data.test_x, data.test_y) for model in of_seeds]
        results[way] = {key: [round(getattr(row, key), 4) for row in rows] for key in rows[0]._fields}
    made = {
        "command": _command("limoe", steps, seed),
        "seeds": seeds,
        "model": LIMOE,
        "parameters": {way: sum(p.numel() for p in of_seeds[0].parameters()) for way, of_seeds in models.items()},
        "steps": steps,
        "pairs_per_step": PAIRS,
        "entropy": {"weight": ENTROPY, "thresholds": THRESHOLDS},
        "date": date.today().isoformat(),
        "minutes": round(minutes[0], 1),
        "processor_minutes": round(minutes[1], 1),
        "device": f"CPU, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "train": {"images": len(data.train_x), "sha256": _fingerprint(data.train_x)},
        "test": {"images": len(data.test_x), "sha256": _fingerprint(data.test_x)},
        "retrieval": results,
        "history": {"step": [*range(0, steps, 25), steps], "modality_share": history},  # (seeds, steps, layers, 2, E)
    }
    _write("limoe", weights, made, folder)
    return made


def _pretrain_adapters(steps: int, seed: int, folder: Path) -> dict:
    clock, cpu_clock = time.monotonic(), time.process_time()
    models = adapted(RANK, RATES, seed=seed)
    for text, model in models.items():
        batches = adapting.windows(text, WINDOWS, seed)
        adapting.learn(model, iter(tqdm(batches, text, steps, file=sys.stdout, ascii=True)), RATES[text], steps)
    minutes = (time.monotonic() - clock) / 60, (time.process_time() - cpu_clock) / 60
    weights = {key: value.half() for key, value in shipped(models).items()}
    models.load_state_dict(weights, strict=False)  # the result is that of the weights that ship
    of_all = {}
    for text, model in models.items():
        learnt, _, test = adapting.parts(text)
        python = adapting.bits(model, adapting.parts("python")[2])
        of_all[text] = {
            "rate": RATES[text],
            "parameters": sum(w.numel() for w in model.parameters() if w.requires_grad),
            "train": {"bytes": learnt.numel(), "sha256": _fingerprint(learnt)},
            "test": {"bytes": len(test), "sha256": _fingerprint(test)},
            "bits_per_byte": round(adapting.bits(model, test), 4),
            "bits_per_byte_of_python": round(python, 4),
        }
    made = {
        "command": _command("adapters", steps, seed),
        "seed": seed,
        "rank": RANK,
        "alpha": adapting.ALPHA,
        "steps": steps,
        "bytes_per_step": WINDOWS * adapting.CONTEXT,
        "date": date.today().isoformat(),
        "minutes": round(minutes[0], 1),
        "processor_minutes": round(minutes[1], 1),
        "device": f"CPU, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "texts": of_all,
    }
    _write("adapters", weights, made, folder)
    return made


def _command(name: str, steps: int, seed: int = 0, compiled: bool = False) -> str:
    options = f" --steps {steps}" * (steps != STEPS[name]) + f" --seed {seed}" * (seed != 0) + " --compiled" * compiled
    return f"python -m lecture_lib.pretrained {name}{options}"


@torch.no_grad()
def _shares(model: LIMoE, pairs) -> list:
    found = model(pairs.images, pairs.captions)
    return [[[round(v, 4) for v in row] for row in modality_share(c, found.is_text).tolist()] for c in found.choices]


def _write(name: str, weights: dict, made: dict, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / f"{name}.safetensors")
    text = json.dumps(made, indent=2)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda row: " ".join(row[0].split()), text)  # a row of numbers is one line
    (folder / f"{name}.json").write_text(text + "\n", "utf-8")


def _optimizers(model: nn.Module, matrices: list[Tensor], lr: float) -> list[torch.optim.Optimizer]:
    of_muon = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in of_muon]
    return [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=lr / 2, betas=(0.9, 0.95), weight_decay=0.0),
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m lecture_lib.pretrained", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--steps", type=int, help="6000 for language_model, 300 for limoe, 120 for adapters")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compiled", action="store_true", help="faster, where there is a C++ compiler")
    options = parser.parse_args()
    made = pretrain(options.name, steps=options.steps, seed=options.seed, compiled=options.compiled)
    print(json.dumps(made, indent=2))
