"""DICOM series that are read: what is one, and what its pixels mean."""

import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_samples import (
    HU,
    ORIGIN,
    SPACING,
    header,
    item,
    notes_of,
    place,
    slices_of,
    store,
    write_scan,
)
from IPv2Lib.analysis import regions
from IPv2Lib.errors import InputError
from IPv2Lib.io import dicom, dicom_file, files
from IPv2Lib.io.volume import Volume, check_ct
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)


@pytest.fixture
def scan(tmp_path) -> Path:
    return write_scan(tmp_path / "scan")


class TestRead:
    def check(self, volume: Volume, hu=HU):
        np.testing.assert_array_equal(volume.array, hu)
        assert volume.spacing == pytest.approx(SPACING)
        assert volume.origin == pytest.approx(ORIGIN)
        assert volume.direction == (1, 0, 0, 0, 1, 0, 0, 0, 1)

    def test_series(self, scan, capfd):
        volume = files.read(scan)
        check_ct(volume)
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
            {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31, "PixelRepresentation": 1},
        ],
    )
    def test_pixel_representations(self, tmp_path, elements):
        volume = files.read(write_scan(tmp_path / "scan", **elements))
        assert volume.array.dtype == np.int16
        self.check(volume)

    @pytest.mark.parametrize("first", [0.5, 1])
    def test_fractional_rescale_is_float32(self, tmp_path, first):
        """Also where only some slices have it."""
        slope = {"RescaleSlope": lambda index: first if index == 0 else 0.5}
        volume = files.read(write_scan(tmp_path / "scan", BitsStored=16, HighBit=15, **slope))
        assert volume.array.dtype == np.float32
        self.check(volume)

    @pytest.mark.parametrize(
        "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, DeflatedExplicitVRLittleEndian]
    )
    def test_transfer_syntaxes(self, tmp_path, syntax):
        self.check(files.read(write_scan(tmp_path / "scan", syntax=syntax)))

    def test_without_rescale_values_below_0_are_hu(self, tmp_path):
        elements = {"PixelRepresentation": 1, "RescaleSlope": None, "RescaleIntercept": None}
        with pytest.raises(InputError, match=r"Chest 2\.5 B50f.* no rescale slope .* no value below 0"):
            files.read(write_scan(tmp_path / "positive", abs(HU), **elements))
        self.check(files.read(write_scan(tmp_path / "scan", **elements)))

    def test_single_slice(self, tmp_path):
        volume = files.read(write_scan(tmp_path / "scan", keep=[2]))
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
        volume = files.read(folder)
        np.testing.assert_array_equal(volume.array, HU)
        np.testing.assert_allclose(np.reshape(volume.direction, (3, 3)), np.stack([row, column, normal], axis=1))

    def test_other_files_do_not_matter(self, scan):
        (scan / "notes.txt").write_text("text")
        (scan / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
        report = Dataset()
        report.file_meta = FileMetaDataset()
        report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        report.SOPClassUID, report.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.11", "1.2"
        report.SeriesInstanceUID, report.Modality = "1.2.3.77", "SR"
        report.save_as(scan / "report.dcm", enforce_file_format=True)
        (scan / "._IM3.4").write_bytes(b"\0\5\x16\7")  # as macOS leaves them
        (scan / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
        (scan / "report.pdf").write_bytes(b"%PDF-1.4")
        (scan / "picture").write_bytes(b"\x89PNG\r\n\x1a\n")
        self.check(files.read(scan))
        assert notes_of(scan) == []

    def test_one_file_stands_for_its_series(self, scan):
        write_scan(scan, HU - 0, SeriesInstanceUID="1.2.3.5", RescaleIntercept=-1024)
        write_scan(scan, (HU + 1)[:2], SeriesInstanceUID="1.2.3.6")
        self.check(files.read(scan / "IM3.4"))
        np.testing.assert_array_equal(files.read(scan / "IM0.6").array, (HU + 1)[:2])


class TestRefuse:
    """Every message names the series."""

    def refused(self, path: Path, message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            files.read(path)
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
            files.read(scan)
        assert capfd.readouterr().err == ""

    def test_no_image(self, tmp_path):
        (tmp_path / "series").mkdir()
        (tmp_path / "notes").write_text("text")
        with pytest.raises(InputError, match=r"holds no DICOM image: .*\(subfolders are not searched\)"):
            files.read(tmp_path)


class TestPixels:
    """HU by the standard's own words, checked against pydicom and SimpleITK."""

    def test_photometric_interpretation_says_how_to_display(self, tmp_path):
        volume = files.read(write_scan(tmp_path / "scan", PhotometricInterpretation="MONOCHROME1"))
        np.testing.assert_array_equal(volume.array, HU)

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless])
    @pytest.mark.parametrize(
        "elements",
        [
            {"RescaleIntercept": lambda index: -1024 - index},
            {"RescaleSlope": -1, "RescaleIntercept": 1500},
            {"PixelRepresentation": 1, "RescaleIntercept": 0},
        ],
    )
    def test_as_other_readers_see_it(self, tmp_path, syntax, elements):
        folder = write_scan(tmp_path / "scan", syntax=syntax, **elements)
        volume = files.read(folder)
        theirs = [d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in slices_of(folder)]
        np.testing.assert_array_equal(volume.array, theirs)
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(names)
        image = reader.Execute()
        assert image.GetSpacing() == pytest.approx(volume.spacing)
        assert image.GetOrigin() == pytest.approx(volume.origin)
        assert image.GetDirection() == pytest.approx(volume.direction)
        if not callable(elements["RescaleIntercept"]):  # SimpleITK takes the first slice's for all
            np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume.array)

    def test_refuses_slices_with_and_without_rescale(self, tmp_path):
        write_scan(tmp_path / "scan", keep=[0, 1, 2])
        elements = {"PixelRepresentation": 1, "RescaleSlope": None, "RescaleIntercept": None}
        write_scan(tmp_path / "scan", keep=[3], **elements)
        with pytest.raises(InputError, match=r"mixes slices with and without rescale .* IM4\.4 has none"):
            files.read(tmp_path / "scan")

    @pytest.mark.parametrize(
        ("tool", "option", "syntax"),
        [
            ("dcmcjpeg", "+el", "1.2.840.10008.1.2.4.57"),
            ("dcmcjpeg", "+e1", "1.2.840.10008.1.2.4.70"),
            ("dcmcjpls", "+el", "1.2.840.10008.1.2.4.80"),
            ("dcmcrle", "+un", "1.2.840.10008.1.2.5"),
        ],
    )
    @pytest.mark.parametrize(
        "elements", [{}, {"PixelRepresentation": 1, "RescaleIntercept": 0, "BitsStored": 16, "HighBit": 15}]
    )
    def test_compressed_by_another_program(self, tmp_path, tool, option, syntax, elements):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} (DCMTK) is not installed")
        folder = write_scan(tmp_path / "scan", **elements)
        for path in folder.iterdir():
            subprocess.run([tool, option, path, path], check=True)
        assert all(dataset.file_meta.TransferSyntaxUID == syntax for dataset in slices_of(folder))
        volume = files.read(folder)
        np.testing.assert_array_equal(volume.array, HU)
        np.testing.assert_array_equal(files.read(files.write(volume, tmp_path / "out", folder)).array, HU)
        path = folder / "IM0.4"
        path.write_bytes(path.read_bytes()[:-4])
        with pytest.raises(InputError, match=r"IM0\.4 .*cut short"):
            files.read(folder)

    @pytest.mark.parametrize("signed", [0, 1])
    def test_bits_above_the_stored_ones_may_be_anything_there_is_a_word_for(self, tmp_path, signed):
        """Negative values fill them, embedded overlays use them; else the file contradicts itself."""
        elements = {"PixelRepresentation": signed, "RescaleIntercept": 0 if signed else -1024}
        stored = (HU[0] - elements["RescaleIntercept"]).astype(np.int64)
        for name, words in (("filled", stored), ("empty", stored & 0xFFF)):
            folder = tmp_path / name
            folder.mkdir()
            store(header(**place(0, 1), **elements), folder / "1", words.astype(np.uint16).view(np.int16))
            np.testing.assert_array_equal(files.read(folder).array[0], HU[0])
        overlaid = header(**place(0, 1), **elements)
        store(overlaid, folder / "1", ((stored & 0xFFF) | 0x4000).astype(np.uint16).view(np.int16))
        with pytest.raises(InputError, match=r"stored value of .* does not fit into its BitsStored 12"):
            files.read(folder)
        overlaid.add_new(0x60000010, "US", 16)
        overlaid.add_new(0x60000102, "US", 14)  # in bit 14 of the pixels
        overlaid.save_as(folder / "1")
        np.testing.assert_array_equal(files.read(folder).array[0], HU[0])

    @pytest.mark.parametrize(
        ("elements", "message"),
        [
            ({"BitsStored": 17}, "BitsStored 17"),
            ({"BitsAllocated": 12}, "BitsAllocated 12"),
            ({"PixelRepresentation": 7}, "PixelRepresentation 7"),
            ({"HighBit": 15}, "BitsStored 12 with HighBit 15"),
            ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
            ({"RescaleType": "Z_EFF"}, "holds no HU but Z_EFF"),
            ({"ModalityLUTSequence": [item(LUTExplanation="curved")]}, "modality LUT"),
            ({"RescaleSlope": 0}, "0 as RescaleSlope"),
            ({"RescaleSlope": ""}, "an empty RescaleSlope"),
            ({"RescaleIntercept": ""}, "an empty RescaleIntercept"),
        ],
    )
    def test_refuses_pixels_that_mean_nothing(self, tmp_path, elements, message):
        folder = tmp_path / "scan"
        folder.mkdir()
        dataset = header(**place(0, 1))
        store(dataset, folder / "1", HU[0] + 1024)
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        dataset.save_as(folder / "1")
        with pytest.raises(InputError, match=message):
            files.read(folder)

    @pytest.mark.parametrize(
        ("keyword", "value"), [("Rows", 8), ("Rows", 15), ("Rows", 17), ("Columns", 21), ("BitsAllocated", 8)]
    )
    def test_refuses_a_size_that_the_pixels_have_not(self, tmp_path, keyword, value):
        path = write_scan(tmp_path / "scan", keep=[0]) / "IM3.4"
        dataset = pydicom.dcmread(path)
        setattr(dataset, keyword, value)
        if keyword == "BitsAllocated":
            dataset.BitsStored, dataset.HighBit = 8, 7
        dataset.save_as(path)
        with pytest.raises(InputError, match=r"IM3\.4 .*640 bytes of pixel data where"):
            files.read(path)

    def test_refuses_a_transfer_syntax_that_is_not_the_pixels(self, tmp_path):
        path = write_scan(tmp_path / "scan", keep=[0]) / "IM3.4"
        content = path.read_bytes()
        path.write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"))
        with pytest.raises(InputError, match="contradicts itself: its pixel data is not compressed"):
            files.read(path)
        write_scan(tmp_path / "scan", keep=[0], syntax=RLELossless)
        content = path.read_bytes()
        path.write_bytes(content.replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0"))
        with pytest.raises(InputError, match=r"IM3\.4"):
            files.read(path)

    def test_refuses_a_deflate_bomb(self, tmp_path, monkeypatch):
        monkeypatch.setattr(dicom_file, "_MOST_INFLATED_BYTES", 1 << 20)
        path = write_scan(tmp_path / "scan", keep=[0], syntax=DeflatedExplicitVRLittleEndian) / "IM3.4"
        np.testing.assert_array_equal(dicom.read_series(path)[0].array[0], HU[0])
        content = path.read_bytes()
        start = 144 + int.from_bytes(content[140:144], "little")
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        path.write_bytes(content[:start] + packer.compress(bytes(1 << 25)) + packer.flush())
        with pytest.raises(InputError, match="inflates to more than 1 MiB"):
            dicom.read_series(path)


class TestPadding:
    """Outside the field of view nothing was measured."""

    def padded(self, tmp_path, value: int, limit=None, stored=None, **elements) -> tuple[Path, np.ndarray]:
        rows, columns = np.mgrid[:64, :64] - 31.5
        outside = rows**2 + columns**2 > 31**2
        stored = np.where(outside, value if stored is None else stored, 1024)  # water
        stored[30, 30] = 1024 - 1000
        folder = tmp_path / "scan"
        folder.mkdir()
        padding = {"PixelPaddingValue": value} | ({} if limit is None else {"PixelPaddingRangeLimit": limit})
        dataset = header(**(place(0, 1) | {"BitsStored": 16, "HighBit": 15} | padding | elements))
        store(dataset, folder / "1", stored)
        return folder, outside

    @pytest.mark.parametrize(
        ("value", "elements", "hu"),
        [
            (63536, {}, -1024),  # 62512 by the rescale
            (0, {}, -1024),
            (1024 + 40, {}, -1024),  # as soft tissue has it
            (-2000, {"PixelRepresentation": 1}, -3024),
            (63536, {"PixelRepresentation": 1, "PixelPaddingValue": 63536}, -3024),
            (4095, {"BitsStored": 12, "HighBit": 11}, -1024),
            (63536, {"BitsStored": 12, "HighBit": 11}, -1024),  # more bits than are stored
            (63536, {"PhotometricInterpretation": "MONOCHROME1"}, -1024),
        ],
    )
    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    def test_is_outside_the_field_of_view(self, tmp_path, value, elements, hu, syntax):
        bits = value - 65536 if elements.get("PixelRepresentation") and value > 32767 else value
        if elements.get("PixelPaddingValue"):  # a signed element would not take it
            elements = elements | {"PixelPaddingValue": bits}
        folder, outside = self.padded(tmp_path, bits, **elements)
        dataset = pydicom.dcmread(folder / "1")
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(folder / "1", implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
        volume = files.read(folder)
        assert volume.array.dtype == np.int16
        assert (volume.array[0][outside] == hu).all()
        assert sorted(np.unique(volume.array[0][~outside])) == [-1000, 0]
        np.testing.assert_array_equal(regions.outside_field_of_view(volume.array)[0], outside)

    def test_may_be_a_range(self, tmp_path):
        stored = np.where(np.arange(64) % 2, 60000, 60500)[None]
        folder, outside = self.padded(tmp_path, 60000, limit=61000, stored=stored)
        array = files.read(folder).array[0]
        assert (array[outside] == -1024).all()
        assert array[~outside].max() == 0

    def test_leaves_anatomy_that_has_the_same_value(self, tmp_path):
        """Against the standard, some files name 0 although water is 0."""
        folder, outside = self.padded(tmp_path, 1024)
        dataset = pydicom.dcmread(folder / "1")
        stored = np.where(outside, 1024, 24)
        stored[28:36, 28:36] = 1024
        store(dataset, folder / "1", stored)
        array = files.read(folder).array[0]
        assert (array[28:36, 28:36] == 0).all()
        assert (array[outside] == -1024).all()
