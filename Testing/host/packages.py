"""Module `slicer.packaging`: looks up what is installed as Slicer does, and only notes what it would install."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from types import ModuleType

import slicer
import slicer.util
from packaging.requirements import Requirement

installed: list[str] = []
"""Requirements that would have been installed."""


def reset() -> None:
    """Forget what would have been installed."""
    installed.clear()


def _requirements(given) -> list[Requirement]:
    if isinstance(given, str):
        given = given.split()
    if isinstance(given, Requirement):
        given = [given]
    return [each if isinstance(each, Requirement) else Requirement(each) for each in given]


def load_requirements(path) -> list[Requirement]:
    """The requirements that a file lists, without comments and empty lines."""
    lines = (line.split("#")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def pip_check(req) -> bool:
    """Whether every requirement that applies here is installed; extras are not looked into."""
    for each in _requirements(req):
        if each.marker is not None and not each.marker.evaluate():
            continue
        try:
            if importlib.metadata.version(each.name) not in each.specifier:
                return False
        except importlib.metadata.PackageNotFoundError:
            return False
    return True


def pip_install(
    requirements,
    constraints=None,
    no_deps_requirements=None,
    skip_packages=None,
    blocking=True,
    show_progress=True,
    requester=None,
    logCallback=None,
    completedCallback=None,
):
    """Note what would be installed."""
    installed.extend(str(each) for each in _requirements(requirements))


def pip_ensure(
    requirements,
    constraints=None,
    skip_packages=None,
    prompt_install=True,
    prompt_restart=True,
    requester=None,
    skip_in_testing=True,
    show_progress=True,
):
    """Ask and install what is missing.

    Raises
    ------
    RuntimeError
        The user says no.
    """
    missing = [each for each in _requirements(requirements) if not pip_check(each)]
    if not missing or (skip_in_testing and slicer.app.testingEnabled()):
        return
    if prompt_install:
        title = f"{requester} - Install Python Packages" if requester else "Install Python Packages"
        text = f"{len(missing)} Python packages need to be installed.\n\nContinue?"
        if not slicer.util.confirmOkCancelDisplay(text, title, detailedText="\n".join(f"- {each}" for each in missing)):
            raise RuntimeError("User declined package installation")
    pip_install(missing)


def make_module() -> ModuleType:
    """Module `slicer.packaging`."""
    module = ModuleType("slicer.packaging", "Python packages.")
    for each in (load_requirements, pip_check, pip_install, pip_ensure):
        setattr(module, each.__name__, each)
    return module
