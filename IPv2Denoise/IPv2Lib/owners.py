"""Which process something belongs to, and whether that process still lives: for locks and for what a killed one left.

Works without psutil, as on a bare machine that trains; process numbers that are used again are then not noticed.
"""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

_SAME_START_SECONDS = 5.0  # within which two readings of when a process began agree


@dataclass(frozen=True)
class Owner:
    """A process.

    Attributes
    ----------
    host : str
        Name of its machine.
    pid : int
        Its number there.
    began : float or None
        When it began, seconds since 1970; None where that cannot be known.
    """

    host: str
    pid: int
    began: float | None = None

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return self.host == platform.node()

    @property
    def is_dead(self) -> bool:
        """Whether it has certainly ended; of another machine's process nobody here can tell."""
        return self.is_here and not _lives(self.pid, self.began)


def this_process() -> Owner:
    """The process that calls."""
    return _owner_of(os.getpid())  # a forked one is another


@lru_cache
def _owner_of(pid: int) -> Owner:
    began = None
    with suppress(ImportError):
        import psutil

        began = psutil.Process(pid).create_time()
    return Owner(platform.node(), pid, began)


def _lives(pid: int, began: float | None) -> bool:
    try:
        import psutil
    except ImportError:
        return _is_there(pid)
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        same = began is None or abs(process.create_time() - began) < _SAME_START_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    return False


def _is_there(pid: int) -> bool:
    if os.name != "posix":
        return True  # signal 0 would end it
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True
