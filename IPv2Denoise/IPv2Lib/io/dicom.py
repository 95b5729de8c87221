"""DICOM series of CT slices: the way in and out.

Used through `files.read` and `files.write`. `dicom_file` reads one file, `dicom_series` finds and checks the slices,
`dicom_pixels` makes HU of them, `dicom_write` writes a series.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError
from . import dicom_write
from .dicom_file import Elements, guard, is_dicom, quiet, read_dataset
from .dicom_pixels import stored_values
from .dicom_series import find_series
from .volume import Volume

__all__ = ["is_dicom", "patient_id", "read_series", "write_series"]


def patient_id(path: Path) -> str:
    """PatientID of a DICOM file, or of the first DICOM image of a folder; empty where there is none."""
    try:
        files = sorted(item for item in path.iterdir() if item.is_file()) if path.is_dir() else [path]
        file = next((item for item in files if item.name.lower() != "dicomdir" and is_dicom(item)), None)
        return "" if file is None else Elements([read_dataset(file, ["PatientID"])], file.name).text("PatientID")
    except (OSError, InputError):  # which reading the file will name
        return ""


@quiet
def read_series(source: Path | Sequence[Path]) -> tuple[Volume, list[str]]:
    """Read one series.

    Parameters
    ----------
    source : path, or sequence of paths
        A folder whose CT slices are one series (subfolders are not searched); one file, which stands for the
        slices of its series in its folder; or all files of a series, wherever they lie. An enhanced (multi-frame)
        file is a series by itself. Localizers, screen captures and images that are no CT are left out, and so are
        files that are no DICOM.

    Returns
    -------
    volume : Volume
        HU, slices in the order of their positions along the normal of the slices: int16 where slope and
        intercept are whole numbers and the values fit, else float32. Values are taken for HU where a file
        names no rescale. Padding (PixelPaddingValue) is below -1000 HU everywhere: as its file has it if that
        is so, else `NO_DATA_HU`.
    notes : list of str
        The images and the unknown files that were left out, and positions that contradict other elements.

    Raises
    ------
    InputError
        See `files.read`. Also for a file that is damaged, or that is named like a slice and is none: no slice is
        left out.
    """
    series = find_series(source)
    without = [item for item in series.slices if not item.form.has_rescale]
    if 0 < len(without) < len(series.slices):
        raise InputError(
            f"{series.name} mixes slices with and without rescale slope and intercept, e.g. {without[0].header.where} "
            "has none: export it again"
        )
    array = np.empty(series.grid.array.shape, np.int16)
    places: dict[Path, list[int]] = {}
    for index, item in enumerate(series.slices):
        places.setdefault(item.path, []).append(index)
    for path, indices in places.items():
        with guard(path):
            form = series.slices[indices[0]].form
            planes = stored_values(read_dataset(path), form, series.frames[path], path)
            for index in indices:
                item = series.slices[index]
                stored = planes[item.frame]
                hu = item.form.hu(stored)
                hu[item.form.is_padding(stored)] = item.form.padding_hu
                plane = series.grid.with_array(hu[None]).array[0]
                if plane.dtype != array.dtype:
                    array = array.astype(np.float32, copy=False)
                array[index] = plane
    if without and array.min() >= 0:
        raise InputError(
            f"{series.name} has no rescale slope and intercept and no value below 0, so it is not in HU: export "
            "it again from the scanner or archive"
        )
    return series.grid.with_array(array), series.notes


def write_series(
    volume: Volume,
    folder: Path,
    description: str,
    template: Path | Sequence[Path] | None,
    derivation: str = "Smoothing",
    identity: str = "",
) -> None:
    """Write a volume as DICOM files, uncompressed (explicit VR little endian).

    With a template each file is the template's file of the same slice (or, of an enhanced series, slices), with
    every element kept, private ones included, but:

    - pixel data: HU rounded, clipped to the values that the template's bits and rescale can represent.
      Where its rescale slope is not 1 or its intercept not whole, the series becomes 16-bit signed with
      slope 1 and intercept 0 (and loses pixel padding elements), so that whole HU stay exact. Padding is
      written as it was, and only where it was.
    - what describes or signs the old pixels is removed: smallest and largest values, histogram, icon, digital
      signatures, curves, statistics of overlays, and overlays that lie in unused bits of the pixels
    - new series and SOP instance UIDs, see `identity`; series number × 100 + 1; dates and times of series, content
      and instance
    - image type DERIVED\\SECONDARY (DERIVED\\PRIMARY if enhanced), followed by the template's further values
    - series description: `description`, then the template's, at most 64 characters
    - derivation description (added to the template's) and code, source image, contributing equipment
    - lossy image compression "01" where the template's transfer syntax is lossy

    Without a template the series is a new study of an unknown patient with just the elements that a CT image
    must have, 16-bit signed, one HU per unit.

    Parameters
    ----------
    volume : Volume
        HU, clipped to what 16 bits hold.
    folder : Path
        An empty folder; files are named 0001.dcm and so on in the order of the slices.
    description : str
        What made the volume, e.g. the model's name. What follows a semicolon is in the derivation description only.
    template : path, sequence of paths, or None
        As for `read_series`, on the grid of the volume.
    derivation : str
        A key of `dicom_write.DERIVATIONS`: what was done to the pixels.
    identity : str
        What decided the volume, as any text: UIDs are made from it, the description up to a semicolon, the version of
        this library and the template's UIDs, so that the same again has the same. Empty: UIDs are random.

    Raises
    ------
    InputError
        NaN in the volume; a template that cannot be read or lies on another grid; axes that DICOM cannot
        express because they are not orthogonal.
    OSError
        Where a file cannot be written.
    """
    dicom_write.write_series(volume, folder, description, template, derivation, identity)
