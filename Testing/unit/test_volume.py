"""Volumes: what is accepted, what is kept through files, and how one lies on the grid of another."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from IPv2Lib.errors import InputError, OutputError
from IPv2Lib.hounsfield import window_8bit
from IPv2Lib.io import files, formats
from IPv2Lib.io.volume import Volume, check_ct, overlap_fraction, resample_onto, same_grid, to_image

SUFFIXES = list(formats.SUFFIXES)
FEW = settings(max_examples=30, deadline=None)


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """Rotation by three angles in radians."""
    transform = sitk.Euler3DTransform()
    transform.SetRotation(x, y, z)
    return np.reshape(transform.GetMatrix(), (3, 3))


def example(dtype=np.int16, shape=(3, 5, 7)) -> Volume:
    values = np.random.default_rng(0).normal(-300, 400, shape)
    direction = tuple(rotation(0.1, -0.2, 0.3).ravel())
    return Volume(values.astype(dtype), (0.71, 0.83, 2.5), (-170.3, -12.25, 1033.5), direction)


def assert_same_geometry(a: Volume, b: Volume, tolerance: float = 1e-6) -> None:
    assert a.array.shape == b.array.shape
    np.testing.assert_allclose(a.affine, b.affine, rtol=0, atol=tolerance)
    np.testing.assert_allclose(a.spacing, b.spacing, rtol=0, atol=tolerance)


geometries = st.fixed_dictionaries(
    {
        "spacing": st.tuples(*[st.floats(0.05, 20)] * 3),
        "origin": st.tuples(*[st.floats(-2000, 2000)] * 3),
        "direction": st.builds(
            lambda x, y, z, handed: tuple((rotation(x, y, z) * [1, 1, handed]).ravel()),
            *[st.floats(-3.14, 3.14)] * 3,
            st.sampled_from([1, -1]),
        ),
    }
)
shapes = st.tuples(st.integers(1, 4), st.integers(2, 6), st.integers(2, 6))
arrays = st.one_of(
    hnp.arrays(np.int16, shapes),
    hnp.arrays(np.float32, shapes, elements=st.floats(-5000, 70000, width=32)),
    hnp.arrays(np.float32, shapes, elements=st.sampled_from([np.nan, np.inf, -1000.0, 40.0])),
    hnp.arrays(np.int16, shapes, elements=st.just(-1024)),
)


class TestVolume:
    @pytest.mark.parametrize(
        ("given_dtype", "value", "kept_dtype"),
        [
            ("i2", -1000, "i2"),
            (">i2", -1000, "i2"),
            ("u1", 255, "i2"),
            ("?", True, "i2"),
            ("i4", 32767, "i2"),
            ("i4", 32768, "f4"),
            ("u2", 65535, "f4"),
            ("i8", -40000, "f4"),
            ("f2", 0.5, "f4"),
            ("f4", 0.5, "f4"),
            ("f8", 0.5, "f4"),
        ],
    )
    def test_holds_int16_or_float32(self, given_dtype, value, kept_dtype):
        array = Volume(np.full((1, 2, 2), value, given_dtype)).array
        assert array.dtype == np.dtype(kept_dtype)
        assert (array == value).all()

    def test_array_of_its_type_is_not_copied(self):
        array = np.zeros((1, 2, 2), np.float32)
        assert Volume(array).array is array

    @pytest.mark.parametrize("array", [np.zeros((1, 2, 2), complex), np.array([[["a"]]])])
    def test_refuses_what_is_no_number(self, array):
        with pytest.raises(InputError, match="holds no HU"):
            Volume(array)

    def test_affine_is_what_itk_computes(self):
        volume = example()
        image = to_image(volume)
        for index in [(0, 0, 0), (6, 4, 2), (3, 1, 0)]:
            expected = image.TransformIndexToPhysicalPoint(index)
            np.testing.assert_allclose((volume.affine @ [*index, 1])[:3], expected, atol=1e-9)


class TestCheck:
    @pytest.mark.parametrize("shape", [(1, 2, 2), (1, 64, 64), (5, 2, 9)])
    @pytest.mark.parametrize("dtype", [np.int16, np.float32])
    def test_accepts_ct(self, shape, dtype):
        check_ct(example(dtype, shape))

    @pytest.mark.parametrize(
        "values",
        [
            [-32768, 3071],  # padding of some scanners
            [-1024, 30000],  # extended scale, metal
            [-20, 35],  # a crop of soft tissue
            [-1000, -1000.5],  # nearly pure air
        ],
    )
    def test_accepts_unusual_ct(self, values):
        check_ct(Volume(np.resize(values, (1, 4, 4))))

    @pytest.mark.parametrize(
        ("volume", "message"),
        [
            (Volume(np.zeros((4, 4))), r"\(4, 4\) is not a volume"),
            (Volume(np.zeros((4, 4, 4, 3))), r"\(4, 4, 4, 3\) \(colour or 4-D\?\)"),
            (Volume(np.zeros((4, 1, 8))), "4 slices of 1×8"),
            (Volume(np.zeros((0, 8, 8))), "0 slices of 8×8"),
            (Volume(np.zeros((1, 0, 0))), "1 slices of 0×0"),
            (example().with_array(np.full((2, 2, 2), -1000)), "every voxel is -1000"),
            (Volume(np.array([[[0, 1], [np.nan, np.inf]]])), "2 voxels are NaN or infinite"),
            (Volume(np.array([[[0, 1e300], [5, -1000]]])), "one voxel is NaN or infinite"),
            (Volume(np.array([[[-1.0, 1.0], [0.5, 0.2]]])), r"normalised \(-1 to 1\)"),
            (Volume(np.array([[[0, 255], [30, 7]]])), "8-bit picture"),
            (Volume(np.array([[[0, 1800], [1024, 7]]])), "MRI or a CT without its rescale intercept"),
            (Volume(np.array([[[-1e6, 1800], [1024, 7]]])), "out of any scanner's range"),
            (Volume(np.eye(2)[None], spacing=(1, 0, 1)), r"spacing \(1, 0, 1\)"),
            (Volume(np.eye(2)[None], spacing=(1, -1, 1)), "spacing"),
            (Volume(np.eye(2)[None], spacing=(1, 1)), "spacing"),
            (Volume(np.eye(2)[None], spacing=(1, np.nan, 1)), "spacing"),
            (Volume(np.eye(2)[None], spacing=(1, np.inf, 1)), "spacing"),
            (Volume(np.eye(2)[None], origin=(0, 0, np.nan)), "origin"),
            (Volume(np.eye(2)[None], direction=(1, 0, 0, 0, 1, 0, 0, 1, 0)), "cannot be inverted"),
            (Volume(np.eye(2)[None], direction=(1, 0, 0, 1)), "cannot be inverted"),
            (Volume(np.eye(2)[None], direction=(np.nan,) * 9), "cannot be inverted"),
        ],
    )
    def test_refuses_what_is_no_ct(self, volume, message):
        with pytest.raises(InputError, match=message):
            check_ct(volume)

    @FEW
    @given(arrays, geometries)
    def test_decides_for_any_values(self, array, geometry):
        low, high = float(array.min()), float(array.max())
        acceptable = np.isfinite(array).all() and low != high and low < 0 and max(-low, high) > 10
        if acceptable:
            check_ct(Volume(array, **geometry))
        else:
            with pytest.raises(InputError):
                check_ct(Volume(array, **geometry))


class TestFiles:
    @FEW
    @given(arrays, geometries, st.sampled_from(SUFFIXES))
    def test_round_trip(self, array, geometry, suffix):
        volume = Volume(array, **geometry)
        with tempfile.TemporaryDirectory() as folder:
            path = files.write(volume, Path(folder, f"scan.v1{suffix}"))
            assert len(list(Path(folder).iterdir())) == (2 if suffix == ".mhd" else 1)
            result = files.read(path)
            assert files.as_read(volume, path).sha256() == result.sha256()
        assert result.array.dtype == array.dtype
        np.testing.assert_array_equal(result.array, array)
        # NIfTI keeps its geometry as float32
        tolerance = 1e-3 if suffix.startswith(".nii") else 1e-6
        assert_same_geometry(result, volume, tolerance)
        assert same_grid(result, volume) or suffix.startswith(".nii")

    @pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
    def test_is_compressed(self, tmp_path, suffix):
        volume = Volume(np.resize(np.arange(-9, 9), (8, 64, 64)))
        assert files.write(volume, tmp_path / f"a{suffix}").stat().st_size < volume.array.nbytes / 4

    def test_suffix_in_capitals(self, tmp_path):
        path = files.write(example(), tmp_path / "SCAN.NII.GZ")
        np.testing.assert_array_equal(files.read(path).array, example().array)

    def test_writes_a_view_that_is_not_contiguous(self, tmp_path):
        volume = example().with_array(example(shape=(7, 5, 3)).array.transpose(2, 1, 0)[::-1])
        np.testing.assert_array_equal(files.read(files.write(volume, tmp_path / "a.nrrd")).array, volume.array)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_two_dimensional_image_is_one_slice(self, tmp_path, suffix):
        image = sitk.GetImageFromArray(np.arange(-6, 6, dtype=np.int16).reshape(3, 4))
        image.SetSpacing((0.5, 0.75))
        sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
        volume = files.read(tmp_path / f"a{suffix}")
        assert volume.array.shape == (1, 3, 4)
        assert volume.spacing == (0.5, 0.75, 1.0)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
    def test_reads_other_types_of_values(self, tmp_path, dtype):
        values = np.arange(24, dtype=dtype).reshape(2, 3, 4)
        sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "a.nrrd"))
        array = files.read(tmp_path / "a.nrrd").array
        assert array.dtype == (np.float32 if dtype == np.float64 else np.int16)
        np.testing.assert_array_equal(array, values)

    def test_applies_the_rescale_of_nifti(self, tmp_path):
        sitk.WriteImage(sitk.GetImageFromArray(np.full((2, 3, 4), 24, np.int16)), str(tmp_path / "a.nii"))
        data = bytearray((tmp_path / "a.nii").read_bytes())
        data[112:120] = np.array([1, -1024], "<f4").tobytes()  # scl_slope, scl_inter
        (tmp_path / "a.nii").write_bytes(data)
        assert (files.read(tmp_path / "a.nii").array == -1000).all()

    def test_real_scan_is_kept_bit_by_bit(self, data_folder, tmp_path):
        volume = files.read(data_folder / "lungdx_A0002.nrrd")
        check_ct(volume)
        again = files.read(files.write(volume, tmp_path / "again.nrrd"))
        assert again.array.dtype == np.int16
        assert again.array.tobytes() == volume.array.tobytes()
        assert_same_geometry(again, volume)


class TestBadFiles:
    def write_nrrd(self, path: Path, **changes: str) -> Path:
        fields = {
            "type": "short",
            "dimension": "3",
            "sizes": "2 2 2",
            "space": "left-posterior-superior",
            "space directions": "(1,0,0) (0,1,0) (0,0,1)",
            "encoding": "raw",
            "endian": "little",
        } | changes
        header = "NRRD0004\n" + "".join(f"{key}: {value}\n" for key, value in fields.items()) + "\n"
        path.write_bytes(header.encode() + bytes(16))
        return path

    def test_the_nrrd_of_these_tests_is_good(self, tmp_path):
        assert files.read(self.write_nrrd(tmp_path / "a.nrrd")).array.shape == (2, 2, 2)

    @pytest.mark.parametrize("directions", ["(0,0,0) (0,1,0) (0,0,1)", "(1,0,0) (1,0,0) (0,0,1)"])
    def test_geometry_that_cannot_be_inverted(self, tmp_path, directions, capfd):
        with pytest.raises(InputError, match=r"a\.nrrd"):
            files.read(self.write_nrrd(tmp_path / "a.nrrd", **{"space directions": directions}))
        assert capfd.readouterr().err == ""

    def test_too_few_pixels(self, tmp_path):
        with pytest.raises(InputError, match=r"a\.nrrd: 4 slices of 2×1 pixels"):
            files.read(self.write_nrrd(tmp_path / "a.nrrd", sizes="1 2 4"))

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("content", [b"", b"not an image\n" * 100])
    def test_foreign_content(self, tmp_path, suffix, content, capfd):
        (tmp_path / f"a{suffix}").write_bytes(content)
        with pytest.raises(InputError, match="cannot read") as caught:
            files.read(tmp_path / f"a{suffix}")
        assert "\n" not in str(caught.value)
        assert capfd.readouterr().err == ""

    @pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii", ".nii.gz"])
    @pytest.mark.parametrize("dtype", [np.int16, np.float32])
    @pytest.mark.parametrize("lost_bytes", [40, 3000])
    def test_truncated_file(self, tmp_path, suffix, dtype, lost_bytes):
        path = files.write(example(dtype, shape=(4, 40, 40)), tmp_path / f"a{suffix}")
        path.write_bytes(path.read_bytes()[:-lost_bytes])
        with pytest.raises(InputError, match="cannot read") as caught:
            files.read(path)
        assert "\n" not in str(caught.value)

    def test_missing_data_file(self, tmp_path):
        files.write(example(), tmp_path / "a.mhd")
        (tmp_path / "a.zraw").unlink()
        with pytest.raises(InputError, match="cannot read"):
            files.read(tmp_path / "a.mhd")

    @pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
    def test_colour_and_time(self, tmp_path, suffix):
        image = sitk.GetImageFromArray(np.zeros((2, 3, 4), np.uint8))
        path = str(tmp_path / f"a{suffix}")
        sitk.WriteImage(sitk.Compose([image] * 3), path)
        with pytest.raises(InputError, match="3 values per voxel"):
            files.read(path)
        sitk.WriteImage(sitk.JoinSeries([image] * 5), path)
        with pytest.raises(InputError, match=r"4-D \(4×3×2×5\)"):
            files.read(path)

    def test_missing_and_unknown(self, tmp_path):
        with pytest.raises(InputError, match=r"nothing\.nrrd does not exist"):
            files.read(tmp_path / "nothing.nrrd")
        for name in ("notes.txt", "picture.png", "none"):
            (tmp_path / name).write_bytes(b"text")
            with pytest.raises(InputError, match=f"{name} is not an NRRD, NIfTI or MetaImage file, nor DICOM"):
                files.read(tmp_path / name)


class TestFailingWrites:
    def test_unknown_suffix(self, tmp_path):
        with pytest.raises(OutputError, match=r"end the name in \.nrrd"):
            files.write(example(), tmp_path / "a.png")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", ["a.nrrd", "a.nii.gz", "series"])
    def test_no_folder_to_write_to(self, tmp_path, name):
        (tmp_path / "file").write_bytes(b"")
        for parent in ("missing", "file"):
            with pytest.raises(OutputError, match=f"{parent} is not a folder; create it first"):
                files.write(example(), tmp_path / parent / name)
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    @pytest.mark.parametrize("name", [f"a{suffix}" for suffix in SUFFIXES] + ["series"])
    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
    def test_failure_leaves_what_was_there(self, tmp_path, monkeypatch, name, error):
        if name != "series":
            (tmp_path / name).write_bytes(b"older result")
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}

        def fail(*_):
            raise error

        monkeypatch.setattr(files.os, "replace", fail)
        monkeypatch.setattr(files.os, "rename", fail)
        expected = OutputError if isinstance(error, OSError) else KeyboardInterrupt
        with pytest.raises(expected) as caught:
            files.write(example(), tmp_path / name)
        if isinstance(error, OSError):
            assert str(caught.value) == f"cannot write {tmp_path / name}: the disk is full"
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    @pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
    @pytest.mark.parametrize("name", [f"a{suffix}" for suffix in SUFFIXES] + ["series"])
    def test_full_disk(self, tmp_path, name):
        """A limit on file size cuts files short just as a full disk does."""
        script = f"""
