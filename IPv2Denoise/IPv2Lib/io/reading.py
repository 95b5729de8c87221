"""Reading DICOM where a crash or an endless loop of a decoder hurts nobody: in a process of its own.

Owns that process: it is started when it is first needed, kept for the next series, replaced after a crash, and ends
with this process, however that ends. What is read there, `files.read_here` says. Headers and compressed pixels of DICOM
go through large native libraries; image files are read by `image_files`, which cannot crash.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, reason

if TYPE_CHECKING:
    from .volume import Volume

# How long a series may take, and how long its decoders may compute: far more than the slowest disk and decoder need.
SECONDS, SECONDS_PER_MB = 30.0, 1.0
WORK_SECONDS, WORK_SECONDS_PER_FILE = 10.0, 0.02
_START_SECONDS = 120.0
_POLL_SECONDS = 0.1


def read(paths: Path | Sequence[Path]) -> tuple[Volume, list[str]]:
    """`files.read_here` in the reading process. May be called from several threads; one is served after the other.

    Raises
    ------
    InputError
        As `files.read_here`; also where the reading process died, took longer than half a minute and a second per
        MB, or computed for longer than 10 s and what the size makes likely.
    """
    return _reader.read(paths)


def stop() -> None:
    """End the reading process, if there is one. The next `read` starts another."""
    _reader.stop()


def python() -> str:
    """The interpreter: this one, but in Slicer, whose executable is the application, its PythonSlicer."""
    if sys.executable and Path(sys.executable).name.lower().startswith("python"):
        return sys.executable
    return shutil.which("PythonSlicer") or sys.executable or "python3"


class _Reader:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue = queue.SimpleQueue()

    def read(self, paths: Path | Sequence[Path]) -> tuple[Volume, list[str]]:
        from .volume import Volume

        named = str(paths) if isinstance(paths, Path) else f"{paths[0]} and {len(paths) - 1} more files"
        files = files_of(paths)
        more = SECONDS_PER_MB * megabytes(files)
        limit, work = SECONDS + more, WORK_SECONDS + WORK_SECONDS_PER_FILE * len(files) + more
        request = {
            "paths": [str(path) for path in ([paths] if isinstance(paths, Path) else paths)],
            "several": not isinstance(paths, Path),
            "folder": os.getcwd(),
            "seconds": limit,
            "work": work,
        }
        with self._lock:
            try:
                answer, array = self._ask(request, limit, named)
            except BaseException:  # a stop, too: what the process is doing is of no use any more
                self._end()
                raise
        if "error" in answer:
            raise InputError(answer["error"])
        assert array is not None
        return Volume(array, answer["spacing"], answer["origin"], answer["direction"]), answer["notes"]

    def stop(self) -> None:
        with self._lock:
            self._end()

    def forget(self) -> None:
        """In a process that was forked from the one that had started the reader."""
        if self._process is not None:
            for pipe in filter(None, (self._process.stdin, self._process.stdout)):
                pipe.close()  # or the reader would not see that process end
            self._process.returncode = 0  # not ours to wait for
        _Reader.__init__(self)

    def _ask(self, request: dict[str, Any], limit: float, named: str) -> tuple[dict[str, Any], np.ndarray | None]:
        process, fresh = self._process, False
        if process is None or process.poll() is not None:
            process, fresh = self._start(), True
        assert process.stdin is not None
        message = memoryview(json.dumps(request).encode() + b"\n")
        with contextlib.suppress(OSError):  # it may have died, which the wait below finds out
            while message:
                message = message[process.stdin.write(message) :]
        waited = 0.0
        limit += _START_SECONDS if fresh else 0.0
        while True:
            try:  # short waits, which Ctrl-C ends on every system
                answer = self._answers.get(timeout=_POLL_SECONDS)
                break
            except queue.Empty:
                waited += _POLL_SECONDS
                if waited > limit:
                    raise InputError(
                        f"cannot read {named}: no end after {limit:.0f} s, the file is probably damaged"
                    ) from None
        if answer is None:
            code = process.wait()
            if code == -getattr(signal, "SIGXCPU", 0):
                raise InputError(
                    f"cannot read {named}: no end after {request['work']:.0f} s of computing, the file is probably "
                    "damaged"
                )
            raise InputError(
                f"cannot read {named}: it makes the DICOM reader crash (exit code {code}), so it is damaged"
            )
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        library = str(Path(__file__).resolve().parents[2])
        search = os.pathsep.join([library, *filter(None, [os.environ.get("PYTHONPATH")])])
        try:
            process = self._process = subprocess.Popen(
                [python(), "-m", f"{__package__}.reading_process"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
                cwd=library,  # Python looks for modules there first: not in a folder of somebody's files
                env={**os.environ, "PYTHONPATH": search}, creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )  # fmt: skip
        except OSError as error:
            raise InputError(f"DICOM cannot be read: {python()} does not start ({reason(error)})") from error
        self._answers = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(process.stdout, self._answers), name="ipv2-reading", daemon=True).start()
        return process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None


def _listen(pipe, answers: queue.SimpleQueue) -> None:
    """Take answers off the pipe: a line of JSON, and behind it the array, straight to where it stays."""
    with contextlib.suppress(Exception):
        while line := pipe.readline():
            answer = json.loads(line)
            array = None
            if "shape" in answer:
                array = np.empty(answer["shape"], answer["dtype"])
                target, done = array.data.cast("B"), 0
                while done < len(target):
                    count = pipe.readinto(target[done:])
                    if not count:
                        raise EOFError
                    done += count
            answers.put((answer, array))
    answers.put(None)
    pipe.close()


def megabytes(files: Sequence[Path]) -> float:
    """Size of files, as far as it can be found out."""
    total = 0
    for file in files:
        with contextlib.suppress(OSError):
            total += file.stat().st_size
    return total / 1e6


def files_of(paths: Path | Sequence[Path]) -> Sequence[Path]:
    """The files that a series may have."""
    if not isinstance(paths, Path):
        return paths
    with contextlib.suppress(OSError):
        return list((paths if paths.is_dir() else paths.parent).iterdir())
    return [paths]


_reader = _Reader()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reader.forget)
