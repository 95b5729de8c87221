"""What the quality benchmark denoises: slices of the scans and of the phantom, noise of every dose and simulator.

Owns which slices of which scan are used, with which neighbours, seeds and noise. Anatomy that is drawn for the
benchmark is in `quality_anatomy`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.analysis.regions import segment
from IPv2Lib.evaluation import edges
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume
from IPv2Lib.simulation import phantom
from IPv2Lib.simulation.dose import PHOTONS, simulate
from IPv2Lib.simulation.projection import Kernel

TRAINING = ("lungdx_A0001", "lidc_0001", "acrin_042", "fda_phantom")
SYNTHETIC = "synthetic"
VALIDATION = ("lungdx_A0002", "nlst_101287", "fda_phantom", SYNTHETIC)
TRAINED_UP_TO, TESTED_FROM = 68, 72
"""Slices of fda_phantom before the first are trained on; the benchmark scores those from the second on."""

SYNTHETIC_SEED = 7
TUNING_SEED = 6
"""Of the synthetic chest that filters are tuned on where there are no scans."""

DOSES = (0.01, 0.02, 0.05, 0.1, 0.25)
SIMULATORS = ("physical", "published")
REACH = 2
"""Slices on either side of one that is scored, for networks that look at their neighbours."""

BORDERS = {"lung border": (Region.LUNG, Region.SOFT_TISSUE), "bone": (Region.SOFT_TISSUE, Region.BONE)}


@dataclass(frozen=True, eq=False)
class Block:
    """Slices of one scan without simulated noise.

    Attributes
    ----------
    name : str
        Says which scan and slices, uniquely.
    scan : str
        The file, without its ending, or "synthetic".
    clean : Volume
        float32 HU, with neighbours.
    scored : tuple of int
        Places in `clean` of the slices that are measured.
    """

    name: str
    scan: str
    clean: Volume
    scored: tuple[int, ...]

    @property
    def ground_truth(self) -> np.ndarray:
        """The scored slices, HU."""
        return self.clean.array[list(self.scored)]

    @property
    def spacing_mm(self) -> float:
        """Between pixels."""
        return self.clean.spacing[0]

    @cached_property
    def labels(self) -> np.ndarray:
        """`Region` of every pixel of the scored slices."""
        return segment(self.ground_truth, self.clean.spacing)

    @cached_property
    def body(self) -> np.ndarray:
        """Where lung, soft tissue or bone is."""
        return self.labels >= Region.LUNG

    @cached_property
    def borders(self) -> dict[str, list[edges.Border]]:
        """Borders of each scored slice, by name.

        Profiles are followed to their end: cut off where bone becomes marrow again, a third of a blur goes unnoticed.
        """
        return {
            name: [
                _whole(edges.find_border(image, labels, self.spacing_mm, dark, bright))
                for image, labels in zip(self.ground_truth, self.labels, strict=True)
            ]
            for name, (dark, bright) in BORDERS.items()
        }


def _whole(border: edges.Border) -> edges.Border:
    return replace(border, top=border.reach)


@dataclass(frozen=True, eq=False)
class Case:
    """A block with simulated noise, which is only made when it is looked at.

    Attributes
    ----------
    block : Block
        What the result is compared with.
    dose : float
        Fraction.
    simulator : str
        "physical", "published", or "none": `source` as it is.
    source : Volume, optional
        What the noise is added to, if not the block itself.
    kernel : str or Kernel
    photons : float
        N₀ per ray at dose 1.
    seed : int
    """

    block: Block
    dose: float
    simulator: str = "physical"
    source: Volume | None = None
    kernel: str | Kernel = "hann"
    photons: float = PHOTONS
    seed: int = 0

    @property
    def key(self) -> tuple[Any, ...]:
        """What the noisy slices and the ground truth depend on, for a cache."""
        named = self.kernel if isinstance(self.kernel, str) else (self.kernel.name, *self.kernel.gain)
        return (self.block.name, *self._contents, self.dose, self.simulator, named, self.photons, self.seed)

    @cached_property
    def _contents(self) -> list[str]:
        return [volume.sha256() for volume in (self.block.clean, self.source) if volume is not None]

    @property
    def noisy(self) -> Volume:
        """All slices with noise, neighbours included, HU."""
        return _noisy(self)

    @property
    def images(self) -> np.ndarray:
        """The scored slices with noise, HU."""
        return self.noisy.array[list(self.block.scored)]


@lru_cache(maxsize=4)
def _noisy(case: Case) -> Volume:
    source = case.block.clean if case.source is None else case.source
    if case.simulator == "none":
        return source
    return simulate(
        source,
        case.dose,
        method=case.simulator,
        kernel=case.kernel,
        photons=case.photons,
        views=512,
        seed=case.seed,
        source_dose=None,
    )


def folder() -> Path:
    """Where the scans are."""
    return Path(os.environ.get("IPV2_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


def present(scan: str) -> bool:
    """Whether a scan is there; the phantom always is."""
    return scan == SYNTHETIC or (folder() / f"{scan}.nrrd").is_file()


@lru_cache(maxsize=3)
def scan_volume(scan: str, size: int = 512) -> Volume:
    """A whole scan, or the middle 16 slices of the synthetic chest."""
    if scan == SYNTHETIC:
        return phantom.chest(seed=SYNTHETIC_SEED, size=size, slices=16)
    return files.read(folder() / f"{scan}.nrrd")


def block(scan: str, slices: int, size: int = 512, training: bool = False) -> Block:
    """Evenly spaced slices of a scan, with neighbours.

    Parameters
    ----------
    scan : str
        One of `TRAINING` or `VALIDATION`.
    slices : int
        How many are scored.
    size : int
        Rows of the synthetic chest.
    training : bool
        Of fda_phantom: from the slices that are trained on.
    """
    volume = scan_volume(scan, size)
    first, last = 0, len(volume.array)
    if scan == "fda_phantom":
        first, last = (0, TRAINED_UP_TO) if training else (TESTED_FROM, last)
    # Not the outermost sixth: shoulders and upper abdomen would rule.
    centres = np.unique(np.linspace(first, last - 1, slices + 2).round().astype(int)[1:-1])
    return _block(volume, scan, [int(centre) for centre in centres])


def block_of(scan: str, centres: list[int]) -> Block:
    """These slices of a scan, with neighbours."""
    return _block(scan_volume(scan), scan, centres)


def _block(volume: Volume, scan: str, centres: list[int]) -> Block:
    around = np.asarray(centres)[:, None] + np.arange(-REACH, REACH + 1)
    chosen = np.unique(np.clip(around, 0, len(volume.array) - 1))
    clean = Volume(volume.array[chosen].astype(np.float32), volume.spacing)
    scored = tuple(int(np.flatnonzero(chosen == centre)[0]) for centre in centres)
    return Block(f"{scan} {volume.array.shape[1]}: {centres}", scan, clean, scored)


def tuning_contents() -> list[str]:
    """What the crops of `tuning_crops` depend on, for a cache."""
    return [source.clean.sha256() for source in _tuning_blocks(tuple(scan for scan in TRAINING if present(scan)))]


def tuning_crops(dose: float, simulator: str, side: int = 152) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """One crop of each training scan: with noise, without, and where the body is; of a chest if there is no scan."""
    scans = [scan for scan in TRAINING if present(scan)]
    crops = []
    for number, source in enumerate(_tuning_blocks(tuple(scans))):
        case = Case(source, dose, simulator, seed=1)
        image, ground_truth, body = case.images[0], source.ground_truth[0], source.body[0]
        rows, columns = np.nonzero(body)
        half = side // 2
        row, column = round(rows.mean()), round(columns.mean()) + (-1) ** number * side // 3
        row, column = (
            min(max(middle, half), length - half) for middle, length in zip((row, column), image.shape, strict=True)
        )
        part = (slice(row - half, row + half), slice(column - half, column + half))
        crops.append((image[part], ground_truth[part], body[part]))
    return crops


@lru_cache(maxsize=1)
def _tuning_blocks(scans: tuple[str, ...]) -> list[Block]:
    if scans:
        whole = [block(scan, 1, training=True) for scan in scans]
    else:
        chest = phantom.chest(seed=TUNING_SEED, size=256, slices=3)
        whole = [_block(chest, "tuning", [1])]
    # Filters see one slice: no neighbours to simulate.
    return [Block(b.name, b.scan, Volume(b.ground_truth, b.clean.spacing), (0,)) for b in whole]
