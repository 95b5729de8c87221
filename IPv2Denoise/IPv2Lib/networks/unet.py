"""`unet`: a compact residual U-Net on pixel-unshuffled slices, without biases.

Without biases a network scales with its input (Mohan et al., ICLR 2020): trained on some noise levels, it
follows the others. The blocks are those of DRUNet (Zhang et al., IEEE TPAMI 44(10), 2022).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .blocks import UShaped, pad_to_multiple


class UNet(UShaped):
    """Denoise the centre of `context` neighbouring slices.

    Parameters
    ----------
    context : int
        Neighbouring slices that go in, odd.
    channels : sequence of int
        Width at each resolution, finest first; each next one has half as many pixels per side.
    blocks : sequence of int
        Residual blocks at each resolution, on the way down and again on the way up.
    unshuffle : int
        Side of the pixel blocks that become channels before the first convolution.

    Notes
    -----
    `forward` takes (batch, context, rows, columns) and returns (batch, 1, rows, columns), both HU / 1000.
    """

    def __init__(
        self,
        context: int = 3,
        channels: tuple[int, ...] = (32, 64, 128, 128),
        blocks: tuple[int, ...] = (1, 2, 2, 2),
        unshuffle: int = 2,
    ):
        super().__init__()
        self.context = context
        self.unshuffle = unshuffle
        self.multiple = unshuffle * 2 ** (len(channels) - 1)
        self.head = _conv(context * unshuffle**2, channels[0])
        self.make_levels(channels, blocks, _blocks, bias=False)
        self.tail = _conv(channels[0], unshuffle**2)
        nn.init.zeros_(self.tail.weight)  # an untrained network returns its input

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = x.shape[-2:]
        centre = x[:, self.context // 2, None]
        x = self.head(functional.pixel_unshuffle(pad_to_multiple(x, self.multiple), self.unshuffle))
        residual = functional.pixel_shuffle(self.tail(self.through_levels(x)), self.unshuffle)
        return centre + residual[..., :rows, :columns].to(centre.dtype)


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = _conv(channels, channels)
        nn.init.normal_(self.second.weight, std=0.1 * (2.0 / (9 * channels)) ** 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(functional.relu(self.first(x)))


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Residual(channels) for _ in range(count)))


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
