"""How slices become one number: sums against direct computation, equal patients, and the bootstrap."""

import math

import numpy as np
import pytest
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.evaluation.distances import load_features
from IPv2Lib.evaluation.measures import BY_NAME, MEASURES, spread
from IPv2Lib.evaluation.scores import Origin, Pool, Reference
from scipy import ndimage

SPACING_MM = 0.7


def chest(slices: int) -> tuple[np.ndarray, np.ndarray]:
    """Air, a round body with round lungs and a bone, slightly blurred, and labels."""
    labels = np.full((160, 160), Region.BACKGROUND, np.uint8)
    labels[:6] = Region.OUTSIDE
    rows, columns = np.ogrid[:160, :160]
    for region, row, column, radius in (
        (Region.SOFT_TISSUE, 81.3, 79.8, 72),
        (Region.LUNG, 60.2, 46.4, 23),
        (Region.LUNG, 59.7, 113.1, 23),
        (Region.BONE, 121.6, 80.3, 14),
    ):
        labels[np.hypot(rows - row, columns - column) < radius] = region
    labels = np.stack([labels] * slices)
    hu = np.array([-2000, -1000, -850, 40, 500], float)[labels]
    return ndimage.gaussian_filter(hu, (0, 1, 1)), labels


@pytest.fixture(scope="module")
def reference() -> Reference:
    image, labels = chest(4)
    return Reference(image, labels, SPACING_MM, load_features())


@pytest.fixture(scope="module")
def noisy(reference) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 1, reference.image.shape)
    strength = np.array([500, 5, 40, 20, 10], float)[reference.labels]
    return reference.image + noise * strength + np.array([7.0, 0, 3, -2, 5])[reference.labels]


def pool(reference: Reference, *results: np.ndarray, patients=("a",), **options) -> Pool:
    origins = [
        Origin(f"case{i}", patient, f"key{i}", tuple(range(len(reference.image)))) for i, patient in enumerate(patients)
    ]
    return Pool([reference.measure(result) for result in results], origins, **options)


def value(found: Pool, name: str) -> float:
    return found.value(BY_NAME[name]).value


def test_errors_by_region_are_those_of_the_pixels(reference, noisy):
    found = pool(reference, noisy)
    windowed = np.clip(noisy.astype(np.float32), -1024, 600) - np.clip(reference.image, -1024, 600)
    body = np.isin(reference.labels, (Region.LUNG, Region.SOFT_TISSUE, Region.BONE))
    assert value(found, "rmse_body_hu") == pytest.approx(np.sqrt(np.mean(windowed[body] ** 2)), rel=1e-5)
    for region in (Region.LUNG, Region.SOFT_TISSUE, Region.BONE, Region.BACKGROUND):
        inside, name = reference.labels == region, region.name.lower()
        assert value(found, f"rmse_{name}_hu") == pytest.approx(np.sqrt(np.mean(windowed[inside] ** 2)), rel=1e-5)
        difference = noisy.astype(np.float32)[inside] - reference.image[inside]
        assert value(found, f"bias_{name}_hu") == pytest.approx(difference.mean(dtype=float), abs=1e-3)


def test_noise_is_found_and_the_reference_has_its_own(reference, noisy):
    found, own = pool(reference, noisy), pool(reference, reference.image)
    for name, sigma in (("background", 5), ("lung", 40), ("soft_tissue", 20), ("bone", 10)):
        assert value(found, f"sigma_{name}_hu") == pytest.approx(sigma, rel=0.2)
        assert value(own, f"sigma_{name}_hu") < 1
    assert value(own, "rmse_body_hu") == 0 and value(own, "psnr_db") == math.inf
    assert value(own, "f50_lung_ratio") == 1


def test_outside_the_field_of_view_nothing_counts(reference, noisy):
    changed = noisy.copy()
    changed[reference.labels == Region.OUTSIDE] = 3000
    first, second = pool(reference, noisy), pool(reference, changed)
    for measure in MEASURES:
        assert first.value(measure).value == pytest.approx(second.value(measure).value, nan_ok=True), measure.name


