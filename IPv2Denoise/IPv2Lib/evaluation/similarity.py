"""How one image differs from another of the same anatomy: RMSE, PSNR, SSIM, GMSD.

Owns one number per pair of images. Sharpness of borders is `edges`', noise `analysis.noise`'s, distances between sets
of images `distances`'; which measures are reported says `measures`.
"""

from __future__ import annotations

import math

import numpy as np

from ..hounsfield import SCORED_HU, SCORED_RANGE_HU

SSIM_WINDOW = 7
"""Side of the sliding window of SSIM in pixels (scikit-image's default)."""

_GMSD_C = 170.0 / 255.0**2
"""The constant of Xue et al., who give 170 for images from 0 to 255, per square of the data range."""


def windowed(image: np.ndarray) -> np.ndarray:
    """HU clipped to `SCORED_HU`, float32."""
    return np.clip(image, *SCORED_HU).astype(np.float32)


def rmse(reference: np.ndarray, result: np.ndarray, where: np.ndarray) -> float:
    """Root mean square difference in HU where a mask says, of values clipped to `SCORED_HU`."""
    difference = (windowed(result) - windowed(reference))[where]
    return math.sqrt(np.mean(np.square(difference, dtype=np.float64)))


def psnr(reference: np.ndarray, result: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB (scikit-image); infinite for identical images.

    Parameters
    ----------
    reference, result : ndarray of the same shape
        HU, windowed.
    """
    from skimage.metrics import peak_signal_noise_ratio

    with np.errstate(divide="ignore"):  # identical images: infinite
        return float(peak_signal_noise_ratio(reference, result, data_range=SCORED_RANGE_HU))


def ssim(reference: np.ndarray, result: np.ndarray) -> float:
    """Structural similarity of two slices (scikit-image, its default 7×7 window); NaN for slices smaller than that.

    Parameters
    ----------
    reference, result : ndarray, shape (rows, columns)
        HU, windowed.
    """
    from skimage.metrics import structural_similarity

    if min(reference.shape) < SSIM_WINDOW:
        return math.nan
    return float(structural_similarity(reference, result, win_size=SSIM_WINDOW, data_range=SCORED_RANGE_HU))


def gmsd(reference: np.ndarray, result: np.ndarray, data_range: float = SCORED_RANGE_HU) -> float:
    """Gradient magnitude similarity deviation of two slices; 0 is best.

    Means of 2×2 pixels, every other one kept; Prewitt gradients; similarity (2·a·b + c) / (a² + b² + c) of their
    magnitudes, c = 170 for a range of 255; its standard deviation over the slice.

    Parameters
    ----------
    reference, result : ndarray, shape (rows, columns)
        HU, windowed.
    data_range : float
        Width of the window in HU; c goes with its square.

    Returns
    -------
    float
        NaN for slices of fewer than 4 rows or columns.

    References
    ----------
    Xue, Zhang, Mou & Bovik, IEEE Trans. Image Process. 23(2), 2014.

    Examples
    --------
    >>> image = np.random.default_rng(0).normal(0, 200, (16, 16))
    >>> gmsd(image, image)
    0.0
    """
    if min(reference.shape) < 4:
        return math.nan
    first, second = (_gradient_magnitude(_halved(image)) for image in (reference, result))
    c = _GMSD_C * data_range**2
    similarity = (2 * first * second + c) / (first**2 + second**2 + c)
    return float(similarity.std())


def _halved(image: np.ndarray) -> np.ndarray:
    image = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2].astype(np.float64)
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4


def _gradient_magnitude(image: np.ndarray) -> np.ndarray:
    from scipy.ndimage import prewitt

    # scipy's operator is not divided by the number of pixels, as Xue et al.'s is.
    return np.hypot(*(prewitt(image, axis, mode="nearest") / 3 for axis in (0, 1)))
