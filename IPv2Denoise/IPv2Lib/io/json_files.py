"""Reading a JSON object that may come from anywhere: of limited size, and with one kind of error.

Owns the limits. Files of settings, which people write by hand, are `settings_file`'s.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

MOST_BYTES = 64 << 20
"""Of a file: the list of a hundred thousand shards has 20 MB."""


def read_object(path: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Read the JSON object in a regular file.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It is larger than that, is nested too deeply, or holds no JSON object.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("no file but a folder, pipe or device")
    with open(descriptor, "rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"more than {most_bytes >> 10} KiB of JSON")
    try:
        content = json.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("no JSON object")
    return content


def read_if_sound(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one where the file is missing or damaged."""
    try:
        return read_object(path)
    except (OSError, ValueError):
        return {}
