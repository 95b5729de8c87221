"""Long work in another process: one job at a time, with progress, cancel, results, and a log that outlives it.

Owns the states of a job. The process itself is `processes`' business, the private folder `job_folder`'s, the log
`logs`', and what the command does `cli`'s. Needs neither Qt nor Slicer nor torch.

Everything goes on in `JobRunner.poll`, which a timer or `JobRunner.wait` calls: in Slicer, threads get no turn while
Qt waits for events. Files are written and read in a thread all the same, so that the user interface goes on;
`poll` gives it its turns.
"""

from __future__ import annotations

import contextlib
import enum
import os
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from IPv2Lib.cli.worker_protocol import BAD_INPUT, BUG, SOME_FAILED, STOPPED, SUCCESS
from IPv2Lib.errors import InputError, IPv2Error
from IPv2Lib.io import atomic

from .job_folder import clear_away, new_folder, remove_stale
from .logs import default_log_folder, new_log, open_log
from .pace import Pace
from .processes import Worker

SILENT_SECONDS = 2.0
"""A worker that has said nothing for so long does not respond: it speaks twice a second."""
FIRST_WORD_SECONDS = 30.0
"""The same before its first word: on a cold disk Python itself takes a while to start."""
LAST_WORD_SECONDS = 5.0
"""A worker that has said its result and does not end is ended after so long."""
CLOSING_SECONDS = 0.6
"""How long `JobRunner.close` waits for the end of a worker, or of a file being written; somebody sits before it."""

_TURN_SECONDS = 0.02  # of a poll that the thread gets; a fifth of the time with a timer of 100 ms
_PAUSE_SECONDS = 0.02  # between two polls of `wait`
_PREPARED, _COMPUTED = 0.02, 0.98  # parts of the bar: before the first are the inputs, after the second the results


class JobState(enum.Enum):
    """What a `JobRunner` is doing."""

    IDLE = "idle"
    STARTING = "starting"
    """The inputs are being written."""
    RUNNING = "running"
    IMPORTING = "importing"
    """The results are being read."""
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def active(self) -> bool:
        """Whether a job is under way."""
        return self in (JobState.STARTING, JobState.RUNNING, JobState.IMPORTING, JobState.CANCELLING)


@dataclass(frozen=True)
class Task:
    """What a job does, in three steps, of which only the last one may touch what is not its own.

    Attributes
    ----------
    title : str
        For people and the log, e.g. "Denoise CTChest".
    prepare : callable
        ``prepare(folder)`` writes the inputs into the private folder and returns the arguments of the `ipv2`
        command, which runs in that folder: a `Path` in there reaches it as a relative name. Give such files plain
        ASCII names; readers that understand nothing else never meet the user's name then. Runs in a thread.
    collect : callable
        ``collect(folder, result)`` reads the results from the folder; `result` is what the command said with
        ``--json``. Runs in a thread.
    finish : callable, optional
        ``finish(collected)`` puts the complete result where it belongs, and returns what the job is to give; by
        default that is what was collected. Runs in the thread that polls.
    collect_stopped : callable, optional
        ``collect_stopped(folder, reason)`` instead of `collect` where the command stopped by itself before its end,
        as a training does that is paused. Without it that is a failure.
    target : Path, optional
        Folder in which the command puts its result itself; what it leaves there when it is killed is removed.
    titles : mapping, optional
        What people call files in the private folder: so does whatever the command says of them.
    """

    title: str
    prepare: Callable[[Path], Sequence[str | Path]]
    collect: Callable[[Path, dict[str, Any]], Any]
    finish: Callable[[Any], Any] = lambda collected: collected
    collect_stopped: Callable[[Path, str], Any] | None = None
    target: Path | None = None
    titles: Mapping[str, str] = field(default_factory=dict)


