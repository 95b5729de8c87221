"""What a run trains on: the shards of a purified data set, or blocks of slices simulated on the fly from NDCTs.

Owns the checks of the data against the settings, and what `data.json` in the folder of a run says. Patches are chosen
in `batches`. Shards are read with numpy alone; volumes and what draws blocks need more.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..datasets.shards import OUTSIDE, SHARDS_FOLDER, PurifiedDataset, Shard, is_dataset, read_shard
from ..datasets.strategies import check_strategy
from ..errors import InputError
from ..hounsfield import AIR_HU
from ..io.file_names import within
from .batches import Blocks, ShardBatches, hold, items, on_the_fly_batch
from .distributed import Processes
from .noise import input_noise

if TYPE_CHECKING:
    import torch

    from ..io.volume import Volume
    from .settings import TrainingSettings

    Scans = Sequence[Volume | Path | str]
    Batch = tuple[torch.Tensor, torch.Tensor]

_SHARD_BATCHES, _BLOCKS = 4, 8  # that each worker has ready at most


def open_source(
    source: PurifiedDataset | Path | str | Scans,
    settings: TrainingSettings,
    targets: Scans | None = None,
    workers: int = 1,
) -> ShardSource | OnTheFlySource:
    """Find out what to train on, and check that the settings can be met with it.

    Parameters
    ----------
    source : PurifiedDataset or folder of one, NDCT, or sequence of NDCTs
    settings : TrainingSettings
    targets : sequence of Volume or path, optional
        For NDCTs, one for each, on the same grid: what is to be learned in its place.
    workers : int
        Processes that make batches or blocks while the network trains.

    Raises
    ------
    InputError
        There is nothing to train on, the strategy needs what the data do not have, the patch is larger than the images,
        or targets are not on the grids of their volumes.
    """
    if isinstance(source, (str, Path)):
        source = PurifiedDataset.read(source) if is_dataset(source) else [source]
    if not isinstance(source, PurifiedDataset):
        return _from_scans(source, targets, settings, workers)
    if targets is not None:
        raise InputError("targets belong to volumes, not to a data set: leave them out")
    train, validation = source.split("train"), source.split("validation")
    if not train:
        raise InputError(f"{source.folder} has no case in the split 'train': give one of its cases that split")
    opened = _from_shards(source.folder, train, validation, settings, workers)
    if (
        settings.pairs == "purified"
    ):  # of pairs simulated on the fly, nobody knows the ends of the range before the last block
        opened.described["noise_hu"] = input_noise(train, settings.strategy, settings.blend)
    return opened


def reopen_source(
    source: PurifiedDataset | Path | str | Scans | None,
    described: dict[str, Any],
    settings: TrainingSettings,
    targets: Scans | None = None,
    workers: int = 1,
) -> ShardSource | OnTheFlySource:
    """What a run trained on when it began.

    Parameters
    ----------
    source : as for `open_source`, or None
        Where it is now. None: where it was.
    described : dict
        `described` of the source that the run began with.
    settings, targets, workers
        As for `open_source`.

    Raises
    ------
    InputError
        It is not there any more, was not read from files, or is of the other kind than `source`.
    """
    if isinstance(source, (str, Path)):
        source = Path(source) if is_dataset(source) else [source]
    folder = source.folder if isinstance(source, PurifiedDataset) else source
    if "dataset" in described:
        if not (folder is None or isinstance(folder, Path)):
            raise InputError(f"the run trains on the data set {described['dataset']}: name that, or nothing")
        folder = folder or Path(described["dataset"])
        try:
            train, validation = (_read_shards(folder, described[split], split) for split in ("train", "validation"))
        except (KeyError, TypeError) as error:
            raise InputError(f"what the run trains on cannot be read ({error!r}): start a new run") from error
        return _from_shards(folder, train, validation, settings, workers)
    if isinstance(folder, Path):
        raise InputError(f"the run trains on volumes, not on the data set {folder}: name them, or start a new run")
    if source is None:
        if not described.get("volumes"):
            raise InputError("the run trained on volumes that were not read from files: give them again")
        source, targets = described["volumes"], described.get("targets")
    opened = _from_scans(cast("Scans", source), targets, settings, workers)
    _check_contents(described, opened.described)
    return opened


class ShardSource:
    """Patches of purified pairs.

    Attributes
    ----------
    described : dict
        For `data.json`.
    validation : list of Shard
    voxels : int
        In the images to train on.
    """

    def __init__(
        self,
        train: list[Shard],
        validation: list[Shard],
        described: dict[str, Any],
        settings: TrainingSettings,
        workers: int,
    ):
        for shard in train:
            if reason := shard.lacks(settings.strategy):
                raise InputError(reason)
        if settings.variance_weight:
            raise InputError(
                "the variance weight needs noise that can be turned round: train on pairs simulated on the fly"
            )
        _check_patch(settings.patch, {f"case {shard.case!r}": shard.shape for shard in train})
        self.described, self.validation = described, validation
        self.voxels = sum(math.prod(shard.shape) for shard in train)
        self._train, self._settings, self._workers = train, settings, workers

    def batches(
        self, context: int, step: int, processes: Processes, device: str = "cpu"
    ) -> Generator[Batch, None, None]:
        """From number `step` on, the part of each batch that belongs to this process; closing it ends the workers.

        `device` is the one that trains. What is made here has to be brought there.
        """
        dataset = ShardBatches(self._train, self._settings, context, processes)
        yield from items(dataset, step, self._workers, _SHARD_BATCHES)


class OnTheFlySource:
    """Patches of blocks that are simulated and purified while the network trains, see `on_the_fly.make_block`.

    Every process makes the same blocks, and patches of its own from them.

    Attributes
    ----------
    described, validation, voxels
        As for `ShardSource`.
    """

    def __init__(
        self,
        volumes: list[Volume],
        targets: list[Volume],
        validation: list[Shard],
        described: dict[str, Any],
        settings: TrainingSettings,
        workers: int,
    ):
        check_strategy(settings.strategy, settings.blend, on_the_fly=True)
        zoom = settings.ranges.zoom[1]
        shapes = {
            f"volume {number}, made {zoom:g} times coarser,": _zoomed(volume.array.shape, zoom)
            for number, volume in enumerate(volumes, 1)
        }
        _check_patch(settings.patch, shapes)
        self.described, self.validation = described, validation
        self.voxels = sum(volume.array.size for volume in volumes)
        self._volumes, self._targets, self._settings, self._workers = volumes, targets, settings, workers

    def batches(
        self, context: int, step: int, processes: Processes, device: str = "cpu"
    ) -> Generator[Batch, None, None]:
        """As `ShardSource.batches`, but made where it is trained on."""
        settings = self._settings
        # Block number i enters at step (i - pool + 1) · steps_per_case.
        first = step // settings.steps_per_case
        blocks = (
            hold(block, device, antithetic=settings.variance_weight > 0)
            for block in items(Blocks(self._volumes, self._targets, settings), first, self._workers, _BLOCKS)
        )
        pool = deque(itertools.islice(blocks, settings.pool), settings.pool)
        for number in itertools.count(step):
            if number > step and number % settings.steps_per_case == 0:
                pool.append(next(blocks))
            yield on_the_fly_batch(pool, context, settings, number, processes)


def _from_scans(scans: Scans, targets: Scans | None, settings: TrainingSettings, workers: int) -> OnTheFlySource:
    if not scans:
        raise InputError("no volumes to train on: give at least one normal-dose CT")
    described = {"volumes": _paths(scans), "targets": None if targets is None else _paths(targets)}
    if described["volumes"] and targets is not None and not described["targets"]:
        described["volumes"] = []
    described["names"] = [Path(scan).name if isinstance(scan, (str, Path)) else "volume" for scan in scans]
    volumes = [_read(scan) for scan in scans]
    wanted = volumes if targets is None else [_read(target) for target in targets]
    _check_targets(volumes, wanted)
    described["contents"] = [volume.sha256() for volume in volumes]
    described["target_contents"] = None if targets is None else [volume.sha256() for volume in wanted]
    return OnTheFlySource(volumes, wanted, [], described, settings, workers)


def _check_contents(begun: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with other scans than a run began with, even if they lie in the same place."""
    for key, kind in (("contents", "volume"), ("target_contents", "target")):
        if key not in begun or begun[key] == now[key]:
            continue
        before, after = begun[key] or [], now[key] or []
        if len(before) != len(after):
            raise InputError(f"the run began with {len(before)} {kind}s, not {len(after)}: give the same ones")
        number = next(index for index, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1])
        name = f" ({now['names'][number]})" if kind == "volume" else ""
        raise InputError(
            f"{kind} {number + 1}{name} is not the one that the run began with: give that one, or start a new run"
        )


