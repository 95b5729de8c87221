"""What a data set, a run, a comparison and a model say of patients, and who can read it."""

import csv
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pydicom
import pytest
from IPv2Lib.cli.commands import main
from IPv2Lib.datasets.cases import Case, identified, neutral, split_by_patient
from IPv2Lib.datasets.owner_files import read_cases
from IPv2Lib.datasets.patients import hidden, key_file, patient_of
from IPv2Lib.datasets.preparation import prepare
from IPv2Lib.datasets.shards import PurifiedDataset
from IPv2Lib.errors import InputError, OutputError
from IPv2Lib.evaluation.comparison import compare
from IPv2Lib.io import files
from IPv2Lib.models import bundle
from IPv2Lib.simulation import phantom
from IPv2Lib.training.run_folder import read_run

SIZE, SLICES = 48, 2
SECRETS = ("MRN-4711", "SMITH", "JOHN", "19500101")
posix = pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX")


@pytest.fixture
def key(tmp_path, monkeypatch) -> Path:
    """The key of a user of this test."""
    monkeypatch.setenv("IPV2_PATIENT_KEY", str(tmp_path / "user" / "patients.key"))
    return tmp_path / "user" / "patients.key"


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """DICOM series of three patients, in folders that say who they are."""
    folder = tmp_path_factory.mktemp("SMITH-archive")
    for seed in range(3):
        series = folder / f"SMITH_JOHN-{seed}"
        files.write(phantom.chest(seed=seed, size=SIZE, slices=SLICES), f"{series}/")
        for path in series.iterdir():
            dataset = pydicom.dcmread(path)
            dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate = (
                f"MRN-4711-{seed}",
                "SMITH^JOHN",
                "19500101",
            )
            dataset.save_as(path)
    return folder


def said(folder: Path, *leave_out: str) -> dict[str, bytes]:
    """Names and content of the files of a folder that hold no images."""
    texts = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".npy", ".png", ".pt"))
    found = {path.relative_to(folder).as_posix(): path for path in texts}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(leave_out or ("\0",))}


def assert_silent(folder: Path, *more: str, but: tuple[str, ...] = ()) -> None:
    for name, content in said(folder, *but).items():
        for secret in (*SECRETS, *more):
            assert secret not in name and secret.encode() not in content, (name, secret)


# --- labels -----------------------------------------------------------------------------------------------------


def test_a_label_is_the_same_for_one_user_and_tells_another_nothing(key, tmp_path, monkeypatch):
    first = hidden("MRN-4711")
    assert first == hidden("MRN-4711") == hidden(first) and first != hidden("MRN-4712")
    assert "4711" not in first and len(first) == 18
    for algorithm in ("md5", "sha1", "sha256", "sha512"):  # no hash without the key
        assert first[2:] not in hashlib.new(algorithm, b"MRN-4711").hexdigest()
    monkeypatch.setenv("IPV2_PATIENT_KEY", str(tmp_path / "other.key"))
    assert hidden("MRN-4711") != first and hidden(first) == first


