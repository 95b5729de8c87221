"""One DICOM series of CT slices: found and checked, read as a `Volume`, written from a template.

Headers go through pydicom, pixels through SimpleITK/GDCM, which knows the compressed transfer syntaxes.
Used through `ct.read` and `ct.write`; enhanced (multi-frame) CT is refused.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

from . import __version__
from .ct import Volume, itk_errors, same_grid
from .errors import InputError

_HEADER_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "SeriesInstanceUID",
    "SeriesDescription",
    "NumberOfFrames",
    "SamplesPerPixel",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SliceThickness",
    "SpacingBetweenSlices",
    "RescaleSlope",
    "RescaleIntercept",
]
# Distances between neighbouring slices may differ from the usual one by this part of it: tables move and
# positions are rounded, but a missing slice doubles the distance.
_SPACING_TOLERANCE = 0.1


def is_dicom(path: Path) -> bool:
    """Whether a file, of whatever name, starts as DICOM files do."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def patient_id(path: Path) -> str:
    """PatientID of a DICOM file, or of the first DICOM image of a folder; empty where there is none."""
    try:
        files = sorted(item for item in path.iterdir() if item.is_file()) if path.is_dir() else [path]
        file = next((item for item in files if is_dicom(item)), None)
        if file is None:
            return ""
        with _quiet():
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["PatientID"])
            return str(header.get("PatientID") or "").strip()
    except Exception:  # pydicom raises errors of many kinds on damaged files, which reading them will name
        return ""


def read_series(path: Path) -> Volume:
    """Read the series of a folder, or the series that a file belongs to.

    Parameters
    ----------
    path : Path
        A folder whose DICOM images are one series (files that are no DICOM image do not matter, subfolders
        are not searched), or one file of a series.

    Returns
    -------
    Volume
        HU, slices in the order of their positions along the normal of the slices: int16 where slope and
        intercept are whole numbers and the values fit, else float32. Values are taken for HU where a file
        names no rescale.

    Raises
    ------
    InputError
        See `ct.read`.
    """
    series = _find_series(path)
    array = np.empty(series.grid.array.shape, np.int16)
    for index, file in enumerate(series.files):
        plane = series.grid.with_array(_read_pixels(file)).array
        if plane.dtype != array.dtype:
            array = array.astype(np.float32, copy=False)
        array[index] = plane
    if not series.has_rescale and array.min() >= 0:
        raise InputError(
            f"{series.name} has no rescale slope and intercept and no value below 0, so it is not in HU: export "
            "it again from the scanner or archive"
        )
    return series.grid.with_array(array)


def write_series(volume: Volume, folder: Path, description: str, template: Path | None) -> None:
    """Write a volume as DICOM files, one per slice, uncompressed (explicit VR little endian).

    With a template each slice is the template's slice at the same position, with every element kept but:

    - pixel data: HU rounded, clipped to the values that the template's bits and rescale can represent.
      Where its rescale slope is not 1 or its intercept not whole, the series becomes 16-bit signed with
      slope 1 and intercept 0 (and loses pixel padding elements), so that whole HU stay exact. Smallest and
      largest pixel value and the icon, which describe the old pixels, are removed.
    - a new series instance UID, and a new SOP instance UID per slice
    - image type DERIVED\\SECONDARY, followed by the template's further values
    - series description: `description`, then the template's, at most 64 characters
    - derivation description (added to the template's) and source image sequence

    Without a template the series is a new study of an unknown patient with just the elements that a CT image
    must have, 16-bit signed, one HU per unit.

    Parameters
    ----------
    volume : Volume
        HU, clipped to what 16 bits hold.
    folder : Path
        An empty folder; files are named 0001.dcm and so on in the order of the slices.
    description : str
        What made the volume, e.g. the model's name.
    template : Path or None
        Folder or one file of a series on the grid of the volume.

    Raises
    ------
    InputError
        NaN in the volume; a template that cannot be read or lies on another grid; axes that DICOM cannot
        express because they are not orthogonal.
    OSError
        Where a file cannot be written.
    """
    description = description.replace("\\", "/").encode("ascii", "replace").decode()
    slices = _new_slices(volume) if template is None else _template_slices(volume, template)
    series_uid = generate_uid(prefix=None)
    for index, dataset in enumerate(slices):
        dataset.SeriesInstanceUID = series_uid
        _derive(dataset, description)
        _set_pixels(dataset, volume.array[index])
        _save(dataset, folder / f"{index + 1:04d}.dcm")


