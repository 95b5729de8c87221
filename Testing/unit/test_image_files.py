"""NRRD, NIfTI and MetaImage files: read as independent implementations read them, or refused."""

import bz2
import gzip
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from IPv2Lib.errors import InputError
from IPv2Lib.io import files, formats
from IPv2Lib.io.volume import Volume

nibabel = pytest.importorskip("nibabel")
nrrd = pytest.importorskip("nrrd")

HU = np.random.default_rng(0).integers(-1000, 1000, (3, 5, 4)).astype(np.int16)
RAW = HU.tobytes()
DIRECTION = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
SCAN = Volume(HU, (0.75, 0.5, 2.5), (-10.5, 20.25, 30.125), DIRECTION)


def refused(path: Path, words: str, **options) -> None:
    with pytest.raises(InputError, match=words) as caught:
        files.read(path, **options)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def assert_is(volume: Volume, array: np.ndarray, affine: np.ndarray, tolerance: float = 1e-5) -> None:
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, affine, rtol=0, atol=tolerance)


# --- NRRD -----------------------------------------------------------------------------------------------------------

LPS = {
    "type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "4 5 3",
    "space directions": "(0.6,0.45,0) (-0.3,0.4,0) (0,0,2.5)", "kinds": "domain domain domain", "endian": "little",
    "encoding": "raw", "space origin": "(-10.5,20.25,30.125)",
}  # fmt: skip


