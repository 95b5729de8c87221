"""The phantoms: water in three sizes, rods, low-contrast disks, a section of lung. Every HU and every place is known.

Owns shapes and places; noise is `realisations`'. Cylinders lie along the slices, so that one slice says all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from scipy import ndimage

from ...analysis.region_labels import Region
from ...hounsfield import AIR_HU
from ...simulation import phantom, projection
from . import nodules
from .places import Place

PIXEL_MM = 0.75
SLICE_MM = 2.0

WATER_CM = (16, 22, 32)
"""Diameters of the water phantoms."""

RODS_HU = {"bone": 900.0, "Delrin": 340.0, "acrylic": 120.0, "polystyrene": -35.0, "lung": -800.0}
"""HU of the rods of 25 mm, by what they stand for."""

DISKS = {3.0: 14.0, 5.0: 7.0, 7.0: 5.0, 10.0: 3.0}
"""Contrast in HU of low-contrast disks by diameter in mm, as in MITA CCT189."""

NODULES_MM = (3.0, 4.0, 6.0, 8.0)
NODULES_HU = (-600.0, -400.0, -100.0, 50.0)

FAINT = {3.0: 30.0, 5.0: 15.0, 8.0: 8.0}
"""Contrast in HU of faint nodules by diameter in mm."""

FAINT_SLICES = (3, 8)
"""With such nodules: as far apart as no two of them touch."""

_ROD_MM, _ROD_RING_MM = 25.0, 62.0
_DISK_RINGS = ((36.0, 8), (66.0, 16))
"""Distance from the axis in mm and number of disks."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """A phantom without noise.

    Attributes
    ----------
    name : str
    truth : ndarray, shape (slices, rows, columns)
        HU; one slice for what is the same in all.
    spacing : tuple of 3 floats
        mm.
    source : ndarray, shape (rows, columns)
        HU of the slice that the noise is simulated for, of which `truth` may be a part.
    corner : (int, int)
        Row and column of `source` where `truth` begins.
    places : tuple of Place
    masks : dict of str to ndarray
        Regions of `truth`.
    """

    name: str
    truth: np.ndarray
    spacing: tuple[float, float, float]
    source: np.ndarray
    corner: tuple[int, int] = (0, 0)
    places: tuple[Place, ...] = ()
    masks: dict[str, np.ndarray] = field(default_factory=dict)


def reconstructed(truth: np.ndarray, kernel: str) -> np.ndarray:
    """Slices (..., rows, columns) as a kernel shows them: their spectrum times the kernel's gain."""
    rows, columns = truth.shape[-2:]
    u = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None]) / 0.5
    gain = np.where(u <= 1.0, projection.kernel(kernel).at(np.minimum(u, 1.0)), 0.0)
    shown = np.fft.irfft2(np.fft.rfft2(truth - AIR_HU) * gain, (rows, columns)) + AIR_HU
    return shown.astype(np.float32)


@cache
def water(diameter_cm: float = 22) -> Phantom:
    """A cylinder of water; masks: ``inside``, away from its border, ``centre`` and ``edge``."""
    radius = 5.0 * diameter_cm
    size = 32 * int(np.ceil((2 * radius + 20) / PIXEL_MM / 32))
    distance = _distance(size, (size - 1) / 2, (size - 1) / 2)
    hu = (AIR_HU * (1 - _covered(distance, radius))).astype(np.float32)
    masks = {
        "inside": distance <= radius - 8,
        "centre": distance <= 0.3 * radius,
        "edge": (distance <= radius - 12) & (distance >= radius - 12 - 0.25 * radius),
    }
    return Phantom(f"water {diameter_cm:g} cm", hu[None], (PIXEL_MM, PIXEL_MM, SLICE_MM), hu, masks=masks)


@cache
def rods() -> Phantom:
    """Water of 22 cm with a rod for each of `RODS_HU`."""
    base = water(22)
    size = len(base.source)
    hu, places = base.source.copy(), []
    for number, (name, value) in enumerate(RODS_HU.items()):
        angle = 0.3 + 2 * np.pi * number / len(RODS_HU)
        row, column = ((size - 1) / 2 + _ROD_RING_MM / PIXEL_MM * each for each in (np.sin(angle), np.cos(angle)))
        hu += _covered(_distance(size, row, column), _ROD_MM / 2) * np.float32(value)
        places.append(Place(row, column, _ROD_MM, value, name))
    return replace(base, name="rods", truth=hu[None], places=tuple(places))


