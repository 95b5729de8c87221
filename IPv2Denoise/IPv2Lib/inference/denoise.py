"""Inference: a trained model applied to a whole CT volume.

Owns what the network gets to see of a volume, and what of its answer comes back. How slices are cut is `tiling`'s, what
computes them `engines`', the strength `blending`'s. Models on disk are `bundle`'s, architectures `networks`'.

The network sees HU clipped to the range it was trained on, and room air where the scanner wrote padding. What
exceeds the range (metal) is added to its answer again; what falls below it is noise of air and is not. Everything
inside the field of view is denoised; padding and geometry come back exactly.

What a network leaves behind has a spectrum of its own, coarse and blotchy; only the noise that it removes has that of
the scanner. So a part of this can be kept, as much as a scan of normal dose has anyway.

The network runs in float32. In bfloat16 autocast the U-Net was twice as fast on a CPU that has it, but off by up
to 5 HU at 2 % dose; with all layers at its finest scale in float32 0.5 HU remained, and 1.4 times the speed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .. import __version__
from ..analysis.noise import local_sigma
from ..errors import InputError
from ..hounsfield import AIR_HU
from ..io.volume import Volume, check_ct
from ..models.bundle import Bundle
from ..networks.registry import HU_PER_UNIT
from ..options import check_value
from ..progress import NO_PROGRESS, Progress
from .blending import blend, store
from .options import DenoiseOptions
from .tiling import Plan, Runner, first_plan
from .torch_device import choose_device


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


def denoise(
    volume: Volume,
    bundle: Bundle,
    *,
    strength: float = 1.0,
    device: str = "auto",
    engine: str = "auto",
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
    engine : str
        "onnxruntime", which runs on CPUs, "torch", or "auto", see `engines.choose_engine`.
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
    device = choose_device(device, engine)
    progress.report(0.0, f"loading {bundle.name}")
    first = first_plan(device, volume.array.shape[1:])
    plan = Plan(device, batch or first.batch, tile or first.tile)
    runner = Runner(bundle, engine, plan, len(chosen), test_time_augmentation, progress)

    array = volume.array
    output = np.empty_like(array) if slices is None else array.copy()
    batch, threads = runner.plan.batch, runner.plan.parallel + 1  # one prepares or finishes while the others wait
    source = _Source(
        volume, bundle.card.hu_range, runner.engine.context, batch * threads, keep_outside_body, residual_noise_hu
    )
    batches = [chosen[start : start + batch] for start in range(0, len(chosen), batch)]

    def work(indices: list[int]) -> None:
        source.finish(indices, runner.run(source.stack(indices)), output)

    with ThreadPoolExecutor(threads) as pool:
        progress.report(0.0, f"denoising slice {chosen[0] + 1} of {len(array)}")
        for number, _ in enumerate(pool.map(work, batches), start=1):
            runner.fraction = number / len(batches)
            if number < len(batches):
                progress.report(runner.fraction, f"denoising slice {batches[number][0] + 1} of {len(array)}")

    network_output = volume.with_array(output)
    result = blend(volume, network_output, strength)
    progress.report(1.0, "denoised")
    seconds = time.perf_counter() - began
    facts = _provenance(bundle, runner, strength, keep_outside_body, residual_noise_hu, seconds)
    return Result(result, network_output, facts)


class _Source:
    """What the network sees of a volume, and what comes back of its answer; works slice by slice."""

    def __init__(
        self,
        volume: Volume,
        hu_range: tuple[float, float],
        context: int,
        at_once: int,
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
        self.prepared = lru_cache(maxsize=2 * at_once + context)(self._prepared)

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
            store(output[index], answer)
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
    return removed * np.minimum(1, residual_noise_hu / np.maximum(local_sigma(removed), 1e-3))


def _chosen(slices: Sequence[int] | None, count: int) -> list[int]:
    if slices is None:
        return list(range(count))
    if not len(slices) or min(slices) < 0 or max(slices) >= count:
        raise InputError(f"slices {list(slices)} of a volume that has {count}: give some from 0 to {count - 1}")
    return sorted(set(map(int, slices)))


def residual_noise_of(bundle: Bundle, residual_noise_hu: float | None) -> float:
    """What was asked for, in HU, else what the bundle's card says; `InputError` if it is not 0 or more."""
    if residual_noise_hu is None:
        return float(bundle.card.residual_noise_hu)
    check_value(DenoiseOptions, "residual_noise_hu", residual_noise_hu)
    return float(residual_noise_hu)


def _provenance(
    bundle: Bundle, runner: Runner, strength: float, keep_outside_body: bool, residual_noise_hu: float, seconds: float
) -> dict[str, Any]:
    return {
        "model": bundle.name,
        "weights_sha256": bundle.hash,
        "strength": float(strength),
        "keep_outside_body": keep_outside_body,
        "residual_noise_hu": residual_noise_hu,
        "test_time_augmentation": runner.test_time_augmentation,
        "device": runner.plan.device,
        "engine": runner.engine.name,
        "precision": "float32",
        "batch": runner.plan.batch,
        "tile": runner.plan.tile,
        "versions": {"IPv2Lib": __version__, runner.engine.name: runner.engine.version, "numpy": np.__version__},
        "seconds": round(seconds, 3),
        "network_seconds": round(runner.seconds, 3),
    }
