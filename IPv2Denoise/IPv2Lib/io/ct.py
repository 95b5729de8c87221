"""A CT volume: HU values with their place in the patient, from files and back to files.

Owns `Volume`, the check that every command does at the door, the door to files (`read` and `write`), and moving a
volume onto another grid. Image files are the business of `image_files`, DICOM series that of `dicom`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError, InputNote, OutputError
from ..hounsfield import NO_DATA_HU
from . import atomic, image_files
from .file_names import IMAGE_SUFFIXES, is_folder, suffix

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


PREFER_VARIABLE = "IPV2_PREFER"
"""Environment variable: "sform" or "qform", for NIfTI files whose two places contradict each other."""


def read(path: str | Path | Sequence[str | Path], prefer: str | None = None) -> Volume:
    """Read a volume from a file or a DICOM folder.

    Values are not judged here; `check_ct` does that. DICOM is read in another process (see `reading`), so that a
    damaged file can neither crash nor block this one.

    Parameters
    ----------
    path : path, or sequence of paths
        An NRRD, NIfTI or MetaImage file; a folder that holds one DICOM series of CT slices (its subfolders
        are not searched); or one file of a DICOM series, which stands for all slices of its series in that
        folder, and so chooses where a folder holds several. Or the DICOM files of one series, wherever they are.
        A two-dimensional image is one slice.
    prefer : {"sform", "qform"}, optional
        Which place to take where those of a NIfTI file contradict each other; by default what `PREFER_VARIABLE` says,
        and else such a file is refused.

    Returns
    -------
    Volume
        HU with the rescale of the file applied; DICOM slices in the order of their positions along the
        normal of the slices.

    Raises
    ------
    InputError
        No such file, a damaged file or an unknown format, colour or 4-D images, a geometry that cannot be
        inverted or contradicts itself; in DICOM also several series, a modality other than CT, slices that are
        missing, doubled, tilted or of several sizes, each named with its series and positions.

    Warns
    -----
    InputNote
        What `read_noted` returns.
    """
    volume, notes = read_noted(path, prefer)
    for note in notes:
        warnings.warn(InputNote(note), stacklevel=2)
    return volume


def read_noted(path: str | Path | Sequence[str | Path], prefer: str | None = None) -> tuple[Volume, list[str]]:
    """As `read`; also what there is to know of an input that was read all the same, e.g. files that were left out."""
    from . import reading

    return _read(path, prefer, reading.read)


def read_here(path: str | Path | Sequence[str | Path], prefer: str | None = None) -> tuple[Volume, list[str]]:
    """As `read_noted`, but DICOM, too, in this process: for files that this library wrote itself a moment ago."""
    return _read(path, prefer, _read_dicom)


def _read(path, prefer, read_dicom) -> tuple[Volume, list[str]]:
    if not isinstance(path, (str, os.PathLike)):
        return read_dicom([Path(each) for each in path])
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise InputError(f"{path} does not exist" if missing else f"cannot read {path}: {_reason(error)}") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{path} is a pipe or a device: give a file, or a folder of DICOM files")
    if not os.access(path, os.R_OK):
        raise InputError(f"cannot read {path}: Permission denied")
    if stat.S_ISDIR(mode) or suffix(path) not in IMAGE_SUFFIXES:
        return read_dicom(path)
    array, place = image_files.read(path, prefer or os.environ.get(PREFER_VARIABLE))
    volume = Volume(array, place.spacing, place.origin, place.direction)
    with _prefix(path):
        _check_shape(volume)
    return volume, []


def _read_dicom(path: Path | Sequence[Path]) -> tuple[Volume, list[str]]:
    from . import dicom

    if isinstance(path, Path) and path.is_file() and not dicom.is_dicom(path):
        raise InputError(f"{path} is not an NRRD, NIfTI or MetaImage file, nor DICOM")
    return dicom.read_series(path)


def write(
    volume: Volume,
    path: str | Path,
    template: str | Path | Sequence[str | Path] | None = None,
    description: str = "IPv2",
    compress: bool = True,
    derivation: str = "Smoothing",
    before: Callable[[Path], None] = lambda series: None,
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
        empty folder. See `file_names.is_folder`: as text, a slash at the end makes every name a folder's.
    template : path or sequence of paths, optional
        What the volume was computed from, as given to `read`. A DICOM series written from a DICOM series
        keeps its patient and study, see `dicom.write_series`; everything else has nothing to give and is
        written without.
    description : str
        What made the volume, e.g. the model's name, for the DICOM series description.
    compress : bool
        Whether .nrrd, .mha and .mhd are compressed, which takes many times as long. The suffix decides for
        .nii and .nii.gz; DICOM is never compressed.
    derivation : str
        What was done to the pixels of the template, a key of `dicom_write.DERIVATIONS`.
    before : callable
        Called with the whole file, or the folder of a whole DICOM series, before that gets its name.

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
    try:
        folder = is_folder(path)
    except InputError as error:
        raise OutputError(str(error)) from error
    path = Path(path)
    _check_shape(volume)
    _check_geometry(volume)
    if folder:
        _write_dicom(volume, path, _dicom_template(template), description, derivation, before)
    else:
        _write_image(volume, path, compress, before)
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


def resample_onto(moving: Volume, reference: Volume, fill_hu: float = NO_DATA_HU) -> Volume:
    """`moving` on the grid of `reference`.

    Linear interpolation between voxel centres; where `moving` has no data, `fill_hu`. On the same grid the
    values come back as they are (int16 stays int16), otherwise they are float32.
    """
    if same_grid(moving, reference):
        return reference.with_array(moving.array)
    import SimpleITK as sitk

    image = image_files.to_image(moving)
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


@contextlib.contextmanager
def itk_errors(error_class: type[Exception], what: str) -> Iterator[None]:
    """Turn ITK's errors into one line, and keep its warnings off stderr meanwhile."""
    import SimpleITK as sitk

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
        return atomic.reason(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return re.sub(r"^(.*ERROR: )?(\w+\(0x\w+\): )?", "", lines[-1])


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A hidden folder beside `target`, gone at the end; what fails inside becomes an `OutputError`."""
    if not target.parent.is_dir():
        raise OutputError(f"cannot write {target}: {target.parent} is not a folder; create it first")
    try:
        with atomic.private_folder(target.parent) as folder:
            yield folder
    except (OSError, RuntimeError) as error:
        raise OutputError(f"cannot write {target}: {_reason(error)}") from error


def _write_image(volume: Volume, path: Path, compress: bool, before: Callable[[Path], None]) -> None:
    with _staging(path) as folder:
        written = image_files.write(volume, path, folder, compress)
        image_files.check_data_files(path)
        earlier = set(image_files.files_of(path)) & set(image_files.data_files(path))
        before(written[path])
        atomic.move_together(folder, written)
        for file in earlier - set(written):  # voxels of an earlier output that was compressed, or was not
            file.unlink(missing_ok=True)


def _dicom_template(template: str | Path | Sequence[str | Path] | None) -> Path | list[Path] | None:
    """What was given as the template if it can be one: files, a folder, or a file that is no image file."""
    if template is None:
        return None
    if not isinstance(template, (str, os.PathLike)):
        return [Path(file) for file in template]
    return None if suffix(template) in IMAGE_SUFFIXES and not os.path.isdir(template) else Path(template)


def _write_dicom(
    volume: Volume,
    folder: Path,
    template: Path | list[Path] | None,
    description: str,
    derivation: str,
    before: Callable[[Path], None],
) -> None:
    from . import dicom

    target = Path(os.path.realpath(folder))  # behind a link
    exists = target.exists()
    if exists and (not target.is_dir() or atomic.contents(target)):
        raise OutputError(f"cannot write a DICOM series to {folder}: it is not empty; give a new folder's name")
    # Neither the folder that somebody is in nor one on which a disk is mounted can be replaced.
    stays = exists and (os.path.ismount(target) or target in (Path.cwd(), *Path.cwd().parents))
    with _staging(target / "series" if stays else target) as hidden:
        series = hidden / "series"  # not the staging folder itself, which only its owner may open
        series.mkdir()
        dicom.write_series(volume, series, description, template, derivation)
        before(series)
        if stays:
            _move_all(series, target)
        else:
            atomic.rename_to_new(series, target)


def _move_all(source: Path, target: Path) -> None:
    moved: list[Path] = []
    try:
        for file in sorted(source.iterdir()):
            moved.append(target / file.name)
            os.replace(file, moved[-1])
    except BaseException:
        for file in moved:
            file.unlink(missing_ok=True)
        raise
