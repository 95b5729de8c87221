"""Mean and noise of each region of a volume before and after denoising, at any strength.

Owns how noise is told from anatomy. Where the regions are is `regions`' business; whether a result is good is
`evaluation.agreement`'s question.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ..errors import InputError
from ..parallel.threads import over_slices
from .region_labels import Region
from .regions import checked, segment

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
    sigmas = _sigmas(labels, before, after, strengths=(0.0, 1.0))
    rows = []
    for region, (sigma_before, sigma_after) in sigmas.items():
        inside = labels == region
        means = _means(inside, before, after)
        rows.append(_row(region, int(inside.sum()), means, (sigma_before, sigma_after)))
    return rows


def denoising_statistics(
    before: np.ndarray, network_output: np.ndarray, spacing: tuple[float, float, float]
) -> StrengthStatistics:
    """The region table of a denoised scan: finds the regions, and measures in up to `MOST_SLICES` evenly spaced slices.

    The regions are those of the network's output. Chosen by noisy values they would hold the pixels that noise
    raised into bone, and any result, the ground truth even, would seem to lower bone's mean.

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
    for region, sigmas in _sigmas(labels, before, output, strengths=(0.0, 0.5, 1.0)).items():
        inside = labels == region
        rows.append(RegionResponse(region, int(inside.sum()), *_means(inside, before, output), *sigmas))
    return StrengthStatistics(tuple(rows))


def _checked_pair(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    before, after = checked(before), checked(after)
    if not labels.shape == before.shape == after.shape:
        raise InputError(
            f"Labels, volume before and volume after have the shapes {labels.shape}, {before.shape} and "
            f"{after.shape}; they must be the same."
        )
    return before, after


def _present(labels: np.ndarray) -> list[Region]:
    return [region for region in Region if region != Region.OUTSIDE and (labels == region).any()]


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
    labels: np.ndarray, before: np.ndarray, after: np.ndarray, strengths: tuple[float, ...]
) -> dict[Region, tuple[float, ...]]:
    """σ of (1 - s) · before + s · after in the flat part of the core of each region that is present, for each s."""
    missing = _present(labels)
    found = {region: (float("nan"),) * len(strengths) for region in missing}
    for lag in LAGS:

        def triples_of(index: int, lag: int = lag, regions: list[Region] = missing) -> list[np.ndarray]:
            return _triples(labels[index], before[index], after[index], lag, regions)

        slices = over_slices(triples_of, len(labels)) if missing else []
        for region, pieces in zip(missing, zip(*slices, strict=True), strict=False):
            bend, noise_before, noise_after = np.concatenate(pieces).T
            if bend.size >= 100:
                calm = bend <= np.percentile(bend, 25)
                noise_before, noise_after = noise_before[calm], noise_after[calm]
                found[region] = tuple(
                    _normal_sigma(np.abs((1 - strength) * noise_before + strength * noise_after))
                    for strength in strengths
                )
        missing = [region for region in missing if np.isnan(found[region][0])]
    return found


def _triples(
    labels: np.ndarray, before: np.ndarray, after: np.ndarray, lag: int, regions: list[Region]
) -> list[np.ndarray]:
    """Per triple in a slice of each region: |bend| of the surroundings, second difference before and after; (n, 3)."""
    core = ndimage.maximum_filter(labels, 5, mode="nearest") == ndimage.minimum_filter(labels, 5, mode="nearest")
    before, after = before.astype(np.float32), after.astype(np.float32)
    flat = ndimage.uniform_filter(before + after, 7)
    found: list[list[np.ndarray]] = [[np.empty((0, 3), np.float32)] for _ in regions]
    for turn in (np.asarray, np.transpose):  # along columns, then along rows
        valid, kind = turn(core), turn(labels)
        if valid.shape[1] <= 2 * lag:
            continue
        triple = valid[:, : -2 * lag] & valid[:, lag:-lag] & valid[:, 2 * lag :]
        triple &= (kind[:, : -2 * lag] == kind[:, lag:-lag]) & (kind[:, 2 * lag :] == kind[:, lag:-lag])
        bend = np.abs(_second_difference(turn(flat), lag))
        noise = [_second_difference(turn(image), lag) for image in (before, after)]
        for region, pieces in zip(regions, found, strict=True):
            rows, columns = np.nonzero(triple & (kind[:, lag:-lag] == region))
            above, below = np.maximum(rows - 9, 0), np.minimum(rows + 9, len(bend) - 1)
            surroundings = np.maximum(bend[above, columns], bend[below, columns])
            pieces.append(np.stack([surroundings, *(image[rows, columns] for image in noise)], axis=1))
    return [np.concatenate(pieces) for pieces in found]


def _second_difference(image: np.ndarray, lag: int) -> np.ndarray:
    return image[:, : -2 * lag] - 2 * image[:, lag:-lag] + image[:, 2 * lag :]


def _normal_sigma(differences: np.ndarray) -> float:
    """σ of the samples behind |second differences|; the smaller half of |N(0, 1)| has the mean 0.32465."""
    half = (differences.size + 1) // 2
    return float(np.partition(differences, half - 1)[:half].mean(dtype=np.float64) / 0.32465 / np.sqrt(6))
