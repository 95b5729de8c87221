"""SCUNet: a U-Net whose blocks are half Swin transformer, half residual convolution.

Zhang et al., "Practical Blind Image Denoising via Swin-Conv-UNet and Data Synthesis", Machine Intelligence Research
20(6), 2023 (arXiv 2203.13278). As published: four scales, strided 2×2 convolutions between them, skips that are
added; in a block a 1×1 convolution, half of the channels through attention in windows of 8×8 with relative
positions, every second time shifted by half a window (Liu et al., ICCV 2021), the other half through two 3×3
convolutions, and a 1×1 convolution over both. The paper has 64 channels, 4 blocks per scale and heads of 32 channels
(17.9 M parameters); the defaults are smaller, for CPUs.

What differs: the output is added to the input, and the last layer starts at zero; the drop-path rate, 0 in the
published networks, is left out.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .blocks import ChannelNorm, check_counts, pad_to_multiple, zeroed

SCALES = 4


class SCUNet(nn.Module):
    """Swin-Conv-UNet.

    Parameters
    ----------
    width : int
        Channels at the finest scale, doubled at each coarser one; published 64.
    blocks : int
        Blocks at each scale, on the way down and again on the way up; published 4.
    head : int
        Channels of an attention head, a divisor of `width / 2`; published 32.
    window : int
        Side of the attention windows in pixels of their scale, even; published 8.

    Notes
    -----
    `forward` takes (batch, 1, rows, columns) and returns the same shape, both HU / 1000. With up to 2 blocks nothing
    comes from beyond `halo`, two windows of the coarsest scale; with more, hardly anything.

    Examples
    --------
    >>> SCUNet(width=8, blocks=1, head=4)(torch.zeros(2, 1, 7, 30)).shape
    torch.Size([2, 1, 7, 30])
    """

    context = 1

    def __init__(self, width: int = 32, blocks: int = 2, head: int = 16, window: int = 8):
        super().__init__()
        check_counts(width=width, blocks=blocks, head=head, window=window)
        if width % (2 * head) or window % 2:
            raise ValueError(f"head {head} must divide half of width {width}, and window {window} must be even")
        self.multiple = window * 2 ** (SCALES - 1)
        self.halo = 2 * self.multiple
        widths = [width * 2**scale for scale in range(SCALES)]

        def stage(channels: int) -> nn.Sequential:
            return nn.Sequential(*(_SwinConv(channels, head, window, shifted=i % 2 == 1) for i in range(blocks)))

        self.head = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.down = nn.ModuleList(stage(channels) for channels in widths[:-1])
        self.shrink = nn.ModuleList(nn.Conv2d(c, 2 * c, 2, stride=2, bias=False) for c in widths[:-1])
        self.bottom = stage(widths[-1])
        self.grow = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, stride=2, bias=False) for c in widths[:-1])
        self.up = nn.ModuleList(stage(channels) for channels in widths[:-1])
        self.tail = zeroed(nn.Conv2d(width, 1, 3, padding=1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = x.shape[-2:]
        y = self.head(pad_to_multiple(x, self.multiple))
        skips = [y]
        for stage, shrink in zip(self.down, self.shrink, strict=True):
            y = shrink(stage(y))
            skips.append(y)
        y = self.bottom(y)
        for stage, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            y = stage(grow(y + skips.pop()))
        return x + self.tail(y + skips.pop())[..., :rows, :columns]


class _SwinConv(nn.Module):
    def __init__(self, channels: int, head: int, window: int, shifted: bool):
        super().__init__()
        half = channels // 2
        self.enter = nn.Conv2d(channels, channels, 1)
        self.attend = _SwinBlock(half, head, window, shifted)
        self.convolve = nn.Sequential(
            nn.Conv2d(half, half, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(half, half, 3, padding=1, bias=False)
        )
        self.leave = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        local, distant = self.enter(x).chunk(2, 1)
        return x + self.leave(torch.cat([local + self.convolve(local), self.attend(distant)], 1))


class _SwinBlock(nn.Module):
    def __init__(self, channels: int, head: int, window: int, shifted: bool):
        super().__init__()
        self.attention = nn.Sequential(ChannelNorm(channels), WindowAttention(channels, head, window, shifted))
        self.mlp = nn.Sequential(
            ChannelNorm(channels), nn.Conv2d(channels, 4 * channels, 1), nn.GELU(), nn.Conv2d(4 * channels, channels, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(x)
        return x + self.mlp(x)


class WindowAttention(nn.Module):
    """Attention among the pixels of each `window` × `window` block of `(batch, channels, rows, columns)`.

    Shifted, the blocks begin half a window earlier, and those at the border hold only pixels that are neighbours.
    """

    _apart: torch.Tensor

    def __init__(self, channels: int, head: int, window: int, shifted: bool):
        super().__init__()
        self.heads = channels // head
        self.window = window
        self.shift = window // 2 if shifted else 0
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.position = nn.Parameter(0.02 * torch.randn(self.heads, (2 * window - 1) ** 2))
        self.project = nn.Conv2d(channels, channels, 1)
        place = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        apart = place[:, :, None] - place[:, None, :] + window - 1
        self.register_buffer("_apart", apart[0] * (2 * window - 1) + apart[1], persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = x.shape[-2:]
        # (batch · windows, heads, pixels, channels of a head)
        query, key, value = self._windows(self._roll(self.qkv(x), -self.shift)).chunk(3, 1)
        bias = self.position[:, self._apart]
        if self.shift:
            apart = self._strangers(rows, columns, x.device)
            bias = bias + torch.zeros(apart.shape, device=x.device).masked_fill(apart, -torch.inf)[:, None]
            bias = bias.repeat(len(x), 1, 1, 1)
        y = functional.scaled_dot_product_attention(query, key, value, bias.to(query.dtype))
        return self.project(self._roll(self._whole(y, rows, columns), self.shift))

    def _roll(self, x: torch.Tensor, shift: int) -> torch.Tensor:
        return x.roll((shift, shift), (-2, -1)) if shift else x

    def _windows(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, parts · channels, rows, columns) to (batch · windows, parts · heads, pixels, channels of a head)."""
        batch, channels, rows, columns = x.shape
        side, heads = self.window, self.heads * (channels // self.project.in_channels)
        x = x.reshape(batch, heads, -1, rows // side, side, columns // side, side)
        return x.permute(0, 3, 5, 1, 4, 6, 2).reshape(-1, heads, side * side, channels // heads)

    def _whole(self, y: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """What `_windows` made, put together again."""
        side = self.window
        y = y.reshape(-1, rows // side, columns // side, self.heads, side, side, y.shape[-1])
        return y.permute(0, 3, 6, 1, 4, 2, 5).reshape(len(y), -1, rows, columns)

    def _strangers(self, rows: int, columns: int, device: torch.device) -> torch.Tensor:
        """(windows, pixels, pixels): true for pairs that only rolling the slice brought into one window."""
        wrapped = [torch.arange(n, device=device) >= n - self.shift for n in (rows, columns)]
        label = (2 * wrapped[0][:, None] + 1 * wrapped[1]).reshape(
            rows // self.window, self.window, columns // self.window, self.window
        )
        label = label.permute(0, 2, 1, 3).reshape(-1, self.window**2)
        return label[:, :, None] != label[:, None, :]
