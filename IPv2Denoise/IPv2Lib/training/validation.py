"""How good a network has become while it trains: its error in a few windows of the validation cases.

Owns the choice of the windows and what they are compared with. Small on purpose, so that it costs little; scoring for a
paper is `comparison`'s work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis.region_labels import Region
from ..datasets.shards import OUTSIDE, Shard
from ..hounsfield import AIR_HU
from ..networks.registry import HU_PER_UNIT

if TYPE_CHECKING:
    import torch

WINDOWS = 4
"""Windows at most, spread over the cases."""

WINDOW_PIXELS, SLICE_PIXELS = 256, 384
"""Largest side of a window that is measured, and of the slice that is shown."""


@dataclass(frozen=True)
class Score:
    """Errors over all windows.

    Attributes
    ----------
    rmse_hu, rmse_lung_hu : float
        In the body and in the lungs; NaN where there are none.
    reference : "ground_truth" or "label"
        What the errors are to: the scan before its dose was lowered if every validation case has it, else the test
        label of IPv2.
    """

    rmse_hu: float
    rmse_lung_hu: float
    reference: str


class Validation:
    """Windows of validation cases, the same ones every time.

    Parameters
    ----------
    shards : sequence of Shard
        At least one.
    context : int
        Neighbouring slices that the network reads.
    """

    def __init__(self, shards: Sequence[Shard], context: int):
        self._context = context
        self._reference = "ground_truth" if all(shard.has("ground_truth") for shard in shards) else "label"
        places = _spread(shards)
        self._windows = [_around_body(shard, k, WINDOW_PIXELS) for shard, k in places]
        self._shown = _around_body(*places[0], SLICE_PIXELS)

    def score(self, network: torch.nn.Module) -> Score:
        """Errors of a network in evaluation mode, on whatever device it is."""
        body, lung = _Squares(), _Squares()
        for window in self._windows:
            shard, where = window.shard, window.centre
            ground_truth = shard.ground_truth if self._reference == "ground_truth" else None
            label = shard.test_label(where) if ground_truth is None else ground_truth[where]
            error = _denoised(network, window, self._context) - label
            regions = np.asarray(shard.regions[where])
            inside = np.asarray(shard.masks[where]) & OUTSIDE == 0
            body.add(error[inside & (regions > Region.BACKGROUND)])
            lung.add(error[inside & (regions == Region.LUNG)])
        return Score(body.root_mean, lung.root_mean, self._reference)

    def picture(self, network: torch.nn.Module) -> dict[str, Any]:
        """Input, output and test label of one slice, see `run_folder.validation_slice`."""
        window = self._shown
        return {
            "input": window.input(1)[0],
            "output": _denoised(network, window, self._context),
            "label": window.shard.test_label(window.centre),
            "spacing": np.array(window.shard.spacing[:2]),
            "case": window.shard.case,
        }


@dataclass(frozen=True)
class _Window:
    shard: Shard
    k: int
    rows: slice
    columns: slice

    @property
    def centre(self) -> tuple[int, slice, slice]:
        return self.k, self.rows, self.columns

    def input(self, context: int) -> np.ndarray:
        """What the network is given, as when it denoises: (context, rows, columns), float32 HU."""
        reach, last = context // 2, self.shard.shape[0] - 1
        neighbours = np.clip(np.arange(self.k - reach, self.k + reach + 1), 0, last)
        where = (neighbours, self.rows, self.columns)
        scan = self.shard.scan(where)
        scan[np.asarray(self.shard.masks[where]) & OUTSIDE != 0] = AIR_HU
        return scan


class _Squares:
    def __init__(self):
        self._sum, self._count = 0.0, 0

    def add(self, error: np.ndarray) -> None:
        self._sum += float(np.sum(np.square(error, dtype=np.float64)))
        self._count += error.size

    @property
    def root_mean(self) -> float:
        return math.sqrt(self._sum / self._count) if self._count else math.nan


def _spread(shards: Sequence[Shard]) -> list[tuple[Shard, int]]:
    """Slices of as many cases as possible; several ones of a case are evenly spaced."""
    chosen = [shards[index] for index in np.unique(np.linspace(0, len(shards) - 1, WINDOWS).round().astype(int))]
    places = []
    for number, shard in enumerate(chosen):
        count = min(len(range(number, WINDOWS, len(chosen))), shard.shape[0])
        places += [(shard, int((index + 0.5) * shard.shape[0] / count)) for index in range(count)]
    return places


def _around_body(shard: Shard, k: int, size: int) -> _Window:
    """The window of a slice that has the middle of the body in its own, as far as the slice goes."""
    body = np.asarray(shard.regions[k]) > Region.BACKGROUND
    sides = []
    for axis, length in enumerate(body.shape):
        found = np.flatnonzero(body.any(axis=1 - axis))
        middle = (found[0] + found[-1] + 1) // 2 if len(found) else length // 2
        start = int(np.clip(middle - size // 2, 0, max(0, length - size)))
        sides.append(slice(start, min(start + size, length)))
    return _Window(shard, k, *sides)


def _denoised(network: torch.nn.Module, window: _Window, context: int) -> np.ndarray:
    """(rows, columns), float32 HU."""
    import torch

    device = next(network.parameters()).device
    x = torch.from_numpy(window.input(context) / HU_PER_UNIT)[None].to(device)
    with torch.inference_mode():
        return network(x)[0, 0].float().cpu().numpy() * HU_PER_UNIT
