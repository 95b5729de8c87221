"""The command `prepare`: options, which cases are meant, and what is said at the end. The work is `preparation`'s."""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled, InputError
from ..io.locks import owned
from ..options import declarations, flags, words
from . import arguments
from .console import Console
from .options import LOADING, add_certificates, with_certificates

if TYPE_CHECKING:
    from ..datasets.cases import Case
    from ..datasets.record import Prepared


def _prepare_options(command: argparse.ArgumentParser) -> None:
    from ..datasets.cases import SIMULATED, Case
    from ..datasets.settings import PreparationSettings

    command.description = (
        "Make a purified data set for 'ipv2 train' and 'ipv2 compare' in DATASET. An NDCT alone gets a simulated\n"
        "uLDCT: respiratory motion is simulated, then its dose lowered. Patients are assigned at random to training,\n"
        "validation and test. What is there already is not made again: run the same command to go on after a stop,\n"
        "or give more INPUTs, with the same options, to add them. A table is the whole data set."
    )
    command.epilog = (
        "examples:\n"
        "  ipv2 prepare a.nrrd b.nrrd c.nrrd --out dataset                 three patients, uLDCTs simulated\n"
        "  ipv2 prepare --pair uldct.nrrd ndct.nrrd more/ --out dataset    a pair, and all that is in a folder\n"
        "  ipv2 prepare cases.csv --out dataset --workers 4                a table, four cases at a time"
    )
    command.add_argument(
        "inputs", type=Path, nargs="*", metavar="INPUT",
        help="an NDCT file, a DICOM folder, a folder of stages from 'ipv2 purify', a folder with files named uldct "
        "and ndct, a folder of such, or a table of cases (.csv)",
    )  # fmt: skip
    command.add_argument("--out", type=Path, required=True, metavar="DATASET", help="new folder, or a data set")
    command.add_argument(
        "--pair", type=Path, nargs=2, action="append", default=[], metavar=("ULDCT", "NDCT"),
        help="two scans of one patient; may be given several times",
    )  # fmt: skip
    command.add_argument("--table", type=Path, metavar="FILE", help="a table of cases, instead of INPUTs")
    command.add_argument(
        "--prune", action="store_true", help="remove the shards of other settings or cases when all is done"
    )
    command.add_argument(
        "--neutral-names", action="store_true",
        help="name cases case-001, case-002, ... instead of after files and folders, which may hold patients' names",
    )  # fmt: skip
    arguments.add_settings(command)
    simulated = command.add_argument_group(SIMULATED)
    simulated.add_argument(
        "--dose", type=float, nargs="+", metavar="D",
        help=f"{words(Case, 'dose')}; two: random between them for each realisation",
    )  # fmt: skip
    arguments.add(command, Case)
    add_certificates(command)
    arguments.add(command, PreparationSettings)


def _prepare(options: argparse.Namespace, console: Console) -> None:
    console.progress.report(0.0, LOADING)
    from ..datasets.preparation import prepare, unused_shards
    from ..datasets.settings import PreparationSettings
    from ..datasets.shards import SHARDS_FOLDER, read_shard

    settings = arguments.chosen(options, PreparationSettings())
    rows = []
    with owned(options.out, "prepare"):  # nobody else adds cases, or makes shards that are not used yet
        cases = _cases(options, settings.seed)
        _say_names(cases, options.out, settings.keep_patient_names, console)
        try:
            scheduler = with_certificates(options, settings.scheduler)
            how = vars(settings) | {"scheduler": scheduler}
            prepared = prepare(cases, options.out, progress=console.progress, **how)
        except KeyboardInterrupt:
            raise Cancelled("stopped; finished cases stay, run it again to go on") from None
        for one in prepared:
            slices = read_shard(options.out / SHARDS_FOLDER / one.keys[0]).shape[0] if one.keys else 0
            rows.append(_row(one, slices))
            if one.message:
                console.note(f"case {one.case.name!r}: {one.message}")
        if unused := unused_shards(options.out):
            if options.prune:
                for path in unused:
                    shutil.rmtree(path, ignore_errors=True)
            else:
                gigabytes = sum(file.stat().st_size for path in unused for file in path.iterdir()) / 1e9
                console.note(
                    f"{len(unused)} shards of other settings or cases take up {gigabytes:.1f} GB; --prune removes them"
                )
    failed = sum(one.status == "failed" for one in prepared)
    console.result(_text(options.out, prepared), failed, command="prepare", folder=str(options.out), cases=rows)


def _cases(options: argparse.Namespace, seed: int) -> list[Case]:
    """The table, or else what the data set has already and the inputs."""
    from ..datasets.cases import neutral
    from ..datasets.owner_files import read_cases
    from ..datasets.shards import is_dataset

    have = read_cases(options.out) if is_dataset(options.out) else []
    cases = _named(options, have, seed)
    return neutral(cases, have) if options.neutral_names else cases


