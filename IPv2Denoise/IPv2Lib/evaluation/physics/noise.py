"""Noise of a denoiser, measured without anatomy: what two realisations of one slice do not share.

Owns magnitude, spectrum and what both say of a denoiser: how much noise it takes, and how the texture changes. The
spectrum of a set of patches is `analysis.noise`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from ...analysis.noise import radial_power

PATCH = 64
"""Pixels per side of a patch: with 0.75 mm, spectra in steps of 0.02 per mm."""

STRENGTHS = tuple(round(0.1 * step, 1) for step in range(11))
"""Of the trade-off curve."""

RESAMPLES = 400

_NOTHING = 0.01


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Noise alone: what two realisations do not share, over √2 (AAPM report 233, ensemble subtraction)."""
    return (np.asarray(a, np.float64) - b) / np.sqrt(2.0)


def places(mask: np.ndarray, size: int = PATCH, step: int | None = None) -> np.ndarray:
    """First row and column of patches that lie inside a mask (rows, columns); half overlapping, or in steps."""
    step = step or size // 2
    if min(mask.shape) < size:
        return np.zeros((0, 2), int)
    return np.argwhere(np.lib.stride_tricks.sliding_window_view(mask, (size, size))[::step, ::step].all((2, 3))) * step


def cut(images: np.ndarray, corners: np.ndarray, size: int = PATCH) -> np.ndarray:
    """Patches (slices · patches, size, size) of images (slices, rows, columns)."""
    return np.array([image[i : i + size, j : j + size] for image in images for i, j in corners], np.float64)


def spectra(patches: np.ndarray, spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Radial noise power spectrum of every patch, under a Hann window; (bins,) 1/mm and (patches, bins) HU² mm².

    Noise that has a mean of 0 is not detrended, so that no low frequency is lost.
    """
    taper = np.hanning(patches.shape[-1] + 1)[:-1]
    taper = np.outer(taper, taper) / np.mean(np.outer(taper, taper) ** 2) ** 0.5
    rows = [radial_power(patch[None] * taper, spacing_mm) for patch in patches]
    return rows[0][0], np.array([power for _, power in rows])


def mean_frequency(frequency: np.ndarray, power: np.ndarray) -> np.ndarray:
    """∫ f · NPS / ∫ NPS along the radius, 1/mm (AAPM report 233); of spectra (..., bins)."""
    total = power.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (power * frequency).sum(-1) / total


def peak_frequency(frequency: np.ndarray, power: np.ndarray) -> float:
    """Where the spectrum, smoothed over three bins, is highest, 1/mm."""
    return float(frequency[ndimage.gaussian_filter1d(power, 1.5).argmax()])


def rmsd(power: np.ndarray, reference: np.ndarray) -> float:
    """Root mean square difference of two spectra, each over its own area, over the peak of the reference."""
    a, b = power / power.sum(), reference / reference.sum()
    return float(np.sqrt(np.mean((a - b) ** 2)) / b.max())


def profile(power: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """10 log₁₀ of the ratio of two spectra by frequency, dB; NaN where the reference has next to nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(reference > _NOTHING * reference.max(), 10.0 * np.log10(power / reference), np.nan)


def compared(
    before: Sequence[np.ndarray],
    after: Sequence[np.ndarray],
    mask: np.ndarray,
    spacing_mm: float,
    seed: int = 0,
    size: int = PATCH,
    step: int | None = None,
) -> dict[str, Any]:
    """What a denoiser did to noise; numbers and lists, expressible in JSON.

    Parameters
    ----------
    before, after : two arrays (slices, rows, columns) each
        Two realisations as they are, and denoised; HU.
    mask : ndarray of bool, shape (rows, columns)
        Where noise is measured: uniform, and away from borders.
    spacing_mm : float
    seed : int
        Of the resamples of patches that intervals come from.
    size, step : int
        See `places`.

    Returns
    -------
    dict
        ``sigma_in``, ``sigma_out`` (HU), ``taken`` (part of σ) and ``taken_interval``; ``frequency``, ``power_in``,
        ``power_out``; ``mean_in``, ``mean_out``, ``mean_interval`` (of their ratio), ``peak_in``, ``peak_out``;
        ``rmsd``; ``profile_db``; ``tradeoff``: each of `STRENGTHS`, with noise taken, mean frequency over that of the
        input, and nNPS RMSD.
    """
    noise_in, noise_out = difference(*before), difference(*after)
    corners = places(mask, size, step)
    if not len(corners):
        raise ValueError("the mask has no room for a patch")
    patches_in, patches_out = (cut(each, corners, size) for each in (noise_in, noise_out))
    frequency, power_in = spectra(patches_in, spacing_mm)
    _, power_out = spectra(patches_out, spacing_mm)
    variance_in, variance_out = (np.square(each).mean((1, 2)) for each in (patches_in, patches_out))
    sigma_in, sigma_out = np.sqrt(variance_in.mean()), np.sqrt(variance_out.mean())

    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(patches_in), np.full(len(patches_in), 1 / len(patches_in)), RESAMPLES)
    taken = 1.0 - np.sqrt((times @ variance_out) / (times @ variance_in))
    shift = mean_frequency(frequency, times @ power_out) / mean_frequency(frequency, times @ power_in)
    whole_in, whole_out = power_in.mean(0), power_out.mean(0)
    both = patches_in + patches_out
    cross = (spectra(both, spacing_mm)[1].mean(0) - whole_in - whole_out) / 2
    covariance = float((patches_in * patches_out).mean())
    tradeoff = []
    for s in STRENGTHS:
        a, b, c = (1 - s) ** 2, s**2, 2 * s * (1 - s)
        power = a * whole_in + b * whole_out + c * cross
        sigma = np.sqrt(max(a * sigma_in**2 + b * sigma_out**2 + c * covariance, 0.0))
        ratio = mean_frequency(frequency, power) / mean_frequency(frequency, whole_in)
        tradeoff.append([s, float(1 - sigma / sigma_in), float(ratio), rmsd(power, whole_in)])
    return {
        "sigma_in": float(sigma_in),
        "sigma_out": float(sigma_out),
        "taken": float(1 - sigma_out / sigma_in),
        "taken_interval": _interval(taken),
        "frequency": frequency.tolist(),
        "power_in": whole_in.tolist(),
        "power_out": whole_out.tolist(),
        "mean_in": float(mean_frequency(frequency, whole_in)),
        "mean_out": float(mean_frequency(frequency, whole_out)),
        "mean_interval": _interval(shift),
        "peak_in": peak_frequency(frequency, whole_in),
        "peak_out": peak_frequency(frequency, whole_out),
        "rmsd": rmsd(whole_out, whole_in),
        "profile_db": [float(each) if np.isfinite(each) else None for each in profile(whole_out, whole_in)],
        "tradeoff": tradeoff,
        "patches": len(patches_in),
    }


def _interval(values: np.ndarray) -> list[float]:
    return [float(each) for each in np.nanpercentile(values, (2.5, 97.5))]
