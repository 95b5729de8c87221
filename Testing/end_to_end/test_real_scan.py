"""The bundled model on real scans: HU stay, noise goes, and it beats a plain filter."""

import numpy as np
import pytest
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.analysis.region_statistics import statistics
from IPv2Lib.analysis.regions import segment
from IPv2Lib.inference.denoise import denoise
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume, same_grid
from IPv2Lib.models import bundle
from IPv2Lib.simulation.dose import simulate
from scipy import ndimage


def slices(path, chosen) -> Volume:
    volume = files.read(path)
    return Volume(volume.array[chosen], volume.spacing, volume.origin, volume.direction)


def test_a_real_low_dose_scan_keeps_its_hu_and_loses_noise(data_folder):
    scan = slices(data_folder / "nlst_101287.nrrd", slice(69, 73))
    result = denoise(scan, bundle.load(bundle.default_name())).volume
    assert same_grid(scan, result) and result.array.dtype == scan.array.dtype
    found = {row.region: row for row in statistics(segment(scan.array, scan.spacing), scan.array, result.array)}
    assert found[Region.SOFT_TISSUE].noise_reduction > 0.5
    for region in (Region.LUNG, Region.SOFT_TISSUE):
        assert abs(found[region].bias) < 3.0


def test_two_percent_dose_beats_the_best_gaussian(data_folder):
    clean = slices(data_folder / "lungdx_A0002.nrrd", slice(14, 17))
    uldct = simulate(clean, 0.02, seed=5)
    body = segment(clean.array, clean.spacing)[1] >= Region.LUNG

    def rmse(image: np.ndarray) -> float:
        return float(np.sqrt(np.mean((image.astype(np.float32) - clean.array[1])[body] ** 2)))

    best = min(rmse(ndimage.gaussian_filter(uldct.array[1], sigma)) for sigma in (1.0, 1.5, 2.0, 2.5))
    result = denoise(uldct, bundle.load(bundle.default_name())).volume.array[1]
    assert rmse(result) < 0.8 * best
    assert np.mean((result - clean.array[1])[body]) == pytest.approx(0.0, abs=5.0)
