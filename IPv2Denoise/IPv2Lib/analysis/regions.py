"""What a pixel of a chest CT is: outside the field of view, room air, lung, soft tissue or bone.

Owns how they are found, and the statistics of a denoised volume per region. Every slice is treated by itself: in
three dimensions the trachea connects the lungs to the room. The labels themselves are in `region_labels`. Whether the
anatomy of two scans agrees is `purification`'s question; whether a result is good is `evaluation`'s.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ..errors import InputError
from ..hounsfield import AIR_HU
from .region_labels import Region

DARK_HU = -400.0
"""Between lung or air (below) and tissue (above): halfway from -850 to +50 HU."""

BONE_HU, SURE_BONE_HU = 180.0, 350.0
"""Bone is what exceeds the first and is connected to what exceeds the second."""

ROOM_AIR_BELOW_HU = -940.0
"""A dark component that the slice border cuts is room air if a tenth of it (the rest may be table) is below
this, and lung otherwise. A quarter of the slice's σ is added: clipping at -1024 HU makes noisy air brighter."""

LAGS = (6, 4, 2, 1)
"""Pixels between the samples of a second difference, best first (see `statistics`)."""

MOST_SLICES = 48
"""`denoising_statistics` measures in so many evenly spaced slices at most: more only take longer."""


@dataclass(frozen=True)
class RegionStatistics:
    """One region of a volume before and after denoising, in HU (`statistics` says how each is measured).

    `noise_reduction` is `1 - sigma_after / sigma_before`. Numbers that cannot be measured are NaN.
    """

    region: Region
    voxels: int
    mean_before: float
    mean_after: float
    sigma_before: float
    sigma_after: float
    bias: float
    noise_reduction: float


@dataclass(frozen=True)
class RegionResponse:
    """How mean and noise of one region follow the strength of denoising, in HU.

    Attributes
    ----------
    region : Region
    voxels : int
    mean_before, mean_output : float
        At strength 0 and 1; the mean is linear between.
    sigma_before, sigma_half, sigma_output : float
        σ at strength 0, 0.5 and 1: its square is a quadratic in the strength. NaN where it cannot be measured.
    """

    region: Region
    voxels: int
    mean_before: float
    mean_output: float
    sigma_before: float
    sigma_half: float
    sigma_output: float

    def at(self, strength: float) -> RegionStatistics:
        """The statistics of the volume blended with this strength, 0 to 1."""
        mean_after = (1 - strength) * self.mean_before + strength * self.mean_output
        means, sigmas = (self.mean_before, mean_after), (self.sigma_before, self._sigma_at(strength))
        return _row(self.region, self.voxels, means, sigmas)

    def _sigma_at(self, strength: float) -> float:
        """The noise of (1 - s) · before + s · output: two variances and the covariance that strength 0.5 shows."""
        if math.isnan(self.sigma_half):
            return float("nan")
        before, output = self.sigma_before**2, self.sigma_output**2
        # A covariance that two measured variances do not allow would let the variance fall below 0.
        limit = self.sigma_before * self.sigma_output
        covariance = min(max(2 * self.sigma_half**2 - (before + output) / 2, -limit), limit)
        rest = 1 - strength
        return math.sqrt(max(0.0, rest**2 * before + 2 * rest * strength * covariance + strength**2 * output))


