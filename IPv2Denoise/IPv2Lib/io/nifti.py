"""NIfTI-1 and NIfTI-2, compressed or not, by nibabel: which headers mean a CT, and which of their two places holds."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from . import deflate, payload
from .payload import Damaged, Part
from .places import Place, farthest

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

    from .volume import Volume

# sform and qform are one where no voxel is off by more than this part of the smallest spacing: quaternions in
# single precision are off by a tenth of a millimetre at the end of a scan.
_SAME_PLACE = 0.3
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 1e-3}
_WAY_OUT = "choose one with --prefer sform or --prefer qform"


def read(path: Path, prefer: str | None = None) -> tuple[np.ndarray, Place]:
    """HU, (slices, rows, columns), and their place. Raises `Damaged`, and what nibabel raises.

    Parameters
    ----------
    path : Path
    prefer : {"sform", "qform"}, optional
        Which place to take where the two contradict each other.
    """
    header, encoding = _header_of(path)
    shape = _shape(header)
    slope, intercept = _rescale(header)
    place = _place(header, shape, prefer)
    part = Part(path, skip_bytes=_start(header))
    array = payload.read([part], encoding, header.get_data_dtype(), math.prod(shape)).reshape(shape)
    return payload.rescaled(array, slope, intercept), place


def place(path: Path, prefer: str | None = None) -> Place:
    """The place alone; raises as `read`."""
    header, _ = _header_of(path)
    return _place(header, _shape(header), prefer)


def write(volume: Volume, written: Mapping[Path, Path], compress: bool) -> None:
    """Write NIfTI-1 with an sform, and a qform where its single precision gives the same place.

    Whether it is compressed is in its name.

    Raises
    ------
    InputError
        The grid is sheared, or has more than 32767 voxels along an axis.
    """
    from nibabel.nifti1 import Nifti1Image

    shape = volume.array.shape
    if max(shape) > 32767:
        raise InputError(f"NIfTI cannot hold {max(shape)} voxels along an axis: write NRRD")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    image = Nifti1Image(volume.array.T, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    most = _SAME_PLACE / 3 * min(volume.spacing)
    # Single precision: a quaternion can be off by more than the sform.
    if farthest(_qform(image.header, shape).affine, volume.affine, shape) > most:
        image.set_qform(affine, 0)
    try:
        found = _place(image.header, shape, None)
    except Damaged as error:
        raise InputError(f"NIfTI cannot hold this place ({error}): write NRRD") from error
    if farthest(found.affine, volume.affine, shape) > most:
        raise InputError("NIfTI cannot hold this place exactly enough: write NRRD")
    ((target, path),) = written.items()
    with open(path, "wb") as file:
        if target.suffix.lower() == ".gz":
            with deflate.GzipFile("", "wb", deflate.LEVEL, file, mtime=0) as stream:
                image.to_stream(stream)
        else:
            image.to_stream(file)


def data_files(path: Path) -> list[Path]:
    """The files that hold the voxels besides this one: none."""
    return []


def _header_of(path: Path) -> tuple[Nifti1Header, str]:
    """The header of a file, and the encoding of all of it."""
    with payload.open_file(path) as file:
        encoding = "gzip" if file.read(2) == b"\x1f\x8b" else "raw"
        file.seek(0)
        return _header(payload.decoded(file, encoding).read(540)), encoding


def _header(data: bytes) -> Nifti1Header:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    for kind in (Nifti1Header, Nifti2Header):
        for order in "<>":
            if data[:4] == struct.pack(f"{order}i", kind.sizeof_hdr) and len(data) >= kind.sizeof_hdr:
                # Unchecked: nibabel's own check mends some fields, and prints that it does.
                header = kind(data[: kind.sizeof_hdr], order, check=False)
                magic = header["magic"].item()
                if magic.startswith((b"ni1", b"ni2")):
                    raise Damaged("it is the header of a pair of files: save it as one .nii or .nii.gz")
                if magic != kind.single_magic or (kind is Nifti2Header and data[8:12] != b"\r\n\x1a\n"):
                    raise Damaged("it does not say that it is NIfTI (an Analyze file?): save it as .nii.gz or .nrrd")
                return header
    raise Damaged("it does not begin as NIfTI does")


def _shape(header: Nifti1Header) -> tuple[int, int, int]:
    dimension, *sizes = map(int, header["dim"])
    if not 2 <= dimension <= 7 or min(sizes[:dimension]) < 1:
        raise Damaged(f"its sizes {sizes} in {dimension} dimensions cannot be those of a volume")
    sizes = sizes[:dimension]
    kind = header.get_data_dtype()
    values = len(kind.names or "") or (2 if kind.kind == "c" else 1)
    if sizes[3:4] == [1] and dimension > 4:
        values *= sizes[4]
    if values > 1:
        raise Damaged(f"it has {values} values per voxel (colour?): give one HU per voxel")
    if math.prod(sizes[3:]) > 1:
        raise Damaged(f"it is {dimension}-D ({'×'.join(map(str, sizes))}): give one volume, not a series in time")
    if kind.kind not in "iuf" or kind.itemsize > 8 or header["bitpix"] != 8 * kind.itemsize:
        raise Damaged(f"its type of numbers ({header['datatype']}, {header['bitpix']} bits) is not known")
    columns, rows, slices = [*sizes[:3], 1][:3]
    return slices, rows, columns


def _start(header: Nifti1Header) -> int:
    offset, least = float(header["vox_offset"]), header.single_vox_offset
    if not offset.is_integer() or (offset < least and offset != 0):
        raise Damaged(f"its voxels begin at byte {offset:g} (vox_offset), which cannot be")
    return int(offset) or least


def _rescale(header: Nifti1Header) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or (math.isnan(slope) and math.isnan(intercept)):  # not set, says the standard; nibabel's way
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise Damaged(f"its rescale (scl_slope {slope:g}, scl_inter {intercept:g}) cannot be")
    return slope, intercept


def _place(header: Nifti1Header, shape: tuple[int, ...], prefer: str | None) -> Place:
    if header["sform_code"] <= 0 and header["qform_code"] <= 0:
        raise Damaged("sform_code and qform_code are 0, so nothing says how it lies in the patient: save it with one")
    makers = {"sform": _sform, "qform": _qform}
    if header["sform_code"] <= 0:
        del makers["sform"]
    if prefer in makers and header[f"{prefer}_code"] > 0:
        return makers[prefer](header, shape)
    other, way_out = "qform", _WAY_OUT
    if header["qform_code"] <= 0:  # no place, but sizes of voxels
        other, way_out = "pixdim", "take the sform with --prefer sform"
    found: dict[str, Place] = {}
    for name, make in makers.items():
        try:
            found[name] = make(header, shape)
        except Damaged as error:
            if len(makers) == 1 or (name == "sform" and other == "pixdim"):  # there is no other
                raise
            raise Damaged(f"{other if name == 'qform' else name}: {error}; {way_out}") from error
    if len(found) == 1:
        return found["qform"]
    sform, qform = found.values()
    if other == "qform":
        off = farthest(sform.affine, qform.affine, shape)
        texts = [f"{name} puts its first voxel at {_text(place.origin)} mm" for name, place in found.items()]
    else:  # no place, but the sizes of its voxels must be those of the sform
        off = float(np.linalg.norm(np.subtract(sform.spacing, qform.spacing) * (np.array(shape[::-1]) - 1)))
        texts = [f"{name} has voxels of {_text(each.spacing)} mm" for name, each in (("sform", sform), (other, qform))]
    if off > _SAME_PLACE * min(*sform.spacing, *qform.spacing):
        raise Damaged(f"sform and {other} contradict each other by {off:.3g} mm: {' and '.join(texts)}; {way_out}")
    return sform


def _sform(header: Nifti1Header, shape: tuple[int, ...]) -> Place:
    affine = header.get_sform()
    if not np.isfinite(affine).all():
        raise Damaged("its sform has numbers that are not finite")
    place = _from_ras(header, affine, shape)
    place.check_straight(shape)
    return place


def _qform(header: Nifti1Header, shape: tuple[int, ...]) -> Place:
    from nibabel.quaternions import quat2mat

    steps = np.array(header["pixdim"][1:4], float)
    if shape[0] == 1:
        steps[2] = abs(steps[2]) if np.isfinite(steps[2]) and steps[2] else 1.0
    if not (np.isfinite(steps) & (steps > 0)).all():
        raise Damaged(f"its voxels of {_text(steps)} mm (pixdim) cannot be")
    affine = np.diag([*steps, 1.0])
    if header["qform_code"] > 0:
        # Not get_qform, which allows for rounding less than other writers need, and for no qfac of 0.
        turn = np.array([header[f"quatern_{axis}"] for axis in "bcd"], float)
        length = float(np.linalg.norm(turn))
        if not length <= 1.0005:  # nor NaN
            raise Damaged(f"its rotation {_text(turn)} (quatern) cannot be")
        real = math.sqrt(1 - length**2) if length**2 < 1 - 1e-7 else 0.0  # rounding
        affine[:3, :3] = quat2mat([real, *turn]) * steps
        affine[:3, 2] *= -1 if header["pixdim"][0] < 0 else 1
        affine[:3, 3] = [header[f"qoffset_{axis}"] for axis in "xyz"]
        if not np.isfinite(affine).all():
            raise Damaged(f"its origin {_text(affine[:3, 3])} mm (qoffset) cannot be")
    return _from_ras(header, affine, shape)


def _from_ras(header: Nifti1Header, affine: np.ndarray, shape: tuple[int, ...]) -> Place:
    """From a matrix to right, anterior, superior, in the header's unit."""
    unit = int(header["xyzt_units"]) & 7
    if unit not in _MM_PER_UNIT:
        raise Damaged(f"its unit of length ({unit}, xyzt_units) is not known")
    rows = affine[:3] * np.array([[-1.0], [-1.0], [1.0]]) * _MM_PER_UNIT[unit]
    flat = shape[0] == 1 and not rows[:, 2].any()
    return Place.from_columns(rows[:, : 2 if flat else 3], rows[:, 3])


def _text(values: tuple[float, ...] | np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"
