"""What a case consists of: its files, by role, and their hashes, which say whether they have changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import InputError, reason
from ..io import files
from ..io.file_names import within
from ..io.image_files import files_of
from ..io.json_files import read_if_sound
from ..purification.stage_files import stage_file
from .cases import Case
from .shards import DATASET_FILE, SHARD_FILE, SHARDS_FOLDER


def contents(case: Case) -> dict[str, str]:
    """SHA-256 of each scan of a case, by its role; the same as long as nothing of it changed, whatever its time says.

    Raises
    ------
    InputError
        One of them cannot be read.
    """
    return {role: digest(path) for role, path in sources_of(case).items()}


def recorded_contents(folder: str | Path) -> dict[str, dict[str, str]]:
    """`contents` of each case of a data set when its shards were made, by its name."""
    folder = Path(folder)
    entries = read_if_sound(folder / DATASET_FILE).get("shards", [])
    facts = (read_if_sound(within(folder / SHARDS_FOLDER, entry["key"]) / SHARD_FILE) for entry in entries)
    return {each["case"]: each["inputs"] for each in facts if each}


def sources_of(case: Case) -> dict[str, Path]:
    """What a shard is made of, by role."""
    scans = dict(zip(("ndct", "uldct"), case.sources, strict=False))
    return scans if case.stages is None else scans | {"labels": labels_of(case.stages)}


def labels_of(stages: Path) -> Path:
    """The file of the labels in a folder of stages."""
    return stages / stage_file("labels")


def digest(path: Path) -> str:
    """SHA-256 of what a source consists of: a file, all files of a DICOM folder, or what a header and its data give."""
    from ..io.dicom import is_dicom

    try:
        if set(files_of(path)) != {path}:
            return files.read(path).sha256()
        if path.is_dir() or is_dicom(path):
            folder = path if path.is_dir() else path.parent
            one = "" if path.is_dir() else path.name  # chooses the series
            slices = sorted(item for item in folder.iterdir() if item.is_file())
            return hashlib.sha256("".join([one, *(_file_digest(file) for file in slices)]).encode()).hexdigest()
        return _file_digest(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({reason(error)})") from error


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
