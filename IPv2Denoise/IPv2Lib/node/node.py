"""A node: it receives series, denoises one after the other when they are complete, and has the results sent.

Owns when a series is complete, and the order of the work. Everything that it must not forget is in the `queue`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import Cancelled, IPv2Error, OutputError, is_lack_of_memory, reason
from ..io import outputs
from ..io.dicom_file import quiet
from ..io.json_files import read_if_sound
from ..io.locks import owned, owner_of
from ..progress import Progress
from .log import Log
from .queue import ASIDE, Queue, State
from .receiver import Receiver
from .rules import of_series
from .sender import Sender
from .settings import NodeSettings
from .work import Done, prepare, process

STATUS_FILE = "status.json"
_LOOK_SECONDS, _STATUS_SECONDS, _FORGET_SECONDS = 0.2, 2.0, 600.0
_AGAIN_SECONDS = 10.0  # after which work is tried again that failed for want of a place to write to


def run(settings: NodeSettings, log: Log, cancelled: Callable[[], bool]) -> None:
    """Be a node until `cancelled` says so.

    Parameters
    ----------
    settings : NodeSettings
    log : Log
    cancelled : callable
        Asked several times a second, and while a series is denoised; that one is then begun again by the next call.

    Raises
    ------
    InputError
        Another node works on this queue; a model is not there; the address cannot be listened on.
    OutputError
        The queue cannot be written.
    """
    folder = Path(settings.folder)
    with owned(folder, "node"), quiet:  # a warning about a value would show it
        _Node(settings, Queue(folder), log, cancelled).run()


def status(settings: NodeSettings) -> dict[str, Any]:
    """What a node says of itself, whether it runs or not: ``running``, ``queue``, and ``counts`` since it started."""
    folder = Path(settings.folder)
    owner = owner_of(folder)
    found: dict[str, Any] = {"running": owner is not None and owner.lives}
    found["queue"] = Queue(folder).counts() if folder.exists() else {}
    return found | read_if_sound(folder / STATUS_FILE)


class _Node:
    def __init__(self, settings: NodeSettings, queue: Queue, log: Log, cancelled: Callable[[], bool]):
        self._settings, self._queue, self._log, self._cancelled = settings, queue, log, cancelled
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._due: dict[str, float] = {}  # of series with slices that nothing became of yet, in the order of the work
        self._urgent: dict[str, bool] = {}
        self._told = self._forgot = -float("inf")
        self._seconds = 0.0

    def run(self) -> None:
        settings, log, queue = self._settings, self._log, self._queue
        self._rules = prepare(settings.rules)
        queue.sweep()
        self._senders = [Sender(each, settings, queue, log) for each in settings.destinations]
        receiver = Receiver(settings, queue, log, self._arrived, self._released)
        for key in queue.series():
            if not queue.is_done(key):
                self._arrived(key)
        for sender in self._senders:
            sender.start()
        receiver.start()
        try:
            log.say("listening", address=settings.address, port=receiver.port, note=outputs.RESEARCH)
            while not self._cancelled():
                complete = self._next()
                if complete is not None:
                    self._work(complete)
                    continue
                self._keep_house()
                self._wake.wait(_LOOK_SECONDS)
                self._wake.clear()
        finally:
            self._stop(receiver)
        log.say("stopped")
        self._tell()

    def _stop(self, receiver: Receiver) -> None:
        receiver.stop()
        for sender in self._senders:
            sender.stop()
        for sender in self._senders:
            sender.join(self._settings.timeout_seconds)

    # --- when a series is complete; called by the receiver's threads ---

    def _arrived(self, key: str) -> None:
        self._put_off(key, self._settings.quiet_seconds)

    def _released(self, keys: set[str]) -> None:
        if self._settings.complete_at_release:
            with self._lock:
                self._due |= {key: 0.0 for key in keys & self._due.keys()}
            self._wake.set()

    def _put_off(self, key: str, seconds: float) -> None:
        with self._lock:
            self._due.pop(key, None)
            self._due[key] = time.monotonic() + seconds

    def _next(self) -> str | None:
        """The key of the complete series that comes first, which is taken out."""
        with self._lock:
            now = time.monotonic()
            ready = [key for key, due in self._due.items() if due <= now]
        key = next((key for key in ready if self._is_urgent(key)), ready[0] if ready else None)
        if key is None:
            return None
        self._urgent.pop(key, None)
        with self._lock:
            if self._due[key] > now:  # a slice came meanwhile
                return None
            del self._due[key]
        return key

    def _is_urgent(self, key: str) -> bool:
        if key not in self._urgent:
            rules = self._settings.rules
            try:
                number = of_series(rules, self._queue.slices(key)[0])[1]
            except (IPv2Error, OSError, IndexError):  # which the work on it will name
                number = None
            self._urgent[key] = number is not None and rules[number].urgent
        return self._urgent[key]

    # --- the work ---

    def _work(self, key: str) -> None:
        began = time.monotonic()
        progress = Progress(lambda fraction, message: self._keep_status(), self._cancelled)
        try:
            if self._queue.is_done(key):
                return
            done = process(self._queue, key, self._rules, progress)
        except Cancelled:
            return
        except (OutputError, OSError) as error:
            why = reason(error.__cause__ or error)  # without the names of files
            self._log.say("error", series=key, reason=why, again_in=_AGAIN_SECONDS)
            self._put_off(key, _AGAIN_SECONDS)
            return
        except Exception as error:  # one series must not stop the others
            done = self._aside(key, error)
        self._seconds = round(time.monotonic() - began, 3)
        facts: dict[str, Any] = {"series": key, "slices": done.slices, "rule": done.rule, "seconds": self._seconds}
        if done.result:
            facts["result"] = done.result
        if done.outcome == ASIDE:
            facts["see"] = f"series/{key}/state.json"
        self._log.say(done.outcome, **facts)
        for sender in self._senders:
            sender.wake()

    def _aside(self, key: str, error: Exception) -> Done:
        why = "not enough memory" if is_lack_of_memory(error) else f"{type(error).__name__}: {error}"
        with self._queue.snapshot(key) as (folder, revision):
            self._queue.write_state(key, State(revision, ASIDE, why, self._queue.state(key).result))
            return Done(ASIDE, len(list(folder.iterdir())), None, reason=why)

    # --- what else there is to do ---

    def _keep_house(self) -> None:
        self._keep_status()
        if time.monotonic() - self._forgot > _FORGET_SECONDS:
            self._forgot = time.monotonic()
            try:
                if count := self._queue.forget(self._settings.retention_days):
                    self._log.say("forgotten", count=count)
            except OSError as error:
                self._log.say("error", reason=reason(error))

    def _keep_status(self) -> None:
        if time.monotonic() - self._told > _STATUS_SECONDS:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        facts = {"counts": dict(self._log.counts), "last_error": self._log.last_error, "last_seconds": self._seconds}
        with contextlib.suppress(OutputError):  # nothing depends on it
            outputs.write_json(Path(self._settings.folder) / STATUS_FILE, facts)