def _paths(scans: Scans) -> list[str]:
    """Where scans lie; nothing if one of them was given as a volume."""
    known = [scan for scan in scans if isinstance(scan, (str, Path))]
    return [str(Path(scan).resolve()) for scan in known] if len(known) == len(scans) else []


def _from_shards(
    folder: Path, train: list[Shard], validation: list[Shard], settings: TrainingSettings, workers: int
) -> ShardSource | OnTheFlySource:
    train, validation = (sorted(shards, key=lambda shard: shard.key) for shards in (train, validation))
    described = {"dataset": str(folder.resolve())} | {
        split: [
            {"shard": shard.key, "case": shard.case, "patient": shard.patient, "paired": shard.facts.get("paired")}
            for shard in shards
        ]
        for split, shards in (("train", train), ("validation", validation))
    }
    if settings.pairs == "purified":
        return ShardSource(train, validation, described, settings, workers)
    from ..io.volume import Volume

    # Several uLDCTs were made of one NDCT.
    every = {shard.case: shard for shard in reversed(train)}
    volumes = [Volume(_with_padding(shard), shard.spacing) for _, shard in sorted(every.items())]
    return OnTheFlySource(volumes, volumes, validation, described, settings, workers)


def _with_padding(shard: Shard) -> np.ndarray:
    return np.where(np.asarray(shard.masks) & OUTSIDE != 0, np.int16(AIR_HU), shard.ndct)


