"""One DICOM file: whether it is one, its elements read without surprises, and written.

Everything that pydicom may throw at a damaged file becomes one `InputError` that names the file.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.tag import Tag
from pydicom.uid import UID, CTImageStorage, DeflatedExplicitVRLittleEndian

from ..errors import InputError, IPv2Error, reason

ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""SOP classes Enhanced CT Image Storage and Legacy Converted Enhanced CT Image Storage."""

_HEADER_TAGS = [
    "SpecificCharacterSet",
    "SOPClassUID",
    "ImageType",
    "Modality",
    "PatientID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SliceThickness",
    "SliceLocation",
    "SpacingBetweenSlices",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]
_MOST_INFLATED_BYTES = 1 << 30  # a thousand slices of 512×512
# Deflate can make a thousand bytes of one, while CTs have noise: no more than this is believed, but for small files.
_MOST_INFLATED_TIMES, _SMALL_BYTES = 100, 64 << 20
_STANDARD = "1.2.840.10008."  # how the UIDs of DICOM itself begin
_FIRST_VRS = (b"UL", b"CS", b"UI", b"SH", b"DA", b"TM", b"OB", b"LO", b"UN", b"DT")


def is_dicom(path: Path) -> bool:
    """Whether a file, of whatever name, starts as DICOM files do, with or without the preamble."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with open(path, "rb") as file:
            return starts_as_dicom(file.read(132))
    except (OSError, ValueError):
        return False


def starts_as_dicom(start: bytes) -> bool:
    """Whether these are the first bytes of a DICOM file.

    Examples
    --------
    >>> starts_as_dicom(bytes(128) + b"DICM"), starts_as_dicom(b"\\x08\\0\\x05\\0CS\\x0a\\0ISO_IR 100")
    (True, True)
    >>> starts_as_dicom(b"# a text")
    False
    """
    if start[128:132] == b"DICM":
        return True
    # Without preamble the first element is of group 2 or 8, and explicit or of a plausible length.
    if start[:2] in (b"\x02\0", b"\x08\0"):
        element, length = int.from_bytes(start[2:4], "little"), int.from_bytes(start[4:8], "little")
        implicit = length <= 256 and length % 2 == 0 and start[:1] == b"\x08"
        return len(start) >= 8 and element <= 0x60 and (start[4:6] in _FIRST_VRS or implicit)
    return start[:2] == b"\0\x08" and start[2:3] == b"\0" and start[4:6] in _FIRST_VRS  # big endian


def read_header(path: Path) -> Dataset | None:
    """The elements that matter here of an image, or None where the DICOM file is certainly something else.

    Raises
    ------
    InputError
        Where neither can be said: the file is damaged.
    """
    header = read_dataset(path, _HEADER_TAGS)
    elements = Elements([header], path.name)
    if all(elements.text(keyword) for keyword in ("SeriesInstanceUID", "Rows", "Columns")):
        return header
    classes = _sop_classes(header)
    if classes and all(map(_is_other_class, classes)):
        return None
    raise InputError(f"{path} is a damaged DICOM file (its header is incomplete): export it again")


def read_dataset(path: Path, only: Sequence[str] | None = None) -> Dataset:
    """All elements of a file, or some and no pixels."""
    with guard(path), quiet:
        _check_inflated_size(path)
        return pydicom.dcmread(
            path, stop_before_pixels=only is not None, force=True, specific_tags=None if only is None else list(only)
        )


def sop_class_uid(dataset: Dataset) -> str:
    """SOP class of a data set or, where that lacks it, of its file; empty where both do."""
    return next(iter(_sop_classes(dataset)), "")


def _sop_classes(dataset: Dataset) -> list[str]:
    meta = getattr(dataset, "file_meta", Dataset())
    named = Elements([dataset], "").text("SOPClassUID"), Elements([meta], "").text("MediaStorageSOPClassUID")
    return [each for each in named if each]


def _is_other_class(name: str) -> bool:
    """Whether a SOP class is certainly none of CT images, nor the remains of one."""
    if name.startswith(_STANDARD) or _STANDARD.startswith(name):
        return UID(name).type == "SOP Class" and name not in (CTImageStorage, *ENHANCED_CT)
    return UID(name).is_valid


def check_nothing_follows(path: Path, dataset: Dataset, end: int) -> None:
    """Refuse what pydicom takes for the next elements, or leaves out, where bytes were lost or put in.

    Parameters
    ----------
    path : Path
    dataset : Dataset
        Read from it.
    end : int
        Where its pixel data ends, in bytes from the start of the file, or of what was inflated.
    """
    rest = b"".join(_inflated(path))
    if rest:
        rest = rest[end:]
    else:
        with open(path, "rb") as file:
            file.seek(end)
            rest = file.read()
    if rest in (b"", b"\0"):
        return
    big = getattr(dataset, "is_little_endian", True) is False
    tag = tuple(int.from_bytes(rest[start : start + 2], "big" if big else "little") for start in (0, 2))
    private = 0x7FE0 < tag[0] < 0x7FF0 and tag[0] % 2
    if tag not in ((0xFFFA, 0xFFFA), (0xFFFC, 0xFFFC)) and not private:
        raise ValueError(f"{len(rest)} bytes after the pixel data are no part of the file: some were lost or put in")


def _check_inflated_size(path: Path) -> None:
    """Refuse a deflated file that would fill the memory: pydicom inflates it at once."""
    most = min(max(_SMALL_BYTES, _MOST_INFLATED_TIMES * path.stat().st_size), _MOST_INFLATED_BYTES)
    size = 0
    for block in _inflated(path):
        size += len(block)
        if size > most:
            raise InputError(f"{path} inflates to more than {most >> 20} MiB: export it uncompressed")


def _inflated(path: Path) -> Iterator[bytes]:
    """The content of a deflated file behind its file meta information, in pieces; nothing of another file."""
    with open(path, "rb") as file:
        # Both as pydicom does it, which heeds no length of the file meta information, so that it inflates the same.
        read_preamble(file, force=True)
        if str(_read_file_meta_info(file).get("TransferSyntaxUID")) != DeflatedExplicitVRLittleEndian:
            return
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        while not inflater.eof:
            block = inflater.unconsumed_tail or file.read(1 << 16)
            if not block:
                raise EOFError("the file is cut short")
            yield inflater.decompress(block, 1 << 20)


class Elements:
    """Typed access to elements, of which the first data set that has one tells it.

    What is absent or empty is None (numbers) or empty (text). What is there but not what it ought to be is
    refused with its value; text never is.
    """

    def __init__(self, datasets: Sequence[Dataset], where: str):
        self._datasets = datasets
        self._known: dict[str, list[Any]] = {}
        self.where = where

    def __contains__(self, keyword: str) -> bool:
        tag = _tag(keyword)
        return any(tag in dataset for dataset in self._datasets)

    def text(self, keyword: str) -> str:
        """One line."""
        return "\\".join(self.texts(keyword))

    def texts(self, keyword: str) -> list[str]:
        """The values, each in one line."""
        try:
            return [re.sub(r"[\x00-\x1f\x7f-\x9f\s]+", " ", str(value)).strip() for value in self._values(keyword)]
        except InputError:
            return []

    def number(self, keyword: str) -> float | None:
        """One finite number."""
        values = self.numbers(keyword, 1)
        return None if values is None else values[0]

    def integer(self, keyword: str) -> int | None:
        """One whole number."""
        value = self.number(keyword)
        if value is None:
            return None
        if not value.is_integer():
            raise self._refusal(keyword, "a whole number")
        return int(value)

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """So many finite numbers."""
        values = self._values(keyword)
        if not values or values == [""]:
            return None
        wanted = "a number" if count == 1 else f"{count} numbers"
        try:
            numbers = tuple(float(str(value)) for value in values)
        except ValueError as error:
            raise self._refusal(keyword, wanted) from error
        if len(numbers) != count or not all(map(math.isfinite, numbers)):
            raise self._refusal(keyword, wanted)
        return numbers

    def items(self, keyword: str) -> list[Dataset]:
        """The items of a sequence."""
        values = self._values(keyword)
        if not all(isinstance(value, Dataset) for value in values):
            raise InputError(f"{self.where} is a damaged DICOM file ({keyword} is no sequence): export it again")
        return values

    def _values(self, keyword: str) -> list[Any]:
        if keyword not in self._known:
            self._known[keyword] = self._read_values(keyword)
        return self._known[keyword]

    def _read_values(self, keyword: str) -> list[Any]:
        tag = _tag(keyword)
        dataset = next((dataset for dataset in self._datasets if tag in dataset), None)
        if dataset is None:
            return []
        with guard(self.where, keyword), quiet:
            value = dataset[tag].value
            if value is None:
                return []
            return [value] if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__") else list(value)

    def _refusal(self, keyword: str, wanted: str) -> InputError:
        value = self.text(keyword)
        return InputError(f'{self.where} has "{value[:60]}" as {keyword}, which must be {wanted}: export it again')


_tag = functools.cache(Tag)


def save(dataset: Dataset, file: Path | BinaryIO) -> None:
    """Write a DICOM file."""
    with quiet:
        if int(pydicom.__version__.partition(".")[0]) >= 3:
            # Unlike Dataset.save_as, dcmwrite also converts big-endian templates.
            pydicom.dcmwrite(file, dataset, enforce_file_format=True)
            return
        # Slicer 5.10 has pydicom 2.4, in use since it started: another version must not take its place.
        dataset.is_little_endian, dataset.is_implicit_VR = True, False
        pydicom.dcmwrite(file, dataset, write_like_original=False)


@contextlib.contextmanager
def guard(where: Path | str, what: str = "") -> Iterator[None]:
    """Turn every exception but the library's own into one line that names the file: damage has no kinds."""
    try:
        yield
    except IPv2Error:
        raise
    except MemoryError as error:
        raise InputError(f"{where} does not fit into memory: export it again, or close other programs") from error
    except OSError as error:
        raise InputError(f"cannot read {where}: {reason(error)}") from error
    except Exception as error:
        damage = " ".join(f"{what} {error or type(error).__name__}".split())[:200]
        raise InputError(f"{where} is a damaged DICOM file ({damage}): export it again") from error


class _Quiet(contextlib.ContextDecorator):
    """Keeps pydicom's remarks on unusual but readable values off stderr, in whatever thread.

    `warnings.catch_warnings` would put back the filters that it found, which may be those of another thread.
    """

    _MODULE = r"pydicom(\.|$)"

    def __init__(self):
        self._lock = threading.RLock()
        self._users = 0

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                warnings.filterwarnings("ignore", module=self._MODULE)

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                own = [each for each in warnings.filters if getattr(each[3], "pattern", None) == self._MODULE]
                for each in own:
                    cast("list", warnings.filters).remove(each)


quiet = _Quiet()
