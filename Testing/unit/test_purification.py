"""Purification against the formulas, against OpenCV, and at its borders."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from IPv2Lib.analysis import regions
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.errors import Cancelled, InputError
from IPv2Lib.hounsfield import window_8bit
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume, same_grid
from IPv2Lib.progress import Progress
from IPv2Lib.purification import purify as purification
from IPv2Lib.purification.masks import background, dark_mask, otsu_threshold
from IPv2Lib.purification.purify import purify
from IPv2Lib.purification.settings import ABLATION, IPV1, IPV2, Settings
from IPv2Lib.purification.stages import BACKGROUND, LABELS, LUNG, OUTSIDE
from IPv2Lib.purification.weak_denoiser import weak_denoise
from IPv2Lib.simulation import dose

SIZE = 64
SPACING = (4.0, 4.0, 5.0)
MASKS_ONLY = replace(IPV2, add_noise=False, remove_noise=False)


def chest(shift: int = 0) -> np.ndarray:
    """Two slices: body of 40 HU in room air, two lungs, the left one moved down by `shift` pixels."""
    array = np.full((2, SIZE, SIZE), -1000.0, np.float32)
    array[:, 12:52, 8:56] = 40.0
    array[:, 20 + shift : 42 + shift, 13:29] = -850.0
    array[:, 20:42, 35:51] = -850.0
    return array


def noisy(array: np.ndarray, sigma: float = 60.0, seed: int = 0) -> np.ndarray:
    return (array + np.random.default_rng(seed).normal(0, sigma, array.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def pair() -> tuple[Volume, Volume]:
    return Volume(noisy(chest(shift=3)), SPACING), Volume(noisy(chest(), sigma=8, seed=1), SPACING)


# The published procedure, with the OpenCV calls that it names.


def published_dark(grey: np.ndarray) -> np.ndarray:
    _, mask = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))
    around = np.ones((3, 3), np.float32)
    around[1, 1] = 0
    neighbours = cv2.filter2D((mask > 0).astype(np.float32), -1, around, borderType=cv2.BORDER_CONSTANT)
    return (mask > 0) & (neighbours > 0)


def published_background(mask: np.ndarray) -> np.ndarray:
    """Flood fill from every border pixel (correction 1) of a boolean union (correction 2)."""
    filled = np.ascontiguousarray(mask, np.uint8)
    rows, columns = mask.shape
    border = [(x, y) for y in range(rows) for x in range(columns) if x in (0, columns - 1) or y in (0, rows - 1)]
    for seed in border:
        if filled[seed[1], seed[0]] == 1:
            cv2.floodFill(filled, None, seed, 2, flags=4)
    return filled == 2


def assert_as_published(low: np.ndarray, normal: np.ndarray) -> None:
    for index in range(len(low)):
        grey = [window_8bit(array[index]) for array in (low, normal)]
        expected = [published_dark(image) for image in grey]
        found = [dark_mask(array[index : index + 1])[0] for array in (low, normal)]
        for image, one, other in zip(grey, found, expected, strict=True):
            assert otsu_threshold(image) == cv2.threshold(image, 0, 255, cv2.THRESH_OTSU)[0]
            np.testing.assert_array_equal(one, other)
        union = expected[0] | expected[1]
        np.testing.assert_array_equal(background(union[None])[0], published_background(union))


def test_masks_are_those_of_opencv(pair):
    assert_as_published(pair[0].array, pair[1].array)


def test_masks_are_those_of_opencv_on_real_slices(data_folder):
    for name in ("lungdx_A0001", "nlst_101287"):
        array = files.read(data_folder / f"{name}.nrrd").array
        slices = array[np.linspace(1, len(array) - 2, 3).astype(int)]
        assert_as_published(noisy(slices, 80.0), slices)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        np.uint8,
        st.tuples(st.integers(2, 12), st.integers(2, 12)),
        elements=st.one_of(st.integers(0, 255), st.sampled_from([0, 90, 180, 255])),
    )
)
def test_any_8bit_slice_as_opencv(grey):
    hu = grey[None] * (1400 / 255) - 1000
    np.testing.assert_array_equal(window_8bit(hu)[0], grey)
    assert_as_published(hu, hu)


def test_published_setting_is_the_published_cm2(pair):
    stages = purify(*pair, replace(MASKS_ONLY, drop_enclosed_air=False))
    for index in range(len(stages.cm2)):
        union = published_dark(window_8bit(pair[0].array[index])) | published_dark(window_8bit(pair[1].array[index]))
        np.testing.assert_array_equal(stages.cm2[index], union & ~published_background(union))


# The images.


def test_ipv1_is_the_identity_inside_cm1(pair):
    uldct, ndct = pair
    stages = purify(uldct, ndct, IPV1)
    inside = stages.cm1
    np.testing.assert_array_equal(stages.training_input.array[inside], ndct.array[inside])
    np.testing.assert_array_equal(stages.test_label.array[inside], uldct.array[inside])
    np.testing.assert_allclose(
        stages.training_input.array[~inside], (0.9 * uldct.array + 0.1 * ndct.array)[~inside], atol=1e-3
    )
    np.testing.assert_array_equal(stages.test_label.array[~inside], ndct.array[~inside])
    assert stages.simulated is None and stages.weakly_denoised is None


def test_ipv2_is_its_formula(pair):
    uldct, ndct = pair
    stages = purify(uldct, ndct, replace(IPV2, seed=3))
    inside = stages.cm2
    simulated = dose.simulate(ndct, 0.02, seed=3).array
    weak = weak_denoise(uldct).array
    np.testing.assert_array_equal(stages.training_input.array, np.where(inside, simulated, uldct.array))
    np.testing.assert_array_equal(stages.test_label.array, np.where(inside, weak, ndct.array))
    for name in ("uldct", "ndct", "training_input", "test_label", "simulated", "weakly_denoised"):
        assert same_grid(getattr(stages, name), uldct)


@pytest.mark.parametrize("name", list(ABLATION))
def test_every_row_of_the_ablation(name, pair):
    uldct, ndct = pair
    row = ABLATION[name]
    assert (row.remove_background, row.add_noise) == (
        name in ("ipv1+remove-background", "ipv2"),
        "noise" in name or name == "ipv2",
    )
    stages = purify(uldct, ndct, row)
    inside = stages.cm2 if row.remove_background else stages.cm1
    content = stages.simulated.array if row.add_noise else ndct.array
    np.testing.assert_array_equal(stages.training_input.array, np.where(inside, content, uldct.array))


def test_blend_of_one_gives_the_ndct_outside_the_mask(pair):
    stages = purify(*pair, replace(MASKS_ONLY, blend=1.0))
    np.testing.assert_array_equal(stages.training_input.array, pair[1].array)


def test_both_breaths_are_in_the_lung_mask(pair):
    stages = purify(*pair, MASKS_ONLY)
    for array in (chest(3), chest(0)):
        lung = regions.segment(array, SPACING) == Region.LUNG
        assert stages.cm2[lung].mean() > 0.95
    assert not stages.cm2[chest() == -1000].any()
    assert {value for value, _, _ in LABELS} == {0, 1, 2, 3}
    np.testing.assert_array_equal(stages.labels == LUNG, stages.cm2)
    np.testing.assert_array_equal(stages.labels == BACKGROUND, stages.background)


def test_masks_do_not_move_the_input(pair):
    before = pair[0].array.copy(), pair[1].array.copy()
    purify(*pair)
    np.testing.assert_array_equal(pair[0].array, before[0])
    np.testing.assert_array_equal(pair[1].array, before[1])


def test_steps_come_in_the_order_of_the_method(pair):
    names = [name for name, _, _ in purify(*pair, MASKS_ONLY).steps()]
    assert names == [
        "uldct",
        "ndct",
        "dark_uldct",
        "dark_ndct",
        "cm1",
        "background",
        "cm2",
        "training_input",
        "test_label",
        "labels",
    ]
    stages = purify(*pair)
    assert {"simulated", "weakly_denoised"} <= {name for name, _, _ in stages.steps()}


# The two corrections, and the border.


def test_body_that_touches_the_corner():
    """Flood fill from pixel (0, 0) would find no background here."""
    array = chest()
    array[:, :6, :40] = 40.0
    mask = dark_mask(array)
    assert not mask[:, 0, 0].any()
    found = background(mask)
    assert found[:, 60, 30].all() and not found[:, 30, 20].any()
    published = mask[0].astype(np.uint8)
    cv2.floodFill(published, None, (0, 0), 2, flags=4)
    assert published[60, 30] != 2


def test_union_is_boolean(pair):
    """255 + 255 wraps to 254 in 8 bits, a blend weight of 0.996: HU would move by up to 4 in 1000."""
    stages = purify(*pair, IPV1)
    both = stages.dark_uldct & stages.dark_ndct
    assert stages.cm1.dtype == bool and both.any()
    np.testing.assert_array_equal(stages.training_input.array[both], pair[1].array[both])


def test_border_is_followed_through_4_neighbours_only():
    mask = np.zeros((1, 5, 5), bool)
    mask[0, 0, 0] = mask[0, 1, 1] = True
    assert background(mask).sum() == 1


def test_slices_are_not_connected_with_each_other():
    mask = np.zeros((2, 9, 9), bool)
    mask[0, :, 4] = True
    mask[1, 4, 4] = True
    assert not background(mask)[1].any()


@pytest.mark.parametrize("padding", [-2000.0, -3024.0, -1024.0])
def test_padding_is_background_and_does_not_move_the_lung_mask(padding):
    """A circular field of view that touches the body cuts the room air into islands."""
    plain = noisy(chest(), 20.0)
    row, column = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    outside = np.hypot(row, column) > SIZE / 2 - 1
    padded = plain.copy()
    padded[:, outside] = padding
    stages = purify(Volume(padded, SPACING), Volume(padded, SPACING), MASKS_ONLY)
    assert not stages.cm2[:, outside].any()
    assert (stages.labels[:, outside] == OUTSIDE).mean() > 0.98
    lung = chest() == -850
    assert stages.cm2[lung].mean() > 0.95
    assert not stages.cm2[~lung & (chest() < -900)].any()


def test_air_enclosed_by_the_table_is_dropped_unless_published():
    array = chest()
    array[:, 55:62, 8:56] = 100.0
    array[:, 57:60, 10:54] = -1000.0
    volume = Volume(array, SPACING)
    in_table = np.zeros(array.shape, bool)
    in_table[:, 57:60, 12:52] = True
    assert not purify(volume, volume, MASKS_ONLY).cm2[in_table].any()
    assert purify(volume, volume, replace(MASKS_ONLY, drop_enclosed_air=False)).cm2[in_table].all()


def test_fixed_threshold():
    array = np.full((1, 16, 16), -300.0)
    array[0, 4:12, 4:12] = -600.0
    assert not dark_mask(array, threshold_hu=-700)[0, 8, 8]
    assert dark_mask(array, threshold_hu=-600)[0, 8, 8] and not dark_mask(array, threshold_hu=-600)[0, 1, 1]


@pytest.mark.parametrize(("value", "dark"), [(-1000.0, True), (-500.0, False), (400.0, False)])
def test_constant_slice(value, dark):
    assert (dark_mask(np.full((1, 8, 8), value)) == dark).all()


def test_one_slice_of_two_by_two_pixels():
    array = np.array([[[-1000.0, 40.0], [-1000.0, 40.0]]])
    stages = purify(Volume(array), Volume(array), MASKS_ONLY)
    assert stages.training_input.array.shape == (1, 2, 2) and not stages.cm2.any()


# Pairs on different grids.


def test_ndct_on_another_grid_is_resampled(pair):
    uldct, _ = pair
    fine = np.repeat(np.repeat(chest(), 2, axis=1), 2, axis=2)
    x, y, z = (-1.0, -1.0, 0.0)
    ndct = Volume(fine, (2.0, 2.0, 5.0), origin=(x, y, z))
    stages = purify(uldct, ndct, MASKS_ONLY)
    assert same_grid(stages.ndct, uldct)
    np.testing.assert_allclose(stages.ndct.array, chest(), atol=1e-2)


def test_where_the_ndct_ends_there_is_no_pair(pair):
    uldct, ndct = pair
    shorter = replace(ndct, array=ndct.array[:1])
    stages = purify(uldct, shorter, MASKS_ONLY)
    assert (stages.labels[1] == OUTSIDE).all() and not stages.cm2[1].any()
    assert (stages.labels[0] != OUTSIDE).all()
    np.testing.assert_array_equal(stages.training_input.array[1], uldct.array[1])


@pytest.mark.parametrize("origin", [(5000.0, 0.0, 0.0), (0.0, 0.0, -300.0), (240.0, 0.0, 0.0)])
def test_no_overlap_is_refused_with_its_size(pair, origin):
    uldct, ndct = pair
    with pytest.raises(InputError, match=r"covers \d+ % of the uLDCT.*one patient"):
        purify(uldct, replace(ndct, origin=origin), MASKS_ONLY)


# Bad input.


@pytest.mark.parametrize(
    "bad",
    [
        {"blend": -0.1},
        {"blend": 1.1},
        {"blend": np.nan},
        {"low_hu": 400.0},
        {"high_hu": np.inf},
        {"threshold_hu": np.nan},
        {"dose": 0.0},
        {"dose": 1.5},
        {"dose": np.nan},
        {"method": "magic"},
        {"kernel": "B99"},
        {"kernel": 7.0},
        {"seed": -1},
        {"weak_strength": -1.0},
        {"weak_strength": np.inf},
    ],
)
def test_bad_settings(bad):
    with pytest.raises(InputError):
        Settings(**bad)


@pytest.mark.parametrize("which", [0, 1])
def test_nan_is_refused(pair, which):
    volumes = list(pair)
    array = volumes[which].array.copy()
    array[0, 5, 5] = np.nan
    volumes[which] = volumes[which].with_array(array)
    with pytest.raises(InputError, match="NaN"):
        purify(*volumes)
    with pytest.raises(InputError, match="NaN"):
        dark_mask(array)


def test_a_slice_is_no_volume():
    with pytest.raises(InputError, match="volume"):
        dark_mask(np.zeros((8, 8)))


def test_cancel(pair):
    with pytest.raises(Cancelled):
        purify(*pair, progress=Progress(cancelled=lambda: True))


def test_progress_rises_to_one(pair):
    seen = []
    purify(*pair, progress=Progress(lambda fraction, text: seen.append(fraction)))
    assert seen == sorted(seen) and seen[0] == 0 and seen[-1] == 1


# Properties.

hu_slices = arrays.arrays(
    np.int16, (2, 9, 11), elements=st.one_of(st.integers(-1100, 1500), st.sampled_from([-2000, -1000, -850, 40]))
)


@hypothesis_settings(max_examples=60, deadline=None)
@given(hu_slices, hu_slices, st.booleans(), st.floats(0, 1))
def test_masks_and_images_of_anything(low, normal, drop, blend):
    for array in (low, normal):
        array[:, 0, 0], array[:, -1, -1] = -1000, 40
    settings = replace(MASKS_ONLY, drop_enclosed_air=drop, blend=blend)
    stages = purify(Volume(low), Volume(normal), settings)
    assert not (stages.cm2 & ~stages.cm1).any()
    assert not (stages.cm2 & stages.background).any()
    np.testing.assert_array_equal(stages.cm2 | (stages.background & stages.cm1), stages.cm1)
    inside = stages.cm2
    np.testing.assert_array_equal(stages.test_label.array[~inside], normal[~inside])
    np.testing.assert_array_equal(stages.training_input.array[inside], normal[inside])
    between = np.minimum(low, normal) - 1e-2, np.maximum(low, normal) + 1e-2
    assert (stages.training_input.array >= between[0]).all() and (stages.training_input.array <= between[1]).all()
    if blend == 0:
        np.testing.assert_array_equal(stages.training_input.array[~inside], low[~inside])


@pytest.mark.parametrize("settings", [IPV2, IPV1, replace(IPV2, blend=0.3), replace(IPV2, add_noise=False)])
def test_differences_show_what_the_modules_change(pair, settings):
    stages = purify(*pair, settings)
    plain = replace(settings, remove_background=False, add_noise=False, remove_noise=False)
    ipv1 = purify(*pair, plain)
    assert settings.has_modules == (settings != IPV1)
    if not settings.has_modules:
        assert stages.training_input_difference is None and stages.test_label_difference is None
        return
    for found, mine, theirs in (
        (stages.training_input_difference, stages.training_input, ipv1.training_input),
        (stages.test_label_difference, stages.test_label, ipv1.test_label),
    ):
        assert found.array.dtype == np.float32 and found.affine.tolist() == stages.uldct.affine.tolist()
        np.testing.assert_allclose(found.array, mine.array - theirs.array, atol=1e-3)
        assert np.abs(found.array).max() > 5


def moved(volume: Volume, grid: str) -> Volume:
    """The same scan on another grid."""
    array, spacing, origin = volume.array, volume.spacing, np.array(volume.origin)
    if grid == "more slices":
        array, origin = np.concatenate([array[:1], array, array[-1:]]), origin - np.array([0, 0, spacing[2]])
    if grid == "between":
        origin = origin + np.array([1.3, -0.7, 0.4 * spacing[2]])
    direction = volume.direction
    if grid == "tilted":
        angle = np.radians(4)
        tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
        direction = tuple(tilt.ravel())
    if grid == "backwards":
        array, origin = array[::-1].copy(), origin + np.array([0, 0, spacing[2] * (len(array) - 1)])
        direction = (1, 0, 0, 0, 1, 0, 0, 0, -1)
    return Volume(array, spacing, tuple(origin), direction)


def purify_slice(uldct: Volume, ndct: Volume, index: int | None = None, settings: Settings = IPV2):
    one, near, first_slice = purification.needed_for_slice(uldct, ndct, index, settings)
    return purify(one, near, settings, first_slice=first_slice)


@pytest.mark.parametrize("grid", ["same", "more slices", "between", "tilted", "backwards"])
@pytest.mark.parametrize("index", [0, 3, None])
def test_one_slice_is_that_of_the_whole(grid, index):
    shift = np.concatenate([chest(n) for n in (1, 2, 3)])
    uldct = Volume(noisy(shift), SPACING, (-100, 20, 400))
    ndct = moved(Volume(noisy(np.concatenate([chest()] * 3), 8, 1), SPACING, (-100, 20, 400)), grid)
    whole, one = purify(uldct, ndct), purify_slice(uldct, ndct, index)
    at = 3 if index is None else index
    assert one.uldct.origin == (-100, 20, 400 + at * SPACING[2])
    for (name, _, image), (_, _, single) in zip(whole.steps(), one.steps(), strict=True):
        expected, found = (np.asarray(getattr(each, "array", each)) for each in (image, single))
        np.testing.assert_allclose(found[0].astype(float), expected[at], atol=0.01, err_msg=name)


def test_one_slice_with_matched_noise_is_matched_to_the_whole_scan():
    array = np.full((3, 128, 128), -1000.0, np.float32)
    array[:, 8:-8, 8:-8] = 40
    array[:, 20:50, 20:50] = -850
    low, normal = (Volume(noisy(array, sigma, seed), (2.0, 2.0, 3.0)) for sigma, seed in ((60, 0), (8, 1)))
    settings = replace(IPV2, kernel="matched")
    whole, one = purify(low, normal, settings), purify_slice(low, normal, 1, settings)
    np.testing.assert_allclose(one.simulated.array[0], whole.simulated.array[1], atol=0.01)


@pytest.mark.parametrize("index", [-1, 2])
def test_a_slice_that_is_not_there_is_refused(pair, index):
    with pytest.raises(InputError, match=f"no slice {index}: use 0 to 1"):
        purify_slice(*pair, index)


def test_one_slice_without_ndct_is_refused(pair):
    far = replace(pair[1], origin=(0, 0, 1000))
    with pytest.raises(InputError, match="covers 0 % of the uLDCT"):
        purify_slice(pair[0], far, 0)
