"""The colours of labels, curves and differences, in the scene as in pictures."""

from __future__ import annotations

import math

import numpy as np

from .errors import InputError

Color = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

Entry = tuple[int, str, Color]
"""Value, name and colour of one label."""

BLUE, VERMILION, GREEN, PURPLE = (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167)
ORANGE, SKY_BLUE, BLACK = (230, 159, 0), (86, 180, 233), (0, 0, 0)
"""Okabe and Ito's palette, which colour-blind people can tell apart."""

_NICE_LIMITS = (20, 50, 100, 200, 300, 500, 1000, 2000)


def difference_colors() -> np.ndarray:
    """256 colours from blue over white to red; the blue half is the red half with red and blue exchanged.

    VTK maps a value to an entry by cutting decimals off, so 0 in a range around 0 falls on entry 127 (127.5 cut):
    that one is white, entries 127 - n and 127 + n mirror each other, and the last two are the same.

    Returns
    -------
    ndarray of uint8, shape (256, 3)

    Examples
    --------
    >>> difference_colors()[[0, 127, 254, 255]].tolist()
    [[30, 0, 140], [255, 255, 255], [140, 0, 30], [140, 0, 30]]
    """
    stops = [[255, 255, 255], [240, 110, 80], [140, 0, 30]]
    at = np.linspace(0, 1, 128)
    red = np.stack([np.interp(at, [0, 0.5, 1], channel) for channel in zip(*stops, strict=True)], axis=1)
    red = np.rint(red).astype(np.uint8)
    return np.concatenate([red[:0:-1, ::-1], red, red[-1:]])


def nice_limit(*differences: np.ndarray) -> float:
    """The end of a colour range for HU differences: the smallest round number that holds 99 % of the values.

    Of large arrays about a million values are looked at.

    Examples
    --------
    >>> nice_limit(np.linspace(-45, 45, 1000))
    50.0
    """
    reach = max((float(np.percentile(np.abs(_some(each)), 99)) for each in differences), default=0.0)
    return float(next((limit for limit in _NICE_LIMITS if limit >= reach), _NICE_LIMITS[-1]))


def check_limit(limit_hu: float) -> None:
    """Refuse a colour range that shows nothing (`InputError`)."""
    if not 0 < limit_hu < math.inf:
        raise InputError(f"a colour range of ±{limit_hu:g} HU shows nothing: use a positive limit, e.g. 200")


def _some(values: np.ndarray) -> np.ndarray:
    """About a million values; the step is odd, so that it does not pick columns of a volume."""
    return values.ravel()[:: (values.size // 1_000_000) | 1].astype(np.float32)
