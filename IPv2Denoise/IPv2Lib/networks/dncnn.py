"""DnCNN, the plain residual CNN that most denoisers are compared with.

Zhang et al., "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising", IEEE Trans. Image
Process. 26(7), 2017. As published (DnCNN-S): 17 convolutions of 3×3 with 64 filters, batch normalisation and ReLU
in between, the noise as output. One thing differs: the last layer starts at zero, so that an untrained network
returns its input.
"""

from __future__ import annotations

import torch
from torch import nn

from .blocks import check_counts, zeroed


class DnCNN(nn.Module):
    """Residual CNN; sees `depth` pixels to every side.

    Parameters
    ----------
    filters : int
        Filters of each layer but the last; the paper has 64.
    depth : int
        Convolutions, at least 2; the paper has 17 for one known noise level, 20 for any.

    Notes
    -----
    `forward` takes (batch, 1, rows, columns) and returns the same shape, both HU / 1000. While it trains, the slices
    of a batch are normalised together; in evaluation mode each is denoised by itself.

    Examples
    --------
    >>> DnCNN(filters=4, depth=3)(torch.zeros(2, 1, 7, 30)).shape
    torch.Size([2, 1, 7, 30])
    """

    context = 1
    multiple = 1

    def __init__(self, filters: int = 64, depth: int = 17):
        super().__init__()
        check_counts(filters=filters, depth=depth - 1)
        self.halo = depth
        layers: list[nn.Module] = [nn.Conv2d(1, filters, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            # Batch normalisation subtracts the mean, and with it any bias.
            layers += [nn.Conv2d(filters, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]
        self.layers = nn.Sequential(*layers, zeroed(nn.Conv2d(filters, 1, 3, padding=1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.layers(x)
