"""`ipv2 denoise --reliability`: the map beside a result, what is said of it, what it must not replace, how it stops."""

import json

import numpy as np
import pytest
from IPv2Lib.inference import cohort
from IPv2Lib.inference.reliability import PASSES, SEED
from IPv2Lib.io import files
from IPv2Lib.io.volume import same_grid
from small_chest import small_chest


def facts_of(path) -> dict:
    return json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("strength", [1, 0.5])
def test_the_map_lies_beside_the_result_which_is_what_it_is_without(ipv2, scan, model, tmp_path, strength):
    how = ("--model", model, "--device", "cpu", "--no-cache", "--strength", strength)
    assert ipv2("denoise", scan, tmp_path / "plain.nii.gz", *how).code == 0
    done = ipv2("denoise", scan, tmp_path / "out.nii.gz", *how, "--reliability", "--json")
    plain, result, errors = (
        files.read(tmp_path / name) for name in ("plain.nii.gz", "out.nii.gz", "out-reliability.nii.gz")
    )
    assert np.array_equal(plain.array, result.array) and same_grid(errors, result)
    assert errors.array.dtype == np.float32 and errors.array.min() >= 0 and errors.array.max() > 1
    facts, said = facts_of(tmp_path / "out-reliability.nii.gz"), done.events[-1]["reliability"]
    assert (facts["command"], facts["seed"], facts["passes"]) == ("reliability", SEED, PASSES)
    assert facts["result_sha256"] == facts_of(tmp_path / "out.nii.gz")["output_sha256"] == result.sha256()
    assert said["file"] == "out-reliability.nii.gz" and said["expected_error_hu"] == facts["expected_error_hu"]
    assert {"lung", "soft_tissue"} <= set(said["expected_error_hu"])
    steps = [event["message"] for event in done.events if event["event"] == "progress"]
    assert "out.nii.gz is written, measuring its reliability" in steps


def test_the_table_has_a_column_and_the_map_a_line(ipv2, scan, model, tmp_path):
    done = ipv2("denoise", scan, tmp_path / "out.nrrd", "--model", model, "--reliability", "--statistics")
    _, head, *rows, last = done.out.splitlines()
    expected = facts_of(tmp_path / "out-reliability.nrrd")["expected_error_hu"]
    assert head.split()[-1] == "σ_e"
    (lung,) = (row for row in rows if row.startswith("Lung"))
    assert float(lung.split()[-1]) == pytest.approx(expected["lung"], abs=0.06)
    assert last.startswith("out-reliability.nrrd: expected error σ_e, on average lung and airways ")


def test_of_a_dicom_series_the_map_is_nrrd(ipv2, scan, model, tmp_path):
    assert ipv2("denoise", scan, tmp_path / "series", "--model", model, "--reliability").code == 0
    assert same_grid(files.read(tmp_path / "series-reliability.nrrd"), files.read(tmp_path / "series"))


def test_several_scans_and_a_cohort_have_a_map_each(ipv2, scan, clean, model, tmp_path):
    for name, *more in (("several",), ("cohort", "--workers", 1)):
        done = ipv2("denoise", scan, clean, tmp_path / name, "--model", model, "--reliability", *more, "--json")
        assert [one["reliability"]["file"] for one in done.events[-1]["results"]] == [
            "scan-reliability.nrrd", "clean-reliability.nrrd",
        ]  # fmt: skip
        assert (tmp_path / name / "scan-reliability.nrrd").is_file()
        assert (tmp_path / name / "clean-reliability.nrrd").is_file()


def test_a_map_of_a_cohort_is_kept_while_it_belongs_to_its_result(ipv2, scan, model, tmp_path):
    def status(*more) -> str:
        done = ipv2("denoise", scan, tmp_path / "out", "--model", model, "--workers", 1, "--json", *more)
        return done.events[-1]["results"][0]["status"]

    map_file = tmp_path / "out" / "scan-reliability.nrrd"
    assert [status(), status("--reliability"), status("--reliability")] == [
        cohort.DENOISED, cohort.DENOISED, cohort.KEPT,
    ]  # fmt: skip
    whole = map_file.read_bytes()
    map_file.write_bytes(whole[:-20])
    assert [status("--reliability"), status("--reliability")] == [cohort.DENOISED, cohort.KEPT]
    assert map_file.read_bytes() == whole
    assert status("--reliability", "--strength", 0.5) == cohort.DENOISED


def test_nothing_else_is_replaced_by_a_map(ipv2, scan, model, tmp_path):
    how = ("--model", model, "--reliability")
    files.write(small_chest(seed=5), tmp_path / "a-reliability.nrrd")
    refused = ipv2("denoise", scan, tmp_path / "a.nrrd", *how)
    assert refused.code == 2 and "a-reliability.nrrd is there already" in refused.said
    assert ipv2("denoise", scan, tmp_path / "b-reliability.nrrd", "--model", model).code == 0
    refused = ipv2("denoise", scan, tmp_path / "b.nrrd", *how)
    assert refused.code == 2 and "no map of reliability" in refused.said
    refused = ipv2("denoise", scan, tmp_path / "c-reliability.nrrd", *how)
    assert refused.code == 2 and "what a map of reliability is called" in refused.said
    other = files.write(small_chest(seed=6), tmp_path / "scan-Reliability.nrrd")
    refused = ipv2("denoise", scan, other, tmp_path / "several", *how)
    assert refused.code == 2 and not (tmp_path / "several").exists()
    assert not (tmp_path / "a.nrrd").exists() and not (tmp_path / "b.nrrd").exists()


def test_a_stop_while_the_map_is_made_leaves_the_result(ipv2, scan, model, tmp_path, monkeypatch):
    def stopped(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(cohort, "expected_error", stopped)
    outcome = ipv2("denoise", scan, tmp_path / "out.nrrd", "--model", model, "--reliability")
    assert (outcome.code, outcome.said) == (
        130, "ipv2 denoise: stopped while the reliability of out.nrrd was measured\n",
    )  # fmt: skip
    assert files.read(tmp_path / "out.nrrd").sha256() == facts_of(tmp_path / "out.nrrd")["output_sha256"]
    assert not (tmp_path / "out-reliability.nrrd").exists()
