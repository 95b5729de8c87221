"""How strong the noise is that a network was given while it learned: what its model can be trusted with.

Measured as `suitability` measures the noise of a scan, so that both can be compared. Needs numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..analysis.noise import noise_sigma
from ..analysis.region_labels import Region
from ..datasets.shards import OUTSIDE, Shard

MOST_SHARDS, SLICES = 64, 3
"""So many shards and slices of each at most, evenly spaced: enough for the ends of a range, in a few seconds."""


def input_noise(shards: Sequence[Shard], strategy: str, blend: float | None = None) -> list[int] | None:
    """Lowest and highest σ of the noise in soft tissue of training inputs.

    Parameters
    ----------
    shards : sequence of Shard
    strategy, blend
        As for `Shard.pair`.

    Returns
    -------
    list of int or None
        Whole HU, the lowest rounded down, the highest up, so that they differ; None where nothing could be measured.
    """
    chosen = [shards[index] for index in _spread(len(shards), MOST_SHARDS)]
    found = [sigma for shard in chosen if (sigma := _sigma(shard, strategy, blend)) > 0]
    return [math.floor(min(found)), math.floor(max(found)) + 1] if found else None


def _sigma(shard: Shard, strategy: str, blend: float | None) -> float:
    slices = _spread(shard.shape[0], SLICES)
    image, _ = shard.pair(slices, strategy, blend)
    tissue = np.asarray(shard.regions[slices]) == Region.SOFT_TISSUE
    return noise_sigma(image, tissue & (np.asarray(shard.masks[slices]) & OUTSIDE == 0))


def _spread(count: int, most: int) -> list[int]:
    most = min(count, most)
    return [int((index + 0.5) * count / most) for index in range(most)]
