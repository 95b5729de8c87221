"""The command `node`: a DICOM node that denoises what is sent to it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .. import packages
from ..errors import InputError
from ..io import outputs
from .console import Console
from .streams import write


def _node_options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Be a DICOM node: receive CT series by C-STORE, denoise them as 'ipv2 denoise' does, and send the results to\n"
        f"other nodes. {outputs.RESEARCH}\n"
        "FILE says who may call, what becomes of which series, and where results go. The log are JSON lines on stdout\n"
        "that name no patient. What was accepted is on the disk; after a stop, the same command goes on."
    )
    command.epilog = (
        "examples:\n"
        "  ipv2 node node.toml                             until Ctrl-C or SIGTERM\n"
        "  ipv2 node --check node.toml dicom-folder        which rule fits, and what it does\n"
        "  ipv2 node --status node.toml                    exit code 1 if it does not run"
    )
    command.add_argument("file", type=Path, metavar="FILE", help="TOML file of the node")
    command.add_argument("series", type=Path, nargs="*", metavar="SERIES", help="with --check: DICOM files or folders")
    what = command.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="read FILE, say what its rules do with each SERIES, and end")
    what.add_argument("--status", action="store_true", help="say what is in the queue and what was done, and end")


def _node(options: argparse.Namespace, console: Console) -> None:
    from ..node import settings

    if options.series and not options.check:
        raise InputError(f"{options.series[0]} is given beside FILE: series are sent to a node, or named with --check")
    found = settings.read(options.file)
    if options.check:
        _check(found, options.series, console)
        return
    packages.need("pynetdicom", "'ipv2 node'")
    from ..node import node

    if options.status:
        facts = node.status(found)
        lines = ["running" if facts["running"] else "not running"]
        lines += [f"{name}: {count}" for part in ("queue", "counts") for name, count in facts.get(part, {}).items()]
        if error := facts.get("last_error"):
            lines.append(f"last error: {json.dumps(error)}")
        console.result("\n".join(lines), 0 if facts["running"] else 1, command="node", **facts)
        return
    from ..node.log import Log

    node.run(found, Log(_write_line), console.progress.cancelled)


def _write_line(line: dict[str, Any]) -> None:
    write(sys.stdout, json.dumps(line) + "\n")


def _check(found: Any, series: list[Path], console: Console) -> None:
    from ..node import rules, work

    work.prepare(found.rules)
    lines = [f"rules[{number}]: a series that it fits {rules.spoken(rule)}" for number, rule in enumerate(found.rules)]
    results = []
    if series:
        lines = []
    for path in series:
        facts, number = rules.of_series(found.rules, path)
        does = "fits no rule: it is kept here and not sent" if number is None else rules.spoken(found.rules[number])
        lines.append(f"{path}: {'' if number is None else f'rules[{number}]: '}{does}")
        results.append({"series": str(path), **vars(facts), "rule": number})
    console.answer("\n".join(lines), command="node", rules=len(found.rules), results=results)


COMMANDS = {
    "node": ("be a DICOM node that denoises what is sent to it", _node_options, _node),
}
"""Name: one line of help, function that adds the options, function that runs the command."""
