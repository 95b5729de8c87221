"""The queue of a node: plain folders, in which every step is on the disk before the next one is begun.

Owns what lies where, and what is forgotten when. In the folder of the queue are

- series/KEY/*.dcm: what was accepted of a series, one file per instance, state.json: what became of it,
  and *.begun: an empty file for each time that work on it was begun and not ended, one way or another
- results/KEY-NAME/*.dcm: what is sent for it, with the file of `ipv2 denoise` beside it that says how it was made
- sending/DESTINATION/NUMBER-RESULT: an empty file for each result that is still to be sent there; lower numbers first
- sent/DESTINATION/RESULT: an empty file for each that was
- salt: a secret by which keys are made of UIDs and patient IDs
"""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import hmac
import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import OutputError, reason
from ..io import atomic
from ..io.json_files import read_if_sound

DENOISED, FORWARDED, KEPT, ASIDE, NO_RULE = "denoised", "forwarded", "kept", "aside", "no rule"
"""What became of a series: values of `State.outcome`."""

_SERIES, _RESULTS, _SENDING, _SENT, _WORK = "series", "results", "sending", "sent", "work"
_STATE, _SALT, _BEGUN = "state.json", "salt", ".begun"
_DAY = 86400.0


@dataclass(frozen=True)
class State:
    """What became of a series.

    Attributes
    ----------
    revision : str
        Of the slices that `outcome` is about, see `Queue.revision`; empty if there is none yet.
    outcome : str
        One of the constants beside; empty if there is none yet.
    reason : str
        Why it was put aside. May name the series, so it is not for logs.
    result : str
        Name of the last result.
    """

    revision: str = ""
    outcome: str = ""
    reason: str = ""
    result: str = ""


@dataclass(frozen=True)
class Outgoing:
    """A result that is still to be sent."""

    mark: Path
    result: str


