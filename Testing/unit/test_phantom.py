"""The synthetic chest: tissue where anatomy has it, the same patient at any size, breathing lungs in a still chest."""

import numpy as np
import pytest
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.analysis.regions import outside_field_of_view, segment
from IPv2Lib.errors import InputError
from IPv2Lib.simulation.phantom import chest, nodules, pair
from IPv2Lib.simulation.settings import LARGEST_MOTION_MM
from scipy import ndimage


def hu_at(volume, x, y, z):
    """HU of the voxel at a place in mm."""
    index = [round((p - o) / s) for p, o, s in zip((x, y, z), volume.origin, volume.spacing, strict=True)]
    return float(volume.array[index[2], index[1], index[0]])


def median_around(volume, x, y, z):
    """The same over 5 x 5 pixels, which a vessel does not fill."""
    step = volume.spacing[0]
    offsets = step * np.arange(-2, 3)
    return np.median([hu_at(volume, x + dx, y + dy, z) for dx in offsets for dy in offsets])


@pytest.fixture(scope="module", params=[0, 3])
def whole(request):
    return chest(seed=request.param, size=128, slices=56)


@pytest.fixture(scope="module")
def scans():
    return pair(seed=5, size=96, slices=3, dose=0.02, motion=8)


@pytest.mark.parametrize(
    ("name", "place", "low", "high"),
    [
        ("room air", (0, -150, 0), -1001, -999),
        ("right lung", (-85, -25, 20), -960, -780),
        ("left lung", (75, 30, 20), -960, -780),
        ("trachea", (0, 8, 110), -1001, -900),
        ("heart", (30, -30, -52), 30, 60),
        ("descending aorta", (26, 37, 10), 30, 60),
        ("liver", (-60, 0, -125), 45, 70),
        ("table foam", (0, 122, 0), -960, -930),
    ],
)
def test_tissue_is_where_anatomy_has_it(whole, name, place, low, high):
    assert low <= median_around(whole, *place) <= high, name


def test_spine_has_cortex_marrow_and_discs(whole):
    column = [hu_at(whole, 0, 52, z) for z in whole.origin[2] + 5.0 * np.arange(56)]
    assert min(column) < 110 and max(column) > 150  # disc, marrow
    spine = whole.array[:, 64 + 12 : 64 + 26, 58:70]
    assert spine.max() > 400


def test_lung_is_denser_at_the_back(whole):
    lung = np.where(whole.array[28] < -700, whole.array[28], np.nan)
    front, back = np.nanmedian(lung[44:56, 28:44]), np.nanmedian(lung[72:84, 28:44])
    assert 10 < back - front < 80


