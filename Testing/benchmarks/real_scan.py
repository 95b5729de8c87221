"""The `denoise` command on a real low-dose scan, in three formats: `python Testing/benchmarks/real_scan.py [SCAN]`.

Denoises the scan (nlst_101287.nrrd of the folder that IPV2_DATA names, or ../shared/data) as NRRD, as a DICOM folder
made from it, and as NIfTI. Prints whether geometry and values agree, noise and mean in every region, how much of a
little more noise comes through, and how much structure the difference image holds: the correlation of its magnitude
with the gradient magnitude of the result, beside that of total variation that removes as much noise.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from IPv2Lib.analysis.noise import noise_sigma
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.analysis.region_statistics import statistics
from IPv2Lib.analysis.regions import segment
from IPv2Lib.inference.denoise import denoise
from IPv2Lib.inference.filters import FILTERS
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume, same_grid
from IPv2Lib.models import bundle
from IPv2Lib.simulation import dose
from IPv2Lib.simulation.matching import match_scan
from quality_cases import folder
from scipy import ndimage


def denoised(scan: Path, output: Path) -> Volume:
    subprocess.run([sys.executable, "-m", "IPv2Lib", "denoise", scan, output], check=True, stdout=subprocess.DEVNULL)
    return files.read(output)


def structure(before: np.ndarray, after: np.ndarray, body: np.ndarray) -> float:
    """Correlation of |difference| with the gradient magnitude of the smoothed result, inside the body."""
    difference = ndimage.gaussian_filter(np.abs(after - before), (0, 1, 1))
    smooth = ndimage.gaussian_filter(after, (0, 1, 1))
    gradient = np.hypot(*np.gradient(smooth, axis=(1, 2)))
    return float(np.corrcoef(difference[body], gradient[body])[0, 1])


def matching_total_variation(before: np.ndarray, sigma: float, tissue: np.ndarray) -> np.ndarray:
    """Total variation that leaves `sigma` HU of noise in the tissue."""
    low, high = 0.0, 500.0
    for _ in range(6):
        weight_hu = (low + high) / 2
        image = np.stack([FILTERS["tv"](x, weight_hu) for x in before])
        low, high = (weight_hu, high) if noise_sigma(image, tissue) > sigma else (low, weight_hu)
    return image


def passed_on(volume: Volume) -> None:
    """How much of a little more noise, of the scan's own kind, comes through: in lung σ alone holds texture too."""
    found = match_scan(volume)
    last = len(volume.array) - 1
    chosen = np.linspace(0.2 * last, 0.8 * last, 3).astype(int)[:, None] + [-1, 0, 1]
    scan = Volume(volume.array[chosen.ravel()].astype(np.float32), volume.spacing)
    noise = dose.simulate(scan, 1.0, photons=found.photons, kernel=found.kernel, source_dose=None).array - scan.array
    model = bundle.load(bundle.default_name())
    clean, more = (denoise(scan.with_array(scan.array + part * noise), model).volume.array for part in (0.0, 0.25))
    labels = segment(scan.array, scan.spacing)
    print()
    for region in (Region.LUNG, Region.SOFT_TISSUE, Region.BONE):
        mask = labels == region
        ratio = (more - clean)[mask].std() / (0.25 * noise[mask].std())
        print(f"{region.label:<18} noise of this scan by simulation {noise[mask].std():5.1f} HU, passed on {ratio:.0%}")


def main() -> None:
    scan = Path(sys.argv[1]) if len(sys.argv) > 1 else folder() / "nlst_101287.nrrd"
    volume = files.read(scan)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        result = denoised(scan, place / "out.nrrd")
        print("NRRD  geometry kept:", same_grid(volume, result))
        for name, output in (("DICOM", "series"), ("NIfTI", "scan.nii.gz")):
            again = denoised(files.write(volume, place / output), place / f"denoised-{output}")
            difference = np.abs(again.array.astype(np.float32) - result.array).max()
            print(f"{name} geometry kept: {same_grid(volume, again)}, largest difference to NRRD {difference:g} HU")
    # By the result: regions chosen by noisy values hold what noise raised into them, and even the ground truth would
    # then seem to lower bone (by 13 HU at a tenth of the dose of lungdx_A0002, with the clean scan as the result).
    labels = segment(result.array, result.spacing)
    print(f"\n{'region':<18} {'mean shift':>10} {'σ before':>9} {'σ after':>8} {'reduction':>10}   high-pass σ")
    for row in statistics(labels, volume.array, result.array)[-4:]:
        mask = labels == row.region
        before, after = noise_sigma(volume.array, mask), noise_sigma(result.array, mask)
        part = f"{1 - after / before:.0%}" if before else "-"
        print(
            f"{row.region.label:<18} {row.bias:10.2f} {row.sigma_before:9.1f} {row.sigma_after:8.1f} "
            f"{row.noise_reduction if row.sigma_before > 1 else np.nan:10.0%}   {before:.1f} to {after:.1f} ({part})"
        )
    some = np.linspace(10, len(volume.array) - 10, 6).astype(int)
    before, after, part = (a[some].astype(np.float32) for a in (volume.array, result.array, labels))
    tissue = part == Region.SOFT_TISSUE
    plain = matching_total_variation(before, noise_sigma(after, tissue), tissue)
    ours, theirs = (structure(before, image, part >= Region.LUNG) for image in (after, plain))
    passed_on(volume)
    print(f"\nstructure in the difference: {ours:.3f}; total variation with the same noise left: {theirs:.3f}")


if __name__ == "__main__":
    main()
