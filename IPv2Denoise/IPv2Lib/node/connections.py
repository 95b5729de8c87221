"""The network's side of a node: connections that are encrypted, bounded, timed, and each accounted for when it ends.

pynetdicom's server does the handshake of TLS where it accepts connections, so that one silent caller would keep all
others out; it waits for ever for the rest of a PDU, and believes whatever length that claims. Not here.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from socketserver import TCPServer
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

LARGEST_PDU = 1 << 20
"""Bytes. Requests for associations are far smaller, and so is what is announced for data."""


class TooLarge(OSError):
    """A peer sends more than it may."""


@dataclass
class Traffic:
    """What came through a connection.

    Attributes
    ----------
    caller : str or None
        AE title of who asked for an association; None if nobody did.
    received : int
        Bytes since the last answer to a C-STORE.
    stored, known, refused : int
        Instances that are kept, were there already, and were refused.
    series : set of str
        Keys of those that instances were of.
    turned_away : bool
        Whether it was refused, with a line in the log.
    """

    caller: str | None = None
    received: int = 0
    stored: int = 0
    known: int = 0
    refused: int = 0
    series: set[str] = field(default_factory=set)
    turned_away: bool = False


def traffic(association: Association) -> Traffic:
    """Of the connection of an association."""
    return vars(association).setdefault("ipv2_traffic", Traffic())


def address(association: Association) -> str:
    """Where the other end of a connection is."""
    found = association.requestor.address_info
    return found.address if found else ""


class Connection(RequestHandler):
    """One connection, from its beginning to its end."""

    server: Server

    def handle(self) -> None:
        """Let an association have it, and say when it has ended."""
        association = self._create_association()
        self._bound(association)
        evt.trigger(association, evt.EVT_CONN_OPEN, {"address": self.client_address})
        association.start()
        association.join()
        self.server.ended(association)

    def _bound(self, association: Association) -> None:
        """Read no PDU, and since the last answer no more bytes, than are allowed."""
        link: Any = association.dul.socket
        receive, most, came = link.recv, self.server.most_bytes, traffic(association)

        def recv(count: int) -> bytearray:
            came.received += count
            if count > LARGEST_PDU or came.received > most:
                raise TooLarge(f"{count} bytes at once, or more than {most} for one instance")
            return receive(count)

        link.recv = recv


def _wait_no_longer(event: evt.Event) -> None:
    """Let an association end at once whose peer asked for none and has left, or is told to: it waits for a request."""
    if traffic(event.assoc).caller is None and event.next_state in ("Sta1", "Sta13"):
        waiting: Any = event.assoc.dul.to_user_queue
        waiting.put(None)


class Server(ThreadedAssociationServer):
    """A server of associations.

    Parameters
    ----------
    entity, address, contexts, ssl_context, evt_handlers
        See pynetdicom's `AssociationServer`.
    most_bytes : int
        Between two answers.
    ended : callable
        Called with each association that has ended.
    broken : callable
        Called with the address and the error of each connection that has not become an association.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        entity: AE,
        address: tuple[str, int],
        ssl_context: ssl.SSLContext | None,
        evt_handlers: list[Any],
        most_bytes: int,
        ended: Callable[[Association], None],
        broken: Callable[[str, BaseException], None],
    ):
        self.most_bytes, self.ended, self.broken = most_bytes, ended, broken
        super().__init__(
            entity, address, entity.ae_title, entity.supported_contexts, ssl_context, evt_handlers, Connection
        )
        self.bind(evt.EVT_FSM_TRANSITION, _wait_no_longer)

    def get_request(self) -> Any:
        """Accept a connection; what takes time is done by its own thread."""
        link, address = self.socket.accept()  # type: ignore[union-attr]
        link.settimeout(self.ae.network_timeout)
        return link, address

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, encrypted where that is demanded."""
        if self.ssl_context:
            try:
                request = self.ssl_context.wrap_socket(request, server_side=True)
            except (OSError, ValueError) as error:
                self.broken(client_address[0], error)
                self.shutdown_request(request)
                return
        super().finish_request(request, client_address)

    def shutdown(self) -> None:
        """Accept no more connections."""
        TCPServer.shutdown(self)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say why a connection could not be served."""
        self.broken(client_address[0], sys.exc_info()[1] or OSError("unknown"))


def server_context(certificate: str, key: str, ca: str) -> ssl.SSLContext:
    """TLS 1.2 or later of a server; callers need a certificate where it is said who signs them."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca or None)
    context.load_cert_chain(certificate, key or None)
    if ca:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(certificate: str, key: str, ca: str) -> ssl.SSLContext:
    """TLS 1.2 or later of a caller, which checks the certificate of whom it calls."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca or None)
    if certificate:
        context.load_cert_chain(certificate, key or None)
    return context
