"""Borders and their sharpness: the frequency at 50 % of edges blurred by a known amount."""

import math

import numpy as np
import pytest
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.errors import InputError
from IPv2Lib.evaluation import edges
from scipy.special import erf

SIZE = 224
LUNG_HU, TISSUE_HU, BONE_HU = -850.0, 40.0, 540.0


def distances(radius: float) -> np.ndarray:
    """Pixels from the edge of a disk whose centre is not on a pixel; positive inside."""
    place = np.arange(SIZE) - SIZE / 2 + 0.5
    return radius - np.hypot(place[:, None] - 0.3, place + 0.2)


def step(distance_mm: np.ndarray, sigma_mm: float) -> np.ndarray:
    return 0.5 * (1 + erf(distance_mm / sigma_mm / math.sqrt(2)))


def disk(sigma_mm: float, spacing_mm: float, radius: float = 60.0) -> tuple[np.ndarray, np.ndarray]:
    """A disk of soft tissue in lung, blurred by a Gaussian, and its labels."""
    inside = distances(radius)
    image = LUNG_HU + (TISSUE_HU - LUNG_HU) * step(inside * spacing_mm, sigma_mm)
    return image, np.where(inside > 0, Region.SOFT_TISSUE, Region.LUNG).astype(np.uint8)


def lung_border(image: np.ndarray, labels: np.ndarray, spacing_mm: float) -> edges.Border:
    return edges.find_border(image, labels, spacing_mm, Region.LUNG, Region.SOFT_TISSUE)


def analytic(sigma_mm: float) -> float:
    return math.sqrt(math.log(2) / 2) / (math.pi * sigma_mm)


@pytest.mark.parametrize("spacing_mm", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("sigma_mm", [0.5, 0.8, 1.2])
def test_half_frequency_of_a_blurred_disk(sigma_mm, spacing_mm):
    image, labels = disk(sigma_mm, spacing_mm)
    border = lung_border(image, labels, spacing_mm)
    assert edges.half_frequency(edges.edge_spectrum(image, border)) == pytest.approx(analytic(sigma_mm), rel=0.05)


def test_noise_in_image_and_reference_changes_little():
    image, labels = disk(0.8, 0.7)
    rng = np.random.default_rng(0)
    border = lung_border(image + rng.normal(0, 15, image.shape), labels, 0.7)
    spectra = [edges.edge_spectrum(image + rng.normal(0, 80, image.shape), border) for _ in range(5)]
    assert edges.half_frequency(sum(spectra)) == pytest.approx(analytic(0.8), rel=0.05)


def test_results_are_measured_at_the_border_of_the_reference():
    sharp, labels = disk(0.4, 0.7)
    border = lung_border(sharp, labels, 0.7)
    for sigma_mm in (0.8, 1.2):
        blurred = edges.half_frequency(edges.edge_spectrum(disk(sigma_mm, 0.7)[0], border))
        assert blurred == pytest.approx(analytic(sigma_mm), rel=0.05)
    # Smeared by ± 1.4 mm around the circle, though sharp everywhere.
    moved = edges.half_frequency(edges.edge_spectrum(np.roll(sharp, 2, 1), border))
    assert moved < 0.7 * edges.half_frequency(edges.edge_spectrum(sharp, border))


def test_transfer_is_that_of_the_blur():
    image, labels = disk(0.7, 0.7)
    values = edges.transfer(edges.edge_spectrum(image, lung_border(image, labels, 0.7)))
    expected = np.exp(-2 * (math.pi * 0.7 * edges.FREQUENCIES) ** 2)
    assert np.abs(values - expected).max() < 0.02


def test_spectra_of_slices_add_up():
    image, labels = disk(0.6, 0.7)
    blurred, _ = disk(1.0, 0.7)
    border = lung_border(image, labels, 0.7)
    one, other = (edges.edge_spectrum(each, border) for each in (image, blurred))
    assert np.allclose(one + other, 2 * edges.edge_spectrum((image + blurred) / 2, border))


def test_a_thin_shell_of_bone_is_followed_to_its_top():
    spacing_mm, sigma_mm = 0.7, 0.5
    inside = distances(60.0)
    shell = step(inside * spacing_mm, sigma_mm) - 0.8 * step((inside - 5) * spacing_mm, sigma_mm)
    image = TISSUE_HU + (BONE_HU - TISSUE_HU) * shell
    labels = np.where(inside > 0, Region.BONE, Region.SOFT_TISSUE).astype(np.uint8)
    border = edges.find_border(image, labels, spacing_mm, Region.SOFT_TISSUE, Region.BONE)
    assert 1 < border.top < 5 < border.reach
    spectrum = edges.edge_spectrum(image, border)
    assert edges.half_frequency(spectrum) == pytest.approx(analytic(sigma_mm), rel=0.05)
    assert np.abs(spectrum).argmax() == 0


def test_only_clean_stretches_count():
    image, labels = disk(0.7, 0.7)
    whole = lung_border(image, labels, 0.7)
    labels[:, : SIZE // 2][distances(57)[:, : SIZE // 2] > 0] = Region.BONE  # 3 pixels behind the left half
    half = lung_border(image, labels, 0.7)
    assert len(half.rows) == pytest.approx(len(whole.rows) / 2, rel=0.1)
    assert half.columns.min() > SIZE / 2 - 5
    assert edges.half_frequency(edges.edge_spectrum(image, half)) == pytest.approx(analytic(0.7), rel=0.05)


def test_distances_are_sub_pixel_and_signed():
    image, labels = disk(0.7, 0.7)
    border = lung_border(image, labels, 0.7)
    assert np.abs(border.distance - distances(60.0)[border.rows, border.columns]).max() < 0.15
    assert border.reach == 8 and np.abs(border.distance).max() <= 8


def test_without_a_border_there_is_nothing_to_measure():
    image = np.full((64, 64), TISSUE_HU)
    labels = np.full(image.shape, Region.SOFT_TISSUE, np.uint8)
    border = lung_border(image, labels, 0.7)
    assert len(border.rows) == 0
    spectrum = edges.edge_spectrum(image, border)
    assert not spectrum.any() and math.isnan(edges.half_frequency(spectrum))


@pytest.mark.parametrize(
    ("shape", "spacing", "words"), [((4, 5), 0.7, r"\(4, 5\)"), ((6, 6), 0.0, "0.0 mm"), ((2, 6, 6), 1.0, "rows")]
)
def test_what_cannot_be_measured_is_refused(shape, spacing, words):
    labels = np.zeros((6, 6) if len(shape) == 2 else shape, np.uint8)
    with pytest.raises(InputError, match=words):
        lung_border(np.zeros(shape), labels, spacing)
