"""Parts 1 to 3 of the quality benchmark: error, bias and edges of simulated low dose.

Each part is a function from the `Bench` to rows of the table. Part 4 is in `quality_physics`, parts 5 to 8
are in `quality_limits`, nodules and things invented in `quality_nodules`.
"""

from __future__ import annotations

import math

import numpy as np
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.inference.devices import seconds_per_slice
from quality_cases import BORDERS, SYNTHETIC, Block, Case
from quality_measures import TISSUES, blurred_half_frequency, edge_spectrum, half_frequency, scores
from quality_methods import CHECKED_DOSE, INPUT, REFERENCE, Bench, Method
from quality_rows import Bar, Row, worst
from scipy import ndimage

BELOW_FILTER = {"lungdx_A0002": 0.43, "nlst_101287": 0.13}
"""Least part by which a model's error is below that of the best filter."""

NDCT_NOISE_HU = (10.0, 24.0)
"""Like that of lungdx_A0002, and that of nlst_101287."""

JUDGED_DOSE = 0.02
"""Lower doses are reported only."""

CHECK_BLUR_MM = 0.8

STARVED = "fda_phantom"
"""Its slices are shoulders: at low dose hardly a photon comes through, and the simulated input itself is biased. It has
rows of its own, lest it decide all."""


def error(bench: Bench) -> list[Row]:
    """Part 1: RMSE in the body."""
    rows = [Row(1, name, "body RMSE", note="not installed") for name in bench.missing]
    for simulator in bench.simulators:
        for dose in sorted(bench.doses, reverse=True):  # filters are tuned from weak to strong
            for scan in bench.scans:
                case = bench.case(scan, dose, simulator)
                for method in bench.methods(case):
                    value = bench.scores(method, case).rmse_hu
                    rows.append(_error_row(method, case, value))
    for model in bench.models:
        for scan in bench.scans:
            case = bench.case(scan, CHECKED_DOSE)
            best = bench.best_filter(case)
            below = 1 - bench.scores(model, case).rmse_hu / bench.scores(best, case).rmse_hu
            low = BELOW_FILTER.get(scan)
            bar = Bar(low=low, unit="%") if low else None
            note = f"best filter: {best.name}"
            rows.append(Row(1, model.name, "error below best filter", f"{scan}, 2 %", below, "%", bar, note))
    return rows + _between_networks(bench)


def _error_row(method: Method, case: Case, value: float) -> Row:
    strength = f"strength {method.key[-1]:g}" if method.role == "filter" else ""
    shown = case.dose == CHECKED_DOSE and case.simulator == "physical" and case.block.scan in BELOW_FILTER
    where = f"{case.block.scan}, {case.dose:.0%}, {case.simulator}"
    return Row(1, method.name, "body RMSE", where, value, "HU", note=strength, detail=not shown)


def _between_networks(bench: Bench) -> list[Row]:
    """Fast against RED-CNN, quality against fast: mean error over the real scans at 2 %."""
    fast, quality = (next((m for m in bench.models if m.role == role), None) for role in ("fast", "quality"))
    redcnn = next((m for m in bench.rivals if m.model and m.model.card.network.name == "redcnn"), None)
    rows = []
    pairs = [(fast, redcnn, "fast", "redcnn", 0.05), (quality, fast, "quality", "fast", 0.04)]
    for better, worse, first, second, low in pairs:
        what = f"error below {second}"
        bar = Bar(low=low, unit="%")
        if better is None or worse is None:
            absent = first if better is None else second
            rows.append(Row(1, better.name if better else first, what, bar=bar, note=f"no {absent} model given"))
            continue
        for scan in [scan for scan in BELOW_FILTER if scan in bench.scans] or [SYNTHETIC]:
            case = bench.case(scan, CHECKED_DOSE)
            below = 1 - bench.scores(better, case).rmse_hu / bench.scores(worse, case).rmse_hu
            rows.append(Row(1, better.name, what, f"{scan}, 2 %", below, "%", bar))
    times = {
        method.name: float(np.median([seconds_per_slice("cpu", method.model) for _ in range(3)]))
        for method in [*bench.models, *bench.rivals]
    }
    rows += [Row(1, name, "time of a slice of 512²", value=value, unit="s") for name, value in times.items()]
    if fast and redcnn:
        value = times[redcnn.name] / times[fast.name]
        rows.append(Row(1, fast.name, "speed, times that of redcnn", value=value, unit="×", bar=Bar(low=20, unit="×")))
    return rows


def groups(bench: Bench) -> list[list[str]]:
    """Scans that share a row: all but the shoulders, and those."""
    parts = ([scan for scan in bench.scans if (scan == STARVED) == starved] for starved in (False, True))
    return [part for part in parts if part]


def bias(bench: Bench) -> list[Row]:
    """Part 2: mean error of each tissue."""
    rows = _bias_of_the_truth(bench)
    for model in bench.models:
        for dose in bench.doses:
            for tissue in TISSUES:
                for scans in groups(bench):
                    rows += _bias_rows(bench, model, dose, tissue.label, scans)
    return rows


