"""Pixel data of a DICOM file: decoded to stored values, padding found, HU made of them and the other way round.

Uncompressed pixels are taken as they lie in the file. Compressed ones are decoded by GDCM (through SimpleITK), which
sees nothing of the file but the codestream and its size. The rescale is applied here, whatever the photometric
interpretation: MONOCHROME1 says how to display values, not what they mean.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import SecondaryCaptureImageStorage

from ..errors import InputError
from ..hounsfield import AIR_HU, NO_DATA_HU
from . import dicom_codestream
from .atomic import temporary_folder
from .dicom_file import Elements, check_nothing_follows, guard, save

_NATIVE = {"", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"}
_COMPRESSED = {f"1.2.840.10008.1.2.4.{end}" for end in (50, 51, 57, 70, 80, 81, 90, 91)} | {"1.2.840.10008.1.2.5"}
TRANSFER_SYNTAXES = tuple(sorted((_NATIVE - {""}) | _COMPRESSED))
"""UIDs of all that are read."""

HIGHEST_HU = 3071
"""Of 12 bits. Padding above it is no value of a CT."""

LOSSY = {f"1.2.840.10008.1.2.4.{end}" for end in (50, 51, 81)}
"""Transfer syntaxes whose pixels cannot be the scanner's. JPEG 2000 (91) may be either."""

_MOST_PIXELS = 1 << 26  # of a compressed frame, which says nothing of its size before it is decoded
_OTHER_QUANTITIES = {"OD", "MGML", "Z_EFF", "ED", "EDW", "PCT"}


@dataclass(frozen=True)
class PixelFormat:
    """How the pixels of one frame are stored and what they mean.

    Attributes
    ----------
    rows, columns : int
    bits_allocated, bits_stored, high_bit : int
    signed : bool
    slope, intercept : float
        HU = slope × stored value + intercept.
    has_rescale : bool
        Whether the file states both.
    padding : tuple of 2 ints, or None
        First and last stored value of pixels where nothing was measured; the first is PixelPaddingValue
        unless that is the greater one.
    padding_value : int
        PixelPaddingValue, 0 where there is none.
    """

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    slope: float
    intercept: float
    has_rescale: bool
    padding: tuple[int, int] | None
    padding_value: int

    @property
    def whole(self) -> bool:
        """Whether every stored value is a whole number of HU."""
        return self.slope.is_integer() and self.intercept.is_integer()

    def hu(self, stored: np.ndarray) -> np.ndarray:
        """HU by the rescale, padding included: integers where it is whole, else float64."""
        kind = np.int64 if self.whole else np.float64
        with np.errstate(over="ignore", invalid="ignore"):  # becomes infinite, which check_ct reports
            return stored.astype(kind) * kind(self.slope) + kind(self.intercept)

    @property
    def padding_hu(self) -> float:
        """HU of padding: what the rescale gives if that is below any air, as outside a field of view; else no data."""
        value = float(self.hu(np.array(self.padding_value)))
        return value if np.iinfo(np.int16).min <= value < AIR_HU else NO_DATA_HU

    def is_padding(self, stored: np.ndarray) -> np.ndarray:
        """Which pixels of a frame were not measured, boolean.

        Some files name a value that their anatomy has, too, against the standard. So where padding would be HU
        of a CT it counts only if it is connected to a corner of the frame.
        """
        if self.padding is None:
            return np.zeros(stored.shape, bool)
        mask = (stored >= self.padding[0]) & (stored <= self.padding[1])
        if not NO_DATA_HU <= float(self.hu(np.array(self.padding_value))) <= HIGHEST_HU:
            return mask
        from scipy import ndimage

        pieces, _ = ndimage.label(mask)
        corners = np.unique(pieces[[0, 0, -1, -1], [0, -1, 0, -1]])
        return np.isin(pieces, corners[corners > 0])


