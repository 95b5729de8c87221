"""How a command talks to whoever started it: a progress bar, JSON lines, exit codes, and stopping when asked.

Owns stdout, stderr and the signals while a command runs, and ends a command that works for another process (see
`jobs`) when that process is gone. What the commands do is in `cli`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .errors import Cancelled, InputNote, IPv2Error

SUCCESS, BUG, BAD_INPUT, STOPPED = 0, 1, 2, 130
"""Exit codes."""

JOB_VARIABLE = "IPV2_JOB"
"""Environment variable of a command that works for another process, in a session of its own: that process's id, a
colon, the folder of the job. The command then says twice a second that it is alive, and if that process ends, it
removes the folder and ends the session."""

HEARTBEAT_SECONDS = 0.5


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
        self._stop_requested = False
        self._writing = threading.Lock()

    def progress(self, fraction: float, message: str) -> None:
        """Show that `fraction` (0 to 1) of the work is done; `message` says what is being done."""
        if self._stop_requested:  # the interrupt was raised where Python had to swallow it
            raise KeyboardInterrupt
        fraction = min(max(fraction, 0.0), 1.0)
        if self._json_lines:
            self._event("progress", fraction=round(fraction, 4), message=message)
        elif sys.stderr.isatty():
            self._show_bar(fraction, message)

    def part(self, start: float, end: float) -> Callable[[float, str], None]:
        """Return a progress callback for the work between two fractions of the whole."""
        return lambda fraction, message: self.progress(start + (end - start) * fraction, message)

    def cancelled(self) -> bool:
        """Whether the user asked to stop; for functions that finish something before they stop."""
        return self._stop_requested

    def note(self, message: str) -> None:
        """Say something that matters but stops nothing."""
        if self._json_lines:
            self._event("note", message=message)
        self._close_bar()
        print(f"ipv2: note: {message}", file=sys.stderr)

    def result(self, text: str, **facts: Any) -> None:
        """Say what came out: `text` for people, `facts` for programs."""
        self._close_bar()
        if self._json_lines:
            self._event("result", **facts)
        else:
            print(text, flush=True)

    @contextlib.contextmanager
    def stoppable(self, finish_step: bool = False) -> Iterator[None]:
        """Turn Ctrl-C and SIGTERM into KeyboardInterrupt, once: cleaning up is not interrupted again.

        With `finish_step`, the first one only makes `cancelled` true, and the second one raises.
        """

        def stop(_signal: int, _frame: object) -> None:
            if os.getpid() != owner:  # a forked worker: its owner decides
                if _signal == signal.SIGTERM:
                    os._exit(STOPPED)
                return
            if finish_step and not self._stop_requested:
                self._stop_requested = True
                if sys.stderr.isatty():  # os.write: print may be what was interrupted
                    os.write(2, b"\nfinishing this step; press Ctrl-C again to stop at once\n")
                return
            self._stop_requested = True
            for number in previous:
                signal.signal(number, signal.SIG_IGN)
            raise KeyboardInterrupt

        owner = os.getpid()
        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in previous:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def run(self, command: str, function: Callable[[], None], finish_step: bool = False) -> int:
        """Call a function and turn the way it ends into an exit code and at most one line on stderr.

        Returns
        -------
        int
            0; 2 for an `IPv2Error` or too little memory; 130 if stopped; 1, after the traceback, for a bug.
        """
        try:
            with self._heartbeat(), self.stoppable(finish_step), self._input_notes():
                function()
                sys.stdout.flush()
            return SUCCESS
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
                "error", command, f"error: not enough memory{reason}: close other programs or use fewer slices",
                BAD_INPUT,
            )
        except BrokenPipeError:  # the reader, `head` for instance, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return SUCCESS
        except Exception as error:
            self._close_bar()
            traceback.print_exc()
            first_line = (str(error).splitlines() or [""])[0]
            message = f"{type(error).__name__}: {first_line}"
            return self._fail("error", command, message, BUG)
        finally:
            self._close_bar()

    def _fail(self, event: str, command: str, message: str, code: int) -> int:
        self._close_bar()
        message = " ".join(message.split())
        if self._json_lines:
            with contextlib.suppress(BrokenPipeError):
                self._event(event, message=message.removeprefix("error: "), code=code)
        if code == BUG:
            message = f"bug: {message}; please report it with the lines above"
        print(f"{command}: {message}", file=sys.stderr)
        return code

    def _event(self, event: str, **facts: Any) -> None:
        line = json.dumps({"event": event, **facts}) + "\n"
        with self._writing:
            sys.stdout.write(line)
            sys.stdout.flush()

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
                print(f"\r\x1b[K{fraction:4.0%} {message}", end="", file=sys.stderr, flush=True)
                return
            layout = "{percentage:3.0f} % |{bar:30}| {elapsed}, {remaining} left  {desc}"
            self._bar = tqdm(total=1.0, bar_format=layout, leave=False, dynamic_ncols=True, desc=message)
        self._bar.n = fraction
        self._bar.set_description_str(message)  # draws

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _leave(folder: Path) -> None:
    """End this process and what it started, at once and without a trace but a line in the log."""
    sys.setswitchinterval(1e-5)  # the command goes on meanwhile, and would keep this thread waiting
    print("ipv2: stopped: the program that this worked for has ended", file=sys.stderr, flush=True)
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
