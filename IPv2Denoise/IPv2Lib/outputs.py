"""Where the commands write: checks before any long work, results that appear complete or not at all, provenance.

Owns the rules for output files and folders and for the JSON beside them. How a volume becomes a file is in `ct`.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import platform
import re
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__, staging
from .errors import InputError, OutputError

if TYPE_CHECKING:
    from .ct import Volume

SUFFIXES = (".nrrd", ".nii", ".nii.gz", ".mha", ".mhd")
"""Of the files that can be written."""

PROVENANCE_FILE = "provenance.json"
"""In a folder of results: the command that made it, and from what."""

RESEARCH = "For research; not for diagnosis."

LONGEST_NAME = 200
"""Bytes of a name as UTF-8; file systems take 255, suffixes and temporary names included."""

_REFUSED = frozenset('<>:"/\\|?*')  # by Windows, which also has devices in place of some names, whatever their suffix
_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³]) *(\.|$)", re.IGNORECASE)


def check_output(path: Path, source: Path) -> None:
    """Refuse before any long work what cannot be written after it."""
    if path.resolve() == source.resolve():
        raise InputError(f"{path} is the input: give the output another name, inputs are never changed")
    if path.is_dir() or not path.suffix:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"{path} exists and is not an empty folder: give a new folder's name for a DICOM series")
    elif not path.name.lower().endswith(SUFFIXES):
        raise InputError(f"{path} has no known suffix: end the name in {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} of the output does not exist: create it first")
    _check_writable(path.parent)


def check_folder(folder: Path, command: str, overwrite: bool, *sources: Path) -> None:
    """Refuse a folder that holds anything but, where it may be replaced, an earlier result of this command."""
    if any(folder.resolve() in (source.resolve(), *source.resolve().parents) for source in sources):
        raise InputError(f"{folder} holds an input: give another folder, inputs are never changed")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a new folder's name")
    if folder.is_dir() and any(folder.iterdir()):
        if not _is_result(folder, command):
            raise InputError(f"{folder} is not empty and holds no earlier result of 'ipv2 {command}': give a new one")
        if not overwrite:
            raise InputError(f"{folder} holds an earlier result: give another folder, or replace it with --overwrite")
    existing = folder.absolute().parent
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"{folder} cannot be created: {existing} is a file")
    _check_writable(existing)


def _is_result(folder: Path, command: str) -> bool:
    try:
        return json.loads((folder / PROVENANCE_FILE).read_text(encoding="utf-8"))["command"] == command
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_writable(folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{folder} cannot be written to ({error.strerror}): choose another place") from error


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `folder` at the end, and vanishes if anything fails before."""
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            fresh = Path(temporary) / "new"
            fresh.mkdir()
            yield fresh
            if folder.exists():
                folder.rename(Path(temporary) / "old")
            fresh.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror or error})") from error


def file_name(text: str) -> str:
    """`text` as the name of a file or folder that Windows, macOS and Linux take; a suffix may be added to it.

    Examples
    --------
    >>> file_name("4: Thorax 1.0 B31f")
    '4_ Thorax 1.0 B31f'
    >>> file_name("CON"), file_name(" ct/lung . "), file_name("..")
    ('_CON', 'ct_lung', 'unnamed')
    """
    name = "".join(
        "_" if character in _REFUSED or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") else character
        for character in unicodedata.normalize("NFC", text)
    )
    name = _cut(name, LONGEST_NAME)
    if name.startswith("."):  # hidden
        name = "_" + name[1:]
    if _DEVICE.match(name):
        name = _cut(f"_{name}", LONGEST_NAME)
    return name or "unnamed"


def _cut(name: str, most: int) -> str:
    """At most so many bytes in whole characters, without white space around it or dots at its end."""
    return re.sub(r"[.\s]+$", "", name.strip().encode()[:most].decode(errors="ignore"))


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A name for each file or folder, without suffix, that no other has, not even in other capitals.

    Examples
    --------
    >>> unique_names([Path("a/scan.nii.gz"), Path("b/scan.nrrd"), Path("c/Scan"), Path("scan-2.nrrd")])
    ['scan', 'scan-2', 'Scan-3', 'scan-2-2']
    """
    names: list[str] = []
    for path in paths:
        stem = re.sub(r"\.(nrrd|nhdr|nii|nii\.gz|mha|mhd|dcm)$", "", path.resolve().name, flags=re.IGNORECASE)
        candidates = (stem if number == 1 else f"{stem}-{number}" for number in itertools.count(1))
        taken = {name.lower() for name in names}
        names.append(next(candidate for candidate in candidates if candidate.lower() not in taken))
    return names


def save(
    volume: Volume, output: Path, facts: dict[str, Any], source: Path, description: str, compress: bool = True
) -> None:
    """Write a volume and its sidecar, both or none. A DICOM source lends a DICOM output patient and study."""
    from . import ct, dicom

    template = source if source.is_dir() or dicom.is_dicom(source) else None
    sidecar = sidecar_path(output)
    with _temporary_json(sidecar, facts) as temporary:
        ct.write(volume, output, template=template, description=description, compress=compress)
        os.replace(temporary, sidecar)


def sidecar_path(output: Path) -> Path:
    """The file beside an output that says where it came from."""
    return output.parent / f"{output.name}.json"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, all of it or none."""
    with _temporary_json(path, content) as temporary:
        os.replace(temporary, path)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a line of column names, all of it or none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    with _temporary(path, text.getvalue()) as temporary:
        os.replace(temporary, path)


@contextlib.contextmanager
def _temporary_json(path: Path, content: dict[str, Any]) -> Iterator[Path]:
    with _temporary(path, json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n") as temporary:
        yield temporary


@contextlib.contextmanager
def _temporary(path: Path, text: str) -> Iterator[Path]:
    """A file beside `path` with all of the text, to be renamed; gone at the end if it was not."""
    try:
        with tempfile.TemporaryDirectory(prefix=staging.prefix(), dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            temporary.write_text(text, encoding="utf-8")
            yield temporary
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error})") from error


def provenance(command: str, facts: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Where a result came from: the command, what went in, the software, the time."""
    versions = {"IPv2Lib": __version__, "Python": platform.python_version()}
    for package in ("numpy", "scipy", "SimpleITK", "torch"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"command": command, **more, **(facts or {}), "versions": versions, "created": created, "note": RESEARCH}
