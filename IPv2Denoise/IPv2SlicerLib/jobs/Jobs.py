"""Running one job after the other in another process, while Slicer stays usable.

Importing this file must stay cheap, Slicer does it when it starts.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import qt
import slicer
from IPv2Lib.errors import InputError
from slicer.i18n import tr as _

from IPv2SlicerLib.jobs.Job import Job
from IPv2SlicerLib.jobs.job_runner import JobRunner, Task
from IPv2SlicerLib.jobs.logs import default_log_folder


class Jobs:
    """One job at a time; what the logic classes of both modules have in common.

    Every method of a module's logic that starts a job returns it, see `Job`. When Slicer quits, all jobs end within a
    second.

    Parameters
    ----------
    title : str
        The module's name.
    ensurePackages : callable
        Called with the title before a job that does not say otherwise; raises where packages are missing and stay so.

    Attributes
    ----------
    title : str
    runner : IPv2SlicerLib.jobs.job_runner.JobRunner
        State, progress and log of the present or last job.
    jobKind : str
        What it is.
    onJobChanged : callable or None
        Called without arguments when something about the job has changed.
    """

    POLL_MSEC = 100

    def __init__(self, title: str, ensurePackages: Callable[[str], None]) -> None:
        self.title = title
        self.runner = JobRunner(on_change=self._runnerChanged)
        self.jobKind = ""
        self.onJobChanged: Callable[[], None] | None = None
        self._ensurePackages = ensurePackages
        self._job: Job | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(self.POLL_MSEC)
        self._timer.timeout.connect(self.runner.poll)

    def cancel(self, reason: str = "") -> None:
        """End the running job, if there is one; nothing is changed. The reason is shown and raised, if there is one."""
        self.runner.cancel(reason)

    def abandonJob(self) -> None:
        """End the running job and wait for its end, a second at most."""
        self.runner.close()

    def askToEnd(self) -> None:
        """Begin what `close` completes, without waiting: several jobs end at the same time then."""
        self.cancel()

    def close(self) -> None:
        """End what is running and tell nobody any more: for module reload and quitting."""
        self.tellNobody()
        self.abandonJob()

    def tellNobody(self) -> None:
        """Call none of the functions any more that were to be called for the present job."""
        self.onJobChanged = None
        if self._job:
            self._job.forget()

    def run(self, kind: str, task: Task, ensurePackages: Callable[[str], None] | None = None) -> Job:
        """Start a task; what its `finish` returns is the job's result. `ensurePackages`: that of this job.

        Raises
        ------
        IPv2Lib.errors.IPv2Error
            Another job is active, or packages are missing.
        """
        self.runner.refuse_if_active()
        (ensurePackages or self._ensurePackages)(self.title)
        self.runner.refuse_if_active()  # a question lets events through
        self.runner.python, self.runner.temporary_folder = workerPython(), temporaryFolder()
        self.jobKind, self._job = kind, Job(self.runner)
        job = self._job
        _running.add(self)
        self._timer.start()
        self.runner.start(task)
        return job

    def _runnerChanged(self, runner: JobRunner) -> None:
        job = self._job
        if not runner.state.active:
            self._timer.stop()
            _running.discard(self)
        job.follow()
        if self.onJobChanged:
            self.onJobChanged()
        job.tellEnd()


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