def _read_shards(folder: Path, described: list[dict[str, str]], split: str) -> list[Shard]:
    shards = []
    for entry in described:
        place = within(folder / SHARDS_FOLDER, entry["shard"])
        if not place.is_dir():
            raise InputError(
                f"case {entry['case']!r}, which the run trains on, is not in {folder} any more ({place.name} is "
                "missing): name the data set that has it, or start a new run"
            )
        shards.append(read_shard(place, split, entry["patient"]))
    return shards


def _check_patch(patch: int, shapes: dict[str, tuple[int, ...]]) -> None:
    for name, (_, rows, columns) in shapes.items():
        if patch > min(rows, columns):
            raise InputError(
                f"a patch of {patch} pixels is larger than {name} with {rows}×{columns}: use {min(rows, columns)} or "
                "less, or leave it out"
            )


def _zoomed(shape: tuple[int, ...], zoom: float) -> tuple[int, ...]:
    from .on_the_fly import zoomed

    slices, rows, columns = shape
    return slices, *zoomed((rows, columns), zoom)


def _read(scan: Volume | Path | str) -> Volume:
    from ..io import files
    from ..io.volume import Volume, check_ct

    if isinstance(scan, Volume):
        check_ct(scan)
        return scan
    volume = files.read(Path(scan))
    try:
        check_ct(volume)
    except InputError as error:
        raise InputError(f"{scan}: {error}") from error
    return volume


def _check_targets(volumes: Sequence[Volume], targets: Sequence[Volume]) -> None:
    from ..io.volume import same_grid

    if len(targets) != len(volumes):
        raise InputError(f"there are {len(volumes)} volumes and {len(targets)} targets: give one target for each")
    for number, (volume, target) in enumerate(zip(volumes, targets, strict=True), 1):
        if not same_grid(volume, target):
            raise InputError(f"target {number} does not lie on the grid of its volume: resample it first")
