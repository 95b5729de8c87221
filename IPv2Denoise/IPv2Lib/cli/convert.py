"""The command `ipv2 convert`: a volume in another format, with the same voxels, place and history."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..io import outputs
from ..io.file_names import is_folder
from .options import INPUT, OUTPUT, add_compress, add_overwrite, compress

if TYPE_CHECKING:
    from ..io.volume import Volume
    from .console import Console


def _options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Write a volume in another format. HU and geometry stay as they are; DICOM rounds to whole HU. If IPv2 made\n"
        "INPUT, INPUT.json beside it says how, and becomes OUTPUT.json. A DICOM series gets patient and study of the\n"
        "series given with --like, or of INPUT if that is DICOM; without either it is a new study of nobody."
    )
    command.epilog = (
        "examples:\n"
        "  ipv2 convert denoised.nrrd denoised.nii.gz\n"
        "  ipv2 convert dicom-folder scan.nrrd\n"
        "  ipv2 convert denoised.nrrd denoised-series --like dicom-folder     what was denoised: its patient and study"
    )
    command.add_argument("input", type=Path, metavar="INPUT", help=INPUT)
    command.add_argument("output", metavar="OUTPUT", help=OUTPUT)
    command.add_argument(
        "--like", type=Path, nargs="+", metavar="DICOM",
        help="the series that INPUT was computed from: its folder, one of its files, or all of them from anywhere",
    )  # fmt: skip
    command.add_argument(
        "--description", metavar="TEXT", help="in the DICOM series description (default: model and strength)"
    )
    add_compress(command)
    add_overwrite(command)


def _run(options: argparse.Namespace, console: Console) -> None:
    from ..io import dicom, files

    outputs.check_output(options.output, options.input, options.overwrite)
    if options.like and not is_folder(options.output):
        raise InputError(f"{options.output} is no DICOM series, so --like has no effect: give a new folder's name")
    for path in options.like or []:
        if not path.is_dir() and not dicom.is_dicom(path):
            raise InputError(f"{path} is not DICOM: give --like the series that {options.input} was computed from")
    console.progress.report(0.0, "reading")
    volume = files.read(options.input)
    facts = history(options.input, volume, console)
    console.progress.report(0.3, "writing")
    text = options.description or description(facts)
    facts = outputs.save(
        volume, options.output, facts, options.input, text, compress(options), template=_template(options.like)
    )
    console.result(
        f"{options.output}: written from {options.input}",
        command="convert", output=str(options.output), sidecar=str(outputs.sidecar_path(options.output)),
        provenance=facts,
    )  # fmt: skip


def history(source: Path, volume: Volume, console: Console) -> dict[str, Any]:
    """How the input was made, if IPv2 made it; else that it was converted."""
    facts = outputs.history(source, volume)
    if facts is not None:
        return facts
    sidecar = outputs.sidecar_path(source)
    if sidecar.is_file():
        console.note(f"{sidecar} does not say how IPv2 made this image: it is not passed on")
    return outputs.provenance("convert", input=source.name, input_sha256=volume.sha256())


def description(facts: dict[str, Any]) -> str:
    """What a DICOM series description says of how a volume was made."""
    if "model" in facts and "strength" in facts:
        return f"IPv2 {facts['model']} strength {float(facts['strength']):g}"
    return "IPv2"


def _template(paths: Sequence[Path] | None) -> Path | list[Path] | None:
    if not paths or len(paths) == 1:
        return paths[0] if paths else None
    every_file = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return [file for file in every_file if file.is_file()]


COMMANDS = {"convert": ("write a volume in another format", _options, _run)}
"""Name: one line of help, function that adds the options, function that runs the command."""
