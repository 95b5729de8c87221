"""Slices beside each other in threads of this process: the filters of scipy and numpy let others run meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ..progress import NO_PROGRESS, Progress

T = TypeVar("T")


def over_slices(work: Callable[[int], T], slices: int, progress: Progress = NO_PROGRESS, doing: str = "") -> list[T]:
    """Call `work(index)` for every slice, in as many threads as there are processors.

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
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for result in threads.map(work, range(slices)):
            results.append(result)
            progress.report(len(results) / slices, doing)
    return results
