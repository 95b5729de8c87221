"""DICOM files with known content for tests."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from IPv2Lib.errors import InputNote
from IPv2Lib.io import files
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless, generate_uid

HU = np.random.default_rng(0).integers(-1024, 1500, (4, 16, 20)).astype(np.int16)
SPACING = (0.7, 0.8, 2.5)
ORIGIN = (-120.5, -90.25, 1000.0)
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"


def header(**elements) -> Dataset:
    """A CT slice without pixels, with elements of every kind that a derived series has to keep."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]
    dataset.Modality = "CT"
    dataset.PatientName = "Müller^Anna"
    dataset.PatientID = "0815"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.4"
    dataset.FrameOfReferenceUID = "1.2.3.9"
    dataset.SeriesDescription = "Chest 2.5 B50f"
    dataset.SeriesNumber = 3
    dataset.KVP = "120"
    dataset.ConvolutionKernel = "B50f"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 16
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.WindowCenter, dataset.WindowWidth = [-600, 40], [1500, 400]
    code = Dataset()
    code.CodeValue, code.CodeMeaning = "T-D3000", "Chest"
    dataset.AnatomicRegionSequence = [code]
    dataset.private_block(0x0009, "SCANNER 1.0", create=True).add_new(0x01, "OB", b"\x01\x02\x03\x04")
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def save(dataset: Dataset, path: Path, hu: np.ndarray, syntax=ExplicitVRLittleEndian) -> None:
    """Write a slice whose stored values mean `hu` under the rescale of the header."""
    stored = (hu - float(dataset.get("RescaleIntercept") or 0)) / float(dataset.get("RescaleSlope") or 1)
    assert (stored == np.rint(stored)).all()
    store(dataset, path, stored, syntax)


def store(dataset: Dataset, path: Path, stored: np.ndarray, syntax=ExplicitVRLittleEndian) -> None:
    """Write stored values as they are."""
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    if "SOPClassUID" in dataset:
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    else:
        dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3.4.5")
    byte_order = ">" if syntax == ExplicitVRBigEndian else "<"
    kind = f"{'i' if dataset.PixelRepresentation else 'u'}{dataset.BitsAllocated // 8}"
    words = stored.astype(np.int64).astype(byte_order + kind)
    dataset.add_new("PixelData", "OW", words.tobytes())
    if syntax == RLELossless:
        dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)


def place(index: int, slices: int) -> dict:
    """Elements that say where a slice lies."""
    return {
        "InstanceNumber": slices - index,
        "PixelSpacing": [SPACING[1], SPACING[0]],
        "SliceThickness": 3,
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [*ORIGIN[:2], ORIGIN[2] + SPACING[2] * index],
    }


def write_scan(folder: Path, hu: np.ndarray = HU, syntax=ExplicitVRLittleEndian, keep=None, **elements) -> Path:
    """A series in files without extension whose names are in another order than the slices.

    Elements may be functions of the index of the slice; None leaves one out.
    """
    folder.mkdir(exist_ok=True)
    for index in range(len(hu)) if keep is None else keep:
        values = {key: value(index) if callable(value) else value for key, value in elements.items()}
        dataset = header(**(place(index, len(hu)) | values))
        for keyword in [key for key, value in values.items() if value is None]:
            delattr(dataset, keyword)
        suffix = str(dataset.SeriesInstanceUID)[-2:]
        save(dataset, folder / f"IM{(index * 7 + 3) % 10}{suffix}", hu[index], syntax)
    return folder


def slices_of(folder: Path) -> list[Dataset]:
    """The files of a series in the order of the slices."""
    datasets = [pydicom.dcmread(path) for path in folder.iterdir()]
    return sorted(datasets, key=lambda dataset: dataset.ImagePositionPatient[2])


def item(**elements) -> Dataset:
    """One item of a sequence."""
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def code(value: str, scheme: str, meaning: str) -> list[Dataset]:
    """A coded concept."""
    return [item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)]


