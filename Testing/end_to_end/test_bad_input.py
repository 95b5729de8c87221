"""What bad input gets, from every command: one clear line, exit code 2, and nothing written."""

import gzip
import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from IPv2Lib.cli.commands import main
from IPv2Lib.datasets import shards
from IPv2Lib.errors import InputError
from IPv2Lib.io import dicom_write, files, formats, outputs
from IPv2Lib.io.volume import Volume, same_grid
from IPv2Lib.models import bundle
from small_chest import small_chest

IMAGE = small_chest().array


def refused(outcome, command: str, *words: str) -> None:
    """Check that a command ended with one line on stderr that has the words, and with nothing on stdout."""
    assert outcome.code == 2, outcome.err
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"ipv2 {command}: error: ")
    for word in words:
        assert word in line


# --- volumes that cannot be used --------------------------------------------------------------------------------


def image(array: np.ndarray, *, vector: bool = False, spacing=None):
    """A function that writes an array as it is to `bad.nrrd`."""

    def write(folder: Path) -> Path:
        made = sitk.GetImageFromArray(array, isVector=vector)
        if spacing:
            made.SetSpacing(spacing)
        sitk.WriteImage(made, str(folder / "bad.nrrd"))
        return folder / "bad.nrrd"

    return write


def content(name: str, data: bytes):
    """A function that writes bytes to a file."""

    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


def nrrd(header: str):
    """A function that writes an int16 NRRD with lines of the header replaced."""
    lines = {
        "type": "short",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "64 64 3",
        "space directions": "(1,0,0) (0,1,0) (0,0,1)",
        "space origin": "(0,0,0)",
        "endian": "little",
        "encoding": "raw",
    }
    key, value = header.split(": ")
    text = "\n".join(["NRRD0004", *(f"{name}: {text}" for name, text in (lines | {key: value}).items())])
    return content("bad.nrrd", f"{text}\n\n".encode() + IMAGE.tobytes())


def truncated(folder: Path) -> Path:
    path = files.write(small_chest(), folder / "bad.nrrd")
    path.write_bytes(path.read_bytes()[:-2000])
    return path


def flipped(folder: Path) -> Path:
    path = files.write(small_chest(), folder / "bad.mha")
    data = bytearray(path.read_bytes())
    data[-3000] ^= 1
    path.write_bytes(data)
    return path


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "bad.nrrd")
    return folder / "bad.nrrd"


def two_places(folder: Path) -> Path:
    """A NIfTI file whose sform has moved."""
    path = files.write(small_chest(), folder / "bad.nii")
    data = bytearray(path.read_bytes())
    data[324:328] = struct.pack("<f", struct.unpack("<f", data[324:328])[0] + 37)  # z of srow
    path.write_bytes(data)
    return path


def damaged_dicom(folder: Path) -> Path:
    for path in series(folder):
        path.write_bytes(path.read_bytes()[:400] + bytes(200) + path.read_bytes()[600:])
    return folder / "series"


def folder_without_dicom(folder: Path) -> Path:
    (folder / "series").mkdir()
    (folder / "series" / "notes.txt").write_text("no slices here")
    return folder / "series"


def series(folder: Path) -> list[Path]:
    files.write(small_chest(slices=5), folder / "series")
    return sorted((folder / "series").iterdir())


def gap_in_dicom(folder: Path) -> Path:
    series(folder)[2].unlink()
    return folder / "series"


def two_series(folder: Path) -> Path:
    series(folder)
    files.write(small_chest(slices=5), folder / "other")
    for path in (folder / "other").iterdir():
        path.rename(folder / "series" / f"other-{path.name}")
    (folder / "other").rmdir()
    return folder / "series"


def with_one(value: float) -> np.ndarray:
    array = IMAGE.astype(np.float32)
    array[1, 20, 20] = value
    return array


