"""Scores of a result against a reference of the same anatomy: error in the body, PSNR, SSIM, and by region.

Owns the door of `ipv2 evaluate`: what can be compared, and the scores as text and as JSON. Which measures there are and
how each is computed says `measures`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..analysis import regions
from ..analysis.region_labels import Region
from ..errors import InputError
from ..hounsfield import SCORED_HU
from ..io.volume import Volume, check_ct, same_grid
from .measures import EVALUATE, Block, Measure, shown_in

OVERALL = tuple(measure for measure in shown_in(EVALUATE) if measure.region is None)
"""The measures of a whole volume."""


def of_region(region: Region) -> tuple[Measure, ...]:
    """The measures of one region."""
    return tuple(measure for measure in shown_in(EVALUATE) if measure.region == region)


@dataclass(frozen=True)
class Evaluation:
    """Scores of one result against one reference; `evaluation["rmse_body_hu"]` is one of them.

    Attributes
    ----------
    values : mapping of str to float
        By the name of the measure. Not a number where it cannot be measured: an error without a body, SSIM of slices of
        fewer than 7 rows or columns, a region that does not occur. PSNR of identical volumes is infinite.
    own : mapping of str to float
        Of the reference, measured the same way: its noise.
    voxels : mapping of Region to int
        Of the regions that occur in the reference, in the order of `Region`, without the padding.
    """

    values: Mapping[str, float]
    own: Mapping[str, float]
    voxels: Mapping[Region, int]

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    def as_dict(self) -> dict:
        """Return plain numbers and texts for JSON; what is not a finite number becomes None."""
        return {
            **{measure.key or measure.name: _finite(self[measure.name]) for measure in OVERALL},
            "window_hu": list(SCORED_HU),
            "regions": [
                {"region": region.label, "voxels": voxels, **self._of_region(region)}
                for region, voxels in self.voxels.items()
            ],
        }

    def _of_region(self, region: Region) -> dict[str, float | None]:
        found = {}
        for measure in of_region(region):
            found[measure.key] = _finite(self[measure.name])
            if measure.own:
                found[measure.key.replace("_hu", "_reference_hu")] = _finite(self.own[measure.name])
        return found


def compare(result: Volume, reference: Volume, labels: np.ndarray | None = None) -> Evaluation:
    """Score a result against a reference on the same grid.

    RMSE, PSNR and SSIM use values clipped to `SCORED_HU` and a data range of 1624 HU. PSNR is that of whole slices, and
    of all of them at once; SSIM is taken slice by slice with its default 7×7 window and averaged. Bias and σ (see
    `regions.statistics`) are not clipped.

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
    >>> round(compare(result, reference, labels)["rmse_body_hu"], 2)
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
    result_beside, reference_beside = (
        Block(reference.array, array, labels, reference.spacing[0]) for array in (result.array, reference.array)
    )
    counts = {region: int(np.count_nonzero(labels == region)) for region in Region if region != Region.OUTSIDE}
    measures = shown_in(EVALUATE)
    return Evaluation(
        values={measure.name: measure.of(result_beside) for measure in measures},
        own={measure.name: measure.of(reference_beside) for measure in measures if measure.own},
        voxels={region: count for region, count in counts.items() if count},
    )


def table(evaluation: Evaluation) -> str:
    """Return the scores as an aligned text of a few lines, for a terminal."""
    rows = []
    for region in evaluation.voxels:
        cells = {"": region.label}
        for measure in of_region(region):
            cells[measure.short] = measure.number(evaluation[measure.name])
            if measure.own:
                cells[f"{measure.short} of reference"] = measure.number(evaluation.own[measure.name])
        rows.append(cells)
    lines = [[*cells.values()] for cells in rows]
    if rows:
        lines.insert(0, [*rows[0]])
    width = max(len(measure.title) for measure in OVERALL)
    return "\n".join(
        [
            *(f"{measure.title:{width}}  {measure.text(evaluation[measure.name])}" for measure in OVERALL),
            "",
            "In HU, by region of the reference (bias = mean of result − reference):",
            *_aligned(lines),
        ]
    )


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]


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


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
