"""Jobs of both modules in Slicer: where their files are, which Python runs them, and that quitting waits for nobody."""

import os
import sys
import time
from pathlib import Path

import psutil
import pytest
import train_panel
from children import children
from host import HostError
from IPv2Lib.errors import Cancelled, InputError, IPv2Error
from IPv2SlicerLib.jobs.job_runner import JobState, Task
from panel import MODULE
from PySide6 import QtCore

posix = pytest.mark.skipif(os.name != "posix", reason="scripts and signals of POSIX")


def models() -> Task:
    return Task("Models", lambda folder: ["models"], lambda folder, result: result["default"])


@pytest.fixture
def never_ending(tmp_path, monkeypatch):
    """A worker that says that it is alive, does not want to end, and has started another such one."""

    def use() -> None:
        from IPv2SlicerLib.jobs import Jobs

        script = tmp_path / "never-ending"
        loop = """while :; do echo '{"event": "alive"}'; sleep 0.05; done"""
        script.write_text(f"#!/bin/sh\ntrap '' TERM INT HUP\n({loop}) &\n{loop}\n")
        script.chmod(0o755)
        monkeypatch.setattr(Jobs, "workerPython", lambda: script)

    return use


def workers() -> list[psutil.Process]:
    return children("never-ending")


def left_in(folder: str) -> list[str]:
    return [path.name for path in Path(folder).iterdir() if not path.name.startswith("IPv2-logs")]


# --- places -----------------------------------------------------------------------------------------------------


def test_files_of_jobs_and_logs_are_in_the_folder_that_is_set_in_slicer(host, tmp_path):
    import slicer

    host.load_module(MODULE, select=False)
    from IPv2SlicerLib.jobs.Jobs import logFolder

    from IPv2Denoise import IPv2DenoiseLogic

    logic, seen = IPv2DenoiseLogic(), []

    def prepare(folder: Path) -> list[str]:
        seen.append(folder.parent)
        return ["models"]

    task = Task("Models", prepare, lambda *_: 1)
    for place in (slicer.app.temporaryPath, str(tmp_path / "of Jürgen" / "T mp")):
        slicer.app.setTemporaryPath(place)
        assert logic.run("models", task).wait() == 1
        assert seen.pop() == Path(place)
        assert logic.runner.log_path.parent == logFolder() and logFolder().parent == Path(place)
        assert left_in(place) == []


def test_the_worker_is_pythonslicer_wherever_it_is_and_never_slicer_itself(host, tmp_path, monkeypatch):
    import slicer

    host.load_module(MODULE, select=False)
    from IPv2SlicerLib.jobs.Jobs import workerPython

    monkeypatch.setenv("PATH", str(tmp_path))
    assert workerPython() == Path(sys.executable)  # in the tests this is a Python
    monkeypatch.setattr(sys, "executable", str(tmp_path / "SlicerApp-real"))
    with pytest.raises(InputError, match="PythonSlicer was found neither in"):
        workerPython()
    for folder in (Path(slicer.app.slicerHome) / "bin", tmp_path):
        folder.mkdir(exist_ok=True)
        program = folder / ("PythonSlicer.exe" if os.name == "nt" else "PythonSlicer")
        program.write_text("")
        program.chmod(0o755)
        assert workerPython() == program


def test_a_job_that_starts_during_the_question_for_packages_is_not_disturbed(host):
    host.load_module(MODULE, select=False)
    from IPv2SlicerLib.jobs.Jobs import Jobs

    finished = []
    jobs = Jobs("Test", lambda title: start_first())

    def start_first() -> None:
        jobs._ensurePackages = lambda title: None
        jobs.run("first", models()).onFinished(finished.append)

    with pytest.raises(InputError, match="still running"):
        jobs.run("second", models()).onFinished(lambda _: finished.append("second"))
    assert jobs.jobKind == "first"
    host.wait_until(lambda: finished, 60)
    assert finished == ["ipv2-fast"] and jobs.runner.state is JobState.COMPLETED


# --- quitting ---------------------------------------------------------------------------------------------------


@posix
def test_quitting_ends_the_jobs_of_both_modules_and_of_scripts_at_once(host, never_ending):
    import slicer

    train_panel.open_panel(host)
    denoise = host.load_module(MODULE)
    never_ending()
    from IPv2TrainLib.Logic import IPv2TrainLogic

    from IPv2Denoise import IPv2DenoiseLogic

    script, train = IPv2DenoiseLogic(), slicer.modules.IPv2TrainWidget.logic
    assert isinstance(train, IPv2TrainLogic)
    running = [denoise.logic, train, train.training, script]
    for each in running:
        each.run("models", models())
    host.wait_until(lambda: len(workers()) >= 2 * len(running), 60)
    host.quit()  # refuses to wait for long
    assert [each.runner.state for each in running] == [JobState.CANCELLED] * len(running)
    assert workers() == []
    assert left_in(slicer.app.temporaryPath) == []


