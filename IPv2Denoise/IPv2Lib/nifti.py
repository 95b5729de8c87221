"""NIfTI-1 and NIfTI-2, compressed or not: header, rescale, and the two places that a file may give for itself."""

from __future__ import annotations

import gzip
import itertools
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import payload
from .errors import InputError
from .payload import Damaged, Part
from .places import Place, farthest

if TYPE_CHECKING:
    from .ct import Volume

# sform and qform are one where no voxel is off by more than this part of the smallest spacing: quaternions in
# single precision are off by a tenth of a millimetre at the end of a scan.
_SAME_PLACE = 0.3

_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_COLOURS = {128: 3, 2304: 4, 32: 2, 1792: 2, 2048: 2}
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 1e-3}
# Offsets of the fields that matter, in NIfTI-1 and NIfTI-2.
_LAYOUTS = {
    348: {
        "dim": (40, "8h"), "datatype": (70, "h"), "bitpix": (72, "h"), "pixdim": (76, "8f"), "vox_offset": (108, "f"),
        "scl": (112, "2f"), "units": (123, "B"), "codes": (252, "2h"), "quatern": (256, "3f"), "offset": (268, "3f"),
        "srow": (280, "12f"), "magic": (344, "4s"),
    },
    540: {
        "magic": (4, "8s"), "datatype": (12, "h"), "bitpix": (14, "h"), "dim": (16, "8q"), "pixdim": (104, "8d"),
        "vox_offset": (168, "q"), "scl": (176, "2d"), "codes": (344, "2i"), "quatern": (352, "3d"),
        "offset": (376, "3d"), "srow": (400, "12d"), "units": (500, "i"),
    },
}  # fmt: skip
_MAGIC = {348: b"n+1\0", 540: b"n+2\0\r\n\x1a\n"}


@dataclass(frozen=True)
class _Header:
    size: int
    order: str
    dim: tuple[int, ...]
    datatype: tuple[int]
    bitpix: tuple[int]
    pixdim: tuple[float, ...]
    vox_offset: tuple[float]
    scl: tuple[float, float]
    units: tuple[int]
    codes: tuple[int, int]
    quatern: tuple[float, float, float]
    offset: tuple[float, float, float]
    srow: tuple[float, ...]
    magic: tuple[bytes]


def read(path: Path, prefer: str | None) -> tuple[np.ndarray, Place]:
    """HU, (slices, rows, columns), and their place. Raises `Damaged`.

    Parameters
    ----------
    path : Path
    prefer : {"sform", "qform"}, optional
        Which place to take where the two contradict each other.
    """
    header, compressed = _header(path)
    shape = _shape(header)
    start = _start(header)
    slope, intercept = _rescale(header)
    place = _place(header, shape, prefer)
    part = Part(path, skip_bytes=start) if compressed else Part(path, start)
    dtype = np.dtype(header.order + _TYPES[header.datatype[0]])
    array = payload.read([part], "gzip" if compressed else "raw", dtype, math.prod(shape)).reshape(shape)
    return payload.rescaled(array, slope, intercept), place


def write(volume: Volume, path: Path, compress: bool) -> None:
    """Write NIfTI-1 with an sform, and a qform where its single precision gives the same place.

    Raises
    ------
    InputError
        The grid is sheared, or has more than 32767 voxels along an axis.
    """
    shape = volume.array.shape
    if max(shape) > 32767:
        raise InputError(f"NIfTI cannot hold {max(shape)} voxels along an axis: write NRRD")
    header = _with_place(volume, qform_code=1)
    place = _qform(_parsed(header), shape, 1.0)
    # Single precision: a quaternion can be off by more than the sform.
    if farthest(place.affine, volume.affine, shape) > _SAME_PLACE / 3 * min(volume.spacing):
        header = _with_place(volume, qform_code=0)
    try:
        found = _place(_parsed(header), shape, None)
    except Damaged as error:
        raise InputError(f"NIfTI cannot hold this place ({error}): write NRRD") from error
    if farthest(found.affine, volume.affine, shape) > _SAME_PLACE / 3 * min(volume.spacing):
        raise InputError("NIfTI cannot hold this place exactly enough: write NRRD")
    pieces = itertools.chain([header + bytes(4)], payload.blocks(volume.array))
    with open(path, "wb") as file:
        file.writelines(payload.compressed(pieces, payload.GZIP) if compress else pieces)