BAD_VOLUMES = {
    "missing": (lambda folder: folder / "bad.nrrd", "does not exist"),
    "empty file": (content("bad.nrrd", b""), "cannot read"),
    "text": (content("bad.nrrd", b"not an image"), "cannot read"),
    "foreign": (content("bad.txt", b"not an image"), "NRRD, NIfTI or MetaImage"),
    "broken NIfTI": (content("bad.nii.gz", gzip.compress(b"not an image")), "cannot read"),
    "truncated": (truncated, "cannot read"),
    "not invertible": (nrrd("space directions: (1,0,0) (1,0,0) (0,0,1)"), "bad.nrrd"),
    "spacing of zero": (nrrd("space directions: (0,0,0) (0,1,0) (0,0,1)"), "bad.nrrd"),
    "colour": (image(np.stack([IMAGE] * 3, axis=-1), vector=True), "colour"),
    "4-D": (image(np.stack([IMAGE] * 2)), "4-D"),
    "one row": (image(IMAGE[:, :1]), "2×2"),
    "NaN": (image(with_one(np.nan)), "NaN"),
    "infinite": (image(with_one(np.inf)), "infinite"),
    "constant": (image(np.full_like(IMAGE, -1000)), "every voxel is -1000"),
    "8-bit": (image(((IMAGE + 1024) / 20).astype(np.uint8)), "8-bit"),
    "without intercept": (image((IMAGE + 1024).astype(np.uint16)), "intercept"),
    "normalised": (image((IMAGE + 1024) / np.float32(4095)), "normalised"),
    "no CT": (image(IMAGE.astype(np.float32) * 1000), "range"),
    "flipped bit": (flipped, "damaged"),
    "pipe": (pipe, "pipe"),
    "two places": (two_places, "--prefer"),
    "damaged DICOM": (damaged_dicom, "series"),
    "no DICOM": (folder_without_dicom, "series"),
    "gap in DICOM": (gap_in_dicom, "missing"),
    "two series": (two_series, "series"),
}
# BAD is the volume, GOOD another one, MODEL a model, OUT an output file, FOLDER an output folder.
READERS = {
    "denoise": ("denoise", "BAD", "OUT", "--model", "MODEL"),
    "denoise (of several)": ("denoise", "GOOD", "BAD", "FOLDER", "--model", "MODEL"),
    "simulate": ("simulate", "BAD", "OUT", "--dose", "0.02"),
    "purify (uLDCT)": ("purify", "BAD", "GOOD", "FOLDER"),
    "purify (NDCT)": ("purify", "GOOD", "BAD", "FOLDER"),
    "train": ("train", "GOOD", "BAD", "--out", "FOLDER", "--steps", "1"),
    "evaluate (result)": ("evaluate", "BAD", "GOOD"),
    "evaluate (reference)": ("evaluate", "GOOD", "BAD"),
}


# All of them read and check by the same function: every kind in one command, and in every command one of each sort.
SORTS = ("missing", "NaN", "two places", "gap in DICOM")


@pytest.mark.parametrize(
    ("reader", "kind"),
    [(reader, kind) for reader in READERS for kind in (BAD_VOLUMES if reader == "denoise" else SORTS)],
)
def test_bad_volumes(ipv2, clean, model, tmp_path, contents, reader, kind):
    make, words = BAD_VOLUMES[kind]
    bad = make(tmp_path)
    before = contents()
    names = {"BAD": bad, "GOOD": clean, "MODEL": model, "OUT": tmp_path / "out.nrrd", "FOLDER": tmp_path / "out"}
    command = READERS[reader]
    refused(ipv2(*(names.get(word, word) for word in command)), command[0], bad.name, words)
    assert contents() == before


