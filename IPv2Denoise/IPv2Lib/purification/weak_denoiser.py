"""*Remove noise*: takes about half of the noise out of an ultra-low-dose scan and as little else as possible.

Owns the choice of the filter (total variation) and how its strength follows the noise; the comparison that led to
it is in `Testing/benchmarks/weak_denoiser.md`. It makes reference images for scoring, not images to read: that is
`denoise`'s task.
"""

from __future__ import annotations

import math

import numpy as np

from ..analysis.noise import tissue_sigma
from ..analysis.regions import outside_field_of_view
from ..errors import InputError
from ..hounsfield import AIR_HU
from ..io.volume import Volume, check_ct
from ..parallel.threads import over_slices
from ..progress import NO_PROGRESS, Progress

WEIGHT_PER_SIGMA = 0.64
"""Halves the noise of soft tissue at 2 % dose (measured, see the comparison)."""

LEAST_WEIGHT_HU = 1e-3
"""Less would change nothing that can be seen, and Chambolle's iteration divides by the weight."""

ITERATIONS = 10
"""50 bring no smaller error, a larger shift of HU in the lung, and take five times as long."""


def weak_denoise(volume: Volume, strength: float = 1.0, *, progress: Progress = NO_PROGRESS) -> Volume:
    """Remove part of the noise, slice by slice, by total variation (Chambolle 2004).

    Each slice u0 becomes an approximate minimiser of ``TV(u) + |u - u0|² / (2 w)``, w = 0.64 · strength · σ, where
    σ is the noise measured in the tissue of that slice (`noise.tissue_sigma`). Edges stay, and so does the
    mean of a slice without padding, to rounding.

    Parameters
    ----------
    volume : Volume
        (slices, rows, columns), HU.
    strength : float
        0 returns the input as it is, 1 about halves the noise in soft tissue at 2 % dose; more removes more.
    progress : Progress

    Returns
    -------
    Volume
        float32 HU (for strength 0 the input's own type), same geometry; padding outside the field of view unchanged.

    Raises
    ------
    InputError
        If the strength is negative or not finite, or the volume is not CT (`volume.check_ct`).

    References
    ----------
    Chambolle, An algorithm for total variation minimization and applications, J. Math. Imaging Vis. 20, 2004.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noisy = Volume(rng.normal(40, 80, (1, 64, 64)))
    >>> bool(weak_denoise(noisy).array.std() < 0.6 * noisy.array.std())
    True
    """
    if not (math.isfinite(strength) and strength >= 0):
        raise InputError(f"the strength of the weak denoiser is {strength:g}; use 0 (off), 1 (usual) or a little more")
    check_ct(volume)
    if strength == 0:
        return volume
    result = np.empty(volume.array.shape, np.float32)

    def denoise(index: int) -> None:
        result[index] = _denoised(volume.array[index], strength)

    over_slices(denoise, len(result), progress, "removing noise")
    return volume.with_array(result)


def _denoised(hu: np.ndarray, strength: float) -> np.ndarray:
    """One slice (rows, columns)."""
    from skimage.restoration import denoise_tv_chambolle  # Slicer installs it after a module was opened

    outside = outside_field_of_view(hu[None])[0]
    image = np.where(outside, np.float32(AIR_HU), hu.astype(np.float32))
    weight = WEIGHT_PER_SIGMA * strength * tissue_sigma(image, ~outside)
    if weight < LEAST_WEIGHT_HU:
        return hu
    # No early stop (eps = 0): a fixed number of iterations makes the result a smooth function of the strength.
    smooth = denoise_tv_chambolle(image, weight, eps=0, max_num_iter=ITERATIONS)
    return np.where(outside, hu, smooth)