@posix
@pytest.mark.parametrize("told_before", [True, False], ids=["told before the loop ends", "told after it"])
def test_a_script_that_waits_for_a_job_ends_when_slicer_quits(host, never_ending, told_before):
    import slicer

    host.load_module(MODULE, select=False)
    never_ending()
    from IPv2SlicerLib.jobs import Jobs

    from IPv2Denoise import IPv2DenoiseLogic

    logic, raised = IPv2DenoiseLogic(), []

    def script() -> None:
        try:
            logic.run("models", models()).wait()
        except Cancelled as error:
            raised.append(str(error))

    def leave_when_running() -> None:
        if workers():
            if not told_before:  # in Qt 5, aboutToQuit comes when the script has returned
                Jobs._running.clear()
            slicer.app.exit()

    timers = []
    for milliseconds, act in ((50, leave_when_running), (120_000, slicer.app.exit)):  # the second instead of for ever
        timer = QtCore.QTimer()
        timer.timeout.connect(act)
        timer.start(milliseconds)
        timers.append(timer)
    QtCore.QTimer.singleShot(0, script)
    slicer.app.exec()
    for timer in timers:  # or they would end the loops of later tests
        timer.stop()
    assert len(raised) == 1 and "nothing was changed" in raised[0]
    assert workers() == [] and left_in(slicer.app.temporaryPath) == []


def test_a_script_that_waits_gets_its_result_and_lets_events_through(host):
    host.load_module(MODULE, select=False)
    from IPv2Denoise import IPv2DenoiseLogic

    logic, ticks, told = IPv2DenoiseLogic(), [], []
    timer = QtCore.QTimer()
    timer.timeout.connect(lambda: ticks.append(1))
    timer.start(1)
    job = logic.run("models", models()).onProgress(lambda *progress: told.append(progress))
    result = job.wait()
    timer.stop()
    assert result == job.result == job.wait() == "ipv2-fast" and ticks and told


# --- a job ------------------------------------------------------------------------------------------------------


def test_whoever_asks_late_is_told_of_the_end_once(host):
    host.load_module(MODULE, select=False)
    from IPv2Denoise import IPv2DenoiseLogic

    logic, heard, told = IPv2DenoiseLogic(), [], []
    job = logic.run("models", models()).onFinished(heard.append).onFinished(heard.append)
    assert job.active and job.result is None
    host.wait_until(lambda: not job.active, 60)
    assert heard == ["ipv2-fast"] * 2
    job.onProgress(lambda *progress: told.append(progress)).onFinished(heard.append)
    assert heard == ["ipv2-fast"] * 3 and told == []
    other = logic.run("models", models())
    job.cancel()  # is over, and the next one is not its business
    assert job.wait() == "ipv2-fast" and other.active
    assert other.wait() == "ipv2-fast" and len(heard) == 3


def test_a_job_that_fails_or_is_cancelled_raises_where_it_is_waited_for(host):
    host.load_module(MODULE, select=False)
    from IPv2Denoise import IPv2DenoiseLogic

    logic, heard = IPv2DenoiseLogic(), []
    failing = Task("Models", lambda folder: ["denoise", "nothing.nrrd", "out.nrrd"], lambda *_: 1)
    job = logic.run("models", failing).onFinished(heard.append)
    with pytest.raises(IPv2Error, match=r"nothing\.nrrd"):
        job.wait()
    assert job.state is JobState.FAILED and "nothing.nrrd" in job.error
    job = logic.run("models", models()).onFinished(heard.append)
    job.cancel("for a reason")
    with pytest.raises(Cancelled, match="for a reason"):
        job.wait()
    assert job.state is JobState.CANCELLED and heard == [None, None]


def test_nobody_is_told_of_a_job_after_its_logic_was_closed(host):
    host.load_module(MODULE, select=False)
    from IPv2Denoise import IPv2DenoiseLogic

    logic, heard = IPv2DenoiseLogic(), []
    job = logic.run("models", models()).onFinished(heard.append)
    logic.close()
    assert not job.active and heard == []
    with pytest.raises(Cancelled):
        job.wait()


def test_a_module_that_is_slow_to_leave_is_refused(host, monkeypatch):
    widget = host.load_module(MODULE)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    cleanup = widget.cleanup

    def slow() -> None:
        cleanup()
        for _ in range(500):
            time.sleep(0.02)

    widget.cleanup = slow
    with pytest.raises(HostError, match=r"quitting waited for 10\.0 s"):
        host.quit()
