"""DICOM series that are written: what a derived series keeps, what it says of itself, and its pixels."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_samples import HU, ORIGIN, SPACING, slices_of, write_scan
from hypothesis import given, settings
from hypothesis import strategies as st
from IPv2Lib import ct
from IPv2Lib.ct import Volume
from IPv2Lib.errors import InputError, OutputError
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

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


@pytest.fixture
def scan(tmp_path) -> Path:
    return write_scan(tmp_path / "scan")


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
