"""The command `phantom`: a synthetic chest scanned twice."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from ..io import outputs
from ..simulation.settings import PhantomSettings
from . import arguments
from .console import Console
from .options import add_compress, compress


def _phantom_options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Make a synthetic chest scanned twice, for trying things out: FOLDER gets uldct.nrrd, ndct.nrrd (after\n"
        "respiratory motion), ground_truth.nrrd (the uLDCT without its noise) and provenance.json. No part is from a\n"
        "person."
    )
    command.epilog = "examples:\n  ipv2 phantom chest\n  ipv2 phantom chest --size 512 --slices 40 --dose 0.05 --seed 3"
    command.add_argument("folder", type=Path, metavar="FOLDER", help="new folder for the scans")
    command.add_argument(
        "--overwrite", action="store_true", help="replace FOLDER if it holds the phantom of an earlier run"
    )
    arguments.add(command, PhantomSettings)
    add_compress(command)


def _phantom(options: argparse.Namespace, console: Console) -> None:
    from ..io import files
    from ..simulation import phantom

    chosen = asdict(arguments.chosen(options, PhantomSettings()))
    facts = outputs.provenance("phantom", chosen)
    with outputs.new_folder(options.folder, "phantom", options.overwrite) as folder:
        console.progress.report(0.0, "scanning a synthetic chest twice")
        pair = phantom.pair(**chosen)
        for index, name in enumerate(("uldct", "ndct", "ground_truth")):
            console.progress.report(0.8 + 0.2 * index / 3, f"writing {name}")
            files.write(getattr(pair, name), folder / f"{name}.nrrd", compress=compress(options))
        outputs.write_json(folder / outputs.PROVENANCE_FILE, facts)
    console.result(
        f"{options.folder}: a synthetic chest, uldct.nrrd, ndct.nrrd and ground_truth.nrrd",
        command="phantom", folder=str(options.folder), provenance=facts,
    )  # fmt: skip


COMMANDS = {
    "phantom": ("make a synthetic pair of scans", _phantom_options, _phantom),
}
"""Name: one line of help, function that adds the options, function that runs the command."""
