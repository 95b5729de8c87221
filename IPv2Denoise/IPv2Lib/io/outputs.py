"""Where the commands write: checks before any long work, results that appear complete or not at all, provenance.

Owns the rules for output files and folders and for the JSON beside them. How a volume becomes a file is in `files`.
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
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import InputError, OutputError, reason
from . import atomic
from .file_names import LONGEST, is_folder
from .formats import BY_SUFFIX, suffix
from .locks import check_owner, owned

if TYPE_CHECKING:
    from .volume import Volume

PROVENANCE_FILE, PARTS_FOLDER = "provenance.json", "parts"
"""In a folder of results: the command that made it, and from what."""

RESEARCH = "For research; not for diagnosis."

LONGEST_NAME = 200
"""Bytes of a name as UTF-8; file systems take 255, suffixes and temporary names included."""

_REFUSED = frozenset('<>:"/\\|?*')  # by Windows, which also has devices in place of some names, whatever their suffix
_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³]) *(\.|$)", re.IGNORECASE)


def check_output(path: str | Path, source: Path, overwrite: bool = False) -> None:
    """Refuse before any long work what cannot be written after it, or would replace what is not the output's own.

    Parameters
    ----------
    path : str or Path
        File or folder; as text it may end in a slash, see `file_names.is_folder`.
    source : Path
        The input: a file, whose voxels may lie in further files, or a DICOM folder.
    overwrite : bool
        Whether a file may be replaced that is no earlier output.

    Raises
    ------
    InputError, OutputError
    """
    folder = is_folder(path)
    path = Path(path)
    _check_name(path)
    atomic.sweep(path.parent)
    check_source_is_kept(path, source)
    if folder:
        _check_new_or_empty(path)
    elif path.exists() and not path.is_file():
        raise InputError(f"{path} is there and no file: give another name")
    elif path.exists() and not overwrite and not _is_ours(sidecar_path(path)):
        raise InputError(f"{path} is there already and no earlier output: give another name, or say --overwrite")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} of the output does not exist: create it first")
    _check_writable(path.parent)
    if not folder:
        from . import image_files

        image_files.check_data_files(path)
    check_sidecar(path)
    if path.is_dir():
        _check_writable(path)


def check_source_is_kept(path: Path, source: Path) -> None:
    """Refuse an output that would change the input: one of its files, under whatever name, or its DICOM folder."""
    from . import image_files

    if _same(path, source):
        raise InputError(f"{path} is the input: give the output another name, inputs are never changed")
    if source.is_dir():
        if source.resolve() in path.resolve().parents:
            raise InputError(f"{path} lies in the folder of the input: give another place, inputs are never changed")
        return
    outputs = [path, sidecar_path(path), *image_files.data_files(path)]
    for file in image_files.files_of(source):
        if any(_same(output, file) for output in outputs):
            raise InputError(
                f"{path} would replace {file.name}, which belongs to the input: give the output another name"
            )


def check_sidecar(output: Path) -> None:
    """Refuse an output beside which a file has the sidecar's name that this library did not write."""
    sidecar = sidecar_path(output)
    if os.path.lexists(sidecar) and not _is_ours(sidecar):
        raise InputError(
            f"{sidecar}, which would say how {output.name} was made, is there already and something else: give the "
            "output another name, or move that file"
        )


