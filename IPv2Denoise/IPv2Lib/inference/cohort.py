"""Denoise scans from files into files: one, or a cohort by several workers, with a report of what failed and why.

Owns what is written beside and about a result, what decides it, and whether it was made before. Denoising is
`denoise`'s, who does the work is `cluster`'s, which output belongs to which input `cohort_folder`'s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..errors import Cancelled, InputError, IPv2Error, OutputError, reason
from ..io import atomic, files, outputs
from ..io.formats import SUFFIXES
from ..io.locks import ForOwner, exclusive, owner_of
from ..io.volume import Volume
from ..options import decides
from ..parallel import cluster
from ..progress import NO_PROGRESS, Progress
from . import reliability_file
from .cohort_folder import REPORT_FILE, CohortFolder, named_place, place_of
from .options import DenoiseOptions
from .reliability import Denoise, expected_error

if TYPE_CHECKING:
    from ..models.bundle import Bundle

DENOISED, KEPT, FAILED, NOT_BEGUN = "denoised", "done earlier", "failed", "not begun"
"""What becomes of a scan: values of the report's column status."""

_LOOKED = 0.1  # part of the progress, where inputs are looked for among earlier results


@dataclass(frozen=True)
class Scan:
    """One scan of a cohort; `facts` are what `denoise_to_file` says of its result."""

    source: Path
    output: Path
    status: str = NOT_BEGUN
    attempts: int = 0
    reason: str = ""
    facts: dict[str, Any] | None = None


def deciding(input_sha256: str, model: Bundle, options: DenoiseOptions) -> dict[str, Any]:
    """All that decides a result, under the names that it has in the provenance.

    Parameters
    ----------
    input_sha256 : str
        Of the scan, see `Volume.sha256`.
    model : Bundle
    options : DenoiseOptions
    """
    from .denoise import residual_noise_of

    chosen = {each.name: getattr(options, each.name) for each in fields(options) if decides(each)}
    chosen["residual_noise_hu"] = residual_noise_of(model, options.residual_noise_hu)
    return {"input_sha256": input_sha256, "model_sha256": model.key, **chosen}


def identity(decided: dict[str, Any]) -> str:
    """A digest of what `deciding` returns."""
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()


def described(model: Bundle, options: DenoiseOptions) -> str:
    """What made a result, for the description of a series."""
    return f"IPv2 {model.name} strength {options.strength:g}"


def denoise_to_file(
    volume: Volume,
    source: Path,
    output: str | Path,
    model: Bundle,
    options: DenoiseOptions,
    *,
    concerns: Sequence[str],
    description: str = "",
    progress: Progress = NO_PROGRESS,
) -> dict[str, Any]:
    """Denoise a volume that was read from `source`; write the result and the file beside it that says how.

    With `reliability`, its map comes after that: whatever becomes of it, the result stays.

    Parameters
    ----------
    volume, source, output, model, options
    concerns : sequence of str
        What there is to know about the scan, see `files.read_noted` and `suitability.concerns`; kept with the result.
    description : str
        Of a DICOM series, see `dicom.write_series`; by default model and strength.
    progress : Progress

    Returns
    -------
    dict
        ``provenance`` and, where asked for, ``statistics`` (`StrengthStatistics.as_dict`) and ``reliability``
        (`reliability_file.save`).

    Raises
    ------
    InputError, OutputError, Cancelled
        As `denoise.denoise` and `outputs.save`.
    """
    from .blending import blend_into

    decided = deciding(volume.sha256(), model, options)
    plain = progress.part(0.0, 0.4) if options.reliability else progress
    answer, said = _answer(volume, model, options, decided, plain)
    result = answer
    if options.strength < 1:
        result = answer.with_array(np.empty_like(answer.array)) if options.reliability else answer
        blend_into(volume.array, answer.array, options.strength, result.array)
    statistics = said.pop("statistics", None)
    measured = {"statistics": statistics} if options.statistics else {}
    facts = outputs.provenance(
        "denoise", said | {"strength": options.strength}, **named_place(source), concerns=list(concerns), **decided
    )
    plain.report(0.95, "writing")
    written = outputs.save(
        result, output, facts | measured, source, description or described(model, options),
        compress=options.compress, identity=identity(decided),
    )  # fmt: skip
    row = _row(written)
    if options.reliability:
        name, map_progress = Path(output).name, progress.part(0.4, 1.0)
        map_progress.report(0.0, f"{name} is written, measuring its reliability")
        try:
            found = expected_error(
                volume, answer, _again(model, options), strength=options.strength, progress=map_progress.part(0.0, 0.95)
            )
        except KeyboardInterrupt:
            raise Cancelled(f"stopped while the reliability of {name} was measured") from None
        row["reliability"] = reliability_file.save(
            found, output, source, facts, written["output_sha256"], options.compress
        )
    return row


