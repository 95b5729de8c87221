"""DICOM series: what is read, what is refused and how it is named, and what a derived series keeps."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPv2Lib import ct
from IPv2Lib.ct import Volume
from IPv2Lib.errors import InputError, OutputError
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

HU = np.random.default_rng(0).integers(-1024, 1500, (4, 16, 20)).astype(np.int16)
SPACING = (0.7, 0.8, 2.5)
CHANGED = {
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "ImageType",
    "SeriesDescription",
    "DerivationDescription",
    "SourceImageSequence",
    "DerivationCodeSequence",
    "ContributingEquipmentSequence",
    "SeriesNumber",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "SeriesDate",
    "SeriesTime",
    "ContentDate",
    "ContentTime",
    "PixelData",
}
ORIGIN = (-120.5, -90.25, 1000.0)


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
    stored = (hu - float(dataset.get("RescaleIntercept", 0))) / float(dataset.get("RescaleSlope", 1))
    assert (stored == np.rint(stored)).all()
    dataset.Rows, dataset.Columns = hu.shape
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    byte_order = ">" if syntax == ExplicitVRBigEndian else "<"
    kind = "i2" if dataset.PixelRepresentation else "u2"
    dataset.add_new("PixelData", "OW", stored.astype(byte_order + kind).tobytes())
    if syntax == RLELossless:
        dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)


def write_scan(folder: Path, hu: np.ndarray = HU, syntax=ExplicitVRLittleEndian, keep=None, **elements) -> Path:
    """A series in files without extension whose names are in another order than the slices."""
    folder.mkdir(exist_ok=True)
    for index in range(len(hu)) if keep is None else keep:
        place = {
            "InstanceNumber": len(hu) - index,
            "PixelSpacing": [SPACING[1], SPACING[0]],
            "SliceThickness": 3,
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "ImagePositionPatient": [*ORIGIN[:2], ORIGIN[2] + SPACING[2] * index],
        }
        values = {key: value(index) if callable(value) else value for key, value in elements.items()}
        dataset = header(**(place | values))
        for keyword in [key for key, value in values.items() if value is None]:
            delattr(dataset, keyword)
        suffix = str(dataset.SeriesInstanceUID)[-2:]
        save(dataset, folder / f"IM{(index * 7 + 3) % 10}{suffix}", hu[index], syntax)
    return folder


@pytest.fixture
def scan(tmp_path) -> Path:
    return write_scan(tmp_path / "scan")


def slices_of(folder: Path) -> list[Dataset]:
    datasets = [pydicom.dcmread(path) for path in folder.iterdir()]
    return sorted(datasets, key=lambda dataset: dataset.ImagePositionPatient[2])


class TestRead:
    def check(self, volume: Volume, hu=HU):
        np.testing.assert_array_equal(volume.array, hu)
        assert volume.spacing == pytest.approx(SPACING)
        assert volume.origin == pytest.approx(ORIGIN)
        assert volume.direction == (1, 0, 0, 0, 1, 0, 0, 0, 1)

    def test_series(self, scan, capfd):
        volume = ct.read(scan)
        ct.check_ct(volume)
        assert volume.array.dtype == np.int16
        self.check(volume)
        assert capfd.readouterr().err == ""

    @pytest.mark.parametrize(
        "elements",
        [
            {"BitsStored": 16, "HighBit": 15},  # GDCM returns int32
            {"PixelRepresentation": 1, "RescaleIntercept": 0},
            {"PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15, "RescaleIntercept": -24},
            {"RescaleIntercept": lambda index: -1024 - index},  # each slice its own
        ],
    )
    def test_pixel_representations(self, tmp_path, elements):
        volume = ct.read(write_scan(tmp_path / "scan", **elements))
        assert volume.array.dtype == np.int16
        self.check(volume)

    @pytest.mark.parametrize("first", [0.5, 1])
    def test_fractional_rescale_is_float32(self, tmp_path, first):
        """Also where only some slices have it."""
        slope = {"RescaleSlope": lambda index: first if index == 0 else 0.5}
        volume = ct.read(write_scan(tmp_path / "scan", BitsStored=16, HighBit=15, **slope))
        assert volume.array.dtype == np.float32
        self.check(volume)

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
    def test_transfer_syntaxes(self, tmp_path, syntax):
        self.check(ct.read(write_scan(tmp_path / "scan", syntax=syntax)))

    def test_without_rescale_values_below_0_are_hu(self, tmp_path):
        elements = {"PixelRepresentation": 1, "RescaleSlope": None, "RescaleIntercept": None}
        with pytest.raises(InputError, match=r"Chest 2\.5 B50f.* no rescale slope .* no value below 0"):
            ct.read(write_scan(tmp_path / "positive", abs(HU), **elements))
        self.check(ct.read(write_scan(tmp_path / "scan", **elements)))

    def test_single_slice(self, tmp_path):
        volume = ct.read(write_scan(tmp_path / "scan", keep=[2]))
        assert volume.array.shape == (1, 16, 20)
        assert volume.spacing == pytest.approx((*SPACING[:2], 3))  # the slice thickness
        assert volume.origin == pytest.approx((*ORIGIN[:2], 1005))

    def test_oblique_series(self, tmp_path):
        row, column = np.array([0.6, 0.8, 0.0]), np.array([0.0, 0.0, -1.0])
        normal = np.cross(row, column)
        folder = write_scan(
            tmp_path / "scan",
            ImageOrientationPatient=[*row, *column],
            ImagePositionPatient=lambda index: list(np.array(ORIGIN) + 2.5 * index * normal),
        )
        volume = ct.read(folder)
        np.testing.assert_array_equal(volume.array, HU)
        np.testing.assert_allclose(np.reshape(volume.direction, (3, 3)), np.stack([row, column, normal], axis=1))

    def test_other_files_do_not_matter(self, scan):
        (scan / "notes.txt").write_text("text")
        (scan / "empty").write_bytes(b"")
        (scan / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
        report = Dataset()
        report.file_meta = FileMetaDataset()
        report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        report.SOPClassUID, report.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.11", "1.2"
        report.SeriesInstanceUID, report.Modality = "1.2.3.77", "SR"
        report.save_as(scan / "report.dcm", enforce_file_format=True)
        self.check(ct.read(scan))

    def test_one_file_stands_for_its_series(self, scan):
        write_scan(scan, HU - 0, SeriesInstanceUID="1.2.3.5", RescaleIntercept=-1024)
        write_scan(scan, (HU + 1)[:2], SeriesInstanceUID="1.2.3.6")
        self.check(ct.read(scan / "IM3.4"))
        np.testing.assert_array_equal(ct.read(scan / "IM0.6").array, (HU + 1)[:2])


class TestRefuse:
    """Every message names the series."""

    def refused(self, path: Path, message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            ct.read(path)
        assert "\n" not in str(caught.value)
        assert "Chest 2.5 B50f" in str(caught.value)
        assert "UID 1.2.3.4" in str(caught.value)

    def test_several_series(self, scan):
        write_scan(scan, HU[:1], SeriesInstanceUID="1.2.3.5", SeriesDescription="Lung 1.0 B80f")
        self.refused(scan, 'series "Lung 1.0 B80f" .CT, 1 slice, UID 1.2.3.5., e.g. IM3.5. Choose one by giving')

    def test_gap(self, scan):
        (scan / "IM7.4").unlink()  # the third
        self.refused(scan, r"gaps: slices are usually .* between 1002.50 and 1007.50 mm .IM0.4, IM4.4.")

    def test_many_gaps(self, tmp_path):
        hu = np.resize(HU, (10, 16, 20))
        folder = write_scan(tmp_path / "scan", hu)
        gaps = [1005.0, 1012.5]
        for dataset in slices_of(folder):
            if dataset.ImagePositionPatient[2] in gaps:
                (folder / f"IM{(int((dataset.ImagePositionPatient[2] - 1000) / 2.5) * 7 + 3) % 10}.4").unlink()
        self.refused(folder, r"2\.50 mm apart, but farther between 1002\.50 and 1007\.50 .*, 1010\.00 and 1015\.00")

    def test_doubled_position(self, scan):
        write_scan(scan, HU[:2], SOPInstanceUID="1.2.99")
        (scan / "IM0.4").rename(scan / "copy")
        write_scan(scan, HU[:2])
        self.refused(scan, r"several slices at one position: 1002.50 and 1002.50 mm \(IM0.4, copy\)")

    def test_uneven_steps(self, tmp_path):
        positions = [0, 2.5, 5, 6]
        folder = write_scan(tmp_path / "scan", ImagePositionPatient=lambda index: [*ORIGIN[:2], positions[index]])
        self.refused(folder, r"uneven: slices are usually 2.50 mm apart, but closer between 5.00 and 6.00 mm")

    def test_tilted_gantry(self, tmp_path):
        angle = np.radians(15)
        folder = write_scan(
            tmp_path / "scan",
            ImageOrientationPatient=[1, 0, 0, 0, np.cos(angle), -np.sin(angle)],
        )
        self.refused(folder, r"sheared: .*gantry tilt of 15\.0°")

    @pytest.mark.parametrize(
        ("keyword", "odd"),
        [
            ("PixelSpacing", [0.5, 0.5]),
            ("ImageOrientationPatient", [1, 0, 0, 0, 0, -1]),
        ],
    )
    def test_mixed_geometry(self, scan, keyword, odd):
        write_scan(scan, keep=[3], **{keyword: odd})
        self.refused(scan, f"mixes slices of different {keyword}: .* in 3, .* in 1, e.g. .* in IM4.4")

    def test_mixed_size(self, scan):
        write_scan(scan, HU[:, :8], keep=[3])
        self.refused(scan, r"mixes slices of different Rows: 16 in 3, e.g. IM0.4, another in 1, e.g. 8 in IM4.4")

    def test_not_ct(self, tmp_path):
        self.refused(write_scan(tmp_path / "a", Modality="MR", SOPClassUID=MRImageStorage), r"\(MR, .* is not CT")
        self.refused(write_scan(tmp_path / "b", Modality=None), r"\(no modality, .* is not CT")

    def test_colour(self, tmp_path):
        folder = write_scan(tmp_path / "scan", SamplesPerPixel=3, SOPClassUID=SecondaryCaptureImageStorage)
        self.refused(folder, "in colour")

    def test_multi_frame(self, tmp_path):
        self.refused(write_scan(tmp_path / "scan", NumberOfFrames=5), "multi-frame")

    @pytest.mark.parametrize("keyword", ["PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"])
    def test_no_place(self, tmp_path, keyword):
        self.refused(write_scan(tmp_path / "scan", **{keyword: None}), f"has no usable {keyword} in IM")

    def test_positions_that_are_no_numbers(self, tmp_path):
        folder = write_scan(tmp_path / "scan", ImagePositionPatient=[0, 0, float("nan")])
        self.refused(folder, "has no usable ImagePositionPatient in IM")

    @pytest.mark.parametrize(
        ("keyword", "value"),
        [("PixelSpacing", [0, 0.5]), ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0])],
    )
    def test_geometry_that_cannot_be_used(self, tmp_path, keyword, value):
        self.refused(write_scan(tmp_path / "scan", **{keyword: value}), "geometry that cannot be used")

    @pytest.mark.parametrize("kept_bytes", [400, 1000, -20])
    def test_damaged_file(self, scan, kept_bytes, capfd):
        path = scan / "IM0.4"
        path.write_bytes(path.read_bytes()[:kept_bytes])
        with pytest.raises(InputError, match=r"IM0\.4 .*damaged"):
            ct.read(scan)
        assert capfd.readouterr().err == ""

    def test_no_image(self, tmp_path):
        (tmp_path / "series").mkdir()
        (tmp_path / "notes").write_text("text")
        with pytest.raises(InputError, match=r"holds no DICOM image: .*\(subfolders are not searched\)"):
            ct.read(tmp_path)


class TestDerivedSeries:
    def changed_keywords(self, before: Dataset, after: Dataset) -> set[str]:
        tags = set(before.keys()) | set(after.keys())
        return {pydicom.datadict.keyword_for_tag(tag) for tag in tags if before.get(tag) != after.get(tag)}

    @pytest.mark.parametrize(
        "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless]
    )
    def test_changes_pixel_data_only(self, tmp_path, syntax):
        scan = write_scan(tmp_path / "scan", syntax=syntax, PixelPaddingValue=0)
        volume = ct.read(scan)
        result = volume.with_array(volume.array[:, ::-1] // 2)
        out = ct.write(result, tmp_path / "out", template=scan, description="IPv2 unet")
        before, after = slices_of(scan), slices_of(out)
        assert len(after) == len(before)
        for old, new, plane in zip(before, after, result.array, strict=True):
            assert self.changed_keywords(old, new) <= CHANGED
            assert new.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
            assert new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID
            assert new.SourceImageSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID
            assert new.ImageType == ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 SPI"]
            assert new.SeriesDescription == "IPv2 unet: Chest 2.5 B50f"
            assert new.DerivationDescription.startswith("IPv2 unet (IPv2Lib ")
            np.testing.assert_array_equal(new.pixel_array.astype(int) - 1024, plane)
        assert len({dataset.SeriesInstanceUID for dataset in after}) == 1
        assert after[0].SeriesInstanceUID != before[0].SeriesInstanceUID
        instances = {dataset.SOPInstanceUID for dataset in before + after}
        assert len(instances) == 2 * len(before)
        again = ct.read(out)
        np.testing.assert_array_equal(again.array, result.array)
        assert ct.same_grid(again, volume)

    def test_one_slice(self, tmp_path):
        scan = write_scan(tmp_path / "scan", keep=[1])
        volume = ct.read(scan)
        np.testing.assert_array_equal(ct.read(ct.write(volume, tmp_path / "out", scan)).array, HU[1:2])

    def test_template_given_as_a_file(self, scan, tmp_path):
        volume = ct.read(scan)
        write_scan(scan, HU[:2], SeriesInstanceUID="1.2.3.5")
        out = ct.write(volume, tmp_path / "out", template=scan / "IM3.4")
        assert slices_of(out)[0].PatientName == "Müller^Anna"

    def test_rounds_and_clips(self, scan, tmp_path):
        array = np.resize(np.array([-5000, -1024.4, -0.5, 0.49, 100.51, 3071.2, 9000]), HU.shape)
        out = ct.write(ct.read(scan).with_array(array), tmp_path / "out", scan)
        expected = np.resize([-1024, -1024, 0, 0, 101, 3071, 3071], HU.shape)
        np.testing.assert_array_equal(ct.read(out).array, expected)

    @pytest.mark.parametrize("elements", [{"RescaleSlope": 0.5}, {"RescaleIntercept": -1023.5}, {"HighBit": 15}])
    def test_whole_hu_are_exact_whatever_the_template(self, tmp_path, elements):
        hu = HU if "HighBit" not in elements else HU * 0
        scan = write_scan(
            tmp_path / "scan", hu - 0.5 if "RescaleIntercept" in elements else hu, PixelPaddingValue=0, **elements
        )
        volume = Volume(HU, SPACING, ORIGIN)
        out = ct.write(volume, tmp_path / "out", scan)
        np.testing.assert_array_equal(ct.read(out).array, HU)
        assert "PixelPaddingValue" not in slices_of(out)[0]

    def test_what_describes_the_old_pixels_goes(self, tmp_path):
        scan = write_scan(tmp_path / "scan", SmallestImagePixelValue=0, LargestImagePixelValue=4095)
        after = slices_of(ct.write(ct.read(scan), tmp_path / "out", scan))
        assert not any("SmallestImagePixelValue" in item or "LargestImagePixelValue" in item for item in after)

    def test_descriptions_fit(self, tmp_path):
        scan = write_scan(tmp_path / "scan", SeriesDescription="x" * 60, DerivationDescription="averaged")
        out = ct.write(ct.read(scan), tmp_path / "out", scan, description="modèle\\a")
        first = slices_of(out)[0]
        assert first.SeriesDescription == "mod?le/a: " + "x" * 54
        assert first.DerivationDescription.startswith("averaged; mod?le/a (IPv2Lib")

    def test_refuses_another_grid(self, scan, tmp_path):
        volume = ct.read(scan)
        for other in (
            volume.with_array(volume.array[:2]),
            Volume(volume.array, volume.spacing, (0, 0, 0)),
            Volume(volume.array[::-1], volume.spacing, volume.origin, (1, 0, 0, 0, 1, 0, 0, 0, -1)),
        ):
            with pytest.raises(InputError, match=r'not on the grid .* "Chest 2\.5 B50f"'):
                ct.write(other, tmp_path / "out", scan)
        assert [path.name for path in tmp_path.iterdir()] == ["scan"]

    def test_refuses_nan(self, scan, tmp_path):
        with pytest.raises(InputError, match="NaN"):
            ct.write(ct.read(scan).with_array(np.where(HU > 0, HU, np.nan)), tmp_path / "out", scan)
        assert [path.name for path in tmp_path.iterdir()] == ["scan"]

    def test_never_mixes_with_other_files(self, scan, tmp_path):
        volume = ct.read(scan)
        names = sorted(path.name for path in scan.iterdir())
        with pytest.raises(OutputError, match="is not empty"):
            ct.write(volume, scan, scan)
        assert sorted(path.name for path in scan.iterdir()) == names
        (tmp_path / "empty").mkdir()
        ct.write(volume, tmp_path / "empty", scan)
        assert len(list((tmp_path / "empty").iterdir())) == len(HU)
        assert {path.name for path in tmp_path.iterdir()} == {"scan", "empty"}


class TestNewSeries:
    def test_a_template_that_is_not_dicom_has_nothing_to_give(self, tmp_path):
        source = ct.write(Volume(HU), tmp_path / "a.nrrd")
        np.testing.assert_array_equal(ct.read(ct.write(Volume(HU), tmp_path / "out", source)).array, HU)
        with pytest.raises(InputError, match="missing holds no DICOM image"):
            ct.write(Volume(HU), tmp_path / "out2", tmp_path / "missing")

    @settings(max_examples=15, deadline=None)
    @given(
        st.integers(1, 3),
        st.tuples(*[st.floats(0.1, 10)] * 3),
        st.tuples(*[st.floats(-2000, 2000)] * 3),
        st.sampled_from([(1, 0, 0, 0, 1, 0, 0, 0, 1), (0.6, 0, 0.8, 0.8, 0, -0.6, 0, 1, 0)]),
    )
    def test_round_trip(self, tmp_path_factory, slices, spacing, origin, direction):
        volume = Volume(HU[:slices], spacing, origin, direction)
        again = ct.read(ct.write(volume, tmp_path_factory.mktemp("new") / "out"))
        assert again.array.dtype == np.int16
        np.testing.assert_array_equal(again.array, volume.array)
        np.testing.assert_allclose(again.affine, volume.affine, rtol=0, atol=1e-6)

    def test_axes_that_run_backwards_are_turned(self, tmp_path):
        volume = Volume(HU, SPACING, ORIGIN, (1, 0, 0, 0, 1, 0, 0, 0, -1))
        again = ct.read(ct.write(volume, tmp_path / "out"))
        np.testing.assert_array_equal(again.array, HU[::-1])
        assert again.origin == pytest.approx((*ORIGIN[:2], ORIGIN[2] - 3 * SPACING[2]))

    def test_holds_what_a_ct_image_must_have(self, tmp_path):
        first = slices_of(ct.write(Volume(HU), tmp_path / "out", description="phantom"))[0]
        for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "SliceThickness", "RescaleType"):
            assert first[keyword].value, keyword
        for keyword in ("PatientBirthDate", "StudyID", "AccessionNumber", "KVP", "AcquisitionNumber"):
            assert keyword in first
        assert first.SeriesDescription == "phantom"
        assert first.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]

    def test_refuses_axes_that_are_not_orthogonal(self, tmp_path):
        with pytest.raises(InputError, match="not orthogonal"):
            ct.write(Volume(HU, direction=(1, 0.5, 0, 0, 1, 0, 0, 0, 1)), tmp_path / "out")
        assert not list(tmp_path.iterdir())
