"""What a node loses, doubles or mixes when it is killed, overrun and attacked, and what it costs beside the network.

Everything runs on 127.0.0.1 between pynetdicom's own peers and `ipv2 node` as a process. Prints one table; says when a
bar is missed.
"""

from __future__ import annotations

import argparse
import copy
import json
import queue
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from IPv2Lib.io import files
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "end_to_end"))

from node_peers import archive, associate, drained, free_port, node_file, read, send
from small_chest import small_chest

KEEP = '[[rules]]\naction = "keep"'


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=200, help="small series that are sent while the node is killed")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--associations", type=int, default=20, help="at once")
    parser.add_argument("--each", type=int, default=100, help="slices of each association")
    parser.add_argument("--hostile", type=int, default=10_000, help="broken PDUs and data sets")
    parser.add_argument("--slices", type=int, default=300, help="of 512 x 512 that come back")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    options = parser.parse_args()
    random.seed(options.seed)
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            print(f"{name}: {PARTS[name](Path(folder), options)} ({time.monotonic() - began:.0f} s)", flush=True)


class Node:
    """`ipv2 node` as a process, on a port of its own, with its log in a file."""

    def __init__(self, file: Path):
        self._file, self.log = file, file.with_name("log.jsonl")
        self.port = json.loads(next(line for line in file.read_text().splitlines() if "port" in line).split("=")[1])
        self.start()

    def start(self) -> None:
        """Start it, again."""
        self._seen = len(self.lines("listening"))
        with open(self.log, "ab") as log, open(self.log.with_name("stderr"), "ab") as said:
            command = [sys.executable, "-m", "IPv2Lib", "node", str(self._file)]
            self.process = psutil.Popen(command, stdout=log, stderr=said)

    def listens(self) -> bool:
        """Whether it has come so far since it was started."""
        return len(self.lines("listening")) > self._seen

    def lines(self, event: str) -> list[dict]:
        """What the log says of an event; lines that a kill cut are none."""
        found = []
        for text in self.log.read_text().splitlines() if self.log.exists() else []:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if line["event"] == event:
                found.append(line)
        return found

    def kill(self) -> None:
        """Without a warning."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running(folder: Path, *arguments: object, **changes: object) -> Iterator[Node]:
    """A node that listens."""
    node = Node(node_file(folder, *arguments, port=free_port(), **changes))
    try:
        until(node.listens)
        yield node
    finally:
        node.kill()


def until(true: Callable[[], object], seconds: float = 600.0) -> None:
    """Wait; `TimeoutError` is a hang."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("nothing happens any more")
        time.sleep(0.05)


def chests(folder: Path, count: int, slices: int = 3, size: int = 64) -> list[list[Dataset]]:
    """Series of as many patients."""
    files.write(small_chest(size, slices), f"{folder}/chest/")
    first, found = read(folder / "chest"), []
    for number in range(count):
        made = copy.deepcopy(first)
        study, series = generate_uid(), generate_uid()
        for each in made:
            each.PatientID, each.StudyInstanceUID, each.SeriesInstanceUID = f"P{number}", study, series
            each.SOPInstanceUID = each.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        found.append(made)
    return found


def kills(folder: Path, options: argparse.Namespace) -> str:
    """Series are sent while the node is killed at random moments and the destination is away a third of the time."""
    series = chests(folder, options.series)
    pacs, received, over = free_port(), queue.Queue(), threading.Event()
    # A series that was complete before a kill is so again when it has been quiet, and the sender is sooner.
    node = Node(node_file(folder, pacs=pacs, port=free_port(), quiet_seconds=30))

    def come_and_go() -> None:
        while not over.is_set():
            with archive(pacs, received=received):
                over.wait(4.0)
            over.wait(2.0)

    def send_all() -> None:
        for each in series:
            while not _arrives(node.port, each):
                time.sleep(0.1)

    threads = [threading.Thread(target=come_and_go), threading.Thread(target=send_all)]
    for each in threads:
        each.start()
    for _ in range(options.kills):
        until(node.listens)
        time.sleep(random.uniform(0.0, 2.0))
        node.kill()
        node.start()
    threads[1].join()
    got: list[Dataset] = []
    expected = {each.SOPInstanceUID: each.PatientID for one in series for each in one}

    def all_came() -> bool:
        got.extend(drained(received))
        return len({each.SOPInstanceUID for each in got}) >= len(expected)

    until(all_came)
    queue_folder = folder / "queue"
    until(lambda: not list(queue_folder.glob("sending/*/*")))
    over.set()
    threads[0].join()
    node.process.terminate()
    ended = node.process.wait(60)
    got.extend(drained(received))
    by_patient: dict[str, set[tuple[str, str]]] = {}
    mixed = 0
    for each in got:
        by_patient.setdefault(each.PatientID, set()).add((each.SeriesInstanceUID, each.SOPInstanceUID))
        mixed += expected[each.SourceImageSequence[0].ReferencedSOPInstanceUID] != each.PatientID
    whole = sum(len(found) == 3 and len({uid for uid, _ in found}) == 1 for found in by_patient.values())
    double = sum(len({uid for uid, _ in found}) - 1 for found in by_patient.values())
    left = [path.name for path in queue_folder.rglob("*") if path.name.startswith(".ipv2") or ".begun" in path.name]
    again = len(got) - len({each.SOPInstanceUID for each in got})
    aside = len(node.lines("aside"))
    return (
        f"{options.kills} kills: {whole} of {len(series)} results whole, {double} double, {mixed} slices mixed, "
        f"{aside} aside, {len(left)} leftovers, exit code {ended}; {again} slices were sent again with the same UID"
    )


