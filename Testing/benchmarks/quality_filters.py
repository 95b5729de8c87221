"""Classical filters of the quality benchmark, and how the strength of each is tuned.

Every filter works on one slice (rows, columns) in HU with one strength. Strengths lie on a long grid; tuning walks down
it from where it is told to start until the best one has a worse one on either side.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle


def _gaussian(x: np.ndarray, sigma_pixels: float) -> np.ndarray:
    return ndimage.gaussian_filter(x, sigma_pixels)


def _median(x: np.ndarray, side_pixels: float) -> np.ndarray:
    return ndimage.median_filter(x, int(side_pixels))


def _bilateral(x: np.ndarray, range_hu: float) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.Bilateral(sitk.GetImageFromArray(x), 2.0, range_hu))


def _total_variation(x: np.ndarray, weight_hu: float) -> np.ndarray:
    # The default tolerance ends after a few steps, far from the minimum.
    return denoise_tv_chambolle(x, weight_hu, eps=1e-5, max_num_iter=150)


def _nl_means(x: np.ndarray, h_hu: float) -> np.ndarray:
    return denoise_nl_means(x, 5, 9, h_hu, fast_mode=True)


def _bm3d(x: np.ndarray, sigma_hu: float) -> np.ndarray:
    import bm3d

    return bm3d.bm3d(x.astype(np.float64), sigma_hu).astype(np.float32)


def _curvature_flow(x: np.ndarray, duration: float) -> np.ndarray:
    step, steps = _steps(duration)
    return sitk.GetArrayFromImage(sitk.CurvatureFlow(sitk.GetImageFromArray(x), step, steps))


def _anisotropic(x: np.ndarray, duration: float) -> np.ndarray:
    step, steps = _steps(duration)
    image = sitk.GetImageFromArray(x)
    return sitk.GetArrayFromImage(sitk.GradientAnisotropicDiffusion(image, step, 3.0, 1, steps))


def _steps(duration: float) -> tuple[float, int]:
    """Time step, at most 1/8 lest the scheme become unstable, and how many."""
    steps = int(np.ceil(8 * duration))
    return duration / steps, steps


def _geometric(first: float, last: float, factor: float) -> tuple[float, ...]:
    count = int(np.ceil(np.log(last / first) / np.log(factor))) + 1
    return tuple(float(f"{first * factor**k:.3g}") for k in range(count))


_DURATIONS = _geometric(0.02, 30.0, 1.5)


@dataclass(frozen=True)
class Filter:
    """A filter of one slice: what it does for a strength, and the strengths to choose from, weakest first."""

    function: Callable[[np.ndarray, float], np.ndarray]
    strengths: tuple[float, ...]
    needs: str = ""

    @property
    def installed(self) -> bool:
        """Whether the package that it needs is there."""
        return not self.needs or importlib.util.find_spec(self.needs) is not None


FILTERS = {
    "Gaussian": Filter(_gaussian, _geometric(0.2, 8.0, 1.25)),
    "median": Filter(_median, tuple(range(1, 22, 2))),
    "bilateral": Filter(_bilateral, _geometric(10.0, 8000.0, 1.5)),
    "total variation": Filter(_total_variation, _geometric(2.0, 3000.0, 1.4)),
    "non-local means": Filter(_nl_means, _geometric(3.0, 1500.0, 1.35)),
    "BM3D": Filter(_bm3d, _geometric(2.0, 1000.0, 1.4), needs="bm3d"),
    "curvature flow": Filter(_curvature_flow, _DURATIONS),
    "anisotropic diffusion": Filter(_anisotropic, _DURATIONS),
}
CHEAP = ("Gaussian", "median", "total variation")


@dataclass(frozen=True)
class Tuned:
    """The best strength of a filter, its error (HU), and whether worse ones lie on both sides of it."""

    strength: float
    error_hu: float
    inside: bool


def filtered(image: np.ndarray, name: str, strength: float, body: np.ndarray | None = None) -> np.ndarray:
    """One slice through a filter; where the body is given, only the box around it, as nothing else is measured."""
    image = np.asarray(image, np.float32)
    if body is None or not body.any():
        return np.asarray(FILTERS[name].function(np.ascontiguousarray(image), strength), np.float32)
    margin = 16
    box = tuple(
        slice(max(0, int(used[0]) - margin), int(used[-1]) + 1 + margin)
        for used in (np.flatnonzero(body.any(axis)) for axis in (1, 0))
    )
    result = image.copy()
    result[box] = FILTERS[name].function(np.ascontiguousarray(image[box]), strength)
    return result


def tune(strengths: Sequence[float], error: Callable[[float], float], start: int | None = None) -> Tuned:
    """Walk along the strengths to where the error is least.

    Parameters
    ----------
    strengths : sequence of float
    error : callable
        HU for a strength.
    start : int, optional
        Where on the grid to begin; the middle if not given.

    Examples
    --------
    >>> tune(range(10), lambda strength: (strength - 7) ** 2, start=2)
    Tuned(strength=7, error_hu=0, inside=True)
    """
    known: dict[int, float] = {}

    def at(place: int) -> float:
        if place not in known:
            known[place] = error(strengths[place])
        return known[place]

    last = len(strengths) - 1
    place = min(max(len(strengths) // 2 if start is None else start, 0), last)
    while True:
        around = [k for k in (place - 1, place, place + 1) if 0 <= k <= last]
        best = min(around, key=at)
        if best == place:
            return Tuned(strengths[place], at(place), 0 < place < last)
        place = best
