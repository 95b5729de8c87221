"""Parallel-beam projection and filtered back-projection of square images, in plain torch.

Owns the geometry and the filters; knows nothing of HU, dose or noise (see `dose`). Lengths are in pixels.

The work is folded: the view angles come in groups of four (θ, π/2 - θ, π/2 + θ, π - θ) that differ only by a
flip or a transposition of the image, so that one table of interpolation indices serves four views, and all
slices of a batch. The sums themselves run in `torch.nn.functional.embedding_bag`, a weighted gather that torch
vectorises on every CPU and GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    import torch

_VIEWS_PER_GATHER = 16  # views summed by one gather: its table stays in the cache
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


def project(images: torch.Tensor, views: int) -> torch.Tensor:
    """Line integrals through images (Joseph's method: linear interpolation across the ray).

    Parameters
    ----------
    images : torch.Tensor
        (batch, size, size) float; zero outside.
    views : int
        Number of view angles, a multiple of 4; see `view_angles`.

    Returns
    -------
    torch.Tensor
        (batch, views, detector_bins(size)), in image units times pixels.

    References
    ----------
    Joseph, IEEE Trans. Med. Imaging 1(3), 1982.
    """
    import torch

    batch, size, _ = images.shape
    bins = detector_bins(size)
    # Zero columns on both sides catch the rays that leave the image.
    padded = torch.nn.functional.pad(_fold(images), (1, 2))
    width = size + 3
    table = padded.permute(2, 3, 0, 1).reshape(size * width, 4 * batch).contiguous()
    device = images.device
    rows = torch.arange(size, device=device, dtype=torch.float32)
    detector = torch.arange(bins, device=device, dtype=torch.float32) - (bins - 1) / 2
    out = images.new_empty((views // 4, bins, 4, batch))
    centre = (size - 1) / 2
    for j, angle in enumerate(view_angles(views)[: views // 4].tolist()):
        x = (detector[:, None] - (rows - centre)[None] * math.sin(angle)) / math.cos(angle) + (centre + 1.0)
        index, weight = _interpolation(x.clamp_(0.0, size + 1.0))
        index += (rows.to(torch.int32) * width)[None, :, None]
        out[j] = _gather(index, table, weight).view(bins, 4, batch) / math.cos(angle)
    return _unfold_views(out)


def back_project(sinogram: torch.Tensor, size: int) -> torch.Tensor:
    """Sum over views of the projections at each pixel, times π / views (linear interpolation).

    Parameters
    ----------
    sinogram : torch.Tensor
        (batch, views, detector_bins(size)), views a multiple of 4, filtered (`filter_views`).
    size : int
        Rows and columns of the images, even.

    Returns
    -------
    torch.Tensor
        (batch, size, size).
    """
    import torch

    batch, views, bins = sinogram.shape
    folded = _fold_views(sinogram)
    # The pixel opposite through the centre sees the detector reversed: half of the pixels, twice the columns.
    table = torch.stack([folded, folded.flip(1)], dim=2).reshape(views // 4, bins, 8 * batch)
    device = sinogram.device
    axis = torch.arange(size, device=device, dtype=torch.float32) - (size - 1) / 2
    y, x = axis[: size // 2, None], axis[None]
    total = sinogram.new_zeros((size * size // 2, 8 * batch))
    angles = torch.tensor(view_angles(views)[: views // 4], dtype=torch.float32, device=device)
    for first in range(0, views // 4, _VIEWS_PER_GATHER):
        part = angles[first : first + _VIEWS_PER_GATHER]
        position = x[..., None] * part.cos() + y[..., None] * part.sin() + (bins - 1) / 2
        index, weight = _interpolation(position.view(-1, len(part)))
        index += (torch.arange(len(part), device=device, dtype=torch.int32) * bins)[None, :, None]
        total += _gather(index, table[first : first + len(part)].reshape(-1, 8 * batch), weight)
    halves = total.view(size // 2, size, 2, 4, batch)
    upper, lower = halves[:, :, 0], halves[:, :, 1].flip(0, 1)
    return _unfold(torch.cat([upper, lower]).permute(2, 3, 0, 1)) * (math.pi / views)


def filter_views(sinogram: torch.Tensor, choice: str | float | Kernel = "hann") -> torch.Tensor:
    """Ramp-filter projections, times the gain of a reconstruction kernel.

    The ramp is the band-limited one of Kak and Slaney (1988, eq. 3.29), so that the mean is right.

    Parameters
    ----------
    sinogram : torch.Tensor
        (..., bins).
    choice : str, float or Kernel
        See `kernel`.
    """
    import torch

    bins = sinogram.shape[-1]
    length = 2 ** math.ceil(math.log2(2 * bins))
    distance = np.minimum(np.arange(length), length - np.arange(length))
    odd = distance % 2 == 1
    ramp = np.zeros(length)
    ramp[0] = 0.25
    ramp[odd] = -1.0 / (np.pi * distance[odd]) ** 2
    response = np.fft.rfft(ramp).real * kernel(choice).at(np.linspace(0.0, 1.0, length // 2 + 1))
    response = torch.as_tensor(response, dtype=sinogram.dtype, device=sinogram.device)
    return torch.fft.irfft(torch.fft.rfft(sinogram, length) * response, length)[..., :bins]


def _interpolation(position: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Lower and upper neighbour (last axis) of each position, and their weights."""
    import torch

    lower = position.floor()
    index = lower.new_empty((*lower.shape, 2), dtype=torch.int32)
    weight = lower.new_empty((*lower.shape, 2))
    index[..., 0] = lower
    torch.add(index[..., 0], 1, out=index[..., 1])
    torch.sub(position, lower, out=weight[..., 1])
    torch.sub(1.0, weight[..., 1], out=weight[..., 0])
    return index, weight


def _gather(index: torch.Tensor, table: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted sums of rows of `table`: one sum per first index of `index`."""
    import torch

    return torch.nn.functional.embedding_bag(index.flatten(1), table, per_sample_weights=weight.flatten(1), mode="sum")


def _fold(images: torch.Tensor) -> torch.Tensor:
    """(batch, n, n) -> (4, batch, n, n): the image as the four views of a group see it."""
    import torch

    turned = images.transpose(1, 2)
    return torch.stack([images, turned, turned.flip(1), images.flip(2)])


def _unfold(folded: torch.Tensor) -> torch.Tensor:
    """(4, batch, n, n) -> (batch, n, n): the sum of the four, each turned back."""
    same, turned, rotated, reversed_ = folded
    return same + reversed_.flip(2) + (turned + rotated.flip(1)).transpose(1, 2)


def _fold_views(sinogram: torch.Tensor) -> torch.Tensor:
    """(batch, views, bins) -> (views / 4, bins, 4, batch)."""
    import torch

    first, second, third, fourth = sinogram.chunk(4, dim=1)
    return torch.stack([first, second.flip(1), third, fourth.flip(1)]).permute(2, 3, 0, 1)


def _unfold_views(folded: torch.Tensor) -> torch.Tensor:
    """(views / 4, bins, 4, batch) -> (batch, views, bins), angles ascending."""
    import torch

    first, second, third, fourth = folded.permute(2, 3, 0, 1)
    return torch.cat([first, second.flip(1), third, fourth.flip(1)], dim=1)
