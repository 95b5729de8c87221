"""Reading and writing NRRD, NIfTI and MetaImage files.

Headers by pynrrd and nibabel, which cannot crash; what they pass over, `nrrd` and `nifti` judge. ITK's readers take
damaged data, drop rescales and crash on some headers and names.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, OutputError
from . import metaimage, nifti, nrrd
from .file_names import suffix
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
    ending = suffix(path)
    try:
        if path.stem.lower().endswith(".seq"):
            raise Damaged("it is a sequence of images: save one of its volumes by itself, e.g. from Slicer")
        if ending in (".nrrd", ".nhdr"):
            array, place = nrrd.read(path)
        elif ending in (".nii", ".nii.gz"):
            array, place = nifti.read(path, prefer)
        else:
            array, place = metaimage.read(path)
        place.check_straight(array.shape)
    except Exception as error:  # of any library, too: damaged files make them raise what they like
        raise InputError(f"cannot read {path}: {reason(error)}") from error
    return array, place


def files_of(path: Path) -> list[Path]:
    """The file and those that hold its voxels; only itself where its header cannot be read."""
    readers = {".nrrd": nrrd, ".nhdr": nrrd, ".mha": metaimage, ".mhd": metaimage}
    reader = readers.get(suffix(path))
    if reader is None:
        return [path]
    try:
        return [path, *reader.data_files(path)]
    except Exception:  # reading it says why
        return [path]


def data_files(output: Path) -> list[Path]:
    """The files that may come beside an output, for its voxels."""
    if suffix(output) != ".mhd":
        return []
    return [output.with_suffix(".raw"), output.with_suffix(".zraw")]


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
    ending = suffix(path)
    written = {path: folder / "header"}
    if ending == ".nrrd":
        nrrd.write(volume, written[path], compress)
    elif ending in (".nii", ".nii.gz"):
        nifti.write(volume, written[path], ending == ".nii.gz")
    elif ending == ".mha":
        metaimage.write(volume, written[path], compress)
    else:
        voxels = path.with_suffix(".zraw" if compress else ".raw")
        written = {voxels: folder / "voxels", **written}
        metaimage.write(volume, written[path], compress, (voxels.name, written[voxels]))
    return written
