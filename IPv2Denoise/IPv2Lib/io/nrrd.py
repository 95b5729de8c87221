"""NRRD: which headers, as pynrrd reads them, mean a CT, and where it lies in the patient.

Nothing in a header is passed over that would change the image. Voxels come from `payload`: pynrrd knows neither
several data files nor hexadecimal ones, and looks at no checksum.
"""

from __future__ import annotations

import io
import math
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import deflate, payload
from .payload import Damaged, Part, shown, whole_numbers
from .places import Place

if TYPE_CHECKING:
    from .volume import Volume

_ENCODINGS = {name: name for name in ("raw", "gzip", "bzip2", "hex", "ascii")}
_ENCODINGS |= {"gz": "gzip", "bz2": "bzip2", "text": "ascii", "txt": "ascii"}
# Factors that turn the axes of a space into left, posterior, superior.
_SPACES = {
    **dict.fromkeys(("", "left-posterior-superior", "lps"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1.0, -1.0, 1.0)),
}
_WHOLE_NUMBERS = {"number", "dimension", "space dimension", "sizes", "line skip", "byte skip"}
_NUMBERS = {"spacings", "axis mins", "axis maxs", "space directions", "space origin", "old min", "old max"}
_WORDS = {"type", "space", "centerings", "units", "kinds", "space units", "endian", "encoding", "data file"}
_OF_NO_MATTER = {"content", "block size", "thicknesses", "labels", "measurement frame", "min", "max", "sample units"}
_FIELDS = {name: name for name in _WHOLE_NUMBERS | _NUMBERS | _WORDS | _OF_NO_MATTER}
_FIELDS |= {name.replace(" ", ""): name for name in _FIELDS}
_FIELDS["centers"] = "centerings"
_SPATIAL_KINDS = ("domain", "space", "???", "none")


def read(path: Path, prefer: str | None = None) -> tuple[np.ndarray, Place]:
    """Voxels as stored, (slices, rows, columns), and their place. Raises `Damaged`, and what pynrrd raises."""
    fields, parts = _header(path)
    axes = _axes(fields)
    place = _place(fields, axes)
    array = payload.read(parts, _encoding(fields), _dtype(fields), math.prod(fields["sizes"]))
    return array.reshape([*(fields["sizes"][axis] for axis in axes), 1][:3][::-1]), place


def place(path: Path, prefer: str | None = None) -> Place:
    """The place alone; raises as `read`."""
    fields, _ = _header(path)
    return _place(fields, _axes(fields))


def write(volume: Volume, written: Mapping[Path, Path], compress: bool) -> None:
    """Write a file with header and voxels, to the place of `written` that is given for it.

    Not through pynrrd, which puts the time into every file: the same image makes the same file.
    """
    (path,) = written.values()
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
        file.writelines(payload.compressed(volume.array, deflate.GZIP) if compress else payload.blocks(volume.array))


def _written(vector: Iterable[float]) -> str:
    return "(" + ",".join(repr(float(value)) for value in vector) + ")"


def data_files(path: Path) -> list[Path]:
    """The files that hold the voxels."""
    return [part.path for part in _header(path)[1]]


def _header(path: Path) -> tuple[dict[str, Any], list[Part]]:
    fields: dict[str, Any] = {}
    with payload.open_file(path) as file:
        if not re.fullmatch(rb"NRRD000[1-5]\r?\n", file.readline(12)):
            raise Damaged("it does not begin as NRRD does")
        while line := file.readline(payload.LONGEST_HEADER).decode("utf-8", "surrogateescape"):
            if file.tell() > payload.LONGEST_HEADER:
                raise Damaged("its header has no end")
            text = line.rstrip("\r\n")
            if not text:
                break
            if text.startswith("#") or re.match(r"[^:]*:=", text):
                continue
            name, value = _field(text)
            if name in fields:
                raise Damaged(f"its header has '{name}' twice")
            fields[name] = value
            if re.match(r"LIST\b", fields.get("data file", "")):
                break
        start = file.tell()
        listed = file.read(payload.LONGEST_HEADER).decode("utf-8", "surrogateescape").splitlines()
    for name in ("type", "dimension", "sizes", "encoding"):
        if name not in fields:
            raise Damaged(f"its header has no '{name}'")
    lines, skip, files = fields.get("line skip", 0), fields.get("byte skip", 0), [path]
    if lines < 0 or skip < -1 or (skip == -1 and _encoding(fields) != "raw"):
        raise Damaged(f"'line skip: {lines}' and 'byte skip: {skip}' cannot be")
    if "data file" in fields:
        axes = fields["dimension"] - 1
        files, start = payload.data_files(path, fields["data file"], listed, fields["sizes"], axes), 0
    elif not line:
        raise Damaged("it ends within its header")
    if skip == -1:
        start, lines, skip = -1, 0, 0
    return fields, [Part(file, start, lines, skip, beside=file != path) for file in files]


