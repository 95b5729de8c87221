"""Sharpness of a border of the anatomy: the task transfer function between two regions, without a phantom.

Owns where a border is (sub-pixel, from a reference image), the average edge profile across it, and its spectrum. What
the regions are is `regions`' question.

Method: edge spread function from the pixels' signed distances to the border, its derivative the line spread function,
whose Fourier transform is the task transfer function (Richard et al., Med. Phys. 39(7), 2012; AAPM report 233, 2019).
In a patient the border itself is not perfectly sharp, so results are to be compared with the reference's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ..analysis.region_labels import Region
from ..errors import InputError

FREQUENCIES = np.arange(101) * 0.02
"""Of spectra, 1/mm."""

_REACH_MM = 6.0  # from the border to both sides, within the limits below
_LEAST_PIXELS, _MOST_PIXELS = 4.0, 8.0
_BIN = 0.25  # pixels
_LEAST_PER_SIDE = 100  # pixels of the image
_UNSURE = 1.5  # pixels from the border within which a label may be wrong by noise


@dataclass(frozen=True, eq=False)
class Border:
    """Pixels near clean stretches of a border in one slice.

    Attributes
    ----------
    rows, columns : ndarray of int
    distance : ndarray
        Signed, in pixels: positive on the bright side.
    reach : float
        Largest distance, pixels.
    top : float
        Distance up to which the profile is followed on the bright side: less than the reach where something darker
        follows soon, as marrow does in bone.
    spacing_mm : float
        Between pixels.
    """

    rows: np.ndarray
    columns: np.ndarray
    distance: np.ndarray
    reach: float
    top: float
    spacing_mm: float


def find_border(reference: np.ndarray, labels: np.ndarray, spacing_mm: float, dark: Region, bright: Region) -> Border:
    """Find the border between two regions and every pixel's distance to it.

    The border is the contour of the reference halfway between the medians of both regions, smoothed along itself. Only
    stretches count from where on both sides, along the normal, nothing but the two regions follows for 6 mm (4 to 8
    pixels).

    Parameters
    ----------
    reference : ndarray, shape (rows, columns)
        HU, with little noise.
    labels : ndarray of the same shape
        Values of `Region`.
    spacing_mm : float
        Between pixels.
    dark, bright : Region
        The region of low and that of high HU.

    Returns
    -------
    Border
        Possibly without any pixel.

    Raises
    ------
    InputError
        For arrays that are not 2-D and alike, or a spacing that is not positive.
    """
    if reference.ndim != 2 or reference.shape != labels.shape:
        raise InputError(
            f"the slice has shape {reference.shape}, its labels {labels.shape}: give rows and columns, both alike"
        )
    if not spacing_mm > 0:
        raise InputError(f"the spacing is {spacing_mm} mm: it must be positive")
    reach = min(max(_REACH_MM / spacing_mm, _LEAST_PIXELS), _MOST_PIXELS)
    points, normals, clean = _contours(reference, labels, reach, dark, bright)
    nothing = np.zeros(0, int)
    if not clean.any():
        return Border(nothing, nothing, np.zeros(0), reach, reach, spacing_mm)
    from scipy.spatial import cKDTree

    near = np.zeros(reference.shape, bool)
    near[tuple(np.rint(points[clean]).astype(int).T)] = True
    near = ndimage.distance_transform_edt(~near) <= reach + 1
    rows, columns = np.nonzero(near)
    pixels = np.stack([rows, columns], 1).astype(float)
    _, nearest = cKDTree(points).query(pixels)
    distance = ((pixels - points[nearest]) * normals[nearest]).sum(1)
    # Farther away than the reach along the border: beyond the end of a contour that the slice cut.
    aside = np.abs(((pixels - points[nearest]) * normals[nearest][:, ::-1] * (1, -1)).sum(1))
    keep = clean[nearest] & (np.abs(distance) <= reach) & (aside <= 1)
    border = Border(rows[keep], columns[keep], distance[keep], reach, reach, spacing_mm)
    return replace(border, top=_top(reference, border))


def edge_spectrum(image: np.ndarray, border: Border) -> np.ndarray:
    """Fourier transform of the line spread function across a border, times the number of pixels that it comes from.

    Spectra of several slices may be added: the sum is the spectrum of their average profile.

    Parameters
    ----------
    image : ndarray, shape (rows, columns)
        HU, on the grid that the border was found on.
    border : Border

    Returns
    -------
    ndarray of complex, one value for each of `FREQUENCIES`
        All 0 where the border has too few pixels.
    """
    profile = _profile(image, border)
    if profile is None:
        return np.zeros(len(FREQUENCIES), complex)
    steps = len(profile) - 1
    places = (np.arange(steps) - (steps - 1) / 2) * _BIN
    line = np.diff(profile) * _taper(steps) * (places < border.top)
    width_mm = _BIN * border.spacing_mm
    spectrum = np.exp(-2j * math.pi * np.outer(FREQUENCIES, places * border.spacing_mm)) @ line
    # What averaging within bins and the difference of neighbours took away.
    return len(border.distance) * spectrum / np.maximum(np.sinc(FREQUENCIES * width_mm), 0.5) ** 2


def transfer(spectrum: np.ndarray) -> np.ndarray:
    """Task transfer function, 1 at frequency 0; NaN for a spectrum without contrast.

    Parameters
    ----------
    spectrum : ndarray of complex, shape (..., frequencies)
        Of `edge_spectrum`, or a sum of such.
    """
    contrast = spectrum[..., :1].real
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(contrast > 0, np.abs(spectrum) / contrast, np.nan)


def half_frequency(spectrum: np.ndarray) -> np.ndarray:
    """The frequency at which the task transfer function first falls below 50 %, 1/mm; NaN if it does not.

    Parameters
    ----------
    spectrum : ndarray of complex, shape (..., frequencies)

    Examples
    --------
    >>> sigma_mm = 1.0
    >>> gaussian = np.exp(-2 * (np.pi * sigma_mm * FREQUENCIES) ** 2) + 0j
    >>> f"{half_frequency(gaussian):.3f}, {math.sqrt(math.log(2) / 2) / (math.pi * sigma_mm):.3f}"
    '0.187, 0.187'
    """
    values = transfer(spectrum)
    below = values < 0.5
    after = np.maximum(below.argmax(-1), 1)[..., None]
    high = np.take_along_axis(values, after - 1, -1)[..., 0]
    low = np.take_along_axis(values, after, -1)[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        place = after[..., 0] - 1 + (high - 0.5) / (high - low)
    return np.where(below.any(-1), place * FREQUENCIES[1], np.nan)


def _contours(
    reference: np.ndarray, labels: np.ndarray, reach: float, dark: Region, bright: Region
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of the border (n, 2), unit normals to the bright side (n, 2), and which of them are clean."""
    from skimage.measure import find_contours

    inside, outside = labels == dark, labels == bright
    both = ndimage.binary_dilation(inside, iterations=2) & ndimage.binary_dilation(outside, iterations=2)
    empty = np.zeros((0, 2))
    if not both.any():
        return empty, empty, np.zeros(0, bool)
    band = ndimage.binary_dilation(both, iterations=round(reach))
    level = (np.median(reference[inside & band]) + np.median(reference[outside & band])) / 2
    parts = [_smooth(line) for line in find_contours(reference.astype(float), level, mask=both) if len(line) >= 8]
    if not parts:
        return empty, empty, np.zeros(0, bool)
    points = np.concatenate([part[0] for part in parts])
    normals = np.concatenate([part[1] for part in parts])
    steps = np.arange(_UNSURE, reach + 0.5, 0.5)
    forward, turned = (
        _all_along(inside, points, -side * normals, steps) & _all_along(outside, points, side * normals, steps)
        for side in (1, -1)
    )
    normals[turned] *= -1
    return points, normals, forward | turned