def _bias_of_the_truth(bench: Bench) -> list[Row]:
    """What the ground truth itself gets against a noisy NDCT: which pixels count as bone depends on their noise."""
    source = bench.block(SYNTHETIC)
    rows = []
    for sigma_hu in NDCT_NOISE_HU:
        noisy = Case(source, 1.0, photons=photons_for(source, sigma_hu), seed=2).noisy
        scores_of_truth = scores(source.ground_truth, Block("noisy reference", SYNTHETIC, noisy, source.scored))
        for tissue, value in scores_of_truth.bias_hu.items():
            where = f"{SYNTHETIC}, NDCT with σ {sigma_hu:g} HU"
            rows.append(
                Row(2, "ground truth", f"bias of {tissue}", where, value, "HU", note="control: due to the labels")
            )
    return rows


def photons_for(source: Block, sigma_hu: float) -> float:
    """N₀ at which a scan has this noise in soft tissue: its variance is inversely proportional."""
    photons = 1.5e5
    case = Case(source, 1.0, photons=photons)
    noise = (case.images - source.ground_truth)[source.labels == Region.SOFT_TISSUE]
    return photons * float(noise.std() / sigma_hu) ** 2


def _bias_rows(bench: Bench, model: Method, dose: float, tissue: str, scans: list[str]) -> list[Row]:
    what, rows, found = f"bias of {tissue}", [], []
    for scan in scans:
        own, before = (bench.scores(m, bench.case(scan, dose)).bias_hu[tissue] for m in (model, INPUT))
        if not math.isnan(own):
            note = f"input: {before:+.1f} HU"
            found.append((own, scan, note))
            rows.append(Row(2, model.name, what, f"{scan}, {dose:.0%}", own, "HU", note=note, detail=True))
    if found:
        value, scan, note = max(found, key=lambda each: abs(each[0]))
        bar = Bar(-2.0, 2.0, "HU") if dose >= JUDGED_DOSE else None
        rows.append(Row(2, model.name, what, f"{dose:.0%}, worst: {scan}", value, "HU", bar, note))
    return rows


def border_sharpness(bench: Bench) -> list[Row]:
    """Part 3, edges: TTF50 of the result over that of the NDCT."""
    rows = _known_blur(bench)
    for dose in bench.doses:
        for border in BORDERS:
            for scans in groups(bench):
                for method in (INPUT, None, *bench.models):
                    rows += _sharpness_rows(bench, method, border, dose, scans)
    return rows


def _sharpness_rows(bench: Bench, method: Method | None, border: str, dose: float, scans: list[str]) -> list[Row]:
    """Of a method, or of the filter that is best in each case."""
    name, what = method.name if method else "best filter", f"TTF50 of {border} / NDCT"
    rows, found = [], []
    for scan in scans:
        case = bench.case(scan, dose)
        used = method or bench.best_filter(case)
        value = sharpness(bench, used, case, border)
        if not math.isnan(value):
            found.append((value, scan))
            rows.append(Row(3, name, what, f"{scan}, {dose:.0%}", value, note=used.name, detail=True))
    if found:
        control = method is INPUT
        value, scan = worst(found, 1.0) if control else min(found)
        case = f"{dose:.0%}, {'worst' if control else 'lowest'}: {scan}"
        bar = Bar(low=0.9) if method in bench.models and dose >= JUDGED_DOSE else None
        note = "control: 1 but for the noise of the measurement" if control else ""
        rows.append(Row(3, name, what, case, value, "", bar, note, _in_csv_only(bench, method, dose)))
    return rows


def sharpness(bench: Bench, method: Method, case: Case, border: str) -> float:
    """TTF50 over that of the NDCT; NaN where there is no such border."""
    own, reference = (half_frequency(bench.scores(each, case).spectrum(border)) for each in (method, REFERENCE))
    return own / reference


def _known_blur(bench: Bench) -> list[Row]:
    """The estimator on the clean slices, blurred by a Gaussian of known width."""
    rows = []
    for scan in bench.scans:
        block = bench.block(scan)
        blurred = np.stack([_blurred(x, CHECK_BLUR_MM / block.spacing_mm) for x in block.ground_truth])
        for border, borders in block.borders.items():
            expected = blurred_half_frequency(edge_spectrum(block.ground_truth, borders), CHECK_BLUR_MM)
            value = half_frequency(edge_spectrum(blurred, borders)) / expected
            if not math.isnan(value):
                what = f"TTF50 of {border} / expected"
                note = f"Gaussian of {CHECK_BLUR_MM} mm"
                rows.append(Row(3, "known blur", what, scan, value, "", Bar(0.95, 1.05), note))
    return rows


def _blurred(image: np.ndarray, sigma_pixels: float) -> np.ndarray:
    """By a true Gaussian: samples of a narrow one blur less."""
    return np.fft.ifft2(ndimage.fourier_gaussian(np.fft.fft2(image), sigma_pixels)).real


def _in_csv_only(bench: Bench, method: Method | None, dose: float) -> bool:
    """Input and best filter are in the table for one dose, lest it grow too long."""
    return method not in bench.models and dose != CHECKED_DOSE
