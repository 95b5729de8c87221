"""Many scans by one command: purified data sets and denoised cohorts, with what failed named and the rest done."""

import csv
from pathlib import Path

import numpy as np
import pytest
from IPv2Lib.datasets.shards import PurifiedDataset
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume
from IPv2Lib.simulation import phantom

SIZE, SLICES = 64, 2


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """A folder with a pair, NDCTs of three more patients, and scans that are of no use."""
    folder = tmp_path_factory.mktemp("cohort")
    for seed in range(4):
        pair = phantom.pair(seed=seed, size=SIZE, slices=SLICES)
        files.write(pair.ndct, folder / f"n{seed}.nrrd")
    files.write(pair.uldct, folder / "u3.nrrd")
    (folder / "bad").mkdir()
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 10, (SLICES, SIZE, SIZE))
    body = np.where(np.hypot(*np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]) < 0.7, 40.0, -1000.0)
    files.write(Volume(body + noise, (5.5, 5.5, 5.0)), folder / "bad" / "belly.nrrd")
    files.write(Volume(np.abs(noise) + 100, (5.5, 5.5, 5.0)), folder / "bad" / "mri.nrrd")
    return folder


def arrays(folder: Path) -> dict[str, np.ndarray]:
    names = ("uldct", "ndct", "simulated", "weak", "ground_truth", "masks", "regions")
    return {
        f"{shard.key} {name}": getattr(shard, name)
        for shard in PurifiedDataset.read(folder).shards
        for name in names
        if getattr(shard, name) is not None
    }


# --- prepare ----------------------------------------------------------------------------------------------------


def test_a_data_set_from_files_and_a_pair_and_what_a_program_is_told(ipv2, cohort, tmp_path):
    done = ipv2(
        "prepare", cohort / "n0.nrrd", cohort / "n1.nrrd", cohort / "bad" / "belly.nrrd",
        "--pair", cohort / "u3.nrrd", cohort / "n3.nrrd", "--out", tmp_path / "data", "--split", 50, 25, 25,
        "--dose", 0.02, 0.1, "--motion", 12, "--kernel", "ramp", "--split-projections", "--json",
    )  # fmt: skip
    assert done.code == 1, done.err
    names, note = (event["message"] for event in done.events if event["event"] == "note")
    assert "such as 'n0'" in names and "--neutral-names" in names
    assert note.startswith("case 'belly': belly.nrrd: hardly any lung")
    result = done.events[-1]
    assert (result["command"], result["folder"]) == ("prepare", str(tmp_path / "data"))
    rows = {row["name"]: row for row in result["cases"]}
    assert [row["status"] for row in rows.values()] == ["purified", "purified", "failed", "purified"]
    assert rows["belly"]["thumbnail"] is None and "lung" in rows["belly"]["message"]
    assert rows["n3"]["slices"] == SLICES and Path(rows["n3"]["thumbnail"]).is_file()
    by_case = {shard.case: shard for shard in PurifiedDataset.read(tmp_path / "data").shards}
    assert by_case["n3"].ground_truth is None and by_case["n0"].half_b is not None
    assert by_case["n0"].facts["motion_mm"] == 12 and 0.02 < by_case["n0"].dose < 0.1
    assert {rows[name]["split"] for name in rows} == {"train", "validation", "test"}
    fractions = [event["fraction"] for event in done.events if event["event"] == "progress"]
    assert fractions == sorted(fractions)


