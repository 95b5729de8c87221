"""How slices go through a network: how many at once, whole or in tiles, in one view or eight; and when memory runs out.

What computes the network is `engines`' matter.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..errors import IPv2Error
from ..models.bundle import Bundle
from ..progress import Progress
from .engines import open_engine
from .options import SMALLEST_TILE

WHOLE_PIXELS = 1024 * 1024
"""Slices of more pixels are cut into tiles from the start on a CPU, which has no way to say that memory ran out."""

TILE = 256
"""Pixels per side, first choice."""

VIEWS = tuple((flipped, turns) for flipped in (False, True) for turns in range(4))
"""The views of test-time augmentation: flipped or not, and after how many quarter turns."""

_CANCELLED = "denoising was cancelled"


@dataclass(frozen=True)
class Plan:
    """How slices go through the network: `batch` slices in a run, in tiles of `tile` pixels or whole, `parallel` runs
    side by side.
    """

    device: str
    batch: int
    tile: int | None = None
    parallel: int = 1

    def smaller(self) -> Plan | None:
        """What to try when memory ran out: single runs, half the batch, then tiles, then the CPU; None at the end.

        Examples
        --------
        >>> Plan("cuda", 4).smaller()
        Plan(device='cuda', batch=2, tile=None, parallel=1)
        >>> Plan("cuda", 1, tile=64).smaller()
        Plan(device='cpu', batch=1, tile=None, parallel=1)
        """
        if self.parallel > 1:
            return replace(self, parallel=1)
        if self.batch > 1:
            return replace(self, batch=self.batch // 2)
        if self.tile is None or self.tile > SMALLEST_TILE:
            return replace(self, tile=TILE if self.tile is None else max(SMALLEST_TILE, self.tile // 2))
        return None if self.device == "cpu" else Plan("cpu", 1)

    def __str__(self) -> str:
        pieces = "whole slices" if self.tile is None else f"tiles of {self.tile}×{self.tile} pixels"
        return f"{self.device}, {pieces}, {self.batch * self.parallel} at once"


def first_plan(device: str, shape: tuple[int, int]) -> Plan:
    """Depends on the machine and the size of the slices only, not on what else runs, so that results repeat."""
    pixels = shape[0] * shape[1]
    tile = 512 if pixels > WHOLE_PIXELS else None
    if not device.startswith("cuda"):
        # Slices in a batch are no faster than one after the other; what an engine can do side by side, it says.
        return Plan(device, 1, tile)
    import torch

    gigabytes = torch.cuda.get_device_properties(device).total_memory / 2**30
    return Plan(device, int(min(16, max(1, gigabytes * 512 * 512 / pixels))), tile)


class Runner:
    """A model on a device; goes to smaller pieces, and in the end to the CPU, when memory runs out.

    `run` may be called from several threads: as many go on at once as the engine takes.

    Attributes
    ----------
    plan : Plan
    engine : Engine
    seconds : float
        In which the network ran.
    """

    def __init__(
        self, bundle: Bundle, engine: str, plan: Plan, slices: int, test_time_augmentation: bool, progress: Progress
    ):
        self.test_time_augmentation = test_time_augmentation
        self.progress = progress
        self.fraction = 0.0
        self.seconds = 0.0
        self._bundle = bundle
        self._engine_name = engine
        self._calls = -(-slices // plan.batch)
        self._shrinking = threading.Lock()
        self._clock = threading.Lock()
        self._running, self._since = 0, 0.0
        self._failure: Exception | None = None
        self._open(plan)

    def run(self, stack: np.ndarray) -> np.ndarray:
        """Apply the network to (batch, context, rows, columns); returns (batch, rows, columns), float32."""
        result = np.empty((len(stack), *stack.shape[2:]), np.float32)
        done = 0
        while done < len(stack):
            plan = self.plan
            part = stack[done : done + plan.batch]
            try:
                with self._slots, self._timed():
                    self._run_batch(part, result[done : done + len(part)], plan.tile)
                done += len(part)
            except MemoryError:
                self._shrink(plan, stack.shape[2:])
        if not np.isfinite(result).all():
            raise IPv2Error(
                f"the model returned values that are not finite on {self.plan.device}: "
                "choose device 'cpu' or another model"
            )
        return result

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        """Count the seconds in which at least one call runs; none runs any more where one has failed for good."""
        with self._clock:
            if self._failure:
                raise self._failure
            if not self._running:
                self._since = time.perf_counter()
            self._running += 1
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:
            self._failure = error
            raise
        finally:
            with self._clock:
                self._running -= 1
                if not self._running:
                    self.seconds += time.perf_counter() - self._since

    def _run_batch(self, batch: np.ndarray, result: np.ndarray, tile: int | None) -> None:
        for rows, columns, inner_rows, inner_columns in self._tiles(batch.shape[2:], tile):
            answer = self._answer(batch[..., rows, columns])
            from_row, from_column = inner_rows.start - rows.start, inner_columns.start - columns.start
            result[:, inner_rows, inner_columns] = answer[
                :,
                from_row : from_row + inner_rows.stop - inner_rows.start,
                from_column : from_column + inner_columns.stop - inner_columns.start,
            ]

    def _answer(self, slices: np.ndarray) -> np.ndarray:
        """What the network makes of (batch, context, rows, columns): (batch, rows, columns)."""
        if not self.test_time_augmentation:
            self.progress.check(_CANCELLED)
            return self.engine.run(slices)
        rows, columns = slices.shape[2:]
        # Padded before it is turned, a tile is seen in the blocks of pixels in which the whole slice is.
        missing = [(0, -side % self.engine.multiple) for side in (rows, columns)]
        slices = np.pad(slices, [(0, 0), (0, 0), *missing], mode="edge")
        total = np.zeros((len(slices), *slices.shape[2:]), np.float32)
        for flipped, turns in VIEWS:
            self.progress.check(_CANCELLED)
            answer = self.engine.run(np.rot90(slices[..., ::-1] if flipped else slices, turns, (-2, -1)))
            answer = np.rot90(answer, -turns, (-2, -1))
            total += answer[..., ::-1] if flipped else answer
        return total[:, :rows, :columns] / len(VIEWS)

    def _tiles(self, shape: tuple[int, int], side: int | None) -> Iterator[tuple[slice, slice, slice, slice]]:
        """Rows and columns to read, then rows and columns to keep, of tiles with `side` pixels per side.

        Both start at multiples of the network's own grid, where pooling and unshuffling see the pixels of a tile
        as they see those of a whole slice.
        """
        if side is None:
            whole = (slice(0, shape[0]), slice(0, shape[1]))
            yield (*whole, *whole)
            return
        multiple = self.engine.multiple
        tile = -(-side // multiple) * multiple
        halo = -(-self.engine.halo // multiple) * multiple

        def cuts(length: int) -> list[tuple[slice, slice]]:
            return [
                (
                    slice(max(0, start - halo), min(length, start + tile + halo)),
                    slice(start, min(length, start + tile)),
                )
                for start in range(0, length, tile)
            ]

        for rows, inner_rows in cuts(shape[0]):
            for columns, inner_columns in cuts(shape[1]):
                yield rows, columns, inner_rows, inner_columns

    def _shrink(self, tried: Plan, shape: tuple[int, int]) -> None:
        with self._shrinking:
            if self.plan is not tried:
                return  # another thread has gone on to smaller pieces meanwhile
            smaller = tried.smaller()
            if smaller is None:
                raise IPv2Error(
                    f"not enough memory for slices of {shape[0]}×{shape[1]} pixels, even in tiles of "
                    f"{tried.tile} pixels on the CPU: close other programs"
                )
            self.progress.report(self.fraction, f"not enough memory ({tried}); going on with {smaller}")
            if smaller.device == tried.device:
                self._follow(smaller)
            else:
                self._open(smaller)

    def _open(self, plan: Plan) -> None:
        """Open the engine on the device of a plan."""
        try:
            self.engine = open_engine(self._bundle, self._engine_name, plan.device, self._calls)
        except MemoryError:
            if plan.device == "cpu":
                raise
            self.progress.report(self.fraction, f"not enough memory on {plan.device} for the network; using the CPU")
            self._open(Plan("cpu", 1))
        else:
            self._follow(replace(plan, parallel=self.engine.parallel))

    def _follow(self, plan: Plan) -> None:
        self.plan, self._slots = plan, threading.Semaphore(plan.parallel)
