"""What a node says of its work: JSON lines that name no patient, and counts of them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

ERRORS = ("aside", "away", "error", "refused")
"""Events of something that went wrong; the last one is shown by the status."""


class Log:
    """Lines of a node's log.

    A series is named by its key, a salted hash. What errors of DICOM files say may hold more, and stays in the queue.

    Parameters
    ----------
    write : callable
        Gets each line as a dict; called by one thread at a time.

    Attributes
    ----------
    counts : Counter
        How often each event came.
    last_error : dict or None
        The last line of an event of `ERRORS`.
    """

    def __init__(self, write: Callable[[dict[str, Any]], object]):
        self._write = write
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.last_error: dict[str, Any] | None = None

    def say(self, event: str, **facts: Any) -> None:
        """Write one line."""
        line = {"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), "event": event, **facts}
        with self._lock:
            self.counts[event] += 1
            if event in ERRORS:
                self.last_error = line
            self._write(line)
