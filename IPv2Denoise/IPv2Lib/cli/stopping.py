"""Being asked to stop: Ctrl-C, SIGTERM and a hang-up while a command runs, and the end of its process.

Owns the signals.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from ..parallel.local_workers import SIGNALS
from .streams import is_terminal, write

AT_ONCE_SECONDS = 1.0
"""That a call into PyTorch may still take when the process is to end at once."""

_HANG_UP = getattr(signal, "SIGHUP", None)
_AGAIN_SECONDS = 0.01
_SAME_SECONDS = 1.0  # within which signals are one: `timeout` and `torchrun` send it to a process and to its group


class StopSignals:
    """What was signalled to this process.

    Parameters
    ----------
    leave : callable
        Called with a sentence, from another thread, where the main one cannot be interrupted; ends the process.

    Attributes
    ----------
    at_once : bool
        Whether the work was interrupted.
    """

    def __init__(self, leave: Callable[[str], None]):
        self.at_once = False
        self._leave = leave
        self._requested = False
        self._is_polled = False

    def requested(self) -> bool:
        """Whether the user asked to stop; for functions that finish something before they stop."""
        self._is_polled = True
        return self._requested

    @contextlib.contextmanager
    def heeded(self, finish_step: bool = False) -> Iterator[None]:
        """Turn Ctrl-C, SIGTERM and a hang-up into KeyboardInterrupt, once: cleaning up is not interrupted again.

        With `finish_step`, the first one only makes `requested` true if somebody has asked for that before, and the
        second one, if it is not merely an echo of the first, raises.
        """
        asked: float | None = None

        def stop(_number: int, _frame: object) -> None:
            nonlocal asked
            if os.getpid() != owner:  # a forked worker: its owner decides
                return
            self._requested = True
            if finish_step and asked is None and self._is_polled:
                asked = time.monotonic()
                if is_terminal():  # os.write: print may be what was interrupted
                    os.write(2, b"\nfinishing this step; press Ctrl-C again to stop at once\n")
                return
            if asked is not None and time.monotonic() - asked < _SAME_SECONDS:
                return
            self.at_once = True
            for number in previous:
                signal.signal(number, signal.SIG_IGN)
            raise KeyboardInterrupt

        def ignored(what: sys.UnraisableHookArgs) -> None:
            if os.getpid() != owner or not isinstance(what.exc_value, KeyboardInterrupt):
                print_ignored(what)
                return
            signal.signal(signal.SIGINT, again)
            interrupting.append(threading.Thread(target=interrupt, daemon=True))
            interrupting[-1].start()

        def interrupt() -> None:
            time.sleep(_AGAIN_SECONDS)
            _thread.interrupt_main()

        def again(_number: int, _frame: object) -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            raise KeyboardInterrupt

        owner = os.getpid()
        interrupting: list[threading.Thread] = []
        # What is raised within a callback, as at the end of an import, goes no further.
        print_ignored, sys.unraisablehook = sys.unraisablehook, ignored
        previous = {number: signal.getsignal(number) for number in SIGNALS}
        if previous.get(_HANG_UP) == signal.SIG_IGN:  # by nohup
            del previous[_HANG_UP]
        for number in previous:
            signal.signal(number, stop)
        try:
            with self._seen_at_once() if finish_step else contextlib.nullcontext():
                yield
        finally:
            sys.unraisablehook = print_ignored
            if interrupting:  # what they still do must not meet the handlers from before
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                for thread in interrupting:
                    thread.join()
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
                    asked, self._requested = time.monotonic(), True
                elif asked is None or time.monotonic() - asked > _SAME_SECONDS:
                    if not over.wait(AT_ONCE_SECONDS):
                        self._leave("stopped at once; what was saved before stays")
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


def end_process(code: int) -> NoReturn:
    """End this process with the exit code of its command, whatever is signalled meanwhile.

    Threads that are within PyTorch crash while Python takes itself apart.
    """
    with contextlib.suppress(ValueError):  # not the main thread
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    if "torch" in sys.modules:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            write(stream, "")
        os._exit(code)
    sys.exit(code)
