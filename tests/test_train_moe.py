"""The example survives: processes are killed in the middle of a step and of a save, checkpoints move between worlds.

Run as a program, this file is what the tests start: `kill` is the example with a process that kills itself, `straight`
the example in several worlds, one after the other, `after` goes on with what was killed, and hangs.
"""

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import traceback
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

ROOT = Path(__file__).parent.parent
TINY = "--d-model 16 --layers 1 --experts 4 --batch 3 --context 16 --steps 6 --every 2 --keep 2 --print 1".split()
TINY += ["--timeout", "300"]  # however busy the machine
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")


def example():
    sys.path.insert(0, str(ROOT / "examples"))
    import train_moe

    torch.set_num_threads(1)
    return train_moe


def die(*args, **kwargs):
    print("killed", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def kill(*args):
    """The example, in which at the first start rank 1 dies in a step, then rank 1 in a save, then rank 0 at its end."""
    train_moe = example()
    start, rank = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), int(os.environ["RANK"])
    if (start, rank) == (0, 1):
        exchange, calls = dist.all_to_all_single, []

        def counted(*args, **kwargs):
            calls.append(1)
            return die() if len(calls) == 14 else exchange(*args, **kwargs)  # 5 a step: step 3, first of its backward

        dist.all_to_all_single = counted
    elif (start, rank) == (1, 1):
        os.fsync = die  # the file is written, nobody knows of it
    elif (start, rank) == (2, 0):
        os.rename = die  # all is written, under the other name
    train_moe.main(list(args))


def process(rank, world, name, folder, args):
    """One process of a world: the example, its output and what it raised in files."""
    with open(folder / f"{name}-{rank}.txt", "w", encoding="utf-8", buffering=1) as sys.stdout:
        os.environ["RANK"] = str(rank)
        train_moe = example()
        warnings.simplefilter("error")
        if name == "stopped" and rank == 1:
            step = torch.optim.AdamW.step
            torch.optim.AdamW.step = lambda *args: (os.kill(os.getpid(), signal.SIGSTOP), step(*args))[1]
        store = dist.FileStore(str(folder / f"{name}.store"), world)
        dist.init_process_group = partial(dist.init_process_group, store=store, rank=rank, world_size=world)
        if name == "folders" and rank == 1:
            args = [*args, "--folder", str(folder / "a folder of its own")]
        exchange, sent_bytes = dist.all_to_all_single, []

        def counted(arrived, rows, got=None, sent=None, **kwargs):
            sent_bytes.append(0 if sent is None else (sum(sent) - sent[rank]) * rows.shape[-1] * rows.element_size())
            return exchange(arrived, rows, got, sent, **kwargs)

        dist.all_to_all_single = counted
        try:
            train_moe.main([str(arg) for arg in args])
            print(sum(sent_bytes), "bytes sent")
        except (ValueError, RuntimeError):
            print(traceback.format_exc())


def run(folder, name, world, run_folder, *args):
    """The example in a world of its own. With everything imported, a fork is a process for nothing."""
    example()
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    args = [*TINY, "--folder", folder / run_folder, *args]
    processes = [context.Process(target=process, args=(rank, world, name, folder, args)) for rank in range(world)]
    for each in processes:
        each.start()
    processes[0].join()
    if name == "stopped":
        processes[1].kill()
    for each in processes:
        each.join()


def straight(folder):
    run(folder, "straight", 2, "straight")
    for world in ("one", "four"):
        shutil.copytree(folder / "straight" / "step-00000004", folder / world / "step-00000004")
    run(folder, "one", 1, "one")
    run(folder, "four", 4, "four")
    run(folder, "three", 3, "straight")
    run(folder, "settings", 2, "straight", "--lr", 0.5)
    run(folder, "folders", 2, "straight")


def after(folder):
    run(folder, "killed", 2, "killed")  # goes on with what `kill` left
    run(folder, "stopped", 2, "stopped", "--timeout", 10)


def start(*command):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, command)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with the results of all runs that nobody kills."""
    folder = tmp_path_factory.mktemp("runs")
    done = start(__file__, "straight", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def killed(runs):
    """How the run of `kill` ended, and what it left; the folder of all runs then has those of `after` too."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"]
    ended = start(*launch, __file__, "kill", *TINY, "--folder", runs / "killed")
    left = sorted(path.name for path in (runs / "killed").iterdir())
    done = start(__file__, "after", runs)
    assert done.returncode == 0, done.stderr
    return ended, left


