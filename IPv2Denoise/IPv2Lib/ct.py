"""A CT volume: HU values with their place in the patient, from files and back to files.

Owns `Volume`, the check that every command does at the door, NRRD, NIfTI and MetaImage files, and moving a
volume onto another grid. DICOM series are read and written in `dicom`, reached through `read` and `write`.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from . import staging
from .errors import InputError, OutputError

AIR_HU = -1024.0
"""HU of places where nothing was measured."""

_IO_BY_SUFFIX = {
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
    ".nii": "NiftiImageIO",
    ".nii.gz": "NiftiImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}
_NIFTI_SUFFIXES = (".nii", ".nii.gz")
_WRITTEN_SUFFIXES = (".nrrd", ".nii", ".nii.gz", ".mha", ".mhd")
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
        content.update(array)
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
    _check_shape(volume)
    _check_geometry(volume)
    # min and max let NaN and infinity through to here without a mask as large as the volume.
    low, high = float(volume.array.min()), float(volume.array.max())
    if not np.isfinite([low, high]).all():
        count = np.count_nonzero(~np.isfinite(volume.array))
        which = "one voxel is" if count == 1 else f"{count} voxels are"
        raise InputError(f"{which} NaN or infinite: replace by HU, e.g. {AIR_HU:g} (no data)")
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


def read(path: str | Path) -> Volume:
    """Read a volume from a file or a DICOM folder.

    Values are not judged here; `check_ct` does that.

    Parameters
    ----------
    path : path
        An NRRD, NIfTI or MetaImage file; a folder that holds one DICOM series of CT slices (its subfolders
        are not searched); or one file of a DICOM series, which stands for all slices of its series in that
        folder, and so chooses where a folder holds several. A two-dimensional image is one slice.

    Returns
    -------
    Volume
        HU with the rescale of the file applied; DICOM slices in the order of their positions along the
        normal of the slices.

    Raises
    ------
    InputError
        No such file, a damaged file or an unknown format, colour or 4-D images, a geometry that cannot be
        inverted; in DICOM also several series, a modality other than CT, slices that are missing, doubled,
        tilted or of several sizes, each named with its series and positions.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_file() and _suffix(path) in _IO_BY_SUFFIX:
        return _read_image(path)
    from . import dicom

    if path.is_dir() or dicom.is_dicom(path):
        return dicom.read_series(path)
    raise InputError(f"{path} is not an NRRD, NIfTI or MetaImage file, nor DICOM")


def write(
    volume: Volume,
    path: str | Path,
    template: str | Path | None = None,
    description: str = "IPv2",
    compress: bool = True,
) -> Path:
    """Write a volume, completely or not at all.

    Everything is written under a temporary name beside `path` and renamed at the end. Existing files are
    replaced; a folder that holds files is not.

    Parameters
    ----------
    volume : Volume
        int16 stays int16 and float32 stays float32, except in DICOM, which holds rounded HU.
    path : path
        A name that ends in .nrrd, .nii, .nii.gz, .mha or .mhd, or for a DICOM series the name of a new or
        empty folder, without suffix.
    template : path, optional
        What the volume was computed from, as given to `read`. A DICOM series written from a DICOM series
        keeps its patient and study, see `dicom.write_series`; everything else has nothing to give and is
        written without.
    description : str
        What made the volume, e.g. the model's name, for the DICOM series description.
    compress : bool
        Whether .nrrd, .mha and .mhd are compressed, which takes many times as long. The suffix decides for
        .nii and .nii.gz; DICOM is never compressed.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        The volume or the template cannot be written in this format.
    OutputError
        An unknown suffix, a folder that is missing or not empty, no permission, a full disk. Nothing is left
        behind.
    """
    path = Path(path)
    _check_shape(volume)
    _check_geometry(volume)
    if path.is_dir() or not path.suffix:
        from_dicom = template is not None and _suffix(Path(template)) not in _IO_BY_SUFFIX
        _write_dicom(volume, path, Path(template) if from_dicom else None, description)
    elif _suffix(path) in _WRITTEN_SUFFIXES:
        _write_image(volume, path, compress)
    else:
        raise OutputError(
            f"cannot write {path}: end the name in {', '.join(_WRITTEN_SUFFIXES)}, or give a folder's name "
            "without suffix for a DICOM series"
        )
    return path


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