def _field(text: str) -> tuple[str, Any]:
    """Name and value of a line."""
    import nrrd

    name, _, value = text.partition(":")
    name, value = _FIELDS.get(name.lower(), ""), value.strip()
    if not name:
        raise Damaged(f"its header has a line that NRRD does not know: '{shown(text)}'")
    if name in _WHOLE_NUMBERS:
        found = whole_numbers(value, name, None if name == "sizes" else 1)
        return name, found if name == "sizes" else found[0]
    if name in _OF_NO_MATTER:
        return name, value
    try:
        if name in _NUMBERS:
            value = re.sub(r"(?<=[(,])\s+|\s+(?=[,)])", "", value)
            if not re.fullmatch(r"[-+.,()0-9A-Za-z\s]*", value, re.ASCII):  # Python's 1_000 is no number elsewhere
                raise ValueError
        return name, nrrd.read_header(["NRRD0005", f"{name}: {value}"])[name]
    except (ValueError, nrrd.NRRDError) as error:
        raise Damaged(f"its header has a line that cannot be read: '{shown(text)}'") from error


def _encoding(fields: dict[str, Any]) -> str:
    text = fields["encoding"].lower()
    if text not in _ENCODINGS:
        raise Damaged(f"'encoding: {shown(text)}' is not known: save it again, e.g. with encoding gzip")
    return _ENCODINGS[text]


def _dtype(fields: dict[str, Any]) -> np.dtype:
    import nrrd

    if np.isfinite([fields.get("old min", np.nan), fields.get("old max", np.nan)]).any():
        raise Damaged("its values are quantized ('old min', 'old max'): save it again with the values themselves")
    header = {
        "dimension": 1,
        "sizes": np.zeros(1, int),
        "encoding": "raw",
        "type": " ".join(fields["type"].lower().split()),
    }
    if "endian" in fields or _encoding(fields) == "ascii":
        header["endian"] = fields.get("endian", sys.byteorder).lower()
    try:
        return nrrd.read_data(header, io.BytesIO()).dtype
    except (KeyError, ValueError) as error:
        raise Damaged(f"'type: {shown(fields['type'])}' is no type of numbers") from error


def _axes(fields: dict[str, Any]) -> list[int]:
    """Which axes are spatial: two or three."""
    dimension, sizes = fields["dimension"], fields["sizes"]
    if not 1 <= dimension <= 16 or len(sizes) != dimension or min(sizes) < 1:
        text = f"'sizes: {shown(' '.join(map(str, sizes)))}' and 'dimension: {dimension}'"
        raise Damaged(f"{text} do not go together: sizes are above 0, one for each dimension")
    size = "×".join(map(str, sizes))
    if fields.get("number", math.prod(sizes)) != math.prod(sizes):
        raise Damaged(f"'number: {fields['number']}' is not what the sizes {size} make")
    if fields.get("space dimension", 3) not in (2, 3) or fields.get("space", "").lower().endswith("time"):
        raise Damaged(f"it is {dimension}-D ({size}): give one volume, not a series in time")
    placed = ~np.isnan(_directions(fields)).any(axis=1)
    axes = []
    for axis, kind in enumerate(map(str.lower, _each(fields, "kinds", "domain"))):
        if kind in _SPATIAL_KINDS and placed[axis]:
            axes.append(axis)
        elif sizes[axis] > 1 and kind in ("list", "time"):
            raise Damaged(f"it is a sequence of {sizes[axis]} images: give one volume, not a series in time")
        elif sizes[axis] > 1 and (kind not in _SPATIAL_KINDS or dimension > 3):
            raise Damaged(f"it has {sizes[axis]} values per voxel (colour?): give one HU per voxel")
        elif sizes[axis] > 1:
            raise Damaged("one of its axes has no direction")
    long = [axis for axis in axes if sizes[axis] > 1 or axis < 3]
    if len(long) > 3 or (len(axes) > 3 and ("space" in fields or "space directions" in fields)):
        raise Damaged(f"it is {len(axes)}-D ({size}): give one volume, not a series in time")
    axes = long if len(axes) > 3 else axes
    if len(axes) < 2:
        raise Damaged("it has fewer than two spatial axes: give a volume")
    return axes


