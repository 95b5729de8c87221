"""Jobs in real worker processes: progress, results, and every way in which they can go wrong."""

import gc
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from children import children
from IPv2Lib.errors import InputError
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume, same_grid
from IPv2Lib.simulation import phantom
from IPv2SlicerLib.jobs import job_runner
from IPv2SlicerLib.jobs.job_runner import JobRunner, JobState, Task
from IPv2SlicerLib.jobs.logs import default_log_folder
from IPv2SlicerLib.jobs.processes import end_process_tree

LIBRARY_PARENT = Path(job_runner.__file__).resolve().parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """The temporary folder of this process and of the workers, with a name that is not plain."""
    folder = tmp_path / "tëmporary földer"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return folder


@pytest.fixture
def runner(temporary, tmp_path):
    """A runner with a list of what it told; nothing of it is left afterwards."""
    told = []
    runner = JobRunner(log_folder=tmp_path / "lögs and more", on_change=lambda it: told.append(snapshot(it)))
    runner.told = told
    yield runner
    runner.close()
    assert leftovers(temporary) == []


@pytest.fixture(scope="module")
def chest() -> Volume:
    volume = phantom.chest(size=64, slices=3)
    return volume.with_array(np.rint(volume.array).astype(np.int16))


@pytest.fixture(scope="module")
def tall_chest(chest) -> Volume:
    """Takes some ten seconds to denoise."""
    return chest.with_array(np.repeat(chest.array, 1000, axis=0))


def snapshot(runner: JobRunner) -> dict:
    names = ("state", "fraction", "message", "remaining_seconds", "responding")
    return {name: getattr(runner, name) for name in names}


def leftovers(temporary: Path) -> list[Path]:
    return list(temporary.glob("ipv2-job-*"))


def workers() -> list[psutil.Process]:
    return children("IPv2Lib")


def poll_until(runner: JobRunner, condition, timeout: float = 60.0) -> None:
    """Poll every few milliseconds; the timeout is for a job that hangs."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout, f"{runner.state}: {runner.message}"
        runner.poll()
        time.sleep(0.005)


def denoising(volume: Volume, results: list) -> Task:
    """Denoise a volume; the result ends up in a list."""

    def prepare(folder: Path) -> list:
        return [
            "denoise",
            files.write(volume, folder / "in.nrrd", compress=False),
            folder / "out.nrrd",
            "--no-compress",
        ]

    def collect(folder: Path, result: dict) -> Volume:
        assert result["output"] == "out.nrrd"
        return files.read(folder / "out.nrrd")

    return Task("Denoise", prepare, collect, results.append)


def quick_task(results: list, prepare=lambda folder: ["models"]) -> Task:
    return Task("Models", prepare, lambda folder, result: result["default"], results.append)


def shadow(folder: Path, package: str, *lines: str) -> None:
    """Make a package that is found before the real one: the folder is the worker's working directory."""
    (folder / f"{package}.py").write_text("\n".join(lines))


def at_work(runner: JobRunner) -> bool:
    """Whether the worker has said what it does."""
    return runner.message.startswith(("loading", "reading", "denoising"))


def failed(runner: JobRunner) -> str:
    """Wait for the failure; return what the user reads, which names the log."""
    assert runner.wait(30) is JobState.FAILED
    assert runner.message == runner.error
    assert runner.error.endswith(f": nothing was changed; see {runner.log_path}")
    assert "\n" not in runner.error
    return runner.error


# --- a job that goes well -------------------------------------------------------------------------------------


def test_a_job_ends_with_its_result_and_complete_progress(runner, chest):
    results = []
    runner.start(denoising(chest, results))
    assert runner.state is JobState.STARTING
    assert runner.wait(60) is JobState.COMPLETED, runner.error
    (denoised,) = results
    assert same_grid(denoised, chest)
    assert not np.array_equal(denoised.array, chest.array)
    states = [told["state"] for told in runner.told]
    assert list(dict.fromkeys(states)) == [
        JobState.STARTING, JobState.RUNNING, JobState.IMPORTING, JobState.COMPLETED,
    ]  # fmt: skip
    fractions = [told["fraction"] for told in runner.told]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert len(set(fractions)) >= 5
    assert any("denoising slice" in told["message"] for told in runner.told)
    assert all(told["message"] for told in runner.told)
    assert runner.error == ""
    assert runner.result["provenance"]["model"] == "ipv2-fast"


