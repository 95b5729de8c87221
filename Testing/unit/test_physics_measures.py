"""Measures of image physics against theory: known noise, known blur, known objects."""

import math

import numpy as np
import pytest
from IPv2Lib.evaluation.edges import FREQUENCIES
from IPv2Lib.evaluation.physics import emphysema, hu, nodules, noise, observer, phantoms, sharpness, structure
from IPv2Lib.evaluation.physics.places import Place
from IPv2Lib.evaluation.physics.results import Results
from IPv2Lib.hounsfield import AIR_HU
from scipy import ndimage

PIXEL = 0.75
SPACING = (PIXEL, PIXEL, 1.5)
EVERYWHERE = np.ones((256, 256), bool)


def realisations(sigma: float = 20.0, blur: float = 0.0, seed: int = 0) -> list[np.ndarray]:
    """Two of one slice of noise each, and the same anatomy."""
    rng = np.random.default_rng(seed)
    found = ndimage.gaussian_filter(rng.normal(0, sigma, (2, 1, 256, 256)), (0, 0, blur, blur), mode="wrap")
    return list(found + np.linspace(-100, 100, 256))


def blurred(images: list[np.ndarray], blur: float) -> list[np.ndarray]:
    return [ndimage.gaussian_filter(image, (0, blur, blur), mode="wrap") for image in images]


def test_spectrum_of_white_noise_is_flat_and_its_integral_the_variance():
    before = realisations(20.0)
    found = noise.compared(before, before, EVERYWHERE, PIXEL)
    power = np.array(found["power_in"])
    assert found["sigma_in"] == pytest.approx(20.0, rel=0.02)
    assert power[1:] == pytest.approx(400 * PIXEL**2, rel=0.25)
    f = np.array(found["frequency"])
    # The corners of the plane of frequencies lie beyond the last ring.
    assert np.trapezoid(2 * np.pi * f * power, f) == pytest.approx(400 * np.pi / 4, rel=0.05)


def test_filtered_noise_has_the_spectrum_and_mean_frequency_of_the_filter():
    blur = 1.5
    before = realisations(20.0)
    found = noise.compared(before, blurred(before, blur), EVERYWHERE, PIXEL)
    f, power = np.array(found["frequency"]), np.array(found["power_out"])
    gaussian = np.exp(-((2 * np.pi * blur * PIXEL * f) ** 2))
    expected = 400 * PIXEL**2 * gaussian
    # White noise through a Gaussian keeps 1 / (2 √π σ) of its magnitude.
    assert found["sigma_out"] == pytest.approx(20 / (2 * math.sqrt(math.pi) * blur), rel=0.05)
    assert power[:8] == pytest.approx(expected[:8], rel=0.3)
    assert found["mean_out"] == pytest.approx((f * expected).sum() / expected.sum(), rel=0.05)
    assert np.array(found["profile_db"])[3:8] == pytest.approx(10 * np.log10(gaussian[3:8]), abs=1.0)
    low, high = found["taken_interval"]
    assert low < found["taken"] < high and high - low < 0.1


def test_anatomy_is_no_noise():
    before = realisations(20.0)
    assert noise.difference(*before).std() == pytest.approx(20.0, rel=0.02)
    alone = [each - np.linspace(-100, 100, 256) for each in before]
    found = (noise.compared(each, each, EVERYWHERE, PIXEL)["power_in"] for each in (before, alone))
    assert next(found) == pytest.approx(next(found))


def test_input_takes_nothing_and_changes_no_texture():
    before = realisations(20.0, blur=0.7)
    found = noise.compared(before, before, EVERYWHERE, PIXEL)
    assert found["taken"] == 0 and found["rmsd"] == 0 and found["mean_interval"] == [1, 1]
    assert not np.any(found["profile_db"])
    unchanged = np.array([[0.0, 1.0, 0.0]] * len(noise.STRENGTHS))
    assert np.array(found["tradeoff"])[:, 1:] == pytest.approx(unchanged, abs=1e-6)


