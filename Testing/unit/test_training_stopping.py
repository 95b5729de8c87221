"""Training that is stopped by signals, at whatever moment: a checkpoint in time, and the same result after resuming."""

import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import IPv2Lib
import psutil
import pytest
import torch
from IPv2Lib.cli.commands import main
from IPv2Lib.errors import InputError, OutputError
from IPv2Lib.io import atomic
from IPv2Lib.io.locks import lock_files, owned
from IPv2Lib.training import batches, run_folder
from IPv2Lib.training.batches import items
from IPv2Lib.training.loop import train
from IPv2Lib.training.run_folder import read_run
from IPv2Lib.training.settings import TrainingSettings
from samples import simulated_dataset

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

LIBRARY = str(Path(IPv2Lib.__file__).parents[1])
ENVIRONMENT = {**os.environ, "PYTHONPATH": LIBRARY, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
# With buffers that every step changes before it is whole.
OPTIONS = (
    "--network", "dncnn", "--argument", "filters=4", "--argument", "depth=3", "--batch", "2", "--patch", "24",
    "--steps", "24", "--validate-every", "8",
)  # fmt: skip
STUCK = """
import ctypes, os, sys
from pathlib import Path
from IPv2Lib.training import learner as training_learner, validation as training_validation

def stuck():
    # In a call that no signal interrupts and no handler is run in, as PyTorch's are.
    Path("stuck").touch()
    mutex, lock = ctypes.create_string_buffer(128), ctypes.CDLL(None).pthread_mutex_lock
    lock(mutex), lock(mutex)

def at(of, name, where):
    real = getattr(of, name)
    def function(self, *arguments):
        result = real(self, *arguments)
        if where(self):
            stuck()
        return result
    setattr(of, name, function)

if os.environ["STUCK"] == "reading":
    from IPv2Lib.training import loop
    loop.open_source = lambda *arguments: stuck()
elif os.environ["STUCK"] == "step":
    at(training_learner.Learner, "_find_gradients", lambda learner: learner.step == 10)
else:
    calls = []
    at(training_validation.Validation, "score", lambda validation: calls.append(1) or len(calls) == 2)
from IPv2Lib.cli.commands import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    cases = [{"split": split, "dose": 0.005} for split in ("train", "validation")]
    return simulated_dataset(tmp_path_factory.mktemp("data"), *cases)


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    finish(folder, dataset, *OPTIONS)
    return folder / "run"


@pytest.fixture
def start(tmp_path):
    """Start `ipv2 train` in a group of its own, as a shell, Slurm and systemd do."""
    started = []
    (tmp_path / "tmp").mkdir()

    def start(dataset, *options, stuck="", script=STUCK) -> subprocess.Popen:
        program = ["-c", script] if stuck else ["-m", "IPv2Lib"]
        process = subprocess.Popen(
            [sys.executable, *program, "train", str(dataset), "--out", "run", "--json", *OPTIONS, *options],
            cwd=tmp_path, env={**ENVIRONMENT, "STUCK": stuck, "TMPDIR": str(tmp_path / "tmp")}, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)


def finish(folder: Path, *arguments) -> None:
    """Let `ipv2 train` go on to its end, with as many threads as those that are stopped: sums depend on that."""
    line = [sys.executable, "-m", "IPv2Lib", "train", *map(str, arguments), "--out", "run", "--workers", "0"]
    done = subprocess.run(line, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def wait_for(process: subprocess.Popen, condition) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def same(one: Path, other: Path) -> bool:
    first, second = (torch.load(run / "checkpoint.pt", weights_only=True) for run in (one, other))
    return (
        all(
            torch.equal(value, second[name][key])
            for name in ("network", "average")
            for key, value in first[name].items()
        )
        and (one / "best.safetensors").read_bytes() == (other / "best.safetensors").read_bytes()
    )


def table(run: Path, name: str) -> list[list[str]]:
    """Rows without what the clock says."""
    rows = [line.split(",") for line in (run / name).read_text().splitlines()]
    timed = [index for index, title in enumerate(rows[0]) if title in ("seconds", "waiting")]
    return [[cell for index, cell in enumerate(row) if index not in timed] for row in rows]


def test_a_long_path_for_temporary_files_is_no_reason_to_wait_for_ever(dataset, whole, tmp_path):
    """Sockets, through which workers hand over their memory, have short paths only."""
    temporary = tmp_path / ("long" * 30)
    temporary.mkdir()
    line = [sys.executable, "-m", "IPv2Lib", "train", str(dataset), "--out", "run", *OPTIONS, "--workers", "1"]
    environment = ENVIRONMENT | {"TMPDIR": str(temporary)}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert same(tmp_path / "run", whole)


def test_no_place_for_sockets_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(batches, "_SHORT_PLACES", ())
    monkeypatch.setattr(batches.tempfile, "tempdir", str(tmp_path / ("long" * 30)))
    with pytest.raises(
        InputError, match=r"too long for the sockets of workers: set TMPDIR to a folder with 70 at most"
    ):
        next(items([], 0, 1, 1))


@pytest.mark.parametrize(
    "stuck, number, group, done",
    [("step", "SIGTERM", True, 10), ("step", "SIGINT", False, 10), ("validation", "SIGHUP", True, 16)],
)
def test_what_takes_too_long_is_not_waited_for(dataset, whole, start, tmp_path, stuck, number, group, done):
    process = start(dataset, stuck=stuck)
    wait_for(process, (tmp_path / "stuck").exists)
    children = psutil.Process(process.pid).children(recursive=True)
    began = time.monotonic()
    (os.killpg if group else os.kill)(process.pid, getattr(signal, number))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and time.monotonic() - began < 10, err
    last = json.loads(out.splitlines()[-1])
    assert last["event"] == "stopped" and f"paused at step {done}" in last["message"]
    assert err == f"ipv2 train: {last['message']}\n"
    state = read_run(tmp_path / "run")
    assert (state.state, state.step) == ("paused", done)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == done
    assert not psutil.wait_procs(children, 10)[1] and not [*tmp_path.glob("tmp/pymp-*"), *tmp_path.glob("tmp/.ipv2-*")]
    assert not lock_files(tmp_path / "run")[0].exists()
    finish(tmp_path, "--resume")
    assert same(whole, tmp_path / "run")
    for name in ("log.csv", "validation.csv"):
        assert table(whole, name) == table(tmp_path / "run", name)


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
def test_the_whole_group_is_asked_to_stop(dataset, start, tmp_path, number):
    process = start(dataset, "--steps", "100000", "--workers", "2")
    wait_for(process, lambda: (run_folder.read_json(tmp_path / "run" / "status.json") or {}).get("step", 0) > 5)
    children = psutil.Process(process.pid).children(recursive=True)
    for _ in range(2):  # as `timeout` and `torchrun` do
        os.killpg(process.pid, getattr(signal, number))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "paused at step" in err and "bug" not in err, err
    state = read_run(tmp_path / "run")
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == state.step > 5
    assert not psutil.wait_procs(children, 10)[1] and not [*tmp_path.glob("tmp/pymp-*"), *tmp_path.glob("tmp/.ipv2-*")]


def test_a_second_signal_ends_it_at_once(dataset, start, tmp_path):
    process = start(dataset, stuck="step")
    wait_for(process, (tmp_path / "stuck").exists)
    process.send_signal(signal.SIGINT)
    time.sleep(1.1)  # less is an echo of the first
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and time.monotonic() - began < 3.5
    assert err == "ipv2 train: stopped at once; what was saved before stays\n"


def test_a_signal_before_the_first_step_stops_at_once(dataset, start, tmp_path):
    """Reading scans takes long, and there is nothing to save."""
    process = start(dataset, stuck="reading")
    wait_for(process, (tmp_path / "stuck").exists)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and time.monotonic() - began < 5 and err.startswith("ipv2 train: stopped")
    assert not (tmp_path / "run" / "settings.json").exists()
    finish(tmp_path, dataset, *OPTIONS)


class Numbers:
    """A data set whose items never end."""

    def __getitem__(self, index: int) -> int:
        if index:
            time.sleep(600)
        return index


def test_processes_that_make_batches_end_whatever_they_do():
    made = items(Numbers(), 0, 2, 1)
    assert next(made) == 0
    workers = [psutil.Process(child.pid) for child in multiprocessing.active_children()]
    assert len(workers) >= 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # not theirs to obey
        for worker in workers:
            worker.send_signal(number)
    assert not psutil.wait_procs(workers, 0.3)[0]
    began = time.monotonic()
    made.close()
    assert time.monotonic() - began < 4 and not psutil.wait_procs(workers, 1)[1]


def test_one_training_at_a_time(dataset, start, tmp_path):
    settings = TrainingSettings(arguments={"channels": [4], "blocks": [1]}, steps=1, batch=2, patch=24)
    with owned(tmp_path / "run", "train"):
        for resume in (False, True):
            with pytest.raises(InputError, match=f"in use by 'ipv2 train', process {os.getpid()}"):
                if resume:
                    (tmp_path / "run").mkdir()
                    run_folder.write_json(tmp_path / "run" / "settings.json", {"ranges": {}})
                train(dataset, tmp_path / "run", settings, resume=resume)
    (tmp_path / "run" / "settings.json").unlink()
    train(dataset, tmp_path / "run", settings, workers=0)
    assert not lock_files(tmp_path / "run")[0].exists()


@pytest.mark.parametrize("place", ["data.json", "settings.json"])
def test_a_start_that_was_cut_in_its_middle_can_be_done_again(dataset, tmp_path, monkeypatch, place):
    """By a full disk here; a kill leaves the same, and what was half written."""
    real = atomic.new_file

    def full(path, *options):
        if path.name == place:
            raise OutputError(f"{path} cannot be written (No space left on device)")
        return real(path, *options)

    arguments = ["train", str(dataset), "--out", str(tmp_path / "run"), "--workers", "0", *OPTIONS, "--steps", "1"]
    monkeypatch.setattr(atomic, "new_file", full)
    assert main(arguments) == 2
    monkeypatch.undo()
    (tmp_path / "run").mkdir(exist_ok=True)
    left = tmp_path / "run" / f"{atomic.PREFIX}{platform.node()}~{2**22 + 1}~~abc"
    left.mkdir()
    (left / "settings.json").write_text("{")
    assert main(arguments) == 0
    assert not list((tmp_path / "run").glob(".*")) and read_run(tmp_path / "run").state == "completed"


def test_what_is_not_of_a_run_is_no_start_of_one(dataset, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "data.json").write_text("{}")
    (tmp_path / "run" / "mine.txt").write_text("mine")
    assert main(["train", str(dataset), "--out", str(tmp_path / "run"), *OPTIONS]) == 2
