"""Make a purified data set from a table of cases: simulate, purify, write, and never do the same work twice.

Owns the order of the work, and which folder it may be done in. The table is in `cases`, which shards it asks for in
`orders`, how one is made in `shard_making`, what there is by now in `record`; who does the work is `cluster`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import packages
from ..errors import InputError
from ..io import atomic, outputs
from ..io.json_files import read_if_sound
from ..io.locks import ForOwner, exclusive, owner_of
from ..parallel import cluster
from ..progress import NO_PROGRESS, Progress
from . import owner_files
from .cases import PATHS, Case, check_cases, identified, split_by_patient
from .orders import orders_of
from .patients import hidden, key_file, key_mark
from .record import KEY, Prepared, Record, common_facts
from .settings import PreparationSettings
from .shard_making import examine, make
from .shards import (
    DATASET_FILE,
    FORMAT,
    PRIVATE_FOLDER,
    SCANS_FOLDER,
    SHARD_FILE,
    SHARDS_FOLDER,
    TABLE_FILE,
    is_dataset,
)

_BEFORE = (SHARDS_FOLDER, SCANS_FOLDER, PRIVATE_FOLDER, TABLE_FILE)  # what may be there before the data set is one
_EXAMINED = 0.15  # part of the progress until the first shard is begun


@exclusive("prepare")
def prepare(
    cases: Sequence[Case],
    folder: str | Path,
    *,
    progress: Progress = NO_PROGRESS,
    **options: Any,
) -> list[Prepared]:
    """Make or complete a purified data set; the cases are all that it then consists of.

    A shard whose files and settings did not change is kept as it is, whatever happened to the run that made it.
    Where a case leaves its split open, its patient keeps the one that it had in this data set, as long as
    `fractions` and `seed` are the same. Cases that fail stop no others. Patients are labels that hide who they are,
    whatever the cases call them; names, which are the caller's choice, are not hidden. Everything that any strategy
    needs is made, so modules and T are chosen when the data are read; dose, method, kernel and seed are the case's.

    Parameters
    ----------
    cases : sequence of Case
    folder : path
        New, empty, or a data set.
    progress : Progress
    **options
        Fields of `settings.PreparationSettings`; `scheduler` may be a `cluster.Scheduler`.

    Returns
    -------
    list of Prepared
        In the order of the cases.

    Raises
    ------
    InputError
        The table (`cases.check_cases`) or an option cannot be used, the folder holds something else or a data set
        whose patients were hidden with another key, no case at all could be purified, or matplotlib is missing.
    OutputError
        The folder cannot be written.
    Cancelled
        If `progress` was cancelled. Finished shards stay, and the next call goes on.
    """
    packages.need("matplotlib", "a thumbnail of each shard")
    settings = PreparationSettings(**options)
    if not settings.keep_patient_names:
        cases = [replace(case, patient=case.patient and hidden(case.patient)) for case in cases]
    check_cases(cases)
    folder = Path(folder).absolute()
    _check_folder(folder)
    if settings.split_projections:
        _check_physical(cases)
    cases = _with_splits(cases, folder, settings.fractions, settings.seed)
    shards_folder = folder / SHARDS_FOLDER
    owner_files.make_folder(folder)
    owner_files.make_folder(shards_folder)
    _forget_patients(shards_folder)
    try:
        orders = orders_of(
            cases, shards_folder, settings.purification, settings.split_projections, progress.part(0.0, 0.05)
        )
        record = Record(folder, cases, orders, common_facts(settings))
        if todo := record.missing():
            workers = settings.workers if settings.workers < 2 else min(settings.workers, len(todo))
            with cluster.crew(workers, settings.scheduler, settings.retries) as crew:
                unseen = list({order.case.name: order.case for order in todo}.values())
                examined = progress.part(0.05, _EXAMINED)
                crew.run(examine, unseen, finished=record.examined, progress=examined)
                record.write()
                made = progress.part(_EXAMINED, 1.0)
                work = ForOwner(make, folder, owner_of(folder))
                crew.run(work, record.missing(), finished=record.made, progress=made)
        record.write()
    finally:
        atomic.sweep(shards_folder)  # what workers left that died
        _remove_if_empty(shards_folder, folder)
    if not record.have:
        reasons = [f"case {name!r}: {reason}" for name, reason in record.failed.items()]
        raise InputError("no case could be purified: " + "; ".join(reasons[:3]) + (" ..." if reasons[3:] else ""))
    progress.report(1.0, "prepared")
    return [record.outcome(case) for case in cases]


def unused_shards(folder: str | Path) -> list[Path]:
    """Folders of shards, of other settings or cases, that a data set does not consist of any more."""
    folder = Path(folder)
    used = {entry.get("key") for entry in read_if_sound(folder / DATASET_FILE).get("shards", [])}
    return sorted(
        path for path in (folder / SHARDS_FOLDER).glob("*") if path.name not in used and not path.name.startswith(".")
    )


def _check_folder(folder: Path) -> None:
    if is_dataset(folder):
        content = read_if_sound(folder / DATASET_FILE)
        if content.get("format") != FORMAT:
            raise InputError(f"{folder / DATASET_FILE} is damaged or of another version: give a new folder")
        if content.get(KEY, key_mark()) != key_mark():
            raise InputError(
                f"the patients of {folder} are hidden with another key than {key_file()}, so that a new scan of one of "
                "them would count as another patient: complete it as the user who made it, or with a copy of that key"
            )
    elif folder.is_dir() and any(entry.name not in _BEFORE for entry in atomic.contents(folder)):
        raise InputError(f"{folder} is not empty and holds no data set: give a new folder's name")
    elif folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a new folder's name")


def _check_physical(cases: Sequence[Case]) -> None:
    for case in cases:
        if not case.paired and case.method != "physical":
            raise InputError(
                f"case {case.name!r}: views are split in the physical simulation only, not in {case.method!r}"
            )


def _with_splits(cases: Sequence[Case], folder: Path, fractions: Sequence[float], seed: int) -> list[Case]:
    """Absolute paths, patients and splits; earlier splits stay."""
    cases = identified(
        replace(case, **{name: path and path.absolute() for name, path in vars(case).items() if name in PATHS})
        for case in cases
    )
    earlier: dict[str, str] = {}
    if read_if_sound(folder / DATASET_FILE).get("split") == {"fractions": list(fractions), "seed": seed}:
        with suppress(InputError):  # an unreadable table is replaced
            earlier = {hidden(case.patient): case.split for case in owner_files.read_cases(folder) if case.patient}
    given = {case.patient for case in cases if case.split}
    cases = [
        case if case.patient in given else replace(case, split=earlier.get(hidden(case.patient), "")) for case in cases
    ]
    return split_by_patient(cases, fractions, seed)


def _remove_if_empty(*folders: Path) -> None:
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _forget_patients(shards_folder: Path) -> None:
    """Take out of shards who they are of, which those of earlier versions say, in clear; and let nobody look in."""
    for path in shards_folder.glob(f"*/{SHARD_FILE}"):
        facts = read_if_sound(path)
        if "patient" in facts:
            del facts["patient"]
            outputs.write_json(path, facts)
            shards_folder.chmod(0o700)