@dataclass(frozen=True)
class StrengthStatistics:
    """The region table of a denoised volume for any strength; made by `strength_statistics`.

    Examples
    --------
    >>> lung = RegionResponse(Region.LUNG, 1000, -850.0, -846.0, 40.0, 20.0, 0.0)
    >>> row = StrengthStatistics((lung,)).at(0.25)[0]
    >>> row.mean_after, row.sigma_after, row.noise_reduction
    (-849.0, 30.0, 0.25)
    """

    regions: tuple[RegionResponse, ...]

    def at(self, strength: float) -> list[RegionStatistics]:
        """One row per region that is present.

        Raises
        ------
        InputError
            If the strength is not from 0 to 1.
        """
        if not 0 <= strength <= 1:
            raise InputError(f"strength is {strength}; it must be from 0 (input) to 1 (fully denoised)")
        return [region.at(strength) for region in self.regions]

    def as_dict(self) -> dict[str, dict[str, float | None]]:
        """Numbers by name of the region, expressible in JSON: None stands for NaN."""
        return {
            each.region.name.lower(): {
                name: None if math.isnan(value) else value for name, value in vars(each).items() if name != "region"
            }
            for each in self.regions
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, Any]]) -> StrengthStatistics:
        """The inverse of `as_dict`.

        Raises
        ------
        InputError
            If a region or one of its numbers is missing or unknown.
        """
        try:
            return cls(
                tuple(
                    RegionResponse(
                        region=Region[name.upper()],
                        voxels=int(numbers["voxels"]),
                        **{
                            key: float("nan") if value is None else float(value)
                            for key, value in numbers.items()
                            if key != "voxels"
                        },
                    )
                    for name, numbers in values.items()
                )
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"these are no region statistics of this version ({error!r}): measure them again"
            ) from error


