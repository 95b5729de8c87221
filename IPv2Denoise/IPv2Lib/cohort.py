"""Denoise scans from files into files: one, or a cohort by several workers, with a report of what failed and why.

Owns what is written beside and about a result. Denoising is `denoise`'s, who does the work is `cluster`'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import cluster, ct, outputs
from .errors import InputError, OutputError

if TYPE_CHECKING:
    from .bundle import Bundle
    from .ct import Volume

REPORT_FILE = "report.csv"
REPORT_COLUMNS = ("input", "output", "status", "attempts", "reason")
DENOISED, KEPT, FAILED = "denoised", "done earlier", "failed"
"""Values of the report's column status."""


@dataclass(frozen=True)
class Options:
    """How to denoise; see `denoise.denoise`. With `statistics`, the regions are measured before and after."""

    strength: float = 1.0
    device: str = "auto"
    keep_outside_body: bool = False
    kept_noise_hu: float | None = None
    self_ensemble: bool = False
    statistics: bool = False
    compress: bool = True


@dataclass(frozen=True)
class Scan:
    """One scan of a cohort; `facts` are the provenance of its result and, where asked for, its statistics."""

    source: Path
    output: Path
    status: str = ""
    attempts: int = 0
    reason: str = ""
    facts: dict[str, Any] | None = None


def denoise_to_file(
    volume: Volume,
    source: Path,
    output: str | Path,
    model: Bundle,
    options: Options,
    *,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Denoise a volume that was read from `source`; write the result and the file beside it that says how.

    Returns
    -------
    dict
        ``provenance`` and, where asked for, ``statistics`` (`regions.StrengthStatistics.as_dict`).

    Raises
    ------
    InputError, OutputError, Cancelled
        As `denoise.denoise` and `outputs.save`.
    """
    from . import regions
    from .denoise import denoise

    tell = progress or (lambda fraction, text: None)
    end = 0.8 if options.statistics else 0.95
    result = denoise(
        volume,
        model,
        strength=options.strength,
        device=options.device,
        keep_outside_body=options.keep_outside_body,
        kept_noise_hu=options.kept_noise_hu,
        self_ensemble=options.self_ensemble,
        progress=lambda fraction, text: tell(0.02 + (end - 0.02) * fraction, text),
        cancelled=cancelled,
    )
    facts = outputs.provenance("denoise", result.provenance, input=source.name)
    found: dict[str, Any] = {"provenance": facts}
    if options.statistics:
        tell(end, "measuring noise and means by region")
        measured = regions.denoising_statistics(volume.array, result.network_output.array, volume.spacing)
        found["statistics"] = measured.as_dict()
    tell(0.95, "writing")
    description = f"IPv2 {model.name} strength {options.strength:g}"
    outputs.save(result.volume, output, facts, source, description, compress=options.compress)
    return found


def denoise_cohort(
    sources: Sequence[Path],
    folder: Path,
    model: Bundle,
    options: Options,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    retries: int = 1,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Scan]:
    """Denoise many scans into one folder, each as NAME.nrrd. Scans that fail stop no others.

    `REPORT_FILE` in the folder is written after each scan. Called again with the same folder, what was done with this
    model and these options, and is not older than its source, is kept.

    Parameters
    ----------
    sources : sequence of Path
        As for `ct.read`.
    folder : Path
        New, empty, or that of an earlier call.
    model : Bundle
    options : Options
    workers, scheduler, retries
        See `cluster.run`.
    progress, cancelled
        Called with (fraction, text); polled.

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
        If `cancelled` returned True; what was finished stays.
    """
    folder = Path(folder).absolute()
    _check_folder(folder, sources)
    names = outputs.unique_names(list(sources))
    scans = [
        Scan(Path(source).absolute(), folder / f"{name}.nrrd") for source, name in zip(sources, names, strict=True)
    ]
    scans = [
        replace(scan, status=KEPT, facts=facts) if (facts := _done(scan, model, options)) else scan for scan in scans
    ]
    places = {scan.output: index for index, scan in enumerate(scans)}

    def finished(outcome: cluster.Outcome) -> None:
        scan = outcome.item.scan
        scans[places[scan.output]] = replace(
            scan,
            status=FAILED if outcome.error else DENOISED,
            attempts=outcome.attempts,
            reason=outcome.error,
            facts=outcome.value,
        )
        _write_report(scans, folder)

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made ({error.strerror})") from error
    work = [_Work(scan, model.folder.absolute(), options) for scan in scans if not scan.status]
    cluster.run(
        _denoise_scan, work, workers=workers, scheduler=scheduler, retries=retries, finished=finished,
        progress=progress, cancelled=cancelled,
    )  # fmt: skip
    _write_report(scans, folder)
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
    options: Options

    def __str__(self) -> str:
        return self.scan.source.name


def _denoise_scan(work: _Work, *, progress, cancelled) -> dict[str, Any]:
    from . import bundle

    progress(0.0, f"{work}: reading")
    return denoise_to_file(
        ct.read(work.scan.source), work.scan.source, work.scan.output, bundle.load(work.model), work.options,
        progress=lambda fraction, text: progress(fraction, f"{work}: {text}"), cancelled=cancelled,
    )  # fmt: skip


def _check_folder(folder: Path, sources: Sequence[Path]) -> None:
    if folder.name.lower().endswith(outputs.SUFFIXES):
        raise InputError(f"{folder} is one file, and a cohort needs a folder: give a new folder's name")
    if not (folder / REPORT_FILE).is_file():
        outputs.check_folder(folder, "denoise", False, *sources)


def _done(scan: Scan, model: Bundle, options: Options) -> dict[str, Any] | None:
    """What is known of an earlier result that needs not be made again; None if there is none, or statistics lack."""
    from .denoise import noise_to_keep

    try:
        facts = json.loads(outputs.sidecar_path(scan.output).read_text(encoding="utf-8"))
        same = (
            facts["input"] == scan.source.name
            and facts["weights_sha256"] == model.hash
            and facts["strength"] == options.strength
            and facts["keep_outside_body"] == options.keep_outside_body
            and facts["kept_noise_hu"] == noise_to_keep(model, options.kept_noise_hu)
            and facts["self_ensemble"] == options.self_ensemble
            and scan.output.stat().st_mtime >= scan.source.stat().st_mtime
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {"provenance": facts} if same and not options.statistics else None


def _write_report(scans: Sequence[Scan], folder: Path) -> None:
    rows = [
        (
            scan.source,
            "" if scan.status == FAILED else scan.output.name,
            scan.status or "not begun",
            scan.attempts,
            scan.reason,
        )
        for scan in scans
    ]
    outputs.write_csv(folder / REPORT_FILE, REPORT_COLUMNS, rows)
