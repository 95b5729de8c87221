"""Classical filters of a slice, to compare models with.

Owns the filters, their strengths, and the rule by which a strength follows the noise of the slice:

    strength = multiple · usual · (σ / 100 HU) ^ power

σ is what `noise.tissue_sigma` measures. `usual` and `power` are of the filter: fitted to the strengths with the least
error in the body, on the four training scans of the quality benchmark with the noise of 1 to 25 % of their dose
simulated. There the rule was as good as one strength tuned for each dose (total variation: 52.5 HU against 56.3 at
2 %), at 25 % up to 7 % worse. `Testing/benchmarks/quality.py` tunes them for every dose.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

LEAST_SIGMA_HU = 0.5
"""A slice with less noise stays as it is."""

_TYPICAL_HU = 100.0


@dataclass(frozen=True)
class Filter:
    """A filter of one slice.

    Attributes
    ----------
    name, label : str
        By which it is chosen; for people.
    function : callable
        A float32 slice (rows, columns) in HU and a strength, to the filtered slice.
    unit : str
        Of the strength.
    usual, power : float
        The strength at a noise σ of 100 HU, and how it grows with σ.
    version : int
        Another number where the same strength gives something else than before.
    serial : bool
        Whether it takes all cores for one slice, and cannot work on two at once.
    package : str
        What it needs that is not installed with the rest.
    hint : str
        What to know before that is installed.
    """

    name: str
    label: str
    function: Callable[[np.ndarray, float], np.ndarray]
    unit: str
    usual: float
    power: float
    version: int = 1
    serial: bool = False
    package: str = ""
    hint: str = ""

    @property
    def installed(self) -> bool:
        """Whether the package that it needs is there."""
        return not self.package or importlib.util.find_spec(self.package) is not None

    def check_installed(self) -> None:
        """Refuse (`InputError`) a filter whose package is missing."""
        if not self.installed:
            raise InputError(f"{self.label} needs the package {self.package}: pip install {self.package}{self.hint}")

    def strength(self, sigma_hu: float, multiple: float = 1.0) -> float:
        """For a slice with this noise.

        Examples
        --------
        >>> FILTERS["tv"].strength(100), FILTERS["tv"].strength(200, 0.5)
        (75.0, 150.0)
        """
        return multiple * self.usual * (sigma_hu / _TYPICAL_HU) ** self.power

    def __call__(self, image: np.ndarray, strength: float) -> np.ndarray:
        """Filter one slice, HU; float32."""
        return np.asarray(self.function(np.ascontiguousarray(image, np.float32), strength), np.float32)


def _gaussian(x: np.ndarray, sigma_pixels: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(x, sigma_pixels)


def _median(x: np.ndarray, side_pixels: float) -> np.ndarray:
    from scipy.ndimage import median_filter

    return median_filter(x, max(1, 2 * round((side_pixels - 1) / 2) + 1))


def _bilateral(x: np.ndarray, range_hu: float) -> np.ndarray:
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.Bilateral(sitk.GetImageFromArray(x), 2.0, range_hu))


def _total_variation(x: np.ndarray, weight_hu: float) -> np.ndarray:
    from skimage.restoration import denoise_tv_chambolle

    # The default tolerance ends after a few steps, far from the minimum.
    return denoise_tv_chambolle(x, weight_hu, eps=1e-5, max_num_iter=150)


def _nl_means(x: np.ndarray, h_hu: float) -> np.ndarray:
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(x, 5, 9, h_hu, fast_mode=True)


def _bm3d(x: np.ndarray, sigma_hu: float) -> np.ndarray:
    import bm3d

    return bm3d.bm3d(x.astype(np.float64), sigma_hu)


def _curvature_flow(x: np.ndarray, duration: float) -> np.ndarray:
    import SimpleITK as sitk

    step, steps = _steps(duration)
    return sitk.GetArrayFromImage(sitk.CurvatureFlow(sitk.GetImageFromArray(x), step, steps))


def _anisotropic(x: np.ndarray, duration: float) -> np.ndarray:
    import SimpleITK as sitk

    step, steps = _steps(duration)
    image = sitk.GetImageFromArray(x)
    return sitk.GetArrayFromImage(sitk.GradientAnisotropicDiffusion(image, step, 3.0, 1, steps))


def _steps(duration: float) -> tuple[float, int]:
    """Time step, at most 1/8 lest the scheme become unstable, and how many."""
    steps = math.ceil(8 * duration)
    return duration / steps, steps


_NON_COMMERCIAL = " (its licence allows non-commercial use only)"

FILTERS = {
    each.name: each
    for each in (
        Filter("gaussian", "Gaussian", _gaussian, "pixels", 0.83, 1.0),
        Filter("median", "median", _median, "pixels", 3.5, 1.0),
        Filter("bilateral", "bilateral", _bilateral, "HU", 190.0, 2.0),
        Filter("tv", "total variation", _total_variation, "HU", 75.0, 2.0),
        Filter("nlm", "non-local means", _nl_means, "HU", 85.0, 1.5),
        Filter("bm3d", "BM3D", _bm3d, "HU", 155.0, 1.5, serial=True, package="bm3d", hint=_NON_COMMERCIAL),
        Filter("curvature-flow", "curvature flow", _curvature_flow, "time", 0.85, 2.0),
        Filter("anisotropic", "anisotropic diffusion", _anisotropic, "time", 0.6, 1.5),
    )
}
"""By name, the simplest first."""
