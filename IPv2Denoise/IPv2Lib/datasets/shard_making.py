"""Make one shard of a purified data set: simulate, purify, and write it as a whole.

Everything goes block by block of slices, in little memory. How shards are read is in `shards`, which ones are made is
in `orders`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..analysis.region_labels import Region
from ..analysis.regions import segment
from ..analysis.suitability import unusable
from ..errors import InputError, OutputError
from ..io import atomic, files, outputs
from ..io.volume import Volume
from ..progress import Progress
from ..purification.purify import check_pair, purify_slices
from ..purification.settings import MATCHED
from ..simulation import dose
from ..simulation.breathing import with_motion
from ..simulation.matching import match_scan
from .cases import Case
from .contents import contents, labels_of
from .orders import Order
from .shards import CM1, CM2, OUTSIDE, SHARD_FILE, THUMBNAIL_FILE, read_shard
from .thumbnail import write_thumbnail

_BLOCK_PIXELS = 16 * 512 * 512  # that are purified at once: about 0.5 GB of memory


def examine(case: Case, *, progress: Progress) -> str:
    """Refuse (`InputError`) scans that cannot be used; return what to know about them."""
    progress.report(0.0, f"looking at {case.name}")
    volumes = [files.read(path) for path in case.sources]
    for path, volume in zip(case.sources, volumes, strict=True):
        if reason := unusable(volume):
            raise InputError(f"{path.name}: {reason}")
    if case.paired:
        ndct, uldct = volumes
        check_pair(uldct, ndct)
    if len(volumes[-1].array) == 1:
        return "a scan of one slice: networks that look at neighbouring slices will see it repeated"
    return ""


def make(order: Order, *, progress: Progress) -> None:
    """Make a shard and put it in its place, complete."""
    began = time.perf_counter()
    case = order.case
    with _new_shard(order.folder / order.key) as folder:
        sources = [_rounded(files.read(path)) for path in case.sources]
        if contents(case) != order.inputs:
            raise InputError("its files were changed while the data set was made: prepare it again")
        ndct, pair_uldct = (sources[0], sources[1]) if case.paired else (sources[0], None)
        if pair_uldct is None:
            images = _simulate(order, ndct, folder, progress.part(0.0, 0.45, str(order)))
            array = np.load(folder / "uldct.npy", mmap_mode="r")
            uldct = ndct.with_array(array)
        else:
            images, uldct = [], pair_uldct
            _write_array(folder / "uldct.npy", np.int16, uldct.array.shape, [uldct.array])
        _purify(order, uldct, ndct, folder, progress.part(0.45 if images else 0.0, 0.98, str(order)))
        facts = {
            "case": case.name,
            "realisation": order.realisation,
            "shape": list(uldct.array.shape),
            "spacing": list(uldct.spacing),
            "origin": list(uldct.origin),
            "direction": list(uldct.direction),
            "images": images,
            "dose": order.settings.dose,
            "method": case.method,
            "kernel": case.kernel,
            "motion_mm": None if case.paired else case.motion_mm,
            "seed": case.seed,
            "paired": case.paired,
            "inputs": order.inputs,
            "settings": asdict(order.settings),
        }
        del uldct  # closes the map: Windows renames no folder with an open file
        facts = outputs.provenance("prepare", facts)
        facts["seconds"] = round(time.perf_counter() - began, 2)
        outputs.write_json(folder / SHARD_FILE, facts)
        write_thumbnail(read_shard(folder), folder / THUMBNAIL_FILE)


@contextmanager
def _new_shard(place: Path) -> Iterator[Path]:
    """As `atomic.new_folder`. A shard that is damaged is replaced; one that is made meanwhile is the same."""
    try:
        with atomic.new_folder(place) as folder:
            yield folder
    except OutputError:
        with suppress(InputError):
            read_shard(place)
            return
        raise


def _simulate(order: Order, ndct: Volume, folder: Path, progress: Progress) -> list[str]:
    """Write ground_truth, uldct and perhaps its halves; return the names of those that not every shard has."""
    case = order.case
    options: dict[str, Any] = {"seed": order.uldct_seed, "kernel": case.kernel, "progress": progress.silent()}
    if case.kernel == MATCHED:
        found = match_scan(ndct)
        options |= {"photons": found.photons, "kernel": found.kernel}
    names = ["uldct", "ground_truth", *(["half_a", "half_b"] if order.split_projections else [])]
    shape = ndct.array.shape
    with ExitStack() as stack:
        arrays = {name: stack.enter_context(_array_file(folder / f"{name}.npy", np.int16, shape)) for name in names}
        for start, stop in _blocks(shape):
            progress.report(start / shape[0], f"simulating slice {start + 1} of {shape[0]}")
            ground_truth = ndct.with_array(_moved(ndct.array[start:stop], order, ndct.spacing[0]))
            made = {"ground_truth": ground_truth.array}
            if ground_truth.array.min() == ground_truth.array.max():  # nothing was scanned here
                made |= dict.fromkeys(names, ground_truth.array)
            elif order.split_projections:
                halves = dose.simulate_halves(ground_truth, order.settings.dose, first_slice=start, **options)
                made["half_a"], made["half_b"] = (half.array for half in halves)
                made["uldct"] = (made["half_a"] + made["half_b"]) / 2
            else:
                made["uldct"] = dose.simulate(
                    ground_truth, order.settings.dose, method=case.method, first_slice=start, **options
                ).array
            for name, file in arrays.items():
                file.write(_int16(made[name]).tobytes())
    return names[1:]


def _moved(ndct: np.ndarray, order: Order, pixel_mm: float) -> np.ndarray:
    """int16, as it is stored. The motion depends on the seed only, so every block moves alike."""
    if order.case.motion_mm == 0:
        return ndct
    rng = np.random.default_rng(order.motion_seed)
    return _int16(with_motion(ndct, order.case.motion_mm / pixel_mm, rng, pixel_mm))


def _purify(order: Order, uldct: Volume, ndct: Volume, folder: Path, progress: Progress) -> None:
    """Write ndct, simulated, weak, masks and regions."""
    shape = uldct.array.shape
    no_pair = _without_pair(order.case, shape)
    ground_truth = (
        np.load(folder / "ground_truth.npy", mmap_mode="r") if (folder / "ground_truth.npy").exists() else None
    )
    types = {"ndct": np.int16, "simulated": np.int16, "weak": np.int16, "masks": np.uint8, "regions": np.uint8}
    with ExitStack() as stack:
        arrays = {
            name: stack.enter_context(_array_file(folder / f"{name}.npy", dtype, shape))
            for name, dtype in types.items()
        }
        for start, stop in _blocks(shape):
            progress.report(start / shape[0], f"purifying slice {start + 1} of {shape[0]}")
            stages = purify_slices(uldct, ndct, start, stop, order.settings, progress=progress.silent())
            outside = stages.labels == Region.OUTSIDE
            if no_pair is not None:
                outside |= no_pair[start:stop]
            regions = segment(stages.ndct.array if ground_truth is None else ground_truth[start:stop], uldct.spacing)
            regions[outside] = Region.OUTSIDE
            assert stages.simulated is not None and stages.weakly_denoised is not None
            arrays["ndct"].write(_int16(stages.ndct.array).tobytes())
            arrays["simulated"].write(_int16(stages.simulated.array).tobytes())
            arrays["weak"].write(_int16(stages.weakly_denoised.array).tobytes())
            arrays["masks"].write((CM1 * stages.cm1 | CM2 * stages.cm2 | OUTSIDE * outside).astype(np.uint8).tobytes())
            arrays["regions"].write(regions.tobytes())


def _without_pair(case: Case, shape: tuple[int, ...]) -> np.ndarray | None:
    """Where stages from files say that one of the scans has no data: their NDCT was resampled, and cannot tell."""
    if case.stages is None:
        return None
    path = labels_of(case.stages)
    labels = files.read(path).array
    if labels.shape != shape:
        raise InputError(f"{path} does not lie on the grid of the uLDCT: purify again")
    return labels == 0


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    step = max(1, _BLOCK_PIXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


def _rounded(volume: Volume) -> Volume:
    return volume.with_array(_int16(volume.array))


def _int16(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.int16:
        return array
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(array), limits.min, limits.max).astype(np.int16)


@contextmanager
def _array_file(path: Path, dtype: type, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """A .npy file whose header is written and whose content follows. Written, not mapped: on a full disk, writing
    raises an error, while a map ends the process."""
    with open(path, "wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_1_0(file, header)
        yield file


def _write_array(path: Path, dtype: type, shape: tuple[int, ...], blocks: Sequence[np.ndarray]) -> None:
    with _array_file(path, dtype, shape) as file:
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).tobytes())
