"""Emphysema: the share of lung that is darker than -950 HU."""

from __future__ import annotations

import numpy as np

LIMIT_HU = -950.0


def share(volume: np.ndarray, lung: np.ndarray) -> float:
    """Part of the voxels of a mask below `LIMIT_HU`; NaN for an empty mask."""
    values = volume[lung]
    return float((values < LIMIT_HU).mean()) if len(values) else float("nan")