def resample_onto(moving: Volume, reference: Volume, fill_hu: float = AIR_HU) -> Volume:
    """`moving` on the grid of `reference`.

    Linear interpolation between voxel centres; where `moving` has no data, `fill_hu`. On the same grid the
    values come back as they are (int16 stays int16), otherwise they are float32.
    """
    if same_grid(moving, reference):
        return reference.with_array(moving.array)
    image = _to_image(moving)
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetDefaultPixelValue(fill_hu)
    resampler.SetOutputPixelType(sitk.sitkFloat32)
    resampler.SetSize(reference.array.shape[::-1])
    resampler.SetOutputSpacing(reference.spacing)
    resampler.SetOutputOrigin(reference.origin)
    resampler.SetOutputDirection(reference.direction)
    return reference.with_array(sitk.GetArrayFromImage(resampler.Execute(image)))


def window_8bit(array: np.ndarray, low_hu: float = -1000, high_hu: float = 400) -> np.ndarray:
    """Grey values of a display window.

    Parameters
    ----------
    array : ndarray
        HU, any shape.
    low_hu, high_hu : float
        HU that become 0 and 255; values beyond are clipped, values between are rounded.

    Returns
    -------
    ndarray of uint8, the shape of `array`

    Raises
    ------
    InputError
        Where `low_hu` is not below `high_hu`.

    Examples
    --------
    >>> window_8bit(np.array([-2000, -1000, -300, 400, 3000]))
    array([  0,   0, 128, 255, 255], dtype=uint8)
    """
    if not low_hu < high_hu:
        raise InputError(f"a window from {low_hu:g} to {high_hu:g} HU is empty: give the lower value first")
    grey = np.clip(array, low_hu, high_hu, dtype=np.float32)
    grey -= low_hu
    grey *= 255.0 / (high_hu - low_hu)
    return np.rint(grey, out=grey).astype(np.uint8)


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


def _check_shape(volume: Volume) -> None:
    shape = volume.array.shape
    if len(shape) != 3:
        kind = " (colour or 4-D?)" if len(shape) == 4 else ""
        raise InputError(f"an array of shape {shape}{kind} is not a volume: give (slices, rows, columns)")
    if shape[0] < 1 or min(shape[1:]) < 2:
        size = f"{shape[0]} slices of {shape[1]}×{shape[2]} pixels"
        raise InputError(f"{size} are no volume: at least one slice of 2×2 is needed")


def _check_geometry(volume: Volume) -> None:
    if len(volume.spacing) != 3 or not all(0 < value < np.inf for value in volume.spacing):
        raise InputError(f"spacing {_text(volume.spacing)} mm cannot be used: give three positive numbers")
    if len(volume.origin) != 3 or not np.isfinite(volume.origin).all():
        raise InputError(f"origin {_text(volume.origin)} mm cannot be used: give three finite numbers")
    usable = len(volume.direction) == 9 and np.isfinite(volume.direction).all()
    if not usable or abs(np.linalg.det(np.reshape(volume.direction, (3, 3)))) < 1e-3:
        raise InputError(f"direction {_text(volume.direction)} cannot be inverted: give a 3×3 rotation")


def _text(numbers: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{number:g}" for number in numbers) + ")"


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def _read_image(path: Path) -> Volume:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with itk_errors(InputError, f"cannot read {path}"):
        reader.ReadImageInformation()
    components, dimension = reader.GetNumberOfComponents(), reader.GetDimension()
    if components != 1:
        raise InputError(f"{path} has {components} values per voxel (colour?): give one HU per voxel")
    if dimension not in (2, 3):
        size = "×".join(map(str, reader.GetSize()))
        raise InputError(f"{path} is {dimension}-D ({size}): give one volume, not a series in time")
    direction = np.eye(3)
    direction[:dimension, :dimension] = np.reshape(reader.GetDirection(), (dimension, dimension))
    geometry = {
        "spacing": (*reader.GetSpacing(), 1.0)[:3],
        "origin": (*reader.GetOrigin(), 0.0)[:3],
        "direction": tuple(direction.ravel()),
    }
    with _prefix(path):
        _check_geometry(Volume(np.empty((1, 2, 2), np.int16), **geometry))
    if _suffix(path) in _NIFTI_SUFFIXES:
        _check_nifti(path)
    with itk_errors(InputError, f"cannot read {path}"):
        image = reader.Execute()
    view = sitk.GetArrayViewFromImage(image)
    with _prefix(path):
        array = _hu_array(view)
    if np.may_share_memory(array, view):
        array = array.copy()  # the view dies with the image
    volume = Volume(array.reshape((-1, *array.shape[-2:])), **geometry)
    with _prefix(path):
        _check_shape(volume)
    return volume