def _each(fields: dict[str, Any], field: str, default: Any) -> Any:
    """What a field says of each axis."""
    found = fields.get(field, [default] * fields["dimension"])
    if len(found) != fields["dimension"]:
        raise Damaged(f"'{field}' should be {fields['dimension']} words or numbers, and is {len(found)}")
    return found if isinstance(default, str) else np.array(found, float)


def _directions(fields: dict[str, Any]) -> np.ndarray:
    """The vector of each axis in the space of the file, NaN for those without; ones where it names none."""
    dimension = fields["dimension"]
    if "space directions" not in fields:
        return np.ones((dimension, 3))
    found = fields["space directions"]
    found = np.full((dimension, 3), np.nan) if found is None else found
    found = np.array([_in_space(fields, "space directions", vector) for vector in found])
    none = np.isnan(found[:, :2]).all(axis=1)
    if len(found) != dimension or not np.isfinite(found[~none]).all():
        raise Damaged(f"'space directions' should be {dimension} vectors, finite or none")
    return found


def _in_space(fields: dict[str, Any], field: str, vector: np.ndarray) -> np.ndarray:
    """A vector of the file's space in three dimensions."""
    dimension = 3 if "space" in fields else fields.get("space dimension", 3)
    if len(vector) != dimension:
        raise Damaged(f"'{field}' should have {dimension} numbers a vector, and has {len(vector)}")
    return np.array([*vector, 0.0][:3])


def _place(fields: dict[str, Any], axes: list[int]) -> Place:
    space = fields.get("space", "").lower().replace(" ", "-")
    if space not in _SPACES:
        raise Damaged(
            f"'space: {shown(fields['space'])}' does not say how the image lies in the patient: save it with "
            "left-posterior-superior or right-anterior-superior"
        )
    spacings = _each(fields, "spacings", np.nan)[axes]
    origin = _in_space(fields, "space origin", fields.get("space origin", np.zeros(3)))
    if not np.isfinite(origin).all():
        raise Damaged("'space origin' should be finite numbers")
    if "space directions" in fields:
        if not np.isnan(spacings).all():
            raise Damaged("its header has both 'spacings' and 'space directions': remove one")
        mm = _mm(fields, "space units", 3)
        columns, origin = _directions(fields)[axes].T * mm[:, None], origin * mm
    else:
        if "axis maxs" in fields and "spacings" not in fields:
            raise Damaged("its header has 'axis maxs' without 'spacings': save it with spacings")
        mm = _mm(fields, "units", fields["dimension"])[axes]
        steps = np.where(np.isnan(spacings), 1.0, spacings * mm)
        columns = np.eye(3)[:, : len(axes)] * steps
        if "space origin" not in fields:
            nodes = np.array([word.lower() == "node" for word in _each(fields, "centerings", "")])[axes]
            corners = _each(fields, "axis mins", np.nan)[axes] * mm + np.where(nodes, 0.0, steps / 2)
            origin[: len(axes)] = np.where(np.isnan(corners), 0.0, corners)
    signs = np.array(_SPACES[space])
    return Place.from_columns(columns * signs[:, None], origin * signs)


def _mm(fields: dict[str, Any], field: str, count: int) -> np.ndarray:
    """mm in the units of each axis."""
    units = [unit.strip().lower() for unit in fields.get(field, [""] * count)]
    if len(units) < min(count, 2) or not payload.MM_PER_UNIT.keys() >= set(units):
        raise Damaged(f"'{field}: {shown(' '.join(units))}' is not known: give mm")
    return np.array([payload.MM_PER_UNIT[unit] for unit in [*units, *[""] * count][:count]])
