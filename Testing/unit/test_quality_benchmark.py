"""The quality benchmark: its measures on images with known answers, its table, and a quick run of the command."""

import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("matplotlib")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import quality
import quality_anatomy
import quality_cases
import quality_filters
import quality_limits
import quality_measures
import quality_methods
import quality_nodules
import quality_physics
from IPv2Lib.analysis.regions import Region
from IPv2Lib.evaluation.physics.results import Results
from IPv2Lib.evaluation.similarity import rmse
from IPv2Lib.io.volume import Volume
from IPv2Lib.simulation import phantom
from IPv2Lib.simulation.dose import simulate
from quality_cache import Cache
from quality_rows import MET, MISSED, Bar, Row, summary, table, write_csv

SPACING_MM = 0.7


@pytest.fixture(scope="module")
def chest() -> quality_cases.Block:
    volume = phantom.chest(seed=7, size=256, slices=3)
    return quality_cases.Block("chest", "synthetic", volume, (1,))


@pytest.mark.parametrize(
    "bar, value, verdict",
    [
        (Bar(low=0.9), 0.9, MET),
        (Bar(low=0.9), 0.89, MISSED),
        (Bar(high=5.0), 5.1, MISSED),
        (Bar(-2, 2), -2.0, MET),
        (Bar(-2, 2), -2.1, MISSED),
        (Bar(-2, 2), math.nan, MISSED),
    ],
)
def test_verdict(bar, value, verdict):
    assert Row(1, "model", "what", value=value, bar=bar).verdict == verdict


def test_what_was_not_measured_or_has_no_bar_is_not_judged():
    assert Row(1, "fast", "speed", bar=Bar(low=20), note="no redcnn").verdict == ""
    assert Row(1, "model", "what", value=1.0).verdict == ""


def test_table_and_csv(tmp_path):
    rows = [
        Row(1, "fast", "error below filter", "scan, 2 %", 0.4, "%", Bar(low=0.43, unit="%"), "a note"),
        Row(2, "fast", "bias", "scan", 1.0, "HU", Bar(-2, 2, "HU"), detail=True),
        Row(8, "fast", "difference", bar=Bar(high=0.5, unit="HU"), note="no GPU here"),
    ]
    lines = table(rows).splitlines()
    assert len(lines) == 3
    assert "40.0%" in lines[1] and "≥ 43.0%" in lines[1] and "MISSED" in lines[1] and lines[1].endswith("a note")
    assert summary(rows) == "0 of 1 bars met"
    write_csv(tmp_path / "rows.csv", rows)
    written = list(csv.DictReader((tmp_path / "rows.csv").open(encoding="utf-8")))
    assert [row["verdict"] for row in written] == ["MISSED", "met", ""]
    assert written[0]["value"] == "0.4" and written[2]["value"] == ""


def test_half_frequency_of_a_known_blur(chest):
    sigma_mm = 1.2
    spectrum = ndimage.fourier_gaussian(np.fft.fft2(chest.ground_truth[0]), sigma_mm / chest.spacing_mm)
    blurred = np.fft.ifft2(spectrum).real[None]
    clean, result = (
        quality_measures.scores(image, chest).spectrum("lung border") for image in (chest.ground_truth, blurred)
    )
    expected = quality_measures.blurred_half_frequency(clean, sigma_mm)
    assert quality_measures.half_frequency(result) == pytest.approx(expected, rel=0.05)
    assert quality_measures.half_frequency(result) < 0.9 * quality_measures.half_frequency(clean)


def test_scores_of_the_truth_and_of_a_shift(chest):
    ground_truth, shifted = (quality_measures.scores(chest.ground_truth + offset, chest) for offset in (0, 5))
    assert ground_truth.rmse_hu == 0
    assert shifted.rmse_hu == pytest.approx(5, abs=0.1)  # what exceeds the window does not count
    assert shifted.bias_hu[Region.LUNG.label] == pytest.approx(5, abs=1e-3)
    again = quality_measures.Scores(**json.loads(json.dumps(shifted.as_dict())))
    assert np.array_equal(again.spectrum("bone"), shifted.spectrum("bone"))


