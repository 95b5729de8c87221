"""The table of cases: files, names, what is refused, and the split by patient."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPv2Lib.datasets.cases import (
    COLUMNS,
    Case,
    cases_from_paths,
    check_cases,
    identified,
    named,
    read_table,
    split_by_patient,
    write_table,
)
from IPv2Lib.datasets.patients import hidden
from IPv2Lib.errors import InputError
from IPv2Lib.io import files
from IPv2Lib.purification.purify import purify
from IPv2Lib.purification.stage_files import export_stages
from IPv2Lib.simulation import phantom

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """A folder with everything that can be a case."""
    folder = tmp_path_factory.mktemp("scans")
    chest = phantom.chest(size=32, slices=3)
    files.write(chest, folder / "alone.nrrd")
    files.write(chest, folder / "other.nii.gz")
    files.write(chest, folder / "series")
    for path in (folder / "series").iterdir():
        slice_file = pydicom.dcmread(path)
        slice_file.PatientID = "P 17"
        slice_file.save_as(path)
    (folder / "deep" / "pair").mkdir(parents=True)
    for name in ("uldct", "ndct", "ground_truth"):
        files.write(chest, folder / "deep" / "pair" / f"{name}.nrrd")
    pair = phantom.pair(size=32, slices=2)
    export_stages(purify(pair.uldct, pair.ndct), folder / "stages")
    (folder / "notes.txt").write_text("no scan")
    (folder / ".hidden.nrrd").write_text("no scan")
    return folder


# --- the table --------------------------------------------------------------------------------------------------


def test_a_table_comes_back_as_it_was(tmp_path):
    cases = [
        Case("one", ndct=tmp_path / "data" / "a, b.nrrd", patient='the "first"', split="test"),
        Case("two", ndct=Path("/elsewhere/n.nrrd"), uldct=Path("/elsewhere/u.nrrd"), kernel="0.5", seed=7),
        Case("three", stages=tmp_path / "stages", dose=0.013, dose_high=0.25, motion_mm=0.1, realisations=3),
    ]
    write_table(cases, tmp_path / "cases.csv")
    assert read_table(tmp_path / "cases.csv") == cases
    text = (tmp_path / "cases.csv").read_text()
    assert text.splitlines()[0] == ",".join(COLUMNS)
    assert "data/a, b.nrrd" in text and str(tmp_path) not in text  # the folder can be moved
    assert [path.name for path in tmp_path.iterdir()] == ["cases.csv"]


def test_a_table_as_a_german_spreadsheet_writes_it(tmp_path):
    table = tmp_path / "cases.csv"
    table.write_bytes("\ufeffndct;Dose;Motion_mm\r\nscans/a.nrrd;0,05;4,5\r\n;;\r\nb.nrrd;;\r\n".encode())
    assert read_table(table) == [
        Case("a", ndct=tmp_path / "scans" / "a.nrrd", dose=0.05, motion_mm=4.5),
        Case("b", ndct=tmp_path / "b.nrrd"),
    ]


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "neither a column 'ndct'"),
        ("name,dose\na,0.1\n", "neither a column 'ndct'"),
        ("ndct,doze\na.nrrd,0.1\n", "unknown column 'doze'"),
        ("ndct,dose\na.nrrd,0.1\nb.nrrd,low\n", "line 3: dose is 'low', which is no number"),
        ("ndct,seed\na.nrrd,1.5\n", "line 2: seed is '1.5', which is no whole number"),
        ("ndct\na.nrrd,0.1\n", "line 2: 2 cells for 1 columns"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path, text, words):
    table = tmp_path / "cases.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=words):
        read_table(table)


def test_a_table_that_is_none(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "missing.csv")
    (tmp_path / "latin.csv").write_bytes("ndct\nmüller.nrrd\n".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_table(tmp_path / "latin.csv")


# --- files ------------------------------------------------------------------------------------------------------


def test_a_folder_yields_all_that_can_be_a_case(scans):
    found = {case.name: case for case in cases_from_paths([scans])}
    assert found == {
        "alone": Case("alone", ndct=scans / "alone.nrrd"),
        "other": Case("other", ndct=scans / "other.nii.gz"),
        "series": Case("series", ndct=scans / "series"),
        "pair": Case("pair", ndct=scans / "deep" / "pair" / "ndct.nrrd", uldct=scans / "deep" / "pair" / "uldct.nrrd"),
        "stages": Case("stages", stages=scans / "stages"),
    }
    check_cases(list(found.values()))


def test_names_are_unique_and_files_may_be_given_one_by_one(scans):
    cases = cases_from_paths(
        [scans / "alone.nrrd", scans / "deep" / "pair" / "ground_truth.nrrd", scans / "alone.nrrd"]
    )
    assert [case.name for case in cases] == ["alone", "ground_truth", "alone-2"]
    assert [case.name for case in named([Case("", ndct=Path("a.nrrd")), Case("a")])] == ["a-2", "a"]


def test_the_patient_is_that_of_the_dicom_header(scans):
    series, alone = identified([Case("x", ndct=scans / "series"), Case("y", ndct=scans / "alone.nrrd")])
    assert (series.patient, alone.patient) == (hidden("P 17"), hidden("y"))
    assert identified([Case("z", ndct=scans / "series", patient="Q")])[0].patient == "Q"


def test_a_scan_in_two_cases_is_of_one_patient(scans):
    ndct, uldct = scans / "alone.nrrd", scans / "other.nii.gz"
    simulated, pair = Case("a", ndct=ndct), Case("b", ndct=ndct, uldct=uldct)
    assert [case.patient for case in identified([simulated, pair])] == [hidden("a")] * 2
    assert [case.patient for case in identified([simulated, replace(pair, patient="Q")])] == ["Q", "Q"]
    split = split_by_patient([simulated, replace(pair, split="test"), Case("c", ndct=scans / "series")])
    assert [case.split for case in split] == ["test", "test", "train"]
    with pytest.raises(InputError, match=r"'b'.*alone.nrrd is of patient 'Q' here and of 'P' in case 'a'"):
        check_cases([replace(simulated, patient="P"), replace(pair, patient="Q")])


def test_paths_that_hold_no_scan(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        cases_from_paths([tmp_path / "missing"])
    with pytest.raises(InputError, match="holds no CT"):
        cases_from_paths([tmp_path])


# --- the split --------------------------------------------------------------------------------------------------

PATIENTS = st.lists(st.sampled_from("ABCDEFGHIJKLMNOP"), min_size=1, max_size=30)
FRACTIONS = st.sampled_from([(0.7, 0.15, 0.15), (0.6, 0.2, 0.2), (0.5, 0.0, 0.5), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)])


@given(PATIENTS, FRACTIONS, st.integers(0, 99), st.randoms())
def test_no_patient_is_in_two_splits_and_the_order_of_rows_does_not_matter(patients, fractions, seed, random):
    cases = [Case(f"case {index}", patient=patient) for index, patient in enumerate(patients)]
    split = {case.name: case for case in split_by_patient(cases, fractions, seed)}
    random.shuffle(cases)
    assert {case.name: case for case in split_by_patient(cases, fractions, seed)} == split
    by_patient = defaultdict(set)
    for case in split.values():
        by_patient[case.patient].add(case.split)
    assert all(len(splits) == 1 for splits in by_patient.values())
    counts = [sum(splits == {name} for splits in by_patient.values()) for name in SPLITS]
    for count, fraction in zip(counts, fractions, strict=True):
        assert abs(count - fraction * len(by_patient)) < 2
        assert fraction > 0 or count == 0


@given(PATIENTS, st.integers(0, 99))
def test_splits_that_are_given_stay(patients, seed):
    given_split = dict.fromkeys("AEIMP", "test")
    cases = [
        Case(f"case {index}", patient=patient, split=given_split.get(patient, "") if index % 2 else "")
        for index, patient in enumerate(patients)
    ]
    have = {case.patient for case in cases if case.split}
    for case in split_by_patient(cases, seed=seed):
        assert case.split == "test" or case.patient not in have


def test_few_patients_are_for_training_first_then_for_the_test_then_for_validation():
    for count, expected in ((1, {"train"}), (2, {"train", "test"}), (3, set(SPLITS)), (4, set(SPLITS))):
        cases = split_by_patient([Case(str(index)) for index in range(count)])
        assert {case.split for case in cases} == expected
    assert [case.split for case in cases].count("train") == 2


def test_another_seed_is_another_split():
    cases = [Case(str(index)) for index in range(20)]
    splits = {tuple(case.split for case in split_by_patient(cases, seed=seed)) for seed in range(5)}
    assert len(splits) == 5


def test_fractions_that_are_none():
    for fractions in ((0.5, 0.5), (0.7, 0.2, 0.2), (1.5, -0.5, 0.0)):
        with pytest.raises(InputError, match="sum 1"):
            split_by_patient([Case("a")], fractions)


# --- checks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"ndct": None}, "no scan"),
        ({"ndct": None, "uldct": "alone.nrrd"}, "has no NDCT"),
        ({"ndct": "missing.nrrd"}, "missing.nrrd does not exist"),
        ({"uldct": "missing.nrrd"}, "missing.nrrd does not exist"),
        ({"uldct": "alone.nrrd"}, "the same file"),
        ({"stages": "stages"}, "leave those two empty"),
        ({"ndct": None, "stages": "series"}, "holds no stages"),
        ({"ndct": None, "stages": "missing"}, "does not exist"),
        ({"dose": 0.0}, "dose fraction 0"),
        ({"dose": 1.5}, "dose fraction 1.5"),
        ({"dose": 0.1, "dose_high": 0.05}, "lower one first"),
        ({"method": "magic"}, "'magic'"),
        ({"kernel": "blunt"}, "'blunt'"),
        ({"motion_mm": -1.0}, "motion of -1 mm"),
        ({"motion_mm": float("nan")}, "motion of nan mm"),
        ({"realisations": 0}, "0 realisations"),
        ({"seed": -1}, "seed -1"),
        ({"split": "training"}, "'training'"),
    ],
)
def test_a_case_that_cannot_be_used_is_named(scans, changes, words):
    paths = {name: scans / value for name, value in changes.items() if name in ("ndct", "uldct", "stages") and value}
    bad = replace(Case("bad", ndct=scans / "alone.nrrd"), **(changes | paths))
    with pytest.raises(InputError, match=f"case 'bad': .*{words}"):
        check_cases([Case("good", ndct=scans / "other.nii.gz"), bad])


def test_tables_that_cannot_be_used(scans):
    case = Case("a", ndct=scans / "alone.nrrd")
    with pytest.raises(InputError, match="no case"):
        check_cases([])
    with pytest.raises(InputError, match="2 cases are called"):
        check_cases([case, replace(case, name="A")])
    with pytest.raises(InputError, match=r"patient 'P' is in train \(case 'a'\) and in test \(case 'b'\)"):
        check_cases([replace(case, patient="P", split="train"), replace(case, name="b", patient="P", split="test")])
    with pytest.raises(InputError, match="'P 17' is in train"):  # the header says that the patient is the same
        check_cases(
            [
                Case("a", ndct=scans / "series", split="train"),
                Case("b", ndct=scans / "alone.nrrd", patient="P 17", split="validation"),
            ]
        )


def test_a_good_table_is_not_refused(scans):
    check_cases(
        [
            Case("a", ndct=scans / "alone.nrrd", kernel="matched", dose=1.0, split="train"),
            Case("b", ndct=scans / "alone.nrrd", kernel="-0.5", dose=0.01, dose_high=0.25, motion_mm=0, patient="a"),
            Case("c", stages=scans / "stages", split="test"),
        ]
    )
    assert Case("c", stages=scans / "stages").paired and not Case("a", ndct=scans / "alone.nrrd").paired
    first, second = Case("c", stages=scans / "stages").sources
    assert np.array_equal(files.read(first).array.shape, files.read(second).array.shape)
