"""Where jobs keep their files, whatever user, folder and scan are called, and that they go away at once when told."""

import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume, same_grid
from IPv2SlicerLib.jobs import processes
from IPv2SlicerLib.jobs.job_runner import JobRunner, JobState, Task
from IPv2SlicerLib.jobs.logs import LOGS_KEPT

posix = pytest.mark.skipif(os.name != "posix", reason="scripts and signals of POSIX")

FOLDERS = ["plain", "of O'Neill, 100%", 'with "quotes"', "tëmporär 日本語 🫁", "two\nlines", "[a-c]*", "$HOME;~"]


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "temporary"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return folder


@pytest.fixture
def runner(temporary, tmp_path):
    runner = JobRunner(temporary_folder=temporary, log_folder=tmp_path / "logs")
    yield runner
    runner.close()
    assert left(temporary) == []


def left(temporary: Path) -> list[Path]:
    return list(temporary.glob("ipv2-job-*")) if temporary.exists() else []


def models(title: str = "Models", prepare=lambda folder: ["models"], results: list | None = None) -> Task:
    finish = (lambda _: None) if results is None else results.append
    return Task(title, prepare, lambda folder, result: result["default"], finish)


def poll_until(runner: JobRunner, condition, timeout: float = 60.0) -> None:
    """Poll every few milliseconds; the timeout is for a job that hangs."""
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, f"{runner.state}: {runner.message}"
        runner.poll()
        time.sleep(0.005)


@pytest.fixture
def script(tmp_path):
    """Make an executable that stands in for Python."""

    def make(*lines: str) -> Path:
        path = tmp_path / f"python{len(list(tmp_path.glob('python*')))}"
        path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def arguments_of(temporary, tmp_path, script):
    """What a worker gets as its arguments and as its working directory."""
    recorded = tmp_path / "recorded"
    python = script(f'printf "%s\\0" "$PWD" "$@" > "{recorded}"')

    def get(task: Task, folder: Path) -> tuple[Path, list[str]]:
        runner = JobRunner(python=python, temporary_folder=folder, log_folder=tmp_path / "logs")
        runner.start(task)
        runner.wait(30)
        place, *arguments = recorded.read_bytes().decode().split("\0")[:-1]
        assert arguments[:2] == ["-m", "IPv2Lib"] and arguments[-1] == "--json"
        return Path(place), arguments[2:-1]

    return get


@pytest.fixture
def volume() -> Volume:
    return Volume(np.random.default_rng(0).normal(-500, 200, (2, 16, 16)).astype(np.int16))


# --- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FOLDERS)
def test_a_job_works_in_a_folder_of_any_name(runner, temporary, volume, name):
    results = []
    runner.temporary_folder = temporary / name

    def prepare(folder: Path) -> list:
        assert folder.parent == temporary / name
        assert same_grid(files.read(files.write(volume, folder / "in.nrrd")), volume)
        return ["models"]

    runner.start(models(prepare=prepare, results=results))
    assert runner.wait(60) is JobState.COMPLETED, runner.error
    assert results == ["ipv2-fast"]
    assert left(temporary / name) == []


@posix
@pytest.mark.parametrize("name", FOLDERS)
def test_files_of_a_job_go_to_the_worker_by_plain_names_and_those_of_the_user_as_they_are(
    arguments_of, tmp_path, volume, name
):
    user = tmp_path / "home" / name
    user.mkdir(parents=True)

    def prepare(folder: Path) -> list:
        return [
            "denoise",
            files.write(volume, folder / "in.nrrd"),
            user / "out.nrrd",
            "--model",
            folder / "deep" / "model",
        ]

    place, arguments = arguments_of(models(prepare=prepare), user / "temporary")
    assert place.parent == user / "temporary"
    assert arguments == ["denoise", "in.nrrd", str(user / "out.nrrd"), "--model", "deep/model"]


