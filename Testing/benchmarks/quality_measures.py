"""What the quality benchmark measures on images: errors and edges by the product's table of measures, nodules and
things invented.

Every function takes arrays in HU and knows nothing of models, filters or bars.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from IPv2Lib.analysis.regions import Region
from IPv2Lib.evaluation import edges, measures
from quality_cases import Block
from scipy import ndimage

TISSUES = (Region.LUNG, Region.SOFT_TISSUE, Region.BONE)
DISC_MM = 3.0
"""Diameter of the disc whose mean decides whether something looks like a nodule."""

PATCH_PIXELS = 24


@dataclass(frozen=True)
class Scores:
    """Numbers of one method on one case; expressible in JSON.

    Attributes
    ----------
    rmse_hu : float
        In the body.
    bias_hu : dict of str to float
        Mean of result - ground truth by tissue; NaN where there is none.
    edges : dict of str to (list of float, list of float)
        Real and imaginary part of the summed edge spectrum, by border.
    """

    rmse_hu: float
    bias_hu: dict[str, float]
    edges: dict[str, tuple[list[float], list[float]]]

    def as_dict(self) -> dict[str, Any]:
        """For the cache."""
        return asdict(self)

    def spectrum(self, border: str) -> np.ndarray:
        """Complex edge spectrum for `edges.transfer` and `edges.half_frequency`."""
        real, imaginary = self.edges[border]
        return np.array(real) + 1j * np.array(imaginary)


def scores(result: np.ndarray, block: Block) -> Scores:
    """Measure the result for the scored slices of a block, shape (slices, rows, columns), HU."""
    beside = measures.Block(block.ground_truth, result, block.labels, block.spacing_mm)

    def value(name: str) -> float:
        return measures.BY_NAME[name].of(beside)

    spectra = {name: edge_spectrum(result, borders) for name, borders in block.borders.items()}
    return Scores(
        value("rmse_body_hu"),
        {tissue.label: value(f"bias_{tissue.name.lower()}_hu") for tissue in TISSUES},
        {name: (spectrum.real.tolist(), spectrum.imag.tolist()) for name, spectrum in spectra.items()},
    )


def edge_spectrum(images: np.ndarray, borders: Sequence[edges.Border]) -> np.ndarray:
    """Sum of the edge spectra of slices, (frequencies,) complex."""
    return sum(edges.edge_spectrum(image, border) for image, border in zip(images, borders, strict=True))


def half_frequency(spectrum: np.ndarray) -> float:
    """TTF50 in 1/mm; NaN for no border."""
    return float(edges.half_frequency(spectrum)) if np.any(spectrum) else math.nan


def blurred_half_frequency(spectrum: np.ndarray, sigma_mm: float) -> float:
    """TTF50 that a Gaussian blur must give to an edge of this spectrum, 1/mm."""
    return half_frequency(spectrum * np.exp(-2 * (math.pi * sigma_mm * edges.FREQUENCIES) ** 2))


def disc(diameter_mm: float, spacing_mm: float) -> np.ndarray:
    """Weights of a disc, (size, size), sum 1; pixels on its rim count by about what of them is inside."""
    radius = diameter_mm / 2 / spacing_mm
    reach = math.ceil(radius)
    axis = np.arange(-reach, reach + 1)
    weights = np.clip(radius + 0.5 - np.hypot(axis[:, None], axis), 0, 1)
    return weights / weights.sum()


def excess(image: np.ndarray, place: tuple[int, int], spacing_mm: float) -> float:
    """How far the brightest disc of 3 mm inside a patch lies above the patch's median, HU.

    Parameters
    ----------
    image : ndarray, shape (rows, columns)
        HU.
    place : (int, int)
        First row and column of the patch of `PATCH_PIXELS`².
    spacing_mm : float
        Between pixels.
    """
    row, column = place
    patch = np.asarray(image[row : row + PATCH_PIXELS, column : column + PATCH_PIXELS], np.float64)
    weights = disc(DISC_MM, spacing_mm)
    margin = len(weights) // 2
    means = ndimage.correlate(patch, weights, mode="nearest")[margin:-margin, margin:-margin]
    return float(means.max() - np.median(patch))


def whole_patches(mask: np.ndarray) -> list[tuple[int, int]]:
    """First row and column of the patches, side by side, that lie inside a mask of shape (rows, columns)."""
    side = PATCH_PIXELS
    rows, columns = (length // side for length in mask.shape)
    full = mask[: rows * side, : columns * side].reshape(rows, side, columns, side).all((1, 3))
    return [(int(row) * side, int(column) * side) for row, column in np.argwhere(full)]


def contrast(image: np.ndarray, center: tuple[float, float], diameter_mm: float, spacing_mm: float) -> float:
    """Mean of a disc less the median of a ring from 2 to 5 mm outside of it, HU.

    Parameters
    ----------
    image : ndarray, shape (rows, columns)
        HU.
    center : (float, float)
        Row and column.
    """
    rows, columns = np.indices(image.shape)
    distance = np.hypot(rows - center[0], columns - center[1]) * spacing_mm - diameter_mm / 2
    inside, ring = distance <= 0, (distance >= 2) & (distance <= 5)
    return float(image[inside].mean() - np.median(image[ring]))


def mean_bias(result: np.ndarray, ground_truth: np.ndarray, masks: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean of result - ground truth by tissue, HU; NaN where there is none of it."""
    difference = np.asarray(result, np.float64) - ground_truth
    return {name: float(difference[mask].mean()) if mask.any() else math.nan for name, mask in masks.items()}