@dataclass(frozen=True)
class _Series:
    name: str
    files: list[Path]  # in the order of the slices
    grid: Volume  # its array has the shape of the series and no memory
    has_rescale: bool


@dataclass(frozen=True)
class _Slice:
    path: Path
    header: Dataset


def _find_series(path: Path) -> _Series:
    """Find, check and sort the slices of one series by their headers."""
    folder = path if path.is_dir() else path.parent
    try:
        files = sorted(item for item in folder.iterdir() if item.is_file())
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}") from error
    series: dict[str, list[_Slice]] = {}
    for file in files:
        header = _read_header(file)
        if header is not None:
            series.setdefault(header.SeriesInstanceUID, []).append(_Slice(file, header))
    if path != folder:
        series = {uid: slices for uid, slices in series.items() if path in [item.path for item in slices]}
    if not series:
        raise InputError(
            f"{path} holds no DICOM image: give the folder of a CT series (subfolders are not searched), or one "
            "of its files"
        )
    if len(series) > 1:
        names = "; ".join(f"{_name(slices)}, e.g. {slices[0].path.name}" for slices in series.values())
        raise InputError(
            f"{folder} holds {len(series)} series: {names}. Choose one by giving the path of one of its files"
        )
    (slices,) = series.values()
    return _checked(slices)


def _read_header(path: Path) -> Dataset | None:
    """The elements that matter here, or None where the file is no DICOM image."""
    if not is_dicom(path):
        return None
    try:
        with _quiet():
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_HEADER_TAGS)
            list(header)  # parses every value, so that what is damaged fails here
    except Exception as error:  # pydicom raises errors of many kinds on damaged files
        raise InputError(f"{path} is a damaged DICOM file ({error}): export it again") from error
    if all(header.get(keyword) for keyword in ("SeriesInstanceUID", "Rows", "Columns")):
        return header
    if header.file_meta.get("MediaStorageSOPClassUID") == CTImageStorage:
        raise InputError(f"{path} is a damaged DICOM file (its header is incomplete): export it again")
    return None


def _name(slices: list[_Slice]) -> str:
    header = slices[0].header
    description, modality = header.get("SeriesDescription", ""), header.get("Modality", "no modality")
    count = f"{len(slices)} slice{'s' if len(slices) > 1 else ''}"
    return f'series "{description}" ({modality}, {count}, UID {header.SeriesInstanceUID})'


def _checked(slices: list[_Slice]) -> _Series:
    name = _name(slices)
    for item in slices:
        _check_slice(item, name)
    for keyword in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
        _check_uniform(slices, name, keyword)

    header = slices[0].header
    row, column = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
    normal = np.cross(row, column)
    lengths = [np.linalg.norm(vector) for vector in (row, column, normal)]
    if not np.allclose(lengths, 1, atol=0.01) or min(map(float, header.PixelSpacing)) <= 0:
        geometry = f"orientation {header.ImageOrientationPatient}, pixel spacing {header.PixelSpacing}"
        raise InputError(f"{name} has a geometry that cannot be used: {geometry}; export it again")
    direction = np.stack([row / lengths[0], column / lengths[1], normal / lengths[2]], axis=1)

    def along(item: _Slice) -> float:
        return float(np.dot(_position(item), direction[:, 2]))

    slices = sorted(slices, key=along)
    z = np.array([along(item) for item in slices])
    _check_steps(slices, z, name)
    _check_tilt(slices, z, direction[:, 2], name)
    if len(slices) > 1:
        slice_spacing = (z[-1] - z[0]) / (len(z) - 1)
    else:
        stated = (header.get("SpacingBetweenSlices"), header.get("SliceThickness"))
        slice_spacing = next((float(value) for value in stated if value and value > 0), 1.0)
    row_spacing, column_spacing = map(float, header.PixelSpacing)
    shape = (len(slices), header.Rows, header.Columns)
    grid = Volume(
        np.broadcast_to(np.int16(0), shape),
        spacing=(column_spacing, row_spacing, slice_spacing),
        origin=tuple(_position(slices[0])),
        direction=tuple(direction.ravel()),
    )
    has_rescale = all("RescaleSlope" in item.header and "RescaleIntercept" in item.header for item in slices)
    return _Series(name, [item.path for item in slices], grid, has_rescale)


