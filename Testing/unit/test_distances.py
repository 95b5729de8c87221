"""Fréchet and kernel distances of patches: known answers, what they respond to, and networks of the user's own."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from IPv2Lib.errors import InputError
from IPv2Lib.evaluation import distances
from scipy import ndimage
from scipy.linalg import sqrtm


@pytest.fixture(scope="module")
def texture() -> np.ndarray:
    rng = np.random.default_rng(0)
    patches = 40 + ndimage.gaussian_filter(rng.normal(0, 800, (80, 32, 32)), (0, 3, 3))
    return patches.astype(np.float32)


@pytest.fixture
def file(tmp_path) -> Path:
    """Where a user's network goes."""
    return tmp_path / "own.pt"


def save(network: torch.nn.Module, file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(network), str(file))


def noisy(patches: np.ndarray, sigma: float) -> np.ndarray:
    return patches + np.random.default_rng(1).normal(0, sigma, patches.shape).astype(np.float32)


def test_frechet_distance_of_normal_features():
    rng = np.random.default_rng(2)
    first, second = rng.normal(0, 1, (500, 3)), rng.normal(0.5, 2, (400, 3))
    a, b = np.cov(first.T), np.cov(second.T)
    means = np.sum((first.mean(0) - second.mean(0)) ** 2)
    expected = means + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert distances.frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_kernel_distance_is_about_its_expectation_and_seeded():
    rng = np.random.default_rng(3)
    same, other = rng.normal(0, 1, (400, 2)), rng.normal(0, 1, (400, 2))
    apart = distances.kernel_distance(same, other + 2)
    assert abs(distances.kernel_distance(same, other)) < 0.05 * apart
    assert apart == distances.kernel_distance(same, other + 2, seed=0) != distances.kernel_distance(same, other + 2, 1)
    state = torch.random.get_rng_state()
    distances.kernel_distance(same, other)
    assert torch.equal(state, torch.random.get_rng_state())


def test_random_features_see_noise_and_blur_grow(texture):
    features = distances.load_features()
    own = features.of(texture)
    for change in (noisy, lambda patches, s: ndimage.gaussian_filter(patches, (0, s / 40, s / 40))):
        found = [distances.frechet_distance(own, features.of(change(texture, s))) for s in (20, 40, 80)]
        assert 0 < found[0] < found[1] < found[2]
    assert abs(distances.frechet_distance(own, own)) < 1e-6


def test_random_features_are_the_same_every_time(texture):
    first, second = (distances.load_features() for _ in range(2))
    assert first.name == first.key == "random-conv"
    assert np.array_equal(first.of(texture), second.of(texture))


def test_few_patches_have_no_distance():
    few, many = np.zeros((31, 2)), np.zeros((40, 2))
    assert np.isnan(distances.frechet_distance(few, many)) and np.isnan(distances.kernel_distance(many, few))


def test_a_network_of_the_users_own(file, texture):
    class Means(torch.nn.Module):
        def forward(self, x):
            return torch.stack([x.mean((1, 2, 3)), x[:, :, :112].mean((1, 2, 3))], 1)

    save(Means(), file)
    features = distances.load_features(file)
    found = features.of(texture)
    grey = (texture + 1024) / 1624
    assert found == pytest.approx(np.stack([grey.mean((1, 2)), grey[:, :16].mean((1, 2))], 1), abs=1e-3)
    assert features.name == "own.pt" and len(features.key) == 64


@pytest.mark.parametrize("network", [torch.nn.Linear(7, 2), torch.nn.Identity()])
def test_a_network_that_does_not_fit_is_named(file, texture, network):
    save(network, file)
    with pytest.raises(InputError, match=r"own\.pt"):
        distances.load_features(file).of(texture)


def test_a_file_that_is_no_network_is_named(file):
    for content in (None, b"no network"):
        if content:
            file.write_bytes(content)
        with pytest.raises(InputError, match=r"own\.pt"):
            distances.load_features(file)


def test_patches_are_those_of_the_body():
    inside = np.zeros((100, 70), bool)
    inside[:60, :40] = True
    assert distances.patch_places(inside).tolist() == [[0, 0], [32, 0]]
    image = np.arange(7000).reshape(100, 70)
    assert np.array_equal(distances.cut_patches(image, np.array([[32, 0]]))[0], image[32:64, :32])
    assert distances.patch_places(inside[:20]).shape == (0, 2)
    assert distances.cut_patches(image, np.zeros((0, 2), int)).shape == (0, 32, 32)
