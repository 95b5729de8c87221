"""stdout and stderr: a reader that has seen enough, a closed stream or a terminal that was hung up stop no work."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from ..errors import reason


def open_standard_streams() -> None:
    """Open what this process was started without, to nowhere: or else the next file that is opened takes its place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115


def write(stream: TextIO, text: str) -> str:
    """Write to a stream, all of it now; why that failed, unless nobody wants to read it."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:  # the reader, `head` for instance, has seen enough
        silence(stream)
    except (OSError, ValueError) as error:
        return reason(error)
    return ""


def silence(stream: TextIO) -> None:
    """Let what is written to a stream, and what waits in it, go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def on_terminal() -> Iterator[None]:
    """Around what draws on stderr: a terminal that was hung up is none any more."""
    try:
        yield
    except (OSError, ValueError):
        silence(sys.stderr)


def is_terminal() -> bool:
    """Whether somebody looks at stderr on a terminal."""
    with contextlib.suppress(ValueError):
        return sys.stderr.isatty()
    return False
