"""How what is measured in single slices becomes one number for a test set, with an interval.

Owns the reference that results are measured against, the pool of slices and the bootstrap. Which measures there are,
and what they are made of, says `measures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, cast

import numpy as np

from ..analysis.noise import homogeneous_places
from ..analysis.regions import Region
from ..hounsfield import AIR_HU
from . import edges
from .distances import cut_patches, patch_places
from .edges import FREQUENCIES
from .measures import REGIONS, SUMS, Block, Measure, edge_spectra, find_borders

if TYPE_CHECKING:
    from collections.abc import Callable

    from .distances import Features

LEAST_PATIENTS = 5
"""With fewer patients, slices are resampled."""

_DISTANCE_RESAMPLES = 50


@dataclass(frozen=True)
class Origin:
    """Which slices of which scan something was measured in; `shard` is the key of the shard."""

    case: str
    patient: str
    shard: str
    slices: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class SliceSums:
    """What was measured in the slices of one scan.

    Attributes
    ----------
    sums : dict of str to ndarray, shape (slices, k)
    features, reference_features : ndarray, shape (patches, features)
        Of the result and of the reference, at the same places.
    feature_slices : ndarray of int, shape (patches,)
        The slice, counted within this scan, that a patch was cut from.
    """

    sums: dict[str, np.ndarray]
    features: np.ndarray
    reference_features: np.ndarray
    feature_slices: np.ndarray


class Reference:
    """What results for one scan are measured against, prepared once for all of them.

    Parameters
    ----------
    image : ndarray, shape (slices, rows, columns)
        HU.
    labels : ndarray of the same shape
        Values of `Region`; what is outside the field of view counts nowhere.
    spacing_mm : float
        Between pixels.
    features : Features, optional
        For the distances between sets of patches; without, there are none.
    """

    def __init__(self, image: np.ndarray, labels: np.ndarray, spacing_mm: float, features: Features | None = None):
        self.outside = labels == Region.OUTSIDE
        self.image = self._padded(image)
        self.labels = labels
        self.spacing_mm = spacing_mm
        self._features = features
        self._places = homogeneous_places(self.image)
        self._borders = find_borders(self.image, labels, spacing_mm)
        body = np.isin(labels, REGIONS[:3])
        self._patches = [patch_places(inside) for inside in body] if features else []

    def measure(self, result: np.ndarray) -> SliceSums:
        """Everything that is measured in a result, HU, of the reference's shape."""
        result = self._padded(result)
        per_slice = [self._slice(index, hu) for index, hu in enumerate(result)]
        return SliceSums(
            {name: np.stack([one[name] for one in per_slice]) for name in per_slice[0]},
            self._features_of(result),
            self._own_features,
            np.repeat(np.arange(len(self._patches)), [len(places) for places in self._patches]).astype(int),
        )

    def _slice(self, index: int, result: np.ndarray) -> dict[str, np.ndarray]:
        here = slice(index, index + 1)
        block = Block(
            self.image[here], result[None], self.labels[here], self.spacing_mm,
            self._places[self._places[:, 0] == index] * (0, 1, 1),
            {name: borders[here] for name, borders in self._borders.items()},
        )  # fmt: skip
        return {name: block.sums(name) for name in SUMS}

    @cached_property
    def _own_features(self) -> np.ndarray:
        return self._features_of(self.image)

    def _features_of(self, volume: np.ndarray) -> np.ndarray:
        if self._features is None or not sum(map(len, self._patches)):
            return np.zeros((0, 1), np.float32)
        return self._features.of(np.concatenate(list(map(cut_patches, volume, self._patches))))

    def _padded(self, volume: np.ndarray) -> np.ndarray:
        volume = np.array(volume, np.float32)
        volume[self.outside] = AIR_HU
        return volume


@dataclass(frozen=True)
class Value:
    """A measure over a whole test set, with its 95 % interval; NaN where it could not be measured."""

    value: float
    low: float
    high: float


