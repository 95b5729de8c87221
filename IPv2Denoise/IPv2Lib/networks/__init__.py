"""The denoising networks by name; one file per network, imported only when it is built.

A network is a `torch.nn.Module` that maps `(batch, context, rows, columns)` to `(batch, 1, rows, columns)`: the
denoised centre slice of `context` neighbouring ones. Both are HU / 1000, any size from 2×2 up. Attributes:

- `context`: slices that it reads, odd;
- `multiple` (1 if absent): side of the blocks in which it sees pixels, so where a tile may start;
- `halo`: pixels around a tile that matter for it (96 if absent).

Weights on disk belong to `bundle`, inference to `denoise`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    import torch

HU_PER_UNIT = 1000.0
"""HU per unit of what a network reads and returns."""

_CLASSES = {
    "redcnn": ("redcnn", "REDCNN"),
    "unet": ("unet", "UNet"),
}


def names() -> tuple[str, ...]:
    """Names that `build` knows, sorted.

    Examples
    --------
    >>> names()
    ('redcnn', 'unet')
    """
    return tuple(sorted(_CLASSES))


def build(name: str, **arguments) -> torch.nn.Module:
    """A network with freshly initialised weights.

    Parameters
    ----------
    name : str
        One of `names()`.
    **arguments
        Keyword arguments of the network's class.

    Raises
    ------
    InputError
        For an unknown name, or arguments that the network does not take.
    """
    if name not in _CLASSES:
        raise InputError(f"unknown network {name!r}: choose one of {', '.join(names())}")
    module_name, class_name = _CLASSES[name]
    network_class = getattr(importlib.import_module(f".{module_name}", __name__), class_name)
    try:
        return network_class(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"network {name!r} cannot be built with {arguments}: {error}") from error
