"""Respiratory motion: the lungs of a scan as after another breath."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from ..analysis.region_labels import Region
from ..analysis.regions import segment


def with_motion(ndct: np.ndarray, amplitude: float, rng: np.random.Generator, pixel_mm: float = 1.0) -> np.ndarray:
    """Deform the lungs smoothly, as breathing between two scans does; the chest wall stays where it is.

    Parameters
    ----------
    ndct : numpy.ndarray
        (slices, rows, columns), HU.
    amplitude : float
        Largest displacement, in pixels.
    rng : numpy.random.Generator
    pixel_mm : float
        Pixel spacing, which sets how smooth the deformation is.

    Returns
    -------
    numpy.ndarray
        float32, same shape.
    """
    return motion(ndct, amplitude, rng, pixel_mm)(ndct)


def motion(
    ndct: np.ndarray, amplitude: float, rng: np.random.Generator, pixel_mm: float
) -> Callable[[np.ndarray], np.ndarray]:
    """The deformation that `with_motion` makes of a scan, to be applied to it and to others on its grid."""
    lung = segment(ndct, (pixel_mm, pixel_mm, 1.0)) == Region.LUNG
    # 0 at the border of the lungs and outside, 1 deep inside.
    sigma = 6.0 / pixel_mm
    room = np.clip(2.0 * ndimage.gaussian_filter(lung.astype(np.float32), (0, sigma, sigma)) - 1.0, 0.0, 1.0)
    shape = ndct.shape[1:]
    step = max(1, round(8 / pixel_mm))
    field = rng.normal(size=(2, *(-(-n // step) for n in shape))).astype(np.float32)
    field = ndimage.gaussian_filter(field, (0, 5, 5))
    field = np.stack([ndimage.zoom(f, step, order=1)[: shape[0], : shape[1]] for f in field])
    field *= amplitude / max(float(np.abs(field).max()), 1e-6)
    grid = np.indices(shape, dtype=np.float32)

    def moved(scan: np.ndarray) -> np.ndarray:
        result = np.empty(scan.shape, np.float32)
        for k, image in enumerate(scan.astype(np.float32)):
            weight = np.minimum(room[k] * 1.5, 1.0)
            result[k] = ndimage.map_coordinates(image, grid + field * weight, order=1, mode="nearest")
        return result

    return moved