def _say_names(cases: list[Case], folder: Path, keep_patient_names: bool, console: Console) -> None:
    """Say once, when cases are added, whose names a data set will hold."""
    from ..datasets.cases import is_named_after_files
    from ..datasets.owner_files import read_cases
    from ..datasets.patients import hidden
    from ..datasets.shards import is_dataset

    have = {case.name for case in read_cases(folder)} if is_dataset(folder) else set()
    new = [case for case in cases if case.name not in have]
    if after := [case.name for case in new if is_named_after_files(case)]:
        console.note(
            f"cases are named after their files or folders, such as {after[0]!r}: where these hold a patient's name, "
            "the data set does, too; --neutral-names names them case-001, case-002, ..."
        )
    if keep_patient_names and (
        kept := [case.patient for case in cases if case.patient not in ("", hidden(case.patient))]
    ):
        console.note(
            f"patients stay as the table names them, such as {kept[0]!r}: whoever gets the data set can read that"
        )


def _named(options: argparse.Namespace, have: list[Case], seed: int) -> list[Case]:
    from ..datasets.cases import Case, cases_from_paths, named, read_table

    tables = [path for path in options.inputs if path.suffix.lower() == ".csv"]
    if options.table is not None:
        tables.append(options.table)
    paths = [path for path in options.inputs if path not in tables]
    if tables:
        if len(tables) > 1 or paths or options.pair:
            raise InputError("a table is the whole data set: give one table and nothing else, or add rows to it")
        double = [flags(name, declarations(Case)[name])[0] for name in arguments.given(options, Case)]
        if double := ["--dose"] * (options.dose is not None) + double:
            raise InputError(f"{double[0]} is a column of the table: write it there")
        return read_table(tables[0])
    chosen: dict[str, Any] = {"seed": seed, **arguments.given(options, Case)}
    if options.dose:
        if len(options.dose) > 2:
            raise InputError(f"--dose has {len(options.dose)} numbers: give one, or the lowest and the highest")
        chosen["dose"], chosen["dose_high"] = (*options.dose, None)[:2]
    for pair in options.pair:
        for path in pair:
            if not path.exists():
                raise InputError(f"{path} does not exist")
    found = cases_from_paths(paths)
    found += [Case("", ndct=ndct, uldct=uldct) for uldct, ndct in options.pair]
    found = [replace(case, **chosen) for case in found]
    return named(_added(have, found, options.out))


def _added(have: list[Case], found: list[Case], folder: Path) -> list[Case]:
    """The cases of a data set and more; one whose files are there already keeps its name, patient and split.

    Unless the files were replaced meanwhile by those of another patient.
    """
    from ..datasets.contents import recorded_contents

    places = {tuple(path.resolve() for path in case.sources): index for index, case in enumerate(have)}
    result = list(have)
    taken = {case.name.lower() for case in have}
    for case in found:
        index = places.get(tuple(path.resolve() for path in case.sources))
        if index is not None:
            earlier = have[index]
            if _is_of_another_patient(case, earlier, recorded_contents(folder)):
                result[index] = replace(case, name=earlier.name)
            else:
                result[index] = replace(case, name=earlier.name, patient=earlier.patient, split=earlier.split)
        else:
            result.append(replace(case, name="") if case.name.lower() in taken else case)
    return result


def _is_of_another_patient(case: Case, earlier: Case, recorded: dict[str, dict[str, str]]) -> bool:
    """Whether other files lie in the place of a case and say that they are of another patient."""
    from ..datasets.cases import patient_id
    from ..datasets.contents import contents
    from ..datasets.patients import hidden

    own = patient_id(case)
    return own not in ("", hidden(earlier.patient)) and recorded.get(earlier.name) != contents(earlier)


def _row(one: Prepared, slices: int) -> dict[str, Any]:
    return {
        "name": one.case.name,
        "patient": one.case.patient,
        "split": one.case.split,
        "status": one.status,
        "message": one.message,
        "thumbnail": str(one.thumbnail) if one.thumbnail else None,
        "slices": slices,
    }


def _text(folder: Path, prepared: list[Prepared]) -> str:
    status = Counter(one.status for one in prepared)
    splits = Counter(one.case.split for one in prepared if one.status != "failed")
    counts = ", ".join(f"{count} {name}" for name, count in status.items())
    lines = [f"{folder}: {len(prepared)} case{'s' if len(prepared) > 1 else ''} ({counts})"]
    lines += [f"  {count} for {name}" for name, count in splits.items()]
    return "\n".join(lines)


COMMANDS = {"prepare": ("make a purified data set to train on", _prepare_options, _prepare)}
"""Name: one line of help, function that adds the options, function that runs the command."""