def output(runs, name, rank=0):
    return (runs / f"{name}-{rank}.txt").read_text("utf-8")


def losses(text):
    return [float(number) for number in re.findall(r"step \d+: ([\d.]+) bits per byte", text)]


def contents(path, tmp_path):
    """All that a checkpoint holds, by name."""
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    file = tmp_path / "whole.pt"
    dcp_to_torch_save(path, file)

    def flat(value, name=""):
        if isinstance(value, dict):
            return {key: leaf for part in value for key, leaf in flat(value[part], f"{name}/{part}").items()}
        return {name: value}

    return flat(torch.load(file, weights_only=False))


@pytest.mark.again
def test_a_killed_run_goes_on_from_the_last_whole_checkpoint(runs, killed):
    """Killed in a step, in the middle of a save, before the end of one: each time step 2 is what was whole."""
    ended, left = killed
    assert re.findall(r"from step \d+|killed", ended.stdout) == [
        "from step 0",
        "killed",
        *["from step 2", "killed"] * 2,
    ]
    assert left == ["step-00000002", "step-00000004.part"]
    assert "from step 2" in output(runs, "killed")
    assert sorted(path.name for path in (runs / "killed").iterdir()) == ["step-00000004", "step-00000006"]


@pytest.mark.again
def test_a_dead_process_ends_the_run_with_an_error(killed):
    ended, _ = killed
    assert ended.returncode != 0 and "Signal 9 (SIGKILL)" in ended.stderr


@pytest.mark.again
def test_a_process_that_hangs_ends_the_run_after_the_timeout(runs, killed):
    assert re.search(r"RuntimeError: .*[Tt]imed out waiting 10000ms", output(runs, "stopped"))


@pytest.mark.again
def test_killed_and_resumed_is_bit_for_bit_the_run_without_a_stop(runs, killed, tmp_path):
    found, wanted = (contents(runs / name / "step-00000006", tmp_path) for name in ("killed", "straight"))
    assert found.keys() == wanted.keys()
    assert sum("exp_avg" in name for name in found) > 20 and sum(name.startswith("/model") for name in found) > 10
    for name, value in wanted.items():
        assert torch.equal(found[name], value) if isinstance(value, torch.Tensor) else found[name] == value, name
    assert losses(output(runs, "killed")) == losses(output(runs, "straight"))[2:]


@pytest.mark.parametrize("world", ["one", "four"])
def test_resumed_on_another_number_of_processes_is_the_same_up_to_rounding(runs, tmp_path, world):
    found, wanted = (contents(runs / name / "step-00000006", tmp_path) for name in (world, "straight"))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(
                found[name], value, rtol=1e-3, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
            )
    assert losses(output(runs, world)) == pytest.approx(losses(output(runs, "straight"))[4:], abs=2e-3)


def test_all_but_the_last_checkpoints_are_deleted(runs):
    assert sorted(path.name for path in (runs / "straight").iterdir()) == ["step-00000004", "step-00000006"]


def test_the_bytes_exchanged_are_those_that_were_sent(runs):
    sent = sum(int(re.search(r"(\d+) bytes sent", output(runs, "straight", rank)).group(1)) for rank in range(2))
    said = re.search(r"([\d.]+) MB exchanged", output(runs, "straight")).group(1)
    assert sent and float(said) == pytest.approx(sent / 6 / 1e6, rel=0.005)


@pytest.mark.parametrize(
    ("name", "world", "message"),
    [
        ("three", 3, "the number of ranks must divide the number of experts, 4, got 3"),
        ("settings", 2, "--lr must be 0.003, as for .*step-00000006, got 0.5"),
        ("folders", 2, "--folder must be one that all processes see"),
    ],
)
def test_what_cannot_go_on_says_so_on_every_rank(runs, name, world, message):
    for rank in range(world):
        assert re.search(f"ValueError: {message}", output(runs, name, rank)), rank


if __name__ == "__main__":
    job, *args = sys.argv[1:]
    kill(*args) if job == "kill" else {"straight": straight, "after": after}[job](Path(*args))
