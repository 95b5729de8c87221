"""What the commands share: options that several have, reading with the file's name in the error, tables of text."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import InputError
from ..io import settings_file

if TYPE_CHECKING:
    from ..io.volume import Volume
    from ..models.bundle import Bundle
    from ..parallel.cluster import Scheduler
    from .console import Console

T = TypeVar("T")

LOADING = "loading PyTorch"
INPUT = "an NRRD, NIfTI or MetaImage file, or a folder with one DICOM series; values in HU"
OUTPUT = "a file ending in .nrrd, .nii, .nii.gz, .mha or .mhd, or for a DICOM series a folder (NAME/)"


def add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model",
        metavar="NAME|FOLDER",
        help="an installed model (see 'ipv2 models') or a model's folder (default: the one for the device)",
    )


def add_device(command: argparse.ArgumentParser, default: str | None = "auto") -> None:
    """Give the choice of a device; default None: that of a file of settings, or else of the library, which is auto."""
    command.add_argument(
        "--device", default=default, metavar="DEVICE",
        help="auto, cpu, cuda (or cuda:1, ...) or mps; auto takes the fastest there is (default: auto)",
    )  # fmt: skip


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


def add_no_compress(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--no-compress", action="store_false", dest="compress", help="larger files, written and read much faster"
    )


def add_overwrite(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--overwrite", action="store_true", help="replace OUTPUT even if it is a file that is no earlier output"
    )


def add_runner(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "many cases",
        "Processes of this machine talk through pipes that no other user can reach. A Dask cluster is as safe as it "
        "was made: without TLS, whoever reaches its scheduler can run programs as its user.",
    )
    group.add_argument("--workers", type=whole_number, metavar="N", help="processes of this machine (default: 1)")
    group.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="a Dask scheduler whose workers do it instead: tls://host:8786 with the certificates below; "
        "tcp://host:8786 only in a network where you trust everybody",
    )  # fmt: skip
    group.add_argument("--tls-ca", type=Path, metavar="FILE", help="PEM: who signed the scheduler's certificate")
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="PEM: your certificate for the scheduler")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM: its key (default: in the file of --tls-cert)")
    group.add_argument(
        "--retries", type=whole_number, metavar="K", help="try a case that failed so many times again (default: 1)"
    )


def runner(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `cluster.run` that `add_runner` let the user give."""
    return {
        "workers": 1 if options.workers is None else options.workers,
        "scheduler": with_certificates(options, options.scheduler),
        "retries": 1 if options.retries is None else options.retries,
    }


def add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--settings", type=Path, metavar="FILE",
        help="JSON object with settings by name; options given besides count more",
    )  # fmt: skip


def with_file(options: argparse.Namespace, defaults: T) -> T:
    """Settings with the values of the file of `add_settings`, if one was given."""
    return defaults if options.settings is None else settings_file.read(options.settings, defaults)


def given(options: argparse.Namespace, kind: type) -> dict[str, Any]:
    """The fields of a dataclass that options of the same names were given for."""
    values = {each.name: getattr(options, each.name, None) for each in fields(kind)}
    values = {name: value for name, value in values.items() if value is not None}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def with_certificates(options: argparse.Namespace, scheduler: str | None) -> str | Scheduler | None:
    """A scheduler's address, with the certificates of `add_runner` if there are some."""
    from ..parallel.cluster import Scheduler

    if options.tls_ca is None and options.tls_cert is None and options.tls_key is None:
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


def read(path: Path, notes: Notes | None, card: Mapping[str, Any] | None = None) -> tuple[Volume, list[str]]:
    """Read a CT, and say what there is to know about it before anything is done with it.

    Parameters
    ----------
    path : Path
    notes : Notes or None
        None: what there is to know is only returned.
    card : mapping, optional
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

    volume, told = files.read_noted(path)
    try:
        check_ct(volume)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    concerns = [*told, *(suitability.value_concerns(volume) if card is None else suitability.concerns(volume, card))]
    if notes:
        notes.say(path, concerns)
    return volume, concerns


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Text in columns: the first one to the left, the others, numbers, to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
