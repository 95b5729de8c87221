"""The map of reliability beside a result: its name, what is written about it, and whether it belongs to the result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError, IPv2Error
from ..io import files, outputs
from ..io.file_names import is_folder
from ..io.formats import suffix
from .reliability import CALIBRATION, PASSES, SEED, Reliability

COMMAND = "reliability"
"""In the provenance of a map, where a result has "denoise"."""

_END = f"-{COMMAND}"


def path_of(output: str | Path) -> Path:
    """Where the map of a result is: beside it, in the same format; NRRD where the result is a DICOM series.

    Examples
    --------
    >>> [path_of(name).name for name in ("a/denoised.nii.gz", "series/")]
    ['denoised-reliability.nii.gz', 'series-reliability.nrrd']
    """
    stem, ending = _name(output)
    return outputs.sidecar_path(output).with_name(f"{stem}{_END}{ending}")


def check(output: str | Path, source: Path, overwrite: bool = False) -> None:
    """Refuse before any long work a map that would replace anything but an earlier one, see `outputs.check_output`.

    Raises
    ------
    InputError, OutputError
    """
    check_name(output)
    path = path_of(output)
    outputs.check_output(path, source, overwrite)
    if path.exists() and not overwrite and (outputs.read_sidecar(path) or {}).get("command") != COMMAND:
        raise InputError(f"{path} is there and no map of reliability: give the result another name, or say --overwrite")


def check_name(output: str | Path) -> None:
    """Refuse a result that is called as the map of another one is (`InputError`)."""
    if _name(output)[0].casefold().endswith(_END):
        raise InputError(f"{Path(output).name} is what a map of reliability is called: give another name")


def save(
    found: Reliability, output: str | Path, source: Path, facts: Mapping[str, Any], result_sha256: str, compress: bool
) -> dict[str, Any]:
    """Write the map of a result that is written, and the file beside it.

    Parameters
    ----------
    found : Reliability
    output : str or Path
        Of the result.
    source : Path
        What the result was made of.
    facts : mapping
        How the result was made.
    result_sha256 : str
        Of the result, as it is read.
    compress : bool

    Returns
    -------
    dict
        What there is to say of it.
    """
    means = {region.name.lower(): round(mean, 2) for region, mean in found.by_region.items()}
    said = {**facts, "command": COMMAND, **_belonging(result_sha256), "expected_error_hu": means}
    path = path_of(output)
    outputs.save(found.expected_error, path, said, source, "IPv2 expected error", compress=compress)
    return _row(path, said)


def kept(output: Path, result_sha256: str) -> dict[str, Any] | None:
    """What there is to say of the map of a result, if it is there, whole, and made as it would be made now."""
    path = path_of(output)
    facts = outputs.read_sidecar(path) or {}
    wanted = {"command": COMMAND, **_belonging(result_sha256)}
    if any(facts.get(name) != value for name, value in wanted.items()):
        return None
    try:
        is_whole = outputs.history(path, files.read_noted(path)[0]) is not None
    except (IPv2Error, OSError):
        return None
    return _row(path, facts) if is_whole else None


def _name(output: str | Path) -> tuple[str, str]:
    """The name of a result without its suffix, and that of its map."""
    name = outputs.sidecar_path(output).name.removesuffix(".json")
    if is_folder(output):
        return name, ".nrrd"
    ending = name[len(name) - len(suffix(name)) :]
    return name.removesuffix(ending), ending


def _belonging(result_sha256: str) -> dict[str, Any]:
    calibration = {region.name.lower(): factor for region, factor in CALIBRATION.items()}
    return {"seed": SEED, "passes": PASSES, "calibration": calibration, "result_sha256": result_sha256}


def _row(path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {"file": path.name} | {name: facts[name] for name in ("seed", "passes", "calibration", "expected_error_hu")}
