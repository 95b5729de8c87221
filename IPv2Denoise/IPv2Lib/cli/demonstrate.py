"""The command `demo`; what it does is in `demo`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..inference.options import DenoiseOptions
from ..io import outputs
from ..simulation.settings import PhantomSettings
from . import arguments
from .console import Console
from .options import LOADING, load_model


def _demo_options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Show the whole method on a synthetic chest, in about a minute and without any data: a scan at 2 % dose\n"
        "and one at normal dose after a breath are purified and denoised, and scored against the ground truth.\n"
        "The report has pictures of every stage and a table. The results of an earlier demo are replaced."
    )
    command.epilog = "example:\n  ipv2 demo --out my-demo"
    command.add_argument(
        "--out", type=Path, default=Path("ipv2-demo"), metavar="FOLDER", help="where to write (default: %(default)s)"
    )
    arguments.add(command, DenoiseOptions, only=("model", "device"))
    arguments.add(command, PhantomSettings, only=("seed",))


def _demo(options: argparse.Namespace, console: Console) -> None:
    console.progress.report(0.0, LOADING)
    from ..inference.denoise import choose_device
    from . import demo

    how = arguments.chosen(options, DenoiseOptions())
    device = choose_device(how.device)
    model, seed = load_model(how.model, device), arguments.chosen(options, PhantomSettings()).seed
    with outputs.new_folder(options.out, "demo", True) as folder:
        found = demo.run(folder, model, seed=seed, device=device, progress=console.progress)
        outputs.write_json(folder / outputs.PROVENANCE_FILE, outputs.provenance("demo", found.provenance))
    for note in found.notes:
        console.note(note)
    report = options.out / "report.html"
    console.result(
        f"{demo.table(found.scores)}\n\nOpen {report} in a browser.",
        command="demo", report=str(report), provenance=found.provenance,
        scores={name: score.as_dict() for name, score in found.scores.items()},
    )  # fmt: skip


COMMANDS = {
    "demo": ("the whole method on a synthetic chest, with a report", _demo_options, _demo),
}
"""Name: one line of help, function that adds the options, function that runs the command."""
