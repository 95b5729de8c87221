"""How strong the noise of a CT image is and what it looks like: level and power spectrum.

Everything is measured from the image itself, where it is homogeneous.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

PATCH = 32  # pixels; a spectrum of 16 radial frequencies
TISSUE_HU = -300.0
"""A local mean above this is tissue, where the noise of a slice is measured: room air is often clipped."""

_AROUND = 41  # pixels; how far around one the strength of its noise is measured
_SIGMA = 1.2533  # standard deviation over mean magnitude, of normal noise
_LAG = 3  # pixels between those compared for the noise level
_TISSUE_HU = (-150.0, 200.0)  # mean of a patch that can be fat, muscle, blood or a vessel-free organ


def noise_sigma(array: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Estimate the standard deviation of noise from the differences between pixels three apart.

    The second difference along rows and columns removes smooth anatomy, the median removes edges. Pixels three
    apart are nearly independent even with a soft kernel; what correlation remains makes the estimate low, by
    7 % for white noise blurred with a Gaussian of one pixel and 28 % with one and a half.

    Parameters
    ----------
    array : numpy.ndarray
        (..., rows, columns), HU.
    mask : numpy.ndarray, optional
        Where to measure, same shape; default: everywhere.

    Returns
    -------
    float
        Noise σ in HU; 0 where the image is too small or too uniform to tell.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> round(noise_sigma(rng.normal(40, 20, (256, 256))))
    20
    """
    differences = []
    for axis in (-1, -2):
        if array.shape[axis] <= 2 * _LAG:
            continue
        centre, before, after = (_shifted(array, axis, offset) for offset in (_LAG, 0, 2 * _LAG))
        second = centre.astype(np.float32) - 0.5 * (before.astype(np.float32) + after)
        keep = slice(None) if mask is None else _shifted(mask, axis, _LAG)
        differences.append(np.abs(second[keep]).ravel())
    values = np.concatenate(differences) if differences else np.zeros(0)
    if values.size == 0:
        return 0.0
    return float(np.median(values) / 0.6745 / np.sqrt(1.5))


def tissue_sigma(image: np.ndarray, inside: np.ndarray) -> float:
    """Noise σ in HU in the tissue of a slice (rows, columns), see `noise_sigma`; where there is none, of all inside.

    Parameters
    ----------
    image : numpy.ndarray
        HU.
    inside : numpy.ndarray of bool
        The field of view.
    """
    from scipy import ndimage  # a machine that only trains may have none

    tissue = (ndimage.uniform_filter(image, 7) > TISSUE_HU) & inside
    return noise_sigma(image, tissue) or noise_sigma(image, inside)


def local_sigma(noise: np.ndarray) -> np.ndarray:
    """Standard deviation of noise around each pixel of a slice (rows, columns), of noise alone; outliers count less."""
    from scipy import ndimage  # a machine that only trains may have none

    return _SIGMA * ndimage.uniform_filter(np.abs(noise), _AROUND, mode="nearest")


def tissue_places(array: np.ndarray) -> np.ndarray:
    """All square patches of soft tissue in axial slices, half of one apart; as `homogeneous_places`, in no order."""
    return _tissue_places(array)[0]


def homogeneous_places(array: np.ndarray, keep: float = 0.05, most: int = 400) -> np.ndarray:
    """Find the flattest square patches of soft tissue in axial slices, to measure noise in.

    Parameters
    ----------
    array : numpy.ndarray
        (slices, rows, columns), HU.
    keep : float
        Fraction of the soft-tissue patches to keep, those with the least variation after smoothing.
    most : int
        At most so many patches.

    Returns
    -------
    numpy.ndarray
        (patches, 3) slice, first row and first column of patches for `cut`; possibly none at all.
    """
    found, flatness = _tissue_places(array)
    count = min(len(found), most, max(16, round(keep * len(found))))
    return found[np.argsort(flatness, kind="stable")[:count]]


