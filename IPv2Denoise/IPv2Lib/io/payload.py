"""The voxels of an image file: decompressed with every checksum looked at, and neither short nor long.

Owns opening files without being blocked by what is no file, the encodings, and the judgement of lengths. Where the
voxels lie and what they mean, the formats say: `nrrd`, `nifti`, `metaimage`.
"""

from __future__ import annotations

import bz2
import contextlib
import io
import math
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import errors
from . import deflate

MOST_VOXELS = 1 << 31
"""Of a volume that is read, such as 2048 slices of 1024×1024."""

LONGEST_HEADER = 1 << 20
_BLOCK = 1 << 20
# How many bytes one stored byte can stand for at most: the limit of deflate, and bzip2's with room to spare.
_MOST_PER_BYTE = {"raw": 1, "ascii": 1, "hex": 1, "gzip": 1032, "zlib": 1032, "bzip2": 50_000}

MM_PER_UNIT = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres", "", "?", "???", "none"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1000.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre"), 1e-3),
}
"""mm in a unit of length, by the unit's name; where a file names none, it is mm."""


class Damaged(Exception):
    """What is wrong with a file, without its name."""


@dataclass(frozen=True)
class Part:
    """A piece of the voxels in one file.

    Attributes
    ----------
    path : file
    start : bytes of the file before it; -1: it ends where the file ends (only raw)
    skip_lines, skip_bytes : left out after `start`, the bytes after decompression
    beside : whether the file is another one than that with the header
    """

    path: Path
    start: int = 0
    skip_lines: int = 0
    skip_bytes: int = 0
    beside: bool = False


def open_file(path: Path) -> io.BufferedIOBase:
    """Open a regular file for reading; never waits, as for the other end of a pipe.

    Raises
    ------
    Damaged
        No such file, no permission, or a pipe, a device, a folder.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        raise Damaged(reason(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Damaged("it is no file but a folder, pipe or device")
    return open(descriptor, "rb")


def reason(error: Exception) -> str:
    """What is wrong with a file, in one line, by the exception that it led to."""
    text = " ".join(errors.reason(error).split())[:200]
    said = isinstance(error, (Damaged, ImportError)) or (isinstance(error, OSError) and error.errno)
    return text if said else f"it is damaged ({text})"


def read(parts: Sequence[Part], encoding: str, dtype: np.dtype, count: int) -> np.ndarray:
    """Read all voxels.

    Parameters
    ----------
    parts : sequence of Part
        Each holds the same number of voxels.
    encoding : str
        "raw", "gzip", "zlib" (or gzip, as in MetaImage), "bzip2", "hex" or "ascii".
    dtype : dtype
        As stored, with its byte order.
    count : int
        Voxels of all parts together.

    Returns
    -------
    ndarray, shape (count,)
        In the byte order of this machine.

    Raises
    ------
    Damaged
        A file is missing, damaged, too short or too long. Of damage the decompressors tell in exceptions of theirs.
    """
    if count > MOST_VOXELS:
        raise Damaged(f"its header tells of {count} voxels; {MOST_VOXELS} are the limit")
    each, rest = divmod(count, len(parts))
    if rest:
        raise Damaged(f"{count} voxels cannot lie in {len(parts)} files of one size")
    for part in parts:
        with _opened(part) as file:
            _check_room(file, part, encoding, dtype, each)
    array = np.empty(count, dtype)
    for index, part in enumerate(parts):
        with _opened(part) as file:
            _read_part(file, part, encoding, array[index * each : (index + 1) * each])
    return array.astype(dtype.newbyteorder("="), copy=False)


@contextlib.contextmanager
def _opened(part: Part) -> Iterator[io.BufferedIOBase]:
    try:
        with open_file(part.path) as file:
            yield file
    except Exception as error:
        if not part.beside:
            raise
        raise Damaged(f"{shown(part.path.name)}: {reason(error)}") from error


def _check_room(file: io.BufferedIOBase, part: Part, encoding: str, dtype: np.dtype, count: int) -> None:
    """Refuse before memory is taken what a file of this size cannot hold."""
    stored = os.fstat(file.fileno()).st_size - max(part.start, 0)
    least = part.skip_bytes + count * (1 if encoding == "ascii" else dtype.itemsize)
    if least > stored * _MOST_PER_BYTE[encoding]:
        raise Damaged(f"it is cut short, or its header is wrong: {least} bytes of voxels cannot come from {stored}")


def _read_part(file: io.BufferedIOBase, part: Part, encoding: str, array: np.ndarray) -> None:
    file.seek(*((-array.nbytes, os.SEEK_END) if part.start < 0 else (part.start,)))
    for _ in range(part.skip_lines):
        if not file.readline():
            raise Damaged("it has fewer lines than are to be skipped")
    if encoding == "ascii":
        array[:] = _from_text(file.read()[part.skip_bytes :], array)
        return
    stream = decoded(file, encoding, array.nbytes + 3)
    stream.seek(part.skip_bytes, os.SEEK_CUR)
    target, done = array.view(np.uint8).data, 0
    while count := stream.readinto(target[done : done + _BLOCK]):
        done += count
    if done < len(target):
        raise Damaged(f"it is cut short: {done} of {len(target)} bytes are there")
    # Some editors end every file with a newline. Zeros are not harmless: they may be the last voxels, moved there.
    if stream.read(3) not in (b"", b"\n", b"\r\n"):
        raise Damaged(f"it holds more data than the {len(target)} bytes that its header tells of")


def decoded(file: io.BufferedIOBase, encoding: str, most: int = -1) -> io.BufferedIOBase:
    """What follows in a file, decompressed; of zlib's no more than `most` bytes."""
    if encoding == "gzip":
        return deflate.GzipFile(fileobj=file, mode="rb")
    if encoding == "bzip2":
        return bz2.BZ2File(file)
    if encoding == "hex":
        return io.BytesIO(bytes.fromhex(file.read().decode("ascii")))
    if encoding == "zlib":
        inflate = deflate.decompressobj(wbits=47)  # zlib or gzip
        data = inflate.decompress(file.read(), most)
        if (len(data) < most and not inflate.eof) or inflate.unused_data.strip(b"\0 \t\r\n"):
            raise EOFError("the compressed data do not end with their checksum")
        return io.BytesIO(data)
    return file


