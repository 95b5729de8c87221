"""A volume as a DICOM series: derived from a template's, whose patient and study it keeps, or a new one."""

from __future__ import annotations

import hashlib
import io
import re
import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

from .. import __version__
from ..errors import InputError, InputNote
from .dicom_file import ENHANCED_CT, Elements, guard, quiet, read_dataset, save, sop_class_uid
from .dicom_pixels import HIGHEST_HU, LOSSY, PixelFormat, embedded_overlays, stored_values
from .dicom_series import Series, Slice, find_series
from .volume import Volume, same_grid

DERIVATIONS = {"Smoothing": "113087", "Pixel by pixel addition": "113042"}
"""What may have been done to the pixels: terms of DICOM's context group 7203 with their codes."""

# They describe the pixels or the instance of the template, not the new ones, or sign them.
_OUTDATED = (
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "SmallestImagePixelValueInPlane",
    "LargestImagePixelValueInPlane",
    "HistogramSequence",
    "IconImageSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "DigitalSignaturesSequence",
    "MACParametersSequence",
    "InstanceCreatorUID",
    "ConcatenationUID",  # the files are instances by themselves now
    "SOPInstanceUIDOfConcatenationSource",
    "InConcatenationNumber",
    "InConcatenationTotalNumber",
    "ConcatenationFrameOffsetNumber",
    "DataSetTrailingPadding",
)
_OVERLAY_STATISTICS = (0x1301, 0x1302, 0x1303)  # ROI area, mean and standard deviation
_DESCRIBED_LENGTH, _DERIVED_LENGTH = 64, 1024  # of the VRs LO and ST


@quiet
def write_series(
    volume: Volume,
    folder: Path,
    description: str,
    template: Path | Sequence[Path] | None,
    derivation: str,
    identity: str,
) -> None:
    """Write a volume as DICOM files; see `dicom.write_series`."""
    if not np.isfinite(volume.array).all():
        raise InputError("the volume has NaN or infinite values, which DICOM cannot hold: replace them by HU")
    text = re.sub(r"[\x00-\x1f\x7f]+", " ", description.replace("\\", "/")).encode("ascii", "replace").decode()
    name, _, remark = text.partition("; ")
    act = _Act(
        name.strip(), remark.strip(), derivation, identity, generate_uid(prefix=None), datetime.now(timezone.utc)
    )
    datasets = _new_slices(volume, act) if template is None else _derived(volume, template, act)
    dropped: set[str] = set()
    for index, dataset in enumerate(datasets):
        try:
            content = _encoded(dataset)
        except Exception:  # pydicom has no one error for what it cannot write
            dropped |= _drop_damaged(dataset)
            with guard("the source"):
                content = _encoded(dataset)
        (folder / f"{index + 1:04d}.dcm").write_bytes(content)
    if dropped:
        tags = ", ".join(sorted(dropped))
        warnings.warn(InputNote(f"damaged elements of the source were not written to the result: {tags}"), stacklevel=3)


def _encoded(dataset: Dataset) -> memoryview:
    buffer = io.BytesIO()
    save(dataset, buffer)
    return buffer.getbuffer()


def _drop_damaged(dataset: Dataset) -> set[str]:
    """Take out the elements that cannot be written: the pixels matter more than, say, a private element."""
    dropped = set()
    for tag in list(dataset.keys()):
        alone = Dataset()
        try:
            if tag.group < 8:
                raise ValueError("not an element of a data set")
            with quiet:
                alone.add(dataset[tag])
                alone.is_little_endian, alone.is_implicit_VR = True, False
                alone.save_as(io.BytesIO())
        except Exception:
            del dataset[tag]
            dropped.add(str(tag))
    return dropped


@dataclass(frozen=True)
class _Act:
    """What all files of the new series have in common."""

    description: str
    remark: str
    derivation: str
    identity: str
    random_uid: str
    now: datetime

    @property
    def sentence(self) -> str:
        """What was done, for the derivation description."""
        return "; ".join(text for text in (f"{self.description} (IPv2Lib {__version__})", self.remark) if text)

    def series_uid(self, source: str) -> str:
        """Of the new series, made from that of the source."""
        return self._uid("series", source) if self.identity and source else self.random_uid

    def instance_uid(self, source: str, position: str) -> str:
        """Of a new instance, made from that of the source; faulty series have one for several positions."""
        return self._uid("instance", source, position) if self.identity and source else generate_uid(prefix=None)

    def _uid(self, *parts: str) -> str:
        text = "\0".join((*parts, self.identity, self.description, __version__))
        return UID(f"2.25.{uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16], version=5).int}")