def write_enhanced(
    path: Path,
    hu: np.ndarray = HU,
    order: Sequence[int] | None = None,
    rescale: Callable[[int], tuple[float, float]] | None = None,
    edit: Callable[[Dataset], None] = lambda dataset: None,
    **elements,
) -> Path:
    """An enhanced CT whose frames are the slices in `order`, with a rescale shared or (given by slice) per frame."""
    order = range(len(hu)) if order is None else order
    dataset = header(SOPClassUID=ENHANCED_CT, ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
    for keyword in ("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "ConvolutionKernel", "KVP"):
        delattr(dataset, keyword)
    _describe_enhanced(dataset)
    dataset.NumberOfFrames = len(order)
    geometry = place(0, len(hu))
    frame_type = item(
        FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
    )
    shared = item(
        PixelMeasuresSequence=[item(**{key: geometry[key] for key in ("PixelSpacing", "SliceThickness")})],
        PlaneOrientationSequence=[item(ImageOrientationPatient=geometry["ImageOrientationPatient"])],
        CTImageFrameTypeSequence=[frame_type],
        FrameAnatomySequence=[
            item(FrameLaterality="U", AnatomicRegionSequence=code("51185008", "SCT", "Chest")),
        ],
        FrameVOILUTSequence=[item(WindowCenter=-600, WindowWidth=1500)],
    )
    dataset.SharedFunctionalGroupsSequence = [shared]
    if rescale is None:
        shared.PixelValueTransformationSequence = [item(RescaleIntercept=-1024, RescaleSlope=1, RescaleType="HU")]
    groups, frames = [], []
    for index in order:
        position = item(ImagePositionPatient=place(index, len(hu))["ImagePositionPatient"])
        content = item(
            FrameAcquisitionNumber=1,
            FrameReferenceDateTime="20200101120000",
            FrameAcquisitionDateTime="20200101120000",
            FrameAcquisitionDuration=1.0,
            StackID="1",
            InStackPositionNumber=index + 1,
            DimensionIndexValues=[1, index + 1],
        )
        group = item(PlanePositionSequence=[position], FrameContentSequence=[content])
        slope, intercept = (1, -1024) if rescale is None else rescale(index)
        if rescale is not None:
            group.PixelValueTransformationSequence = [
                item(RescaleIntercept=intercept, RescaleSlope=slope, RescaleType="HU")
            ]
        groups.append(group)
        frames.append((hu[index] - intercept) / slope)
    dataset.PerFrameFunctionalGroupsSequence = groups
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    edit(dataset)
    path.parent.mkdir(exist_ok=True)
    store(dataset, path, np.array(frames))
    return path


def _describe_enhanced(dataset: Dataset) -> None:
    """The elements that an enhanced CT must have besides."""
    for keyword, value in {
        "PatientBirthDate": "19700101",
        "PatientSex": "F",
        "StudyDate": "20200101",
        "StudyTime": "120000",
        "StudyID": "7",
        "AccessionNumber": "A1",
        "ReferringPhysicianName": "Doe^John",
        "PatientPosition": "HFS",
        "PositionReferenceIndicator": "",
        "Manufacturer": "Scanner",
        "ManufacturerModelName": "One",
        "DeviceSerialNumber": "1",
        "SoftwareVersions": "1",
        "AcquisitionNumber": 1,
        "InstanceNumber": 1,
        "ContentDate": "20200101",
        "ContentTime": "120000",
        "AcquisitionDateTime": "20200101120000",
        "AcquisitionDuration": 1.0,
        "PixelPresentation": "MONOCHROME",
        "VolumetricProperties": "VOLUME",
        "VolumeBasedCalculationTechnique": "NONE",
        "BurnedInAnnotation": "NO",
        "LossyImageCompression": "00",
        "PresentationLUTShape": "IDENTITY",
        "ContentQualification": "RESEARCH",
        "BodyPartExamined": "CHEST",
    }.items():
        setattr(dataset, keyword, value)
    del dataset.AnatomicRegionSequence
    dataset.AcquisitionContextSequence = []
    dataset.DimensionOrganizationSequence = [item(DimensionOrganizationUID="1.2.3.10")]
    dataset.DimensionIndexSequence = [
        item(DimensionOrganizationUID="1.2.3.10", DimensionIndexPointer=tag, FunctionalGroupPointer=0x00209111)
        for tag in (0x00209056, 0x00209057)
    ]


def notes_of(path) -> list[str]:
    """What reading says besides the volume."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        files.read(path)
    assert all(issubclass(each.category, InputNote) for each in caught)
    return [str(each.message) for each in caught]
