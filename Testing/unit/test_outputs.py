"""Outputs: what is a file and what a folder, and that nothing is replaced but what the output itself left earlier."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from IPv2Lib.errors import InputError, IPv2Error, OutputError
from IPv2Lib.io import files, outputs
from IPv2Lib.io.file_names import is_folder
from IPv2Lib.io.volume import Volume

HU = np.random.default_rng(0).integers(-1000, 1000, (3, 6, 5)).astype(np.int16)
SCAN = Volume(HU, (0.75, 0.5, 2.5))
FACTS = outputs.provenance("denoise")


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def save(output: str | Path, source: Path, compress: bool = True) -> None:
    """As the commands do it."""
    outputs.check_output(output, source)
    outputs.save(SCAN, output, FACTS, source, "test", compress=compress)


@pytest.fixture
def kept(tmp_path):
    """Call it to freeze what is there; at the end it must be there still, and the same."""
    before: dict[str, bytes] = {}
    yield lambda: before.update(everything(tmp_path))
    after = everything(tmp_path)
    assert {path: after.get(path) for path in before} == before


class TestNames:
    @pytest.mark.parametrize(
        "name",
        ["series", "4: Thorax 1.0 B31f", "CHEST 1.25mm", "scan.v2", "scan.nrrd/", "a.dcm/", "Dr. Who", ".hidden",
         "1.2.840.113619.2.55", "CT 5.0 Br40 S3", "x.", "scan.2", "Lunge 1,0  B60f.."],
    )  # fmt: skip
    def test_folders(self, tmp_path, name):
        assert is_folder(f"{tmp_path}/{name}")
        source = files.write(SCAN, tmp_path / "source.nrrd")
        save(f"{tmp_path}/{name}", source)
        assert len(list((tmp_path / name).glob("*.dcm"))) == 3
        np.testing.assert_array_equal(files.read(tmp_path / name).array, HU)
        assert outputs.sidecar_path(f"{tmp_path}/{name}").is_file()

    @pytest.mark.parametrize("name", ["a.nrrd", "A.NII.GZ", "a.v2.mha", "4: Thorax 1.0 B31f.nii", "a.mhd"])
    def test_files(self, tmp_path, name):
        assert not is_folder(tmp_path / name)
        save(tmp_path / name, tmp_path / "source.nrrd")
        np.testing.assert_array_equal(files.read(tmp_path / name).array, HU)

    @pytest.mark.parametrize(
        "name",
        ["a.png", "a.dcm", "a.DCM", "a.tif", "a.gz", "a.nhdr", "a.raw", "a.nii.zip", "a.jp2", "a.h5", "a.7z", "a.IMA"],
    )
    def test_other_formats(self, tmp_path, name):
        for function in (lambda path: save(path, tmp_path / "source"), lambda path: files.write(SCAN, path)):
            with pytest.raises(IPv2Error, match=r"end the name in \.nrrd.*or in a slash for the folder"):
                function(tmp_path / name)
        (tmp_path / name).mkdir()
        save(tmp_path / name, tmp_path / "source.nrrd")
        np.testing.assert_array_equal(files.read(tmp_path / name).array, HU)

    def test_too_long(self, tmp_path):
        source = files.write(SCAN, tmp_path / "source.nrrd")
        save(tmp_path / f"{'x' * 245}.nrrd", source)
        for name in (f"{'x' * 246}.nrrd", "x" * 251, "ä" * 130, "x" * 5000):
            with pytest.raises(InputError, match="too long"):
                outputs.check_output(tmp_path / name, source)
            with pytest.raises(InputError, match="too long"):
                outputs.check_folder(tmp_path / name, "purify", False, source)


class TestOwnFilesOnly:
    def test_data_of_the_input_beside_another_header(self, tmp_path, kept):
        HU.tofile(tmp_path / "scan.raw")
        (tmp_path / "scan.nhdr").write_text(
            "NRRD0004\ntype: short\ndimension: 3\nsizes: 5 6 3\nendian: little\nencoding: raw\ndata file: scan.raw\n"
        )
        kept()
        with pytest.raises(InputError, match=r"scan\.raw, which belongs to the input"):
            save(tmp_path / "scan.mhd", tmp_path / "scan.nhdr", compress=False)

    def test_data_of_the_input_under_the_name_of_the_output(self, tmp_path, kept):
        files.write(SCAN, tmp_path / "m.mhd")
        (tmp_path / "in.mhd").write_bytes((tmp_path / "m.mhd").read_bytes())
        (tmp_path / "m.mhd").unlink()
        kept()
        with pytest.raises(InputError, match=r"m\.zraw, which belongs to the input"):
            save(tmp_path / "m.mhd", tmp_path / "in.mhd")

    @pytest.mark.parametrize("link", [os.symlink, os.link])
    def test_data_of_the_input_behind_a_link(self, tmp_path, kept, link):
        (tmp_path / "in").mkdir()
        source = files.write(SCAN, tmp_path / "in" / "scan.mhd", compress=False)
        link(tmp_path / "in" / "scan.raw", tmp_path / "out.raw")
        kept()
        with pytest.raises(InputError, match=r"scan\.raw, which belongs to the input"):
            save(tmp_path / "out.mhd", source, compress=False)

    @pytest.mark.parametrize("name", ["out.raw", "out.zraw"])
    def test_data_of_somebody_else(self, tmp_path, kept, name):
        source = files.write(SCAN, tmp_path / "source.nrrd")
        (tmp_path / name).write_bytes(b"precious")
        kept()
        with pytest.raises(OutputError, match=f"would replace {name}, which is not its own"):
            outputs.check_output(tmp_path / "out.mhd", source)
        with pytest.raises(OutputError, match=f"would replace {name}, which is not its own"):
            files.write(SCAN, tmp_path / "out.mhd")

    def test_data_that_come_while_the_work_goes_on(self, tmp_path, kept):
        source = files.write(SCAN, tmp_path / "source.nrrd")
        outputs.check_output(tmp_path / "out.mhd", source)
        (tmp_path / "out.zraw").write_bytes(b"precious")
        kept()
        with pytest.raises(OutputError, match="not its own"):
            outputs.save(SCAN, tmp_path / "out.mhd", FACTS, source, "test")
        assert not (tmp_path / "out.mhd.json").exists()

    def test_its_own_are_replaced(self, tmp_path):
        source = files.write(SCAN, tmp_path / "source.nrrd")
        for compress in (True, True, False, False):
            save(tmp_path / "out.mhd", source, compress)
            np.testing.assert_array_equal(files.read(tmp_path / "out.mhd").array, HU)
            assert len(list(tmp_path.glob("out.*raw"))) == 1

    @pytest.mark.parametrize("link", [os.symlink, os.link])
    @pytest.mark.parametrize("name", ["out.nrrd", "series"])
    def test_the_input_behind_a_link(self, tmp_path, kept, link, name):
        source = files.write(SCAN, tmp_path / "source.nrrd")
        link(source, tmp_path / name)
        kept()
        with pytest.raises(InputError, match="is the input"):
            save(tmp_path / name, source)
        with pytest.raises(InputError, match="is the input"):
            outputs.save(SCAN, tmp_path / name, FACTS, source, "test")

    def test_the_input_as_the_sidecar(self, tmp_path, kept):
        source = files.write(SCAN, tmp_path / "a.nrrd")
        source = source.rename(tmp_path / "out.nrrd.json")
        kept()
        with pytest.raises(InputError):
            save(tmp_path / "out.nrrd", source)

    @pytest.mark.parametrize("content", ["{}", "[]", "text", '{"note": "mine"}', '{"versions": 3}', "[" * 100_000, ""])
    @pytest.mark.parametrize("name", ["out.nrrd", "series"])
    def test_a_foreign_sidecar(self, tmp_path, kept, content, name):
        source = files.write(SCAN, tmp_path / "source.nrrd")
        (tmp_path / f"{name}.json").write_text(content)
        kept()
        with pytest.raises(InputError, match=rf"{name}\.json.*something else"):
            outputs.check_output(tmp_path / name, source)
        with pytest.raises(InputError, match="something else"):
            outputs.save(SCAN, tmp_path / name, FACTS, source, "test")
        assert not (tmp_path / name).exists()

    @pytest.mark.parametrize("kind", ["folder", "dangling link"])
    def test_a_sidecar_that_is_no_file(self, tmp_path, kind):
        place = tmp_path / "out.nrrd.json"
        place.mkdir() if kind == "folder" else place.symlink_to("nowhere")
        with pytest.raises(InputError, match="something else"):
            outputs.check_output(tmp_path / "out.nrrd", tmp_path / "source.nrrd")

    def test_its_own_sidecar_is_replaced(self, tmp_path):
        for _ in range(2):
            save(tmp_path / "out.nrrd", tmp_path / "source.nrrd")

    @pytest.mark.parametrize("inside", ["out.nrrd", "deeper", "sub/out.nrrd", "sub/series"])
    def test_inside_of_the_input(self, tmp_path, kept, inside):
        source = files.write(SCAN, tmp_path / "scan")
        (source / "sub").mkdir()
        kept()
        with pytest.raises(InputError, match="lies in the folder of the input"):
            save(source / inside, source)
        with pytest.raises(InputError, match="lies in the folder of"):
            outputs.check_folder(source / inside, "purify", False, source)
        (tmp_path / "link").symlink_to(source)
        with pytest.raises(InputError, match="lies in the folder of the input"):
            save(tmp_path / "link" / inside, source)


class TestFolders:
    def test_behind_a_link(self, tmp_path):
        source = files.write(SCAN, tmp_path / "source.nrrd")
        (tmp_path / "there").mkdir()
        (tmp_path / "link").symlink_to("there")
        save(tmp_path / "link", source)
        assert (tmp_path / "link").is_symlink()
        assert len(list((tmp_path / "there").glob("*.dcm"))) == 3

    def test_the_one_that_one_is_in(self, tmp_path, monkeypatch):
        source = files.write(SCAN, tmp_path / "source.nrrd")
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        number = os.stat(".").st_ino
        save(".", source)
        assert os.stat(tmp_path / "here").st_ino == number  # the shell is still in it
        assert len(list(Path().glob("*.dcm"))) == 3
        assert (tmp_path / "here.json").is_file()

    @pytest.mark.parametrize("place", [".", "..", "../here", "../link"])
    def test_results_do_not_replace_the_one_that_one_is_in(self, tmp_path, monkeypatch, place):
        (tmp_path / "here").mkdir()
        (tmp_path / "link").symlink_to("here")
        monkeypatch.chdir(tmp_path / "here")
        with pytest.raises(InputError, match="folder that you are in"):
            outputs.check_folder(Path(place), "purify", False)

    def test_results_behind_a_link(self, tmp_path):
        (tmp_path / "there").mkdir()
        (tmp_path / "link").symlink_to("there")
        with outputs.new_folder(tmp_path / "link", "purify", False) as folder:
            (folder / "a").write_text("a")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "there" / "a").is_file()

    def test_a_link_that_leads_nowhere(self, tmp_path):
        (tmp_path / "link").symlink_to("nowhere")
        with pytest.raises(InputError):
            outputs.check_output(tmp_path / "link", tmp_path / "source.nrrd")
        with pytest.raises(InputError):
            outputs.check_folder(tmp_path / "link", "purify", False)

    def test_failure_leaves_an_empty_folder_empty(self, tmp_path, monkeypatch):
        (tmp_path / "there").mkdir()

        def fail(*arguments):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files.os, "rename", fail)
        with pytest.raises(OutputError, match="the disk is full"):
            files.write(SCAN, tmp_path / "there")
        assert not list((tmp_path / "there").iterdir())


def test_names_that_are_not_utf8(tmp_path):
    output = tmp_path / os.fsdecode(b"Th\xf6rax.nrrd")
    try:
        output.touch()
    except OSError:
        pytest.skip("names are UTF-8 here")
    outputs.save(SCAN, output, FACTS | {"input": output.name}, tmp_path / "source.nrrd", "test")
    np.testing.assert_array_equal(files.read(output).array, HU)
    assert rb"Th\udcf6rax" in outputs.sidecar_path(output).read_bytes()


class TestExistingFiles:
    """Nothing is replaced but an earlier output."""

    def test_a_scan_is_not(self, tmp_path):
        source, scan = files.write(SCAN, tmp_path / "a.nrrd"), files.write(SCAN, tmp_path / "b.nrrd")
        before = scan.read_bytes()
        with pytest.raises(InputError, match="no earlier output"):
            save(scan, source)
        assert scan.read_bytes() == before and not outputs.sidecar_path(scan).exists()
        outputs.check_output(scan, source, overwrite=True)

    def test_an_output_is(self, tmp_path):
        source, output = files.write(SCAN, tmp_path / "a.nrrd"), tmp_path / "b.nrrd"
        for _ in range(2):
            save(output, source)
        assert outputs.read_sidecar(output)["output_sha256"] == SCAN.sha256()

    @pytest.mark.parametrize("there", [False, True])
    def test_a_failure_leaves_what_was_there(self, tmp_path, monkeypatch, there):
        source, output = files.write(SCAN, tmp_path / "a.nrrd"), tmp_path / "b.nrrd"
        if there:
            save(output, source)
        before = everything(tmp_path)

        def fail(*arguments):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files.os, "replace", fail)
        with pytest.raises(OutputError):
            save(output, source)
        monkeypatch.undo()
        assert everything(tmp_path) == before


@pytest.mark.skipif(os.name != "posix", reason="a killed process is recognised by its number")
def test_what_a_killed_process_left_makes_no_folder_full(tmp_path):
    source = files.write(SCAN, tmp_path / "source.nrrd")
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from IPv2Lib.io import atomic\n"
        "with atomic.private_folder(Path(sys.argv[1])), atomic.private_folder(Path(sys.argv[1]).parent):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    checks = [
        lambda folder: outputs.check_output(f"{folder}/", source),
        lambda folder: outputs.check_folder(folder, "purify", False, source),
        lambda folder: files.write(SCAN, folder),
    ]
    for number, check in enumerate(checks):
        folder = tmp_path / str(number) / "out"
        folder.mkdir(parents=True)
        subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
        assert len(os.listdir(folder)) == 1 and len(os.listdir(folder.parent)) == 2
        check(folder)
        assert os.listdir(folder.parent) == ["out"]
        assert not any(name.startswith(".") for name in os.listdir(folder))
