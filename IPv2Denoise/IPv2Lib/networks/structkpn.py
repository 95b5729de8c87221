"""StructKPN: a network that predicts, for every pixel, the kernel that averages its neighbourhood.

Xu et al., "Low-Dose CT Denoising Using a Structure-Preserving Kernel Prediction Network", IEEE ICIP 2021
(arXiv 2105.14758). As published: an encoder of two 3×3 convolutions, residual blocks of grouped 3×3 convolutions,
and two 1×1 layers that end in a softmax over the kernel, whose weights are therefore positive and sum to one: the
result is a weighted mean of measured HU, and cannot leave their range. The authors' configuration has 88 filters,
24 blocks and 21×21 kernels (2.0 M parameters, a teraflop per slice); the defaults are smaller, for CPUs.

What differs: borders are repeated where the authors reflect them, so that any size goes in; the last layer starts
as a narrow Gaussian instead of at random; and the structure-aware loss of the paper, a mixture of L1, L2 and SSIM
by the local gradients of the target, is not the network's matter: it trains with the losses that all have.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional

from .blocks import check_counts

STRIP_PIXELS = 1 << 14
"""Kernels of so many pixels exist at once; of a whole slice they would need half a gigabyte."""


class StructKPN(nn.Module):
    """Predicts kernels and applies them; sees `2 + 2·blocks` pixels to every side, or half of the kernel.

    Parameters
    ----------
    filters : int
        Filters of each 3×3 convolution, even; published 88.
    blocks : int
        Residual blocks; published 24.
    kernel : int
        Side of the kernels in pixels, odd; published 21.

    Notes
    -----
    `forward` takes (batch, 1, rows, columns) and returns the same shape, both HU / 1000.

    Examples
    --------
    >>> StructKPN(filters=4, blocks=1, kernel=5)(torch.zeros(2, 1, 7, 30)).shape
    torch.Size([2, 1, 7, 30])
    """

    context = 1
    multiple = 1

    def __init__(self, filters: int = 48, blocks: int = 6, kernel: int = 11):
        super().__init__()
        check_counts(filters=filters, blocks=blocks, kernel=kernel)
        if filters % 2 or not kernel % 2:
            raise ValueError(f"filters is {filters} and kernel {kernel}; filters must be even and kernel odd")
        self.kernel = kernel
        self.halo = max(2 + 2 * blocks, kernel // 2)
        self.encoder = nn.Sequential(
            nn.Conv2d(1, filters, 3, padding=1), nn.ReLU(), nn.Conv2d(filters, filters, 3, padding=1)
        )
        self.features = nn.Sequential(*(_Residual(filters) for _ in range(blocks)))
        self.predictor = nn.Sequential(nn.Conv2d(filters, kernel**2, 1), nn.ReLU(), nn.Conv2d(kernel**2, kernel**2, 1))
        _start_narrow(cast(nn.Conv2d, self.predictor[-1]), kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        reach = self.kernel // 2
        rows, columns = x.shape[-2:]
        features = self.features(self.encoder(x))
        padded = functional.pad(x, (reach, reach, reach, reach), mode="replicate")
        height = max(1, STRIP_PIXELS // columns)
        strips = []
        for top in range(0, rows, height):
            weights = self.kernels(features[:, :, top : top + height])
            bottom = top + weights.shape[2]
            patches = functional.unfold(padded[:, :, top : bottom + 2 * reach], self.kernel)
            strips.append((weights * patches.view_as(weights)).sum(1, keepdim=True))
        return torch.cat(strips, 2)

    def kernels(self, features: torch.Tensor) -> torch.Tensor:
        """Weights `(batch, kernel², rows, columns)` for the neighbours of each pixel, positive, of sum 1."""
        return self.predictor(features).softmax(1)


class _Residual(nn.Module):
    def __init__(self, filters: int):
        super().__init__()
        self.first = nn.Conv2d(filters, filters, 3, padding=1, groups=2)
        self.second = nn.Conv2d(filters, filters, 3, padding=1, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(functional.relu(self.first(x)))


def _start_narrow(last: nn.Conv2d, kernel: int) -> None:
    """Let the kernels start as a Gaussian of half a pixel: equal weights would first have to unlearn a blur."""
    distance = torch.arange(kernel) - kernel // 2
    squared = (distance[:, None] ** 2 + distance**2).flatten()
    with torch.no_grad():
        last.weight.mul_(0.1)
        # A weight that starts far below the others gets no gradient, so that it would stay there.
        assert last.bias is not None
        last.bias.copy_((-2.0 * squared).clamp(min=-8.0))