@pytest.mark.parametrize("sigma", [6.0, 60.0])
def test_response_of_a_linear_filter_does_not_depend_on_the_noise(sigma):
    before = realisations(sigma, blur=0.7)
    found = noise.compared(before, blurred(before, 1.0), EVERYWHERE, PIXEL)
    # Gaussians add in squares.
    assert found["taken"] == pytest.approx(1 - 0.7 / math.hypot(0.7, 1.0), abs=0.02)
    assert found["rmsd"] > 0.1 and found["tradeoff"][-1][1] == pytest.approx(found["taken"])
    half = [0.5 * a + 0.5 * b for a, b in zip(before, blurred(before, 1.0), strict=True)]
    alone = noise.compared(before, half, EVERYWHERE, PIXEL)
    expected = alone["taken"], alone["mean_out"] / alone["mean_in"], alone["rmsd"]
    assert found["tradeoff"][5][1:] == pytest.approx(expected)


def test_texture_is_compared_at_the_strength_that_takes_so_much_noise():
    curve = [[0.0, 0.0, 1.0, 0.0], [0.5, 0.4, 0.9, 0.1], [0.9, 0.8, 0.5, 0.3], [1.0, 0.7, 0.1, 0.4]]
    row = {"denoiser": "a", "condition": {"experiment": "noise", "dose": 0.1}, "values": {"tradeoff": curve}}
    results = Results([row])
    assert results.tradeoff("a", 0.6, dose=0.1) == pytest.approx((0.7, 0.2))
    assert results.tradeoff("a", 0.9, dose=0.1) is None and results.tradeoff("a", 0.6, dose=0.2) is None


def test_patches_lie_inside_the_mask():
    mask = np.zeros((200, 200), bool)
    mask[20:180, 40:150] = True
    corners = noise.places(mask)
    assert len(corners) and all(mask[i : i + noise.PATCH, j : j + noise.PATCH].all() for i, j in corners)
    assert len(noise.places(mask[:50])) == 0


# --- sharpness ---


def rod(blur: float, contrast: float = 300.0) -> np.ndarray:
    distance = np.hypot(*(np.indices((120, 120)) - np.array([60.3, 59.6])[:, None, None]))
    fine = np.clip(0.5 + 16.7 - distance, 0, 1) * contrast
    return ndimage.gaussian_filter(fine, blur)


@pytest.mark.parametrize("contrast", [900.0, -35.0, -800.0])
@pytest.mark.parametrize("blur", [1.0, 1.8])
def test_transfer_of_a_known_blur(blur, contrast):
    border = sharpness.rod_border((120, 120), (60.3, 59.6), 16.7 * PIXEL, PIXEL, contrast > 0)
    found = sharpness.measured(rod(blur, contrast)[None], border)
    sigma = math.hypot(blur, 1 / math.sqrt(12)) * PIXEL  # the pixel blurs as well
    assert found["f50"] == pytest.approx(math.sqrt(math.log(2) / 2) / (math.pi * sigma), rel=0.03)
    assert found["f10"] == pytest.approx(math.sqrt(math.log(10) / 2) / (math.pi * sigma), rel=0.05)


def test_noise_leaves_the_sharpness_of_a_faint_rod_unknown():
    rng = np.random.default_rng(0)
    border = sharpness.rod_border((120, 120), (60.3, 59.6), 16.7 * PIXEL, PIXEL, True)
    clear = sharpness.measured(rod(1.0, 300) + rng.normal(0, 20, (6, 120, 120)), border)
    faint = sharpness.measured(rod(1.0, 3) + rng.normal(0, 60, (6, 120, 120)), border)
    low, high = clear["f50_interval"]
    assert low < clear["f50"] < high and high - low < 0.05
    assert faint["f50"] is None and faint["f50_interval"] is None


