"""What the commands share: options that several have, reading with the file's name in the error, tables of text."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    from .bundle import Bundle
    from .cluster import Scheduler
    from .ct import Volume

LOADING = "loading PyTorch"
INPUT = "an NRRD, NIfTI or MetaImage file, or a folder with one DICOM series; values in HU"
OUTPUT = "a file ending in .nrrd, .nii, .nii.gz, .mha or .mhd, or a new folder's name for a DICOM series"


def add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model",
        metavar="NAME|FOLDER",
        help="an installed model (see 'ipv2 models') or a model's folder (default: the one for the device)",
    )


def add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--device", default="auto", metavar="DEVICE",
        help="auto, cpu, cuda (or cuda:1, ...) or mps; auto takes the fastest there is (default: %(default)s)",
    )  # fmt: skip


def add_no_compress(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--no-compress", action="store_false", dest="compress", help="larger files, written and read much faster"
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
        "scheduler": _scheduler(options),
        "retries": 1 if options.retries is None else options.retries,
    }


def _scheduler(options: argparse.Namespace) -> str | Scheduler | None:
    from .cluster import Scheduler

    if options.tls_ca is None and options.tls_cert is None and options.tls_key is None:
        return options.scheduler
    if options.scheduler is None:
        raise InputError("certificates are those of a scheduler: name it with --scheduler tls://...")
    if options.tls_ca is None or options.tls_cert is None:
        raise InputError("a scheduler with TLS needs both --tls-ca and --tls-cert")
    return Scheduler(options.scheduler, options.tls_ca, options.tls_cert, options.tls_key)


def whole_number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 0 or more")
    return int(text)


def load_model(name_or_folder: str | None, device: str) -> Bundle:
    """The model that was asked for, else the default one of the device, see `torch_device.choose_device`."""
    from . import bundle

    return bundle.load(bundle.default_name(device) if name_or_folder is None else name_or_folder)


def read(path: Path) -> Volume:
    """Read a CT. The library checks every volume again, but cannot name the file."""
    from . import ct

    volume = ct.read(path)
    try:
        ct.check_ct(volume)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return volume


def with_prefix(tell: Callable[[float, str], None], prefix: str) -> Callable[[float, str], None]:
    return lambda fraction, message: tell(fraction, prefix + message)


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
