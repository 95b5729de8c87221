"""The masks of purification: dark pixels, background, and the common masks CM1 and CM2 of a pair.

Every slice is treated by itself: in three dimensions the trachea would connect the lungs to the room.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..analysis.region_labels import Region
from ..analysis.regions import segment
from ..errors import InputError
from ..hounsfield import window_8bit
from ..io.volume import Volume
from ..parallel.threads import over_slices
from .settings import IPV2, Settings

COARSE_MM = 1.6
"""Pixels of about this size show well enough where the body is."""


@dataclass(frozen=True, eq=False)
class CommonMasks:
    """D(L), D(N), CM1, B and CM2 of a pair: boolean, (slices, rows, columns)."""

    dark_uldct: np.ndarray
    dark_ndct: np.ndarray
    cm1: np.ndarray
    background: np.ndarray
    cm2: np.ndarray

    def common(self, settings: Settings) -> np.ndarray:
        """M: CM2 with *Remove Background*, CM1 without."""
        return self.cm2 if settings.remove_background else self.cm1


def common_masks(
    uldct: Volume, ndct: Volume, settings: Settings = IPV2, outside: np.ndarray | None = None
) -> CommonMasks:
    """The masks of a pair on one grid.

    Parameters
    ----------
    uldct, ndct : Volume
        L and N, HU.
    settings : Settings
        The window, the threshold and `drop_enclosed_air` are used.
    outside : ndarray of bool, optional
        Outside the field of view of either.
    """
    window = settings.low_hu, settings.high_hu, settings.threshold_hu
    dark_uldct, dark_ndct = dark_mask(uldct.array, *window), dark_mask(ndct.array, *window)
    cm1 = dark_uldct | dark_ndct
    room = background(cm1, outside)
    if settings.drop_enclosed_air:
        room |= enclosed_air(cm1 & ~room, _outside_body(ndct))
    return CommonMasks(dark_uldct, dark_ndct, cm1, room, cm1 & ~room)


def dark_mask(
    array: np.ndarray, low_hu: float = -1000.0, high_hu: float = 400.0, threshold_hu: float | None = None
) -> np.ndarray:
    """D(x): air and lung of every slice.

    Otsu's threshold of the windowed 8-bit slice, inverted (or a fixed one in HU); opening with a 3×3 cross; pixels
    without any of 8 neighbours dropped. The same pixels as OpenCV's `threshold` and `morphologyEx` find.
    Padding outside the field of view clips to the window's lower end, as room air does, and so does not move the
    threshold from where a full square of air would put it.

    Parameters
    ----------
    array : ndarray, shape (slices, rows, columns)
        HU, finite.
    low_hu, high_hu : float
        Window, HU.
    threshold_hu : float, optional
        Pixels at or below this are dark; default: Otsu's threshold of each slice.

    Returns
    -------
    ndarray of bool, the shape of `array`

    Raises
    ------
    InputError
        Not three-dimensional, not finite, or an empty window.

    Examples
    --------
    >>> array = np.full((1, 8, 8), 40.0)
    >>> array[0, 2:6, 2:6] = -850.0
    >>> int(dark_mask(array).sum())  # the opening takes the four corners
    12
    """
    array = _checked(array)

    def dark(index: int) -> np.ndarray:
        if threshold_hu is not None:
            return _cleaned(array[index] <= threshold_hu)
        grey = window_8bit(array[index], low_hu, high_hu)
        return _cleaned(grey <= otsu_threshold(grey))

    return np.stack(over_slices(dark, len(array)))


def otsu_threshold(grey: np.ndarray) -> int:
    """Otsu's threshold as OpenCV finds it: pixels at or below it are the dark class.

    The first grey value that maximises the variance between the classes (Otsu, IEEE Trans. Syst. Man Cybern. 9,
    1979); 0 for an image of one value.

    Parameters
    ----------
    grey : ndarray of uint8
        Any shape.

    Examples
    --------
    >>> otsu_threshold(np.uint8([10, 10, 200, 200, 210]))
    10
    """
    probability = (np.bincount(grey.ravel(), minlength=256) * (1.0 / grey.size)).tolist()
    mean = sum(value * p for value, p in enumerate(probability))
    smallest = float(np.finfo(np.float32).eps)
    best, threshold = 0.0, 0
    weight_dark = mean_dark = 0.0
    # A running mean rather than cumulative sums: where thresholds tie, rounding decides, and it has to decide as
    # in OpenCV.
    for value, p in enumerate(probability):
        mean_dark *= weight_dark
        weight_dark += p
        weight_bright = 1.0 - weight_dark
        if min(weight_dark, weight_bright) < smallest:
            continue
        mean_dark = (mean_dark + value * p) / weight_dark
        mean_bright = (mean - weight_dark * mean_dark) / weight_bright
        between = weight_dark * weight_bright * (mean_dark - mean_bright) ** 2
        if between > best:
            best, threshold = between, value
    return threshold


def background(mask: np.ndarray, outside: np.ndarray | None = None) -> np.ndarray:
    """B: the part of a common mask that is connected to the border of its slice, through any of 4 neighbours.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
    outside : ndarray of bool, same shape, optional
        Outside the field of view. It is background, and so is what it touches.

    Returns
    -------
    ndarray of bool, same shape

    Examples
    --------
    >>> mask = np.zeros((1, 5, 7), bool)
    >>> mask[0, 2, [0, 1, 4]] = True
    >>> background(mask)[0, 2].astype(int)
    array([1, 1, 0, 0, 0, 0, 0])
    """
    mask = _checked(mask)

    def connected(index: int) -> np.ndarray:
        room = mask[index] if outside is None else mask[index] | outside[index]
        pieces, count = ndimage.label(room)
        keep = np.zeros(count + 1, bool)
        for border in (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]):
            keep[border] = True
        if outside is not None:
            keep[pieces[outside[index]]] = True
        keep[0] = False
        return keep[pieces]

    return np.stack(over_slices(connected, len(mask)))


def enclosed_air(mask: np.ndarray, outside_body: np.ndarray) -> np.ndarray:
    """The 4-connected pieces of a mask that lie outside the body: in the table, in cushions, under clothes.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        Dark pixels that are not connected to the border.
    outside_body : ndarray of bool, same shape

    Returns
    -------
    ndarray of bool, same shape
        The pieces of which more than half lies outside the body.
    """

    def pieces_outside(index: int) -> np.ndarray:
        pieces, count = ndimage.label(mask[index])
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)
        drop = np.bincount(pieces[outside_body[index]], minlength=count + 1) > 0.5 * sizes
        drop[0] = False
        return drop[pieces]

    return np.stack(over_slices(pieces_outside, len(mask)))


def _checked(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(f"an array of shape {array.shape} is not a volume: give (slices, rows, columns)")
    if not np.isfinite(array).all():
        raise InputError("some voxels are NaN or infinite: replace them by HU, e.g. -1024 outside the scan")
    return array


def _outside_body(volume: Volume) -> np.ndarray:
    """Room air and what is outside the field of view, on every few pixels: it only has to decide about pieces."""
    step = max(1, round(COARSE_MM / volume.spacing[0]))
    x, y, z = volume.spacing
    labels = segment(volume.array[:, ::step, ::step], (x * step, y * step, z))
    coarse = labels <= Region.BACKGROUND
    rows, columns = volume.array.shape[1:]
    return coarse.repeat(step, axis=1).repeat(step, axis=2)[:, :rows, :columns]


def _cleaned(dark: np.ndarray) -> np.ndarray:
    """Opening with a cross and removal of lone pixels; one slice. Beyond its border a slice has no neighbours to
    erode from or to be dilated from, as in OpenCV."""
    cross = ndimage.generate_binary_structure(2, 1)
    eroded = ndimage.binary_erosion(dark, cross, border_value=1)
    opened = ndimage.binary_dilation(eroded, cross)
    neighbours = ndimage.convolve(opened.astype(np.uint8), np.ones((3, 3), np.uint8), mode="constant") - opened
    return opened & (neighbours > 0)
