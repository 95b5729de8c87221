"""Sharpness of rods: the task transfer function from the mean of many realisations.

Owns the border of a rod whose place is known, and the frequencies at which the transfer falls to 50 and 10 %. The
spectrum across a border is `edges`'.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import edges
from ..edges import FREQUENCIES, Border

REACH = 12.0
"""Pixels to both sides of the border that count."""

RESAMPLES = 400

UNSURE = 0.5
"""An interval wider than this part of the value: the frequency cannot be measured."""


def rod_border(
    shape: tuple[int, int], center: tuple[float, float], radius_mm: float, spacing_mm: float, bright: bool
) -> Border:
    """The border of a rod at a known place.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    center : (float, float)
        Row and column.
    bright : bool
        Whether the rod is brighter than what surrounds it.
    """
    rows, columns = np.indices(shape)
    inward = radius_mm / spacing_mm - np.hypot(rows - center[0], columns - center[1])
    keep = np.abs(inward) <= REACH
    distance = inward[keep] if bright else -inward[keep]
    return Border(rows[keep], columns[keep], distance, REACH, REACH, spacing_mm)


def transfer(spectrum: np.ndarray) -> np.ndarray:
    """Task transfer function of edge spectra (..., frequencies): the part in phase with the known border.

    Of noise, that part has no mean; the magnitude would have one, and never fall to 10 %.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return spectrum.real / spectrum[..., :1].real


def falls_to(values: np.ndarray, level: float) -> np.ndarray:
    """The frequency at which a transfer function (..., frequencies) first falls below a level, 1/mm; NaN if never.

    Examples
    --------
    >>> gaussian = np.exp(-2 * (np.pi * FREQUENCIES) ** 2)
    >>> [round(float(falls_to(gaussian, level)), 3) for level in (0.5, 0.1)]
    [0.187, 0.342]
    """
    below = values < level
    after = np.maximum(below.argmax(-1), 1)[..., None]
    high = np.take_along_axis(values, after - 1, -1)[..., 0]
    low = np.take_along_axis(values, after, -1)[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        place = after[..., 0] - 1 + (high - level) / (high - low)
    return np.where(below.any(-1), place * FREQUENCIES[1], np.nan)


def measured(images: np.ndarray, border: Border, seed: int = 0) -> dict[str, Any]:
    """TTF of the mean of images (realisations, rows, columns), with intervals over realisations.

    Returns
    -------
    dict
        ``transfer`` at every frequency up to 1 per mm; ``f50`` and ``f10``, 1/mm, None where the noise leaves them
        unknown; ``f50_interval``, ``f10_interval``.
    """
    spectra = np.array([edges.edge_spectrum(image, border) for image in images])
    mean = transfer(spectra.mean(0))
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(spectra), np.full(len(spectra), 1 / len(spectra)), RESAMPLES)
    resamples = transfer(times @ spectra)
    found: dict[str, Any] = {"transfer": [round(float(each), 4) for each in mean[FREQUENCIES <= 1.0 + 1e-9]]}
    for name, level in (("f50", 0.5), ("f10", 0.1)):
        value, spread = float(falls_to(mean, level)), falls_to(resamples, level)
        low, high = np.nanpercentile(spread, (2.5, 97.5)) if np.isfinite(spread).any() else (np.nan, np.nan)
        sure = np.isfinite([value, low, high]).all() and high - low <= UNSURE * value
        found |= {name: value if sure else None, f"{name}_interval": [float(low), float(high)] if sure else None}
    return found
