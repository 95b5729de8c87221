"""What the worker process is asked to do, as tasks of `IPv2Lib.jobs`: no Qt, and no nodes."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from IPv2Lib.cases import Case, write_table
from IPv2Lib.jobs import Task
from IPv2Lib.training_run import RunState, read_run
from IPv2Lib.training_settings import TrainingSettings


def prepareTask(
    title: str,
    cases: Sequence[Case],
    dataset: Path,
    finish: Callable[[list[dict[str, Any]]], None],
    *,
    fractions: Sequence[float],
    seed: int,
    splitProjections: bool,
    workers: int,
) -> Task:
    """Make or complete a purified data set; `finish` gets what `ipv2 prepare` says of each case."""

    def prepare(folder: Path) -> list[str | Path]:
        write_table(cases, folder / "cases.csv")
        options = ["--split-projections"] if splitProjections else []
        return [
            "prepare", "--table", folder / "cases.csv", "--out", dataset,
            "--split", *(str(100 * fraction) for fraction in fractions), "--seed", str(seed),
            "--workers", str(workers), *options,
        ]  # fmt: skip

    return Task(title, prepare, lambda folder, result: result["cases"], finish)


def trainTask(
    title: str,
    dataset: Path | None,
    run: Path,
    settings: TrainingSettings | None,
    finish: Callable[[RunState], None],
) -> Task:
    """Train; `finish` gets the run as it is afterwards: completed, or paused or stopped by request.

    Parameters
    ----------
    dataset, settings
        Of a new run; None: go on with the one that is there.
    """

    def prepare(folder: Path) -> list[str | Path]:
        if settings is None:
            return ["train", "--out", run, "--resume"]
        return ["train", dataset, "--out", run, *trainingOptions(settings)]

    return Task(title, prepare, lambda folder, result: read_run(run), finish, lambda folder, reason: read_run(run))


def trainingOptions(settings: TrainingSettings) -> list[str]:
    """The options of `ipv2 train` that mean these settings.

    Examples
    --------
    >>> trainingOptions(TrainingSettings(steps=20))[:6]
    ['--strategy', 'ipv2', '--network', 'unet', '--loss', 'relative']
    """
    options = ["--strategy", settings.strategy, "--network", settings.network, "--loss", settings.loss]
    options += ["--pairs", settings.pairs, "--batch", str(settings.batch), "--patch", str(settings.patch)]
    options += ["--lr", str(settings.learning_rate), "--seed", str(settings.seed), "--device", settings.device]
    options += ["--precision", settings.precision, "--validate-every", str(settings.validate_every)]
    length = next(name for name in ("minutes", "epochs", "steps") if getattr(settings, name) is not None)
    options += [f"--{length}", str(getattr(settings, length))]
    if settings.pairs == "drawn":
        for name in ("dose", "sharpness"):
            options += [f"--{name}", *map(str, getattr(settings.ranges, name))]
    if settings.blend is not None:
        options += ["--blend", str(settings.blend)]
    if settings.start_from is not None:
        options += ["--start-from", settings.start_from]
    for name, value in settings.arguments.items():
        options += ["--argument", f"{name}={json.dumps(value)}"]
    if settings.compile:
        options.append("--compile")
    return options


def compareTask(
    title: str,
    dataset: Path,
    methods: Sequence[str],
    output: Path,
    finish: Callable[[Path], None],
    *,
    split: str,
    slicesPerCase: int | None,
    features: Path | None,
    device: str,
) -> Task:
    """Score models on a part of a data set; `finish` gets the folder with the tables."""

    def prepare(folder: Path) -> list[str | Path]:
        options: list[str | Path] = ["--split", split, "--device", device]
        if slicesPerCase is not None:
            options += ["--slices", str(slicesPerCase)]
        if features is not None:
            options += ["--features", features]
        return ["compare", dataset, "--out", output, *options, "--models", *methods]

    return Task(title, prepare, lambda folder, result: output, finish)


def ablationTask(
    title: str,
    dataset: Path,
    output: Path,
    finish: Callable[[Path], None],
    *,
    settings: TrainingSettings,
    seeds: int,
    slicesPerCase: int | None,
) -> Task:
    """Train and compare the four rows of the ablation; `finish` gets the folder with runs and tables."""

    def prepare(folder: Path) -> list[str | Path]:
        options = ["--seeds", str(seeds), "--steps", str(settings.steps), "--network", settings.network]
        options += ["--batch", str(settings.batch), "--patch", str(settings.patch), "--lr", str(settings.learning_rate)]
        options += ["--device", settings.device]
        if slicesPerCase is not None:
            options += ["--slices", str(slicesPerCase)]
        return ["ablation", dataset, "--out", output, *options]

    return Task(title, prepare, lambda folder, result: output, finish)


def publishTask(
    title: str, run: Path, model: Path, card: Mapping[str, Any], finish: Callable[[dict[str, Any]], None]
) -> Task:
    """Pack the best weights of a run into a folder; `finish` gets what `ipv2 publish` says of the model.

    Whether a model there may be replaced has been asked before.
    """

    def prepare(folder: Path) -> list[str | Path]:
        (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
        return ["publish", run, "--out", model, "--card", folder / "card.json", "--overwrite"]

    return Task(title, prepare, lambda folder, result: result, finish)