def _check_slice(item: _Slice, name: str) -> None:
    header, file = item.header, item.path.name
    if header.get("Modality") != "CT":
        raise InputError(f"{name} is not CT: give a CT series")
    if header.get("SamplesPerPixel", 1) != 1:
        raise InputError(f"{name} is in colour ({file}): give the CT slices, not a screenshot or a report")
    if int(header.get("NumberOfFrames") or 1) != 1:
        raise InputError(f"{name} is multi-frame ({file}): save it as one file per slice, or as NRRD, first")
    for keyword, count in (("PixelSpacing", 2), ("ImageOrientationPatient", 6), ("ImagePositionPatient", 3)):
        values = header.get(keyword)
        if np.size(values) != count or not np.isfinite(np.array(values, dtype=float)).all():
            raise InputError(f"{name} has no usable {keyword} in {file}, so the slice has no place: export it again")


def _check_uniform(slices: list[_Slice], name: str, keyword: str) -> None:
    first = slices[0]
    wanted = first.header[keyword].value
    others = [item for item in slices if not np.allclose(item.header[keyword].value, wanted, rtol=0, atol=1e-3)]
    if others:
        raise InputError(
            f"{name} mixes slices of different {keyword}: {wanted} in {len(slices) - len(others)}, e.g. "
            f"{first.path.name}, another in {len(others)}, e.g. {others[0].header[keyword].value} in "
            f"{others[0].path.name}; keep those of one kind in the folder"
        )


def _check_steps(slices: list[_Slice], z: np.ndarray, name: str) -> None:
    if len(slices) < 2:
        return
    steps = np.diff(z)

    def pairs(wrong: np.ndarray) -> str:
        texts = [
            f"{z[i]:.2f} and {z[i + 1]:.2f} mm ({slices[i].path.name}, {slices[i + 1].path.name})"
            for i in np.flatnonzero(wrong)
        ]
        return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")

    if (doubled := steps < 1e-3).any():
        raise InputError(f"{name} has several slices at one position: {pairs(doubled)}; keep one of each")
    usual = np.median(steps)
    if (gap := steps > (1 + _SPACING_TOLERANCE) * usual).any():
        raise InputError(
            f"{name} has gaps: slices are usually {usual:.2f} mm apart, but farther between {pairs(gap)}; add the "
            "missing slices"
        )
    if (close := steps < (1 - _SPACING_TOLERANCE) * usual).any():
        raise InputError(
            f"{name} is uneven: slices are usually {usual:.2f} mm apart, but closer between {pairs(close)}; keep "
            "one regular set of slices in the folder"
        )


def _check_tilt(slices: list[_Slice], z: np.ndarray, normal: np.ndarray, name: str) -> None:
    offsets = np.array([_position(item) for item in slices]) - _position(slices[0])
    lateral = np.linalg.norm(offsets - np.outer(z - z[0], normal), axis=1)
    if lateral.max() <= 0.5 * min(map(float, slices[0].header.PixelSpacing)):
        return
    angle = np.degrees(np.arctan2(lateral[-1], z[-1] - z[0]))
    raise InputError(
        f"{name} is sheared: from {z[0]:.2f} to {z[-1]:.2f} mm its slices shift sideways by {lateral.max():.1f} mm "
        f"(gantry tilt of {angle:.1f}°?); resample it to a straight grid first, e.g. in Slicer, and save it as NRRD"
    )


def _position(item: _Slice) -> np.ndarray:
    return np.array(item.header.ImagePositionPatient, dtype=float)


