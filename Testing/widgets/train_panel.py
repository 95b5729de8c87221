"""The module IPv2 Train in the stand-in, with small synthetic patients: what its tests and pictures share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from IPv2Lib.datasets import cases, preparation
from IPv2Lib.io import files
from IPv2Lib.simulation import phantom
from IPv2Lib.training import loop
from IPv2Lib.training.settings import TrainingSettings

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = REPOSITORY / "IPv2Train" / "IPv2Train.py"
TINY = {"channels": [4, 8], "blocks": [1, 1]}
"""Arguments of the smallest network that is worth the name."""

DENOISE = REPOSITORY / "IPv2Denoise" / "IPv2Denoise.py"


def write_scans(folder: Path, patients: int = 4, *, size: int = 64, slices: int = 3, paired: Sequence[int] = (0,)):
    """Scans of synthetic patients as NRRD files.

    Returns
    -------
    list of IPv2Lib.datasets.cases.Case
        One a patient; those whose numbers are in `paired` have a uLDCT, for the others it is to be simulated.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(patients):
        pair = phantom.pair(seed=number, size=size, slices=slices)
        name = f"patient{number}"
        ndct = files.write(pair.ndct, folder / f"{name}-ndct.nrrd")
        uldct = files.write(pair.uldct, folder / f"{name}-uldct.nrrd") if number in paired else None
        found.append(cases.Case(name, ndct=ndct, uldct=uldct, patient=name, seed=number))
    return found


def prepare_dataset(folder: Path, patients: int = 4, **scans) -> Path:
    """A purified data set with half of the patients to train on; returns its folder.

    Parameters
    ----------
    folder : path
        Gets the folders `scans` and `dataset`.
    patients : int
    **scans
        As `write_scans`.
    """
    data = folder / "dataset"
    preparation.prepare(write_scans(folder / "scans", patients, **scans), data, fractions=(0.5, 0.25, 0.25), seed=0)
    return data


def train_briefly(dataset: Path, run: Path, steps: int = 4) -> Path:
    """A finished run of a tiny network; returns its folder."""
    settings = TrainingSettings(arguments=TINY, steps=steps, batch=1, patch=16, validate_every=2)
    return loop.train(dataset, run, settings, workers=0)


def open_panel(host, dataset: Path | None = None):
    """The module's widget, with a data set if there is one; IPv2 Denoise, on which it depends, is loaded as well."""
    host.load_module(DENOISE, select=False)
    widget = host.load_module(MODULE)
    if dataset is not None:
        choose_dataset(host, widget, dataset)
    return widget


def choose_dataset(host, widget, folder: Path) -> None:
    """Type the path of a folder."""
    widget.ui.datasetPathLineEdit.setCurrentPath(str(folder))
    host.wait_until(lambda: widget._parameterNode.dataset == str(folder))


def make_tiny(widget, steps: int = 4) -> None:
    """Set a tiny network and a short run in the panel's parameters."""
    parameters = widget._parameterNode
    parameters.networkArguments = json.dumps(TINY)
    parameters.length, parameters.patch, parameters.batch, parameters.validateEvery = float(steps), 16, 1, 5


def finish(host, jobs, timeout: float = 120.0) -> None:
    """Let events run until a job is over, and what follows from it is done."""
    host.wait_until(lambda: not jobs.runner.state.active, timeout)
    host.process_events(0.1)


def errors(host) -> list[str]:
    """What message boxes said of errors; they are forgotten."""
    found = [message.text for message in host.messages if message.kind == "error"]
    host.messages.clear()
    return found
