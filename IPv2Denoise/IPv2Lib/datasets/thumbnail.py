"""A small picture of a shard, to see at a glance whether purification did well.

Owns what is on it and how it is drawn. Pictures for people to read, with titles and keys, are in `pictures`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from ..hounsfield import window_8bit
from .shards import CM2, Shard

WINDOW_HU = (-1200.0, 400.0)
"""Shows lung and soft tissue."""

SIDE = 224
"""Pixels of the longer side of each of the four images."""

_GAP = 4
_OUTLINE = (0, 158, 255)


def write_thumbnail(shard: Shard, path: Path) -> None:
    """Draw uLDCT, NDCT, training input and test label of the middle slice, side by side, with the outline of CM2.

    Parameters
    ----------
    shard : Shard
    path : Path
        A name that ends in .png.

    Raises
    ------
    OSError
        It cannot be written.
    """
    from matplotlib.image import imsave

    imsave(path, draw(shard), format="png")


def draw(shard: Shard) -> np.ndarray:
    """The picture, uint8 (rows, columns, red green blue)."""
    middle = shard.shape[0] // 2
    training_input, _ = shard.pair(middle, "ipv2")
    panels = (shard.uldct[middle], shard.ndct[middle], training_input, shard.test_label(middle))
    x, y, _ = shard.spacing
    rows, columns = shard.shape[1:]
    scale = SIDE / max(rows * y, columns * x)
    shape = max(1, round(rows * y * scale)), max(1, round(columns * x * scale))
    mask = _resized((shard.masks[middle] & CM2 != 0).astype(np.float32), shape) > 0.5
    outline = mask & ~ndimage.binary_erosion(mask)
    sheet = np.full((shape[0], 4 * shape[1] + 3 * _GAP, 3), 255, np.uint8)
    for index, panel in enumerate(panels):
        grey = window_8bit(_resized(panel, shape), *WINDOW_HU)
        picture = grey[..., None].repeat(3, axis=2)
        picture[outline] = _OUTLINE
        left = index * (shape[1] + _GAP)
        sheet[:, left : left + shape[1]] = picture
    return sheet


def _resized(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Linear interpolation, after a filter that takes out what the new pixels cannot hold."""
    image = np.asarray(image, np.float32)
    factors = [old / new for old, new in zip(image.shape, shape, strict=True)]
    smooth = ndimage.gaussian_filter(image, [max(0.0, (factor - 1) / 3) for factor in factors])
    grid = [(np.arange(new) + 0.5) * factor - 0.5 for new, factor in zip(shape, factors, strict=True)]
    return ndimage.map_coordinates(smooth, np.meshgrid(*grid, indexing="ij"), order=1, mode="nearest")
