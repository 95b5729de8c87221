"""RED-CNN, the usual reference among low-dose CT networks: accurate, and slow.

Chen et al., "Low-Dose CT with a Residual Encoder-Decoder Convolutional Neural Network", IEEE Trans. Med.
Imaging 36(12), 2017. As published: five convolutions and five transposed convolutions of 5×5 without padding,
ReLU, three shortcuts. One thing differs: no ReLU after the last shortcut, as HU are negative in lung and air.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

SMALLEST = 21
"""Five unpadded 5×5 convolutions leave one pixel of this many."""


class REDCNN(nn.Module):
    """Residual encoder-decoder of ten 5×5 layers; sees 20 pixels to every side.

    Parameters
    ----------
    filters : int
        Filters of each layer but the last; the paper has 96.

    Examples
    --------
    >>> REDCNN(filters=4)(torch.zeros(2, 1, 7, 30)).shape
    torch.Size([2, 1, 7, 30])
    """

    context = 1
    multiple = 1
    halo = 20

    def __init__(self, filters: int = 96):
        super().__init__()
        if filters < 1:
            raise ValueError(f"filters is {filters}; it must be at least 1")
        self.encoder = nn.ModuleList(nn.Conv2d(filters if i else 1, filters, 5) for i in range(5))
        self.decoder = nn.ModuleList(nn.ConvTranspose2d(filters, filters if i < 4 else 1, 5) for i in range(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Denoise `(batch, 1, rows, columns)`, HU / 1000; the result has the same shape and unit."""
        rows, columns = x.shape[-2:]
        # The bottom and right borders are repeated where a slice is smaller than the encoder.
        x = F.pad(x, (0, max(0, SMALLEST - columns), 0, max(0, SMALLEST - rows)), mode="replicate")
        shortcuts = [x]
        y = x
        for index, layer in enumerate(self.encoder):
            y = F.relu(layer(y))
            if index in (1, 3):
                shortcuts.append(y)
        for index, layer in enumerate(self.decoder):
            y = layer(y)
            if index in (0, 2, 4):
                y = y + shortcuts.pop()
            if index < 4:
                y = F.relu(y)
        return y[..., :rows, :columns]
