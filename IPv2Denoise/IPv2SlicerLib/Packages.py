"""Python packages that the library needs beyond Slicer's own: asked for and installed on first use.

PyTorch comes through the PyTorch extension only, which finds the build that fits the computer. Nothing here runs
when Slicer starts or the module opens.
"""

import importlib.metadata
import importlib.util
from pathlib import Path

import IPv2Lib
import slicer
from IPv2Lib.errors import Cancelled, InputError
from slicer.i18n import tr as _

TORCH_VERSION = ">=2.2"
REQUIREMENTS, TRAINING_REQUIREMENTS = "requirements.txt", "requirements-train.txt"


def ensurePackages(requester: str) -> None:
    """Install what denoising and purification lack, with a question first.

    Parameters
    ----------
    requester : str
        Who asks: the module's name.

    Raises
    ------
    InputError
        Packages are missing and the PyTorch extension is, or the installation failed, or Slicer runs tests, which
        must not install anything.
    Cancelled
        The user declined.
    """
    _refuseInTests(missingPackages())
    _ensureRequirements(requirementsPath(REQUIREMENTS), requester)
    if importlib.util.find_spec("torch") is None:
        _installTorch()


def ensureTrainingPackages(requester: str) -> None:
    """The same for IPv2 Train, which needs more; that comes after torch, since pip would fetch a torch by itself."""
    _refuseInTests(missingTrainingPackages())
    ensurePackages(requester)
    _ensureRequirements(requirementsPath(TRAINING_REQUIREMENTS), requester)


def missingPackages() -> list[str]:
    """What `ensurePackages` would install."""
    torch = [] if importlib.util.find_spec("torch") else ["torch"]
    return missingRequirements(requirementsPath(REQUIREMENTS)) + torch


def missingTrainingPackages() -> list[str]:
    """What `ensureTrainingPackages` would install."""
    return missingPackages() + missingRequirements(requirementsPath(TRAINING_REQUIREMENTS))


def requirementsPath(name: str) -> Path:
    """A list of packages: in the library where it is packaged, at the root of a checkout otherwise."""
    library = Path(IPv2Lib.__file__).resolve().parent
    places = [library / "Resources", library.parents[1] / "Resources"]
    return next(place / name for place in places if (place / name).exists())


def _refuseInTests(missing: list[str]) -> None:
    if missing and slicer.app.testingEnabled():
        raise InputError(
            _("the Python packages {names} are missing: install them before the tests run").format(
                names=", ".join(missing)
            )
        )


def _ensureRequirements(path: Path, requester: str) -> None:
    if not missingRequirements(path):
        return
    try:
        from slicer import packaging
    except ImportError:  # before Slicer 5.12
        packaging = None
    try:
        if packaging:
            packaging.pip_ensure(packaging.load_requirements(path), requester=requester)
        else:
            _askAndInstall(missingRequirements(path), requester)
    except Cancelled:
        raise
    except RuntimeError as error:  # pip_ensure's word for "declined"
        raise Cancelled(str(error)) from error
    except Exception as error:
        raise InputError(
            _("the Python packages {names} could not be installed ({error}): check the network connection").format(
                names=", ".join(missingRequirements(path)), error=error
            )
        ) from error


def _askAndInstall(missing: list[str], requester: str) -> None:
    question = _("These Python packages have to be installed first: {names}. Install them now?")
    if not slicer.util.confirmOkCancelDisplay(question.format(names=", ".join(missing)), windowTitle=requester):
        raise Cancelled("the installation of packages was declined")
    with slicer.util.WaitCursor():
        slicer.util.pip_install(missing)


def missingRequirements(path: Path) -> list[str]:
    """The lines of a requirements file that this Python does not satisfy."""
    from packaging.requirements import Requirement

    missing = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        requirement = Requirement(text)
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(text)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            missing.append(text)
    return missing


def _installTorch() -> None:
    try:
        import PyTorchUtils
    except ModuleNotFoundError as error:
        raise InputError(
            _("PyTorch is missing: install the extension PyTorch in Slicer's Extensions Manager and restart Slicer")
        ) from error
    try:
        torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(
            askConfirmation=True, torchVersionRequirement=TORCH_VERSION
        )
    except Exception as error:
        raise InputError(
            _("PyTorch could not be installed ({error}): try it in the module PyTorch Utils").format(error=error)
        ) from error
    if torch is None:
        raise Cancelled("the installation of PyTorch was declined")