def _again(model: Bundle, options: DenoiseOptions) -> Denoise:
    """The network as `_answer` asks it, of a scan that nobody will ask it of again."""
    from .denoise import denoise

    def run(volume: Volume, *, progress: Progress) -> Volume:
        return denoise(volume, model, **_how(model, options), progress=progress).network_output

    return run


def _how(model: Bundle, options: DenoiseOptions) -> dict[str, Any]:
    """Keywords of `denoise.denoise` at full strength, with what it would choose by itself."""
    from .denoise import choose_device
    from .engines import choose_engine

    others = ("model", "strength", "statistics", "reliability", "compress", "cache")
    device = choose_device(options.device, options.engine)
    chosen = {name: value for name, value in vars(options).items() if name not in others}
    return chosen | {"device": device, "engine": choose_engine(model, options.engine, device)}


def _answer(
    volume: Volume, model: Bundle, options: DenoiseOptions, decided: dict[str, Any], progress: Progress
) -> tuple[Volume, dict[str, Any]]:
    """What the network makes of a volume, from the cache where it is there, and the facts about it.

    With `statistics` among them, where they are asked for.
    """
    from ..analysis.region_statistics import denoising_statistics
    from . import cache
    from .denoise import denoise

    how = _how(model, options)
    # Where it lies in the patient does not matter to the network, and programs round it when they save a scan.
    x, y, z = (round(step, 4) for step in volume.spacing)
    seen = Volume(volume.array, (x, y, z)).sha256()
    question = {**how, **decided, "input_sha256": seen, "strength": 1.0, "IPv2Lib": __version__}
    end = 0.8 if options.statistics else 0.95
    found = cache.load(question, volume) if options.cache else None
    if found:
        answer, facts = found
        facts["from_cache"] = True
    else:
        result = denoise(volume, model, **how, progress=progress.part(0.02, end))
        answer, facts = result.network_output, result.provenance
    if options.statistics and "statistics" not in facts:
        progress.report(end, "measuring noise and means by region")
        facts["statistics"] = denoising_statistics(volume.array, answer.array, volume.spacing).as_dict()
    elif found:
        return answer, facts
    if options.cache:
        cache.store(question, answer, {name: value for name, value in facts.items() if name != "from_cache"})
    return answer, facts


@exclusive("denoise")
def denoise_cohort(
    sources: Sequence[Path],
    folder: Path,
    model: Bundle,
    options: DenoiseOptions,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    retries: int = 1,
    progress: Progress = NO_PROGRESS,
) -> list[Scan]:
    """Denoise many scans into one folder, each as NAME.nrrd. Scans that fail stop no others.

    `REPORT_FILE` in the folder is written after each scan. Called again with the same folder, an input keeps the name
    of its output, and a result is kept that is whole and was made of the same content by the same model and options.
    What else is in the folder stays as it is, and results of other inputs stay in the report.

    Parameters
    ----------
    sources : sequence of Path
        As for `files.read`. One that is given twice counts once.
    folder : Path
        New, empty, or with results of earlier calls.
    model : Bundle
    options : DenoiseOptions
    workers, scheduler, retries
        See `cluster.run`.
    progress : Progress

    Returns
    -------
    list of Scan
        In the order of the sources.

    Raises
    ------
    InputError
        The folder holds something else, or not one scan could be denoised.
    OutputError
        The folder cannot be written.
    Cancelled
        If `progress` was cancelled; what was finished stays.
    """
    folder = Path(folder).absolute()
    places = list(dict.fromkeys(place_of(source) for source in sources))
    earlier = CohortFolder(folder)
    _check_folder(folder, places, earlier)
    with ExitStack() as ends:
        ends.callback(atomic.sweep, folder)  # what workers left that died
        crew = ends.enter_context(
            cluster.crew(min(workers, len(places)) if workers > 1 else workers, scheduler, retries)
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder} cannot be made ({reason(error)})") from error
        start = 0.0

        def contents(unknown: Sequence[Path]) -> dict[Path, str]:
            nonlocal start
            start = _LOOKED
            looked = crew.run(_content, unknown, progress=progress.part(0.0, _LOOKED))
            return {outcome.item: outcome.value for outcome in looked if not outcome.error}

        names = earlier.names(places, contents)
        scans = [Scan(place, folder / name) for place, name in zip(places, names, strict=True)]
        index = {scan.output: number for number, scan in enumerate(scans)}

        def write_report() -> None:
            rows = [
                (
                    scan.source,
                    scan.output.name if scan.facts else "",
                    scan.status,
                    scan.attempts,
                    scan.reason,
                    scan.facts["provenance"]["input_sha256"] if scan.facts else "",
                )
                for scan in scans
            ]
            earlier.write_report([*rows, *earlier.others({scan.output.name for scan in scans if scan.facts})])

        def finished(outcome: cluster.Outcome) -> None:
            scan = outcome.item.scan
            kept, facts = outcome.value or (False, None)
            status = FAILED if outcome.error else KEPT if kept else DENOISED
            attempts = 0 if kept else outcome.attempts
            scans[index[scan.output]] = replace(
                scan, status=status, attempts=attempts, reason=outcome.error, facts=facts
            )
            write_report()

        write_report()
        options = replace(options, cache=False)  # of so many scans, hardly one would still be there
        crew.run(
            ForOwner(_denoise_scan, folder, owner_of(folder)),
            [_Work(scan, model.folder.absolute(), options) for scan in scans],
            finished=finished, progress=progress.part(start, 1.0),
        )  # fmt: skip
    if all(scan.status == FAILED for scan in scans):
        raise InputError(
            f"none of {len(scans)} scans could be denoised, see {folder / REPORT_FILE}; the first: {scans[0].source}: "
            f"{scans[0].reason}"
        )
    return scans