def write_nrrd(path: Path, data: bytes | None = RAW, **changes: str | None) -> Path:
    fields = LPS | {key.replace("_", " "): value for key, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    path.write_bytes(("\n".join(["NRRD0005", *lines]) + "\n\n").encode() + (data or b""))
    return path


class TestNrrd:
    @pytest.mark.parametrize(
        ("encoding", "data"),
        [
            ("raw", RAW),
            ("gzip", gzip.compress(RAW)),
            ("gz", gzip.compress(RAW[:50]) + gzip.compress(RAW[50:])),
            ("bzip2", bz2.compress(RAW)),
            ("ascii", " ".join(map(str, HU.ravel())).encode() + b"\n"),
            ("text", ", ".join(map(str, HU.ravel())).encode()),
            ("hex", RAW.hex().encode()),
        ],
    )
    @pytest.mark.parametrize("detached", [False, True])
    def test_encodings(self, tmp_path, encoding, data, detached):
        if detached:
            (tmp_path / "a b.data").write_bytes(data)
            path = write_nrrd(tmp_path / "a.nhdr", None, encoding=encoding, data_file="a b.data")
        else:
            path = write_nrrd(tmp_path / "a.nrrd", data, encoding=encoding)
        assert_is(files.read(path), HU, SCAN.affine)

    @pytest.mark.parametrize("code", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
    @pytest.mark.parametrize("endian", ["little", "big"])
    def test_types_as_pynrrd_has_them(self, tmp_path, code, endian):
        values = np.arange(60).reshape(3, 5, 4).astype((">" if endian == "big" else "<") + code)
        nrrd.write(str(tmp_path / "a.nrrd"), values, {"endian": endian}, index_order="C")
        theirs, _ = nrrd.read(str(tmp_path / "a.nrrd"), index_order="C")
        np.testing.assert_array_equal(files.read(tmp_path / "a.nrrd").array, theirs)

    def test_an_unsigned_number_of_64_bits(self, tmp_path):
        values = np.array([0, 1, 2**63, 2**64 - 1], np.uint64).reshape(1, 2, 2)
        path = write_nrrd(
            tmp_path / "a.nrrd",
            values.tobytes(),
            type="uint64",
            sizes="2 2 1",
            space_directions="(1,0,0) (0,1,0) (0,0,1)",
        )
        np.testing.assert_array_equal(files.read(path).array, values.astype(np.float32))

    @pytest.mark.parametrize(
        ("space", "signs"),
        [
            ("left-posterior-superior", (1, 1, 1)),
            ("LPS", (1, 1, 1)),
            ("right-anterior-superior", (-1, -1, 1)),
            ("RAS", (-1, -1, 1)),
            ("left-anterior-superior", (1, -1, 1)),
            ("LAS", (1, -1, 1)),
        ],
    )
    def test_spaces(self, tmp_path, space, signs):
        path = write_nrrd(tmp_path / "a.nrrd", space=space)
        expected = np.diag([*signs, 1.0]) @ SCAN.affine
        assert_is(files.read(path), HU, expected)
        image = sitk.ReadImage(str(path))
        np.testing.assert_allclose(image.GetOrigin(), expected[:3, 3])

    @pytest.mark.parametrize("space", ["scanner-xyz", "3D-left-handed", "3D-right-handed", "somewhere"])
    def test_a_space_that_says_nothing_of_the_patient(self, tmp_path, space):
        refused(write_nrrd(tmp_path / "a.nrrd", space=space), "left-posterior-superior")

    @pytest.mark.parametrize(("unit", "mm"), [("mm", 1), ("cm", 10), ("um", 1e-3), ("µm", 1e-3), ("m", 1e3), ("", 1)])
    def test_units(self, tmp_path, unit, mm):
        path = write_nrrd(tmp_path / "a.nrrd", space_units=" ".join([f'"{unit}"'] * 3))
        assert_is(files.read(path), HU, np.diag([mm, mm, mm, 1]) @ SCAN.affine, 1e-3)

    def test_spacings_and_axis_mins(self, tmp_path):
        """Voxels are cells unless they are said to be nodes: the first centre lies half a step in."""
        changes = {"space": None, "space_directions": None, "space_origin": None, "axis_mins": "-4 1 0"}
        changes["spacings"] = "0.5 0.75 2"
        volume = files.read(write_nrrd(tmp_path / "a.nrrd", **changes))
        assert volume.spacing == (0.5, 0.75, 2) and volume.origin == (-3.75, 1.375, 1)
        volume = files.read(write_nrrd(tmp_path / "a.nrrd", centerings="node node cell", **changes))
        assert volume.origin == (-4, 1, 1)
        image = sitk.ReadImage(str(write_nrrd(tmp_path / "a.nrrd", **changes)))
        assert image.GetOrigin() == (-3.75, 1.375, 1)

    @pytest.mark.parametrize(
        "changes",
        [
            {"line_skip": "2", "data": b"one\ntwo\n" + RAW},
            {"byte_skip": "7", "data": b"7 bytes" + RAW},
            {"byte_skip": "-1", "data": b"any" + RAW},
            {"line_skip": "1", "byte_skip": "2", "data": b"one\nab" + RAW},
            {"line_skip": "1", "byte_skip": "2", "encoding": "gzip", "data": b"one\n" + gzip.compress(b"ab" + RAW)},
        ],
    )
    def test_skips(self, tmp_path, changes):
        data = changes.pop("data")
        (tmp_path / "a.raw").write_bytes(data)
        try:
            np.testing.assert_array_equal(
                files.read(write_nrrd(tmp_path / "a.nhdr", None, data_file="a.raw", **changes)).array, HU
            )
        finally:
            changes["data"] = data

    @pytest.mark.parametrize(
        "named", ["LIST\ns1.raw\ns2.raw\ns3.raw", "s%d.raw 1 3 1", "LIST 2\ns1.raw\ns2.raw\ns3.raw"]
    )
    def test_several_data_files(self, tmp_path, named):
        for index in range(3):
            (tmp_path / f"s{index + 1}.raw").write_bytes(HU[index].tobytes())
        path = write_nrrd(tmp_path / "a.nhdr", None, data_file=named.format("s1.raw\ns2.raw\ns3.raw"))
        assert_is(files.read(path), HU, SCAN.affine)
        (tmp_path / "s2.raw").write_bytes(HU[1].tobytes()[:-2])
        refused(path, r"s2\.raw")
        (tmp_path / "s2.raw").unlink()
        refused(path, r"s2\.raw.*No such file")

    def test_one_value_per_voxel_on_an_axis_of_its_own(self, tmp_path):
        changes = {"dimension": "4", "sizes": "1 4 5 3", "kinds": "vector domain domain domain"}
        changes["space_directions"] = f"none {LPS['space directions']}"
        assert_is(files.read(write_nrrd(tmp_path / "a.nrrd", **changes)), HU, SCAN.affine)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"kinds": "RGB-color domain domain"}, "colour"),
            ({"kinds": "3-vector domain domain"}, "colour"),
            ({"kinds": "domain domain time"}, "sequence"),
            ({"kinds": "list domain domain"}, "sequence of 4 images"),
            ({"sizes": "4 5"}, "sizes"),
            ({"sizes": "4 5 -3"}, "above 0"),
            ({"sizes": "4 5 0"}, "above 0"),
            ({"sizes": "4 5 2"}, "more data than the 80 bytes"),
            ({"sizes": "4 5 4"}, "cut short"),
            ({"sizes": "4294967296 4294967296 4294967296"}, "are the limit"),
            ({"sizes": "4.0 5 3"}, "whole numbers"),
            ({"dimension": "-3"}, "dimension"),
            ({"dimension": "99999999999"}, "dimension"),
            ({"type": "block"}, "no type of numbers"),
            ({"type": None}, "no 'type'"),
            ({"endian": None}, "endian"),
            ({"endian": "middle"}, "endian"),
            ({"encoding": "zrl"}, "encoding"),
            ({"old_min": "-1024", "old_max": "3071"}, "quantized"),
            ({"spacings": "1 1 1"}, "both"),
            ({"space_directions": "(1,0,0) (0,nan,0) (0,0,1)"}, "space directions"),
            ({"space_directions": "(1e308,0,0) (0,1,0) (0,0,1)"}, "not of a CT"),
            ({"space_directions": "(1,0,0) (1,1,0) (0,0,1)"}, "sheared"),
            ({"space_directions": "(1,0,0) (0,1,0)"}, "3 vectors"),
            ({"space_directions": "(1,0,0) (0,1,0) none"}, "no direction"),
            ({"space_origin": "(0,0)"}, "space origin"),
            ({"space_origin": "(inf,0,0)"}, "space origin"),
            ({"space_units": '"parsec" "mm" "mm"'}, "space units"),
            ({"number": "61"}, "number"),
            ({"sizes_": "4 5 3"}, "does not know"),
            ({"data_file": "/dev/zero"}, "no file"),
            ({"data_file": "missing.raw"}, "missing.raw.*No such file"),
            ({"data_file": "%999999999d 1 1 1"}, "pattern"),
            ({"data_file": "s%d.raw 1 999999999 1"}, "counted"),
            ({"byte_skip": "-2"}, "byte skip"),
            ({"space_origin": "(1_0,0,0)"}, "space origin"),
            ({"space_directions": "(1,0,0) (0,١,0) (0,0,1)"}, "space directions"),
            ({"space_units": '"mm" mm "mm'}, "space units"),
            ({"data_file": "s%d.raw 1 4 1 3"}, "4 data files"),
        ],
    )
    def test_refuses(self, tmp_path, changes, words):
        refused(write_nrrd(tmp_path / "a.nrrd", **changes), words)

    def test_the_same_image_makes_the_same_file(self, tmp_path):
        images = [files.write(SCAN, tmp_path / name) for name in ("a.nrrd", "b.nrrd", "a.nii.gz", "b.nii.gz")]
        assert images[0].read_bytes() == images[1].read_bytes() and images[2].read_bytes() == images[3].read_bytes()

    @pytest.mark.parametrize("type_", ["SHORT", "signed  short  int", "int16_t"])
    def test_names_of_types(self, tmp_path, type_):
        assert_is(files.read(write_nrrd(tmp_path / "a.nrrd", type=type_)), HU, SCAN.affine)

    def test_repeated_field(self, tmp_path):
        path = write_nrrd(tmp_path / "a.nrrd")
        path.write_bytes(path.read_bytes().replace(b"sizes:", b"sizes: 4 5 3\nsizes:"))
        refused(path, "'sizes' twice")

    def test_comments_and_keys_do_not_matter(self, tmp_path):
        path = write_nrrd(tmp_path / "a.nrrd", measurement_frame="(1,0,0) (0,1,0) (0,0,1)", content="a: b", min="0")
        path.write_bytes(
            path.read_bytes().replace(b"sizes:", b"# comment\nkey:=value: x\nsizes:").replace(b"\n\n", b"\n\n", 1)
        )
        assert_is(files.read(path), HU, SCAN.affine)

    def test_lines_as_windows_ends_them(self, tmp_path):
        path = write_nrrd(tmp_path / "a.nrrd")
        header, _, data = path.read_bytes().partition(b"\n\n")
        path.write_bytes(header.replace(b"\n", b"\r\n") + b"\r\n\r\n" + data)
        assert_is(files.read(path), HU, SCAN.affine)

    @pytest.mark.parametrize("name", ["a.seq.nrrd", "a.seq.nhdr", "A.SEQ.MHA"])
    def test_a_sequence_of_slicer(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"NRRD0004\n")
        refused(tmp_path / name, "sequence")