def test_contrast_kept_is_1_for_the_truth_and_0_for_a_constant():
    image = np.full((64, 64), -850.0, np.float32)
    placed = quality_nodules.Placed(0, 32, 32, 6.0, -100.0)
    image = quality_nodules._with_nodule(image, placed, SPACING_MM)
    ground_truth = quality_nodules.contrasts(image[None], (placed,), SPACING_MM)
    assert ground_truth[0] == pytest.approx(750, rel=0.12)
    assert quality_nodules.contrasts(np.full((1, 64, 64), -850.0), (placed,), SPACING_MM) == 0
    half = quality_nodules.contrasts(image[None] / 2, (placed,), SPACING_MM)
    assert half / ground_truth == pytest.approx(0.5)


def test_a_planted_blob_is_found_and_nothing_else():
    side = quality_measures.PATCH_PIXELS
    flat = np.full((4 * side, 4 * side), -850.0, np.float32)
    patches = quality_measures.whole_patches(np.ones(flat.shape, bool))
    assert len(patches) == 16
    assert max(quality_measures.excess(flat, place, SPACING_MM) for place in patches) == pytest.approx(0, abs=1e-6)
    blob = quality_nodules.Placed(0, 1.5 * side, 2.3 * side, 3.0, -600.0)
    planted = quality_nodules._with_nodule(flat, blob, SPACING_MM)
    values = [quality_measures.excess(planted, place, SPACING_MM) for place in patches]
    assert sum(value > 50 for value in values) == 1
    assert patches[int(np.argmax(values))] == (side, 2 * side)


def test_disc_is_a_mean():
    weights = quality_measures.disc(3.0, SPACING_MM)
    assert weights.sum() == pytest.approx(1)
    assert np.count_nonzero(weights) * SPACING_MM**2 == pytest.approx(math.pi * 1.5**2, rel=0.6)


def test_nodules_are_where_they_are_said_to_be_and_each_kind_is_there():
    block, placed = quality_nodules.nodules(256)
    kinds = {(nodule.diameter_mm, nodule.hu) for nodule in placed}
    assert len(kinds) == len(quality_nodules.DIAMETERS_MM) * len(quality_nodules.NODULES_HU)
    large = [nodule for nodule in placed if nodule.diameter_mm == 8.0]
    for nodule in large:
        shown = block.ground_truth[nodule.slice][int(nodule.row), int(nodule.column)]
        assert shown == pytest.approx(nodule.hu, abs=10)
    assert (quality_nodules.contrasts(block.ground_truth, placed, block.spacing_mm) > 100).all()


@pytest.mark.parametrize("name", ["Gaussian", "median", "total variation", "curvature flow"])
def test_filters_are_tuned_to_an_optimum_inside_their_grid(name, chest):
    noisy = simulate(chest.clean, 0.003, source_dose=None, views=128).array[1]

    def error(strength: float) -> float:
        result = quality_filters.filtered(noisy, name, strength, chest.body[0])
        return rmse(chest.ground_truth[0], result, chest.body[0])

    tuned = quality_filters.tune(quality_filters.STRENGTHS[name], error)
    assert tuned.inside
    assert tuned.error_hu < 0.75 * rmse(chest.ground_truth[0], noisy, chest.body[0])


def test_a_sharper_result_is_blurred_before_it_is_compared(chest):
    ground_truth = ndimage.gaussian_filter(chest.ground_truth, (0, 1.2, 1.2))
    assert rmse(ground_truth, chest.ground_truth, chest.body) > 20
    assert quality_methods.matched_rmse(ground_truth, chest.ground_truth, chest.body) < 3
    assert quality_methods.matched_rmse(ground_truth, ground_truth, chest.body) == 0