def test_kernels_blur_the_phantom_as_their_gain_says():
    phantom = phantoms.rods()
    place = next(each for each in phantom.places if each.name == "bone")
    border = sharpness.rod_border(phantom.truth.shape[1:], (place.row, place.column), 12.5, PIXEL, True)
    found = sharpness.measured(phantoms.reconstructed(phantom.truth, "hann"), border)
    values, f = np.array(found["transfer"]), FREQUENCIES[: len(found["transfer"])]
    gain = 0.5 + 0.5 * np.cos(np.pi * f * 2 * PIXEL)
    assert values[f < 0.45] == pytest.approx((gain * np.sinc(f * PIXEL))[f < 0.45], abs=0.06)


# --- the model observer ---


def test_detectability_of_a_disk_in_white_noise_is_what_theory_says():
    size, diameter, contrast, sigma = 25, 6.67, 6.0, 20.0
    distance = np.hypot(*(np.indices((size, size)) - 12))
    disk = contrast * np.clip(0.5 + diameter / 2 - distance, 0, 1).ravel()
    channels = observer.channels(size, diameter)
    rng = np.random.default_rng(3)
    noise_only = rng.normal(0, sigma, (200, size * size))
    absent = noise_only[:50]
    found = observer.detectability((absent + disk) @ channels, absent @ channels, noise_only @ channels)
    ideal = np.linalg.norm(disk) / sigma
    seen = channels.T @ disk
    expected = math.sqrt(seen @ np.linalg.solve(channels.T @ channels, seen)) / sigma
    assert found.low < expected < found.high and found.high - found.low < 0.5 * expected
    assert 0.95 * ideal < expected <= ideal
    assert found.as_dict()["auc_interval"][0] < observer.area(expected) < found.as_dict()["auc_interval"][1]


def test_interval_holds_the_detectability_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    shift, inside = np.array([0.8, 0.5, 0.0]), 0
    for seed in range(100):
        noise_only = rng.normal(size=(80, 3))
        absent = noise_only[:30]
        present = absent + shift + rng.normal(0, 0.2, absent.shape)
        found = observer.detectability(present, absent, noise_only, seed=seed)
        inside += found.low <= np.linalg.norm(shift) <= found.high
    assert inside >= 88


def test_nothing_is_not_detectable():
    noise_only = np.random.default_rng(0).normal(size=(60, 4))
    found = observer.detectability(noise_only[:20], noise_only[:20], noise_only)
    assert found.value == 0 and observer.area(found.value) == 0.5


def test_slices_that_are_alike_count_less():
    rng = np.random.default_rng(0)
    alone = rng.normal(size=(16, 24, 5))
    alike = ndimage.uniform_filter1d(alone, 3, axis=0)
    assert observer.independent_share(alone) == pytest.approx(1.0, abs=0.1)
    assert observer.independent_share(alike) < 0.6


def test_equivalent_dose_of_the_input_itself_is_its_dose():
    doses, values = [0.1, 0.25, 1.0], [0.6, 1.0, 1.9]
    for dose, value in zip(doses, values, strict=True):
        assert observer.equivalent_dose(doses, values, value) == pytest.approx(dose)
    assert math.isnan(observer.equivalent_dose(doses, values, 0.0))


# --- HU, nodules, emphysema, structure ---


def test_bias_and_uniformity():
    truth = np.zeros((100, 100))
    distance = np.hypot(*(np.indices(truth.shape) - 49.5))
    masks = {"centre": distance < 15, "edge": (distance > 35) & (distance < 45)}
    images = np.stack([truth + 3 + 0.1 * (distance > 30)] * 2)
    assert hu.bias(images, truth, masks["centre"]) == (pytest.approx(3.0), 0.0)
    assert hu.uniformity(images, masks) == pytest.approx(0.1)


