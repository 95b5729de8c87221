"""Slices of a DICOM series: none goes without a word, none lies elsewhere, and every damaged header is one line."""

import io
import os
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_samples import (
    HU,
    ORIGIN,
    SPACING,
    header,
    item,
    notes_of,
    place,
    save,
    slices_of,
    write_enhanced,
    write_scan,
)
from IPv2Lib.errors import InputError, InputNote
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume, same_grid
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)


@pytest.fixture
def scan(tmp_path) -> Path:
    return write_scan(tmp_path / "scan")


@pytest.mark.filterwarnings("ignore::IPv2Lib.errors.InputNote")
class TestFiles:
    """What lies in the folder: no slice goes without a word."""

    @pytest.mark.parametrize("index", [0, 3])
    @pytest.mark.parametrize("damage", ["empty", "zeros", "text", "header", "pixels", "link", "no preamble, cut"])
    def test_first_or_last_slice_damaged(self, scan, index, damage):
        path = scan / f"IM{(index * 7 + 3) % 10}.4"
        content = path.read_bytes()
        path.unlink()
        if damage == "link":
            path.symlink_to(scan / "missing")
        else:
            path.write_bytes(
                {
                    "empty": b"",
                    "zeros": bytes(len(content)),
                    "text": b"<html>404 not found</html>",
                    "header": content[:300],
                    "pixels": content[:-100],
                    "no preamble, cut": content[132:400],
                }[damage]
            )
        with pytest.raises(InputError, match=path.name) as caught:
            files.read(scan)
        assert "\n" not in str(caught.value)
        with pytest.raises(InputError, match=path.name):
            files.read(scan / "IM0.4")

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
    def test_no_permission(self, scan):
        (scan / "IM4.4").chmod(0)
        with pytest.raises(InputError, match=r"cannot read .*IM4\.4: Permission denied"):
            files.read(scan)

    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
    @pytest.mark.parametrize("meta", [True, False])
    def test_without_preamble(self, tmp_path, syntax, meta):
        folder = write_scan(tmp_path / "scan", syntax=syntax)
        for path in folder.iterdir():
            content = path.read_bytes()
            start = 132 if meta else 144 + int.from_bytes(content[140:144], "little")
            path.write_bytes(content[start:])
        np.testing.assert_array_equal(files.read(folder).array, HU)
        np.testing.assert_array_equal(files.read(folder / "IM0.4").array, HU)

    def test_names_what_it_leaves_out(self, scan):
        (scan / "empty").write_bytes(b"")
        (scan / "blob").write_bytes(bytes(range(256)))
        scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesDescription": "Scout"}
        write_scan(scan, HU[:1], SeriesInstanceUID="1.2.3.5", **scout)
        capture = {"SOPClassUID": SecondaryCaptureImageStorage, "ImagePositionPatient": None}
        write_scan(scan, HU[:1], SOPInstanceUID="1.2.3.6.1", SeriesInstanceUID="1.2.3.6", **capture)
        (note,) = notes_of(scan)
        assert note.startswith('4 files were left out of series "Chest 2.5 B50f"')
        for text in ("IM3.5 (a localizer (scout))", "IM3.6 (a screen capture)", "blob (not DICOM)", "empty (empty)"):
            assert text in note
        np.testing.assert_array_equal(files.read(scan).array, HU)

    def test_localizer_of_the_same_series(self, scan):
        (scan / "IM3.4").rename(scan / "first")
        write_scan(scan, keep=[0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImagePositionPatient=[0, 0, 7])
        np.testing.assert_array_equal(files.read(scan).array, HU)
        assert "IM3.4 (a localizer (scout))" in notes_of(scan)[0]
        with pytest.raises(InputError, match=r"is a localizer \(scout\) \(IM3\.4\)"):
            files.read(scan / "IM3.4")

    def test_localizer_alone(self, tmp_path):
        folder = write_scan(tmp_path / "scan", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER", "CT_SOM5 TOP"])
        with pytest.raises(InputError, match=r"series .* is a localizer \(scout\)"):
            files.read(folder)

    def test_a_list_of_files_is_one_series(self, scan, tmp_path):
        other = tmp_path / "other: 4.0 ü"
        other.mkdir()
        (scan / "IM0.4").rename(other / "IM0.4")
        write_scan(scan, HU[:1], SeriesInstanceUID="1.2.3.5")
        slices = [*(scan / f"IM{number}.4" for number in (3, 7, 4)), other / "IM0.4"]
        np.testing.assert_array_equal(files.read(slices).array, HU)
        np.testing.assert_array_equal(files.read([str(file) for file in [*slices, slices[0]]]).array, HU)
        with pytest.raises(InputError, match="holds 2 series"):
            files.read([*slices, scan / "IM3.5"])
        (scan / "text.txt").write_text("text")
        with pytest.raises(InputError, match=r"text\.txt is no DICOM file"):
            files.read([*slices, scan / "text.txt"])
        for name in ("gone", "gone.dcm", "gone.txt", "gone.nrrd", ".gone", "README"):
            with pytest.raises(InputError, match=rf"cannot read .*{name}"):
                files.read([*slices, scan / name])

    def test_a_damaged_file_of_something_else_does_not_matter_to_a_chosen_file(self, scan):
        (scan / "other.dcm").write_bytes(bytes(128) + b"DICM" + bytes(40))
        np.testing.assert_array_equal(files.read(scan / "IM3.4").array, HU)
        assert "other.dcm (damaged)" in notes_of(scan / "IM3.4")[0]
        with pytest.raises(InputError, match=r"other\.dcm is a damaged DICOM file"):
            files.read(scan)

    @pytest.mark.parametrize("damage", ["cut", "SOP class", "SOP class and cut", "series"])
    def test_a_damaged_last_file_is_taken_for_nothing_else(self, scan, damage):
        path = scan / "IM4.4"
        content = path.read_bytes()
        if damage == "series":
            content = content.replace(b"1.2.3.4\0", b"\0\0\0003.4\0")
        if "SOP class" in damage:
            content = content.replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1" + bytes(5))
        if damage != "series":
            content = content[: content.index(b"Chest 2.5")] if "cut" in damage else content[:200] + content[360:]
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"IM4\.4"):
            files.read(scan)

    @pytest.mark.parametrize("uid", ["1.2.840.113619.4.30", "1.3.12.2.1107.5.9.1", "1.2.840.10008.5.1.4.1.1.481.3"])
    def test_what_is_no_image_is_left_out(self, scan, uid):
        dataset = pydicom.dcmread(scan / "IM3.4")
        del dataset.PixelData, dataset.Rows
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = uid
        dataset.save_as(scan / "IM9.9")
        np.testing.assert_array_equal(files.read(scan).array, HU)

    def test_a_slice_of_another_series_by_its_uid_alone(self, scan):
        """As where one UID is damaged, or a program gave each file one: nothing else tells the series apart."""
        dataset = pydicom.dcmread(scan / "IM4.4")
        dataset.SeriesInstanceUID = "1.2.3.44"
        dataset.save_as(scan / "IM4.4")
        with pytest.raises(InputError, match="holds 2 series"):
            files.read(scan)
        (note,) = notes_of(scan / "IM7.4")
        assert "IM4.4 (of another series by its UID alone)" in note
        write_scan(scan, HU[:2], SeriesInstanceUID="1.2.3.5", SeriesDescription="Lung", SeriesNumber=4)
        assert "IM3.5" not in notes_of(scan / "IM7.4")[0]


class TestPlaces:
    def at(self, folder: Path, positions) -> Path:
        hu = np.resize(HU, (len(positions), *HU.shape[1:]))
        folder.mkdir()
        for index, z in enumerate(positions):
            dataset = header(**(place(index, len(hu)) | {"ImagePositionPatient": [*ORIGIN[:2], float(z)]}))
            save(dataset, folder / f"{index:03d}.dcm", hu[index])
        return folder

    def test_rounded_positions(self, tmp_path):
        z = np.round(np.arange(60) * 0.625, 1)
        assert files.read(self.at(tmp_path / "scan", z)).spacing[2] == pytest.approx(0.625, abs=0.01)

    @pytest.mark.parametrize("drift", [0.1, 0.05, -0.1])
    def test_drift(self, tmp_path, drift):
        z = np.cumsum(np.linspace(2.5, 2.5 * (1 + drift), 60))
        with pytest.raises(InputError, match=r"is uneven: .* mm from where even steps .* \(0\.1 mm are allowed\)"):
            files.read(self.at(tmp_path / "scan", z))

    def test_one_slice_out_of_place(self, tmp_path):
        z = np.arange(20) * 2.5
        z[9] += 0.2
        with pytest.raises(InputError, match=r"009\.dcm at 22\.70 mm is 0\.20 mm from"):
            files.read(self.at(tmp_path / "scan", z))

    def test_spacing_of_a_single_slice(self, tmp_path):
        for number, (between, wanted) in enumerate(((0, 3), (2, 2), (None, 3), ("", 3))):
            folder = write_scan(tmp_path / str(number), keep=[0], SpacingBetweenSlices=between)
            assert files.read(folder).spacing[2] == wanted

    def test_notes_contradictions(self, tmp_path):
        folder = write_scan(tmp_path / "lost", SpacingBetweenSlices=1.25)
        assert "SpacingBetweenSlices says 1.25 mm" in notes_of(folder)[0]
        folder = write_scan(tmp_path / "moved", SliceLocation=lambda index: [0, 2.5, 7.5, 5][index])
        assert "SliceLocation contradicts ImagePositionPatient" in notes_of(folder)[0]
        folder = write_scan(tmp_path / "fine", SpacingBetweenSlices=2.5, SliceLocation=lambda index: 100 - 2.5 * index)
        assert notes_of(folder) == []


class TestHeaders:
    """Damaged and multi-valued values are one line, which names the file and the value."""

    @pytest.mark.parametrize(
        ("keyword", "vr", "value"),
        [
            ("PixelSpacing", "DS", b"0,75\\0,75 "),
            ("PixelSpacing", "DS", b"0.75\\"),
            ("PixelSpacing", "DS", b"0.75"),
            ("ImagePositionPatient", "DS", b"0\\0\\1e999 "),
            ("ImageOrientationPatient", "DS", b"1\\0\\0\\0\\1"),
            ("SpacingBetweenSlices", "DS", b"2.5\\2.5 "),
            ("SliceLocation", "DS", b"abc "),
            ("SeriesInstanceUID", "UI", b"1.2\\1.3\0"),
            ("NumberOfFrames", "IS", b"1\\1 "),
            ("NumberOfFrames", "IS", b"x "),
            ("RescaleSlope", "DS", b"1\\1 "),
            ("RescaleIntercept", "DS", b"-1024,0 "),
            ("Rows", "US", b"\x10\0\x10\0"),
            ("BitsStored", "US", b"\x0c"),
            ("PixelPaddingValue", "US", b"\0\0\0\0"),
        ],
    )
    def test_refused(self, tmp_path, keyword, vr, value):
        path = write_scan(tmp_path / "scan", keep=[0, 1]) / "IM3.4"
        replace_value(path, keyword, vr, value)
        with pytest.raises(InputError, match=r"IM3\.4") as caught:
            files.read(tmp_path / "scan")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("keyword", "vr", "value"),
        [
            ("RescaleIntercept", "LO", b" -1.024E3 "),
            ("RescaleIntercept", "UN", b"-1024 "),
            ("RescaleSlope", "SH", b"+1"),
            ("PixelSpacing", "UN", b"0.8\\0.7 "),
            ("SamplesPerPixel", "UN", b"\x01\0"),
            ("SpacingBetweenSlices", "DS", b""),
            ("StudyDescription", "UN", b"\xff\xfe"),
            ("PatientAge", "DS", b"old "),
        ],
    )
    def test_odd_but_clear(self, tmp_path, keyword, vr, value):
        path = write_scan(tmp_path / "scan", keep=[0]) / "IM3.4"
        replace_value(path, keyword, vr, value)
        volume = files.read(path)
        np.testing.assert_array_equal(volume.array[0], HU[0])
        assert volume.spacing == pytest.approx((0.7, 0.8, 3))
        np.testing.assert_array_equal(files.read(files.write(volume, tmp_path / "out", path)).array[0], HU[0])

    def test_group_lengths_and_private_sequences_do_not_matter(self, tmp_path):
        path = write_scan(tmp_path / "scan", keep=[0]) / "IM3.4"
        dataset = pydicom.dcmread(path)
        block = dataset.private_block(0x0019, "SCANNER 2.0", create=True)
        block.add_new(0x10, "SQ", [item(PixelSpacing=[9, 9], RescaleSlope=7, Rows=3)])
        block.add_new(0x11, "UN", bytes(range(256)))
        dataset.save_as(path)
        content = path.read_bytes()
        wrong = b"\x18\0\0\0UL\x04\0\xff\xff\xff\x7f"  # (0018,0000)
        at = content.index(b"\x18\0\x50\0DS")
        path.write_bytes(content[:at] + wrong + content[at:])
        volume = files.read(path)
        np.testing.assert_array_equal(volume.array[0], HU[0])
        (new,) = slices_of(files.write(volume, tmp_path / "out", path))
        assert new[0x00191010].value == dataset[0x00191010].value

    def test_text_may_have_any_character(self, tmp_path, scan):
        for path in scan.iterdir():
            replace_value(path, "SeriesDescription", "LO", 'a\\b "x"\n\x1b/: '.encode("latin-1"))
        np.testing.assert_array_equal(files.read(scan).array, HU)
        write_scan(scan, HU[:1], SeriesInstanceUID="1.2.3.5")
        with pytest.raises(InputError, match="holds 2 series") as caught:
            files.read(scan)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "keyword", ["SOPClassUID", "SOPInstanceUID", "SeriesDescription", "PhotometricInterpretation"]
    )
    def test_what_is_not_needed_may_lack(self, tmp_path, keyword):
        folder = write_scan(tmp_path / "scan", **{keyword: None})
        np.testing.assert_array_equal(files.read(folder).array, HU)
        np.testing.assert_array_equal(
            files.read(files.write(Volume(HU, SPACING, ORIGIN), tmp_path / "out", folder)).array, HU
        )

    def test_any_bit_may_flip(self, tmp_path):
        """A sample of the fuzz test: what is read is a volume, all else is one line."""
        path = write_scan(tmp_path / "scan", keep=[0], PixelPaddingValue=0) / "IM3.4"
        content = path.read_bytes()
        random = np.random.default_rng(5)
        for _ in range(150):
            damaged = bytearray(content)
            damaged[random.integers(128, 1000)] ^= 1 << random.integers(8)
            path.write_bytes(damaged[: random.choice([len(content), random.integers(len(content))])])
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    warnings.simplefilter("ignore", InputNote)
                    files.read([path])
            except InputError as error:
                assert "\n" not in str(error)