def test_an_optimum_at_the_end_of_the_grid_is_said_to_be_there():
    assert not quality_filters.tune((1.0, 2.0, 3.0), lambda strength: strength).inside


def test_filter_leaves_what_is_outside_of_the_body():
    image = np.random.default_rng(0).normal(0, 10, (80, 80)).astype(np.float32)
    body = np.zeros(image.shape, bool)
    body[30:50, 30:50] = True
    result = quality_filters.filtered(image, "Gaussian", 2.0, body)
    assert np.array_equal(result[:10], image[:10])
    assert not np.array_equal(result[35:45], image[35:45])


def test_structure_is_compared_with_zero_where_one_is_not_positive():
    assert quality_limits.structure_row("m", 0.1, 0.3).verdict == MET
    assert quality_limits.structure_row("m", 0.2, 0.3).verdict == MISSED
    for ours, theirs, verdict in ((-0.1, 0.3, MET), (-0.1, -0.3, MET), (0.1, -0.3, MISSED)):
        row = quality_limits.structure_row("m", ours, theirs)
        assert row.verdict == verdict and "compared with 0" in row.note


@pytest.mark.parametrize("name", list(quality_anatomy.ANATOMY))
def test_drawn_tissues_have_the_hu_they_are_said_to_have(name):
    anatomy = quality_anatomy.drawn(name, 256)
    ground_truth = anatomy.block.ground_truth
    for tissue, mask in anatomy.tissues.items():
        expected = {organ.hu for organ in quality_anatomy.ANATOMY[name] if organ.name == tissue}
        assert set(np.unique(ground_truth[mask]).round(3).tolist()) == expected
    assert ground_truth.max() == max(organ.hu for organ in quality_anatomy.ANATOMY[name])


def test_resampling_keeps_the_field_of_view_and_the_means(chest):
    for spacing_mm in (0.8, 3.0):
        other = quality_limits.resampled(chest, spacing_mm)
        side_mm = chest.ground_truth.shape[1] * chest.spacing_mm
        assert other.ground_truth.shape[1] * other.spacing_mm == pytest.approx(side_mm)
        assert other.spacing_mm == pytest.approx(spacing_mm, rel=0.02)
        assert other.ground_truth.mean() == pytest.approx(chest.ground_truth.mean(), abs=5)


def test_slices_of_the_phantom_that_are_trained_on_are_not_scored(monkeypatch):
    volume = Volume(np.arange(94, dtype=np.float32)[:, None, None] * np.ones((1, 8, 8), np.float32))
    monkeypatch.setattr(quality_cases, "scan_volume", lambda scan, size: volume)
    tested = quality_cases.block("fda_phantom", 6)
    assert tested.clean.array.min() >= quality_cases.TRAINED_UP_TO
    assert tested.ground_truth.min() >= quality_cases.TESTED_FROM
    assert quality_cases.block("fda_phantom", 2, training=True).ground_truth.max() < quality_cases.TRAINED_UP_TO


