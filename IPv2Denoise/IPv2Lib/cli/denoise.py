"""The command `denoise`: one scan, several, or a cohort (see `cohort`)."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..inference.options import DenoiseOptions
from ..io import outputs
from ..io.formats import SUFFIXES, suffix
from ..io.locks import owned
from ..parallel.options import Workers
from ..progress import Progress
from . import arguments, cohort
from .console import Console
from .options import (
    INPUT,
    LOADING,
    OUTPUT,
    Notes,
    add_overwrite,
    add_runner,
    aligned,
    load_model,
    read,
)

if TYPE_CHECKING:
    from ..analysis.region_labels import Region
    from ..analysis.region_statistics import RegionStatistics
    from ..models.bundle import Bundle


def _denoise_options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Remove the noise of a low-dose chest CT. The result has the geometry of the input and its HU; padding\n"
        f"outside the field of view comes back unchanged. {outputs.RESEARCH}\n"
        "OUTPUT.json, beside the output, says which model made it, and how.\n"
        "Several inputs are denoised one after another into the new folder OUTPUT, each as NAME.nrrd.\n"
        "With --workers, --scheduler or --retries, inputs that fail do not stop the others: OUTPUT/report.csv says\n"
        "why, and the same command again goes on after a stop."
    )
    command.epilog = (
        "examples:\n"
        "  ipv2 denoise scan.nrrd denoised.nrrd\n"
        "  ipv2 denoise dicom-folder denoised-folder       a DICOM series that keeps patient and study\n"
        "  ipv2 denoise scan.nii.gz half.nii.gz --strength 0.5 --statistics\n"
        "  ipv2 denoise scan.nrrd out.nrrd --reliability   also out-reliability.nrrd, the expected error in HU\n"
        "  ipv2 denoise a.nrrd b.nrrd c.nrrd denoised      denoised/a.nrrd, denoised/b.nrrd, denoised/c.nrrd\n"
        "  ipv2 denoise cohort/* denoised --workers 4      as many as there are, four at a time"
    )
    command.add_argument("inputs", type=Path, nargs="+", metavar="INPUT", help=INPUT)
    # As text: a path would lose the slash at the end.
    command.add_argument("output", metavar="OUTPUT", help=f"{OUTPUT}; of several inputs, a new folder")
    arguments.add_settings(command)
    arguments.add(command, DenoiseOptions)
    add_overwrite(command)
    add_runner(command)


def _denoise(options: argparse.Namespace, console: Console) -> None:
    console.progress.report(0.0, LOADING)
    from ..inference import reliability_file
    from ..inference.denoise import choose_device, residual_noise_of
    from ..inference.engines import choose_engine

    how = arguments.chosen(options, DenoiseOptions())
    is_here = arguments.given(options, Workers).get("scheduler") is None
    if is_here:
        how = replace(how, device=choose_device(how.device, how.engine))
    model = load_model(how.model, how.device)
    if is_here:
        choose_engine(model, how.engine, how.device)
    how = replace(how, residual_noise_hu=residual_noise_of(model, how.residual_noise_hu))
    if len(options.inputs) > 1 or cohort.is_cohort(options):
        options.output = Path(options.output)
    if cohort.is_cohort(options):
        cohort.denoise_cohort(options, how, model, console)
        return
    if len(options.inputs) > 1:
        _denoise_several(options, how, model, console)
        return
    (source,) = options.inputs
    outputs.check_output(options.output, source, options.overwrite)
    if how.reliability:
        reliability_file.check(options.output, source, options.overwrite)
    notes = Notes(console)
    with owned(Path(options.output), "denoise"):
        facts, table = _denoise_one(source, options.output, model, how, console.progress, notes)
    console.result(
        f"{options.output}: denoised with {model.name} at strength {how.strength:g}{table}",
        command="denoise", output=str(options.output), sidecar=str(outputs.sidecar_path(options.output)), **facts,
        notes=notes.texts,
    )  # fmt: skip


def _denoise_several(options: argparse.Namespace, how: DenoiseOptions, model: Bundle, console: Console) -> None:
    from ..inference import reliability_file

    if suffix(options.output) in SUFFIXES:
        raise InputError(f"{options.output} is one file for {len(options.inputs)} inputs: give a new folder's name")
    names = outputs.unique_names(options.inputs)
    if how.reliability:
        for name in names:
            reliability_file.check_name(f"{name}.nrrd")
    lines = [f"{options.output}: denoised with {model.name} at strength {how.strength:g}"]
    notes, concerns, results = Notes(console), [], []
    with outputs.new_folder(options.output, "denoise", False, *options.inputs) as folder:
        for index, source in enumerate(options.inputs):  # all are seen before any long work
            console.progress.report(0.05 * index / len(options.inputs), f"checking {source.name}")
            concerns.append(read(source, None, model.card)[1])
        for source, sentences in zip(options.inputs, concerns, strict=True):
            notes.say(source, sentences)
        denoising = console.progress.part(0.05, 1.0)
        for index, (source, name) in enumerate(zip(options.inputs, names, strict=True)):
            place = f"{index + 1} of {len(names)}, {source.name}"
            part = denoising.part(index / len(names), (index + 1) / len(names), place)
            facts, table = _denoise_one(source, folder / f"{name}.nrrd", model, how, part, notes)
            output = options.output / f"{name}.nrrd"
            lines.append(f"  {output.name} from {source}{table}")
            results.append(
                {"input": str(source), "output": str(output), "sidecar": str(outputs.sidecar_path(output)), **facts}
            )
    console.result("\n".join(lines), command="denoise", output=str(options.output), results=results, notes=notes.texts)


def _denoise_one(
    source: Path, output: str | Path, model: Bundle, how: DenoiseOptions,
    progress: Progress, notes: Notes,
) -> tuple[dict[str, Any], str]:  # fmt: skip
    """Read, denoise, write; return the facts, and what was measured for people."""
    from ..inference.cohort import denoise_to_file

    progress.report(0.0, "reading")
    volume, concerns = read(source, notes, model.card)
    facts = denoise_to_file(volume, source, output, model, how, concerns=concerns, progress=progress)
    return facts, "".join(f"\n{text}" for text in _measured(facts, how.strength))


def _measured(facts: dict[str, Any], strength: float) -> Iterator[str]:
    from ..analysis.region_labels import Region
    from ..analysis.region_statistics import StrengthStatistics
    from ..evaluation.measures import number

    errors = {
        Region[name.upper()]: hu for name, hu in facts.get("reliability", {}).get("expected_error_hu", {}).items()
    }
    if "statistics" in facts:
        yield _region_table(StrengthStatistics.from_dict(facts["statistics"]).at(strength), errors)
    if errors:
        means = ", ".join(f"{region.label.lower()} {number(hu)} HU" for region, hu in errors.items())
        yield f"{facts['reliability']['file']}: expected error σ_e, on average {means}"


def _region_table(rows: Sequence[RegionStatistics], errors: Mapping[Region, float]) -> str:
    from ..evaluation.measures import number

    def cells(row: RegionStatistics) -> tuple[str, ...]:
        hu = (row.mean_before, row.mean_after, row.sigma_before, row.sigma_after)
        expected = (number(errors.get(row.region, math.nan)),) if errors else ()
        return row.region.label, *map(number, hu), number(100 * row.noise_reduction, 0), *expected

    heads = ("in HU", "mean before", "after", "σ before", "after", "removed, %", *(["σ_e"] if errors else []))
    return aligned([heads, *map(cells, rows)])


COMMANDS = {
    "denoise": ("remove the noise of a low-dose chest CT", _denoise_options, _denoise),
}
"""Name: one line of help, function that adds the options, function that runs the command."""
