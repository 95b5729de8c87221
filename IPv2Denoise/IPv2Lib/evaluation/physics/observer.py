"""A model observer: how well a linear reader could tell images with a known object from images without it.

Channelised Hotelling observer with Laguerre–Gauss channels and no internal noise; the channels are round, as the
objects are. Images with and without the object have the same noise, so that what a denoiser leaves of the object is
known far better than its noise: the interval is narrow, with few images.

References
----------
Gallas & Barrett, J. Opt. Soc. Am. A 20(9), 2003 (channels); Wunderlich & Noo, IEEE Trans. Med. Imaging 28(2), 2009
(estimate and interval where the difference of the means is known).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

CHANNELS = 5
WIDTH = 1.25
"""Of the channels, in diameters of the object."""

_DRAWS = 2000


@dataclass(frozen=True)
class Detectability:
    """d′ with its 95 % interval, and the area under the ROC curve that belongs to each.

    `effective` is how many independent images of each kind the interval counts.
    """

    value: float
    low: float
    high: float
    effective: float

    def as_dict(self) -> dict:
        """For JSON."""
        return {
            "d": self.value,
            "d_interval": [self.low, self.high],
            "auc": area(self.value),
            "auc_interval": [area(self.low), area(self.high)],
            "effective": self.effective,
        }


def area(detectability: float) -> float:
    """Area under the ROC curve, Φ(d′ / √2).

    >>> area(0.0), round(area(1.0), 3)
    (0.5, 0.76)
    """
    return float(stats.norm.cdf(detectability / np.sqrt(2.0)))


def channels(
    size: int, diameter_pixels: float, count: int = CHANNELS, center: tuple[float, float] | None = None
) -> np.ndarray:
    """Laguerre–Gauss channels for a round object, (size², count), columns of length 1.

    Parameters
    ----------
    size : int
        Rows and columns of the region that the observer sees.
    diameter_pixels : float
        Of the object.
    center : (float, float), optional
        Row and column of the object; the middle of the region if not given.
    """
    row, column = center or ((size - 1) / 2, (size - 1) / 2)
    rows, columns = np.indices((size, size))
    width = WIDTH * diameter_pixels
    g = 2 * np.pi * ((rows - row) ** 2 + (columns - column) ** 2).ravel() / width**2
    found = np.stack([np.exp(-g / 2) * special.eval_laguerre(order, g) for order in range(count)], axis=1)
    return found / np.linalg.norm(found, axis=0)


def detectability(
    present: np.ndarray, absent: np.ndarray, noise: np.ndarray, share: float = 1.0, seed: int = 0
) -> Detectability:
    """d′ of the Hotelling observer from channel outputs.

    Parameters
    ----------
    present, absent : ndarray, shape (images, channels)
        Channel outputs of images with the object and, with the same noise, without it.
    noise : ndarray, shape (more images, channels)
        Of images without the object: more of them, as they may come from elsewhere.
    share : float
        Independent images among these, see `independent_share`.
    seed : int
        Of the draws that the interval comes from.

    Notes
    -----
    With the difference of means Δ and a sample covariance S of ν degrees of freedom in p channels,
    ν Δᵀ Σ⁻¹ Δ / Δᵀ S⁻¹ Δ is distributed as χ² with ν - p + 1 degrees of freedom. The draws vary that,
    and Δ by its standard error.
    """
    p = present.shape[1]
    changes = present - absent
    delta, count = changes.mean(0), max(len(changes) * share, 2.0)
    # The mean of both kinds: where the object is, a denoiser may leave more or less noise.
    covariance = np.cov(noise.T) + (np.cov(present.T) - np.cov(absent.T)) / 2
    if np.linalg.eigvalsh(covariance)[0] <= 1e-6 * np.trace(covariance):
        covariance = np.cov(noise.T)
    precision = np.linalg.inv(covariance)
    freedom = max((len(noise) - 1) * share, p + 1.0)
    unsure = np.cov(changes.T) / count
    rng = np.random.default_rng(seed)
    chi = rng.chisquare(freedom - p + 1, _DRAWS) / freedom
    drawn = rng.multivariate_normal(delta, unsure, _DRAWS, method="svd")
    own = float(np.trace(precision @ unsure))  # what errors of Δ add to its square
    squared = max(float(delta @ precision @ delta) - own, 0.0) * (freedom - p + 1) / freedom
    draws = np.maximum(np.einsum("np,pq,nq->n", drawn, precision, drawn) - 2 * own, 0.0) * chi
    value, low, high = (float(np.sqrt(each)) for each in (squared, *np.percentile(draws, (2.5, 97.5))))
    return Detectability(value, low, high, float(len(noise) * share))


def independent_share(outputs: np.ndarray) -> float:
    """Which part of images count where neighbouring slices, having been denoised together, are alike.

    Parameters
    ----------
    outputs : ndarray, shape (slices, places, channels)
        Of images without the object.
    """
    if len(outputs) < 3:
        return 1.0
    centred = outputs - outputs.mean(0)
    power = np.square(centred).mean()
    if not power > 0:
        return 1.0
    alike = 0.0
    for lag in range(1, min(5, len(outputs) - 1)):
        # A mean of few slices was taken away, which by itself makes them unlike.
        correlation = (centred[lag:] * centred[:-lag]).mean() / power + 1 / len(outputs)
        if correlation < 0.1:
            break
        alike += float(correlation)
    return 1.0 / (1.0 + 2.0 * alike)


def equivalent_dose(doses: Sequence[float], values: Sequence[float], wanted: float) -> float:
    """The dose at which a d′ that grows with dose reaches a value; beyond the doses it grows as their square root.

    Examples
    --------
    >>> equivalent_dose([0.25, 1.0], [1.0, 2.0], 1.5).__round__(4), equivalent_dose([0.25, 1.0], [1.0, 2.0], 4.0)
    (0.5625, 4.0)
    """
    known = [(dose, value) for dose, value in zip(doses, values, strict=True) if value > 0]
    if not known or not wanted > 0:
        return float("nan")
    # No curve of few images is monotone: the line through all of them, of slope ½ in logarithms, is.
    if len(known) == 1:
        return known[0][0] * (wanted / known[0][1]) ** 2
    x, y = np.log([dose for dose, _ in known]), np.log([value for _, value in known])
    y = np.maximum.accumulate(y)
    target = np.log(wanted)
    if target <= y[0]:
        return float(np.exp(x[0] + 2 * (target - y[0])))
    if target >= y[-1]:
        return float(np.exp(x[-1] + 2 * (target - y[-1])))
    after = int(np.searchsorted(y, target))
    part = (target - y[after - 1]) / max(y[after] - y[after - 1], 1e-12)
    return float(np.exp(x[after - 1] + part * (x[after] - x[after - 1])))
