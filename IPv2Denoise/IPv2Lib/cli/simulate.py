"""The command `simulate`: a scan at a fraction of its dose."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..inference.options import DenoiseOptions
from ..io import outputs
from . import arguments
from .console import Console
from .options import INPUT, LOADING, OUTPUT, Notes, add_overwrite, read, whole_number


def _simulate_options(command: argparse.ArgumentParser) -> None:
    command.description = "Add the noise that a CT would have at a fraction of its dose. Resolution and HU stay."
    command.epilog = (
        "examples:\n"
        "  ipv2 simulate ndct.nrrd uldct.nrrd --dose 0.02              2 % of the dose\n"
        "  ipv2 simulate ndct.nrrd quarter.nrrd --dose 0.25 --match    noise like that of this very scan"
    )
    command.add_argument("input", type=Path, metavar="NDCT", help=INPUT)
    command.add_argument("output", metavar="OUTPUT", help=OUTPUT)
    command.add_argument("--dose", type=float, required=True, help="dose fraction, above 0 to 1; 0.02 is 2 %%")
    command.add_argument(
        "--method", choices=("physical", "published"), default="physical",
        help="physical: photons counted behind the patient; published: the authors' constants (default: %(default)s)",
    )  # fmt: skip
    look = command.add_mutually_exclusive_group()
    look.add_argument(
        "--kernel", default="hann", metavar="NAME",
        help="look of the noise: soft, hann, ramp, sharp, or a number from -1 to 2 (default: %(default)s)",
    )  # fmt: skip
    look.add_argument(
        "--match", action="store_true", help="measure look and strength of the noise from the scan itself"
    )
    command.add_argument("--seed", type=whole_number, default=0, help="same seed, same noise (default: %(default)s)")
    arguments.add(command, DenoiseOptions, only=("device",))
    add_overwrite(command)


def _simulate(options: argparse.Namespace, console: Console) -> None:
    console.progress.report(0.0, LOADING)
    from ..inference.denoise import choose_device
    from ..simulation import dose

    device = choose_device(arguments.chosen(options, DenoiseOptions()).device)
    outputs.check_output(options.output, options.input, options.overwrite)
    console.progress.report(0.0, "reading")
    notes = Notes(console)
    volume, concerns = read(options.input, notes)
    kernel: Any = options.kernel
    photons = dose.PHOTONS
    if options.match:
        console.progress.report(0.05, "measuring the scan's noise")
        photons, kernel = dose.match_scan(volume)
    result = dose.simulate(
        volume, options.dose, method=options.method, seed=options.seed, kernel=kernel, photons=photons,
        device=device, progress=console.progress.part(0.1, 0.95),
    )  # fmt: skip
    console.progress.report(0.95, "writing")
    facts = outputs.provenance(
        "simulate", input=options.input.name, input_sha256=volume.sha256(), dose=options.dose, method=options.method,
        seed=options.seed, device=device, concerns=concerns,
    )  # fmt: skip
    if options.method == "physical":
        facts |= {"photons": photons, "kernel": asdict(kernel) if options.match else kernel}
    description = f"IPv2 simulated {100 * options.dose:g} % dose"
    facts = outputs.save(
        result, options.output, facts, options.input, description, derivation="Pixel by pixel addition"
    )
    console.result(
        f"{options.output}: {options.input.name} at {100 * options.dose:g} % dose",
        command="simulate", output=str(options.output), sidecar=str(outputs.sidecar_path(options.output)),
        provenance=facts, notes=notes.texts,
    )  # fmt: skip


COMMANDS = {
    "simulate": ("add the noise of a lower dose to a CT", _simulate_options, _simulate),
}
"""Name: one line of help, function that adds the options, function that runs the command."""
