"""Python packages that the library needs beyond Slicer's own: asked for and installed on first use.

Denoising on the CPU and purification need no PyTorch. Where it is needed it comes through the PyTorch extension only,
which finds the build that fits the computer. Nothing here runs when Slicer starts or the module opens.
"""

import contextlib
import importlib
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import IPv2Lib
import slicer
from IPv2Lib.errors import Cancelled, InputError
from slicer.i18n import tr as _

TORCH = "torch>=2.2"
REQUIREMENTS, TRAINING_REQUIREMENTS = "requirements.txt", "requirements-train.txt"

_NO_NETWORK = (
    "connection broken by", "Failed to establish a new connection", "Max retries exceeded", "getaddrinfo failed",
    "name resolution", "ProxyError", "Cannot connect to proxy", "ReadTimeoutError", "Read timed out",
)  # fmt: skip
"""What pip prints where it gets no answer, long before its last line, which says "No matching distribution found"."""


def ensurePackages(requester: str) -> None:
    """Install what denoising on the CPU and purification lack, with a question first.

    Parameters
    ----------
    requester : str
        Who asks: the module's name.

    Raises
    ------
    InputError
        The installation failed; PyTorch is missing and its extension is, too, which is said before anything is asked
        or installed; or Slicer runs tests, which must not install anything.
    Cancelled
        The user declined.
    """
    _ensure(requester, *_packages())


def ensurePackagesAndTorch(requester: str) -> None:
    """The same for a GPU, and for a model that runs on PyTorch only."""
    _ensure(requester, *_packagesAndTorch())


def ensureTrainingPackages(requester: str) -> None:
    """The same for IPv2 Train, which needs more."""
    _ensure(requester, *_trainingPackages())


def missingPackages() -> list[str]:
    """What `ensurePackages` would install."""
    return _missing(*_packages())


def missingTrainingPackages() -> list[str]:
    """What `ensureTrainingPackages` would install."""
    return _missing(*_trainingPackages())


def requirementsPath(name: str) -> Path:
    """A list of packages: in the library where it is packaged, at the root of a checkout otherwise."""
    library = Path(IPv2Lib.__file__).resolve().parent
    places = [library / "Resources", library.parents[1] / "Resources"]
    return next(place / name for place in places if (place / name).exists())


def _packages() -> list[list[str]]:
    """Requirements in the order in which they are installed, group by group."""
    return [_listed(requirementsPath(REQUIREMENTS))]


def _packagesAndTorch() -> list[list[str]]:
    return [*_packages(), [TORCH]]


def _trainingPackages() -> list[list[str]]:
    # After torch: pip would fetch a torch by itself for them.
    return [*_packagesAndTorch(), _listed(requirementsPath(TRAINING_REQUIREMENTS))]


def _listed(path: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def _missing(*groups: list[str]) -> list[str]:
    """The requirements that this Python does not satisfy."""
    importlib.invalidate_caches()  # pip is another process
    return [each for group in groups for each in group if not _isThere(each)]


def _isThere(text: str) -> bool:
    from packaging.requirements import Requirement
    from packaging.version import InvalidVersion

    requirement = Requirement(text)
    if requirement.marker and not requirement.marker.evaluate():
        return True
    try:
        version = importlib.metadata.version(requirement.name) or ""  # None: a broken installation
        return requirement.specifier.contains(version, prereleases=True)
    except (importlib.metadata.PackageNotFoundError, InvalidVersion):
        return False


def _ensure(requester: str, *groups: list[str]) -> None:
    missing = _missing(*groups)
    if not missing:
        return
    names = ", ".join(missing)
    if slicer.app.testingEnabled():
        raise InputError(
            _("the Python packages {names} are missing: install them before the tests run").format(names=names)
        )
    torchLogic = _torchLogic() if TORCH in missing else None
    _ask(names, TORCH in missing, requester)
    for group in groups:
        if lacking := _missing(group):
            with _failureSaid(", ".join(lacking)):
                if lacking == [TORCH]:
                    torchLogic.installTorch(torchVersionRequirement=TORCH.removeprefix("torch"))
                else:
                    _pipInstall(lacking, requester)
    if missing := _missing(*groups):
        raise InputError(
            _("the Python packages {names} are still missing after their installation: restart Slicer").format(
                names=", ".join(missing)
            )
        )


def _torchLogic():
    try:
        import PyTorchUtils
    except ModuleNotFoundError as error:
        raise InputError(
            _("PyTorch is missing: install the extension PyTorch in Slicer's Extensions Manager and restart Slicer")
        ) from error
    return PyTorchUtils.PyTorchUtilsLogic()


def _ask(names: str, withTorch: bool, requester: str) -> None:
    question = _("These Python packages have to be installed first: {names}. Install them now?").format(names=names)
    if withTorch:
        question += " " + _("PyTorch may take several GB.")
    if not slicer.util.confirmOkCancelDisplay(question, windowTitle=requester):
        raise Cancelled("the installation of packages was declined")


def _pipInstall(requirements: list[str], requester: str) -> None:
    try:
        from slicer import packaging
    except ImportError:  # before Slicer 5.12
        with slicer.util.WaitCursor():
            slicer.util.pip_install(requirements)
    else:
        packaging.pip_ensure(requirements, prompt_install=False, requester=requester)


@contextlib.contextmanager
def _failureSaid(names: str) -> Iterator[None]:
    """Turn what goes wrong in an installation into one line; Slicer's own error names no more than an exit code."""
    printed = _Printed(sys.stdout)
    try:
        with contextlib.redirect_stdout(printed):
            yield
    except Exception as error:
        if any(words in printed.text for words in _NO_NETWORK):
            reason = _("no answer from the network; check the connection, a proxy, a firewall, and try again")
        else:
            reason = _("{error}; the Python console has more").format(error=_lastWords(printed.text) or error)
        raise InputError(
            _("the Python packages {names} could not be installed: {reason}").format(names=names, reason=reason)
        ) from error


class _Printed:
    """A stream that passes on what is printed, and keeps the end of it."""

    KEPT = 20_000

    def __init__(self, stream):
        self._stream = stream
        self.text = ""

    def write(self, text: str) -> int:
        self.text = (self.text + text)[-self.KEPT :]
        self._stream.write(text)
        return len(text)

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


def _lastWords(text: str) -> str:
    """The last error that pip has printed; advice about newer versions of pip comes after it."""
    errors = [line.strip() for line in text.splitlines() if line.lstrip().startswith("ERROR:")]
    return errors[-1].removeprefix("ERROR:").strip() if errors else ""
