"""Slices beside each other in threads of this process: the filters of scipy and numpy let others run meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ..progress import NO_PROGRESS, Progress

T = TypeVar("T")


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def over_slices(work: Callable[[int], T], slices: int, progress: Progress = NO_PROGRESS, doing: str = "") -> list[T]:
    """Call `work(index)` for every slice, in as many threads as there are `cores`.

    Parameters
    ----------
    work : callable
        Of the number of a slice.
    slices : int
    progress : Progress
        Hears `doing` after every slice.

    Returns
    -------
    list
        What `work` returned, in the order of the slices.

    Examples
    --------
    >>> over_slices(lambda index: 10 * index, 3)
    [0, 10, 20]
    """
    results = []
    with ThreadPoolExecutor(cores()) as threads:
        for result in threads.map(work, range(slices)):
            results.append(result)
            progress.report(len(results) / slices, doing)
    return results