@pytest.mark.parametrize(("place", "shift"), [("sform", 37), ("qform", 0)])
def test_a_place_is_chosen(ipv2, clean, model, tmp_path, place, shift):
    bad, z = two_places(tmp_path), small_chest().origin[2]
    for command in (
        "denoise BAD OUT --model MODEL",
        "simulate BAD OUT --dose 0.5",
        "denoise BAD OUT --model MODEL --workers 1",
    ):
        output = tmp_path / ("cohort" if "workers" in command else "out.nrrd")
        names = {"BAD": bad, "OUT": output, "MODEL": model}
        outcome = ipv2(*(names.get(word, word) for word in command.split()), "--prefer", place)
        assert outcome.code == 0, outcome.err
        result = files.read(output / "bad.nrrd" if output.is_dir() else output)
        assert result.origin[2] == pytest.approx(z + shift, abs=1e-3)
    outcome = ipv2("evaluate", bad, clean, "--prefer", place)
    if shift:
        refused(outcome, "evaluate", "different grids")
    else:
        assert outcome.code == 0, outcome.err
    with pytest.raises(InputError):  # only in those commands
        files.read(bad)


def test_a_pair_without_overlap(ipv2, scan, tmp_path, contents):
    volume = small_chest()
    far = Volume(volume.array, volume.spacing, (900.0, 0.0, 0.0), volume.direction)
    other = files.write(far, tmp_path / "far.nrrd")
    before = contents()
    refused(ipv2("purify", scan, other, tmp_path / "stages"), "purify", "0 %", "one patient")
    refused(ipv2("evaluate", scan, other), "evaluate", "different grids", "resample")
    assert contents() == before


def test_a_pair_of_two_patients(ipv2, tmp_path, contents):
    series = [tmp_path / name for name in ("anna", "berta")]
    for seed, folder in enumerate(series):
        folder.mkdir()
        dicom_write.write_series(small_chest(seed=seed), folder, folder.name, None, "test", "")
        for path in folder.iterdir():
            header = pydicom.dcmread(path)
            header.PatientID = folder.name
            header.save_as(path)
    before = contents()
    refused(ipv2("purify", *series, tmp_path / "stages"), "purify", "two patients", "anna", "berta")
    assert contents() == before


# --- places that cannot be written --------------------------------------------------------------------------------

WRITERS = {
    "denoise": ("denoise", "SCAN", "PLACE", "--model", "MODEL"),
    "simulate": ("simulate", "SCAN", "PLACE", "--dose", "0.02"),
}
FOLDER_WRITERS = {
    "purify": ("purify", "SCAN", "SCAN", "PLACE"),
    "purify --overwrite": ("purify", "SCAN", "SCAN", "PLACE", "--overwrite"),
    "demo": ("demo", "--out", "PLACE", "--model", "MODEL"),
    "train": ("train", "SCAN", "--out", "PLACE", "--steps", "1"),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("out.png", [formats.ENDINGS, "out.png"]),
        ("out.gz", [formats.ENDINGS, "slash"]),
        ("out.dcm", [formats.ENDINGS, "slash"]),
        ("x" * 252, ["too long"]),
        ("scan.nrrd/", ["input"]),
        ("missing/out.nrrd", ["missing", "create it first"]),
        ("clean.nrrd/out.nrrd", ["clean.nrrd"]),
        ("scan.nrrd", ["input"]),
        ("./there/../scan.nrrd", ["input"]),
        ("full", ["full", "not an empty folder"]),
        ("missing/series", ["missing", "create it first"]),
        (".", ["not an empty folder"]),
    ],
)
def test_bad_output_files(ipv2, scan, clean, model, tmp_path, contents, writer, place, words):
    for name in ("full", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "kept.txt").write_text("kept")
    before = contents()
    names = {"SCAN": scan, "PLACE": os.path.join(tmp_path, place), "MODEL": model}
    command = WRITERS[writer]
    refused(ipv2(*(names.get(word, word) for word in command)), command[0], *words)
    assert contents() == before


