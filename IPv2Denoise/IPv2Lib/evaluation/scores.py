"""Which measures a comparison reports, and how what is measured in single slices becomes one number with an interval.

Owns the list of measures, the sums that they are made of, and the bootstrap. A measure is a function of sums over
slices (of squared errors and pixels, of spectra and patches, ...), so that the slices of a test set are pooled, not
their ratios averaged, and a bootstrap resample is a product with weights. How each thing is measured belongs to
`measures`, `edges`, `distances`, `noise` and `regions`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis.noise import homogeneous_places
from ..analysis.region_labels import Region
from ..analysis.region_statistics import statistics
from ..hounsfield import AIR_HU
from . import edges, measures
from .agreement import number
from .distances import cut_patches, frechet_distance, kernel_distance, patch_places
from .edges import FREQUENCIES

if TYPE_CHECKING:
    from .distances import Features

REGIONS = (Region.LUNG, Region.SOFT_TISSUE, Region.BONE, Region.BACKGROUND)


LEAST_PATIENTS = 5
"""With fewer patients, slices are resampled."""

_BORDERS = {"lung": (Region.LUNG, Region.SOFT_TISSUE), "bone": (Region.SOFT_TISSUE, Region.BONE)}
_DISTANCE_RESAMPLES = 50


@dataclass(frozen=True)
class Measure:
    """One column of a comparison.

    Attributes
    ----------
    name : str
        Of the column, with the unit.
    title, unit : str
        For people.
    better : str
        "higher", "lower", or "reference": the closer to the reference's own, the better.
    sums : str
        Which of the sums it is made of; empty for the distances between sets of patches.
    finish : callable
        Sums (..., k) to values (...).
    """

    name: str
    title: str
    unit: str
    better: str
    sums: str = ""
    finish: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def title_with_unit(self) -> str:
        """Such as "RMSE in the lung, HU"."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


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
        self._borders = {
            name: [edges.find_border(self.image[k], labels[k], spacing_mm, *sides) for k in range(len(labels))]
            for name, sides in _BORDERS.items()
        }
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
        own = self.image[index]
        reference, windowed = measures.windowed(own), measures.windowed(result)
        masks = [self.labels[index] == region for region in REGIONS]
        error = windowed - reference
        found = {name: _counted(getattr(measures, name)(reference, windowed)) for name in ("psnr", "ssim", "gmsd")}
        found["squared_error"] = _regional(masks, np.square(error, dtype=np.float64))
        found["error"] = _regional(masks, (result - own).astype(np.float64))
        rows = {row.region: row for row in statistics(self.labels[index][None], own[None], result[None])}
        sigmas = [rows[region].sigma_after if region in rows else np.nan for region in REGIONS]
        found["sigma"] = np.concatenate([_counted(sigma) for sigma in sigmas])
        found |= self._noise(index, result)
        for name, borders in self._borders.items():
            both = (edges.edge_spectrum(image, borders[index]) for image in (result, own))
            found[f"{name}_edge"] = np.concatenate([part for one in both for part in (one.real, one.imag)])
        return found

    def _noise(self, index: int, result: np.ndarray) -> dict[str, np.ndarray]:
        count = len(FREQUENCIES)
        places = self._places[self._places[:, 0] == index] * (0, 1, 1)
        if not len(places):
            return {"noise": np.zeros(4), "spectrum": np.zeros(2 * count)}
        texture = measures.noise_texture(result[None], places, self.spacing_mm)
        weight = len(places)
        total = texture.power.sum()
        # At 0 there is nothing: every patch is measured around a plane.
        power = np.interp(FREQUENCIES, texture.frequency[1:], texture.power[1:], left=np.nan, right=np.nan)
        known = np.isfinite(power)
        return {
            "noise": weight * np.array([texture.variance, 1.0, texture.mean_frequency * total, total]),
            "spectrum": weight * np.concatenate([np.where(known, power, 0.0), known]),
        }

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
            return self._distance(measure.name)
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
        with np.errstate(all="ignore"):
            return measure.finish(self._sums[measure.sums])

    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Noise power spectrum: frequencies in 1/mm and HU² mm²."""
        power, count = np.split(self._share @ self._sums["spectrum"], 2)
        known = count > 0
        return FREQUENCIES[known], power[known] / count[known]

    def transfer(self, border: str) -> tuple[np.ndarray, np.ndarray]:
        """Task transfer function at the "lung" or "bone" border, by frequency in 1/mm; empty without one."""
        values = edges.transfer(_complex(self._share @ self._sums[f"{border}_edge"], 0))
        known = np.isfinite(values)
        return FREQUENCIES[known], values[known]

    @cached_property
    def _resamples(self) -> np.ndarray:
        """How often each slice is drawn, (resamples, slices)."""
        rng = np.random.default_rng(self._seed)
        if self.resampled == "patients":
            count = self.patients
            return rng.multinomial(count, np.full(count, 1 / count), self._bootstrap)[:, self._patient]
        times = np.zeros((self._bootstrap, len(self._patient)))
        for patient in np.unique(self._patient):
            own = np.flatnonzero(self._patient == patient)
            times[:, own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), self._bootstrap)
        return times

    def _distance(self, name: str) -> Value:
        between = {"fid": frechet_distance, "kid": partial(kernel_distance, seed=self._seed)}[name]
        result, reference = (
            np.concatenate([getattr(scan, of) for scan in self._scans]) for of in ("features", "reference_features")
        )
        value = between(reference, result)
        if not self._bootstrap or not np.isfinite(value):
            return Value(value, np.nan, np.nan)
        first = np.cumsum([0, *(len(origin.slices) for origin in self.origins)])
        slices = np.concatenate([scan.feature_slices + start for scan, start in zip(self._scans, first, strict=False)])
        drawn = []
        for times in self._resamples[:_DISTANCE_RESAMPLES]:
            rows = np.repeat(np.arange(len(slices)), times[slices].astype(int))
            drawn.append(between(reference[rows], result[rows]))
        reach = 1.96 * float(np.nanstd(drawn)) if np.isfinite(drawn).any() else np.nan
        return Value(value, value - reach, value + reach)


def spread(row: Mapping[str, Any], measure: Measure, low: str, high: str) -> str:
    """A value with its limits for people, from the columns of a table: "47.1 (45.0 to 49.3)"; – if there is none.

    Parameters
    ----------
    row : mapping
    measure : Measure
    low, high : str
        What the columns of the limits have after the measure's name; limits that are not there are left out.

    Examples
    --------
    >>> row = {"ssim": 0.9, "ssim low": 0.85, "ssim high": 0.95}
    >>> spread(row, next(m for m in MEASURES if m.name == "ssim"), " low", " high")
    '0.900 (0.850 to 0.950)'
    """
    value, *limits = (row[f"{measure.name}{which}"] for which in ("", low, high))
    digits = {"HU": 1, "dB": 2, "HU²": 0}.get(measure.unit, 3)
    if value is None:
        return number(math.nan)
    if None in limits or limits[0] == limits[1]:
        return number(value, digits)
    return f"{number(value, digits)} ({' to '.join(number(limit, digits) for limit in limits)})"


def _counted(value: float) -> np.ndarray:
    return np.array([0.0, 0.0]) if np.isnan(value) else np.array([value, 1.0])


def _regional(masks: Sequence[np.ndarray], values: np.ndarray) -> np.ndarray:
    return np.array([number for mask in masks for number in (values[mask].sum(), mask.sum())], float)


def _mean(place: int, sums: np.ndarray) -> np.ndarray:
    return sums[..., 2 * place] / sums[..., 2 * place + 1]


def _root_mean(place: int, sums: np.ndarray) -> np.ndarray:
    return np.sqrt(_mean(place, sums))


def _body_root_mean(sums: np.ndarray) -> np.ndarray:
    return np.sqrt(sums[..., 0:6:2].sum(-1) / sums[..., 1:6:2].sum(-1))


def _complex(sums: np.ndarray, place: int) -> np.ndarray:
    """The spectrum of the result (place 0) or of the reference (place 1)."""
    count = len(FREQUENCIES)
    real, imaginary = (sums[..., (2 * place + part) * count : (2 * place + part + 1) * count] for part in (0, 1))
    return real + 1j * imaginary


def _half_frequency(sums: np.ndarray) -> np.ndarray:
    return edges.half_frequency(_complex(sums, 0))


def _half_frequency_ratio(sums: np.ndarray) -> np.ndarray:
    return _half_frequency(sums) / edges.half_frequency(_complex(sums, 1))


def _measures() -> tuple[Measure, ...]:
    names = {region: region.name.lower() for region in REGIONS}
    of = {
        Region.LUNG: "in the lung",
        Region.SOFT_TISSUE: "in soft tissue",
        Region.BONE: "in bone",
        Region.BACKGROUND: "outside the body",
    }
    return (
        Measure("psnr_db", "PSNR", "dB", "higher", "psnr", partial(_mean, 0)),
        Measure("ssim", "SSIM", "", "higher", "ssim", partial(_mean, 0)),
        Measure("gmsd", "GMSD", "", "lower", "gmsd", partial(_mean, 0)),
        Measure("rmse_body_hu", "RMSE in the body", "HU", "lower", "squared_error", _body_root_mean),
        *(
            Measure(f"rmse_{names[r]}_hu", f"RMSE {of[r]}", "HU", "lower", "squared_error", partial(_root_mean, place))
            for place, r in enumerate(REGIONS)
        ),
        *(
            Measure(f"bias_{names[r]}_hu", f"Bias {of[r]}", "HU", "reference", "error", partial(_mean, place))
            for place, r in enumerate(REGIONS)
        ),
        *(
            Measure(f"sigma_{names[r]}_hu", f"Noise σ {of[r]}", "HU", "reference", "sigma", partial(_mean, place))
            for place, r in enumerate(REGIONS)
        ),
        Measure("nps_variance_hu2", "Noise power", "HU²", "reference", "noise", partial(_mean, 0)),
        Measure("nps_frequency_per_mm", "Mean frequency of noise", "1/mm", "reference", "noise", partial(_mean, 1)),
        *(
            measure
            for border in _BORDERS
            for measure in (
                Measure(
                    f"f50_{border}_per_mm", f"50 % transfer, {border} border", "1/mm", "reference",
                    f"{border}_edge", _half_frequency,
                ),
                Measure(
                    f"f50_{border}_ratio", f"Relative sharpness, {border} border", "", "reference",
                    f"{border}_edge", _half_frequency_ratio,
                ),
            )
        ),
        Measure("fid", "Fréchet distance", "", "lower"),
        Measure("kid", "Kernel distance", "", "lower"),
    )  # fmt: skip


MEASURES = _measures()
"""Every column of a comparison, in order."""
