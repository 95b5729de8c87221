"""Copies of files that a worker reads."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path


def copy_numbered(files: Iterable[Path], folder: Path) -> None:
    """Copy files, whatever they are called and wherever they lie, into one folder, as 00000.dcm, 00001.dcm, …"""
    for number, file in enumerate(files):
        shutil.copyfile(file, folder / f"{number:05d}.dcm")
