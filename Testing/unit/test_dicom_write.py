"""DICOM series that are written: what a derived series keeps, what it says of itself, and its pixels."""

import shutil
import subprocess
import warnings
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from dicom_samples import HU, ORIGIN, SPACING, header, item, place, slices_of, write_enhanced, write_scan
from hypothesis import given, settings
from hypothesis import strategies as st
from IPv2Lib import __version__
from IPv2Lib.errors import InputError, InputNote, OutputError
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume, same_grid
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
REAL_CT = [
    "CT_small.dcm",
    "693_J2KI.dcm",
    "J2K_pixelrep_mismatch.dcm",
    *(f"dicomdirtests/77654033/CT2/{number}" for number in (17106, 17136, 17166, 17196)),
    *(f"dicomdirtests/98892001/CT5N/{number}" for number in (2062, 2392, 2693, 3023, 3353)),
]
TIMES = ("InstanceCreation", "Series", "Content")
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
        volume = files.read(scan)
        result = volume.with_array(volume.array[:, ::-1] // 2)
        out = files.write(result, tmp_path / "out", template=scan, description="IPv2 unet")
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
        again = files.read(out)
        np.testing.assert_array_equal(again.array, result.array)
        assert same_grid(again, volume)

    @pytest.mark.parametrize("enhanced", [False, True])
    def test_the_same_again_has_the_same_uids_and_nothing_else_has(self, tmp_path, enhanced):
        scan = write_enhanced(tmp_path / "scan.dcm") if enhanced else write_scan(tmp_path / "scan")
        volume, made = files.read(scan), {}

        def uids(identity: str, description: str = "a; of no account") -> frozenset[str]:
            out = files.write(volume, tmp_path / f"{len(made)}", scan, description, identity=identity)
            datasets = [pydicom.dcmread(path) for path in out.iterdir()]
            found = frozenset(
                str(each[key].value) for each in datasets for key in ("SeriesInstanceUID", "SOPInstanceUID")
            )
            assert all(UID(each).is_valid for each in found)
            made[len(made)] = found
            return found

        first = uids("x")
        assert len(first) == 1 + (1 if enhanced else len(HU))
        assert uids("x", "a; replaces another") == first
        for other in (uids("y"), uids("x", "b"), uids(""), uids("")):
            assert len([each for each in made.values() if each & other]) == 1

    def test_slices_that_share_a_uid_do_not_in_the_result(self, tmp_path):
        scan = write_scan(tmp_path / "scan", SOPInstanceUID="1.2.3.4.5")
        out = files.write(files.read(scan), tmp_path / "out", scan, identity="x")
        assert len({each.SOPInstanceUID for each in slices_of(out)}) == len(HU)

    def test_what_follows_a_semicolon_is_in_the_derivation_description_only(self, scan, tmp_path):
        (new, *_) = slices_of(files.write(files.read(scan), tmp_path / "out", scan, "IPv2 unet; replaces 1.2"))
        assert new.SeriesDescription == "IPv2 unet: Chest 2.5 B50f"
        assert new.DerivationDescription == f"IPv2 unet (IPv2Lib {__version__}); replaces 1.2"

    def test_one_slice(self, tmp_path):
        scan = write_scan(tmp_path / "scan", keep=[1])
        volume = files.read(scan)
        np.testing.assert_array_equal(files.read(files.write(volume, tmp_path / "out", scan)).array, HU[1:2])

    def test_template_given_as_a_file(self, scan, tmp_path):
        volume = files.read(scan)
        write_scan(scan, HU[:2], SeriesInstanceUID="1.2.3.5")
        out = files.write(volume, tmp_path / "out", template=scan / "IM3.4")
        assert slices_of(out)[0].PatientName == "Müller^Anna"

    def test_rounds_and_clips(self, scan, tmp_path):
        array = np.resize(np.array([-5000, -1024.4, -0.5, 0.49, 100.51, 3071.2, 9000]), HU.shape)
        out = files.write(files.read(scan).with_array(array), tmp_path / "out", scan)
        expected = np.resize([-1024, -1024, 0, 0, 101, 3071, 3071], HU.shape)
        np.testing.assert_array_equal(files.read(out).array, expected)

    @pytest.mark.parametrize("elements", [{"RescaleSlope": 0.5}, {"RescaleIntercept": -1023.5}, {"HighBit": 15}])
    def test_whole_hu_are_exact_whatever_the_template(self, tmp_path, elements):
        hu = HU if "HighBit" not in elements else HU * 0
        scan = write_scan(
            tmp_path / "scan", hu - 0.5 if "RescaleIntercept" in elements else hu, PixelPaddingValue=0, **elements
        )
        volume = Volume(HU, SPACING, ORIGIN)
        out = files.write(volume, tmp_path / "out", scan)
        np.testing.assert_array_equal(files.read(out).array, HU)
        assert "PixelPaddingValue" not in slices_of(out)[0]

    def test_what_describes_the_old_pixels_goes(self, tmp_path):
        scan = write_scan(tmp_path / "scan", SmallestImagePixelValue=0, LargestImagePixelValue=4095)
        after = slices_of(files.write(files.read(scan), tmp_path / "out", scan))
        assert not any("SmallestImagePixelValue" in item or "LargestImagePixelValue" in item for item in after)

    def test_descriptions_fit(self, tmp_path):
        scan = write_scan(tmp_path / "scan", SeriesDescription="x" * 60, DerivationDescription="averaged")
        out = files.write(files.read(scan), tmp_path / "out", scan, description="modèle\\a")
        first = slices_of(out)[0]
        assert first.SeriesDescription == "mod?le/a: " + "x" * 54
        assert first.DerivationDescription.startswith("averaged; mod?le/a (IPv2Lib")

    def test_refuses_another_grid(self, scan, tmp_path):
        volume = files.read(scan)
        for other in (
            volume.with_array(volume.array[:2]),
            Volume(volume.array, volume.spacing, (0, 0, 0)),
            Volume(volume.array[::-1], volume.spacing, volume.origin, (1, 0, 0, 0, 1, 0, 0, 0, -1)),
        ):
            with pytest.raises(InputError, match=r'not on the grid .* "Chest 2\.5 B50f"'):
                files.write(other, tmp_path / "out", scan)
        assert [path.name for path in tmp_path.iterdir()] == ["scan"]

    def test_refuses_nan(self, scan, tmp_path):
        with pytest.raises(InputError, match="NaN"):
            files.write(files.read(scan).with_array(np.where(HU > 0, HU, np.nan)), tmp_path / "out", scan)
        assert [path.name for path in tmp_path.iterdir()] == ["scan"]

    def test_never_mixes_with_other_files(self, scan, tmp_path):
        volume = files.read(scan)
        names = sorted(path.name for path in scan.iterdir())
        with pytest.raises(OutputError, match="is not empty"):
            files.write(volume, scan, scan)
        assert sorted(path.name for path in scan.iterdir()) == names
        (tmp_path / "empty").mkdir()
        files.write(volume, tmp_path / "empty", scan)
        assert len(list((tmp_path / "empty").iterdir())) == len(HU)
        assert {path.name for path in tmp_path.iterdir()} == {"scan", "empty"}


class TestDerivedByTheStandard:
    """What the new series says of itself, and what it must not say of the old pixels any more."""

    def derived(self, tmp_path, edit=lambda dataset: None, write=None, **elements) -> tuple[Dataset, Dataset]:
        """A slice of a series that `edit` has changed, and of what is derived from it."""
        scan = write_scan(tmp_path / "scan", **elements)
        for path in scan.iterdir():
            dataset = pydicom.dcmread(path)
            edit(dataset)
            dataset.save_as(path)
        out = files.write(files.read(scan), tmp_path / "out", scan, **{"description": "IPv2 fast"} | (write or {}))
        return slices_of(scan)[1], slices_of(out)[1]

    def test_says_how_it_was_made(self, tmp_path):
        old, new = self.derived(tmp_path)
        (code,) = new.DerivationCodeSequence
        assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == ("113087", "DCM", "Smoothing")
        (purpose,) = new.SourceImageSequence[0].PurposeOfReferenceCodeSequence
        assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("121322", "DCM")
        (equipment,) = new.ContributingEquipmentSequence
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109103"
        assert (equipment.Manufacturer, equipment.SoftwareVersions) == ("IPv2", __version__)
        assert new.SeriesNumber == 301
        assert new.InstanceNumber == old.InstanceNumber

    def test_noise_that_was_added_is_no_smoothing(self, tmp_path):
        _, new = self.derived(tmp_path, write={"derivation": "Pixel by pixel addition"})
        assert new.DerivationCodeSequence[0].CodeValue == "113042"

    def test_keeps_its_place_in_the_study(self, tmp_path):
        identity = {
            "PatientName": "Müller^Anna",
            "AccessionNumber": "A77",
            "StudyID": "5",
            "StudyDate": "20200102",
            "AcquisitionDate": "20200102",
            "PatientBirthDate": "19600102",
        }
        old, new = self.derived(tmp_path, **identity)
        for keyword in (*identity, "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient"):
            assert new[keyword] == old[keyword], keyword

    @pytest.mark.parametrize("zone", ["-0500", "+0930", None])
    def test_times_are_of_the_derivation_in_the_zone_of_the_study(self, tmp_path, zone):
        before = datetime.now(timezone.utc).replace(microsecond=0)
        times = {
            f"{name}{part}": "20200101" if part == "Date" else "120000" for name in TIMES for part in ("Date", "Time")
        }
        _, new = self.derived(tmp_path, **times | ({"TimezoneOffsetFromUTC": zone} if zone else {}))
        for name in TIMES:
            text = f"{new[name + 'Date'].value}{new[name + 'Time'].value}"
            local = datetime.strptime(text, "%Y%m%d%H%M%S")
            made = datetime.strptime(text + zone, "%Y%m%d%H%M%S%z") if zone else local.astimezone()
            assert before <= made <= datetime.now(timezone.utc), name

    @pytest.mark.parametrize(
        ("image_type", "wanted"),
        [
            ("ORIGINAL", ["DERIVED", "SECONDARY", "AXIAL"]),
            (["ORIGINAL", "PRIMARY"], ["DERIVED", "SECONDARY", "AXIAL"]),
            (["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"], ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]),
            ("", ["DERIVED", "SECONDARY", "AXIAL"]),
            (None, ["DERIVED", "SECONDARY", "AXIAL"]),
        ],
    )
    def test_image_type(self, tmp_path, image_type, wanted):
        assert self.derived(tmp_path, ImageType=image_type)[1].ImageType == wanted

    @pytest.mark.parametrize(("number", "wanted"), [(7, 701), (None, 1), ("", 1), (99999999, 1), (0, 1)])
    def test_series_number(self, tmp_path, number, wanted):
        assert self.derived(tmp_path, SeriesNumber=number)[1].SeriesNumber == wanted

    def test_what_describes_or_signs_the_old_pixels_goes(self, tmp_path):
        def edit(dataset):
            for keyword in (
                "SmallestImagePixelValue",
                "LargestImagePixelValue",
                "SmallestPixelValueInSeries",
                "LargestPixelValueInSeries",
            ):
                dataset.add_new(pydicom.datadict.tag_for_keyword(keyword), "US", 5)
            for keyword in (
                "IconImageSequence",
                "DigitalSignaturesSequence",
                "MACParametersSequence",
                "HistogramSequence",
            ):
                setattr(dataset, keyword, [item(MACIDNumber=1)])
            dataset.InstanceCreatorUID = "1.2.9"
            dataset.add_new(0x50000010, "US", 7)  # a curve
            for group in (0x6000, 0x6002):
                dataset.add_new(group << 16 | 0x0010, "US", 16)
                dataset.add_new(group << 16 | 0x0011, "US", 20)
                dataset.add_new(group << 16 | 0x0040, "CS", "R")
                dataset.add_new(group << 16 | 0x0050, "SS", [1, 1])
                dataset.add_new(group << 16 | 0x0100, "US", 16 if group == 0x6000 else 1)
                dataset.add_new(group << 16 | 0x0102, "US", 14 if group == 0x6000 else 0)
                dataset.add_new(group << 16 | 0x1302, "DS", "40.5")  # the mean under the overlay
            dataset.add_new(0x60023000, "OW", bytes(40))
            dataset.preamble = b"II*\0" + bytes(124)

        old, new = self.derived(tmp_path, edit)
        lost = set(old.keys()) - set(new.keys())
        assert {pydicom.datadict.keyword_for_tag(tag) for tag in lost if tag.group < 0x5000} == {
            "SmallestImagePixelValue",
            "LargestImagePixelValue",
            "SmallestPixelValueInSeries",
            "LargestPixelValueInSeries",
            "IconImageSequence",
            "MACParametersSequence",
            "HistogramSequence",
            "InstanceCreatorUID",
        }
        assert 0xFFFAFFFA in lost and 0x50000010 in lost and 0x60000010 in lost and 0x60021302 in lost
        assert 0x60023000 in new
        assert new.preamble == bytes(128)
        assert new.file_meta.ImplementationClassUID == pydicom.uid.PYDICOM_IMPLEMENTATION_UID

    def test_stays_lossy(self, tmp_path):
        (path,) = [Path(name) for name in pydicom.data.get_testdata_files("JPEGLSNearLossless_16.dcm")]
        codestream = pydicom.dcmread(path)
        scan = write_scan(tmp_path / "scan", keep=[0])
        dataset = pydicom.dcmread(scan / "IM3.4")
        for keyword in ("Rows", "Columns", "BitsStored", "HighBit", "PixelData", "PixelRepresentation"):
            dataset[keyword] = codestream[keyword]
        dataset.file_meta.TransferSyntaxUID = codestream.file_meta.TransferSyntaxUID
        dataset.save_as(scan / "IM3.4")
        volume = files.read(scan)
        (new,) = slices_of(files.write(volume, tmp_path / "out", scan))
        assert new.LossyImageCompression == "01"
        np.testing.assert_array_equal(files.read(tmp_path / "out").array, volume.array)

    def test_keeps_what_was_said_of_lossy_compression(self, tmp_path):
        said = {
            "LossyImageCompression": "01",
            "LossyImageCompressionRatio": 7,
            "LossyImageCompressionMethod": "ISO_10918_1",
        }
        old, new = self.derived(tmp_path, **said)
        assert all(new[keyword] == old[keyword] for keyword in said)

    @pytest.mark.parametrize(
        ("charset", "name"),
        [
            ("ISO_IR 192", "Wang^XiaoDong=王^小東"),
            (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
            ("ISO_IR 144", "Люкceмбypг"),
        ],
    )
    def test_character_sets(self, tmp_path, charset, name):
        old, new = self.derived(tmp_path, SpecificCharacterSet=charset, PatientName=name)
        assert new.SpecificCharacterSet == old.SpecificCharacterSet
        assert new.PatientName == old.PatientName == name

    @pytest.mark.parametrize("description", ["x" * 2000, "a\\b", "modèle 模型", "two\nlines\t", ""])
    def test_descriptions(self, tmp_path, description):
        _, new = self.derived(tmp_path, write={"description": description})
        assert isinstance(new.SeriesDescription, str)
        assert len(new.SeriesDescription) <= 64
        assert len(new.DerivationDescription) <= 1024
        assert new.SeriesDescription.isprintable()

    @pytest.mark.parametrize("elements", [{}, {"RescaleSlope": 0.5, "BitsStored": 16, "HighBit": 15}])
    def test_a_lookup_of_window_values_stays(self, tmp_path, elements):
        lut = item(LUTDescriptor=[4, 0, 8], LUTData=bytes(8))
        assert "VOILUTSequence" in self.derived(tmp_path, VOILUTSequence=[lut], **elements)[1]

    def test_elements_that_cannot_be_written_are_left_out_by_name(self, tmp_path):
        scan = write_scan(tmp_path / "scan", syntax=ExplicitVRBigEndian)
        for path in scan.iterdir():
            content = path.read_bytes()
            assert content.count(b"\0\x18\x12\x10SH") == 1
            path.write_bytes(content.replace(b"\0\x18\x12\x10SH", b"\0\x18\x12\x10S\xff"))
        with pytest.warns(InputNote, match=r"damaged elements .*\(0018,1210\)"):
            out = files.write(files.read(scan), tmp_path / "out", scan)
        np.testing.assert_array_equal(files.read(out).array, HU)


class TestPadding:
    def scan(self, tmp_path, value: int, **elements) -> Path:
        hu = np.clip(HU, -1000, None).astype(float)
        hu[:, :3, :3] = value + float(elements.get("RescaleIntercept", -1024))
        return write_scan(tmp_path / "scan", hu, PixelPaddingValue=value, BitsStored=16, HighBit=15, **elements)

    @pytest.mark.parametrize(
        ("value", "elements"), [(63536, {}), (0, {}), (-2000, {"PixelRepresentation": 1}), (1500, {})]
    )
    def test_is_written_as_it_was(self, tmp_path, value, elements):
        scan = self.scan(tmp_path, value, **elements)
        volume = files.read(scan)
        denoised = volume.array.copy()
        denoised[:, 3:, 3:] = 7
        out = files.write(volume.with_array(denoised), tmp_path / "out", scan)
        for dataset in slices_of(out):
            assert dataset.PixelPaddingValue == value
            assert (dataset.pixel_array[:3, :3] == value).all()
            assert (dataset.pixel_array[3:, 3:] == 7 + 1024).all()
        np.testing.assert_array_equal(files.read(out).array, denoised)

    def test_as_other_programs_read_it(self, tmp_path):
        """Slicer takes padding for HU."""
        scan = self.scan(tmp_path, 63536)
        volume = files.read(scan)
        theirs = volume.array.astype(np.float32)
        theirs[:, :3, :3] = 63536 - 1024
        out = files.write(volume.with_array(theirs), tmp_path / "out", scan)
        assert (slices_of(out)[0].pixel_array[:3, :3] == 63536).all()

    def test_of_a_series_that_gets_another_rescale(self, tmp_path):
        scan = self.scan(tmp_path, 63536, RescaleSlope=1)
        for path in scan.iterdir():
            dataset = pydicom.dcmread(path)
            dataset.RescaleIntercept = -1024.5
            dataset.save_as(path)
        volume = files.read(scan)
        theirs = volume.array.copy()
        theirs[:, :3, :3] = 63536 - 1024.5
        for array in (volume.array, theirs):
            again = files.read(files.write(volume.with_array(array), tmp_path / str(array is theirs), scan)).array
            assert (again[:, :3, :3] == -1024).all()

    def test_no_measured_pixel_becomes_padding(self, tmp_path):
        scan = self.scan(tmp_path, 65535)
        volume = files.read(scan)
        out = files.write(volume.with_array(np.full(HU.shape, 70000.0)), tmp_path / "out", scan)
        assert slices_of(out)[0].pixel_array.max() == 65534


class TestEnhanced:
    """Enhanced in, enhanced out."""

    @pytest.mark.parametrize("rescale", [None, lambda index: (1, -1024 - index), lambda index: (0.5, -1024)])
    def test_round_trip(self, tmp_path, rescale):
        elements = {"BitsStored": 16, "HighBit": 15}
        scan = write_enhanced(tmp_path / "scan" / "1", order=[2, 0, 3, 1], rescale=rescale, **elements).parent
        volume = files.read(scan)
        result = volume.with_array(volume.array[:, ::-1] // 2)
        out = files.write(result, tmp_path / "out", scan, description="IPv2 fast")
        again = files.read(out)
        np.testing.assert_array_equal(again.array, result.array)
        assert same_grid(again, volume)
        old, new = pydicom.dcmread(scan / "1"), pydicom.dcmread(out / "0001.dcm")
        assert new.SOPClassUID == old.SOPClassUID
        assert new.NumberOfFrames == 4
        assert new.PatientName == old.PatientName
        assert new.ImageType == ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
        shared = new.SharedFunctionalGroupsSequence[0]
        assert shared.CTImageFrameTypeSequence[0].FrameType == new.ImageType
        (derivation,) = shared.DerivationImageSequence
        assert derivation.DerivationCodeSequence[0].CodeValue == "113087"
        assert derivation.SourceImageSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID
        groups = old.PerFrameFunctionalGroupsSequence, new.PerFrameFunctionalGroupsSequence
        for before, after, index in zip(*groups, [2, 0, 3, 1], strict=True):
            assert after.PlanePositionSequence == before.PlanePositionSequence
            slope, intercept = 1, -1024
            if rescale is not None:
                transformation = after.PixelValueTransformationSequence[0]
                slope, intercept = transformation.RescaleSlope, transformation.RescaleIntercept
            frame = new.pixel_array[list(groups[1]).index(after)] * float(slope) + float(intercept)
            np.testing.assert_array_equal(frame, result.array[index])


class TestRealFiles:
    """Every CT of pydicom's own test set: its pixels as pydicom sees them, and back again."""

    @pytest.mark.parametrize("name", sorted(REAL_CT))
    def test_round_trip(self, tmp_path, name):
        path = TEST_FILES / name
        dataset = pydicom.dcmread(path)
        volume = files.read([path])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is unusual in them
            stored = dataset.pixel_array
        hu = stored * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        np.testing.assert_array_equal(volume.array[0], hu)
        out = files.write(volume, tmp_path / "out", [path])
        again = files.read(out)
        np.testing.assert_array_equal(again.array, volume.array)
        assert same_grid(again, volume)
        (new,) = slices_of(out)
        assert (new.PatientID, new.StudyInstanceUID) == (dataset.PatientID, dataset.StudyInstanceUID)
        assert_no_new_faults(path, out / "0001.dcm")

    def test_a_series(self, tmp_path):
        folder = TEST_FILES / "dicomdirtests" / "98892001" / "CT5N"
        volume = files.read(folder)
        assert volume.array.shape == (5, 16, 16)
        out = files.write(volume, tmp_path / "out", folder)
        np.testing.assert_array_equal(files.read(out).array, volume.array)
        first = min(out.iterdir())
        source = pydicom.dcmread(first).SourceImageSequence[0].ReferencedSOPInstanceUID
        (original,) = [path for path in folder.iterdir() if pydicom.dcmread(path).SOPInstanceUID == source]
        assert_no_new_faults(original, first)

    @pytest.mark.parametrize("name", ["MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"])
    def test_compressed_pixels(self, tmp_path, name):
        """The codestreams of MR images, in a CT."""
        compressed, plain = (pydicom.dcmread(TEST_FILES / f"{each}.dcm") for each in (name, "MR_small"))
        dataset = header(**place(0, 1))
        for keyword in (
            "Rows",
            "Columns",
            "BitsAllocated",
            "BitsStored",
            "HighBit",
            "PixelRepresentation",
            "PixelData",
        ):
            dataset[keyword] = compressed[keyword]
        dataset.file_meta = compressed.file_meta
        dataset.save_as(tmp_path / "1.dcm")
        np.testing.assert_array_equal(files.read([tmp_path / "1.dcm"]).array[0], plain.pixel_array.astype(int) - 1024)


class TestConformance:
    """An independent validator finds nothing in the result that it did not find in the source."""

    @pytest.mark.parametrize(
        "elements",
        [
            {},
            {"PhotometricInterpretation": "MONOCHROME1"},
            {"ImageType": "ORIGINAL"},
            {"RescaleSlope": 0.5, "BitsStored": 16, "HighBit": 15},
            {"PixelPaddingValue": 0, "SmallestImagePixelValue": 0, "LossyImageCompression": "00"},
        ],
    )
    def test_derived(self, tmp_path, elements):
        scan = write_scan(tmp_path / "scan", **elements)
        out = files.write(files.read(scan), tmp_path / "out", scan, description="IPv2 fast")
        assert_no_new_faults(scan / "IM3.4", out / "0001.dcm")

    @pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"])
    @pytest.mark.parametrize("slope", [1, 0.5])
    def test_enhanced(self, tmp_path, sop_class, slope):
        elements = {"SOPClassUID": sop_class, "BitsStored": 16, "HighBit": 15}
        path = write_enhanced(tmp_path / "scan" / "1", rescale=lambda index: (slope, -1024), **elements)
        out = files.write(files.read(path), tmp_path / "out", path)
        assert_no_new_faults(path, out / "0001.dcm")

    def test_new(self, tmp_path):
        out = files.write(Volume(HU, SPACING, ORIGIN), tmp_path / "out", description="phantom")
        assert faults_of(out / "0001.dcm") == set()


class TestNewSeries:
    def test_a_template_that_is_not_dicom_has_nothing_to_give(self, tmp_path):
        source = files.write(Volume(HU), tmp_path / "a.nrrd")
        np.testing.assert_array_equal(files.read(files.write(Volume(HU), tmp_path / "out", source)).array, HU)
        with pytest.raises(InputError, match="missing holds no DICOM image"):
            files.write(Volume(HU), tmp_path / "out2", tmp_path / "missing")

    @settings(max_examples=15, deadline=None)
    @given(
        st.integers(1, 3),
        st.tuples(*[st.floats(0.1, 10)] * 3),
        st.tuples(*[st.floats(-2000, 2000)] * 3),
        st.sampled_from([(1, 0, 0, 0, 1, 0, 0, 0, 1), (0.6, 0, 0.8, 0.8, 0, -0.6, 0, 1, 0)]),
    )
    def test_round_trip(self, tmp_path_factory, slices, spacing, origin, direction):
        volume = Volume(HU[:slices], spacing, origin, direction)
        again = files.read(files.write(volume, tmp_path_factory.mktemp("new") / "out"))
        assert again.array.dtype == np.int16
        np.testing.assert_array_equal(again.array, volume.array)
        np.testing.assert_allclose(again.affine, volume.affine, rtol=0, atol=1e-6)

    def test_axes_that_run_backwards_are_turned(self, tmp_path):
        volume = Volume(HU, SPACING, ORIGIN, (1, 0, 0, 0, 1, 0, 0, 0, -1))
        again = files.read(files.write(volume, tmp_path / "out"))
        np.testing.assert_array_equal(again.array, HU[::-1])
        assert again.origin == pytest.approx((*ORIGIN[:2], ORIGIN[2] - 3 * SPACING[2]))

    def test_holds_what_a_ct_image_must_have(self, tmp_path):
        first = slices_of(files.write(Volume(HU), tmp_path / "out", description="phantom"))[0]
        for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "SliceThickness", "RescaleType"):
            assert first[keyword].value, keyword
        for keyword in ("PatientBirthDate", "StudyID", "AccessionNumber", "KVP", "AcquisitionNumber"):
            assert keyword in first
        assert first.SeriesDescription == "phantom"
        assert first.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]

    def test_refuses_axes_that_are_not_orthogonal(self, tmp_path):
        with pytest.raises(InputError, match="not orthogonal"):
            files.write(Volume(HU, direction=(1, 0.5, 0, 0, 1, 0, 0, 0, 1)), tmp_path / "out")
        assert not list(tmp_path.iterdir())


def faults_of(path: Path) -> set[str]:
    """Errors and warnings of dicom3tools' dciodvfy."""
    tool = shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    done = subprocess.run([tool, str(path)], capture_output=True, text=True, errors="replace", check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return {line for line in lines if "Error" in line or "Warning" in line}


def assert_no_new_faults(source: Path, result: Path) -> None:
    assert faults_of(result) - faults_of(source) == set()
