"""Labels and statistics of regions: made-up slices with known answers, then the real scans."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.analysis.region_statistics import (
    MOST_SLICES,
    StrengthStatistics,
    denoising_statistics,
    statistics,
    strength_statistics,
)
from IPv2Lib.analysis.regions import outside_field_of_view, segment
from IPv2Lib.errors import InputError
from IPv2Lib.simulation import phantom
from scipy import ndimage


def disc(size, center, radius):
    rows, columns = np.mgrid[:size, :size]
    return (rows - center[0]) ** 2 + (columns - center[1]) ** 2 <= radius**2


def chest_slice(size=128):
    """Body with two lungs, a spine and a vessel, on a table; 128 pixels of 2.7 mm."""
    rows, columns = np.mgrid[:size, :size] / size
    hu = np.full((size, size), -1000.0, np.float32)
    ground_truth = np.full((size, size), Region.BACKGROUND, np.uint8)
    body = ((rows - 0.5) / 0.28) ** 2 + ((columns - 0.5) / 0.42) ** 2 < 1
    lungs = sum(((rows - 0.47) / 0.18) ** 2 + ((columns - c) / 0.14) ** 2 < 1 for c in (0.3, 0.7)) > 0
    spine = disc(size, (0.68 * size, 0.5 * size), 0.06 * size)
    hu[body], ground_truth[body] = 40, Region.SOFT_TISSUE
    hu[lungs], ground_truth[lungs] = -850, Region.LUNG
    hu[spine], ground_truth[spine] = 600, Region.BONE
    hu[int(0.85 * size) : int(0.85 * size) + 2] = -300  # table board
    return hu, ground_truth


def correlated_noise(shape, blur, seed=0):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), (0, blur, blur))
    return noise / noise.std()


def test_every_region_has_a_distinct_name_and_color():
    assert len({region.label for region in Region}) == len({region.color for region in Region}) == 5
    assert all(0 <= channel <= 255 for region in Region for channel in region.color)


@pytest.mark.parametrize("padding", [-1025, -2000, -3024])
@pytest.mark.parametrize("size", [32, 127, 256])
def test_circular_padding_is_found_exactly(size, padding):
    circle = disc(size, (size / 2 - 0.5, size / 2 - 0.5), size / 2)
    array = np.random.default_rng(0).normal(-1000, 60, (2, size, size)).clip(-1024)
    array[:, ~circle] = padding
    np.testing.assert_array_equal(outside_field_of_view(array), np.stack([~circle] * 2))


def test_padding_is_found_although_noise_goes_below_it():
    circle = disc(96, (47.5, 47.5), 48)
    array = np.random.default_rng(0).normal(-1000, 100, (1, 96, 96))
    array[0, ~circle] = -1024
    assert array.min() < -1200
    np.testing.assert_array_equal(outside_field_of_view(array)[0], ~circle)


@pytest.mark.parametrize("sigma", [10, 80, 200])
@pytest.mark.parametrize("blur", [0, 1])
def test_clipped_room_air_is_not_padding(sigma, blur):
    array = (-1000 + sigma * correlated_noise((4, 128, 128), blur)).clip(-1024).astype(np.int16)
    assert not outside_field_of_view(array).any()


def test_constant_room_air_of_a_phantom_is_not_padding():
    assert not outside_field_of_view(chest_slice()[0][None]).any()


def test_padding_of_the_value_at_which_room_air_is_clipped_is_found_but_for_single_pixels():
    circle = disc(256, (127.5, 127.5), 128)
    array = np.random.default_rng(0).normal(-1000, 60, (1, 256, 256)).clip(-1024)
    array[0, ~circle] = -1024
    found = outside_field_of_view(array)[0]
    assert found[~circle].all() and found[circle].sum() < 60


def test_a_bay_of_clipped_air_in_the_padding_is_not_padding():
    circle = disc(128, (63.5, 63.5), 64)
    array = np.random.default_rng(0).normal(-990, 5, (1, 128, 128))
    array[0, ~circle] = array[0, :20, 50:78] = -1024
    found = outside_field_of_view(array)[0]
    assert found[~circle].all()
    assert found[circle].sum() < 50  # of 540 pixels: those between the arc and its chord cannot be told apart


def test_each_slice_has_its_own_padding():
    array = np.zeros((3, 64, 64), np.int16)
    array[1] = -1024
    array[2, :10] = -2000
    assert outside_field_of_view(array).sum(axis=(1, 2)).tolist() == [0, 64 * 64, 640]


@pytest.mark.parametrize(("sigma", "agreement"), [(0, 0.99), (30, 0.985), (100, 0.97), (180, 0.95)])
def test_labels_of_a_known_slice_with_and_without_noise(sigma, agreement):
    hu, ground_truth = chest_slice()
    noise = correlated_noise((1, *hu.shape), 0.6)[0]
    noisy = hu + sigma * noise * np.where(hu > -500, 1, 0.5)
    labels = segment(noisy[None].clip(-1024), (2.7, 2.7, 5.0))[0]
    assert np.mean(labels == ground_truth) > agreement
    assert np.mean(labels[ground_truth == Region.LUNG] == Region.LUNG) > agreement
    assert not np.any(labels[:20] == Region.LUNG)
    assert labels[87, 64] == Region.BONE and labels[64, 64] == Region.SOFT_TISSUE


def test_table_and_its_hollow_inside_are_room_air():
    hu, ground_truth = chest_slice(256)
    hu[214:236, 40:216] = -200
    hu[217:233, 43:213] = -950  # enclosed, dark, and no lung
    labels = segment(hu[None], (1.35, 1.35, 1))[0]
    assert set(np.unique(labels[210:])) == {Region.BACKGROUND}
    assert np.mean(labels == ground_truth) > 0.98


def test_trachea_open_to_the_room_in_another_slice_stays_airway():
    slices = np.full((3, 64, 64), 40.0)
    slices[:, :8] = slices[:, -8:] = -1000
    slices[:, 28:36, 28:36] = -1000
    slices[2, :36, 28:36] = -1000  # cut open in this slice only
    labels = segment(slices, (3, 3, 3))
    assert (labels[:2, 30:34, 30:34] == Region.LUNG).all()
    assert (labels[2, 20:30, 30:34] == Region.BACKGROUND).all()


def test_slices_are_labelled_independently():
    hu, _ = chest_slice(64)
    stack = np.stack([hu, np.full_like(hu, -1000), hu[::-1]])
    together = segment(stack, (5.4, 5.4, 1))
    for index in range(3):
        np.testing.assert_array_equal(together[index], segment(stack[index : index + 1], (5.4, 5.4, 1))[0])


@given(
    shape=st.tuples(st.integers(1, 2), st.integers(2, 40), st.integers(2, 40)),
    low=st.floats(-3000, 0),
    span=st.floats(0, 3000),
    pixel=st.floats(0.1, 20),
    dtype=st.sampled_from([np.int16, np.float32, np.float64]),
)
@settings(max_examples=40, deadline=None)
def test_any_volume_gets_a_label_everywhere_and_padding_is_outside(shape, low, span, pixel, dtype):
    array = np.random.default_rng(0).uniform(low, low + span, shape).astype(dtype)
    labels = segment(array, (pixel, pixel, 1))
    assert labels.shape == shape and labels.dtype == np.uint8 and labels.max() <= 4
    np.testing.assert_array_equal(labels == Region.OUTSIDE, outside_field_of_view(array))


@pytest.mark.parametrize("value", [-1000, -850, 40, 1000])
def test_constant_slices(value):
    expected = {-1000: Region.BACKGROUND, -850: Region.LUNG, 40: Region.SOFT_TISSUE, 1000: Region.BONE}
    assert (segment(np.full((1, 32, 32), value, np.int16)) == expected[value]).all()


@pytest.mark.parametrize("wrong", [np.zeros((4, 4)), np.full((1, 4, 4), np.nan), np.zeros((0, 4, 4))])
def test_what_is_no_volume_is_refused(wrong):
    with pytest.raises(InputError):
        segment(wrong)


def test_refused_spacing_and_shapes():
    volume = np.zeros((1, 8, 8))
    with pytest.raises(InputError, match="positive"):
        segment(volume, (0, 1, 1))
    with pytest.raises(InputError, match="same"):
        statistics(np.zeros((1, 8, 9), np.uint8), volume, volume)


@pytest.mark.parametrize("blur", [0, 0.5, 1.0])
@pytest.mark.parametrize("sigma", [5, 80])
def test_noise_of_known_sigma_is_measured_within_five_percent(blur, sigma):
    noise = sigma * correlated_noise((4, 128, 128), blur)
    labels = np.full(noise.shape, Region.SOFT_TISSUE, np.uint8)
    (result,) = statistics(labels, 40 + noise, 43 + 0.4 * noise)
    assert result.sigma_before == pytest.approx(sigma, rel=0.05)
    assert result.noise_reduction == pytest.approx(0.6, abs=1e-4)
    assert result.bias == pytest.approx(3 - 0.6 * noise.mean(), abs=1e-3)
    assert result.voxels == noise.size and result.region is Region.SOFT_TISSUE


def test_noise_after_blurring_is_not_mistaken_for_less_noise_than_it_is():
    noise = 50 * correlated_noise((4, 128, 128), 0.5)
    blurred = ndimage.gaussian_filter(noise, (0, 1.4, 1.4))
    labels = np.full(noise.shape, Region.LUNG, np.uint8)
    (result,) = statistics(labels, noise, blurred)
    assert result.sigma_after == pytest.approx(blurred.std(), rel=0.06)


def test_anatomy_is_not_noise():
    hu, ground_truth = chest_slice(256)
    rows, columns = np.mgrid[:256, :256]
    hu = hu + (ground_truth == Region.LUNG) * (0.5 * rows - 0.3 * columns)  # density gradient
    for row in range(0, 256, 24):
        hu[row : row + 2, :] = np.where(ground_truth[row : row + 2] == Region.LUNG, 0, hu[row : row + 2])  # vessels
    hu = hu[None]
    noise = correlated_noise(hu.shape, 1.0)
    before = hu + 20 * noise
    by_region = {result.region: result for result in statistics(ground_truth[None], before, hu + 5 * noise)}
    for region in (Region.LUNG, Region.SOFT_TISSUE, Region.BACKGROUND):
        assert by_region[region].sigma_before == pytest.approx(20, rel=0.15), region
        assert by_region[region].noise_reduction == pytest.approx(0.75, abs=0.05), region


def test_regions_without_pixels_or_core():
    labels = np.full((1, 32, 32), Region.SOFT_TISSUE, np.uint8)
    labels[0, 5, 5] = Region.BONE
    labels[0, :2] = Region.OUTSIDE
    results = statistics(labels, np.zeros(labels.shape), np.ones(labels.shape))
    assert [result.region for result in results] == [Region.SOFT_TISSUE, Region.BONE]
    assert np.isnan(results[1].sigma_before) and results[1].voxels == 1 and results[1].bias == 1
    assert results[0].sigma_before == 0 and np.isnan(results[0].noise_reduction)


def denoised_chest(slices=3):
    """Labels, noisy volume, and a denoised one whose noise is partly new and partly what is left of the old."""
    hu, ground_truth = chest_slice(192)
    labels = np.stack([ground_truth] * slices)
    old, new = (correlated_noise(labels.shape, 0.8, seed) for seed in (1, 2))
    before = hu + 60 * old
    return labels, before.astype(np.float32), (hu + 3 + 12 * old + 15 * new).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
@pytest.mark.parametrize("strength", [0.0, 0.2, 0.5, 0.77, 0.95, 1.0])
def test_statistics_of_any_strength_are_those_of_the_blended_volume(strength, dtype):
    labels, before, output = denoised_chest()
    before, output = (np.rint(array).astype(dtype) for array in (before, output))
    blended = before.astype(np.float32) + np.float32(strength) * (output.astype(np.float32) - before)
    expected = statistics(labels, before, blended)
    found = strength_statistics(labels, before, output).at(strength)
    assert [row.region for row in found] == [row.region for row in expected]
    for row, ground_truth in zip(found, expected, strict=True):
        assert row.voxels == ground_truth.voxels
        assert (row.mean_before, row.mean_after) == pytest.approx(
            (ground_truth.mean_before, ground_truth.mean_after), abs=0.01
        )
        assert row.bias == pytest.approx(ground_truth.bias, abs=0.01)
        # `statistics` judges by the blended volume where it is flat: other, and in bone few, places.
        close = 0.1 if row.region is Region.BONE else 0.03
        assert row.sigma_before == pytest.approx(ground_truth.sigma_before, rel=close)
        assert row.sigma_after == pytest.approx(ground_truth.sigma_after, rel=close)
        assert row.noise_reduction == pytest.approx(ground_truth.noise_reduction, abs=close)


def test_a_strength_of_one_gives_exactly_what_statistics_finds():
    labels, before, output = denoised_chest()
    for row, ground_truth in zip(
        strength_statistics(labels, before, output).at(1), statistics(labels, before, output), strict=True
    ):
        assert vars(row) == pytest.approx(vars(ground_truth), rel=1e-12)


def test_a_perfect_result_has_no_noise_at_full_strength_and_never_an_imaginary_one():
    labels, before, _ = denoised_chest()
    rows = strength_statistics(labels, before, np.zeros_like(before))
    for strength in np.linspace(0, 1, 21):
        for row in rows.at(strength):
            assert row.sigma_after == pytest.approx((1 - strength) * row.sigma_before, abs=1e-3)


def test_strength_statistics_go_through_json():
    labels, before, output = denoised_chest(1)
    labels[:] = np.where(labels == Region.BONE, Region.SOFT_TISSUE, labels)
    labels[0, 96, 96] = Region.BONE  # too small for σ
    found = strength_statistics(labels, before, output)
    text = json.dumps(found.as_dict(), allow_nan=False)
    again = StrengthStatistics.from_dict(json.loads(text))
    assert again.as_dict() == found.as_dict()
    for row, ground_truth in zip(again.at(0.4), found.at(0.4), strict=True):
        assert vars(row) == pytest.approx(vars(ground_truth), nan_ok=True)
    assert np.isnan(again.at(0.4)[-1].sigma_after)


@pytest.mark.parametrize(
    "values", [None, {"liver": {}}, {"lung": {"voxels": 3}}, {"lung": 3}, {"lung": {"voxels": "a"}}]
)
def test_what_are_no_strength_statistics_is_refused(values):
    with pytest.raises(InputError, match="measure them again"):
        StrengthStatistics.from_dict(values)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_statistics_of_an_impossible_strength_are_refused(strength):
    with pytest.raises(InputError, match="from 0"):
        StrengthStatistics(()).at(strength)


def test_a_denoised_scan_is_measured_in_evenly_spaced_slices_by_the_regions_of_the_result():
    """Noise that lifts soft tissue over the threshold of bone does not make bone of it."""
    chest = phantom.chest(seed=3, size=192, slices=2)
    clean = np.tile(chest.array.astype(np.float32), (MOST_SLICES // 2 + 4, 1, 1))
    noisy = clean + 120 * correlated_noise(clean.shape, 0)
    rows = {row.region: row for row in denoising_statistics(noisy, clean, chest.spacing).at(1)}
    assert sum(row.voxels for row in rows.values()) <= MOST_SLICES * clean[0].size
    assert abs(rows[Region.BONE].bias) < 6
    assert abs(rows[Region.SOFT_TISSUE].bias) < 1
    by_noise = {row.region: row for row in statistics(segment(noisy, chest.spacing), noisy, clean)}
    assert by_noise[Region.BONE].bias < -15


@pytest.mark.parametrize("name", ["lungdx_A0002", "nlst_101287", "acrin_042"])
def test_real_scan_is_labelled_the_same_with_the_noise_of_two_percent_dose(data_folder, name):
    image = pytest.importorskip("SimpleITK").ReadImage(str(data_folder / f"{name}.nrrd"))
    middle = image.GetSize()[2] // 2
    clean = pytest.importorskip("SimpleITK").GetArrayFromImage(image[:, :, middle : middle + 1])
    labels = segment(clean, image.GetSpacing())
    outside = outside_field_of_view(clean)
    share = np.bincount(labels[~outside], minlength=5) / (~outside).sum()
    assert 0.12 < share[Region.LUNG] < 0.5 and share[Region.SOFT_TISSUE] > 0.1 and 0.005 < share[Region.BONE] < 0.1
    noise = 100 * correlated_noise(clean.shape, 0.7) * np.where(clean > -500, 1, 0.5)
    noisy = np.where(outside, clean, (clean + noise).clip(-1024))
    again = segment(noisy, image.GetSpacing())
    assert np.mean(again == labels) > 0.97
    assert np.mean(again[labels == Region.LUNG] == Region.LUNG) > 0.97
    assert np.mean(again[labels == Region.BACKGROUND] == Region.LUNG) < 0.005