@posix
def test_the_key_is_made_once_where_only_its_owner_can_read_it(tmp_path, monkeypatch):
    monkeypatch.delenv("IPV2_PATIENT_KEY")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    found = []
    threads = [threading.Thread(target=lambda: found.append(hidden("x"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1
    path = key_file()
    assert tmp_path in path.parents and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700 and list(path.parent.iterdir()) == [path]


def test_a_key_that_is_damaged_or_cannot_be_made_is_named(key, tmp_path, monkeypatch):
    key.parent.mkdir()
    key.write_text("short")
    with pytest.raises(InputError, match=r"patients\.key, is damaged"):
        hidden("x")
    monkeypatch.setenv("IPV2_PATIENT_KEY", str(key / "below"))
    with pytest.raises((OutputError, InputError), match="IPV2_PATIENT_KEY"):
        hidden("x")


def test_a_given_name_of_a_patient_is_the_one_of_the_header(key, archive):
    series = archive / "SMITH_JOHN-0"
    given, found = identified([Case("a", ndct=series, patient="MRN-4711-0"), Case("b", ndct=archive / "SMITH_JOHN-0")])
    assert given.patient == found.patient == "MRN-4711-0"
    (alone,) = identified([Case("b", ndct=series)])
    assert alone.patient == patient_of(series) == hidden("MRN-4711-0")


def test_the_split_is_the_same_for_every_user(key, tmp_path, monkeypatch):
    cases = [Case(f"case {index}") for index in range(12)]
    mine = [case.split for case in split_by_patient(cases)]
    monkeypatch.setenv("IPV2_PATIENT_KEY", str(tmp_path / "other.key"))
    assert [case.split for case in split_by_patient(cases)] == mine


# --- data sets --------------------------------------------------------------------------------------------------


def test_nothing_that_travels_with_a_data_set_says_who_a_patient_is_or_where_the_scans_are(
    key, archive, tmp_path, capsys
):
    data = tmp_path / "data"
    assert main(["prepare", str(archive), "--out", str(data), "--neutral-names"]) == 0
    assert "named after" not in capsys.readouterr().err
    assert_silent(data, str(archive), str(tmp_path), os.uname().nodename, but=("private/",))
    cases = read_cases(data)
    assert [case.name for case in cases] == ["case-001", "case-002", "case-003"]
    assert [case.patient for case in cases] == [hidden(f"MRN-4711-{seed}") for seed in range(3)]
    assert [case.ndct for case in cases] == sorted(archive.iterdir())
    with open(data / "cases.csv", newline="") as file:
        assert [row["ndct"] for row in csv.DictReader(file)] == [""] * 3
    assert main(["prepare", str(archive), "--out", str(data), "--neutral-names", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["cases"]
    assert {row["status"] for row in rows} == {"cached"} and read_cases(data) == cases


def test_the_reasons_of_cases_that_failed_do_not_travel(key, archive, tmp_path):
    (tmp_path / "JOHN.mhd").write_text("no header")
    prepare([Case("bad", ndct=tmp_path / "JOHN.mhd"), Case("a", ndct=archive / "SMITH_JOHN-0")], tmp_path / "data")
    assert_silent(tmp_path / "data", str(tmp_path), but=("private/",))
    assert "JOHN.mhd" in json.loads((tmp_path / "data" / "private" / "failed.json").read_text())["bad"]
    assert [each["case"] for each in json.loads((tmp_path / "data" / "dataset.json").read_text())["failed"]] == ["bad"]


@posix
@pytest.mark.parametrize("how", ["command", "function"])
def test_only_the_owner_can_read_a_data_set(key, archive, tmp_path, how):
    data = tmp_path / "data"
    before = os.umask(0o002)
    try:
        if how == "command":
            assert main(["prepare", str(archive / "SMITH_JOHN-0"), "--out", str(data)]) == 0
        else:
            prepare([Case("a", ndct=archive / "SMITH_JOHN-0")], data)
        assert os.umask(0o002) == 0o002
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (data, *data.rglob("*"))}
    if how == "command":
        assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
        assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert modes[data] == modes[data / "shards"] == modes[data / "private"] == 0o700


@posix
def test_only_the_owner_can_read_results_and_everybody_a_model(tmp_path):
    before = os.umask(0o022)
    try:
        assert main(["phantom", str(tmp_path / "p"), "--size", "48", "--slices", "2"]) == 0
        for path in (tmp_path / "p").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_patients_of_a_table_are_hidden_unless_somebody_wants_otherwise(key, archive, tmp_path, capsys):
    table = tmp_path / "table.csv"
    table.write_text(f"name,patient,ndct\na,SMITH,{archive}/SMITH_JOHN-0\nb,,{archive}/SMITH_JOHN-1\n")
    data = tmp_path / "data"
    assert main(["prepare", str(table), "--out", str(data)]) == 0
    assert_silent(data, but=("private/",))
    assert [case.patient for case in read_cases(data)] == [hidden("SMITH"), hidden("MRN-4711-1")]
    splits = {case.patient: case.split for case in read_cases(data)}
    capsys.readouterr()
    assert main(["prepare", str(table), "--out", str(data), "--keep-patient-names"]) == 0
    assert "whoever gets the data set can read that" in capsys.readouterr().err
    kept = read_cases(data)
    assert [case.patient for case in kept] == ["SMITH", hidden("MRN-4711-1")]
    assert [case.split for case in kept] == list(splits.values())


def test_names_of_files_are_warned_of_once(key, archive, tmp_path, capsys):
    command = ["prepare", str(archive / "SMITH_JOHN-0"), "--out", str(tmp_path / "data")]
    for expected in (True, False):
        assert main(command) == 0
        assert ("--neutral-names" in capsys.readouterr().err) == expected


def test_neutral_names_stay_with_their_scans():
    a, b, c = (Case(name, ndct=Path(f"{name}.nrrd")) for name in "abc")
    first = neutral([a, b])
    assert [case.name for case in first] == ["case-001", "case-002"]
    assert [case.name for case in neutral([c, b, a, a], first)] == ["case-003", "case-002", "case-001", "case-004"]


def test_an_earlier_data_set_is_read_and_hidden_at_the_next_call(key, archive, tmp_path):
    data, case = tmp_path / "data", Case("a", ndct=archive / "SMITH_JOHN-0", split="test")
    other = Case("b", ndct=archive / "SMITH_JOHN-1")
    prepare([case, other], data)
    as_before(data, {"a": ("MRN-4711-0", archive / "SMITH_JOHN-0"), "b": ("MRN-4711-1", archive / "SMITH_JOHN-1")})
    assert {shard.patient for shard in PurifiedDataset.read(data).shards} == {"MRN-4711-0", "MRN-4711-1"}
    assert main(["prepare", str(archive / "SMITH_JOHN-2"), "--out", str(data), "--neutral-names"]) == 0
    assert main(["prepare", "--out", str(data), "--prune"]) == 0
    assert_silent(data, str(archive), but=("private/",))
    splits = {case.patient: case.split for case in read_cases(data)}
    assert splits[hidden("MRN-4711-0")] == "test" and len(splits) == 3


def as_before(data: Path, cases: dict[str, tuple[str, Path]]) -> None:
    """Make of a data set what earlier versions wrote."""
    content = json.loads((data / "dataset.json").read_text())
    del content["patients_key"]
    rows = ["name,patient,ndct,split"]
    for entry in content["shards"]:
        entry["patient"], path = cases[entry["case"]]
        rows.append(f"{entry['case']},{entry['patient']},{path},{entry['split']}")
        facts = json.loads((data / "shards" / entry["key"] / "shard.json").read_text())
        facts["patient"] = entry["patient"]
        (data / "shards" / entry["key"] / "shard.json").write_text(json.dumps(facts))
    (data / "dataset.json").write_text(json.dumps(content))
    (data / "cases.csv").write_text("\n".join(rows) + "\n")
    for path in (data / "private").iterdir():
        path.unlink()
    (data / "private").rmdir()


def test_a_data_set_of_another_key_is_not_completed(key, archive, tmp_path, monkeypatch):
    data, cases = tmp_path / "data", [Case("a", ndct=archive / "SMITH_JOHN-0")]
    prepare(cases, data)
    content = (data / "dataset.json").read_bytes()
    monkeypatch.setenv("IPV2_PATIENT_KEY", str(tmp_path / "other.key"))
    with pytest.raises(InputError, match=r"hidden with another key than .*other\.key"):
        prepare(cases, data)
    assert (data / "dataset.json").read_bytes() == content


def test_who_is_given_a_data_set_can_read_it_and_not_complete_it(key, archive, tmp_path):
    data = tmp_path / "data"
    prepare([Case("a", ndct=archive / "SMITH_JOHN-0")], data)
    for path in (data / "private").iterdir():
        path.unlink()
    (shard,) = PurifiedDataset.read(data).shards
    assert shard.patient == hidden("MRN-4711-0")
    with pytest.raises(InputError, match="'a': there is no scan"):
        prepare(read_cases(data), data)


# --- what is made of data sets ----------------------------------------------------------------------------------


@pytest.fixture
def made(key, archive, tmp_path):
    """A data set with a run and a comparison."""
    from IPv2Lib.training.loop import train
    from IPv2Lib.training.settings import TrainingSettings

    data = tmp_path / "data"
    prepare([Case(f"SMITH_JOHN-{seed}", ndct=archive / f"SMITH_JOHN-{seed}") for seed in range(3)], data)
    small = {"channels": [4], "blocks": [1]}
    run = train(
        data, data / "runs" / "run", TrainingSettings(arguments=small, steps=2, batch=1, patch=16, validate_every=1),
        workers=0,
    )  # fmt: skip
    return data, run


def test_a_published_card_says_nothing_of_any_case(made, tmp_path):
    _, run = made
    assert main(["publish", str(run), "--out", str(tmp_path / "model")]) == 0
    assert_silent(tmp_path / "model", str(tmp_path), os.uname().nodename)
    assert not any(re.search(rb"P-[0-9a-f]{16}", content) for content in said(tmp_path / "model").values())
    card = bundle.load(tmp_path / "model").card
    (source,) = card.training["data"]
    assert source["name"] == "1 case of 1 patient" and source["licence"] == "not stated"
    assert card.metrics["validation"]["cases"] == 1


def test_runs_and_comparisons_name_patients_by_labels_and_no_places(made, tmp_path):
    data, run = made
    entries = read_run(run).data["train"]
    assert [entry["patient"] for entry in entries] == [hidden(f"MRN-4711-{entry['case'][-1]}") for entry in entries]
    written = (run / "data.json").read_bytes()
    assert b"MRN" not in written and str(tmp_path).encode() not in written
    pytest.importorskip("torchmetrics")
    compare(data, ["input", run], data / "comparison", bootstrap=0)
    for name, content in said(data / "comparison").items():
        assert b"MRN" not in content and str(tmp_path).encode() not in content, name


@posix
def test_workers_make_files_that_only_the_owner_can_read(key, archive, tmp_path):
    command = [
        sys.executable,
        "-m",
        "IPv2Lib",
        "prepare",
        str(archive),
        "--out",
        str(tmp_path / "data"),
        "--workers",
        "2",
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (tmp_path / "data").rglob("*")} == {0}
