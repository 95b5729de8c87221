"""How much of the lung and of the room air CM2 covers on real scans with simulated 2 % dose.

    python Testing/benchmarks/masks.py [FOLDER OF CT VOLUMES] [SLICES PER VOLUME]

The bar is at least 97 % of the lung and at most 0.5 % of the room air. `published` is CM2 without
`drop_enclosed_air`; `uLDCT alone` is what the noisy scan would give without its NDCT. The reference regions are
`regions.segment` of the clean scan.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "IPv2Denoise"))

from IPv2Lib.analysis import regions  # noqa: E402
from IPv2Lib.analysis.region_labels import Region  # noqa: E402
from IPv2Lib.io import files  # noqa: E402
from IPv2Lib.io.volume import Volume  # noqa: E402
from IPv2Lib.purification import purify as purification  # noqa: E402
from IPv2Lib.purification.settings import IPV2  # noqa: E402
from IPv2Lib.simulation import dose  # noqa: E402

MASKS_ONLY = replace(IPV2, add_noise=False, remove_noise=False)
PUBLISHED = replace(MASKS_ONLY, drop_enclosed_air=False)


def main() -> None:
    arguments = sys.argv[1:]
    folder = Path(arguments[0] if arguments else os.environ.get("IPV2_DATA", REPOSITORY.parent / "shared/data"))
    slices = int(arguments[1]) if len(arguments) > 1 else 8
    print("| volume | lung | room air | room air, published | lung, uLDCT alone | ms per slice |")
    print("|---|---|---|---|---|---|")
    for path in sorted(folder.glob("*.nrrd")):
        scan = files.read(path)
        chosen = np.unique(np.linspace(0, len(scan.array) - 1, slices).round().astype(int))
        ndct = Volume(scan.array[chosen], scan.spacing)
        uldct = dose.simulate(ndct, 0.02)
        labels = regions.segment(ndct.array, ndct.spacing)
        start = time.perf_counter()
        cm2 = purification.purify(uldct, ndct, MASKS_ONLY).cm2
        milliseconds = 1000 * (time.perf_counter() - start) / len(chosen)
        published = purification.purify(uldct, ndct, PUBLISHED).cm2
        alone = purification.purify(uldct, uldct, MASKS_ONLY).cm2
        lung, air = (labels == region for region in (Region.LUNG, Region.BACKGROUND))
        cells = [cm2[lung].mean(), cm2[air].mean(), published[air].mean(), alone[lung].mean()]
        print(f"| {path.stem} | " + " | ".join(f"{100 * cell:.2f} %" for cell in cells) + f" | {milliseconds:.0f} |")


if __name__ == "__main__":
    main()
