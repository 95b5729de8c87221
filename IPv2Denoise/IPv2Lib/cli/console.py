"""How a command talks to whoever started it: a progress bar, JSON lines, notes, the result and exit codes.

Nobody has to listen, see `streams`. Being asked to stop is `stopping`'s business, working for another process
`worker_protocol`'s. What the commands do is in `commands`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import Cancelled, InputNote, IPv2Error, OutputError, is_lack_of_memory, reason
from ..progress import Progress
from .stopping import AT_ONCE_SECONDS, StopSignals
from .streams import is_terminal, on_terminal, silence, write
from .worker_protocol import BAD_INPUT, BUG, SOME_FAILED, STOPPED, SUCCESS, heartbeat


class Console:
    """Progress, notes and the result of one command.

    On a terminal, progress is a bar on stderr; with `json_lines`, one JSON object per line on stdout; otherwise
    it is not shown. The result is a text on stdout, or one JSON object.

    Parameters
    ----------
    json_lines : bool
        Write ``{"event": "progress" | "note" | "result" | "error" | "stopped", ...}`` lines on stdout, and
        ``{"event": "alive"}`` while working for another process.

    Attributes
    ----------
    progress : Progress
        Of the whole command; cancelled when the user asks to stop, for functions that finish something before.
    """

    def __init__(self, json_lines: bool = False):
        self._json_lines = json_lines
        self._bar = None
        self._command = "ipv2"
        self._failed = 0
        self._signals = StopSignals(self.leave)
        self.progress = Progress(self._show_progress, self._signals.requested)
        self._writing = threading.RLock()

    def _show_progress(self, fraction: float, message: str) -> None:
        if self._signals.at_once:  # the interrupt was raised where Python had to swallow it
            raise KeyboardInterrupt
        fraction = min(max(fraction, 0.0), 1.0)
        if self._json_lines:
            self._event("progress", fraction=round(fraction, 4), message=message)
        elif is_terminal():
            self._show_bar(fraction, message)

    def note(self, message: str) -> None:
        """Say something that matters but stops nothing."""
        if self._json_lines:
            self._event("note", message=message)
        self._close_bar()
        write(sys.stderr, f"ipv2: note: {message}\n")

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
        return self._event("result", **facts) if self._json_lines else write(sys.stdout, f"{text}\n")

    def leave(self, message: str) -> None:
        """End this process from any thread, as one that was stopped, while the main one cannot be interrupted."""
        self._writing.acquire(timeout=AT_ONCE_SECONDS)
        self._fail("stopped", self._command, message, STOPPED)
        os._exit(STOPPED)

    def run(self, command: str, function: Callable[[], None], finish_step: bool = False) -> int:
        """Call a function and turn the way it ends into an exit code and at most one line on stderr.

        Returns
        -------
        int
            0; 1 if some of several cases failed, or, after the traceback, for a bug; 2 for an `IPv2Error`, too little
            memory or a lack of rights; 130 if stopped.
        """
        self._command = command
        try:
            with heartbeat(lambda: self._event("alive")), self._signals.heeded(finish_step), self._input_notes():
                function()
            return SOME_FAILED if self._failed else SUCCESS
        except Cancelled as stop:
            return self._fail("stopped", command, str(stop), STOPPED)
        except KeyboardInterrupt:
            message = "stopped" if finish_step else "stopped; nothing was written"
            return self._fail("stopped", command, message, STOPPED)
        except IPv2Error as error:
            return self._fail("error", command, f"error: {error}", BAD_INPUT)
        except Exception as error:
            if is_lack_of_memory(error):
                what = f" ({error})" if str(error) else ""
                text = f"error: not enough memory{what}: close other programs or use fewer slices"
                return self._fail("error", command, text, BAD_INPUT)
            if isinstance(error, PermissionError) and error.filename:  # in a folder of another user
                text = f"error: {os.fsdecode(error.filename)}: {reason(error)}: ask its owner, or give another"
                return self._fail("error", command, text, BAD_INPUT)
            self._close_bar()
            write(sys.stderr, traceback.format_exc())
            first_line = (str(error).splitlines() or [""])[0]
            message = f"{type(error).__name__}: {first_line}"
            return self._fail("error", command, message, BUG)
        finally:
            self._close_bar()
            for stream in (sys.stdout, sys.stderr):
                if write(stream, ""):
                    silence(stream)  # or Python tries once more when it ends

    def _fail(self, event: str, command: str, message: str, code: int) -> int:
        self._close_bar()
        message = " ".join(message.split())
        if self._json_lines:
            self._event(event, message=message.removeprefix("error: "), code=code)
        if code == BUG:
            message = f"bug: {message}; please report it with the lines above"
        write(sys.stderr, f"{command}: {message}\n")
        return code

    def _event(self, event: str, **facts: Any) -> str:
        line = json.dumps({"event": event, **facts}) + "\n"
        with self._writing:
            return write(sys.stdout, line)

    @contextlib.contextmanager
    def _input_notes(self) -> Iterator[None]:
        """Show what reading has to say of an input, wherever it says so."""

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, InputNote):
                self.note(str(message))
            else:
                others(message, category, *place, **more)

        with warnings.catch_warnings():
            warnings.simplefilter("always", InputNote)
            others, warnings.showwarning = warnings.showwarning, show
            yield

    def _show_bar(self, fraction: float, message: str) -> None:
        if self._bar is None:
            try:
                from tqdm import tqdm
            except ImportError:  # a bare machine that trains
                write(sys.stderr, f"\r\x1b[K{fraction:4.0%} {message}")
                return
            layout = "{percentage:3.0f} % |{bar:30}| {elapsed}, {remaining} left  {desc}"
            with on_terminal():
                self._bar = tqdm(total=1.0, bar_format=layout, leave=False, dynamic_ncols=True, desc=message)
        if self._bar is not None:
            self._bar.n = fraction
            with on_terminal():
                self._bar.set_description_str(message)  # draws

    def _close_bar(self) -> None:
        if self._bar is not None:
            with on_terminal():
                self._bar.close()
            self._bar = None