def _arrives(port: int, series: list[Dataset]) -> bool:
    """Whether every slice was answered with success, and the association released."""
    association = associate(port)
    if not association.is_established:
        return False
    try:
        for each in series:
            if association.send_c_store(each).get("Status") != 0:
                return False
        association.release()
    except (RuntimeError, ValueError, OSError):
        return False
    return association.is_released


def many(folder: Path, options: argparse.Namespace) -> str:
    """Associations at once, each with a series."""
    series = chests(folder, options.associations, options.each)
    tries: queue.Queue = queue.Queue()

    def send_all(own: list[Dataset]) -> None:
        tries.put(1)
        while not _arrives(node.port, own):
            tries.put(1)

    with running(folder, KEEP, timeout_seconds=60) as node:
        threads = [threading.Thread(target=send_all, args=(own,)) for own in series]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        until(lambda: len(node.lines("kept")) == len(series))
        memory = node.process.memory_info().rss >> 20
    kept = len(list((folder / "queue" / "series").glob("*/*.dcm")))
    asked = options.each * len(series)
    return f"{len(series)} series at once, {tries.qsize()} associations: {kept} of {asked} slices kept, {memory} MB"


def hostile(folder: Path, options: argparse.Namespace) -> str:
    """Broken PDUs, and data sets of noise in sound ones."""
    (sound,) = chests(folder, 1)[0][:1]
    sound_bytes = association_request()
    with running(folder, KEEP, timeout_seconds=5) as node:
        send(node.port, [sound])
        before = node.process.memory_info().rss
        for number in range(options.hostile):
            if number % 4 == 0:
                association = associate(node.port)
                broken = copy.deepcopy(sound)
                broken.SeriesInstanceUID = ""
                association.send_c_store(broken)
                association.release()
                continue
            data = bytearray(sound_bytes if number % 4 == 1 else random.randbytes(random.randrange(1, 400)))
            for _ in range(random.randrange(1, 6)):
                data[random.randrange(len(data))] = random.randrange(256)
            with socket.create_connection(("127.0.0.1", node.port), 30) as link:
                try:
                    link.sendall(data)
                    link.shutdown(socket.SHUT_WR)
                    while link.recv(4096):
                        pass
                except OSError:  # it was ended from there, which is right
                    pass
        # One line each; two for data sets, of which one is about the association; and one for the sound slice.
        expected = options.hostile + len(range(0, options.hostile, 4)) + 1

        def extra() -> int:
            return len(node.lines("refused")) + len(node.lines("association")) - expected

        until(lambda: extra() >= 0, 120)
        more = extra()
        grown = (node.process.memory_info().rss - before) >> 20
        alive = send(node.port, [sound]) == [0]
        threads = node.process.num_threads()
    said = (folder / "stderr").read_text()
    return (
        f"{options.hostile} hostile: still takes a slice: {alive}, {grown} MB more, {threads} threads, "
        f"{more} lines too many or few beside one each, {len(said.splitlines())} lines on stderr"
    )


def association_request() -> bytes:
    """An A-ASSOCIATE-RQ that is nearly right: its caller is not on the list."""
    body = struct.pack(">HH16s16s32x", 1, 0, b"IPV2".ljust(16), b"STRANGER".ljust(16))
    for kind, uid in ((0x10, b"1.2.840.10008.3.1.1.1"),):
        body += struct.pack(">BBH", kind, 0, len(uid)) + uid
    syntax = struct.pack(">BBH", 0x30, 0, 17) + b"1.2.840.10008.1.1"
    syntax += struct.pack(">BBH", 0x40, 0, 17) + b"1.2.840.10008.1.2"
    body += struct.pack(">BBHBBBB", 0x20, 0, 4 + len(syntax), 1, 0, 0, 0) + syntax
    user = struct.pack(">BBHI", 0x51, 0, 4, 16382)
    body += struct.pack(">BBH", 0x50, 0, len(user)) + user
    return struct.pack(">BBI", 1, 0, len(body)) + body


def speed(folder: Path, options: argparse.Namespace) -> str:
    """A series there and back, beside `ipv2 denoise` of the same."""
    (series,) = chests(folder, 1, options.slices, 512)
    own = folder / "own"
    own.mkdir()
    for number, each in enumerate(series):
        each.save_as(own / f"{number:04d}.dcm")
    command = [sys.executable, "-m", "IPv2Lib", "denoise", str(own), f"{folder}/out/", "--model", "ipv2-fast"]
    subprocess.run([*command, "--device", "cpu", "--no-cache"], check=True, stderr=subprocess.DEVNULL)
    facts = json.loads((folder / "out.json").read_text())
    with archive() as (pacs, received), running(folder, pacs=pacs) as node:
        began = time.monotonic()
        send(node.port, series)
        there = time.monotonic() - began
        until(lambda: received.qsize() > 0)
        first = time.monotonic() - began
        until(lambda: received.qsize() == len(series))
        whole = time.monotonic() - began
        (done,) = node.lines("denoised")
    return (
        f"{options.slices} slices: sent in {there:.1f} s, first back after {first:.1f} s, all after {whole:.1f} s; of "
        f"it {done['seconds']:.1f} s denoising in the node, whose network took {facts['network_seconds']:.1f} s in "
        "'ipv2 denoise'"
    )


PARTS = {"kills": kills, "many": many, "hostile": hostile, "speed": speed}
"""Parts by name."""

if __name__ == "__main__":
    main()