def _is_ours(path: Path) -> bool:
    """Whether a JSON file is what `provenance` makes, or what the modules keep of it."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file) if path.is_file() else None
        return isinstance(content, dict) and (content.get("note") == RESEARCH or "IPv2Lib" in content["versions"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _same(a: Path, b: Path) -> bool:
    """Whether two paths are one file: by whatever links, and where capitals do not matter."""
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):
        return os.path.realpath(a) == os.path.realpath(b)


def _check_name(path: Path) -> None:
    # The file beside it has the longest name.
    if len(os.fsencode(sidecar_path(path).name)) > LONGEST:
        raise InputError(f"the name {path.name[:40]}... is too long: {LONGEST - len('.json')} bytes at most")


def _check_new_or_empty(path: Path) -> None:
    try:
        usable = not os.path.lexists(path) or (path.is_dir() and not atomic.contents(path))
    except OSError as error:
        raise InputError(f"{path} cannot be looked into ({reason(error)}): give a new folder's name") from error
    if not usable:
        raise InputError(f"{path} exists and is not an empty folder: give a new folder's name for a DICOM series")


def check_folder(folder: Path, command: str, overwrite: bool, *sources: Path) -> None:
    """Refuse a folder that holds anything but, where it may be replaced, an earlier result of this command."""
    _check_name(folder)
    atomic.sweep(folder.parent)
    check_holds_none(folder, sources)
    if any(source.is_dir() and source.resolve() in folder.resolve().parents for source in sources):
        raise InputError(f"{folder} lies in the folder of an input: give another place, inputs are never changed")
    if folder.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise InputError(f"{folder} is the folder that you are in: give a new folder's name")
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a new folder's name")
    if folder.is_dir() and atomic.contents(folder):
        if not _is_result(folder, command):
            raise InputError(f"{folder} is not empty and holds no earlier result of 'ipv2 {command}': give a new one")
        if not overwrite:
            raise InputError(f"{folder} holds an earlier result: give another folder, or replace it with --overwrite")
    existing = Path(os.path.realpath(folder)).parent
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"{folder} cannot be created: {existing} is a file")
    _check_writable(existing)


def check_holds_none(folder: Path, sources: Iterable[Path]) -> None:
    """Refuse a folder for results that is or holds one of the inputs."""
    if any(folder.resolve() in (source.resolve(), *source.resolve().parents) for source in sources):
        raise InputError(f"{folder} holds an input: give another folder, inputs are never changed")


def _is_result(folder: Path, command: str) -> bool:
    try:
        return json.loads((folder / PROVENANCE_FILE).read_text(encoding="utf-8"))["command"] == command
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_writable(folder: Path) -> None:
    try:
        with atomic.private_folder(folder):  # and what a killed process left there is finished
            pass
    except OSError as error:
        raise OutputError(f"{folder} cannot be written to ({reason(error)}): choose another place") from error


@contextlib.contextmanager
def new_folder(folder: Path, command: str, overwrite: bool, *sources: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `folder` at the end, and vanishes if anything fails before.

    Nobody else works on `folder` meanwhile. Parameters and errors as for `check_folder`.
    """
    with owned(folder, command):
        check_folder(folder, command, overwrite, *sources)
        with atomic.new_folder(Path(os.path.realpath(folder))) as fresh:  # what a link leads to is replaced
            yield fresh


