"""The command `physics`: what a denoiser does to noise, texture, sharpness, HU and detectability."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import arguments
from .console import Console
from .options import LOADING


def _physics_options(command: argparse.ArgumentParser) -> None:
    from ..evaluation.physics.settings import PhysicsSettings
    from ..inference.filters import FILTERS

    command.description = (
        "Measure what denoisers do to noise, texture, sharpness, HU and detectability, on simulated phantoms and on\n"
        "scans of one's own: water in three sizes, rods, low-contrast disks, and a lung with nodules and emphysema.\n"
        "FOLDER gets report.html with curves, tables and plain sentences, results.json, results.csv and curves.csv.\n"
        "The same command again goes on after a stop, and measures only what is new."
    )
    command.epilog = (
        "examples:\n"
        "  ipv2 physics ipv2-fast tv --quick --out physics\n"
        "  ipv2 physics ipv2-quality runs/mine --out physics --kernels hann sharp\n"
        "  ipv2 physics --command 'vendor=denoise.sh {in} {out}' --exchange dicom --out vendor\n"
        "  ipv2 physics ipv2-fast --scans first second --series patient.nrrd --only response --out own"
    )
    command.add_argument(
        "models", nargs="*", metavar="MODEL|RUN|FILTER",
        help="an installed model or a model's folder, the folder of a training run, a network that needs no training "
        f"(implicit), or a filter: {', '.join(FILTERS)}; tv:0.8 takes 0.8 times its usual strength",
    )  # fmt: skip
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new, or of an earlier run")
    arguments.add_settings(command)
    arguments.add(command, PhysicsSettings)


def _physics(options: argparse.Namespace, console: Console) -> None:
    console.progress.report(0.0, LOADING)
    from ..errors import Cancelled
    from ..evaluation.physics.run import measure
    from ..evaluation.physics.settings import PhysicsSettings

    settings = arguments.chosen(options, PhysicsSettings())
    try:
        found = measure(options.models, options.out, settings, progress=console.progress)
    except KeyboardInterrupt:
        raise Cancelled("stopped; the same command again goes on with what was measured") from None
    console.result(
        "\n".join([*found.sentences, "", f"{found.files['report']} has the curves and tables"]),
        command="physics", folder=str(found.folder), sentences=found.sentences,
        files={name: str(path) for name, path in found.files.items()},
    )  # fmt: skip


COMMANDS = {
    "physics": ("measure noise, texture, sharpness and detectability", _physics_options, _physics),
}
"""Name: one line of help, function that adds the options, function that runs the command."""
