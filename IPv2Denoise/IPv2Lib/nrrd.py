"""NRRD: its header and where it lies in the patient. Nothing in a header is passed over that would change the image."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import payload
from .payload import Damaged, Part, numbers, shown, whole_numbers
from .places import Place

if TYPE_CHECKING:
    from .ct import Volume

_LONGEST_HEADER = 1 << 20
_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_ENCODINGS = {
    "raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2", "hex": "hex",
    "ascii": "ascii", "text": "ascii", "txt": "ascii",
}  # fmt: skip
# Factors that turn the axes of a space into left, posterior, superior.
_SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1.0, -1.0, 1.0)),
}
_SAME_FIELD = {
    "centers": "centerings", "axismins": "axis mins", "axismaxs": "axis maxs", "blocksize": "block size",
    "oldmin": "old min", "oldmax": "old max", "lineskip": "line skip", "byteskip": "byte skip",
    "datafile": "data file", "sampleunits": "sample units",
}  # fmt: skip
_FIELDS = {
    "content", "number", "type", "block size", "dimension", "space", "space dimension", "sizes", "spacings",
    "thicknesses", "axis mins", "axis maxs", "centerings", "labels", "units", "kinds", "space directions",
    "space origin", "space units", "measurement frame", "min", "max", "old min", "old max", "endian", "encoding",
    "line skip", "byte skip", "data file", "sample units",
}  # fmt: skip
_SPATIAL_KINDS = ("domain", "space", "???", "none")


def read(path: Path) -> tuple[np.ndarray, Place]:
    """Voxels as stored, (slices, rows, columns), and their place. Raises `Damaged`."""
    fields, parts = _header(path)
    sizes, axes = _axes(fields)
    place = _place(fields, axes, [sizes[axis] for axis in axes])
    array = payload.read(parts, _encoding(fields), _dtype(fields), math.prod(sizes))
    return array.reshape([*(sizes[axis] for axis in axes), 1][:3][::-1]), place


def write(volume: Volume, path: Path, compress: bool) -> None:
    """Write a file with header and voxels."""
    fields = {
        "type": {"i": "short", "f": "float"}[volume.array.dtype.kind],
        "dimension": 3,
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, volume.array.shape[::-1])),
        "space directions": " ".join(_written(column[:3]) for column in volume.affine.T[:3]),
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "gzip" if compress else "raw",
        "space origin": _written(volume.origin),
    }
    with open(path, "wb") as file:
        file.write("".join(["NRRD0004\n", *(f"{name}: {value}\n" for name, value in fields.items()), "\n"]).encode())
        blocks = payload.blocks(volume.array)
        file.writelines(payload.compressed(blocks, payload.GZIP) if compress else blocks)


def _written(vector: Iterable[float]) -> str:
    return "(" + ",".join(repr(float(value)) for value in vector) + ")"


def data_files(path: Path) -> list[Path]:
    """The files that hold the voxels."""
    return [part.path for part in _header(path)[1]]


def _header(path: Path) -> tuple[dict[str, str], list[Part]]:
    fields: dict[str, str] = {}
    files: list[str] | None = None  # after "data file: LIST"
    with payload.open_file(path) as file:
        if not re.fullmatch(rb"NRRD000[1-5]\r?\n", file.readline(12)):
            raise Damaged("it does not begin as NRRD does")
        while line := file.readline(_LONGEST_HEADER):
            if file.tell() > _LONGEST_HEADER:
                raise Damaged("its header has no end")
            text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
            if files is not None:
                files += [text] if text.strip() else []
            elif not text:
                break
            elif text.startswith("#") or re.match(r"[^:]*:=", text):
                continue
            else:
                name, value = _field(text)
                if name in fields:
                    raise Damaged(f"its header has '{name}' twice")
                fields[name] = value
                if name == "data file" and re.match(r"LIST\b", value):
                    files = []
        start = file.tell()
        ended = line.strip(b"\r\n") == b"" and line != b""
    if "data file" not in fields:
        if not ended:
            raise Damaged("it ends within its header")
        places, start = [path], start
    else:
        places, start = _detached(path.parent, fields, files), 0
    skip_lines, skip_bytes = (whole_numbers(fields.get(key, "0"), key, 1)[0] for key in ("line skip", "byte skip"))
    if skip_lines < 0 or skip_bytes < -1 or (skip_bytes == -1 and _encoding(fields) != "raw"):
        raise Damaged(f"'line skip: {skip_lines}' and 'byte skip: {skip_bytes}' cannot be")
    if skip_bytes == -1:
        return fields, [Part(place, -1, beside=place != path) for place in places]
    return fields, [Part(place, start, skip_lines, skip_bytes, beside=place != path) for place in places]


def _field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(": ")
    if not colon and text.endswith(":"):
        name, colon = text[:-1], ":"
    name = name.lower()
    name = _SAME_FIELD.get(name, name)
    if not colon or name not in _FIELDS:
        raise Damaged(f"its header has a line that NRRD does not know: '{shown(text)}'")
    return name, value.strip()


def _detached(folder: Path, fields: dict[str, str], listed: list[str] | None) -> list[Path]:
    value = fields["data file"]
    dimension = whole_numbers(fields.get("dimension", ""), "dimension", 1)[0]
    sizes = whole_numbers(fields.get("sizes", ""), "sizes")
    if listed is not None:
        found, axes = [folder / name for name in listed], value[4:]
    elif match := re.fullmatch(r"(\S*%\S*)((?:\s+-?[0-9]{1,9}){3})(\s+[0-9]{1,9})?", value):
        found, axes = payload.files_of_pattern(folder, match[1], *map(int, match[2].split())), match[3] or ""
    else:
        return [folder / value]
    each = whole_numbers(axes, "data file", 1)[0] if axes.strip() else dimension - 1
    if not found or not 1 <= each <= dimension or len(sizes) != dimension:
        raise Damaged(f"'data file: {shown(value)}' names no files")
    expected = math.prod(sizes[each:])
    if (len(found) != expected) if each < dimension else sizes[-1] % len(found):
        raise Damaged(
            f"'data file: {shown(value)}' names {len(found)} files, and 'sizes: {fields['sizes']}' asks for {expected}"
        )
    return found


def _need(fields: dict[str, str], name: str) -> str:
    if name not in fields:
        raise Damaged(f"its header has no '{name}'")
    return fields[name]


def _encoding(fields: dict[str, str]) -> str:
    text = _need(fields, "encoding").lower()
    if text not in _ENCODINGS:
        raise Damaged(f"'encoding: {shown(text)}' is not known: save it again, e.g. with encoding gzip")
    return _ENCODINGS[text]


def _dtype(fields: dict[str, str]) -> np.dtype:
    text = " ".join(_need(fields, "type").lower().split())
    code = next((code for code, names in _TYPES.items() if text in names), None)
    if code is None:
        raise Damaged(f"'type: {shown(text)}' is no type of numbers")
    if any(re.fullmatch(r"[-+]?[0-9].*", fields.get(key, "")) for key in ("old min", "old max")):
        raise Damaged("its values are quantized ('old min', 'old max'): save it again with the values themselves")
    endian = fields.get("endian", "").lower()
    if endian not in ("little", "big", ""):
        raise Damaged(f"'endian: {shown(endian)}' should be little or big")
    if not endian and code[1] != "1" and _encoding(fields) != "ascii":
        raise Damaged("its header has no 'endian' (little or big)")
    return np.dtype({"big": ">", "little": "<", "": "="}[endian] + code)


def _axes(fields: dict[str, str]) -> tuple[list[int], list[int]]:
    """Sizes of all axes, and which of them are spatial: two or three."""
    (dimension,) = whole_numbers(_need(fields, "dimension"), "dimension", 1)
    if not 1 <= dimension <= 16:
        raise Damaged(f"'dimension: {dimension}' should be 2 or 3")
    sizes = whole_numbers(_need(fields, "sizes"), "sizes", dimension)
    if min(sizes) < 1:
        raise Damaged(f"'sizes: {shown(fields['sizes'])}' should be above 0")
    if "number" in fields and whole_numbers(fields["number"], "number", 1)[0] != math.prod(sizes):
        raise Damaged(f"'number: {fields['number']}' is not what 'sizes: {fields['sizes']}' make")
    if fields.get("space dimension", "3").strip() not in ("2", "3") or fields.get("space", "").lower().endswith("time"):
        size = "×".join(map(str, sizes))
        raise Damaged(f"it is {dimension}-D ({size}): give one volume, not a series in time")
    kinds = fields["kinds"].lower().split() if "kinds" in fields else ["domain"] * dimension
    if len(kinds) != dimension:
        raise Damaged(f"'kinds: {shown(fields['kinds'])}' should be {dimension} words")
    directions = _directions(fields, dimension)
    axes = []
    for axis, (kind, size) in enumerate(zip(kinds, sizes, strict=True)):
        placed = directions[axis] is not None if directions else True
        if kind in _SPATIAL_KINDS and placed:
            axes.append(axis)
        elif size > 1 and kind in ("list", "time"):
            raise Damaged(f"it is a sequence of {size} images: give one volume, not a series in time")
        elif size > 1 and (kind not in _SPATIAL_KINDS or dimension > 3):
            raise Damaged(f"it has {size} values per voxel (colour?): give one HU per voxel")
        elif size > 1:
            raise Damaged("one of its axes has no direction")
    if len(axes) > 3:
        long = [axis for axis in axes if sizes[axis] > 1 or axis < 3]
        if len(long) > 3 or "space" in fields or directions:
            size = "×".join(map(str, sizes))
            raise Damaged(f"it is {len(axes)}-D ({size}): give one volume, not a series in time")
        axes = long
    if len(axes) < 2:
        raise Damaged("it has fewer than two spatial axes: give a volume")
    return sizes, axes


def _directions(fields: dict[str, str], dimension: int) -> list[np.ndarray | None]:
    """The vectors of all axes in the space of the file; empty where it has none."""
    text = fields.get("space directions")
    if text is None:
        return []
    words = re.findall(r"none|\([^()]*\)", text)
    if len(words) != dimension or re.sub(r"none|\([^()]*\)|\s", "", text):
        raise Damaged(f"'space directions: {shown(text)}' should be {dimension} vectors")
    return [None if word == "none" else _vector(word, "space directions", fields) for word in words]


def _vector(text: str, field: str, fields: dict[str, str]) -> np.ndarray:
    if not re.fullmatch(r"\([^()]*\)", text):
        raise Damaged(f"'{field}: {shown(text)}' should be a vector such as (1,0,0)")
    dimension = 3 if "space" in fields else whole_numbers(fields.get("space dimension", "3"), "space dimension", 1)[0]
    if dimension not in (2, 3):
        raise Damaged(f"'space dimension: {dimension}' should be 3")
    found = numbers(text[1:-1].replace(",", " "), field, dimension)
    return np.array([*found, 0.0][:3])


def _place(fields: dict[str, str], axes: list[int], sizes: list[int]) -> Place:
    dimension = whole_numbers(fields["dimension"], "dimension", 1)[0]
    space = fields.get("space", "").lower().replace(" ", "-")
    if space and space not in _SPACES:
        raise Damaged(
            f"'space: {shown(fields['space'])}' does not say how the image lies in the patient: save it with "
            "left-posterior-superior or right-anterior-superior"
        )
    signs = np.array(_SPACES.get(space, (1.0, 1.0, 1.0)))
    directions = _directions(fields, dimension)
    matrix = np.zeros((3, 3))
    spacings = _spacings(fields, dimension)
    if directions:
        mm = _mm(fields, "space units", 3)
        for column, axis in enumerate(axes):
            matrix[:, column] = directions[axis] * mm * signs
            if spacings[axis] is not None:
                raise Damaged("its header has both 'spacings' and 'space directions': remove one")
        origin = _vector(fields["space origin"], "space origin", fields) if "space origin" in fields else np.zeros(3)
        return Place.from_columns(matrix[:, : len(axes)], origin * mm * signs)
    mm = _mm(fields, "units", dimension)
    origin = _vector(fields["space origin"], "space origin", fields) if "space origin" in fields else None
    mins = _optional_numbers(fields, "axis mins", dimension)
    centerings = fields.get("centerings", "").lower().split() or ["???"] * dimension
    corner = np.zeros(3)
    for column, axis in enumerate(axes):
        step = 1.0 if spacings[axis] is None else spacings[axis] * mm[axis]
        matrix[column, column] = step
        if mins[axis] is not None:
            node = axis < len(centerings) and centerings[axis] == "node"
            corner[column] = mins[axis] * mm[axis] + (0.0 if node else step / 2)
    if "axis maxs" in fields and "spacings" not in fields:
        raise Damaged("its header has 'axis maxs' without 'spacings': save it with spacings")
    return Place.from_columns(
        matrix[:, : len(axes)] * signs[:, None], corner * signs if origin is None else origin * signs
    )


def _spacings(fields: dict[str, str], dimension: int) -> list[float | None]:
    return _optional_numbers(fields, "spacings", dimension)


def _optional_numbers(fields: dict[str, str], field: str, count: int) -> list[float | None]:
    words = fields.get(field, " ".join(["nan"] * count)).split()
    if len(words) != count:
        raise Damaged(f"'{field}: {shown(fields[field])}' should be {count} numbers")
    return [None if word.lower() == "nan" else numbers(word, field, 1)[0] for word in words]


def _mm(fields: dict[str, str], field: str, count: int) -> np.ndarray:
    """mm in the units of each axis."""
    text = fields.get(field)
    if text is None:
        return np.ones(count)
    units = re.findall(r'"([^"]*)"', text)
    unknown = [unit for unit in units if unit.strip().lower() not in payload.MM_PER_UNIT]
    if len(units) < min(count, 2) or unknown:
        raise Damaged(f"'{field}: {shown(text)}' is not known: give mm")
    return np.array([payload.MM_PER_UNIT[unit.strip().lower()] for unit in [*units, *[""] * count][:count]])
