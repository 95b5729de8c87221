"""A job that was started: its state and result, waiting for it, and hearing of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from IPv2Lib.errors import Cancelled, IPv2Error

from IPv2SlicerLib.jobs.job_runner import JobRunner, JobState

from ..widgets.Timers import singleShot


class Job:
    """What a logic's method returns that has started a job; it goes on by itself, while the application stays usable.

    Attributes
    ----------
    state : JobState
    message : str
        What is being done, or how it ended, for people.
    error : str
        Why it failed, a sentence for people; else empty.
    result : Any
        None unless it succeeded.

    Examples
    --------
    >>> job = logic.denoise(node, strength=0.8).onProgress(print)
    >>> job.wait().denoised.GetName()
    'CTChest denoised'
    """

    def __init__(self, runner: JobRunner) -> None:
        self.state, self.message, self.error = JobState.STARTING, "", ""
        self.result: Any = None
        self._runner = runner
        self.forget()

    @property
    def active(self) -> bool:
        """Whether it is under way."""
        return self.state.active

    def cancel(self, reason: str = "") -> None:
        """End it, if it is not over; nothing is changed. The reason, if there is one, is shown and raised."""
        if self.active:
            self._runner.cancel(reason)

    def wait(self) -> Any:
        """Its result, as soon as it is there; the application stays usable meanwhile.

        Raises
        ------
        IPv2Lib.errors.IPv2Error
            It failed.
        IPv2Lib.errors.Cancelled
            It was cancelled, or the application quits.
        """
        try:
            while self.active:
                _letEventsThrough()
                self._runner.poll()
        except BaseException:  # Ctrl-C, for instance
            if self.active:
                self._runner.close()
            raise
        if self.state is JobState.FAILED:
            raise IPv2Error(self.error)
        if self.state is JobState.CANCELLED:
            raise Cancelled(self.message)
        return self.result

    def onProgress(self, hear: Callable[[float, str], None]) -> Job:
        """Call `hear(fraction, message)` now and on the way, unless it is over; returns the job."""
        if self.active:
            self._progressHeard.append(hear)
            hear(self._runner.fraction, self._runner.message)
        return self

    def onFinished(self, hear: Callable[[Any], None]) -> Job:
        """Call `hear(result)` when it is over, now if it is: with None unless it succeeded; returns the job."""
        if self.active:
            self._endHeard.append(hear)
        else:
            hear(self.result)
        return self

    # --- for `Jobs` ---

    def forget(self) -> None:
        """Call nobody any more who was to be called so far."""
        self._progressHeard: list[Callable[[float, str], None]] = []
        self._endHeard: list[Callable[[Any], None]] = []

    def follow(self) -> None:
        """Something about the runner has changed: call who wants to hear of progress."""
        runner = self._runner
        self.state, self.message, self.error, self.result = runner.state, runner.message, runner.error, runner.outcome
        if self.active:
            for hear in self._progressHeard:
                hear(runner.fraction, runner.message)

    def tellEnd(self) -> None:
        """Call who wants to hear of the end, if it has come."""
        if not self.active:
            heard = self._endHeard
            self.forget()
            for hear in heard:
                hear(self.result)


def _letEventsThrough() -> None:
    """Process events for a moment; notices that the application wants to quit, and cannot before we return."""
    loop = qt.QEventLoop()
    timer = singleShot(20, loop.quit)
    timer.start()
    if loop.exec_() < 0:  # no loop can be entered any more
        raise Cancelled("the application quits; nothing was changed")
