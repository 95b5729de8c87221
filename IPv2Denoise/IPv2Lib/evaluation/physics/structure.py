"""Structure in what was removed: whether it is noise alone, or follows the borders of the anatomy."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SMOOTHING_PIXELS = 1.0
"""σ of the Gaussian whose gradient is taken."""


def correlation(removed: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Correlation of the magnitude of what was removed with the gradient of the ground truth, within a mask.

    Parameters
    ----------
    removed, truth : ndarray, shape (slices, rows, columns)
        HU.
    mask : ndarray of bool of that shape

    Returns
    -------
    float
        About 0 for noise that is equally strong everywhere; NaN where one of both is constant.
    """
    gradient = np.array(
        [ndimage.gaussian_gradient_magnitude(each.astype(np.float64), SMOOTHING_PIXELS) for each in truth]
    )
    a, b = np.abs(removed[mask]).astype(np.float64), gradient[mask]
    if a.size < 2 or not a.std() > 0 or not b.std() > 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