def _read_pixels(path: Path) -> np.ndarray:
    """HU of one slice, shape (1, rows, columns)."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    with itk_errors(InputError, f"{path} has damaged or unsupported pixel data"):
        return sitk.GetArrayFromImage(reader.Execute())


def _template_slices(volume: Volume, template: Path) -> Iterator[Dataset]:
    series = _find_series(template)
    if not same_grid(volume, series.grid):
        raise InputError(
            f"the volume {volume.array.shape} is not on the grid of the template's {series.name}: give the "
            "series that it was computed from, or write NRRD"
        )
    for file in series.files:
        with _quiet():
            dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        source = Dataset()
        source.ReferencedSOPClassUID = dataset.SOPClassUID
        source.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
        dataset.SourceImageSequence = [source]
        yield dataset


def _new_slices(volume: Volume) -> Iterator[Dataset]:
    direction = np.reshape(volume.direction, (3, 3))
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-4):
        raise InputError("the volume's axes are not orthogonal, which DICOM cannot express: write NRRD")
    study_uid, frame_uid = generate_uid(prefix=None), generate_uid(prefix=None)
    now = datetime.now()
    for index in range(len(volume.array)):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.SOPClassUID = CTImageStorage
        dataset.PatientName = "Unknown"
        dataset.PatientID = f"IPv2-{study_uid[-8:]}"  # archives would merge patients without an identity
        dataset.PatientBirthDate = dataset.PatientSex = ""
        dataset.StudyInstanceUID = study_uid
        dataset.StudyDate, dataset.StudyTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
        dataset.ReferringPhysicianName = dataset.StudyID = dataset.AccessionNumber = ""
        dataset.Modality = "CT"
        dataset.SeriesNumber = 1
        dataset.PatientPosition = ""
        dataset.FrameOfReferenceUID = frame_uid
        dataset.PositionReferenceIndicator = ""
        dataset.Manufacturer = "IPv2"
        dataset.SoftwareVersions = __version__
        dataset.InstanceNumber = index + 1
        dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        dataset.AcquisitionNumber = dataset.KVP = None
        dataset.ImageOrientationPatient = _decimals([*direction[:, 0], *direction[:, 1]])
        dataset.ImagePositionPatient = _decimals((volume.affine @ [0, 0, index, 1])[:3])
        dataset.PixelSpacing = _decimals([volume.spacing[1], volume.spacing[0]])
        dataset.SliceThickness = dataset.SpacingBetweenSlices = _decimals(volume.spacing[2:])[0]
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.Rows, dataset.Columns = volume.array.shape[1:]
        _make_signed_16_bit(dataset)
        dataset.RescaleType = "HU"
        yield dataset


def _decimals(values) -> list[DSfloat]:
    return [DSfloat(float(value), auto_format=True) for value in values]


def _derive(dataset: Dataset, description: str) -> None:
    dataset.SOPInstanceUID = generate_uid(prefix=None)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    further = list(dataset.get("ImageType") or [])[2:]
    dataset.ImageType = ["DERIVED", "SECONDARY", *(further or ["AXIAL"])]
    described = [description, dataset.get("SeriesDescription")]
    dataset.SeriesDescription = ": ".join(text for text in described if text)[:64]
    derived = [dataset.get("DerivationDescription"), f"{description} (IPv2Lib {__version__})"]
    dataset.DerivationDescription = "; ".join(text for text in derived if text)[-1024:]


def _set_pixels(dataset: Dataset, plane: np.ndarray) -> None:
    if not np.isfinite(plane).all():
        raise InputError("the volume has NaN or infinite values, which DICOM cannot hold: replace them by HU")
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    plain = slope == 1 and intercept.is_integer()
    if not plain or dataset.BitsAllocated != 16 or dataset.get("HighBit") != dataset.BitsStored - 1:
        _make_signed_16_bit(dataset)
        intercept = 0.0
    bits = dataset.BitsStored
    low = -(1 << bits - 1) if dataset.PixelRepresentation else 0
    stored = np.clip(np.rint(plane - np.float64(intercept)), low, low + (1 << bits) - 1)
    dataset.add_new("PixelData", "OW", stored.astype("<i2" if low else "<u2").tobytes())
    for keyword in (
        "SmallestImagePixelValue",
        "LargestImagePixelValue",
        "IconImageSequence",
        "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths",
    ):
        if keyword in dataset:
            delattr(dataset, keyword)


def _make_signed_16_bit(dataset: Dataset) -> None:
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if keyword in dataset:
            delattr(dataset, keyword)


def _save(dataset: Dataset, path: Path) -> None:
    with _quiet():
        if int(pydicom.__version__.partition(".")[0]) >= 3:
            # Unlike Dataset.save_as, dcmwrite also converts big-endian templates.
            pydicom.dcmwrite(path, dataset, enforce_file_format=True)
            return
        # Slicer 5.10 has pydicom 2.4, in use since it started: another version must not take its place.
        dataset.is_little_endian, dataset.is_implicit_VR = True, False
        pydicom.dcmwrite(path, dataset, write_like_original=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep pydicom's remarks on unusual but readable values off stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