def _derived(volume: Volume, template: Path | Sequence[Path], act: _Act) -> Iterator[Dataset]:
    series = find_series(template)  # reading told its notes, and all slices of the volume must be there
    if not same_grid(volume, series.grid):
        raise InputError(
            f"the volume {volume.array.shape} is not on the grid of {series.name}; it was moved, cropped or resampled, "
            "or is of another series: give the one that it was computed from, or write NRRD"
        )
    planes: dict[Path, list[tuple[Slice, np.ndarray]]] = {}
    for item, plane in zip(series.slices, volume.array, strict=True):
        planes.setdefault(item.path, []).append((item, plane))
    for path, content in planes.items():
        dataset = read_dataset(path)
        with guard(path):
            _check_used(series, path, content)
            _set_pixels(dataset, sorted(content, key=lambda pair: pair[0].frame), path)
            _derive(dataset, act)
        yield dataset


def _check_used(series: Series, path: Path, content: Sequence[tuple[Slice, np.ndarray]]) -> None:
    if len(content) != series.frames[path]:
        raise InputError(
            f"{path} holds {series.frames[path]} frames, of which {len(content)} are slices of {series.name}: write "
            "NRRD"
        )


def _set_pixels(dataset: Dataset, content: Sequence[tuple[Slice, np.ndarray]], path: Path) -> None:
    forms = [item.form for item, _ in content]
    plain = all(
        form.slope == 1
        and form.intercept.is_integer()
        and form.bits_allocated == 16
        and form.high_bit == form.bits_stored - 1
        for form in forms
    )  # what the template's bits and rescale express exactly
    bits = forms[0].bits_stored if plain else 16
    signed = forms[0].signed or not plain
    low = -(1 << bits - 1) if signed else 0
    high = low + (1 << bits) - 1
    before = stored_values(dataset, forms[0], len(forms), path) if plain and forms[0].padding else None
    frames = []
    for index, (form, (_, plane)) in enumerate(zip(forms, content, strict=True)):
        intercept = form.intercept if plain else 0.0
        hu = np.rint(plane.astype(np.float64))
        if not plain:
            hu = _without_foreign_padding(hu, form)
        stored = np.clip(hu - intercept, low, high).astype(np.int64)
        if before is not None:
            padding = _padding(hu, before[index], form)
            stored = np.where(padding, before[index], _beside_padding(stored, form, low, high))
        frames.append(stored.astype("<i2" if signed else "<u2"))
    embedded = embedded_overlays(dataset)
    for tag in list(dataset.keys()):  # iterating the data set itself would parse all of it
        statistics = 0x6000 <= tag.group < 0x6020 and tag.element in _OVERLAY_STATISTICS
        if tag.group in embedded or 0x5000 <= tag.group < 0x5020 or statistics:
            del dataset[tag]
    _remove(dataset, _OUTDATED)
    if not plain:
        _make_signed_16_bit(dataset)
    _replace_pixel_data(dataset, np.stack(frames))


def _padding(hu: np.ndarray, before: np.ndarray, form: PixelFormat) -> np.ndarray:
    """Where the template is padding and the volume still is, as this library or another program reads it."""
    unchanged = (hu == np.rint(form.padding_hu)) | (hu == np.rint(form.hu(before)))
    return form.is_padding(before) & unchanged


def _without_foreign_padding(hu: np.ndarray, form: PixelFormat) -> np.ndarray:
    """Padding that another program read as HU above any CT's, as this library reads it."""
    if form.padding is None:
        return hu
    first, last = sorted(float(value) for value in form.hu(np.array(form.padding)))
    foreign = (hu >= np.rint(first)) & (hu <= np.rint(last)) & (first > HIGHEST_HU)
    return np.where(foreign, form.padding_hu, hu)


def _beside_padding(stored: np.ndarray, form: PixelFormat, low: int, high: int) -> np.ndarray:
    """Measured values that are none of padding's: the next one that is free."""
    first, last = form.padding or (low, low)
    if first <= low:  # below the values of a CT it does not matter: air that is clipped there looks the same
        return stored
    beside = last + 1 if last < high else first - 1
    return np.where((stored >= first) & (stored <= last), beside, stored)


def _replace_pixel_data(dataset: Dataset, frames: np.ndarray) -> None:
    if "PixelData" in dataset:
        del dataset["PixelData"]  # with its length, if that was undefined
    dataset.add_new("PixelData", "OW", frames.astype(frames.dtype.newbyteorder("<")).tobytes())


