"""Part 3 of the quality benchmark, nodules: what is kept of those that are there, and whether any are invented.

Nodules of known size and HU are put into the lungs of the synthetic chest, drawn as the phantom draws its own; for the
other question the lung is replaced by its mean, so that whatever looks like a nodule in the result was made of noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.analysis.regions import segment
from IPv2Lib.io.volume import Volume
from quality_cases import SYNTHETIC, Block, Case, scan_volume
from quality_measures import PATCH_PIXELS, contrast, excess, whole_patches
from quality_methods import INPUT, Bench, Method
from quality_rows import Bar, Row
from scipy import ndimage

DIAMETERS_MM = (3.0, 4.0, 6.0, 8.0)
NODULES_HU = (-600.0, -400.0, -100.0, 50.0)
DOSE = 0.05
INVENTED_DOSES = (0.02, 0.05)
PATCHES = 1000
SEEDS = 3
PARENCHYMA_BELOW_HU = -700.0
"""Around a nodule there is nothing brighter: no vessel, no wall."""

SLICES = (5, 7, 9, 11)
"""Of the 16 of the synthetic chest, those with nodules."""

FREE_MM = 6.0
"""Between a nodule and whatever else is there."""


@dataclass(frozen=True)
class Placed:
    """A nodule: number of the scored slice, row and column of its centre, diameter, HU."""

    slice: int
    row: float
    column: float
    diameter_mm: float
    hu: float


@lru_cache(maxsize=2)
def nodules(size: int = 512) -> tuple[Block, tuple[Placed, ...]]:
    """The chest with every size and HU in every other slice, and where they are."""
    chest = scan_volume(SYNTHETIC, size)
    array = chest.array.copy()
    random = np.random.default_rng(7)
    kinds = list(product(DIAMETERS_MM, NODULES_HU))
    placed: list[Placed] = []
    for number, index in enumerate(SLICES):
        # Half of the kinds in each slice: there is not room for more.
        chosen = [kind for place, kind in enumerate(kinds) if (place + place // 4) % 2 == number % 2]
        taken = np.zeros(array[index].shape, bool)
        for diameter, hu in sorted(chosen, reverse=True):
            row, column = _free_place(chest.array[index], taken, diameter, chest.spacing[0], random)
            placed.append(Placed(number, row, column, diameter, hu))
            array[index] = _with_nodule(array[index], placed[-1], chest.spacing[0])
    volume = chest.with_array(array)
    return Block(f"nodules {size}", SYNTHETIC, volume, SLICES), tuple(placed)


def _free_place(
    hu: np.ndarray, taken: np.ndarray, diameter_mm: float, spacing_mm: float, random: np.random.Generator
) -> tuple[float, float]:
    """A pixel with nothing but parenchyma around; the room around it is taken afterwards."""
    lung = segment(hu[None])[0] == Region.LUNG
    open_lung = lung & (hu > -940) & (hu < PARENCHYMA_BELOW_HU) & ~taken
    room = ndimage.distance_transform_edt(open_lung) * spacing_mm
    places = np.argwhere(room > diameter_mm / 2 + FREE_MM)
    if not len(places):
        # The roomiest place there is.
        places = np.argwhere(room == room.max())
    row, column = places[random.integers(len(places))]
    rows, columns = np.indices(hu.shape)
    taken |= np.hypot(rows - row, columns - column) * spacing_mm < diameter_mm / 2 + 3
    return float(row), float(column)


def _with_nodule(image: np.ndarray, nodule: Placed, spacing_mm: float) -> np.ndarray:
    """One slice with a nodule, its rim as soft as `phantom` draws it."""
    blur, radius = max(spacing_mm, 1.0), nodule.diameter_mm / 2
    rows, columns = np.indices(image.shape)
    distance = np.hypot(rows - nodule.row, columns - nodule.column) * spacing_mm
    covered = np.clip(0.5 + (radius - distance) / blur, 0, 1) * radius**2 / (radius**2 + blur**2 / 12)
    return (image + covered * (nodule.hu - image)).astype(np.float32)


def contrasts(images: np.ndarray, placed: tuple[Placed, ...], spacing_mm: float) -> np.ndarray:
    """Contrast of every nodule in HU, (nodules,)."""
    return np.array(
        [contrast(images[n.slice], (n.row, n.column), n.diameter_mm, spacing_mm) for n in placed], np.float64
    )


def nodule_case(bench: Bench, seed: int = 0) -> tuple[Case, tuple[Placed, ...]]:
    """The chest with nodules at 5 % dose."""
    block, placed = nodules(256 if bench.quick else 512)
    return Case(block, DOSE, seed=seed), placed


def compared(bench: Bench, case: Case) -> list[tuple[str, Method]]:
    """Input, the filter that is best on the training scans, and models, by the name in the table."""
    return [("input", INPUT), ("best filter", bench.usual_filter(case.dose)), *((m.name, m) for m in bench.models)]


def kept(bench: Bench) -> list[Row]:
    """Part 3, nodules: mean contrast over that of the ground truth, by size and HU."""
    first, placed = nodule_case(bench)
    spacing = first.block.spacing_mm
    ground_truth = contrasts(first.block.ground_truth, placed, spacing)
    cases = [nodule_case(bench, seed)[0] for seed in range(1 if bench.quick else SEEDS)]
    rows = []
    for name, method in compared(bench, first):
        found = np.array([_contrasts(bench, method, case, placed) for case in cases])
        cells = []
        for kind in product(DIAMETERS_MM, NODULES_HU):
            these = [place for place, n in enumerate(placed) if (n.diameter_mm, n.hu) == kind]
            value = float(found[:, these].mean() / ground_truth[these].mean())
            cell = f"{kind[0]:g} mm, {kind[1]:g} HU"
            cells.append((value, cell))
            rows.append(
                Row(3, name, "contrast kept", cell, value, "%", note=f"{found[:, these].size} measured", detail=True)
            )
        value, cell = min(cells)
        bar = Bar(low=0.85, unit="%") if method in bench.models else None
        rows.append(Row(3, name, "contrast kept", f"{DOSE:.0%}, worst: {cell}", value, "%", bar))
    return rows


def _contrasts(bench: Bench, method: Method, case: Case, placed: tuple[Placed, ...]) -> list[float]:
    return bench.cache.get(
        ("contrasts", *method.key, *case.key),
        lambda: contrasts(method.run(case), placed, case.block.spacing_mm).tolist(),
    )


def invented(bench: Bench) -> list[Row]:
    """Part 3, invented: patches of a lung without anything in which the result shows something."""
    limit = threshold_hu(bench)
    rows = []
    for dose in INVENTED_DOSES[:1] if bench.quick else INVENTED_DOSES:
        for name, method in compared(bench, flat_case(bench, dose, 0)):
            values = _largest_of_patches(bench, method, dose)
            count = int((values > limit).sum())
            bar = Bar(high=0) if method in bench.models else None
            note = f"above {limit:.0f} HU; largest {values.max():.0f} HU"
            rows.append(Row(3, name, "invented in lung", f"{dose:.0%}, {len(values)} patches", count, "", bar, note))
    return rows


def threshold_hu(bench: Bench) -> float:
    """Half of what the faintest nodule of the set shows in a lung without anything, measured as things invented are."""
    block, patches = flat(256 if bench.quick else 512)
    number, row, column = patches[0]
    middle = PATCH_PIXELS // 2
    faintest = Placed(number, row + middle, column + middle, DIAMETERS_MM[0], NODULES_HU[0])
    return 0.5 * excess(
        _with_nodule(block.ground_truth[number], faintest, block.spacing_mm), (row, column), block.spacing_mm
    )


@lru_cache(maxsize=2)
def flat(size: int = 512) -> tuple[Block, tuple[tuple[int, int, int], ...]]:
    """The chest with its lungs replaced by their mean HU; slice, row and column of the patches inside them."""
    chest = scan_volume(SYNTHETIC, size)
    array = chest.array.copy()
    scored = tuple(range(2, len(array) - 2))
    patches = []
    labels = segment(array, chest.spacing)
    for index, image in enumerate(array):
        lung = labels[index] == Region.LUNG
        closed = ndimage.binary_closing(np.pad(lung, 12), iterations=10)[12:-12, 12:-12]
        filled = ndimage.binary_fill_holes(closed)
        mean = float(np.mean(image[lung & (image > -940) & (image < PARENCHYMA_BELOW_HU)]))
        image[filled] = mean
        if index in scored:
            # Away from the wall, whose softness is no noise.
            inner = ndimage.binary_erosion(filled, iterations=6)
            patches += [(index - scored[0], *place) for place in whole_patches(inner)]
    return Block(f"flat lungs {size}", SYNTHETIC, Volume(array, chest.spacing), scored), tuple(patches)


def flat_case(bench: Bench, dose: float, seed: int) -> Case:
    """The chest with flat lungs at a dose."""
    return Case(flat(256 if bench.quick else 512)[0], dose, seed=seed)


def _largest_of_patches(bench: Bench, method: Method, dose: float) -> np.ndarray:
    """`excess` of `PATCHES` patches, of as many noise seeds as that takes, HU."""
    block, patches = flat(256 if bench.quick else 512)
    seeds = 1 if bench.quick else math.ceil(PATCHES / len(patches))
    values: list[float] = []
    for seed in range(seeds):
        case = flat_case(bench, dose, seed)

        def compute(case: Case = case) -> list[Any]:
            images = method.run(case)
            return [excess(images[k], (row, column), block.spacing_mm) for k, row, column in patches]

        values += bench.cache.get(("excess", *method.key, *case.key), compute)
    return np.array(values[:PATCHES])
