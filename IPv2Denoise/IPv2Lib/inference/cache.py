"""What networks answered, kept for the next time: the same scan at another strength needs no network.

Owns the folder, what is the same question, and how much is kept. An answer is an image with the file beside it that
says how it was made, as results are; one that is damaged, or of another question, counts as none. Whatever goes wrong
with the folder, a result is made without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import IPv2Error
from ..io import atomic, files, outputs, user_folders
from ..io.volume import Volume

VARIABLE = "IPV2_CACHE"
"""Environment variable: the folder to use, or "off"."""

MOST_BYTES = 4 << 30
"""Of all answers: some 25 scans of 300 slices. The ones that were not used for longest go first."""

_LEAST_FREE = 4 << 30  # bytes that stay free on the disk
_SUFFIX = ".nrrd"
_OURS = "[0-9a-f]" * 64 + _SUFFIX  # in a folder that a user chose there may be other images


def folder() -> Path | None:
    """Where answers are kept; None where they are not."""
    given = os.environ.get(VARIABLE)
    if given:
        return None if given == "off" else Path(given).absolute()
    try:
        return user_folders.cache()
    except RuntimeError:  # no home
        return None


def load(question: Mapping[str, Any], volume: Volume) -> tuple[Volume, dict[str, Any]] | None:
    """The answer to a question about a volume, and the facts that were stored with it; None if there is none.

    Parameters
    ----------
    question : mapping
        All that decides the answer, expressible in JSON.
    volume : Volume
        Gives shape, type and place.
    """
    place = folder()
    path = place and place / _name(question)
    if not path or not path.is_file():
        return None
    try:
        found, _ = files.read_here(path)
        facts = outputs.history(path, found)
        if facts and (found.array.shape, found.array.dtype) == (volume.array.shape, volume.array.dtype):
            os.utime(path)
            del facts["output_sha256"]
            return volume.with_array(found.array), facts
    except (IPv2Error, OSError):
        pass
    _remove(path)
    return None


def store(question: Mapping[str, Any], answer: Volume, facts: Mapping[str, Any]) -> None:
    """Keep an answer, if there is room for it.

    Parameters
    ----------
    question : mapping
        As for `load`.
    answer : Volume
    facts : mapping
        Expressible in JSON.
    """
    place = folder()
    if place is None or answer.array.nbytes > MOST_BYTES:
        return
    path = place / _name(question)
    with contextlib.suppress(IPv2Error, OSError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if shutil.disk_usage(place).free < _LEAST_FREE + answer.array.nbytes:
            return
        atomic.sweep(place)
        files.write(answer, path, compress=False)  # it is read and written in a tenth of the time
        written = files.as_read(answer, path).sha256()
        outputs.write_json(outputs.sidecar_path(path), {**facts, "output_sha256": written})
        _make_room(place)


def size() -> tuple[int, int]:
    """How many answers there are, and their bytes."""
    place = folder()
    sizes = [used for _, used, _ in _answers(place)] if place else []
    return len(sizes), sum(sizes)


def clear() -> None:
    """Remove all answers."""
    place = folder()
    for _, _, path in _answers(place) if place else ():
        _remove(path)


def _name(question: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest() + _SUFFIX


def _answers(place: Path) -> Iterator[tuple[float, int, Path]]:
    """When each was used, its bytes, and where it is; the longest unused first."""
    found = []
    with contextlib.suppress(OSError):
        for path in place.glob(_OURS):
            with contextlib.suppress(OSError):  # another process removes, too
                state = path.stat()
                found.append((state.st_mtime, state.st_size, path))
    yield from sorted(found)


def _make_room(place: Path) -> None:
    total = size()[1]
    for _, used, path in _answers(place):
        if total <= MOST_BYTES:
            return
        _remove(path)
        total -= used


def _remove(path: Path) -> None:
    for file in (path, outputs.sidecar_path(path)):
        with contextlib.suppress(OSError):
            file.unlink()