def _with_place(volume: Volume, qform_code: int) -> bytes:
    to_ras = np.diag([-1.0, -1.0, 1.0])
    direction = to_ras @ np.reshape(volume.direction, (3, 3))
    left, _, right = np.linalg.svd(direction)
    rotation = left @ right
    handed = -1.0 if np.linalg.det(rotation) < 0 else 1.0
    rotation[:, 2] *= handed
    origin = to_ras @ volume.origin
    slices, rows, columns = volume.array.shape
    code, bits = (4, 16) if volume.array.dtype == np.int16 else (16, 32)
    values = {
        "dim": (3, columns, rows, slices, 1, 1, 1, 1), "datatype": (code,), "bitpix": (bits,),
        "pixdim": (handed, *volume.spacing, 0, 0, 0, 0), "vox_offset": (352,), "scl": (1, 0), "units": (2,),
        "codes": (qform_code, 1), "quatern": _quaternion(rotation), "offset": origin,
        "srow": np.column_stack([direction * volume.spacing, origin]).ravel(), "magic": (_MAGIC[348],),
    }  # fmt: skip
    header = bytearray(348)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<c", header, 38, b"r")
    for name, (place, form) in _LAYOUTS[348].items():
        struct.pack_into(f"<{form}", header, place, *values[name])
    return bytes(header)


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """b, c, d of a rotation, for an a that is not negative."""
    # The eigenvector of the largest eigenvalue of this matrix; well behaved for every rotation.
    m = rotation
    matrix = np.array(
        [
            [m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
            [m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], m[1, 1] - m[0, 0] - m[2, 2], m[1, 2] + m[2, 1]],
            [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], m[2, 2] - m[0, 0] - m[1, 1]],
        ]
    )
    a, *bcd = np.linalg.eigh(matrix)[1][:, -1]
    return np.array(bcd) * (-1 if a < 0 else 1)


def _header(path: Path) -> tuple[_Header, bool]:
    with payload.open_file(path) as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            data = (gzip.GzipFile(fileobj=file) if compressed else file).read(540)
        except (EOFError, OSError, zlib.error) as error:
            raise Damaged(f"its header is damaged ({payload.reason(error)})") from error
    return _parsed(data), compressed


def _parsed(data: bytes) -> _Header:
    for order in "<>":
        size = struct.unpack_from(f"{order}i", data.ljust(4, b"\0"))[0]
        if size in _LAYOUTS and len(data) >= size:
            layout = _LAYOUTS[size]
            values = {name: struct.unpack_from(order + form, data, place) for name, (place, form) in layout.items()}
            header = _Header(size, order, **values)
            if header.magic[0] == _MAGIC[size]:
                return header
            if header.magic[0].startswith((b"ni1\0", b"ni2\0")):
                raise Damaged("it is the header of a pair of files: save it as one .nii or .nii.gz")
            raise Damaged("it does not say that it is NIfTI (an Analyze file?): save it again as .nii.gz or .nrrd")
    raise Damaged("it does not begin as NIfTI does")


def _shape(header: _Header) -> tuple[int, int, int]:
    dimension, *sizes = header.dim
    if not 1 <= dimension <= 7 or min(sizes[:dimension]) < 1:
        raise Damaged(f"its sizes {sizes} in {dimension} dimensions cannot be")
    sizes = sizes[:dimension]
    if dimension < 2:
        raise Damaged("it has one dimension: give a volume")
    if math.prod(sizes[3:]) > 1:
        colours = sizes[:4] == [*sizes[:3], 1] and dimension >= 5
        size = "×".join(map(str, sizes))
        if colours:
            raise Damaged(f"it has {sizes[4]} values per voxel (colour?): give one HU per voxel")
        raise Damaged(f"it is {dimension}-D ({size}): give one volume, not a series in time")
    (code,), (bits,) = header.datatype, header.bitpix
    if code in _COLOURS:
        raise Damaged(f"it has {_COLOURS[code]} values per voxel (colour?): give one HU per voxel")
    if code not in _TYPES or bits != 8 * np.dtype(_TYPES[code]).itemsize:
        raise Damaged(f"its type of numbers ({code}, {bits} bits) is not known")
    columns, rows, slices = [*sizes[:3], 1][:3]
    return slices, rows, columns


def _start(header: _Header) -> int:
    (offset,) = header.vox_offset
    least = header.size + 4
    if not math.isfinite(offset) or offset != int(offset) or (offset < least and offset != 0):
        raise Damaged(f"its voxels begin at byte {offset:g} (vox_offset), which cannot be")
    return int(offset) or least


