"""How the classical filters of the product are tuned for the quality benchmark, which knows them by their labels.

Strengths lie on a long grid; tuning walks down it from where it is told to start until the best one has a worse one on
either side. What the filters do, and the rule for their strength in the product, is `IPv2Lib.inference.filters`'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from IPv2Lib.inference import filters


def _geometric(first: float, last: float, factor: float) -> tuple[float, ...]:
    count = int(np.ceil(np.log(last / first) / np.log(factor))) + 1
    return tuple(float(f"{first * factor**k:.3g}") for k in range(count))


FILTERS = {each.label: each for each in filters.FILTERS.values()}
CHEAP = tuple(filters.FILTERS[name].label for name in ("gaussian", "median", "tv"))
_GRIDS = {
    "gaussian": _geometric(0.2, 8.0, 1.25),
    "median": tuple(range(1, 22, 2)),
    "bilateral": _geometric(10.0, 8000.0, 1.5),
    "tv": _geometric(2.0, 3000.0, 1.4),
    "nlm": _geometric(3.0, 1500.0, 1.35),
    "bm3d": _geometric(2.0, 1000.0, 1.4),
}
_DURATIONS = _geometric(0.02, 30.0, 1.5)
STRENGTHS = {each.label: _GRIDS.get(each.name, _DURATIONS) for each in filters.FILTERS.values()}
"""The strengths to choose from by label, weakest first."""


@dataclass(frozen=True)
class Tuned:
    """The best strength of a filter, its error (HU), and whether worse ones lie on both sides of it."""

    strength: float
    error_hu: float
    inside: bool


def filtered(image: np.ndarray, name: str, strength: float, body: np.ndarray | None = None) -> np.ndarray:
    """One slice through a filter; where the body is given, only the box around it, as nothing else is measured."""
    image = np.asarray(image, np.float32)
    if body is None or not body.any():
        return FILTERS[name](image, strength)
    margin = 16
    box = tuple(
        slice(max(0, int(used[0]) - margin), int(used[-1]) + 1 + margin)
        for used in (np.flatnonzero(body.any(axis)) for axis in (1, 0))
    )
    result = image.copy()
    result[box] = FILTERS[name](image[box], strength)
    return result


def tune(strengths: Sequence[float], error: Callable[[float], float], start: int | None = None) -> Tuned:
    """Walk along the strengths to where the error is least.

    Parameters
    ----------
    strengths : sequence of float
    error : callable
        HU for a strength.
    start : int, optional
        Where on the grid to begin; the middle if not given.

    Examples
    --------
    >>> tune(range(10), lambda strength: (strength - 7) ** 2, start=2)
    Tuned(strength=7, error_hu=0, inside=True)
    """
    known: dict[int, float] = {}

    def at(place: int) -> float:
        if place not in known:
            known[place] = error(strengths[place])
        return known[place]

    last = len(strengths) - 1
    place = min(max(len(strengths) // 2 if start is None else start, 0), last)
    while True:
        around = [k for k in (place - 1, place, place + 1) if 0 <= k <= last]
        best = min(around, key=at)
        if best == place:
            return Tuned(strengths[place], at(place), 0 < place < last)
        place = best
