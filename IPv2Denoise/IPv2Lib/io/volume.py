"""A CT volume: HU values with their place in the patient.

Owns `Volume`, the checks that every command makes at the door, and moving a volume onto another grid. How it is read
and written is in `files`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..hounsfield import NO_DATA_HU

if TYPE_CHECKING:
    import SimpleITK as sitk

# Two grids are one where no voxel is off by more than this part of the smallest spacing; files that keep
# geometry as float32 (NIfTI) or as decimal text (DICOM) stay far below it.
_GRID_TOLERANCE = 0.01


@dataclass(frozen=True, eq=False)
class Volume:
    """HU values on a regular grid in the patient.

    Attributes
    ----------
    array : ndarray, shape (slices, rows, columns), int16 or float32
        HU. Other integers become int16 where every value fits and float32 otherwise; other floats become
        float32.
    spacing : tuple of 3 floats
        mm between columns (x), rows (y) and slices (z).
    origin : tuple of 3 floats
        Centre of voxel [0, 0, 0], mm, LPS.
    direction : tuple of 9 floats
        Row-major matrix whose columns are the directions of x, y and z in LPS.

    Raises
    ------
    InputError
        For an array that holds no real numbers.

    Examples
    --------
    >>> volume = Volume(np.full((4, 8, 8), -1000), spacing=(0.7, 0.7, 2.5))
    >>> volume.array.dtype, volume.with_array(volume.array / 2).array.dtype
    (dtype('int16'), dtype('float32'))
    """

    array: np.ndarray
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    def __post_init__(self):
        object.__setattr__(self, "array", _hu_array(self.array))
        for name in ("spacing", "origin", "direction"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))

    def with_array(self, array: np.ndarray) -> Volume:
        """Other values in the same place."""
        return replace(self, array=array)

    @property
    def affine(self) -> np.ndarray:
        """4×4 matrix from (column, row, slice, 1) to (x, y, z, 1) in mm, LPS."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.reshape(self.direction, (3, 3)) * self.spacing
        matrix[:3, 3] = self.origin
        return matrix

    def sha256(self) -> str:
        """Hash of values and place: two volumes have the same one only if they are the same scan.

        Examples
        --------
        >>> volume = Volume(np.full((1, 2, 2), -1000))
        >>> volume.sha256() == volume.with_array(volume.array.copy()).sha256()
        True
        >>> volume.sha256() == replace(volume, origin=(1, 0, 0)).sha256()
        False
        """
        array = np.ascontiguousarray(self.array)
        place = f"{array.dtype.str} {array.shape} {self.spacing} {self.origin} {self.direction}\n"
        content = hashlib.sha256(place.encode())
        content.update(array.data)
        return content.hexdigest()


def check_ct(volume: Volume) -> None:
    """Refuse what cannot be a chest CT in HU, before any long work.

    Raises
    ------
    InputError
        Not (slices, rows, columns), fewer than 2×2 pixels, a geometry that cannot be inverted, NaN or
        infinite values, a constant volume, or a range of values that CT does not have: normalised to a few
        units, nothing below 0 (MRI, a picture, a CT without its rescale intercept), or beyond ±100 000.

    Examples
    --------
    >>> check_ct(Volume(np.arange(256).reshape(1, 16, 16)))
    Traceback (most recent call last):
        ...
    IPv2Lib.errors.InputError: not a CT in HU: no value is below 0 (0 to 255), like an 8-bit picture or a \
label map; air should be near -1000
    """
    check_shape(volume)
    check_geometry(volume)
    # min and max let NaN and infinity through to here without a mask as large as the volume.
    low, high = float(volume.array.min()), float(volume.array.max())
    if not np.isfinite([low, high]).all():
        count = np.count_nonzero(~np.isfinite(volume.array))
        which = "one voxel is" if count == 1 else f"{count} voxels are"
        raise InputError(f"{which} NaN or infinite: replace by HU, e.g. {NO_DATA_HU:g} (no data)")
    if low == high:
        raise InputError(f"every voxel is {low:g}: the volume holds no image")
    values = f"({low:g} to {high:g})"
    if max(abs(low), abs(high)) <= 10:
        raise InputError(f"not a CT in HU: values are normalised {values}; give the volume in HU")
    if low >= 0:
        like = "an 8-bit picture or a label map" if high <= 255 else "MRI or a CT without its rescale intercept"
        raise InputError(f"not a CT in HU: no value is below 0 {values}, like {like}; air should be near -1000")
    if low < -100_000 or high > 100_000:
        raise InputError(
            f"not a CT in HU: values are out of any scanner's range {values}; clip them, e.g. to -1024 and 3071"
        )