import resource, signal
import numpy as np
from IPv2Lib.io import files, formats
from IPv2Lib.io.volume import Volume
signal.signal(signal.{signal.Signals.SIGXFSZ.name}, signal.SIG_IGN)
volume = Volume(np.random.default_rng(0).integers(-1000, 1000, (2, 256, 256)))
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    files.write(volume, {str(tmp_path / name)!r})
except files.OutputError as error:
    print(error)
"""
        library = Path(files.__file__).parents[2]
        result = subprocess.run(
            [sys.executable, "-c", script], cwd=library, stdout=subprocess.PIPE, text=True, check=True
        )
        assert result.stdout.startswith(f"cannot write {tmp_path / name}: ")
        assert result.stdout.count("\n") == 1
        assert not list(tmp_path.iterdir())

    def test_refuses_what_the_format_cannot_hold(self, tmp_path):
        for volume in (Volume(np.zeros((4, 4))), Volume(np.zeros((1, 4, 4)), spacing=(0, 1, 1))):
            with pytest.raises(InputError):
                files.write(volume, tmp_path / "a.nrrd")
        assert not list(tmp_path.iterdir())


class TestGrids:
    def test_same_grid(self):
        volume = example()
        x, y, z = volume.origin
        dx, dy, dz = volume.spacing
        assert same_grid(volume, volume.with_array(volume.array.astype(np.float32)))
        assert same_grid(volume, Volume(volume.array, volume.spacing, (x + 1e-3, y, z), volume.direction))
        assert not same_grid(volume, Volume(volume.array, volume.spacing, (x + 0.1, y, z), volume.direction))
        assert not same_grid(volume, Volume(volume.array, (dx, dy, dz * 1.1), (x, y, z), volume.direction))
        assert not same_grid(volume, Volume(volume.array, volume.spacing, (x, y, z)))
        assert not same_grid(volume, volume.with_array(volume.array[:2]))

    def test_overlap_of_shifted_volumes(self):
        a = Volume(np.zeros((10, 20, 20)), spacing=(0.5, 0.5, 2))
        for shift, expected in [((0, 0, 0), 1), ((5, 0, 0), 0.5), ((0, 0, 10), 0.5), ((0, 0, 40), 0)]:
            assert overlap_fraction(a, Volume(a.array, a.spacing, shift)) == pytest.approx(expected)

    def test_overlap_counts_the_first_volume(self):
        large, small = Volume(np.zeros((4, 8, 8))), Volume(np.zeros((2, 4, 4)))
        assert overlap_fraction(small, large) == 1
        assert overlap_fraction(large, small) == pytest.approx(1 / 8)

    @FEW
    @given(geometries)
    def test_overlap_with_itself(self, geometry):
        volume = Volume(np.zeros((1, 5, 70)), **geometry)
        assert overlap_fraction(volume, volume) == 1

    def test_resampling_on_the_same_grid_changes_nothing(self):
        volume = example()
        assert resample_onto(volume, example(np.float32)).array is volume.array

    def test_resampling_a_linear_ramp_is_exact(self):
        z, y, x = np.indices((6, 12, 12))
        ramp = Volume((3 * x - 5 * y + 7 * z).astype(np.int16), spacing=(1, 1, 2))
        grid = Volume(np.zeros((3, 5, 5)), spacing=(0.5, 0.5, 1), origin=(2.25, 3.5, 1.0))
        result = resample_onto(ramp, grid)
        z, y, x = np.indices(grid.array.shape)
        expected = 3 * (2.25 + 0.5 * x) - 5 * (3.5 + 0.5 * y) + 7 * (1 + z) / 2
        assert result.array.dtype == np.float32
        np.testing.assert_allclose(result.array, expected, atol=1e-4)
        assert_same_geometry(result, grid)

    def test_resampling_fills_what_was_not_scanned(self):
        moving = Volume(np.full((1, 4, 4), 40))
        result = resample_onto(moving, Volume(np.zeros((3, 4, 8)), origin=(0, 0, -1)))
        assert (result.array[1, :, :4] == 40).all()
        assert (result.array[1, :, 4:] == -1024).all()
        assert (result.array[[0, 2]] == -1024).all()
        assert (resample_onto(moving, Volume(np.zeros((1, 4, 8))), -2000).array[0, :, 4:] == -2000).all()


class TestWindow:
    @FEW
    @given(hnp.arrays(st.sampled_from([np.int16, np.float32]), (3, 4), elements=st.integers(-3000, 3000)))
    def test_is_rounded_and_monotonic(self, array):
        grey = window_8bit(array, -1000, 400)
        exact = np.clip((array.astype(float) + 1000) / 1400 * 255, 0, 255)
        assert grey.dtype == np.uint8
        assert np.abs(grey - exact).max() <= 0.5 + 1e-4
        assert (np.diff(grey.ravel()[np.argsort(array, axis=None)].astype(int)) >= 0).all()

    def test_does_not_change_its_input(self):
        array = np.array([-2000.0, 0.0], np.float32)
        window_8bit(array)
        assert array.tolist() == [-2000, 0]

    def test_refuses_an_empty_window(self):
        with pytest.raises(InputError, match="from 400 to -1000 HU is empty"):
            window_8bit(np.zeros(3), 400, -1000)