@cache
def disks(present: bool = True) -> Phantom:
    """Water of 22 cm with low-contrast disks, or with their places only."""
    base = water(22)
    size = len(base.source)
    hu, places, kinds = base.source.copy(), [], list(DISKS.items())
    for ring, count in _DISK_RINGS:
        for number in range(count):
            diameter, contrast = kinds[number % len(kinds)]
            angle = 0.1 + 2 * np.pi * number / count
            # Whole pixels, so that all channels of one size are alike.
            row, column = (round((size - 1) / 2 + ring / PIXEL_MM * each) for each in (np.sin(angle), np.cos(angle)))
            if present:
                hu += _covered(_distance(size, row, column), diameter / 2) * np.float32(contrast)
            places.append(Place(row, column, diameter, contrast))
    return replace(base, name="disks", truth=hu[None], places=tuple(places))


@cache
def chest(size: int = 512, slices: int = 12, slice_mm: float = 1.5) -> tuple[np.ndarray, np.ndarray, float]:
    """HU and labels of the middle of the synthetic chest in thin slices, and its pixel spacing."""
    volume, labels = phantom.section(0, size, slices, slice_mm)
    return (
        np.maximum(volume.array, AIR_HU),
        np.where(labels == Region.OUTSIDE, Region.BACKGROUND, labels),
        (volume.spacing[0]),
    )


