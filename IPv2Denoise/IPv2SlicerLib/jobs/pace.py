"""How long a job still takes."""

from __future__ import annotations

import time


class Pace:
    """How long the rest of the work takes, judged by the part of it that is done.

    Loading comes before the first progress and tells nothing, so the clock starts with the first step that is seen.
    """

    LEAST_SECONDS, LEAST_FRACTION = 1.0, 0.01

    def __init__(self):
        self._first: tuple[float, float] | None = None
        self._last: tuple[float, float] | None = None

    def add(self, fraction: float) -> None:
        now = (time.monotonic(), fraction)
        if fraction > 0 and (self._last is None or fraction > self._last[1]):
            self._first = self._first or now
            self._last = now

    def remaining(self) -> float | None:
        if self._last is None:
            return None
        (began, start), (last, fraction) = self._first, self._last
        if last - began < self.LEAST_SECONDS or fraction - start < self.LEAST_FRACTION:
            return None
        whole = (last - began) * (1 - fraction) / (fraction - start)
        return max(0.0, whole - (time.monotonic() - last))
