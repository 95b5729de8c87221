"""Training cases from normal-dose CT: augmentation, breath, dose and purification, all from a seed.

A case is a block of a few neighbouring slices, as a network would see them (input) and what it should make of
them (target). Owns the random choices; the physics is in `dose`, the masks are in `purification`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .ct import Volume
from .dose import physical_noise
from .errors import InputError
from .projection import kernel
from .purification import IPV1, IPV2, Settings, common_masks, mix_training_input
from .regions import Region, outside_field_of_view, segment

STRATEGIES: dict[str, Settings | None] = {"none": None, "ipv1": IPV1, "ipv2": IPV2}
"""Settings of purification by the name of the strategy; None pairs the two scans as they are."""

_VIEWS = 384  # the noise of fewer views looks the same, and is made sooner


@dataclass(frozen=True)
class Ranges:
    """What is drawn at random for each case; every pair is (lowest, highest).

    Attributes
    ----------
    dose : dose fraction, drawn with equal weight on each octave
    photons : N₀ per ray at dose 1, likewise
    sharpness : reconstruction kernel of the noise, see `projection.kernel`
    zoom : pixels of the scan per pixel of the case; above 1 makes structures finer and the scan's noise less
    breath_mm : largest displacement of the lungs between the two scans
    """

    dose: tuple[float, float] = (0.01, 0.25)
    photons: tuple[float, float] = (0.7e5, 3.0e5)
    sharpness: tuple[float, float] = (-1.0, 2.0)
    zoom: tuple[float, float] = (0.9, 1.8)
    breath_mm: tuple[float, float] = (2.0, 10.0)

    def __post_init__(self):
        lowest = {"dose": 1e-4, "photons": 1.0, "sharpness": -1.0, "zoom": 0.25, "breath_mm": 0.0}
        highest = {"dose": 1.0, "photons": 1e9, "sharpness": 2.0, "zoom": 4.0, "breath_mm": 50.0}
        for name, least in lowest.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= highest[name]:
                raise InputError(
                    f"range of {name} is {low:g} to {high:g}: give the lower one first, both within "
                    f"{least:g} to {highest[name]:g}"
                )


@dataclass(frozen=True)
class Case:
    """A training case: `input`, `mirrored` and `target`, all (slices, rows, columns) float32 in HU, with air outside
    the field of view, and the dose fraction and kernel sharpness that were drawn. `mirrored` is the input with
    its simulated noise turned into its negative.
    """

    input: np.ndarray
    mirrored: np.ndarray
    target: np.ndarray
    dose: float
    sharpness: float


def make_case(
    volumes: Sequence[Volume],
    index: int,
    seed: int,
    strategy: str = "ipv2",
    slices: int = 6,
    ranges: Ranges | None = None,
    targets: Sequence[Volume] | None = None,
) -> Case:
    """Make training case number `index`: the same for the same arguments, whatever was made before.

    Parameters
    ----------
    volumes : sequence of Volume
        Normal-dose CT, HU, axial.
    index, seed : int
        Which case of which training run.
    strategy : {"none", "ipv1", "ipv2"}
        How the two scans become a pair, see `STRATEGIES`.
    slices : int
        Slices of the case; fewer where the volume has fewer.
    ranges : Ranges
        What is drawn at random.
    targets : sequence of Volume, optional
        The same scans with less noise of their own, on the same grids: what the case asks for. The input is made
        from `volumes`, so the noise that a real scan has of its own is learned, too. Default: `volumes`.
    """
    ranges = ranges or Ranges()
    rng = np.random.default_rng([seed, index])
    (ndct, target), spacing_mm = _block(volumes, targets or volumes, rng, slices, rng.uniform(*ranges.zoom))
    dose, photons = (_log_uniform(rng, *limits) for limits in (ranges.dose, ranges.photons))
    sharpness = rng.uniform(*ranges.sharpness)
    gain = kernel(sharpness)
    variance, blur_z = rng.uniform(0.0, 20.0), rng.uniform(0.0, 0.33) * (rng.random() < 0.5)

    def noise(image: np.ndarray) -> np.ndarray:
        simulated = physical_noise(
            image,
            spacing_mm,
            dose * photons,
            kernel=gain,
            views=_VIEWS,
            electronic_variance=variance,
            seeds=rng.integers(2**62, size=len(image)),
        )
        return _correlated(simulated, blur_z)

    def case(image: np.ndarray, noise: np.ndarray) -> Case:
        low = -1024.0 if rng.random() < 0.5 else -np.inf  # as most scanners store it, in 12 bits
        return Case(*(np.clip(image + sign * noise, low, 3071.0) for sign in (1, -1)), target, dose, sharpness)

    settings = STRATEGIES[strategy]
    breathed = breathe(ndct, rng.uniform(*ranges.breath_mm) / spacing_mm, rng)
    breathed_noise = noise(breathed)
    if settings is None:
        return case(breathed, breathed_noise)
    spacing = (spacing_mm, spacing_mm, 1.0)
    uldct = Volume(breathed + breathed_noise, spacing)
    common = common_masks(uldct, Volume(ndct, spacing), settings).common(settings)
    inside_noise = noise(ndct) if settings.add_noise else np.zeros_like(ndct)
    return case(
        mix_training_input(breathed, ndct, ndct, common, settings.blend),
        mix_training_input(breathed_noise, np.zeros_like(ndct), inside_noise, common, settings.blend),
    )


def breathe(ndct: np.ndarray, amplitude: float, rng: np.random.Generator, pixel_mm: float = 1.0) -> np.ndarray:
    """Deform the lungs smoothly, as breath between two scans does; the chest wall stays where it is.

    Parameters
    ----------
    ndct : numpy.ndarray
        (slices, rows, columns), HU.
    amplitude : float
        Largest displacement, in pixels.
    rng : numpy.random.Generator
    pixel_mm : float
        Pixel spacing, which sets how smooth the deformation is.

    Returns
    -------
    numpy.ndarray
        float32, same shape.
    """
    lung = segment(ndct, (pixel_mm, pixel_mm, 1.0)) == Region.LUNG
    # 0 at the border of the lungs and outside, 1 deep inside.
    sigma = 6.0 / pixel_mm
    room = np.clip(2.0 * ndimage.gaussian_filter(lung.astype(np.float32), (0, sigma, sigma)) - 1.0, 0.0, 1.0)
    shape = ndct.shape[1:]
    step = max(1, round(8 / pixel_mm))
    moved = np.empty(ndct.shape, np.float32)
    field = rng.normal(size=(2, *(-(-n // step) for n in shape))).astype(np.float32)
    field = ndimage.gaussian_filter(field, (0, 5, 5))
    field = np.stack([ndimage.zoom(f, step, order=1)[: shape[0], : shape[1]] for f in field])
    field *= amplitude / max(float(np.abs(field).max()), 1e-6)
    grid = np.indices(shape, dtype=np.float32)
    for k, image in enumerate(ndct):
        weight = np.minimum(room[k] * 1.5, 1.0)
        moved[k] = ndimage.map_coordinates(image.astype(np.float32), grid + field * weight, order=1, mode="nearest")
    return moved


def _block(volumes, targets, rng, slices, zoom) -> tuple[list[np.ndarray], float]:
    """A random block of neighbouring slices of a volume and of its target, pixels `zoom` times as large; and the
    new pixel spacing in mm."""
    sizes = np.array([len(v.array) for v in volumes])
    chosen = rng.choice(len(volumes), p=np.sqrt(sizes) / np.sqrt(sizes).sum())
    volume, target = volumes[chosen], targets[chosen]
    count = min(slices, len(volume.array))
    first = rng.integers(len(volume.array) - count + 1)
    here = slice(first, first + count)
    outside = outside_field_of_view(volume.array[here])
    alike = rng.random() < 0.15  # neighbours that tell nothing: thick or distant slices
    rows, columns = (2 * round(n / zoom / 2) for n in volume.array.shape[1:])
    blocks = []
    for hu in [volume.array[here]] if target is volume else [volume.array[here], target.array[here]]:
        hu = np.where(outside, -1000.0, hu).astype(np.float32)
        if alike:
            hu = np.repeat(hu[count // 2, None], count, axis=0)
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
