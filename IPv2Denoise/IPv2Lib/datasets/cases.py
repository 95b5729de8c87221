"""The table of cases that a data set is made from: read, written, checked, and split by patient.

Owns what a case is and the CSV file that lists cases. What is made of them is `preparation`'s.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError, reason
from ..io import outputs
from ..io.formats import BY_SUFFIX
from ..io.outputs import PROVENANCE_FILE, unique_names
from ..options import option
from ..purification.settings import KERNELS, MATCHED
from ..simulation.settings import METHODS
from .patients import hidden, patient_of
from .shards import SPLITS

FRACTIONS = (0.7, 0.15, 0.15)
"""Of the patients, for training, validation and test."""

MOST_MOTION_MM = 50.0

SIMULATED = "simulated uLDCTs of INPUTs (a table has columns for these)"
"""Heading of the options of cases that a command simulates."""

_ORDER = ("train", "test", "validation")
"""Which split gets the first patients where there are few: without a test nothing can be said about a model."""


@dataclass(frozen=True)
class Case:
    """A normal-dose CT, and the ultra-low-dose CT that goes with it or how to simulate one.

    Attributes
    ----------
    name : str
        Unique.
    ndct : Path or None
        File or DICOM folder, as for `files.read`.
    uldct : Path or None
        Likewise; None: simulated from the NDCT, after respiratory motion.
    stages : Path or None
        Instead of the two: a folder that 'ipv2 purify' or "Export stages" wrote, which brings both.
    patient : str
        Empty: the label (`patients.hidden`) of who a DICOM series is of, else of the name. See `identified`.
    dose, dose_high, method, kernel, motion_mm, realisations
        Of the simulated uLDCT; dose, method and kernel also of the noise that *Add noise* adds.
    seed : int
        Of everything random.
    split : str
        "train", "validation" or "test"; empty: assigned by `split_by_patient`.
    """

    name: str
    ndct: Path | None = None
    uldct: Path | None = None
    stages: Path | None = None
    patient: str = ""
    dose: float = option(
        0.02, "dose fraction of the simulated uLDCT, and of the noise that Add noise adds", unit="", above=0, high=1,
        percent=True, flag="-", panel=True, usual=(0.001, 1.0),
    )  # fmt: skip
    dose_high: float | None = option(
        None, "highest dose fraction; that of each realisation is then random between the two, evenly on a logarithmic "
        "scale", unit="", above=0, high=1, percent=True, flag="-", none="one dose", none_value=0, panel=True,
    )  # fmt: skip
    method: str = option(
        "physical", "simulator of the noise; physical: with the attenuation of the chest, published: with the "
        "constants of the publication", choices=METHODS, group=SIMULATED, panel="simulator",
    )  # fmt: skip
    kernel: str = option(
        "hann", "reconstruction kernel that the noise looks like: soft, hann, ramp, sharp, a sharpness from -1 to "
        "2, or matched, measured from the NDCT", group=SIMULATED, panel=True, usual=KERNELS,
    )  # fmt: skip
    motion_mm: float = option(
        6.0, "largest respiratory motion of the lungs between NDCT and simulated uLDCT", unit="mm", low=0,
        high=MOST_MOTION_MM, flag="--motion", metavar="MM", group=SIMULATED, panel=True,
    )  # fmt: skip
    realisations: int = option(
        1, "simulated uLDCTs of each NDCT, each with respiratory motion, noise and dose of its own", unit="", low=1,
        group=SIMULATED, panel=True, usual=(1, 100),
    )  # fmt: skip
    seed: int = 0
    split: str = ""

    @property
    def paired(self) -> bool:
        """Whether the uLDCT is given rather than simulated."""
        return self.uldct is not None or self.stages is not None

    @property
    def sources(self) -> tuple[Path, ...]:
        """The NDCT and, of a pair, then the uLDCT."""
        if self.stages is not None:
            from ..purification.stage_files import stage_file  # needs SciPy

            return self.stages / stage_file("ndct"), self.stages / stage_file("uldct")
        return tuple(path for path in (self.ndct, self.uldct) if path is not None)


COLUMNS = ("name", "patient", "ndct", "uldct", "stages", "dose", "dose_high", "method", "kernel", "motion_mm",
           "realisations", "seed", "split")  # fmt: skip
"""Of the table, in this order."""

PATHS = ("ndct", "uldct", "stages")
"""Attributes of a case that are paths."""

_NEUTRAL = re.compile(r"case-[0-9]{3,}")

_NUMBERS = {"dose": float, "dose_high": float, "motion_mm": float, "realisations": int, "seed": int}


def read_table(path: str | Path, folder: Path | None = None) -> list[Case]:
    """Read a table of cases.

    Comma-separated values with a line of column names (`COLUMNS`, in any order, not all of them needed), as
    spreadsheets write them, with semicolons and decimal commas too. An empty cell is the default, an empty name
    that of the file. Relative paths are relative to the folder, by default that of the table.

    Raises
    ------
    InputError
        The table cannot be read, has an unknown column, or a cell that is no number; with its line.
    """
    path = Path(path)
    folder = path.parent if folder is None else folder
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({reason(error)}): give a table of cases as CSV") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: save the table as CSV (UTF-8)") from error
    lines = text.splitlines()
    delimiter = max(",;\t", key=(lines or [""])[0].count)
    rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
    names = [name.strip().lower() for name in rows[0]] if rows else []
    if unknown := [name for name in names if name not in COLUMNS]:
        raise InputError(f"{path} has the unknown column {unknown[0]!r}: use {', '.join(COLUMNS)}")
    if not {"ndct", "stages"} & set(names):
        raise InputError(f"{path} has neither a column 'ndct' nor 'stages': give a table with a line of column names")
    cases = []
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) > len(names):
            raise InputError(f"{path}, line {number}: {len(row)} cells for {len(names)} columns")
        cells = {name: cell.strip() for name, cell in zip(names, row, strict=False) if cell.strip()}
        cases.append(Case(**{"name": ""} | {name: _value(name, cells[name], path, number, folder) for name in cells}))
    return named(cases)


def named(cases: Sequence[Case]) -> list[Case]:
    """The cases with every empty `name` filled in: that of the folder of stages or of the NDCT, made unique."""
    have = [Path(case.name) for case in cases if case.name]
    lack = [case.stages or case.ndct or case.uldct or Path("case") for case in cases if not case.name]
    names = iter(unique_names([*have, *lack])[len(have) :])
    return [case if case.name else replace(case, name=next(names)) for case in cases]


def is_named_after_files(case: Case) -> bool:
    """Whether the name of a case is that of its file or folder, where it may be a patient's name."""
    paths = (place for path in (case.stages, *case.sources) if path for place in (path, path.parent))
    derived = {unique_names([path])[0] for path in paths}
    return not derived.isdisjoint((case.name, re.sub(r"-[0-9]+$", "", case.name)))


