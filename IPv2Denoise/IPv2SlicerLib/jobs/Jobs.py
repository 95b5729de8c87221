"""Running one job after the other in another process, while Slicer stays usable.

Importing this file must stay cheap, Slicer does it when it starts.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from IPv2Lib.errors import Cancelled, InputError, IPv2Error
from slicer.i18n import tr as _

from IPv2SlicerLib.jobs.job_runner import JobRunner, JobState
from IPv2SlicerLib.jobs.logs import default_log_folder

from ..widgets.Timers import singleShot


class Jobs:
    """One job at a time; what the logic classes of both modules have in common.

    Every method of a module's logic that starts a job takes `wait`: True returns its result when it is done, while
    the application stays usable, and raises `IPv2Lib.errors.IPv2Error` if it failed and `Cancelled` if it was
    cancelled; False returns None at once, and `onFinished(result)` is called when the job is over, with None unless
    it succeeded. `onProgress(fraction, message)` is called on the way. When Slicer quits, all jobs end within a second.

    Parameters
    ----------
    ensurePackages : callable
        Called before a job; raises where packages are missing and stay so.

    Attributes
    ----------
    runner : IPv2SlicerLib.jobs.job_runner.JobRunner
        State, progress and log of the present or last job.
    jobKind : str
        What it is.
    onJobChanged : callable or None
        Called without arguments when something about the job has changed.
    """

    POLL_MSEC = 100

    def __init__(self, ensurePackages: Callable[[], None]) -> None:
        self.runner = JobRunner(on_change=self._runnerChanged)
        self.jobKind = ""
        self.onJobChanged: Callable[[], None] | None = None
        self._ensurePackages = ensurePackages
        self._onProgress: Callable[[float, str], None] | None = None
        self._onFinished: Callable[[Any], None] | None = None
        self._result: Any = None
        self._timer = qt.QTimer()
        self._timer.setInterval(self.POLL_MSEC)
        self._timer.timeout.connect(self._poll)

    def cancel(self, reason: str = "") -> None:
        """End the running job, if there is one; nothing is changed. The reason is shown and raised, if there is one."""
        self.runner.cancel(reason)

    def abandonJob(self) -> None:
        """End the running job and wait for its end, a second at most."""
        self.runner.close()
        self._timer.stop()

    def askToEnd(self) -> None:
        """Begin what `close` completes, without waiting: several jobs end at the same time then."""
        self.cancel()

    def close(self) -> None:
        """End what is running and tell nobody any more: for module reload and quitting."""
        self.tellNobody()
        self.abandonJob()

    def tellNobody(self) -> None:
        """Call none of the functions any more that were to be called for the present job."""
        self.onJobChanged = self._onProgress = self._onFinished = None

    def keeping(self, finish: Callable[[Any], Any]) -> Callable[[Any], None]:
        """`finish` of a task that keeps what was put into the scene as the job's result."""

        def keep(collected: Any) -> None:
            self._result = finish(collected)

        return keep

    def run(self, kind: str, task, onProgress, onFinished, wait: bool):
        """Start a task of `IPv2SlicerLib.jobs.job_runner`; see the class for what it returns and raises."""
        self.runner.refuse_if_active()
        self._ensurePackages()
        self.runner.refuse_if_active()  # a question lets events through
        self.runner.python, self.runner.temporary_folder = workerPython(), temporaryFolder()
        self.jobKind, self._onProgress, self._onFinished, self._result = kind, onProgress, onFinished, None
        _running.add(self)
        self.runner.start(task)
        if not wait:
            self._timer.start()
            return None
        state = self.runner.wait(tick=_letEventsThrough)
        if state is JobState.FAILED:
            raise IPv2Error(self.runner.error)
        if state is JobState.CANCELLED:
            raise Cancelled(self.runner.message)
        return self._result

    def _poll(self) -> None:
        self.runner.poll()
        if not self.runner.state.active:
            self._timer.stop()

    def _runnerChanged(self, runner) -> None:
        if not runner.state.active:
            _running.discard(self)
        if self._onProgress and runner.state.active:
            self._onProgress(runner.fraction, runner.message)
        if self.onJobChanged:
            self.onJobChanged()
        if not runner.state.active and self._onFinished:
            onFinished, self._onFinished = self._onFinished, None
            onFinished(self._result)


def workerPython() -> Path:
    """Slicer's PythonSlicer, which knows Slicer's packages; outside of Slicer this Python itself.

    Raises
    ------
    InputError
        There is none: this program is Slicer, and would only start another Slicer.
    """
    beside = Path(slicer.app.slicerHome) / "bin"
    found = shutil.which("PythonSlicer") or shutil.which("PythonSlicer", path=str(beside))
    if found:
        return Path(found)
    if Path(sys.executable).stem.lower().startswith("python"):
        return Path(sys.executable)
    raise InputError(
        _("PythonSlicer was found neither in {folder} nor on the search path: install Slicer again").format(
            folder=beside
        )
    )


def temporaryFolder() -> Path:
    """Where Slicer wants temporary files, see Edit > Application Settings > General."""
    return Path(slicer.app.temporaryPath)


def logFolder() -> Path:
    """Where the logs of jobs are."""
    return default_log_folder(temporaryFolder())


_running: set[Jobs] = set()


def _endAll() -> None:
    for jobs in list(_running):
        jobs.askToEnd()
    for jobs in list(_running):
        jobs.close()


slicer.app.aboutToQuit.connect(_endAll)


def _letEventsThrough() -> None:
    """Process events for a moment; notices that the application wants to quit, and cannot before we return."""
    loop = qt.QEventLoop()
    timer = singleShot(20, loop.quit)
    timer.start()
    if loop.exec_() < 0:  # no loop can be entered any more
        raise Cancelled("the application quits; nothing was changed")
