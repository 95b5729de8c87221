"""Packages that only some of the work needs, PyTorch above all: whether they are there, and how to get them.

The script `ipv2` of a checkout makes an environment without them, and names itself in `SCRIPT_VARIABLE`; there they are
installed at the moment when they are first needed. Elsewhere an error says what to install.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import subprocess
import warnings

from .errors import InputError, InputNote

SCRIPT_VARIABLE = "IPV2_SCRIPT"

_EXTRAS = {
    "matplotlib": "pictures", "torch": "torch", "distributed": "train", "torchmetrics": "train", "pynetdicom": "node",
    "tomli": "node",
}  # fmt: skip
"""Of pyproject.toml, by the package that is imported."""


class MissingPackage(InputError):
    """A package is not installed, and could not be."""


def is_here(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def need(package: str, purpose: str) -> None:
    """Go on only with a package; one that `ipv2` can install, it installs, with a note.

    Parameters
    ----------
    package : str
        As it is imported.
    purpose : str
        What needs it, for people: the start of a sentence.

    Raises
    ------
    MissingPackage
        It is not there, or could not be installed.
    """
    if is_here(package):
        return
    name = {"torch": "PyTorch"}.get(package, package)
    if (script := os.environ.get(SCRIPT_VARIABLE)) and package in _EXTRAS:
        # Small by themselves; the others need each other.
        what = [_EXTRAS[package]] if _EXTRAS[package] in ("pictures", "node") else []
        size = "" if what else ", with all that other commands need (about 1 GB, a few minutes)"
        warnings.warn(f"{purpose} needs {name}: it is installed now, once{size}", InputNote, stacklevel=2)
        _install([script, "install", *what], name)
        importlib.invalidate_caches()
        if is_here(package):
            return
    source = f'"IPv2Lib[{_EXTRAS[package]}]"' if package in _EXTRAS else package
    raise MissingPackage(f"{purpose} needs {name}, which is not installed: pip install {source}")


def _install(command: list[str], name: str) -> None:
    """Let `ipv2` install; it lets one process at a time do that, and finds at once what another has done."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        errors="replace",
    )  # fmt: skip
    try:
        said = process.communicate()[1].splitlines()
    except BaseException:
        _stop(process)
        raise
    if process.returncode:
        reason = next((line for line in reversed(said) if line.startswith("ERROR:")), "")
        last = said[-1].removeprefix("ipv2: ") if said else f"exit code {process.returncode}"
        raise MissingPackage(f"{name} could not be installed: {reason.removeprefix('ERROR: ')} ({last})")


def _stop(process: subprocess.Popen) -> None:
    """Stop the script, which then removes what is not finished, and what it waits for."""
    import psutil

    process.terminate()
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
    process.wait()
