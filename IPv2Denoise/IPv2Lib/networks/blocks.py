"""What several networks are built of; what only one of them needs stays in its own file."""

from __future__ import annotations

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
