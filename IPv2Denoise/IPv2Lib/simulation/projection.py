"""Parallel-beam projection and filtered back-projection of square images.

Owns the geometry and the filters; knows nothing of HU, dose or noise (see `dose`). Lengths are in pixels.

The work is folded: the view angles come in groups of four (θ, π/2 - θ, π/2 + θ, π - θ) that differ only by a
flip or a transposition of the image, so that one table of interpolation indices serves four views, and all
slices of a batch. The sums themselves are products with a sparse matrix, which scipy computes in C, in threads beside
each other, as fast as PyTorch does on a CPU; on a GPU they run in PyTorch's weighted gather.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..parallel.threads import over_slices

_VIEWS_PER_GATHER = 16  # views summed by one gather: its table stays in the cache
_PIXELS_PER_GATHER = 8192
_GAIN_SAMPLES = 65


@dataclass(frozen=True)
class Kernel:
    """A reconstruction kernel: the gain by which the ramp filter is multiplied.

    Parameters
    ----------
    name : str
        What to call it in a report.
    gain : tuple of float
        Gain at equally spaced frequencies from 0 to the Nyquist frequency of the detector (= of the pixels).
    """

    name: str
    gain: tuple[float, ...]

    def at(self, frequency: np.ndarray) -> np.ndarray:
        """Gain at `frequency`, in units of the Nyquist frequency (0 to 1), linearly interpolated."""
        return np.interp(frequency, np.linspace(0.0, 1.0, len(self.gain)), self.gain)


KERNEL_NAMES = {"soft": -1.0, "hann": 0.0, "ramp": 1.0, "sharp": 2.0}


def kernel(choice: str | float | Kernel) -> Kernel:
    """Return a reconstruction kernel by name or by sharpness.

    Parameters
    ----------
    choice : str, float or Kernel
        ``"soft"`` (-1), ``"hann"`` (0), ``"ramp"`` (1), ``"sharp"`` (2), or any sharpness between -1 and 2:
        below 0 a Hann window that ends at 40 % of the Nyquist frequency for -1; between 0 and 1 a mixture of the
        Hann window and the plain ramp; above 1 an enhancement of high frequencies, as lung kernels have, that
        doubles the ramp at 60 % of the Nyquist frequency for 2. A `Kernel` is returned as it is.

    Raises
    ------
    InputError
        If the name is unknown or the sharpness is outside -1 to 2.

    Examples
    --------
    >>> kernel("hann").at(0.5).round(3), kernel(1.0).at(0.5)
    (np.float64(0.5), np.float64(1.0))
    """
    if isinstance(choice, Kernel):
        return choice
    try:
        sharpness = KERNEL_NAMES[choice] if choice in KERNEL_NAMES else float(choice)
    except (TypeError, ValueError):
        raise InputError(
            f"unknown reconstruction kernel {choice!r}: use one of {', '.join(KERNEL_NAMES)} "
            "or a sharpness from -1 to 2"
        ) from None
    if not -1.0 <= sharpness <= 2.0:
        raise InputError(f"kernel sharpness {sharpness:g} is out of range: use -1 (soft) to 2 (sharp)")
    u = np.linspace(0.0, 1.0, _GAIN_SAMPLES)
    cutoff = 1.0 + 0.6 * min(sharpness, 0.0)
    hann = np.where(u <= cutoff, 0.5 + 0.5 * np.cos(np.pi * np.minimum(u / cutoff, 1.0)), 0.0)
    mix = float(np.clip(sharpness, 0.0, 1.0))
    boost = max(sharpness - 1.0, 0.0) * np.exp(-(((u - 0.6) / 0.3) ** 2))
    gain = ((1.0 - mix) * hann + mix) * (1.0 + boost)
    name = next((n for n, s in KERNEL_NAMES.items() if s == sharpness), f"sharpness {sharpness:g}")
    return Kernel(name, tuple(float(g) for g in gain))


def with_band(choice: str | float | Kernel, octaves: float, centre: float, width: float) -> Kernel:
    """A kernel with a band of frequencies raised or lowered.

    Parameters
    ----------
    choice : str, float or Kernel
        See `kernel`.
    octaves : float
        By how much in the middle of the band: 1 doubles the gain, -1 halves it.
    centre, width : float
        Middle of the band, and how far from there the change is 1/e of that, in units of the Nyquist frequency.

    Examples
    --------
    >>> with_band("ramp", 1.0, 0.5, 0.2).at(np.array([0.0, 0.5])).round(2)
    array([1., 2.])
    """
    plain = kernel(choice)
    u = np.linspace(0.0, 1.0, len(plain.gain))
    change = octaves * np.exp(-(((u - centre) / width) ** 2))
    return Kernel(f"{plain.name} with a band", tuple(np.multiply(plain.gain, 2.0**change).tolist()))


def view_angles(views: int) -> np.ndarray:
    """Angles in radians, ascending in (0, π), of the `views` (a multiple of 4) that this module uses."""
    return (np.arange(views) + 0.5) * np.pi / views


def detector_bins(size: int) -> int:
    """Number of detector bins, one pixel wide, that see every pixel of a `size` by `size` image."""
    return math.ceil(size * math.sqrt(2.0)) + 3


def project(images: np.ndarray, views: int, device: str = "cpu") -> np.ndarray:
    """Line integrals through images (Joseph's method: linear interpolation across the ray).

    Parameters
    ----------
    images : numpy.ndarray
        (batch, size, size) float32; zero outside.
    views : int
        Number of view angles, a multiple of 4; see `view_angles`.
    device : str
        What sums: "cpu", or a torch device.

    Returns
    -------
    numpy.ndarray
        (batch, views, detector_bins(size)) float32, in image units times pixels.

    References
    ----------
    Joseph, IEEE Trans. Med. Imaging 1(3), 1982.
    """
    batch, size, _ = images.shape
    bins = detector_bins(size)
    # Zero columns on both sides catch the rays that leave the image.
    padded = np.pad(_fold(images), ((0, 0), (0, 0), (0, 0), (1, 2)))
    width = size + 3
    gather = _Gather(padded.transpose(2, 3, 0, 1).reshape(size * width, 4 * batch), device)
    rows = np.arange(size, dtype=np.float32)
    detector = np.arange(bins, dtype=np.float32) - np.float32((bins - 1) / 2)
    centre = np.float32((size - 1) / 2)
    angles = view_angles(views)[: views // 4]
    out = np.empty((views // 4, bins, 4, batch), np.float32)

    def one(number: int) -> None:
        sine, cosine = np.float32(math.sin(angles[number])), np.float32(math.cos(angles[number]))
        x = (detector[:, None] - (rows - centre)[None] * sine) / cosine + (centre + 1)
        index, weight = _interpolation(np.clip(x, 0.0, size + 1, out=x))
        index += (rows.astype(np.int32) * width)[None, :, None]
        out[number] = gather(index, weight).reshape(bins, 4, batch) / cosine

    over_slices(one, len(angles))
    return _unfold_views(out)


def back_project(sinogram: np.ndarray, size: int, device: str = "cpu") -> np.ndarray:
    """Sum over views of the projections at each pixel, times π / views (linear interpolation).

    Parameters
    ----------
    sinogram : numpy.ndarray
        (batch, views, detector_bins(size)) float32, views a multiple of 4, filtered (`filter_views`).
    size : int
        Rows and columns of the images, even.
    device : str
        As for `project`.

    Returns
    -------
    numpy.ndarray
        (batch, size, size) float32.
    """
    batch, views, bins = sinogram.shape
    folded = _fold_views(sinogram)
    # The pixel opposite through the centre sees the detector reversed: half of the pixels, twice the columns.
    table = np.stack([folded, folded[:, ::-1]], axis=2).reshape(views // 4, bins, 8 * batch)
    angles = view_angles(views)[: views // 4].astype(np.float32)
    parts = [angles[first : first + _VIEWS_PER_GATHER] for first in range(0, len(angles), _VIEWS_PER_GATHER)]
    starts = np.cumsum([0, *map(len, parts)])
    gathers = [
        _Gather(table[start : start + len(part)].reshape(-1, 8 * batch), device)
        for start, part in zip(starts, parts, strict=False)
    ]
    axis = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    y, x = (each.ravel() for each in np.broadcast_arrays(axis[: size // 2, None], axis[None]))
    total = np.zeros((len(x), 8 * batch), np.float32)

    def some(number: int) -> None:
        chosen = slice(number * _PIXELS_PER_GATHER, (number + 1) * _PIXELS_PER_GATHER)
        for part, gather in zip(parts, gathers, strict=True):
            position = np.outer(x[chosen], np.cos(part)) + np.outer(y[chosen], np.sin(part))
            index, weight = _interpolation(position + np.float32((bins - 1) / 2))
            index += (np.arange(len(part), dtype=np.int32) * bins)[None, :, None]
            total[chosen] += gather(index, weight)

    over_slices(some, -(-len(x) // _PIXELS_PER_GATHER))
    halves = total.reshape(size // 2, size, 2, 4, batch)
    upper, lower = halves[:, :, 0], halves[::-1, ::-1, 1]
    return _unfold(np.concatenate([upper, lower]).transpose(2, 3, 0, 1)) * np.float32(math.pi / views)


def filter_views(sinogram: np.ndarray, choice: str | float | Kernel = "hann") -> np.ndarray:
    """Ramp-filter projections, times the gain of a reconstruction kernel.

    The ramp is the band-limited one of Kak and Slaney (1988, eq. 3.29), so that the mean is right.

    Parameters
    ----------
    sinogram : numpy.ndarray
        (..., bins) float32.
    choice : str, float or Kernel
        See `kernel`.
    """
    from scipy import fft

    bins = sinogram.shape[-1]
    length = 2 ** math.ceil(math.log2(2 * bins))
    distance = np.minimum(np.arange(length), length - np.arange(length))
    odd = distance % 2 == 1
    ramp = np.zeros(length)
    ramp[0] = 0.25
    ramp[odd] = -1.0 / (np.pi * distance[odd]) ** 2
    response = np.fft.rfft(ramp).real * kernel(choice).at(np.linspace(0.0, 1.0, length // 2 + 1))
    spectrum = fft.rfft(sinogram, length) * response.astype(np.float32)
    return fft.irfft(spectrum, length)[..., :bins]


def _interpolation(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper neighbour (last axis) of each position, and their weights."""
    lower = np.floor(position)
    index = np.empty((*position.shape, 2), np.int32)
    weight = np.empty((*position.shape, 2), np.float32)
    index[..., 0] = lower
    index[..., 1] = index[..., 0] + 1
    weight[..., 1] = position - lower
    weight[..., 0] = 1 - weight[..., 1]
    return index, weight


class _Gather:
    """Weighted sums of rows of a table: one sum per first index of `index` and `weight`."""

    def __init__(self, table: np.ndarray, device: str):
        self._table = np.ascontiguousarray(table)
        self._device = device
        if device != "cpu":
            import torch

            self._there = torch.from_numpy(self._table).to(device)

    def __call__(self, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
        count, each = len(index), index[0].size
        if self._device == "cpu":
            from scipy import sparse

            ends = np.arange(0, count * each + 1, each, dtype=np.int32)
            shape = count, len(self._table)
            return sparse.csr_matrix((weight.ravel(), index.ravel(), ends), shape) @ self._table
        import torch

        rows, weights = (torch.from_numpy(array.reshape(count, each)).to(self._device) for array in (index, weight))
        bag = torch.nn.functional.embedding_bag
        return bag(rows, self._there, per_sample_weights=weights, mode="sum").cpu().numpy()


def _fold(images: np.ndarray) -> np.ndarray:
    """(batch, n, n) -> (4, batch, n, n): the image as the four views of a group see it."""
    turned = images.transpose(0, 2, 1)
    return np.stack([images, turned, turned[:, ::-1], images[:, :, ::-1]])


def _unfold(folded: np.ndarray) -> np.ndarray:
    """(4, batch, n, n) -> (batch, n, n): the sum of the four, each turned back."""
    same, turned, rotated, reversed_ = folded
    return same + reversed_[:, :, ::-1] + (turned + rotated[:, ::-1]).transpose(0, 2, 1)


def _fold_views(sinogram: np.ndarray) -> np.ndarray:
    """(batch, views, bins) -> (views / 4, bins, 4, batch)."""
    first, second, third, fourth = np.split(sinogram, 4, axis=1)
    return np.stack([first, second[:, ::-1], third, fourth[:, ::-1]]).transpose(2, 3, 0, 1)


def _unfold_views(folded: np.ndarray) -> np.ndarray:
    """(views / 4, bins, 4, batch) -> (batch, views, bins), angles ascending."""
    first, second, third, fourth = folded.transpose(2, 3, 0, 1)
    return np.concatenate([first, second[:, ::-1], third, fourth[:, ::-1]], axis=1)
