"""A short form of the benchmark `fuzz.py`, and that it would notice what it looks for."""

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from IPv2Lib.errors import InputError
from IPv2Lib.io import files, reading

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import fuzz


@pytest.fixture(scope="module")
def originals() -> list[fuzz.Original]:
    return fuzz.originals()


def unchanged(original: fuzz.Original) -> fuzz.Mutation:
    return fuzz.Mutation(original.content, original.beside.get(original.target, original.content), False, False, "")


def outcomes(originals: list[fuzz.Original], count: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sound = {}
        for index, original in enumerate(originals):
            sound[index] = files.read(fuzz.place_case(folder, original, unchanged(original)))
        for number in range(count):
            dice = random.Random(number)
            index = dice.randrange(len(originals))
            mutation = fuzz.mutated(originals[index], dice)
            path = fuzz.place_case(folder, originals[index], mutation)
            outcome, text = fuzz.judged(path, originals[index], mutation, sound[index])
            found.setdefault(outcome, []).append(f"{originals[index].kind} {number}: {text}")
    return found


def test_damaged_image_files(originals):
    found = outcomes([each for each in originals if each.kind != "DICOM"], 800)
    assert set(found) == {"read right", "refused"}, {key: found[key] for key in set(found) & set(fuzz.BARRED)}
    assert min(map(len, found.values())) > 80


def test_damaged_dicom_files(originals, monkeypatch):
    monkeypatch.setattr(reading, "WORK_SECONDS", 4.0)
    found = outcomes([each for each in originals if each.kind == "DICOM"], 400)
    assert set(found) == {"read right", "refused"}, {key: found[key] for key in set(found) - {"read right", "refused"}}
    assert min(map(len, found.values())) > 80


@pytest.mark.parametrize(
    ("make", "outcome"),
    [
        (lambda volume: volume, "read right"),
        (lambda volume: volume.with_array(volume.array + np.int16(1)), "changed"),
        (lambda volume: volume.with_array(volume.array[1:]), "changed"),
        (InputError("a.nrrd is damaged"), "refused"),
        (InputError("two\nlines"), "tracebacks"),
        (InputError(""), "tracebacks"),
        (ValueError("no"), "tracebacks"),
        (MemoryError(), "tracebacks"),
        (RecursionError(), "tracebacks"),
        (InputError("it makes the DICOM reader crash"), "reader died"),
        (InputError("no end after 30 s"), "reader hung"),
    ],
)
def test_outcomes(originals, monkeypatch, tmp_path, make, outcome):
    original = originals[0]
    assert original.checked
    sound = files.read(fuzz.place_case(tmp_path, original, unchanged(original)))

    def read(path):
        if isinstance(make, Exception):
            raise make
        return make(sound), []

    monkeypatch.setattr(fuzz.files, "read_noted", read)
    mutation = fuzz.Mutation(original.content, original.content, True, False, "flip")
    assert fuzz.judged(tmp_path / "a.nrrd", original, mutation, sound)[0] == outcome


def test_every_format_and_way_has_its_share(originals):
    dice = random.Random(0)
    ways = Counter(way for _ in range(500) for way in fuzz.mutated(originals[0], dice).what.split("+"))
    assert set(ways) == {"flip", "zero", "cut", "insert", "edit"} and min(ways.values()) > 40
    assert {each.kind for each in originals} == {"NRRD", "nhdr", "NIfTI", "MetaImage", "DICOM"}
    contents = [each.content for each in originals if each.kind == "DICOM"]
    for syntax in ("2", "2.1", "2.1.99", "2.2", "2.5", "2.4.70", "2.4.90"):
        uid = f"1.2.840.10008.1.{syntax}".encode()
        assert any(uid + bytes(len(uid) % 2) in each for each in contents), syntax
    assert any(each[128:132] != b"DICM" for each in contents)
    assert any(each.others for each in originals)


@pytest.mark.parametrize(
    ("slices", "notes", "outcome"),
    [(5, [], "read right"), (4, [], "changed"), (4, ["1 file was left out"], "read right")],
)
def test_a_lost_slice_of_a_series_must_be_noted(originals, monkeypatch, tmp_path, slices, notes, outcome):
    original = next(each for each in originals if each.others)
    sound = files.read(fuzz.place_case(tmp_path, original, unchanged(original)))
    monkeypatch.setattr(fuzz.files, "read_noted", lambda path: (sound.with_array(sound.array[:slices]), notes))
    mutation = fuzz.Mutation(original.content, original.content, False, False, "edit")
    assert fuzz.judged(tmp_path, original, mutation, sound)[0] == outcome


def test_table():
    rows = [("NRRD", "read right", 0.1, "", 0), ("NRRD", "refused", 0.2, "", 1), ("DICOM", "reader died", 3.0, "", 2)]
    lines = fuzz.table(rows).splitlines()
    assert lines[-1].split() == ["all", "3", "1", "2", "0", "0", "0", "0", "1", "0", "3.00"]