def _make_signed_16_bit(dataset: Dataset) -> None:
    _put(dataset, BitsAllocated=16, BitsStored=16, HighBit=15, PixelRepresentation=1)
    places = [
        transformation
        for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
        for group in Elements([dataset], "").items(keyword)
        for transformation in Elements([group], "").items("PixelValueTransformationSequence")
    ]
    for place in places or [dataset]:
        _put(place, RescaleSlope=1, RescaleIntercept=0)
    _remove(dataset, ("PixelPaddingValue", "PixelPaddingRangeLimit", "RealWorldValueMappingSequence"))


def _put(dataset: Dataset, **elements: Any) -> None:
    """Set elements, whatever the data set has in their place: a damaged one could not be changed."""
    _remove(dataset, list(elements))
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)


def _remove(dataset: Dataset, keywords: Sequence[str]) -> None:
    for keyword in keywords:
        if keyword in dataset:
            del dataset[keyword]


def _derive(dataset: Dataset, act: _Act) -> None:
    """Everything but the pixels that makes a derived image of the template's."""
    elements = Elements([dataset], "")
    lossy = str(getattr(dataset.file_meta, "TransferSyntaxUID", "")) in LOSSY
    source = Dataset()
    source.ReferencedSOPClassUID = sop_class_uid(dataset) or CTImageStorage
    source.ReferencedSOPInstanceUID = elements.text("SOPInstanceUID").partition("\\")[0] or str(
        getattr(dataset.file_meta, "MediaStorageSOPInstanceUID", "")
    )
    source.PurposeOfReferenceCodeSequence = [_code("121322", "Source image for image processing operation")]
    evidence = _evidence(elements, source)
    number = elements.text("SeriesNumber")
    description, derived = elements.text("SeriesDescription"), elements.text("DerivationDescription")

    _put(dataset, SOPClassUID=source.ReferencedSOPClassUID)
    if dataset.SOPClassUID in ENHANCED_CT:
        _derive_enhanced(dataset, source, evidence, act)
    else:
        further = elements.texts("ImageType")[2:]
        _put(
            dataset,
            ImageType=["DERIVED", "SECONDARY", *(further or ["AXIAL"])],
            DerivationDescription="; ".join(text for text in (derived, act.sentence) if text)[-_DERIVED_LENGTH:],
            DerivationCodeSequence=[_derivation(act)],
            SourceImageSequence=[source] if source.ReferencedSOPInstanceUID else [],
        )
    if lossy:
        _put(dataset, LossyImageCompression="01")
    parts = (act.description, description.replace("\\", "/"))
    _put(
        dataset,
        SeriesNumber=_series_number(number),
        SeriesDescription=": ".join(text for text in parts if text)[:_DESCRIBED_LENGTH].strip(),
    )
    _finish(dataset, act)


def _derive_enhanced(dataset: Dataset, source: Dataset, evidence: Dataset, act: _Act) -> None:
    """The same for an enhanced image, which says it in functional groups."""
    elements = Elements([dataset], "")
    shared = elements.items("SharedFunctionalGroupsSequence")
    per_frame = elements.items("PerFrameFunctionalGroupsSequence")
    for place, keyword in [(dataset, "ImageType")] + [
        (item, "FrameType")
        for group in (*shared, *per_frame)
        for item in Elements([group], "").items("CTImageFrameTypeSequence")
    ]:
        further = Elements([place], "").texts(keyword)[1:]
        _put(place, **{keyword: ["DERIVED", *(further or ["PRIMARY", "VOLUME", "NONE"])]})
    image = Dataset()
    image.DerivationDescription = act.sentence[:_DERIVED_LENGTH]
    image.DerivationCodeSequence = [_derivation(act)]
    image.SourceImageSequence = [source]
    if not shared:
        dataset.SharedFunctionalGroupsSequence = shared = [Dataset()]
    # A group is either shared or not: where frames tell what they were derived from, each is told.
    each = [group for group in per_frame if "DerivationImageSequence" in group]
    for group in per_frame if each else shared[:1]:
        _put(group, DerivationImageSequence=[*Elements([group], "").items("DerivationImageSequence"), image])
    _put(dataset, SourceImageEvidenceSequence=[*elements.items("SourceImageEvidenceSequence"), evidence])


def _evidence(elements: Elements, source: Dataset) -> Dataset:
    instance, series, study = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID = source.ReferencedSOPClassUID
    instance.ReferencedSOPInstanceUID = source.ReferencedSOPInstanceUID
    series.SeriesInstanceUID = elements.text("SeriesInstanceUID")
    series.ReferencedSOPSequence = [instance]
    study.StudyInstanceUID = elements.text("StudyInstanceUID")
    study.ReferencedSeriesSequence = [series]
    return study


