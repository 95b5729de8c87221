"""What training minimises: how far a batch of results is from its targets.

Owns the formulas. Each is made of sums over the batch, which are added up over the processes that share it (`total`,
see `distributed`), so that many processes minimise exactly what one would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from ..hounsfield import SCORED_RANGE_HU
from ..networks.registry import HU_PER_UNIT

if TYPE_CHECKING:
    import torch

    Total = Callable[[torch.Tensor], torch.Tensor]
    Part = tuple[torch.Tensor, torch.Tensor | int]  # a sum, and of how many

LOSSES = {
    "relative": "error relative to the noise of each patch, so that every dose counts alike; keeps the mean of tissues",
    "charbonnier": "absolute error, quadratic below 1 HU",
    "l1": "absolute error",
    "mse": "squared error",
    "ms-ssim+l1": "structural similarity at several scales, and absolute error",
}
"""Name of each loss, and what it is."""

_FLOOR_HU = 4.0  # noise below this is not worth more of the loss
_TISSUE_HU = (-950.0, -300.0, 150.0, 400.0)  # between room air, lung, soft tissue, thin and dense bone
_TISSUE_WEIGHT = 2.0  # of the bias per tissue, within that of bias
_MODERATE_HU = 40.0  # noise up to about this is held back by the variance weight
_SURE_PIXELS = 2000

_DATA_RANGE = SCORED_RANGE_HU / HU_PER_UNIT
_SSIM_WINDOW, _SSIM_SIGMA = 11, 1.5
_SSIM_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SSIM_SHARE = 0.84


def training_loss(
    output: torch.Tensor,
    target: torch.Tensor,
    noisy: torch.Tensor,
    *,
    loss: str = "relative",
    small_error: float = 0.1,
    bias_weight: float = 1.0,
    bias_pixels: int = 8,
    variance_weight: float = 0.0,
    total: Total = lambda part: part,
) -> torch.Tensor:
    """Loss of a batch.

    Parameters
    ----------
    output, target, noisy : Tensor, shape (batch, 1, rows, columns)
        What the network made of `noisy`, and what it should have made, HU / 1000. With a variance weight, the second
        half of the batch is the first with the negative of its noise.
    loss : str
        One of `LOSSES`.
    small_error, bias_weight, bias_pixels, variance_weight : float or int
        See `settings.TrainingSettings`; of "relative".
    total : callable
        Adds a tensor up over the processes that share the batch.

    Returns
    -------
    Tensor
        A number.

    References
    ----------
    MS-SSIM + L1: Zhao et al., IEEE Trans. Comput. Imaging 3(1), 2017, with the scales of Wang et al. 2003, as many of
    them as the patch has room for.
    """
    if loss == "relative":
        return _relative(output, target, noisy, small_error, bias_weight, bias_pixels, variance_weight, total)
    error = output - target
    if loss == "ms-ssim+l1":
        similarity, absolute = _means([_summed(_ms_ssim(output, target)), _summed(error.abs())], total)
        return _SSIM_SHARE * (1 - similarity) + (1 - _SSIM_SHARE) * absolute / _DATA_RANGE
    if loss == "charbonnier":
        return _means([_summed(_charbonnier(error, 1 / HU_PER_UNIT))], total)[0]
    return _means([_summed(error.abs() if loss == "l1" else error.square())], total)[0]


def mean_square(error: torch.Tensor, total: Total = lambda part: part) -> torch.Tensor:
    """Mean square of a batch of error images: the loss of networks that say themselves what their error is."""
    return _means([_summed(error.square())], total)[0]


def _relative(output, target, noisy, small_error, bias_weight, bias_pixels, variance_weight, total) -> torch.Tensor:
    """Error relative to the noise of each patch, so that every dose counts alike.

    A Charbonnier penalty; the squared error of means over blocks of pixels; the squared mean error of each tissue
    in the batch, without which what is blurred, such as thin bone, comes out too low; and the noise that comes
    through, half of the difference between two results whose noise is each other's negative.

    The tissue of a block is that of its mean. Of pixels chosen one by one because they are bright, the best estimate
    is too low: made right, it is too high for bone as a whole.
    """
    import torch

    scale = ((noisy - target) ** 2).mean((1, 2, 3), keepdim=True).sqrt() + _FLOOR_HU / HU_PER_UNIT
    antithetic = None
    if variance_weight:
        # The negative of the noise has the negative of its mean, too, which no scan has: nothing else is learned of it.
        half = len(output) // 2
        output, antithetic = output[:half], output[half:]
        target, scale = target[:half], scale[:half]
    error = (output - target) / scale
    side = min(bias_pixels, *error.shape[-2:])
    coarse, blocks = (torch.nn.functional.avg_pool2d(image, side) for image in (error, target))
    parts = [_summed(_charbonnier(error, small_error)), _summed(coarse.square())]
    # Made of numbers that are on no device, since a GPU would have to be waited for to give it more.
    tissue = cast("torch.Tensor", sum((blocks > limit / HU_PER_UNIT).int() for limit in _TISSUE_HU))
    tissues = range(len(_TISSUE_HU) + 1)
    parts += [((coarse * (tissue == index)).sum(), (tissue == index).sum()) for index in tissues]
    if antithetic is not None:
        passed = ((output - antithetic) / (2 * scale)).square().mean((1, 2, 3))
        moderate = torch.exp(-((scale.flatten() * HU_PER_UNIT / _MODERATE_HU) ** 2))
        parts.append(_summed(moderate * passed))
    means, counts = _means_and_counts(parts, total)
    of_tissues = slice(2, 2 + len(tissues))
    # The mean of a few pixels is mostly noise: it counts for little.
    sure = counts[of_tissues] / (counts[of_tissues] + _SURE_PIXELS / side**2)
    bias = means[1] + _TISSUE_WEIGHT * (means[of_tissues].square() * sure).sum()
    found = means[0] + bias_weight * bias
    return found if antithetic is None else found + variance_weight * means[-1]


def _charbonnier(error: torch.Tensor, small: float) -> torch.Tensor:
    return (error.square() + small**2).sqrt() - small


def _ms_ssim(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Similarity of each image of a batch at as many scales as it has room for, (batch,)."""
    import torch

    pool = torch.nn.functional.avg_pool2d
    side = min(output.shape[-2:])
    scales = [weight for index, weight in enumerate(_SSIM_SCALES) if index == 0 or side // 2**index >= _SSIM_WINDOW]
    similarity = output.new_ones(len(output))
    for index, weight in enumerate(scales):
        if index:
            output, target = pool(output, 2), pool(target, 2)
        luminance, contrast = _ssim_terms(output, target)
        # Below zero it has no power; what is not alike at all is as far away as can be.
        part = (luminance * contrast if index == len(scales) - 1 else contrast).mean((1, 2, 3)).clamp(min=1e-6)
        similarity = similarity * part ** (weight / sum(scales))
    return similarity


def _ssim_terms(output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Likeness of means, and of contrast and structure, within a Gaussian window around each pixel."""
    import torch

    size = min(_SSIM_WINDOW, *output.shape[-2:])
    away = torch.arange(size, dtype=output.dtype, device=output.device) - (size - 1) / 2
    window = torch.exp(-(away**2) / (2 * _SSIM_SIGMA**2))
    window = window / window.sum()

    def mean(image: torch.Tensor) -> torch.Tensor:
        convolve = torch.nn.functional.conv2d
        return convolve(convolve(image, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))

    first, second = (0.01 * _DATA_RANGE) ** 2, (0.03 * _DATA_RANGE) ** 2
    a, b = mean(output), mean(target)
    variances = mean(output.square()) - a.square() + mean(target.square()) - b.square()
    covariance = mean(output * target) - a * b
    luminance = (2 * a * b + first) / (a.square() + b.square() + first)
    return luminance, (2 * covariance + second) / (variances + second)


def _summed(values: torch.Tensor) -> Part:
    return values.sum(), values.numel()


def _means(parts: Sequence[Part], total: Total) -> torch.Tensor:
    return _means_and_counts(parts, total)[0]


def _means_and_counts(parts: Sequence[Part], total: Total) -> tuple[torch.Tensor, torch.Tensor]:
    """Means over the whole batch, and of how many values each is; one exchange between the processes for all."""
    import torch

    sums = torch.stack([value for value, _ in parts])
    counts = torch.stack(
        [sums.new_full((), count) if isinstance(count, int) else count.to(sums.dtype) for _, count in parts]
    )
    sums, counts = total(torch.cat([sums, counts])).chunk(2)
    return sums / counts.clamp(min=1), counts