@cache
def anatomy(slices: int = 12, size: int = 512) -> Phantom:
    """Whole slices of the synthetic chest; masks as of `lung`, by slice."""
    hu, labels, pixel = chest(size, slices)
    return Phantom("chest", hu, (pixel, pixel, 1.5), hu[slices // 2].copy(), masks=_tissues(hu, labels))


@cache
def faint(slices: int = 12, size: int = 512) -> Phantom:
    """The lung of one HU with a faint nodule of ground glass in each of its patches, in the slices `FAINT_SLICES`."""
    base = lung(slices, size, flat=True)
    hu, places, kinds = base.truth.copy(), [], list(FAINT.items())
    corners = nodules.whole_patches(base.masks["inner"])
    for number, (k, i, j) in enumerate(each for each in corners if each[0] in FAINT_SLICES):
        diameter, contrast = kinds[number % len(kinds)]
        center = (k, i + nodules.PATCH // 2, j + nodules.PATCH // 2)
        hu += contrast * _sphere(hu.shape, center, diameter / 2, base.spacing)
        places.append(Place(float(center[1]), float(center[2]), diameter, contrast, f"{diameter:g}", float(k)))
    return replace(base, name="faint nodules", truth=hu, places=tuple(places))


@cache
def lung(slices: int = 12, size: int = 512, flat: bool = False) -> Phantom:
    """One lung of the synthetic chest, in slices of 1.5 mm, with nodules and emphysema; or a lung of one HU.

    Masks by slice: ``inner`` (the lung and its vessels, away from the wall), ``parenchyma``, ``soft`` and ``bone``.
    """
    hu, labels, pixel = chest(size, slices)
    hu = hu.copy()
    source = hu[slices // 2].copy()
    half = labels[:, :, size // 2 :] == Region.LUNG  # the patient's left lung, right in the image
    closed = np.array([ndimage.binary_fill_holes(ndimage.binary_closing(each, iterations=6)) for each in half])
    whole = np.zeros(labels.shape, bool)
    whole[:, :, size // 2 :] = closed
    rows, columns = (np.flatnonzero(whole.any((0, axis))) for axis in (2, 1))
    top, left = max(rows[0] - 24, 0), max(columns[0] - 16, 0)
    box = np.s_[
        :, top : top + 16 * -(-(rows[-1] + 40 - top) // 16), left : left + 16 * -(-(columns[-1] + 40 - left) // 16)
    ]
    hu, whole, labels = hu[box], whole[box], labels[box]
    inner = np.array([ndimage.binary_erosion(each, iterations=6) for each in whole])
    places: list[Place] = []
    spacing = (pixel, pixel, 1.5)
    if flat:
        parenchyma = (labels == Region.LUNG) & (hu < -700) & (hu > -940)
        hu[whole] = hu[parenchyma].mean()
        hu = np.where(ndimage.binary_dilation(whole, iterations=2) & ~whole, np.maximum(hu, -900), hu)
    else:
        rng = np.random.default_rng(11)
        hu = _with_emphysema(hu, inner, spacing, rng)
        hu, places = _with_nodules(hu, inner, spacing, rng)
    masks = _tissues(hu, labels) | {"inner": inner, "parenchyma": inner & (hu < -700)}
    name = "flat lung" if flat else "lung"
    return Phantom(name, hu.astype(np.float32), spacing, source, (top, left), tuple(places), masks)


def _tissues(hu: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    soft = (labels == Region.SOFT_TISSUE) & (hu > -150) & (hu < 200)
    return {"parenchyma": (labels == Region.LUNG) & (hu < -700), "soft": soft, "bone": labels == Region.BONE}


def _with_emphysema(
    hu: np.ndarray, inner: np.ndarray, spacing: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Round places of -985 HU, 3 to 9 mm, in the upper half of the image, among parenchyma."""
    candidates = np.argwhere(inner & (hu < -800))
    candidates = candidates[candidates[:, 1] < np.median(candidates[:, 1])]
    dark = np.zeros(hu.shape, np.float32)
    for place in candidates[rng.permutation(len(candidates))[: max(4, len(candidates) // 600)]]:
        dark = np.maximum(dark, _sphere(hu.shape, tuple(place), rng.uniform(3, 9) / 2, spacing))
    return np.where(hu < -700, hu + dark * (-985 - hu), hu).astype(np.float32)


def _with_nodules(
    hu: np.ndarray, inner: np.ndarray, spacing: tuple[float, float, float], rng: np.random.Generator
) -> tuple[np.ndarray, list[Place]]:
    """Every size with every HU, largest first, where there is nothing but parenchyma."""
    slices = len(hu)
    open_lung = inner & (hu < -780)
    room = ndimage.distance_transform_edt(open_lung, spacing[::-1])
    places: list[Place] = []
    for diameter, value in sorted(((d, v) for d in NODULES_MM for v in NODULES_HU), reverse=True):
        free = room.copy()
        # Whole, and with slices beyond, for denoisers that look at neighbours.
        margin = int(np.ceil(diameter / 2 / spacing[2]))
        free[:margin], free[slices - margin :] = 0, 0
        best = np.argwhere(free >= min(diameter / 2 + 3, free.max()))
        if not len(best) or free.max() < diameter / 2 + 1:
            continue
        k, i, j = best[rng.integers(len(best))]
        covered = _sphere(hu.shape, (k, i, j), diameter / 2, spacing)
        hu = hu + covered * (value - hu)
        places.append(Place(float(i), float(j), diameter, value, f"{diameter:g} mm, {value:g} HU", float(k)))
        room = np.minimum(room, _distances(hu.shape, (k, i, j), spacing) - diameter / 2 - 1)
    return hu.astype(np.float32), places


def _distance(size: int, row: float, column: float) -> np.ndarray:
    rows, columns = np.indices((size, size))
    return np.hypot(rows - row, columns - column) * PIXEL_MM


def _covered(distance: np.ndarray, radius: float) -> np.ndarray:
    """About which part of a pixel lies inside a circle."""
    return np.clip(0.5 + (radius - distance) / PIXEL_MM, 0, 1).astype(np.float32)


def _distances(shape: tuple[int, ...], center: tuple[float, ...], spacing: tuple[float, float, float]) -> np.ndarray:
    k, i, j = np.ogrid[tuple(map(slice, shape))]
    x, y, z = spacing
    return np.sqrt(((k - center[0]) * z) ** 2 + ((i - center[1]) * y) ** 2 + ((j - center[2]) * x) ** 2)


def _sphere(
    shape: tuple[int, ...], center: tuple[float, ...], radius: float, spacing: tuple[float, float, float]
) -> np.ndarray:
    """About which part of a voxel lies inside a sphere, with a rim as soft as the chest's own."""
    return np.clip(0.5 + (radius - _distances(shape, center, spacing)) / max(spacing[0], 1.0), 0, 1).astype(np.float32)
