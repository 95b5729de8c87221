"""Parts 5 to 8 of the quality benchmark: other scanners, what is out of range, a real low-dose scan, other devices."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from IPv2Lib.analysis.noise import noise_sigma
from IPv2Lib.analysis.regions import Region, segment
from IPv2Lib.evaluation.similarity import rmse
from IPv2Lib.inference.denoise import denoise
from IPv2Lib.io.volume import Volume
from IPv2Lib.models import bundle
from IPv2Lib.simulation.projection import Kernel
from quality_anatomy import ANATOMY, Drawn, drawn
from quality_cases import SYNTHETIC, Block, Case, block, block_of, present, scan_volume
from quality_measures import excess, mean_bias, whole_patches
from quality_methods import INPUT, Bench, Method, matched_rmse
from quality_nodules import compared, threshold_hu
from quality_parts import photons_for
from quality_rows import Bar, Row
from real_scan import matching_total_variation, structure
from scipy import ndimage

SCANNER_DOSE = 0.02
SHARP_FIRST_SLICE = 16
"""Slice of lungdx_A0001 that is the first of lungdx_A0001_sharp, as their origins say."""

_U = np.linspace(0, 1, 65)
LUNG_KERNEL = Kernel(
    "mid-frequency boost",
    tuple(
        ((0.5 + 0.5 * np.cos(np.pi * np.minimum(_U / 0.9, 1))) * (1 + 3 * np.exp(-(((_U - 0.4) / 0.16) ** 2)))).tolist()
    ),
)
VERY_SOFT_KERNEL = Kernel("very soft", tuple(np.where(_U < 0.28, np.cos(np.pi * _U / 0.56) ** 2, 0.0).tolist()))
"""Neither is in the family of `projection.kernel`, which training draws from."""

LOW_NOISE_HU = (6.0, 3.0)
ANATOMY_DOSES = (0.05, 0.25)


@dataclass(frozen=True)
class Scanner:
    """A scan unlike those that were learned from."""

    name: str
    case: Case
    note: str = ""
    matched: bool = False
    """Compared with a scan of lower resolution: every result is blurred as far as that makes it better."""


def scanners(bench: Bench) -> list[Scanner]:
    """What part 5 is about; of lungdx_A0002, or of the synthetic chest where that is not there."""
    scan = "lungdx_A0002" if present("lungdx_A0002") else SYNTHETIC
    source = bench.block(scan, 1 if bench.quick else 2)
    found = [
        Scanner("sharp lung kernel", Case(source, SCANNER_DOSE, kernel=LUNG_KERNEL)),
        Scanner("very soft kernel", Case(source, SCANNER_DOSE, kernel=VERY_SOFT_KERNEL)),
    ]
    if not bench.quick:
        found += [Scanner(f"dose {dose:.1%}", Case(source, dose)) for dose in (0.007, 0.7)]
        found += [
            Scanner(f"pixels of {spacing_mm} mm", Case(resampled(source, spacing_mm), SCANNER_DOSE))
            for spacing_mm in (0.4, 1.9)
        ]
        if present("lungdx_A0001_sharp"):
            found.append(_other_kernel())
    return found


def resampled(source: Block, spacing_mm: float) -> Block:
    """A block with pixels of another size; larger ones are averages, as in a scan of a wider field of view."""
    factor = source.spacing_mm / spacing_mm
    array = source.clean.array
    if factor < 1:
        array = ndimage.gaussian_filter(array, (0, 0.4 / factor, 0.4 / factor))
    array = np.stack(
        [ndimage.zoom(image, factor, order=3, mode="grid-constant", cval=-1024, grid_mode=True) for image in array]
    )
    # Splines overshoot beyond what a scanner stores.
    array = np.clip(array, source.clean.array.min(), source.clean.array.max())
    actual_mm = source.spacing_mm * source.clean.array.shape[1] / array.shape[1]
    clean = Volume(array.astype(np.float32), (actual_mm, actual_mm, source.clean.spacing[2]))
    return Block(f"{source.name}, pixels of {spacing_mm} mm", source.scan, clean, source.scored)


def _other_kernel() -> Scanner:
    """The sharp reconstruction of a scan, to be made like the soft one."""
    sharp = scan_volume("lungdx_A0001_sharp")
    centres = [8, 20]
    soft = block_of("lungdx_A0001", [centre + SHARP_FIRST_SLICE for centre in centres])
    chosen = sorted({k for centre in centres for k in range(centre - 2, centre + 3)})
    source = Volume(sharp.array[chosen].astype(np.float32), sharp.spacing)
    note = "the soft kernel of this patient was trained on"
    return Scanner("A0001 sharp against soft", Case(soft, 1.0, "none", source), note, matched=True)


def other_scanners(bench: Bench) -> list[Row]:
    """Part 5: body RMSE, against the best filter tuned on the very slices."""
    rows = []
    for scanner in scanners(bench):
        case, what = scanner.case, "body RMSE"
        rows.append(Row(5, "input", what, scanner.name, bench.scores(INPUT, case).rmse_hu, "HU", detail=True))
        if scanner.matched:
            # A result that is as sharp as its input is far from the soft kernel, however little noise it has.
            rows += [
                Row(5, model.name, what, scanner.name, bench.scores(model, case).rmse_hu, "HU", note=scanner.note)
                for model in bench.models
            ]
            what = "body RMSE, blurred to match"
        name, tuned = bench.oracle(case, matched=scanner.matched)
        note = f"{name}, strength {tuned.strength:g}, tuned on these slices"
        rows.append(Row(5, "best filter", what, scanner.name, tuned.error_hu, "HU", note=note))
        for model in bench.models:
            value = _matched(bench, model, case) if scanner.matched else bench.scores(model, case).rmse_hu
            bar = Bar(high=tuned.error_hu, unit="HU")
            rows.append(Row(5, model.name, what, scanner.name, value, "HU", bar, scanner.note))
    return rows


def _matched(bench: Bench, model: Method, case: Case) -> float:
    return bench.cache.get(
        ("matched", *model.key, *case.key),
        lambda: matched_rmse(case.block.ground_truth, model.run(case), case.block.body),
    )


def low_noise(bench: Bench) -> list[Row]:
    """Part 6: how far a scan of normal dose is changed."""
    source = bench.block(SYNTHETIC, 1)
    rows = []
    for sigma_hu in LOW_NOISE_HU:
        case = Case(source, 1.0, photons=photons_for(source, sigma_hu))
        rows += [_changed(bench, model, case, f"synthetic, σ {sigma_hu:g} HU", "") for model in bench.models]
    if present("lungdx_A0001") and not bench.quick:
        case = Case(block("lungdx_A0001", 2), 1.0, "none")
        rows += [
            _changed(bench, model, case, "lungdx_A0001, σ 6 HU", "a scan that was trained on") for model in bench.models
        ]
    return rows


def _changed(bench: Bench, model: Method, case: Case, where: str, note: str) -> Row:
    value = bench.cache.get(
        ("changed", *model.key, *case.key), lambda: rmse(case.images, model.run(case), case.block.body)
    )
    return Row(6, model.name, "RMSE(result - input) in body", where, value, "HU", Bar(high=5, unit="HU"), note)


def other_anatomy(bench: Bench) -> list[Row]:
    """Part 6: bias of tissues of a head, an abdomen and hips with metal, and whether anything is created in them."""
    rows, limit = [], threshold_hu(bench)
    for name in list(ANATOMY)[: 1 if bench.quick else None]:
        anatomy = drawn(name, 256 if bench.quick else 512)
        for dose in ANATOMY_DOSES[: 1 if bench.quick else None]:
            case = Case(anatomy.block, dose)
            before = dict(_on_anatomy(bench, INPUT, case, anatomy)[0])
            for label, method in compared(bench, case):
                found, largest = _on_anatomy(bench, method, case, anatomy)
                rows += _anatomy_rows(label, method in bench.models, f"{name}, {dose:.0%}", found, before)
                count = int((np.array(largest) > limit).sum())
                note = f"above {limit:.0f} HU; largest {max(largest):.0f} HU"
                where = f"{name}, {dose:.0%}, {len(largest)} patches"
                bar = Bar(high=0) if method in bench.models else None
                rows.append(Row(6, label, "created in homogeneous tissue", where, count, "", bar, note))
    return rows


def _on_anatomy(bench: Bench, method: Method, case: Case, anatomy: Drawn) -> tuple[dict[str, float], list[float]]:
    """Bias by tissue, and `excess` of every patch that one tissue fills."""

    def compute() -> list[object]:
        result = method.run(case)
        found = mean_bias(result, case.block.ground_truth, anatomy.tissues)
        places = [place for mask in anatomy.tissues.values() for place in whole_patches(mask[0])]
        return [found, [excess(image, place, case.block.spacing_mm) for image in result for place in places]]

    return tuple(bench.cache.get(("anatomy", *method.key, *case.key), compute))


def _anatomy_rows(label: str, judged: bool, where: str, found: dict[str, float], before: dict[str, float]) -> list[Row]:
    what = "bias of tissues"
    rows = [
        Row(6, label, f"bias of {tissue}", where, value, "HU", note=f"input: {before[tissue]:+.1f} HU", detail=True)
        for tissue, value in found.items()
    ]
    if judged:
        tissue = max(found, key=lambda each: abs(found[each]))
        note = f"input: {before[tissue]:+.1f} HU"
        rows.append(Row(6, label, what, f"{where}, worst: {tissue}", found[tissue], "HU", Bar(-2, 2, "HU"), note))
    return rows


def real_scan_case(slices: int) -> Case:
    """nlst_101287 as it is."""
    return Case(block("nlst_101287", slices), 1.0, "none")


def real_scan(bench: Bench) -> list[Row]:
    """Part 7: noise of a real low-dose scan, and structure in what was taken away."""
    if not present("nlst_101287"):
        return [Row(7, "-", "real low-dose scan", note="nlst_101287 is not there")]
    case = real_scan_case(1 if bench.quick else 6)
    rows = []
    for model in bench.models:
        numbers = bench.cache.get(("real", *model.key, *case.key), lambda: _real_numbers(model, case))  # noqa: B023
        for tissue in ("lung", "soft tissue"):
            value = 1 - numbers[f"{tissue} after"] / numbers[f"{tissue} before"]
            note = f"σ {numbers[f'{tissue} before']:.1f} to {numbers[f'{tissue} after']:.1f} HU"
            rows.append(
                Row(7, model.name, f"noise less in {tissue}", "nlst_101287", value, "%", Bar(low=0.5, unit="%"), note)
            )
        rows.append(structure_row(model.name, numbers["structure"], numbers["structure of total variation"]))
    return rows


def structure_row(name: str, ours: float, theirs: float) -> Row:
    """Correlation of |difference| with the gradient, against half of total variation's.

    A negative correlation means less taken away at edges than elsewhere: it meets the bar whatever that of total
    variation is. Where only that one is not positive there is no half of it, and ours is compared with 0.
    """
    what, where = "structure in the difference", "nlst_101287"
    note = f"total variation, same noise left: {theirs:.3f}"
    if ours <= 0 or theirs <= 0:
        note += "; compared with 0, as one is not positive"
        return Row(7, name, what, where, ours, "", Bar(high=0.0), note)
    return Row(7, name, what, where, ours, "", Bar(high=theirs / 2), note)


def _real_numbers(model: Method, case: Case) -> dict[str, float]:
    before, after = case.images, model.run(case)
    # By the result: regions chosen by noisy values hold what noise raised into them.
    labels = segment(after, case.block.clean.spacing)
    masks = {"lung": labels == Region.LUNG, "soft tissue": labels == Region.SOFT_TISSUE}
    numbers = {}
    for tissue, mask in masks.items():
        numbers[f"{tissue} before"], numbers[f"{tissue} after"] = noise_sigma(before, mask), noise_sigma(after, mask)
    plain = matching_total_variation(before, numbers["soft tissue after"], masks["soft tissue"])
    body = labels >= Region.LUNG
    numbers["structure"] = structure(before, after, body)
    numbers["structure of total variation"] = structure(before, plain, body)
    return numbers


class _Autocast(torch.nn.Module):
    """A network that runs in half precision where torch finds that safe."""

    def __init__(self, network: torch.nn.Module, kind: torch.dtype):
        super().__init__()
        self.network, self.kind = network, kind
        self.context = network.context
        for name in ("multiple", "halo"):
            if hasattr(network, name):
                setattr(self, name, getattr(network, name))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, self.kind):
            return self.network(x)


@dataclass(frozen=True)
class _Half(bundle.Bundle):
    """A bundle whose network runs in half precision."""

    kind: torch.dtype = torch.bfloat16

    def network(self) -> torch.nn.Module:
        return _Autocast(super().network(), self.kind)


def devices(bench: Bench) -> list[Row]:
    """Part 8: a GPU against the CPU, and half precision against float32."""
    scan = bench.scans[0]
    case = bench.case(scan, 0.02)
    rows = []
    for model in bench.models:
        plain = model.run(case)
        what, bar = "largest difference, GPU to CPU", Bar(high=0.5, unit="HU")
        if torch.cuda.is_available():
            value = float(np.abs(_run(case, model.model, "cuda") - plain).max())
            rows.append(Row(8, model.name, what, f"{scan}, 2%", value, "HU", bar))
        else:
            rows.append(Row(8, model.name, what, bar=bar, note="no GPU here"))
        for kind in (torch.bfloat16, torch.float16):
            rows += _half_rows(case, model, kind, plain, f"{scan}, 2%")
    return rows


def _run(case: Case, model: bundle.Bundle, device: str) -> np.ndarray:
    scored = list(case.block.scored)
    return denoise(case.noisy, model, device=device, slices=scored).volume.array[scored]


def _half_rows(case: Case, model: Method, kind: torch.dtype, plain: np.ndarray, where: str) -> list[Row]:
    name = str(kind).removeprefix("torch.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    half = _Half(model.model.folder, model.model.card, kind)
    try:
        difference = _run(case, half, device).astype(np.float64) - plain
    except RuntimeError as error:
        return [Row(8, model.name, f"{name} to float32, RMS", where, note=f"does not run here: {str(error)[:60]}")]
    root = math.sqrt(float(np.mean(difference**2)))
    note = f"largest {np.abs(difference).max():.1f} HU; on {device}"
    return [Row(8, model.name, f"{name} to float32, RMS", where, root, "HU", Bar(high=1.0, unit="HU"), note)]
