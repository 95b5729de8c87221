"""The training runs in a folder: found, read when they have changed, and put into words."""

import html
from pathlib import Path

from IPv2Lib.datasets.shards import is_dataset
from IPv2Lib.errors import InputError
from IPv2Lib.io.outputs import file_name
from IPv2Lib.networks import registry
from IPv2Lib.training.run_folder import (
    COMPLETED,
    FAILED,
    PAUSED,
    RUNNING,
    STOPPED,
    RunState,
    is_run,
    read_run,
    trained_on,
)
from IPv2SlicerLib.widgets.Messages import about, duration, sentence
from slicer.i18n import tr as _

RUNS_FOLDER = "runs"
"""In the folder of a data set."""

_WATCHED = ("status.json", "log.csv", "validation.csv", "best.safetensors")


class Runs:
    """Reads runs, and each of them again only when its files have changed or it is being trained."""

    def __init__(self):
        self._read: dict[Path, tuple[tuple, RunState]] = {}

    def inFolder(self, folder: Path | None) -> list[RunState]:
        """Every run in a folder, by name."""
        if folder is None or not folder.is_dir():
            return []
        found = [self.read(each) for each in sorted(folder.iterdir()) if each.is_dir() and is_run(each)]
        return [run for run in found if run is not None]

    def read(self, folder: Path) -> RunState | None:
        """A run as it is now; None where there is none, or not yet."""
        stamp = tuple(_stamp(folder / name) for name in _WATCHED)
        if folder in self._read:
            earlier, run = self._read[folder]
            if earlier == stamp and run.state != RUNNING:
                return run
        try:
            run = read_run(folder)
        except InputError:
            return None
        self._read[folder] = stamp, run
        return run


def whyNoDataset(path: str) -> str:
    """Why there is no data set to train on; empty if there is one."""
    if not path:
        return _("no data set is chosen: choose its folder in section 1")
    if not is_dataset(path):
        return _("the folder of section 1 holds no data set yet: purify the cases first")
    return ""


def proposedName(folder: Path | None, stem: str) -> str:
    """A name that nothing in a folder has yet, not even in other capitals: the stem with a number."""
    taken = {name.casefold() for name in _names(folder)}
    number = 1
    while f"{stem}-{number}".casefold() in taken:
        number += 1
    return f"{stem}-{number}"


def checkedName(name: str, what: str, folder: Path | None = None) -> str:
    """The name of a folder that every system takes.

    Parameters
    ----------
    name : str
    what : str
        What it is to name, for people.
    folder : Path, optional
        Where it is to be.

    Raises
    ------
    IPv2Lib.errors.InputError
        It is none, or differs in capitals only from one that is there: Windows and macOS take both for the same.
    """
    name = name.strip()
    if not name or file_name(name) != name:
        hint = f"call it {file_name(name)!r}" if name else "use letters, digits, - and _"
        raise InputError(f"{what} cannot be called {name!r}, which some systems refuse: {hint}")
    twin = next((each for each in _names(folder) if each.casefold() == name.casefold() and each != name), None)
    if twin is not None:
        raise InputError(f"there is {twin!r} already, which some systems take for {name!r}: choose another name")
    return name


def _names(folder: Path | None) -> list[str]:
    return [each.name for each in folder.iterdir()] if folder and folder.is_dir() else []


def stateText(state: str) -> str:
    """The state of a run in a word or two."""
    return {
        RUNNING: _("training"),
        PAUSED: _("paused"),
        STOPPED: _("stopped"),
        COMPLETED: _("completed"),
        FAILED: _("failed"),
    }.get(state, state)


def stepText(run: RunState) -> str:
    """How far a run is, e.g. "step 120 of 2,000"."""
    if run.steps is None:
        return _("step {step}").format(step=f"{run.step:,}")
    return _("step {step} of {steps}").format(step=f"{run.step:,}", steps=f"{run.steps:,}")


def shortText(run: RunState) -> str:
    """A run in a line of a list."""
    parts = [f"{run.folder.name}: {stateText(run.state)}", stepText(run)]
    if run.best_rmse_hu is not None:
        parts.append(f"{run.best_rmse_hu:.1f} HU")
    return ", ".join(parts)


def longText(run: RunState) -> str:
    """A run in a few sentences."""
    parts = [stepText(run)]
    if run.loss is not None:
        parts.append(_("loss {loss}").format(loss=f"{run.loss:.4g}"))
    if run.best_rmse_hu is not None:
        parts.append(
            _("best validation {rmse} HU (step {step})").format(
                rmse=f"{run.best_rmse_hu:.1f}", step=f"{run.best_step or 0:,}"
            )
        )
    text = f"{run.folder.name}: {stateText(run.state)}. {sentence(', '.join(parts))}"
    return f"{text} {sentence(run.message)}".strip()


def progressText(run: RunState) -> str:
    """Percentage and remaining time, e.g. "42 %, about 12 min left"."""
    percentage = _("{percentage} %").format(percentage=int(100 * run.fraction))
    if run.seconds_left is None:
        return percentage
    return _("{percentage}, {time} left").format(percentage=percentage, time=about(run.seconds_left))


def factsHtml(run: RunState) -> str:
    """What the card of a model says of the run that it comes from."""
    settings = run.settings
    try:
        network = registry.summary(settings.get("network", ""))
        title = f"{network.title} ({network.reference})"
    except InputError:
        title = str(settings.get("network"))
    rows = [
        (_("Network"), title),
        (_("Trained on"), trained_on(run.data)),
        (_("Strategy"), settings.get("strategy")),
        (_("Loss"), settings.get("loss")),
        (_("Seed"), settings.get("seed")),
        (_("State"), f"{stateText(run.state)}, {stepText(run)}"),
    ]
    if run.best_step is not None:
        rows.append((_("Weights"), _("of step {step}").format(step=f"{run.best_step:,}")))
    if run.best_rmse_hu is not None:
        rows.append((_("Validation"), f"{run.best_rmse_hu:.1f} HU"))
    if len(run.log.get("seconds", ())):
        rows.append((_("Time"), duration(float(run.log["seconds"][-1]))))
    return "".join(f"<p><b>{html.escape(name)}:</b> {html.escape(str(value))}</p>" for name, value in rows)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
