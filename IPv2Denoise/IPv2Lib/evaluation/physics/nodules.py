"""Nodules in lung: what is left of those that are there, and what looks like one where nothing is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from .places import Place

DISC_MM = 3.0
"""Diameter of the disc whose mean decides whether something looks like a nodule."""

PATCH = 24
"""Pixels per side of the patches in which such discs are looked for."""


def contrast(volume: np.ndarray, place: Place, spacing: tuple[float, float, float]) -> float:
    """Mean of the inner 70 % of the diameter less the median of a shell 2 to 5 mm outside, HU."""
    box, distance = _around(volume.shape, place, spacing)
    inside = distance <= max(0.35 * place.diameter_mm, 0.6 * spacing[0])
    return float(volume[box][inside].mean(dtype=np.float64)) - _background(volume[box], distance, place)


def diameter(volume: np.ndarray, place: Place, spacing: tuple[float, float, float]) -> float:
    """Diameter in mm of the sphere with the volume that lies above half of the nodule's contrast; NaN if none does.

    The nodule is what hangs together with its centre, within 3 mm of where it is.
    """
    box, distance = _around(volume.shape, place, spacing)
    values = volume[box]
    level = _background(values, distance, place)
    half = level + 0.5 * (place.hu - level)
    above = (values > half) & (distance <= place.diameter_mm / 2 + 3)
    labels, _ = ndimage.label(above)
    centre = np.unravel_index(int(distance.argmin()), distance.shape)
    if not labels[centre]:
        return float("nan")
    volume_mm3 = float((labels == labels[centre]).sum()) * float(np.prod(spacing))
    return float((6 * volume_mm3 / np.pi) ** (1 / 3))


def whole_patches(mask: np.ndarray) -> list[tuple[int, int, int]]:
    """Slice, first row and column of the patches, side by side, that lie inside a mask (slices, rows, columns)."""
    rows, columns = (length // PATCH for length in mask.shape[1:])
    cut = mask[:, : rows * PATCH, : columns * PATCH].reshape(len(mask), rows, PATCH, columns, PATCH)
    return [(int(k), int(i) * PATCH, int(j) * PATCH) for k, i, j in np.argwhere(cut.all((2, 4)))]


def excess(volume: np.ndarray, patches: Sequence[tuple[int, int, int]], spacing_mm: float) -> np.ndarray:
    """How far the brightest disc of 3 mm in each patch lies above the patch's median, HU."""
    weights = disc(DISC_MM, spacing_mm)
    margin = len(weights) // 2
    found = []
    for k, i, j in patches:
        patch = np.asarray(volume[k, i : i + PATCH, j : j + PATCH], np.float64)
        means = ndimage.correlate(patch, weights, mode="nearest")[margin:-margin, margin:-margin]
        found.append(float(means.max() - np.median(patch)))
    return np.array(found)


def disc(diameter_mm: float, spacing_mm: float) -> np.ndarray:
    """Weights of a disc, sum 1; pixels on its rim count by about what of them is inside."""
    radius = diameter_mm / 2 / spacing_mm
    axis = np.arange(-int(np.ceil(radius)), int(np.ceil(radius)) + 1)
    weights = np.clip(radius + 0.5 - np.hypot(axis[:, None], axis), 0, 1)
    return weights / weights.sum()


def _around(
    shape: tuple[int, ...], place: Place, spacing: tuple[float, float, float]
) -> tuple[tuple[slice, ...], np.ndarray]:
    """The part of a volume within 6 mm of a nodule, and the distance of its voxels from the centre, mm."""
    reach = place.diameter_mm / 2 + 6
    center = (place.slice, place.row, place.column)
    box = tuple(
        slice(max(int(at - reach / step), 0), min(int(at + reach / step) + 2, length))
        for at, step, length in zip(center, spacing[::-1], shape, strict=True)
    )
    axes = np.ogrid[box]
    distance = sum(((axis - at) * step) ** 2 for axis, at, step in zip(axes, center, spacing[::-1], strict=True))
    return box, np.sqrt(distance)


def _background(values: np.ndarray, distance: np.ndarray, place: Place) -> float:
    outside = distance - place.diameter_mm / 2
    return float(np.median(values[(outside >= 2) & (outside <= 5)]))
