"""Reading and writing the formats of `formats`, and the files beside a file.

Headers by pynrrd and nibabel, which cannot crash; what they pass over, `nrrd` and `nifti` judge. ITK's readers take
damaged data, drop rescales and crash on some headers and names.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, OutputError
from .formats import BY_SUFFIX, suffix
from .payload import Damaged, reason
from .places import Place

if TYPE_CHECKING:
    from .volume import Volume


def read(path: Path, prefer: str | None = None) -> tuple[np.ndarray, Place]:
    """HU, shape (slices, rows, columns), and their place. See `files.read`.

    Raises
    ------
    InputError
        One line that names the file.
    """
    try:
        if path.stem.lower().endswith(".seq"):
            raise Damaged("it is a sequence of images: save one of its volumes by itself, e.g. from Slicer")
        array, place = BY_SUFFIX[suffix(path)].module.read(path, prefer)
        place.check_straight(array.shape)
    except Exception as error:  # of any library, too: damaged files make them raise what they like
        raise InputError(f"cannot read {path}: {reason(error)}") from error
    return array, place


def place(path: Path, prefer: str | None = None) -> Place:
    """The place of an image that this library wrote."""
    return BY_SUFFIX[suffix(path)].module.place(path, prefer)


def files_of(path: Path) -> list[Path]:
    """The file and those that hold its voxels; only itself where its header cannot be read."""
    if suffix(path) not in BY_SUFFIX:
        return [path]
    try:
        return [path, *BY_SUFFIX[suffix(path)].module.data_files(path)]
    except Exception:  # reading it says why
        return [path]


def data_files(output: Path) -> list[Path]:
    """The files that may come beside an output, for its voxels: plain and compressed."""
    ending = suffix(output)
    beside = BY_SUFFIX[ending].beside if ending in BY_SUFFIX else {}
    return [output.with_suffix(each) for each in beside.get(ending, ())]


def check_data_files(path: Path) -> None:
    """Refuse an output whose voxels would go to a file beside it that is there and not its own.

    Raises
    ------
    OutputError
    """
    own = [os.path.realpath(file) for file in files_of(path)] if path.is_file() else []
    for file in data_files(path):
        if os.path.lexists(file) and os.path.realpath(file) not in own:
            raise OutputError(
                f"cannot write {path}: its voxels would replace {file.name}, which is not its own; choose another name"
            )


def write(volume: Volume, path: Path, folder: Path, compress: bool) -> dict[Path, Path]:
    """Write a file of the format of `path` into a temporary folder.

    Returns
    -------
    dict
        What was written, by the place where it belongs, in the order in which to put it there.

    Raises
    ------
    OSError
        It cannot be written, or not completely.
    InputError
        The format cannot hold this volume.
    """
    beside = data_files(path)
    written = ({beside[compress]: folder / "voxels"} if beside else {}) | {path: folder / "header"}
    BY_SUFFIX[suffix(path)].module.write(volume, written, compress)
    return written