NAMES = ["a/b\\c: d?", "x" * 300, "🫁 肺" * 50, "..", "%s {title} $(id)", "not \udcff text", "two\nlines", "", "\0"]


@pytest.mark.parametrize("title", NAMES)
def test_a_scan_may_have_any_name(runner, title):
    results = []
    runner.start(models(title, results=results))
    assert runner.wait(60) is JobState.COMPLETED, runner.error
    assert results == ["ipv2-fast"]
    assert runner.log_path.name.isascii() and len(runner.log_path.name) < 100
    assert runner.log_path.parent == runner.log_folder
    assert runner.log_path.read_text(encoding="utf-8").startswith(title.encode(errors="backslashreplace").decode())


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
        {"PYTHONPATH": "another Python"},
        {"PYTHONSAFEPATH": "1", "PYTHONOPTIMIZE": "1", "PYTHONNOUSERSITE": "1"},
    ],
    ids=["no language", "another Python's packages", "strict"],
)
def test_the_users_environment_changes_nothing(runner, tmp_path, environment):
    other = tmp_path / "another Python" / "IPv2Lib"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise SystemExit")
    environment = {name: value.replace("another", f"{tmp_path}/another") for name, value in environment.items()}
    runner.environment = {**os.environ, **environment}
    missing = tmp_path / "nö scän 日本.nrrd"
    runner.start(models(prepare=lambda folder: ["denoise", missing, folder / "out.nrrd"]))
    assert runner.wait(60) is JobState.FAILED
    assert runner.error.startswith(f"{missing} does not exist")
    assert runner.error in runner.log_path.read_text(encoding="utf-8")


# --- places that are not there ----------------------------------------------------------------------------------


def failure(runner: JobRunner) -> str:
    assert runner.wait(60) is JobState.FAILED
    assert "\n" not in runner.error and "nothing was changed" in runner.error
    return runner.error


def test_a_temporary_folder_that_vanished_is_made_again(runner, temporary):
    for _ in range(2):
        runner.start(models())
        assert runner.wait(60) is JobState.COMPLETED, runner.error
        shutil.rmtree(temporary)


@pytest.mark.parametrize("what", ["temporary_folder", "log_folder"])
def test_a_place_that_cannot_be_written_to_is_named(runner, tmp_path, what):
    (tmp_path / "file").write_text("")
    setattr(runner, what, tmp_path / "file" / "folder")
    runner.start(models())
    error = failure(runner)
    assert str(tmp_path / "file") in error and "writable" in error
    setattr(runner, what, tmp_path / "another")
    runner.start(models())
    assert runner.wait(60) is JobState.COMPLETED


def test_a_system_without_a_temporary_folder(monkeypatch):
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    runner = JobRunner()
    runner.start(models())
    assert "No usable temporary directory" in failure(runner)


def test_a_folder_that_vanishes_while_inputs_are_written(runner, temporary, volume):
    def prepare(folder: Path) -> list:
        shutil.rmtree(temporary)
        return ["denoise", files.write(volume, folder / "in.nrrd"), folder / "out.nrrd"]

    runner.start(models(prepare=prepare))
    failure(runner)


def test_a_folder_that_vanishes_before_the_worker_starts(runner, temporary):
    runner.start(models(prepare=lambda folder: shutil.rmtree(temporary) or ["models"]))
    assert "could not be started" in failure(runner)


def test_a_folder_that_vanishes_before_results_are_read(runner, temporary):
    def collect(folder: Path, result: dict) -> Volume:
        shutil.rmtree(temporary)
        return files.read(folder / "out.nrrd")

    runner.start(Task("Models", lambda folder: ["models"], collect, lambda _: None))
    assert "could not be read" in failure(runner)


# --- two at a time ----------------------------------------------------------------------------------------------


