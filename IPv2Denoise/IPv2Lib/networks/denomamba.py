"""DenoMamba: a U-Net of state-space models, one along the pixels and one along the channels.

Öztürk et al., "DenoMamba: A Fused State-Space Model for Low-Dose CT Denoising", IEEE J. Biomed. Health Inform. 2025
(arXiv 2409.13094), on Mamba (Gu & Dao, arXiv 2312.00752). As published: four scales by pixel unshuffling, skips that
are concatenated; a block joins a spatial model, which scans the pixels in reading order, a channel model followed
by a gated convolution, and its own input by convolutions. The authors' configuration has 48 channels, (4, 6, 6, 8)
blocks and 2 for refinement, 16 states per channel, convolutions of 4 before the scan; the defaults are smaller, for
CPUs.

What differs: the scan is written in plain PyTorch, so that it runs anywhere. The channel model is not determined by
the paper: here the channels are the sequence, mean and spread of each choose its step and its input and output
vectors, and all pixels share them, so that the scan is a matrix of channels × channels (the dual form of Dao & Gu,
arXiv 2405.21060). `unshuffle` scans blocks of pixels instead of pixels. The last layer starts at zero.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from .blocks import ChannelNorm, check_counts, pad_to_multiple, zeroed


class DenoMamba(nn.Module):
    """State-space U-Net.

    Parameters
    ----------
    width : int
        Channels at the finest scale, even, doubled at each coarser one; published 48.
    blocks : sequence of int
        Blocks at each scale, finest first, on the way down and again on the way up; published (4, 6, 6, 8).
    refinement : int
        Blocks at the finest scale at the end; published 2.
    states : int
        Numbers that the spatial model remembers for each channel; published 16.
    unshuffle : int
        Side of the pixel blocks that become channels before the first convolution; published 1, none.

    Notes
    -----
    `forward` takes (batch, 1, rows, columns) and returns the same shape, both HU / 1000. A scan reaches from the
    first pixel to the last: tiles give another result than whole slices, though one that is just as valid.

    Examples
    --------
    >>> DenoMamba(width=4, blocks=(1, 1), refinement=0, states=2)(torch.zeros(2, 1, 7, 30)).shape
    torch.Size([2, 1, 7, 30])
    """

    context = 1
    halo = 96

    def __init__(
        self,
        width: int = 16,
        blocks: tuple[int, ...] = (1, 1, 2, 2),
        refinement: int = 1,
        states: int = 8,
        unshuffle: int = 2,
    ):
        super().__init__()
        check_counts(width=width, scales=len(blocks), states=states, unshuffle=unshuffle, blocks=min(blocks))
        if width % 2 or refinement < 0:
            raise ValueError(f"width is {width} and refinement {refinement}; width must be even, refinement at least 0")
        self.unshuffle = unshuffle
        self.multiple = unshuffle * 2 ** (len(blocks) - 1)
        widths = [width * 2**scale for scale in range(len(blocks))]

        def stage(channels: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(_FuseSSM(channels, states) for _ in range(count)))

        self.head = nn.Conv2d(unshuffle**2, width, 3, padding=1, bias=False)
        self.down = nn.ModuleList(stage(c, n) for c, n in zip(widths[:-1], blocks[:-1], strict=True))
        self.shrink = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2)) for c in widths[:-1]
        )
        self.bottom = stage(widths[-1], blocks[-1])
        self.grow = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, 2 * c, 3, padding=1, bias=False), nn.PixelShuffle(2)) for c in widths[1:]
        )
        # The finest scale keeps both halves of what is concatenated there.
        self.join = nn.ModuleList(
            nn.Conv2d(2 * c, c, 1, bias=False) if scale else nn.Identity() for scale, c in enumerate(widths[:-1])
        )
        self.up = nn.ModuleList(
            stage(c if scale else 2 * c, n) for scale, (c, n) in enumerate(zip(widths[:-1], blocks[:-1], strict=True))
        )
        last = 2 * width if len(widths) > 1 else width
        self.refine = stage(last, refinement)
        self.tail = zeroed(nn.Conv2d(last, unshuffle**2, 3, padding=1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = x.shape[-2:]
        y = self.head(functional.pixel_unshuffle(pad_to_multiple(x, self.multiple), self.unshuffle))
        skips = []
        for stage, shrink in zip(self.down, self.shrink, strict=True):
            y = stage(y)
            skips.append(y)
            y = shrink(y)
        y = self.bottom(y)
        for stage, grow, join in zip(reversed(self.up), reversed(self.grow), reversed(self.join), strict=True):
            y = stage(join(torch.cat([grow(y), skips.pop()], 1)))
        residual = functional.pixel_shuffle(self.tail(self.refine(y)), self.unshuffle)
        return x + residual[..., :rows, :columns]


def selective_scan(
    u: torch.Tensor, step: torch.Tensor, decay: torch.Tensor, b: torch.Tensor, c: torch.Tensor
) -> torch.Tensor:
    """The recurrence of Mamba, h(t) = exp(step(t)·decay)·h(t-1) + step(t)·b(t)·u(t), y(t) = c(t)·h(t), h = 0 before.

    Pieces of the sequence, about as many as each is long, go through the recurrence side by side; then each gets what
    the pieces before it have left. No more than a few states per piece exist at once, unless gradients are asked for.

    Parameters
    ----------
    u, step : Tensor, shape (batch, channels, length)
        Input, and how much time passes at each element, positive.
    decay : Tensor, shape (channels, states)
        Negative.
    b, c : Tensor, shape (batch, states, length)
        How the input enters the state, and how the output reads it.

    Returns
    -------
    Tensor, shape (batch, channels, length)
        In float32.
    """
    batch, channels, length = u.shape
    piece = max(1, math.isqrt(length))
    pieces = -(-length // piece)

    def cut(x: torch.Tensor) -> torch.Tensor:
        """(batch, ., length) to (piece, batch, pieces, .); elements added at the end pass no time."""
        x = functional.pad(x.float(), (0, pieces * piece - length))
        return x.unflatten(2, (pieces, piece)).permute(3, 0, 2, 1).contiguous()

    u, step, b, c = cut(u), cut(step), cut(b), cut(c)
    decay = decay.float()
    entering = (step * u)[..., None]
    state = u.new_zeros(batch, pieces, channels, decay.shape[1])
    outputs = []
    for t in range(piece):
        state = torch.exp(step[t, ..., None] * decay) * state + entering[t] * b[t, :, :, None]
        outputs.append((state @ c[t, ..., None])[..., 0])

    passed = step.cumsum(0)
    whole = torch.exp(passed[-1][..., None] * decay)
    starts = [torch.zeros_like(state[:, 0])]
    for k in range(pieces - 1):
        starts.append(whole[:, k] * starts[-1] + state[:, k])
    before = torch.stack(starts, 1)
    for t in range(piece):
        left = torch.exp(passed[t, ..., None] * decay) * before
        outputs[t] = outputs[t] + (left @ c[t, ..., None])[..., 0]
    return torch.stack(outputs).permute(1, 3, 2, 0).flatten(2)[..., :length]


class _FuseSSM(nn.Module):
    def __init__(self, channels: int, states: int):
        super().__init__()
        self.spatial = nn.Sequential(ChannelNorm(channels), SpatialSSM(channels, states))
        self.channel = nn.Sequential(ChannelNorm(channels), ChannelSSM(channels, states), ChannelNorm(channels))
        self.gate = _GatedConvolution(channels)
        self.skip = nn.Conv2d(3 * channels, channels, 1, bias=False)
        self.fuse = nn.Sequential(
            nn.Conv2d(3 * channels, channels, 3, padding=1, bias=False),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        every = torch.cat([self.spatial(x), self.gate(self.channel(x)), x], 1)
        return self.skip(every) + self.fuse(every)


class SpatialSSM(nn.Module):
    """Mamba along the pixels of `(batch, channels, rows, columns)` in reading order."""

    def __init__(self, channels: int, states: int):
        super().__init__()
        inner = 2 * channels
        self.rank = -(-channels // 16)
        self.states = states
        self.enter = nn.Linear(channels, 2 * inner, bias=False)
        self.convolve = nn.Conv1d(inner, inner, 4, padding=3, groups=inner)
        self.select = nn.Linear(inner, self.rank + 2 * states, bias=False)
        self.step = nn.Linear(self.rank, inner)
        self.log_decay = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(inner, 1))
        self.through = nn.Parameter(torch.ones(inner))
        self.leave = nn.Linear(inner, channels, bias=False)
        _start_steps(self.step)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = x.shape[-2:]
        u, gate = self.enter(x.flatten(2).transpose(1, 2)).transpose(1, 2).chunk(2, 1)
        u = functional.silu(self.convolve(u)[..., : rows * columns])
        low, b, c = self.select(u.transpose(1, 2)).split([self.rank, self.states, self.states], 2)
        step = functional.softplus(self.step(low)).transpose(1, 2)
        arguments = (u, step, -self.log_decay.exp(), b.transpose(1, 2), c.transpose(1, 2))
        if torch.is_grad_enabled():
            # The states of all pixels would fill the memory until the gradients are computed: they are made again.
            y = checkpoint(selective_scan, *arguments, use_reentrant=False)
        else:
            y = selective_scan(*arguments)
        y = (y.to(u.dtype) + self.through[:, None] * u) * functional.silu(gate)
        return self.leave(y.transpose(1, 2)).transpose(1, 2).unflatten(2, (rows, columns))


class ChannelSSM(nn.Module):
    """A state-space model along the channels of `(batch, channels, rows, columns)`, the same for all pixels."""

    def __init__(self, channels: int, states: int):
        super().__init__()
        self.states = states
        self.select = nn.Linear(2, 1 + 2 * states)
        self.place = nn.Parameter(torch.randn(channels, 1 + 2 * states) / states**0.5)
        self.log_decay = nn.Parameter(torch.arange(1.0, states + 1).log())
        self.through = nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        matrix = self.matrix(x).to(x.dtype)
        return torch.einsum("bij,bjrc->birc", matrix, x) + self.through[:, None, None] * x

    def matrix(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, channels): what the scan adds of each channel to those behind it."""
        step, b, c = self.selected(x)
        time = step.cumsum(1)
        apart = time[:, :, None] - time[:, None, :]
        decay = torch.exp(-self.log_decay.exp() * apart.clamp(min=0)[..., None])
        return (torch.einsum("bin,bjn,bijn->bij", c, b, decay) * step[:, None, :]).tril()

    def selected(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Step (batch, channels), and input and output vectors (batch, channels, states)."""
        seen = torch.stack([x.mean((2, 3)), x.float().var((2, 3), unbiased=False).add(1e-6).sqrt().to(x.dtype)], 2)
        step, b, c = (self.select(seen) + self.place).split([1, self.states, self.states], 2)
        return functional.softplus(step[..., 0]), b, c


class _GatedConvolution(nn.Module):
    def __init__(self, channels: int, expansion: float = 2.66):
        super().__init__()
        hidden = int(channels * expansion)
        self.enter = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.convolve = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.leave = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, values = self.convolve(self.enter(x)).chunk(2, 1)
        return self.leave(functional.gelu(gate) * values)


def _start_steps(step: nn.Linear) -> None:
    """Steps from 0.001 to 0.1 for a start, evenly in their logarithm, as published for Mamba."""
    first = torch.exp(torch.empty(step.out_features).uniform_(math.log(1e-3), math.log(0.1)))
    with torch.no_grad():
        step.weight.uniform_(-(step.in_features**-0.5), step.in_features**-0.5)
        step.bias.copy_(first + torch.log(-torch.expm1(-first)))  # softplus turns it back