class JobRunner:
    """Runs one task at a time in a worker process.

    The private folder of a job is gone when the job has ended, however it ends. If this process dies, the worker
    notices, ends and removes it; what is left in spite of that is removed a minute later by the next job. Attributes
    that are parameters, too, may be changed between two jobs.

    Parameters
    ----------
    python : Path, optional
        Interpreter of the worker; by default that of this process.
    environment : mapping, optional
        Environment of the worker; by default that of this process. Where the library is, is added.
    temporary_folder : Path, optional
        Where the private folders are made, with any name; by default the system's temporary folder.
    log_folder : Path, optional
        Where the logs are kept, the newest 20; by default `logs.default_log_folder` of the temporary folder.
    on_change : callable, optional
        Gets the runner when something about it has changed, in the thread that polls.

    Attributes
    ----------
    state : JobState
    task : Task or None
        The present or last one.
    fraction : float
        0 to 1, never falling during a job; 1 means completed.
    message : str
        What is being done, for people.
    remaining_seconds : float or None
        Estimated; None while there is nothing to go by.
    notes : list of str
        What the command wants to be known.
    responding : bool
        False while the worker has been silent for 2 s: stuck, or stopped by someone.
    seconds_silent : float
        Since the worker's last word; 0 while there is no worker.
    error : str
        Why the job failed, in a sentence for people; else empty.
    log_path : Path or None
        What the worker wrote on stderr, and how the job ended.
    result : dict
        What the command said with ``--json``; else empty.
    outcome : Any
        What the task's `finish` returned; None unless the job is completed.

    Examples
    --------
    >>> task = Task("List the models", lambda folder: ["models"], lambda folder, result: result["default"])
    >>> runner = JobRunner()
    >>> runner.start(task)
    >>> runner.wait().name, runner.outcome
    ('COMPLETED', 'ipv2-fast')
    """

    def __init__(
        self,
        *,
        python: Path | None = None,
        environment: Mapping[str, str] | None = None,
        temporary_folder: Path | None = None,
        log_folder: Path | None = None,
        on_change: Callable[[JobRunner], None] | None = None,
    ):
        self.python = Path(python or sys.executable)
        self.environment = environment
        self.temporary_folder = temporary_folder
        self.log_folder = log_folder
        self.on_change = on_change
        self._entered = False
        self._reset(JobState.IDLE, None)

    def start(self, task: Task) -> None:
        """Begin a job. What goes wrong from here on is found in `state` and `error`.

        Raises
        ------
        InputError
            If a job is active.
        """
        self.refuse_if_active()
        self._reset(JobState.STARTING, task)
        self.message = "preparing"
        try:
            temporary = Path(self.temporary_folder or tempfile.gettempdir()).absolute()
            temporary.mkdir(parents=True, exist_ok=True)
            self.log_path = new_log(Path(self.log_folder or default_log_folder(temporary)), task.title)
            remove_stale(temporary)
            self._folder = folder = new_folder(temporary)
            self._abandon = weakref.finalize(self, clear_away, folder, self._pids)
            self._helper = _in_thread(lambda: [_argument(given, folder) for given in task.prepare(folder)])
        except OSError as error:
            self._fail(
                f"no place for temporary files or the log ({error}): nothing was changed; make that folder writable, "
                "or set another temporary folder"
            )
        self._notify()

    def refuse_if_active(self) -> None:
        """Raise `InputError` while a job is active: for whoever has work to do before `start`."""
        if self.state.active:
            raise InputError(f"'{self.task.title}' is still running: wait until it is done, or cancel it first")

    def poll(self) -> JobState:
        """Go on with the job as far as is possible without waiting; returns the state."""
        if not self.state.active or self._entered:  # entered: from `finish`, by a timer
            return self.state
        self._entered = True
        try:
            _STEPS[self.state](self)
        except Exception as error:  # a job must end, whatever happens: the next one would be refused
            self._fail_by(error, "the job went wrong")
        finally:
            self._entered = False
        self._notify()
        return self.state

    def cancel(self, reason: str = "") -> None:
        """End the job; its process and what that started are gone within a second, and `finish` is not called.

        Without effect if there is no job, or once the result is being put where it belongs. The reason, if there is
        one that the user does not know, becomes part of the last message.
        """
        if not self.state.active or self._entered or self.state is JobState.CANCELLING:
            return
        self.state = JobState.CANCELLING
        self.message = "cancelling"
        self._reason_to_cancel = reason
        self.remaining_seconds = None
        if self._worker:
            self._worker.end()
        self._notify()

    def wait(self, timeout: float | None = None, tick: Callable[[], None] | None = None) -> JobState:
        """Poll until the job is over; an exception meanwhile, Ctrl-C for instance, cancels it.

        Parameters
        ----------
        timeout : float, optional
            Seconds after which to return all the same; the job goes on.
        tick : callable, optional
            Called after every poll, for instance to process the events of a user interface.

        Returns
        -------
        JobState
        """
        until = None if timeout is None else time.monotonic() + timeout
        try:
            while self.poll().active and (until is None or time.monotonic() < until):
                if tick:
                    tick()
                time.sleep(_PAUSE_SECONDS)
        except BaseException:
            self.close()
            raise
        return self.state

    def close(self) -> None:
        """Cancel what is running and wait for its end, a second at most; the runner can be used again.

        For whoever goes away: module reload, the scene being closed, the application quitting. A thread that is at a
        file by then gives up by itself: it finds its folder gone, and leaves nothing of it.
        """
        self.cancel()
        until = time.monotonic() + CLOSING_SECONDS
        while self.poll().active and not self._entered and time.monotonic() < until:
            time.sleep(_PAUSE_SECONDS)
        if self.state is JobState.CANCELLING:
            self._end_cancelled()
            self._notify()

    # --- one step of each state -----------------------------------------------------------------------------

    def _prepare(self) -> None:
        if self._helper_is_busy():
            return
        if error := self._helper.exception():
            self._fail_by(error, "the inputs could not be written")
        else:
            self._run(self._helper.result())

    def _run(self, arguments: list[str]) -> None:
        self.state = JobState.RUNNING
        self.fraction = _PREPARED
        self.message = "starting"
        self._last_word = time.monotonic()
        try:
            with open(self.log_path, "ab") as log:
                log.write(f"command: ipv2 {' '.join(arguments)}\n".encode(errors="replace"))
                log.flush()
                self._worker = Worker(self.python, arguments, self._folder, log, self.environment)
        except OSError as error:
            self._fail(f"the worker could not be started ({error}): nothing was changed; see {self.log_path}")
        else:
            self._pids.append(self._worker.pid)

    def _listen(self) -> None:
        exit_code = self._worker.exit_code  # before its last words are read
        events = self._worker.events()
        for event in events:
            self._hear(event)
        if events:
            with contextlib.suppress(OSError):
                os.utime(self.log_path)  # or the logs of later jobs would push it out while this one is running
        if exit_code is not None:
            self._worker_ended(exit_code)
        elif self.result and self.seconds_silent > LAST_WORD_SECONDS:
            self._worker_ended(SUCCESS)
        elif not self.responding:
            self.message = f"no answer from the worker for {self.seconds_silent:.0f} s; it can be cancelled"
        else:
            self.message = self._doing
            self.remaining_seconds = self._pace.remaining()

    def _hear(self, event: dict[str, Any]) -> None:
        self._last_word = time.monotonic()
        self._heard = True
        facts = {name: value for name, value in event.items() if name != "event"}
        if "message" in facts:
            for file, title in self.task.titles.items():
                facts["message"] = facts["message"].replace(file, title)
        match event["event"]:
            case "progress":
                self._doing = facts["message"]
                self._pace.add(facts["fraction"])
                whole = _PREPARED + (_COMPUTED - _PREPARED) * facts["fraction"]
                self.fraction = max(self.fraction, whole)
            case "note":
                self.notes.append(facts["message"])
            case "result":
                self.result = facts
            case "error" | "stopped":
                self._reason = facts["message"]

    def _worker_ended(self, exit_code: int) -> None:
        self._close_worker()
        if exit_code in (SUCCESS, SOME_FAILED) and self.result:
            self._read(self.task.collect, self.result)
        elif exit_code == STOPPED and self._reason and self.task.collect_stopped:
            self._read(self.task.collect_stopped, self._reason)
        elif exit_code == BAD_INPUT and self._reason:
            self._fail(self._reason)
        else:
            if exit_code < 0:
                how = f"killed by signal {-exit_code}"
            elif exit_code in (BUG, STOPPED) and self._reason:
                how = self._reason
            else:
                how = f"exit code {exit_code}"
            self._fail(f"the worker ended unexpectedly ({how}): nothing was changed; see {self.log_path}")

    def _read(self, collect: Callable[[Path, Any], Any], said: Any) -> None:
        self.state = JobState.IMPORTING
        self.fraction = max(self.fraction, _COMPUTED)
        self.message = "reading the result"
        self.remaining_seconds = None
        self._helper = _in_thread(collect, self._folder, said)

    def _import(self) -> None:
        if self._helper_is_busy():
            return
        if error := self._helper.exception():
            self._fail_by(error, "the result could not be read")
            return
        try:
            self.outcome = self.task.finish(self._helper.result())
        except BaseException as error:
            self._fail_by(error, "the result could not be taken over")
            if not isinstance(error, Exception):
                raise
        else:
            self.fraction = 1.0
            self._end(JobState.COMPLETED, f"done in {time.monotonic() - self._began:.1f} s")

    def _cancel(self) -> None:
        worker_is_there = self._worker is not None and not self._worker.end()
        if not worker_is_there and not self._helper_is_busy():
            self._end_cancelled()

    def _helper_is_busy(self) -> bool:
        """Whether the thread is still at work, after another turn."""
        return not wait_for([self._helper], _TURN_SECONDS).done

    # --- how a job ends -------------------------------------------------------------------------------------

    def _end_cancelled(self) -> None:
        what = f"cancelled: {self._reason_to_cancel}" if self._reason_to_cancel else "cancelled"
        self._end(JobState.CANCELLED, f"{what}; nothing was changed")

    def _fail_by(self, error: BaseException, what: str) -> None:
        with contextlib.suppress(OSError), open_log(self.log_path) as log:
            traceback.print_exception(error, file=log)
        if isinstance(error, IPv2Error):
            reason = str(error)
        else:
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        self._fail(f"{what} ({reason}): nothing was changed; see {self.log_path}")

    def _fail(self, error: str) -> None:
        self.error = error
        self._end(JobState.FAILED, error)

    def _end(self, state: JobState, message: str) -> None:
        self._close_worker()
        if self._helper and not self._helper.done():  # given up by `close`
            clear_away(self._folder, [])
            self._helper.add_done_callback(lambda _, abandon=self._abandon: abandon())
        elif self._abandon:
            self._abandon()
        self._helper = None  # it holds the result
        self.state = state
        self.message = message
        self.remaining_seconds = None
        if self.log_path:
            with contextlib.suppress(OSError), open_log(self.log_path) as log:
                log.writelines(f"note: {note}\n" for note in self.notes)
                log.write(f"{message}\n")

    def _close_worker(self) -> None:
        """Let go of the worker, and of what it may have left running."""
        if self._worker:
            self._worker.close()
            if self.task.target is not None:
                atomic.sweep(self.task.target)
            self._worker = None
            self._pids.clear()

    # --- what others see ------------------------------------------------------------------------------------

    @property
    def seconds_silent(self) -> float:
        return time.monotonic() - self._last_word if self._worker else 0.0

    @property
    def responding(self) -> bool:
        return self.seconds_silent <= (SILENT_SECONDS if self._heard else FIRST_WORD_SECONDS)

    def _notify(self) -> None:
        seconds = None if self.remaining_seconds is None else round(self.remaining_seconds)
        shown = (self.state, self.fraction, self.message, seconds, len(self.notes), self.responding)
        if shown != self._shown:
            self._shown = shown
            if self.on_change:
                self.on_change(self)

    def _reset(self, state: JobState, task: Task | None) -> None:
        self.state = state
        self.task = task
        self.fraction = 0.0
        self.message = ""
        self.remaining_seconds: float | None = None
        self.notes: list[str] = []
        self.error = ""
        self.log_path: Path | None = None
        self.result: dict[str, Any] = {}
        self.outcome: Any = None
        self._began = time.monotonic()
        self._folder: Path | None = None
        self._abandon: weakref.finalize | None = None
        self._pids: list[int] = []
        self._helper: Future | None = None
        self._worker: Worker | None = None
        self._last_word = 0.0
        self._heard = False
        self._doing = "starting"
        self._reason = ""
        self._reason_to_cancel = ""
        self._pace = Pace()
        self._shown: tuple = ()


_STEPS = {
    JobState.STARTING: JobRunner._prepare,
    JobState.RUNNING: JobRunner._listen,
    JobState.IMPORTING: JobRunner._import,
    JobState.CANCELLING: JobRunner._cancel,
}


def _argument(given: str | Path, folder: Path) -> str:
    """An argument of a command that runs in a folder."""
    if isinstance(given, Path) and given.is_relative_to(folder):
        given = given.relative_to(folder)
    return str(given)


def _in_thread(function: Callable[..., Any], *arguments: Any) -> Future:
    """Call a function in a thread that does not keep the application from quitting."""
    future: Future = Future()

    def call() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, name="ipv2-files", daemon=True).start()
    return future