def test_noise_and_texture_are_judged_where_they_are_worst():
    def row(values: dict, experiment: str, **condition) -> dict:
        return {"denoiser": "m", "condition": {"experiment": experiment, **condition}, "values": values}

    taken = {("A", 10.0): 0.7, ("A", 20.0): 0.8, ("B", 10.0): 0.62, ("B", 20.0): 0.78}
    rows = [
        row(
            {"taken": part, "mean_in": 0.2, "mean_out": 0.2 * part}, "response", size_cm=22, texture=texture, sigma_hu=s
        )
        for (texture, s), part in taken.items()
    ]
    rows.append(
        row({"regions": {r: {"sigma_in": 5.0, "taken": 0.1} for r in ("parenchyma", "soft")}}, "chest", dose=0.25)
    )
    for dose, most in ((0.05, 0.7), (0.1, 0.8), (0.25, 0.8)):
        curve = [[0.0, 0.0, 1.0, 0.0], [0.6, 0.5, 0.96, 0.04], [1.0, most, 0.9, 0.1]]
        rows.append(row({"tradeoff": curve}, "noise", dose=dose, kernel="hann"))
    found = {(each.what, each.case): each for each in quality_physics.judged("m", Results(rows)) if not each.detail}
    verdicts = {case: (each.value, each.verdict) for case, each in found.items()}
    assert verdicts == {
        ("noise taken", "σ 10 HU, least: 22 cm, B"): (0.62, MET),
        ("noise taken", "σ 20 HU, least: 22 cm, B"): (0.78, MET),
        ("step of that, per doubling of σ", "most: 10 to 20 HU, 22 cm, B"): (pytest.approx(0.16), MISSED),
        ("mean frequency of what is left", "most: 20 HU, 22 cm, A"): (pytest.approx(-0.2), MET),
        ("noise taken", "chest, 25%, parenchyma, σ 5 HU"): (0.1, ""),
        ("noise taken", "chest, 25%, soft, σ 5 HU"): (0.1, ""),
        ("mean frequency at −50 % noise", "25%"): (pytest.approx(-0.04), MET),
        ("nNPS RMSD at −50 % noise", "25%"): (pytest.approx(0.04), MET),
        ("mean frequency at −75 % noise", "worst: 5%"): (pytest.approx(math.nan, nan_ok=True), MISSED),
    }
    assert found["mean frequency at −75 % noise", "worst: 5%"].note == "no strength takes so much"


def test_cache_computes_once(tmp_path):
    cache = Cache(tmp_path)
    assert cache.get(("a", 0.5), lambda: [1.5, 2]) == [1.5, 2]
    assert cache.get(("a", 0.5), lambda: pytest.fail("again")) == [1.5, 2]
    assert cache.get(("a", 0.6), lambda: 3) == 3


def test_what_was_kept_of_a_scan_does_not_count_for_another_of_its_name(monkeypatch):
    def keys(seed: int) -> tuple:
        volume = phantom.chest(seed=seed, size=64, slices=8)
        monkeypatch.setattr(quality_cases, "scan_volume", lambda scan, size=512: volume)
        quality_cases._tuning_blocks.cache_clear()
        whole = quality_cases.Case(quality_cases.block("nlst", 2), 0.02, "physical")
        named = quality_cases.Block("nlst", "nlst", phantom.chest(seed=0, size=64, slices=8), (1,))
        drawn = quality_cases.Case(named, 0.02, "physical", source=volume)
        monkeypatch.setattr(quality_cases, "present", lambda scan: scan == "lungdx_A0001")
        return whole.key, drawn.key, tuple(quality_cases.tuning_contents())

    first, same, other = keys(1), keys(1), keys(2)
    assert first == same
    assert all(one != another for one, another in zip(first, other, strict=True))
    quality_cases._tuning_blocks.cache_clear()


def test_quick_run_without_scans(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IPV2_DATA", str(tmp_path / "none"))
    rows = quality.main(["ipv2-fast", "--quick", "--only", "1", "2", "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "bars met" in printed
    assert {row.part for row in rows} == {1, 2}
    error = {row.method: row.value for row in rows if row.what == "body RMSE"}
    model = next(name for name in error if name not in ("input", *quality_filters.FILTERS))
    assert max(error[model], error["total variation"]) < 0.9 * error["input"]
    about = json.loads((tmp_path / "out" / "quality.json").read_text(encoding="utf-8"))
    assert about["models"][0]["name"] == model and len(about["models"][0]["weights_sha256"]) == 64
    assert (tmp_path / "out" / "slices.png").stat().st_size > 10_000
    again = quality.main(["ipv2-fast", "--quick", "--only", "2", "--out", str(tmp_path / "out")])
    assert [row.value for row in again] == [row.value for row in rows if row.part == 2]
