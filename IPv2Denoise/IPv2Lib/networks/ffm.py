"""FFM, frequency-domain flow matching: the noisy slice flows to the clean one along a learned velocity.

Gong et al., "A Denoising Framework for Real-World Ultra-Low-Dose Lung CT Images Based on an Image Purification
Strategy", arXiv 2510.07492. As published: the straight path x(t) = (1 - t)·input + t·target (Liu et al., ICLR
2023), a network that is trained for its velocity, target - input, and explicit Euler steps from the input at t = 0
to the result at t = 1, 50 of them; a U-Net of 64·(1, 2, 4, 8) channels with group norm and SiLU that knows t, whose
blocks split the channels into a high branch (1×1, depthwise 3×3, GELU) and a low branch (pooling, 3×3, norm, GELU,
upsampling), beside a Fourier branch (1×1 networks on magnitude and phase).

The paper gives no more than that: how many blocks there are and how they are joined is ours, chosen so that the
published size (39.5 M parameters, 893 GFLOP for one evaluation of 512²) is met. What differs: the phase enters as
cosine and sine, which have no jump at ±π; the Fourier transform is orthonormal, so that noise looks alike in patches
and in whole slices; the last layer starts at zero. `unshuffle` and few channels make the compact variant, whose few
steps a CPU can do.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .blocks import check_counts, pad_to_multiple, zeroed

MOST_STEPS = 50
GROUPS = 8
PUBLISHED = {"width": 64, "multipliers": (1, 2, 4, 8), "blocks": 3, "unshuffle": 1, "steps": 50}
"""Arguments of the published size."""


class FFM(nn.Module):
    """Flow matching with a time-conditioned U-Net.

    Parameters
    ----------
    width : int
        Channels at the finest scale, a multiple of 16; published 64.
    multipliers : sequence of int
        Channels at each scale, finest first, in units of `width`.
    blocks : int
        Blocks at each scale, on the way down and again on the way up; at the coarsest one twice as many less one.
        3 in the published size.
    unshuffle : int
        Side of the pixel blocks that become channels before the first convolution; 1 in the published size.
    steps : int
        Euler steps from the input to the result, 1 to 50; can be set later, too. Each costs one evaluation.

    Notes
    -----
    `forward` takes (batch, 1, rows, columns) and returns the same shape, both HU / 1000. Through the Fourier branch
    and the group norm every pixel sees the whole slice: tiles give another result than whole slices, though one that
    is just as valid.

    Examples
    --------
    >>> FFM(width=16, multipliers=(1, 2))(torch.zeros(2, 1, 7, 30)).shape
    torch.Size([2, 1, 7, 30])
    """

    context = 1
    halo = 96

    def __init__(
        self,
        width: int = 32,
        multipliers: tuple[int, ...] = (1, 2, 4, 4),
        blocks: int = 2,
        unshuffle: int = 2,
        steps: int = 4,
    ):
        super().__init__()
        check_counts(width=width, blocks=blocks, unshuffle=unshuffle, scales=len(multipliers))
        if width % (2 * GROUPS):
            raise ValueError(f"width is {width}; it must be a multiple of {2 * GROUPS}")
        self.steps = steps
        self.unshuffle = unshuffle
        self.multiple = unshuffle * 2 ** len(multipliers)  # the low branch halves the coarsest scale once more
        widths = [width * multiplier for multiplier in multipliers]

        def stage(inputs: int, outputs: int, count: int = blocks) -> nn.ModuleList:
            return nn.ModuleList(_Block(outputs if i else inputs, outputs, 4 * width) for i in range(count))

        self.time = _Time(width, 4 * width)
        self.head = nn.Conv2d(unshuffle**2, width, 3, padding=1)
        self.down = nn.ModuleList(stage(channels, channels) for channels in widths[:-1])
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.bottom = stage(widths[-1], widths[-1], 2 * blocks - 1)
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(stage(2 * channels, channels) for channels in widths[:-1])
        self.tail = nn.Sequential(
            nn.GroupNorm(GROUPS, width), nn.SiLU(), zeroed(nn.Conv2d(width, unshuffle**2, 3, padding=1))
        )

    @property
    def steps(self) -> int:
        """Euler steps from the input to the result; a number that is not from 1 to 50 is refused (`ValueError`)."""
        return self._steps

    @steps.setter
    def steps(self, steps: int) -> None:
        if not 1 <= steps <= MOST_STEPS:
            raise ValueError(f"steps is {steps}; it must be from 1 to {MOST_STEPS}")
        self._steps = int(steps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step in range(self.steps):
            x = x + self.velocity(x, x.new_full(x.shape[:1], step / self.steps)) / self.steps
        return x

    def training_error(self, x: torch.Tensor, target: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        """Error of the velocity on the straight path from `x` to `target`, whose mean square training minimises.

        Parameters
        ----------
        x, target : Tensor, shape (batch, 1, rows, columns)
            Noisy and clean, HU / 1000.
        uniform : Tensor, shape (batch,)
            Times in [0, 1), chosen by the caller.

        Returns
        -------
        Tensor, shape (batch, 1, rows, columns)
        """
        t = uniform.to(x)[:, None, None, None]
        return self.velocity((1 - t) * x + t * target, uniform.to(x)) - (target - x)

    def velocity(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """What the network predicts at the point `x` of the path and `time` (batch,), HU / 1000 per unit of time."""
        rows, columns = x.shape[-2:]
        time = self.time(time)
        y = self.head(functional.pixel_unshuffle(pad_to_multiple(x, self.multiple), self.unshuffle))
        skips = []
        stage: Any
        for stage, shrink in zip(self.down, self.shrink, strict=True):
            for block in stage:
                y = block(y, time)
            skips.append(y)
            y = shrink(y)
        for block in self.bottom:
            y = block(y, time)
        for stage, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            y = torch.cat([grow(functional.interpolate(y, scale_factor=2.0)), skips.pop()], 1)
            for block in stage:
                y = block(y, time)
        return functional.pixel_shuffle(self.tail(y), self.unshuffle)[..., :rows, :columns]


class _Time(nn.Module):
    """Sines and cosines of the time (Vaswani et al., 2017) through two layers."""

    _frequencies: torch.Tensor

    def __init__(self, width: int, outputs: int):
        super().__init__()
        frequencies = 1000.0 * torch.exp(torch.arange(width // 2) * (-math.log(10000.0) / (width // 2 - 1)))
        self.register_buffer("_frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(nn.Linear(width, outputs), nn.SiLU(), nn.Linear(outputs, outputs), nn.SiLU())

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        angles = time[:, None] * self._frequencies
        return self.layers(torch.cat([angles.sin(), angles.cos()], 1))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, time: int):
        super().__init__()
        self.enter = nn.Sequential(nn.GroupNorm(GROUPS, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.time = nn.Linear(time, outputs)
        self.norm = nn.Sequential(nn.GroupNorm(GROUPS, outputs), nn.SiLU())
        half = outputs // 2
        self.high = nn.Sequential(nn.Conv2d(half, half, 1), nn.Conv2d(half, half, 3, padding=1, groups=half), nn.GELU())
        self.low = nn.Sequential(
            nn.AvgPool2d(2),
            nn.Conv2d(half, half, 3, padding=1),
            nn.GroupNorm(GROUPS // 2, half),
            nn.GELU(),
            nn.Upsample(scale_factor=2),
        )
        self.fourier = _Fourier(outputs)
        self.leave = nn.Conv2d(outputs, outputs, 1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.enter(x) + self.time(time)[:, :, None, None])
        high, low = y.chunk(2, 1)
        return self.skip(x) + self.leave(torch.cat([self.high(high), self.low(low)], 1) + self.fourier(y))


class _Fourier(nn.Module):
    """1×1 networks on the magnitude and on the phase of the spectrum of each channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.magnitude = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.GELU(), nn.Conv2d(channels, channels, 1))
        self.phase = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1), nn.GELU(), nn.Conv2d(channels, 2 * channels, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Half precision has no general Fourier transform.
        with torch.autocast(x.device.type, enabled=False):
            spectrum = torch.fft.rfft2(x.float(), norm="ortho")
            magnitude = spectrum.abs()
            # Where there is nothing there is no direction either; a smooth end keeps rounding from choosing one.
            scale = magnitude + 1e-3
            direction = torch.cat([spectrum.real / scale, spectrum.imag / scale], 1)
            magnitude = magnitude + self.magnitude(magnitude)
            cosine, sine = (direction + self.phase(direction)).chunk(2, 1)
            y = torch.fft.irfft2(torch.complex(magnitude * cosine, magnitude * sine), s=x.shape[-2:], norm="ortho")
        return y.to(x.dtype)
