"""A worker process that runs a command of `ipv2`: started, listened to, and ended with all that it started itself.

Owns the process, the file that it writes its events to, and signals. What a job is, `job_runner` knows. `psutil`
is imported when a process is there: Slicer installs it after a module has been opened.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import IPv2Lib
from IPv2Lib.cli.worker_protocol import JOB_VARIABLE

if TYPE_CHECKING:
    import psutil

GRACE_SECONDS = 0.3
"""How long a process may clean up after itself before it is killed."""

LET_GO_SECONDS = 0.1
"""How long `Worker.close` waits for a process that it has killed to be gone; one that hangs in the system never is."""

EVENTS_FILE = "events.jsonl"
"""In the private folder of a job: what the worker says, one JSON object a line."""


class Worker:
    """`python -m IPv2Lib ARGUMENTS --json` in a process of its own, whose parent need not read along.

    Its stdout is a file in `folder`, which is also its working directory; its stderr goes to the log.

    Parameters
    ----------
    python : Path
        The interpreter.
    arguments : sequence of str or Path
        Of the `ipv2` command, without ``--json``.
    folder : Path
        Private folder of the job. The worker removes it if this process ends before the worker does.
    log : file
        Open for writing; may be closed after the call.
    environment : mapping, optional
        By default that of this process.

    Raises
    ------
    OSError
        If the process cannot be started.
    """

    def __init__(
        self,
        python: Path,
        arguments: Sequence[str | Path],
        folder: Path,
        log: BinaryIO,
        environment: Mapping[str, str] | None = None,
    ):
        path = folder / EVENTS_FILE
        with open(path, "wb") as output:
            self._process = subprocess.Popen(
                [str(python), "-m", "IPv2Lib", *map(str, arguments), "--json"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=log, cwd=folder,
                env=_environment(os.environ if environment is None else environment, folder),
                # A session of its own: Ctrl-C in a terminal is for us to handle, and what the worker has started can
                # be found after it died. On Windows: no console window.
                start_new_session=True, creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )  # fmt: skip
        self._events = open(path, "rb")  # noqa: SIM115 (closed in `close`)
        self._rest = b""
        self._ending: TreeEnd | None = None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; -N if signal N ended it."""
        return self._process.poll()

    def events(self) -> list[dict[str, Any]]:
        """What it has said since the last call. Lines that are no event, or not complete yet, are left out."""
        *lines, self._rest = (self._rest + self._events.read()).split(b"\n")
        found = []
        for line in lines:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and "event" in event:
                    found.append(event)
        return found

    def end(self) -> bool:
        """End it and everything that it started; to be called until it is true, without waiting in between."""
        self._ending = self._ending or TreeEnd(self.pid)
        over = self._ending.step()
        return self.exit_code is not None and over

    def close(self) -> None:
        """Let go of it and its file: end it if that has not happened, and what it left running when it died."""
        if self.exit_code is None:
            end_process_tree(self.pid, grace=0.0, timeout=LET_GO_SECONDS)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(LET_GO_SECONDS)
        _kill_session(self.pid)
        self._events.close()


class TreeEnd:
    """The end of a process and of all that it started: asked to end now, killed after `grace` seconds.

    Nothing here waits, so that a user interface can go on meanwhile; `end_process_tree` waits.

    Parameters
    ----------
    pid : int
        A process that was started in a session of its own may have ended already: what it left behind is found.
    grace : float
        Seconds; on Windows, where nothing can be asked to end, without effect.
    """

    def __init__(self, pid: int, grace: float = GRACE_SECONDS):
        self._pid = pid
        self._processes = _tree(pid)
        self._kill_at = time.monotonic() + grace
        self._signal_all("terminate")

    def step(self) -> bool:
        """Go on ending; true once all processes are gone."""
        for process in list(self._processes):  # what they started since
            self._processes |= _tree(process.pid) if process.is_running() else set()
        if not any(map(_is_alive, self._processes)) or time.monotonic() >= self._kill_at:
            self._signal_all("kill")
            _kill_session(self._pid)
        return not any(map(_is_alive, self._processes))

    def _signal_all(self, method: str) -> None:
        import psutil

        for process in self._processes:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                getattr(process, method)()


def end_process_tree(pid: int, grace: float = GRACE_SECONDS, timeout: float = 1.0) -> bool:
    """End a process and everything that it started, on any system; wait until all are gone.

    Parameters
    ----------
    pid : int
        Process id; one that does not exist is as good as ended.
    grace : float
        Seconds between asking (SIGTERM) and killing. Windows kills at once.
    timeout : float
        Seconds after which to give up.

    Returns
    -------
    bool
        Whether all are gone.
    """
    until = time.monotonic() + timeout
    ending = TreeEnd(pid, grace)
    while not ending.step():
        if time.monotonic() >= until:
            return False
        time.sleep(0.01)
    return True


def _environment(inherited: Mapping[str, str], folder: Path) -> dict[str, str]:
    library = str(Path(IPv2Lib.__file__).resolve().parents[1])
    search = [library, *filter(None, [inherited.get("PYTHONPATH")])]
    return {
        **inherited,
        "PYTHONPATH": os.pathsep.join(search),
        "PYTHONUTF8": "1",  # file names and log, whatever the system's language
        "PYTHONIOENCODING": "utf-8:replace",
        "PYTHONFAULTHANDLER": "1",  # a crash in native code then says in the log where
        JOB_VARIABLE: f"{os.getpid()}:{folder}",
    }


def _tree(pid: int) -> set[psutil.Process]:
    import psutil

    try:
        process = psutil.Process(pid)
        return {process, *process.children(recursive=True)}
    except psutil.Error:
        return set()


def _is_alive(process: psutil.Process) -> bool:
    # Not psutil's wait: it would take the exit code of our own child away from Popen.
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _kill_session(leader: int) -> None:
    """Kill what is left of a session that a process was started in. No new process gets its number meanwhile."""
    if hasattr(os, "killpg") and leader != os.getpgrp():
        with contextlib.suppress(OSError):
            os.killpg(leader, signal.SIGKILL)