@dataclass(frozen=True)
class _Work:
    scan: Scan
    model: Path
    options: DenoiseOptions

    def __str__(self) -> str:
        return self.scan.source.name


def _content(place: Path, *, progress: Progress) -> str:
    progress.report(0.0, f"{place.name}: looking whether it was denoised before")
    return files.read_noted(place)[0].sha256()


def _denoise_scan(work: _Work, *, progress: Progress) -> tuple[bool, dict[str, Any]]:
    """Whether an earlier result was kept, and what there is to say about the result."""
    from ..analysis import suitability
    from ..models import bundle

    progress.report(0.0, f"{work}: reading")
    (volume, notes), model = files.read_noted(work.scan.source), bundle.load(work.model)
    if kept := _kept(work.scan, deciding(volume.sha256(), model, work.options), work.options):
        return True, kept
    if work.options.reliability:
        reliability_file.check(work.scan.output, work.scan.source)
    return False, denoise_to_file(
        volume, work.scan.source, work.scan.output, model, work.options,
        concerns=[*notes, *suitability.concerns(volume, model.card)],
        progress=progress.part(0.0, 1.0, str(work)),
    )  # fmt: skip


def _kept(scan: Scan, wanted: dict[str, Any], options: DenoiseOptions) -> dict[str, Any] | None:
    """What there is to say of a result that needs not be made again; None if it has to be."""
    facts = outputs.read_sidecar(scan.output) or {}
    if any(name not in facts or facts[name] != value for name, value in wanted.items()):
        return None
    if options.statistics and "statistics" not in facts:
        return None
    reliability = {}
    if options.reliability:
        found = reliability_file.kept(scan.output, facts.get("output_sha256", ""))
        if found is None:
            return None
        reliability = {"reliability": found}
    try:
        if files.read_noted(scan.output)[0].sha256() != facts.get("output_sha256"):
            return None
    except (IPv2Error, OSError):
        return None
    owned = facts | named_place(scan.source)
    if owned != facts:  # it was that of an input that is gone
        outputs.write_json(outputs.sidecar_path(scan.output), owned)
    return _row(owned) | reliability


def _row(sidecar: dict[str, Any]) -> dict[str, Any]:
    """What a sidecar says, as `denoise_to_file` returns it."""
    provenance = {name: value for name, value in sidecar.items() if name != "statistics"}
    return {"provenance": provenance} | {name: sidecar[name] for name in ("statistics",) if name in sidecar}


def _check_folder(folder: Path, places: Sequence[Path], earlier: CohortFolder) -> None:
    if folder.name.lower().endswith(SUFFIXES):
        raise InputError(f"{folder} is one file, and a cohort needs a folder: give a new folder's name")
    if earlier:
        outputs.check_holds_none(folder, places)
    else:
        outputs.check_folder(folder, "denoise", False, *places)