def test_the_remaining_time_is_told(runner, chest):
    runner.start(denoising(chest.with_array(np.repeat(chest.array, 100, axis=0)), []))
    assert runner.wait(500) is JobState.COMPLETED, runner.error
    estimates = [told["remaining_seconds"] for told in runner.told if told["remaining_seconds"] is not None]
    assert estimates
    assert 0 <= estimates[-1] < max(estimates)
    assert runner.remaining_seconds is None


def test_notes_and_arguments_get_through(runner, temporary, monkeypatch):
    broken = temporary / "modèls" / "brøken"
    broken.mkdir(parents=True)
    (broken / "model.json").write_text("{}")
    monkeypatch.setenv("IPV2_MODELS", str(broken.parent))
    results = []
    runner.start(quick_task(results))
    assert runner.wait(30) is JobState.COMPLETED, runner.error
    assert results == ["ipv2-fast"]
    (note,) = runner.notes
    assert "brøken" in note
    assert note in runner.log_path.read_text(encoding="utf-8")


def test_the_private_folder_is_private_and_gone_before_anyone_is_told_of_the_end(runner, temporary):
    seen = []

    def prepare(folder: Path) -> list:
        seen.append(folder)
        assert folder.parent == temporary
        if os.name == "posix":
            assert folder.stat().st_mode & 0o077 == 0
        return ["models"]

    def told(it: JobRunner) -> None:
        if not it.state.active:
            seen.append(seen[0].exists())

    runner.on_change = told
    runner.start(quick_task([], prepare))
    assert runner.wait(30) is JobState.COMPLETED, runner.error
    assert seen[1:] == [False]


def test_wait_returns_after_its_timeout_and_ticks(runner, tall_chest):
    ticks = []
    runner.start(denoising(tall_chest, []))
    began = time.monotonic()
    assert runner.wait(0.3, lambda: ticks.append(1)).active
    assert time.monotonic() - began >= 0.3
    assert len(ticks) >= 3


def test_an_exception_while_waiting_ends_the_job(runner, tall_chest):
    def tick() -> None:
        if workers():
            raise KeyboardInterrupt

    runner.start(denoising(tall_chest, []))
    with pytest.raises(KeyboardInterrupt):
        runner.wait(tick=tick)
    assert runner.state is JobState.CANCELLED
    assert workers() == []


def test_a_second_start_is_refused_and_the_first_job_goes_on(runner):
    results = []
    runner.start(quick_task(results))
    with pytest.raises(InputError, match="'Models' is still running: wait"):
        runner.start(quick_task(results))
    assert runner.wait(30) is JobState.COMPLETED, runner.error
    assert len(results) == 1


def test_the_next_job_can_be_started_from_the_callback(runner):
    results = []

    def told(it: JobRunner) -> None:
        if it.state is JobState.COMPLETED and len(results) < 3:
            it.start(quick_task(results))

    runner.on_change = told
    runner.start(quick_task(results))
    poll_until(runner, lambda: len(results) == 3 and not runner.state.active)
    assert runner.state is JobState.COMPLETED


def test_polls_from_within_finish_change_nothing(runner):
    results = []

    def finish(value: str) -> None:
        runner.cancel()
        assert runner.poll() is JobState.IMPORTING
        results.append(value)

    runner.start(Task("Models", lambda folder: ["models"], lambda folder, result: result["default"], finish))
    assert runner.wait(30) is JobState.COMPLETED, runner.error
    assert len(results) == 1


def test_files_get_on_while_something_else_keeps_the_interpreter(runner):
    def prepare(folder: Path) -> list:
        for number in range(200):
            (folder / str(number)).write_text("something")  # lets go of the interpreter, and needs it back
        return ["models"]

    runner.start(quick_task([], prepare))
    polls = 0
    while runner.poll() is JobState.STARTING:  # as in Slicer, where Qt waits for events between two calls of a timer
        polls += 1
        sum(range(2_000_000))
    assert polls < 100  # one for each file, if it got its turn only between two of them
    assert runner.wait(500) is JobState.COMPLETED, runner.error


# --- errors ---------------------------------------------------------------------------------------------------


def test_what_the_command_says_about_bad_input_is_shown_as_it_is(runner, temporary):
    results = []
    path = temporary / "nö scan.nrrd"
    runner.start(Task("Bad", lambda folder: ["denoise", path, "out.nrrd"], lambda *_: 1, results.append))
    assert runner.wait(30) is JobState.FAILED
    assert runner.error.startswith(f"{path} does not exist")
    assert results == []
    assert runner.error in runner.log_path.read_text(encoding="utf-8")


