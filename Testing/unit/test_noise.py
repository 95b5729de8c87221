"""Noise level and spectrum of noise that is known."""

import numpy as np
import pytest
from IPv2Lib.analysis.noise import PATCH, cut, homogeneous_places, noise_power_spectrum, noise_sigma
from scipy import ndimage


@pytest.mark.parametrize("sigma", [1.0, 20.0, 150.0])
def test_white_noise_on_a_ramp_and_an_edge(sigma):
    rng = np.random.default_rng(1)
    anatomy = np.linspace(-100, 100, 256)[None] + 800.0 * (np.arange(256) > 128)[:, None]
    assert noise_sigma(anatomy + rng.normal(0, sigma, (256, 256))) == pytest.approx(sigma, rel=0.05)


def test_correlated_noise_is_underestimated_by_little():
    rng = np.random.default_rng(2)
    noise = ndimage.gaussian_filter(rng.normal(size=(256, 256)), 1.0)
    assert noise_sigma(30 * noise / noise.std()) == pytest.approx(27, rel=0.1)


def test_without_noise_or_room_the_level_is_zero():
    assert noise_sigma(np.full((64, 64), 40.0)) == 0.0
    assert noise_sigma(np.zeros((2, 2))) == 0.0


def test_a_mask_says_where():
    rng = np.random.default_rng(3)
    image = rng.normal(0, 5, (128, 128))
    image[:, 64:] += rng.normal(0, 50, (128, 64))
    left = np.zeros(image.shape, bool)
    left[:, :62] = True
    assert noise_sigma(image, left) == pytest.approx(5, rel=0.1)


def test_patches_lie_in_soft_tissue():
    rng = np.random.default_rng(4)
    image = np.full((1, 128, 256), -850.0)
    image[:, :, 128:] = 40.0
    image += rng.normal(0, 10, image.shape)
    places = homogeneous_places(image)
    assert len(places) and (places[:, 2] >= 128).all()
    assert cut(image, places).mean() == pytest.approx(40, abs=2)
    assert len(homogeneous_places(np.zeros((1, 8, 8)))) == 0


def test_the_spectrum_integrates_to_the_variance():
    rng = np.random.default_rng(5)
    frequency, power = noise_power_spectrum(rng.normal(0, 12, (200, PATCH, PATCH)), spacing_mm=0.7)
    assert frequency[-1] == pytest.approx(0.5 / 0.7)
    assert power[2:] == pytest.approx(np.full(PATCH // 2 - 1, 144 * 0.49), rel=0.1)