def outside_field_of_view(array: np.ndarray) -> np.ndarray:
    """Find the padding that a scanner writes outside its circular field of view.

    Padding is a value below -1000 HU that a corner of the slice has and that fills, exactly, a large solid
    piece of the slice at that corner, outside a convex field of view. Room air clipped at -1024 HU is full
    of scattered pixels of that value; they form no solid piece. A corner of exactly -1000 HU is air, not
    padding.

    Parameters
    ----------
    array
        (slices, rows, columns), HU.

    Returns
    -------
    Boolean array of the same shape, all False where a slice is not padded.

    Raises
    ------
    InputError
        If the array is not three-dimensional.
    """
    array = _checked(array)
    outside = np.zeros(array.shape, bool)
    corners = array[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    for index in np.flatnonzero((corners < AIR_HU).any(axis=1)):
        for value in np.unique(corners[index][corners[index] < AIR_HU]):
            outside[index] |= _solid_corners(array[index] == value)
    return outside


def segment(array: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """Label every pixel of a chest CT, noisy or not, with its `Region`, slice by slice.

    A self-guided filter (He et al. 2013) whose strength follows the noise measured in the slice prepares the
    thresholds. Thin shells (table, blankets) are opened away; what the largest solid pieces enclose is the
    body. Dark pixels inside it are lung, and so are airways and gas in stomach or bowel. Vessels in the lung
    are soft tissue. Table and clothes are no tissue and count as room air. Vessels full of dense contrast
    agent can be called bone.

    Parameters
    ----------
    array
        (slices, rows, columns), HU, finite.
    spacing
        Millimetres along columns, rows and slices (only the first two are used).

    Returns
    -------
    uint8 array of the same shape with values of `Region`.

    Raises
    ------
    InputError
        If the array is not three-dimensional or not finite, or if the spacing is not positive.

    Examples
    --------
    >>> slab = np.full((1, 64, 64), -1000.0)
    >>> slab[0, 16:48, 8:56] = 40.0
    >>> slab[0, 24:40, 16:32] = -850.0
    >>> labels = segment(slab, (5.0, 5.0, 5.0))
    >>> [Region(labels[0, 32, column]).name for column in (2, 24, 44)]
    ['BACKGROUND', 'LUNG', 'SOFT_TISSUE']
    """
    array = _checked(array)
    if min(spacing[:2]) <= 0:
        raise InputError(f"The pixel spacing is {spacing[0]} x {spacing[1]} mm; it must be positive.")
    pixel_mm = float(np.sqrt(spacing[0] * spacing[1]))
    outside = outside_field_of_view(array)
    labels = np.empty(array.shape, np.uint8)

    def label(index: int) -> None:
        labels[index] = _label_slice(array[index].astype(np.float32), outside[index], pixel_mm)

    _for_each_slice(label, len(array))
    return labels


def statistics(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> list[RegionStatistics]:
    """Mean, noise and bias of every region that is present, except the padding.

    Means and `bias` (the mean of `after - before`) are over all pixels of a region.

    σ is noise, not anatomy. In the core of a region (more than two pixels from any other), second
    differences `x[i-d] - 2 x[i] + x[i+d]` along rows and columns remove every plane; uncorrelated samples
    give them the variance 6 σ². `d` is 6 pixels, because samples so far apart are uncorrelated for usual
    kernels: blurred noise is measured in full, where neighbouring differences and detrended small windows
    see a part of it. White noise and noise blurred by a Gaussian of up to 1.5 pixels are right within 3 %;
    blurred by 2 pixels, 9 % too small. Where the core is too thin for 100 such triples, `d` is 4, 2 or 1,
    and blurred noise is underestimated.

    Vessels, fat planes and organ borders run on beside a triple. So only the flattest quarter of the triples
    counts, judged by the same difference of a 7x7 mean of both volumes, 9 pixels to either side. Those
    pixels are not part of the triple: the choice does not favour triples that are quiet by chance (where the
    noise itself varies, it favours the quieter places, the same ones in both volumes). Of the chosen, the
    mean of the smaller half of |difference| is scaled to the σ of normal noise, so that outliers do not
    count. In lung and bone some texture remains. Data clipped at -1024 HU have too small a σ in room air.

    Parameters
    ----------
    labels
        (slices, rows, columns), values of `Region`.
    before, after
        Two volumes in HU of the same shape.

    Returns
    -------
    One `RegionStatistics` per region that has pixels, in the order of the labels. σ is NaN in a region that
    has no core, and the noise reduction is NaN where σ before is zero or NaN.

    Raises
    ------
    InputError
        If the three shapes differ or are not three-dimensional.
    """
    before, after = _checked_pair(labels, before, after)
    rows = []
    for region in _present(labels):
        inside = labels == region
        means = _means(inside, before, after)
        sigmas = _sigmas(inside, before, after, strengths=(0.0, 1.0))
        rows.append(_row(region, int(inside.sum()), means, sigmas))
    return rows


def denoising_statistics(
    before: np.ndarray, network_output: np.ndarray, spacing: tuple[float, float, float]
) -> StrengthStatistics:
    """The region table of a denoised scan: finds the regions, and measures in up to `MOST_SLICES` evenly spaced slices.

    The regions are those of the network's output. Chosen by noisy values they would hold the pixels that noise
    raised into bone, and any result, the truth even, would seem to lower bone's mean.

    Parameters
    ----------
    before, network_output : ndarray, shape (slices, rows, columns)
        HU at strength 0 and at strength 1 (`denoise.Result.network_output`).
    spacing
        Millimetres along columns, rows and slices.

    Raises
    ------
    InputError
        As `segment` and `statistics`.
    """
    some = np.linspace(0, len(before) - 1, min(len(before), MOST_SLICES)).round().astype(int)
    output = network_output[some]
    return strength_statistics(segment(output, spacing), before[some], output)


def strength_statistics(labels: np.ndarray, before: np.ndarray, network_output: np.ndarray) -> StrengthStatistics:
    """Measure once what `statistics` would find for a volume blended with its denoised one, at any strength.

    As `statistics` measures, but always in the places where `before` and `network_output` are flattest.

    Parameters
    ----------
    labels : ndarray, shape (slices, rows, columns)
        Values of `Region`.
    before, network_output : ndarray, same shape
        HU at strength 0 and at strength 1.

    Raises
    ------
    InputError
        As `statistics`.
    """
    before, output = _checked_pair(labels, before, network_output)
    rows = []
    for region in _present(labels):
        inside = labels == region
        means = _means(inside, before, output)
        sigmas = _sigmas(inside, before, output, strengths=(0.0, 0.5, 1.0))
        rows.append(RegionResponse(region, int(inside.sum()), *means, *sigmas))
    return StrengthStatistics(tuple(rows))


def _checked_pair(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    before, after = _checked(before), _checked(after)
    if not labels.shape == before.shape == after.shape:
        raise InputError(
            f"Labels, volume before and volume after have the shapes {labels.shape}, {before.shape} and "
            f"{after.shape}; they must be the same."
        )
    return before, after


def _present(labels: np.ndarray) -> list[Region]:
    return [region for region in Region if region != Region.OUTSIDE and (labels == region).any()]


def _checked(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(f"A volume needs slices, rows and columns; this one has the shape {array.shape}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError("The volume has pixels that are not numbers (NaN or infinite); replace them first.")
    return array


def _for_each_slice(work: Callable[[int], None], slices: int) -> None:
    """Call `work(index)` in a few threads: scipy's filters release the interpreter lock."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
        list(threads.map(work, range(slices)))


def _solid_corners(constant: np.ndarray) -> np.ndarray:
    """Pieces of a 2-D mask that are solid at a corner of it, outside the convex hull of everything else."""
    core, _ = ndimage.label(_eroded(_eroded(constant)))
    sizes = np.bincount(core.ravel())
    smallest = max(3.0, 5e-4 * constant.size)
    pieces, _ = ndimage.label(constant)
    corners = [(row, column) for row in (0, -1) for column in (0, -1)]
    solid = [pieces[at] for at in corners if core[at] and sizes[core[at]] >= smallest]
    # Fields of view are convex: a bay in the padding is room air that was clipped at the same value.
    return ~_convex_hull(~np.isin(pieces, solid))


def _convex_hull(mask: np.ndarray) -> np.ndarray:
    """Pixels of a 2-D mask and all pixels between them, exactly (a digital disc is returned unchanged)."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return mask
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    hull = np.zeros(mask.shape, bool)
    every = np.arange(rows[0], rows[-1] + 1)
    low = np.interp(every, *_lower_chain(rows, first)) - 1e-6
    high = -np.interp(every, *_lower_chain(rows, -last)) + 1e-6
    columns = np.arange(mask.shape[1])
    hull[every] = (columns >= low[:, None]) & (columns <= high[:, None])
    return hull


def _lower_chain(x: np.ndarray, y: np.ndarray) -> tuple[list[int], list[int]]:
    """Lower convex hull of points sorted by x (Andrew's monotone chain)."""
    chain: list[tuple[int, int]] = []
    for point in zip(x.tolist(), y.tolist(), strict=True):
        while len(chain) > 1 and (
            (chain[-1][0] - chain[-2][0]) * (point[1] - chain[-2][1])
            <= (chain[-1][1] - chain[-2][1]) * (point[0] - chain[-2][0])
        ):
            chain.pop()
        chain.append(point)
    return [point[0] for point in chain], [point[1] for point in chain]


def _eroded(mask: np.ndarray) -> np.ndarray:
    """Erosion by the 4-neighbourhood; what lies beyond the slice counts as inside."""
    result = mask.copy()
    result[1:] &= mask[:-1]
    result[:-1] &= mask[1:]
    result[:, 1:] &= mask[:, :-1]
    result[:, :-1] &= mask[:, 1:]
    return result


def _label_slice(hu: np.ndarray, outside: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Labels of one slice (rows, columns)."""
    hu = np.where(outside, np.float32(AIR_HU), hu)
    sigma = _slice_noise(hu, outside)
    smooth = _guided(hu, sigma, radius=max(1, min(4, round(2.5 / pixel_mm))))
    body = _body(smooth, outside, pixel_mm, ROOM_AIR_BELOW_HU + 0.25 * sigma)
    labels = np.full(hu.shape, Region.BACKGROUND, np.uint8)
    labels[body] = Region.SOFT_TISSUE
    labels[_bone(smooth, body)] = Region.BONE
    labels[body & (smooth < DARK_HU)] = Region.LUNG
    labels[outside] = Region.OUTSIDE
    return labels


def _slice_noise(hu: np.ndarray, outside: np.ndarray) -> float:
    """Typical local SD (7x7) where the local mean is that of soft tissue, else of the whole slice."""
    mean = ndimage.uniform_filter(hu, 7)
    # Around the mean of the slice, so that float32 keeps the digits that the difference of squares needs.
    variance = ndimage.uniform_filter(np.square(hu - mean), 7)
    tissue = (mean > -200) & (mean < 200) & ~outside
    if tissue.sum() < 50:
        tissue = ~outside
    return float(np.sqrt(np.percentile(variance[tissue], 30))) if tissue.any() else 0.0


def _guided(hu: np.ndarray, sigma: float, radius: int) -> np.ndarray:
    """Self-guided filter, twice: averages where the local variance is that of noise, keeps stronger edges."""
    if sigma < 1:
        return hu
    size = 2 * radius + 1
    for strength in (2.0, 1.0):
        mean = ndimage.uniform_filter(hu, size)
        variance = np.maximum(ndimage.uniform_filter(hu * hu, size) - mean * mean, 0)
        gain = variance / (variance + np.float32((strength * sigma) ** 2))
        hu = ndimage.uniform_filter(gain, size) * hu + ndimage.uniform_filter((1 - gain) * mean, size)
    return hu


def _body(smooth: np.ndarray, outside: np.ndarray, pixel_mm: float, room_below_hu: float) -> np.ndarray:
    """Body with all that it encloses: its shape from a grid of about 1.4 mm, its border from this one."""
    step = max(1, int(1.5 / pixel_mm))
    coarse = _reduced(smooth, step)
    solid = coarse > DARK_HU
    padding = _reduced(outside.astype(np.float32), step) > 0
    radius = round(3.5 / (pixel_mm * step))
    core = _opened(solid, radius) if radius else solid
    core = _body_pieces(core, coarse, pixel_mm * step)
    core = ndimage.binary_dilation(core, iterations=radius + 1, mask=solid)
    closed = core | ~_open_to_room(core, coarse, padding, room_below_hu)
    filled = _enlarged(closed, step, smooth.shape)
    inner = ndimage.binary_erosion(filled, iterations=step, border_value=1)
    outer = ndimage.binary_dilation(filled, iterations=step)
    return (inner | (outer & (smooth > DARK_HU))) & ~outside


def _opened(mask: np.ndarray, radius: int) -> np.ndarray:
    """Opening by a disc; the slice continues beyond its border."""
    padded = np.pad(mask, radius + 1, mode="edge")
    eroded = ndimage.distance_transform_edt(padded) > radius
    opened = ndimage.distance_transform_edt(~eroded) <= radius
    return opened[radius + 1 : -radius - 1, radius + 1 : -radius - 1]


def _body_pieces(mask: np.ndarray, hu: np.ndarray, pixel_mm: float) -> np.ndarray:
    """The largest piece, and others that are as thick and as dense as an arm; a table board is not."""
    pieces, count = ndimage.label(mask)
    if not count:
        return mask
    index = np.arange(1, count + 1)
    sizes = np.bincount(pieces.ravel())[1:]
    means = ndimage.mean(hu, pieces, index)
    depth = ndimage.maximum(ndimage.distance_transform_edt(mask), pieces, index) * pixel_mm
    keep = (depth > 20) & (means > -150)
    keep[np.argmax(sizes)] = True
    return np.isin(pieces, index[keep])


def _open_to_room(core: np.ndarray, hu: np.ndarray, outside: np.ndarray, below_hu: float) -> np.ndarray:
    """What surrounds the body: components cut by the border or the field of view that have the HU of air."""
    pieces, count = ndimage.label(~core)
    border = np.zeros(core.shape, bool)
    border[[0, -1]] = border[:, [0, -1]] = True
    touching = np.unique(pieces[border | outside])
    is_room = np.zeros(count + 1, bool)
    for piece in touching[touching > 0]:
        values = hu[(pieces == piece) & ~outside]
        is_room[piece] = values.size == 0 or np.percentile(values, 10) < below_hu
    return is_room[pieces]


def _bone(smooth: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Hysteresis threshold, marrow filled."""
    candidates, count = ndimage.label(body & (smooth > BONE_HU), np.ones((3, 3)))
    sure = np.zeros(count + 1, bool)
    sure[np.unique(candidates[smooth > SURE_BONE_HU])] = True
    sure[0] = False
    return ndimage.binary_fill_holes(sure[candidates]) & body


def _reduced(image: np.ndarray, step: int) -> np.ndarray:
    """Means of step x step blocks; the last block repeats the border."""
    if step == 1:
        return image
    rows, columns = (-size % step for size in image.shape)
    image = np.pad(image, ((0, rows), (0, columns)), mode="edge")
    return image.reshape(image.shape[0] // step, step, image.shape[1] // step, step).mean(axis=(1, 3))


def _enlarged(mask: np.ndarray, step: int, shape: tuple[int, int]) -> np.ndarray:
    return mask.repeat(step, axis=0).repeat(step, axis=1)[: shape[0], : shape[1]]


def _row(region: Region, voxels: int, means: tuple[float, float], sigmas: tuple[float, float]) -> RegionStatistics:
    """Means and σ, before and after, with what follows from them."""
    mean_before, mean_after = means
    sigma_before, sigma_after = sigmas
    return RegionStatistics(
        region=region,
        voxels=voxels,
        mean_before=mean_before,
        mean_after=mean_after,
        sigma_before=sigma_before,
        sigma_after=sigma_after,
        bias=mean_after - mean_before,
        noise_reduction=1 - sigma_after / sigma_before if sigma_before > 0 else float("nan"),
    )


def _means(inside: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    return float(before[inside].mean(dtype=np.float64)), float(after[inside].mean(dtype=np.float64))


def _sigmas(
    inside: np.ndarray, before: np.ndarray, after: np.ndarray, strengths: tuple[float, ...]
) -> tuple[float, ...]:
    """σ of (1 - s) · before + s · after in the flat part of a region's core, for each strength s."""
    for lag in LAGS:
        triples: list[np.ndarray] = [np.empty((0, 3), np.float32)] * len(inside)

        def collect(index: int, lag: int = lag, triples: list[np.ndarray] = triples) -> None:
            triples[index] = _triples(inside[index], before[index], after[index], lag)

        _for_each_slice(collect, len(inside))
        bend, noise_before, noise_after = np.concatenate(triples).T
        if bend.size >= 100:
            calm = bend <= np.percentile(bend, 25)
            noise_before, noise_after = noise_before[calm], noise_after[calm]
            return tuple(
                _normal_sigma(np.abs((1 - strength) * noise_before + strength * noise_after)) for strength in strengths
            )
    return (float("nan"),) * len(strengths)


def _triples(inside: np.ndarray, before: np.ndarray, after: np.ndarray, lag: int) -> np.ndarray:
    """Per triple of a slice: |bend| of the surroundings, second difference before and after; shape (n, 3)."""
    core = ndimage.binary_erosion(inside, np.ones((5, 5)), border_value=1)
    if not core.any():
        return np.empty((0, 3), np.float32)
    before, after = before.astype(np.float32), after.astype(np.float32)
    flat = ndimage.uniform_filter(before + after, 7)
    found = []
    for turn in (np.asarray, np.transpose):  # along columns, then along rows
        valid = turn(core)
        if valid.shape[1] <= 2 * lag:
            continue
        triple = valid[:, : -2 * lag] & valid[:, lag:-lag] & valid[:, 2 * lag :]
        bend = np.abs(_second_difference(turn(flat), lag))
        rows, columns = np.nonzero(triple)
        above, below = np.maximum(rows - 9, 0), np.minimum(rows + 9, len(bend) - 1)
        surroundings = np.maximum(bend[above, columns], bend[below, columns])
        noise = (_second_difference(turn(image), lag)[triple] for image in (before, after))
        found.append(np.stack([surroundings, *noise], axis=1))
    return np.concatenate(found) if found else np.empty((0, 3), np.float32)


def _second_difference(image: np.ndarray, lag: int) -> np.ndarray:
    return image[:, : -2 * lag] - 2 * image[:, lag:-lag] + image[:, 2 * lag :]


def _normal_sigma(differences: np.ndarray) -> float:
    """σ of the samples behind |second differences|; the smaller half of |N(0, 1)| has the mean 0.32465."""
    half = (differences.size + 1) // 2
    return float(np.partition(differences, half - 1)[:half].mean(dtype=np.float64) / 0.32465 / np.sqrt(6))
