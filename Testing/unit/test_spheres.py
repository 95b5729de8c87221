"""What a sphere holds: known nodules in known lungs."""

import math

import numpy as np
import pytest
from IPv2Lib.analysis.spheres import measure_sphere
from IPv2Lib.errors import InputError
from IPv2Lib.io.volume import Volume

LUNG, NODULE = -850.0, -50.0


def ball(diameter_mm, center, shape=(40, 60, 60), spacing=(0.6, 0.6, 0.8), oversample=4, **geometry) -> Volume:
    """A nodule in a lung, voxels at its edge filled in part; the centre is in voxels (slice, row, column)."""
    fine = (np.arange(oversample) + 0.5) / oversample - 0.5
    axes = [
        ((np.arange(count)[:, None] + fine - at) * mm).ravel() ** 2
        for count, at, mm in zip(shape, center, spacing[::-1], strict=True)
    ]
    inside = axes[0][:, None, None] + axes[1][:, None] + axes[2] <= (diameter_mm / 2) ** 2
    parts = inside.reshape(*(size for count in shape for size in (count, oversample))).mean(axis=(1, 3, 5))
    return Volume((LUNG + (NODULE - LUNG) * parts).astype(np.float32), spacing, **geometry)


def place(volume: Volume, voxel) -> np.ndarray:
    return (volume.affine @ [*voxel[::-1], 1])[:3]


@pytest.mark.parametrize("diameter_mm", [4, 6, 10, 20])
def test_a_nodule_that_fills_the_sphere(diameter_mm):
    center = (20.2, 30.1, 29.7)
    volume = ball(diameter_mm, center)
    found = measure_sphere(volume, place(volume, center), diameter_mm)
    assert found.volume_mm3 == pytest.approx(math.pi / 6 * diameter_mm**3, rel=0.06)
    assert found.contrast_hu == found.mean_hu - LUNG  # the surround is clean
    assert (NODULE - LUNG) * 0.8 < found.contrast_hu < NODULE - LUNG


def test_mean_and_sigma_are_those_of_the_voxels_whose_centres_lie_inside():
    random = np.random.default_rng(3)
    volume = Volume(random.normal(-800, 40, (30, 50, 50)).astype(np.float32), (0.7, 0.7, 1.0))
    found = measure_sphere(volume, place(volume, (14, 25, 25)), 9)
    slices, rows, columns = np.indices(volume.array.shape)
    distance = np.sqrt(((columns - 25) * 0.7) ** 2 + ((rows - 25) * 0.7) ** 2 + (slices - 14.0) ** 2)
    inside, shell = distance <= 4.5, (distance > 6.75) & (distance <= 9.75)
    assert found.mean_hu == pytest.approx(volume.array[inside].mean(dtype=float))
    assert found.sigma_hu == pytest.approx(np.std(volume.array[inside], ddof=1, dtype=float))
    assert found.contrast_hu == pytest.approx(found.mean_hu - np.median(volume.array[shell]), abs=1e-3)


def test_what_does_not_rise_from_the_noise_has_no_volume():
    random = np.random.default_rng(5)
    nodule = ball(8, (20, 30, 30))
    center = place(nodule, (20, 30, 30))
    noise = random.normal(0, 300, nodule.array.shape)
    clear, hidden = (
        measure_sphere(nodule.with_array((nodule.array + factor * noise).astype(np.float32)), center, 8)
        for factor in (0.1, 2)
    )
    assert clear.volume_mm3 == pytest.approx(math.pi / 6 * 8**3, rel=0.06)
    assert math.isnan(hidden.volume_mm3) and abs(hidden.contrast_hu - clear.contrast_hu) < 150


def test_a_vessel_in_the_surround_does_not_change_the_contrast():
    center = (20, 30, 30)
    volume = ball(8, center)
    plain = measure_sphere(volume, place(volume, center), 8)
    volume.array[:, 30:32, 43:46] = 40
    assert measure_sphere(volume, place(volume, center), 8).contrast_hu == pytest.approx(plain.contrast_hu)


def test_a_hole_has_a_negative_contrast_and_the_same_volume():
    center = (20, 30, 30)
    volume = ball(8, center)
    hole = volume.with_array(LUNG + NODULE - volume.array)
    nodule, found = (measure_sphere(each, place(volume, center), 8) for each in (volume, hole))
    assert found.contrast_hu == pytest.approx(-nodule.contrast_hu, abs=1e-3)
    assert found.volume_mm3 == pytest.approx(nodule.volume_mm3)


def test_the_place_counts_not_how_the_array_is_stored():
    center = (18, 33, 25)
    volume = ball(7, center)
    angle = math.radians(20)
    turned = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, -1]])
    tilted = Volume(volume.array, volume.spacing, (12.0, -40.0, 7.0), tuple(turned.ravel()))
    assert measure_sphere(tilted, place(tilted, center), 7) == measure_sphere(volume, place(volume, center), 7)


def test_at_the_edge_and_outside():
    volume = ball(8, (0, 0, 0))
    at_corner = measure_sphere(volume, place(volume, (0, 0, 0)), 8)
    assert at_corner.volume_mm3 == pytest.approx(math.pi / 6 * 8**3 / 8, rel=0.5) and at_corner.contrast_hu > 500
    outside = measure_sphere(volume, (-200, 0, 0), 8)
    assert all(math.isnan(value) for value in vars(outside).values())


@pytest.mark.parametrize("diameter_mm", [2.9, 20.5, float("nan")])
def test_a_diameter_out_of_range_is_refused(diameter_mm):
    with pytest.raises(InputError, match="3 to 20"):
        measure_sphere(ball(8, (20, 30, 30)), (0, 0, 0), diameter_mm)
