"""Doing something once, a little later, however often it was asked for meanwhile."""

from collections.abc import Callable

import qt


def singleShot(msec: int, function: Callable[[], None]):
    """A timer that calls a function once, some milliseconds after its last `start()`."""
    timer = qt.QTimer()
    timer.setSingleShot(True)
    timer.setInterval(msec)
    timer.timeout.connect(function)
    return timer
