"""A node as a process of its own, killed and stopped; and between DCMTK and Orthanc, where they are installed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from queue import Queue

import pytest
from IPv2Lib.io import files
from small_chest import small_chest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

from node_peers import SECONDS, Running, archive, drained, free_port, node_file, read, send

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


class Process:
    """A node as a process; a context that ends it."""

    def __init__(self, file: Path):
        command = [sys.executable, "-m", "IPv2Lib", "node", str(file)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._lines: Queue = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.put(json.loads(line))

    def __enter__(self):
        try:
            self.port = self.wait("listening")["port"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def wait(self, event: str) -> dict:
        """The next line of an event."""
        while (line := self._lines.get(timeout=SECONDS))["event"] != event:
            pass
        return line

    def end(self, number: int) -> int:
        """Its exit code after a signal."""
        self._process.send_signal(number)
        code = self._process.wait(SECONDS)
        assert self._process.stderr.read() == ""
        return code


@pytest.fixture
def chest(tmp_path):
    """A series of three slices."""
    files.write(small_chest(), f"{tmp_path}/chest/")
    return read(tmp_path / "chest")


def test_a_kill_after_the_answer_loses_and_doubles_nothing(chest, tmp_path):
    with archive() as (pacs, received):
        with Process(node_file(tmp_path, pacs=pacs, complete_at_release=False)) as node:
            assert send(node.port, chest) == [0, 0, 0]
            node.end(signal.SIGKILL)
        with Process(node_file(tmp_path, pacs=pacs, quiet_seconds=0)) as node:
            assert node.wait("sent")["files"] == 3
            node.end(signal.SIGKILL)
        first = drained(received)
        with Process(node_file(tmp_path, pacs=pacs)) as node:
            assert send(node.port, chest) == [0, 0, 0]
            assert node.wait("association")["known"] == 3
            assert node.end(signal.SIGTERM) == 0
    assert len({each.SOPInstanceUID for each in first}) == len(first) == 3
    assert drained(received) == []


def test_a_kill_between_two_slices_of_a_result_sends_no_other_ones(chest, tmp_path):
    with archive(status=0xA700) as (pacs, received), Process(node_file(tmp_path, pacs=pacs)) as node:
        send(node.port, chest)
        node.wait("away")
        node.end(signal.SIGKILL)
    tried = {each.SOPInstanceUID for each in drained(received)}
    with archive() as (pacs, received):
        with Process(node_file(tmp_path, pacs=pacs)) as node:
            node.wait("sent")
            assert node.end(signal.SIGINT) == 0
        sent = {each.SOPInstanceUID for each in drained(received)}
    assert tried and tried < sent
    assert len(sent) == 3
    left = [path for path in (tmp_path / "queue").rglob("*") if path.name.startswith(".ipv2") or ".begun" in path.name]
    assert left == []


@pytest.mark.skipif(not shutil.which("storescu"), reason="without DCMTK, pynetdicom's callers alone are tried")
def test_dcmtk_sends_and_receives(chest, tmp_path):
    port = free_port()
    (tmp_path / "got").mkdir()
    storescp = ["storescp", "--aetitle", "PACS", "--output-directory", str(tmp_path / "got"), str(port)]
    receiver = subprocess.Popen(storescp, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with Running(node_file(tmp_path, pacs=port)) as node:
            where = ["-aet", "SCANNER", "-aec", "IPV2", "127.0.0.1", str(node.port)]
            subprocess.run(["echoscu", *where], check=True, timeout=SECONDS)
            slices = map(str, (tmp_path / "chest").glob("*.dcm"))
            subprocess.run(["storescu", "-xi", *where, *slices], check=True, timeout=SECONDS)
            node.wait("sent")
    finally:
        receiver.kill()
        receiver.wait()
    assert len(list((tmp_path / "got").iterdir())) == 3


@pytest.mark.skipif(not shutil.which("Orthanc"), reason="without Orthanc, pynetdicom's servers alone are tried")
def test_orthanc_takes_what_is_sent_and_no_doubles(chest, tmp_path):
    dicom, http = free_port(), free_port()
    settings = {
        "StorageDirectory": str(tmp_path / "orthanc"), "IndexDirectory": str(tmp_path / "orthanc"), "Plugins": [],
        "DicomAet": "PACS", "DicomPort": dicom, "HttpPort": http, "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, "DicomAlwaysAllowStore": True,
    }  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    orthanc = subprocess.Popen(
        ["Orthanc", str(tmp_path / "orthanc.json")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for name in ("a", "b"):  # two nodes that know nothing of each other
            (tmp_path / name).mkdir()
            with Running(node_file(tmp_path / name, pacs=dicom)) as node:  # which waits until Orthanc has started
                send(node.port, chest)
                node.wait("sent")
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/instances", timeout=SECONDS) as answer:
            assert len(json.load(answer)) == 3
    finally:
        orthanc.terminate()
        orthanc.wait(SECONDS)
