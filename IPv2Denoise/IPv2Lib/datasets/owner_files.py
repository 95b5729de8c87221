"""The table of a data set, in two copies: one that travels with it, and the owner's, which says where the scans are.

Owns what only the owner of a data set gets to see. Whoever is given the data set without the folder `PRIVATE_FOLDER`
can train on it and compare with it, but not complete it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import OutputError, reason
from ..io import outputs
from .cases import PATHS, Case, read_table, write_table
from .shards import PRIVATE_FOLDER, TABLE_FILE

_FAILURES_FILE = "failed.json"


def make_folder(folder: Path) -> None:
    """Make a folder for patients' data, if it is not there, that only its owner can look into.

    Raises
    ------
    OutputError
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made ({reason(error)})") from error


def write_cases(cases: Sequence[Case], dataset: Path) -> None:
    """Write both tables. That which travels names no file outside the data set.

    Raises
    ------
    OutputError
    """
    private = dataset / PRIVATE_FOLDER
    make_folder(private)
    write_table(cases, private / TABLE_FILE, dataset)
    write_table([_without_outside(case, dataset) for case in cases], dataset / TABLE_FILE)


def read_cases(dataset: Path) -> list[Case]:
    """The cases of a data set, with their paths where the owner's table is there.

    Raises
    ------
    InputError
        There is no table, or it is damaged.
    """
    private = dataset / PRIVATE_FOLDER / TABLE_FILE
    return read_table(private if private.is_file() else dataset / TABLE_FILE, dataset)


def write_failures(messages: Mapping[str, str], dataset: Path) -> None:
    """Write why cases failed, by their names; messages name files."""
    outputs.write_json(dataset / PRIVATE_FOLDER / _FAILURES_FILE, dict(messages))


def read_failures(dataset: Path) -> dict[str, str]:
    """Why cases failed, by their names, as far as it is known."""
    try:
        content = json.loads((dataset / PRIVATE_FOLDER / _FAILURES_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _without_outside(case: Case, dataset: Path) -> Case:
    """The case without its paths that lead out of the data set."""
    base = dataset.absolute()
    outside = [name for name in PATHS if (path := getattr(case, name)) and not path.absolute().is_relative_to(base)]
    none: dict[str, Any] = dict.fromkeys(outside)
    return replace(case, **none)