def pixel_format(elements: Elements) -> PixelFormat:
    """What a header says about the pixels of one frame.

    Raises
    ------
    InputError
        Where it says nothing usable, or contradicts itself.
    """
    where = elements.where
    rows, columns, allocated, stored, high_bit, representation = (
        elements.integer(keyword)
        for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
    )
    allocated = allocated or 0
    stored = allocated if stored is None else stored
    bits = f"BitsAllocated {allocated}, BitsStored {stored}, PixelRepresentation {representation}"
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated or representation not in (0, 1):
        raise InputError(f"{where} has {bits}, which no CT has: export it again")
    if not (rows and columns and rows > 0 and columns > 0):
        raise InputError(f"{where} has {rows} Rows and {columns} Columns: export it again")
    kind = elements.text("PhotometricInterpretation") or "MONOCHROME2"
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputError(f"{where} has colours ({kind}): give the CT slices, not a screenshot or a report")
    if elements.items("ModalityLUTSequence"):
        raise InputError(f"{where} has a modality LUT in place of rescale slope and intercept: export it again")
    if (quantity := elements.text("RescaleType").upper()) in _OTHER_QUANTITIES:
        raise InputError(f"{where} holds no HU but {quantity} (RescaleType): give a series in HU")
    rescale = {}
    for keyword, usual in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        value = elements.number(keyword)
        if keyword in elements and (value is None or (value == 0 and usual)):
            raise InputError(f"{where} has {'an empty' if value is None else '0 as'} {keyword}: export it again")
        rescale[keyword] = usual if value is None else value
    padding = [
        _as_stored(value, allocated, representation == 1)
        for value in map(elements.integer, ("PixelPaddingValue", "PixelPaddingRangeLimit"))
        if value is not None
    ]
    has_padding = elements.integer("PixelPaddingValue") is not None
    return PixelFormat(
        rows,
        columns,
        allocated,
        stored,
        stored - 1 if high_bit is None else high_bit,
        representation == 1,
        rescale["RescaleSlope"],
        rescale["RescaleIntercept"],
        "RescaleSlope" in elements and "RescaleIntercept" in elements,
        (min(padding), max(padding)) if has_padding else None,
        padding[0] if has_padding else 0,
    )


def stored_values(dataset: Dataset, form: PixelFormat, frames: int, path: Path) -> list[np.ndarray]:
    """Stored values of every frame of a file, (rows, columns) each.

    Parameters
    ----------
    dataset : Dataset
        The whole file.
    form : PixelFormat
        Size and bits, which all frames of a file share.
    frames : int
        How many there must be.
    path : Path
        Names the file in messages.

    Raises
    ------
    InputError
        No or damaged pixel data, more or less of it than the header says, an unknown compression, values that
        need more bits than the header states.
    """
    with guard(path):
        syntax = str(getattr(dataset.file_meta, "TransferSyntaxUID", ""))
        if "PixelData" not in dataset:
            raise InputError(f"{path} is a damaged DICOM file (it has no pixel data; cut short?): export it again")
        if form.high_bit != form.bits_stored - 1:
            raise InputError(
                f"{path} contradicts itself: BitsStored {form.bits_stored} with HighBit {form.high_bit}; export it "
                "again"
            )
        element = dataset["PixelData"]
        data = bytes(element.value or b"")
        encapsulated = element.is_undefined_length
        if syntax not in _NATIVE | _COMPRESSED:
            name = pydicom.uid.UID(syntax).name
            raise InputError(f"{path} is compressed in a way that cannot be read ({name}): export it uncompressed")
        if encapsulated != (syntax in _COMPRESSED):
            which = "compressed" if encapsulated else "not compressed"
            raise InputError(
                f"{path} contradicts itself: its pixel data is {which}, its transfer syntax "
                f"{pydicom.uid.UID(syntax).name or 'missing'}; export it again"
            )
        assert element.file_tell is not None  # as it was read from a file
        end = element.file_tell + len(data)
        if encapsulated:
            _check_end(path, end)
            check_nothing_follows(path, dataset, end + 8)
            planes = [_decoded(frame, form, syntax, path) for frame in _split(data, frames)]
        else:
            planes = _native(data, dataset, form, frames)
            check_nothing_follows(path, dataset, end)
        return [_masked(plane, form, dataset, path) for plane in planes]


