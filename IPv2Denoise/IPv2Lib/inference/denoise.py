"""Inference: a trained model applied to a whole CT volume.

Owns the choice of device, batches and tiles, what the network gets to see of a volume, and what of its
answer comes back. Models on disk are `bundle`'s, architectures `networks`'.

The network sees HU clipped to the range it was trained on, and room air where the scanner wrote padding. What
exceeds the range (metal) is added to its answer again; what falls below it is noise of air and is not. Everything
inside the field of view is denoised; padding and geometry come back exactly.

What a network leaves behind has a spectrum of its own, coarse and blotchy; only the noise that it removes has that of
the scanner. So a part of this can be kept, as much as a scan of normal dose has anyway.

The network runs in float32. In bfloat16 autocast the U-Net was twice as fast on a CPU that has it, but off by up
to 5 HU at 2 % dose; with all layers at its finest scale in float32 0.5 HU remained, and 1.4 times the speed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from .. import __version__
from ..errors import InputError, IPv2Error
from ..hounsfield import AIR_HU
from ..io.volume import Volume, check_ct
from ..models.bundle import Bundle
from ..networks.registry import HU_PER_UNIT
from ..options import check_value
from ..parallel.threads import over_slices
from ..progress import NO_PROGRESS, Progress
from .options import SMALLEST_TILE, DenoiseOptions
from .torch_device import choose_device

if TYPE_CHECKING:
    import torch

    from ..networks.registry import Network

WHOLE_PIXELS = 1024 * 1024
"""Slices of more pixels are cut into tiles from the start on a CPU, which has no way to say that memory ran out."""

TILE = 256
"""Pixels per side, first choice."""

HALO = 96
"""Pixels that surround a tile, for a network that does not say how far it sees."""

VIEWS = tuple((flipped, turns) for flipped in (False, True) for turns in range(4))
"""The views of test-time augmentation: flipped or not, and after how many quarter turns."""

_AROUND = 41  # pixels; how far around one the strength of its noise is measured
_SIGMA = 1.2533  # standard deviation over mean magnitude, of normal noise


@dataclass(frozen=True)
class Result:
    """A denoised volume.

    Attributes
    ----------
    volume : Volume
        At the chosen strength; geometry and type of the input.
    network_output : Volume
        The same at strength 1, so that `blend` can change the strength without the network.
    provenance : dict
        Model, weight hash, strength, device, precision, versions and seconds; expressible in JSON.
    """

    volume: Volume
    network_output: Volume
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How slices go through the network: `batch` slices at once, in tiles of `tile` pixels or whole."""

    device: str
    batch: int
    tile: int | None = None

    def smaller(self) -> Plan | None:
        """What to try when memory ran out: half the batch, then tiles, then the CPU; None if nothing is left.

        Examples
        --------
        >>> Plan("cuda", 4).smaller()
        Plan(device='cuda', batch=2, tile=None)
        >>> Plan("cuda", 1, tile=64).smaller()
        Plan(device='cpu', batch=1, tile=None)
        """
        if self.batch > 1:
            return replace(self, batch=self.batch // 2)
        if self.tile is None or self.tile > SMALLEST_TILE:
            return replace(self, tile=TILE if self.tile is None else max(SMALLEST_TILE, self.tile // 2))
        return None if self.device == "cpu" else Plan("cpu", 1)

    def __str__(self) -> str:
        pieces = "whole slices" if self.tile is None else f"tiles of {self.tile}×{self.tile} pixels"
        return f"{self.device}, {pieces}, {self.batch} at once"


def denoise(
    volume: Volume,
    bundle: Bundle,
    *,
    strength: float = 1.0,
    device: str = "auto",
    batch: int | None = None,
    tile: int | None = None,
    keep_outside_body: bool = False,
    residual_noise_hu: float | None = None,
    test_time_augmentation: bool = False,
    slices: Sequence[int] | None = None,
    progress: Progress = NO_PROGRESS,
) -> Result:
    """Denoise a chest CT.

    The same volume gives the same bytes on the same device, unless memory runs out and smaller pieces are used,
    which is said through `progress`.

    Parameters
    ----------
    volume : Volume
        HU, (slices, rows, columns); float32 gives float32, int16 rounded int16.
    bundle : Bundle
        The trained model.
    strength : float
        From 0, the input exactly, to 1, what the network says; linear between.
    device : str
        As for `choose_device`.
    batch : int, optional
        Slices at once; chosen by the device if not given.
    tile : int, optional
        Pixels per side of the tiles into which slices are cut (rounded up to what the network needs; overlap is
        added); whole slices if not given, unless they are very large.
    keep_outside_body : bool
        HU outside the body (`Region.BACKGROUND` of the input: room air, table, clothes) come back exactly.
    residual_noise_hu : float, optional
        Standard deviation of the noise that stays of what the network would remove: all of it where that is less, the
        same fraction of everything where it is more. Keeps the texture of the scan. That of the bundle if not given.
    test_time_augmentation : bool
        The mean of what the network makes of the slices turned and flipped in all eight ways: a little less error, in
        eight times the time.
    slices : sequence of int, optional
        Only these are denoised, as they would be in the whole volume; the others come back as they are.
    progress : Progress
        Asked whenever the network runs.

    Raises
    ------
    InputError
        If the volume is not a CT in HU, a parameter is out of range, the device is absent, or the bundle is
        damaged (`BundleError`).
    Cancelled
        When `progress` is cancelled.
    IPv2Error
        If memory does not suffice even for small tiles on the CPU, or the model returns values that are not finite.
    """
    check_ct(volume)
    for name, value in (("strength", strength), ("batch", batch), ("tile", tile)):
        check_value(DenoiseOptions, name, value)
    residual_noise_hu = residual_noise_of(bundle, residual_noise_hu)
    chosen = _chosen(slices, len(volume.array))
    began = time.perf_counter()
    device = choose_device(device)
    progress.report(0.0, f"loading {bundle.name}")
    first = _first_plan(device, volume.array.shape[1:])
    plan = Plan(device, batch or first.batch, tile or first.tile)
    runner = _Runner(bundle.network(), plan, test_time_augmentation, progress)

    array = volume.array
    output = np.empty_like(array) if slices is None else array.copy()
    source = _Source(
        volume, bundle.card.hu_range, runner.network.context, runner.plan.batch, keep_outside_body, residual_noise_hu
    )
    batches = [chosen[start : start + runner.plan.batch] for start in range(0, len(chosen), runner.plan.batch)]
    with ThreadPoolExecutor(1) as helper:
        # The helper prepares the next batch and finishes the last one while the network works on this one.
        ahead = helper.submit(source.stack, batches[0])
        behind = None
        for number, indices in enumerate(batches):
            runner.fraction = number / len(batches)
            progress.report(runner.fraction, f"denoising slice {indices[0] + 1} of {len(array)}")
            stack = ahead.result()
            if number + 1 < len(batches):
                ahead = helper.submit(source.stack, batches[number + 1])
            denoised = runner.run(stack)
            if behind:
                behind.result()
            behind = helper.submit(source.finish, indices, denoised, output)
        if behind:
            behind.result()

    network_output = volume.with_array(output)
    result = blend(volume, network_output, strength)
    progress.report(1.0, "denoised")
    seconds = time.perf_counter() - began
    facts = _provenance(bundle, runner, strength, keep_outside_body, residual_noise_hu, seconds)
    return Result(result, network_output, facts)


def blend(volume: Volume, network_output: Volume, strength: float) -> Volume:
    """`volume + strength · (network_output − volume)`, in the type of `volume`.

    At strength 0 this is `volume` itself, at 1 `network_output` itself.

    Raises
    ------
    InputError
        If the strength is not from 0 to 1, or the shapes differ.
    """
    check_strength(strength)
    _check_same_shape(volume, network_output)
    if strength in (0, 1):
        return network_output if strength else volume
    blended = np.empty_like(volume.array)
    blend_into(volume.array, network_output.array, strength, blended)
    return volume.with_array(blended)


@dataclass(frozen=True, eq=False)
class Blended:
    """A volume at a strength, and what was removed from it: `volume - denoised`; made by `blend_and_subtract`."""

    strength: float
    denoised: Volume
    removed: Volume


def blend_and_subtract(volume: Volume, network_output: Volume, strength: float) -> Blended:
    """`blend` into memory of its own, and the difference.

    Raises
    ------
    InputError
        As `blend`.
    """
    check_strength(strength)
    _check_same_shape(volume, network_output)
    denoised, removed = np.empty_like(volume.array), np.empty_like(volume.array)
    blend_into(volume.array, network_output.array, strength, denoised, removed)
    return Blended(float(strength), volume.with_array(denoised), volume.with_array(removed))


def blend_into(
    before: np.ndarray, output: np.ndarray, strength: float, blended: np.ndarray, removed: np.ndarray | None = None
) -> None:
    """`blend` into arrays that exist, and what it removed; two cores need 0.2 s for 300 slices of 512×512 in int16.

    Parameters
    ----------
    before, output : ndarray, shape (slices, rows, columns)
        HU at strength 0 and 1.
    strength : float
    blended, removed : ndarray, same shape
        Written: HU at this strength, and `before - blended`; rounded and clipped if of an integer type.
    """

    def work(index: int) -> None:
        if strength in (0, 1):
            blended[index] = (output if strength else before)[index]
        else:
            start = before[index].astype(np.float32)
            change = output[index] - start
            change *= np.float32(strength)
            start += change
            _store(blended[index], start)
        if removed is not None:
            _store(removed[index], np.subtract(before[index], blended[index], dtype=np.float32))

    over_slices(work, len(before))


class _Source:
    """What the network sees of a volume, and what comes back of its answer; works slice by slice."""

    def __init__(
        self,
        volume: Volume,
        hu_range: tuple[float, float],
        context: int,
        batch: int,
        keep_outside_body: bool,
        residual_noise_hu: float,
    ):
        self.array = volume.array
        self.spacing = volume.spacing
        self.keep_outside_body = keep_outside_body
        self.residual_noise_hu = residual_noise_hu
        self.hu_range = hu_range
        self.reach = context // 2
        # Neighbours are shared by batches, and a batch is finished while the next one is already prepared.
        self.prepared = lru_cache(maxsize=2 * batch + context)(self._prepared)

    def stack(self, indices: Sequence[int]) -> np.ndarray:
        """Network input for a batch: (batch, context, rows, columns), HU / 1000; outer slices are repeated."""
        last = len(self.array) - 1
        return np.stack(
            [
                np.stack(
                    [
                        self.prepared(min(max(index + offset, 0), last))[0]
                        for offset in range(-self.reach, self.reach + 1)
                    ]
                )
                for index in indices
            ]
        )

    def finish(self, indices: Sequence[int], denoised: np.ndarray, output: np.ndarray) -> None:
        """Write a batch of network output, (batch, rows, columns), HU / 1000, into the volume `output`."""
        for index, answer in zip(indices, denoised, strict=True):
            before, (seen, outside) = self.array[index], self.prepared(index)
            answer *= HU_PER_UNIT
            if self.residual_noise_hu:
                answer += _kept(seen * HU_PER_UNIT - answer, self.residual_noise_hu)
            answer += np.maximum(before.astype(np.float32) - self.hu_range[1], 0)
            _store(output[index], answer)
            output[index][outside] = before[outside]
            if self.keep_outside_body:
                self._keep_background(index, output)

    def _keep_background(self, index: int, output: np.ndarray) -> None:
        from ..analysis.region_labels import Region
        from ..analysis.regions import segment

        background = segment(self.array[index : index + 1], self.spacing)[0] == Region.BACKGROUND
        output[index][background] = self.array[index][background]

    def _prepared(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Slice as the network sees it, HU / 1000, and its padding."""
        from ..analysis.regions import outside_field_of_view

        outside = outside_field_of_view(self.array[index : index + 1])[0]
        seen = self.array[index].astype(np.float32)
        seen[outside] = AIR_HU
        np.clip(seen, *self.hu_range, out=seen)
        seen /= HU_PER_UNIT
        return seen, outside


def _kept(removed: np.ndarray, residual_noise_hu: float) -> np.ndarray:
    """What stays of the noise that was removed from a slice, HU."""
    sigma = _SIGMA * ndimage.uniform_filter(np.abs(removed), _AROUND, mode="nearest")
    return removed * np.minimum(1, residual_noise_hu / np.maximum(sigma, 1e-3))


class _Runner:
    """A network on a device; goes to smaller pieces, and in the end to the CPU, when memory runs out."""

    def __init__(
        self,
        network: Network,
        plan: Plan,
        test_time_augmentation: bool,
        progress: Progress,
    ):
        self.network = network
        self.plan = plan
        self.test_time_augmentation = test_time_augmentation
        self.progress = progress
        self.fraction = 0.0
        self.seconds = 0.0
        self._place()

    def run(self, stack: np.ndarray) -> np.ndarray:
        """Apply the network to (batch, context, rows, columns); returns (batch, rows, columns), float32."""
        began = time.perf_counter()
        result = np.empty((len(stack), *stack.shape[2:]), np.float32)
        done = 0
        while done < len(stack):
            part = stack[done : done + self.plan.batch]
            try:
                self._run_batch(part, result[done : done + len(part)])
                done += len(part)
                continue
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
            # Outside of `except`: the error's traceback keeps the tensors of the failed batch alive.
            self._shrink(stack.shape[2:])
        if not np.isfinite(result).all():
            raise IPv2Error(
                f"the model returned values that are not finite on {self.plan.device}: "
                "choose device 'cpu' or another model"
            )
        self.seconds += time.perf_counter() - began
        return result

    def _run_batch(self, batch: np.ndarray, result: np.ndarray) -> None:
        import torch

        with torch.inference_mode(), _repeatable(self.plan.device):
            for rows, columns, inner_rows, inner_columns in self._tiles(batch.shape[2:]):
                x = torch.from_numpy(np.ascontiguousarray(batch[..., rows, columns])).to(self.plan.device)
                y = self._answer(x).float().cpu().numpy()
                from_row, from_column = inner_rows.start - rows.start, inner_columns.start - columns.start
                result[:, inner_rows, inner_columns] = y[
                    :,
                    from_row : from_row + inner_rows.stop - inner_rows.start,
                    from_column : from_column + inner_columns.stop - inner_columns.start,
                ]

    def _answer(self, x: torch.Tensor) -> torch.Tensor:
        """What the network makes of (batch, context, rows, columns): (batch, rows, columns)."""
        import torch

        from ..networks.blocks import pad_to_multiple

        views, (rows, columns) = VIEWS[:1], x.shape[-2:]
        if self.test_time_augmentation:
            # Padded before it is turned, a tile is seen in the blocks of pixels in which the whole slice is.
            views, x = VIEWS, pad_to_multiple(x, getattr(self.network, "multiple", 1))
        total: Any = 0.0
        for flipped, turns in views:
            self.progress.check("denoising was cancelled")
            seen = torch.rot90(x.flip(-1) if flipped else x, turns, (-2, -1))
            if self.plan.device != "mps":
                seen = seen.contiguous(memory_format=torch.channels_last)
            answer = torch.rot90(self.network(seen)[:, 0], -turns, (-2, -1))
            total = total + (answer.flip(-1) if flipped else answer)
        return total[:, :rows, :columns] / len(views)

    def _tiles(self, shape: tuple[int, int]) -> Iterator[tuple[slice, slice, slice, slice]]:
        """Rows and columns to read, then rows and columns to keep.

        Both start at multiples of the network's own grid, where pooling and unshuffling see the pixels of a tile
        as they see those of a whole slice.
        """
        if self.plan.tile is None:
            whole = (slice(0, shape[0]), slice(0, shape[1]))
            yield (*whole, *whole)
            return
        multiple = getattr(self.network, "multiple", 1)
        tile = -(-self.plan.tile // multiple) * multiple
        halo = -(-getattr(self.network, "halo", HALO) // multiple) * multiple

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

    def _shrink(self, shape: tuple[int, int]) -> None:
        smaller = self.plan.smaller()
        if smaller is None:
            raise IPv2Error(
                f"not enough memory for slices of {shape[0]}×{shape[1]} pixels, even in tiles of "
                f"{self.plan.tile} pixels on the CPU: close other programs"
            )
        self.progress.report(self.fraction, f"not enough memory ({self.plan}); going on with {smaller}")
        moves = smaller.device != self.plan.device
        self.plan = smaller
        if moves:
            self._place()

    def _place(self) -> None:
        """Move the network to the device of the plan."""
        import torch

        try:
            self.network = self.network.to(self.plan.device)
            if self.plan.device != "mps":
                self.network = self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stub
        except RuntimeError as error:
            if self.plan.device == "cpu" or not _is_out_of_memory(error):
                raise
            self.progress.report(
                self.fraction, f"not enough memory on {self.plan.device} for the network; using the CPU"
            )
            self.plan = Plan("cpu", 1)
            self.network = self.network.to("cpu").to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # likewise


def _chosen(slices: Sequence[int] | None, count: int) -> list[int]:
    if slices is None:
        return list(range(count))
    if not len(slices) or min(slices) < 0 or max(slices) >= count:
        raise InputError(f"slices {list(slices)} of a volume that has {count}: give some from 0 to {count - 1}")
    return sorted(set(map(int, slices)))


def _first_plan(device: str, shape: tuple[int, int]) -> Plan:
    """Depends on the machine and the size of the slices only, not on what else runs, so that results repeat."""
    import torch

    pixels = shape[0] * shape[1]
    tile = 512 if pixels > WHOLE_PIXELS else None
    if not device.startswith("cuda"):
        # One slice already keeps all cores busy; two at once were not faster.
        return Plan(device, 1, tile)
    gigabytes = torch.cuda.get_device_properties(device).total_memory / 2**30
    return Plan(device, int(min(16, max(1, gigabytes * 512 * 512 / pixels))), tile)


def _repeatable(device: str) -> contextlib.AbstractContextManager:
    """On an NVIDIA GPU: algorithms that give the same bytes each time, in true float32."""
    import torch

    if not device.startswith("cuda"):
        return contextlib.nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def _is_out_of_memory(error: Exception) -> bool:
    # MPS and the CPU allocator raise a plain RuntimeError.
    texts = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in texts)


def _store(target: np.ndarray, values: np.ndarray) -> None:
    """Copy float HU into an array of any type, rounded and within its range if that is an integer type."""
    if np.issubdtype(target.dtype, np.integer):
        limits = np.iinfo(target.dtype)
        np.rint(values, out=values)
        np.clip(values, limits.min, limits.max, out=values)
    target[...] = values


def _check_same_shape(volume: Volume, network_output: Volume) -> None:
    if volume.array.shape != network_output.array.shape:
        raise InputError(
            f"volume and network output have the shapes {volume.array.shape} and {network_output.array.shape}; "
            "blend a volume with its own result"
        )


def check_strength(strength: float) -> None:
    """Refuse a strength that is not from 0 to 1 (`InputError`)."""
    check_value(DenoiseOptions, "strength", strength)


def residual_noise_of(bundle: Bundle, residual_noise_hu: float | None) -> float:
    """What was asked for, in HU, else what the bundle's card says; `InputError` if it is not 0 or more."""
    if residual_noise_hu is None:
        return float(bundle.card.residual_noise_hu)
    check_value(DenoiseOptions, "residual_noise_hu", residual_noise_hu)
    return float(residual_noise_hu)


def _provenance(
    bundle: Bundle, runner: _Runner, strength: float, keep_outside_body: bool, residual_noise_hu: float, seconds: float
) -> dict[str, Any]:
    import torch

    return {
        "model": bundle.name,
        "weights_sha256": bundle.hash,
        "strength": float(strength),
        "keep_outside_body": keep_outside_body,
        "residual_noise_hu": residual_noise_hu,
        "test_time_augmentation": runner.test_time_augmentation,
        "device": runner.plan.device,
        "precision": "float32",
        "batch": runner.plan.batch,
        "tile": runner.plan.tile,
        "versions": {"IPv2Lib": __version__, "torch": torch.__version__, "numpy": np.__version__},
        "seconds": round(seconds, 3),
        "network_seconds": round(runner.seconds, 3),
    }
