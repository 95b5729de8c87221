"""The private folder of a job: named after its process, and gone with the job."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from IPv2Lib.io.locks import lives

from .processes import end_process_tree

_STALE_SECONDS = 60.0  # a worker whose owner is gone ends within seconds
_PREFIX = "ipv2-job-"


def new_folder(temporary: Path) -> Path:
    """Make a private folder for a job of this process."""
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=temporary))


def remove_stale(temporary: Path) -> None:
    """Remove folders of jobs whose process was killed while it wrote the inputs or read the results itself."""
    for folder in temporary.glob(f"{_PREFIX}*-*"):
        with contextlib.suppress(OSError, ValueError):
            owner = int(folder.name.removeprefix(_PREFIX).partition("-")[0])
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS and not lives(owner, None):
                shutil.rmtree(folder, ignore_errors=True)


def clear_away(folder: Path, pids: list[int]) -> None:
    """End what runs and remove a job's folder: at its end, when its runner is forgotten, when Python ends."""
    for pid in pids:
        end_process_tree(pid)
    for _ in range(20):  # Windows lets go of the files of a killed process a little later
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
        time.sleep(0.02)
