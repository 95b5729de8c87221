"""The whole method on a synthetic chest: simulate a pair, purify, denoise, score, draw, report.

Owns the order and the words of the demonstration; every step is the function that the other commands call.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..evaluation import agreement
from ..evaluation.agreement import OVERALL
from ..evaluation.measures import BY_NAME
from ..inference.denoise import denoise
from ..io import figures, files
from ..packages import MissingPackage
from ..progress import NO_PROGRESS, Progress
from ..purification.purify import IPV2, purify
from ..simulation import phantom
from . import pictures, report
from .options import aligned

if TYPE_CHECKING:
    from ..evaluation.agreement import Evaluation
    from ..io.volume import Volume
    from ..models.bundle import Bundle
    from ..purification.stages import Stages

DOSE = 0.02
MOTION_MM = 8.0
SIZE, SLICES = 320, 24
"""Pixels of 1.1 mm, as in a usual scan: with much larger ones there is little noise to remove."""

INPUT, WEAK = "uLDCT (input)", "Weak denoiser"


@dataclass(frozen=True)
class Demonstration:
    """What the demonstration found.

    Attributes
    ----------
    scores : dict of str to Evaluation
        Against the ground truth, by name: input, weak denoiser, model.
    provenance : dict
        Model, seed, settings; expressible in JSON.
    notes : tuple of str
        What could not be done.
    """

    scores: dict[str, Evaluation]
    provenance: dict[str, Any]
    notes: tuple[str, ...]


def run(
    folder: Path,
    model: Bundle,
    *,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = NO_PROGRESS,
) -> Demonstration:
    """Run the demonstration; write `report.html`, its pictures and the volumes into an existing folder.

    Parameters
    ----------
    folder : Path
    model : Bundle
    seed : int
        Of the chest and its noise.
    device : str
        As for `denoise.choose_device`.
    progress : Progress

    Raises
    ------
    InputError
        For a seed, a device or a model that cannot be used.
    OutputError
        If something cannot be written.
    Cancelled
        If `progress` was cancelled.
    """
    progress.report(0.0, "scanning a synthetic chest twice")
    pair = phantom.pair(seed=seed, size=SIZE, slices=SLICES, dose=DOSE, motion=MOTION_MM)
    stages = purify(pair.uldct, pair.ndct, IPV2, progress=progress.part(0.35, 0.6))
    assert stages.weakly_denoised is not None
    result = denoise(pair.uldct, model, device=device, progress=progress.part(0.6, 0.8))

    progress.report(0.8, "scoring against the ground truth")
    candidates = {INPUT: pair.uldct, WEAK: stages.weakly_denoised, model.name: result.volume}
    scores = {name: agreement.compare(volume, pair.ground_truth, pair.labels) for name, volume in candidates.items()}
    progress.report(0.88, "drawing")
    pictures, notes = _draw(folder, stages, candidates, pair.ground_truth)
    progress.report(0.95, "writing")
    volumes = {"uldct": pair.uldct, "ndct": pair.ndct, "ground_truth": pair.ground_truth, "denoised": result.volume}
    for name, volume in volumes.items():
        files.write(volume, folder / f"{name}.nrrd")
    provenance = {"seed": seed, "dose": DOSE, "motion_mm": MOTION_MM, "purification": asdict(IPV2)}
    provenance |= result.provenance
    page = report.page("IPv2: a demonstration", _words(scores, model), list(scores.items()), pictures, provenance)
    (folder / "report.html").write_text(page, encoding="utf-8")
    progress.report(1.0, "done")
    return Demonstration(scores, provenance, notes)


def table(scores: dict[str, Evaluation]) -> str:
    """The measures of the whole volume of each candidate, one aligned line each, for a terminal."""
    rows = [["", *(measure.title for measure in OVERALL)]]
    rows += [[name, *(measure.text(score[measure.name]) for measure in OVERALL)] for name, score in scores.items()]
    return aligned(rows)


def _draw(
    folder: Path, stages: Stages, candidates: dict[str, Volume], ground_truth: Volume
) -> tuple[list[report.Picture], tuple[str, ...]]:
    """Write the pictures; return them for the report, or none and the reason."""
    panels: list[tuple[str, Volume, Literal["ct", "difference"]]]
    panels = [*((name, volume, "ct") for name, volume in candidates.items()), ("Ground truth", ground_truth, "ct")]
    panels += [
        (f"{name} − ground truth", volume.with_array(volume.array - ground_truth.array), "difference")
        for name, volume in candidates.items()
    ]
    before, after = candidates[INPUT], list(candidates.values())[-1]
    panels.append(("What the model removed", before.with_array(before.array - after.array), "difference"))
    try:
        compared = pictures.compare_picture(panels, columns=len(candidates) + 1, width=420)
        purified = pictures.stages_picture(stages)
    except MissingPackage as error:
        return [], (f"no pictures: {error}",)
    comparison_file, stages_file = folder / "comparison.png", folder / "stages.png"
    figures.save(compared, comparison_file)
    figures.save(purified, stages_file)
    return [
        report.Picture(
            "Input, results and ground truth",
            "One axial slice. Top: the scan at 2 % dose, the weak denoiser, the model, and the ground truth without "
            "noise. Bottom: their differences from the ground truth, and what the model removed. Blue is too dark, "
            "orange too bright, white is right.",
            comparison_file.read_bytes(),
        ),
        report.Picture(
            "The stages of purification",
            "The two scans, before and after respiratory motion, with their dark masks; the common masks of IPv1 "
            "and IPv2; the NDCT with simulated noise; the weakly denoised low-dose scan; and the training input and "
            "test label that are composed of them.",
            stages_file.read_bytes(),
        ),
    ], ()


def _words(scores: dict[str, Evaluation], model: Bundle) -> list[str]:
    error = BY_NAME["rmse_body_hu"]
    before, after = (error.text(scores[name][error.name]) for name in (INPUT, model.name))
    return [
        f"A synthetic chest was scanned at {100 * DOSE:g} % of the dose and, after respiratory motion of {MOTION_MM:g} "
        "mm, at the full dose. The pair was purified as IPv2 does for training and testing, and the low-dose scan was "
        f"denoised with the model {model.name} ({model.card.title}).",
        f"The error inside the body went from {before} to {after}. A phantom is simpler than "
        "a patient: this shows how the parts work together, not how good the model is on real scans.",
    ]
