"""How a command talks to whoever started it: a progress bar, JSON lines, exit codes, and stopping when asked.

Owns stdout, stderr and the signals while a command runs, and ends a command that works for another process (see
`jobs`) when that process is gone. What the commands do is in `cli`.

Nobody has to listen: a reader that has seen enough, a closed stream or a terminal that was hung up stop no work.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from ..errors import Cancelled, InputNote, IPv2Error, OutputError
from ..parallel.local_workers import SIGNALS

SUCCESS, BUG, BAD_INPUT, STOPPED = 0, 1, 2, 130
"""Exit codes."""

SOME_FAILED = 1
"""Exit code where there is a result and some of several cases failed; a bug has no result."""

JOB_VARIABLE = "IPV2_JOB"
"""Environment variable of a command that works for another process, in a session of its own: that process's id, a
colon, the folder of the job. The command then says twice a second that it is alive, and if that process ends, it
removes the folder and ends the session."""

HEARTBEAT_SECONDS = 0.5

_HANG_UP = getattr(signal, "SIGHUP", None)
_SAME_SECONDS = 1.0  # within which signals are one: `timeout` and `torchrun` send it to a process and to its group
_AT_ONCE_SECONDS = 1.0  # that a call into PyTorch may still take when the process is to end at once


class Console:
    """Progress, notes and the result of one command.

    On a terminal, progress is a bar on stderr; with `json_lines`, one JSON object per line on stdout; otherwise
    it is not shown. The result is a text on stdout, or one JSON object.

    Parameters
    ----------
    json_lines : bool
        Write ``{"event": "progress" | "note" | "result" | "error" | "stopped", ...}`` lines on stdout, and
        ``{"event": "alive"}`` while working for another process.
    """

    def __init__(self, json_lines: bool = False):
        self._json_lines = json_lines
        self._bar = None
        self._command = "ipv2"
        self._failed = 0
        self._stop_requested = False
        self._stop_at_once = False
        self._is_polled = False
        self._writing = threading.RLock()

    def progress(self, fraction: float, message: str) -> None:
        """Show that `fraction` (0 to 1) of the work is done; `message` says what is being done."""
        if self._stop_at_once:  # the interrupt was raised where Python had to swallow it
            raise KeyboardInterrupt
        fraction = min(max(fraction, 0.0), 1.0)
        if self._json_lines:
            self._event("progress", fraction=round(fraction, 4), message=message)
        elif _is_terminal():
            self._show_bar(fraction, message)

    def part(self, start: float, end: float) -> Callable[[float, str], None]:
        """Return a progress callback for the work between two fractions of the whole."""
        return lambda fraction, message: self.progress(start + (end - start) * fraction, message)

    def cancelled(self) -> bool:
        """Whether the user asked to stop; for functions that finish something before they stop."""
        self._is_polled = True
        return self._stop_requested

    def note(self, message: str) -> None:
        """Say something that matters but stops nothing."""
        if self._json_lines:
            self._event("note", message=message)
        self._close_bar()
        _write(sys.stderr, f"ipv2: note: {message}\n")

    def result(self, text: str, failed: int = 0, **facts: Any) -> None:
        """Say what was made and lies in files: `text` for people, `facts` for programs; and how many cases failed."""
        self._failed = failed
        if reason := self._show(text, facts):
            self.note(f"what was made is there, but could not be said ({reason})")

    def answer(self, text: str, **facts: Any) -> None:
        """Say what came out where that is all that the command is for.

        Raises
        ------
        OutputError
            It cannot be written, and somebody wants to read it.
        """
        if reason := self._show(text, facts):
            raise OutputError(f"the result could not be written ({reason}): write it to another place")

    def _show(self, text: str, facts: dict[str, Any]) -> str:
        self._close_bar()
        return self._event("result", **facts) if self._json_lines else _write(sys.stdout, f"{text}\n")

    @contextlib.contextmanager
    def stoppable(self, finish_step: bool = False) -> Iterator[None]:
        """Turn Ctrl-C, SIGTERM and a hang-up into KeyboardInterrupt, once: cleaning up is not interrupted again.

        With `finish_step`, the first one only makes `cancelled` true if somebody has asked for that before, and the
        second one, if it is not merely an echo of the first, raises.
        """
        asked: float | None = None

        def stop(_number: int, _frame: object) -> None:
            nonlocal asked
            if os.getpid() != owner:  # a forked worker: its owner decides
                return
            self._stop_requested = True
            if finish_step and asked is None and self._is_polled:
                asked = time.monotonic()
                if _is_terminal():  # os.write: print may be what was interrupted
                    os.write(2, b"\nfinishing this step; press Ctrl-C again to stop at once\n")
                return
            if asked is not None and time.monotonic() - asked < _SAME_SECONDS:
                return
            self._stop_at_once = True
            for number in previous:
                signal.signal(number, signal.SIG_IGN)
            raise KeyboardInterrupt

        owner = os.getpid()
        previous = {number: signal.getsignal(number) for number in SIGNALS}
        if previous.get(_HANG_UP) == signal.SIG_IGN:  # by nohup
            del previous[_HANG_UP]
        for number in previous:
            signal.signal(number, stop)
        try:
            with self._seen_at_once() if finish_step else contextlib.nullcontext():
                yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    @contextlib.contextmanager
    def _seen_at_once(self) -> Iterator[None]:
        """See signals from a thread: the main one runs no handler before a call into PyTorch returns."""
        if os.name != "posix":
            yield
            return
        seen, signalled = os.pipe()
        os.set_blocking(signalled, False)

        def watch() -> None:
            asked: float | None = None
            while number := os.read(seen, 1):
                if number[0] not in SIGNALS:
                    continue
                if asked is None and self._is_polled:
                    asked, self._stop_requested = time.monotonic(), True
                elif asked is None or time.monotonic() - asked > _SAME_SECONDS:
                    if not over.wait(_AT_ONCE_SECONDS):
                        self.leave("stopped at once; what was saved before stays")
                    return

        over = threading.Event()
        before = signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
        watcher = threading.Thread(target=watch, name="signals", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            signal.set_wakeup_fd(before)
            os.close(signalled)
            watcher.join()
            os.close(seen)

    def leave(self, message: str) -> None:
        """End this process from any thread, as one that was stopped, while the main one cannot be interrupted."""
        self._writing.acquire(timeout=_AT_ONCE_SECONDS)
        self._fail("stopped", self._command, message, STOPPED)
        os._exit(STOPPED)

    def run(self, command: str, function: Callable[[], None], finish_step: bool = False) -> int:
        """Call a function and turn the way it ends into an exit code and at most one line on stderr.

        Returns
        -------
        int
            0; 1 if some of several cases failed, or, after the traceback, for a bug; 2 for an `IPv2Error` or too little
            memory; 130 if stopped.
        """
        self._command = command
        try:
            with self._heartbeat(), self.stoppable(finish_step), self._input_notes():
                function()
            return SOME_FAILED if self._failed else SUCCESS
        except Cancelled as stop:
            return self._fail("stopped", command, str(stop), STOPPED)
        except KeyboardInterrupt:
            message = "stopped" if finish_step else "stopped; nothing was written"
            return self._fail("stopped", command, message, STOPPED)
        except IPv2Error as error:
            return self._fail("error", command, f"error: {error}", BAD_INPUT)
        except MemoryError as error:
            reason = f" ({error})" if str(error) else ""
            return self._fail(
                "error",
                command,
                f"error: not enough memory{reason}: close other programs or use fewer slices",
                BAD_INPUT,
            )
        except Exception as error:
            self._close_bar()
            _write(sys.stderr, traceback.format_exc())
            first_line = (str(error).splitlines() or [""])[0]
            message = f"{type(error).__name__}: {first_line}"
            return self._fail("error", command, message, BUG)
        finally:
            self._close_bar()
            for stream in (sys.stdout, sys.stderr):
                if _write(stream, ""):
                    _silence(stream)  # or Python tries once more when it ends

    def _fail(self, event: str, command: str, message: str, code: int) -> int:
        self._close_bar()
        message = " ".join(message.split())
        if self._json_lines:
            self._event(event, message=message.removeprefix("error: "), code=code)
        if code == BUG:
            message = f"bug: {message}; please report it with the lines above"
        _write(sys.stderr, f"{command}: {message}\n")
        return code

    def _event(self, event: str, **facts: Any) -> str:
        line = json.dumps({"event": event, **facts}) + "\n"
        with self._writing:
            return _write(sys.stdout, line)

    @contextlib.contextmanager
    def _input_notes(self) -> Iterator[None]:
        """Show what reading has to say of an input, wherever it says so."""

        def show(message: Warning, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, InputNote):
                self.note(str(message))
            else:
                others(message, category, *place, **more)

        with warnings.catch_warnings():
            warnings.simplefilter("always", InputNote)
            others, warnings.showwarning = warnings.showwarning, show
            yield

    @contextlib.contextmanager
    def _heartbeat(self) -> Iterator[None]:
        """Say from a thread that the command is alive, and end it with the process that it works for."""
        owner, _, folder = os.environ.pop(JOB_VARIABLE, "").partition(":")  # not for processes started from here
        if not owner:
            yield
            return
        done = threading.Event()

        def beat() -> None:
            import psutil

            try:
                process = psutil.Process(int(owner))
                while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    if done.wait(HEARTBEAT_SECONDS):
                        return
                    self._event("alive")
            except psutil.NoSuchProcess:
                pass
            _leave(Path(folder))

        self._event("alive")
        threading.Thread(target=beat, name="heartbeat", daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def _show_bar(self, fraction: float, message: str) -> None:
        if self._bar is None:
            try:
                from tqdm import tqdm
            except ImportError:  # a bare machine that trains
                _write(sys.stderr, f"\r\x1b[K{fraction:4.0%} {message}")
                return
            layout = "{percentage:3.0f} % |{bar:30}| {elapsed}, {remaining} left  {desc}"
            with _on_terminal():
                self._bar = tqdm(total=1.0, bar_format=layout, leave=False, dynamic_ncols=True, desc=message)
        if self._bar is not None:
            self._bar.n = fraction
            with _on_terminal():
                self._bar.set_description_str(message)  # draws

    def _close_bar(self) -> None:
        if self._bar is not None:
            with _on_terminal():
                self._bar.close()
            self._bar = None


def open_standard_streams() -> None:
    """Open what this process was started without, to nowhere: or else the next file that is opened takes its place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115