def replace_value(path: Path, keyword: str, vr: str, value: bytes) -> None:
    """Put bytes into a file that pydicom would not write."""
    dataset = pydicom.dcmread(path)
    tag = pydicom.datadict.tag_for_keyword(keyword)
    if keyword in dataset:
        del dataset[keyword]
    marker = b"ipv2-marker-0000"
    dataset.add_new(tag, "OB", marker)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    old = b"OB\0\0" + len(marker).to_bytes(4, "little") + marker
    assert buffer.getvalue().count(old) == 1
    length = b"\0\0" + len(value).to_bytes(4, "little") if vr == "UN" else len(value).to_bytes(2, "little")
    path.write_bytes(buffer.getvalue().replace(old, vr.encode() + length + value))


class TestEnhanced:
    """Multi-frame CT: each frame has its place and its rescale."""

    @pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"])
    @pytest.mark.parametrize("rescale", [None, lambda index: (1, -1024 - index), lambda index: (0.5, -1024)])
    def test_read(self, tmp_path, sop_class, rescale):
        path = write_enhanced(
            tmp_path / "scan" / "1",
            order=[2, 0, 3, 1],
            rescale=rescale,
            SOPClassUID=sop_class,
            BitsStored=16,
            HighBit=15,
        )
        volume = files.read(path.parent)
        np.testing.assert_array_equal(volume.array, HU)
        assert volume.spacing == pytest.approx(SPACING)
        assert volume.origin == pytest.approx(ORIGIN)
        assert same_grid(volume, files.read(path))

    def test_compressed(self, tmp_path):
        path = write_enhanced(tmp_path / "scan" / "1")
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
        np.testing.assert_array_equal(files.read(path).array, HU)

    def test_in_parts(self, tmp_path):
        """A concatenation: one series whose frames are in two files."""
        for number, order in enumerate(([3, 2], [0, 1]), start=1):
            concatenation = {"ConcatenationUID": "1.2.8", "InConcatenationNumber": number}
            write_enhanced(tmp_path / "scan" / str(number), order=order, **concatenation)
        volume = files.read(tmp_path / "scan")
        np.testing.assert_array_equal(volume.array, HU)
        out = files.write(volume.with_array(HU // 2), tmp_path / "out", tmp_path / "scan")
        np.testing.assert_array_equal(files.read(out).array, HU // 2)
        assert "ConcatenationUID" not in pydicom.dcmread(out / "0001.dcm")

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (lambda d: setattr(d, "NumberOfFrames", 3), "NumberOfFrames 3, but 4 frames"),
            (lambda d: frame(d, 2, "FrameContentSequence", StackID="2"), "2 stacks"),
            (lambda d: frame(d, 2, "FrameContentSequence", TemporalPositionIndex=2), "2 points in time"),
            (lambda d: frame(d, 2, "PlanePositionSequence", ImagePositionPatient=[0, 0, 0]), "frame 3"),
            (lambda d: d.PerFrameFunctionalGroupsSequence[1].__delattr__("PlanePositionSequence"), "frame 2"),
            (lambda d: d.__delattr__("SharedFunctionalGroupsSequence"), "no usable PixelSpacing"),
            (lambda d: setattr(d, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]), "localizer"),
        ],
    )
    def test_refused(self, tmp_path, edit, message):
        path = write_enhanced(tmp_path / "scan" / "1", edit=edit)
        with pytest.raises(InputError, match=message):
            files.read(path)


def frame(dataset: Dataset, index: int, sequence: str, **elements) -> None:
    for keyword, value in elements.items():
        setattr(dataset.PerFrameFunctionalGroupsSequence[index][sequence].value[0], keyword, value)


@pytest.mark.parametrize("keyword", ["PatientID", "StudyInstanceUID", "FrameOfReferenceUID"])
def test_slices_of_two_patients_are_no_series(tmp_path, keyword):
    values = {"PatientID": ("A", "B")}.get(keyword, ("1.2.3.4", "1.2.3.5"))
    folder = write_scan(tmp_path / "scan", **{keyword: lambda index: values[index == 1]})
    with pytest.raises(InputError, match=f"different {keyword}"):
        files.read(folder)