# --- NIfTI ----------------------------------------------------------------------------------------------------------

RAS = np.diag([-1, -1, 1, 1]) @ SCAN.affine


def write_nifti(path: Path, array: np.ndarray = HU, kind=nibabel.Nifti1Image, edit=None, qform=RAS, sform=RAS) -> Path:
    image = kind(array.transpose(range(array.ndim)[::-1]), None)
    image.header.set_zooms(np.linalg.norm(RAS[:3, :3], axis=0)[: array.ndim])
    image.set_qform(qform, 1 if qform is not None else 0)
    image.set_sform(sform, 1 if sform is not None else 0)
    if edit:
        edit(image.header)
    nibabel.save(image, path)
    return path


def patched(path: Path, place: int, form: str, *values) -> Path:
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, place, *values)
    path.write_bytes(data)
    return path


class TestNifti:
    @pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    def test_both_versions(self, tmp_path, kind, name):
        assert_is(files.read(write_nifti(tmp_path / name, kind=kind)), HU, SCAN.affine)

    @pytest.mark.parametrize("code", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
    @pytest.mark.parametrize("order", "<>")
    def test_types_as_nibabel_has_them(self, tmp_path, code, order):
        array = np.arange(60).reshape(3, 5, 4).astype(code)
        header = nibabel.Nifti1Header(endianness=order)
        header.set_data_dtype(code)
        nibabel.save(nibabel.Nifti1Image(array.T, RAS, header), tmp_path / "a.nii")
        np.testing.assert_array_equal(
            files.read(tmp_path / "a.nii").array,
            nibabel.load(tmp_path / "a.nii").get_fdata().transpose().astype(np.float32),
        )

    @pytest.mark.parametrize(
        ("slope", "intercept", "expected"),
        [
            (1, -1024, HU.astype(int) - 1024),
            (2, 10, HU.astype(int) * 2 + 10),
            (0.5, 0.25, HU * np.float32(0.5) + np.float32(0.25)),
            (0, -1024, HU),  # slope 0: no rescale at all, says the standard
            (-1, 0, -HU.astype(int)),
            (np.nan, np.nan, HU),
        ],
    )
    def test_rescale(self, tmp_path, slope, intercept, expected):
        path = patched(write_nifti(tmp_path / "a.nii"), 112, "<2f", slope, intercept)
        np.testing.assert_array_equal(files.read(path).array, expected)
        np.testing.assert_allclose(nibabel.load(path).get_fdata().transpose(), expected, atol=1e-3)

    def test_names_do_not_say_whether_it_is_compressed(self, tmp_path):
        plain, packed = write_nifti(tmp_path / "a.nii"), write_nifti(tmp_path / "b.nii.gz")
        plain.rename(tmp_path / "c.nii.gz")
        packed.rename(tmp_path / "d.nii")
        for name in ("c.nii.gz", "d.nii"):
            assert_is(files.read(tmp_path / name), HU, SCAN.affine)

    @pytest.mark.parametrize("shift", [0.05, 37.0])
    def test_two_places(self, tmp_path, shift):
        moved = RAS.copy()
        moved[2, 3] += shift
        path = write_nifti(tmp_path / "a.nii", sform=moved)
        in_lps = np.diag([-1, -1, 1, 1]) @ moved
        if shift < 1:
            assert_is(files.read(path), HU, in_lps)
            return
        refused(path, r"sform and qform contradict each other by 37 mm.*67\.125.*30\.125.*--prefer")
        assert_is(files.read(path, prefer="qform"), HU, SCAN.affine)
        assert_is(files.read(path, prefer="sform"), HU, in_lps)

    def test_two_places_that_meet_in_the_first_voxel(self, tmp_path):
        turned = RAS.copy()
        turned[:3, :3] = turned[:3, :3] @ np.diag([1, 1, -1])
        refused(write_nifti(tmp_path / "a.nii", sform=turned), "sform and qform contradict each other by 10 mm")

    def test_a_tilted_gantry(self, tmp_path):
        sheared = RAS.copy()
        sheared[:3, 2] += [0, 0.8, 0]
        path = write_nifti(tmp_path / "a.nii", sform=sheared)
        refused(path, "sform.*sheared by|sform.*sheared, by")
        refused(path, "sheared", prefer="sform")
        assert_is(files.read(path, prefer="qform"), HU, SCAN.affine)
        refused(write_nifti(tmp_path / "b.nii", sform=sheared, qform=None), "sheared")

    def test_voxel_sizes_against_the_sform(self, tmp_path):
        path = patched(write_nifti(tmp_path / "a.nii", qform=None), 80, "<3f", 0.75, 0.5, 5.0)
        refused(path, "sform and pixdim contradict each other by 5 mm.*--prefer")
        assert_is(files.read(path, prefer="sform"), HU, SCAN.affine)
        refused(path, "contradict", prefer="qform")  # there is none

    @pytest.mark.parametrize("size", [0.0, -0.5, np.nan, np.inf])
    def test_voxels_without_size(self, tmp_path, size):
        path = patched(write_nifti(tmp_path / "a.nii"), 84, "<f", size)
        refused(path, "pixdim.*--prefer sform")
        assert_is(files.read(path, prefer="sform"), HU, SCAN.affine)
        refused(path, "pixdim", prefer="qform")

    def test_only_one_of_them(self, tmp_path):
        assert_is(files.read(write_nifti(tmp_path / "a.nii", sform=None)), HU, SCAN.affine)
        assert_is(files.read(write_nifti(tmp_path / "a.nii", qform=None)), HU, SCAN.affine)

    def test_none_of_them(self, tmp_path):
        path = patched(write_nifti(tmp_path / "a.nii", qform=None, sform=None), 80, "<3f", 0.75, 0.5, 2.5)
        for prefer in (None, "qform", "sform"):
            refused(path, "nothing says how it lies in the patient", prefer=prefer)

    @pytest.mark.parametrize("handed", [1, -1])
    @pytest.mark.parametrize("turn", [(0, 0, np.pi), (np.pi, 0, 0), (0, np.pi, 0.01), (0.3, -2.0, 1.5)])
    def test_any_rotation_as_nibabel_has_it(self, tmp_path, turn, handed):
        from nibabel.eulerangles import euler2mat

        affine = np.eye(4)
        affine[:3, :3] = euler2mat(*turn) @ np.diag([0.7, 0.8, 2.5 * handed])
        affine[:3, 3] = (-170, 120, -900)
        expected = np.diag([-1, -1, 1, 1]) @ affine
        for forms in ({"sform": None}, {}):
            path = write_nifti(tmp_path / "a.nii", **({"qform": affine, "sform": affine} | forms))
            np.testing.assert_allclose(files.read(path).affine, expected, atol=2e-2)
        direction = expected[:3, :3] / [0.7, 0.8, 2.5]
        ours = files.write(Volume(HU, (0.7, 0.8, 2.5), expected[:3, 3], direction.ravel()), tmp_path / "b.nii.gz")
        theirs = nibabel.load(ours)
        np.testing.assert_allclose(theirs.get_sform(), affine, atol=1e-4)
        if theirs.header["qform_code"]:
            np.testing.assert_allclose(theirs.get_qform(), affine, atol=2e-2)
        np.testing.assert_array_equal(np.asarray(theirs.dataobj).transpose(), HU)

    @pytest.mark.parametrize(("code", "mm"), [(0, 1), (1, 1000), (2, 1), (3, 1e-3)])
    def test_units(self, tmp_path, code, mm):
        path = patched(write_nifti(tmp_path / "a.nii"), 123, "B", code | 8)
        if mm == 1000:
            path = write_nifti(tmp_path / "a.nii", qform=RAS * [[0.1], [0.1], [0.1], [1]], sform=None)
            path, mm = patched(path, 123, "B", 1), 100
        assert_is(files.read(path), HU, np.diag([mm, mm, mm, 1]) @ SCAN.affine, 1e-2)

    def test_two_dimensions_keep_their_place(self, tmp_path):
        path = write_nifti(tmp_path / "a.nii", HU[0])
        volume = files.read(path)
        assert volume.array.shape == (1, 5, 4)
        np.testing.assert_allclose(volume.origin, SCAN.origin)
        np.testing.assert_allclose(volume.direction, DIRECTION, atol=1e-6)
        np.testing.assert_allclose(volume.spacing[:2], SCAN.spacing[:2])

    @pytest.mark.parametrize(
        ("place", "form", "value", "words"),
        [
            (40, "<h", 4, None),  # a fourth dimension of one
            (40, "<h", 0, "dimensions"),
            (40, "<h", -1, "dimensions"),
            (40, "<h", 8, "dimensions"),
            (42, "<h", 0, "sizes"),
            (42, "<h", -4, "sizes"),
            (46, "<h", 2, "more data"),
            (46, "<h", 32767, "cut short"),
            (70, "<h", 128, "colour"),
            (70, "<h", 0, "type of numbers"),
            (72, "<h", 32, "type of numbers"),
            (108, "<f", np.nan, "vox_offset"),
            (108, "<f", np.inf, "vox_offset"),
            (108, "<f", 100.0, "vox_offset"),
            (108, "<f", 352.5, "vox_offset"),
            (108, "<f", 1e30, "cut short"),
            (112, "<f", np.inf, "scl_slope"),
            (256, "<f", 2.0, "quatern"),
            (256, "<f", np.nan, "quatern"),
            (268, "<f", np.nan, "qoffset"),
            (268, "<f", 1e38, "not of a CT"),
            (280, "<f", np.nan, "sform"),
            (344, "4s", b"ni1\0", "pair"),
            (344, "4s", b"\0" * 4, "Analyze"),
            (0, "<i", 349, "does not begin"),
            (123, "B", 7, "xyzt_units"),
        ],
    )
    def test_headers(self, tmp_path, place, form, value, words):
        path = patched(write_nifti(tmp_path / "a.nii"), place, form, value)
        if words is None:
            assert_is(files.read(path), HU, SCAN.affine)
        else:
            refused(path, words)

    def test_without_nibabel(self, tmp_path, monkeypatch):
        path = write_nifti(tmp_path / "a.nii")
        monkeypatch.setitem(sys.modules, "nibabel.nifti1", None)
        refused(path, r"a\.nii: .*nibabel")

    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    def test_nothing_is_printed(self, tmp_path, capfd, suffix):
        path = write_nifti(tmp_path / f"a{suffix}")
        path = patched(path, 76, "<f", 0.0) if suffix == ".nii" else path  # no qfac, which stands for 1
        assert_is(files.read(path), HU, SCAN.affine)
        files.write(SCAN, path)
        assert capfd.readouterr() == ("", "")

    def test_a_volume_that_nifti_cannot_hold(self, tmp_path):
        sheared = Volume(HU, direction=(1, 0.3, 0, 0, 1, 0, 0, 0, 1))
        with pytest.raises(InputError, match="write NRRD"):
            files.write(sheared, tmp_path / "a.nii")
        assert not list(tmp_path.iterdir())


# --- MetaImage ------------------------------------------------------------------------------------------------------

META = {
    "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
    "TransformMatrix": "0.8 0.6 0 -0.6 0.8 0 0 0 1", "Offset": "-10.5 20.25 30.125", "ElementSpacing": "0.75 0.5 2.5",
    "DimSize": "4 5 3", "ElementType": "MET_SHORT", "ElementDataFile": "LOCAL",
}  # fmt: skip


def write_meta(path: Path, data: bytes = RAW, **changes: str | None) -> Path:
    fields = {name: value for name, value in (META | changes).items() if value is not None}
    fields["ElementDataFile"] = fields.pop("ElementDataFile")
    path.write_bytes("".join(f"{name} = {value}\n" for name, value in fields.items()).encode() + data)
    return path


class TestMetaImage:
    def test_as_itk_has_it(self, tmp_path):
        path = write_meta(tmp_path / "a.mha")
        assert_is(files.read(path), HU, SCAN.affine)
        image = sitk.ReadImage(str(path))
        np.testing.assert_allclose(image.GetDirection(), DIRECTION)
        for changes in ({"TransformMatrix": None}, {"ElementSpacing": None, "ElementSize": "2 3 4"},
                        {"ElementSpacing": None}, {"Offset": None, "Position": "1 2 3"}, {"BinaryData": None},
                        {"BinaryDataByteOrderMSB": None, "ElementByteOrderMSB": "True"}):  # fmt: skip
            path = write_meta(tmp_path / "a.mha", **changes)
            image, ours = sitk.ReadImage(str(path)), files.read(path)
            np.testing.assert_array_equal(ours.array, sitk.GetArrayFromImage(image))
            np.testing.assert_allclose(ours.spacing, image.GetSpacing())
            np.testing.assert_allclose(ours.direction, image.GetDirection())

    @pytest.mark.parametrize(
        ("changes", "data"),
        [
            ({"CompressedData": "True"}, zlib.compress(RAW)),
            ({"CompressedData": "True", "CompressedDataSize": str(len(zlib.compress(RAW)))}, zlib.compress(RAW)),
            ({"CompressedData": "True"}, gzip.compress(RAW)),
            ({"CompressedData": "True", "CompressedDataSize": "7"}, zlib.compress(RAW)),  # their checksum says more
            ({"BinaryDataByteOrderMSB": "True"}, HU.astype(">i2").tobytes()),
            ({"BinaryData": "False"}, " ".join(map(str, HU.ravel())).encode()),
            ({"ElementType": "MET_FLOAT"}, HU.astype("f4").tobytes()),
            ({"ElementType": "MET_LONG"}, HU.astype("i4").tobytes()),
            ({"ElementType": "MET_LONG_LONG"}, HU.astype("i8").tobytes()),
            ({"ElementNumberOfChannels": "1"}, RAW),
            ({"Comment": "any = thing", "AnatomicalOrientation": "RAI"}, RAW),
        ],
    )
    @pytest.mark.parametrize("detached", [False, True])
    def test_encodings(self, tmp_path, changes, data, detached):
        if detached:
            (tmp_path / "b c.raw").write_bytes(data)
            path = write_meta(tmp_path / "a.mhd", b"", ElementDataFile="b c.raw", **changes)
        else:
            path = write_meta(tmp_path / "a.mha", data, **changes)
        assert_is(files.read(path), HU, SCAN.affine)

    def test_rescale(self, tmp_path):
        changes = {"ElementToIntensityFunctionSlope": "1", "ElementToIntensityFunctionOffset": "-1024"}
        volume = files.read(write_meta(tmp_path / "a.mha", **changes))
        np.testing.assert_array_equal(volume.array, HU - 1024)
        assert volume.array.dtype == np.int16
        refused(write_meta(tmp_path / "a.mha", ElementToIntensityFunctionSlope="0"), "Slope")

    @pytest.mark.parametrize("skip", ["9", "-1"])
    def test_header_of_the_data_file(self, tmp_path, skip):
        (tmp_path / "b.raw").write_bytes(b"nine byte" + RAW)
        path = write_meta(tmp_path / "a.mhd", b"", HeaderSize=skip, ElementDataFile="b.raw")
        assert_is(files.read(path), HU, SCAN.affine)

    @pytest.mark.parametrize(
        "named", ["LIST\ns1.raw\ns2.raw\ns3.raw", "s%d.raw 1 3 1", "LIST 2D\ns1.raw\ns2.raw\ns3.raw"]
    )
    def test_several_data_files(self, tmp_path, named):
        for index in range(3):
            (tmp_path / f"s{index + 1}.raw").write_bytes(HU[index].tobytes())
        path = write_meta(tmp_path / "a.mhd", b"", ElementDataFile=named.format("s1.raw\ns2.raw\ns3.raw"))
        assert_is(files.read(path), HU, SCAN.affine)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), HU)
        (tmp_path / "s3.raw").unlink()
        refused(path, r"s3\.raw.*No such file")

    @pytest.mark.parametrize(("unit", "mm"), [("mm", 1), ("cm", 10), ("um", 1e-3), ("?", 1)])
    def test_units(self, tmp_path, unit, mm):
        volume = files.read(write_meta(tmp_path / "a.mha", DistanceUnits=unit))
        assert_is(volume, HU, np.diag([mm, mm, mm, 1]) @ SCAN.affine, 1e-3)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"NDims": "-2147483649"}, "NDims"),
            ({"NDims": "4"}, "DimSize"),
            ({"NDims": "4", "DimSize": "4 5 3 1"}, "4-D"),
            ({"NDims": "nan"}, "NDims"),
            ({"NDims": None}, "NDims"),
            ({"DimSize": "4 5 0"}, "above 0"),
            ({"DimSize": "4 5 2"}, "more data"),
            ({"DimSize": "99999 99999 99999"}, "are the limit"),
            ({"ElementNumberOfChannels": "3"}, "colour"),
            ({"ElementType": "MET_UCHAR_ARRAY"}, "ElementType"),
            ({"TransformMatrix": "1e308 0 0 0 1 0 0 0 1"}, "rotation"),
            ({"TransformMatrix": "0 0 0 0 1 0 0 0 1"}, "rotation"),
            ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "inverted"),
            ({"TransformMatrix": "1 0 0 0.6 0.8 0 0 0 1"}, "sheared"),
            ({"TransformMatrix": "1 0 0 0"}, "9 numbers"),
            ({"ElementSpacing": "1 0 1"}, "above 0"),
            ({"ElementSpacing": "1 1e300 1"}, "not of a CT"),
            ({"Offset": "nan 0 0"}, "Offset"),
            ({"Offset": "1_0 0 0"}, "Offset"),
            ({"Offset": "١ 0 0"}, "Offset"),
            ({"Position": "0 0 0"}, "twice"),
            ({"CompressedData": "perhaps"}, "True or False"),
            ({"CompressedData": "True"}, "damaged"),
            ({"HeaderSize": "5"}, "HeaderSize"),
            ({"ElementDataFile": "/dev/zero"}, "no file"),
            ({"ElementDataFile": None, "Rest": "x"}, "not that of a MetaImage"),
            ({"DistanceUnits": "parsec"}, "DistanceUnits"),
        ],
    )
    def test_refuses(self, tmp_path, changes, words):
        if changes.get("ElementDataFile", "") is None:
            (tmp_path / "a.mha").write_bytes(b"ObjectType = Image\nNDims = 3\n")
            refused(tmp_path / "a.mha", words)
        else:
            refused(write_meta(tmp_path / "a.mha", **changes), words)