@pytest.mark.parametrize("name", ["4: Thorax 1.0 B31f", "CHEST 1.25mm", "scan.v2", "scan.dcm/", "out.nrrd/"])
@pytest.mark.parametrize("writer", WRITERS)
def test_folders_with_any_name(ipv2, scan, model, tmp_path, writer, name):
    names = {"SCAN": scan, "PLACE": f"{tmp_path}/{name}", "MODEL": model}
    outcome = ipv2(*(names.get(word, word) for word in WRITERS[writer]))
    assert outcome.code == 0, outcome.err
    assert same_grid(files.read(tmp_path / name), files.read(scan))
    assert outputs.sidecar_path(tmp_path / name).is_file()


@pytest.mark.parametrize("writer", FOLDER_WRITERS)
@pytest.mark.parametrize("place", ["clean.nrrd", "clean.nrrd/below/it", "full", "."])
def test_bad_output_folders(ipv2, scan, clean, model, tmp_path, contents, writer, place):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "provenance.json").write_text("[]")
    before = contents()
    names = {"SCAN": scan, "PLACE": tmp_path / place, "MODEL": model}
    command = FOLDER_WRITERS[writer]
    refused(ipv2(*(names.get(word, word) for word in command)), command[0])
    assert contents() == before


def test_a_folder_without_permission(ipv2, scan, model, tmp_path, contents, monkeypatch):
    def locked(*_, **__):
        raise PermissionError(13, "Permission denied")

    before = contents()
    monkeypatch.setattr(os, "mkdir", locked)
    for command in (
        ("denoise", scan, tmp_path / "out.nrrd", "--model", model),
        ("simulate", scan, tmp_path / "out.nrrd", "--dose", 0.1),
        ("purify", scan, scan, tmp_path / "stages"),
        ("demo", "--out", tmp_path / "new" / "demo", "--model", model),
        ("train", scan, "--out", tmp_path / "run"),
    ):
        refused(ipv2(*command), command[0], str(tmp_path), "Permission denied")
    assert contents() == before


# --- models that cannot be used -------------------------------------------------------------------------------------


def test_an_unknown_model_lists_those_there_are(ipv2, scan, model, tmp_path, contents, monkeypatch):
    monkeypatch.setenv("IPV2_MODELS", str(model.parent))
    before = contents()
    for command in (("denoise", scan, tmp_path / "out.nrrd", "--model", "none"), ("models", "none")):
        refused(ipv2(*command), command[0], "'none'", "tiny")
    refused(ipv2("demo", "--out", tmp_path / "demo", "--model", "none"), "demo", "'none'", "tiny")
    assert contents() == before


@pytest.mark.parametrize("damage", ["truncated weights", "foreign weights", "no card", "broken card", "other version"])
def test_damaged_models(ipv2, scan, model, tmp_path, contents, damage):
    damaged = tmp_path / "damaged"
    shutil.copytree(model, damaged)
    weights, card = damaged / "model.safetensors", damaged / "model.json"
    if damage == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif damage == "foreign weights":
        weights.write_bytes(b"\x80\x04pickle")
    elif damage == "no card":
        card.unlink()
    elif damage == "broken card":
        card.write_text("{")
    else:
        card.write_text(json.dumps(json.loads(card.read_text()) | {"format_version": 99}))
    before = contents()
    for command in (
        ("denoise", scan, tmp_path / "out.nrrd", "--model", damaged),
        ("demo", "--out", tmp_path / "demo", "--model", damaged),
        ("models", damaged),
    ):
        refused(ipv2(*command), command[0], "damaged")
    assert contents() == before


