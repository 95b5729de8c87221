"""What `chaos.py` looks for in a folder: what a result consists of, and what is not whole."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import zipfile
from pathlib import Path

import chaos_commands  # noqa: F401  the way to IPv2Lib

IMAGES = (".nrrd", ".nii", ".nii.gz", ".mha", ".mhd")
_WHEN = ("created", "seconds", "versions", "pid", "host", "began")  # ends of keys that tell when and where
_OTHERS = ("IPv2-logs", "torchinductor_")  # logs, which are kept for people, and what PyTorch makes for itself


def is_hidden(path: Path, root: Path) -> bool:
    """Whether a path below `root`, or a folder on its way, is hidden."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def tree(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*")) if path.is_file()
    }  # fmt: skip


def leftovers(trial: Path) -> list[str]:
    """What is hidden in a working folder, or lies in that for temporary files."""
    work = trial / "work"
    hidden = [path for path in work.rglob("*") if path.name.startswith(".")]
    temporary = [
        path for path in (trial / "tmp").iterdir() if not path.name.startswith(_OTHERS) and not _is_probe(path)
    ]
    return sorted(str(path.relative_to(trial)) for path in [*hidden, *temporary])


def _is_probe(path: Path) -> bool:
    """Whether Python wrote it to see if it can write there, and was killed before it removed it again."""
    return bool(re.fullmatch("[a-z0-9_]{8}", path.name)) and path.is_file() and path.read_bytes() in (b"", b"blat")


def outputs_of(work: Path) -> list[Path]:
    """Files that a command made visible."""
    return sorted(
        path for path in work.rglob("*")
        if path.is_file() and not is_hidden(path, work) and path.relative_to(work).parts[0] != "in"
    )  # fmt: skip


def damaged(work: Path) -> list[str]:
    """Visible files that cannot be read, with the reason."""
    found = []
    for path in outputs_of(work):
        try:
            _content(path)
        except Exception as error:
            found.append(f"{path.relative_to(work)}: {type(error).__name__}: {error}")
    return found


def result(work: Path) -> dict[str, str]:
    """What the visible files say, by name, without when they were made."""
    return {str(path.relative_to(work)): _content(path) for path in outputs_of(work)}


def told(work: Path) -> list[str]:
    """Images of which the file beside them says how they were made, so that it is believed."""
    from IPv2Lib.io import files, outputs

    images = [path for path in outputs_of(work) if path.name.endswith(IMAGES) and outputs.sidecar_path(path).is_file()]
    return [str(path.relative_to(work)) for path in images if outputs.history(path, files.read(path)) is not None]


def _content(path: Path) -> str:
    import numpy as np

    name = path.name
    if name.endswith(IMAGES):
        from IPv2Lib.io import files

        return files.read(path).sha256()
    if name.endswith(".json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        return _digest(_timeless(content)) if name not in ("status.json",) else "status"
    if name.endswith(".csv"):
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not path.read_bytes().endswith(b"\n") or any(None in row or None in row.values() for row in rows):
            raise ValueError("its last line is not whole")
        changing = ("seconds", "waiting", "status", "attempts")
        return _digest([{key: value for key, value in row.items() if key not in changing} for row in rows])
    if name.endswith(".npy"):
        return hashlib.sha256(np.load(path, allow_pickle=False).tobytes()).hexdigest()
    if name.endswith(".npz"):
        with np.load(path, allow_pickle=False) as file:
            return _digest([hashlib.sha256(file[key].tobytes()).hexdigest() for key in file.files])
    if name.endswith(".safetensors"):
        from safetensors import safe_open

        with safe_open(path, "np") as file:
            return _digest([hashlib.sha256(file.get_tensor(key).tobytes()).hexdigest() for key in sorted(file.keys())])
    if name.endswith(".pt"):
        with zipfile.ZipFile(path) as file:
            if bad := file.testzip():
                raise ValueError(bad)
        return "checkpoint"
    if name.endswith(".dcm"):
        import pydicom

        return hashlib.sha256(pydicom.dcmread(path).PixelData).hexdigest()
    if name.endswith(".png"):
        data = path.read_bytes()
        if not data.startswith(b"\x89PNG") or b"IEND" not in data[-16:]:
            raise ValueError("it is cut off")
        return "picture"
    if not os.path.getsize(path):
        raise ValueError("it is empty")
    return "text"


def _timeless(content: object) -> object:
    if isinstance(content, dict):
        return {key: _timeless(value) for key, value in content.items() if not key.endswith(_WHEN)}
    if isinstance(content, list):
        return [_timeless(value) for value in content]
    return content


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
