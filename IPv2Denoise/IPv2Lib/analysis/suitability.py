"""Whether a volume is what a model was made for: questions that are asked before the model runs.

Owns the sentences that warn and the limits behind them. What cannot be denoised at all is refused by
`volume.check_ct`; nothing here refuses, though `unusable` says why training data should be.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..io.volume import Volume, check_ct
from .noise import noise_sigma
from .region_labels import Region
from .regions import outside_field_of_view, segment

if TYPE_CHECKING:
    from ..models.card import ModelCard

NOISE_HU = (10.0, 300.0)
"""σ of the noise in soft tissue that a model knows whose card has no `noise_hu`."""

PIXEL_MM = (0.4, 1.3)
THICKEST_SLICE_MM = 5.0

SAMPLED_SLICES = 5
"""Evenly spaced slices that are looked at, fewer of them where they have more than 512×512 pixels."""

_SAMPLED_PIXELS = SAMPLED_SLICES * 512 * 512
_COARSE_PIXELS = 256  # rows or columns that show well enough what is lung
_LEAST_LUNG = 0.08  # of the body, in the slice with most of it; gas of the bowel stays below
_LEAST_CONTRAST_HU = 300.0  # between the darkest and the brightest thousandth; air and tissue are 1000 apart
_TISSUE_HU = (-150.0, 250.0)  # for the median of all that is denser than lung, contrast agent included
_FAR = 1.5  # noise is far from a range where it exceeds the end by this factor


def concerns(volume: Volume, card: ModelCard | None) -> list[str]:
    """Say in what a volume differs from what a model was trained on; takes about 0.2 s.

    At most `SAMPLED_SLICES` slices of 512×512 pixels are looked at.

    Parameters
    ----------
    volume : Volume
    card : ModelCard or None
        Of the model, where it is known; it may say what noise the model was trained on.

    Returns
    -------
    list of str
        One sentence per concern, with the value and what it means; empty if all is well. Where the values are no
        HU, anatomy and noise are not judged.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> concerns(Volume(rng.normal(-500, 5, (1, 64, 64)), spacing=(3, 3, 1)), None)[0]
    'The values span only 30 HU, while air and tissue are 1000 HU apart: they may not be HU.'
    """
    try:
        check_ct(volume)
    except InputError as error:
        return [f"This cannot be denoised: {error}."]
    sample = _sample(volume)
    inside = ~outside_field_of_view(sample.array)
    found = _about_values(sample.array[inside])
    if not found:
        found = _about_anatomy_and_noise(sample, inside, card)
    return found + _about_geometry(volume)


def value_concerns(volume: Volume) -> list[str]:
    """Say why the values of a volume may not be HU, whatever is done with it; looks at as much as `concerns`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> value_concerns(Volume(rng.normal(-500, 5, (1, 64, 64))))
    ['The values span only 30 HU, while air and tissue are 1000 HU apart: they may not be HU.']
    """
    array = _sample(volume).array
    return _about_values(array[~outside_field_of_view(array)])


def unusable(volume: Volume) -> str:
    """Why nothing about chest CT can be learned from a volume: no CT, values that are no HU, no lung.

    Looks at as many slices as `concerns`.

    Parameters
    ----------
    volume : Volume

    Returns
    -------
    str
        The first reason, as one sentence without a full stop; empty if the volume will do.

    Examples
    --------
    >>> unusable(Volume(np.full((1, 8, 8), 40)))
    'every voxel is 40: the volume holds no image'
    """
    try:
        check_ct(volume)
    except InputError as error:
        return str(error)
    sample = _sample(volume)
    inside = ~outside_field_of_view(sample.array)
    if doubts := _about_values(sample.array[inside]):
        return doubts[0].rstrip(".")
    share = _lung_share(_coarse_labels(sample))
    if share < _LEAST_LUNG:
        return f"hardly any lung was found (at most {100 * share:.0f} % of the body in a slice): give chest CT"
    return ""


def _sample(volume: Volume) -> Volume:
    array = volume.array
    if array.ndim != 3 or 0 in array.shape:
        return volume
    most = max(1, min(SAMPLED_SLICES, _SAMPLED_PIXELS // (array.shape[1] * array.shape[2]), len(array)))
    # The middles of equal parts: the ends of a scan are often neck and belly.
    return volume.with_array(array[((np.arange(most) + 0.5) * len(array) / most).astype(int)])


def _about_values(values: np.ndarray) -> list[str]:
    if values.size == 0:
        return ["The slices that were looked at hold only padding."]
    low, high = np.percentile(values[:: max(1, values.size // 200_000)], (0.1, 99.9))
    if high - low < _LEAST_CONTRAST_HU:
        return [
            f"The values span only {high - low:.0f} HU, while air and tissue are 1000 HU apart: they may not be HU."
        ]
    if low > -500:
        return [f"The lowest values are {low:.0f}, while air and lung are below −700 HU: they may not be HU."]
    dense = values[values > -400]
    median = float(np.median(dense[:: max(1, dense.size // 200_000)])) if dense.size else math.nan
    if not _TISSUE_HU[0] <= median <= _TISSUE_HU[1]:
        if math.isnan(median):
            return [f"Nothing is denser than −400 HU (highest value {high:.0f}): there is no body, or no HU."]
        return [
            f"Tissue lies around {median:.0f}, while soft tissue has 0 to 100 HU: the values may not be HU "
            "(is the rescale intercept missing?)."
        ]
    return []


def _about_anatomy_and_noise(sample: Volume, inside: np.ndarray, card: ModelCard | None) -> list[str]:
    found = []
    labels = _coarse_labels(sample)
    share = _lung_share(labels)
    if share < _LEAST_LUNG:
        found.append(
            f"Hardly any lung was found (at most {100 * share:.0f} % of the body in a slice): "
            "the model was trained on chest CT only."
        )
    rows, columns = sample.array.shape[1:]
    tissue = labels == Region.SOFT_TISSUE
    step = _coarse_step(sample)
    tissue = tissue.repeat(step, axis=1).repeat(step, axis=2)[:, :rows, :columns] & inside
    sigma = noise_sigma(sample.array, tissue)
    low, high = (card and card.noise_hu) or NOISE_HU
    if sigma > _FAR * high:
        found.append(
            f"The noise is about {sigma:.0f} HU in soft tissue, the model was trained on {low:g} to {high:g} HU: "
            "noise may remain, and structures may be false."
        )
    elif 0 < sigma < low / _FAR:
        found.append(
            f"The noise is only about {sigma:.0f} HU in soft tissue, the model was trained on {low:g} to {high:g} HU: "
            "there is little to remove, and fine structures may suffer."
        )
    return found


def _coarse_step(sample: Volume) -> int:
    return max(1, min(sample.array.shape[1:]) // _COARSE_PIXELS)


def _coarse_labels(sample: Volume) -> np.ndarray:
    """Regions of every few pixels, `_coarse_step` apart."""
    step = _coarse_step(sample)
    x, y, z = sample.spacing
    return segment(sample.array[:, ::step, ::step], (step * x, step * y, z))


def _lung_share(labels: np.ndarray) -> float:
    """Part of the body that is lung, in the slice with most of it."""
    lung = (labels == Region.LUNG).sum(axis=(1, 2))
    body = (labels >= Region.LUNG).sum(axis=(1, 2))
    return float((lung / np.maximum(body, 1)).max())


def _about_geometry(volume: Volume) -> list[str]:
    found = []
    x, y, z = volume.spacing
    if abs(x / y - 1) > 0.02:
        found.append(f"The pixels are not square ({x:.2f} × {y:.2f} mm): the model was trained on square ones.")
    elif not PIXEL_MM[0] <= x <= PIXEL_MM[1]:
        found.append(
            f"The pixels measure {x:.2f} mm, the model was trained on {PIXEL_MM[0]:g} to {PIXEL_MM[1]:g} mm: "
            "structures have an unusual size for it."
        )
    if len(volume.array) > 1 and z > 1.01 * THICKEST_SLICE_MM:
        found.append(
            f"The slices are {z:.1f} mm apart, the model was trained on up to {THICKEST_SLICE_MM:g} mm: "
            "small structures are blurred across slices."
        )
    tilt = math.degrees(math.acos(min(1.0, abs(volume.direction[8]))))
    if tilt > 30:
        found.append(f"The slices are tilted by {tilt:.0f}° from axial: the model was trained on axial slices.")
    return found
