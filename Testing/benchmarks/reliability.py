"""Whether the expected error of `ipv2 denoise --reliability` is what errors are, and what it costs.

    python Testing/benchmarks/reliability.py [DENOISER ...] [--fit] [--slices N] [--doses D ...]

Denoisers are those of `ipv2 compare`, by default the bundled models. Printed are the share of errors within ±σ_e (bar:
62 to 74 %), the part of the squared error that the 5 % of the body with the largest σ_e hold, over 5 % (bar: 3), and
the time with reliability over the time without (bar: 3). The scans are those that no model was trained on, and the
synthetic chest of another seed, the only one whose ground truth has no noise. The noise of a scan's own is part of the
difference, but no error: its variance, as strong as in homogeneous soft tissue, is added to σ_e² for the share, and
taken from the squared error for the ranking.

`--fit` prints the factors of `reliability.CALIBRATION` instead: those with which 68.3 % of the errors are within ±σ_e,
on average over scans for training, a chest of a third seed, and doses.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "IPv2Denoise"))

from IPv2Lib.analysis.noise import local_sigma  # noqa: E402
from IPv2Lib.analysis.region_labels import Region  # noqa: E402
from IPv2Lib.inference import denoisers  # noqa: E402
from IPv2Lib.inference.reliability import CALIBRATION, FLOOR_HU, expected_error  # noqa: E402
from IPv2Lib.simulation import phantom  # noqa: E402
from quality_cases import SYNTHETIC, TUNING_SEED, Block, Case, block, present  # noqa: E402
from scipy import optimize  # noqa: E402

FITTED = ("lungdx_A0001", "lidc_0001", "acrin_042")
TESTED = ("lungdx_A0002", "nlst_101287", SYNTHETIC)
OWN_NOISE_HU = {"lungdx_A0001": 6, "lidc_0001": 13, "acrin_042": 11, "lungdx_A0002": 9, "nlst_101287": 24}
"""σ in homogeneous soft tissue of the scans as they are, from their description."""

DOSES = (0.02, 0.05, 0.1, 0.25)
WITHIN, WORST = 0.6827, 0.05


@dataclass(frozen=True, eq=False)
class Errors:
    """Of the scored slices of a scan at one dose, HU: the error, what was expected, and the noise of the scan's own."""

    scan: str
    dose: float
    labels: np.ndarray
    error: np.ndarray
    expected: np.ndarray
    own: np.ndarray
    cost: float

    def within(self, region: Region, factor: float = 1.0) -> float:
        """Share of a region's errors within ±σ_e, if `factor` were the region's in the calibration."""
        variance = factor**2 * (self.expected**2 - FLOOR_HU**2) + FLOOR_HU**2 + self.own**2
        return float((self.error**2 <= variance)[self.labels == region].mean())

    @property
    def ranking(self) -> float:
        """Squared error of the voxels with the largest σ_e, over what as many voxels hold on average."""
        body = self.labels >= Region.LUNG
        expected, squared = self.expected[body], (self.error**2 - self.own**2)[body]
        return float(squared[expected >= np.quantile(expected, 1 - WORST)].sum() / squared.sum() / WORST)


def errors_of(denoiser: denoisers.Denoiser, source: Block, dose: float, calibration: Mapping[Region, float]) -> Errors:
    """Denoise a block with simulated noise, and compare."""
    noisy = Case(source, dose).noisy
    start = time.perf_counter()
    output = denoiser.denoise(noisy)
    plain = time.perf_counter() - start
    found = expected_error(noisy, output, denoiser.denoise, calibration=calibration)
    cost = (time.perf_counter() - start) / plain
    chosen = list(source.scored)
    error, expected = output.array[chosen] - source.ground_truth, found.expected_error.array[chosen]
    return Errors(source.scan, dose, source.labels, error, expected, _own_noise(source, noisy.array[chosen]), cost)


def _own_noise(source: Block, noisy: np.ndarray) -> np.ndarray:
    """σ of the noise that a scan has: elsewhere than in soft tissue, in proportion to the added one."""
    added = np.stack([local_sigma(each) for each in noisy - source.ground_truth])
    return added * OWN_NOISE_HU.get(source.scan, 0) / np.median(added[source.labels == Region.SOFT_TISSUE])


def blocks(scans: Sequence[str], slices: int) -> Iterator[Block]:
    """Of the scans that are there."""
    for scan in scans:
        if present(scan):
            yield block(scan, slices)


def tuning_chest() -> Block:
    """A synthetic chest that nothing is tested on."""
    return Block(SYNTHETIC, SYNTHETIC, phantom.chest(seed=TUNING_SEED, size=512, slices=5), (2,))


def fit(found: Sequence[Errors]) -> str:
    """The factors, as the calibration has them."""
    factors = {
        region: optimize.brentq(
            lambda factor, region=region: np.mean([each.within(region, factor) for each in found]) - WITHIN, 0.01, 100
        )
        for region in CALIBRATION
    }
    return ", ".join(f"Region.{region.name}: {factor:.2f}" for region, factor in factors.items())


def fit_all(chosen: Sequence[denoisers.Denoiser], doses: Sequence[float], slices: int) -> None:
    """Print the factors of each denoiser, and those of all."""
    sources = [*blocks(FITTED, slices), tuning_chest()]
    found: list[Errors] = []
    for denoiser in chosen:
        its = [errors_of(denoiser, source, dose, {}) for source in sources for dose in doses]
        print(f"{denoiser.name}: {fit(its)}", flush=True)
        found += its
    print(f"all: {fit(found)}")


def measure(denoiser: denoisers.Denoiser, doses: Sequence[float], slices: int) -> None:
    """Print the table."""
    print(f"| {denoiser.name} | dose | lung | soft tissue | bone | worst 5 % | time |\n|---|---|---|---|---|---|---|")
    for source in blocks(TESTED, slices):
        for dose in doses:
            found = errors_of(denoiser, source, dose, CALIBRATION)
            shares = " | ".join(f"{100 * found.within(region):.0f} %" for region in CALIBRATION)
            print(f"| {found.scan} | {dose:.0%} | {shares} | {found.ranking:.1f} | {found.cost:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("denoisers", nargs="*", default=["ipv2-fast", "ipv2-quality"], metavar="DENOISER")
    parser.add_argument("--fit", action="store_true", help="print the factors of the calibration")
    parser.add_argument("--slices", type=int, default=1, help="of each scan (default: 1)")
    parser.add_argument("--doses", type=float, nargs="+", default=DOSES, help="fractions (default: 0.02 0.05 0.1 0.25)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        chosen = [denoisers.find(name, Path(folder), device="cpu") for name in options.denoisers]
        if options.fit:
            fit_all(chosen, options.doses, options.slices)
            return
        for denoiser in chosen:
            measure(denoiser, options.doses, options.slices)


if __name__ == "__main__":
    main()
