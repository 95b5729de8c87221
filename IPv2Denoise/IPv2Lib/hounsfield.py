"""Values in HU that several rooms share, and the grey values that show them."""

from __future__ import annotations

import numpy as np

from .errors import InputError

AIR_HU = -1000.0
"""Air of a room; also what networks see, and data sets hold, where a scanner wrote padding."""

NO_DATA_HU = -1024.0
"""Where there is no measurement: outside the field of view, and outside a volume that is resampled."""

SCORED_HU = (-1024.0, 600.0)
"""Values are clipped to these before they are scored, so that metal does not decide."""

SCORED_RANGE_HU = SCORED_HU[1] - SCORED_HU[0]
"""Data range of PSNR, SSIM and GMSD, of scores and of losses."""

WINDOWS = {"Lung": (1500.0, -600.0), "Mediastinum": (350.0, 50.0), "Bone": (1800.0, 400.0)}
"""Windows in which a chest is read: name to width and level."""

LUNG_WINDOW, LUNG_LEVEL = WINDOWS["Lung"]


def window_8bit(array: np.ndarray, low_hu: float = -1000, high_hu: float = 400) -> np.ndarray:
    """Grey values of a display window.

    Parameters
    ----------
    array : ndarray
        HU, any shape.
    low_hu, high_hu : float
        HU that become 0 and 255; values beyond are clipped, values between are rounded.

    Returns
    -------
    ndarray of uint8, the shape of `array`

    Raises
    ------
    InputError
        Where `low_hu` is not below `high_hu`.

    Examples
    --------
    >>> window_8bit(np.array([-2000, -1000, -300, 400, 3000]))
    array([  0,   0, 128, 255, 255], dtype=uint8)
    """
    if not low_hu < high_hu:
        raise InputError(f"a window from {low_hu:g} to {high_hu:g} HU is empty: give the lower value first")
    grey = np.clip(array, low_hu, high_hu, dtype=np.float32)
    grey -= low_hu
    grey *= 255.0 / (high_hu - low_hu)
    return np.rint(grey, out=grey).astype(np.uint8)
