"""What goes out: results to one destination, in order, again and again until it has them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE

from ..errors import InputError, reason
from ..io.dicom_file import read_dataset
from .connections import client_context
from .log import Log
from .queue import Outgoing, Queue
from .settings import Destination, NodeSettings

_NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_WARNINGS = (0xB000, 0xB006, 0xB007)  # it was stored, and something was changed
_OUT_OF_RESOURCES = range(0xA700, 0xA800)


class _Away(Exception):
    """The destination takes nothing now."""


class _Refused(Exception):
    """The destination takes others, perhaps, but not this one."""


class Sender(threading.Thread):
    """Sends what the queue has for a destination; pauses grow while that is away."""

    def __init__(self, destination: Destination, settings: NodeSettings, queue: Queue, log: Log):
        super().__init__(name=f"sender to {destination.name}", daemon=True)
        self._destination, self._queue, self._log = destination, queue, log
        self._first_pause, self._longest_pause = settings.retry_seconds
        self._entity = AE(settings.ae_title)
        timeout = settings.timeout_seconds
        self._entity.acse_timeout = self._entity.dimse_timeout = self._entity.network_timeout = timeout
        self._entity.connection_timeout = timeout
        self._tls = None
        if destination.tls:
            try:
                context = client_context(destination.certificate, destination.key, destination.ca)
            except OSError as error:
                raise InputError(
                    f"the certificates for {destination.name} cannot be used ({reason(error)}): give PEM files"
                ) from error
            self._tls = (context, destination.address)
        self._there: dict[str, set[str]] = {}  # files of a result that were sent before it was interrupted
        self._failures: dict[str, int] = {}  # of each result that was refused, and of the destination as ""
        self._due: dict[str, float] = {}
        self._wake, self._stopping = threading.Event(), threading.Event()

    def wake(self) -> None:
        """Look into the queue now."""
        self._wake.set()

    def stop(self) -> None:
        """Stop after the instance that is being sent."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        """Send until `stop`."""
        while not self._stopping.is_set():
            self._wake.clear()
            waiting = self._queue.outgoing(self._destination.name)
            now = time.monotonic()
            ready = [each for each in waiting if max(self._due_at(each.result), self._due_at("")) <= now]
            if ready:
                self._send(ready[0])
            elif waiting:
                due = max(self._due_at(""), min(self._due_at(each.result) for each in waiting))
                self._wake.wait(max(0.0, due - now))
            else:
                self._wake.wait()

    def _due_at(self, what: str) -> float:
        return self._due.get(what, 0.0)

    def _send(self, outgoing: Outgoing) -> None:
        began = time.monotonic()
        files = self._queue.names_of(outgoing.result)
        try:
            self._store(outgoing.result, files)
            if self._stopping.is_set():
                return
            self._queue.sent(self._destination.name, outgoing)
        except _Refused as error:
            self._pause(outgoing.result, f"{error}", outgoing)
        except (_Away, OSError) as error:
            self._pause("", reason(error), outgoing)
        except Exception as error:  # of a file: whose words may be a patient's
            self._pause(outgoing.result, f"cannot be sent: {type(error).__name__}", outgoing)
        else:
            for what in ("", outgoing.result):
                self._failures.pop(what, None)
                self._due.pop(what, None)
            self._there.pop(outgoing.result, None)
            seconds = round(time.monotonic() - began, 3)
            self._log.say(
                "sent", series=outgoing.result.split("-")[0], result=outgoing.result,
                destination=self._destination.name, files=len(files), seconds=seconds,
            )  # fmt: skip

    def _pause(self, what: str, why: str, outgoing: Outgoing) -> None:
        failures = self._failures.get(what, 0)
        pause = min(self._longest_pause, self._first_pause * 2 ** min(failures, 30))
        self._failures[what], self._due[what] = failures + 1, time.monotonic() + pause
        self._log.say(
            "away", destination=self._destination.name, result=outgoing.result, reason=why, again_in=round(pause, 3)
        )

    def _store(self, result: str, files: list[Path]) -> None:
        """Send the files that the destination does not have yet; `_Away` or `_Refused` if that fails."""
        there = self._there.setdefault(result, set())
        place = self._destination
        self._entity.requested_contexts = []
        for sop_class, syntax in {_kind(path) for path in files}:
            self._entity.add_requested_context(sop_class, syntax)
            if syntax in _NATIVE:
                self._entity.add_requested_context(sop_class, list(_NATIVE))
        association = self._entity.associate(place.address, place.port, ae_title=place.ae_title, tls_args=self._tls)
        if not association.is_established:
            rejected = "refused the association" if association.is_rejected else "no association"
            raise _Away(rejected)
        try:
            for path in files:
                if path.name in there:
                    continue
                if self._stopping.is_set():
                    return
                try:
                    status = association.send_c_store(path).get("Status")
                except ValueError as error:  # no context was accepted
                    raise _Refused("it does not take the SOP class or transfer syntax") from error
                except RuntimeError as error:  # it ended the association
                    raise _Away("ended the association") from error
                if status is None or status in _OUT_OF_RESOURCES:
                    raise _Away("no answer" if status is None else f"status {status:04X}, out of resources")
                if status != 0 and status not in _WARNINGS:
                    raise _Refused(f"status {status:04X}")
                there.add(path.name)
        finally:
            if association.is_established:
                association.release()


def _kind(path: Path) -> tuple[str, str]:
    """SOP class and transfer syntax of a file."""
    meta = read_dataset(path, ["SOPClassUID"]).file_meta
    return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
