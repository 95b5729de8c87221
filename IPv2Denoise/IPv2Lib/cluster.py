"""The same work on many cases: in this process, on processes of this machine, or on a Dask cluster.

Owns who does which case, trying again, and what is known of a case that failed. What the work is, the caller says.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from .errors import Cancelled, InputError, IPv2Error

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 10
"""How long a scheduler may take to answer."""

_POLL_SECONDS = 0.1


class Work(Protocol):
    """What is done with one item: a function at file scope of a module that every worker can import."""

    def __call__(self, item: Any, *, progress: Callable[[float, str], None], cancelled: Callable[[], bool]) -> Any:
        """Return something that can be pickled. Progress is seen, and cancelling works within an item, only where
        the item is done in the calling process."""


@dataclass(frozen=True)
class Outcome:
    """What became of one item.

    Attributes
    ----------
    item : the item
    value : what the function returned; None if it failed
    error : one line that says why it failed; empty if it did not
    attempts : how often it was tried; 0 if never
    details : the traceback of an error that is none of the library's own; it is logged, too
    """

    item: Any
    value: Any = None
    error: str = ""
    attempts: int = 0
    details: str = ""


def run(
    function: Work,
    items: Sequence[Any],
    *,
    workers: int = 1,
    scheduler: str | None = None,
    retries: int = 1,
    finished: Callable[[Outcome], None] | None = None,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Outcome]:
    """Call a function for every item. No failure stops the others.

    Parameters
    ----------
    function : Work
    items : sequence
        What can be pickled, if there are workers. `str(item)` is shown as progress.
    workers : int
        1: one item after another in this process. More: so many processes of this machine, by Dask.
    scheduler : str, optional
        Address of a Dask scheduler, such as "tcp://host:8786", whose workers do it instead. They need this library
        and the same files under the same paths.
    retries : int
        How often an item is tried again that failed. An `InputError` is final: the same input fails again.
    finished
        Called with each outcome as soon as there is one, in the calling thread.
    progress, cancelled
        Called with (fraction, text); polled.

    Returns
    -------
    list of Outcome
        In the order of the items.

    Raises
    ------
    InputError
        Numbers out of range, Dask is not installed, or no scheduler answers.
    Cancelled
        If `cancelled` returned True. Outcomes up to then were given to `finished`.
    """
    if not items:
        _check(workers, retries)
        return []
    with crew(min(workers, len(items)) if workers > 1 else workers, scheduler, retries) as hired:
        return hired.run(function, items, finished=finished, progress=progress, cancelled=cancelled)


@contextmanager
def crew(workers: int = 1, scheduler: str | None = None, retries: int = 1) -> Iterator[Crew]:
    """Who does the work, for several calls: processes take seconds to start. Parameters and errors as for `run`."""
    _check(workers, retries)
    if scheduler is None and workers == 1:
        yield Crew(None, retries)
        return
    with _client(workers, scheduler, retries) as client:
        yield Crew(client, retries)


class Crew:
    """See `crew`."""

    def __init__(self, client: Client | None, retries: int):
        self._client = client
        self._retries = retries

    def run(
        self,
        function: Work,
        items: Sequence[Any],
        *,
        finished: Callable[[Outcome], None] | None = None,
        progress: Callable[[float, str], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Outcome]:
        """As the function `run`."""
        tell, stop = progress or (lambda fraction, text: None), cancelled or (lambda: False)
        outcomes: list[Outcome | None] = [None] * len(items)
        for index, outcome in (self._here if self._client is None else self._there)(function, items, tell, stop):
            outcomes[index] = outcome
            if outcome.details:
                logging.getLogger(__name__).error("%s\n%s", outcome.item, outcome.details)
            if finished:
                finished(outcome)
        return outcomes

    def _here(self, function, items, tell, stop) -> Iterator[tuple[int, Outcome]]:
        for index, item in enumerate(items):

            def part(fraction: float, text: str, index: int = index) -> None:
                tell((index + fraction) / len(items), text)

            if stop():
                raise Cancelled(_CANCELLED)
            part(0.0, str(item))
            yield index, _attempted(function, item, self._retries, part, stop)

    def _there(self, function, items, tell, stop) -> Iterator[tuple[int, Outcome]]:
        futures = {
            index: self._client.submit(_attempted, function, item, self._retries, pure=False)
            for index, item in enumerate(items)
        }
        tell(0.0, f"0 of {len(items)} done")
        while futures:
            if stop():
                self._client.cancel(list(futures.values()))
                raise Cancelled(_CANCELLED)
            ready = [index for index, future in futures.items() if future.done()]
            if not ready:
                time.sleep(_POLL_SECONDS)
            for index in ready:
                yield index, _outcome(futures.pop(index), items[index], self._retries)
                done = len(items) - len(futures)
                tell(done / len(items), f"{done} of {len(items)} done, {items[index]}")


def _check(workers: int, retries: int) -> None:
    if workers < 1 or retries < 0:
        raise InputError(f"{workers} workers and {retries} retries: use at least 1 worker and 0 retries")


_CANCELLED = "stopped; what was finished stays"


def _attempted(function, item, retries, progress=None, cancelled=None) -> Outcome:
    """Runs where the work is done; its errors come back as text, since not every one can be pickled."""
    outcome = Outcome(item)
    for attempt in range(1, retries + 2):
        try:
            value = function(
                item, progress=progress or (lambda fraction, text: None), cancelled=cancelled or (lambda: False)
            )
            return Outcome(item, value, attempts=attempt)
        except Cancelled:
            raise
        except InputError as error:
            return Outcome(item, error=_line(error), attempts=attempt)
        except Exception as error:
            outcome = replace(outcome, error=_line(error), attempts=attempt, details=traceback.format_exc())
    return outcome


def _outcome(future: Future, item: Any, retries: int) -> Outcome:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker:
        reason = "the process that worked on it died each time (out of memory?): use fewer workers"
        return Outcome(item, error=reason, attempts=retries + 1)
    except Exception as error:  # its answer could not be sent, or the connection broke
        return Outcome(item, error=_line(error), attempts=1, details=traceback.format_exc())


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, IPv2Error) and text else f"{type(error).__name__}: {text}".rstrip(": ")


@contextmanager
def _client(workers: int, scheduler: str | None, retries: int) -> Iterator[Client]:
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise InputError(
            f"several workers need Dask, which is not installed ({error}): pip install dask distributed"
        ) from error
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=CONNECT_SECONDS)
        except (OSError, ValueError, TimeoutError) as error:
            raise InputError(
                f"no Dask scheduler answers at {scheduler} ({_line(error)}): start one with 'dask scheduler' and "
                "workers with 'dask worker', or leave it out"
            ) from error
        with client:
            yield client
        return
    # The arrays of a shard are mapped into memory, which would count as the worker's own: so no limit on memory.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": max(retries, 1)}),
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, memory_limit=0, dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        yield client
