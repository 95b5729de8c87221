"""What `--match` finds of noise that is known: simulated on real scans, so strong that their own hardly counts.

    python Testing/benchmarks/matching.py [SCAN ...]

Prints for each scan N₀ over the true one with its interval (bar: within 25 %), σ over the true one in lung, soft tissue
and bone (10 %) and the mean frequency over the true one (10 %). Without scans, the synthetic chest and four others.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from IPv2Lib.analysis.noise import radial_power
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.analysis.regions import segment
from IPv2Lib.errors import InputError
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume
from IPv2Lib.simulation import phantom
from IPv2Lib.simulation.dose import simulate
from IPv2Lib.simulation.matching import match_scan
from quality_cases import folder

CASES = {
    "": (1.5, 7500), "lungdx_A0001": ("hann", 7500), "lidc_0001": (-0.5, 3000), "acrin_042": ("ramp", 7500),
    "kits_00072": (0.5, 4500),
}  # fmt: skip
"""Kernel and N₀ by scan; the synthetic chest has no name."""
REGIONS = (Region.LUNG, Region.SOFT_TISSUE, Region.BONE)
VIEWS = 384


def main() -> None:
    given = {path: ("hann", 7500) for path in sys.argv[1:]}
    for name, (look, photons) in (given or CASES).items():
        if not name:
            whole = phantom.chest(seed=3, size=512, slices=16)
        else:
            whole = files.read(Path(name) if name in given else folder() / f"{name}.nrrd")
        middle = len(whole.array) // 2
        clean = whole.with_array(whole.array[max(0, middle - 8) : middle + 8])
        print(f"{Path(name).stem or 'synthetic chest':16} {look!s:5} {row(clean, look, photons)}", flush=True)


def row(clean: Volume, look: str | float, photons: float) -> str:
    true = noise(clean, 5, kernel=look, photons=photons)
    scan = clean.with_array(np.clip(np.rint(clean.array + true), -1024, 3071).astype(np.int16))
    try:
        found = match_scan(scan, views=VIEWS)
    except InputError as error:
        return f"refused: {error}"
    again = noise(clean, 9, kernel=found.kernel, photons=found.photons)
    labels = segment(clean.array, clean.spacing)
    sigmas = [again[labels == region].std() / true[labels == region].std() for region in REGIONS]
    low, high = (end / photons for end in found.interval)
    return (
        f"N₀ {found.photons / photons:.2f} ({low:.2f} to {high:.2f}), σ {' '.join(f'{each:.2f}' for each in sigmas)}, "
        f"mean frequency {mean_frequency(again) / mean_frequency(true):.2f}"
    )


def noise(clean: Volume, seed: int, **how) -> np.ndarray:
    return simulate(clean, 1.0, source_dose=None, seed=seed, views=VIEWS, **how).array - clean.array


def mean_frequency(images: np.ndarray) -> float:
    rows, columns = (length // 2 for length in images.shape[1:])
    taper = np.hanning(128)
    frequency, power = radial_power(
        images[:, rows - 64 : rows + 64, columns - 64 : columns + 64] * np.outer(taper, taper)
    )
    return float((frequency * power).sum() / power.sum())


if __name__ == "__main__":
    main()
