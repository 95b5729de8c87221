"""The voxels of an image file: decompressed with every checksum looked at, and neither short nor long.

Owns opening files without being blocked by what is no file, the encodings, and the judgement of lengths. Where the
voxels lie and what they mean, the formats say: `nrrd`, `nifti`, `metaimage`.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import math
import os
import re
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .errors import InputError

MOST_VOXELS = 1 << 31
"""Of a volume that is read, such as 2048 slices of 1024×1024."""

_BLOCK = 1 << 20
_LEVEL = 2  # of compression: higher ones take several times as long, and save 1 % of a CT
GZIP, ZLIB = 31, 15
"""Values of `wbits`."""
# How many bytes one compressed byte can stand for at most: the limit of deflate, and bzip2's with room to spare.
_MOST_PER_BYTE = {"raw": 1, "ascii": 1, "hex": 1, "gzip": 1032, "zlib": 1032, "bzip2": 50_000}


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
    stored_bytes : of the compressed data, where the header says so
    beside : whether the file is another one than that with the header
    """

    path: Path
    start: int = 0
    skip_lines: int = 0
    skip_bytes: int = 0
    stored_bytes: int | None = None
    beside: bool = False


def open_file(path: Path) -> BinaryIO:
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
    """What an error says, in one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


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
        A file is missing, damaged, too short or too long.
    """
    if count > MOST_VOXELS:
        raise Damaged(f"its header tells of {count} voxels; {MOST_VOXELS} are the limit")
    if count % len(parts):
        raise Damaged(f"{count} voxels cannot lie in {len(parts)} files of one size")
    each = count // len(parts)
    for part in parts:
        with _opened(part) as file:
            _check_room(file, part, encoding, dtype, each)
    array = np.empty(count, dtype)
    for index, part in enumerate(parts):
        with _opened(part) as file:
            _read_part(file, part, encoding, array[index * each : (index + 1) * each])
    return array.byteswap(inplace=True).view(dtype.newbyteorder("=")) if not dtype.isnative else array


@contextlib.contextmanager
def _opened(part: Part) -> Iterator[BinaryIO]:
    try:
        with open_file(part.path) as file:
            yield file
    except Damaged as error:
        raise Damaged(f"{shown(part.path.name)}: {error}" if part.beside else str(error)) from error


def _check_room(file: BinaryIO, part: Part, encoding: str, dtype: np.dtype, count: int) -> None:
    """Refuse before memory is taken what a file of this size cannot hold."""
    stored = os.fstat(file.fileno()).st_size - max(part.start, 0)
    if part.stored_bytes is not None and part.stored_bytes != stored:
        raise Damaged(f"the header tells of {part.stored_bytes} bytes of data, and there are {stored}")
    least = count if encoding == "ascii" else count * dtype.itemsize
    if least > stored * _MOST_PER_BYTE[encoding]:
        raise Damaged(f"it is cut short, or its header is wrong: {least} bytes of voxels cannot come from {stored}")


def _read_part(file: BinaryIO, part: Part, encoding: str, array: np.ndarray) -> None:
    if part.start < 0:
        file.seek(-array.nbytes, os.SEEK_END)
    else:
        file.seek(part.start)
    for _ in range(part.skip_lines):
        if not file.readline():
            raise Damaged("it has fewer lines than are to be skipped")
    try:
        if encoding == "ascii":
            _fill_with_text(file, part.skip_bytes, array)
        else:
            _fill(_blocks(file, encoding), part.skip_bytes, array)
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise Damaged(f"its data are damaged ({reason(error)})") from error


def _fill(blocks: Iterator[bytes], skip: int, array: np.ndarray) -> None:
    target = memoryview(array.view(np.uint8) if array.size else b"")
    done, rest = -skip, b""
    for block in blocks:
        piece = block[max(0, -done) :] if done < 0 else block
        place = max(done, 0)
        wanted = piece[: len(target) - place]
        target[place : place + len(wanted)] = wanted
        done += len(block)
        rest += piece[len(wanted) :]
        if len(rest) > 2:
            break
    if done < len(target):
        raise Damaged(f"it is cut short: {max(done, 0)} of {len(target)} bytes are there")
    # Some editors end every file with a newline. Zeros are not harmless: they may be the last voxels, moved there.
    if rest not in (b"", b"\n", b"\r\n"):
        raise Damaged(f"it holds more data than the {len(target)} bytes that its header tells of")


