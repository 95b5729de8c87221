"""`ipv2 denoise` of many scans that some workers do: what is said about those that failed. The work is `cohort`'s."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING

from ..errors import Cancelled
from ..io import outputs
from ..parallel.options import Workers
from . import arguments
from .console import Console
from .options import Notes, has_certificates, runner

if TYPE_CHECKING:
    from ..inference.options import DenoiseOptions
    from ..models.bundle import Bundle


def is_cohort(options: argparse.Namespace) -> bool:
    """Whether workers, a scheduler or retries were asked for: then scans that fail do not stop the others."""
    return bool(arguments.given(options, Workers)) or has_certificates(options)


def denoise_cohort(options: argparse.Namespace, how: DenoiseOptions, model: Bundle, console: Console) -> None:
    """Denoise `options.inputs` into the folder `options.output`."""
    from ..inference import cohort

    try:
        scans = cohort.denoise_cohort(
            options.inputs, options.output, model, how, **runner(options),
            progress=console.progress,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise Cancelled("stopped; finished scans stay, run it again to go on") from None
    notes = Notes(console)
    for scan in scans:
        notes.say(scan.source, [scan.reason] if scan.facts is None else scan.facts["provenance"]["concerns"])
    counts = Counter(scan.status for scan in scans)
    text = ", ".join(f"{count} {status}" for status, count in counts.items())
    results = [
        {
            "input": str(scan.source),
            "status": scan.status,
            "attempts": scan.attempts,
            "reason": scan.reason,
            "output": None if scan.status == cohort.FAILED else str(scan.output),
            "sidecar": None if scan.status == cohort.FAILED else str(outputs.sidecar_path(scan.output)),
            **(scan.facts or {}),
        }
        for scan in scans
    ]
    report = options.output / cohort.REPORT_FILE
    console.result(
        f"{options.output}: {text} with {model.name} at strength {how.strength:g}, see {report}",
        counts[cohort.FAILED],
        command="denoise", output=str(options.output), report=str(report), results=results, notes=notes.texts,
    )  # fmt: skip
