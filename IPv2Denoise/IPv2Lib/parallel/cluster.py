"""The same work on many cases: in this process, on processes of this machine, or on a Dask cluster.

Owns who does which case, trying again, and what is known of a case that failed. What the work is, the caller says.
Processes of this machine are `local_workers`, which nobody else can reach. A Dask cluster is somebody else's, and as
safe as that has made it: whoever can talk to its scheduler can run programs on its workers.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from .. import packages
from ..errors import Cancelled, InputError, IPv2Error, OutputError, is_lack_of_memory, reason
from ..progress import NO_PROGRESS, Progress
from .local_workers import Died, LocalWorkers, local_workers

if TYPE_CHECKING:
    from distributed import Client, Future, Security

CONNECT_SECONDS = 10
"""How long a scheduler may take to answer."""

_POLL_SECONDS = 0.1


class Work(Protocol):
    """What is done with one item: a function at file scope of a module that every worker can import."""

    def __call__(self, item: Any, /, *, progress: Progress) -> Any:
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


@dataclass(frozen=True)
class Scheduler:
    """A Dask scheduler with TLS, and the PEM files that it asks for.

    Attributes
    ----------
    address : str
        Such as "tls://host:8786".
    ca : path
        Of the authority that signed the scheduler's certificate.
    cert, key : path
        Who we are, signed by that authority; the key may be in the file of the certificate.
    """

    address: str
    ca: Path
    cert: Path
    key: Path | None = None


def run(
    function: Work,
    items: Sequence[Any],
    *,
    workers: int = 1,
    scheduler: str | Scheduler | None = None,
    retries: int = 1,
    finished: Callable[[Outcome], None] | None = None,
    progress: Progress = NO_PROGRESS,
) -> list[Outcome]:
    """Call a function for every item. No failure stops the others.

    Parameters
    ----------
    function : Work
    items : sequence
        What can be pickled, if there are workers. `str(item)` is shown as progress.
    workers : int
        1: one item after another in this process. More: so many processes of this machine.
    scheduler : str or Scheduler, optional
        A Dask scheduler, or its address, such as "tcp://host:8786", whose workers do it instead. They need this
        library and the same files under the same paths.
    retries : int
        How often an item is tried again that failed. An `InputError` or `OutputError` is final: the
        same input fails again, and a full disk stays full.
    finished
        Called with each outcome as soon as there is one, in the calling thread.
    progress : Progress

    Returns
    -------
    list of Outcome
        In the order of the items.

    Raises
    ------
    InputError
        Numbers out of range, so many workers cannot be started, Dask is not installed, certificates cannot be used, or
        no scheduler answers.
    OutputError
        The scheduler has ended meanwhile.
    Cancelled
        If `progress` was cancelled. Outcomes up to then were given to `finished`.
    """
    if not items:
        _check(workers, retries)
        return []
    with crew(min(workers, len(items)) if workers > 1 else workers, scheduler, retries) as hired:
        return hired.run(function, items, finished=finished, progress=progress)


@contextmanager
def crew(workers: int = 1, scheduler: str | Scheduler | None = None, retries: int = 1) -> Iterator[Crew]:
    """Who does the work, for several calls: processes take seconds to start. Parameters and errors as for `run`."""
    _check(workers, retries)
    if scheduler is not None:
        with _client(scheduler) as client:
            yield Crew(client, retries)
    elif workers > 1:
        with local_workers(workers, deaths=retries) as processes:
            yield Crew(processes, retries)
    else:
        yield Crew(None, retries)


class Crew:
    """See `crew`."""

    def __init__(self, hands: LocalWorkers | Client | None, retries: int):
        self._hands = hands
        self._retries = retries
        if hands is None:
            self._work = self._here
        else:
            self._work = self._beside if isinstance(hands, LocalWorkers) else self._there

    def run(
        self,
        function: Work,
        items: Sequence[Any],
        *,
        finished: Callable[[Outcome], None] | None = None,
        progress: Progress = NO_PROGRESS,
    ) -> list[Outcome]:
        """As the function `run`."""
        outcomes: list[Outcome | None] = [None] * len(items)
        for index, outcome in self._work(function, items, progress):
            outcomes[index] = outcome
            if outcome.details:
                logging.getLogger(__name__).error("%s\n%s", outcome.item, outcome.details)
            if finished:
                finished(outcome)
        return cast("list[Outcome]", outcomes)  # each has become of its item

    def _here(self, function, items, progress: Progress) -> Iterator[tuple[int, Outcome]]:
        for index, item in enumerate(items):
            progress.check(_CANCELLED)
            part = progress.part(index / len(items), (index + 1) / len(items))
            part.report(0.0, str(item))
            yield index, _attempted(function, item, self._retries, part)

    def _beside(self, function, items, progress: Progress) -> Iterator[tuple[int, Outcome]]:
        progress.report(0.0, f"0 of {len(items)} done")
        jobs = [(function, item, self._retries) for item in items]
        assert isinstance(self._hands, LocalWorkers)
        for done, (index, answer) in enumerate(
            self._hands.run(_attempted, jobs, lambda: progress.check(_CANCELLED)), 1
        ):
            yield index, answer if isinstance(answer, Outcome) else self._lost(items[index], answer)
            progress.report(done / len(items), f"{done} of {len(items)} done, {items[index]}")

    def _there(self, function, items, progress: Progress) -> Iterator[tuple[int, Outcome]]:
        client = cast("Client", self._hands)
        futures = {
            index: client.submit(_attempted, function, item, self._retries, pure=False)
            for index, item in enumerate(items)
        }
        progress.report(0.0, f"0 of {len(items)} done")
        while futures:
            if progress.cancelled():
                client.cancel(list(futures.values()))
                raise Cancelled(_CANCELLED)
            ready = [index for index, future in futures.items() if future.done()]
            if not ready:
                time.sleep(_POLL_SECONDS)
            for index in ready:
                yield index, self._answer(futures.pop(index), items[index])
                done = len(items) - len(futures)
                progress.report(done / len(items), f"{done} of {len(items)} done, {items[index]}")

    def _answer(self, future: Future, item: Any) -> Outcome:
        from distributed import KilledWorker

        if future.cancelled():  # by nobody but the client, once it has lost its scheduler
            address = cast("Client", self._hands).scheduler.address
            raise OutputError(
                f"the Dask scheduler at {address} does not answer any more; what was finished "
                "stays: start it again, and the same command goes on"
            )
        try:
            return future.result()
        except KilledWorker:
            return self._lost(item, Died())
        except Exception as error:
            return self._lost(item, error)

    def _lost(self, item: Any, error: Exception) -> Outcome:
        """Of an item whose worker died, or whose answer could not be sent."""
        if isinstance(error, Died):
            reason = "the process that worked on it died each time (out of memory?): use fewer workers"
            return Outcome(item, error=reason, attempts=self._retries + 1)
        details = "".join(traceback.format_exception(error))
        return Outcome(item, error=_line(error), attempts=1, details=details)


def _check(workers: int, retries: int) -> None:
    if workers < 1 or retries < 0:
        raise InputError(f"{workers} workers and {retries} retries: use at least 1 worker and 0 retries")


_CANCELLED = "stopped; what was finished stays"


def _attempted(function, item, retries, progress: Progress = NO_PROGRESS) -> Outcome:
    """Runs where the work is done; its errors come back as text, since not every one can be pickled."""
    outcome = Outcome(item)
    for attempt in range(1, retries + 2):
        try:
            return Outcome(item, function(item, progress=progress), attempts=attempt)
        except Cancelled:
            raise
        except (InputError, OutputError) as error:
            return Outcome(item, error=_line(error), attempts=attempt)
        except Exception as error:
            text, details = _line(error), traceback.format_exc()
            if is_lack_of_memory(error):  # there may be more of it later
                text, details = f"there is too little memory ({text}): use fewer workers", ""
            outcome = Outcome(item, error=text, attempts=attempt, details=details)
    return outcome


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, IPv2Error) and text else f"{type(error).__name__}: {text}".rstrip(": ")


@contextmanager
def _client(scheduler: str | Scheduler) -> Iterator[Client]:
    packages.need("distributed", "a scheduler")
    from distributed import Client

    address, security = scheduler, None
    if isinstance(scheduler, Scheduler):
        address, security = scheduler.address, _security(scheduler)
    # Made in two steps to be closed here, if it cannot connect. The garbage collector would close it some time later,
    # and may do so while another client starts, which holds the lock that closing waits for.
    client = Client.__new__(Client)
    try:
        Client.__init__(client, address, timeout=CONNECT_SECONDS, security=security)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        client.close()
        cause = error.__cause__ or error.__context__ or error
        raise InputError(
            f"no Dask scheduler answers at {address} ({_line(cause)}): start one with 'dask scheduler' and workers "
            "with 'dask worker'; one with TLS wants --tls-ca, --tls-cert and --tls-key"
        ) from error
    with _quiet(), client:
        yield client


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Dask not show the traceback of each connection that ends; what that means for the work is said once."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]
    loggers = [(logger := logging.getLogger(name), logger.level) for name in names]
    for logger, _ in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in loggers:
            logger.setLevel(level)


def _security(scheduler: Scheduler) -> Security:
    from distributed import Security

    if not scheduler.address.startswith("tls://"):
        raise InputError(
            f"the scheduler {scheduler.address} has no TLS: write tls://..., or leave the certificates out"
        )
    key = scheduler.key or scheduler.cert
    for path in (scheduler.ca, scheduler.cert, key):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"{path} cannot be read ({reason(error)}): give a PEM file") from error
    security = Security(
        tls_ca_file=str(scheduler.ca), tls_client_cert=str(scheduler.cert), tls_client_key=str(key),
        require_encryption=True,
    )  # fmt: skip
    try:
        security.get_connection_args("client")
    except OSError as error:  # of which ssl's errors are
        raise InputError(f"the certificates for {scheduler.address} cannot be used ({_line(error)})") from error
    return security