def _check_nifti(path: Path) -> None:
    """Refuse what ITK would read without a word: a file cut short, as noise, and NaN, as 0 HU (water)."""
    try:
        finite = all(np.isfinite(block).all() for block in _nifti_blocks(path))
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {_reason(error)}") from error
    if not finite:
        raise InputError(f"{path} has NaN or infinite values: replace by HU, e.g. {AIR_HU:g} (no data)")


def _nifti_blocks(path: Path) -> Iterator[np.ndarray]:
    """Floating point values of a NIfTI-1 file as stored, or bytes for other types; EOFError if some lack."""
    with gzip.open(path) if path.name.lower().endswith(".gz") else open(path, "rb") as file:
        header = file.read(352)
        order = {b"\x5c\x01\0\0": "<", b"\0\0\x01\x5c": ">"}.get(header[:4])  # sizeof_hdr = 348
        if order is None or len(header) < 352:
            raise EOFError("the header is not NIfTI-1")
        dimensions = np.frombuffer(header, f"{order}i2", 8, offset=40).astype(int)
        data_type, bits = np.frombuffer(header, f"{order}i2", 2, offset=70)
        dtype = np.dtype(order + {16: "f4", 64: "f8"}.get(int(data_type), "u1"))
        file.seek(int(np.frombuffer(header, f"{order}f4", 1, offset=108)[0]))
        left = int(dimensions[1 : 1 + dimensions[0]].prod()) * int(bits) // 8
        while left > 0:
            block = file.read(min(left, 1 << 20))
            if not block:
                raise EOFError("the file is cut short")
            left -= len(block)
            yield np.frombuffer(block, dtype, len(block) // dtype.itemsize)
        while file.read(1 << 20):  # up to gzip's checksum
            pass


@contextlib.contextmanager
def itk_errors(error_class: type[Exception], what: str) -> Iterator[None]:
    """Turn ITK's errors into one line, and keep its warnings off stderr meanwhile."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    except RuntimeError as error:
        raise error_class(f"{what}: {_reason(error)}") from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


@contextlib.contextmanager
def _prefix(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _reason(error: Exception) -> str:
    """What the system says, or the last line of an ITK error: the others name ITK's own files and objects."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return re.sub(r"^(.*ERROR: )?(\w+\(0x\w+\): )?", "", lines[-1])


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A hidden folder beside `target`, gone at the end; what fails inside becomes an `OutputError`."""
    if not target.parent.is_dir():
        raise OutputError(f"cannot write {target}: {target.parent} is not a folder; create it first")
    try:
        prefix = staging.prefix()
        with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent, ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except (OSError, RuntimeError) as error:
        raise OutputError(f"cannot write {target}: {_reason(error)}") from error


def _write_image(volume: Volume, path: Path, compress: bool) -> None:
    suffix = _suffix(path)
    with _staging(path) as folder:
        # ITK chooses the variant of a format by a lower-case suffix; .mhd names its data file after the stem.
        header = folder / (path.name[: -len(suffix)] + suffix)
        writer = sitk.ImageFileWriter()
        writer.SetImageIO(_IO_BY_SUFFIX[suffix])
        writer.SetUseCompression(suffix == ".nii.gz" or (compress and suffix != ".nii"))
        writer.SetFileName(str(header))
        with itk_errors(OutputError, f"cannot write {path}"):
            writer.Execute(_to_image(volume))
        if suffix in _NIFTI_SUFFIXES:
            _check_written_nifti(header)
        for data_file in set(folder.iterdir()) - {header}:
            os.replace(data_file, path.parent / data_file.name)
        os.replace(header, path)


def _check_written_nifti(path: Path) -> None:
    """ITK's NIfTI writer reports success on a full disk, so its file is read through once."""
    try:
        for _ in _nifti_blocks(path):
            pass
    except (EOFError, zlib.error) as error:
        raise OSError("the file came out incomplete; is the disk full?") from error


def _to_image(volume: Volume) -> sitk.Image:
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(volume.spacing)
    image.SetOrigin(volume.origin)
    image.SetDirection(volume.direction)
    return image


def _write_dicom(volume: Volume, folder: Path, template: Path | None, description: str) -> None:
    from . import dicom

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"cannot write a DICOM series to {folder}: it is not empty; give a new folder's name")
    with _staging(folder) as hidden:
        series = hidden / "series"  # not the staging folder itself, which only its owner may open
        series.mkdir()
        dicom.write_series(volume, series, description, template)
        if folder.exists():
            folder.rmdir()
        os.replace(series, folder)