def test_inputs_are_added_to_a_data_set_and_a_table_replaces_it(ipv2, cohort, tmp_path):
    data = tmp_path / "data"
    assert ipv2("prepare", cohort / "n0.nrrd", "--out", data).code == 0
    added = ipv2("prepare", cohort / "n1.nrrd", cohort / "n0.nrrd", "--out", data)
    assert added.code == 0 and "2 cases (1 cached, 1 purified)" in added.out
    with open(data / "cases.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["n0", "n1"]
    table = tmp_path / "table.csv"
    table.write_text(f"name,ndct,split\nonly,{cohort / 'n1.nrrd'},validation\n")
    for arguments in ((table,), ("--table", table)):
        assert ipv2("prepare", *arguments, "--out", data).code == 0
        (shard,) = PurifiedDataset.read(data).shards
        assert (shard.case, shard.split) == ("only", "validation")
    unused = ipv2("prepare", table, "--out", data)
    assert "2 shards of other settings or cases" in unused.err and len(list((data / "shards").iterdir())) == 3
    assert ipv2("prepare", table, "--out", data, "--prune").err == ""
    assert [path.name for path in (data / "shards").iterdir()] == [shard.key]


def test_two_workers_make_the_same_shards_as_one(ipv2, cohort, tmp_path):
    inputs = [cohort / f"n{seed}.nrrd" for seed in range(3)]
    one = ipv2("prepare", *inputs, cohort / "bad", "--out", tmp_path / "one")
    two = ipv2("prepare", *inputs, cohort / "bad", "--out", tmp_path / "two", "--workers", 2)
    assert one.code == two.code == 1, two.err
    assert [line for line in two.err.splitlines() if "note" in line] == one.err.splitlines()
    first, second = arrays(tmp_path / "one"), arrays(tmp_path / "two")
    assert first.keys() == second.keys() and len(first) == 21
    for name in first:
        assert np.abs(first[name].astype(int) - second[name]).max() <= 1, name


@pytest.mark.parametrize(
    "table, words",
    [
        ("name,ndct,uldct\na,,u3.nrrd\n", ("case 'a'", "has no NDCT")),
        ("name,ndct,patient,split\na,n0.nrrd,P,train\nb,n1.nrrd,P,test\n", ("is in train (case 'a')",)),
        ("name,ndct\na,bad/belly.nrrd\n", ("case 'a': belly.nrrd", "lung")),
        ("name,ndct\na,bad/mri.nrrd\n", ("case 'a': mri.nrrd", "not a CT in HU")),
        ("name,ndct\na,missing.nrrd\n", ("case 'a'", "missing.nrrd does not exist")),
        ("name,ndct\n", ("no case",)),
        ("name,ndct,dose\na,n0.nrrd,2 %\n", ("line 2", "'2 %'")),
    ],
)
def test_tables_that_cannot_be_used(ipv2, cohort, tmp_path, table, words):
    (cohort / "table.csv").write_text(table)
    failed = ipv2("prepare", cohort / "table.csv", "--out", tmp_path / "data")
    assert failed.code == 2 and failed.out == ""
    (line,) = failed.err.splitlines()
    assert line.startswith("ipv2 prepare: error: ") and all(word in line for word in words)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((), "no case"),
        (("COHORT/missing.nrrd",), "missing.nrrd does not exist"),
        (("COHORT/n0.nrrd", "--pair", "COHORT/u3.nrrd", "COHORT/missing.nrrd"), "missing.nrrd does not exist"),
        (("COHORT/n0.nrrd", "--dose", 0.5, 0.1), "lower one first"),
        (("COHORT/n0.nrrd", "--dose", 1, 2, 3), "3 numbers"),
        (("COHORT/n0.nrrd", "--split", 50, 20, 20), "sum 1"),
        (("COHORT/n0.nrrd", "--workers", 0), "0 workers"),
        (("COHORT/n0.nrrd", "--tls-ca", "COHORT/n0.nrrd"), "name it with --scheduler"),
        (("COHORT/n0.nrrd", "--scheduler", "tls://127.0.0.1:9", "--tls-cert", "COHORT/n0.nrrd"), "both --tls-ca and"),
        (("COHORT/n0.nrrd", "--window", 400, -1000), "lower value first"),
        (("--table", "COHORT/none.csv", "COHORT/n0.nrrd"), "nothing else"),
        (("--table", "COHORT/none.csv", "--dose", 0.1), "--dose is a column"),
        (("--table", "COHORT/none.csv"), "none.csv cannot be read"),
    ],
)
def test_options_that_cannot_be_used(ipv2, cohort, tmp_path, arguments, words):
    arguments = [str(argument).replace("COHORT", str(cohort)) for argument in arguments]
    failed = ipv2("prepare", *arguments, "--out", tmp_path / "data")
    assert failed.code == 2, failed.err
    assert words in failed.err and not (tmp_path / "data").exists()


