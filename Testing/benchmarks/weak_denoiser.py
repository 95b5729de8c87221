"""Compare classical filters as *Remove noise*, at equal noise reduction, on real scans with simulated 2 % dose.

    python Testing/benchmarks/weak_denoiser.py [FOLDER OF CT VOLUMES]

Prints one row per filter, then what `weak_denoise` itself does at several doses and strengths; `weak_denoiser.md`
says what was learnt from it. Needs only training volumes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from skimage import restoration

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "IPv2Denoise"))

from IPv2Lib.analysis import noise, regions  # noqa: E402
from IPv2Lib.analysis.region_labels import Region  # noqa: E402
from IPv2Lib.io import files  # noqa: E402
from IPv2Lib.io.volume import Volume  # noqa: E402
from IPv2Lib.purification import weak_denoiser  # noqa: E402
from IPv2Lib.simulation import dose  # noqa: E402

SLICES = {"lungdx_A0001": (8, 20, 32, 45), "lidc_0001": (12, 30, 45, 60)}
DOSE = 0.02
REMAINING = 0.5  # of the noise σ in soft tissue


def guided(image: np.ndarray, radius: int, sigma: float) -> np.ndarray:
    """Self-guided filter (He et al. 2013)."""

    def mean(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(values, 2 * radius + 1)

    local = mean(image)
    variance = np.maximum(mean(np.square(image - local)), 0)
    gain = variance / (variance + sigma * sigma)
    return mean(gain) * image + mean((1 - gain) * local)


def itk(function: Callable) -> Callable:
    return lambda image, *arguments: sitk.GetArrayFromImage(function(sitk.GetImageFromArray(image), *arguments))


def mixed(filtered: Callable) -> Callable:
    """Filters without a continuous parameter are mixed with the input."""
    return lambda image, p, sigma: image + min(p, 1.0) * (filtered(image) - image)


# name: filter(image in HU, parameter to tune, noise σ of the slice in HU)
FILTERS: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "Gaussian": lambda x, p, s: ndimage.gaussian_filter(x, p),
    "median 3x3, mixed": mixed(itk(lambda image: sitk.Median(image, (1, 1)))),
    "median 5x5, mixed": mixed(itk(lambda image: sitk.Median(image, (2, 2)))),
    "bilateral, 1.5 pixels": lambda x, p, s: itk(sitk.Bilateral)(x, 1.5, p * s, 50),
    "bilateral, 3 pixels": lambda x, p, s: itk(sitk.Bilateral)(x, 3.0, p * s, 50),
    "curvature flow": lambda x, p, s: itk(sitk.CurvatureFlow)(x, 0.1, max(1, round(10 * p))),
    "gradient diffusion": lambda x, p, s: itk(sitk.GradientAnisotropicDiffusion)(x, 0.125, p, 1, 5),
    "curvature diffusion": lambda x, p, s: itk(sitk.CurvatureAnisotropicDiffusion)(x, 0.125, p, 1, 5),
    "total variation, 10 iterations": lambda x, p, s: restoration.denoise_tv_chambolle(x, p * s, 0, 10),
    "total variation, 50 iterations": lambda x, p, s: restoration.denoise_tv_chambolle(x, p * s, 0, 50),
    "non-local means": lambda x, p, s: restoration.denoise_nl_means(
        x, patch_size=5, patch_distance=6, h=p * s, fast_mode=True
    ),
    "guided, radius 1": lambda x, p, s: guided(x, 1, p * s),
    "guided, radius 2": lambda x, p, s: guided(x, 2, p * s),
    "guided, radius 3": lambda x, p, s: guided(x, 3, p * s),
}


class Case:
    """One slice: clean, two independent noisy copies, where to measure."""

    def __init__(self, clean: np.ndarray, noisy: list[np.ndarray], labels: np.ndarray):
        self.clean, self.noisy = clean, noisy
        self.sigma = noise.noise_sigma(noisy[0], (labels > Region.LUNG))
        self.gradient = ndimage.gaussian_gradient_magnitude(clean, 1.0)
        # Vessels belong to the lung here: they are what the filter must not touch.
        lung = ndimage.binary_closing(labels == Region.LUNG, iterations=5)
        body = (labels >= Region.LUNG) & ~lung
        flat = ndimage.uniform_filter((self.gradient > 20).astype(float), 5) < 1e-9
        self.masks = {"lung": lung, "body": body}
        self.flat = body & flat & (np.abs(clean) < 150)
        parenchyma = ndimage.binary_erosion(labels == Region.LUNG, iterations=3)
        self.flat_lung = parenchyma & (self.gradient < np.median(self.gradient[parenchyma]))


def load_cases(folder: Path, fraction: float = DOSE) -> list[Case]:
    cases = []
    for name, chosen in SLICES.items():
        scan = files.read(folder / f"{name}.nrrd")
        clean = Volume(scan.array[list(chosen)].astype(np.float32), scan.spacing)
        noisy = [dose.simulate(clean, fraction, seed=seed).array for seed in (1, 2)]
        labels = regions.segment(clean.array, clean.spacing)
        cases += [Case(clean.array[i], [n[i] for n in noisy], labels[i]) for i in range(len(chosen))]
    return cases


def remaining(cases: list[Case], results: list[np.ndarray], where: str) -> float:
    pairs = [
        ((r - c.clean)[getattr(c, where)], (c.noisy[0] - c.clean)[getattr(c, where)])
        for c, r in zip(cases, results, strict=True)
    ]
    return float(np.mean([after.std() / before.std() for after, before in pairs]))


def tune(function: Callable, cases: list[Case]) -> float:
    """Parameter at which the noise in flat soft tissue is `REMAINING` of what it was."""
    low, high = 0.05, 8.0
    some = cases[1::4]
    for _ in range(9):
        middle = float(np.sqrt(low * high))
        results = [function(c.noisy[0], middle, c.sigma) for c in some]
        low, high = (middle, high) if remaining(some, results, "flat") > REMAINING else (low, middle)
    return float(np.sqrt(low * high))


def row(name: str, function: Callable, cases: list[Case]) -> str:
    p = tune(function, cases)
    start = time.process_time()
    first = [function(c.noisy[0], p, c.sigma) for c in cases]
    seconds = (time.process_time() - start) / len(cases)
    second = [function(c.noisy[1], p, c.sigma) for c in cases]
    cells = [f"{p:.2f}", f"{remaining(cases, first, 'flat'):.2f}", f"{remaining(cases, first, 'flat_lung'):.2f}"]
    for region in ("lung", "body"):
        structure, correlation, rmse = [], [], []
        for c, a, b in zip(cases, first, second, strict=True):
            mask = c.masks[region]
            residuals = (c.noisy[0] - a)[mask], (c.noisy[1] - b)[mask]
            # Independent noise does not survive the product: what does is anatomy.
            structure.append(np.mean(residuals[0] * residuals[1], dtype=np.float64))
            correlation.append(np.corrcoef(np.abs(residuals[0]), c.gradient[mask])[0, 1])
            rmse.append(np.mean(np.square(a - c.clean)[mask], dtype=np.float64))
        cells += [
            f"{np.sqrt(max(np.mean(structure), 0)):.1f}",
            f"{np.mean(correlation):+.2f}",
            f"{np.sqrt(np.mean(rmse)):.1f}",
        ]
    cells += biases(cases, first)
    return f"| {name} | " + " | ".join([*cells, f"{1000 * seconds:.0f}"]) + " |"


def biases(cases: list[Case], results: list[np.ndarray]) -> list[str]:
    """Mean change of HU in flat lung and in flat soft tissue."""
    return [
        f"{np.mean([(r - c.noisy[0])[getattr(c, where)].mean() for c, r in zip(cases, results, strict=True)]):+.1f}"
        for where in ("flat_lung", "flat")
    ]


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("IPV2_DATA", REPOSITORY.parent / "shared/data"))
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    cases = load_cases(folder)
    sigma = [
        np.mean([(c.noisy[0] - c.clean)[getattr(c, where)].std() for c in cases]) for where in ("flat_lung", "flat")
    ]
    print(f"{len(cases)} slices, dose {DOSE:g}, noise {sigma[0]:.0f} HU in lung, {sigma[1]:.0f} HU in soft tissue")
    print(
        "| filter | parameter | σ left, soft | σ left, lung | structure, lung | correlation, lung | RMSE, lung | "
        "structure, body | correlation, body | RMSE, body | bias, lung | bias, soft | CPU ms per slice |"
    )
    print("|---|" + "---|" * 12)
    for name, function in FILTERS.items():
        print(row(name, function, cases), flush=True)
    print("\n| dose | strength | σ left, soft | σ left, lung | bias, lung | bias, soft |")
    print("|---|---|---|---|---|---|")
    for fraction in (0.02, 0.1, 0.25):
        if fraction != DOSE:
            cases = load_cases(folder, fraction)
        for strength in (0.5, 1.0, 2.0):
            results = [weak_denoiser.weak_denoise(Volume(c.noisy[0][None]), strength).array[0] for c in cases]
            left = [f"{remaining(cases, results, where):.2f}" for where in ("flat", "flat_lung")]
            print(f"| {fraction:g} | {strength:g} | " + " | ".join(left + biases(cases, results)) + " |", flush=True)


if __name__ == "__main__":
    main()