def test_a_card_that_cannot_be_read_is_found_before_training(ipv2, scan, tmp_path, contents):
    (tmp_path / "card.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "wrong.json").write_text('{"limits": 3, "title": ""}')
    before = contents()
    command = ("train", scan, "--steps", 1, "--out", tmp_path / "run", "--model-out", tmp_path / "model")
    refused(ipv2(*command, "--card", tmp_path / "wrong.json"), "train", "title")
    for card in ("missing.json", "card.json", "list.json"):
        outcome = ipv2(*command, "--card", tmp_path / card)
        refused(outcome, "train", card)
    assert contents() == before


# --- values that cannot be used -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("denoise SCAN OUT --model MODEL --strength 1.5", ["strength", "1.5"]),
        ("denoise SCAN OUT --model MODEL --strength=-0.1", ["strength", "-0.1"]),
        ("denoise SCAN OUT --model MODEL --strength nan", ["strength", "nan"]),
        ("denoise SCAN OUT --model MODEL --strength strong", ["--strength", "strong"]),
        ("denoise SCAN OUT --model MODEL --residual-noise -1", ["residual noise", "-1"]),
        ("denoise SCAN OUT --model MODEL --residual-noise some", ["--residual-noise", "some"]),
        ("denoise SCAN OUT --model MODEL --device abacus", ["abacus", "cpu"]),
        ("denoise SCAN OUT --model MODEL --device cuda:99", ["cuda:99"]),
        ("denoise SCAN --model MODEL", ["OUTPUT", "--help"]),
        ("denoise SCAN OUT --unknown", ["--unknown"]),
        ("simulate SCAN OUT", ["--dose"]),
        ("simulate SCAN OUT --dose 0", ["dose", "0"]),
        ("simulate SCAN OUT --dose 1.1", ["dose", "1.1"]),
        ("simulate SCAN OUT --dose nan", ["dose", "nan"]),
        ("simulate SCAN OUT --dose 0.1 --seed -1", ["seed", "-1"]),
        ("simulate SCAN OUT --dose 0.1 --method magic", ["magic", "physical"]),
        ("simulate SCAN OUT --dose 0.1 --kernel fuzzy", ["fuzzy", "hann"]),
        ("simulate SCAN OUT --dose 0.1 --kernel 3", ["3", "-1"]),
        ("simulate SCAN OUT --dose 0.1 --match", ["soft tissue", "give the photons"]),
        ("purify SCAN SCAN FOLDER --dose 2", ["dose", "2"]),
        ("purify SCAN SCAN FOLDER --blend 1.5", ["blend", "1.5"]),
        ("purify SCAN SCAN FOLDER --window 400 -1000", ["window", "400"]),
        ("purify SCAN SCAN FOLDER --threshold-hu nan", ["threshold", "nan"]),
        ("purify SCAN SCAN FOLDER --strategy ipv3", ["ipv3", "ipv2"]),
        ("purify SCAN SCAN FOLDER --seed -1", ["seed", "-1"]),
        ("purify SCAN SCAN FOLDER --weak-strength -1", ["strength", "-1"]),
        ("train SCAN", ["--out"]),
        ("train SCAN --out FOLDER --network vgg", ["vgg", "unet"]),
        ("train SCAN --out FOLDER --steps 0", ["steps", "0"]),
        ("train SCAN --out FOLDER --minutes -1", ["minutes", "-1"]),
        ("train SCAN --out FOLDER --steps 1 --dose 0 0.1", ["dose", "0"]),
        ("train SCAN --out FOLDER --steps 1 --dose 0.3 0.1", ["dose", "0.3"]),
        ("train SCAN --out FOLDER --steps 1 --dose 0.3 1.5", ["dose", "1.5"]),
        ("train SCAN --out FOLDER --steps 1 --seed -1", ["seed", "-1"]),
        ("train SCAN --out FOLDER --resume", ["not a training run"]),
        ("train SCAN --out FOLDER --steps 1 --model-out SCAN", ["scan.nrrd", "file"]),
        ("train SCAN --out FOLDER --steps 1 --model-out SCAN/model", ["scan.nrrd", "file"]),
        ("demo --out FOLDER --model MODEL --seed -1", ["seed", "-1"]),
        ("demo --out FOLDER --model MODEL --seed one", ["--seed", "one"]),
    ],
)
def test_bad_values(ipv2, scan, model, tmp_path, contents, command, words):
    before = contents()
    names = {"SCAN": scan, "OUT": tmp_path / "out.nrrd", "FOLDER": tmp_path / "out", "MODEL": model}
    arguments = [str(names.get(word, word)).replace("SCAN/", f"{scan}/") for word in command.split()]
    refused(ipv2(*arguments), arguments[0], *words)
    assert contents() == before


