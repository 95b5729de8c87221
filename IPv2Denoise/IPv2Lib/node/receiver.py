"""What comes in: who gets an association, and what becomes of each instance that is sent. SOP classes of CT only."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from pydicom.uid import CTImageStorage
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made when it is imported

from ..errors import InputError, IPv2Error, OutputError, reason
from ..io.dicom_file import ENHANCED_CT, Elements, read_dataset
from ..io.dicom_pixels import TRANSFER_SYNTAXES
from .connections import Server, Traffic, address, server_context, traffic
from .log import Log
from .queue import Queue
from .settings import NodeSettings, Tls, may_call

SOP_CLASSES = (str(CTImageStorage), *ENHANCED_CT)
"""Of what is received."""

SUCCESS, OUT_OF_RESOURCES, NO_MATCH, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000
"""Answers to C-STORE: statuses of the standard's part 4, B.2.3."""

_NOT_RECOGNIZED = {"caller": (1, 1, 3), "called": (1, 1, 7)}  # A-ASSOCIATE-RJ: permanent, by the user, the title
_UIDS = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
_PDU_BYTES = 1 << 17
_ASK_SECONDS = 10.0  # that who connects has to ask for an association
_END_SECONDS = 2.0  # that peers have to notice an abort


class Receiver:
    """Receives instances into a queue.

    Parameters
    ----------
    settings, queue, log
    arrived : callable
        Called with the key of a series of which a new instance is kept.
    released : callable
        Called with the keys of the series of an association that its sender released.
    """

    def __init__(
        self,
        settings: NodeSettings,
        queue: Queue,
        log: Log,
        arrived: Callable[[str], None],
        released: Callable[[set[str]], None],
    ):
        _config.LOG_HANDLER_LEVEL = "none"  # it would put every PDU into words
        self._settings, self._queue, self._log = settings, queue, log
        self._arrived, self._released = arrived, released
        entity = AE(settings.ae_title)
        entity.maximum_pdu_size = _PDU_BYTES
        entity.maximum_associations = settings.most_associations
        entity.dimse_timeout = entity.network_timeout = settings.timeout_seconds
        entity.acse_timeout = min(_ASK_SECONDS, settings.timeout_seconds)
        entity.add_supported_context(Verification)
        for sop_class in SOP_CLASSES:
            entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        handlers: list[Any] = [(evt.EVT_REQUESTED, self._requested), (evt.EVT_C_STORE, self._store)]
        most_bytes, tls = int(settings.largest_mb * 1e6), _context(settings.tls)
        place = (settings.address, settings.port)
        try:
            self._server = Server(entity, place, tls, handlers, most_bytes, self._ended, self._broken)
        except OSError as error:
            where = f"{settings.address}:{settings.port}"
            raise InputError(f"cannot listen on {where} ({reason(error)}): give another address or port") from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="receiver", daemon=True)

    @property
    def port(self) -> int:
        """On which it listens."""
        return self._server.server_address[1]

    def start(self) -> None:
        """Listen."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more, and abort the associations that there are: what was answered is kept."""
        self._server.shutdown()
        associations = self._server.active_associations
        for each in associations:
            if each.is_established:
                each.acse.send_abort(0x00)
        until = time.monotonic() + _END_SECONDS
        for each in associations:
            each.join(max(0.0, until - time.monotonic()))
            link: Any = each.dul.socket
            with contextlib.suppress(OSError, AttributeError):  # it has ended
                link.socket.shutdown(socket.SHUT_RDWR)

    def _requested(self, event: evt.Event) -> None:
        asked: Any = event.assoc.requestor.primitive
        where = address(event.assoc)
        came = traffic(event.assoc)
        came.caller = asked.calling_ae_title
        if not may_call(self._settings, asked.calling_ae_title, where):
            why, title = "caller", asked.calling_ae_title
        elif asked.called_ae_title != self._settings.ae_title:
            why, title = "called", asked.called_ae_title
        else:
            return
        came.turned_away = True
        self._log.say("refused", what=f"{why} AE title", title=title, address=where)
        event.assoc.acse.send_reject(*_NOT_RECOGNIZED[why])
        event.assoc.kill()

    def _store(self, event: evt.Event) -> int:
        """Keep an instance; the answer's status."""
        came = traffic(event.assoc)
        came.received = 0
        try:
            status, why = self._kept(event, came)
        except InputError:  # whose words may be a patient's
            status, why = NOT_UNDERSTOOD, "damaged"
        except (IPv2Error, OSError) as error:
            status, why = OUT_OF_RESOURCES, reason(error.__cause__ or error)
        except MemoryError:
            status, why = OUT_OF_RESOURCES, "not enough memory"
        if status != SUCCESS:
            came.refused += 1
            self._log.say("refused", what="instance", caller=came.caller, status=f"{status:04X}", reason=why)
        return status

    def _kept(self, event: evt.Event, came: Traffic) -> tuple[int, str]:
        if self._queue.free_bytes() < self._settings.least_free_mb * 1e6:
            raise OutputError("less space on the disk than least_free_mb")
        with self._queue.arriving(event.encoded_dataset()) as path:
            elements = Elements([read_dataset(path, ["SpecificCharacterSet", "PatientID", "SOPClassUID", *_UIDS])], "")
            uids = [elements.text(keyword) for keyword in _UIDS]
            if not all(uids):
                return NOT_UNDERSTOOD, "without UIDs of study, series and instance"
            request: Any = event.request
            said = [str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)]
            if said != [elements.text("SOPClassUID"), uids[2]]:
                return NO_MATCH, "SOP class or instance UID is another one than in the request"
            key = self._queue.key(elements.text("PatientID"), *uids[:2])
            came.series.add(key)
            if self._queue.accept(key, uids[2], path):
                came.stored += 1
                self._arrived(key)
            else:
                came.known += 1
        return SUCCESS, ""

    def _ended(self, association: Association) -> None:
        """One line for each connection, but for those that were refused, which have theirs."""
        came, where = traffic(association), address(association)
        if came.caller is None:
            self._log.say("refused", what="connection", address=where, reason="no request for an association")
        elif association.is_rejected and not came.turned_away:
            self._log.say("refused", what="association", caller=came.caller, address=where, reason="too many at once")
        elif not came.turned_away:
            end = "released" if association.is_released else "aborted"
            self._log.say(
                "association", caller=came.caller, address=where, end=end, stored=came.stored, known=came.known,
                refused=came.refused, series=sorted(came.series),
            )  # fmt: skip
            if end == "released" and came.series:
                self._released(came.series)

    def _broken(self, where: str, error: BaseException) -> None:
        self._log.say("refused", what="connection", address=where, reason=reason(error))


def _context(tls: Tls) -> ssl.SSLContext | None:
    try:
        return server_context(tls.certificate, tls.key, tls.ca) if tls.certificate else None
    except OSError as error:
        raise InputError(f"the node's certificates cannot be used ({reason(error)}): give PEM files") from error
