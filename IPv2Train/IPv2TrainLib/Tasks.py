"""What the worker process is asked to do, as tasks of `IPv2SlicerLib.jobs.job_runner`: no Qt, and no nodes.

A task hands its settings on as one file, in which every field is.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from IPv2Lib.datasets.cases import Case, write_table
from IPv2Lib.datasets.settings import PreparationSettings
from IPv2Lib.evaluation.physics.settings import PhysicsSettings
from IPv2Lib.evaluation.settings import AblationSettings, ComparisonSettings
from IPv2Lib.io import settings_file
from IPv2Lib.training.run_folder import RunState, read_run
from IPv2Lib.training.settings import TrainingSettings
from IPv2SlicerLib.jobs.job_runner import Task


def prepareTask(title: str, cases: Sequence[Case], dataset: Path, settings: PreparationSettings) -> Task:
    """Make or complete a purified data set; gives what `ipv2 prepare` says of each case."""

    def prepare(folder: Path) -> list[str | Path]:
        write_table(cases, folder / "cases.csv")
        return ["prepare", "--table", "cases.csv", "--out", dataset, *_settings(settings, folder)]

    return Task(title, prepare, lambda folder, result: result["cases"])


def trainTask(title: str, dataset: Path | None, run: Path, settings: TrainingSettings | None) -> Task:
    """Train; gives the run as it is afterwards: completed, or paused or stopped by request.

    Parameters
    ----------
    dataset, settings
        Of a new run; None: go on with the one that is there.
    """

    def prepare(folder: Path) -> list[str | Path]:
        if settings is None:
            return ["train", "--out", run, "--resume"]
        return ["train", dataset, "--out", run, *_settings(settings, folder)]

    def collect(folder: Path, said: Any) -> RunState:
        return read_run(run)

    return Task(title, prepare, collect, collect_stopped=collect)


def compareTask(
    title: str,
    dataset: Path,
    methods: Sequence[str],
    output: Path,
    settings: ComparisonSettings,
    finish: Callable[[Path], Any],
) -> Task:
    """Score models on a part of a data set; `finish` gets the folder with the tables."""

    def prepare(folder: Path) -> list[str | Path]:
        return ["compare", dataset, "--out", output, *_settings(settings, folder), "--models", *methods]

    return Task(title, prepare, lambda folder, result: output, finish)


def ablationTask(
    title: str, dataset: Path, output: Path, settings: AblationSettings, finish: Callable[[Path], Any]
) -> Task:
    """Train and compare the rows of the ablation; `finish` gets the folder with runs and tables."""
    return Task(
        title,
        lambda folder: ["ablation", dataset, "--out", output, *_settings(settings, folder)],
        lambda folder, result: output,
        finish,
    )


def physicsTask(
    title: str, methods: Sequence[str], output: Path, settings: PhysicsSettings, finish: Callable[[Path], Any]
) -> Task:
    """Measure image physics; `finish` gets the folder with report and tables."""
    return Task(
        title,
        lambda folder: ["physics", *methods, "--out", output, *_settings(settings, folder)],
        lambda folder, result: output,
        finish,
    )


def publishTask(
    title: str,
    run: Path,
    model: Path,
    card: Mapping[str, Any],
    *,
    overwrite: bool,
) -> Task:
    """Pack the best weights of a run into a folder; gives what `ipv2 publish` says of the model."""

    def prepare(folder: Path) -> list[str | Path]:
        (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
        replace = ["--overwrite"] if overwrite else []
        return ["publish", run, "--out", model, "--card", "card.json", *replace]

    return Task(title, prepare, lambda folder, result: result)


def _settings(settings: Any, folder: Path) -> list[str]:
    """The option with all settings, in a file in the folder of the job."""
    settings_file.write(settings, folder / "settings.json")
    return ["--settings", "settings.json"]
