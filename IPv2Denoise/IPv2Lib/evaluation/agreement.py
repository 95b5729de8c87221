"""Scores of a result against a reference of the same anatomy: error in the body, PSNR, SSIM, and by region.

Owns which numbers are reported, over which voxels and in which window. What a region is belongs to `regions`;
simulation, purification and drawing belong elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..analysis import regions
from ..analysis.region_labels import Region
from ..analysis.region_statistics import statistics
from ..errors import InputError
from ..io.volume import Volume, check_ct, same_grid
from .measures import WINDOW_HU, psnr, ssim, windowed

BODY = (Region.LUNG, Region.SOFT_TISSUE, Region.BONE)
"""The regions that make up the body, everything inside the skin."""


@dataclass(frozen=True)
class RegionScore:
    """How a result differs from the reference inside one region; all in HU.

    Attributes
    ----------
    region : Region
    voxels : int
    rmse : float
        Root mean square error of the values clipped to `WINDOW_HU`.
    bias : float
        Mean of result − reference, not clipped.
    sigma : float
        Noise of the result, as `region_statistics.statistics` measures it.
    sigma_reference : float
        Noise of the reference, measured the same way.
    """

    region: Region
    voxels: int
    rmse: float
    bias: float
    sigma: float
    sigma_reference: float


@dataclass(frozen=True)
class Evaluation:
    """Scores of one result against one reference.

    Attributes
    ----------
    body_rmse : float
        RMSE in HU over lung, soft tissue and bone, clipped to `WINDOW_HU`; not a number without a body.
    psnr : float
        Peak signal-to-noise ratio in dB over whole slices (infinite for identical volumes).
    ssim : float
        Structural similarity, mean over slices; not a number for slices of fewer than 7 rows or columns.
    regions : tuple of RegionScore
        The regions that occur in the reference, in the order of `Region`, without the padding.
    """

    body_rmse: float
    psnr: float
    ssim: float
    regions: tuple[RegionScore, ...]

    def as_dict(self) -> dict:
        """Return plain numbers and texts for JSON; what is not a finite number becomes None."""
        return {
            "body_rmse_hu": _finite(self.body_rmse),
            "psnr_db": _finite(self.psnr),
            "ssim": _finite(self.ssim),
            "window_hu": list(WINDOW_HU),
            "regions": [
                {
                    "region": score.region.label,
                    "voxels": score.voxels,
                    "rmse_hu": _finite(score.rmse),
                    "bias_hu": _finite(score.bias),
                    "sigma_hu": _finite(score.sigma),
                    "sigma_reference_hu": _finite(score.sigma_reference),
                }
                for score in self.regions
            ],
        }


def compare(result: Volume, reference: Volume, labels: np.ndarray | None = None) -> Evaluation:
    """Score a result against a reference on the same grid.

    RMSE, PSNR and SSIM use values clipped to `WINDOW_HU` and a data range of 1624 HU. PSNR and SSIM are
    scikit-image's; SSIM is taken slice by slice with its default 7×7 window and averaged. Bias and σ come
    from `region_statistics.statistics` and are not clipped.

    Parameters
    ----------
    result, reference : Volume
        HU, same shape and geometry.
    labels : array of uint8, optional
        Regions, same shape as the volumes. By default `regions.segment` of the reference.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        If one of them is not a CT volume, if their grids differ, or if the labels have another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from IPv2Lib.analysis.regions import Region
    >>> reference = Volume(np.linspace(-900, 100, 2 * 16 * 16, dtype="float32").reshape(2, 16, 16))
    >>> result = reference.with_array(reference.array + 10)
    >>> labels = np.full((2, 16, 16), Region.SOFT_TISSUE, np.uint8)
    >>> round(compare(result, reference, labels).body_rmse, 2)
    10.0
    """
    check_ct(result)
    check_ct(reference)
    _check_same_grid(result, reference)
    if labels is None:
        labels = regions.segment(reference.array, reference.spacing)
    elif labels.shape != reference.array.shape:
        raise InputError(
            f"the labels have shape {labels.shape}, the volumes {reference.array.shape}: "
            "give one label for each voxel of the reference"
        )
    window_result, window_reference = windowed(result.array), windowed(reference.array)
    squared_error = np.square(window_result - window_reference)
    return Evaluation(
        body_rmse=_root_mean(squared_error[np.isin(labels, BODY)]),
        psnr=psnr(window_reference, window_result),
        ssim=float(np.mean(list(map(ssim, window_reference, window_result)))),
        regions=tuple(
            RegionScore(
                region=Region(item.region),
                voxels=int(item.voxels),
                rmse=_root_mean(squared_error[labels == item.region]),
                bias=float(item.bias),
                sigma=float(item.sigma_after),
                sigma_reference=float(item.sigma_before),
            )
            for item in statistics(labels, reference.array, result.array)
            if item.region != Region.OUTSIDE and item.voxels > 0
        ),
    )


def table(evaluation: Evaluation) -> str:
    """Return the scores as an aligned text of a few lines, for a terminal."""
    rows = [("", "RMSE", "bias", "noise σ", "σ of reference")]
    rows += [
        (score.region.label, *map(number, (score.rmse, score.bias, score.sigma, score.sigma_reference)))
        for score in evaluation.regions
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        f"Body RMSE  {number(evaluation.body_rmse)} HU",
        f"PSNR       {number(evaluation.psnr, 2)} dB",
        f"SSIM       {number(evaluation.ssim, 4)}",
        "",
        "In HU, by region of the reference (bias = mean of result − reference):",
    ]
    for name, *numbers in rows:
        cells = [name.ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def number(value: float, digits: int = 1) -> str:
    """Return a number for a reader: a true minus sign, ∞, and – for what could not be measured.

    >>> number(-3.14159), number(float("inf")), number(float("nan"))
    ('−3.1', '∞', '–')
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def _check_same_grid(result: Volume, reference: Volume) -> None:
    if not same_grid(result, reference):
        raise InputError(
            f"result and reference lie on different grids, {_describe(result)} and {_describe(reference)}: "
            "compare volumes of one scan, or resample one onto the other first (IPv2Lib.io.volume.resample_onto)"
        )


def _describe(volume: Volume) -> str:
    slices, rows, columns = volume.array.shape
    spacing = " × ".join(f"{value:.4g}" for value in volume.spacing)
    origin = ", ".join(f"{value:.5g}" for value in volume.origin)
    return f"{columns} × {rows} × {slices} voxels of {spacing} mm from ({origin})"


def _root_mean(squared_error: np.ndarray) -> float:
    return math.sqrt(squared_error.mean(dtype=np.float64)) if squared_error.size else math.nan


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
