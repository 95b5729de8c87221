"""Batches of patches, from purified pairs or from blocks of slices, made by other processes ahead of time.

Owns the choice of patches, how they are turned, and which part of a batch each of several training processes makes.
Batch number `step` is the same whenever and wherever it is made, so a run can be resumed anywhere. A batch is an input
(patches, context, rows, columns) and a target (patches, 1, rows, columns), HU / 1000. What simulates blocks
(`on_the_fly`) is imported only where blocks are simulated.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import multiprocessing
import multiprocessing.util
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .. import __version__
from ..datasets.shards import Shard
from ..errors import InputError
from ..hounsfield import AIR_HU
from ..io.atomic import cleared_away
from ..networks.registry import HU_PER_UNIT
from ..parallel.local_workers import serve_owner, signals_held_back
from .distributed import Processes

if TYPE_CHECKING:
    import torch

    from ..io.volume import Volume
    from .on_the_fly import Block
    from .settings import TrainingSettings

    Batch = tuple[torch.Tensor, torch.Tensor]

_BODY_ABOVE_HU = -950.0
_LEAST_BODY, _SKIPPED = 0.1, 0.8  # of the patches with less body than this, so many are passed over
_CUT = 0.2  # of the patches are crossed by the edge of the field of view
_FIELD_RADIUS = (180.0, 320.0)  # pixels; it is round and as wide as the slice
_LONGEST_PLACE = 70  # bytes, of a folder for sockets: their paths have 32 more, and 103 at most
_SHORT_PLACES = ("/tmp", "/var/tmp")


@dataclass(frozen=True)
class ShardBatches:
    """Of purified pairs: item number `step` is that part of batch `step` that this process makes."""

    shards: list[Shard]
    settings: TrainingSettings
    context: int
    processes: Processes

    def __getitem__(self, step: int) -> Batch:
        weights = np.sqrt([math.prod(shard.shape) for shard in self.shards])
        weights /= weights.sum()
        patches = []
        for index in range(self.processes.rank, self.settings.batch, self.processes.world):
            rng = np.random.default_rng([self.settings.seed, 1, step, index])
            patches.append(self._patch(self.shards[rng.choice(len(self.shards), p=weights)], rng))
        return _batch(*zip(*patches, strict=True))

    def _patch(self, shard: Shard, rng: np.random.Generator) -> Batch:
        import torch

        settings, reach = self.settings, self.context // 2
        count = shard.shape[0]
        while True:
            k = int(rng.integers(count))
            window = _window(rng, shard.shape, settings.patch)
            place = (k, *window)
            if _is_worth_it(shard.ndct[place] > _BODY_ABOVE_HU, rng):
                break
        where = (_neighbours(rng, k, self.context, count), *window)
        swap = bool(rng.random() < 0.5)
        image, target = shard.pair(where, settings.strategy, settings.blend, swap)
        turned = np.ascontiguousarray(_turned(np.concatenate([image, target[reach, None]]), rng))
        return torch.from_numpy(turned[:-1]), torch.from_numpy(turned[-1:])


@dataclass(frozen=True)
class HeldBlock:
    """A block in the memory of the device that trains: patches are cut there, and only numbers travel.

    Attributes
    ----------
    images : Tensor, shape (2 or 3, slices, rows, columns)
        Input, target and, if it is wanted, antithetic input, HU.
    body : ndarray of bool, shape (slices, rows, columns)
        Where the target is no room air; in the computer's own memory, so that places are chosen without waiting for a
        GPU.
    """

    images: torch.Tensor
    body: np.ndarray


def hold(block: Block, device: str, antithetic: bool) -> HeldBlock:
    """Put a block where patches are cut from it; its antithetic input only if it is wanted."""
    import torch

    images = np.stack([block.input, block.target] + ([cast(np.ndarray, block.antithetic)] if antithetic else []))
    dtype = torch.float16 if images.dtype == np.float16 else torch.float32
    return HeldBlock(torch.from_numpy(images).to(device, dtype), np.ascontiguousarray(block.target > _BODY_ABOVE_HU))


def on_the_fly_batch(
    pool: Sequence[HeldBlock], context: int, settings: TrainingSettings, step: int, processes: Processes
) -> Batch:
    """The part of batch `step` that this process makes of the blocks in memory.

    With a variance weight, its second half is the first with the negative of its noise.
    """
    import torch

    blocks, planes, corners, fields = [], [], [], []
    for index in range(processes.rank, settings.batch, processes.world):
        rng = np.random.default_rng([settings.seed, 1, step, index])
        while True:
            block = pool[int(rng.integers(len(pool)))]
            count, *sides = block.body.shape
            k = int(rng.integers(count))
            window = _window(rng, block.body.shape, settings.patch)
            place = (k, *window)
            if _is_worth_it(block.body[place], rng):
                break
        # Which of the three images, and which of its slices, is each image of the patch.
        neighbours = _neighbours(rng, k, context, count)
        at = [*neighbours, count + k] + ([*(2 * count + neighbours)] if settings.variance_weight else [])
        first = (0, *window)
        turned = _turned(block.body[first], rng)
        # `body` has a byte per pixel, so bytes from its beginning, and between rows and columns, are pixels.
        corners.append((turned.ctypes.data - block.body.ctypes.data, *turned.strides))
        planes.append(np.multiply(at, math.prod(sides)))
        blocks.append(block)
        fields.append(_field_of_view(settings.patch, rng))
    patches = _cut(blocks, planes, corners, fields, settings.patch)
    inputs, targets = patches[:, :context], patches[:, context, None]
    if not settings.variance_weight:
        return inputs, targets
    return torch.cat([inputs, patches[:, context + 1 :]]), torch.cat([targets, targets])


@dataclass(frozen=True)
class Blocks:
    """Item number `index` is block number `index` of `on_the_fly.make_block`, or is read where it is kept."""

    volumes: list[Volume]
    targets: list[Volume]
    settings: TrainingSettings

    def __getitem__(self, index: int) -> Block:
        from .on_the_fly import load_block, save_block

        index %= self.settings.blocks or index + 1
        if self.settings.keep_blocks is None:
            return self._make(index, antithetic=self.settings.variance_weight > 0)
        path = Path(self.settings.keep_blocks) / f"{self._kind}-{index:06d}.npz"
        if not path.is_file():
            save_block(self._make(index, antithetic=True), path)
        return load_block(path)

    def _make(self, index: int, antithetic: bool) -> Block:
        from .on_the_fly import make_block

        settings = self.settings
        return make_block(
            self.volumes, index, settings.seed, settings.strategy, blend=settings.blend, ranges=settings.ranges,
            targets=self.targets, antithetic=antithetic,
        )  # fmt: skip

    @cached_property
    def _kind(self) -> str:
        """Digest of all that makes a block but its number, the version of this program included."""
        settings = self.settings
        makes = (__version__, settings.seed, settings.strategy, settings.blend, settings.ranges)
        found = hashlib.sha256(repr(makes).encode())
        for volume in (*self.volumes, *self.targets):
            found.update(repr((volume.array.shape, volume.array.dtype.str, volume.spacing)).encode())
            found.update(np.ascontiguousarray(volume.array).data)
        return found.hexdigest()[:12]


def items(dataset: ShardBatches | Blocks, first: int, workers: int, ready: int) -> Generator[Any, None, None]:
    """Items of a data set from number `first` on, in order, made by other processes ahead of time.

    Closing it ends those processes, whatever they do. They end also when this one does.

    Raises
    ------
    InputError
        There are workers, and no folder for temporary files whose path is short enough for their sockets.
    """
    import torch

    stop, say_stop = multiprocessing.Pipe(duplex=False)
    with stop, say_stop, _place_for_sockets() if workers and os.name == "posix" else nullcontext(()) as places:
        loader = torch.utils.data.DataLoader(
            cast("torch.utils.data.Dataset[Any]", dataset),
            batch_size=None,
            sampler=_From(first),
            num_workers=workers,
            prefetch_factor=ready if workers else None,
            worker_init_fn=partial(_begin_work, stop, places),
            multiprocessing_context="fork" if workers and os.name == "posix" else None,
        )
        if not workers:
            yield from loader
            return
        with signals_held_back():
            made = iter(loader)
        try:
            yield from made
        finally:
            say_stop.send(None)
            del made  # waits for them


def _window(rng: np.random.Generator, shape: tuple[int, ...], patch: int) -> tuple[slice, slice]:
    i, j = (int(rng.integers(length - patch + 1)) for length in shape[1:])
    return slice(i, i + patch), slice(j, j + patch)


def _is_worth_it(body: np.ndarray, rng: np.random.Generator) -> bool:
    """Whether a patch is used: of those that are mostly room air a few are enough."""
    return np.mean(body) >= _LEAST_BODY or rng.random() >= _SKIPPED


def _neighbours(rng: np.random.Generator, k: int, context: int, count: int) -> np.ndarray:
    """Slices around one, in either order; at the ends the last one again."""
    indices = np.clip(np.arange(k - context // 2, k + context // 2 + 1), 0, count - 1)
    return indices[::-1] if rng.random() < 0.5 else indices


def _turned(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A view of images that is turned and flipped at random."""
    images = np.rot90(images, int(rng.integers(4)), (-2, -1))
    return images[..., ::-1] if rng.random() < 0.5 else images


