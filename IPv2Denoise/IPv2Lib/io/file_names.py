"""What a file's name says: whether an output is a file or a folder, and whether it leads elsewhere."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import InputError
from .formats import ENDINGS, SUFFIXES, suffix

LONGEST = 255
"""Bytes that a file's name may have on nearly every system."""

# Formats whose suffix is not letters alone.
_OTHER_FORMATS = {".7z", ".bz2", ".h5", ".hdf5", ".j2k", ".jp2", ".mp3", ".mp4"}


_PLAIN = re.compile(r"[^/\\:\x00-\x1f\x7f]+")  # a colon leads elsewhere on Windows


def is_folder(path: str | os.PathLike) -> bool:
    """Whether an output is the folder of a DICOM series rather than a file.

    A name that ends in a suffix of `SUFFIXES` is a file. What ends in a slash (as text: a `Path` drops it) or is a
    folder already is a folder. Everything else is a folder, too, unless it looks like another file format.

    Raises
    ------
    InputError
        For the name of a format that is not written.

    Examples
    --------
    >>> [is_folder(name) for name in ("a.nii.gz", "a.nrrd/", "CHEST 1.25mm", "4: Thorax 1.0 B31f", "scan.dcm/")]
    [False, True, True, True, True]
    >>> is_folder("scan.dcm")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    IPv2Lib.errors.InputError: cannot write scan.dcm: end the name in ..., or in a slash for ...
    """
    text = os.fspath(path)
    if text.endswith(("/", os.sep)) or os.path.isdir(path):
        return True
    ending = suffix(path)
    if ending in SUFFIXES:
        return False
    if re.fullmatch(r"\.[a-z]{2,5}", ending) or ending in _OTHER_FORMATS:
        raise InputError(
            f"cannot write {text}: end the name in {ENDINGS}, or in a slash for the folder of a DICOM series"
        )
    return True


def within(folder: Path, name: object) -> Path:
    """What has a name in a folder, where the name comes out of a file: neither name nor link may lead elsewhere.

    Raises
    ------
    InputError

    Examples
    --------
    >>> within(Path("shards"), "a-0-1b2c").as_posix()
    'shards/a-0-1b2c'
    >>> within(Path("shards"), "../../other")
    Traceback (most recent call last):
        ...
    IPv2Lib.errors.InputError: '../../other' is no name of something in shards: it would lead elsewhere
    """
    if not isinstance(name, str) or name in ("", ".", "..") or not _PLAIN.fullmatch(name):
        raise InputError(f"{str(name)[:60]!r} is no name of something in {folder}: it would lead elsewhere")
    path = folder / name
    if os.path.islink(path) and Path(os.path.realpath(path)).parent != Path(os.path.realpath(folder)):
        raise InputError(f"{path} is a link that leads elsewhere: put the file or folder itself there")
    return path