def _series_number(text: str) -> int:
    """The template's × 100 + 1, which sorts behind it; 1 where it has none."""
    number = int(text) if re.fullmatch(r"\d{1,7}", text) else 0
    return 100 * number + 1


def _finish(dataset: Dataset, act: _Act) -> None:
    """Identity, times and maker of a new instance, and the file around it."""
    elements = Elements([dataset], "")
    series_uid = act.series_uid(elements.text("SeriesInstanceUID"))
    uid = act.instance_uid(elements.text("SOPInstanceUID"), elements.text("ImagePositionPatient"))
    _put(dataset, SeriesInstanceUID=series_uid, SOPInstanceUID=uid)
    now = act.now.astimezone(_zone(Elements([dataset], "").text("TimezoneOffsetFromUTC")))
    for keyword in ("InstanceCreation", "Series", "Content"):
        date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
        _put(dataset, **{f"{keyword}Date": date, f"{keyword}Time": time})
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [_code("109103", "Modifying Equipment")]
    equipment.Manufacturer = "IPv2"
    equipment.ManufacturerModelName = "IPv2Lib"
    equipment.SoftwareVersions = __version__
    equipment.ContributionDateTime = now.strftime("%Y%m%d%H%M%S%z")
    equipment.ContributionDescription = act.description[:_DERIVED_LENGTH]
    before = Elements([dataset], "").items("ContributingEquipmentSequence")
    _put(dataset, ContributingEquipmentSequence=[*before, equipment])
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta = meta
    dataset.preamble = bytes(128)  # a template's may say that the file is a TIFF, too


def _zone(offset: str) -> timezone | None:
    """The time zone of a data set's dates and times; None is this computer's."""
    found = re.fullmatch(r"([+-])(\d\d)(\d\d)", offset)
    if not found:
        return None
    minutes = 60 * int(found[2]) + int(found[3])
    return timezone(timedelta(minutes=minutes if found[1] == "+" else -minutes))


def _derivation(act: _Act) -> Dataset:
    return _code(DERIVATIONS[act.derivation], act.derivation)


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def _new_slices(volume: Volume, act: _Act) -> Iterator[Dataset]:
    direction = np.reshape(volume.direction, (3, 3))
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-4):
        raise InputError("the volume's axes are not orthogonal, which DICOM cannot express: write NRRD")
    study_uid, frame_uid = generate_uid(prefix=None), generate_uid(prefix=None)
    now = act.now.astimezone()
    for index, plane in enumerate(volume.array):
        dataset = Dataset()
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.SOPClassUID = CTImageStorage
        dataset.PatientName = "Unknown^"
        dataset.PatientID = f"IPv2-{study_uid[-8:]}"  # archives would merge patients without an identity
        dataset.PatientBirthDate = dataset.PatientSex = ""
        dataset.StudyInstanceUID = study_uid
        dataset.StudyDate, dataset.StudyTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
        dataset.StudyID = "1"
        dataset.ReferringPhysicianName = dataset.AccessionNumber = ""
        dataset.Modality = "CT"
        dataset.SeriesNumber = 1
        dataset.SeriesDescription = act.description[:_DESCRIBED_LENGTH].strip()
        dataset.PatientPosition = ""
        dataset.FrameOfReferenceUID = frame_uid
        dataset.PositionReferenceIndicator = ""
        dataset.Manufacturer = "IPv2"
        dataset.SoftwareVersions = __version__
        dataset.InstanceNumber = index + 1
        dataset.BodyPartExamined = "CHEST"
        dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        dataset.DerivationDescription = act.sentence[:_DERIVED_LENGTH]
        dataset.AcquisitionNumber = dataset.KVP = None
        dataset.ImageOrientationPatient = _decimals([*direction[:, 0], *direction[:, 1]])
        dataset.ImagePositionPatient = _decimals((volume.affine @ [0, 0, index, 1])[:3])
        dataset.PixelSpacing = _decimals([volume.spacing[1], volume.spacing[0]])
        dataset.SliceThickness = dataset.SpacingBetweenSlices = _decimals(volume.spacing[2:])[0]
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.Rows, dataset.Columns = plane.shape
        _make_signed_16_bit(dataset)
        dataset.RescaleType = "HU"
        _replace_pixel_data(dataset, np.clip(np.rint(plane), -(1 << 15), (1 << 15) - 1).astype("<i2"))
        _finish(dataset, act)
        yield dataset


def _decimals(values: Iterable[float]) -> list[DSfloat]:
    return [DSfloat(float(value), auto_format=True) for value in values]
