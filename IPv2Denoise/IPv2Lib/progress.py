"""How far long work is, and whether to go on with it: one object that functions hand down, each with its share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .errors import Cancelled


def _to_nobody(fraction: float, message: str) -> None:
    pass


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Progress:
    """Who hears of the progress of long work, and who may stop it.

    Parameters
    ----------
    show : callable
        Called with the fraction that is done (0 to 1) and a text that says what is being done; by default nobody is.
    cancelled : callable
        Asked now and then; once it returns True, the work stops. By default nobody is asked.

    Examples
    --------
    >>> progress = Progress(lambda fraction, message: print(f"{fraction:.0%} {message}"))
    >>> progress.report(0.1, "reading")
    10% reading
    >>> progress.part(0.2, 0.8, "scan 1").report(0.5, "denoising")
    50% scan 1: denoising
    >>> Progress(cancelled=lambda: True).check("denoising was cancelled")
    Traceback (most recent call last):
        ...
    IPv2Lib.errors.Cancelled: denoising was cancelled
    """

    show: Callable[[float, str], None] = _to_nobody
    cancelled: Callable[[], bool] = _never

    def report(self, fraction: float, message: str) -> None:
        """Say that `fraction` (0 to 1) of the work is done, and what is being done."""
        self.show(fraction, message)

    def check(self, message: str = "cancelled") -> None:
        """Raise `Cancelled` with this message if the work is to stop."""
        if self.cancelled():
            raise Cancelled(message)

    def part(self, start: float, stop: float, what: str = "") -> Progress:
        """Progress of the share of the work between two fractions of the whole; `what` precedes its messages."""

        def show(fraction: float, message: str) -> None:
            self.show(start + (stop - start) * fraction, f"{what}: {message}" if what else message)

        return Progress(show, self.cancelled)

    def silent(self) -> Progress:
        """Work that says nothing, and can be cancelled all the same."""
        return Progress(cancelled=self.cancelled)


NO_PROGRESS = Progress()
"""For work that nobody watches or stops."""
