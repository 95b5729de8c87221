"""Which photons and which kernel give the noise of a scan: measured from the scan itself, with an interval.

Owns how noise is told from anatomy. Anatomy only ever adds power, most of it at low frequencies, and to some patches
more than to others; what is simulated says how the power of noise alone is spread. So of each frequency the quieter
patches are compared with the quieter patches of the simulation, and of a slice and the difference to its neighbour
the one with less is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..analysis.noise import PATCH, cut, detrended, tissue_places
from ..errors import InputError
from ..io.volume import Volume, check_ct
from .dose import PHOTONS, simulate
from .projection import Kernel, kernel

WIDEST = 2.0
"""Upper over lower end of an interval that is of use."""

_SLICES = 12  # that are measured
_LEAST_PATCHES = 24
_REALISATIONS = 3
_QUIET, _QUANTILE = 0.4, 0.4  # of the patches, by what the other frequencies show; and of those in each band
_RESAMPLED = 100
_SYSTEMATIC = 0.08  # of N₀, by which it is off where all else is known
_SHARPNESS = np.linspace(-1.0, 2.0, 31)
_BANDS = np.arange(1, PATCH // 2 + 1)  # radial frequencies, of PATCH pixels
_COARSE, _MIDDLE, _FINE = slice(0, 5), slice(5, 10), slice(5, None)
_NYQUIST = _BANDS / _BANDS[-1]
_WEIGHT = np.minimum(_NYQUIST / 0.3, 1.0)  # anatomy is in the coarsest bands, and they have the fewest samples


@dataclass(frozen=True)
class Match:
    """What reproduces the noise of a scan.

    Attributes
    ----------
    photons : float
        N₀ per ray at the dose of the scan.
    interval : tuple of float
        Of N₀, 95 %.
    kernel : Kernel
    """

    photons: float
    interval: tuple[float, float]
    kernel: Kernel


@dataclass(frozen=True)
class _Simulated:
    """The simulation with the plain ramp in patches: its expected power (patches, bands), one realisation over that,
    and how much of it each kernel of the family leaves (kernels, bands)."""

    expected: np.ndarray
    spread: np.ndarray
    gains: np.ndarray


def match_scan(scan: Volume, *, views: int = 512, seed: int = 0) -> Match:
    """Measure which N₀ and which reconstruction kernel reproduce the noise of a scan.

    The gain of the kernel is the square root of the noise power spectrum of soft tissue over that of the simulation
    with the plain ramp, of the family of `projection.kernel` where nothing can be measured. N₀ follows from where the
    gain is 1, at the frequency 0.

    Parameters
    ----------
    scan : Volume
        HU, with soft tissue in at least one slice.
    views : int
        View angles of the simulation.
    seed : int
        Of the simulation, and of the resampling behind the interval.

    Raises
    ------
    InputError
        There is too little soft tissue, or its noise cannot be told from anatomy: the interval is wider than a factor
        of `WIDEST`.
    """
    check_ct(scan)
    chosen = np.unique(np.linspace(0, len(scan.array) - 1, _SLICES).round().astype(int))
    sample = scan.with_array(np.asarray(scan.array[chosen], np.float32))
    places = tissue_places(sample.array)
    if len(places) < _LEAST_PATCHES:
        raise InputError(
            f"only {len(places)} patches of soft tissue found in the scan, too few to measure its noise: give the "
            "photons and the kernel yourself"
        )
    simulated = _simulated(sample, places, views, seed)
    measured = [_power(sample.array, places) / simulated.expected]
    if len(scan.array) > 1:
        neighbours = np.where(chosen + 1 < len(scan.array), chosen + 1, chosen - 1)
        step = (sample.array - np.asarray(scan.array[neighbours], np.float32)) / np.sqrt(np.float32(2))
        measured.append(_power(step, places) / simulated.expected)

    if not all(ratio.any(axis=0).all() for ratio in measured):
        raise InputError("the scan has no noise to measure: give the photons and the kernel yourself")

    def fitted(patches: np.ndarray) -> tuple[np.ndarray, float, int]:
        power = _noise_alone(measured, simulated, patches)
        return power, *_fitted(power, simulated)

    power, level, number = fitted(np.arange(len(places)))
    random, slices = np.random.default_rng(seed), places[:, 0]
    levels = []
    for _ in range(_RESAMPLED):
        picked = random.choice(np.unique(slices), len(np.unique(slices)))
        levels.append(fitted(np.concatenate([np.flatnonzero(slices == each) for each in picked]))[1])
    sigma = float(np.hypot(np.std(levels), _SYSTEMATIC))
    photons = float(PHOTONS / np.exp(level))
    interval = photons * float(np.exp(-1.96 * sigma)), photons * float(np.exp(1.96 * sigma))
    if interval[1] > WIDEST * interval[0]:
        raise InputError(
            f"the noise of this scan cannot be told from its anatomy (N₀ between {interval[0]:.2g} and "
            f"{interval[1]:.2g}): give the photons and the kernel yourself"
        )
    return Match(photons, interval, _kernel(power, level, simulated.gains[number], float(_SHARPNESS[number])))


def _simulated(sample: Volume, places: np.ndarray, views: int, seed: int) -> _Simulated:
    noises = [
        simulate(sample, 1.0, kernel="ramp", source_dose=None, views=views, seed=seed + each).array - sample.array
        for each in range(_REALISATIONS)
    ]
    found = [_power(noise, places) for noise in noises]
    mean = np.mean(found, axis=0)
    strength = mean.sum(axis=1, keepdims=True)
    expected = strength * (mean / strength).mean(axis=0)
    fullest = np.argsort(np.bincount(places[:, 0]))[-3:]
    some = np.flatnonzero(np.isin(places[:, 0], fullest))
    spectrum = np.fft.rfft2(noises[0][fullest])
    sides = [np.fft.fftfreq(sample.array.shape[1]), np.fft.rfftfreq(sample.array.shape[2])]
    radius = np.minimum(2 * np.hypot(sides[0][:, None], sides[1]), 1.0)
    number = {slice_: index for index, slice_ in enumerate(fullest)}
    there = np.column_stack([[number[slice_] for slice_ in places[some, 0]], places[some, 1:]])
    plain = _power(noises[0][fullest], there).mean(axis=0)
    gains = []
    for sharpness in _SHARPNESS:
        filtered = np.fft.irfft2(spectrum * kernel(sharpness).at(radius), s=sample.array.shape[1:])
        gains.append(_power(filtered.astype(np.float32), there).mean(axis=0) / plain)
    return _Simulated(expected, found[0] / expected, np.array(gains))


def _power(array: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Mean power of each patch in each band, (patches, bands)."""
    taper = np.hanning(PATCH + 1)[:-1]
    power = np.abs(np.fft.fft2(detrended(cut(array, places)) * np.outer(taper, taper))) ** 2
    frequency = np.fft.fftfreq(PATCH, 1 / PATCH)
    ring = np.rint(np.hypot(*np.meshgrid(frequency, frequency))).astype(int)
    return np.stack([power[:, ring == band].mean(axis=1) for band in _BANDS], axis=1)


