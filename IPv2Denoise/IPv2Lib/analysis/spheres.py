"""What a volume holds in a sphere: a nodule and its surround, measured.

Where spheres are placed, and how, is the panel's business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..io.volume import Volume
from ..options import check, option

_GAP, _SHELL_MM = 1.5, 3.0
"""The surround is a shell of this thickness, from this many radii on: blur and a sphere that is off do not reach it."""
_CLEAR = 2.0
"""Times the noise of the surround: what has less contrast has no border that could be found."""


@dataclass(frozen=True)
class SphereOptions:
    """How spheres are placed.

    Raises
    ------
    InputError
        For a value out of range.
    """

    diameter_mm: float = option(
        6.0, "diameter of a sphere, that of the nodule; it is for the sphere placed last and those to come",
        unit="mm", low=3, high=20, label="diameter", flag="-", panel="sphereDiameterMm", decides=False,
    )  # fmt: skip

    def __post_init__(self):
        check(self)


@dataclass(frozen=True)
class SphereMeasures:
    """What `measure_sphere` found; NaN where there are too few voxels.

    Attributes
    ----------
    mean_hu, sigma_hu : float
        Mean and standard deviation in the sphere.
    contrast_hu : float
        Mean in the sphere less the median of its surround, a shell of 3 mm that begins at 1.5 radii.
    volume_mm3 : float
        What lies within 1.5 radii on the nodule's side of half that contrast; NaN where the contrast is below twice the
        noise of the surround.
    """

    mean_hu: float
    sigma_hu: float
    contrast_hu: float
    volume_mm3: float


def measure_sphere(volume: Volume, center: Sequence[float], diameter_mm: float) -> SphereMeasures:
    """Measure a sphere: a voxel belongs to it if its centre does.

    Parameters
    ----------
    volume : Volume
    center : sequence of 3 floats
        LPS, mm; may lie outside the volume.
    diameter_mm : float
        That of the nodule: in a sphere that is larger, mean and contrast are diluted.

    Raises
    ------
    InputError
        For a diameter out of range.

    Examples
    --------
    >>> lung = np.full((21, 41, 41), -850, np.int16)
    >>> lung[8:13, 18:23, 18:23] = -50
    >>> found = measure_sphere(Volume(lung), (20, 20, 10), 3)
    >>> found.mean_hu, found.sigma_hu, found.contrast_hu
    (-50.0, 0.0, 800.0)
    """
    radius = SphereOptions(diameter_mm).diameter_mm / 2
    hu, distance = _around(volume, center, _GAP * radius + _SHELL_MM)
    inside, near = hu[distance <= radius], hu[distance <= _GAP * radius]
    surround = hu[distance > _GAP * radius]
    mean = float(inside.mean()) if inside.size else math.nan
    sigma = float(inside.std(ddof=1)) if inside.size > 1 else math.nan
    level = float(np.median(surround)) if surround.size else math.nan
    contrast = mean - level
    above = np.abs(contrast) / 2 < (near - level) * np.sign(contrast)
    noise = 1.4826 * float(np.median(np.abs(surround - level))) if surround.size else math.nan
    is_clear = abs(contrast) >= _CLEAR * noise and contrast != 0
    size = float(above.sum()) * math.prod(volume.spacing) if is_clear else math.nan
    return SphereMeasures(mean, sigma, contrast, size)


def _around(volume: Volume, center: Sequence[float], reach_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """HU and distance from a point (mm) of all voxels that are no farther than `reach_mm`."""
    columns_to_slices = (np.linalg.inv(volume.affine) @ [*center, 1])[:3]
    place, spacing = columns_to_slices[::-1], np.array(volume.spacing[::-1])
    first = np.maximum(np.ceil(place - reach_mm / spacing), 0).astype(int)
    last = np.minimum(np.floor(place + reach_mm / spacing) + 1, volume.array.shape).astype(int)
    ranges = [np.arange(low, max(low, high)) for low, high in zip(first, last, strict=True)]
    offsets = [(each - at) * mm for each, at, mm in zip(ranges, place, spacing, strict=True)]
    squares = [each**2 for each in np.ix_(*offsets)]
    distance = np.sqrt(squares[0] + squares[1] + squares[2])
    close = distance <= reach_mm
    return volume.array[np.ix_(*ranges)][close].astype(np.float64), distance[close]