class Pool:
    """The slices of a test set as one sample, for one result and one reference.

    Parameters
    ----------
    scans : sequence of SliceSums
    origins : sequence of Origin
        One for each scan.
    bootstrap : int
        Resamples; 0: no intervals.
    seed : int

    Notes
    -----
    Each patient counts alike, however many slices there are of it. Intervals: the 2.5th and 97.5th percentile of the
    resamples; for the distances between sets of patches, which grow by resampling itself, ± 1.96 standard deviations
    of 50 of them.
    """

    def __init__(self, scans: Sequence[SliceSums], origins: Sequence[Origin], bootstrap: int = 1000, seed: int = 0):
        self.origins = tuple(origins)
        self._scans = scans
        self._sums = {name: np.concatenate([scan.sums[name] for scan in scans]) for name in scans[0].sums}
        names = list(dict.fromkeys(origin.patient for origin in origins))  # in this order: labels differ between users
        of_scan = np.array([names.index(origin.patient) for origin in origins])
        self.patients = len(names)
        self._patient = np.repeat(of_scan, [len(origin.slices) for origin in origins])
        self._share = 1.0 / np.bincount(self._patient)[self._patient]
        self._seed = seed
        self._bootstrap = bootstrap

    @property
    def slices(self) -> int:
        """How many there are."""
        return len(self._patient)

    @property
    def resampled(self) -> str:
        """What the bootstrap draws: "patients", or "slices" of each patient where there are few; empty without it."""
        if not self._bootstrap:
            return ""
        return "patients" if self.patients >= LEAST_PATIENTS else "slices"

    @property
    def patches(self) -> int:
        """Of which there are features."""
        return sum(len(scan.features) for scan in self._scans)

    def value(self, measure: Measure) -> Value:
        """A measure and its interval."""
        if not measure.sums:
            return self._distance(measure)
        assert measure.finish is not None
        sums = self._sums[measure.sums]
        with np.errstate(all="ignore"):
            value = float(measure.finish(self._share @ sums))
            if not self._bootstrap or not np.isfinite(value):
                return Value(value, np.nan, np.nan)
            resamples = measure.finish((self._resamples * self._share) @ sums)
        resamples = resamples[np.isfinite(resamples)]
        if not len(resamples):
            return Value(value, np.nan, np.nan)
        return Value(value, *(float(limit) for limit in np.percentile(resamples, (2.5, 97.5))))

    def by_slice(self, measure: Measure) -> np.ndarray:
        """A measure of every slice by itself, in the order of the scans; NaN where it cannot be measured."""
        assert measure.finish is not None  # which only distances lack
        with np.errstate(all="ignore"):
            return measure.finish(self._sums[measure.sums])

    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Noise power spectrum: frequencies in 1/mm and HU² mm²."""
        power, count = np.split(self._share @ self._sums["spectrum"], 2)
        known = count > 0
        return FREQUENCIES[known], power[known] / count[known]

    def transfer(self, border: str) -> tuple[np.ndarray, np.ndarray]:
        """Task transfer function at a border of `measures.BORDERS`, by frequency in 1/mm; empty without one."""
        values = edges.transfer(edge_spectra(self._share @ self._sums[f"{border}_edge"])[0])
        known = np.isfinite(values)
        return FREQUENCIES[known], values[known]

    @cached_property
    def _resamples(self) -> np.ndarray:
        """How often each slice is chosen, (resamples, slices)."""
        rng = np.random.default_rng(self._seed)
        if self.resampled == "patients":
            count = self.patients
            return rng.multinomial(count, np.full(count, 1 / count), self._bootstrap)[:, self._patient]
        times = np.zeros((self._bootstrap, len(self._patient)))
        for patient in np.unique(self._patient):
            own = np.flatnonzero(self._patient == patient)
            times[:, own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), self._bootstrap)
        return times

    def _distance(self, measure: Measure) -> Value:
        between = partial(cast("Callable[..., float]", measure.between), seed=self._seed)
        result, reference = (
            np.concatenate([getattr(scan, of) for scan in self._scans]) for of in ("features", "reference_features")
        )
        value = between(reference, result)
        if not self._bootstrap or not np.isfinite(value):
            return Value(value, np.nan, np.nan)
        first = np.cumsum([0, *(len(origin.slices) for origin in self.origins)])
        slices = np.concatenate([scan.feature_slices + start for scan, start in zip(self._scans, first, strict=False)])
        resampled = []
        for times in self._resamples[:_DISTANCE_RESAMPLES]:
            rows = np.repeat(np.arange(len(slices)), times[slices].astype(int))
            resampled.append(between(reference[rows], result[rows]))
        reach = 1.96 * float(np.nanstd(resampled)) if np.isfinite(resampled).any() else np.nan
        return Value(value, value - reach, value + reach)
