"""The table of file formats: their names, the suffixes of their files, and what lies beside a file.

A format is a row here, and a module of this package with `read`, `place`, `write` and `data_files` as `nrrd` has them.
DICOM has no row: there a scan is a folder, see `files`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType


@dataclass(frozen=True)
class Format:
    """A format of image files.

    Attributes
    ----------
    name : str
        For people.
    module_name : str
        Of the module of this package that reads and writes it.
    suffixes : tuple of str
        Of the files that are written, the usual one first.
    read_only : tuple of str
        Of further files that are read.
    beside : mapping
        Suffixes of files whose voxels are written to another one: of each the other's suffix, plain and compressed.
    """

    name: str
    module_name: str
    suffixes: tuple[str, ...]
    read_only: tuple[str, ...] = ()
    beside: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def module(self) -> ModuleType:
        """The module that reads and writes it."""
        return importlib.import_module(f".{self.module_name}", __package__)

    @property
    def filter(self) -> str:
        """It as a choice of a dialog that asks where to save."""
        return f"{self.name} {_wildcards(self.suffixes)}"


FORMATS = (
    Format("NRRD", "nrrd", (".nrrd",), read_only=(".nhdr",)),
    Format("NIfTI", "nifti", (".nii.gz", ".nii")),
    Format("MetaImage", "metaimage", (".mha", ".mhd"), beside={".mhd": (".raw", ".zraw")}),
)


def _wildcards(suffixes: Iterable[str]) -> str:
    return f"({' '.join(f'*{each}' for each in suffixes)})"


def _either(*words: str) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


BY_SUFFIX = {suffix: each for each in FORMATS for suffix in (*each.suffixes, *each.read_only)}
"""The format of every suffix that can be read."""

SUFFIXES = tuple(suffix for each in FORMATS for suffix in each.suffixes)
"""Of the files that can be written."""

BESIDE = tuple(suffix for each in FORMATS for pair in each.beside.values() for suffix in pair)
"""Of the files that only hold voxels."""

NAMES, ENDINGS = _either(*(each.name for each in FORMATS)), _either(*SUFFIXES)
"""The formats, and the suffixes that can be written: for a sentence."""

WILDCARDS = _wildcards(BY_SUFFIX)
"""All that can be read, for the filter of a dialog."""


def suffix(path: str | os.PathLike) -> str:
    """The suffix in small letters; .nii.gz is one.

    Examples
    --------
    >>> suffix("a/Scan.v2.NII.GZ"), suffix("4: Thorax 1.0 B31f")
    ('.nii.gz', '.0 b31f')
    """
    name = Path(path).name.lower()
    return next((each for each in BY_SUFFIX if each.count(".") > 1 and name.endswith(each)), Path(name).suffix)
