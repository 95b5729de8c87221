"""What the commands share: options that several have, reading with the file's name in the error, tables of text."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..inference.options import DenoiseOptions
from ..io.formats import ENDINGS, NAMES
from ..parallel.options import GROUP, Workers
from . import arguments

if TYPE_CHECKING:
    from ..io.volume import Volume
    from ..models.bundle import Bundle
    from ..models.card import ModelCard
    from ..parallel.cluster import Scheduler
    from .console import Console

LOADING = "loading the library"
INPUT = f"an {NAMES} file, or a folder with one DICOM series; values in HU"
OUTPUT = f"a file ending in {ENDINGS}, or for a DICOM series a folder (NAME/)"


def add_prefer(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--prefer", choices=("sform", "qform"),
        help="which place to take where those of a NIfTI file contradict each other (default: such a file is refused)",
    )  # fmt: skip


@contextlib.contextmanager
def preferred(place: str | None) -> Iterator[None]:
    """Read NIfTI files as `add_prefer` let the user say, here and in processes that are started meanwhile."""
    from ..io.files import PREFER_VARIABLE

    before = os.environ.get(PREFER_VARIABLE)
    if place is not None:
        os.environ[PREFER_VARIABLE] = place
    try:
        yield
    finally:
        if place is not None:
            del os.environ[PREFER_VARIABLE]
            if before is not None:
                os.environ[PREFER_VARIABLE] = before


def add_compress(command: argparse.ArgumentParser) -> None:
    """Give a command the choice of `compress`."""
    arguments.add(command, DenoiseOptions, only=("compress",))


def compress(options: argparse.Namespace) -> bool:
    """Whether files are to be compressed."""
    return arguments.given(options, DenoiseOptions).get("compress", True)


def add_overwrite(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--overwrite", action="store_true", help="replace OUTPUT even if it is a file that is no earlier output"
    )


def add_runner(command: argparse.ArgumentParser) -> None:
    """Give a command the options of many cases, see `runner`."""
    add_certificates(command)
    arguments.add(command, Workers)


def add_certificates(command: argparse.ArgumentParser) -> None:
    """Give a command the heading of many cases, and the certificates of `with_certificates`."""
    group = command.add_argument_group(
        GROUP,
        "Processes of this machine talk through pipes that no other user can reach. A Dask cluster\n"
        "is as safe as it was made: without TLS, whoever reaches its scheduler can run programs as its user.",
    )
    group.add_argument("--tls-ca", type=Path, metavar="FILE", help="PEM: who signed the scheduler's certificate")
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="PEM: your certificate for the scheduler")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM: its key (default: in the file of --tls-cert)")


def has_certificates(options: argparse.Namespace) -> bool:
    """Whether any of `add_certificates` was given."""
    return any(each is not None for each in (options.tls_ca, options.tls_cert, options.tls_key))


def runner(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `cluster.run` that `add_runner` let the user give."""
    found = Workers(**arguments.given(options, Workers))
    return vars(found) | {"scheduler": with_certificates(options, found.scheduler)}


def with_certificates(options: argparse.Namespace, scheduler: str | None) -> str | Scheduler | None:
    """A scheduler's address, with the certificates of `add_runner` if there are some."""
    from ..parallel.cluster import Scheduler

    if not has_certificates(options):
        return scheduler
    if scheduler is None:
        raise InputError("certificates are those of a scheduler: name it with --scheduler tls://...")
    if options.tls_ca is None or options.tls_cert is None:
        raise InputError("a scheduler with TLS needs both --tls-ca and --tls-cert")
    return Scheduler(scheduler, options.tls_ca, options.tls_cert, options.tls_key)


def whole_number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 0 or more")
    return int(text)


def load_model(name_or_folder: str | None, device: str) -> Bundle:
    """The model that was asked for, else the default one of the device, see `torch_device.choose_device`."""
    from ..models import bundle

    return bundle.load(bundle.default_name(device) if name_or_folder is None else name_or_folder)


class Notes:
    """What a command says about its files, each sentence once: at once through the console, at the end in its result.

    Attributes
    ----------
    texts : list of str
        What was said, for the key `notes` of the result.
    """

    def __init__(self, console: Console):
        self._console = console
        self.texts: list[str] = []

    def say(self, path: Path, sentences: Iterable[str]) -> None:
        """Say sentences about a file."""
        for text in (f"{path}: {sentence}" for sentence in sentences):
            if text not in self.texts:
                self.texts.append(text)
                self._console.note(text)


def read(path: Path, notes: Notes | None, card: ModelCard | None = None) -> tuple[Volume, list[str]]:
    """Read a CT, and say what there is to know about it before anything is done with it.

    Parameters
    ----------
    path : Path
    notes : Notes or None
        None: what there is to know is only returned.
    card : ModelCard, optional
        Of the model that is to denoise it.

    Returns
    -------
    volume : Volume
    concerns : list of str

    Raises
    ------
    InputError
        It cannot be read, or is no CT. The library checks every volume again, but cannot name the file.
    """
    from ..analysis import suitability
    from ..io import files
    from ..io.volume import check_ct

    volume, noted = files.read_noted(path)
    try:
        check_ct(volume)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    concerns = [*noted, *(suitability.value_concerns(volume) if card is None else suitability.concerns(volume, card))]
    if notes:
        notes.say(path, concerns)
    return volume, concerns


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Text in columns: the first one to the left, the others, numbers, to the right."""
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join("  ".join([row[0].ljust(first), *map(str.rjust, row[1:], others)]).rstrip() for row in rows)