def _rescale(header: _Header) -> tuple[float, float]:
    slope, intercept = header.scl
    if slope == 0 or (math.isnan(slope) and math.isnan(intercept)):  # not set, says the standard; nibabel's way
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise Damaged(f"its rescale (scl_slope {slope:g}, scl_inter {intercept:g}) cannot be")
    return slope, intercept


def _place(header: _Header, shape: tuple[int, ...], prefer: str | None) -> Place:
    unit = header.units[0] & 7
    if unit not in _MM_PER_UNIT:
        raise Damaged(f"its unit of length ({unit}, xyzt_units) is not known")
    qform_code, sform_code = header.codes
    found: dict[str, Place | Damaged] = {}
    # Without sform and qform the voxels alone give a place, says the standard.
    for name, make in {"sform": _sform, "qform": _qform}.items():
        if name == "sform" and sform_code <= 0:
            continue
        try:
            found[name] = make(header, shape, _MM_PER_UNIT[unit])
        except Damaged as error:
            found[name] = error
    if prefer in found:
        chosen = found[prefer]
    else:
        chosen = found.get("sform", found["qform"])
        if len(found) == 2:
            _check_same(found, qform_code > 0, shape)
    if isinstance(chosen, Damaged):
        raise chosen
    return chosen


def _check_same(found: dict[str, Place | Damaged], qform_is_set: bool, shape: tuple[int, ...]) -> None:
    """Refuse two places that differ; where there is no qform, its voxel sizes must be those of the sform."""
    other = "qform" if qform_is_set else "pixdim"
    for name, place in found.items():
        if isinstance(place, Damaged):
            raise Damaged(f"{other if name == 'qform' else name}: {place}; {_WAY_OUT}")
    sform, qform = found["sform"], found["qform"]
    if qform_is_set:
        off = farthest(sform.affine, qform.affine, shape)
        texts = [f"{name} puts its first voxel at {_text(place.origin)} mm" for name, place in found.items()]
    else:
        off = float(np.linalg.norm((np.subtract(sform.spacing, qform.spacing)) * (np.array(shape[::-1]) - 1)))
        places = {"sform": sform, other: qform}
        texts = [f"{name} has voxels of {_text(place.spacing)} mm" for name, place in places.items()]
    if off > _SAME_PLACE * min(*sform.spacing, *qform.spacing):
        raise Damaged(f"sform and {other} contradict each other by {off:.3g} mm: {' and '.join(texts)}; {_WAY_OUT}")


_WAY_OUT = "choose one with --prefer sform or --prefer qform"


def _sform(header: _Header, shape: tuple[int, ...], mm: float) -> Place:
    rows = np.reshape(header.srow, (3, 4)) * mm
    if not np.isfinite(rows).all():
        raise Damaged("its sform has numbers that are not finite")
    place = _from_ras(rows, shape)
    place.check_straight(shape)
    return place


def _qform(header: _Header, shape: tuple[int, ...], mm: float) -> Place:
    steps = [abs(value) if index == 2 and shape[0] == 1 else value for index, value in enumerate(header.pixdim[1:4])]
    if shape[0] == 1 and not (math.isfinite(steps[2]) and steps[2] > 0):
        steps[2] = 1.0
    if not all(math.isfinite(value) and value > 0 for value in steps):
        raise Damaged(f"its voxels of {_text(steps)} mm (pixdim) cannot be")
    rotation, origin = np.eye(3), np.zeros(3)
    if header.codes[0] > 0:
        b, c, d = header.quatern
        length = b * b + c * c + d * d
        if not length <= 1.001:  # nor NaN
            raise Damaged(f"its rotation {_text(header.quatern)} (quatern) cannot be")
        if not all(map(math.isfinite, header.offset)):
            raise Damaged(f"its origin {_text(header.offset)} mm (qoffset) cannot be")
        a = math.sqrt(max(0.0, 1 - length))
        if a * a < 1e-7:  # rounding; as the standard's own code has it
            b, c, d = np.array([b, c, d]) / math.sqrt(length)
            a = 0.0
        rotation = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        if header.pixdim[0] < 0:
            rotation[:, 2] *= -1
        origin = np.array(header.offset)
    return _from_ras(np.column_stack([rotation * steps, origin]) * mm, shape)


def _from_ras(rows: np.ndarray, shape: tuple[int, ...]) -> Place:
    """From the first three rows of a matrix to right, anterior, superior."""
    rows = rows * np.array([[-1.0], [-1.0], [1.0]])
    flat = shape[0] == 1 and not rows[:, 2].any()
    return Place.from_columns(rows[:, : 2 if flat else 3], rows[:, 3])


def _text(values: tuple[float, ...] | list[float]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"
