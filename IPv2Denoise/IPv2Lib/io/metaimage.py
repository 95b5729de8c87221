"""MetaImage: its header and where it lies in the patient.

Our own few lines: SimpleITK, the one library for it, takes voxels that are too short or whose checksum is wrong, drops
rescales, crashes on some headers and knows no names but UTF-8. Checking all that before it reads takes as many lines.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import deflate, payload
from .payload import Damaged, Part, shown, whole_numbers
from .places import Place

if TYPE_CHECKING:
    from .volume import Volume

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
_SAME_FIELD = {
    "Position": "Offset", "Origin": "Offset", "Orientation": "TransformMatrix", "Rotation": "TransformMatrix",
    "ElementByteOrderMSB": "BinaryDataByteOrderMSB",
}  # fmt: skip


def read(path: Path, prefer: str | None = None) -> tuple[np.ndarray, Place]:
    """HU, (slices, rows, columns), and their place. Raises `Damaged`."""
    fields, start = _header(path)
    sizes = _sizes(fields)
    place = _place(fields, len(sizes))
    dtype = _dtype(fields)
    parts = _parts(path, fields, start)
    (slope,) = _numbers(fields, "ElementToIntensityFunctionSlope", [1])
    (offset,) = _numbers(fields, "ElementToIntensityFunctionOffset", [0])
    if slope == 0:
        raise Damaged("'ElementToIntensityFunctionSlope = 0' leaves no image")
    array = payload.read(parts, _encoding(fields), dtype, math.prod(sizes))
    return payload.rescaled(array.reshape([*sizes, 1][:3][::-1]), slope, offset), place


def place(path: Path, prefer: str | None = None) -> Place:
    """The place alone; raises as `read`."""
    fields, _ = _header(path)
    return _place(fields, len(_sizes(fields)))


def write(volume: Volume, written: Mapping[Path, Path], compress: bool) -> None:
    """Write a file, or a header after the voxels beside it, to the places that are given for them."""
    *beside, (_, header) = written.items()
    # The header tells the size of compressed data.
    data = list(payload.compressed(volume.array, deflate.ZLIB)) if compress else payload.blocks(volume.array)
    fields = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": compress,
        **({"CompressedDataSize": sum(map(len, data))} if compress else {}),
        "TransformMatrix": _written(np.reshape(volume.direction, (3, 3)).T.ravel()),
        "Offset": _written(volume.origin),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": _written(volume.spacing),
        "DimSize": " ".join(map(str, volume.array.shape[::-1])),
        "ElementType": {"i": "MET_SHORT", "f": "MET_FLOAT"}[volume.array.dtype.kind],
        "ElementDataFile": beside[0][0].name if beside else "LOCAL",
    }
    with open(header, "wb") as file:
        text = "".join(f"{name} = {value}\n" for name, value in fields.items())
        file.write(text.encode("utf-8", "surrogateescape"))
        if not beside:
            file.writelines(data)
    for _, voxels in beside:
        with open(voxels, "wb") as file:
            file.writelines(data)


def _written(values: Iterable[float]) -> str:
    return " ".join(repr(float(value)) for value in values)


def data_files(path: Path) -> list[Path]:
    """The files that hold the voxels."""
    return [part.path for part in _parts(path, *_header(path))]


def _header(path: Path) -> tuple[dict[str, str], int]:
    """Fields, and where the header ends."""
    fields: dict[str, str] = {}
    with payload.open_file(path) as file:
        while line := file.readline(payload.LONGEST_HEADER):
            if file.tell() > payload.LONGEST_HEADER:
                raise Damaged("its header has no end")
            text = line.decode("utf-8", "surrogateescape").strip()
            if not text:
                continue
            name, equals, value = (word.strip() for word in text.partition("="))
            name = _SAME_FIELD.get(name, name)
            if not equals or not re.fullmatch(r"[\w .:|\[\]-]+", name):
                raise Damaged(f"its header has a line that MetaImage does not know: '{shown(text)}'")
            if name in fields:
                raise Damaged(f"its header has '{name}' twice")
            fields[name] = value
            if name == "ElementDataFile":
                if re.match(r"LIST\b", value):
                    fields["files"] = file.read(payload.LONGEST_HEADER).decode("utf-8", "surrogateescape")
                break
        start = file.tell()
    if fields.get("ObjectType", "Image") != "Image" or "ElementDataFile" not in fields:
        raise Damaged("its header is not that of a MetaImage")
    return fields, start


def _need(fields: dict[str, str], name: str) -> str:
    if name not in fields:
        raise Damaged(f"its header has no '{name}'")
    return fields[name]


def _flag(fields: dict[str, str], name: str, default: bool) -> bool:
    text = fields.get(name, str(default)).lower()
    if text not in ("true", "false", "1", "0", "t", "f", "yes", "no"):
        raise Damaged(f"'{name} = {shown(text)}' should be True or False")
    return text[0] in "t1y"


def _sizes(fields: dict[str, str]) -> list[int]:
    (dimension,) = whole_numbers(_need(fields, "NDims"), "NDims", 1)
    if not 1 <= dimension <= 10:
        raise Damaged(f"'NDims = {dimension}' should be 2 or 3")
    sizes = whole_numbers(_need(fields, "DimSize"), "DimSize", dimension)
    if min(sizes) < 1:
        raise Damaged(f"'DimSize = {shown(fields['DimSize'])}' should be above 0")
    (channels,) = whole_numbers(fields.get("ElementNumberOfChannels", "1"), "ElementNumberOfChannels", 1)
    if channels != 1:
        raise Damaged(f"it has {channels} values per voxel (colour?): give one HU per voxel")
    if dimension not in (2, 3):
        size = "×".join(map(str, sizes))
        raise Damaged(f"it is {dimension}-D ({size}): give one volume, not a series in time")
    return sizes


def _dtype(fields: dict[str, str]) -> np.dtype:
    text = _need(fields, "ElementType")
    if text not in _TYPES:
        raise Damaged(f"'ElementType = {shown(text)}' is no type of single numbers")
    return np.dtype((">" if _flag(fields, "BinaryDataByteOrderMSB", False) else "<") + _TYPES[text])


def _encoding(fields: dict[str, str]) -> str:
    compressed = _flag(fields, "CompressedData", False)
    if not _flag(fields, "BinaryData", True):
        if compressed:
            raise Damaged("its data are both text and compressed, which cannot be")
        return "ascii"
    return "zlib" if compressed else "raw"


def _parts(path: Path, fields: dict[str, str], start: int) -> list[Part]:
    (skip,) = whole_numbers(fields.get("HeaderSize", "0"), "HeaderSize", 1)
    encoding = _encoding(fields)
    if skip < -1 or (skip == -1 and encoding != "raw"):
        raise Damaged(f"'HeaderSize = {skip}' cannot be")
    value = fields["ElementDataFile"]
    if value.upper() == "LOCAL":
        if skip not in (0, start):  # counted from the beginning of the file
            raise Damaged(f"'HeaderSize = {skip}' contradicts a header of {start} bytes")
        return [Part(path, start)]
    sizes = _sizes(fields)
    files = payload.data_files(path, value, fields.get("files", "").splitlines(), sizes, len(sizes) - 1)
    return [Part(file, skip, beside=True) for file in files]


def _numbers(fields: dict[str, str], name: str, default: Sequence[float] | np.ndarray) -> np.ndarray:
    """The finite numbers of a field, as many as there are by default."""
    if name not in fields:
        return np.array(default, float)
    words = [word for word in fields[name].split() if re.fullmatch(r"[-+.0-9eE]+", word)]  # not Python's 1_000
    try:
        found = np.array(words, float)
    except ValueError:
        found = np.zeros(0)
    if fields[name].split() != words or len(found) != len(default) or not np.isfinite(found).all():
        raise Damaged(f"'{name} = {shown(fields[name])}' should be {len(default)} numbers")
    return found


def _place(fields: dict[str, str], dimension: int) -> Place:
    unit = fields.get("DistanceUnits", "mm").lower()
    if unit not in payload.MM_PER_UNIT:
        raise Damaged(f"'DistanceUnits = {shown(unit)}' is not known: give mm")
    spacing = _numbers(fields, "ElementSpacing" if "ElementSpacing" in fields else "ElementSize", [1] * dimension)
    if (spacing <= 0).any():
        raise Damaged(f"'ElementSpacing = {' '.join(f'{value:g}' for value in spacing)}' should be above 0")
    axes = _numbers(fields, "TransformMatrix", np.eye(dimension).ravel()).reshape(dimension, dimension)  # one a row
    columns, origin = np.zeros((3, dimension)), np.zeros(3)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(axes, axis=1)
        if not (np.abs(lengths - 1) < 0.01).all():
            raise Damaged(f"'TransformMatrix = {shown(fields['TransformMatrix'])}' is no rotation")
        columns[:dimension] = (axes * (spacing / lengths)[:, None]).T * payload.MM_PER_UNIT[unit]
    origin[:dimension] = _numbers(fields, "Offset", [0] * dimension) * payload.MM_PER_UNIT[unit]
    return Place.from_columns(columns, origin)