def test_an_unknown_command(ipv2):
    outcome = ipv2("enhance")
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith("ipv2: error: ")
    assert "enhance" in line and "denoise" in line


def test_json_tells_the_error_too(ipv2, scan, model, tmp_path):
    outcome = ipv2("denoise", scan, tmp_path / "out.png", "--model", model, "--json")
    assert outcome.code == 2
    *_, event = outcome.events
    assert event["event"] == "error"
    assert "out.png" in event["message"]
    assert event["message"] in outcome.err
    (event,) = ipv2("denoise", "--json").events
    assert event["event"] == "error"


def test_too_little_memory_is_an_error(ipv2, scan, model, tmp_path, contents, monkeypatch):
    def greedy(path):
        raise MemoryError("Unable to allocate 9 TiB")

    before = contents()
    monkeypatch.setattr(files, "read_noted", greedy)
    refused(ipv2("denoise", scan, tmp_path / "out.nrrd", "--model", model), "denoise", "not enough memory", "9 TiB")
    assert contents() == before


def test_a_data_set_of_another_user_is_an_error(ipv2, tmp_path, monkeypatch):
    """Its folder, as commands make it, can be looked into by nobody else."""

    def refuses(path):
        raise PermissionError(13, "Permission denied", str(Path(path) / "dataset.json"))

    monkeypatch.setattr(shards, "is_dataset", refuses)
    told = ipv2("train", "theirs", "--out", tmp_path / "run")
    refused(told, "train", "theirs/dataset.json: Permission denied", "ask its owner")


# --- anything ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(st.integers(1, 12), min_size=2, max_size=4),
    kind=st.sampled_from(["uint8", "int16", "uint16", "int32", "float32", "float64"]),
    low=st.sampled_from([-3000, -1024, 0, 1]),
    high=st.sampled_from([1, 255, 3071, 40000]),
    spoil=st.sampled_from([None, None, np.nan, np.inf, "constant"]),
    spacing=st.lists(st.floats(1e-3, 50), min_size=4, max_size=4),
    seed=st.integers(0, 99),
)
def test_any_volume_is_denoised_or_refused(model, tmp_path, capfd, shape, kind, low, high, spoil, spacing, seed):
    array = np.random.default_rng(seed).uniform(low, high, shape).clip(*limits(kind)).astype(kind)
    if spoil == "constant":
        array[...] = array.flat[0]
    elif spoil is not None and kind.startswith("float"):
        array.flat[0] = spoil
    made = sitk.GetImageFromArray(array, isVector=False)
    made.SetSpacing(spacing[: len(shape)])
    source, output = tmp_path / "any.nrrd", tmp_path / "out.nrrd"
    sitk.WriteImage(made, str(source))
    output.unlink(missing_ok=True)
    capfd.readouterr()
    code = main(["denoise", str(source), str(output), "--model", str(model)])
    out, err = capfd.readouterr()
    if code == 0:
        before, after = files.read(source), files.read(output)
        assert same_grid(before, after)
        assert before.array.dtype == after.array.dtype
        assert np.isfinite(after.array).all()
    else:
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert not output.exists()
    assert bundle.load(model).name == "tiny"


def limits(kind: str) -> tuple[float, float]:
    """Lowest and highest value of a type of number."""
    found = np.iinfo(kind) if np.issubdtype(kind, np.integer) else np.finfo(kind)
    return float(found.min), float(found.max)
