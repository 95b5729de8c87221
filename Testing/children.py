"""Processes that a test has started, itself or through what it tests."""

import contextlib
import json
import platform
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import psutil
from IPv2Lib.io.locks import Owner, lock_files


def children(word: str, pid: int | None = None) -> list[psutil.Process]:
    """Those below this process, or another, that have a word in their command line; not those that are ending."""
    found = []
    for each in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie, too
            if word in " ".join(each.cmdline()):
                found.append(each)
    return found


def killed_owner(folder: Path, command: str) -> Owner:
    """Who was killed while it worked on a folder, which still has its file."""
    owner = Owner(command, platform.node(), 2**22 + 1, 1.0, "yesterday")
    lock_files(folder)[0].write_text(json.dumps(asdict(owner)))
    return owner


def as_another_command(call: Callable[[], object]) -> None:
    """Call something as another process would, whatever the caller is doing for whom."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