def check_shape(volume: Volume) -> None:
    """Refuse (`InputError`) what is not (slices, rows, columns), or has fewer than 2×2 pixels."""
    shape = volume.array.shape
    if len(shape) != 3:
        kind = " (colour or 4-D?)" if len(shape) == 4 else ""
        raise InputError(f"an array of shape {shape}{kind} is not a volume: give (slices, rows, columns)")
    if shape[0] < 1 or min(shape[1:]) < 2:
        size = f"{shape[0]} slices of {shape[1]}×{shape[2]} pixels"
        raise InputError(f"{size} are no volume: at least one slice of 2×2 is needed")


def check_geometry(volume: Volume) -> None:
    """Refuse (`InputError`) a spacing, an origin or a direction that cannot be used."""
    if len(volume.spacing) != 3 or not all(0 < value < np.inf for value in volume.spacing):
        raise InputError(f"spacing {_text(volume.spacing)} mm cannot be used: give three positive numbers")
    if len(volume.origin) != 3 or not np.isfinite(volume.origin).all():
        raise InputError(f"origin {_text(volume.origin)} mm cannot be used: give three finite numbers")
    usable = len(volume.direction) == 9 and np.isfinite(volume.direction).all()
    if not usable or abs(np.linalg.det(np.reshape(volume.direction, (3, 3)))) < 1e-3:
        raise InputError(f"direction {_text(volume.direction)} cannot be inverted: give a 3×3 rotation")


def same_grid(a: Volume, b: Volume) -> bool:
    """Whether both volumes have the same voxels: the same shape, and places within 1 % of a voxel."""
    if a.array.shape != b.array.shape:
        return False
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
    corners[:, :3] *= np.array(a.array.shape[::-1]) - 1
    # Where a volume is one slice thick, only the step to the next slice tells its spacing.
    corners = np.vstack([corners, [1, 1, 1, 1]])
    distances = np.linalg.norm(corners @ (a.affine - b.affine).T, axis=1)
    return bool(distances.max() <= _GRID_TOLERANCE * min(a.spacing))


def overlap_fraction(a: Volume, b: Volume) -> float:
    """Part of `a` that lies inside `b`, 0 to 1.

    Counted on the voxel centres of `a`, at most 64 evenly spread ones along each axis.

    Examples
    --------
    >>> a = Volume(np.zeros((2, 10, 10)))
    >>> overlap_fraction(a, Volume(a.array, origin=(5, 0, 0)))
    0.5
    """
    slices, rows, columns = (np.linspace(0, n - 1, min(n, 64)) for n in a.array.shape)
    z, y, x = np.meshgrid(slices, rows, columns, indexing="ij")
    index = np.stack([x, y, z, np.ones_like(x)], axis=-1).reshape(-1, 4)
    in_b = (index @ (np.linalg.inv(b.affine) @ a.affine).T)[:, :3]
    inside = (in_b >= -0.5) & (in_b <= np.array(b.array.shape[::-1]) - 0.5)
    return float(inside.all(axis=1).mean())


def resample_onto(moving: Volume, reference: Volume, fill_hu: float = NO_DATA_HU) -> Volume:
    """`moving` on the grid of `reference`.

    Linear interpolation between voxel centres; where `moving` has no data, `fill_hu`. On the same grid the
    values come back as they are (int16 stays int16), otherwise they are float32.
    """
    if same_grid(moving, reference):
        return reference.with_array(moving.array)
    import SimpleITK as sitk

    image = to_image(moving)
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetDefaultPixelValue(fill_hu)
    resampler.SetOutputPixelType(sitk.sitkFloat32)
    resampler.SetSize(reference.array.shape[::-1])
    resampler.SetOutputSpacing(reference.spacing)
    resampler.SetOutputOrigin(reference.origin)
    resampler.SetOutputDirection(reference.direction)
    return reference.with_array(sitk.GetArrayFromImage(resampler.Execute(image)))


def to_image(volume: Volume) -> sitk.Image:
    """For ITK."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(volume.spacing)
    image.SetOrigin(volume.origin)
    image.SetDirection(volume.direction)
    return image


def _hu_array(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype in (np.int16, np.float32):
        return array
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # becomes infinite, which check_ct reports
            return array.astype(np.float32)
    if array.dtype.kind not in "biu":
        raise InputError(f"an array of {array.dtype} holds no HU: give real numbers")
    limits = np.iinfo(np.int16)
    fits = array.size == 0 or (array.min() >= limits.min and array.max() <= limits.max)
    return array.astype(np.int16 if fits else np.float32)


def _text(numbers: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{number:g}" for number in numbers) + ")"