def _native(data: bytes, dataset: Dataset, form: PixelFormat, frames: int) -> list[np.ndarray]:
    width = form.bits_allocated // 8
    row = form.columns * width
    needed = frames * form.rows * row
    # Up to a row more is padding of the file; a row or more would be a part of the image that Rows leaves out.
    if not needed <= len(data) < needed + row:
        sizes = f"{len(data)} bytes of pixel data where {frames} × {form.rows} × {form.columns} pixels need {needed}"
        raise ValueError(sizes + ("; it is cut short" if len(data) < needed else ""))
    big = not _little_endian(dataset)
    pixels = np.frombuffer(data, f"{'>' if big else '<'}u{width}", needed // width)
    if big and width == 1 and dataset["PixelData"].VR == "OW":
        pixels = np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").view("u1")[:needed]
    return list(pixels.astype(f"u{width}").reshape(frames, form.rows, form.columns))


def _little_endian(dataset: Dataset) -> bool:
    if hasattr(dataset, "original_encoding"):
        return dataset.original_encoding[1] is not False
    return dataset.read_little_endian is not False  # pydicom 2


def _check_end(path: Path, end: int) -> None:
    """pydicom takes the end of the file for the end of the pixel data."""
    with open(path, "rb") as file:
        file.seek(end)
        if file.read(8) != b"\xfe\xff\xdd\xe0\0\0\0\0":
            raise EOFError("the pixel data is cut short")


def _split(data: bytes, frames: int) -> list[bytes]:
    """The codestream of each frame of encapsulated pixel data."""
    items, position = [], 0
    while data[position : position + 4] == b"\xfe\xff\x00\xe0":
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        items.append((position, data[position + 8 : position + 8 + length]))
        if len(items[-1][1]) < length:
            raise ValueError("the pixel data is cut short")
        position += 8 + length
    if position != len(data):
        raise ValueError("the pixel data has pieces of other lengths than it says; bytes were lost or put in")
    if len(items) < 2:
        raise ValueError("the pixel data has no frame")
    (_, table), fragments = items[0], items[1:]
    if frames == 1:
        return [b"".join(content for _, content in fragments)]
    if len(fragments) == frames:
        return [content for _, content in fragments]
    starts = np.frombuffer(table, "<u4").astype(int) + fragments[0][0]
    if len(starts) != frames:
        raise ValueError(f"{len(fragments)} pieces of pixel data for {frames} frames")
    ends = [*starts[1:], position]
    return [
        b"".join(content for at, content in fragments if start <= at < end)
        for start, end in zip(starts, ends, strict=True)
    ]


def _decoded(codestream: bytes, form: PixelFormat, syntax: str, path: Path) -> np.ndarray:
    if form.rows * form.columns > _MOST_PIXELS:
        raise InputError(f"{path} has {form.rows} × {form.columns} pixels, which no CT has: export it again")
    dicom_codestream.check(codestream, syntax, form.rows, form.columns, form.bits_allocated // 8)
    alone = Dataset()
    alone.file_meta = FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    alone.file_meta.MediaStorageSOPClassUID = alone.SOPClassUID = SecondaryCaptureImageStorage
    alone.file_meta.MediaStorageSOPInstanceUID = alone.SOPInstanceUID = pydicom.uid.UID("1.2.3")
    alone.SamplesPerPixel = 1
    alone.PhotometricInterpretation = "MONOCHROME2"
    alone.Rows, alone.Columns = form.rows, form.columns
    alone.BitsAllocated, alone.BitsStored, alone.HighBit = form.bits_allocated, form.bits_stored, form.high_bit
    alone.PixelRepresentation = int(form.signed)
    alone.add_new("PixelData", "OB", encapsulate([codestream]))
    alone["PixelData"].is_undefined_length = True
    with temporary_folder() as folder:
        file = folder / "frame.dcm"
        save(alone, file)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(file))
        with _itk_errors(f"{path} has damaged or unsupported pixel data"):
            plane = sitk.GetArrayFromImage(reader.Execute())
    if plane.size != form.rows * form.columns:
        raise InputError(f"{path} has damaged pixel data (an image of another size): export it again")
    return plane.reshape(form.rows, form.columns).astype(f"u{form.bits_allocated // 8}")


def _masked(raw: np.ndarray, form: PixelFormat, dataset: Dataset, path: Path) -> np.ndarray:
    """Stored values of unsigned words as they lie in the file."""
    whole = raw.view(raw.dtype.str.replace("u", "i")) if form.signed else raw
    if form.bits_stored == form.bits_allocated:
        return whole
    span = 1 << form.bits_stored
    values = (raw & raw.dtype.type(span - 1)).astype(np.int64)
    if form.signed:
        values -= span * (values >= span // 2)
    odd = (raw >= span) & (whole != values)
    if odd.any():
        padded = np.zeros(odd.shape, bool) if form.padding is None else (whole >= form.padding[0])
        if form.padding is not None:
            padded &= whole <= form.padding[1]
        values = np.where(padded, whole, values)
        if (odd & ~padded).any() and not embedded_overlays(dataset):
            value = whole[odd & ~padded][0]
            raise InputError(
                f"{path} contradicts itself: a stored value of {value} does not fit into its BitsStored "
                f"{form.bits_stored}; export it again"
            )
    return values.astype(np.int32)


def embedded_overlays(dataset: Dataset) -> list[int]:
    """Groups of overlays that lie in unused bits of the pixels."""
    return [
        group for group in range(0x6000, 0x6020, 2) if (group, 0x0010) in dataset and (group, 0x3000) not in dataset
    ]


def _as_stored(value: int, bits: int, signed: bool) -> int:
    """Files name padding by its bits (63536) or by its value (-2000), whatever their pixels are."""
    value %= 1 << bits
    return value - (1 << bits) if signed and value >= 1 << (bits - 1) else value


@contextlib.contextmanager
def _itk_errors(what: str) -> Iterator[None]:
    """Turn ITK's errors into one line, and keep its warnings off stderr meanwhile."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    except RuntimeError as error:
        raise InputError(f"{what}: {_last_line(error)}") from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _last_line(error: RuntimeError) -> str:
    """Of an ITK error: the others name ITK's own files and objects."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return re.sub(r"^(.*ERROR: )?(\w+\(0x\w+\): )?", "", lines[-1])
