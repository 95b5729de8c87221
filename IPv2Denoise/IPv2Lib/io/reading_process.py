"""What runs in the process that `reading` starts: one request a line on stdin, one answer each on stdout."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, IPv2Error
from .atomic import temporary_folder

# Memory that a series may need: a header can ask for any amount.
_BYTES, _TIMES_SIZE = 6 << 30, 64


def serve() -> None:
    """Answer until there is no one to answer to."""
    from . import dicom  # noqa: F401  a request's time is not for importing it

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the process that asked
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):  # what native libraries print is for nobody
        os.dup2(nowhere, stream)
    errors = os.fdopen(nowhere, "w")
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        # A decoder that never returns never looks at anything again: the system must end it.
        faulthandler.dump_traceback_later(request["seconds"] + 10, exit=True, file=errors)
        with _ends_with_the_other_side():
            _limit_work(request["work"])
            answer, array = _answer(request)
        faulthandler.cancel_dump_traceback_later()
        answers.write(json.dumps(answer).encode() + b"\n")
        if array is not None:
            answers.write(array)
        answers.flush()


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], memoryview | None]:
    try:
        os.chdir(request["folder"])
        paths = [Path(path) for path in request["paths"]]
        volume, notes = _read(paths if request["several"] else paths[0])
    except IPv2Error as error:
        return {"error": " ".join(str(error).split())}, None
    except MemoryError:
        text = f"cannot read {request['paths'][0]}: it asks for more memory than its size makes likely"
        return {"error": text}, None
    except Exception as error:  # whatever a damaged file makes a library raise
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return {"error": f"cannot read {request['paths'][0]}: it is damaged ({text})"}, None
    answer = {
        "shape": volume.array.shape, "dtype": volume.array.dtype.str, "spacing": volume.spacing,
        "origin": volume.origin, "direction": volume.direction,
        "notes": notes,
    }  # fmt: skip
    return answer, np.ascontiguousarray(volume.array).data.cast("B")


def _read(paths: Path | Sequence[Path]):
    from . import files

    with _memory_limit(paths), _unicode_names(paths) as (readable, names):
        try:
            volume, notes = files.read_here(readable)
            return volume, [_with_names(note, names) for note in notes]
        except InputError as error:
            raise InputError(_with_names(str(error), names)) from error


def _with_names(text: str, names: dict[str, str]) -> str:
    for link, name in names.items():
        text = text.replace(link, name)
    return text


@contextlib.contextmanager
def _unicode_names(paths: Path | Sequence[Path]) -> Iterator[tuple[Path | Sequence[Path], dict[str, str]]]:
    """The same files under names that are UTF-8, which is all that ITK takes; and the names that they stand for."""
    folder = (paths if paths.is_dir() else paths.parent) if isinstance(paths, Path) else None
    slices = [] if isinstance(paths, Path) else list(paths)
    if folder is not None:
        with contextlib.suppress(OSError):  # which reading will name
            slices = [item for item in folder.iterdir() if item.is_file()]
    if all(map(_is_unicode, [*slices, Path.cwd()])):
        yield paths, {}
        return
    with temporary_folder() as folder_of_links:
        temporary = str(folder_of_links)
        links = {}
        for index, file in enumerate(slices):
            name = file.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\\", "")
            links[file] = Path(
                temporary, f"{index}-{name}" if folder is None or (Path(temporary) / name).exists() else name
            )
            links[file].symlink_to(file.absolute())
        if isinstance(paths, Path):
            yield Path(temporary) if paths.is_dir() else links[paths], {temporary: str(folder)}
        else:
            yield list(links.values()), {temporary: str(Path(paths[0]).parent)}


def _is_unicode(path: Path) -> bool:
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def _ends_with_the_other_side() -> Iterator[None]:
    """Die at once if the process that asked ends meanwhile, even in native code that looks at nothing."""
    try:
        import fcntl
    except ImportError:  # Windows: at the limit
        yield
        return
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(0, fcntl.F_GETFL)
    fcntl.fcntl(0, fcntl.F_SETFL, flags | os.O_ASYNC)  # the end of the pipe is then a signal, which kills
    try:
        yield
    finally:
        fcntl.fcntl(0, fcntl.F_SETFL, flags)


def _limit_work(seconds: float) -> None:
    """Let the system end this process when it has computed for so long: a disk may be slow, a decoder may not."""
    try:
        import resource
    except ImportError:  # Windows: at the limit of the time
        return
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    limit = math.ceil(time.process_time() + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # which would hold what was read


@contextlib.contextmanager
def _memory_limit(paths: Path | Sequence[Path]) -> Iterator[None]:
    try:
        import resource
    except ImportError:
        yield
        return
    from .reading import files_of, megabytes

    before = resource.getrlimit(resource.RLIMIT_AS)
    most = int(_BYTES + _TIMES_SIZE * 1e6 * megabytes(files_of(paths)))
    if before[1] != resource.RLIM_INFINITY:
        most = min(most, before[1])
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


if __name__ == "__main__":
    serve()
