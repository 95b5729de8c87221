"""What training minimises: known answers, independent formulas, and the same whoever shares the batch."""

import numpy as np
import pytest
import torch
from IPv2Lib.training.losses import LOSSES, mean_square, training_loss
from scipy.ndimage import gaussian_filter
from skimage.measure import block_reduce
from skimage.metrics import structural_similarity

EDGES = np.array([-0.95, -0.3, 0.15, 0.4])


def batch(seed: int = 0, count: int = 4, size: int = 32) -> tuple[torch.Tensor, ...]:
    """Output, target and noisy input: tissues in blocks, noise that differs from patch to patch."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice([-1.0, -0.85, 0.04, 0.25, 0.9], (count, 1, size // 4, size // 4))
    target = blocks.repeat(4, 2).repeat(4, 3) + 0.01 * rng.normal(size=(count, 1, size, size))
    noisy = target + rng.uniform(0.02, 0.2, (count, 1, 1, 1)) * rng.normal(size=target.shape)
    output = target + 0.3 * (noisy - target) + 0.01
    return tuple(torch.from_numpy(image).float() for image in (output, target, noisy))


def relative(output, target, noisy, bias_weight: float, variance_weight: float, side: int) -> float:
    """The default loss by its description, in numpy."""
    scale = np.sqrt(((noisy - target) ** 2).mean((1, 2, 3), keepdims=True)) + 0.004
    half = len(output) // 2 if variance_weight else len(output)
    first, target, scale = output[:half], target[:half], scale[:half]
    error = (first - target) / scale
    blocks, means = (
        image.reshape(half, error.shape[2] // side, side, error.shape[3] // side, side).mean((2, 4))
        for image in (error, target)
    )
    tissues = [blocks[np.digitize(means, EDGES) == tissue] for tissue in range(5)]
    bias = sum(np.mean(part) ** 2 * part.size / (part.size + 2000 / side**2) for part in tissues if part.size)
    found = np.mean(np.sqrt(error**2 + 0.01) - 0.1) + bias_weight * (np.mean(blocks**2) + 2 * bias)
    if variance_weight:
        passed = (((first - output[half:]) / (2 * scale)) ** 2).mean((1, 2, 3))
        found += variance_weight * np.mean(np.exp(-((scale.ravel() / 0.04) ** 2)) * passed)
    return float(found)


@pytest.mark.parametrize(
    ("bias_weight", "variance_weight", "side"), [(1.0, 0.0, 8), (0.0, 0.0, 8), (4.0, 2.5, 8), (3.0, 0.0, 1)]
)
def test_the_relative_loss_is_what_it_says(bias_weight, variance_weight, side):
    images = batch()
    found = training_loss(*images, bias_weight=bias_weight, variance_weight=variance_weight, bias_pixels=side)
    expected = relative(*(image.double().numpy() for image in images), bias_weight, variance_weight, side)
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_the_relative_loss_counts_every_dose_alike():
    _, target, noisy = batch()
    stronger = target + 10 * (noisy - target)
    weak, strong = (training_loss(target + 0.3 * (x - target), target, x) for x in (noisy, stronger))
    assert float(weak) == pytest.approx(float(strong), rel=0.2)


def test_the_best_estimate_has_no_bias():
    """Bone whose marrow is too fine to be seen, beside soft tissue: the mean of both is the best that can be known."""
    rng = np.random.default_rng(0)
    bone, soft = rng.choice([0.05, 0.45], (4, 1, 32, 32)), np.full((12, 1, 32, 32), 0.05)
    target = torch.from_numpy(np.concatenate([bone, soft])).float()
    noisy = target + torch.from_numpy(rng.normal(size=target.shape)).float()

    def loss(mean: float) -> float:
        output = torch.cat([torch.full((4, 1, 32, 32), mean), target[4:]])
        return float(training_loss(output, target, noisy, small_error=10.0, bias_weight=10.0))

    assert loss(bone.mean()) < min(loss(bone.mean() - 0.01), loss(bone.mean() + 0.01))


def test_known_answers():
    target = torch.zeros(2, 1, 16, 16)
    output = torch.full_like(target, 0.1)
    for loss, value in (("l1", 0.1), ("mse", 0.01), ("charbonnier", 0.0990)):
        assert float(training_loss(output, target, target, loss=loss)) == pytest.approx(value, rel=1e-3)
    assert float(mean_square(output)) == pytest.approx(0.01)
    for loss in LOSSES:
        assert float(training_loss(target, target, output, loss=loss)) == pytest.approx(0, abs=1e-6)


def ms_ssim(first: np.ndarray, second: np.ndarray, weights: tuple[float, ...]) -> float:
    """By Wang et al. 2003, for one image: contrast and structure at every scale, luminance at the last one."""

    def mean(image):
        return gaussian_filter(image, 1.5, radius=5)[5:-5, 5:-5]

    found = 1.0
    for scale, weight in enumerate(weights):
        a, b = mean(first), mean(second)
        spread = mean(first**2) + mean(second**2) - a**2 - b**2
        contrast = (2 * (mean(first * second) - a * b) + (0.03 * 1.624) ** 2) / (spread + (0.03 * 1.624) ** 2)
        luminance = (2 * a * b + (0.01 * 1.624) ** 2) / (a**2 + b**2 + (0.01 * 1.624) ** 2)
        found *= np.mean(contrast * luminance if scale == len(weights) - 1 else contrast) ** (weight / sum(weights))
        first, second = (block_reduce(image, (2, 2), np.mean) for image in (first, second))
    return found


@pytest.mark.parametrize(("size", "scales"), [(16, 1), (48, 3), (192, 5), (256, 5)])
def test_ms_ssim_has_as_many_scales_as_the_patch_has_room_for(size, scales):
    output, target, noisy = (image.double() for image in batch(size=size))
    output = target + 3 * (output - target)
    pairs = [(a[0].numpy(), b[0].numpy()) for a, b in zip(output, target, strict=True)]
    similarity = np.mean([ms_ssim(a, b, (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)[:scales]) for a, b in pairs])
    if scales == 1:
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.624}
        assert similarity == pytest.approx(np.mean([structural_similarity(a, b, **options) for a, b in pairs]))
    expected = 0.84 * (1 - similarity) + 0.16 * float((output - target).abs().mean()) / 1.624
    assert float(training_loss(output, target, noisy, loss="ms-ssim+l1")) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", [8, 40])
def test_every_loss_has_a_gradient_for_small_patches_too(loss, size):
    output, target, noisy = batch(size=size)
    output.requires_grad_()
    training_loss(output, target, noisy, loss=loss).backward()
    assert torch.isfinite(output.grad).all() and (output.grad != 0).float().mean() > 0.9


@pytest.mark.parametrize(
    "options", [*({"loss": loss} for loss in LOSSES), {"variance_weight": 2.5, "bias_weight": 4.0}]
)
def test_a_shared_batch_has_the_loss_of_the_whole_one(options):
    """Two processes, of which each sees the sums of both."""
    images = batch()
    whole = training_loss(*images, **options)
    pairs = options.get("variance_weight")
    parts = [[0, 2], [1, 3]] if pairs else [[0, 1], [2, 3]]
    sums = []
    for part in parts:
        training_loss(*(image[part] for image in images), **options, total=lambda own: sums.append(own) or own)
    for part in parts:
        found = training_loss(*(image[part] for image in images), **options, total=lambda own: sums[0] + sums[1])
        assert float(found) == pytest.approx(float(whole), rel=1e-5)