def test_a_bug_of_the_command_is_told_with_the_log(runner):
    def prepare(folder: Path) -> list:
        shadow(folder, "numpy", "raise ValueError('surprise')")
        return ["evaluate", "a.nrrd", "b.nrrd"]

    runner.start(quick_task([], prepare))
    assert "ended unexpectedly (ValueError: surprise)" in failed(runner)
    assert "Traceback" in runner.log_path.read_text(encoding="utf-8")


@pytest.mark.parametrize("line", ["", "hello", "[1]", '{"fraction": 1}', '{"event": "new"}'])
def test_lines_that_are_no_events_are_left_out(runner, line):
    def prepare(folder: Path) -> list:
        raising = ("from IPv2Lib.errors import InputError", "raise InputError('a sentence')")
        shadow(folder, "numpy", f"print({line!r}, flush=True)", *raising)
        return ["evaluate", "a.nrrd", "b.nrrd"]

    runner.start(quick_task([], prepare))
    assert runner.wait(30) is JobState.FAILED
    assert runner.error == "a sentence"


def test_an_event_that_is_not_understood_ends_the_job(runner):
    def prepare(folder: Path) -> list:
        event = '{"event": "progress"}'
        shadow(folder, "numpy", f"print({event!r}, flush=True)", "import time", "time.sleep(9)")
        return ["evaluate", "a.nrrd", "b.nrrd"]

    runner.start(quick_task([], prepare))
    assert "the job went wrong (KeyError: 'message')" in failed(runner)
    assert workers() == []


@pytest.mark.parametrize("step", ["prepare", "collect", "finish"])
@pytest.mark.parametrize("error", [ValueError("first line\nsecond line"), InputError("a sentence")])
def test_an_exception_in_a_step_fails_the_job_with_a_traceback_in_the_log(runner, step, error):
    def broken(*_):
        raise error

    steps = {"prepare": lambda folder: ["models"], "collect": lambda *_: 1, "finish": lambda _: None} | {step: broken}
    runner.start(Task("Broken", **steps))
    assert ("(ValueError: first line)" if isinstance(error, ValueError) else "(a sentence)") in failed(runner)
    log = runner.log_path.read_text(encoding="utf-8")
    assert "Traceback" in log
    assert "in broken" in log


def test_arguments_that_are_none_fail_the_job(runner):
    runner.start(quick_task([], lambda folder: None))
    assert "could not be written (TypeError" in failed(runner)


def test_a_python_that_does_not_exist(runner, temporary):
    runner.python = temporary / "no python"
    runner.start(quick_task([]))
    assert "could not be started" in failed(runner)
    assert "no python" in runner.error


def test_a_python_that_is_none_is_told_by_its_exit_code(runner):
    runner.python = Path(sys.executable).resolve()
    runner.environment = {**os.environ, "PYTHONHOME": "/nowhere"}
    runner.start(quick_task([]))
    assert "exit code 1" in failed(runner)


def test_no_place_for_logs_or_files(runner, temporary, monkeypatch):
    (temporary / "file").write_text("")
    runner.log_folder = temporary / "file" / "logs"
    runner.start(quick_task([]))
    assert runner.state is JobState.FAILED
    assert "no place for temporary files or the log" in runner.error
    runner.log_folder = temporary / "logs"
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(temporary / "file"))
        runner.start(quick_task([]))
    assert runner.state is JobState.FAILED
    runner.start(quick_task([]))
    assert runner.wait(30) is JobState.COMPLETED


# --- workers that die, hang or must go ------------------------------------------------------------------------


@posix
def test_a_worker_killed_at_any_moment_changes_nothing(runner, temporary, chest, tall_chest):
    results = []
    moments = random.Random(0)
    for _ in range(6):
        runner.start(denoising(tall_chest, results))
        poll_until(runner, workers)
        moment = time.monotonic() + moments.uniform(0, 1.2)
        poll_until(runner, lambda: time.monotonic() > moment)  # noqa: B023 (called at once)
        (worker,) = workers()
        worker.kill()
        poll_until(runner, lambda: not runner.state.active)
        assert "the worker ended unexpectedly (killed by signal 9)" in failed(runner)
        assert runner.log_path.exists()
        assert leftovers(temporary) == []
    assert results == []
    runner.start(denoising(chest, results))
    assert runner.wait(60) is JobState.COMPLETED, runner.error
    assert len(results) == 1


