"""Training pairs simulated on the fly from normal-dose CT: augmentation, motion, dose and purification.

A block is a few neighbouring slices, as a network would see them (input) and what it should make of them (target). Owns
the random choices; the physics is in `dose`, the masks are in `purification`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from ..analysis.regions import outside_field_of_view
from ..datasets.strategies import BY_NAME, check_strategy
from ..errors import InputError
from ..hounsfield import AIR_HU
from ..io.atomic import new_file
from ..io.volume import Volume
from ..purification.masks import common_masks
from ..purification.mixing import mix_training_input
from ..simulation.breathing import motion
from ..simulation.dose import modulated, physical_noise
from ..simulation.projection import kernel, with_band
from .settings import Ranges

_VIEWS = 384  # the noise of fewer views looks the same, and is made sooner


@dataclass(frozen=True)
class Block:
    """A few slices to train on.

    Attributes
    ----------
    input, target : ndarray of float, shape (slices, rows, columns)
        HU, with air outside the field of view.
    antithetic : ndarray or None
        The input with its simulated noise turned into its negative; None unless it was asked for.
    dose, sharpness : float
        The dose fraction and the kernel.
    """

    input: np.ndarray
    antithetic: np.ndarray | None
    target: np.ndarray
    dose: float
    sharpness: float


def make_block(
    volumes: Sequence[Volume],
    index: int,
    seed: int,
    strategy: str = "ipv2",
    *,
    blend: float | None = None,
    slices: int = 6,
    ranges: Ranges | None = None,
    targets: Sequence[Volume] | None = None,
    antithetic: bool = False,
) -> Block:
    """Make block number `index`: the same for the same arguments, whatever was made before.

    Parameters
    ----------
    volumes : sequence of Volume
        Normal-dose CT, HU, axial.
    index, seed : int
        Which block of which training run.
    strategy : str
        How the two scans become a pair: one of `strategies.STRATEGIES`, unless only prepared data have what it needs.
    blend : float, optional
        T of the training input outside the common mask. Default: 0.1 for ipv1, as published, else 0.
    slices : int
        Slices of the block; fewer where the volume has fewer.
    ranges : Ranges
        What is chosen at random, and its ranges.
    targets : sequence of Volume, optional
        The same scans with less noise of their own, on the same grids: what the block asks for. The input is made
        from `volumes`, so the noise that a real scan has of its own is learned, too. Default: `volumes`.
    antithetic : bool
        Make `Block.antithetic`.

    Raises
    ------
    InputError
        An unknown strategy, one that needs a real uLDCT, or a blend that does not go with it.
    """
    check_strategy(strategy, blend, on_the_fly=True)
    declared = BY_NAME[strategy]
    ranges = ranges or Ranges()
    rng = np.random.default_rng([seed, index])
    (ndct, target), spacing_mm = _slices(volumes, targets or volumes, rng, slices, ranges)
    dose, photons = (_log_uniform(rng, *limits) for limits in (ranges.dose, ranges.photons))
    sharpness = rng.uniform(*ranges.sharpness)
    variance, blur_z = rng.uniform(0.0, 20.0), rng.uniform(0.0, 0.33) * (rng.random() < 0.5)
    modulation = rng.uniform(*ranges.modulation) * (rng.random() < 0.5) if ranges.modulation[1] else 0.0
    gain = kernel(sharpness)
    if ranges.band[1] and rng.random() < 0.5:
        octaves, centre, width = rng.uniform(*ranges.band), rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.3)
        gain = with_band(gain, octaves * rng.choice([-1, 1]), centre, width)

    def noise(image: np.ndarray) -> np.ndarray:
        attenuating, passing = modulated(image, spacing_mm, modulation)
        simulated = physical_noise(
            attenuating, spacing_mm, dose * photons * passing, kernel=gain, views=_VIEWS,
            electronic_variance=variance, seeds=rng.integers(2**62, size=len(image)),
        )  # fmt: skip
        return _correlated(simulated, blur_z)

    def block(image: np.ndarray, noise: np.ndarray, target: np.ndarray) -> Block:
        low = -1024.0 if rng.random() < 0.5 else -np.inf  # as most scanners store it, in 12 bits
        source = np.clip(image + noise, low, 3071.0)
        negative = np.clip(image - noise, low, 3071.0) if antithetic else None
        return Block(source, negative, target, dose, sharpness)

    move = motion(ndct, rng.uniform(*ranges.motion_mm) / spacing_mm, rng, spacing_mm)
    moved = move(ndct)
    moved_noise = noise(moved)
    if declared.target == "ground_truth":
        target = moved if target is ndct else move(target)
    if (settings := declared.purification) is None:
        return block(moved, moved_noise, target)
    share = declared.blend if blend is None else blend
    spacing = (spacing_mm, spacing_mm, 1.0)
    uldct = Volume(moved + moved_noise, spacing)
    common = common_masks(uldct, Volume(ndct, spacing), settings).common(settings)
    inside_noise = noise(ndct) if settings.add_noise else np.zeros_like(ndct)
    return block(
        mix_training_input(moved, ndct, ndct, common, share),
        mix_training_input(moved_noise, np.zeros_like(ndct), inside_noise, common, share),
        target,
    )


def save_block(block: Block, path: Path) -> None:
    """Write what `load_block` reads, rounded to float16: 0.5 HU for values around 1000 HU."""
    arrays = {name: getattr(block, name) for name in ("input", "antithetic", "target")}
    arrays = {name: array.astype(np.float16) for name, array in arrays.items() if array is not None}
    with new_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, dose=block.dose, sharpness=block.sharpness, **arrays)


def load_block(path: Path) -> Block:
    """A block that `save_block` wrote, in float16.

    Raises
    ------
    InputError
        It cannot be read.
    """
    try:
        with np.load(path) as content:
            arrays = {name: content.get(name) for name in ("input", "antithetic", "target")}
            return Block(**arrays, dose=float(content["dose"]), sharpness=float(content["sharpness"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error}): delete it, and it is made again") from error


def zoomed(shape: tuple[int, int], zoom: float) -> tuple[int, int]:
    """Rows and columns of a block of a scan with `shape`, of pixels `zoom` times as large."""
    rows, columns = (2 * round(length / zoom / 2) for length in shape)
    return rows, columns


def _slices(volumes, targets, rng, slices, ranges) -> tuple[list[np.ndarray], float]:
    """A random block of neighbouring slices of a volume and of its target, of random thickness and pixel size; and the
    new pixel spacing in mm."""
    zoom, thickness = rng.uniform(*ranges.zoom), int(rng.integers(ranges.thickness[0], ranges.thickness[1] + 1))
    sizes = np.array([len(v.array) for v in volumes])
    chosen = rng.choice(len(volumes), p=np.sqrt(sizes) / np.sqrt(sizes).sum())
    volume, target = volumes[chosen], targets[chosen]
    thickness = min(thickness, len(volume.array))
    count = min(slices, len(volume.array) // thickness) * thickness
    first = rng.integers(len(volume.array) - count + 1)
    here = slice(first, first + count)
    outside = outside_field_of_view(volume.array[here])
    alike = rng.random() < 0.15  # neighbours that tell nothing: thick or distant slices
    rows, columns = zoomed(volume.array.shape[1:], zoom)
    blocks = []
    for hu in [volume.array[here]] if target is volume else [volume.array[here], target.array[here]]:
        hu = np.where(outside, AIR_HU, hu).astype(np.float32)
        hu = hu.reshape(-1, thickness, *hu.shape[1:]).mean(1)
        if alike:
            hu = np.repeat(hu[len(hu) // 2, None], len(hu), axis=0)
        blocks.append(np.clip(_resized(hu, rows, columns), -1024.0, 3071.0))
    return [blocks[0], blocks[-1]], volume.spacing[0] * volume.array.shape[2] / columns


def _resized(hu: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Slices on another grid; what it cannot hold is filtered out first, or noise would come back as aliases."""
    if (rows, columns) == hu.shape[1:]:
        return hu
    import torch

    return torch.nn.functional.interpolate(
        torch.from_numpy(hu)[:, None], (rows, columns), mode="bicubic", align_corners=False, antialias=True
    )[:, 0].numpy()


def _correlated(noise: np.ndarray, share: float) -> np.ndarray:
    """Mix noise with that of the neighbouring slices, as overlapping slices have it; the variance stays."""
    if share == 0.0:
        return noise
    weights = np.array([share, 1.0 - 2.0 * share, share]) if share < 0.5 else np.full(3, 1 / 3)
    mixed = ndimage.convolve1d(noise, weights, axis=0, mode="wrap")
    return mixed / np.sqrt((weights**2).sum())


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