def _noise_alone(measured: list[np.ndarray], simulated: _Simulated, patches: np.ndarray) -> np.ndarray:
    """The power of the noise in each band, of that of the simulation."""
    levels = []
    for ratio in measured:
        level = np.empty(len(_BANDS))
        for bands, others in ((_COARSE, _FINE), (_FINE, _COARSE)):
            loud = np.log(ratio[patches][:, others]).mean(axis=1)
            quiet = patches[np.argsort(loud, kind="stable")[: max(8, round(_QUIET * len(patches)))]]
            usual = np.quantile(simulated.spread[patches][:, bands], _QUANTILE, axis=0)
            level[bands] = np.quantile(ratio[quiet][:, bands], _QUANTILE, axis=0) / usual
        levels.append(level)
    if len(levels) == 1:
        return levels[0]
    # Noise that neighbours share is missing from their difference, at every frequency the same part.
    own, step = levels
    return np.minimum(own, step * np.median(own[_MIDDLE] / step[_MIDDLE]))


def _fitted(power: np.ndarray, simulated: _Simulated) -> tuple[float, int]:
    """Logarithm of the power at the frequency 0, and the number of the family's kernel that fits best."""
    floor = 1e-3 * power.max()
    best = (np.inf, 0.0, 0)
    for number, gain in enumerate(simulated.gains):
        weight = np.where(gain > 0.02 * gain.max(), _WEIGHT, 0.0)
        level = float((weight * np.log(power / np.maximum(gain, 1e-9))).sum() / weight.sum())
        off = np.log((power + floor) / (np.exp(level) * gain + floor))
        error = float((_WEIGHT * np.minimum(np.abs(off), 1.0)).sum())
        best = min(best, (error, level, number))
    return best[1:]


def _kernel(power: np.ndarray, level: float, gain: np.ndarray, sharpness: float) -> Kernel:
    """The family's kernel, changed to what was measured where that is more than anatomy and rounding."""
    change = np.sqrt(power / (np.exp(level) * np.maximum(gain, 1e-9)))
    share = np.clip((_NYQUIST - 0.2) / 0.2, 0.0, 1.0) * (gain > 0.02 * gain.max())
    values = kernel(sharpness).at(_NYQUIST) * np.clip(change, 0.5, 2.0) ** share
    return Kernel("matched", tuple(float(each) for each in [kernel(sharpness).at(np.zeros(1))[0], *values]))