def test_the_same_seed_is_the_same_patient_and_another_seed_is_not():
    first, again, other = (chest(seed, 64, 2).array for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert np.mean(np.abs(first - other) > 50) > 0.02


@pytest.mark.parametrize(("size", "slices"), [(32, 1), (33, 2), (512, 1), (2, 1), (64, 90)])
def test_any_size_covers_the_same_field_of_view(size, slices):
    volume = chest(0, size, slices)
    assert volume.array.shape == (slices, size, size) and volume.array.dtype == np.float32
    assert volume.spacing[0] == volume.spacing[1] == pytest.approx(350 / size)
    assert volume.spacing[2] == pytest.approx(min(5, 280 / slices))
    middle = [o + s * (n - 1) / 2 for o, s, n in zip(volume.origin, volume.spacing, (size, size, slices), strict=True)]
    assert middle == pytest.approx([0, 0, 0], abs=1e-4)
    assert np.isfinite(volume.array).all() and volume.array.min() >= -1024 and volume.array.max() < 1000


def test_a_finer_grid_samples_the_same_anatomy():
    fine, coarse = chest(2, 256, 3, field_of_view=False).array, chest(2, 64, 3, field_of_view=False).array
    binned = fine.reshape(3, 64, 4, 64, 4).mean(axis=(2, 4))
    difference = np.abs(binned - coarse)
    assert np.median(difference) < 12 and np.mean(difference > 150) < 0.05
    for threshold in (-500, -950):
        assert np.mean(fine > threshold) == pytest.approx(np.mean(coarse > threshold), rel=0.06)


def test_slices_are_cut_from_one_patient_whatever_their_number():
    few, many = chest(1, 64, 3), chest(1, 64, 9)
    np.testing.assert_allclose(many.array[3:6], few.array, atol=1e-3)


def test_padding_is_exact_and_can_be_left_out():
    padded, plain = chest(0, 96, 2), chest(0, 96, 2, field_of_view=False)
    along = (np.arange(96) - 47.5) * 350 / 96
    outside = np.hypot(along[None], along[:, None]) > 175
    assert (padded.array[:, outside] == -1024).all()
    np.testing.assert_array_equal(padded.array[:, ~outside], plain.array[:, ~outside])
    np.testing.assert_array_equal(outside_field_of_view(padded.array), np.stack([outside] * 2))
    assert not outside_field_of_view(plain.array).any()


def test_breath_moves_lungs_but_not_the_chest_wall():
    rest, after = (chest(4, 128, 24, motion) for motion in (0, 8))
    change = np.abs(rest.array - after.array)
    labels = segment(rest.array, rest.spacing)
    bone = ndimage.binary_erosion(labels == Region.BONE, np.ones((1, 3, 3)))
    assert bone.sum() > 1000 and np.median(change[bone]) == 0
    assert change[bone].max() < 10  # thin bone shares its pixels with what moves beside it
    assert not change[labels == Region.BACKGROUND].any()
    along = (np.arange(128) - 63.5) * 350 / 128
    assert not change[:, :, np.abs(along) > 135].any()
    inside = change[:, 50:80, 36:50]
    assert np.mean(inside > 100) > 0.03


def test_breath_is_the_motion_of_the_diaphragm():
    def dome(volume):
        """Height, in mm, at which the median over the top of the right dome passes -400 HU."""
        column = np.median(volume.array[:, 28:33, 19:24], axis=(1, 2))
        above = int(np.argmax(column < -400))
        part = (column[above - 1] + 400) / (column[above - 1] - column[above])
        return volume.origin[2] + volume.spacing[2] * (above - 1 + part)

    rest = dome(chest(6, 64, 56))
    for motion in (-12, 15):
        assert rest - dome(chest(6, 64, 56, motion)) == pytest.approx(motion, abs=1.5)


def test_lung_tissue_moves_smoothly():
    one, two = (chest(4, 96, 8, motion).array for motion in (3.0, 3.05))
    assert np.abs(one - two).mean() < 1


def test_nodules_lie_in_the_lung_and_have_their_density():
    volume = chest(1, 160, 56)
    found = nodules(1)
    assert len(found) >= 4 and all(2.5 < nodule.diameter < 10.5 for nodule in found)
    for nodule in found:
        if nodule.diameter > 6:  # the next voxel's centre lies well inside
            assert hu_at(volume, *nodule.center) == pytest.approx(nodule.hu, abs=60)


def test_pair_has_noise_of_the_dose_over_a_known_truth(scans):
    rest, after = chest(5, 96, 3), chest(5, 96, 3, motion=8)
    np.testing.assert_array_equal(scans.ground_truth.array, after.array)
    outside = scans.labels == Region.OUTSIDE
    assert (scans.uldct.array[outside] == -1024).all() and (scans.ndct.array[outside] == -1024).all()
    low, full = (scans.uldct.array - after.array)[~outside], (scans.ndct.array - rest.array)[~outside]
    assert 4 < low.std() / full.std() < 12  # sqrt(50) = 7, less the electronic noise
    assert abs(low.mean()) < 5
    for volume in (scans.uldct, scans.ndct):
        assert (volume.spacing, volume.origin) == (scans.ground_truth.spacing, scans.ground_truth.origin)


def test_labels_of_a_pair_are_what_segmentation_finds_in_the_truth(scans):
    assert set(np.unique(scans.labels)) == set(Region)
    assert np.mean(segment(scans.ground_truth.array, scans.ground_truth.spacing) == scans.labels) > 0.96
    assert np.mean(segment(scans.uldct.array, scans.uldct.spacing) == scans.labels) > 0.95


@pytest.mark.parametrize(
    "arguments",
    [
        {"size": 1},
        {"slices": 0},
        {"seed": -1},
        {"motion": LARGEST_MOTION_MM + 1},
        {"motion": float("nan")},
    ],
)
def test_impossible_phantoms_are_refused(arguments):
    with pytest.raises(InputError):
        chest(**arguments)
