"""The `ipv2` command: what its commands are, and how one is run.

Each file beside this one owns some of them: their options, the order of checking, reading and writing, and what is
said at the end. They hold no image arithmetic, and import the library inside the commands: `--help` needs no torch.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from .. import __version__, packages
from ..errors import InputError
from ..io import outputs
from . import (
    cache,
    comparison,
    convert,
    convert_frames,
    dataset,
    demonstrate,
    denoise,
    evaluate,
    models,
    node,
    phantom,
    physics,
    purify,
    simulate,
    training,
)
from .console import Console
from .options import (
    add_prefer,
    preferred,
)
from .streams import open_standard_streams
from .worker_protocol import BAD_INPUT, SUCCESS


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; by default those of this process.

    Returns
    -------
    int
        Exit code: 0; 2 after a one-line error about the input; 130 if stopped; 1 after the traceback of a bug.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    open_standard_streams()
    # Torch's threads then sleep, not spin, while they wait: several times faster on a machine with other work to do.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without σ still shows its number
    if not argv:
        _parser([]).print_help(sys.stderr)
        return BAD_INPUT
    console = Console(json_lines="--json" in argv)
    known = argv[0] in _COMMANDS

    def run() -> None:
        options = _parser(argv[:1]).parse_args(argv)
        if argv[0] in _NEED_PYTORCH:
            packages.need("torch", f"'ipv2 {argv[0]}'")
        with preferred(getattr(options, "prefer", None)), _unreadable_for_others(argv[0]):
            options.run(options, console)

    try:
        return console.run(f"ipv2 {argv[0]}" if known else "ipv2", run, finish_step=argv[0] in _FINISH_STEP)
    except SystemExit:  # --help and --version
        return SUCCESS


@contextlib.contextmanager
def _unreadable_for_others(command: str) -> Iterator[None]:
    """Let nobody but the user read what is written, as it is of patients; but for models, which are given away."""
    if command == "publish":
        yield
        return
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are the library's: one line, exit code 2, JSON where asked for."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def _parser(only: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """The parser of all commands, or one that knows the options of some `only`, which is imported faster."""
    parser = _Parser(
        prog="ipv2",
        description=f"Purify and denoise ultra-low-dose chest CT. {outputs.RESEARCH}",
        epilog="Begin with 'ipv2 demo'. 'ipv2 COMMAND --help' explains each command.",
    )
    parser.add_argument("--version", action="version", version=f"IPv2 {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for name, (summary, add_options, run) in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        command.set_defaults(run=run)
        if only is not None and name not in only:
            continue
        add_options(command)
        if name not in _READ_NO_CT:
            add_prefer(command)
        command.add_argument(
            "--json", action="store_true", help="write progress and result as one JSON object per line"
        )
    return parser


_READ_NO_CT = ("cache", "demo", "models", "devices", "node", "phantom")

_NEED_PYTORCH = ("train", "publish")
"""Commands that do nothing without it; others find out by themselves, see `inference.engines`."""

_FINISH_STEP = ("train", "ablation", "node")
"""Commands that finish the step that they are at when they are asked to stop, and keep what they have."""

_COMMANDS = {
    **demonstrate.COMMANDS,
    **denoise.COMMANDS,
    **purify.COMMANDS,
    **simulate.COMMANDS,
    **dataset.COMMANDS,
    **training.COMMANDS,
    **comparison.COMMANDS,
    **physics.COMMANDS,
    **convert.COMMANDS,
    **convert_frames.COMMANDS,
    **evaluate.COMMANDS,
    **node.COMMANDS,
    **models.COMMANDS,
    **cache.COMMANDS,
    **phantom.COMMANDS,
}
"""Name: one line of help, function that adds the options, function that runs the command."""
