"""`ipv2 convert-frames`: every frame in a new folder, with its history and its patient, or no folder at all."""

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from IPv2Lib.cli import commands
from IPv2Lib.cli.convert_frames import Frame, write_list
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume

HISTORY = {"command": "denoise", "model": "ipv2-fast", "strength": 0.5, "versions": {"IPv2Lib": "0"}}


def volume(number: int) -> Volume:
    rng = np.random.default_rng(number)
    return Volume(rng.normal(-300, 400, (2 + number, 8, 9)).astype(np.int16), (0.7, 0.8, 2.5), (-12.5, 40.25, -300.0),
                  (1, 0, 0, 0, 1, 0, 0, 0, 1))  # fmt: skip


def make(folder: Path, names, like: bool = False) -> Path:
    """Volumes of several sizes with a history, and if wanted the series that each came from."""
    frames = []
    for number, name in enumerate(names):
        source = files.write(volume(number), folder / f"{number}.nrrd")
        Path(f"{source}.json").write_text(json.dumps({**HISTORY, "sequence": {"frame": number + 1}}))
        series = files.write(volume(number), folder / f"series {number}") if like else None
        frames.append(Frame(str(source), name, series and str(series)))
    write_list(frames, folder / "list.json")
    return folder / "list.json"


def convert(*arguments) -> int:
    return commands.main(["convert-frames", *map(str, arguments)])


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
def test_files(tmp_path, suffix):
    names = [f"Thorax 1.0 Ä {n}{suffix}" for n in (1, 2, 3)]
    assert convert(make(tmp_path, names), tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [*names, *(f"{name}.json" for name in names)]
    )
    for number, name in enumerate(names):
        np.testing.assert_array_equal(files.read(tmp_path / "out" / name).array, volume(number).array)
        facts = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert facts["model"] == "ipv2-fast" and facts["sequence"]["frame"] == number + 1


@pytest.mark.parametrize("like", [True, False])
def test_series(tmp_path, like):
    assert convert(make(tmp_path, ["Thorax 1.0 1", "Thorax 1.0 2"], like), tmp_path / "out") == 0
    studies, series = set(), set()
    for number in range(2):
        place = tmp_path / "out" / f"Thorax 1.0 {number + 1}"
        np.testing.assert_array_equal(files.read(place).array, volume(number).array)
        written = [pydicom.dcmread(path) for path in place.iterdir()]
        if like:
            source = pydicom.dcmread(next((tmp_path / f"series {number}").iterdir()))
            assert {each.StudyInstanceUID for each in written} == {source.StudyInstanceUID}
        studies |= {(each.StudyInstanceUID, each.PatientID, each.FrameOfReferenceUID) for each in written}
        series |= {each.SeriesInstanceUID for each in written}
        assert written[0].SeriesDescription.startswith(f"IPv2 ipv2-fast strength 0.5 frame {number + 1}/2")
    assert len(studies) == (2 if like else 1) and len(series) == 2


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: "{", "is no list of frames"),
        (lambda text: "[]", "is no list of frames"),
        (lambda text: '{"frames": []}', "lists no frames"),
        (lambda text: '{"frames": [{"input": "a"}]}', "is no list of frames"),
        (lambda text: text.replace("two.nrrd", "ONE.nrrd"), "a name twice"),
        (lambda text: text.replace("two.nrrd", "../two.nrrd"), "a folder in it"),
        (lambda text: text.replace("1.nrrd", "no.nrrd"), "no.nrrd"),
        (lambda text: text.replace("two.nrrd", "two.png"), "names files and DICOM series"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(tmp_path, capsys, damage, says):
    path = make(tmp_path, ["one.nrrd", "two.nrrd"])
    path.write_text(damage(path.read_text()))
    before = sorted(tmp_path.iterdir())
    assert convert(path, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_is_there_stays(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert convert(make(tmp_path, ["one.nrrd"]), tmp_path / "out") == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    assert "is not empty" in capsys.readouterr().err