# --- all of them ----------------------------------------------------------------------------------------------------

WRITTEN = [f"a{suffix}" for suffix in formats.SUFFIXES]
CHECKED = [name for name in WRITTEN if name != "a.nii"]  # which has no checksum


@pytest.mark.parametrize("name", WRITTEN)
def test_written_files_are_what_others_read(tmp_path, name):
    path = files.write(SCAN, tmp_path / name)
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), HU)
    np.testing.assert_allclose(image.GetSpacing(), SCAN.spacing, atol=1e-6)
    np.testing.assert_allclose(image.GetOrigin(), SCAN.origin, atol=1e-5)
    np.testing.assert_allclose(image.GetDirection(), DIRECTION, atol=1e-6)
    if name == "a.nrrd":
        data, header = nrrd.read(str(path), index_order="C")
        np.testing.assert_array_equal(data, HU)
        np.testing.assert_allclose(header["space directions"], SCAN.affine[:3, :3].T)


@pytest.mark.parametrize("name", CHECKED)
@pytest.mark.parametrize("damage", ["zeros", "flip", "cut", "last", "more"])
def test_damage_of_compressed_voxels_is_seen_wherever_it_is(tmp_path, name, damage):
    scan = Volume(np.random.default_rng(0).normal(0, 100, (20, 40, 40)).astype(np.int16))
    path = files.write(scan, tmp_path / name)
    target = path.with_suffix(".zraw") if name == "a.mhd" else path
    data = target.read_bytes()
    start = max(data.find(b"\n\n"), data.find(b"LOCAL"), 0) + 400
    for place in np.linspace(start, len(data) - 70, 12).astype(int):
        block = data[place : place + 64]
        spoilt = {
            "zeros": data[:place] + bytes(64) + data[place + 64 :],
            "flip": data[:place] + bytes([block[0] ^ 16]) + data[place + 1 :],
            "cut": data[:place],
            "last": data[:-1],
            "more": data[:place] + b"x" + data[place:],
        }[damage]
        target.write_bytes(spoilt)
        refused(path, "cannot read")