def _smooth(line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of a contour averaged along it, where it is closed around, and unit normals."""
    mode = "wrap" if np.array_equal(line[0], line[-1]) else "nearest"
    if mode == "wrap":
        line = line[:-1]
    smooth = ndimage.gaussian_filter1d(line, 2.0, axis=0, mode=mode)
    ahead = ndimage.convolve1d(smooth, [1, 0, -1], axis=0, mode=mode)
    normals = ahead[:, ::-1] * (1, -1)
    return smooth, normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def _all_along(mask: np.ndarray, points: np.ndarray, directions: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Whether a mask holds at every step from each point in its direction; not beyond the slice."""
    places = points[:, None] + directions[:, None] * steps[:, None]
    values = ndimage.map_coordinates(mask.astype(np.uint8), places.reshape(-1, 2).T, order=0, cval=0)
    return values.reshape(len(points), len(steps)).all(1)


def _profile(image: np.ndarray, border: Border) -> np.ndarray | None:
    """Mean HU by distance, from the dark side to the bright one; None where there are too few pixels."""
    count = round(2 * border.reach / _BIN)
    bins = np.clip(((border.distance + border.reach) / _BIN).astype(int), 0, count - 1)
    pixels = np.bincount(bins, minlength=count)
    bright = border.distance > 0
    if min(bright.sum(), (~bright).sum()) < _LEAST_PER_SIDE or (pixels > 0).mean() < 0.8:
        return None
    sums = np.bincount(bins, image[border.rows, border.columns].astype(float), minlength=count)
    filled = pixels > 0
    return np.interp(np.arange(count), np.flatnonzero(filled), sums[filled] / pixels[filled])


def _top(reference: np.ndarray, border: Border) -> float:
    """Where the profile of the reference is highest, if it falls by a fifth of the contrast after that."""
    profile = _profile(reference, border)
    if profile is None:
        return border.reach
    smooth = ndimage.gaussian_filter1d(profile, 0.5 / _BIN, mode="nearest")
    highest = int(smooth.argmax())
    falls = smooth[highest] - smooth[highest:].min()
    if falls < 0.2 * (smooth[highest] - smooth[0]):
        return border.reach
    return max((highest + 0.5) * _BIN - border.reach, 1.0)


def _taper(count: int) -> np.ndarray:
    """1 in the inner half, falling to 0 as a cosine in the outer one."""
    place = np.abs(np.linspace(-1, 1, count))
    return np.where(place < 0.5, 1.0, 0.5 * (1 + np.cos(math.pi * (2 * place - 1))))
