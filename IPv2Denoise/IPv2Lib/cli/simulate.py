"""The command `simulate`: a scan at a fraction of its dose."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..inference.options import DenoiseOptions
from ..io import outputs
from ..simulation.settings import SimulationSettings
from . import arguments
from .console import Console
from .options import INPUT, LOADING, OUTPUT, Notes, add_overwrite, read

if TYPE_CHECKING:
    from ..simulation.projection import Kernel


def _simulate_options(command: argparse.ArgumentParser) -> None:
    command.description = "Add the noise that a CT would have at a fraction of its dose. Resolution and HU stay."
    command.epilog = (
        "examples:\n"
        "  ipv2 simulate ndct.nrrd uldct.nrrd --dose 0.02              2 % of the dose\n"
        "  ipv2 simulate ndct.nrrd quarter.nrrd --dose 0.25 --match    noise like that of this very scan"
    )
    command.add_argument("input", type=Path, metavar="NDCT", help=INPUT)
    command.add_argument("output", metavar="OUTPUT", help=OUTPUT)
    arguments.add(command, SimulationSettings)
    arguments.add(command, DenoiseOptions, only=("device",))
    add_overwrite(command)


def _simulate(options: argparse.Namespace, console: Console) -> None:
    console.progress.report(0.0, LOADING)
    from ..inference.denoise import choose_device
    from ..simulation import dose, matching

    settings = arguments.chosen(options, SimulationSettings())
    device = choose_device(arguments.chosen(options, DenoiseOptions()).device)
    outputs.check_output(options.output, options.input, options.overwrite)
    console.progress.report(0.0, "reading")
    notes = Notes(console)
    volume, concerns = read(options.input, notes)
    photons: float = dose.PHOTONS
    kernel: str | float | Kernel = settings.kernel
    if settings.match:
        console.progress.report(0.05, "measuring the scan's noise")
        found = matching.match_scan(volume)
        photons, kernel = found.photons, found.kernel
    result = dose.simulate(
        volume, settings.dose, method=settings.method, seed=settings.seed, kernel=kernel, photons=photons,
        device=device, progress=console.progress.part(0.1, 0.95),
    )  # fmt: skip
    console.progress.report(0.95, "writing")
    facts = outputs.provenance(
        "simulate", input=options.input.name, input_sha256=volume.sha256(), dose=settings.dose,
        method=settings.method, seed=settings.seed, device=device, concerns=concerns,
    )  # fmt: skip
    if settings.method == "physical":
        if settings.match:
            facts |= {"photons_interval": found.interval}
        facts |= {"photons": photons, "kernel": kernel if isinstance(kernel, (str, float)) else asdict(kernel)}
    description = f"IPv2 simulated {100 * settings.dose:g} % dose"
    facts = outputs.save(
        result, options.output, facts, options.input, description, derivation="Pixel by pixel addition"
    )
    look = ""
    if settings.match:
        low, high = found.interval
        look = f"\nnoise of the scan: N₀ {found.photons:.2g} photons per ray ({low:.2g} to {high:.2g}, 95 %)"
    console.result(
        f"{options.output}: {options.input.name} at {100 * settings.dose:g} % dose{look}",
        command="simulate", output=str(options.output), sidecar=str(outputs.sidecar_path(options.output)),
        provenance=facts, notes=notes.texts,
    )  # fmt: skip


COMMANDS = {
    "simulate": ("add the noise of a lower dose to a CT", _simulate_options, _simulate),
}
"""Name: one line of help, function that adds the options, function that runs the command."""
