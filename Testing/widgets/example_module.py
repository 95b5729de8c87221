"""Loads the example module into the stand-in."""

import shutil
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "example"
PATH = FOLDER / "HostExample.py"


def calls() -> list[str]:
    """What Slicer called of the module, in order."""
    return sys.modules["HostExample"].calls


def copied(folder: Path, *, source=lambda text: text, ui=lambda text: text) -> Path:
    """A copy of the module with changed texts; returns its Python file."""
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for path, change in ((folder / PATH.name, source), (folder / "Resources/UI/HostExample.ui", ui)):
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    return folder / PATH.name