def neutral(cases: Sequence[Case], earlier: Sequence[Case] = ()) -> list[Case]:
    """The cases with names that say nothing, case-001 and so on; scans that `earlier` has by such a name keep it.

    Examples
    --------
    >>> [case.name for case in neutral([Case("SMITH", Path("a.nrrd")), Case("DOE", Path("b.nrrd"))])]
    ['case-001', 'case-002']
    """
    known = defaultdict(list)
    for case in earlier:
        if _NEUTRAL.fullmatch(case.name):
            known[_places(case)].append(case.name)
    taken = {case.name for case in earlier}
    free = (name for number in itertools.count(1) if (name := f"case-{number:03d}") not in taken)
    found = []
    for case in cases:
        names = known[_places(case)]
        found.append(replace(case, name=names.pop(0) if names else next(free)))
    return found


def _places(case: Case) -> tuple[Path, ...]:
    return tuple(path.resolve() for path in case.sources)


def write_table(cases: Sequence[Case], path: str | Path, folder: Path | None = None) -> None:
    """Write a table of cases; paths below a folder, by default that of the table, are relative to it.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    path = Path(path)
    folder = path.parent if folder is None else folder
    rows = ([_cell(getattr(case, name), folder) for name in COLUMNS] for case in cases)
    outputs.write_csv(path, COLUMNS, rows)


def cases_from_paths(paths: Iterable[str | Path]) -> list[Case]:
    """A case for each path, or for each thing in a folder.

    Parameters
    ----------
    paths : iterable of path
        Each an NDCT file; a folder with a DICOM series; a folder with the stages of a purification; a folder with
        files named uldct and ndct (as `ipv2 phantom` writes), which are a pair; or a folder of all these.

    Raises
    ------
    InputError
        A path does not exist, or a folder holds nothing of the kind.
    """
    found = [named for path in paths for named in _in_path(Path(path))]
    names = unique_names([path for path, _ in found])
    return [replace(case, name=name) for name, (_, case) in zip(names, found, strict=True)]


def identified(cases: Iterable[Case]) -> list[Case]:
    """The cases with every empty `patient` filled in, by a label that hides whose scan it is.

    It is the label of who a DICOM series is of (`patients.patient_of`), else the patient of another case with the same
    file, else the label of the name of the case, with a number where another patient has it. Patients that are given
    stay as they are; a label of one of them becomes what is given.

    Raises
    ------
    InputError
        A pair whose scans are of two patients by their headers. The case is named.
    """
    cases = list(cases)
    if all(case.patient for case in cases):
        return cases
    given = {hidden(case.patient): case.patient for case in cases if case.patient}

    def shown(label: str) -> str:
        return given.get(label, label)

    cases = [case if case.patient else replace(case, patient=shown(patient_id(case))) for case in cases]
    patients = {path.resolve(): case.patient for case in cases if case.patient for path in case.sources}
    taken = set(patients.values())
    result = []
    for case in cases:
        files = [path.resolve() for path in case.sources]
        patient = case.patient or next((patients[file] for file in files if file in patients), "")
        patient = patient or next(label for name in _numbered(case.name) if (label := hidden(name)) not in taken)
        taken.add(patient)
        patients.update(dict.fromkeys(files, patient))
        result.append(replace(case, patient=patient))
    return result


def free_name(name: str, taken: Collection[str]) -> str:
    """The name, or with the first number with which nobody has it.

    Examples
    --------
    >>> free_name("scan", []), free_name("scan", ["scan", "scan-2"])
    ('scan', 'scan-3')
    """
    return next(candidate for candidate in _numbered(name) if candidate not in taken)


def _numbered(name: str) -> Iterator[str]:
    return (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))


def split_by_patient(cases: Sequence[Case], fractions: Sequence[float] = FRACTIONS, seed: int = 0) -> list[Case]:
    """Fill in every empty `split` (and `patient`), so that no patient is in two.

    A patient of whom one case has a split has it in all. The others are put into an order that depends on the seed and
    the names of their cases only: on no key, so that it is the same for everybody. Each split gets a patient first, in
    the order train, test, validation; the rest go where most are missing from the fractions.

    Parameters
    ----------
    cases : sequence of Case
    fractions : 3 numbers of 0 or more
        For training, validation and test, with sum 1.
    seed : int

    Raises
    ------
    InputError
        For fractions that are none, or a patient who already is in two splits.

    Examples
    --------
    >>> [case.split for case in split_by_patient([Case(name) for name in "abcdefghij"], (0.6, 0.2, 0.2), seed=2)]
    ['test', 'validation', 'test', 'train', 'validation', 'train', 'train', 'train', 'train', 'train']
    """
    check_fractions(fractions)
    cases = identified(cases)
    splits = _given_splits(cases)
    wanted = dict(zip(SPLITS, fractions, strict=True))
    patients = {case.patient for case in cases}
    counts = Counter(splits.values())
    first: dict[str, str] = {}
    for case in cases:
        first[case.patient] = min(case.name, first.get(case.patient, case.name))

    def place(patient: str) -> bytes:
        return hashlib.sha256(f"{seed}:{first[patient]}".encode()).digest()

    for patient in sorted(patients - splits.keys(), key=place):
        empty = [split for split in _ORDER if wanted[split] > 0 and not counts[split]]
        missing = {split: wanted[split] * len(patients) - counts[split] for split in _ORDER if wanted[split] > 0}
        split = empty[0] if empty else max(missing, key=missing.__getitem__)
        splits[patient] = split
        counts[split] += 1
    return [replace(case, split=splits[case.patient]) for case in cases]


def check_fractions(fractions: Sequence[float]) -> None:
    """Refuse (`InputError`) fractions for training, validation and test that are negative or do not sum to 1."""
    if len(fractions) != 3 or not all(0 <= value <= 1 for value in fractions) or abs(sum(fractions) - 1) > 1e-6:
        text = ", ".join(f"{value:g}" for value in fractions)
        raise InputError(
            f"the parts for training, validation and test are {text}: give three of 0 or more with sum 1, e.g. 0.7, "
            "0.15, 0.15"
        )


def check_cases(cases: Sequence[Case]) -> None:
    """Refuse what no data set can be made from, before any long work and without reading a volume.

    Raises
    ------
    InputError
        No case; a name twice; half of a pair; a file that is missing; a value out of range; a patient in two
        splits; a file of two patients. The case is named.
    """
    if not cases:
        raise InputError("there is no case: give NDCT files, DICOM folders, pairs, or a table of cases")
    names = Counter(case.name.lower() for case in cases)
    for case in cases:
        if names[case.name.lower()] > 1:
            raise InputError(f"{names[case.name.lower()]} cases are called {case.name!r}: give each its own name")
        try:
            _check_sources(case)
            _check_values(case)
        except InputError as error:
            raise InputError(f"case {case.name!r}: {error}") from error
    cases = identified(cases)
    _check_patients(cases)
    _given_splits(cases)


# --- files ------------------------------------------------------------------------------------------------------


def _value(name: str, text: str, table: Path, line: int, folder: Path) -> Any:
    if name in PATHS:
        return folder / Path(text).expanduser()
    if name not in _NUMBERS:
        return text
    try:
        return _NUMBERS[name](text.replace(",", "."))
    except ValueError:
        kind = "whole number" if _NUMBERS[name] is int else "number"
        raise InputError(f"{table}, line {line}: {name} is {text!r}, which is no {kind}") from None


def _cell(value: Any, folder: Path) -> str:
    if isinstance(value, Path):
        path, base = value.absolute(), folder.absolute()
        return path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)
    if isinstance(value, float):
        return repr(value)
    return "" if value is None else str(value)


def _in_path(path: Path) -> list[tuple[Path, Case]]:
    """Cases, each behind the path that it is named after."""
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_file():
        return [(path, Case("", ndct=path))]
    found = list(_in_folder(path))
    if not found:
        raise InputError(
            f"{path} holds no CT: give NDCT files, DICOM folders, folders of stages, or a folder that holds them"
        )
    return found


def _in_folder(folder: Path) -> Iterator[tuple[Path, Case]]:
    from ..io.dicom import is_dicom

    if _is_stages(folder):
        yield folder, Case("", stages=folder)
        return
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    volumes = [entry for entry in entries if entry.is_file() and entry.name.lower().endswith(tuple(BY_SUFFIX))]
    by_stem = dict(zip(unique_names(volumes), volumes, strict=True))
    if {"uldct", "ndct"} <= by_stem.keys():
        yield folder, Case("", ndct=by_stem["ndct"], uldct=by_stem["uldct"])
        return
    if any(is_dicom(entry) for entry in entries if entry.is_file()):
        yield folder, Case("", ndct=folder)
        return
    for entry in entries:
        if entry.is_dir():
            yield from _in_folder(entry)
        elif entry in volumes:
            yield entry, Case("", ndct=entry)


def _is_stages(folder: Path) -> bool:
    from ..purification.stage_files import stage_file

    try:
        facts = json.loads((folder / PROVENANCE_FILE).read_text(encoding="utf-8"))
        return facts["command"] == "purify" and (folder / stage_file("ndct")).is_file()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def patient_id(case: Case) -> str:
    """The label of who the files of a case are of, see `patients.patient_of`; empty where they do not say.

    Raises
    ------
    InputError
        They are of two patients.
    """
    found = list(dict.fromkeys(label for path in case.sources if (label := patient_of(path))))
    if len(found) > 1:
        raise InputError(
            f"case {case.name!r}: its NDCT is of patient {found[0]!r} and its uLDCT of {found[1]!r}: give two scans of "
            "one patient, or say in a table who it is"
        )
    return found[0] if found else ""


# --- checks -----------------------------------------------------------------------------------------------------


def _given_splits(cases: Iterable[Case]) -> dict[str, str]:
    """Split of every patient who has one."""
    given: dict[str, dict[str, str]] = defaultdict(dict)
    for case in cases:
        if case.split:
            given[case.patient].setdefault(case.split, case.name)
    for patient, found in given.items():
        if len(found) > 1:
            places = " and ".join(f"in {split} (case {name!r})" for split, name in found.items())
            raise InputError(
                f"patient {patient!r} is {places}: what is tested must not be trained on, so put all cases of a "
                "patient into one split"
            )
    return {patient: next(iter(found)) for patient, found in given.items()}


def _check_patients(cases: Iterable[Case]) -> None:
    """A scan under two patients would be trained on and tested."""
    first: dict[Path, Case] = {}
    for case in cases:
        for path in case.sources:
            other = first.setdefault(path.resolve(), case)
            if other.patient != case.patient:
                raise InputError(
                    f"case {case.name!r}: {path} is of patient {case.patient!r} here and of {other.patient!r} in case "
                    f"{other.name!r}: give both the same patient"
                )


def _check_sources(case: Case) -> None:
    if case.stages is not None:
        if case.ndct is not None or case.uldct is not None:
            raise InputError("a folder of stages brings uLDCT and NDCT: leave those two empty")
        if not case.stages.exists():
            raise InputError(f"{case.stages} does not exist")
        if not _is_stages(case.stages):
            raise InputError(f"{case.stages} holds no stages: give a folder that 'ipv2 purify' made")
    elif case.ndct is None:
        have = f"the uLDCT {case.uldct} has no NDCT" if case.uldct is not None else "there is no scan"
        raise InputError(f"{have}: a case needs an NDCT, or a folder of stages; only the uLDCT can be simulated")
    for path in case.sources:
        if not path.exists():
            raise InputError(f"{path} does not exist")
    if case.uldct is not None and case.ndct is not None and case.uldct.resolve() == case.ndct.resolve():
        raise InputError(f"uLDCT and NDCT are the same file {case.ndct}: leave the uLDCT empty to have it simulated")


def _check_values(case: Case) -> None:
    from ..simulation.projection import kernel

    if not 0 < case.dose <= 1:
        raise InputError(f"dose fraction {case.dose:g} is out of range: above 0, up to 1 (0.02 is 2 %)")
    if case.dose_high is not None and not case.dose <= case.dose_high <= 1:
        raise InputError(f"doses from {case.dose:g} to {case.dose_high:g}: give the lower one first, both up to 1")
    if case.method not in METHODS:
        raise InputError(f"unknown simulation method {case.method!r}: use physical or published")
    if case.kernel != MATCHED:
        kernel(case.kernel)
    if not (math.isfinite(case.motion_mm) and 0 <= case.motion_mm <= MOST_MOTION_MM):
        raise InputError(f"a respiratory motion of {case.motion_mm:g} mm is out of range: use 0 to {MOST_MOTION_MM:g}")
    if case.realisations < 1:
        raise InputError(f"{case.realisations} realisations: use 1 or more")
    if case.seed < 0:
        raise InputError(f"seed {case.seed} is negative: use 0 or more")
    if case.split and case.split not in SPLITS:
        raise InputError(f"unknown split {case.split!r}: use {', '.join(SPLITS)}, or leave it empty")