# --- denoise ----------------------------------------------------------------------------------------------------


def test_a_cohort_is_denoised_whatever_fails(ipv2, cohort, model, tmp_path):
    out = tmp_path / "denoised"
    broken = tmp_path / "broken.nrrd"
    broken.write_text("no scan")
    inputs = [cohort / "n0.nrrd", broken, cohort / "bad" / "mri.nrrd", cohort / "n1.nrrd"]
    command = ["denoise", *inputs, out, "--model", model, "--retries", 2, "--json"]
    done = ipv2(*command)
    assert done.code == 1, done.err
    notes = [event["message"] for event in done.events if event["event"] == "note"]
    failures = [note for note in notes if "pixels measure" not in note]
    assert len(failures) == 2 and "broken.nrrd" in failures[0] and "not a CT in HU" in failures[1]
    assert done.events[-1]["notes"] == notes and len(notes) == 4
    results = done.events[-1]["results"]
    assert [result["status"] for result in results] == ["denoised", "failed", "failed", "denoised"]
    assert results[0]["provenance"]["model"] == "tiny" and results[1]["output"] is None
    with open(out / "report.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["denoised", "failed", "failed", "denoised"]
    assert [row["output"] for row in rows] == ["n0.nrrd", "", "", "n1.nrrd"] and "not a CT" in rows[2]["reason"]
    assert {path.name for path in out.iterdir()} == {
        "n0.nrrd", "n0.nrrd.json", "n1.nrrd", "n1.nrrd.json", "report.csv",
    }  # fmt: skip
    alone = ipv2("denoise", cohort / "n0.nrrd", tmp_path / "alone.nrrd", "--model", model)
    assert alone.code == 0
    assert np.array_equal(files.read(out / "n0.nrrd").array, files.read(tmp_path / "alone.nrrd").array)

    before = (out / "n0.nrrd").stat().st_mtime_ns
    files.write(phantom.chest(size=SIZE, slices=1), broken)  # mended, and the same command again
    again = ipv2(*command)
    statuses = [result["status"] for result in again.events[-1]["results"]]
    assert statuses == ["done earlier", "denoised", "failed", "done earlier"]
    assert (out / "n0.nrrd").stat().st_mtime_ns == before
    for option in (("--strength", 0.5), ("--residual-noise", 5), ("--tta",)):
        other = ipv2(*command, *option)
        assert other.events[-1]["results"][0]["status"] == "denoised"


def test_a_cohort_on_two_workers(ipv2, cohort, model, tmp_path):
    inputs = [cohort / "n0.nrrd", cohort / "n1.nrrd", cohort / "bad" / "mri.nrrd"]
    done = ipv2("denoise", *inputs, tmp_path / "out", "--model", model, "--workers", 2, "--statistics", "--json")
    assert done.code == 1, done.err
    results = done.events[-1]["results"]
    assert [result["status"] for result in results] == ["denoised", "denoised", "failed"]
    assert results[0]["statistics"]["lung"]["sigma_before"] > 0


def test_a_cohort_of_which_nothing_can_be_denoised(ipv2, cohort, model, tmp_path):
    failed = ipv2("denoise", cohort / "bad" / "mri.nrrd", tmp_path / "out", "--model", model, "--workers", 1)
    assert failed.code == 2 and "none of 1 scans" in failed.err and "not a CT in HU" in failed.err
    assert "not a CT" in (tmp_path / "out" / "report.csv").read_text()


def test_a_cohort_needs_a_folder_of_its_own(ipv2, cohort, model, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for out, words in ((tmp_path, "not empty"), (tmp_path / "out.nrrd", "one file"), (cohort, "holds an input")):
        failed = ipv2("denoise", cohort / "n0.nrrd", out, "--model", model, "--retries", 0)
        assert failed.code == 2 and words in failed.err
    failed = ipv2(
        "denoise", cohort / "n0.nrrd", tmp_path / "out", "--model", model, "--scheduler", "nonsense://somewhere"
    )
    assert failed.code == 2 and "no Dask scheduler answers" in failed.err
