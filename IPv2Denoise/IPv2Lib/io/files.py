"""The door to files: a volume is read from and written to the formats of `formats`, or DICOM.

Owns what is recognised as what, where reading happens, and that a volume is written completely or not at all. The
formats are the business of `image_files` and `dicom`.
"""

from __future__ import annotations

import contextlib
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..errors import InputError, InputNote, OutputError, reason
from . import atomic, image_files
from .file_names import is_folder
from .formats import BY_SUFFIX, NAMES, suffix
from .volume import Volume, check_geometry, check_shape

PREFER_VARIABLE = "IPV2_PREFER"
"""Environment variable: "sform" or "qform", for NIfTI files whose two places contradict each other."""


def read(path: str | Path | Sequence[str | Path], prefer: str | None = None) -> Volume:
    """Read a volume from a file or a DICOM folder.

    Values are not judged here; `check_ct` does that. DICOM is read in another process (see `reading`), so that a
    damaged file can neither crash nor block this one.

    Parameters
    ----------
    path : path, or sequence of paths
        A file of one of the `formats`; a folder that holds one DICOM series of CT slices (its subfolders
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


def as_read(volume: Volume, path: Path) -> Volume:
    """What is read from a file, or DICOM folder, that `write` made of a volume: some round its values or its place."""
    if suffix(path) not in BY_SUFFIX or path.is_dir():
        return read_here(path)[0]
    place = image_files.place(path, os.environ.get(PREFER_VARIABLE))
    return Volume(volume.array, place.spacing, place.origin, place.direction)


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
    if stat.S_ISDIR(mode) or suffix(path) not in BY_SUFFIX:
        return read_dicom(path)
    array, place = image_files.read(path, prefer or os.environ.get(PREFER_VARIABLE))
    volume = Volume(array, place.spacing, place.origin, place.direction)
    with _prefix(path):
        check_shape(volume)
    return volume, []


def _read_dicom(path: Path | Sequence[Path]) -> tuple[Volume, list[str]]:
    from . import dicom

    if isinstance(path, Path) and path.is_file() and not dicom.is_dicom(path):
        raise InputError(f"{path} is not an {NAMES} file, nor DICOM")
    return dicom.read_series(path)


def write(
    volume: Volume,
    path: str | Path,
    template: str | Path | Sequence[str | Path] | None = None,
    description: str = "IPv2",
    compress: bool = True,
    derivation: str = "Smoothing",
    before: Callable[[Path], None] = lambda series: None,
    identity: str = "",
) -> Path:
    """Write a volume, completely or not at all.

    Everything is written under a temporary name beside `path` and renamed at the end. Existing files are
    replaced; a folder that holds files is not.

    Parameters
    ----------
    volume : Volume
        int16 stays int16 and float32 stays float32, except in DICOM, which holds rounded HU.
    path : path
        A name that ends in one of `formats.SUFFIXES`, or for a DICOM series the name of a new or
        empty folder. See `file_names.is_folder`: as text, a slash at the end makes every name a folder's.
    template : path or sequence of paths, optional
        What the volume was computed from, as given to `read`. A DICOM series written from a DICOM series
        keeps its patient and study, see `dicom.write_series`; everything else has nothing to give and is
        written without.
    description : str
        What made the volume, e.g. the model's name, for the DICOM series description.
    compress : bool
        Whether files are compressed, which takes many times as long. The suffix decides for NIfTI; DICOM is
        never compressed.
    derivation : str
        What was done to the pixels of the template, a key of `dicom_write.DERIVATIONS`.
    before : callable
        Called with the whole file, or the folder of a whole DICOM series, before that gets its name.
    identity : str
        What decided the volume, see `dicom.write_series`.

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
    check_shape(volume)
    check_geometry(volume)
    if folder:
        _write_dicom(volume, path, _dicom_template(template), description, derivation, before, identity)
    else:
        _write_image(volume, path, compress, before)
    return path


@contextlib.contextmanager
def _prefix(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _reason(error: Exception) -> str:
    return reason(error)


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
    return None if suffix(template) in BY_SUFFIX and not os.path.isdir(template) else Path(template)


def _write_dicom(
    volume: Volume,
    folder: Path,
    template: Path | list[Path] | None,
    description: str,
    derivation: str,
    before: Callable[[Path], None],
    identity: str,
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
        dicom.write_series(volume, series, description, template, derivation, identity)
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
