"""DICOM series of two patients, as scanners and Slicer's database have them: what the tests of identity share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

DESCRIPTION = "Thorax 1.0 B31f"  # every patient of the scanner has it; Slicer shows it as "4: Thorax 1.0 B31f"
SERIES = f"4: {DESCRIPTION}"


def chest(who: str, slices: int = 4, size: int = 64) -> np.ndarray:
    """HU of a noisy disc with two dark ones in it, of other values for each patient."""
    rng = np.random.default_rng(len(who))
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    body = np.where(np.hypot(rows, columns) < 0.85, 30.0 + len(who), -1000.0)
    for side in (-0.4, 0.4):
        body[np.hypot(rows, columns - side) < 0.3] = -850.0
    return np.rint(body + rng.normal(0, 40, (slices, size, size))).astype(np.int16)


def write_patient(folder: Path, who: str, parts: int = 1) -> Path:
    """Write a series, spread over several folders if wanted; returns the folder of all."""
    array = chest(who)
    study = f"1.2.826.0.1.{sum(map(ord, who))}"
    for index, plane in enumerate(array):
        place = folder / who if parts == 1 else folder / who / f"part {index % parts}"
        place.mkdir(parents=True, exist_ok=True)
        slice_of(plane, who, study, index).save_as(place / f"IM{index:03d}.dcm", enforce_file_format=True)
    return folder / who


def chest_at(who: str, frame: int) -> np.ndarray:
    """HU of a frame of a 4-D CT."""
    return np.roll(chest(who), 3 * frame, axis=1) + np.int16(frame)


def write_4d(folder: Path, who: str, count: int = 3) -> Path:
    """Write a series with several volumes, one after the other; returns its folder."""
    study = f"1.2.826.0.1.{sum(map(ord, who))}"
    place = folder / f"{who} 4D"
    place.mkdir(parents=True)
    for frame in range(count):
        for index, plane in enumerate(chest_at(who, frame)):
            image = slice_of(plane, who, study, index)
            number = 100 * frame + index + 1
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = f"{study}.4.{number}"
            image.InstanceNumber, image.AcquisitionTime = number, f"1200{2 * frame:02d}"
            image.save_as(place / f"IM{number:04d}.dcm", enforce_file_format=True)
    return place


def slice_of(plane: np.ndarray, who: str, study: str, index: int) -> Dataset:
    """One CT image."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = CTImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = f"{study}.4.{index + 1}"
    image.PatientName, image.PatientID = f"{who}^TEST", f"ID-{who}"
    image.PatientBirthDate, image.PatientSex = "19500101", "F"
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, f"{study}.4", f"{study}.9"
    image.StudyDate, image.StudyTime, image.StudyID = "20250101", "120000", "7"
    image.StudyDescription, image.SeriesDescription = f"Study of {who}", DESCRIPTION
    image.AccessionNumber, image.ReferringPhysicianName = "", ""
    image.Modality, image.SeriesNumber, image.InstanceNumber = "CT", 4, index + 1
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.ImageOrientationPatient, image.PixelSpacing = [1, 0, 0, 0, 1, 0], [5, 5]
    image.ImagePositionPatient, image.SliceThickness = [-160, -160, 2.5 * index], 2.5
    image.Rows, image.Columns = plane.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = 0, 1, "HU"
    image.PixelData = plane.astype("<i2").tobytes()
    return image


def headers(folder: Path) -> list[Dataset]:
    """Of every file of a series that was written, in the order of the slices."""
    found = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    return sorted(found, key=lambda header: header.ImagePositionPatient[2])
