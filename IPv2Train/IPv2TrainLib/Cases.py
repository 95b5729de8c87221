"""The cases of the panel: as text in the parameter node, and how far the data set on disk has them.

Owns nothing that is seen; the table is `CaseTable`'s. What a case is, is `IPv2Lib.datasets.cases`' matter.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from IPv2Lib.datasets.cases import PATHS, Case, free_name, named
from IPv2Lib.datasets.owner_files import read_cases, read_failures
from IPv2Lib.datasets.shards import DATASET_FILE, SPLITS, PurifiedDataset
from IPv2Lib.errors import InputError
from IPv2Lib.training.run_folder import read_json

WAITING, PURIFIED, CHANGED, FAILED = "waiting", "purified", "changed", "failed"
"""How far a case is: to be purified, done, done with other settings, could not be done."""


def casesToText(cases: Sequence[Case]) -> str:
    """Cases as JSON, for the parameter node."""
    rows = [
        {name: str(value) if isinstance(value, Path) else value for name, value in asdict(case).items()}
        for case in cases
    ]
    return json.dumps(rows)


def casesFromText(text: str) -> list[Case]:
    """The cases of `casesToText`; none of a text that is not from there."""
    try:
        rows = json.loads(text or "[]")
        return [
            Case(**{name: Path(value) if name in PATHS and value else value for name, value in row.items()})
            for row in rows
        ]
    except (ValueError, TypeError, AttributeError):
        return []


@dataclass(frozen=True)
class CaseState:
    """How far a case is.

    Attributes
    ----------
    state : str
        `WAITING`, `PURIFIED`, `CHANGED` or `FAILED`.
    message : str
        Why it failed.
    key : str
        Of its first shard; empty without one.
    """

    state: str
    message: str = ""
    key: str = ""


def caseStates(cases: Sequence[Case], dataset: Path | None) -> dict[str, CaseState]:
    """How far each case is, by its name. Reads three small files, so it can be asked often while cases are purified."""
    content = read_json(dataset / DATASET_FILE) if dataset else None
    if not content:
        return {case.name: CaseState(WAITING) for case in cases}
    try:
        made = {case.name: _decisive(case) for case in read_cases(dataset)}
    except InputError:
        made = {}
    keys: dict[str, list[str]] = {}
    for shard in content.get("shards", []):
        keys.setdefault(shard.get("case"), []).append(shard.get("key", ""))
    messages = read_failures(dataset)
    failed = {each.get("case"): messages.get(each.get("case"), "") for each in content.get("failed", [])}

    def state(case: Case) -> CaseState:
        have = keys.get(case.name, [])
        key = have[0] if have else ""
        if made.get(case.name) != _decisive(case):
            return CaseState(CHANGED if case.name in made and key else WAITING, key=key)
        if case.name in failed:
            return CaseState(FAILED, failed[case.name], key)
        return CaseState(PURIFIED if len(have) >= (1 if case.paired else case.realisations) else WAITING, key=key)

    return {case.name: state(case) for case in cases}


def casesOfDataset(dataset: Path) -> list[Case]:
    """The table of a data set.

    Raises
    ------
    InputError
        The folder is one of a damaged data set, or of another version.
    """
    PurifiedDataset.read(dataset)
    return read_cases(dataset)


def withSplit(cases: Sequence[Case], patients: set[str], split: str) -> list[Case]:
    """The cases with another split for some patients; a patient moves as a whole. Empty: to be assigned at random."""
    return [replace(case, split=split) if case.patient in patients else case for case in cases]


def joined(cases: Sequence[Case], found: Sequence[Case]) -> list[Case]:
    """The cases and new ones, whose names give way; those of scans that are there already are left out."""
    have = {case.sources for case in cases}
    names = {case.name.lower() for case in cases}
    fresh = []
    for case in named(found):
        if case.sources not in have or not case.sources:
            have.add(case.sources)
            fresh.append(replace(case, name=_free(case.name, names)))
            names.add(fresh[-1].name.lower())
    return [*cases, *fresh]


def _free(name: str, taken: set[str]) -> str:
    """The name, or with a number if it is taken, in whatever capitals."""
    return name + free_name(name.lower(), taken)[len(name.lower()) :]


def countsOfSplits(cases: Sequence[Case]) -> dict[str, tuple[int, int]]:
    """Cases and patients in each split, in the order of `shards.SPLITS`."""
    return {
        split: (
            sum(case.split == split for case in cases),
            len({case.patient for case in cases if case.split == split}),
        )
        for split in SPLITS
    }


def _decisive(case: Case) -> Case:
    """The case without what does not change its shards."""
    paths = {name: value and value.absolute() for name, value in vars(case).items() if name in PATHS}
    return replace(case, split="", patient="", **paths)