def resumable_folder(folder: Path, command: str, facts: dict[str, Any]) -> Path:
    """Make a folder, and make it known for a command, so that an interrupted run is found again.

    Returns
    -------
    Path
        Where it keeps the parts that are finished.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    if not (folder / PROVENANCE_FILE).exists():
        with atomic.new_folder(Path(os.path.realpath(folder))) as fresh:
            write_json(fresh / PROVENANCE_FILE, provenance(command, facts))
    parts = folder / PARTS_FOLDER
    try:
        parts.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({reason(error)})") from error
    return parts


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


def unique_names(paths: Sequence[Path], taken: Iterable[str] = ()) -> list[str]:
    """A `file_name` for each file or folder, without suffix, that no other and none of those taken has.

    Capitals do not tell names apart. A folder has no suffix: in its name, what follows a dot belongs to it.

    Examples
    --------
    >>> unique_names([Path("a/scan.nii.gz"), Path("b/scan.nrrd"), Path("c/Scan"), Path("scan-2.nrrd")])
    ['scan', 'scan-2', 'Scan-3', 'scan-2-2']
    >>> unique_names([Path("4: Thorax 1.0 B31f"), Path("scan.nrrd")], taken=["SCAN"])
    ['4_ Thorax 1.0 B31f', 'scan-2']
    """
    names: list[str] = []
    used = {_alike(name) for name in taken}
    for path in paths:
        stem = Path(os.path.abspath(path)).name
        ending = suffix(stem)
        if not path.is_dir() and ending in (*BY_SUFFIX, ".dcm"):
            stem = stem[: -len(ending)]
        numbered = (_numbered(file_name(stem), number) for number in itertools.count(1))
        names.append(next(name for name in numbered if _alike(name) not in used))
        used.add(_alike(names[-1]))
    return names


def _numbered(name: str, number: int) -> str:
    if number == 1:
        return name
    tail = f"-{number}"
    return _cut(name, LONGEST_NAME - len(tail)) + tail


def _alike(name: str) -> str:
    """The same for names that some file systems hold for one."""
    return unicodedata.normalize("NFC", name).casefold()


def save(
    volume: Volume,
    output: str | Path,
    facts: dict[str, Any],
    source: Path,
    description: str,
    compress: bool = True,
    derivation: str = "Smoothing",
    template: Path | Sequence[Path] | None = None,
    identity: str = "",
) -> dict[str, Any]:
    """Write a volume and its sidecar, both or none. A DICOM source lends a DICOM output patient and study.

    Where the source is not DICOM, `template` does: a folder, a file of a series, or all of its files. For `identity`
    see `dicom.write_series`.

    Returns
    -------
    dict
        What the sidecar says: `facts`, and as ``output_sha256`` the hash of what is read from the output.
    """
    from . import files

    sidecar = sidecar_path(output)
    if is_folder(output):
        return _save_series(volume, output, facts, source, description, derivation, template, identity)
    check_source_is_kept(Path(output), source)  # again: the work may have taken hours
    check_sidecar(Path(output))
    earlier = sidecar.read_bytes() if sidecar.exists() else None
    try:
        # Of the sidecar something is there first, so that after a stop in between the image is known to be ours.
        files.write(
            volume, output, template or source, description, compress, derivation,
            before=lambda image: write_json(sidecar, facts | {"output_sha256": ""}),
        )  # fmt: skip
        facts = facts | {"output_sha256": files.as_read(volume, Path(output)).sha256()}
        write_json(sidecar, facts)
    except BaseException:
        check_owner()  # or what is there by now is another one's
        if earlier is not None:
            with atomic.new_file(sidecar) as temporary:
                temporary.write_bytes(earlier)
        elif not Path(output).exists():
            sidecar.unlink(missing_ok=True)
        raise
    return facts


def _save_series(
    volume: Volume,
    output: str | Path,
    facts: dict[str, Any],
    source: Path,
    description: str,
    derivation: str,
    template: Path | Sequence[Path] | None,
    identity: str,
) -> dict[str, Any]:
    """As `save`. The sidecar comes first: without the series it is in nobody's way, the series without it would be."""
    from . import files

    sidecar = sidecar_path(output)
    recorded = dict(facts)
    is_new = not sidecar.exists()

    def before(series: Path) -> None:
        recorded["output_sha256"] = files.as_read(volume, series).sha256()
        write_json(sidecar, recorded)

    check_source_is_kept(Path(output), source)  # again: the work may have taken hours
    check_sidecar(Path(output))
    try:
        files.write(
            volume, output, template or source, description, derivation=derivation, before=before, identity=identity
        )
    except BaseException:
        if is_new and not (Path(output).is_dir() and atomic.contents(Path(output))):
            sidecar.unlink(missing_ok=True)
        raise
    return recorded


def sidecar_path(output: str | Path) -> Path:
    """The file beside an output that says where it came from."""
    output = Path(output)
    if output.name in ("", ".."):  # the folder that one is in, or above
        output = Path(os.path.abspath(output))
    return output.parent / f"{output.name}.json"


def read_sidecar(output: Path) -> dict[str, Any] | None:
    """What the file beside an output says; None if there is none, or it is damaged or none of ours."""
    try:
        facts = json.loads(sidecar_path(output).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and {"command", "model"} & facts.keys() else None


def history(image: Path, volume: Volume) -> dict[str, Any] | None:
    """What the file beside an image says of it; None also if it tells of another image.

    Image and file take their places one after the other, and a program may be killed in between.

    Parameters
    ----------
    image : Path
    volume : Volume
        What was read from it.
    """
    facts = read_sidecar(image)
    belongs = facts is not None and facts.get("output_sha256") in (None, volume.sha256())
    return facts if belongs else None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, all of it or none."""
    atomic.write_text(path, _json(content))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a line of column names, all of it or none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    atomic.write_text(path, text.getvalue())


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n"


def provenance(command: str, facts: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Where a result came from: the command, what went in, the software, the time."""
    from importlib import metadata  # a fifth of the time of --help

    versions = {"IPv2Lib": __version__, "Python": platform.python_version()}
    for package in ("numpy", "scipy", "SimpleITK", "nibabel", "pynrrd", "onnxruntime", "torch"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = _version(package)
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"command": command, **more, **(facts or {}), "versions": versions, "created": created, "note": RESEARCH}


@lru_cache
def _version(package: str) -> str:
    """Reading it takes 10 ms; what is not there is looked for again."""
    from importlib import metadata

    return metadata.version(package)
