"""Processes that a test has started, itself or through what it tests."""

import contextlib

import psutil


def children(word: str, pid: int | None = None) -> list[psutil.Process]:
    """Those below this process, or another, that have a word in their command line; not those that are ending."""
    found = []
    for each in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie, too
            if word in " ".join(each.cmdline()):
                found.append(each)
    return found
