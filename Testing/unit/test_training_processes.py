"""Training as commands: several processes, killed in the middle, paused and stopped from outside, on a bare machine."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import IPv2Lib
import numpy as np
import pytest
from IPv2Lib.models import bundle
from IPv2Lib.training.run_folder import read_run, request
from safetensors.numpy import load_file
from samples import simulated_dataset

LIBRARY = Path(IPv2Lib.__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(LIBRARY), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
SMALL = ("--batch", "4", "--patch", "24", "--lr", "0.003", "--argument", "channels=[8,8]", "--argument", "blocks=[1,1]")
OPTIONS = (*SMALL, "--steps", "60", "--validate-every", "20", "--checkpoint-minutes", "0.0001")
GRADIENTS = """
import sys, torch
sys.path.insert(0, {library!r})
from IPv2Lib.training.distributed import FirstProcessFailed, joined, of_environment
from IPv2Lib.errors import InputError
from IPv2Lib.training.losses import LOSSES, training_loss

def gradient(module, network, part, total, options):
    network.zero_grad()
    loss = training_loss(module(noisy[part]), target[part], noisy[part], **options, total=total)
    loss.backward()
    return loss.detach(), torch.cat([weight.grad.flatten() for weight in network.parameters()]).clone()

torch.manual_seed(0)
network = torch.nn.Conv2d(1, 1, 3, padding=1)
target = torch.randn(4, 1, 40, 40).cumsum(3) / 10
noisy = target + 0.1 * torch.randn_like(target) * torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1, 1)
here = of_environment()
with joined(here):
    shared = torch.nn.parallel.DistributedDataParallel(network)
    for options in [*({{"loss": loss}} for loss in LOSSES), {{"variance_weight": 2.5, "bias_weight": 4.0}}]:
        parts = slice(here.rank, None, 2)
        loss, found = gradient(shared, network, parts, here.total, options)
        alone, expected = gradient(network, network, slice(None), lambda part: part, options)
        assert torch.allclose(loss, alone, rtol=1e-5), (options, loss, alone)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6), (options, found / expected)
    assert here.highest(here.rank, -here.rank) == [1, 0]
    def fail():
        raise InputError("no")
    try:
        here.first(fail)
        raise AssertionError("nothing was raised")
    except (InputError, FirstProcessFailed) as error:
        assert isinstance(error, FirstProcessFailed) == (here.rank == 1)
    del shared
"""
BARE = """
import sys
for name in "scipy SimpleITK skimage pydicom psutil tqdm dask torchmetrics matplotlib slicer".split():
    sys.modules[name] = None  # cannot be imported
from IPv2Lib.cli.commands import main
train = ["train", "--out", "bare", *sys.argv[2:]]
assert main([*train, sys.argv[1], "--steps", "4"]) == 0
assert main(["train", "--out", "bare", "--resume"]) == 0
assert main(["publish", "bare", "--out", "bare-model", "--title", "Bare"]) == 0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    cases = [{"split": split, "dose": 0.005} for split in ("train", "validation")]
    return simulated_dataset(tmp_path_factory.mktemp("data"), *cases)


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory) -> Path:
    """A run that nothing happened to."""
    parent = tmp_path_factory.mktemp("runs")
    run(command("train", folder, "--out", "whole", *OPTIONS), parent)
    return parent / "whole"


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "IPv2Lib", *map(str, arguments)]


def run(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess:
    done = subprocess.run(arguments, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done


def run_two(arguments: list[str], cwd: Path) -> list[tuple[int, str]]:
    """Exit code and output of two processes that find each other as `torchrun` lets them, without its own one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    both = [
        subprocess.Popen(
            arguments, cwd=cwd, env={**ENVIRONMENT, **shared, "RANK": rank, "LOCAL_RANK": rank}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for rank in "01"
    ]  # fmt: skip
    outputs = [process.communicate(timeout=600)[0] for process in both]
    return [(process.returncode, output) for process, output in zip(both, outputs, strict=True)]


def weights_differ_by(first: Path, second: Path) -> float:
    one, two = (load_file(folder / "best.safetensors") for folder in (first, second))
    return max(float(np.abs(one[name] - two[name]).max()) for name in one)


def test_two_processes_find_the_gradient_of_one(tmp_path):
    script = tmp_path / "gradients.py"
    script.write_text(GRADIENTS.format(library=str(LIBRARY)))
    for code, output in run_two([sys.executable, str(script)], tmp_path):
        assert code == 0, output


def test_two_processes_train_as_one_and_the_first_one_speaks(folder, whole, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = run([*torchrun, *command("train", folder, "--out", "two", "--json", *OPTIONS)[1:]], tmp_path)
    events = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert events.count("result") == 1 and events[-1] == "result"
    one, two = read_run(whole), read_run(tmp_path / "two")
    np.testing.assert_allclose(two.log["loss"], one.log["loss"], rtol=1e-4)
    np.testing.assert_allclose(two.validation["rmse_hu"], one.validation["rmse_hu"], rtol=1e-3)
    assert weights_differ_by(whole, tmp_path / "two") < 2e-3
    (first, said), (second, silent) = run_two(command("train", folder, "--out", "two", *OPTIONS), tmp_path)
    assert (first, second) == (2, 2)
    assert "already holds a training run" in said and not silent


def test_killed_and_resumed_equals_uninterrupted(folder, whole, tmp_path):
    process = subprocess.Popen(
        command("train", folder, "--out", "killed", *OPTIONS), cwd=tmp_path, env=ENVIRONMENT, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(process, lambda: (tmp_path / "killed" / "checkpoint.pt").exists())
    process.kill()  # without a SIGTERM before, at which it may pause in order; its workers end with it
    process.wait()
    state = read_run(tmp_path / "killed")
    assert state.state == "paused" and state.can_resume and "without a word" in state.message
    run(command("train", "--out", "killed", "--resume"), tmp_path)
    assert weights_differ_by(whole, tmp_path / "killed") == 0
    one, other = read_run(whole), read_run(tmp_path / "killed")
    assert one.validation["rmse_hu"].tolist() == other.validation["rmse_hu"].tolist()
    assert (one.best_step, one.step) == (other.best_step, other.step)


def test_a_command_is_paused_and_stopped_from_outside(folder, tmp_path):
    train = ("train", "--out", "run", "--json")
    for word, start, code in (("pause", (folder, *SMALL, "--steps", 100_000), 130), ("stop", ("--resume",), 0)):
        process = subprocess.Popen(
            command(*train, *start), cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
        )
        wait_for(process, lambda: (tmp_path / "run" / "status.json").exists())
        wait_for(process, lambda: read_run(tmp_path / "run").state == "running")
        request(tmp_path / "run", word)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == code
        last = json.loads(out.splitlines()[-1])
        if word == "pause":
            assert last["event"] == "stopped" and "paused" in last["message"]
        else:
            assert (last["event"], last["state"]) == ("result", "stopped")
    assert read_run(tmp_path / "run").state == "stopped"


def test_training_needs_torch_numpy_and_safetensors_only(folder, tmp_path):
    run([sys.executable, "-c", BARE, str(folder), *SMALL], tmp_path)
    assert bundle.load(tmp_path / "bare-model").card.title == "Bare"


def wait_for(process: subprocess.Popen, condition) -> None:
    while not condition():
        assert process.poll() is None, "the command ended early"
        time.sleep(0.01)
