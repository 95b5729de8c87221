"""Remove noise: exact at strength 0, weaker noise without moved edges, HU and padding kept."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from IPv2Lib.analysis.regions import outside_field_of_view
from IPv2Lib.errors import InputError
from IPv2Lib.io.volume import Volume
from IPv2Lib.progress import Progress
from IPv2Lib.purification.weak_denoiser import weak_denoise
from scipy.ndimage import gaussian_filter1d

SIGMA = 80.0


def slab(noise: float = SIGMA, slices: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Clean and noisy: lung with a vessel in soft tissue, no room air."""
    clean = np.full((slices, 96, 96), 40.0, np.float32)
    clean[:, 24:72, 24:72] = -850.0
    clean[:, 44:50, 24:72] = 40.0
    noisy = clean + np.random.default_rng(1).normal(0, noise, clean.shape).astype(np.float32)
    return clean, noisy


def test_strength_zero_returns_the_input_exactly():
    volume = Volume(slab()[1].astype(np.int16), spacing=(0.7, 0.7, 2.0))
    result = weak_denoise(volume, 0.0)
    assert result.array.dtype == np.int16
    np.testing.assert_array_equal(result.array, volume.array)


def test_noise_falls_steadily_with_strength_while_the_mean_stays():
    clean, noisy = slab()
    sigmas = []
    for strength in (0.0, 0.25, 0.5, 1.0, 1.5, 2.0):
        result = weak_denoise(Volume(noisy), strength).array
        sigmas.append((result - clean)[:, :20].std())
        np.testing.assert_allclose(result.mean((1, 2), dtype=float), noisy.mean((1, 2), dtype=float), atol=0.05)
    assert all(later < earlier for earlier, later in pairwise(sigmas))
    assert sigmas[3] < 0.6 * sigmas[0]


def test_residual_holds_little_of_a_vessel():
    """Averaged along the vessel and over scans, where noise nearly cancels, the residual shows what anatomy it took:
    at most a third of what a Gaussian takes that also halves white noise (standard deviation 0.56 pixels)."""
    clean = slab()[0][:1]
    residuals = []
    for seed in range(8):
        noisy = Volume(clean + np.random.default_rng(seed).normal(0, SIGMA, clean.shape))
        residuals.append(noisy.array - weak_denoise(noisy).array)
    across = np.mean(residuals, axis=(0, 1))[40:54, 30:66].mean(axis=1)
    gaussian = clean[0, 40:54, 40] - gaussian_filter1d(clean[0, :, 40], 0.56)[40:54]
    assert np.abs(across).max() < np.abs(gaussian).max() / 3


def test_strength_follows_the_noise():
    _, weak = slab(10.0)
    _, strong = slab(100.0)
    change = [np.abs(weak_denoise(Volume(noisy)).array - noisy).mean() for noisy in (weak, strong)]
    assert 7 < change[1] / change[0] < 13


def test_padding_and_geometry_come_back():
    _, noisy = slab()
    row, column = np.mgrid[:96, :96] - 47.5
    padding = np.hypot(row, column) > 48
    noisy[:, padding] = -2000
    volume = Volume(noisy, spacing=(0.7, 0.7, 2.0), origin=(1.0, 2.0, 3.0))
    result = weak_denoise(volume)
    assert (result.array[:, padding] == -2000).all()
    assert (result.array[:, ~padding] > -1500).all()
    assert (result.spacing, result.origin, result.direction) == (volume.spacing, volume.origin, volume.direction)


def test_progress_ends_at_one():
    seen = []
    weak_denoise(Volume(slab()[1]), progress=Progress(lambda fraction, text: seen.append(fraction)))
    assert seen == [0.5, 1.0]


@pytest.mark.parametrize("strength", [-0.1, np.nan, np.inf])
def test_bad_strength(strength):
    with pytest.raises(InputError, match="strength"):
        weak_denoise(Volume(slab()[1]), strength)


def test_nan_is_refused():
    _, noisy = slab()
    noisy[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        weak_denoise(Volume(noisy))


@settings(max_examples=30, deadline=None)
@given(
    arrays.arrays(
        np.int16,
        st.tuples(st.integers(1, 2), st.integers(2, 12), st.integers(2, 12)),
        elements=st.integers(-1024, 3071),
    ),
    st.floats(0, 2),
)
def test_any_small_slices(array, strength):
    """Finite, within the range of the input, the mean of every slice without padding kept."""
    array[:, 0, 0], array[:, -1, -1] = -1000, 40
    result = weak_denoise(Volume(array), strength).array
    assert np.isfinite(result).all()
    assert result.min() >= array.min() - 0.1 * np.ptp(array) and result.max() <= array.max() + 0.1 * np.ptp(array)
    whole = ~outside_field_of_view(array).any((1, 2))
    means = (each[whole].mean((1, 2), dtype=float) for each in (result, array))
    np.testing.assert_allclose(*means, atol=1e-4 * np.ptp(array))


def test_hardly_any_strength_changes_nothing():
    array = np.zeros((1, 2, 7), np.int16)
    array[:, 0, 0], array[:, -1, -1] = -1000, 40
    assert np.array_equal(weak_denoise(Volume(array), 1e-70).array, array)
