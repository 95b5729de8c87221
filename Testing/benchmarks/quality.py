"""The bundled model against classical filters, in one run: `python Testing/benchmarks/quality.py [MODEL]`.

Input: axial slices of the two validation volumes with 2 % dose simulated (physical, 512 views, N0 = 1.5e5, Hann).
Every classical filter has its parameter chosen on the training volumes. Prints the RMSE inside the body in the
window [-1024, 600] HU, and the bias in every region, against the normal-dose scan (whose own noise is a floor).
Needs the volumes in the folder that IPV2_DATA names, or ../shared/data.
"""

import os
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from IPv2Lib import bundle, ct
from IPv2Lib.denoise import denoise
from IPv2Lib.dose import simulate
from IPv2Lib.regions import Region, segment
from scipy import ndimage
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

TRAINING = ("lungdx_A0001", "lidc_0001", "acrin_042", "fda_phantom")
VALIDATION = ("lungdx_A0002", "nlst_101287")
FOLDER = Path(os.environ.get("IPV2_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


def tv(x: np.ndarray, weight: float) -> np.ndarray:
    return 1000 * denoise_tv_chambolle(x / 1000, weight, max_num_iter=100)


def nl_means(x: np.ndarray, strength: float) -> np.ndarray:
    return denoise_nl_means(x, 5, 9, strength, fast_mode=True)


def bilateral(x: np.ndarray, hu: float) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.Bilateral(sitk.GetImageFromArray(x), 2.0, hu))


def curvature_flow(x: np.ndarray, steps: int) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.CurvatureFlow(sitk.GetImageFromArray(x), 0.125, steps))


FILTERS = {
    "Gaussian": (ndimage.gaussian_filter, (0.8, 1.0, 1.2, 1.5, 1.8, 2.2)),
    "median": (ndimage.median_filter, (3, 5, 7)),
    "total variation": (tv, (0.05, 0.1, 0.15, 0.2, 0.3, 0.4)),
    "non-local means": (nl_means, (60.0, 90.0, 120.0, 160.0)),
    "bilateral": (bilateral, (150.0, 300.0, 500.0)),
    "curvature flow": (curvature_flow, (5, 10, 20, 40)),
}


def case(name: str, slices: int, dose: float = 0.02) -> tuple[ct.Volume, ct.Volume, np.ndarray, list[int]]:
    """Noisy and clean blocks of slices around evenly spaced ones, body labels, and which slices to score."""
    volume = ct.read(FOLDER / f"{name}.nrrd")
    centres = np.linspace(0, len(volume.array) - 1, slices + 2).round().astype(int)[1:-1]
    chosen = np.unique(np.clip(centres[:, None] + [-1, 0, 1], 0, len(volume.array) - 1))
    clean = ct.Volume(volume.array[chosen].astype(np.float32), volume.spacing)
    noisy = simulate(clean, dose, source_dose=None, views=512)
    return noisy, clean, segment(clean.array, clean.spacing), [int(np.flatnonzero(chosen == c)[0]) for c in centres]


def rmse(result: np.ndarray, clean: np.ndarray, labels: np.ndarray) -> float:
    body = labels >= Region.LUNG
    return float(np.sqrt(np.mean((np.clip(result, -1024, 600) - np.clip(clean, -1024, 600))[body] ** 2)))


def main() -> None:
    training = []
    for name in TRAINING:
        noisy, clean, labels, scored = case(name, 2)
        training += [(noisy.array[k], clean.array[k], labels[k]) for k in scored]
    tuned = {}
    for name, (function, values) in FILTERS.items():
        scores = [np.mean([rmse(function(x, v), y, m) for x, y, m in training]) for v in values]
        tuned[name] = values[int(np.argmin(scores))]
    model = bundle.load(sys.argv[1] if len(sys.argv) > 1 else bundle.default_name())
    print("body RMSE, HU", *(f"{name:>14}" for name in VALIDATION))
    cases = [case(name, 6) for name in VALIDATION]
    rows = {"input": [rmse(n.array[s], c.array[s], m[s]) for n, c, m, s in cases]}
    for name, value in tuned.items():
        function = FILTERS[name][0]
        rows[f"{name} {value:g}"] = [
            rmse(np.stack([function(n.array[k], value) for k in s]), c.array[s], m[s]) for n, c, m, s in cases
        ]
    best = np.min([values for name, values in rows.items() if name != "input"], axis=0)
    results = [denoise(n, model).volume.array for n, _, _, _ in cases]
    rows[model.name] = [rmse(r[s], c.array[s], m[s]) for r, (_, c, m, s) in zip(results, cases, strict=True)]
    for name, values in rows.items():
        print(f"{name:<22}", *(f"{v:14.1f}" for v in values))
    below = 1 - np.array(rows[model.name]) / best
    print(f"{'below the best filter':<22}", *(f"{part:14.1%}" for part in below))
    print("\nmean bias, HU", *(f"{name:>14}" for name in VALIDATION))
    for region in (Region.BACKGROUND, Region.LUNG, Region.SOFT_TISSUE, Region.BONE):
        bias = [(r[s] - c.array[s])[m[s] == region].mean() for r, (_, c, m, s) in zip(results, cases, strict=True)]
        print(f"{region.label:<22}", *(f"{b:14.1f}" for b in bias))


if __name__ == "__main__":
    main()
