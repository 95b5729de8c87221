"""Module `slicer.packaging`: looks up what is installed as Slicer does, and only notes what it would install.

`importlib.metadata` finds what was noted, and does not find what is said to be absent. Where pip is to fail, it prints
what it is told to print, and raises what it raises in Slicer.
"""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path
from subprocess import CalledProcessError
from types import ModuleType

import slicer
import slicer.util
from packaging.requirements import Requirement

installed: list[str] = []
"""Requirements that would have been installed."""

absent: set[str] = set()
"""Names of packages that are not there until they are installed, whatever this Python has."""

failure: list[str] = []
"""What pip prints before it fails; empty: it succeeds."""

_found = functools.cache(importlib.metadata.version)


def reset() -> None:
    """Forget what would have been installed, what is absent, and that pip fails."""
    for each in (installed, absent, failure):
        each.clear()


def version(name: str) -> str:
    """In place of `importlib.metadata.version`."""
    for each in map(Requirement, installed):
        if each.name == name:
            return max((specifier.version for specifier in each.specifier), default="1.0")
    if name in absent:
        raise importlib.metadata.PackageNotFoundError(name)
    return _found(name)


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
    parent=None,
    logCallback=None,
    completedCallback=None,
):
    """Note what would be installed; with a dialog, a failure is shown in a box before it is raised.

    Raises
    ------
    subprocess.CalledProcessError
        `failure` says so. It knows the exit code and nothing of what pip has printed.
    """
    _run_pip(requirements, "pip install", lambda: _show_failure(requester) if show_progress else None)


def pip_install_of_5_10(requirements):
    """`slicer.util.pip_install` before there was `slicer.packaging`: prints, and has no dialog."""
    _run_pip(requirements, ["PythonSlicer", "-m", "pip", "install"], lambda: None)


def _run_pip(requirements, command, on_failure) -> None:
    if failure:
        print("\n".join(failure))
        on_failure()
        raise CalledProcessError(1, command)
    installed.extend(str(each) for each in _requirements(requirements))


def _show_failure(requester) -> None:
    title = f"{requester} - Installation Failed" if requester else "Installation Failed"
    slicer.util.errorDisplay("Package installation failed.", windowTitle=title, detailedText="\n".join(failure))


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
    subprocess.CalledProcessError
        As `pip_install`.
    """
    missing = [each for each in _requirements(requirements) if not pip_check(each)]
    if not missing or (skip_in_testing and slicer.app.testingEnabled()):
        return
    if prompt_install:
        title = f"{requester} - Install Python Packages" if requester else "Install Python Packages"
        text = f"{len(missing)} Python packages need to be installed.\n\nContinue?"
        if not slicer.util.confirmOkCancelDisplay(text, title, detailedText="\n".join(f"- {each}" for each in missing)):
            raise RuntimeError("User declined package installation")
    pip_install(missing, show_progress=show_progress, requester=requester)


class PyTorchUtilsLogic:
    """Of the PyTorch extension: asks and installs with `slicer.util.pip_install`."""

    def installTorch(
        self,
        askConfirmation=False,
        forceComputationBackend=None,
        torchVersionRequirement=None,
        torchvisionVersionRequirement=None,
    ):
        """Install torch and return it; None where the user says no."""
        if askConfirmation and not slicer.util.confirmOkCancelDisplay("PyTorch will be downloaded.", "PyTorch"):
            return None
        slicer.util.pip_install([f"torch{torchVersionRequirement or ''}"])
        return ModuleType("torch")


def make_module() -> ModuleType:
    """Module `slicer.packaging`."""
    module = ModuleType("slicer.packaging", "Python packages.")
    for each in (load_requirements, pip_check, pip_install, pip_ensure):
        setattr(module, each.__name__, each)
    return module


def make_torch_module() -> ModuleType:
    """Module `PyTorchUtils` of the PyTorch extension."""
    module = ModuleType("PyTorchUtils", "PyTorch.")
    module.PyTorchUtilsLogic = PyTorchUtilsLogic
    return module