def end_process(code: int) -> NoReturn:
    """End this process with the exit code of its command, whatever is signalled meanwhile.

    VTK's objects, when an interrupted drawing has left them where they were, crash while Python takes itself apart.
    """
    with contextlib.suppress(ValueError):  # not the main thread
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    if "vtkmodules" in sys.modules:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            _write(stream, "")
        os._exit(code)
    sys.exit(code)


def _write(stream: TextIO, text: str) -> str:
    """Write to a stream, all of it now; why that failed, unless nobody wants to read it."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:  # the reader, `head` for instance, has seen enough
        _silence(stream)
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


def _silence(stream: TextIO) -> None:
    """Let what is written to a stream, and what waits in it, go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def _on_terminal() -> Iterator[None]:
    """Around what draws on stderr: a terminal that was hung up is none any more."""
    try:
        yield
    except (OSError, ValueError):
        _silence(sys.stderr)


def _is_terminal() -> bool:
    with contextlib.suppress(ValueError):
        return sys.stderr.isatty()
    return False


def _leave(folder: Path) -> None:
    """End this process and what it started, at once and without a trace but a line in the log."""
    sys.setswitchinterval(1e-5)  # the command goes on meanwhile, and would keep this thread waiting
    _write(sys.stderr, "ipv2: stopped: the program that this worked for has ended\n")
    # Windows removes neither the working directory nor an open file, and stdout is a file in the folder.
    os.chdir(tempfile.gettempdir())
    with contextlib.suppress(OSError):
        os.close(1)
    for _ in range(100):  # the command may just be writing into the folder
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)  # the session that the job was given, this process included
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(STOPPED)