def _from_text(data: bytes, array: np.ndarray) -> list[float] | list[int]:
    words = data.replace(b",", b" ").split()
    if len(words) != array.size:
        raise Damaged(f"it holds {len(words)} numbers, and its header tells of {array.size}")
    if array.dtype.kind == "f":
        return list(map(float, words))
    values, limits = list(map(int, words)), np.iinfo(array.dtype)
    if not limits.min <= min(values) <= max(values) <= limits.max:
        raise Damaged(f"it has numbers that are no {array.dtype.name}")
    return values


def compressed(array: np.ndarray, wbits: int) -> Iterator[bytes]:
    """The bytes of an array, deflated piece by piece; `wbits` is `deflate.GZIP` or `ZLIB`."""
    stream = deflate.compressobj(deflate.LEVEL, wbits=wbits)
    for block in blocks(array):
        yield stream.compress(block)
    yield stream.flush()


def blocks(array: np.ndarray) -> Iterator[memoryview]:
    """The bytes of an array, little endian, piece by piece, so that a stop need not wait for the whole."""
    for plane in array:
        yield np.ascontiguousarray(plane, array.dtype.newbyteorder("<")).data.cast("B")


def rescaled(array: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """slope · array + intercept: int16 where both are whole and the values fit, else float32."""
    if (slope, intercept) == (1.0, 0.0):
        return array
    result = np.empty(array.shape, np.float32)
    for stored, plane in zip(array, result, strict=True):
        with np.errstate(over="ignore", invalid="ignore"):
            plane[...] = stored.astype(np.float64) * slope + intercept
    limits = np.iinfo(np.int16)
    whole = array.dtype.kind in "iu" and float(slope).is_integer() and float(intercept).is_integer()
    if whole and limits.min <= result.min() and result.max() <= limits.max:
        return result.astype(np.int16)
    return result


# --- what headers are made of ---------------------------------------------------------------------------------------


def whole_numbers(text: str, field: str, count: int | None = None) -> list[int]:
    """The whole numbers of a header's field."""
    words = text.split()
    found = [int(word) for word in words if re.fullmatch(r"[-+]?[0-9]{1,18}", word)]
    if not words or len(found) != len(words) or count not in (None, len(found)):
        wanted = "whole numbers" if count is None else "one whole number" if count == 1 else f"{count} whole numbers"
        raise Damaged(f"'{field}: {shown(text)}' should be {wanted}")
    return found


def shown(text: str) -> str:
    """A piece of a header, fit for a line of an error."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def data_files(path: Path, value: str, listed: list[str], sizes: Sequence[int], axes: int) -> list[Path]:
    """The files that a header at `path` names: one, those of a list, or those of a printf pattern.

    Parameters
    ----------
    path : Path
    value : str
        "name", "LIST [axes]" or "pattern first last step [axes]".
    listed : list of str
        The lines behind the header.
    sizes : sequence of int
        Of all axes.
    axes : int
        How many of them one of several files has, where the value does not say so.
    """
    if match := re.fullmatch(r"LIST()(?:\s+([0-9]{1,3})D?)?", value):
        found = [path.parent / name.strip() for name in listed if name.strip()]
    elif match := re.fullmatch(r"(\S*%\S*(?:\s+-?[0-9]{1,9}){3})(?:\s+([0-9]{1,3}))?", value):
        pattern, *numbers = match[1].split()
        first, last, step = map(int, numbers)
        if not re.fullmatch(r"[^%]*%0?[0-9]{0,2}[di][^%]*", pattern):
            raise Damaged(f"the data files {shown(pattern)} have no usable pattern")
        if step == 0 or not 0 <= (last - first) // step < 100_000:
            raise Damaged(f"the data files {shown(value)} cannot be counted")
        found = [path.parent / (pattern % number) for number in range(first, last + (1 if step > 0 else -1), step)]
    else:
        return [path.parent / value]
    axes = int(match[2] or axes)
    expected = math.prod(sizes[axes:])
    slabs = axes == len(sizes) and found and sizes[-1] % len(found) == 0  # of the last axis
    if not slabs and not (1 <= axes < len(sizes) and len(found) == expected):
        raise Damaged(f"'{shown(value)}' names {len(found)} data files, and the sizes ask for {expected}")
    return found