@pytest.mark.parametrize("name", ["a.nrrd", "a.nii", "a.mha", "a.mhd"])
def test_length_of_plain_voxels(tmp_path, name):
    path = files.write(SCAN, tmp_path / name, compress=False)
    target = path.with_suffix(".raw") if name == "a.mhd" else path
    data = target.read_bytes()
    for spoilt in (
        data[:-1],
        data[:-2],
        data + b"\0",
        data + bytes(40),
        data + b"\n\n",
        data[:-60] + b"x" + data[-60:],
    ):
        target.write_bytes(spoilt)
        refused(path, "cut short|more data")
    target.write_bytes(data + b"\n")  # an editor's
    np.testing.assert_array_equal(files.read(path).array, HU)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize("name", ["a.nrrd", "a.nii", "a.mha", "a.dcm", "a"])
def test_pipes_and_devices_do_not_block(tmp_path, name):
    os.mkfifo(tmp_path / name)
    refused(tmp_path / name, "pipe or a device")
    (tmp_path / "b.nrrd").symlink_to("/dev/zero")
    refused(tmp_path / "b.nrrd", "pipe or a device")


def test_data_in_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.raw")
    refused(write_nrrd(tmp_path / "a.nhdr", None, data_file="a.raw"), "pipe")


@pytest.mark.parametrize("name", ["x" * 300 + ".nrrd", "x" * 5000, "a\0b.nrrd"])
def test_names_that_no_file_can_have(tmp_path, name):
    with pytest.raises(InputError, match=r"too long|null") as caught:
        files.read(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", formats.SUFFIXES)
def test_names_that_are_not_utf8(tmp_path, suffix):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/Th\xf6rax"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("names are UTF-8 here")
    path = folder / os.fsdecode(b"\xe4." + suffix.encode())
    np.testing.assert_array_equal(files.read(files.write(SCAN, path)).array, HU)


def test_a_folder_with_a_suffix_is_a_folder(tmp_path):
    series = files.write(SCAN, f"{tmp_path / 'scan.nrrd'}/")
    assert sorted(path.name for path in series.iterdir()) == ["0001.dcm", "0002.dcm", "0003.dcm"]
    np.testing.assert_array_equal(files.read(series).array, HU)


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["a.nrrd", "a.dcm", "a.nii.gz"])
def test_no_permission(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    (tmp_path / name).chmod(0)
    refused(tmp_path / name, "Permission denied")
