"""`ipv2 convert`: the same voxels in the same place in another format, with patient, study and history."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pydicom
import pytest
from IPv2Lib.cli import commands
from IPv2Lib.io import files, formats
from IPv2Lib.io.volume import Volume
from IPv2SlicerLib.jobs.job_runner import JobRunner, JobState, Task

TILT = (1, 0, 0, 0, 0.8, -0.6, 0, 0.6, 0.8)
HISTORY = {"command": "denoise", "model": "ipv2-fast", "strength": 0.5, "versions": {"IPv2Lib": "0"}}


def volume(dtype=np.int16) -> Volume:
    rng = np.random.default_rng(0)
    return Volume(rng.normal(-300, 400, (3, 8, 9)).astype(dtype), (0.7, 0.8, 2.5), (-12.5, 40.25, -300.0), TILT)


def convert(*arguments) -> int:
    return commands.main(["convert", *map(str, arguments)])


def read_series(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("suffix", formats.SUFFIXES)
@pytest.mark.parametrize("compress", [True, False])
def test_voxels_and_place_stay(tmp_path, dtype, suffix, compress):
    source = files.write(volume(dtype), tmp_path / "in.nrrd")
    target = tmp_path / f"4 Thorax 1.0{suffix}"
    assert convert(source, target, *([] if compress else ["--no-compress"])) == 0
    found = files.read(target)
    assert found.array.dtype == dtype
    np.testing.assert_array_equal(found.array, volume(dtype).array)
    np.testing.assert_allclose(found.affine, volume().affine, atol=1e-4)
    facts = json.loads(Path(f"{target}.json").read_text())
    assert (facts["command"], facts["input"]) == ("convert", "in.nrrd")


def test_history_and_patient_are_passed_on(tmp_path, capsys):
    files.write(volume(), tmp_path / "scan")  # a series
    for path in (tmp_path / "scan").iterdir():
        header = pydicom.dcmread(path)
        header.PatientName, header.PatientID = "ANNA^TEST", "ID-ANNA"
        header.save_as(path)
    result = files.write(volume().with_array(volume().array + 7), tmp_path / "denoised.nrrd")
    Path(f"{result}.json").write_text(json.dumps(HISTORY))
    capsys.readouterr()
    assert convert(result, f"{tmp_path}/4: out 1.0/", "--like", tmp_path / "scan", "--json") == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["event"] == "result" and said["provenance"] == json.loads(Path(said["sidecar"]).read_text())
    written_hash = {"output_sha256": files.read(tmp_path / "4: out 1.0").sha256()}
    assert said["provenance"] == HISTORY | written_hash
    source, written = read_series(tmp_path / "scan"), read_series(tmp_path / "4: out 1.0")
    assert {(str(each.PatientName), each.StudyInstanceUID) for each in written} == {
        ("ANNA^TEST", source[0].StudyInstanceUID)
    }
    assert written[0].SeriesDescription.startswith("IPv2 ipv2-fast strength 0.5")
    np.testing.assert_array_equal(files.read(tmp_path / "4: out 1.0").array, volume().array + 7)
    # all files, from anywhere; and a series for its own template
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    slices = sorted((tmp_path / "scan").iterdir())
    shutil.move(slices[1], elsewhere / "x")
    assert convert(result, tmp_path / "again", "--like", slices[0], elsewhere / "x", slices[2]) == 0
    assert {str(each.PatientName) for each in read_series(tmp_path / "again")} == {"ANNA^TEST"}
    assert convert(tmp_path / "again", tmp_path / "copy", "--description", "copied") == 0
    copy = read_series(tmp_path / "copy")
    assert {str(each.PatientName) for each in copy} == {"ANNA^TEST"} and copy[0].SeriesDescription.startswith("copied")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["in.nrrd", "in.nrrd"], "is the input"),
        (["in.nrrd", "out.jpg"], "out.jpg"),
        (["in.nrrd", "out.nrrd", "--like", "series"], "--like has no effect"),
        (["in.nrrd", "out", "--like", "in.nrrd"], "is not DICOM"),
        (["in.nrrd", "out", "--like", "other"], "not on the grid"),
        (["gone.nrrd", "out.nrrd"], "does not exist"),
    ],
)
def test_what_cannot_be_converted_is_one_line(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    files.write(volume(), "in.nrrd")
    files.write(volume(), "series")
    files.write(Volume(volume().array[:2]), "other")
    capsys.readouterr()
    before = sorted(Path().rglob("*"))
    assert convert(*arguments) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert sorted(Path().rglob("*")) == before


def test_a_json_that_is_no_history_is_not_passed_on(tmp_path, capsys):
    source = files.write(volume(), tmp_path / "in.nrrd")
    of_another_image = json.dumps(HISTORY | {"output_sha256": "0" * 64})
    for text in ('{"patient": "somebody"}', "[1]", "nonsense", of_another_image):
        Path(f"{source}.json").write_text(text)
        assert convert(source, tmp_path / "out.nrrd") == 0
        assert "not passed on" in capsys.readouterr().err
        facts = json.loads((tmp_path / "out.nrrd.json").read_text())
        assert facts["command"] == "convert" and "patient" not in facts


@pytest.mark.parametrize("output", ["out.nii.gz", "out.mhd", "series/"])
def test_the_history_of_another_image_is_not_passed_on(tmp_path, capsys, output):
    """As after a kill between the renames of an image and of the file that says what it is."""
    source = files.write(volume(), tmp_path / "in.nrrd")
    Path(f"{source}.json").write_text(json.dumps(HISTORY | {"output_sha256": files.read(source).sha256()}))
    assert convert(source, f"{tmp_path}/{output}") == 0 and "not passed on" not in capsys.readouterr().err
    made = (tmp_path / output).resolve()
    assert convert(made, tmp_path / "again.nrrd") == 0 and "not passed on" not in capsys.readouterr().err
    assert json.loads((tmp_path / "again.nrrd.json").read_text())["strength"] == 0.5
    files.write(volume().with_array(volume().array + 1), source)
    assert convert(source, tmp_path / "other.nrrd") == 0
    assert "not passed on" in capsys.readouterr().err
    assert "strength" not in json.loads((tmp_path / "other.nrrd.json").read_text())


@pytest.mark.parametrize("output", ["out.mhd", "series/"])
def test_an_interrupt_between_any_two_renames_is_no_hindrance(tmp_path, monkeypatch, output):
    source = files.write(volume(), tmp_path / "in.nrrd")
    for which in range(1, 4):
        for name in ("replace", "rename"):
            real, calls = getattr(os, name), []

            def interrupted(*arguments, real=real, calls=calls, which=which):
                calls.append(arguments)
                if len(calls) == which:
                    raise KeyboardInterrupt
                real(*arguments)

            with monkeypatch.context() as patch:
                patch.setattr(os, name, interrupted)
                code = convert(source, f"{tmp_path}/{output}")
            assert code == (130 if len(calls) >= which else 0)
            if code:
                assert convert(source, f"{tmp_path}/{output}") == 0
            made = tmp_path / output
            assert files.read(made).sha256() == json.loads(Path(f"{made}.json").read_text())["output_sha256"]
            shutil.rmtree(made) if made.is_dir() else made.unlink()
            for left in tmp_path.glob("out.*"):
                left.unlink()


def test_a_job_that_is_killed_leaves_nothing_beside_its_target(tmp_path):
    noise = np.random.default_rng(0).integers(-1000, 1000, (40, 512, 512), np.int16)
    source = files.write(Volume(noise), tmp_path / "in.nrrd", compress=False)
    target = tmp_path / "results" / "out.nii.gz"
    target.parent.mkdir()
    task = Task("Save", lambda folder: ["convert", source, target], lambda *_: None, print, target=target.parent)
    runner = JobRunner(log_folder=tmp_path / "logs")
    runner.start(task)
    seen = []

    def kill() -> None:
        for hidden in target.parent.glob(".ipv2-*"):
            seen.append(hidden.name)
            os.kill(int(hidden.name.split("~")[1]), signal.SIGKILL)

    runner.wait(timeout=60, tick=kill)
    assert seen and runner.state is JobState.FAILED and list(target.parent.iterdir()) == []