def nodule_volume(diameter: float, value: float, background: float = -850.0) -> tuple[np.ndarray, Place]:
    place = Place(20.0, 20.0, diameter, value, "nodule", 8.0)
    k, i, j = np.indices((17, 41, 41))
    distance = np.sqrt(((k - 8) * 1.5) ** 2 + ((i - 20) * PIXEL) ** 2 + ((j - 20) * PIXEL) ** 2)
    covered = np.clip(0.5 + (diameter / 2 - distance) / PIXEL, 0, 1)
    return background + covered * (value - background), place


@pytest.mark.parametrize("diameter", [4.0, 8.0])
def test_contrast_and_diameter_of_a_nodule(diameter):
    volume, place = nodule_volume(diameter, 50.0)
    assert nodules.contrast(volume, place, SPACING) == pytest.approx(900, rel=0.06)
    assert nodules.diameter(volume, place, SPACING) == pytest.approx(diameter, rel=0.1)
    faded = -850 + 0.4 * (volume + 850)
    assert nodules.contrast(faded, place, SPACING) == pytest.approx(0.4 * nodules.contrast(volume, place, SPACING))
    assert math.isnan(nodules.diameter(faded, place, SPACING))


def test_what_looks_like_a_nodule_is_found_where_it_is():
    lung = np.full((2, 60, 60), -850.0)
    patches = nodules.whole_patches(np.ones(lung.shape, bool))
    assert len(patches) == 8 and nodules.excess(lung, patches, PIXEL).max() < 1e-9
    lung[1, 9:14, 33:38] = -600
    found = nodules.excess(lung, patches, PIXEL)
    assert [patches[at] for at in np.flatnonzero(found > 1)] == [(1, 0, 24)] and found.max() == pytest.approx(
        250, rel=0.02
    )


def test_share_of_emphysema():
    volume = np.full((4, 10, 10), -860.0)
    volume[0] = -980
    lung = np.ones(volume.shape, bool)
    assert emphysema.share(volume, lung) == 0.25
    lung[0, :5] = False
    assert emphysema.share(volume, lung) == pytest.approx(5 / 35)
    assert math.isnan(emphysema.share(volume, np.zeros(volume.shape, bool)))


def test_noise_has_no_structure_and_lost_edges_have():
    rng = np.random.default_rng(0)
    truth = np.where(np.indices((1, 128, 128))[2] > 64, 40.0, -850.0)
    removed = rng.normal(0, 20, truth.shape)
    everywhere = np.ones(truth.shape, bool)
    assert abs(structure.correlation(removed, truth, everywhere)) < 0.02
    lost = truth - ndimage.gaussian_filter(truth, (0, 1, 1))
    assert structure.correlation(removed + lost, truth, everywhere) > 0.4
    assert math.isnan(structure.correlation(removed * 0, truth, everywhere))


# --- phantoms ---


def test_phantoms_hold_what_they_say():
    rods, disks = phantoms.rods(), phantoms.disks()
    for place in rods.places:
        assert rods.truth[0, round(place.row), round(place.column)] == pytest.approx(place.hu)
    assert sorted({place.hu for place in disks.places}) == sorted(phantoms.DISKS.values())
    for place in disks.places:
        assert disks.truth[0, int(place.row), int(place.column)] == pytest.approx(place.hu)
        assert phantoms.disks(False).truth[0, int(place.row), int(place.column)] == 0
    assert phantoms.water(16).truth.min() == AIR_HU


def test_lung_holds_nodules_emphysema_and_nothing_where_it_is_flat():
    lung, flat = phantoms.lung(8, 256), phantoms.lung(8, 256, flat=True)
    assert lung.truth.shape == flat.truth.shape and len(lung.places) >= 8
    for place in lung.places:
        value = lung.truth[int(place.slice), int(place.row), int(place.column)]
        assert value == pytest.approx(place.hu, abs=25)
    assert 0.02 < emphysema.share(lung.truth, lung.masks["inner"]) < 0.4
    assert flat.truth[flat.masks["inner"]].std() < 1e-3 and not flat.places