@posix
def test_a_crash_in_native_code_is_in_the_log(runner, tall_chest):
    runner.start(denoising(tall_chest, []))
    poll_until(runner, lambda: at_work(runner))
    workers()[0].send_signal(signal.SIGSEGV)
    assert "killed by signal 11" in failed(runner)
    assert "Segmentation fault" in runner.log_path.read_text(encoding="utf-8")


@posix
def test_a_stuck_worker_is_noticed_and_can_be_cancelled(runner, tall_chest):
    runner.start(denoising(tall_chest, []))
    poll_until(runner, lambda: at_work(runner))
    (worker,) = workers()
    worker.suspend()
    poll_until(runner, lambda: not runner.responding)
    assert runner.seconds_silent > 2
    runner.poll()
    assert re.search(r"no answer from the worker for \d+ s", runner.message)
    assert runner.state is JobState.RUNNING
    worker.resume()
    poll_until(runner, lambda: runner.responding)
    worker.suspend()
    runner.cancel()
    poll_until(runner, lambda: not runner.state.active)
    assert runner.state is JobState.CANCELLED
    assert not worker.is_running()


@pytest.fixture
def launcher(temporary) -> Path:
    """A Python that starts something else beside, and waits for Python rather than becoming it, like Slicer's."""
    script = temporary / "launcher"
    script.write_text(f'#!/bin/sh\nsleep 600 &\nsleep 601 &\n"{sys.executable}" "$@"\n')
    script.chmod(0o755)
    return script


def family(names=("sleep", "IPv2Lib")) -> list[psutil.Process]:
    """All that was started by way of the launcher, children without a parent included."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ", "status"]):
        if process.pid == os.getpid() or process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        command = " ".join(process.info["cmdline"] or [])
        ours = (process.info["environ"] or {}).get("PYTEST_CURRENT_TEST") == os.environ["PYTEST_CURRENT_TEST"]
        if ours and any(name in command for name in names):
            found.append(process)
    return found


@posix
def test_cancel_ends_the_whole_tree(runner, launcher, tall_chest):
    results = []
    runner.python = launcher
    runner.start(denoising(tall_chest, results))
    poll_until(runner, lambda: at_work(runner))
    assert len(family()) == 4
    runner.cancel()  # does not wait
    assert runner.state is JobState.CANCELLING
    poll_until(runner, lambda: not runner.state.active)
    assert family() == []
    assert (runner.state, runner.message) == (JobState.CANCELLED, "cancelled; nothing was changed")
    assert results == []
    runner.cancel()
    assert runner.poll() is JobState.CANCELLED


@posix
def test_what_a_killed_worker_has_started_is_ended_too(runner, launcher, tall_chest):
    runner.python = launcher
    others = set(psutil.Process().children())  # that earlier tests have left, Python's resource tracker for one
    runner.start(denoising(tall_chest, []))
    poll_until(runner, lambda: at_work(runner))
    (process,) = set(psutil.Process().children()) - others
    process.kill()
    assert "killed by signal 9" in failed(runner)
    poll_until(runner, lambda: not family())


@pytest.mark.parametrize("slow", ["prepare", "collect"])
def test_cancel_while_files_are_written_or_read(runner, slow):
    results, going = [], []

    def dawdle(*_):
        going.append(1)
        time.sleep(0.3)
        return ["models"]

    steps = {"prepare": lambda folder: ["models"], "collect": lambda *_: 1} | {slow: dawdle}
    runner.start(Task("Slow", **steps, finish=results.append))
    poll_until(runner, lambda: going)
    runner.cancel()
    assert runner.state is JobState.CANCELLING
    assert runner.wait(5) is JobState.CANCELLED
    assert results == []
    assert workers() == []


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.5])
def test_close_while_running_leaves_nothing_and_the_runner_works_again(runner, temporary, tall_chest, moment):
    runner.start(denoising(tall_chest, []))
    runner.wait(moment)
    runner.close()
    assert runner.state is JobState.CANCELLED
    assert workers() == []
    assert leftovers(temporary) == []
    runner.close()
    results = []
    runner.start(quick_task(results))
    assert runner.wait(30) is JobState.COMPLETED, runner.error


def test_a_forgotten_runner_takes_its_job_along(temporary, tmp_path, tall_chest):
    runner = JobRunner(log_folder=tmp_path)
    runner.start(denoising(tall_chest, []))
    while not at_work(runner):
        runner.poll()
    del runner
    gc.collect()
    assert workers() == []
    assert leftovers(temporary) == []


# --- this process dies ----------------------------------------------------------------------------------------

APPLICATION = """
import sys, time
from pathlib import Path
from IPv2SlicerLib.jobs.job_runner import JobRunner, Task
runner = JobRunner(python=sys.argv[2], log_folder=Path(sys.argv[3]))
runner.start(Task("Denoise", lambda folder: ["denoise", sys.argv[1], "out.nrrd"], lambda *_: 1, print))
while not runner.message.startswith(("loading", "reading", "denoising")):
    runner.poll()
    time.sleep(0.01)
