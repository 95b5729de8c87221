"""How far a denoised volume may be from the ground truth: the expected error of each voxel, of any denoiser.

Owns how it is estimated: by a parametric bootstrap. What was removed from a scan tells how strong its noise is at each
place, and its spectrum. The result with new noise of that kind is a scan whose ground truth is known: the result.
Denoised again, it shows the noise that passes, the blur, and what is invented. What the first run lost cannot be lost
again, so errors are multiplied by what was found where the ground truth is known (`CALIBRATION`).

Noise that the denoiser leaves as it is goes unnoticed, and so does an error that it makes of every scan alike.

References
----------
Efron & Tibshirani, An Introduction to the Bootstrap, 1993, section 6.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import ndimage

from ..analysis.noise import local_sigma
from ..analysis.region_labels import Region
from ..analysis.regions import outside_field_of_view, segment
from ..io.volume import Volume
from ..parallel.threads import over_slices
from ..progress import NO_PROGRESS, Progress
from .blending import check_same_shape, check_strength, store

CALIBRATION: Mapping[Region, float] = {Region.LUNG: 1.27, Region.SOFT_TISSUE: 1.07, Region.BONE: 1.29}
"""The denoiser's errors are so many times those of the bootstrap: 68 % of them are then within ±σ_e.

Found by ``Testing/benchmarks/reliability.py ipv2-fast --fit``."""

FLOOR_HU = 1.0
"""Least σ_e: HU are whole numbers, and one realisation of noise is not all of them."""

SEED, PASSES = 0, 1
"""Of the new noise, and how often the denoiser runs with such noise."""

_SMOOTHING = 2.0  # pixels, σ of the Gaussian by which squared errors are averaged
_DOING = "measuring reliability"


class Denoise(Protocol):
    """What denoises, as `denoisers.Denoiser.denoise` does, at full strength."""

    def __call__(self, volume: Volume, *, progress: Progress) -> Volume: ...


@dataclass(frozen=True, eq=False)
class Reliability:
    """What to expect of the error of a denoised volume.

    Attributes
    ----------
    expected_error : Volume
        σ_e in HU, float32: 68 % of the voxels are within ±σ_e of the ground truth. 0 outside the field of view.
    by_region : dict
        Its mean in each region of the body that is present.
    """

    expected_error: Volume
    by_region: dict[Region, float]


def expected_error(
    volume: Volume,
    output: Volume,
    denoise: Denoise,
    *,
    strength: float = 1.0,
    seed: int = SEED,
    calibration: Mapping[Region, float] = CALIBRATION,
    progress: Progress = NO_PROGRESS,
) -> Reliability:
    """Estimate how far a denoised volume is from the ground truth; the denoiser runs once more.

    Parameters
    ----------
    volume, output : Volume
        HU at strength 0 and at strength 1.
    denoise : callable
        What made `output` of `volume`: a bound `denoisers.Denoiser.denoise`, for instance.
    strength : float
        Of the result that is spoken of, 0 to 1. At 0, σ_e is that of the noise.
    seed : int
        Of the new noise.
    calibration : mapping
        Factor of each region, 1 where there is none.
    progress : Progress

    Raises
    ------
    InputError
        The strength is not from 0 to 1, the shapes differ, or whatever `denoise` refuses.
    Cancelled
        When `progress` is cancelled.
    """
    check_strength(strength)
    check_same_shape(volume, output)
    again = with_new_noise(volume, output, seed, progress.part(0.0, 0.1))
    answer = denoise(again, progress=progress.part(0.1, 0.9, _DOING))
    labels = np.empty(output.array.shape, np.uint8)
    found = np.empty(output.array.shape, np.float32)
    factors = np.array([calibration.get(region, 1.0) for region in Region], np.float32)

    def work(index: int) -> None:
        progress.check()
        labels[index] = segment(output.array[index : index + 1], output.spacing)[0]
        truth = output.array[index].astype(np.float32)
        error = strength * factors[labels[index]] * (answer.array[index] - truth)
        error += (1 - strength) * (again.array[index] - truth)
        found[index] = np.sqrt(ndimage.gaussian_filter(error**2, _SMOOTHING, mode="nearest") + FLOOR_HU**2)
        found[index][labels[index] == Region.OUTSIDE] = 0

    over_slices(work, len(found), progress.part(0.9, 1.0), _DOING)
    inside = {region: labels == region for region in (Region.LUNG, Region.SOFT_TISSUE, Region.BONE)}
    means = {region: float(found[mask].mean(dtype=np.float64)) for region, mask in inside.items() if mask.any()}
    return Reliability(output.with_array(found), means)


def with_new_noise(volume: Volume, output: Volume, seed: int, progress: Progress = NO_PROGRESS) -> Volume:
    """A denoised volume with noise like that which was removed: as strong at each place, with its spectrum.

    Parameters
    ----------
    volume, output : Volume
        Before and after.
    seed : int
        The same seed gives the same noise in each slice, however many there are.
    progress : Progress

    Returns
    -------
    Volume
        In the type of `output`.
    """
    noisy = np.empty_like(output.array)

    def work(index: int) -> None:
        progress.check()
        truth = output.array[index].astype(np.float32)
        removed = volume.array[index] - truth
        sigma = local_sigma(removed)
        noise = sigma * _like(removed / np.maximum(sigma, 1e-3), [seed, index])
        noise[outside_field_of_view(volume.array[index : index + 1])[0]] = 0
        store(noisy[index], truth + noise)

    over_slices(work, len(noisy), progress, _DOING)
    return output.with_array(noisy)


def _like(noise: np.ndarray, seed: list[int]) -> np.ndarray:
    """Other noise with σ 1 and the same spectrum."""
    amplitudes = np.abs(np.fft.rfft2(noise))
    phases = np.fft.rfft2(np.random.default_rng(seed).standard_normal(noise.shape))
    phases /= np.maximum(np.abs(phases), 1e-9)
    new = np.fft.irfft2(amplitudes * phases, noise.shape).astype(np.float32)
    return new / max(float(new.std()), 1e-6)
