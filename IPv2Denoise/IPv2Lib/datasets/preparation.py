"""Make a purified data set from a table of cases: simulate, purify, write, and never do the same work twice.

Owns what a shard is made of and when it has to be made again. The layout of the folder and how it is read are in
`shards`, the table is in `cases`, who does the work is `cluster`'s.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..analysis.region_labels import Region
from ..analysis.regions import segment
from ..analysis.suitability import unusable
from ..errors import InputError
from ..io import atomic, files, outputs
from ..io.file_names import within
from ..io.json_files import read_object
from ..io.locks import exclusive
from ..io.volume import Volume
from ..parallel import cluster
from ..purification.purification import check_pair, purify_slices
from ..purification.stage_files import stage_file
from ..purification.strategies import IPV2, MATCHED, Settings
from ..simulation import dose
from ..simulation.breathing import breathe
from . import owner_files
from .cases import FRACTIONS, PATHS, Case, check_cases, check_fractions, identified, split_by_patient
from .patients import hidden, key_file, key_mark
from .shards import (
    CM1,
    CM2,
    DATASET_FILE,
    FORMAT,
    OUTSIDE,
    PRIVATE_FOLDER,
    SCANS_FOLDER,
    SHARD_FILE,
    SHARDS_FOLDER,
    TABLE_FILE,
    THUMBNAIL_FILE,
    is_dataset,
    read_shard,
)
from .thumbnail import write_thumbnail

RECIPE = 1
"""Of the content of a shard. Another number makes every shard anew."""

_BLOCK_PIXELS = 16 * 512 * 512  # that are purified at once: about 0.5 GB of memory
_DIGITS = 12  # of a key
_HEADER_BYTES = 1 << 16
_ELSEWHERE = re.compile(rb"^(data ?file *:|ElementDataFile *= *(?!LOCAL))", re.IGNORECASE | re.MULTILINE)
_KEY = "patients_key"  # says with which key patients are hidden, in DATASET_FILE
_BEFORE = (SHARDS_FOLDER, SCANS_FOLDER, PRIVATE_FOLDER, TABLE_FILE)  # what may be there before the data set is one
_EXAMINED = 0.15  # part of the progress until the first shard is begun


@dataclass(frozen=True)
class Prepared:
    """What became of a case.

    Attributes
    ----------
    case : Case
        With patient and split filled in.
    status : "purified", "cached" (nothing had to be done) or "failed"
    message : why it failed, or what to know about it; else empty
    keys : of its shards
    thumbnail : of the first of them; None if it failed
    """

    case: Case
    status: str
    message: str = ""
    keys: tuple[str, ...] = ()
    thumbnail: Path | None = None


@exclusive("prepare")
def prepare(
    cases: Sequence[Case],
    folder: str | Path,
    settings: Settings = IPV2,
    *,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    split_projections: bool = False,
    keep_patient_names: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    retries: int = 1,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Prepared]:
    """Make or complete a purified data set; the cases are all that it then consists of.

    A shard whose files and settings did not change is kept as it is, whatever happened to the run that made it.
    Where a case leaves its split open, its patient keeps the one that it had in this data set, as long as
    `fractions` and `seed` are the same. Cases that fail stop no others. Patients are labels that hide who they are,
    whatever the cases call them; names, which are the caller's choice, are not hidden.

    Parameters
    ----------
    cases : sequence of Case
    folder : path
        New, empty, or a data set.
    settings : strategies.Settings
        Window, threshold, `drop_enclosed_air` and `weak_strength` are used. Everything that any strategy needs is
        made, so modules and T are chosen when the data are read; dose, method, kernel and seed are the case's.
    fractions, seed
        See `cases.split_by_patient`.
    split_projections : bool
        Keep each simulated uLDCT from half of the views, too (`dose.simulate_halves`), for noise2inverse.
    keep_patient_names : bool
        Leave patients that the cases name as they are, and hide those only that DICOM headers name.
    workers, scheduler, retries
        See `cluster.run`.
    progress, cancelled
        Called with (fraction, text); polled.

    Returns
    -------
    list of Prepared
        In the order of the cases.

    Raises
    ------
    InputError
        The table cannot be used (`cases.check_cases`), the folder holds something else or a data set whose patients
        were hidden with another key, or no case at all could be purified.
    OutputError
        The folder cannot be written.
    Cancelled
        If `cancelled` returned True. Finished shards stay, and the next call goes on.
    """
    if not keep_patient_names:
        cases = [replace(case, patient=case.patient and hidden(case.patient)) for case in cases]
    check_cases(cases)
    check_fractions(fractions)
    folder = Path(folder).absolute()
    _check_folder(folder)
    if split_projections:
        _check_physical(cases)
    cases = _with_splits(cases, folder, fractions, seed)
    tell = progress or (lambda fraction, text: None)
    shards_folder = folder / SHARDS_FOLDER
    owner_files.make_folder(folder)
    owner_files.make_folder(shards_folder)
    _forget_patients(shards_folder)
    try:
        orders = _orders(cases, shards_folder, settings, split_projections, _part(tell, 0.0, 0.05))
        record = _Record(folder, cases, orders, _head(settings, fractions, seed, split_projections))
        if todo := record.missing():
            with cluster.crew(workers if workers < 2 else min(workers, len(todo)), scheduler, retries) as crew:
                unseen = list({order.case.name: order.case for order in todo}.values())
                examined = _part(tell, 0.05, _EXAMINED)
                crew.run(_examine, unseen, finished=record.examined, progress=examined, cancelled=cancelled)
                record.write()
                made = _part(tell, _EXAMINED, 1.0)
                crew.run(_make, record.missing(), finished=record.made, progress=made, cancelled=cancelled)
        record.write()
    finally:
        _remove_if_empty(shards_folder, folder)
    if not record.have:
        reasons = [f"case {name!r}: {reason}" for name, reason in record.failed.items()]
        raise InputError("no case could be purified: " + "; ".join(reasons[:3]) + (" ..." if reasons[3:] else ""))
    tell(1.0, "prepared")
    return [record.outcome(case) for case in cases]


def unused_shards(folder: str | Path) -> list[Path]:
    """Folders of shards, of other settings or cases, that a data set does not consist of any more."""
    folder = Path(folder)
    used = {entry.get("key") for entry in _read_json(folder / DATASET_FILE).get("shards", [])}
    return sorted(
        path for path in (folder / SHARDS_FOLDER).glob("*") if path.name not in used and not path.name.startswith(".")
    )


# --- before the work --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Order:
    """A shard to be made; can be sent to another process."""

    key: str
    case: Case
    realisation: int
    folder: Path  # where shards are
    settings: Settings  # with the case's dose, kernel, method and a seed of its own
    split_projections: bool
    uldct_seed: int
    breath_seed: int
    inputs: dict[str, str]  # SHA-256 by role

    def __str__(self) -> str:
        of_several = not self.case.paired and self.case.realisations > 1
        return f"{self.case.name}, realisation {self.realisation + 1}" if of_several else self.case.name


def _check_folder(folder: Path) -> None:
    if is_dataset(folder):
        content = _read_json(folder / DATASET_FILE)
        if content.get("format") != FORMAT:
            raise InputError(f"{folder / DATASET_FILE} is damaged or of another version: give a new folder")
        if content.get(_KEY, key_mark()) != key_mark():
            raise InputError(
                f"the patients of {folder} are hidden with another key than {key_file()}, so that a new scan of one of "
                "them would count as another patient: complete it as the user who made it, or with a copy of that key"
            )
    elif folder.is_dir() and any(entry.name not in _BEFORE for entry in folder.iterdir()):
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
    if _read_json(folder / DATASET_FILE).get("split") == {"fractions": list(fractions), "seed": seed}:
        with suppress(InputError):  # an unreadable table is replaced
            earlier = {hidden(case.patient): case.split for case in owner_files.read_cases(folder) if case.patient}
    given = {case.patient for case in cases if case.split}
    cases = [
        case if case.patient in given else replace(case, split=earlier.get(hidden(case.patient), "")) for case in cases
    ]
    return split_by_patient(cases, fractions, seed)


def _orders(
    cases: Sequence[Case], folder: Path, settings: Settings, split_projections: bool, tell
) -> dict[str, list[_Order]]:
    """The shards of every case, by its name. Hashes every file, and reads none."""
    orders = {}
    digests: dict[Path, str] = {}
    for index, case in enumerate(cases):
        tell(index / len(cases), f"looking at the files of {case.name}")
        for path in _files(case).values():
            if path not in digests:
                digests[path] = ""
                with suppress(InputError):  # which the case says when its turn comes
                    digests[path] = _digest(path)
        inputs = {role: digests[path] for role, path in _files(case).items()}
        count = 1 if case.paired else case.realisations
        orders[case.name] = [
            _order(case, number, folder, settings, split_projections, inputs) for number in range(count)
        ]
    return orders


def contents(case: Case) -> dict[str, str]:
    """SHA-256 of each scan of a case, by its role; the same as long as nothing of it changed, whatever its time says.

    Raises
    ------
    InputError
        One of them cannot be read.
    """
    return {role: _digest(path) for role, path in _files(case).items()}


def recorded_contents(folder: str | Path) -> dict[str, dict[str, str]]:
    """`contents` of each case of a data set when its shards were made, by its name."""
    folder = Path(folder)
    entries = _read_json(folder / DATASET_FILE).get("shards", [])
    facts = (_read_json(within(folder / SHARDS_FOLDER, entry["key"]) / SHARD_FILE) for entry in entries)
    return {each["case"]: each["inputs"] for each in facts if each}


def _files(case: Case) -> dict[str, Path]:
    """What a shard is made of, by role."""
    scans = dict(zip(("ndct", "uldct"), case.sources, strict=False))
    return scans if case.stages is None else scans | {"labels": _labels(case.stages)}


def _labels(stages: Path) -> Path:
    return stages / stage_file("labels")


def _order(
    case: Case, realisation: int, folder: Path, settings: Settings, split_projections: bool, inputs: dict[str, str]
) -> _Order:
    name = int.from_bytes(hashlib.sha256(case.name.encode()).digest()[:8], "big")
    rng = np.random.default_rng([case.seed, realisation, name])  # other cases, other noise
    breath_seed, uldct_seed, noise_seed = (int(value) for value in rng.integers(2**31, size=3))
    fraction = case.dose
    if not case.paired and case.dose_high is not None:
        fraction = float(np.exp(rng.uniform(np.log(case.dose), np.log(case.dose_high))))
    settings = replace(
        settings,
        remove_background=True,
        add_noise=True,
        remove_noise=True,
        blend=0.0,
        dose=fraction,
        method=case.method,
        kernel=case.kernel,
        seed=noise_seed,
    )
    split_projections = split_projections and not case.paired
    decisive = [RECIPE, case.name, inputs, asdict(settings), split_projections]
    if not case.paired:
        decisive += [breath_seed, uldct_seed, case.breath_mm]
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    slug = re.sub(r"[^a-z0-9]+", "-", case.name.lower()).strip("-")[:40] or "case"
    key = f"{slug}-{realisation}-{digest[:_DIGITS]}"
    return _Order(key, case, realisation, folder, settings, split_projections, uldct_seed, breath_seed, inputs)


def _digest(path: Path) -> str:
    """SHA-256 of what a source consists of: a file, all files of a DICOM folder, or what a header and its data give."""
    from ..io.dicom import is_dicom

    try:
        if path.suffix.lower() in (".mhd", ".nhdr") or _is_header_only(path):
            return files.read(path).sha256()
        if path.is_dir() or is_dicom(path):
            folder = path if path.is_dir() else path.parent
            one = "" if path.is_dir() else path.name  # chooses the series
            slices = sorted(item for item in folder.iterdir() if item.is_file())
            return hashlib.sha256("".join([one, *(_file_digest(file) for file in slices)]).encode()).hexdigest()
        return _file_digest(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error


def _is_header_only(path: Path) -> bool:
    """Whether a file that could hold everything says that its voxels are in another one."""
    if path.suffix.lower() not in (".nrrd", ".mha"):
        return False
    with open(path, "rb") as file:
        return _ELSEWHERE.search(file.read(_HEADER_BYTES)) is not None


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _examine(case: Case, *, progress, cancelled) -> str:
    """Refuse (`InputError`) scans that cannot be used; return what to know about them."""
    progress(0.0, f"looking at {case.name}")
    volumes = [files.read(path) for path in case.sources]
    for path, volume in zip(case.sources, volumes, strict=True):
        if reason := unusable(volume):
            raise InputError(f"{path.name}: {reason}")
    if case.paired:
        ndct, uldct = volumes
        check_pair(uldct, ndct)
    if len(volumes[-1].array) == 1:
        return "a scan of one slice: networks that look at neighbouring slices will see it repeated"
    return ""


# --- one shard --------------------------------------------------------------------------------------------------


def _make(order: _Order, *, progress, cancelled) -> None:
    """Make a shard and put it in its place, complete."""
    began = time.perf_counter()
    case = order.case
    with atomic.new_folder(order.folder / order.key) as folder:  # one that is damaged is replaced
        sources = [_rounded(files.read(path)) for path in case.sources]
        if contents(case) != order.inputs:
            raise InputError("its files were changed while the data set was made: prepare it again")
        ndct, pair_uldct = (sources[0], sources[1]) if case.paired else (sources[0], None)
        if pair_uldct is None:
            images = _simulate(order, ndct, folder, _named(progress, order, 0.0, 0.45), cancelled)
            array = np.load(folder / "uldct.npy", mmap_mode="r")
            uldct = ndct.with_array(array)
        else:
            images, uldct = [], pair_uldct
            _write_array(folder / "uldct.npy", np.int16, uldct.array.shape, [uldct.array])
        _purify(order, uldct, ndct, folder, _named(progress, order, 0.45 if images else 0.0, 0.98), cancelled)
        facts = {
            "case": case.name,
            "realisation": order.realisation,
            "shape": list(uldct.array.shape),
            "spacing": list(uldct.spacing),
            "origin": list(uldct.origin),
            "direction": list(uldct.direction),
            "images": images,
            "dose": order.settings.dose,
            "method": case.method,
            "kernel": case.kernel,
            "breath_mm": None if case.paired else case.breath_mm,
            "seed": case.seed,
            "paired": case.paired,
            "inputs": order.inputs,
            "settings": asdict(order.settings),
        }
        del uldct  # closes the map: Windows renames no folder with an open file
        facts = outputs.provenance("prepare", facts)
        facts["seconds"] = round(time.perf_counter() - began, 2)
        outputs.write_json(folder / SHARD_FILE, facts)
        write_thumbnail(read_shard(folder), folder / THUMBNAIL_FILE)


def _simulate(order: _Order, ndct: Volume, folder: Path, tell, cancelled) -> list[str]:
    """Write truth, uldct and, where asked for, its halves; return the names of those that not every shard has."""
    case = order.case
    options: dict[str, Any] = {"seed": order.uldct_seed, "kernel": case.kernel, "cancelled": cancelled}
    if case.kernel == MATCHED:
        options["photons"], options["kernel"] = dose.match_scan(ndct)
    names = ["uldct", "truth", *(["half_a", "half_b"] if order.split_projections else [])]
    shape = ndct.array.shape
    with ExitStack() as stack:
        arrays = {name: stack.enter_context(_array_file(folder / f"{name}.npy", np.int16, shape)) for name in names}
        for start, stop in _blocks(shape):
            tell(start / shape[0], f"simulating slice {start + 1} of {shape[0]}")
            truth = ndct.with_array(_breathed(ndct.array[start:stop], order, ndct.spacing[0]))
            made = {"truth": truth.array}
            if truth.array.min() == truth.array.max():  # nothing was scanned here
                made |= dict.fromkeys(names, truth.array)
            elif order.split_projections:
                halves = dose.simulate_halves(truth, order.settings.dose, first_slice=start, **options)
                made["half_a"], made["half_b"] = (half.array for half in halves)
                made["uldct"] = (made["half_a"] + made["half_b"]) / 2
            else:
                made["uldct"] = dose.simulate(
                    truth, order.settings.dose, method=case.method, first_slice=start, **options
                ).array
            for name, file in arrays.items():
                file.write(_int16(made[name]).tobytes())
    return names[1:]


def _breathed(ndct: np.ndarray, order: _Order, pixel_mm: float) -> np.ndarray:
    """int16, as it is stored. The field of the breath depends on the seed only, so every block moves alike."""
    if order.case.breath_mm == 0:
        return ndct
    rng = np.random.default_rng(order.breath_seed)
    return _int16(breathe(ndct, order.case.breath_mm / pixel_mm, rng, pixel_mm))


def _purify(order: _Order, uldct: Volume, ndct: Volume, folder: Path, tell, cancelled) -> None:
    """Write ndct, simulated, weak, masks and regions."""
    shape = uldct.array.shape
    no_pair = _without_pair(order.case, shape)
    truth = np.load(folder / "truth.npy", mmap_mode="r") if (folder / "truth.npy").exists() else None
    types = {"ndct": np.int16, "simulated": np.int16, "weak": np.int16, "masks": np.uint8, "regions": np.uint8}
    with ExitStack() as stack:
        arrays = {
            name: stack.enter_context(_array_file(folder / f"{name}.npy", dtype, shape))
            for name, dtype in types.items()
        }
        for start, stop in _blocks(shape):
            tell(start / shape[0], f"purifying slice {start + 1} of {shape[0]}")
            stages = purify_slices(uldct, ndct, start, stop, order.settings, cancelled=cancelled)
            outside = stages.labels == Region.OUTSIDE
            if no_pair is not None:
                outside |= no_pair[start:stop]
            regions = segment(stages.ndct.array if truth is None else truth[start:stop], uldct.spacing)
            regions[outside] = Region.OUTSIDE
            arrays["ndct"].write(_int16(stages.ndct.array).tobytes())
            arrays["simulated"].write(_int16(stages.simulated.array).tobytes())
            arrays["weak"].write(_int16(stages.weakly_denoised.array).tobytes())
            arrays["masks"].write((CM1 * stages.cm1 | CM2 * stages.cm2 | OUTSIDE * outside).astype(np.uint8).tobytes())
            arrays["regions"].write(regions.tobytes())


def _without_pair(case: Case, shape: tuple[int, ...]) -> np.ndarray | None:
    """Where stages from files say that one of the scans has no data: their NDCT was resampled, and cannot tell."""
    if case.stages is None:
        return None
    path = _labels(case.stages)
    labels = files.read(path).array
    if labels.shape != shape:
        raise InputError(f"{path} does not lie on the grid of the uLDCT: purify again")
    return labels == 0


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    step = max(1, _BLOCK_PIXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


def _rounded(volume: Volume) -> Volume:
    return volume.with_array(_int16(volume.array))


def _int16(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.int16:
        return array
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(array), limits.min, limits.max).astype(np.int16)


# --- files ------------------------------------------------------------------------------------------------------


@contextmanager
def _array_file(path: Path, dtype: type, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """A .npy file whose header is written and whose content follows. Written, not mapped: on a full disk, writing
    raises an error, while a map ends the process."""
    with open(path, "wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_1_0(file, header)
        yield file


def _write_array(path: Path, dtype: type, shape: tuple[int, ...], blocks: Sequence[np.ndarray]) -> None:
    with _array_file(path, dtype, shape) as file:
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).tobytes())


def _remove_if_empty(*folders: Path) -> None:
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except (OSError, ValueError):
        return {}


def _forget_patients(shards_folder: Path) -> None:
    """Take out of shards who they are of, which those of earlier versions say, in clear; and let nobody look in."""
    for path in shards_folder.glob(f"*/{SHARD_FILE}"):
        facts = _read_json(path)
        if "patient" in facts:
            del facts["patient"]
            outputs.write_json(path, facts)
            shards_folder.chmod(0o700)


# --- the record -------------------------------------------------------------------------------------------------


def _head(settings: Settings, fractions: Sequence[float], seed: int, split_projections: bool) -> dict[str, Any]:
    facts = {
        "format": FORMAT,
        "split": {"fractions": list(fractions), "seed": seed},
        "settings": asdict(settings),
        "split_projections": split_projections,
        _KEY: key_mark(),
    }
    return outputs.provenance("prepare", facts)


class _Record:
    """What the data set consists of by now, written after every shard."""

    def __init__(self, folder: Path, cases: Sequence[Case], orders: dict[str, list[_Order]], head: dict[str, Any]):
        self.folder, self.cases, self.orders, self.head = folder, cases, orders, head
        self.have: set[str] = set()
        self.failed: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        for case_orders in orders.values():
            for order in case_orders:
                with suppress(InputError):
                    read_shard(order.folder / order.key)
                    self.have.add(order.key)
        self.cached = frozenset(self.have)

    def missing(self) -> list[_Order]:
        """What is to be made, of cases that have not failed."""
        return [
            order
            for case in self.cases
            if case.name not in self.failed
            for order in self.orders[case.name]
            if order.key not in self.have
        ]

    def examined(self, outcome: cluster.Outcome) -> None:
        kind = self.failed if outcome.error else self.notes
        kind[outcome.item.name] = outcome.error or outcome.value

    def made(self, outcome: cluster.Outcome) -> None:
        order = outcome.item
        if outcome.error:
            self.failed[order.case.name] = outcome.error
        else:
            self.have.add(order.key)
        self.write()

    def write(self) -> None:
        if not self.have:
            return
        shards = [
            {"key": order.key, "case": case.name, "patient": case.patient, "split": case.split}
            for case in self.cases
            for order in self.orders[case.name]
            if order.key in self.have
        ]
        failed = [{"case": name} for name in self.failed]
        owner_files.write_cases(self.cases, self.folder)
        owner_files.write_failures(self.failed, self.folder)
        outputs.write_json(self.folder / DATASET_FILE, {**self.head, "shards": shards, "failed": failed})

    def outcome(self, case: Case) -> Prepared:
        keys = [order.key for order in self.orders[case.name] if order.key in self.have]
        thumbnail = self.folder / SHARDS_FOLDER / keys[0] / THUMBNAIL_FILE if keys else None
        if case.name in self.failed:
            return Prepared(case, "failed", self.failed[case.name], tuple(keys), thumbnail)
        status = "cached" if set(keys) <= self.cached else "purified"
        return Prepared(case, status, self.notes.get(case.name, ""), tuple(keys), thumbnail)


def _part(tell: Callable[[float, str], None], start: float, stop: float) -> Callable[[float, str], None]:
    return lambda fraction, text: tell(start + (stop - start) * fraction, text)


def _named(tell: Callable[[float, str], None], order: _Order, start: float, stop: float):
    return lambda fraction, text: tell(start + (stop - start) * fraction, f"{order}: {text}")