def _field_of_view(patch: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Radius and centre of a round field of view in pixels of a patch; of most patches it is the whole plane.

    Some are cut by the edge of one that is smaller than the body, as scans for the lungs have. Without these a network
    takes the silence outside for a lack of noise, and leaves the noise inside as it is.
    """
    if rng.random() >= _CUT:
        return math.inf, 0.0, 0.0
    radius, towards = rng.uniform(*_FIELD_RADIUS), rng.uniform(0, 2 * np.pi)
    row, column = (rng.uniform(0, patch) - radius * along(towards) for along in (np.sin, np.cos))
    return radius, row, column


def _cut(
    blocks: Sequence[HeldBlock],
    planes: Sequence[np.ndarray],
    corners: Sequence[tuple[int, ...]],
    fields: Sequence[tuple[float, float, float]],
    patch: int,
) -> torch.Tensor:
    """Patches of blocks where those lie, HU / 1000, (patches, images, patch, patch).

    For each patch: where in its block each image begins; where in an image its first pixel is, and how far the next row
    and column are; its field of view, outside of which is air.
    """
    import torch

    device = blocks[0].images.device
    side = torch.arange(patch, device=device)
    row, column = side[:, None], side
    first, down, across = _numbers(corners, device)
    pixels = _numbers(planes, device).transpose(0, 1) + (first + row * down + column * across)[:, None]
    patches = torch.stack([block.images.flatten()[where] for block, where in zip(blocks, pixels, strict=True)])
    radius, centre_row, centre_column = _numbers(fields, device)
    outside = torch.hypot(row - centre_row, column - centre_column) > radius
    return patches.float().masked_fill(outside[:, None], AIR_HU) / HU_PER_UNIT


def _numbers(rows: Sequence[Sequence[float]] | Sequence[np.ndarray], device: torch.device) -> torch.Tensor:
    """A few numbers of each patch on the device that trains, (numbers, patches, 1, 1), without waiting for a GPU."""
    import torch

    numbers = torch.from_numpy(np.ascontiguousarray(np.transpose(rows)))
    pinned = device.type == "cuda"
    if pinned:
        numbers = numbers.pin_memory()
    kind = torch.float32 if numbers.is_floating_point() else torch.int64
    return numbers.to(device, kind, non_blocking=pinned)[..., None, None]


def _batch(inputs: tuple[torch.Tensor, ...], targets: tuple[torch.Tensor, ...]) -> Batch:
    import torch

    return torch.stack(inputs).float() / HU_PER_UNIT, torch.stack(targets).float() / HU_PER_UNIT


@dataclass(frozen=True)
class _From:
    """Sampler: every whole number from `first` on."""

    first: int

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.first)


@contextmanager
def _place_for_sockets() -> Iterator[tuple[Path, ...]]:
    """The folder in which workers hand over their memory, and what is to be removed with it."""
    folder = _make_place_for_sockets()
    with ExitStack() as held:
        places = [folder]
        with suppress(OSError):  # on a full disk it stays, should this process be killed
            places.append(held.enter_context(cleared_away(folder)))
        yield tuple(places)


def _make_place_for_sockets() -> Path:
    """Make the folder, which Python removes when this process ends.

    Sockets have short paths. In a folder where theirs is too long, workers would fail to hand over anything, and this
    process would wait for ever.
    """
    usual = tempfile.gettempdir()
    places = [place for place in (usual, *_SHORT_PLACES) if len(os.fsencode(place)) <= _LONGEST_PLACE]
    for place in places:
        tempfile.tempdir = place
        try:
            return Path(multiprocessing.util.get_temp_dir())
        except OSError:
            continue
        finally:
            tempfile.tempdir = usual
    raise InputError(
        f"the folder for temporary files, {usual}, has a path of {len(os.fsencode(usual))} bytes, too long for the "
        f"sockets of workers: set TMPDIR to a folder with {_LONGEST_PLACE} at most, or use --workers 0"
    )


def _begin_work(stop: Connection, places: Sequence[Path], _worker: int) -> None:
    import torch

    def orphaned() -> None:
        for place in places:
            shutil.rmtree(place, ignore_errors=True)

    serve_owner(stop, orphaned)
    torch.set_num_threads(1)
