"""The expected error of a denoised volume: known answers, new noise like the old, calibration with a cheap filter."""

import numpy as np
import pytest
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.analysis.regions import segment
from IPv2Lib.errors import Cancelled, InputError
from IPv2Lib.inference import denoisers
from IPv2Lib.inference.reliability import CALIBRATION, FLOOR_HU, expected_error, with_new_noise
from IPv2Lib.io.volume import Volume
from IPv2Lib.progress import NO_PROGRESS, Progress
from IPv2Lib.simulation import phantom
from scipy import ndimage

SIGMA_HU = 60.0
SIZE = 128
ROWS, COLUMNS = np.indices((SIZE, SIZE)) - 63.5
BODY = np.hypot(ROWS, COLUMNS) < 45
INNER, PADDING = np.hypot(ROWS, COLUMNS) < 35, np.hypot(ROWS, COLUMNS) > 62


def scan_of(noise: np.ndarray, dtype=np.float32) -> tuple[Volume, Volume]:
    """A body of soft tissue in a round field of view, with noise and without."""
    clean = np.where(PADDING, -2000.0, np.where(BODY, 40.0, -1000.0)) * np.ones((3, 1, 1))
    noisy = clean + np.where(PADDING, 0, noise)
    return tuple(Volume(np.rint(each).astype(dtype), (0.7, 0.7, 2.0)) for each in (noisy, clean))


def white(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, SIGMA_HU, (3, SIZE, SIZE))


def nothing(volume: Volume, *, progress: Progress = NO_PROGRESS) -> Volume:
    return volume


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_all_noise_is_expected_of_what_lets_it_pass(dtype):
    noisy, clean = scan_of(white(), dtype)
    found = expected_error(noisy, clean, nothing, calibration={})
    assert np.median(found.expected_error.array[:, INNER]) == pytest.approx(SIGMA_HU, rel=0.05)
    assert found.by_region == {Region.SOFT_TISSUE: pytest.approx(SIGMA_HU, rel=0.1)}
    assert not found.expected_error.array[:, PADDING].any()
    assert found.expected_error.array.dtype == np.float32 and found.expected_error.spacing == noisy.spacing


def test_a_denoiser_that_finds_the_ground_truth_is_as_sure_as_can_be():
    noisy, clean = scan_of(white())
    found = expected_error(noisy, clean, lambda volume, progress: clean)
    assert (found.expected_error.array[:, ~PADDING] == FLOOR_HU).all()


@pytest.mark.parametrize(("strength", "sigma_hu"), [(0.0, SIGMA_HU), (0.5, SIGMA_HU / 2)])
def test_less_strength_leaves_noise(strength, sigma_hu):
    noisy, clean = scan_of(white())
    found = expected_error(noisy, clean, lambda volume, progress: clean, strength=strength)
    assert np.median(found.expected_error.array[:, INNER]) == pytest.approx(sigma_hu, rel=0.05)


def test_errors_are_multiplied_by_the_factor_of_their_region():
    noisy, clean = scan_of(white())
    plain, factor = (
        expected_error(noisy, clean, nothing, calibration=each).by_region[Region.SOFT_TISSUE]
        for each in ({}, {Region.SOFT_TISSUE: 2.0, Region.LUNG: 9.0})
    )
    assert factor == pytest.approx(2 * plain, rel=0.03)


def test_the_seed_decides():
    noisy, clean = scan_of(white())
    first, again, other = (expected_error(noisy, clean, nothing, seed=seed).expected_error.array for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_new_noise_is_as_strong_and_as_coarse_as_the_old_and_not_the_same():
    blurred = ndimage.gaussian_filter(white(seed=7), (0, 2, 2))
    blurred *= SIGMA_HU / blurred.std()
    noisy, clean = scan_of(blurred * np.where(COLUMNS < 0, 0.5, 1.5))
    new = with_new_noise(noisy, clean, 0).array
    old, new = noisy.array - clean.array, new - clean.array
    assert not new[:, PADDING].any()
    for side, sigma in ((COLUMNS < -20, 0.5 * SIGMA_HU), (COLUMNS > 20, 1.5 * SIGMA_HU)):
        assert new[:, INNER & side].std() == pytest.approx(sigma, rel=0.15)

    def correlation(noise: np.ndarray) -> float:
        return np.corrcoef(noise[:, 44:84, 44:82].ravel(), noise[:, 44:84, 46:84].ravel())[0, 1]

    assert correlation(new) == pytest.approx(correlation(old), abs=0.1)
    assert abs(np.corrcoef(old[:, INNER].ravel(), new[:, INNER].ravel())[0, 1]) < 0.1
    assert abs(np.corrcoef(new[0, INNER], new[1, INNER])[0, 1]) < 0.2


def test_a_stop_is_heeded_and_progress_reported():
    noisy, clean = scan_of(white())
    told = []
    expected_error(noisy, clean, nothing, progress=Progress(lambda fraction, text: told.append(fraction)))
    assert told == sorted(told) and told[-1] == 1
    with pytest.raises(Cancelled):
        expected_error(noisy, clean, nothing, progress=Progress(cancelled=lambda: True))


def test_what_is_refused():
    noisy, clean = scan_of(white())
    with pytest.raises(InputError, match="strength"):
        expected_error(noisy, clean, nothing, strength=1.5)
    with pytest.raises(InputError, match="shapes"):
        expected_error(noisy, clean.with_array(clean.array[:2]), nothing)


def test_most_errors_of_a_filter_are_within_what_is_expected():
    """The factors are those of the models: with a filter, the share may be further from 68 %."""
    chest = phantom.chest(seed=3, size=256, slices=1)
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 1, chest.array.shape), (0, 0.7, 0.7))
    padding = chest.array == chest.array[0, 0, 0]
    noisy = chest.with_array(np.where(padding, chest.array, chest.array + 60 / noise.std() * noise).astype(np.float32))
    filtering = denoisers.find("tv", "/nowhere")
    output = filtering.denoise(noisy)
    found = expected_error(noisy, output, filtering.denoise)
    labels, error = segment(chest.array, chest.spacing), np.abs(output.array - chest.array)
    for region in CALIBRATION:
        assert 0.4 < (error <= found.expected_error.array)[labels == region].mean() < 0.9, region
    body = labels >= Region.LUNG
    worst = body & (found.expected_error.array >= np.quantile(found.expected_error.array[body], 0.95))
    assert (error[worst] ** 2).sum() > 3 * 0.05 * (error[body] ** 2).sum()
