"""A node in this process, and those that it talks to: pynetdicom's own callers and servers."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from IPv2Lib.node import node, settings
from IPv2Lib.node.log import Log
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, Verification

SECONDS = 300.0
"""After which a test that waits has failed."""

DENOISE = '[[rules]]\ndenoise = {model = "ipv2-fast", device = "cpu"}\ndestinations = ["pacs"]\n'

SETTINGS = {
    "folder": "queue", "port": 0, "callers": ["SCANNER", "PACS@127.0.0.1"], "quiet_seconds": 3600,
    "complete_at_release": True, "retry_seconds": [0.02, 0.1], "timeout_seconds": 20, "least_free_mb": 0,
}  # fmt: skip


def node_file(place: Path, rules: str = DENOISE, pacs: int = 1, **changes: Any) -> Path:
    """The file of a node that sends to a port of this computer; a series is complete when its sender has left."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in (SETTINGS | changes).items()]
    destination = f'[[destinations]]\nname = "pacs"\nae_title = "PACS"\nport = {pacs}\n'
    path = place / "node.toml"
    path.write_text("\n".join((*lines, destination, rules)))
    return path


@dataclass
class Running:
    """A node that runs in a thread; a context that ends it."""

    file: Path
    lines: queue.Queue = field(default_factory=queue.Queue)
    said: list[dict] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> Running:
        self._stop = threading.Event()
        self._error: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.port = self.wait("listening")["port"]
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        while not self.lines.empty():
            self.said.append(self.lines.get())

    def _run(self) -> None:
        try:
            node.run(settings.read(self.file), Log(self.lines.put), self._stop.is_set)
        except BaseException as error:
            self.lines.put({"event": "died", "error": error})

    def wait(self, event: str) -> dict[str, Any]:
        """The next line of an event."""
        while True:
            line = self.lines.get(timeout=SECONDS)
            self.said.append(line)
            if line["event"] == event:
                return line
            if line["event"] == "died":
                raise line["error"]


@contextlib.contextmanager
def archive(port: int = 0, status: int = 0, received: queue.Queue | None = None) -> Iterator[tuple[int, queue.Queue]]:
    """A destination: its port, and what it has received."""
    received = queue.Queue() if received is None else received

    def store(event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        received.put(dataset)
        return status

    entity = AE("PACS")
    entity.add_supported_context(CTImageStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield server.server_address[1], received
    finally:
        entity.shutdown()


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def associate(port: int, title: str = "SCANNER", called: str = "IPV2", **options: Any):
    """An association with a node, whatever became of it."""
    entity = AE(title)
    entity.add_requested_context(Verification)
    entity.add_requested_context(CTImageStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    return entity.associate("127.0.0.1", port, ae_title=called, **options)


def send(port: int, slices: Sequence[Dataset]) -> list[int]:
    """Send slices in one association; the answers."""
    association = associate(port)
    assert association.is_established
    answers = [association.send_c_store(each).Status for each in slices]
    association.release()
    return answers


def read(folder: Path) -> list[Dataset]:
    """The files of a series in the order of the slices."""
    return [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]


def drained(received: queue.Queue) -> list[Dataset]:
    """What an archive has received until now."""
    return [received.get_nowait() for _ in range(received.qsize())]