def _tissue_places(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of patches of soft tissue, and their variation after smoothing."""
    places, flatness = [np.zeros((0, 3), int)], [np.zeros(0)]
    if min(array.shape[1:]) < PATCH:
        return places[0], flatness[0]
    from scipy import ndimage  # a machine that only trains may have none

    for index, image in enumerate(array):
        smooth = ndimage.gaussian_filter(np.asarray(image, np.float32), 3.0)
        low = np.lib.stride_tricks.sliding_window_view(smooth, (PATCH, PATCH))[:: PATCH // 2, :: PATCH // 2]
        # Every smoothed value, not the mean: no patch may contain lung, air or bone.
        tissue = (low.min((2, 3)) > _TISSUE_HU[0]) & (low.max((2, 3)) < _TISSUE_HU[1])
        row, column = np.nonzero(tissue)
        places.append(np.stack([np.full_like(row, index), row * (PATCH // 2), column * (PATCH // 2)], 1))
        flatness.append(low[tissue].std((1, 2)))
    return np.concatenate(places), np.concatenate(flatness)


def cut(array: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Patches (patches, 32, 32) of `array` at `places`, as `homogeneous_places` gives them."""
    patches = [array[k, i : i + PATCH, j : j + PATCH] for k, i, j in places]
    return np.asarray(patches, np.float32).reshape(-1, PATCH, PATCH)


def noise_power_spectrum(patches: np.ndarray, spacing_mm: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Radial noise power spectrum of homogeneous patches (ICRU report 87, section 3).

    Parameters
    ----------
    patches : numpy.ndarray
        (patches, size, size), HU; see `homogeneous_places` and `cut`.
    spacing_mm : float
        Pixel spacing.

    Returns
    -------
    frequency : numpy.ndarray
        Radial frequency in cycles/mm, up to the Nyquist frequency.
    power : numpy.ndarray
        HU² mm²; its integral over the frequency plane is the variance.
    """
    return radial_power(detrended(patches), spacing_mm)


def radial_power(patches: np.ndarray, spacing_mm: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """`noise_power_spectrum` of patches as they are: without a mean, or windowed."""
    size = patches.shape[-1]
    power = (np.abs(np.fft.fft2(patches)) ** 2).mean(0) * (spacing_mm / size) ** 2
    f = np.fft.fftfreq(size)
    ring = np.rint(np.hypot(*np.meshgrid(f, f)) * size).astype(int)
    radial = np.bincount(ring.ravel(), power.ravel()) / np.bincount(ring.ravel())
    count = size // 2 + 1
    return np.arange(count) / size / spacing_mm, radial[:count]


@dataclass(frozen=True)
class NoiseTexture:
    """What noise in homogeneous soft tissue looks like.

    Attributes
    ----------
    frequency : ndarray
        1/mm.
    power : ndarray
        Radial noise power spectrum, HU² mm².
    variance : float
        Its magnitude, HU²: the variance of the patches around a plane.
    mean_frequency : float
        ∫ f · power / ∫ power along the radius, 1/mm.
    """

    frequency: np.ndarray
    power: np.ndarray
    variance: float
    mean_frequency: float


def noise_texture(volume: np.ndarray, places: np.ndarray, spacing_mm: float) -> NoiseTexture:
    """Noise power spectrum at places that `homogeneous_places` found, with magnitude and mean frequency.

    To be compared, images are measured in the same places. The mean frequency is that of AAPM report 233 (2019), of
    the radial spectrum up to the Nyquist frequency. Patches are tapered by a Hann window: cut off sharply, the strong
    low frequencies of smooth noise would leak into the high ones, and raise the mean by a third.

    Parameters
    ----------
    volume : ndarray, shape (slices, rows, columns)
        HU.
    places : ndarray, shape (patches, 3)
    spacing_mm : float
        Between pixels.

    Raises
    ------
    InputError
        No places.
    """
    if not len(places):
        raise InputError("there is no homogeneous soft tissue to measure noise in: use larger slices")
    patches = detrended(cut(volume, places))
    taper = np.hanning(patches.shape[-1] + 1)[:-1]
    taper = np.outer(taper, taper) / np.mean(taper**2)
    frequency, power = radial_power(patches * taper, spacing_mm)
    mean = float((frequency * power).sum() / power.sum()) if power.any() else math.nan
    return NoiseTexture(frequency, power, float(np.mean(patches**2)), mean)


def detrended(patches: np.ndarray) -> np.ndarray:
    """Patches (patches, size, size) less the plane that fits each one best, float64."""
    size = patches.shape[-1]
    axis = np.linspace(-1.0, 1.0, size)
    plane = np.stack([np.ones((size, size)), *np.meshgrid(axis, axis)], -1).reshape(-1, 3)
    flat = patches.reshape(len(patches), -1).astype(np.float64)
    return (flat - flat @ np.linalg.pinv(plane).T @ plane.T).reshape(patches.shape)


def _shifted(array: np.ndarray, axis: int, offset: int) -> np.ndarray:
    """`array` without 2 · _LAG samples along `axis`, starting at `offset`."""
    length = array.shape[axis] - 2 * _LAG
    return np.take(array, range(offset, offset + length), axis=axis)
