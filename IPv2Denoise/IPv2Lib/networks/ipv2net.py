"""`ipv2net`: a U-Net of large-kernel blocks that sees noise at its own scale.

The slices are split into a smooth part and a fine part, and the fine part is divided by its own local strength, which
the network is told as well. So noise of 5 HU and of 500 HU look alike to it, and no precision is lost beside the
1000 HU between air and tissue: it learns in fewer steps than from plain HU (`Testing/benchmarks/models.md`). The
blocks are those of ConvNeXt (Liu et al., CVPR 2022), with ReLU, which is faster on a CPU.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .blocks import ChannelNorm, UShaped, check_counts, pad_to_multiple, zeroed

_SMOOTH = 9  # pixels; what is finer is noise and edges
_COARSE, _AROUND = 8, 5  # the local strength: means over 8 by 8 pixels, then over 5 by 5 of those
_LEAST = 0.002  # 2 HU; weaker noise is not made stronger
_USUAL = 0.05  # 50 HU, whose logarithm the network sees as 0


class IPv2Net(UShaped):
    """Denoise the centre of `context` neighbouring slices.

    Parameters
    ----------
    context : int
        Neighbouring slices that go in, odd.
    channels : sequence of int
        Width at each resolution, finest first (half of the slice's); each next one has half as many pixels per side.
    blocks : sequence of int
        Blocks at each resolution, on the way down and again on the way up.
    kernel : int
        Side of the filters that look around, odd.
    expansion : int
        Width inside a block, in units of the width outside.

    Notes
    -----
    `forward` takes (batch, context, rows, columns) and returns (batch, 1, rows, columns), both HU / 1000.
    """

    def __init__(
        self,
        context: int = 3,
        channels: tuple[int, ...] = (48, 80, 128, 192),
        blocks: tuple[int, ...] = (1, 2, 2, 2),
        kernel: int = 7,
        expansion: int = 3,
    ):
        super().__init__()
        for name, value in {"context": context, "kernel": kernel}.items():
            if value % 2 == 0:
                raise ValueError(f"{name} is {value}; it must be odd")
        check_counts(context=context, kernel=kernel, expansion=expansion)
        if len(blocks) != len(channels):
            raise ValueError(f"there are {len(channels)} channels and {len(blocks)} blocks; give one of each")
        self.context = context
        self.multiple = max(2 ** len(channels), _COARSE)
        self.halo = _COARSE * _AROUND + sum(
            2 ** (level + 1) * (kernel // 2) * count * (1 if level == len(channels) - 1 else 2)
            for level, count in enumerate(blocks)
        )

        def stage(width: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(_Block(width, kernel, expansion) for _ in range(count)))

        self.head = nn.Conv2d(4 * (2 * context + 1), channels[0], 3, padding=1)
        self.make_levels(channels, blocks, stage)
        self.normalise = ChannelNorm(channels[0])
        self.tail = zeroed(nn.Conv2d(channels[0], 4, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = x.shape[-2:]
        x = pad_to_multiple(x.float(), self.multiple)
        smooth, fine, strength = _parts(x, self.context // 2)
        seen = torch.cat([fine / strength, 2 * smooth, (strength / _USUAL).log()], 1)
        features = self.through_levels(self.head(functional.pixel_unshuffle(seen, 2)))
        change = functional.pixel_shuffle(self.tail(self.normalise(features)), 2).float()
        centre = x[:, self.context // 2, None]
        return (centre + strength * change)[..., :rows, :columns]


class _Block(nn.Module):
    def __init__(self, width: int, kernel: int, expansion: int):
        super().__init__()
        self.around = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.normalise = ChannelNorm(width)
        self.widen = nn.Conv2d(width, expansion * width, 1)
        self.narrow = zeroed(nn.Conv2d(expansion * width, width, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.narrow(functional.relu(self.widen(self.normalise(self.around(x)))))


def _parts(x: torch.Tensor, centre: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Smooth and fine part of slices, and the local strength of the fine part of one of them, (batch, 1, ...)."""
    reach = _SMOOTH // 2
    smooth = functional.pad(x, (reach,) * 4, mode="replicate")
    for window in ((_SMOOTH, 1), (1, _SMOOTH)):
        smooth = functional.avg_pool2d(smooth, window, 1)
    fine = x - smooth
    coarse = functional.avg_pool2d(fine[:, centre, None].abs(), _COARSE)
    around = functional.avg_pool2d(functional.pad(coarse, (_AROUND // 2,) * 4, mode="replicate"), _AROUND, 1)
    strength = functional.interpolate(around, x.shape[-2:], mode="bilinear", align_corners=False)
    return smooth, fine, strength + _LEAST
