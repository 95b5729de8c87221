"""The commands `compare` and `ablation`: options, and what is said at the end. The work is `comparison`'s and
`ablation`'s."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled
from . import arguments
from .console import Console
from .options import LOADING, aligned

Row = Mapping[str, Any]

if TYPE_CHECKING:
    from ..evaluation.ablation import Ablation
    from ..evaluation.comparison import Comparison


def _compare_options(command: argparse.ArgumentParser) -> None:
    from ..evaluation.settings import ComparisonSettings
    from ..inference.filters import FILTERS

    command.description = (
        "Score models and filters on the test scans of a purified data set: against the ground truth (the scan before\n"
        "its dose was lowered) where there is one, and against the test label of the purification. FOLDER gets\n"
        "table.csv with 95 % intervals, scores.csv with every slice, noise power spectra, task transfer functions\n"
        "and plot.png.\n"
        "The same command again goes on after a stop, and measures only models that are new."
    )
    command.epilog = (
        "examples:\n"
        "  ipv2 compare dataset --models input runs/ipv1 runs/ipv2 --out comparison\n"
        "  ipv2 compare dataset --models ipv2-fast implicit --slices 10 --out quick\n"
        "  ipv2 compare dataset --models input tv nlm:0.8 ipv2-fast --out filters"
    )
    _add_common(command, "comparison", ComparisonSettings)
    command.add_argument(
        "--models", nargs="+", required=True, metavar="NAME|FOLDER",
        help="'input' (the scan as it is), an installed model or a model's folder, the folder of a training run (its "
        "best weights), a network that needs no training (implicit), or a filter, as strong as the noise asks for: "
        f"{', '.join(FILTERS)}; tv:0.8 takes 0.8 times that strength. bm3d needs the package of that name, whose "
        "licence allows non-commercial use only",
    )  # fmt: skip


def _compare(options: argparse.Namespace, console: Console) -> None:
    console.progress.report(0.0, LOADING)
    from ..evaluation.comparison import compare
    from ..evaluation.settings import ComparisonSettings

    settings = arguments.chosen(options, ComparisonSettings())
    try:
        found = compare(
            options.dataset, options.models, options.out, **asdict(settings),
            progress=console.progress,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise Cancelled("stopped; the same command again goes on with what was measured") from None
    text = (
        f"{_comparison_text(found.rows)}\n\n{found.files['table']} has all measures, {found.files['plot']} the curves"
    )
    _say(console, text, found, found.notes, command="compare")


def _ablation_options(command: argparse.ArgumentParser) -> None:
    from ..evaluation.settings import AblationSettings

    command.description = (
        "Train the same network with the same budget and seeds on the pairs of IPv1, IPv1 with Remove Background,\n"
        "IPv1 with Add noise, and IPv2 (both), and score every run. FOLDER gets ablation.csv with mean and range over\n"
        "the seeds, ablation.png, the runs, and the scores of each of them in comparison/. The same command again\n"
        "goes on after a stop; seeds, strategies and networks may be added."
    )
    command.epilog = (
        "examples:\n"
        "  ipv2 ablation dataset --out ablation --seeds 3 --steps 600\n"
        "  ipv2 ablation dataset --out table --networks unet redcnn dncnn scunet --strategies ipv1 ipv2 --seeds 1"
    )
    _add_common(command, "ablation", AblationSettings)


def _ablation(options: argparse.Namespace, console: Console) -> None:
    console.progress.report(0.0, LOADING)
    from ..evaluation.ablation import ablate
    from ..evaluation.settings import AblationSettings

    settings = arguments.chosen(options, AblationSettings())
    found = ablate(options.dataset, options.out, progress=console.progress, late=console.leave, **vars(settings))
    text = "\n\n".join([_ablation_text(found.rows), *found.verdicts, f"{found.files['table']} has all measures"])
    _say(console, text, found, found.comparison.notes, command="ablation", verdicts=found.verdicts)


def _add_common(command: argparse.ArgumentParser, what: str, kind: type) -> None:
    command.add_argument("dataset", type=Path, metavar="DATASET", help="a purified data set that 'ipv2 prepare' made")
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help=f"new, or of an earlier {what}")
    arguments.add_settings(command)
    arguments.add(command, kind)


def _say(console: Console, text: str, found: Comparison | Ablation, notes: list[str], **more: Any) -> None:
    for note in notes:
        console.note(note)
    files = {name: str(path) for name, path in found.files.items()}
    console.result(text, folder=str(found.folder), table=found.rows, notes=notes, files=files, **more)


def _comparison_text(rows: Sequence[Row]) -> str:
    """The main measures with their intervals."""
    from ..evaluation.comparison_plot import counted

    def head(own: list[Row]) -> str:
        of = f": {counted(own[0]['patients'], 'patient')}, {counted(own[0]['slices'], 'slice')}"
        return of + (f"; 95 % intervals over {own[0]['resampled']}" if own[0]["resampled"] else "")

    return _text(rows, lambda row: row["method"], head, " low", " high")


def _ablation_text(rows: Sequence[Row]) -> str:
    """Mean and range over seeds of the main measures."""
    several = len({row["network"] for row in rows if row["network"]}) > 1

    def name(row: Row) -> str:
        return f"{row['network']} {row['strategy']}".strip() if several else row["strategy"]

    return _text(rows, name, lambda own: f", mean (and range) over {own[-1]['seeds']} seeds", " min", " max")


def _text(rows: Sequence[Row], name: Callable[[Row], str], head: Callable[[list[Row]], str], *ends: str) -> str:
    """A block for each reference: its head, and a column for each of its rows."""
    from ..datasets.shards import REFERENCES
    from ..evaluation.measures import TERMINAL, shown_in, spread

    blocks = []
    for reference in dict.fromkeys(row["reference"] for row in rows):
        own = [row for row in rows if row["reference"] == reference]
        cells = [["", *map(name, own)]]
        cells += [[each.title_with_unit, *(spread(row, each, *ends) for row in own)] for each in shown_in(TERMINAL)]
        blocks.append(f"Against the {REFERENCES[reference]}{head(own)}\n{aligned(cells)}")
    return "\n\n".join(blocks)


COMMANDS = {
    "compare": ("score models and filters on the test scans of a data set", _compare_options, _compare),
    "ablation": ("train and score each module of the purification", _ablation_options, _ablation),
}
"""Name: one line of help, function that adds the options, function that runs the command."""
