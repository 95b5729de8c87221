"""The colours of labels, curves and differences, in the scene as in pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .errors import InputError

Color = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

Entry = tuple[int, str, Color]
"""Value, name and colour of one label."""

BLUE, VERMILION, GREEN, PURPLE = (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167)
ORANGE, SKY_BLUE, BLACK = (230, 159, 0), (86, 180, 233), (0, 0, 0)
"""Okabe and Ito's palette, which colour-blind people can tell apart."""

# Of differences, from nothing to the negative and to the positive end.
_LIGHT_STOPS = (
    ((255, 255, 255), (120, 170, 215), (5, 35, 95)),
    ((255, 255, 255), (245, 165, 90), (190, 75, 0)),
)
_DARK_STOPS = (
    ((10, 10, 10), (25, 75, 140), (70, 145, 235)),
    ((10, 10, 10), (165, 100, 20), (255, 225, 130)),
)

_NICE_LIMITS = (20, 50, 100, 200, 300, 500, 1000, 2000)


def difference_colors(dark: bool = False) -> np.ndarray:
    """256 colours from blue (negative) over the colour of nothing to orange (positive).

    Colour-blind people can tell both sides apart, and everybody can without colours: the ends differ in luminance,
    which rises or falls from the middle to each of them.

    VTK maps a value to an entry by cutting decimals off, so 0 in a range around 0 falls on entry 127 (127.5 cut): that
    is the middle, entries 127 - n and 127 + n are as far from it, and the last two are the same.

    Parameters
    ----------
    dark : bool
        For dark rooms: nothing is black, and the ends are bright. Otherwise nothing is white.

    Returns
    -------
    ndarray of uint8, shape (256, 3)

    Examples
    --------
    >>> difference_colors()[[0, 127, 254, 255]].tolist()
    [[5, 35, 95], [255, 255, 255], [190, 75, 0], [190, 75, 0]]
    """
    negative, positive = (_ramp(stops) for stops in (_DARK_STOPS if dark else _LIGHT_STOPS))
    return np.concatenate([negative[:0:-1], positive, positive[-1:]])


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


def _ramp(stops: Sequence[Color]) -> np.ndarray:
    at, places = np.linspace(0, 1, 128), np.linspace(0, 1, len(stops))
    channels = [np.interp(at, places, channel) for channel in zip(*stops, strict=True)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)