def test_two_runners_share_a_temporary_folder(runner, temporary, tmp_path):
    other = JobRunner(temporary_folder=temporary, log_folder=tmp_path / "logs")
    results = []
    for each in (runner, other):
        each.start(models(results=results))
    while runner.poll().active or other.poll().active:
        time.sleep(0.005)
    assert (runner.state, other.state) == (JobState.COMPLETED, JobState.COMPLETED)
    assert results == ["ipv2-fast"] * 2 and runner.log_path != other.log_path


@posix
def test_the_log_of_a_long_job_is_not_pushed_out_by_later_ones(runner, temporary, tmp_path, script):
    runner.python = script("""while :; do echo '{"event": "alive"}'; sleep 0.01; done""")
    runner.start(models("Train for a week"))
    poll_until(runner, lambda: runner.state is JobState.RUNNING)
    other = JobRunner(python=tmp_path / "none", temporary_folder=temporary, log_folder=tmp_path / "logs")
    for _ in range(LOGS_KEPT + 5):
        spoken = runner.log_path.stat().st_mtime_ns
        other.start(models())
        other.wait(30)
        poll_until(runner, lambda: runner.log_path.stat().st_mtime_ns > spoken)  # noqa: B023 (called at once)
    assert runner.log_path.exists()
    assert len(list((tmp_path / "logs").iterdir())) == LOGS_KEPT


# --- going away -------------------------------------------------------------------------------------------------


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    """Seconds that the test's own thread slept."""
    found: list[float] = []
    sleep, thread = time.sleep, threading.get_ident()

    def counted(seconds: float) -> None:
        if threading.get_ident() == thread:
            found.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", counted)
    return found


@posix
def test_a_worker_that_ignores_being_asked_is_gone_when_close_returns(runner, script, slept):
    runner.python = script("trap '' TERM HUP INT", "while :; do sleep 0.05; done")
    others = set(psutil.Process().children())  # that earlier tests have left, Python's resource tracker for one
    runner.start(models())
    poll_until(runner, lambda: set(psutil.Process().children()) - others)
    (worker,) = set(psutil.Process().children()) - others
    slept.clear()
    runner.close()
    assert runner.state is JobState.CANCELLED
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    assert sum(slept) < 1.5


@posix
def test_a_worker_that_nothing_can_end_does_not_hold_up_close(runner, temporary, script, slept, monkeypatch):
    runner.python = script("exec sleep 600")
    others = set(psutil.Process().children())  # that earlier tests have left, Python's resource tracker for one
    runner.start(models())
    poll_until(runner, lambda: set(psutil.Process().children()) - others)
    (worker,) = set(psutil.Process().children()) - others
    with monkeypatch.context() as patch:  # as if it hung in the system
        for owner, name in ((psutil.Process, "terminate"), (psutil.Process, "kill"), (processes.os, "killpg")):
            patch.setattr(owner, name, lambda *_: None)
        slept.clear()
        runner.close()
    assert worker.is_running() and runner.state is JobState.CANCELLED
    assert sum(slept) < 1.5
    assert left(temporary) == []
    worker.kill()
    worker.wait(10)
    runner.start(models(prepare=lambda folder: ["models"]))
    runner.close()


@pytest.mark.parametrize("slow", ["prepare", "collect"])
def test_a_file_that_takes_its_time_does_not_hold_up_close(runner, temporary, slow):
    going, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def dawdle(folder: Path, *_) -> list[str]:
        going.set()
        go_on.wait(60)
        folder.mkdir(exist_ok=True)
        (folder / "late").write_text("")
        over.set()
        return ["models"]

    steps = {"prepare": lambda folder: ["models"], "collect": lambda *_: 1} | {slow: dawdle}
    results = []
    runner.start(Task("Slow", **steps, finish=results.append))
    poll_until(runner, going.is_set)
    runner.close()
    assert runner.state is JobState.CANCELLED and not go_on.is_set()
    assert left(temporary) == []
    go_on.set()
    assert over.wait(60)
    poll_until(runner, lambda: not left(temporary))
    assert results == []
