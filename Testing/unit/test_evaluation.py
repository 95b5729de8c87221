"""Scores against known answers, against scikit-image and NumPy, and what cannot be compared."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.errors import InputError
from IPv2Lib.evaluation import agreement
from IPv2Lib.io.volume import Volume
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


@pytest.fixture
def slab() -> tuple[Volume, np.ndarray]:
    """Room air with a body of soft tissue around lungs and a bone, and its labels."""
    labels = np.full((3, 96, 96), Region.BACKGROUND, np.uint8)
    labels[:, 12:84, 8:88] = Region.SOFT_TISSUE
    labels[:, 28:64, 16:44] = Region.LUNG
    labels[:, 28:64, 52:80] = Region.LUNG
    labels[:, 68:80, 40:56] = Region.BONE
    hu = np.array([-1024, -1000, -850, 40, 400], np.float32)[labels]
    return Volume(hu, spacing=(4.0, 4.0, 4.0)), labels


def at(scores: agreement.Evaluation, quantity: str, region: Region) -> float:
    return scores[f"{quantity}_{region.name.lower()}_hu"]


def test_identical_volumes_are_perfect(slab):
    volume, labels = slab
    scores = agreement.compare(volume, volume, labels)
    assert (scores["rmse_body_hu"], scores["psnr_db"], scores["ssim"]) == (0.0, math.inf, pytest.approx(1.0))
    assert all(at(scores, quantity, region) == 0 for region in scores.voxels for quantity in ("bias", "rmse"))


def test_a_constant_shift_is_bias_and_rmse_but_no_noise(slab):
    volume, labels = slab
    scores = agreement.compare(volume.with_array(volume.array + 7), volume, labels)
    assert scores["rmse_body_hu"] == pytest.approx(7, abs=1e-3)
    assert scores["psnr_db"] == pytest.approx(20 * math.log10(1624 / 7), abs=1e-3)
    for region in scores.voxels:
        assert at(scores, "bias", region) == pytest.approx(7, abs=1e-3)
        assert at(scores, "rmse", region) == pytest.approx(7, abs=1e-3)
        name = f"sigma_{region.name.lower()}_hu"
        assert scores[name] == pytest.approx(scores.own[name], abs=1e-3)


def test_white_noise_is_measured_in_each_region(slab):
    volume, labels = slab
    strength = np.array([0, 5, 30, 20, 10], np.float32)[labels]
    noise = np.random.default_rng(0).normal(size=labels.shape).astype(np.float32) * strength
    scores = agreement.compare(volume.with_array(volume.array + noise), volume, labels)
    assert at(scores, "rmse", Region.LUNG) == pytest.approx(30, rel=0.05)
    assert at(scores, "sigma", Region.LUNG) == pytest.approx(30, rel=0.15)
    assert at(scores, "sigma", Region.SOFT_TISSUE) == pytest.approx(20, rel=0.15)
    assert scores.voxels[Region.LUNG] == np.count_nonzero(labels == Region.LUNG)


def test_scores_agree_with_scikit_image_and_numpy(slab):
    volume, labels = slab
    result = volume.array + np.random.default_rng(1).normal(0, 60, labels.shape).astype(np.float32)
    scores = agreement.compare(volume.with_array(result), volume, labels)
    a, b = (np.clip(array, -1024, 600).astype(np.float64) for array in (volume.array, result))
    body = labels >= Region.LUNG
    assert scores["rmse_body_hu"] == pytest.approx(np.sqrt(np.mean((a - b)[body] ** 2)), rel=1e-5)
    assert scores["psnr_db"] == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1624), rel=1e-5)
    similar = [structural_similarity(x, y, data_range=1624) for x, y in zip(a, b, strict=True)]
    assert scores["ssim"] == pytest.approx(np.mean(similar), rel=1e-4)


def test_beyond_the_window_only_bias_counts(slab):
    volume, labels = slab
    metal = np.where(labels == Region.BONE, 1000, volume.array).astype(np.float32)
    more = np.where(labels == Region.BONE, 3000, volume.array).astype(np.float32)
    scores = agreement.compare(volume.with_array(more), volume.with_array(metal), labels)
    assert scores["rmse_body_hu"] == 0
    assert at(scores, "bias", Region.BONE) == pytest.approx(2000)


def test_regions_come_from_the_reference_and_padding_does_not_count(slab):
    volume, labels = slab
    padded = volume.array.copy()
    rows, columns = np.ogrid[:96, :96]
    padded[:, (rows - 47.5) ** 2 + (columns - 47.5) ** 2 > 55**2] = -2000
    noisy = padded + np.random.default_rng(2).normal(0, 20, labels.shape).astype(np.float32)
    scores = agreement.compare(volume.with_array(noisy), volume.with_array(padded))
    assert Region.OUTSIDE not in scores.voxels
    assert scores.voxels[Region.LUNG] == pytest.approx(np.count_nonzero(labels == Region.LUNG), rel=0.1)
    assert scores["rmse_body_hu"] == pytest.approx(20, rel=0.1)


@settings(max_examples=25, deadline=None)
@given(shift=st.floats(-200, 200), shape=st.tuples(st.integers(1, 3), st.integers(2, 20), st.integers(2, 20)))
def test_any_shape_is_scored_and_becomes_json(shift, shape):
    reference = Volume(np.linspace(-800, 300, math.prod(shape), dtype=np.float32).reshape(shape))
    labels = np.full(shape, Region.SOFT_TISSUE, np.uint8)
    scores = agreement.compare(reference.with_array(reference.array + np.float32(shift)), reference, labels)
    assert scores["rmse_body_hu"] == pytest.approx(abs(shift), abs=0.01)
    assert math.isnan(scores["ssim"]) == (min(shape[1:]) < 7)
    json.dumps(scores.as_dict(), allow_nan=False)
    assert "Soft tissue" in agreement.table(scores)


def test_without_a_body_there_is_no_body_rmse(slab):
    volume, labels = slab
    scores = agreement.compare(volume, volume, np.full_like(labels, Region.BACKGROUND))
    assert math.isnan(scores["rmse_body_hu"])
    assert scores.as_dict()["body_rmse_hu"] is None


def test_the_table_is_aligned(slab):
    volume, labels = slab
    noise = np.random.default_rng(3).normal(3, 100, labels.shape).astype(np.float32)
    text = agreement.table(agreement.compare(volume.with_array(volume.array + noise), volume, labels))
    rows = text.splitlines()[len(agreement.OVERALL) + 2 :]
    assert len({len(row) for row in rows}) == 1
    assert [row.split("  ")[0] for row in rows[1:]] == ["Outside the body", "Lung and airways", "Soft tissue", "Bone"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spacing": (4.0, 4.0, 5.0)}, ["4 × 4 × 5 mm", "4 × 4 × 4 mm", "resample"]),
        ({"origin": (10.0, 0.0, 0.0)}, ["(10, 0, 0)", "(0, 0, 0)"]),
        ({"array": np.zeros((3, 96, 95), np.float32) - np.eye(96, 95, dtype=np.float32) * 500}, ["95 × 96 × 3"]),
    ],
)
def test_different_grids_are_named(slab, change, words):
    volume, _ = slab
    geometry = {"array": volume.array, "spacing": volume.spacing, "origin": volume.origin} | change
    with pytest.raises(InputError) as error:
        agreement.compare(Volume(**geometry), volume)
    for word in words:
        assert word in str(error.value)


def test_labels_of_another_shape_are_refused(slab):
    volume, labels = slab
    with pytest.raises(InputError, match=r"\(2, 96, 96\)"):
        agreement.compare(volume, volume, labels[:2])


def test_nan_is_refused(slab):
    volume, labels = slab
    broken = volume.array.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        agreement.compare(volume.with_array(broken), volume, labels)
