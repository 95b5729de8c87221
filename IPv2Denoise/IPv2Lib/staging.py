"""Files on the way: the hidden places where results grow until they are whole, and copies of what a worker reads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path


def prefix(pid: int | None = None) -> str:
    """How the names of what a process, by default this one, has beside its results begin."""
    return f".ipv2-{os.getpid() if pid is None else pid}-"


def remove(folder: Path, pid: int) -> None:
    """Remove what a process that has ended left in a folder; a process that ends by itself leaves nothing."""
    for left in folder.glob(f"{prefix(pid)}*"):
        shutil.rmtree(left, ignore_errors=True)


def copy_numbered(files: Iterable[Path], folder: Path) -> None:
    """Copy files, whatever they are called and wherever they lie, into one folder, as 00000.dcm, 00001.dcm, …"""
    for number, file in enumerate(files):
        shutil.copyfile(file, folder / f"{number:05d}.dcm")
