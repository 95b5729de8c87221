"""Projection and back-projection against geometry and against scikit-image."""

import numpy as np
import pytest
from IPv2Lib.errors import InputError
from IPv2Lib.simulation.projection import (
    KERNEL_NAMES,
    Kernel,
    back_project,
    detector_bins,
    filter_views,
    kernel,
    project,
    view_angles,
)
from skimage.transform import iradon, radon


def disc(size: int, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    return ((columns - x) ** 2 + (rows - y) ** 2 < radius**2).astype(np.float32)


def test_every_view_sees_the_whole_mass():
    image = disc(64, 10, -20, 7) + disc(64, -25, 25, 5)
    sums = project(image[None], 32).sum(-1)
    assert sums == pytest.approx(np.full((1, 32), image.sum()), rel=0.01)


def test_the_centre_of_mass_moves_as_the_angle_says():
    x, y = 20.0, -9.0
    views = project(disc(64, x, y, 3)[None], 32)[0]
    position = np.arange(detector_bins(64)) - (detector_bins(64) - 1) / 2
    angle = view_angles(32)
    expected = x * np.cos(angle) + y * np.sin(angle)
    assert (views * position).sum(1) / views.sum(1) == pytest.approx(expected, abs=0.15)


def test_a_disc_casts_the_chord_length():
    views = project(disc(128, 0, 0, 40)[None], 16)[0]
    middle = detector_bins(128) // 2
    assert views[:, middle - 3 : middle + 4].mean() == pytest.approx(80, rel=0.01)


def test_filtered_back_projection_returns_the_image():
    image = disc(128, 5, -8, 40) + 0.5 * disc(128, -10, 12, 12)
    again = back_project(filter_views(project(image[None], 256), "ramp"), 128)[0]
    inside = disc(128, -10, 12, 9) > 0
    assert again[inside].mean() == pytest.approx(1.5, abs=0.01)
    assert again[disc(128, 5, -8, 60) == 0].mean() == pytest.approx(0.0, abs=0.005)


def test_noise_has_the_strength_and_spectrum_of_scikit_image():
    size, views = 128, 128
    rng = np.random.default_rng(0)
    bins = detector_bins(size)
    sinogram = rng.normal(size=(views, bins)).astype(np.float32)
    ours = back_project(filter_views(sinogram[None], "hann"), size)[0]
    theirs = iradon(sinogram.T, theta=np.rad2deg(view_angles(views)), filter_name="hann", circle=True, output_size=size)
    inside = disc(size, 0, 0, 50) > 0
    assert ours[inside].std() == pytest.approx(theirs[inside].std(), rel=0.02)


def test_line_integrals_agree_with_scikit_image():
    image = disc(128, 10, -15, 30) + 2 * disc(128, -30, 10, 8)
    ours = project(image[None], 8)[0].max(1)
    theirs = radon(image, theta=-np.rad2deg(view_angles(8)), circle=True).max(0)
    assert ours == pytest.approx(theirs, rel=0.04)


def test_slices_of_a_batch_do_not_mix():
    images = np.random.default_rng(0).random((3, 32, 32), np.float32)
    together = back_project(project(images, 8), 32)
    alone = np.concatenate([back_project(project(one[None], 8), 32) for one in images])
    assert together == pytest.approx(alone, abs=1e-3)


def test_pytorch_sums_the_same():
    """What runs on GPUs, here on the CPU."""
    images = np.random.default_rng(0).random((3, 32, 32), np.float32)
    views = project(images, 16)
    assert project(images, 16, "cpu:0") == pytest.approx(views, abs=1e-4)
    assert back_project(views, 32, "cpu:0") == pytest.approx(back_project(views, 32), abs=1e-4)


def test_kernels_go_from_soft_to_sharp():
    half = [kernel(name).at(0.5) for name in KERNEL_NAMES]
    assert half == sorted(half) and half[0] < half[1] < half[2] < half[3]
    own = Kernel("own", (1.0, 0.0))
    assert kernel(own) is own and own.at(0.25) == pytest.approx(0.75)


@pytest.mark.parametrize("bad", ["bone", -1.5, 3, None])
def test_unknown_kernels_are_refused(bad):
    with pytest.raises(InputError, match="kernel"):
        kernel(bad)
