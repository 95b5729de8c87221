"""Compressed pixels that do not fit together never reach a decoder, and sound ones always do."""

import random

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_samples import HU, write_enhanced, write_scan
from IPv2Lib.errors import InputError
from IPv2Lib.io import dicom_codestream, files
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

SYNTAXES = {"RLE": RLELossless, "JPEG": JPEGLosslessSV1, "JPEG2000": JPEG2000Lossless, "JPEG-LS": JPEGLSLossless}


def frame(kind: str, folder) -> tuple[bytes, int, int]:
    """A sound codestream of 16 bits, its rows and columns."""
    if kind == "JPEG-LS":
        path = get_testdata_file("MR_small_jpeg_ls_lossless.dcm", download=False)
        if path is None:
            pytest.skip("pydicom came without its files")
    elif kind == "RLE":
        path = write_scan(folder / "scan", keep=[0], syntax=RLELossless) / "IM3.4"
    else:
        path = folder / "a.dcm"
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(path))
        writer.UseCompressionOn()
        writer.SetCompressor(kind)
        writer.Execute(sitk.GetImageFromArray(HU[:1]))
    dataset = pydicom.dcmread(path)
    return next(generate_frames(dataset.PixelData, number_of_frames=1)), dataset.Rows, dataset.Columns


@pytest.fixture(params=list(SYNTAXES))
def sound(request, tmp_path):
    return (*frame(request.param, tmp_path), SYNTAXES[request.param])


def test_sound_ones_pass(sound):
    code, rows, columns, syntax = sound
    dicom_codestream.check(code, syntax, rows, columns, 2)
    dicom_codestream.check(code + b"\0", syntax, rows, columns, 2)


@pytest.mark.parametrize(("more_rows", "more_columns"), [(1, 0), (-1, 0), (0, 1), (-3, 2)])
def test_an_image_of_another_size(sound, more_rows, more_columns):
    code, rows, columns, syntax = sound
    with pytest.raises(ValueError, match="pixel data"):
        dicom_codestream.check(code, syntax, rows + more_rows, columns + more_columns, 2)


def test_cut_anywhere(sound):
    code, rows, columns, syntax = sound
    for end in {*range(0, len(code.rstrip(b"\0")), 37), len(code.rstrip(b"\0")) - 2}:
        with pytest.raises(ValueError, match="pixel data"):
            dicom_codestream.check(code[:end], syntax, rows, columns, 2)


def test_more_than_the_image(sound):
    code, rows, columns, syntax = sound
    with pytest.raises(ValueError, match="pixel data"):
        dicom_codestream.check(code + bytes([1, 2, 3, 4]), syntax, rows, columns, 2)


def test_any_damage_passes_or_is_a_value_error(sound):
    code, rows, columns, syntax = sound
    for number in range(500):
        dice = random.Random(number)
        damaged = bytearray(code)
        for _ in range(dice.choice((1, 3, 20))):
            damaged[dice.randrange(len(damaged) if dice.random() < 0.5 else 80)] = dice.randrange(256)
        try:
            dicom_codestream.check(bytes(damaged), syntax, rows, columns, 2)
        except ValueError as error:
            assert "pixel data" in str(error)


@pytest.mark.parametrize(
    "name",
    ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPEG2000.dcm", "JPEG-lossy.dcm",
     "JPGExtended.dcm", "693_J2KI.dcm", "JPEGLSNearLossless_16.dcm", "J2K_pixelrep_mismatch.dcm", "JPEG-LL.dcm"],
)  # fmt: skip
def test_files_of_other_programs_pass(name):
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip("pydicom came without its files")
    dataset = pydicom.dcmread(path)
    for code in generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames", 1))):
        dicom_codestream.check(
            code, dataset.file_meta.TransferSyntaxUID, dataset.Rows, dataset.Columns, dataset.BitsAllocated // 8
        )


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", RLELossless])
@pytest.mark.parametrize("count", [1, 2, 40])
def test_bytes_put_into_the_pixels_or_lost(tmp_path, enhanced, syntax, count):
    if enhanced:
        path = write_enhanced(tmp_path / "scan" / "a.dcm")
        if syntax == RLELossless:
            dataset = pydicom.dcmread(path)
            dataset.compress(RLELossless, generate_instance_uid=False)
            dataset.save_as(path)
    else:
        path = write_scan(tmp_path / "scan", keep=[0], syntax=syntax) / "IM3.4"
    np.testing.assert_array_equal(files.read(path).array, HU if enhanced else HU[:1])
    content = path.read_bytes()
    for place in (len(content) - 20, len(content) - 300):
        for damaged in (
            content[:place] + bytes(range(1, count + 1)) + content[place:], content[:place] + content[place + count :]
        ):  # fmt: skip
            path.write_bytes(damaged)
            with pytest.raises(InputError, match=r"a\.dcm|IM3\.4"):
                files.read(path)


@pytest.mark.parametrize("tail", [b"\0", b"\xfc\xff\xfc\xffOB\0\0\4\0\0\0\0\0\0\0"])
def test_padding_of_a_file_is_no_damage(tmp_path, tail):
    path = write_scan(tmp_path / "scan", keep=[0]) / "IM3.4"
    path.write_bytes(path.read_bytes() + tail)
    np.testing.assert_array_equal(files.read(path).array, HU[:1])
