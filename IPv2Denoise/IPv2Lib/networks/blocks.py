"""What several networks are built of; what only one of them needs stays in its own file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional


def pad_to_multiple(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Repeat the bottom and right borders of `(batch, channels, rows, columns)` until `multiple` divides both sides.

    Examples
    --------
    >>> pad_to_multiple(torch.zeros(1, 1, 2, 9), 8).shape
    torch.Size([1, 1, 8, 16])
    """
    rows, columns = x.shape[-2:]
    return functional.pad(x, (0, -columns % multiple, 0, -rows % multiple), mode="replicate")


def check_counts(**counts: int) -> None:
    """Refuse arguments below 1 (`ValueError`).

    Examples
    --------
    >>> check_counts(width=8, blocks=0)
    Traceback (most recent call last):
    ...
    ValueError: blocks is 0; it must be at least 1
    """
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with weights and bias 0: after a last one like this an untrained residual network is the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel of `(batch, channels, rows, columns)`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class UShaped(nn.Module):
    """Stages at ever coarser resolutions and back to the finest one, where each adds what it had on the way down.

    A subclass calls `make_levels` between its first and last layers, and `through_levels` in `forward`.
    """

    def make_levels(
        self,
        channels: Sequence[int],
        blocks: Sequence[int],
        stage: Callable[[int, int], nn.Module],
        bias: bool = True,
    ) -> None:
        """Make the stages.

        Parameters
        ----------
        channels : sequence of int
            Width at each resolution, finest first; each next one has half as many pixels per side.
        blocks : sequence of int
            Blocks at each resolution, on the way down and again on the way up; the last of them at the coarsest one.
        stage : callable
            Makes a stage from its width and its number of blocks.
        bias : bool
            Of the convolutions between resolutions.
        """
        self.down = nn.ModuleList(stage(c, n) for c, n in zip(channels[:-1], blocks, strict=False))
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2, bias=bias) for a, b in pairwise(channels))
        self.bottom = stage(channels[-1], blocks[-1])
        self.grow = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2, bias=bias) for a, b in pairwise(channels))
        self.up = nn.ModuleList(stage(c, n) for c, n in zip(channels[:-1], blocks, strict=False))

    def through_levels(self, features: torch.Tensor) -> torch.Tensor:
        """`(batch, channels[0], rows, columns)` through all stages; both sides divisible by 2 per resolution."""
        skips = []
        for stage, shrink in zip(self.down, self.shrink, strict=True):
            features = stage(features)
            skips.append(features)
            features = shrink(features)
        features = self.bottom(features)
        for stage, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            features = stage(grow(features) + skips.pop())
        return features
