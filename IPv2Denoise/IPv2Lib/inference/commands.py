"""Other programs as denoisers: a command that reads a file or folder and writes one.

Owns the exchange of volumes, and what is said of a program that fails, writes nothing, or changes the geometry.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, IPv2Error
from ..io import atomic
from ..io.volume import Volume, check_ct, same_grid
from ..progress import NO_PROGRESS

EXCHANGES = ("nrrd", "dicom")
"""How volumes are handed to a program and back."""

_PLACES = ("{in}", "{out}", "{in_folder}", "{out_folder}")
_POLL_SECONDS = 0.2
_MOST_WORDS = 400


@dataclass(frozen=True)
class CommandDenoiser:
    """A program that denoises.

    Attributes
    ----------
    name, command : str
        With {in} and {out} for what it reads and writes: a NRRD file, or the folder of a DICOM series; {in_folder} and
        {out_folder} are the folders of these, or the same.
    exchange : str
        One of `EXCHANGES`.
    timeout : float
        Seconds that one call may take.

    Raises
    ------
    InputError
        The command cannot be run, or has no place for its input or output.
    """

    name: str
    command: str
    exchange: str = "nrrd"
    timeout: float = 600.0

    def __post_init__(self):
        if self.exchange not in EXCHANGES:
            raise InputError(f"unknown exchange {self.exchange!r}: use {', '.join(EXCHANGES)}")
        if not any(each in self.command for each in ("{in}", "{in_folder}")) or not any(
            each in self.command for each in ("{out}", "{out_folder}")
        ):
            raise InputError(f"the command {self.command!r} needs {{in}} and {{out}}: 'prog {{in}} {{out}}'")
        program = self._words[0]
        if shutil.which(program) is None:
            raise InputError(f"the program {program!r} of the command {self.command!r} is not there or cannot be run")

    @property
    def label(self) -> str:
        """For people."""
        return f"program {self.name}"

    @property
    def key(self) -> str:
        """SHA-256 of the command and of the files that it names, so that a changed program is measured again."""
        found = hashlib.sha256(json.dumps([self.command, self.exchange]).encode())
        for word in self._words:
            path = Path(shutil.which(word) or word)
            if path.is_file() and path.stat().st_size < 1 << 24:
                found.update(path.read_bytes())
        return found.hexdigest()

    @property
    def facts(self) -> dict[str, Any]:
        """The command."""
        return {"command": self.command, "exchange": self.exchange}

    @property
    def _words(self) -> list[str]:
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise InputError(f"the command {self.command!r} cannot be read ({error})") from error
        if not words:
            raise InputError("the command is empty: 'prog {in} {out}'")
        return words

    def denoise(self, volume, *, slices=None, progress=NO_PROGRESS) -> Volume:
        """See `denoisers.Denoiser.denoise`; the program gets the whole volume."""
        check_ct(volume)
        with atomic.temporary_folder() as folder:
            source, target = self._places(folder)
            self._write(volume, source)
            self._run(source, target, folder, progress)
            result = self._read(target)
        if not same_grid(result, volume):
            raise IPv2Error(
                f"{self.name} changed the geometry: it was given {_grid(volume)} and wrote {_grid(result)}; it must "
                "keep it"
            )
        if not np.isfinite(result.array).all():
            raise IPv2Error(f"{self.name} wrote values that are NaN or infinite")
        array = result.array.astype(volume.array.dtype)
        if slices is not None:
            kept = volume.array.copy()
            kept[list(slices)] = array[list(slices)]
            array = kept
        return volume.with_array(array)

    def _places(self, folder: Path) -> tuple[Path, Path]:
        source, target = folder / "in", folder / "out"
        target.mkdir()
        if self.exchange == "dicom":
            return source, target
        source.mkdir()
        return source / "scan.nrrd", target / "scan.nrrd"

    def _write(self, volume: Volume, source: Path) -> None:
        from ..io import files

        if self.exchange == "dicom":
            files.write(volume.with_array(np.rint(volume.array).astype(np.int16)), f"{source}/", description="IPv2")
        else:
            files.write(volume, source, compress=False)

    def _run(self, source: Path, target: Path, folder: Path, progress) -> None:
        is_file = self.exchange == "nrrd"
        values = (source, target, source.parent if is_file else source, target.parent if is_file else target)
        places = dict(zip(_PLACES, map(str, values), strict=True))
        words = [
            re.sub("|".join(map(re.escape, _PLACES)), lambda found: places[found[0]], word) for word in self._words
        ]
        with open(folder / "said", "w+b") as said:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
            waited = 0.0
            try:
                while True:
                    try:
                        code = process.wait(_POLL_SECONDS)
                        break
                    except subprocess.TimeoutExpired:
                        waited += _POLL_SECONDS
                        progress.check("denoising was cancelled")
                        if waited > self.timeout:
                            raise IPv2Error(
                                f"{self.name} was stopped after {self.timeout:g} s: allow more with --timeout"
                                f"{_words_of(said)}"
                            ) from None
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            if code:
                raise IPv2Error(f"{self.name} failed with exit code {code}{_words_of(said)}")
            if not (target.is_file() if is_file else any(target.iterdir())):
                raise IPv2Error(f"{self.name} ended well but wrote nothing to {{out}}{_words_of(said)}")

    def _read(self, target: Path) -> Volume:
        from ..io import files

        try:
            return files.read(target)
        except InputError as error:
            raise IPv2Error(f"what {self.name} wrote cannot be read: {error}") from error


def from_text(text: str, exchange: str, timeout: float) -> CommandDenoiser:
    """Of a command as it is given: NAME=PROGRAM, or PROGRAM, which gives it its name."""
    name, equals, command = text.partition("=")
    if not equals or not re.fullmatch(r"[\w.-]+", name):
        name, command = "", text
    words = command.split()
    return CommandDenoiser(name or (Path(words[0]).name if words else "program"), command, exchange, timeout)


def _grid(volume: Volume) -> str:
    shape = "×".join(map(str, volume.array.shape))
    return f"{shape} voxels of {' × '.join(f'{each:g}' for each in volume.spacing)} mm"


def _words_of(said) -> str:
    said.flush()
    said.seek(0)
    text = " ".join(said.read().decode(errors="replace").split())
    return f"; it said: {text[-_MOST_WORDS:]}" if text else "; it said nothing"
