"""The command `evaluate`: a volume scored against a reference."""

from __future__ import annotations

import argparse
from pathlib import Path

from .console import Console
from .options import INPUT, Notes, read


def _evaluate_options(command: argparse.ArgumentParser) -> None:
    from ..evaluation.measures import EVALUATE, shown_in
    from ..hounsfield import SCORED_HU

    whole = [each.title for each in shown_in(EVALUATE) if each.region is None]
    by_region = dict.fromkeys(each.short for each in shown_in(EVALUATE) if each.region is not None)
    command.description = (
        "Score a volume against a reference of the same anatomy on the same grid.\n"
        f"Of the whole volume, values clipped to {SCORED_HU[0]:g} to {SCORED_HU[1]:g} HU: {', '.join(whole)}.\n"
        f"By region: {', '.join(by_region)}."
    )
    command.epilog = "example:\n  ipv2 evaluate denoised.nrrd ndct.nrrd"
    command.add_argument("result", type=Path, metavar="RESULT", help=INPUT)
    command.add_argument("reference", type=Path, metavar="REFERENCE", help="what RESULT should look like, likewise")


def _evaluate(options: argparse.Namespace, console: Console) -> None:
    from ..evaluation import agreement

    console.progress.report(0.0, "reading")
    notes = Notes(console)
    (result, _), (reference, _) = read(options.result, notes), read(options.reference, notes)
    console.progress.report(0.2, "comparing")
    scores = agreement.compare(result, reference)
    console.answer(
        agreement.table(scores),
        command="evaluate", result=options.result.name, reference=options.reference.name, **scores.as_dict(),
        notes=notes.texts,
    )  # fmt: skip


COMMANDS = {
    "evaluate": ("score a result against a reference", _evaluate_options, _evaluate),
}
"""Name: one line of help, function that adds the options, function that runs the command."""
