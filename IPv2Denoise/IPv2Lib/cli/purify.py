"""The command `purify`: the stages of a pair, in a folder."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..io import outputs
from ..packages import MissingPackage
from ..purification.settings import IPV1, IPV2, Settings
from . import arguments
from .console import Console
from .options import INPUT, Notes, add_compress, compress, read, whole_number

if TYPE_CHECKING:
    from ..purification.stages import Stages


def _purify_options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "From an ultra-low-dose and a normal-dose CT of one patient, build the images whose anatomy agrees:\n"
        "training input and test label, with every mask and image on the way. An NDCT on another grid is\n"
        "resampled onto that of the uLDCT. FOLDER gets each stage as NRRD (masks as 0 and 1), labels.nrrd\n"
        "(1 background, 2 lung and airways, 3 body, 0 outside the field of view), stages.png and provenance.json."
    )
    command.epilog = (
        "examples:\n"
        "  ipv2 purify uldct.nrrd ndct.nrrd stages\n"
        "  ipv2 purify uldct.nrrd ndct.nrrd stages --strategy ipv1 --blend 0.2\n"
        "  ipv2 purify uldct.nrrd ndct.nrrd stages --no-add-noise       a row of the ablation"
    )
    command.add_argument("uldct", type=Path, metavar="ULDCT", help=f"ultra-low-dose CT: {INPUT}")
    command.add_argument("ndct", type=Path, metavar="NDCT", help="normal-dose CT of the same patient, likewise")
    command.add_argument("folder", type=Path, metavar="FOLDER", help="new folder for the stages")
    command.add_argument(
        "--overwrite", action="store_true", help="replace FOLDER if it holds the stages of an earlier run"
    )
    command.add_argument(
        "--pictures", action=argparse.BooleanOptionalAction, default=True, help="draw stages.png (default: yes)"
    )
    add_compress(command)
    arguments.add_settings(command)
    command.add_argument("--strategy", choices=("ipv1", "ipv2"), default="ipv2", help="(default: %(default)s)")
    arguments.add(command, Settings)
    command.add_argument(
        "--first-slice", type=whole_number, metavar="N", default=0,
        help="number of the first slice, where ULDCT is a part of a scan: each has noise of its own (default: 0)",
    )  # fmt: skip


def _purify(options: argparse.Namespace, console: Console) -> None:
    from ..datasets.patients import check_pair
    from ..purification import stage_files
    from ..purification.purify import purify

    settings = arguments.chosen(options, {"ipv1": IPV1, "ipv2": IPV2}[options.strategy])
    check_pair(options.uldct, options.ndct)
    notes = Notes(console)
    with outputs.new_folder(options.folder, "purify", options.overwrite, options.uldct, options.ndct) as folder:
        console.progress.report(0.0, "reading")
        (uldct, _), (ndct, _) = read(options.uldct, notes), read(options.ndct, notes)
        stages = purify(
            uldct, ndct, settings, first_slice=options.first_slice,
            progress=console.progress.part(0.05, 0.7),
        )  # fmt: skip
        written = stage_files.write_stages(
            stages, folder, compress=compress(options), progress=console.progress.part(0.7, 0.9)
        )
        if options.pictures:
            console.progress.report(0.9, "drawing")
            if _draw_stages(stages, folder / "stages.png", console):
                written["stages.png"] = "the stages side by side"
        facts = outputs.provenance(
            "purify", uldct=options.uldct.name, ndct=options.ndct.name,
            input_sha256={"uldct": uldct.sha256(), "ndct": ndct.sha256()}, strategy=options.strategy,
            settings=asdict(settings), concerns=notes.texts, files=written,
        )  # fmt: skip
        outputs.write_json(folder / outputs.PROVENANCE_FILE, facts)
    contents = "\n".join(f"  {name:24} {title}" for name, title in facts["files"].items())
    console.result(
        f"{options.folder}: purified by {options.strategy}\n{contents}",
        command="purify", folder=str(options.folder), provenance=facts, notes=notes.texts,
    )  # fmt: skip


def _draw_stages(stages: Stages, path: Path, console: Console) -> bool:
    from ..io import figures
    from . import pictures

    try:
        sheet = pictures.stages_picture(stages)
    except MissingPackage as error:
        console.note(f"no pictures: {error}")
        return False
    figures.save(sheet, path)
    return True


COMMANDS = {
    "purify": ("build training and test images from a uLDCT/NDCT pair", _purify_options, _purify),
}
"""Name: one line of help, function that adds the options, function that runs the command."""
