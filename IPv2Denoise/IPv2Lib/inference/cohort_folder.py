"""The folder of a denoised cohort: which output belongs to which input, and the report.

An input is known by its place, of which the file beside its output has a digest. Whatever else lies in the folder is
never given to it. An input that came from elsewhere takes over the result of the same content whose own input is gone,
as when a folder was renamed. The report is for people; without it only the places of earlier inputs are not known.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..io import outputs

REPORT_FILE = "report.csv"
REPORT_COLUMNS = ("input", "output", "status", "attempts", "reason", "input_sha256")
OTHER = "of an earlier call"
"""Value of the report's column status for a result of an input that was not given this time."""

_SUFFIX = ".nrrd"
_PLACE = "input_place"


def place_of(path: Path) -> Path:
    """The same for all ways to write the place of an input; a link is a place of its own, whatever it leads to."""
    path = Path(path)
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


def named_place(path: Path) -> dict[str, str]:
    """What the file beside a result says of the place of its input: the name, and a digest of the rest, which may hold
    names of patients."""
    place = place_of(path)
    return {"input": place.name, _PLACE: hashlib.sha256(os.fsencode(place)).hexdigest()[:16]}


class CohortFolder:
    """What is in the folder of a cohort before a call; it need not exist."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._results: dict[str, dict[str, Any]] = {}  # what the file beside each result says
        self._inputs: dict[str, Path] = {}  # of results, as far as the report knows
        for sidecar in sorted(folder.glob(f"*{_SUFFIX}.json")):
            output = sidecar.with_suffix("")
            facts = outputs.read_sidecar(output)
            if facts is not None and facts.get("command") == "denoise":
                self._results[output.name] = facts
        for place, name in _rows(folder / REPORT_FILE):
            if self._results.get(name, {}).get(_PLACE) == named_place(place)[_PLACE]:
                self._inputs[name] = place

    def __bool__(self) -> bool:
        """Whether it holds results or a report."""
        return bool(self._results) or (self.folder / REPORT_FILE).is_file()

    def names(self, places: Sequence[Path], contents: Callable[[Sequence[Path]], Mapping[Path, str]]) -> list[str]:
        """File name of the output of each input: the one that it has, or a new one.

        Parameters
        ----------
        places : sequence of Path
            See `place_of`; no two are the same.
        contents : callable
            Gives `Volume.sha256` of inputs, but for those that cannot be read. Called if there are inputs without an
            output, and outputs without an input.
        """
        by_digest: dict[str, str] = {}
        for name in [*self._inputs, *self._results]:  # somebody may have copied a result
            by_digest.setdefault(self._results[name].get(_PLACE, ""), name)
        have = {place: same for place in places if (same := by_digest.get(named_place(place)[_PLACE]))}
        fresh = [place for place in places if place not in have]
        inputs = self._inputs | {name: place for place, name in have.items()}
        gone = [name for name in self._results if name not in inputs or not inputs[name].exists()]
        if fresh and gone:
            taken = self._taken_over(gone, contents(fresh))
            have = {place: name for place, name in have.items() if name not in taken.values()} | taken
            fresh = [place for place in places if place not in have]
        have |= zip(fresh, self._new(fresh), strict=True)
        return [have[place] for place in places]

    def _taken_over(self, gone: Iterable[str], contents: Mapping[Path, str]) -> dict[Path, str]:
        taken: dict[Path, str] = {}
        for name in gone:
            content = self._results[name].get("input_sha256")
            same = (place for place, its_content in contents.items() if its_content == content and place not in taken)
            if (place := next(same, None)) is not None:
                taken[place] = name
        return taken

    def _new(self, places: Sequence[Path]) -> list[str]:
        """Names that nothing in the folder has."""
        entries = (path.name.removesuffix(".json") for path in self.folder.iterdir())
        taken = [name[: -len(_SUFFIX)] for name in entries if name.lower().endswith(_SUFFIX)]
        return [f"{name}{_SUFFIX}" for name in outputs.unique_names(places, taken)]

    def others(self, mine: set[str]) -> list[tuple[Any, ...]]:
        """Rows of the report for the results that were in the folder and are not among `mine`."""
        return [
            (self._inputs.get(name, facts.get("input", "")), name, OTHER, "", "", facts.get("input_sha256", ""))
            for name, facts in self._results.items()
            if name not in mine and (self.folder / name).is_file()
        ]

    def write_report(self, rows: Iterable[Sequence[Any]]) -> None:
        """Replace the report."""
        outputs.write_csv(self.folder / REPORT_FILE, REPORT_COLUMNS, rows)


def _rows(report: Path) -> list[tuple[Path, str]]:
    """Input and output in the rows of a report; none if it cannot be read."""
    try:
        with open(report, newline="", encoding="utf-8-sig") as file:
            rows = [(row["input"], row["output"]) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, csv.Error):
        return []
    return [(Path(place), output) for place, output in rows if place and output and "\0" not in place]
