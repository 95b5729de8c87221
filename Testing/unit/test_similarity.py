"""PSNR, SSIM, GMSD and noise texture against scikit-image, an independent implementation, and known answers."""

import math

import numpy as np
import pytest
from IPv2Lib.analysis.noise import noise_texture
from IPv2Lib.errors import InputError
from IPv2Lib.evaluation import similarity
from scipy import ndimage, signal

EVERYWHERE = np.array([(k, i, j) for k in range(6) for i in range(0, 256, 32) for j in range(0, 256, 32)])
"""Places of patches in slices of 256 by 256."""


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    reference = ndimage.gaussian_filter(rng.normal(0, 2000, (60, 75)), 3)
    return reference, reference + rng.normal(0, 60, reference.shape)


def gmsd_by_convolution(reference: np.ndarray, result: np.ndarray, data_range: float) -> float:
    """Xue et al., step by step, on images scaled to 0..255."""

    def magnitude(image: np.ndarray) -> np.ndarray:
        scaled = image * 255 / data_range
        mean = signal.convolve2d(scaled, np.full((2, 2), 0.25), mode="valid")[::2, ::2]
        across = np.array([[1, 0, -1]] * 3) / 3
        padded = np.pad(mean, 1, mode="edge")
        return np.sqrt(sum(signal.convolve2d(padded, kernel, mode="valid") ** 2 for kernel in (across, across.T)))

    first, second = magnitude(reference), magnitude(result)
    return float(np.std((2 * first * second + 170) / (first**2 + second**2 + 170)))


@pytest.mark.parametrize("data_range", [255.0, 1624.0])
def test_gmsd_is_that_of_its_authors(images, data_range):
    expected = gmsd_by_convolution(*images, data_range)
    assert similarity.gmsd(*images, data_range) == pytest.approx(expected, rel=1e-9)
    assert expected > 0.02


def test_gmsd_grows_with_noise_and_is_symmetric(images):
    reference, noisy = images
    assert similarity.gmsd(reference, reference) == 0
    assert similarity.gmsd(reference, noisy) == similarity.gmsd(noisy, reference)
    worse = similarity.gmsd(reference, reference + 3 * (noisy - reference))
    assert worse > similarity.gmsd(reference, noisy) > 0


@pytest.mark.parametrize("shape", [(4, 4), (5, 9), (3, 20), (2, 2)])
def test_small_slices(shape):
    image = np.arange(math.prod(shape), dtype=float).reshape(shape)
    assert math.isnan(similarity.gmsd(image, image)) == (min(shape) < 4)
    assert math.isnan(similarity.ssim(image, image)) == (min(shape) < 7)


def test_psnr_and_ssim_of_known_errors():
    flat = np.zeros((32, 32), np.float32)
    assert similarity.psnr(flat, flat + 16.24) == pytest.approx(40)
    assert similarity.psnr(flat, flat) == math.inf
    c = (0.01 * 1624) ** 2
    assert similarity.ssim(flat, flat + 100) == pytest.approx(c / (100**2 + c), rel=1e-5)


def test_windowed_clips():
    assert similarity.windowed(np.array([-3000, 0, 3000])).tolist() == [-1024, 0, 600]


@pytest.mark.parametrize(("blur_mm", "spacing"), [(0.7, 0.5), (1.0, 0.7)])
def test_mean_frequency_of_blurred_noise(blur_mm, spacing):
    noise = np.random.default_rng(1).normal(40, 300, (6, 256, 256))
    noise = ndimage.gaussian_filter(noise, (0, blur_mm / spacing, blur_mm / spacing), mode="wrap")
    texture = noise_texture(noise, EVERYWHERE[: 64 * len(noise)], spacing)
    # ∫ f exp(-(2π s f)²) df / ∫ exp(-(2π s f)²) df
    assert texture.mean_frequency == pytest.approx(1 / (2 * math.pi**1.5 * blur_mm), rel=0.07)
    assert texture.variance == pytest.approx(noise.var(), rel=0.1)


def test_white_noise_has_its_variance_and_a_flat_spectrum():
    noise = np.random.default_rng(2).normal(40, 25, (2, 256, 256)).astype(np.float32)
    texture = noise_texture(noise, EVERYWHERE[: 64 * len(noise)], 0.8)
    assert texture.variance == pytest.approx(625, rel=0.03)
    assert np.allclose(texture.power[2:], 625 * 0.8**2, rtol=0.1)
    assert texture.frequency[[1, -1]] == pytest.approx([1 / 32 / 0.8, 0.5 / 0.8])


def test_without_homogeneous_tissue_there_is_no_texture():
    with pytest.raises(InputError, match="homogeneous"):
        noise_texture(np.zeros((1, 64, 64)), np.zeros((0, 3), int), 1.0)


def test_rmse_counts_where_the_mask_says_and_within_the_window():
    reference = np.zeros((4, 4))
    result = np.array([3.0, 4.0, 50.0, 9000.0])[:, None] * np.ones(4)
    where = np.zeros((4, 4), bool)
    where[:2] = True
    assert similarity.rmse(reference, result, where) == pytest.approx(math.sqrt((9 + 16) / 2))
    assert similarity.rmse(reference, result, result == 9000) == 600