print("at work", flush=True)
time.sleep(600 if sys.argv[4] == "wait" else 0)
"""


def application(volume: Volume, python: Path, temporary: Path, then: str) -> subprocess.Popen:
    scan = files.write(volume, temporary / "in.nrrd", compress=False)
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY_PARENT)}
    arguments = [sys.executable, "-c", APPLICATION, scan, python, temporary / "logs", then]
    process = subprocess.Popen(list(map(str, arguments)), env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "at work\n"
    return process


@posix
@pytest.mark.parametrize("through_launcher", [False, True])
def test_a_worker_whose_application_is_killed_ends_and_cleans_up(temporary, tall_chest, launcher, through_launcher):
    process = application(tall_chest, launcher if through_launcher else Path(sys.executable), temporary, "wait")
    left = children("IPv2Lib", process.pid)
    assert left
    assert leftovers(temporary)
    process.kill()
    process.wait()
    process.stdout.close()
    gone, alive = psutil.wait_procs(left, timeout=5)
    assert (len(gone), alive) == (len(left), [])
    assert leftovers(temporary) == []
    (log,) = (temporary / "logs").iterdir()
    assert "the program that this worked for has ended" in log.read_text(encoding="utf-8")
    assert family() == []


def test_python_ending_in_the_usual_way_takes_the_job_along(temporary, tall_chest):
    process = application(tall_chest, Path(sys.executable), temporary, "leave")
    assert process.wait(10) == 0
    process.stdout.close()
    assert family(["IPv2Lib"]) == []
    assert leftovers(temporary) == []


def test_folders_of_dead_processes_are_removed_after_a_minute(runner, temporary):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ages = {f"ipv2-job-{dead.pid}-old": 100, f"ipv2-job-{dead.pid}-new": 10, f"ipv2-job-{os.getpid()}-mine": 100}
    for name, age in ages.items():
        (temporary / name).mkdir()
        os.utime(temporary / name, (time.time() - age,) * 2)
    runner.start(quick_task([]))
    assert runner.wait(30) is JobState.COMPLETED
    left = leftovers(temporary)
    assert {path.name for path in left} == set(list(ages)[1:])
    for path in left:
        path.rmdir()


# --- logs -----------------------------------------------------------------------------------------------------


def test_a_log_says_what_was_run_and_how_it_ended_and_twenty_are_kept(runner, temporary):
    runner.python = temporary / "no python"
    logs = []
    for number in range(23):
        runner.start(Task(f"Größe: {number}/*", lambda folder: ["models"], lambda *_: 1, print))
        failed(runner)
        logs.append(runner.log_path)
    assert sorted(runner.log_folder.iterdir()) == logs[-20:]
    text = logs[-1].read_text(encoding="utf-8")
    assert text.startswith("Größe: 22/*\n")
    assert "command: ipv2 models\n" in text
    assert "could not be started" in text


def test_logs_are_by_default_in_a_folder_of_the_user(temporary):
    runner = JobRunner()
    runner.start(quick_task([]))
    assert runner.wait(30) is JobState.COMPLETED
    assert runner.log_path.parent == default_log_folder()
    assert runner.log_path.parents[1] == temporary
    if os.name == "posix":
        assert runner.log_path.parent.stat().st_mode & 0o077 == 0


# --- ending processes -----------------------------------------------------------------------------------------


@posix
def test_a_tree_that_does_not_want_to_end_is_ended():
    stubborn = "trap '' TERM; (trap '' TERM; while :; do sleep 0.05; done) & while :; do sleep 0.05; done"
    process = subprocess.Popen(["sh", "-c", stubborn])
    parent = psutil.Process(process.pid)
    while not (children := parent.children(recursive=True)):
        time.sleep(0.01)
    assert end_process_tree(process.pid, timeout=30)
    assert process.wait(30) == -signal.SIGKILL
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    assert end_process_tree(process.pid)
