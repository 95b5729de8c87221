"""Qt's event loop as Slicer runs it: without letting go of Python's lock, so that Python threads starve meanwhile.

PySide6 lets threads run while Qt waits, PythonQt does not. Code that relies on threads therefore works here and
stands still in Slicer, unless Qt is called without PySide6 in between.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from PySide6 import QtCore

_SYMBOL = "_ZN16QCoreApplication13processEventsE6QFlagsIN10QEventLoop17ProcessEventsFlagEE"
_WAIT_FOR_MORE, _DEFERRED_DELETE = 0x04, 52
_TICK_MS = 5


def _starving_call():
    """QCoreApplication::processEvents(flags) that keeps the lock, or None where it cannot be found."""
    if not sys.platform.startswith("linux"):
        return None
    library = Path(QtCore.__file__).parent / "Qt" / "lib" / "libQt6Core.so.6"
    try:
        function = getattr(ctypes.PyDLL(str(library)), _SYMBOL)
    except (OSError, AttributeError):
        return None
    function.restype, function.argtypes = None, (ctypes.c_int,)
    return function


class EventLoop:
    """Runs events, and measures the longest time during which none could run.

    A gap is what a timer of 5 ms comes late; only time spent inside of `run` counts.
    """

    def __init__(self, keep_lock: bool = True):
        self._call = _starving_call() if keep_lock else None
        self._timer = QtCore.QTimer()
        self._timer.setTimerType(QtCore.Qt.PreciseTimer)
        self._timer.setInterval(_TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._last = self._longest = 0.0

    def run(self, seconds: float, until=None) -> bool:
        """Run events for a time, or until a function returns true; returns whether it did."""
        deadline = time.monotonic() + seconds
        self._last = time.monotonic()
        self._timer.start()
        try:
            while True:
                self._step()
                if until is not None and until():
                    return True
                if time.monotonic() >= deadline:
                    return False
        finally:
            self._timer.stop()

    def reset(self) -> None:
        """Forget the longest gap."""
        self._longest = 0.0

    def longest(self) -> float:
        """Seconds of the longest gap since `reset`."""
        return self._longest

    def _step(self) -> None:
        # The timer wakes the loop at least every 5 ms.
        if self._call is not None:
            self._call(_WAIT_FOR_MORE)
        else:
            QtCore.QCoreApplication.processEvents(QtCore.QEventLoop.WaitForMoreEvents)
        QtCore.QCoreApplication.sendPostedEvents(None, _DEFERRED_DELETE)

    def _tick(self) -> None:
        now = time.monotonic()
        self._longest = max(self._longest, now - self._last - _TICK_MS / 1000)
        self._last = now


@contextlib.contextmanager
def waits_counted() -> Iterator[list[float]]:
    """Seconds that this thread asked to sleep, or waited for another one in vain; no busy machine makes them more."""
    waits: list[float] = []
    thread, sleep, wait = threading.get_ident(), time.sleep, threading.Event.wait

    def counted_sleep(seconds: float) -> None:
        if threading.get_ident() == thread:
            waits.append(seconds)
        sleep(seconds)

    def counted_wait(event: threading.Event, timeout: float | None = None) -> bool:
        happened = wait(event, timeout)
        if not happened and threading.get_ident() == thread:
            waits.append(timeout or 0.0)
        return happened

    time.sleep, threading.Event.wait = counted_sleep, counted_wait
    try:
        yield waits
    finally:
        time.sleep, threading.Event.wait = sleep, wait
