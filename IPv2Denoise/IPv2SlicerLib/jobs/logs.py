"""The logs of jobs: where they are, and how many of them are kept."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TextIO

from IPv2Lib import __version__

LOGS_KEPT = 20


def default_log_folder(temporary: Path | None = None) -> Path:
    """Where logs are kept unless said otherwise: this user's folder in a temporary folder (default: the system's)."""
    user = f"-{os.getuid()}" if hasattr(os, "getuid") else ""  # /tmp is everybody's; Windows has one for each user
    return Path(temporary or tempfile.gettempdir()) / f"IPv2-logs{user}"


def new_log(folder: Path, title: str) -> Path:
    """Begin a log, and remove the oldest ones."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    now = datetime.now()
    name = re.sub(r"[^\w-]+", "-", title, flags=re.ASCII).strip("-")[:40]
    descriptor, path = tempfile.mkstemp(".log", f"ipv2-{now:%Y%m%d-%H%M%S-%f}-{name}-", folder)
    with open_log(descriptor) as log:
        log.write(f"{title}\n{now:%Y-%m-%d %H:%M:%S}, IPv2 {__version__}\n")
    for old in sorted(folder.glob("ipv2-*.log"), key=lambda log: (_last_word(log), log.name))[:-LOGS_KEPT]:
        with contextlib.suppress(OSError):
            old.unlink()
    return Path(path)


def open_log(log: Path | int) -> TextIO:
    """To write at its end; what cannot be encoded, as in names that came from another system, is escaped."""
    return open(log, "a", encoding="utf-8", errors="backslashreplace")


def _last_word(log: Path) -> float:
    """When something was written last; 0 if another process has just removed it."""
    try:
        return log.stat().st_mtime
    except OSError:
        return 0.0
