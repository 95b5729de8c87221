"""Processes of this computer that work for one other process, their owner, and for nobody else.

Owns how they are started, given work, missed when they die, and ended. They talk with their owner through pipes that
they inherit: nothing listens, so no other user of the computer can reach them. They leave the signals of a terminal or
a job scheduler, which go to all processes alike, to their owner, and end when it does, however that happens.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from ..errors import InputError, reason
from ..progress import Progress

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What asks a command to stop."""

_GRACE_SECONDS = 3.0  # for a worker to clean up after itself when it is stopped
_POLL_SECONDS = 0.1


class Died(Exception):
    """A worker ended without an answer, each time that it was given the work."""


@dataclass
class _Worker:
    process: multiprocessing.process.BaseProcess
    pipe: Connection
    job: int | None = None  # what it works on


@dataclass
class LocalWorkers:
    """A number of processes, see `local_workers`.

    Attributes
    ----------
    count : int
        How many.
    deaths : int
        How many of them may die of one job before that is given up.
    """

    count: int
    deaths: int
    _workers: list[_Worker] = field(default_factory=list)

    def run(
        self, function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], idle: Callable[[], None]
    ) -> Iterator[tuple[int, Any]]:
        """Call a function with the arguments of each job, and with `progress`, which is cancelled once all is to end.

        Parameters
        ----------
        function
            At file scope of a module that can be imported. An error of it is a result like any other.
        jobs : sequence of tuple
            Arguments that can be pickled.
        idle
            Called several times a second; what it raises ends the work.

        Yields
        ------
        (number of the job, what the function returned, or an exception: what it raised, or `Died`)
            As soon as it is there.

        Raises
        ------
        InputError
            There are too few open files or too little memory for so many processes.
        """
        waiting, died, left = deque(range(len(jobs))), dict.fromkeys(range(len(jobs)), 0), len(jobs)
        while left:
            idle()
            for worker in self._ready(min(self.count, len(waiting))):
                job = waiting.popleft()
                try:
                    worker.pipe.send((function, jobs[job]))
                    worker.job = job
                except OSError:  # it died while it had nothing to do
                    waiting.appendleft(job)
            busy = {worker.pipe: (worker, worker.job) for worker in self._workers if worker.job is not None}
            for pipe in wait(list(busy), _POLL_SECONDS):
                worker, job = busy[cast(Connection, pipe)]
                try:
                    answer = worker.pipe.recv()
                except (EOFError, OSError):
                    worker.process.kill()  # if it is not what ended it
                    self._bury(worker)
                    died[job] += 1
                    if died[job] <= self.deaths:
                        waiting.append(job)
                        continue
                    answer = Died()
                except Exception as error:  # it can be read on its side only
                    answer = error
                worker.job = None
                left -= 1
                yield job, answer

    def _ready(self, wanted: int) -> list[_Worker]:
        """Workers with nothing to do, at most so many; new ones are started where some are missing."""
        for worker in [worker for worker in self._workers if worker.job is None and not worker.process.is_alive()]:
            self._bury(worker)
        idle = [worker for worker in self._workers if worker.job is None]
        while len(idle) < wanted and len(self._workers) < self.count:
            self._workers.append(_started(self.count))
            idle.append(self._workers[-1])
        return idle[:wanted]

    def _bury(self, worker: _Worker) -> None:
        worker.pipe.close()
        worker.process.join()
        self._workers.remove(worker)

    def end(self) -> None:
        """Ask the workers to end, and kill those that do not."""
        for worker in self._workers:
            with suppress(OSError):
                worker.pipe.send(None)
        until = time.monotonic() + _GRACE_SECONDS
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            worker.process.kill()
        for worker in list(self._workers):
            self._bury(worker)


@contextmanager
def local_workers(count: int, deaths: int = 1) -> Iterator[LocalWorkers]:
    """So many processes, started when there is work for them and ended at the end of the `with`."""
    workers = LocalWorkers(count, deaths)
    try:
        yield workers
    finally:
        workers.end()


def serve_owner(stop: Connection | None = None, orphaned: Callable[[], None] = lambda: None) -> None:
    """Leave signals to the process that started this one, and end at once when that ends.

    Parameters
    ----------
    stop : Connection, optional
        End also when something can be read from it; that is no error.
    orphaned
        Called before the end if the owner has ended.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    parent = multiprocessing.parent_process()
    assert parent is not None  # as whoever calls this was started by somebody
    owner = parent.sentinel

    def watch() -> None:
        if owner in wait([owner, *([stop] if stop else [])]):
            orphaned()
        os._exit(0)

    threading.Thread(target=watch, name="owner", daemon=True).start()


@contextmanager
def signals_held_back() -> Iterator[None]:
    """While processes are started: this one sees signals after it, the new ones once they know what to do."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        # Python's own helper unblocks some signals when it is started, and a hang-up must not end it.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _started(count: int) -> _Worker:
    # Not forked: the threads of numerical libraries do not survive that.
    context = multiprocessing.get_context("spawn")
    try:
        ours, theirs = context.Pipe()
        with theirs:
            process = context.Process(target=_serve, args=(theirs,))
            try:
                with signals_held_back():
                    process.start()
            except BaseException:
                ours.close()
                raise
    except OSError as error:
        raise InputError(
            f"{count} workers cannot be started ({reason(error)}): use fewer, or allow more open files, "
            "processes and memory (ulimit -n, -u, -v)"
        ) from error
    return _Worker(process, ours)


def _serve(pipe: Connection) -> None:
    """What a worker does: one job after another, while a thread listens whether all is to end."""
    serve_owner()
    stopped = threading.Event()
    jobs: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
    there = threading.Semaphore(0)

    def listen() -> None:
        while True:
            try:
                job = pipe.recv()
            except (EOFError, OSError):
                os._exit(0)
            except Exception as error:  # it needs a module that is not here
                job = (_raise, (error,))
            if job is None:
                stopped.set()
            jobs.append(job)
            there.release()

    threading.Thread(target=listen, name="pipe", daemon=True).start()
    while there.acquire() and (job := jobs.popleft()) is not None:
        function, arguments = job
        try:
            answer = function(*arguments, progress=Progress(cancelled=stopped.is_set))
        except Exception as error:
            answer = error
        try:
            pipe.send(answer)
        except OSError:
            return
        except Exception as error:  # it cannot be pickled
            pipe.send(TypeError(f"its result cannot be sent: {error}"))


def _raise(error: Exception, *, progress: Progress) -> None:
    raise error