def _blocks(file: BinaryIO, encoding: str) -> Iterator[bytes]:
    if encoding == "zlib":
        yield from _inflated(file)
        return
    if encoding == "hex":
        yield bytes.fromhex(file.read().decode("ascii"))
        return
    opened = {"raw": lambda: file, "gzip": lambda: gzip.GzipFile(fileobj=file), "bzip2": lambda: bz2.BZ2File(file)}
    stream = opened[encoding]()
    while block := stream.read(_BLOCK):
        yield block


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    inflate = zlib.decompressobj(47)  # zlib or gzip
    while not inflate.eof:
        data = inflate.unconsumed_tail or file.read(_BLOCK)
        if not data:
            raise EOFError("the compressed data end too early")
        yield inflate.decompress(data, _BLOCK)
    if (inflate.unused_data + file.read(16)).strip(b"\0 \t\r\n"):
        raise ValueError("something follows the compressed data")


def _fill_with_text(file: BinaryIO, skip: int, array: np.ndarray) -> None:
    words = file.read()[skip:].replace(b",", b" ").split()
    if len(words) != array.size:
        raise Damaged(f"it holds {len(words)} numbers, and its header tells of {array.size}")
    if array.dtype.kind == "f":
        array[:] = [float(word) for word in words]
        return
    limits = np.iinfo(array.dtype)
    numbers = [int(word) for word in words]
    if numbers and not limits.min <= min(numbers) <= max(numbers) <= limits.max:
        raise Damaged(f"it has numbers that are no {array.dtype.name}")
    array[:] = numbers


def compressed(pieces: Iterable[bytes | memoryview], wbits: int) -> Iterator[bytes]:
    """Deflated piece by piece, so that a stop need not wait for the whole; `wbits` as for `zlib`."""
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, wbits)
    for block in pieces:
        yield deflate.compress(block)
    yield deflate.flush()


def blocks(array: np.ndarray) -> Iterator[memoryview]:
    """The bytes of an array, little endian, piece by piece."""
    for plane in array:
        yield memoryview(np.ascontiguousarray(plane, array.dtype.newbyteorder("<"))).cast("B")


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

_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,5})?")

MM_PER_UNIT = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres", "", "?", "???", "none"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1000.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre"), 1e-3),
}
"""mm in a unit of length, by the unit's name; where a file names none, it is mm."""


def whole_numbers(text: str, field: str, count: int | None = None) -> list[int]:
    """The whole numbers of a header's field."""
    words = text.split()
    found = [int(word) for word in words] if all(_WHOLE.fullmatch(word) for word in words) else []
    if not found or (count is not None and len(found) != count):
        wanted = "whole numbers" if count is None else "one whole number" if count == 1 else f"{count} whole numbers"
        raise Damaged(f"'{field}: {shown(text)}' should be {wanted}")
    return found


def numbers(text: str, field: str, count: int) -> list[float]:
    """The finite numbers of a header's field."""
    words = text.split()
    found = [float(word) for word in words] if all(_NUMBER.fullmatch(word) for word in words) else []
    if len(found) != count or not all(map(math.isfinite, found)):
        raise Damaged(f"'{field}: {shown(text)}' should be {'one number' if count == 1 else f'{count} numbers'}")
    return found


def shown(text: str) -> str:
    """A piece of a header, fit for a line of an error."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def files_of_pattern(folder: Path, pattern: str, first: int, last: int, step: int) -> list[Path]:
    """The files of a printf pattern with one whole number, such as ``slice%03d.raw``."""
    if not re.fullmatch(r"[^%]*%0?[0-9]{0,2}[di][^%]*", pattern):
        raise Damaged(f"the data files {shown(pattern)} have no usable pattern")
    if step == 0 or (last - first) // step < 0 or (last - first) // step >= 100_000:
        raise Damaged(f"the data files {shown(pattern)} {first} {last} {step} cannot be counted")
    return [folder / (pattern % number) for number in range(first, last + (1 if step > 0 else -1), step)]


def as_input_error(path: Path, error: Damaged) -> InputError:
    return InputError(f"cannot read {path}: {error}")
