"""Physical dose simulation against a plain scikit-image implementation of the same formulas, in one run.

Prints noise σ and bias in lung and soft tissue at several doses, and seconds per slice. Run it with
`python Testing/benchmarks/simulation.py [VOLUME]`; without a volume it uses a synthetic chest.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.analysis.regions import segment
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume
from IPv2Lib.simulation.dose import ELECTRONIC_VARIANCE, PHOTONS, WATER_PER_MM, simulate
from skimage.transform import iradon, radon

VIEWS = 512


def plain(hu: np.ndarray, spacing: float, dose: float, seed: int) -> np.ndarray:
    """The formulas of `dose.simulate`, method "physical", with scikit-image's Radon transform."""
    rng = np.random.default_rng(seed)
    size = len(hu)
    margin = int(np.ceil(size * (np.sqrt(2) - 1) / 2))
    mu = np.pad(WATER_PER_MM * np.maximum(1 + hu / 1000, 0), margin)
    theta = np.arange(VIEWS) * 180 / VIEWS
    p = radon(mu, theta, circle=True) * spacing
    expected = dose * PHOTONS * np.exp(-p)
    counts = rng.poisson(expected) + rng.normal(0, ELECTRONIC_VARIANCE**0.5, p.shape)
    error = -np.log(np.maximum(counts, 1) / (dose * PHOTONS)) - p
    image = iradon(error, theta, filter_name="hann", circle=True, output_size=len(mu))
    return (image * 1000 / (WATER_PER_MM * spacing))[margin : margin + size, margin : margin + size]


def main() -> None:
    if len(sys.argv) > 1:
        volume = files.read(sys.argv[1])
        middle = len(volume.array) // 2
        volume = Volume(np.clip(volume.array[middle - 1 : middle + 1], -1000, 3071), volume.spacing)
    else:
        from IPv2Lib.simulation import phantom

        volume = phantom.chest(seed=0, size=512, slices=2, field_of_view=False)
    array = np.asarray(volume.array, np.float32)
    labels = segment(volume.array, volume.spacing)
    print(f"{'dose':>6} {'region':>12} {'σ plain':>9} {'σ ours':>9} {'ratio':>7} {'bias plain':>11} {'bias ours':>10}")
    for dose in (0.5, 0.25, 0.1, 0.02, 0.01):
        ours = simulate(volume, dose, source_dose=None, views=VIEWS).array - array
        theirs = np.stack([plain(hu, volume.spacing[0], dose, seed) for seed, hu in enumerate(array)])
        for region in (Region.LUNG, Region.SOFT_TISSUE):
            a, b = theirs[labels == region], ours[labels == region]
            print(
                f"{dose:6.0%} {region.label:>12} {a.std():9.2f} {b.std():9.2f} {b.std() / a.std():7.3f} "
                f"{a.mean():11.2f} {b.mean():10.2f}"
            )
    theirs = best_time(lambda: plain(array[0], volume.spacing[0], 0.02, 0))
    for slices in (1, 8):
        batch = Volume(np.repeat(volume.array[:1], slices, 0), volume.spacing)
        ours = best_time(lambda batch=batch: simulate(batch, 0.02, views=VIEWS)) / slices
        print(f"{slices} slice(s) at once: plain {theirs:.2f} s, ours {ours:.3f} s a slice: {theirs / ours:.0f}x")


def best_time(function: Callable[[], object], rounds: int = 3) -> float:
    """Seconds of the fastest of some rounds: other work on the machine only ever adds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