def test_blur_lowers_sharpness(reference):
    blurred = ndimage.gaussian_filter(reference.image, (0, 1.5, 1.5))
    found = pool(reference, blurred)
    expected = 1 / math.hypot(1.0, 1.5)
    for border in ("lung", "bone"):
        assert value(found, f"f50_{border}_ratio") == pytest.approx(expected, rel=0.07)
        frequency, transfer = found.transfer(border)
        assert (
            transfer[0] == pytest.approx(1)
            and np.interp(value(found, f"f50_{border}_per_mm"), frequency, transfer) < 0.55
        )


def test_noise_power_is_measured_where_the_reference_is_flat():
    image, labels = chest(2)
    labels[labels == Region.LUNG] = Region.SOFT_TISSUE
    image[(labels == Region.SOFT_TISSUE) & (image < 0)] = 40
    found = pool(Reference(image, labels, SPACING_MM), image + np.random.default_rng(1).normal(0, 30, image.shape))
    assert value(found, "nps_variance_hu2") == pytest.approx(900, rel=0.1)
    frequency, power = found.spectrum()
    assert power[1:] == pytest.approx(900 * SPACING_MM**2, rel=0.25)
    assert frequency[-1] == pytest.approx(0.5 / SPACING_MM, abs=0.02)
    assert math.isnan(value(found, "fid"))


def test_every_patient_counts_alike(reference):
    shifts = (4.0, 4.0, 8.0)
    found = pool(reference, *(reference.image + shift for shift in shifts), patients=("a", "a", "b"))
    assert (found.patients, found.slices) == (2, 12)
    assert value(found, "bias_lung_hu") == pytest.approx(6, abs=1e-3)
    assert value(found, "rmse_lung_hu") == pytest.approx(math.sqrt((16 + 64) / 2), rel=1e-4)


def test_intervals_over_patients(reference):
    rng = np.random.default_rng(2)
    shifts = rng.normal(10, 3, 8)
    results = [reference.image + shift for shift in shifts]
    found = pool(reference, *results, patients=list("abcdefgh"), bootstrap=2000)
    bias = found.value(BY_NAME["bias_lung_hu"])
    assert found.resampled == "patients"
    assert bias.value == pytest.approx(shifts.mean(), abs=1e-3)
    reach = 1.96 * shifts.std() / math.sqrt(8)
    assert (bias.low, bias.high) == pytest.approx((shifts.mean() - reach, shifts.mean() + reach), abs=0.35 * reach)


def test_intervals_over_slices_are_seeded_and_can_be_left_out(reference, noisy):
    result = noisy.copy()
    result[0] += 10
    first, again, other = (pool(reference, result, bootstrap=200, seed=seed) for seed in (0, 0, 1))
    measure = BY_NAME["bias_lung_hu"]
    assert first.resampled == "slices"
    assert first.value(measure) == again.value(measure) != other.value(measure)
    assert first.value(measure).low < first.value(measure).value < first.value(measure).high
    none = pool(reference, result, bootstrap=0)
    assert none.resampled == "" and math.isnan(none.value(measure).low)
    fid = first.value(BY_NAME["fid"])
    assert fid.low < fid.value < fid.high and fid == again.value(BY_NAME["fid"])


def test_single_slices(reference, noisy):
    result = noisy.copy()
    result[2] += 10
    biases = pool(reference, result).by_slice(BY_NAME["bias_lung_hu"])
    assert biases[2] - biases[[0, 1, 3]].mean() == pytest.approx(10, abs=1)


def test_a_region_that_is_not_there_has_no_numbers(reference):
    image, labels = chest(1)
    labels[labels == Region.BONE] = Region.SOFT_TISSUE
    found = pool(Reference(image, labels, SPACING_MM), image + 1)
    for name in ("rmse_bone_hu", "bias_bone_hu", "sigma_bone_hu", "f50_bone_per_mm"):
        assert math.isnan(value(found, name))
    assert value(found, "bias_lung_hu") == pytest.approx(1, abs=1e-3)


def test_numbers_for_people():
    row = {"rmse_lung_hu": 47.06, "rmse_lung_hu low": 45.0, "rmse_lung_hu high": None, "ssim": None, "ssim low": None}
    assert spread(row, BY_NAME["rmse_lung_hu"], " low", " high") == "47.1"
    row["rmse_lung_hu high"] = 49.25
    assert spread(row, BY_NAME["rmse_lung_hu"], " low", " high") == "47.1 (45.0 to 49.2)"
    assert spread(row | {"ssim high": None}, BY_NAME["ssim"], " low", " high") == "–"