class Queue:
    """The queue in a folder, which is made if it is not there; `OutputError` if that cannot be."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = threading.RLock()
        try:
            for name in (_SERIES, _RESULTS, _SENDING, _SENT, _WORK):
                (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise OutputError(f"{folder} cannot be written ({reason(error)}): give a folder for the queue") from error
        if not (folder / _SALT).exists():
            atomic.write_text(folder / _SALT, secrets.token_hex(32), durable=True)
        self._salt = (folder / _SALT).read_bytes()

    def sweep(self) -> None:
        """Clear away what a killed node was writing."""
        shutil.rmtree(self.folder / _WORK, ignore_errors=True)
        (self.folder / _WORK).mkdir(mode=0o700, exist_ok=True)
        for place in (self.folder, *self.folder.glob("*"), *self.folder.glob("*/*")):
            if place.is_dir():
                atomic.sweep(place)

    def free_bytes(self) -> int:
        """Space on its disk."""
        return shutil.disk_usage(self.folder).free

    # --- what came in ---

    def key(self, *identity: str) -> str:
        """The name of a series in the queue and the log, which nobody without the salt can make of what it is."""
        return hmac.new(self._salt, "\0".join(identity).encode(), hashlib.sha256).hexdigest()[:24]

    @contextlib.contextmanager
    def arriving(self, content: bytes) -> Iterator[Path]:
        """A file with what has just come, on the disk; gone in the end unless it was accepted.

        Raises
        ------
        OutputError
            It cannot be written.
        """
        try:
            with atomic.private_folder(self.folder / _WORK) as private:
                path = private / "instance.dcm"
                path.write_bytes(content)
                atomic.sync(path)
                yield path
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be written ({reason(error)})") from error

    def accept(self, key: str, instance_uid: str, arrived: Path) -> bool:
        """Keep an instance, durably, in place of one with this UID; False if the same is there already."""
        folder = self.folder / _SERIES / key
        path = folder / f"{hashlib.sha256(instance_uid.encode()).hexdigest()[:32]}.dcm"
        with self._lock:
            if not folder.exists():
                folder.mkdir(mode=0o700)
                atomic.sync(folder.parent)
            elif path.exists() and filecmp.cmp(path, arrived, shallow=False):
                return False
            os.replace(arrived, path)
            atomic.sync(folder)
        return True

    def slices(self, key: str) -> list[Path]:
        """The files of a series."""
        return sorted((self.folder / _SERIES / key).glob("*.dcm"))

    def series(self) -> list[str]:
        """The keys of all series, the one whose last slice is the oldest first."""
        times = {key: max((each.stat().st_mtime for each in self.slices(key)), default=0.0) for key in self._keys()}
        return sorted(times, key=lambda key: times[key])

    def is_done(self, key: str) -> bool:
        """Whether something became of all slices that are there."""
        return self.state(key).revision == _revision(self.slices(key))

    @contextlib.contextmanager
    def snapshot(self, key: str) -> Iterator[tuple[Path, str]]:
        """A folder with the slices of a series as they are now, whatever comes meanwhile, and their revision."""
        with atomic.private_folder(self.folder / _WORK) as private:
            folder = private / "slices"
            folder.mkdir()
            with self._lock:
                revision = _revision(self.slices(key))
                for path in self.slices(key):
                    atomic.linked(path, folder / path.name)
            yield folder, revision

    # --- what became of it ---

    def state(self, key: str) -> State:
        """What became of a series."""
        known = read_if_sound(self.folder / _SERIES / key / _STATE)
        return State(**{name: known[name] for name in asdict(State()) if name in known})

    def write_state(self, key: str, state: State) -> None:
        """Say, durably, what became of a series."""
        path = self.folder / _SERIES / key / _STATE
        atomic.write_text(path, json.dumps(asdict(state), indent=2) + "\n", durable=True)

    @contextlib.contextmanager
    def attempt(self, key: str, revision: str) -> Iterator[int]:
        """Around work on a revision: how often that was begun, this time included, and ended the process until now."""
        folder = self.folder / _SERIES / key
        marks = sorted(folder.glob(f"*{_BEGUN}"))
        earlier = [path for path in marks if path.name.startswith(revision[:16])]
        mark = folder / f"{revision[:16]}-{secrets.token_hex(4)}{_BEGUN}"
        mark.touch()
        atomic.sync(folder)
        try:
            yield 1 + len(earlier)
            for path in marks:
                path.unlink()
        finally:
            mark.unlink()

    def result(self, name: str) -> Path:
        """The folder of a result, which is there if it is whole."""
        return self.folder / _RESULTS / name

    @contextlib.contextmanager
    def new_result(self, name: str) -> Iterator[Path]:
        """A place to write a result to, and what belongs beside it; becomes `result` in the end, durably."""
        with atomic.private_folder(self.folder / _RESULTS) as private:
            yield private / name
            for path in private.rglob("*"):
                atomic.sync(path)
            with contextlib.suppress(FileNotFoundError):
                os.replace(private / f"{name}.json", self.folder / _RESULTS / f"{name}.json")
            os.rename(private / name, self.result(name))
            atomic.sync(self.folder / _RESULTS)

    def names_of(self, result: str) -> list[Path]:
        """The files of a result."""
        return sorted(self.result(result).glob("*.dcm"))

    # --- what goes out ---

    def promise(self, result: str, destinations: Iterable[str], urgent: bool = False) -> None:
        """Have a result sent to destinations, durably; not to those to which it is sent, or was."""
        for destination in destinations:
            folder = self.folder / _SENDING / destination
            waiting = self.outgoing(destination)
            if any(each.result == result for each in waiting) or (self.folder / _SENT / destination / result).exists():
                continue
            folder.mkdir(exist_ok=True, mode=0o700)
            atomic.sync(folder.parent)
            number = 1 + max((int(each.mark.name.split("-")[1]) for each in waiting), default=0)
            atomic.write_text(folder / f"{0 if urgent else 1}-{number:09d}-{result}", "", durable=True)

    def outgoing(self, destination: str) -> list[Outgoing]:
        """What is still to be sent to a destination, in order."""
        marks = sorted((self.folder / _SENDING / destination).glob("[01]-*-*"))
        return [Outgoing(mark, mark.name.split("-", 2)[2]) for mark in marks]

    def sent(self, destination: str, outgoing: Outgoing) -> None:
        """Say, durably, that a result was sent."""
        folder = self.folder / _SENT / destination
        folder.mkdir(exist_ok=True, mode=0o700)
        os.replace(outgoing.mark, folder / outgoing.result)
        for place in (folder.parent, folder, outgoing.mark.parent):
            atomic.sync(place)

    # --- the whole ---

    def forget(self, days: float) -> int:
        """Remove series of which something became so many days ago, and all of which was sent; how many."""
        waiting = {mark.name.split("-", 2)[2].split("-")[0] for mark in (self.folder / _SENDING).glob("*/[01]-*-*")}
        count = 0
        for key in set(self._keys()) - waiting:
            place = self.folder / _SERIES / key
            with self._lock, contextlib.suppress(FileNotFoundError):
                if time.time() - (place / _STATE).stat().st_mtime < days * _DAY or not self.is_done(key):
                    continue
                with atomic.private_folder(self.folder / _WORK) as private:
                    for number, path in enumerate((*self.folder.glob(f"{_RESULTS}/{key}-*"), place)):
                        os.rename(path, private / str(number))
                    for path in self.folder.glob(f"{_SENT}/*/{key}-*"):
                        path.unlink()
                count += 1
        return count

    def counts(self) -> dict[str, int]:
        """How many series are in the queue, by what became of them, and how many results are to be sent, by place."""
        found: dict[str, int] = {}
        for key in self._keys():
            outcome = self.state(key).outcome if self.is_done(key) else "waiting"
            found[outcome] = found.get(outcome, 0) + 1
        for place in sorted((self.folder / _SENDING).iterdir()):
            found[f"to send to {place.name}"] = len(self.outgoing(place.name))
        return found

    def _keys(self) -> list[str]:
        return [path.name for path in (self.folder / _SERIES).iterdir() if not path.name.startswith(".")]


def _revision(slices: Iterable[Path]) -> str:
    """A digest of which slices there are, and of when each was written."""
    facts = [(path.name, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in slices]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
